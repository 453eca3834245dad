/* Memory runs out while optimizers are made, get a group, and step. */
#include "no_memory.h"

#ifdef NO_MEMORY_SKIPPED
int main(void)
{
    print_message("skipped: sanitizers have a malloc of their own\n");
    return 0;
}
#else

#include "kinds.h"

static const optim_row *row;
static fdl_module *pair_of[2];

static fdl_tensor *square(void *ctx)
{
    fdl_optim *o = ctx;
    fdl_tensor *p = bag_at(pair_of[0], 0), *q = bag_at(pair_of[0], 1);
    fdl_tensor *loss = fdl_add(fdl_sum(fdl_square(p)), fdl_sum(fdl_pow(q, 4)));
    return fdl_optim_zero_grad(o) == FDL_OK && fdl_backward(loss) == FDL_OK ? loss : NULL;
}

static bool give(fdl_tensor *p)
{
    if (!row->sparse)
        return fdl_set_grad(p, fdl_ones_like(p)) == FDL_OK;
    fdl_tensor *rows = fdl_reshape(fdl_ivec(0, 1), FDL_SHAPE(1, 2));
    return fdl_set_grad(p, fdl_sparse_coo(rows, fdl_ones(FDL_SHAPE(2, 2)), FDL_SHAPE(2, 2))) == FDL_OK;
}

/* Three steps of an optimizer with two groups, or of one that evaluates. */
static bool three_steps(void)
{
    FDL_SCOPE;
    fdl_optim *o = row->make(fdl_parameters(pair_of[0]), NULL);
    bool good = o != NULL;
    if (good && !row->closure)
        good = fdl_optim_add_group(o, fdl_parameters(pair_of[1]), .lr = 0.5) == 1;
    for (int t = 0; good && t < 3; t++) {
        for (int i = 0; good && !row->closure && i < 4; i++)
            good = give(bag_at(pair_of[i / 2], i % 2));
        good =
            good && (row->closure ? fdl_optim_step_closure(o, square, o, NULL) : fdl_optim_step(o)) == FDL_OK;
    }
    fdl_optim_free(o);
    for (int i = 0; i < 4; i++)
        fdl_clear_grad(bag_at(pair_of[i / 2], i % 2));
    return good;
}

static void while_optimizers_step(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        FDL_SCOPE;
        fdl_module *m = bag_new();
        for (int k = 0; k < 2; k++)
            bag_add(m, fdl_ones(FDL_SHAPE(2, 2)));
        pair_of[i] = fdl_module_done(m);
    }
    for (row = optim_rows; row < optim_rows + OPTIM_ROWS; row++)
        every_allocation(three_steps, 8);
    for (int i = 0; i < 2; i++)
        check_ok(fdl_module_free(pair_of[i]));
}

int main(void)
{
    fdl_set_num_threads(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(while_optimizers_step),
    };
    return cmocka_run_group_tests(tests, no_memory_setup, NULL);
}
#endif
