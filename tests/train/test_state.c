/* Training models that carry state from step to step: a trainer cuts its history by itself, and a captured step reads and
 * writes it as an eager one does. */
#include "job.h"

/* x + half of the state. */
static fdl_tensor *leaky_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    return fdl_add(x, fdl_mul(fdl_refs_need(r, "memory"), 0.5));
}

static const fdl_module_ops leaky_ops = {.kind = "leaky", .forward_named = leaky_forward};

static fdl_module *remembers(void)
{
    fdl_module *core = fdl_flow(fdl_nn_linear(16, 32), fdl_nn_tanh(), fdl_module_new(&leaky_ops),
                                fdl_flow_using("memory"), fdl_flow_tag("memory"), fdl_flow_label("core"));
    return fdl_flow(core, fdl_flow_also(fdl_nn_linear(32, 32)), fdl_flow_tag("hidden"), fdl_nn_linear(32, 4));
}

static fdl_module *core_of(fdl_module *model)
{
    return fdl_module_child_at(model, 0, NULL);
}

static double sum_of(fdl_tensor *x)
{
    check_some(x);
    return fdl_item(fdl_sum(x));
}

static void same_number(double got, double want, double tolerance, const char *what, int t)
{
    if (!(fabs(got - want) <= tolerance * (1 + fabs(want))))
        fail_msg("%s of step %d is %.9g, expected %.9g", what, t + 1, got, want);
}

/* ---- anywhere ------------------------------------------------------------------------------------------ */

/* A trainer does what a loop by hand does that ends each step. */
static void a_trainer_ends_each_step(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *models[2];
    fdl_optim *opts[2];
    for (int i = 0; i < 2; i++) {
        check_ok(fdl_manual_seed(3));
        models[i] = remembers();
        check_ok(fdl_module_to(models[i], FDL_CPU));
        opts[i] = adam(fdl_parameters(models[i]));
    }
    fdl_trainer *tr = fdl_trainer_new(models[0], opts[0], loss_of);
    for (int t = 0; t < 6; t++) {
        FDL_SCOPE;
        fdl_tensor *xy[2];
        batch_of(t, 8, FDL_CPU, xy);
        check_ok(fdl_trainer_step(tr, FDL_LIST(xy[0], xy[1])));
        fdl_tensor *loss = fdl_mse_loss(fdl_forward(models[1], xy[0]), xy[1]);
        check_ok(fdl_optim_zero_grad(opts[1]));
        check_ok(fdl_backward(loss));
        check_ok(fdl_optim_step(opts[1]));
        check_ok(fdl_graph_end_step(models[1]));
        double got;
        check_ok(fdl_trainer_loss(tr, &got));
        same_number(got, fdl_item(loss), 1e-6, "the loss", t);
        assert_false(fdl_requires_grad(fdl_graph_state_get(core_of(models[0]), "memory")));
        assert_false(fdl_requires_grad(fdl_graph_tagged(models[0], "hidden")));
    }
    fdl_trainer_free(tr);
    for (int i = 0; i < 2; i++) {
        fdl_optim_free(opts[i]);
        fdl_module_free(models[i]);
    }
}

static fdl_tensor *fails_at_four(fdl_module *m, fdl_list batch, void *ctx)
{
    fdl_tensor *loss = loss_of(m, batch, NULL);
    return ++*(int *)ctx == 4 ? fdl_fail_null(FDL_E_RANGE, "the fourth") : loss;
}

static void a_step_that_failed_leaves_no_history(void **state)
{
    (void)state;
    FDL_SCOPE;
    int n = 0;
    fdl_module *model = remembers();
    check_ok(fdl_module_to(model, FDL_CPU));
    fdl_optim *opt = adam(fdl_parameters(model));
    fdl_trainer *tr = fdl_trainer_new(model, opt, fails_at_four, .ctx = &n, .accumulate = 2);
    for (int t = 0; t < 8; t++) {
        fdl_status status = step_with(tr, t, 8, FDL_CPU);
        if (t != 3)
            check_ok(status);
        else
            check_error(FDL_E_RANGE, "the fourth");
        assert_false(fdl_requires_grad(fdl_graph_state_get(core_of(model), "memory")));
    }
    fdl_trainer_free(tr);
    fdl_optim_free(opt);
    fdl_module_free(model);
}

/* ---- captured ------------------------------------------------------------------------------------------ */

enum { STEPS = 24 };

typedef void between_fn(job *j, int t);

