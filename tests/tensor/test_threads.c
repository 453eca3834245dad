/* Threads: each has its scopes, error, modes and defaults; tensors pass between them; eight train eight models. */
#include "check.h"

#include <pthread.h>

enum { THREADS = 8 };

static void run_all(void *(*fn)(void *), void *args, size_t size)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fn, (char *)args + size * (size_t)i), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* A model of its own, and what it is to learn. */
typedef struct pupil {
    fdl_module *model;
    fdl_optim *opt;
    double goal, loss;
} pupil;

static void *trains(void *arg)
{
    pupil *p = arg;
    p->loss = -1;
    for (int i = 0; i < 60; i++) {
        FDL_SCOPE;
        fdl_tensor *x = fdl_reshape(fdl_arange(0, 12, 1), FDL_SHAPE(4, 3));
        fdl_tensor *loss =
            fdl_mse_loss(fdl_forward(p->model, fdl_div(x, 12)), fdl_full(FDL_SHAPE(4, 2), p->goal));
        fdl_optim_zero_grad(p->opt);
        if (fdl_backward(loss) != FDL_OK || fdl_optim_step(p->opt) != FDL_OK)
            return NULL;
        p->loss = fdl_item(loss);
    }
    return NULL;
}

static void make_pupils(pupil *p)
{
    assert_int_equal(fdl_manual_seed(1), FDL_OK);
    for (int i = 0; i < THREADS; i++) {
        p[i] = (pupil){.model = fdl_flow(fdl_nn_linear(3, 8), fdl_nn_gelu(), fdl_nn_layer_norm(8),
                                         fdl_flow_also(fdl_nn_linear(8, 8)), fdl_nn_linear(8, 2)),
                       .goal = i - 3};
        p[i].opt = fdl_optim_adam(fdl_parameters(p[i].model), .lr = 0.05);
        assert_non_null(p[i].opt);
    }
}

static void free_pupils(pupil *p)
{
    for (int i = 0; i < THREADS; i++) {
        fdl_optim_free(p[i].opt);
        fdl_module_free(p[i].model);
    }
}

static void eight_threads_train_eight_models(void **state)
{
    (void)state;
    FDL_SCOPE;
    int64_t before = fdl_live_tensors();
    pupil together[THREADS], alone[THREADS];
    make_pupils(together);
    run_all(trains, together, sizeof *together);
    make_pupils(alone);
    for (int i = 0; i < THREADS; i++) {
        trains(&alone[i]);
        assert_true(alone[i].loss >= 0 && alone[i].loss < 0.1);
        assert_float_equal(together[i].loss, alone[i].loss, 0); /* to the bit */
    }
    free_pupils(together);
    free_pupils(alone);
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

/* Threads that work between enter and leave, while others close the gate again and again. */
static struct {
    pthread_mutex_t lock;
    int inside, closed, together, passes;
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void count(int inside, int closed)
{
    pthread_mutex_lock(&seen.lock);
    seen.inside += inside;
    seen.closed += closed;
    seen.passes += inside > 0;
    seen.together += seen.inside && seen.closed;
    pthread_mutex_unlock(&seen.lock);
}

static void *passes_the_gate(void *arg)
{
    bool closes = (*(int *)arg) % 4 == 0;
    for (int i = 0; i < 300; i++) {
        if (closes) {
            fdl_cuda_gate_close();
            fdl_cuda_gate_close();
            count(0, 1);
            fdl_cuda_gate_enter(); /* its own gate lets it pass */
            fdl_cuda_gate_leave();
            count(0, -1);
            if (fdl_cuda_gate_open() != FDL_OK || fdl_cuda_gate_open() != FDL_OK)
                return NULL;
        }
        fdl_cuda_gate_enter();
        fdl_cuda_gate_enter();
        count(1, 0);
        fdl_cuda_gate_leave();
        count(-1, 0);
        fdl_cuda_gate_leave();
    }
    *(int *)arg = -1;
    return NULL;
}

static void the_gate(void **state)
{
    (void)state;
    int arg[THREADS];
    for (int i = 0; i < THREADS; i++)
        arg[i] = i;
    run_all(passes_the_gate, arg, sizeof *arg);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(arg[i], -1);
    assert_int_equal(seen.passes, 300 * THREADS);
    assert_int_equal(seen.together, 0);
    fdl_cuda_gate_leave(); /* nothing */
    assert_int_equal(fdl_cuda_gate_open(), FDL_E_STATE);
    assert_non_null(strstr(fdl_last_error()->message, "didn't close"));
    fdl_clear_error();
    /* One that is inside itself may close it, and nobody waits for it. */
    fdl_cuda_gate_enter();
    fdl_cuda_gate_close();
    assert_int_equal(fdl_cuda_gate_open(), FDL_OK);
    fdl_cuda_gate_leave();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_threads_train_eight_models),
        cmocka_unit_test(errors_and_modes_are_each_threads_own),
        cmocka_unit_test(tensors_pass_between_threads),
        cmocka_unit_test(scopes_are_closed_by_their_own_thread),
        cmocka_unit_test(a_thread_that_ends_leaves_nothing),
        cmocka_unit_test(the_gate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
