/* Embeddings. */
#include "flodl/embedding.h"
#include "spatial.h"

#include <c10/core/GradMode.h>

#include <ATen/ops/aminmax.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/embedding_bag.h>
#include <ATen/ops/embedding_renorm.h>
#include <ATen/ops/empty.h>

using namespace flodl;

namespace
{

void check_index(const char *name, const at::Tensor &idx)
{
    if (idx.scalar_type() != at::kLong && idx.scalar_type() != at::kInt)
        fail(FDL_E_DTYPE, "%s is int64 or int32; fdl_long converts", name);
}

void check_table(const at::Tensor &w, const at::Tensor &idx)
{
    if (w.dim() != 2)
        fail(FDL_E_SHAPE, "the table is [num, dim], got %s", shape_text(w.sizes()).text);
    check_index("idx", idx);
}

/* Where libtorch's kernel doesn't look itself; on the CPU only, since elsewhere it would wait for the device.
 */
void check_range(const at::Tensor &w, const at::Tensor &idx)
{
    if (!idx.device().is_cpu() || !idx.numel())
        return;
    auto ends = at::aminmax(idx);
    int64_t low = std::get<0>(ends).item<int64_t>(), high = std::get<1>(ends).item<int64_t>();
    if (low < 0 || high >= w.size(0))
        fail(FDL_E_RANGE, "index %lld is out of range; rows are 0 to %lld", (long long)(low < 0 ? low : high),
             (long long)w.size(0) - 1);
}

/* The padding row counted from 0; none: nothing. */
std::optional<int64_t> padding(const at::Tensor &w, fdl_opt_i64 option)
{
    if (!fdl_opt_given(option))
        return std::nullopt;
    if (option.value < -w.size(0) || option.value >= w.size(0))
        fail(FDL_E_RANGE, ".padding_idx is %lld; the table has %lld rows", (long long)option.value,
             (long long)w.size(0));
    return option.value < 0 ? option.value + w.size(0) : option.value;
}

void check_offsets(const at::Tensor &offsets, const at::Tensor &idx, bool last)
{
    if (!offsets.device().is_cpu())
        return;
    at::Tensor t = offsets.to(at::kLong).contiguous();
    const int64_t *at = t.const_data_ptr<int64_t>();
    int64_t n = t.numel();
    if (last && n < 1)
        fail(FDL_E_SHAPE, ".include_last_offset needs an offset at least");
    if (!n && idx.numel())
        fail(FDL_E_SHAPE, "no offsets for %lld indices", (long long)idx.numel()); /* mode max would crash */
    for (int64_t i = 0; i < n; i++)
        if (at[i] < (i ? at[i - 1] : 0) || (!i && at[i]) || at[i] > idx.numel())
            fail(FDL_E_ARG,
                 "offset %lld is %lld; offsets begin with 0, never decrease and stay within %lld indices",
                 (long long)i, (long long)at[i], (long long)idx.numel());
    if (last && at[n - 1] != idx.numel())
        fail(FDL_E_ARG, "the last offset is %lld, not the %lld indices", (long long)at[n - 1],
             (long long)idx.numel());
}

at::Tensor bags(const at::Tensor &w, const at::Tensor &idx, const at::Tensor &offsets,
                const fdl_embedding_bag_opts &o)
{
    static const int64_t modes[] = {1, 0, 2}; /* libtorch's numbers of mean, sum, max */
    if ((unsigned)o.mode > FDL_BAG_MAX)
        fail(FDL_E_ARG, ".mode is %d, which is none", (int)o.mode);
    check_table(w, idx);
    check_index("offsets", offsets);
    if (idx.dim() != 1 || offsets.dim() != 1)
        fail(FDL_E_SHAPE, "idx and offsets have one dim each");
    if (o.per_sample_weights && o.mode != FDL_BAG_SUM)
        fail(FDL_E_ARG, ".per_sample_weights is for .mode = FDL_BAG_SUM");
    if (o.per_sample_weights && o.per_sample_weights->t.sizes() != idx.sizes())
        fail(FDL_E_SHAPE, ".per_sample_weights has idx's shape, got %s",
             shape_text(o.per_sample_weights->t.sizes()).text);
    if (o.mode == FDL_BAG_MAX && (o.scale_grad_by_freq || o.sparse))
        fail(FDL_E_ARG, ".scale_grad_by_freq and .sparse are not for .mode = FDL_BAG_MAX");
    check_offsets(offsets, idx, o.include_last_offset);
    check_range(w, idx);
    if (w.is_meta()) /* libtorch has no kernel for it, and the CPU's reads what zeros without memory don't have */
        return at::empty({offsets.numel() - o.include_last_offset, w.size(1)}, w.options());
    return std::get<0>(at::embedding_bag(w, idx, offsets, o.scale_grad_by_freq, modes[o.mode], o.sparse,
                                         maybe(o.per_sample_weights), o.include_last_offset,
                                         padding(w, o.padding_idx)));
}

} // namespace

fdl_tensor *fdl_embedding_opt(fdl_tensor *w, fdl_tensor *idx, const fdl_embedding_opts *opts)
{
    const fdl_embedding_opts &o = or_default(opts);
    return OP_DO((w, idx), {
        check_table(w->t, idx->t);
        return at::embedding(w->t, idx->t, padding(w->t, o.padding_idx).value_or(-1), o.scale_grad_by_freq,
                             o.sparse);
    });
}

fdl_tensor *fdl_embedding_bag_opt(fdl_tensor *w, fdl_tensor *idx, fdl_tensor *offsets,
                                  const fdl_embedding_bag_opts *opts)
{
    const fdl_embedding_bag_opts &o = or_default(opts);
    return OP((w, idx, offsets, opt(o.per_sample_weights)), bags(w->t, idx->t, offsets->t, o));
}

fdl_status fdl_embedding_renorm_(fdl_tensor *w, fdl_tensor *idx, double max_norm, double norm_type)
{
    return OP_DO((w, idx), {
        check_table(w->t, idx->t);
        if (!(max_norm >= 0) || !(norm_type > 0))
            fail(FDL_E_ARG, "max_norm is %g and norm_type %g; both are above 0", max_norm, norm_type);
        check_range(w->t, idx->t);
        at::NoGradGuard quiet;
        at::embedding_renorm_(w->t, idx->t.contiguous(), max_norm, norm_type);
    });
}
