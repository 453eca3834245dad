/* Watching operations: equal steps are equal, a host number, a shape or another operation is a difference, backward is
 * seen, other threads aren't. */
#include "check.h"

#include <pthread.h>

static void step(double factor, int64_t rows)
{
    FDL_SCOPE;
    fdl_tensor *w = fdl_ones(FDL_SHAPE(3, 2), .requires_grad = true);
    fdl_tensor *x = fdl_ones(FDL_SHAPE(rows, 3));
    check_ok(fdl_backward(fdl_sum(fdl_mul(fdl_gelu(fdl_matmul(x, w)), factor))));
}

static fdl_watch *watch_step(double factor, int64_t rows)
{
    fdl_watch *w = fdl_watch_start();
    check_some(w);
    step(factor, rows);
    check_ok(fdl_watch_stop(w));
    return w;
}

static int64_t first_named(const fdl_watch *w, const char *name)
{
    for (int64_t i = 0; i < fdl_watch_count(w); i++)
        if (strcmp(fdl_watch_name(w, i), name) == 0)
            return i;
    return -1;
}

static void steps_are_compared(void **state)
{
    (void)state;
    step(0.5, 4);
    fdl_watch *a = watch_step(0.5, 4), *same = watch_step(0.5, 4), *other = watch_step(0.7, 4),
              *larger = watch_step(0.5, 5);
    assert_true(fdl_watch_count(a) > 6);
    assert_int_equal(fdl_watch_difference(a, same), -1);
    int64_t at = fdl_watch_difference(a, other);
    assert_true(at > first_named(a, "aten::matmul"));
    assert_string_equal(fdl_watch_name(a, at), "aten::mul");
    assert_true(fdl_watch_difference(a, larger) >= 0);
    assert_true(first_named(a, "aten::gelu_backward") > first_named(a, "aten::gelu"));
    assert_int_equal(fdl_watch_obstacle(a, NULL), -1);
    assert_null(fdl_watch_name(a, fdl_watch_count(a)));
    fdl_watch_free(a);
    fdl_watch_free(same);
    fdl_watch_free(other);
    fdl_watch_free(larger);
}

static void *elsewhere(void *arg)
{
    (void)arg;
    FDL_SCOPE;
    fdl_cos(fdl_ones(FDL_SHAPE(3)));
    return NULL;
}

static void one_thread_and_one_watch(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_watch *w = fdl_watch_start();
    check_some(w);
    assert_null(fdl_watch_start());
    check_error(FDL_E_STATE, "another watch");
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, elsewhere, NULL), 0);
    pthread_join(thread, NULL);
    fdl_sin(fdl_ones(FDL_SHAPE(3)));
    check_ok(fdl_watch_stop(w));
    check_ok(fdl_watch_stop(w)); /* once more: nothing */
    int64_t n = fdl_watch_count(w);
    fdl_sin(fdl_ones(FDL_SHAPE(3)));
    assert_int_equal(fdl_watch_count(w), n);
    assert_true(first_named(w, "aten::sin") >= 0);
    assert_int_equal(first_named(w, "aten::cos"), -1);
    fdl_watch_free(w);
    w = fdl_watch_start();
    check_some(w);
    fdl_watch_free(w); /* while it runs */
    w = fdl_watch_start();
    check_some(w);
    fdl_watch_free(w);
    fdl_watch_free(NULL);
    assert_int_equal(fdl_watch_stop(NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_watch_stop");
}

static fdl_watch *watched(fdl_tensor *(*f)(fdl_tensor *x), fdl_tensor *x)
{
    fdl_watch *w = fdl_watch_start();
    check_some(w);
    f(x);
    check_ok(fdl_watch_stop(w));
    return w;
}

static fdl_tensor *reads(fdl_tensor *x)
{
    return fdl_mul(x, fdl_item(fdl_sum(x)));
}

static fdl_tensor *host_operand(fdl_tensor *x)
{
    return fdl_add(x, fdl_to_device_of(fdl_ones(FDL_SHAPE(3), .device = FDL_CPU), x));
}

static fdl_tensor *device_only(fdl_tensor *x)
{
    return fdl_dropout(fdl_add(fdl_mul(x, 0.5), x), 0.5, .training = true);
}

static void what_a_graph_cannot_hold(void **state)
{
    (void)state;
    if (!fdl_cuda_available()) {
        print_message("skipped: no CUDA device\n");
        skip();
    }
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(3), .device = FDL_CUDA(0));
    static const struct {
        fdl_tensor *(*f)(fdl_tensor *x);
        const char *name, *why;
    } cases[] = {{reads, "aten::_local_scalar_dense", "on the host"},
                 {fdl_nonzero, "aten::nonzero", "depends on the data"},
                 {fdl_cpu, "aten::copy_", "to the host"},
                 {host_operand, "aten::copy_", "of the host to the device"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fdl_watch *w = watched(cases[i].f, x);
        const char *why = "";
        int64_t at = fdl_watch_obstacle(w, &why);
        assert_true(at >= 0);
        assert_string_equal(fdl_watch_name(w, at), cases[i].name);
        assert_non_null(strstr(why, cases[i].why));
        fdl_watch_free(w);
    }
    fdl_watch *w = watched(device_only, x);
    assert_int_equal(fdl_watch_obstacle(w, NULL), -1);
    fdl_watch_free(w);
}

static void operations_have_the_part_that_ran_them(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(3), .requires_grad = true);
    assert_false(fdl_watch_running());
    fdl_watch_enter("nobody looks");
    fdl_watch *w = fdl_watch_start();
    assert_true(fdl_watch_running());
    int64_t ends[5] = {0}; /* of the operations of each place */
    fdl_tensor *y = fdl_mul(x, 2);
    ends[1] = fdl_watch_count(w);
    fdl_watch_enter("outer");
    y = fdl_mul(y, 2);
    ends[2] = fdl_watch_count(w);
    fdl_watch_enter("inner");
    y = fdl_mul(y, 2);
    ends[3] = fdl_watch_count(w);
    fdl_watch_leave();
    y = fdl_mul(y, 2);
    ends[4] = fdl_watch_count(w);
    fdl_watch_leave();
    fdl_watch_leave(); /* once too often */
    int64_t forward = fdl_watch_count(w);
    check_ok(fdl_backward(fdl_sum(y)));
    check_ok(fdl_watch_stop(w));
    assert_false(fdl_watch_running());
    static const char *const parts[] = {NULL, "outer", "outer: inner", "outer"};
    for (int k = 0; k < 4; k++) {
        assert_true(ends[k + 1] > ends[k]);
        for (int64_t i = ends[k]; i < ends[k + 1]; i++)
            if (parts[k])
                assert_string_equal(fdl_watch_part(w, i), parts[k]);
            else
                assert_null(fdl_watch_part(w, i));
    }
    for (int64_t i = forward; i < fdl_watch_count(w) + 1; i++)
        assert_null(fdl_watch_part(w, i));
    fdl_watch_free(w);
    assert_null(fdl_watch_part(NULL, 0));
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_compared),
        cmocka_unit_test(one_thread_and_one_watch),
        cmocka_unit_test(operations_have_the_part_that_ran_them),
        cmocka_unit_test(what_a_graph_cannot_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
