/* Graphs made out of graphs: parts, copies, replaced modules, adapters. */
#include "graph/modules.h"

static bool equal(fdl_tensor *a, fdl_tensor *b)
{
    check_some(a);
    check_some(b);
    return fdl_shape_eq(fdl_shape_of(a), fdl_shape_of(b)) && fdl_item(fdl_sum(fdl_ne(a, b))) == 0;
}

static fdl_tensor *param(fdl_module *g, const char *name)
{
    return fdl_param_tensor(fdl_params_find(fdl_parameters(g), name));
}

static fdl_tensor *input(void)
{
    return fdl_randn(FDL_SHAPE(3, 4));
}

static bool same_names(fdl_params *part, fdl_params *whole)
{
    bool all = fdl_params_count(part) > 0;
    for (int i = 0; i < fdl_params_count(part); i++) {
        fdl_param *p = fdl_params_find(whole, fdl_params_name(part, i));
        all &= p && fdl_is(fdl_param_tensor(p), fdl_param_tensor(fdl_params_at(part, i)));
    }
    return all;
}

/* stem, a residual tagged "mid", a loop, a head that sees the stem's value again. */
static fdl_module *new_model(void)
{
    return fdl_flow(fdl_nn_linear(4, 4), fdl_flow_tag("stem"), fdl_nn_tanh(),
                    fdl_flow_also(fdl_nn_linear(4, 4)), fdl_flow_tag("mid"),
                    fdl_flow_loop(fdl_nn_linear(4, 4), .n = 2), fdl_nn_tanh(), sum_refs(),
                    fdl_flow_using("stem"), fdl_nn_linear(4, 2), fdl_flow_tag("out"));
}

/* ---- parts ---------------------------------------------------------------------------------------------- */

static void up_to_a_tag(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = new_model(), *part = fdl_graph_until(g, "mid");
    check_some(part);
    fdl_tensor *x = input();
    check_some(fdl_forward(g, x));
    assert_true(equal(fdl_forward(part, x), fdl_graph_tagged(g, "mid")));
    assert_int_equal(fdl_params_count(fdl_parameters(part)), 4);
    assert_true(same_names(fdl_parameters(part), fdl_parameters(g)));
    assert_string_equal(node_ids(part), "linear_1 tanh_2 linear_3 add_4");
    /* one weight: what the part's training changes is changed in the whole */
    check_ok(fdl_init_zeros(param(part, "stem/weight")));
    check_number(fdl_item(fdl_sum(fdl_abs(param(g, "stem/weight")))), 0, 0);
    fdl_module_free(g);
    check_some(fdl_forward(part, x)); /* outlives it */
    fdl_module_free(part);
}

static void up_to_the_tag_of_a_side_branch(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(dbl(), fdl_flow_fork(tri()), fdl_flow_tag("side"), dbl(),
                             fdl_flow_split(tri(), dbl()), fdl_flow_tag_group("head"),
                             fdl_flow_merge(FDL_MERGE_ADD), fdl_flow_also(tri(), .name = "branch"));
    fdl_module *side = fdl_graph_until(g, "side"), *head = fdl_graph_until(g, "head_1"),
               *branch = fdl_graph_until(g, "branch");
    check_values(fdl_forward(side, row(1, 2)), 6, 12);
    check_values(fdl_forward(head, row(1, 2)), 8, 16);
    check_values(fdl_forward(branch, row(1)), 3 * 20);
    fdl_module *of_head = fdl_graph_until(head, "side");
    check_values(fdl_forward(of_head, row(1, 2)), 6, 12);
    fdl_module_free(g);
    fdl_module_free(of_head);
    fdl_module_free(side);
    fdl_module_free(head);
    fdl_module_free(branch);
}

static void behind_a_tag(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = new_model(), *before = fdl_graph_until(g, "mid"), *behind = fdl_graph_from(g, "mid");
    check_some(behind);
    assert_int_equal(fdl_graph_input_count(behind), 2);
    assert_string_equal(fdl_graph_input_name(behind, 1), "stem");
    assert_true(same_names(fdl_parameters(behind), fdl_parameters(g))); /* with the ids of the whole */
    fdl_tensor *x = input(), *y = fdl_forward(g, x);
    fdl_tensor *mid = fdl_forward(before, x), *stem = fdl_graph_tagged(before, "stem");
    assert_true(equal(fdl_forward(behind, mid, stem), y));
    assert_true(equal(fdl_graph_tagged(behind, "mid"), mid));
    /* between two tags */
    fdl_module *between = fdl_graph_until(behind, "out");
    assert_true(equal(fdl_forward(between, mid, stem), y));
    assert_true(same_names(fdl_parameters(between), fdl_parameters(g)));
    fdl_module *last = fdl_graph_from(g, "out");
    assert_true(equal(fdl_forward(last, y), y));
    fdl_module_free(g);
    fdl_module_free(before);
    fdl_module_free(behind);
    fdl_module_free(between);
    fdl_module_free(last);
}

