/* Graphs inside graphs: children, paths, and what can be done at one. */
#include "graph/modules.h"

/* linear (tag hidden), tanh: 2 parameters. */
static fdl_module *labelled(const char *label)
{
    return fdl_flow(fdl_flow_label(label), fdl_nn_linear(4, 4), fdl_flow_tag("hidden"), fdl_nn_tanh());
}

/* letter: read (hidden), then a linear layer (out); 4 parameters. */
static fdl_module *new_letter(void)
{
    return fdl_flow(fdl_flow_label("letter"), labelled("read"), fdl_nn_linear(4, 4), fdl_flow_tag("out"));
}

/* encoder: read, scan; 4 parameters. */
static fdl_module *new_encoder(void)
{
    return fdl_flow(fdl_flow_label("encoder"), labelled("read"), labelled("scan"));
}

static fdl_tensor *ones(void)
{
    return fdl_ones(FDL_SHAPE(1, 4));
}

static void check_names_(fdl_params *ps, int n, const char *const *want, const char *file, int line)
{
    check_some_(ps, "the list", file, line);
    if (fdl_params_count(ps) != n) {
        print_error("%s:%d: %d names expected, got %d\n", file, line, n, fdl_params_count(ps));
        _fail(file, line);
    }
    for (int i = 0; i < n; i++)
        if (strcmp(fdl_params_name(ps, i), want[i]) != 0) {
            print_error("%s:%d: name %d is %s, expected %s\n", file, line, i, fdl_params_name(ps, i),
                        want[i]);
            _fail(file, line);
        }
}
#define check_names(ps, ...)                                                        \
    check_names_(ps, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), \
                 (const char *const[]){__VA_ARGS__}, __FILE__, __LINE__)

/* ---- children ------------------------------------------------------------------------------------------ */

static void a_graph_without_a_label_is_no_child(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *inner = fdl_flow(fdl_nn_linear(4, 4), fdl_flow_tag("hidden"));
    assert_false(fdl_graph_is_composed(inner));
    fdl_module *g = fdl_flow(inner, fdl_nn_linear(4, 4));
    assert_int_equal(fdl_graph_child_count(g), 0);
    assert_null(fdl_graph_child_at(g, 0));
    check_error(FDL_E_RANGE, "fdl_graph_child_at", "child 0 of 0");
    assert_int_equal(fdl_params_count(fdl_parameters(g)), 4);
    assert_true(fdl_graph_is_composed(inner));
    assert_int_equal(fdl_graph_validate_path(g, "hidden"), FDL_PATH_NONE);
    check_error(FDL_E_ARG, "fdl_graph_validate_path", "\"hidden\"");
    fdl_module_free(g);
}

static void a_label_makes_a_child(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *encoder = labelled("encoder"), *kept = fdl_module_share(encoder);
    assert_false(fdl_graph_is_composed(encoder));
    fdl_module *g = fdl_flow(encoder, fdl_nn_linear(4, 2));
    assert_int_equal(fdl_graph_child_count(g), 1);
    assert_ptr_equal(fdl_graph_child(g, "encoder"), encoder);
    assert_ptr_equal(fdl_graph_child_at(g, 0), encoder);
    assert_string_equal(fdl_graph_label(fdl_graph_child(g, "encoder")), "encoder");
    assert_true(fdl_graph_is_composed(encoder));
    assert_false(fdl_graph_is_composed(g));
    assert_null(fdl_graph_child(g, "encoda"));
    check_error(FDL_E_ARG, "fdl_graph_child", "\"encoda\"", "closest: encoder");
    fdl_module_free(g);
    assert_false(fdl_graph_is_composed(kept)); /* its parent is gone */
    fdl_module_free(kept);
    assert_int_equal(fdl_graph_child_count(NULL), -1);
    check_error(FDL_E_NULL, "fdl_graph_child_count");
    fdl_module *linear = fdl_nn_linear(1, 1);
    assert_null(fdl_graph_child(linear, "a"));
    check_error(FDL_E_ARG, "fdl_graph_child", "linear is no graph");
    fdl_module_free(linear);
}

