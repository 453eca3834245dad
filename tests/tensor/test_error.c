/* The thread's error: when it is set, kept, read and cleared; what it says; NULL passing through. */
#include "check.h"

/* "cpu", or "cuda" where the tests run on a GPU. */
static const char *here(void)
{
    static char name[FDL_DEVICE_NAME_SIZE];
    return fdl_device_name(fdl_default_device(), name);
}

static void an_error_has_text_and_place(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *a = fdl_ones(FDL_SHAPE(2, 3)), *b = fdl_ones(FDL_SHAPE(2, 3));
    int line = __LINE__ + 1;
    assert_null(fdl_matmul(a, b));
    const fdl_error *e = fdl_last_error();
    assert_int_equal(e->status, FDL_E_SHAPE);
    /* libtorch's own words between begin and end; 2.15 puts "mm: " before them */
    char begin[96];
    snprintf(begin, sizeof begin, "fdl_matmul([2, 3] float32 %s, [2, 3] float32 %s): ", here(), here());
    static const char end[] =
        "mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3); the inner sizes must agree";
    size_t length = strlen(e->message);
    assert_memory_equal(e->message, begin, strlen(begin));
    assert_true(length <= strlen(begin) + strlen(end) + 4);
    assert_string_equal(e->message + length - strlen(end), end);
    assert_non_null(strstr(e->file, "test_error.c"));
    assert_int_equal(e->line, line);
    fdl_clear_error();
    assert_int_equal(fdl_last_error()->status, FDL_OK);
    assert_string_equal(fdl_last_error()->message, "");
}

static void null_passes_through_and_keeps_the_first_error(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *bad = fdl_zeros(FDL_SHAPE(-1));
    int line = __LINE__ - 1;
    fdl_tensor *y = fdl_sum(fdl_add(fdl_matmul(bad, bad), fdl_ones(FDL_SHAPE(2))));
    assert_null(y);
    assert_int_equal(fdl_backward(y), FDL_E_SHAPE); /* a status function returns the pending error's */
    assert_int_equal(fdl_ndim(y), -1);
    assert_int_equal(fdl_error_pending(), FDL_E_SHAPE);
    const fdl_error *e = fdl_last_error();
    assert_non_null(strstr(e->message, "extent -1 of dim 0"));
    assert_int_equal(e->line, line);
    assert_int_equal(fdl_error_pending(), FDL_OK); /* read now */

    assert_null(fdl_sum(NULL)); /* so the next failure replaces it */
    assert_string_equal(fdl_last_error()->message, "fdl_sum: x is NULL");
    assert_int_equal(fdl_backward((fdl_tensor *)NULL), FDL_E_NULL);
    assert_string_equal(fdl_last_error()->message, "fdl_backward: loss is NULL");
    fdl_clear_error();
}

static void a_success_clears_nothing(void **state)
{
    (void)state;
    FDL_SCOPE;
    assert_null(fdl_zeros(FDL_SHAPE(-1)));
    assert_non_null(fdl_zeros(FDL_SHAPE(1)));
    assert_int_equal(fdl_error_pending(), FDL_E_SHAPE);
    assert_int_equal(fdl_last_error()->status, FDL_E_SHAPE);
    fdl_clear_error();
}

static void a_failed_element_of_a_list_is_named(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(2));
    assert_int_equal(fdl_foreach_zero_(FDL_LIST(x, NULL, x)), FDL_E_NULL);
    assert_string_equal(fdl_last_error()->message, "fdl_foreach_zero_: a[1] is NULL");
    fdl_list failed = fdl_batches(NULL, 2);
    assert_null(failed.at);
    assert_int_equal(fdl_foreach_zero_(failed), FDL_E_NULL); /* not an empty list */
    assert_string_equal(fdl_last_error()->message, "fdl_batches: x is NULL");
    fdl_clear_error();
    assert_int_equal(fdl_foreach_zero_((fdl_list){0}), FDL_OK);
}

static void frequent_mistakes_get_a_hint(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *w = fdl_ones(FDL_SHAPE(2), .requires_grad = true);
    assert_int_equal(fdl_zero_(w), FDL_E_STATE);
    assert_non_null(strstr(fdl_last_error()->message, "put FDL_NO_GRAD; before it"));
    fdl_tensor *loss = fdl_sum(fdl_mul(w, w));
    FDL_CHECK(fdl_backward(loss));
    assert_int_equal(fdl_backward(loss), FDL_E_STATE);
    assert_non_null(strstr(fdl_last_error()->message, ".retain_graph"));
    assert_int_equal(fdl_backward(fdl_mul(w, w)), FDL_E_SHAPE);
    assert_non_null(strstr(fdl_last_error()->message, ".gradient"));
    assert_int_equal(fdl_backward(fdl_ones(FDL_SHAPE(1))), FDL_E_STATE);
    assert_non_null(strstr(fdl_last_error()->message, "does not require grad"));
    assert_null(fdl_add(fdl_ones(FDL_SHAPE(2)), fdl_ones(FDL_SHAPE(3))));
    assert_int_equal(fdl_last_error()->status, FDL_E_SHAPE);
    char operands[64];
    snprintf(operands, sizeof operands, "[2] float32 %s, [3] float32 %s", here(), here());
    assert_non_null(strstr(fdl_last_error()->message, operands));
    fdl_clear_error();
}

