/* Observing a graph while a trainer runs its steps: what is collected after a step is what that step has computed, also when
 * it was a replay of a captured one. */
#include "job.h"

enum { STEPS = 14 };

static bool on_gpu;

/* A network with a graph inside, both with tags. */
static fdl_module *network(void)
{
    fdl_module *encoder =
        fdl_flow(fdl_flow_label("encoder"), fdl_nn_linear(16, 32), fdl_nn_gelu(), fdl_flow_tag("hidden"));
    return fdl_flow(encoder, fdl_nn_linear(32, 4), fdl_flow_tag("out"));
}

static job new_job(fdl_trainer_capture capture)
{
    check_ok(fdl_manual_seed(3));
    job j = {.model = network(), .factor = 1};
    check_some(j.model);
    j.opt = adam(fdl_parameters(j.model));
    j.tr = fdl_trainer_new(j.model, j.opt, loss_of, .capture = capture, .layout = FDL_LAYOUT_KEEP);
    check_some(j.tr);
    return j;
}

static void observe(job *j)
{
    check_ok(fdl_graph_collect(j->model, "out"));
    check_ok(fdl_graph_collect_with(j->model, FDL_REDUCE_NORM, "out"));
    check_ok(fdl_graph_collect_at(j->model, "encoder.hidden"));
    check_ok(fdl_graph_collect_histogram(j->model, "out"));
}

static void step(job *j, int t, int64_t rows)
{
    FDL_SCOPE;
    fdl_tensor *xy[2];
    batch_of(t, rows, on_gpu ? GPU : FDL_CPU, xy);
    check_ok(fdl_trainer_step(j->tr, FDL_LIST(xy[0], xy[1])));
}

static void same_numbers(job *a, job *b, const char *name, int least)
{
    FDL_SCOPE;
    int64_t n, m;
    const double *x = fdl_graph_collected(a->model, name, &n), *y = fdl_graph_collected(b->model, name, &m);
    assert_int_equal(n, m);
    assert_true(n >= least);
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(x[i] - y[i]) <= 1e-4 * (1 + fabs(y[i]))))
            fail_msg("%s: number %d is %.9g, eagerly %.9g", name, (int)i, x[i], y[i]);
}

static void between_steps(void **state)
{
    (void)state;
    FDL_SCOPE;
    job a = new_job(on_gpu ? FDL_CAPTURE_REQUIRE : FDL_CAPTURE_AUTO), b = new_job(FDL_CAPTURE_OFF);
    for (int t = 0; t < STEPS; t++) {
        step(&a, t, 8);
        step(&b, t, 8);
        observe(&a);
        observe(&b);
        if (t == 9) { /* another forward in between: the next step's values are under the tags again */
            FDL_SCOPE;
            FDL_NO_GRAD;
            fdl_tensor *zeros = fdl_zeros(FDL_SHAPE(3, 16));
            check_some(fdl_forward(a.model, zeros));
            check_some(fdl_forward(b.model, zeros));
            observe(&a);
            observe(&b);
        }
    }
    if (on_gpu)
        expect_plan(a.tr, "captured");
    same_numbers(&a, &b, "out", 2 * STEPS);
    check_ok(fdl_graph_flush(a.model));
    check_ok(fdl_graph_flush(b.model));
    const fdl_trend *x = fdl_graph_trend_at(a.model, "encoder.hidden"),
                    *y = fdl_graph_trend_at(b.model, "encoder.hidden");
    assert_int_equal(fdl_trend_len(x), 1);
    check_number(fdl_trend_latest(x), fdl_trend_latest(y), 1e-5);
    int n, m;
    const fdl_histogram *const *h = fdl_graph_histograms(a.model, "out", &n), *const *k =
                                                                                  fdl_graph_histograms(
                                                                                      b.model, "out", &m);
    assert_int_equal(n, 1);
    assert_int_equal(m, 1);
    check_number(h[0]->num, (STEPS * 8 + 3) * 4, 0);
    check_number(h[0]->num, k[0]->num, 0);
    check_number(h[0]->sum, k[0]->sum, 1e-3 * h[0]->num);
    job_free(&a);
    job_free(&b);
}

/* Batches of two sizes are two captured steps, whose values lie in different places. */
static void batches_of_two_sizes(void **state)
{
    (void)state;
    FDL_SCOPE;
    job a = new_job(on_gpu ? FDL_CAPTURE_REQUIRE : FDL_CAPTURE_AUTO), b = new_job(FDL_CAPTURE_OFF);
    for (int t = 0; t < 2 * STEPS; t++) {
        step(&a, t, t % 2 ? 8 : 5);
        step(&b, t, t % 2 ? 8 : 5);
        observe(&a);
        observe(&b);
        FDL_SCOPE;
        assert_int_equal(fdl_size(fdl_graph_tagged(a.model, "out"), 0), t % 2 ? 8 : 5);
    }
    same_numbers(&a, &b, "out", 4 * STEPS);
    job_free(&a);
    job_free(&b);
}

static fdl_status collected_inside;

