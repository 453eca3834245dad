/* TensorBoard's event files: byte for byte what TensorBoard's own writer wrote, and read by TensorBoard's own reader where
 * Python has it. */
#include "folder.h"
#include "graph/modules.h"

#include <fcntl.h>
#include <math.h>
#include <sys/resource.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* ---- helpers ------------------------------------------------------------------------------------------- */

static const char *fixture(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/tests/fixtures/%s", FLODL_SOURCE_DIR, name);
    return path;
}

/* A folder for one test's events. */
static const char *fresh(const char *name)
{
    return path_of(name);
}

/* Removes the folder with its files. */
static void remove_run(const char *run)
{
    DIR *d = opendir(run);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", run, e->d_name);
        if (e->d_name[0] != '.')
            remove(path);
    }
    closedir(d);
    assert_int_equal(rmdir(run), 0);
}

/* Bytes of the first record: its length, two checks, the event. */
static size_t first_record(const unsigned char *at, size_t n)
{
    assert_true(n > 16);
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | at[i];
    assert_true(length < n);
    return (size_t)length + 16;
}

/* ---- bytes --------------------------------------------------------------------------------------------- */

static void write_what_the_fixture_has(fdl_events *ev)
{
    static const double limits[] = {-1, 0, 0.5, 2.5}, counts[] = {1, 0, 3, 2};
    const fdl_histogram h = {.n = 4,
                             .limits = limits,
                             .counts = counts,
                             .num = 6,
                             .min = -1.5,
                             .max = 2.25,
                             .sum = 0,
                             .sum_squares = 7.75};
    char longest[301] = "";
    memset(longest, 'a', 300);
    check_ok(fdl_events_scalar(ev, "loss", 0.5, 0, .wall_time = 1.5e9));
    check_ok(fdl_events_scalar(ev, "loss", 0.1, 1, .wall_time = 1500000000.25));
    check_ok(fdl_events_scalar(ev, "loss", 0, 300, .wall_time = 1.5e9));
    check_ok(fdl_events_scalar(ev, "loss", -0.0, INT64_C(1) << 40, .wall_time = 1.5e9));
    check_ok(fdl_events_scalar(ev, "gr\u00f6\u00dfe/\u03bb", NAN, 5, .wall_time = 1.5e9));
    check_ok(fdl_events_scalar(ev, "inf", -INFINITY, -1, .wall_time = 1.5e9));
    check_ok(fdl_events_histogram(ev, "weights", &h, 7, .wall_time = 1.5e9));
    check_ok(fdl_events_text(ev, "notes", "lr **halved** \u2013 twice", 3, .wall_time = 1.5e9));
    check_ok(fdl_events_text(ev, "long", longest, 0, .wall_time = 1.5e9));
}

static void bytes_as_tensorboard_writes_them(void **state)
{
    (void)state;
    const char *run = fresh("bytes");
    fdl_events *ev = fdl_events_open(run, .suffix = ".mine");
    check_some(ev);
    assert_string_equal(fdl_events_path(ev) + strlen(fdl_events_path(ev)) - 5, ".mine");
    write_what_the_fixture_has(ev);
    check_ok(fdl_events_flush(ev));
    size_t n, m;
    unsigned char *got = fdl_file_read(fdl_events_path(ev), 0, &n);
    unsigned char *want = fdl_file_read(fixture("events.tfevents"), 0, &m);
    check_some(got);
    check_some(want);
    /* the first record says when the file was made */
    size_t skip = first_record(got, n), other = first_record(want, m);
    assert_non_null(memmem(got, skip,
                           "\x1a\x0d"
                           "brain.Event:2",
                           15));
    assert_non_null(memmem(want, other,
                           "\x1a\x0d"
                           "brain.Event:2",
                           15));
    assert_int_equal(n - skip, m - other);
    assert_memory_equal(got + skip, want + other, n - skip);
    free(got);
    free(want);
    check_ok(fdl_events_close(ev));
    remove_run(path_of("bytes"));
}

/* ---- TensorBoard's reader ------------------------------------------------------------------------------ */

