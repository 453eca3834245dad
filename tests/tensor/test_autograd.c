/* Gradients against mathematics: accumulation, graphs that live and die, subgradients, flags, modes, second order. */
#include "check.h"

#include <math.h>
#include <pthread.h>

#define F64(...) ((const double[]){__VA_ARGS__})

/* A float64 leaf over numbers. */
static fdl_tensor *leaf_of(const double *values, fdl_shape shape)
{
    return fdl_from_f64(values, shape, .requires_grad = true);
}
#define LEAF(...) \
    leaf_of(F64(__VA_ARGS__), (fdl_shape){{(int64_t)(sizeof((double[]){__VA_ARGS__}) / sizeof(double))}, 1})

static void check_values_(fdl_tensor *x, int64_t n, const double *want, const char *file, int line)
{
    check_some_(x, "tensor", file, line);
    double got[64];
    assert_true(n <= 64);
    check_ok_(fdl_to_f64(x, got, n), "fdl_to_f64", file, line);
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= 1e-5 * (1 + fabs(want[i])))) {
            print_error("%s:%d: element %d is %g, not %g\n", file, line, (int)i, got[i], want[i]);
            _fail(file, line);
        }
}
#define check_values(x, ...)                                                                        \
    check_values_(x, (int64_t)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)), F64(__VA_ARGS__), \
                  __FILE__, __LINE__)
#define check_grad(x, ...) check_values(fdl_grad(x), __VA_ARGS__)

/* The gradient of sum(y) at x, which starts from none. */
static fdl_tensor *grad_of_sum(fdl_tensor *y, fdl_tensor *x)
{
    return fdl_list_at(fdl_grad_of(FDL_LIST(fdl_sum(y)), FDL_LIST(x)), 0);
}

/* ---- backward ------------------------------------------------------------------------------------------ */

static void chain_of_a_layer(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = LEAF(1);
    check_ok(fdl_backward(fdl_mul(x, 2)));
    check_grad(x, 2);

    /* relu(x w + b) of x [1, 3], w [3, 2], b [2]: both outputs are positive */
    x = leaf_of(F64(1, -2, 3), FDL_SHAPE(1, 3));
    fdl_tensor *w = leaf_of(F64(2, 0, 1, 1, 1, 1), FDL_SHAPE(3, 2));
    fdl_tensor *b = LEAF(1, 1);
    check_ok(fdl_backward(fdl_sum(fdl_relu(fdl_add(fdl_matmul(x, w), b)))));
    check_grad(x, 2, 2, 2);
    check_grad(w, 1, 1, -2, -2, 3, 3);
    check_grad(b, 1, 1);
}

static void gradients_accumulate_zero_and_clear(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = LEAF(5);
    check_ok(fdl_backward(fdl_mul(x, 1)));
    check_ok(fdl_backward(fdl_mul(x, 2)));
    check_grad(x, 3);
    check_ok(fdl_zero_grad(x));
    check_grad(x, 0);
    check_ok(fdl_clear_grad(x));
    assert_null(fdl_grad(x));
    assert_int_equal(fdl_error_pending(), FDL_OK);
    check_ok(fdl_zero_grad(x)); /* nothing there: nothing to do */
    assert_null(fdl_grad(x));
}

static void backward_of_many_elements_needs_a_gradient(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = leaf_of(F64(1, 2, 3, 4, 5, 6), FDL_SHAPE(2, 3));
    fdl_tensor *y = fdl_mul(x, 3);
    assert_int_equal(fdl_backward(y), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "fdl_backward", "[2, 3]", ".gradient");
    assert_int_equal(fdl_backward(y, .gradient = fdl_ones(FDL_SHAPE(3), .dtype = FDL_FLOAT64)), FDL_E_SHAPE);
    fdl_clear_error();
    check_ok(fdl_backward(y, .gradient = fdl_ones_like(y)));
    check_grad(x, 3, 3, 3, 3, 3, 3);
    assert_int_equal(fdl_backward(fdl_ones(FDL_SCALAR)), FDL_E_STATE);
    check_error(FDL_E_STATE, "does not require grad");
}

