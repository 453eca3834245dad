/* Keeping the newest files of a row: run-000100.fdl, run-000200.fdl and so on, which differ in one number. */
#include "ckpt_private.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <unistd.h>

/* A file's name in three parts; the number is its last run of digits. */
typedef struct pattern {
    const char *name;    /* behind the folder */
    size_t before, upto; /* where the digits begin and end */
} pattern;

static bool split(const char *name, pattern *p)
{
    size_t n = strlen(name);
    while (n && !isdigit((unsigned char)name[n - 1]))
        n--;
    size_t from = n;
    while (from && isdigit((unsigned char)name[from - 1]))
        from--;
    *p = (pattern){name, from, n};
    return n > 0;
}

static const char *name_in(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Digits compared as numbers of any length. */
static int compare(const char *a, size_t n, const char *b, size_t k)
{
    for (; n && *a == '0'; n--)
        a++;
    for (; k && *b == '0'; k--)
        b++;
    if (n != k)
        return n < k ? -1 : 1;
    return memcmp(a, b, n);
}

fdl_status ckpt_check_keep(const char *path, int keep)
{
    pattern p;
    if (!keep)
        return FDL_OK;
    if (keep < 0)
        return fdl_fail(FDL_E_ARG, ".keep_last is %d; it must be 1 or more", keep);
    if (!path || !split(name_in(path), &p))
        return fdl_fail(FDL_E_ARG,
                        ".keep_last goes with a path whose name has a number, such as \"run-000100.fdl\", by "
                        "which older files are told; it is '%s'",
                        path ? path : "(a writer)");
    return FDL_OK;
}

/* Whether a file in the folder is of the row and not above the one of the pattern: the digits' place and number. What was
 * saved in shards is found by its index. */
static bool is_of(const char *file, const pattern *p, size_t *digits)
{
    static const char index[] = ".index.json";
    size_t n = strlen(file), end = strlen(p->name + p->upto);
    if (n > sizeof index - 1 && strcmp(file + n - (sizeof index - 1), index) == 0)
        n -= sizeof index - 1;
    if (n < p->before + end + 1 || strncmp(file, p->name, p->before) != 0 ||
        strncmp(file + n - end, p->name + p->upto, end) != 0)
        return false;
    *digits = n - end - p->before;
    for (size_t i = 0; i < *digits; i++)
        if (!isdigit((unsigned char)file[p->before + i]))
            return false;
    return compare(file + p->before, *digits, p->name + p->before, p->upto - p->before) <= 0;
}

typedef struct older {
    char *digits; /* owned */
} older;

static int highest_first(const void *a, const void *b)
{
    const char *x = ((const older *)a)->digits, *y = ((const older *)b)->digits;
    int order = compare(y, strlen(y), x, strlen(x));
    return order ? order : strcmp(x, y); /* "7" and "07" stay apart */
}

static fdl_status list_row(const char *folder, const pattern *p, older **row, int *n)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return fdl_fail_errno(".keep_last: '%s' can't be read", folder);
    int room = 0;
    fdl_status status = FDL_OK;
    for (struct dirent *e; status == FDL_OK && (e = readdir(dir));) {
        size_t digits;
        if (!is_of(e->d_name, p, &digits))
            continue;
        if (*n == room) {
            room = room ? 2 * room : 16;
            older *more = realloc(*row, sizeof *more * (size_t)room);
            if (!more) {
                status = fdl_fail(FDL_E_OOM, ".keep_last: memory ran out");
                break;
            }
            *row = more;
        }
        (*row)[*n].digits = strndup(e->d_name + p->before, digits);
        if (!(*row)[*n].digits)
            status = fdl_fail(FDL_E_OOM, ".keep_last: memory ran out");
        else
            ++*n;
    }
    closedir(dir);
    return status;
}

static fdl_status gone(const char *path)
{
    return unlink(path) == 0 || errno == ENOENT ? FDL_OK
                                                : fdl_fail_errno(".keep_last: '%s' can't be removed", path);
}

/* Removes the file with these digits, and what lies beside it. */
static fdl_status remove_one(const char *folder, const pattern *p, const char *digits)
{
    size_t size = strlen(folder) + strlen(p->name) + strlen(digits) + 2;
    char *path = malloc(size);
    if (!path)
        return fdl_fail(FDL_E_OOM, ".keep_last: memory ran out");
    snprintf(path, size, "%s/%.*s%s%s", folder, (int)p->before, p->name, digits, p->name + p->upto);
    char *config = ckpt_config_path(path);
    fdl_status status = config ? gone(path) : fdl_error_pending();
    if (status == FDL_OK)
        status = gone(config);
    ckpt_forget_shards(path);
    free(config);
    free(path);
    return status;
}

fdl_status ckpt_keep_last(const char *path, int keep)
{
    pattern p;
    const char *name = name_in(path);
    if (!split(name, &p))
        return FDL_OK;
    size_t n = (size_t)(name - path);
    char *folder = malloc(n + 2);
    if (!folder)
        return fdl_fail(FDL_E_OOM, ".keep_last: memory ran out");
    snprintf(folder, n + 2, "%.*s", n ? (int)n : 1, n ? path : ".");
    older *row = NULL;
    int found = 0, different = 0;
    fdl_status status = list_row(folder, &p, &row, &found);
    if (found)
        qsort(row, (size_t)found, sizeof *row, highest_first);
    for (int i = 0; i < found && status == FDL_OK; i++) {
        bool again = i && strcmp(row[i].digits, row[i - 1].digits) == 0; /* a file and an index */
        different += !again;
        if (different > keep && !again)
            status = remove_one(folder, &p, row[i].digits);
    }
    for (int i = 0; i < found; i++)
        free(row[i].digits);
    free(row);
    free(folder);
    return status;
}
