/* Operations, constants and names of an ONNX model; docs/topology.md says which modules it can tell. */
#include "onnx_private.h"

#include <stdarg.h>

/* ---- names --------------------------------------------------------------------------------------------- */

const char *onnx_text(fdl_onnx *o, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    struct onnx_name *made = malloc(sizeof *made + (size_t)n + 1);
    if (!made) {
        fdl_fail(FDL_E_OOM, "no memory for an ONNX model");
        o->failed = true;
        return NULL;
    }
    made->next = o->names;
    o->names = made;
    char *text = made->text;
    va_start(args, format);
    vsnprintf(text, (size_t)n + 1, format, args);
    va_end(args);
    return text;
}

const char *onnx_name_of(const fdl_onnx *o, fdl_tensor *t)
{
    for (int i = o->values - 1; i >= 0; i--) /* what was made last is asked for first */
        if (fdl_is(o->value[i].kept, t))
            return o->value[i].name;
    return NULL;
}

static bool enough(void **at, int n, int *room, size_t size)
{
    if (n < *room)
        return true;
    int more = *room ? 2 * *room : 64;
    void *larger = realloc(*at, size * (size_t)more);
    if (!larger) {
        fdl_fail(FDL_E_OOM, "no memory for an ONNX model");
        return false;
    }
    *at = larger;
    *room = more;
    return true;
}

fdl_status onnx_note(fdl_onnx *o, fdl_tensor *t, const char *name)
{
    fdl_tensor *kept = name ? fdl_keep(t) : NULL;
    if (!kept || !enough((void **)&o->value, o->values, &o->value_room, sizeof *o->value)) {
        fdl_free(kept);
        o->failed = true;
        return fdl_error_pending() != FDL_OK ? fdl_error_pending() : FDL_E_OOM;
    }
    o->value[o->values++] = (onnx_value){kept, name};
    return FDL_OK;
}

const onnx_result *onnx_result_of(const fdl_onnx *o, const fdl_module *m)
{
    for (int i = 0; i < o->results; i++)
        if (o->result[i].module == m->real)
            return &o->result[i];
    return NULL;
}

fdl_status onnx_note_result(fdl_onnx *o, const fdl_module *m, const char *name, fdl_shape shape)
{
    onnx_result *there = (onnx_result *)onnx_result_of(o, m);
    if (!there) {
        if (!enough((void **)&o->result, o->results, &o->result_room, sizeof *o->result)) {
            o->failed = true;
            return FDL_E_OOM;
        }
        there = &o->result[o->results++];
    }
    *there = (onnx_result){m, name, shape};
    return FDL_OK;
}

void onnx_free(fdl_onnx *o)
{
    for (int i = 0; i < o->values; i++)
        fdl_free(o->value[i].kept);
    for (int i = 0; i < o->initializers; i++)
        fdl_free(o->initializer[i].kept);
    while (o->names) {
        struct onnx_name *next = o->names->next;
        free(o->names);
        o->names = next;
    }
    free(o->value);
    free(o->result);
    free(o->initializer);
    free(o->nodes.at);
    *o = (fdl_onnx){0};
}

int onnx_opset(const fdl_onnx *o)
{
    return o->opset;
}

const char *onnx_place(const fdl_onnx *o)
{
    return o->place;
}

const char *onnx_refuse(fdl_onnx *o, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!o->failed)
        fdl_fail(FDL_E_UNSUPPORTED, "%s (%s): %s", o->place, o->kind ? o->kind : "?", text);
    o->failed = true;
    return NULL;
}

/* ---- operations ---------------------------------------------------------------------------------------- */

