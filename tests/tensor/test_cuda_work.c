/* What operations, gradients and training steps do on a GPU beyond giving the right numbers: where tensors land, how many kernels
 * are launched, what memory is kept, on which stream gradients are added up, what repeats to the bit, and what happens when memory
 * runs out in the middle. */
#include "gpu.h"

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>

/* ---- where tensors land ---------------------------------------------------------------------------------------------- */

static bool is_on(fdl_tensor *x, fdl_device d)
{
    return x && fdl_device_eq(fdl_device_of(x), d);
}

static void *makes_one(void *device)
{
    FDL_SCOPE;
    *(fdl_device *)device = fdl_device_of(fdl_zeros(FDL_SHAPE(1)));
    return NULL;
}

static void the_default_device_takes_all(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    assert_true(is_on(fdl_zeros(FDL_SHAPE(2)), FDL_CPU));
    check_ok(fdl_set_default_device(GPU));
    const float by_hand[] = {1, 2};
    fdl_tensor *all[] = {fdl_zeros(FDL_SHAPE(2)),
                         fdl_full(FDL_SHAPE(2), 3),
                         fdl_arange(0, 2, 1),
                         fdl_eye(2),
                         fdl_rand(FDL_SHAPE(2)),
                         fdl_randint(0, 5, FDL_SHAPE(2)),
                         fdl_from_f32(by_hand, FDL_SHAPE(2)),
                         fdl_vec(1, 2),
                         fdl_ivec(1, 2),
                         fdl_scalar(1),
                         fdl_tril_indices(2, 2, 0)};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!is_on(all[i], GPU))
            fail_msg("tensor %zu isn't on the default device", i);
    fdl_module *m = fdl_nn_linear(2, 3);
    check_some(m);
    fdl_params *ps = fdl_parameters(m);
    for (int i = 0; i < fdl_params_count(ps); i++)
        assert_true(is_on(fdl_param_tensor(fdl_params_at(ps, i)), GPU));
    assert_true(is_on(fdl_forward(m, fdl_zeros(FDL_SHAPE(1, 2))), GPU));
    check_ok(fdl_module_free(m));
    assert_true(is_on(fdl_zeros(FDL_SHAPE(2), .device = FDL_CPU), FDL_CPU)); /* what is said wins */
    fdl_device of_thread;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, makes_one, &of_thread), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(fdl_device_eq(of_thread, FDL_CPU)); /* it is this thread's */
    check_ok(fdl_set_default_device(FDL_CPU));
    assert_true(is_on(fdl_zeros(FDL_SHAPE(2)), FDL_CPU));
}

/* ---- launches, counted by CUPTI, which libtorch brings ------------------------------------------------------------------- */

enum { RUNTIME_API = 2, ENTERED = 0 }; /* CUPTI_CB_DOMAIN_RUNTIME_API, CUPTI_API_ENTER */

typedef struct api_call { /* the beginning of CUpti_CallbackData */
    int site;
    const char *function;
} api_call;
typedef void on_call(void *ctx, int domain, uint32_t id, const api_call *call);

static struct {
    int (*subscribe)(void **subscriber, on_call *fn, void *ctx);
    int (*enable)(uint32_t on, void *subscriber, int domain);
    int (*unsubscribe)(void *subscriber);
} cupti;

static void *cupti_symbol(const char *name)
{
    void *p = dlsym(RTLD_DEFAULT, name);
    const char *const libraries[] = {"libcupti.so.13", "libcupti.so.12", "libcupti.so"};
    for (int i = 0; !p && i < 3; i++) {
        void *library = dlopen(libraries[i], RTLD_NOW);
        if (library)
            p = dlsym(library, name);
    }
    return p;
}

static bool find_cupti(void)
{
    *(void **)&cupti.subscribe = cupti_symbol("cuptiSubscribe");
    *(void **)&cupti.enable = cupti_symbol("cuptiEnableDomain");
    *(void **)&cupti.unsubscribe = cupti_symbol("cuptiUnsubscribe");
    return cupti.subscribe && cupti.enable && cupti.unsubscribe;
}

static void count_launches(void *ctx, int domain, uint32_t id, const api_call *call)
{
    (void)domain;
    (void)id;
    if (call->site == ENTERED && strncmp(call->function, "cudaLaunch", 10) == 0)
        ++*(int *)ctx;
}

typedef fdl_status lists_work(fdl_list a, fdl_list b);

