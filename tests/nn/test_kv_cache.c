/* Writing one token after another with a cache gives what one call on the whole sequence gives: encoders and decoders that look back,
 * rotary positions, ALiBi, fewer heads of keys. What is refused, and going back. */
#include "check.h"

#include <pthread.h>

enum { TOKENS = 9, WORDS = 11 };

static bool on_gpu;

/* Learned positions, a stack of layers that look back. */
static fdl_module *new_gpt(void)
{
    return fdl_flow(
        fdl_nn_embedding(WORDS, 8), fdl_nn_position_embedding(TOKENS, 8, .batch_first = true),
        fdl_nn_transformer_encoder(fdl_nn_transformer_encoder_layer(8, 2, .ff = 12, .norm_first = true,
                                                                    .batch_first = true, .causal = true),
                                   2, .norm = fdl_nn_layer_norm(8)),
        fdl_nn_linear(8, WORDS));
}

/* Rotary positions, grouped queries, swiglu: put together from parts. */
static fdl_module *new_llama(void)
{
    fdl_flow_builder *b = fdl_flow_new();
    fdl_flow_add(b, fdl_nn_embedding(WORDS, 8));
    for (int i = 0; i < 2; i++) {
        fdl_flow_add(b, fdl_flow_also(fdl_flow(fdl_nn_rms_norm(8),
                                               fdl_nn_multihead_attention(
                                                   8, 4, .kv_heads = 2, .rope = true, .rope_base = 100,
                                                   .no_bias = true, .batch_first = true, .causal = true))));
        fdl_flow_add(b, fdl_flow_also(fdl_flow(fdl_nn_rms_norm(8), fdl_nn_linear(8, 24, .no_bias = true),
                                               fdl_nn_swiglu(-1), fdl_nn_linear(12, 8, .no_bias = true))));
    }
    fdl_flow_add(b, fdl_nn_linear(8, WORDS));
    return fdl_flow_build(b);
}

/* ALiBi, one head of keys for all, a key and a value of its own and zeros besides. */
static fdl_module *new_alibi(void)
{
    return fdl_flow(fdl_nn_embedding(WORDS, 12),
                    fdl_nn_multihead_attention(12, 3, .kv_heads = 1, .alibi = true, .add_bias_kv = true,
                                               .add_zero_attn = true, .batch_first = true, .causal = true),
                    fdl_nn_multihead_attention(12, 3, .rope = true, .rope_interleaved = true,
                                               .batch_first = true, .causal = true));
}

typedef fdl_module *(*new_model)(void);
static const new_model models[] = {new_gpt, new_llama, new_alibi};
enum { MODELS = sizeof models / sizeof *models };

static fdl_module *ready(new_model make)
{
    check_ok(fdl_manual_seed(3));
    fdl_module *m = make();
    check_some(m);
    check_ok(fdl_eval(m));
    return m;
}

static fdl_tensor *tokens(int64_t n)
{
    return fdl_randint(0, WORDS, FDL_SHAPE(n, TOKENS));
}

static fdl_tensor *from_to(fdl_tensor *x, int64_t from, int64_t to)
{
    return fdl_narrow(x, 1, from, to - from);
}

/* m on x [N, L, ..] in pieces that end at ends[n], one behind the other. */
static fdl_tensor *in_pieces(fdl_module *m, fdl_tensor *x, fdl_kv_cache *c, int n, const int64_t *ends)
{
    FDL_NO_GRAD;
    FDL_KV_CACHE(c);
    fdl_tensor *y[TOKENS] = {NULL};
    for (int i = 0; i < n; i++) {
        int64_t from = i ? ends[i - 1] : fdl_kv_cache_len(c);
        y[i] = fdl_forward(m, from_to(x, from, ends[i]));
        check_some(y[i]);
        assert_int_equal(fdl_kv_cache_len(c), ends[i]);
    }
    return fdl_cat((fdl_list){n, y}, 1);
}

