/* Every module of the table with all its parameters computed: by weight_norm, spectral_norm, a mask. Whatever it is and however
 * it comes to its weights, it gives what it gave before, as do its copy and what its files give. */
#include "fixture.h"
#include "rows.h"

#include <unistd.h>

/* ---- helpers ------------------------------------------------------------------------------------------- */

typedef struct search {
    fdl_param *p;
    fdl_module *owner;
} search;

static fdl_status is_owner(fdl_module *m, void *ctx)
{
    search *s = ctx;
    if (fdl_module_own_param(m, fdl_param_name(s->p)) == s->p)
        s->owner = m;
    fdl_clear_error();
    return FDL_OK;
}

typedef struct place {
    fdl_module *owner;
    char name[64];
    int ndim;
} place;

/* Where the parameters of m are; with values none of which is 0. */
static int places(fdl_module *m, place *at, int room)
{
    FDL_SCOPE;
    fdl_params *ps = fdl_parameters(m);
    int n = fdl_params_count(ps);
    assert_true(n <= room);
    for (int i = 0; i < n; i++) {
        search s = {.p = fdl_params_at(ps, i)};
        check_ok(fdl_module_walk(m, is_owner, &s));
        check_some(s.owner);
        at[i] = (place){.owner = s.owner, .ndim = fdl_ndim(fdl_param_tensor(s.p))};
        snprintf(at[i].name, sizeof at[i].name, "%s", fdl_param_name(s.p));
        check_ok(fdl_init_uniform(fdl_param_tensor(s.p), 0.1, 0.5));
    }
    return n;
}

static void same(const row *r, const char *what, fdl_tensor *is, fdl_tensor *want, double tolerance)
{
    if (!is)
        fail_msg("%s, %s: %s", r->name, what, fdl_last_error()->message);
    double off = 0;
    if (fdl_numel(want)) {
        FDL_SCOPE;
        fdl_tensor *a = fdl_to_dtype(fdl_detach(is), FDL_FLOAT64),
                   *b = fdl_to_dtype(fdl_detach(want), FDL_FLOAT64);
        off = fdl_item(fdl_max(fdl_abs(fdl_sub(a, b))));
    }
    if (!(off <= tolerance))
        fail_msg("%s, %s: off by %g", r->name, what, off);
}

static fdl_tensor *run(const row *r, fdl_module *m)
{
    return fdl_forward(m, fixture_of(r->name, "x", NULL));
}

/* Copies and files. */
static void twins(const row *r, fdl_module *m, fdl_tensor *y)
{
    FDL_SCOPE;
    char path[64];
    snprintf(path, sizeof path, "/tmp/flodl_test_parametrize_rows_%d", (int)getpid());
    fdl_module *copy = fdl_module_clone(m);
    if (!copy)
        fail_msg("%s: %s", r->name, fdl_last_error()->message);
    same(r, "copy", run(r, copy), y, 0);
    check_ok(fdl_module_free(copy));
    static const fdl_function own[] = {{.name = "sin", .f = fdl_sin}, {0}};
    char *text = fdl_topology_text(m, .functions = own);
    fdl_module *again = text ? fdl_topology_parse(text, .functions = own) : NULL;
    if (!again)
        fail_msg("%s: %s", r->name, fdl_last_error()->message);
    check_ok(fdl_ckpt_save(m, path));
    fdl_status status = fdl_ckpt_load(again, path);
    unlink(path);
    if (status != FDL_OK)
        fail_msg("%s: %s", r->name, fdl_last_error()->message);
    check_ok(fdl_eval(again));
    same(r, "from files", run(r, again), y, 0);
    check_ok(fdl_module_free(again));
    free(text);
}

/* The originals have gradients where the parameters had. */
static void learns(const row *r, fdl_module *m)
{
    FDL_SCOPE;
    fdl_tensor *y = run(r, m);
    if (!fdl_requires_grad(y))
        return;
    check_ok(fdl_backward(fdl_sum(y)));
    int with = 0;
    fdl_params *ps = fdl_parameters(m);
    for (int i = 0; i < fdl_params_count(ps); i++)
        with += fdl_grad(fdl_param_tensor(fdl_params_at(ps, i))) != NULL;
    if (!with)
        fail_msg("%s: no gradient comes to the originals", r->name);
}

typedef fdl_status way(fdl_module *m, const char *name, int ndim);

static fdl_status weight_norm(fdl_module *m, const char *name, int ndim)
{
    return fdl_weight_norm(m, name, .dim = FDL_SOME(ndim ? 0 : -1));
}

static fdl_status spectral_norm(fdl_module *m, const char *name, int ndim)
{
    return ndim > 1 ? fdl_spectral_norm(m, name) : fdl_weight_norm(m, name, .dim = FDL_SOME(-1));
}

static fdl_status mask(fdl_module *m, const char *name, int ndim)
{
    (void)ndim;
    return fdl_prune_identity(m, name);
}

/* keeps: the values are the same afterwards; copies: twins are made, which takes long. */
static void by(const row *r, way *apply, bool keeps, bool copies)
{
    FDL_SCOPE;
    enum { MOST = 128 };
    place at[MOST];
    fdl_manual_seed(3);
    fdl_module *m = r->make();
    check_some(m);
    check_ok(fdl_eval(m));
    int n = places(m, at, MOST);
    fdl_tensor *before = run(r, m);
    for (int i = 0; i < n; i++) {
        fdl_status status = apply(at[i].owner, at[i].name, at[i].ndim);
        if (status != FDL_OK)
            fail_msg("%s, %s: %s", r->name, at[i].name, fdl_last_error()->message);
    }
    fdl_tensor *y = run(r, m);
    same(r, "output", y, keeps ? before : y, 1e-4);
    if (copies)
        twins(r, m, y);
    if (n)
        learns(r, m);
    for (int i = 0; i < n; i++)
        check_ok(fdl_is_parametrized(at[i].owner, at[i].name)
                     ? fdl_parametrize_remove(at[i].owner, at[i].name)
                     : fdl_prune_remove(at[i].owner, at[i].name));
    same(r, "when it is over", run(r, m), y, 1e-5);
    check_ok(fdl_module_free(m));
}

static void with_norms(void **state)
{
    (void)state;
    for (int i = 0; i < ROWS; i++)
        by(&rows[i], weight_norm, true, i % 3 == 0);
}

static void with_largest_singular_values(void **state)
{
    (void)state;
    for (int i = 0; i < ROWS; i++)
        by(&rows[i], spectral_norm, false, i % 3 == 1);
}

static void with_masks(void **state)
{
    (void)state;
    for (int i = 0; i < ROWS; i++)
        by(&rows[i], mask, true, i % 3 == 2);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_norms),
        cmocka_unit_test(with_largest_singular_values),
        cmocka_unit_test(with_masks),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
