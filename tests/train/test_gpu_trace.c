/* The benchmarks' record of what a GPU does (benchmarks/parts/gpu_trace.h): its arithmetic without one; on one, kernels of known
 * calls, kernels inside graphs, and that a training step never waits for the device. */
#include "check.h"

#include "gpu_trace.h"
#include "kernel_class.h"

static bool on_gpu;

/* ---- without a device ------------------------------------------------------------------------------------- */

static void busy_is_the_union(void **state)
{
    (void)state;
    char *names[] = {(char *)"a", (char *)"b"};
    /* 0 to 30 in pieces that overlap, touch and contain each other; a pause; 50 to 60. */
    gpu_span spans[] = {{"a", 0, 10, 1, GPU_KERNEL},  {"b", 5, 20, 2, GPU_KERNEL},
                        {"a", 6, 7, 3, GPU_KERNEL},   {"b", 20, 30, 2, GPU_KERNEL},
                        {"a", 50, 60, 1, GPU_KERNEL}, {"b", 55, 60, 2, GPU_FILL}};
    gpu_trace t = {.spans = spans, .n = 6, .names = names, .n_names = 2};
    check_number(gpu_trace_busy(&t), 40e-9, 1e-15);
    check_number(gpu_trace_sum(&t), 51e-9, 1e-15);
    check_number(gpu_trace_busy(&(gpu_trace){0}), 0, 0);
}

/* tests/bench/run.sh asks the same of the table in Python. */
static void kernels_have_classes(void **state)
{
    (void)state;
    const char *const *names = kernel_class_names();
    assert_non_null(names);
    FILE *file = fopen(FLODL_SOURCE_DIR "/tests/bench/kernel_names.txt", "r");
    assert_non_null(file);
    char line[1024];
    int rows = 0;
    while (fgets(line, sizeof line, file)) {
        if (*line == '#')
            continue;
        line[strcspn(line, "\n")] = '\0';
        char *name = strchr(line, '\t');
        assert_non_null(name);
        *name++ = '\0';
        const int k = kernel_class_of(name);
        assert_true(k >= 0);
        if (strcmp(names[k], line) != 0)
            fail_msg("%s is \"%s\", not \"%s\"", name, names[k], line);
        rows++;
    }
    fclose(file);
    assert_true(rows > 20);
}

static void without_a_device_it_says_why(void **state)
{
    (void)state;
    if (fdl_cuda_available())
        skip();
    assert_false(gpu_trace_begin(true));
    assert_true(*gpu_trace_why());
    gpu_trace t;
    assert_false(gpu_trace_end(&t));
    assert_true(t.n == 0 && !t.spans);
    gpu_trace_free(&t);
}

/* ---- on a device -------------------------------------------------------------------------------------------- */

/* False: this build can't record, which a GPU machine's output must show. */
static bool begins(bool calls)
{
    if (gpu_trace_begin(calls))
        return true;
    print_message("skipped: %s\n", gpu_trace_why());
    return false;
}

static gpu_trace ended(void)
{
    gpu_trace t;
    if (!gpu_trace_end(&t))
        fail_msg("%s", gpu_trace_why());
    assert_int_equal(t.incomplete, 0);
    return t;
}

#define trace_equal(t, got, want)                                                        \
    do {                                                                                 \
        if ((int64_t)(got) != (int64_t)(want)) {                                         \
            gpu_trace_print(&(t), stderr, 40);                                           \
            fail_msg("%s is %lld, not %lld", #got, (long long)(got), (long long)(want)); \
        }                                                                                \
    } while (0)

static void kernels_and_waits_are_counted(void **state)
{
    (void)state;
    if (!on_gpu)
        skip();
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1000));
    check_some(fdl_add(x, x));
    if (!begins(true))
        skip();
    for (int i = 0; i < 5; i++)
        check_some(fdl_add(x, x));
    gpu_trace t = ended();
    gpu_trace_print(&t, stdout, 40);
    trace_equal(t, t.kernels, 5);
    trace_equal(t, t.calls.launches >= 5, true);
    trace_equal(t, t.calls.waits, 0);
    assert_true(gpu_trace_busy(&t) > 0 && gpu_trace_busy(&t) <= gpu_trace_sum(&t) * (1 + 1e-9));
    double seconds[KERNEL_CLASSES_MAX];
    int64_t n[KERNEL_CLASSES_MAX];
    assert_true(gpu_trace_classes(&t, seconds, n));
    const int pointwise = kernel_class_of("elementwise");
    trace_equal(t, n[pointwise], 5);
    gpu_trace_free(&t);

    assert_true(begins(true));
    for (int i = 0; i < 3; i++)
        check_number(fdl_item(fdl_select(x, 0, i)), 1, 0);
    t = ended();
    gpu_trace_print(&t, stdout, 40);
    trace_equal(t, t.copies.to_host, 3);
    trace_equal(t, t.calls.waits >= 3, true);
    gpu_trace_free(&t);
}

static fdl_status four_adds(void *ctx)
{
    fdl_tensor *x = ctx;
    for (int i = 0; i < 4; i++)
        if (!fdl_add(x, x))
            return FDL_E_TORCH;
    return FDL_OK;
}

