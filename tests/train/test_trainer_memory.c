/* 10,000 steps of the trainer: as many tensors and as much memory at the end as after the first ones, and in between not one
 * allocation by the library's own code but those that fdl_backward makes for libtorch's engine, which takes vectors. */
#include "no_memory.h"

#include <limits.h>

enum { STEPS = 10000, WARM_UP = 200 };

static fdl_tensor *loss_of(fdl_module *m, fdl_list b, void *ctx)
{
    (void)ctx;
    return fdl_mse_loss(fdl_forward(m, b.at[0]), b.at[1]);
}

static long resident_pages(void)
{
    long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld %ld", &size, &resident) != 2)
        resident = -1;
    if (file)
        fclose(file);
    return resident;
}

static int64_t device_bytes(bool reserved)
{
    int64_t n = 0;
    if (fdl_default_device().type == FDL_DEVICE_TYPE_CUDA)
        check_ok(reserved ? fdl_cuda_memory_reserved(0, &n) : fdl_cuda_memory_allocated(0, &n));
    return n;
}

/* The library's allocations in one backward pass. */
static long of_a_backward(fdl_module *m, fdl_list batch)
{
    long calls = 0;
    for (int i = 0; i < 2; i++) {
        FDL_SCOPE;
        fdl_tensor *loss = loss_of(m, batch, NULL);
#ifndef NO_MEMORY_SKIPPED
        countdown = LONG_MAX;
#endif
        fdl_status status = fdl_backward(loss);
#ifndef NO_MEMORY_SKIPPED
        calls = LONG_MAX - countdown;
        countdown = 0;
#endif
        check_ok(status);
    }
    return calls;
}

static void ten_thousand_steps_leave_nothing(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_ok(fdl_set_num_threads(1));
    fdl_module *m = fdl_flow(fdl_nn_linear(4, 8), fdl_nn_gelu(), fdl_nn_layer_norm(8), fdl_nn_linear(8, 2));
    fdl_optim *o = fdl_optim_adam(fdl_parameters(m));
    fdl_sched *sched = fdl_sched_cosine(1e-3, 1e-5, STEPS);
    fdl_ema *ema = fdl_ema_new(m, 0.99);
    fdl_trainer *tr =
        fdl_trainer_new(m, o, loss_of, .clip_norm = 1, .sched = sched, .ema = ema, .accumulate = 2);
    check_some(tr);
    fdl_list batch = FDL_LIST(fdl_randn(FDL_SHAPE(8, 4)), fdl_randn(FDL_SHAPE(8, 2)));
    int64_t live = 0, allocated = 0, reserved = 0;
    long pages = 0, calls = 0;
    for (int t = 0; t < STEPS; t++) {
        if (t == WARM_UP) {
            live = fdl_live_tensors();
            allocated = device_bytes(false);
            reserved = device_bytes(true);
            pages = resident_pages();
#ifndef NO_MEMORY_SKIPPED
            countdown = LONG_MAX; /* counts the library's allocations, none of which fails */
#endif
        }
        check_ok(fdl_trainer_step(tr, batch));
    }
#ifndef NO_MEMORY_SKIPPED
    calls = LONG_MAX - countdown;
    countdown = 0;
#endif
    /* On a GPU most steps replay what was recorded, without a backward. */
    long most = (STEPS - WARM_UP) * of_a_backward(m, batch);
    assert_true(fdl_default_device().type == FDL_DEVICE_TYPE_CUDA ? calls <= most : calls == most);
    assert_int_equal(fdl_live_tensors(), live);
    assert_int_equal(device_bytes(false), allocated);
    assert_int_equal(device_bytes(true), reserved);
#ifndef NO_MEMORY_SKIPPED
    assert_true(resident_pages() - pages < 512);
#else
    (void)pages; /* sanitizers keep hold of what was freed */
#endif
    double mean;
    check_ok(fdl_trainer_mean_loss(tr, &mean));
    assert_true(mean > 0 && mean < 10);
    fdl_trainer_free(tr);
    fdl_ema_free(ema);
    fdl_sched_free(sched);
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
}

#ifndef NO_MEMORY_SKIPPED
static fdl_module *model;
static fdl_list sample;

/* A trainer's life; under memory that runs out somewhere in it. */
static bool a_trainers_life(void)
{
    FDL_SCOPE;
    fdl_optim *o = fdl_optim_sgd(fdl_parameters(model), .lr = 0.1, .momentum = 0.9);
    fdl_amp_scaler *s = fdl_amp_scaler_new();
    fdl_ema *e = fdl_ema_new(model, 0.9, .warmup = true);
    fdl_trainer *tr = fdl_trainer_new(model, o, loss_of, .scaler = s, .ema = e, .clip_norm = 1);
    bool good = o && s && e && tr && fdl_trainer_step(tr, sample) == FDL_OK &&
                fdl_trainer_step(tr, sample) == FDL_OK && fdl_ema_apply(e) == FDL_OK &&
                fdl_ema_restore(e) == FDL_OK;
    fdl_trainer_free(tr);
    fdl_ema_free(e);
    fdl_amp_scaler_free(s);
    fdl_optim_free(o);
    FDL_NO_GRAD;
    fdl_params *ps = fdl_parameters(model);
    for (int i = 0; ps && i < fdl_params_count(ps); i++)
        fdl_clear_grad(fdl_param_tensor(fdl_params_at(ps, i)));
    return good;
}

static void memory_that_runs_out(void **state)
{
    (void)state;
    FDL_SCOPE;
    model = fdl_nn_linear(4, 2);
    check_some(model);
    sample = FDL_LIST(fdl_randn(FDL_SHAPE(8, 4)), fdl_randn(FDL_SHAPE(8, 2)));
    every_allocation(a_trainers_life, 8);
    check_ok(fdl_module_free(model));
}
#endif

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_thousand_steps_leave_nothing),
#ifndef NO_MEMORY_SKIPPED
        cmocka_unit_test(memory_that_runs_out),
#endif
    };
#ifndef NO_MEMORY_SKIPPED
    return cmocka_run_group_tests(tests, no_memory_setup, NULL);
#else
    return cmocka_run_group_tests(tests, NULL, NULL);
#endif
}
