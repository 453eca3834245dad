/* What the layers of transformers have in common, and stacks of them. */
#include "stack.h"

#include "arguments.h"
#include "module_private.h"
#include "flodl/activation.h"
#include "flodl/nn_dropout.h"
#include "flodl/nn_linear.h"
#include "flodl/nn_norm.h"
#include "flodl/random.h"

/* ---- parts of a layer --------------------------------------------------------------------------- */

bool layer_parts_good(const layer_parts *p)
{
    return arg_at_least(p->kind, "dim", p->dim, 1) && arg_at_least(p->kind, "heads", p->heads, 1) &&
           arg_divides(p->kind, "heads", p->heads, "dim", p->dim) && arg_at_least(p->kind, "ff", p->ff, 1) &&
           arg_within(p->kind, "dropout", p->dropout, 0, 1) &&
           arg_within(p->kind, "eps", fdl_opt_double(p->eps, 0), 0, 1e300);
}

fdl_module *layer_attention(fdl_module *m, const char *name, const layer_parts *p)
{
    fdl_nn_multihead_attention_opts o = {.dropout = p->dropout > 0 ? p->dropout : FDL_ZERO,
                                         .no_bias = p->no_bias,
                                         .batch_first = p->batch_first,
                                         .dtype = p->dtype,
                                         .device = p->device};
    return fdl_module_child(m, name, fdl_nn_multihead_attention_opt(p->dim, p->heads, &o));
}

fdl_module *layer_norm(fdl_module *m, const char *name, const layer_parts *p)
{
    fdl_nn_layer_norm_opts o = {.eps = p->eps, .no_bias = p->no_bias, .dtype = p->dtype, .device = p->device};
    return fdl_module_child(m, name, fdl_nn_layer_norm_opt(p->dim, &o));
}

fdl_module *layer_dropout(fdl_module *m, const char *name, const layer_parts *p)
{
    return fdl_module_child(m, name, fdl_nn_dropout(p->dropout));
}

two_maps layer_maps(fdl_module *m, const layer_parts *p)
{
    fdl_nn_linear_opts o = {.no_bias = p->no_bias, .dtype = p->dtype, .device = p->device};
    two_maps maps = {.ff = p->ff, .activation = p->activation ? p->activation : fdl_relu};
    maps.linear1 = fdl_module_child(m, "linear1", fdl_nn_linear_opt(p->dim, p->ff, &o));
    maps.dropout = layer_dropout(m, "dropout", p);
    maps.linear2 = fdl_module_child(m, "linear2", fdl_nn_linear_opt(p->ff, p->dim, &o));
    return maps;
}

fdl_tensor *two_maps_forward(const two_maps *m, fdl_tensor *x)
{
    fdl_tensor *y = fdl_forward(m->dropout, m->activation(fdl_forward(m->linear1, x)));
    return fdl_forward(m->last, fdl_forward(m->linear2, y));
}

const char *two_maps_onnx(fdl_onnx *o, const two_maps *m, fdl_shape s, const char *x)
{
    fdl_shape wide = s;
    wide.d[wide.ndim - 1] = m->ff;
    const char *y = onnx_module(o, m->linear1, s, wide, x);
    return onnx_module(o, m->linear2, wide, s, y ? onnx_function(o, m->activation, y) : NULL);
}

/* ---- refs --------------------------------------------------------------------------------------- */

fdl_status take_refs(const char *kind, const char *takes, const fdl_refs *r, int n, const char *const *names,
                     fdl_tensor **const *place)
{
    for (size_t i = 0; i < fdl_refs_count(r); i++) {
        const char *name = fdl_refs_name(r, i);
        int at = 0;
        while (at < n && strcmp(names[at], name) != 0)
            at++;
        bool named = at < n;
        for (int k = 0; !named && at == n && k < n; k++)
            if (!*place[k])
                at = k;
        if (at == n || *place[at])
            return fdl_fail(FDL_E_ARG, "%s takes %s; \"%s\" is one input too many", kind, takes, name);
        *place[at] = fdl_refs_at(r, i);
    }
    return FDL_OK;
}

/* ---- a layer n times ---------------------------------------------------------------------------- */