static void children_stand_in_the_order_of_the_nodes(void **state)
{
    (void)state;
    fdl_module *shared = labelled("b"), *again = fdl_module_share(shared);
    fdl_module *g = fdl_flow(labelled("c"), shared, again, labelled("a"));
    assert_int_equal(fdl_graph_child_count(g), 3); /* the shared one once */
    const char *const want[] = {"c", "b", "a"};
    for (int i = 0; i < 3; i++)
        assert_string_equal(fdl_graph_label(fdl_graph_child_at(g, i)), want[i]);
    assert_null(fdl_graph_child_at(g, 3));
    check_error(FDL_E_RANGE, "child 3 of 3");
    assert_null(fdl_graph_child_at(g, -1));
    check_error(FDL_E_RANGE, "child -1");
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

static void children_lie_in_loops_experts_routers_and_modules_of_ones_own(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *router = fdl_flow(fdl_flow_label("router"), fdl_nn_linear(4, 2), fdl_flow_tag("logits"));
    fdl_module *g =
        fdl_flow(fdl_flow_loop(labelled("body"), .n = 2),
                 fdl_flow_gate(router, FDL_MODULES(labelled("expert"), wrapped(labelled("deep")))),
                 fdl_flow_also(labelled("branch"), .skip = labelled("skip")), fdl_flow_fork(labelled("side")),
                 fdl_flow_split(labelled("left"), fdl_flow(labelled("hidden_in_one_without"))),
                 fdl_flow_merge(FDL_MERGE_ADD));
    check_some(g);
    const char *const want[] = {"body", "router", "expert", "deep", "skip", "branch", "side", "left"};
    assert_int_equal(fdl_graph_child_count(g), 8);
    for (int i = 0; i < 8; i++)
        assert_string_equal(fdl_graph_label(fdl_graph_child_at(g, i)), want[i]);
    assert_int_equal(fdl_graph_validate_path(g, "body.hidden"), FDL_PATH_TAG);
    assert_int_equal(fdl_graph_validate_path(g, "deep.hidden"), FDL_PATH_TAG);
    assert_int_equal(fdl_graph_validate_path(g, "router.logits"), FDL_PATH_TAG);
    check_ok(fdl_graph_freeze(g, "expert"));
    assert_int_equal(fdl_graph_is_frozen(g, "expert"), 1);
    assert_int_equal(fdl_graph_is_frozen(g, "body"), 0);
    check_some(fdl_forward(g, ones()));
    fdl_module_free(g);
}

/* ---- labels that clash ---------------------------------------------------------------------------------- */

static void labels_must_tell_children_apart(void **state)
{
    (void)state;
    assert_null(fdl_flow(labelled("a"), labelled("a")));
    check_error(FDL_E_ARG, "step 1 (graph)", "\"a\"", "two different graphs");
    assert_null(fdl_flow(wrapped(labelled("a")), fdl_flow_loop(labelled("a"), .n = 1)));
    check_error(FDL_E_ARG, "step 1 (fdl_flow_loop)", "\"a\"");
    assert_null(fdl_flow(dbl(), labelled("a.b")));
    check_error(FDL_E_ARG, "step 1 (graph)", "\"a.b\"", "dot");
    fdl_module *root = labelled("a.b");
    check_some(root);
    fdl_module_free(root);
    assert_null(fdl_flow(labelled("a"), dbl(), fdl_flow_tag("a")));
    check_error(FDL_E_ARG, "step 0 (graph)", "\"a\"", "tag of another node");
    assert_null(fdl_flow(labelled("a"), fdl_flow_split(dbl(), dbl()), fdl_flow_tag_group("a"),
                         fdl_flow_merge(FDL_MERGE_ADD)));
    check_error(FDL_E_ARG, "step 0 (graph)", "\"a\"", "tag of another node");
    fdl_module *g = fdl_flow(labelled("a"), fdl_flow_tag("a"));
    assert_int_equal(fdl_graph_validate_path(g, "a"), FDL_PATH_SUBGRAPH);
    fdl_module_free(g);
}

static void a_flow_has_one_label(void **state)
{
    (void)state;
    assert_null(fdl_flow(dbl(), fdl_flow_label("one"), fdl_flow_label("two")));
    check_error(FDL_E_ARG, "step 2 (fdl_flow_label)", "\"one\"", "\"two\"");
}

/* ---- paths ---------------------------------------------------------------------------------------------- */

/* encoder and letter side by side, then a layer with a tag. */
static fdl_module *new_tree(void)
{
    return fdl_flow(new_encoder(), new_letter(), fdl_nn_linear(4, 4), fdl_flow_tag("top"));
}

static void paths_lead_to_graphs_and_tags(void **state)
{
    (void)state;
    fdl_module *g = fdl_flow(labelled("encoder"), new_letter(), fdl_nn_linear(4, 4), fdl_flow_tag("hidden"));
    assert_int_equal(fdl_graph_validate_path(g, "encoder"), FDL_PATH_SUBGRAPH);
    assert_int_equal(fdl_graph_validate_path(g, "hidden"), FDL_PATH_TAG);
    assert_int_equal(fdl_graph_validate_path(g, "encoder.hidden"), FDL_PATH_TAG);
    assert_int_equal(fdl_graph_validate_path(g, "letter.read"), FDL_PATH_SUBGRAPH);
    assert_int_equal(fdl_graph_validate_path(g, "letter.read.hidden"), FDL_PATH_TAG);
    struct {
        const char *path, *segment;
    } bad[] = {{"nope", "\"nope\""},
               {"encoder.nope", "\"nope\" is neither"},
               {"nope.x", "\"nope\""},
               {"", "is empty"},
               {"a..b", "empty segment"},
               {".encoder", "empty segment"},
               {"encoder.", "empty segment"},
               {"hidden.x", "\"hidden\" is a tag of this graph, nothing lies below"},
               {"letter.read.hidden.x", "\"hidden\" is a tag of the graph \"read\""},
               {"read", "\"read\" is neither"}, /* no search further down */
               {"letter.encoder", "the graph \"letter\""},
               {"encoder.*", "\"*\""}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(fdl_graph_validate_path(g, bad[i].path), FDL_PATH_NONE);
        check_error(FDL_E_ARG, "fdl_graph_validate_path", bad[i].path, bad[i].segment);
        assert_int_equal(fdl_graph_freeze(g, bad[i].path), FDL_E_ARG);
        check_error(FDL_E_ARG, "fdl_graph_freeze", bad[i].path);
        assert_int_equal(fdl_graph_is_frozen(g, bad[i].path), -1);
        check_error(FDL_E_ARG, "fdl_graph_is_frozen");
    }
    assert_false(fdl_is_frozen(g));
    assert_int_equal(fdl_graph_validate_path(g, "encoder.hiden"), FDL_PATH_NONE);
    check_error(FDL_E_ARG, "in the graph \"encoder\"", "closest: hidden");
    assert_int_equal(fdl_graph_validate_path(g, NULL), FDL_PATH_NONE);
    check_error(FDL_E_NULL, "fdl_graph_validate_path");
    assert_ptr_equal(fdl_graph_subgraph(g, "letter.read"),
                     fdl_graph_child(fdl_graph_child(g, "letter"), "read"));
    assert_null(fdl_graph_subgraph(g, "letter.out"));
    check_error(FDL_E_ARG, "fdl_graph_subgraph", "leads to a tag");
    fdl_module_free(g);
}

static void tags_may_have_dots(void **state)
{
    (void)state;
    fdl_module *g = fdl_flow(fdl_nn_linear(4, 4), fdl_flow_tag("bert.pooler"), new_letter());
    assert_int_equal(fdl_graph_validate_path(g, "bert.pooler"), FDL_PATH_TAG);
    assert_int_equal(fdl_graph_validate_path(g, "bert"), FDL_PATH_NONE);
    check_error(FDL_E_ARG, "\"bert\"");
    fdl_module *outer =
        fdl_flow(fdl_flow(fdl_flow_label("m"), g, fdl_nn_linear(4, 4), fdl_flow_tag("a.b.c")));
    check_some(outer);
    fdl_module_free(outer);
    g = fdl_flow(fdl_flow_label("in"), fdl_nn_linear(4, 4), fdl_flow_tag("a.b.c"));
    outer = fdl_flow(g, dbl());
    assert_int_equal(fdl_graph_validate_path(outer, "in.a.b.c"), FDL_PATH_TAG);
    fdl_module_free(outer);
    assert_null(fdl_flow(labelled("bert"), fdl_nn_linear(4, 4), fdl_flow_tag("bert.pooler")));
    check_error(FDL_E_ARG, "step 1 (linear)", "\"bert.pooler\"", "label \"bert\"");
}

/* ---- internal tags --------------------------------------------------------------------------------------- */

static void internal_tags_are_seen_from_within_only(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *child = fdl_flow(
        fdl_flow_label("child"), fdl_flow_internal("early"), fdl_nn_linear(4, 4), fdl_flow_tag("_plumbing"),
        fdl_nn_linear(4, 4), fdl_flow_tag("early"), fdl_nn_linear(4, 4), fdl_flow_tag("late"),
        fdl_flow_internal("late"), fdl_flow_split(dbl(), tri()), fdl_flow_tag_group("heads"),
        fdl_flow_merge(FDL_MERGE_ADD), fdl_flow_tag("open"), fdl_flow_internal("heads"));
    check_some(child);
    const char *const hidden[] = {"_plumbing", "early", "late", "heads_0", "heads_1"};
    fdl_module *g = fdl_flow(child, dbl());
    for (int i = 0; i < 5; i++) {
        char path[64];
        snprintf(path, sizeof path, "child.%s", hidden[i]);
        assert_int_equal(fdl_graph_validate_path(g, path), FDL_PATH_NONE);
        check_error(FDL_E_ARG, path, "internal to the graph \"child\"");
        assert_int_equal(fdl_graph_validate_path(child, hidden[i]), FDL_PATH_TAG);
        assert_true(fdl_graph_is_internal(child, hidden[i]));
    }
    assert_int_equal(fdl_graph_validate_path(g, "child.open"), FDL_PATH_TAG);
    assert_false(fdl_graph_is_internal(child, "open"));
    assert_int_equal(fdl_error_pending(), FDL_OK);
    assert_false(fdl_graph_is_internal(child, "nope"));
    check_error(FDL_E_ARG, "fdl_graph_is_internal", "\"nope\"");
    check_some(fdl_forward(g, ones()));
    fdl_module_free(g);
    assert_null(fdl_flow(dbl(), fdl_flow_internal("nope"), dbl()));
    check_error(FDL_E_ARG, "step 1 (fdl_flow_internal)", "\"nope\"");
    assert_null(fdl_flow_internal(NULL));
    check_error(FDL_E_NULL, "fdl_flow_internal");
}

static void an_internal_declaration_asks_for_no_entry(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow_internal("t"), fdl_flow_verbose(), fdl_nn_relu(), fdl_flow_tag("t"));
    assert_string_equal(node_ids(g), "relu_1");
    fdl_module_free(g);
}