static void pieces_equal_the_whole(void **state)
{
    (void)state;
    static const int64_t one_by_one[] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, prompt[] = {4, 5, 6, 7, 8, 9},
                         chunks[] = {2, 5, 6, 9}, at_once[] = {9};
    static const struct {
        int n;
        const int64_t *ends;
    } ways[] = {{9, one_by_one}, {6, prompt}, {4, chunks}, {1, at_once}};
    for (int k = 0; k < MODELS; k++) {
        FDL_SCOPE;
        fdl_module *m = ready(models[k]);
        fdl_tensor *x = tokens(2), *whole = fdl_forward(m, x);
        check_some(whole);
        for (int i = 0; i < 4; i++) {
            fdl_kv_cache *c = fdl_kv_cache_new(TOKENS);
            check_some(c);
            fdl_tensor *y = in_pieces(m, x, c, ways[i].n, ways[i].ends);
            assert_true(fdl_allclose(y, whole, .rtol = 1e-5, .atol = 2e-6));
            fdl_kv_cache_free(c);
        }
        fdl_tensor *again = fdl_forward(m, x); /* outside of the block nothing is kept */
        assert_true(fdl_same(again, whole));
        check_ok(fdl_module_free(m));
    }
}

static void masks_go_over_all_positions(void **state)
{
    (void)state;
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_module *m = fdl_nn_multihead_attention(8, 2, .rope = true); /* [L, N, 8] */
    fdl_tensor *x = fdl_randn(FDL_SHAPE(5, 2, 8)), *w, *seen;
    fdl_tensor *padding = fdl_bool(fdl_reshape(fdl_vec(0, 0, 0, 0, 0, 0, 1, 0, 0, 0), FDL_SHAPE(2, 5)));
    fdl_tensor *number = fdl_randn(FDL_SHAPE(5, 5));
    fdl_tensor *whole = fdl_nn_mha_forward(m, x, x, x, .attn_mask = number, .key_padding_mask = padding,
                                           .causal = true, .weights = &w);
    check_some(whole);
    fdl_kv_cache *c = fdl_kv_cache_new(6);
    FDL_KV_CACHE(c);
    for (int64_t i = 0; i < 5; i += i ? 1 : 3) {
        int64_t n = i ? 1 : 3;
        fdl_tensor *t = fdl_narrow(x, 0, i, n), *rows = fdl_narrow(fdl_narrow(number, 0, i, n), 1, 0, i + n);
        fdl_tensor *p = fdl_narrow(padding, 1, 0, i + n);
        fdl_tensor *y = fdl_nn_mha_forward(m, t, t, t, .attn_mask = rows, .key_padding_mask = p,
                                           .causal = true, .weights = &seen);
        check_some(y);
        assert_true(fdl_allclose(y, fdl_narrow(whole, 0, i, n), .atol = 2e-6));
        assert_true(fdl_allclose(seen, fdl_narrow(fdl_narrow(w, 1, i, n), 2, 0, i + n), .atol = 2e-6));
    }
    fdl_tensor *t = fdl_narrow(x, 0, 0, 1);
    assert_null(
        fdl_nn_mha_forward(m, t, t, t, .key_padding_mask = fdl_narrow(padding, 1, 0, 5), .causal = true));
    check_error(FDL_E_SHAPE, "[2, 5]", "[2, 6]");
    assert_int_equal(fdl_kv_cache_len(c), 5);
    fdl_kv_cache_free(c);
    check_ok(fdl_module_free(m));
}

