/* Folders and files that are replaced in one step. */
#include "fdl.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

int file_make_dirs(const char *path)
{
    char *copy = text_copy(path);
    int code = 0;
    for (char *slash = strchr(copy + 1, '/'); code == 0; slash = strchr(slash + 1, '/')) {
        if (slash)
            *slash = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            code = -1;
        if (!slash)
            break;
        *slash = '/';
    }
    int error = errno;
    free(copy);
    errno = error;
    return code;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info, (void)kind, (void)place;
    return remove(path);
}

int file_remove_tree(const char *path)
{
    return !file_exists(path) ? 0 : nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS);
}

int file_replace(const char *path, const char *text)
{
    char *temporary = text_format("%s.%ld.tmp", path, (long)getpid());
    int code = -1, fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd >= 0) {
        size_t size = strlen(text);
        bool good = write(fd, text, size) == (ssize_t)size && fsync(fd) == 0;
        good = close(fd) == 0 && good;
        code = good ? rename(temporary, path) : -1;
        int error = errno;
        if (code != 0)
            unlink(temporary);
        errno = error;
    }
    free(temporary);
    return code;
}
