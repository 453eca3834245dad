/* What is done with the gradients of a list of parameters: norm, clipping, clearing. Without a wish for a
 * number nothing waits for the device. */
#include "flodl/arithmetic.h"
#include "flodl/foreach.h"
#include "flodl/reduce.h"
#include "flodl/shape.h"
#include "optim.h"

#include <math.h>

/* The gradients that are there (scope); at NULL on failure only. */
static fdl_list gradients(const fdl_params *params, const char *function)
{
    fdl_list none = {0, NULL};
    int n = fdl_params_count(params);
    if (n < 0) {
        fdl_null_operand(function, "params");
        return none;
    }
    fdl_tensor **at = fdl_scope_alloc(sizeof *at * (size_t)(n ? n : 1));
    if (!at)
        return none;
    fdl_list grads = {0, at};
    for (int i = 0; i < n; i++) {
        fdl_tensor *g;
        if (optim_gradient(fdl_param_tensor(fdl_params_at(params, i)), &g) != FDL_OK)
            return none;
        if (g)
            grads.at[grads.n++] = g;
    }
    return grads;
}

/* Moves the gradients of the device of element `from`, and those alone, to the front of what is left; returns
 * their number. */
static int of_one_device(fdl_list grads, int from)
{
    fdl_device device = fdl_device_of(grads.at[from]);
    int n = from;
    for (int i = from; i < grads.n; i++)
        if (fdl_device_eq(fdl_device_of(grads.at[i]), device)) {
            fdl_tensor *t = grads.at[i];
            grads.at[i] = grads.at[n];
            grads.at[n++] = t;
        }
    return n - from;
}

/* The norm of all of them as one vector, 0-d on the first one's device; sorts them by device. grads.n > 0. */
static fdl_tensor *norm_of(fdl_list grads, double type)
{
    fdl_tensor **norms = fdl_scope_alloc(sizeof *norms * (size_t)grads.n);
    if (!norms)
        return NULL;
    int devices = 0;
    for (int i = 0, n; i < grads.n; i += n) {
        n = of_one_device(grads, i);
        fdl_list here = {n, grads.at + i}, each = fdl_foreach_norm(here, .ord = type);
        if (!each.at)
            return NULL;
        fdl_tensor *norm = fdl_norm_dim(fdl_stack(each, 0), type, 0);
        norms[devices] = devices ? fdl_to_device_of(norm, norms[0]) : norm;
        if (!norms[devices++])
            return NULL;
    }
    fdl_list all = {devices, norms};
    return devices == 1 ? norms[0] : fdl_norm_dim(fdl_stack(all, 0), type, 0);
}

static double type_of(const fdl_clip_opts *opts, const char *function, fdl_status *status)
{
    double type = opts ? fdl_opt_double(opts->norm_type, 2) : 2;
    *status =
        type > 0 ? FDL_OK : fdl_fail(FDL_E_ARG, "%s: .norm_type is %g; it must be above 0", function, type);
    return type;
}

static fdl_status clip_norm(const char *function, fdl_list grads, double max, double type,
                            const fdl_clip_opts *opts)
{
    if (!(max >= 0))
        return fdl_fail(FDL_E_ARG, "%s: max is %g; it must be 0 or more", function, max);
    if (!grads.at)
        return fdl_error_pending();
    if (!grads.n) {
        if (opts && opts->total)
            *opts->total = 0;
        return FDL_OK;
    }
    fdl_tensor *norm = norm_of(grads, type);
    if (!norm)
        return fdl_error_pending();
    if (opts && (opts->total || opts->error_if_nonfinite)) {
        double total = fdl_item(norm);
        if (opts->total)
            *opts->total = total;
        if (opts->error_if_nonfinite && !isfinite(total))
            return fdl_fail(FDL_E_ARG, "%s: the norm of the gradients is %g; nothing was scaled", function,
                            total);
    }
    fdl_tensor *factor = fdl_clamp_max(fdl_rdiv_scalar(fdl_add_scalar(norm, 1e-6), max), 1);
    for (int i = 0, n; i < grads.n; i += n) {
        n = of_one_device(grads, i);
        FDL_TRY(fdl_foreach_mul_((fdl_list){n, grads.at + i}, fdl_to_device_of(factor, grads.at[i])));
    }
    return FDL_OK;
}

