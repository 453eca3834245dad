/* The memory of GPUs at the end of the lines, with devices that this program makes up: its functions stand in
 * front of the library's. */
#include "run.h"

#define GIB (INT64_C(1) << 30)

static struct {
    int64_t reserved, total;
    bool broken;
} devices[100];
static int count, asked; /* devices; calls of fdl_cuda_mem_info for one that isn't in use */

FDL_API int(fdl_cuda_count)(void)
{
    return count;
}

FDL_API fdl_status(fdl_cuda_memory_reserved)(int i, int64_t *n)
{
    if (devices[i].broken)
        return fdl_fail(FDL_E_DEVICE, "device %d is broken", i);
    *n = devices[i].reserved;
    return FDL_OK;
}

FDL_API fdl_status(fdl_cuda_mem_info)(int i, int64_t *used, int64_t *total)
{
    asked += devices[i].reserved == 0;
    *used = 0;
    *total = devices[i].total;
    return FDL_OK;
}

static int none(void **state)
{
    (void)state;
    memset(devices, 0, sizeof devices);
    count = asked = 0;
    return 0;
}

/* One epoch's line, from a monitor of its own. */
static void one_line(const char *expected)
{
    struct run r;
    run_open(&r, 2);
    check_ok(run_epoch(&r, 0, 1, NULL));
    assert_written(&r, expected);
    run_close(&r);
    assert_int_equal(asked, 0);
    assert_int_equal(fdl_error_pending(), FDL_OK);
}

static void without(void **state)
{
    (void)state;
    one_line("  epoch 1/2  [1s  ETA 1s]\n");
    count = 2; /* there, but not in use: asking for its memory would claim some */
    devices[0].total = devices[1].total = 6 * GIB;
    one_line("  epoch 1/2  [1s  ETA 1s]\n");
}

static void one(void **state)
{
    (void)state;
    count = 2;
    devices[1].reserved = 2254857830;
    devices[0].total = devices[1].total = 6 * GIB;
    one_line("  epoch 1/2  [1s  ETA 1s]  VRAM: 2.1/6.0 GB\n");
    devices[1].reserved = 1;
    one_line("  epoch 1/2  [1s  ETA 1s]  VRAM: 0.0/6.0 GB\n");
    devices[1].reserved = 6 * GIB;
    one_line("  epoch 1/2  [1s  ETA 1s]  VRAM: 6.0/6.0 GB\n");
    devices[1].reserved = 6 * GIB + GIB * 4 / 10;
    one_line("  epoch 1/2  [1s  ETA 1s]  VRAM: 6.4/6.0 GB  spill 0.4 GB\n");
}

static void several(void **state)
{
    (void)state;
    count = 3;
    for (int i = 0; i < 3; i++)
        devices[i].total = 16 * GIB;
    devices[0].reserved = 2254857830;
    devices[2].reserved = 17 * GIB;
    one_line("  epoch 1/2  [1s  ETA 1s]  GPU0: 2.1/16.0 GB  GPU2: 17.0/16.0 GB  spill 1.0 GB\n");
    devices[0].broken = true;
    one_line("  epoch 1/2  [1s  ETA 1s]  VRAM: 17.0/16.0 GB  spill 1.0 GB\n");
    count = 100; /* more than there is room for */
    for (int i = 0; i < 100; i++)
        devices[i].reserved = devices[i].total = GIB, devices[i].broken = false;
    struct run r;
    run_open(&r, 2);
    check_ok(run_epoch(&r, 0, 1, NULL));
    const char *text = run_text(&r);
    assert_non_null(strstr(text, "GPU63: 1.0/1.0 GB\n"));
    run_close(&r);
}

/* An error that the program hasn't read yet stays as it is. */
static void pending(void **state)
{
    (void)state;
    count = 1;
    devices[0].broken = true;
    struct run r;
    run_open(&r, 2);
    fdl_fail(FDL_E_SHAPE, "mine");
    check_ok(run_epoch(&r, 0, 1, NULL));
    check_error(FDL_E_SHAPE, "mine");
    run_close(&r);
}

/* On the last line in the column of the line before; then CPU and RSS behind it. */
static void last_line(void **state)
{
    (void)state;
    count = 1;
    devices[0].reserved = 2254857830;
    devices[0].total = 6 * GIB;
    struct run r;
    run_open(&r, 2);
    check_ok(run_epoch(&r, 0, 1, FDL_METRICS({"loss", 0.3817})));
    assert_written(&r, "  epoch 1/2  loss=0.3817  [1s  ETA 1s]  VRAM: 2.1/6.0 GB\n");
    check_ok(run_epoch(&r, 1, 1, FDL_METRICS({"loss", 0.0012})));
    assert_written(&r, "  epoch 2/2  loss=0.0012  [1s]          VRAM: 2.1/6.0 GB\n");
    run_close(&r);
    run_open(&r, 1, .resources = true);
    check_ok(run_epoch(&r, 0, 1, NULL));
    const char *text = run_text(&r);
    assert_true(strstr(text, "  [1s]  VRAM: 2.1/6.0 GB  CPU: ") ||
                strstr(text, "  [1s]  VRAM: 2.1/6.0 GB  RSS: "));
    run_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(without, none),   cmocka_unit_test_setup(one, none),
        cmocka_unit_test_setup(several, none),   cmocka_unit_test_setup(pending, none),
        cmocka_unit_test_setup(last_line, none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