/* ---- parameters ------------------------------------------------------------------------------------------ */

static void parameters_at_a_path(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(new_encoder(), fdl_nn_linear(4, 4), fdl_flow_tag("top"));
    assert_int_equal(fdl_params_count(fdl_parameters(g)), 6);
    check_names(fdl_graph_parameters_at(g, "encoder"), "read.hidden/weight", "read.hidden/bias",
                "scan.hidden/weight", "scan.hidden/bias");
    check_names(fdl_graph_parameters_at(g, "encoder.read"), "hidden/weight", "hidden/bias");
    check_names(fdl_graph_parameters_at(g, "encoder.read.hidden"), "hidden/weight", "hidden/bias");
    check_names(fdl_graph_parameters_at(g, "top"), "top/weight", "top/bias");
    check_names(fdl_graph_parameters_at(g, "encoder", .match = "*bias"), "read.hidden/bias",
                "scan.hidden/bias");
    check_names(fdl_graph_parameters_at(g, "top", .min_ndim = 2), "top/weight");
    assert_null(fdl_graph_parameters_at(g, "nope"));
    check_error(FDL_E_ARG, "fdl_graph_parameters_at", "\"nope\"");
    assert_null(fdl_graph_buffers_at(g, "nope"));
    check_error(FDL_E_ARG, "fdl_graph_buffers_at", "\"nope\"");
    fdl_module_free(g);
    g = fdl_flow(fdl_flow(fdl_flow_label("norm"), fdl_nn_batch_norm(4), fdl_flow_tag("bn"), fdl_nn_tanh()),
                 fdl_nn_batch_norm(4));
    check_names(fdl_graph_buffers_at(g, "norm"), "bn/running_mean", "bn/running_var",
                "bn/num_batches_tracked");
    check_names(fdl_graph_buffers_at(g, "norm.bn"), "bn/running_mean", "bn/running_var",
                "bn/num_batches_tracked");
    fdl_module_free(g);
}

