/* Parameters that are one tensor: an output layer that has an embedding's weight. */
#include "graph_private.h"
#include "stock.h"

typedef struct named_param {
    const void *identity;
    struct fdl_param *p;
    const char *text;
    int i;
} named_param;

static int by_identity(const void *a, const void *b)
{
    const named_param *x = a, *y = b;
    return x->identity < y->identity ? -1 : x->identity > y->identity ? 1 : x->i - y->i;
}

/* Every name of every parameter. NULL: the error is set. */
static named_param *all_names(fdl_module *m, int *n)
{
    fdl_params *ps = fdl_parameters(m, .every = true);
    *n = fdl_params_count(ps);
    named_param *names = *n < 0 ? NULL : fdl_scope_alloc(sizeof *names * (size_t)(*n + 1));
    for (int i = 0; names && i < *n; i++) {
        fdl_param *p = fdl_params_at(ps, i);
        names[i] = (named_param){fdl_identity(fdl_param_tensor(p)), p, fdl_params_name(ps, i), i};
    }
    return names;
}

json_t *topology_ties(fdl_module *m)
{
    FDL_SCOPE;
    int n;
    named_param *names = all_names(m, &n);
    json_t *ties = names ? json_array() : NULL;
    if (!ties) {
        fdl_fail(FDL_E_OOM, "no memory for the ties of a topology");
        return NULL;
    }
    qsort(names, (size_t)n, sizeof *names, by_identity);
    for (int i = 0, first = 0; i < n; i++) {
        if (names[i].identity != names[first].identity)
            first = i;
        bool is_new = true; /* a shared module has the same parameter under each of its names */
        for (int k = first; k < i; k++)
            is_new &= names[k].p != names[i].p;
        if (is_new && i > first)
            json_array_append_new(ties, json_pack("[s, s]", names[first].text, names[i].text));
    }
    return ties;
}

static fdl_param *named(fdl_params *ps, const json_t *name)
{
    return json_is_string(name) ? fdl_params_find(ps, json_string_value(name))
                                : fdl_fail_null(FDL_E_FORMAT, "a name of a parameter is no string");
}

fdl_status topology_tie(fdl_module *m, const json_t *ties)
{
    if (!ties)
        return FDL_OK;
    FDL_SCOPE;
    if (!json_is_array(ties))
        return fdl_fail(FDL_E_FORMAT, "ties: must be a list of pairs of names");
    fdl_params *ps = fdl_parameters(m, .every = true);
    bool before = fdl_error_pending() != FDL_OK;
    for (size_t i = 0; ps && i < json_array_size(ties); i++) {
        const json_t *pair = json_array_get(ties, i);
        fdl_param *first = named(ps, json_array_get(pair, 0)), *other = named(ps, json_array_get(pair, 1));
        bool good = first && other;
        if (good && !fdl_shape_eq(fdl_shape_of(first->t), fdl_shape_of(other->t))) {
            char a[256], b[256];
            fdl_fail(FDL_E_FORMAT, "%s is %s, %s", fdl_param_name(first), fdl_describe(first->t, a, sizeof a),
                     fdl_describe(other->t, b, sizeof b));
            good = false;
        }
        if (!good || fdl_object_set(other->t, first->t) != FDL_OK) {
            if (!before)
                fdl_error_prefix("ties[%zu]: ", i);
            return FDL_E_FORMAT;
        }
    }
    return ps ? FDL_OK : fdl_error_pending();
}
