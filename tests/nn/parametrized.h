/* What PyTorch recorded of modules whose parameters are computed (tests/fixtures/parametrize.safetensors). */
#ifndef FLODL_TESTS_NN_PARAMETRIZED_H
#define FLODL_TESTS_NN_PARAMETRIZED_H

#include "check.h"

#include <math.h>

static fdl_ckpt_info *recorded;

static int open_recorded(void **state)
{
    (void)state;
    recorded = fdl_ckpt_open(FLODL_SOURCE_DIR "/tests/fixtures/parametrize.safetensors");
    return recorded ? 0 : -1;
}

static int close_recorded(void **state)
{
    (void)state;
    fdl_ckpt_close(recorded);
    return 0;
}

/* The tensor "a/b/c" of the recording, on the default device (scope); NULL without an error: it has none. */
static fdl_tensor *get(const char *format, ...) FDL_PRINTF(1, 2);
static fdl_tensor *get(const char *format, ...)
{
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    for (int i = 0; i < fdl_ckpt_count(recorded); i++)
        if (strcmp(fdl_ckpt_name(recorded, i), name) == 0)
            return fdl_to(fdl_ckpt_tensor(recorded, i), .device = fdl_default_device());
    return NULL;
}

/* The largest difference, over 1 + the largest value. */
static double distance(fdl_tensor *a, fdl_tensor *b)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    if (!fdl_numel(a))
        return 0;
    double off = fdl_item(fdl_max(fdl_abs(fdl_sub(a, b)))), size = fdl_item(fdl_max(fdl_abs(b)));
    return off / (1 + size);
}

static void same(const char *what, fdl_tensor *is, fdl_tensor *want, double tolerance)
{
    check_some(is);
    if (!want)
        fail_msg("%s is not in the recording", what);
    char a[256], b[256];
    if (!fdl_shape_eq(fdl_shape_of(is), fdl_shape_of(want)))
        fail_msg("%s: %s, not %s", what, fdl_describe(is, a, sizeof a), fdl_describe(want, b, sizeof b));
    /* A rate on a GPU is a float32: 0.1 is off by 1.5e-9 there, and so is what is trained with it. */
    if (fdl_default_device().type == FDL_DEVICE_TYPE_CUDA && tolerance < 1e-7)
        tolerance = 1e-7;
    double off = distance(is, want);
    if (!(off <= tolerance))
        fail_msg("%s: off by %g", what, off);
}

/* m's tensors of a list have the recorded names and, where PyTorch has any, values; returns how many there are. */
static int each(fdl_module *m, bool buffers, const char *prefix, bool set, double tolerance)
{
    FDL_SCOPE;
    fdl_params *ps = buffers ? fdl_buffers(m) : fdl_parameters(m);
    for (int i = 0; i < fdl_params_count(ps); i++) {
        char key[256], what[512];
        check_ok(fdl_state_key(fdl_params_name(ps, i), key, sizeof key));
        snprintf(what, sizeof what, "%s/%s", prefix, key);
        fdl_tensor *want = get("%s", what);
        if (!want)
            fail_msg("PyTorch has no %s", what);
        if (set)
            check_ok(fdl_param_set(fdl_params_at(ps, i), want));
        else
            same(what, fdl_param_tensor(fdl_params_at(ps, i)), want, tolerance);
    }
    return fdl_params_count(ps);
}

static int count(const char *prefix)
{
    int n = 0;
    for (int i = 0; i < fdl_ckpt_count(recorded); i++)
        n += strncmp(fdl_ckpt_name(recorded, i), prefix, strlen(prefix)) == 0;
    return n;
}

/* m has the keys of a recorded state_dict, those and no others; takes or compares its values. */
static void state_dict(fdl_module *m, const char *name, const char *when, bool set, double tolerance)
{
    char prefix[128];
    snprintf(prefix, sizeof prefix, "%s/%s", name, when);
    int n = each(m, false, prefix, set, tolerance) + each(m, true, prefix, set, tolerance);
    snprintf(prefix, sizeof prefix, "%s/%s/", name, when);
    assert_int_equal(n, count(prefix));
}

typedef fdl_tensor *run_function(fdl_module *m, fdl_tensor *x);

static fdl_tensor *run_once(fdl_module *m, fdl_tensor *x)
{
    return fdl_forward(m, x);
}

/* Three steps of gradient descent as they were recorded. */
static void train_like(fdl_module *m, const char *name, run_function *run, double tolerance)
{
    state_dict(m, name, "start", true, 0);
    FDL_SCOPE;
    fdl_tensor *x = get("%s/x", name);
    fdl_optim *o = fdl_optim_sgd(fdl_parameters(m), .lr = 0.1);
    check_some(o);
    for (int step = 0; step < 3; step++) {
        char what[512];
        snprintf(what, sizeof what, "%s/y%d", name, step);
        check_ok(fdl_optim_zero_grad(o));
        fdl_tensor *y = run(m, x);
        same(what, y, get("%s", what), tolerance);
        int64_t n = fdl_numel(y);
        fdl_tensor *weights = fdl_reshape(fdl_linspace(-1, 1, n, .dtype = FDL_FLOAT64), fdl_shape_of(y));
        check_ok(fdl_backward(fdl_sum(fdl_mul(y, weights))));
        fdl_params *ps = fdl_parameters(m);
        for (int i = 0; i < fdl_params_count(ps); i++) {
            char key[256];
            check_ok(fdl_state_key(fdl_params_name(ps, i), key, sizeof key));
            snprintf(what, sizeof what, "%s/grad%d/%s", name, step, key);
            same(what, fdl_grad(fdl_param_tensor(fdl_params_at(ps, i))), get("%s", what), tolerance);
        }
        check_ok(fdl_optim_step(o));
    }
    fdl_optim_free(o);
    state_dict(m, name, "end", false, tolerance);
    check_ok(fdl_eval(m));
    same(name, run(m, x), get("%s/eval", name), tolerance);
    state_dict(m, name, "end", false, tolerance); /* an evaluation changes nothing */
}

#endif
