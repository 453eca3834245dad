/* A model as a tree of JSON: each module by its kind and the fields of its description, each graph by its steps. */
#include "flodl/file.h"
#include "graph_private.h"
#include "stock.h"

static const char *entry_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    (void)o;
    (void)c;
    return *x;
}

const fdl_kind entry_kind = {.name = "identity", .onnx = entry_onnx};

/* ---- places -------------------------------------------------------------------------------------------- */

const char *place_text(const place *p, char *buf, size_t size)
{
    char piece[256];
    buf[0] = 0;
    size_t used = 0; /* from the end of buf */
    for (; p; p = p->outer) {
        int n = p->name ? snprintf(piece, sizeof piece, "%s%s", p->outer ? "." : "", p->name)
                        : snprintf(piece, sizeof piece, "[%d]", p->i);
        if (n < 0 || used + (size_t)n + 4 > size) {
            memmove(buf + 3, buf, used + 1);
            memcpy(buf, "...", 3);
            return buf;
        }
        memmove(buf + n, buf, used + 1);
        memcpy(buf, piece, (size_t)n);
        used += (size_t)n;
    }
    return buf;
}

/* ---- modules that stand in several places ---------------------------------------------------------------- */

typedef struct met {
    fdl_module *module; /* the real one */
    int times;
    bool written;
    char id[24];
} met;

typedef struct writer {
    const fdl_topology_opts *opts;
    met *met;
    int n, room; /* a power of two, open addressing */
    int shared;
    bool prefix; /* an error that comes up is this model's */
} writer;

static met *find(const writer *w, fdl_module *m)
{
    size_t k = ((uintptr_t)m >> 5) & (size_t)(w->room - 1);
    while (w->met[k].module && w->met[k].module != m)
        k = (k + 1) & (size_t)(w->room - 1);
    return &w->met[k];
}

static met *meet(writer *w, fdl_module *m)
{
    if (2 * (w->n + 1) > w->room) {
        writer more = {.room = w->room ? 2 * w->room : 64};
        more.met = calloc((size_t)more.room, sizeof *more.met);
        if (!more.met)
            return fdl_fail_null(FDL_E_OOM, "no memory for a topology");
        for (int i = 0; i < w->room; i++)
            if (w->met[i].module)
                *find(&more, w->met[i].module) = w->met[i];
        free(w->met);
        w->met = more.met;
        w->room = more.room;
    }
    met *it = find(w, m);
    w->n += !it->module;
    it->module = m;
    it->times++;
    return it;
}

static fdl_status fail_deep(void)
{
    return fdl_fail(FDL_E_UNSUPPORTED, "fdl_topology: more than %d modules lie in one another", most_nested);
}

static fdl_status count(writer *w, fdl_module *m, int depth)
{
    m = m->real;
    met *it = meet(w, m);
    if (!it)
        return FDL_E_OOM;
    if (it->times > 1)
        return FDL_OK;
    if (depth > most_nested)
        return fail_deep();
    graph *g = graph_or_null(m);
    for (int i = 0; g && i < g->owned; i++)
        FDL_TRY(count(w, g->own[i], depth + 1));
    for (const fdl_field *f = m->kind ? m->kind->fields : NULL; f && f->type; f++)
        if (f->type == FDL_FIELD_MODULE || f->type == FDL_FIELD_MODULES)
            for (int i = 0; module_field_child(m, f, i); i++)
                FDL_TRY(count(w, module_field_child(m, f, i), depth + 1));
    return FDL_OK;
}

/* ---- values -------------------------------------------------------------------------------------------- */

static json_t *number(double x)
{
    if (x != x)
        return json_string("nan");
    if (x - x != 0)
        return json_string(x > 0 ? "inf" : "-inf");
    return json_real(x);
}

static json_t *list_of_ints(const fdl_shape *s)
{
    json_t *list = json_array();
    for (int i = 0; i < s->ndim; i++)
        json_array_append_new(list, json_integer(s->d[i]));
    return list;
}

static json_t *list_of_texts(const fdl_texts *texts)
{
    json_t *list = json_array();
    for (int i = 0; i < texts->n; i++)
        json_array_append_new(list, json_string(texts->at[i]));
    return list;
}

typedef void any_function(void);