/* Captured and eager steps beside each other, with something done between steps: losses, state and tags agree. */
static void both_ways(const char *what, fdl_trainer_opts o, between_fn *between, const char *expected)
{
    FDL_SCOPE;
    fdl_trainer_opts off = o;
    off.capture = FDL_CAPTURE_OFF;
    o.capture = FDL_CAPTURE_REQUIRE;
    check_ok(fdl_manual_seed(3));
    job a = job_new(remembers(), adam, loss_of, o);
    check_ok(fdl_manual_seed(3));
    job b = job_new(remembers(), adam, loss_of, off);
    for (int t = 0; t < STEPS; t++) {
        FDL_SCOPE;
        check_ok(step_with(a.tr, t, 8, GPU));
        check_ok(step_with(b.tr, t, 8, GPU));
        double x, y;
        check_ok(fdl_trainer_loss(a.tr, &x));
        check_ok(fdl_trainer_loss(b.tr, &y));
        same_number(x, y, 1e-5, what, t);
        same_number(sum_of(fdl_graph_state_get(core_of(a.model), "memory")),
                    sum_of(fdl_graph_state_get(core_of(b.model), "memory")), 1e-4, "the state", t);
        same_number(sum_of(fdl_graph_tagged(a.model, "hidden")), sum_of(fdl_graph_tagged(b.model, "hidden")),
                    1e-4, "the tag", t);
        same_number(sum_of(fdl_graph_tagged(core_of(a.model), "memory")),
                    sum_of(fdl_graph_tagged(core_of(b.model), "memory")), 1e-4, "the inner tag", t);
        if (between) {
            between(&a, t);
            between(&b, t);
        }
    }
    expect_plan(a.tr, "captured,");
    expect_plan(a.tr, expected);
    expect_equal_models(a.model, b.model, 1e-5, what);
    job_free(&a);
    job_free(&b);
}

static void begins_sequences(job *j, int t)
{
    if (t % 3 == 2)
        check_ok(fdl_graph_end_sequence(j->model));
}

static void sets_state(job *j, int t)
{
    if (t % 5 == 4)
        check_ok(fdl_graph_state_set(core_of(j->model), "memory",
                                     fdl_full(FDL_SHAPE(8, 32), 0.1 * t, .device = GPU)));
}

static void looks_on(job *j, int t)
{
    FDL_NO_GRAD;
    if (t % 5 == 4) { /* a forward of its own: the state goes on from there */
        fdl_tensor *xy[2];
        batch_of(t, 8, GPU, xy);
        check_some(fdl_forward(j->model, xy[0]));
    }
}

static void moves(job *j, int t)
{
    if (t == 10) {
        check_ok(fdl_module_to(j->model, FDL_CPU));
        check_ok(fdl_module_to(j->model, GPU));
    }
}

static void captured_state_is_eager_state(void **state)
{
    (void)state;
    need_gpu();
    both_ways("state", (fdl_trainer_opts){0}, NULL, "19 steps replayed");
    both_ways("state by groups", (fdl_trainer_opts){.accumulate = 2}, NULL, "steps replayed");
    both_ways("sequences", (fdl_trainer_opts){0}, begins_sequences, "steps replayed");
    both_ways("state set from outside", (fdl_trainer_opts){0}, sets_state, "steps replayed");
    both_ways("a forward between steps", (fdl_trainer_opts){0}, looks_on, "steps replayed");
    both_ways("moved", (fdl_trainer_opts){0}, moves, "steps replayed");
}

/* A module with memory of its own. */
typedef struct own_state {
    fdl_tensor *h;
} own_state;

static fdl_tensor *own_forward(void *self, fdl_tensor *x)
{
    own_state *s = self;
    fdl_tensor *y = s->h ? fdl_add(x, fdl_mul(s->h, 0.5)) : x;
    fdl_free(s->h);
    s->h = fdl_keep(y);
    return y;
}

static void own_detach(void *self)
{
    own_state *s = self;
    fdl_tensor *h = s->h ? fdl_keep(fdl_detach(s->h)) : NULL;
    fdl_free(s->h);
    s->h = h;
}

static void own_free(void *self)
{
    fdl_free(((own_state *)self)->h);
}

static const fdl_module_ops own_ops = {.kind = "own",
                                       .size = sizeof(own_state),
                                       .forward = own_forward,
                                       .detach_state = own_detach,
                                       .free = own_free};

static void state_of_a_modules_own_is_reported(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    job j = job_new(fdl_flow(fdl_nn_linear(16, 4), fdl_module_new(&own_ops)), adam, loss_of,
                    (fdl_trainer_opts){0});
    for (int t = 0; t < 8; t++)
        check_ok(step_with(j.tr, t, 8, GPU));
    expect_plan(j.tr, "not captured: a module of kind \"own\" carries state of its own");
    job_free(&j);
}

