/* What a warm forward costs in memory: no heap calls by the graph, values gone after their last reader,
 * nothing that grows; adding in place only where nobody can see it. */
#include "graph/modules.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 /* the sanitizer has malloc for itself */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

/* ---- heap calls, counted ------------------------------------------------------------------------------- */

#ifndef SANITIZED
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
static _Thread_local long heap_calls;

void *malloc(size_t size)
{
    heap_calls++;
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    heap_calls++;
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    heap_calls++;
    return __libc_realloc(p, size);
}

static long calls_of_forward(fdl_module *g, fdl_tensor *x)
{
    for (int i = 0; i < 3; i++) {
        FDL_SCOPE;
        check_some(fdl_forward(g, x));
    }
    long before = heap_calls;
    for (int i = 0; i < 10; i++) {
        FDL_SCOPE;
        fdl_forward(g, x);
    }
    return heap_calls - before;
}

/* Ten additions by hand. */
static long calls_of_addition(fdl_tensor *x)
{
    long before = heap_calls;
    for (int i = 0; i < 10; i++) {
        FDL_SCOPE;
        fdl_add(x, x);
    }
    return heap_calls - before;
}

static fdl_tensor *x_of_refs(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    return fdl_refs_at(r, 0) ? x : NULL;
}

static const fdl_module_ops passes_ops = {.kind = "passes", .forward_named = x_of_refs};

static void a_warm_forward_calls_no_malloc(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(2, 2));
    fdl_flow_builder *b = fdl_flow_new();
    for (int i = 0; i < 1000; i++)
        check_ok(fdl_flow_add(b, id()));
    fdl_module *g = fdl_flow_build(b);
    assert_int_equal(calls_of_forward(g, x), 0);
    fdl_module_free(g);
    g = fdl_flow(id(), fdl_flow_tag("a"), fdl_flow_fork(id()), fdl_flow_tag("b"), fdl_flow(id(), id()),
                 fdl_flow_loop(fdl_flow(id(), new_counter()), .n = 5), fdl_module_new(&passes_ops),
                 fdl_flow_using("b", "a"), fdl_flow_loop(fdl_module_new(&passes_ops), .n = 3),
                 fdl_flow_using("a"));
    assert_int_equal(calls_of_forward(g, x), 0);
    fdl_module_free(g);
    /* state, which its own value replaces: read, written, under a tag */
    g = fdl_flow(id(), fdl_module_new(&passes_ops), fdl_flow_using("m"), fdl_flow_also(id(), .name = "arm"),
                 fdl_flow_fork(id()), fdl_flow_tag("m"));
    long plain = calls_of_addition(x);
    assert_int_equal(calls_of_forward(g, x), plain);
    fdl_module_free(g);
    /* what adds: the graph's share is what is left after that of the same additions by hand */
    FDL_NO_GRAD;
    g = fdl_flow(id(), fdl_flow_also(id()), fdl_flow_split(id(), id()), fdl_flow_merge(FDL_MERGE_ADD));
    long graph = calls_of_forward(g, x), before = heap_calls;
    for (int i = 0; i < 10; i++) {
        FDL_SCOPE;
        fdl_tensor *y = fdl_add(x, x);
        fdl_add(y, y);
    }
    assert_int_equal(graph, heap_calls - before);
    fdl_module_free(g);
}

#endif

/* ---- when values die ----------------------------------------------------------------------------------- */

static int64_t most;

static fdl_tensor *watched(fdl_tensor *x)
{
    fdl_tensor *y = fdl_add(x, 1.0);
    if (fdl_live_tensors() > most)
        most = fdl_live_tensors();
    return y;
}