static void a_part_takes_the_inputs_that_it_needs(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(fdl_flow_label("model"), fdl_flow_input("ctx"), dbl(), fdl_flow_tag("_hidden"),
                 fdl_flow_internal("late"), add_ctx(), fdl_flow_using("ctx"), tri(), fdl_flow_tag("late"));
    fdl_module *behind = fdl_graph_from(g, "_hidden"), *before = fdl_graph_until(g, "_hidden");
    check_values(fdl_forward(behind, row(1), row(10)), 33);
    assert_string_equal(fdl_graph_input_name(behind, 1), "ctx");
    assert_true(fdl_graph_is_internal(behind, "late"));
    assert_null(fdl_graph_label(behind)); /* it is another graph */
    check_values(fdl_forward(before, row(1), row(10)), 2);
    fdl_module_free(g);
    fdl_module_free(behind);
    fdl_module_free(before);
}

static void parts_that_can_not_be(void **state)
{
    (void)state;
    fdl_module *g = fdl_flow(dbl(), tri(), fdl_flow_tag("a"), fdl_flow_fork(dbl()), fdl_flow_tag("side"),
                             tri(), sum_refs(), fdl_flow_using("a"));
    assert_null(fdl_graph_until(g, "nope"));
    check_error(FDL_E_ARG, "fdl_graph_until", "\"nope\"");
    assert_null(fdl_graph_from(g, "nope"));
    check_error(FDL_E_ARG, "fdl_graph_from", "\"nope\"");
    assert_null(fdl_graph_until(NULL, "a"));
    check_error(FDL_E_NULL, "fdl_graph_until");
    assert_null(fdl_graph_from(g, NULL));
    check_error(FDL_E_NULL, "fdl_graph_from");
    fdl_module *untagged = fdl_flow(dbl(), fdl_flow_fork(tri()), fdl_flow_tag("side"), dbl());
    assert_null(fdl_graph_from(untagged, "side"));
    check_error(FDL_E_ARG, "fdl_graph_from: \"side\"", "dbl_3 needs the value of dbl_1");
    fdl_module_free(untagged);
    fdl_module_free(g);
}

static void a_subgraph_by_itself(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *encoder =
        fdl_flow(fdl_flow_label("encoder"), fdl_nn_linear(4, 4), fdl_flow_tag("h"), fdl_nn_tanh());
    fdl_module *g = fdl_flow(encoder, fdl_nn_linear(4, 2));
    fdl_module *alone = fdl_graph_extract(g, "encoder"), *again = fdl_graph_extract(g, NULL);
    assert_false(fdl_graph_is_composed(alone));
    assert_string_equal(fdl_graph_label(alone), "encoder");
    assert_string_equal(fdl_graph_hash(alone), fdl_graph_hash(encoder));
    assert_string_equal(fdl_graph_hash(again), fdl_graph_hash(g));
    assert_true(same_names(fdl_parameters(alone), fdl_parameters(encoder)));
    fdl_tensor *x = input();
    assert_true(equal(fdl_forward(again, x), fdl_forward(g, x)));
    check_some(fdl_forward(alone, x));
    fdl_tensor *mine = fdl_graph_tagged(alone, "h");
    check_some(fdl_forward(g, fdl_zeros(FDL_SHAPE(1, 4))));
    assert_true(fdl_is(fdl_graph_tagged(alone, "h"), mine)); /* values of its own */
    assert_null(fdl_graph_extract(g, "encoder.h"));
    check_error(FDL_E_ARG, "fdl_graph_extract", "leads to a tag");
    fdl_module_free(g);
    check_some(fdl_forward(alone, x));
    fdl_module_free(alone);
    fdl_module_free(again);
}

/* memory: x + what memory was in the call before. */
static fdl_module *with_state(void)
{
    return fdl_flow(fdl_nn_identity(), fdl_flow_also(fdl_nn_identity()), fdl_flow_tag("in"),
                    fdl_nn_state_add(), fdl_flow_using("memory"), fdl_flow_tag("memory"),
                    fdl_flow_also(fdl_nn_identity()), fdl_flow_tag("out"));
}

