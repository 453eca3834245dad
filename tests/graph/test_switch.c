/* Switches: which branch runs, what gets a gradient, selectors, choices that can't be. */
#include "graph/modules.h"

#include <math.h>

static void the_chosen_branch_runs_alone(void **state)
{
    (void)state;
    FDL_SCOPE;
    for (int chosen = 0; chosen < 2; chosen++) {
        fdl_module *count[] = {new_counter(), new_counter()};
        const counter *c[] = {fdl_module_self(count[0]), fdl_module_self(count[1])};
        fdl_module *g =
            fdl_flow(fdl_flow_switch(fdl_nn_fixed_selector(chosen),
                                     FDL_MODULES(fdl_flow(dbl(), count[0]), fdl_flow(tri(), count[1]))));
        fdl_tensor *x = row(1, 2), *y = fdl_forward(g, x);
        if (chosen)
            check_values(y, 3, 6);
        else
            check_values(y, 2, 4);
        assert_int_equal(c[chosen]->calls, 1);
        assert_int_equal(c[1 - chosen]->calls, 0);
        assert_string_equal(node_ids(g), "identity_1 switch_2");
        fdl_module_free(g);
    }
}

static void only_the_chosen_branch_learns(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(fdl_nn_linear(2, 2), fdl_flow_switch(fdl_nn_fixed_selector(1),
                                                      FDL_MODULES(fdl_nn_linear(2, 2), fdl_nn_linear(2, 2))));
    fdl_params *ps = fdl_parameters(g);
    assert_int_equal(fdl_params_count(ps), 6);
    assert_string_equal(fdl_params_name(ps, 2), "switch_2/branch_0.weight");
    assert_string_equal(fdl_params_name(ps, 5), "switch_2/branch_1.bias");
    fdl_optim *opt = fdl_optim_adam(ps, .lr = 0.1, .weight_decay = 0.1);
    fdl_tensor *idle = fdl_clone(fdl_detach(fdl_param_tensor(fdl_params_at(ps, 2))));
    fdl_tensor *busy = fdl_clone(fdl_detach(fdl_param_tensor(fdl_params_at(ps, 4))));
    for (int i = 0; i < 2; i++) {
        check_ok(fdl_optim_zero_grad(opt));
        fdl_tensor *x = fdl_randn(FDL_SHAPE(3, 2), .requires_grad = true);
        check_ok(fdl_backward(fdl_sum(fdl_square(fdl_forward(g, x)))));
        check_some(fdl_grad(x));
        for (int k = 0; k < 6; k++)
            assert_int_equal(fdl_grad(fdl_param_tensor(fdl_params_at(ps, k))) != NULL, k != 2 && k != 3);
        check_ok(fdl_optim_step(opt));
    }
    assert_true(fdl_same(fdl_param_tensor(fdl_params_at(ps, 2)), idle));
    assert_false(fdl_same(fdl_param_tensor(fdl_params_at(ps, 4)), busy));
    fdl_optim_free(opt);
    fdl_module_free(g);
}

/* A selector that gives what it was told. */
typedef struct told {
    double v;
    int n;
    fdl_dtype dtype;
} told;

static fdl_tensor *told_forward(void *self, fdl_tensor *x)
{
    (void)x;
    told *t = self;
    return fdl_to_dtype(fdl_full(FDL_SHAPE(t->n, 1), t->v), t->dtype);
}

static const fdl_module_ops told_ops = {.kind = "told", .size = sizeof(told), .forward = told_forward};

static fdl_module *switch_told(double v, int n, fdl_dtype dtype)
{
    fdl_module *m = fdl_module_new(&told_ops);
    *(told *)fdl_module_self(m) = (told){v, n, dtype};
    return fdl_flow(fdl_flow_switch(m, FDL_MODULES(dbl(), tri())), fdl_flow_tag("s"));
}

