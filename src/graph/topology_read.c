/* A model from its text. Everything is checked before a constructor sees it; what a constructor refuses is told with its
 * place. */
#include "flodl/file.h"
#include "flodl/text.h"
#include "graph_private.h"
#include "stock.h"

#include <limits.h>

typedef struct shared {
    const char *id; /* borrowed from the text's tree */
    fdl_module *module;
} shared;

typedef struct reader {
    const fdl_topology_opts *opts;
    int n, room;
    shared *shared;
    int depth;
    bool prefix; /* an error that comes up is this text's */
} reader;

/* ---- errors -------------------------------------------------------------------------------------------- */

static void *fail_at(const reader *r, const place *where)
{
    char text[512];
    if (r->prefix)
        fdl_error_prefix("%s: ", place_text(where, text, sizeof text));
    return NULL;
}

#define FAIL_AT(r, where, ...) (fdl_fail(FDL_E_FORMAT, __VA_ARGS__), fail_at(r, where))

static const char *type_name(const json_t *x)
{
    switch (json_typeof(x)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

static bool wrong_type(const reader *r, const place *where, const json_t *x, const char *wanted)
{
    FAIL_AT(r, where, "is %s, must be %s", type_name(x), wanted);
    return false;
}

/* ---- values -------------------------------------------------------------------------------------------- */

static bool read_int(const reader *r, const place *where, const json_t *x, int64_t lo, int64_t hi,
                     int64_t *out)
{
    if (!json_is_integer(x))
        return wrong_type(r, where, x, "a whole number");
    *out = json_integer_value(x);
    if (*out >= lo && *out <= hi)
        return true;
    FAIL_AT(r, where, "is %lld, must be from %lld to %lld", (long long)*out, (long long)lo, (long long)hi);
    return false;
}

static bool read_double(const reader *r, const place *where, const json_t *x, double *out)
{
    static const struct {
        const char *name;
        double value;
    } special[] = {{"inf", 1.0 / 0.0}, {"-inf", -1.0 / 0.0}, {"nan", 0.0 / 0.0}};
    if (json_is_number(x)) {
        *out = json_number_value(x);
        return true;
    }
    for (size_t i = 0; json_is_string(x) && i < sizeof special / sizeof *special; i++)
        if (strcmp(json_string_value(x), special[i].name) == 0) {
            *out = special[i].value;
            return true;
        }
    return wrong_type(r, where, x, "a number");
}

static bool read_text(const reader *r, const place *where, const json_t *x, const char **out)
{
    if (!json_is_string(x))
        return wrong_type(r, where, x, "a string");
    *out = json_string_value(x); /* the tree outlives the constructor's call */
    return true;
}

static bool read_shape(const reader *r, const place *where, const json_t *x, fdl_shape *out)
{
    if (!json_is_array(x))
        return wrong_type(r, where, x, "a list of whole numbers");
    if (json_array_size(x) > FDL_MAX_DIMS) {
        FAIL_AT(r, where, "has %zu numbers, must have %d at most", json_array_size(x), (int)FDL_MAX_DIMS);
        return false;
    }
    out->ndim = (int)json_array_size(x);
    for (int i = 0; i < out->ndim; i++) {
        place element = {.outer = where, .i = i};
        if (!read_int(r, &element, json_array_get(x, (size_t)i), INT64_MIN, INT64_MAX, &out->d[i]))
            return false;
    }
    return true;
}

static bool read_texts(const reader *r, const place *where, const json_t *x, fdl_texts *out)
{
    if (!json_is_array(x))
        return wrong_type(r, where, x, "a list of strings");
    size_t n = json_array_size(x);
    const char **at = fdl_scope_alloc(sizeof *at * (n + 1));
    if (!at)
        return false;
    *out = (fdl_texts){(int)n, at};
    for (size_t i = 0; i < n; i++) {
        place element = {.outer = where, .i = (int)i};
        if (!read_text(r, &element, json_array_get(x, i), &at[i]))
            return false;
    }
    return true;
}

static const char *name_at(const void *list, int i)
{
    return ((const char *const *)list)[i];
}

/* No such name among n: says which there are that are like it. */
static bool unknown(const reader *r, const place *where, const char *what, const char *name, int n,
                    const char *const *names)
{
    char close[512];
    FAIL_AT(r, where, "there is no %s \"%.100s\"%s", what, name,
            closest_names(name, n, name_at, names, close, sizeof close));
    return false;
}

static bool read_name(const reader *r, const place *where, const json_t *x, const char *what,
                      const char *const *names, int *out)
{
    const char *name = NULL;
    int n = 0;
    if (!read_text(r, where, x, &name))
        return false;
    for (; names[n]; n++)
        if (strcmp(names[n], name) == 0) {
            *out = n;
            return true;
        }
    return unknown(r, where, what, name, n, names);
}

static bool read_dtype(const reader *r, const place *where, const json_t *x, int *out)
{
    static const char *const names[] = {"float32", "float64", "float16", "bfloat16", NULL};
    static const fdl_dtype dtypes[] = {FDL_FLOAT32, FDL_FLOAT64, FDL_FLOAT16, FDL_BFLOAT16};
    int i;
    if (!read_name(r, where, x, "floating dtype", names, &i))
        return false;
    *out = dtypes[i];
    return true;
}

typedef void any_function(void);

static any_function *find_function(const fdl_function *list, fdl_field_type type, const char *name)
{
    for (; list && list->name; list++) {
        any_function *f = type == FDL_FIELD_FUNCTION        ? (any_function *)list->f
                          : type == FDL_FIELD_FUNCTION_REFS ? (any_function *)list->refs
                                                            : (any_function *)list->list;
        if (f && strcmp(list->name, name) == 0)
            return f;
    }
    return NULL;
}

static bool read_function(const reader *r, const place *where, const json_t *x, fdl_field_type type,
                          any_function **out)
{
    const char *name = NULL;
    if (!read_text(r, where, x, &name))
        return false;
    *out = find_function(r->opts->functions, type, name);
    if (!*out)
        *out = find_function(stock_functions, type, name);
    if (*out)
        return true;
    FAIL_AT(r, where,
            "\"%.100s\" is no function of the library's that fits here, and no %s in .functions has the name",
            name,
            type == FDL_FIELD_FUNCTION        ? ".f"
            : type == FDL_FIELD_FUNCTION_REFS ? ".refs"
                                              : ".list");
    return false;
}

/* ---- modules ------------------------------------------------------------------------------------------- */

static fdl_module *read_module(reader *r, const json_t *x, const place *where);

static void discard(fdl_module *m)
{
    if (m && !m->owned)
        module_release(m);
}

static bool read_modules(reader *r, const place *where, const json_t *x, fdl_modules *out)
{
    if (!json_is_array(x))
        return wrong_type(r, where, x, "a list of modules");
    size_t n = json_array_size(x);
    fdl_module **at = fdl_scope_alloc(sizeof *at * (n + 1));
    if (!at)
        return false;
    *out = (fdl_modules){0, at};
    for (size_t i = 0; i < n; i++) {
        place element = {.outer = where, .i = (int)i};
        if (!(at[i] = read_module(r, json_array_get(x, i), &element)))
            return false;
        out->n++;
    }
    return true;
}

static bool read_field(reader *r, const place *where, const fdl_field *f, const json_t *x, void *at)
{
    int64_t whole;
    int number;
    double real;
    switch (f->type) {
    case FDL_FIELD_BOOL:
        if (!json_is_boolean(x))
            return wrong_type(r, where, x, "true or false");
        *(bool *)at = json_is_true(x);
        return true;
    case FDL_FIELD_INT:
        if (!read_int(r, where, x, INT_MIN, INT_MAX, &whole))
            return false;
        *(int *)at = (int)whole;
        return true;
    case FDL_FIELD_INT64:
        return read_int(r, where, x, INT64_MIN, INT64_MAX, at);
    case FDL_FIELD_OPT_INT:
        ((fdl_opt_i64 *)at)->set = true;
        return read_int(r, where, x, INT64_MIN, INT64_MAX, &((fdl_opt_i64 *)at)->value);
    case FDL_FIELD_DOUBLE:
        return read_double(r, where, x, at);
    case FDL_FIELD_OPT_DOUBLE:
        if (!read_double(r, where, x, &real))
            return false;
        *(double *)at = real > 0 || real < 0 || real != real ? real : FDL_ZERO;
        return true;
    case FDL_FIELD_ENUM:
        if (!read_name(r, where, x, f->name, f->names, &number))
            return false;
        memcpy(at, &number, sizeof number);
        return true;
    case FDL_FIELD_SHAPE:
        return read_shape(r, where, x, at);
    case FDL_FIELD_TEXT:
        return read_text(r, where, x, at);
    case FDL_FIELD_TEXTS:
        return read_texts(r, where, x, at);
    case FDL_FIELD_FUNCTION:
    case FDL_FIELD_FUNCTION_REFS:
    case FDL_FIELD_FUNCTION_LIST:
        return read_function(r, where, x, f->type, at);
    case FDL_FIELD_DTYPE:
        if (!read_dtype(r, where, x, &number))
            return false;
        memcpy(at, &number, sizeof number);
        return true;
    case FDL_FIELD_MODULE:
        return (*(fdl_module **)at = read_module(r, x, where)) != NULL;
    case FDL_FIELD_MODULES:
        return read_modules(r, where, x, at);
    case FDL_FIELD_END:
        break;
    }
    return false;
}

static bool is_reserved(const char *key)
{
    return strcmp(key, "kind") == 0 || strcmp(key, "id") == 0;
}

static const fdl_field *field_of(const fdl_kind *kind, const char *key)
{
    for (const fdl_field *f = kind->fields; f && f->type; f++)
        if (strcmp(f->name, key) == 0)
            return f;
    return NULL;
}

static bool no_field(const reader *r, const place *where, const fdl_kind *kind, const char *key)
{
    const char *names[64];
    int n = 0;
    for (const fdl_field *f = kind->fields; f && f->type && n < 64; f++)
        names[n++] = f->name;
    char what[128];
    snprintf(what, sizeof what, "field of %.80s", kind->name);
    return unknown(r, where, what, key, n, names);
}

/* The struct of arguments, in the text's order of fields, so that modules among them are made in it. */
static bool read_args(reader *r, const place *where, const fdl_kind *kind, const json_t *x, char *args)
{
    for (const fdl_field *f = kind->fields; f && f->type; f++) {
        if (f->type == FDL_FIELD_DTYPE)
            memcpy(args + f->offset, &(fdl_dtype){FDL_FLOAT32}, sizeof(fdl_dtype));
        if (f->required && !json_object_get(x, f->name)) {
            FAIL_AT(r, where, "%s needs \"%s\"", kind->name, f->name);
            return false;
        }
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)x, key, value)
    {
        if (is_reserved(key))
            continue;
        const fdl_field *f = field_of(kind, key);
        place field = {.outer = where, .name = key};
        if (!f)
            return no_field(r, where, kind, key);
        if (!read_field(r, &field, f, value, args + f->offset))
            return false;
    }
    return true;
}

static void discard_args(const fdl_kind *kind, const char *args)
{
    for (const fdl_field *f = kind->fields; f && f->type; f++) {
        const void *at = args + f->offset;
        if (f->type == FDL_FIELD_MODULE)
            discard(*(fdl_module *const *)at);
        const fdl_modules *list = f->type == FDL_FIELD_MODULES ? at : &(fdl_modules){0};
        for (int i = 0; i < list->n; i++)
            discard(list->at[i]);
    }
}

static fdl_module *make(reader *r, const place *where, const fdl_kind *kind, const json_t *x)
{
    FDL_SCOPE;
    char *args = fdl_scope_alloc(kind->size + 1);
    if (!args)
        return NULL;
    if (!read_args(r, where, kind, x, args)) {
        discard_args(kind, args);
        return NULL;
    }
    fdl_module *m = kind->make(args);
    return m ? m : fail_at(r, where);
}

static fdl_module *read_graph(reader *r, const place *where, const json_t *x)
{
    const json_t *steps = json_object_get(x, "steps");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)x, key, value) if (!is_reserved(key) && strcmp(key, "steps") != 0)
    {
        return FAIL_AT(r, where, "a graph has \"steps\" and nothing else, not \"%.100s\"", key);
    }
    place list = {.outer = where, .name = "steps"};
    if (!steps)
        return FAIL_AT(r, where, "a graph needs \"steps\"");
    if (!json_is_array(steps)) {
        wrong_type(r, &list, steps, "a list of steps");
        return NULL;
    }
    fdl_flow_builder *b = fdl_flow_new();
    bool good = b != NULL;
    for (size_t i = 0; good && i < json_array_size(steps); i++) {
        place step = {.outer = &list, .i = (int)i};
        fdl_module *m = read_module(r, json_array_get(steps, i), &step);
        good = m && fdl_flow_add(b, m) == FDL_OK;
        if (m && !good)
            fail_at(r, &step);
    }
    fdl_module *g = b ? fdl_flow_build(b) : NULL;
    if (good)
        return g ? g : fail_at(r, where);
    module_release(g);
    return NULL;
}

