/* Looking into files of tensors without a module. */
#include "ckpt_private.h"

struct fdl_ckpt_info {
    source file;
};

fdl_ckpt_info *fdl_ckpt_open(const char *path)
{
    if (!path) {
        fdl_null_operand("fdl_ckpt_open", "path");
        return NULL;
    }
    fdl_ckpt_info *info = malloc(sizeof *info);
    if (!info)
        return fdl_fail_null(FDL_E_OOM, "fdl_ckpt_open: no memory to open '%s'", path);
    if (source_open(&info->file, path) == FDL_OK)
        return info;
    fdl_error_prefix("fdl_ckpt_open: ");
    free(info);
    return NULL;
}

void fdl_ckpt_close(fdl_ckpt_info *info)
{
    if (!info)
        return;
    source_close(&info->file);
    free(info);
}

int fdl_ckpt_count(const fdl_ckpt_info *info)
{
    if (!info)
        fdl_null_operand(__func__, "info");
    return info ? info->file.n : -1;
}

static const source_entry *entry_at(const char *function, const fdl_ckpt_info *info, int i)
{
    if (!info) {
        fdl_null_operand(function, "info");
        return NULL;
    }
    if (i < 0 || i >= info->file.n)
        return fdl_fail_null(FDL_E_RANGE, "%s: entry %d of %d", function, i, info->file.n);
    return &info->file.entries[i];
}

const char *fdl_ckpt_name(const fdl_ckpt_info *info, int i)
{
    const source_entry *e = entry_at(__func__, info, i);
    return e ? e->name : NULL;
}

fdl_shape fdl_ckpt_shape(const fdl_ckpt_info *info, int i)
{
    const source_entry *e = entry_at(__func__, info, i);
    return e ? e->shape : (fdl_shape){.ndim = -1};
}

fdl_dtype fdl_ckpt_dtype(const fdl_ckpt_info *info, int i)
{
    const source_entry *e = entry_at(__func__, info, i);
    return e ? e->dtype : FDL_DTYPE_DEFAULT;
}

const char *fdl_ckpt_meta(const fdl_ckpt_info *info, const char *key)
{
    if (!info || !key) {
        fdl_null_operand(__func__, info ? "key" : "info");
        return NULL;
    }
    return source_meta(&info->file, key);
}

const char *fdl_ckpt_hash(const fdl_ckpt_info *info)
{
    if (!info)
        fdl_null_operand(__func__, "info");
    return info && info->file.hash[0] ? info->file.hash : NULL;
}

int fdl_ckpt_format(const fdl_ckpt_info *info)
{
    if (!info)
        fdl_null_operand(__func__, "info");
    return info ? info->file.version : -1;
}

static fdl_tensor *read_entry(const char *function, const fdl_ckpt_info *info, const source_entry *e)
{
    fdl_tensor *t = e ? source_read(&info->file, e) : NULL;
    if (e && !t)
        fdl_error_prefix("%s: ", function);
    return t;
}

fdl_tensor *fdl_ckpt_tensor(const fdl_ckpt_info *info, int i)
{
    return read_entry(__func__, info, entry_at(__func__, info, i));
}

fdl_tensor *fdl_ckpt_get(const fdl_ckpt_info *info, const char *name)
{
    if (!info || !name) {
        fdl_null_operand(__func__, info ? "name" : "info");
        return NULL;
    }
    const source_entry *e = source_find(&info->file, name);
    if (!e)
        return fdl_fail_null(
            FDL_E_ARG, "fdl_ckpt_get: '%s' has no \"%.200s\" among its %d names (fdl_ckpt_keys lists them)",
            info->file.path, name, info->file.n);
    return read_entry(__func__, info, e);
}

fdl_status fdl_ckpt_keys(const char *path, fdl_strings *keys)
{
    if (keys)
        *keys = (fdl_strings){0};
    if (!path || !keys)
        return fdl_null_operand(__func__, path ? "keys" : "path");
    source file;
    fdl_status status = source_open(&file, path);
    if (status != FDL_OK) {
        fdl_error_prefix("fdl_ckpt_keys: ");
        return status;
    }
    const char **at = fdl_scope_alloc(sizeof *at * (size_t)(file.n + 1));
    for (int i = 0; at && i < file.n; i++) {
        size_t size = strlen(file.entries[i].name) + 1;
        char *name = fdl_scope_alloc(size);
        if (!name)
            at = NULL;
        else
            at[i] = memcpy(name, file.entries[i].name, size);
    }
    if (at)
        *keys = (fdl_strings){file.n, at};
    source_close(&file);
    return at ? FDL_OK : fdl_error_pending();
}

int fdl_ckpt_version(const char *path)
{
    if (!path) {
        fdl_null_operand(__func__, "path");
        return -1;
    }
    source file;
    if (source_open(&file, path) != FDL_OK) {
        fdl_error_prefix("fdl_ckpt_version: ");
        return -1;
    }
    int version = file.version;
    source_close(&file);
    return version;
}
