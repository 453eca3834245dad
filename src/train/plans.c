/* The plans of a trainer: one for each kind of step that it meets, the one used last first. What a recorded step depends on
 * beside its batch is in the key, so that a change of it leads to another plan and never to a stale one. */
#include "flodl/cuda.h"
#include "flodl/message.h"
#include "flodl/random.h"
#include "plan.h"

#include <stdarg.h>

enum { MAX_PLANS = 8 };

/* ---- looks -------------------------------------------------------------------------------------------- */

look look_of(fdl_tensor *x)
{
    look l = {.shape = fdl_shape_of(x), .dtype = fdl_dtype_of(x), .device = fdl_device_of(x)};
    for (int d = 0; d < l.shape.ndim; d++)
        l.stride[d] = fdl_stride(x, d);
    return l;
}

bool looks_the_same(const look *l, fdl_tensor *x)
{
    if (fdl_ndim(x) != l->shape.ndim || fdl_dtype_of(x) != l->dtype ||
        !fdl_device_eq(fdl_device_of(x), l->device))
        return false;
    for (int d = 0; d < l->shape.ndim; d++)
        if (fdl_size(x, d) != l->shape.d[d] || fdl_stride(x, d) != l->stride[d])
            return false;
    return true;
}

const char *looks_say(const look *l, int n, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
#define SAY(...) (used += used < size ? (size_t)snprintf(text + used, size - used, __VA_ARGS__) : 0)
    for (int i = 0; i < n; i++) {
        SAY("%s[", i ? ", " : "");
        for (int d = 0; d < l[i].shape.ndim; d++)
            SAY("%s%lld", d ? ", " : "", (long long)l[i].shape.d[d]);
        SAY("] %s", fdl_dtype_name(l[i].dtype));
    }
#undef SAY
    return text;
}

/* ---- keys --------------------------------------------------------------------------------------------- */

