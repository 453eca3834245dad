/* Graphs as DOT text: every node, edge and box; shapes and colours; hostile names. */
#include "folder.h"
#include "graph/modules.h"

#include <unistd.h>

/* The text is in the drawing; a message with the drawing otherwise. */
static void check_in_(const char *dot, const char *text, bool wanted, const char *file, int line)
{
    if ((strstr(dot, text) != NULL) == wanted)
        return;
    print_error("%s:%d: \"%s\" is %s:\n%s\n", file, line, text, wanted ? "not in" : "in", dot);
    _fail(file, line);
}
#define check_in(dot, text) check_in_(dot, text, true, __FILE__, __LINE__)
#define check_not_in(dot, text) check_in_(dot, text, false, __FILE__, __LINE__)

/* Graphviz's own dot reads it, without a word; where it isn't installed nothing is checked. */
static void check_accepted(const char *dot)
{
    static int there = -1;
    if (there < 0)
        there = system("command -v dot >/dev/null 2>&1") == 0;
    if (!there)
        return;
    check_ok(fdl_file_save(path_of("a.dot"), dot, strlen(dot)));
    char command[1200];
    snprintf(command, sizeof command, "cd '%s' && dot -Tplain a.dot -o a.plain 2>a.said && ! test -s a.said",
             folder);
    if (system(command) == 0)
        return;
    size_t n;
    char *said = fdl_file_read(path_of("a.said"), 0, &n);
    print_error("dot says: %s of\n%s\n", said ? said : "nothing", dot);
    free(said);
    fail();
}

/* The attributes of a node's statement, from its name to the end of the line. */
static const char *line_of(const char *dot, const char *name)
{
    static char line[2048];
    char begin[128];
    snprintf(begin, sizeof begin, "\n\"%s\" [", name);
    const char *at = strstr(dot, begin);
    if (!at) {
        print_error("no node \"%s\" in\n%s\n", name, dot);
        fail();
        return "";
    }
    snprintf(line, sizeof line, "%.*s", (int)strcspn(at + 1, "\n"), at + 1);
    return line;
}

static void check_look_(const char *dot, const char *name, const char *shape, const char *fill, int line)
{
    char want_shape[64], want_fill[64];
    snprintf(want_shape, sizeof want_shape, "shape=%s,", shape);
    snprintf(want_fill, sizeof want_fill, "fillcolor=\"%s\"", fill);
    check_in_(line_of(dot, name), want_shape, true, __FILE__, line);
    check_in_(line_of(dot, name), want_fill, true, __FILE__, line);
}
#define check_look(dot, name, shape, fill) check_look_(dot, name, shape, fill, __LINE__)

static fdl_module *wide(void)
{
    return fdl_flow(fdl_nn_linear(8, 8), fdl_flow_input("ctx"), fdl_flow_tag("enc"), fdl_nn_gelu(),
                    fdl_nn_layer_norm(8), fdl_nn_dropout(0.1), add_ctx(), fdl_flow_using("ctx"),
                    fdl_flow_split(fdl_nn_linear(8, 8), fdl_nn_linear(8, 8)), fdl_flow_tag_group("head"),
                    fdl_flow_merge(FDL_MERGE_ADD), fdl_flow_using("enc"),
                    fdl_flow_also(fdl_flow(fdl_nn_linear(8, 50), fdl_nn_relu(), fdl_nn_linear(50, 8),
                                           fdl_flow_label("ffn"))),
                    fdl_flow_loop(fdl_nn_linear(8, 8), .n = 3), fdl_flow_tag("refined"),
                    fdl_flow_gate(fdl_nn_softmax_router(8, 2),
                                  FDL_MODULES(fdl_nn_linear(8, 8), fdl_nn_linear(8, 8, .no_bias = true))),
                    fdl_nn_linear(8, 2));
}

static void every_node_and_level(void **state)
{
    (void)state;
    fdl_module *g = wide();
    check_some(g);
    char *dot = fdl_graph_dot(g);
    check_some(dot);
    int levels = 0;
    for (int i = 0; i < fdl_graph_node_count(g); i++) {
        line_of(dot, fdl_graph_node_id(g, i));
        if (fdl_graph_node_level(g, i) >= levels)
            levels = fdl_graph_node_level(g, i) + 1;
    }
    for (int i = 0; i < levels; i++) {
        char text[64];
        snprintf(text, sizeof text, "subgraph cluster_level_%d {", i);
        check_in(dot, text);
        snprintf(text, sizeof text, ">level %d<", i);
        check_in(dot, text);
    }
    check_in(dot, "{rank=same; \"linear_7\"; \"linear_8\";}");
    check_in(line_of(dot, "linear_1"), "#enc");
    check_in(line_of(dot, "linear_7"), "#head_0");
    check_accepted(dot);
    free(dot);
    dot = fdl_graph_dot(g, .no_levels = true);
    check_some(dot);
    check_not_in(dot, "cluster_level");
    check_accepted(dot);
    free(dot);
    fdl_module_free(g);
}

