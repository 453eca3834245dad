/* What the tests of stopping and going on share: a small network with dropout and batch norm, comparisons bit for bit, and a
 * folder that costs no waits for the disk. */
#ifndef FLODL_TESTS_TRAIN_RESUME_H
#define FLODL_TESTS_TRAIN_RESUME_H

#include "ckpt_files.h"

enum { IN = 4, CLASSES = 3, ROWS = 6 };

/* The call gives the status, with these words. */
#define REFUSED(call, status, ...)        \
    do {                                  \
        assert_int_equal(call, status);   \
        check_error(status, __VA_ARGS__); \
    } while (0)

static FDL_UNUSED fdl_module *network(uint64_t seed)
{
    check_ok(fdl_manual_seed(seed));
    fdl_module *m = fdl_flow(fdl_nn_linear(IN, 8), fdl_nn_batch_norm1d(8), fdl_nn_tanh(), fdl_nn_dropout(0.3),
                             fdl_nn_linear(8, CLASSES));
    check_some(m);
    return m;
}

static FDL_UNUSED fdl_tensor *loss_of(fdl_module *m, fdl_list b, void *ctx)
{
    (void)ctx;
    return fdl_cross_entropy(fdl_forward(m, b.at[0]), b.at[1]);
}

static FDL_UNUSED void expect_equal(fdl_tensor *a, fdl_tensor *b, const char *what, const char *name, int at)
{
    if (!fdl_same(a, b))
        fail_msg("%s, stopped at %d: %s differs", what, at, name);
}

static FDL_UNUSED void expect_same_models(fdl_module *a, fdl_module *b, const char *what, int at)
{
    FDL_SCOPE;
    fdl_params *x = fdl_params_join(fdl_parameters(a), fdl_buffers(a));
    fdl_params *y = fdl_params_join(fdl_parameters(b), fdl_buffers(b));
    assert_int_equal(fdl_params_count(x), fdl_params_count(y));
    for (int i = 0; i < fdl_params_count(x); i++)
        expect_equal(fdl_param_tensor(fdl_params_at(x, i)), fdl_param_tensor(fdl_params_at(y, i)), what,
                     fdl_params_name(x, i), at);
}

static FDL_UNUSED void copy_values(fdl_module *to, fdl_module *from)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_params *a = fdl_params_join(fdl_parameters(to), fdl_buffers(to));
    fdl_params *b = fdl_params_join(fdl_parameters(from), fdl_buffers(from));
    for (int i = 0; i < fdl_params_count(a); i++)
        check_ok(fdl_param_set(fdl_params_at(a, i), fdl_param_tensor(fdl_params_at(b, i))));
}

static FDL_UNUSED void expect_same_optims(fdl_optim *a, fdl_optim *b, const char *what, int at)
{
    FDL_SCOPE;
    fdl_optim_dict x, y;
    check_ok(fdl_optim_state_dict(a, &x));
    check_ok(fdl_optim_state_dict(b, &y));
    assert_string_equal(x.text, y.text);
    assert_int_equal(x.n, y.n);
    for (int i = 0; i < x.n; i++)
        expect_equal(x.at[i], y.at[i], what, x.names[i], at);
}

/* In memory where that can be: hundreds of files, each of which would wait for the disk. */
static FDL_UNUSED int make_fast_folder(void **state)
{
    strcpy(folder, "/dev/shm/flodl-test-XXXXXX");
    return mkdtemp(folder) ? 0 : make_folder(state);
}

#endif