static fdl_status clip_value(const char *function, fdl_list grads, double value, double *total)
{
    if (!(value >= 0))
        return fdl_fail(FDL_E_ARG, "%s: value is %g; it must be 0 or more", function, value);
    if (!grads.at)
        return fdl_error_pending();
    if (total) {
        fdl_tensor *largest = grads.n ? norm_of(grads, (double)INFINITY) : NULL;
        if (grads.n && !largest)
            return fdl_error_pending();
        *total = grads.n ? fdl_item(largest) : 0;
    }
    for (int i = 0, n; i < grads.n; i += n) {
        n = of_one_device(grads, i);
        FDL_TRY(fdl_foreach_clamp_max_((fdl_list){n, grads.at + i}, value));
        FDL_TRY(fdl_foreach_clamp_min_((fdl_list){n, grads.at + i}, -value));
    }
    return FDL_OK;
}

fdl_status fdl_clip_grad_norm_opt(const fdl_params *params, double max, const fdl_clip_opts *opts)
{
    static const char *const function = "fdl_clip_grad_norm";
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_status status;
    double type = type_of(opts, function, &status);
    FDL_TRY(status);
    return clip_norm(function, gradients(params, function), max, type, opts);
}

fdl_status fdl_clip_grad_value_opt(const fdl_params *params, double value, const fdl_clip_opts *opts)
{
    static const char *const function = "fdl_clip_grad_value";
    FDL_SCOPE;
    FDL_NO_GRAD;
    if (opts && (fdl_opt_double(opts->norm_type, -1) != -1 || opts->error_if_nonfinite))
        return fdl_fail(FDL_E_ARG, "%s has no option .norm_type or .error_if_nonfinite; it has .total",
                        function);
    return clip_value(function, gradients(params, function), value, opts ? opts->total : NULL);
}

fdl_status fdl_optim_clip_norm(fdl_optim *o, double max)
{
    if (!o)
        return fdl_null_operand(__func__, "o");
    FDL_SCOPE;
    FDL_NO_GRAD;
    return clip_norm(__func__, optim_gradients(o, NULL), max, 2, NULL);
}

fdl_status fdl_optim_clip_value(fdl_optim *o, double value)
{
    if (!o)
        return fdl_null_operand(__func__, "o");
    FDL_SCOPE;
    FDL_NO_GRAD;
    return clip_value(__func__, optim_gradients(o, NULL), value, NULL);
}

fdl_status fdl_grad_norm_opt(const fdl_params *params, double *norm, const fdl_clip_opts *opts)
{
    static const char *const function = "fdl_grad_norm";
    FDL_SCOPE;
    FDL_NO_GRAD;
    if (!norm)
        return fdl_null_operand(function, "norm");
    fdl_status status;
    double type = type_of(opts, function, &status);
    FDL_TRY(status);
    if (opts && (opts->total || opts->error_if_nonfinite))
        return fdl_fail(FDL_E_ARG, "%s has no option .total or .error_if_nonfinite; it has .norm_type",
                        function);
    fdl_list grads = gradients(params, function);
    if (!grads.at)
        return fdl_error_pending();
    fdl_tensor *total = grads.n ? norm_of(grads, type) : NULL;
    if (grads.n && !total)
        return fdl_error_pending();
    *norm = grads.n ? fdl_item(total) : 0;
    return FDL_OK;
}

static fdl_status each_gradient(const fdl_params *params, const char *function,
                                fdl_status (*fn)(fdl_tensor *x))
{
    int n = fdl_params_count(params);
    if (n < 0)
        return fdl_null_operand(function, "params");
    for (int i = 0; i < n; i++)
        FDL_TRY(fn(fdl_param_tensor(fdl_params_at(params, i))));
    return FDL_OK;
}

fdl_status fdl_grads_zero(const fdl_params *params)
{
    return each_gradient(params, "fdl_grads_zero", fdl_zero_grad);
}

fdl_status fdl_grads_clear(const fdl_params *params)
{
    return each_gradient(params, "fdl_grads_clear", fdl_clear_grad);
}
