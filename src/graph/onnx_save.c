/* ONNX files: a forward without values, in which each module and node says what it did to which value. Values are told apart by
 * their tensors, which are kept meanwhile. Loops are thereby unrolled. */
#include "flodl/onnx.h"
#include "flodl/file.h"

#include "../nn/onnx_private.h"
#include "dry.h"

#include <inttypes.h>

typedef struct exporter {
    fdl_onnx o;
    dry_run run;
    int inside; /* modules around the current call that say what they do as a whole */
    fdl_module *model;
    int n;
    const fdl_input *inputs;
    int outputs;
    struct onnx_output {
        const char *name;
        fdl_shape shape;
        fdl_dtype dtype;
    } * output;
} exporter;

/* ---- while it runs ------------------------------------------------------------------------------------- */

static const char *input_name(const exporter *e, int i)
{
    const graph *g = graph_or_null(e->model);
    return g ? g->input[i].name : i ? onnx_text((fdl_onnx *)&e->o, "input_%d", i) : "input";
}

static void name_inputs(void *ctx, int n, fdl_tensor *const *x)
{
    exporter *e = ctx;
    e->o.params = fdl_parameters(e->model, .every = true);
    e->o.buffers = fdl_buffers(e->model, .every = true, .transient = true);
    e->o.failed |= !e->o.params || !e->o.buffers;
    for (int i = 0; i < n; i++)
        onnx_note(&e->o, x[i], input_name(e, i));
}

/* Modules that say what they do; a graph's nodes say it, and what has no name for itself is refused. */
static bool says_itself(const fdl_module *m)
{
    return m->kind && m->kind->onnx;
}

static void before_module(void *ctx, fdl_module *m)
{
    exporter *e = ctx;
    e->inside += says_itself(m);
}

static void set_dtype(fdl_onnx *o, fdl_tensor *x)
{
    fdl_dtype dtype = fdl_dtype_of(x);
    if (fdl_dtype_is_floating(dtype))
        o->dtype = dtype;
}

static void after_module(void *ctx, fdl_module *m, int n, fdl_tensor *const *inputs, const char *const *names,
                         fdl_tensor *y)
{
    exporter *e = ctx;
    fdl_onnx *o = &e->o;
    e->inside -= says_itself(m);
    if (e->inside || o->failed)
        return;
    if (graph_or_null(m)) {
        onnx_note_result(o, m, onnx_name_of(o, y), fdl_shape_of(y));
        return;
    }
    o->kind = fdl_module_kind(m);
    if (!says_itself(m)) {
        onnx_refuse(o, "this kind isn't told in ONNX");
        return;
    }
    fdl_shape shapes[8] = {{{0}, 0}};
    const char *in[8];
    if (n > 8) {
        onnx_refuse(o, "more than 8 inputs");
        return;
    }
    for (int i = 0; i < n; i++) {
        shapes[i] = fdl_shape_of(inputs[i]);
        in[i] = onnx_name_of(o, inputs[i]);
        if (!in[i]) {
            onnx_refuse(o, "its input %d comes from what isn't told in ONNX", i);
            return;
        }
    }
    set_dtype(o, inputs[0]);
    fdl_call call = {.module = m,
                     .args = m->args,
                     .x = shapes[0],
                     .y = fdl_shape_of(y),
                     .inputs = n,
                     .input = shapes,
                     .names = names};
    const char *name = m->kind->onnx(o, &call, in);
    if (name && !onnx_name_of(o, y))
        onnx_note(o, y, name);
    o->failed |= !name;
    if (name)
        onnx_note_result(o, m, name, call.y);
}

static void before_node(void *ctx, graph *g, int place)
{
    exporter *e = ctx;
    fdl_onnx *o = &e->o;
    const plan_node *p = &g->plan[place];
    size_t used = strlen(o->place);
    snprintf(o->place + used, sizeof o->place - used, "%s%s", used ? "." : "", g->node[p->node].id);
    const char *why = p->type == &module_node ? NULL
                      : !p->type->onnx        ? "this step isn't told in ONNX"
                      : p->type->onnx_refusal ? p->type->onnx_refusal(p)
                                              : NULL;
    o->kind = p->module ? fdl_module_kind(p->module) : "a node of the graph";
    if (why && !e->inside)
        onnx_refuse(o, "%s", why);
}

