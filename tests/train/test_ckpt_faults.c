/* Files and disks that fail in the middle: reads that give little or nothing, a disk that is full at every size, a rename
 * that isn't done, a process that is killed. What was there stays, nothing half-made is left, the module doesn't change.
 * The program's pread and rename stand before the C library's. */
#include "ckpt_files.h"

#include "flodl/worker.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define FIXTURE(name) FLODL_SOURCE_DIR "/tests/fixtures/" name

/* ---- faults --------------------------------------------------------------------------------------------- */

static size_t most_bytes;               /* that one pread gives; 0: as many as asked for */
static int reads_left = -1, error_then; /* then it fails with this, or, if 0, finds the end */
static int renames_left = -1;

FDL_API ssize_t pread(int fd, void *buf, size_t n, off_t at)
{
    static ssize_t (*real)(int, void *, size_t, off_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pread");
    if (reads_left == 0) {
        errno = error_then;
        return error_then ? -1 : 0;
    }
    if (reads_left > 0)
        reads_left--;
    return real(fd, buf, most_bytes && n > most_bytes ? most_bytes : n, at);
}

FDL_API int rename(const char *from, const char *to)
{
    static int (*real)(const char *, const char *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "rename");
    if (renames_left == 0) {
        errno = ENOSPC;
        return -1;
    }
    if (renames_left > 0)
        renames_left--;
    return real(from, to);
}

static fdl_module *model(double from)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_module *g = fdl_flow(fdl_nn_linear(3, 8), fdl_nn_gelu(), fdl_nn_layer_norm(8), fdl_nn_batch_norm(8),
                             fdl_flow(fdl_nn_linear(8, 8), fdl_nn_relu()), fdl_nn_linear(8, 2));
    check_some(g);
    mark(g);
    fdl_params *ps = fdl_parameters(g);
    for (int i = 0; i < fdl_params_count(ps); i++)
        check_ok(fdl_param_set(fdl_params_at(ps, i), fdl_add(fdl_param_tensor(fdl_params_at(ps, i)), from)));
    return g;
}

/* An optimizer that has made a step without moving anything. */
static fdl_optim *stepped_optim(fdl_module *g)
{
    FDL_SCOPE;
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(g), .lr = FDL_ZERO);
    check_some(opt);
    fdl_params *ps = fdl_parameters(g);
    for (int i = 0; i < fdl_params_count(ps); i++) {
        fdl_tensor *p = fdl_param_tensor(fdl_params_at(ps, i));
        check_ok(fdl_set_grad(p, fdl_mul(fdl_detach(p), 0.5)));
    }
    check_ok(fdl_optim_step(opt));
    return opt;
}

/* ---- reading -------------------------------------------------------------------------------------------- */

static void short_and_failing_reads(void **state)
{
    (void)state;
    fdl_module *a = model(1), *b = model(2), *untouched = model(2);
    check_ok(fdl_graph_set_source_config(a, "{}"));
    check_ok(fdl_ckpt_save(a, path_of("plain.fdl")));
    check_ok(fdl_ckpt_save(a, path_of("shards.fdl"), .shard_bytes = 200));
    fdl_ckpt_info *zip = fdl_ckpt_open(FIXTURE("ckpt_tensor.pt"));
    const struct {
        const char *path, *prefix;
    } files[] = {{path_of("plain.fdl"), NULL},
                 {path_of("shards.fdl"), NULL},
                 {FIXTURE("ckpt_sequential.safetensors"), "model."},
                 {FIXTURE("ckpt_training.pt"), "model."}};
    int n = zip ? 4 : 3;
    fdl_ckpt_close(zip);
    fdl_clear_error();
    for (int k = 0; k < n; k++) {
        most_bytes = 7; /* as a network's file system may */
        check_ok(fdl_ckpt_load(b, files[k].path, .prefix = files[k].prefix));
        most_bytes = 0;
        check_ok(fdl_ckpt_load(a, files[k].path, .prefix = files[k].prefix));
        assert_true(same_values(a, b));
        for (int kind = 0; kind < 2; kind++) {
            int i = 0;
            for (bool done = false; !done; i++) {
                fdl_module_free(b);
                b = model(2);
                reads_left = i;
                error_then = kind ? EIO : 0;
                fdl_status status = fdl_ckpt_load(b, files[k].path, .prefix = files[k].prefix);
                done = reads_left != 0;
                reads_left = -1;
                if (done) {
                    check_ok(status);
                } else if (status != FDL_OK) { /* libzip may not need the last of its reads */
                    assert_true(status == FDL_E_FORMAT || status == FDL_E_IO);
                    fdl_clear_error();
                    assert_true(same_values(b, untouched));
                }
            }
            assert_true(i > 5);
        }
    }
    fdl_module_free(a);
    fdl_module_free(b);
    fdl_module_free(untouched);
}

