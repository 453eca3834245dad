/* A model's topology as text and back: the same structure, names and results. */
#include "modules.h"
#include "rows.h"

#include <unistd.h>

static fdl_tensor *input_of(const row *r)
{
    return r->indices ? fdl_randint(0, r->below, r->dims) : fdl_randn(r->dims);
}

/* The second model gets the first one's values; then both give the same. */
static void check_same(const char *name, fdl_module *a, fdl_module *b, fdl_tensor *x)
{
    fdl_params *p = fdl_parameters(a), *q = fdl_parameters(b);
    fdl_params *s = fdl_buffers(a), *t = fdl_buffers(b);
    assert_int_equal(fdl_params_count(p), fdl_params_count(q));
    assert_int_equal(fdl_params_count(s), fdl_params_count(t));
    for (int i = 0; i < fdl_params_count(p); i++) {
        assert_string_equal(fdl_params_name(p, i), fdl_params_name(q, i));
        check_ok(fdl_param_set(fdl_params_at(q, i), fdl_param_tensor(fdl_params_at(p, i))));
    }
    for (int i = 0; i < fdl_params_count(s); i++)
        assert_string_equal(fdl_params_name(s, i), fdl_params_name(t, i));
    check_ok(fdl_manual_seed(1));
    fdl_tensor *y = fdl_forward(a, x);
    check_ok(fdl_manual_seed(1));
    fdl_tensor *z = fdl_forward(b, x);
    check_some(y);
    check_some(z);
    if (!fdl_allclose(y, z, .rtol = FDL_ZERO, .atol = FDL_ZERO))
        fail_msg("%s: the results differ", name);
}

static void every_module_comes_back(void **state)
{
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        FDL_SCOPE;
        check_ok(fdl_manual_seed(i));
        fdl_module *g = fdl_flow(rows[i].make(), fdl_flow_tag("it"));
        check_some(g);
        char *text = fdl_topology_text(g, .functions = FDL_FUNCTIONS({.name = "twice", .f = twice}));
        check_some(text);
        fdl_module *h = fdl_topology_parse(text);
        if (!h)
            print_error("%s\n%s\n", rows[i].name, text);
        check_some(h);
        assert_string_equal(fdl_graph_hash(g), fdl_graph_hash(h));
        char *again = fdl_topology_text(h);
        assert_string_equal(text, again);
        check_same(rows[i].name, g, h, input_of(&rows[i]));
        free(text);
        free(again);
        check_ok(fdl_module_free(g));
        check_ok(fdl_module_free(h));
    }
}

/* ---- graphs -------------------------------------------------------------------------------------------- */

static fdl_module *head(int64_t n)
{
    return fdl_flow(fdl_nn_linear(n, n), fdl_nn_layer_norm(n, .eps = 1e-3), fdl_flow_label("head"));
}

/* Something of everything. */
static fdl_module *large(void)
{
    fdl_module *tied = fdl_nn_linear(8, 8);
    fdl_module *again = fdl_module_share(tied);
    return fdl_flow(
        fdl_flow_also(fdl_nn_linear(8, 8), .skip = fdl_nn_linear(8, 8, .no_bias = true), .name = "attn"),
        fdl_flow_verbose(), fdl_flow_input("ctx"), fdl_flow_tag("sum"),
        fdl_flow_fork(fdl_nn_gelu(.approximate = FDL_GELU_TANH)), fdl_flow_tag("side"),
        fdl_flow_split(tied, head(8), fdl_nn_dropout(0)), fdl_flow_tag_group("branch"),
        fdl_flow_merge(FDL_MERGE_MEAN), fdl_flow_using("ctx", "side"), fdl_flow_loop(again, .n = 3),
        fdl_flow_tag("refined"), fdl_flow_internal("refined"),
        fdl_flow_gate(fdl_nn_softmax_router(8, 2), FDL_MODULES(fdl_nn_linear(8, 8), fdl_nn_fn(fdl_sin))),
        fdl_flow_using("sum"), fdl_nn_gru_cell(8, 8), fdl_flow_using("sum"), fdl_nn_linear(8, 2));
}

static fdl_module *reread(fdl_module *g)
{
    char *text = fdl_topology_text(g);
    check_some(text);
    fdl_module *h = fdl_topology_parse(text);
    if (!h)
        print_error("%s\n", text);
    check_some(h);
    char *again = fdl_topology_text(h);
    assert_string_equal(text, again);
    free(text);
    free(again);
    return h;
}