/* What it prints of a run; NULL: there is no TensorBoard. free. */
static char *read_by_tensorboard(const char *run)
{
    const char *python = getenv("FLODL_PYTHON");
    char command[2048], *text = calloc(1, 1 << 16);
    snprintf(command, sizeof command, "%s %s %s 2>/dev/null", python && *python ? python : "python3",
             fixture("read_events.py"), run);
    FILE *out = popen(command, "r");
    assert_non_null(out);
    size_t n = fread(text, 1, (1 << 16) - 1, out);
    int status = pclose(out);
    if (WIFEXITED(status) && (WEXITSTATUS(status) == 77 || WEXITSTATUS(status) == 127)) {
        free(text);
        return NULL;
    }
    assert_int_equal(status, 0);
    text[n] = 0;
    return text;
}

static void tensorboard_reads_a_graphs_training(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *run = fresh("run");
    fdl_module *g = fdl_flow(fdl_flow(fdl_flow_label("encoder"), dbl(), fdl_flow_tag("hidden")), id());
    fdl_events *ev = fdl_events_open(run);
    check_some(ev);
    check_ok(fdl_graph_write_events(g, ev)); /* nothing so far */
    for (int epoch = 0; epoch < 3; epoch++) {
        FDL_SCOPE;
        check_some(fdl_forward(g, fdl_vec(1, 2, -4)));
        check_ok(fdl_graph_record(g, "loss", 1.0 / (epoch + 1)));
        check_ok(fdl_graph_collect_at(g, "encoder.hidden"));
        if (epoch == 1)
            check_ok(fdl_graph_collect_histogram(fdl_graph_child(g, "encoder"), "hidden"));
        check_ok(fdl_graph_flush(g));
        check_ok(fdl_graph_write_events(g, ev));
        check_ok(fdl_graph_write_events(g, ev)); /* nothing new */
    }
    check_ok(fdl_events_text(ev, "notes", "done", 3));
    check_ok(fdl_events_close(ev));
    char *text = read_by_tensorboard(run);
    static const char want[] = "scalar encoder.hidden 1 -0.666667\n"
                               "scalar encoder.hidden 2 -0.666667\n"
                               "scalar encoder.hidden 3 -0.666667\n"
                               "scalar loss 1 1\n"
                               "scalar loss 2 0.5\n"
                               "scalar loss 3 0.333333\n";
    static const char histogram[] = "histogram encoder.hidden 2 -8 4 3 -2 3 ";
    if (text) {
        assert_memory_equal(text, want, strlen(want));
        assert_memory_equal(text + strlen(want), histogram, strlen(histogram));
        assert_non_null(strstr(text, "\ntext notes/text_summary 3 done\n"));
    }
    free(text);

    /* all at once: the same points, and again in the place of the first */
    const char *all = fresh("all/of/them");
    for (int i = 0; i < 2; i++)
        check_ok(fdl_graph_export_events(g, all));
    char file[600];
    snprintf(file, sizeof file, "%s/events.out.tfevents.0000000000.flodl", all);
    assert_int_equal(access(file, R_OK), 0);
    char *again = read_by_tensorboard(all);
    if (again) {
        assert_memory_equal(again, want, strlen(want));
        assert_memory_equal(again + strlen(want), histogram, strlen(histogram));
    } else
        print_message("not read back: no tensorboard\n");
    free(again);
    remove_run(path_of("all/of/them"));
    rmdir(path_of("all/of"));
    rmdir(path_of("all"));

    /* some names only */
    const char *some = fresh("some");
    check_ok(fdl_graph_export_events(g, some, "encoder.hidden", "nobody"));
    char *few = read_by_tensorboard(some);
    if (few)
        assert_null(strstr(few, "loss"));
    free(few);
    remove_run(path_of("some"));
    remove_run(path_of("run"));
    fdl_module_free(g);
}

/* ---- what is refused ----------------------------------------------------------------------------------- */