static uint64_t mixed(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

/* Where the gradients of the optimizer's parameters are. */
static uint64_t gradients_of(const fdl_trainer *tr)
{
    FDL_SCOPE;
    uint64_t h = 1;
    for (int g = 0; g < fdl_optim_groups(tr->opt); g++) {
        fdl_list params = fdl_optim_params(tr->opt, g);
        for (int i = 0; i < params.n; i++) {
            fdl_tensor *grad = fdl_grad(params.at[i]);
            h = mixed(h, grad ? fdl_fingerprint(grad) : 0);
        }
    }
    return h;
}

static plan_key key_of(const fdl_trainer *tr, trainer_part part)
{
    bool matmul = false, cudnn = false;
    fdl_is_tf32_allowed(&matmul, &cudnn);
    return (plan_key){.module = fdl_module_generation(tr->model),
                      .optim = fdl_optim_generation(tr->opt),
                      .meter = tr->meter.generation,
                      .scaler = tr->o.scaler ? fdl_amp_scaler_generation(tr->o.scaler) : 0,
                      .ema = tr->o.ema ? fdl_ema_generation(tr->o.ema) : 0,
                      .grads = part.first ? 0 : gradients_of(tr),
                      .modes = (unsigned)fdl_grad_enabled() | (unsigned)fdl_is_deterministic() << 1 |
                               (unsigned)matmul << 2 | (unsigned)cudnn << 3 |
                               (unsigned)fdl_amp_autocast_enabled(FDL_DEVICE_TYPE_CUDA) << 4,
                      .part = (unsigned)part.first | (unsigned)part.last << 1};
}

static bool same_key(const plan_key *a, const plan_key *b)
{
    return a->module == b->module && a->optim == b->optim && a->meter == b->meter && a->scaler == b->scaler &&
           a->ema == b->ema && a->grads == b->grads && a->modes == b->modes && a->part == b->part;
}

bool plan_is_current(const fdl_trainer *tr, const trainer_plan *p)
{
    plan_key k = key_of(tr, p->part);
    return same_key(&k, &p->key);
}

/* ---- the list ------------------------------------------------------------------------------------------- */

static void free_list(fdl_tensor ***list, int n)
{
    for (int i = 0; *list && i < n; i++)
        fdl_free((*list)[i]);
    free(*list);
    *list = NULL;
}

void plan_drop_graph(trainer_plan *p)
{
    fdl_cuda_graph_free(p->graph);
    p->graph = NULL;
    free_list(&p->input, p->n);
    free_list(&p->owner, p->n_params);
    free_list(&p->grad, p->n_params);
    free_list(&p->left.at, p->left.n);
    p->left.n = 0;
    p->n_params = 0;
    p->bytes = 0;
}

static void plan_free(trainer_plan *p)
{
    plan_drop_graph(p);
    fdl_watch_free(p->watch);
    free(p->batch);
    free(p);
}

void trainer_plans_free(fdl_trainer *tr)
{
    while (tr->plans) {
        trainer_plan *p = tr->plans;
        tr->plans = p->next;
        plan_free(p);
    }
}

void plan_remove(fdl_trainer *tr, trainer_plan *p)
{
    trainer_plan **at = &tr->plans;
    while (*at && *at != p)
        at = &(*at)->next;
    if (*at)
        *at = p->next;
    plan_free(p);
}

/* Made and put in front. */
static trainer_plan *add(fdl_trainer *tr, const plan_key *k, fdl_list batch, trainer_part part)
{
    trainer_plan *p = calloc(1, sizeof *p);
    look *looks = calloc((size_t)batch.n + 1, sizeof *looks);
    if (!p || !looks) {
        free(p);
        free(looks);
        return fdl_fail_null(FDL_E_OOM, "trainer: no memory for a plan");
    }
    for (int i = 0; i < batch.n; i++)
        looks[i] = look_of(batch.at[i]);
    *p = (trainer_plan){.next = tr->plans, .key = *k, .part = part, .n = batch.n, .batch = looks};
    return tr->plans = p;
}

trainer_plan *plan_add(fdl_trainer *tr, fdl_list batch, trainer_part part)
{
    plan_key k = key_of(tr, part);
    return add(tr, &k, batch, part);
}

trainer_plan *plan_for(fdl_trainer *tr, fdl_list batch, trainer_part part)
{
    plan_key k = key_of(tr, part);
    int n = 0;
    for (trainer_plan **at = &tr->plans; *at; at = &(*at)->next, n++) {
        trainer_plan *p = *at;
        bool fits = p->n == batch.n && same_key(&p->key, &k);
        for (int i = 0; fits && i < p->n; i++)
            fits = looks_the_same(&p->batch[i], batch.at[i]);
        if (fits) {
            *at = p->next;
            p->next = tr->plans;
            return tr->plans = p;
        }
    }
    trainer_plan *p = add(tr, &k, batch, part);
    if (!p)
        return NULL;
    int most = (tr->o.max_plans ? tr->o.max_plans : MAX_PLANS) * (tr->o.accumulate > 1 ? 3 : 1);
    if (n >= most) {
        trainer_plan *last = p;
        while (last->next)
            last = last->next;
        plan_remove(tr, last);
    }
    return p;
}

/* ---- why not ------------------------------------------------------------------------------------------- */

fdl_status plan_give_up(fdl_trainer *tr, trainer_plan *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(p->reason, sizeof p->reason, format, args);
    va_end(args);
    p->stage = PLAN_EAGER;
    plan_drop_graph(p);
    fdl_watch_free(p->watch);
    p->watch = NULL;
    if (tr->o.capture == FDL_CAPTURE_REQUIRE)
        return fdl_fail(FDL_E_STATE, "trainer: the step can't be captured: %s", p->reason);
    fdl_msg_at(FDL_VERBOSE, "trainer: steps run eagerly: %s", p->reason);
    return FDL_OK;
}

/* ---- in words ------------------------------------------------------------------------------------------ */

bool trainer_plans_say(const fdl_trainer *tr, FILE *file)
{
    bool good = true;
    for (const trainer_plan *p = tr->plans; p; p = p->next) {
        static const char *const parts[] = {", in the midst of a group", ", first of a group",
                                            ", last of a group", ""};
        const char *part = parts[(p->part.first ? 1 : 0) + (p->part.last ? 2 : 0)];
        char text[512];
        looks_say(p->batch, p->n, text, sizeof text);
        int n = 0;
        if (p->stage == PLAN_REPLAY)
            n = fprintf(
                file,
                "batch %s%s: captured, %lld operations as one CUDA graph; %lld steps replayed; the capture "
                "holds %.1f MiB\n",
                text, part, (long long)fdl_watch_count(p->watch), (long long)p->replays,
                (double)p->bytes / (1 << 20));
        else if (p->stage == PLAN_WATCH)
            n = fprintf(file, "batch %s%s: eager, %d of %d steps watched before the capture\n", text, part,
                        p->watched, TRAINER_WATCHED_STEPS);
        else
            n = fprintf(file, "batch %s%s: eager, not captured: %s\n", text, part, p->reason);
        good = good && n > 0;
    }
    return good;
}
