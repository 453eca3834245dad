/* Every module of tests/modules.def as the one node of a graph: its hash, its drawing, its copy. */
#include "check.h"
#include "gpu.h"
#include "rows.h"

static fdl_module *graph_of(const row *r)
{
    fdl_module *g = fdl_flow(r->make());
    if (!g)
        fail_msg("%s: %s", r->name, fdl_last_error()->message);
    return g;
}

/* What the hash speaks of, in this graph: the kind, and names and shapes of parameters and buffers. */
static bool alike(const row *a, fdl_module *x, const row *b, fdl_module *y)
{
    fdl_params *p[] = {fdl_parameters(x), fdl_buffers(x)}, *q[] = {fdl_parameters(y), fdl_buffers(y)};
    bool same = strcmp(a->kind, b->kind) == 0;
    for (int k = 0; same && k < 2; k++) {
        same = fdl_params_count(p[k]) == fdl_params_count(q[k]);
        for (int i = 0; same && i < fdl_params_count(p[k]); i++)
            same = strcmp(fdl_params_name(p[k], i), fdl_params_name(q[k], i)) == 0 &&
                   fdl_shape_eq(fdl_shape_of(fdl_param_tensor(fdl_params_at(p[k], i))),
                                fdl_shape_of(fdl_param_tensor(fdl_params_at(q[k], i))));
    }
    return same;
}

static void hashes_tell_kinds_and_shapes(void **state)
{
    (void)state;
    FDL_SCOPE;
    static fdl_module *graphs[ROWS];
    for (int i = 0; i < ROWS; i++)
        graphs[i] = graph_of(&rows[i]);
    for (int i = 0; i < ROWS; i++) {
        fdl_module *again = graph_of(&rows[i]);
        if (strcmp(fdl_graph_hash(graphs[i]), fdl_graph_hash(again)) != 0)
            fail_msg("%s: two hashes of one architecture", rows[i].name);
        check_ok(fdl_module_to(again, fdl_default_device(), .dtype = FDL_FLOAT64));
        if (strcmp(fdl_graph_hash(graphs[i]), fdl_graph_hash(again)) != 0)
            fail_msg("%s: the dtype changes the hash", rows[i].name);
        check_ok(fdl_module_free(again));
        for (int j = 0; j < i; j++)
            /* A row that is a graph itself has more than a kind inside. */
            if (strcmp(rows[i].kind, "graph") != 0 &&
                (strcmp(fdl_graph_hash(graphs[i]), fdl_graph_hash(graphs[j])) == 0) !=
                    alike(&rows[i], graphs[i], &rows[j], graphs[j]))
                fail_msg("%s and %s: the hash doesn't say whether they are one architecture", rows[i].name,
                         rows[j].name);
    }
    for (int i = 0; i < ROWS; i++)
        check_ok(fdl_module_free(graphs[i]));
}

static void drawings_name_the_kind(void **state)
{
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        FDL_SCOPE;
        fdl_module *g = graph_of(&rows[i]);
        char *dot = fdl_graph_dot(g);
        check_some(dot);
        if (!strstr(dot, rows[i].kind))
            fail_msg("%s: no \"%s\" in the drawing: %s", rows[i].name, rows[i].kind, dot);
        free(dot);
        check_ok(fdl_module_free(g));
    }
}

/* The copy computes the same, and has parameters of its own. */
static void copies_compute_the_same(void **state)
{
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        FDL_SCOPE;
        const row *r = &rows[i];
        fdl_module *g = graph_of(r), *copy = fdl_module_clone(g);
        if (!copy)
            fail_msg("%s: %s", r->name, fdl_last_error()->message);
        check_ok(fdl_eval(g));
        check_ok(fdl_eval(copy));
        fdl_tensor *x = r->indices ? fdl_randint(0, 3, r->dims) : fdl_randn(r->dims);
        fdl_tensor *y = fdl_forward(g, x), *z = fdl_forward(copy, x);
        check_some(y);
        if (!z || !fdl_allclose(y, z, .rtol = FDL_ZERO, .atol = FDL_ZERO))
            fail_msg("%s: the copy computes something else %s", r->name, fdl_last_error()->message);
        fdl_params *p = fdl_parameters(copy);
        for (int k = 0; k < fdl_params_count(p); k++)
            check_ok(
                fdl_param_set(fdl_params_at(p, k), fdl_zeros_like(fdl_param_tensor(fdl_params_at(p, k)))));
        if (!fdl_allclose(fdl_forward(g, x), y, .rtol = 1e-5, .atol = 1e-6)) /* max_norm rounds again */
            fail_msg("%s shares parameters with its copy", r->name);
        check_ok(fdl_module_free(g));
        check_ok(fdl_module_free(copy));
    }
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_tell_kinds_and_shapes),
        cmocka_unit_test(drawings_name_the_kind),
        cmocka_unit_test(copies_compute_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