static void every_step_comes_back(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = large();
    check_some(g);
    fdl_module *h = reread(g);
    assert_string_equal(fdl_graph_hash(g), fdl_graph_hash(h));
    fdl_params *p = fdl_parameters(g), *q = fdl_parameters(h);
    assert_int_equal(fdl_params_count(p), fdl_params_count(q));
    for (int i = 0; i < fdl_params_count(p); i++) {
        assert_string_equal(fdl_params_name(p, i), fdl_params_name(q, i));
        check_ok(fdl_param_set(fdl_params_at(q, i), fdl_param_tensor(fdl_params_at(p, i))));
    }
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 8)), *ctx = fdl_randn(FDL_SHAPE(2, 8));
    fdl_tensor *y = fdl_forward(g, x, ctx), *z = fdl_forward(h, x, ctx);
    check_some(y);
    assert_true(fdl_allclose(y, z, .rtol = FDL_ZERO, .atol = FDL_ZERO));
    assert_true(fdl_allclose(fdl_graph_tagged(g, "side"), fdl_graph_tagged(h, "side"), .rtol = FDL_ZERO));
    int n = 0;
    assert_non_null(fdl_graph_tag_group(h, "branch", &n));
    assert_int_equal(n, 3);
    check_ok(fdl_module_free(g));
    check_ok(fdl_module_free(h));
}

static void steps_that_loop_and_choose(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(
        fdl_nn_linear(4, 4), fdl_flow_tag("start"),
        fdl_flow_loop(fdl_nn_linear(4, 4), .until_cond = fdl_nn_learned_halt(4), .max = 5,
                      .vote = FDL_HALT_ANY, .trace_cond = "halting"),
        fdl_flow_loop(fdl_nn_tanh(), .while_cond = fdl_nn_threshold_halt(0.5), .max = 2, .keep_state = true),
        fdl_flow_map(fdl_nn_linear(2, 2), .slices = 2),
        fdl_flow_map(fdl_nn_relu(), .batched = true, .over = "start"),
        fdl_flow_switch(fdl_nn_argmax_selector(4, 2),
                        FDL_MODULES(fdl_nn_linear(4, 4), fdl_flow(fdl_nn_gelu())), .trace_choice = "way"),
        fdl_flow_switch(fdl_nn_fixed_selector(1), FDL_MODULES(fdl_nn_relu(), fdl_nn_tanh())),
        fdl_nn_state_add(), fdl_flow_using("memory"), fdl_nn_reshape(FDL_SHAPE(-1, 4)),
        fdl_flow_tag("memory"));
    check_some(g);
    fdl_module *h = reread(g);
    assert_string_equal(fdl_graph_hash(g), fdl_graph_hash(h));
    check_same("control", g, h, fdl_randn(FDL_SHAPE(3, 4)));
    check_ok(fdl_module_free(g));
    check_ok(fdl_module_free(h));
}

/* ---- steps that join, name and give out ------------------------------------------------------------------ */

/* Whether the text makes another graph of the same hash that, with the same weights, gives the same under each of its outputs in
 * every call: state is what a call leaves for the next one. Both are freed. */
static void check_again(fdl_module *g, const fdl_function *functions, fdl_list inputs)
{
    FDL_SCOPE;
    check_some(g);
    char *text = fdl_topology_text(g, .functions = functions);
    check_some(text);
    fdl_module *h = fdl_topology_parse(text, .functions = functions);
    if (!h)
        print_error("%s\n", text);
    check_some(h);
    char *again = fdl_topology_text(h, .functions = functions);
    assert_string_equal(text, again);
    free(text);
    free(again);
    assert_string_equal(fdl_graph_hash(g), fdl_graph_hash(h));
    fdl_params *p = fdl_parameters(g), *q = fdl_parameters(h);
    assert_int_equal(fdl_params_count(p), fdl_params_count(q));
    for (int i = 0; i < fdl_params_count(p); i++) {
        assert_string_equal(fdl_params_name(p, i), fdl_params_name(q, i));
        check_ok(fdl_param_set(fdl_params_at(q, i), fdl_param_tensor(fdl_params_at(p, i))));
    }
    assert_int_equal(fdl_graph_output_count(g), fdl_graph_output_count(h));
    for (int call = 0; call < 3; call++) {
        check_ok(fdl_manual_seed(call));
        fdl_list y = fdl_forward_multi(g, inputs);
        check_ok(fdl_manual_seed(call));
        fdl_list z = fdl_forward_multi(h, inputs);
        check_some(y.at);
        check_some(z.at);
        for (int i = 0; i < y.n; i++) {
            assert_string_equal(fdl_graph_output_name(g, i), fdl_graph_output_name(h, i));
            assert_true(fdl_allclose(y.at[i], z.at[i], .rtol = FDL_ZERO, .atol = FDL_ZERO));
        }
    }
    check_ok(fdl_module_free(g));
    check_ok(fdl_module_free(h));
}

static fdl_tensor *difference(fdl_list values)
{
    return fdl_sub(values.at[0], values.at[values.n - 1]);
}

static fdl_tensor *shifted(fdl_tensor *x, const fdl_refs *r)
{
    return fdl_add(fdl_mul(x, fdl_refs_need(r, "by")), fdl_refs_need(r, "to"));
}

