/* Modules that compare two inputs, by hand; PyTorch's numbers for them in flows: the rows of modules/distance.def. */
#include "../tensor/values.h"

static void cosine_similarity_by_hand(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_cosine_similarity(), *columns = fdl_nn_cosine_similarity(.dim = FDL_SOME(0)),
               *wide = fdl_nn_cosine_similarity(.eps = 10);
    fdl_tensor *a = F32(FDL_SHAPE(3, 2), 1, 0, 3, 4, 0, 0), *b = F32(FDL_SHAPE(3, 2), 1, 1, -3, -4, 1, 2);
    check_values(fdl_forward(m, a, b), 0.70710678, -1, 0);
    check_values(fdl_forward(columns, a, b), -8 / sqrt(10) / sqrt(11), -16. / 4 / sqrt(21));
    check_values(fdl_forward(wide, a, b), 0.01, -0.25, 0); /* norms below 10 count as 10 */
    check_values(fdl_forward(m, a, F32(FDL_SHAPE(1, 2), 0, 2)), 0, 0.8, 0);
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(columns));
    check_ok(fdl_module_free(wide));
}

static void pairwise_distance_by_hand(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *a = F32(FDL_SHAPE(2, 2), 0, 0, 1, 1), *b = F32(FDL_SHAPE(2, 2), 3, 4, 1, -1);
    const double ps[] = {1, 2, 3, (double)INFINITY}, want[][2] = {{7, 2}, {5, 2}, {4.4979414, 2}, {4, 2}};
    for (int i = 0; i < 4; i++) {
        fdl_module *m = fdl_nn_pairwise_distance(.p = ps[i], .eps = FDL_ZERO);
        check_values(fdl_forward(m, a, b), want[i][0], want[i][1]);
        check_ok(fdl_module_free(m));
    }
    fdl_module *count = fdl_nn_pairwise_distance(.p = FDL_ZERO, .eps = FDL_ZERO),
               *kept = fdl_nn_pairwise_distance(.keepdim = true), *moved = fdl_nn_pairwise_distance(.eps = 1);
    check_values(fdl_forward(count, a, b), 2, 1);
    check_shape(fdl_forward(kept, a, b), 2, 1);
    check_values(fdl_forward(moved, a, b), sqrt(4 + 9), sqrt(1 + 9));
    check_ok(fdl_module_free(count));
    check_ok(fdl_module_free(kept));
    check_ok(fdl_module_free(moved));
}

static void two_inputs_are_taken(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *makers[] = {fdl_nn_cosine_similarity(), fdl_nn_pairwise_distance()};
    const char *const says[][2] = {
        {"cosine_similarity takes 2 inputs, got 1", "cosine_similarity takes 2 inputs, got 3"},
        {"pairwise_distance takes 2 inputs, got 1", "pairwise_distance takes 2 inputs, got 3"}};
    fdl_tensor *x = fdl_ones(FDL_SHAPE(2, 3));
    for (int i = 0; i < 2; i++) {
        fdl_module *m = makers[i];
        check_some(m);
        assert_int_equal(fdl_params_count(fdl_parameters(m)), 0);
        check_refused(fdl_forward(m, x), FDL_E_ARG, says[i][0]);
        check_refused(fdl_forward(m, x, x, x), FDL_E_ARG, says[i][1]);
        check_refused(fdl_forward(m, x, fdl_ones(FDL_SHAPE(2, 4))), FDL_E_SHAPE, "[2, 4]");
        check_refused(fdl_forward(m, x, NULL), FDL_E_NULL, "");
        check_ok(fdl_module_free(m));
    }
    fdl_module *flow =
        fdl_flow(fdl_flow_input("other"), fdl_nn_pairwise_distance(.eps = FDL_ZERO), fdl_flow_using("other"));
    check_values(fdl_forward(flow, x, fdl_zeros(FDL_SHAPE(2, 3))), sqrt(3), sqrt(3));
    check_ok(fdl_module_free(flow));
}

static void wrong_options_are_refused(void **state)
{
    (void)state;
    check_refused(fdl_nn_cosine_similarity(.eps = FDL_ZERO), FDL_E_ARG, "fdl_nn_cosine_similarity",
                  "eps is 0");
    check_refused(fdl_nn_cosine_similarity(.dim = FDL_SOME(99)), FDL_E_ARG, "dim is 99");
    check_refused(fdl_nn_pairwise_distance(.p = -1), FDL_E_ARG, "fdl_nn_pairwise_distance", "p is -1");
    check_refused(fdl_nn_pairwise_distance(.p = NAN), FDL_E_ARG, "p is nan");
    check_refused(fdl_nn_pairwise_distance(.eps = (double)INFINITY), FDL_E_ARG, "eps is inf");
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cosine_similarity_by_hand),
        cmocka_unit_test(pairwise_distance_by_hand),
        cmocka_unit_test(two_inputs_are_taken),
        cmocka_unit_test(wrong_options_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