static fdl_module *share(reader *r, const place *where, const json_t *x)
{
    place field = {.outer = where, .name = "share"};
    const char *id = NULL;
    if (!read_text(r, &field, json_object_get(x, "share"), &id))
        return NULL;
    if (json_object_size(x) != 1)
        return FAIL_AT(r, where, "\"share\" stands alone");
    for (int i = 0; i < r->n; i++)
        if (strcmp(r->shared[i].id, id) == 0)
            return fdl_module_share(r->shared[i].module);
    return FAIL_AT(r, &field, "no module before it has the id \"%.100s\"", id);
}

/* The module stays borrowed: what owns it outlives the reading, or the reading fails. */
static fdl_status note_shared(reader *r, const place *where, const json_t *id, fdl_module *m)
{
    place field = {.outer = where, .name = "id"};
    const char *text;
    if (!read_text(r, &field, id, &text))
        return FDL_E_FORMAT;
    for (int i = 0; i < r->n; i++)
        if (strcmp(r->shared[i].id, text) == 0) {
            FAIL_AT(r, &field, "two modules have the id \"%.100s\"", text);
            return FDL_E_FORMAT;
        }
    shared *more = grown(r->shared, r->n, &r->room, sizeof *more);
    if (!more)
        return FDL_E_OOM;
    r->shared = more;
    fdl_module *handle = fdl_module_share(m); /* so that a failure elsewhere doesn't free it under us */
    if (!handle)
        return FDL_E_OOM;
    r->shared[r->n++] = (shared){text, handle};
    return FDL_OK;
}

