/* Low-rank adapters: a linear layer stays as it is, and a product of two thin matrices is learned beside it. Hu et al. 2021,
 * "LoRA: Low-Rank Adaptation of Large Language Models". */
#include "arguments.h"
#include "describe.h"
#include "flodl/arithmetic.h"
#include "flodl/dropout.h"
#include "flodl/init.h"
#include "flodl/inplace.h"
#include "flodl/linalg.h"
#include "flodl/surgery.h"
#include "module_private.h"

typedef struct lora {
    fdl_module *base;
    fdl_tensor *a, *b; /* [rank, in], [out, rank] */
    double scale, dropout;
} lora;

static fdl_tensor *lora_forward(void *self, fdl_tensor *x)
{
    const lora *m = self;
    fdl_tensor *y = fdl_forward_of(m->base, 1, &x);
    fdl_tensor *z =
        m->dropout > 0 ? fdl_dropout(x, m->dropout, .training = fdl_is_training(fdl_module_of(self))) : x;
    z = fdl_linear_opt(fdl_linear_opt(z, m->a, NULL), m->b, NULL);
    return fdl_add_tensor(y, m->scale == 1 ? z : fdl_mul_scalar(z, m->scale));
}

static const fdl_module_ops lora_ops = {.kind = "lora", .size = sizeof(lora), .forward = lora_forward};

/* The layer's parameters keep their names: it has no piece of its own in them. */
static int lora_parts(fdl_module *m)
{
    return m->children.n;
}

static module_part lora_part(fdl_module *m, int i)
{
    const char *name = i ? m->children.names[i] : NULL; /* behind the layer: what computes lora_a or lora_b */
    return (module_part){.module = m->children.at[i], .name = name, .flat = name, .sequential = name};
}

static const module_table lora_table = {.parts = lora_parts, .part = lora_part};

fdl_module *lora_base(fdl_module *m)
{
    return m->real->table == &lora_table ? ((const lora *)m->real->self)->base : NULL;
}

typedef struct lora_args {
    fdl_module *linear;
    int64_t rank;
    fdl_nn_lora_opts o;
} lora_args;

static fdl_module *make_lora(const void *args)
{
    const lora_args *a = args;
    return fdl_nn_lora_opt(a->linear, a->rank, &a->o);
}

KIND(lora, .name = "lora",
     ARGS(lora_args, CHILD_ARG(lora_args, linear, "linear"), FDL_ARG(lora_args, rank, INT64),
          FDL_OPT(lora_args, alpha, OPT_DOUBLE), FDL_OPT(lora_args, dropout, DOUBLE),
          FDL_OPT(lora_args, train_base, BOOL)));

/* [out, in]; NULL: m is no layer that has one. */
static fdl_tensor *weight_of(fdl_module *m)
{
    return strcmp(fdl_module_kind(m), "linear") == 0
               ? fdl_param_tensor(fdl_module_own_param(m, "weight"))
               : fdl_fail_null(FDL_E_ARG, "fdl_nn_lora: takes a linear layer, got a %s", fdl_module_kind(m));
}

static fdl_tensor *factor(fdl_tensor *weight, int64_t rows, int64_t columns, bool zeros)
{
    fdl_tensor_opts opts = {.dtype = fdl_dtype_of(weight), .device = fdl_device_of(weight)};
    fdl_tensor *t = fdl_zeros_opt(FDL_SHAPE(rows, columns), &opts);
    /* what a linear layer of its own would begin with: a slope of sqrt(5) */
    fdl_init_kaiming_opts kaiming = {.a = 2.2360679774997896964};
    return t && !zeros && fdl_init_kaiming_uniform_opt(t, &kaiming) != FDL_OK ? NULL : t;
}

static bool check(int64_t rank, const fdl_nn_lora_opts *o)
{
    if (!arg_at_least("lora", "rank", rank, 1))
        return false;
    if (o->dropout >= 0 && o->dropout < 1)
        return true;
    fdl_fail(FDL_E_ARG, "fdl_nn_lora: .dropout is %g, must be in [0, 1)", o->dropout);
    return false;
}

fdl_module *fdl_nn_lora_opt(fdl_module *linear, int64_t rank, const fdl_nn_lora_opts *opts)
{
    const fdl_nn_lora_opts o = opts ? *opts : (fdl_nn_lora_opts){0};
    if (!linear) {
        fdl_null_operand("fdl_nn_lora", "linear");
        return NULL;
    }
    FDL_SCOPE;
    fdl_tensor *weight = check(rank, &o) ? weight_of(linear) : NULL;
    fdl_module *m = weight ? module_new_with(&lora_ops, &lora_table) : NULL;
    if (!m) {
        if (!linear->owned)
            module_release(linear);
        return NULL;
    }
    lora *self = m->self;
    fdl_shape shape = fdl_shape_of(weight);
    self->scale = fdl_opt_double(o.alpha, (double)rank) / (double)rank;
    self->dropout = o.dropout;
    self->base = fdl_module_child(m, "linear", linear);
    self->a = fdl_module_param(m, "lora_a", factor(weight, rank, shape.d[1], false));
    self->b = fdl_module_param(m, "lora_b", factor(weight, shape.d[0], rank, true));
    if (self->base && !o.train_base && fdl_freeze(self->base) != FDL_OK)
        m->failed = true;
    return DESCRIBED(m, lora, (lora_args){linear, rank, o});
}

fdl_status fdl_nn_lora_fold(fdl_module *m)
{
    if (!m)
        return fdl_null_operand(__func__, "lora");
    if (!lora_base(m))
        return fdl_fail(FDL_E_ARG, "%s: takes what fdl_nn_lora made, got a %s", __func__, fdl_module_kind(m));
    FDL_SCOPE;
    FDL_NO_GRAD;
    const lora *self = m->real->self;
    fdl_tensor *weight = weight_of(self->base);
    fdl_tensor *product = fdl_mul_scalar(fdl_matmul(self->b, self->a), self->scale);
    FDL_TRY(fdl_add_opt_(weight, product, NULL));
    return fdl_init_zeros(self->b);
}