static void parts_and_copies_have_state_of_their_own(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = with_state();
    check_values(fdl_forward(g, row(1)), 4);
    check_values(fdl_forward(g, row(1)), 8);
    fdl_module *part = fdl_graph_until(g, "memory"), *behind = fdl_graph_from(g, "in"),
               *copy = fdl_module_clone(g), *same = fdl_graph_extract(g, NULL);
    check_values(fdl_forward(part, row(1)), 2);
    check_values(fdl_forward(part, row(1)), 4);
    check_values(fdl_forward(behind, row(2)), 4);
    check_values(fdl_forward(behind, row(2)), 8);
    check_values(fdl_forward(copy, row(1)), 4);
    check_values(fdl_forward(same, row(1)), 4);
    check_values(fdl_forward(g, row(1)), 12);
    fdl_module_free(part);
    fdl_module_free(behind);
    fdl_module_free(copy);
    fdl_module_free(same);
    fdl_module_free(g);
    /* the writer stands behind the cut */
    g = fdl_flow(fdl_nn_state_add(), fdl_flow_using("later"), fdl_flow_tag("here"), tri(),
                 fdl_flow_tag("later"));
    assert_null(fdl_graph_until(g, "here"));
    check_error(FDL_E_ARG, "fdl_graph_until: \"here\"", "\"later\"");
    fdl_module_free(g);
}

static void parts_with_every_kind_of_step(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(fdl_nn_linear(4, 4), fdl_flow_tag("a"), fdl_flow_map(fdl_nn_linear(4, 4)),
                 fdl_flow_tag("cut"), fdl_flow_map(fdl_nn_linear(4, 4), .over = "a"), fdl_flow_tag("over"),
                 fdl_flow_loop(fdl_nn_linear(4, 4), .until_cond = fdl_nn_learned_halt(4), .max = 3),
                 fdl_flow_switch(fdl_nn_fixed_selector(1), FDL_MODULES(fdl_nn_linear(4, 4), fdl_nn_tanh())),
                 fdl_flow_gate(fdl_nn_softmax_router(4, 2), FDL_MODULES(fdl_nn_linear(4, 4), fdl_nn_tanh())),
                 fdl_flow_also(fdl_nn_linear(4, 4)), fdl_flow_tag("end"), fdl_nn_state_add(),
                 fdl_flow_using("x=over", "cut"), fdl_flow_split(fdl_nn_linear(4, 2), fdl_nn_linear(4, 2)),
                 fdl_flow_merge(FDL_MERGE_MEAN));
    check_some(g);
    fdl_tensor *x = input(), *y = fdl_forward(g, x);
    fdl_module *before = fdl_graph_until(g, "cut"), *behind = fdl_graph_from(g, "cut"),
               *copy = fdl_module_clone(g);
    fdl_tensor *cut = fdl_forward(before, x);
    assert_true(equal(fdl_forward(behind, cut, fdl_graph_tagged(before, "a")), y));
    assert_true(same_names(fdl_parameters(behind), fdl_parameters(g)));
    assert_true(equal(fdl_forward(copy, x), y));
    assert_string_equal(fdl_graph_hash(copy), fdl_graph_hash(g));
    fdl_module_free(behind);
    behind = fdl_graph_from(g, "end");
    check_some(behind);
    assert_string_equal(fdl_graph_input_name(behind, 1), "cut");
    assert_string_equal(fdl_graph_input_name(behind, 2), "over");
    fdl_tensor *end = fdl_graph_tagged(g, "end"), *over = fdl_graph_tagged(g, "over");
    assert_true(equal(fdl_forward(behind, end, fdl_graph_tagged(g, "cut"), over), y));
    fdl_module_free(before);
    fdl_module_free(behind);
    fdl_module_free(copy);
    fdl_module_free(g);
}

/* ---- copies --------------------------------------------------------------------------------------------- */

