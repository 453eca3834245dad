/* The names under which a file's entries are looked for: the prefix taken off, rename rules applied, other names of
 * shared tensors added, tensors in several parts put together. */
#include "ckpt_private.h"

#include "flodl/shape.h"

enum { MOST_STARS = 16, MOST_PARTS = 64 };

/* ---- one rule --------------------------------------------------------------------------------------- */

typedef struct run {
    const char *at;
    size_t n;
} run;

/* Whether name fits the pattern; what each * stood for, as short as it can be, to stars. */
static bool fits(const char *pattern, const char *name, run stars[MOST_STARS])
{
    const char *star = strchr(pattern, '*');
    if (!star)
        return strcmp(pattern, name) == 0;
    if (strncmp(pattern, name, (size_t)(star - pattern)) != 0)
        return false;
    name += star - pattern;
    for (int i = 0;; i++) {
        const char *literal = star + 1;
        star = strchr(literal, '*');
        size_t n = star ? (size_t)(star - literal) : strlen(literal), rest = strlen(name);
        const char *at = name;
        if (!star) /* the last one must end where the name does */
            at = rest >= n && memcmp(name + rest - n, literal, n) == 0 ? name + rest - n : NULL;
        else if (n)
            at = memmem(name, rest, literal, n);
        if (!at)
            return false;
        stars[i] = (run){name, (size_t)(at - name)};
        name = at + n;
        if (!star)
            return true;
    }
}

/* `to` with its stars filled; in the current scope. */
static char *filled(const char *to, const run *stars)
{
    size_t n = strlen(to) + 1;
    int k = 0;
    for (const char *s = to; *s; s++)
        n += *s == '*' ? stars[k++].n : 0;
    char *out = fdl_scope_alloc(n), *end = out;
    k = 0;
    for (const char *s = to; out && *s; s++)
        if (*s == '*') {
            memcpy(end, stars[k].at, stars[k].n);
            end += stars[k++].n;
        } else {
            *end++ = *s;
        }
    return out;
}

static int count_stars(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += *s == '*';
    return n;
}

static fdl_status check_rules(const fdl_rename *rules)
{
    for (; rules && rules->from; rules++) {
        if (!rules->to)
            return fdl_fail(FDL_E_NULL, ".rename has nothing in place of \"%.100s\"", rules->from);
        int from = count_stars(rules->from), to = count_stars(rules->to);
        if (from > MOST_STARS)
            return fdl_fail(FDL_E_ARG, ".rename: \"%.100s\" has %d *, at most %d can be", rules->from, from,
                            (int)MOST_STARS);
        if (to > from)
            return fdl_fail(FDL_E_ARG, ".rename: \"%.100s\" has %d *, \"%.100s\" only %d", rules->to, to,
                            rules->from, from);
    }
    return FDL_OK;
}

/* A name that may be one part of a tensor. */
typedef struct target {
    const char *name;
    int part, parts; /* parts 0: the whole */
} target;

/* Takes "[1/3]" off the end of a rule's `to`. */
static void cut_part(char *name, target *t)
{
    char *open = strrchr(name, '[');
    int part, parts, end = 0;
    if (!open || sscanf(open, "[%d/%d]%n", &part, &parts, &end) != 2 || !end || open[end] || part < 0 ||
        part >= parts || parts > MOST_PARTS)
        return;
    *open = '\0';
    t->part = part;
    t->parts = parts;
}

/* What the rules make of name. */
static fdl_status apply(const fdl_rename *rules, const char *name, target *t)
{
    run stars[MOST_STARS];
    *t = (target){.name = name};
    for (; rules && rules->from; rules++) {
        if (!fits(rules->from, t->name, stars))
            continue;
        char *made = filled(rules->to, stars);
        if (!made)
            return fdl_error_pending();
        t->name = made;
        if (rules->to[strlen(rules->to) - (*rules->to != 0)] == ']')
            cut_part(made, t);
    }
    return FDL_OK;
}

/* ---- the view --------------------------------------------------------------------------------------- */

/* Training state stands in files of version 3 under names that no state_dict has. */
static bool is_training_state(const source *file, const char *name)
{
    return file->version == 3 && ckpt_is_training(name);
}

static const char *behind(const char *name, const char *prefix)
{
    size_t n = prefix ? strlen(prefix) : 0;
    return n == 0 || strncmp(name, prefix, n) == 0 ? name + n : NULL;
}

static ckpt_entry *new_entry(ckpt_view *v, const char *name, int parts)
{
    if (v->n == v->room)
        return fdl_fail_null(FDL_E_STATE, "a view of a file has no room for \"%.200s\"", name);
    const source_entry **part = fdl_scope_alloc(sizeof *part * (size_t)parts);
    if (!part)
        return NULL;
    v->at[v->n] = (ckpt_entry){.name = name, .part = part, .parts = parts};
    if (json_object_set_new_nocheck(v->places, name, json_integer(v->n)) != 0)
        return fdl_fail_null(FDL_E_OOM, "'%s': no memory for its names", v->file->path);
    return &v->at[v->n++];
}

static fdl_status put_part(ckpt_view *v, const source_entry *e, const target *t)
{
    ckpt_entry *in = ckpt_view_find(v, t->name);
    int parts = t->parts ? t->parts : 1;
    if (!in) {
        in = new_entry(v, t->name, parts);
        if (!in)
            return fdl_error_pending();
    } else if (in->parts != parts || in->part[t->part]) {
        const source_entry *other = NULL;
        for (int i = 0; i < in->parts && !other; i++)
            other = in->part[in->parts == parts ? t->part : i];
        return fdl_fail(FDL_E_MISMATCH, "'%s': \"%.200s\" and \"%.200s\" would both be \"%.200s\"",
                        v->file->path, other ? other->name : "", e->name, t->name);
    }
    in->part[t->part] = e;
    return FDL_OK;
}

