/* Each row of ops.def against what PyTorch computed (fixtures/ops.json): contiguous and strided operands,
 * every dtype, empty and 0-d. What PyTorch refuses, flodl refuses. */
#include "check.h"
#include "ops.h"
#include "quiet.h"

#include <jansson.h>

#define OP(name, samples, call, python, cpp)               \
    static fdl_tensor *call_##name(fdl_list in, void *ctx) \
    {                                                      \
        OPS_NAMES                                          \
        return call;                                       \
    }
#define CASE(name, samples, call, python) OP(name, samples, call, python, )
#define BAD(name, sample, call, status, word)
#include "ops.def"
#undef OP
#undef CASE

static const struct {
    const char *name, *samples;
    ops_call *call;
} rows[] = {
#define OP(name, samples, call, python, cpp) {#name, samples, call_##name},
#define CASE(name, samples, call, python) {#name, samples, call_##name},
#include "ops.def"
#undef OP
#undef CASE
};

static json_t *fixture;
static bool same_version, on_gpu;
static int fewer_kernels;

static fdl_dtype dtype_named(const char *name)
{
    for (int d = FDL_FLOAT32; d <= FDL_BOOL; d++)
        if (strcmp(fdl_dtype_name((fdl_dtype)d), name) == 0)
            return (fdl_dtype)d;
    return FDL_DTYPE_DEFAULT;
}

static double number(json_t *v)
{
    return json_is_string(v) ? strtod(json_string_value(v), NULL) : json_number_value(v);
}

/* "" when y is what the entry says, else what differs. */
static const char *difference(const char *name, fdl_tensor *y, json_t *entry, char *text, size_t size)
{
    json_t *shape = json_object_get(entry, "shape"), *values = json_object_get(entry, "values");
    fdl_shape s = fdl_shape_of(y);
    bool fits = s.ndim == (int)json_array_size(shape);
    for (int i = 0; fits && i < s.ndim; i++)
        fits = s.d[i] == json_integer_value(json_array_get(shape, (size_t)i));
    fdl_dtype dtype = dtype_named(json_string_value(json_object_get(entry, "type")));
    char is[128];
    fdl_describe(y, is, sizeof is);
    if (!fits || fdl_dtype_of(y) != dtype) {
        char *want = json_dumps(shape, JSON_COMPACT);
        snprintf(text, size, "is %s, PyTorch has %s %s", is, want, fdl_dtype_name(dtype));
        free(want);
        return text;
    }
    bool fused = on_gpu && (strncmp(name, "gru", 3) == 0 || strncmp(name, "lstm", 4) == 0 ||
                            strncmp(name, "rnn", 3) == 0);
    double rtol = dtype == FDL_FLOAT64    ? 1e-12
                  : dtype == FDL_FLOAT16  ? 2e-3
                  : dtype == FDL_BFLOAT16 ? 1.6e-2
                                          : 1e-5;
    double atol = dtype == FDL_FLOAT64    ? 1e-12
                  : dtype == FDL_FLOAT16  ? 2e-3
                  : dtype == FDL_BFLOAT16 ? 1.6e-2
                                          : 1e-6;
    if (!fdl_dtype_is_floating(dtype))
        rtol = atol = 0;
    else if (fused && dtype == FDL_FLOAT32) /* cuDNN's recurrent kernels */
        rtol = 1e-3, atol = 1e-4;
    else if (on_gpu && dtype == FDL_FLOAT32 && strncmp(name, "linalg_", 7) == 0) /* another algorithm */
        rtol = atol = 1e-4;
    else if (on_gpu && dtype == FDL_FLOAT64) /* some kernels have constants in float32 */
        rtol = atol = 1e-7;
    int64_t n = fdl_numel(y);
    double got[OPS_ELEMENTS];
    if (n > OPS_ELEMENTS || fdl_to_f64(y, got, n) != FDL_OK) {
        snprintf(text, size, "%lld elements", (long long)n);
        return text;
    }
    for (int64_t i = 0; i < n; i++) {
        double want = number(json_array_get(values, (size_t)i));
        if (isnan(want)   ? isnan(got[i])
            : isinf(want) ? got[i] == want
                          : fabs(got[i] - want) <= atol + rtol * fabs(want))
            continue;
        snprintf(text, size, "element %lld is %.17g, PyTorch has %.17g (%s)", (long long)i, got[i], want, is);
        return text;
    }
    return "";
}

