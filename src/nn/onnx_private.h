/* A model that is being written as ONNX. */
#ifndef FLODL_NN_ONNX_PRIVATE_H
#define FLODL_NN_ONNX_PRIVATE_H

#include "module_private.h"
#include "onnx.h"

/* Bytes of a protobuf message. */
typedef struct proto {
    unsigned char *at;
    size_t n, room;
    bool failed;
} proto;

void proto_int(proto *p, int field, int64_t x);
void proto_float(proto *p, int field, float x);
void proto_bytes(proto *p, int field, const void *bytes, size_t n);
void proto_text(proto *p, int field, const char *text);
/* Bytes that are fields already. */
void proto_raw(proto *p, const void *bytes, size_t n);
/* The head of a field whose n bytes follow by other means. */
void proto_head(proto *p, int field, size_t n);
/* inner as a field of p; frees inner. */
void proto_message(proto *p, int field, proto *inner);

typedef struct onnx_value {
    fdl_tensor *kept;
    const char *name;
} onnx_value;

typedef struct onnx_initializer {
    const char *name;
    fdl_tensor *kept; /* with values */
} onnx_initializer;

/* What a module gave when it ran last. */
typedef struct onnx_result {
    const fdl_module *module;
    const char *name;
    fdl_shape shape;
} onnx_result;

struct fdl_onnx {
    int opset;
    proto nodes; /* the fields `node` of a GraphProto */
    int count;   /* of names that were given */
    struct onnx_name {
        struct onnx_name *next;
        char text[];
    } * names;
    int values, value_room;
    onnx_value *value;
    int initializers, initializer_room;
    onnx_initializer *initializer;
    int results, result_room;
    onnx_result *result;
    fdl_params *params, *buffers; /* every one of the model, with its names */
    fdl_dtype dtype;              /* of the current call's x */
    bool failed;
    char place[512];  /* the node that is being said: "encoder.linear_3" */
    const char *kind; /* of what is being said */
    /* The real values of a parameter or buffer while others stand in their place. */
    fdl_tensor *(*real)(void *ctx, fdl_tensor *object);
    void *ctx;
};

/* Name of the value that t is; NULL without an error: it is none that was said. */
const char *onnx_name_of(const fdl_onnx *o, fdl_tensor *t);
fdl_status onnx_note(fdl_onnx *o, fdl_tensor *t, const char *name);
/* Of the last call of m; NULL: it had none. */
const onnx_result *onnx_result_of(const fdl_onnx *o, const fdl_module *m);
fdl_status onnx_note_result(fdl_onnx *o, const fdl_module *m, const char *name, fdl_shape shape);
void onnx_free(fdl_onnx *o);
/* The number that ONNX has for a dtype. */
int onnx_dtype(fdl_dtype dtype);

#endif
