/* Recurrent cells and layers, packed sequences. Libtorch and the libraries under it take the weights' shapes on trust in
 * places, so they are checked here. */
#include "flodl/recurrent.h"
#include "spatial.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/_cudnn_rnn_flatten_weight.h>
#include <ATen/ops/_pack_padded_sequence.h>
#include <ATen/ops/_pad_packed_sequence.h>
#include <ATen/ops/_use_cudnn_rnn_flatten_weight.h>
#include <ATen/ops/cudnn_is_acceptable.h>
#include <ATen/ops/gru.h>
#include <ATen/ops/gru_cell.h>
#include <ATen/ops/lstm.h>
#include <ATen/ops/lstm_cell.h>
#include <ATen/ops/pad_sequence.h>
#include <ATen/ops/rnn_relu.h>
#include <ATen/ops/rnn_relu_cell.h>
#include <ATen/ops/rnn_tanh.h>
#include <ATen/ops/rnn_tanh_cell.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/GradMode.h>

using namespace flodl;

namespace
{

void expect(const char *name, const at::Tensor &t, at::IntArrayRef shape)
{
    if (t.sizes() != shape)
        fail(FDL_E_SHAPE, "%s is %s, got %s", name, shape_text(shape).text, shape_text(t.sizes()).text);
}

/* Autocast brings different dtypes together. */
void same_dtype(const char *name, const at::Tensor &t, const at::Tensor &x)
{
    if (!at::isFloatingType(x.scalar_type()) || !at::isFloatingType(t.scalar_type()) ||
        (t.scalar_type() != x.scalar_type() && !at::autocast::is_autocast_enabled(x.device().type())))
        fail(FDL_E_DTYPE, "%s and x have one floating dtype", name);
}

/* ---- cells ---- */

/* The operands of a cell with g gates, with a batch dim: themselves where they have one. */
class cell
{
    at::Tensor own_x_, own_h_;

    static bool checked(const at::Tensor &x, const at::Tensor &h)
    {
        if (x.dim() != 1 && x.dim() != 2)
            fail(FDL_E_SHAPE, "x is [N, in] or [in], got %s", shape_text(x.sizes()).text);
        bool batched = x.dim() == 2;
        if (h.dim() != x.dim() || (batched && h.sizes()[0] != x.sizes()[0]))
            fail(FDL_E_SHAPE, "h is %s, got %s", batched ? "[N, h] with x's N" : "[h]",
                 shape_text(h.sizes()).text);
        return batched;
    }
    static const at::Tensor &rows(const at::Tensor &t, bool batched, at::Tensor &own)
    {
        return batched ? t : own = t.unsqueeze(0);
    }

  public:
    bool batched;
    const at::Tensor &x, &h;

    cell(int64_t g, const at::Tensor &x_, const at::Tensor &h_, const at::Tensor &w_ih,
         const at::Tensor &w_hh, fdl_tensor *b_ih, fdl_tensor *b_hh)
        : batched(checked(x_, h_)), x(rows(x_, batched, own_x_)), h(rows(h_, batched, own_h_))
    {
        int64_t in = x.sizes()[1], hidden = h.sizes()[1];
        if (in < 1 || hidden < 1)
            fail(FDL_E_SHAPE, "x and h have a feature at least");
        expect("w_ih", w_ih, {g * hidden, in});
        expect("w_hh", w_hh, {g * hidden, hidden});
        if (!b_ih != !b_hh)
            fail(FDL_E_ARG, ".b_ih and .b_hh go together");
        if (b_ih) {
            expect(".b_ih", b_ih->t, {g * hidden});
            expect(".b_hh", b_hh->t, {g * hidden});
        }
    }
    at::Tensor out(at::Tensor &&t) const
    {
        return batched ? std::move(t) : t.squeeze(0);
    }
};

/* ---- layers ---- */

/* Counts on the host, which libtorch's kernels read there; `own` holds them. */
const int64_t *counts(const char *name, const at::Tensor &t, at::Tensor &own)
{
    if (t.scalar_type() != at::kLong)
        fail(FDL_E_DTYPE, "%s is int64; fdl_long converts", name);
    if (!t.device().is_cpu())
        fail(FDL_E_DEVICE, "%s is on the CPU", name);
    if (t.dim() != 1 || !t.numel())
        fail(FDL_E_SHAPE, "%s has one dim, of 1 at least", name);
    own = t.contiguous();
    return own.const_data_ptr<int64_t>();
}

/* How many sequences the first of x's packed steps has. */
int64_t check_batch_sizes(const at::Tensor &sizes, const at::Tensor &x)
{
    at::Tensor own;
    const int64_t *at = counts("batch_sizes", sizes, own);
    int64_t sum = 0;
    for (int64_t i = 0; i < own.numel(); i++) {
        if (at[i] < 1 || (i && at[i] > at[i - 1]))
            fail(FDL_E_ARG, "batch_sizes[%lld] is %lld; they are at least 1 and never grow", (long long)i,
                 (long long)at[i]);
        sum += at[i];
    }
    if (x.dim() < 1 || x.size(0) != sum)
        fail(FDL_E_SHAPE, "batch_sizes come to %lld steps, x is %s", (long long)sum,
             shape_text(x.sizes()).text);
    return at[0];
}

/* The operands of whole sequences, with a batch dim; of a packed x [S, in] only the states have one. */
struct layers {
    at::Tensor x, h0, c0;
    bool batched;
    int64_t n, hidden, projected;
    double dropout;

