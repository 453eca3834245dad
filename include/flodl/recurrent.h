/* Recurrent cells and layers. Differentiable in x, the states and every weight. The batch dim N may be
 * missing from x and the states together. Shapes that don't fit: FDL_E_SHAPE with the one that would. */
#ifndef FLODL_RECURRENT_H
#define FLODL_RECURRENT_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* ---- one step ---------------------------------------------------------------------------------------- */

typedef struct fdl_gru_cell_opts {
    fdl_by_name opts_;
    fdl_tensor *b_ih, *b_hh; /* [3h], both or none */
} fdl_gru_cell_opts;
/* torch.gru_cell: x [N, in], h [N, h], w_ih [3h, in], w_hh [3h, h] -> h' [N, h]. Gates r, z, n:
 * n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h' = (1 - z) n + z h. */
FDL_API fdl_tensor *fdl_gru_cell_opt(fdl_tensor *x, fdl_tensor *h, fdl_tensor *w_ih, fdl_tensor *w_hh,
                                     const fdl_gru_cell_opts *opts);

typedef struct fdl_lstm_cell_opts {
    fdl_by_name opts_;
    fdl_tensor *b_ih, *b_hh; /* [4h], both or none */
    fdl_tensor **c_out;      /* c' [N, h], filled when given (scope) */
} fdl_lstm_cell_opts;
/* torch.lstm_cell: x [N, in], h and c [N, h], w_ih [4h, in], w_hh [4h, h] -> h' [N, h]. Gates i, f, g, o:
 * c' = f c + i g, h' = o tanh(c'). */
FDL_API fdl_tensor *fdl_lstm_cell_opt(fdl_tensor *x, fdl_tensor *h, fdl_tensor *c, fdl_tensor *w_ih,
                                      fdl_tensor *w_hh, const fdl_lstm_cell_opts *opts);

typedef struct fdl_rnn_cell_opts {
    fdl_by_name opts_;
    fdl_tensor *b_ih, *b_hh; /* [h], both or none */
    bool relu;               /* instead of tanh */
} fdl_rnn_cell_opts;
/* torch.rnn_tanh_cell, torch.rnn_relu_cell: x [N, in], h [N, h], w_ih [h, in], w_hh [h, h] -> h' [N, h]:
 * tanh(W_ih x + b_ih + W_hh h + b_hh). */
FDL_API fdl_tensor *fdl_rnn_cell_opt(fdl_tensor *x, fdl_tensor *h, fdl_tensor *w_ih, fdl_tensor *w_hh,
                                     const fdl_rnn_cell_opts *opts);

/* ---- whole sequences ----------------------------------------------------------------------------------- */

/* D is 2 when bidirectional, else 1. params holds, for each layer and each direction in it, w_ih [G h, in],
 * w_hh [G h, h], and b_ih, b_hh [G h] unless .no_bias; G is 3 for gru, 4 for lstm, 1 for rnn; the first
 * layer's in is x's, a later one's D h. cuDNN is fastest with all of them in one flat buffer, which the
 * modules see to. */

typedef struct fdl_gru_opts {
    fdl_by_name opts_;
    int layers; /* default 1 */
    bool no_bias;
    double dropout; /* between layers, while training; in [0, 1], default 0 */
    bool training, bidirectional;
    bool batch_first;        /* x and the result are [N, L, *] */
    fdl_tensor **h_n;        /* the last states [D layers, N, h], filled when given (scope) */
    fdl_tensor *batch_sizes; /* of sequences of several lengths, below */
} fdl_gru_opts;
/* torch.gru: x [L, N, in], h0 [D layers, N, h] -> the last layer's h of each step [L, N, D h]. */
FDL_API fdl_tensor *fdl_gru_opt(fdl_tensor *x, fdl_tensor *h0, fdl_list params, const fdl_gru_opts *opts);