static void say_node(exporter *e, graph *g, const plan_node *p, fdl_tensor *y)
{
    fdl_onnx *o = &e->o;
    const node_type *type = p->type;
    if (e->inside || o->failed)
        return;
    if (type != &module_node) {
        o->kind = p->module ? fdl_module_kind(p->module) : "a node of the graph";
        set_dtype(o, p->in[0]);
        const char *name = type->onnx(o, g, p, y);
        if (name && !onnx_name_of(o, y))
            onnx_note(o, y, name);
        if (!name)
            onnx_refuse(o, "its result comes from what isn't told in ONNX");
    } else if (!onnx_name_of(o, y)) {
        onnx_refuse(o, "its result comes from what isn't told in ONNX");
    }
}

static void after_node(void *ctx, graph *g, int place, fdl_tensor *y)
{
    exporter *e = ctx;
    say_node(e, g, &g->plan[place], y);
    if (e->o.failed)
        return;
    size_t id = strlen(g->node[g->plan[place].node].id), used = strlen(e->o.place);
    if (used + 1 < sizeof e->o.place) /* otherwise it was cut */
        e->o.place[used > id ? used - id - 1 : 0] = 0;
}

static bool is_taken(const exporter *e, const char *name)
{
    for (int i = 0; i < e->n; i++)
        if (strcmp(input_name(e, i), name) == 0)
            return true;
    for (int i = 0; i < e->outputs; i++)
        if (strcmp(e->output[i].name, name) == 0)
            return true;
    return false;
}

/* A value of its own, as y may be an input, or another output, too. Names of other values have a "/". */
static void add_output(exporter *e, fdl_tensor *y, const char *name)
{
    fdl_onnx *o = &e->o;
    snprintf(o->place, sizeof o->place, "%s", name);
    o->kind = "output";
    const char *from = o->failed ? NULL : onnx_name_of(o, y);
    if (!from) {
        onnx_refuse(o, "its result comes from what isn't told in ONNX");
        return;
    }
    while (name && is_taken(e, name))
        name = onnx_text(o, "%s_", name);
    if (!name)
        return;
    proto node = {0};
    proto_text(&node, 1, from);
    proto_text(&node, 2, name);
    proto_text(&node, 3, name);
    proto_text(&node, 4, "Identity");
    proto_message(&o->nodes, 1, &node);
    o->failed |= o->nodes.failed;
    e->output[e->outputs++] = (struct onnx_output){name, fdl_shape_of(y), fdl_dtype_of(y)};
}

static void name_output(void *ctx, fdl_tensor *y)
{
    exporter *e = ctx;
    const graph *g = graph_or_null(e->model);
    int further = g ? g->outputs : 0;
    e->output = calloc((size_t)further + 1, sizeof *e->output);
    if (!e->output) {
        fdl_fail(FDL_E_OOM, "no memory for an ONNX model");
        e->o.failed = true;
        return;
    }
    add_output(e, y, "output");
    for (int i = 0; i < further; i++)
        add_output(e, graph_tag_value(g, g->further[i].node), g->further[i].name);
}

static fdl_tensor *real_values(void *ctx, fdl_tensor *object)
{
    return dry_original(&((exporter *)ctx)->run, object);
}

static const dry_listener listener = {.inputs = name_inputs,
                                      .before = before_module,
                                      .after = after_module,
                                      .before_node = before_node,
                                      .after_node = after_node,
                                      .output = name_output};

static fdl_status export(exporter *e, fdl_module *m, int n, const fdl_input *inputs, int opset, int64_t batch)
{
    e->model = m;
    e->n = n;
    e->inputs = inputs;
    e->run.listener = &listener;
    e->run.ctx = e;
    e->o.opset = opset;
    e->o.dtype = FDL_FLOAT32;
    e->o.real = real_values;
    e->o.ctx = e;
    if (!graph_or_null(m))
        snprintf(e->o.place, sizeof e->o.place, "%s", fdl_module_kind(m));
    fdl_status status = dry_forward(m, n, inputs, batch, &e->run);
    if (status == FDL_OK && e->o.failed)
        status = fdl_error_pending() != FDL_OK ? fdl_error_pending() : fdl_fail(FDL_E_OOM, "no memory");
    return status;
}

/* ---- two batches --------------------------------------------------------------------------------------- */

static bool same_values(fdl_tensor *a, fdl_tensor *b)
{
    FDL_SCOPE;
    int64_t n = fdl_numel(a);
    if (fdl_dtype_of(a) != FDL_INT64 || fdl_dtype_of(b) != FDL_INT64)
        return fdl_shape_eq(fdl_shape_of(a), fdl_shape_of(b));
    int64_t *x = fdl_scope_alloc(sizeof *x * (size_t)(n + 1)),
            *y = fdl_scope_alloc(sizeof *y * (size_t)(n + 1));
    return n == fdl_numel(b) && x && y && fdl_to_i64(a, x, n) == FDL_OK && fdl_to_i64(b, y, n) == FDL_OK &&
           memcmp(x, y, sizeof *x * (size_t)n) == 0;
}

