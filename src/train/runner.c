/* Inference as CUDA graphs: watched, recorded, checked against the eager pass, replayed. */
#include "flodl/runner.h"
#include "flodl/amp.h"
#include "flodl/compare.h"
#include "flodl/cuda.h"
#include "flodl/message.h"
#include "flodl/random.h"
#include "plan.h"

#include <stdarg.h>

enum { WATCHED_RUNS = 3, MOST_KINDS = 8 };

/* What a recorded pass depends on, beside its inputs' values. */
typedef struct pass_key {
    uint64_t module;
    unsigned modes;
} pass_key;

/* The pass for inputs of one kind. */
typedef struct pass {
    struct pass *next; /* the one used before */
    pass_key key;
    int n;
    look *inputs; /* [n] */
    plan_stage stage;
    int watched;
    fdl_watch *watch;
    fdl_cuda_graph *graph;
    fdl_tensor **input; /* [n] kept: what the graph reads */
    fdl_tensor *output; /* kept: what it writes */
    fdl_list left;      /* kept, .at malloc'ed: what it leaves in the model's graphs under tags */
    int64_t replays;
    char reason[REASON_SIZE];
} pass;

struct fdl_runner {
    fdl_module *model;
    fdl_runner_opts o;
    fdl_tensor *probe; /* kept: the model's first parameter or buffer, which is where it is; or NULL */
    pass *passes;      /* the one used last first */
    fdl_cuda_pool pool;
};

/* ---- making ------------------------------------------------------------------------------------------- */

static fdl_status check(const fdl_runner_opts *o)
{
    if (o->autocast && o->autocast != FDL_BFLOAT16 && o->autocast != FDL_FLOAT16)
        return fdl_fail(FDL_E_DTYPE, "fdl_runner_new: .autocast is %s; it must be bfloat16 or float16",
                        fdl_dtype_name(o->autocast));
    if ((int)o->capture < FDL_CAPTURE_AUTO || o->capture > FDL_CAPTURE_REQUIRE)
        return fdl_fail(FDL_E_ARG,
                        "fdl_runner_new: .capture is %d, which is none of FDL_CAPTURE_AUTO, _OFF, _REQUIRE",
                        (int)o->capture);
    if (o->max_plans < 0)
        return fdl_fail(FDL_E_ARG, "fdl_runner_new: .max_plans is %d; it must be 1 or more", o->max_plans);
    return FDL_OK;
}

fdl_runner *fdl_runner_new_opt(fdl_module *model, const fdl_runner_opts *opts)
{
    static const fdl_runner_opts none = {0};
    if (!model) {
        fdl_null_operand("fdl_runner_new", "model");
        return NULL;
    }
    if (check(opts ? opts : &none) != FDL_OK)
        return NULL;
    FDL_SCOPE;
    fdl_params *params = fdl_parameters(model), *buffers = fdl_buffers(model);
    if (!params || !buffers)
        return NULL;
    fdl_runner *r = calloc(1, sizeof *r);
    if (!r)
        return fdl_fail_null(FDL_E_OOM, "fdl_runner_new: memory ran out");
    r->model = model;
    r->o = opts ? *opts : none;
    fdl_params *from = fdl_params_count(params) ? params : buffers;
    if (fdl_params_count(from) && !(r->probe = fdl_keep(fdl_param_tensor(fdl_params_at(from, 0))))) {
        free(r);
        return NULL;
    }
    return r;
}

static void drop_graph(pass *p)
{
    fdl_cuda_graph_free(p->graph);
    p->graph = NULL;
    for (int i = 0; p->input && i < p->n; i++)
        fdl_free(p->input[i]);
    free(p->input);
    fdl_free(p->output);
    for (int i = 0; i < p->left.n; i++)
        fdl_free(p->left.at[i]);
    free(p->left.at);
    p->left = (fdl_list){0, NULL};
    p->input = NULL;
    p->output = NULL;
}

static void pass_free(pass *p)
{
    drop_graph(p);
    fdl_watch_free(p->watch);
    free(p->inputs);
    free(p);
}

void fdl_runner_free(fdl_runner *r)
{
    if (!r)
        return;
    while (r->passes) {
        pass *p = r->passes;
        r->passes = p->next;
        pass_free(p);
    }
    fdl_free(r->probe);
    free(r);
}

/* ---- which pass --------------------------------------------------------------------------------------- */