typedef struct fdl_lstm_opts {
    fdl_by_name opts_;
    int layers; /* default 1 */
    bool no_bias;
    double dropout;
    bool training, bidirectional, batch_first;
    fdl_tensor **h_n, **c_n; /* the last states, filled when given (scope) */
    fdl_tensor *batch_sizes;
} fdl_lstm_opts;
/* torch.lstm: x [L, N, in], h0 and c0 [D layers, N, h] -> [L, N, D h]. Where h0's last extent p is not c0's
 * h, there is a projection: h has p columns, w_hh is [4h, p], and w_hr [p, h] comes last for each layer and
 * direction. */
FDL_API fdl_tensor *fdl_lstm_opt(fdl_tensor *x, fdl_tensor *h0, fdl_tensor *c0, fdl_list params,
                                 const fdl_lstm_opts *opts);

typedef struct fdl_rnn_opts {
    fdl_by_name opts_;
    int layers; /* default 1 */
    bool no_bias;
    double dropout;
    bool training, bidirectional, batch_first;
    bool relu; /* instead of tanh */
    fdl_tensor **h_n;
    fdl_tensor *batch_sizes;
} fdl_rnn_opts;
/* torch.rnn_tanh, torch.rnn_relu: x [L, N, in], h0 [D layers, N, h] -> [L, N, D h], as fdl_gru. */
FDL_API fdl_tensor *fdl_rnn_opt(fdl_tensor *x, fdl_tensor *h0, fdl_list params, const fdl_rnn_opts *opts);

/* ---- sequences of several lengths ------------------------------------------------------------------------- */

/* Without their padding, step by step: the first steps of all N sequences, longest sequence first, then the second steps of
 * those that have one, ... With .batch_sizes, int64 [L] on the CPU, never growing: how many sequences have step i, each of the
 * functions above takes such an x [S, in], S the sum of all lengths, and gives [S, D h]; states are of the N sequences in
 * their order, h_n and c_n of each one's last step; .batch_first says nothing then. packed.h makes and takes such tensors. */

typedef struct fdl_pack_steps_opts {
    fdl_by_name opts_;
    bool batch_first;         /* x is [N, L, *] */
    fdl_tensor **batch_sizes; /* int64 [longest length] on the CPU, filled when given (scope) */
} fdl_pack_steps_opts;
/* torch._pack_padded_sequence: x [L, N, *], lengths [N] int64 on the CPU, from 1 to L, longest first (another order:
 * FDL_E_ARG) -> [S, *]. */
FDL_API fdl_tensor *fdl_pack_steps_opt(fdl_tensor *x, fdl_tensor *lengths, const fdl_pack_steps_opts *opts);

typedef struct fdl_unpack_steps_opts {
    fdl_by_name opts_;
    bool batch_first;     /* the result is [N, L, *] */
    double value;         /* of the padding, default 0 */
    int64_t total_length; /* L, at least the longest length; default: that */
    fdl_tensor **lengths; /* int64 [N] on the CPU, filled when given (scope) */
} fdl_unpack_steps_opts;
/* torch._pad_packed_sequence: x [S, *], batch_sizes as fdl_pack_steps gives them -> [L, N, *]. */
FDL_API fdl_tensor *fdl_unpack_steps_opt(fdl_tensor *x, fdl_tensor *batch_sizes,
                                         const fdl_unpack_steps_opts *opts);

typedef struct fdl_pad_sequence_opts {
    fdl_by_name opts_;
    bool batch_first; /* the result is [N, L, *] */
    double value;     /* of the padding, default 0 */
} fdl_pad_sequence_opts;
/* torch.nn.utils.rnn.pad_sequence: N sequences [length, *], of any lengths and otherwise one shape -> [L, N, *], L the longest
 * length. None: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_pad_sequence_opt(fdl_list xs, const fdl_pad_sequence_opts *opts);

/* ---- cuDNN's layout of the weights ----------------------------------------------------------------------- */

typedef enum fdl_rnn_kind { FDL_RNN_TANH = 0, FDL_RNN_RELU, FDL_RNN_LSTM, FDL_RNN_GRU } fdl_rnn_kind;

