#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "side.h"

#define STEP_PY FLODL_SOURCE_DIR "/benchmarks/step.py"

/* ---- the process --------------------------------------------------------------------------------------- */

bool side_spawn(side *s, char *const *argv)
{
    int down[2], up[2];
    /* Closed in the children: one that is started later would keep this one's input open. */
    if (pipe2(down, O_CLOEXEC) || pipe2(up, O_CLOEXEC)) {
        perror("pipe");
        return false;
    }
    s->pid = fork();
    if (s->pid == 0) {
        dup2(down[0], 0);
        dup2(up[1], 1);
        execvp(argv[0], argv);
        fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    close(down[0]);
    close(up[1]);
    s->in = fdopen(up[0], "r");
    s->out = fdopen(down[1], "w");
    if (s->pid < 0)
        perror("fork");
    s->started = s->pid > 0 && s->in && s->out;
    return s->started;
}

bool side_python_works(const char *python)
{
    const pid_t pid = fork();
    if (pid == 0) {
        const int nowhere = open("/dev/null", O_WRONLY);
        dup2(nowhere, 1);
        dup2(nowhere, 2);
        execlp(python, python, "-c", "import torch, safetensors.torch", (char *)NULL);
        _exit(127);
    }
    int status = 1;
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* The path of a program in this one's folder. */
static char *beside(const char *name, char *path, size_t size)
{
    const ssize_t n = readlink("/proc/self/exe", path, size - 1);
    path[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(path, '/');
    const size_t folder = slash ? (size_t)(slash + 1 - path) : 0;
    snprintf(path + folder, size - folder, "%s", name);
    return path;
}

bool side_start(side *s, const side_kind *kind, const side_task *t)
{
    char by[16], threads[16], samples[24], path[4096], *argv[12];
    int n = 0;
    *s = (side){
        .kind = kind, .memory = NAN, .reserved = NAN, .busy = {NAN, NAN, NAN, NAN, NAN, 0, {{"", 0, 0}}}};
    snprintf(by, sizeof by, "%d", t->by);
    snprintf(threads, sizeof threads, "%d", t->threads);
    if (kind->beside) {
        argv[n++] = beside(kind->beside, path, sizeof path);
    } else {
        argv[n++] = (char *)(kind->serve ? "/proc/self/exe" : t->python);
        argv[n++] = (char *)(kind->serve ? kind->serve : STEP_PY);
    }
    argv[n++] = (char *)t->model;
    argv[n++] = (char *)kind->mode;
    argv[n++] = (char *)t->device;
    argv[n++] = by;
    argv[n++] = threads;
    argv[n++] = (char *)t->weights;
    argv[n++] = (char *)t->batches;
    if (t->samples) {
        snprintf(samples, sizeof samples, "%lld", (long long)t->samples);
        argv[n++] = samples;
    }
    argv[n] = NULL;
    if (!side_spawn(s, argv))
        snprintf(s->refusal, sizeof s->refusal, "could not be started");
    return s->started;
}

void side_end(side *s)
{
    if (!s->started)
        return;
    s->started = false;
    fclose(s->out);
    fclose(s->in);
    waitpid(s->pid, NULL, 0);
}

/* ---- lines --------------------------------------------------------------------------------------------- */

/* The next answer, without its "= ", in the line that is read. NULL: the side is refused. */
static char *answer(side *s, char *line, int size)
{
    while (!*s->refusal && fgets(line, size, s->in))
        if (strncmp(line, "= ", 2) == 0) {
            line[strcspn(line, "\n")] = '\0';
            return line + 2;
        }
    if (!*s->refusal)
        snprintf(s->refusal, sizeof s->refusal, "ended; what it said stands above");
    return NULL;
}

/* What follows the word that the next answer begins with. */
static bool expected(side *s, const char *word, char *rest, int size)
{
    char line[512];
    const size_t length = strlen(word);
    const char *said = answer(s, line, sizeof line);
    if (!said)
        return false;
    if (strncmp(said, word, length) != 0 || (said[length] && said[length] != ' ')) {
        snprintf(s->refusal, sizeof s->refusal, "answered \"%.80s\" where \"%s\" was expected", said, word);
        return false;
    }
    snprintf(rest, (size_t)size, "%s", said + length + (said[length] == ' '));
    return true;
}

void side_begin(side *s)
{
    side_send(s, "begin");
}

bool side_loaded(side *s)
{
    return expected(s, "loaded", s->version, sizeof s->version);
}

bool side_losses(side *s)
{
    char text[512], *at = text;
    if (!expected(s, "loss", text, sizeof text))
        return false;
    for (char *end; s->n_losses < BATCHES; at = end, s->n_losses++) {
        s->losses[s->n_losses] = strtod(at, &end);
        if (end == at)
            break;
    }
    if (s->n_losses == 0)
        snprintf(s->refusal, sizeof s->refusal, "told no loss: \"%.80s\"", text);
    return s->n_losses > 0;
}

bool side_ready(side *s)
{
    char text[512];
    return expected(s, "ready", text, sizeof text);
}

void side_send(side *s, const char *question)
{
    if (!*s->refusal && (fprintf(s->out, "%s\n", question) < 0 || fflush(s->out) != 0))
        snprintf(s->refusal, sizeof s->refusal, "ended; what it said stands above");
}

double side_answer(side *s)
{
    char line[512];
    const char *said = answer(s, line, sizeof line);
    return said ? strtod(said, NULL) : (double)NAN;
}

double side_ask(side *s, const char *question)
{
    side_send(s, question);
    return side_answer(s);
}

/* "CLASS SECONDS COUNT": the name may have spaces. */
static void add_class(side_busy *b, char *text)
{
    text += strspn(text, " ");
    char *count = strrchr(text, ' ');
    if (!count || b->classes == KERNEL_CLASSES_MAX)
        return;
    *count = '\0';
    char *seconds = strrchr(text, ' ');
    if (!seconds)
        return;
    *seconds = '\0';
    snprintf(b->of[b->classes].name, sizeof b->of->name, "%s", text);
    b->of[b->classes].seconds = strtod(seconds + 1, NULL);
    b->of[b->classes++].n = strtod(count + 1, NULL);
}

void side_ask_busy(side *s, int steps)
{
    char question[32], line[4096];
    snprintf(question, sizeof question, "busy %d", steps);
    side_send(s, question);
    char *said = answer(s, line, sizeof line);
    if (!said)
        return;
    side_busy *b = &s->busy;
    char *more = NULL, *first = strtok_r(said, ";", &more), *totals = strtok_r(NULL, ";", &more);
    b->busy = first ? strtod(first, NULL) : (double)NAN;
    if (totals)
        sscanf(totals, "%lf %lf %lf %lf", &b->sum, &b->kernels, &b->copies, &b->fills);
    for (char *text = strtok_r(NULL, ";", &more); text; text = strtok_r(NULL, ";", &more))
        add_class(b, text);
}
