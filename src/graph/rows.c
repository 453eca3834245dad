/* Rows that go to different modules. */
#include "rows.h"

#include "flodl/arithmetic.h"
#include "flodl/compare.h"
#include "flodl/index.h"
#include "flodl/reduce.h"
#include "flodl/shape.h"

fdl_status rows_group(fdl_tensor *choice, int n, row_groups *groups)
{
    FDL_NO_GRAD;
    int64_t rows = fdl_numel(choice), sum = 0;
    *groups = (row_groups){.n = n, .count = fdl_scope_alloc(sizeof(int64_t) * (size_t)n)};
    if (fdl_dtype_is_floating(fdl_dtype_of(choice)))
        choice = fdl_floor(choice); /* a fraction is cut off, what is below 0 stays below */
    else
        choice = fdl_to_dtype(choice, FDL_INT64);
    fdl_tensor *places = fdl_arange(0, n, 1, .dtype = FDL_INT64, .device = fdl_device_of(choice));
    fdl_tensor *counts =
        fdl_sum_dim(fdl_eq(fdl_unsqueeze(choice, 1), fdl_to_dtype(places, fdl_dtype_of(choice))), 0);
    if (!groups->count || !counts)
        return fdl_error_pending();
    if (fdl_device_of(choice).type == FDL_DEVICE_TYPE_META)
        groups->count[0] = rows; /* choices without values are 0 */
    else
        FDL_TRY(fdl_to_i64(fdl_to_dtype(counts, FDL_INT64), groups->count, n));
    for (int i = 0; i < n; i++)
        sum += groups->count[i];
    if (sum != rows)
        return fdl_fail(FDL_E_RANGE, "the choices of %lld rows lie between %g and %g; there are %d, 0 to %d",
                        (long long)rows, fdl_item(fdl_min(choice)), fdl_item(fdl_max(choice)), n, n - 1);
    groups->order = fdl_argsort(choice, 0, .stable = true);
    groups->back = fdl_argsort(groups->order, 0);
    return groups->back ? FDL_OK : fdl_error_pending();
}

fdl_tensor *rows_run_one(const graph *g, fdl_module *m, fdl_tensor *rows, const char *what, int i)
{
    fdl_scope *scope = fdl_scope_open();
    fdl_tensor *y = scope ? fdl_escape(module_run(m->real, 1, &rows)) : NULL;
    fdl_scope_close(scope);
    if (y && (fdl_ndim(y) < 1 || fdl_size(y, 0) != fdl_size(rows, 0))) {
        char is[256], was[256];
        fdl_fail(FDL_E_SHAPE, "gives %s for rows of %s; their number must be the same",
                 fdl_describe(y, is, sizeof is), fdl_describe(rows, was, sizeof was));
        y = NULL;
    }
    if (!y && g->prefix)
        fdl_error_prefix("%s %d: ", what, i);
    return y;
}

fdl_tensor *rows_run(const graph *g, fdl_module *const *modules, const row_groups *groups, fdl_tensor *x,
                     const char *what)
{
    fdl_list y = {0, fdl_scope_alloc(sizeof *y.at * (size_t)groups->n)};
    int64_t start = 0;
    for (int i = 0; y.at && i < groups->n; start += groups->count[i++]) {
        if (!groups->count[i])
            continue;
        fdl_tensor *rows = fdl_narrow(x, 0, start, groups->count[i]);
        fdl_tensor *one = rows ? rows_run_one(g, modules[i], rows, what, i) : NULL;
        if (!one)
            return NULL;
        y.at[y.n++] = one;
    }
    return y.n == 1 ? y.at[0] : fdl_cat(y, 0);
}