static void what_is_refused(void **state)
{
    (void)state;
    FDL_SCOPE;
    assert_null(fdl_events_open(NULL));
    check_error(FDL_E_NULL, "folder");
    assert_null(fdl_events_open(""));
    check_error(FDL_E_ARG, "empty");
    assert_null(fdl_events_open(fresh("x"), .suffix = "a/b"));
    check_error(FDL_E_ARG, "suffix");
    assert_null(fdl_events_open("/dev/null/run"));
    check_error(FDL_E_IO, "/dev/null");
    fdl_events *ev = fdl_events_open(fresh("refused"));
    check_some(ev);
    assert_int_equal(fdl_events_scalar(ev, "", 1, 0), FDL_E_ARG);
    check_error(FDL_E_ARG, "empty");
    assert_int_equal(fdl_events_scalar(ev, "a\x01", 1, 0), FDL_E_ARG);
    check_error(FDL_E_ARG, "control");
    assert_int_equal(fdl_events_scalar(ev, NULL, 1, 0), FDL_E_NULL);
    check_error(FDL_E_NULL, "tag");
    assert_int_equal(fdl_events_scalar(NULL, "a", 1, 0), FDL_E_NULL);
    check_error(FDL_E_NULL, "ev");
    assert_int_equal(fdl_events_text(ev, "a", "\xff", 0), FDL_E_ARG);
    check_error(FDL_E_ARG, "byte 0", "UTF-8");
    assert_int_equal(fdl_events_text(ev, "a", NULL, 0), FDL_E_NULL);
    check_error(FDL_E_NULL, "text");
    static const double falls[] = {1, 0}, rises[] = {0, 1}, counts[] = {1, -1};
    const fdl_histogram falling = {.n = 2, .limits = falls, .counts = falls},
                        negative = {.n = 2, .limits = rises, .counts = counts}, empty = {.n = 0};
    assert_int_equal(fdl_events_histogram(ev, "a", &falling, 0), FDL_E_ARG);
    check_error(FDL_E_ARG, "bucket 1");
    assert_int_equal(fdl_events_histogram(ev, "a", &negative, 0), FDL_E_ARG);
    check_error(FDL_E_ARG, "bucket 1");
    check_ok(fdl_events_histogram(ev, "a", &empty, 0));
    assert_int_equal(fdl_events_histogram(ev, "a", NULL, 0), FDL_E_NULL);
    check_error(FDL_E_NULL, "h");
    check_ok(fdl_events_flush(ev));
    size_t n;
    unsigned char *bytes = fdl_file_read(fdl_events_path(ev), 0, &n);
    check_some(bytes);
    assert_int_equal(n, first_record(bytes, n)); /* nothing of all that was written */
    free(bytes);
    fdl_module *g = fdl_flow(id());
    assert_int_equal(fdl_graph_write_events(g, NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "ev");
    assert_int_equal(fdl_graph_export_events(g, fresh("never")), FDL_E_STATE);
    check_error(FDL_E_STATE, "flush");
    assert_int_not_equal(access(path_of("never"), F_OK), 0);
    fdl_module_free(g);
    check_ok(fdl_events_close(ev));
    check_ok(fdl_events_close(NULL));
    remove_run(path_of("refused"));
}

/* A file that can't grow: the call says so, later ones too, as what follows half a record can't be read. */
static void a_full_disk(void **state)
{
    (void)state;
    fdl_events *ev = fdl_events_open(fresh("full"));
    check_some(ev);
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){.rlim_cur = 4096, .rlim_max = before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    fdl_status status = FDL_OK;
    int written = 0;
    for (; written < 1000 && status == FDL_OK; written++) {
        status = fdl_events_scalar(ev, "loss", written, written);
        if (status == FDL_OK)
            status = fdl_events_flush(ev);
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(written < 1000);
    check_error(FDL_E_IO, fdl_events_path(ev));
    assert_int_equal(fdl_events_scalar(ev, "loss", 1, 1), FDL_E_IO);
    check_error(FDL_E_IO, "earlier write failed");
    (void)fdl_events_close(ev);
    fdl_clear_error();
    remove_run(path_of("full"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bytes_as_tensorboard_writes_them),
                                       cmocka_unit_test(tensorboard_reads_a_graphs_training),
                                       cmocka_unit_test(what_is_refused), cmocka_unit_test(a_full_disk)};
    return cmocka_run_group_tests_name("graph events", tests, make_folder, remove_folder);
}
