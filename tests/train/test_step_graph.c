/* Steps that are recorded when the caller says so. */
#include "job.h"

typedef struct explicit_job {
    fdl_module *model;
    fdl_optim *opt;
} explicit_job;

static explicit_job start(int seed, optim_fn *make, fdl_device device)
{
    check_ok(fdl_manual_seed((uint64_t)seed));
    explicit_job j = {.model = tower(false)};
    check_some(j.model);
    check_ok(fdl_module_to(j.model, device));
    j.opt = make(fdl_parameters(j.model));
    check_some(j.opt);
    return j;
}

static void end(explicit_job *j)
{
    fdl_optim_free(j->opt);
    check_ok(fdl_module_free(j->model));
}

/* Their states don't begin as zeros. */
static fdl_optim *adagrad(fdl_params *p)
{
    return fdl_optim_adagrad(p, .lr = 1e-2, .initial_accumulator = 0.1, .lr_decay = 0.1);
}

static fdl_optim *nadam(fdl_params *p)
{
    return fdl_optim_nadam(p, .lr = 1e-2);
}

/* Ten runs are ten steps by hand, from the beginning: the warm-up has left nothing. */
static void ten_runs_are_ten_steps(void **state)
{
    (void)state;
    need_gpu();
    optim_fn *const makers[] = {adam, adamw, momentum, adagrad, nadam};
    for (int k = 0; k < 5; k++) {
        FDL_SCOPE;
        explicit_job a = start(4, makers[k], GPU), b = start(4, makers[k], GPU);
        fdl_tensor *xy[2];
        batch_of(0, 8, GPU, xy);
        fdl_step_graph *g =
            fdl_train_capture(a.model, a.opt, loss_of, FDL_LIST(xy[0], xy[1]), .clip_norm = 0.05);
        check_some(g);
        expect_equal_models(a.model, b.model, 0, "the warm-up");
        for (int t = 0; t < 10; t++) {
            FDL_SCOPE;
            double loss;
            fdl_tensor *now[2];
            batch_of(t, 8, t % 2 ? GPU : FDL_CPU, now);
            check_ok(fdl_step_graph_run(g, FDL_LIST(now[0], now[1]), &loss));
            batch_of(t, 8, GPU, now);
            check_ok(fdl_optim_zero_grad(b.opt));
            fdl_tensor *want = loss_of(b.model, (fdl_list){2, now}, NULL);
            check_ok(fdl_backward(want));
            check_ok(fdl_optim_clip_norm(b.opt, 0.05));
            check_ok(fdl_optim_step(b.opt));
            if (!(fabs(loss - fdl_item(want)) <= 1e-5 * (1 + fabs(loss))))
                fail_msg("run %d: %.9g, by hand %.9g", t + 1, loss, fdl_item(want));
        }
        expect_equal_models(a.model, b.model, 1e-5, "ten runs");
        fdl_step_graph_free(g);
        end(&a);
        end(&b);
    }
}

/* Two models by turns, each with its optimizer. */
typedef struct pair {
    fdl_module *critic, *artist;
} pair;

static fdl_tensor *critics(fdl_module *m, fdl_list batch, void *ctx)
{
    const pair *p = ctx;
    fdl_tensor *fake = fdl_detach(fdl_forward(p->artist, batch.at[0]));
    return fdl_sub(fdl_mean(fdl_forward(m, fake)), fdl_mean(fdl_forward(m, batch.at[1])));
}

static fdl_tensor *artists(fdl_module *m, fdl_list batch, void *ctx)
{
    const pair *p = ctx;
    return fdl_neg(fdl_mean(fdl_forward(p->critic, fdl_forward(m, batch.at[0]))));
}

