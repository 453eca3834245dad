/* Optimizers: making and freeing them, groups, rates, looking inside. */
#include "flodl/autograd.h"
#include "flodl/sparse.h"
#include "optim.h"

#include <math.h>

/* ---- groups ---------------------------------------------------------------------------------------- */

void optim_free_scalars(optim_group *g)
{
    for (int i = 0; i < g->n_scalars; i++) {
        fdl_free(g->scalars[i].lr);
        fdl_free(g->scalars[i].momentum);
    }
    free(g->scalars);
    g->scalars = NULL;
    g->n_scalars = 0;
}

static void group_free(optim_group *g)
{
    for (int i = 0; i < g->n; i++) {
        optim_slot *s = &g->slots[i];
        fdl_free(s->param);
        for (int k = 0; k < OPTIM_STATES; k++)
            fdl_free(s->state[k]);
        fdl_free(s->step);
        free(s->name);
    }
    free(g->slots);
    optim_free_scalars(g);
}

static const optim_slot *slot_of(const fdl_optim *o, const optim_group *also, fdl_tensor *param)
{
    const void *id = fdl_identity(param);
    for (int g = 0; g < o->n_groups; g++)
        for (int i = 0; i < o->groups[g].n; i++)
            if (fdl_identity(o->groups[g].slots[i].param) == id)
                return &o->groups[g].slots[i];
    for (int i = 0; also && i < also->n; i++)
        if (fdl_identity(also->slots[i].param) == id)
            return &also->slots[i];
    return NULL;
}

static fdl_status out_of_memory(const char *kind)
{
    return fdl_fail(FDL_E_OOM, "%s: memory ran out", kind);
}

/* Fills an empty group with the parameters of the list. What it holds on failure is the caller's to free. */
static fdl_status group_fill(const fdl_optim *o, optim_group *g, const fdl_params *params)
{
    const char *kind = o->kind->name;
    int n = fdl_params_count(params);
    if (n < 0)
        return fdl_null_operand(kind, "params");
    g->slots = calloc(n ? (size_t)n : 1, sizeof *g->slots);
    if (!g->slots)
        return out_of_memory(kind);
    for (int i = 0; i < n; i++) {
        const char *name = fdl_params_name(params, i);
        fdl_tensor *t = fdl_param_tensor(fdl_params_at(params, i));
        if (!name || !t)
            return fdl_null_operand(kind, "params");
        const optim_slot *same = slot_of(o, g, t);
        if (same)
            return fdl_fail(FDL_E_ARG, "%s: parameter \"%s\" is there already%s%s%s", kind, name,
                            strcmp(same->name, name) ? " as \"" : "",
                            strcmp(same->name, name) ? same->name : "", strcmp(same->name, name) ? "\"" : "");
        if (!fdl_is_leaf(t))
            return fdl_fail(
                FDL_E_ARG, "%s: parameter \"%s\" is the result of an operation; only leaves can be optimized",
                kind, name);
        if (!fdl_dtype_is_floating(fdl_dtype_of(t)))
            return fdl_fail(FDL_E_DTYPE, "%s: parameter \"%s\" is %s; only floating dtypes can be optimized",
                            kind, name, fdl_dtype_name(fdl_dtype_of(t)));
        if (o->kind->admit)
            FDL_TRY(o->kind->admit(t, name));
        optim_slot *s = &g->slots[g->n];
        s->name = malloc(strlen(name) + 1);
        if (!s->name)
            return out_of_memory(kind);
        memcpy(s->name, name, strlen(name) + 1);
        s->param = fdl_keep(t);
        g->n++;
        if (!s->param)
            return fdl_error_pending();
    }
    return FDL_OK;
}

/* The group whose rate fdl_optim_set_lr says: the first whose ratio isn't 0. Its ratio is 1. NULL: all began with 0. */
static optim_group *leading(const fdl_optim *o)
{
    for (int i = 0; i < o->n_groups; i++)
        if (o->groups[i].ratio > 0)
            return &o->groups[i];
    return NULL;
}

/* lr over the leading group's. While that is at 0, as at the end of a schedule, nothing is known of a rate that isn't. */
static double ratio_of(const fdl_optim *o, double lr, double before)
{
    const optim_group *lead = leading(o);
    if (lead && lead->o.lr > 0)
        return lr / lead->o.lr;
    return before > 0 || lr == 0 ? before : 1;
}

