/* Loaders that stream to a GPU: the same values, memory that is used again at the right time, nobody waiting; memory that runs
 * out; captured steps beside a loader's threads. Skipped without a GPU. */
#include "check.h"

#include "samples.h"

#include <math.h>
#include <unistd.h>

#define GPU FDL_CUDA(0)

static void need_gpu(void)
{
    if (fdl_cuda_available())
        return;
    print_message("skipped: no CUDA device\n");
    skip();
}

/* What is expected of figures, which are told when they don't hold. */
#define expect_that(condition, ...)          \
    do {                                     \
        if (!(condition)) {                  \
            print_error("%s: ", #condition); \
            print_error(__VA_ARGS__);        \
            print_error("\n");               \
            assert_true(condition);          \
        }                                    \
    } while (0)

enum { WIDTH = 1000 };

/* Position 0 of sample i is [WIDTH] of i, position 1 (int64) is i; some take longer than others. */
static fdl_status wide(void *ctx, int64_t i, fdl_tensor **out, int n)
{
    (void)n;
    uint64_t z = fdl_rng_mix((uint64_t)i, 1, 2);
    if (ctx && z % 4 == 0)
        usleep((useconds_t)(z % 997));
    out[0] = fdl_full(FDL_SHAPE(WIDTH), (double)i);
    out[1] = fdl_scalar((double)i, .dtype = FDL_INT64);
    return out[0] && out[1] ? FDL_OK : fdl_error_pending();
}

static int slowly;

/* Datasets of several makes, with one reference. */
static fdl_dataset *kind(int k)
{
    FDL_SCOPE;
    int64_t idx[70];
    for (int i = 0; i < 70; i++)
        idx[i] = (i * 31) % 103;
    fdl_tensor *bytes =
        fdl_to_dtype(fdl_reshape(fdl_arange(0, 240, 1, .device = FDL_CPU), FDL_SHAPE(40, 6)), FDL_UINT8);
    switch (k) {
    case 0:
        return fdl_data_fn(103, 2, wide, &slowly);
    case 1:
        return fdl_data_subset(fdl_data_div(fdl_data_fn(103, 2, wide, &slowly), 1, 4), idx, 70);
    case 2:
        return fdl_data_div(fdl_data_tensors(FDL_LIST(bytes, fdl_arange(0, 40, 1, .device = FDL_CPU))), 0,
                            255);
    case 3:
        return fdl_data_windows(fdl_arange(0, 60, 1, .device = FDL_CPU), 6, .stride = 1);
    default:
        return fdl_data_tensors(FDL_LIST(fdl_transpose(fdl_reshape(bytes, FDL_SHAPE(6, 40)), 0, 1),
                                         fdl_zeros(FDL_SHAPE(40, 0), .device = FDL_CPU),
                                         fdl_ones(FDL_SHAPE(40), .dtype = FDL_BOOL, .device = FDL_CPU)));
    }
}

static void equal_values(void **state)
{
    (void)state;
    need_gpu();
    int64_t before = fdl_live_tensors();
    for (int k = 0; k < 5; k++) {
        fdl_dataset *ds = kind(k);
        check_some(ds);
        for (int variant = 0; variant < 5; variant++) {
            static const int64_t prefetch[] = {0, FDL_PREFETCH_NONE, 3, 1, 0};
            fdl_loader *a = fdl_data_loader(fdl_data_ref(ds), 8, .device = FDL_CPU, .keep_last = variant % 2,
                                            .mode = FDL_DATA_RESIDENT);
            fdl_loader *b =
                fdl_data_loader(fdl_data_ref(ds), 8, .device = GPU, .keep_last = variant % 2,
                                .mode = FDL_DATA_STREAM, .prefetch = prefetch[variant], .workers = variant);
            check_some(a);
            check_some(b);
            assert_int_equal(fdl_data_loader_sample_bytes(a), fdl_data_loader_sample_bytes(b));
            fdl_data_stats stats;
            for (int e = 0; e < 4; e++) {
                assert_int_equal(same_epoch(a, b, e), fdl_data_loader_batches(a));
                FDL_BATCHES(x, b, e)
                for (int p = 0; p < fdl_data_arity_of(x); p++)
                    assert_true(fdl_device_eq(fdl_device_of(fdl_data_at(x, p)), GPU));
                check_ok(fdl_data_loader_stats(b, &stats));
            }
            /* Two blocks for each of four workers at most. */
            int64_t most = 2 * 4 * 8 * fdl_data_loader_sample_bytes(b);
            expect_that(stats.pinned > 0 && stats.pinned <= most, "%lld bytes pinned, at most %lld expected",
                        (long long)stats.pinned, (long long)most);
            expect_that(stats.fallbacks == 0, "%lld fallbacks", (long long)stats.fallbacks);
            assert_int_equal(stats.batches, 8 * fdl_data_loader_batches(b));
            fdl_data_loader_free(a);
            fdl_data_loader_free(b);
        }
        fdl_data_free(ds);
    }
    assert_int_equal(fdl_live_tensors(), before);
}

/* Blocks of pinned memory that never grow: 2 for each worker, of full batches. */
static void pinned_blocks(void **state)
{
    (void)state;
    need_gpu();
    fdl_loader *dl = fdl_data_loader(fdl_data_fn(400, 2, wide, NULL), 16, .device = GPU,
                                     .mode = FDL_DATA_STREAM, .workers = 2, .prefetch = 6);
    check_some(dl);
    fdl_data_stats stats;
    for (int e = 0; e < 20; e++) {
        FDL_BATCHES(b, dl, e)
        assert_int_equal(fdl_data_rows(b), 16);
        check_ok(fdl_data_status(dl));
        check_ok(fdl_data_loader_stats(dl, &stats));
        expect_that(stats.pinned <= 2 * 2 * 16 * (WIDTH * 4 + 8), "%lld bytes pinned",
                    (long long)stats.pinned);
    }
    assert_int_equal(stats.bytes, 20 * 25 * 16 * (WIDTH * 4 + 8));
    fdl_data_loader_free(dl);
}

/* Work that takes the device a while, about `n` times 2.5 ms of an H100. */
static void keep_busy(fdl_tensor *a, int n)
{
    FDL_SCOPE;
    fdl_tensor *out = fdl_empty_like(a);
    for (int i = 0; i < n; i++) {
        FDL_SCOPE;
        check_ok(fdl_copy_(out, fdl_matmul(a, a)));
    }
}

/* The consumer comes back from fdl_data_next while the device is still at what was issued long before; and what the device
 * computes then is right, so no memory was used again too early. */
static void nobody_waits(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor *a = fdl_zeros(FDL_SHAPE(4096, 4096), .device = GPU);
    fdl_loader *dl = fdl_data_loader(fdl_data_fn(1600, 2, wide, NULL), 16, .device = GPU,
                                     .mode = FDL_DATA_STREAM, .workers = 3, .prefetch = 8);
    check_some(dl);
    fdl_tensor *sums = fdl_zeros(FDL_SHAPE(100), .dtype = FDL_FLOAT64, .device = GPU);
    FDL_BATCHES(b, dl,
                0) /* all that is made once, and kernels that are loaded at their first launch, which waits */
    {
        keep_busy(a, 1);
        check_ok(fdl_copy_(fdl_narrow(sums, 0, 0, 1),
                           fdl_reshape(fdl_sum(fdl_double(fdl_data_at(b, 0))), FDL_SHAPE(1))));
    }
    check_ok(fdl_cuda_synchronize(0));
    fdl_event *busy = fdl_cuda_event_new();
    check_some(busy);
    double expected[100], got[100], longest = 0;
    int n = 0, early = 0;
    keep_busy(a, 200); /* half a second */
    check_ok(fdl_cuda_event_record(busy));
    double start = fdl_now();
    FDL_BATCHES(b, dl, 1)
    {
        double waited = fdl_now() - start;
        longest = waited > longest && n ? waited : longest;
        early += !fdl_cuda_event_done(busy);
        expected[n] = 0;
        for (int i = 0; i < 16; i++)
            expected[n] += WIDTH * (double)fdl_data_indices(b)[i];
        if (n % 10 == 0)
            keep_busy(a, 4);
        check_ok(fdl_copy_(fdl_narrow(sums, 0, n, 1),
                           fdl_reshape(fdl_sum(fdl_double(fdl_data_at(b, 0))), FDL_SHAPE(1))));
        n++;
        start = fdl_now();
    }
    check_ok(fdl_data_status(dl));
    assert_int_equal(n, 100);
    print_message("%d of 100 batches were taken before the device had come to them; longest wait %.1f ms\n",
                  early, 1e3 * longest);
    expect_that(early >= 20, "%d of 100 batches, longest wait %g s: the host waits for the device", early,
                longest);
    check_ok(fdl_to_f64(sums, got, 100));
    for (int i = 0; i < 100; i++)
        expect_that(got[i] == expected[i], "batch %d sums to %.17g, not %.17g", i, got[i], expected[i]);
    fdl_cuda_event_free(busy);
    fdl_data_loader_free(dl);
}

/* A loader's batches are fetched while the consumer works. */
static fdl_status four_ms(void *self, const int64_t *idx, int64_t k, fdl_tensor **out, int n)
{
    (void)self;
    (void)idx;
    (void)n;
    usleep(4000);
    out[0] = fdl_ones(FDL_SHAPE(k, 100));
    return FDL_OK;
}
static int64_t thousand(void *self)
{
    (void)self;
    return 1000;
}

static void overlap(void **state)
{
    (void)state;
    need_gpu();
    fdl_data_vtab v = {.len = thousand, .batch = four_ms, .arity = 1};
    fdl_loader *dl = fdl_data_loader(fdl_data_new(&v, NULL), 10, .device = GPU, .mode = FDL_DATA_STREAM);
    check_some(dl);
    for (int e = 0; e < 2; e++) {
        double start = fdl_now();
        FDL_BATCHES(b, dl, e)
        usleep(5000);
        double each = (fdl_now() - start) / 100;
        print_message("epoch %d: %.2f ms a batch, of 4 ms of fetching and 5 ms of work\n", e, 1e3 * each);
        if (e)
            expect_that(each < 6.5e-3, "%g s a batch: fetching and work don't overlap", each);
    }
    fdl_data_stats stats;
    check_ok(fdl_data_loader_stats(dl, &stats));
    print_message("the consumer waited %.3f s in 200 batches\n", stats.waited);
    fdl_data_loader_free(dl);
}

/* ---- memory ---------------------------------------------------------------------------------------------- */

enum { LARGE = 4 << 20 }; /* bytes of a sample */

static fdl_status large(void *self, const int64_t *idx, int64_t k, fdl_tensor **out, int n)
{
    (void)self;
    (void)n;
    out[0] = fdl_empty(FDL_SHAPE(k, LARGE), .dtype = FDL_UINT8);
    for (int64_t j = 0; out[0] && j < k; j++)
        FDL_TRY(fdl_fill_(fdl_select(out[0], 0, j), (double)(idx[j] % 251)));
    return FDL_OK;
}

static int64_t number(void *self)
{
    return *(int64_t *)self;
}

static fdl_dataset *large_data(int64_t *n)
{
    return fdl_data_new(&(fdl_data_vtab){.len = number, .batch = large, .arity = 1}, n);
}

/* All batches come, in order and whole. */
static void check_large(fdl_loader *dl, int64_t epoch, int64_t batches)
{
    int64_t n = 0;
    FDL_BATCHES(b, dl, epoch)
    {
        if (n == 1)
            usleep(300000); /* the workers run ahead as far as there is room */
        int64_t rows = fdl_data_rows(b);
        fdl_tensor *x = fdl_data_at(b, 0);
        for (int64_t i = 0; i < rows; i++) {
            FDL_SCOPE;
            fdl_tensor *row = fdl_select(x, 0, i);
            int64_t value = fdl_data_indices(b)[i] % 251;
            int64_t least = fdl_item_i64(fdl_min(row)), most = fdl_item_i64(fdl_max(row));
            expect_that(least == value && most == value,
                        "epoch %lld, batch %lld, row %lld: %lld to %lld, not %lld", (long long)epoch,
                        (long long)n, (long long)i, (long long)least, (long long)most, (long long)value);
        }
        n++;
    }
    check_ok(fdl_data_status(dl));
    assert_int_equal(n, batches);
}

/* Leaves this process's allocator `bytes` beside what it holds; `small` keeps a segment for small tensors there. */
static void limit_memory(int64_t bytes, fdl_tensor **small)
{
    check_some(*small = fdl_ones(FDL_SHAPE(1), .device = GPU));
    int64_t used, total, reserved;
    check_ok(fdl_cuda_synchronize(0));
    check_ok(fdl_cuda_empty_cache());
    check_ok(fdl_cuda_memory_reserved(0, &reserved));
    check_ok(fdl_cuda_mem_info(0, &used, &total));
    check_ok(fdl_cuda_set_memory_fraction(0, (double)(reserved + bytes) / (double)total));
}

static void a_copy_runs_out_of_memory(void **state)
{
    (void)state;
    need_gpu();
    int64_t before = fdl_live_tensors(), n = 4 * 40;
    for (int threads = 0; threads < 3; threads++) {
        FDL_SCOPE;
        fdl_tensor *small;
        fdl_loader *dl = fdl_data_loader(large_data(&n), 4, .device = GPU, .mode = FDL_DATA_STREAM,
                                         .prefetch = threads ? 20 : FDL_PREFETCH_NONE, .workers = threads);
        check_some(dl);
        limit_memory(INT64_C(5) * 4 * LARGE, &small); /* 5 batches, of 20 */
        for (int e = 0; e < 2; e++)
            check_large(dl, e, 40);
        fdl_data_stats stats;
        check_ok(fdl_data_loader_stats(dl, &stats));
        check_ok(fdl_cuda_set_memory_fraction(0, 1));
        print_message("%d threads: %lld times out of memory, depth %lld\n", threads,
                      (long long)stats.fallbacks, (long long)stats.depth);
        expect_that(!threads || stats.fallbacks > 0, "%lld fallbacks", (long long)stats.fallbacks);
        check_large(dl, 2, 40); /* as before */
        fdl_data_loader_free(dl);
    }
    { /* No room for even one: an error, not a hang. */
        FDL_SCOPE;
        fdl_tensor *small;
        fdl_loader *dl =
            fdl_data_loader(large_data(&n), 4, .device = GPU, .mode = FDL_DATA_STREAM, .prefetch = 3);
        check_some(dl);
        limit_memory(LARGE, &small);
        int taken = 0;
        FDL_BATCHES(b, dl, 0)
        taken++;
        check_ok(fdl_cuda_set_memory_fraction(0, 1));
        assert_int_equal(taken, 0);
        assert_int_equal(fdl_data_status(dl), FDL_E_OOM);
        check_error(FDL_E_OOM, "batch 0");
        check_large(dl, 0, 40);
        fdl_data_loader_free(dl);
    }
    assert_int_equal(fdl_live_tensors(), before);
}

static fdl_status backwards(void *self, int64_t epoch, int64_t *out)
{
    (void)epoch;
    for (int64_t i = 0; i < *(int64_t *)self; i++)
        out[i] = *(int64_t *)self - 1 - i;
    return FDL_OK;
}

/* The driver has room for the data, this process's allocator hasn't. */
static void resident_runs_out_of_memory(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    int64_t n = 40, allocated, after;
    fdl_sampler_vtab v = {.len = number, .order = backwards};
    fdl_tensor *small;
    limit_memory(INT64_C(20) * LARGE, &small);
    int64_t before = fdl_live_tensors();
    check_ok(fdl_cuda_memory_allocated(0, &allocated));
    fdl_loader *dl = fdl_data_loader(large_data(&n), 2, .device = GPU,
                                     .sampler = fdl_data_sampler_new(&v, &n), .prefetch = 2);
    check_some(dl);
    fdl_data_stats stats;
    check_ok(fdl_data_loader_stats(dl, &stats));
    expect_that(stats.fallbacks == 1, "%lld fallbacks", (long long)stats.fallbacks);
    assert_int_equal(fdl_data_loader_mode(dl), FDL_DATA_STREAM);
    check_ok(fdl_cuda_memory_allocated(0, &after));
    expect_that(after == allocated, "%lld bytes are left of the resident data",
                (long long)(after - allocated));
    FDL_BATCHES(b, dl, 0)
    {
        assert_int_equal(fdl_data_indices(b)[0], 39);
        break;
    }
    check_large(dl, 0, 20);
    fdl_data_loader_free(dl);
    assert_null(fdl_data_loader(large_data(&n), 2, .device = GPU, .mode = FDL_DATA_RESIDENT));
    check_error(FDL_E_OOM, "fdl_data_loader");
    check_ok(fdl_cuda_set_memory_fraction(0, 1));
    dl = fdl_data_loader(large_data(&n), 2, .device = GPU); /* fits now */
    check_some(dl);
    assert_int_equal(fdl_data_loader_mode(dl), FDL_DATA_RESIDENT);
    check_large(dl, 0, 20);
    fdl_data_loader_free(dl);
    assert_int_equal(fdl_live_tensors(), before);
}

/* The first batch alone; then as many as there is room for beside what a step needs. */
static void depth_by_memory(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    int64_t n = 8 * 30, used, total;
    fdl_loader *dl =
        fdl_data_loader(large_data(&n), 8, .device = GPU, .mode = FDL_DATA_STREAM, .vram_use = 0.5);
    check_some(dl);
    assert_int_equal(fdl_data_loader_depth(dl), 4);
    int batches = 0;
    FDL_BATCHES(b, dl, 0)
    {
        int64_t depth = fdl_data_loader_depth(dl);
        if (batches++ == 0)
            expect_that(depth == 1, "depth %lld with the first batch", (long long)depth);
        else
            expect_that(depth > 1 && depth <= 30, "depth %lld with batch %d", (long long)depth, batches - 1);
        fdl_float(fdl_data_at(b, 0)); /* what a step takes */
    }
    check_ok(fdl_data_status(dl));
    assert_int_equal(batches, 30);
    /* Nearly as full as it may be: room for 3, or so, and then for none. */
    for (int room = 3; room >= 0; room -= 3) {
        FDL_SCOPE;
        fdl_loader *tight =
            fdl_data_loader(large_data(&n), 8, .device = GPU, .mode = FDL_DATA_STREAM, .vram_use = 0.5);
        check_some(tight);
        check_ok(fdl_cuda_synchronize(0));
        check_ok(fdl_cuda_empty_cache());
        check_ok(fdl_cuda_mem_info(0, &used, &total));
        int64_t fill = total / 2 - used - (room ? room * 8 * LARGE + 4 * LARGE : -LARGE);
        if (fill > 0)
            check_some(fdl_empty(FDL_SHAPE(fill), .dtype = FDL_UINT8, .device = GPU));
        int64_t depth = fdl_data_resize(tight);
        print_message("room for %d batches: depth %lld\n", room, (long long)depth);
        expect_that(fill <= 0 || (depth <= room && depth >= (room ? 1 : 0)),
                    "depth %lld with room for %d batches", (long long)depth, room);
        check_large(tight, 0, 30);
        fdl_data_loader_free(tight);
    }
    fdl_data_loader_free(dl);
    check_ok(fdl_cuda_empty_cache());
}

/* ---- captures -------------------------------------------------------------------------------------------- */

static fdl_tensor *loss_of(fdl_module *m, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_mse_loss(fdl_forward(m, batch.at[0]), batch.at[1]);
}

/* [16] -> [4] float32, the same for everybody. */
static fdl_status noisy(void *ctx, int64_t i, fdl_tensor **out, int n)
{
    (void)n;
    fdl_rng r = fdl_rng_seed((uint64_t)i);
    float x[16], y[4];
    for (int k = 0; k < 16; k++)
        x[k] = (float)fdl_rng_normal(&r, 0, 1);
    for (int k = 0; k < 4; k++)
        y[k] = x[k] * x[k + 4] - x[k + 8];
    if (ctx && fdl_rng_below(&r, 20) == 0)
        usleep(500);
    out[0] = fdl_from_f32(x, FDL_SHAPE(16));
    out[1] = fdl_from_f32(y, FDL_SHAPE(4));
    return out[0] && out[1] ? FDL_OK : fdl_error_pending();
}

enum { EPOCHS = 20, SAMPLES = 1600, BATCH = 32 }; /* 1,000 steps */

typedef struct course {
    double loss[EPOCHS];
    fdl_tensor *weight; /* scope */
} course;

static void train(course *c, fdl_trainer_capture capture, fdl_data_mode mode)
{
    check_ok(fdl_manual_seed(3));
    fdl_module *model = fdl_flow(fdl_nn_linear(16, 64), fdl_nn_gelu(), fdl_flow_also(fdl_nn_linear(64, 64)),
                                 fdl_nn_layer_norm(64), fdl_nn_linear(64, 4));
    check_some(model);
    check_ok(fdl_module_to(model, GPU));
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(model), .lr = 1e-3);
    fdl_trainer *tr = fdl_trainer_new(model, opt, loss_of, .capture = capture);
    fdl_loader *dl = fdl_data_loader(fdl_data_fn(SAMPLES, 2, noisy, &slowly), BATCH, .device = GPU,
                                     .mode = mode, .workers = 3);
    check_some(tr);
    check_some(dl);
    int64_t uses[SAMPLES] = {0};
    for (int e = 0; e < EPOCHS; e++) {
        FDL_BATCHES(b, dl, e)
        {
            check_ok(fdl_trainer_step(tr, fdl_data_list(b)));
            for (int i = 0; i < BATCH; i++)
                uses[fdl_data_indices(b)[i]]++;
        }
        check_ok(fdl_data_status(dl));
        check_ok(fdl_trainer_mean_loss(tr, &c->loss[e]));
    }
    assert_int_equal(fdl_trainer_steps(tr), EPOCHS * (SAMPLES / BATCH));
    for (int i = 0; i < SAMPLES; i++)
        assert_int_equal(uses[i], EPOCHS);
    if (capture == FDL_CAPTURE_REQUIRE)
        check_ok(fdl_trainer_plan(tr, stdout));
    c->weight = fdl_clone(fdl_param_tensor(fdl_params_at(fdl_parameters(model), 0)));
    fdl_data_loader_free(dl);
    fdl_trainer_free(tr);
    fdl_optim_free(opt);
    check_ok(fdl_module_free(model));
}