static void two_optimizers_by_turns(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    pair p[2];
    fdl_optim *oc[2], *oa[2];
    for (int k = 0; k < 2; k++) {
        check_ok(fdl_manual_seed(5));
        p[k] = (pair){fdl_flow(fdl_nn_linear(4, 8), fdl_nn_gelu(), fdl_nn_linear(8, 1)),
                      fdl_flow(fdl_nn_linear(16, 8), fdl_nn_gelu(), fdl_nn_linear(8, 4))};
        check_ok(fdl_module_to(p[k].critic, GPU));
        check_ok(fdl_module_to(p[k].artist, GPU));
        oc[k] = adam(fdl_parameters(p[k].critic));
        oa[k] = adam(fdl_parameters(p[k].artist));
    }
    fdl_tensor *xy[2];
    batch_of(0, 8, GPU, xy);
    fdl_list first = FDL_LIST(xy[0], xy[1]);
    fdl_step_graph *c = fdl_train_capture(p[0].critic, oc[0], critics, first, .ctx = &p[0]);
    check_some(c);
    fdl_step_graph *a = fdl_train_capture(p[0].artist, oa[0], artists, first, .ctx = &p[0]);
    check_some(a);
    for (int t = 0; t < 8; t++) {
        FDL_SCOPE;
        fdl_tensor *now[2];
        batch_of(t, 8, GPU, now);
        fdl_list batch = {2, now};
        check_ok(fdl_step_graph_run(c, batch, NULL));
        check_ok(fdl_step_graph_run(a, batch, NULL));
        for (int turn = 0; turn < 2; turn++) {
            fdl_optim *o = turn ? oa[1] : oc[1];
            check_ok(fdl_optim_zero_grad(o));
            check_ok(
                fdl_backward(turn ? artists(p[1].artist, batch, &p[1]) : critics(p[1].critic, batch, &p[1])));
            check_ok(fdl_optim_step(o));
        }
    }
    expect_equal_models(p[0].critic, p[1].critic, 1e-5, "critic");
    expect_equal_models(p[0].artist, p[1].artist, 1e-5, "artist");
    fdl_step_graph_free(c);
    fdl_step_graph_free(a);
    for (int k = 0; k < 2; k++) {
        fdl_optim_free(oc[k]);
        fdl_optim_free(oa[k]);
        check_ok(fdl_module_free(p[k].critic));
        check_ok(fdl_module_free(p[k].artist));
    }
}

static fdl_tensor *reads(fdl_module *m, fdl_list batch, void *ctx)
{
    fdl_tensor *l = loss_of(m, batch, ctx);
    return fdl_item(l) > 1e9 ? fdl_mul(l, 2) : l;
}

static void mistakes_on_the_gpu(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    explicit_job j = start(6, adam, GPU), untouched = start(6, adam, GPU);
    fdl_tensor *xy[2];
    batch_of(0, 8, GPU, xy);
    fdl_list batch = FDL_LIST(xy[0], xy[1]);
    assert_null(fdl_train_capture(j.model, j.opt, reads, batch));
    check_error(FDL_E_STATE, "can't be captured", "_local_scalar_dense");
    expect_equal_models(j.model, untouched.model, 0, "after a refusal");
    fdl_step_graph *g = fdl_train_capture(j.model, j.opt, loss_of, batch);
    check_some(g);
    batch_of(0, 5, GPU, xy);
    assert_int_equal(fdl_step_graph_run(g, FDL_LIST(xy[0], xy[1]), NULL), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "[5, 16]", "[8, 16]");
    batch_of(0, 8, GPU, xy);
    assert_int_equal(fdl_step_graph_run(g, FDL_LIST(xy[0]), NULL), FDL_E_SHAPE);
    fdl_clear_error();
    check_ok(fdl_eval(j.model));
    assert_int_equal(fdl_step_graph_run(g, FDL_LIST(xy[0], xy[1]), NULL), FDL_E_STATE);
    check_error(FDL_E_STATE, "was changed", "fdl_train_capture");
    check_ok(fdl_train(j.model));
    check_ok(fdl_step_graph_run(g, FDL_LIST(xy[0], xy[1]), NULL));
    check_ok(fdl_optim_set_lr(j.opt, 1e-3)); /* which may change */
    check_ok(fdl_step_graph_run(g, FDL_LIST(xy[0], xy[1]), NULL));
    fdl_step_graph_free(g);
    g = fdl_train_capture(j.model, j.opt, loss_of, FDL_LIST(xy[0], xy[1]), .keep_warmup = true);
    check_some(g);
    assert_true(apart(fdl_param_tensor(fdl_params_at(fdl_parameters(j.model), 0)),
                      fdl_param_tensor(fdl_params_at(fdl_parameters(untouched.model), 0))) > 0);
    fdl_step_graph_free(g);
    end(&j);
    end(&untouched);
}

static void mistakes_are_named(void **state)
{
    (void)state;
    FDL_SCOPE;
    explicit_job j = start(7, adam, FDL_CPU);
    fdl_tensor *xy[2];
    batch_of(0, 8, FDL_CPU, xy);
    fdl_list batch = FDL_LIST(xy[0], xy[1]);
    assert_null(fdl_train_capture(j.model, j.opt, loss_of, batch));
    check_error(FDL_E_DEVICE, "on cpu", "CUDA");
    assert_null(fdl_train_capture(NULL, j.opt, loss_of, batch));
    check_error(FDL_E_NULL, "model");
    assert_null(fdl_train_capture(j.model, j.opt, loss_of, batch, .warmup = 1));
    check_error(FDL_E_ARG, ".warmup is 1", "3 or more");
    assert_int_equal(fdl_step_graph_run(NULL, batch, NULL), FDL_E_NULL);
    fdl_clear_error();
    fdl_step_graph_free(NULL);
    end(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_runs_are_ten_steps),
        cmocka_unit_test(two_optimizers_by_turns),
        cmocka_unit_test(mistakes_on_the_gpu),
        cmocka_unit_test(mistakes_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
