/* A library doesn't speak unless it is asked: at the normal verbosity nothing that a program calls writes to stdout or stderr.
 * Single operations, right and wrong ones, are told the same in tests/tensor/test_ops_*.c. */
#include "quiet.h"

#include "nn/fixture.h"
#include "rows.h"

#include <math.h>

/* ---- every module ---------------------------------------------------------------------------------------- */

static char path[64];

/* Whatever one does with a module, well or badly; what fails is as quiet as what doesn't. */
static void use(const row *r)
{
    FDL_SCOPE;
    fdl_tensor *x = fixture_of(r->name, "x", NULL);
    fdl_module *m = r->make();
    fdl_tensor *y = fdl_forward(m, x);
    fdl_backward(fdl_sum(y));
    fdl_forward(m, fdl_zeros(FDL_SHAPE(0)));
    fdl_forward(m, fdl_scalar(1));
    fdl_forward(m, x, x, x, x);
    fdl_forward(m, fdl_to_dtype(x, FDL_FLOAT16));
    fdl_eval(m);
    fdl_forward(m, x);
    fdl_module_summary(m, fdl_shape_of(x));
    fdl_onnx_save(m, path, fdl_shape_of(x));
    fdl_ckpt_save(m, path);
    fdl_ckpt_load(m, path);
    fdl_ckpt_load(m, "/nowhere/at/all");
    fdl_module *other = fdl_nn_linear(7, 9);
    fdl_ckpt_load(other, path);
    fdl_module_free(other);
    fdl_module_free(fdl_module_clone(m));
    char *text = fdl_topology_text(m);
    fdl_module_free(text ? fdl_topology_parse(text) : NULL);
    free(text);
    fdl_weight_norm(m, "weight");
    fdl_forward(m, x);
    fdl_prune_l1_unstructured(m, "bias", 0.5);
    fdl_forward(m, x);
    fdl_cast_parameters(m, FDL_BFLOAT16);
    fdl_forward(m, fdl_to_dtype(x, FDL_BFLOAT16));
    fdl_module_free(m);
    fdl_clear_error();
}

static void modules(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/flodl_test_quiet_%d", (int)getpid());
    quiet_begin();
    for (int i = 0; i < ROWS; i++)
        use(&rows[i]);
    unlink(path);
    assert_int_equal(quiet_end(), 0);
}

/* ---- training ---------------------------------------------------------------------------------------------- */

static fdl_tensor *loss_of(fdl_module *m, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_mse_loss(fdl_forward(m, batch.at[0]), batch.at[1]);
}

static void train_with(fdl_optim *(*make)(const fdl_params *params, const fdl_optim_opts *opts))
{
    FDL_SCOPE;
    fdl_module *m = fdl_flow(fdl_nn_linear(6, 8, .no_bias = true), fdl_nn_batch_norm(8, .no_affine = true),
                             fdl_nn_gelu(), fdl_nn_dropout(0.1), fdl_nn_linear(8, 3, .no_bias = true));
    fdl_optim *o = make(fdl_parameters(m), &(fdl_optim_opts){.lr = 0.01});
    fdl_sched *s = fdl_sched_warmup(fdl_sched_cosine(0.01, 0, 10), 0.01, 3);
    fdl_ema *e = fdl_ema_new(m, 0.9);
    fdl_amp_scaler *scaler = fdl_amp_scaler_new();
    fdl_trainer *tr = fdl_trainer_new(m, o, loss_of, .sched = s, .clip_norm = 1, .ema = e, .scaler = scaler);
    for (int i = 0; i < 6; i++)
        fdl_trainer_step(tr, FDL_LIST(fdl_randn(FDL_SHAPE(4, 6)), fdl_randn(FDL_SHAPE(4, 3))));
    fdl_trainer_step(tr, FDL_LIST(fdl_randn(FDL_SHAPE(4, 5)), fdl_randn(FDL_SHAPE(4, 3))));
    fdl_trainer_step(tr, FDL_LIST(fdl_full(FDL_SHAPE(4, 6), (double)NAN), fdl_randn(FDL_SHAPE(4, 3))));
    double mean;
    fdl_trainer_mean_loss(tr, &mean);
    fdl_trainer_free(tr);
    fdl_amp_scaler_free(scaler);
    fdl_ema_free(e);
    fdl_sched_free(s);
    fdl_optim_free(o);
    fdl_module_free(m);
    fdl_clear_error();
}