    template <class Opts>
    layers(int64_t g, const at::Tensor &x_, const at::Tensor &h, const at::Tensor *c, fdl_list params,
           const Opts &o)
        : x(x_), h0(h), batched(x_.dim() == 3 || o.batch_sizes), n(o.layers ? o.layers : 1),
          dropout(fdl_opt_double(o.dropout, 0))
    {
        if (c)
            c0 = *c;
        if (n < 1)
            fail(FDL_E_ARG, ".layers is %d; it is at least 1", o.layers);
        if (!(dropout >= 0 && dropout <= 1))
            fail(FDL_E_ARG, ".dropout is %g; it is from 0 to 1", dropout);
        bool packed = o.batch_sizes;
        if (packed ? x.dim() != 2 : x.dim() != 2 && x.dim() != 3)
            fail(FDL_E_SHAPE,
                 packed ? "a packed x is [S, in], got %s"
                        : "x is [L, N, in], or [L, in] without a batch, got %s",
                 shape_text(x.sizes()).text);
        same_dtype("h0", h0, x);
        int64_t dims = batched ? 3 : 2;
        if (h0.dim() != dims || (c && c0.dim() != dims))
            fail(FDL_E_SHAPE, "the states have %lld dims%s, got %s", (long long)dims,
                 packed ? "" : " as x has", shape_text(h0.dim() != dims ? h0.sizes() : c0.sizes()).text);
        if (!batched) {
            x = x.unsqueeze(o.batch_first ? 0 : 1);
            h0 = h0.unsqueeze(1);
            if (c)
                c0 = c0.unsqueeze(1);
        }
        h0 = h0.contiguous(); /* cuDNN takes no other */
        if (c)
            c0 = c0.contiguous();
        int64_t d = o.bidirectional ? 2 : 1, in = x.size(-1);
        int64_t batch = packed ? check_batch_sizes(o.batch_sizes->t, x) : x.size(o.batch_first ? 0 : 1);
        if (!packed && x.size(o.batch_first ? 1 : 0) < 1)
            fail(FDL_E_SHAPE, "the sequence has no steps");
        projected = h0.size(2);
        hidden = c ? c0.size(2) : projected;
        if (in < 1 || projected < 1 || hidden < 1)
            fail(FDL_E_SHAPE, "x and the states have a feature at least");
        bool proj = projected != hidden;
        if (proj && projected > hidden)
            fail(FDL_E_SHAPE, "h0's last extent %lld is above c0's %lld; a projection makes it smaller",
                 (long long)projected, (long long)hidden);
        expect("h0", h0, {d * n, batch, projected});
        if (c) {
            same_dtype("c0", c0, x);
            expect("c0", c0, {d * n, batch, hidden});
        }
        int64_t each = 2 + (o.no_bias ? 0 : 2) + proj;
        if (params.n != each * d * n)
            fail(FDL_E_ARG, "%lld layer%s of %lld weights need %lld params, got %d", (long long)(d * n),
                 d * n == 1 ? "" : "s", (long long)each, (long long)(each * d * n), params.n);
        for (int i = 0; i < params.n; i++) {
            int64_t rows = g * hidden, layer = i / (each * d), kind = i % each;
            const at::Tensor &w = params.at[i]->t;
            auto has = [&](at::IntArrayRef shape) {
                if (FDL_LIKELY(w.sizes() == shape && w.scalar_type() == x.scalar_type()))
                    return;
                char name[32];
                snprintf(name, sizeof name, "params[%d]", i);
                same_dtype(name, w, x);
                expect(name, w, shape);
            };
            if (kind == 0)
                has({rows, layer ? d * projected : in});
            else if (kind == 1)
                has({rows, projected});
            else if (proj && kind == each - 1)
                has({projected, hidden});
            else
                has({rows});
        }
    }
    template <class Opts>
    at::Tensor out(at::Tensor &&t, const Opts &o) const
    {
        return batched ? std::move(t) : t.squeeze(o.batch_first ? 0 : 1);
    }
    void give(const result &to, at::Tensor &&t) const
    {
        to.give(batched ? std::move(t) : t.squeeze(1));
    }
};

} // namespace

