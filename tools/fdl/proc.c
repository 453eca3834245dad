/* Child processes. While one runs, an interrupt from the keyboard is the child's to handle. */
#include "fdl.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int wait_for(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return FDL_FAILED;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

_Noreturn static void become(char *const argv[])
{
    execvp(argv[0], argv);
    int code = errno == ENOENT ? 127 : 126;
    fprintf(stderr, "error: can't run %s: %s\n", argv[0], strerror(errno));
    _exit(code);
}

int proc_run(const fdl_ctx *ctx, char *const argv[])
{
    if (ctx->verbosity > 1) {
        fputs("+", stderr);
        for (int i = 0; argv[i]; i++)
            fprintf(stderr, " %s", argv[i]);
        fputc('\n', stderr);
    }
    fflush(NULL);
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    sigaction(SIGINT, &ignore, &before);
    pid_t child = fork();
    if (child == 0) {
        sigaction(SIGINT, &before, NULL);
        become(argv);
    }
    int code =
        child < 0 ? say_error(FDL_FAILED, "can't start %s: %s", argv[0], strerror(errno)) : wait_for(child);
    sigaction(SIGINT, &before, NULL);
    return code;
}

int proc_capture(char *const argv[], char **out)
{
    int ends[2];
    *out = NULL;
    fflush(NULL);
    if (pipe(ends) != 0)
        return say_error(FDL_FAILED, "can't make a pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0) {
        close(ends[0]);
        close(ends[1]);
        return say_error(FDL_FAILED, "can't start %s: %s", argv[0], strerror(errno));
    }
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        become(argv);
    }
    close(ends[1]);
    char *text = text_copy(""), chunk[4096];
    ssize_t got;
    while ((got = read(ends[0], chunk, sizeof chunk)) > 0 || (got < 0 && errno == EINTR)) {
        if (got < 0)
            continue;
        char *longer = text_format("%s%.*s", text, (int)got, chunk);
        free(text);
        text = longer;
    }
    close(ends[0]);
    *out = text;
    return wait_for(child);
}

bool proc_exists(const char *name)
{
    const char *path = getenv("PATH");
    while (path && *path) {
        size_t length = strcspn(path, ":");
        char *file = text_format("%.*s/%s", (int)length, path, name);
        bool there = access(file, X_OK) == 0;
        free(file);
        if (there)
            return true;
        path += length + (path[length] == ':');
    }
    return false;
}