static pass_key key_of(const fdl_runner *r)
{
    bool matmul = false, cudnn = false;
    fdl_is_tf32_allowed(&matmul, &cudnn);
    return (pass_key){.module = fdl_module_generation(r->model),
                      .modes = (unsigned)fdl_is_deterministic() | (unsigned)matmul << 1 |
                               (unsigned)cudnn << 2 |
                               (unsigned)fdl_amp_autocast_enabled(FDL_DEVICE_TYPE_CUDA) << 3};
}

static pass *pass_new(const pass_key *k, fdl_list inputs)
{
    pass *p = calloc(1, sizeof *p);
    look *looks = calloc((size_t)inputs.n + 1, sizeof *looks);
    if (!p || !looks) {
        free(p);
        free(looks);
        return fdl_fail_null(FDL_E_OOM, "fdl_runner_run: memory ran out");
    }
    for (int i = 0; i < inputs.n; i++)
        looks[i] = look_of(inputs.at[i]);
    *p = (pass){.key = *k, .n = inputs.n, .inputs = looks};
    return p;
}

/* The pass for these inputs, made if there is none, as the first of the list; the least recently used one leaves. */
static pass *pass_for(fdl_runner *r, fdl_list inputs)
{
    pass_key k = key_of(r);
    int n = 0;
    pass **last = &r->passes;
    for (pass **at = &r->passes; *at; at = &(*at)->next, n++) {
        pass *p = *at;
        bool fits = p->n == inputs.n && p->key.module == k.module && p->key.modes == k.modes;
        for (int i = 0; fits && i < p->n; i++)
            fits = p->inputs[i].dtype == fdl_dtype_of(inputs.at[i]) &&
                   fdl_shape_eq(p->inputs[i].shape,
                                fdl_shape_of(inputs.at[i])); /* values are copied, whatever the strides */
        if (fits) {
            *at = p->next;
            p->next = r->passes;
            return r->passes = p;
        }
        last = at;
    }
    pass *p = pass_new(&k, inputs);
    if (!p)
        return NULL;
    if (n >= (r->o.max_plans ? r->o.max_plans : MOST_KINDS)) {
        pass_free(*last);
        *last = NULL;
    }
    p->next = r->passes;
    return r->passes = p;
}

/* The pass is eager for good; where it must be recorded that is an error. */
FDL_PRINTF(3, 4) static fdl_status give_up(const fdl_runner *r, pass *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(p->reason, sizeof p->reason, format, args);
    va_end(args);
    fdl_clear_error();
    p->stage = PLAN_EAGER;
    drop_graph(p);
    fdl_watch_free(p->watch);
    p->watch = NULL;
    if (r->o.capture == FDL_CAPTURE_REQUIRE)
        return fdl_fail(FDL_E_STATE, "fdl_runner_run: the pass can't be recorded: %s", p->reason);
    fdl_msg_at(FDL_VERBOSE, "runner: passes run eagerly: %s", p->reason);
    return FDL_OK;
}

/* ---- eagerly ------------------------------------------------------------------------------------------ */

static fdl_tensor *forward(const fdl_runner *r, fdl_list inputs)
{
    FDL_INFERENCE;
    if (!r->o.autocast)
        return fdl_forward_list(r->model, inputs);
    fdl_device device = r->probe ? fdl_device_of(r->probe) : FDL_CPU;
    fdl_mode_guard mode = fdl_amp_autocast_open(.device_type = device.type, .dtype = r->o.autocast);
    fdl_tensor *y = mode.depth ? fdl_forward_list(r->model, inputs) : NULL;
    fdl_mode_close(mode);
    return y;
}

/* The inputs on the model's device (scope). */
static fdl_status place(const fdl_runner *r, fdl_list inputs, fdl_list *here)
{
    fdl_tensor **at = fdl_scope_alloc(sizeof *at * (size_t)(inputs.n + 1));
    if (!at)
        return fdl_error_pending();
    for (int i = 0; i < inputs.n; i++) {
        at[i] = inputs.at[i];
        if (r->probe && !fdl_device_eq(fdl_device_of(at[i]), fdl_device_of(r->probe)) &&
            !(at[i] = fdl_to_device(at[i], fdl_device_of(r->probe), .non_blocking = true)))
            return fdl_error_pending();
    }
    *here = (fdl_list){inputs.n, at};
    return FDL_OK;
}

