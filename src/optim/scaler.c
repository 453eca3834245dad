/* The gradient scaler. Scale, count and flag are tensors on the device, changed in place; what the host keeps is only at
 * which point of the iteration each optimizer is, so that a recorded iteration replays right. */
#include "flodl/amp.h"
#include "flodl/arithmetic.h"
#include "flodl/kernels.h"
#include "optim.h"

#include <math.h>

/* On one device: whether a gradient there is not finite, and 1 / scale; both 0-d float32, kept. */
typedef struct place {
    fdl_device device;
    fdl_tensor *found, *inverse;
} place;

typedef enum { READY, UNSCALED, STEPPED } stage;

typedef struct entry {
    const fdl_optim *o; /* compared only */
    stage stage;
    place *places;
    int n_places;
    fdl_tensor *found; /* of all its devices: one of the places' */
} entry;

struct fdl_amp_scaler {
    fdl_amp_scaler_opts o;       /* resolved */
    int64_t tracker;             /* before there are tensors */
    fdl_tensor *scale, *counter; /* kept, 0-d float32 and int32 on the first loss's device; NULL before */
    entry *entries;
    int n_entries;
    uint64_t generation;
};

/* ---- making ---------------------------------------------------------------------------------------- */

static fdl_status check(const char *function, double scale, double growth, double backoff, int64_t interval)
{
    if (!isfinite(scale) || !(scale > 0) || scale > 0x1.fffffep127)
        return fdl_fail(FDL_E_ARG, "%s: the scale is %g; it must be above 0 and a float32", function, scale);
    if (!isfinite(growth) || !(growth > 1))
        return fdl_fail(FDL_E_ARG, "%s: growth is %g; it must be above 1", function, growth);
    if (!(backoff > 0 && backoff < 1))
        return fdl_fail(FDL_E_ARG, "%s: backoff is %g; it must be above 0 and below 1", function, backoff);
    if (interval < 1 || interval > INT32_MAX)
        return fdl_fail(FDL_E_ARG, "%s: interval is %lld; it must be from 1 to %d", function,
                        (long long)interval, INT32_MAX);
    return FDL_OK;
}

fdl_amp_scaler *fdl_amp_scaler_new_opt(const fdl_amp_scaler_opts *opts)
{
    fdl_amp_scaler_opts o = opts ? *opts : (fdl_amp_scaler_opts){0};
    o.init_scale = fdl_opt_double(o.init_scale, 65536);
    o.growth = fdl_opt_double(o.growth, 2);
    o.backoff = fdl_opt_double(o.backoff, 0.5);
    o.interval = o.interval ? o.interval : 2000;
    if (check("fdl_amp_scaler_new", o.init_scale, o.growth, o.backoff, o.interval) != FDL_OK)
        return NULL;
    fdl_amp_scaler *s = calloc(1, sizeof *s);
    if (!s)
        return fdl_fail_null(FDL_E_OOM, "fdl_amp_scaler_new: memory ran out");
    s->o = o;
    return s;
}

static void free_tensors(fdl_amp_scaler *s)
{
    fdl_free(s->scale);
    fdl_free(s->counter);
    s->scale = s->counter = NULL;
}

void fdl_amp_scaler_free(fdl_amp_scaler *s)
{
    if (!s)
        return;
    free_tensors(s);
    for (int i = 0; i < s->n_entries; i++) {
        for (int k = 0; k < s->entries[i].n_places; k++) {
            fdl_free(s->entries[i].places[k].found);
            fdl_free(s->entries[i].places[k].inverse);
        }
        free(s->entries[i].places);
    }
    free(s->entries);
    free(s);
}

static fdl_status make_tensors(fdl_amp_scaler *s, fdl_device device)
{
    FDL_SCOPE;
    s->scale = fdl_keep(fdl_scalar(s->o.init_scale, .dtype = FDL_FLOAT32, .device = device));
    s->counter = fdl_keep(fdl_scalar((double)s->tracker, .dtype = FDL_INT32, .device = device));
    if (s->scale && s->counter)
        return FDL_OK;
    free_tensors(s);
    return fdl_error_pending();
}

