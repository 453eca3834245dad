/* Lists of modules: numbers as names, what they own, that they run nothing themselves; files, copies and summaries of models that
 * have one. */
#include "check.h"

/* A module of one's own over a list: each of its modules in order. */
static fdl_tensor *stack_forward(void *self, fdl_tensor *x)
{
    fdl_module *list = *(fdl_module **)self;
    for (int i = 0; i < fdl_module_children(list); i++)
        x = fdl_forward(fdl_module_child_at(list, i, NULL), x);
    return x;
}

static const fdl_module_ops stack_ops = {
    .kind = "stack", .size = sizeof(fdl_module *), .forward = stack_forward};

static fdl_module *new_stack(fdl_module *list)
{
    fdl_module *m = fdl_module_new(&stack_ops);
    *(fdl_module **)fdl_module_self(m) = fdl_module_child(m, "layers", list);
    return fdl_module_done(m);
}

static void modules_by_number(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *first = fdl_nn_linear(2, 3), *last = fdl_nn_linear(3, 4);
    fdl_module *list = fdl_nn_list(first, fdl_nn_relu(), last);
    check_some(list);
    assert_string_equal(fdl_module_kind(list), "list");
    assert_int_equal(fdl_module_children(list), 3);
    assert_ptr_equal(fdl_module_child_at(list, 0, NULL), first);
    assert_ptr_equal(fdl_module_child_at(list, 2, NULL), last);
    assert_null(fdl_module_child_at(list, 3, NULL));
    check_error(FDL_E_RANGE, "child 3 of the 3 of list");
    const char *name;
    check_some(fdl_module_child_at(list, 2, &name));
    assert_string_equal(name, "2");
    fdl_module *more = fdl_nn_linear(4, 5);
    assert_ptr_equal(fdl_module_append(list, more), more);
    fdl_params *ps = fdl_parameters(list);
    static const char *const want[] = {"0.weight", "0.bias", "2.weight", "2.bias", "3.weight", "3.bias"};
    assert_int_equal(fdl_params_count(ps), 6);
    for (int i = 0; i < 6; i++)
        assert_string_equal(fdl_params_name(ps, i), want[i]);
    check_ok(fdl_eval(list));
    assert_false(fdl_is_training(more));

    fdl_module *m = new_stack(list);
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1, 2)), *y = fdl_forward(m, x);
    assert_int_equal(fdl_size(y, 1), 5);
    assert_string_equal(fdl_params_name(fdl_parameters(m), 0), "layers.0.weight");
    check_ok(fdl_module_free(m));
    fdl_module *none = fdl_nn_list();
    assert_int_equal(fdl_module_children(none), 0);
    check_ok(fdl_module_free(none));
}

static void a_list_runs_nothing_itself(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *list = fdl_nn_list(fdl_nn_relu());
    assert_null(fdl_forward(list, fdl_ones(FDL_SHAPE(2))));
    check_error(FDL_E_UNSUPPORTED, "a list has no forward", "fdl_module_child_at", "fdl_flow");
    fdl_module *flow = fdl_flow(list, fdl_nn_relu());
    check_some(flow);
    assert_null(fdl_forward(flow, fdl_ones(FDL_SHAPE(2))));
    check_error(FDL_E_UNSUPPORTED, "list_1");
    check_ok(fdl_module_free(flow));
}

static int freed;
static void count_free(void *self)
{
    (void)self;
    freed++;
}
static fdl_tensor *give_back(void *self, fdl_tensor *x)
{
    (void)self;
    return x;
}
static const fdl_module_ops counted_ops = {.kind = "counted", .forward = give_back, .free = count_free};

/* All that was handed over is freed with it, on failure too. */
static void a_list_takes_its_modules_over(void **state)
{
    (void)state;
    fdl_module *owned = fdl_module_new(&counted_ops), *owner = fdl_nn_list(owned);
    assert_null(fdl_nn_list(fdl_module_new(&counted_ops), NULL, fdl_module_new(&counted_ops)));
    check_error(FDL_E_NULL, "child");
    assert_int_equal(freed, 2);
    assert_null(fdl_nn_list(fdl_module_new(&counted_ops), owned));
    check_error(FDL_E_STATE, "has an owner already");
    assert_int_equal(freed, 3);
    assert_null(fdl_module_append(owner, owned));
    check_error(FDL_E_STATE, "has an owner already");
    assert_int_equal(fdl_module_children(owner), 1);
    fdl_module *linear = fdl_nn_linear(2, 2);
    assert_null(fdl_module_append(linear, fdl_module_new(&counted_ops)));
    check_error(FDL_E_ARG, "list is a linear", "must be a list");
    assert_int_equal(freed, 4);
    assert_null(fdl_module_append(NULL, fdl_module_new(&counted_ops)));
    check_error(FDL_E_NULL, "list");
    assert_int_equal(freed, 5);
    assert_null(fdl_module_append(owner, NULL));
    check_error(FDL_E_NULL, "child");
    assert_non_null(fdl_module_append(owner, fdl_nn_relu())); /* it is still what it was */
    check_ok(fdl_module_free(linear));
    check_ok(fdl_module_free(owner));
    assert_int_equal(freed, 6);
}

static void a_list_is_written_and_copied(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *list =
        fdl_nn_list(fdl_nn_linear(2, 3), fdl_nn_list(fdl_nn_linear(3, 4), fdl_nn_gelu()), fdl_nn_list());
    check_some(fdl_module_append(list, fdl_nn_batch_norm1d(4)));
    fdl_module *copy = fdl_module_clone(list);
    check_some(copy);
    char *text = fdl_topology_text(list);
    check_some(text);
    fdl_module *made = fdl_topology_parse(text);
    check_some(made);
    free(text);
    fdl_module *others[] = {copy, made};
    fdl_params *want = fdl_parameters(list);
    assert_int_equal(fdl_params_count(want), 6);
    for (int k = 0; k < 2; k++) {
        assert_int_equal(fdl_module_children(others[k]), 4);
        assert_int_equal(fdl_module_children(fdl_module_child_at(others[k], 1, NULL)), 2);
        assert_int_equal(fdl_module_children(fdl_module_child_at(others[k], 2, NULL)), 0);
        fdl_params *got = fdl_parameters(others[k]);
        assert_int_equal(fdl_params_count(got), 6);
        for (int i = 0; i < 6; i++) {
            assert_string_equal(fdl_params_name(got, i), fdl_params_name(want, i));
            fdl_tensor *a = fdl_param_tensor(fdl_params_at(got, i)),
                       *b = fdl_param_tensor(fdl_params_at(want, i));
            assert_true(k ? fdl_shape_eq(fdl_shape_of(a), fdl_shape_of(b)) : fdl_same(a, b));
        }
        check_ok(fdl_module_free(others[k]));
    }
    check_ok(fdl_module_free(list));
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modules_by_number),
        cmocka_unit_test(a_list_runs_nothing_itself),
        cmocka_unit_test(a_list_takes_its_modules_over),
        cmocka_unit_test(a_list_is_written_and_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
