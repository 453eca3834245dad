/* Every module of tests/modules.def, in every floating dtype: saved, made again, loaded, bit for bit the same; and what is
 * loaded is what computes. */
#include "ckpt_files.h"

#include "flodl/snapshot.h"
#include "no_memory.h"
#include "rows.h"

/* 0.5 more everywhere, so that nothing is what a constructor makes. */
static void move_values(fdl_module *m)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_params *ps = fdl_params_join(fdl_parameters(m), fdl_buffers(m));
    for (int i = 0; i < fdl_params_count(ps); i++) {
        fdl_tensor *t = fdl_param_tensor(fdl_params_at(ps, i));
        check_ok(fdl_param_set(fdl_params_at(ps, i),
                               fdl_add(t, fdl_dtype_is_floating(fdl_dtype_of(t)) ? 0.5 : 5)));
    }
}

static void every_module_comes_back_bit_for_bit(void **state)
{
    (void)state;
    static const fdl_dtype dtypes[] = {FDL_FLOAT32, FDL_FLOAT64, FDL_FLOAT16, FDL_BFLOAT16};
    int with_tensors = 0;
    for (int i = 0; i < ROWS; i++)
        for (int k = 0; k < 4; k++) {
            fdl_module *a = rows[i].make(), *b = rows[i].make();
            check_some(a);
            check_some(b);
            check_ok(fdl_module_to(a, fdl_default_device(), .dtype = dtypes[k]));
            check_ok(fdl_module_to(b, fdl_default_device(), .dtype = dtypes[k]));
            move_values(a);
            fdl_load_report r;
            FDL_SCOPE;
            bytes file = {0};
            check_ok(fdl_ckpt_save_to(a, ((fdl_writer){write_bytes, &file})));
            check_ok(fdl_ckpt_load_from(b, ((fdl_reader){read_bytes, &file}), .report = &r));
            if (!same_values(a, b) || r.n_cast)
                fail_msg("%s in %s comes back otherwise", rows[i].name, fdl_dtype_name(dtypes[k]));
            with_tensors += r.n_loaded > 0;
            free(file.at);
            fdl_module_free(a);
            fdl_module_free(b);
        }
    assert_true(with_tensors > 4 * 20);
}

/* Recurrent layers keep their weights in a buffer of their own layout on some devices. */
static void a_loaded_layer_computes_with_what_was_loaded(void **state)
{
    (void)state;
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_module *a = fdl_nn_lstm(3, 4, .layers = 2), *b = fdl_nn_lstm(3, 4, .layers = 2);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(5, 2, 3));
    fdl_tensor *before = fdl_forward(b, x);
    check_ok(fdl_ckpt_save(a, path_of("lstm.fdl")));
    check_ok(fdl_ckpt_load(b, path_of("lstm.fdl")));
    assert_false(fdl_allclose(fdl_forward(b, x), before));
    assert_true(fdl_same(fdl_forward(b, x), fdl_forward(a, x)));
    fdl_module_free(a);
    fdl_module_free(b);
}

/* ---- memory that runs out ------------------------------------------------------------------------------ */

#ifndef NO_MEMORY_SKIPPED

#define FIXTURE(name) FLODL_SOURCE_DIR "/tests/fixtures/" name

static fdl_module *small;

static bool saves(void)
{
    return fdl_ckpt_save(small, path_of("memory.fdl")) == FDL_OK;
}
static bool saves_shards(void)
{
    return fdl_ckpt_save(small, path_of("memory.safetensors"), .shard_bytes = 40) == FDL_OK;
}
static bool loads(void)
{
    FDL_SCOPE;
    fdl_load_report r;
    return fdl_ckpt_load(small, path_of("memory.fdl"), .report = &r, .rename = FDL_RENAMES({"a*", "a*"})) ==
           FDL_OK;
}
static bool loads_shards(void)
{
    return fdl_ckpt_load(small, path_of("memory.safetensors")) == FDL_OK;
}
static bool reads_torch(void)
{
    FDL_SCOPE;
    fdl_ckpt_info *info = fdl_ckpt_open(FIXTURE("ckpt_list.pt"));
    bool good = info && fdl_ckpt_tensor(info, 1);
    fdl_ckpt_close(info);
    return good;
}
static bool migrates(void)
{
    FDL_SCOPE;
    fdl_migrate_report r;
    return fdl_ckpt_migrate(path_of("memory.fdl"), path_of("migrated.fdl"), small, .report = &r) == FDL_OK;
}
static bool snaps(void)
{
    fdl_snapshot *s = fdl_ckpt_snapshot(small);
    bool good = s && fdl_snapshot_save(s, path_of("snap.fdl")) == FDL_OK;
    fdl_snapshot_free(s);
    return good;
}

/* Each allocation on each way fails once: an error, nothing left, and afterwards all goes well. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    fdl_ckpt_info *zip = fdl_ckpt_open(FIXTURE("ckpt_list.pt"));
    bool torch = zip != NULL;
    fdl_ckpt_close(zip);
    fdl_clear_error();
    small = fdl_flow(fdl_nn_linear(2, 3), fdl_nn_batch_norm(3), fdl_nn_linear(3, 1));
    check_some(small);
    check_ok(fdl_graph_record(small, "loss", 1));
    check_ok(fdl_graph_flush(small));
    every_allocation(saves, 10);
    every_allocation(saves_shards, 20);
    every_allocation(loads, 20);
    every_allocation(loads_shards, 20);
    every_allocation(migrates, 20);
    every_allocation(snaps, 20);
    if (torch)
        every_allocation(reads_torch, 20);
    fdl_module_free(small);
}
#endif

static int setup(void **state)
{
#ifndef NO_MEMORY_SKIPPED
    if (no_memory_setup(state) != 0)
        return -1;
#endif
    return make_folder(state);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_module_comes_back_bit_for_bit),
        cmocka_unit_test(a_loaded_layer_computes_with_what_was_loaded),
#ifndef NO_MEMORY_SKIPPED
        cmocka_unit_test(every_allocation_may_fail),
#endif
    };
    return cmocka_run_group_tests(tests, setup, remove_folder);
}
