/* Every way to build or run a graph wrongly: status, what the message names, and that nothing is left behind.
 */
#include "graph/modules.h"

/* Modules that count how many of them are alive. */
static int alive;

typedef struct probe {
    bool counted;
} probe;

static fdl_tensor *probe_forward(void *self, fdl_tensor *x)
{
    (void)self;
    return x;
}

static void probe_free(void *self)
{
    (void)self;
    alive--;
}

static const fdl_module_ops probe_ops = {
    .kind = "probe", .size = sizeof(probe), .forward = probe_forward, .free = probe_free};

static fdl_module *new_probe(void)
{
    alive++;
    return fdl_module_new(&probe_ops);
}

#define m() new_probe()

static fdl_module *failed(void)
{
    return fdl_fail_null(FDL_E_DTYPE, "the constructor failed");
}

/* A flow that must be refused with this status and these words, and must free all its probes. */
#define refused(flow, status, ...)        \
    do {                                  \
        assert_null(flow);                \
        check_error(status, __VA_ARGS__); \
        assert_int_equal(alive, 0);       \
    } while (0)

static void a_step_that_failed_keeps_its_error(void **state)
{
    (void)state;
    refused(fdl_flow(m(), failed(), m()), FDL_E_DTYPE, "the constructor failed");
    refused(fdl_flow(m(), NULL, m()), FDL_E_NULL, "step 1 is NULL");
    refused(fdl_flow(m(), fdl_flow_also(failed(), .skip = m()), m()), FDL_E_DTYPE, "the constructor failed");
    refused(fdl_flow(m(), fdl_flow_also(m(), .skip = failed())), FDL_E_DTYPE, "the constructor failed");
    refused(fdl_flow(m(), fdl_flow_split(m(), failed(), m())), FDL_E_DTYPE, "the constructor failed");
    refused(fdl_flow(m(), fdl_flow_loop(failed(), .n = 2)), FDL_E_DTYPE, "the constructor failed");
    refused(fdl_flow(m(), fdl_flow_fork(NULL), m()), FDL_E_NULL, "fdl_flow_fork");
    refused(fdl_flow(m(), fdl_flow_gate(m(), FDL_MODULES(m(), failed(), m()))), FDL_E_DTYPE,
            "the constructor failed");
    refused(fdl_flow(m(), fdl_flow_gate(failed(), FDL_MODULES(m(), m()))), FDL_E_DTYPE,
            "the constructor failed");
    refused(fdl_flow_gate_opt(m(), 2, NULL, NULL), FDL_E_NULL, "fdl_flow_gate");
    refused(fdl_flow(m(), fdl_flow(m(), fdl_flow(failed(), m()))), FDL_E_DTYPE, "the constructor failed");
    refused(fdl_flow(m(), fdl_flow_tag(NULL)), FDL_E_NULL, "fdl_flow_tag");
    refused(fdl_flow(m(), fdl_flow_using("a", NULL)), FDL_E_NULL, "fdl_flow_using");
    refused(fdl_flow_of(2, NULL), FDL_E_NULL, "steps");
    refused(fdl_flow_split_of(2, NULL), FDL_E_NULL, "branches");
    refused(fdl_flow_using_of(1, NULL), FDL_E_NULL, "fdl_flow_using");
}

static void a_module_belongs_to_one_place(void **state)
{
    (void)state;
    fdl_module *a = m();
    refused(fdl_flow(a, m(), a), FDL_E_STATE, "step 2", "probe", "fdl_module_share");
    a = m();
    refused(fdl_flow(fdl_flow_split(a, m()), a), FDL_E_STATE, "step 1", "fdl_module_share");
    a = m();
    refused(fdl_flow(fdl_flow_split(a, a)), FDL_E_STATE, "fdl_module_share");
    a = m();
    refused(fdl_flow(a, fdl_flow_also(a)), FDL_E_STATE, "fdl_module_share");
    a = m();
    fdl_module *g = fdl_flow(a);
    assert_null(fdl_flow(m(), a));
    check_error(FDL_E_STATE, "has an owner already");
    assert_int_equal(alive, 1);
    assert_int_equal(fdl_module_free(a), FDL_E_STATE);
    check_error(FDL_E_STATE, "belongs to another module");
    check_ok(fdl_module_free(g));
    assert_int_equal(alive, 0);
    fdl_module *tag = fdl_flow_tag("t");
    refused(fdl_flow(m(), fdl_module_share(tag)), FDL_E_ARG, "step 1", "can't be shared");
    check_ok(fdl_module_free(tag));
}