static void a_decoder_keeps_what_it_makes_of_the_memory(void **state)
{
    (void)state;
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_module *m = fdl_nn_transformer(8, 2, .encoder_layers = 1, .decoder_layers = 2, .ff = 8,
                                       .causal = true, .batch_first = true);
    check_ok(fdl_eval(m));
    fdl_module *encoder = fdl_nn_transformer_encoder_of(m), *decoder = fdl_nn_transformer_decoder_of(m);
    fdl_tensor *source = fdl_randn(FDL_SHAPE(2, 3, 8)), *target = fdl_randn(FDL_SHAPE(2, 6, 8));
    fdl_tensor *far = fdl_bool(fdl_reshape(fdl_vec(0, 0, 1, 0, 0, 0), FDL_SHAPE(2, 3)));
    fdl_tensor *whole = fdl_nn_transformer_forward(m, source, target, .memory_key_padding_mask = far);
    check_some(whole);
    fdl_tensor *memory = fdl_forward(encoder, source), *other = fdl_neg(memory);
    fdl_kv_cache *c = fdl_kv_cache_new(6);
    int64_t before = 0;
    FDL_KV_CACHE(c);
    for (int64_t i = 0; i < 6; i++) {
        FDL_SCOPE;
        fdl_tensor *y = fdl_nn_transformer_decoder_forward(decoder, from_to(target, i, i + 1), memory,
                                                           .memory_key_padding_mask = far);
        check_some(y);
        assert_true(fdl_allclose(y, from_to(whole, i, i + 1), .atol = 2e-6));
        if (i == 0)
            before = fdl_live_tensors();
        assert_int_equal(fdl_live_tensors() - before, 0); /* nothing piles up */
    }
    check_ok(fdl_kv_cache_rewind(c, 0));
    fdl_tensor *first = from_to(target, 0, 1);
    fdl_tensor *a = fdl_forward(decoder, first, memory);
    check_ok(fdl_kv_cache_rewind(c, 0));
    fdl_tensor *b = fdl_forward(decoder, first, memory);
    assert_true(fdl_same(a, b));
    check_ok(fdl_kv_cache_rewind(c, 0));
    assert_false(fdl_allclose(fdl_forward(decoder, first, other), a, .atol = 1e-3));
    fdl_tensor *second = fdl_forward(decoder, from_to(target, 1, 2), memory); /* another memory midway */
    check_some(second);
    fdl_kv_cache_free(c);
    fdl_tensor *plain = fdl_forward(decoder, first, other);
    check_some(plain);
    check_ok(fdl_module_free(m));
}

/* Weights that change meanwhile show that keys and values were made once: those that were kept stay. */
static void a_memory_is_mapped_once(void **state)
{
    (void)state;
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_module *m = fdl_nn_multihead_attention(4, 2);
    fdl_tensor *q = fdl_randn(FDL_SHAPE(1, 1, 4)), *memory = fdl_randn(FDL_SHAPE(3, 1, 4));
    fdl_kv_cache *c = fdl_kv_cache_new(4);
    FDL_KV_CACHE(c);
    fdl_tensor *a = fdl_forward(m, q, memory);
    check_ok(fdl_param_set(
        fdl_module_own_param(m, "in_proj_weight"),
        fdl_cat(FDL_LIST(fdl_narrow(fdl_param_tensor(fdl_module_own_param(m, "in_proj_weight")), 0, 0, 4),
                         fdl_zeros(FDL_SHAPE(8, 4))),
                0)));
    assert_true(fdl_same(fdl_forward(m, q, memory), a));
    assert_false(fdl_allclose(fdl_forward(m, q, fdl_clone(memory)), a, .atol = 1e-4));
    assert_int_equal(fdl_kv_cache_len(c), 0);
    fdl_kv_cache_free(c);
    check_ok(fdl_module_free(m));
}

static void going_back_and_choosing_samples(void **state)
{
    (void)state;
    for (int k = 0; k < MODELS; k++) {
        FDL_SCOPE;
        FDL_NO_GRAD;
        fdl_module *m = ready(models[k]);
        fdl_tensor *x = tokens(3), *whole = fdl_forward(m, x);
        fdl_kv_cache *c = fdl_kv_cache_new(TOKENS);
        FDL_KV_CACHE(c);
        check_some(fdl_forward(m, from_to(x, 0, 4)));
        check_some(fdl_forward(m, from_to(fdl_flip(x, FDL_SHAPE(0)), 4, 7))); /* what is thrown away */
        check_ok(fdl_kv_cache_rewind(c, 4));
        assert_int_equal(fdl_kv_cache_len(c), 4);
        assert_true(fdl_allclose(fdl_forward(m, from_to(x, 4, 6)), from_to(whole, 4, 6), .atol = 2e-6));
        /* Samples 2, 0, 2, 1 go on; then there are four. */
        fdl_tensor *chosen = fdl_long(fdl_vec(2, 0, 2, 1));
        check_ok(fdl_kv_cache_reorder(c, chosen));
        fdl_tensor *four = fdl_index_select(x, 0, chosen), *want = fdl_index_select(whole, 0, chosen);
        assert_true(fdl_allclose(fdl_forward(m, from_to(four, 6, 9)), from_to(want, 6, 9), .atol = 2e-6));
        assert_int_equal(fdl_kv_cache_reorder(c, fdl_vec(0, 1)), FDL_E_DTYPE);
        fdl_clear_error();
        if (!on_gpu) { /* where it ends the context */
            assert_int_equal(fdl_kv_cache_reorder(c, fdl_long(fdl_vec(4))), FDL_E_RANGE);
            fdl_clear_error();
        }
        check_ok(fdl_kv_cache_rewind(c, 8)); /* a failed choice has changed nothing */
        assert_true(fdl_allclose(fdl_forward(m, from_to(four, 8, 9)), from_to(want, 8, 9), .atol = 2e-6));
        check_ok(fdl_kv_cache_rewind(c, 0));
        assert_true(fdl_allclose(fdl_forward(m, from_to(x, 0, 2)), from_to(whole, 0, 2), .atol = 2e-6));
        fdl_kv_cache_free(c);
        check_ok(fdl_module_free(m));
    }
}

