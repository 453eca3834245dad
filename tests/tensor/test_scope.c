/* Who frees a tensor: scopes left in every way, escape, keep, adopt, drop, return, lists, the checked mode, modes. */
#include "check.h"

static fdl_tensor *one(void)
{
    return fdl_ones(FDL_SHAPE(1));
}

static void expect(fdl_status status, const char *text)
{
    const fdl_error *e = fdl_last_error();
    if (e->status != status || !strstr(e->message, text))
        fail_msg("expected %s with \"%s\", got %s: %s", fdl_status_name(status), text,
                 fdl_status_name(e->status), e->message);
    fdl_clear_error();
}

/* ---- leaving a block ------------------------------------------------------------------------------------- */

static void every_way_out_of_a_block_closes_its_scope(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    int depth = fdl_scope_depth();
    {
        FDL_SCOPE;
        one();
        assert_int_equal(fdl_live_tensors(), before + 1);
        assert_int_equal(fdl_scope_depth(), depth + 1);
    }
    assert_int_equal(fdl_live_tensors(), before);
    for (int i = 0; i < 3; i++) {
        FDL_SCOPE;
        one();
        if (i == 0)
            continue;
        if (i == 1)
            break;
    }
    assert_int_equal(fdl_live_tensors(), before);
    for (int turn = 0; turn < 2; turn++) {
        FDL_SCOPE;
        one();
        if (turn == 0)
            goto out;
    }
out:
    assert_int_equal(fdl_live_tensors(), before);
    assert_int_equal(fdl_scope_depth(), depth);
    switch (depth) {
    default: {
        FDL_SCOPE;
        one();
    }
    }
    assert_int_equal(fdl_live_tensors(), before);
}

static fdl_tensor *returned_through(int scopes)
{
    FDL_SCOPE;
    if (scopes == 1)
        FDL_RETURN(one());
    {
        FDL_SCOPE;
        for (;;) {
            FDL_SCOPE;
            FDL_RETURN(one());
        }
    }
}

static fdl_tensor *recursive(int n)
{
    FDL_SCOPE;
    fdl_tensor *inner = n ? recursive(n - 1) : one();
    FDL_RETURN(fdl_clone(inner));
}

static fdl_tensor *returns_its_argument(fdl_tensor *x)
{
    FDL_SCOPE;
    FDL_RETURN(x);
}

static fdl_tensor *without_a_scope(fdl_tensor *x)
{
    FDL_RETURN(fdl_clone(x));
}

static void return_passes_every_scope_of_the_function(void **state)
{
    (void)state;
    FDL_SCOPE;
    int64_t before = fdl_live_tensors();
    fdl_tensor *x = returned_through(1), *y = returned_through(3), *z = recursive(5);
    assert_int_equal(fdl_live_tensors(), before + 3);
    assert_true(fdl_is_mine(x) && fdl_is_mine(y) && fdl_is_mine(z));
    {
        FDL_SCOPE;
        assert_ptr_equal(returns_its_argument(x), x);
        assert_false(fdl_is_mine(x)); /* it stays with the scope that had it */
        assert_true(fdl_is_mine(without_a_scope(x)));
    }
    assert_float_equal(fdl_item(x), 1, 0);
    assert_null(returns_its_argument(NULL));
}

static fdl_list two_lists_up(fdl_tensor *x)
{
    FDL_SCOPE;
    {
        FDL_SCOPE;
        FDL_RETURN_LIST(fdl_batches(x, 1));
    }
}

static void a_list_is_returned_with_its_array(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_arange(0, 3, 1);
    fdl_list rows = two_lists_up(x);
    for (int i = 0; i < 100; i++)
        fdl_scope_alloc(64); /* what would overwrite an array that had been freed */
    assert_int_equal(rows.n, 3);
    for (int i = 0; i < 3; i++)
        assert_float_equal(fdl_item(fdl_list_at(rows, i)), i, 0);
    assert_null(fdl_list_at(rows, 3));
    expect(FDL_E_RANGE, "index 3 of a list of 3");
}

/* ---- by hand -------------------------------------------------------------------------------------------------- */