static any_function *pointer_of(const fdl_function *f, fdl_field_type type)
{
    return type == FDL_FIELD_FUNCTION        ? (any_function *)f->f
           : type == FDL_FIELD_FUNCTION_REFS ? (any_function *)f->refs
                                             : (any_function *)f->list;
}

static const char *name_of(const fdl_function *list, fdl_field_type type, any_function *f)
{
    for (; list && list->name; list++)
        if (pointer_of(list, type) == f)
            return list->name;
    return NULL;
}

static json_t *function(writer *w, fdl_field_type type, any_function *f)
{
    const char *name = name_of(w->opts->functions, type, f);
    if (!name)
        name = name_of(stock_functions, type, f);
    if (name)
        return json_string(name);
    return fdl_fail_null(
        FDL_E_UNSUPPORTED,
        "a function that isn't the library's needs a name in .functions = FDL_FUNCTIONS(...)");
}

/* What the parameters have now, or the buffers; without either what the option says. */
static json_t *dtype(fdl_module *m, fdl_dtype said)
{
    FDL_SCOPE;
    fdl_params *ps = fdl_parameters(m);
    if (!fdl_params_count(ps))
        ps = fdl_buffers(m);
    for (int i = 0; i < fdl_params_count(ps); i++) {
        fdl_dtype now = fdl_dtype_of(fdl_param_tensor(fdl_params_at(ps, i)));
        if (fdl_dtype_is_floating(now)) {
            said = now;
            break;
        }
    }
    return json_string(fdl_dtype_name(said == FDL_DTYPE_DEFAULT ? FDL_FLOAT32 : said));
}

static bool all_zero(const void *at, size_t n)
{
    const unsigned char *bytes = at;
    for (size_t i = 0; i < n; i++)
        if (bytes[i])
            return false;
    return true;
}

static size_t size_of(fdl_field_type type)
{
    switch (type) {
    case FDL_FIELD_BOOL:
        return sizeof(bool);
    case FDL_FIELD_INT:
    case FDL_FIELD_ENUM:
    case FDL_FIELD_DTYPE:
        return sizeof(int);
    case FDL_FIELD_INT64:
        return sizeof(int64_t);
    case FDL_FIELD_DOUBLE:
    case FDL_FIELD_OPT_DOUBLE:
        return sizeof(double);
    case FDL_FIELD_TEXTS:
        return sizeof(int); /* the number of elements */
    case FDL_FIELD_SHAPE:
    case FDL_FIELD_OPT_INT:
        break; /* is_left_out sees to them */
    case FDL_FIELD_END:
    case FDL_FIELD_TEXT:
    case FDL_FIELD_FUNCTION:
    case FDL_FIELD_FUNCTION_REFS:
    case FDL_FIELD_FUNCTION_LIST:
    case FDL_FIELD_MODULE:
    case FDL_FIELD_MODULES:
        break;
    }
    return sizeof(void *);
}

static json_t *write_module(writer *w, fdl_module *m, const place *where);

