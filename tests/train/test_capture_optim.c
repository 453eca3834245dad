/* Recorded steps of every optimizer: they go where steps by hand go; what can't be recorded says why. And what trainers and
 * scalers say to a method whose steps aren't theirs. */
#include "job.h"

typedef struct way {
    const char *name;
    fdl_optim *(*make)(const fdl_params *, const fdl_optim_opts *);
    fdl_optim_opts o;
    bool half; /* a model in bfloat16 */
} way;

static const way ways[] = {
    {"sgd", fdl_optim_sgd_opt, {.lr = 0.01, .momentum = 0.9}, false},
    {"sgd, masters", fdl_optim_sgd_opt, {.lr = 0.01, .momentum = 0.9, .master_weights = true}, true},
    {"adam", fdl_optim_adam_opt, {.lr = 0.01, .amsgrad = true}, false},
    {"adam, decoupled", fdl_optim_adam_opt, {.lr = 0.01, .weight_decay = 0.1, .decoupled = true}, false},
    {"adamw, masters", fdl_optim_adamw_opt, {.lr = 0.01, .master_weights = true}, true},
    {"adamw, masters, foreach",
     fdl_optim_adamw_opt,
     {.lr = 0.01, .master_weights = true, .impl = FDL_OPTIM_FOREACH},
     true},
    {"rmsprop", fdl_optim_rmsprop_opt, {.lr = 0.01, .centered = true}, false},
    {"adagrad", fdl_optim_adagrad_opt, {.lr = 0.01, .lr_decay = 0.1}, false},
    {"adagrad, foreach",
     fdl_optim_adagrad_opt,
     {.lr = 0.01, .lr_decay = 0.1, .impl = FDL_OPTIM_FOREACH},
     false},
    {"adadelta", fdl_optim_adadelta_opt, {.lr = 1}, false},
    {"adamax", fdl_optim_adamax_opt, {.lr = 0.01}, false},
    {"nadam", fdl_optim_nadam_opt, {.lr = 0.01}, false},
    {"radam", fdl_optim_radam_opt, {.lr = 0.01, .beta2 = 0.9}, false},
    {"lion", fdl_optim_lion_opt, {.lr = 0.001}, false},
    {"muon", fdl_optim_muon_opt, {.lr = 0.01}, false},
    {"muon, loop", fdl_optim_muon_opt, {.lr = 0.01, .no_nesterov = true, .impl = FDL_OPTIM_LOOP}, false},
    {"adafactor", fdl_optim_adafactor_opt, {.lr = 0.05, .weight_decay = 0.01}, false},
    {"adafactor, loop", fdl_optim_adafactor_opt, {.lr = 0.05, .impl = FDL_OPTIM_LOOP}, false},
    {"rprop", fdl_optim_rprop_opt, {.lr = 0.001}, false},
    {"rprop, loop", fdl_optim_rprop_opt, {.lr = 0.001, .impl = FDL_OPTIM_LOOP}, false},
    {"asgd", fdl_optim_asgd_opt, {.lr = 0.01, .lambd = 0.1, .t0 = 2}, false},
    {"asgd, loop", fdl_optim_asgd_opt, {.lr = 0.01, .lambd = 0.1, .t0 = 2, .impl = FDL_OPTIM_LOOP}, false},
};

typedef struct run {
    fdl_module *model;
    fdl_optim *opt;
} run;

static run run_of(const way *w, fdl_device device)
{
    FDL_SCOPE;
    check_ok(fdl_manual_seed(7));
    run r = {.model = fdl_flow(fdl_nn_linear(16, 24, .no_bias = true), fdl_nn_tanh(),
                               fdl_nn_linear(24, 4, .no_bias = true))};
    check_some(r.model);
    check_ok(fdl_module_to(r.model, device));
    if (w->half)
        check_ok(fdl_cast_parameters(r.model, FDL_BFLOAT16));
    r.opt = w->make(fdl_parameters(r.model), &w->o);
    check_some(r.opt);
    return r;
}

static void run_free(run *r)
{
    fdl_optim_free(r->opt);
    check_ok(fdl_module_free(r->model));
}

/* In the model's dtype. */
static void batch_for(const way *w, int t, fdl_tensor *xy[2])
{
    batch_of(t, 8, GPU, xy);
    for (int i = 0; i < 2 && w->half; i++)
        xy[i] = fdl_bfloat16(xy[i]);
}