typedef struct evaluation {
    fdl_module *m;
    fdl_optim *o;
    fdl_tensor *x, *y;
} evaluation;

static fdl_tensor *evaluate(void *ctx)
{
    const evaluation *e = ctx;
    fdl_optim_zero_grad(e->o);
    fdl_tensor *loss = fdl_mse_loss(fdl_forward(e->m, e->x), e->y);
    return fdl_backward(loss) == FDL_OK ? loss : NULL;
}

/* Steps by closures, of L-BFGS, and steps by sparse gradients. */
static void train_otherwise(void)
{
    FDL_SCOPE;
    evaluation e = {
        .m = fdl_nn_linear(6, 3), .x = fdl_randn(FDL_SHAPE(4, 6)), .y = fdl_randn(FDL_SHAPE(4, 3))};
    for (int wolfe = 0; wolfe < 2; wolfe++) {
        e.o = fdl_optim_lbfgs(fdl_parameters(e.m), .max_iter = 4, .strong_wolfe = wolfe == 1);
        for (int i = 0; i < 3; i++)
            fdl_optim_step_closure(e.o, evaluate, &e, NULL);
        fdl_optim_step(e.o); /* which it hasn't */
        fdl_optim_free(e.o);
    }
    fdl_module_free(e.m);
    fdl_module *table = fdl_nn_embedding(5, 3, .sparse = true);
    fdl_optim *o = fdl_optim_sparse_adam(fdl_parameters(table));
    for (int i = 0; i < 4; i++) {
        fdl_optim_zero_grad(o);
        fdl_backward(fdl_sum(fdl_forward(table, fdl_ivec(1, 3, 1))));
        fdl_optim_step(o);
    }
    fdl_optim_free(o);
    fdl_module_free(table);
    fdl_clear_error();
}

static void trainings(void **state)
{
    (void)state;
    quiet_begin();
    train_with(fdl_optim_sgd_opt);
    train_with(fdl_optim_adam_opt);
    train_with(fdl_optim_adamw_opt);
    train_with(fdl_optim_rmsprop_opt);
    train_with(fdl_optim_adagrad_opt);
    train_with(fdl_optim_adadelta_opt);
    train_with(fdl_optim_adamax_opt);
    train_with(fdl_optim_nadam_opt);
    train_with(fdl_optim_radam_opt);
    train_with(fdl_optim_lion_opt);
    train_with(fdl_optim_muon_opt);
    train_with(fdl_optim_adafactor_opt);
    train_with(fdl_optim_rprop_opt);
    train_with(fdl_optim_asgd_opt);
    train_otherwise();
    assert_int_equal(quiet_end(), 0);
}

/* That this would be noticed. */
static void what_is_asked_for_is_written(void **state)
{
    (void)state;
    quiet_begin();
    fdl_msg("asked for");
    fdl_msg_verbose("not at this verbosity");
    fflush(NULL);
    long bytes = lseek(fileno(quiet.file), 0, SEEK_END);
    assert_int_equal(ftruncate(fileno(quiet.file), 0), 0);
    quiet_end();
    assert_int_equal(bytes, strlen("asked for\n"));
}

int main(void)
{
    on_test_device();
    fdl_set_verbosity(FDL_NORMAL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_asked_for_is_written),
        cmocka_unit_test(modules),
        cmocka_unit_test(trainings),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