/* Room for batches of n parameters. */
static fdl_status widen(fdl_optim *o, int n)
{
    if (n <= o->widest)
        return FDL_OK;
    fdl_tensor **lists = realloc(o->lists, sizeof *lists * (3 + OPTIM_STATES) * (size_t)n);
    o->lists = lists ? lists : o->lists;
    optim_slot **batch = realloc(o->batch, sizeof *batch * (size_t)n);
    o->batch = batch ? batch : o->batch;
    if (!lists || !batch)
        return out_of_memory(o->kind->name);
    o->widest = n;
    return FDL_OK;
}

static int add_group(fdl_optim *o, const fdl_params *params, const fdl_optim_opts *base,
                     const fdl_optim_opts *opts)
{
    optim_group g = {0};
    fdl_status status = optim_options(o->kind, base, opts, &g.o);
    if (status == FDL_OK)
        status = group_fill(o, &g, params);
    if (status == FDL_OK)
        status = widen(o, g.n);
    if (status == FDL_OK) {
        optim_group *groups = realloc(o->groups, sizeof *groups * (size_t)(o->n_groups + 1));
        if (groups) {
            o->groups = groups;
            g.ratio = ratio_of(o, g.o.lr, o->n_groups ? groups[0].ratio : 0);
            g.scheduled = o->n_groups && groups[0].scheduled;
            groups[o->n_groups] = g;
            return o->n_groups++;
        }
        status = out_of_memory(o->kind->name);
    }
    group_free(&g);
    return -1;
}

fdl_optim *optim_new(const optim_kind *kind, const fdl_params *params, const fdl_optim_opts *opts)
{
    if (!params) {
        fdl_null_operand(kind->name, "params");
        return NULL;
    }
    fdl_optim *o = calloc(1, sizeof *o);
    if (!o) {
        out_of_memory(kind->name);
        return NULL;
    }
    o->kind = kind;
    if (add_group(o, params, &kind->defaults, opts) < 0) {
        fdl_optim_free(o);
        return NULL;
    }
    return o;
}

void fdl_optim_free(fdl_optim *o)
{
    if (!o)
        return;
    for (int i = 0; i < o->n_groups; i++)
        group_free(&o->groups[i]);
    if (o->own)
        o->kind->own_free(o->own);
    free(o->groups);
    free(o->lists);
    free(o->batch);
    free(o);
}

int fdl_optim_add_group_opt(fdl_optim *o, const fdl_params *params, const fdl_optim_opts *opts)
{
    if (!o || !params) {
        fdl_null_operand("fdl_optim_add_group", o ? "params" : "o");
        return -1;
    }
    if (o->kind->one_group) {
        fdl_fail(FDL_E_ARG, "fdl_optim_add_group: %s has one group", o->kind->name);
        return -1;
    }
    int g = add_group(o, params, &o->groups[0].o, opts);
    o->generation += g >= 0;
    return g;
}

optim_group *optim_group_at(const fdl_optim *o, int g, const char *function)
{
    if (!o) {
        fdl_null_operand(function, "o");
        return NULL;
    }
    if (g < 0 || g >= o->n_groups)
        return fdl_fail_null(FDL_E_ARG, "%s: group %d of a %s optimizer with %d", function, g, o->kind->name,
                             o->n_groups);
    return &o->groups[g];
}

/* ---- rates and options ----------------------------------------------------------------------------- */

fdl_status optim_write_scalars(const optim_kind *kind, optim_group *g)
{
    for (int i = 0; i < g->n_scalars; i++) {
        optim_scalars *s = &g->scalars[i];
        if (s->device.type == FDL_DEVICE_TYPE_CPU)
            *(double *)fdl_data_ptr(s->lr) = g->o.lr;
        else
            FDL_TRY(fdl_fill_(s->lr, g->o.lr));
        if (s->momentum)
            FDL_TRY(fdl_fill_(s->momentum, optim_value(&g->o, kind->momentum_field)));
    }
    return FDL_OK;
}

static fdl_status write_rate(const optim_kind *kind, optim_group *g, double lr)
{
    if (g->o.lr == lr)
        return FDL_OK;
    g->o.lr = lr;
    return optim_write_scalars(kind, g);
}

double fdl_optim_lr(const fdl_optim *o)
{
    if (!o) {
        fdl_null_operand("fdl_optim_lr", "o");
        return (double)NAN;
    }
    return o->groups[0].o.lr;
}

double fdl_optim_group_lr(const fdl_optim *o, int group)
{
    const optim_group *g = optim_group_at(o, group, "fdl_optim_group_lr");
    return g ? g->o.lr : (double)NAN;
}

int fdl_optim_groups(const fdl_optim *o)
{
    if (!o) {
        fdl_null_operand("fdl_optim_groups", "o");
        return -1;
    }
    return o->n_groups;
}