static void put_attribute(proto *node, const onnx_attr *a)
{
    enum { is_float = 1, is_int = 2, is_string = 3, is_ints = 7, is_strings = 8 };
    proto p = {0};
    proto_text(&p, 1, a->name);
    switch (a->type) {
    case ONNX_INT:
        proto_int(&p, 3, a->i);
        proto_int(&p, 20, is_int);
        break;
    case ONNX_FLOAT:
        proto_float(&p, 2, (float)a->f);
        proto_int(&p, 20, is_float);
        break;
    case ONNX_TEXT:
        proto_text(&p, 4, a->text);
        proto_int(&p, 20, is_string);
        break;
    case ONNX_INTS:
        for (int i = 0; i < a->n; i++)
            proto_int(&p, 8, a->ints[i]);
        proto_int(&p, 20, is_ints);
        break;
    case ONNX_TEXTS:
        for (int i = 0; i < a->n; i++)
            proto_text(&p, 9, a->texts[i]);
        proto_int(&p, 20, is_strings);
    }
    proto_message(node, 5, &p);
}

bool onnx_operation(fdl_onnx *o, const char *op, int n, const char *const *inputs, const onnx_attr *attrs,
                    int results, const char **out)
{
    proto node = {0};
    for (int i = 0; i < n; i++) {
        if (!inputs[i] || o->failed) {
            o->failed = true;
            free(node.at);
            return false;
        }
        proto_text(&node, 1, inputs[i]);
    }
    int number = ++o->count;
    for (int i = 0; i < results; i++) {
        out[i] = i ? onnx_text(o, "%s/%s_%d_%d", o->place, op, number, i)
                   : onnx_text(o, "%s/%s_%d", o->place, op, number);
        if (out[i])
            proto_text(&node, 2, out[i]);
    }
    if (out[0])
        proto_text(&node, 3, out[0]);
    proto_text(&node, 4, op);
    for (; attrs && attrs->name; attrs++)
        put_attribute(&node, attrs);
    proto_message(&o->nodes, 1, &node);
    o->failed |= o->nodes.failed;
    return !o->failed;
}

/* ---- constants ----------------------------------------------------------------------------------------- */

int onnx_dtype(fdl_dtype dtype)
{
    switch (dtype) {
    case FDL_FLOAT32:
        return 1;
    case FDL_UINT8:
        return 2;
    case FDL_INT8:
        return 3;
    case FDL_INT16:
        return 5;
    case FDL_INT32:
        return 6;
    case FDL_INT64:
        return 7;
    case FDL_BOOL:
        return 9;
    case FDL_FLOAT16:
        return 10;
    case FDL_FLOAT64:
        return 11;
    case FDL_BFLOAT16:
        return 16;
    case FDL_DTYPE_DEFAULT:
        break;
    }
    return 0;
}

const char *onnx_tensor(fdl_onnx *o, fdl_tensor *x, const char *name)
{
    if (o->failed || !x || !name) {
        o->failed = true;
        return NULL;
    }
    for (int i = 0; i < o->initializers; i++)
        if (strcmp(o->initializer[i].name, name) == 0)
            return o->initializer[i].name;
    name = onnx_text(o, "%s", name);
    fdl_tensor *kept = name ? fdl_keep(x) : NULL;
    if (!kept ||
        !enough((void **)&o->initializer, o->initializers, &o->initializer_room, sizeof *o->initializer)) {
        fdl_free(kept);
        o->failed = true;
        return NULL;
    }
    o->initializer[o->initializers++] = (onnx_initializer){name, kept};
    return name;
}

const char *onnx_number(fdl_onnx *o, double x)
{
    return onnx_tensor(o, fdl_full(FDL_SCALAR, x, .dtype = o->dtype, .device = FDL_CPU),
                       onnx_text(o, "%s/number_%d", o->place, ++o->count));
}

const char *onnx_ints(fdl_onnx *o, int n, const int64_t *x)
{
    return onnx_tensor(o, fdl_from_i64(x, FDL_SHAPE(n), .device = FDL_CPU),
                       onnx_text(o, "%s/ints_%d", o->place, ++o->count));
}

const char *onnx_expand(fdl_onnx *o, const char *x, fdl_shape shape)
{
    return OP(o, "Expand", IN(x, onnx_ints(o, shape.ndim, shape.d)));
}

double onnx_epsilon(const fdl_onnx *o)
{
    return o->dtype == FDL_FLOAT64    ? 0x1p-52
           : o->dtype == FDL_FLOAT16  ? 0x1p-10
           : o->dtype == FDL_BFLOAT16 ? 0x1p-7
                                      : 0x1p-23;
}