fdl_tensor *fdl_gru_cell_opt(fdl_tensor *x, fdl_tensor *h, fdl_tensor *w_ih, fdl_tensor *w_hh,
                             const fdl_gru_cell_opts *opts)
{
    const fdl_gru_cell_opts &o = or_default(opts);
    return OP_DO((x, h, w_ih, w_hh, opt(o.b_ih), opt(o.b_hh)), {
        cell c(3, x->t, h->t, w_ih->t, w_hh->t, o.b_ih, o.b_hh);
        return c.out(at::gru_cell(c.x, c.h, w_ih->t, w_hh->t, maybe(o.b_ih), maybe(o.b_hh)));
    });
}

fdl_tensor *fdl_lstm_cell_opt(fdl_tensor *x, fdl_tensor *h, fdl_tensor *c, fdl_tensor *w_ih, fdl_tensor *w_hh,
                              const fdl_lstm_cell_opts *opts)
{
    const fdl_lstm_cell_opts &o = or_default(opts);
    result c_out(o.c_out);
    return OP_DO((x, h, c, w_ih, w_hh, opt(o.b_ih), opt(o.b_hh)), {
        cell one(4, x->t, h->t, w_ih->t, w_hh->t, o.b_ih, o.b_hh);
        expect("c", c->t, h->t.sizes());
        at::Tensor states[] = {one.h, one.batched ? c->t : c->t.unsqueeze(0)};
        auto both = at::lstm_cell(one.x, states, w_ih->t, w_hh->t, maybe(o.b_ih), maybe(o.b_hh));
        c_out.give(one.out(std::move(std::get<1>(both))));
        return one.out(std::move(std::get<0>(both)));
    });
}

fdl_tensor *fdl_rnn_cell_opt(fdl_tensor *x, fdl_tensor *h, fdl_tensor *w_ih, fdl_tensor *w_hh,
                             const fdl_rnn_cell_opts *opts)
{
    const fdl_rnn_cell_opts &o = or_default(opts);
    return OP_DO((x, h, w_ih, w_hh, opt(o.b_ih), opt(o.b_hh)), {
        cell c(1, x->t, h->t, w_ih->t, w_hh->t, o.b_ih, o.b_hh);
        return c.out(o.relu ? at::rnn_relu_cell(c.x, c.h, w_ih->t, w_hh->t, maybe(o.b_ih), maybe(o.b_hh))
                            : at::rnn_tanh_cell(c.x, c.h, w_ih->t, w_hh->t, maybe(o.b_ih), maybe(o.b_hh)));
    });
}

fdl_tensor *fdl_gru_opt(fdl_tensor *x, fdl_tensor *h0, fdl_list params, const fdl_gru_opts *opts)
{
    const fdl_gru_opts &o = or_default(opts);
    result h_n(o.h_n);
    return OP_DO((x, h0, params, opt(o.batch_sizes)), {
        layers l(3, x->t, h0->t, nullptr, params, o);
        auto both = o.batch_sizes ? at::gru(l.x, o.batch_sizes->t, l.h0, tensors(params), !o.no_bias, l.n,
                                            l.dropout, o.training, o.bidirectional)
                                  : at::gru(l.x, l.h0, tensors(params), !o.no_bias, l.n, l.dropout,
                                            o.training, o.bidirectional, o.batch_first);
        l.give(h_n, std::move(std::get<1>(both)));
        return l.out(std::move(std::get<0>(both)), o);
    });
}