static void open_streams(void **state)
{
    (void)state;
    refused(fdl_flow(fdl_flow_split(m(), m(), m()), m()), FDL_E_ARG, "step 1 (probe)", "3 streams",
            "fdl_flow_merge");
    refused(fdl_flow(fdl_flow_split(m(), m()), fdl_flow_also(m())), FDL_E_ARG, "step 1 (fdl_flow_also)",
            "2 streams");
    refused(fdl_flow(fdl_flow_split(m(), m()), fdl_flow_fork(m())), FDL_E_ARG, "fdl_flow_fork", "2 streams");
    refused(fdl_flow(fdl_flow_split(m(), m()), fdl_flow_split(m(), m())), FDL_E_ARG, "step 1", "2 streams");
    refused(fdl_flow(fdl_flow_split(m(), m()), fdl_flow_loop(m(), .n = 1)), FDL_E_ARG, "fdl_flow_loop",
            "2 streams");
    refused(fdl_flow(fdl_flow_split(m(), m()), fdl_flow_gate(m(), FDL_MODULES(m(), m()))), FDL_E_ARG,
            "fdl_flow_gate", "2 streams");
    refused(fdl_flow(m(), fdl_flow_gate(m(), FDL_MODULES(m()))), FDL_E_ARG, "step 1 (fdl_flow_gate)",
            "2 experts", "got 1");
    refused(fdl_flow(m(), fdl_flow_gate_opt(m(), 0, NULL, NULL)), FDL_E_ARG, "got 0");
    refused(fdl_flow(m(), fdl_flow_merge(FDL_MERGE_ADD)), FDL_E_ARG, "step 1 (fdl_flow_merge)",
            "single stream");
    refused(fdl_flow(m(), fdl_flow_split(m(), m())), FDL_E_ARG, "2 streams", "at the end", "fdl_flow_merge");
    refused(fdl_flow(m(), fdl_flow_split(m())), FDL_E_ARG, "step 1 (fdl_flow_split)", "got 1");
    refused(fdl_flow(m(), fdl_flow_split()), FDL_E_ARG, "got 0");
    refused(fdl_flow(fdl_flow_split(m(), m()), fdl_flow_tag("x"), fdl_flow_merge(FDL_MERGE_ADD)), FDL_E_ARG,
            "step 1 (fdl_flow_tag)", "\"x\"", "fdl_flow_tag_group");
    refused(fdl_flow(m(), fdl_flow_tag_group("x")), FDL_E_ARG, "step 1 (fdl_flow_tag_group)", "\"x\"",
            "fdl_flow_tag");
    refused(fdl_flow(fdl_flow_split(m(), m()), fdl_flow_merge((fdl_merge_kind)7)), FDL_E_ARG, "7 is no kind");
}

static void names_that_clash(void **state)
{
    (void)state;
    refused(fdl_flow(m(), fdl_flow_tag("x"), m(), fdl_flow_tag("x")), FDL_E_ARG, "step 3 (fdl_flow_tag)",
            "\"x\"");
    refused(fdl_flow(m(), fdl_flow_tag("x"), fdl_flow_input("x")), FDL_E_ARG, "step 2 (fdl_flow_input)",
            "\"x\"");
    refused(fdl_flow(m(), fdl_flow_input("x"), fdl_flow_tag("x")), FDL_E_ARG, "step 2", "\"x\"", "input");
    refused(fdl_flow(m(), fdl_flow_input("x", "x")), FDL_E_ARG, "step 1", "\"x\"");
    refused(fdl_flow(m(), fdl_flow_tag("b_1"), fdl_flow_split(m(), m()), fdl_flow_tag_group("b")), FDL_E_ARG,
            "step 3 (fdl_flow_tag_group)", "\"b_1\"");
    refused(fdl_flow(m(), fdl_flow_tag("b"), fdl_flow_split(m(), m()), fdl_flow_tag_group("b")), FDL_E_ARG,
            "\"b\"");
    refused(fdl_flow(fdl_flow_split(m(), m()), fdl_flow_tag_group("b"), fdl_flow_merge(FDL_MERGE_ADD),
                     fdl_flow_tag("b")),
            FDL_E_ARG, "step 3", "\"b\"", "tag group");
    refused(fdl_flow(fdl_flow_split(m(), m()), fdl_flow_tag_group("b"), fdl_flow_tag_group("b")), FDL_E_ARG,
            "step 2", "\"b\"", "tag group");
    refused(fdl_flow(m(), fdl_flow_also(m(), .name = "x"), fdl_flow_tag("x")), FDL_E_ARG, "step 2", "\"x\"");
    refused(fdl_flow(m(), fdl_flow_tag("probe_2"), m()), FDL_E_ARG, "step 0", "\"probe_2\"", "another node");
    refused(fdl_flow(m(), m(), fdl_flow_tag("probe_1")), FDL_E_ARG, "\"probe_1\"", "another node");
    fdl_module *g = fdl_flow(m(), fdl_flow_tag("probe_1"));
    check_some(g);
    fdl_module_free(g);
    refused(fdl_flow(m(), fdl_flow_label("a"), fdl_flow_label("b")), FDL_E_ARG, "step 2", "\"a\"", "\"b\"");
    g = fdl_flow(fdl_flow_label("a"), m(), fdl_flow_label("a"));
    assert_string_equal(node_ids(g), "probe_1");
    fdl_module_free(g);
}