static entry *entry_of(fdl_amp_scaler *s, const fdl_optim *o)
{
    for (int i = 0; i < s->n_entries; i++)
        if (s->entries[i].o == o)
            return &s->entries[i];
    entry *more = realloc(s->entries, sizeof *more * (size_t)(s->n_entries + 1));
    if (!more)
        return fdl_fail_null(FDL_E_OOM, "gradient scaler: memory ran out");
    s->entries = more;
    more[s->n_entries] = (entry){.o = o};
    return &more[s->n_entries++];
}

static place *place_on(entry *e, fdl_device device)
{
    for (int i = 0; i < e->n_places; i++)
        if (fdl_device_eq(e->places[i].device, device))
            return &e->places[i];
    place *more = realloc(e->places, sizeof *more * (size_t)(e->n_places + 1));
    if (!more)
        return fdl_fail_null(FDL_E_OOM, "gradient scaler: memory ran out");
    e->places = more;
    FDL_SCOPE;
    place p = {.device = device,
               .found = fdl_keep(fdl_scalar(0, .dtype = FDL_FLOAT32, .device = device)),
               .inverse = fdl_keep(fdl_scalar(1, .dtype = FDL_FLOAT32, .device = device))};
    if (!p.found || !p.inverse) {
        fdl_free(p.found);
        fdl_free(p.inverse);
        return NULL;
    }
    more[e->n_places] = p;
    return &more[e->n_places++];
}

/* ---- the iteration --------------------------------------------------------------------------------- */

fdl_tensor *fdl_amp_scale(fdl_amp_scaler *s, fdl_tensor *loss)
{
    if (!s || !loss) {
        fdl_null_operand(__func__, s ? "loss" : "s");
        return NULL;
    }
    if (s->o.disabled)
        return loss;
    if (!s->scale && make_tensors(s, fdl_device_of(loss)) != FDL_OK)
        return NULL;
    return fdl_mul(loss, fdl_to_device_of(s->scale, loss));
}

/* The optimizer's gradients (scope), none of them float16 unless that is allowed. */
static fdl_status gradients(const fdl_amp_scaler *s, const fdl_optim *o, fdl_list *grads)
{
    const char *half;
    *grads = optim_gradients(o, &half);
    if (!grads->at)
        return fdl_error_pending();
    if (half && !s->o.allow_half)
        return fdl_fail(FDL_E_DTYPE,
                        "unscaling float16 gradients (parameter \"%s\"): keep parameters in float32 and use "
                        "autocast, or set .allow_half",
                        half);
    return FDL_OK;
}

/* Moves the gradients with the device and dtype of element `from` to the front of what is left; their number. */
static int alike(fdl_list grads, int from)
{
    fdl_device device = fdl_device_of(grads.at[from]);
    fdl_dtype dtype = fdl_dtype_of(grads.at[from]);
    int n = from;
    for (int i = from; i < grads.n; i++)
        if (fdl_dtype_of(grads.at[i]) == dtype && fdl_device_eq(fdl_device_of(grads.at[i]), device)) {
            fdl_tensor *t = grads.at[i];
            grads.at[i] = grads.at[n];
            grads.at[n++] = t;
        }
    return n - from;
}

