/* Downloading libtorch: lock, fetch and verify and unpack beside (tools/fdl/wheel.py), check, move into place. A reader
 * sees the old tree or the new one, never a mixture, and one that failed a check never becomes the active one. */
#include "fdl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { LOCK_WAIT = 3600 }; /* seconds; a download over a slow line takes its time */

bool torch_gpu_present(void)
{
    glob_t found;
    bool any = glob("/dev/nvidia[0-9]*", 0, NULL, &found) == 0;
    if (any)
        globfree(&found);
    return any || file_exists("/dev/dxg");
}

/* The interpreter that has pip, or NULL. */
static const char *python_with_pip(void)
{
    const char *named = getenv("FLODL_PYTHON"),
               *choices[] = {named && *named ? named : "python3", "/usr/bin/python3"};
    for (int i = 0; i < 2; i++) {
        char *out;
        char *argv[] = {"sh", "-c", "exec \"$0\" -m pip --version 2>/dev/null", (char *)choices[i], NULL};
        int code = proc_capture(argv, &out);
        free(out);
        if (code == 0)
            return choices[i];
    }
    return NULL;
}

static const char *need_python(const fdl_ctx *ctx, int *code)
{
    const char *python = python_with_pip();
    if (!python) {
        char *script = text_format("%s/tools/fdl/packages.sh", ctx->checkout);
        char *argv[] = {"sh", script, "fetch", NULL};
        *code = proc_run(ctx, argv);
        free(script);
        if (*code == 0 && !(python = python_with_pip()))
            *code = say_error(FDL_MISSING, "no Python with pip, which resolves the download");
    }
    return python;
}

/* Takes the lock of $FLODL_HOME/libtorch; a descriptor, or -1 with *code set. */
static int lock(const fdl_ctx *ctx, const char *folder, bool wait, int *code)
{
    char *path = text_format("%s/.lock", folder), *owner = NULL;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        *code = say_error(FDL_FAILED, "can't write to %s: %s; set FLODL_HOME to a folder of yours", folder,
                          strerror(errno));
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        owner = text_of_file(path);
        long pid = owner ? strtol(owner, NULL, 10) : 0;
        if (wait)
            say_note(ctx, "another fdl (pid %ld) is changing %s; waiting for it", pid, folder);
        for (int second = 0; wait && second < LOCK_WAIT; second++) {
            sleep(1);
            if (flock(fd, LOCK_EX | LOCK_NB) == 0)
                goto locked;
        }
        *code = say_error(FDL_LOCKED, "another fdl (pid %ld) is changing %s", pid, folder);
        close(fd);
        fd = -1;
    }
locked:
    if (fd >= 0 && (ftruncate(fd, 0) != 0 || dprintf(fd, "%ld\n", (long)getpid()) < 0)) {
        *code = say_error(FDL_FAILED, "can't write %s: %s", path, strerror(errno));
        close(fd);
        fd = -1;
    }
    free(owner);
    free(path);
    return fd;
}

/* After an earlier crash: a variant that was moved away and not replaced goes back, half-made ones go. We hold the lock,
 * so nobody else is at work in the folder. */
static void clean_up(const char *folder)
{
    char *staging = text_format("%s/.staging", folder);
    DIR *dir = opendir(staging);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *path = text_format("%s/%s", staging, entry->d_name);
        bool moved_away = strncmp(entry->d_name, "old.", 4) == 0;
        char *place = text_format("%s/precompiled/%s", folder, entry->d_name + (moved_away ? 4 : 0));
        if (!moved_away || file_exists(place) || rename(path, place) != 0)
            file_remove_tree(path);
        free(path);
        free(place);
    }
    if (dir)
        closedir(dir);
    free(staging);
}

static char *arch_value(const char *variant, const char *key)
{
    char *path = text_format("%s/.arch", variant), *text = text_of_file(path), *value = NULL;
    size_t length = strlen(key);
    for (char *save, *line = text ? strtok_r(text, "\n", &save) : NULL; line && !value;
         line = strtok_r(NULL, "\n", &save))
        if (strncmp(line, key, length) == 0 && line[length] == '=')
            value = text_copy(line + length + 1);
    free(path);
    free(text);
    return value;
}

/* The installed variant of this version, valid and with or without CUDA as asked: "precompiled/cpu", or NULL. */
static char *installed(const fdl_ctx *ctx, const char *folder, const char *version, bool cuda)
{
    char *pattern = text_format("%s/precompiled/%s", folder, cuda ? "cu[0-9]*" : "cpu"), *name = NULL;
    glob_t found;
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc && !name; i++) {
            char *has = arch_value(found.gl_pathv[i], "torch");
            torch_found check = {0};
            if (has && strcmp(has, version) == 0 && torch_find(ctx, found.gl_pathv[i], &check) == 0 &&
                check.dir)
                name = text_copy(found.gl_pathv[i] + strlen(folder) + 1);
            torch_found_free(&check);
            free(has);
        }
        globfree(&found);
    }
    free(pattern);
    return name;
}

