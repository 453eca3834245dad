/* Optimizers and sparse gradients: who takes them, that only their rows move, an embedding's training, skipped steps. The numbers are
 * test_recorded.c's. */
#include "kinds.h"

#define OPTS(...) (&(fdl_optim_opts){__VA_ARGS__})

/* A gradient of ones in these rows of p [rows, dim]. */
static void give_rows(fdl_tensor *p, fdl_tensor *rows, double value)
{
    FDL_SCOPE;
    int64_t n = fdl_numel(rows);
    fdl_tensor *values = fdl_full(FDL_SHAPE(n, fdl_size(p, 1)), value, .dtype = fdl_dtype_of(p));
    check_ok(fdl_set_grad(p, fdl_sparse_coo(fdl_reshape(rows, FDL_SHAPE(1, n)), values, fdl_shape_of(p))));
}

static fdl_module *table_of(int64_t rows, int64_t dim)
{
    FDL_SCOPE;
    fdl_module *m = bag_new();
    bag_add(m, fdl_ones(FDL_SHAPE(rows, dim)));
    return fdl_module_done(m);
}

static void who_takes_sparse_gradients(void **state)
{
    (void)state;
    for (const optim_row *r = optim_rows; r < optim_rows + OPTIM_ROWS; r++) {
        FDL_SCOPE;
        if (r->closure)
            continue;
        fdl_module *m = table_of(4, 2);
        fdl_optim *o = r->make(fdl_parameters(m), OPTS(.lr = 0.1));
        fdl_tensor *p = bag_at(m, 0), *start = fdl_clone(p);
        give_rows(p, fdl_ivec(2, 0, 2), 1);
        bool takes = r->sparse || strcmp(r->kind, "sgd") == 0 || strcmp(r->kind, "adagrad") == 0;
        fdl_status status = fdl_optim_step(o);
        if (takes) {
            check_ok(status);
            fdl_tensor *moved = fdl_sum_dim(fdl_ne(p, start), 1);
            assert_true(fdl_same(fdl_long(moved), fdl_ivec(2, 0, 2, 0)));
        } else {
            assert_int_equal(status, FDL_E_UNSUPPORTED);
            check_error(FDL_E_UNSUPPORTED, r->kind, "p0", "sparse", "sparse_adam");
            assert_true(fdl_same(p, start));
        }
        fdl_optim_free(o);
        check_ok(fdl_module_free(m));
    }
}

static void what_sparse_gradients_cant_have(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = table_of(4, 2);
    fdl_tensor *p = bag_at(m, 0), *start = fdl_clone(p);
    fdl_optim *dense = fdl_optim_sparse_adam(fdl_parameters(m));
    set_grad(p, 1);
    assert_int_equal(fdl_optim_step(dense), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "sparse_adam", "p0", "dense", "adam");
    assert_true(fdl_optim_state(dense, p, "exp_avg") == NULL);
    fdl_optim *decaying = fdl_optim_sgd(fdl_parameters(m), .weight_decay = 0.1);
    fdl_optim *fused = fdl_optim_sgd(fdl_parameters(m), .impl = FDL_OPTIM_FUSED);
    fdl_optim *none = fdl_optim_sparse_adam(fdl_parameters(m), .impl = FDL_OPTIM_FUSED);
    give_rows(p, fdl_ivec(1), 1);
    assert_int_equal(fdl_optim_step(decaying), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "sgd", "p0", "weight_decay");
    assert_int_equal(fdl_optim_step(fused), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "sgd", "FDL_OPTIM_FUSED", "sparse");
    assert_int_equal(fdl_optim_step(none), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "sparse_adam", "FDL_OPTIM_FUSED");
    assert_true(fdl_same(p, start));
    fdl_optim_free(dense);
    fdl_optim_free(decaying);
    fdl_optim_free(fused);
    fdl_optim_free(none);
    check_ok(fdl_module_free(m));
}

