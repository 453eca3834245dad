/* State: what a step gets from the call before. */
#include "graph/modules.h"

/* x + all refs. */
static fdl_tensor *add_state_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    for (size_t i = 0; i < fdl_refs_count(r); i++)
        x = fdl_add(x, fdl_refs_at(r, i));
    return x;
}

static const fdl_module_ops add_state_ops = {.kind = "state_add", .forward_named = add_state_forward};
#define add_state() fdl_module_new(&add_state_ops)

/* [1, 2] -> [1, 2], [2, 4], [3, 6]: a running sum. */
static fdl_module *running_sum(void)
{
    return fdl_flow(id(), add_state(), fdl_flow_using("memory"), id(), fdl_flow_tag("memory"));
}

static fdl_tensor *leaf(fdl_tensor *x)
{
    FDL_CHECK(fdl_requires_grad_(x, true));
    return x;
}

/* ---- values -------------------------------------------------------------------------------------------- */

static void a_call_sees_what_the_one_before_wrote(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = running_sum();
    fdl_tensor *x = row(1, 2);
    assert_string_equal(node_ids(g), "identity_1 state_read_memory_3 state_add_2 identity_4");
    assert_int_equal(fdl_graph_node_level(g, 1), 0);
    for (int i = 1; i <= 3; i++)
        check_values(fdl_forward(g, x), 1.f * (float)i, 2.f * (float)i);
    check_ok(fdl_train(g));
    check_ok(fdl_eval(g));
    check_values(fdl_forward(g, x), 4, 8);
    check_ok(fdl_graph_reset_state(g));
    check_values(fdl_forward(g, x), 1, 2);
    check_ok(fdl_graph_detach_state(g));
    check_values(fdl_forward(g, x), 2, 4);
    assert_true(fdl_graph_has_state(g));
    fdl_module *plain = fdl_flow(id(), fdl_flow_tag("memory"));
    assert_false(fdl_graph_has_state(plain));
    fdl_module_free(plain);
    fdl_module_free(g);
    /* the very step that reads may write */
    g = fdl_flow(id(), add_state(), fdl_flow_using("memory"), fdl_flow_tag("memory"));
    for (int i = 1; i <= 3; i++)
        check_values(fdl_forward(g, x), 1.f * (float)i, 2.f * (float)i);
    fdl_module_free(g);
}

static void old_and_new_values_mix(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id(), fdl_flow_tag("ctx"), add_ctx(), fdl_flow_using("ctx"), add_state(),
                             fdl_flow_using("memory"), id(), fdl_flow_tag("memory"));
    check_values(fdl_forward(g, row(1, 2)), 2, 4);
    check_values(fdl_forward(g, row(1, 2)), 4, 8);
    fdl_module_free(g);
    /* on one step, in the order of using; each reader of a name sees the same value */
    g = fdl_flow(id(), fdl_flow_tag("now"), sum_refs(), fdl_flow_using("then", "now"),
                 fdl_flow_fork(add_state()), fdl_flow_using("then"), fdl_flow_tag("side"), tri(),
                 fdl_flow_tag("then"));
    check_values(fdl_forward(g, row(1)), 3 * (1 + 0 + 2));
    check_values(fdl_graph_tagged(g, "side"), 3);
    check_values(fdl_forward(g, row(1)), 3 * (1 + 9 + 2));
    check_values(fdl_graph_tagged(g, "side"), 12 + 9);
    assert_int_equal(fdl_graph_state_count(g), 1);
    fdl_module_free(g);
}

static fdl_tensor *seen_zeros;
static bool seen_initial;

static fdl_tensor *look_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    fdl_free(seen_zeros);
    seen_zeros = fdl_keep(fdl_refs_need(r, "m"));
    seen_initial = fdl_refs_initial(r, "m");
    assert_false(fdl_refs_initial(r, "none"));
    return x;
}

static const fdl_module_ops look_ops = {.kind = "look", .forward_named = look_forward};