/* How many kernels a call launches. */
static int launches(lists_work *work, fdl_list a, fdl_list b)
{
    int n = 0;
    void *subscriber = NULL;
    check_ok(work(a, b)); /* what happens once has happened */
    check_ok(fdl_cuda_synchronize(0));
    assert_int_equal(cupti.subscribe(&subscriber, count_launches, &n), 0);
    assert_int_equal(cupti.enable(1, subscriber, RUNTIME_API), 0);
    fdl_status status = work(a, b);
    check_ok(fdl_cuda_synchronize(0));
    assert_int_equal(cupti.unsubscribe(subscriber), 0);
    check_ok(status);
    return n;
}

static fdl_status one_by_one(fdl_list a, fdl_list b)
{
    (void)b;
    for (int i = 0; i < 10; i++)
        FDL_TRY(fdl_mul_scalar_(a.at[i], 0.5));
    return FDL_OK;
}
static fdl_status add_scalar(fdl_list a, fdl_list b)
{
    (void)b;
    return fdl_foreach_add_scalar_(a, 0.5);
}
static fdl_status mul_scalar(fdl_list a, fdl_list b)
{
    (void)b;
    return fdl_foreach_mul_scalar_(a, 0.5);
}
static fdl_status zero(fdl_list a, fdl_list b)
{
    (void)b;
    return fdl_foreach_zero_(a);
}
static fdl_status square_root(fdl_list a, fdl_list b)
{
    (void)b;
    return fdl_foreach_sqrt_(a);
}
static fdl_status add(fdl_list a, fdl_list b)
{
    return fdl_foreach_add_(a, b, .alpha = 2);
}
static fdl_status lerp(fdl_list a, fdl_list b)
{
    return fdl_foreach_lerp_(a, b, 0.25);
}

enum { MANY = 1000 };

static fdl_list many(void)
{
    fdl_list list = {MANY, fdl_scope_alloc(MANY * sizeof *list.at)};
    for (int i = 0; i < MANY; i++)
        list.at[i] = fdl_ones(FDL_SHAPE(1 + i % 7, 1 + i % 5), .device = GPU);
    return list;
}

static void a_thousand_tensors_take_few_kernels(void **state)
{
    (void)state;
    need_gpu();
    if (!find_cupti()) {
        print_message("skipped: no CUPTI to count launches with\n");
        skip();
    }
    FDL_SCOPE;
    static const struct {
        const char *name;
        lists_work *work;
    } all[] = {{"add_scalar_", add_scalar},
               {"mul_scalar_", mul_scalar},
               {"zero_", zero},
               {"sqrt_", square_root},
               {"add_", add},
               {"lerp_", lerp}};
    fdl_list a = many(), b = many();
    assert_int_equal(launches(one_by_one, a, b), 10); /* that they are counted at all */
    int failures = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int n = launches(all[i].work, a, b);
        print_message("foreach_%s of %d tensors: %d kernels\n", all[i].name, MANY, n);
        failures += n < 1 || n >= 20;
    }
    assert_int_equal(failures, 0);
}

/* ---- memory that is kept for the backward ------------------------------------------------------------------------------ */

enum { BLOCKS = 10, ROWS = 4096, COLUMNS = 1024 }; /* 16 MiB an activation */

typedef struct block {
    fdl_tensor *w1, *w2; /* [COLUMNS, COLUMNS] */
} block;

static fdl_tensor *run_block(fdl_list in, void *ctx)
{
    block *b = ctx;
    fdl_tensor *h = fdl_dropout(fdl_gelu(fdl_linear(in.at[0], b->w1)), 0.25, .training = true);
    return fdl_add(in.at[0], fdl_linear(h, b->w2));
}

/* Loss and gradients of all blocks in a row, and the most memory that they took beyond what was there. */
static double train_blocks(block *blocks, fdl_tensor *x, bool recompute, int64_t *most)
{
    FDL_SCOPE;
    check_ok(fdl_manual_seed(9));
    int64_t before = allocated_on(0), peak;
    check_ok(fdl_cuda_reset_peak_memory_stats(0));
    for (int i = 0; i < BLOCKS; i++) {
        FDL_SCOPE;
        x = recompute ? fdl_checkpoint_fn(run_block, &blocks[i], FDL_LIST(x))
                      : run_block(FDL_LIST(x), &blocks[i]);
        x = fdl_escape(x);
        check_some(x);
    }
    fdl_tensor *loss = fdl_mean(fdl_square(x));
    check_ok(fdl_backward(loss));
    check_ok(fdl_cuda_max_memory_allocated(0, &peak));
    *most = peak - before;
    return fdl_item(loss);
}

