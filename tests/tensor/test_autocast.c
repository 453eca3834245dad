/* Autocast: dtypes of results as PyTorch has them, for every operation (the rows of ops.def and autocast.def against
 * fixtures/autocast.json), and what is restored when. */
#include "check.h"
#include "ops.h"

#include <jansson.h>
#include <pthread.h>

static int16_t type = FDL_DEVICE_TYPE_CPU; /* what the test runs on */

/* ---- dtypes ---------------------------------------------------------------------------------------- */

#define OP(name, samples, call, python, cpp)               \
    static fdl_tensor *call_##name(fdl_list in, void *ctx) \
    {                                                      \
        OPS_NAMES                                          \
        return call;                                       \
    }
#define CASE(name, samples, call, python) OP(name, samples, call, python, )
#define BAD(name, sample, call, status, word)
#include "autocast.def"
#include "ops.def"
#undef OP
#undef CASE

static const struct row {
    const char *name, *samples;
    ops_call *call;
} rows[] = {
#define OP(name, samples, call, python, cpp) {#name, samples, call_##name},
#define CASE(name, samples, call, python) {#name, samples, call_##name},
#include "autocast.def"
#include "ops.def"
#undef OP
#undef CASE
};
enum { ROWS = sizeof rows / sizeof *rows };

static char letter_of(fdl_tensor *y)
{
    fdl_dtype d = fdl_dtype_of(y);
    return d == FDL_FLOAT32    ? 'f'
           : d == FDL_FLOAT64  ? 'd'
           : d == FDL_FLOAT16  ? 'h'
           : d == FDL_BFLOAT16 ? 'b'
                               : 'i';
}

/* The row's first sample: all operands float32, all short, or the first one short and the others float32. */
static fdl_tensor *run_row(const struct row *r, int way, fdl_dtype low)
{
    ops_operands o, mixed;
    assert_true(ops_sample(r->samples, way == 0 ? FDL_FLOAT32 : low, false, &o));
    if (way == 2) {
        assert_true(ops_sample(r->samples, FDL_FLOAT32, false, &mixed));
        for (int i = 1; i < o.n; i++)
            o.at[i] = mixed.at[i];
    }
    return r->call((fdl_list){o.n, o.at}, NULL);
}

/* What is left when the row's result isn't what PyTorch's letter says. Where PyTorch refuses, or can't be asked, nothing: mixed
 * operands are promoted here in more places. */
static int check_way(const struct row *r, int way, fdl_dtype low, char want)
{
    static const char *const ways[] = {"float32", "short", "mixed"};
    FDL_SCOPE;
    fdl_tensor *y = run_row(r, way, low);
    char got = y ? letter_of(y) : '-';
    bool gpu = type == FDL_DEVICE_TYPE_CUDA;
    const char *why = y ? "" : fdl_last_error()->message;
    /* a kernel that only the CPU has, or that nobody has in a short dtype */
    bool kernel = gpu && (strstr(why, "not implemented for") || strstr(why, "not supported") ||
                          strstr(why, "Low precision dtypes") || strstr(why, "compiling PyTorch with"));
    /* PyTorch has it out of place only */
    bool in_place = way == 2 && strcmp(r->name, "maximum_") == 0;
    int wrong = in_place || want == '?' || (want == '-' && way == 2) || got == want || kernel ? 0 : 1;
    if (wrong)
        print_error("%s, operands %s, under %s: %c, PyTorch's is %c %s\n", r->name, ways[way],
                    fdl_dtype_name(low), got, want, why);
    fdl_clear_error();
    return wrong;
}

static void every_operation_has_pytorchs_dtype(void **state)
{
    (void)state;
    json_error_t error;
    json_t *file = json_load_file(FLODL_SOURCE_DIR "/tests/fixtures/autocast.json", 0, &error);
    if (!file)
        fail_msg("autocast.json: %s", error.text);
    const json_t *recorded = json_object_get(file, "rows");
    const fdl_dtype lows[] = {FDL_BFLOAT16, FDL_FLOAT16};
    int failures = 0;
    for (int i = 0; i < 2; i++) {
        FDL_AUTOCAST(.dtype = lows[i]);
        for (const struct row *r = rows; r < rows + ROWS; r++) {
            const char *want = json_string_value(
                json_object_get(json_object_get(recorded, r->name), fdl_dtype_name(lows[i])));
            if (!want || strlen(want) != 6) {
                print_error("%s has no letters: run tests/fixtures/make_autocast.py\n", r->name);
                failures++;
                continue;
            }
            for (int way = 0; way < 3; way++)
                failures += check_way(r, way, lows[i], want[way + (type == FDL_DEVICE_TYPE_CUDA ? 3 : 0)]);
        }
    }
    print_message("%d rows\n", (int)ROWS);
    assert_int_equal(failures, 0);
    assert_int_equal(ROWS, json_object_size(recorded));
    json_decref(file);
}