static void shapes_and_fills(void **state)
{
    (void)state;
    fdl_module *g = wide();
    char *dot = fdl_graph_dot(g);
    check_some(dot);
    check_look(dot, "linear_1", "invhouse", "#aed6f1");
    check_look(dot, "input_ctx_2", "invhouse", "#aed6f1");
    check_look(dot, "gelu_3", "ellipse", "#fdebd0");
    check_look(dot, "layernorm_4", "box", "#d5f5e3");
    check_look(dot, "dropout_5", "box", "#fadbd8");
    check_look(dot, "add_ctx_6", "box", "#eaecee");
    check_look(dot, "merge_9", "circle", "#d5dbdb");
    check_look(dot, "graph_10", "box", "#d6eaf8");
    check_look(dot, "add_11", "circle", "#d5dbdb");
    check_look(dot, "loop_12", "box3d", "#d7bde2");
    check_look(dot, "gate_13", "diamond", "#f5cba7");
    check_look(dot, "linear_14", "house", "#a9dfbf");
    free(dot);
    fdl_module_free(g);
    g = fdl_flow(fdl_nn_linear(2, 2));
    dot = fdl_graph_dot(g);
    check_some(dot);
    check_look(dot, "linear_1", "doubleoctagon", "#aed6f1");
    check_accepted(dot);
    free(dot);
    fdl_module_free(g);
}

static void edges_of_each_kind(void **state)
{
    (void)state;
    fdl_module *g = wide();
    char *dot = fdl_graph_dot(g);
    check_some(dot);
    check_in(dot, "\n\"linear_1\" -> \"gelu_3\";\n");
    const char *ref = strstr(dot, "\n\"input_ctx_2\" -> \"add_ctx_6\" [");
    check_some(ref);
    check_in(dot, "\"input_ctx_2\" -> \"add_ctx_6\" [class=ref, style=dashed, color=\"#2980b9\", "
                  "fontcolor=\"#2980b9\", "
                  "label=<&#160;ctx>];");
    check_in(dot, "\"linear_1\" -> \"merge_9\" [class=ref, style=dashed");
    check_in(dot, "label=<&#160;enc>]");
    free(dot);
    fdl_module_free(g);
}

static void state_goes_back_to_its_readers(void **state)
{
    (void)state;
    fdl_module *g =
        fdl_flow(id(), dbl(), tri(), sum_refs(), fdl_flow_using("memory"), fdl_flow_tag("memory"), id());
    check_some(g);
    char *dot = fdl_graph_dot(g);
    check_some(dot);
    const char *reader = NULL;
    for (int i = 0; i < fdl_graph_node_count(g); i++)
        if (strncmp(fdl_graph_node_id(g, i), "state_read_memory", 17) == 0)
            reader = fdl_graph_node_id(g, i);
    check_some(reader);
    check_look(dot, reader, "diamond", "#f9e79f");
    char text[256];
    snprintf(text, sizeof text,
             "\n\"state_add_4\" -> \"%s\" [class=state, style=dotted, penwidth=1.5, color=\"#e67e22\"",
             reader);
    check_in(dot, text);
    check_in(dot, "label=<&#160;state>, constraint=false];");
    snprintf(text, sizeof text, "\n\"%s\" -> \"state_add_4\" [class=ref, style=dashed", reader);
    check_in(dot, text);
    check_accepted(dot);
    free(dot);
    fdl_module_free(g);
}

