/* Steps in any order, from a seed, nested: each flow is a graph, which runs and can be asked, or an error that says where; and
 * nothing is left behind. Flows that are right are test_random's. FLODL_FUZZ=N tries N instead of 20,000. */
#include "graph/modules.h"

/* ---- random numbers: the same everywhere --------------------------------------------------------------- */

static uint64_t seed;

static int below(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

/* ---- any steps in any order ---------------------------------------------------------------------------- */

static int alive;

static fdl_tensor *counted_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    for (size_t i = 0; i < fdl_refs_count(r); i++)
        x = fdl_add(x, fdl_refs_at(r, i));
    return x;
}

static void counted_free(void *self)
{
    (void)self;
    alive--;
}

static const fdl_module_ops counted_ops = {
    .kind = "counted", .forward_named = counted_forward, .free = counted_free};

static fdl_module *counted(void)
{
    alive++;
    return fdl_module_new(&counted_ops);
}

static const char *some_name(void)
{
    static const char *const names[] = {"a",   "b",     "c", "d_0", "d",   "d_1", "counted_2",
                                        "a.b", "input", "",  "x/y", "a=b", "_a",  "state_add"};
    return names[below(below(4) ? 5 : (int)(sizeof names / sizeof *names))];
}

/* Whether a constructor has failed: its error is the one that stays, and knows no position. */
static bool refused;

static fdl_module *any_step(int depth);

static fdl_module *any_module(int depth)
{
    int kind = below(12);
    fdl_module *m = kind == 0                ? NULL
                    : kind == 1 && depth > 0 ? any_step(depth - 1)
                    : kind < 4 && depth > 0  ? fdl_flow(any_step(depth - 1), any_step(depth - 1),
                                                        any_step(depth - 1), any_step(depth - 1))
                                             : counted();
    refused = refused || !m;
    return m;
}

static fdl_module *maybe(fdl_module *(*f)(void))
{
    return below(2) ? f() : NULL;
}

static fdl_module *some_halt(void)
{
    return below(4) ? fdl_nn_threshold_halt(below(20)) : counted();
}

static fdl_module *any_loop(int depth)
{
    fdl_module *body = any_module(depth);
    switch (below(4)) {
    case 0:
        return fdl_flow_loop(body, .n = below(4) - 1);
    case 1:
        return fdl_flow_loop(body, .while_cond = some_halt(), .max = below(4));
    case 2:
        return fdl_flow_loop(body, .until_cond = some_halt(), .max = below(4),
                             .vote = (fdl_halt_vote)below(5));
    default:
        return fdl_flow_loop(body, .n = below(2), .max = below(2), .while_cond = maybe(some_halt),
                             .until_cond = maybe(some_halt), .trace_cond = below(2) ? some_name() : NULL,
                             .keep_state = below(2), .recompute = below(2));
    }
}

static fdl_module *any_merge(void)
{
    fdl_merge_kind kind = (fdl_merge_kind)(below(8) - 1);
    bool dim = kind == FDL_MERGE_CAT || kind == FDL_MERGE_STACK ? below(2) : below(8) == 0;
    return fdl_flow_merge(kind, .dim = {dim, below(5) - 2});
}

static const char *some_ref(void)
{
    static const char *const refs[] = {"z=a", "a=b", "b=input", "=a", "a=", "a=b=c", "b=counted_2", "x/y=a"};
    return below(3) ? some_name() : refs[below((int)(sizeof refs / sizeof *refs))];
}

static fdl_module *any_from(void)
{
    switch (below(3)) {
    case 0:
        return fdl_flow_add_from(some_name());
    case 1:
        return fdl_flow_mul_from(some_ref());
    default:
        return fdl_flow_cat_from(some_name(), .dim = {below(2), below(5) - 3});
    }
}