static void names_that_are_none(void **state)
{
    (void)state;
    const char *bad[] = {"",         "a/b",          "say \"a\"",        "a\nb",    "\x7f", "\xff",
                         "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        refused(fdl_flow(m(), fdl_flow_tag(bad[i])), FDL_E_ARG, "step 1 (fdl_flow_tag)", bad[i]);
        refused(fdl_flow(m(), fdl_flow_label(bad[i])), FDL_E_ARG, "fdl_flow_label", bad[i]);
        refused(fdl_flow(m(), fdl_flow_input(bad[i])), FDL_E_ARG, "fdl_flow_input", bad[i]);
        refused(fdl_flow(add_ctx(), fdl_flow_using(bad[i])), FDL_E_ARG, "fdl_flow_using", bad[i]);
        refused(fdl_flow(m(), fdl_flow_also(m(), .name = bad[i])), FDL_E_ARG, "fdl_flow_also", bad[i]);
        refused(fdl_flow(fdl_flow_split(m(), m()), fdl_flow_tag_group(bad[i])), FDL_E_ARG,
                "fdl_flow_tag_group", bad[i]);
    }
    refused(fdl_flow(m(), fdl_flow_input("input")), FDL_E_ARG, "step 1", "\"input\"", "primary");
    fdl_module *g =
        fdl_flow(m(), fdl_flow_tag("input"), m(), fdl_flow_tag("bert.layer.0 \xe2\x82\xac \xf0\x9f\x8c\xb1"));
    check_some(g);
    fdl_module_free(g);
}

