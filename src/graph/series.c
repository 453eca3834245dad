/* The store of numbers by name: buffers, what waits on devices, and the points that a flush makes. */
#include "series.h"

#include "flodl/inplace.h"
#include "flodl/shape.h"
#include "flodl/text.h"

enum { LOOSE_PARTS = 256 }; /* single numbers on a device before they are put together */

/* ---- names --------------------------------------------------------------------------------------------- */

const char *series_name_fault(const char *name)
{
    if (!*name)
        return "is empty";
    for (const char *s = name, *end = name + strlen(name); s < end;) {
        int size = fdl_utf8_decode(s, (size_t)(end - s), NULL);
        if (!size)
            return "is not UTF-8";
        if ((*s >= 0 && *s < 0x20) || *s == 0x7f)
            return "has a control character in it";
        s += size;
    }
    return NULL;
}

series *series_find(const series_store *st, const char *name)
{
    int i = name_find(&st->names, name);
    return i < 0 ? NULL : st->at[i];
}

static void series_free(series *s)
{
    histogram_sum_free(s->sum);
    for (int i = 0; i < s->histograms; i++)
        free(s->histogram[i]);
    free(s->histogram);
    free(s->history.at);
    free(s->round);
    free(s->value);
    free(s->weight);
    free(s->name);
    free(s);
}

series *series_get(series_store *st, const char *name)
{
    series *s = series_find(st, name);
    if (s)
        return s;
    series **at = grown(st->at, st->n, &st->room, sizeof *at);
    if (!at)
        return NULL;
    st->at = at;
    s = calloc(1, sizeof *s);
    if (!s || !(s->name = strdup(name))) {
        free(s);
        return fdl_fail_null(FDL_E_OOM, "no memory for the metric \"%s\"", name);
    }
    if (name_put(&st->names, s->name, st->n) != FDL_OK) {
        series_free(s);
        return NULL;
    }
    return st->at[st->n++] = s;
}

void series_store_free(series_store *st)
{
    for (int i = 0; i < st->n; i++)
        series_free(st->at[i]);
    for (int d = 0; d < st->devices; d++) {
        waiting *w = &st->waiting[d];
        for (int i = 0; i < w->parts; i++)
            fdl_free(w->part[i]);
        free(w->part);
        free(w->to);
    }
    fdl_free(st->limits[0]);
    fdl_free(st->limits[1]);
    name_free(&st->names);
    free(st->waiting);
    free(st->order);
    free(st->at);
    free(st->stamp);
    *st = (series_store){0};
}

/* ---- numbers ------------------------------------------------------------------------------------------- */

static fdl_status no_memory(const series *s)
{
    return fdl_fail(FDL_E_OOM, "no memory for the numbers of \"%s\"", s->name);
}

/* Makes room for n elements in the array that the pointer at `array` points to, where *room are. */
static bool widen(void *array, int64_t *room, int64_t n, size_t size)
{
    int64_t more = *room ? *room : 16;
    while (more < n)
        more = more > INT64_MAX / 4 ? n : 2 * more;
    if (more == *room)
        return true;
    if ((uint64_t)more > SIZE_MAX / 2 / size)
        return false;
    void *at; /* the pointer itself, of whatever type */
    memcpy(&at, array, sizeof at);
    at = realloc(at, (size_t)more * size);
    if (!at)
        return false;
    memcpy(array, &at, sizeof at);
    *room = more;
    return true;
}

static fdl_status reserve_numbers(series_store *st, series *s, int64_t n)
{
    if (!s->recorded) {
        series **order = grown(st->order, st->ordered, &st->order_room, sizeof *order);
        if (!order)
            return FDL_E_OOM;
        st->order = order;
        order[st->ordered++] = s;
        s->recorded = true;
    }
    if (s->n + n <= s->room)
        return FDL_OK;
    int64_t room = s->room, same = s->room;
    if (!widen(&s->value, &room, s->n + n, sizeof *s->value) ||
        !widen(&s->weight, &same, s->n + n, sizeof *s->weight))
        return no_memory(s);
    s->room = room;
    return FDL_OK;
}

fdl_status series_add(series_store *st, series *s, int64_t n, const double *values, double weight)
{
    if (n > INT64_MAX / 2 - s->n)
        return no_memory(s);
    FDL_TRY(reserve_numbers(st, s, n));
    for (int64_t i = 0; i < n; i++) {
        s->value[s->n] = values[i];
        s->weight[s->n++] = weight;
    }
    return FDL_OK;
}

/* ---- on a device --------------------------------------------------------------------------------------- */

static waiting *waiting_on(series_store *st, fdl_device device)
{
    for (int d = 0; d < st->devices; d++)
        if (fdl_device_eq(st->waiting[d].device, device))
            return &st->waiting[d];
    waiting *more = grown(st->waiting, st->devices, &st->device_room, sizeof *more);
    if (!more)
        return NULL;
    st->waiting = more;
    more[st->devices] = (waiting){.device = device};
    return &more[st->devices++];
}

