/* CUDA: what holds without a device, then devices, memory, streams, events and graphs on one. A test that needs a GPU says
 * that it is skipped where there is none. */
#include "gpu.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static fdl_status nothing(void *ctx)
{
    (void)ctx;
    return FDL_OK;
}

/* ---- without a device ------------------------------------------------------------------------------------- */

static void without_a_device(void **state)
{
    (void)state;
    if (fdl_cuda_available()) {
        print_message("skipped: there is a CUDA device\n");
        skip();
    }
    const char *why = fdl_built_with_cuda() ? "no CUDA device found" : "built without CUDA";
    assert_int_equal(fdl_cuda_count(), 0);
    assert_int_equal(fdl_cuda_usable(NULL, 0), 0);
    assert_int_equal(fdl_cuda_utilization(0), -1);
    assert_int_equal(fdl_cuda_current(), 0);
    assert_false(fdl_cuda_is_capturing());

    assert_null(fdl_cuda_stream_new(GPU));
    check_error(FDL_E_DEVICE, "fdl_cuda_stream_new", why);
    assert_null(fdl_cuda_stream_new(FDL_CPU));
    check_error(FDL_E_DEVICE, "fdl_cuda_stream_new", why);
    assert_null(fdl_cuda_stream_current(GPU));
    check_error(FDL_E_DEVICE, why);
    assert_null(fdl_cuda_stream_default(GPU));
    check_error(FDL_E_DEVICE, why);
    assert_null(fdl_cuda_event_new(.timing = true));
    check_error(FDL_E_DEVICE, "fdl_cuda_event_new", why);
    assert_null(fdl_cuda_graph_new());
    check_error(FDL_E_DEVICE, "fdl_cuda_graph_new", why);
    assert_null(fdl_cuda_graph_capture(nothing));
    check_error(FDL_E_DEVICE, "fdl_cuda_graph_capture", why);
    fdl_cuda_pool pool = fdl_cuda_pool_new();
    assert_true(pool.hi == 0 && pool.lo == 0);
    check_error(FDL_E_DEVICE, "fdl_cuda_pool_new", why);

    int n = -1;
    fdl_cuda_device_info info;
    fdl_cuda_memory memory;
    char name[8];
    assert_int_equal(fdl_cuda_name(0, name, sizeof name), FDL_E_DEVICE);
    check_error(FDL_E_DEVICE, why);
    assert_int_equal(fdl_cuda_capability(0, &n, &n), FDL_E_DEVICE);
    check_error(FDL_E_DEVICE, why);
    assert_int_equal(fdl_cuda_info(0, &info), FDL_E_DEVICE);
    check_error(FDL_E_DEVICE, why);
    assert_int_equal(fdl_cuda_probe(0), FDL_E_DEVICE);
    check_error(FDL_E_DEVICE, "fdl_cuda_probe", why);
    assert_int_equal(fdl_cuda_memory_stats(0, &memory), FDL_E_DEVICE);
    check_error(FDL_E_DEVICE, why);
    assert_int_equal(fdl_cuda_memory_summary(0, stderr), FDL_E_DEVICE);
    check_error(FDL_E_DEVICE, why);
    assert_int_equal(fdl_cuda_set_memory_fraction(0, 0.5), FDL_E_DEVICE);
    check_error(FDL_E_DEVICE, why);
    assert_int_equal(n, -1);
    assert_null(fdl_zeros(FDL_SHAPE(1), .device = GPU));
    check_error(FDL_E_DEVICE, "cuda", why);
}

static void null_handles(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_cuda_stream_free(NULL);
    fdl_cuda_event_free(NULL);
    fdl_cuda_graph_free(NULL);
    assert_false(fdl_cuda_stream_eq(NULL, NULL));
    assert_int_equal(fdl_cuda_stream_device(NULL).type, FDL_DEVICE_TYPE_DEFAULT);
    assert_true(fdl_error_pending() == FDL_OK);
    {
        FDL_STREAM(NULL);
        check_error(FDL_E_NULL, "fdl_stream_open", "s is NULL");
    }
    assert_true(fdl_error_pending() == FDL_OK);
    assert_int_equal(fdl_cuda_stream_synchronize(NULL), FDL_E_NULL);
    fdl_clear_error();
    assert_int_equal(fdl_cuda_event_record(NULL), FDL_E_NULL);
    fdl_clear_error();
    assert_int_equal(fdl_record_stream(fdl_zeros(FDL_SHAPE(1)), NULL), FDL_E_NULL);
    fdl_clear_error();
    /* the first error stays, and is what the next one answers */
    fdl_fail(FDL_E_CANCELLED, "before");
    assert_int_equal(fdl_cuda_stream_synchronize(NULL), FDL_E_CANCELLED);
    check_error(FDL_E_CANCELLED, "before");
}

/* PyTorch's defaults, and what is set. */
static void backends(void **state)
{
    (void)state;
    bool matmul = true, cudnn = false;
    assert_false(fdl_is_cudnn_benchmark());
    assert_true(fdl_is_cudnn_enabled());
    check_ok(fdl_is_tf32_allowed(&matmul, &cudnn));
    assert_true(!matmul && cudnn);
    check_ok(fdl_cudnn_benchmark(true));
    check_ok(fdl_cudnn_enabled(false));
    check_ok(fdl_allow_tf32(true, false));
    assert_true(fdl_is_cudnn_benchmark());
    assert_false(fdl_is_cudnn_enabled());
    check_ok(fdl_is_tf32_allowed(&matmul, &cudnn));
    assert_true(matmul && !cudnn);
    check_ok(fdl_cudnn_benchmark(false));
    check_ok(fdl_cudnn_enabled(true));
    check_ok(fdl_allow_tf32(false, true));
    check_ok(fdl_is_tf32_allowed(NULL, NULL));
}

/* ---- devices ------------------------------------------------------------------------------------------------ */