static void half_types_and_a_cast_between(void **state)
{
    (void)state;
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_module *m = ready(new_llama);
    check_ok(fdl_module_to(m, fdl_default_device(), .dtype = FDL_BFLOAT16));
    fdl_tensor *x = tokens(2), *whole = fdl_float(fdl_forward(m, x));
    fdl_kv_cache *c = fdl_kv_cache_new(TOKENS);
    fdl_tensor *y = in_pieces(m, x, c, 3, (const int64_t[]){5, 6, 9});
    assert_int_equal(fdl_dtype_of(y), FDL_BFLOAT16);
    assert_true(fdl_allclose(fdl_float(y), whole, .rtol = 0.05, .atol = 0.05));
    fdl_kv_cache_free(c);
    check_ok(fdl_module_free(m));
}

/* Prompt and token in blocks of their own: what was kept in one is written to in the next. */
static void inference_mode_and_blocks_of_their_own(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = ready(new_gpt);
    fdl_tensor *x = tokens(2), *whole = fdl_forward(m, x);
    fdl_kv_cache *c = fdl_kv_cache_new(TOKENS);
    for (int64_t i = 0; i < 4; i++) {
        FDL_SCOPE;
        FDL_INFERENCE;
        FDL_KV_CACHE(c);
        int64_t from = i ? 2 + i : 0, to = 3 + i;
        fdl_tensor *y = fdl_forward(m, from_to(x, from, to));
        check_some(y);
        assert_true(fdl_allclose(y, from_to(whole, from, to), .rtol = 1e-5, .atol = 2e-6));
    }
    fdl_kv_cache_free(c);
    check_ok(fdl_module_free(m));
}

/* ---- what is refused ------------------------------------------------------------------------------ */

