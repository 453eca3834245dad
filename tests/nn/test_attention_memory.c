/* Attention without memory: each allocation fails once, when a transformer is made and when a cache is filled, and there is an error,
 * nothing half done and nothing left. */
#include "no_memory.h"

#ifdef NO_MEMORY_SKIPPED
int main(void)
{
    printf("skipped: sanitizers have a malloc of their own\n");
    return 0;
}
#else

static bool a_transformer(void)
{
    FDL_SCOPE;
    fdl_module *m =
        fdl_nn_transformer(4, 2, .encoder_layers = 1, .decoder_layers = 2, .ff = 3, .batch_first = true);
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1, 2, 4));
    bool all = m && fdl_nn_transformer_forward(m, x, x, .tgt_causal = true);
    fdl_module_free(m);
    return all;
}

static bool positions(void)
{
    FDL_SCOPE;
    fdl_module *m = fdl_nn_rope(4, .max_len = 8),
               *n = fdl_nn_multihead_attention(8, 4, .kv_heads = 2, .rope = true, .alibi = true,
                                               .causal = true);
    fdl_tensor *x = fdl_ones(FDL_SHAPE(2, 3, 4)), *y = fdl_ones(FDL_SHAPE(3, 1, 8)), *w;
    bool all = m && n && fdl_forward(m, x) && fdl_module_to(m, FDL_CPU, .dtype = FDL_FLOAT64) == FDL_OK &&
               fdl_forward(m, x) && fdl_nn_mha_forward(n, y, y, y, .weights = &w);
    fdl_module_free(m);
    fdl_module_free(n);
    return all;
}

static fdl_module *model; /* made once: what a cache adds is what may fail */

static fdl_tensor *step(fdl_kv_cache *c, fdl_tensor *x, fdl_tensor *memory)
{
    FDL_NO_GRAD;
    FDL_KV_CACHE(c);
    return fdl_forward(model, x, memory);
}

/* A step that fails can be taken back and taken again. */
static bool a_cache(void)
{
    FDL_SCOPE;
    fdl_kv_cache *c = fdl_kv_cache_new(4);
    fdl_tensor *x = fdl_ones(FDL_SHAPE(2, 2, 4)), *memory = fdl_ones(FDL_SHAPE(2, 3, 4)),
               *samples = fdl_long(fdl_vec(1, 0));
    if (!c || !x || !memory || !samples) {
        fdl_kv_cache_free(c);
        return false;
    }
    bool all = step(c, x, memory) != NULL;
    int64_t len = fdl_kv_cache_len(c);
    assert_int_equal(len, all ? 2 : len);
    all = all && fdl_kv_cache_reorder(c, samples) == FDL_OK;
    all = all && step(c, fdl_narrow(x, 1, 0, 1), memory);
    if (!all) {
        fdl_error e = *fdl_last_error();
        fdl_clear_error();
        len = fdl_kv_cache_len(c);
        check_ok(fdl_kv_cache_rewind(c, len < 2 ? 0 : len));
        check_some(step(c, fdl_narrow(x, 1, 0, 1), memory));
        fdl_fail(e.status, "a step without memory");
    }
    fdl_kv_cache_free(c);
    return all;
}

static void making_a_transformer(void **state)
{
    (void)state;
    every_allocation(a_transformer, 100);
}

static void making_positions(void **state)
{
    (void)state;
    every_allocation(positions, 20);
}

static void filling_a_cache(void **state)
{
    (void)state;
    model = fdl_nn_transformer_decoder(
        fdl_nn_transformer_decoder_layer(4, 2, .ff = 3, .batch_first = true, .causal = true), 2);
    check_some(model);
    every_allocation(a_cache, 3);
    check_ok(fdl_module_free(model));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(making_a_transformer),
        cmocka_unit_test(making_positions),
        cmocka_unit_test(filling_a_cache),
    };
    return cmocka_run_group_tests(tests, no_memory_setup, NULL);
}
#endif
