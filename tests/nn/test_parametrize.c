/* Parameters that are computed: weight_norm, spectral_norm, orthogonal and a user's, against PyTorch's outputs, gradients and
 * buffers, in whatever a module can stand in. */
#include "parametrized.h"

#include <unistd.h>

/* ---- PyTorch's numbers --------------------------------------------------------------------------------- */

static fdl_module *make(const char *kind)
{
    const fdl_dtype f64 = FDL_FLOAT64;
    fdl_module *m = strcmp(kind, "linear") == 0             ? fdl_nn_linear(5, 4, .dtype = f64)
                    : strcmp(kind, "linear_tall") == 0      ? fdl_nn_linear(4, 6, .dtype = f64)
                    : strcmp(kind, "linear_square") == 0    ? fdl_nn_linear(4, 4, .dtype = f64)
                    : strcmp(kind, "conv2d") == 0           ? fdl_nn_conv2d(2, 3, 3, .dtype = f64)
                    : strcmp(kind, "conv_transpose1d") == 0 ? fdl_nn_conv_transpose1d(3, 2, 3, .dtype = f64)
                    : strcmp(kind, "layer_norm") == 0       ? fdl_nn_layer_norm(5, .dtype = f64)
                    : strcmp(kind, "embedding") == 0        ? fdl_nn_embedding(6, 3, .dtype = f64)
                    : strcmp(kind, "lstm") == 0             ? fdl_nn_lstm(3, 4, .dtype = f64)
                                                            : fdl_nn_multihead_attention(4, 2, .dtype = f64);
    check_some(m);
    return m;
}

/* The module with the recorded weight, and what computes it; then everything that was recorded. */
static void like_run(const char *name, const char *leaf, fdl_status (*apply)(fdl_module *, const char *),
                     run_function *run)
{
    FDL_SCOPE;
    char kind[64];
    snprintf(kind, sizeof kind, "%.*s", (int)strcspn(name, "/"), name);
    fdl_module *m = make(kind), *owner = m;
    if (strncmp(leaf, "out_proj.", 9) == 0) {
        owner = fdl_module_child_at(m, 0, NULL);
        leaf += 9;
    }
    fdl_tensor *before = get("%s/before", name);
    check_ok(fdl_param_set(fdl_module_own_param(owner, leaf), before));
    before = fdl_detach(before);
    int params = fdl_params_count(fdl_parameters(m));
    check_ok(apply(owner, leaf));
    assert_true(fdl_is_parametrized(owner, leaf));
    if (!strstr(name, "spectral") && !strstr(name, "twice")) /* what is computed is the weight at first */
        same(name, fdl_parametrized(owner, leaf),
             strstr(name, "orthogonal") ? fdl_parametrized(owner, leaf) : before, 1e-14);
    train_like(m, name, run, 1e-12);
    check_ok(fdl_parametrize_remove(owner, leaf));
    assert_false(fdl_is_parametrized(owner, leaf));
    same(name, fdl_param_tensor(fdl_module_own_param(owner, leaf)), get("%s/folded", name), 1e-12);
    assert_int_equal(fdl_params_count(fdl_parameters(m)), params);
    same(name, run(m, get("%s/x", name)), get("%s/eval", name), 1e-12);
    check_ok(fdl_module_free(m));
}

static void like(const char *name, fdl_status (*apply)(fdl_module *, const char *))
{
    like_run(name, "weight", apply, run_once);
}

static fdl_status weight_norm(fdl_module *m, const char *name)
{
    return fdl_weight_norm(m, name);
}

static fdl_status weight_norm_1(fdl_module *m, const char *name)
{
    return fdl_weight_norm(m, name, .dim = FDL_SOME(1));
}

static fdl_status weight_norm_all(fdl_module *m, const char *name)
{
    return fdl_weight_norm(m, name, .dim = FDL_SOME(-1));
}

static fdl_tensor *attend(fdl_module *m, fdl_tensor *x)
{
    return fdl_nn_mha_forward(m, x, x, x);
}

static fdl_tensor *read_sequence(fdl_module *m, fdl_tensor *x)
{
    return fdl_nn_lstm_forward(m, x);
}