static json_t *write_children(writer *w, fdl_module *m, const fdl_field *f, const place *where)
{
    place field = {.outer = where, .name = f->name};
    if (f->type == FDL_FIELD_MODULE)
        return write_module(w, module_field_child(m, f, 0), &field);
    json_t *list = json_array();
    for (int i = 0; module_field_child(m, f, i); i++) {
        place element = {.outer = &field, .i = i};
        json_t *x = write_module(w, module_field_child(m, f, i), &element);
        if (!x || json_array_append_new(list, x) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *write_value(writer *w, fdl_module *m, const fdl_field *f, const void *at)
{
    const double *x = at;
    int value = 0;
    switch (f->type) {
    case FDL_FIELD_BOOL:
        return json_boolean(*(const bool *)at);
    case FDL_FIELD_INT:
        return json_integer(*(const int *)at);
    case FDL_FIELD_INT64:
        return json_integer(*(const int64_t *)at);
    case FDL_FIELD_OPT_INT:
        return json_integer(((const fdl_opt_i64 *)at)->value);
    case FDL_FIELD_DOUBLE:
        return number(*x);
    case FDL_FIELD_OPT_DOUBLE:
        return number(fdl_opt_double(*x, 0));
    case FDL_FIELD_ENUM:
        memcpy(&value, at, sizeof value);
        for (int i = 0; f->names[i]; i++)
            if (i == value)
                return json_string(f->names[i]);
        return fdl_fail_null(FDL_E_UNSUPPORTED, "%s has no value %d", f->name, value);
    case FDL_FIELD_SHAPE:
        return list_of_ints(at);
    case FDL_FIELD_TEXT:
        return json_string(*(const char *const *)at);
    case FDL_FIELD_TEXTS:
        return list_of_texts(at);
    case FDL_FIELD_FUNCTION:
    case FDL_FIELD_FUNCTION_REFS:
    case FDL_FIELD_FUNCTION_LIST:
        return function(w, f->type, *(any_function *const *)at);
    case FDL_FIELD_DTYPE:
        memcpy(&value, at, sizeof value);
        return dtype(m, (fdl_dtype)value);
    case FDL_FIELD_END:
    case FDL_FIELD_MODULE:
    case FDL_FIELD_MODULES:
        break;
    }
    return NULL;
}

static bool is_left_out(fdl_module *m, const fdl_field *f, const void *at)
{
    if (f->type == FDL_FIELD_DTYPE) {
        json_t *name = dtype(m, *(const fdl_dtype *)at);
        bool usual = name && strcmp(json_string_value(name), "float32") == 0;
        json_decref(name);
        return usual;
    }
    if (f->type == FDL_FIELD_MODULE || f->type == FDL_FIELD_MODULES)
        return !f->required && !module_field_child(m, f, 0);
    if (f->required)
        return false;
    if (f->type == FDL_FIELD_SHAPE)
        return ((const fdl_shape *)at)->ndim == 0;
    if (f->type == FDL_FIELD_OPT_INT)
        return !fdl_opt_given(*(const fdl_opt_i64 *)at);
    return all_zero(at, size_of(f->type));
}

/* The error that is this model's has the place and the kind in front of it. */
static void *fail_at(const writer *w, fdl_module *m, const place *where)
{
    char text[512];
    const char *title = NULL;
    for (const place *p = where; p && !title; p = p->outer)
        title = p->title;
    if (w->prefix)
        fdl_error_prefix("fdl_topology: %s, %s%s%s: ", place_text(where, text, sizeof text),
                         title ? title : "", title ? ", " : "", fdl_module_kind(m));
    return NULL;
}

static json_t *write_fields(writer *w, fdl_module *m, json_t *object, const place *where)
{
    for (const fdl_field *f = m->kind->fields; f && f->type; f++) {
        const void *at = (const char *)m->args + f->offset;
        bool is_child = f->type == FDL_FIELD_MODULE || f->type == FDL_FIELD_MODULES;
        if (is_left_out(m, f, at))
            continue;
        json_t *x = is_child ? write_children(w, m, f, where) : write_value(w, m, f, at);
        if (!x || json_object_set_new(object, f->name, x) != 0) {
            if (!is_child) {
                fdl_fail(FDL_E_OOM, "no memory, or text that isn't UTF-8");
                fail_at(w, m, where);
            }
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

/* "linear_3 (#hidden)" for the node that runs m. */
static const char *title_of(const graph *g, fdl_module *m, char *buf, size_t size)
{
    for (int i = 0; i < g->nodes; i++)
        if (g->node[i].module && g->node[i].module->real == m)
            return node_title(&g->node[i], buf, size);
    return NULL;
}

static json_t *write_steps(writer *w, graph *g, json_t *object, const place *where)
{
    json_t *list = json_array();
    place steps = {.outer = where, .name = "steps"};
    bool good = json_object_set_new(object, "steps", list) == 0;
    int k = 0;
    for (int i = 0; good && i < g->owned; i++) {
        char title[256];
        fdl_module *m = g->own[i]->real;
        if (m->kind == &entry_kind)
            continue;
        place step = {.outer = &steps, .i = k++, .title = title_of(g, m, title, sizeof title)};
        json_t *x = write_module(w, m, &step);
        good = x && json_array_append_new(list, x) == 0;
    }
    if (good)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *write_module(writer *w, fdl_module *m, const place *where)
{
    m = m->real;
    met *it = find(w, m);
    json_t *object = json_object();
    if (it->written) {
        json_object_set_new(object, "share", json_string(it->id));
        return object;
    }
    graph *g = graph_or_null(m);
    if (!g && !m->kind) {
        json_decref(object);
        fdl_fail(FDL_E_UNSUPPORTED, "this module doesn't say what it was made with (fdl_module_describe)");
        return fail_at(w, m, where);
    }
    json_object_set_new(object, "kind", json_string(g ? "graph" : m->kind->name));
    if (it->times > 1) {
        snprintf(it->id, sizeof it->id, "shared_%d", ++w->shared);
        json_object_set_new(object, "id", json_string(it->id));
        it->written = true;
    }
    return g ? write_steps(w, g, object, where) : write_fields(w, m, object, where);
}

/* ---- what is computed ---------------------------------------------------------------------------------- */

/* {"param": the name that it had as a parameter, "by": the modules behind one another, or "mask": true}. */
static json_t *write_one_computed(writer *w, const char *name, const module_computed *c, const place *where)
{
    json_t *object = json_pack("{s:s}", "param", name), *by = c->mask ? json_true() : json_array();
    bool good = object && json_object_set_new(object, c->mask ? "mask" : "by", by) == 0;
    for (int i = 0; good && i < module_parametrizations(c); i++) {
        place list = {.outer = where, .name = "by"}, element = {.outer = &list, .i = i};
        fdl_module *m = module_parametrization_at(c, i);
        json_t *x = count(w, m, 1) == FDL_OK ? write_module(w, m, &element) : NULL;
        good = x && json_array_append_new(by, x) == 0;
    }
    if (good)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *write_computed(writer *w, fdl_module *m)
{
    FDL_SCOPE;
    fdl_params *ps = module_computed_params(m);
    json_t *list = ps ? json_array() : NULL;
    place all = {.name = "computed"};
    for (int i = 0; list && i < fdl_params_count(ps); i++) {
        place element = {.outer = &all, .i = i};
        const module_computed *c =
            module_computed_named(params_owner(ps, i), fdl_param_name(fdl_params_at(ps, i)));
        json_t *x = write_one_computed(w, fdl_params_name(ps, i), c, &element);
        if (x && json_array_append_new(list, x) == 0)
            continue;
        json_decref(list);
        list = NULL;
    }
    if (!list)
        fdl_fail(FDL_E_OOM, "no memory for a topology");
    return list;
}

/* ---- the file ------------------------------------------------------------------------------------------ */

json_t *topology_tree(fdl_module *m, const fdl_topology_opts *opts)
{
    static const fdl_topology_opts none = {0};
    writer w = {.opts = opts ? opts : &none, .prefix = fdl_error_pending() == FDL_OK};
    json_t *root = NULL, *model = NULL, *computed = NULL, *ties = NULL;
    if (count(&w, m, 1) == FDL_OK)
        model = write_module(&w, m, &(place){.name = "model"});
    if (model)
        computed = write_computed(&w, m);
    if (computed)
        ties = topology_ties(m);
    if (ties)
        root = json_pack("{s:s, s:i, s:O}", "format", "flodl.topology", "version", (int)topology_version,
                         "model", model);
    if (ties && !root)
        fdl_fail(FDL_E_OOM, "no memory for a topology");
    if (root && json_array_size(computed))
        json_object_set(root, "computed", computed);
    if (root && json_array_size(ties))
        json_object_set(root, "ties", ties);
    if (root && w.opts->weights && json_object_set_new(root, "weights", json_string(w.opts->weights)) != 0) {
        fdl_fail(FDL_E_ARG, "fdl_topology: .weights is no UTF-8");
        json_decref(root);
        root = NULL;
    }
    json_decref(model);
    json_decref(computed);
    json_decref(ties);
    free(w.met);
    return root;
}

char *fdl_topology_text_opt(fdl_module *m, const fdl_topology_opts *opts)
{
    if (!m) {
        fdl_null_operand("fdl_topology_text", "m");
        return NULL;
    }
    if (module_refusal(m))
        return fdl_fail_null(FDL_E_ARG, "fdl_topology_text: %s", module_refusal(m));
    json_t *root = topology_tree(m, opts);
    char *text = root ? topology_print(root) : NULL;
    json_decref(root);
    return text;
}

fdl_status fdl_topology_save_opt(fdl_module *m, const char *path, const fdl_topology_opts *opts)
{
    if (!m || !path)
        return fdl_null_operand("fdl_topology_save", m ? "path" : "m");
    char *text = fdl_topology_text_opt(m, opts);
    if (!text)
        return fdl_error_pending();
    fdl_status status = fdl_file_save(path, text, strlen(text));
    free(text);
    return status;
}
