/* Loaders that stream: the same batches as from resident data, whatever threads do; early ends, failures, blocked and ended
 * threads; depth; collate functions; random numbers. */
#include "check.h"

#include "../../src/data/rules.h"
#include "samples.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { UNDER_SANITIZER = 1 };
#else
enum { UNDER_SANITIZER = 0 };
#endif

static fdl_dataset *items(int64_t n, fdl_data_item_fn item, void *ctx)
{
    return fdl_data_fn(n, 2, item, ctx);
}

/* Position 0 of sample i is [i, i + 1, i + 2], position 1 (int64) is 10 i; some take longer than others. */
static fdl_status slow_pair(void *ctx, int64_t i, fdl_tensor **out, int n)
{
    (void)ctx;
    (void)n;
    uint64_t z = fdl_rng_mix((uint64_t)i, 1, 2);
    if (z % 4 == 0)
        usleep((useconds_t)(z % 997));
    out[0] = fdl_arange((double)i, (double)i + 3, 1);
    out[1] = fdl_scalar(10.0 * (double)i, .dtype = FDL_INT64);
    return out[0] && out[1] ? FDL_OK : fdl_error_pending();
}

static fdl_status pair(void *ctx, int64_t i, fdl_tensor **out, int n)
{
    if (ctx)
        atomic_fetch_add((atomic_int *)ctx, 1);
    out[0] = fdl_full(FDL_SHAPE(3), (double)i);
    out[1] = fdl_scalar(10.0 * (double)i, .dtype = FDL_INT64);
    return n == 2 ? FDL_OK : FDL_E_ARG;
}

/* ---- the same batches ---------------------------------------------------------------------------------- */

static int64_t nine(void *self)
{
    (void)self;
    return 9;
}
static fdl_status odd_order(void *self, int64_t epoch, int64_t *out)
{
    (void)self;
    for (int64_t i = 0; i < 9; i++)
        out[i] = (7 * i + epoch) % 5;
    return FDL_OK;
}

static fdl_status negated(void *ctx, int64_t i, fdl_tensor **sample, int n)
{
    (void)ctx;
    (void)i;
    (void)n;
    sample[0] = fdl_neg(sample[0]);
    return FDL_OK;
}

/* Datasets of every make, with one reference. */
static fdl_dataset *kind(int k)
{
    FDL_SCOPE;
    int64_t idx[40];
    fdl_dataset *ds = items(103, slow_pair, NULL), *a = NULL, *b = NULL;
    switch (k) {
    case 0:
        return ds;
    case 1:
        for (int i = 0; i < 40; i++)
            idx[i] = (i * 31) % 103;
        return fdl_data_subset(ds, idx, 40);
    case 2:
        check_ok(fdl_data_split(ds, 0.3, 1, &a, &b));
        return fdl_data_concat(b, fdl_data_repeat(a, 60));
    case 3:
        return fdl_data_map(ds, negated, NULL);
    case 4:
        return fdl_data_div(ds, 1, 4);
    }
    fdl_data_free(ds);
    if (k == 7)
        return fdl_data_windows(fdl_arange(0, 60, 1), 6, .stride = 1);
    fdl_tensor *bytes = fdl_to_dtype(fdl_reshape(fdl_arange(0, 120, 1), FDL_SHAPE(20, 6)), FDL_UINT8);
    if (k == 5)
        return fdl_data_div(fdl_data_tensors(FDL_LIST(bytes, fdl_arange(0, 20, 1))), 0, 255);
    return fdl_data_tensors(FDL_LIST(fdl_transpose(fdl_reshape(bytes, FDL_SHAPE(6, 20)), 0, 1),
                                     fdl_zeros(FDL_SHAPE(20, 0)),
                                     fdl_ones(FDL_SHAPE(20), .dtype = FDL_BOOL)));
}