fdl_status fdl_optim_set_lr(fdl_optim *o, double lr)
{
    if (!o)
        return fdl_null_operand("fdl_optim_set_lr", "o");
    bool all = !leading(o);
    for (int i = 0; i < o->n_groups; i++) /* all or none */
        FDL_TRY(optim_check_number(o->kind, OPTIM_LR, lr * (all ? 1 : o->groups[i].ratio)));
    for (int i = 0; i < o->n_groups; i++) {
        if (all && lr > 0)
            o->groups[i].ratio = 1;
        FDL_TRY(write_rate(o->kind, &o->groups[i], lr * o->groups[i].ratio));
    }
    return FDL_OK;
}

fdl_status fdl_optim_set_group_lr(fdl_optim *o, int group, double lr)
{
    optim_group *g = optim_group_at(o, group, "fdl_optim_set_group_lr");
    if (!g)
        return fdl_error_pending();
    FDL_TRY(optim_check_number(o->kind, OPTIM_LR, lr));
    FDL_TRY(write_rate(o->kind, g, lr));
    optim_group *lead = leading(o);
    if (g != lead)
        g->ratio = ratio_of(o, lr, g->ratio);
    else
        for (int i = 0; lr > 0 && i < o->n_groups; i++)
            o->groups[i].ratio = o->groups[i].o.lr / lr;
    lead = leading(o); /* perhaps g, before the one that was */
    double unit = lead ? lead->ratio : 1;
    for (int i = 0; i < o->n_groups; i++)
        o->groups[i].ratio /= unit;
    return FDL_OK;
}

fdl_status fdl_optim_scale_lr(fdl_optim *o, double factor)
{
    if (!o)
        return fdl_null_operand("fdl_optim_scale_lr", "o");
    for (int i = 0; i < o->n_groups; i++)
        FDL_TRY(optim_check_number(o->kind, OPTIM_LR, o->groups[i].o.lr * factor));
    for (int i = 0; i < o->n_groups; i++)
        FDL_TRY(write_rate(o->kind, &o->groups[i], o->groups[i].o.lr * factor));
    return FDL_OK;
}

fdl_status fdl_optim_set_option(fdl_optim *o, int group, const char *name, double value)
{
    optim_group *g = optim_group_at(o, group, "fdl_optim_set_option");
    if (!g)
        return fdl_error_pending();
    if (!name)
        return fdl_null_operand("fdl_optim_set_option", "name");
    uint64_t field = optim_field(o->kind, name);
    if (!field)
        return fdl_error_pending();
    if (field == OPTIM_LR)
        return fdl_optim_set_group_lr(o, group, value);
    FDL_TRY(optim_check_number(o->kind, field, value));
    fdl_optim_opts changed = g->o;
    optim_put(&changed, field, value);
    if (o->kind->check)
        FDL_TRY(o->kind->check(&changed));
    g->o = changed;
    o->generation++;
    return optim_write_scalars(o->kind, g);
}

double fdl_optim_option(const fdl_optim *o, int group, const char *name)
{
    optim_group *g = optim_group_at(o, group, "fdl_optim_option");
    if (!g)
        return (double)NAN;
    if (!name) {
        fdl_null_operand("fdl_optim_option", "name");
        return (double)NAN;
    }
    uint64_t field = optim_field(o->kind, name);
    return field ? optim_value(&g->o, field) : (double)NAN;
}

fdl_status optim_schedule_momentum(fdl_optim *o, double v)
{
    uint64_t field = o->kind->momentum_field;
    if (!field)
        return fdl_fail(FDL_E_ARG,
                        "%s has neither momentum nor beta1 for the schedule to move; give the schedule "
                        ".fixed_momentum",
                        o->kind->name);
    FDL_TRY(optim_check_number(o->kind, field, v));
    for (int i = 0; i < o->n_groups; i++) {
        optim_group *g = &o->groups[i];
        if (g->scheduled && optim_value(&g->o, field) == v)
            continue;
        o->generation += !g->scheduled; /* from now on the number is on the device */
        g->scheduled = true;
        optim_put(&g->o, field, v);
        FDL_TRY(optim_write_scalars(o->kind, g));
    }
    return FDL_OK;
}

fdl_status optim_gradient(fdl_tensor *param, fdl_tensor **values)
{
    *values = fdl_grad(param);
    if (!*values || !fdl_is_sparse(*values))
        return FDL_OK;
    fdl_tensor *once = fdl_coalesce(*values);
    *values = NULL;
    if (!once)
        return fdl_error_pending();
    FDL_TRY(fdl_set_grad(param, once));
    *values = fdl_sparse_values(fdl_grad(param));
    return *values ? FDL_OK : fdl_error_pending();
}

