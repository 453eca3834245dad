/* Options that are given once for all spatial dims, or for each. */
#include "spatial.h"

#include <cstdio>

namespace flodl
{

namespace
{

inline void check(const char *name, int64_t value, int64_t least)
{
    if (value < least || value > INT32_MAX)
        fail(FDL_E_ARG, ".%s is %lld; it is from %lld to %d", name, (long long)value, (long long)least,
             INT32_MAX);
}

} // namespace

void spatial::fill(const char *name, int64_t all, const fdl_shape &each, int64_t least)
{
    if (fdl_shape_lacks_count(&each))
        fail(FDL_E_ARG, ".%s_dims = {%lld, ...} lacks its count; write FDL_DIMS(%lld, ...)", name,
             (long long)each.d[0], (long long)each.d[0]);
    if (each.ndim) {
        if (all)
            fail(FDL_E_ARG, ".%s and .%s_dims are both given", name, name);
        if (each.ndim != n_)
            fail(FDL_E_ARG, ".%s_dims has %d values for %d spatial dim%s", name, each.ndim, n_,
                 n_ == 1 ? "" : "s");
    }
    for (int i = 0; i < n_; i++) {
        if (each.ndim)
            v_[i] = each.d[i];
        else if (all)
            v_[i] = all;
        check(name, v_[i], least);
    }
}

at::IntArrayRef output_size(const fdl_shape &size, int n, int64_t *room, int64_t least)
{
    if (size.ndim != n && size.ndim != 1)
        fail(FDL_E_ARG, "the size has %d values for %d spatial dim%s", size.ndim, n, n == 1 ? "" : "s");
    for (int i = 0; i < n; i++) {
        room[i] = size.d[size.ndim == n ? i : 0];
        check("size", room[i], least);
    }
    return at::IntArrayRef(room, (size_t)n);
}

factors::factors(const char *name, int n, double all, const double *each) : v{all, all, all}, given(all != 0)
{
    bool one = each[0] != 0 || each[1] != 0 || each[2] != 0;
    if (!one)
        return;
    if (all != 0)
        fail(FDL_E_ARG, ".%s and .%s_dims are both given", name, name);
    for (int i = 0; i < 3; i++) {
        v[i] = each[i];
        if ((v[i] != 0) != (i < n))
            fail(FDL_E_ARG, ".%s_dims has other than %d values for %d spatial dim%s", name, n, n,
                 n == 1 ? "" : "s");
    }
    given = true;
}

void bad_spatial(at::IntArrayRef shape, int n)
{
    size_t dims = shape.size();
    if (dims != (size_t)n + 1 && dims != (size_t)n + 2)
        fail(FDL_E_SHAPE, "needs [N, C%s] or [C%s], got %lld dim%s",
             n == 1   ? ", L"
             : n == 2 ? ", H, W"
                      : ", D, H, W",
             n == 1   ? ", L"
             : n == 2 ? ", H, W"
                      : ", D, H, W",
             (long long)dims, dims == 1 ? "" : "s");
    for (int64_t extent : shape.slice(dims - (size_t)n))
        if (extent > INT32_MAX)
            fail(FDL_E_SHAPE, "extent %lld is above %d", (long long)extent, INT32_MAX);
    fail(FDL_E_SHAPE, "the shape %s doesn't fit", shape_text(shape).text);
}

shape_text::shape_text(at::IntArrayRef shape)
{
    int used = snprintf(text, sizeof text, "[");
    for (size_t i = 0; i < shape.size() && used < (int)sizeof text; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, i ? ", %lld" : "%lld", (long long)shape[i]);
    if (used < (int)sizeof text)
        snprintf(text + used, sizeof text - (size_t)used, "]");
}

} // namespace flodl
