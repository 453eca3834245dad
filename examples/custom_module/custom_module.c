/* A module of your own: a dense layer that learns how much of itself to add to its input, y = x + gate *
 * tanh(W x + b). It owns a parameter and a stock module, and its gradients are checked against difference
 * quotients. */
#include <flodl/flodl.h>

/* ---- the module --------------------------------------------------------------------------------- */

typedef struct gated {
    fdl_module *dense;
    fdl_tensor *gate; /* [width] */
} gated;

/* x: [N, width] -> the same. */
static fdl_tensor *gated_forward(void *self, fdl_tensor *x)
{
    gated *m = self;
    return fdl_add(x, fdl_mul(m->gate, fdl_tanh(fdl_forward(m->dense, x))));
}

static const fdl_module_ops gated_ops = {.kind = "gated", .size = sizeof(gated), .forward = gated_forward};

/* Registering without a check: what fails is remembered, and fdl_module_done frees it all and returns NULL.
 */
static fdl_module *gated_new(int64_t width)
{
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&gated_ops);
    gated *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->dense = fdl_module_child(m, "dense", fdl_nn_linear(width, width));
    self->gate = fdl_module_param(m, "gate", fdl_full(FDL_SHAPE(width), 0.1));
    return fdl_module_done(m);
}

/* ---- its check ---------------------------------------------------------------------------------- */

static fdl_tensor *run(fdl_list in, void *module)
{
    return fdl_forward(module, fdl_list_at(in, 0));
}

int main(void)
{
    FDL_SCOPE;
    FDL_CHECK(fdl_manual_seed(42));
    fdl_module *m = gated_new(5);
    FDL_NEED(m);
    FDL_CHECK(fdl_module_to(m, FDL_CPU, .dtype = FDL_FLOAT64));

    /* The input, then every parameter: the check moves each of their elements a little. */
    fdl_params *ps = fdl_parameters(m);
    fdl_tensor *leaves[8] = {fdl_randn(FDL_SHAPE(3, 5), .dtype = FDL_FLOAT64, .requires_grad = true)};
    int n = 1;
    for (int i = 0; i < fdl_params_count(ps); i++) {
        char key[64];
        FDL_CHECK(fdl_state_key(fdl_params_name(ps, i), key, sizeof key));
        printf("%-14s %lld elements\n", key, (long long)fdl_numel(fdl_param_tensor(fdl_params_at(ps, i))));
        leaves[n++] = fdl_param_tensor(fdl_params_at(ps, i));
    }
    fdl_gradcheck_report report;
    FDL_CHECK(fdl_gradcheck(run, ((fdl_list){n, leaves}), m, .report = &report));
    printf("gradients agree with difference quotients; the worst uses %.2g of its tolerance\n", report.worst);
    FDL_CHECK(fdl_module_free(m));
    return 0;
}