static void backward_accumulates_into_the_given_inputs_only(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = LEAF(2), *w = LEAF(3), *y = fdl_mul(x, w);
    assert_int_equal(fdl_backward(fdl_sum(y), .inputs = FDL_LIST(y)), FDL_E_ARG);
    check_error(FDL_E_ARG, "leaf");
    check_ok(fdl_backward(fdl_sum(y), .inputs = FDL_LIST(w)));
    check_grad(w, 2);
    assert_null(fdl_grad(x));
}

static void second_backward_needs_a_retained_graph(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = LEAF(3);
    fdl_tensor *y = fdl_sum(fdl_square(x));
    check_ok(fdl_backward(y));
    assert_int_equal(fdl_backward(y), FDL_E_STATE);
    check_error(FDL_E_STATE, "second time", ".retain_graph");
    check_ok(fdl_clear_grad(x));
    y = fdl_sum(fdl_square(x));
    check_ok(fdl_backward(y, .retain_graph = true));
    check_ok(fdl_backward(y));
    check_grad(x, 12);
}

static void paths_that_meet_add_up(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = LEAF(1);
    check_ok(fdl_backward(fdl_add(fdl_mul(x, 2), fdl_mul(x, 3))));
    check_grad(x, 5);
    fdl_tensor *b = LEAF(0.5), *y = LEAF(1);
    for (int i = 0; i < 3; i++)
        y = fdl_add(y, b);
    check_ok(fdl_backward(y));
    check_grad(b, 3);
}

/* ---- what the derivative is where there are several ------------------------------------------------------- */

static void the_chosen_element_gets_the_gradient(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = leaf_of(F64(1, 5, 7, 2), FDL_SHAPE(2, 2));
    check_values(grad_of_sum(fdl_max_dim(x, 1), x), 0, 1, 1, 0);
    check_values(grad_of_sum(fdl_topk(x, 1, 0), x), 0, 1, 1, 0);
    /* sum(w * sort(x)): w arrives where its element came from */
    x = LEAF(30, 10, 20);
    check_values(grad_of_sum(fdl_mul(fdl_sort(x, 0), fdl_vec(1, 2, 3)), x), 3, 1, 2);
    /* ties: of everything they share, of one dim one is chosen */
    x = LEAF(4, 4, 1);
    check_values(grad_of_sum(fdl_max(x), x), 0.5, 0.5, 0);
    check_values(grad_of_sum(fdl_amax(x, FDL_DIMS(0)), x), 0.5, 0.5, 0);
    assert_true(fdl_item(fdl_count_nonzero(grad_of_sum(fdl_max_dim(x, 0), x))) == 1);
    fdl_tensor *y = LEAF(4, 2, 1);
    check_values(grad_of_sum(fdl_maximum(x, y), x), 0.5, 1, 0.5);
}

static void indexing_adds_where_an_index_repeats(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = LEAF(1, 2, 3);
    check_values(grad_of_sum(fdl_index_select(x, 0, fdl_ivec(0, 2, 2, 2)), x), 1, 0, 3);
    check_values(grad_of_sum(fdl_gather(x, 0, fdl_ivec(1, 1)), x), 0, 2, 0);
    check_values(grad_of_sum(fdl_narrow(x, 0, 1, 2), x), 0, 1, 1);
    check_values(grad_of_sum(fdl_select(x, 0, 0), x), 1, 0, 0);
    check_values(grad_of_sum(fdl_expand(fdl_unsqueeze(x, 1), FDL_SHAPE(3, 4)), x), 4, 4, 4);
    check_values(grad_of_sum(fdl_repeat(x, FDL_DIMS(5)), x), 5, 5, 5);
    check_values(grad_of_sum(fdl_pad(x, FDL_DIMS(2, 1), .value = 9), x), 1, 1, 1);
    check_values(grad_of_sum(fdl_masked_fill(x, fdl_gt(x, 2), 0), x), 1, 1, 0);
    check_values(grad_of_sum(fdl_where(fdl_gt(x, 1), x, fdl_mul(x, 10)), x), 10, 1, 1);
}