static void recomputation_takes_less_memory(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    check_ok(fdl_manual_seed(3));
    block blocks[BLOCKS];
    fdl_tensor *grads[2][2 * BLOCKS], *x = fdl_randn(FDL_SHAPE(ROWS, COLUMNS), .device = GPU);
    for (int i = 0; i < BLOCKS; i++)
        for (int k = 0; k < 2; k++) {
            fdl_tensor *w = fdl_mul(fdl_randn(FDL_SHAPE(COLUMNS, COLUMNS), .device = GPU), 0.02);
            check_ok(fdl_requires_grad_(w, true));
            *(k ? &blocks[i].w2 : &blocks[i].w1) = w;
        }
    {
        FDL_SCOPE;
        check_some(fdl_matmul(x, blocks[0].w1)); /* cuBLAS has its workspace */
    }
    double loss[2];
    int64_t most[2];
    for (int recompute = 0; recompute < 2; recompute++) {
        loss[recompute] = train_blocks(blocks, x, recompute, &most[recompute]);
        for (int i = 0; i < 2 * BLOCKS; i++) {
            fdl_tensor *w = i % 2 ? blocks[i / 2].w2 : blocks[i / 2].w1;
            grads[recompute][i] = fdl_clone(fdl_grad(w));
            check_some(grads[recompute][i]);
            check_ok(fdl_clear_grad(w));
        }
    }
    print_message("at most %lld MiB plain, %lld MiB recomputed\n", (long long)(most[0] / MIB),
                  (long long)(most[1] / MIB));
    assert_true(loss[0] == loss[1]);
    for (int i = 0; i < 2 * BLOCKS; i++)
        assert_true(fdl_allclose(grads[1][i], grads[0][i], .rtol = 1e-5, .atol = 1e-7));
    assert_true(most[1] < most[0] * 7 / 10);
}

static void training_steps_leave_the_device_as_it_was(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_tensor *w = fdl_randn(FDL_SHAPE(64, 64), .device = GPU, .requires_grad = true);
    int64_t before = 0, live = 0;
    for (int i = 0; i < 2000; i++) {
        if (i == 10) {
            before = allocated_on(0);
            live = fdl_live_tensors();
        }
        FDL_SCOPE;
        fdl_tensor *x = fdl_randn(FDL_SHAPE(32, 64), .device = GPU);
        check_ok(fdl_backward(fdl_mean(fdl_square(fdl_tanh(fdl_matmul(x, w))))));
        FDL_NO_GRAD;
        check_ok(fdl_sub_(w, fdl_grad(w), .alpha = 0.01));
        check_ok(fdl_clear_grad(w));
    }
    assert_int_equal(allocated_on(0), before);
    assert_int_equal(fdl_live_tensors(), live);
}

/* ---- the stream on which gradients are added up ------------------------------------------------------------------------- */

static void count_mismatches(int level, const char *line, void *ctx)
{
    (void)level;
    if (strstr(line, "AccumulateGrad node's stream does not match"))
        ++*(int *)ctx;
}

/* A leaf whose graph of the default stream lives on, and its gradient by a backward on a side stream. */
static double gradient_on(fdl_stream *side, bool held)
{
    FDL_SCOPE;
    fdl_stream *first = fdl_cuda_stream_default(GPU);
    fdl_tensor *w = fdl_full(FDL_SHAPE(64, 64), 3, .device = GPU, .requires_grad = true);
    fdl_accum *accumulator = NULL;
    if (held) {
        FDL_STREAM(side);
        accumulator = fdl_retain_accumulator(w);
        check_some(accumulator);
    }
    check_some(fdl_mul(w, 2)); /* belongs to this scope: its graph holds the leaf's node */
    check_ok(fdl_cuda_stream_wait_stream(side, first));
    {
        FDL_STREAM(side);
        check_ok(fdl_backward(fdl_sum(fdl_square(w))));
    }
    check_ok(fdl_cuda_stream_wait_stream(first, side));
    double mean = fdl_item(fdl_mean(fdl_grad(w)));
    fdl_accum_free(accumulator);
    fdl_cuda_stream_free(first);
    return mean;
}

static void a_held_accumulator_is_on_its_stream(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    int mismatches = 0, level = fdl_verbosity_level();
    char version[64];
    fdl_stream *side = fdl_cuda_stream_new(GPU);
    check_some(side);
    fdl_set_verbosity(FDL_VERBOSE);
    check_ok(fdl_msg_set_sink(count_mismatches, &mismatches));
    double with = gradient_on(side, true);
    int when_held = mismatches;
    double without = gradient_on(side, false);
    check_ok(fdl_msg_set_sink(NULL, NULL));
    fdl_set_verbosity(level);
    fdl_cuda_stream_free(side);
    fdl_libtorch_version(version, sizeof version);
    print_message("libtorch %s: %d warnings with the accumulator held, %d without\n", version, when_held,
                  mismatches - when_held);
    assert_true(with == 6 && without == 6);
    assert_int_equal(when_held, 0);
    if (strncmp(version, "2.11.", 5) == 0)
        assert_true(mismatches > 0); /* that there is something to be warned of */
}

