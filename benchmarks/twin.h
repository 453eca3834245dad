/* Two sides measured in one run: this program and its PyTorch twin, a child process that times one round whenever it reads
 * a line. The sides take turns, so that a machine whose speed drifts slows both.
 *
 * The twin prints the loss of the first step first; it must equal ours. Then, for each line that it reads, the median
 * seconds a step of one round. */
#ifndef BENCHMARKS_TWIN_H
#define BENCHMARKS_TWIN_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "median.h"

typedef struct twin {
    FILE *in, *out; /* its standard output, its standard input */
    pid_t pid;
} twin;

/* Starts the program argv[0] with these arguments, NULL at the end. 0, or -1 with a message on stderr. */
static inline int twin_start_of(twin *t, char *const *argv)
{
    int down[2], up[2];
    if (pipe(down) || pipe(up)) {
        perror("pipe");
        return -1;
    }
    /* Our ends are ours alone: a twin that is started later would keep this one's input open. */
    if (fcntl(down[1], F_SETFD, FD_CLOEXEC) || fcntl(up[0], F_SETFD, FD_CLOEXEC)) {
        perror("fcntl");
        return -1;
    }
    t->pid = fork();
    if (t->pid < 0) {
        perror("fork");
        return -1;
    }
    if (t->pid == 0) {
        dup2(down[0], 0);
        dup2(up[1], 1);
        close(down[0]);
        close(up[1]);
        execvp(argv[0], argv);
        fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    close(down[0]);
    close(up[1]);
    t->in = fdopen(up[0], "r");
    t->out = fdopen(down[1], "w");
    return t->in && t->out ? 0 : -1;
}

/* `python script argument`. */
static inline int twin_start(twin *t, const char *python, const char *script, const char *argument)
{
    return twin_start_of(t, (char *[]){(char *)python, (char *)script, (char *)argument, NULL});
}

/* The next number that it prints. 0, or -1 when it ended. */
static inline int twin_number(twin *t, double *value)
{
    char line[128];
    if (!fgets(line, sizeof line, t->in))
        return -1;
    *value = strtod(line, NULL);
    return 0;
}

static inline int twin_round(twin *t, double *seconds)
{
    return fputs("go\n", t->out) >= 0 && fflush(t->out) == 0 ? twin_number(t, seconds) : -1;
}

static inline void twin_end(twin *t)
{
    fclose(t->out);
    fclose(t->in);
    waitpid(t->pid, NULL, 0);
}

#endif