/* Training state as well: a read that fails or ends leaves model, optimizer, averages and generator as they were. */
static void a_training_is_read_whole_or_not_at_all(void **state)
{
    (void)state;
    fdl_module *a = model(1);
    fdl_optim *of_a = stepped_optim(a);
    fdl_ema *ema_a = fdl_ema_new(a, 0.9);
    fdl_progress p = {.step = 7}, at;
    check_ok(fdl_ckpt_save(a, path_of("all.fdl"), .optim = of_a, .ema = ema_a, .rng = true, .progress = &p));
    for (int kind = 0; kind < 2; kind++) {
        int i = 0;
        for (bool done = false; !done; i++) {
            FDL_SCOPE;
            fdl_module *b = model(2), *untouched = model(2);
            fdl_optim *of_b = fdl_optim_adam(fdl_parameters(b), .lr = 3);
            fdl_ema *ema_b = fdl_ema_new(b, 0.9);
            at = (fdl_progress){.step = 1};
            fdl_tensor *random = fdl_rng_state(FDL_CPU);
            fdl_tensor *first = fdl_param_tensor(fdl_params_at(fdl_parameters(b), 0));
            fdl_tensor *shadow = fdl_clone(fdl_ema_shadow(ema_b, first));
            reads_left = i;
            error_then = kind ? EIO : 0;
            fdl_status status = fdl_ckpt_load(b, path_of("all.fdl"), .optim = of_b, .ema = ema_b, .rng = true,
                                              .progress = &at);
            done = reads_left != 0 || status == FDL_OK;
            reads_left = -1;
            if (done) {
                check_ok(status);
                assert_true(same_values(a, b));
                assert_true(fdl_optim_lr(of_b) == 0 && at.step == 7);
                assert_non_null(fdl_optim_state(of_b, first, "exp_avg"));
            } else {
                if (status != FDL_E_FORMAT && status != FDL_E_IO)
                    fail_msg("read %d: %s: %s", i, fdl_status_name(status), fdl_last_error()->message);
                fdl_clear_error();
                assert_true(same_values(b, untouched));
                assert_true(fdl_optim_lr(of_b) == 3 && at.step == 1);
                assert_null(fdl_optim_state(of_b, first, "exp_avg"));
                assert_true(fdl_same(shadow, fdl_ema_shadow(ema_b, first)));
                assert_true(fdl_same(random, fdl_rng_state(FDL_CPU)));
            }
            fdl_ema_free(ema_b);
            fdl_optim_free(of_b);
            fdl_module_free(b);
            fdl_module_free(untouched);
        }
        assert_true(i > 40); /* a read for each tensor */
    }
    fdl_ema_free(ema_a);
    fdl_optim_free(of_a);
    fdl_module_free(a);
}

/* ---- writing -------------------------------------------------------------------------------------------- */

/* Each way of writing, to a path. */
static fdl_status to_one(fdl_module *g, const char *path)
{
    return fdl_ckpt_save(g, path);
}
static fdl_status to_shards(fdl_module *g, const char *path)
{
    return fdl_ckpt_save(g, path, .shard_bytes = 200);
}
static fdl_status by_snapshot(fdl_module *g, const char *path)
{
    fdl_snapshot *s = fdl_ckpt_snapshot(g);
    fdl_status status = fdl_snapshot_save(s, path);
    fdl_snapshot_free(s);
    return status;
}
static fdl_status by_migration(fdl_module *g, const char *path)
{
    fdl_module *from = model(9);
    fdl_status status = fdl_ckpt_save(from, path_of("from.fdl"));
    if (status == FDL_OK)
        status = fdl_ckpt_migrate(path_of("from.fdl"), path, g);
    fdl_module_free(from);
    return status;
}

/* With an optimizer's state, averages, generators. */
static fdl_status with_training(fdl_module *g, const char *path)
{
    FDL_SCOPE;
    fdl_optim *opt = stepped_optim(g);
    fdl_ema *ema = fdl_ema_new(g, 0.9);
    fdl_status status = fdl_ckpt_save(g, path, .optim = opt, .ema = ema, .rng = true);
    fdl_ema_free(ema);
    fdl_optim_free(opt);
    return status;
}
static fdl_status in_the_background(fdl_module *g, const char *path)
{
    fdl_worker *w = fdl_worker_new();
    check_ok(fdl_ckpt_save_async(w, g, path));
    fdl_status status = fdl_worker_wait(w);
    fdl_worker_free(w);
    return status;
}