static void every_merge_comes_back(void **state)
{
    (void)state;
    const struct {
        fdl_merge_kind kind;
        fdl_opt_i64 dim;
    } merges[] = {
        {FDL_MERGE_ADD, {0}},         {FDL_MERGE_MEAN, {0}},          {FDL_MERGE_CAT, {0}},
        {FDL_MERGE_CAT, FDL_SOME(0)}, {FDL_MERGE_MUL, {0}},           {FDL_MERGE_MAX, {0}},
        {FDL_MERGE_STACK, {0}},       {FDL_MERGE_STACK, FDL_SOME(0)}, {FDL_MERGE_STACK, FDL_SOME(-2)}};
    FDL_SCOPE;
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 4));
    for (size_t i = 0; i < sizeof merges / sizeof *merges; i++) {
        fdl_module *g = fdl_flow(fdl_nn_tanh(), fdl_flow_tag("start"),
                                 fdl_flow_split(fdl_nn_linear(4, 4), fdl_nn_linear(4, 4), fdl_nn_relu()),
                                 fdl_flow_merge(merges[i].kind, .dim = merges[i].dim),
                                 fdl_flow_using("start"), fdl_flow_tag("end"));
        check_again(g, NULL, FDL_LIST(x));
    }
    const fdl_function functions[] = {{.name = "difference", .list = difference}, {0}};
    fdl_module *g =
        fdl_flow(fdl_flow_split(fdl_nn_linear(4, 4), fdl_nn_relu()), fdl_flow_merge_fn(difference));
    assert_null(fdl_topology_text(g));
    check_error(FDL_E_UNSUPPORTED, "model.steps[1]", ".functions");
    check_again(g, functions, FDL_LIST(x));
}

static void joins_with_tags_come_back(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 4)), *ctx = fdl_randn(FDL_SHAPE(2, 4));
    check_again(fdl_flow(fdl_nn_linear(4, 4), fdl_flow_tag("enc"), fdl_nn_relu(), fdl_flow_add_from("enc"),
                         fdl_flow_tag("sum"), fdl_nn_linear(4, 4), fdl_flow_mul_from("sum"),
                         fdl_flow_cat_from("enc"), fdl_flow_cat_from("wide", .dim = FDL_SOME(0)),
                         fdl_nn_fn(fdl_tanh), fdl_flow_tag("wider"), fdl_flow_fork(fdl_nn_linear(8, 8)),
                         fdl_flow_tag("wide")),
                NULL, FDL_LIST(x));
    /* what comes later: the value of the call before */
    check_again(fdl_flow(fdl_nn_linear(4, 4), fdl_flow_add_from("memory"), fdl_nn_tanh(),
                         fdl_flow_tag("memory"), fdl_flow_output("memory")),
                NULL, FDL_LIST(x));
    check_again(fdl_flow(fdl_flow_output("end"), fdl_nn_linear(4, 4), fdl_flow_input("ctx"),
                         fdl_flow_tag("enc"), fdl_flow_detach(), fdl_nn_linear(4, 3), fdl_flow_tag("end"),
                         fdl_flow_output("enc", "ctx")),
                NULL, FDL_LIST(x, ctx));
}

static void names_of_refs_come_back(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 4)), *a = fdl_randn(FDL_SHAPE(2, 4)),
               *b = fdl_randn(FDL_SHAPE(2, 4));
    const fdl_function functions[] = {{.name = "shifted", .refs = shifted}, {0}};
    fdl_module *g =
        fdl_flow(fdl_nn_linear(4, 4), fdl_flow_input("a", "b"), fdl_nn_fn_refs(shifted, "by", "to"),
                 fdl_flow_using("to=a", "by=b"),
                 fdl_flow(fdl_nn_linear(4, 4), fdl_flow_input("inner"), fdl_flow_mul_from("inner")),
                 fdl_flow_using("inner=memory"), fdl_nn_tanh(), fdl_flow_tag("memory"));
    check_some(g);
    assert_null(fdl_topology_text(g));
    check_error(FDL_E_UNSUPPORTED, "model.steps[2]", ".functions");
    /* the other way round it is another graph */
    fdl_module *other =
        fdl_flow(fdl_nn_linear(4, 4), fdl_flow_input("a", "b"), fdl_nn_fn_refs(shifted, "by", "to"),
                 fdl_flow_using("to=b", "by=a"),
                 fdl_flow(fdl_nn_linear(4, 4), fdl_flow_input("inner"), fdl_flow_mul_from("inner")),
                 fdl_flow_using("inner=memory"), fdl_nn_tanh(), fdl_flow_tag("memory"));
    check_some(other);
    assert_string_not_equal(fdl_graph_hash(g), fdl_graph_hash(other));
    check_ok(fdl_module_free(other));
    check_again(g, functions, FDL_LIST(x, a, b));
}