static void scopes_by_hand(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    fdl_scope *a = fdl_scope_open(), *b = fdl_scope_open();
    fdl_tensor *x = one();
    assert_int_equal(fdl_scope_close(a), FDL_OK); /* takes b with it */
    assert_int_equal(fdl_live_tensors(), before);
    assert_int_equal(fdl_scope_close(b), FDL_E_STATE);
    expect(FDL_E_STATE, "closed already");
    assert_null(fdl_clone(x));
    expect(FDL_E_STATE, "x was freed");
    assert_int_equal(fdl_scope_close(NULL), FDL_OK);
}

static void a_longjmp_past_scopes_is_cleaned_by_the_outer_one(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    fdl_scope *outer = fdl_scope_open();
    static jmp_buf back;
    if (setjmp(back) == 0) {
        FDL_SCOPE;
        one();
        longjmp(back, 1);
    }
    assert_int_equal(fdl_scope_close(outer), FDL_OK);
    assert_int_equal(fdl_live_tensors(), before);
    assert_int_equal(fdl_scope_depth(), 0);
}

static void without_a_scope_the_root_owns(void **state)
{
    (void)state;
    assert_int_equal(fdl_scope_depth(), 0);
    int64_t before = fdl_live_tensors();
    one();
    one();
    assert_int_equal(fdl_live_tensors(), before + 2);
    {
        FDL_SCOPE;
        assert_int_equal(fdl_scope_reset(), FDL_E_STATE);
        expect(FDL_E_STATE, "1 scopes are open");
    }
    FDL_CHECK(fdl_scope_reset());
    assert_int_equal(fdl_live_tensors(), 0);
}

/* ---- one handle -------------------------------------------------------------------------------------------------- */

static void keep_escape_adopt_drop(void **state)
{
    (void)state;
    FDL_SCOPE;
    int64_t before = fdl_live_tensors();
    fdl_tensor *kept, *escaped, *dead;
    {
        FDL_SCOPE;
        dead = fdl_arange(0, 4, 1);
        kept = fdl_keep(dead);
        escaped = fdl_escape(one());
        assert_ptr_not_equal(kept, dead);
        assert_true(fdl_is(kept, dead));
        assert_ptr_equal(fdl_escape(kept), kept); /* not a scope handle: nothing */
        fdl_tensor *dropped = one();
        fdl_drop(dropped);
        assert_null(fdl_clone(dropped));
        expect(FDL_E_STATE, "freed");
        fdl_drop(escaped); /* the outer scope's: nothing */
        fdl_drop(kept);
        fdl_drop(NULL);
    }
    assert_int_equal(fdl_live_tensors(), before + 2);
    assert_float_equal(fdl_item(escaped), 1, 0);
    assert_int_equal(fdl_numel(kept), 4);
    {
        FDL_SCOPE;
        assert_ptr_equal(fdl_adopt(kept), kept);
        assert_true(fdl_is_mine(kept));
        assert_ptr_equal(fdl_adopt(kept), kept); /* once more: nothing */
    }
    assert_int_equal(fdl_live_tensors(), before + 1);
    assert_int_equal(fdl_free(kept), FDL_E_STATE); /* its scope freed it */
    expect(FDL_E_STATE, "fdl_free: x was freed");
    kept = fdl_keep(escaped);
    assert_int_equal(fdl_free(kept), FDL_OK);
    assert_int_equal(fdl_free(kept), FDL_E_STATE);
    expect(FDL_E_STATE, "freed");
    assert_int_equal(fdl_free(escaped), FDL_OK); /* a scope handle, early */
    assert_int_equal(fdl_free(NULL), FDL_OK);
    assert_null(fdl_keep(NULL));
    expect(FDL_E_NULL, "fdl_keep: x is NULL");
    assert_int_equal(fdl_live_tensors(), before);
}

static void objects_are_their_owners(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *object = fdl_object_new(one());
    assert_int_equal(fdl_free(object), FDL_E_STATE);
    expect(FDL_E_STATE, "freed by its module");
    assert_null(fdl_adopt(object));
    expect(FDL_E_STATE, "belongs to its module");
    fdl_drop(object);
    assert_ptr_equal(fdl_escape(object), object);
    fdl_tensor *kept = fdl_keep(object);
    fdl_object_free(object);
    assert_float_equal(fdl_item(kept), 1, 0);
    FDL_CHECK(fdl_free(kept));
}