static void discovery(void **state)
{
    (void)state;
    need_gpu();
    int count = fdl_cuda_count(), major = 0, minor = -1, usable[64];
    char name[256] = "", cut[4];
    fdl_cuda_device_info info;
    check_ok(fdl_cuda_probe(0));
    int n = fdl_cuda_usable(usable, 64);
    assert_true(n >= 1 && n <= count && usable[0] == 0);
    assert_int_equal(fdl_cuda_usable(NULL, 0), n);
    check_ok(fdl_cuda_name(0, name, sizeof name));
    assert_true(name[0]);
    check_ok(fdl_cuda_name(0, cut, sizeof cut));
    assert_true(strlen(cut) == 3 && strncmp(cut, name, 3) == 0);
    check_ok(fdl_cuda_capability(0, &major, &minor));
    assert_true(major > 0 && minor >= 0);
    check_ok(fdl_cuda_info(0, &info));
    assert_string_equal(info.name, name);
    assert_true(info.index == 0 && info.sm_major == major && info.sm_minor == minor);
    assert_true(info.multiprocessors > 0 && info.total_memory > 100 * MIB);
    assert_int_equal(strlen(info.uuid), 40);
    assert_true(strncmp(info.uuid, "GPU-", 4) == 0 && info.uuid[12] == '-' && info.uuid[27] == '-');
    int busy = fdl_cuda_utilization(0);
    assert_true(busy >= -1 && busy <= 100);
    assert_int_equal(fdl_cuda_utilization(-1), -1);
    assert_int_equal(fdl_cuda_utilization(count), -1);
    assert_int_equal(fdl_cuda_info(count, &info), FDL_E_DEVICE);
    check_error(FDL_E_DEVICE, "fdl_cuda_info", "this machine has");
    assert_int_equal(fdl_cuda_name(-1, name, sizeof name), FDL_E_DEVICE);
    fdl_clear_error();
    print_message("%s, sm_%d%d, %lld bytes, %s\n", info.name, major, minor, (long long)info.total_memory,
                  info.uuid);
}

static void pinned_memory(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_tensor *x = fdl_randn(FDL_SHAPE(1000)), *p = fdl_pin_memory(x);
    check_some(p);
    assert_int_equal(fdl_device_of(p).type, FDL_DEVICE_TYPE_CPU);
    assert_true(fdl_same(x, p));
    assert_true(fdl_data_ptr(p) != fdl_data_ptr(x));
    assert_ptr_equal(fdl_data_ptr(fdl_pin_memory(p)), fdl_data_ptr(p));
    fdl_tensor *y = fdl_to_device(p, GPU, .non_blocking = true);
    check_ok(fdl_cuda_synchronize(0));
    assert_true(fdl_same(fdl_cpu(y), x));
    assert_null(fdl_pin_memory(y));
    check_error(FDL_E_DEVICE, "fdl_pin_memory");
    assert_null(fdl_add(x, y));
    check_error(FDL_E_DEVICE, "fdl_add", "cuda", "cpu");
    assert_true(fdl_allclose(fdl_cpu(fdl_add(fdl_scalar(2), y)), fdl_add(x, 2.0)));
}

static void random_state(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    check_ok(fdl_manual_seed(5));
    fdl_tensor *a = fdl_randn(FDL_SHAPE(100), .device = GPU);
    fdl_tensor *saved = fdl_rng_state(GPU);
    fdl_tensor *b = fdl_randn(FDL_SHAPE(100), .device = GPU);
    check_ok(fdl_set_rng_state(GPU, saved));
    assert_true(fdl_same(b, fdl_randn(FDL_SHAPE(100), .device = GPU)));
    check_ok(fdl_cuda_manual_seed_all(5));
    assert_true(fdl_same(a, fdl_randn(FDL_SHAPE(100), .device = GPU)));
    assert_false(fdl_same(a, b));
}

/* ---- memory --------------------------------------------------------------------------------------------------- */

static void sizes(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    int64_t allocated, reserved, most, used, total, after;
    fdl_tensor *x = fdl_zeros(FDL_SHAPE(64 * MIB / 4), .device = GPU);
    check_some(x);
    check_ok(fdl_cuda_memory_allocated(0, &allocated));
    check_ok(fdl_cuda_memory_reserved(0, &reserved));
    check_ok(fdl_cuda_max_memory_allocated(0, &most));
    check_ok(fdl_cuda_mem_info(0, &used, &total));
    assert_true(allocated >= 64 * MIB && allocated <= reserved && reserved <= total && most >= allocated);
    assert_true(used >= reserved && used <= total);
    fdl_drop(x);
    check_ok(fdl_cuda_memory_allocated(0, &after));
    assert_true(after <= allocated - 64 * MIB);
    check_ok(fdl_cuda_max_memory_allocated(0, &most));
    assert_true(most >= allocated);
    check_ok(fdl_cuda_reset_peak_memory_stats(0));
    check_ok(fdl_cuda_max_memory_allocated(0, &most));
    assert_true(most == after);
    check_ok(fdl_cuda_empty_cache());
    check_ok(fdl_cuda_memory_reserved(0, &after));
    assert_true(after <= reserved - 64 * MIB);

    fdl_cuda_memory before, m;
    check_ok(fdl_cuda_memory_stats(0, &before));
    fdl_tensor *y = fdl_zeros(FDL_SHAPE(1000), .device = GPU); /* 4000 bytes, rounded up to 4096 */
    check_ok(fdl_cuda_memory_stats(0, &m));
    assert_true(m.blocks.current == before.blocks.current + 1);
    assert_true(m.requested.current == before.requested.current + 4000);
    assert_true(m.allocated.current == before.allocated.current + 4096);
    assert_true(m.allocated.allocated == before.allocated.allocated + 4096);
    assert_true(m.active.current <= m.reserved.current && m.segments.current >= 1);
    assert_true(m.fragmentation >= 0 && m.fragmentation <= 1);
    fdl_drop(y);

    char text[4096];
    FILE *to = tmpfile();
    check_some(to);
    check_ok(fdl_cuda_memory_summary(0, to));
    rewind(to);
    size_t n = fread(text, 1, sizeof text - 1, to);
    text[n] = 0;
    fclose(to);
    assert_non_null(strstr(text, "cuda:0"));
    assert_non_null(strstr(text, "allocated, bytes"));
    assert_non_null(strstr(text, "out of memory"));
    to = fopen("/dev/full", "w");
    check_some(to);
    assert_int_equal(fdl_cuda_memory_summary(0, to), FDL_E_IO);
    fdl_clear_error();
    fclose(to);
}

