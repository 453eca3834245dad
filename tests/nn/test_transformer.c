/* Decoders and transformers with each kind of mask, against PyTorch's recorded numbers: results and gradients. What the forms of a
 * call have in common; copies of layers, custom parts; what is refused. */
#include "fixture.h"

static bool on_gpu;

/* ---- as PyTorch ----------------------------------------------------------------------------------- */

static fdl_module *new_layer(void)
{
    return fdl_nn_transformer_decoder_layer(4, 2, .ff = 5, .dropout = FDL_ZERO);
}

static fdl_module *new_layer_first(void)
{
    return fdl_nn_transformer_decoder_layer(4, 2, .ff = 5, .dropout = FDL_ZERO, .norm_first = true,
                                            .batch_first = true);
}

static fdl_module *new_decoder(void)
{
    return fdl_nn_transformer_decoder(fdl_nn_transformer_decoder_layer(4, 2, .ff = 5, .dropout = FDL_ZERO,
                                                                       .no_bias = true,
                                                                       .activation = fdl_gelu),
                                      2);
}

static fdl_module *new_decoder_norm(void)
{
    return fdl_nn_transformer_decoder(
        fdl_nn_transformer_decoder_layer(4, 2, .ff = 5, .dropout = FDL_ZERO, .norm_first = true), 2,
        .norm = fdl_nn_layer_norm(4));
}

static fdl_module *new_transformer(void)
{
    return fdl_nn_transformer(4, 2, .encoder_layers = 1, .decoder_layers = 2, .ff = 5, .dropout = FDL_ZERO);
}

static fdl_module *new_transformer_first(void)
{
    return fdl_nn_transformer(4, 2, .encoder_layers = 1, .decoder_layers = 1, .ff = 3, .dropout = FDL_ZERO,
                              .activation = fdl_gelu, .batch_first = true, .norm_first = true);
}

static fdl_module *new_transformer_no_bias(void)
{
    return fdl_nn_transformer(4, 2, .encoder_layers = 1, .decoder_layers = 1, .ff = 3, .dropout = FDL_ZERO,
                              .no_bias = true);
}

static fdl_module *new_transformer_custom(void)
{
    return fdl_nn_transformer(4, 2,
                              .encoder = fdl_nn_transformer_encoder(
                                  fdl_nn_transformer_encoder_layer(4, 2, .ff = 3, .dropout = FDL_ZERO), 1),
                              .decoder = fdl_nn_transformer_decoder(
                                  fdl_nn_transformer_decoder_layer(4, 2, .ff = 5, .dropout = FDL_ZERO), 1));
}

typedef struct kind {
    const char *name;
    fdl_module *(*make)(void);
    bool whole; /* source and target instead of target and memory */
} kind;

static const kind kinds[] = {{"layer", new_layer, false},
                             {"layer_first", new_layer_first, false},
                             {"decoder", new_decoder, false},
                             {"decoder_norm", new_decoder_norm, false},
                             {"transformer", new_transformer, true},
                             {"transformer_first", new_transformer_first, true},
                             {"transformer_no_bias", new_transformer_no_bias, true},
                             {"transformer_custom", new_transformer_custom, true}};
static const char *const masks[] = {"none",       "src",           "src_padding",    "tgt",
                                    "tgt_number", "tgt_each",      "tgt_padding",    "causal",
                                    "memory",     "memory_number", "memory_padding", "memory_causal",
                                    "all"};
enum { KINDS = sizeof kinds / sizeof *kinds, MASKS = sizeof masks / sizeof *masks };

/* A recorded mask: whole numbers stand for bool. */
static fdl_tensor *mask_of(const char *mask, const char *key)
{
    char name[128];
    snprintf(name, sizeof name, "transformers/%s.%s", mask, key);
    if (!fixture_has(name))
        return NULL;
    fdl_tensor *t = fixture_get(name);
    return fdl_dtype_of(t) == FDL_INT64 ? fdl_bool(t) : t;
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
    expect_recorded(fdl_param_tensor(p), name, "init", key, 0);
}

static void load_state(const char *name, fdl_param *p, const char *key)
{
    check_ok(fdl_param_set(p, fixture_of(name, "state", key)));
}