static void recorded_steps_are_steps_by_hand(void **state)
{
    (void)state;
    need_gpu();
    for (size_t k = 0; k < sizeof ways / sizeof ways[0]; k++) {
        FDL_SCOPE;
        const way *w = &ways[k];
        run a = run_of(w, GPU), b = run_of(w, GPU);
        fdl_tensor *xy[2];
        batch_for(w, 0, xy);
        fdl_step_graph *g = fdl_train_capture(a.model, a.opt, loss_of, FDL_LIST(xy[0], xy[1]));
        if (!g)
            fail_msg("%s: %s", w->name, fdl_last_error()->message);
        expect_equal_models(a.model, b.model, 0, w->name); /* the warm-up has left nothing */
        for (int t = 0; t < 8; t++) {
            FDL_SCOPE;
            batch_for(w, t, xy);
            if (t == 4) { /* rates act between replays */
                check_ok(fdl_optim_scale_lr(a.opt, 0.5));
                check_ok(fdl_optim_scale_lr(b.opt, 0.5));
            }
            check_ok(fdl_step_graph_run(g, FDL_LIST(xy[0], xy[1]), NULL));
            check_ok(fdl_optim_zero_grad(b.opt));
            check_ok(fdl_backward(loss_of(b.model, (fdl_list){2, xy}, NULL)));
            check_ok(fdl_optim_step(b.opt));
        }
        expect_equal_models(a.model, b.model, w->half ? 0.02 : 1e-5, w->name);
        fdl_step_graph_free(g);
        run_free(&a);
        run_free(&b);
    }
}

/* What is written to parameters between replays counts, with master weights, too. */
static void a_replay_sees_what_was_written(void **state)
{
    (void)state;
    need_gpu();
    for (size_t k = 0; k < sizeof ways / sizeof ways[0]; k++) {
        const way *w = &ways[k];
        if (!w->half)
            continue;
        FDL_SCOPE;
        run a = run_of(w, GPU);
        fdl_tensor *xy[2];
        batch_for(w, 0, xy);
        fdl_step_graph *g = fdl_train_capture(a.model, a.opt, loss_of, FDL_LIST(xy[0], xy[1]));
        if (!g)
            fail_msg("%s: %s", w->name, fdl_last_error()->message);
        check_ok(fdl_step_graph_run(g, FDL_LIST(xy[0], xy[1]), NULL));
        fdl_tensor *p = fdl_param_tensor(fdl_params_at(fdl_parameters(a.model), 0));
        {
            FDL_NO_GRAD;
            check_ok(fdl_fill_(p, 3));
        }
        check_ok(fdl_step_graph_run(g, FDL_LIST(xy[0], xy[1]), NULL));
        double far = fdl_item(fdl_max(fdl_abs(fdl_sub(fdl_float(p), 3))));
        if (!(far < 0.2))
            fail_msg("%s: %g from what was written", w->name, far);
        fdl_step_graph_free(g);
        run_free(&a);
    }
}

static fdl_tensor *rows_loss(fdl_module *m, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_mean(fdl_square(fdl_forward(m, batch.at[0])));
}

static void sparse_steps_arent_recorded(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_module *table = fdl_nn_embedding(20, 4, .sparse = true);
    check_some(table);
    check_ok(fdl_module_to(table, GPU));
    fdl_optim *o = fdl_optim_sparse_adam(fdl_parameters(table));
    fdl_tensor *idx = fdl_to_device(fdl_ivec(1, 2, 3), GPU);
    assert_null(fdl_train_capture(table, o, rows_loss, FDL_LIST(idx)));
    assert_true(fdl_last_error()->status != FDL_OK);
    fdl_clear_error();
    fdl_trainer *tr = fdl_trainer_new(table, o, rows_loss); /* which goes on without recording */
    check_some(tr);
    double first = 0, loss = 0;
    for (int t = 0; t < 8; t++) {
        check_ok(fdl_trainer_step(tr, FDL_LIST(idx)));
        check_ok(fdl_trainer_loss(tr, &loss));
        first = t ? first : loss;
    }
    assert_true(loss < first);
    fdl_trainer_free(tr);
    fdl_optim_free(o);
    check_ok(fdl_module_free(table));
}

static void lbfgs_steps_are_made_by_hand(void **state)
{
    (void)state;
    FDL_SCOPE;
    const way w = {"lbfgs", fdl_optim_lbfgs_opt, {.lr = 1}, false};
    run a = run_of(&w, FDL_CPU);
    assert_null(fdl_trainer_new(a.model, a.opt, loss_of));
    check_error(FDL_E_UNSUPPORTED, "lbfgs", "fdl_optim_step_closure");
    assert_int_equal(fdl_optim_step(a.opt), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "lbfgs", "fdl_optim_step_closure");
    assert_int_equal(fdl_optim_step_unless(a.opt, fdl_zeros(FDL_SHAPE(1))), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "lbfgs");
    fdl_amp_scaler *s = fdl_amp_scaler_new();
    fdl_tensor *xy[2];
    batch_of(0, 8, FDL_CPU, xy);
    check_ok(fdl_backward(fdl_amp_scale(s, loss_of(a.model, (fdl_list){2, xy}, NULL))));
    assert_int_equal(fdl_amp_step(s, a.opt), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "lbfgs");
    fdl_amp_scaler_free(s);
    run_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_steps_are_steps_by_hand),
        cmocka_unit_test(a_replay_sees_what_was_written),
        cmocka_unit_test(sparse_steps_arent_recorded),
        cmocka_unit_test(lbfgs_steps_are_made_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
