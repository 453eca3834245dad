/* Shapes, indexing, sorting and distances at values that are known without a computer. */
#include "values.h"

/* 0, 1, 2, ... of this shape. */
#define COUNTED(...) counted(FDL_SHAPE(__VA_ARGS__))
static fdl_tensor *counted(fdl_shape shape)
{
    return fdl_reshape(fdl_arange(0, (double)fdl_shape_numel(shape), 1), shape);
}

/* ---- another shape ------------------------------------------------------------------------------------------------- */

static void reshape_infers_one_extent(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = COUNTED(2, 3);
    check_shape(fdl_reshape(x, FDL_SHAPE(3, -1)), 3, 2);
    check_values(fdl_reshape(x, FDL_SHAPE(-1)), 0, 1, 2, 3, 4, 5);
    assert_null(fdl_reshape(x, FDL_SHAPE(-1, -1)));
    check_error(FDL_E_SHAPE, "fdl_reshape", "one dim");
    check_refused(fdl_reshape(x, FDL_SHAPE(4, 2)), FDL_E_SHAPE, "size 6", "[4, 2]");
}

static void transpose_is_a_view(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = COUNTED(2, 3), *t = fdl_transpose(x, 0, 1), *copy = fdl_contiguous(t);
    check_ok(fdl_fill_(fdl_select(t, 0, 1), 9));
    check_values(x, 0, 9, 2, 3, 9, 5);
    assert_false(fdl_is_contiguous(t));
    assert_true(fdl_is_contiguous(copy));
    check_values(copy, 0, 3, 1, 4, 2, 5); /* from before */
}

static void permute_movedim_flatten(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = COUNTED(2, 3, 4);
    check_refused(fdl_permute(x, FDL_DIMS(0, 0, 1)), FDL_E_ARG, "fdl_permute", "duplicate dims");
    check_shape(fdl_permute(x, FDL_DIMS(2, 0, 1)), 4, 2, 3);
    check_shape(fdl_movedim(x, 0, 2), 3, 4, 2);
    check_shape(fdl_flatten(x, 1, 2), 2, 12);
    check_shape(fdl_flatten(fdl_scalar(5), 0, -1), 1);
}

static void dims_of_extent_one(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = COUNTED(3);
    check_shape(fdl_squeeze(x, 0), 3); /* nothing to squeeze: no error */
    check_shape(fdl_squeeze(fdl_unsqueeze(x, 0), 0), 3);
    check_shape(fdl_unsqueeze_many(x, FDL_DIMS(1, 2)), 3, 1, 1);
    check_shape(fdl_unsqueeze_many(x, FDL_DIMS(2, 1)), 3, 1, 1);
    check_refused(fdl_unsqueeze_many(x, FDL_SCALAR), FDL_E_ARG, "fdl_unsqueeze_many");
}

static void expand_shares_memory(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_expand(COUNTED(1, 3), FDL_SHAPE(4, 3));
    check_values(x, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2);
    check_status(fdl_add_(x, fdl_ones(FDL_SHAPE(4, 3))), FDL_E_STATE, "single memory location", "fdl_clone");
    check_refused(fdl_expand(COUNTED(2, 3), FDL_SHAPE(4, 3)), FDL_E_SHAPE, "fdl_expand");
}

static void repeat_tile_flip_roll(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = COUNTED(2, 2);
    check_shape(fdl_repeat(x, FDL_DIMS(2, 3)), 4, 6);
    check_shape(fdl_tile(x, FDL_DIMS(2, 3)), 4, 6);
    check_values(fdl_tile(fdl_vec(1, 2), FDL_DIMS(2, 3)), 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2);
    check_values(fdl_flip(x, FDL_DIMS(0)), 2, 3, 0, 1);
    check_values(fdl_flip(x, FDL_DIMS(0, 1)), 3, 2, 1, 0);
    check_values(fdl_roll(fdl_vec(1, 2, 3, 4), 1, 0), 4, 1, 2, 3);
    check_values(fdl_roll(fdl_vec(1, 2, 3, 4), -1, 0), 2, 3, 4, 1);
}

static void padding(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_values(fdl_pad(fdl_vec(1, 2), FDL_DIMS(1, 2)), 0, 1, 2, 0, 0);
    fdl_tensor *x = fdl_reshape(fdl_arange(1, 7, 1), FDL_SHAPE(1, 6));
    check_values(fdl_pad(x, FDL_DIMS(2, 2), .mode = FDL_PAD_REFLECT), 3, 2, 1, 2, 3, 4, 5, 6, 5, 4);
    check_refused(fdl_pad(x, FDL_DIMS(6, 0), .mode = FDL_PAD_REFLECT), FDL_E_SHAPE, "fdl_pad");
    check_values(fdl_pad(x, FDL_DIMS(2, 1), .mode = FDL_PAD_CIRCULAR), 5, 6, 1, 2, 3, 4, 5, 6, 1);
}

