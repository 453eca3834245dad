/* Every kind of step of a flow in one graph, and what can be done with a graph: a tour, not a network that anybody would
 * train.
 *
 *     showcase [--device cpu|cuda] [--svg FILE]
 *
 * FILE gets the drawing. Exits with 0 when all of it is as it should be. */
#include <getopt.h>
#include <stdlib.h>
#include <unistd.h>

#include <flodl/flodl.h>

enum { ROWS = 2, WIDTH = 8 };

/* ---- modules of its own: plain functions ------------------------------------------------------------------------ */

static fdl_tensor *rmsnorm(fdl_tensor *x)
{
    return fdl_div(x, fdl_sqrt(fdl_add(fdl_mean_dim(fdl_square(x), -1, .keepdim = true), 1e-6)));
}

static fdl_tensor *spectral_basis(fdl_tensor *x)
{
    return fdl_tanh(fdl_reciprocal(fdl_add(fdl_sin(x), fdl_cos(x))));
}

static fdl_tensor *softclamp(fdl_tensor *x)
{
    return fdl_abs(fdl_clamp(fdl_mul(x, 0.5), -3, 3));
}

static fdl_tensor *softplus(fdl_tensor *x)
{
    return fdl_log(fdl_add(fdl_exp(x), 1));
}

/* One number for all of x, as a row: [1, WIDTH]. */
static fdl_tensor *as_row(fdl_tensor *number)
{
    return fdl_expand(number, FDL_SHAPE(1, WIDTH));
}

static fdl_tensor *variance_gate(fdl_tensor *x)
{
    return fdl_mul(x, as_row(fdl_add(fdl_mean(x), fdl_std(x))));
}

static fdl_tensor *shape_ops(fdl_tensor *x)
{
    x = fdl_squeeze(fdl_unsqueeze(fdl_flatten(x, 0, -1), 0), 0);
    return fdl_reshape(x, FDL_SHAPE(ROWS, WIDTH));
}

static fdl_tensor *neg_sigmoid_gate(fdl_tensor *x)
{
    return fdl_mul(x, fdl_sigmoid(fdl_neg(x)));
}

static fdl_tensor *transpose_rt(fdl_tensor *x)
{
    return fdl_permute(fdl_transpose(x, 0, 1), FDL_SHAPE(1, 0));
}

static fdl_tensor *chunk_recombine(fdl_tensor *x)
{
    fdl_list halves = fdl_chunk(x, 2, -1);
    return halves.n ? fdl_cat(FDL_LIST(fdl_relu(halves.at[0]), fdl_neg(halves.at[1])), -1) : NULL;
}

static fdl_tensor *attention_ops(fdl_tensor *x)
{
    static const int64_t first_two[] = {0, 1};
    fdl_tensor *half = fdl_narrow(fdl_select(x, 0, 0), 0, 0, WIDTH / 2);
    fdl_tensor *where = fdl_from_i64(first_two, FDL_SHAPE(2), .device = fdl_device_of(x));
    return fdl_add(fdl_softmax(x, -1), as_row(fdl_mean(fdl_index_select(half, 0, where))));
}

static fdl_tensor *topk_filter(fdl_tensor *x)
{
    fdl_tensor *at = NULL, *top = fdl_topk(x, WIDTH / 2, -1, .indices = &at);
    fdl_tensor *same = fdl_gather(x, -1, at);
    return fdl_add(fdl_pad(fdl_sort(top, -1), FDL_SHAPE(0, WIDTH / 2)),
                   as_row(fdl_sub(fdl_max(same), fdl_min(same))));
}

static fdl_tensor *repeat_narrow(fdl_tensor *x)
{
    return fdl_narrow(fdl_repeat(x, FDL_SHAPE(1, 2)), -1, 0, WIDTH);
}

static fdl_tensor *log_softmax_reduce(fdl_tensor *x)
{
    return fdl_sum_dim(fdl_log_softmax(x, -1), -1, .keepdim = true);
}