static void a_copy_has_weights_of_its_own(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *tied = fdl_nn_linear(4, 4), *again = fdl_module_share(tied);
    fdl_module *inner =
        fdl_flow(fdl_flow_label("inner"), fdl_nn_linear(4, 4), fdl_nn_batch_norm(4), fdl_nn_dropout(0.5));
    fdl_module *g = fdl_flow(
        tied, inner, fdl_flow_loop(fdl_nn_linear(4, 4), .n = 2), again,
        fdl_flow_gate(fdl_nn_softmax_router(4, 2), FDL_MODULES(fdl_nn_linear(4, 4), fdl_nn_linear(4, 4))));
    check_some(g);
    check_some(fdl_forward(g, input())); /* moves the statistics */
    check_ok(fdl_graph_freeze(g, "inner"));
    check_ok(fdl_eval(inner));
    check_ok(fdl_module_to(g, fdl_default_device(), .dtype = FDL_FLOAT64));
    fdl_tensor *numbers = fdl_rng_state(FDL_CPU);
    fdl_module *copy = fdl_module_clone(g);
    check_some(copy);
    assert_true(equal(fdl_rng_state(FDL_CPU), numbers));
    assert_string_equal(fdl_graph_hash(copy), fdl_graph_hash(g));
    fdl_params *a = fdl_parameters(g), *b = fdl_parameters(copy);
    assert_int_equal(fdl_params_count(a), fdl_params_count(b)); /* the shared module once */
    for (int i = 0; i < fdl_params_count(a); i++) {
        assert_string_equal(fdl_params_name(a, i), fdl_params_name(b, i));
        fdl_tensor *x = fdl_param_tensor(fdl_params_at(a, i)), *y = fdl_param_tensor(fdl_params_at(b, i));
        assert_true(equal(x, y));
        assert_false(fdl_is(x, y));
        assert_int_equal(fdl_dtype_of(y), FDL_FLOAT64);
        assert_int_equal(fdl_requires_grad(x), fdl_requires_grad(y));
        assert_true(fdl_is_leaf(y));
    }
    assert_int_equal(fdl_graph_is_frozen(copy, "inner"), 1);
    assert_false(fdl_is_training(fdl_graph_child(copy, "inner")));
    assert_true(fdl_is_training(copy));
    fdl_tensor *x = fdl_to_dtype(input(), FDL_FLOAT64);
    assert_true(equal(fdl_forward(copy, x), fdl_forward(g, x)));
    fdl_tensor *before = fdl_forward(copy, x);
    check_ok(fdl_init_zeros(param(g, "linear_1/weight")));
    assert_true(equal(fdl_forward(copy, x), before));
    check_ok(fdl_backward(fdl_sum(fdl_forward(copy, x))));
    assert_null(fdl_grad(param(g, "linear_1/weight")));
    check_some(fdl_grad(param(copy, "linear_1/weight")));
    fdl_module_free(g);
    assert_true(equal(fdl_forward(copy, x), before));
    fdl_module_free(copy);
}

static void tied_parameters_are_tied_in_the_copy(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *first = fdl_nn_linear(4, 4), *second = fdl_nn_linear(4, 4);
    check_ok(fdl_module_share_param(second, "weight", fdl_module_own_param(first, "weight")));
    fdl_module *g = fdl_flow(first, second), *copy = fdl_module_clone(g);
    assert_int_equal(fdl_params_count(fdl_parameters(copy)), 3);
    fdl_tensor *x = input();
    assert_true(equal(fdl_forward(copy, x), fdl_forward(g, x)));
    fdl_module_free(g);
    fdl_module_free(copy);
}

static void modules_that_are_no_graphs_are_copied(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_multihead_attention(8, 2), *copy = fdl_module_clone(m);
    check_some(copy);
    check_ok(fdl_eval(m));
    check_ok(fdl_eval(copy));
    fdl_tensor *x = fdl_randn(FDL_SHAPE(3, 2, 8));
    assert_true(equal(fdl_forward(copy, x, x, x), fdl_forward(m, x, x, x)));
    fdl_module_free(m);
    fdl_module_free(copy);
    m = fdl_flow(new_counter(), fdl_nn_linear(2, 2));
    assert_null(fdl_module_clone(m));
    check_error(FDL_E_UNSUPPORTED, "fdl_module_clone", "counter", "fdl_module_describe");
    assert_null(fdl_module_clone(NULL));
    check_error(FDL_E_NULL, "fdl_module_clone");
    fdl_module *shares = fdl_graph_extract(m, NULL); /* needs no copy of the counter */
    check_some(shares);
    fdl_module_free(shares);
    fdl_module_free(m);
}

/* ---- replacing ------------------------------------------------------------------------------------------ */

static int alive;

static void count_end(void *self)
{
    (void)self;
    alive--;
}

static fdl_module *probe(void)
{
    static const fdl_module_ops ops = {.kind = "probe",
                                       .size = sizeof(counter),
                                       .forward = count_forward,
                                       .reset = count_reset,
                                       .free = count_end};
    alive++;
    return fdl_module_new(&ops);
}

