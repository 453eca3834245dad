/* What the layers of transformers have in common: the two linear maps behind the attentions, refs that are masks, and a stack of a
 * layer and its copies. */
#ifndef FLODL_NN_STACK_H
#define FLODL_NN_STACK_H

#include "describe.h"
#include "onnx.h"
#include "flodl/nn_transformer.h"

/* ---- two linear maps ---------------------------------------------------------------------------- */

/* linear2(dropout(activation(linear1(x)))), and another dropout behind it. Children of the layer. */
typedef struct two_maps {
    int64_t ff;
    fdl_tensor *(*activation)(fdl_tensor *x);
    fdl_module *linear1, *dropout, *linear2, *last;
} two_maps;

/* What all layers are made with. */
typedef struct layer_parts {
    const char *kind;
    int64_t dim, heads, ff;
    double dropout, eps; /* dropout: the value; eps: the option */
    bool batch_first, no_bias;
    fdl_tensor *(*activation)(fdl_tensor *x);
    fdl_dtype dtype;
    fdl_device device;
} layer_parts;

bool layer_parts_good(const layer_parts *p);
/* Children of m in the order in which they are made. */
fdl_module *layer_attention(fdl_module *m, const char *name, const layer_parts *p);
fdl_module *layer_norm(fdl_module *m, const char *name, const layer_parts *p);
fdl_module *layer_dropout(fdl_module *m, const char *name, const layer_parts *p);
/* linear1, dropout, linear2; not yet the last dropout. */
two_maps layer_maps(fdl_module *m, const layer_parts *p);

fdl_tensor *two_maps_forward(const two_maps *m, fdl_tensor *x);
const char *two_maps_onnx(fdl_onnx *o, const two_maps *m, fdl_shape s, const char *x);

/* ---- refs --------------------------------------------------------------------------------------- */

/* Further inputs into *place[n], by name, and those of other names in order into places that are free. One too many:
 * FDL_E_ARG, with `takes`: "x, attn_mask and key_padding_mask". */
fdl_status take_refs(const char *kind, const char *takes, const fdl_refs *r, int n, const char *const *names,
                     fdl_tensor **const *place);

/* ---- a layer n times ---------------------------------------------------------------------------- */

typedef struct layer_stack {
    int64_t n;
    fdl_module **layers, *norm; /* the array is the stack's, the modules borrowed */
} layer_stack;

void layer_stack_free(void *self);
/* Makes m (a module whose self begins with a layer_stack; NULL: failed) own first as "layers.0", n - 1 copies of it that draw no random
 * numbers, and norm; again makes a layer as `first` was, in its dtype and on its device. kind: what first has to be. All modules are
 * taken over, on failure too. lost_norm: norm's constructor failed. */
fdl_status layer_stack_fill(fdl_module *m, const fdl_module_ops *layer, fdl_module *first, int64_t n,
                            fdl_module *norm, bool lost_norm,
                            fdl_module *(*again)(fdl_module *first, fdl_dtype dtype, fdl_device device));

#endif