static void an_empty_slot_is_zeros_like_the_input(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id(), fdl_module_new(&look_ops), fdl_flow_using("m"), dbl(), fdl_flow_tag("m"));
    fdl_tensor *x = fdl_full(FDL_SHAPE(2, 3), 5, .dtype = FDL_INT64);
    check_some(fdl_forward(g, x));
    assert_true(seen_initial);
    assert_int_equal(fdl_dtype_of(seen_zeros), FDL_INT64);
    assert_true(fdl_shape_eq(fdl_shape_of(seen_zeros), FDL_SHAPE(2, 3)));
    assert_true(fdl_device_eq(fdl_device_of(seen_zeros), fdl_device_of(x)));
    assert_false(fdl_requires_grad(seen_zeros));
    check_values(seen_zeros, 0, 0, 0, 0, 0, 0);
    check_some(fdl_forward(g, x));
    assert_false(seen_initial);
    check_values(seen_zeros, 10, 10, 10, 10, 10, 10);
    check_ok(fdl_graph_end_sequence(g));
    check_some(fdl_forward(g, x));
    assert_true(seen_initial);
    fdl_free(seen_zeros);
    seen_zeros = NULL;
    fdl_module_free(g);
}

static void merges_loops_branches_and_graphs_read_state(void **state)
{
    (void)state;
    FDL_SCOPE;
    for (int grad = 0; grad < 2; grad++) { /* in place without grad mode */
        fdl_mode_guard mode = grad ? fdl_enable_grad_open() : fdl_no_grad_open();
        fdl_module *g = fdl_flow(id(), fdl_flow_split(dbl(), tri()), fdl_flow_merge(FDL_MERGE_MEAN),
                                 fdl_flow_using("m"), fdl_flow_tag("m"));
        check_values(fdl_forward(g, row(3)), 5);        /* (6 + 9 + 0) / 3 */
        check_values(fdl_forward(g, row(3)), 20.f / 3); /* (6 + 9 + 5) / 3 */
        fdl_module_free(g);
        g = fdl_flow(id(), fdl_flow_loop(add_state(), .n = 3), fdl_flow_using("m"), dbl(), fdl_flow_tag("m"));
        check_values(fdl_forward(g, row(1)), 2); /* zeros at every run */
        check_values(fdl_forward(g, row(1)), 2 * (1 + 3 * 2));
        fdl_module_free(g);
        g = fdl_flow(id(), fdl_flow_split(add_state(), sum_refs()), fdl_flow_using("m", "n"),
                     fdl_flow_merge(FDL_MERGE_ADD), fdl_flow_tag("m"), dbl(), fdl_flow_tag("n"));
        check_values(fdl_forward(g, row(1)), 4); /* m = 2, n = 4 */
        check_values(fdl_forward(g, row(1)), 2 * (1 + 2 + 4 + 1 + 2 + 2 * 4));
        assert_int_equal(fdl_graph_state_count(g), 2);
        fdl_module_free(g);
        fdl_module *child = fdl_flow(dbl(), fdl_flow_input("past"), add_state(), fdl_flow_using("past"));
        g = fdl_flow(id(), child, fdl_flow_using("past=m"), fdl_flow_tag("m"));
        check_values(fdl_forward(g, row(1)), 2);
        check_values(fdl_forward(g, row(1)), 4);
        fdl_module_free(g);
        check_ok(fdl_mode_close(mode));
    }
}

static fdl_tensor *first_ref(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    (void)x;
    return fdl_refs_at(r, 0);
}

static const fdl_module_ops first_ops = {.kind = "first", .forward_named = first_ref};

static void the_state_itself_may_be_the_result(void **state)
{
    (void)state;
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_module *g =
        fdl_flow(dbl(), fdl_flow_fork(dbl()), fdl_flow_tag("unused"), fdl_module_new(&first_ops),
                 fdl_flow_using("m"), fdl_flow_also(tri()), fdl_flow_fork(id()), fdl_flow_tag("y"),
                 fdl_module_new(&first_ops), fdl_flow_using("unused"), fdl_flow_tag("m"));
    fdl_tensor *a = fdl_forward(g, row(1));
    check_values(fdl_graph_tagged(g, "y"), 0);
    check_values(a, 4);
    fdl_tensor *b = fdl_forward(g, row(2));
    check_values(fdl_graph_tagged(g, "y"), 4 + 12);
    check_values(b, 8);
    check_values(a, 4);
    fdl_module_free(g);
    /* a delay line: the output is the slot's own value */
    g = fdl_flow(id(), fdl_flow_fork(dbl()), fdl_flow_tag("now"), fdl_module_new(&first_ops),
                 fdl_flow_using("m"), fdl_flow_fork(fdl_module_new(&first_ops)), fdl_flow_using("now"),
                 fdl_flow_tag("m"));
    a = fdl_forward(g, row(1));
    b = fdl_forward(g, row(2));
    fdl_tensor *c = fdl_forward(g, row(3));
    check_values(a, 0);
    check_values(b, 2);
    check_values(c, 4);
    fdl_module_free(g);
    check_values(c, 4);
}