static void same_as_resident(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    for (int k = 0; k < 8; k++) {
        fdl_dataset *ds = kind(k);
        check_some(ds);
        for (int w = -1; w < 4; w++) { /* -1: without threads; the last: as many as there are by default */
            static const int workers[] = {1, 2, 4, 0};
            bool keep = w % 2, ordered = w == 2;
            fdl_loader *a = fdl_data_loader(fdl_data_ref(ds), 8, .keep_last = keep, .in_order = ordered,
                                            .mode = FDL_DATA_RESIDENT, .seed = FDL_SOME(w));
            fdl_loader *b = fdl_data_loader(fdl_data_ref(ds), 8, .keep_last = keep, .in_order = ordered,
                                            .mode = FDL_DATA_STREAM, .seed = FDL_SOME(w),
                                            .workers = w < 0 ? 0 : workers[w],
                                            .prefetch = w < 0    ? FDL_PREFETCH_NONE
                                                        : w == 2 ? 5
                                                                 : 0);
            check_some(a);
            check_some(b);
            assert_int_equal(fdl_data_loader_mode(a), FDL_DATA_RESIDENT);
            assert_int_equal(fdl_data_loader_mode(b), FDL_DATA_STREAM);
            assert_int_equal(fdl_data_loader_sample_bytes(a), fdl_data_loader_sample_bytes(b));
            for (int e = 0; e < 3; e++)
                assert_int_equal(same_epoch(a, b, e), fdl_data_loader_batches(a));
            fdl_data_loader_free(a);
            fdl_data_loader_free(b);
        }
        fdl_sampler_vtab odd = {.len = nine, .order = odd_order};
        fdl_loader *a = fdl_data_loader(fdl_data_ref(ds), 4, .keep_last = true, .mode = FDL_DATA_RESIDENT,
                                        .sampler = fdl_data_sampler_new(&odd, NULL));
        fdl_loader *b = fdl_data_loader(ds, 4, .keep_last = true, .mode = FDL_DATA_STREAM, .workers = 3,
                                        .sampler = fdl_data_sampler_new(&odd, NULL));
        check_some(a);
        check_some(b);
        for (int e = 0; e < 3; e++)
            assert_int_equal(same_epoch(a, b, e), 3);
        fdl_data_loader_free(a);
        fdl_data_loader_free(b);
    }
    assert_int_equal(fdl_live_tensors(), before);
}

/* What it checks of a batch of `pair`s. */
static void check_pairs(fdl_batch *b)
{
    double x[64 * 3], y[64];
    int64_t rows = fdl_data_rows(b);
    check_ok(fdl_to_f64(fdl_data_at(b, 0), x, 3 * rows));
    check_ok(fdl_to_f64(fdl_data_at(b, 1), y, rows));
    for (int64_t i = 0; i < rows; i++)
        for (int j = 0; j < 3; j++)
            assert_true(x[3 * i + j] == (double)fdl_data_indices(b)[i] && y[i] == 10 * x[3 * i + j]);
}

static int entries(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    for (; d && readdir(d); n++)
        ;
    if (d)
        closedir(d);
    return n;
}

static long resident_pages(void)
{
    long size = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &size, &pages), 2);
    fclose(f);
    return pages;
}

static void ten_thousand_batches(void **state)
{
    (void)state;
    fdl_loader *dl = fdl_data_loader(items(4000, pair, NULL), 4, .mode = FDL_DATA_STREAM, .workers = 2);
    check_some(dl);
    int64_t n = 0, live = -1;
    int threads = 0, files = 0;
    long pages = 0;
    int epochs = UNDER_SANITIZER ? 2 : 10;
    for (int e = 0; e < epochs; e++) {
        FDL_BATCHES(b, dl, e)
        {
            check_pairs(b);
            n++;
        }
        check_ok(fdl_data_status(dl));
        if (e == 0) {
            threads = entries("/proc/self/task");
            files = entries("/proc/self/fd");
            pages = resident_pages();
            live = fdl_live_tensors();
        }
        assert_int_equal(entries("/proc/self/task"), threads);
        assert_int_equal(entries("/proc/self/fd"), files);
        assert_int_equal(fdl_live_tensors(), live);
        if (!UNDER_SANITIZER)
            assert_true(resident_pages() - pages < 1024); /* 4 MiB */
    }
    assert_int_equal(n, 1000 * epochs);
    fdl_data_stats stats;
    check_ok(fdl_data_loader_stats(dl, &stats));
    assert_int_equal(stats.batches, n);
    assert_int_equal(stats.bytes, n * 4 * 20);
    assert_true(stats.workers == 2 && stats.depth == 2 && stats.pinned == 0 && stats.fallbacks == 0);
    assert_true(stats.waited >= 0);
    fdl_data_loader_free(dl);
}

/* ---- early ends ------------------------------------------------------------------------------------------ */