static void reductions_at_known_points(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = LEAF(1, 2, 3);
    check_values(grad_of_sum(fdl_var(x), x), -1, 0, 1);
    check_values(grad_of_sum(fdl_std(x), x), -0.5, 0, 0.5);
    check_values(grad_of_sum(fdl_cumsum(x, 0), x), 3, 2, 1);
    x = LEAF(2, 3, 4);
    check_values(grad_of_sum(fdl_prod(x), x), 12, 8, 6);
    x = LEAF(0, 3, 4);
    check_values(grad_of_sum(fdl_prod(x), x), 12, 0, 0);
}

static void kinks_have_the_documented_derivative(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *zero = LEAF(0), *one = LEAF(1), *six = LEAF(6);
    check_values(grad_of_sum(fdl_relu(zero), zero), 0);
    check_values(grad_of_sum(fdl_abs(zero), zero), 0);
    check_values(grad_of_sum(fdl_leaky_relu(zero, .negative_slope = 0.25), zero), 0.25);
    check_values(grad_of_sum(fdl_clamp(one, -1, 1), one), 1);
    check_values(grad_of_sum(fdl_hardtanh(one), one), 0);
    check_values(grad_of_sum(fdl_relu6(six), six), 0);
    check_values(grad_of_sum(fdl_norm(zero), zero), 0);
    check_values(grad_of_sum(fdl_frac(one), one), 1);
    check_values(grad_of_sum(fdl_floor(one), one), 0);
    assert_true(isinf(fdl_item(grad_of_sum(fdl_sqrt(zero), zero))));
    fdl_tensor *a = LEAF(-7), *b = LEAF(3);
    check_values(grad_of_sum(fdl_fmod(a, b), b), 2);
    check_values(grad_of_sum(fdl_remainder(a, b), b), 3);
    fdl_tensor *p = leaf_of(F64(1, 2), FDL_SHAPE(1, 2));
    check_values(grad_of_sum(fdl_cdist(p, fdl_detach(p)), p), 0, 0);
}

/* ---- modes ------------------------------------------------------------------------------------------------ */

static bool recorded(fdl_tensor *x)
{
    return fdl_requires_grad(fdl_mul(x, 2));
}

static bool leaves_no_grad_by_return(fdl_tensor *x)
{
    FDL_NO_GRAD;
    return recorded(x);
}

static void no_grad_ends_with_its_block(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = LEAF(1);
    check_ok(fdl_backward(fdl_mul(x, 4)));
    {
        FDL_NO_GRAD;
        assert_false(recorded(x));
        {
            FDL_ENABLE_GRAD;
            assert_true(recorded(x));
            {
                FDL_NO_GRAD;
                assert_false(recorded(x));
            }
            assert_true(recorded(x));
        }
        assert_false(recorded(x));
        check_grad(x, 4); /* what is there stays */
        check_ok(fdl_add_scalar_(x, 1));
    }
    assert_true(recorded(x));
    assert_false(leaves_no_grad_by_return(x));
    assert_true(recorded(x));
    for (int i = 0; i < 3; i++) {
        FDL_NO_GRAD;
        if (i == 1)
            break;
    }
    assert_true(recorded(x) && fdl_grad_enabled());
}

static void *records(void *result)
{
    *(bool *)result = fdl_grad_enabled();
    return NULL;
}

static void a_new_thread_records(void **state)
{
    (void)state;
    FDL_NO_GRAD;
    bool enabled = false;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, records, &enabled), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(enabled);
    assert_false(fdl_grad_enabled());
}