static void the_state_of_an_input_is_a_copy(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id(), add_state(), fdl_flow_using("ctx"), fdl_flow_input("ctx"));
    fdl_tensor *ctx = row(10);
    check_values(fdl_forward(g, row(1), ctx), 1);
    {
        FDL_NO_GRAD;
        check_ok(fdl_fill_(ctx, 99)); /* the caller's memory, used again */
    }
    check_values(fdl_forward(g, row(1), ctx), 11);
    check_values(fdl_forward(g, row(1), ctx), 100);
    fdl_module_free(g);
}

/* ---- failures ------------------------------------------------------------------------------------------ */

static bool fail_now;

static fdl_tensor *fails_on_demand(fdl_tensor *x)
{
    return fail_now ? fdl_fail_null(FDL_E_RANGE, "on demand") : x;
}

static void a_call_that_fails_leaves_the_state(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id(), add_state(), fdl_flow_using("memory"), fdl_flow_tag("memory"),
                             fdl_nn_fn(fails_on_demand));
    check_values(fdl_forward(g, row(1)), 1);
    fail_now = true;
    assert_null(fdl_forward(g, row(100)));
    check_error(FDL_E_RANGE, "on demand");
    fail_now = false;
    check_values(fdl_forward(g, row(1)), 2);
    fdl_module_free(g);
}

static void another_batch_size_is_explained(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(fdl_nn_linear(2, 2), add_state(), fdl_flow_using("memory"), fdl_flow_tag("memory"));
    check_some(fdl_forward(g, fdl_ones(FDL_SHAPE(4, 2))));
    assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(3, 2))));
    check_error(FDL_E_SHAPE, "state_add_2 (#memory): its state \"memory\" is of an earlier call, [4, 2]",
                "the input is [3, 2]", "fdl_graph_reset_state");
    check_ok(fdl_graph_reset_state(g));
    check_some(fdl_forward(g, fdl_ones(FDL_SHAPE(3, 2))));
    fdl_module_free(g);
}

/* ---- gradients ----------------------------------------------------------------------------------------- */

static void history_ends_with_the_step(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_linear(2, 2), fdl_nn_sigmoid(), add_state(), fdl_flow_using("memory"),
                             fdl_flow_tag("memory"));
    fdl_tensor *x = row(1, 2);
    for (int i = 0; i < 3; i++) {
        check_ok(fdl_backward(fdl_sum(fdl_forward(g, x))));
        check_ok(fdl_graph_end_step(g));
    }
    assert_int_equal(fdl_graph_step_count(g), 3);
    check_ok(fdl_backward(fdl_sum(fdl_forward(g, x))));
    fdl_tensor *loss = fdl_sum(fdl_forward(g, x));
    assert_int_not_equal(fdl_backward(loss), FDL_OK);
    check_error(FDL_E_STATE, "second time", "fdl_graph_end_step");
    assert_int_equal(fdl_graph_epoch_count(g), 0);
    check_ok(fdl_graph_end_epoch(g));
    check_ok(fdl_graph_end_sequence(g));
    assert_int_equal(fdl_graph_epoch_count(g), 1);
    assert_int_equal(fdl_graph_step_count(g), 3);
    fdl_module_free(g);
}