static void expect_gradient(const char *name, fdl_param *p, const char *key)
{
    expect_recorded(fdl_grad(fdl_param_tensor(p)), name, "grad", key, 3e-5);
}

static void forget_gradient(const char *name, fdl_param *p, const char *key)
{
    (void)name;
    (void)key;
    check_ok(fdl_set_grad(fdl_param_tensor(p), NULL));
}

static fdl_module *loaded(const kind *k)
{
    char model[128];
    snprintf(model, sizeof model, "%s.model", k->name);
    fdl_module *m = k->make();
    check_some(m);
    each_param(model, m, load_state);
    return m;
}

/* The two inputs of a kind, leaves. */
static void inputs_of(const kind *k, fdl_tensor *x[2])
{
    char model[128];
    snprintf(model, sizeof model, "%s.model", k->name);
    for (int i = 0; i < 2; i++) {
        x[i] = fixture_of(model, i ? "in1" : "in0", NULL);
        check_ok(fdl_requires_grad_(x[i], true));
    }
}

/* By the typed call; triangles by option, without a mask. */
static fdl_tensor *called(const kind *k, fdl_module *m, fdl_tensor *const x[2], const char *mask)
{
    bool causal = strcmp(mask, "causal") == 0, memory_causal = strcmp(mask, "memory_causal") == 0;
    fdl_tensor *src = mask_of(mask, "src_mask"), *tgt = causal ? NULL : mask_of(mask, "tgt_mask"),
               *memory = memory_causal ? NULL : mask_of(mask, "memory_mask"),
               *src_padding = mask_of(mask, "src_key_padding_mask"),
               *tgt_padding = mask_of(mask, "tgt_key_padding_mask"),
               *memory_padding = mask_of(mask, "memory_key_padding_mask");
    if (k->whole)
        return fdl_nn_transformer_forward(
            m, x[0], x[1], .src_mask = src, .tgt_mask = tgt, .memory_mask = memory,
            .src_key_padding_mask = src_padding, .tgt_key_padding_mask = tgt_padding,
            .memory_key_padding_mask = memory_padding, .tgt_causal = causal, .memory_causal = memory_causal);
    return fdl_nn_transformer_decoder_forward(
        m, x[0], x[1], .tgt_mask = tgt, .memory_mask = memory, .tgt_key_padding_mask = tgt_padding,
        .memory_key_padding_mask = memory_padding, .tgt_causal = causal, .memory_causal = memory_causal);
}

static void kinds_begin_as_pytorch(void **state)
{
    (void)state;
    if (on_gpu) /* which draws other numbers from a seed */
        skip();
    for (int i = 0; i < KINDS; i++) {
        char model[128];
        snprintf(model, sizeof model, "%s.model", kinds[i].name);
        check_ok(fdl_manual_seed((uint64_t)i));
        fdl_module *m = kinds[i].make();
        check_some(m);
        each_param(model, m, expect_initial);
        check_ok(fdl_module_free(m));
    }
}

static void equals_pytorch(const kind *k, fdl_module *m, const char *mask)
{
    FDL_SCOPE;
    char name[128], gradient[160];
    fdl_tensor *x[2];
    snprintf(name, sizeof name, "%s.%s", k->name, mask);
    snprintf(gradient, sizeof gradient, "%s/y", name);
    if (!fixture_has(gradient)) {
        assert_true(!k->whole && strncmp(mask, "src", 3) == 0);
        return;
    }
    inputs_of(k, x);
    each_param(name, m, forget_gradient);
    fdl_tensor *y = called(k, m, x, mask);
    expect_recorded(y, name, "y", NULL, 1e-5);
    check_ok(fdl_backward(recorded_loss(y)));
    expect_recorded(fdl_grad(x[0]), name, "d0", NULL, 3e-5);
    expect_recorded(fdl_grad(x[1]), name, "d1", NULL, 3e-5);
    if (strcmp(mask, "none") == 0 || strcmp(mask, "all") == 0)
        each_param(name, m, expect_gradient);
}

static void every_mask_equals_pytorch(void **state)
{
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        fdl_module *m = loaded(&kinds[i]);
        for (int k = 0; k < MASKS; k++)
            equals_pytorch(&kinds[i], m, masks[k]);
        check_ok(fdl_module_free(m));
    }
}

/* ---- forms of a call ------------------------------------------------------------------------------ */