static int activate(const char *folder, const char *variant)
{
    char *path = text_format("%s/.active", folder), *line = text_format("%s\n", variant);
    int code = file_replace(path, line);
    if (code != 0)
        say_error(FDL_FAILED, "can't write %s: %s", path, strerror(errno));
    free(path);
    free(line);
    return code == 0 ? FDL_DONE : FDL_FAILED;
}

/* The staged tree, checked: links, .arch. Its variant's name in *variant. */
static int finish(const fdl_ctx *ctx, const char *staged, json_t *got, bool cuda, char **variant)
{
    for (int i = 0; i < 3; i++) {
        const char *part = (const char *[]){"lib", "include", "share"}[i];
        char *from = text_format("%s/%s", staged, part), *to = text_format("torch/%s", part);
        int bad = symlink(to, from);
        int error = errno;
        free(from);
        free(to);
        if (bad)
            return say_error(FDL_FAILED, "can't link %s in %s: %s", part, staged, strerror(error));
    }
    torch_found check;
    int code = torch_find(ctx, staged, &check);
    const char *version = json_string_value(json_object_get(got, "version"));
    if (code == 0 && !check.dir)
        code = say_error(FDL_DIFFERS, "what was downloaded is no usable libtorch: %s", check.error);
    else if (code == 0 && cuda && strcmp(check.cuda, "none") == 0)
        code = say_error(FDL_DIFFERS, "libtorch %s of this index has no CUDA part", version);
    if (code == 0) {
        char *library = text_format("%s/torch/lib/libtorch_cpu.so", staged), *needs;
        char *argv[] = {"ldd", library, NULL};
        if (proc_capture(argv, &needs) == 0 && strstr(needs, "not found")) {
            char *line = strstr(needs, "not found");
            while (line > needs && line[-1] != '\n')
                line--;
            line += strspn(line, " \t");
            code = say_error(FDL_DIFFERS, "what was downloaded can't be loaded: %.*s",
                             (int)strcspn(line, "\n"), line);
        }
        free(needs);
        free(library);
    }
    if (code == 0) {
        *variant = text_copy("cpu");
        if (cuda) {
            free(*variant);
            *variant = text_format("cu%s", check.cuda);
            for (char *c = *variant, *to = c;; c++)
                if (*c != '.' && !(*to++ = *c))
                    break;
        }
        time_t now = time(NULL);
        char when[32];
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
        const char *url = json_string_value(json_object_get(got, "url"));
        char *path = text_format("%s/.arch", staged);
        char *text =
            text_format("torch=%s\ncuda=%s\nsource=wheel\nvariant=%s\nurl=%s\nsha256=%s\ninstalled=%s\n",
                        check.version, cuda ? check.cuda : "none", *variant, url ? url : "",
                        json_string_value(json_object_get(got, "sha256")), when);
        if (file_replace(path, text) != 0)
            code = say_error(FDL_FAILED, "can't write %s: %s", path, strerror(errno));
        free(path);
        free(text);
    }
    torch_found_free(&check);
    return code;
}

/* Puts the staged tree in the variant's place, the old one first aside, then away. */
static int put_in_place(const char *folder, const char *staged, const char *variant)
{
    char *place = text_format("%s/precompiled/%s", folder, variant),
         *parent = text_format("%s/precompiled", folder);
    char *old = text_format("%s/.staging/old.%s", folder, variant);
    int fd = open(staged, O_RDONLY | O_DIRECTORY | O_CLOEXEC), code = FDL_DONE;
    if (fd < 0 || syncfs(fd) != 0 || file_make_dirs(parent) != 0 ||
        (file_exists(place) && rename(place, old) != 0)) {
        code = say_error(FDL_FAILED, "can't install in %s: %s", place, strerror(errno));
    } else if (rename(staged, place) != 0) {
        code = say_error(FDL_FAILED, "can't install in %s: %s", place, strerror(errno));
        if (file_exists(old) && rename(old, place) != 0)
            say_error(code, "the one that was there is now %s", old);
    } else {
        file_remove_tree(old);
    }
    if (fd >= 0)
        close(fd);
    free(place);
    free(parent);
    free(old);
    return code;
}

