/* Attention with each kind of mask, against PyTorch's recorded numbers: results, gradients, weights. What the forms of a
 * call have in common; masks and shapes that don't fit. */
#include "fixture.h"

typedef struct kind {
    const char *name;
    fdl_nn_multihead_attention_opts o;
} kind;

static const kind kinds[] = {{"plain", {0}},
                             {"no_bias", {.no_bias = true}},
                             {"dims", {.kdim = 5, .vdim = 3}},
                             {"more", {.add_bias_kv = true, .add_zero_attn = true}}};
static const char *const masks[] = {"none",    "some",           "each", "number", "each_number",
                                    "padding", "padding_number", "both", "mixed",  "causal"};
enum { KINDS = 4, MASKS = 10 };

static bool on_gpu;

/* A recorded mask: whole numbers stand for bool. */
static fdl_tensor *mask_of(const char *mask, const char *key)
{
    char name[128];
    snprintf(name, sizeof name, "attention/%s.%s", mask, key);
    if (!fixture_has(name))
        return NULL;
    fdl_tensor *t = fixture_get(name);
    return fdl_dtype_of(t) == FDL_INT64 ? fdl_bool(t) : t;
}

static fdl_tensor *leaf(fdl_tensor *t)
{
    check_ok(fdl_requires_grad_(t, true));
    return t;
}

static void each_param(const char *name, fdl_module *m,
                       void (*f)(const char *name, fdl_param *p, const char *key))
{
    FDL_SCOPE;
    fdl_params *ps = fdl_parameters(m);
    for (int i = 0; i < fdl_params_count(ps); i++)
        f(name, fdl_params_at(ps, i), fdl_params_name(ps, i));
}

static void expect_initial(const char *name, fdl_param *p, const char *key)
{
    bool normal = strncmp(key, "bias_", 5) == 0;
    expect_recorded(fdl_param_tensor(p), name, "init", key, normal ? 1e-6 : 0);
}

static void load_state(const char *name, fdl_param *p, const char *key)
{
    check_ok(fdl_param_set(p, fixture_of(name, "state", key)));
}

static void expect_gradient(const char *name, fdl_param *p, const char *key)
{
    expect_recorded(fdl_grad(fdl_param_tensor(p)), name, "grad", key, 2e-5);
}

static fdl_module *make(int i, uint64_t seed)
{
    fdl_nn_multihead_attention_opts o = kinds[i].o;
    o.batch_first = seed % 2 == 1;
    return fdl_nn_multihead_attention_opt(4, 2, &o);
}

static void equals_pytorch(int i, const char *mask, uint64_t seed)
{
    FDL_SCOPE;
    char name[128];
    snprintf(name, sizeof name, "attention.%s.%s", kinds[i].name, mask);
    fdl_manual_seed(seed);
    fdl_module *m = make(i, seed);
    check_some(m);
    if (!on_gpu) /* which draws other numbers from a seed */
        each_param(name, m, expect_initial);
    each_param(name, m, load_state);
    fdl_tensor *q = leaf(fixture_of(name, "q", NULL)), *k = leaf(fixture_of(name, "k", NULL)),
               *v = leaf(fixture_of(name, "v", NULL));
    bool causal = strcmp(mask, "causal") == 0; /* by option, with and without kernels of its own */
    fdl_tensor *attn_mask = causal ? NULL : mask_of(mask, "attn_mask"),
               *padding = mask_of(mask, "key_padding_mask"), *seen;
    fdl_tensor *y =
        fdl_nn_mha_forward(m, q, k, v, .attn_mask = attn_mask, .key_padding_mask = padding, .causal = causal);
    expect_recorded(y, name, "y", NULL, 1e-5);
    check_ok(fdl_backward(recorded_loss(y)));
    expect_recorded(fdl_grad(q), name, "dq", NULL, 2e-5);
    expect_recorded(fdl_grad(k), name, "dk", NULL, 2e-5);
    expect_recorded(fdl_grad(v), name, "dv", NULL, 2e-5);
    each_param(name, m, expect_gradient);
    fdl_tensor *again = fdl_nn_mha_forward(m, q, k, v, .attn_mask = attn_mask, .key_padding_mask = padding,
                                           .causal = causal, .weights = &seen);
    expect_recorded(again, name, "y", NULL, 1e-5);
    expect_recorded(seen, name, "weights", NULL, 1e-5);
    check_some(fdl_nn_mha_forward(m, q, k, v, .attn_mask = attn_mask, .key_padding_mask = padding,
                                  .causal = causal, .weights = &seen, .per_head = true));
    expect_recorded(seen, name, "per_head", NULL, 1e-5);
    check_ok(fdl_module_free(m));
}

