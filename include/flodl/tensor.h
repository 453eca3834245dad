/* Tensors: making them, asking about them, moving data in and out, changing dtype and device.
 *
 * Every function that returns a tensor returns NULL on failure, with the error in fdl_last_error; an operand that is NULL
 * makes the result NULL and keeps the pending error. Results belong to the current scope unless said otherwise. Every
 * operation accepts non-contiguous input, and none changes its operands. */
#ifndef FLODL_TENSOR_H
#define FLODL_TENSOR_H

#include "flodl/scope.h"

FDL_BEGIN_DECLS

typedef struct fdl_generator fdl_generator; /* random.h */

/* ---- creation ---------------------------------------------------------------------------------- */

typedef struct fdl_tensor_opts {
    fdl_by_name opts_;
    fdl_dtype
        dtype; /* default: float32, or what fdl_set_default_dtype said, unless the function says otherwise */
    fdl_device device; /* default: the thread's default device */
    bool requires_grad;
    bool pin_memory; /* page-locked CPU memory; needs CUDA */
    fdl_generator *generator;
} fdl_tensor_opts;

/* torch.zeros, torch.ones, torch.empty (contents undefined): shape -> contiguous leaf. A negative extent: FDL_E_SHAPE. */
FDL_API fdl_tensor *fdl_zeros_opt(fdl_shape shape, const fdl_tensor_opts *opts);
FDL_API fdl_tensor *fdl_ones_opt(fdl_shape shape, const fdl_tensor_opts *opts);
FDL_API fdl_tensor *fdl_empty_opt(fdl_shape shape, const fdl_tensor_opts *opts);
/* torch.empty_strided: contents undefined; strides in elements, one a dim (otherwise FDL_E_SHAPE). */
FDL_API fdl_tensor *fdl_empty_strided_opt(fdl_shape shape, fdl_shape strides, const fdl_tensor_opts *opts);
/* torch.full: every element is value. The dtype is float32 by default, whatever the value. */
FDL_API fdl_tensor *fdl_full_opt(fdl_shape shape, double value, const fdl_tensor_opts *opts);
/* torch.arange: half-open, ceil((end - start) / step) elements -> [n]. A step of 0 or of the wrong sign: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_arange_opt(double start, double end, double step, const fdl_tensor_opts *opts);
/* torch.linspace: n values, both ends included -> [n]. n < 0: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_linspace_opt(double start, double end, int64_t n, const fdl_tensor_opts *opts);
typedef struct fdl_logspace_opts {
    fdl_by_name opts_;
    double base; /* default 10 */
    fdl_dtype dtype;
    fdl_device device;
    bool requires_grad;
} fdl_logspace_opts;
/* torch.logspace: base^start to base^end, the exponents evenly spaced, both ends included -> [n]. n < 0: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_logspace_opt(double start, double end, int64_t n, const fdl_logspace_opts *opts);
typedef struct fdl_eye_opts {
    fdl_by_name opts_;
    int64_t m; /* columns, default n */
    fdl_dtype dtype;
    fdl_device device;
    bool requires_grad;
} fdl_eye_opts;
/* torch.eye: ones on the diagonal -> [n, m]. A negative extent: FDL_E_SHAPE. */
FDL_API fdl_tensor *fdl_eye_opt(int64_t n, const fdl_eye_opts *opts);
/* torch.zeros_like and so on: shape, dtype, device and memory format of x unless the options say otherwise. */
FDL_API fdl_tensor *fdl_zeros_like_opt(fdl_tensor *x, const fdl_tensor_opts *opts);
FDL_API fdl_tensor *fdl_ones_like_opt(fdl_tensor *x, const fdl_tensor_opts *opts);
FDL_API fdl_tensor *fdl_empty_like_opt(fdl_tensor *x, const fdl_tensor_opts *opts);
FDL_API fdl_tensor *fdl_full_like_opt(fdl_tensor *x, double value, const fdl_tensor_opts *opts);
/* torch.scalar_tensor: a 0-d tensor. */
FDL_API fdl_tensor *fdl_scalar_opt(double value, const fdl_tensor_opts *opts);