static void out_of_memory(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_cuda_memory before, after;
    check_ok(fdl_cuda_memory_stats(0, &before));
    assert_null(fdl_empty(FDL_SHAPE(INT64_C(1000000) << 28), .device = GPU)); /* 10^6 GiB */
    check_error(FDL_E_OOM, "fdl_empty", "Tried to allocate 1000000.00 GiB", "cuda:0 has", "bytes",
                "tensors take", "allocator holds");
    check_ok(fdl_cuda_memory_stats(0, &after));
    assert_true(after.ooms == before.ooms + 1);
    assert_true(after.allocated.current == before.allocated.current);
    assert_true(fdl_item(fdl_sum(fdl_ones(FDL_SHAPE(100), .device = GPU))) == 100);
    check_ok(fdl_cuda_empty_cache());
}

typedef struct training {
    fdl_module *model;
    fdl_optim *opt;
    fdl_tensor *x, *y, *loss;
} training;

static fdl_status train_step(void *ctx)
{
    training *t = ctx;
    FDL_TRY(fdl_optim_zero_grad(t->opt));
    t->loss = fdl_mse_loss(fdl_forward(t->model, t->x), t->y);
    FDL_TRY(fdl_backward(t->loss));
    return fdl_optim_step(t->opt);
}

static training new_training(int64_t in, int64_t hidden, int64_t batch)
{
    check_ok(fdl_manual_seed(11));
    training t = {.model = fdl_flow(fdl_nn_linear(in, hidden), fdl_nn_gelu(), fdl_nn_linear(hidden, in))};
    check_some(t.model);
    check_ok(fdl_module_to(t.model, GPU));
    t.opt = fdl_optim_adam(fdl_parameters(t.model), .lr = 1e-2);
    check_some(t.opt);
    t.x = fdl_randn(FDL_SHAPE(batch, in), .device = GPU);
    t.y = fdl_randn(FDL_SHAPE(batch, in), .device = GPU);
    return t;
}

static void free_training(training *t)
{
    fdl_optim_free(t->opt);
    check_ok(fdl_module_free(t->model));
}

static double loss_of_step(training *t)
{
    FDL_SCOPE;
    check_ok(train_step(t));
    return fdl_item(t->loss);
}

/* A training step under a limit that lets it get a little further each time: it fails as FDL_E_OOM wherever memory runs
 * out, and the next step, with memory, is as good as any. */
static void step_out_of_memory(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    training t = new_training(1024, 1024, 4096); /* 16 MiB each activation */
    double first = loss_of_step(&t);
    int64_t reserved, total;
    check_ok(fdl_cuda_mem_info(0, NULL, &total));
    assert_int_equal(fdl_cuda_set_memory_fraction(0, 0), FDL_E_ARG);
    check_error(FDL_E_ARG, "fraction");
    assert_int_equal(fdl_cuda_set_memory_fraction(0, 1.5), FDL_E_ARG);
    check_error(FDL_E_ARG, "1.5");
    int failed = 0, passed = 0;
    for (int64_t extra = 0; extra <= 320 * MIB; extra += 16 * MIB) {
        check_ok(fdl_optim_zero_grad(t.opt));
        check_ok(fdl_cuda_empty_cache());
        check_ok(fdl_cuda_memory_reserved(0, &reserved));
        check_ok(fdl_cuda_set_memory_fraction(0, (double)(reserved + extra) / (double)total));
        fdl_status status;
        {
            FDL_SCOPE;
            status = train_step(&t);
        }
        if (status == FDL_OK) {
            passed++;
        } else {
            failed++;
            assert_int_equal(status, FDL_E_OOM);
            check_error(FDL_E_OOM, "allocate");
        }
        check_ok(fdl_cuda_set_memory_fraction(0, 1));
        double loss = loss_of_step(&t);
        assert_true(isfinite(loss));
    }
    print_message("%d steps ran out of memory, %d passed\n", failed, passed);
    assert_true(failed >= 2 && passed >= 1);
    assert_true(loss_of_step(&t) < first);
    free_training(&t);
}

/* ---- streams and events ------------------------------------------------------------------------------------- */

static bool is_current(fdl_stream *s)
{
    fdl_stream *now = fdl_cuda_stream_current(GPU);
    bool same = fdl_cuda_stream_eq(now, s);
    fdl_cuda_stream_free(now);
    return same;
}

static void *current_of_thread(void *s)
{
    return is_current(s) ? s : NULL;
}

static void early(fdl_stream *outer, fdl_stream *s, fdl_stream *t, bool leave)
{
    assert_true(is_current(outer));
    FDL_STREAM(s);
    assert_true(is_current(s));
    FDL_STREAM(t);
    assert_true(is_current(t));
    if (leave)
        return;
    assert_true(is_current(t));
}

static void streams(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_stream *a = fdl_cuda_stream_new(GPU), *b = fdl_cuda_stream_new(GPU, .high_priority = true);
    fdl_stream *first = fdl_cuda_stream_default(GPU);
    check_some(a);
    check_some(b);
    assert_false(fdl_cuda_stream_eq(a, b));
    assert_true(fdl_device_eq(fdl_cuda_stream_device(a), GPU));
    assert_true(is_current(first));
    {
        FDL_STREAM(a);
        assert_true(is_current(a));
        {
            FDL_STREAM(b);
            assert_true(is_current(b));
            early(b, a, first, true);
            assert_true(is_current(b));
            pthread_t thread;
            void *same;
            assert_int_equal(pthread_create(&thread, NULL, current_of_thread, first), 0);
            assert_int_equal(pthread_join(thread, &same), 0);
            assert_ptr_equal(same, first);
        }
        assert_true(is_current(a));
    }
    assert_true(is_current(first));

    fdl_mode_guard outer = fdl_stream_open(a), inner = fdl_stream_open(b);
    assert_int_equal(fdl_mode_close(outer), FDL_E_STATE);
    check_error(FDL_E_STATE, "reverse order");
    assert_true(is_current(b));
    check_ok(fdl_mode_close(inner));
    check_ok(fdl_mode_close(outer));
    assert_true(is_current(first));

    assert_null(fdl_cuda_stream_new(FDL_CPU));
    check_error(FDL_E_DEVICE, "fdl_cuda_stream_new", "CPU");
    assert_null(fdl_cuda_stream_new(FDL_CUDA(100)));
    check_error(FDL_E_DEVICE, "cuda:100");
    assert_int_equal(fdl_record_stream(fdl_zeros(FDL_SHAPE(1)), a), FDL_E_DEVICE);
    check_error(FDL_E_DEVICE, "fdl_record_stream");
    check_ok(fdl_cuda_stream_synchronize(a));
    assert_true(fdl_cuda_stream_done(a));
    fdl_cuda_stream_free(a);
    fdl_cuda_stream_free(b);
    fdl_cuda_stream_free(first);
}