static void a_tensor_of_inference_cannot_be_recorded(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = LEAF(2), *frozen;
    {
        FDL_INFERENCE;
        assert_false(fdl_grad_enabled());
        frozen = fdl_mul(x, 3);
        assert_false(fdl_requires_grad(frozen));
    }
    assert_true(fdl_grad_enabled());
    assert_null(fdl_mul(x, frozen)); /* needed by the derivative at x */
    check_error(FDL_E_STATE, "Inference tensors");
    check_values(fdl_mul(fdl_detach(x), frozen), 12); /* without a record it is a tensor like any other */
}

/* ---- flags ------------------------------------------------------------------------------------------------- */

static void detach_shares_storage_without_history(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = LEAF(1, 2), *y = fdl_mul(x, 2), *d = fdl_detach(y);
    assert_false(fdl_requires_grad(d));
    assert_true(fdl_requires_grad(y));
    check_ok(fdl_fill_(d, 9));
    check_values(y, 9, 9);
    assert_true(fdl_is_leaf(x) && fdl_is_leaf(d) && !fdl_is_leaf(y));
    assert_true(fdl_is_leaf(fdl_ones(FDL_SHAPE(2))) && fdl_is_leaf(fdl_mul(d, 2)));
    assert_int_equal(fdl_detach_(fdl_narrow(y, 0, 0, 1)), FDL_E_STATE);
    check_error(FDL_E_STATE, "view", "fdl_detach");
    check_ok(fdl_detach_(y));
    assert_true(fdl_is_leaf(y) && !fdl_requires_grad(y));
}

static void requires_grad_of_integers_and_of_results(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *i = fdl_ivec(1, 2);
    assert_int_equal(fdl_requires_grad_(i, true), FDL_E_DTYPE);
    check_error(FDL_E_DTYPE, "int64", "floating");
    check_ok(fdl_requires_grad_(i, false));
    fdl_tensor *x = LEAF(1), *y = fdl_mul(x, 2);
    assert_int_equal(fdl_requires_grad_(y, false), FDL_E_STATE);
    check_error(FDL_E_STATE, "fdl_detach");
    check_ok(fdl_requires_grad_(x, false));
    assert_false(fdl_requires_grad(x));
}

static void a_set_gradient_fits_its_tensor(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = LEAF(1, 2);
    assert_int_equal(fdl_set_grad(x, fdl_ones(FDL_SHAPE(3), .dtype = FDL_FLOAT64)), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "shape");
    assert_int_equal(fdl_set_grad(x, fdl_ones(FDL_SHAPE(2))), FDL_E_DTYPE);
    check_error(FDL_E_DTYPE, "dtype");
    check_ok(fdl_set_grad(x, fdl_full(FDL_SHAPE(2), 7, .dtype = FDL_FLOAT64)));
    check_grad(x, 7, 7);
    check_ok(fdl_set_grad(x, NULL));
    assert_null(fdl_grad(x));
    assert_int_equal(fdl_error_pending(), FDL_OK);
}

static void a_result_keeps_its_gradient_when_asked(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = LEAF(3), *y = fdl_mul(x, 2), *z = fdl_square(y);
    check_ok(fdl_retain_grad(y));
    check_ok(fdl_backward(z));
    check_grad(y, 12);
    check_grad(x, 24);
    assert_int_equal(fdl_retain_grad(fdl_detach(y)), FDL_E_STATE);
    fdl_clear_error();
}