/* What is said must not depend on how large the batch was. */
static fdl_status compare(const exporter *a, const exporter *b)
{
    const char *where = NULL;
    for (int i = 0; i < a->o.initializers && i < b->o.initializers && !where; i++)
        if (strcmp(a->o.initializer[i].name, b->o.initializer[i].name) != 0 ||
            !same_values(a->o.initializer[i].kept, b->o.initializer[i].kept))
            where = a->o.initializer[i].name;
    bool same = !where && a->o.initializers == b->o.initializers && a->o.nodes.n == b->o.nodes.n &&
                memcmp(a->o.nodes.at, b->o.nodes.at, a->o.nodes.n) == 0;
    return same ? FDL_OK
                : fdl_fail(FDL_E_UNSUPPORTED,
                           "what ONNX is told depends on the size of the batch%s%s; give that extent a "
                           "number instead of -1",
                           where ? ", at " : "", where ? where : "");
}

/* The sizes of batch with which the model is run, and an extent that goes with them in another way. */
enum { batch_one = 2, batch_two = 3, other_extent = -2 };

/* ---- the file ------------------------------------------------------------------------------------------ */

/* Extents: -1 is the batch, other_extent one of which nothing is said. */
static void put_value_info(proto *graph_message, int field, const char *name, fdl_dtype dtype,
                           const fdl_shape *shape)
{
    proto dims = {0}, tensor = {0}, type = {0}, info = {0};
    for (int i = 0; i < shape->ndim; i++) {
        proto dim = {0};
        if (shape->d[i] == -1)
            proto_text(&dim, 2, "N");
        else if (shape->d[i] >= 0)
            proto_int(&dim, 1, shape->d[i]);
        proto_message(&dims, 1, &dim);
    }
    proto_int(&tensor, 1, onnx_dtype(dtype));
    proto_message(&tensor, 2, &dims);
    proto_message(&type, 1, &tensor);
    proto_text(&info, 1, name);
    proto_message(&info, 2, &type);
    proto_message(graph_message, field, &info);
}

static size_t bytes_of(fdl_tensor *x)
{
    return (size_t)fdl_numel(x) * (size_t)fdl_dtype_size(fdl_dtype_of(x));
}

/* A TensorProto up to its values, with the field that it is of the graph. */
static void put_initializer_head(proto *p, const onnx_initializer *w)
{
    proto tensor = {0};
    fdl_shape shape = fdl_shape_of(w->kept);
    for (int i = 0; i < shape.ndim; i++)
        proto_int(&tensor, 1, shape.d[i]);
    proto_int(&tensor, 2, onnx_dtype(fdl_dtype_of(w->kept)));
    proto_text(&tensor, 8, w->name);
    proto_head(&tensor, 9, bytes_of(w->kept));
    proto_head(p, 5, tensor.n + bytes_of(w->kept));
    p->failed |= tensor.failed;
    if (!p->failed)
        proto_raw(p, tensor.at, tensor.n);
    free(tensor.at);
}

static fdl_status write_values(fdl_file *file, fdl_tensor *x)
{
    FDL_SCOPE;
    size_t n = bytes_of(x);
    void *bytes = malloc(n ? n : 1);
    if (!bytes)
        return fdl_fail(FDL_E_OOM, "no memory for the weights of an ONNX file");
    fdl_status status = fdl_to_bytes(x, bytes, n);
    if (status == FDL_OK)
        status = fdl_file_write(file, bytes, n);
    free(bytes);
    return status;
}

static fdl_status write_parts(fdl_file *file, const exporter *e, const proto *head, const proto *heads,
                              const proto *graph_message)
{
    FDL_TRY(fdl_file_write(file, head->at, head->n));
    FDL_TRY(fdl_file_write(file, graph_message->at, graph_message->n));
    FDL_TRY(fdl_file_write(file, e->o.nodes.at, e->o.nodes.n));
    for (int i = 0; i < e->o.initializers; i++) {
        FDL_TRY(fdl_file_write(file, heads[i].at, heads[i].n));
        FDL_TRY(write_values(file, e->o.initializer[i].kept));
    }
    return FDL_OK;
}

static fdl_status write_file(const char *path, const exporter *e, const proto *head, const proto *heads,
                             const proto *graph_message)
{
    fdl_file *file = fdl_file_create(path);
    if (!file)
        return fdl_error_pending();
    fdl_status status = write_parts(file, e, head, heads, graph_message);
    if (status == FDL_OK)
        return fdl_file_commit(file);
    fdl_file_discard(file);
    return status;
}

