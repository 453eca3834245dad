/* Recurrent cells: one step of an rnn, a gru or an lstm. */
#include "arguments.h"
#include "describe.h"
#include "module_private.h"
#include "module_private.h"
#include "onnx.h"
#include "flodl/nn.h"
#include "flodl/recurrent.h"
#include "flodl/shape.h"

typedef struct cell {
    int64_t hid;
    bool relu;
    fdl_tensor *w_ih, *w_hh, *b_ih, *b_hh;
} cell;

typedef struct cell_args {
    int64_t in, hid;
    fdl_nn_cell_opts o;
} cell_args;

/* A row is multiplied with both weights. */
static double cell_work(const fdl_call *c)
{
    const cell_args *a = c->args;
    fdl_shape w = fdl_shape_of(module_leaf(c->module, "weight_ih"));
    return (double)fdl_shape_numel(c->x) / (double)a->in * (double)w.d[0] * (double)(a->in + a->hid);
}

/* Gate rows [N, gates hid] of x and of h, then the equations. x of [N, in]. */
static const char *onnx_rows(fdl_onnx *o, const fdl_call *c, const char *x, const char *weight,
                             const char *bias)
{
    return onnx_linear(o, 2, x, onnx_param(o, c->module, weight), onnx_param(o, c->module, bias));
}

static const char *onnx_gate(fdl_onnx *o, const char *rows, int64_t hid, int i)
{
    return onnx_slice(o, rows, 1, i * hid, (i + 1) * hid);
}

/* Zeros beside x, of hid columns, whatever the batch is. */
static const char *onnx_zeros(fdl_onnx *o, const char *x, int64_t hid)
{
    const char *rows = onnx_slice(o, OP(o, "Shape", IN(x)), 0, 0, 1);
    const char *shape = OP_ATTR(o, "Concat", IN(rows, INTS(o, hid)), A_INT("axis", 0));
    return OP(o, "Expand", IN(onnx_number(o, 0), shape));
}

static const char *rnn_cell_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const cell_args *a = c->args;
    if (c->x.ndim != 2)
        return onnx_refuse(o, "a cell on a single row isn't told in ONNX; give it [N, in]");
    const char *h = c->inputs > 1 ? x[1] : onnx_zeros(o, *x, a->hid);
    const char *rows =
        OP(o, "Add",
           IN(onnx_rows(o, c, *x, "weight_ih", "bias_ih"), onnx_rows(o, c, h, "weight_hh", "bias_hh")));
    return onnx_one(o, a->o.relu ? "Relu" : "Tanh", IN(rows), NULL);
}

static const char *gru_cell_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const cell_args *a = c->args;
    if (c->x.ndim != 2)
        return onnx_refuse(o, "a cell on a single row isn't told in ONNX; give it [N, in]");
    const char *h = c->inputs > 1 ? x[1] : onnx_zeros(o, *x, a->hid);
    const char *gi = onnx_rows(o, c, *x, "weight_ih", "bias_ih"),
               *gh = onnx_rows(o, c, h, "weight_hh", "bias_hh");
    const char *r =
        OP(o, "Sigmoid", IN(OP(o, "Add", IN(onnx_gate(o, gi, a->hid, 0), onnx_gate(o, gh, a->hid, 0)))));
    const char *z =
        OP(o, "Sigmoid", IN(OP(o, "Add", IN(onnx_gate(o, gi, a->hid, 1), onnx_gate(o, gh, a->hid, 1)))));
    const char *reset = OP(o, "Mul", IN(r, onnx_gate(o, gh, a->hid, 2)));
    const char *n = OP(o, "Tanh", IN(OP(o, "Add", IN(onnx_gate(o, gi, a->hid, 2), reset))));
    return OP(o, "Add", IN(n, OP(o, "Mul", IN(z, OP(o, "Sub", IN(h, n))))));
}