static void what_is_left_out_and_who_halts_come_back(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_randn(FDL_SHAPE(16, 4));
    fdl_module *g = fdl_flow(fdl_flow_also(fdl_nn_linear(4, 4), .drop = 0.5, .name = "branch"),
                             fdl_flow_also(fdl_nn_linear(4, 4), .skip = fdl_nn_tanh(), .drop = 0.25));
    char *text = fdl_topology_text(g);
    check_some(text);
    assert_non_null(strstr(text, "\"drop\": 0.5"));
    assert_non_null(strstr(text, "\"drop\": 0.25"));
    free(text);
    check_ok(fdl_train(g));
    check_again(g, NULL, FDL_LIST(x));
    g = fdl_flow(fdl_nn_linear(4, 4), fdl_flow_input("ctx"),
                 fdl_flow_loop(fdl_nn_gru_cell(4, 4), .act = fdl_nn_linear(4, 1), .max = 4, .epsilon = 0.2,
                               .trace_ponder = "cost", .trace_cond = "shares"),
                 fdl_flow_using("state=ctx"), fdl_flow_tag("loop"));
    check_some(g);
    text = fdl_topology_text(g);
    assert_non_null(strstr(text, "\"act\""));
    assert_non_null(strstr(text, "\"epsilon\": 0.2"));
    free(text);
    check_again(g, NULL, FDL_LIST(x, fdl_randn(FDL_SHAPE(16, 4))));
}

static void a_seed_gives_the_same_weights(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_ok(fdl_manual_seed(3));
    fdl_module *g = fdl_flow(
        fdl_nn_linear(4, 4), head(4), fdl_flow_also(fdl_nn_linear(4, 4), .skip = fdl_nn_linear(4, 4)),
        fdl_flow_split(fdl_nn_lstm(4, 4), fdl_nn_linear(4, 4)), fdl_flow_merge(FDL_MERGE_ADD),
        fdl_nn_transformer_encoder(fdl_nn_transformer_encoder_layer(4, 2), 2, .norm = fdl_nn_layer_norm(4)));
    char *text = fdl_topology_text(g);
    check_ok(fdl_manual_seed(3));
    fdl_module *h = fdl_topology_parse(text);
    fdl_params *p = fdl_parameters(g), *q = fdl_parameters(h);
    for (int i = 0; i < fdl_params_count(p); i++)
        assert_true(fdl_allclose(fdl_param_tensor(fdl_params_at(p, i)), fdl_param_tensor(fdl_params_at(q, i)),
                                 .rtol = FDL_ZERO, .atol = FDL_ZERO));
    free(text);
    check_ok(fdl_module_free(g));
    check_ok(fdl_module_free(h));
}

static void what_is_shared_stays_shared(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *tower = fdl_flow(fdl_nn_linear(4, 4), fdl_nn_tanh(), fdl_nn_linear(4, 4));
    fdl_module *twin = fdl_module_share(tower);
    fdl_module *g = fdl_flow(fdl_flow_split(tower, twin), fdl_flow_merge(FDL_MERGE_ADD));
    fdl_module *h = reread(g);
    assert_int_equal(fdl_params_count(fdl_parameters(g)), 4);
    assert_int_equal(fdl_params_count(fdl_parameters(h)), 4);
    assert_int_equal(fdl_params_count(fdl_parameters(h, .every = true)), 8);
    check_ok(fdl_module_free(g));
    check_ok(fdl_module_free(h));
}

static void tied_parameters_stay_tied(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *table = fdl_nn_embedding(11, 4);
    fdl_module *g =
        fdl_flow(table, fdl_flow_tag("words"), fdl_nn_linear(4, 4), fdl_nn_relu(),
                 fdl_nn_linear(4, 11, .no_bias = true, .tie = fdl_module_own_param(table, "weight")),
                 fdl_flow_tag("scores"));
    check_some(g);
    assert_int_equal(fdl_params_count(fdl_parameters(g)), 3);
    char *text = fdl_topology_text(g);
    assert_non_null(strstr(text, "[\"words/weight\", \"scores/weight\"]"));
    free(text);
    fdl_module *h = reread(g);
    assert_int_equal(fdl_params_count(fdl_parameters(h)), 3);
    fdl_tensor *x = fdl_randint(0, 11, FDL_SHAPE(2, 3));
    check_ok(fdl_backward(fdl_sum(fdl_forward(h, x))));
    fdl_tensor *weight = fdl_param_tensor(fdl_params_find(fdl_parameters(h), "words/weight"));
    fdl_tensor *other = fdl_param_tensor(fdl_params_find(fdl_parameters(h, .every = true), "scores/weight"));
    assert_true(fdl_is(weight, other));
    check_ok(fdl_module_free(g));
    check_ok(fdl_module_free(h));
}