static void masks_come_by_position_and_by_name(void **state)
{
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        FDL_SCOPE;
        const kind *k = &kinds[i];
        char name[128];
        snprintf(name, sizeof name, "%s.all", k->name);
        fdl_module *m = loaded(k);
        fdl_tensor *x[2];
        inputs_of(k, x);
        fdl_tensor *s = mask_of("all", "src_mask"), *t = mask_of("all", "tgt_mask"),
                   *o = mask_of("all", "memory_mask"), *sp = mask_of("all", "src_key_padding_mask"),
                   *tp = mask_of("all", "tgt_key_padding_mask"),
                   *op = mask_of("all", "memory_key_padding_mask");
        fdl_tensor *y = k->whole ? fdl_forward(m, x[0], x[1], s, t, o, sp, tp, op)
                                 : fdl_forward(m, x[0], x[1], t, o, tp, op);
        expect_recorded(y, name, "y", NULL, 1e-5);
        if (k->whole) {
            fdl_module *g = fdl_flow(
                fdl_nn_identity(),
                fdl_flow_input("target", "memory_mask", "tgt_mask", "src_mask", "memory_key_padding_mask",
                               "tgt_key_padding_mask", "src_key_padding_mask"),
                m,
                fdl_flow_using("memory_mask", "target", "tgt_mask", "src_mask", "memory_key_padding_mask",
                               "tgt_key_padding_mask", "src_key_padding_mask"));
            check_some(g);
            expect_recorded(fdl_forward(g, x[0], x[1], o, t, s, op, tp, sp), name, "y", NULL, 1e-5);
            check_ok(fdl_module_free(g));
        } else {
            fdl_module *g = fdl_flow(fdl_nn_identity(),
                                     fdl_flow_input("memory_key_padding_mask", "tgt_mask", "encoded",
                                                    "memory_mask", "tgt_key_padding_mask"),
                                     m,
                                     fdl_flow_using("memory_key_padding_mask", "tgt_mask", "encoded",
                                                    "memory_mask", "tgt_key_padding_mask"));
            check_some(g);
            expect_recorded(fdl_forward(g, x[0], op, t, x[1], o, tp), name, "y", NULL, 1e-5);
            check_ok(fdl_module_free(g));
        }
    }
}

static void a_causal_decoder_looks_back_only(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_transformer(8, 2, .encoder_layers = 1, .decoder_layers = 2, .ff = 8,
                                       .batch_first = true, .causal = true);
    check_ok(fdl_eval(m));
    fdl_tensor *source = fdl_randn(FDL_SHAPE(2, 3, 8)), *target = fdl_randn(FDL_SHAPE(2, 5, 8)),
               *other = fdl_clone(target);
    check_ok(fdl_mul_scalar_(fdl_narrow(other, 1, 3, 2), -2));
    fdl_tensor *a = fdl_forward(m, source, target), *b = fdl_forward(m, source, other);
    assert_true(fdl_allclose(fdl_narrow(a, 1, 0, 3), fdl_narrow(b, 1, 0, 3), .atol = 1e-6));
    assert_false(fdl_allclose(fdl_narrow(a, 1, 3, 2), fdl_narrow(b, 1, 3, 2), .atol = 1e-3));
    fdl_tensor *masked =
        fdl_nn_transformer_forward(m, source, target, .tgt_mask = fdl_square_subsequent_mask(5));
    assert_true(fdl_allclose(a, masked, .atol = 1e-6));
    fdl_tensor *memory = fdl_forward(fdl_nn_transformer_encoder_of(m), source);
    assert_true(fdl_allclose(fdl_forward(fdl_nn_transformer_decoder_of(m), target, memory), a, .atol = 1e-6));
    check_ok(fdl_module_free(m));
}