/* h, or h beside c where the state came in so. */
static const char *lstm_cell_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const cell_args *a = c->args;
    if (c->x.ndim != 2)
        return onnx_refuse(o, "a cell on a single row isn't told in ONNX; give it [N, in]");
    bool packed = c->inputs > 1;
    const char *h = packed ? onnx_slice(o, x[1], 1, 0, a->hid) : onnx_zeros(o, *x, a->hid);
    const char *state = packed ? onnx_slice(o, x[1], 1, a->hid, 2 * a->hid) : h;
    const char *rows =
        OP(o, "Add",
           IN(onnx_rows(o, c, *x, "weight_ih", "bias_ih"), onnx_rows(o, c, h, "weight_hh", "bias_hh")));
    const char *gate[4];
    for (int i = 0; i < 4; i++)
        gate[i] = onnx_one(o, i == 2 ? "Tanh" : "Sigmoid", IN(onnx_gate(o, rows, a->hid, i)), NULL);
    const char *next = OP(o, "Add", IN(OP(o, "Mul", IN(gate[1], state)), OP(o, "Mul", IN(gate[0], gate[2]))));
    const char *out = OP(o, "Mul", IN(gate[3], OP(o, "Tanh", IN(next))));
    return packed ? OP_ATTR(o, "Concat", IN(out, next), A_INT("axis", 1)) : out;
}

#define CELL_KIND(id, name_, ...)                                                       \
    static fdl_module *make_##id(const void *args)                                      \
    {                                                                                   \
        const cell_args *a = args;                                                      \
        return fdl_nn_##id##_opt(a->in, a->hid, &a->o);                                 \
    }                                                                                   \
    KIND(id, .name = name_, .work = cell_work, .onnx = id##_onnx,                       \
         ARGS(cell_args, FDL_ARG(cell_args, in, INT64), FDL_ARG(cell_args, hid, INT64), \
              FDL_OPT(cell_args, no_bias, BOOL), __VA_ARGS__ FDL_OPT(cell_args, dtype, DTYPE)))

CELL_KIND(rnn_cell, "rnn_cell", FDL_OPT(cell_args, relu, BOOL), );
CELL_KIND(gru_cell, "grucell", );
CELL_KIND(lstm_cell, "lstmcell", );

static fdl_module *new_cell(const fdl_module_ops *ops, const fdl_kind *kind, const char *name, int gates,
                            int64_t in, int64_t hid, const fdl_nn_cell_opts *opts)
{
    const fdl_nn_cell_opts o = opts ? *opts : (fdl_nn_cell_opts){0};
    if (!arg_at_least(name, "in", in, 1) || !arg_at_least(name, "hid", hid, 1))
        return NULL;
    if (o.relu && gates != 1)
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_%s: relu is for an rnn_cell", name);
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(ops);
    cell *self = fdl_module_self(m);
    if (!self)
        return NULL;
    int64_t rows = gates * hid;
    self->hid = hid;
    self->relu = o.relu;
    self->w_ih = fdl_module_param(m, "weight_ih", new_uniform(FDL_SHAPE(rows, in), hid, o.dtype, o.device));
    self->w_hh = fdl_module_param(m, "weight_hh", new_uniform(FDL_SHAPE(rows, hid), hid, o.dtype, o.device));
    if (!o.no_bias) {
        self->b_ih = fdl_module_param(m, "bias_ih", new_uniform(FDL_SHAPE(rows), hid, o.dtype, o.device));
        self->b_hh = fdl_module_param(m, "bias_hh", new_uniform(FDL_SHAPE(rows), hid, o.dtype, o.device));
    }
    return described(m, kind, &(cell_args){in, hid, o});
}

/* Zeros for `size` state columns beside x [N, in], or [in]. */
static fdl_tensor *zeros_beside(fdl_tensor *x, int64_t size)
{
    fdl_shape s = fdl_shape_of(x);
    if (s.ndim < 1)
        return fdl_fail_null(FDL_E_SHAPE, "a recurrent cell takes [N, in] or [in], got a 0-d tensor");
    s.d[s.ndim - 1] = size;
    return fdl_zeros(s, .dtype = fdl_dtype_of(x), .device = fdl_device_of(x));
}

