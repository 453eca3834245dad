/* What the command line's files share. The program keeps no libtorch, no threads and no state but its context. */
#ifndef FDL_FDL_H
#define FDL_FDL_H

#include <stdbool.h>
#include <stddef.h>

/* Exit codes: a promise to scripts. */
enum {
    FDL_DONE = 0,
    FDL_FAILED = 1,  /* the operation failed */
    FDL_USAGE = 2,   /* unknown command or flag, missing value */
    FDL_MISSING = 3, /* something the operation needs isn't there */
    FDL_DIFFERS = 4, /* verification failed */
    FDL_NETWORK = 5, /* nothing reachable, or the server said no */
    FDL_LOCKED = 6,  /* locked by another fdl */
    FDL_INTERRUPTED = 130
};

typedef struct fdl_ctx {
    char *root;     /* the project: its folder, or NULL outside of any */
    char *checkout; /* flodl's own tree: cmake/ and tools/ lie there */
    char *home;     /* $FLODL_HOME, or ~/.flodl */
    int verbosity;  /* 0 (errors only) to 4 */
} fdl_ctx;

typedef int fdl_handler(const fdl_ctx *ctx, int argc, char **argv);

/* One command. `path` is its words, "libtorch list"; argv[0] of the handler is the last of them. */
typedef struct fdl_command {
    const char *path, *arguments, *about;
    const char *help; /* options and notes, each line indented by two */
    fdl_handler *run;
} fdl_command;

/* ---- text.c: strings that end the program when memory runs out ---- */
char *text_format(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));
char *text_copy(const char *text);
/* Whole content of a file, or NULL. */
char *text_of_file(const char *path);
/* Words of an argument list; ends in NULL. */
typedef struct words {
    char **at;
    size_t count;
} words;
void words_add(words *list, const char *word);
void words_free(words *list);
/* Number of single-letter edits between two words, for suggestions. */
int text_distance(const char *a, const char *b);

/* ---- say.c: messages ---- */
/* Prints `error: ...` to stderr and returns `code`. */
int say_error(int code, const char *format, ...) __attribute__((__format__(__printf__, 2, 3)));
/* A note on stderr, unless quiet. */
void say_note(const fdl_ctx *ctx, const char *format, ...) __attribute__((__format__(__printf__, 2, 3)));

/* ---- proc.c: child processes ---- */
/* Runs argv[0] with this program's streams and waits. Its status; 126, 127; 128 + signal. */
int proc_run(const fdl_ctx *ctx, char *const argv[]);
/* The same, with its stdout in *out (free it). */
int proc_capture(char *const argv[], char **out);
/* Whether `name` is a program on PATH. */
bool proc_exists(const char *name);

/* ---- files.c ---- */
bool file_exists(const char *path);
int file_make_dirs(const char *path); /* 0, or -1 with errno */
int file_remove_tree(const char *path);
/* Replaces the file in one step; 0, or -1 with errno. */
int file_replace(const char *path, const char *text);

/* ---- find.c: which libtorch ---- */
typedef struct torch_found {
    char *dir, *version, *cuda, *source; /* dir NULL: none; cuda "none" for CPU */
    char *error;                         /* why there is none */
    char *tried;                         /* lines of source, path, state, reason, tabs between */
} torch_found;
/* The search; with `check` only that folder. 0, or an exit code after a message (no CMake). */
int torch_find(const fdl_ctx *ctx, const char *check, torch_found *out);
void torch_found_free(torch_found *found);

/* ---- get.c: the download ---- */
typedef struct torch_request {
    const char *version, *from, *sha256;
    int cuda; /* -1: as the machine has a GPU or not; 0 CPU; 1 with CUDA */
    bool force, no_wait, dry_run, no_activate;
} torch_request;
int torch_get(const fdl_ctx *ctx, const torch_request *request);
/* A usable libtorch, downloaded when there is none. */
int torch_ensure(const fdl_ctx *ctx, torch_found *out);
bool torch_gpu_present(void);
#define FDL_TORCH_VERSION "2.11.0"

/* ---- libtorch.c, build.c: the commands ---- */
fdl_handler cmd_libtorch_list, cmd_libtorch_info, cmd_libtorch_download;
fdl_handler cmd_build, cmd_test, cmd_run, cmd_demo, cmd_bench;
/* A mistake in a command's arguments: the error, then the command's usage line, on stderr. Returns FDL_USAGE. */
int say_usage(const char *path, const char *format, ...) __attribute__((__format__(__printf__, 2, 3)));

#endif
