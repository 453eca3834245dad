/* Models that loop and choose, trained: what decides on the device alone becomes a CUDA graph like any other step, with values
 * that steps publish in the loss; what decides on the host trains eagerly, and the plan says at which node. */
#include "job.h"

enum { STEPS = 14 };

/* ---- models -------------------------------------------------------------------------------------------- */

static fdl_module *ff(void)
{
    return fdl_flow(fdl_nn_linear(16, 16), fdl_nn_tanh());
}

static fdl_module *counted(void)
{
    return fdl_flow(fdl_flow_loop(ff(), .n = 3), fdl_nn_linear(16, 4));
}

static fdl_module *mapped(void)
{
    return fdl_flow(fdl_flow_map(fdl_nn_linear(4, 4), .slices = 4), fdl_flow_map(ff()), fdl_nn_linear(16, 4));
}

static fdl_module *gated(void)
{
    return fdl_flow(fdl_flow_gate(fdl_nn_softmax_router(16, 3), FDL_MODULES(ff(), ff(), ff())),
                    fdl_nn_linear(16, 4));
}

static fdl_module *sparse(void)
{
    return fdl_flow(fdl_flow_gate(fdl_nn_softmax_router(16, 4), FDL_MODULES(ff(), ff(), ff(), ff()),
                                  .top_k = 2, .capacity = 1.25, .normalize = true,
                                  .trace_balance = "balance"),
                    fdl_flow_tag("moe"), fdl_nn_linear(16, 4));
}

static fdl_module *scanned(void)
{
    return fdl_flow(fdl_nn_reshape(FDL_SHAPE(-1, 4, 4)),
                    fdl_flow_scan(fdl_nn_lstm_cell(4, 8), .dim = 1, .width = 8, .last = true),
                    fdl_nn_linear(8, 4));
}

static fdl_module *recomputed(void)
{
    return fdl_flow(fdl_flow_recompute(ff(), .no_rng_state = true),
                    fdl_flow_loop(ff(), .n = 2, .recompute = true, .no_rng_state = true),
                    fdl_nn_linear(16, 4));
}

static fdl_module *fixed(void)
{
    return fdl_flow(fdl_flow_switch(fdl_nn_fixed_selector(1), FDL_MODULES(fdl_nn_relu(), ff())),
                    fdl_nn_linear(16, 4));
}

static fdl_module *weighed(void)
{
    return fdl_flow(fdl_flow_loop(ff(), .act = fdl_nn_learned_halt(16), .max = 3, .trace_ponder = "ponder"),
                    fdl_nn_linear(16, 4));
}

static fdl_module *until(void)
{
    return fdl_flow(fdl_flow(ff(), fdl_flow_loop(ff(), .until_cond = fdl_nn_threshold_halt(0.9), .max = 3),
                             fdl_flow_tag("halting"), fdl_flow_label("inner")),
                    fdl_nn_linear(16, 4));
}

static fdl_module *chosen(void)
{
    return fdl_flow(ff(), fdl_flow_switch(fdl_nn_argmax_selector(16, 2), FDL_MODULES(ff(), ff())),
                    fdl_flow_tag("route"), fdl_nn_linear(16, 4));
}

static fdl_module *by_row(void)
{
    return fdl_flow(fdl_flow_switch(fdl_nn_argmax_selector(16, 2, .per_row = true), FDL_MODULES(ff(), ff()),
                                    .per_row = true),
                    fdl_flow_tag("rows"), fdl_nn_linear(16, 4));
}

static fdl_module *dropless(void)
{
    return fdl_flow(fdl_flow_gate(fdl_nn_softmax_router(16, 4), FDL_MODULES(ff(), ff(), ff(), ff()),
                                  .top_k = 1, .trace_balance = "balance"),
                    fdl_flow_tag("moe"), fdl_nn_linear(16, 4));
}

typedef struct kind {
    fdl_module *(*make)(void);
    const char *at; /* the node that reads from the device; NULL: none */
} kind;

static const kind kinds[] = {{counted, NULL},
                             {mapped, NULL},
                             {gated, NULL},
                             {sparse, NULL},
                             {scanned, NULL},
                             {recomputed, NULL},
                             {fixed, NULL},
                             {weighed, NULL},
                             {until, "graph_1: loop_2 (#halting): operation "},
                             {chosen, "switch_2 (#route): operation "},
                             {by_row, "switch_2 (#rows): operation "},
                             {dropless, "gate_2 (#moe): operation "}};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* With what a gate publishes in it. */
static fdl_tensor *loss_with_balance(fdl_module *m, fdl_list batch, void *ctx)
{
    (void)ctx;
    fdl_tensor *l = fdl_mse_loss(fdl_forward(m, batch.at[0]), batch.at[1]);
    fdl_tensor *balance = fdl_graph_last_trace(m, "balance");
    return balance ? fdl_add(l, fdl_mul(balance, 0.01)) : l;
}