fdl_tensor *fdl_lstm_opt(fdl_tensor *x, fdl_tensor *h0, fdl_tensor *c0, fdl_list params,
                         const fdl_lstm_opts *opts)
{
    const fdl_lstm_opts &o = or_default(opts);
    result h_n(o.h_n);
    result c_n(o.c_n);
    return OP_DO((x, h0, c0, params, opt(o.batch_sizes)), {
        layers l(4, x->t, h0->t, &c0->t, params, o);
        at::Tensor states[] = {l.h0, l.c0};
        auto all = o.batch_sizes ? at::lstm(l.x, o.batch_sizes->t, states, tensors(params), !o.no_bias, l.n,
                                            l.dropout, o.training, o.bidirectional)
                                 : at::lstm(l.x, states, tensors(params), !o.no_bias, l.n, l.dropout,
                                            o.training, o.bidirectional, o.batch_first);
        l.give(h_n, std::move(std::get<1>(all)));
        l.give(c_n, std::move(std::get<2>(all)));
        return l.out(std::move(std::get<0>(all)), o);
    });
}

fdl_tensor *fdl_rnn_opt(fdl_tensor *x, fdl_tensor *h0, fdl_list params, const fdl_rnn_opts *opts)
{
    const fdl_rnn_opts &o = or_default(opts);
    result h_n(o.h_n);
    return OP_DO((x, h0, params, opt(o.batch_sizes)), {
        layers l(1, x->t, h0->t, nullptr, params, o);
        tensors all(params);
        auto run = [&](auto &&rnn) {
            return o.batch_sizes ? rnn(l.x, o.batch_sizes->t, l.h0, all, !o.no_bias, l.n, l.dropout,
                                       o.training, o.bidirectional)
                                 : rnn(l.x, l.h0, all, !o.no_bias, l.n, l.dropout, o.training,
                                       o.bidirectional, o.batch_first);
        };
        auto relu = [](auto &&...a) { return at::rnn_relu(a...); };
        auto tanh = [](auto &&...a) { return at::rnn_tanh(a...); };
        auto both = o.relu ? run(relu) : run(tanh);
        l.give(h_n, std::move(std::get<1>(both)));
        return l.out(std::move(std::get<0>(both)), o);
    });
}

fdl_tensor *fdl_pack_steps_opt(fdl_tensor *x, fdl_tensor *lengths, const fdl_pack_steps_opts *opts)
{
    const fdl_pack_steps_opts &o = or_default(opts);
    result batch_sizes(o.batch_sizes);
    return OP_DO((x, lengths), {
        at::Tensor own;
        const int64_t *at = counts("lengths", lengths->t, own);
        if (x->t.dim() < 2)
            fail(FDL_E_SHAPE, "x has dims for the steps and for the sequences");
        int64_t n = x->t.size(o.batch_first ? 0 : 1), most = x->t.size(o.batch_first ? 1 : 0);
        if (own.numel() != n)
            fail(FDL_E_SHAPE, "%lld lengths for %lld sequences", (long long)own.numel(), (long long)n);
        for (int64_t i = 0; i < n; i++)
            if (at[i] < 1 || at[i] > most)
                fail(FDL_E_ARG, "length %lld is %lld; x has steps for 1 to %lld", (long long)i,
                     (long long)at[i], (long long)most);
            else if (i && at[i] > at[i - 1])
                fail(FDL_E_ARG,
                     "length %lld is %lld, above the one before it; the longest come first (fdl_pack_padded "
                     "sorts with .unsorted)",
                     (long long)i, (long long)at[i]);
        auto both = at::_pack_padded_sequence(x->t, own, o.batch_first);
        batch_sizes.give(std::move(std::get<1>(both)));
        return std::move(std::get<0>(both));
    });
}

