/* The training that goes with a model in a checkpoint: optimizers, scaler, plateau, averages, random numbers, progress. Tensors
 * stand under names that no state_dict has, as they contain a '/'; numbers of the host as JSON in the metadata. */
#include "ckpt_private.h"
#include "flodl/cuda.h"
#include "flodl/inplace.h"
#include "flodl/random.h"

#include <math.h>

enum { MOST_OPTIMS = 64, MOST_GPUS = 64, MOST_NAME = 64 };

static const char ema_count[] = "ema//updates"; /* no state_dict key begins with a '/' */

bool ckpt_is_training(const char *key)
{
    static const char *const first[] = {"optim/", "ema/", "scaler/", "sched/", "rng/", "train/"};
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++)
        if (strncmp(key, first[i], strlen(first[i])) == 0)
            return true;
    return false;
}

/* Text of the current scope. */
static const char *text_of(const char *a, const char *b)
{
    size_t n = strlen(a), k = strlen(b);
    char *text = fdl_scope_alloc(n + k + 1);
    if (text) {
        memcpy(text, a, n);
        memcpy(text + n, b, k + 1);
    }
    return text;
}

/* The optimizers that the options name, *n of them. */
static fdl_status optims_of(fdl_optim *one, fdl_optims several, fdl_optim *const **at, int *n)
{
    *n = 0;
    if (one && several.at)
        return fdl_fail(FDL_E_ARG, ".optim and .optims exclude each other");
    if (one)
        *n = 1;
    for (fdl_optim *const *o = several.at; o && (const void *)*o != (const void *)FDL_END; o++) {
        if (!*o)
            return fdl_null_operand("fdl_ckpt", ".optims");
        if (++*n > MOST_OPTIMS)
            return fdl_fail(FDL_E_ARG, ".optims has more than %d optimizers", (int)MOST_OPTIMS);
    }
    *at = several.at;
    return FDL_OK;
}

/* ---- numbers ------------------------------------------------------------------------------------------ */

typedef struct field {
    const char *name;
    int64_t *whole; /* or */
    double *real;
} field;

