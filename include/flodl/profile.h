/* Where the time of a graph's forward goes: node by node, level by level, and over the epochs.
 *
 *     FDL_CHECK(fdl_graph_enable_profiling(model));
 *     fdl_forward(model, x);
 *     char *table = fdl_profile_text(fdl_graph_last_profile(model));
 *     FDL_CHECK(fdl_graph_svg_profile(model, "heat.svg"));
 *
 * Off at first, and then without cost. A profiled forward of a graph on a GPU waits for it once, at its end. A graph inside
 * another one is profiled where it was enabled for it; its node in the outer one has its whole time in any case. While a
 * CUDA graph is being captured nothing is measured, and replays run no node. */
#ifndef FLODL_PROFILE_H
#define FLODL_PROFILE_H

#include "flodl/draw.h"
#include "flodl/trend.h"

FDL_BEGIN_DECLS

/* ---- one forward --------------------------------------------------------------------------------------- */

/* Measures each forward of g from now on; again: nothing changes. FDL_E_OOM. */
FDL_API fdl_status fdl_graph_enable_profiling(fdl_module *g);
/* No more, and forgets the last profile; histories of times stay. */
FDL_API fdl_status fdl_graph_disable_profiling(fdl_module *g);
/* False on failure, too. */
FDL_API bool fdl_graph_profiling(fdl_module *g);

typedef struct fdl_profile_node {
    const char *id;
    int tags;
    const char *const *tag; /* [tags], the first declared first */
    int level;
    double
        seconds; /* on the device: between the events before and behind it on the stream; else host_seconds */
    double host_seconds; /* of the call: on a GPU that is what issuing the work takes */
} fdl_profile_node;

typedef struct fdl_profile_level {
    int level, nodes;
    double seconds;     /* from the start of its first node to the end of its last */
    double sum;         /* of its nodes' seconds */
    double parallelism; /* sum / seconds; 1 for a single node, or no time */
} fdl_profile_level;

typedef struct fdl_profile {
    double seconds, host_seconds; /* of the whole forward */
    bool on_device;               /* some of the times are a GPU's */
    int nodes;
    const fdl_profile_node *node; /* [nodes], in order of execution */
    int levels;
    const fdl_profile_level *level; /* [levels] */
} fdl_profile;

/* The last forward of g that succeeded while profiling was on; borrowed, until the next one. None: NULL, without an error. */
FDL_API const fdl_profile *fdl_graph_last_profile(fdl_module *g);
/* A table of it, level by level. Text, owned (free). */
FDL_API char *fdl_profile_text(const fdl_profile *p);
/* Seconds of the node with that tag in the last profile; 0 for an unknown tag, or without a profile. */
FDL_API double fdl_graph_timing(fdl_module *g, const char *tag);

/* ---- as a picture -------------------------------------------------------------------------------------- */

/* fdl_graph_dot and fdl_graph_svg with the last profile: each node has its time, and its colour says how long that is beside
 * the longest; levels have their times, and the title the whole. Without a profile the plain drawing. The same as .profile
 * of fdl_graph_dot and fdl_graph_svg. */
FDL_API char *fdl_graph_dot_profile(fdl_module *g);
FDL_API fdl_status fdl_graph_svg_profile(fdl_module *g, const char *file);
/* That colour, "#27ae60" (green) for r = 0, "#f39c12" (amber) for 0.5, "#e74c3c" (red) for 1, linear between them; r outside is
 * taken as the nearest. Writes to buf of n bytes (8 hold it), cut to fit, and returns buf. */
FDL_API char *fdl_profile_color(double r, char *buf, size_t n);

/* ---- over the epochs ----------------------------------------------------------------------------------- */

/* Times of tagged nodes, as fdl_graph_collect and fdl_graph_flush make epochs of numbers: collect adds those of the last
 * profile (no names: of all tagged nodes, under their first tags; named ones that took no time at all are left out), flush
 * makes their means the next points, in seconds. Names are those of tags and groups; another: FDL_E_ARG. Profiling off:
 * FDL_E_STATE. Not of the graphs inside. fdl_graph_end_step collects and fdl_graph_end_epoch flushes while profiling is on. */
FDL_API fdl_status fdl_graph_collect_timings_of(fdl_module *g, int n, const char *const *names);
FDL_API fdl_status fdl_graph_flush_timings_of(fdl_module *g, int n, const char *const *names);
/* The history of a node's times; borrowed, valid as long as the graph. A name that is new here: a trend without points. */
FDL_API const fdl_trend *fdl_graph_timing_trend(fdl_module *g, const char *tag);
/* `fdl_graph_timing_trends(g, "hidden", "heads")`: several, of those that were collected (no names: all); scope. */
FDL_API const fdl_trends *fdl_graph_timing_trends_of(fdl_module *g, int n, const char *const *names);
/* Forgets their points (no names: all). */
FDL_API fdl_status fdl_graph_reset_timing_trend_of(fdl_module *g, int n, const char *const *names);

/* fdl_graph_plot_html of these histories, and fdl_graph_export_csv: `fdl_graph_plot_timings_html(g, "times.html", "hidden")`.
 * In seconds. Nothing to write: FDL_E_STATE; FDL_E_IO. */
FDL_API fdl_status fdl_graph_plot_timings_html_of(fdl_module *g, const char *file, int n,
                                                  const char *const *names);
FDL_API fdl_status fdl_graph_export_timings_csv_of(fdl_module *g, const char *path, int n,
                                                   const char *const *names);

FDL_END_DECLS

#ifndef __cplusplus
#define FDL_PROFILE_NAMES_(f, ...) FDL_PROFILE_LIST_(FDL_CAT(fdl_names_, __COUNTER__), f, __VA_ARGS__)
#define FDL_PROFILE_LIST_(v, f, g, ...)               \
    __extension__({                                   \
        const char *const v[] = {NULL, __VA_ARGS__};  \
        f(g, (int)(sizeof v / sizeof *v) - 1, v + 1); \
    })
#define fdl_graph_plot_timings_html(g, ...) FDL_DRAW_NAMES_(fdl_graph_plot_timings_html_of, g, __VA_ARGS__, )
#define fdl_graph_export_timings_csv(g, ...) \
    FDL_DRAW_NAMES_(fdl_graph_export_timings_csv_of, g, __VA_ARGS__, )
#define fdl_graph_collect_timings(...) FDL_PROFILE_NAMES_(fdl_graph_collect_timings_of, __VA_ARGS__, )
#define fdl_graph_flush_timings(...) FDL_PROFILE_NAMES_(fdl_graph_flush_timings_of, __VA_ARGS__, )
#define fdl_graph_timing_trends(...) FDL_PROFILE_NAMES_(fdl_graph_timing_trends_of, __VA_ARGS__, )
#define fdl_graph_reset_timing_trend(...) FDL_PROFILE_NAMES_(fdl_graph_reset_timing_trend_of, __VA_ARGS__, )
#endif

#endif
