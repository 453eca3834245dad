/* What an optimizer remembers, taken out and put back. Knows no method by name: what there is, the descriptors say. A change
 * is made in two steps: everything that can fail makes new tensors, then pointers are exchanged. */
#include "flodl/optim_state.h"

#include "optim.h"

#include <math.h>

enum { MOST_NAME = 1024 };

/* ---- names of parameters ----------------------------------------------------------------------------- */

/* The keys of all parameters, one group after the other (scope). */
static char **keys_of(const fdl_optim *o, int *n)
{
    *n = 0;
    for (int g = 0; g < o->n_groups; g++)
        *n += o->groups[g].n;
    char **keys = fdl_scope_alloc(sizeof *keys * (size_t)(*n + 1));
    json_t *met = json_object(); /* key -> how often */
    int i = 0;
    for (int g = 0; keys && g < o->n_groups; g++)
        for (int k = 0; keys && k < o->groups[g].n; k++) {
            const char *name = o->groups[g].slots[k].name;
            size_t size = strlen(name) + 24; /* a number behind it */
            keys[i] = fdl_scope_alloc(size);
            if (!keys[i] || fdl_state_key(name, keys[i], size) != FDL_OK) {
                keys = NULL;
                break;
            }
            json_int_t before = json_integer_value(json_object_get(met, keys[i]));
            if (json_object_set_new(met, keys[i], json_integer(before + 1)) != 0) {
                fdl_fail(FDL_E_ARG, "%s: the name \"%.200s\" is not UTF-8", o->kind->name, name);
                keys = NULL;
                break;
            }
            if (before) /* no state_dict key has a '/' */
                snprintf(keys[i] + strlen(keys[i]), 22, "/%lld", (long long)before + 1);
            i++;
        }
    json_decref(met);
    return keys;
}

/* "<key>/<state>" (scope). */
static const char *joined(const char *key, const char *state)
{
    size_t n = strlen(key), k = strlen(state);
    char *name = fdl_scope_alloc(n + k + 2);
    if (name) {
        memcpy(name, key, n);
        name[n] = '/';
        memcpy(name + n + 1, state, k + 1);
    }
    return name;
}

/* ---- taking out --------------------------------------------------------------------------------------- */

struct optim_saved {
    const char *kind; /* for errors */
    const char *key;  /* of the first parameter, under which a method's own things stand */
    const char **names;
    fdl_tensor **at;
    int n, room;
    json_t *places; /* putting back: name -> index */
    bool *used;
};

static fdl_status put(optim_saved *to, const char *name, fdl_tensor *t)
{
    if (!name || !t)
        return fdl_error_pending();
    if (to->n == to->room) {
        int room = to->room ? 2 * to->room : 64;
        const char **names = fdl_scope_alloc(sizeof *names * (size_t)room);
        fdl_tensor **at = fdl_scope_alloc(sizeof *at * (size_t)room);
        if (!names || !at)
            return fdl_error_pending();
        for (int i = 0; i < to->n; i++) {
            names[i] = to->names[i];
            at[i] = to->at[i];
        }
        to->names = names;
        to->at = at;
        to->room = room;
    }
    to->names[to->n] = name;
    to->at[to->n++] = t;
    return FDL_OK;
}

fdl_status optim_saved_put(optim_saved *to, const char *name, fdl_tensor *t)
{
    return put(to, joined(to->key, name), t);
}

static fdl_status put_slot(const optim_kind *kind, const optim_slot *s, const char *key, optim_saved *to)
{
    for (int k = 0; k < OPTIM_STATES && kind->states[k]; k++)
        if (s->state[k])
            FDL_TRY(put(to, joined(key, kind->states[k]), s->state[k]));
    return s->step ? put(to, joined(key, "step"), s->step) : FDL_OK;
}

