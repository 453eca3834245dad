/* fdl, the command line: global options, the table of commands, help. */
#include "fdl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef FDL_VERSION
#define FDL_VERSION "0.1.0"
#endif

/* Drives dispatch, help and suggestions. */
static const fdl_command commands[] = {
    {"demo", "[ARGS...]", "train on the embedded digits: everything needed, then the example",
     "  ARGS go to the example: `fdl demo -- --help` shows them.\n", cmd_demo},
    {"test", "[--preset NAME] [FILTER] [-- CTEST-ARGS...]", "everything needed, then the tests",
     "  FILTER         only tests whose name matches this regular expression; a full name, as tensor.scope, "
     "builds only it\n"
     "  --preset NAME  default, release, asan or tsan\n",
     cmd_test},
    {"build", "[--preset NAME] [TARGET...]", "everything needed, then the library, tests and examples",
     "  --preset NAME  default, release, asan or tsan\n", cmd_build},
    {"run", "[--preset NAME] [EXAMPLE [ARGS...]]", "build and run an example; without a name: list them",
     "  --preset NAME  release unless told\n", cmd_run},
    {"bench", "[MODEL... | NAME] [ARGS...]", "build and run a benchmark: ours and PyTorch's side by turns",
     "  MODEL...   a training step of these models, or of all ten\n"
     "  cpu        of small models on the CPU, at batches of 1, 8 and 64\n"
     "  start      from the start of a process to its first finished step, and its memory\n"
     "  ops        an operation above the same call in C++\n"
     "  graph      a graph above the same calls by hand\n"
     "  trainer    the trainer above the same loop by hand\n"
     "  publish    docs/benchmark.md from the raw figures in benchmarks/results/\n"
     "  --json FILE      the raw figures\n"
     "  --python PROGRAM a Python that has torch and safetensors; FLODL_PYTHON, or python3\n"
     "  --device, --rounds, --ms, --threads, --batch, --sides: of `fdl bench` and `fdl bench cpu`\n",
     cmd_bench},
    {"libtorch list", "[--json]", "the libtorch variants that are here", "", cmd_libtorch_list},
    {"libtorch info", "[--why] [--json]", "which libtorch a build uses",
     "  --why   each place that was looked at, and what was found there\n", cmd_libtorch_info},
    {"libtorch download", "[OPTIONS]", "fetch, verify and activate a libtorch",
     "  --cpu          without CUDA libraries (about 550 MB); the default where there is no NVIDIA GPU\n"
     "  --cuda         with them (about 2.5 GB); the default where there is one\n"
     "  --version V    other than " FDL_TORCH_VERSION "\n"
     "  --from S       auto, wheel (the package index even if it is installed), or a wheel's file\n"
     "  --sha256 HEX   what a wheel's file must have\n"
     "  --force        fetch even if it is installed\n"
     "  --no-activate  leave the active one as it is\n"
     "  --no-wait      fail (exit 6) when another fdl is at it\n"
     "  --dry-run      say what would be fetched, and stop\n",
     cmd_libtorch_download},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void usage(FILE *to, const char *group)
{
    if (!group)
        fputs("fdl " FDL_VERSION ", the command line of flodl\n\n", to);
    fprintf(to, "Usage: fdl [OPTIONS] %s%sCOMMAND [ARGS...]\n\nCommands:\n", group ? group : "",
            group ? " " : "");
    for (int i = 0; i < COMMANDS; i++)
        if (!group || strncmp(commands[i].path, group, strlen(group)) == 0)
            fprintf(to, "    %-20s %s\n", commands[i].path, commands[i].about);
    if (group)
        return;
    fputs("\nOptions:\n"
          "    -h, --help           help for the command named\n"
          "    -V, --version        the version\n"
          "    -v, -vv, -vvv; -q    more to read; errors only\n"
          "    --ansi, --no-ansi    force or forbid colour\n"
          "    -C DIR               as if started in DIR\n"
          "\nEnvironment: FLODL_HOME (~/.flodl: downloads), LIBTORCH (a libtorch to use), FLODL_PYTHON.\n",
          to);
}

static const fdl_command *find(const char *path)
{
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].path, path) == 0)
            return &commands[i];
    return NULL;
}