static void a_tag_without_a_module_stands_for_its_step(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(fdl_flow_also(fdl_nn_linear(4, 4)), fdl_flow_tag("plain"),
                 fdl_flow_also(fdl_nn_linear(4, 4), .skip = fdl_nn_linear(4, 4), .name = "branch"),
                 fdl_flow_tag("both"), fdl_flow_split(fdl_nn_linear(4, 4), fdl_nn_linear(4, 4)),
                 fdl_flow_tag_group("head"), fdl_flow_merge(FDL_MERGE_MEAN), fdl_flow_using("plain"),
                 fdl_flow_tag("merged"), fdl_nn_tanh(), fdl_flow_tag("nothing"), fdl_flow_input("ctx"),
                 fdl_flow_loop(fdl_nn_linear(4, 4), .n = 2), fdl_flow_tag("looped"));
    check_some(g);
    check_names(fdl_graph_parameters_at(g, "plain"), "linear_2/weight", "linear_2/bias");
    check_names(fdl_graph_parameters_at(g, "both"), "linear_4/weight", "linear_4/bias", "branch/weight",
                "branch/bias");
    check_names(fdl_graph_parameters_at(g, "branch"), "branch/weight", "branch/bias");
    check_names(fdl_graph_parameters_at(g, "merged"), "head_0/weight", "head_0/bias", "head_1/weight",
                "head_1/bias"); /* not those of the value that using adds */
    check_names(fdl_graph_parameters_at(g, "looped"), "looped/body.weight", "looped/body.bias");
    assert_int_equal(fdl_params_count(fdl_graph_parameters_at(g, "nothing")), 0);
    assert_int_equal(fdl_params_count(fdl_graph_parameters_at(g, "ctx")), 0);
    check_ok(fdl_graph_freeze(g, "merged"));
    assert_int_equal(fdl_graph_is_frozen(g, "head_1"), 1);
    assert_int_equal(fdl_graph_is_frozen(g, "both"), 0);
    assert_int_equal(fdl_params_count(fdl_parameters_trainable(g)), 8);
    check_ok(fdl_graph_set_training_at(g, "both", false));
    int in_eval = 0, n = fdl_module_children(g);
    for (int i = 0; i < n; i++)
        in_eval += !fdl_is_training(fdl_module_child_at(g, i, NULL));
    assert_int_equal(in_eval, 2);
    fdl_module_free(g);
}

