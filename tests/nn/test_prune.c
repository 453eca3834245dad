/* Pruning against PyTorch's masks, outputs and gradients, and what random choices promise. */
#include "parametrized.h"

#include <unistd.h>

static fdl_module *linear(void)
{
    fdl_module *m = fdl_nn_linear(5, 4, .dtype = FDL_FLOAT64);
    check_some(m);
    return m;
}

static fdl_module *conv(void)
{
    fdl_module *m = fdl_nn_conv2d(2, 3, 3, .dtype = FDL_FLOAT64);
    check_some(m);
    return m;
}

static fdl_tensor *tensor(fdl_module *m, const char *name, bool buffer)
{
    fdl_params *ps = buffer ? fdl_buffers(m) : fdl_parameters(m);
    return fdl_param_tensor(fdl_params_find(ps, name));
}

static void before(fdl_module *m, const char *leaf, const char *name)
{
    FDL_SCOPE;
    check_ok(fdl_param_set(fdl_module_own_param(m, leaf), get("%s/before", name)));
}

static void mask_is(fdl_module *m, const char *leaf, const char *name, int i)
{
    FDL_SCOPE;
    char mask[64], what[128];
    snprintf(mask, sizeof mask, "%s_mask", leaf);
    snprintf(what, sizeof what, "%s/mask%d", name, i);
    same(what, tensor(m, mask, true), get("%s", what), 0);
}

/* What was recorded after the masks; frees m. */
static void then(fdl_module *m, const char *leaf, const char *name)
{
    FDL_SCOPE;
    assert_true(fdl_is_pruned(m));
    train_like(m, name, run_once, 1e-12);
    char original[64];
    snprintf(original, sizeof original, "%s_orig", leaf);
    const void *kept = fdl_identity(tensor(m, original, false));
    check_ok(fdl_prune_remove(m, leaf));
    assert_false(fdl_is_pruned(m));
    fdl_tensor *w = tensor(m, leaf, false);
    assert_ptr_equal(fdl_identity(w), kept); /* optimizers that have it still do */
    same(name, w, get("%s/folded", name), 1e-12);
    same(name, fdl_forward(m, get("%s/x", name)), get("%s/eval", name), 1e-12);
    assert_int_equal(fdl_params_count(fdl_buffers(m)), 0);
    check_ok(fdl_module_free(m));
}

static void elements_as_pytorch(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = linear();
    before(m, "weight", "linear/l1");
    check_ok(fdl_prune_l1_unstructured(m, "weight", 0.3));
    mask_is(m, "weight", "linear/l1", 0);
    then(m, "weight", "linear/l1");

    m = linear();
    before(m, "weight", "linear/l1_count");
    check_ok(fdl_prune_l1_unstructured(m, "weight", 0, .count = FDL_SOME(7)));
    mask_is(m, "weight", "linear/l1_count", 0);
    then(m, "weight", "linear/l1_count");

    m = linear();
    before(m, "weight", "linear/l1_scores");
    check_ok(fdl_prune_l1_unstructured(m, "weight", 0.45, .scores = get("scores")));
    mask_is(m, "weight", "linear/l1_scores", 0);
    then(m, "weight", "linear/l1_scores");

    m = linear();
    before(m, "weight", "linear/l1_thrice");
    for (int i = 0; i < 3; i++) { /* each time of what is left */
        check_ok(fdl_prune_l1_unstructured(m, "weight", 0.3));
        mask_is(m, "weight", "linear/l1_thrice", i);
    }
    then(m, "weight", "linear/l1_thrice");

    m = linear();
    before(m, "bias", "linear/bias");
    check_ok(fdl_prune_l1_unstructured(m, "bias", 0.5));
    mask_is(m, "bias", "linear/bias", 0);
    then(m, "bias", "linear/bias");
}