static void gradients_flow_through_calls(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *b = new_bias(2);
    fdl_module *g = fdl_flow(b, add_state(), fdl_flow_using("memory"), fdl_flow_tag("memory"));
    fdl_tensor *x = row(1, 2), *sum = NULL;
    for (int i = 0; i < 3; i++) {
        fdl_tensor *y = fdl_sum(fdl_forward(g, x));
        sum = sum ? fdl_add(sum, y) : y;
    }
    check_ok(fdl_backward(sum));
    check_values(fdl_grad(fdl_param_tensor(fdl_module_own_param(b, "bias"))), 6, 6); /* 1 + 2 + 3 calls */
    fdl_module_free(g);
}

static void inference_carries_state_without_history(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *b = new_bias(2);
    fdl_module *g = fdl_flow(b, add_state(), fdl_flow_using("memory"), fdl_flow_tag("memory"));
    check_ok(fdl_eval(g));
    {
        FDL_NO_GRAD;
        check_values(fdl_forward(g, row(1, 2)), 1, 2);
        check_values(fdl_forward(g, row(1, 2)), 2, 4);
    }
    assert_false(fdl_requires_grad(fdl_graph_state_get(g, "memory")));
    fdl_module_free(g);
}

/* ---- trees --------------------------------------------------------------------------------------------- */

static void state_inside_is_reached(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *child = fdl_flow(new_bias(2), add_state(), fdl_flow_using("memory"), fdl_flow_tag("memory"));
    fdl_module *g = fdl_flow(fdl_flow_gate(fdl_nn_softmax_router(2, 2), FDL_MODULES(child, id())));
    assert_false(fdl_graph_has_state(g));
    for (int i = 0; i < 3; i++) {
        check_some(fdl_forward(g, row(1, 2)));
        assert_true(fdl_requires_grad(fdl_graph_state_get(child, "memory")));
        check_ok(fdl_graph_detach_state(g));
        fdl_tensor *m = fdl_graph_state_get(child, "memory");
        assert_false(fdl_requires_grad(m));
        check_values(m, (float)i + 1, 2 * ((float)i + 1));
    }
    check_ok(fdl_graph_reset_state(g));
    assert_null(fdl_graph_state_get(child, "memory"));
    check_error(FDL_E_STATE, "\"memory\" is empty");
    fdl_module_free(g);
}

static void a_loop_begins_its_body_afresh(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow_loop(running_sum(), .n = 3));
    for (int i = 0; i < 2; i++)
        check_values(fdl_forward(g, row(1)), 4); /* 1, 1 + 1, 2 + 2 */
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_loop(running_sum(), .n = 3, .keep_state = true));
    check_values(fdl_forward(g, row(1)), 4);
    check_values(fdl_forward(g, row(1)), 20); /* 1 + 4, 5 + 5, 10 + 10 */
    fdl_module_free(g);
}

static void one_shared_graph_has_one_slot(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *child = running_sum();
    fdl_module *a = fdl_flow(child), *b = fdl_flow(fdl_module_share(child));
    check_values(fdl_forward(a, row(1)), 1);
    check_values(fdl_forward(b, row(1)), 2);
    check_values(fdl_forward(a, row(1)), 3);
    fdl_module_free(a);
    check_values(fdl_forward(b, row(1)), 4);
    fdl_module_free(b);
}

/* ---- from outside -------------------------------------------------------------------------------------- */

static void state_is_read_and_set(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = running_sum();
    assert_int_equal(fdl_graph_state_count(g), 1);
    assert_string_equal(fdl_graph_state_name(g, 0), "memory");
    assert_null(fdl_graph_state_name(g, 1));
    check_error(FDL_E_RANGE, "state 1 of 1");
    check_ok(fdl_graph_state_set(g, "memory", row(10, 20)));
    check_values(fdl_forward(g, row(1, 2)), 11, 22);
    fdl_tensor *saved = fdl_graph_state_get(g, "memory");
    check_values(fdl_forward(g, row(1, 2)), 12, 24);
    check_values(saved, 11, 22);
    check_ok(fdl_graph_state_set(g, "memory", saved)); /* as a server does for each of its clients */
    check_values(fdl_forward(g, row(1, 2)), 12, 24);
    check_ok(fdl_graph_state_set(g, "memory", NULL));
    check_values(fdl_forward(g, row(1, 2)), 1, 2);
    assert_null(fdl_graph_state_get(g, "memry"));
    check_error(FDL_E_ARG, "no state \"memry\"", "closest: memory");
    assert_int_equal(fdl_graph_state_set(g, "x", NULL), FDL_E_ARG);
    check_error(FDL_E_ARG, "no state \"x\"");
    fdl_module_free(g);
}