fdl_tensor *fdl_unpack_steps_opt(fdl_tensor *x, fdl_tensor *batch_sizes, const fdl_unpack_steps_opts *opts)
{
    const fdl_unpack_steps_opts &o = or_default(opts);
    result lengths(o.lengths);
    return OP_DO((x, batch_sizes), {
        check_batch_sizes(batch_sizes->t, x->t);
        int64_t n = batch_sizes->t.numel();
        if (o.total_length && o.total_length < n)
            fail(FDL_E_ARG, ".total_length is %lld, the longest sequence has %lld steps",
                 (long long)o.total_length, (long long)n);
        auto both = at::_pad_packed_sequence(x->t, batch_sizes->t.contiguous(), o.batch_first,
                                             scalar(o.value), o.total_length ? o.total_length : -1);
        lengths.give(std::move(std::get<1>(both)));
        return std::move(std::get<0>(both));
    });
}

fdl_tensor *fdl_pad_sequence_opt(fdl_list xs, const fdl_pad_sequence_opts *opts)
{
    const fdl_pad_sequence_opts &o = or_default(opts);
    return OP_DO((xs), {
        if (!xs.n)
            fail(FDL_E_ARG, "a sequence at least");
        const at::Tensor &first = xs.at[0]->t;
        for (int i = 0; i < xs.n; i++) {
            const at::Tensor &x = xs.at[i]->t;
            if (x.dim() < 1 || first.dim() < 1 || x.sizes().slice(1) != first.sizes().slice(1))
                fail(FDL_E_SHAPE, "sequences are [length, *] with one *; number %d is %s, the first %s", i,
                     shape_text(x.sizes()).text, shape_text(first.sizes()).text);
        }
        return at::pad_sequence(tensors(xs), o.batch_first, o.value);
    });
}

namespace
{

/* Whether cuDNN takes the weights, and each has a storage of its own. */
bool can_be_flat(at::TensorList params)
{
    for (size_t i = 0; i < params.size(); i++) {
        if (!params[i].is_cuda() || params[i].scalar_type() != params[0].scalar_type() ||
            params[i].device() != params[0].device() || !at::cudnn_is_acceptable(params[i]))
            return false;
        for (size_t k = 0; k < i; k++)
            if (params[k].data_ptr() == params[i].data_ptr())
                return false;
    }
    return at::_use_cudnn_rnn_flatten_weight();
}

} // namespace

fdl_status fdl_rnn_flatten_opt(fdl_list params, fdl_rnn_kind kind, const fdl_rnn_flatten_opts *opts)
{
    const fdl_rnn_flatten_opts &o = or_default(opts);
    return OP_DO((params), {
        static const struct {
            int gates, mode; /* mode: cuDNN's number */
        } kinds[] = {{1, 1}, {1, 0}, {4, 2}, {3, 3}};
        if ((unsigned)kind >= sizeof kinds / sizeof *kinds)
            fail(FDL_E_ARG, "%d is no kind of recurrent layer", (int)kind);
        int64_t n = (o.layers ? o.layers : 1) * (int64_t)(o.bidirectional ? 2 : 1);
        if (n < 1 || params.n < 2 || params.n % n != 0)
            fail(FDL_E_ARG, "%d params for %lld layers and directions", params.n, (long long)n);
        const at::Tensor &w_ih = params.at[0]->t;
        const at::Tensor &w_hh = params.at[1]->t;
        int64_t gates = kinds[kind].gates, each = params.n / n;
        if (w_ih.dim() != 2 || w_hh.dim() != 2 || w_ih.size(0) % gates != 0 || w_hh.size(0) != w_ih.size(0) ||
            w_ih.numel() == 0)
            fail(FDL_E_SHAPE, "w_ih and w_hh are [%lld h, in] and [%lld h, h], got %s and %s",
                 (long long)gates, (long long)gates, shape_text(w_ih.sizes()).text,
                 shape_text(w_hh.sizes()).text);
        int64_t hidden = w_ih.size(0) / gates, projected = w_hh.size(1) == hidden ? 0 : w_hh.size(1);
        int64_t wanted = 2 + (o.no_bias ? 0 : 2) + (projected ? 1 : 0);
        if (each != wanted)
            fail(FDL_E_ARG, "%lld params a layer and direction; these have %lld", (long long)each,
                 (long long)wanted);
        tensors all(params);
        at::TensorList list = all;
        if (!can_be_flat(list))
            return;
        c10::NoGradGuard no_grad;
        c10::OptionalDeviceGuard on(w_ih.device());
        at::_cudnn_rnn_flatten_weight(list, each, w_ih.size(1), kinds[kind].mode, hidden, projected,
                                      o.layers ? o.layers : 1, o.batch_first, o.bidirectional);
    });
}