static void a_shared_module_keeps_its_first_name(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(4, 4), *again = fdl_module_share(m);
    fdl_module *g = fdl_flow(m, fdl_flow_tag("first"), again, fdl_flow_tag("second"));
    check_names(fdl_graph_parameters_at(g, "second"), "first/weight", "first/bias");
    fdl_module_free(g);
}

/* ---- freezing -------------------------------------------------------------------------------------------- */

static void freezing_a_path(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(new_encoder(), fdl_nn_linear(4, 4), fdl_flow_tag("top"));
    check_ok(fdl_graph_freeze(g, "encoder"));
    assert_int_equal(fdl_graph_is_frozen(g, "encoder"), 1);
    check_names(fdl_parameters_trainable(g), "top/weight", "top/bias");
    check_ok(fdl_backward(fdl_sum(fdl_forward(g, ones()))));
    assert_null(fdl_grad(fdl_param_tensor(fdl_params_at(fdl_parameters(g), 0))));
    check_some(fdl_grad(fdl_param_tensor(fdl_params_find(fdl_parameters(g), "top/weight"))));
    check_ok(fdl_graph_thaw(g, "encoder"));
    assert_int_equal(fdl_graph_is_frozen(g, "encoder"), 0);
    assert_int_equal(fdl_params_count(fdl_parameters_trainable(g)), 6);
    fdl_module_free(g);
}

static void freezing_a_part_of_a_part(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = new_tree();
    check_ok(fdl_graph_freeze(g, "letter.read"));
    assert_int_equal(fdl_graph_is_frozen(g, "letter.read"), 1);
    assert_int_equal(fdl_graph_is_frozen(g, "letter"), 0);
    assert_int_equal(fdl_graph_is_frozen(g, "encoder.read"), 0); /* the other read */
    check_ok(fdl_graph_freeze(g, "encoder"));
    check_ok(fdl_graph_thaw(g, "encoder.scan"));
    assert_int_equal(fdl_graph_is_frozen(g, "encoder"), 0);
    assert_int_equal(fdl_graph_is_frozen(g, "encoder.read"), 1);
    assert_int_equal(fdl_graph_is_frozen(g, "encoder.scan"), 0);
    assert_int_equal(fdl_graph_is_frozen(g, "top"), 0);
    /* thawing undoes other people's freezing, too */
    check_ok(fdl_param_freeze(fdl_params_find(fdl_parameters(g), "encoder.scan.hidden/bias")));
    check_ok(fdl_graph_thaw(g, "encoder"));
    assert_int_equal(fdl_params_count(fdl_graph_parameters_at(g, "encoder")), 4);
    assert_int_equal(fdl_params_count(fdl_parameters_trainable(g)), 8);
    fdl_module_free(g);
}