/* A number that may be infinite or none, for which JSON has no word. */
static json_t *real(double v)
{
    return isfinite(v) ? json_real(v) : json_string(isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
}

/* The fields, ended by a NULL name, as JSON text in the metadata. */
static fdl_status put_fields(json_t *to, const char *key, const field *f)
{
    json_t *j = json_object();
    bool good = j;
    for (; good && f->name; f++)
        good = json_object_set_new(j, f->name, f->whole ? json_integer(*f->whole) : real(*f->real)) == 0;
    char *text = good ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    fdl_status status = text ? ckpt_put_meta(to, key, text) : fdl_fail(FDL_E_OOM, "memory ran out");
    free(text);
    return status;
}

static bool read_field(const field *f, json_t *j)
{
    const char *word = json_string_value(j);
    if (f->whole) {
        if (json_is_integer(j))
            *f->whole = json_integer_value(j);
        return json_is_integer(j);
    }
    if (json_is_number(j))
        *f->real = json_number_value(j);
    else if (word && strcmp(word, "nan") == 0)
        *f->real = (double)NAN;
    else if (word && strcmp(word, "inf") == 0)
        *f->real = (double)INFINITY;
    else if (word && strcmp(word, "-inf") == 0)
        *f->real = -(double)INFINITY;
    else
        return false;
    return true;
}

static fdl_status has_no(const char *what, const char *option)
{
    return fdl_fail(FDL_E_MISMATCH, "the file has no %s; it was saved without .%s", what, option);
}

static fdl_status get_fields(const source *file, const char *key, const field *f, const char *what,
                             const char *option)
{
    const char *text = source_meta(file, key);
    json_error_t error;
    if (!text)
        return has_no(what, option);
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    fdl_status status = FDL_OK;
    for (; status == FDL_OK && f->name; f++)
        if (!read_field(f, json_object_get(j, f->name)))
            status =
                fdl_fail(FDL_E_FORMAT, "entry \"__metadata__\" has no number \"%s\" in \"%s\"", f->name, key);
    json_decref(j);
    return status;
}

/* clang-format off */
#define SCALER_FIELDS(s)                                                                        \
    {{"scale", .real = &(s)->scale}, {"growth", .real = &(s)->growth},                          \
     {"backoff", .real = &(s)->backoff}, {"interval", .whole = &(s)->interval},                 \
     {"tracker", .whole = &(s)->tracker}, {NULL, NULL, NULL}}
#define PLATEAU_FIELDS(s)                                                                       \
    {{"lr", .real = &(s)->lr}, {"best", .real = &(s)->best}, {"bad", .whole = &(s)->bad},       \
     {"cooling", .whole = &(s)->cooling}, {NULL, NULL, NULL}}
#define PROGRESS_FIELDS(s)                                                                      \
    {{"step", .whole = &(s)->step}, {"epoch", .whole = &(s)->epoch},                            \
     {"batch", .whole = &(s)->batch}, {"samples", .whole = &(s)->samples},                      \
     {"losses", .whole = &(s)->losses}, {"loss_sum", .real = &(s)->loss_sum},                   \
     {"loss", .real = &(s)->loss}, {"best", .real = &(s)->best},                                \
     {"best_epoch", .whole = &(s)->best_epoch}, {NULL, NULL, NULL}}
/* clang-format on */

/* ---- saving ------------------------------------------------------------------------------------------- */

static fdl_status put_optim(ckpt_content *c, const fdl_optim *o, int i)
{
    char before[MOST_NAME];
    snprintf(before, sizeof before, "optim/%d/", i);
    fdl_optim_dict dict;
    FDL_TRY(fdl_optim_state_dict(o, &dict));
    for (int k = 0; k < dict.n; k++)
        FDL_TRY(ckpt_add(c, text_of(before, dict.names[k]), dict.at[k]));
    before[strlen(before) - 1] = 0;
    return ckpt_put_meta(c->metadata, before, dict.text);
}

static fdl_status put_scaler(ckpt_content *c, const fdl_amp_scaler *s)
{
    fdl_amp_scaler_state state;
    FDL_TRY(fdl_amp_scaler_settings(s, &state));
    FDL_TRY(put_fields(c->metadata, "scaler/0", (field[])SCALER_FIELDS(&state)));
    fdl_list now = fdl_amp_scaler_tensors(s);
    if (!now.n)
        return fdl_error_pending();
    FDL_TRY(ckpt_add(c, "scaler/0/scale", now.at[0]));
    return ckpt_add(c, "scaler/0/tracker", now.at[1]);
}

static fdl_status not_applied(const fdl_ema *e)
{
    return fdl_ema_is_applied(e)
               ? fdl_fail(FDL_E_STATE, ".ema: the averages are in the model; fdl_ema_restore comes first")
               : FDL_OK;
}

static fdl_status put_ema(ckpt_content *c, const ckpt_contents *of, const fdl_ema *e)
{
    FDL_TRY(not_applied(e));
    for (int i = 0; i < of->n; i++)
        FDL_TRY(ckpt_add(c, text_of("ema/", of->items[i].key),
                         fdl_ema_shadow(e, fdl_param_tensor(of->items[i].p))));
    fdl_tensor *count = fdl_ema_count(e);
    return count ? ckpt_add(c, ema_count, count) : fdl_error_pending();
}

/* The CUDA devices on which the model lies, and the thread's default one. */
static void gpus_of(const ckpt_contents *of, bool gpus[MOST_GPUS])
{
    memset(gpus, 0, MOST_GPUS * sizeof *gpus);
    for (int i = -1; i < of->n; i++) {
        fdl_device d = i < 0 ? fdl_default_device() : fdl_device_of(fdl_param_tensor(of->items[i].p));
        if (d.type == FDL_DEVICE_TYPE_CUDA && d.index >= 0 && d.index < MOST_GPUS)
            gpus[d.index] = true;
    }
}

static fdl_status put_rng(ckpt_content *c, const ckpt_contents *of)
{
    bool gpus[MOST_GPUS];
    FDL_TRY(ckpt_add(c, "rng/cpu", fdl_rng_state(FDL_CPU)));
    gpus_of(of, gpus);
    for (int i = 0; i < MOST_GPUS; i++) {
        char name[MOST_NAME];
        if (!gpus[i])
            continue;
        snprintf(name, sizeof name, "rng/cuda/%d", i);
        FDL_TRY(ckpt_add(c, text_of(name, ""), fdl_rng_state(FDL_CUDA(i))));
    }
    return FDL_OK;
}

static fdl_status put_host_rng(ckpt_content *c, const fdl_rng *r)
{
    int64_t words[4];
    memcpy(words, r->s, sizeof words);
    return ckpt_add(c, "rng/host", fdl_from_i64(words, FDL_SHAPE(4), .device = FDL_CPU));
}

/* ---- what graphs carry from call to call ---------------------------------------------------------------- */

typedef fdl_status carried_fn(void *ctx, fdl_module *graph, const char *slot, const char *name);

typedef struct carrier {
    carried_fn *fn;
    void *ctx;
    int graphs;
} carrier;

static fdl_status each_slot(fdl_module *m, void *ctx)
{
    carrier *c = ctx;
    if (!fdl_module_is_graph(m))
        return FDL_OK;
    for (int i = 0; i < fdl_graph_state_count(m); i++) {
        char name[MOST_NAME];
        snprintf(name, sizeof name, "train/state/%d/%d", c->graphs, i);
        FDL_TRY(c->fn(c->ctx, m, fdl_graph_state_name(m, i), name));
    }
    c->graphs++;
    return FDL_OK;
}

/* fn for each slot of each graph of the tree, with the slot's name in the file. */
static fdl_status walk_carried(fdl_module *m, carried_fn *fn, void *ctx)
{
    return fdl_module_walk(m, each_slot, &(carrier){.fn = fn, .ctx = ctx});
}

/* The slot's value, NULL for an empty one (scope). */
static fdl_status value_of(fdl_module *graph, const char *slot, fdl_tensor **value)
{
    *value = fdl_graph_state_get(graph, slot);
    if (*value || fdl_error_pending() != FDL_E_STATE)
        return fdl_error_pending();
    fdl_clear_error();
    return FDL_OK;
}

static fdl_status put_slot(void *ctx, fdl_module *graph, const char *slot, const char *name)
{
    fdl_tensor *value;
    FDL_TRY(value_of(graph, slot, &value));
    return value ? ckpt_add(ctx, text_of(name, ""), fdl_detach(value)) : FDL_OK;
}

fdl_status ckpt_put_training(ckpt_content *c, fdl_module *m, const fdl_ckpt_save_opts *o)
{
    fdl_optim *const *several;
    int n;
    FDL_TRY(optims_of(o->optim, o->optims, &several, &n));
    for (int i = 0; i < n; i++)
        FDL_TRY(put_optim(c, several ? several[i] : o->optim, i));
    if (o->scaler)
        FDL_TRY(put_scaler(c, o->scaler));
    if (o->plateau) {
        fdl_plateau_state state;
        FDL_TRY(fdl_plateau_save(o->plateau, &state));
        FDL_TRY(put_fields(c->metadata, "sched/plateau", (field[])PLATEAU_FIELDS(&state)));
    }
    ckpt_contents of;
    if (o->ema || o->rng)
        FDL_TRY(ckpt_contents_of(&of, m));
    if (o->ema)
        FDL_TRY(put_ema(c, &of, o->ema));
    if (o->rng)
        FDL_TRY(put_rng(c, &of));
    if (o->host_rng)
        FDL_TRY(put_host_rng(c, o->host_rng));
    if (!o->progress)
        return FDL_OK;
    if (m)
        FDL_TRY(walk_carried(m, put_slot, c));
    fdl_progress p = *o->progress;
    return put_fields(c->metadata, "train/progress", (field[])PROGRESS_FIELDS(&p));
}

/* ---- loading: reading and checking ---------------------------------------------------------------------- */

/* Values that go into a tensor that is there. */
typedef struct copy {
    fdl_tensor *to, *from; /* borrowed; scope, on the CPU */
} copy;

/* What a graph will carry; scope, on the model's device. */
typedef struct slot {
    fdl_module *graph;
    const char *name;
    fdl_tensor *value; /* NULL: nothing */
} slot;

struct ckpt_change {
    const fdl_ckpt_load_opts *o;
    int n_optims;
    fdl_optim_change *optims[MOST_OPTIMS];
    fdl_amp_scaler_state scaler;
    fdl_plateau_state plateau;
    copy *ema;
    int n_ema;
    struct slot *slots;
    int n_slots, slots_room;
    fdl_tensor *cpu, *gpu[MOST_GPUS]; /* states of generators; NULL: it stays */
    fdl_rng host;
    fdl_progress progress;
};

static const char *behind(const char *name, const char *before)
{
    size_t n = strlen(before);
    return strncmp(name, before, n) == 0 ? name + n : NULL;
}

/* How many optimizers the file has. */
static int optims_in(const source *file)
{
    int n = 0;
    char key[MOST_NAME];
    do
        snprintf(key, sizeof key, "optim/%d", n);
    while (source_meta(file, key) && ++n <= MOST_OPTIMS);
    return n;
}

static fdl_status read_optim(ckpt_change *c, const source *file, fdl_optim *o, int i)
{
    char key[MOST_NAME];
    snprintf(key, sizeof key, "optim/%d", i);
    const char *text = source_meta(file, key);
    snprintf(key, sizeof key, "optim/%d/", i);
    const char **names = fdl_scope_alloc(sizeof *names * (size_t)(file->n + 1));
    fdl_tensor **at = fdl_scope_alloc(sizeof *at * (size_t)(file->n + 1));
    if (!names || !at)
        return fdl_error_pending();
    int n = 0;
    for (int k = 0; k < file->n; k++) {
        const char *rest = behind(file->entries[k].name, key);
        if (!rest)
            continue;
        names[n] = rest;
        at[n] = source_read(file, &file->entries[k]);
        if (!at[n++])
            return fdl_error_pending();
    }
    c->optims[i] = fdl_optim_change_new(o, &(fdl_optim_dict){n, names, at, text});
    if (!c->optims[i])
        return fdl_error_pending();
    c->n_optims++;
    return FDL_OK;
}

static fdl_status read_optims(ckpt_change *c, const source *file)
{
    fdl_optim *const *several;
    int n, has = optims_in(file);
    FDL_TRY(optims_of(c->o->optim, c->o->optims, &several, &n));
    if (!n)
        return FDL_OK;
    if (!has)
        return has_no("optimizer's state", "optim");
    if (has != n)
        return fdl_fail(FDL_E_MISMATCH, "the file has %d optimizers, .optim%s %d", has, several ? "s" : "",
                        n);
    for (int i = 0; i < n; i++)
        FDL_TRY(read_optim(c, file, several ? several[i] : c->o->optim, i));
    return FDL_OK;
}

/* One number of a 1-element tensor of the file. */
static fdl_status read_one(const source *file, const char *name, double *v)
{
    const source_entry *e = source_find(file, name);
    if (!e)
        return FDL_OK;
    fdl_tensor *t = source_read(file, e);
    if (!t)
        return fdl_error_pending();
    if (fdl_numel(t) != 1)
        return source_bad_entry(file, name, "is not one number");
    *v = fdl_item(t);
    return FDL_OK;
}

static fdl_status read_scaler(ckpt_change *c, const source *file)
{
    fdl_amp_scaler_state *s = &c->scaler;
    FDL_TRY(get_fields(file, "scaler/0", (field[])SCALER_FIELDS(s), "scaler's state", "scaler"));
    double tracker = (double)s->tracker;
    FDL_TRY(read_one(file, "scaler/0/scale", &s->scale));
    FDL_TRY(read_one(file, "scaler/0/tracker", &tracker));
    s->tracker = tracker >= 0 && tracker <= INT32_MAX ? (int64_t)tracker : -1;
    fdl_amp_scaler *probe = fdl_amp_scaler_new(); /* says whether the numbers can be */
    fdl_status status = probe ? fdl_amp_scaler_load(probe, s) : fdl_error_pending();
    fdl_amp_scaler_free(probe);
    return status;
}

static fdl_status read_plateau(ckpt_change *c, const source *file)
{
    fdl_plateau_state *s = &c->plateau;
    FDL_TRY(get_fields(file, "sched/plateau", (field[])PLATEAU_FIELDS(s), "plateau's state", "plateau"));
    fdl_plateau *probe = fdl_sched_plateau(1);
    fdl_status status = probe ? fdl_plateau_load(probe, s) : fdl_error_pending();
    fdl_plateau_free(probe);
    return status;
}

/* Notes that the file's entry of that name is for `to`. */
static fdl_status read_average(ckpt_change *c, const source *file, const char *name, fdl_tensor *to)
{
    if (!name || !to)
        return fdl_error_pending();
    const source_entry *e = source_find(file, name);
    char a[256], b[256];
    if (!e)
        return fdl_fail(FDL_E_MISMATCH, "the file's averages lack \"%.200s\"", name);
    if (!fdl_shape_eq(e->shape, fdl_shape_of(to)))
        return fdl_fail(FDL_E_MISMATCH, "\"%.200s\" is %s in the file and %s in the averages", name,
                        ckpt_shape_text(e->shape, a, sizeof a),
                        ckpt_shape_text(fdl_shape_of(to), b, sizeof b));
    c->ema[c->n_ema] = (copy){to, source_read(file, e)};
    return c->ema[c->n_ema++].from ? FDL_OK : fdl_error_pending();
}

static fdl_status read_ema(ckpt_change *c, const source *file, const ckpt_contents *of)
{
    const fdl_ema *e = c->o->ema;
    FDL_TRY(not_applied(e));
    int has = 0, needs = of->n;
    for (int i = 0; i < file->n; i++)
        has += behind(file->entries[i].name, "ema/") != NULL;
    fdl_tensor *count = fdl_ema_count(e);
    needs += count != NULL;
    if (!has && needs)
        return has_no("averages", "ema");
    if (!count && source_find(file, ema_count))
        return fdl_fail(FDL_E_MISMATCH, "the file's averages count their updates; those of .ema, made with "
                                        "neither .warmup nor .average, don't");
    if (has != needs)
        return fdl_fail(FDL_E_MISMATCH, "the file has averages of %d tensors, .ema of %d", has, needs);
    c->ema = fdl_scope_alloc(sizeof *c->ema * (size_t)(needs + 1));
    if (!c->ema)
        return fdl_error_pending();
    for (int i = 0; i < of->n; i++)
        FDL_TRY(read_average(c, file, text_of("ema/", of->items[i].key),
                             fdl_ema_shadow(e, fdl_param_tensor(of->items[i].p))));
    return count ? read_average(c, file, ema_count, count) : FDL_OK;
}

/* The state of that name, tried on the generator, which goes on where it was. */
static fdl_status read_generator(const source *file, const char *name, fdl_device device, fdl_tensor **state)
{
    fdl_tensor *read = source_read(file, source_find(file, name)), *now = fdl_rng_state(device);
    if (!read || !now)
        return fdl_error_pending();
    if (fdl_dtype_of(read) != FDL_UINT8 || fdl_ndim(read) != 1 || fdl_numel(read) != fdl_numel(now))
        return source_bad_entry(file, name, "is no state of a generator of this version");
    fdl_status status = fdl_set_rng_state(device, read);
    FDL_TRY(fdl_set_rng_state(device, now));
    FDL_TRY(status);
    *state = read;
    return FDL_OK;
}

static fdl_status read_rng(ckpt_change *c, const source *file)
{
    if (!source_find(file, "rng/cpu"))
        return has_no("generator's state", "rng");
    FDL_TRY(read_generator(file, "rng/cpu", FDL_CPU, &c->cpu));
    for (int i = 0; i < MOST_GPUS && i < fdl_cuda_count(); i++) {
        char name[MOST_NAME];
        snprintf(name, sizeof name, "rng/cuda/%d", i);
        if (source_find(file, name))
            FDL_TRY(read_generator(file, name, FDL_CUDA(i), &c->gpu[i]));
    }
    return FDL_OK;
}

static fdl_status read_host_rng(ckpt_change *c, const source *file)
{
    const source_entry *e = source_find(file, "rng/host");
    int64_t words[4];
    if (!e)
        return has_no("fdl_rng", "host_rng");
    fdl_tensor *t = source_read(file, e);
    if (!t)
        return fdl_error_pending();
    if (e->dtype != FDL_INT64 || fdl_numel(t) != 4)
        return source_bad_entry(file, "rng/host", "is no state of an fdl_rng");
    FDL_TRY(fdl_to_i64(t, words, 4));
    memcpy(c->host.s, words, sizeof words);
    return words[0] | words[1] | words[2] | words[3]
               ? FDL_OK
               : source_bad_entry(file, "rng/host", "is all zero, which is no state of an fdl_rng");
}

static fdl_status read_progress(ckpt_change *c, const source *file)
{
    fdl_progress *p = &c->progress;
    FDL_TRY(get_fields(file, "train/progress", (field[])PROGRESS_FIELDS(p), "progress", "progress"));
    if (p->step < 0 || p->epoch < 0 || p->batch < 0 || p->samples < 0 || p->losses < 0 || p->best_epoch < -1)
        return fdl_fail(FDL_E_FORMAT, "entry \"__metadata__\" has a negative number in \"train/progress\"");
    return FDL_OK;
}

typedef struct slot_reader {
    ckpt_change *c;
    const source *file;
    fdl_device device;
    int found;
} slot_reader;

static fdl_status read_slot(void *ctx, fdl_module *graph, const char *slot_name, const char *name)
{
    slot_reader *r = ctx;
    ckpt_change *c = r->c;
    const source_entry *e = source_find(r->file, name);
    fdl_tensor *value = e ? fdl_to_device(source_read(r->file, e), r->device) : NULL;
    if (e && !value)
        return fdl_error_pending();
    r->found += e != NULL;
    if (c->n_slots == c->slots_room) {
        int room = 2 * c->slots_room + 16;
        slot *more = fdl_scope_alloc(sizeof *more * (size_t)room);
        if (!more)
            return fdl_error_pending();
        for (int i = 0; i < c->n_slots; i++)
            more[i] = c->slots[i];
        c->slots = more;
        c->slots_room = room;
    }
    c->slots[c->n_slots++] = (slot){graph, slot_name, value};
    return FDL_OK;
}

/* What graphs carry goes with the progress. */
static fdl_status read_carried(ckpt_change *c, const source *file, fdl_module *m)
{
    fdl_params *ps = fdl_parameters(m);
    int has = 0;
    for (int i = 0; i < file->n; i++)
        has += behind(file->entries[i].name, "train/state/") != NULL;
    if (!ps)
        return fdl_error_pending();
    slot_reader r = {.c = c,
                     .file = file,
                     .device = fdl_params_count(ps) ? fdl_device_of(fdl_param_tensor(fdl_params_at(ps, 0)))
                                                    : fdl_default_device()};
    FDL_TRY(walk_carried(m, read_slot, &r));
    return r.found == has ? FDL_OK
                          : fdl_fail(FDL_E_MISMATCH,
                                     "the file has %d values that graphs carry from call to call, the model "
                                     "has places for %d of them",
                                     has, r.found);
}

static fdl_status read_all(ckpt_change *c, const source *file, fdl_module *m)
{
    const fdl_ckpt_load_opts *o = c->o;
    bool asked =
        o->optim || o->optims.at || o->scaler || o->plateau || o->ema || o->rng || o->host_rng || o->progress;
    if (!asked)
        return FDL_OK;
    FDL_TRY(read_optims(c, file));
    if (o->scaler)
        FDL_TRY(read_scaler(c, file));
    if (o->plateau)
        FDL_TRY(read_plateau(c, file));
    if (o->ema) {
        ckpt_contents of;
        FDL_TRY(ckpt_contents_of(&of, m));
        FDL_TRY(read_ema(c, file, &of));
    }
    if (o->rng)
        FDL_TRY(read_rng(c, file));
    if (o->host_rng)
        FDL_TRY(read_host_rng(c, file));
    if (!o->progress)
        return FDL_OK;
    FDL_TRY(read_progress(c, file));
    return m ? read_carried(c, file, m) : FDL_OK;
}

ckpt_change *ckpt_change_new(const source *file, fdl_module *m, const fdl_ckpt_load_opts *o)
{
    ckpt_change *c = calloc(1, sizeof *c);
    if (!c)
        return fdl_fail_null(FDL_E_OOM, "memory ran out");
    c->o = o;
    if (read_all(c, file, m) == FDL_OK)
        return c;
    ckpt_change_free(c);
    return NULL;
}

/* ---- loading: the change -------------------------------------------------------------------------------- */

fdl_status ckpt_change_apply(ckpt_change *c)
{
    FDL_NO_GRAD;
    const fdl_ckpt_load_opts *o = c->o;
    for (int i = 0; i < c->n_ema; i++)
        FDL_TRY(fdl_copy_(c->ema[i].to, c->ema[i].from));
    for (int i = 0; i < c->n_slots; i++)
        FDL_TRY(fdl_graph_state_set(c->slots[i].graph, c->slots[i].name, c->slots[i].value));
    if (o->scaler)
        FDL_TRY(fdl_amp_scaler_load(o->scaler, &c->scaler));
    if (c->cpu)
        FDL_TRY(fdl_set_rng_state(FDL_CPU, c->cpu));
    for (int i = 0; i < MOST_GPUS; i++)
        if (c->gpu[i])
            FDL_TRY(fdl_set_rng_state(FDL_CUDA(i), c->gpu[i]));
    if (o->plateau)
        FDL_TRY(fdl_plateau_load(o->plateau, &c->plateau));
    for (int i = 0; i < c->n_optims; i++) {
        fdl_optim_change_apply(c->optims[i]);
        c->optims[i] = NULL;
    }
    if (o->host_rng)
        *o->host_rng = c->host;
    if (o->progress)
        *o->progress = c->progress;
    return FDL_OK;
}

void ckpt_change_free(ckpt_change *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->n_optims; i++)
        fdl_optim_change_free(c->optims[i]);
    free(c);
}