static const struct {
    const char *name;
    fdl_status (*save)(fdl_module *g, const char *path);
} ways[] = {{"one.fdl", to_one},
            {"packed.fdl.gz", to_one},
            {"shards.fdl", to_shards},
            {"snapshot.fdl", by_snapshot},
            {"migrated.fdl", by_migration},
            {"training.fdl", with_training},
            {"background.fdl", in_the_background}};

static void check_old(const char *path, fdl_module *old, int files)
{
    FDL_SCOPE;
    fdl_module *g = model(5);
    assert_int_equal(files_in_folder(), files);
    check_ok(fdl_ckpt_load(g, path));
    assert_true(same_values(g, old));
    fdl_module_free(g);
}

static void a_full_disk_loses_nothing(void **state)
{
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    for (size_t k = 0; k < sizeof ways / sizeof ways[0]; k++) {
        char path[512];
        snprintf(path, sizeof path, "%s", path_of(ways[k].name)); /* of path_of's the last few stay valid */
        fdl_module *old = model(1), *new = model(2);
        check_ok(
            fdl_graph_set_source_config(old, "{\"some\": \"text that is longer than the smallest limits\"}"));
        check_ok(
            fdl_graph_set_source_config(new, "{\"some\": \"text that is longer than the smallest limits\"}"));
        check_ok(
            by_migration(old, path_of("other.fdl"))); /* its file is there before the files are counted */
        check_ok(fdl_ckpt_save(old, path, .shard_bytes = ways[k].save == to_shards ? 200 : 0));
        int files = files_in_folder(), failed = 0;
        struct rlimit was;
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
        bool done = false;
        for (rlim_t limit = 0; !done; limit += limit < 2000 ? 61 : 509) {
            struct rlimit small = {limit, was.rlim_max};
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
            fdl_status status = ways[k].save(new, path);
            setrlimit(RLIMIT_FSIZE, &was);
            done = status == FDL_OK;
            if (done)
                break;
            assert_int_equal(status, FDL_E_IO);
            fdl_clear_error();
            check_old(path, old, files);
            failed++;
        }
        assert_true(failed >= 8);
        fdl_module_free(old);
        fdl_module_free(new);
    }
}

static void a_rename_that_fails_loses_nothing(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof ways / sizeof ways[0]; k++) {
        char path[512];
        snprintf(path, sizeof path, "%s", path_of(ways[k].name)); /* of path_of's the last few stay valid */
        fdl_module *old = model(1), *new = model(2);
        check_ok(by_migration(old, path_of("other.fdl")));
        check_ok(fdl_ckpt_save(old, path, .shard_bytes = ways[k].save == to_shards ? 200 : 0));
        int files = files_in_folder(), i = 0;
        for (bool done = false; !done; i++) {
            renames_left = i;
            fdl_status status = ways[k].save(new, path);
            done = renames_left != 0 || status == FDL_OK;
            renames_left = -1;
            if (done)
                check_ok(status);
            else {
                assert_int_equal(status, FDL_E_IO);
                check_error(FDL_E_IO, "No space left");
                check_old(path, old, files);
            }
        }
        assert_true(i > 1);
        fdl_module_free(old);
        fdl_module_free(new);
    }
}

/* A child process saves over and over and is killed somewhere: what lies there is whole, the old or the new. */
static void a_killed_process_leaves_a_whole_file(void **state)
{
    (void)state;
    static const int which[] = {0, 2};
    fdl_module *a = model(1), *b = model(2), *g = model(5);
    for (int w = 0; w < 2; w++) {
        char path[512];
        snprintf(path, sizeof path, "%s", path_of(ways[which[w]].name));
        int seen[2] = {0};
        check_ok(ways[which[w]].save(a, path));
        for (int i = 0; i < 25; i++) {
            pid_t child = fork();
            assert_true(child >= 0);
            if (!child) {
                for (;;) {
                    ways[which[w]].save(b, path);
                    ways[which[w]].save(a, path);
                }
            }
            usleep(1000 + 1700 * (unsigned)i);
            kill(child, SIGKILL);
            assert_int_equal(waitpid(child, NULL, 0), child);
            check_ok(fdl_ckpt_load(g, path));
            bool first = same_values(g, a);
            assert_true(first || same_values(g, b));
            seen[first]++;
        }
        print_message("%s: %d old, %d new\n", ways[which[w]].name, seen[1], seen[0]);
    }
    fdl_module_free(a);
    fdl_module_free(b);
    fdl_module_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_and_failing_reads),
        cmocka_unit_test(a_training_is_read_whole_or_not_at_all),
        cmocka_unit_test(a_full_disk_loses_nothing),
        cmocka_unit_test(a_rename_that_fails_loses_nothing),
        cmocka_unit_test(a_killed_process_leaves_a_whole_file),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