/* ---- joining and splitting --------------------------------------------------------------------------------------------- */

static void cat_joins(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_values(fdl_cat(FDL_LIST(fdl_vec(1, 2), fdl_vec(3, 4, 5), fdl_vec(6)), 0), 1, 2, 3, 4, 5, 6);
    fdl_tensor *none[1];
    check_refused(fdl_cat(((fdl_list){0, none}), 0), FDL_E_ARG, "fdl_cat");
    fdl_tensor *x = fdl_zeros(FDL_SHAPE(2, 3)), *odd = fdl_zeros(FDL_SHAPE(2, 4));
    check_refused(fdl_cat(FDL_LIST(x, x, odd), 0), FDL_E_SHAPE, "number 2");
    check_refused(fdl_cat(FDL_LIST(x, NULL), 0), FDL_E_NULL, "list[1] is NULL");
}

static void stack_chunk_split_unbind(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *a = fdl_vec(1, 2), *b = fdl_vec(3, 4), *six = COUNTED(6);
    check_values(fdl_stack(FDL_LIST(a, b), 0), 1, 2, 3, 4);
    check_values(fdl_stack(FDL_LIST(a, b), 1), 1, 3, 2, 4);
    fdl_list three = fdl_chunk(six, 3, 0), most = fdl_chunk(six, 4, 0), parts = fdl_split(COUNTED(5), 2, 0);
    assert_int_equal(three.n, 3);
    check_values(three.at[1], 2, 3);
    assert_int_equal(most.n, 3); /* 2 each: a fourth would be empty */
    assert_int_equal(parts.n, 3);
    check_values(parts.at[0], 0, 1);
    check_values(parts.at[1], 2, 3);
    check_values(parts.at[2], 4);
    fdl_list rows = fdl_unbind(COUNTED(3, 2), 0);
    assert_int_equal(rows.n, 3);
    check_values(rows.at[2], 4, 5);
}

/* ---- indexing ------------------------------------------------------------------------------------------------------------- */

static void select_narrow_slice(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = COUNTED(4);
    check_values(fdl_select(x, 0, -1), 3);
    check_refused(fdl_select(x, 0, 4), FDL_E_RANGE, "fdl_select([4] float32", "4");
    check_refused(fdl_narrow(x, 0, 3, 2), FDL_E_RANGE, "fdl_narrow");
    check_values(fdl_slice(x, 0, 1, 100, 1), 1, 2, 3); /* the end is where x ends */
    check_values(fdl_slice(x, 0, -100, 100, 2), 0, 2);
    assert_int_equal(fdl_numel(fdl_slice(x, 0, 3, 1, 1)), 0);
}

static void index_select_by_integers(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_vec(10, 20, 30);
    check_values(fdl_index_select(x, 0, fdl_ivec(2, 0, 2)), 30, 10, 30);
    check_values(fdl_index_select(x, 0, fdl_to_dtype(fdl_ivec(1), FDL_INT32)), 20);
    check_refused(fdl_index_select(x, 0, fdl_vec(1)), FDL_E_DTYPE, "fdl_index_select");
}

static void gather_and_scatter(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *zeros = fdl_zeros(FDL_SHAPE(2, 3)), *src = F32(FDL_SHAPE(2, 2), 1, 2, 3, 4);
    fdl_tensor *idx = I64(FDL_SHAPE(2, 2), 0, 2, 1, 0);
    check_values(fdl_scatter(zeros, 1, idx, src), 1, 0, 2, 4, 3, 0);
    check_values(fdl_gather(fdl_scatter(zeros, 1, idx, src), 1, idx), 1, 2, 3, 4);
    check_values(fdl_scatter_add(fdl_ones(FDL_SHAPE(2, 3)), 1, idx, src), 2, 1, 3, 5, 4, 1);
    check_values(fdl_scatter_add(fdl_vec(0, 0), 0, fdl_ivec(1, 1, 0), fdl_vec(1, 2, 4)), 4, 3);
    check_values(fdl_index_add(fdl_ones(FDL_SHAPE(3, 1)), 0, fdl_ivec(2, 2), F32(FDL_SHAPE(2, 1), 5, 7)), 1,
                 1, 13);
    check_values(zeros, 0, 0, 0, 0, 0, 0); /* the operand stays */
}