static const fdl_kind *find_kind(const reader *r, const char *name)
{
    for (const fdl_kind *const *k = r->opts->kinds; k && *k; k++)
        if (strcmp((*k)->name, name) == 0)
            return *k;
    for (const fdl_kind *const *k = stock_kinds; *k; k++)
        if (strcmp((*k)->name, name) == 0)
            return *k;
    return NULL;
}

static const fdl_kind *kind_named(const reader *r, const place *where, const char *name)
{
    const fdl_kind *kind = find_kind(r, name);
    if (kind)
        return kind;
    const char *names[512];
    int n = 0;
    for (const fdl_kind *const *k = stock_kinds; *k && n < 512; k++)
        names[n++] = (*k)->name;
    char close[512];
    return FAIL_AT(r, where, "there is no kind \"%.100s\"%s; modules of one's own are given in .kinds", name,
                   closest_names(name, n, name_at, names, close, sizeof close));
}

static fdl_module *read_described(reader *r, const json_t *x, const place *where)
{
    const char *name = NULL;
    const json_t *id = json_object_get(x, "id");
    place field = {.outer = where, .name = "kind"};
    if (json_object_get(x, "share"))
        return share(r, where, x);
    if (!json_object_get(x, "kind"))
        return FAIL_AT(r, where, "a module needs \"kind\"");
    if (!read_text(r, &field, json_object_get(x, "kind"), &name))
        return NULL;
    bool is_graph = strcmp(name, "graph") == 0;
    const fdl_kind *kind = is_graph ? NULL : kind_named(r, &field, name);
    fdl_module *m = is_graph ? read_graph(r, where, x) : kind ? make(r, where, kind, x) : NULL;
    if (m && id && note_shared(r, where, id, m) != FDL_OK) {
        discard(m);
        return NULL;
    }
    return m;
}