static fdl_status unscale(fdl_amp_scaler *s, const fdl_optim *o, entry *e)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    if (!s->scale)
        return fdl_fail(FDL_E_STATE,
                        "fdl_amp_unscale: no loss was scaled yet; backward starts from fdl_amp_scale");
    fdl_list grads;
    FDL_TRY(gradients(s, o, &grads));
    if (!place_on(e, fdl_device_of(grads.n ? grads.at[0] : s->scale)))
        return fdl_error_pending();
    for (int i = 0, n; i < grads.n; i += n) {
        n = alike(grads, i);
        if (!place_on(e, fdl_device_of(grads.at[i])))
            return fdl_error_pending();
    }
    fdl_tensor *inverse = fdl_reciprocal(fdl_double(s->scale)); /* in float64, as PyTorch */
    for (int i = 0; i < e->n_places; i++) {
        FDL_TRY(fdl_zero_(e->places[i].found));
        FDL_TRY(fdl_copy_(e->places[i].inverse, inverse));
    }
    for (int i = 0, n; i < grads.n; i += n) {
        n = alike(grads, i);
        const place *p = place_on(e, fdl_device_of(grads.at[i]));
        FDL_TRY(fdl_k_amp_unscale_((fdl_list){n, grads.at + i}, p->found, p->inverse));
    }
    e->found = e->places[0].found;
    for (int i = 1; i < e->n_places; i++)
        FDL_TRY(fdl_maximum_(e->found, fdl_to_device_of(e->places[i].found, e->found)));
    e->stage = UNSCALED;
    return FDL_OK;
}

fdl_status fdl_amp_unscale(fdl_amp_scaler *s, fdl_optim *o)
{
    if (!s || !o)
        return fdl_null_operand(__func__, s ? "o" : "s");
    if (s->o.disabled)
        return FDL_OK;
    entry *e = entry_of(s, o);
    if (!e)
        return fdl_error_pending();
    if (e->stage != READY)
        return fdl_fail(FDL_E_STATE,
                        "fdl_amp_unscale: this optimizer's gradients were already %s since the last update",
                        e->stage == UNSCALED ? "unscaled" : "unscaled and used for a step");
    return unscale(s, o, e);
}

fdl_status fdl_amp_step_opt(fdl_amp_scaler *s, fdl_optim *o, const fdl_amp_step_opts *opts)
{
    if (!s || !o)
        return fdl_null_operand("fdl_amp_step", s ? "o" : "s");
    bool *stepped = opts ? opts->stepped : NULL;
    if (s->o.disabled) {
        FDL_TRY(fdl_optim_step(o));
        if (stepped)
            *stepped = true;
        return FDL_OK;
    }
    entry *e = entry_of(s, o);
    if (!e)
        return fdl_error_pending();
    if (e->stage == STEPPED)
        return fdl_fail(
            FDL_E_STATE,
            "fdl_amp_step: a step was already made with this optimizer since the last fdl_amp_update");
    if (e->stage ==
        READY) /* the search for what isn't finite unscales by the way: the kernel needn't do it again */
        FDL_TRY(unscale(s, o, e));
    FDL_TRY(fdl_optim_step_unless(o, e->found));
    e->stage = STEPPED;
    if (stepped)
        *stepped = fdl_item(e->found) == 0;
    return FDL_OK;
}

fdl_status fdl_amp_update_opt(fdl_amp_scaler *s, const fdl_amp_update_opts *opts)
{
    if (!s)
        return fdl_null_operand("fdl_amp_update", "s");
    if (s->o.disabled)
        return FDL_OK;
    FDL_SCOPE;
    FDL_NO_GRAD;
    if (opts && opts->scale != 0) {
        double scale = fdl_opt_double(opts->scale, 0);
        FDL_TRY(check("fdl_amp_update", scale, s->o.growth, s->o.backoff, s->o.interval));
        if (s->scale)
            FDL_TRY(fdl_fill_(s->scale, scale));
        else
            s->o.init_scale = scale;
        return fdl_amp_cancel(s);
    }
    bool stepped = false;
    for (int i = 0; i < s->n_entries; i++)
        stepped |= s->entries[i].stage == STEPPED;
    if (!stepped)
        return fdl_fail(FDL_E_STATE, "fdl_amp_update: no step since the last update");
    /* Of those too whose step was left out after unscaling: the overflow was this scale's. */
    fdl_tensor *found = NULL;
    for (int i = 0; i < s->n_entries; i++)
        if (s->entries[i].stage != READY) {
            fdl_tensor *other = fdl_to_device_of(s->entries[i].found, s->scale);
            found = found ? fdl_maximum(found, other) : other;
        }
    FDL_TRY(fdl_k_amp_update_scale_(s->scale, s->counter, found, s->o.growth, s->o.backoff, s->o.interval));
    for (int i = 0; i < s->n_entries; i++)
        s->entries[i].stage = READY;
    return FDL_OK;
}