static void a_cast_model_comes_back_in_its_dtype(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(fdl_nn_linear(3, 4), fdl_nn_batch_norm1d(4), fdl_nn_gru(4, 2, .batch_first = true));
    check_ok(fdl_module_to(g, fdl_default_device(), .dtype = FDL_FLOAT64));
    fdl_module *h = reread(g);
    fdl_params *ps = fdl_parameters(h);
    for (int i = 0; i < fdl_params_count(ps); i++)
        assert_int_equal(fdl_dtype_of(fdl_param_tensor(fdl_params_at(ps, i))), FDL_FLOAT64);
    check_ok(fdl_module_free(g));
    check_ok(fdl_module_free(h));
}

static void two_hundred_graphs_in_one_another(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_linear(2, 2));
    for (int i = 0; i < 200; i++)
        g = fdl_flow(g, fdl_nn_identity());
    fdl_module *h = reread(g);
    assert_string_equal(fdl_graph_hash(g), fdl_graph_hash(h));
    check_ok(fdl_module_free(h));
    for (int i = 0; i < 100; i++)
        g = fdl_flow(g);
    assert_null(fdl_topology_text(g));
    check_error(FDL_E_UNSUPPORTED, "256");
    check_ok(fdl_module_free(g));
}

/* ---- modules of one's own ------------------------------------------------------------------------------ */

typedef struct times_args {
    int64_t n;
    double by;
    fdl_module *inner;
} times_args;

static fdl_tensor *times_forward(void *self, fdl_tensor *x)
{
    fdl_module *inner;
    fdl_module *m = fdl_module_of(self);
    inner = fdl_module_child_at(m, 0, NULL);
    return fdl_mul(fdl_forward(inner, x), *(double *)self);
}

static fdl_module *new_times(int64_t n, double by, fdl_module *inner);
static fdl_module *make_times(const void *args)
{
    const times_args *a = args;
    return new_times(a->n, a->by, a->inner);
}

static const fdl_kind times_kind = {.name = "times",
                                    .size = sizeof(times_args),
                                    .make = make_times,
                                    .fields = (const fdl_field[]){FDL_ARG(times_args, n, INT64),
                                                                  FDL_ARG(times_args, by, DOUBLE),
                                                                  FDL_ARG(times_args, inner, MODULE),
                                                                  {0}}};

static fdl_module *new_times(int64_t n, double by, fdl_module *inner)
{
    static const fdl_module_ops ops = {.kind = "times", .size = sizeof(double), .forward = times_forward};
    fdl_module *m = fdl_module_new(&ops);
    *(double *)fdl_module_self(m) = by;
    fdl_module_child(m, "inner", inner);
    fdl_module_describe(m, &times_kind, &(times_args){n, by, inner});
    return fdl_module_done(m);
}

static void modules_of_ones_own(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(fdl_nn_fn(twice, .name = "dbl"), new_times(2, 0.1, fdl_nn_linear(2, 2)), fdl_flow_tag("x"));
    assert_null(fdl_topology_text(g));
    check_error(FDL_E_UNSUPPORTED, "model.steps[0]", "dbl_1", ".functions");
    char *text = fdl_topology_text(g, .functions = FDL_FUNCTIONS({.name = "double it", .f = twice}));
    check_some(text);
    assert_null(fdl_topology_parse(text));
    check_error(FDL_E_FORMAT, "model.steps[0].f", "double it", ".functions");
    assert_null(fdl_topology_parse(text, .functions = FDL_FUNCTIONS({.name = "double it", .f = twice})));
    check_error(FDL_E_FORMAT, "model.steps[1].kind", "times", ".kinds");
    fdl_module *h = fdl_topology_parse(text, .kinds = FDL_KINDS(&times_kind),
                                       .functions = FDL_FUNCTIONS({.name = "double it", .f = twice}));
    check_some(h);
    check_same("own", g, h, fdl_randn(FDL_SHAPE(3, 2)));
    free(text);
    check_ok(fdl_module_free(g));
    check_ok(fdl_module_free(h));
    fdl_module *plain = fdl_flow(fdl_nn_relu(), fdl_flow_loop(new_bias(2), .n = 2), fdl_flow_tag("body"));
    assert_null(fdl_topology_text(plain));
    check_error(FDL_E_UNSUPPORTED, "model.steps[1].body", "loop_2 (#body)", "bias", "fdl_module_describe");
    check_ok(fdl_module_free(plain));
}

/* ---- files --------------------------------------------------------------------------------------------- */