static void nothing_to_freeze_is_not_frozen(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_linear(4, 4), fdl_nn_tanh(), fdl_flow_tag("act"));
    check_ok(fdl_graph_freeze(g, "act"));
    assert_int_equal(fdl_graph_is_frozen(g, "act"), 0);
    assert_int_equal(fdl_params_count(fdl_parameters_trainable(g)), 2);
    assert_int_equal(fdl_graph_freeze(g, "nope"), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_graph_freeze", "\"nope\"");
    assert_int_equal(fdl_graph_thaw(g, "nope"), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_graph_thaw", "\"nope\"");
    assert_int_equal(fdl_params_count(fdl_parameters_trainable(g)), 2);
    fdl_module_free(g);
}

/* ---- modes ----------------------------------------------------------------------------------------------- */

static bool drops(fdl_module *g)
{
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1, 1000));
    return fdl_item(fdl_sum(fdl_eq(fdl_forward(g, x), 0))) > 0;
}

static void modes_at_a_path(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_ok(fdl_manual_seed(1));
    fdl_module *child =
        fdl_flow(fdl_flow_label("child"), fdl_nn_dropout(0.5), fdl_flow_tag("drop"), fdl_nn_identity());
    fdl_module *g = fdl_flow(child, fdl_nn_identity(), fdl_nn_dropout(0.5), fdl_flow_tag("own"));
    check_ok(fdl_graph_set_training_at(g, "own", false));
    assert_true(drops(child));
    check_ok(fdl_graph_set_training_at(g, "child", false));
    assert_false(drops(child));
    assert_false(drops(g));
    check_ok(fdl_graph_set_training_at(g, "own", true));
    assert_false(drops(child));
    assert_true(drops(g));
    check_ok(fdl_graph_set_training_at(g, "child.drop", true));
    assert_true(drops(child));
    check_ok(fdl_graph_set_training_at(g, "child", false));
    check_ok(fdl_train(g));
    assert_true(drops(child));
    assert_int_equal(fdl_graph_set_training_at(g, "nope", true), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_graph_set_training_at", "\"nope\"");
    fdl_module_free(g);
}

/* ---- values ---------------------------------------------------------------------------------------------- */