static void channels_as_pytorch(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = conv();
    before(m, "weight", "conv2d/ln");
    check_ok(fdl_prune_ln_structured(m, "weight", 0.34, 2, 0));
    mask_is(m, "weight", "conv2d/ln", 0);
    check_ok(fdl_prune_ln_structured(m, "weight", 0, (double)INFINITY, 1, .count = FDL_SOME(1)));
    mask_is(m, "weight", "conv2d/ln", 1);
    then(m, "weight", "conv2d/ln");

    m = conv();
    before(m, "weight", "conv2d/ln_1");
    for (int i = 0; i < 2; i++) { /* the second time, channels that are gone don't count */
        check_ok(fdl_prune_ln_structured(m, "weight", 0, 1, -1, .count = FDL_SOME(1)));
        mask_is(m, "weight", "conv2d/ln_1", i);
    }
    then(m, "weight", "conv2d/ln_1");

    m = conv();
    before(m, "weight", "conv2d/l1_ln");
    check_ok(fdl_prune_l1_unstructured(m, "weight", 0, .count = FDL_SOME(20)));
    mask_is(m, "weight", "conv2d/l1_ln", 0);
    check_ok(fdl_prune_ln_structured(m, "weight", 0, 2, 0, .count = FDL_SOME(1)));
    mask_is(m, "weight", "conv2d/l1_ln", 1);
    then(m, "weight", "conv2d/l1_ln");
}

static void by_hand_as_pytorch(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = linear();
    before(m, "weight", "linear/custom");
    check_ok(fdl_prune_l1_unstructured(m, "weight", 0, .count = FDL_SOME(4)));
    check_ok(fdl_prune_custom(m, "weight", fdl_to_dtype(get("mask"), FDL_BOOL)));
    mask_is(m, "weight", "linear/custom", 1);
    then(m, "weight", "linear/custom");
    m = linear();
    before(m, "weight", "linear/identity");
    check_ok(fdl_prune_identity(m, "weight"));
    mask_is(m, "weight", "linear/identity", 0);
    then(m, "weight", "linear/identity");
}

static void over_several_as_pytorch(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = linear(), *b = conv();
    before(a, "weight", "global/a");
    before(b, "weight", "global/b");
    check_ok(fdl_prune_l1_unstructured(b, "weight", 0.25));
    for (int i = 0; i < 2; i++) {
        fdl_pruned_list both = FDL_PRUNED({a, "weight"}, {b, "weight"});
        check_ok(i ? fdl_prune_global_unstructured(both, 0, .count = FDL_SOME(11))
                   : fdl_prune_global_unstructured(both, 0.4));
        mask_is(a, "weight", "global/a", i);
        mask_is(b, "weight", "global/b", i);
    }
    check_ok(fdl_module_free(a));
    check_ok(fdl_module_free(b));
    a = fdl_nn_linear(5, 4); /* by scores: the two that are least of both */
    fdl_tensor *of_weight = fdl_reshape(fdl_arange(0, 20, 1), FDL_SHAPE(4, 5)),
               *of_bias = fdl_sub(fdl_arange(0, 4, 1), 0.5);
    check_ok(fdl_prune_global_unstructured(FDL_PRUNED({a, "weight"}, {a, "bias"}), 0, .count = FDL_SOME(2),
                                           .scores = FDL_LIST(fdl_add(of_weight, 1), of_bias)));
    double mask[4];
    check_ok(fdl_to_f64(tensor(a, "bias_mask", true), mask, 4));
    assert_true(mask[0] == 0 && mask[1] == 0 && mask[2] == 1 && mask[3] == 1);
    check_ok(fdl_module_free(a));
}

static int64_t zeros(fdl_tensor *t)
{
    FDL_SCOPE;
    return (int64_t)fdl_item(fdl_sum(fdl_to_dtype(fdl_eq(t, 0), FDL_INT64)));
}

static void random_choices(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(40, 30);
    check_ok(fdl_prune_random_unstructured(m, "weight", 0.25));
    assert_int_equal(zeros(tensor(m, "weight_mask", true)), 300);
    fdl_tensor *first = fdl_clone(tensor(m, "weight_mask", true));
    check_ok(fdl_prune_random_unstructured(m, "weight", 0.5));
    assert_int_equal(zeros(tensor(m, "weight_mask", true)), 750);
    assert_int_equal(zeros(fdl_mul(first, tensor(m, "weight_mask", true))),
                     750); /* what was gone stays gone */
    check_ok(fdl_module_free(m));

    m = fdl_nn_linear(40, 30);
    check_ok(fdl_prune_random_structured(m, "weight", 0.1, 0));
    check_ok(fdl_prune_random_structured(m, "weight", 0, 1, .count = FDL_SOME(4)));
    fdl_tensor *mask = tensor(m, "weight_mask", true);
    assert_int_equal(zeros(fdl_sum_dim(mask, 1)), 3);
    assert_int_equal(zeros(fdl_sum_dim(mask, 0)), 4);
    assert_int_equal(zeros(mask), 3 * 40 + 4 * 30 - 12);
    check_ok(fdl_module_free(m));

    /* a seed gives the same choice */
    for (int i = 0; i < 2; i++) {
        check_ok(fdl_manual_seed(7));
        m = fdl_nn_linear(40, 30);
        check_ok(fdl_prune_random_unstructured(m, "weight", 0.25));
        check_ok(fdl_prune_global_unstructured(FDL_PRUNED({m, "weight"}, {m, "bias"}), 0.1, .random = true));
        if (i)
            same("mask", tensor(m, "weight_mask", true), first, 0);
        first = fdl_clone(tensor(m, "weight_mask", true));
        assert_int_equal(zeros(first) + zeros(tensor(m, "bias_mask", true)), 300 + 93);
        check_ok(fdl_module_free(m));
    }
}