/* ---- the same bits again ---------------------------------------------------------------------------------------------------- */

static void deterministic_operations(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    check_ok(fdl_manual_seed(1));
    fdl_tensor *idx = fdl_randint(0, 50, FDL_SHAPE(200000), .device = GPU);
    fdl_tensor *src = fdl_randn(FDL_SHAPE(200000), .device = GPU),
               *zeros = fdl_zeros(FDL_SHAPE(50), .device = GPU);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(1000), .device = GPU);
    check_ok(fdl_deterministic(true));
    fdl_tensor *first = fdl_index_add(zeros, 0, idx, src);
    check_some(first);
    for (int i = 0; i < 20; i++)
        assert_true(fdl_same(fdl_index_add(zeros, 0, idx, src), first));
    /* Which operations have no such form differs from one libtorch to the next; unpooling has had none so far. */
    fdl_tensor *pooled = fdl_reshape(fdl_narrow(x, 0, 0, 4), FDL_SHAPE(1, 1, 2, 2));
    fdl_tensor *places =
        fdl_to_device(fdl_reshape(fdl_ivec(0, 2, 8, 10), FDL_SHAPE(1, 1, 2, 2)), fdl_device_of(x));
    assert_null(fdl_max_unpool2d(pooled, places, 2));
    check_error(FDL_E_UNSUPPORTED, "fdl_max_unpool2d([1, 1, 2, 2] float32 cuda", "unpool",
                "deterministic implementation", "fdl_deterministic(false)");
    check_ok(fdl_deterministic(true, .warn_only = true));
    check_some(fdl_max_unpool2d(pooled, places, 2));
    check_ok(fdl_deterministic(false));
    check_some(fdl_max_unpool2d(pooled, places, 2));
    assert_true(fdl_allclose(fdl_cpu(first), fdl_index_add(fdl_cpu(zeros), 0, fdl_cpu(idx), fdl_cpu(src)),
                             .rtol = 1e-4, .atol = 1e-3));
}

/* ---- memory runs out in the middle ------------------------------------------------------------------------------------------- */

typedef struct wide {
    fdl_tensor *w, *x, *y; /* [COLUMNS, COLUMNS], [ROWS, COLUMNS] */
    fdl_optim *opt;
    double loss;
} wide;

/* Each operation needs 16 MiB that nobody has given back. */
static fdl_status wide_step(wide *t)
{
    FDL_SCOPE;
    fdl_tensor *h = fdl_linear(t->x, t->w);
    h = fdl_gelu(h);
    h = fdl_layer_norm(h, FDL_SHAPE(COLUMNS));
    h = fdl_softmax(h, -1);
    h = fdl_mul(h, t->x);
    h = fdl_sub(h, t->y);
    fdl_tensor *loss = fdl_mean(fdl_square(h));
    FDL_TRY(fdl_clear_grad(t->w));
    FDL_TRY(fdl_backward(loss));
    FDL_NO_GRAD;
    FDL_TRY(fdl_sub_(t->w, fdl_mul(fdl_grad(t->w), 0.1), .alpha = 0.1));
    t->loss = fdl_item(loss);
    return fdl_error_pending();
}

/* Lets the allocator hold so many bytes more than it does. */
static void allow(int64_t more)
{
    int64_t reserved, total;
    check_ok(fdl_cuda_empty_cache());
    check_ok(fdl_cuda_memory_reserved(0, &reserved));
    check_ok(fdl_cuda_mem_info(0, NULL, &total));
    check_ok(fdl_cuda_set_memory_fraction(0, fmin(1, (double)(reserved + more) / (double)total)));
}

/* The name that a message begins with, up to its "(". */
static void name_in(const char *message, char name[64])
{
    size_t n = strcspn(message, "(:");
    n = n < 63 ? n : 63;
    memcpy(name, message, n);
    name[n] = 0;
}