static void a_choice_of_any_dtype(void **state)
{
    (void)state;
    FDL_SCOPE;
    const struct {
        double v;
        fdl_dtype dtype;
        float want;
    } cases[] = {{1, FDL_INT64, 3},     {1, FDL_INT32, 3},     {1, FDL_FLOAT64, 3},
                 {1, FDL_BFLOAT16, 3},  {1, FDL_BOOL, 3},      {0, FDL_BOOL, 2},
                 {1.9, FDL_FLOAT32, 3}, {0.9, FDL_FLOAT32, 2}, {-0.0, FDL_FLOAT32, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fdl_module *g = switch_told(cases[i].v, 1, cases[i].dtype);
        check_values(fdl_forward(g, row(1)), cases[i].want);
        fdl_module_free(g);
    }
}

static void choices_that_cant_be(void **state)
{
    (void)state;
    FDL_SCOPE;
    const struct {
        double v;
        const char *text;
    } cases[] = {{2, "gives 2"}, {-1, "gives -1"}, {-0.5, "gives -0.5"}, {NAN, "nan"}, {INFINITY, "inf"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fdl_module *g = switch_told(cases[i].v, 1, FDL_FLOAT32);
        assert_null(fdl_forward(g, row(1)));
        check_error(FDL_E_RANGE, "switch_2 (#s): selector: ", cases[i].text, "2 branches");
        fdl_module_free(g);
    }
    for (int n = 0; n < 3; n += 2) {
        fdl_module *g = switch_told(1, n, FDL_FLOAT32);
        assert_null(fdl_forward(g, row(1)));
        check_error(FDL_E_SHAPE, "switch_2", n ? "[2, 1]" : "[0, 1]", "one element");
        fdl_module_free(g);
    }
    fdl_module *g = fdl_flow(fdl_flow_switch(fdl_nn_fixed_selector(1), FDL_MODULES(dbl(), fdl_nn_fn(fails))));
    assert_null(fdl_forward(g, row(1)));
    check_error(FDL_E_RANGE, "switch_2: branch 1: this module always fails");
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_switch(fdl_nn_fn(fails), FDL_MODULES(dbl(), tri())));
    assert_null(fdl_forward(g, row(1)));
    check_error(FDL_E_RANGE, "switch_2: selector: this module always fails");
    fdl_module_free(g);
}

#define refused(flow, ...)                   \
    do {                                     \
        assert_null(flow);                   \
        check_error(FDL_E_ARG, __VA_ARGS__); \
    } while (0)

static void switches_that_cant_be_built(void **state)
{
    (void)state;
    refused(fdl_flow(fdl_flow_switch(id(), FDL_MODULES(dbl()))), "step 0 (fdl_flow_switch)", "2 branches",
            "got 1");
    refused(fdl_flow(fdl_flow_switch_opt(id(), 0, NULL, NULL)), "got 0");
    refused(fdl_flow(fdl_flow_split(id(), id()), fdl_flow_switch(id(), FDL_MODULES(dbl(), tri()))),
            "step 1 (fdl_flow_switch)", "2 streams");
    refused(fdl_flow(fdl_flow_switch(id(), FDL_MODULES(dbl(), fdl_flow_tag("x")))),
            "fdl_flow_tag makes a step");
    refused(fdl_flow(fdl_flow_switch(id(), FDL_MODULES(dbl(), fdl_flow(id(), fdl_flow_input("c"))))),
            "branch 1", "\"c\"");
    refused(fdl_flow(id(), fdl_flow_tag("a"), fdl_flow_switch(dbl(), FDL_MODULES(add_ctx(), tri())),
                     fdl_flow_using("a")),
            "switch_2", "its selector dbl");
    refused(fdl_flow(fdl_flow_switch(id(), FDL_MODULES(dbl(), tri()), .trace_choice = "a/b")),
            ".trace_choice");
    refused(fdl_nn_fixed_selector(-1), "fixed_selector", "-1");
    refused(fdl_nn_argmax_selector(0, 2), "argmax_selector", "dim");
    assert_null(fdl_flow(fdl_flow_switch(id(), FDL_MODULES(dbl(), fdl_nn_linear(0, 1)))));
    check_error(FDL_E_ARG, "linear");
    assert_null(fdl_flow(fdl_flow_switch(fdl_nn_linear(0, 1), FDL_MODULES(dbl(), tri()))));
    check_error(FDL_E_ARG, "linear");
    assert_null(fdl_flow_switch_opt(id(), 2, NULL, NULL));
    check_error(FDL_E_NULL, "fdl_flow_switch");
}

/* 1 where the largest element of "ctx" is above 5. */
static fdl_tensor *by_ctx(fdl_tensor *x, const fdl_refs *r)
{
    (void)x;
    fdl_tensor *ctx = fdl_refs_need(r, "ctx");
    return ctx ? fdl_gt(fdl_max(ctx), 5) : NULL;
}

static void the_selector_gets_the_refs(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id(), fdl_flow_input("ctx"),
                             fdl_flow_switch(fdl_nn_fn_refs(by_ctx, "ctx"), FDL_MODULES(dbl(), tri())),
                             fdl_flow_using("ctx"));
    check_values(fdl_forward(g, row(1, 2), row(1, 5)), 2, 4);
    check_values(fdl_forward(g, row(1, 2), row(1, 6)), 3, 6);
    fdl_module_free(g);
    refused(fdl_flow(id(), fdl_flow_input("other"),
                     fdl_flow_switch(fdl_nn_fn_refs(by_ctx, "ctx"), FDL_MODULES(dbl(), tri())),
                     fdl_flow_using("other")),
            "missing: \"ctx\"", "unknown: \"other\"");
}