static void leaving(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    for (int workers = 1; workers < 5; workers += 3) {
        fdl_loader *a = fdl_data_loader(items(50, slow_pair, NULL), 5, .mode = FDL_DATA_RESIDENT);
        fdl_loader *b = fdl_data_loader(items(50, slow_pair, NULL), 5, .mode = FDL_DATA_STREAM,
                                        .workers = workers, .prefetch = 3);
        check_some(a);
        check_some(b);
        for (int stop = 0; stop < 11; stop++) {
            int n = 0;
            FDL_BATCHES(x, b, stop)
            {
                if (n++ == stop)
                    break;
            }
            check_ok(fdl_data_status(b));
            assert_int_equal(same_epoch(a, b, 20 + stop), 10);
        }
        /* another epoch while one is open; one that is never asked for anything */
        FDL_SCOPE;
        fdl_iter *old = fdl_data_epoch(b, 0);
        check_some(fdl_data_next(old));
        assert_int_equal(same_epoch(a, b, 1), 10);
        assert_null(fdl_data_next(old));
        assert_int_equal(fdl_data_left(old), 0);
        fdl_data_epoch_end(old);
        fdl_data_epoch_end(fdl_data_epoch(b, 3));
        assert_int_equal(same_epoch(a, b, 1), 10);
        fdl_data_loader_free(a);
        fdl_data_loader_free(b);
    }
    assert_int_equal(fdl_live_tensors(), before);
}

static void freeing(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    for (int taken = -1; taken < 4; taken++) {
        FDL_SCOPE;
        fdl_loader *dl = fdl_data_loader(items(400, slow_pair, NULL), 5, .mode = FDL_DATA_STREAM,
                                         .workers = 3, .prefetch = 4);
        check_some(dl);
        fdl_iter *it = taken < 0 ? NULL : fdl_data_epoch(dl, 0);
        for (int i = 0; i < taken; i++)
            check_some(fdl_data_next(it));
        fdl_data_loader_free(dl);
        if (it)
            assert_null(fdl_data_next(it));
        fdl_data_epoch_end(it);
    }
    assert_int_equal(fdl_live_tensors(), before);
}

static void skipping(void **state)
{
    (void)state;
    for (int skip = 0; skip < 6; skip++) {
        FDL_SCOPE;
        atomic_int calls = 0;
        fdl_loader *dl = fdl_data_loader(items(20, pair, &calls), 4, .mode = FDL_DATA_STREAM);
        check_some(dl);
        calls = 0;
        fdl_iter *it = fdl_data_epoch(dl, 2, .skip = skip);
        check_some(it);
        int n = skip;
        for (fdl_batch *b; (b = fdl_data_next(it)); n++)
            check_pairs(b);
        assert_int_equal(n, 5);
        assert_int_equal(calls, 20 - 4 * skip); /* the others were not fetched */
        fdl_data_epoch_end(it);
        fdl_data_loader_free(dl);
    }
}

/* ---- failures -------------------------------------------------------------------------------------------- */

/* What goes wrong at which sample. */
enum mishap { ERROR, SILENT_ERROR, NO_TENSOR, OTHER_SHAPE, END_OF_THREAD };
struct trap {
    enum mishap mishap;
    atomic_llong at; /* -1: nowhere */
};

static fdl_status trapped(void *ctx, int64_t i, fdl_tensor **out, int n)
{
    struct trap *t = ctx;
    if (i != t->at)
        return pair(NULL, i, out, n);
    switch (t->mishap) {
    case ERROR:
        return fdl_fail(FDL_E_NET, "no line");
    case SILENT_ERROR:
        return FDL_E_NET;
    case NO_TENSOR:
        return FDL_OK;
    case OTHER_SHAPE:
        out[0] = fdl_ones(FDL_SHAPE(4));
        out[1] = fdl_scalar(1, .dtype = FDL_INT64);
        return FDL_OK;
    case END_OF_THREAD:
        fdl_zeros(FDL_SHAPE(3));
        pthread_exit(NULL);
    }
    return FDL_OK;
}

static const struct {
    fdl_status status;
    const char *text;
} mishaps[] = {{FDL_E_NET, "no line"},
               {FDL_E_NET, "FDL_E_NET"},
               {FDL_E_STATE, "NULL"},
               {FDL_E_SHAPE, "float32[4]"},
               {FDL_E_STATE, "worker stopped"}};

