/* A network as a tree of labelled graphs: what is where, and what can be done there by path. A reader of letters: an encoder of two
 * graphs, one of which runs in a loop, and a head. Every step checks what it says. */
#include <flodl/flodl.h>

enum { WIDTH = 16 };

/* x [N, WIDTH] -> the same */
static fdl_module *reader(void)
{
    return fdl_flow(fdl_flow_label("read"), fdl_nn_layer_norm(WIDTH), fdl_flow_tag("norm"),
                    fdl_nn_linear(WIDTH, WIDTH), fdl_nn_gelu(), fdl_flow_tag("hidden"));
}

static fdl_module *scanner(void)
{
    return fdl_flow(fdl_flow_label("scan"), fdl_nn_layer_norm(WIDTH), fdl_flow_tag("norm"),
                    fdl_flow_also(fdl_nn_linear(WIDTH, WIDTH)), fdl_flow_tag("state"), fdl_nn_identity(),
                    fdl_flow_tag("_scratch")); /* from outside nobody needs to see that */
}

static fdl_module *network(void)
{
    fdl_module *encoder =
        fdl_flow(fdl_flow_label("encoder"), reader(), fdl_flow_loop(scanner(), .n = 3), fdl_nn_dropout(0.1));
    return fdl_flow(encoder, fdl_nn_linear(WIDTH, 4), fdl_flow_tag("logits"));
}

static void print(char *text)
{
    FDL_NEED(text);
    printf("%s\n", text);
    free(text);
}

static double sum_of_abs(fdl_tensor *x)
{
    return fdl_item(fdl_sum(fdl_abs(x)));
}

/* ---- paths ----------------------------------------------------------------------------------------------- */

static void look_around(fdl_module *m)
{
    print(fdl_graph_tree_summary(m));
    FDL_NEED(fdl_graph_validate_path(m, "encoder") == FDL_PATH_SUBGRAPH);
    FDL_NEED(fdl_graph_validate_path(m, "encoder.scan") == FDL_PATH_SUBGRAPH); /* though it lies in a loop */
    FDL_NEED(fdl_graph_validate_path(m, "encoder.scan.state") == FDL_PATH_TAG);
    FDL_NEED(fdl_graph_validate_path(m, "encoder.scan._scratch") == FDL_PATH_NONE);
    printf("encoder.scan._scratch: %s\n", fdl_last_error()->message);
    FDL_NEED(fdl_graph_validate_path(m, "encoder.raed.hidden") == FDL_PATH_NONE);
    printf("encoder.raed.hidden: %s\n\n", fdl_last_error()->message);
    fdl_clear_error();
}

/* ---- freezing -------------------------------------------------------------------------------------------- */

static void freeze(fdl_module *m)
{
    FDL_CHECK(fdl_graph_freeze(m, "encoder"));
    FDL_CHECK(fdl_graph_thaw(m, "encoder.scan.state")); /* a sum: its branch is meant */
    FDL_NEED(fdl_graph_is_frozen(m, "encoder.read") == 1 && fdl_graph_is_frozen(m, "encoder.scan") == 0);
    print(fdl_graph_param_summary(m));

    fdl_params *rest = fdl_parameters_trainable(m);
    printf("trained are:\n");
    for (int i = 0; i < fdl_params_count(rest); i++)
        printf("  %s\n", fdl_params_name(rest, i));
    FDL_NEED(fdl_params_count(rest) == 4);

    /* By pattern: all norms, wherever they are; weights in one group, with decay, biases and norms in another. */
    FDL_CHECK(fdl_graph_thaw(m, "encoder"));
    FDL_CHECK(fdl_params_freeze(fdl_graph_select(m, "**.norm")));
    FDL_NEED(fdl_graph_is_frozen(m, "encoder.read.norm") == 1 &&
             fdl_graph_is_frozen(m, "encoder.scan.norm") == 1);
    FDL_CHECK(fdl_thaw(m));
    fdl_optim *opt = fdl_optim_adamw(fdl_graph_select(m, NULL, .min_ndim = 2), .weight_decay = 0.1);
    FDL_NEED(fdl_optim_add_group(opt, fdl_graph_select(m, NULL, .max_ndim = 1), .weight_decay = FDL_ZERO) ==
             1);
    fdl_optim_free(opt);
}

/* ---- values and gradients ---------------------------------------------------------------------------------- */

static fdl_tensor *report(fdl_tensor *value, void *times)
{
    printf("  run %d: mean of encoder.scan.state %+.4f\n", ++*(int *)times, fdl_item(fdl_mean(value)));
    return NULL; /* leaves it as it is */
}

static void watch(fdl_module *m)
{
    int times = 0;
    fdl_tensor *x = fdl_randn(FDL_SHAPE(8, WIDTH));
    fdl_hook hook = fdl_graph_hook(m, "encoder.scan.state", report, &times);
    FDL_NEED(hook.kind);
    FDL_CHECK(fdl_graph_retain_grad(m, "encoder.read.hidden", true));
    printf("\na hook in a loop:\n");
    fdl_tensor *loss = fdl_mean(fdl_square(fdl_forward(m, x)));
    FDL_CHECK(fdl_backward(loss));
    FDL_NEED(times == 3);
    FDL_CHECK(fdl_graph_unhook(m, hook));

    fdl_tensor *hidden, *grad = fdl_graph_tagged_grad(m, "encoder.read.hidden");
    FDL_CHECK(fdl_graph_tagged_at(m, "encoder.read.hidden", &hidden));
    FDL_NEED(hidden && grad && fdl_shape_eq(fdl_shape_of(hidden), fdl_shape_of(grad)));
    printf("encoder.read.hidden: sum of magnitudes %.3f, of its gradient %.3f\n", sum_of_abs(hidden),
           sum_of_abs(grad));
}

/* ---- other graphs of the same modules ------------------------------------------------------------------------ */

static void cut(fdl_module *m)
{
    FDL_CHECK(fdl_eval(m));
    fdl_tensor *x = fdl_randn(FDL_SHAPE(8, WIDTH)), *y = fdl_forward(m, x);
    fdl_module *encoder = fdl_graph_extract(m, "encoder"), *copy = fdl_module_clone(m);
    FDL_NEED(encoder && copy);
    FDL_CHECK(fdl_graph_replace(copy, "logits", fdl_nn_linear(WIDTH, 2)));
    FDL_CHECK(fdl_init_zeros(fdl_param_tensor(fdl_params_at(fdl_graph_select(copy, "encoder.read"), 2))));
    FDL_NEED(fdl_graph_lora(copy, "encoder", 2) == 2);
    fdl_tensor *two = fdl_forward(copy, x);
    FDL_NEED(fdl_shape_eq(fdl_shape_of(two), FDL_SHAPE(8, 2)));
    FDL_NEED(sum_of_abs(fdl_sub(fdl_forward(m, x), y)) == 0); /* the copy has weights of its own */
    FDL_NEED(fdl_shape_eq(fdl_shape_of(fdl_forward(encoder, x)), FDL_SHAPE(8, WIDTH)));
    printf("\nthe copy, with two classes and adapters:\n");
    print(fdl_graph_param_summary(copy));
    FDL_CHECK(fdl_module_free(encoder));
    FDL_CHECK(fdl_module_free(copy));
}

int main(void)
{
    FDL_SCOPE;
    FDL_CHECK(fdl_manual_seed(7));
    fdl_module *m = network();
    FDL_NEED(m);
    look_around(m);
    freeze(m);
    watch(m);
    cut(m);
    FDL_CHECK(fdl_module_free(m));
    return 0;
}
