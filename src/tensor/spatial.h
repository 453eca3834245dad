/* Options that are given once for all spatial dims (.stride = 2) or for each (.stride_dims = FDL_DIMS(2, 1)).
 */
#ifndef FLODL_TENSOR_SPATIAL_H
#define FLODL_TENSOR_SPATIAL_H

#include "internal.h"

#include <c10/core/SymIntArrayRef.h>

namespace flodl
{

/* One value for each of n spatial dims, n at most 3. */
class spatial
{
    int64_t v_[3];
    int n_;

    /* What nearly every call has goes inline. */
    void set(const char *name, int64_t all, const fdl_shape &each, int64_t least)
    {
        if (FDL_LIKELY(each.ndim == 0 && each.d[0] == 0 && all >= least && all <= INT32_MAX && all != 0))
            v_[0] = v_[1] = v_[2] = all;
        else if (FDL_UNLIKELY(each.ndim != 0 || each.d[0] != 0 || all != 0 || v_[0] < least))
            fill(name, all, each, least);
    }
    [[gnu::cold]] void fill(const char *name, int64_t all, const fdl_shape &each, int64_t least);

  public:
    /* `all` where `each` is empty, `otherwise` where both are left out. Every value is from `least` to 2^31 -
     * 1, so that libtorch's products of them stay within 64 bits. */
    spatial(const char *name, int n, int64_t all, const fdl_shape &each, int64_t otherwise, int64_t least)
        : v_{otherwise, otherwise, otherwise}, n_(n)
    {
        set(name, all, each, least);
    }
    /* The same with a default for each dim: a pool's stride is its kernel. */
    spatial(const char *name, int64_t all, const fdl_shape &each, const spatial &otherwise, int64_t least)
        : v_{otherwise.v_[0], otherwise.v_[1], otherwise.v_[2]}, n_(otherwise.n_)
    {
        set(name, all, each, least);
    }
    operator at::IntArrayRef() const
    {
        return at::IntArrayRef(v_, (size_t)n_);
    }
    /* The same for the functions that libtorch calls ..._symint: checked already, so it need not be looked through again. */
    operator c10::SymIntArrayRef() const
    {
        return c10::fromIntArrayRefUnchecked(at::IntArrayRef(*this));
    }
    int64_t operator[](int i) const
    {
        return v_[i];
    }
    void lower(int i, int64_t most)
    {
        v_[i] = v_[i] < most ? v_[i] : most;
    }
};

/* The extents of an output: one for each of n spatial dims, or one for all of them. */
at::IntArrayRef output_size(const fdl_shape &size, int n, int64_t *room, int64_t least);
/* A factor for each of n spatial dims: those of `each` [3], or `all`. Both, or another count: an error. */
struct factors {
    double v[3];
    bool given;
    factors(const char *name, int n, double all, const double *each);
};
/* x has n spatial dims after [N, C], or after [C] alone; returns their extents. */
[[noreturn, gnu::cold]] void bad_spatial(at::IntArrayRef shape, int n);
inline at::IntArrayRef check_spatial(const at::Tensor &x, int n)
{
    at::IntArrayRef shape = x.sizes();
    int64_t dims = (int64_t)shape.size();
    if (dims != n + 1 && dims != n + 2)
        bad_spatial(shape, n);
    at::IntArrayRef extents(shape.end() - n, (size_t)n);
    for (int64_t extent : extents)
        if (extent > INT32_MAX)
            bad_spatial(shape, n);
    return extents;
}
/* "[2, 3]" for a message. */
struct shape_text {
    char text[160];
    explicit shape_text(at::IntArrayRef shape);
};

} // namespace flodl

#endif
