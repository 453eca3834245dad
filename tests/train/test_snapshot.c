/* Snapshots: copies that training doesn't touch, with metrics and epoch, in other threads, saved and loaded. */
#include "ckpt_files.h"

#include "flodl/snapshot.h"

#include <math.h>
#include <pthread.h>

static fdl_module *model(void)
{
    fdl_module *g = fdl_flow(fdl_nn_linear(3, 4), fdl_nn_batch_norm(4), fdl_flow_tag("norm"),
                             fdl_flow(fdl_flow_label("head"), fdl_nn_linear(4, 1)));
    check_some(g);
    return g;
}

/* Some steps that move every parameter and the running statistics. */
static void train(fdl_module *g, int steps)
{
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(g), .lr = 0.1);
    check_some(opt);
    for (int i = 0; i < steps; i++) {
        FDL_SCOPE;
        fdl_optim_zero_grad(opt);
        check_ok(fdl_backward(fdl_mean(fdl_square(fdl_forward(g, fdl_randn(FDL_SHAPE(8, 3)))))));
        check_ok(fdl_optim_step(opt));
    }
    fdl_optim_free(opt);
}

/* Values of a snapshot, by key, are those of the module. */
static bool is_of(const fdl_snapshot *s, fdl_module *g)
{
    FDL_SCOPE;
    fdl_params *ps = fdl_params_join(fdl_parameters(g), fdl_buffers(g));
    if (fdl_snapshot_count(s) != fdl_params_count(ps))
        return false;
    for (int i = 0; i < fdl_snapshot_count(s); i++) {
        char key[128];
        check_ok(fdl_state_key(fdl_params_name(ps, i), key, sizeof key));
        assert_string_equal(key, fdl_snapshot_name(s, i));
        fdl_tensor *t = fdl_snapshot_tensor(s, i);
        assert_int_equal(fdl_device_of(t).type, FDL_DEVICE_TYPE_CPU);
        assert_false(fdl_requires_grad(t));
        if (!fdl_same(t, fdl_cpu(fdl_param_tensor(fdl_params_at(ps, i)))))
            return false;
    }
    return true;
}

static void training_goes_on_beside_it(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = model(), *then = model();
    train(g, 2);
    check_ok(fdl_graph_record(g, "loss", 0.5));
    check_ok(fdl_graph_flush(g));
    check_ok(fdl_graph_record(g, "loss", 0.3));
    check_ok(fdl_graph_record(fdl_graph_child(g, "head"), "gap", -2));
    check_ok(fdl_graph_flush(g));
    check_ok(fdl_graph_set_source_config(g, "{}"));
    fdl_snapshot *s = fdl_ckpt_snapshot(g, .meta = FDL_META({"note", "taken"}));
    check_some(s);
    assert_true(is_of(s, g));
    assert_int_equal(fdl_snapshot_epoch(s), 2);
    assert_true(fdl_snapshot_metric(s, "loss") == 0.3);
    assert_true(fdl_snapshot_metric(s, "head.gap") == -2);
    assert_true(isnan(fdl_snapshot_metric(s, "gain")));
    check_error(FDL_E_ARG, "\"gain\"", "loss, head.gap");
    assert_string_equal(fdl_snapshot_hash(s), fdl_graph_hash(g));
    check_ok(fdl_ckpt_save(g, path_of("then.fdl")));
    train(g, 10);
    check_ok(fdl_graph_record(g, "loss", 0.1));
    check_ok(fdl_graph_flush(g));
    assert_false(is_of(s, g));
    check_ok(fdl_ckpt_load(then, path_of("then.fdl")));
    assert_true(is_of(s, then));
    assert_int_equal(fdl_snapshot_epoch(s), 2);

    check_ok(fdl_snapshot_save(s, path_of("snapshot.fdl"), .meta = FDL_META({"more", "later"})));
    check_ok(fdl_ckpt_load(g, path_of("snapshot.fdl")));
    assert_true(is_of(s, g));
    fdl_ckpt_info *info = fdl_ckpt_open(path_of("snapshot.fdl"));
    check_some(info);
    assert_string_equal(fdl_ckpt_meta(info, "fdl.epoch"), "2");
    assert_true(strtod(fdl_ckpt_meta(info, "fdl.metric.loss"), NULL) == 0.3);
    assert_string_equal(fdl_ckpt_meta(info, "note"), "taken");
    assert_string_equal(fdl_ckpt_meta(info, "more"), "later");
    assert_string_equal(fdl_ckpt_hash(info), fdl_graph_hash(g));
    fdl_ckpt_close(info);
    assert_int_equal(access(path_of("snapshot.config.json"), F_OK), 0);
    check_ok(fdl_snapshot_save(s, path_of("again.safetensors"), .dtype = FDL_BFLOAT16, .shard_bytes = 64));
    check_ok(fdl_ckpt_load(then, path_of("again.safetensors")));
    fdl_snapshot_free(s);
    fdl_module_free(g);
    fdl_module_free(then);
}

