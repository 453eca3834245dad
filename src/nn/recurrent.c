/* Recurrent layers over whole sequences: rnn, gru, lstm. */
#include "flodl/recurrent.h"

#include "arguments.h"
#include "describe.h"
#include "module_private.h"
#include "onnx.h"
#include "packed.h"
#include "flodl/index.h"
#include "flodl/message.h"
#include "flodl/nn.h"
#include "flodl/shape.h"
#include "module_private.h"

typedef struct recurrent {
    fdl_rnn_kind kind;
    int64_t hid, out; /* columns of c, and of h */
    int layers, directions;
    bool no_bias, batch_first;
    double dropout;
    fdl_list params; /* the array is the module's, the leaves borrowed from it */
    uint64_t *seen;  /* [params.n] their fingerprints when they were laid out for cuDNN */
} recurrent;

static void recurrent_free(void *self)
{
    recurrent *m = self;
    free(m->params.at);
    free(m->seen);
}

/* ---- registering -------------------------------------------------------------------------------- */

/* One parameter of layer k, "weight_ih_l0_reverse"; drawn and registered. */
static void add_param(fdl_module *m, const char *leaf, int k, bool reverse, fdl_shape shape,
                      const fdl_nn_recurrent_opts *o)
{
    FDL_SCOPE;
    recurrent *self = fdl_module_self(m);
    char name[64];
    snprintf(name, sizeof name, "%s_l%d%s", leaf, k, reverse ? "_reverse" : "");
    fdl_tensor *init = new_uniform(shape, self->hid, o->dtype, o->device);
    self->params.at[self->params.n++] = fdl_module_param(m, name, init);
}

static bool good_options(const char *name, fdl_rnn_kind kind, int64_t in, int64_t hid,
                         const fdl_nn_recurrent_opts *o)
{
    if (!arg_at_least(name, "in", in, 1) || !arg_at_least(name, "hid", hid, 1) ||
        !arg_within(name, "layers", (double)o->layers, 0, 1 << 20) ||
        !arg_within(name, "dropout", o->dropout, 0, 1))
        return false;
    if (o->relu && kind != FDL_RNN_TANH)
        fdl_fail(FDL_E_ARG, "fdl_nn_%s: relu is for an rnn; the gates of a %s are what they are", name, name);
    else if (o->proj != 0 && kind != FDL_RNN_LSTM)
        fdl_fail(FDL_E_ARG, "fdl_nn_%s: proj is %" PRId64 "; only an lstm projects", name, o->proj);
    else if (o->proj < 0 || o->proj >= hid)
        fdl_fail(FDL_E_ARG, "fdl_nn_%s: proj is %" PRId64 ", must be at least 0 and below hid, %" PRId64,
                 name, o->proj, hid);
    else
        return true;
    return false;
}

/* cuDNN's layout, where it computes; parameters stay what they are. */
static fdl_status lay_out(recurrent *m)
{
    if (fdl_module_of(m)->computed) /* a weight that is another tensor in each run: cuDNN gets copies */
        return FDL_OK;
    FDL_TRY(fdl_rnn_flatten(m->params, m->kind, .layers = m->layers, .no_bias = m->no_bias,
                            .bidirectional = m->directions == 2, .batch_first = m->batch_first));
    for (int i = 0; i < m->params.n; i++)
        m->seen[i] = fdl_fingerprint(m->params.at[i]);
    return FDL_OK;
}

static fdl_status recurrent_to(void *self, fdl_device d)
{
    (void)d;
    return lay_out(self);
}

/* Before a run on x: somebody may have given a parameter other storage, past fdl_param_set. */
static fdl_status stay_laid_out(recurrent *m, fdl_tensor *x)
{
    if (fdl_device_of(x).type != FDL_DEVICE_TYPE_CUDA)
        return FDL_OK;
    for (int i = 0; i < m->params.n; i++)
        if (FDL_UNLIKELY(m->seen[i] != fdl_fingerprint(m->params.at[i])))
            return lay_out(m);
    return FDL_OK;
}