/* The self of m where it is a module of these ops; otherwise FDL_E_ARG. */
static cell *cell_of(const char *function, fdl_module *m, const fdl_module_ops *ops)
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

/* The state: the one further input, by whatever name it was wired; *state is NULL without one, and where zeros stand for it:
 * they are of x's width. */
static fdl_status take_state(const fdl_refs *r, fdl_tensor **state)
{
    size_t n = fdl_refs_count(r);
    bool zeros = n == 1 && fdl_refs_initial(r, fdl_refs_name(r, 0));
    *state = n == 1 && !zeros ? fdl_refs_at(r, 0) : NULL;
    return n <= 1 ? FDL_OK : fdl_fail(FDL_E_ARG, "a cell takes x and its state, got %zu inputs", n + 1);
}

/* ---- rnn_cell ----------------------------------------------------------------------------------- */

static fdl_tensor *rnn_cell_step(cell *m, fdl_tensor *x, fdl_tensor *h)
{
    if (!h)
        h = zeros_beside(x, m->hid);
    return fdl_rnn_cell(x, h, m->w_ih, m->w_hh, .b_ih = m->b_ih, .b_hh = m->b_hh, .relu = m->relu);
}

static fdl_tensor *rnn_cell_forward(void *self, fdl_tensor *x)
{
    return rnn_cell_step(self, x, NULL);
}

static fdl_tensor *rnn_cell_forward_named(void *self, fdl_tensor *x, const fdl_refs *r)
{
    fdl_tensor *h;
    FDL_TRY_NULL(take_state(r, &h));
    return rnn_cell_step(self, x, h);
}

static const fdl_module_ops rnn_cell_ops = {.kind = "rnn_cell",
                                            .size = sizeof(cell),
                                            .forward = rnn_cell_forward,
                                            .forward_named = rnn_cell_forward_named};

fdl_module *fdl_nn_rnn_cell_opt(int64_t in, int64_t hid, const fdl_nn_rnn_cell_opts *opts)
{
    return new_cell(&rnn_cell_ops, &kind_rnn_cell, "rnn_cell", 1, in, hid, opts);
}

fdl_tensor *fdl_nn_rnn_cell_forward_opt(fdl_module *m, fdl_tensor *x,
                                        const fdl_nn_rnn_cell_forward_opts *opts)
{
    cell *self = cell_of("fdl_nn_rnn_cell_forward", m, &rnn_cell_ops);
    if (!self)
        return NULL;
    FDL_SCOPE;
    MODULE_CALL(m);
    FDL_RETURN(rnn_cell_step(self, x, opts ? opts->h : NULL));
}

/* ---- gru_cell ----------------------------------------------------------------------------------- */

static fdl_tensor *gru_cell_step(cell *m, fdl_tensor *x, fdl_tensor *h)
{
    if (!h)
        h = zeros_beside(x, m->hid);
    return fdl_gru_cell(x, h, m->w_ih, m->w_hh, .b_ih = m->b_ih, .b_hh = m->b_hh);
}

static fdl_tensor *gru_cell_forward(void *self, fdl_tensor *x)
{
    return gru_cell_step(self, x, NULL);
}

static fdl_tensor *gru_cell_forward_named(void *self, fdl_tensor *x, const fdl_refs *r)
{
    fdl_tensor *h;
    FDL_TRY_NULL(take_state(r, &h));
    return gru_cell_step(self, x, h);
}

static const fdl_module_ops gru_cell_ops = {.kind = "grucell",
                                            .size = sizeof(cell),
                                            .forward = gru_cell_forward,
                                            .forward_named = gru_cell_forward_named};

fdl_module *fdl_nn_gru_cell_opt(int64_t in, int64_t hid, const fdl_nn_gru_cell_opts *opts)
{
    return new_cell(&gru_cell_ops, &kind_gru_cell, "gru_cell", 3, in, hid, opts);
}

