/* fdl build | test | run | demo | bench: the daily verbs. Each makes sure of libtorch, configures a preset when that is
 * needed, and builds what it is about to use. */
#include "fdl.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int need_project(const fdl_ctx *ctx)
{
    char *presets = text_format("%s/CMakePresets.json", ctx->root ? ctx->root : "");
    bool there = ctx->root && file_exists(presets);
    free(presets);
    return there ? FDL_DONE
                 : say_error(FDL_MISSING,
                             "no project here: no CMakePresets.json beside a CMakeLists.txt in this folder "
                             "or above");
}

/* Whether the build folder was configured with this libtorch. */
static bool configured(const char *folder, const torch_found *torch)
{
    char *path = text_format("%s/CMakeCache.txt", folder), *cache = text_of_file(path);
    char *ninja = text_format("%s/build.ninja", folder);
    char *probed = text_format("\nFLODL_PROBED:INTERNAL=%s %s\n", torch->dir, torch->version);
    bool same = cache && file_exists(ninja) && strstr(cache, probed);
    free(path);
    free(cache);
    free(ninja);
    free(probed);
    return same;
}

/* Configures if needed and builds `targets` (none: everything) of a preset. */
static int build(const fdl_ctx *ctx, const char *preset, char *const *targets)
{
    int code = need_project(ctx);
    if (code != 0)
        return code;
    char *folder = text_format("%s/build/%s", ctx->root, preset);
    torch_found torch = {0};
    code = torch_ensure(ctx, &torch);
    if (code != 0)
        goto done;
    say_note(ctx, "fdl: libtorch %s in %s; preset %s in %s%s", torch.version, torch.dir, preset, folder,
             configured(folder, &torch) ? "" : ", first build");
    if (chdir(ctx->root) != 0) {
        code = say_error(FDL_FAILED, "can't enter %s", ctx->root);
        goto done;
    }
    if (!configured(folder, &torch)) {
        char *argv[] = {"cmake", "--preset", (char *)preset, NULL};
        code = proc_run(ctx, argv);
    }
    if (code == 0) {
        words argv = {0};
        const char *first[] = {"cmake", "--build", folder};
        for (int i = 0; i < 3; i++)
            words_add(&argv, first[i]);
        if (targets && *targets)
            words_add(&argv, "--target");
        for (; targets && *targets; targets++)
            words_add(&argv, *targets);
        code = proc_run(ctx, argv.at);
        words_free(&argv);
    }
done:
    torch_found_free(&torch);
    free(folder);
    return code;
}

/* Takes `--preset NAME` out of the arguments up to the first "--". */
static int take_preset(const char *command, int *argc, char **argv, const char **preset)
{
    for (int i = 1; i < *argc && strcmp(argv[i], "--") != 0; i++) {
        int words = strcmp(argv[i], "--preset") == 0 ? 2 : strncmp(argv[i], "--preset=", 9) == 0 ? 1 : 0;
        if (words == 0)
            continue;
        const char *name = words == 1 ? argv[i] + 9 : argv[i + 1];
        if (!name || !*name || *name == '-')
            return say_usage(command, "--preset needs a value");
        *preset = name;
        memmove(argv + i, argv + i + words, (size_t)(*argc - i - words + 1) * sizeof *argv);
        *argc -= words;
        i--;
    }
    return FDL_DONE;
}

int cmd_build(const fdl_ctx *ctx, int argc, char **argv)
{
    const char *preset = "default";
    int code = take_preset("build", &argc, argv, &preset);
    if (code != 0)
        return code;
    if (argc > 1 && argv[1][0] == '-')
        return say_usage("build", "unknown option \"%s\"", argv[1]);
    return build(ctx, preset, argv + 1);
}

/* The target of the test that is named exactly ("tensor.scope"), or NULL: then only that one is built. */
static char *test_target(const fdl_ctx *ctx, const char *name)
{
    const char *dot = strchr(name, '.');
    if (!dot || strcspn(name, "*[]()^$|\\+?/") != strlen(name))
        return NULL;
    char *source =
        text_format("%s/tests/%.*s/test_%s.c", ctx->root ? ctx->root : "", (int)(dot - name), name, dot + 1);
    char *target = file_exists(source) ? text_format("test_%.*s_%s", (int)(dot - name), name, dot + 1) : NULL;
    free(source);
    return target;
}

int cmd_test(const fdl_ctx *ctx, int argc, char **argv)
{
    const char *preset = "default";
    int code = take_preset("test", &argc, argv, &preset);
    if (code != 0)
        return code;
    const char *filter = NULL;
    int i = 1;
    for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (argv[i][0] == '-')
            return say_usage("test", "unknown option \"%s\"; ctest's own come after --", argv[i]);
        if (filter)
            return say_usage("test", "unexpected argument \"%s\"", argv[i]);
        filter = argv[i];
    }
    char *target = filter ? test_target(ctx, filter) : NULL;
    code = build(ctx, preset, target ? (char *[]){target, NULL} : NULL);
    if (code != 0) {
        free(target);
        return code;
    }
    char *folder = text_format("%s/build/%s", ctx->root, preset);
    char *jobs = text_format("%ld", sysconf(_SC_NPROCESSORS_ONLN));
    words line = {0};
    const char *first[] = {"ctest", "--test-dir", folder, "--output-on-failure", "--no-tests=error",
                           "-j",    jobs};
    for (size_t k = 0; k < sizeof first / sizeof *first; k++)
        words_add(&line, first[k]);
    if (filter) {
        char *exact = target ? text_format("^%s$", filter) : text_copy(filter);
        words_add(&line, "-R");
        words_add(&line, exact);
        free(exact);
    }
    for (i++; i < argc; i++)
        words_add(&line, argv[i]);
    code = proc_run(ctx, line.at);
    words_free(&line);
    free(target);
    free(jobs);
    free(folder);
    return code;
}