typedef struct recurrent_args {
    int64_t in, hid;
    fdl_nn_recurrent_opts o;
} recurrent_args;

static int gates_of(fdl_rnn_kind kind)
{
    return kind == FDL_RNN_LSTM ? 4 : kind == FDL_RNN_GRU ? 3 : 1;
}

/* Each step of each sequence is multiplied with every matrix. */
static double recurrent_work(const fdl_call *c)
{
    FDL_SCOPE;
    const recurrent_args *a = c->args;
    double steps = (double)fdl_shape_numel(c->x) / (double)a->in, elements = 0;
    fdl_params *ps = fdl_parameters(c->module, .min_ndim = 2);
    for (int i = 0; i < fdl_params_count(ps); i++)
        elements += (double)fdl_numel(fdl_param_tensor(fdl_params_at(ps, i)));
    return steps * elements;
}

/* Rows of the gates in ONNX's order, from PyTorch's: `from` has the places. */
static fdl_tensor *reordered(fdl_tensor *w, int gates, const int *from)
{
    fdl_tensor *parts[4];
    fdl_list chunks = fdl_chunk(w, gates, 0);
    for (int i = 0; i < gates; i++)
        parts[i] = fdl_list_at(chunks, from[i]);
    return fdl_cat((fdl_list){gates, parts}, 0);
}

/* Both directions of a layer's parameter, one behind the other [D, ...]. */
static fdl_tensor *onnx_stacked(fdl_onnx *o, const fdl_call *c, const recurrent *m, int k, const char *leaf,
                                int gates, const int *from)
{
    fdl_tensor *parts[2];
    for (int d = 0; d < m->directions; d++) {
        char name[64];
        snprintf(name, sizeof name, "%s_l%d%s", leaf, k, d ? "_reverse" : "");
        fdl_tensor *w = onnx_values(o, c->module, name);
        parts[d] = reordered(w ? fdl_to_device(fdl_detach(w), FDL_CPU) : NULL, gates, from);
    }
    return fdl_stack((fdl_list){m->directions, parts}, 0);
}

/* One layer: [L, N, in] -> [L, N, D H]. */
static const char *onnx_layer(fdl_onnx *o, const fdl_call *c, const recurrent *m, int k, const char *x)
{
    /* z r h of r z n; i o f c of i f g o */
    static const int rnn_order[] = {0}, gru_order[] = {1, 0, 2}, lstm_order[] = {0, 3, 1, 2};
    static const char *const relu[] = {"Relu", "Relu"}, *const tanh[] = {"Tanh", "Tanh"};
    const bool is_gru = m->kind == FDL_RNN_GRU, is_lstm = m->kind == FDL_RNN_LSTM;
    const int gates = gates_of(m->kind), *order = is_gru ? gru_order : is_lstm ? lstm_order : rnn_order;
    const char *at = onnx_place(o), *w[3] = {NULL, NULL, ""};
    w[0] =
        onnx_tensor(o, onnx_stacked(o, c, m, k, "weight_ih", gates, order), onnx_text(o, "%s/W_%d", at, k));
    w[1] =
        onnx_tensor(o, onnx_stacked(o, c, m, k, "weight_hh", gates, order), onnx_text(o, "%s/R_%d", at, k));
    if (!m->no_bias) {
        fdl_tensor *both[2] = {onnx_stacked(o, c, m, k, "bias_ih", gates, order),
                               onnx_stacked(o, c, m, k, "bias_hh", gates, order)};
        w[2] = onnx_tensor(o, fdl_cat((fdl_list){2, both}, 1), onnx_text(o, "%s/B_%d", at, k));
    }
    const onnx_attr hidden = A_INT("hidden_size", m->hid),
                    direction = A_TEXT("direction", m->directions == 2 ? "bidirectional" : "forward"),
                    function = A_TEXTS("activations", m->directions, m->kind == FDL_RNN_RELU ? relu : tanh),
                    reset = A_INT("linear_before_reset", 1);
    const char *y = is_gru    ? OP_ATTR(o, "GRU", IN(x, w[0], w[1], w[2]), hidden, direction, reset)
                    : is_lstm ? OP_ATTR(o, "LSTM", IN(x, w[0], w[1], w[2]), hidden, direction)
                              : OP_ATTR(o, "RNN", IN(x, w[0], w[1], w[2]), hidden, direction, function);
    return OP(o, "Reshape", IN(TRANSPOSE(o, y, 0, 2, 1, 3), INTS(o, 0, 0, -1)));
}

