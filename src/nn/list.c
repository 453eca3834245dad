/* Modules in a row, without a forward of their own. */
#include "flodl/nn_list.h"

#include "describe.h"
#include "module_private.h"

static fdl_tensor *list_forward(void *self, fdl_tensor *x)
{
    (void)self;
    (void)x;
    return fdl_fail_null(FDL_E_UNSUPPORTED,
                         "a list has no forward of its own; run its modules, which "
                         "fdl_module_child_at gives, or make a chain of them with fdl_flow");
}

typedef struct list_args {
    fdl_modules modules;
} list_args;

static fdl_module *make_list(const void *args)
{
    const list_args *a = args;
    return fdl_nn_list_of(a->modules.n, a->modules.at);
}

/* Its modules are children "0", "1", ..., as those of torch.nn.ModuleList. */
KIND(list, .name = "list", ARGS(list_args, CHILDREN_ARG(list_args, modules, "")));

static const fdl_module_ops list_ops = {.kind = "list", .forward = list_forward};

static fdl_module *append(fdl_module *m, fdl_module *module)
{
    char name[24];
    snprintf(name, sizeof name, "%d", m->real->children.n);
    return fdl_module_child(m, name, module);
}

fdl_module *fdl_nn_list_of(int n, fdl_module *const *modules)
{
    if (n < 0 || (n && !modules)) {
        fdl_null_operand("fdl_nn_list", "modules");
        return NULL;
    }
    fdl_module *m = fdl_module_new(&list_ops);
    for (int i = 0; i < n; i++) /* all of them, even where m is NULL: it takes them over, on failure too */
        if (m)
            append(m, modules[i]);
        else if (modules[i])
            fdl_module_free(modules[i]);
    return m ? DESCRIBED(m, list, (list_args){{0, NULL}}) : NULL;
}

fdl_module *fdl_module_append(fdl_module *list, fdl_module *module)
{
    if (!list)
        fdl_null_operand(__func__, "list");
    else if (fdl_module_ops_of(list) != &list_ops)
        fdl_fail(FDL_E_ARG, "fdl_module_append: list is a %s, must be a list", fdl_module_kind(list));
    if (!list || fdl_module_ops_of(list) != &list_ops) {
        if (module && !module->owned)
            fdl_module_free(module);
        return NULL;
    }
    bool failed = list->real->failed;
    fdl_module *child = append(list, module);
    list->real->failed = failed; /* told by the result here; the list stays what it was */
    return child;
}