/* The names in `folder` that match a pattern, without folder and ending, on stdout. */
static void list_names(const fdl_ctx *ctx, const char *title, const char *pattern)
{
    char *path = text_format("%s/%s", ctx->root, pattern);
    glob_t found = {0};
    bool any = glob(path, 0, NULL, &found) == 0;
    printf("%s:\n", title);
    for (size_t i = 0; any && i < found.gl_pathc; i++) {
        const char *name = strrchr(found.gl_pathv[i], '/') + 1;
        printf("    %.*s\n", (int)strcspn(name, "."), name);
    }
    if (!any)
        puts("    (none yet)");
    globfree(&found);
    free(path);
}

/* Builds and runs build/PRESET/FOLDER/NAME, made by `target`, if `source` exists. */
static int build_and_run(const fdl_ctx *ctx, const char *preset, const char *folder, const char *name,
                         const char *source, const char *target, char **arguments)
{
    char *file = text_format("%s/%s", ctx->root, source);
    bool there = file_exists(file);
    free(file);
    if (!there)
        return say_error(FDL_USAGE, "no %s here: %s isn't there", name, source);
    char *targets[] = {(char *)target, NULL}, before[4096];
    if (!getcwd(before, sizeof before))
        return say_error(FDL_FAILED, "the working folder is gone");
    int code = build(ctx, preset, targets);
    if (code != 0)
        return code;
    if (chdir(before) != 0)
        return say_error(FDL_FAILED, "can't go back to %s", before);
    char *program = text_format("%s/build/%s/%s/%s", ctx->root, preset, folder, name);
    words line = {0};
    words_add(&line, program);
    if (*arguments && strcmp(*arguments, "--") == 0)
        arguments++;
    for (; *arguments; arguments++)
        words_add(&line, *arguments);
    code = proc_run(ctx, line.at);
    words_free(&line);
    free(program);
    return code;
}

static int run_example(const fdl_ctx *ctx, const char *preset, const char *name, char **arguments)
{
    char *source = text_format("examples/%s/%s.c", name, name);
    int code = build_and_run(ctx, preset, "examples", name, source, name, arguments);
    free(source);
    return code;
}

int cmd_run(const fdl_ctx *ctx, int argc, char **argv)
{
    const char *preset = "release";
    /* Only what stands before the example's name is ours. */
    while (argc > 1 && strncmp(argv[1], "--preset", 8) == 0) {
        int before = argc, code = take_preset("run", &argc, argv, &preset);
        if (code != 0)
            return code;
        if (argc == before)
            break;
    }
    int code = need_project(ctx);
    if (code != 0)
        return code;
    if (argc < 2) {
        list_names(ctx, "Examples, for `fdl run NAME`", "examples/*/*.c");
        return FDL_DONE;
    }
    if (argv[1][0] == '-' || strchr(argv[1], '/'))
        return say_usage("run", "\"%s\" is no example's name", argv[1]);
    return run_example(ctx, preset, argv[1], argv + 2);
}

int cmd_demo(const fdl_ctx *ctx, int argc, char **argv)
{
    (void)argc;
    int code = need_project(ctx);
    return code != 0 ? code : run_example(ctx, "release", "digits", argv + 1);
}

static bool is_there(const fdl_ctx *ctx, const char *format, const char *name)
{
    char *file = text_format(format, name), *path = text_format("%s/%s", ctx->root, file);
    const bool there = !strchr(name, '/') && file_exists(path);
    free(file);
    free(path);
    return there;
}

/* The page docs/benchmark.md from the raw figures. */
static int publish(const fdl_ctx *ctx, char **arguments)
{
    const char *python = getenv("FLODL_PYTHON");
    char *script = text_format("%s/benchmarks/publish.py", ctx->root);
    words line = {0};
    words_add(&line, python && *python ? python : "python3");
    words_add(&line, script);
    for (; *arguments; arguments++)
        words_add(&line, *arguments);
    const int code = proc_run(ctx, line.at);
    words_free(&line);
    free(script);
    return code;
}

int cmd_bench(const fdl_ctx *ctx, int argc, char **argv)
{
    int code = need_project(ctx);
    if (code != 0)
        return code;
    const bool is_named = argc > 1 && argv[1][0] != '-';
    if (is_named && strcmp(argv[1], "publish") == 0)
        return publish(ctx, argv + 2);
    const bool is_benchmark = is_named && is_there(ctx, "benchmarks/%s.c", argv[1]);
    if (is_named && !is_benchmark && !is_there(ctx, "benchmarks/models/%s.c", argv[1])) {
        list_names(ctx, "Models, for `fdl bench [MODEL...]`", "benchmarks/models/*.c");
        list_names(ctx, "Benchmarks, for `fdl bench NAME`", "benchmarks/*.c");
        return say_usage("bench", "\"%s\" is the name neither of a model nor of a benchmark", argv[1]);
    }
    /* The one that is meant when none is named. */
    const char *name = is_benchmark ? argv[1] : "step";
    char *source = text_format("benchmarks/%s.c", name), *target = text_format("bench_%s", name);
    code = build_and_run(ctx, "release", "benchmarks", name, source, target, argv + (is_benchmark ? 2 : 1));
    free(source);
    free(target);
    return code;
}