static void weight_norms_as_pytorch(void **state)
{
    (void)state;
    like("linear/weight_norm", weight_norm);
    like("conv2d/weight_norm", weight_norm);
    like("conv_transpose1d/weight_norm", weight_norm);
    like("layer_norm/weight_norm", weight_norm);
    like("embedding/weight_norm", weight_norm);
    like("linear/weight_norm_1", weight_norm_1);
    like("conv2d/weight_norm_all", weight_norm_all);
    like_run("linear/weight_norm_bias", "bias", weight_norm, run_once);
    like_run("lstm/weight_norm", "weight_hh_l0", weight_norm, run_once);
    like_run("lstm/weight_norm", "weight_hh_l0", weight_norm, read_sequence);
    like_run("attention/weight_norm_in", "in_proj_weight", weight_norm, run_once);
    like_run("attention/weight_norm_in", "in_proj_weight", weight_norm, attend);
    like_run("attention/weight_norm_out", "out_proj.weight", weight_norm, attend);
}

static fdl_status spectral_norm(fdl_module *m, const char *name)
{
    return fdl_spectral_norm(m, name);
}

static fdl_status spectral_norm_3(fdl_module *m, const char *name)
{
    return fdl_spectral_norm(m, name, .n_power_iterations = 3, .dim = FDL_SOME(1), .eps = 1e-6);
}

static void spectral_norms_as_pytorch(void **state)
{
    (void)state;
    like("linear/spectral_norm", spectral_norm);
    like("conv2d/spectral_norm", spectral_norm);
    like("conv_transpose1d/spectral_norm", spectral_norm);
    like("layer_norm/spectral_norm", spectral_norm);
    like("embedding/spectral_norm", spectral_norm);
    like("conv2d/spectral_norm_3", spectral_norm_3);
}

static fdl_status matrix_exp(fdl_module *m, const char *name)
{
    return fdl_orthogonal(m, name, .map = FDL_ORTHOGONAL_MATRIX_EXP);
}

static fdl_status cayley(fdl_module *m, const char *name)
{
    return fdl_orthogonal(m, name, .map = FDL_ORTHOGONAL_CAYLEY);
}

static fdl_status householder(fdl_module *m, const char *name)
{
    return fdl_orthogonal(m, name, .map = FDL_ORTHOGONAL_HOUSEHOLDER);
}

static void orthogonal_as_pytorch(void **state)
{
    (void)state;
    static const char *const kinds[] = {"linear", "linear_tall", "linear_square"};
    for (int i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s/orthogonal_matrix_exp", kinds[i]);
        like(name, matrix_exp);
        snprintf(name, sizeof name, "%s/orthogonal_cayley", kinds[i]);
        like(name, cayley);
        snprintf(name, sizeof name, "%s/orthogonal_householder", kinds[i]);
        like(name, householder);
    }
}

static fdl_tensor *halved(fdl_tensor *x)
{
    return fdl_mul(x, 0.5);
}

static fdl_status norm_then_half(fdl_module *m, const char *name)
{
    fdl_status status = fdl_weight_norm(m, name);
    return status == FDL_OK ? fdl_parametrize(m, name, fdl_nn_fn(halved)) : status;
}

static void one_behind_the_other(void **state)
{
    (void)state;
    like("linear/twice", norm_then_half);
}

/* ---- how they begin -------------------------------------------------------------------------------------- */

static void spectral_norm_begins_near_1(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(30, 20);
    check_ok(fdl_spectral_norm(m, "weight"));
    for (int i = 0; i < 300; i++) {
        FDL_SCOPE;
        FDL_NO_GRAD;
        check_some(fdl_forward(m, fdl_zeros(FDL_SHAPE(1, 30))));
    }
    check_number(fdl_item(fdl_linalg_matrix_norm(fdl_parametrized(m, "weight"), .p = 2)), 1, 1e-4);
    check_ok(fdl_module_free(m));
}

static double orthogonality(fdl_tensor *w, bool columns)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor *product = columns ? fdl_matmul(fdl_mT(w), w) : fdl_matmul(w, fdl_mT(w));
    return fdl_item(fdl_max(fdl_abs(fdl_sub(
        product, fdl_eye(fdl_size(product, -1), .dtype = fdl_dtype_of(w), .device = fdl_device_of(w))))));
}

static void orthogonal_begins_with_an_orthogonal_matrix_nearby(void **state)
{
    (void)state;
    FDL_SCOPE;
    FDL_NO_GRAD;
    static const int64_t sizes[][2] = {{4, 4}, {7, 3}, {3, 7}};
    for (int i = 0; i < 3; i++)
        for (fdl_orthogonal_map map = FDL_ORTHOGONAL_AUTO; map <= FDL_ORTHOGONAL_HOUSEHOLDER; map++) {
            fdl_module *m = fdl_nn_linear(sizes[i][1], sizes[i][0], .dtype = FDL_FLOAT64);
            check_ok(fdl_orthogonal(m, "weight", .map = map));
            assert_true(orthogonality(fdl_parametrized(m, "weight"), sizes[i][0] >= sizes[i][1]) < 1e-12);
            check_ok(fdl_module_free(m));
            /* what is orthogonal stays */
            m = fdl_nn_linear(sizes[i][1], sizes[i][0], .dtype = FDL_FLOAT64);
            fdl_tensor *w = fdl_param_tensor(fdl_module_own_param(m, "weight"));
            check_ok(fdl_init_orthogonal(w));
            fdl_tensor *before = fdl_clone(w);
            check_ok(fdl_orthogonal(m, "weight", .map = map));
            same("weight", fdl_parametrized(m, "weight"), before, 1e-12);
            check_ok(fdl_module_free(m));
        }
}

