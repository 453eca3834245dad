/* The values that every call speaks in: dtypes, devices, shapes, lists, and how optional arguments are passed. */
#ifndef FLODL_TYPES_H
#define FLODL_TYPES_H

#include "flodl/base.h"

FDL_BEGIN_DECLS

/* A tensor: libtorch's tensor with its autograd metadata. Whose it is stands with each function that returns one:
 * scope (dies with the innermost open scope), owned (the caller frees it), borrowed (somebody else's). scope.h. */
typedef struct fdl_tensor fdl_tensor;

/* ---- dtype ------------------------------------------------------------------------------------- */

#define FDL_DTYPE_MAP(X)                        \
    X(FDL_FLOAT32, 1, "float32", 4, Float)      \
    X(FDL_FLOAT64, 2, "float64", 8, Double)     \
    X(FDL_FLOAT16, 3, "float16", 2, Half)       \
    X(FDL_BFLOAT16, 4, "bfloat16", 2, BFloat16) \
    X(FDL_INT8, 5, "int8", 1, Char)             \
    X(FDL_UINT8, 6, "uint8", 1, Byte)           \
    X(FDL_INT16, 7, "int16", 2, Short)          \
    X(FDL_INT32, 8, "int32", 4, Int)            \
    X(FDL_INT64, 9, "int64", 8, Long)           \
    X(FDL_BOOL, 10, "bool", 1, Bool)

#define FDL_DTYPE_ENUM_(name, value, text, size, torch) name = value,
typedef enum fdl_dtype { FDL_DTYPE_DEFAULT = 0, FDL_DTYPE_MAP(FDL_DTYPE_ENUM_) } fdl_dtype;
#undef FDL_DTYPE_ENUM_

/* Bytes of one element; 0 for FDL_DTYPE_DEFAULT and for a number that is no dtype. */
FDL_API int fdl_dtype_size(fdl_dtype dtype);
/* "float32"; "unknown dtype" for a number that is none. */
FDL_API const char *fdl_dtype_name(fdl_dtype dtype);
/* float32, float64, float16 or bfloat16. */
FDL_API bool fdl_dtype_is_floating(fdl_dtype dtype);

/* ---- device ------------------------------------------------------------------------------------ */

/* All zero means "the thread's default device", the CPU until fdl_set_default_device. */
typedef struct fdl_device {
    int16_t type; /* 0 default, 1 CPU, 2 CUDA, 3 meta */
    int16_t index;
} fdl_device;

enum {
    FDL_DEVICE_TYPE_DEFAULT = 0,
    FDL_DEVICE_TYPE_CPU = 1,
    FDL_DEVICE_TYPE_CUDA = 2,
    FDL_DEVICE_TYPE_META = 3
};
enum { FDL_DEVICE_NAME_SIZE = 16 };

/* FDL_CPU and FDL_CUDA(i) as functions. An index outside 0 to 127 is one that no machine has. */
static inline fdl_device fdl_device_cpu(void)
{
    fdl_device d = {FDL_DEVICE_TYPE_CPU, 0};
    return d;
}
static inline fdl_device fdl_device_cuda(int index)
{
    fdl_device d = {FDL_DEVICE_TYPE_CUDA, (int16_t)(index < 0 || index > 127 ? -1 : index)};
    return d;
}
static inline fdl_device fdl_device_meta(void)
{
    fdl_device d = {FDL_DEVICE_TYPE_META, 0};
    return d;
}
/* The devices: `.device = FDL_CUDA(1)`. Tensors on FDL_META_DEVICE have shape and dtype but no values: operations on them cost
 * nothing and check what they always check. A value that is asked of one (fdl_item) is 0, and its elements can't be read. */
#define FDL_CPU (fdl_device_cpu())
#define FDL_CUDA(i) (fdl_device_cuda(i))
#define FDL_META_DEVICE (fdl_device_meta())

/* Whether both are the same kind with the same index. */
FDL_API bool fdl_device_eq(fdl_device a, fdl_device b);
/* Writes "cpu", "meta", "cuda" (index 0) or "cuda:1" to buf of FDL_DEVICE_NAME_SIZE bytes and returns it. */
FDL_API char *fdl_device_name(fdl_device d, char *buf);
/* "cpu", "meta", "cuda", "cuda:1". FDL_E_ARG for anything else, with *d unchanged. */
FDL_API fdl_status fdl_device_parse(const char *text, fdl_device *d);

/* ---- shapes and lists -------------------------------------------------------------------------- */

enum { FDL_MAX_DIMS = 12 };

/* A shape, or several dims. ndim 0 is the shape of a 0-d tensor. */
typedef struct fdl_shape {
    int64_t d[FDL_MAX_DIMS];
    int ndim; /* last, so that numbers without FDL_DIMS, .padding_dims = {2, 1}, are seen to lack it */
} fdl_shape;
/* Whether numbers are there and their count isn't: FDL_DIMS was forgotten. */
static inline bool fdl_shape_lacks_count(const fdl_shape *s)
{
    return s->ndim == 0 && s->d[0] != 0;
}

/* Tensors in order. A list that a function returns lives in the current scope, its array too; {0, NULL} is failure. */
typedef struct fdl_list {
    int n;
    fdl_tensor **at;
} fdl_list;

/* Integers in order. */
typedef struct fdl_ints {
    int n;
    const int64_t *at;
} fdl_ints;

/* Element i of a list, borrowed. NULL passes through (a failed list); an i outside is FDL_E_RANGE. */
FDL_API fdl_tensor *fdl_list_at(fdl_list list, int i);
/* A list over an array that ends in FDL_END; at most INT_MAX elements. The array stays the caller's. */
FDL_API fdl_list fdl_list_of(fdl_tensor **ended);
/* Same number of dims and same extents. */
FDL_API bool fdl_shape_eq(fdl_shape a, fdl_shape b);
/* Product of the extents, 1 for 0-d. */
FDL_API int64_t fdl_shape_numel(fdl_shape shape);

#ifndef __cplusplus
#define FDL_COUNT_INTS_(...) (sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))
/* A shape, FDL_SHAPE(32, 3, 224, 224); several dims, FDL_DIMS(0, 1); the shape of a 0-d tensor. Values, which may be kept. */
#define FDL_SHAPE(...) ((fdl_shape){{__VA_ARGS__}, (int)FDL_COUNT_INTS_(__VA_ARGS__)})
#define FDL_DIMS(...) FDL_SHAPE(__VA_ARGS__)
#define FDL_SCALAR ((fdl_shape){{0}, 0})
/* Integers and tensors in order: FDL_INTS(30, 60, 90), FDL_LIST(a, b). Their arrays live as long as the enclosing block. */
#define FDL_INTS(...) ((fdl_ints){(int)FDL_COUNT_INTS_(__VA_ARGS__), (const int64_t[]){__VA_ARGS__}})
#define FDL_LIST(...) (fdl_list_of((fdl_tensor *[]){__VA_ARGS__, FDL_END}))
#endif

FDL_END_DECLS

#endif