int say_usage(const char *path, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char text[1024];
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    say_error(FDL_USAGE, "%s", text);
    const fdl_command *command = find(path);
    fprintf(stderr, "usage: fdl %s %s\n", path, command ? command->arguments : "");
    return FDL_USAGE;
}

static int unknown(const char *group, const char *word)
{
    const char *best = NULL;
    int least = 3;
    for (int i = 0; i < COMMANDS; i++) {
        const char *name = commands[i].path, *space = strchr(name, ' ');
        char *part = text_format("%s", name);
        if (group && (!space || strncmp(name, group, strlen(group)) != 0)) {
            free(part);
            continue;
        }
        if (group)
            memmove(part, part + strlen(group) + 1, strlen(part) - strlen(group));
        else if (space)
            part[space - name] = '\0';
        int distance = text_distance(word, part);
        if (distance < least) {
            least = distance;
            best = group ? name + strlen(group) + 1 : name;
        }
        free(part);
    }
    say_error(FDL_USAGE, "unknown command \"%s%s%s\"", group ? group : "", group ? " " : "", word);
    if (best)
        fprintf(stderr, "did you mean \"%.*s\"?\n", (int)(group ? strlen(best) : strcspn(best, " ")), best);
    fputc('\n', stderr);
    usage(stderr, group);
    return FDL_USAGE;
}

static void help(const fdl_command *command)
{
    printf("fdl %s: %s\n\nUsage: fdl %s %s\n%s%s", command->path, command->about, command->path,
           command->arguments, *command->help ? "\n" : "", command->help);
}

/* The project: the first folder, from the working one up, with a libtorch/.active or a CMakeLists.txt that speaks of
 * flodl; else flodl's own checkout, which this program was started from. */
static char *find_root(const char *checkout)
{
    char *at = getcwd(NULL, 0);
    while (at && *at) {
        char *active = text_format("%s/libtorch/.active", at), *lists = text_format("%s/CMakeLists.txt", at);
        char *text = text_of_file(lists);
        bool here = file_exists(active) || (text && strstr(text, "flodl"));
        free(active);
        free(lists);
        free(text);
        if (here)
            return at;
        *strrchr(at, '/') = '\0';
    }
    free(at);
    return text_copy(checkout);
}

/* One of the options that may stand anywhere before "--". 1: taken; 0: not one; -1: a mistake, told. */
static int global_option(fdl_ctx *ctx, const char *word, bool *wants_help, int *colours)
{
    if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0)
        *wants_help = true;
    else if (strcmp(word, "-v") == 0 || strcmp(word, "-vv") == 0 || strcmp(word, "-vvv") == 0)
        ctx->verbosity = (int)strlen(word);
    else if (strcmp(word, "-q") == 0 || strcmp(word, "--quiet") == 0)
        ctx->verbosity = 0;
    else if (strcmp(word, "--ansi") == 0 || strcmp(word, "--no-ansi") == 0) {
        int which = word[2] == 'a' ? 1 : 2;
        if ((*colours |= which) == 3) {
            say_error(FDL_USAGE, "--ansi and --no-ansi exclude each other");
            return -1;
        }
        setenv("FLODL_COLOR", which == 1 ? "always" : "never", 1);
    } else
        return 0;
    if (word[1] == 'v' || strcmp(word, "-q") == 0 || strcmp(word, "--quiet") == 0) {
        if (word[1] == 'v')
            ctx->verbosity++; /* -v is level 2 */
        char level[] = {(char)('0' + ctx->verbosity), '\0'};
        setenv("FLODL_VERBOSITY", level, 1);
    }
    return 1;
}