/* ---- one's own ----------------------------------------------------------------------------------------- */

static fdl_tensor *symmetric(fdl_tensor *x)
{
    fdl_tensor *upper = fdl_triu(x);
    return fdl_add(upper, fdl_transpose(fdl_triu(x, .diagonal = 1), 0, 1));
}

static void a_weight_of_ones_own(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(3, 3);
    check_ok(fdl_parametrize(m, "weight", fdl_nn_fn(symmetric)));
    fdl_tensor *w = fdl_parametrized(m, "weight");
    same("weight", w, fdl_transpose(w, 0, 1), 0);
    /* its parameters are trained with the others */
    fdl_module *twice = fdl_nn_linear(3, 3, .no_bias = true);
    check_ok(fdl_param_set(fdl_module_own_param(twice, "weight"), fdl_mul(fdl_eye(3), 2)));
    check_ok(fdl_parametrize(m, "weight", twice));
    fdl_params *ps = fdl_parameters(m);
    assert_int_equal(fdl_params_count(ps), 3);
    check_some(fdl_params_find(ps, "parametrizations.weight.original"));
    fdl_tensor *factor = fdl_param_tensor(fdl_params_find(ps, "parametrizations.weight.1.weight"));
    same("weight", fdl_parametrized(m, "weight"), fdl_mul(w, 2), 1e-6);
    check_ok(fdl_backward(fdl_sum(fdl_forward(m, fdl_ones(FDL_SHAPE(1, 3))))));
    check_number(fdl_item(fdl_sum(fdl_grad(factor))), 3 * fdl_item(fdl_sum(w)), 1e-5);
    check_ok(fdl_parametrize_remove(m, "weight", .leave_original = true));
    check_ok(fdl_module_free(m));
}

static fdl_tensor *narrower(fdl_tensor *x)
{
    return fdl_narrow(x, 0, 0, 1);
}

static fdl_tensor *fails(fdl_tensor *x)
{
    (void)x;
    return fdl_fail_null(FDL_E_STATE, "not today");
}