static void every_mask_equals_pytorch(void **state)
{
    (void)state;
    for (int i = 0; i < KINDS; i++)
        for (int k = 0; k < MASKS; k++)
            equals_pytorch(i, masks[k], (uint64_t)(i * MASKS + k));
}

static void encoders_take_masks_to_every_layer(void **state)
{
    (void)state;
    FDL_SCOPE;
    for (int order = 0; order < 2; order++) {
        const char *name = order ? "encoder.1" : "encoder.0";
        fdl_module *m = fdl_nn_transformer_encoder(
            fdl_nn_transformer_encoder_layer(4, 2, .ff = 6, .dropout = FDL_ZERO, .activation = fdl_gelu,
                                             .norm_first = order),
            2, .norm = fdl_nn_layer_norm(4));
        check_some(m);
        each_param(name, m, load_state);
        fdl_tensor *x = leaf(fixture_of(name, "x", NULL)), *padding = mask_of("padding", "key_padding_mask");
        fdl_tensor *later = fdl_triu(fdl_ones(FDL_SHAPE(4, 4), .dtype = FDL_BOOL), .diagonal = 1);
        fdl_tensor *y = fdl_nn_transformer_encoder_forward(m, x, .key_padding_mask = padding, .causal = true);
        expect_recorded(y, name, "y", NULL, 1e-5);
        check_ok(fdl_backward(recorded_loss(y)));
        expect_recorded(fdl_grad(x), name, "dx", NULL, 2e-5);
        expect_recorded(fdl_forward(m, x, later, padding), name, "y", NULL, 1e-5);
        fdl_module *g = fdl_flow(fdl_nn_identity(), fdl_flow_input("key_padding_mask", "attn_mask"), m,
                                 fdl_flow_using("key_padding_mask", "attn_mask"));
        check_some(g);
        expect_recorded(fdl_forward(g, x, padding, later), name, "y", NULL, 1e-5);
        check_ok(fdl_module_free(g));
    }
}

/* ---- forms of a call ------------------------------------------------------------------------------ */

static void expect_leaves(fdl_module *m, int n, const char *const *names, const fdl_shape *shapes)
{
    fdl_params *ps = fdl_parameters(m);
    assert_int_equal(fdl_params_count(ps), n);
    for (int i = 0; i < n; i++) {
        fdl_param *p = fdl_params_find(ps, names[i]);
        check_some(p);
        assert_true(fdl_shape_eq(fdl_shape_of(fdl_param_tensor(p)), shapes[i]));
    }
    check_ok(fdl_module_free(m));
}

static void parameters_are_named_as_pytorch_names_them(void **state)
{
    (void)state;
    FDL_SCOPE;
    expect_leaves(fdl_nn_multihead_attention(6, 2), 4,
                  (const char *const[]){"in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"},
                  (const fdl_shape[]){FDL_SHAPE(18, 6), FDL_SHAPE(18), FDL_SHAPE(6, 6), FDL_SHAPE(6)});
    expect_leaves(fdl_nn_multihead_attention(6, 2, .kdim = 4, .add_bias_kv = true, .no_bias = true), 6,
                  (const char *const[]){"q_proj_weight", "k_proj_weight", "v_proj_weight", "bias_k", "bias_v",
                                        "out_proj.weight"},
                  (const fdl_shape[]){FDL_SHAPE(6, 6), FDL_SHAPE(6, 4), FDL_SHAPE(6, 6), FDL_SHAPE(1, 1, 6),
                                      FDL_SHAPE(1, 1, 6), FDL_SHAPE(6, 6)});
}