/* Copies numel(shape) elements from host memory, in row-major order, into a new tensor of the dtype of the name (or of
 * .dtype), then moves it to .device. data NULL with elements to copy: FDL_E_NULL. torch.tensor. Numbers written in place
 * stand in parentheses of their own, since these are macros: fdl_from_f32(((const float[]){1, 2}), FDL_SHAPE(2)); a 1-d
 * tensor is shorter, fdl_vec(1, 2). */
FDL_API fdl_tensor *fdl_from_f32_opt(const float *data, fdl_shape shape, const fdl_tensor_opts *opts);
FDL_API fdl_tensor *fdl_from_f64_opt(const double *data, fdl_shape shape, const fdl_tensor_opts *opts);
FDL_API fdl_tensor *fdl_from_i64_opt(const int64_t *data, fdl_shape shape, const fdl_tensor_opts *opts);
FDL_API fdl_tensor *fdl_from_i32_opt(const int32_t *data, fdl_shape shape, const fdl_tensor_opts *opts);
FDL_API fdl_tensor *fdl_from_u8_opt(const uint8_t *data, fdl_shape shape, const fdl_tensor_opts *opts);
FDL_API fdl_tensor *fdl_from_bool_opt(const bool *data, fdl_shape shape, const fdl_tensor_opts *opts);
/* The same of bit patterns of 16 bits: float16 and bfloat16. */
FDL_API fdl_tensor *fdl_from_f16bits_opt(const uint16_t *data, fdl_shape shape, const fdl_tensor_opts *opts);
FDL_API fdl_tensor *fdl_from_bf16bits_opt(const uint16_t *data, fdl_shape shape, const fdl_tensor_opts *opts);
/* Copies nbytes bytes of dtype's native little-endian layout. nbytes other than numel * size: FDL_E_SHAPE with both. */
FDL_API fdl_tensor *fdl_from_bytes_opt(const void *data, size_t nbytes, fdl_dtype dtype, fdl_shape shape,
                                       const fdl_tensor_opts *opts);

typedef struct fdl_from_blob_opts {
    fdl_by_name opts_;
    fdl_dtype dtype;            /* default float32 */
    fdl_shape strides;          /* in elements; ndim 0: contiguous */
    void (*release)(void *ctx); /* called once, when the last reference dies, on whatever thread that is */
    void *ctx;
} fdl_from_blob_opts;
/* torch.from_blob: a CPU tensor over the caller's memory, without a copy. */
FDL_API fdl_tensor *fdl_from_blob_opt(void *data, fdl_shape shape, const fdl_from_blob_opts *opts);

/* ---- asking ------------------------------------------------------------------------------------ */

/* Number of dims; -1 on NULL. */
FDL_API int fdl_ndim(fdl_tensor *x);
/* All extents; ndim -1 on NULL. */
FDL_API fdl_shape fdl_shape_of(fdl_tensor *x);
/* Extent, or stride in elements, of one dim, which may count from the end. Outside: -1 and FDL_E_RANGE. */
FDL_API int64_t fdl_size(fdl_tensor *x, int dim);
FDL_API int64_t fdl_stride(fdl_tensor *x, int dim);
FDL_API int64_t fdl_storage_offset(fdl_tensor *x);
/* Number of elements, and elements times element size (not the storage's size); -1 on NULL. */
FDL_API int64_t fdl_numel(fdl_tensor *x);
FDL_API int64_t fdl_nbytes(fdl_tensor *x);
/* FDL_DTYPE_DEFAULT on NULL or for a dtype that flodl doesn't name. */
FDL_API fdl_dtype fdl_dtype_of(fdl_tensor *x);
/* All zero on NULL. */
FDL_API fdl_device fdl_device_of(fdl_tensor *x);
FDL_API bool fdl_is_contiguous(fdl_tensor *x);
/* 4-d (channels_last) and 5-d (channels_last_3d) tensors only. */
FDL_API bool fdl_is_channels_last(fdl_tensor *x);
FDL_API bool fdl_is_pinned(fdl_tensor *x);
/* Writes "[2, 3] float32 cuda:1", and " requires_grad" where it does, to buf of n bytes, cut to fit; returns buf. */
FDL_API char *fdl_describe(fdl_tensor *x, char *buf, size_t n);
/* torch.Tensor.__repr__'s values with 4 significant digits, long dims shortened above 1000 elements. */
FDL_API fdl_status fdl_print(fdl_tensor *x, FILE *file);