static void gates_are_boxes_with_experts(void **state)
{
    (void)state;
    fdl_module *g = wide();
    char *dot = fdl_graph_dot(g);
    check_some(dot);
    check_in(dot, "subgraph \"cluster gate_13\" {");
    check_look(dot, "gate_13/expert_0", "box", "#eaecee");
    check_look(dot, "gate_13/expert_1", "box", "#eaecee");
    check_look(dot, "gate_13/join", "circle", "#d5dbdb");
    check_in(line_of(dot, "gate_13"), "<B>router</B>");
    check_in(line_of(dot, "gate_13/expert_0"), "[72 params]");
    check_in(line_of(dot, "gate_13/expert_1"), "[64 params]");
    check_in(dot, "\n\"loop_12\" -> \"gate_13\";\n");
    check_in(dot, "\n\"gate_13\" -> \"gate_13/expert_1\";\n");
    check_in(dot, "\n\"gate_13/expert_1\" -> \"gate_13/join\";\n");
    check_in(dot, "\n\"gate_13/join\" -> \"linear_14\";\n");
    free(dot);
    dot = fdl_graph_dot(g, .flat = true);
    check_some(dot);
    check_not_in(dot, "gate_13/");
    check_look(dot, "gate_13", "diamond", "#f5cba7");
    check_in(dot, "\n\"gate_13\" -> \"linear_14\";\n");
    check_accepted(dot);
    free(dot);
    fdl_module_free(g);
}

static void what_is_inside_on_request(void **state)
{
    (void)state;
    fdl_module *g = wide();
    char *dot = fdl_graph_dot(g, .expand = true);
    check_some(dot);
    check_in(dot, "subgraph \"cluster graph_10\" {");
    check_in(dot, "\n\"merge_9\" -> \"graph_10/linear_1\";\n");
    check_in(dot, "\n\"graph_10/linear_1\" -> \"graph_10/relu_2\";\n");
    check_in(dot, "\n\"graph_10/linear_3\" -> \"add_11\";\n");
    check_look(dot, "graph_10/relu_2", "ellipse", "#fdebd0");
    check_look(dot, "graph_10/linear_1", "box",
               "#eaecee"); /* the input of the whole stands out, not this one */
    check_in(dot, "subgraph \"cluster loop_12\" {");
    check_in(dot, "\n\"add_11\" -> \"loop_12/body\";\n");
    check_in(dot, "\n\"loop_12/body\" -> \"loop_12/body\" [class=again");
    check_in(dot, "\n\"loop_12/body\" -> \"gate_13\";\n");
    check_accepted(dot);
    free(dot);
    assert_null(fdl_graph_dot(g, .expand = true, .flat = true));
    check_error(FDL_E_ARG, "fdl_graph_dot", ".expand", ".flat");
    fdl_module_free(g);

    /* Inputs of a graph inside are met by name, through several graphs. */
    fdl_module *inner = fdl_flow(id(), fdl_flow_input("b", "ctx"), add_ctx(), fdl_flow_using("ctx"));
    g = fdl_flow(id(), fdl_flow_input("ctx", "b"),
                 fdl_flow(id(), fdl_flow_input("ctx", "b"), inner, fdl_flow_using("ctx", "b")),
                 fdl_flow_using("b", "ctx"));
    check_some(g);
    dot = fdl_graph_dot(g, .expand = true);
    check_some(dot);
    check_in(dot, "\n\"input_ctx_2\" -> \"graph_4/input_ctx_2\" [class=ref");
    check_in(dot, "\n\"graph_4/input_ctx_2\" -> \"graph_4/graph_4/input_ctx_3\" [class=ref");
    check_in(dot, "\n\"graph_4/graph_4/input_ctx_3\" -> \"graph_4/graph_4/add_ctx_4\" [class=ref");
    check_accepted(dot);
    free(dot);
    fdl_module_free(g);
}

static void switches_are_boxes_with_branches(void **state)
{
    (void)state;
    fdl_module *g = fdl_flow(
        fdl_nn_linear(4, 4),
        fdl_flow_switch(fdl_nn_argmax_selector(4, 2),
                        FDL_MODULES(fdl_nn_linear(4, 4), fdl_flow(fdl_nn_gelu(), fdl_nn_linear(4, 4)))),
        fdl_flow_tag("choice"), fdl_nn_relu());
    check_some(g);
    char *dot = fdl_graph_dot(g);
    check_some(dot);
    check_in(dot, "subgraph \"cluster switch_2\" {");
    check_look(dot, "switch_2", "diamond", "#f5cba7");
    check_in(line_of(dot, "switch_2"), "<B>selector</B><BR/>argmax_selector");
    check_look(dot, "switch_2/branch_0", "box", "#eaecee");
    check_look(dot, "switch_2/branch_1", "box", "#d6eaf8"); /* a graph */
    check_look(dot, "switch_2/join", "circle", "#d5dbdb");
    check_in(dot, "#choice");
    check_in(dot, "\n\"linear_1\" -> \"switch_2\";\n");
    check_in(dot, "\n\"switch_2\" -> \"switch_2/branch_1\";\n");
    check_in(dot, "\n\"switch_2/branch_0\" -> \"switch_2/join\";\n");
    check_in(dot, "\n\"switch_2/join\" -> \"relu_3\";\n");
    check_accepted(dot);
    free(dot);
    dot = fdl_graph_dot(g, .expand = true);
    check_some(dot);
    check_in(dot, "\n\"switch_2\" -> \"switch_2/branch_1/gelu_1\";\n");
    check_in(dot, "\n\"switch_2/branch_1/linear_2\" -> \"switch_2/join\";\n");
    check_accepted(dot);
    free(dot);
    dot = fdl_graph_dot(g, .flat = true);
    check_look(dot, "switch_2", "diamond", "#f5cba7");
    check_in(line_of(dot, "switch_2"), "<B>switch</B>");
    check_not_in(dot, "switch_2/");
    free(dot);
    fdl_module_free(g);
}