/* The same numbers with samples first and second, alone, and to another sequence's length. */
static void layouts_are_transposes(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *first = fdl_nn_multihead_attention(6, 3, .batch_first = true),
               *second = fdl_nn_multihead_attention(6, 3);
    fdl_params *from = fdl_parameters(first), *to = fdl_parameters(second);
    for (int i = 0; i < fdl_params_count(to); i++)
        check_ok(fdl_param_set(fdl_params_at(to, i), fdl_param_tensor(fdl_params_at(from, i))));
    fdl_tensor *q = fdl_randn(FDL_SHAPE(2, 5, 6)), *kv = fdl_randn(FDL_SHAPE(2, 7, 6)), *w, *v;
    fdl_tensor *a = fdl_nn_mha_forward(first, q, kv, kv, .weights = &w);
    fdl_tensor *qt = fdl_transpose(q, 0, 1), *kvt = fdl_transpose(kv, 0, 1);
    fdl_tensor *b = fdl_nn_mha_forward(second, qt, kvt, kvt, .weights = &v);
    assert_true(fdl_shape_eq(fdl_shape_of(a), FDL_SHAPE(2, 5, 6)));
    assert_true(fdl_allclose(a, fdl_transpose(b, 0, 1), .atol = 1e-6));
    assert_true(fdl_shape_eq(fdl_shape_of(w), FDL_SHAPE(2, 5, 7)));
    assert_true(fdl_allclose(w, v, .atol = 1e-6));
    assert_true(fdl_allclose(fdl_sum_dim(w, -1), fdl_ones(FDL_SHAPE(2, 5)), .atol = 1e-6));
    check_ok(fdl_module_free(first));
    check_ok(fdl_module_free(second));
}

/* Causal is the triangle above the diagonal as a mask; a number is added to a score before the softmax. */
static void masks_are_what_is_done_to_the_scores(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_multihead_attention(4, 2, .causal = true),
               *plain = fdl_nn_multihead_attention(4, 2);
    fdl_params *from = fdl_parameters(m), *to = fdl_parameters(plain);
    for (int i = 0; i < fdl_params_count(to); i++)
        check_ok(fdl_param_set(fdl_params_at(to, i), fdl_param_tensor(fdl_params_at(from, i))));
    fdl_tensor *x = fdl_randn(FDL_SHAPE(5, 2, 4)), *w, *v;
    fdl_tensor *later = fdl_triu(fdl_ones(FDL_SHAPE(5, 5), .dtype = FDL_BOOL), .diagonal = 1);
    assert_true(fdl_allclose(fdl_forward(m, x), fdl_nn_mha_forward(plain, x, x, x, .attn_mask = later),
                             .atol = 1e-6));
    fdl_tensor *number = fdl_randn(FDL_SHAPE(5, 5));
    check_some(fdl_nn_mha_forward(plain, x, x, x, .weights = &w, .per_head = true));
    check_some(fdl_nn_mha_forward(plain, x, x, x, .attn_mask = number, .weights = &v, .per_head = true));
    assert_true(fdl_allclose(v, fdl_softmax(fdl_add(fdl_log(w), number), -1), .atol = 1e-6));
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(plain));
}

static void inputs_that_are_equal_may_be_the_same(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_multihead_attention(6, 2, .batch_first = true);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 5, 6)), *kv = fdl_randn(FDL_SHAPE(2, 3, 6));
    fdl_tensor *apart = fdl_forward(m, x, fdl_clone(x), fdl_clone(x));
    assert_true(fdl_allclose(fdl_forward(m, x), apart, .atol = 1e-6));
    assert_true(fdl_allclose(fdl_forward(m, x, fdl_clone(x)), apart, .atol = 1e-6));
    assert_true(fdl_allclose(fdl_forward(m, x, kv), fdl_forward(m, x, kv, fdl_clone(kv)), .atol = 1e-6));
    fdl_tensor *one = fdl_forward(m, fdl_select(x, 0, 1), fdl_select(kv, 0, 1));
    assert_true(fdl_allclose(one, fdl_select(fdl_forward(m, x, kv), 0, 1), .atol = 1e-6));
    check_ok(fdl_module_free(m));
}

static void a_padded_key_doesnt_matter(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_multihead_attention(4, 2);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(4, 1, 4)), *other = fdl_clone(x);
    check_ok(fdl_mul_scalar_(fdl_select(other, 0, 3), 100));
    fdl_tensor *padding = fdl_bool(fdl_reshape(fdl_vec(0, 0, 0, 1), FDL_SHAPE(1, 4)));
    fdl_tensor *a = fdl_nn_mha_forward(m, x, x, x, .key_padding_mask = padding);
    fdl_tensor *b = fdl_nn_mha_forward(m, x, other, other, .key_padding_mask = padding);
    assert_true(fdl_allclose(a, b, .atol = 1e-6));
    assert_false(fdl_allclose(fdl_forward(m, x), fdl_forward(m, x, other), .atol = 1e-3));
    check_ok(fdl_module_free(m));
}

