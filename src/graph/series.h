/* Rows of numbers by name: what was recorded since the last flush, and a point for each flush. The store behind the
 * metrics of a graph, which knows no graph itself.
 *
 * Numbers that are on a device stay there until somebody wants them: what waits is copied into tensors of the
 * store's own, and series_read brings all of it to the host, one transfer a device. */
#ifndef FLODL_GRAPH_SERIES_H
#define FLODL_GRAPH_SERIES_H

#include "flodl/observe.h"
#include "graph_private.h"

struct fdl_trend {
    int64_t n, room; /* room 0: the points are somebody else's */
    double *at;
};

/* Room for one point more. */
fdl_status trend_reserve(fdl_trend *t);

/* What a histogram gathers between two flushes. */
typedef struct histogram_sum histogram_sum;

typedef struct series {
    char *name;
    bool recorded; /* it has a place in the order of recording */

    /* Points, and the round of flushes that each belongs to, from 1. */
    fdl_trend history;
    int64_t *round;
    int64_t round_room;

    /* Since the last flush. */
    int64_t n, room;
    double *value, *weight;

    histogram_sum *sum; /* NULL: none */
    int histograms, histogram_room;
    fdl_histogram **histogram; /* one for each flush that had one */
} series;

/* A number that waits on a device, and where it goes. */
typedef struct awaited_value {
    series *s;
    int64_t at;
} awaited_value;

typedef struct waiting {
    fdl_device device;
    int n, room;
    awaited_value *to; /* in the order of the parts */
    int parts, part_room, loose;
    fdl_tensor **part; /* kept, float64 [k]; the last `loose` of them are [1] */
} waiting;

/* When a round of flushes ended. */
typedef struct series_stamp {
    double seconds; /* since the graph began */
    double utc;     /* since 1970 */
} series_stamp;

typedef struct series_store {
    name_map names;
    int n, room;
    series **at; /* in order of appearance */
    int ordered, order_room;
    series **order; /* in the order in which they were first recorded */
    int devices, device_room;
    waiting *waiting;
    fdl_tensor *limits[2]; /* of histograms, on the device where the last one was made: float32, float64 */

    int64_t flushes; /* that produced something */
    int64_t rounds;  /* a flush begins one unless its names all lack a point of the one before */
    int64_t stamp_room;
    series_stamp *stamp; /* [rounds] */
    double base;         /* when the first round began: 0, or the end of those that were forgotten */
    double elapsed;      /* at the last flush */
} series_store;

void series_store_free(series_store *st);
/* NULL: there is none of that name. */
series *series_find(const series_store *st, const char *name);
/* ... or a new one. NULL: the error is set. */
series *series_get(series_store *st, const char *name);
/* NULL, or what is wrong with the name of a metric. */
const char *series_name_fault(const char *name);

/* Adds n numbers; weight: of each. */
fdl_status series_add(series_store *st, series *s, int64_t n, const double *values, double weight);
/* Room for n more, on that device: as many series_add_tensor can't fail. */
fdl_status series_reserve(series_store *st, series *s, int64_t n, fdl_device device);
/* Adds what is in a float64 [1], which is kept and becomes the store's. */
void series_add_tensor(series_store *st, series *s, fdl_tensor *kept, double weight);
/* Adds the elements of x to the histogram of s. */
fdl_status series_add_histogram(series_store *st, series *s, fdl_tensor *x);
/* Brings what waits to the host, of n stores at once. On failure everything waits as before. */
fdl_status series_read(int n, series_store *const *stores);

/* Makes a point of each of the n series (NULL: of all) that has numbers; those must be on the host. On failure
 * nothing has happened. */
fdl_status series_flush(series_store *st, int n, series *const *which, series_stamp now);
/* Forgets the points of s; store_forgot afterwards. */
void series_forget(series *s);
void series_store_forgot(series_store *st);
/* The point of s in a round. False: it has none. */
bool series_point(const series *s, int64_t round, double *value);
/* The histogram of s in a round; NULL: none. */
const fdl_histogram *series_histogram(const series *s, int64_t round);

/* ---- histograms (histogram.c) -------------------------------------------------------------------------- */

void histogram_sum_free(histogram_sum *sum);
/* Adds x's elements to *sum, which is made where there is none. limits: as in the store. */
fdl_status histogram_sum_add(histogram_sum **sum, fdl_tensor *limits[2], fdl_tensor *x);
/* What is on the device, float64 [k]; NULL: nothing. *device: where. */
fdl_tensor *histogram_sum_waiting(const histogram_sum *sum, fdl_device *device);
/* ... has come to the host. */
fdl_status histogram_sum_reserve(histogram_sum *sum);
void histogram_sum_arrived(histogram_sum *sum, const double *values);
/* A histogram (malloc'ed in one piece) of what is on the host. */
fdl_histogram *histogram_of(const histogram_sum *sum, int64_t epoch);

#endif