/* Something that keeps the current stream busy for some milliseconds, and its result: ones. */
static fdl_tensor *busy(void)
{
    FDL_SCOPE;
    fdl_tensor *m = fdl_full(FDL_SHAPE(4096, 4096), 1.0 / 4096, .device = GPU);
    fdl_tensor *x = fdl_ones(FDL_SHAPE(4096, 4096), .device = GPU);
    for (int i = 0; i < 20; i++)
        x = fdl_matmul(m, x);
    FDL_RETURN(x);
}

static void order_between_streams(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_stream *side = fdl_cuda_stream_new(GPU), *here = fdl_cuda_stream_current(GPU);
    fdl_event *e = fdl_cuda_event_new();
    check_some(e);
    assert_true(fdl_cuda_event_done(e)); /* nothing was recorded */
    check_ok(fdl_cuda_event_synchronize(e));
    check_ok(fdl_cuda_stream_wait_event(side, e));
    assert_true(fdl_item(fdl_mean(busy())) == 1); /* cuBLAS is ready */

    /* the side stream works long, the current one waits for its event */
    fdl_tensor *x = fdl_zeros(FDL_SHAPE(4096, 4096), .device = GPU), *late;
    check_ok(fdl_cuda_stream_wait_stream(side, here));
    {
        FDL_STREAM(side);
        late = busy();
        check_ok(fdl_copy_(x, late));
        check_ok(fdl_cuda_event_record(e));
    }
    check_ok(fdl_cuda_stream_wait_event(here, e));
    fdl_tensor *sum = fdl_sum(x);
    assert_true(fdl_item(sum) == 4096.0 * 4096);
    check_ok(fdl_cuda_event_synchronize(e));
    assert_true(fdl_cuda_event_done(e));

    /* a copy from pinned memory on the side stream, used here and freed here */
    fdl_tensor *data = fdl_pin_memory(fdl_arange(0, 1 << 20, 1));
    fdl_tensor *copy;
    {
        FDL_STREAM(side);
        copy = fdl_to_device(data, GPU, .non_blocking = true);
        check_ok(fdl_cuda_event_record_on(e, side));
    }
    check_ok(fdl_cuda_stream_wait_event(here, e));
    check_ok(fdl_record_stream(copy, here));
    assert_true(fdl_same(fdl_cpu(copy), data));

    /* and the other way round */
    fdl_tensor *y = busy();
    check_ok(fdl_cuda_stream_wait_stream(side, here));
    fdl_tensor *z;
    {
        FDL_STREAM(side);
        z = fdl_mul(fdl_sum(y), 2.0);
        assert_true(fdl_item(z) == 2 * 4096.0 * 4096);
    }
    check_ok(fdl_cuda_synchronize(0));
    fdl_cuda_event_free(e);
    fdl_cuda_stream_free(side);
    fdl_cuda_stream_free(here);
}

static void timing(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_event *start = fdl_cuda_event_new(.timing = true), *end = fdl_cuda_event_new(.timing = true);
    fdl_event *plain = fdl_cuda_event_new();
    double ms = -1;
    busy();
    assert_int_equal(fdl_cuda_event_elapsed_ms(start, end, &ms), FDL_E_STATE);
    check_error(FDL_E_STATE, "never recorded");
    check_ok(fdl_cuda_event_record(start));
    busy();
    check_ok(fdl_cuda_event_record(end));
    assert_int_equal(fdl_cuda_event_elapsed_ms(start, end, &ms),
                     FDL_E_STATE); /* it takes longer than this call */
    check_error(FDL_E_STATE, "isn't done");
    check_ok(fdl_cuda_event_synchronize(end));
    assert_true(fdl_cuda_event_done(end));
    check_ok(fdl_cuda_event_elapsed_ms(start, end, &ms));
    assert_true(ms > 0 && ms < 60000);
    check_ok(fdl_cuda_event_record(plain));
    check_ok(fdl_cuda_event_synchronize(plain));
    assert_int_equal(fdl_cuda_event_elapsed_ms(start, plain, &ms), FDL_E_STATE);
    check_error(FDL_E_STATE, ".timing");
    assert_int_equal(fdl_cuda_event_elapsed_ms(start, NULL, &ms), FDL_E_NULL);
    fdl_clear_error();
    fdl_cuda_event_free(start);
    fdl_cuda_event_free(end);
    fdl_cuda_event_free(plain);
}

/* ---- graphs ---------------------------------------------------------------------------------------------------- */

static void usable_as_before(void)
{
    FDL_SCOPE;
    fdl_stream *first = fdl_cuda_stream_default(GPU);
    assert_true(is_current(first));
    fdl_cuda_stream_free(first);
    assert_false(fdl_cuda_is_capturing());
    assert_true(fdl_item(fdl_sum(fdl_ones(FDL_SHAPE(10), .device = GPU))) == 10);
    double u = fdl_item(fdl_mean(fdl_rand(FDL_SHAPE(1000), .device = GPU)));
    assert_true(u > 0.4 && u < 0.6);
    check_ok(fdl_cuda_synchronize(0));
}

