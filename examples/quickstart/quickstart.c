#include <flodl/flodl.h>

int main(void)
{
    fdl_module *model = fdl_flow(fdl_nn_linear(2, 16), fdl_nn_gelu(), fdl_nn_layer_norm(16),
                                 fdl_flow_also(fdl_nn_linear(16, 16)), /* residual: x + m(x) */
                                 fdl_flow_tag("hidden"), fdl_nn_linear(16, 2));
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(model), .lr = 0.01);
    FDL_NEED(model && opt); /* NULL passes through: one check an expression */

    for (int i = 0; i < 100; i++) {
        FDL_SCOPE; /* tensors made in this block die with it */
        fdl_tensor *x = fdl_randn(FDL_SHAPE(32, 2));
        fdl_tensor *loss = fdl_mse_loss(fdl_forward(model, x), fdl_sin(x));
        fdl_optim_zero_grad(opt);
        FDL_CHECK(fdl_backward(loss));
        FDL_CHECK(fdl_optim_step(opt));
    }
    fdl_optim_free(opt);
    fdl_module_free(model);
}