static void what_cant_be_kept_is_refused(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = ready(new_gpt), *free_look = fdl_nn_multihead_attention(4, 2),
               *back = fdl_nn_multihead_attention(4, 2, .causal = true);
    fdl_tensor *x = tokens(2), *s = fdl_randn(FDL_SHAPE(3, 2, 4)), *k = fdl_randn(FDL_SHAPE(5, 2, 4));
    fdl_kv_cache *c = fdl_kv_cache_new(6);
    assert_null(fdl_kv_cache_new(0));
    check_error(FDL_E_ARG, "max_len is 0");
    {
        FDL_KV_CACHE(c);
        assert_null(fdl_forward(back, s));
        check_error(FDL_E_STATE, "FDL_NO_GRAD");
        FDL_NO_GRAD;
        assert_null(fdl_forward(free_look, s));
        check_error(FDL_E_STATE, "looks back only", ".causal");
        assert_null(fdl_forward(back, s, k));
        check_error(FDL_E_STATE, ".causal", "at itself");
        check_some(fdl_forward(back, s));
        assert_null(fdl_forward(back, fdl_narrow(s, 1, 0, 1)));
        check_error(FDL_E_SHAPE, "1 samples", "there were 2", "rewind");
        assert_null(fdl_forward(back, fdl_cat(FDL_LIST(s, s), 0)));
        check_error(FDL_E_RANGE, "6 positions behind 3", "max_len, 6");
        check_some(fdl_forward(back, s)); /* exactly full */
        assert_null(fdl_forward(back, fdl_narrow(s, 0, 0, 1)));
        check_error(FDL_E_RANGE, "1 positions behind 6");
        assert_int_equal(fdl_kv_cache_rewind(c, 7), FDL_E_RANGE);
        check_error(FDL_E_RANGE, "len is 7", "[0, 6]");
        assert_int_equal(fdl_kv_cache_rewind(c, -1), FDL_E_RANGE);
        fdl_clear_error();
        check_ok(fdl_kv_cache_rewind(c, 0));
        fdl_kv_cache *inner = fdl_kv_cache_new(TOKENS + 1);
        {
            FDL_KV_CACHE(inner); /* another one inside, and none */
            check_some(fdl_forward(m, x));
            assert_null(fdl_forward(m, from_to(x, 0, 1)));
            check_error(FDL_E_SHAPE, "position_embedding", "at most 0");
            FDL_KV_CACHE(NULL);
            check_some(fdl_forward(free_look, s));
        }
        assert_int_equal(fdl_kv_cache_len(c), 0);
        assert_int_equal(fdl_kv_cache_len(inner), TOKENS);
        fdl_kv_cache_free(inner);
    }
    fdl_tensor *y = fdl_forward(free_look, s); /* the block is left: no cache, gradients */
    assert_true(fdl_requires_grad(y));
    assert_int_equal(fdl_kv_cache_len(NULL), -1);
    check_error(FDL_E_NULL, "c");
    assert_int_equal(fdl_kv_cache_rewind(NULL, 0), FDL_E_NULL);
    fdl_clear_error();
    assert_int_equal(fdl_kv_cache_reorder(c, NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "samples");
    assert_ptr_equal(fdl_kv_cache_use(c), NULL);
    fdl_kv_cache_free(c); /* in use: isn't any more */
    assert_ptr_equal(fdl_kv_cache_use(NULL), NULL);
    fdl_kv_cache_free(NULL);
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(free_look));
    check_ok(fdl_module_free(back));
}

/* What a thread of its own makes of a module that can't use a cache, while this one has one in use. */
static void *elsewhere(void *m)
{
    FDL_SCOPE;
    fdl_tensor *y = fdl_forward(m, fdl_ones(FDL_SHAPE(3, 1, 4)));
    return y && fdl_kv_cache_use(NULL) == NULL ? m : NULL;
}

static void a_cache_is_of_one_thread(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_multihead_attention(4, 2, .device = FDL_CPU);
    fdl_kv_cache *c = fdl_kv_cache_new(3);
    FDL_KV_CACHE(c);
    pthread_t thread;
    void *result = NULL;
    assert_int_equal(pthread_create(&thread, NULL, elsewhere, m), 0);
    pthread_join(thread, &result);
    assert_ptr_equal(result, m);
    assert_int_equal(fdl_kv_cache_len(c), 0);
    fdl_kv_cache_free(c);
    check_ok(fdl_module_free(m));
}

static void nothing_is_left(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    {
        FDL_SCOPE;
        fdl_module *m = ready(new_llama);
        fdl_kv_cache *c = fdl_kv_cache_new(TOKENS);
        in_pieces(m, tokens(2), c, 2, (const int64_t[]){3, 4});
        check_ok(fdl_kv_cache_reorder(c, fdl_long(fdl_vec(1, 1, 0))));
        fdl_kv_cache_free(c);
        check_ok(fdl_module_free(m));
    }
    assert_int_equal(fdl_live_tensors(), before);
}

int main(void)
{
    on_gpu = on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_equal_the_whole),
        cmocka_unit_test(masks_go_over_all_positions),
        cmocka_unit_test(a_decoder_keeps_what_it_makes_of_the_memory),
        cmocka_unit_test(a_memory_is_mapped_once),
        cmocka_unit_test(going_back_and_choosing_samples),
        cmocka_unit_test(half_types_and_a_cast_between),
        cmocka_unit_test(inference_mode_and_blocks_of_their_own),
        cmocka_unit_test(what_cant_be_kept_is_refused),
        cmocka_unit_test(a_cache_is_of_one_thread),
        cmocka_unit_test(nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