static void a_module_takes_anothers_place(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(dbl(), probe(), fdl_flow_tag("here"), fdl_flow_also(probe(), .name = "branch"),
                             fdl_flow_loop(probe(), .n = 2), fdl_flow_split(probe(), tri()),
                             fdl_flow_tag_group("side"), fdl_flow_merge(FDL_MERGE_ADD));
    check_values(fdl_forward(g, row(1)), 2 * 2 * (1 + 3));
    const char *hash = fdl_graph_hash(g);
    char before[65];
    snprintf(before, sizeof before, "%s", hash);
    uint64_t generation = fdl_module_generation(g);
    assert_int_equal(alive, 4);
    check_ok(fdl_graph_replace(g, "here", tri()));
    assert_int_equal(alive, 3);
    assert_string_not_equal(fdl_graph_hash(g), before);
    assert_true(fdl_module_generation(g) != generation);
    check_ok(fdl_graph_replace(g, "branch", tri()));
    check_ok(fdl_graph_replace(g, "loop_5.body", tri()));
    check_ok(fdl_graph_replace(g, "side_0", tri()));
    assert_int_equal(alive, 0);
    check_values(fdl_forward(g, row(1)), 2 * 3 * 4 * 9 * 6);
    assert_string_equal(node_ids(g), "dbl_1 tri_2 tri_3 add_4 loop_5 tri_6 tri_7 merge_8");
    /* as if it had been built so */
    fdl_module *fresh = fdl_flow(dbl(), tri(), fdl_flow_tag("here"), fdl_flow_also(tri(), .name = "branch"),
                                 fdl_flow_loop(tri(), .n = 2), fdl_flow_split(tri(), tri()),
                                 fdl_flow_tag_group("side"), fdl_flow_merge(FDL_MERGE_ADD));
    assert_string_equal(fdl_graph_hash(g), fdl_graph_hash(fresh));
    fdl_module *copy = fdl_module_clone(g);
    check_values(fdl_forward(copy, row(1)), 2 * 3 * 4 * 9 * 6);
    fdl_module_free(copy);
    fdl_module_free(fresh);
    fdl_module_free(g);
}

static void a_new_head(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow(fdl_flow_label("encoder"), fdl_nn_linear(4, 8), fdl_flow_tag("h")),
                             fdl_nn_linear(8, 5), fdl_flow_tag("head"));
    check_ok(fdl_graph_replace(g, "head", fdl_nn_linear(8, 3)));
    assert_true(fdl_shape_eq(fdl_shape_of(fdl_forward(g, input())), FDL_SHAPE(3, 3)));
    assert_true(fdl_shape_eq(fdl_shape_of(param(g, "head/weight")), FDL_SHAPE(3, 8)));
    check_ok(fdl_graph_replace(g, "encoder.h", fdl_nn_linear(4, 8, .no_bias = true)));
    assert_int_equal(fdl_params_count(fdl_parameters(g)), 3);
    /* a whole graph, by a graph with another label */
    check_ok(fdl_graph_replace(g, "encoder",
                               fdl_flow(fdl_flow_label("mlp"), fdl_nn_linear(4, 8), fdl_flow_tag("z"))));
    assert_int_equal(fdl_graph_validate_path(g, "mlp.z"), FDL_PATH_TAG);
    assert_int_equal(fdl_graph_validate_path(g, "encoder"), FDL_PATH_NONE);
    fdl_clear_error();
    check_some(fdl_forward(g, input()));
    fdl_module_free(g);
}

typedef struct wrapper {
    fdl_module *inner;
} wrapper;

static fdl_tensor *wrapper_forward(void *self, fdl_tensor *x)
{
    return fdl_forward(((wrapper *)self)->inner, x);
}

static fdl_module *wrapped(fdl_module *m)
{
    static const fdl_module_ops ops = {
        .kind = "wrapper", .size = sizeof(wrapper), .forward = wrapper_forward};
    fdl_module *w = fdl_module_new(&ops);
    ((wrapper *)fdl_module_self(w))->inner = fdl_module_child(w, "inner", m);
    return fdl_module_done(w);
}

static void children_of_modules_of_ones_own(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(wrapped(probe()), fdl_flow_tag("w"),
                             wrapped(fdl_flow(fdl_flow_label("deep"), probe(), fdl_flow_tag("p"))));
    check_ok(fdl_graph_replace(g, "w.inner", dbl()));
    check_ok(fdl_graph_replace(g, "deep.p", tri())); /* by labels */
    assert_int_equal(alive, 0);
    check_values(fdl_forward(g, row(1, 2)), 6, 12);
    check_ok(fdl_graph_replace(g, "deep", dbl()));
    check_values(fdl_forward(g, row(1, 2)), 4, 8);
    assert_int_equal(fdl_graph_child_count(g), 0);
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_map(probe()), fdl_flow_tag("each")); /* a map's body has the map's name */
    check_ok(fdl_graph_replace(g, "each", tri()));
    assert_int_equal(alive, 0);
    check_values(fdl_forward(g, row(1, 2)), 3, 6);
    fdl_module_free(g);
}