static void every_operation_of_a_step_runs_out_of_memory(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    enum { NAMES = 32 };
    char failed[NAMES][64];
    int names = 0, passed = 0;
    check_ok(fdl_manual_seed(2));
    wide t = {.w = fdl_mul(fdl_randn(FDL_SHAPE(COLUMNS, COLUMNS), .device = GPU), 0.03),
              .x = fdl_randn(FDL_SHAPE(ROWS, COLUMNS), .device = GPU),
              .y = fdl_randn(FDL_SHAPE(ROWS, COLUMNS), .device = GPU)};
    check_ok(fdl_requires_grad_(t.w, true));
    check_ok(wide_step(&t));
    fdl_tensor *was = fdl_clone(fdl_detach(t.w));
    int64_t live = fdl_live_tensors();
    for (int64_t more = 0; more <= 400 * MIB && passed < 2; more += 8 * MIB) {
        fdl_cuda_memory before, after;
        allow(more);
        check_ok(fdl_cuda_memory_stats(0, &before));
        fdl_status status = wide_step(&t);
        check_ok(fdl_cuda_memory_stats(0, &after));
        assert_int_equal(fdl_live_tensors(), live); /* its scope closed */
        if (status == FDL_OK) {
            passed++;
        } else {
            char name[64];
            const fdl_error *e = fdl_last_error();
            name_in(e->message, name);
            if ((!names || strcmp(failed[names - 1], name) != 0) && names < NAMES) {
                print_message("%lld MiB: %s\n", (long long)(more / MIB), e->message);
                strcpy(failed[names++], name);
            }
            check_error(FDL_E_OOM, name, "Tried to allocate", "MiB", "cuda:0 has", "bytes", "tensors take",
                        "allocator holds");
            assert_true(after.ooms > before.ooms);
        }
        check_ok(fdl_cuda_set_memory_fraction(0, 1));
        check_ok(wide_step(&t)); /* with memory, the next step is as good as any */
        assert_true(isfinite(t.loss));
    }
    check_ok(fdl_cuda_set_memory_fraction(0, 1));
    assert_true(passed > 0);
    int distinct = 0;
    bool backward = false;
    for (int i = 0; i < names; i++) {
        bool seen = false;
        for (int k = 0; k < i; k++)
            seen |= strcmp(failed[i], failed[k]) == 0;
        distinct += !seen;
        backward |= strcmp(failed[i], "fdl_backward") == 0;
    }
    print_message("memory ran out in %d different operations\n", distinct);
    assert_true(distinct >= 5 && backward);
    assert_false(fdl_same(fdl_detach(t.w), was)); /* the good steps have trained */
}

/* An optimizer that couldn't make its state makes it the next time, and steps as one that could. */
static void an_optimizer_without_memory_for_its_state(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_module *models[2];
    fdl_optim *opts[2];
    fdl_tensor *x = fdl_randn(FDL_SHAPE(8, 4096), .device = GPU);
    for (int i = 0; i < 2; i++) {
        check_ok(fdl_manual_seed(21));
        models[i] = fdl_nn_linear(4096, 4096, .device = GPU); /* 64 MiB, and twice that of state */
        check_some(models[i]);
        opts[i] = fdl_optim_adam(fdl_parameters(models[i]), .lr = 1e-3);
        check_some(opts[i]);
        check_ok(fdl_optim_zero_grad(opts[i]));
        check_ok(fdl_backward(fdl_mean(fdl_square(fdl_forward(models[i], x)))));
    }
    for (int64_t more = 1 * MIB; more <= 65 * MIB; more += 64 * MIB) { /* neither of two, one of two */
        allow(more);
        fdl_status status = fdl_optim_step(opts[0]);
        check_ok(fdl_cuda_set_memory_fraction(0, 1));
        assert_int_equal(status, FDL_E_OOM);
        check_error(FDL_E_OOM, "Tried to allocate", "MiB", "cuda:0 has");
    }
    for (int step = 0; step < 3; step++)
        for (int i = 0; i < 2; i++)
            check_ok(fdl_optim_step(opts[i]));
    fdl_tensor *w[2];
    for (int i = 0; i < 2; i++)
        w[i] = fdl_param_tensor(fdl_params_at(fdl_parameters(models[i]), 0));
    assert_true(fdl_same(w[0], w[1]));
    for (int i = 0; i < 2; i++) {
        fdl_optim_free(opts[i]);
        check_ok(fdl_module_free(models[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_device_takes_all),
        cmocka_unit_test(a_thousand_tensors_take_few_kernels),
        cmocka_unit_test(recomputation_takes_less_memory),
        cmocka_unit_test(training_steps_leave_the_device_as_it_was),
        cmocka_unit_test(a_held_accumulator_is_on_its_stream),
        cmocka_unit_test(deterministic_operations),
        cmocka_unit_test(every_operation_of_a_step_runs_out_of_memory),
        cmocka_unit_test(an_optimizer_without_memory_for_its_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