static void a_step_that_is_asked_for(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    check_ok(fdl_manual_seed(3));
    fdl_module *a = remembers();
    check_ok(fdl_module_to(a, GPU));
    check_ok(fdl_manual_seed(3));
    job b = job_new(remembers(), adam, loss_of, (fdl_trainer_opts){.capture = FDL_CAPTURE_OFF});
    fdl_optim *opt = adam(fdl_parameters(a));
    fdl_tensor *xy[2];
    batch_of(0, 8, GPU, xy);
    assert_null(fdl_train_capture(a, opt, loss_of, FDL_LIST(xy[0], xy[1])));
    check_error(FDL_E_STATE, "carries state from call to call, which is empty");
    {
        FDL_NO_GRAD;
        check_some(fdl_forward(a, xy[0]));
        check_some(fdl_forward(b.model, xy[0]));
    }
    fdl_step_graph *g = fdl_train_capture(a, opt, loss_of, FDL_LIST(xy[0], xy[1]));
    check_some(g);
    for (int t = 0; t < 6; t++) {
        double x, y;
        batch_of(t, 8, GPU, xy);
        check_ok(fdl_step_graph_run(g, FDL_LIST(xy[0], xy[1]), &x));
        check_ok(step_with(b.tr, t, 8, GPU));
        check_ok(fdl_trainer_loss(b.tr, &y));
        same_number(x, y, 1e-5, "the loss", t);
        same_number(sum_of(fdl_graph_tagged(a, "hidden")), sum_of(fdl_graph_tagged(b.model, "hidden")), 1e-4,
                    "the tag", t);
    }
    fdl_step_graph_free(g);
    fdl_optim_free(opt);
    fdl_module_free(a);
    job_free(&b);
}

/* ---- inference ----------------------------------------------------------------------------------------- */

static void a_runner_leaves_state_to_eager_passes(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_module *m = remembers(), *twin;
    check_ok(fdl_manual_seed(3));
    twin = remembers();
    check_ok(fdl_manual_seed(3));
    fdl_module_free(m);
    m = remembers();
    fdl_module *both[] = {m, twin};
    for (int i = 0; i < 2; i++) {
        check_ok(fdl_module_to(both[i], GPU));
        check_ok(fdl_eval(both[i]));
    }
    fdl_runner *r = fdl_runner_new(m), *strict = fdl_runner_new(m, .capture = FDL_CAPTURE_REQUIRE);
    fdl_tensor *xy[2];
    batch_of(0, 8, GPU, xy);
    for (int t = 0; t < 6; t++) {
        FDL_INFERENCE;
        same_number(sum_of(fdl_runner_run(r, xy[0])), sum_of(fdl_forward(twin, xy[0])), 1e-6, "the result",
                    t);
    }
    char text[512] = "";
    FILE *f = tmpfile();
    check_ok(fdl_runner_plan(r, f));
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    check_some(strstr(text, "carries state"));
    assert_null(fdl_runner_run(strict, xy[0]));
    check_error(FDL_E_STATE, "carries state");
    fdl_runner_free(r);
    fdl_runner_free(strict);
    fdl_module_free(m);
    fdl_module_free(twin);
}

static void tags_of_replayed_passes_are_their_own(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_module *m = fdl_flow(fdl_nn_linear(16, 8), fdl_flow_tag("hidden"), fdl_nn_tanh());
    check_ok(fdl_module_to(m, GPU));
    check_ok(fdl_eval(m));
    fdl_runner *r = fdl_runner_new(m, .capture = FDL_CAPTURE_REQUIRE);
    for (int t = 0; t < 8; t++) {
        FDL_SCOPE;
        FDL_NO_GRAD;
        fdl_tensor *xy[2];
        batch_of(t, 8, GPU, xy);
        double y = sum_of(fdl_runner_run(r, xy[0])), tag = sum_of(fdl_tanh(fdl_graph_tagged(m, "hidden")));
        same_number(tag, y, 1e-5, "the tag", t);
    }
    fdl_runner_free(r);
    fdl_module_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trainer_ends_each_step),
        cmocka_unit_test(a_step_that_failed_leaves_no_history),
        cmocka_unit_test(captured_state_is_eager_state),
        cmocka_unit_test(state_of_a_modules_own_is_reported),
        cmocka_unit_test(a_step_that_is_asked_for),
        cmocka_unit_test(a_runner_leaves_state_to_eager_passes),
        cmocka_unit_test(tags_of_replayed_passes_are_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