static void maps_and_scans(void **state)
{
    (void)state;
    fdl_module *g =
        fdl_flow(fdl_nn_linear(4, 4), fdl_flow_tag("first"),
                 fdl_flow_map(fdl_flow(fdl_nn_linear(4, 4), fdl_nn_tanh()), .batched = true),
                 fdl_flow_scan(fdl_nn_gru_cell(4, 4), .dim = 1),
                 fdl_flow_scan(fdl_nn_gru_cell(4, 4), .init = "first"), fdl_flow_tag("seq"), fdl_nn_relu());
    check_some(g);
    char *dot = fdl_graph_dot(g);
    check_some(dot);
    check_look(dot, "map_2", "parallelogram", "#a9cce3");
    check_look(dot, "scan_3", "box3d", "#d7bde2");
    check_look(dot, "scan_4", "box3d", "#d7bde2");
    check_in(line_of(dot, "scan_3"), "<B>scan dim 1</B>");
    check_in(line_of(dot, "scan_4"), "#seq");
    check_in(dot, "\n\"map_2\" -> \"scan_3\";\n");
    check_not_in(dot, "\"map_2\" -> \"scan_3\" [class=ref"); /* its first state is zeros */
    check_in(dot, "\n\"linear_1\" -> \"scan_4\" [class=ref");
    check_in(dot, "label=<&#160;state>]");
    check_accepted(dot);
    free(dot);
    dot = fdl_graph_dot(g, .expand = true);
    check_some(dot);
    check_in(dot, "\n\"linear_1\" -> \"map_2/linear_1\";\n");
    check_in(dot, "\n\"map_2/tanh_2\" -> \"scan_3/cell\";\n");
    check_not_in(dot, "\"map_2/tanh_2\" -> \"map_2/linear_1\""); /* a map isn't run again */
    check_in(dot, "\n\"scan_3/cell\" -> \"scan_3/cell\" [class=again");
    check_in(line_of(dot, "scan_3/cell"), "<B>cell</B><BR/>grucell");
    check_accepted(dot);
    free(dot);
    fdl_module_free(g);
}

static void loops_say_how_often(void **state)
{
    (void)state;
    fdl_module *g =
        fdl_flow(fdl_nn_linear(4, 4),
                 fdl_flow_loop(fdl_nn_linear(4, 4), .while_cond = fdl_nn_threshold_halt(0.5), .max = 5),
                 fdl_flow_loop(fdl_flow(fdl_nn_linear(4, 4), fdl_nn_tanh()), .max = 3,
                               .until_cond = fdl_flow(fdl_nn_linear(4, 1), fdl_nn_sigmoid())),
                 fdl_flow_loop(fdl_nn_linear(4, 4), .act = fdl_nn_linear(4, 1), .max = 4),
                 fdl_flow_loop(fdl_nn_linear(4, 4), .n = 2), fdl_nn_relu());
    check_some(g);
    char *dot = fdl_graph_dot(g);
    check_some(dot);
    static const char *const notes[] = {"<B>loop ≤5</B>", "<B>loop ≤3</B>", "<B>loop ×4</B>",
                                        "<B>loop ×2</B>"};
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "loop_%d", i + 2);
        check_look(dot, name, "box3d", "#d7bde2");
        check_in(line_of(dot, name), notes[i]);
    }
    free(dot);
    dot = fdl_graph_dot(g, .expand = true);
    check_some(dot);
    check_in(line_of(dot, "loop_2/cond"), "<B>cond</B><BR/>threshold_halt");
    check_in(dot, "\n\"loop_2/body\" -> \"loop_2/cond\" [class=again, style=dashed");
    check_in(dot, "\n\"loop_3/body/tanh_2\" -> \"loop_3/body/linear_1\" [class=again, color");
    check_in(dot, "\n\"loop_3/body/tanh_2\" -> \"loop_3/cond/linear_1\" [class=again, style=dashed");
    check_in(dot, "\n\"loop_4/body\" -> \"loop_4/cond\" [class=again, style=dashed");
    check_not_in(dot, "loop_5/cond");
    check_in(dot, "\n\"loop_3/body/tanh_2\" -> \"loop_4/body\";\n");
    check_accepted(dot);
    free(dot);
    fdl_module_free(g);
}