static void refused(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(3, 3);
    fdl_tensor *w = fdl_clone(fdl_param_tensor(fdl_module_own_param(m, "weight")));
    assert_int_equal(fdl_weight_norm(m, "wait"), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_weight_norm", "wait");
    assert_int_equal(fdl_weight_norm(m, "weight", .dim = FDL_SOME(2)), FDL_E_ARG);
    check_error(FDL_E_ARG, ".dim is 2", "-1 to 1");
    assert_int_equal(fdl_weight_norm(m, "weight", .dim = FDL_SOME(-2)), FDL_E_ARG);
    fdl_clear_error();
    assert_int_equal(fdl_spectral_norm(m, "weight", .n_power_iterations = -1), FDL_E_ARG);
    check_error(FDL_E_ARG, "n_power_iterations", "-1");
    assert_int_equal(fdl_spectral_norm(m, "weight", .dim = FDL_SOME(3)), FDL_E_ARG);
    fdl_clear_error();
    assert_int_equal(fdl_orthogonal(m, "bias"), FDL_E_ARG);
    check_error(FDL_E_ARG, "1 dims");
    assert_int_equal(fdl_parametrize(m, "weight", fdl_nn_fn(narrower)), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "[3, 3]", "[1, 3]");
    assert_int_equal(fdl_parametrize(m, "weight", fdl_nn_fn(fails)), FDL_E_STATE);
    check_error(FDL_E_STATE, "not today");
    assert_int_equal(fdl_parametrize(m, "weight", NULL), FDL_E_NULL);
    fdl_clear_error();
    assert_int_equal(fdl_parametrize(NULL, "weight", fdl_nn_fn(halved)), FDL_E_NULL);
    fdl_clear_error();
    assert_int_equal(fdl_parametrize_remove(m, "weight"), FDL_E_ARG);
    check_error(FDL_E_ARG, "not parametrized");
    assert_int_equal(fdl_module_children(m), 0);
    same("weight", fdl_param_tensor(fdl_module_own_param(m, "weight")), w, 0);

    check_ok(fdl_weight_norm(m, "weight"));
    assert_int_equal(fdl_weight_norm(m, "weight"), FDL_E_STATE);
    check_error(FDL_E_STATE, "already");
    assert_int_equal(fdl_parametrize(m, "weight", fdl_nn_fn(narrower)), FDL_E_SHAPE);
    fdl_clear_error();
    same("weight", fdl_parametrized(m, "weight"), w, 1e-6);
    assert_int_equal(fdl_parametrize_remove(m, "weight", .leave_original = true), FDL_E_ARG);
    check_error(FDL_E_ARG, ".leave_original");
    assert_null(fdl_module_own_param(m, "weight"));
    check_error(FDL_E_ARG, "fdl_parametrized");
    assert_null(fdl_module_param(m, "weight", w));
    check_error(FDL_E_ARG, "weight");
    check_ok(fdl_module_free(m));
}

/* ---- wherever a module can stand -------------------------------------------------------------------------- */

static fdl_module *small_graph(void)
{
    fdl_module *first = fdl_nn_linear(4, 6), *shared = fdl_nn_linear(6, 6);
    fdl_module *inner = fdl_flow(fdl_nn_linear(6, 6), fdl_nn_tanh());
    check_ok(fdl_weight_norm(first, "weight"));
    check_ok(fdl_spectral_norm(shared, "weight"));
    return fdl_flow(first, fdl_flow_tag("first"), fdl_flow_loop(shared, 3), inner,
                    fdl_flow_also(fdl_nn_linear(6, 6)), fdl_nn_linear(6, 2));
}

/* The module of a tree that has the parameter of that canonical name. */
static fdl_status weigh(fdl_module *m, void *ctx)
{
    if (strcmp(fdl_module_kind(m), "linear") == 0 && !fdl_is_parametrized(m, "weight"))
        (*(int *)ctx)++;
    return FDL_OK;
}

static void in_graphs_by_names_and_hash(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = small_graph();
    check_some(g);
    fdl_params *ps = fdl_parameters(g);
    check_some(fdl_params_find(ps, "first/parametrizations.weight.original0"));
    check_some(fdl_params_find(ps, "first/parametrizations.weight.original1"));
    assert_int_equal(fdl_params_count(fdl_parameters(g, .match = "*/weight")), 3);
    assert_int_equal(fdl_params_count(fdl_buffers(g)), 2);
    char before[65];
    snprintf(before, sizeof before, "%s", fdl_graph_hash(g));
    uint64_t generation = fdl_module_generation(g);
    fdl_module *last = NULL;
    for (int i = 0; i < fdl_module_children(g); i++) {
        const char *name;
        fdl_module *child = fdl_module_child_at(g, i, &name);
        if (child && strcmp(fdl_module_kind(child), "linear") == 0)
            last = child;
    }
    check_ok(fdl_weight_norm(last, "weight"));
    assert_string_not_equal(fdl_graph_hash(g), before);
    assert_true(fdl_module_generation(g) != generation);
    check_ok(fdl_parametrize_remove(last, "weight"));
    assert_string_equal(fdl_graph_hash(g), before);
    int plain = 0;
    check_ok(fdl_module_walk(g, weigh, &plain));
    assert_int_equal(plain, 3);
    check_ok(fdl_module_free(g));
}

/* Outputs, all tensors and gradients of two modules are equal to the bit. */
static void equals(fdl_module *a, fdl_module *b, fdl_tensor *x)
{
    FDL_SCOPE;
    fdl_params *pa = fdl_parameters(a), *pb = fdl_parameters(b);
    fdl_params *ba = fdl_buffers(a), *bb = fdl_buffers(b);
    assert_int_equal(fdl_params_count(pa), fdl_params_count(pb));
    assert_int_equal(fdl_params_count(ba), fdl_params_count(bb));
    check_ok(fdl_grads_clear(pa));
    check_ok(fdl_grads_clear(pb));
    same("output", fdl_forward(a, x), fdl_forward(b, x), 0);
    check_ok(fdl_backward(fdl_sum(fdl_forward(a, x))));
    check_ok(fdl_backward(fdl_sum(fdl_forward(b, x))));
    for (int i = 0; i < fdl_params_count(pa); i++) {
        assert_string_equal(fdl_params_name(pa, i), fdl_params_name(pb, i));
        fdl_tensor *p = fdl_param_tensor(fdl_params_at(pa, i)), *q = fdl_param_tensor(fdl_params_at(pb, i));
        same(fdl_params_name(pa, i), p, q, 0);
        if (fdl_grad(p))
            same(fdl_params_name(pa, i), fdl_grad(p), fdl_grad(q), 0);
    }
    for (int i = 0; i < fdl_params_count(ba); i++)
        same(fdl_params_name(ba, i), fdl_param_tensor(fdl_params_at(ba, i)),
             fdl_param_tensor(fdl_params_at(bb, i)), 0);
}

static void copies(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = small_graph();
    fdl_tensor *x = fdl_randn(FDL_SHAPE(3, 4));
    check_some(fdl_forward(g, x));
    check_ok(fdl_param_freeze(fdl_params_find(fdl_parameters(g), "first/parametrizations.weight.original0")));
    fdl_module *copy = fdl_module_clone(g);
    check_some(copy);
    assert_true(fdl_param_is_frozen(
        fdl_params_find(fdl_parameters(copy), "first/parametrizations.weight.original0")));
    assert_string_equal(fdl_graph_hash(g), fdl_graph_hash(copy));
    equals(g, copy, x);
    check_ok(fdl_module_free(g));
    check_ok(fdl_module_free(copy));

    /* children that a constructor makes itself */
    fdl_module *attention = fdl_nn_multihead_attention(4, 2);
    check_ok(fdl_weight_norm(fdl_module_child_at(attention, 0, NULL), "weight"));
    check_ok(fdl_spectral_norm(attention, "in_proj_weight"));
    copy = fdl_module_clone(attention);
    check_some(copy);
    equals(attention, copy, fdl_randn(FDL_SHAPE(3, 2, 4)));
    check_ok(fdl_module_free(attention));
    check_ok(fdl_module_free(copy));
}

static void topologies_and_checkpoints(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const char path[] = "/tmp/flodl_test_parametrize.safetensors";
    fdl_module *attention = fdl_nn_multihead_attention(6, 2);
    check_ok(fdl_weight_norm(fdl_module_child_at(attention, 0, NULL), "weight"));
    fdl_module *g = fdl_flow(small_graph(), fdl_nn_linear(2, 6), attention);
    check_some(g);
    fdl_module *conv = fdl_nn_linear(6, 6);
    check_ok(fdl_orthogonal(conv, "weight"));
    fdl_module *both = fdl_flow(g, conv);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(3, 2, 4));
    check_some(fdl_forward(both, x));

    char *text = fdl_topology_text(both);
    check_some(text);
    fdl_module *again = fdl_topology_parse(text);
    check_some(again);
    char *second = fdl_topology_text(again);
    assert_string_equal(text, second);
    free(second);
    assert_string_equal(fdl_graph_hash(both), fdl_graph_hash(again));
    check_ok(fdl_ckpt_save(both, path));
    check_ok(fdl_ckpt_load(again, path));
    unlink(path);
    equals(both, again, x);
    check_ok(fdl_module_free(again));
    free(text);

    /* another floating type */
    check_ok(fdl_module_to(both, fdl_default_device(), .dtype = FDL_FLOAT64));
    x = fdl_to_dtype(x, FDL_FLOAT64);
    text = fdl_topology_text(both);
    again = fdl_topology_parse(text);
    check_some(again);
    check_ok(fdl_ckpt_save(both, path));
    check_ok(fdl_ckpt_load(again, path));
    unlink(path);
    equals(both, again, x);
    check_ok(fdl_module_free(again));
    free(text);
    check_ok(fdl_module_free(both));
}