static void refused(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(5, 4);
    fdl_tensor *scores = fdl_ones(FDL_SHAPE(2));
#define WRONG(call, want, ...)          \
    do {                                \
        assert_int_equal(call, want);   \
        check_error(want, __VA_ARGS__); \
        assert_false(fdl_is_pruned(m)); \
    } while (0)
    WRONG(fdl_prune_l1_unstructured(m, "wait", 0.5), FDL_E_ARG, "wait");
    WRONG(fdl_prune_l1_unstructured(m, "weight", 1.5), FDL_E_ARG, "amount is 1.5");
    WRONG(fdl_prune_l1_unstructured(m, "weight", (double)NAN), FDL_E_ARG, "amount");
    WRONG(fdl_prune_l1_unstructured(m, "weight", 0, .count = FDL_SOME(21)), FDL_E_ARG, "21", "20 elements");
    WRONG(fdl_prune_l1_unstructured(m, "weight", 0, .count = FDL_SOME(-1)), FDL_E_ARG, ".count", "-1");
    WRONG(fdl_prune_l1_unstructured(m, "weight", 0.5, .count = FDL_SOME(1)), FDL_E_ARG, ".count", "0.5");
    WRONG(fdl_prune_l1_unstructured(m, "weight", 0.5, .scores = scores), FDL_E_SHAPE, "[2]", "[4, 5]");
    WRONG(fdl_prune_random_unstructured(m, "weight", 0.5, .scores = scores), FDL_E_ARG, ".scores");
    WRONG(fdl_prune_ln_structured(m, "bias", 0.5, 2, 0), FDL_E_ARG, "1 dims");
    WRONG(fdl_prune_ln_structured(m, "weight", 0.5, 2, 2), FDL_E_ARG, "dim is 2", "-2 to 1");
    WRONG(fdl_prune_ln_structured(m, "weight", 0.5, -1, 0), FDL_E_ARG, "n is -1");
    WRONG(fdl_prune_ln_structured(m, "weight", 0, 2, 0, .count = FDL_SOME(5)), FDL_E_ARG, "4 channels");
    WRONG(fdl_prune_custom(m, "weight", scores), FDL_E_SHAPE, "[2]", "[4, 5]");
    WRONG(fdl_prune_global_unstructured(FDL_PRUNED({m, "weight"}, {m, "weight"}), 0.5), FDL_E_ARG, "same");
    WRONG(fdl_prune_global_unstructured(FDL_PRUNED({m, "weight"}, {m, "wait"}), 0.5), FDL_E_ARG, "wait");
    WRONG(fdl_prune_global_unstructured(FDL_PRUNED({m, "weight"}), 0.5, .scores = FDL_LIST(scores, scores)),
          FDL_E_ARG, "2 tensors for 1");
    WRONG(fdl_prune_remove(m, "weight"), FDL_E_ARG, "not pruned");
    WRONG(fdl_prune_identity(NULL, "weight"), FDL_E_NULL, "m");
    check_ok(fdl_weight_norm(m, "weight"));
    WRONG(fdl_prune_identity(m, "weight"), FDL_E_ARG, "parametrization");
    check_ok(fdl_module_free(m));
}