static void to_a_file_and_back(void **state)
{
    (void)state;
    FDL_SCOPE;
    char path[] = "/tmp/flodl_topology_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    fdl_module *g = large();
    check_ok(fdl_topology_save(g, path));
    fdl_module *h = fdl_topology_load(path);
    check_some(h);
    assert_string_equal(fdl_graph_hash(g), fdl_graph_hash(h));
    check_ok(fdl_module_free(h));
    check_ok(fdl_file_save(path, "{", 1));
    assert_null(fdl_topology_load(path));
    check_error(FDL_E_FORMAT, path, "line 1");
    unlink(path);
    assert_null(fdl_topology_load(path));
    check_error(FDL_E_IO, path);
    assert_int_equal(fdl_topology_save(g, "/nowhere/at/all"), FDL_E_IO);
    fdl_clear_error();
    check_ok(fdl_module_free(g));
}

static void with_its_weights(void **state)
{
    (void)state;
    FDL_SCOPE;
    char folder[] = "/tmp/flodl_model_XXXXXX", path[64], weights[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model.json", folder);
    snprintf(weights, sizeof weights, "%s/model.safetensors", folder);
    fdl_module *g = large();
    check_ok(fdl_ckpt_save_model(g, path));
    fdl_module *h = fdl_ckpt_load_model(path);
    check_some(h);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 8)), *ctx = fdl_randn(FDL_SHAPE(2, 8));
    assert_true(
        fdl_allclose(fdl_forward(g, x, ctx), fdl_forward(h, x, ctx), .rtol = FDL_ZERO, .atol = FDL_ZERO));
    check_ok(fdl_module_free(h));
    check_ok(fdl_topology_save(g, path));
    assert_null(fdl_ckpt_load_model(path));
    check_error(FDL_E_FORMAT, path, "names no weights");
    check_ok(fdl_topology_save(g, path, .weights = "../model.safetensors"));
    assert_null(fdl_ckpt_load_model(path));
    check_error(FDL_E_FORMAT, path, "beside it");
    check_ok(fdl_topology_save(g, path, .weights = "gone.safetensors"));
    assert_null(fdl_ckpt_load_model(path));
    check_error(FDL_E_IO, "gone.safetensors");
    assert_int_equal(fdl_ckpt_save_model(g, "model.bin"), FDL_E_ARG);
    check_error(FDL_E_ARG, "model.bin", ".json");
    assert_int_equal(fdl_ckpt_save_model(NULL, path), FDL_E_NULL);
    fdl_clear_error();
    assert_null(fdl_ckpt_load_model(NULL));
    fdl_clear_error();
    unlink(path);
    unlink(weights);
    assert_int_equal(rmdir(folder), 0);
    check_ok(fdl_module_free(g));
}

static void what_differs(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = fdl_flow(fdl_nn_linear(4, 8), fdl_nn_relu(), fdl_nn_linear(8, 2), fdl_flow_tag("out"));
    fdl_module *b = fdl_flow(fdl_nn_linear(4, 8, .no_bias = true), fdl_nn_gelu(), fdl_nn_linear(8, 3),
                             fdl_flow_tag("out"));
    fdl_module *c = fdl_flow(fdl_nn_linear(4, 8), fdl_nn_relu(), fdl_nn_dropout(0.1), fdl_nn_linear(8, 2),
                             fdl_flow_tag("out"));
    char *same = fdl_topology_diff(a, a), *values = fdl_topology_diff(a, b), *more = fdl_topology_diff(a, c);
    assert_string_equal(same, "");
    assert_string_equal(values, "+ model.steps[0].no_bias true\n"
                                "- model.steps[1] {\"kind\": \"relu\"}\n"
                                "+ model.steps[1] {\"kind\": \"gelu\"}\n"
                                "model.steps[2].out: 2, 3\n");
    assert_string_equal(more, "+ model.steps[2] {\"kind\": \"dropout\", \"p\": 0.1}\n");
    free(same);
    free(values);
    free(more);
    assert_null(fdl_topology_diff(a, NULL));
    check_error(FDL_E_NULL, "fdl_topology_diff");
    check_ok(fdl_module_free(a));
    check_ok(fdl_module_free(b));
    check_ok(fdl_module_free(c));
}

/* ---- texts that are wrong ------------------------------------------------------------------------------ */

#define HEAD "{\"format\": \"flodl.topology\", \"version\": 1, \"model\": "
#define FLOW(steps) HEAD "{\"kind\": \"graph\", \"steps\": [" steps "]}}"

