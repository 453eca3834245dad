/* Moving and casting models: everything goes along and stays what it was; memory that runs out half-way changes nothing. The
 * program's posix_memalign stands before the C library's, so that the memory of a tensor can run out. */
#include "check.h"

#include <errno.h>

extern void *__libc_memalign(size_t, size_t);

static __thread int countdown; /* this allocation of a tensor's memory fails; 0: none */

FDL_API int posix_memalign(void **p, size_t alignment, size_t n)
{
    if (countdown && --countdown == 0)
        return ENOMEM;
    *p = __libc_memalign(alignment, n);
    return *p ? 0 : ENOMEM;
}

static fdl_module *new_model(void)
{
    return fdl_flow(fdl_nn_conv2d(2, 3, 1), fdl_nn_batch_norm2d(3), fdl_nn_flatten(), fdl_nn_linear(12, 2));
}

static void backward(fdl_module *m)
{
    FDL_SCOPE;
    fdl_dtype d = fdl_dtype_of(fdl_param_tensor(fdl_params_at(fdl_parameters(m), 0)));
    check_ok(fdl_backward(fdl_sum(fdl_forward(m, fdl_randn(FDL_SHAPE(2, 2, 2, 2), .dtype = d)))));
}

static void everything_goes_along(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = new_model();
    check_some(m);
    backward(m);
    fdl_params *ps = fdl_parameters(m), *bs = fdl_buffers(m);
    check_ok(fdl_param_freeze(fdl_params_at(ps, 1)));
    assert_int_equal(fdl_params_count(ps), 6);
    assert_int_equal(fdl_params_count(bs), 3);
    const void *is[6];
    fdl_tensor *values[6], *grads[6];
    for (int i = 0; i < 6; i++) {
        fdl_tensor *t = fdl_param_tensor(fdl_params_at(ps, i));
        is[i] = fdl_identity(t);
        values[i] = fdl_clone(fdl_detach(t));
        grads[i] = i == 1 ? NULL : fdl_clone(fdl_grad(t));
    }
    const fdl_device devices[] = {fdl_default_device(), FDL_CPU, fdl_default_device()};
    for (int k = 0; k < 3; k++) {
        check_ok(fdl_module_to(m, devices[k], .dtype = k < 2 ? FDL_FLOAT64 : FDL_FLOAT32,
                               .channels_last = k == 0));
        for (int i = 0; i < 6; i++) {
            fdl_tensor *t = fdl_param_tensor(fdl_params_at(ps, i));
            assert_ptr_equal(fdl_identity(t), is[i]);
            assert_true(fdl_is_leaf(t));
            assert_int_equal(fdl_requires_grad(t), i != 1);
            assert_true(fdl_device_eq(fdl_device_of(t), devices[k]));
            assert_int_equal(fdl_dtype_of(t), k < 2 ? FDL_FLOAT64 : FDL_FLOAT32);
            fdl_tensor *back = fdl_float(fdl_to_device(fdl_detach(t), fdl_default_device()));
            assert_true(fdl_same(back, values[i]));
            if (!grads[i])
                continue;
            fdl_tensor *g = fdl_grad(t);
            assert_true(fdl_device_eq(fdl_device_of(g), devices[k]));
            assert_int_equal(fdl_dtype_of(g), fdl_dtype_of(t));
            assert_true(fdl_same(fdl_float(fdl_to_device(g, fdl_default_device())), grads[i]));
        }
        for (int i = 0; i < 3; i++) {
            fdl_tensor *b = fdl_param_tensor(fdl_params_at(bs, i));
            assert_true(fdl_device_eq(fdl_device_of(b), devices[k]));
            assert_int_equal(fdl_dtype_of(b),
                             i == 2 ? FDL_INT64 : fdl_dtype_of(fdl_param_tensor(fdl_params_at(ps, 0))));
        }
    }
    backward(m); /* and it still learns */
    check_ok(fdl_module_free(m));
}

/* Whichever tensor finds no memory: all have their storage, dtype and gradient as before. */
static void a_move_that_finds_no_memory_changes_nothing(void **state)
{
    (void)state;
    if (!fdl_device_eq(fdl_default_device(), FDL_CPU)) {
        print_message("skipped: only memory of the CPU can be made to run out\n");
        skip();
    }
    FDL_SCOPE;
    fdl_module *m = new_model();
    check_some(m);
    backward(m);
    fdl_params *all = fdl_params_join(fdl_parameters(m), fdl_buffers(m));
    int n = fdl_params_count(all), refused = 0;
    uint64_t before[16];
    for (int i = 0; i < n; i++)
        before[i] = fdl_fingerprint(fdl_param_tensor(fdl_params_at(all, i)));
    fdl_tensor *g = fdl_grad(fdl_param_tensor(fdl_params_at(all, 0)));
    int64_t live = fdl_live_tensors();
    for (int fails = 1; fails < 100; fails++) {
        countdown = fails;
        fdl_status status = fdl_module_to(m, FDL_CPU, .dtype = FDL_FLOAT64);
        bool came = countdown == 0;
        countdown = 0;
        if (!came) {
            check_ok(status);
            break;
        }
        assert_int_equal(status, FDL_E_OOM);
        check_error(FDL_E_OOM, "memory");
        refused++;
        assert_int_equal(fdl_live_tensors(), live);
        for (int i = 0; i < n; i++)
            assert_true(fdl_fingerprint(fdl_param_tensor(fdl_params_at(all, i))) == before[i]);
        assert_int_equal(fdl_dtype_of(g), FDL_FLOAT32);
    }
    assert_true(refused >= 6 + 6 + 2); /* parameters, gradients, floating buffers */
    for (int i = 0; i < n; i++) {
        fdl_dtype d = fdl_dtype_of(fdl_param_tensor(fdl_params_at(all, i)));
        assert_true(d == FDL_FLOAT64 || d == FDL_INT64);
    }
    check_ok(fdl_module_free(m));
}