/* ---- reading back (waits for the device) -------------------------------------------------------- */

/* The one element of a tensor of any shape and dtype. More or fewer than 1: NaN (0, false) and FDL_E_SHAPE. */
FDL_API double fdl_item(fdl_tensor *x);
FDL_API int64_t fdl_item_i64(fdl_tensor *x); /* exact above 2^53 */
FDL_API bool fdl_item_bool(fdl_tensor *x);
/* Copies n = numel elements in row-major order, whatever the strides, dtype and device; float to integer truncates toward
 * zero. Another n: FDL_E_SHAPE, nothing written. */
FDL_API fdl_status fdl_to_f32(fdl_tensor *x, float *out, int64_t n);
FDL_API fdl_status fdl_to_f64(fdl_tensor *x, double *out, int64_t n);
FDL_API fdl_status fdl_to_i64(fdl_tensor *x, int64_t *out, int64_t n);
FDL_API fdl_status fdl_to_i32(fdl_tensor *x, int32_t *out, int64_t n);
FDL_API fdl_status fdl_to_u8(fdl_tensor *x, uint8_t *out, int64_t n);
/* The elements' native bytes, in row-major order. nbytes other than fdl_nbytes: FDL_E_SHAPE, nothing written. */
FDL_API fdl_status fdl_to_bytes(fdl_tensor *x, void *out, size_t nbytes);
/* The elements themselves, borrowed, of a contiguous CPU tensor; otherwise NULL and FDL_E_STATE or FDL_E_DEVICE. */
FDL_API void *fdl_data_ptr(fdl_tensor *x);
/* isfinite().all(); integers are finite. */
FDL_API bool fdl_all_finite(fdl_tensor *x);
/* torch.equal: same shape, dtype and values. */
FDL_API bool fdl_same(fdl_tensor *a, fdl_tensor *b);
typedef struct fdl_allclose_opts {
    fdl_by_name opts_;
    double rtol; /* default 1e-5 */
    double atol; /* default 1e-8 */
    bool equal_nan;
} fdl_allclose_opts;
/* torch.allclose: abs(a - b) <= atol + rtol * abs(b) everywhere. */
FDL_API bool fdl_allclose_opt(fdl_tensor *a, fdl_tensor *b, const fdl_allclose_opts *opts);
/* Views of up to n rows along dim 0, the last may be shorter. n < 1 or a 0-d x: FDL_E_ARG. */
FDL_API fdl_list fdl_batches(fdl_tensor *x, int64_t n);

/* ---- dtype, device, layout ---------------------------------------------------------------------- */

/* What FDL_DTYPE_DEFAULT creates on this thread: a floating dtype, else FDL_E_DTYPE. */
FDL_API fdl_status fdl_set_default_dtype(fdl_dtype dtype);
FDL_API fdl_dtype fdl_default_dtype(void);
/* Where new tensors of this thread go. FDL_E_DEVICE when it isn't there. */
FDL_API fdl_status fdl_set_default_device(fdl_device d);
FDL_API fdl_device fdl_default_device(void);

/* Tensor.to(dtype): the shape of x; the same tensor when it has that dtype already. Differentiable between floating dtypes. */
FDL_API fdl_tensor *fdl_to_dtype(fdl_tensor *x, fdl_dtype dtype);
typedef struct fdl_to_opts {
    fdl_by_name opts_;
    fdl_dtype dtype;
    fdl_device device;
    bool non_blocking; /* overlaps between pinned CPU memory and CUDA only */
    bool copy;         /* a new tensor even when nothing changes */
    bool channels_last;
} fdl_to_opts;
/* Tensor.to: all at once; what is left out stays, the shape too. The others are its shorthands: to a device, to that of
 * another tensor, to a dtype. */
