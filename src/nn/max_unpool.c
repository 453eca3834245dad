/* max_unpool1d, max_unpool2d, max_unpool3d: values back to where a max pool took them from. */
#include "pool_private.h"

#include "describe.h"
#include "flodl/nn.h"

typedef struct max_unpool {
    fdl_max_unpool_opts o;
} max_unpool;

static fdl_tensor *unpool(const max_unpool *m, fdl_tensor *x, fdl_tensor *indices, fdl_shape size)
{
    static fdl_tensor *(*const unpools[])(fdl_tensor *, fdl_tensor *, int64_t,
                                          const fdl_max_unpool_opts *) = {
        fdl_max_unpool1d_opt, fdl_max_unpool2d_opt, fdl_max_unpool3d_opt};
    fdl_max_unpool_opts o = m->o;
    o.size = size;
    return unpools[o.kernel_dims.ndim - 1](x, indices, 0, &o);
}

static fdl_tensor *max_unpool_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    fdl_tensor *indices = fdl_refs_get(r, "indices");
    if (!indices)
        return fdl_fail_null(FDL_E_ARG, "%s takes 2 inputs, x and the indices of a max pool, got 1",
                             fdl_module_kind(fdl_module_of(self)));
    return unpool(self, x, indices, (fdl_shape){0});
}

static const char *const unpool_refs[] = {"indices", NULL};
#define UNPOOL_OPS(kind_)                                                    \
    {                                                                        \
        .kind = kind_, .size = sizeof(max_unpool), .ref_names = unpool_refs, \
        .forward_named = max_unpool_forward                                  \
    }
static const fdl_module_ops max_unpool_ops[] = {UNPOOL_OPS("max_unpool1d"), UNPOOL_OPS("max_unpool2d"),
                                                UNPOOL_OPS("max_unpool3d")};

typedef struct max_unpool_args {
    int64_t k;
    fdl_nn_max_unpool_opts o;
} max_unpool_args;

#define MAX_UNPOOL_KIND(id)                                                                           \
    static fdl_module *make_##id(const void *args)                                                    \
    {                                                                                                 \
        const max_unpool_args *a = args;                                                              \
        return fdl_nn_##id##_opt(a->k, &a->o);                                                        \
    }                                                                                                 \
    KIND(id, .name = #id,                                                                             \
         ARGS(max_unpool_args, FDL_ARG(max_unpool_args, k, INT64),                                    \
              FDL_OPT(max_unpool_args, kernel_dims, SHAPE), FDL_OPT(max_unpool_args, stride, INT64),  \
              FDL_OPT(max_unpool_args, stride_dims, SHAPE), FDL_OPT(max_unpool_args, padding, INT64), \
              FDL_OPT(max_unpool_args, padding_dims, SHAPE)))

MAX_UNPOOL_KIND(max_unpool1d);
MAX_UNPOOL_KIND(max_unpool2d);
MAX_UNPOOL_KIND(max_unpool3d);

static fdl_module *new_max_unpool(int n, int64_t k, const fdl_nn_max_unpool_opts *opts)
{
    static const fdl_kind *const kinds[] = {&kind_max_unpool1d, &kind_max_unpool2d, &kind_max_unpool3d};
    const fdl_nn_max_unpool_opts o = opts ? *opts : (fdl_nn_max_unpool_opts){0};
    const char *name = max_unpool_ops[n - 1].kind;
    fdl_shape kernel = {0}, stride = {0}, padding = {0};
    if (!arg_spatial(name, "kernel", n, k, 0, 1, &o.kernel_dims, &kernel) ||
        !pool_stride(name, n, o.stride, &o.stride_dims, &kernel, &stride) ||
        !arg_spatial(name, "padding", n, o.padding, 0, 0, &o.padding_dims, &padding))
        return NULL;
    fdl_module *m = fdl_module_new(&max_unpool_ops[n - 1]);
    max_unpool *self = fdl_module_self(m);
    if (self)
        self->o =
            (fdl_max_unpool_opts){.kernel_dims = kernel, .stride_dims = stride, .padding_dims = padding};
    return described(m, kinds[n - 1], &(max_unpool_args){k, o});
}

fdl_module *fdl_nn_max_unpool1d_opt(int64_t k, const fdl_nn_max_unpool_opts *opts)
{
    return new_max_unpool(1, k, opts);
}

fdl_module *fdl_nn_max_unpool2d_opt(int64_t k, const fdl_nn_max_unpool_opts *opts)
{
    return new_max_unpool(2, k, opts);
}

fdl_module *fdl_nn_max_unpool3d_opt(int64_t k, const fdl_nn_max_unpool_opts *opts)
{
    return new_max_unpool(3, k, opts);
}

fdl_tensor *fdl_nn_max_unpool_forward_opt(fdl_module *m, fdl_tensor *x, fdl_tensor *indices,
                                          const fdl_nn_max_unpool_forward_opts *opts)
{
    if (!m || !x || !indices)
        return fdl_null_operand("fdl_nn_max_unpool_forward", !m ? "m" : !x ? "x" : "indices"), NULL;
    if (fdl_module_ops_of(m)->forward_named != max_unpool_forward)
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_max_unpool_forward: got a %s, needs a max_unpool",
                             fdl_module_kind(m));
    FDL_SCOPE;
    FDL_RETURN(unpool(fdl_module_self(m), x, indices, opts ? opts->size : (fdl_shape){0}));
}
