/* Pictures of a model: its graph, the same with everything that is inside, where the time of a forward goes, and the curves of a
 * training.
 *
 *     drawing [FOLDER]      writes model.dot, model.svg, whole.svg, heat.svg and curves.html there
 *
 * Without a folder they go to a temporary one, are looked at, and are gone. */
#include <flodl/flodl.h>

#include <unistd.h>

/* A hidden state that is mixed into x: what the same step gave in the call before. */
static fdl_tensor *mix(fdl_tensor *x, fdl_tensor *before)
{
    return fdl_add(x, fdl_mul(fdl_tanh(before), 0.5));
}

static fdl_tensor *mix_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    fdl_tensor *before = fdl_refs_get(r, "memory");
    return before ? mix(x, before) : x;
}

static const fdl_module_ops mix_ops = {.kind = "mix", .forward_named = mix_forward};

/* x is [B, 2]. */
static fdl_module *new_model(void)
{
    return fdl_flow(
        fdl_nn_linear(2, 16), fdl_flow_tag("embedded"),
        fdl_flow(fdl_nn_linear(16, 64), fdl_nn_gelu(), fdl_nn_linear(64, 16), fdl_flow_label("encoder")),
        fdl_flow_also(fdl_flow(fdl_nn_layer_norm(16), fdl_nn_linear(16, 16), fdl_nn_dropout(0.1))),
        fdl_flow_split(fdl_nn_linear(16, 16), fdl_nn_linear(16, 16), fdl_nn_linear(16, 16)),
        fdl_flow_tag_group("head"), fdl_flow_merge(FDL_MERGE_MEAN), fdl_flow_using("embedded"),
        fdl_module_new(&mix_ops), fdl_flow_using("memory"), fdl_flow_tag("memory"),
        fdl_flow_loop(fdl_flow(fdl_nn_linear(16, 16), fdl_nn_silu()), .n = 3), fdl_flow_tag("refined"),
        fdl_flow_gate(fdl_nn_softmax_router(16, 2),
                      FDL_MODULES(fdl_nn_linear(16, 16),
                                  fdl_flow(fdl_nn_linear(16, 32), fdl_nn_relu(), fdl_nn_linear(32, 16)))),
        fdl_nn_linear(16, 2), fdl_flow_tag("answer"));
}

/* 20 epochs of 10 batches: x is to become its sine. */
static void train(fdl_module *model)
{
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(model), .lr = 3e-3);
    FDL_NEED(opt);
    FDL_CHECK(fdl_graph_enable_profiling(model));
    for (int epoch = 0; epoch < 20; epoch++) {
        for (int batch = 0; batch < 10; batch++) {
            FDL_SCOPE;
            fdl_tensor *x = fdl_randn(FDL_SHAPE(32, 2));
            fdl_tensor *loss = fdl_mse_loss(fdl_forward(model, x), fdl_sin(x));
            FDL_NEED(loss);
            FDL_CHECK(fdl_graph_record_tensor(model, "loss", loss));
            fdl_optim_zero_grad(opt);
            FDL_CHECK(fdl_backward(loss));
            FDL_CHECK(fdl_optim_step(opt));
            FDL_CHECK(fdl_graph_end_step(model)); /* lets go of the history of the memory */
        }
        FDL_CHECK(fdl_graph_flush(model));
        FDL_CHECK(fdl_graph_end_epoch(model));
    }
    fdl_optim_free(opt);
}

static const char *in(const char *folder, const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* The file is there and begins and ends so. */
static void check(const char *folder, const char *name, const char *begin, const char *end)
{
    size_t n;
    char *text = fdl_file_read(in(folder, name), 0, &n);
    FDL_NEED(text);
    FDL_NEED(n > 1000 && strncmp(text, begin, strlen(begin)) == 0 &&
             strcmp(text + n - strlen(end), end) == 0);
    printf("%-12s %zu bytes\n", name, n);
    free(text);
}

/* A picture that needs libgraphviz: whether this flodl has it. */
static bool drawn(fdl_status status)
{
    if (status == FDL_E_UNSUPPORTED) {
        printf("%s\n", fdl_last_error()->message);
        return false;
    }
    FDL_CHECK(status);
    return true;
}

int main(int argc, char **argv)
{
    char own[] = "/tmp/flodl-drawing-XXXXXX";
    const char *folder = argc > 1 ? argv[1] : mkdtemp(own);
    FDL_NEED(folder);
    fdl_manual_seed(1);
    fdl_module *model = new_model();
    FDL_NEED(model);

    char *dot = fdl_graph_dot(model);
    FDL_NEED(dot);
    FDL_CHECK(fdl_file_save(in(folder, "model.dot"), dot, strlen(dot)));
    free(dot);
    check(folder, "model.dot", "digraph", "}\n");
    bool svg = drawn(fdl_graph_svg(model, in(folder, "model.svg"))) &&
               drawn(fdl_graph_svg(model, in(folder, "whole.svg"), .expand = true, .no_levels = true));

    train(model);
    char *table = fdl_profile_text(fdl_graph_last_profile(model));
    FDL_NEED(table);
    printf("%s", table);
    free(table);
    svg = svg && drawn(fdl_graph_svg_profile(model, in(folder, "heat.svg")));
    if (svg) {
        check(folder, "model.svg", "<svg", "</svg>\n");
        check(folder, "whole.svg", "<svg", "</svg>\n");
        check(folder, "heat.svg", "<svg", "</svg>\n");
    }
    FDL_CHECK(fdl_graph_plot_html(model, in(folder, "curves.html")));
    check(folder, "curves.html", "<!doctype html>", "</html>\n");

    const fdl_trend *loss = fdl_graph_trend(model, "loss");
    printf("loss %.4f -> %.4f\n", fdl_trend_values(loss)[0], fdl_trend_latest(loss));
    FDL_NEED(fdl_trend_len(loss) == 20 && fdl_trend_latest(loss) < fdl_trend_values(loss)[0]);
    FDL_NEED(fdl_trend_len(fdl_graph_timing_trend(model, "refined")) == 20);
    if (argc < 2) {
        static const char *const names[] = {"model.dot", "model.svg", "whole.svg", "heat.svg", "curves.html"};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            remove(in(folder, names[i]));
        rmdir(folder);
    }
    fdl_module_free(model);
    return 0;
}