static const char *recurrent_onnx(fdl_onnx *o, const fdl_call *c, const char *const *inputs)
{
    const recurrent *m = fdl_module_self(c->module);
    if (m->out != m->hid)
        return onnx_refuse(o, "a projection (.proj) isn't told in ONNX");
    const char *x = *inputs;
    bool unbatched = c->x.ndim == 2, turned = !unbatched && m->batch_first;
    x = unbatched ? onnx_unsqueeze(o, x, 1) : turned ? TRANSPOSE(o, x, 1, 0, 2) : x;
    for (int k = 0; k < m->layers; k++)
        x = onnx_layer(o, c, m, k, x);
    return unbatched ? onnx_squeeze(o, x, 1) : turned ? TRANSPOSE(o, x, 1, 0, 2) : x;
}

#define RECURRENT_KIND(id, ...)                                                                         \
    static fdl_module *make_##id(const void *args)                                                      \
    {                                                                                                   \
        const recurrent_args *a = args;                                                                 \
        return fdl_nn_##id##_opt(a->in, a->hid, &a->o);                                                 \
    }                                                                                                   \
    KIND(id, .name = #id, .work = recurrent_work, .onnx = recurrent_onnx,                               \
         ARGS(recurrent_args, FDL_ARG(recurrent_args, in, INT64), FDL_ARG(recurrent_args, hid, INT64),  \
              FDL_OPT(recurrent_args, layers, INT64), FDL_OPT(recurrent_args, no_bias, BOOL),           \
              FDL_OPT(recurrent_args, batch_first, BOOL), FDL_OPT(recurrent_args, dropout, OPT_DOUBLE), \
              FDL_OPT(recurrent_args, bidirectional, BOOL),                                             \
              __VA_ARGS__ FDL_OPT(recurrent_args, dtype, DTYPE)))

RECURRENT_KIND(rnn, FDL_OPT(recurrent_args, relu, BOOL), );
RECURRENT_KIND(gru, );
RECURRENT_KIND(lstm, FDL_OPT(recurrent_args, proj, INT64), );

