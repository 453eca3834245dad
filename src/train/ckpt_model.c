/* A topology and its weights in two files beside each other. */
#include "flodl/ckpt_model.h"
#include "flodl/file.h"

#include <jansson.h>

/* "dir/model.safetensors" for "dir/model.json"; owned. NULL: the error is set. */
static char *weights_path(const char *path)
{
    static const char end[] = ".json", instead[] = ".safetensors";
    size_t n = strlen(path), stem = n < sizeof end ? 0 : n - (sizeof end - 1);
    if (!stem || strcmp(path + stem, end) != 0 || path[stem - 1] == '/')
        return fdl_fail_null(FDL_E_ARG, "fdl_ckpt_save_model: \"%s\" must be a name that ends in \".json\"",
                             path);
    char *weights = malloc(stem + sizeof instead);
    if (!weights)
        return fdl_fail_null(FDL_E_OOM, "fdl_ckpt_save_model: no memory");
    memcpy(weights, path, stem);
    memcpy(weights + stem, instead, sizeof instead);
    return weights;
}

static const char *name_in(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

fdl_status fdl_ckpt_save_model_opt(fdl_module *m, const char *path, const fdl_topology_opts *opts)
{
    if (!m || !path)
        return fdl_null_operand("fdl_ckpt_save_model", m ? "path" : "m");
    fdl_topology_opts o = opts ? *opts : (fdl_topology_opts){0};
    if (o.weights)
        return fdl_fail(FDL_E_ARG,
                        "fdl_ckpt_save_model: the weights lie beside the topology; .weights isn't taken");
    char *weights = weights_path(path);
    if (!weights)
        return fdl_error_pending();
    o.weights = name_in(weights);
    char *text = fdl_topology_text_opt(m, &o); /* what can't be written leaves no file */
    fdl_status status = text ? fdl_ckpt_save_opt(m, weights, NULL) : fdl_error_pending();
    if (status == FDL_OK)
        status = fdl_file_save(path, text, strlen(text));
    free(text);
    free(weights);
    return status;
}

/* The path of the file that the topology names, owned. */
static char *named_weights(const char *path, const char *text)
{
    json_t *root = json_loads(text, 0, NULL);
    const char *name = json_string_value(json_object_get(root, "weights"));
    char *weights = NULL;
    if (!name)
        fdl_fail(FDL_E_FORMAT, "%s: names no weights; fdl_topology_load reads it", path);
    else if (!*name || strchr(name, '/'))
        fdl_fail(FDL_E_FORMAT, "%s: weights: \"%.100s\" is no file beside it", path, name);
    else {
        size_t folder = (size_t)(name_in(path) - path);
        weights = malloc(folder + strlen(name) + 1);
        if (weights) {
            memcpy(weights, path, folder);
            memcpy(weights + folder, name, strlen(name) + 1);
        } else {
            fdl_fail(FDL_E_OOM, "fdl_ckpt_load_model: no memory");
        }
    }
    json_decref(root);
    return weights;
}

fdl_module *fdl_ckpt_load_model_opt(const char *path, const fdl_topology_opts *opts)
{
    if (!path) {
        fdl_null_operand("fdl_ckpt_load_model", "path");
        return NULL;
    }
    fdl_module *m = fdl_topology_load_opt(path, opts);
    size_t size;
    char *text = m ? fdl_file_read(path, 0, &size) : NULL;
    char *weights = text ? named_weights(path, text) : NULL;
    FDL_SCOPE;
    if (weights && fdl_ckpt_load_opt(m, weights, NULL) == FDL_OK) {
        free(text);
        free(weights);
        return m;
    }
    free(text);
    free(weights);
    fdl_module_free(m);
    return NULL;
}