/* Of the source, by the call; of an encoder's layers, by their option: each is the triangle as a mask. */
static void a_causal_encoder_looks_back_only(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m =
        fdl_nn_transformer(8, 2, .encoder_layers = 2, .decoder_layers = 1, .ff = 8, .batch_first = true);
    fdl_module *by_option = fdl_nn_transformer_encoder(
        fdl_nn_transformer_encoder_layer(8, 2, .ff = 8, .batch_first = true, .causal = true), 2,
        .norm = fdl_nn_layer_norm(8));
    check_some(by_option);
    check_ok(fdl_eval(m));
    check_ok(fdl_eval(by_option));
    fdl_module *encoder = fdl_nn_transformer_encoder_of(m);
    fdl_params *from = fdl_parameters(encoder), *to = fdl_parameters(by_option);
    assert_int_equal(fdl_params_count(from), fdl_params_count(to));
    for (int i = 0; i < fdl_params_count(to); i++)
        check_ok(fdl_param_set(fdl_params_at(to, i), fdl_param_tensor(fdl_params_at(from, i))));
    fdl_tensor *source = fdl_randn(FDL_SHAPE(2, 5, 8)), *target = fdl_randn(FDL_SHAPE(2, 3, 8));
    fdl_tensor *triangle = fdl_square_subsequent_mask(5);
    fdl_tensor *masked = fdl_nn_transformer_forward(m, source, target, .src_mask = triangle);
    fdl_tensor *causal = fdl_nn_transformer_forward(m, source, target, .src_causal = true);
    assert_true(fdl_allclose(causal, masked, .atol = 1e-6));
    assert_false(fdl_allclose(causal, fdl_forward(m, source, target), .atol = 1e-4));
    assert_true(fdl_allclose(fdl_forward(by_option, source),
                             fdl_nn_transformer_encoder_forward(encoder, source, .attn_mask = triangle),
                             .atol = 1e-6));
    check_ok(fdl_module_free(by_option));
    check_ok(fdl_module_free(m));
}

static void dropout_is_for_training(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *both[] = {fdl_nn_transformer_decoder_layer(8, 2, .ff = 16),
                          fdl_nn_transformer(8, 2, .encoder_layers = 1, .decoder_layers = 1, .ff = 16)};
    fdl_tensor *x = fdl_randn(FDL_SHAPE(6, 3, 8)), *y = fdl_randn(FDL_SHAPE(4, 3, 8));
    for (int i = 0; i < 2; i++) {
        assert_false(fdl_allclose(fdl_forward(both[i], x, y), fdl_forward(both[i], x, y)));
        check_ok(fdl_eval(both[i]));
        assert_true(fdl_same(fdl_forward(both[i], x, y), fdl_forward(both[i], x, y)));
        check_ok(fdl_module_free(both[i]));
    }
}

static void copies_of_a_layer_are_their_own(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *layer = fdl_nn_transformer_decoder_layer(4, 2, .ff = 3);
    check_ok(fdl_module_to(layer, fdl_default_device(), .dtype = FDL_FLOAT64));
    check_ok(fdl_params_freeze(fdl_parameters(layer, .match = "norm3.*")));
    check_ok(fdl_eval(layer));
    fdl_tensor *random = fdl_rng_state(fdl_default_device());
    fdl_module *m = fdl_nn_transformer_decoder(layer, 3);
    assert_true(fdl_same(random, fdl_rng_state(fdl_default_device())));
    fdl_params *ps = fdl_parameters(m);
    assert_int_equal(fdl_params_count(ps), 3 * 18);
    fdl_param *first = fdl_params_find(ps, "layers.0.multihead_attn.in_proj_weight"),
              *last = fdl_params_find(ps, "layers.2.multihead_attn.in_proj_weight");
    assert_int_equal(fdl_dtype_of(fdl_param_tensor(last)), FDL_FLOAT64);
    assert_true(fdl_same(fdl_param_tensor(first), fdl_param_tensor(last)));
    check_ok(fdl_init_zeros(fdl_param_tensor(last)));
    assert_false(fdl_same(fdl_param_tensor(first), fdl_param_tensor(last)));
    assert_true(fdl_param_is_frozen(fdl_params_find(ps, "layers.2.norm3.weight")));
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 1, 4), .dtype = FDL_FLOAT64);
    assert_true(fdl_same(fdl_forward(m, x, x), fdl_forward(m, x, x)));
    check_ok(fdl_module_free(m));
}

/* ---- made again ----------------------------------------------------------------------------------- */

static fdl_tensor *add_memory(fdl_tensor *x, const fdl_refs *r)
{
    return fdl_add(x, fdl_mean_dim(fdl_refs_at(r, 0), 0, .keepdim = true));
}