/* A snapshot of a module that is on the CPU shares no memory with it. */
static void it_is_a_real_copy(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(2, 2);
    check_ok(fdl_module_to(m, FDL_CPU));
    fdl_snapshot *s = fdl_ckpt_snapshot(m);
    check_some(s);
    assert_ptr_not_equal(fdl_data_ptr(fdl_snapshot_tensor(s, 0)), fdl_data_ptr(param_of(m, "weight")));
    assert_int_equal(fdl_snapshot_epoch(s), 0);
    assert_null(fdl_snapshot_hash(s));
    check_ok(fdl_error_pending());
    assert_null(fdl_snapshot_tensor(s, 2));
    check_error(FDL_E_RANGE, "2 of 2");
    assert_int_equal(fdl_snapshot_save(s, "/nowhere/x.fdl"), FDL_E_IO);
    check_error(FDL_E_IO, "/nowhere/x.fdl");
    fdl_module_free(m); /* before the snapshot */
    assert_string_equal(fdl_snapshot_name(s, 1), "bias");
    check_ok(fdl_snapshot_save(s, path_of("freed.fdl")));
    int64_t live = fdl_live_tensors();
    fdl_snapshot_free(s);
    assert_int_equal(fdl_live_tensors(), live - 2);
    fdl_snapshot_free(NULL);
    assert_null(fdl_ckpt_snapshot_opt(NULL, NULL));
    check_error(FDL_E_NULL, "m");
}

static void *save_and_free(void *ctx)
{
    fdl_status status = fdl_snapshot_save(ctx, path_of("thread.fdl"));
    fdl_snapshot_free(ctx);
    return status == FDL_OK ? NULL : (void *)(uintptr_t)fdl_last_error()->message;
}

static void another_thread_saves_and_frees_it(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = model(), *then = model();
    check_ok(fdl_ckpt_save(g, path_of("before.fdl")));
    fdl_snapshot *s = fdl_ckpt_snapshot(g);
    check_some(s);
    pthread_t thread;
    void *result;
    assert_int_equal(pthread_create(&thread, NULL, save_and_free, s), 0);
    train(g, 5);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_null(result);
    check_ok(fdl_ckpt_load(g, path_of("before.fdl")));
    check_ok(fdl_ckpt_load(then, path_of("thread.fdl")));
    assert_true(same_values(g, then));
    fdl_module_free(g);
    fdl_module_free(then);
}

/* On a GPU the call returns while the stream is at work still, and the next step runs behind the copy. */
static void nobody_waits_for_a_snapshot(void **state)
{
    (void)state;
    if (!fdl_cuda_available() || fdl_default_device().type != FDL_DEVICE_TYPE_CUDA)
        skip();
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_module *m = fdl_nn_linear(512, 512);
    fdl_tensor *w = param_of(m, "weight"), *x = fdl_randn(FDL_SHAPE(4096, 4096));
    fdl_stream *now = fdl_cuda_stream_current(fdl_default_device());
    for (int round = 0; round < 3; round++) {
        check_ok(fdl_fill_(w, round));
        for (int i = 0; i < 200; i++) /* some tens of milliseconds */
            check_some(fdl_matmul(x, x));
        fdl_snapshot *s = fdl_ckpt_snapshot(m);
        check_some(s);
        if (round) /* page-locked memory is there since the first time, which may wait for it */
            assert_false(fdl_cuda_stream_done(now));
        check_ok(fdl_fill_(w, -1));
        assert_true(fdl_item(fdl_min(fdl_snapshot_tensor(s, 0))) == round);
        assert_true(fdl_item(fdl_max(fdl_snapshot_tensor(s, 0))) == round);
        fdl_snapshot_free(s);
    }
    fdl_cuda_stream_free(now);
    fdl_module_free(m);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_goes_on_beside_it),
        cmocka_unit_test(it_is_a_real_copy),
        cmocka_unit_test(another_thread_saves_and_frees_it),
        cmocka_unit_test(nobody_waits_for_a_snapshot),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