fdl_list optim_gradients(const fdl_optim *o, const char **half)
{
    int n = 0;
    for (int g = 0; g < o->n_groups; g++)
        n += o->groups[g].n;
    fdl_list grads = {0, fdl_scope_alloc(sizeof *grads.at * (size_t)(n ? n : 1))};
    const char *first = NULL;
    for (int g = 0; grads.at && g < o->n_groups; g++)
        for (int i = 0; i < o->groups[g].n; i++) {
            const optim_slot *s = &o->groups[g].slots[i];
            fdl_tensor *grad;
            if (optim_gradient(s->param, &grad) != FDL_OK)
                return (fdl_list){0, NULL};
            if (!grad)
                continue;
            if (half && !first && fdl_dtype_of(grad) == FDL_FLOAT16)
                first = s->name;
            grads.at[grads.n++] = grad;
        }
    if (half)
        *half = first;
    return grads;
}

/* ---- looking inside ------------------------------------------------------------------------------------ */

const char *fdl_optim_kind(const fdl_optim *o)
{
    if (!o) {
        fdl_null_operand("fdl_optim_kind", "o");
        return NULL;
    }
    return o->kind->name;
}

uint64_t fdl_optim_generation(const fdl_optim *o)
{
    if (!o)
        fdl_null_operand(__func__, "o");
    return o ? o->generation : 0;
}

fdl_list fdl_optim_params(const fdl_optim *o, int group)
{
    fdl_list none = {0, NULL};
    const optim_group *g = optim_group_at(o, group, "fdl_optim_params");
    if (!g)
        return none;
    fdl_tensor **at = fdl_scope_alloc(sizeof *at * (size_t)(g->n ? g->n : 1));
    if (!at)
        return none;
    for (int i = 0; i < g->n; i++)
        at[i] = g->slots[i].param;
    return (fdl_list){g->n, at};
}

fdl_tensor *fdl_optim_state(const fdl_optim *o, fdl_tensor *param, const char *name)
{
    if (!o || !param || !name) {
        fdl_null_operand("fdl_optim_state", !o ? "o" : !param ? "param" : "name");
        return NULL;
    }
    const optim_slot *s = slot_of(o, NULL, param);
    if (!s)
        return fdl_fail_null(FDL_E_ARG, "%s: the tensor is none of this optimizer's parameters",
                             o->kind->name);
    if (o->kind->counts && strcmp(name, "step") == 0)
        return s->step;
    for (int k = 0; k < OPTIM_STATES && o->kind->states[k]; k++)
        if (strcmp(o->kind->states[k], name) == 0)
            return s->state[k];
    if (o->kind->closure)
        return fdl_fail_null(FDL_E_ARG, "%s has no state \"%s\": what it remembers is of no single parameter",
                             o->kind->name, name);
    char own[160] = "";
    for (int k = 0; k < OPTIM_STATES && o->kind->states[k]; k++) {
        size_t used = strlen(own);
        snprintf(own + used, sizeof own - used, "%s%s", used ? ", " : "", o->kind->states[k]);
    }
    return fdl_fail_null(FDL_E_ARG, "%s has no state \"%s\"; it has %s%s", o->kind->name, name, own,
                         o->kind->counts ? ", step" : "");
}

fdl_list fdl_optim_states(const fdl_optim *o, fdl_tensor *param)
{
    fdl_list list = {0, NULL};
    if (!o || !param) {
        fdl_null_operand("fdl_optim_states", !o ? "o" : "param");
        return list;
    }
    const optim_slot *s = slot_of(o, NULL, param);
    if (!s) {
        fdl_fail(FDL_E_ARG, "%s: the tensor is none of this optimizer's parameters", o->kind->name);
        return list;
    }
    list.at = fdl_scope_alloc(sizeof *list.at * (OPTIM_STATES + 1));
    if (!list.at)
        return list;
    if (s->step)
        list.at[list.n++] = s->step;
    for (int k = 0; k < OPTIM_STATES; k++)
        if (s->state[k])
            list.at[list.n++] = s->state[k];
    return list;
}

double fdl_optim_state_start(const fdl_optim *o, fdl_tensor *state)
{
    if (!o || !state) {
        fdl_null_operand("fdl_optim_state_start", !o ? "o" : "state");
        return (double)NAN;
    }
    for (int g = 0; o->kind->initial && g < o->n_groups; g++)
        for (int i = 0; i < o->groups[g].n; i++)
            for (int k = 0; k < OPTIM_STATES; k++) {
                fdl_tensor *kept = o->groups[g].slots[i].state[k];
                if (kept && fdl_is(kept, state))
                    return o->kind->initial(&o->groups[g].o, k);
            }
    return 0;
}