static void graph_by_hand(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_tensor *a = fdl_ones(FDL_SHAPE(100), .device = GPU), *b = fdl_ones(FDL_SHAPE(100), .device = GPU);
    fdl_cuda_graph *g = fdl_cuda_graph_new(), *other = fdl_cuda_graph_new();
    fdl_stream *first = fdl_cuda_stream_default(GPU), *side = fdl_cuda_stream_new(GPU);
    check_some(g);
    assert_int_equal(fdl_cuda_graph_replay(g), FDL_E_STATE);
    check_error(FDL_E_STATE, "fdl_cuda_graph_replay", "nothing was captured");
    assert_int_equal(fdl_cuda_graph_end(g), FDL_E_STATE);
    check_error(FDL_E_STATE, "no capture is open");

    check_ok(fdl_cuda_graph_begin(g));
    assert_true(fdl_cuda_is_capturing());
    assert_false(is_current(first));
    fdl_tensor *c = fdl_add(a, b);
    assert_int_equal(fdl_cuda_graph_begin(other), FDL_E_STATE);
    check_error(FDL_E_STATE, "open on this thread");
    assert_null(fdl_cuda_graph_capture(nothing));
    check_error(FDL_E_STATE, "open on this thread");
    assert_int_equal(fdl_cuda_graph_replay(g), FDL_E_STATE);
    check_error(FDL_E_STATE, "still open");
    check_ok(fdl_cuda_graph_end(g));
    usable_as_before();
    fdl_cuda_pool pool = fdl_cuda_graph_pool(g);
    assert_true(pool.hi || pool.lo);

    check_ok(fdl_cuda_graph_replay(g));
    assert_true(fdl_item(fdl_max(c)) == 2 && fdl_item(fdl_min(c)) == 2);
    check_ok(fdl_fill_(a, 5));
    check_ok(fdl_cuda_graph_replay(g));
    assert_true(fdl_item(fdl_max(c)) == 6 && fdl_item(fdl_min(c)) == 6);
    assert_int_equal(fdl_cuda_graph_begin(g), FDL_E_STATE);
    check_error(FDL_E_STATE, "fdl_cuda_graph_reset");

    check_ok(fdl_cuda_graph_reset(g));
    assert_int_equal(fdl_cuda_graph_replay(g), FDL_E_STATE);
    fdl_clear_error();
    pool = fdl_cuda_graph_pool(g);
    assert_true(!pool.hi && !pool.lo);
    check_ok(fdl_fill_(a, 1));
    check_ok(fdl_fill_(b, 2));
    {
        FDL_STREAM(side); /* the stream that is restored is the one from before, not the default */
        check_ok(fdl_cuda_graph_begin(g, .mode = FDL_CAPTURE_THREAD_LOCAL));
        c = fdl_add(a, b);
        check_ok(fdl_cuda_graph_end(g));
        assert_true(is_current(side));
        check_ok(fdl_cuda_graph_replay(g));
        assert_true(fdl_item(fdl_max(c)) == 3);
    }

    /* a stream of the capture that is left open, and a graph that is freed while it captures */
    check_ok(fdl_cuda_graph_begin(other));
    fdl_mode_guard left = fdl_stream_open(side);
    assert_int_equal(fdl_cuda_graph_end(other), FDL_E_STATE);
    check_error(FDL_E_STATE, "FDL_STREAM");
    check_ok(fdl_mode_close(left));
    usable_as_before();
    check_ok(fdl_cuda_graph_begin(other));
    fdl_add(a, b);
    fdl_cuda_graph_free(other);
    usable_as_before();

    assert_int_equal(fdl_cuda_graph_begin(g, .mode = (fdl_capture_mode)9), FDL_E_ARG);
    check_error(FDL_E_ARG, "9");
    assert_int_equal(fdl_cuda_graph_begin(g, .device = FDL_CPU), FDL_E_DEVICE);
    check_error(FDL_E_DEVICE, "CPU");
    check_ok(fdl_cuda_graph_reset(g));
    assert_int_equal(fdl_cuda_graph_begin(g, .pool = {1, 1}), FDL_E_ARG);
    check_error(FDL_E_ARG, "pool");
    usable_as_before();
    fdl_cuda_graph_free(g);
    fdl_cuda_stream_free(first);
    fdl_cuda_stream_free(side);
}

/* Ten replays of a captured step are ten eager steps, also when the rate changes on the way. */
static void graph_of_a_training_step(void **state)
{
    (void)state;
    need_gpu();
    enum { WARM = 3, STEPS = 10 };
    FDL_SCOPE;
    training eager = new_training(8, 16, 32), graphed = new_training(8, 16, 32);
    fdl_tensor *x[STEPS], *y[STEPS];
    for (int i = 0; i < STEPS; i++) {
        x[i] = fdl_randn(FDL_SHAPE(32, 8), .device = GPU);
        y[i] = fdl_randn(FDL_SHAPE(32, 8), .device = GPU);
    }
    double losses[STEPS];
    for (int i = 0; i < WARM; i++)
        loss_of_step(&eager);
    for (int i = 0; i < STEPS; i++) {
        check_ok(fdl_copy_(eager.x, x[i]));
        check_ok(fdl_copy_(eager.y, y[i]));
        if (i == 5)
            check_ok(fdl_optim_set_lr(eager.opt, 2e-3));
        losses[i] = loss_of_step(&eager);
    }
    fdl_cuda_graph *g = fdl_cuda_graph_capture(train_step, .ctx = &graphed, .warmup = FDL_SOME(WARM));
    check_some(g);
    usable_as_before();
    for (int i = 0; i < STEPS; i++) {
        check_ok(fdl_copy_(graphed.x, x[i], .non_blocking = true));
        check_ok(fdl_copy_(graphed.y, y[i], .non_blocking = true));
        if (i == 5)
            check_ok(fdl_optim_set_lr(graphed.opt, 2e-3));
        check_ok(fdl_cuda_graph_replay(g));
        double loss = fdl_item(graphed.loss);
        if (!(fabs(loss - losses[i]) <= 1e-5))
            fail_msg("replay %d: loss %.9g, eager %.9g", i, loss, losses[i]);
    }
    fdl_params *p = fdl_parameters(eager.model), *q = fdl_parameters(graphed.model);
    for (int i = 0; i < fdl_params_count(p); i++)
        assert_true(fdl_allclose(fdl_param_tensor(fdl_params_at(p, i)), fdl_param_tensor(fdl_params_at(q, i)),
                                 .rtol = 1e-5, .atol = 1e-5));
    fdl_cuda_graph_free(g);
    usable_as_before();
    loss_of_step(&graphed); /* and on without the graph */
    free_training(&eager);
    free_training(&graphed);
}

