/* A plain function as a module. Its kind may be a name of the user's, so its operations table is its own. */
#include "flodl/nn.h"

#include "describe.h"

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

KIND(fn, .name = "fn", ARGS(fn_args, FDL_ARG(fn_args, f, FUNCTION), FDL_OPT(fn_args, name, TEXT)));

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