static fdl_tensor *loss_that_collects(fdl_module *m, fdl_list batch, void *ctx)
{
    (void)ctx;
    fdl_tensor *loss = fdl_mse_loss(fdl_forward(m, batch.at[0]), batch.at[1]);
    collected_inside = fdl_graph_collect(m, "out");
    return collected_inside == FDL_OK ? loss : NULL;
}

/* In the loss function it would be captured once and never run again: the step stays eager, and says why. */
static void inside_the_loss_function(void **state)
{
    (void)state;
    FDL_SCOPE;
    job a = new_job(FDL_CAPTURE_OFF);
    fdl_trainer_free(a.tr);
    a.tr = fdl_trainer_new(a.model, a.opt, loss_that_collects, .layout = FDL_LAYOUT_KEEP);
    check_some(a.tr);
    for (int t = 0; t < STEPS; t++)
        step(&a, t, 8);
    assert_int_equal(collected_inside, FDL_OK);
    int64_t n;
    (void)fdl_graph_collected(a.model, "out", &n);
    assert_int_equal(n, STEPS);
    if (on_gpu)
        expect_plan(a.tr, "between the steps");
    job_free(&a);
}

static void a_runner_shows_its_last_pass(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_ok(fdl_manual_seed(3));
    fdl_module *m = network();
    check_ok(fdl_eval(m));
    fdl_runner *r = fdl_runner_new(m);
    check_some(r);
    for (int t = 0; t < 20; t++) {
        FDL_SCOPE;
        FDL_NO_GRAD;
        fdl_tensor *x = fdl_randn(FDL_SHAPE(t % 2 ? 3 : 6, 16));
        fdl_tensor *y = fdl_runner_run(r, x);
        check_some(y);
        assert_true(fdl_allclose(fdl_graph_tagged(m, "out"), y));
        check_ok(fdl_graph_record_tensor(m, "plain", fdl_mean(y)));
        check_ok(fdl_graph_collect(m, "out"));
    }
    check_ok(fdl_graph_flush(m));
    check_number(fdl_trend_latest(fdl_graph_trend(m, "out")), fdl_trend_latest(fdl_graph_trend(m, "plain")),
                 1e-6);
    fdl_runner_free(r);
    fdl_module_free(m);
}

static fdl_status collect_after_each(const fdl_step_record *r, void *ctx)
{
    (void)r;
    fdl_module *m = *(fdl_module **)ctx;
    FDL_TRY(fdl_graph_collect(m, "out"));
    return fdl_graph_collect_at(m, "encoder.hidden");
}

static fdl_status points_so_far(const fdl_epoch_record *r, void *ctx)
{
    fdl_module *m = *(fdl_module **)ctx;
    assert_int_equal(fdl_trend_len(fdl_graph_trend(m, "out")), r->epoch + 1);
    return FDL_OK;
}

typedef struct three_batches {
    int t;
} three_batches;

static fdl_status first_batch(void *self, int64_t epoch)
{
    (void)epoch;
    ((three_batches *)self)->t = 0;
    return FDL_OK;
}

static fdl_status next_batch(void *self, fdl_list *batch)
{
    three_batches *b = self;
    *batch = (fdl_list){0, fdl_scope_alloc(2 * sizeof(fdl_tensor *))};
    if (b->t == 3 || !batch->at)
        return batch->at ? FDL_OK : fdl_error_pending();
    batch_of(b->t++, 8, on_gpu ? GPU : FDL_CPU, batch->at);
    batch->n = 2;
    return FDL_OK;
}

/* What .on_step collects is flushed at the end of each epoch, and stands in the monitor's lines. */
static void in_fit(void **state)
{
    (void)state;
    FDL_SCOPE;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    check_some(out);
    fdl_monitor *mon = fdl_monitor_new(4, .out = out);
    job a = new_job(FDL_CAPTURE_OFF);
    fdl_trainer_free(a.tr);
    a.tr = fdl_trainer_new(a.model, a.opt, loss_of, .layout = FDL_LAYOUT_KEEP, .monitor = mon,
                           .on_step = collect_after_each, .on_epoch = points_so_far, .ctx = &a.model);
    check_some(a.tr);
    three_batches batches = {0};
    const fdl_source source = {&batches, first_batch, next_batch, 3};
    check_ok(fdl_trainer_fit_from(a.tr, &source, .epochs = 4));
    assert_int_equal(fdl_trend_len(fdl_graph_trend(a.model, "out")), 4);
    assert_int_equal(fdl_trend_len(fdl_graph_trend_at(a.model, "encoder.hidden")), 4);
    fdl_monitor_free(mon);
    fclose(out);
    const char *last = strstr(text, "epoch 4/4");
    check_some(last);
    const char *of_graph = strstr(last, "  out="), *inner = strstr(last, "  encoder.hidden="),
               *loss = strstr(last, "  loss=");
    assert_true(of_graph && inner && loss && of_graph < inner && inner < loss);
    free(text);
    job_free(&a);
}

int main(void)
{
    on_gpu = on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(between_steps), cmocka_unit_test(batches_of_two_sizes),
        cmocka_unit_test(inside_the_loss_function), cmocka_unit_test(a_runner_shows_its_last_pass),
        cmocka_unit_test(in_fit)};
    return cmocka_run_group_tests_name("train observed", tests, NULL, NULL);
}