static void failing(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    for (int m = ERROR; m <= END_OF_THREAD; m++)
        for (int workers = 0; workers < 4; workers++) { /* 0: without threads */
            if (m == END_OF_THREAD && workers == 0)
                continue; /* it would be this one */
            struct trap t = {.mishap = (enum mishap)m, .at = -1};
            fdl_loader *dl =
                fdl_data_loader(items(50, trapped, &t), 5, .mode = FDL_DATA_STREAM, .in_order = true,
                                .workers = workers, .prefetch = workers ? 3 : FDL_PREFETCH_NONE);
            check_some(dl);
            for (int round = 0; round < 3; round++) {
                t.at = 32; /* in batch 6 */
                int n = 0;
                FDL_BATCHES(b, dl, round)
                {
                    check_pairs(b);
                    n++;
                }
                assert_int_equal(n, 6);
                assert_int_equal(fdl_data_status(dl), mishaps[m].status);
                check_error(mishaps[m].status, "batch 6", "sample 32", mishaps[m].text);
                t.at = -1;
                n = 0;
                FDL_BATCHES(b, dl, round)
                {
                    check_pairs(b);
                    n++;
                }
                check_ok(fdl_data_status(dl));
                assert_int_equal(n, 10);
            }
            fdl_data_loader_free(dl);
        }
    assert_int_equal(fdl_live_tensors(), before);
}

static int64_t fifty(void *self)
{
    (void)self;
    return 50;
}
static atomic_int inside, most_inside;
static fdl_status one_at_a_time(void *ctx, int64_t i, fdl_tensor **out, int n)
{
    int now = atomic_fetch_add(&inside, 1) + 1;
    if (now > most_inside)
        most_inside = now;
    usleep(200);
    atomic_fetch_sub(&inside, 1);
    return trapped(ctx, i, out, n);
}

static void serial(void **state)
{
    (void)state;
    struct trap t = {.mishap = END_OF_THREAD, .at = -1};
    inside = most_inside = 0;
    fdl_data_vtab v = {.len = fifty, .item = one_at_a_time, .arity = 2, .flags = FDL_DATA_SERIAL};
    fdl_loader *dl =
        fdl_data_loader(fdl_data_new(&v, &t), 5, .mode = FDL_DATA_STREAM, .workers = 4, .in_order = true);
    check_some(dl);
    for (int e = 0; e < 3; e++) {
        t.at = e == 1 ? 7 : -1; /* a thread that ends leaves the others their turn */
        int n = 0;
        FDL_BATCHES(b, dl, e)
        {
            check_pairs(b);
            n++;
        }
        assert_int_equal(n, e == 1 ? 1 : 10);
        if (e == 1)
            check_error(FDL_E_STATE, "worker stopped", "sample 7");
        else
            check_ok(fdl_data_status(dl));
    }
    assert_int_equal(most_inside, 1);
    fdl_data_loader_free(dl);
}

static atomic_bool shut;
static fdl_status blocked(void *ctx, int64_t i, fdl_tensor **out, int n)
{
    while (i == *(int64_t *)ctx && shut)
        usleep(1000);
    return pair(NULL, i, out, n);
}

static void *opens_later(void *unused)
{
    usleep(300000);
    shut = false;
    return unused;
}

static void timing_out(void **state)
{
    (void)state;
    int64_t at = 12, before = fdl_live_tensors();
    for (int last = 0; last < 2; last++) {
        fdl_loader *dl = fdl_data_loader(items(50, blocked, &at), 5, .mode = FDL_DATA_STREAM,
                                         .in_order = true, .workers = 2, .timeout = 0.5);
        check_some(dl);
        shut = true;
        for (int round = 0; round < 2; round++) { /* the second while a worker is still in the first */
            int n = 0;
            double start = fdl_now();
            FDL_BATCHES(b, dl, round)
            {
                check_pairs(b);
                n++;
                start = fdl_now();
            }
            double waited = fdl_now() - start;
            assert_int_equal(n, 2);
            assert_int_equal(fdl_data_status(dl), FDL_E_TIMEOUT);
            check_error(FDL_E_TIMEOUT, "batch 2", "sample 12", "worker");
            assert_true(waited >= 0.49 && (waited < 1.5 || UNDER_SANITIZER));
        }
        if (last) { /* freed while its threads are blocked */
            pthread_t opener;
            assert_int_equal(pthread_create(&opener, NULL, opens_later, NULL), 0);
            fdl_data_loader_free(dl);
            assert_false(shut);
            assert_int_equal(pthread_join(opener, NULL), 0);
            continue;
        }
        shut = false;
        int n = 0;
        FDL_BATCHES(b, dl, 5)
        n++;
        check_ok(fdl_data_status(dl));
        assert_int_equal(n, 10);
        fdl_data_loader_free(dl);
    }
    assert_int_equal(fdl_live_tensors(), before);
}