static char *file(const char *path, size_t *size)
{
    char *bytes = fdl_file_read(path, 1 << 24, size);
    check_some(bytes);
    return bytes;
}

/* What is written as ONNX is the value: the file is that of the module when the parametrization is folded. */
static void onnx_has_the_value(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const char path[] = "/tmp/flodl_test_parametrize.onnx";
    fdl_module *a = fdl_nn_conv2d(3, 8, 3), *b = fdl_nn_linear(8, 6), *c = fdl_nn_gru(6, 4);
    check_ok(fdl_weight_norm(a, "weight"));
    check_ok(fdl_spectral_norm(b, "weight"));
    check_ok(fdl_prune_l1_unstructured(b, "bias", 0.5));
    check_ok(fdl_orthogonal(c, "weight_hh_l0"));
    fdl_module *g =
        fdl_flow(a, fdl_nn_flatten(.start = FDL_SOME(2)), fdl_nn_permute(FDL_DIMS(2, 0, 1)), b, c);
    check_some(g);
    check_ok(fdl_backward(fdl_sum(fdl_forward(g, fdl_randn(FDL_SHAPE(2, 3, 5, 5))))));
    size_t n, m;
    check_ok(fdl_onnx_save(g, path, FDL_SHAPE(2, 3, 5, 5)));
    char *before = file(path, &n);
    check_ok(fdl_eval(g));
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 3, 5, 5)), *y = fdl_forward(g, x);
    check_ok(fdl_parametrize_remove(a, "weight"));
    check_ok(fdl_parametrize_remove(b, "weight"));
    check_ok(fdl_prune_remove(b, "bias"));
    check_ok(fdl_parametrize_remove(c, "weight_hh_l0"));
    same("folded", fdl_forward(g, x), y, 1e-6);
    check_ok(fdl_onnx_save(g, path, FDL_SHAPE(2, 3, 5, 5)));
    char *after = file(path, &m);
    assert_int_equal(n, m);
    assert_memory_equal(before, after, n);
    free(before);
    free(after);
    unlink(path);
    check_ok(fdl_module_free(g));
}