/* ---- everywhere ---------------------------------------------------------------------------------------- */

/* A trainer does what a loop by hand does. */
static void models_that_decide_train(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        FDL_SCOPE;
        double first = 0, last = 0;
        check_ok(fdl_manual_seed(k));
        fdl_module *a = kinds[k].make();
        check_ok(fdl_manual_seed(k));
        fdl_module *b = kinds[k].make();
        fdl_optim *opt_a = adam(fdl_parameters(a)), *opt_b = adam(fdl_parameters(b));
        fdl_trainer *tr = fdl_trainer_new(a, opt_a, loss_with_balance);
        check_some(tr);
        for (int t = 0; t < 40; t++) {
            FDL_SCOPE;
            fdl_tensor *xy[2];
            batch_of(t % 3, 8, fdl_default_device(), xy);
            check_ok(fdl_trainer_step(tr, FDL_LIST(xy[0], xy[1])));
            check_ok(fdl_trainer_loss(tr, &last));
            check_ok(fdl_optim_zero_grad(opt_b));
            fdl_tensor *l = loss_with_balance(b, FDL_LIST(xy[0], xy[1]), NULL);
            check_some(l);
            check_ok(fdl_backward(l));
            check_ok(fdl_optim_step(opt_b));
            check_number(last, fdl_item(l), 1e-3 * (1 + fabs(last)));
            first = t ? first : last;
        }
        assert_true(isfinite(last) && last < first);
        fdl_trainer_free(tr);
        fdl_optim_free(opt_a);
        fdl_optim_free(opt_b);
        check_ok(fdl_module_free(a));
        check_ok(fdl_module_free(b));
    }
}

/* Which node ran what, wherever it lies. */
static void operations_have_their_node(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        FDL_SCOPE;
        fdl_module *m = kinds[k].make();
        fdl_tensor *xy[2];
        batch_of(0, 8, fdl_default_device(), xy);
        fdl_watch *w = fdl_watch_start();
        fdl_tensor *y = fdl_forward(m, xy[0]);
        check_some(y);
        int64_t forward = fdl_watch_count(w);
        check_ok(fdl_backward(fdl_sum(y)));
        check_ok(fdl_watch_stop(w));
        bool read = false;
        for (int64_t i = 0; i < fdl_watch_count(w); i++) {
            const char *part = fdl_watch_part(w, i);
            /* what is computed once more in backward runs in its node again */
            if ((part != NULL) != (i < forward) && kinds[k].make != recomputed)
                fail_msg("%d: %s of %s", k, fdl_watch_name(w, i), part ? part : "no node");
            if (!kinds[k].at || !part)
                continue;
            bool here = strncmp(part, kinds[k].at, strlen(part)) == 0;
            read = read || (here && (strcmp(fdl_watch_name(w, i), "aten::_local_scalar_dense") == 0 ||
                                     strcmp(fdl_watch_name(w, i), "aten::argsort") == 0));
        }
        if (kinds[k].at && strncmp(kinds[k].at, "switch_2 (#rows)", 16) != 0 && kinds[k].make != dropless)
            assert_true(read);
        fdl_watch_free(w);
        check_ok(fdl_module_free(m));
    }
}

/* ---- as CUDA graphs ------------------------------------------------------------------------------------ */

static void what_decides_on_the_device_is_captured(void **state)
{
    (void)state;
    need_gpu();
    for (int k = 0; k < KINDS; k++) {
        FDL_SCOPE;
        fdl_trainer_opts o = {.capture = kinds[k].at ? FDL_CAPTURE_AUTO : FDL_CAPTURE_REQUIRE};
        check_ok(fdl_manual_seed(3));
        job a = job_new(kinds[k].make(), adam, loss_with_balance, o);
        o.capture = FDL_CAPTURE_OFF;
        check_ok(fdl_manual_seed(3));
        job b = job_new(kinds[k].make(), adam, loss_with_balance, o);
        for (int t = 0; t < STEPS; t++) {
            check_ok(step_with(a.tr, t, 8, GPU));
            check_ok(step_with(b.tr, t, 8, GPU));
            double x, y;
            check_ok(fdl_trainer_loss(a.tr, &x));
            check_ok(fdl_trainer_loss(b.tr, &y));
            if (!(fabs(x - y) <= 1e-3 * (1 + fabs(y))))
                fail_msg("model %d: the loss of step %d is %.9g, eagerly %.9g", k, t + 1, x, y);
        }
        if (kinds[k].at) {
            expect_plan(a.tr, "not captured");
            expect_plan(a.tr, kinds[k].at);
            expect_plan(a.tr, "host");
        } else {
            expect_plan(a.tr, "captured,");
            expect_plan(a.tr, "10 steps replayed");
        }
        job_free(&a);
        job_free(&b);
    }
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_that_decide_train),
        cmocka_unit_test(operations_have_their_node),
        cmocka_unit_test(what_decides_on_the_device_is_captured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
