/* Every module of tests/modules.def against PyTorch's recorded numbers and against difference quotients. */
#include "fixture.h"
#include "rows.h"

#include <math.h>

/* ---- helpers ------------------------------------------------------------------------------------ */

/* Calls f on each parameter, then on each buffer, with its state_dict key. */
static void each_tensor(const row *r, fdl_module *m, void (*f)(const row *r, fdl_param *p, const char *key))
{
    FDL_SCOPE;
    fdl_params *lists[] = {fdl_parameters(m), fdl_buffers(m)};
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < fdl_params_count(lists[k]); i++) {
            char key[128];
            FDL_CHECK(fdl_state_key(fdl_params_name(lists[k], i), key, sizeof key));
            f(r, fdl_params_at(lists[k], i), key);
        }
}

static void load_state(const row *r, fdl_param *p, const char *key)
{
    FDL_SCOPE;
    FDL_CHECK(fdl_param_set(p, fixture_of(r->name, "state", key)));
}

/* The module of a row with the recorded weights. */
static fdl_module *make_loaded(const row *r)
{
    fdl_module *m = r->make();
    if (!m)
        fail_msg("%s: %s", r->name, fdl_last_error()->message);
    each_tensor(r, m, load_state);
    return m;
}

/* ---- the tests of one row ----------------------------------------------------------------------- */

/* Uniform draws are PyTorch's to the bit; normal ones go through the machine's vector instructions. */
static void expect_initial(const row *r, fdl_param *p, const char *key)
{
    bool normal = strstr(r->kind, "embedding") != NULL;
    expect_recorded(fdl_param_tensor(p), r->name, "init", key, normal ? 1e-6 : 0);
}

static int recorded_states(const char *name)
{
    char start[128];
    snprintf(start, sizeof start, "%s/init.", name);
    return fixture_count(start);
}

static void begins_as_pytorch(const row *r)
{
    FDL_SCOPE;
    fdl_manual_seed(fixture_seed(r->name));
    fdl_module *m = r->make();
    if (!m)
        fail_msg("%s: %s", r->name, fdl_last_error()->message);
    each_tensor(r, m, expect_initial);
    int n = fdl_params_count(fdl_parameters(m)) + fdl_params_count(fdl_buffers(m));
    if (n != recorded_states(r->name))
        fail_msg("%s has %d parameters and buffers, PyTorch %d", r->name, n, recorded_states(r->name));
    assert_string_equal(fdl_module_kind(m), r->kind);
    assert_true(fdl_is_training(m));
    FDL_CHECK(fdl_module_free(m));
}

static bool on_gpu;

/* cuDNN's plain recurrent layers have a hyperbolic tangent of fewer digits. */
static double gradient_tolerance(const row *r)
{
    return on_gpu && strcmp(r->kind, "rnn") == 0 ? 2e-4 : 2e-5;
}

static void expect_gradient(const row *r, fdl_param *p, const char *key)
{
    char name[256];
    snprintf(name, sizeof name, "%s/grad.%s", r->name, key);
    if (fixture_has(name))
        expect_recorded(fdl_grad(fdl_param_tensor(p)), r->name, "grad", key, gradient_tolerance(r));
}

static void expect_after(const row *r, fdl_param *p, const char *key)
{
    char name[256];
    snprintf(name, sizeof name, "%s/after.%s", r->name, key);
    if (fixture_has(name))
        expect_recorded(fdl_param_tensor(p), r->name, "after", key, 1e-6);
}

static void trains_as_pytorch(const row *r)
{
    FDL_SCOPE;
    fdl_module *m = make_loaded(r);
    fdl_tensor *x = fixture_of(r->name, "x", NULL);
    if (!r->indices)
        FDL_CHECK(fdl_requires_grad_(x, true));
    fdl_tensor *y = fdl_forward(m, x);
    expect_recorded(y, r->name, "y", NULL, 1e-5);
    FDL_CHECK(fdl_backward(recorded_loss(y)));
    if (!r->indices)
        expect_recorded(fdl_grad(x), r->name, "dx", NULL, gradient_tolerance(r));
    each_tensor(r, m, expect_gradient);
    each_tensor(r, m, expect_after);
    FDL_CHECK(fdl_eval(m));
    expect_recorded(fdl_forward(m, x), r->name, "eval", NULL, 1e-5);
    FDL_CHECK(fdl_module_free(m));
}

static fdl_tensor *forward_of_ctx(fdl_list in, void *ctx)
{
    void **both = ctx; /* the module, and the input where it has no gradient */
    return fdl_forward(both[0], both[1] ? both[1] : fdl_list_at(in, 0));
}

