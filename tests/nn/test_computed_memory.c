/* Computed weights and schedules without memory: each allocation fails once, and there is an error, nothing half done and nothing
 * left. */
#include "no_memory.h"

#ifdef NO_MEMORY_SKIPPED
int main(void)
{
    printf("skipped: sanitizers have a malloc of their own\n");
    return 0;
}
#else

/* A module that was refused is what it was: it has its parameters, and runs. */
static bool still_whole(fdl_module *m)
{
    countdown = 0;
    FDL_SCOPE;
    fdl_status pending = fdl_error_pending();
    assert_int_equal(fdl_params_count(fdl_parameters(m)), 2);
    assert_int_equal(fdl_params_count(fdl_buffers(m)), 0);
    check_some(fdl_module_own_param(m, "weight"));
    fdl_tensor *y = fdl_forward(m, fdl_ones(FDL_SHAPE(2, 3)));
    check_some(y);
    assert_true(fdl_item(fdl_sum(y)) == 2 * 3 * 4);
    assert_int_equal(fdl_error_pending(), pending);
    return false;
}

static fdl_module *ones(void)
{
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(3, 4);
    if (!m)
        return NULL;
    fdl_status status = fdl_init_ones(fdl_param_tensor(fdl_module_own_param(m, "weight")));
    if (status == FDL_OK)
        status = fdl_init_zeros(fdl_param_tensor(fdl_module_own_param(m, "bias")));
    if (status == FDL_OK)
        return m;
    fdl_module_free(m);
    return NULL;
}

static bool weight_norm(void)
{
    FDL_SCOPE;
    fdl_module *m = ones();
    bool all = m && (fdl_weight_norm(m, "weight") == FDL_OK || still_whole(m)) &&
               fdl_forward(m, fdl_ones(FDL_SHAPE(2, 3))) && fdl_parametrized(m, "weight") &&
               fdl_parametrize_remove(m, "weight") == FDL_OK;
    fdl_module_free(m);
    return all;
}

static fdl_tensor *doubled(fdl_tensor *x)
{
    return fdl_mul(x, 2);
}

static bool spectral_norm(void)
{
    FDL_SCOPE;
    fdl_module *m = ones();
    bool all = m && (fdl_spectral_norm(m, "weight") == FDL_OK || still_whole(m)) &&
               fdl_parametrize(m, "weight", fdl_nn_fn(doubled)) == FDL_OK &&
               fdl_forward(m, fdl_ones(FDL_SHAPE(2, 3))) && fdl_parametrize_remove(m, "weight") == FDL_OK;
    fdl_module_free(m);
    return all;
}

static bool orthogonal(void)
{
    FDL_SCOPE;
    fdl_module *m = ones();
    bool all = m && (fdl_orthogonal(m, "weight") == FDL_OK || still_whole(m)) &&
               fdl_forward(m, fdl_ones(FDL_SHAPE(2, 3)));
    fdl_module_free(m);
    return all;
}

static bool pruning(void)
{
    FDL_SCOPE;
    fdl_module *m = ones(), *n = ones();
    bool all =
        m && n &&
        (fdl_prune_l1_unstructured(m, "weight", 0.5) == FDL_OK || fdl_is_pruned(m) || still_whole(m)) &&
        fdl_prune_ln_structured(m, "weight", 0, 2, 0, .count = FDL_SOME(1)) == FDL_OK &&
        fdl_prune_global_unstructured(FDL_PRUNED({m, "bias"}, {n, "weight"}), 0.5) == FDL_OK &&
        fdl_forward(m, fdl_ones(FDL_SHAPE(2, 3))) && fdl_prune_remove(m, "weight") == FDL_OK;
    fdl_module_free(m);
    fdl_module_free(n);
    return all;
}

static fdl_module *model; /* made once */

static bool copies(void)
{
    FDL_SCOPE;
    fdl_module *copy = fdl_module_clone(model);
    char *text = copy ? fdl_topology_text(model) : NULL;
    fdl_module *again = text ? fdl_topology_parse(text) : NULL;
    bool all = again && fdl_graph_hash(again) && fdl_module_summary(again, FDL_SHAPE(2, 3));
    free(text);
    fdl_module_free(copy);
    fdl_module_free(again);
    return all;
}

static double one(int64_t t, void *ctx)
{
    (void)t;
    (void)ctx;
    return 1;
}

static bool schedules(void)
{
    fdl_sched *s = fdl_sched_sequence(
        FDL_SCHEDS(
            fdl_sched_warmup(fdl_sched_cyclic(0.1, 1, 5), 0.1, 3),
            fdl_sched_product(fdl_sched_constant(1, .factor = 0.5), fdl_sched_fn(one, NULL)),
            fdl_sched_product(fdl_sched_cosine_restarts(1, 0, 5), fdl_sched_multi_step(1, FDL_INTS(3, 5))),
            fdl_sched_product(fdl_sched_inv_sqrt(1, 5), fdl_sched_one_cycle(1, 10))),
        FDL_INTS(5, 10, 15));
    bool all = s != NULL;
    fdl_sched_free(s);
    return all;
}

static void without_memory(void **state)
{
    (void)state;
    every_allocation(weight_norm, 20);
    every_allocation(spectral_norm, 20);
    every_allocation(orthogonal, 15);
    every_allocation(pruning, 15);
    every_allocation(schedules, 12);
}

static void copies_without_memory(void **state)
{
    (void)state;
    fdl_module *a = ones(), *b = fdl_nn_linear(4, 4);
    check_ok(fdl_weight_norm(a, "weight"));
    check_ok(fdl_spectral_norm(b, "weight"));
    check_ok(fdl_prune_identity(b, "bias"));
    model = fdl_flow(a, b);
    check_some(model);
    every_allocation(copies, 100);
    check_ok(fdl_module_free(model));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_memory),
        cmocka_unit_test(copies_without_memory),
    };
    return cmocka_run_group_tests(tests, no_memory_setup, NULL);
}
#endif