/* Single numbers put together: long epochs would have a tensor a batch, each of them with 512 bytes on a GPU. */
static fdl_status put_together(waiting *w)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor **from = w->part + (w->parts - w->loose);
    fdl_tensor *all = fdl_keep(fdl_cat((fdl_list){w->loose, from}, 0));
    if (!all)
        return fdl_error_pending();
    for (int i = 0; i < w->loose; i++)
        fdl_free(from[i]);
    from[0] = all;
    w->parts -= w->loose - 1;
    w->loose = 0;
    return FDL_OK;
}

fdl_status series_reserve(series_store *st, series *s, int64_t n, fdl_device device)
{
    FDL_TRY(reserve_numbers(st, s, n));
    waiting *w = waiting_on(st, device);
    if (!w)
        return FDL_E_OOM;
    if (w->loose >= LOOSE_PARTS)
        FDL_TRY(put_together(w));
    int64_t room = w->room, part_room = w->part_room;
    bool good = widen(&w->to, &room, w->n + n, sizeof *w->to);
    w->room = (int)room;
    good = good && widen(&w->part, &part_room, w->parts + n, sizeof(fdl_tensor *));
    w->part_room = (int)part_room;
    return good ? FDL_OK : no_memory(s);
}

void series_add_tensor(series_store *st, series *s, fdl_tensor *kept, double weight)
{
    waiting *w = waiting_on(st, fdl_device_of(kept));
    w->to[w->n++] = (awaited_value){s, s->n};
    w->part[w->parts++] = kept;
    w->loose++;
    s->value[s->n] = 0; /* until it is read */
    s->weight[s->n++] = weight;
}

fdl_status series_add_histogram(series_store *st, series *s, fdl_tensor *x)
{
    FDL_TRY(reserve_numbers(st, s, 0));
    return histogram_sum_add(&s->sum, st->limits, x);
}

/* Everything that waits on one device, as one tensor. */
typedef struct transfer {
    fdl_device device;
    fdl_list parts; /* room for all of them */
    int64_t n;
    double *values; /* malloc'ed */
} transfer;

static fdl_status add_part(transfer *t, fdl_tensor *part)
{
    t->parts.at[t->parts.n++] = part;
    t->n += fdl_numel(part);
    return FDL_OK;
}

/* What store st has on that device into t; or, where values have come, from it to where it goes. */
static const double *store_parts(series_store *st, transfer *t, const double *values)
{
    for (int d = 0; d < st->devices; d++) {
        waiting *w = &st->waiting[d];
        if (!fdl_device_eq(w->device, t->device))
            continue;
        if (values) {
            for (int i = 0; i < w->n; i++)
                w->to[i].s->value[w->to[i].at] = values[i];
            values += w->n;
            for (int i = 0; i < w->parts; i++)
                fdl_free(w->part[i]);
            w->n = w->parts = w->loose = 0;
        } else {
            for (int i = 0; i < w->parts; i++)
                add_part(t, w->part[i]);
        }
    }
    for (int i = 0; i < st->n; i++) {
        fdl_device device;
        fdl_tensor *part = histogram_sum_waiting(st->at[i]->sum, &device);
        if (!part || !fdl_device_eq(device, t->device))
            continue;
        if (values) {
            int64_t n = fdl_numel(part);
            histogram_sum_arrived(st->at[i]->sum, values);
            values += n;
        } else {
            add_part(t, part);
        }
    }
    return values;
}

static fdl_status fetch(transfer *t)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    t->values = malloc((size_t)(t->n + 1) * sizeof *t->values);
    if (!t->values)
        return fdl_fail(FDL_E_OOM, "no memory for %lld recorded numbers", (long long)t->n);
    return fdl_to_f64(t->parts.n == 1 ? t->parts.at[0] : fdl_cat(t->parts, 0), t->values, t->n);
}

static void note_device(transfer *t, int *n, fdl_device device)
{
    for (int i = 0; i < *n; i++)
        if (fdl_device_eq(t[i].device, device))
            return;
    t[(*n)++] = (transfer){.device = device};
}