static void dropout_is_for_training(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_multihead_attention(8, 2, .dropout = 0.5),
               *layer = fdl_nn_transformer_encoder_layer(8, 2, .ff = 16);
    fdl_module *both[] = {m, layer};
    fdl_tensor *x = fdl_randn(FDL_SHAPE(6, 3, 8)), *w;
    for (int i = 0; i < 2; i++) {
        assert_false(fdl_allclose(fdl_forward(both[i], x), fdl_forward(both[i], x)));
        check_ok(fdl_eval(both[i]));
        assert_true(fdl_same(fdl_forward(both[i], x), fdl_forward(both[i], x)));
    }
    check_some(fdl_nn_mha_forward(m, x, x, x, .weights = &w));
    assert_true(fdl_allclose(fdl_sum_dim(w, -1), fdl_ones(FDL_SHAPE(3, 6)), .atol = 1e-6));
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(layer));
}

static void copies_of_a_layer_are_their_own(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *layer = fdl_nn_transformer_encoder_layer(4, 2, .ff = 3);
    check_ok(fdl_module_to(layer, fdl_default_device(), .dtype = FDL_FLOAT64));
    check_ok(fdl_params_freeze(fdl_parameters(layer, .match = "norm1.*")));
    check_ok(fdl_eval(layer));
    fdl_module *m = fdl_nn_transformer_encoder(layer, 3);
    fdl_params *ps = fdl_parameters(m);
    assert_int_equal(fdl_params_count(ps), 36);
    fdl_param *first = fdl_params_find(ps, "layers.0.linear1.weight"),
              *last = fdl_params_find(ps, "layers.2.linear1.weight");
    assert_int_equal(fdl_dtype_of(fdl_param_tensor(last)), FDL_FLOAT64);
    assert_true(fdl_same(fdl_param_tensor(first), fdl_param_tensor(last)));
    check_ok(fdl_init_zeros(fdl_param_tensor(last)));
    assert_false(fdl_same(fdl_param_tensor(first), fdl_param_tensor(last)));
    assert_true(fdl_param_is_frozen(fdl_params_find(ps, "layers.2.norm1.weight")));
    assert_false(fdl_param_is_frozen(fdl_params_find(ps, "layers.2.norm2.weight")));
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 1, 4), .dtype = FDL_FLOAT64);
    assert_true(fdl_same(fdl_forward(m, x), fdl_forward(m, x)));
    check_ok(fdl_module_free(m));
}

/* ---- what is refused ------------------------------------------------------------------------------ */