#define F fdl_rand(FDL_SHAPE(4, 4))

/* ---- the block ------------------------------------------------------------------------------------- */

static fdl_dtype of_product(void)
{
    FDL_SCOPE;
    return fdl_dtype_of(fdl_matmul(F, F));
}

static int left_by_return(void)
{
    FDL_AUTOCAST(.dtype = FDL_BFLOAT16);
    assert_true(fdl_amp_autocast_enabled(0));
    return of_product() == FDL_BFLOAT16;
}

static void every_way_out_restores(void **state)
{
    (void)state;
    assert_false(fdl_amp_autocast_enabled(type));
    assert_true(left_by_return());
    assert_false(fdl_amp_autocast_enabled(0));
    for (int i = 0; i < 3; i++) {
        FDL_AUTOCAST();
        if (i == 0)
            continue;
        assert_int_equal(of_product(), type == FDL_DEVICE_TYPE_CUDA ? FDL_FLOAT16 : FDL_BFLOAT16);
        break;
    }
    assert_false(fdl_amp_autocast_enabled(type));
    assert_int_equal(of_product(), FDL_FLOAT32);
}

static void blocks_nest(void **state)
{
    (void)state;
    FDL_AUTOCAST(.dtype = FDL_BFLOAT16);
    assert_int_equal(fdl_amp_autocast_dtype(0), FDL_BFLOAT16);
    {
        FDL_AUTOCAST_OFF;
        assert_false(fdl_amp_autocast_enabled(type));
        assert_int_equal(fdl_amp_autocast_dtype(99), FDL_DTYPE_DEFAULT);
        assert_int_equal(of_product(), FDL_FLOAT32);
        {
            FDL_AUTOCAST(.dtype = FDL_FLOAT16);
            assert_int_equal(of_product(), FDL_FLOAT16);
            assert_int_equal(fdl_amp_autocast_dtype(type), FDL_FLOAT16);
        }
        assert_int_equal(fdl_amp_autocast_dtype(type), FDL_BFLOAT16);
        assert_int_equal(of_product(), FDL_FLOAT32);
    }
    assert_int_equal(of_product(), FDL_BFLOAT16);
}

static void *product_elsewhere(void *ctx)
{
    fdl_dtype *seen = ctx;
    if (type == FDL_DEVICE_TYPE_CUDA && fdl_set_default_device(FDL_CUDA(0)) != FDL_OK)
        return NULL;
    seen[0] = fdl_amp_autocast_enabled(type) ? FDL_BOOL : of_product();
    FDL_AUTOCAST(.device_type = type, .dtype = FDL_BFLOAT16);
    seen[1] = of_product();
    return NULL;
}

/* A thread that begins inside a block of another one computes in float32, and its own block is its own. */
static void threads_are_apart(void **state)
{
    (void)state;
    FDL_AUTOCAST(.device_type = type, .dtype = FDL_FLOAT16);
    fdl_dtype seen[2] = {FDL_BOOL, FDL_BOOL};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, product_elsewhere, seen), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(seen[0], FDL_FLOAT32);
    assert_int_equal(seen[1], FDL_BFLOAT16);
    assert_int_equal(of_product(), FDL_FLOAT16);
}

/* The dtypes that programs count on: products short, what needs the range long, where libtorch has it so. */
static void products_are_short_and_losses_long(void **state)
{
    (void)state;
    FDL_SCOPE;
    bool gpu = type == FDL_DEVICE_TYPE_CUDA;
    FDL_AUTOCAST();
    fdl_dtype low = gpu ? FDL_FLOAT16 : FDL_BFLOAT16;
    fdl_tensor *y = fdl_matmul(F, F);
    assert_int_equal(fdl_dtype_of(y), low);
    assert_int_equal(fdl_dtype_of(fdl_softmax(y, 1)), gpu ? FDL_FLOAT32 : low);
    assert_int_equal(fdl_dtype_of(fdl_cross_entropy(y, fdl_ivec(0, 1, 2, 3))), FDL_FLOAT32);
    if (gpu) { /* cuDNN's kernel, which only a GPU can be asked about */
        fdl_module *gru = fdl_nn_gru(4, 4);
        assert_int_equal(fdl_dtype_of(fdl_forward(gru, fdl_rand(FDL_SHAPE(3, 2, 4)))), low);
        check_ok(fdl_module_free(gru));
    }
    fdl_tensor *out = fdl_zeros(FDL_SHAPE(4, 4)); /* in place nothing is cast */
    check_ok(fdl_add_(out, y));
    assert_int_equal(fdl_dtype_of(out), FDL_FLOAT32);
}