static fdl_module *new_recurrent(const fdl_module_ops *ops, const fdl_kind *kind, fdl_rnn_kind rnn,
                                 int64_t in, int64_t hid, const fdl_nn_recurrent_opts *opts)
{
    const fdl_nn_recurrent_opts o = opts ? *opts : (fdl_nn_recurrent_opts){0};
    if (!good_options(ops->kind, rnn, in, hid, &o))
        return NULL;
    fdl_module *m = fdl_module_new(ops);
    recurrent *self = fdl_module_self(m);
    if (!self)
        return NULL;
    *self = (recurrent){.kind = o.relu ? FDL_RNN_RELU : rnn,
                        .hid = hid,
                        .out = o.proj ? o.proj : hid,
                        .layers = o.layers ? (int)o.layers : 1,
                        .directions = o.bidirectional ? 2 : 1,
                        .no_bias = o.no_bias,
                        .batch_first = o.batch_first,
                        .dropout = fdl_opt_double(o.dropout, 0)};
    enum { MOST_OF_ONE = 5 };
    size_t most = (size_t)self->layers * (size_t)self->directions * MOST_OF_ONE;
    self->params.at = calloc(most, sizeof *self->params.at);
    self->seen = calloc(most, sizeof *self->seen);
    if (!self->params.at || !self->seen) {
        fdl_module_free(m);
        return fdl_fail_null(FDL_E_OOM, "fdl_nn_%s: no memory for %d layers", ops->kind, self->layers);
    }
    if (self->dropout > 0 && self->layers == 1)
        fdl_msg_verbose("fdl_nn_%s: dropout %g has no effect: it is between layers, and there is one",
                        ops->kind, self->dropout);
    int64_t rows = gates_of(rnn) * hid;
    for (int k = 0; k < self->layers; k++)
        for (int reverse = 0; reverse < self->directions; reverse++) {
            int64_t columns = k == 0 ? in : self->directions * self->out;
            add_param(m, "weight_ih", k, reverse, FDL_SHAPE(rows, columns), &o);
            add_param(m, "weight_hh", k, reverse, FDL_SHAPE(rows, self->out), &o);
            if (!o.no_bias) {
                add_param(m, "bias_ih", k, reverse, FDL_SHAPE(rows), &o);
                add_param(m, "bias_hh", k, reverse, FDL_SHAPE(rows), &o);
            }
            if (o.proj)
                add_param(m, "weight_hr", k, reverse, FDL_SHAPE(o.proj, hid), &o);
        }
    m = described(m, kind, &(recurrent_args){in, hid, o});
    if (m && lay_out(self) != FDL_OK) {
        fdl_module_free(m);
        return NULL;
    }
    return m;
}

/* ---- running ------------------------------------------------------------------------------------ */

/* What a call takes and gives beside x. */
typedef struct states {
    fdl_tensor *h0, *c0, *h_n, *c_n;
} states;

/* Zeros to begin with: [directions layers, N, columns], without N for an unbatched x. */
static fdl_tensor *first_state(recurrent *m, fdl_tensor *x, fdl_tensor *batch_sizes, int64_t columns)
{
    fdl_shape s = fdl_shape_of(x);
    int64_t of_all = (int64_t)m->directions * m->layers;
    if (!batch_sizes && s.ndim != 2 && s.ndim != 3) {
        char text[256];
        return fdl_fail_null(FDL_E_SHAPE, "%s takes [%s, in] or [L, in], got %s",
                             fdl_module_kind(fdl_module_of(m)), m->batch_first ? "N, L" : "L, N",
                             fdl_describe(x, text, sizeof text));
    }
    fdl_shape shape = FDL_SHAPE(of_all, columns);
    if (batch_sizes)
        shape = FDL_SHAPE(of_all, fdl_item_i64(fdl_select(batch_sizes, 0, 0)), columns);
    else if (s.ndim == 3)
        shape = FDL_SHAPE(of_all, s.d[m->batch_first ? 0 : 1], columns);
    return fdl_zeros(shape, .dtype = fdl_dtype_of(x), .device = fdl_device_of(x));
}

/* x and the result are packed where batch_sizes is given. */
static fdl_tensor *run(recurrent *m, fdl_tensor *x, fdl_tensor *batch_sizes, states *s)
{
    FDL_TRY_NULL(stay_laid_out(m, x));
    fdl_tensor *h0 = s->h0 ? s->h0 : first_state(m, x, batch_sizes, m->out);
    bool training = fdl_is_training(fdl_module_of(m)), both = m->directions == 2;
    if (m->kind == FDL_RNN_LSTM)
        return fdl_lstm(x, h0, s->c0 ? s->c0 : first_state(m, x, batch_sizes, m->hid), m->params,
                        .layers = m->layers, .no_bias = m->no_bias, .dropout = m->dropout,
                        .training = training, .bidirectional = both, .batch_first = m->batch_first,
                        .h_n = &s->h_n, .c_n = &s->c_n, .batch_sizes = batch_sizes);
    if (m->kind == FDL_RNN_GRU)
        return fdl_gru(x, h0, m->params, .layers = m->layers, .no_bias = m->no_bias, .dropout = m->dropout,
                       .training = training, .bidirectional = both, .batch_first = m->batch_first,
                       .h_n = &s->h_n, .batch_sizes = batch_sizes);
    return fdl_rnn(x, h0, m->params, .layers = m->layers, .no_bias = m->no_bias, .dropout = m->dropout,
                   .training = training, .bidirectional = both, .batch_first = m->batch_first,
                   .relu = m->kind == FDL_RNN_RELU, .h_n = &s->h_n, .batch_sizes = batch_sizes);
}