#define SPECTRAL(shape, eps)                                                            \
    "[{\"param\": \"weight\", \"by\": [{\"kind\": \"spectral_norm\", \"shape\": " shape \
    ", \"dim\": 0, \"iterations\": 1, \"eps\": " eps "}]}]"
#define ORTHOGONAL(shape)                                                            \
    "[{\"param\": \"weight\", \"by\": [{\"kind\": \"orthogonal\", \"shape\": " shape \
    ", \"map\": \"cayley\"}]}]"

static void bad_topologies(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"[1]", "computed[0]"},
        {"{}", "must be a list"},
        {"[{\"param\": \"weight\", \"by\": []}]", "empty"},
        {"[{\"param\": \"wait\", \"by\": [{\"kind\": \"weight_norm\", \"dim\": 0}]}]", "wait"},
        {"[{\"param\": \"weight\", \"by\": [{\"kind\": \"weight_norm\", \"dim\": 7}]}]", "computed"},
        {"[{\"param\": \"weight\", \"by\": [{\"kind\": \"linear\", \"in\": 9, \"out\": 9}]}]", "computed"},
        {SPECTRAL("[4611686018427387904, 4, 4]", "1e-12"), "number of elements"},
        {SPECTRAL("[-3, 4]", "1e-12"), "-3"},
        {SPECTRAL("[0, 4]", "1e-12"), "computed[0]"},
        {SPECTRAL("[2, 2]", "\"nan\""), "eps"},
        {ORTHOGONAL("[1099511627776, 1]"), "elements"},
        {ORTHOGONAL("[5, 2]"), "computed[0]"},
        {"[{\"param\": \"weight\", \"mask\": 1}]", "mask"},
        {"[{\"param\": \"weight\", \"mask\": true}, {\"param\": \"weight\", \"mask\": true}]", "weight"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[512];
        snprintf(
            text, sizeof text,
            "{\"format\": \"flodl.topology\", \"version\": 1, \"model\": {\"kind\": \"linear\", \"in\": 2, "
            "\"out\": 2}, \"computed\": %s}",
            bad[i][0]);
        fdl_module *m = fdl_topology_parse(text);
        if (m)
            fail_msg("%s was taken", bad[i][0]);
        if (!strstr(fdl_last_error()->message, bad[i][1]))
            fail_msg("%s: %s", bad[i][0], fdl_last_error()->message);
        fdl_clear_error();
    }
}

/* Files that the older functions of torch.nn.utils wrote. */
static void older_names(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *path = FLODL_SOURCE_DIR "/tests/fixtures/parametrize.safetensors";
    fdl_module *m = fdl_nn_linear(5, 4, .dtype = FDL_FLOAT64);
    check_ok(fdl_weight_norm(m, "weight"));
    check_ok(fdl_ckpt_load(m, path, .prefix = "older/state/"));
    same("older", fdl_forward(m, get("older/x")), get("older/y"), 1e-12);
    check_ok(fdl_module_free(m));
    m = fdl_nn_linear(5, 4, .dtype = FDL_FLOAT64);
    check_ok(fdl_spectral_norm(m, "weight"));
    check_ok(fdl_ckpt_load(m, path, .prefix = "older_spectral/state/"));
    check_ok(fdl_eval(m));
    same("older_spectral", fdl_forward(m, get("older_spectral/x")), get("older_spectral/y"), 1e-12);
    check_ok(fdl_module_free(m));
}