#define fn(f) fdl_nn_fn(f, .name = #f)

/* Under their names, for files. */
#define NAMED(f_)            \
    {                        \
        .name = #f_, .f = f_ \
    }
static const fdl_function functions[] = {NAMED(rmsnorm),
                                         NAMED(spectral_basis),
                                         NAMED(softclamp),
                                         NAMED(softplus),
                                         NAMED(variance_gate),
                                         NAMED(shape_ops),
                                         NAMED(transpose_rt),
                                         NAMED(neg_sigmoid_gate),
                                         NAMED(chunk_recombine),
                                         NAMED(attention_ops),
                                         NAMED(topk_filter),
                                         NAMED(repeat_narrow),
                                         NAMED(log_softmax_reduce),
                                         {0}};

/* ---- modules of its own: with further inputs, with state of the sequence; each with the kind by which a file has it ------------------------------------------ */

static fdl_tensor *blend_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    return fdl_add(fdl_mul(x, fdl_sigmoid(fdl_div(fdl_refs_need(r, "ctx"), 2))), x);
}

static const char *const blend_refs[] = {"ctx", NULL};
static const fdl_module_ops blend_ops = {
    .kind = "context_blend", .forward_named = blend_forward, .ref_names = blend_refs};
static const fdl_kind blend_kind;

static fdl_module *context_blend(const void *no_arguments)
{
    (void)no_arguments;
    fdl_module *m = fdl_module_new(&blend_ops);
    fdl_module_describe(m, &blend_kind, NULL);
    return fdl_module_done(m);
}

static const fdl_kind blend_kind = {.name = "context_blend", .make = context_blend};

/* Branch 1 once the refined values are large. */
static fdl_tensor *selector_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    (void)x;
    return fdl_to_dtype(fdl_gt(fdl_max(fdl_refs_need(r, "refined")), 5), FDL_INT64);
}

static const char *const selector_refs[] = {"refined", NULL};
static const fdl_module_ops selector_ops = {
    .kind = "heavy_path_selector", .forward_named = selector_forward, .ref_names = selector_refs};
static const fdl_kind selector_kind;

static fdl_module *heavy_path_selector(const void *no_arguments)
{
    (void)no_arguments;
    fdl_module *m = fdl_module_new(&selector_ops);
    fdl_module_describe(m, &selector_kind, NULL);
    return fdl_module_done(m);
}

static const fdl_kind selector_kind = {.name = "heavy_path_selector", .make = heavy_path_selector};

/* Hands x on and counts its calls since the last reset. */
typedef struct call_count {
    int calls;
} call_count;

static fdl_tensor *counter_forward(void *self, fdl_tensor *x)
{
    ((call_count *)self)->calls++;
    return x;
}

static void counter_reset(void *self)
{
    ((call_count *)self)->calls = 0;
}

static const fdl_module_ops counter_ops = {
    .kind = "counter", .size = sizeof(call_count), .forward = counter_forward, .reset = counter_reset};
static const fdl_kind counter_kind;

static fdl_module *counter_module(const void *no_arguments)
{
    (void)no_arguments;
    fdl_module *m = fdl_module_new(&counter_ops);
    fdl_module_describe(m, &counter_kind, NULL);
    return fdl_module_done(m);
}

static const fdl_kind counter_kind = {.name = "counter", .make = counter_module};

/* ---- the graph: x [2, 2] and ctx [2, 8] -> [2, 2] ------------------------------------------------------------------ */

static fdl_module *read_head(int64_t d)
{
    return fdl_flow(fdl_nn_linear(d, d), fdl_nn_layer_norm(d));
}

static fdl_module *ffn(int64_t d)
{
    return fdl_flow(fdl_nn_linear(d, d), fdl_nn_gelu(), fdl_nn_layer_norm(d));
}

static fdl_module *silu_block(int64_t d)
{
    return fdl_flow(fdl_nn_linear(d, d), fdl_nn_silu(), fdl_nn_batch_norm(d));
}