static fdl_status save(const char *path, const exporter *e, const char *name)
{
    enum { ir_version = 8 };
    const size_t most = ((size_t)1 << 31) - 1;
    proto graph_message = {0}, head = {0}, operations = {0};
    proto *heads = calloc((size_t)e->o.initializers + 1, sizeof *heads);
    if (!heads)
        return fdl_fail(FDL_E_OOM, "no memory for an ONNX file");
    proto_text(&graph_message, 2, name);
    for (int i = 0; i < e->n; i++)
        put_value_info(&graph_message, 11, input_name(e, i),
                       e->inputs[i].dtype ? e->inputs[i].dtype : fdl_default_dtype(), &e->inputs[i].shape);
    for (int i = 0; i < e->outputs; i++)
        put_value_info(&graph_message, 12, e->output[i].name, e->output[i].dtype, &e->output[i].shape);
    size_t size = graph_message.n + e->o.nodes.n;
    bool failed = graph_message.failed;
    for (int i = 0; i < e->o.initializers; i++) {
        put_initializer_head(&heads[i], &e->o.initializer[i]);
        size += heads[i].n + bytes_of(e->o.initializer[i].kept);
        failed |= heads[i].failed;
    }
    proto_int(&head, 1, ir_version);
    proto_text(&head, 2, "flodl");
    proto_text(&operations, 1, "");
    proto_int(&operations, 2, e->o.opset);
    proto_message(&head, 8, &operations);
    proto_head(&head, 7, size);
    failed |= head.failed;
    fdl_status status =
        failed ? fdl_fail(FDL_E_OOM, "no memory for an ONNX file")
        : size > most
            ? fdl_fail(FDL_E_UNSUPPORTED, "the model is %zu bytes; an ONNX file holds less than 2 GB", size)
            : write_file(path, e, &head, heads, &graph_message);
    for (int i = 0; i < e->o.initializers; i++)
        free(heads[i].at);
    free(heads);
    free(head.at);
    free(graph_message.at);
    return status;
}

/* What the extents are of which the two batches say different things. */
static void free_extents(fdl_shape *a, const fdl_shape *b)
{
    for (int i = 0; i < a->ndim; i++)
        if (i >= b->ndim || a->d[i] != b->d[i])
            a->d[i] = a->d[i] == batch_one && i < b->ndim && b->d[i] == batch_two ? -1 : other_extent;
}

static fdl_status export_both(fdl_module *m, const char *path, int n, const fdl_input *inputs, bool batch,
                              const fdl_onnx_opts *o, exporter *one, exporter *two)
{
    int opset = o->opset ? o->opset : 17;
    FDL_TRY(export(one, m, n, inputs, opset, batch_one));
    if (batch) {
        FDL_TRY(export(two, m, n, inputs, opset, batch_two));
        FDL_TRY(compare(one, two));
        for (int i = 0; i < one->outputs; i++)
            free_extents(&one->output[i].shape, &two->output[i].shape);
    }
    const graph *g = graph_or_null(m);
    return save(path, one, o->name ? o->name : g && g->label ? g->label : "flodl");
}

fdl_status fdl_onnx_save_opt(fdl_module *m, const char *path, fdl_shape x, const fdl_onnx_opts *opts)
{
    static const fdl_onnx_opts none = {0};
    const fdl_onnx_opts *o = opts ? opts : &none;
    if (!m || !path)
        return fdl_null_operand("fdl_onnx_save", m ? "path" : "m");
    if (o->opset && (o->opset < 17 || o->opset > 22))
        return fdl_fail(FDL_E_ARG, "fdl_onnx_save: opset is %d, must be from 17 to 22", o->opset);
    m = m->real;
    if (module_refusal(m))
        return fdl_fail(FDL_E_ARG, "fdl_onnx_save: %s", module_refusal(m));
    FDL_SCOPE;
    bool batch = false, before = fdl_error_pending() != FDL_OK;
    int n;
    const fdl_input *inputs = dry_inputs("fdl_onnx_save", m, x, o->dtype, &o->more, &n, &batch);
    if (!inputs)
        return fdl_error_pending();
    exporter one = {0}, two = {0};
    fdl_status status = export_both(m, path, n, inputs, batch, o, &one, &two);
    if (status != FDL_OK && !before)
        fdl_error_prefix("fdl_onnx_save: ");
    free(one.output);
    free(two.output);
    dry_free(&one.run);
    dry_free(&two.run);
    onnx_free(&one.o);
    onnx_free(&two.o);
    return status;
}