/* Functions that run a module with more than fdl_forward has: each gives what fdl_forward gives. */
static void by_other_functions(void **state)
{
    (void)state;
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 3)), *h = fdl_zeros(FDL_SHAPE(2, 4)),
               *images = fdl_randn(FDL_SHAPE(1, 3, 5));
    static const int64_t indices[] = {1, 2, 3, 4}, starts[] = {0, 2};
    fdl_tensor *bags = fdl_from_i64(indices, FDL_SHAPE(2, 2));
    fdl_tensor *flat = fdl_flatten(bags, 0, 1), *offsets = fdl_from_i64(starts, FDL_SHAPE(2));
    fdl_module *m[] = {fdl_nn_gru_cell(3, 4),      fdl_nn_lstm_cell(3, 4),
                       fdl_nn_rnn_cell(3, 4),      fdl_nn_gru(3, 4),
                       fdl_nn_embedding_bag(6, 3), fdl_nn_conv_transpose1d(3, 2, 3),
                       fdl_nn_rnn(3, 4),           fdl_nn_multihead_attention(3, 1)};
    static const char *const names[] = {"weight_hh", "weight_ih", "weight_ih",    "weight_ih_l0",
                                        "weight",    "weight",    "weight_hh_l0", "in_proj_weight"};
    for (int i = 0; i < 8; i++) {
        check_some(m[i]);
        check_ok(fdl_weight_norm(m[i], names[i]));
        fdl_tensor *g = fdl_param_tensor(fdl_module_own_param(
            fdl_module_child_at(m[i], fdl_module_children(m[i]) - 1, NULL), "original0"));
        check_ok(fdl_copy_(g, fdl_mul(g, 3))); /* so that what is computed isn't the original */
    }
    fdl_tensor *c, *sequence = fdl_unsqueeze(x, 1);
    same("gru_cell", fdl_nn_gru_cell_forward(m[0], x, .h = h), fdl_forward(m[0], x), 0);
    same("lstm_cell", fdl_nn_lstm_cell_forward(m[1], x, h, h, &c), fdl_forward(m[1], x), 0);
    same("lstm_cell", fdl_narrow(fdl_nn_lstm_cell_step(m[1], x), 1, 0, 4), fdl_forward(m[1], x), 0);
    same("rnn_cell", fdl_nn_rnn_cell_forward(m[2], x, .h = h), fdl_forward(m[2], x), 0);
    same("gru", fdl_nn_gru_forward(m[3], sequence), fdl_forward(m[3], sequence), 0);
    same("embedding_bag", fdl_nn_embedding_bag_forward(m[4], flat, offsets), fdl_forward(m[4], bags), 1e-6);
    same("conv_transpose", fdl_nn_conv_transpose_forward(m[5], images, .size = FDL_DIMS(7)),
         fdl_forward(m[5], images), 0);
    same("rnn", fdl_nn_rnn_forward(m[6], sequence), fdl_forward(m[6], sequence), 0);
    same("attention", fdl_nn_mha_forward(m[7], sequence, sequence, sequence), fdl_forward(m[7], sequence),
         1e-6);
    for (int i = 0; i < 8; i++)
        check_ok(fdl_module_free(m[i]));
}

static void modes_moves_and_summaries(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(5, 4);
    check_ok(fdl_spectral_norm(m, "weight"));
    fdl_tensor *u = fdl_param_tensor(fdl_params_at(fdl_buffers(m), 0)), *x = fdl_randn(FDL_SHAPE(2, 5));
    fdl_tensor *before = fdl_clone(u);
    check_ok(fdl_eval(m));
    check_some(fdl_forward(m, x));
    check_some(fdl_parametrized(m, "weight"));
    same("u", u, before, 0);
    check_ok(fdl_train(m));
    check_some(fdl_parametrized(m, "weight"));
    same("u", u, before, 0);
    check_ok(fdl_fill_(u, 0.5)); /* far from where it goes */
    check_ok(fdl_fill_(fdl_param_tensor(fdl_params_at(fdl_buffers(m), 1)), 0.5));
    before = fdl_clone(u);
    check_some(fdl_forward(m, x));
    assert_true(fdl_item(fdl_max(fdl_abs(fdl_sub(u, before)))) > 0);
    /* the numbers are the same after a cast and a look at the model without values */
    check_ok(fdl_eval(m));
    fdl_tensor *y = fdl_forward(m, x);
    const fdl_summary *s = fdl_module_summary(m, FDL_SHAPE(2, 5));
    check_some(s);
    assert_int_equal(s->n, 1); /* one row, the layer's, with what its weight is computed from */
    assert_int_equal(s->row[0].params, 24);
    assert_int_equal(s->row[0].bytes, 2 * 4 * 4);
    same("output", fdl_forward(m, x), y, 0);
    check_ok(fdl_module_to(m, fdl_default_device(), .dtype = FDL_FLOAT64));
    same("output", fdl_forward(m, fdl_to_dtype(x, FDL_FLOAT64)), fdl_to_dtype(y, FDL_FLOAT64), 1e-6);
    /* two runs in training and one backward through both */
    check_ok(fdl_train(m));
    x = fdl_to_dtype(x, FDL_FLOAT64);
    check_ok(fdl_backward(fdl_sum(fdl_sub(fdl_forward(m, x), fdl_forward(m, fdl_mul(x, 2))))));
    check_ok(fdl_module_free(m));
}