static void what_doesnt_fit_is_refused(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_multihead_attention(4, 2, .kdim = 3), *relu = fdl_nn_relu(),
               *layer = fdl_nn_transformer_encoder_layer(4, 2);
    fdl_tensor *q = fdl_randn(FDL_SHAPE(5, 2, 4)), *k = fdl_randn(FDL_SHAPE(6, 2, 3)),
               *v = fdl_randn(FDL_SHAPE(6, 2, 4)), *w = q;
    check_some(fdl_nn_mha_forward(m, q, k, v));
    assert_null(fdl_forward(m, q));
    check_error(FDL_E_SHAPE, "the key is", "[5, 2, 4]", "[L, N, 3]");
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(4)), k, v));
    check_error(FDL_E_SHAPE, "the query is", "[4]");
    assert_null(fdl_forward(m, q, k, fdl_narrow(v, 0, 0, 5)));
    check_error(FDL_E_SHAPE, "the value is", "key", "lengths differ");
    assert_null(fdl_forward(m, q, fdl_narrow(k, 1, 0, 1), v));
    check_error(FDL_E_SHAPE, "the key is", "query", "numbers of samples");
    assert_null(fdl_forward(m, q, fdl_select(k, 1, 0), v));
    check_error(FDL_E_SHAPE, "the key is", "query", "numbers of dims");
    assert_null(fdl_nn_mha_forward(m, q, k, v, .attn_mask = fdl_zeros(FDL_SHAPE(6, 5)), .weights = &w));
    check_error(FDL_E_SHAPE, "attn_mask is", "[6, 5]", "[5, 6]", "[4, 5, 6]");
    assert_null(w);
    assert_null(fdl_nn_mha_forward(m, q, k, v, .key_padding_mask = fdl_zeros(FDL_SHAPE(6, 2))));
    check_error(FDL_E_SHAPE, "key_padding_mask is", "[6, 2]", "[2, 6]");
    assert_null(fdl_nn_mha_forward(m, q, k, v, .attn_mask = fdl_zeros(FDL_SHAPE(5, 6), .dtype = FDL_UINT8)));
    check_error(FDL_E_DTYPE, "attn_mask is uint8", "bool");
    assert_null(fdl_forward(m, q, k, v, q));
    check_error(FDL_E_ARG, "one input too many");
    assert_null(fdl_nn_mha_forward(relu, q, k, v));
    check_error(FDL_E_ARG, "m is a relu", "multihead_attention");
    assert_null(fdl_nn_mha_forward(m, q, NULL, v));
    check_error(FDL_E_NULL, "k");
    assert_null(fdl_nn_transformer_encoder_forward(m, q));
    check_error(FDL_E_ARG, "m is a multihead_attention", "transformer_encoder");
    assert_null(fdl_nn_transformer_encoder_forward(layer, NULL));
    check_error(FDL_E_NULL, "x");
    assert_null(fdl_forward(layer, q, q, q, q));
    check_error(FDL_E_ARG, "one input too many");
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(relu));
    check_ok(fdl_module_free(layer));
}

static void constructors_refuse_and_free(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    assert_null(fdl_nn_multihead_attention(10, 3));
    check_error(FDL_E_ARG, "multihead_attention", "dim 10", "heads 3");
    assert_null(fdl_nn_multihead_attention(4, 2, .dropout = 1.5));
    check_error(FDL_E_ARG, "dropout is 1.5");
    assert_null(fdl_nn_multihead_attention(4, 2, .kdim = -1));
    check_error(FDL_E_ARG, "kdim is -1");
    assert_null(fdl_nn_transformer_encoder_layer(4, 0));
    check_error(FDL_E_ARG, "heads is 0");
    assert_null(fdl_nn_transformer_encoder_layer(4, 2, .ff = -2));
    check_error(FDL_E_ARG, "ff is -2");
    assert_null(fdl_nn_transformer_encoder(fdl_nn_transformer_encoder_layer(4, 2), 0));
    check_error(FDL_E_ARG, "n is 0");
    assert_null(fdl_nn_transformer_encoder(fdl_nn_linear(4, 2), 2, .norm = fdl_nn_layer_norm(4)));
    check_error(FDL_E_ARG, "layer is a linear");
    assert_null(fdl_nn_transformer_encoder(fdl_nn_transformer_encoder_layer(5, 2), 2));
    check_error(FDL_E_ARG, "dim 5");
    assert_null(
        fdl_nn_transformer_encoder(fdl_nn_transformer_encoder_layer(4, 2), 2, .norm = fdl_nn_layer_norm(0)));
    check_error(FDL_E_ARG, "n is 0");
    assert_null(fdl_nn_transformer_encoder(NULL, 2));
    check_error(FDL_E_NULL, "child");
    assert_null(fdl_nn_softmax_router(0, 2));
    check_error(FDL_E_ARG, "dim is 0");
    assert_null(fdl_nn_sigmoid_router(2, 0));
    check_error(FDL_E_ARG, "n is 0");
    assert_int_equal(fdl_live_tensors(), before);
}

int main(void)
{
    on_gpu = on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mask_equals_pytorch),
        cmocka_unit_test(encoders_take_masks_to_every_layer),
        cmocka_unit_test(parameters_are_named_as_pytorch_names_them),
        cmocka_unit_test(layouts_are_transposes),
        cmocka_unit_test(masks_are_what_is_done_to_the_scores),
        cmocka_unit_test(inputs_that_are_equal_may_be_the_same),
        cmocka_unit_test(a_padded_key_doesnt_matter),
        cmocka_unit_test(dropout_is_for_training),
        cmocka_unit_test(copies_of_a_layer_are_their_own),
        cmocka_unit_test(what_doesnt_fit_is_refused),
        cmocka_unit_test(constructors_refuse_and_free),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
