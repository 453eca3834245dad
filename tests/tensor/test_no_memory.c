/* Memory runs out anywhere in a training step of a new thread, where nothing is warm yet: the step fails with FDL_E_OOM
 * and the next one works. */
#include "no_memory.h"

#include <pthread.h>

#ifdef NO_MEMORY_SKIPPED
int main(void)
{
    print_message("skipped: sanitizers have a malloc of their own\n");
    return 0;
}
#else

static fdl_tensor *w, *b; /* parameters, kept */

static fdl_status step(double *loss)
{
    FDL_SCOPE;
    fdl_tensor *x = fdl_arange(0, 12, 1), *y = fdl_vec(1, 2, 3);
    fdl_tensor *h = fdl_relu(fdl_linear(fdl_reshape(x, FDL_SHAPE(3, 4)), w, .bias = b));
    fdl_list parts = fdl_split(h, 1, 1);
    fdl_tensor *out = fdl_sum_dim(fdl_cat(parts, 1), 1);
    fdl_tensor *l = fdl_mse_loss(fdl_flatten(out, 0, -1), y);
    FDL_TRY(fdl_backward(l));
    FDL_NO_GRAD;
    fdl_list p = FDL_LIST(w, b), g = FDL_LIST(fdl_grad(w), fdl_grad(b));
    FDL_TRY(fdl_foreach_add_(p, g, .alpha = -1e-3));
    FDL_TRY(fdl_clear_grad(w));
    FDL_TRY(fdl_clear_grad(b));
    *loss = fdl_item(l);
    return fdl_error_pending();
}

static fdl_status wrong_call(double *unused)
{
    (void)unused;
    FDL_SCOPE;
    fdl_list many = fdl_split(fdl_zeros(FDL_SHAPE(3000)), 1, 0);
    fdl_tensor *all = fdl_cat(many, 0);
    return fdl_add(all, fdl_zeros(FDL_SHAPE(7))) ? FDL_OK : fdl_last_error()->status;
}

typedef struct attempt {
    fdl_status (*fn)(double *loss);
    long nth;        /* which allocation fails; 0: none */
    fdl_status is;   /* what it gave */
    fdl_status then; /* and once more, with memory */
    bool came;       /* the n-th was asked for */
    double loss;
} attempt;

static void *try_in_a_thread(void *arg)
{
    attempt *a = arg;
    countdown = a->nth;
    a->is = a->fn(&a->loss);
    a->came = countdown == 0;
    countdown = 0;
    fdl_clear_error();
    a->then = a->fn(&a->loss);
    fdl_clear_error();
    return NULL;
}

static attempt try(fdl_status (*fn)(double *loss), long nth)
{
    attempt a = {.fn = fn, .nth = nth, .loss = -1};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, try_in_a_thread, &a), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    return a;
}

static void parameters(void)
{
    FDL_SCOPE;
    w = fdl_keep(fdl_full(FDL_SHAPE(2, 4), 0.1, .requires_grad = true));
    b = fdl_keep(fdl_zeros(FDL_SHAPE(2), .requires_grad = true));
    check_some(w);
    check_some(b);
}

static void at_each_allocation_of_a_step(void **state)
{
    (void)state;
    parameters();
    /* The depot of free slots is drained, so that each thread has to make its own. */
    fdl_scope *hold = fdl_scope_open();
    check_some(hold);
    for (int i = 0; i < 5000; i++)
        check_some(fdl_detach(w));
    int64_t before = fdl_live_tensors();
    int failed = 0;
    for (long n = 1;; n++) {
        attempt a = try(step, n);
        assert_int_equal(fdl_live_tensors(), before);
        assert_int_equal(a.then, FDL_OK);
        assert_true(a.loss >= 0);
        if (!a.came) {
            assert_int_equal(a.is, FDL_OK);
            break;
        }
        assert_int_equal(a.is, FDL_E_OOM);
        failed++;
        assert_true(n < 1000);
    }
    print_message("%d allocations of a step failed, one at a time\n", failed);
    assert_true(failed >= 3);
    check_ok(fdl_scope_close(hold));
    check_ok(fdl_free(w));
    check_ok(fdl_free(b));
}

static void while_an_error_is_described(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    int failed = 0;
    for (long n = 1;; n++) {
        attempt a = try(wrong_call, n);
        assert_int_equal(fdl_live_tensors(), before);
        assert_int_equal(a.then, FDL_E_SHAPE);
        if (!a.came) {
            assert_int_equal(a.is, FDL_E_SHAPE);
            break;
        }
        assert_true(a.is == FDL_E_OOM || a.is == FDL_E_SHAPE);
        failed++;
        assert_true(n < 1000);
    }
    print_message("%d allocations of a call and its error failed, one at a time\n", failed);
    assert_true(failed >= 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_each_allocation_of_a_step),
        cmocka_unit_test(while_an_error_is_described),
    };
    return cmocka_run_group_tests_name("no memory", tests, no_memory_setup, NULL);
}
#endif
