/* A temporary folder for the files of a test program: make_folder and remove_folder are its group's setup and teardown. */
#ifndef FLODL_TESTS_FOLDER_H
#define FLODL_TESTS_FOLDER_H

#include "check.h"

#include <dirent.h>
#include <unistd.h>

static char folder[64];

/* The path of a file in it; the last four stay valid. */
static char *path_of(const char *name)
{
    static char path[4][512];
    static int at;
    at = (at + 1) % 4;
    snprintf(path[at], sizeof path[at], "%s/%s", folder, name);
    return path[at];
}

static inline int files_in_folder(void)
{
    DIR *d = opendir(folder);
    assert_non_null(d);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/flodl-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    DIR *d = opendir(folder);
    if (!d)
        return -1;
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.')
            remove(path_of(e->d_name));
    closedir(d);
    return rmdir(folder);
}

#endif