static fdl_module *read_module(reader *r, const json_t *x, const place *where)
{
    if (!json_is_object(x)) {
        wrong_type(r, where, x, "a module, {\"kind\": ...}");
        return NULL;
    }
    if (r->depth >= most_nested)
        return FAIL_AT(r, where, "more than %d modules lie in one another", (int)most_nested);
    r->depth++;
    fdl_module *m = read_described(r, x, where);
    r->depth--;
    return m;
}

/* ---- what is computed ---------------------------------------------------------------------------------- */

static fdl_status read_one_computed(reader *r, fdl_module *m, const json_t *x, const place *where)
{
    const char *name = NULL;
    place param = {.outer = where, .name = "param"}, by = {.outer = where, .name = "by"};
    const json_t *list = json_object_get(x, "by"), *mask = json_object_get(x, "mask");
    bool known = json_is_object(x) && json_object_size(x) == 2 && (list || json_is_true(mask));
    if (!known)
        FAIL_AT(r, where, "must be {\"param\": ..., \"by\": [...]} or {\"param\": ..., \"mask\": true}");
    if (!known || !read_text(r, &param, json_object_get(x, "param"), &name))
        return FDL_E_FORMAT;
    FDL_SCOPE;
    fdl_params *ps = fdl_parameters(m, .every = true);
    fdl_param *p = fdl_params_find(ps, name);
    fdl_modules of = {0};
    bool good = p && (!list || read_modules(r, &by, list, &of));
    if (!p)
        fail_at(r, &param);
    if (good && list && !of.n) {
        FAIL_AT(r, &by, "is empty");
        good = false;
    }
    if (!good) {
        for (int i = 0; i < of.n; i++)
            discard(of.at[i]);
        return FDL_E_FORMAT;
    }
    int at = 0;
    while (fdl_params_at(ps, at) != p)
        at++;
    fdl_module *owner = params_owner(ps, at);
    fdl_status status = list ? module_parametrize("computed", owner, fdl_param_name(p), of.n, of.at)
                             : module_prune(owner, fdl_param_name(p));
    if (status != FDL_OK)
        fail_at(r, where);
    return status;
}