static fdl_tensor *eager(const fdl_runner *r, fdl_list inputs)
{
    FDL_SCOPE;
    fdl_list here;
    if (place(r, inputs, &here) != FDL_OK)
        return NULL;
    FDL_RETURN(forward(r, here));
}

static fdl_tensor *watched(const fdl_runner *r, pass *p, fdl_list inputs)
{
    FDL_SCOPE;
    fdl_list here;
    if (place(r, inputs, &here) != FDL_OK)
        return NULL;
    fdl_watch *w = fdl_watch_start();
    if (!w)
        fdl_clear_error(); /* somebody else is watching: another time */
    fdl_tensor *y = forward(r, here);
    if (w && fdl_watch_stop(w) != FDL_OK)
        y = NULL;
    char why[512];
    if (!y || !w) {
        fdl_watch_free(w);
        FDL_RETURN(y);
    }
    fdl_watch *before = p->watch;
    p->watch = w;
    p->watched++;
    fdl_status status = FDL_OK;
    if (watch_obstacle(w, why, sizeof why) || (p->watched > 2 && !watch_steady(before, w, why, sizeof why)))
        status = give_up(r, p, "%s", why);
    fdl_watch_free(before);
    if (status != FDL_OK)
        return NULL;
    FDL_RETURN(y);
}

/* ---- recording ---------------------------------------------------------------------------------------- */

static fdl_status record(fdl_runner *r, pass *p, fdl_list inputs)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_list here;
    FDL_TRY(place(r, inputs, &here));
    FDL_TRY(inputs_make(&p->input, here));
    p->graph = fdl_cuda_graph_new();
    if (!p->graph)
        return fdl_error_pending();
    bool shared = false;
    for (const pass *other = r->passes; other; other = other->next)
        shared = shared || other->stage == PLAN_REPLAY;
    if (!shared) /* a pool ends with the last of its graphs */
        r->pool = fdl_cuda_pool_new();
    FDL_TRY(fdl_cuda_graph_begin(p->graph, .pool = r->pool, .mode = FDL_CAPTURE_THREAD_LOCAL,
                                 .device = fdl_device_of(r->probe)));
    fdl_tensor *y = forward(r, (fdl_list){p->n, p->input});
    p->output = y ? fdl_keep(y) : NULL;
    if (!p->output) {
        fdl_status status = fdl_error_pending();
        fdl_cuda_graph_reset(p->graph);
        return status ? status : FDL_E_STATE;
    }
    return fdl_cuda_graph_end(p->graph);
}

static fdl_status hold_left(const fdl_runner *r, pass *p)
{
    FDL_SCOPE;
    fdl_list left = fdl_module_left(r->model);
    p->left.at = calloc((size_t)left.n + 1, sizeof *p->left.at);
    if (!left.at || !p->left.at)
        return fdl_fail(FDL_E_OOM, "fdl_runner_run: memory ran out");
    for (; p->left.n < left.n; p->left.n++) {
        fdl_tensor *x = left.at[p->left.n];
        if (x && !(p->left.at[p->left.n] = fdl_keep(x)))
            return fdl_error_pending();
    }
    return FDL_OK;
}

/* Whether the recorded pass gives what the eager one gave, as far as kernels repeat themselves. */
static bool agrees(const pass *p, fdl_tensor *y)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    if (fdl_cuda_graph_replay(p->graph) != FDL_OK)
        return false;
    return fdl_same(p->output, y) || (fdl_dtype_is_floating(fdl_dtype_of(y)) &&
                                      fdl_allclose(fdl_double(p->output), fdl_double(y), .rtol = 1e-4,
                                                   .atol = 1e-5, .equal_nan = true));
}

/* An eager run that is the measure for what it records. */
static fdl_tensor *capture(fdl_runner *r, pass *p, fdl_list inputs)
{
    FDL_SCOPE;
    fdl_tensor *y = eager(r, inputs);
    if (!y)
        return NULL;
    fdl_status status = FDL_OK;
    fdl_list left = fdl_module_left(r->model);
    if (!left.at)
        return NULL;
    if (record(r, p, inputs) != FDL_OK || hold_left(r, p) != FDL_OK)
        status = give_up(r, p, "the capture failed: %s", fdl_last_error()->message);
    else if (!agrees(p, y))
        status = give_up(r, p, "the recorded pass and an eager one differ");
    else
        p->stage = PLAN_REPLAY;
    if (fdl_module_set_left(r->model, left) != FDL_OK || status != FDL_OK)
        return NULL;
    FDL_RETURN(y);
}

