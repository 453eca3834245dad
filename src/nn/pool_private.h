/* What the files of pooling modules share. */
#ifndef FLODL_NN_POOL_PRIVATE_H
#define FLODL_NN_POOL_PRIVATE_H

#include "flodl/pool.h"

#include "arguments.h"
#include "onnx.h"

/* The beginning of each pool that knows where its values were; such a module's forward is indexed_forward. */
typedef struct indexed_pool {
    fdl_tensor *(*run)(const void *self, fdl_tensor *x, fdl_tensor **indices); /* indices may be NULL */
} indexed_pool;
fdl_tensor *indexed_forward(void *self, fdl_tensor *x);

/* The stride is the kernel unless given. */
bool pool_stride(const char *name, int n, int64_t stride, const fdl_shape *dims, const fdl_shape *kernel,
                 fdl_shape *out);
/* A pooling of n dims in ONNX on x, which may have no batch. */
const char *onnx_pool(fdl_onnx *o, const fdl_call *c, int n, const char *x, const char *op,
                      const onnx_attr *attrs);

#endif
