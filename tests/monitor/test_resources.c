/* CPU, memory and resident size from a made-up /proc and control group. The sampler is no public function: it
 * is compiled in here, so that it can be shown another root. */
#include "run.h"

#include "../../src/monitor/resources.c"

#include <ftw.h>
#include <sys/stat.h>

static char root[] = "/tmp/flodl_resources_XXXXXX";

static void put(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        assert_true(mkdir(full, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info, (void)kind, (void)walk;
    return remove(path);
}

static int fresh(void **state)
{
    (void)state;
    unsetenv("FLODL_HOST_STATS");
    strcpy(root + strlen(root) - 6, "XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int gone(void **state)
{
    (void)state;
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static fdl_monitor_resources read_at(monitor_sampler *s, double now)
{
    fdl_monitor_resources out;
    monitor_sampler_read(s, now, &out);
    return out;
}

static void cpu(void **state)
{
    (void)state;
    monitor_sampler s;
    put("/proc/stat", "cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 1 2 3 4\n");
    monitor_sampler_open(&s, root, 0);
    put("/proc/stat", "cpu  160 5 60 820 55 0 0 0 9 9\n"); /* 60 + 5 + 10 of 100; guest is in user already */
    assert_true(read_at(&s, 1).cpu == 75);
    assert_true(isnan(read_at(&s, 2).cpu)); /* less than a jiffy */
    put("/proc/stat", "cpu  160 5 60 870 105 0 0 0 9 9\n");
    assert_true(read_at(&s, 3).cpu == 0);
    put("/proc/stat", "cpu  170 6 61 870 105 2 3 8 9 9\n");
    assert_true(read_at(&s, 4).cpu == 100);
    put("/proc/stat", "cpu  171 6 61 870 95 2 3 8 9 9\n"); /* time for I/O goes back now and then */
    assert_true(isnan(read_at(&s, 5).cpu));
    put("/proc/stat", "cpu  172 6 61 871 95 2 3 8 9 9\n");
    assert_true(read_at(&s, 6).cpu == 50);
}

static void cpu_unreadable(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "cpu",
                                        "cpu \n",
                                        "cpu  1 2 3 4\n",
                                        "intr 1 2 3 4 5 6\n",
                                        "cpu  a b c d e f g h\n",
                                        "cpu  1 2 -3 4 5 6 7 8\n",
                                        "cpu  99999999999999999999 1 1 1 1 1 1 1\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        monitor_sampler s;
        put("/proc/stat", "cpu  100 0 50 800 50 0 0 0 0 0\n");
        monitor_sampler_open(&s, root, 0);
        put("/proc/stat", texts[i]);
        assert_true(isnan(read_at(&s, 1).cpu));
        put("/proc/stat", "cpu  200 0 50 800 50 0 0 0 0 0\n");
        assert_true(isnan(read_at(&s, 2).cpu)); /* the first one after a gap */
        put("/proc/stat", "cpu  210 0 50 830 50 0 0 0 0 0\n");
        assert_true(read_at(&s, 3).cpu == 25);
    }
    assert_int_equal(fdl_error_pending(), FDL_OK);
}

static void nothing_there(void **state)
{
    (void)state;
    monitor_sampler s;
    monitor_sampler_open(&s, root, 0);
    fdl_monitor_resources r = read_at(&s, 1);
    assert_true(isnan(r.cpu));
    assert_int_equal(r.ram_used, -1);
    assert_int_equal(r.ram_total, -1);
    assert_int_equal(r.rss, -1);
    assert_int_equal(fdl_error_pending(), FDL_OK);
}

static void ram(void **state)
{
    (void)state;
    monitor_sampler s;
    put("/proc/meminfo",
        "MemTotal:        8000 kB\nMemFree:     1 kB\nMemAvailable:    5000 kB\nBuffers: 3 kB\n");
    monitor_sampler_open(&s, root, 0);
    fdl_monitor_resources r = read_at(&s, 1);
    assert_int_equal(r.ram_total, 8000 * 1024);
    assert_int_equal(r.ram_used, 3000 * 1024);
    static const char *const texts[] = {"",
                                        "MemTotal: 8000 kB\nMemFree: 1 kB\n",
                                        "MemAvailable: 5 kB\n",
                                        "MemTotal: x kB\nMemAvailable: 5 kB\n",
                                        "MemTotal: 8 kB\nMemAvailable: 9 kB\n",
                                        "MemTotal: 99999999999999999 kB\nMemAvailable: 9 kB\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        put("/proc/meminfo", texts[i]);
        r = read_at(&s, 2);
        assert_int_equal(r.ram_total, -1);
        assert_int_equal(r.ram_used, -1);
    }
}

static void rss(void **state)
{
    (void)state;
    monitor_sampler s;
    put("/proc/self/statm", "1000 250 30 1 0 200 0\n");
    monitor_sampler_open(&s, root, 0);
    assert_int_equal(read_at(&s, 1).rss, 250 * sysconf(_SC_PAGESIZE));
    put("/proc/self/statm", "1000\n");
    assert_int_equal(read_at(&s, 1).rss, -1);
    put("/proc/self/statm", "1000 9223372036854775807 1\n");
    assert_int_equal(read_at(&s, 1).rss, -1);
}

static void control_group(void **state)
{
    (void)state;
    monitor_sampler s;
    put("/proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n"); /* 8 GiB */
    put("/proc/stat", "cpu  100 0 50 800 50 0 0 0 0 0\n");
    put("/proc/self/cgroup", "1:name=systemd:/x\n0::/a/b\n");
    put("/sys/fs/cgroup/a/memory.max", "2147483648\n");
    put("/sys/fs/cgroup/a/memory.current", "1073741824\n");
    put("/sys/fs/cgroup/a/memory.stat", "anon 5\nactive_file 1\ninactive_file 73741824\n");
    put("/sys/fs/cgroup/a/b/memory.max", "max\n");
    put("/sys/fs/cgroup/a/b/cpu.max", "50000 100000\n"); /* half a processor */
    put("/sys/fs/cgroup/a/b/cpu.stat", "usage_usec 1000000\nuser_usec 1\n");
    put("/sys/fs/cgroup/a/cpu.max", "40000 100000\n"); /* the group around it has less: that counts */
    put("/sys/fs/cgroup/a/cpu.stat", "usage_usec 3000000\nuser_usec 1\n");
    put("/sys/fs/cgroup/cpu.max", "max 100000\n");
    monitor_sampler_open(&s, root, 100);
    put("/sys/fs/cgroup/a/cpu.stat", "usage_usec 3200000\n"); /* 0.2 s of the 0.8 s that 2 s hold */
    fdl_monitor_resources r = read_at(&s, 102);
    assert_true(fabs(r.cpu - 25) < 1e-9);
    assert_int_equal(r.ram_total, INT64_C(2147483648));
    assert_int_equal(r.ram_used, 1000000000);

    setenv("FLODL_HOST_STATS", "1", 1);
    monitor_sampler_open(&s, root, 102);
    put("/proc/stat", "cpu  110 0 50 830 50 0 0 0 0 0\n");
    r = read_at(&s, 103);
    assert_true(r.cpu == 25);
    assert_int_equal(r.ram_total, INT64_C(8589934592));
    assert_int_equal(r.ram_used, INT64_C(4294967296));
    unsetenv("FLODL_HOST_STATS");

    /* No limit below the machine's: the machine's. And a path that leads nowhere, or out. */
    static const char *const paths[] = {"0::/nowhere\n", "0::/../../x\n", "0::/\n", "garbage\n", ""};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        put("/proc/self/cgroup", paths[i]);
        put("/sys/fs/cgroup/memory.max", "17179869184\n"); /* 16 GiB */
        monitor_sampler_open(&s, root, 103);
        assert_int_equal(read_at(&s, 104).ram_total, INT64_C(8589934592));
    }
    /* A container that sees its own group as the root. */
    put("/proc/self/cgroup", "0::/docker/0123\n");
    put("/sys/fs/cgroup/memory.max", "1048576\n");
    put("/sys/fs/cgroup/memory.current", "4096\n");
    monitor_sampler_open(&s, root, 104);
    r = read_at(&s, 105);
    assert_int_equal(r.ram_total, 1048576);
    assert_int_equal(r.ram_used, 4096);
}

/* This machine's own files, against what the system says otherwise. */
static void this_machine(void **state)
{
    (void)state;
    setenv("FLODL_HOST_STATS", "1", 1);
    monitor_sampler s;
    monitor_sampler_open(&s, "", fdl_now());
    volatile unsigned work = 0;
    for (double until = fdl_now() + 0.1; fdl_now() < until;)
        work++;
    fdl_monitor_resources r = read_at(&s, fdl_now());
    assert_true(r.cpu > 0 && r.cpu <= 100);
    int64_t physical = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    assert_true(llabs(r.ram_total - physical) <= physical / 100);
    assert_true(r.ram_used > 0 && r.ram_used < r.ram_total);
    assert_true(r.rss > 0);
#ifndef SANITIZED
    enum { MORE = 64 << 20 };
    char *block = malloc(MORE);
    assert_non_null(block);
    memset(block, 1, MORE);
    int64_t grown = read_at(&s, fdl_now()).rss - r.rss;
    assert_in_range(grown, MORE / 10 * 9, MORE / 10 * 13);
    free(block);
#endif
    unsetenv("FLODL_HOST_STATS");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(cpu, fresh, gone),
        cmocka_unit_test_setup_teardown(cpu_unreadable, fresh, gone),
        cmocka_unit_test_setup_teardown(nothing_there, fresh, gone),
        cmocka_unit_test_setup_teardown(ram, fresh, gone),
        cmocka_unit_test_setup_teardown(rss, fresh, gone),
        cmocka_unit_test_setup_teardown(control_group, fresh, gone),
        cmocka_unit_test(this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