static fdl_module *any_step(int depth)
{
    fdl_module *a, *b;
    switch (below(30)) {
    case 0:
        return fdl_flow_also(any_module(depth), .drop = below(4) ? 0 : below(5) / 2.0 - 0.5);
    case 1:
        return fdl_flow_also(any_module(depth), .skip = any_module(depth), .name = some_name());
    case 2:
        return fdl_flow_fork(any_module(depth));
    case 3:
    case 4:
        return fdl_flow_split(any_module(depth), any_module(depth));
    case 5:
        return fdl_flow_split(any_module(depth));
    case 6:
    case 7:
        return any_merge();
    case 8:
    case 9:
        return any_loop(depth);
    case 10:
        return fdl_flow_tag(some_name());
    case 11:
        return fdl_flow_tag_group(some_name());
    case 12:
        return fdl_flow_using(some_ref(), some_ref());
    case 13:
        return fdl_flow_input(some_name());
    case 14:
        return fdl_flow_label(some_name());
    case 15:
        a = any_module(depth);
        b = any_module(depth);
        return fdl_flow_gate(counted(), FDL_MODULES(a, b), .trace_weights = below(4) ? NULL : some_name());
    case 16:
        a = any_module(depth);
        b = any_module(depth);
        return fdl_flow_switch(below(2) ? fdl_nn_fixed_selector(below(3)) : counted(), FDL_MODULES(a, b));
    case 17:
        return fdl_flow_map(any_module(depth), .slices = below(4) - 1, .batched = below(2));
    case 18:
        return fdl_flow_map(any_module(depth), .over = some_name(), .slices = below(8) ? 0 : 2);
    case 19:
        return fdl_flow_internal(some_name());
    case 20:
        return fdl_nn_state_add();
    case 21:
    case 22:
        return any_from();
    case 23:
        return fdl_flow_detach();
    case 24:
        return fdl_flow_output(some_name(), some_name());
    default:
        return counted();
    }
}

/* Two forwards; where one fails, the error begins with the node. */
static void ask(fdl_module *g)
{
    fdl_tensor *in[] = {row(1, 2), row(3, 4), row(5, 6)};
    int inputs = fdl_graph_input_count(g), n = 1 + below(3);
    for (int call = 0; call < 2; call++) {
        fdl_clear_error();
        fdl_tensor *y = fdl_forward_of(g, n, in);
        const fdl_error *e = fdl_last_error();
        assert_int_equal(y != NULL, e->status == FDL_OK);
        if (n != inputs)
            assert_int_equal(e->status, FDL_E_ARG);
        else if (!y)
            assert_true(e->status == FDL_E_SHAPE || e->status == FDL_E_RANGE || e->status == FDL_E_STATE);
        bool found = y || n != inputs;
        for (int i = 0; i < fdl_graph_node_count(g) && !found; i++) {
            const char *id = fdl_graph_node_id(g, i);
            found = strncmp(e->message, id, strlen(id)) == 0;
        }
        if (!found)
            fail_msg("an error without its node: %s", e->message);
    }
    fdl_clear_error();
    assert_int_equal(strlen(fdl_graph_hash(g)), 64);
    for (int i = 0; i < fdl_graph_tag_count(g); i++) {
        FDL_SCOPE;
        fdl_graph_tagged(g, fdl_graph_tag_name(g, i));
    }
    fdl_clear_error();
    check_ok(fdl_module_reset(g));
}

static int flows_wanted(void)
{
    const char *n = getenv("FLODL_FUZZ");
    return n && atoi(n) > 0 ? atoi(n) : 20000;
}

static void steps_in_any_order_are_a_graph_or_an_error(void **state)
{
    (void)state;
    int graphs = 0, errors = 0, wanted = flows_wanted();
    for (uint64_t from = 1; from <= (uint64_t)wanted; from++) {
        FDL_SCOPE;
        seed = from * 104729;
        refused = false;
        fdl_clear_error();
        fdl_flow_builder *b = fdl_flow_new();
        for (int i = below(7); i >= 0; i--) {
            fdl_module *step = any_step(2);
            refused = refused || !step;
            fdl_flow_add(b, step);
        }
        fdl_module *g = fdl_flow_build(b);
        if (g) {
            ask(g);
            check_ok(fdl_module_free(g));
            graphs++;
        } else {
            const fdl_error *e = fdl_last_error();
            assert_int_not_equal(e->status, FDL_OK);
            if (!refused && !strstr(e->message, "step ") && !strstr(e->message, "fdl_flow: "))
                fail_msg("an error without its place, flow %d: %s", (int)from, e->message);
            errors++;
        }
        assert_int_equal(alive, 0);
    }
    assert_true(graphs > wanted / 20 && errors > wanted / 20);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_in_any_order_are_a_graph_or_an_error),
    };
    return cmocka_run_group_tests_name("fuzz", tests, NULL, NULL);
}