/* What a parametrization keeps can be pruned, and what pruning keeps be parametrized. */
static void with_parametrizations(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(5, 4);
    check_ok(fdl_weight_norm(m, "weight"));
    fdl_module *by = fdl_module_child_at(m, 0, NULL);
    check_ok(fdl_prune_l1_unstructured(by, "original1", 0.25));
    check_some(tensor(m, "parametrizations.weight.original1_orig", false));
    assert_int_equal(zeros(fdl_parametrized(m, "weight")), 5);
    assert_int_equal(fdl_parametrize_remove(m, "weight"), FDL_E_STATE);
    check_error(FDL_E_STATE, "original1");
    fdl_module *copy = fdl_module_clone(m);
    char *text = fdl_topology_text(m);
    fdl_module *again = fdl_topology_parse(text);
    check_some(again);
    free(text);
    static const char path[] = "/tmp/flodl_test_prune.safetensors";
    check_ok(fdl_ckpt_save(m, path));
    check_ok(fdl_ckpt_load(again, path));
    unlink(path);
    same("copy", fdl_parametrized(copy, "weight"), fdl_parametrized(m, "weight"), 0);
    same("again", fdl_parametrized(again, "weight"), fdl_parametrized(m, "weight"), 0);
    check_ok(fdl_module_free(again));
    check_ok(fdl_module_free(copy));
    check_ok(fdl_prune_remove(by, "original1"));
    check_ok(fdl_parametrize_remove(m, "weight"));
    assert_int_equal(zeros(tensor(m, "weight", false)), 5);
    check_ok(fdl_module_free(m));

    m = fdl_nn_linear(5, 4);
    check_ok(fdl_prune_l1_unstructured(m, "weight", 0.25));
    check_ok(fdl_spectral_norm(m, "weight_orig"));
    check_some(tensor(m, "parametrizations.weight_orig.original", false));
    assert_int_equal(zeros(fdl_parametrized(m, "weight")), 5);
    assert_int_equal(fdl_prune_remove(m, "weight"), FDL_E_STATE);
    check_error(FDL_E_STATE, "weight_orig", "fdl_parametrize_remove");
    copy = fdl_module_clone(m);
    check_some(copy);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 5));
    same("copy", fdl_forward(copy, x), fdl_forward(m, x), 0);
    check_ok(fdl_module_free(copy));
    check_ok(fdl_parametrize_remove(m, "weight_orig"));
    check_ok(fdl_prune_remove(m, "weight"));
    assert_int_equal(zeros(tensor(m, "weight", false)), 5);
    check_ok(fdl_module_free(m));
}

static void in_graphs(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *first = fdl_nn_linear(4, 6), *g = fdl_flow(first, fdl_nn_relu(), fdl_nn_linear(6, 2));
    check_ok(fdl_prune_ln_structured(first, "weight", 0.5, 2, 0));
    check_some(tensor(g, "linear_1/weight_orig", false));
    check_some(tensor(g, "linear_1/weight_mask", true));
    fdl_optim *o = fdl_optim_adamw(fdl_parameters(g), .lr = 0.1);
    for (int i = 0; i < 5; i++) {
        check_ok(fdl_optim_zero_grad(o));
        check_ok(fdl_backward(fdl_sum(fdl_forward(g, fdl_randn(FDL_SHAPE(3, 4))))));
        check_ok(fdl_optim_step(o));
    }
    fdl_optim_free(o);
    assert_int_equal(zeros(fdl_parametrized(first, "weight")), 12); /* training brings nothing back */
    /* half precision: the mask follows or not */
    check_ok(fdl_cast_parameters(g, FDL_FLOAT64));
    check_some(fdl_forward(g, fdl_randn(FDL_SHAPE(3, 4), .dtype = FDL_FLOAT64)));
    char *text = fdl_topology_text(g);
    fdl_module *again = fdl_topology_parse(text), *copy = fdl_module_clone(g);
    check_some(again);
    check_some(copy);
    free(text);
    assert_string_equal(fdl_graph_hash(g), fdl_graph_hash(again));
    assert_true(fdl_is_pruned(again) && fdl_is_pruned(copy));
    check_ok(fdl_module_free(again));
    check_ok(fdl_module_free(copy));
    check_ok(fdl_module_free(g));
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_as_pytorch),   cmocka_unit_test(channels_as_pytorch),
        cmocka_unit_test(by_hand_as_pytorch),    cmocka_unit_test(over_several_as_pytorch),
        cmocka_unit_test(random_choices),        cmocka_unit_test(refused),
        cmocka_unit_test(with_parametrizations), cmocka_unit_test(in_graphs),
    };
    return cmocka_run_group_tests(tests, open_recorded, close_recorded);
}
