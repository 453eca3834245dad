/* Recurrent layers and cells. torch.nn.RNN, GRU, LSTM, RNNCell, GRUCell, LSTMCell. nn.h says what holds for all constructors. */
#ifndef FLODL_NN_RECURRENT_H
#define FLODL_NN_RECURRENT_H

#include "flodl/module.h"
#include "flodl/packed.h"

FDL_BEGIN_DECLS

/* ---- recurrent layers --------------------------------------------------------------------------- */

/* D is 2 when bidirectional, else 1; H is hid, or proj where that is given. */
typedef struct fdl_nn_recurrent_opts {
    fdl_by_name opts_;
    int64_t layers; /* default 1 */
    bool no_bias;
    bool batch_first; /* [N, L, in] instead of [L, N, in]; states stay as they are */
    double dropout;   /* between layers, in training; default 0; with one layer nothing is dropped */
    bool bidirectional;
    int64_t proj; /* lstm only: h has this size, less than hid; default 0: hid */
    bool relu;    /* rnn only: instead of tanh */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_recurrent_opts;
typedef fdl_nn_recurrent_opts fdl_nn_rnn_opts;
typedef fdl_nn_recurrent_opts fdl_nn_gru_opts;
typedef fdl_nn_recurrent_opts fdl_nn_lstm_opts;
/* nn.RNN, nn.GRU, nn.LSTM: [L, N, in] or unbatched [L, in] -> the last layer's h of every step, [L, N, D H].
 * fdl_forward begins with zeros. Parameters of layer k, uniform within 1/sqrt(hid): weight_ih_lk,
 * weight_hh_lk, bias_ih_lk, bias_hh_lk, weight_hr_lk (proj), and the same with _reverse.
 *
 * On CUDA the weights lie in one buffer as cuDNN wants it, after a move, a cast, a load and fdl_param_set too; where a
 * parameter was given other storage, they are laid out again in the next run. */
FDL_API fdl_module *fdl_nn_rnn_opt(int64_t in, int64_t hid, const fdl_nn_rnn_opts *opts);
FDL_API fdl_module *fdl_nn_gru_opt(int64_t in, int64_t hid, const fdl_nn_gru_opts *opts);
FDL_API fdl_module *fdl_nn_lstm_opt(int64_t in, int64_t hid, const fdl_nn_lstm_opts *opts);

typedef struct fdl_nn_gru_forward_opts {
    fdl_by_name opts_;
    fdl_tensor *h0;   /* [D layers, N, hid], unbatched without N; default zeros */
    fdl_tensor **h_n; /* the last h of each layer and direction, of h0's shape (scope) */
} fdl_nn_gru_forward_opts;
typedef fdl_nn_gru_forward_opts fdl_nn_rnn_forward_opts;
typedef struct fdl_nn_lstm_forward_opts {
    fdl_by_name opts_;
    fdl_tensor *h0, *c0;     /* [D layers, N, H], [D layers, N, hid]: both or none (FDL_E_ARG) */
    fdl_tensor **h_n, **c_n; /* scope */
} fdl_nn_lstm_forward_opts;
/* A layer with its states: what fdl_forward gives (scope). A wrong shape of a state: FDL_E_SHAPE with the right one; m of another
 * kind: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_nn_rnn_forward_opt(fdl_module *m, fdl_tensor *x, const fdl_nn_rnn_forward_opts *opts);
FDL_API fdl_tensor *fdl_nn_gru_forward_opt(fdl_module *m, fdl_tensor *x, const fdl_nn_gru_forward_opts *opts);
FDL_API fdl_tensor *fdl_nn_lstm_forward_opt(fdl_module *m, fdl_tensor *x,
                                            const fdl_nn_lstm_forward_opts *opts);
/* The same on sequences of several lengths, data [S, in] -> data [S, D H], packed as x is; .batch_first of the layer says
 * nothing here. States are in the sequences' own order; h_n and c_n are those after each one's last step. Scope. */
FDL_API fdl_packed *fdl_nn_rnn_forward_packed_opt(fdl_module *m, const fdl_packed *x,
                                                  const fdl_nn_rnn_forward_opts *opts);
FDL_API fdl_packed *fdl_nn_gru_forward_packed_opt(fdl_module *m, const fdl_packed *x,
                                                  const fdl_nn_gru_forward_opts *opts);
FDL_API fdl_packed *fdl_nn_lstm_forward_packed_opt(fdl_module *m, const fdl_packed *x,
                                                   const fdl_nn_lstm_forward_opts *opts);

/* ---- recurrent cells: one step ------------------------------------------------------------------ */

typedef struct fdl_nn_cell_opts {
    fdl_by_name opts_;
    bool no_bias;
    bool relu; /* rnn_cell only: instead of tanh */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_cell_opts;
typedef fdl_nn_cell_opts fdl_nn_rnn_cell_opts;
typedef fdl_nn_cell_opts fdl_nn_gru_cell_opts;
typedef fdl_nn_cell_opts fdl_nn_lstm_cell_opts;
/* nn.RNNCell, nn.GRUCell, nn.LSTMCell: x [N, in] (or [in]) -> h [N, hid]. Parameters weight_ih [g hid, in],
 * weight_hh [g hid, hid], bias_ih, bias_hh [g hid], g 1, 3 (r, z, n) or 4 (i, f, g, o), uniform within
 * 1/sqrt(hid). fdl_forward(cell, x, h) of the first two steps from h; without it from zeros.
 * fdl_forward(lstm_cell, x) returns h, from zeros; fdl_forward(lstm_cell, x, state) is fdl_nn_lstm_cell_step. */
FDL_API fdl_module *fdl_nn_rnn_cell_opt(int64_t in, int64_t hid, const fdl_nn_rnn_cell_opts *opts);
FDL_API fdl_module *fdl_nn_gru_cell_opt(int64_t in, int64_t hid, const fdl_nn_gru_cell_opts *opts);
FDL_API fdl_module *fdl_nn_lstm_cell_opt(int64_t in, int64_t hid, const fdl_nn_lstm_cell_opts *opts);

typedef struct fdl_nn_gru_cell_forward_opts {
    fdl_by_name opts_;
    fdl_tensor *h; /* [N, hid]; default zeros */
} fdl_nn_gru_cell_forward_opts;
typedef fdl_nn_gru_cell_forward_opts fdl_nn_rnn_cell_forward_opts;
/* One step of a cell: h' [N, hid] (scope). m of another kind: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_nn_rnn_cell_forward_opt(fdl_module *m, fdl_tensor *x,
                                                const fdl_nn_rnn_cell_forward_opts *opts);
FDL_API fdl_tensor *fdl_nn_gru_cell_forward_opt(fdl_module *m, fdl_tensor *x,
                                                const fdl_nn_gru_cell_forward_opts *opts);
/* h', and c' in *c_out (scope; NULL: not wanted). */
FDL_API fdl_tensor *fdl_nn_lstm_cell_forward(fdl_module *m, fdl_tensor *x, fdl_tensor *h, fdl_tensor *c,
                                             fdl_tensor **c_out);
typedef struct fdl_nn_lstm_cell_step_opts {
    fdl_by_name opts_;
    fdl_tensor *state; /* [N, 2 hid]: h beside c; default zeros */
} fdl_nn_lstm_cell_step_opts;
/* The new state, packed as the old one: [N, 2 hid] (scope). */
FDL_API fdl_tensor *fdl_nn_lstm_cell_step_opt(fdl_module *m, fdl_tensor *x,
                                              const fdl_nn_lstm_cell_step_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_nn_rnn(in, ...) fdl_nn_rnn_(in, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_rnn_(in, hid, ...) fdl_nn_rnn_opt(in, hid, &(fdl_nn_rnn_opts){__VA_ARGS__})
#define fdl_nn_gru(in, ...) fdl_nn_gru_(in, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_gru_(in, hid, ...) fdl_nn_gru_opt(in, hid, &(fdl_nn_gru_opts){__VA_ARGS__})
#define fdl_nn_lstm(in, ...) fdl_nn_lstm_(in, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_lstm_(in, hid, ...) fdl_nn_lstm_opt(in, hid, &(fdl_nn_lstm_opts){__VA_ARGS__})
#define fdl_nn_rnn_forward(m, ...) fdl_nn_rnn_forward_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_rnn_forward_(m, x, ...) fdl_nn_rnn_forward_opt(m, x, &(fdl_nn_rnn_forward_opts){__VA_ARGS__})
#define fdl_nn_gru_forward(m, ...) fdl_nn_gru_forward_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_gru_forward_(m, x, ...) fdl_nn_gru_forward_opt(m, x, &(fdl_nn_gru_forward_opts){__VA_ARGS__})
#define fdl_nn_lstm_forward(m, ...) fdl_nn_lstm_forward_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_lstm_forward_(m, x, ...) \
    fdl_nn_lstm_forward_opt(m, x, &(fdl_nn_lstm_forward_opts){__VA_ARGS__})
#define fdl_nn_rnn_forward_packed(m, ...) fdl_nn_rnn_forward_packed_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_rnn_forward_packed_(m, x, ...) \
    fdl_nn_rnn_forward_packed_opt(m, x, &(fdl_nn_rnn_forward_opts){__VA_ARGS__})
#define fdl_nn_gru_forward_packed(m, ...) fdl_nn_gru_forward_packed_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_gru_forward_packed_(m, x, ...) \
    fdl_nn_gru_forward_packed_opt(m, x, &(fdl_nn_gru_forward_opts){__VA_ARGS__})
#define fdl_nn_lstm_forward_packed(m, ...) fdl_nn_lstm_forward_packed_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_lstm_forward_packed_(m, x, ...) \
    fdl_nn_lstm_forward_packed_opt(m, x, &(fdl_nn_lstm_forward_opts){__VA_ARGS__})
#define fdl_nn_rnn_cell(in, ...) fdl_nn_rnn_cell_(in, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_rnn_cell_(in, hid, ...) fdl_nn_rnn_cell_opt(in, hid, &(fdl_nn_rnn_cell_opts){__VA_ARGS__})
#define fdl_nn_rnn_cell_forward(m, ...) fdl_nn_rnn_cell_forward_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_rnn_cell_forward_(m, x, ...) \
    fdl_nn_rnn_cell_forward_opt(m, x, &(fdl_nn_rnn_cell_forward_opts){__VA_ARGS__})
#define fdl_nn_gru_cell(in, ...) fdl_nn_gru_cell_(in, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_gru_cell_(in, hid, ...) fdl_nn_gru_cell_opt(in, hid, &(fdl_nn_gru_cell_opts){__VA_ARGS__})
#define fdl_nn_lstm_cell(in, ...) fdl_nn_lstm_cell_(in, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_lstm_cell_(in, hid, ...) fdl_nn_lstm_cell_opt(in, hid, &(fdl_nn_lstm_cell_opts){__VA_ARGS__})
#define fdl_nn_gru_cell_forward(m, ...) fdl_nn_gru_cell_forward_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_gru_cell_forward_(m, x, ...) \
    fdl_nn_gru_cell_forward_opt(m, x, &(fdl_nn_gru_cell_forward_opts){__VA_ARGS__})
#define fdl_nn_lstm_cell_step(m, ...) fdl_nn_lstm_cell_step_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_lstm_cell_step_(m, x, ...) \
    fdl_nn_lstm_cell_step_opt(m, x, &(fdl_nn_lstm_cell_step_opts){__VA_ARGS__})
#endif

#endif
