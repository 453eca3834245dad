/* Threads: each has its scopes, error, modes and defaults; tensors pass between them; eight train eight models. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <flodl/flodl.h>

enum { THREADS = 8 };

static void run_all(void *(*fn)(void *), void *args, size_t size)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fn, (char *)args + size * (size_t)i), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void *trains(void *arg)
{
    double *loss_at = arg;
    FDL_SCOPE;
    fdl_tensor *w = fdl_zeros(FDL_SHAPE(3), .requires_grad = true);
    fdl_tensor *target = fdl_full(FDL_SHAPE(3), *loss_at);
    for (int i = 0; i < 60; i++) {
        FDL_SCOPE;
        fdl_tensor *d = fdl_sub(w, target);
        fdl_tensor *loss = fdl_sum(fdl_mul(d, d));
        if (fdl_backward(loss) != FDL_OK)
            return NULL;
        FDL_NO_GRAD;
        if (fdl_sub_(w, fdl_grad(w), .alpha = 0.25) != FDL_OK || fdl_clear_grad(w) != FDL_OK)
            return NULL;
        *loss_at = fdl_item(loss);
    }
    return NULL;
}

static void eight_threads_train_eight_models(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    double loss[THREADS];
    for (int i = 0; i < THREADS; i++)
        loss[i] = i + 1;
    run_all(trains, loss, sizeof *loss);
    for (int i = 0; i < THREADS; i++)
        assert_true(loss[i] < 1e-9);
    assert_int_equal(fdl_live_tensors(), before);
}

static void *fails_in_its_own_way(void *arg)
{
    int *ok = arg;
    int mine = *ok;
    *ok = 0;
    FDL_SCOPE;
    if (fdl_error_pending() != FDL_OK || !fdl_grad_enabled() || fdl_scope_depth() != 1)
        return NULL;
    FDL_NO_GRAD;
    for (int i = 0; i < 50; i++) {
        char want[32];
        snprintf(want, sizeof want, "extent -%d", mine + 1);
        fdl_zeros(FDL_SHAPE(-(mine + 1)));
        if (!strstr(fdl_last_error()->message, want) || fdl_grad_enabled())
            return NULL;
    }
    *ok = 1;
    return NULL;
}

static void errors_and_modes_are_each_threads_own(void **state)
{
    (void)state;
    assert_null(fdl_zeros(FDL_SHAPE(-100)));
    int ok[THREADS];
    for (int i = 0; i < THREADS; i++)
        ok[i] = i;
    run_all(fails_in_its_own_way, ok, sizeof *ok);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(ok[i], 1);
    assert_non_null(strstr(fdl_last_error()->message, "extent -100"));
    fdl_clear_error();
    assert_true(fdl_grad_enabled());
}

/* A producer's kept tensors are adopted by a consumer, whose freed slots must come back to the producer. */
typedef struct queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    fdl_tensor *at[16];
    int n;
    bool ended;
    double sum;
} queue;

enum { PASSED = 5000 };

static void *produces(void *arg)
{
    queue *q = arg;
    for (int i = 0; i < PASSED; i++) {
        FDL_SCOPE;
        fdl_tensor *t = fdl_keep(fdl_scalar(i));
        pthread_mutex_lock(&q->lock);
        while (q->n == 16)
            pthread_cond_wait(&q->changed, &q->lock);
        q->at[q->n++] = t;
        pthread_cond_broadcast(&q->changed);
        pthread_mutex_unlock(&q->lock);
    }
    pthread_mutex_lock(&q->lock);
    q->ended = true;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

static void tensors_pass_between_threads(void **state)
{
    (void)state;
    queue q = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    int64_t before = fdl_live_tensors();
    pthread_t producer;
    assert_int_equal(pthread_create(&producer, NULL, produces, &q), 0);
    for (bool more = true; more;) {
        fdl_tensor *t = NULL;
        pthread_mutex_lock(&q.lock);
        while (!q.n && !q.ended)
            pthread_cond_wait(&q.changed, &q.lock);
        if (q.n)
            t = q.at[--q.n];
        more = q.n || !q.ended;
        pthread_cond_broadcast(&q.changed);
        pthread_mutex_unlock(&q.lock);
        if (!t)
            continue;
        more = true;
        FDL_SCOPE;
        q.sum += fdl_item(fdl_adopt(t));
    }
    pthread_join(producer, NULL);
    assert_float_equal(q.sum, (double)PASSED * (PASSED - 1) / 2, 0);
    assert_int_equal(fdl_live_tensors(), before);
}

typedef struct foreign {
    fdl_tensor *x;
    fdl_scope *scope;
    fdl_status freed, closed, kept_freed;
    fdl_tensor *kept;
} foreign;

static void *touches(void *arg)
{
    foreign *f = arg;
    f->freed = fdl_free(f->x);
    fdl_clear_error();
    f->closed = fdl_scope_close(f->scope);
    fdl_clear_error();
    f->kept_freed = fdl_free(f->kept);
    return NULL;
}

static void scopes_are_closed_by_their_own_thread(void **state)
{
    (void)state;
    FDL_SCOPE;
    foreign f = {.x = fdl_ones(FDL_SHAPE(1)), .scope = fdl_scope_open()};
    f.kept = fdl_keep(f.x);
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, touches, &f), 0);
    pthread_join(t, NULL);
    assert_int_equal(f.freed, FDL_E_STATE);
    assert_int_equal(f.closed, FDL_E_STATE);
    assert_int_equal(f.kept_freed, FDL_OK);
    assert_float_equal(fdl_item(f.x), 1, 0);
    FDL_CHECK(fdl_scope_close(f.scope));
}

static void *ends_in_the_middle(void *arg)
{
    (void)arg;
    fdl_scope_open();
    fdl_ones(FDL_SHAPE(4)); /* its scope and the root's: freed when the thread ends */
    fdl_no_grad_open();
    pthread_exit(NULL);
}

static void a_thread_that_ends_leaves_nothing(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    char unused[THREADS];
    run_all(ends_in_the_middle, unused, 1);
    assert_int_equal(fdl_live_tensors(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_threads_train_eight_models),
        cmocka_unit_test(errors_and_modes_are_each_threads_own),
        cmocka_unit_test(tensors_pass_between_threads),
        cmocka_unit_test(scopes_are_closed_by_their_own_thread),
        cmocka_unit_test(a_thread_that_ends_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