static int fetch(const fdl_ctx *ctx, const torch_request *request, const char *folder, bool cuda,
                 json_t **got, char **staged)
{
    int code = FDL_DONE;
    const char *python = need_python(ctx, &code), *index = getenv("FLODL_WHEEL_INDEX");
    if (!python)
        return code;
    char *script = text_format("%s/tools/fdl/wheel.py", ctx->checkout);
    char *cache = text_format("%s/.cache/downloads", folder);
    *staged = text_format("%s/.staging/new.%ld", folder, (long)getpid());
    words argv = {0};
    const char *first[] = {python,    "-B",  script,   "--version", request->version,
                           "--cache", cache, "--into", *staged};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        words_add(&argv, first[i]);
    if (cuda)
        words_add(&argv, "--gpu");
    if (request->dry_run)
        words_add(&argv, "--dry-run");
    const char *options[][2] = {
        {"--index", index},
        {"--file",
         strcmp(request->from, "auto") == 0 || strcmp(request->from, "wheel") == 0 ? NULL : request->from},
        {"--sha256", request->sha256}};
    for (int i = 0; i < 3; i++)
        if (options[i][1] && *options[i][1]) {
            words_add(&argv, options[i][0]);
            words_add(&argv, options[i][1]);
        }
    char *answer = NULL;
    if (!request->dry_run && (file_make_dirs(cache) != 0 || file_make_dirs(*staged) != 0))
        code = say_error(FDL_FAILED, "can't write to %s: %s; set FLODL_HOME to a folder of yours", folder,
                         strerror(errno));
    else
        code = proc_capture(argv.at, &answer);
    if (code == 0 && !(*got = json_loads(answer, 0, NULL)))
        code = say_error(FDL_FAILED, "%s gave no answer", script);
    free(answer);
    words_free(&argv);
    free(script);
    free(cache);
    return code;
}

static int install(const fdl_ctx *ctx, const torch_request *request, const char *folder, bool cuda)
{
    if (!request->force && strcmp(request->from, "auto") == 0) {
        char *name = installed(ctx, folder, request->version, cuda);
        if (name) {
            printf("already installed (%s, %s)\n", request->version, name);
            int code = request->no_activate ? FDL_DONE : activate(folder, name);
            free(name);
            return code;
        }
    }
    say_note(ctx, "libtorch %s %s: about %s to download, %s on disk under %s", request->version,
             cuda ? "with CUDA" : "for the CPU", cuda ? "2.5 GB" : "550 MB", cuda ? "6 GB" : "550 MB",
             folder);
    json_t *got = NULL;
    char *staged = NULL, *variant = NULL;
    int code = fetch(ctx, request, folder, cuda, &got, &staged);
    if (code == 0)
        code = finish(ctx, staged, got, cuda, &variant);
    if (code == 0)
        code = put_in_place(folder, staged, variant);
    if (code == 0) {
        char *name = text_format("precompiled/%s", variant);
        if (!request->no_activate)
            code = activate(folder, name);
        size_t i;
        json_t *file;
        json_array_foreach(json_object_get(got, "files"), i, file) /* the archives have served */
            unlink(json_string_value(file));
        if (code == 0)
            printf("libtorch %s (%s) installed in %s/%s\n",
                   json_string_value(json_object_get(got, "version")), variant, folder, name);
        free(name);
    }
    if (staged)
        file_remove_tree(staged);
    json_decref(got);
    free(staged);
    free(variant);
    return code;
}

int torch_get(const fdl_ctx *ctx, const torch_request *request)
{
    bool cuda = request->cuda < 0 ? torch_gpu_present() : request->cuda;
    char *folder = text_format("%s/libtorch", ctx->home), *staging = text_format("%s/.staging", folder);
    int code = FDL_DONE;
    if (request->dry_run) {
        json_t *got = NULL;
        char *staged = NULL;
        code = fetch(ctx, request, folder, cuda, &got, &staged);
        if (code == 0)
            printf("libtorch %s (%s)\n  from    %s\n  sha256  %s\n  into    %s/precompiled/%s\n",
                   request->version, cuda ? "with CUDA" : "CPU",
                   json_string_value(json_object_get(got, "url")),
                   json_string_value(json_object_get(got, "sha256")), folder, cuda ? "cu…" : "cpu");
        json_decref(got);
        free(staged);
    } else if (file_make_dirs(staging) != 0) {
        code = say_error(FDL_FAILED, "can't write to %s: %s; set FLODL_HOME to a folder of yours", folder,
                         strerror(errno));
    } else {
        int held = lock(ctx, folder, !request->no_wait, &code);
        if (held >= 0) {
            clean_up(folder);
            code = install(ctx, request, folder, cuda);
            close(held);
        }
    }
    free(folder);
    free(staging);
    return code;
}

int torch_ensure(const fdl_ctx *ctx, torch_found *out)
{
    int code = torch_find(ctx, NULL, out);
    if (code != 0 || out->dir)
        return code;
    if (strncmp(out->error, "no libtorch found", 17) != 0) /* one was named, and can't be used: that binds */
        return say_error(FDL_MISSING, "%s", out->error);
    const char *version = getenv("FLODL_TORCH_VERSION");
    torch_request request = {
        .version = version && *version ? version : FDL_TORCH_VERSION, .from = "auto", .cuda = -1};
    code = torch_get(ctx, &request);
    if (code != 0)
        return code;
    torch_found_free(out);
    code = torch_find(ctx, NULL, out);
    return code != 0 || out->dir ? code : say_error(FDL_MISSING, "%s", out->error);
}