/* A number that may be infinite, which JSON has no word for. */
static json_t *number(double v)
{
    return isfinite(v) ? json_real(v) : json_string(isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
}

static json_t *text_of_group(const fdl_optim *o, const optim_group *g, char *const *keys)
{
    json_t *group = optim_options_write(o->kind, &g->o), *params = json_array(), *fresh = json_array();
    for (int i = 0; i < g->n; i++) {
        json_array_append_new(params, json_string(keys[i])); /* what fails shows in the sizes */
        if (g->slots[i].fresh)
            json_array_append_new(fresh, json_string(keys[i]));
    }
    bool whole = group && json_array_size(params) == (size_t)g->n &&
                 json_object_set_new(group, "ratio", number(g->ratio)) == 0;
    if (whole && g->scheduled)
        whole = json_object_set_new(group, "scheduled", json_true()) == 0;
    if (whole && json_array_size(fresh))
        whole = json_object_set(group, "fresh", fresh) == 0;
    json_decref(fresh);
    if (whole)
        whole = json_object_set(group, "params", params) == 0;
    json_decref(params);
    if (whole)
        return group;
    json_decref(group);
    return NULL;
}

static const char *text_of(const fdl_optim *o, char *const *keys)
{
    json_t *all = json_object(), *groups = json_array();
    bool good = json_object_set_new(all, "kind", json_string(o->kind->name)) == 0 &&
                json_object_set(all, "groups", groups) == 0;
    for (int g = 0, at = 0; good && g < o->n_groups; at += o->groups[g++].n)
        good = json_array_append_new(groups, text_of_group(o, &o->groups[g], keys + at)) == 0;
    json_decref(groups);
    size_t n = good ? json_dumpb(all, NULL, 0, JSON_COMPACT) : 0;
    char *text = n ? fdl_scope_alloc(n + 1) : NULL;
    if (text) {
        json_dumpb(all, text, n, JSON_COMPACT);
        text[n] = 0;
    } else if (!fdl_error_pending()) {
        fdl_fail(FDL_E_OOM, "%s: memory ran out", o->kind->name);
    }
    json_decref(all);
    return text;
}

fdl_status fdl_optim_state_dict(const fdl_optim *o, fdl_optim_dict *dict)
{
    if (!o || !dict)
        return fdl_null_operand(__func__, o ? "dict" : "o");
    *dict = (fdl_optim_dict){0};
    int n;
    char **keys = keys_of(o, &n);
    if (!keys)
        return fdl_error_pending();
    optim_saved to = {.kind = o->kind->name, .key = n ? keys[0] : ""};
    for (int g = 0, at = 0; g < o->n_groups; g++)
        for (int i = 0; i < o->groups[g].n; i++)
            FDL_TRY(put_slot(o->kind, &o->groups[g].slots[i], keys[at++], &to));
    if (o->own)
        FDL_TRY(o->kind->own_save(o, &to));
    const char *text = text_of(o, keys);
    if (!text)
        return fdl_error_pending();
    *dict = (fdl_optim_dict){to.n, to.names, to.at, text};
    return FDL_OK;
}

/* ---- a change ----------------------------------------------------------------------------------------- */

/* What one parameter will have; kept. */
typedef struct made {
    fdl_tensor *state[OPTIM_STATES], *step;
    bool fresh, met;
} made;

typedef struct made_group {
    fdl_optim_opts o;
    double ratio;
    bool scheduled;
} made_group;

struct fdl_optim_change {
    fdl_optim *o;
    int n;
    made *slots; /* of all groups */
    made_group *groups;
    void *own;
};

void fdl_optim_change_free(fdl_optim_change *c)
{
    if (!c)
        return;
    for (int i = 0; c->slots && i < c->n; i++) {
        for (int k = 0; k < OPTIM_STATES; k++)
            fdl_free(c->slots[i].state[k]);
        fdl_free(c->slots[i].step);
    }
    if (c->own)
        c->o->kind->own_free(c->own);
    free(c->slots);
    free(c->groups);
    free(c);
}

static void exchange(fdl_tensor **a, fdl_tensor **b)
{
    fdl_tensor *t = *a;
    *a = *b;
    *b = t;
}

void fdl_optim_change_apply(fdl_optim_change *c)
{
    if (!c)
        return;
    fdl_optim *o = c->o;
    made *m = c->slots;
    for (int g = 0; g < o->n_groups; g++) {
        optim_group *group = &o->groups[g];
        group->o = c->groups[g].o;
        group->ratio = c->groups[g].ratio;
        group->scheduled = c->groups[g].scheduled;
        optim_free_scalars(group); /* made anew by the next step, with what the options say now */
        for (int i = 0; i < group->n; i++, m++) {
            optim_slot *s = &group->slots[i];
            for (int k = 0; k < OPTIM_STATES; k++)
                exchange(&s->state[k], &m->state[k]);
            exchange(&s->step, &m->step);
            s->fresh = m->fresh;
            s->placed = false; /* the next step looks where things are */
        }
    }
    void *own = o->own;
    o->own = c->own;
    c->own = own;
    o->generation++;
    fdl_optim_change_free(c);
}

/* ---- checking ----------------------------------------------------------------------------------------- */

static const optim_slot *slot_at(const fdl_optim *o, int i)
{
    int g = 0;
    while (i >= o->groups[g].n)
        i -= o->groups[g++].n;
    return &o->groups[g].slots[i];
}

static char *shape_text(fdl_shape s, char *buf, size_t n)
{
    size_t used = (size_t)snprintf(buf, n, "[");
    for (int d = 0; d < s.ndim && used < n; d++)
        used += (size_t)snprintf(buf + used, n - used, "%s%lld", d ? ", " : "", (long long)s.d[d]);
    if (used < n)
        snprintf(buf + used, n - used, "]");
    return buf;
}

/* The dict's tensor of that name, noted as used; NULL: it has none. */
static fdl_tensor *take(const optim_saved *from, const char *name)
{
    json_t *place = json_object_get(from->places, name);
    if (!place)
        return NULL;
    from->used[json_integer_value(place)] = true;
    return from->at[json_integer_value(place)];
}

fdl_tensor *optim_saved_get(const optim_saved *from, const char *name)
{
    const char *whole = joined(from->key, name);
    return whole ? take(from, whole) : NULL;
}

/* *kept: a copy of t that is like `like`, which is the caller's to give up. */
static fdl_status make(const char *kind, const char *name, fdl_tensor *t, fdl_tensor *like, fdl_tensor **kept)
{
    if (!like)
        return fdl_error_pending();
    fdl_shape has = fdl_shape_of(t), wants = fdl_shape_of(like);
    char a[256], b[256];
    if (!fdl_shape_eq(has, wants))
        return fdl_fail(FDL_E_MISMATCH, "%s: \"%.200s\" is %s in the checkpoint and %s in the optimizer",
                        kind, name, shape_text(has, a, sizeof a), shape_text(wants, b, sizeof b));
    if (fdl_dtype_is_floating(fdl_dtype_of(t)) != fdl_dtype_is_floating(fdl_dtype_of(like)))
        return fdl_fail(FDL_E_MISMATCH, "%s: \"%.200s\" is %s in the checkpoint and %s in the optimizer",
                        kind, name, fdl_dtype_name(fdl_dtype_of(t)), fdl_dtype_name(fdl_dtype_of(like)));
    FDL_TRY(fdl_copy_(like, fdl_detach(t)));
    *kept = fdl_keep(like);
    return *kept ? FDL_OK : fdl_error_pending();
}

static fdl_status make_slot(const fdl_optim_change *c, const made_group *mg, const optim_saved *from,
                            const optim_slot *s, const char *key, made *m)
{
    FDL_SCOPE;
    const optim_kind *kind = c->o->kind;
    optim_group with = {.o = mg->o}; /* the options that will hold */
    for (int k = 0; k < OPTIM_STATES && kind->states[k]; k++) {
        const char *name = joined(key, kind->states[k]);
        fdl_tensor *t = name ? take(from, name) : NULL;
        if (t)
            FDL_TRY(make(kind->name, name, t, optim_begin_state(kind, &with, s, k), &m->state[k]));
    }
    const char *name = joined(key, "step");
    fdl_tensor *t = name && kind->counts ? take(from, name) : NULL;
    if (t)
        FDL_TRY(make(kind->name, name, t,
                     fdl_scalar(0, .device = fdl_device_of(s->param), .dtype = FDL_FLOAT32), &m->step));
    return name ? FDL_OK : fdl_error_pending();
}

static fdl_status bad_text(const fdl_optim *o, const char *what)
{
    return fdl_fail(FDL_E_FORMAT, "%s: the checkpoint's text about the optimizer %s", o->kind->name, what);
}

/* Notes the parameters of a group's list in the places of that group. */
static fdl_status match_group(fdl_optim_change *c, char *const *keys, int g, json_t *params)
{
    const fdl_optim *o = c->o;
    int first = 0;
    for (int i = 0; i < g; i++)
        first += o->groups[i].n;
    size_t i;
    json_t *entry;
    json_array_foreach(params, i, entry)
    {
        const char *key = json_string_value(entry);
        if (!key)
            return bad_text(o, "has a parameter without a name");
        int at = 0; /* mostly in order */
        if ((int)i < o->groups[g].n && strcmp(keys[first + (int)i], key) == 0)
            at = first + (int)i;
        else
            while (at < c->n && strcmp(keys[at], key) != 0)
                at++;
        if (at == c->n) {
            int lacks = 0;
            while (lacks < c->n && c->slots[lacks].met)
                lacks++;
            return fdl_fail(FDL_E_MISMATCH,
                            "%s: the checkpoint has \"%.200s\", which is none of the optimizer's parameters"
                            " (\"%.200s\" and others)",
                            o->kind->name, key, c->n ? keys[lacks < c->n ? lacks : 0] : "");
        }
        if (at < first || at >= first + o->groups[g].n) {
            int in = 0;
            for (int before = o->groups[0].n; at >= before; before += o->groups[++in].n)
                ;
            return fdl_fail(
                FDL_E_MISMATCH,
                "%s: \"%.200s\" is in group %d in the checkpoint and in group %d in the optimizer",
                o->kind->name, key, g, in);
        }
        if (c->slots[at].met)
            return bad_text(o, "has a parameter twice");
        c->slots[at].met = true;
    }
    return FDL_OK;
}

static fdl_status read_number(const fdl_optim *o, json_t *j, double *v)
{
    const char *word = json_string_value(j);
    if (json_is_number(j))
        *v = json_number_value(j);
    else if (word && strcmp(word, "inf") == 0)
        *v = (double)INFINITY;
    else if (word && strcmp(word, "nan") == 0)
        *v = (double)NAN;
    else
        return bad_text(o, "lacks a group's ratio");
    return FDL_OK;
}

static fdl_status match_fresh(fdl_optim_change *c, char *const *keys, json_t *fresh)
{
    size_t i;
    json_t *entry;
    if (fresh && !json_is_array(fresh))
        return bad_text(c->o, "has no list of fresh parameters");
    json_array_foreach(fresh, i, entry)
    {
        const char *key = json_string_value(entry);
        int at = 0;
        while (key && at < c->n && strcmp(keys[at], key) != 0)
            at++;
        if (!key || at == c->n)
            return bad_text(c->o, "has a fresh parameter that isn't among its parameters");
        c->slots[at].fresh = true;
    }
    return FDL_OK;
}

static int counted(json_t *groups)
{
    int n = 0;
    size_t g;
    json_t *group;
    json_array_foreach(groups, g, group) n += (int)json_array_size(json_object_get(group, "params"));
    return n;
}

static fdl_status match_text(fdl_optim_change *c, char *const *keys, json_t *all)
{
    const fdl_optim *o = c->o;
    const char *kind = json_string_value(json_object_get(all, "kind"));
    json_t *groups = json_object_get(all, "groups");
    if (!kind || !json_is_array(groups))
        return bad_text(o, "lacks kind or groups");
    if (strcmp(kind, o->kind->name) != 0)
        return fdl_fail(FDL_E_MISMATCH, "%s: the checkpoint is of %.100s", o->kind->name, kind);
    if (counted(groups) != c->n)
        return fdl_fail(FDL_E_MISMATCH, "%s: checkpoint has %d parameters, optimizer %d", o->kind->name,
                        counted(groups), c->n);
    if ((int)json_array_size(groups) != o->n_groups)
        return fdl_fail(FDL_E_MISMATCH, "%s: checkpoint has %d groups, optimizer %d", o->kind->name,
                        (int)json_array_size(groups), o->n_groups);
    for (int g = 0; g < o->n_groups; g++) {
        json_t *group = json_array_get(groups, (size_t)g), *params = json_object_get(group, "params");
        if (!json_is_array(params))
            return bad_text(o, "lacks a group's parameters");
        FDL_TRY(match_group(c, keys, g, params));
        made_group *mg = &c->groups[g];
        mg->o = o->groups[g].o;
        FDL_TRY(optim_options_read(o->kind, group, &mg->o));
        FDL_TRY(read_number(o, json_object_get(group, "ratio"), &mg->ratio));
        mg->scheduled = json_is_true(json_object_get(group, "scheduled")) && o->kind->momentum_field;
        FDL_TRY(match_fresh(c, keys, json_object_get(group, "fresh")));
    }
    return FDL_OK;
}

static fdl_status index_of(optim_saved *from, const fdl_optim_dict *dict)
{
    from->used = fdl_scope_alloc((size_t)dict->n + 1);
    if (!from->used || !from->places)
        return fdl_fail(FDL_E_OOM, "%s: memory ran out", from->kind);
    memset(from->used, 0, (size_t)dict->n + 1);
    for (int i = 0; i < dict->n; i++) {
        if (!dict->names[i] || !dict->at[i])
            return fdl_null_operand(from->kind, dict->names[i] ? "dict.at" : "dict.names");
        if (json_object_get(from->places, dict->names[i]))
            return fdl_fail(FDL_E_FORMAT, "%s: the checkpoint has \"%.200s\" twice", from->kind,
                            dict->names[i]);
        if (json_object_set_new(from->places, dict->names[i], json_integer(i)) != 0)
            return fdl_fail(FDL_E_FORMAT, "%s: the name \"%.200s\" is not UTF-8", from->kind, dict->names[i]);
    }
    return FDL_OK;
}

static fdl_status make_all(fdl_optim_change *c, char *const *keys, const fdl_optim_dict *dict,
                           optim_saved *from)
{
    const fdl_optim *o = c->o;
    json_error_t error;
    json_t *all = dict->text ? json_loads(dict->text, JSON_REJECT_DUPLICATES, &error) : NULL;
    fdl_status status = all ? match_text(c, keys, all) : bad_text(o, "is no JSON");
    json_decref(all);
    FDL_TRY(status);
    FDL_TRY(index_of(from, dict));
    for (int g = 0, at = 0; g < o->n_groups; g++)
        for (int i = 0; i < o->groups[g].n; i++, at++)
            FDL_TRY(make_slot(c, &c->groups[g], from, slot_at(o, at), keys[at], &c->slots[at]));
    if (o->kind->own_load && c->n) {
        c->own = o->kind->own_load(o, from);
        if (!c->own)
            return fdl_error_pending();
    }
    for (int i = 0; i < dict->n; i++)
        if (!from->used[i])
            return fdl_fail(FDL_E_MISMATCH, "%s: the checkpoint has \"%.200s\", which it doesn't know",
                            o->kind->name, dict->names[i]);
    return FDL_OK;
}

fdl_optim_change *fdl_optim_change_new(fdl_optim *o, const fdl_optim_dict *dict)
{
    if (!o || !dict || (dict->n && (!dict->names || !dict->at))) {
        fdl_null_operand(__func__, !o ? "o" : !dict ? "dict" : "dict.names or dict.at");
        return NULL;
    }
    FDL_SCOPE;
    FDL_NO_GRAD;
    int n;
    char **keys = keys_of(o, &n);
    if (!keys)
        return NULL;
    fdl_optim_change *c = calloc(1, sizeof *c);
    optim_saved from = {.kind = o->kind->name,
                        .key = n ? keys[0] : "",
                        .names = (const char **)(uintptr_t)dict->names,
                        .at = (fdl_tensor **)(uintptr_t)dict->at,
                        .n = dict->n,
                        .places = json_object()};
    if (c)
        *c = (fdl_optim_change){.o = o,
                                .n = n,
                                .slots = calloc((size_t)n + 1, sizeof *c->slots),
                                .groups = calloc((size_t)o->n_groups, sizeof *c->groups)};
    fdl_status status = c && c->slots && c->groups ? make_all(c, keys, dict, &from)
                                                   : fdl_fail(FDL_E_OOM, "%s: memory ran out", o->kind->name);
    json_decref(from.places);
    if (status == FDL_OK)
        return c;
    fdl_optim_change_free(c);
    return NULL;
}

fdl_status fdl_optim_load_state_dict(fdl_optim *o, const fdl_optim_dict *dict)
{
    if (!o || !dict)
        return fdl_null_operand(__func__, o ? "dict" : "o");
    fdl_optim_change *c = fdl_optim_change_new(o, dict);
    if (!c)
        return fdl_error_pending();
    fdl_optim_change_apply(c);
    return FDL_OK;
}