static void a_fused_layer_has_fewer_nodes(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 3), .requires_grad = true);
    fdl_tensor *w = fdl_randn(FDL_SHAPE(4, 3), .requires_grad = true);
    fdl_tensor *b = fdl_randn(FDL_SHAPE(4), .requires_grad = true);
    assert_int_equal(fdl_autograd_nodes(x), 0);
    assert_int_equal(fdl_autograd_leaves(x).n, 0);
    fdl_list leaves = fdl_autograd_leaves(fdl_add(fdl_linear(x, w, .bias = b), fdl_mul(fdl_sum(x), 3)));
    assert_int_equal(leaves.n, 3);
    for (int i = 0; i < 3; i++)
        assert_true(fdl_is(leaves.at[i], x) || fdl_is(leaves.at[i], w) || fdl_is(leaves.at[i], b));
    assert_int_equal(fdl_autograd_leaves(fdl_detach(x)).n, 0);
    assert_true(fdl_autograd_nodes(fdl_mul(x, 2)) >= 1);
    assert_true(fdl_autograd_nodes(fdl_linear(x, w, .bias = b)) <
                fdl_autograd_nodes(fdl_add(fdl_matmul(x, fdl_t(w)), b)));
}

/* ---- gradients as values ------------------------------------------------------------------------------------- */

static void grad_of_returns_and_does_not_accumulate(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = LEAF(3), *w = LEAF(2), *unused = LEAF(1);
    fdl_tensor *y = fdl_mul(fdl_square(x), w);
    fdl_list g = fdl_grad_of(FDL_LIST(y), FDL_LIST(x, w), .retain_graph = true);
    check_values(fdl_list_at(g, 0), 12);
    check_values(fdl_list_at(g, 1), 9);
    assert_null(fdl_grad(x));
    assert_null(fdl_grad_of(FDL_LIST(y), FDL_LIST(x, unused), .retain_graph = true).at);
    check_error(FDL_E_STATE, "fdl_grad_of", "not have been used");
    g = fdl_grad_of(FDL_LIST(y), FDL_LIST(x, unused), .retain_graph = true, .allow_unused = true);
    assert_int_equal(g.n, 2);
    check_values(g.at[0], 12);
    assert_null(g.at[1]);
    assert_null(fdl_grad_of(FDL_LIST(y), FDL_LIST(x), .grad_outputs = FDL_LIST(fdl_vec(1, 2))).at);
    check_error(FDL_E_SHAPE, "fdl_grad_of", "[2]");
    y = fdl_mul(fdl_square(x), w);
    g = fdl_grad_of(FDL_LIST(y), FDL_LIST(x), .grad_outputs = FDL_LIST(fdl_double(fdl_vec(10))));
    check_values(fdl_list_at(g, 0), 120);
    /* a non-leaf is as good an input */
    fdl_tensor *h = fdl_square(x);
    check_values(fdl_list_at(fdl_grad_of(FDL_LIST(fdl_mul(h, 5)), FDL_LIST(h)), 0), 5);
}

static void derivatives_of_derivatives(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = LEAF(2);
    fdl_tensor *g = fdl_list_at(fdl_grad_of(FDL_LIST(fdl_pow(x, 3)), FDL_LIST(x), .create_graph = true), 0);
    check_values(g, 12);
    fdl_tensor *h = fdl_list_at(fdl_grad_of(FDL_LIST(g), FDL_LIST(x), .create_graph = true), 0);
    check_values(h, 12); /* 6x */
    check_values(fdl_list_at(fdl_grad_of(FDL_LIST(h), FDL_LIST(x)), 0), 6);
    /* the same through backward: a penalty on the gradient */
    check_ok(fdl_backward(fdl_pow(x, 3), .create_graph = true));
    fdl_tensor *penalty = fdl_square(fdl_grad(x));
    check_ok(fdl_clear_grad(x));
    check_ok(fdl_backward(penalty)); /* 9x^4, derivative 36x^3 */
    check_grad(x, 288);
}

static fdl_tensor *cube(fdl_list in, void *ctx)
{
    (void)ctx;
    return fdl_pow(in.at[0], 3);
}

/* x^2, whose derivative is recorded as the constant 2x: right at first order, wrong at second. */
static fdl_tensor *flat_derivative(fdl_list in, void *ctx)
{
    (void)ctx;
    fdl_tensor *x = in.at[0], *constant = fdl_detach(x);
    return fdl_sub(fdl_mul(fdl_mul(x, constant), 2), fdl_square(constant));
}