static void values_die_after_their_last_reader(void **state)
{
    (void)state;
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor *x = row(0);
    fdl_flow_builder *b = fdl_flow_new();
    for (int i = 0; i < 100; i++)
        check_ok(fdl_flow_add(b, fdl_nn_fn(watched)));
    fdl_module *g = fdl_flow_build(b);
    int64_t before = most = fdl_live_tensors();
    fdl_tensor *y = fdl_forward(g, x);
    assert_int_equal(most - before, 2); /* the node's input and its result */
    assert_int_equal(fdl_live_tensors(), before + 1);
    check_values(y, 100);
    fdl_module_free(g);
    /* through nodes that return the handle that they were given, and a side value that nobody reads */
    g = fdl_flow(fdl_nn_fn(watched), id(), fdl_flow_fork(fdl_nn_fn(watched)), id(), fdl_nn_fn(watched), id(),
                 fdl_nn_fn(watched), fdl_flow_loop(fdl_nn_fn(watched), .n = 50));
    before = most = fdl_live_tensors();
    y = fdl_forward(g, x);
    assert_int_equal(most - before, 3); /* the loop's input, a state and the next one */
    assert_int_equal(fdl_live_tensors(), before + 1);
    check_values(y, 53);
    fdl_module_free(g);
}

static void nothing_grows(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_linear(2, 2), fdl_flow_tag("ctx"), fdl_flow_also(fdl_nn_linear(2, 2)),
                             fdl_flow_split(fdl_nn_linear(2, 2), id()), fdl_flow_merge(FDL_MERGE_MEAN),
                             fdl_flow_loop(add_ctx(), .n = 3), fdl_flow_using("ctx"));
    fdl_tensor *x = row(1, 2);
    int64_t before = 0;
    for (int i = 0; i < 1000; i++) {
        {
            FDL_SCOPE;
            FDL_CHECK(fdl_backward(fdl_sum(fdl_forward(g, x))));
        }
        if (i == 10)
            before = fdl_live_tensors();
    }
    assert_int_equal(fdl_live_tensors(), before);
    fdl_module_free(g);
}

/* ---- adding in place ----------------------------------------------------------------------------------- */

static const void *storage_seen;

static fdl_tensor *note_storage(fdl_tensor *x)
{
    fdl_tensor *y = fdl_mul(x, 2.0);
    storage_seen = fdl_data_ptr(y);
    return y;
}

static void inference_adds_into_a_value_that_nobody_needs(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id(), fdl_flow_also(fdl_nn_fn(note_storage)));
    fdl_tensor *x = row(1, 2);
    {
        FDL_NO_GRAD;
        fdl_tensor *y = fdl_forward(g, x);
        check_values(y, 3, 6);
        assert_ptr_equal(fdl_data_ptr(y), storage_seen);
    }
    fdl_tensor *y = fdl_forward(g, x);
    check_values(y, 3, 6);
    assert_ptr_not_equal(fdl_data_ptr(y), storage_seen);
    check_values(x, 1, 2);
    fdl_module_free(g);
}

static fdl_tensor *kept;

static fdl_tensor *keeps(fdl_tensor *x)
{
    fdl_tensor *y = fdl_mul(x, 2.0);
    kept = fdl_keep(y);
    return y;
}

static fdl_tensor *view(fdl_tensor *x)
{
    return fdl_detach(x);
}

