/* How a kind of module says itself in ONNX: operations that go from names of values to the name of a new one. A failure is
 * NULL, passes through, and is told at the end; so a mapping is written without checks. */
#ifndef FLODL_NN_ONNX_H
#define FLODL_NN_ONNX_H

#include "flodl/attention.h"
#include "flodl/kind.h"

/* One attribute. */
typedef struct onnx_attr {
    const char *name; /* NULL: the end */
    enum { ONNX_INT, ONNX_FLOAT, ONNX_TEXT, ONNX_INTS, ONNX_TEXTS } type;
    int64_t i;
    double f;
    const char *text;
    int n;
    const int64_t *ints;
    const char *const *texts;
} onnx_attr;
#define A_INT(name_, v)                           \
    {                                             \
        .name = name_, .type = ONNX_INT, .i = (v) \
    }
#define A_FLOAT(name_, v)                           \
    {                                               \
        .name = name_, .type = ONNX_FLOAT, .f = (v) \
    }
#define A_TEXT(name_, v)                              \
    {                                                 \
        .name = name_, .type = ONNX_TEXT, .text = (v) \
    }
#define A_INTS(name_, n_, v)                                     \
    {                                                            \
        .name = name_, .type = ONNX_INTS, .n = (n_), .ints = (v) \
    }
#define A_TEXTS(name_, n_, v)                                      \
    {                                                              \
        .name = name_, .type = ONNX_TEXTS, .n = (n_), .texts = (v) \
    }

/* An operation of so many inputs ("": one that is left out) and results; results' names in out. */
bool onnx_operation(fdl_onnx *o, const char *op, int n, const char *const *inputs, const onnx_attr *attrs,
                    int results, const char **out);
/* OP(o, "Add", IN(a, b)), OP_ATTR(o, "Softmax", IN(x), A_INT("axis", 1)): the one result. */
static inline const char *onnx_one(fdl_onnx *o, const char *op, int n, const char *const *inputs,
                                   const onnx_attr *attrs)
{
    const char *out;
    return onnx_operation(o, op, n, inputs, attrs, 1, &out) ? out : NULL;
}
#define IN(...)                                                                     \
    (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), (const char *[]) \
    {                                                                               \
        __VA_ARGS__                                                                 \
    }
#define OP(o, op, ...) onnx_one(o, op, __VA_ARGS__, NULL)
#define OP_ATTR(o, op, in, ...) onnx_one(o, op, in, (const onnx_attr[]){__VA_ARGS__, {0}})

/* Constants: a number of the dtype that the call's x has, whole numbers [n], a tensor (its values are taken at once or when the
 * file is written, and it is kept until then). */
const char *onnx_number(fdl_onnx *o, double x);
const char *onnx_ints(fdl_onnx *o, int n, const int64_t *x);
#define INTS(o, ...) \
    onnx_ints(o, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__})
const char *onnx_tensor(fdl_onnx *o, fdl_tensor *x, const char *name);
/* x, one number, as often as shape says; the epsilon of the dtype that the call's x has. */
const char *onnx_expand(fdl_onnx *o, const char *x, fdl_shape shape);
double onnx_epsilon(const fdl_onnx *o);
/* A parameter or buffer of m under its own name in the model; NULL without an error when m has none of that leaf name. */
const char *onnx_param(fdl_onnx *o, fdl_module *m, const char *leaf);
/* Its values, as they are outside of the export; NULL likewise. */
fdl_tensor *onnx_values(fdl_onnx *o, fdl_module *m, const char *leaf);

/* Another module of the library on value x, of shape `shape`, which gives result `y`. */
const char *onnx_module(fdl_onnx *o, fdl_module *m, fdl_shape shape, fdl_shape y, const char *x);
/* A text that lives as long as the export. */
const char *onnx_text(fdl_onnx *o, const char *format, ...) FDL_PRINTF(2, 3);
/* The same on n inputs, the main one first. */
const char *onnx_module_of(fdl_onnx *o, fdl_module *m, int n, const fdl_shape *shapes, fdl_shape y,
                           const char *const *x);
/* A multihead_attention of x, of shape query, to keys and values `other`, of shape key; causal: the module around it says so. */
const char *onnx_attention(fdl_onnx *o, fdl_module *m, bool causal, fdl_shape query, fdl_shape key,
                           const char *x, const char *other);
/* fdl_rope on x of that rank, whose last dims are [rows, features]. */
const char *onnx_rope(fdl_onnx *o, const char *x, int rank, int64_t rows, int64_t features,
                      const fdl_rope_opts *how);
/* fdl_alibi added to scores [*, heads, queries, keys]. */
const char *onnx_alibi(fdl_onnx *o, const char *scores, int64_t heads, int64_t queries, int64_t keys);
/* Says that this can't be told in ONNX; NULL. */
const char *onnx_refuse(fdl_onnx *o, const char *format, ...) FDL_PRINTF(2, 3);
int onnx_opset(const fdl_onnx *o);
/* The node that is being said: "encoder.linear_3"; names of its own begin so. */
const char *onnx_place(const fdl_onnx *o);
/* One operation by name and inputs, or NULL when the public function of one tensor has no counterpart. */
const char *onnx_function(fdl_onnx *o, fdl_tensor *(*f)(fdl_tensor *x), const char *x);

/* Means over dims [n] of x, kept; dims move by the version of the operation. */
const char *onnx_mean(fdl_onnx *o, const char *x, int n, const int64_t *dims);
/* x with a dim of 1 put in, or taken out, at dim. */
const char *onnx_unsqueeze(fdl_onnx *o, const char *x, int64_t dim);
const char *onnx_squeeze(fdl_onnx *o, const char *x, int64_t dim);
const char *onnx_slice(fdl_onnx *o, const char *x, int64_t dim, int64_t from, int64_t to);
const char *onnx_transpose(fdl_onnx *o, const char *x, int n, const int64_t *order);
#define TRANSPOSE(o, x, ...)                                                        \
    onnx_transpose(o, x, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), \
                   (const int64_t[]){__VA_ARGS__})
/* x weight^T + bias; weight [out, in] and bias are names, bias may be NULL; rank: of x. */
const char *onnx_linear(fdl_onnx *o, int rank, const char *x, const char *weight, const char *bias);

#endif