FDL_API fdl_tensor *fdl_to_opt(fdl_tensor *x, const fdl_to_opts *opts);
FDL_API fdl_tensor *fdl_to_device_opt(fdl_tensor *x, fdl_device d, const fdl_to_opts *opts);
FDL_API fdl_tensor *fdl_to_device_of(fdl_tensor *x, fdl_tensor *other);
FDL_API fdl_tensor *fdl_cpu(fdl_tensor *x);
FDL_API fdl_tensor *fdl_cuda(fdl_tensor *x);
FDL_API fdl_tensor *fdl_float(fdl_tensor *x);
FDL_API fdl_tensor *fdl_double(fdl_tensor *x);
FDL_API fdl_tensor *fdl_half(fdl_tensor *x);
FDL_API fdl_tensor *fdl_bfloat16(fdl_tensor *x);
FDL_API fdl_tensor *fdl_long(fdl_tensor *x);
FDL_API fdl_tensor *fdl_bool(fdl_tensor *x);
/* A copy of x's shape in page-locked CPU memory; x itself when it is pinned. Without CUDA, or for a CUDA tensor: FDL_E_DEVICE. */
FDL_API fdl_tensor *fdl_pin_memory(fdl_tensor *x);
/* The same shape and values laid out channels-last: 4-d (or 5-d) only, else FDL_E_SHAPE. */
FDL_API fdl_tensor *fdl_channels_last(fdl_tensor *x);
/* The same shape and values in row-major order; x itself when it is so. */
FDL_API fdl_tensor *fdl_contiguous(fdl_tensor *x);
/* torch.clone: the shape of x, independent storage, differentiable. */
FDL_API fdl_tensor *fdl_clone(fdl_tensor *x);

FDL_END_DECLS