/* A step of sparse gradients is that of the same ones made dense, where the method treats zeros as nothing. */
static void sparse_steps_are_dense_steps(void **state)
{
    (void)state;
    static const struct {
        const char *kind;
        fdl_optim_opts o;
    } cases[] = {{"sgd", {.lr = 0.1}},
                 {"sgd", {.lr = 0.1, .momentum = 0.9}},
                 {"sgd", {.lr = 0.1, .momentum = 0.9, .nesterov = true, .maximize = true}},
                 {"adagrad", {.lr = 0.1, .lr_decay = 0.1}}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        FDL_SCOPE;
        fdl_module *m[2] = {table_of(6, 3), table_of(6, 3)};
        fdl_optim *o[2];
        for (int i = 0; i < 2; i++)
            o[i] = optim_row_of(cases[c].kind)->make(fdl_parameters(m[i]), &cases[c].o);
        for (int t = 0; t < 5; t++) {
            fdl_tensor *rows = fdl_ivec(t % 6, 3, (t * 2) % 6, 3); /* 3 twice */
            give_rows(bag_at(m[0], 0), rows, 0.3 * t - 0.5);
            check_ok(fdl_set_grad(bag_at(m[1], 0), fdl_to_dense(fdl_grad(bag_at(m[0], 0)))));
            for (int i = 0; i < 2; i++)
                check_ok(fdl_optim_step(o[i]));
        }
        assert_true(fdl_allclose(bag_at(m[0], 0), bag_at(m[1], 0), .rtol = 1e-6, .atol = 1e-6));
        for (int i = 0; i < 2; i++) {
            fdl_optim_free(o[i]);
            check_ok(fdl_module_free(m[i]));
        }
    }
}

static void an_embedding_learns_by_sparse_gradients(void **state)
{
    (void)state;
    for (int k = 0; k < 3; k++) {
        FDL_SCOPE;
        fdl_manual_seed(1);
        fdl_module *table = fdl_nn_embedding(50, 4, .sparse = true);
        check_some(table);
        fdl_params *ps = fdl_parameters(table);
        fdl_optim *o = k == 0   ? fdl_optim_sparse_adam(ps, .lr = 0.1)
                       : k == 1 ? fdl_optim_adagrad(ps, .lr = 0.5)
                                : fdl_optim_sgd(ps, .lr = 1, .momentum = 0.5);
        fdl_tensor *idx = fdl_ivec(3, 7, 7, 9, 11), *want = fdl_full(FDL_SHAPE(5, 4), 0.25);
        fdl_tensor *w = fdl_param_tensor(fdl_params_at(ps, 0)), *before = fdl_clone(w);
        double last = 1;
        for (int t = 0; t < 60; t++) {
            FDL_SCOPE;
            fdl_tensor *loss = fdl_mse_loss(fdl_forward(table, idx), want);
            check_ok(fdl_optim_zero_grad(o));
            check_ok(fdl_backward(loss));
            assert_true(fdl_is_sparse(fdl_grad(w)));
            check_ok(fdl_optim_step(o));
            last = fdl_item(loss);
        }
        if (!(last < 0.05))
            fail_msg("%s: loss %g", fdl_optim_kind(o), last);
        fdl_tensor *rows = fdl_nonzero(fdl_gt(fdl_sum_dim(fdl_abs(fdl_sub(w, before)), 1), 0));
        assert_true(fdl_same(fdl_reshape(rows, FDL_SHAPE(-1)), fdl_ivec(3, 7, 9, 11)));
        fdl_optim_free(o);
        check_ok(fdl_module_free(table));
    }
}

static void a_skipped_step_leaves_all_rows(void **state)
{
    (void)state;
    static const char *const kinds[] = {"sparse_adam", "adagrad", "sgd"};
    for (int k = 0; k < 3; k++) {
        FDL_SCOPE;
        fdl_module *m[2] = {table_of(4, 2), table_of(4, 2)};
        fdl_optim *o[2];
        for (int i = 0; i < 2; i++)
            o[i] = optim_row_of(kinds[k])->make(fdl_parameters(m[i]), OPTS(.lr = 0.1));
        fdl_tensor *yes = fdl_ones(FDL_SHAPE(1)), *no = fdl_zeros(FDL_SHAPE(1));
        for (int t = 0; t < 5; t++) {
            bool skipped = t == 1 || t == 3;
            give_rows(bag_at(m[0], 0), fdl_ivec(1, 3), skipped ? (double)NAN : 1.0 + t);
            check_ok(fdl_optim_step_unless(o[0], skipped ? yes : no));
            if (skipped)
                continue;
            give_rows(bag_at(m[1], 0), fdl_ivec(1, 3), 1.0 + t);
            check_ok(fdl_optim_step(o[1]));
        }
        assert_true(fdl_allclose(bag_at(m[0], 0), bag_at(m[1], 0), .rtol = 1e-6, .atol = 1e-6));
        assert_true(fdl_all_finite(bag_at(m[0], 0)));
        for (int i = 0; i < 2; i++) {
            fdl_optim_free(o[i]);
            check_ok(fdl_module_free(m[i]));
        }
    }
}

