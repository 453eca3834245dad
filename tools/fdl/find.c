/* Which libtorch a build uses. CMake makes the search (cmake/flodl_find_libtorch.cmake), so that the command line and a
 * plain `cmake` can't disagree; this file reads its answer. */
#include "fdl.h"

#include <stdlib.h>
#include <string.h>

static void append(char **to, const char *line)
{
    char *longer = *to ? text_format("%s\n%s", *to, line) : text_copy(line);
    free(*to);
    *to = longer;
}

int torch_find(const fdl_ctx *ctx, const char *check, torch_found *out)
{
    *out = (torch_found){0};
    if (!proc_exists("cmake"))
        return say_error(FDL_MISSING, "cmake isn't installed; `apt-get install cmake`");
    words argv = {0};
    words_add(&argv, "cmake");
    char *project = text_format("-DPROJECT=%s", ctx->root ? ctx->root : "");
    char *folder = text_format("-DCHECK=%s", check ? check : "");
    char *script = text_format("%s/cmake/find_libtorch.cmake", ctx->checkout);
    words_add(&argv, project);
    words_add(&argv, folder);
    words_add(&argv, "-P");
    words_add(&argv, script);
    char *answer;
    int code = proc_capture(argv.at, &answer);
    for (char *save, *line = answer ? strtok_r(answer, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save)) {
        char *value = strchr(line, '\t');
        if (!value || !value[1])
            continue;
        *value++ = '\0';
        if (strcmp(line, "error") == 0)
            append(&out->error, value);
        else if (strcmp(line, "tried") == 0)
            append(&out->tried, value);
        else
            for (int i = 0; i < 4; i++)
                if (strcmp(line, (const char *[]){"dir", "version", "cuda", "source"}[i]) == 0)
                    append((char **[]){&out->dir, &out->version, &out->cuda, &out->source}[i], value);
    }
    free(answer);
    free(project);
    free(folder);
    free(script);
    words_free(&argv);
    return code == 0 ? FDL_DONE : say_error(FDL_FAILED, "the search for libtorch failed");
}

void torch_found_free(torch_found *found)
{
    free(found->dir);
    free(found->version);
    free(found->cuda);
    free(found->source);
    free(found->error);
    free(found->tried);
    *found = (torch_found){0};
}
