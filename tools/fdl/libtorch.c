/* fdl libtorch list | info | download. */
#include "fdl.h"

#include <glob.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int print_json(json_t *value)
{
    char *text = json_dumps(value, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
    json_decref(value);
    if (!text)
        return say_error(FDL_FAILED, "out of memory");
    puts(text);
    free(text);
    return FDL_DONE;
}

int cmd_libtorch_list(const fdl_ctx *ctx, int argc, char **argv)
{
    bool json = argc == 2 && strcmp(argv[1], "--json") == 0;
    if (argc > 1 && !json)
        return say_usage("libtorch list", "unexpected argument \"%s\"", argv[1]);
    char *folder = text_format("%s/libtorch", ctx->home), *file = text_format("%s/.active", folder);
    char *active = text_of_file(file), *pattern = text_format("%s/*/*/.arch", folder);
    if (active)
        active[strcspn(active, "\r\n")] = '\0';
    glob_t found = {0};
    json_t *all = json_array();
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc; i++) {
            char *path = found.gl_pathv[i];
            path[strlen(path) - strlen("/.arch")] = '\0';
            const char *name = path + strlen(folder) + 1;
            torch_found check;
            if (torch_find(ctx, path, &check) != 0)
                return FDL_MISSING;
            json_array_append_new(all,
                                  json_pack("{s:s, s:b, s:s?, s:s?, s:s, s:s}", "variant", name, "active",
                                            active && strcmp(active, name) == 0, "version", check.version,
                                            "cuda", check.cuda, "source", "wheel", "path", path));
            torch_found_free(&check);
        }
    globfree(&found);
    torch_found other;
    if (torch_find(ctx, NULL, &other) == 0 && other.dir && strcmp(other.source, "home") != 0)
        json_array_append_new(all, json_pack("{s:s, s:b, s:s, s:s, s:s, s:s}", "variant", other.dir, "active",
                                             0, "version", other.version, "cuda", other.cuda, "source",
                                             other.source, "path", other.dir));
    torch_found_free(&other);
    free(pattern);
    free(active);
    free(file);
    free(folder);
    if (json)
        return print_json(all);
    if (json_array_size(all) == 0)
        puts("No libtorch variants installed.\n`fdl libtorch download` gets one.");
    size_t i;
    json_t *row;
    json_array_foreach(all, i, row)
    {
        const char *source = json_string_value(json_object_get(row, "source"));
        const char *cuda = json_string_value(json_object_get(row, "cuda"));
        const char *version = json_string_value(json_object_get(row, "version"));
        bool ours = strcmp(source, "wheel") == 0, cpu = !cuda || strcmp(cuda, "none") == 0;
        printf("%s  %s  %s%s%s\n", json_string_value(json_object_get(row, "variant")),
               version ? version : "(broken)", cpu ? "CPU" : "CUDA ", cpu ? "" : cuda,
               json_is_true(json_object_get(row, "active")) ? "  (active)"
               : ours                                       ? ""
                                                            : "  (found, not managed)");
    }
    json_decref(all);
    return FDL_DONE;
}

int cmd_libtorch_info(const fdl_ctx *ctx, int argc, char **argv)
{
    bool why = false, json = false;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--why") == 0)
            why = true;
        else if (strcmp(argv[i], "--json") == 0)
            json = true;
        else
            return say_usage("libtorch info", "unexpected argument \"%s\"", argv[i]);
    torch_found found;
    int code = torch_find(ctx, NULL, &found);
    if (code != 0)
        return code;
    if (why && !json) {
        char *save, *copy = text_copy(found.tried ? found.tried : "");
        for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
            char *part[4] = {line, "", "", ""};
            for (int i = 1; i < 4 && part[i - 1] && (part[i] = strchr(part[i - 1], '\t')); i++)
                *part[i]++ = '\0';
            if (part[3])
                printf("%-18s %-8s %s%s%s\n", part[0], part[2], part[1], *part[1] ? ": " : "", part[3]);
        }
        free(copy);
    }
    if (!found.dir)
        code = say_error(FDL_MISSING, "%s", found.error);
    else if (json)
        code = print_json(json_pack("{s:s, s:s, s:s, s:s}", "source", found.source, "version", found.version,
                                    "cuda", found.cuda, "path", found.dir));
    else
        printf("Source:  %s\nVersion: %s\nCUDA:    %s\nPath:    %s\n", found.source, found.version,
               found.cuda, found.dir);
    torch_found_free(&found);
    return code;
}

int cmd_libtorch_download(const fdl_ctx *ctx, int argc, char **argv)
{
    const char *pinned = getenv("FLODL_TORCH_VERSION");
    torch_request request = {
        .version = pinned && *pinned ? pinned : FDL_TORCH_VERSION, .from = "auto", .cuda = -1};
    bool cpu = false, cuda = false;
    for (int i = 1; i < argc; i++) {
        const struct {
            const char *name;
            bool *flag;
        } flags[] = {{"--cpu", &cpu},
                     {"--cuda", &cuda},
                     {"--force", &request.force},
                     {"--no-wait", &request.no_wait},
                     {"--no-activate", &request.no_activate},
                     {"--dry-run", &request.dry_run}};
        const struct {
            const char *name, **value;
        } values[] = {
            {"--version", &request.version}, {"--from", &request.from}, {"--sha256", &request.sha256}};
        bool known = false;
        for (size_t k = 0; k < sizeof flags / sizeof *flags && !known; k++)
            if ((known = strcmp(argv[i], flags[k].name) == 0))
                *flags[k].flag = true;
        for (size_t k = 0; k < sizeof values / sizeof *values && !known; k++) {
            size_t length = strlen(values[k].name);
            if (strncmp(argv[i], values[k].name, length) != 0 || (argv[i][length] && argv[i][length] != '='))
                continue;
            known = true;
            const char *value = argv[i][length] ? argv[i] + length + 1 : argv[++i];
            if (!value || !*value)
                return say_usage("libtorch download", "%s needs a value", values[k].name);
            *values[k].value = value;
        }
        if (!known)
            return say_usage("libtorch download", "unknown option \"%s\"", argv[i]);
    }
    if (cpu && cuda)
        return say_error(FDL_USAGE, "--cpu and --cuda exclude each other");
    request.cuda = cpu ? 0 : cuda ? 1 : -1;
    if (strcmp(request.from, "auto") != 0 && strcmp(request.from, "wheel") != 0 && !file_exists(request.from))
        return say_error(FDL_USAGE, "--from %s: no such file; allowed: auto, wheel, or a wheel's file",
                         request.from);
    return torch_get(ctx, &request);
}
