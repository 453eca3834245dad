/* Something to train, for the tests of recorded steps. */
#ifndef FLODL_TESTS_TRAIN_JOB_H
#define FLODL_TESTS_TRAIN_JOB_H

#include "check.h"

#include <math.h>

#define GPU FDL_CUDA(0)
static inline void need_gpu(void)
{
    if (fdl_cuda_available())
        return;
    print_message("skipped: no CUDA device\n");
    skip();
}

/* ---- something to train -------------------------------------------------------------------------------- */

typedef struct job {
    fdl_module *model;
    fdl_optim *opt;
    fdl_trainer *tr;
    double factor; /* of the loss, on the host */
    fdl_step_value *value;
} job;

static inline fdl_tensor *loss_of(fdl_module *m, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_mse_loss(fdl_forward(m, batch.at[0]), batch.at[1]);
}

static inline fdl_module *tower(bool dropout)
{
    return fdl_flow(fdl_nn_linear(16, 32), fdl_nn_batch_norm1d(32), fdl_nn_gelu(),
                    dropout ? fdl_nn_dropout(0.25) : fdl_nn_identity(), fdl_flow_also(fdl_nn_linear(32, 32)),
                    fdl_nn_layer_norm(32), fdl_nn_linear(32, 4));
}

typedef fdl_optim *optim_fn(fdl_params *p);

static inline fdl_optim *adam(fdl_params *p)
{
    return fdl_optim_adam(p, .lr = 1e-2);
}

static inline fdl_optim *adamw(fdl_params *p)
{
    return fdl_optim_adamw(p, .lr = 1e-2);
}

static inline fdl_optim *momentum(fdl_params *p)
{
    return fdl_optim_sgd(p, .lr = 1e-2, .momentum = 0.9);
}

static inline job job_new(fdl_module *model, optim_fn *make, fdl_loss_fn loss, fdl_trainer_opts o)
{
    job j = {.model = model, .factor = 1};
    check_some(j.model);
    check_ok(fdl_module_to(j.model, GPU));
    j.opt = make(fdl_parameters(j.model));
    check_some(j.opt);
    j.tr = fdl_trainer_new_opt(j.model, j.opt, loss, &o);
    check_some(j.tr);
    return j;
}

static inline void job_free(job *j)
{
    fdl_trainer_free(j->tr);
    fdl_optim_free(j->opt);
    check_ok(fdl_module_free(j->model));
}

/* Batch t of n rows: the same for everybody. */
static inline void batch_of(int t, int64_t rows, fdl_device device, fdl_tensor *xy[2])
{
    fdl_tensor *i = fdl_arange(0, rows * 16, 1, .device = FDL_CPU);
    fdl_tensor *x = fdl_reshape(fdl_sin(fdl_add(fdl_mul(i, 0.37), t * 0.9)), FDL_SHAPE(rows, 16));
    xy[0] = fdl_to_device(x, device);
    xy[1] = fdl_to_device(fdl_contiguous(fdl_narrow(fdl_mul(x, 0.5), 1, 0, 4)), device);
    check_some(xy[0]);
    check_some(xy[1]);
}

static inline fdl_status step_with(fdl_trainer *tr, int t, int64_t rows, fdl_device device)
{
    FDL_SCOPE;
    fdl_tensor *xy[2];
    batch_of(t, rows, device, xy);
    return fdl_trainer_step(tr, FDL_LIST(xy[0], xy[1]));
}

static inline double loss_after(fdl_trainer *tr, int t, int64_t rows)
{
    double loss;
    check_ok(step_with(tr, t, rows, GPU));
    check_ok(fdl_trainer_loss(tr, &loss));
    return loss;
}

static inline const char *plan(fdl_trainer *tr)
{
    static char text[4096];
    FILE *f = tmpfile();
    check_some(f);
    check_ok(fdl_trainer_plan(tr, f));
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return text;
}

static inline void expect_plan_(fdl_trainer *tr, const char *words, bool there, int line)
{
    const char *text = plan(tr);
    if (!strstr(text, words) == !there)
        return;
    print_error("%d: the plan %s \"%s\":\n%s", line, there ? "lacks" : "has", words, text);
    fail();
}
#define expect_plan(tr, words) expect_plan_(tr, words, true, __LINE__)
#define expect_no_plan(tr, words) expect_plan_(tr, words, false, __LINE__)

static inline double apart(fdl_tensor *a, fdl_tensor *b)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    return fdl_item(fdl_max(fdl_abs(fdl_sub(fdl_double(a), fdl_double(b)))));
}

static inline void expect_equal_models(fdl_module *a, fdl_module *b, double tolerance, const char *what)
{
    FDL_SCOPE;
    fdl_params *lists[2][2] = {{fdl_parameters(a), fdl_buffers(a)}, {fdl_parameters(b), fdl_buffers(b)}};
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < fdl_params_count(lists[0][k]); i++) {
            double far = apart(fdl_param_tensor(fdl_params_at(lists[0][k], i)),
                               fdl_param_tensor(fdl_params_at(lists[1][k], i)));
            if (!(far <= tolerance))
                fail_msg("%s: %s differs by %g", what, fdl_params_name(lists[0][k], i), far);
        }
}

#endif