static void gradgradcheck_sees_the_second_order(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = LEAF(1, -2, 3);
    fdl_gradcheck_report report;
    check_ok(fdl_gradcheck(cube, FDL_LIST(x), NULL));
    check_ok(fdl_gradcheck(cube, FDL_LIST(x), NULL, .fast = true, .report = &report));
    assert_int_equal(report.element, -1);
    check_ok(fdl_gradgradcheck(cube, FDL_LIST(x), NULL));
    check_ok(fdl_gradgradcheck(cube, FDL_LIST(x), NULL, .fast = true));
    check_ok(fdl_gradcheck(flat_derivative, FDL_LIST(x), NULL));
    assert_int_equal(fdl_gradgradcheck(flat_derivative, FDL_LIST(x), NULL, .report = &report),
                     FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "fdl_gradgradcheck", "input 0", "difference quotient");
    assert_int_equal(fdl_gradgradcheck(flat_derivative, FDL_LIST(x), NULL, .fast = true), FDL_E_MISMATCH);
    fdl_clear_error();
    check_values(x, 1, -2, 3); /* what the check moved is back */
}

/* ---- side by side ---------------------------------------------------------------------------------------------- */

enum { THREADS = 4, STEPS = 20 };

static fdl_device here; /* a new thread's default device is the CPU */

static double trained(uint64_t seed)
{
    FDL_SCOPE;
    fdl_generator *numbers = fdl_generator_new(seed, here);
    fdl_tensor *w = fdl_randn(FDL_SHAPE(8, 4), .generator = numbers, .dtype = FDL_FLOAT64, .device = here);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(16, 8), .generator = numbers, .dtype = FDL_FLOAT64, .device = here);
    fdl_generator_free(numbers);
    if (fdl_requires_grad_(w, true) != FDL_OK)
        return NAN;
    double last = NAN;
    for (int i = 0; i < STEPS; i++) {
        FDL_SCOPE;
        fdl_tensor *loss = fdl_mean(fdl_square(fdl_sub(fdl_tanh(fdl_matmul(x, w)), 0.5)));
        if (fdl_backward(loss) != FDL_OK)
            return NAN;
        FDL_NO_GRAD;
        if (fdl_sub_(w, fdl_grad(w), .alpha = 0.5) != FDL_OK || fdl_clear_grad(w) != FDL_OK)
            return NAN;
        last = fdl_item(loss);
    }
    return last;
}

static void *trains(void *arg)
{
    double *result = arg;
    *result = trained((uint64_t)*result);
    return NULL;
}