static fdl_module *spectral(int64_t d)
{
    return fdl_flow(fn(spectral_basis), fdl_nn_linear(d, d));
}

/* *calls is the counter in it, borrowed. */
static fdl_module *showcase(fdl_module **calls)
{
    fdl_module *c = *calls = counter_module(NULL);
    return fdl_flow(
        fdl_nn_linear(2, 8), fdl_flow_input("ctx"), fdl_flow_tag("input"), /* x beside ctx */
        fdl_nn_gelu(), fdl_nn_layer_norm(8), fn(rmsnorm), context_blend(NULL),
        fdl_flow_using("ctx"),                                /* a further input of the graph */
        fdl_flow_fork(spectral(8)), fdl_flow_tag("spectral"), /* on the side */
        fdl_flow_split(read_head(8), read_head(8)),           /* two streams */
        fdl_flow_merge(FDL_MERGE_MEAN),                       /* and one again */
        fdl_flow_also(fdl_nn_linear(8, 8)),                   /* a residual */
        fdl_nn_dropout(0.1), fn(softclamp), fn(softplus), fn(variance_gate),
        fdl_flow_map(read_head(2), .slices = 4),                   /* pieces of rows */
        fdl_nn_reshape(FDL_SHAPE(4, 4)),                           /* four short rows */
        fdl_flow_map(fdl_nn_linear(4, 4)), fdl_flow_tag("halves"), /* row by row */
        fdl_flow_map(fdl_nn_linear(4, 4), .over = "halves"),       /* rows of a tagged value */
        fdl_flow_map(fdl_nn_linear(4, 4), .batched = true),        /* all rows in one call */
        fdl_nn_reshape(FDL_SHAPE(2, 8)), fn(shape_ops), fn(neg_sigmoid_gate), fn(transpose_rt), c,
        fn(chunk_recombine), fn(attention_ops), fn(topk_filter), fn(repeat_narrow),
        fdl_flow_loop(silu_block(8), .n = 2), fdl_flow_tag("refined"), /* twice */
        fdl_flow_gate(fdl_nn_softmax_router(8, 2), FDL_MODULES(fdl_nn_linear(8, 8), fdl_nn_linear(8, 8))),
        fdl_flow_using("input"), /* what the router sees beside */
        fdl_flow_switch(heavy_path_selector(NULL), FDL_MODULES(fdl_nn_linear(8, 8), ffn(8))),
        fdl_flow_using("refined"),                                            /* what decides */
        fdl_nn_state_add(), fdl_flow_using("memory"), fdl_flow_tag("memory"), /* of the call before */
        fdl_flow_loop(fdl_nn_linear(8, 8), .while_cond = fdl_nn_threshold_halt(100), .max = 5),
        fdl_flow_loop(fdl_nn_linear(8, 8), .until_cond = fdl_nn_learned_halt(8), .max = 7),
        fn(log_softmax_reduce), fdl_nn_linear(1, 8), /* one number a row, and eight again */
        fdl_flow_split(fdl_nn_linear(8, 8), fdl_nn_linear(8, 8)), fdl_flow_tag_group("final_heads"),
        fdl_flow_merge(FDL_MERGE_ADD), /* their sum */
        fdl_nn_linear(8, 2), fdl_flow_tag("output"));
}

/* ---- the tour --------------------------------------------------------------------------------------------------- */

static int wrong;

static void expect(bool holds, const char *what)
{
    printf("%-7s %s\n", holds ? "ok" : "WRONG", what);
    wrong += !holds;
}

static bool equal(fdl_tensor *a, fdl_tensor *b)
{
    FDL_NEED(a && b);
    return fdl_item(fdl_all(fdl_eq(a, b))) != 0;
}

static bool finite(fdl_tensor *x)
{
    FDL_NEED(x);
    return fdl_item(fdl_all(fdl_isfinite(x))) != 0;
}