/* ---- the layout of recurrent weights -------------------------------------------------------------- */

static bool cuda;

/* In one buffer a weight shares its storage with the others. */
static void expect_laid_out(fdl_module *m)
{
    fdl_params *ps = fdl_parameters(m);
    for (int i = 0; i < fdl_params_count(ps); i++)
        assert_int_equal(fdl_is_sole(fdl_param_tensor(fdl_params_at(ps, i))), !cuda);
}

static fdl_module *make(int kind)
{
    const fdl_nn_recurrent_opts o = {.layers = 2, .bidirectional = true};
    return kind == 0   ? fdl_nn_rnn_opt(3, 4, &o)
           : kind == 1 ? fdl_nn_gru_opt(3, 4, &o)
                       : fdl_nn_lstm_opt(3, 4, &o);
}

/* The same weights in a layer that was made with them. */
static void expect_current(int kind, fdl_module *m, fdl_tensor *x)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_module *fresh = make(kind);
    fdl_params *from = fdl_parameters(m), *to = fdl_parameters(fresh);
    for (int i = 0; i < fdl_params_count(to); i++)
        check_ok(fdl_param_set(fdl_params_at(to, i), fdl_param_tensor(fdl_params_at(from, i))));
    assert_true(fdl_allclose(fdl_float(fdl_forward(m, x)), fdl_forward(fresh, fdl_float(x)), .atol = 2e-3));
    check_ok(fdl_module_free(fresh));
}

/* Forward without a record, which would hold the weights. */
static fdl_tensor *seen(fdl_module *m, fdl_tensor *x)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    FDL_RETURN(fdl_forward(m, x));
}

static void turn(fdl_param *p)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    check_ok(fdl_param_set(p, fdl_mul(fdl_param_tensor(p), -1.0)));
}

/* Another storage, past the module. */
static void replace(fdl_param *p)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    check_ok(fdl_set_data_(fdl_param_tensor(p), fdl_mul(fdl_param_tensor(p), 3.0)));
}

static int pieces;

static fdl_status write_piece(void *ctx, const void *bytes, size_t n)
{
    char **end = ctx;
    memcpy(*end, bytes, n);
    *end += n;
    pieces++;
    return FDL_OK;
}

static void recurrent_weights_stay_laid_out(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        FDL_SCOPE;
        fdl_tensor *x = fdl_randn(FDL_SHAPE(5, 2, 3));
        fdl_module *m = make(kind);
        fdl_param *p = fdl_module_own_param(m, "weight_hh_l1_reverse");
        fdl_tensor *w = fdl_param_tensor(p);
        expect_laid_out(m);
        expect_current(kind, m, x);
        /* moves there and back */
        check_ok(fdl_module_to(m, FDL_CPU));
        assert_true(fdl_is_sole(w));
        check_ok(fdl_module_to(m, fdl_default_device()));
        expect_laid_out(m);
        expect_current(kind, m, x);
        /* casts, by either function */
        check_ok(fdl_module_to(m, fdl_default_device(), .dtype = FDL_FLOAT16));
        expect_laid_out(m);
        if (cuda)
            expect_current(kind, m, fdl_to_dtype(x, FDL_FLOAT16));
        check_ok(fdl_cast_parameters(m, FDL_FLOAT32));
        expect_laid_out(m);
        expect_current(kind, m, x);
        /* values that are set keep their place, and count */
        uint64_t place = fdl_fingerprint(w);
        fdl_tensor *before = seen(m, x);
        turn(p);
        assert_true(fdl_fingerprint(w) == place);
        assert_false(fdl_allclose(seen(m, x), before, .atol = 1e-4));
        expect_laid_out(m);
        expect_current(kind, m, x);
        /* a load does the same */
        char *file = malloc(1 << 20), *end = file;
        fdl_module *other = make(kind);
        check_ok(fdl_ckpt_save_to(other, ((fdl_writer){write_piece, &end})));
        char path[] = "/tmp/flodl-move-XXXXXX";
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        FILE *f = fdopen(fd, "wb");
        assert_int_equal(fwrite(file, 1, (size_t)(end - file), f), end - file);
        fclose(f);
        check_ok(fdl_ckpt_load(m, path));
        remove(path);
        free(file);
        assert_true(fdl_fingerprint(w) == place);
        expect_laid_out(m);
        assert_true(fdl_allclose(seen(m, x), seen(other, x), .atol = 1e-5));
        /* another storage, past all of these: the next run lays them out again, once */
        replace(p);
        assert_true(fdl_is_sole(w));
        before = seen(m, x);
        expect_laid_out(m);
        place = fdl_fingerprint(w);
        expect_current(kind, m, x);
        assert_true(fdl_same(seen(m, x), before));
        assert_true(fdl_fingerprint(w) == place);
        /* it still learns, with gradients of what it computes */
        check_ok(fdl_backward(fdl_sum(fdl_forward(m, x))));
        assert_non_null(fdl_grad(w));
        check_ok(fdl_module_free(other));
        check_ok(fdl_module_free(m));
    }
    assert_true(pieces > 0);
}

int main(void)
{
    cuda = on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_goes_along),
        cmocka_unit_test(a_move_that_finds_no_memory_changes_nothing),
        cmocka_unit_test(recurrent_weights_stay_laid_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