static void argmax_of_the_mean_logits(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_argmax_selector(4, 3), *rows = fdl_nn_argmax_selector(4, 3, .per_row = true);
    fdl_params *ps = fdl_parameters(m), *own = fdl_parameters(rows);
    assert_string_equal(fdl_params_name(ps, 0), "proj.weight");
    for (int i = 0; i < 2; i++)
        check_ok(fdl_param_set(fdl_params_at(own, i), fdl_param_tensor(fdl_params_at(ps, i))));
    fdl_tensor *w = fdl_param_tensor(fdl_params_at(ps, 0)), *b = fdl_param_tensor(fdl_params_at(ps, 1));
    const fdl_shape shapes[] = {FDL_SHAPE(5, 4), FDL_SHAPE(2, 3, 4), FDL_SHAPE(4), FDL_SHAPE(1, 4)};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int k = 0; k < 8; k++) {
            fdl_tensor *x = fdl_randn(shapes[i]);
            fdl_tensor *scores = fdl_linear(x, w, .bias = b);
            int64_t want =
                fdl_item_i64(fdl_argmax(fdl_mean_dim(fdl_reshape(scores, FDL_SHAPE(-1, 3)), 0), 0));
            fdl_tensor *got = fdl_forward(m, x);
            assert_int_equal(fdl_numel(got), 1);
            assert_int_equal(fdl_item_i64(got), want);
            assert_false(fdl_requires_grad(got));
            if (shapes[i].ndim == 1)
                continue;
            got = fdl_forward(rows, x);
            assert_true(fdl_shape_eq(fdl_shape_of(got), FDL_SHAPE(shapes[i].d[0])));
            if (shapes[i].ndim == 3)
                scores = fdl_mean_dim(scores, 1);
            assert_true(fdl_same(got, fdl_argmax(scores, -1)));
        }
    /* the lowest at a tie; further inputs are added first */
    check_ok(fdl_param_set(fdl_params_at(ps, 0), fdl_zeros(FDL_SHAPE(3, 4))));
    check_ok(fdl_param_set(fdl_params_at(ps, 1), fdl_vec(0, 1, 1)));
    assert_int_equal(fdl_item_i64(fdl_forward(m, fdl_ones(FDL_SHAPE(5, 4)))), 1);
    fdl_tensor *third = fdl_zeros(FDL_SHAPE(3, 4));
    check_ok(fdl_param_set(fdl_params_at(ps, 0), third));
    check_ok(fdl_fill_(fdl_select(fdl_detach(w), 0, 2), 1));
    assert_int_equal(fdl_item_i64(fdl_forward(m, row(-1, -1, -1, -1), row(2, 2, 2, 2))), 2);
    assert_int_equal(fdl_item_i64(fdl_forward(m, row(-1, -1, -1, -1))), 1);
    assert_null(fdl_forward(rows, fdl_ones(FDL_SHAPE(4))));
    check_error(FDL_E_SHAPE, "argmax_selector", "[4]");
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(rows));
}

static void a_fixed_choice_is_made_on_the_host(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_fixed_selector(3);
    fdl_tensor *i = fdl_forward(m, row(1));
    assert_int_equal(fdl_device_of(i).type, FDL_DEVICE_TYPE_CPU);
    assert_int_equal(fdl_item_i64(i), 3);
    check_ok(fdl_module_free(m));
}

static void functions_with_named_inputs(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_fn_refs(by_ctx, "ctx");
    assert_string_equal(fdl_module_kind(m), "fn");
    assert_true(fdl_item_bool(fdl_forward(m, row(1), row(6))));
    assert_null(fdl_forward(m, row(1)));
    check_error(FDL_E_ARG, "\"ctx\"", "wired: none");
    assert_null(fdl_forward(m, row(1), row(2), row(3)));
    check_error(FDL_E_ARG, "up to 2 inputs");
    check_ok(fdl_module_free(m));
    assert_null(fdl_nn_fn_refs(NULL, "ctx"));
    check_error(FDL_E_NULL, "fdl_nn_fn_refs");
    refused(fdl_nn_fn_refs(by_ctx, ""), "fdl_nn_fn_refs", "empty");
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_chosen_branch_runs_alone), cmocka_unit_test(only_the_chosen_branch_learns),
        cmocka_unit_test(a_choice_of_any_dtype),        cmocka_unit_test(choices_that_cant_be),
        cmocka_unit_test(switches_that_cant_be_built),  cmocka_unit_test(the_selector_gets_the_refs),
        cmocka_unit_test(argmax_of_the_mean_logits),    cmocka_unit_test(a_fixed_choice_is_made_on_the_host),
        cmocka_unit_test(functions_with_named_inputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