/* Norms, clipping and scaling take the values of sparse gradients, each row once. */
static void sparse_gradients_are_clipped_and_scaled(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m[2] = {table_of(6, 3), table_of(6, 3)};
    fdl_params *ps[2] = {fdl_parameters(m[0]), fdl_parameters(m[1])};
    fdl_optim *o[2] = {fdl_optim_sgd(ps[0], .lr = 0.1), fdl_optim_sgd(ps[1], .lr = 0.1)};
    for (int way = 0; way < 4; way++) {
        give_rows(bag_at(m[0], 0), fdl_ivec(1, 4, 4), 2); /* row 4: 4 */
        check_ok(fdl_set_grad(bag_at(m[1], 0), fdl_to_dense(fdl_grad(bag_at(m[0], 0)))));
        double total[2] = {0, 0};
        for (int i = 0; i < 2; i++)
            if (way == 0)
                check_ok(fdl_clip_grad_norm(ps[i], 1, .total = &total[i]));
            else if (way == 1)
                check_ok(fdl_clip_grad_value(ps[i], 3, .total = &total[i]));
            else if (way == 2)
                check_ok(fdl_optim_clip_norm(o[i], 0.5));
            else
                check_ok(fdl_grad_norm(ps[i], &total[i]));
        check_number(total[0], total[1], 1e-5);
        assert_true(fdl_is_sparse(fdl_grad(bag_at(m[0], 0))));
        assert_true(fdl_allclose(fdl_to_dense(fdl_grad(bag_at(m[0], 0))), fdl_grad(bag_at(m[1], 0))));
    }
    fdl_amp_scaler *s = fdl_amp_scaler_new(.init_scale = 8);
    check_some(fdl_amp_scale(s, fdl_scalar(1)));
    bool stepped = false;
    give_rows(bag_at(m[0], 0), fdl_ivec(1, 4, 4), 16);
    fdl_tensor *before = fdl_clone(bag_at(m[0], 0));
    check_ok(fdl_amp_unscale(s, o[0]));
    check_number(fdl_item(fdl_select(fdl_select(fdl_to_dense(fdl_grad(bag_at(m[0], 0))), 0, 4), 0, 1)), 4, 0);
    check_ok(fdl_amp_step(s, o[0], .stepped = &stepped));
    check_ok(fdl_amp_update(s));
    assert_true(stepped && !fdl_same(before, bag_at(m[0], 0)));
    give_rows(bag_at(m[0], 0), fdl_ivec(2), (double)INFINITY);
    before = fdl_clone(bag_at(m[0], 0));
    check_ok(fdl_amp_step(s, o[0], .stepped = &stepped));
    check_ok(fdl_amp_update(s));
    assert_true(!stepped && fdl_same(before, bag_at(m[0], 0)));
    check_ok(fdl_optim_zero_grad(o[0], .set_to_zero = true));
    fdl_amp_scaler_free(s);
    for (int i = 0; i < 2; i++) {
        fdl_optim_free(o[i]);
        check_ok(fdl_module_free(m[i]));
    }
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_takes_sparse_gradients),
        cmocka_unit_test(what_sparse_gradients_cant_have),
        cmocka_unit_test(sparse_steps_are_dense_steps),
        cmocka_unit_test(an_embedding_learns_by_sparse_gradients),
        cmocka_unit_test(a_skipped_step_leaves_all_rows),
        cmocka_unit_test(sparse_gradients_are_clipped_and_scaled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
