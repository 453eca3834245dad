/* Two GPUs in one process: what belongs to a thread, what to a device, and what passes between them. Each test needs two. */
#include "gpu.h"

#include <math.h>
#include <pthread.h>

#define ONE FDL_CUDA(1)

static bool is_on(fdl_tensor *x, fdl_device d)
{
    return x && fdl_device_eq(fdl_device_of(x), d);
}

static void run_both(void *(*fn)(void *), void *first, void *second)
{
    pthread_t threads[2];
    assert_int_equal(pthread_create(&threads[0], NULL, fn, first), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, fn, second), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* ---- whose what is --------------------------------------------------------------------------------------------------- */

typedef struct visit {
    int index;       /* the device that this thread works on */
    bool no_grad;    /* the mode that it works in */
    char wrong[200]; /* what was not as it should be; "" */
} visit;

static void *visits(void *arg)
{
    visit *v = arg;
    fdl_device mine = FDL_CUDA(v->index);
#define EXPECT(condition) \
    if (!(condition))     \
    return snprintf(v->wrong, sizeof v->wrong, "line %d: %s", __LINE__, #condition), NULL
    EXPECT(fdl_scope_depth() == 0 && fdl_grad_enabled() && fdl_error_pending() == FDL_OK);
    EXPECT(fdl_device_eq(fdl_default_device(), FDL_CPU) && fdl_cuda_current() == 0);
    EXPECT(fdl_set_default_device(mine) == FDL_OK && fdl_cuda_set_current(v->index) == FDL_OK);
    fdl_stream *side = fdl_cuda_stream_new(mine);
    EXPECT(side);
    for (int i = 0; i < 200; i++) {
        FDL_SCOPE;
        FDL_STREAM(side);
        fdl_mode_guard mode = v->no_grad ? fdl_no_grad_open() : fdl_enable_grad_open();
        fdl_tensor *x = fdl_ones(FDL_SHAPE(100 + v->index), .requires_grad = true),
                   *y = fdl_sum(fdl_mul(x, i));
        EXPECT(is_on(y, mine) && fdl_requires_grad(y) == !v->no_grad);
        EXPECT(fdl_item(y) == i * (100 + v->index));
        EXPECT(fdl_scope_depth() == 1 && fdl_cuda_current() == v->index);
        EXPECT(fdl_device_eq(fdl_default_device(), mine) && fdl_grad_enabled() == !v->no_grad);
        fdl_stream *now = fdl_cuda_stream_current(mine);
        EXPECT(fdl_cuda_stream_eq(now, side));
        fdl_cuda_stream_free(now);
        char extent[32]; /* an error of this thread's own */
        snprintf(extent, sizeof extent, "extent -%d", v->index + 5);
        EXPECT(!fdl_zeros(FDL_SHAPE(-(v->index + 5))));
        EXPECT(strstr(fdl_last_error()->message, extent));
        EXPECT(fdl_mode_close(mode) == FDL_OK);
    }
    fdl_cuda_stream_free(side);
    return NULL;
#undef EXPECT
}

static void defaults_modes_errors_and_streams_are_the_threads(void **state)
{
    (void)state;
    need_two_gpus();
    int64_t live = fdl_live_tensors();
    check_ok(fdl_set_default_device(ONE));
    check_ok(fdl_cuda_set_current(1));
    visit a = {.index = 0, .no_grad = true}, b = {.index = 1};
    run_both(visits, &a, &b);
    assert_string_equal(a.wrong, "");
    assert_string_equal(b.wrong, "");
    assert_true(fdl_device_eq(fdl_default_device(), ONE));
    assert_int_equal(fdl_cuda_current(), 1);
    assert_true(fdl_grad_enabled());
    assert_int_equal(fdl_error_pending(), FDL_OK);
    check_ok(fdl_cuda_set_current(0));
    check_ok(fdl_set_default_device(FDL_CPU));
    assert_int_equal(fdl_live_tensors(), live);
}

static void both_names_stand_in_the_error(void **state)
{
    (void)state;
    need_two_gpus();
    FDL_SCOPE;
    fdl_tensor *a = fdl_ones(FDL_SHAPE(2, 2), .device = GPU), *b = fdl_ones(FDL_SHAPE(2, 2), .device = ONE);
    assert_null(fdl_add(a, b));
    check_error(FDL_E_DEVICE, "fdl_add([2, 2] float32 cuda, [2, 2] float32 cuda:1)");
    assert_null(fdl_matmul(b, a));
    check_error(FDL_E_DEVICE, "fdl_matmul([2, 2] float32 cuda:1, [2, 2] float32 cuda)");
    assert_null(fdl_cat(FDL_LIST(a, b), 0));
    check_error(FDL_E_DEVICE, "fdl_cat", "float32 cuda,", "cuda:1");
    assert_int_equal(fdl_mul_(a, b), FDL_E_DEVICE);
    check_error(FDL_E_DEVICE, "fdl_mul_", "float32 cuda,", "cuda:1");
    assert_null(fdl_mul(a, fdl_scalar(2, .device = ONE))); /* 0-d is no excuse between GPUs */
    check_error(FDL_E_DEVICE, "fdl_mul", "[] float32 cuda:1");
    assert_true(fdl_item(fdl_sum(fdl_mul(b, fdl_scalar(2)))) == 8); /* from the CPU it is */
    fdl_module *m = fdl_nn_linear(2, 2, .device = ONE);
    check_some(m);
    assert_null(fdl_forward(m, a));
    check_error(FDL_E_DEVICE, "cuda:1", "float32 cuda,");
    check_ok(fdl_module_free(m));
    /* and everything works on, on both */
    assert_true(fdl_item(fdl_sum(fdl_matmul(a, a))) == 8 && fdl_item(fdl_sum(fdl_matmul(b, b))) == 8);
}

/* ---- from one to the other ---------------------------------------------------------------------------------------------- */

static void copies_between_devices(void **state)
{
    (void)state;
    need_two_gpus();
    FDL_SCOPE;
    fdl_tensor *host = fdl_randn(FDL_SHAPE(1 << 20)), *a = fdl_to_device(host, GPU),
               *b = fdl_to_device(a, ONE);
    assert_true(is_on(a, GPU) && is_on(b, ONE));
    assert_true(fdl_same(fdl_cpu(b), host));
    assert_true(fdl_same(fdl_to_device(b, GPU), a));
    assert_true(fdl_is(fdl_to_device(b, ONE), b)); /* already there */
    assert_true(is_on(fdl_to_device_of(a, b), ONE));
    for (int i = 0; i < 20; i++) { /* what follows waits for the copy, without a word */
        fdl_tensor *there = fdl_to_device(fdl_mul(a, i), ONE, .non_blocking = true);
        assert_true(fdl_same(fdl_to_device(fdl_mul(there, 2), GPU, .non_blocking = true), fdl_mul(a, 2 * i)));
    }
    fdl_tensor *into = fdl_zeros(FDL_SHAPE(2, 1 << 20), .device = ONE, .dtype = FDL_FLOAT64);
    check_ok(fdl_copy_(into, a)); /* broadcast, converted and moved */
    assert_true(fdl_same(fdl_select(into, 0, 1), fdl_double(b)));
    fdl_tensor *strided = fdl_transpose(fdl_reshape(a, FDL_SHAPE(1 << 10, 1 << 10)), 0, 1);
    assert_true(fdl_same(fdl_to_device(fdl_to_device(strided, ONE), GPU), strided));
    fdl_tensor *pinned = fdl_pin_memory(host), *late = fdl_to_device(pinned, ONE, .non_blocking = true);
    check_ok(fdl_cuda_synchronize(1));
    assert_true(fdl_same(late, b));
    assert_int_equal(fdl_cuda_current(), 0); /* none of this moved it */
}

static void a_graph_over_both_devices(void **state)
{
    (void)state;
    need_two_gpus();
    FDL_SCOPE;
    fdl_tensor *w = fdl_full(FDL_SHAPE(3), 2, .device = GPU, .requires_grad = true);
    fdl_tensor *v = fdl_full(FDL_SHAPE(3), 5, .device = ONE, .requires_grad = true);
    for (int i = 0; i < 10; i++) {
        FDL_SCOPE;
        fdl_tensor *y = fdl_mul(fdl_to_device(fdl_square(w), ONE), v); /* w^2 v */
        check_ok(fdl_backward(fdl_sum(fdl_to_device(y, GPU))));
        assert_true(is_on(fdl_grad(w), GPU) && is_on(fdl_grad(v), ONE));
        assert_true(fdl_item(fdl_max(fdl_grad(w))) == 20 && fdl_item(fdl_min(fdl_grad(w))) == 20);
        assert_true(fdl_item(fdl_max(fdl_grad(v))) == 4 && fdl_item(fdl_min(fdl_grad(v))) == 4);
        check_ok(fdl_clear_grad(w));
        check_ok(fdl_clear_grad(v));
    }
    assert_int_equal(fdl_set_grad(w, fdl_zeros(FDL_SHAPE(3), .device = ONE)), FDL_E_DEVICE);
    check_error(FDL_E_DEVICE, "cuda:1");
}

static void a_module_moves(void **state)
{
    (void)state;
    need_two_gpus();
    FDL_SCOPE;
    fdl_module *m = fdl_flow(fdl_nn_linear(8, 8), fdl_nn_gelu(), fdl_nn_linear(8, 4));
    check_some(m);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(5, 8)), *want = fdl_forward(m, x);
    const fdl_device to[] = {GPU, ONE, GPU, ONE, FDL_CPU};
    for (int i = 0; i < 5; i++) {
        check_ok(fdl_module_to(m, to[i]));
        fdl_tensor *y = fdl_forward(m, fdl_to_device(x, to[i]));
        assert_true(is_on(y, to[i]));
        assert_true(fdl_allclose(fdl_cpu(y), want, .rtol = 1e-4, .atol = 1e-5));
    }
    check_ok(fdl_module_free(m));
}

/* ---- streams and events of the other device ---------------------------------------------------------------------------------- */

/* Something that keeps a device busy for some milliseconds, and its result: ones. */
static fdl_tensor *busy(fdl_device d)
{
    FDL_SCOPE;
    fdl_tensor *m = fdl_full(FDL_SHAPE(4096, 4096), 1.0 / 4096, .device = d);
    fdl_tensor *x = fdl_ones(FDL_SHAPE(4096, 4096), .device = d);
    for (int i = 0; i < 20; i++)
        x = fdl_matmul(m, x);
    FDL_RETURN(x);
}

static bool is_current(fdl_device d, fdl_stream *s)
{
    fdl_stream *now = fdl_cuda_stream_current(d);
    bool same = fdl_cuda_stream_eq(now, s);
    fdl_cuda_stream_free(now);
    return same;
}

static void streams_of_both_devices(void **state)
{
    (void)state;
    need_two_gpus();
    FDL_SCOPE;
    fdl_stream *of_0 = fdl_cuda_stream_new(GPU), *of_1 = fdl_cuda_stream_new(ONE);
    fdl_stream *first_0 = fdl_cuda_stream_default(GPU), *first_1 = fdl_cuda_stream_default(ONE);
    check_some(of_0);
    check_some(of_1);
    assert_false(fdl_cuda_stream_eq(first_0, first_1));
    assert_true(fdl_device_eq(fdl_cuda_stream_device(of_1), ONE));
    {
        FDL_STREAM(of_1); /* device 0's stays, and which device is current too */
        assert_true(is_current(ONE, of_1) && is_current(GPU, first_0));
        assert_int_equal(fdl_cuda_current(), 0);
        {
            FDL_STREAM(of_0);
            assert_true(is_current(ONE, of_1) && is_current(GPU, of_0));
            fdl_tensor *x = fdl_ones(FDL_SHAPE(100), .device = ONE),
                       *y = fdl_ones(FDL_SHAPE(100), .device = GPU);
            assert_true(fdl_item(fdl_sum(x)) == 100 && fdl_item(fdl_sum(y)) == 100);
        }
        assert_true(is_current(ONE, of_1) && is_current(GPU, first_0));
    }
    assert_true(is_current(ONE, first_1) && is_current(GPU, first_0));
    /* A stream of another device may use a tensor: devices reach each other's memory. */
    check_ok(fdl_record_stream(fdl_ones(FDL_SHAPE(10), .device = GPU), of_1));
    fdl_cuda_stream_free(of_0);
    fdl_cuda_stream_free(of_1);
    fdl_cuda_stream_free(first_0);
    fdl_cuda_stream_free(first_1);
}

static void events_order_work_between_devices(void **state)
{
    (void)state;
    need_two_gpus();
    FDL_SCOPE;
    fdl_stream *of_0 = fdl_cuda_stream_new(GPU), *of_1 = fdl_cuda_stream_new(ONE);
    fdl_event *done = fdl_cuda_event_new(), *bound = fdl_cuda_event_new();
    fdl_event *start = fdl_cuda_event_new(.timing = true), *end = fdl_cuda_event_new(.timing = true);
    for (int i = 0; i < 2; i++) /* cuBLAS is ready on both */
        assert_true(fdl_item(fdl_mean(busy(FDL_CUDA(i)))) == 1);
    fdl_tensor *x = fdl_zeros(FDL_SHAPE(4096, 4096), .device = ONE), *sum, *late;
    check_ok(fdl_cuda_synchronize(1));
    {
        FDL_STREAM(of_1);
        late = busy(ONE);
        check_ok(fdl_copy_(x, late));
        check_ok(fdl_cuda_event_record_on(done, of_1));
    }
    check_ok(fdl_cuda_stream_wait_event(of_0, done)); /* device 0 waits for device 1, and copies from it */
    {
        FDL_STREAM(of_0);
        fdl_stream *here = fdl_cuda_stream_default(ONE);
        check_ok(fdl_cuda_stream_wait_event(here, done));
        sum = fdl_sum(fdl_to_device(x, GPU));
        assert_true(fdl_item(sum) == 4096.0 * 4096);
        fdl_cuda_stream_free(here);
    }
    check_ok(fdl_cuda_event_synchronize(done));
    assert_true(fdl_cuda_event_done(done));
    /* an event is of the device on which it was recorded first */
    check_ok(fdl_cuda_event_record_on(bound, of_0));
    assert_int_equal(fdl_cuda_event_record_on(bound, of_1), FDL_E_DEVICE);
    check_error(FDL_E_DEVICE, "fdl_cuda_event_record_on");
    /* time passes on device 1 too */
    double ms = -1;
    check_ok(fdl_cuda_event_record_on(start, of_1));
    {
        FDL_STREAM(of_1);
        busy(ONE);
    }
    check_ok(fdl_cuda_event_record_on(end, of_1));
    check_ok(fdl_cuda_event_synchronize(end));
    check_ok(fdl_cuda_event_elapsed_ms(start, end, &ms));
    assert_true(ms > 0 && ms < 60000);
    /* a stream waits for one of the other device */
    fdl_tensor *slow;
    {
        FDL_STREAM(of_0);
        slow = busy(GPU);
    }
    check_ok(fdl_cuda_stream_wait_stream(of_1, of_0));
    {
        FDL_STREAM(of_0);
        FDL_STREAM(of_1);
        assert_true(fdl_item(fdl_mean(fdl_to_device(slow, ONE))) == 1);
    }
    fdl_event *const events[] = {done, bound, start, end};
    for (int i = 0; i < 4; i++)
        fdl_cuda_event_free(events[i]);
    fdl_cuda_stream_free(of_0);
    fdl_cuda_stream_free(of_1);
}

/* ---- memory -------------------------------------------------------------------------------------------------------------------- */

static void memory_is_counted_on_its_device(void **state)
{
    (void)state;
    need_two_gpus();
    FDL_SCOPE;
    int64_t before[2] = {allocated_on(0), allocated_on(1)}, peak[2], reserved[2];
    check_ok(fdl_cuda_reset_peak_memory_stats(0));
    check_ok(fdl_cuda_reset_peak_memory_stats(1));
    fdl_tensor *x = fdl_zeros(FDL_SHAPE(64 * MIB / 4), .device = ONE);
    check_some(x);
    assert_true(allocated_on(1) == before[1] + 64 * MIB && allocated_on(0) == before[0]);
    fdl_drop(x);
    assert_true(allocated_on(1) == before[1] && allocated_on(0) == before[0]);
    for (int i = 0; i < 2; i++) {
        check_ok(fdl_cuda_max_memory_allocated(i, &peak[i]));
        check_ok(fdl_cuda_memory_reserved(i, &reserved[i]));
    }
    assert_true(peak[0] == before[0] && peak[1] == before[1] + 64 * MIB);
    check_ok(fdl_cuda_empty_cache()); /* of all devices */
    int64_t after;
    check_ok(fdl_cuda_memory_reserved(1, &after));
    assert_true(after <= reserved[1] - 64 * MIB);
    char text[4096];
    FILE *to = tmpfile();
    check_some(to);
    check_ok(fdl_cuda_memory_summary(1, to));
    rewind(to);
    text[fread(text, 1, sizeof text - 1, to)] = 0;
    fclose(to);
    assert_non_null(strstr(text, "cuda:1"));
}

static void one_device_without_memory_leaves_the_other(void **state)
{
    (void)state;
    need_two_gpus();
    FDL_SCOPE;
    int64_t reserved, total, before = allocated_on(1);
    check_ok(fdl_cuda_empty_cache());
    check_ok(fdl_cuda_memory_reserved(1, &reserved));
    check_ok(fdl_cuda_mem_info(1, NULL, &total));
    check_ok(fdl_cuda_set_memory_fraction(1, (double)(reserved + 32 * MIB) / (double)total));
    assert_null(fdl_zeros(FDL_SHAPE(64 * MIB), .device = ONE));
    check_error(FDL_E_OOM, "fdl_zeros", "Tried to allocate 256.00 MiB", "cuda:1 has", "bytes");
    assert_int_equal(allocated_on(1), before);
    fdl_tensor *x = fdl_ones(FDL_SHAPE(64 * MIB), .device = GPU); /* the same on device 0 */
    assert_true(fdl_item(fdl_mean(x)) == 1);
    assert_null(fdl_to_device(x, ONE));
    check_error(FDL_E_OOM, "fdl_to_device", "cuda:1 has");
    assert_true(fdl_item(fdl_sum(fdl_ones(FDL_SHAPE(100), .device = ONE))) == 100);
    check_ok(fdl_cuda_set_memory_fraction(1, 1));
    assert_true(fdl_item(fdl_mean(fdl_to_device(x, ONE))) == 1);
    fdl_drop(x);
    check_ok(fdl_cuda_empty_cache());
}

/* ---- random numbers ---------------------------------------------------------------------------------------------------------------- */

static void each_device_has_its_generator(void **state)
{
    (void)state;
    need_two_gpus();
    FDL_SCOPE;
    check_ok(fdl_manual_seed(5)); /* of all */
    fdl_tensor *a = fdl_randn(FDL_SHAPE(100), .device = GPU), *b = fdl_randn(FDL_SHAPE(100), .device = ONE);
    assert_true(fdl_same(fdl_cpu(a), fdl_cpu(b)));
    fdl_tensor *saved = fdl_rng_state(ONE), *next = fdl_randn(FDL_SHAPE(10), .device = ONE);
    fdl_tensor *of_0 = fdl_randn(FDL_SHAPE(10), .device = GPU); /* doesn't move device 1's */
    check_ok(fdl_set_rng_state(ONE, saved));
    assert_true(fdl_same(fdl_randn(FDL_SHAPE(10), .device = ONE), next));
    assert_true(fdl_same(fdl_cpu(of_0), fdl_cpu(next)));
    assert_false(fdl_same(fdl_cpu(fdl_randn(FDL_SHAPE(10), .device = GPU)), fdl_cpu(next)));
    fdl_generator *own = fdl_generator_new(5, ONE);
    check_some(own);
    assert_true(fdl_same(fdl_randn(FDL_SHAPE(100), .device = ONE, .generator = own), b));
    fdl_generator_free(own);
}

/* ---- CUDA graphs ---------------------------------------------------------------------------------------------------------------------- */

typedef struct captured {
    int index;
    fdl_module *model;
    fdl_optim *opt;
    fdl_tensor *x, *y, *loss;
    bool failed;
} captured;

static fdl_status train_step(void *ctx)
{
    captured *c = ctx;
    FDL_TRY(fdl_optim_zero_grad(c->opt));
    c->loss = fdl_mse_loss(fdl_forward(c->model, c->x), c->y);
    FDL_TRY(fdl_backward(c->loss));
    return fdl_optim_step(c->opt);
}

/* A model with dropout and its optimizer on one device: the same numbers every time. */
static captured new_training(int index)
{
    fdl_device d = FDL_CUDA(index);
    captured c = {.index = index};
    check_ok(fdl_manual_seed(11));
    c.model = fdl_flow(fdl_nn_linear(16, 64), fdl_nn_gelu(), fdl_nn_dropout(0.25), fdl_nn_layer_norm(64),
                       fdl_flow_also(fdl_nn_linear(64, 64)), fdl_nn_linear(64, 4));
    check_some(c.model);
    c.x = fdl_to_device(fdl_randn(FDL_SHAPE(32, 16)), d);
    c.y = fdl_to_device(fdl_randn(FDL_SHAPE(32, 4)), d);
    check_ok(fdl_module_to(c.model, d));
    c.opt = fdl_optim_adam(fdl_parameters(c.model), .lr = 1e-2);
    check_some(c.opt);
    return c;
}

static void free_training(captured *c)
{
    fdl_optim_free(c->opt);
    check_ok(fdl_module_free(c->model));
}

static void a_graph_on_the_second_device(void **state)
{
    (void)state;
    need_two_gpus();
    FDL_SCOPE;
    captured c[2] = {new_training(1), new_training(1)};
    for (int i = 0; i < 2; i++)
        check_ok(fdl_eval(c[i].model)); /* without dropout: replays draw other numbers than eager steps */
    fdl_cuda_graph *g = fdl_cuda_graph_capture(train_step, .ctx = &c[0], .device = ONE);
    check_some(g);
    assert_int_equal(fdl_cuda_current(), 0);
    assert_false(fdl_cuda_is_capturing());
    for (int i = 0; i < 10; i++)
        check_ok(fdl_cuda_graph_replay(g));
    for (int i = 0; i < 3 + 10; i++) { /* warm-up and replays */
        FDL_SCOPE;
        check_ok(train_step(&c[1]));
    }
    fdl_params *p = fdl_parameters(c[0].model), *q = fdl_parameters(c[1].model);
    for (int i = 0; i < fdl_params_count(p); i++) {
        fdl_tensor *a = fdl_param_tensor(fdl_params_at(p, i)), *b = fdl_param_tensor(fdl_params_at(q, i));
        assert_true(is_on(a, ONE) && fdl_allclose(a, b, .rtol = 1e-5, .atol = 1e-5));
    }
    fdl_cuda_graph_free(g);
    for (int i = 0; i < 2; i++)
        free_training(&c[i]);
}

static fdl_status doubles(void *ctx)
{
    captured *c = ctx;
    c->y = fdl_mul(fdl_add(c->x, 1.0), 2.0);
    return c->y ? FDL_OK : fdl_error_pending();
}

static void *captures(void *arg)
{
    captured *c = arg;
    c->failed = true;
    for (int i = 0; i < 20; i++) {
        FDL_SCOPE;
        c->x = fdl_full(FDL_SHAPE(1000), i, .device = FDL_CUDA(c->index));
        fdl_cuda_graph *g = fdl_cuda_graph_capture(doubles, .ctx = c, .device = FDL_CUDA(c->index),
                                                   .mode = FDL_CAPTURE_THREAD_LOCAL);
        bool right = g && fdl_cuda_graph_replay(g) == FDL_OK && fdl_item(fdl_sum(c->y)) == 2000 * (i + 1);
        fdl_cuda_graph_free(g);
        if (!right) {
            print_error("cuda:%d, capture %d: %s\n", c->index, i, fdl_last_error()->message);
            return NULL;
        }
    }
    c->failed = false;
    return NULL;
}

static void two_threads_capture_on_two_devices(void **state)
{
    (void)state;
    need_two_gpus();
    captured c[2] = {{.index = 0}, {.index = 1}};
    run_both(captures, &c[0], &c[1]);
    assert_false(c[0].failed || c[1].failed);
}

/* ---- training on both ------------------------------------------------------------------------------------------------------------------ */

enum { STEPS = 100 };

typedef struct training {
    captured c;
    double loss[STEPS];
    fdl_status status;
} training;

static void *trains(void *arg)
{
    training *t = arg;
    for (int i = 0; i < STEPS; i++) {
        FDL_SCOPE;
        t->status = train_step(&t->c);
        if (t->status != FDL_OK) {
            print_error("cuda:%d, step %d: %s\n", t->c.index, i, fdl_last_error()->message);
            return NULL;
        }
        t->loss[i] = fdl_item(t->c.loss);
    }
    return NULL;
}

static void two_threads_train_as_one_after_the_other(void **state)
{
    (void)state;
    need_two_gpus();
    FDL_SCOPE;
    int64_t live = fdl_live_tensors();
    {
        FDL_SCOPE;
        static training together[2], alone[2];
        for (int i = 0; i < 2; i++)
            together[i].c = new_training(i);
        check_ok(fdl_cuda_manual_seed_all(99)); /* dropout: each device draws from its own generator */
        run_both(trains, &together[0], &together[1]);
        for (int i = 0; i < 2; i++)
            alone[i].c = new_training(i);
        check_ok(fdl_cuda_manual_seed_all(99));
        for (int i = 0; i < 2; i++)
            trains(&alone[i]);
        for (int i = 0; i < 2; i++) {
            check_ok(together[i].status);
            check_ok(alone[i].status);
            for (int k = 0; k < STEPS; k++)
                if (together[i].loss[k] != alone[i].loss[k])
                    fail_msg("cuda:%d, step %d: loss %.9g together, %.9g alone", i, k, together[i].loss[k],
                             alone[i].loss[k]);
            assert_true(alone[i].loss[STEPS - 1] < alone[i].loss[0] / 2);
            fdl_params *p = fdl_parameters(together[i].c.model), *q = fdl_parameters(alone[i].c.model);
            for (int k = 0; k < fdl_params_count(p); k++)
                assert_true(
                    fdl_same(fdl_param_tensor(fdl_params_at(p, k)), fdl_param_tensor(fdl_params_at(q, k))));
        }
        /* two GPUs of one kind: the same numbers on both */
        check_number(alone[1].loss[STEPS - 1], alone[0].loss[STEPS - 1],
                     1e-3 * fabs(alone[0].loss[STEPS - 1]));
        for (int i = 0; i < 2; i++) {
            free_training(&together[i].c);
            free_training(&alone[i].c);
        }
    }
    assert_int_equal(fdl_live_tensors(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_modes_errors_and_streams_are_the_threads),
        cmocka_unit_test(both_names_stand_in_the_error),
        cmocka_unit_test(copies_between_devices),
        cmocka_unit_test(a_graph_over_both_devices),
        cmocka_unit_test(a_module_moves),
        cmocka_unit_test(streams_of_both_devices),
        cmocka_unit_test(events_order_work_between_devices),
        cmocka_unit_test(memory_is_counted_on_its_device),
        cmocka_unit_test(one_device_without_memory_leaves_the_other),
        cmocka_unit_test(each_device_has_its_generator),
        cmocka_unit_test(a_graph_on_the_second_device),
        cmocka_unit_test(two_threads_capture_on_two_devices),
        cmocka_unit_test(two_threads_train_as_one_after_the_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
