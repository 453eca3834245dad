/* Recurrent layers over whole sequences: gru, lstm. */
#include "flodl/recurrent.h"

#include "arguments.h"
#include "describe.h"
#include "onnx.h"
#include "flodl/nn.h"
#include "flodl/shape.h"

typedef struct recurrent {
    int64_t hid, out; /* columns of c, and of h */
    int layers, directions;
    bool no_bias, batch_first;
    double dropout;
    fdl_list params; /* the array is the module's, the leaves borrowed from it */
} recurrent;

static void recurrent_free(void *self)
{
    recurrent *m = self;
    free(m->params.at);
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

static bool good_options(const char *name, int64_t in, int64_t hid, const fdl_nn_recurrent_opts *o,
                         bool can_project)
{
    if (!arg_at_least(name, "in", in, 1) || !arg_at_least(name, "hid", hid, 1) ||
        !arg_within(name, "layers", (double)o->layers, 0, 1 << 20) ||
        !arg_within(name, "dropout", o->dropout, 0, 1))
        return false;
    if (o->proj != 0 && !can_project)
        fdl_fail(FDL_E_ARG, "fdl_nn_%s: proj is %" PRId64 "; only an lstm projects", name, o->proj);
    else if (o->proj < 0 || o->proj >= hid)
        fdl_fail(FDL_E_ARG, "fdl_nn_%s: proj is %" PRId64 ", must be at least 0 and below hid, %" PRId64,
                 name, o->proj, hid);
    else
        return true;
    return false;
}

/* cuDNN's layout, where it computes; parameters stay what they are. */
static fdl_status flatten(recurrent *m, fdl_rnn_kind kind)
{
    return fdl_rnn_flatten(m->params, kind, .layers = m->layers, .no_bias = m->no_bias,
                           .bidirectional = m->directions == 2, .batch_first = m->batch_first);
}

typedef struct recurrent_args {
    int64_t in, hid;
    fdl_nn_recurrent_opts o;
} recurrent_args;

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
static const char *onnx_layer(fdl_onnx *o, const fdl_call *c, const recurrent *m, int k, bool is_gru,
                              const char *x)
{
    static const int gru_order[] = {1, 0, 2},
                     lstm_order[] = {0, 3, 1, 2}; /* z r h of r z n; i o f c of i f g o */
    const int gates = is_gru ? 3 : 4, *order = is_gru ? gru_order : lstm_order;
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
    const char *direction = m->directions == 2 ? "bidirectional" : "forward";
    const char *y = is_gru ? OP_ATTR(o, "GRU", IN(x, w[0], w[1], w[2]), A_INT("hidden_size", m->hid),
                                     A_TEXT("direction", direction), A_INT("linear_before_reset", 1))
                           : OP_ATTR(o, "LSTM", IN(x, w[0], w[1], w[2]), A_INT("hidden_size", m->hid),
                                     A_TEXT("direction", direction));
    return OP(o, "Reshape", IN(TRANSPOSE(o, y, 0, 2, 1, 3), INTS(o, 0, 0, -1)));
}

static const char *onnx_layers(fdl_onnx *o, const fdl_call *c, bool is_gru, const char *x)
{
    const recurrent *m = fdl_module_self(c->module);
    if (m->out != m->hid)
        return onnx_refuse(o, "a projection (.proj) isn't told in ONNX");
    bool unbatched = c->x.ndim == 2, turned = !unbatched && m->batch_first;
    x = unbatched ? onnx_unsqueeze(o, x, 1) : turned ? TRANSPOSE(o, x, 1, 0, 2) : x;
    for (int k = 0; k < m->layers; k++)
        x = onnx_layer(o, c, m, k, is_gru, x);
    return unbatched ? onnx_squeeze(o, x, 1) : turned ? TRANSPOSE(o, x, 1, 0, 2) : x;
}

static const char *gru_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return onnx_layers(o, c, true, *x);
}

static const char *lstm_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return onnx_layers(o, c, false, *x);
}

#define RECURRENT_KIND(id, ...)                                                                         \
    static fdl_module *make_##id(const void *args)                                                      \
    {                                                                                                   \
        const recurrent_args *a = args;                                                                 \
        return fdl_nn_##id##_opt(a->in, a->hid, &a->o);                                                 \
    }                                                                                                   \
    KIND(id, .name = #id, .work = recurrent_work, .onnx = id##_onnx,                                    \
         ARGS(recurrent_args, FDL_ARG(recurrent_args, in, INT64), FDL_ARG(recurrent_args, hid, INT64),  \
              FDL_OPT(recurrent_args, layers, INT64), FDL_OPT(recurrent_args, no_bias, BOOL),           \
              FDL_OPT(recurrent_args, batch_first, BOOL), FDL_OPT(recurrent_args, dropout, OPT_DOUBLE), \
              FDL_OPT(recurrent_args, bidirectional, BOOL),                                             \
              __VA_ARGS__ FDL_OPT(recurrent_args, dtype, DTYPE)))