static void a_shared_module_stays_at_its_other_places(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = dbl(), *again = fdl_module_share(m);
    fdl_module *g = fdl_flow(m, fdl_flow_tag("a"), again, fdl_flow_tag("b"));
    check_ok(fdl_graph_replace(g, "b", tri()));
    check_values(fdl_forward(g, row(1)), 6);
    check_ok(fdl_graph_replace(g, "a", tri()));
    check_values(fdl_forward(g, row(1)), 9);
    fdl_module_free(g);
}

static void replacements_that_can_not_be(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *child = fdl_flow(fdl_flow_label("child"), id());
    fdl_module *g = fdl_flow(fdl_flow_also(dbl()), fdl_flow_tag("sum"), child, add_ctx(),
                             fdl_flow_using("sum"), fdl_flow_tag("named"), id());
    check_some(g);
    fdl_tensor *before = fdl_forward(g, row(1));
    uint64_t generation = fdl_module_generation(g);
    struct {
        const char *path;
        fdl_module *m;
        fdl_status status;
        const char *words;
    } bad[] = {{"nope", probe(), FDL_E_ARG, "\"nope\""},
               {"sum", probe(), FDL_E_ARG, "no module of its own"},
               {"identity_1", probe(), FDL_E_ARG, "stands in front"},
               {"named", probe(), FDL_E_ARG, "doesn't take"},
               {"child", fdl_flow(fdl_flow_label("named"), probe()), FDL_E_ARG, "tag of another node"},
               {"child", fdl_flow(fdl_flow_label("a.b"), probe()), FDL_E_ARG, "dot"},
               {"child", fdl_flow(probe(), fdl_flow_input("more")), FDL_E_ARG, "\"more\""},
               {"child", fdl_flow_tag("a"), FDL_E_ARG, "fdl_flow_tag makes a step"},
               {"child", NULL, FDL_E_NULL, "m is NULL"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(fdl_graph_replace(g, bad[i].path, bad[i].m), bad[i].status);
        check_error(bad[i].status, "fdl_graph_replace", bad[i].words);
    }
    assert_int_equal(alive, 0);
    assert_true(equal(fdl_forward(g, row(1)), before));
    assert_int_equal(fdl_module_generation(g), generation);
    assert_int_equal(fdl_graph_replace(NULL, "a", probe()), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_graph_replace");
    assert_int_equal(alive, 0);
    fdl_module_free(g);
    g = fdl_flow(id(), id(), fdl_flow_tag("probe_1"));
    assert_int_equal(fdl_graph_replace(g, "identity_1", probe()), FDL_E_ARG);
    check_error(FDL_E_ARG, "new id \"probe_1\"");
    assert_string_equal(node_ids(g), "identity_1 identity_2");
    fdl_module_free(g);
}

/* ---- adapters ------------------------------------------------------------------------------------------- */

static fdl_module *new_transformer(void)
{
    fdl_module *block = fdl_flow(fdl_flow_label("block"), fdl_nn_layer_norm(4), fdl_nn_linear(4, 4),
                                 fdl_flow_tag("mix"), fdl_flow_also(fdl_nn_linear(4, 4), .name = "branch"));
    return fdl_flow(block, fdl_flow_loop(fdl_nn_linear(4, 4), .n = 2), fdl_nn_linear(4, 2),
                    fdl_flow_tag("head"));
}

static void low_rank_adapters(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = new_transformer();
    fdl_tensor *x = input(), *before = fdl_forward(g, x);
    check_ok(fdl_eval(g));
    assert_int_equal(fdl_graph_lora(g, "block", 2, .alpha = 8), 2);
    assert_true(equal(fdl_forward(g, x), before));
    fdl_params *adapters = fdl_graph_select(g, NULL, .kind = "lora", .trainable = true);
    assert_int_equal(fdl_params_count(adapters), 4);
    assert_string_equal(fdl_params_name(adapters, 0), "block.mix/lora_a");
    check_some(param(g, "block.mix/weight")); /* the layer's name stays */
    assert_true(fdl_param_is_frozen(fdl_params_find(fdl_parameters(g), "block.mix/weight")));
    assert_int_equal(fdl_graph_lora(g, "block", 2), -1); /* each has one */
    check_error(FDL_E_ARG, "fdl_graph_adapt", "\"block\"", "linear");
    /* loop and head: another call */
    assert_int_equal(fdl_graph_lora(g, "loop_2", 1), 1);
    fdl_optim *opt = fdl_optim_sgd(fdl_graph_select(g, NULL, .kind = "lora", .trainable = true), .lr = 0.1);
    fdl_tensor *kept = fdl_clone(param(g, "block.mix/weight"));
    for (int i = 0; i < 5; i++) {
        fdl_optim_zero_grad(opt);
        check_ok(fdl_backward(fdl_mean(fdl_square(fdl_forward(g, x)))));
        check_ok(fdl_optim_step(opt));
    }
    fdl_optim_free(opt);
    fdl_tensor *after = fdl_forward(g, x);
    assert_false(equal(after, before));
    assert_true(equal(param(g, "block.mix/weight"), kept));
    /* the copy is an adapted one, too */
    fdl_module *copy = fdl_module_clone(g);
    assert_true(equal(fdl_forward(copy, x), after));
    fdl_module_free(copy);
    /* folded: the same function without them */
    assert_int_equal(fdl_graph_fold_lora(g, NULL), 3);
    assert_true(fdl_item(fdl_max(fdl_abs(fdl_sub(fdl_forward(g, x), after)))) < 1e-5);
    assert_false(equal(param(g, "block.mix/weight"), kept));
    assert_int_equal(fdl_params_count(fdl_parameters(g)), 2 + 4 + 2 + 2);
    fdl_module *fresh = new_transformer();
    assert_string_equal(fdl_graph_hash(g), fdl_graph_hash(fresh));
    fdl_module_free(fresh);
    fdl_module_free(g);
}

/* Against the formula: y = W x + b + alpha / r B A x. */
static void an_adapter_computes_what_the_paper_says(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *base = fdl_nn_linear(4, 3, .dtype = FDL_FLOAT64);
    fdl_tensor *w = fdl_clone(fdl_param_tensor(fdl_module_own_param(base, "weight"))),
               *b = fdl_clone(fdl_param_tensor(fdl_module_own_param(base, "bias")));
    fdl_module *m = fdl_nn_lora(base, 2, .alpha = 3);
    check_some(m);
    fdl_param *pa = fdl_module_own_param(m, "lora_a"), *pb = fdl_module_own_param(m, "lora_b");
    assert_true(fdl_shape_eq(fdl_shape_of(fdl_param_tensor(pa)), FDL_SHAPE(2, 4)));
    assert_true(fdl_shape_eq(fdl_shape_of(fdl_param_tensor(pb)), FDL_SHAPE(3, 2)));
    assert_int_equal(fdl_dtype_of(fdl_param_tensor(pa)), FDL_FLOAT64);
    check_number(fdl_item(fdl_sum(fdl_abs(fdl_param_tensor(pb)))), 0, 0);
    assert_true(fdl_item(fdl_max(fdl_abs(fdl_param_tensor(pa)))) <= 0.5); /* 1 / sqrt(in) */
    check_ok(fdl_param_set(pb, fdl_randn(FDL_SHAPE(3, 2), .dtype = FDL_FLOAT64)));
    fdl_tensor *x = fdl_randn(FDL_SHAPE(5, 4), .dtype = FDL_FLOAT64);
    fdl_tensor *full = fdl_add(w, fdl_mul(fdl_matmul(fdl_param_tensor(pb), fdl_param_tensor(pa)), 1.5));
    fdl_tensor *want = fdl_add(fdl_matmul(x, fdl_transpose(full, 0, 1)), b), *y = fdl_forward(m, x);
    assert_true(fdl_item(fdl_max(fdl_abs(fdl_sub(y, want)))) < 1e-12);
    check_ok(fdl_backward(fdl_sum(y)));
    check_some(fdl_grad(fdl_param_tensor(pa)));
    assert_null(fdl_grad(fdl_param_tensor(fdl_module_own_param(base, "weight"))));
    check_ok(fdl_nn_lora_fold(m));
    assert_true(fdl_item(fdl_max(fdl_abs(fdl_sub(fdl_forward(m, x), want)))) < 1e-12);
    check_number(fdl_item(fdl_sum(fdl_abs(fdl_param_tensor(pb)))), 0, 0);
    fdl_module_free(m);
}

static void dropout_of_an_adapter(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_lora(fdl_nn_linear(64, 8), 4, .dropout = 0.5, .train_base = true);
    check_ok(fdl_init_constant(fdl_param_tensor(fdl_module_own_param(m, "lora_b")), 1));
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1, 64));
    assert_false(equal(fdl_forward(m, x), fdl_forward(m, x)));
    check_ok(fdl_eval(m));
    assert_true(equal(fdl_forward(m, x), fdl_forward(m, x)));
    assert_false(fdl_is_frozen(m));
    assert_int_equal(fdl_params_count(fdl_parameters_trainable(m)), 4);
    fdl_module_free(m);
}