static void captured_steps(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    static const fdl_trainer_capture how[] = {FDL_CAPTURE_OFF, FDL_CAPTURE_REQUIRE};
    course resident[2] = {0}, streaming[2] = {0};
    double apart = 0;
    for (int k = 0; k < 2; k++) {
        train(&resident[k], how[k], FDL_DATA_RESIDENT);
        train(&streaming[k], how[k], FDL_DATA_STREAM);
        for (int e = 0; e < EPOCHS; e++)
            expect_that(resident[k].loss[e] == streaming[k].loss[e],
                        "%s, epoch %d: %.17g resident, %.17g streaming", k ? "captured" : "eager", e,
                        resident[k].loss[e], streaming[k].loss[e]);
        assert_true(fdl_same(resident[k].weight, streaming[k].weight));
    }
    for (int e = 0; e < EPOCHS; e++) {
        double far = fabs(resident[0].loss[e] - streaming[1].loss[e]) / resident[0].loss[e];
        apart = far > apart ? far : apart;
    }
    print_message("losses of 1,000 steps from %.4f to %.4f, captured and eager ones apart by %.2g\n",
                  streaming[1].loss[0], streaming[1].loss[EPOCHS - 1], apart);
    expect_that(apart < 1e-3, "losses of captured and of eager steps are apart by %g", apart);
    assert_true(streaming[1].loss[EPOCHS - 1] < streaming[1].loss[0]);
}