/* Some dtypes have kernels on the CPU only: then the message says so. */
static bool not_on_gpu(const fdl_error *e)
{
    return strncmp(e->message, "fdl_", 4) == 0 &&
           (strstr(e->message, "not implemented for") || strstr(e->message, "not supported") ||
            strstr(e->message, "unable to find an engine") || strstr(e->message, "compiling PyTorch with"));
}

/* What a GPU may answer otherwise: which of several equal elements, a result that only one algorithm has. */
static bool open_on_gpu(const char *name)
{
    return strcmp(name, "mode") == 0 || strcmp(name, "mode_indices") == 0 ||
           strcmp(name, "linalg_lstsq_residuals") == 0;
}

static int check_entry(const char *name, ops_call *call, json_t *entry, bool strided)
{
    FDL_SCOPE;
    if (on_gpu && open_on_gpu(name))
        return 0;
    if (on_gpu && json_object_get(entry, "error"))
        return 0; /* a refusal is a matter of the CPU's kernels: on a GPU it can be the end of the context */
    const char *sample = json_string_value(json_object_get(entry, "in"));
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    ops_operands o;
    assert_true(ops_sample(sample, dtype_named(dtype), strided, &o));
    fdl_clear_error();
    fdl_tensor *y = call((fdl_list){o.n, o.at}, NULL);
    char text[512];
    const char *wrong = "";
    if (json_object_get(entry, "error")) {
        if (y && same_version)
            wrong = "PyTorch refuses this";
        if (!y && (fdl_last_error()->status == FDL_OK || strncmp(fdl_last_error()->message, "fdl_", 4) != 0))
            wrong = "failed without an error of its own";
    } else if (!y && on_gpu && not_on_gpu(fdl_last_error())) {
        fewer_kernels++;
    } else if (!y) {
        wrong = fdl_last_error()->message;
    } else {
        wrong = difference(name, y, entry, text, sizeof text);
    }
    if (*wrong)
        print_error("%s(%s) %s%s: %s\n", name, sample, dtype, strided ? " strided" : "", wrong);
    fdl_clear_error();
    return *wrong != 0;
}

static void agrees_with_pytorch(void **state)
{
    (void)state;
    json_t *ops = json_object_get(fixture, "ops");
    int failures = 0, checks = 0;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        json_t *entries = json_object_get(ops, rows[r].name), *entry;
        size_t i;
        if (!json_array_size(entries)) {
            print_error("%s has no results: run tests/fixtures/make_ops.py\n", rows[r].name);
            failures++;
        }
        json_array_foreach(entries, i, entry) for (int strided = 0; strided < 2; strided++, checks++)
            failures += check_entry(rows[r].name, rows[r].call, entry, strided);
    }
    print_message("%zu rows, %d checks\n", sizeof rows / sizeof *rows, checks);
    if (on_gpu)
        print_message("%d of them have no kernel for their dtype on a GPU\n", fewer_kernels);
    assert_int_equal(failures, 0);
    assert_true(fewer_kernels < checks / 20);
}

/* Every row forward and, where that goes, backward, and once without its first operand: libtorch's warnings too go to the library's
 * messages, which are off. */
static int one_row(const char *samples, ops_call *call)
{
    FDL_SCOPE;
    ops_operands o;
    if (!ops_sample(samples, FDL_FLOAT32, false, &o))
        return 0;
    for (int i = 0; i < o.n; i++)
        if (o.differentiable[i] && fdl_requires_grad_(o.at[i], true) != FDL_OK)
            return 0;
    fdl_tensor *y = call((fdl_list){o.n, o.at}, NULL);
    int done = y && fdl_requires_grad(y) && fdl_backward(fdl_sum(y)) == FDL_OK;
    o.at[0] = NULL;
    call((fdl_list){o.n, o.at}, NULL);
    fdl_clear_error();
    return done;
}

static void nothing_is_printed(void **state)
{
    (void)state;
    int backwards = 0;
    quiet_begin();
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        backwards += one_row(rows[r].samples, rows[r].call);
    assert_int_equal(quiet_end(), 0);
    assert_true(backwards > 200);
}

int main(void)
{
    on_gpu = on_test_device();
    json_error_t error;
    fixture = json_load_file(FLODL_SOURCE_DIR "/tests/fixtures/ops.json", 0, &error);
    if (!fixture) {
        fprintf(stderr, "tests/fixtures/ops.json:%d: %s\n", error.line, error.text);
        return 1;
    }
    char version[32];
    same_version = strcmp(fdl_libtorch_version(version, sizeof version),
                          json_string_value(json_object_get(fixture, "torch"))) == 0;
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_pytorch),
                                       cmocka_unit_test(nothing_is_printed)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(fixture);
    return failed;
}