static void a_slot_may_begin_with_something_else_than_zeros(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *b = new_bias(2);
    fdl_module *g = fdl_flow(b, fdl_module_new(&look_ops), fdl_flow_using("m"), add_state(),
                             fdl_flow_using("m"), fdl_flow_tag("m"));
    fdl_tensor *start = leaf(row(10, 20));
    check_ok(fdl_graph_state_initial(g, "m", start));
    fdl_tensor *y = fdl_forward(g, row(1, 2));
    check_values(y, 11, 22);
    assert_false(seen_initial);
    check_ok(fdl_backward(fdl_sum(fdl_forward(g, row(1, 2)))));
    check_values(fdl_grad(start), 1, 1);
    check_ok(fdl_graph_reset_state(g));
    check_values(fdl_forward(g, row(1, 2)), 11, 22);
    check_ok(fdl_graph_reset_state(g));
    check_ok(fdl_graph_state_initial(g, "m", NULL));
    check_values(fdl_forward(g, row(1, 2)), 1, 2);
    fdl_free(seen_zeros);
    seen_zeros = NULL;
    fdl_module_free(g);
}

static void moving_takes_the_state_along(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *b = new_bias(2);
    fdl_module *g = fdl_flow(b, add_state(), fdl_flow_using("memory"), fdl_flow_tag("memory"));
    fdl_tensor *bias = fdl_param_tensor(fdl_module_own_param(b, "bias"));
    check_ok(fdl_graph_state_initial(g, "memory", bias)); /* a parameter stays that parameter */
    check_values(fdl_forward(g, row(1, 2)), 1, 2);
    fdl_tensor *before = fdl_graph_state_get(g, "memory");
    check_ok(fdl_module_to(g, fdl_default_device(), .dtype = FDL_FLOAT64));
    assert_int_equal(fdl_dtype_of(fdl_graph_state_get(g, "memory")), FDL_FLOAT64);
    assert_false(fdl_requires_grad(fdl_graph_state_get(g, "memory")));
    assert_int_equal(fdl_dtype_of(before), FDL_FLOAT32); /* whoever holds the old value keeps it */
    check_values(fdl_forward(g, fdl_to_dtype(row(1, 2), FDL_FLOAT64)), 2, 4);
    check_ok(fdl_graph_reset_state(g));
    check_ok(fdl_backward(fdl_sum(fdl_forward(g, fdl_to_dtype(row(1, 2), FDL_FLOAT64)))));
    check_values(fdl_grad(bias), 2, 2); /* as a bias, and as what the state begins with */
    check_ok(fdl_module_to(g, fdl_default_device(), .dtype = FDL_FLOAT32));
    assert_int_equal(fdl_dtype_of(fdl_graph_state_get(g, "memory")), FDL_FLOAT32);
    fdl_module_free(g);
}

static void nothing_grows_in_a_thousand_steps(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(fdl_nn_linear(2, 2), fdl_flow_tag("ctx"), fdl_nn_sigmoid(), fdl_flow_loop(add_ctx(), .n = 3),
                 fdl_flow_using("ctx"), add_state(), fdl_flow_using("memory"), fdl_flow_tag("memory"));
    fdl_tensor *x = row(1, 2);
    int64_t before = 0;
    for (int i = 0; i < 1000; i++) {
        FDL_SCOPE;
        check_ok(fdl_backward(fdl_mean(fdl_sigmoid(fdl_forward(g, x)))));
        check_ok(fdl_graph_end_step(g));
        if (i == 10)
            before = fdl_live_tensors();
        else if (i > 10)
            assert_int_equal(fdl_live_tensors(), before);
    }
    fdl_module_free(g);
}

/* ---- for recorded runs --------------------------------------------------------------------------------- */