static void types_are_apart(void **state)
{
    (void)state;
    FDL_AUTOCAST(.device_type = FDL_DEVICE_TYPE_CPU, .dtype = FDL_BFLOAT16);
    assert_true(fdl_amp_autocast_enabled(FDL_DEVICE_TYPE_CPU));
    assert_false(fdl_amp_autocast_enabled(FDL_DEVICE_TYPE_CUDA));
    fdl_tensor *x = fdl_rand(FDL_SHAPE(2, 2), .device = FDL_CPU);
    assert_int_equal(fdl_dtype_of(fdl_matmul(x, x)), FDL_BFLOAT16);
    if (type == FDL_DEVICE_TYPE_CUDA)
        assert_int_equal(of_product(), FDL_FLOAT32);
}

static void backward_gives_float32_to_parameters(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(4, 3);
    check_some(m);
    fdl_tensor *loss = NULL;
    {
        FDL_AUTOCAST(.dtype = FDL_BFLOAT16);
        fdl_tensor *y = fdl_forward(m, F);
        assert_int_equal(fdl_dtype_of(y), FDL_BFLOAT16);
        loss = fdl_mean(fdl_float(y));
    }
    check_ok(fdl_backward(loss));
    fdl_tensor *w = fdl_param_tensor(fdl_module_own_param(m, "weight"));
    assert_int_equal(fdl_dtype_of(w), FDL_FLOAT32);
    assert_int_equal(fdl_dtype_of(fdl_grad(w)), FDL_FLOAT32);
    check_ok(fdl_module_free(m));
}

/* A parameter is converted once in a block; when the outermost one ends the copy is forgotten, so that the next block sees
 * the parameter as it is then. */
static void the_cache_ends_with_the_outermost_block(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *w = fdl_ones(FDL_SHAPE(2, 2), .requires_grad = true), *x = fdl_ones(FDL_SHAPE(2, 2));
    for (int i = 0; i < 2; i++) {
        FDL_AUTOCAST(.dtype = FDL_BFLOAT16);
        {
            FDL_AUTOCAST(.dtype = FDL_BFLOAT16); /* its end must not forget */
            check_number(fdl_item(fdl_mean(fdl_float(fdl_matmul(x, w)))), 2.0 + 2 * i, 0);
        }
        FDL_NO_GRAD;
        check_ok(fdl_add_scalar_(w, 1));
        double cached = fdl_item(fdl_mean(fdl_float(fdl_matmul(x, w)))); /* no_grad reads the cache as well */
        check_number(cached, 2.0 + 2 * i, 0);
    }
    FDL_AUTOCAST(.dtype = FDL_BFLOAT16, .no_cache = true);
    check_number(fdl_item(fdl_mean(fdl_float(fdl_matmul(x, w)))), 6, 0);
    {
        FDL_NO_GRAD;
        check_ok(fdl_add_scalar_(w, 1));
    }
    check_number(fdl_item(fdl_mean(fdl_float(fdl_matmul(x, w)))), 8, 0);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    fdl_mode_guard m = fdl_amp_autocast_open(.dtype = FDL_FLOAT64);
    assert_int_equal(m.depth, 0);
    check_error(FDL_E_DTYPE, "float64", "bfloat16");
    m = fdl_amp_autocast_open(.device_type = 7);
    assert_int_equal(m.depth, 0);
    check_error(FDL_E_ARG, "7");
    if (!fdl_cuda_available()) {
        m = fdl_amp_autocast_open(.device_type = FDL_DEVICE_TYPE_CUDA);
        assert_int_equal(m.depth, 0);
        check_error(FDL_E_DEVICE, "CUDA");
    }
    assert_false(fdl_amp_autocast_enabled(0));
    m = fdl_amp_autocast_open();
    check_ok(fdl_mode_close(m));
    assert_int_equal(fdl_mode_close(m), FDL_E_STATE);
    fdl_clear_error();
}

int main(void)
{
    if (on_test_device())
        type = FDL_DEVICE_TYPE_CUDA;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_has_pytorchs_dtype),
        cmocka_unit_test(every_way_out_restores),
        cmocka_unit_test(blocks_nest),
        cmocka_unit_test(threads_are_apart),
        cmocka_unit_test(products_are_short_and_losses_long),
        cmocka_unit_test(types_are_apart),
        cmocka_unit_test(backward_gives_float32_to_parameters),
        cmocka_unit_test(the_cache_ends_with_the_outermost_block),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