static fdl_module *wrap_it(fdl_module *m, void *ctx)
{
    ++*(int *)ctx;
    return wrapped(m);
}

static fdl_module *give_up(fdl_module *m, void *ctx)
{
    fdl_module_free(m);
    return ++*(int *)ctx == 2 ? NULL : dbl();
}

static void adapters_of_ones_own(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *shared = fdl_nn_linear(4, 4), *again = fdl_module_share(shared);
    fdl_module *g = fdl_flow(shared, fdl_flow_tag("a"), again, fdl_flow_tag("b"), fdl_nn_layer_norm(4));
    fdl_tensor *x = input(), *before = fdl_forward(g, x);
    int made = 0;
    assert_int_equal(fdl_graph_adapt(g, NULL, wrap_it, &made), 2);
    assert_int_equal(made, 1); /* the shared one has one */
    assert_true(equal(fdl_forward(g, x), before));
    assert_string_equal(node_ids(g), "wrapper_1 wrapper_2 layernorm_3");
    assert_int_equal(fdl_graph_adapt(g, "layernorm_3", wrap_it, &made, .kind = "layernorm"), 1);
    assert_true(equal(fdl_forward(g, x), before));
    assert_int_equal(fdl_graph_adapt(g, "layernorm_7", wrap_it, &made), -1);
    check_error(FDL_E_ARG, "fdl_graph_adapt", "\"layernorm_7\"", "linear");
    fdl_module_free(g);
    /* half way through: nothing changed */
    g = fdl_flow(fdl_nn_linear(4, 4), fdl_nn_linear(4, 4), fdl_nn_linear(4, 4));
    before = fdl_forward(g, x);
    made = 0;
    assert_int_equal(fdl_graph_adapt(g, NULL, give_up, &made), -1);
    check_error(FDL_E_NULL, "fdl_graph_adapt");
    assert_true(equal(fdl_forward(g, x), before));
    assert_string_equal(node_ids(g), "linear_1 linear_2 linear_3");
    assert_int_equal(fdl_graph_adapt(g, NULL, NULL, NULL), -1);
    check_error(FDL_E_NULL, "make");
    assert_int_equal(fdl_graph_adapt(NULL, NULL, wrap_it, &made), -1);
    check_error(FDL_E_NULL, "fdl_graph_adapt");
    fdl_module_free(g);
}