typedef struct body {
    fdl_tensor *x, *y;
    int runs, fails_at;
    fdl_stream *leaves;
} body;

static fdl_status reads_back(void *ctx)
{
    body *b = ctx;
    b->runs++;
    b->y = fdl_dropout(b->x, 0.5, .training = true);
    if (b->runs == b->fails_at) {
        double sum = fdl_item(fdl_sum(b->y));
        return isnan(sum) ? fdl_error_pending() : FDL_OK;
    }
    return fdl_fill_(b->x, 1);
}

static fdl_status gives_up(void *ctx)
{
    body *b = ctx;
    b->y = fdl_add(b->x, 1.0);
    return ++b->runs == b->fails_at ? fdl_fail(FDL_E_CANCELLED, "enough") : FDL_OK;
}

static fdl_status leaves_open(void *ctx)
{
    body *b = ctx;
    b->y = fdl_add(b->x, 1.0);
    if (++b->runs == b->fails_at) {
        fdl_scope_open();
        fdl_stream_open(b->leaves);
    }
    return FDL_OK;
}

static void failed_captures(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    body b = {.x = fdl_ones(FDL_SHAPE(1000), .device = GPU), .fails_at = 4};
    assert_null(fdl_cuda_graph_capture(reads_back, .ctx = &b));
    assert_int_equal(b.runs, 4);
    check_error(FDL_E_STATE, "fdl_item", "captur");
    usable_as_before();
    /* by hand */
    fdl_cuda_graph *g = fdl_cuda_graph_new();
    check_ok(fdl_cuda_graph_begin(g));
    b.y = fdl_dropout(b.x, 0.5, .training = true);
    assert_true(isnan(fdl_item(fdl_sum(b.y))));
    check_error(FDL_E_STATE, "captur");
    assert_int_equal(fdl_cuda_graph_end(g), FDL_E_STATE);
    check_error(FDL_E_STATE, "fdl_cuda_graph_end", "captur");
    usable_as_before();
    check_ok(fdl_cuda_graph_begin(g));
    b.y = fdl_add(b.x, 1.0);
    check_ok(fdl_cuda_graph_end(g));
    check_ok(fdl_cuda_graph_replay(g));
    assert_true(fdl_item(fdl_sum(b.y)) == 2000);
    fdl_cuda_graph_free(g);

    for (int at = 1; at <= 4; at++) { /* in each warm-up run, and in the capture */
        b.runs = 0;
        b.fails_at = at;
        assert_null(fdl_cuda_graph_capture(gives_up, .ctx = &b));
        check_error(FDL_E_CANCELLED, "enough");
        assert_int_equal(b.runs, at);
        usable_as_before();
        b.runs = 0;
        b.leaves = fdl_cuda_stream_new(GPU);
        int depth = fdl_scope_depth();
        assert_null(fdl_cuda_graph_capture(leaves_open, .ctx = &b));
        check_error(FDL_E_STATE, "left a scope or a mode open");
        assert_int_equal(fdl_scope_depth(), depth);
        fdl_cuda_stream_free(b.leaves);
        usable_as_before();
    }
    assert_null(fdl_cuda_graph_capture(NULL));
    check_error(FDL_E_NULL, "body");
    assert_null(fdl_cuda_graph_capture(gives_up, .ctx = &b, .warmup = FDL_SOME(-1)));
    check_error(FDL_E_ARG, "-1");

    b = (body){.x = b.x, .fails_at = -1};
    g = fdl_cuda_graph_capture(gives_up, .ctx = &b, .warmup = FDL_SOME(0));
    check_some(g);
    assert_int_equal(b.runs, 1);
    check_ok(fdl_cuda_graph_replay(g));
    assert_true(fdl_item(fdl_sum(b.y)) == 2000);
    fdl_cuda_graph_free(g);
}

static fdl_generator *own;

static fdl_status drops(void *ctx)
{
    body *b = ctx;
    b->y = fdl_dropout(b->x, 0.5, .training = true);
    return b->y ? FDL_OK : fdl_error_pending();
}

static fdl_status draws(void *ctx)
{
    body *b = ctx;
    b->y = fdl_randn(FDL_SHAPE(1000), .device = GPU, .generator = own);
    return b->y ? FDL_OK : fdl_error_pending();
}

static void random_numbers_in_graphs(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    body b = {.x = fdl_ones(FDL_SHAPE(1000), .device = GPU)};
    fdl_cuda_graph *g = fdl_cuda_graph_capture(drops, .ctx = &b);
    check_some(g);
    fdl_tensor *masks[3];
    for (int i = 0; i < 3; i++) {
        if (i != 1)
            check_ok(fdl_manual_seed(3));
        check_ok(fdl_cuda_graph_replay(g));
        masks[i] = fdl_clone(b.y);
        double kept = fdl_item(fdl_sum(masks[i])) / 2;
        assert_true(kept > 400 && kept < 600);
    }
    assert_false(fdl_same(masks[0], masks[1]));
    assert_true(fdl_same(masks[0], masks[2]));
    fdl_cuda_graph_free(g);

    own = fdl_generator_new(7, GPU);
    fdl_generator *const all[] = {own, NULL};
    g = fdl_cuda_graph_capture(draws, .ctx = &b, .generators = all);
    check_some(g);
    check_ok(fdl_cuda_graph_replay(g));
    masks[0] = fdl_clone(b.y);
    check_ok(fdl_cuda_graph_replay(g));
    assert_false(fdl_same(masks[0], b.y));
    fdl_cuda_graph_free(g);
    /* one that the graph doesn't know: newer libtorch takes it along by itself */
    g = fdl_cuda_graph_capture(draws, .ctx = &b);
    if (!g)
        check_error(FDL_E_STATE, "captur");
    fdl_cuda_graph_free(g);
    usable_as_before();
    fdl_generator_free(own);
}