static void each_output_is_one(void **state)
{
    (void)state;
    fdl_module *g = fdl_flow(fdl_nn_linear(4, 4), fdl_flow_input("ctx"), fdl_flow_tag("enc"),
                             fdl_flow_fork(fdl_nn_linear(4, 2)), fdl_flow_tag("side"), fdl_nn_relu(),
                             fdl_flow_detach(), fdl_flow_cat_from("enc"), fdl_flow_mul_from("ctx"),
                             fdl_nn_linear(8, 2), fdl_flow_output("enc", "side"));
    check_some(g);
    char *dot = fdl_graph_dot(g);
    check_some(dot);
    check_look(dot, "linear_1", "doubleoctagon", "#aed6f1");
    check_look(dot, "input_ctx_2", "invhouse", "#aed6f1");
    check_look(dot, "linear_3", "house", "#a9dfbf");
    check_look(dot, "detach_5", "box", "#eaecee");
    check_look(dot, "cat_6", "circle", "#d5dbdb");
    check_look(dot, "mul_7", "circle", "#d5dbdb");
    check_look(dot, "linear_8", "house", "#a9dfbf");
    check_in(dot, "\n\"linear_1\" -> \"cat_6\" [class=ref");
    check_in(dot, "label=<&#160;enc>]");
    check_accepted(dot);
    free(dot);
    /* inside of another graph they are none */
    g = fdl_flow(fdl_nn_relu(), g, fdl_flow_using("ctx=again"), fdl_nn_linear(2, 4), fdl_flow_tag("again"));
    dot = fdl_graph_dot(g, .expand = true);
    check_some(dot);
    check_look(dot, "graph_2/linear_3", "box", "#eaecee");
    check_accepted(dot);
    free(dot);
    fdl_module_free(g);
}

/* Graphs that hold each other twice: whole they would have 2^40 nodes. */
static void shared_graphs_stay_bounded(void **state)
{
    (void)state;
    fdl_module *g = fdl_flow(id(), id());
    for (int i = 0; i < 40; i++) {
        fdl_module *again = fdl_module_share(g);
        g = fdl_flow(g, again);
    }
    check_some(g);
    char *dot = fdl_graph_dot(g, .expand = true);
    check_some(dot);
    assert_true(strlen(dot) < 20 << 20);
    free(dot);
    fdl_module_free(g);
}

static void parameters_are_counted(void **state)
{
    (void)state;
    static const struct {
        int in, out;
        const char *text;
    } cases[] = {{1, 1, "[1 param]"},       {27, 37, "[999 params]"},      {10, 100, "[1.0K params]"},
                 {30, 40, "[1.2K params]"}, {1000, 1000, "[1.0M params]"}, {1000, 2550, "[2.5M params]"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fdl_module *g = fdl_flow(fdl_nn_linear(cases[i].in, cases[i].out, .no_bias = true), fdl_nn_relu());
        char *dot = fdl_graph_dot(g);
        check_some(dot);
        check_in(line_of(dot, "linear_1"), cases[i].text);
        check_not_in(line_of(dot, "relu_2"), "param");
        free(dot);
        fdl_module_free(g);
    }
}

static void labels_are_shown(void **state)
{
    (void)state;
    fdl_module *g = fdl_flow(id(), fdl_flow(id(), fdl_flow_label("encoder")), fdl_flow_label("whole"), id());
    char *dot = fdl_graph_dot(g);
    check_some(dot);
    check_in(line_of(dot, "graph_2"), "<B>graph</B><BR/>encoder");
    check_in(dot, "label=<<B>whole</B>>");
    check_accepted(dot);
    free(dot);
    fdl_module_free(g);
}

/* Each activation that the library has is drawn as one. */
static void activations_are_known(void **state)
{
    (void)state;
    fdl_module *modules[] = {
        fdl_nn_relu(),      fdl_nn_relu6(),         fdl_nn_leaky_relu(),    fdl_nn_rrelu(),
        fdl_nn_prelu(1),    fdl_nn_threshold(0, 0), fdl_nn_elu(),           fdl_nn_selu(),
        fdl_nn_celu(),      fdl_nn_gelu(),          fdl_nn_silu(),          fdl_nn_mish(),
        fdl_nn_sigmoid(),   fdl_nn_logsigmoid(),    fdl_nn_hardsigmoid(),   fdl_nn_tanh(),
        fdl_nn_hardtanh(),  fdl_nn_tanhshrink(),    fdl_nn_hardswish(),     fdl_nn_softplus(),
        fdl_nn_softsign(),  fdl_nn_softshrink(),    fdl_nn_hardshrink(),    fdl_nn_softmax(-1),
        fdl_nn_softmin(-1), fdl_nn_softmax2d(),     fdl_nn_log_softmax(-1), fdl_nn_glu(-1)};
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
        fdl_module *g = fdl_flow(id(), modules[i], id());
        check_some(g);
        char *dot = fdl_graph_dot(g);
        check_some(dot);
        check_look(dot, fdl_graph_node_id(g, 1), "ellipse", "#fdebd0");
        free(dot);
        fdl_module_free(g);
    }
}

