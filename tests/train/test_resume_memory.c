/* Saving and going on when memory runs out: each allocation on each way fails once. Nothing is left behind, and a training that
 * could not be loaded is what it was. */
#include "no_memory.h"

#ifdef NO_MEMORY_SKIPPED
int main(void)
{
    print_message("skipped: sanitizers have a malloc of their own\n");
    return 0;
}
#else

#include "training.h"

#include "flodl/worker.h"

static training t;

static training training_of(double rate)
{
    FDL_SCOPE;
    training n = {.m = fdl_flow(fdl_nn_linear(2, 3), fdl_nn_linear(3, 1)),
                  .scaler = fdl_amp_scaler_new(),
                  .plateau = fdl_sched_plateau(rate),
                  .rng = fdl_rng_seed(3),
                  .at = {.step = (int64_t)(1 / rate)}};
    check_some(n.m);
    n.opt = fdl_optim_adam(fdl_parameters(n.m), .lr = rate);
    n.ema = fdl_ema_new(n.m, 0.9, .warmup = true);
    check_some(fdl_amp_scale(n.scaler, fdl_scalar(1)));
    check_ok(fdl_backward(fdl_sum(fdl_forward(n.m, fdl_ones(FDL_SHAPE(1, 2))))));
    check_ok(fdl_optim_step(n.opt));
    check_ok(fdl_optim_zero_grad(n.opt));
    check_ok(fdl_ema_update(n.ema));
    return n;
}

#define ALL ALL_OF(t)

static bool saves(void)
{
    return fdl_ckpt_save(t.m, path_of("memory-1.fdl"), ALL, .keep_last = 2) == FDL_OK;
}
static bool saves_later(void)
{
    fdl_worker *w = fdl_worker_new();
    bool good = w && fdl_ckpt_save_async(w, t.m, path_of("memory-2.fdl"), ALL) == FDL_OK &&
                fdl_worker_wait(w) == FDL_OK;
    fdl_worker_free(w);
    return good;
}
static bool saves_an_optimizer(void)
{
    return fdl_ckpt_save_optim(t.opt, path_of("optim.fdl")) == FDL_OK &&
           fdl_ckpt_load_optim(t.opt, path_of("optim.fdl")) == FDL_OK;
}

static bytes before;

static bool loads(void)
{
    bool good = fdl_ckpt_load(t.m, path_of("good.fdl"), ALL) == FDL_OK;
    long left = countdown;
    countdown = 0; /* looking needs memory */
    fdl_error e = *fdl_last_error();
    char message[1024];
    snprintf(message, sizeof message, "%s", e.message);
    fdl_clear_error();
    bytes now = image_of(&t);
    bool same = now.n == before.n && memcmp(now.at, before.at, now.n) == 0;
    free(now.at);
    if (good) {
        training_end(&t);
        t = training_of(0.25);
        free(before.at);
        before = image_of(&t);
    } else if (!same) {
        fail_msg("a load that failed has changed something: %s", message);
    } else {
        fdl_fail(e.status, "%s", message);
    }
    countdown = left;
    return good;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    t = training_of(0.5);
    check_ok(fdl_ckpt_save(t.m, path_of("good.fdl"), ALL));
    every_allocation(saves, 10);
    every_allocation(saves_later, 10);
    every_allocation(saves_an_optimizer, 10);
    training_end(&t);
    t = training_of(0.25);
    before = image_of(&t);
    every_allocation(loads, 10);
    free(before.at);
    training_end(&t);
}

static int setup(void **state)
{
    return no_memory_setup(state) == 0 ? make_folder(state) : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, setup, remove_folder);
}
#endif