void layer_stack_free(void *self)
{
    free(((layer_stack *)self)->layers);
}

static fdl_status take_buffers(fdl_module *to, fdl_module *from)
{
    fdl_params *source = fdl_buffers(from), *target = fdl_buffers(to);
    for (int i = 0; i < fdl_params_count(source); i++)
        FDL_TRY(fdl_param_set(fdl_params_at(target, i), fdl_param_tensor(fdl_params_at(source, i))));
    return FDL_OK;
}

/* Takes over the values, the mode, what is frozen and what is computed. */
static fdl_status take_values(fdl_module *to, fdl_module *from, const char *kind)
{
    FDL_SCOPE;
    FDL_TRY(module_compute_like(to, from));
    FDL_TRY(take_buffers(to, from));
    fdl_params *source = fdl_parameters(from), *target = fdl_parameters(to);
    int n = fdl_params_count(source);
    if (n < 0 || n != fdl_params_count(target))
        return fdl_fail(FDL_E_STATE, "fdl_nn_%s: two parameters of the layer are tied", kind);
    for (int i = 0; i < n; i++) {
        fdl_param *p = fdl_params_at(source, i), *q = fdl_params_at(target, i);
        FDL_TRY(fdl_param_set(q, fdl_param_tensor(p)));
        if (fdl_param_is_frozen(p))
            FDL_TRY(fdl_param_freeze(q));
    }
    return fdl_is_training(from) ? FDL_OK : fdl_eval(to);
}

/* Like PyTorch's, a copy draws no random numbers. */
static fdl_module *copy_of(fdl_module *first, const char *kind,
                           fdl_module *(*again)(fdl_module *first, fdl_dtype dtype, fdl_device device))
{
    FDL_SCOPE;
    fdl_tensor *weight = fdl_param_tensor(fdl_params_at(fdl_parameters(first), 0));
    if (!weight)
        return NULL;
    fdl_device device = fdl_device_of(weight);
    fdl_tensor *random = fdl_rng_state(device);
    fdl_module *m = random ? again(first, fdl_dtype_of(weight), device) : NULL;
    if (m && fdl_set_rng_state(device, random) == FDL_OK && take_values(m, first, kind) == FDL_OK)
        return m;
    fdl_module_free(m);
    return NULL;
}

static fdl_status fill(fdl_module *m, layer_stack *self, const fdl_module_ops *layer, fdl_module *first,
                       int64_t n, fdl_module *(*again)(fdl_module *, fdl_dtype, fdl_device))
{
    const char *kind = fdl_module_kind(m);
    if (!first)
        return FDL_E_NULL; /* remembered in m */
    if (fdl_module_ops_of(first) != layer)
        return fdl_fail(FDL_E_ARG, "fdl_nn_%s: layer is a %s, must be a %s", kind, fdl_module_kind(first),
                        layer->kind);
    if (!arg_within(kind, "n", (double)n, 1, 1 << 20))
        return FDL_E_ARG;
    self->layers = calloc((size_t)n, sizeof *self->layers);
    if (!self->layers)
        return fdl_fail(FDL_E_OOM, "fdl_nn_%s: no memory for %" PRId64 " layers", kind, n);
    self->layers[0] = first;
    for (self->n = 1; self->n < n; self->n++) {
        char name[32];
        snprintf(name, sizeof name, "layers.%" PRId64, self->n);
        self->layers[self->n] = fdl_module_child(m, name, copy_of(first, kind, again));
        if (!self->layers[self->n])
            return FDL_E_NULL;
    }
    return FDL_OK;
}

fdl_status layer_stack_fill(fdl_module *m, const fdl_module_ops *layer, fdl_module *first, int64_t n,
                            fdl_module *norm, bool lost_norm,
                            fdl_module *(*again)(fdl_module *first, fdl_dtype dtype, fdl_device device))
{
    layer_stack *self = fdl_module_self(m);
    first = fdl_module_child(m, "layers.0", first);
    fdl_status status = self ? fill(m, self, layer, first, n, again) : FDL_E_OOM;
    norm = norm || lost_norm ? fdl_module_child(m, "norm", norm) : NULL;
    if (self)
        self->norm = norm;
    return status;
}