static void scattered_parts_leave_x(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = COUNTED(2, 3);
    check_values(fdl_select_scatter(x, fdl_vec(7, 8, 9), 0, 1), 0, 1, 2, 7, 8, 9);
    check_values(fdl_narrow_scatter(x, F32(FDL_SHAPE(2, 2), 6, 7, 8, 9), 1, 1), 0, 6, 7, 3, 8, 9);
    check_values(x, 0, 1, 2, 3, 4, 5);
}

static void masks(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_vec(1, 2, 3), *truth = B(FDL_SHAPE(3), true, false, true),
               *numbers = fdl_vec(1, 0, 1);
    check_values(fdl_masked_fill(x, truth, -1), -1, 2, -1);
    check_values(fdl_masked_fill(x, numbers, -1), -1, 2, -1);
    check_values(fdl_where(truth, x, fdl_mul(x, 10)), 1, 20, 3);
    check_values(fdl_where(numbers, x, fdl_scalar(0)), 1, 0, 3);
}

static void nonzero_and_unique(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *at = fdl_nonzero(fdl_vec(0, 1, 0, 2)), *inverse = NULL, *counts = NULL;
    check_shape(at, 2, 1);
    check_values(at, 1, 3);
    fdl_tensor *x = fdl_vec(3, 1, 2, 1, 3);
    check_values(fdl_unique(x, .inverse = &inverse, .counts = &counts), 1, 2, 3);
    check_values(inverse, 2, 0, 1, 0, 2);
    check_values(counts, 2, 1, 2);
    /* in any order, but each once */
    check_values(fdl_sort(fdl_unique(x, .unsorted = true), 0), 1, 2, 3);
}

/* ---- sorting and distances ------------------------------------------------------------------------------------------------- */

static void topk_sort_search(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_vec(3, 1, 4, 1, 5), *where = NULL;
    check_values(fdl_topk(x, 3, 0, .indices = &where), 5, 4, 3);
    check_values(where, 4, 2, 0);
    check_refused(fdl_topk(x, 6, 0), FDL_E_RANGE, "fdl_topk");
    check_values(fdl_sort(x, 0, .stable = true, .indices = &where), 1, 1, 3, 4, 5);
    check_values(where, 1, 3, 0, 2, 4);
    check_values(fdl_argsort(x, 0, .stable = true), 1, 3, 0, 2, 4);
    check_values(fdl_argsort(x, 0, .descending = true, .stable = true), 4, 2, 0, 1, 3);
    check_values(fdl_searchsorted(fdl_vec(1, 2, 3), fdl_vec(0, 2, 2.5, 9)), 0, 1, 2, 3);
    check_values(fdl_searchsorted(fdl_vec(1, 2, 3), fdl_vec(2), .right = true), 2);
}

static void normalize_and_cosine(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_vec(3, 4), *zero = fdl_vec(0, 0);
    check_values(fdl_normalize(x, 0), 0.6, 0.8);
    check_values(fdl_normalize(zero, 0), 0, 0);
    check_values(fdl_cosine_similarity(x, x, 0), 1);
    check_values(fdl_cosine_similarity(x, fdl_vec(-4, 3), 0), 0);
    check_values(fdl_cosine_similarity(x, zero, 0), 0);
}

static void distances_of_rows(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *origin = fdl_zeros(FDL_SHAPE(1, 1, 2)), *point = F32(FDL_SHAPE(1, 1, 2), 3, 4);
    check_values(fdl_cdist(origin, point), 5);
    check_values(fdl_cdist(origin, point, .p = 1), 7);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reshape_infers_one_extent),
        cmocka_unit_test(transpose_is_a_view),
        cmocka_unit_test(permute_movedim_flatten),
        cmocka_unit_test(dims_of_extent_one),
        cmocka_unit_test(expand_shares_memory),
        cmocka_unit_test(repeat_tile_flip_roll),
        cmocka_unit_test(padding),
        cmocka_unit_test(cat_joins),
        cmocka_unit_test(stack_chunk_split_unbind),
        cmocka_unit_test(select_narrow_slice),
        cmocka_unit_test(index_select_by_integers),
        cmocka_unit_test(gather_and_scatter),
        cmocka_unit_test(scattered_parts_leave_x),
        cmocka_unit_test(masks),
        cmocka_unit_test(nonzero_and_unique),
        cmocka_unit_test(topk_sort_search),
        cmocka_unit_test(normalize_and_cosine),
        cmocka_unit_test(distances_of_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