/* Captures of the strictest mode, which any thread's allocation would spoil, one after the other while threads fetch, pin and
 * send. */
typedef struct body {
    fdl_tensor *x, *y;
} body;

static fdl_status work_on(void *ctx)
{
    body *b = ctx;
    for (int i = 0; i < 20; i++)
        b->y = fdl_mul(fdl_add(b->x, (double)i), 0.5);
    return b->y ? FDL_OK : fdl_error_pending();
}

static void captures_beside_threads(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    body b = {.x = fdl_ones(FDL_SHAPE(1000), .device = GPU)};
    for (int i = 0; i < 30; i++) {
        FDL_SCOPE;
        /* A loader of its own each time, whose threads have everything to allocate while the capture is open. */
        fdl_loader *dl = fdl_data_loader(fdl_data_fn(640, 2, wide, NULL), 8, .device = GPU,
                                         .mode = FDL_DATA_STREAM, .workers = 4, .prefetch = 40);
        check_some(dl);
        fdl_iter *it = fdl_data_epoch(dl, i);
        check_some(it);
        fdl_cuda_graph *g = fdl_cuda_graph_capture(work_on, .ctx = &b, .warmup = FDL_SOME(i == 0),
                                                   .mode = FDL_CAPTURE_GLOBAL, .device = GPU);
        check_some(g);
        check_ok(fdl_cuda_graph_replay(g));
        expect_that(fdl_item(fdl_max(b.y)) == 10, "a replay gives %g, not 10", fdl_item(fdl_max(b.y)));
        int n = 0;
        for (fdl_batch *batch; (batch = fdl_data_next(it)); n++)
            if (n % 10 == 0)
                expect_that(fdl_item(fdl_select(fdl_data_at(batch, 1), 0, 0)) ==
                                (double)fdl_data_indices(batch)[0],
                            "batch %d", n);
        check_ok(fdl_data_status(dl));
        assert_int_equal(n, 80);
        fdl_data_epoch_end(it);
        fdl_data_loader_free(dl);
        fdl_cuda_graph_free(g);
    }
}