static void settled_state_stays_where_it_is(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(running_sum());
    fdl_list states = fdl_module_states(g);
    assert_int_equal(states.n, 1);
    assert_null(states.at[0]);
    fdl_tensor *y = fdl_forward(g, row(1, 2));
    check_ok(fdl_module_settle(g));
    fdl_tensor *place = fdl_module_states(g).at[0];
    const void *at = fdl_identity(place);
    uint64_t generation = fdl_module_generation(g);
    check_values(place, 1, 2);
    for (int i = 2; i < 5; i++) {
        fdl_forward(g, row(1, 2));
        check_ok(fdl_module_settle(g));
        assert_ptr_equal(fdl_identity(fdl_module_states(g).at[0]), at);
        check_values(place, (float)i, 2 * (float)i);
        assert_true(fdl_module_generation(g) == generation);
    }
    check_values(y, 1, 2); /* nobody else's memory */
    check_ok(fdl_module_reset(g));
    assert_false(fdl_module_generation(g) == generation); /* empty is another run */
    fdl_forward(g, row(1, 2));
    check_ok(fdl_module_settle(g));
    assert_true(fdl_module_generation(g) == generation);
    fdl_forward(g, row(1, 2));
    assert_false(fdl_module_generation(g) == generation); /* not settled */
    check_ok(fdl_module_reset(g));
    fdl_forward(g, row(1, 2, 3));
    check_ok(fdl_module_settle(g));
    assert_ptr_not_equal(fdl_identity(fdl_module_states(g).at[0]), at); /* another shape, another place */
    check_values(place, 1, 2);
    fdl_module_free(g);
}

/* What a replay does: the same memory is read and written, and the host's part is put back. */
static void what_a_run_left_is_put_back(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *child =
        fdl_flow(id(), add_state(), fdl_flow_using("m"), fdl_flow_tag("m"), fdl_flow_tag("twin"));
    fdl_module *g = fdl_flow(child, fdl_flow_tag("out"));
    fdl_list empty = fdl_module_left(g);
    assert_int_equal(empty.n, 3); /* out; the state, and the value under its two tags */
    for (int i = 0; i < empty.n; i++)
        assert_null(empty.at[i]);
    fdl_forward(g, row(1));
    fdl_list one = fdl_module_left(g);
    fdl_forward(g, row(1));
    check_values(fdl_graph_tagged(g, "out"), 2);
    check_ok(fdl_module_set_left(g, one));
    check_values(fdl_graph_tagged(g, "out"), 1);
    check_values(fdl_graph_tagged(child, "twin"), 1);
    check_values(fdl_graph_state_get(child, "m"), 1);
    check_values(fdl_forward(g, row(1)), 2);
    check_ok(fdl_module_set_left(g, empty));
    assert_null(fdl_graph_tagged(g, "out"));
    check_error(FDL_E_STATE, "out");
    check_values(fdl_forward(g, row(1)), 1);
    assert_int_equal(fdl_module_set_left(g, (fdl_list){2, one.at}), FDL_E_ARG);
    check_error(FDL_E_ARG, "2 entries for a tree that has 3");
    fdl_module_free(g);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_sees_what_the_one_before_wrote),
        cmocka_unit_test(old_and_new_values_mix),
        cmocka_unit_test(an_empty_slot_is_zeros_like_the_input),
        cmocka_unit_test(merges_loops_branches_and_graphs_read_state),
        cmocka_unit_test(the_state_itself_may_be_the_result),
        cmocka_unit_test(the_state_of_an_input_is_a_copy),
        cmocka_unit_test(a_call_that_fails_leaves_the_state),
        cmocka_unit_test(another_batch_size_is_explained),
        cmocka_unit_test(history_ends_with_the_step),
        cmocka_unit_test(gradients_flow_through_calls),
        cmocka_unit_test(inference_carries_state_without_history),
        cmocka_unit_test(state_inside_is_reached),
        cmocka_unit_test(a_loop_begins_its_body_afresh),
        cmocka_unit_test(one_shared_graph_has_one_slot),
        cmocka_unit_test(state_is_read_and_set),
        cmocka_unit_test(a_slot_may_begin_with_something_else_than_zeros),
        cmocka_unit_test(moving_takes_the_state_along),
        cmocka_unit_test(nothing_grows_in_a_thousand_steps),
        cmocka_unit_test(settled_state_stays_where_it_is),
        cmocka_unit_test(what_a_run_left_is_put_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