static void views_outlive_the_handle_that_they_came_from(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *row;
    const float six[] = {0, 1, 2, 3, 4, 5};
    {
        FDL_SCOPE;
        row = fdl_escape(fdl_batches(fdl_from_f32(six, FDL_SHAPE(3, 2)), 1).at[2]);
    }
    float v[2];
    FDL_CHECK(fdl_to_f32(row, v, 2));
    assert_float_equal(v[0], 4, 0);
    assert_float_equal(v[1], 5, 0);
    assert_false(fdl_is_sole(fdl_detach(row)));
}

static void the_checked_mode_names_the_place(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_set_checked(true);
    fdl_tensor *dead;
    int line;
    {
        FDL_SCOPE;
        dead = one(), line = __LINE__; /* made in one(), above */
    }
    (void)line;
    for (int i = 0; i < 5000; i++) {
        FDL_SCOPE;
        one(); /* would reuse the slot many times over */
    }
    assert_null(fdl_clone(dead));
    expect(FDL_E_STATE, "test_scope.c:");
    fdl_tensor *kept = fdl_keep(fdl_ones(FDL_SHAPE(2)));
    assert_int_equal(fdl_free(kept), FDL_OK);
    assert_int_equal(fdl_free(kept), FDL_E_STATE);
    expect(FDL_E_STATE, "fdl_free: x was freed");
    fdl_set_checked(false);
    assert_false(fdl_is_checked());
}

/* ---- memory of a scope ---------------------------------------------------------------------------------------------- */

static void memory_of_a_scope_is_zeroed_aligned_and_large(void **state)
{
    (void)state;
    FDL_SCOPE;
    for (size_t size = 1; size < 100000; size = size * 3 + 1) {
        unsigned char *p = fdl_scope_alloc(size);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xff, size);
    }
    assert_null(fdl_scope_alloc(SIZE_MAX / 2));
    expect(FDL_E_OOM, "no memory for");
}

static void a_scope_holds_any_number_of_tensors(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    {
        FDL_SCOPE;
        fdl_tensor *first = one();
        for (int i = 0; i < 20000; i++)
            one();
        assert_int_equal(fdl_live_tensors(), before + 20001);
        assert_float_equal(fdl_item(first), 1, 0);
    }
    assert_int_equal(fdl_live_tensors(), before);
}

/* ---- modes --------------------------------------------------------------------------------------------------------------- */

static void modes_hold_to_the_end_of_the_block(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *w = fdl_ones(FDL_SHAPE(1), .requires_grad = true);
    assert_true(fdl_grad_enabled());
    for (int i = 0; i < 2; i++) {
        FDL_NO_GRAD;
        assert_false(fdl_requires_grad(fdl_clone(w)));
        {
            FDL_ENABLE_GRAD;
            assert_true(fdl_requires_grad(fdl_clone(w)));
        }
        assert_false(fdl_grad_enabled());
        if (i)
            break;
    }
    assert_true(fdl_grad_enabled());
    fdl_tensor *inferred;
    {
        FDL_INFERENCE;
        inferred = fdl_clone(w);
        assert_false(fdl_grad_enabled());
    }
    assert_true(fdl_grad_enabled());
    assert_null(fdl_mul(inferred, w)); /* it can't be saved for backward */
    expect(FDL_E_STATE, "nference");
}

static void modes_close_in_order(void **state)
{
    (void)state;
    fdl_mode_guard a = fdl_no_grad_open(), b = fdl_enable_grad_open();
    assert_int_equal(fdl_mode_close(a), FDL_E_STATE);
    expect(FDL_E_STATE, "reverse order");
    assert_true(fdl_grad_enabled());
    assert_int_equal(fdl_mode_close(b), FDL_OK);
    assert_false(fdl_grad_enabled());
    assert_int_equal(fdl_mode_close(a), FDL_OK);
    assert_int_equal(fdl_mode_close(a), FDL_E_STATE);
    expect(FDL_E_STATE, "closed already");
    assert_true(fdl_grad_enabled());
}