static void kernels_in_graphs_are_seen(void **state)
{
    (void)state;
    if (!on_gpu)
        skip();
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1000));
    fdl_cuda_graph *g = fdl_cuda_graph_capture(four_adds, .ctx = x);
    check_some(g);
    check_ok(fdl_cuda_graph_replay(g));
    if (!begins(true))
        skip();
    for (int i = 0; i < 3; i++)
        check_ok(fdl_cuda_graph_replay(g));
    gpu_trace t = ended();
    gpu_trace_print(&t, stdout, 40);
    trace_equal(t, t.kernels, 12);
    trace_equal(t, t.calls.graph_launches >= 3, true);
    trace_equal(t, t.calls.launches, 0);
    trace_equal(t, t.calls.waits, 0);
    gpu_trace_free(&t);
    fdl_cuda_graph_free(g);
}

/* However many parameters, a step of Adam is a few kernels. */
static void adam_takes_few_kernels(void **state)
{
    (void)state;
    if (!on_gpu)
        skip();
    FDL_SCOPE;
    fdl_module *many = fdl_flow(fdl_nn_linear(8, 8));
    for (int i = 1; i < 100; i++)
        many = fdl_flow(many, fdl_nn_linear(8, 8));
    check_some(many);
    fdl_optim *o = fdl_optim_adam(fdl_parameters(many));
    assert_int_equal(fdl_optim_params(o, 0).n, 200);
    for (int i = 0; i < 200; i++) {
        fdl_tensor *p = fdl_optim_params(o, 0).at[i];
        check_ok(fdl_set_grad(p, fdl_ones_like(p)));
    }
    check_ok(fdl_optim_step(o)); /* makes the state */
    check_ok(fdl_optim_step(o));
    if (!begins(true))
        skip();
    check_ok(fdl_optim_step(o));
    gpu_trace t = ended();
    gpu_trace_print(&t, stdout, 40);
    trace_equal(t, t.kernels > 0 && t.kernels < 10, true);
    trace_equal(t, t.calls.waits, 0);
    gpu_trace_free(&t);
    fdl_optim_free(o);
    check_ok(fdl_module_free(many));
}

static fdl_tensor *loss_of(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_mse_loss(fdl_forward(model, batch.at[0]), batch.at[1]);
}

static void check_no_waits(fdl_trainer_capture capture, const char *what)
{
    enum { STEPS = 20 };
    FDL_SCOPE;
    check_ok(fdl_manual_seed(1));
    fdl_module *model = fdl_flow(fdl_nn_linear(32, 64), fdl_nn_batch_norm1d(64), fdl_nn_relu(),
                                 fdl_nn_dropout(0.1), fdl_nn_linear(64, 8));
    check_some(model);
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(model));
    fdl_trainer *tr = fdl_trainer_new(model, opt, loss_of, .clip_norm = 1.0, .capture = capture);
    check_some(tr);
    fdl_list batches[] = {FDL_LIST(fdl_randn(FDL_SHAPE(16, 32)), fdl_randn(FDL_SHAPE(16, 8))),
                          FDL_LIST(fdl_randn(FDL_SHAPE(16, 32)), fdl_randn(FDL_SHAPE(16, 8)))};
    /* Past the trainer's second looks after 10 and 100 replays. */
    for (int i = 0; i < 130; i++)
        check_ok(fdl_trainer_step(tr, batches[i % 2]));
    if (begins(true)) {
        for (int i = 0; i < STEPS; i++)
            check_ok(fdl_trainer_step(tr, batches[i % 2]));
        gpu_trace t = ended();
        print_message("%s:\n", what);
        gpu_trace_print(&t, stdout, 10);
        trace_equal(t, t.calls.waits, 0);
        trace_equal(t, t.copies.pageable_to_host, 0); /* a captured step tells its loss to pinned memory */
        trace_equal(t, t.copies.pageable_to_device, 0);
        trace_equal(t, t.calls.graph_launches >= (capture == FDL_CAPTURE_OFF ? 0 : STEPS), true);
        gpu_trace_free(&t);
    }
    fdl_trainer_free(tr);
    fdl_optim_free(opt);
    check_ok(fdl_module_free(model));
}

static void a_training_step_never_waits(void **state)
{
    (void)state;
    if (!on_gpu)
        skip();
    check_no_waits(FDL_CAPTURE_OFF, "20 eager steps");
    check_no_waits(FDL_CAPTURE_REQUIRE, "20 captured steps");
}

int main(void)
{
    on_gpu = on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(busy_is_the_union),
        cmocka_unit_test(kernels_have_classes),
        cmocka_unit_test(without_a_device_it_says_why),
        cmocka_unit_test(kernels_and_waits_are_counted),
        cmocka_unit_test(kernels_in_graphs_are_seen),
        cmocka_unit_test(adam_takes_few_kernels),
        cmocka_unit_test(a_training_step_never_waits),
    };
    return cmocka_run_group_tests_name("gpu_trace", tests, NULL, NULL);
}