/* ---- how far ahead ----------------------------------------------------------------------------------------- */

static void far_ahead(void **state)
{
    (void)state;
    for (int workers = 1; workers < 4; workers++) {
        atomic_int calls = 0;
        fdl_loader *dl = fdl_data_loader(items(100, pair, &calls), 1, .mode = FDL_DATA_STREAM,
                                         .workers = workers, .prefetch = 5);
        check_some(dl);
        assert_int_equal(calls, 1); /* for its size */
        FDL_SCOPE;
        fdl_iter *it = fdl_data_epoch(dl, 0);
        for (int taken = 0; taken < 3; taken++) {
            for (int i = 0; i < 200 && calls < 1 + taken + 5 + workers; i++)
                usleep(5000);
            usleep(20000);
            assert_int_equal(calls, 1 + taken + 5 + workers); /* 5 ready, and one in each worker's hands */
            fdl_data_stats stats;
            check_ok(fdl_data_loader_stats(dl, &stats));
            assert_int_equal(stats.bytes, (taken + 5) * fdl_data_loader_sample_bytes(dl));
            check_some(fdl_data_next(it));
        }
        fdl_data_epoch_end(it);
        fdl_data_loader_free(dl);
    }
}

static void depths(void **state)
{
    (void)state;
    fdl_loader *dl = fdl_data_loader(items(100, pair, NULL), 2, .mode = FDL_DATA_STREAM, .workers = 1);
    check_some(dl);
    assert_int_equal(fdl_data_loader_depth(dl), 2);
    check_ok(fdl_data_set_depth(dl, 42));
    assert_int_equal(fdl_data_loader_depth(dl), 2); /* until the next epoch */
    FDL_BATCHES(b, dl, 0)
    check_pairs(b);
    assert_int_equal(fdl_data_loader_depth(dl), 42);
    check_ok(fdl_data_set_depth(dl, 1000));
    FDL_BATCHES(b, dl, 0)
    check_pairs(b);
    assert_int_equal(fdl_data_loader_depth(dl), 50); /* an epoch */
    assert_int_equal(fdl_data_resize(dl), 2);
    check_ok(fdl_data_note_peak(dl)); /* nothing to note on the CPU */
    FDL_BATCHES(b, dl, 1)
    check_pairs(b);
    assert_int_equal(fdl_data_loader_depth(dl), 2);
    fdl_data_stats stats;
    check_ok(fdl_data_loader_stats(dl, &stats));
    assert_int_equal(stats.workers, 1);
    check_ok(fdl_data_set_depth(dl, 0));
    int n = 0;
    FDL_BATCHES(b, dl, 2)
    {
        check_pairs(b);
        n++;
    }
    assert_true(n == 50 && fdl_data_loader_depth(dl) == 0);
    assert_int_equal(fdl_data_set_depth(dl, -1), FDL_E_ARG);
    check_error(FDL_E_ARG, "d is -1");
    fdl_data_loader_free(dl);

    dl = fdl_data_loader(items(2000, pair, NULL), 1, .mode = FDL_DATA_STREAM, .prefetch = 600);
    check_some(dl);
    assert_int_equal(fdl_data_loader_depth(dl), 512);
    fdl_data_loader_free(dl);
    dl = fdl_data_loader(items(2000, pair, NULL), 1, .mode = FDL_DATA_STREAM, .prefetch = FDL_PREFETCH_NONE);
    check_some(dl);
    assert_int_equal(fdl_data_loader_depth(dl), 0);
    fdl_data_loader_free(dl);
    dl = fdl_data_loader(ten_rows(), 2);
    check_some(dl);
    check_ok(fdl_data_set_depth(dl, 5));
    check_ok(fdl_data_note_peak(dl));
    FDL_BATCHES(b, dl, 0)
    assert_int_equal(fdl_data_rows(b), 2);
    assert_true(fdl_data_loader_depth(dl) == 0 && fdl_data_resize(dl) == 0);
    check_ok(fdl_data_loader_stats(dl, &stats));
    assert_true(stats.batches == 5 && stats.depth == 0 && stats.workers == 0 && stats.waited == 0);
    fdl_data_loader_free(dl);

    assert_true(fdl_data_loader_depth(NULL) == -1 && fdl_data_resize(NULL) == -1);
    check_error(FDL_E_NULL, "dl");
    assert_int_equal(fdl_data_loader_mode(NULL), FDL_DATA_AUTO);
    check_error(FDL_E_NULL, "dl");
    assert_int_equal(fdl_data_set_depth(NULL, 1), FDL_E_NULL);
    check_error(FDL_E_NULL, "dl");
    assert_int_equal(fdl_data_note_peak(NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "dl");
    assert_int_equal(fdl_data_loader_stats(NULL, &stats), FDL_E_NULL);
    check_error(FDL_E_NULL, "dl");
}

/* The arithmetic with figures of a device that isn't there. */
static void rules(void **state)
{
    (void)state;
    const int64_t mib = 1 << 20, gib = 1 << 30;
    struct room r = {.total = 6 * gib, .full = 2 * gib};
    assert_int_equal(rule_depth(r, 0.90, 0, 64 * mib, 1000), 54);
    assert_int_equal(rule_depth(r, 0.90, gib, 64 * mib, 1000), 38);
    assert_int_equal(rule_depth(r, 0.90, 0, 64 * mib, 10), 10);
    assert_int_equal(rule_depth(r, 0.90, 0, 1, 1000000), 512);
    assert_int_equal(rule_depth(r, 0.90, 0, 0, 1000), 2);
    assert_int_equal(rule_depth(r, 0.90, 0, INT64_MAX, 1000), 0);
    assert_int_equal(rule_depth((struct room){6 * gib, 5 * gib + 512 * mib}, 0.90, 0, 64 * mib, 1000), 0);
    assert_int_equal(rule_cap(1000 * gib, 0.1), 500 * gib);
    assert_int_equal(rule_cap(1000 * gib, 2.0), 990 * gib);
    int64_t budget = rule_budget(r, 0.90, 0);
    assert_int_equal(budget, rule_cap(6 * gib, 0.90) - 2 * gib);
    assert_true(rule_is_resident(r, 0.90, budget - 1));
    assert_false(rule_is_resident(r, 0.90, budget));
    assert_false(rule_is_resident(r, 0.90, INT64_MAX));
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        fdl_loader_opts o;
        const char *text;
    } rows[] = {{{.prefetch = -2}, ".prefetch is -2"}, {{.workers = -1}, ".workers is -1"},
                {{.workers = 129}, ".workers is 129"}, {{.timeout = -1}, ".timeout is -1"},
                {{.timeout = 1e30}, ".timeout"},       {{.mode = (fdl_data_mode)7}, ".mode is 7"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_null(fdl_data_loader_opt(items(10, pair, NULL), 2, &rows[i].o));
        check_error(FDL_E_ARG, "fdl_data_loader", rows[i].text);
    }
}

/* ---- random numbers ---------------------------------------------------------------------------------------- */

static fdl_status drawn(void *ctx, int64_t i, fdl_tensor **sample, int n)
{
    (void)ctx;
    (void)n;
    fdl_rng r;
    FDL_TRY(fdl_data_rng(i, &r));
    sample[0] = fdl_scalar(fdl_rng_f64(&r), .dtype = FDL_FLOAT64);
    return FDL_OK;
}

static double expected(uint64_t seed, int64_t epoch, int64_t i)
{
    fdl_rng r = fdl_rng_seed(fdl_rng_mix(seed, (uint64_t)epoch, 2 + (uint64_t)i));
    return fdl_rng_f64(&r);
}

static void random_numbers(void **state)
{
    (void)state;
    for (int workers = 0; workers < 4; workers++) {
        fdl_loader *dl =
            fdl_data_loader(fdl_data_map(items(20, slow_pair, NULL), drawn, NULL), 4, .seed = FDL_SOME(7),
                            .workers = workers, .prefetch = workers ? 0 : FDL_PREFETCH_NONE);
        check_some(dl);
        assert_int_equal(fdl_data_loader_mode(dl), FDL_DATA_STREAM); /* by itself */
        for (int e = 0; e < 2; e++)
            FDL_BATCHES(b, dl, e)
            {
                double x[4];
                check_ok(fdl_to_f64(fdl_data_at(b, 0), x, 4));
                for (int j = 0; j < 4; j++)
                    assert_true(x[j] == expected(7, e, fdl_data_indices(b)[j]));
            }
        check_ok(fdl_data_status(dl));
        fdl_data_loader_free(dl);
    }
    /* resident: once, as in epoch 0 */
    fdl_loader *dl = fdl_data_loader(fdl_data_map(items(20, pair, NULL), drawn, NULL), 20,
                                     .seed = FDL_SOME(7), .mode = FDL_DATA_RESIDENT, .in_order = true);
    check_some(dl);
    FDL_BATCHES(b, dl, 5)
    assert_true(fdl_item(fdl_select(fdl_data_at(b, 0), 0, 3)) == expected(7, 0, 3));
    fdl_data_loader_free(dl);
    fdl_rng r;
    check_ok(fdl_data_rng(3, &r)); /* outside */
    assert_true(fdl_rng_f64(&r) == expected(42, 0, 3));
    assert_int_equal(fdl_data_rng(3, NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "rng");
}

static fdl_status half_precision(void *ctx, int64_t i, fdl_tensor **out, int n)
{
    (void)ctx;
    (void)n;
    out[0] = fdl_scalar((double)i, .dtype = fdl_default_dtype());
    return fdl_grad_enabled() || !fdl_device_eq(fdl_default_device(), FDL_CPU) ? FDL_E_STATE : FDL_OK;
}

static void threads_are_like_the_consumers(void **state)
{
    (void)state;
    for (int prefetch = FDL_PREFETCH_NONE; prefetch < 1; prefetch++) {
        check_ok(fdl_set_default_dtype(FDL_FLOAT64));
        fdl_loader *dl = fdl_data_loader(fdl_data_fn(8, 1, half_precision, NULL), 4, .mode = FDL_DATA_STREAM,
                                         .prefetch = prefetch);
        check_some(dl);
        FDL_BATCHES(b, dl, 0)
        assert_int_equal(fdl_dtype_of(fdl_data_at(b, 0)), FDL_FLOAT64);
        check_ok(fdl_data_status(dl));
        check_ok(fdl_set_default_dtype(FDL_FLOAT32));
        fdl_data_loader_free(dl);
    }
}

/* ---- collate functions --------------------------------------------------------------------------------------- */

/* Sample i is i % 4 + 1 numbers i. */
static fdl_status ragged(void *ctx, int64_t i, fdl_tensor **out, int n)
{
    (void)ctx;
    (void)n;
    out[0] = fdl_full(FDL_SHAPE(i % 4 + 1), (double)i);
    return FDL_OK;
}

/* -> padded [k, longest], lengths [k]; ctx: what to pad with. */
static fdl_status padded(void *ctx, fdl_tensor *const *samples, int64_t k, int n, fdl_tensor **out, int m)
{
    int64_t longest = 0, lengths[16];
    if (n != 1 || m != 2 || k > 16)
        return fdl_fail(FDL_E_ARG, "n %d, m %d", n, m);
    for (int64_t j = 0; j < k; j++) {
        lengths[j] = fdl_size(samples[j], 0);
        longest = lengths[j] > longest ? lengths[j] : longest;
    }
    out[0] = fdl_full(FDL_SHAPE(k, longest), *(double *)ctx);
    out[1] = fdl_from_i64(lengths, FDL_SHAPE(k));
    for (int64_t j = 0; j < k; j++)
        FDL_TRY(fdl_copy_(fdl_narrow(fdl_select(out[0], 0, j), 0, 0, lengths[j]), samples[j]));
    return FDL_OK;
}

static fdl_status no_batch(void *ctx, fdl_tensor *const *samples, int64_t k, int n, fdl_tensor **out, int m)
{
    (void)samples;
    (void)k;
    (void)n;
    (void)m;
    out[0] = fdl_ones(FDL_SHAPE(1));
    return *(fdl_status *)ctx;
}

static void collating(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors(), idx[20];
    double pad = -1;
    for (int i = 0; i < 20; i++)
        idx[i] = 19 - i;
    for (int variant = 0; variant < 4; variant++) {
        fdl_dataset *ds = fdl_data_fn(20, 1, ragged, NULL);
        if (variant & 1)
            ds = fdl_data_subset(ds, idx, 20);
        fdl_loader *dl =
            fdl_data_eval_loader(ds, 6, .collate = padded, .ctx = &pad, .names = FDL_NAMES("text", "length"),
                                 .workers = 2, .prefetch = variant & 2 ? FDL_PREFETCH_NONE : 0);
        check_some(dl);
        assert_int_equal(fdl_data_loader_mode(dl), FDL_DATA_STREAM);
        assert_int_equal(fdl_data_loader_arity(dl), 2);
        int64_t i = 0;
        FDL_BATCHES(b, dl, 0)
        {
            int64_t rows = fdl_data_rows(b), longest = fdl_size(fdl_data_named(b, "text"), 1);
            double x[6 * 4];
            int64_t length[6];
            assert_true(rows == (i < 18 ? 6 : 2) && longest <= 4);
            check_ok(fdl_to_f64(fdl_data_named(b, "text"), x, rows * longest));
            check_ok(fdl_to_i64(fdl_data_named(b, "length"), length, rows));
            for (int64_t j = 0; j < rows; j++, i++) {
                int64_t sample = variant & 1 ? 19 - i : i;
                assert_int_equal(length[j], sample % 4 + 1);
                for (int64_t k = 0; k < longest; k++)
                    assert_true(x[j * longest + k] == (k < length[j] ? (double)sample : -1));
            }
        }
        check_ok(fdl_data_status(dl));
        assert_int_equal(i, 20);
        fdl_data_loader_free(dl);
    }
    /* without a function they don't stack */
    fdl_loader *dl = fdl_data_eval_loader(fdl_data_fn(20, 1, ragged, NULL), 6, .mode = FDL_DATA_STREAM);
    check_some(dl);
    FDL_BATCHES(b, dl, 0)
    fail();
    check_error(FDL_E_SHAPE, "sample 1", "float32[2]", "sample 0", "float32[1]");
    fdl_data_loader_free(dl);

    fdl_status status = FDL_E_NET;
    assert_null(fdl_data_loader(ten_rows(), 2, .collate = no_batch, .ctx = &status));
    check_error(FDL_E_NET, "collate function");
    status = FDL_OK;
    assert_null(fdl_data_loader(ten_rows(), 2, .collate = no_batch, .ctx = &status));
    check_error(FDL_E_STATE, "position 1 of 2", "NULL");
    assert_null(fdl_data_loader(ten_rows(), 2, .collate = padded, .ctx = &pad));
    check_error(FDL_E_ARG, "n 2, m 2");
    assert_null(fdl_data_loader(ten_rows(), 2, .collate = padded, .mode = FDL_DATA_RESIDENT));
    check_error(FDL_E_ARG, "FDL_DATA_RESIDENT");
    assert_null(fdl_data_loader(ten_rows(), 2, .collate = padded, .names = (const char *const[]){NULL}));
    check_error(FDL_E_ARG, "0 names");
    assert_int_equal(fdl_live_tensors(), before);
}

/* ---- training ------------------------------------------------------------------------------------------------- */

static fdl_tensor *squared(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_mse_loss(fdl_forward(model, fdl_div(batch.at[0], 50)),
                        fdl_div(fdl_narrow(batch.at[0], 1, 0, 1), 50));
}

static double trained(fdl_data_mode mode, fdl_tensor **weight)
{
    check_ok(fdl_manual_seed(1));
    fdl_module *model = fdl_nn_linear(3, 1);
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(model), .lr = 0.01);
    fdl_trainer *tr = fdl_trainer_new(model, opt, squared);
    fdl_loader *dl = fdl_data_loader(items(50, slow_pair, NULL), 8, .mode = mode, .workers = 3);
    check_some(tr);
    check_some(dl);
    fdl_fit_report report;
    check_ok(fdl_trainer_fit(tr, dl, .epochs = 5, .validate = dl, .report = &report));
    *weight = fdl_clone(fdl_param_tensor(fdl_params_at(fdl_parameters(model), 0)));
    fdl_data_loader_free(dl);
    fdl_trainer_free(tr);
    fdl_optim_free(opt);
    fdl_module_free(model);
    return report.loss;
}

static void training(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *a, *b;
    double x = trained(FDL_DATA_RESIDENT, &a), y = trained(FDL_DATA_STREAM, &b);
    assert_true(x == y && x >= 0 && fdl_same(a, b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_resident),
        cmocka_unit_test(ten_thousand_batches),
        cmocka_unit_test(leaving),
        cmocka_unit_test(freeing),
        cmocka_unit_test(skipping),
        cmocka_unit_test(failing),
        cmocka_unit_test(serial),
        cmocka_unit_test(timing_out),
        cmocka_unit_test(far_ahead),
        cmocka_unit_test(depths),
        cmocka_unit_test(rules),
        cmocka_unit_test(refusals),
        cmocka_unit_test(random_numbers),
        cmocka_unit_test(threads_are_like_the_consumers),
        cmocka_unit_test(collating),
        cmocka_unit_test(training),
    };
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