/* The check changes the parameters in place: they are the module's own leaves. */
static void has_the_gradient_of_its_forward(const row *r)
{
    FDL_SCOPE;
    fdl_module *m = make_loaded(r);
    FDL_CHECK(fdl_module_to(m, fdl_default_device(), .dtype = FDL_FLOAT64));
    fdl_tensor *x = fixture_of(r->name, "x", NULL), *leaves[64];
    fdl_list in = {0, leaves};
    if (!r->indices) {
        x = fdl_double(x);
        FDL_CHECK(fdl_requires_grad_(x, true));
        leaves[in.n++] = x;
    }
    fdl_params *ps = fdl_parameters(m);
    for (int i = 0; i < fdl_params_count(ps); i++)
        leaves[in.n++] = fdl_param_tensor(fdl_params_at(ps, i));
    /* An embedding's options make its gradient other than the derivative, on purpose. */
    bool derivative = !r->indices || strcmp(r->name, "embedding") == 0;
    if (derivative && fdl_gradcheck(forward_of_ctx, in, ((void *[]){m, r->indices ? x : NULL})) != FDL_OK)
        fail_msg("%s: %s", r->name, fdl_last_error()->message);
    FDL_CHECK(fdl_module_free(m));
}

static void moves_between_dtypes(const row *r)
{
    FDL_SCOPE;
    fdl_module *m = make_loaded(r);
    FDL_CHECK(fdl_eval(m));
    FDL_CHECK(fdl_module_to(m, fdl_default_device(), .dtype = FDL_FLOAT64));
    fdl_tensor *x = fixture_of(r->name, "x", NULL);
    fdl_tensor *wide = fdl_forward(m, r->indices ? x : fdl_double(x));
    if (!wide)
        fail_msg("%s: %s", r->name, fdl_last_error()->message);
    if (!r->indices)
        assert_int_equal(fdl_dtype_of(wide), FDL_FLOAT64);
    FDL_CHECK(fdl_module_to(m, fdl_default_device(), .dtype = FDL_FLOAT32));
    fdl_tensor *back = fdl_forward(m, x);
    assert_int_equal(fdl_dtype_of(back), FDL_FLOAT32);
    if (!fdl_allclose(fdl_double(back), wide, .rtol = 1e-4, .atol = 1e-5))
        fail_msg("%s: float64 and float32 differ", r->name);
    FDL_CHECK(fdl_module_free(m));
}

static void leaves_nothing_behind(const row *r)
{
    int64_t before = fdl_live_tensors();
    {
        FDL_SCOPE;
        fdl_module *m = make_loaded(r);
        fdl_tensor *x = fixture_of(r->name, "x", NULL);
        int64_t inside = fdl_live_tensors();
        fdl_tensor *y = fdl_forward(m, x);
        assert_non_null(y);
        int kept = strcmp(r->kind, "graph") == 0 ? 2 : 0; /* its tags x and m */
        if (fdl_live_tensors() > inside + 1 + kept)
            fail_msg("%s: forward leaves %d handles", r->name, (int)(fdl_live_tensors() - inside));
        FDL_CHECK(fdl_module_free(m));
    }
    if (fdl_live_tensors() != before)
        fail_msg("%s: %d handles are left", r->name, (int)(fdl_live_tensors() - before));
}

/* ---- over all rows ------------------------------------------------------------------------------ */

#define OVER_ROWS(name)                           \
    static void every_module_##name(void **state) \
    {                                             \
        (void)state;                              \
        for (int i = 0; i < ROWS; i++)            \
            name(&rows[i]);                       \
    }
OVER_ROWS(begins_as_pytorch)
OVER_ROWS(trains_as_pytorch)
OVER_ROWS(has_the_gradient_of_its_forward)
OVER_ROWS(moves_between_dtypes)
OVER_ROWS(leaves_nothing_behind)

int main(void)
{
    on_gpu = on_test_device();
    if (on_gpu) { /* a GPU draws other numbers from a seed; its products are rounded as float32 */
        FDL_CHECK(fdl_allow_tf32(false, false));
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(every_module_trains_as_pytorch),
            cmocka_unit_test(every_module_has_the_gradient_of_its_forward),
            cmocka_unit_test(every_module_moves_between_dtypes),
            cmocka_unit_test(every_module_leaves_nothing_behind),
        };
        return cmocka_run_group_tests(tests, fixture_open, fixture_close);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_module_begins_as_pytorch),
        cmocka_unit_test(every_module_trains_as_pytorch),
        cmocka_unit_test(every_module_has_the_gradient_of_its_forward),
        cmocka_unit_test(every_module_moves_between_dtypes),
        cmocka_unit_test(every_module_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