static int verbosity_from(const char *text)
{
    static const char *const names[] = {"quiet", "normal", "verbose", "debug", "trace"};
    for (int i = 0; text && i < 5; i++)
        if (strcmp(text, names[i]) == 0 || (text[0] == '0' + i && !text[1]))
            return i;
    return 1;
}

int main(int argc, char **argv)
{
    fdl_ctx ctx = {.verbosity = verbosity_from(getenv("FLODL_VERBOSITY"))};
    bool wants_help = false;
    int colours = 0, at = 1;
    for (; at < argc && argv[at][0] == '-'; at++) {
        int taken = global_option(&ctx, argv[at], &wants_help, &colours);
        if (taken < 0)
            return FDL_USAGE;
        if (taken)
            continue;
        if (strcmp(argv[at], "-V") == 0 || strcmp(argv[at], "--version") == 0) {
            puts("fdl " FDL_VERSION);
            return FDL_DONE;
        }
        if (strcmp(argv[at], "-C") == 0) {
            if (!argv[at + 1])
                return say_error(FDL_USAGE, "-C needs a value");
            if (chdir(argv[++at]) != 0)
                return say_error(FDL_FAILED, "can't enter %s", argv[at]);
            continue;
        }
        say_error(FDL_USAGE, "unknown option \"%s\"", argv[at]);
        usage(stderr, NULL);
        return FDL_USAGE;
    }
    if (at < argc && strcmp(argv[at], "version") == 0) {
        puts("fdl " FDL_VERSION);
        return FDL_DONE;
    }
    if (at == argc) {
        usage(stdout, NULL);
        return FDL_DONE;
    }

    char *path = text_copy(argv[at]);
    const fdl_command *command = find(path);
    if (!command && strcmp(path, "libtorch") == 0) {
        const char *word = argv[at + 1];
        if (!word || strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0 || wants_help) {
            usage(word || wants_help ? stdout : stderr, "libtorch");
            return word || wants_help ? FDL_DONE : FDL_USAGE;
        }
        free(path);
        path = text_format("libtorch %s", word);
        if (!(command = find(path)))
            return unknown("libtorch", word);
        at++;
    }
    if (!command)
        return unknown(NULL, argv[at]);

    /* Global options among the command's own, up to "--"; what follows the name of a program is that program's. */
    char **rest = argv + at;
    int count = argc - at, kept = 1;
    bool programs = command->run == cmd_run || command->run == cmd_bench || command->run == cmd_demo;
    bool ours = true;
    for (int i = 1; i < count; i++) {
        if (strcmp(rest[i], "--") == 0 || (programs && (rest[i][0] != '-' || command->run == cmd_demo) &&
                                           strcmp(rest[i], "-h") != 0 && strcmp(rest[i], "--help") != 0))
            ours = false;
        int taken = ours ? global_option(&ctx, rest[i], &wants_help, &colours) : 0;
        if (taken < 0)
            return FDL_USAGE;
        if (!taken)
            rest[kept++] = rest[i];
    }
    rest[kept] = NULL;
    if (wants_help) {
        help(command);
        return FDL_DONE;
    }

    const char *checkout = getenv("FDL_CHECKOUT"), *home = getenv("FLODL_HOME"), *user = getenv("HOME");
    if (!checkout || !*checkout)
        return say_error(FDL_MISSING,
                         "FDL_CHECKOUT isn't set: start this program by the script fdl in flodl's checkout");
    ctx.checkout = text_copy(checkout);
    if ((!home || !*home) && (!user || !*user))
        return say_error(FDL_MISSING, "neither FLODL_HOME nor HOME is set");
    ctx.home = home && *home ? text_copy(home) : text_format("%s/.flodl", user);
    ctx.root = find_root(checkout);
    setenv("FDL_PROJECT_ROOT", ctx.root, 1);
    int code = command->run(&ctx, kept, rest);
    free(ctx.root);
    free(ctx.home);
    free(ctx.checkout);
    free(path);
    return code;
}
