/* Recurrent cells: one step of a gru or an lstm. */
#include "arguments.h"
#include "describe.h"
#include "flodl/nn.h"
#include "flodl/recurrent.h"
#include "flodl/shape.h"

typedef struct cell {
    int64_t hid;
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
    fdl_shape w = fdl_shape_of(fdl_param_tensor(fdl_module_own_param(c->module, "weight_ih")));
    return (double)fdl_shape_numel(c->x) / (double)a->in * (double)w.d[0] * (double)(a->in + a->hid);
}

#define CELL_KIND(id, name_)                                                            \
    static fdl_module *make_##id(const void *args)                                      \
    {                                                                                   \
        const cell_args *a = args;                                                      \
        return fdl_nn_##id##_opt(a->in, a->hid, &a->o);                                 \
    }                                                                                   \
    KIND(id, .name = name_, .work = cell_work,                                          \
         ARGS(cell_args, FDL_ARG(cell_args, in, INT64), FDL_ARG(cell_args, hid, INT64), \
              FDL_OPT(cell_args, no_bias, BOOL), FDL_OPT(cell_args, dtype, DTYPE)))

CELL_KIND(gru_cell, "grucell");
CELL_KIND(lstm_cell, "lstmcell");

static fdl_module *new_cell(const fdl_module_ops *ops, const fdl_kind *kind, const char *name, int gates,
                            int64_t in, int64_t hid, const fdl_nn_cell_opts *opts)
{
    const fdl_nn_cell_opts o = opts ? *opts : (fdl_nn_cell_opts){0};
    if (!arg_at_least(name, "in", in, 1) || !arg_at_least(name, "hid", hid, 1))
        return NULL;
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(ops);
    cell *self = fdl_module_self(m);
    if (!self)
        return NULL;
    int64_t rows = gates * hid;
    self->hid = hid;
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
    FDL_RETURN(lstm_cell_packed(self, x, opts ? opts->state : NULL));
}
