/* Shapes and colours of nodes in drawings. */
#include "draw_private.h"

static const look plain = {"box", "#eaecee"}, activation = {"ellipse", "#fdebd0"}, norm = {"box", "#d5f5e3"},
                  dropout = {"box", "#fadbd8"}, nested = {"box", "#d6eaf8"}, input = {"invhouse", "#aed6f1"},
                  output = {"house", "#a9dfbf"}, both = {"doubleoctagon", "#aed6f1"};

static const look by_type[] = {
    [LOOK_MODULE] = {"box", "#eaecee"},        [LOOK_STATE] = {"diamond", "#f9e79f"},
    [LOOK_SUM] = {"circle", "#d5dbdb"},        [LOOK_JOIN] = {"circle", "#d5dbdb"},
    [LOOK_MAP] = {"parallelogram", "#a9cce3"}, [LOOK_LOOP] = {"box3d", "#d7bde2"},
    [LOOK_CHOICE] = {"diamond", "#f5cba7"}};

/* tests/graph/test_dot.c holds it against the activations that there are. */
static const char *const activations[] = {
    "relu",        "relu6",      "leaky_relu", "rrelu",      "prelu",     "threshold",   "elu",
    "selu",        "celu",       "gelu",       "silu",       "mish",      "sigmoid",     "logsigmoid",
    "hardsigmoid", "tanh",       "hardtanh",   "tanhshrink", "hardswish", "softplus",    "softsign",
    "softshrink",  "hardshrink", "softmax",    "softmin",    "softmax2d", "log_softmax", "glu"};

static bool is_activation(const char *kind)
{
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++)
        if (strcmp(kind, activations[i]) == 0)
            return true;
    return false;
}

look look_of_module(fdl_module *m)
{
    const char *kind = fdl_module_kind(m);
    return graph_or_null(m)          ? nested
           : is_activation(kind)     ? activation
           : strstr(kind, "norm")    ? norm
           : strstr(kind, "dropout") ? dropout
                                     : plain;
}

static bool is_input(const graph *g, int node)
{
    for (int i = 0; i < g->inputs; i++)
        if (g->input[i].node == node)
            return true;
    return false;
}

/* Further ones, too. */
static bool is_output(const graph *g, int node)
{
    for (int i = 0; i < g->outputs; i++)
        if (g->tag[g->further[i].node].node == node)
            return true;
    return node == g->output;
}

look look_of_node(const graph *g, int node, bool top)
{
    const graph_node *n = &g->node[node];
    if (is_input(g, node) && (top || !n->module))
        return top && is_output(g, node) ? both : input;
    if (top && is_output(g, node))
        return output;
    return n->type->look == LOOK_MODULE && n->module ? look_of_module(n->module) : by_type[n->type->look];
}

const char *outline_of(const char *fill, char buf[8])
{
    unsigned rgb = (unsigned)strtoul(fill + 1, NULL, 16);
    unsigned r = rgb >> 16, g = rgb >> 8 & 255, b = rgb & 255;
    snprintf(buf, 8, "#%02x%02x%02x", r * 5 / 9 & 255, g * 5 / 9 & 255, b * 5 / 9 & 255);
    return buf;
}