static fdl_tensor *replay(const fdl_runner *r, pass *p, fdl_list inputs)
{
    FDL_NO_GRAD;
    if (inputs_refill(p->input, inputs) != FDL_OK || fdl_cuda_graph_replay(p->graph) != FDL_OK)
        return NULL;
    p->replays++;
    if (fdl_module_set_left(r->model, p->left) != FDL_OK)
        return NULL;
    return r->o.borrow ? fdl_detach(p->output) : fdl_clone(p->output);
}

static fdl_status check_inputs(const fdl_runner *r, fdl_list inputs)
{
    if (!inputs.at && inputs.n)
        return fdl_null_operand("fdl_runner_run", "inputs");
    for (int i = 0; i < inputs.n; i++)
        if (!inputs.at[i])
            return fdl_error_pending() ? fdl_error_pending()
                                       : fdl_fail(FDL_E_NULL, "fdl_runner_run: input %d is NULL", i);
    if (fdl_is_training(r->model))
        return fdl_fail(FDL_E_STATE,
                        "fdl_runner_run: the model is in training mode; fdl_eval(model) comes first");
    return FDL_OK;
}

/* Results may be the state itself, which a recorded pass would overwrite: such a model runs as it is. */
static const char *carries(const fdl_runner *r)
{
    return fdl_module_states(r->model).n || fdl_module_unsettled(r->model)
               ? "the model carries state from one run to the next"
               : NULL;
}

fdl_tensor *fdl_runner_run_list(fdl_runner *r, fdl_list inputs)
{
    if (!r) {
        fdl_null_operand("fdl_runner_run", "r");
        return NULL;
    }
    if (check_inputs(r, inputs) != FDL_OK)
        return NULL;
    bool possible = r->o.capture != FDL_CAPTURE_OFF && r->probe &&
                    fdl_device_of(r->probe).type == FDL_DEVICE_TYPE_CUDA && !fdl_cuda_is_capturing();
    if (!possible)
        return eager(r, inputs);
    FDL_SCOPE;
    const char *carried = carries(r);
    if (carried && r->o.capture == FDL_CAPTURE_REQUIRE)
        return fdl_fail_null(FDL_E_STATE, "fdl_runner_run: the pass can't be recorded: %s", carried);
    if (carried)
        FDL_RETURN(eager(r, inputs));
    pass *p = pass_for(r, inputs);
    if (!p)
        return NULL;
    if (p->stage == PLAN_WATCH)
        FDL_RETURN(p->watched < WATCHED_RUNS ? watched(r, p, inputs) : capture(r, p, inputs));
    FDL_RETURN(p->stage == PLAN_EAGER ? eager(r, inputs) : replay(r, p, inputs));
}

/* ---- in words ----------------------------------------------------------------------------------------- */

fdl_status fdl_runner_plan(fdl_runner *r, FILE *file)
{
    if (!r || !file)
        return fdl_null_operand(__func__, r ? "file" : "r");
    FDL_SCOPE;
    int bad = 0;
#define SAY(...) (bad |= fprintf(file, __VA_ARGS__) < 0)
    if (!r->probe || fdl_device_of(r->probe).type == FDL_DEVICE_TYPE_CPU)
        SAY("eager: the model is on the CPU, where nothing is recorded\n");
    else if (r->o.capture == FDL_CAPTURE_OFF)
        SAY("eager: .capture is FDL_CAPTURE_OFF\n");
    else if (carries(r))
        SAY("eager: %s\n", carries(r));
    else if (!r->passes)
        SAY("no run yet: the first ones are watched, then recorded where nothing stands in the way\n");
    for (const pass *p = r->passes; p; p = p->next) {
        char text[512];
        looks_say(p->inputs, p->n, text, sizeof text);
        if (p->stage == PLAN_REPLAY)
            SAY("input %s: recorded, %lld operations as one CUDA graph; %lld runs replayed\n", text,
                (long long)fdl_watch_count(p->watch), (long long)p->replays);
        else if (p->stage == PLAN_WATCH)
            SAY("input %s: eager, %d of %d runs watched before it is recorded\n", text, p->watched,
                WATCHED_RUNS);
        else
            SAY("input %s: eager, not recorded: %s\n", text, p->reason);
    }
#undef SAY
    return bad ? fdl_fail(FDL_E_IO, "fdl_runner_plan: the text can't be written") : FDL_OK;
}