static void custom_parts_may_be_any_modules(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_ok(fdl_manual_seed(1));
    fdl_module *m =
        fdl_nn_transformer(4, 2, .encoder = fdl_nn_linear(4, 4), .decoder = fdl_nn_fn_refs(add_memory));
    check_some(m);
    fdl_tensor *s = fdl_randn(FDL_SHAPE(3, 2, 4)), *t = fdl_randn(FDL_SHAPE(5, 2, 4));
    fdl_tensor *want =
        fdl_add(t, fdl_mean_dim(fdl_forward(fdl_nn_transformer_encoder_of(m), s), 0, .keepdim = true));
    assert_true(fdl_allclose(fdl_forward(m, s, t), want, .atol = 1e-6));
    double largest =
        fdl_item(fdl_max(fdl_abs(fdl_param_tensor(fdl_params_find(fdl_parameters(m), "encoder.weight")))));
    assert_true(largest > 0.5 &&
                largest <= 0.8660255); /* Xavier's bound of 4, 4: sqrt(6 / 8); a linear's is 0.5 */
    assert_null(fdl_nn_transformer_forward(m, s, t, .src_causal = true));
    check_error(FDL_E_ARG, "encoder is a linear", "masks");
    assert_null(fdl_nn_transformer_forward(m, s, t, .tgt_causal = true));
    check_error(FDL_E_ARG, "decoder is a", "masks");
    check_ok(fdl_module_free(m));
}

static void topology_and_clones_have_both_parts(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_identity(), fdl_flow_input("target"),
                             fdl_nn_transformer(4, 2, .encoder_layers = 2, .decoder_layers = 1, .ff = 3,
                                                .activation = fdl_gelu, .norm_first = true, .no_bias = true,
                                                .causal = true),
                             fdl_flow_using("target"));
    check_some(g);
    check_ok(fdl_eval(g));
    fdl_module *h = fdl_module_clone(g);
    check_some(h);
    fdl_tensor *s = fdl_randn(FDL_SHAPE(3, 2, 4)), *t = fdl_randn(FDL_SHAPE(5, 2, 4));
    check_ok(fdl_eval(h));
    assert_true(fdl_same(fdl_forward(g, s, t), fdl_forward(h, s, t)));
    assert_string_equal(fdl_graph_hash(g), fdl_graph_hash(h));
    check_ok(fdl_module_free(g));
    check_ok(fdl_module_free(h));
}

/* ---- what is refused ------------------------------------------------------------------------------ */

static void what_doesnt_fit_is_refused(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *layer = fdl_nn_transformer_decoder_layer(4, 2, .ff = 3),
               *m = fdl_nn_transformer(4, 2, .encoder_layers = 1, .decoder_layers = 1, .ff = 3),
               *relu = fdl_nn_relu();
    fdl_tensor *t = fdl_randn(FDL_SHAPE(5, 2, 4)), *memory = fdl_randn(FDL_SHAPE(6, 2, 4));
    assert_null(fdl_forward(layer, t));
    check_error(FDL_E_ARG, "2 inputs", "target and memory", "got 1");
    assert_null(fdl_forward(m, t));
    check_error(FDL_E_ARG, "2 inputs", "source and target", "got 1");
    assert_null(fdl_forward(layer, t, memory, t, t, t, t, t));
    check_error(FDL_E_ARG, "one input too many");
    assert_null(fdl_nn_transformer_decoder_forward(layer, t, memory, .tgt_mask = fdl_zeros(FDL_SHAPE(5, 6))));
    check_error(FDL_E_SHAPE, "attn_mask is", "[5, 6]", "[5, 5]");
    assert_null(fdl_nn_transformer_decoder_forward(layer, t, memory,
                                                   .memory_key_padding_mask = fdl_zeros(FDL_SHAPE(2, 5))));
    check_error(FDL_E_SHAPE, "key_padding_mask is", "[2, 5]", "[2, 6]");
    assert_null(fdl_forward(layer, t, fdl_randn(FDL_SHAPE(6, 3, 4))));
    check_error(FDL_E_SHAPE, "numbers of samples");
    assert_null(fdl_forward(layer, t, fdl_randn(FDL_SHAPE(6, 2, 3))));
    check_error(FDL_E_SHAPE, "the key is", "[L, N, 4]");
    assert_null(fdl_nn_transformer_decoder_forward(relu, t, memory));
    check_error(FDL_E_ARG, "m is a relu", "transformer_decoder");
    assert_null(fdl_nn_transformer_decoder_forward(layer, t, NULL));
    check_error(FDL_E_NULL, "memory");
    assert_null(fdl_nn_transformer_forward(layer, t, memory));
    check_error(FDL_E_ARG, "m is a transformer_decoder_layer", "must be a transformer");
    assert_null(fdl_nn_transformer_forward(m, NULL, t));
    check_error(FDL_E_NULL, "source");
    assert_null(fdl_nn_transformer_forward(NULL, t, t));
    check_error(FDL_E_NULL, "m");
    assert_null(fdl_nn_transformer_decoder_of(relu));
    check_error(FDL_E_ARG, "m is a relu");
    check_ok(fdl_module_free(layer));
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(relu));
}