static void too_many_modes_are_an_error(void **state)
{
    (void)state;
    fdl_mode_guard open[1000];
    int n = 0;
    while (n < 1000 && (open[n] = fdl_no_grad_open()).depth)
        n++;
    assert_true(n >= 64 && n < 1000);
    expect(FDL_E_STATE, "modes are open");
    while (n)
        FDL_CHECK(fdl_mode_close(open[--n]));
    assert_true(fdl_grad_enabled());
}

/* ---- what is left -------------------------------------------------------------------------------------------------------- */

static void a_thousand_operations_leave_what_was_kept(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    fdl_tensor *kept;
    {
        FDL_SCOPE;
        fdl_tensor *x = one();
        for (int i = 0; i < 1000; i++)
            x = fdl_add(x, 1);
        assert_int_equal(fdl_live_tensors(), before + 1001);
        kept = fdl_keep(x);
    }
    assert_int_equal(fdl_live_tensors(), before + 1);
    assert_float_equal(fdl_item(kept), 1001, 0);
    FDL_CHECK(fdl_free(kept));
    FDL_CHECK(fdl_free(NULL));
    assert_int_equal(fdl_live_tensors(), before);
}

static void storage_goes_with_its_scope(void **state)
{
    (void)state;
    int64_t before = 0;
    for (int i = 0; i < 1000; i++) {
        if (i == 10)
            before = fdl_rss_kb();
        FDL_SCOPE;
        assert_non_null(fdl_ones(FDL_SHAPE(1000, 1000))); /* 4 MB: 4 GB in all */
    }
    int64_t grown = fdl_rss_kb() - before;
    print_message("%lld KiB more than after ten\n", (long long)grown);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(grown < 16 * 1024);
#endif
}

/* ---- steady state ------------------------------------------------------------------------------------------------------- */

static void two_thousand_training_steps_leave_nothing(void **state)
{
    (void)state;
    fdl_tensor *w = fdl_keep(fdl_ones(FDL_SHAPE(16, 16), .requires_grad = true));
    FDL_CHECK(fdl_scope_reset());
    int64_t before = fdl_live_tensors();
    for (int i = 0; i < 2000; i++) {
        FDL_SCOPE;
        fdl_tensor *loss = fdl_sum(fdl_tanh(fdl_matmul(fdl_ones(FDL_SHAPE(4, 16)), w)));
        FDL_CHECK(fdl_backward(loss));
        FDL_NO_GRAD;
        FDL_CHECK(fdl_sub_(w, fdl_grad(w), .alpha = 1e-3));
        FDL_CHECK(fdl_clear_grad(w));
    }
    assert_int_equal(fdl_live_tensors(), before);
    FDL_CHECK(fdl_free(w));
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_out_of_a_block_closes_its_scope),
        cmocka_unit_test(return_passes_every_scope_of_the_function),
        cmocka_unit_test(a_list_is_returned_with_its_array),
        cmocka_unit_test(scopes_by_hand),
        cmocka_unit_test(a_longjmp_past_scopes_is_cleaned_by_the_outer_one),
        cmocka_unit_test(without_a_scope_the_root_owns),
        cmocka_unit_test(keep_escape_adopt_drop),
        cmocka_unit_test(objects_are_their_owners),
        cmocka_unit_test(views_outlive_the_handle_that_they_came_from),
        cmocka_unit_test(the_checked_mode_names_the_place),
        cmocka_unit_test(memory_of_a_scope_is_zeroed_aligned_and_large),
        cmocka_unit_test(a_scope_holds_any_number_of_tensors),
        cmocka_unit_test(modes_hold_to_the_end_of_the_block),
        cmocka_unit_test(modes_close_in_order),
        cmocka_unit_test(too_many_modes_are_an_error),
        cmocka_unit_test(a_thousand_operations_leave_what_was_kept),
        cmocka_unit_test(storage_goes_with_its_scope),
        cmocka_unit_test(two_thousand_training_steps_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