static fdl_status doubles(void *ctx)
{
    body *b = ctx;
    b->y = fdl_mul(fdl_add(b->x, 1.0), 2.0);
    return b->y ? FDL_OK : fdl_error_pending();
}

static void shared_pool(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_cuda_pool pool = fdl_cuda_pool_new(), another = fdl_cuda_pool_new();
    assert_true(pool.hi || pool.lo);
    assert_true(pool.hi != another.hi || pool.lo != another.lo);
    body b[2] = {{.x = fdl_ones(FDL_SHAPE(1000), .device = GPU)},
                 {.x = fdl_full(FDL_SHAPE(1000), 2, .device = GPU)}};
    fdl_cuda_graph *g[2];
    for (int i = 0; i < 2; i++) {
        g[i] = fdl_cuda_graph_capture(doubles, .ctx = &b[i], .pool = i ? fdl_cuda_graph_pool(g[0]) : pool);
        check_some(g[i]);
        fdl_cuda_pool its = fdl_cuda_graph_pool(g[i]);
        assert_true(its.hi == pool.hi && its.lo == pool.lo);
    }
    for (int round = 1; round <= 3; round++)
        for (int i = 0; i < 2; i++) {
            check_ok(fdl_fill_(b[i].x, round + i));
            check_ok(fdl_cuda_graph_replay(g[i]));
            assert_true(fdl_item(fdl_max(b[i].y)) == 2 * (round + i + 1));
            assert_true(fdl_item(fdl_min(b[i].y)) == 2 * (round + i + 1));
        }
    fdl_cuda_graph_free(g[0]);
    check_ok(fdl_fill_(b[1].x, 9));
    check_ok(fdl_cuda_graph_replay(g[1])); /* the pool lives as long as one of them */
    assert_true(fdl_item(fdl_max(b[1].y)) == 20);
    fdl_cuda_graph_free(g[1]);
    usable_as_before();
}

static void *works_meanwhile(void *sum)
{
    FDL_SCOPE;
    for (int i = 0; i < 20; i++)
        *(double *)sum += fdl_item(fdl_sum(fdl_ones(FDL_SHAPE(1000 * (i + 1)), .device = GPU)));
    return NULL;
}