/* Weights are computed in their own dtype, whatever the dtype of the layers' arithmetic is. */
static void under_autocast_and_in_half_precision(void **state)
{
    (void)state;
    static fdl_status (*const all[])(fdl_module *, const char *) = {weight_norm, spectral_norm, householder};
    for (int i = 0; i < 3; i++) {
        FDL_SCOPE;
        fdl_module *m = fdl_nn_linear(6, 5);
        check_ok(all[i](m, "weight"));
        check_ok(fdl_eval(m));
        fdl_tensor *w = fdl_parametrized(m, "weight"), *x = fdl_randn(FDL_SHAPE(3, 6));
        {
            FDL_AUTOCAST(.dtype = FDL_BFLOAT16);
            fdl_tensor *value = fdl_parametrized(m, "weight");
            assert_int_equal(fdl_dtype_of(value), FDL_FLOAT32);
            same("weight", value, w, 1e-6);
            fdl_tensor *y = fdl_forward(m, x);
            check_some(y);
            assert_int_equal(fdl_dtype_of(y), FDL_BFLOAT16);
            check_ok(fdl_train(m));
            check_ok(fdl_backward(fdl_sum(fdl_forward(m, x))));
        }
        if (i < 2) { /* matrices of reflections are for float32 and float64 */
            check_ok(fdl_cast_parameters(m, FDL_BFLOAT16));
            check_ok(fdl_backward(fdl_sum(fdl_forward(m, fdl_to_dtype(x, FDL_BFLOAT16)))));
            check_ok(fdl_module_to(m, fdl_default_device(), .dtype = FDL_BFLOAT16));
            check_some(fdl_forward(m, fdl_to_dtype(x, FDL_BFLOAT16)));
        }
        check_ok(fdl_module_free(m));
    }
}

static void an_optimizer_goes_on(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(3, 2);
    fdl_optim *o = fdl_optim_sgd(fdl_parameters(m), .lr = 0.1);
    check_ok(fdl_spectral_norm(m, "weight"));
    fdl_tensor *original =
        fdl_param_tensor(fdl_params_find(fdl_parameters(m), "parametrizations.weight.original"));
    fdl_tensor *before = fdl_clone(original);
    check_ok(fdl_backward(fdl_sum(fdl_forward(m, fdl_randn(FDL_SHAPE(4, 3))))));
    check_ok(fdl_optim_step(o));
    assert_true(fdl_item(fdl_max(fdl_abs(fdl_sub(original, before)))) > 0);
    check_ok(fdl_parametrize_remove(m, "weight"));
    fdl_tensor *w = fdl_param_tensor(fdl_module_own_param(m, "weight"));
    before = fdl_clone(w);
    check_ok(fdl_optim_zero_grad(o));
    check_ok(fdl_backward(fdl_sum(fdl_forward(m, fdl_randn(FDL_SHAPE(4, 3))))));
    check_ok(fdl_optim_step(o));
    assert_true(fdl_item(fdl_max(fdl_abs(fdl_sub(w, before)))) > 0);
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weight_norms_as_pytorch),
        cmocka_unit_test(spectral_norms_as_pytorch),
        cmocka_unit_test(orthogonal_as_pytorch),
        cmocka_unit_test(one_behind_the_other),
        cmocka_unit_test(spectral_norm_begins_near_1),
        cmocka_unit_test(orthogonal_begins_with_an_orthogonal_matrix_nearby),
        cmocka_unit_test(a_weight_of_ones_own),
        cmocka_unit_test(refused),
        cmocka_unit_test(in_graphs_by_names_and_hash),
        cmocka_unit_test(copies),
        cmocka_unit_test(topologies_and_checkpoints),
        cmocka_unit_test(onnx_has_the_value),
        cmocka_unit_test(bad_topologies),
        cmocka_unit_test(older_names),
        cmocka_unit_test(by_other_functions),
        cmocka_unit_test(modes_moves_and_summaries),
        cmocka_unit_test(under_autocast_and_in_half_precision),
        cmocka_unit_test(an_optimizer_goes_on),
    };
    return cmocka_run_group_tests(tests, open_recorded, close_recorded);
}
