/* Small modules of a user's own with exact arithmetic, for the tests of graphs. */
#ifndef FLODL_TESTS_GRAPH_MODULES_H
#define FLODL_TESTS_GRAPH_MODULES_H

#include "check.h"

static FDL_UNUSED fdl_tensor *twice(fdl_tensor *x)
{
    return fdl_add(x, x);
}

static FDL_UNUSED fdl_tensor *thrice(fdl_tensor *x)
{
    return fdl_mul(x, 3.0);
}

static FDL_UNUSED fdl_tensor *fails(fdl_tensor *x)
{
    (void)x;
    return fdl_fail_null(FDL_E_RANGE, "this module always fails");
}

static FDL_UNUSED fdl_tensor *gives_nothing(fdl_tensor *x)
{
    (void)x;
    return NULL;
}

#define dbl() fdl_nn_fn(twice, .name = "dbl")
#define tri() fdl_nn_fn(thrice, .name = "tri")
#define id() fdl_nn_identity()

/* x + b, b learnable, zeros. */
static inline fdl_tensor *bias_forward(void *self, fdl_tensor *x)
{
    return fdl_add(x, *(fdl_tensor **)self);
}

static const fdl_module_ops bias_ops FDL_UNUSED = {
    .kind = "bias", .size = sizeof(fdl_tensor *), .forward = bias_forward};

static inline fdl_module *new_bias(int64_t n)
{
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&bias_ops);
    *(fdl_tensor **)fdl_module_self(m) = fdl_module_param(m, "bias", fdl_zeros(FDL_SHAPE(n)));
    return fdl_module_done(m);
}

/* x + ctx, x without it. */
static inline fdl_tensor *add_ctx_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    fdl_tensor *ctx = fdl_refs_get(r, "ctx");
    return ctx ? fdl_add(x, ctx) : x;
}

static const fdl_module_ops add_ctx_ops FDL_UNUSED = {.kind = "add_ctx", .forward_named = add_ctx_forward};
#define add_ctx() fdl_module_new(&add_ctx_ops)

/* x + all refs, each times its place from 1: so that order shows. */
static inline fdl_tensor *sum_refs_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    for (size_t i = 0; i < fdl_refs_count(r); i++)
        x = fdl_add(x, fdl_mul(fdl_refs_at(r, i), (double)(i + 1)));
    return x;
}

static const fdl_module_ops sum_refs_ops FDL_UNUSED = {.kind = "state_add",
                                                       .forward_named = sum_refs_forward};
#define sum_refs() fdl_module_new(&sum_refs_ops)

static const char *const ab_names[] FDL_UNUSED = {"a", "b", NULL};
/* 1 a + 100 b + x, whatever the order of wiring. */
static inline fdl_tensor *ab_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    return fdl_add(fdl_add(x, fdl_refs_need(r, "a")), fdl_mul(fdl_refs_need(r, "b"), 100.0));
}

static const fdl_module_ops ab_ops FDL_UNUSED = {
    .kind = "ab", .forward_named = ab_forward, .ref_names = ab_names};
#define new_ab() fdl_module_new(&ab_ops)

/* The input; counts calls since the last reset, and all resets. */
typedef struct counter {
    int calls, resets;
} counter;

static inline fdl_tensor *count_forward(void *self, fdl_tensor *x)
{
    ((counter *)self)->calls++;
    return x;
}

static inline void count_reset(void *self)
{
    ((counter *)self)->calls = 0;
    ((counter *)self)->resets++;
}

static const fdl_module_ops count_ops FDL_UNUSED = {
    .kind = "counter", .size = sizeof(counter), .forward = count_forward, .reset = count_reset};
#define new_counter() fdl_module_new(&count_ops)

/* A linear layer that passes x on: weight I, bias b. */
static inline fdl_module *identity_linear(int64_t n, double b)
{
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(n, n);
    FDL_CHECK(fdl_param_set(fdl_module_own_param(m, "weight"), fdl_eye(n)));
    FDL_CHECK(fdl_param_set(fdl_module_own_param(m, "bias"), fdl_full(FDL_SHAPE(n), b)));
    return m;
}

/* x has these values, in order. */
static inline void check_values_(fdl_tensor *x, int n, const float *want, const char *file, int line)
{
    float got[64];
    check_some_(x, "the result", file, line);
    if (fdl_numel(x) != n || fdl_to_f32(fdl_to_dtype(x, FDL_FLOAT32), got, n) != FDL_OK) {
        print_error("%s:%d: %d values expected, got %lld\n", file, line, n, (long long)fdl_numel(x));
        _fail(file, line);
    }
    for (int i = 0; i < n; i++)
        if (got[i] - want[i] > 1e-5f || want[i] - got[i] > 1e-5f) {
            print_error("%s:%d: value %d is %g, expected %g\n", file, line, i, (double)got[i],
                        (double)want[i]);
            _fail(file, line);
        }
}
#define check_values(x, ...)                                                                        \
    check_values_(x, (int)(sizeof((float[]){__VA_ARGS__}) / sizeof(float)), (float[]){__VA_ARGS__}, \
                  __FILE__, __LINE__)

/* [1, n] of these values. */
static inline fdl_tensor *row_of(int n, const float *values)
{
    return fdl_from_f32(values, FDL_SHAPE(1, n));
}
#define row(...) row_of((int)(sizeof((float[]){__VA_ARGS__}) / sizeof(float)), (const float[]){__VA_ARGS__})

/* The ids in order of execution, joined by blanks. */
static inline const char *node_ids(fdl_module *g)
{
    int n = fdl_graph_node_count(g);
    char *text = fdl_scope_alloc(64 * (size_t)n + 1);
    for (int i = 0; i < n; i++) {
        strcat(text, i ? " " : "");
        strcat(text, fdl_graph_node_id(g, i));
    }
    return text;
}

#endif