static struct fdl_param *own(fdl_module *m, const char *leaf)
{
    m = m->real;
    for (int i = 0; i < m->params.n; i++)
        if (strcmp(m->params.at[i]->name, leaf) == 0)
            return m->params.at[i];
    for (int i = 0; i < m->buffers.n; i++)
        if (strcmp(m->buffers.at[i]->name, leaf) == 0)
            return m->buffers.at[i];
    const module_computed *c = module_computed_named(m, leaf);
    return c ? c->p : NULL;
}

fdl_tensor *onnx_values(fdl_onnx *o, fdl_module *m, const char *leaf)
{
    struct fdl_param *p = own(m, leaf);
    return p ? o->real(o->ctx, p->t) : NULL;
}

static const char *name_in(fdl_params *list, const struct fdl_param *p)
{
    for (int i = 0; i < fdl_params_count(list); i++)
        if (fdl_params_at(list, i) == p)
            return fdl_params_name(list, i);
    return NULL;
}

const char *onnx_param(fdl_onnx *o, fdl_module *m, const char *leaf)
{
    struct fdl_param *p = own(m, leaf);
    if (!p)
        return NULL;
    const char *name = name_in(o->params, p);
    if (!name)
        name = name_in(o->buffers, p);
    return onnx_tensor(o, o->real(o->ctx, p->t), name ? name : onnx_text(o, "%s/%s", o->place, leaf));
}

/* ---- what several kinds say ---------------------------------------------------------------------------- */

const char *onnx_module_of(fdl_onnx *o, fdl_module *m, int n, const fdl_shape *shapes, fdl_shape y,
                           const char *const *x)
{
    const void *args;
    const fdl_kind *kind = fdl_module_description(m, &args);
    const char *outer = o->kind;
    for (int i = 0; i < n; i++)
        if (!x[i])
            return NULL;
    o->kind = fdl_module_kind(m);
    fdl_call call = {.module = m->real, .args = args, .x = shapes[0], .y = y, .inputs = n, .input = shapes};
    const char *result =
        kind && kind->onnx ? kind->onnx(o, &call, x) : onnx_refuse(o, "this kind isn't told in ONNX");
    o->kind = outer;
    return result;
}

const char *onnx_module(fdl_onnx *o, fdl_module *m, fdl_shape shape, fdl_shape y, const char *x)
{
    return onnx_module_of(o, m, 1, &shape, y, &x);
}

const char *onnx_mean(fdl_onnx *o, const char *x, int n, const int64_t *dims)
{
    if (o->opset < 18)
        return OP_ATTR(o, "ReduceMean", IN(x), A_INTS("axes", n, dims), A_INT("keepdims", 1));
    return OP_ATTR(o, "ReduceMean", IN(x, onnx_ints(o, n, dims)), A_INT("keepdims", 1));
}

const char *onnx_unsqueeze(fdl_onnx *o, const char *x, int64_t dim)
{
    return OP(o, "Unsqueeze", IN(x, INTS(o, dim)));
}

const char *onnx_squeeze(fdl_onnx *o, const char *x, int64_t dim)
{
    return OP(o, "Squeeze", IN(x, INTS(o, dim)));
}

const char *onnx_slice(fdl_onnx *o, const char *x, int64_t dim, int64_t from, int64_t to)
{
    return OP(o, "Slice", IN(x, INTS(o, from), INTS(o, to), INTS(o, dim)));
}

const char *onnx_transpose(fdl_onnx *o, const char *x, int n, const int64_t *order)
{
    return OP_ATTR(o, "Transpose", IN(x), A_INTS("perm", n, order));
}

const char *onnx_linear(fdl_onnx *o, int rank, const char *x, const char *weight, const char *bias)
{
    if (rank == 2)
        return bias ? OP_ATTR(o, "Gemm", IN(x, weight, bias), A_INT("transB", 1))
                    : OP_ATTR(o, "Gemm", IN(x, weight), A_INT("transB", 1));
    const char *y = OP(o, "MatMul", IN(x, TRANSPOSE(o, weight, 1, 0)));
    return bias ? OP(o, "Add", IN(y, bias)) : y;
}