static void adapters_that_can_not_be(void **state)
{
    (void)state;
    FDL_SCOPE;
    assert_null(fdl_nn_lora(fdl_nn_relu(), 2));
    check_error(FDL_E_ARG, "fdl_nn_lora", "relu");
    assert_null(fdl_nn_lora(fdl_nn_linear(2, 2), 0));
    check_error(FDL_E_ARG, "rank");
    assert_null(fdl_nn_lora(fdl_nn_linear(2, 2), 1, .dropout = 1));
    check_error(FDL_E_ARG, ".dropout");
    assert_null(fdl_nn_lora(NULL, 1));
    check_error(FDL_E_NULL, "fdl_nn_lora");
    fdl_module *linear = fdl_nn_linear(2, 2);
    assert_int_equal(fdl_nn_lora_fold(linear), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_nn_lora_fold", "linear");
    fdl_module_free(linear);
    assert_int_equal(fdl_nn_lora_fold(NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_nn_lora_fold");
    fdl_module *g = fdl_flow(fdl_nn_linear(2, 2));
    assert_int_equal(fdl_graph_lora(g, NULL, 0), -1);
    check_error(FDL_E_ARG, "rank");
    assert_int_equal(fdl_graph_fold_lora(g, NULL), -1);
    check_error(FDL_E_ARG, "lora");
    assert_false(fdl_is_frozen(g));
    fdl_module_free(g);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(up_to_a_tag),
        cmocka_unit_test(up_to_the_tag_of_a_side_branch),
        cmocka_unit_test(behind_a_tag),
        cmocka_unit_test(a_part_takes_the_inputs_that_it_needs),
        cmocka_unit_test(parts_that_can_not_be),
        cmocka_unit_test(a_subgraph_by_itself),
        cmocka_unit_test(parts_and_copies_have_state_of_their_own),
        cmocka_unit_test(parts_with_every_kind_of_step),
        cmocka_unit_test(a_copy_has_weights_of_its_own),
        cmocka_unit_test(tied_parameters_are_tied_in_the_copy),
        cmocka_unit_test(modules_that_are_no_graphs_are_copied),
        cmocka_unit_test(a_module_takes_anothers_place),
        cmocka_unit_test(a_new_head),
        cmocka_unit_test(children_of_modules_of_ones_own),
        cmocka_unit_test(a_shared_module_stays_at_its_other_places),
        cmocka_unit_test(replacements_that_can_not_be),
        cmocka_unit_test(low_rank_adapters),
        cmocka_unit_test(an_adapter_computes_what_the_paper_says),
        cmocka_unit_test(dropout_of_an_adapter),
        cmocka_unit_test(adapters_of_ones_own),
        cmocka_unit_test(adapters_that_can_not_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