RECURRENT_KIND(gru, );
RECURRENT_KIND(lstm, FDL_OPT(recurrent_args, proj, INT64), );

static fdl_module *new_recurrent(const fdl_module_ops *ops, const fdl_kind *kind, int gates, int64_t in,
                                 int64_t hid, const fdl_nn_recurrent_opts *opts)
{
    const fdl_nn_recurrent_opts o = opts ? *opts : (fdl_nn_recurrent_opts){0};
    if (!good_options(ops->kind, in, hid, &o, gates == 4))
        return NULL;
    fdl_module *m = fdl_module_new(ops);
    recurrent *self = fdl_module_self(m);
    if (!self)
        return NULL;
    *self = (recurrent){.hid = hid,
                        .out = o.proj ? o.proj : hid,
                        .layers = o.layers ? (int)o.layers : 1,
                        .directions = o.bidirectional ? 2 : 1,
                        .no_bias = o.no_bias,
                        .batch_first = o.batch_first,
                        .dropout = fdl_opt_double(o.dropout, 0)};
    enum { MOST_OF_ONE = 5 };
    self->params.at =
        calloc((size_t)self->layers * (size_t)self->directions * MOST_OF_ONE, sizeof *self->params.at);
    if (!self->params.at) {
        fdl_module_free(m);
        return fdl_fail_null(FDL_E_OOM, "fdl_nn_%s: no memory for %d layers", ops->kind, self->layers);
    }
    for (int k = 0; k < self->layers; k++)
        for (int reverse = 0; reverse < self->directions; reverse++) {
            int64_t columns = k == 0 ? in : self->directions * self->out;
            add_param(m, "weight_ih", k, reverse, FDL_SHAPE(gates * hid, columns), &o);
            add_param(m, "weight_hh", k, reverse, FDL_SHAPE(gates * hid, self->out), &o);
            if (!o.no_bias) {
                add_param(m, "bias_ih", k, reverse, FDL_SHAPE(gates * hid), &o);
                add_param(m, "bias_hh", k, reverse, FDL_SHAPE(gates * hid), &o);
            }
            if (o.proj)
                add_param(m, "weight_hr", k, reverse, FDL_SHAPE(o.proj, hid), &o);
        }
    m = described(m, kind, &(recurrent_args){in, hid, o});
    if (m && ops->to(self, o.device) != FDL_OK) {
        fdl_module_free(m);
        return NULL;
    }
    return m;
}

/* ---- running ------------------------------------------------------------------------------------ */

/* Zeros to begin with: [directions layers, N, columns], without N for an unbatched x. */
static fdl_tensor *first_state(recurrent *m, fdl_tensor *x, int64_t columns)
{
    fdl_shape s = fdl_shape_of(x);
    int64_t states = (int64_t)m->directions * m->layers;
    if (s.ndim != 2 && s.ndim != 3) {
        char text[256];
        return fdl_fail_null(FDL_E_SHAPE, "%s takes [%s, in] or [L, in], got %s",
                             fdl_module_kind(fdl_module_of(m)), m->batch_first ? "N, L" : "L, N",
                             fdl_describe(x, text, sizeof text));
    }
    fdl_shape shape =
        s.ndim == 2 ? FDL_SHAPE(states, columns) : FDL_SHAPE(states, s.d[m->batch_first ? 0 : 1], columns);
    return fdl_zeros(shape, .dtype = fdl_dtype_of(x), .device = fdl_device_of(x));
}

static recurrent *recurrent_of(const char *function, fdl_module *m, const fdl_module_ops *ops)
{
    if (!m) {
        fdl_null_operand(function, "m");
        return NULL;
    }
    if (fdl_module_ops_of(m) != ops)
        return fdl_fail_null(FDL_E_ARG, "%s: m is a %s, must be a %s", function, fdl_module_kind(m),
                             ops->kind);
    return fdl_module_self(m);
}

/* ---- gru ---------------------------------------------------------------------------------------- */