static fdl_tensor *same(void *self, fdl_tensor *x)
{
    (void)self;
    return x;
}

static void hostile_names(void **state)
{
    (void)state;
    static const char *const names[] = {"a<b>&c\\",
                                        "]",
                                        "\\N\\G\\l",
                                        "]]>",
                                        "<!--",
                                        "&amp;",
                                        "&#0;",
                                        "'",
                                        "a -> b;}",
                                        " ",
                                        "  two  ",
                                        "\\",
                                        "\xc3\xa4\xe2\x82\xac\xf0\x9f\x99\x82",
                                        "<TABLE>",
                                        "%s%n",
                                        "\xef\xbf\xbf",
                                        "{|}",
                                        "#",
                                        "html",
                                        "0"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        fdl_module_ops ops = {.kind = names[i], .forward = same};
        fdl_module *odd = fdl_module_new(&ops);
        if (!odd) { /* kinds may be refused, then only the other names are tried */
            fdl_clear_error();
            odd = id();
        }
        fdl_module *g = fdl_flow(odd, fdl_flow_loop(fdl_flow(id(), fdl_flow_label(names[i])), .n = 1),
                                 fdl_flow_label(names[i]));
        check_some(g);
        fdl_module *named = fdl_flow(id(), fdl_flow_input(names[i]), add_ctx(), fdl_flow_using(names[i]));
        check_some(named);
        for (int how = 0; how < 3; how++)
            for (int which = 0; which < 2; which++) {
                char *dot = fdl_graph_dot(which ? named : g, .expand = how == 1, .flat = how == 2);
                check_some(dot);
                check_accepted(dot);
                free(dot);
            }
        fdl_module_free(g);
        fdl_module_free(named);
    }
    fdl_module *g = fdl_flow(id(), fdl_flow_tag("a<b>&c\\"));
    char *dot = fdl_graph_dot(g);
    check_some(dot);
    check_in(dot, "#a&lt;b&gt;&amp;c&#92;<");
    free(dot);
    fdl_module_free(g);
}

static void wrong_calls(void **state)
{
    (void)state;
    assert_null(fdl_graph_dot(NULL));
    check_error(FDL_E_NULL, "fdl_graph_dot");
    fdl_module *m = fdl_nn_linear(2, 2);
    assert_null(fdl_graph_dot(m));
    check_error(FDL_E_ARG, "fdl_graph_dot", "linear");
    fdl_module_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_node_and_level),
        cmocka_unit_test(shapes_and_fills),
        cmocka_unit_test(edges_of_each_kind),
        cmocka_unit_test(state_goes_back_to_its_readers),
        cmocka_unit_test(gates_are_boxes_with_experts),
        cmocka_unit_test(what_is_inside_on_request),
        cmocka_unit_test(switches_are_boxes_with_branches),
        cmocka_unit_test(maps_and_scans),
        cmocka_unit_test(loops_say_how_often),
        cmocka_unit_test(each_output_is_one),
        cmocka_unit_test(shared_graphs_stay_bounded),
        cmocka_unit_test(parameters_are_counted),
        cmocka_unit_test(labels_are_shown),
        cmocka_unit_test(activations_are_known),
        cmocka_unit_test(hostile_names),
        cmocka_unit_test(wrong_calls),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