static void four_threads_give_the_serial_result(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    double parallel[THREADS];
    here = fdl_default_device();
    for (int i = 0; i < THREADS; i++) {
        parallel[i] = i + 1;
        assert_int_equal(pthread_create(&threads[i], NULL, trains, &parallel[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(parallel[i] == trained((uint64_t)i + 1));
    }
}

static void steps_in_scopes_leave_nothing(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *w = fdl_randn(FDL_SHAPE(8, 8), .requires_grad = true);
    int64_t before = fdl_live_tensors();
    for (int i = 0; i < 2000; i++) {
        FDL_SCOPE;
        fdl_tensor *x = fdl_randn(FDL_SHAPE(4, 8));
        fdl_tensor *loss = fdl_mean(fdl_square(fdl_relu(fdl_matmul(x, w))));
        check_ok(fdl_backward(loss));
        FDL_NO_GRAD;
        check_ok(fdl_sub_(w, fdl_grad(w), .alpha = 1e-3));
        check_ok(fdl_clear_grad(w));
    }
    assert_int_equal(fdl_live_tensors(), before);
}

/* Blurred images through a layer that is used three times: 500 such steps give back all that they took. */
static void steps_with_loops_and_blur_give_memory_back(void **state)
{
    (void)state;
    FDL_SCOPE;
    bool on_gpu = fdl_default_device().type == FDL_DEVICE_TYPE_CUDA;
    fdl_tensor *w = fdl_randn(FDL_SHAPE(3, 3, 3, 3), .requires_grad = true);
    fdl_tensor *blur = fdl_full(FDL_SHAPE(3, 1, 5, 5), 1.0 / 25);
    int64_t kb = 0, allocated = 0, live = 0;
    for (int i = 0; i <= 500; i++) {
        if (i == 50) {
            fdl_malloc_trim();
            kb = fdl_rss_kb();
            live = fdl_live_tensors();
            if (on_gpu)
                check_ok(fdl_cuda_memory_allocated(0, &allocated));
        }
        FDL_SCOPE;
        fdl_tensor *x = fdl_conv2d(fdl_randn(FDL_SHAPE(4, 3, 32, 32)), blur, .padding = 2, .groups = 3);
        for (int turn = 0; turn < 3; turn++)
            x = fdl_tanh(fdl_conv2d(x, w, .padding = 1));
        check_ok(fdl_backward(fdl_mean(fdl_square(x))));
        check_ok(fdl_clear_grad(w));
    }
    assert_int_equal(fdl_live_tensors(), live);
    fdl_malloc_trim();
    int64_t grown = fdl_rss_kb() - kb, still = allocated;
    if (on_gpu)
        check_ok(fdl_cuda_memory_allocated(0, &still));
    assert_int_equal(still, allocated);
    print_message("resident: %lld KiB more\n", (long long)grown);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(grown < 20 * 1024);
#endif
}

static void an_accumulator_is_held(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = LEAF(2);
    fdl_accum *a = fdl_retain_accumulator(x);
    check_some(a);
    check_ok(fdl_backward(fdl_square(x)));
    check_grad(x, 4);
    fdl_accum_free(a);
    assert_null(fdl_retain_accumulator(fdl_mul(x, 2)));
    assert_null(fdl_retain_accumulator(fdl_ones(FDL_SHAPE(1))));
    assert_int_equal(fdl_error_pending(), FDL_OK);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chain_of_a_layer),
        cmocka_unit_test(gradients_accumulate_zero_and_clear),
        cmocka_unit_test(backward_of_many_elements_needs_a_gradient),
        cmocka_unit_test(backward_accumulates_into_the_given_inputs_only),
        cmocka_unit_test(second_backward_needs_a_retained_graph),
        cmocka_unit_test(paths_that_meet_add_up),
        cmocka_unit_test(the_chosen_element_gets_the_gradient),
        cmocka_unit_test(indexing_adds_where_an_index_repeats),
        cmocka_unit_test(reductions_at_known_points),
        cmocka_unit_test(kinks_have_the_documented_derivative),
        cmocka_unit_test(no_grad_ends_with_its_block),
        cmocka_unit_test(a_new_thread_records),
        cmocka_unit_test(a_tensor_of_inference_cannot_be_recorded),
        cmocka_unit_test(detach_shares_storage_without_history),
        cmocka_unit_test(requires_grad_of_integers_and_of_results),
        cmocka_unit_test(a_set_gradient_fits_its_tensor),
        cmocka_unit_test(a_result_keeps_its_gradient_when_asked),
        cmocka_unit_test(a_fused_layer_has_fewer_nodes),
        cmocka_unit_test(grad_of_returns_and_does_not_accumulate),
        cmocka_unit_test(derivatives_of_derivatives),
        cmocka_unit_test(gradgradcheck_sees_the_second_order),
        cmocka_unit_test(four_threads_give_the_serial_result),
        cmocka_unit_test(steps_in_scopes_leave_nothing),
        cmocka_unit_test(steps_with_loops_and_blur_give_memory_back),
        cmocka_unit_test(an_accumulator_is_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
