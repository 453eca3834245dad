/* Sequences of several lengths in one batch, without computing on their padding. torch.nn.utils.rnn.
 *
 *     fdl_packed *p = fdl_pack_padded(x, lengths, .unsorted = true);
 *     fdl_packed *q = fdl_nn_lstm_forward_packed(lstm, p, .h_n = &last);
 *     fdl_tensor *y = fdl_pad_packed(q);
 *
 * A fdl_packed and its tensors belong to the scope in which they were made. */
#ifndef FLODL_PACKED_H
#define FLODL_PACKED_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* The steps of N sequences one behind the other: the first step of each, longest sequence first, then the second steps of those
 * that have one, ... PackedSequence. */
typedef struct fdl_packed fdl_packed;

typedef struct fdl_pack_padded_opts {
    fdl_by_name opts_;
    bool batch_first; /* x is [N, L, *] */
    bool unsorted;    /* lengths in any order: sequences are sorted here, and come back in their own order */
} fdl_pack_padded_opts;
/* torch.nn.utils.rnn.pack_padded_sequence: x [L, N, *] and lengths [N], int64 on the CPU (otherwise FDL_E_DTYPE, FDL_E_DEVICE),
 * each from 1 to L and the longest first unless .unsorted (FDL_E_ARG). Differentiable in x. Scope. */
FDL_API fdl_packed *fdl_pack_padded_opt(fdl_tensor *x, fdl_tensor *lengths, const fdl_pack_padded_opts *opts);

typedef struct fdl_pack_sequence_opts {
    fdl_by_name opts_;
    bool unsorted;
} fdl_pack_sequence_opts;
/* torch.nn.utils.rnn.pack_sequence: sequences [length, *] of their own, the longest first unless .unsorted (FDL_E_ARG). Scope. */
FDL_API fdl_packed *fdl_pack_sequence_opt(fdl_list xs, const fdl_pack_sequence_opts *opts);

typedef struct fdl_pad_packed_opts {
    fdl_by_name opts_;
    bool batch_first;     /* the result is [N, L, *] */
    double value;         /* of the padding, default 0 */
    int64_t total_length; /* L, at least the longest length (FDL_E_ARG); default: that */
    fdl_tensor **lengths; /* int64 [N] on the CPU, in the order of the sequences, filled when given (scope) */
} fdl_pad_packed_opts;
/* torch.nn.utils.rnn.pad_packed_sequence -> [L, N, *], the sequences in the order in which they were packed (scope). */
FDL_API fdl_tensor *fdl_pad_packed_opt(const fdl_packed *p, const fdl_pad_packed_opts *opts);

/* torch.nn.utils.rnn.unpack_sequence: the sequences [length, *] themselves, in the order in which they were packed (scope);
 * {0, NULL} on failure. */
FDL_API fdl_list fdl_unpack_sequence(const fdl_packed *p);

/* The same sequences with other values, data [S, *] with S as it is (FDL_E_SHAPE): such as an embedding of fdl_packed_data(p).
 * Scope; p and data must live as long. */
FDL_API fdl_packed *fdl_packed_with(const fdl_packed *p, fdl_tensor *data);

/* Its parts, borrowed: the steps [S, *], S the sum of all lengths; how many sequences have step i, int64 [longest length] on the
 * CPU; the number of each sequence, longest first, int64 [N], NULL without an error when they were packed without .unsorted. */
FDL_API fdl_tensor *fdl_packed_data(const fdl_packed *p);
FDL_API fdl_tensor *fdl_packed_batch_sizes(const fdl_packed *p);
FDL_API fdl_tensor *fdl_packed_order(const fdl_packed *p);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_pack_padded(x, ...) fdl_pack_padded_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_pack_padded_(x, lengths, ...) \
    fdl_pack_padded_opt(x, lengths, &(fdl_pack_padded_opts){__VA_ARGS__})
#define fdl_pack_sequence(...) fdl_pack_sequence_(__VA_ARGS__, .opts_ = 0)
#define fdl_pack_sequence_(xs, ...) fdl_pack_sequence_opt(xs, &(fdl_pack_sequence_opts){__VA_ARGS__})
#define fdl_pad_packed(...) fdl_pad_packed_(__VA_ARGS__, .opts_ = 0)
#define fdl_pad_packed_(p, ...) fdl_pad_packed_opt(p, &(fdl_pad_packed_opts){__VA_ARGS__})
#endif

#endif