/* Shape and dtype of the whole. */
static fdl_status measure(const ckpt_view *v, ckpt_entry *e)
{
    for (int i = 0; i < e->parts; i++) {
        const source_entry *part = e->part[i];
        if (!part)
            return fdl_fail(FDL_E_MISMATCH, "'%s': part %d of %d of \"%.200s\" is missing", v->file->path,
                            i + 1, e->parts, e->name);
        if (i == 0) {
            e->dtype = part->dtype;
            e->shape = part->shape;
            continue;
        }
        fdl_shape rest = part->shape;
        if (rest.ndim > 0 && e->shape.ndim > 0)
            rest.d[0] = e->shape.d[0];
        if (part->shape.ndim < 1 || !fdl_shape_eq(rest, e->shape) || part->dtype != e->dtype)
            return fdl_fail(
                FDL_E_MISMATCH,
                "'%s': \"%.200s\" can't be put behind \"%.200s\" to be \"%.200s\": shapes or dtypes differ",
                v->file->path, part->name, e->part[0]->name, e->name);
        e->shape.d[0] += part->shape.d[0];
    }
    return FDL_OK;
}

/* The file's other names of its entries. */
static fdl_status add_aliases(ckpt_view *v, json_t *aliases, const char *prefix, const fdl_rename *rename)
{
    const char *name;
    json_t *stored;
    json_object_foreach(aliases, name, stored)
    {
        target t;
        const source_entry *e =
            json_is_string(stored) ? source_find(v->file, json_string_value(stored)) : NULL;
        const char *rest = behind(name, prefix);
        if (!e || !rest)
            continue;
        size_t size = strlen(rest) + 1;
        char *copy = fdl_scope_alloc(size); /* the aliases are freed before the view is */
        if (!copy)
            return fdl_error_pending();
        FDL_TRY(apply(rename, memcpy(copy, rest, size), &t));
        if (t.parts || ckpt_view_find(v, t.name))
            continue;
        ckpt_entry *made = new_entry(v, t.name, 1);
        if (!made)
            return fdl_error_pending();
        made->part[0] = e;
        made->alias = true;
    }
    return FDL_OK;
}

static fdl_status load_aliases(const source *file, json_t **aliases)
{
    const char *text = source_meta(file, "fdl.aliases");
    json_error_t error;
    *aliases = text ? json_loads(text, JSON_REJECT_DUPLICATES, &error) : NULL;
    return !text || json_is_object(*aliases)
               ? FDL_OK
               : fdl_fail(FDL_E_FORMAT,
                          "'%s': entry \"__metadata__\" has fdl.aliases that are no JSON object", file->path);
}

static fdl_status fill(ckpt_view *v, json_t *aliases, const char *prefix, const fdl_rename *rename)
{
    for (int i = 0; i < v->file->n; i++) {
        const source_entry *e = &v->file->entries[i];
        const char *rest = is_training_state(v->file, e->name) ? NULL : behind(e->name, prefix);
        target t;
        if (!rest)
            continue;
        FDL_TRY(apply(rename, rest, &t));
        FDL_TRY(put_part(v, e, &t));
    }
    FDL_TRY(add_aliases(v, aliases, prefix, rename));
    for (int i = 0; i < v->n; i++)
        FDL_TRY(measure(v, &v->at[i]));
    return FDL_OK;
}

fdl_status ckpt_view_of(ckpt_view *v, const source *file, const char *prefix, const fdl_rename *rename,
                        int extra)
{
    json_t *aliases;
    *v = (ckpt_view){.file = file, .places = json_object()};
    FDL_TRY(check_rules(rename));
    fdl_status status = load_aliases(file, &aliases);
    if (status == FDL_OK) {
        v->room = file->n + (int)json_object_size(aliases) + extra;
        v->at = fdl_scope_alloc(sizeof *v->at * (size_t)(v->room + 1));
        status = v->at && v->places ? fill(v, aliases, prefix, rename)
                                    : fdl_fail(FDL_E_OOM, "'%s': no memory for its names", file->path);
    }
    json_decref(aliases);
    return status;
}

void ckpt_view_end(ckpt_view *v)
{
    json_decref(v->places);
    v->places = NULL;
}

ckpt_entry *ckpt_view_find(const ckpt_view *v, const char *name)
{
    json_t *place = json_object_get(v->places, name);
    return place ? &v->at[json_integer_value(place)] : NULL;
}

ckpt_entry *ckpt_view_join(ckpt_view *v, const char *name, int parts, const source_entry *const *part)
{
    ckpt_entry *e = new_entry(v, name, parts);
    if (!e)
        return NULL;
    memcpy(e->part, part, sizeof *part * (size_t)parts);
    e->alias = true;
    return measure(v, e) == FDL_OK ? e : NULL;
}

void ckpt_view_use(ckpt_view *v, ckpt_entry *e)
{
    e->used = true;
    if (!e->alias)
        return;
    for (int i = 0; i < v->n; i++) /* few entries are others' other names */
        for (int k = 0; k < e->parts; k++)
            v->at[i].used |= v->at[i].parts == 1 && v->at[i].part[0] == e->part[k];
}

fdl_tensor *ckpt_view_read(const ckpt_view *v, const ckpt_entry *e)
{
    if (e->parts == 1)
        return source_read(v->file, e->part[0]);
    FDL_SCOPE;
    fdl_list all = {e->parts, fdl_scope_alloc(sizeof *all.at * (size_t)e->parts)};
    for (int i = 0; all.at && i < e->parts; i++)
        all.at[i] = source_read(v->file, e->part[i]);
    FDL_RETURN(all.at ? fdl_cat(all, 0) : NULL);
}