static void structure(fdl_module *g)
{
    int n = fdl_graph_node_count(g), levels = 0, sources = 0;
    for (int i = 0; i < n; i++) {
        int level = fdl_graph_node_level(g, i);
        levels = level + 1 > levels ? level + 1 : levels;
        sources += level == 0;
    }
    FDL_SCOPE;
    fdl_params *ps = fdl_parameters(g);
    printf("%d nodes on %d levels, %d parameters of %lld numbers, hash %s\n", n, levels, fdl_params_count(ps),
           (long long)fdl_params_numel(ps), fdl_graph_short_hash(g));
    expect(n == 43 && levels == 38 && sources == 3, "nodes and levels");
    expect(fdl_params_count(ps) == 56 && fdl_params_numel(ps) == 1171, "parameters");
    expect(fdl_graph_input_count(g) == 2 && strcmp(fdl_graph_input_name(g, 1), "ctx") == 0, "inputs");
    int members = 0;
    const char *const *heads = fdl_graph_tag_group(g, "final_heads", &members);
    expect(heads && members == 2 && strcmp(heads[1], "final_heads_1") == 0,
           "a tag for each branch of a split");
}

/* x and ctx twice: the state makes the second call another one. */
static void state(fdl_module *g, const call_count *calls, fdl_tensor *x, fdl_tensor *ctx)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    FDL_NEED(fdl_forward(g, x, ctx)); /* in training: the batch norm gets its statistics */
    FDL_CHECK(fdl_eval(g));           /* no dropout */
    FDL_CHECK(fdl_graph_reset_state(g));
    fdl_tensor *first = fdl_forward(g, x, ctx), *second = fdl_forward(g, x, ctx);
    FDL_NEED(first && second);
    expect(fdl_shape_eq(fdl_shape_of(first), FDL_SHAPE(2, 2)) && finite(first), "a result of [2, 2]");
    expect(fdl_graph_has_state(g) && !equal(first, second), "memory makes the second call another one");
    expect(calls->calls == 2, "two calls since the reset");
    FDL_CHECK(fdl_graph_end_sequence(g));
    expect(calls->calls == 0 && equal(fdl_forward(g, x, ctx), first), "after a reset the first call again");
    expect(equal(fdl_graph_tagged(g, "output"), first), "a tagged value is read after the call");
    expect(fdl_graph_loop_iterations(g, "refined") == 2, "the counted loop ran twice");
    FDL_CHECK(fdl_graph_end_sequence(g));
    FDL_CHECK(fdl_train(g));
}

/* Three steps of training, watched. */
static void training(fdl_module *g, fdl_tensor *x, fdl_tensor *ctx)
{
    FDL_SCOPE;
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(g), .lr = 0.01);
    FDL_NEED(opt);
    bool all_finite = true;
    for (int step = 0; step < 3; step++) {
        FDL_SCOPE;
        fdl_tensor *loss = fdl_mse_loss(fdl_forward(g, x, ctx), x);
        fdl_optim_zero_grad(opt);
        FDL_CHECK(fdl_backward(loss));
        FDL_CHECK(fdl_optim_step(opt));
        FDL_CHECK(fdl_graph_record_tensor(g, "loss", loss));
        FDL_CHECK(fdl_graph_collect(g, "spectral", "final_heads"));
        FDL_CHECK(fdl_graph_end_step(g)); /* the memory's history ends here */
        all_finite = all_finite && finite(loss);
    }
    FDL_CHECK(fdl_graph_end_epoch(g)); /* means become points */
    fdl_params *ps = fdl_parameters(g);
    for (int i = 0; i < fdl_params_count(ps); i++)
        all_finite = all_finite && finite(fdl_param_tensor(fdl_params_at(ps, i)));
    expect(all_finite, "losses and parameters of three steps are finite");
    expect(fdl_graph_step_count(g) == 3 && fdl_graph_epoch_count(g) == 1, "steps and epochs are counted");
    int n = 0;
    const fdl_metric *metrics = fdl_graph_latest_metrics(g, &n);
    expect(metrics && n == 4 && strcmp(metrics[3].name, "final_heads_1") == 0,
           "metrics: the loss, a tag, a tag group");
    expect(fdl_trend_len(fdl_graph_trend(g, "loss")) == 1, "an epoch is a point");
    fdl_optim_free(opt);
}