static void using_what_is_not_there(void **state)
{
    (void)state;
    refused(fdl_flow(fdl_flow_using("a"), m()), FDL_E_ARG, "step 0 (fdl_flow_using)", "no step", "\"a\"");
    refused(fdl_flow(m(), fdl_flow_tag("a"), fdl_nn_relu(), fdl_flow_using("a")), FDL_E_ARG, "step 3",
            "relu_2", "\"a\"", "forward_named");
    refused(fdl_flow(m(), fdl_flow_tag("a"), fdl_flow_loop(m(), .n = 2), fdl_flow_using("a")), FDL_E_ARG,
            "loop_2", "its body probe", "forward_named");
    refused(fdl_flow(m(), fdl_flow_tag("a"), fdl_flow_gate(m(), FDL_MODULES(add_ctx(), m())),
                     fdl_flow_using("a")),
            FDL_E_ARG, "gate_2", "its router probe", "forward_named");
    refused(fdl_flow(m(), fdl_flow_tag("a"), fdl_flow_split(add_ctx(), m()), fdl_flow_using("a")), FDL_E_ARG,
            "probe_3");
    refused(fdl_flow(m(), fdl_flow_tag("a"), fdl_flow_also(m(), .skip = add_ctx()), fdl_flow_using("a")),
            FDL_E_ARG, "probe_3");
    refused(fdl_flow(m(), fdl_flow_tag("a"), fdl_flow(m()), fdl_flow_using("a")), FDL_E_ARG, "graph_2",
            "fdl_flow_input");
    refused(fdl_flow(add_ctx(), fdl_flow_using("nope")), FDL_E_ARG, "step 1 (fdl_flow_using)", "\"nope\"");
    refused(fdl_flow(add_ctx(), fdl_flow_using("p", "q", "p")), FDL_E_ARG, "\"p\", \"q\"");
    refused(fdl_flow(add_ctx(), fdl_flow_using("here", "gone"), m(), fdl_flow_tag("here")), FDL_E_ARG,
            "step 1", "no step has the tag \"gone\"");
    refused(fdl_flow(m(), fdl_flow_tag("a"), fdl_flow_tag("b"), add_ctx(), fdl_flow_using("ctx=a", "ctx=b")),
            FDL_E_ARG, "add_ctx_2 gets two values as \"ctx\"", "\"a\" and \"b\"");
    refused(fdl_flow(m(), fdl_flow_tag("a"), add_ctx(), fdl_flow_using("=a")), FDL_E_ARG, "is empty");
    refused(fdl_flow(m(), fdl_flow_tag("a"), add_ctx(), fdl_flow_using("a=")), FDL_E_ARG, "is empty");
    refused(fdl_flow(add_ctx(), fdl_flow_tag("a"), fdl_flow_using("a")), FDL_E_ARG, "step 2", "\"a\"",
            "this very step");
    refused(fdl_flow(m(), fdl_flow_also(add_ctx()), fdl_flow_tag("a"), fdl_flow_using("a")), FDL_E_ARG,
            "this very step");
    refused(fdl_flow(m(), fdl_flow_also(add_ctx(), .name = "a"), fdl_flow_using("a")), FDL_E_ARG,
            "this very step");
    refused(fdl_flow(fdl_flow_split(m(), m()), fdl_flow_tag_group("b"), fdl_flow_merge(FDL_MERGE_ADD),
                     add_ctx(), fdl_flow_using("b")),
            FDL_E_ARG, "\"b\" is a tag group", "\"b_0\"");
}

static void names_that_a_module_declares(void **state)
{
    (void)state;
    refused(fdl_flow(m(), fdl_flow_input("a", "b"), new_ab(), fdl_flow_using("a")), FDL_E_ARG, "step 2 (ab)",
            "ab_4", "takes \"a\", \"b\"", "got \"a\"", "missing: \"b\"");
    refused(fdl_flow(m(), fdl_flow_input("a", "b", "c"), new_ab(), fdl_flow_using("a", "b", "c")), FDL_E_ARG,
            "unknown: \"c\"");
    refused(fdl_flow(m(), fdl_flow_input("a", "c"), new_ab(), fdl_flow_using("a", "c")), FDL_E_ARG,
            "missing: \"b\"", "unknown: \"c\"");
    refused(fdl_flow(m(), fdl_flow(m(), fdl_flow_input("ctx"))), FDL_E_ARG, "step 1 (graph)", "graph_2",
            "takes \"ctx\"", "got none");
    refused(
        fdl_flow(m(), fdl_flow_tag("other"), fdl_flow(m(), fdl_flow_input("ctx")), fdl_flow_using("other")),
        FDL_E_ARG, "missing: \"ctx\"", "unknown: \"other\"");
    refused(fdl_flow(m(), fdl_flow_also(m(), .skip = fdl_flow(m(), fdl_flow_input("ctx")))), FDL_E_ARG,
            "step 1 (fdl_flow_also)", "graph_2", "missing: \"ctx\"");
    refused(fdl_flow(m(), fdl_flow_gate(fdl_flow(m(), fdl_flow_input("ctx")), FDL_MODULES(m(), m()))),
            FDL_E_ARG, "its router graph", "missing: \"ctx\"");
    refused(fdl_flow(m(), fdl_flow_gate(m(), FDL_MODULES(m(), fdl_flow(m(), fdl_flow_input("ctx"))))),
            FDL_E_ARG, "expert 1", "\"ctx\"");
    refused(fdl_flow(m(), fdl_flow_loop(fdl_flow(m(), fdl_flow_input("ctx")), .n = 1)), FDL_E_ARG,
            "its body graph", "missing: \"ctx\"");
}

