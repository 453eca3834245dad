/* Checks of the arguments of module constructors, on public functions only. Each notes FDL_E_ARG, which names
 * the constructor, the argument and its value, and returns false. */
#ifndef FLODL_NN_ARGUMENTS_H
#define FLODL_NN_ARGUMENTS_H

#include <inttypes.h>

#include "flodl/base.h"
#include "flodl/init.h"
#include "flodl/module.h"

/* `value` of `argument` is at least `least`. */
static inline bool arg_at_least(const char *module, const char *argument, int64_t value, int64_t least)
{
    if (value >= least)
        return true;
    fdl_fail(FDL_E_ARG, "fdl_nn_%s: %s is %" PRId64 ", must be at least %" PRId64, module, argument, value,
             least);
    return false;
}

/* A floating option lies in [lo, hi]; NaN does not. */
static inline bool arg_within(const char *module, const char *argument, double value, double lo, double hi)
{
    if (value >= lo && value <= hi)
        return true;
    fdl_fail(FDL_E_ARG, "fdl_nn_%s: %s is %g, must be in [%g, %g]", module, argument, value, lo, hi);
    return false;
}

/* A shape among the options has its count. */
static inline bool arg_counted(const char *module, const char *argument, const fdl_shape *shape)
{
    if (!fdl_shape_lacks_count(shape))
        return true;
    fdl_fail(FDL_E_ARG,
             "fdl_nn_%s: .%s = {%" PRId64 ", ...} lacks its count; write FDL_DIMS(%" PRId64 ", ...)", module,
             argument, shape->d[0], shape->d[0]);
    return false;
}

/* Extents of a tensor that may exist: none below 0, and no more elements than can be counted. */
static inline bool arg_extents(const char *module, const char *argument, const fdl_shape *shape)
{
    double elements = 1;
    for (int i = 0; i < shape->ndim; i++) {
        if (!arg_at_least(module, argument, shape->d[i], 0))
            return false;
        elements *= (double)shape->d[i];
    }
    return arg_within(module, "the number of elements", elements, 0, 0x1p60);
}

/* `parts` divides `whole`. */
static inline bool arg_divides(const char *module, const char *part_name, int64_t parts,
                               const char *whole_name, int64_t whole)
{
    if (whole % parts == 0)
        return true;
    fdl_fail(FDL_E_ARG, "fdl_nn_%s: %s %" PRId64 " is not divisible by %s %" PRId64, module, whole_name,
             whole, part_name, parts);
    return false;
}

/* One number for each of n spatial dims: dims where given, otherwise `one` in each (0 meaning `otherwise`).
 * Not n of them, both forms, or a number below `least`: false. */
static inline bool arg_spatial(const char *module, const char *argument, int n, int64_t one,
                               int64_t otherwise, int64_t least, const fdl_shape *dims, fdl_shape *out)
{
    char name[64];
    snprintf(name, sizeof name, "%s_dims", argument);
    if (!arg_counted(module, name, dims))
        return false;
    if (dims->ndim != 0 && (dims->ndim != n || one != 0)) {
        if (one != 0)
            fdl_fail(FDL_E_ARG, "fdl_nn_%s: %s is %" PRId64 " and .%s_dims is given too; give one of them",
                     module, argument, one, argument);
        else
            fdl_fail(FDL_E_ARG, "fdl_nn_%s: .%s_dims has %d numbers, must have %d", module, argument,
                     dims->ndim, n);
        return false;
    }
    out->ndim = n;
    for (int i = 0; i < n; i++) {
        out->d[i] = dims->ndim ? dims->d[i] : one ? one : otherwise;
        if (!arg_at_least(module, argument, out->d[i], least))
            return false;
    }
    return true;
}

/* How many of the three numbers of a factor for each dim are given, from the first on; -1: not from the first on, or one isn't in
 * (0, most). */
static inline int arg_factors(const double *each, double most)
{
    int n = 0;
    while (n < 3 && each[n] != 0)
        n++;
    for (int i = 0; i < 3; i++)
        if (i < n ? !(each[i] > 0 && each[i] < most) : each[i] != 0)
            return -1;
    return n;
}

/* A fresh tensor for a parameter, drawn uniformly within 1/sqrt(fan); NULL on failure. */
static inline fdl_tensor *new_uniform(fdl_shape shape, int64_t fan, fdl_dtype dtype, fdl_device device)
{
    fdl_tensor *t = fdl_empty(shape, .dtype = dtype, .device = device);
    return t && fdl_init_bias_uniform(t, fan) == FDL_OK ? t : NULL;
}

/* The weight of a linear map or a convolution: kaiming_uniform with a = sqrt(5), as PyTorch draws it. */
static inline fdl_tensor *new_weight(fdl_shape shape, fdl_dtype dtype, fdl_device device)
{
    const double sqrt5 = 2.23606797749978969641;
    fdl_tensor *t = fdl_empty(shape, .dtype = dtype, .device = device);
    return t && fdl_init_kaiming_uniform(t, .a = sqrt5) == FDL_OK ? t : NULL;
}

#endif
