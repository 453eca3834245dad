/* C++ uses the library through the plain functions: the same training step as in C, without a macro. */
#include <flodl/flodl.h>

#include <cstdio>

static int failures;

#define HOLDS(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            std::printf("%s:%d: %s does not hold: %s\n", __FILE__, __LINE__, #condition, \
                        fdl_last_error()->message);                                      \
            failures++;                                                                  \
        }                                                                                \
    } while (0)

static void a_training_step_lowers_the_loss()
{
    HOLDS(fdl_manual_seed(1) == FDL_OK);
    fdl_module *model = fdl_nn_linear_opt(2, 1, nullptr);
    HOLDS(model);
    fdl_scope *outer = fdl_scope_open();
    fdl_optim *opt = fdl_optim_sgd_opt(fdl_parameters_opt(model, nullptr), nullptr);
    HOLDS(opt && fdl_optim_set_lr(opt, 0.03) == FDL_OK);
    const float data[] = {1, 2, 3, 4};
    fdl_shape shape = {{2, 2}, 2}, target = {{2, 1}, 2};
    double first = 0, last = 0;
    for (int i = 0; i < 100; i++) {
        fdl_scope *scope = fdl_scope_open();
        fdl_tensor *x = fdl_from_f32_opt(data, shape, nullptr);
        fdl_tensor *loss =
            fdl_mse_loss_opt(fdl_forward_of(model, 1, &x), fdl_ones_opt(target, nullptr), nullptr);
        HOLDS(fdl_backward_opt(loss, nullptr) == FDL_OK);
        HOLDS(fdl_optim_step(opt) == FDL_OK);
        HOLDS(fdl_optim_zero_grad_opt(opt, nullptr) == FDL_OK);
        last = fdl_item(loss);
        if (i == 0)
            first = last;
        HOLDS(fdl_scope_close(scope) == FDL_OK);
    }
    HOLDS(last < 0.5 * first);
    fdl_optim_free(opt);
    HOLDS(fdl_scope_close(outer) == FDL_OK);
    HOLDS(fdl_module_free(model) == FDL_OK);
}

static void errors_are_the_same()
{
    fdl_shape bad = {{-1}, 1};
    HOLDS(fdl_zeros_opt(bad, nullptr) == nullptr);
    HOLDS(fdl_last_error()->status == FDL_E_SHAPE);
    fdl_clear_error();
}

int main()
{
    a_training_step_lowers_the_loss();
    errors_are_the_same();
    HOLDS(fdl_live_tensors() == 0);
    return failures != 0;
}