static void no_batch_inside_a_capture(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_loader *dl =
        fdl_data_loader(fdl_data_fn(64, 2, wide, NULL), 8, .device = GPU, .mode = FDL_DATA_STREAM);
    check_some(dl);
    fdl_iter *it = fdl_data_epoch(dl, 0);
    check_some(fdl_data_next(it));
    fdl_cuda_graph *g = fdl_cuda_graph_new();
    fdl_tensor *x = fdl_ones(FDL_SHAPE(8), .device = GPU);
    check_some(g);
    check_some(fdl_add(x, 1));
    check_ok(fdl_cuda_graph_begin(g, .mode = FDL_CAPTURE_THREAD_LOCAL, .device = GPU));
    assert_null(fdl_data_next(it));
    check_error(FDL_E_STATE, "capture is open");
    check_some(fdl_add(x, 1));
    check_ok(fdl_cuda_graph_end(g));
    fdl_cuda_graph_free(g);
    fdl_data_epoch_end(it);
    int n = 0;
    FDL_BATCHES(b, dl, 0)
    n++;
    check_ok(fdl_data_status(dl));
    assert_int_equal(n, 8);
    fdl_data_loader_free(dl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_values),
        cmocka_unit_test(pinned_blocks),
        cmocka_unit_test(nobody_waits),
        cmocka_unit_test(overlap),
        cmocka_unit_test(a_copy_runs_out_of_memory),
        cmocka_unit_test(resident_runs_out_of_memory),
        cmocka_unit_test(depth_by_memory),
        cmocka_unit_test(captured_steps),
        cmocka_unit_test(captures_beside_threads),
        cmocka_unit_test(no_batch_inside_a_capture),
    };
    return cmocka_run_group_tests_name("stream to a GPU", tests, NULL, NULL);
}