static void values_at_a_path(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(labelled("encoder"), fdl_nn_linear(4, 2));
    fdl_tensor *y = ones();
    check_ok(fdl_graph_tagged_at(g, "encoder.hidden", &y));
    assert_null(y);
    check_some(fdl_forward(g, ones()));
    check_ok(fdl_graph_tagged_at(g, "encoder.hidden", &y));
    assert_true(fdl_shape_eq(fdl_shape_of(y), FDL_SHAPE(1, 4)));
    assert_true(fdl_is(y, fdl_graph_tagged(fdl_graph_child(g, "encoder"), "hidden")));
    assert_int_equal(fdl_graph_tagged_at(g, "encoder.nope", &y), FDL_E_ARG);
    assert_null(y);
    check_error(FDL_E_ARG, "fdl_graph_tagged_at", "\"nope\"");
    assert_int_equal(fdl_graph_tagged_at(g, "encoder", &y), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_graph_tagged_at", "leads to a subgraph");
    assert_int_equal(fdl_graph_tagged_at(g, "encoder.hidden", NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_graph_tagged_at");
    fdl_module_free(g);
}

static fdl_tensor *emit_double(void *self, fdl_tensor *x, const fdl_refs *r, fdl_emitter *e)
{
    (void)self, (void)r;
    fdl_tensor *y = fdl_add(x, x);
    fdl_emit(e, "twice", y);
    return y;
}

static void traces_at_a_path(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const fdl_module_ops ops = {.kind = "emits", .step = emit_double};
    fdl_module *inner = fdl_flow(fdl_flow_label("scan"), fdl_flow_loop(fdl_module_new(&ops), .n = 3));
    fdl_module *g = fdl_flow(fdl_flow(fdl_flow_label("encoder"), inner), dbl());
    fdl_tensor *y = ones();
    check_ok(fdl_graph_trace_at(g, "encoder.scan.twice[1]", &y));
    assert_null(y);
    check_some(fdl_forward(g, row(1)));
    check_ok(fdl_graph_trace_at(g, "encoder.scan.twice[1]", &y));
    check_values(y, 4);
    check_ok(fdl_graph_trace_at(g, "encoder.scan.twice[-3]", &y));
    check_values(y, 2);
    check_ok(fdl_graph_trace_at(g, "encoder.scan.twice", &y));
    check_values(y, 8);
    check_ok(fdl_graph_trace_at(inner, "twice[0]", &y));
    check_values(y, 2);
    assert_int_equal(fdl_graph_trace_at(g, "encoder.scan.twice[3]", &y), FDL_E_RANGE);
    check_error(FDL_E_RANGE, "fdl_graph_trace_at", "there are 3");
    assert_int_equal(fdl_graph_trace_at(g, "encoder.scan.twice[x]", &y), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_graph_trace_at", "[x]");
    assert_int_equal(fdl_graph_trace_at(g, "encoder.scam.twice", &y), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_graph_trace_at", "\"scam\"", "closest: scan");
    assert_int_equal(fdl_graph_trace_at(g, "a", NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_graph_trace_at");
    fdl_module_free(g);
}

/* ---- reports --------------------------------------------------------------------------------------------- */

static void check_has(const char *text, const char *part)
{
    if (!strstr(text, part)) {
        print_error("\"%s\" is not in:\n%s\n", part, text);
        fail();
    }
}

static void the_tree_as_text(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(new_encoder(), fdl_nn_linear(4, 4), fdl_flow_tag("zz"), fdl_nn_linear(4, 2),
                             fdl_flow_tag("_hush"), dbl(), fdl_flow_tag("aa"));
    check_ok(fdl_graph_freeze(g, "encoder.scan"));
    char *text = fdl_graph_tree_summary(g);
    check_some(text);
    char want[1024];
    snprintf(want, sizeof want,
             "(root) [%s]\n"
             "  tags: aa, zz\n"
             "  parameters: 8 tensors, 70 elements; frozen: 2 tensors, 20 elements\n"
             "  encoder [%s]\n"
             "    parameters: 4 tensors, 40 elements; frozen: 2 tensors, 20 elements\n"
             "    read [%s]\n"
             "      tags: hidden\n"
             "      parameters: 2 tensors, 20 elements\n"
             "    scan [%s] frozen\n"
             "      tags: hidden\n"
             "      parameters: 2 tensors, 20 elements; frozen: 2 tensors, 20 elements\n",
             fdl_graph_short_hash(g), fdl_graph_short_hash(fdl_graph_subgraph(g, "encoder")),
             fdl_graph_short_hash(fdl_graph_subgraph(g, "encoder.read")),
             fdl_graph_short_hash(fdl_graph_subgraph(g, "encoder.scan")));
    assert_string_equal(text, want);
    free(text);
    fdl_module_free(g);
    assert_null(fdl_graph_tree_summary(NULL));
    check_error(FDL_E_NULL, "fdl_graph_tree_summary");
}

static void parameters_by_child_as_text(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *tied = fdl_flow(fdl_flow_label("tied"), fdl_nn_linear(4, 4)), *g;
    fdl_module *third = fdl_flow(fdl_flow_label("third"), fdl_nn_linear(4, 4));
    fdl_param *weight = fdl_params_at(fdl_parameters(third), 0);
    check_ok(fdl_module_share_param(fdl_module_child_at(tied, 0, NULL), "weight", weight));
    g = fdl_flow(labelled("a"), third, tied, fdl_nn_linear(4, 4));
    check_ok(fdl_graph_freeze(g, "a"));
    check_ok(fdl_param_freeze(fdl_params_find(fdl_parameters(g), "third.linear_1/bias")));
    char *text = fdl_graph_param_summary(g);
    check_some(text);
    /* 20 + 20 + 4 + 20 of 64 */
    check_has(text,
              "total       7 tensors            64 elements  100.0%  3 of 7 frozen (24 of 64 elements)\n");
    check_has(text, "a           2 tensors            20 elements   31.3%  frozen\n");
    check_has(text,
              "third       2 tensors            20 elements   31.3%  1 of 2 frozen (4 of 20 elements)\n");
    check_has(text, "tied        1 tensor              4 elements    6.2%  trainable\n");
    check_has(text, "(own)       2 tensors            20 elements   31.2%  trainable\n");
    free(text);
    fdl_module_free(g);
    g = fdl_flow(dbl());
    text = fdl_graph_param_summary(g);
    check_has(text, "(own)       0 tensors             0 elements    0.0%  -\n");
    free(text);
    fdl_module_free(g);
}

static void keep_line(int level, const char *line, void *ctx)
{
    strcat(strcat(ctx, line), "\n");
    assert_int_equal(level, FDL_VERBOSE);
}

static void a_verbose_flow_tells_its_tree(void **state)
{
    (void)state;
    char heard[4096] = "";
    int before = fdl_verbosity_level();
    check_ok(fdl_msg_set_sink(keep_line, heard));
    fdl_set_verbosity(FDL_NORMAL);
    fdl_module *quiet = fdl_flow(fdl_flow_verbose(), labelled("encoder"));
    assert_string_equal(heard, "");
    fdl_set_verbosity(FDL_VERBOSE);
    fdl_module *silent = fdl_flow(labelled("encoder"));
    assert_string_equal(heard, "");
    fdl_module *g = fdl_flow(labelled("encoder"), dbl(), fdl_flow_verbose());
    fdl_set_verbosity(before);
    check_ok(fdl_msg_set_sink(NULL, NULL));
    char *text = fdl_graph_tree_summary(g);
    assert_string_equal(heard, text);
    free(text);
    fdl_module_free(quiet);
    fdl_module_free(silent);
    fdl_module_free(g);
}

/* ---- labels change nothing ------------------------------------------------------------------------------- */

static fdl_module *maybe_labelled(const char *label, fdl_module *m)
{
    fdl_flow_builder *b = fdl_flow_new();
    check_ok(fdl_flow_add(b, m));
    if (label)
        check_ok(fdl_flow_add(b, fdl_flow_label(label)));
    return fdl_flow_build(b);
}

static void labels_change_no_value(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *y[2];
    for (int label = 0; label < 2; label++) {
        check_ok(fdl_manual_seed(3));
        fdl_module *g =
            fdl_flow(maybe_labelled(label ? "a" : NULL, fdl_nn_linear(4, 8)), fdl_nn_gelu(),
                     fdl_flow_loop(maybe_labelled(label ? "b" : NULL, fdl_nn_linear(8, 8)), .n = 3));
        check_some(g);
        y[label] = fdl_forward(g, fdl_randn(FDL_SHAPE(5, 4)));
        fdl_module_free(g);
    }
    assert_true(fdl_item(fdl_sum(fdl_ne(y[0], y[1]))) == 0);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_graph_without_a_label_is_no_child),
        cmocka_unit_test(a_label_makes_a_child),
        cmocka_unit_test(children_stand_in_the_order_of_the_nodes),
        cmocka_unit_test(children_lie_in_loops_experts_routers_and_modules_of_ones_own),
        cmocka_unit_test(labels_must_tell_children_apart),
        cmocka_unit_test(a_flow_has_one_label),
        cmocka_unit_test(paths_lead_to_graphs_and_tags),
        cmocka_unit_test(tags_may_have_dots),
        cmocka_unit_test(internal_tags_are_seen_from_within_only),
        cmocka_unit_test(an_internal_declaration_asks_for_no_entry),
        cmocka_unit_test(parameters_at_a_path),
        cmocka_unit_test(a_tag_without_a_module_stands_for_its_step),
        cmocka_unit_test(a_shared_module_keeps_its_first_name),
        cmocka_unit_test(freezing_a_path),
        cmocka_unit_test(freezing_a_part_of_a_part),
        cmocka_unit_test(nothing_to_freeze_is_not_frozen),
        cmocka_unit_test(modes_at_a_path),
        cmocka_unit_test(values_at_a_path),
        cmocka_unit_test(traces_at_a_path),
        cmocka_unit_test(the_tree_as_text),
        cmocka_unit_test(parameters_by_child_as_text),
        cmocka_unit_test(a_verbose_flow_tells_its_tree),
        cmocka_unit_test(labels_change_no_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