static void tree(fdl_module *g)
{
    FDL_SCOPE;
    expect(fdl_graph_validate_path(g, "refined") == FDL_PATH_TAG, "a path leads to a tag");
    FDL_CHECK(fdl_graph_freeze(g, "refined"));
    expect(fdl_graph_is_frozen(g, "refined") == 1 && fdl_params_count(fdl_parameters_trainable(g)) == 52,
           "a loop's body is frozen by its tag");
    FDL_CHECK(fdl_graph_thaw(g, "refined"));
    char *text = fdl_graph_param_summary(g);
    FDL_NEED(text);
    fputs(text, stdout);
    free(text);
}

/* Weights go through a file into another graph, which is made of what was written of this one. */
static void saving(fdl_module *g, fdl_tensor *x, fdl_tensor *ctx)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    char path[] = "/tmp/showcase_XXXXXX";
    int file = mkstemp(path);
    FDL_NEED(file >= 0);
    close(file);
    char *text = fdl_topology_text(g, .functions = functions);
    fdl_module *other = fdl_topology_parse(text, .functions = functions,
                                           .kinds = FDL_KINDS(&blend_kind, &selector_kind, &counter_kind));
    FDL_NEED(other);
    expect(strcmp(fdl_graph_hash(other), fdl_graph_hash(g)) == 0, "the same structure has the same hash");
    free(text);
    FDL_CHECK(fdl_ckpt_save(g, path));
    FDL_CHECK(fdl_ckpt_load(other, path));
    unlink(path);
    FDL_CHECK(fdl_eval(g));
    FDL_CHECK(fdl_eval(other));
    FDL_CHECK(fdl_graph_reset_state(g));
    expect(equal(fdl_forward(g, x, ctx), fdl_forward(other, x, ctx)),
           "with the same weights the same result");
    FDL_CHECK(fdl_module_free(other));
}

static void drawing(fdl_module *g, const char *svg)
{
    char *text = fdl_graph_dot(g);
    FDL_NEED(text);
    expect(strstr(text, "state_read_memory_35") && strstr(text, "switch_33/branch_1"),
           "the drawing has all nodes");
    free(text);
    if (svg)
        FDL_CHECK(fdl_graph_svg(g, svg));
}

int main(int argc, char **argv)
{
    fdl_device device = FDL_CPU;
    const char *svg = NULL;
    static const struct option options[] = {
        {"device", required_argument, NULL, 'd'}, {"svg", required_argument, NULL, 's'}, {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        if (c == 'd')
            FDL_CHECK(fdl_device_parse(optarg, &device));
        else if (c == 's')
            svg = optarg;
        else
            return 2;
    FDL_CHECK(fdl_manual_seed(9));
    FDL_CHECK(fdl_set_default_device(device));
    FDL_SCOPE;
    static const float numbers[] = {1, 2, 0.5f, -1};
    fdl_tensor *x = fdl_from_f32(numbers, FDL_SHAPE(2, 2)), *ctx = fdl_randn(FDL_SHAPE(2, 8));
    fdl_module *calls, *g = showcase(&calls);
    FDL_NEED(g && x && ctx);
    structure(g);
    state(g, fdl_module_self(calls), x, ctx);
    training(g, x, ctx);
    tree(g);
    saving(g, x, ctx);
    drawing(g, svg);
    FDL_CHECK(fdl_module_free(g));
    puts(wrong ? "not all is as it should be" : "all is as it should be");
    return wrong ? 1 : 0;
}