static fdl_status joins_a_thread(void *ctx)
{
    body *b = ctx;
    pthread_t thread;
    double sum = 0;
    b->y = fdl_add(b->x, 1.0);
    assert_int_equal(pthread_create(&thread, NULL, works_meanwhile, &sum), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(sum == 210000);
    return fdl_mul_scalar_(b->y, 2);
}

static void *ends_it(void *g)
{
    bool right = fdl_cuda_graph_end(g) == FDL_E_STATE;
    fdl_clear_error();
    fdl_cuda_graph_free(g);
    right = right && fdl_error_pending() == FDL_E_STATE;
    fdl_clear_error();
    return right ? g : NULL;
}

static void other_threads(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    body b = {.x = fdl_ones(FDL_SHAPE(1000), .device = GPU)};
    fdl_cuda_graph *g = fdl_cuda_graph_capture(joins_a_thread, .ctx = &b, .mode = FDL_CAPTURE_THREAD_LOCAL);
    check_some(g);
    check_ok(fdl_cuda_graph_replay(g));
    assert_true(fdl_item(fdl_sum(b.y)) == 4000);
    check_ok(fdl_cuda_graph_reset(g));

    check_ok(fdl_cuda_graph_begin(g));
    b.y = fdl_add(b.x, 1.0);
    pthread_t thread;
    void *right;
    assert_int_equal(pthread_create(&thread, NULL, ends_it, g), 0);
    assert_int_equal(pthread_join(thread, &right), 0);
    assert_ptr_equal(right, g);
    check_ok(fdl_cuda_graph_end(g));
    check_ok(fdl_cuda_graph_replay(g));
    assert_true(fdl_item(fdl_sum(b.y)) == 2000);
    fdl_cuda_graph_free(g);
}

/* ---- recurrent weights in one buffer ------------------------------------------------------------------------------- */

/* Counts libtorch's complaints that it has to copy recurrent weights together. */
static void count_copies(int level, const char *line, void *ctx)
{
    (void)level;
    if (strstr(line, "contiguous chunk"))
        ++*(int *)ctx;
}

static fdl_tensor *copied_list(fdl_params *ps, fdl_list *list)
{
    int n = fdl_params_count(ps);
    list->n = n;
    list->at = fdl_scope_alloc(sizeof *list->at * (size_t)n);
    for (int i = 0; i < n; i++)
        list->at[i] = fdl_clone(fdl_param_tensor(fdl_params_at(ps, i)));
    return list->at[n - 1];
}

static void flat_weights(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    int copies = 0, level = fdl_verbosity_level();
    check_ok(fdl_allow_tf32(false, false));
    fdl_set_verbosity(FDL_VERBOSE);
    check_ok(fdl_msg_set_sink(count_copies, &copies));
    for (int kind = 0; kind < 2; kind++)
        for (int way = 0; way < 3; way++) { /* made there, moved there, moved and cast */
            fdl_device at = way ? FDL_CPU : GPU;
            check_ok(fdl_manual_seed(3));
            fdl_module *m =
                kind ? fdl_nn_lstm(6, 8, .layers = 2, .bidirectional = true, .proj = 3, .device = at)
                     : fdl_nn_gru(6, 8, .layers = 2, .bidirectional = true, .device = at);
            check_some(m);
            fdl_params *ps = fdl_parameters(m);
            fdl_tensor *first = fdl_param_tensor(fdl_params_at(ps, 0)), *x = fdl_randn(FDL_SHAPE(5, 2, 6));
            const void *identity = fdl_identity(first);
            fdl_tensor *values = fdl_cpu(fdl_clone(first)), *want = way ? fdl_forward(m, x) : NULL;
            check_ok(fdl_module_to(m, GPU));
            if (way == 2) {
                check_ok(fdl_cast_parameters(m, FDL_FLOAT64));
                x = fdl_double(x);
                want = fdl_double(want);
                values = fdl_double(values);
            }
            assert_ptr_equal(fdl_param_tensor(fdl_params_at(fdl_parameters(m), 0)), first);
            assert_true(fdl_identity(first) == identity && fdl_requires_grad(first) && fdl_is_leaf(first));
            assert_true(fdl_same(fdl_cpu(first), values));
            copies = 0;
            fdl_tensor *y = fdl_forward(m, fdl_cuda(x));
            check_some(y);
            assert_int_equal(copies, 0);
            if (want)
                assert_true(fdl_allclose(fdl_cpu(y), want, .rtol = 1e-4, .atol = 1e-5));
            check_ok(fdl_backward(fdl_sum(y)));
            assert_non_null(fdl_grad(first));
            if (!kind) {
                fdl_list loose;
                check_some(copied_list(ps, &loose));
                fdl_tensor *h0 = fdl_zeros(FDL_SHAPE(4, 2, 8), .device = GPU, .dtype = fdl_dtype_of(x));
                fdl_tensor *z = fdl_gru(fdl_cuda(x), h0, loose, .layers = 2, .bidirectional = true);
                check_some(z);
                assert_true(copies > 0); /* that they are counted at all */
                check_ok(fdl_rnn_flatten(loose, FDL_RNN_GRU, .layers = 2, .bidirectional = true));
                copies = 0;
                assert_true(fdl_allclose(fdl_gru(fdl_cuda(x), h0, loose, .layers = 2, .bidirectional = true),
                                         y, .atol = 1e-5));
                assert_int_equal(copies, 0);
            }
            check_ok(fdl_module_free(m));
        }
    check_ok(fdl_msg_set_sink(NULL, NULL));
    fdl_set_verbosity(level);
    check_ok(fdl_allow_tf32(false, true));
}

static void weights_that_do_not_fit(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_list fit = FDL_LIST(fdl_zeros(FDL_SHAPE(24, 6)), fdl_zeros(FDL_SHAPE(24, 8)),
                            fdl_zeros(FDL_SHAPE(24)), fdl_zeros(FDL_SHAPE(24)));
    check_ok(fdl_rnn_flatten(fit, FDL_RNN_GRU)); /* on the CPU: nothing */
    assert_int_equal(fdl_rnn_flatten(fit, FDL_RNN_GRU, .layers = 3), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_rnn_flatten", "4 params", "3 layers");
    assert_int_equal(fdl_rnn_flatten(fit, FDL_RNN_GRU, .no_bias = true), FDL_E_ARG);
    check_error(FDL_E_ARG, "these have 2");
    assert_int_equal(fdl_rnn_flatten(fit, (fdl_rnn_kind)7), FDL_E_ARG);
    check_error(FDL_E_ARG, "7");
    assert_int_equal(fdl_rnn_flatten(FDL_LIST(fit.at[2], fit.at[3]), FDL_RNN_GRU), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "w_ih");
}

/* ---- a lost context: in a process of its own ------------------------------------------------------------------ */

enum { WRONG = 20 };

static int lose_context(void)
{
    fdl_tensor *x = fdl_ones(FDL_SHAPE(4), .device = GPU);
    fdl_tensor *index = fdl_from_i64((const int64_t[]){99}, FDL_SHAPE(1), .device = GPU);
    if (!x || !index)
        return WRONG;
    fdl_index_select(x, 0, index);
    if (!fdl_error_pending())
        fdl_cuda_synchronize(0);
    const fdl_error *e = fdl_last_error();
    if (e->status != FDL_E_DEVICE || !strstr(e->message, "the CUDA context is lost; restart the process")) {
        printf("%s: %s\n", fdl_status_name(e->status), e->message);
        return WRONG + 1;
    }
    for (int i = 0; i < 3; i++) {
        fdl_clear_error();
        if (i == 0)
            fdl_cuda_synchronize(0);
        else if (i == 1)
            fdl_item(fdl_sum(fdl_add(x, 1.0)));
        else
            fdl_to_device(fdl_ones(FDL_SHAPE(10)), GPU);
        e = fdl_last_error();
        if (e->status != FDL_E_DEVICE || strstr(e->message, "restart")) {
            printf("%d: %s: %s\n", i, fdl_status_name(e->status), e->message);
            return WRONG + 2;
        }
    }
    fdl_clear_error();
    return fdl_item(fdl_sum(fdl_ones(FDL_SHAPE(10)))) == 10 ? 0
                                                            : WRONG + 3; /* the CPU is as good as before */
}

static void lost_context(void **state)
{
    (void)state;
    need_gpu();
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int quiet = open("/dev/null", O_WRONLY); /* the kernel's assertions */
        if (quiet >= 0)
            dup2(quiet, STDERR_FILENO);
        execl("/proc/self/exe", "test_tensor_cuda", "lose", (char *)NULL);
        _exit(WRONG + 9);
    }
    int status;
    assert_true(waitpid(child, &status, 0) == child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "lose") == 0) {
        int code = lose_context();
        fflush(stdout);
        _exit(code);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_device),
        cmocka_unit_test(null_handles),
        cmocka_unit_test(backends),
        cmocka_unit_test(discovery),
        cmocka_unit_test(pinned_memory),
        cmocka_unit_test(random_state),
        cmocka_unit_test(sizes),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(step_out_of_memory),
        cmocka_unit_test(streams),
        cmocka_unit_test(order_between_streams),
        cmocka_unit_test(timing),
        cmocka_unit_test(graph_by_hand),
        cmocka_unit_test(graph_of_a_training_step),
        cmocka_unit_test(failed_captures),
        cmocka_unit_test(random_numbers_in_graphs),
        cmocka_unit_test(shared_pool),
        cmocka_unit_test(other_threads),
        cmocka_unit_test(flat_weights),
        cmocka_unit_test(weights_that_do_not_fit),
        cmocka_unit_test(lost_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
