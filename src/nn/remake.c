/* Modules made again by what they say they were made with. */
#include "flodl/kind.h"

#include "module_private.h"

typedef struct remade {
    char *args;
    fdl_module **made; /* handles for all fields */
    int n;
} remade;

static fdl_status fill_field(remade *r, fdl_module *m, const fdl_field *f, make_child *make, void *ctx)
{
    fdl_module **first = r->made + r->n;
    int n = 0;
    for (fdl_module *child; (child = module_field_child(m, f, n)); n++) {
        fdl_module *handle = make(child, ctx);
        if (!handle)
            return fdl_error_pending();
        r->made[r->n++] = handle;
    }
    if (f->type == FDL_FIELD_MODULES)
        *(fdl_modules *)(void *)(r->args + f->offset) = (fdl_modules){n, first};
    else
        *(fdl_module **)(void *)(r->args + f->offset) = n ? *first : NULL;
    return FDL_OK;
}

fdl_module *module_remake(fdl_module *m, make_child *make, void *ctx)
{
    m = m->real;
    const fdl_kind *kind = m->kind;
    if (!kind || !kind->make)
        return fdl_fail_null(FDL_E_UNSUPPORTED,
                             "%s doesn't say what it was made with; fdl_module_describe does", m->ops->kind);
    size_t children = (size_t)m->children.n + 1;
    remade r = {.args = calloc(1, kind->size ? kind->size : 1), .made = calloc(children, sizeof *r.made)};
    fdl_status status = r.args && r.made ? FDL_OK : fdl_fail(FDL_E_OOM, "no memory for a copy");
    if (status == FDL_OK && kind->size)
        memcpy(r.args, m->args, kind->size);
    for (const fdl_field *f = kind->fields; status == FDL_OK && f && f->type; f++)
        if (f->type == FDL_FIELD_MODULE || f->type == FDL_FIELD_MODULES)
            status = fill_field(&r, m, f, make, ctx);
    for (int i = 0; status != FDL_OK && i < r.n; i++)
        module_release(r.made[i]);
    fdl_module *copy = status == FDL_OK ? kind->make(r.args) : NULL;
    free(r.args);
    free(r.made);
    if (copy)
        module_set_training(copy, m->training);
    return copy;
}