static void loops_without_a_number(void **state)
{
    (void)state;
    refused(fdl_flow(m(), fdl_flow_loop(m())), FDL_E_ARG, "step 1 (fdl_flow_loop)", ".n", "got 0");
    refused(fdl_flow(m(), fdl_flow_loop(m(), .n = -3)), FDL_E_ARG, "got -3");
    refused(fdl_flow(m(), fdl_flow_loop_opt(m(), NULL)), FDL_E_ARG, "got 0");
}

#define labelled(name) fdl_flow(m(), fdl_flow_label(name))

static void labels_that_make_paths_ambiguous(void **state)
{
    (void)state;
    refused(fdl_flow(m(), labelled("a.b")), FDL_E_ARG, "step 1 (graph)", "\"a.b\"", "dot");
    refused(fdl_flow(labelled("a"), labelled("a")), FDL_E_ARG, "step 1", "\"a\"", "two different graphs");
    refused(fdl_flow(labelled("a"), fdl_flow_loop(labelled("a"), .n = 2)), FDL_E_ARG,
            "step 1 (fdl_flow_loop)", "\"a\"");
    refused(fdl_flow(labelled("a"), m(), fdl_flow_tag("a")), FDL_E_ARG, "\"a\"", "graph_1",
            "tag of another node");
    refused(fdl_flow(labelled("a"), m(), fdl_flow_tag("a.b")), FDL_E_ARG, "step 1", "\"a.b\"", "label \"a\"");
    refused(fdl_flow(m(), labelled("probe_1")), FDL_E_ARG, "\"probe_1\"", "id of another node");
    fdl_module *a = labelled("a"), *again = fdl_module_share(a);
    fdl_module *g = fdl_flow(a, fdl_flow_tag("a"), again, fdl_flow_label("the.root"));
    check_some(g);
    fdl_module_free(g);
}

static fdl_tensor *first_of(fdl_list values)
{
    return values.at[0];
}

static fdl_module *one_more(int i, void *ctx)
{
    (void)i;
    (void)ctx;
    return m();
}

static void steps_are_no_modules(void **state)
{
    (void)state;
    FDL_SCOPE;
    refused(fdl_flow_split(m(), fdl_flow_tag("x")), FDL_E_ARG, "fdl_flow_split", "fdl_flow_tag makes a step");
    refused(fdl_flow_also(fdl_flow_fork(m()), .skip = m()), FDL_E_ARG, "fdl_flow_fork makes a step");
    refused(fdl_flow_loop(fdl_flow_split(m(), m()), .n = 1), FDL_E_ARG, "fdl_flow_split makes a step");
    refused(fdl_flow_gate(m(), FDL_MODULES(m(), fdl_flow_tag("a"))), FDL_E_ARG, "fdl_flow_tag makes a step");
    struct {
        fdl_module *step;
        const char *kind;
    } steps[] = {{fdl_flow_also(m()), "fdl_flow_also"},
                 {fdl_flow_fork(m()), "fdl_flow_fork"},
                 {fdl_flow_split(m(), m()), "fdl_flow_split"},
                 {fdl_flow_merge(FDL_MERGE_ADD), "fdl_flow_merge"},
                 {fdl_flow_gate(m(), FDL_MODULES(m(), m())), "fdl_flow_gate"},
                 {fdl_flow_loop(m(), .n = 1), "fdl_flow_loop"},
                 {fdl_flow_map(m()), "fdl_flow_map"},
                 {fdl_flow_switch(m(), FDL_MODULES(m(), m())), "fdl_flow_switch"},
                 {fdl_flow_scan(m()), "fdl_flow_scan"},
                 {fdl_flow_recompute(m()), "fdl_flow_recompute"},
                 {fdl_flow_repeat(0, one_more, NULL), "fdl_flow_repeat"},
                 {fdl_flow_tag("a"), "fdl_flow_tag"},
                 {fdl_flow_tag_group("a"), "fdl_flow_tag_group"},
                 {fdl_flow_using("a"), "fdl_flow_using"},
                 {fdl_flow_input("a"), "fdl_flow_input"},
                 {fdl_flow_label("a"), "fdl_flow_label"},
                 {fdl_flow_internal("a"), "fdl_flow_internal"},
                 {fdl_flow_merge_fn(first_of), "fdl_flow_merge"},
                 {fdl_flow_add_from("a"), "fdl_flow_add_from"},
                 {fdl_flow_mul_from("a"), "fdl_flow_mul_from"},
                 {fdl_flow_cat_from("a"), "fdl_flow_cat_from"},
                 {fdl_flow_detach(), "fdl_flow_detach"},
                 {fdl_flow_output("a"), "fdl_flow_output"},
                 {fdl_flow_verbose(), "fdl_flow_verbose"}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        assert_string_equal(fdl_module_kind(steps[i].step), steps[i].kind);
        assert_null(fdl_forward(steps[i].step, row(1)));
        check_error(FDL_E_ARG, steps[i].kind, "neither forwarded nor put");
        check_ok(fdl_module_free(steps[i].step));
    }
    assert_int_equal(alive, 0);
}