fdl_status series_read(int n, series_store *const *stores)
{
    FDL_SCOPE;
    int parts = 0, devices = 0;
    for (int k = 0; k < n; k++) {
        for (int d = 0; d < stores[k]->devices; d++)
            parts += stores[k]->waiting[d].parts;
        for (int i = 0; i < stores[k]->n; i++) {
            histogram_sum *sum = stores[k]->at[i]->sum;
            fdl_device device;
            if (!sum || !histogram_sum_waiting(sum, &device))
                continue;
            parts++;
            FDL_TRY(histogram_sum_reserve(sum));
        }
    }
    if (!parts)
        return FDL_OK;
    transfer *t = fdl_scope_alloc(sizeof *t * (size_t)parts);
    if (!t)
        return fdl_error_pending();
    for (int k = 0; k < n; k++) {
        for (int d = 0; d < stores[k]->devices; d++)
            if (stores[k]->waiting[d].parts)
                note_device(t, &devices, stores[k]->waiting[d].device);
        for (int i = 0; i < stores[k]->n; i++) {
            fdl_device device;
            if (histogram_sum_waiting(stores[k]->at[i]->sum, &device))
                note_device(t, &devices, device);
        }
    }
    fdl_status status = FDL_OK;
    for (int i = 0; i < devices && status == FDL_OK; i++) {
        t[i].parts.at = fdl_scope_alloc(sizeof(fdl_tensor *) * (size_t)parts);
        if (!t[i].parts.at) {
            status = fdl_error_pending();
            break;
        }
        for (int k = 0; k < n; k++)
            store_parts(stores[k], &t[i], NULL);
        status = fetch(&t[i]);
    }
    for (int i = 0; i < devices && status == FDL_OK; i++) {
        const double *values = t[i].values;
        for (int k = 0; k < n; k++)
            values = store_parts(stores[k], &t[i], values);
    }
    for (int i = 0; i < devices; i++)
        free(t[i].values);
    return status;
}

/* ---- points -------------------------------------------------------------------------------------------- */

static bool flushes(const series *s)
{
    return s->n || s->sum;
}

/* The last round in which s got something; 0: none. */
static int64_t last_round(const series *s)
{
    int64_t round = s->history.n ? s->round[s->history.n - 1] : 0;
    int64_t other = s->histograms ? s->histogram[s->histograms - 1]->epoch : 0;
    return round > other ? round : other;
}

static double mean(const series *s)
{
    double sum = 0, weights = 0;
    for (int64_t i = 0; i < s->n; i++) {
        sum += s->weight[i] * s->value[i];
        weights += s->weight[i];
    }
    return sum / weights;
}

/* Everything that a point of s needs and that can fail. */
static fdl_status prepare(series *s, int64_t round, fdl_histogram **made)
{
    if (s->n) {
        FDL_TRY(trend_reserve(&s->history));
        if (!widen(&s->round, &s->round_room, s->history.n + 1, sizeof *s->round))
            return no_memory(s);
    }
    if (!s->sum)
        return FDL_OK;
    fdl_histogram **at = grown(s->histogram, s->histograms, &s->histogram_room, sizeof(fdl_histogram *));
    if (!at)
        return FDL_E_OOM;
    s->histogram = at;
    *made = histogram_of(s->sum, round);
    return *made ? FDL_OK : fdl_error_pending();
}

static void add_point(series *s, int64_t round, fdl_histogram *made)
{
    if (s->n) {
        s->round[s->history.n] = round;
        s->history.at[s->history.n++] = mean(s);
        s->n = 0;
    }
    if (made) {
        s->histogram[s->histograms++] = made;
        histogram_sum_free(s->sum);
        s->sum = NULL;
    }
}

fdl_status series_flush(series_store *st, int n, series *const *which, series_stamp now)
{
    if (!which) {
        n = st->n;
        which = st->at;
    }
    bool any = false, fresh = !st->rounds;
    for (int i = 0; i < n; i++) {
        any = any || flushes(which[i]);
        fresh = fresh || (flushes(which[i]) && last_round(which[i]) == st->rounds);
    }
    if (!any)
        return FDL_OK;
    int64_t round = st->rounds + fresh;
    if (!widen(&st->stamp, &st->stamp_room, round, sizeof *st->stamp))
        return fdl_fail(FDL_E_OOM, "no memory for the flush");
    fdl_histogram **made = calloc((size_t)n, sizeof(fdl_histogram *));
    fdl_status status = made ? FDL_OK : fdl_fail(FDL_E_OOM, "no memory for the flush");
    for (int i = 0; i < n && status == FDL_OK; i++)
        status = prepare(which[i], round, &made[i]);
    for (int i = 0; made && i < n; i++)
        if (status != FDL_OK)
            free(made[i]);
        else
            add_point(which[i], round, made[i]);
    free(made);
    if (status != FDL_OK)
        return status;
    st->rounds = round;
    st->stamp[round - 1] = now;
    st->elapsed = now.seconds;
    st->flushes++;
    return FDL_OK;
}

void series_forget(series *s)
{
    s->history.n = 0;
    for (int i = 0; i < s->histograms; i++)
        free(s->histogram[i]);
    s->histograms = 0;
}

void series_store_forgot(series_store *st)
{
    for (int i = 0; i < st->n; i++)
        if (last_round(st->at[i]))
            return;
    if (st->rounds)
        st->base = st->stamp[st->rounds - 1].seconds;
    st->rounds = 0;
}

bool series_point(const series *s, int64_t round, double *value)
{
    int64_t low = 0, high = s->history.n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (s->round[middle] < round)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == s->history.n || s->round[low] != round)
        return false;
    *value = s->history.at[low];
    return true;
}

const fdl_histogram *series_histogram(const series *s, int64_t round)
{
    for (int i = 0; i < s->histograms; i++)
        if (s->histogram[i]->epoch == round)
            return s->histogram[i];
    return NULL;
}