static fdl_tensor *recurrent_forward(void *self, fdl_tensor *x)
{
    return run(self, x, NULL, &(states){0});
}

#define RECURRENT_OPS(name)                                                 \
    static const fdl_module_ops name##_ops = {.kind = #name,                \
                                              .size = sizeof(recurrent),    \
                                              .forward = recurrent_forward, \
                                              .to = recurrent_to,           \
                                              .free = recurrent_free}
RECURRENT_OPS(rnn);
RECURRENT_OPS(gru);
RECURRENT_OPS(lstm);

fdl_module *fdl_nn_rnn_opt(int64_t in, int64_t hid, const fdl_nn_rnn_opts *opts)
{
    return new_recurrent(&rnn_ops, &kind_rnn, FDL_RNN_TANH, in, hid, opts);
}

fdl_module *fdl_nn_gru_opt(int64_t in, int64_t hid, const fdl_nn_gru_opts *opts)
{
    return new_recurrent(&gru_ops, &kind_gru, FDL_RNN_GRU, in, hid, opts);
}

fdl_module *fdl_nn_lstm_opt(int64_t in, int64_t hid, const fdl_nn_lstm_opts *opts)
{
    return new_recurrent(&lstm_ops, &kind_lstm, FDL_RNN_LSTM, in, hid, opts);
}

/* ---- with states of one's own --------------------------------------------------------------------- */

/* Where the caller wants results; each is NULL until the call has succeeded. */
typedef struct wanted {
    fdl_tensor **h_n, **c_n;
} wanted;

static recurrent *begin(const char *function, fdl_module *m, const fdl_module_ops *ops, const void *x,
                        const states *s, wanted w)
{
    if (w.h_n)
        *w.h_n = NULL;
    if (w.c_n)
        *w.c_n = NULL;
    if (!m || !x) {
        fdl_null_operand(function, m ? "x" : "m");
        return NULL;
    }
    if (fdl_module_ops_of(m) != ops)
        return fdl_fail_null(FDL_E_ARG, "%s: m is a %s, must be a %s", function, fdl_module_kind(m),
                             ops->kind);
    if (!s->h0 != !s->c0 && ops == &lstm_ops)
        return fdl_fail_null(FDL_E_ARG, "%s: only .%s is given; it needs both .h0 and .c0, or none", function,
                             s->h0 ? "h0" : "c0");
    return fdl_module_self(m);
}

static fdl_tensor *forward_with(const char *function, fdl_module *m, const fdl_module_ops *ops, fdl_tensor *x,
                                states s, wanted w)
{
    recurrent *self = begin(function, m, ops, x, &s, w);
    if (!self)
        return NULL;
    FDL_SCOPE;
    MODULE_CALL(m);
    fdl_tensor *y = run(self, x, NULL, &s);
    if (w.h_n && y)
        *w.h_n = fdl_escape(s.h_n);
    if (w.c_n && y)
        *w.c_n = fdl_escape(s.c_n);
    FDL_RETURN(y);
}

/* The states of the sequences in another order, in place; order NULL: as they are. */
static bool put_in_order(fdl_tensor **state, fdl_tensor *order)
{
    if (*state && order)
        return (*state = fdl_index_select(*state, 1, order)) != NULL;
    return true;
}