#ifndef __cplusplus
#define FDL_TENSOR_OPTS_(...) (&(fdl_tensor_opts){__VA_ARGS__})
#define fdl_zeros(...) fdl_zeros_(__VA_ARGS__, .opts_ = 0)
#define fdl_zeros_(shape, ...) fdl_zeros_opt(shape, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_ones(...) fdl_ones_(__VA_ARGS__, .opts_ = 0)
#define fdl_ones_(shape, ...) fdl_ones_opt(shape, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_empty(...) fdl_empty_(__VA_ARGS__, .opts_ = 0)
#define fdl_empty_(shape, ...) fdl_empty_opt(shape, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_empty_strided(shape, ...) fdl_empty_strided_(shape, __VA_ARGS__, .opts_ = 0)
#define fdl_empty_strided_(shape, strides, ...) \
    fdl_empty_strided_opt(shape, strides, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_full(shape, ...) fdl_full_a_(shape, __VA_ARGS__, .opts_ = 0)
#define fdl_full_a_(shape, value, ...) fdl_full_opt(shape, value, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_arange(start, end, ...) fdl_arange_(start, end, __VA_ARGS__, .opts_ = 0)
#define fdl_arange_(start, end, step, ...) fdl_arange_opt(start, end, step, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_linspace(start, end, ...) fdl_linspace_(start, end, __VA_ARGS__, .opts_ = 0)
#define fdl_linspace_(start, end, n, ...) fdl_linspace_opt(start, end, n, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_logspace(start, end, ...) fdl_logspace_(start, end, __VA_ARGS__, .opts_ = 0)
#define fdl_logspace_(start, end, n, ...) fdl_logspace_opt(start, end, n, &(fdl_logspace_opts){__VA_ARGS__})
#define fdl_eye(...) fdl_eye_(__VA_ARGS__, .opts_ = 0)
#define fdl_eye_(n, ...) fdl_eye_opt(n, &(fdl_eye_opts){__VA_ARGS__})
#define fdl_zeros_like(...) fdl_zeros_like_(__VA_ARGS__, .opts_ = 0)
#define fdl_zeros_like_(x, ...) fdl_zeros_like_opt(x, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_ones_like(...) fdl_ones_like_(__VA_ARGS__, .opts_ = 0)
#define fdl_ones_like_(x, ...) fdl_ones_like_opt(x, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_empty_like(...) fdl_empty_like_(__VA_ARGS__, .opts_ = 0)
#define fdl_empty_like_(x, ...) fdl_empty_like_opt(x, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_full_like(x, ...) fdl_full_like_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_full_like_(x, value, ...) fdl_full_like_opt(x, value, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_scalar(...) fdl_scalar_(__VA_ARGS__, .opts_ = 0)
#define fdl_scalar_(value, ...) fdl_scalar_opt(value, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_from_f32(data, ...) fdl_from_f32_(data, __VA_ARGS__, .opts_ = 0)
#define fdl_from_f32_(data, shape, ...) fdl_from_f32_opt(data, shape, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_from_f64(data, ...) fdl_from_f64_(data, __VA_ARGS__, .opts_ = 0)
#define fdl_from_f64_(data, shape, ...) fdl_from_f64_opt(data, shape, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_from_i64(data, ...) fdl_from_i64_(data, __VA_ARGS__, .opts_ = 0)
#define fdl_from_i64_(data, shape, ...) fdl_from_i64_opt(data, shape, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_from_i32(data, ...) fdl_from_i32_(data, __VA_ARGS__, .opts_ = 0)
#define fdl_from_i32_(data, shape, ...) fdl_from_i32_opt(data, shape, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_from_u8(data, ...) fdl_from_u8_(data, __VA_ARGS__, .opts_ = 0)
#define fdl_from_u8_(data, shape, ...) fdl_from_u8_opt(data, shape, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_from_bool(data, ...) fdl_from_bool_(data, __VA_ARGS__, .opts_ = 0)
#define fdl_from_bool_(data, shape, ...) fdl_from_bool_opt(data, shape, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_from_f16bits(data, ...) fdl_from_f16bits_(data, __VA_ARGS__, .opts_ = 0)
#define fdl_from_f16bits_(data, shape, ...) fdl_from_f16bits_opt(data, shape, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_from_bf16bits(data, ...) fdl_from_bf16bits_(data, __VA_ARGS__, .opts_ = 0)
#define fdl_from_bf16bits_(data, shape, ...) fdl_from_bf16bits_opt(data, shape, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_from_bytes(data, nbytes, dtype, ...) fdl_from_bytes_(data, nbytes, dtype, __VA_ARGS__, .opts_ = 0)
#define fdl_from_bytes_(data, nbytes, dtype, shape, ...) \
    fdl_from_bytes_opt(data, nbytes, dtype, shape, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_from_blob(data, ...) fdl_from_blob_(data, __VA_ARGS__, .opts_ = 0)
#define fdl_from_blob_(data, shape, ...) fdl_from_blob_opt(data, shape, &(fdl_from_blob_opts){__VA_ARGS__})
/* A 1-d tensor from a literal list: float32, or int64. */
#define fdl_vec(...)                                                                                \
    fdl_from_f64_opt((const double[]){__VA_ARGS__},                                                 \
                     (fdl_shape){{(int64_t)(sizeof((double[]){__VA_ARGS__}) / sizeof(double))}, 1}, \
                     &(fdl_tensor_opts){.dtype = FDL_FLOAT32})
#define fdl_ivec(...)                                                         \
    fdl_from_i64_opt((const int64_t[]){__VA_ARGS__},                          \
                     (fdl_shape){{(int64_t)FDL_COUNT_INTS_(__VA_ARGS__)}, 1}, \
                     &(fdl_tensor_opts){.opts_ = 0})
#define fdl_allclose(a, ...) fdl_allclose_(a, __VA_ARGS__, .opts_ = 0)
#define fdl_allclose_(a, b, ...) fdl_allclose_opt(a, b, &(fdl_allclose_opts){__VA_ARGS__})
#define fdl_to(x, ...) fdl_to_opt(x, &(fdl_to_opts){__VA_ARGS__})
#define fdl_to_device(x, ...) fdl_to_device_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_to_device_(x, d, ...) fdl_to_device_opt(x, d, &(fdl_to_opts){__VA_ARGS__})
#endif

#endif