typedef struct fdl_rnn_flatten_opts {
    fdl_by_name opts_;
    int layers; /* default 1 */
    bool no_bias;
    bool bidirectional, batch_first;
} fdl_rnn_flatten_opts;
/* torch._cudnn_rnn_flatten_weight: moves the storage of params, as the functions above take them, into one buffer as cuDNN
 * wants it; otherwise each call would copy them there. Values, handles and gradients stay. Nothing happens, and nothing
 * is wrong, where cuDNN doesn't compute them: on the CPU, without cuDNN or with it switched off, with differing dtypes or
 * with two params on one storage. Params that don't fit together: FDL_E_ARG, FDL_E_SHAPE. */
FDL_API fdl_status fdl_rnn_flatten_opt(fdl_list params, fdl_rnn_kind kind, const fdl_rnn_flatten_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_rnn_flatten(params, ...) fdl_rnn_flatten_(params, __VA_ARGS__, .opts_ = 0)
#define fdl_rnn_flatten_(params, kind, ...) \
    fdl_rnn_flatten_opt(params, kind, &(fdl_rnn_flatten_opts){__VA_ARGS__})
#define fdl_pack_steps(x, ...) fdl_pack_steps_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_pack_steps_(x, lengths, ...) fdl_pack_steps_opt(x, lengths, &(fdl_pack_steps_opts){__VA_ARGS__})
#define fdl_unpack_steps(x, ...) fdl_unpack_steps_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_unpack_steps_(x, batch_sizes, ...) \
    fdl_unpack_steps_opt(x, batch_sizes, &(fdl_unpack_steps_opts){__VA_ARGS__})
#define fdl_pad_sequence(...) fdl_pad_sequence_(__VA_ARGS__, .opts_ = 0)
#define fdl_pad_sequence_(xs, ...) fdl_pad_sequence_opt(xs, &(fdl_pad_sequence_opts){__VA_ARGS__})
#define fdl_gru_cell(x, h, w_ih, ...) fdl_gru_cell_(x, h, w_ih, __VA_ARGS__, .opts_ = 0)
#define fdl_gru_cell_(x, h, w_ih, w_hh, ...) \
    fdl_gru_cell_opt(x, h, w_ih, w_hh, &(fdl_gru_cell_opts){__VA_ARGS__})
#define fdl_lstm_cell(x, h, c, w_ih, ...) fdl_lstm_cell_(x, h, c, w_ih, __VA_ARGS__, .opts_ = 0)
#define fdl_lstm_cell_(x, h, c, w_ih, w_hh, ...) \
    fdl_lstm_cell_opt(x, h, c, w_ih, w_hh, &(fdl_lstm_cell_opts){__VA_ARGS__})
#define fdl_rnn_cell(x, h, w_ih, ...) fdl_rnn_cell_(x, h, w_ih, __VA_ARGS__, .opts_ = 0)
#define fdl_rnn_cell_(x, h, w_ih, w_hh, ...) \
    fdl_rnn_cell_opt(x, h, w_ih, w_hh, &(fdl_rnn_cell_opts){__VA_ARGS__})
#define fdl_gru(x, h0, ...) fdl_gru_(x, h0, __VA_ARGS__, .opts_ = 0)
#define fdl_gru_(x, h0, params, ...) fdl_gru_opt(x, h0, params, &(fdl_gru_opts){__VA_ARGS__})
#define fdl_lstm(x, h0, c0, ...) fdl_lstm_(x, h0, c0, __VA_ARGS__, .opts_ = 0)
#define fdl_lstm_(x, h0, c0, params, ...) fdl_lstm_opt(x, h0, c0, params, &(fdl_lstm_opts){__VA_ARGS__})
#define fdl_rnn(x, h0, ...) fdl_rnn_(x, h0, __VA_ARGS__, .opts_ = 0)
#define fdl_rnn_(x, h0, params, ...) fdl_rnn_opt(x, h0, params, &(fdl_rnn_opts){__VA_ARGS__})
#endif

#endif