static void wrong_texts_say_where(void **state)
{
    (void)state;
    static const struct {
        const char *text, *where, *what;
        fdl_status status;
    } wrong[] = {
        {"", "line 1", "", FDL_E_FORMAT},
        {"[]", "the text", "must be an object", FDL_E_FORMAT},
        {"{\"format\": \"x\"}", "format", "flodl.topology", FDL_E_FORMAT},
        {"{\"format\": \"flodl.topology\"}", "version", "from 1", FDL_E_FORMAT},
        {"{\"format\": \"flodl.topology\", \"version\": 2}", "version", "up to 1", FDL_E_FORMAT},
        {"{\"format\": \"flodl.topology\", \"version\": 1}", "the text", "model", FDL_E_FORMAT},
        {"{\"format\": \"flodl.topology\", \"version\": 1, \"modle\": {}}", "modle", "closest: model",
         FDL_E_FORMAT},
        {HEAD "3}", "model", "is a number", FDL_E_FORMAT},
        {HEAD "{}}", "model", "needs \"kind\"", FDL_E_FORMAT},
        {HEAD "{\"kind\": 3}}", "model.kind", "string", FDL_E_FORMAT},
        {HEAD "{\"kind\": \"linaer\"}}", "model.kind", "closest: linear", FDL_E_FORMAT},
        {HEAD "{\"kind\": \"linear\", \"in\": 3}}", "model", "linear needs \"out\"", FDL_E_FORMAT},
        {HEAD "{\"kind\": \"linear\", \"in\": 3, \"out\": 1.5}}", "model.out", "whole number", FDL_E_FORMAT},
        {HEAD "{\"kind\": \"linear\", \"in\": 3, \"out\": 2, \"no_bais\": true}}", "model",
         "closest: no_bias", FDL_E_FORMAT},
        {HEAD "{\"kind\": \"linear\", \"in\": 3, \"out\": 2, \"no_bias\": 1}}", "model.no_bias",
         "true or false", FDL_E_FORMAT},
        {HEAD "{\"kind\": \"linear\", \"in\": 3, \"in\": 4, \"out\": 2}}", "line 1", "duplicate",
         FDL_E_FORMAT},
        {HEAD "{\"kind\": \"linear\", \"in\": 0, \"out\": 2}}", "model", "in is 0", FDL_E_ARG},
        {HEAD "{\"kind\": \"gelu\", \"approximate\": \"tan\"}}", "model.approximate", "closest: tanh",
         FDL_E_FORMAT},
        {HEAD "{\"kind\": \"conv2d\", \"in\": 1, \"out\": 1, \"k\": 0, \"kernel_dims\": [3, \"3\"]}}",
         "model.kernel_dims[1]", "whole number", FDL_E_FORMAT},
        {HEAD "{\"kind\": \"flow_tag\", \"name\": \"x\"}}", "model", "fdl_flow_tag", FDL_E_FORMAT},
        {HEAD "{\"kind\": \"softmax\", \"dim\": 5000000000}}", "model.dim", "5000000000", FDL_E_FORMAT},
        {FLOW("{\"kind\": \"relu\"}, {\"kind\": \"flow_tag\", \"name\": \"a\"}, {\"kind\": \"flow_tag\", "
              "\"name\": \"a\"}"),
         "model.steps[2]", "\"a\"", FDL_E_ARG},
        {FLOW("{\"kind\": \"flow_split\", \"branches\": [{\"kind\": \"relu\"}, 3]}"),
         "model.steps[0].branches[1]", "is a number", FDL_E_FORMAT},
        {FLOW("{\"share\": \"a\"}"), "model.steps[0].share", "\"a\"", FDL_E_FORMAT},
        {FLOW("{\"kind\": \"relu\", \"id\": \"a\"}, {\"kind\": \"tanh\", \"id\": \"a\"}"),
         "model.steps[1].id", "\"a\"", FDL_E_FORMAT},
        {HEAD "{\"kind\": \"graph\", \"stesp\": []}}", "model", "stesp", FDL_E_FORMAT},
        {HEAD "{\"kind\": \"relu\"}, \"ties\": [[\"a\", \"b\"]]}", "ties[0]", "\"a\"", FDL_E_ARG},
        {FLOW("{\"kind\": \"flow_merge\", \"by\": \"mean\"}"), "model.steps[0]", "single stream", FDL_E_ARG},
        {FLOW("{\"kind\": \"flow_split\", \"branches\": [{\"kind\": \"relu\"}, {\"kind\": \"tanh\"}]}"),
         "model", "open at the end", FDL_E_ARG},
    };
    int64_t before = fdl_live_tensors();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (fdl_topology_parse(wrong[i].text))
            fail_msg("%s is taken", wrong[i].text);
        check_error(wrong[i].status, wrong[i].where, wrong[i].what, "fdl_topology");
    }
    assert_int_equal(fdl_live_tensors(), before);
}