static void adding_in_place_is_never_seen(void **state)
{
    (void)state;
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor *x = row(1, 2);
    /* the graph's own input, by its handle and by a view */
    fdl_module *g = fdl_flow(fdl_flow_also(id()), fdl_flow_also(fdl_nn_fn(view)));
    check_values(fdl_forward(g, x), 4, 8);
    check_values(x, 1, 2);
    fdl_module_free(g);
    /* a value that its module kept */
    g = fdl_flow(id(), fdl_flow_also(fdl_nn_fn(keeps)));
    check_values(fdl_forward(g, x), 3, 6);
    check_values(kept, 2, 4);
    fdl_free(kept);
    fdl_module_free(g);
    /* a parameter as a value */
    fdl_module *m = new_bias(2);
    g = fdl_flow(m, fdl_flow_also(id()));
    check_values(fdl_forward(g, x), 2, 4);
    check_values(fdl_param_tensor(fdl_module_own_param(m, "bias")), 0, 0);
    fdl_module_free(g);
    /* a value that is read later, under its own name and under that of an identity behind it */
    g = fdl_flow(dbl(), fdl_flow_tag("a"), id(), fdl_flow_also(tri()), sum_refs(), fdl_flow_using("a"));
    check_values(fdl_forward(g, x), 8 + 2, 16 + 4);
    fdl_module_free(g);
    g = fdl_flow(dbl(), id(), fdl_flow_tag("a"), fdl_flow_fork(id()), fdl_flow_tag("b"), fdl_flow_also(tri()),
                 sum_refs(), fdl_flow_using("a", "b"));
    check_values(fdl_forward(g, x), 8 + 2 + 4, 16 + 4 + 8);
    fdl_module_free(g);
    /* one value as several operands */
    g = fdl_flow(id(), fdl_flow_split(dbl(), tri()), fdl_flow_tag_group("b"), fdl_flow_merge(FDL_MERGE_ADD),
                 fdl_flow_using("b_0", "b_1"));
    check_values(fdl_forward(g, x), 10, 20);
    fdl_module_free(g);
    g = fdl_flow(dbl(), fdl_flow_also(id(), .skip = id()), fdl_flow_split(id(), id(), id()),
                 fdl_flow_merge(FDL_MERGE_MEAN));
    check_values(fdl_forward(g, x), 4, 8);
    fdl_module_free(g);
    /* shapes that broadcast, dtypes that promote */
    g = fdl_flow(id(), fdl_flow_input("y"), fdl_flow_split(dbl(), dbl()), fdl_flow_merge(FDL_MERGE_ADD),
                 fdl_flow_using("y"));
    check_values(fdl_forward(g, x, fdl_full(FDL_SHAPE(2, 1), 10)), 14, 18, 14, 18);
    fdl_tensor *sum = fdl_forward(g, x, fdl_full(FDL_SHAPE(1), 10, .dtype = FDL_FLOAT64));
    check_values(sum, 14, 18);
    sum = fdl_forward(g, fdl_ones(FDL_SHAPE(2), .dtype = FDL_INT64), fdl_full(FDL_SHAPE(1), 0.5));
    assert_int_equal(fdl_dtype_of(sum), FDL_FLOAT32);
    check_values(sum, 4.5f, 4.5f);
    fdl_module_free(g);
}

static void a_value_with_history_is_not_changed(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = row(2, 3);
    FDL_CHECK(fdl_requires_grad_(x, true));
    fdl_module *g = fdl_flow(fdl_nn_fn(fdl_exp), fdl_flow_also(dbl()),
                             fdl_flow_split(fdl_nn_fn(fdl_exp), id()), fdl_flow_merge(FDL_MERGE_ADD));
    FDL_CHECK(fdl_backward(fdl_sum(fdl_forward(g, x))));
    double v[2];
    FDL_CHECK(fdl_to_f64(fdl_grad(x), v, 2));
    for (int i = 0; i < 2; i++) { /* s = 3 e^x; d(e^s + s) = (e^s + 1) s */
        double s = 3 * (i ? 20.085536923187668 : 7.38905609893065), es = 1;
        for (int k = 0; k < 1024; k++)
            es *= 1 + s / 1024 + s * s / (2.0 * 1024 * 1024) + s * s * s / (6.0 * 1024 * 1024 * 1024);
        double want = (es + 1) * s;
        assert_true(v[i] > want * 0.99 && v[i] < want * 1.01);
    }
    fdl_module_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifndef SANITIZED
        cmocka_unit_test(a_warm_forward_calls_no_malloc),
#endif
        cmocka_unit_test(values_die_after_their_last_reader),
        cmocka_unit_test(nothing_grows),
        cmocka_unit_test(inference_adds_into_a_value_that_nobody_needs),
        cmocka_unit_test(adding_in_place_is_never_seen),
        cmocka_unit_test(a_value_with_history_is_not_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