static void the_builder_keeps_its_first_error(void **state)
{
    (void)state;
    fdl_flow_builder *b = fdl_flow_new();
    check_ok(fdl_flow_add(b, m()));
    assert_int_equal(fdl_flow_add(b, fdl_flow_merge(FDL_MERGE_ADD)), FDL_E_ARG);
    assert_int_equal(fdl_flow_add(b, m()), FDL_E_ARG);
    assert_int_equal(fdl_flow_add(b, NULL), FDL_E_ARG);
    check_error(FDL_E_ARG, "step 1 (fdl_flow_merge)");
    assert_null(fdl_flow_build(b)); /* the error was read: it says again which step it was */
    check_error(FDL_E_ARG, "step 1 failed");
    assert_int_equal(alive, 0);
    assert_int_equal(fdl_flow_add(NULL, m()), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_flow_add");
    assert_null(fdl_flow_build(NULL));
    check_error(FDL_E_NULL, "fdl_flow_build");
    assert_int_equal(alive, 0);
}

/* ---- forward ------------------------------------------------------------------------------------------- */

static void errors_in_forward_name_their_node(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *inner = fdl_flow(id(), fdl_nn_fn(fails, .name = "bad"), fdl_flow_tag("here"));
    fdl_module *g = fdl_flow(id(), inner, fdl_flow_tag("outer"));
    int64_t before = fdl_live_tensors();
    fdl_tensor *x = row(1);
    assert_null(fdl_forward(g, x));
    check_error(FDL_E_RANGE, "graph_2 (#outer): bad_2 (#here): this module always fails");
    assert_int_equal(fdl_live_tensors(), before + 1);
    fdl_module_free(g);
    g = fdl_flow(id(), fdl_nn_fn(gives_nothing));
    assert_null(fdl_forward(g, x));
    check_error(FDL_E_NULL, "fn_2: ", "fn returned NULL without an error");
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_loop(fdl_nn_linear(2, 3), .n = 4), fdl_flow_tag("l"));
    assert_null(fdl_forward(g, row(1, 2)));
    check_error(FDL_E_SHAPE, "loop_2 (#l): loop iteration 1: ");
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_split(id(), fdl_nn_linear(2, 3), id()), fdl_flow_merge(FDL_MERGE_ADD));
    assert_null(fdl_forward(g, row(1, 2)));
    check_error(FDL_E_SHAPE, "merge_5: operand 1, from linear_3: ", "[1, 2]", "[1, 3]");
    fdl_module_free(g);
}

/* An error that nobody has read yet is not this forward's. */
static void an_older_error_gets_no_prefix(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_fn(fails));
    fdl_fail(FDL_E_IO, "an older one");
    assert_null(fdl_forward(g, row(1)));
    assert_string_equal(fdl_last_error()->message, "an older one");
    fdl_clear_error();
    fdl_module_free(g);
}

static int countdown;

static fdl_tensor *fails_once(fdl_tensor *x)
{
    return countdown-- == 0 ? fails(x) : fdl_add(x, x);
}

static void a_failed_forward_leaves_the_graph_usable(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(id(), fdl_flow_tag("x"), fdl_nn_fn(fails_once), fdl_flow_also(fdl_nn_fn(fails_once)),
                 fdl_flow_loop(fdl_flow(fdl_nn_fn(fails_once)), .n = 2), sum_refs(), fdl_flow_using("x"));
    fdl_tensor *x = row(1);
    countdown = 100;
    check_some(fdl_forward(g, x));
    for (int at = 0; at < 5; at++) {
        int64_t before =
            fdl_live_tensors(); /* the value under "x" among them, of which every run makes a new one */
        countdown = at;
        if (at < 4) {
            assert_null(fdl_forward(g, x));
            check_error(FDL_E_RANGE, "always fails");
            assert_int_equal(fdl_live_tensors(), before);
        }
        countdown = 100;
        check_values(fdl_forward(g, x), 4 * (2 + 4) + 1);
    }
    fdl_module_free(g);
}

