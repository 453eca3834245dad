/* Every module of tests/modules.def given what it can't have been made for: other ranks, extents, dtypes, no elements. It gives
 * a tensor or an error, never a crash, and works as before afterwards. On the CPU: an index out of range ends a CUDA context. */
#include "fixture.h"
#include "rows.h"

#include <stdlib.h>

static uint64_t drawn = 1;

static int below(int n)
{
    drawn = drawn * 6364136223846793005u + 1442695040888963407u;
    return (int)(drawn >> 33) % n;
}

/* A small tensor of any kind: an extent in ten is 0, a dtype in three not what modules expect. */
static fdl_tensor *some_tensor(bool indices)
{
    static const fdl_dtype dtypes[] = {FDL_FLOAT64, FDL_FLOAT16, FDL_BFLOAT16, FDL_INT64, FDL_INT32,
                                       FDL_UINT8,   FDL_BOOL,    FDL_INT8,     FDL_INT16};
    fdl_shape s = {.ndim = below(6)};
    for (int i = 0; i < s.ndim; i++)
        s.d[i] = below(10) ? 1 + below(5) : 0;
    fdl_dtype d =
        below(3) ? indices ? FDL_INT64 : FDL_FLOAT32 : dtypes[below((int)(sizeof dtypes / sizeof *dtypes))];
    fdl_tensor *whole = fdl_sub(fdl_randint(0, 9, s), 2);
    return fdl_to_dtype(below(2) && !indices ? fdl_mul(fdl_randn(s), 3) : whole, d);
}

static bool same(fdl_tensor *a, fdl_tensor *b)
{
    return fdl_allclose(a, b, .equal_nan = true);
}

static void any_input_gives_a_tensor_or_an_error(void **state)
{
    (void)state;
    const char *more = getenv("FLODL_FUZZ");
    int rounds = more ? atoi(more) : 60;
    for (int i = 0; i < ROWS; i++) {
        const row *r = &rows[i];
        FDL_SCOPE;
        fdl_module *m = r->make();
        check_some(m);
        FDL_CHECK(fdl_eval(m));
        fdl_tensor *x = fixture_of(r->name, "x", NULL), *before = fdl_forward(m, x);
        check_some(before);
        int live = (int)fdl_live_tensors();
        for (int k = 0; k < rounds; k++) {
            FDL_SCOPE;
            uint64_t from = drawn;
            fdl_tensor *odd = some_tensor(r->indices), *y = fdl_forward(m, odd);
            if (!y && !fdl_error_pending())
                fail_msg("%s: nothing and no error, drawn from %llu", r->name, (unsigned long long)from);
            if (!y && !*fdl_last_error()->message)
                fail_msg("%s: an error without words, drawn from %llu", r->name, (unsigned long long)from);
            fdl_clear_error();
        }
        {
            FDL_SCOPE;
            if (!same(fdl_forward(m, x), before))
                fail_msg("%s: another result after what it refused", r->name);
        }
        /* Behind that forward: a graph keeps under its tags what its last run had come to. */
        if ((int)fdl_live_tensors() != live)
            fail_msg("%s leaves %d handles behind", r->name, (int)fdl_live_tensors() - live);
        assert_null(fdl_forward(m, NULL));
        fdl_clear_error();
        FDL_CHECK(fdl_module_free(m));
    }
}

/* An error that nobody has read stands: the module isn't asked. */
static void nothing_passes_through(void **state)
{
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        FDL_SCOPE;
        fdl_module *m = rows[i].make();
        check_some(m);
        fdl_tensor *none = fdl_reshape(fdl_ones(FDL_SHAPE(2)), FDL_SHAPE(3));
        assert_null(none);
        assert_null(fdl_forward(m, none));
        if (!strstr(fdl_last_error()->message, "reshape"))
            fail_msg("%s hides the first error: %s", rows[i].name, fdl_last_error()->message);
        fdl_clear_error();
        FDL_CHECK(fdl_module_free(m));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_input_gives_a_tensor_or_an_error),
        cmocka_unit_test(nothing_passes_through),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