/* In the text's order, since one may be computed from what another one keeps. */
static fdl_status read_computed(reader *r, fdl_module *m, const json_t *x)
{
    place all = {.name = "computed"};
    if (x && !json_is_array(x)) {
        wrong_type(r, &all, x, "a list");
        return FDL_E_FORMAT;
    }
    for (size_t i = 0; i < json_array_size(x); i++) {
        place element = {.outer = &all, .i = (int)i};
        FDL_TRY(read_one_computed(r, m, json_array_get(x, i), &element));
    }
    return FDL_OK;
}

/* ---- the file ------------------------------------------------------------------------------------------ */

static fdl_module *read_root(reader *r, const json_t *root)
{
    static const char *const keys[] = {"format", "version", "model", "computed", "ties", "weights", NULL};
    place top = {.name = "the text"};
    if (!json_is_object(root))
        return FAIL_AT(r, &top, "is %s, must be an object", type_name(root));
    const char *format = json_string_value(json_object_get(root, "format"));
    if (!format || strcmp(format, "flodl.topology") != 0)
        return FAIL_AT(r, &(place){.name = "format"}, "is %s%.100s%s, must be \"flodl.topology\"",
                       format ? "\"" : "", format ? format : "missing", format ? "\"" : "");
    const json_t *version = json_object_get(root, "version");
    if (!json_is_integer(version) || json_integer_value(version) < 1)
        return FAIL_AT(r, &(place){.name = "version"}, "must be a number from 1 on");
    if (json_integer_value(version) > topology_version)
        return FAIL_AT(r, &(place){.name = "version"}, "is %lld; this library reads up to %d",
                       (long long)json_integer_value(version), (int)topology_version);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)root, key, value)
    {
        int i = 0;
        while (keys[i] && strcmp(keys[i], key) != 0)
            i++;
        if (!keys[i]) {
            unknown(r, &top, "field", key, 6, keys);
            return NULL;
        }
    }
    place model = {.name = "model"};
    if (!json_object_get(root, "model"))
        return FAIL_AT(r, &top, "needs \"model\"");
    fdl_module *m = read_module(r, json_object_get(root, "model"), &model);
    if (m && module_refusal(m)) {
        FAIL_AT(r, &model, "%s", module_refusal(m));
        discard(m);
        return NULL;
    }
    if (m && read_computed(r, m, json_object_get(root, "computed")) != FDL_OK) {
        module_release(m);
        return NULL;
    }
    if (m && topology_tie(m, json_object_get(root, "ties")) != FDL_OK) {
        module_release(m);
        return NULL;
    }
    return m;
}

fdl_module *fdl_topology_parse_opt(const char *text, const fdl_topology_opts *opts)
{
    static const fdl_topology_opts none = {0};
    if (!text) {
        fdl_null_operand("fdl_topology_parse", "text");
        return NULL;
    }
    json_error_t error;
    reader r = {.opts = opts ? opts : &none, .prefix = fdl_error_pending() == FDL_OK};
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return fdl_fail_null(FDL_E_FORMAT, "fdl_topology: line %d, column %d: %s", error.line, error.column,
                             error.text);
    fdl_module *m = read_root(&r, root);
    if (!m && r.prefix)
        fdl_error_prefix("fdl_topology: ");
    for (int i = 0; i < r.n; i++)
        module_release(r.shared[i].module);
    free(r.shared);
    json_decref(root);
    return m;
}

fdl_module *fdl_topology_load_opt(const char *path, const fdl_topology_opts *opts)
{
    if (!path) {
        fdl_null_operand("fdl_topology_load", "path");
        return NULL;
    }
    size_t size;
    bool before = fdl_error_pending() != FDL_OK;
    char *text = fdl_file_read(path, (size_t)1 << 30, &size);
    if (!text)
        return NULL;
    fdl_module *m = strlen(text) == size
                        ? fdl_topology_parse_opt(text, opts)
                        : fdl_fail_null(FDL_E_FORMAT, "fdl_topology: a zero byte in the text");
    if (!m && !before)
        fdl_error_prefix("%s: ", path);
    free(text);
    return m;
}