fdl_tensor *fdl_nn_gru_cell_forward_opt(fdl_module *m, fdl_tensor *x,
                                        const fdl_nn_gru_cell_forward_opts *opts)
{
    cell *self = cell_of("fdl_nn_gru_cell_forward", m, &gru_cell_ops);
    if (!self)
        return NULL;
    FDL_SCOPE;
    MODULE_CALL(m);
    FDL_RETURN(gru_cell_step(self, x, opts ? opts->h : NULL));
}

/* ---- lstm_cell ---------------------------------------------------------------------------------- */

static fdl_tensor *lstm_cell_step(cell *m, fdl_tensor *x, fdl_tensor *h, fdl_tensor *c, fdl_tensor **c_out)
{
    return fdl_lstm_cell(x, h, c, m->w_ih, m->w_hh, .b_ih = m->b_ih, .b_hh = m->b_hh, .c_out = c_out);
}

/* h beside c in one tensor: in and out. */
static fdl_tensor *lstm_cell_packed(cell *m, fdl_tensor *x, fdl_tensor *state)
{
    if (!state)
        state = zeros_beside(x, 2 * m->hid);
    fdl_shape s = fdl_shape_of(state);
    if (s.ndim < 0)
        return NULL;
    if (s.ndim < 1 || s.d[s.ndim - 1] != 2 * m->hid) {
        char text[256];
        return fdl_fail_null(FDL_E_SHAPE,
                             "lstm_cell: the packed state is %s, its last extent must be %" PRId64,
                             fdl_describe(state, text, sizeof text), 2 * m->hid);
    }
    fdl_list both = fdl_chunk(state, 2, -1);
    fdl_tensor *c = NULL;
    fdl_tensor *h = lstm_cell_step(m, x, fdl_list_at(both, 0), fdl_list_at(both, 1), &c);
    return h ? fdl_cat(FDL_LIST(h, c), -1) : NULL;
}

static fdl_tensor *lstm_cell_forward(void *self, fdl_tensor *x)
{
    cell *m = self;
    fdl_tensor *zeros = zeros_beside(x, m->hid);
    return lstm_cell_step(m, x, zeros, zeros, NULL);
}

static fdl_tensor *lstm_cell_forward_named(void *self, fdl_tensor *x, const fdl_refs *r)
{
    fdl_tensor *state;
    FDL_TRY_NULL(take_state(r, &state));
    return fdl_refs_count(r) ? lstm_cell_packed(self, x, state) : lstm_cell_forward(self, x);
}

static const fdl_module_ops lstm_cell_ops = {.kind = "lstmcell",
                                             .size = sizeof(cell),
                                             .forward = lstm_cell_forward,
                                             .forward_named = lstm_cell_forward_named};

fdl_module *fdl_nn_lstm_cell_opt(int64_t in, int64_t hid, const fdl_nn_lstm_cell_opts *opts)
{
    return new_cell(&lstm_cell_ops, &kind_lstm_cell, "lstm_cell", 4, in, hid, opts);
}

fdl_tensor *fdl_nn_lstm_cell_forward(fdl_module *m, fdl_tensor *x, fdl_tensor *h, fdl_tensor *c,
                                     fdl_tensor **c_out)
{
    cell *self = cell_of("fdl_nn_lstm_cell_forward", m, &lstm_cell_ops);
    if (!self)
        return NULL;
    FDL_SCOPE;
    MODULE_CALL(m);
    fdl_tensor *next = NULL;
    fdl_tensor *y = lstm_cell_step(self, x, h, c, &next);
    if (c_out)
        *c_out = y ? fdl_escape(next) : NULL;
    FDL_RETURN(y);
}

fdl_tensor *fdl_nn_lstm_cell_step_opt(fdl_module *m, fdl_tensor *x, const fdl_nn_lstm_cell_step_opts *opts)
{
    cell *self = cell_of("fdl_nn_lstm_cell_step", m, &lstm_cell_ops);
    if (!self)
        return NULL;
    FDL_SCOPE;
    MODULE_CALL(m);
    FDL_RETURN(lstm_cell_packed(self, x, opts ? opts->state : NULL));
}