fdl_status fdl_amp_cancel(fdl_amp_scaler *s)
{
    if (!s)
        return fdl_null_operand(__func__, "s");
    for (int i = 0; i < s->n_entries; i++)
        s->entries[i].stage = READY;
    return FDL_OK;
}

/* ---- looking inside -------------------------------------------------------------------------------- */

bool fdl_amp_scaler_enabled(const fdl_amp_scaler *s)
{
    if (!s)
        fdl_null_operand(__func__, "s");
    return s && !s->o.disabled;
}

double fdl_amp_scaler_scale(fdl_amp_scaler *s)
{
    if (!s) {
        fdl_null_operand(__func__, "s");
        return (double)NAN;
    }
    return s->o.disabled ? 1 : s->scale ? fdl_item(s->scale) : s->o.init_scale;
}

fdl_status fdl_amp_scaler_settings(const fdl_amp_scaler *s, fdl_amp_scaler_state *state)
{
    if (!s || !state)
        return fdl_null_operand(__func__, s ? "state" : "s");
    *state = (fdl_amp_scaler_state){.scale = s->o.init_scale,
                                    .growth = s->o.growth,
                                    .backoff = s->o.backoff,
                                    .interval = s->o.interval,
                                    .tracker = s->tracker};
    return FDL_OK;
}

fdl_status fdl_amp_scaler_save(fdl_amp_scaler *s, fdl_amp_scaler_state *state)
{
    if (!s || !state)
        return fdl_null_operand(__func__, s ? "state" : "s");
    *state = (fdl_amp_scaler_state){.scale = s->scale ? fdl_item(s->scale) : s->o.init_scale,
                                    .growth = s->o.growth,
                                    .backoff = s->o.backoff,
                                    .interval = s->o.interval,
                                    .tracker = s->counter ? fdl_item_i64(s->counter) : s->tracker};
    return isnan(state->scale) ? fdl_error_pending() : FDL_OK;
}

fdl_status fdl_amp_scaler_load(fdl_amp_scaler *s, const fdl_amp_scaler_state *state)
{
    if (!s || !state)
        return fdl_null_operand(__func__, s ? "state" : "s");
    FDL_TRY(check(__func__, state->scale, state->growth, state->backoff, state->interval));
    if (state->tracker < 0 || state->tracker > state->interval)
        return fdl_fail(FDL_E_ARG,
                        "fdl_amp_scaler_load: tracker is %lld; it must be from 0 to interval, %lld",
                        (long long)state->tracker, (long long)state->interval);
    if (s->scale) {
        FDL_NO_GRAD;
        FDL_TRY(fdl_fill_(s->scale, state->scale));
        FDL_TRY(fdl_fill_(s->counter, (double)state->tracker));
    }
    s->generation++; /* a recorded step has the numbers in it */
    s->o.init_scale = state->scale;
    s->o.growth = state->growth;
    s->o.backoff = state->backoff;
    s->o.interval = state->interval;
    s->tracker = state->tracker;
    return FDL_OK;
}

fdl_list fdl_amp_scaler_tensors(const fdl_amp_scaler *s)
{
    if (!s) {
        fdl_null_operand(__func__, "s");
        return (fdl_list){0, NULL};
    }
    fdl_list list = {s->scale ? 2 : 0, fdl_scope_alloc(2 * sizeof *list.at)};
    if (!list.at)
        return (fdl_list){0, NULL};
    list.at[0] = s->scale;
    list.at[1] = s->counter;
    return list;
}

uint64_t fdl_amp_scaler_generation(const fdl_amp_scaler *s)
{
    if (!s)
        fdl_null_operand(__func__, "s");
    return s ? s->generation : 0;
}
