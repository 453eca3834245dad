/* Parameters by pattern. */
#include "graph/modules.h"

static void patterns_match_from_the_left(void **state)
{
    (void)state;
    struct {
        const char *pattern, *name;
        bool matches;
    } cases[] = {
        {"encoder", "encoder", true},
        {"encoder", "encoder.hidden/weight", true},
        {"encoder", "encoder_2.hidden/weight", false},
        {"encoder.hidden.weight", "encoder.hidden/weight", true},
        {"encoder.hidden.weight.x", "encoder.hidden/weight", false},
        {"*", "a/weight", true},
        {"*.bias", "hidden/bias", true},
        {"*.bias", "encoder.hidden/bias", false},
        {"**.bias", "encoder.hidden/bias", true},
        {"**.bias", "bias", true},
        {"**.bias", "encoder.hidden/weight", false},
        {"**", "a.b/c", true},
        {"encoder.**.norm", "encoder.norm/weight", true},
        {"encoder.**.norm", "encoder.a.b.norm/weight", true},
        {"encoder.**.norm", "decoder.a.b.norm/weight", false},
        {"encoder.**.a.b", "encoder.a.x.a.a.b/w", true},
        {"encoder.**.a.b", "encoder.a.x.a.a.c/w", false},
        {"**.a.**.b", "x.a.y.b", true},
        {"**.a.**.b", "x.b.y.a", false},
        {"layer_*.norm", "layer_12.norm/bias", true},
        {"layer_*.norm", "layer_12.x.norm/bias", false},
        {"layer_?.norm", "layer_1.norm/bias", true},
        {"layer_?.norm", "layer_12.norm/bias", false},
        {"*a*b*c", "xxaxxbxbxc", true},
        {"*a*b*c", "xxaxxcxbx", false},
        {"?", "\xc3\xa9", true}, /* one character of two bytes */
        {"a*", "a", true},
        {"", "a", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (fdl_pattern_matches(cases[i].pattern, cases[i].name) != cases[i].matches) {
            print_error("%s against %s\n", cases[i].pattern, cases[i].name);
            fail();
        }
    assert_false(fdl_pattern_matches(NULL, "a"));
    assert_false(fdl_pattern_matches("a", NULL));
}

static fdl_module *layer(int i)
{
    char name[32];
    snprintf(name, sizeof name, "layer_%d", i);
    return fdl_flow(fdl_flow_label(name), fdl_nn_layer_norm(4), fdl_flow_tag("norm"),
                    fdl_flow_also(fdl_nn_linear(4, 4)), fdl_flow_tag("mix"), fdl_nn_tanh(),
                    fdl_flow_tag("_inside"), fdl_nn_linear(4, 4), fdl_flow_tag("out"),
                    fdl_flow_internal("out"));
}

static fdl_module *new_model(void)
{
    fdl_module *encoder = fdl_flow(fdl_flow_label("encoder"), layer(0), layer(1));
    return fdl_flow(encoder, fdl_flow_loop(fdl_nn_linear(4, 4), .n = 2), fdl_nn_linear(4, 2),
                    fdl_flow_tag("head"), fdl_flow_tag("logits"));
}

static void check_names_(fdl_params *ps, int n, const char *const *want, const char *file, int line)
{
    check_some_(ps, "the list", file, line);
    for (int i = 0; i < fdl_params_count(ps) && i < n; i++)
        if (strcmp(fdl_params_name(ps, i), want[i]) != 0) {
            print_error("%s:%d: name %d is %s, expected %s\n", file, line, i, fdl_params_name(ps, i),
                        want[i]);
            _fail(file, line);
        }
    if (fdl_params_count(ps) != n) {
        print_error("%s:%d: %d names expected, got %d\n", file, line, n, fdl_params_count(ps));
        _fail(file, line);
    }
}
#define check_names(ps, ...)                                                        \
    check_names_(ps, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), \
                 (const char *const[]){__VA_ARGS__}, __FILE__, __LINE__)

static void selecting_by_pattern(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = new_model();
    check_names(fdl_graph_select(g, "encoder.*.norm"), "encoder.layer_0.norm/weight",
                "encoder.layer_0.norm/bias", "encoder.layer_1.norm/weight", "encoder.layer_1.norm/bias");
    check_names(fdl_graph_select(g, "**.norm.weight"), "encoder.layer_0.norm/weight",
                "encoder.layer_1.norm/weight");
    /* by tags that names don't have: of a sum, a second one */
    check_names(fdl_graph_select(g, "encoder.layer_1.mix"), "encoder.layer_1.linear_2/weight",
                "encoder.layer_1.linear_2/bias");
    check_names(fdl_graph_select(g, "logits"), "head/weight", "head/bias");
    check_names(fdl_graph_select(g, "loop_2.body.bias"), "loop_2/body.bias");
    assert_int_equal(fdl_params_count(fdl_graph_select(g, "encoder")), 12);
    assert_int_equal(fdl_params_count(fdl_graph_select(g, "encoder.layer_?")), 12);
    assert_int_equal(fdl_params_count(fdl_graph_select(g, NULL)), 16);
    assert_int_equal(fdl_params_count(fdl_graph_select(g, "**")), 16);
    assert_null(fdl_graph_select(g, "encoder.layer_7"));
    check_error(FDL_E_ARG, "fdl_graph_select", "\"encoder.layer_7\"");
    assert_null(fdl_graph_select(g, "encoder.*._inside")); /* no parameters there anyway */
    check_error(FDL_E_ARG, "_inside");
    assert_null(fdl_graph_select(NULL, "a"));
    check_error(FDL_E_NULL, "fdl_graph_select");
    fdl_module_free(g);
}

static bool is_bias(const fdl_param *p, const char *name, void *ctx)
{
    ++*(int *)ctx;
    assert_non_null(strchr(name, '/'));
    return strcmp(fdl_param_name(p), "bias") == 0;
}

static void selecting_by_kind_and_predicate(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = new_model();
    check_names(fdl_graph_select(g, "encoder.layer_0", .kind = "layernorm"), "encoder.layer_0.norm/weight",
                "encoder.layer_0.norm/bias");
    assert_int_equal(fdl_params_count(fdl_graph_select(g, NULL, .kind = "linear")), 12);
    assert_int_equal(fdl_params_count(fdl_graph_select(g, NULL, .kind = "l*")), 16);
    check_names(fdl_graph_select(g, "loop_2", .kind = "linear", .min_ndim = 2), "loop_2/body.weight");
    check_names(fdl_graph_select(g, "head", .max_ndim = 1), "head/bias");
    int asked = 0;
    check_names(fdl_graph_select(g, "head", .where = is_bias, .ctx = &asked), "head/bias");
    assert_int_equal(asked, 2);
    check_ok(fdl_graph_freeze(g, "head"));
    assert_int_equal(fdl_params_count(fdl_graph_select(g, "head", .trainable = true)), 0);
    assert_int_equal(fdl_error_pending(), FDL_OK);
    assert_null(fdl_graph_select(g, NULL, .kind = "conv2d"));
    check_error(FDL_E_ARG, "\"conv2d\"");
    fdl_module_free(g);
}

static fdl_status set_to(fdl_param *p, const char *name, void *ctx)
{
    (void)name;
    return fdl_init_constant(fdl_param_tensor(p), *(double *)ctx);
}

static void what_a_selection_is_for(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = new_model();
    check_ok(fdl_params_freeze(fdl_graph_select(g, "encoder.*.norm")));
    assert_int_equal(fdl_graph_is_frozen(g, "encoder.layer_0.norm"), 1);
    assert_int_equal(fdl_graph_is_frozen(g, "encoder.layer_0"), 0);
    check_ok(fdl_params_each(fdl_graph_select(g, "**.bias"), set_to, &(double){0.5}));
    check_values(fdl_param_tensor(fdl_params_find(fdl_parameters(g), "head/bias")), 0.5, 0.5);
    fdl_params *head = fdl_graph_select(g, "head"), *rest = fdl_params_except(fdl_parameters(g), head);
    assert_int_equal(fdl_params_count(rest), 14);
    fdl_optim *opt = fdl_optim_sgd(rest, .lr = FDL_ZERO);
    assert_int_equal(fdl_optim_add_group(opt, head, .lr = 1), 1);
    fdl_tensor *before = fdl_clone(fdl_param_tensor(fdl_params_at(head, 1)));
    check_ok(fdl_backward(fdl_sum(fdl_forward(g, fdl_ones(FDL_SHAPE(1, 4))))));
    check_ok(fdl_optim_step(opt));
    check_values(fdl_sub(before, fdl_param_tensor(fdl_params_at(head, 1))), 1, 1);
    fdl_optim_free(opt);
    /* a misspelt pattern comes through as an error */
    assert_int_equal(fdl_params_freeze(fdl_graph_select(g, "heda")), FDL_E_ARG);
    check_error(FDL_E_ARG, "\"heda\"");
    assert_int_equal(fdl_params_each(head, NULL, NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_params_each");
    fdl_module_free(g);
}

static fdl_status stop_at_bias(fdl_param *p, const char *name, void *ctx)
{
    (void)name;
    ++*(int *)ctx;
    return strcmp(fdl_param_name(p), "bias") == 0 ? FDL_E_CANCELLED : FDL_OK;
}

static void lists_of_parameters_as_sets(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = new_model();
    fdl_params *all = fdl_parameters(g), *head = fdl_graph_select(g, "head");
    assert_int_equal(fdl_params_count(fdl_params_intersect(all, head)), 2);
    assert_int_equal(fdl_params_count(fdl_params_intersect(head, all)), 2);
    assert_int_equal(fdl_params_count(fdl_params_except(head, all)), 0);
    assert_int_equal(fdl_params_count(fdl_params_intersect(fdl_params_except(all, head), head)), 0);
    int n = 0;
    assert_int_equal(fdl_params_each(all, stop_at_bias, &n), FDL_E_CANCELLED);
    assert_int_equal(n, 2);
    assert_null(fdl_params_intersect(all, NULL));
    check_error(FDL_E_NULL, "fdl_params_intersect");
    assert_null(fdl_params_except(NULL, all));
    check_error(FDL_E_NULL, "fdl_params_except");
    assert_null(fdl_params_where(all, NULL, NULL));
    check_error(FDL_E_NULL, "fdl_params_where");
    fdl_module_free(g);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_from_the_left),    cmocka_unit_test(selecting_by_pattern),
        cmocka_unit_test(selecting_by_kind_and_predicate), cmocka_unit_test(what_a_selection_is_for),
        cmocka_unit_test(lists_of_parameters_as_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