static fdl_tensor *gru_run(recurrent *m, fdl_tensor *x, fdl_tensor *h0, fdl_tensor **h_n)
{
    if (!x)
        return fdl_null_operand("fdl_nn_gru_forward", "x"), NULL;
    if (!h0)
        h0 = first_state(m, x, m->hid);
    return fdl_gru(x, h0, m->params, .layers = m->layers, .no_bias = m->no_bias, .dropout = m->dropout,
                   .training = fdl_is_training(fdl_module_of(m)), .bidirectional = m->directions == 2,
                   .batch_first = m->batch_first, .h_n = h_n);
}

static fdl_tensor *gru_forward(void *self, fdl_tensor *x)
{
    return gru_run(self, x, NULL, NULL);
}

static fdl_status gru_to(void *self, fdl_device d)
{
    (void)d;
    return flatten(self, FDL_RNN_GRU);
}

static const fdl_module_ops gru_ops = {
    .kind = "gru", .size = sizeof(recurrent), .forward = gru_forward, .to = gru_to, .free = recurrent_free};

fdl_module *fdl_nn_gru_opt(int64_t in, int64_t hid, const fdl_nn_gru_opts *opts)
{
    return new_recurrent(&gru_ops, &kind_gru, 3, in, hid, opts);
}

fdl_tensor *fdl_nn_gru_forward_opt(fdl_module *m, fdl_tensor *x, const fdl_nn_gru_forward_opts *opts)
{
    const fdl_nn_gru_forward_opts o = opts ? *opts : (fdl_nn_gru_forward_opts){0};
    recurrent *self = recurrent_of("fdl_nn_gru_forward", m, &gru_ops);
    if (!self)
        return NULL;
    FDL_SCOPE;
    fdl_tensor *h = NULL;
    fdl_tensor *y = gru_run(self, x, o.h0, &h);
    if (o.h_n)
        *o.h_n = y ? fdl_escape(h) : NULL;
    FDL_RETURN(y);
}

/* ---- lstm --------------------------------------------------------------------------------------- */

static fdl_tensor *lstm_run(recurrent *m, fdl_tensor *x, fdl_tensor *h0, fdl_tensor *c0, fdl_tensor **h_n,
                            fdl_tensor **c_n)
{
    if (!x)
        return fdl_null_operand("fdl_nn_lstm_forward", "x"), NULL;
    if (!h0 != !c0)
        return fdl_fail_null(FDL_E_ARG,
                             "fdl_nn_lstm_forward: only .%s is given; it needs both .h0 and .c0, or none",
                             h0 ? "h0" : "c0");
    if (!h0) {
        h0 = first_state(m, x, m->out);
        c0 = first_state(m, x, m->hid);
    }
    return fdl_lstm(x, h0, c0, m->params, .layers = m->layers, .no_bias = m->no_bias, .dropout = m->dropout,
                    .training = fdl_is_training(fdl_module_of(m)), .bidirectional = m->directions == 2,
                    .batch_first = m->batch_first, .h_n = h_n, .c_n = c_n);
}

static fdl_tensor *lstm_forward(void *self, fdl_tensor *x)
{
    return lstm_run(self, x, NULL, NULL, NULL, NULL);
}

static fdl_status lstm_to(void *self, fdl_device d)
{
    (void)d;
    return flatten(self, FDL_RNN_LSTM);
}

static const fdl_module_ops lstm_ops = {.kind = "lstm",
                                        .size = sizeof(recurrent),
                                        .forward = lstm_forward,
                                        .to = lstm_to,
                                        .free = recurrent_free};

fdl_module *fdl_nn_lstm_opt(int64_t in, int64_t hid, const fdl_nn_lstm_opts *opts)
{
    return new_recurrent(&lstm_ops, &kind_lstm, 4, in, hid, opts);
}

fdl_tensor *fdl_nn_lstm_forward_opt(fdl_module *m, fdl_tensor *x, const fdl_nn_lstm_forward_opts *opts)
{
    const fdl_nn_lstm_forward_opts o = opts ? *opts : (fdl_nn_lstm_forward_opts){0};
    recurrent *self = recurrent_of("fdl_nn_lstm_forward", m, &lstm_ops);
    if (!self)
        return NULL;
    FDL_SCOPE;
    fdl_tensor *h = NULL, *c = NULL;
    fdl_tensor *y = lstm_run(self, x, o.h0, o.c0, &h, &c);
    if (o.h_n)
        *o.h_n = y ? fdl_escape(h) : NULL;
    if (o.c_n)
        *o.c_n = y ? fdl_escape(c) : NULL;
    FDL_RETURN(y);
}