static fdl_tensor *joined(fdl_tensor *x, const fdl_refs *r)
{
    return fdl_add(x, fdl_refs_need(r, "skip"));
}

static fdl_module *joining(void)
{
    return fdl_nn_fn_refs(joined, "skip");
}

static void refs_that_nobody_wires_or_the_step_itself(void **state)
{
    (void)state;
    FDL_SCOPE;
    refused(fdl_flow(m(), joining()), FDL_E_ARG, "step 1", "\"skip\"");
    refused(fdl_flow(m(), fdl_flow_also(joining())), FDL_E_ARG, "step 1", "\"skip\"");
    refused(fdl_flow(m(), fdl_flow_loop(joining(), .n = 2)), FDL_E_ARG, "step 1", "\"skip\"");
    refused(fdl_flow(m(), fdl_flow_gate(m(), FDL_MODULES(m(), joining()))), FDL_E_ARG, "expert 1",
            "\"skip\"");
    fdl_module *wired = fdl_flow(fdl_nn_identity(), fdl_flow_tag("skip"), joining(), fdl_flow_using("skip"));
    check_some(wired);
    fdl_module_free(wired);
    refused(fdl_flow(fdl_flow_scan(fdl_nn_gru_cell(2, 2)), fdl_flow_using("state"), fdl_flow_tag("state")),
            FDL_E_ARG, "scan_2", "\"state\"", ".init");
}

static fdl_module *published_gate(const char *balance, const char *choice)
{
    return fdl_flow_gate(fdl_nn_softmax_router(2, 2), FDL_MODULES(m(), m()), .top_k = 1,
                         .trace_balance = balance, .trace_choice = choice);
}

static void one_step_publishes_a_name(void **state)
{
    (void)state;
    FDL_SCOPE;
    refused(fdl_flow(m(), published_gate("b", NULL), published_gate("b", NULL)), FDL_E_ARG, "gate_3",
            "gate_2", "\"b\"");
    refused(fdl_flow(m(), published_gate("b", "b")), FDL_E_ARG, "gate_2", "twice", "\"b\"");
    refused(fdl_flow(m(), published_gate("b", NULL),
                     fdl_flow_switch(fdl_nn_fixed_selector(0), FDL_MODULES(m(), m()), .trace_choice = "b")),
            FDL_E_ARG, "switch_3", "gate_2", "\"b\"");
    refused(fdl_flow(m(), published_gate("b", NULL),
                     fdl_flow_loop(m(), .until_cond = m(), .max = 2, .trace_cond = "b")),
            FDL_E_ARG, "loop_3", "gate_2", "\"b\"");
    refused(
        fdl_flow(m(), published_gate("b", NULL), fdl_flow_scan(fdl_nn_gru_cell(2, 2), .trace_state = "b")),
        FDL_E_ARG, "scan_3", "gate_2", "\"b\"");
    fdl_module *two = fdl_flow(m(), published_gate("a", NULL), published_gate("b", NULL));
    check_some(two);
    fdl_module_free(two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_that_failed_keeps_its_error),
        cmocka_unit_test(a_module_belongs_to_one_place),
        cmocka_unit_test(open_streams),
        cmocka_unit_test(names_that_clash),
        cmocka_unit_test(names_that_are_none),
        cmocka_unit_test(using_what_is_not_there),
        cmocka_unit_test(names_that_a_module_declares),
        cmocka_unit_test(loops_without_a_number),
        cmocka_unit_test(labels_that_make_paths_ambiguous),
        cmocka_unit_test(steps_are_no_modules),
        cmocka_unit_test(the_builder_keeps_its_first_error),
        cmocka_unit_test(errors_in_forward_name_their_node),
        cmocka_unit_test(an_older_error_gets_no_prefix),
        cmocka_unit_test(a_failed_forward_leaves_the_graph_usable),
        cmocka_unit_test(refs_that_nobody_wires_or_the_step_itself),
        cmocka_unit_test(one_step_publishes_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