static void constructors_refuse_and_free(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    assert_null(fdl_nn_transformer_decoder_layer(10, 3));
    check_error(FDL_E_ARG, "transformer_decoder_layer", "dim 10", "heads 3");
    assert_null(fdl_nn_transformer_decoder_layer(4, 2, .dropout = 2));
    check_error(FDL_E_ARG, "dropout is 2");
    assert_null(fdl_nn_transformer_decoder_layer(4, 2, .ff = -1));
    check_error(FDL_E_ARG, "ff is -1");
    assert_null(fdl_nn_transformer_decoder(fdl_nn_transformer_decoder_layer(4, 2), 0));
    check_error(FDL_E_ARG, "n is 0");
    assert_null(
        fdl_nn_transformer_decoder(fdl_nn_transformer_encoder_layer(4, 2), 2, .norm = fdl_nn_layer_norm(4)));
    check_error(FDL_E_ARG, "layer is a transformer_encoder_layer", "must be a transformer_decoder_layer");
    assert_null(
        fdl_nn_transformer_decoder(fdl_nn_transformer_decoder_layer(4, 2), 2, .norm = fdl_nn_layer_norm(0)));
    check_error(FDL_E_ARG, "n is 0");
    assert_null(fdl_nn_transformer_decoder(NULL, 2));
    check_error(FDL_E_NULL, "child");
    assert_null(fdl_nn_transformer(10, 3));
    check_error(FDL_E_ARG, "fdl_nn_transformer:", "dim 10", "heads 3");
    assert_null(fdl_nn_transformer(4, 2, .encoder_layers = -1));
    check_error(FDL_E_ARG, "encoder_layers is -1");
    assert_null(fdl_nn_transformer(4, 2, .encoder = fdl_nn_relu(), .encoder_layers = 2));
    check_error(FDL_E_ARG, ".encoder", "exclude");
    assert_null(fdl_nn_transformer(4, 2, .decoder = fdl_nn_relu(), .decoder_layers = 2));
    check_error(FDL_E_ARG, ".decoder", "exclude");
    assert_null(fdl_nn_transformer(4, 2, .decoder = fdl_nn_linear(4, 4), .causal = true));
    check_error(FDL_E_ARG, ".causal");
    assert_null(fdl_nn_transformer(4, 2, .encoder = fdl_nn_linear(4, 4), .decoder = fdl_nn_linear(0, 4)));
    check_error(FDL_E_ARG, "in is 0");
    assert_null(fdl_nn_transformer(4, 2, .eps = -1));
    check_error(FDL_E_ARG, "eps is -1");
    assert_int_equal(fdl_live_tensors(), before);
}

int main(void)
{
    on_gpu = on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_begin_as_pytorch),
        cmocka_unit_test(every_mask_equals_pytorch),
        cmocka_unit_test(masks_come_by_position_and_by_name),
        cmocka_unit_test(a_causal_decoder_looks_back_only),
        cmocka_unit_test(a_causal_encoder_looks_back_only),
        cmocka_unit_test(dropout_is_for_training),
        cmocka_unit_test(copies_of_a_layer_are_their_own),
        cmocka_unit_test(custom_parts_may_be_any_modules),
        cmocka_unit_test(topology_and_clones_have_both_parts),
        cmocka_unit_test(what_doesnt_fit_is_refused),
        cmocka_unit_test(constructors_refuse_and_free),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