/* What libtorch advises names functions of Python; what flodl has for it stands there instead. */
static void advice_names_functions_of_flodl(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(2), .requires_grad = true), *other = fdl_zeros_like(x);
    fdl_requires_grad_(other, true);
    fdl_tensor *y = fdl_exp(x), *loss = fdl_sum(fdl_mul(y, y));
    check_ok(fdl_mul_(y, fdl_ones(FDL_SHAPE(2))));
    assert_int_equal(fdl_backward(loss), FDL_E_STATE);
    assert_null(strstr(fdl_last_error()->message, "anomaly"));
    check_error(FDL_E_STATE, "modified by an inplace operation", "[2]", "version 1", "; it was changed",
                "ends in _", "fdl_clone");
    loss = fdl_sum(fdl_mul(x, x));
    check_ok(fdl_backward(loss));
    assert_int_equal(fdl_backward(loss), FDL_E_STATE);
    assert_null(strstr(fdl_last_error()->message, "retain_graph=True"));
    check_error(FDL_E_STATE, "a second time", ".retain_graph = true");
    assert_null(fdl_grad_of(FDL_LIST(fdl_sum(x)), FDL_LIST(other)).at);
    assert_null(strstr(fdl_last_error()->message, "allow_unused=True"));
    check_error(FDL_E_STATE, "element 0", "not have been used", "; .allow_unused = true");
    fdl_tensor *inferred;
    {
        FDL_INFERENCE;
        inferred = fdl_ones(FDL_SHAPE(2));
    }
    assert_null(fdl_mul(inferred, x));
    assert_null(strstr(fdl_last_error()->message, "torch."));
    check_error(FDL_E_STATE, "Inference tensors", "fdl_clone", "FDL_NO_GRAD;");
    assert_int_equal(fdl_mul_(inferred, other), FDL_E_STATE);
    assert_null(strstr(fdl_last_error()->message, "github"));
    check_error(FDL_E_STATE, "outside InferenceMode", "fdl_clone");
}

static fdl_status fails_with(fdl_status status)
{
    return fdl_fail(status, "%s and %d", "text", 7);
}

static fdl_status hands_on(fdl_status status)
{
    FDL_TRY(fails_with(status));
    return FDL_OK;
}

static void *hands_on_null(fdl_status status)
{
    FDL_TRY_NULL(fails_with(status));
    static char made;
    return &made;
}

static void own_functions_fail_the_same_way(void **state)
{
    (void)state;
    assert_int_equal(hands_on(FDL_E_IO), FDL_E_IO);
    assert_string_equal(fdl_last_error()->message, "text and 7");
    assert_null(hands_on_null(FDL_E_ARG));
    fdl_error_prefix("linear_%d (#%s): ", 3, "hidden");
    fdl_error_place("somewhere.c", 12);
    fdl_error_place("later.c", 13);
    assert_string_equal(fdl_last_error()->message, "linear_3 (#hidden): text and 7");
    assert_string_equal(fdl_last_error()->file, "somewhere.c");
    fdl_error_prefix("no: "); /* it is read: nothing is pending */
    assert_string_equal(fdl_last_error()->message, "linear_3 (#hidden): text and 7");
    assert_int_equal(fdl_fail(FDL_OK, "never a success"), FDL_E_ARG);
    fdl_clear_error();
}

static void a_long_message_is_cut_not_lost(void **state)
{
    (void)state;
    char long_text[10000];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    fdl_fail(FDL_E_ARG, "%s", long_text);
    fdl_error_prefix("in front: ");
    const char *m = fdl_last_error()->message;
    size_t n = strlen(m);
    assert_true(n > 4000 && n < sizeof long_text);
    assert_memory_equal(m, "in front: x", 11);
    assert_string_equal(m + n - 3, "...");
    fdl_clear_error();
}

static void every_status_has_a_name_and_a_text(void **state)
{
    (void)state;
#define HAS(status, value, text)                           \
    assert_int_equal(status, value);                       \
    assert_string_equal(fdl_status_name(status), #status); \
    assert_string_equal(fdl_status_text(status), text);
    FDL_STATUS_MAP(HAS)
    assert_string_equal(fdl_status_name((fdl_status)99), "FDL_E_?");
}

static void options_say_an_explicit_zero(void **state)
{
    (void)state;
    assert_float_equal(fdl_opt_double(0, 7), 7, 0);
    assert_float_equal(fdl_opt_double(FDL_ZERO, 7), 0, 0);
    assert_float_equal(fdl_opt_double(-0.0, 7), 0, 0);
    assert_float_equal(fdl_opt_double(3, 7), 3, 0);
    assert_int_equal(fdl_opt_int((fdl_opt_i64){0}, 7), 7);
    assert_int_equal(fdl_opt_int(FDL_SOME(0), 7), 0);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_has_text_and_place),
        cmocka_unit_test(null_passes_through_and_keeps_the_first_error),
        cmocka_unit_test(a_success_clears_nothing),
        cmocka_unit_test(a_failed_element_of_a_list_is_named),
        cmocka_unit_test(frequent_mistakes_get_a_hint),
        cmocka_unit_test(advice_names_functions_of_flodl),
        cmocka_unit_test(own_functions_fail_the_same_way),
        cmocka_unit_test(a_long_message_is_cut_not_lost),
        cmocka_unit_test(every_status_has_a_name_and_a_text),
        cmocka_unit_test(options_say_an_explicit_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