static void deep_texts_are_refused(void **state)
{
    (void)state;
    enum { DEEP = 20000 };
    static const char *const open[] = {"{\"kind\": \"graph\", \"steps\": [", "[", "{\"model\": "};
    for (size_t k = 0; k < sizeof open / sizeof *open; k++)
        for (int deep = 300; deep <= DEEP; deep += DEEP - 300) {
            char *text = calloc(1, strlen(HEAD) + (size_t)deep * (strlen(open[k]) + 2) + 8);
            char *end = stpcpy(text, HEAD);
            for (int i = 0; i < deep; i++)
                end = stpcpy(end, open[k]);
            for (int i = 0; i < deep; i++)
                end = stpcpy(end, k == 0 ? "]}" : k == 1 ? "]" : "}");
            stpcpy(end, "}");
            assert_null(fdl_topology_parse(text));
            check_error(FDL_E_FORMAT, "fdl_topology");
            free(text);
        }
}

/* Pieces of a good text are cut out, doubled, exchanged and overwritten. What comes of it is a model or an error, and what is a
 * model can be written again. */
static void mutated_texts(void **state)
{
    (void)state;
    fdl_module *g = large();
    char *text = fdl_topology_text(g);
    check_ok(fdl_module_free(g));
    size_t n = strlen(text);
    fdl_rng rng = fdl_rng_seed(7);
    int64_t before = fdl_live_tensors();
    int taken = 0;
    for (int round = 0; round < 2000; round++) {
        FDL_SCOPE;
        static const char *const words[] = {"0",
                                            "-1",
                                            "1e9",
                                            "null",
                                            "true",
                                            "\"\"",
                                            "{}",
                                            "[]",
                                            "\"x\"",
                                            "9223372036854775807",
                                            "\"flow_tag\"",
                                            "\"graph\"",
                                            "\"input\"",
                                            "\"share\"",
                                            ",",
                                            "\"linear\""};
        char *copy = calloc(1, 3 * n + 64);
        size_t at = fdl_rng_below(&rng, n), size = 1 + fdl_rng_below(&rng, 40);
        size = at + size > n ? n - at : size;
        switch (fdl_rng_below(&rng, 4)) {
        case 0:
            sprintf(copy, "%.*s%s", (int)at, text, text + at + size);
            break;
        case 1:
            sprintf(copy, "%.*s%.*s%s", (int)(at + size), text, (int)size, text + at, text + at + size);
            break;
        case 2: { /* a whole value: from a colon to what ends it */
            const char *colon = strchr(text + at, ':');
            size_t from = colon ? (size_t)(colon - text) + 2 : at;
            size_t to = from + strcspn(text + from, ",}]\n");
            sprintf(copy, "%.*s%s%s", (int)from, text,
                    words[fdl_rng_below(&rng, sizeof words / sizeof *words)], text + to);
            break;
        }
        default:
            memcpy(copy, text, n);
            copy[at] = (char)(1 + fdl_rng_below(&rng, 255));
        }
        fdl_module *m = fdl_topology_parse(copy);
        if (m) {
            taken++;
            char *again = fdl_topology_text(m);
            check_some(again);
            free(again);
            check_ok(fdl_module_free(m));
        } else {
            assert_true(fdl_last_error()->status != FDL_OK);
            fdl_clear_error();
        }
        free(copy);
    }
    assert_int_equal(fdl_live_tensors(), before);
    assert_true(taken > 20);
    free(text);
}

static void nothing_given(void **state)
{
    (void)state;
    assert_null(fdl_topology_text(NULL));
    check_error(FDL_E_NULL, "fdl_topology_text");
    assert_null(fdl_topology_parse(NULL));
    check_error(FDL_E_NULL, "fdl_topology_parse");
    assert_int_equal(fdl_topology_save(NULL, "x"), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_topology_save");
    assert_null(fdl_topology_load(NULL));
    check_error(FDL_E_NULL, "fdl_topology_load");
    fdl_module *step = fdl_flow_tag("x");
    assert_null(fdl_topology_text(step));
    check_error(FDL_E_ARG, "fdl_flow_tag");
    check_ok(fdl_module_free(step));
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_module_comes_back),
        cmocka_unit_test(every_step_comes_back),
        cmocka_unit_test(steps_that_loop_and_choose),
        cmocka_unit_test(every_merge_comes_back),
        cmocka_unit_test(joins_with_tags_come_back),
        cmocka_unit_test(names_of_refs_come_back),
        cmocka_unit_test(what_is_left_out_and_who_halts_come_back),
        cmocka_unit_test(a_seed_gives_the_same_weights),
        cmocka_unit_test(what_is_shared_stays_shared),
        cmocka_unit_test(tied_parameters_stay_tied),
        cmocka_unit_test(a_cast_model_comes_back_in_its_dtype),
        cmocka_unit_test(two_hundred_graphs_in_one_another),
        cmocka_unit_test(modules_of_ones_own),
        cmocka_unit_test(to_a_file_and_back),
        cmocka_unit_test(with_its_weights),
        cmocka_unit_test(what_differs),
        cmocka_unit_test(wrong_texts_say_where),
        cmocka_unit_test(deep_texts_are_refused),
        cmocka_unit_test(mutated_texts),
        cmocka_unit_test(nothing_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