static fdl_packed *forward_packed(const char *function, fdl_module *m, const fdl_module_ops *ops,
                                  const fdl_packed *x, states s, wanted w)
{
    recurrent *self = begin(function, m, ops, x, &s, w);
    if (!self)
        return NULL;
    fdl_tensor *y = NULL, *h_n = NULL, *c_n = NULL;
    {
        FDL_SCOPE;
        MODULE_CALL(m);
        if (put_in_order(&s.h0, x->sorted) && put_in_order(&s.c0, x->sorted))
            y = run(self, x->data, x->batch_sizes, &s);
        if (y && put_in_order(&s.h_n, x->unsorted) && put_in_order(&s.c_n, x->unsorted)) {
            fdl_escape(y);
            h_n = w.h_n ? fdl_escape(s.h_n) : NULL;
            c_n = w.c_n ? fdl_escape(s.c_n) : NULL;
        } else {
            y = NULL;
        }
    }
    fdl_packed *packed = y ? fdl_packed_with(x, y) : NULL;
    if (packed && w.h_n)
        *w.h_n = h_n;
    if (packed && w.c_n)
        *w.c_n = c_n;
    return packed;
}

fdl_tensor *fdl_nn_rnn_forward_opt(fdl_module *m, fdl_tensor *x, const fdl_nn_rnn_forward_opts *opts)
{
    const fdl_nn_rnn_forward_opts o = opts ? *opts : (fdl_nn_rnn_forward_opts){0};
    return forward_with("fdl_nn_rnn_forward", m, &rnn_ops, x, (states){.h0 = o.h0}, (wanted){.h_n = o.h_n});
}

fdl_packed *fdl_nn_rnn_forward_packed_opt(fdl_module *m, const fdl_packed *x,
                                          const fdl_nn_rnn_forward_opts *opts)
{
    const fdl_nn_rnn_forward_opts o = opts ? *opts : (fdl_nn_rnn_forward_opts){0};
    return forward_packed("fdl_nn_rnn_forward_packed", m, &rnn_ops, x, (states){.h0 = o.h0},
                          (wanted){.h_n = o.h_n});
}

fdl_tensor *fdl_nn_gru_forward_opt(fdl_module *m, fdl_tensor *x, const fdl_nn_gru_forward_opts *opts)
{
    const fdl_nn_gru_forward_opts o = opts ? *opts : (fdl_nn_gru_forward_opts){0};
    return forward_with("fdl_nn_gru_forward", m, &gru_ops, x, (states){.h0 = o.h0}, (wanted){.h_n = o.h_n});
}

fdl_packed *fdl_nn_gru_forward_packed_opt(fdl_module *m, const fdl_packed *x,
                                          const fdl_nn_gru_forward_opts *opts)
{
    const fdl_nn_gru_forward_opts o = opts ? *opts : (fdl_nn_gru_forward_opts){0};
    return forward_packed("fdl_nn_gru_forward_packed", m, &gru_ops, x, (states){.h0 = o.h0},
                          (wanted){.h_n = o.h_n});
}

fdl_tensor *fdl_nn_lstm_forward_opt(fdl_module *m, fdl_tensor *x, const fdl_nn_lstm_forward_opts *opts)
{
    const fdl_nn_lstm_forward_opts o = opts ? *opts : (fdl_nn_lstm_forward_opts){0};
    return forward_with("fdl_nn_lstm_forward", m, &lstm_ops, x, (states){.h0 = o.h0, .c0 = o.c0},
                        (wanted){.h_n = o.h_n, .c_n = o.c_n});
}

fdl_packed *fdl_nn_lstm_forward_packed_opt(fdl_module *m, const fdl_packed *x,
                                           const fdl_nn_lstm_forward_opts *opts)
{
    const fdl_nn_lstm_forward_opts o = opts ? *opts : (fdl_nn_lstm_forward_opts){0};
    return forward_packed("fdl_nn_lstm_forward_packed", m, &lstm_ops, x, (states){.h0 = o.h0, .c0 = o.c0},
                          (wanted){.h_n = o.h_n, .c_n = o.c_n});
}
