/* The stock modules: torch.nn. Each constructor returns the module owned (fdl_module_free, or hand it to a
 * flow or to another module), or NULL. Options left out are PyTorch's defaults; parameters have PyTorch's
 * names, layouts and initial values: after fdl_manual_seed(s) the weights are those that torch.manual_seed(s)
 * and the same constructors give.
 *
 * A size that isn't positive or doesn't divide, an option that can't be: FDL_E_ARG, which names the argument.
 * .dtype and .device are those of the parameters: the thread's defaults when left out. */
#ifndef FLODL_NN_H
#define FLODL_NN_H

#include "flodl/activation.h"
#include "flodl/module.h"
#include "flodl/shape.h"

FDL_BEGIN_DECLS

/* ---- linear -------------------------------------------------------------------------------------------- */

typedef struct fdl_nn_linear_opts {
    int opts_;
    bool no_bias;
    fdl_param
        *tie; /* use this weight [out, in], such as an embedding's; listed and saved once, gradients add up */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_linear_opts;
/* nn.Linear: [*, in] -> [*, out], x weight^T + bias. Parameters weight [out, in], bias [out], uniform within
 * 1/sqrt(in). */
FDL_API fdl_module *fdl_nn_linear_opt(int64_t in, int64_t out, const fdl_nn_linear_opts *opts);

/* ---- activations: the shape of x stays; activation.h has their definitions and options ---------- */

FDL_API fdl_module *fdl_nn_relu(void);
FDL_API fdl_module *fdl_nn_sigmoid(void);
FDL_API fdl_module *fdl_nn_tanh(void);
FDL_API fdl_module *fdl_nn_silu(void);
FDL_API fdl_module *fdl_nn_mish(void);
FDL_API fdl_module *fdl_nn_selu(void);
FDL_API fdl_module *fdl_nn_hardswish(void);
FDL_API fdl_module *fdl_nn_hardsigmoid(void);
FDL_API fdl_module *fdl_nn_relu6(void);
FDL_API fdl_module *fdl_nn_logsigmoid(void);
FDL_API fdl_module *fdl_nn_softsign(void);
FDL_API fdl_module *fdl_nn_tanhshrink(void);

typedef fdl_gelu_opts fdl_nn_gelu_opts;
typedef fdl_leaky_relu_opts fdl_nn_leaky_relu_opts;
typedef fdl_elu_opts fdl_nn_elu_opts;
typedef fdl_elu_opts fdl_nn_celu_opts;
typedef fdl_softplus_opts fdl_nn_softplus_opts;
typedef fdl_hardtanh_opts fdl_nn_hardtanh_opts;
typedef fdl_shrink_opts fdl_nn_softshrink_opts;
typedef fdl_shrink_opts fdl_nn_hardshrink_opts;
/* .approximate = FDL_GELU_TANH. */
FDL_API fdl_module *fdl_nn_gelu_opt(const fdl_nn_gelu_opts *opts);
/* .negative_slope, 0.01. */
FDL_API fdl_module *fdl_nn_leaky_relu_opt(const fdl_nn_leaky_relu_opts *opts);
/* .alpha, 1; celu's is not 0. */
FDL_API fdl_module *fdl_nn_elu_opt(const fdl_nn_elu_opts *opts);
FDL_API fdl_module *fdl_nn_celu_opt(const fdl_nn_celu_opts *opts);
/* .beta, 1, not 0; .threshold, 20. */
FDL_API fdl_module *fdl_nn_softplus_opt(const fdl_nn_softplus_opts *opts);
/* .min, -1; .max, 1; min < max. */
FDL_API fdl_module *fdl_nn_hardtanh_opt(const fdl_nn_hardtanh_opts *opts);
/* .lambda, 0.5, not negative. */
FDL_API fdl_module *fdl_nn_softshrink_opt(const fdl_nn_softshrink_opts *opts);
FDL_API fdl_module *fdl_nn_hardshrink_opt(const fdl_nn_hardshrink_opts *opts);
/* x > at ? x : value. */
FDL_API fdl_module *fdl_nn_threshold(double at, double value);

typedef struct fdl_nn_rrelu_opts {
    int opts_;
    double lower, upper; /* of the slope: default 1/8 and 1/3; lower <= upper */
} fdl_nn_rrelu_opts;
/* nn.RReLU: a random slope for each element in training, their mean in evaluation. */
FDL_API fdl_module *fdl_nn_rrelu_opt(const fdl_nn_rrelu_opts *opts);

typedef struct fdl_nn_prelu_opts {
    int opts_;
    double init; /* default 0.25 */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_prelu_opts;
/* nn.PReLU: parameter weight [n], n being 1 or the extent of dim 1 (otherwise forward fails with
 * FDL_E_SHAPE). */
FDL_API fdl_module *fdl_nn_prelu_opt(int64_t n, const fdl_nn_prelu_opts *opts);

/* nn.Softmax, nn.LogSoftmax, nn.Softmin along dim. */
FDL_API fdl_module *fdl_nn_softmax(int dim);
FDL_API fdl_module *fdl_nn_log_softmax(int dim);
FDL_API fdl_module *fdl_nn_softmin(int dim);
/* nn.Softmax2d: over the channels of [N, C, H, W] or [C, H, W]. */
FDL_API fdl_module *fdl_nn_softmax2d(void);
/* nn.GLU: halves the extent of dim. */
FDL_API fdl_module *fdl_nn_glu(int dim);

/* ---- dropout: p in [0, 1]; the input itself in evaluation --------------------------------------- */

/* nn.Dropout: elements become 0 with probability p, the others are scaled by 1/(1 - p). */
FDL_API fdl_module *fdl_nn_dropout(double p);
/* nn.Dropout1d, 2d, 3d: whole channels of [N, C, L], [N, C, H, W], [N, C, D, H, W], also without N; other
 * ranks: FDL_E_SHAPE. */
FDL_API fdl_module *fdl_nn_dropout1d(double p);
FDL_API fdl_module *fdl_nn_dropout2d(double p);
FDL_API fdl_module *fdl_nn_dropout3d(double p);
/* nn.AlphaDropout, nn.FeatureAlphaDropout: keep mean 0 and variance 1, for selu networks. */
FDL_API fdl_module *fdl_nn_alpha_dropout(double p);
FDL_API fdl_module *fdl_nn_feature_alpha_dropout(double p);
/* torchvision.ops.StochasticDepth, mode "row": each index of the first dim of x [N, *] is dropped whole with probability p, and
 * what is left scaled by 1 / (1 - p) -> [N, *]. For a residual branch: fdl_flow_also(m, .drop = p). */
FDL_API fdl_module *fdl_nn_stochastic_depth(double p);

/* ---- normalisation ------------------------------------------------------------------------------ */

typedef struct fdl_nn_layer_norm_opts {
    int opts_;
    fdl_shape shape; /* several trailing dims instead of one; n is 0 then */
    double eps;      /* default 1e-5 */
    bool no_affine;  /* no parameters */
    bool no_bias;
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_layer_norm_opts;
/* nn.LayerNorm: [*, n] -> the same. Parameters weight, ones, and bias, zeros, [n]. */
FDL_API fdl_module *fdl_nn_layer_norm_opt(int64_t n, const fdl_nn_layer_norm_opts *opts);

typedef struct fdl_nn_rms_norm_opts {
    int opts_;
    fdl_shape shape; /* as layer_norm's */
    double eps;      /* default: the machine epsilon of x's dtype */
    bool no_affine;
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_rms_norm_opts;
/* nn.RMSNorm: [*, n] -> the same, x / sqrt(mean(x^2) + eps) * weight. Parameter weight, ones, [n]. */
FDL_API fdl_module *fdl_nn_rms_norm_opt(int64_t n, const fdl_nn_rms_norm_opts *opts);

typedef struct fdl_nn_group_norm_opts {
    int opts_;
    double eps; /* default 1e-5 */
    bool no_affine;
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_group_norm_opts;
/* nn.GroupNorm: [N, channels, *] -> the same. groups divides channels. Parameters weight, ones, bias, zeros,
 * [channels]. */
FDL_API fdl_module *fdl_nn_group_norm_opt(int64_t groups, int64_t channels,
                                          const fdl_nn_group_norm_opts *opts);

typedef struct fdl_nn_batch_norm_opts {
    int opts_;
    double eps;      /* default 1e-5 */
    double momentum; /* of the running statistics, default 0.1 */
    bool cumulative; /* their plain mean over all batches instead; not together with .momentum */
    bool no_affine;  /* no parameters */
    bool no_stats;   /* no buffers: batch statistics in evaluation too */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_batch_norm_opts;
/* nn.BatchNorm1d ([N, n] or [N, n, L]), 2d ([N, n, H, W]), 3d ([N, n, D, H, W]), and any rank from [N, n] on;
 * another rank, or one value a channel in training: FDL_E_SHAPE. Training normalises with the batch's biased
 * variance and moves running_mean and running_var (unbiased) by momentum; evaluation uses those. Freezing
 * parameters doesn't stop them. Parameters weight, ones, bias, zeros, [n]; buffers running_mean, zeros,
 * running_var, ones, [n], num_batches_tracked, int64 []. */
FDL_API fdl_module *fdl_nn_batch_norm_opt(int64_t n, const fdl_nn_batch_norm_opts *opts);
FDL_API fdl_module *fdl_nn_batch_norm1d_opt(int64_t n, const fdl_nn_batch_norm_opts *opts);
FDL_API fdl_module *fdl_nn_batch_norm2d_opt(int64_t n, const fdl_nn_batch_norm_opts *opts);
FDL_API fdl_module *fdl_nn_batch_norm3d_opt(int64_t n, const fdl_nn_batch_norm_opts *opts);

/* ---- convolution -------------------------------------------------------------------------------- */

/* A plain option holds for every spatial dim, its _dims form has one number for each (another count, or both
 * forms: FDL_E_ARG). With .kernel_dims k is 0. */
typedef struct fdl_nn_conv_opts {
    int opts_;
    int64_t stride;   /* default 1 */
    int64_t padding;  /* default 0 */
    int64_t dilation; /* default 1 */
    fdl_shape kernel_dims, stride_dims, padding_dims, dilation_dims;
    int64_t groups; /* default 1; divides in and out */
    bool same;      /* as much padding as keeps the extents; strides are 1 then */
    fdl_pad_mode padding_mode;
    bool no_bias;
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_conv_opts;
/* nn.Conv1d, 2d, 3d: [N, in, L | H, W | D, H, W], N may be missing -> [N, out, ...], each extent
 * floor((L + 2 padding - dilation (k - 1) - 1) / stride) + 1. Parameters weight [out, in / groups, k...],
 * bias [out], uniform within 1/sqrt(in / groups * product of k). */
FDL_API fdl_module *fdl_nn_conv1d_opt(int64_t in, int64_t out, int64_t k, const fdl_nn_conv_opts *opts);
FDL_API fdl_module *fdl_nn_conv2d_opt(int64_t in, int64_t out, int64_t k, const fdl_nn_conv_opts *opts);
FDL_API fdl_module *fdl_nn_conv3d_opt(int64_t in, int64_t out, int64_t k, const fdl_nn_conv_opts *opts);

typedef struct fdl_nn_conv_transpose_opts {
    int opts_;
    int64_t stride;         /* default 1 */
    int64_t padding;        /* default 0 */
    int64_t output_padding; /* added at one end of the result; less than stride or than dilation; default 0 */
    int64_t dilation;       /* default 1 */
    fdl_shape kernel_dims, stride_dims, padding_dims, output_padding_dims, dilation_dims;
    int64_t groups; /* default 1; divides in and out */
    bool no_bias;
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_conv_transpose_opts;
/* nn.ConvTranspose1d, 2d, 3d: [N, in, ...], N may be missing -> [N, out, ...], each extent
 * (L - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1. Parameters weight [in, out / groups,
 * k...], bias [out], uniform within 1/sqrt(out / groups * product of k). */
FDL_API fdl_module *fdl_nn_conv_transpose1d_opt(int64_t in, int64_t out, int64_t k,
                                                const fdl_nn_conv_transpose_opts *opts);
FDL_API fdl_module *fdl_nn_conv_transpose2d_opt(int64_t in, int64_t out, int64_t k,
                                                const fdl_nn_conv_transpose_opts *opts);
FDL_API fdl_module *fdl_nn_conv_transpose3d_opt(int64_t in, int64_t out, int64_t k,
                                                const fdl_nn_conv_transpose_opts *opts);

/* ---- pooling: [N, C, ...], N may be missing ----------------------------------------------------- */

typedef struct fdl_nn_max_pool_opts {
    int opts_;
    int64_t stride;                                                  /* default: the kernel */
    int64_t padding;                                                 /* default 0; at most half the kernel */
    int64_t dilation;                                                /* default 1 */
    fdl_shape kernel_dims, stride_dims, padding_dims, dilation_dims; /* as a convolution's */
    bool ceil_mode; /* the last window may hang over the end */
} fdl_nn_max_pool_opts;
/* nn.MaxPool1d, 2d, 3d: each extent floor((L + 2 padding - dilation (k - 1) - 1) / stride) + 1. */
FDL_API fdl_module *fdl_nn_max_pool1d_opt(int64_t k, const fdl_nn_max_pool_opts *opts);
FDL_API fdl_module *fdl_nn_max_pool2d_opt(int64_t k, const fdl_nn_max_pool_opts *opts);
FDL_API fdl_module *fdl_nn_max_pool3d_opt(int64_t k, const fdl_nn_max_pool_opts *opts);

typedef struct fdl_nn_avg_pool_opts {
    int opts_;
    int64_t stride;  /* default: the kernel */
    int64_t padding; /* default 0; at most half the kernel */
    fdl_shape kernel_dims, stride_dims, padding_dims;
    bool ceil_mode;
    bool exclude_pad; /* padding doesn't count in the mean */
    int64_t divisor;  /* instead of the window's size; 2d and 3d only */
} fdl_nn_avg_pool_opts;
/* nn.AvgPool1d, 2d, 3d. */
FDL_API fdl_module *fdl_nn_avg_pool1d_opt(int64_t k, const fdl_nn_avg_pool_opts *opts);
FDL_API fdl_module *fdl_nn_avg_pool2d_opt(int64_t k, const fdl_nn_avg_pool_opts *opts);
FDL_API fdl_module *fdl_nn_avg_pool3d_opt(int64_t k, const fdl_nn_avg_pool_opts *opts);

/* nn.AdaptiveAvgPool, nn.AdaptiveMaxPool: to these extents; 0 keeps the input's. */
FDL_API fdl_module *fdl_nn_adaptive_avg_pool1d(int64_t n);
FDL_API fdl_module *fdl_nn_adaptive_avg_pool2d(int64_t h, int64_t w);
FDL_API fdl_module *fdl_nn_adaptive_avg_pool3d(int64_t d, int64_t h, int64_t w);
FDL_API fdl_module *fdl_nn_adaptive_max_pool1d(int64_t n);
FDL_API fdl_module *fdl_nn_adaptive_max_pool2d(int64_t h, int64_t w);
FDL_API fdl_module *fdl_nn_adaptive_max_pool3d(int64_t d, int64_t h, int64_t w);

/* ---- shape -------------------------------------------------------------------------------------- */

typedef struct fdl_nn_flatten_opts {
    int opts_;
    fdl_opt_i64 start; /* default 1: FDL_SOME(0) flattens the batch too */
    fdl_opt_i64 end;   /* default -1 */
} fdl_nn_flatten_opts;
/* nn.Flatten: [N, a, b] -> [N, ab]. */
FDL_API fdl_module *fdl_nn_flatten_opt(const fdl_nn_flatten_opts *opts);
/* nn.Unflatten: dim becomes dims of this shape; one extent may be -1. */
FDL_API fdl_module *fdl_nn_unflatten(int dim, fdl_shape shape);
/* fdl_reshape(x, shape): x of as many elements -> [shape]; one extent may be -1. */
FDL_API fdl_module *fdl_nn_reshape(fdl_shape shape);
/* nn.Identity: the input itself. */
FDL_API fdl_module *fdl_nn_identity(void);

typedef struct fdl_nn_fn_opts {
    int opts_;
    const char *name; /* the module's kind, a lowercase identifier, copied; default "fn" */
} fdl_nn_fn_opts;
/* A plain function as a module: fdl_nn_fn(fdl_sin). */
FDL_API fdl_module *fdl_nn_fn_opt(fdl_tensor *(*f)(fdl_tensor *x), const fdl_nn_fn_opts *opts);
/* `fdl_nn_fn_refs(f, "ids", "mask")`: a function that takes further inputs by these names (copied), which the flow must wire,
 * or by hand fdl_forward(m, x, ids, mask). No names: any. */
FDL_API fdl_module *fdl_nn_fn_refs_of(fdl_tensor *(*f)(fdl_tensor *x, const fdl_refs *r), int n,
                                      const char *const *names);

/* ---- embedding ---------------------------------------------------------------------------------- */

typedef struct fdl_nn_embedding_opts {
    int opts_;
    fdl_opt_i64 padding_idx; /* this row starts zero and gets no gradient; negative counts from the end */
    double max_norm;         /* rows that are used are scaled down to it, in place; default: not */
    double norm_type;        /* of max_norm, default 2 */
    bool scale_grad_by_freq; /* gradients divided by the row's count in the batch */
    bool sparse;             /* sparse gradients */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_embedding_opts;
/* nn.Embedding: int64 or int32 indices [*] -> [*, dim]; floats: FDL_E_DTYPE. Parameter weight [num, dim],
 * N(0, 1). */
FDL_API fdl_module *fdl_nn_embedding_opt(int64_t num, int64_t dim, const fdl_nn_embedding_opts *opts);

typedef struct fdl_nn_position_embedding_opts {
    int opts_;
    bool batch_first; /* [N, L, dim] instead of [L, N, dim] */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_position_embedding_opts;
/* Learned positions: [L, N, dim] or [L, dim] -> the same, x plus row i of the weight at position i. L above max: FDL_E_SHAPE.
 * Parameter weight [max, dim], N(0, 1). What models for PyTorch write as x + nn.Embedding(max, dim)(arange(L)). */
FDL_API fdl_module *fdl_nn_position_embedding_opt(int64_t max, int64_t dim,
                                                  const fdl_nn_position_embedding_opts *opts);

/* ---- recurrent layers --------------------------------------------------------------------------- */

/* D is 2 when bidirectional, else 1; H is hid, or proj where that is given. */
typedef struct fdl_nn_recurrent_opts {
    int opts_;
    int64_t layers; /* default 1 */
    bool no_bias;
    bool batch_first; /* [N, L, in] instead of [L, N, in]; states stay as they are */
    double dropout;   /* between layers, in training; default 0; with one layer nothing is dropped */
    bool bidirectional;
    int64_t proj; /* lstm only: h has this size, less than hid; default 0: hid */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_recurrent_opts;
typedef fdl_nn_recurrent_opts fdl_nn_gru_opts;
typedef fdl_nn_recurrent_opts fdl_nn_lstm_opts;
/* nn.GRU, nn.LSTM: [L, N, in] or unbatched [L, in] -> the last layer's h of every step, [L, N, D H].
 * fdl_forward begins with zeros. Parameters of layer k, uniform within 1/sqrt(hid): weight_ih_lk,
 * weight_hh_lk, bias_ih_lk, bias_hh_lk, weight_hr_lk (proj), and the same with _reverse. */
FDL_API fdl_module *fdl_nn_gru_opt(int64_t in, int64_t hid, const fdl_nn_gru_opts *opts);
FDL_API fdl_module *fdl_nn_lstm_opt(int64_t in, int64_t hid, const fdl_nn_lstm_opts *opts);

typedef struct fdl_nn_gru_forward_opts {
    int opts_;
    fdl_tensor *h0;   /* [D layers, N, hid], unbatched without N; default zeros */
    fdl_tensor **h_n; /* the last h of each layer and direction, of h0's shape (scope) */
} fdl_nn_gru_forward_opts;
/* A gru with its states (scope). A wrong shape of h0: FDL_E_SHAPE; m not a gru: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_nn_gru_forward_opt(fdl_module *m, fdl_tensor *x, const fdl_nn_gru_forward_opts *opts);
typedef struct fdl_nn_lstm_forward_opts {
    int opts_;
    fdl_tensor *h0, *c0;     /* [D layers, N, H], [D layers, N, hid]: both or none (FDL_E_ARG) */
    fdl_tensor **h_n, **c_n; /* scope */
} fdl_nn_lstm_forward_opts;
FDL_API fdl_tensor *fdl_nn_lstm_forward_opt(fdl_module *m, fdl_tensor *x,
                                            const fdl_nn_lstm_forward_opts *opts);

/* ---- recurrent cells: one step ------------------------------------------------------------------ */

typedef struct fdl_nn_cell_opts {
    int opts_;
    bool no_bias;
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_cell_opts;
typedef fdl_nn_cell_opts fdl_nn_gru_cell_opts;
typedef fdl_nn_cell_opts fdl_nn_lstm_cell_opts;
/* nn.GRUCell, nn.LSTMCell: x [N, in] (or [in]) -> h [N, hid]. Parameters weight_ih [g hid, in], weight_hh [g
 * hid, hid], bias_ih, bias_hh [g hid], g 3 (r, z, n) or 4 (i, f, g, o), uniform within 1/sqrt(hid).
 * fdl_forward(gru_cell, x, h) steps from h; without it from zeros. fdl_forward(lstm_cell, x) returns h, from
 * zeros; fdl_forward(lstm_cell, x, state) is fdl_nn_lstm_cell_step. */
FDL_API fdl_module *fdl_nn_gru_cell_opt(int64_t in, int64_t hid, const fdl_nn_gru_cell_opts *opts);
FDL_API fdl_module *fdl_nn_lstm_cell_opt(int64_t in, int64_t hid, const fdl_nn_lstm_cell_opts *opts);

typedef struct fdl_nn_gru_cell_forward_opts {
    int opts_;
    fdl_tensor *h; /* [N, hid]; default zeros */
} fdl_nn_gru_cell_forward_opts;
/* One step of a gru cell: h' [N, hid] (scope). */
FDL_API fdl_tensor *fdl_nn_gru_cell_forward_opt(fdl_module *m, fdl_tensor *x,
                                                const fdl_nn_gru_cell_forward_opts *opts);
/* h', and c' in *c_out (scope; NULL: not wanted). */
FDL_API fdl_tensor *fdl_nn_lstm_cell_forward(fdl_module *m, fdl_tensor *x, fdl_tensor *h, fdl_tensor *c,
                                             fdl_tensor **c_out);
typedef struct fdl_nn_lstm_cell_step_opts {
    int opts_;
    fdl_tensor *state; /* [N, 2 hid]: h beside c; default zeros */
} fdl_nn_lstm_cell_step_opts;
/* The new state, packed as the old one: [N, 2 hid] (scope). */
FDL_API fdl_tensor *fdl_nn_lstm_cell_step_opt(fdl_module *m, fdl_tensor *x,
                                              const fdl_nn_lstm_cell_step_opts *opts);

/* ---- attention ----------------------------------------------------------------------------------- */

typedef struct fdl_nn_multihead_attention_opts {
    int opts_;
    double dropout; /* of the attention weights, in training; default 0 */
    bool no_bias;
    int64_t kdim, vdim; /* features of key and value; default dim */
    bool add_bias_kv;   /* one more key and value, learnt */
    bool add_zero_attn; /* one more key and value, zeros */
    bool batch_first;   /* [N, L, dim] instead of [L, N, dim] */
    bool causal;        /* query i sees keys 0 to i only */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_multihead_attention_opts;
/* nn.MultiheadAttention: query [L, N, dim], key [S, N, kdim], value [S, N, vdim], or all without N -> [L, N, dim]. heads
 * divides dim. fdl_forward(m, x): the sequence looks at itself; (m, q, kv), (m, q, k, v): at another one. In a flow, inputs
 * called attn_mask and key_padding_mask are masks. Parameters in_proj_weight [3 dim, dim] (with .kdim or .vdim
 * q_proj_weight [dim, dim], k_proj_weight [dim, kdim], v_proj_weight [dim, vdim]), Xavier uniform, in_proj_bias [3 dim],
 * zeros, bias_k, bias_v [1, 1, dim], Xavier normal, out_proj.weight [dim, dim], out_proj.bias, zeros. */
FDL_API fdl_module *fdl_nn_multihead_attention_opt(int64_t dim, int64_t heads,
                                                   const fdl_nn_multihead_attention_opts *opts);

typedef struct fdl_nn_mha_forward_opts {
    int opts_;
    fdl_tensor *
        attn_mask; /* [L, S], [N heads, L, S], or [N or 1, heads or 1, L or 1, S]. Bool: true may not attend (the
                            * opposite of fdl_scaled_dot_product_attention's, as in PyTorch). Floating: added to the scores */
    fdl_tensor *
        key_padding_mask; /* [N, S], without N where the inputs are: keys that nobody may attend to, or numbers */
    bool causal;          /* as the module's */
    fdl_tensor **
        weights; /* gets the attention weights [N, L, S], their mean over the heads (scope); slower, since the fused
                           * kernels don't keep them */
    bool per_head; /* weights [N, heads, L, S] */
} fdl_nn_mha_forward_opts;
/* An attention with masks and weights (scope); m not a multihead_attention: FDL_E_ARG; shapes that don't fit: FDL_E_SHAPE
 * with those that would; another dtype of a mask: FDL_E_DTYPE. A query with nothing to attend to: zeros or NaN, as the
 * kernel has it. */
FDL_API fdl_tensor *fdl_nn_mha_forward_opt(fdl_module *m, fdl_tensor *q, fdl_tensor *k, fdl_tensor *v,
                                           const fdl_nn_mha_forward_opts *opts);

typedef struct fdl_nn_transformer_encoder_layer_opts {
    int opts_;
    int64_t ff;                               /* features between the two linear maps, default 2048 */
    double dropout;                           /* default 0.1 */
    fdl_tensor *(*activation)(fdl_tensor *x); /* default fdl_relu; fdl_gelu or a function of your own */
    bool norm_first;                          /* norms before attention and linear maps instead of behind */
    bool batch_first;                         /* [N, L, dim] instead of [L, N, dim] */
    bool causal;                              /* as the attention's */
    double eps;                               /* of the norms, default 1e-5 */
    bool no_bias;                             /* of all parts */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_transformer_encoder_layer_opts;
/* nn.TransformerEncoderLayer: [L, N, dim] or [L, dim] -> the same. norm1(x + self_attn(x)), then norm2(x + linear2(
 * activation(linear1(x)))), with dropout behind each part. Parameters self_attn.*, linear1.*, linear2.*, norm1.*, norm2.*. */
FDL_API fdl_module *fdl_nn_transformer_encoder_layer_opt(int64_t dim, int64_t heads,
                                                         const fdl_nn_transformer_encoder_layer_opts *opts);

typedef struct fdl_nn_transformer_encoder_opts {
    int opts_;
    fdl_module *norm; /* behind the last layer; taken over */
} fdl_nn_transformer_encoder_opts;
/* nn.TransformerEncoder: n layers, one behind the other: `layer` (a transformer_encoder_layer, taken over) and its copies,
 * which begin with its values. Parameters layers.0.*, layers.1.*, ..., norm.*. */
FDL_API fdl_module *fdl_nn_transformer_encoder_opt(fdl_module *layer, int64_t n,
                                                   const fdl_nn_transformer_encoder_opts *opts);

typedef struct fdl_nn_transformer_forward_opts {
    int opts_;
    fdl_tensor *attn_mask, *key_padding_mask; /* as fdl_nn_mha_forward's */
    bool causal;
} fdl_nn_transformer_forward_opts;
/* An encoder or one of its layers with masks, [L, N, dim] -> the same (scope). fdl_forward(m, x, attn_mask,
 * key_padding_mask) and inputs of these names in a flow do the same. */
FDL_API fdl_tensor *fdl_nn_transformer_forward_opt(fdl_module *m, fdl_tensor *x,
                                                   const fdl_nn_transformer_forward_opts *opts);

/* ---- parts of a flow: routers of a gate, selectors of a switch, conditions of a loop ------------------ */

typedef struct fdl_nn_router_opts {
    int opts_;
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_router_opts;
typedef fdl_nn_router_opts fdl_nn_softmax_router_opts;
typedef fdl_nn_router_opts fdl_nn_sigmoid_router_opts;
/* For fdl_flow_gate with n experts: [*, dim] -> weights [*, n], which sum to 1, or lie in (0, 1) each for itself. Further
 * inputs (fdl_flow_using) are added to x first. Parameters proj.weight [n, dim], proj.bias [n], as linear's. */
FDL_API fdl_module *fdl_nn_softmax_router_opt(int64_t dim, int64_t n, const fdl_nn_softmax_router_opts *opts);
FDL_API fdl_module *fdl_nn_sigmoid_router_opt(int64_t dim, int64_t n, const fdl_nn_sigmoid_router_opts *opts);

/* For fdl_flow_switch: branch i >= 0 each time -> int64 [], on the CPU, so that the switch waits for nothing. */
FDL_API fdl_module *fdl_nn_fixed_selector(int64_t i);
typedef struct fdl_nn_argmax_selector_opts {
    int opts_;
    bool per_row; /* for a switch with .per_row */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_argmax_selector_opts;
/* The place of the largest of n linear functions of x [*, dim], averaged over all dims before the last -> int64 [], the lowest
 * at a tie; .per_row: for each index of the first dim -> int64 [d0]. Further inputs are added to x first. Parameters as
 * fdl_nn_softmax_router's; no gradient reaches them, as a choice has none. */
FDL_API fdl_module *fdl_nn_argmax_selector_opt(int64_t dim, int64_t n,
                                               const fdl_nn_argmax_selector_opts *opts);

/* For fdl_flow_loop: halts when an element of x [*] is above v: max(x) - v -> []. */
FDL_API fdl_module *fdl_nn_threshold_halt(double v);
typedef fdl_nn_router_opts fdl_nn_learned_halt_opts;
/* For fdl_flow_loop: a linear function, [*, dim] -> [*, 1]; above 0 halts. Parameters proj.weight [1, dim], proj.bias [1], as
 * linear's. */
FDL_API fdl_module *fdl_nn_learned_halt_opt(int64_t dim, const fdl_nn_learned_halt_opts *opts);
/* x plus its further inputs in the order of fdl_flow_using: what takes a state back into the stream. Without any: x. */
FDL_API fdl_module *fdl_nn_state_add(void);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_nn_linear(in, ...) fdl_nn_linear_(in, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_linear_(in, out, ...) fdl_nn_linear_opt(in, out, &(fdl_nn_linear_opts){__VA_ARGS__})

#define fdl_nn_gelu(...) fdl_nn_gelu_opt(&(fdl_nn_gelu_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_leaky_relu(...) fdl_nn_leaky_relu_opt(&(fdl_nn_leaky_relu_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_elu(...) fdl_nn_elu_opt(&(fdl_nn_elu_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_celu(...) fdl_nn_celu_opt(&(fdl_nn_celu_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_softplus(...) fdl_nn_softplus_opt(&(fdl_nn_softplus_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_hardtanh(...) fdl_nn_hardtanh_opt(&(fdl_nn_hardtanh_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_softshrink(...) fdl_nn_softshrink_opt(&(fdl_nn_softshrink_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_hardshrink(...) fdl_nn_hardshrink_opt(&(fdl_nn_hardshrink_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_rrelu(...) fdl_nn_rrelu_opt(&(fdl_nn_rrelu_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_prelu(...) fdl_nn_prelu_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_prelu_(n, ...) fdl_nn_prelu_opt(n, &(fdl_nn_prelu_opts){__VA_ARGS__})

#define fdl_nn_layer_norm(...) fdl_nn_layer_norm_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_layer_norm_(n, ...) fdl_nn_layer_norm_opt(n, &(fdl_nn_layer_norm_opts){__VA_ARGS__})
#define fdl_nn_rms_norm(...) fdl_nn_rms_norm_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_rms_norm_(n, ...) fdl_nn_rms_norm_opt(n, &(fdl_nn_rms_norm_opts){__VA_ARGS__})
#define fdl_nn_group_norm(groups, ...) fdl_nn_group_norm_(groups, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_group_norm_(groups, channels, ...) \
    fdl_nn_group_norm_opt(groups, channels, &(fdl_nn_group_norm_opts){__VA_ARGS__})
#define fdl_nn_batch_norm(...) fdl_nn_batch_norm_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_batch_norm_(n, ...) fdl_nn_batch_norm_opt(n, &(fdl_nn_batch_norm_opts){__VA_ARGS__})
#define fdl_nn_batch_norm1d(...) fdl_nn_batch_norm1d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_batch_norm1d_(n, ...) fdl_nn_batch_norm1d_opt(n, &(fdl_nn_batch_norm_opts){__VA_ARGS__})
#define fdl_nn_batch_norm2d(...) fdl_nn_batch_norm2d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_batch_norm2d_(n, ...) fdl_nn_batch_norm2d_opt(n, &(fdl_nn_batch_norm_opts){__VA_ARGS__})
#define fdl_nn_batch_norm3d(...) fdl_nn_batch_norm3d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_batch_norm3d_(n, ...) fdl_nn_batch_norm3d_opt(n, &(fdl_nn_batch_norm_opts){__VA_ARGS__})

#define FDL_NN_CONV_OPTS_(...) (&(fdl_nn_conv_opts){__VA_ARGS__})
#define fdl_nn_conv1d(in, out, ...) fdl_nn_conv1d_(in, out, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_conv1d_(in, out, k, ...) fdl_nn_conv1d_opt(in, out, k, FDL_NN_CONV_OPTS_(__VA_ARGS__))
#define fdl_nn_conv2d(in, out, ...) fdl_nn_conv2d_(in, out, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_conv2d_(in, out, k, ...) fdl_nn_conv2d_opt(in, out, k, FDL_NN_CONV_OPTS_(__VA_ARGS__))
#define fdl_nn_conv3d(in, out, ...) fdl_nn_conv3d_(in, out, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_conv3d_(in, out, k, ...) fdl_nn_conv3d_opt(in, out, k, FDL_NN_CONV_OPTS_(__VA_ARGS__))
#define FDL_NN_CONV_TRANSPOSE_OPTS_(...) (&(fdl_nn_conv_transpose_opts){__VA_ARGS__})
#define fdl_nn_conv_transpose1d(in, out, ...) fdl_nn_conv_transpose1d_(in, out, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_conv_transpose1d_(in, out, k, ...) \
    fdl_nn_conv_transpose1d_opt(in, out, k, FDL_NN_CONV_TRANSPOSE_OPTS_(__VA_ARGS__))
#define fdl_nn_conv_transpose2d(in, out, ...) fdl_nn_conv_transpose2d_(in, out, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_conv_transpose2d_(in, out, k, ...) \
    fdl_nn_conv_transpose2d_opt(in, out, k, FDL_NN_CONV_TRANSPOSE_OPTS_(__VA_ARGS__))
#define fdl_nn_conv_transpose3d(in, out, ...) fdl_nn_conv_transpose3d_(in, out, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_conv_transpose3d_(in, out, k, ...) \
    fdl_nn_conv_transpose3d_opt(in, out, k, FDL_NN_CONV_TRANSPOSE_OPTS_(__VA_ARGS__))

#define fdl_nn_max_pool1d(...) fdl_nn_max_pool1d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_max_pool1d_(k, ...) fdl_nn_max_pool1d_opt(k, &(fdl_nn_max_pool_opts){__VA_ARGS__})
#define fdl_nn_max_pool2d(...) fdl_nn_max_pool2d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_max_pool2d_(k, ...) fdl_nn_max_pool2d_opt(k, &(fdl_nn_max_pool_opts){__VA_ARGS__})
#define fdl_nn_max_pool3d(...) fdl_nn_max_pool3d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_max_pool3d_(k, ...) fdl_nn_max_pool3d_opt(k, &(fdl_nn_max_pool_opts){__VA_ARGS__})
#define fdl_nn_avg_pool1d(...) fdl_nn_avg_pool1d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_avg_pool1d_(k, ...) fdl_nn_avg_pool1d_opt(k, &(fdl_nn_avg_pool_opts){__VA_ARGS__})
#define fdl_nn_avg_pool2d(...) fdl_nn_avg_pool2d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_avg_pool2d_(k, ...) fdl_nn_avg_pool2d_opt(k, &(fdl_nn_avg_pool_opts){__VA_ARGS__})
#define fdl_nn_avg_pool3d(...) fdl_nn_avg_pool3d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_avg_pool3d_(k, ...) fdl_nn_avg_pool3d_opt(k, &(fdl_nn_avg_pool_opts){__VA_ARGS__})

#define fdl_nn_flatten(...) fdl_nn_flatten_opt(&(fdl_nn_flatten_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_fn(...) fdl_nn_fn_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_fn_(f, ...) fdl_nn_fn_opt(f, &(fdl_nn_fn_opts){__VA_ARGS__})

#define fdl_nn_embedding(num, ...) fdl_nn_embedding_(num, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_embedding_(num, dim, ...) fdl_nn_embedding_opt(num, dim, &(fdl_nn_embedding_opts){__VA_ARGS__})

#define fdl_nn_position_embedding(max, ...) fdl_nn_position_embedding_(max, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_position_embedding_(max, dim, ...) \
    fdl_nn_position_embedding_opt(max, dim, &(fdl_nn_position_embedding_opts){__VA_ARGS__})

#define fdl_nn_gru(in, ...) fdl_nn_gru_(in, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_gru_(in, hid, ...) fdl_nn_gru_opt(in, hid, &(fdl_nn_gru_opts){__VA_ARGS__})
#define fdl_nn_lstm(in, ...) fdl_nn_lstm_(in, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_lstm_(in, hid, ...) fdl_nn_lstm_opt(in, hid, &(fdl_nn_lstm_opts){__VA_ARGS__})
#define fdl_nn_gru_forward(m, ...) fdl_nn_gru_forward_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_gru_forward_(m, x, ...) fdl_nn_gru_forward_opt(m, x, &(fdl_nn_gru_forward_opts){__VA_ARGS__})
#define fdl_nn_lstm_forward(m, ...) fdl_nn_lstm_forward_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_lstm_forward_(m, x, ...) \
    fdl_nn_lstm_forward_opt(m, x, &(fdl_nn_lstm_forward_opts){__VA_ARGS__})

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

#define fdl_nn_multihead_attention(dim, ...) fdl_nn_multihead_attention_(dim, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_multihead_attention_(dim, heads, ...) \
    fdl_nn_multihead_attention_opt(dim, heads, &(fdl_nn_multihead_attention_opts){__VA_ARGS__})
#define fdl_nn_mha_forward(m, q, k, ...) fdl_nn_mha_forward_(m, q, k, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_mha_forward_(m, q, k, v, ...) \
    fdl_nn_mha_forward_opt(m, q, k, v, &(fdl_nn_mha_forward_opts){__VA_ARGS__})
#define fdl_nn_transformer_encoder_layer(dim, ...) \
    fdl_nn_transformer_encoder_layer_(dim, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_transformer_encoder_layer_(dim, heads, ...) \
    fdl_nn_transformer_encoder_layer_opt(dim, heads, &(fdl_nn_transformer_encoder_layer_opts){__VA_ARGS__})
/* The layer before the norm. opts_ notes whether an error was pending then: so a norm whose constructor failed
 * is told from one that was left out. */
#define fdl_nn_transformer_encoder(layer, ...) fdl_nn_transformer_encoder_(layer, __VA_ARGS__, )
#define fdl_nn_transformer_encoder_(layer, n, ...) \
    FDL_NN_ENCODER_(FDL_CAT(fdl_m_, __COUNTER__), layer, n, __VA_ARGS__)
#define FDL_NN_ENCODER_(v, layer, n, ...)                                                                  \
    __extension__({                                                                                        \
        fdl_module *v = (layer);                                                                           \
        fdl_nn_transformer_encoder_opt(                                                                    \
            v, n, &(fdl_nn_transformer_encoder_opts){.opts_ = 1 + (int)fdl_error_pending(), __VA_ARGS__}); \
    })
#define fdl_nn_transformer_forward(m, ...) fdl_nn_transformer_forward_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_transformer_forward_(m, x, ...) \
    fdl_nn_transformer_forward_opt(m, x, &(fdl_nn_transformer_forward_opts){__VA_ARGS__})

#define fdl_nn_softmax_router(dim, ...) fdl_nn_softmax_router_(dim, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_softmax_router_(dim, n, ...) \
    fdl_nn_softmax_router_opt(dim, n, &(fdl_nn_router_opts){__VA_ARGS__})
#define fdl_nn_argmax_selector(dim, ...) fdl_nn_argmax_selector_(dim, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_argmax_selector_(dim, n, ...) \
    fdl_nn_argmax_selector_opt(dim, n, &(fdl_nn_argmax_selector_opts){__VA_ARGS__})
#define fdl_nn_learned_halt(...) fdl_nn_learned_halt_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_learned_halt_(dim, ...) fdl_nn_learned_halt_opt(dim, &(fdl_nn_router_opts){__VA_ARGS__})
#define fdl_nn_fn_refs(...) fdl_nn_fn_refs_(__VA_ARGS__, FDL_END)
#define fdl_nn_fn_refs_(f, ...)                                                             \
    fdl_nn_fn_refs_of(f, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)) - 1, \
                      (const char *const[]){__VA_ARGS__})
#define fdl_nn_sigmoid_router(dim, ...) fdl_nn_sigmoid_router_(dim, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_sigmoid_router_(dim, n, ...) \
    fdl_nn_sigmoid_router_opt(dim, n, &(fdl_nn_router_opts){__VA_ARGS__})
#endif

#endif
