/* A plain function as a module, of one input or of further ones too. Its kind may be a name of the user's, so its operations table is its own. */
#include "flodl/nn.h"

#include "describe.h"
#include "onnx.h"

typedef struct fn {
    fdl_tensor *(*f)(fdl_tensor *x);
    struct named *named; /* NULL: the kind is "fn" */
} fn;

typedef struct named {
    fdl_module_ops ops;
    char name[];
} named;

static fdl_tensor *fn_forward(void *self, fdl_tensor *x)
{
    fn *m = self;
    return m->f(x);
}

/* The last that the library asks of the table: nothing reads it afterwards. */
static void fn_free(void *self)
{
    fn *m = self;
    free(m->named);
}

static const fdl_module_ops fn_ops = {
    .kind = "fn", .size = sizeof(fn), .forward = fn_forward, .free = fn_free};

/* [a-z_][a-z0-9_]* */
static bool is_identifier(const char *s)
{
    bool good = *s && !(*s >= '0' && *s <= '9');
    for (; *s; s++)
        good &= (*s >= 'a' && *s <= 'z') || (*s >= '0' && *s <= '9') || *s == '_';
    return good;
}

typedef struct fn_args {
    fdl_tensor *(*f)(fdl_tensor *x);
    fdl_nn_fn_opts o;
} fn_args;

static fdl_module *make_fn(const void *args)
{
    const fn_args *a = args;
    return fdl_nn_fn_opt(a->f, &a->o);
}

static const char *fn_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return onnx_function(o, ((const fn_args *)c->args)->f, *x);
}

KIND(fn, .name = "fn", .onnx = fn_onnx,
     ARGS(fn_args, FDL_ARG(fn_args, f, FUNCTION), FDL_OPT(fn_args, name, TEXT)));

fdl_module *fdl_nn_fn_opt(fdl_tensor *(*f)(fdl_tensor *x), const fdl_nn_fn_opts *opts)
{
    const char *name = opts ? opts->name : NULL;
    if (!f) {
        fdl_null_operand("fdl_nn_fn", "f");
        return NULL;
    }
    named *own = NULL;
    if (name) {
        if (!is_identifier(name))
            return fdl_fail_null(FDL_E_ARG, "fdl_nn_fn: .name is \"%s\", must be a lowercase identifier",
                                 name);
        size_t size = strlen(name) + 1;
        own = calloc(1, sizeof *own + size);
        if (!own)
            return fdl_fail_null(FDL_E_OOM, "fdl_nn_fn: no memory");
        memcpy(own->name, name, size);
        own->ops = fn_ops;
        own->ops.kind = own->name;
    }
    fdl_module *m = fdl_module_new(own ? &own->ops : &fn_ops);
    fn *self = fdl_module_self(m);
    if (!self) {
        free(own);
        return NULL;
    }
    *self = (fn){f, own};
    return DESCRIBED(m, fn, (fn_args){f, opts ? *opts : (fdl_nn_fn_opts){0}});
}

/* ---- with further inputs ---------------------------------------------------------------------------- */

typedef struct fn_refs {
    fdl_tensor *(*f)(fdl_tensor *x, const fdl_refs *r);
    fdl_module_ops *ops; /* NULL: it names no refs */
} fn_refs;

static fdl_tensor *fn_refs_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    fn_refs *m = self;
    return m->f(x, r);
}

/* The last that the library asks of the table, as above. */
static void fn_refs_free(void *self)
{
    fn_refs *m = self;
    free(m->ops);
}

static const fdl_module_ops fn_refs_ops = {
    .kind = "fn", .size = sizeof(fn_refs), .forward_named = fn_refs_forward, .free = fn_refs_free};

/* A table with these names, in one piece of memory. */
static fdl_module_ops *ops_with_names(int n, const char *const *names)
{
    size_t size = sizeof(fdl_module_ops) + sizeof(char *) * (size_t)(n + 1), text = size;
    for (int i = 0; i < n; i++)
        size += strlen(names[i]) + 1;
    fdl_module_ops *ops = calloc(1, size);
    if (!ops)
        return fdl_fail_null(FDL_E_OOM, "fdl_nn_fn_refs: no memory");
    const char **at = (const char **)(ops + 1);
    char *to = (char *)ops + text;
    for (int i = 0; i < n; i++) {
        size_t length = strlen(names[i]) + 1;
        at[i] = memcpy(to, names[i], length);
        to += length;
    }
    *ops = fn_refs_ops;
    ops->ref_names = at;
    return ops;
}

typedef struct fn_refs_args {
    fdl_tensor *(*f)(fdl_tensor *x, const fdl_refs *r);
    fdl_texts names;
} fn_refs_args;

static fdl_module *make_fn_refs(const void *args)
{
    const fn_refs_args *a = args;
    return fdl_nn_fn_refs_of(a->f, a->names.n, a->names.at);
}

KIND(fn_refs, .name = "fn_refs",
     ARGS(fn_refs_args, FDL_ARG(fn_refs_args, f, FUNCTION_REFS), FDL_ARG(fn_refs_args, names, TEXTS)));

fdl_module *fdl_nn_fn_refs_of(fdl_tensor *(*f)(fdl_tensor *x, const fdl_refs *r), int n,
                              const char *const *names)
{
    if (!f || (n > 0 && !names)) {
        fdl_null_operand("fdl_nn_fn_refs", f ? "names" : "f");
        return NULL;
    }
    for (int i = 0; i < n; i++)
        if (!names[i] || !*names[i]) {
            fdl_fail(FDL_E_ARG, "fdl_nn_fn_refs: name %d is %s", i, names[i] ? "empty" : "NULL");
            return NULL;
        }
    fdl_module_ops *own = NULL;
    if (n > 0 && !(own = ops_with_names(n, names)))
        return NULL;
    fdl_module *m = fdl_module_new(own ? own : &fn_refs_ops);
    fn_refs *self = fdl_module_self(m);
    if (!self) {
        free(own);
        return NULL;
    }
    *self = (fn_refs){f, own};
    return DESCRIBED(m, fn_refs, (fn_refs_args){f, {n > 0 ? n : 0, names}});
}
