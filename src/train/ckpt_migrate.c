/* Files from elsewhere: a new checkpoint out of one with other names, and weights taken by shape. */
#include "ckpt_private.h"

#include <sys/stat.h>

enum { UNCHANGED, DROPPED, MISSING, AMBIGUOUS, REMAPPED_FROM, REMAPPED_TO, LISTS };

typedef struct job {
    const char *path;
    const char *prefix;
    const fdl_rename *rename;
    fdl_migrate_report *report;
    source file;
    ckpt_view view;
    ckpt_contents c;
    ckpt_names lists[LISTS];
} job;

/* ---- by shape --------------------------------------------------------------------------------------- */

static bool could_take(const ckpt_item *it, const ckpt_entry *e)
{
    fdl_tensor *t = fdl_param_tensor(it->p);
    return !e->used && !e->alias && e->dtype == fdl_dtype_of(t) && fdl_shape_eq(e->shape, fdl_shape_of(t));
}

/* Whether e and it are the only ones of their shape that are left. */
static bool is_unique(const job *j, const ckpt_item *it, const ckpt_entry *e)
{
    for (int i = 0; i < j->view.n; i++)
        if (&j->view.at[i] != e && could_take(it, &j->view.at[i]))
            return false;
    for (int i = 0; i < j->c.n; i++)
        if (&j->c.items[i] != it && !j->c.items[i].entry && could_take(&j->c.items[i], e))
            return false;
    return true;
}

/* What has nothing by name takes the first of its shape; in_order: also where there are several ways. */
static fdl_status match_by_shape(job *j, bool in_order)
{
    bool *ambiguous = fdl_scope_alloc(sizeof *ambiguous * (size_t)(j->c.n + 1));
    if (!ambiguous)
        return fdl_error_pending();
    ckpt_entry **choice = fdl_scope_alloc(sizeof *choice * (size_t)(j->c.n + 1));
    if (!choice)
        return fdl_error_pending();
    for (int i = 0; i < j->c.n; i++) { /* nothing is taken yet: all are judged by the same state */
        ckpt_item *it = &j->c.items[i];
        for (int k = 0; k < j->view.n && !it->entry && !choice[i]; k++)
            if (could_take(it, &j->view.at[k])) {
                choice[i] = &j->view.at[k];
                ambiguous[i] = !is_unique(j, it, choice[i]);
            }
    }
    for (int i = 0; i < j->c.n; i++) {
        ckpt_item *it = &j->c.items[i];
        if (!choice[i])
            continue;
        if (ambiguous[i])
            FDL_TRY(ckpt_note(&j->lists[AMBIGUOUS], it->name));
        if (ambiguous[i] && !in_order)
            continue;
        for (int k = 0; k < j->view.n; k++)
            if (could_take(it, &j->view.at[k])) {
                it->entry = &j->view.at[k];
                it->fits = true;
                ckpt_view_use(&j->view, it->entry);
                break;
            }
    }
    return FDL_OK;
}

/* ---- what became of each ---------------------------------------------------------------------------- */

static fdl_status note_all(job *j)
{
    for (int i = 0; i < j->c.n; i++) {
        const ckpt_item *it = &j->c.items[i];
        if (!it->fits) {
            FDL_TRY(ckpt_note(&j->lists[MISSING], it->name));
            continue;
        }
        const char *first = it->entry->part[0]->name;
        if (it->entry->parts == 1 && strcmp(first, it->key) == 0) {
            FDL_TRY(ckpt_note(&j->lists[UNCHANGED], it->name));
            continue;
        }
        for (int k = 0; k < it->entry->parts; k++) {
            FDL_TRY(ckpt_note(&j->lists[REMAPPED_FROM], it->entry->part[k]->name));
            FDL_TRY(ckpt_note(&j->lists[REMAPPED_TO], it->name));
        }
    }
    for (int i = 0; i < j->view.n; i++) {
        const ckpt_entry *e = &j->view.at[i];
        for (int k = 0; k < e->parts && !e->used && !e->alias; k++)
            FDL_TRY(ckpt_note(&j->lists[DROPPED], e->part[k]->name));
    }
    return FDL_OK;
}

static fdl_status report(const job *j)
{
    const char *const *lists[LISTS];
    for (int k = 0; k < LISTS; k++)
        if (!(lists[k] = ckpt_names_in_scope(&j->lists[k])))
            return fdl_error_pending();
    int n = j->lists[REMAPPED_FROM].n;
    fdl_rename *remapped = fdl_scope_alloc(sizeof *remapped * (size_t)(n + 1));
    if (!remapped)
        return fdl_error_pending();
    for (int i = 0; i < n; i++)
        remapped[i] = (fdl_rename){lists[REMAPPED_FROM][i], lists[REMAPPED_TO][i]};
    *j->report = (fdl_migrate_report){.n_unchanged = j->lists[UNCHANGED].n,
                                      .n_remapped = n,
                                      .n_dropped = j->lists[DROPPED].n,
                                      .n_missing = j->lists[MISSING].n,
                                      .n_ambiguous = j->lists[AMBIGUOUS].n,
                                      .unchanged = lists[UNCHANGED],
                                      .remapped = remapped,
                                      .dropped = lists[DROPPED],
                                      .missing = lists[MISSING],
                                      .ambiguous = lists[AMBIGUOUS],
                                      .complete = !j->lists[DROPPED].n && !j->lists[MISSING].n};
    return FDL_OK;
}

/* Opens, runs fn in a scope of its own, reports, closes. */
static fdl_status with_file(job *j, fdl_status (*fn)(job *j, fdl_module *m, void *ctx), fdl_module *m,
                            void *ctx)
{
    FDL_TRY(source_open(&j->file, j->path));
    fdl_status status;
    {
        FDL_SCOPE;
        FDL_NO_GRAD;
        status = fn(j, m, ctx);
    }
    if (j->report) {
        fdl_status reported = report(j);
        status = status == FDL_OK ? reported : status;
    }
    ckpt_view_end(&j->view);
    source_close(&j->file);
    for (int k = 0; k < LISTS; k++)
        ckpt_names_free(&j->lists[k]);
    return status;
}

static fdl_status prepare(job *j, fdl_module *m)
{
    FDL_TRY(ckpt_contents_of(&j->c, m));
    if (j->file.version == 1 || j->file.version == 2)
        FDL_TRY(ckpt_legacy_names(&j->c, m));
    return ckpt_view_of(&j->view, &j->file, j->prefix, j->rename, j->c.n);
}

/* ---- migrating -------------------------------------------------------------------------------------- */

static fdl_status migrate(job *j, fdl_module *m, void *dst)
{
    FDL_TRY(prepare(j, m));
    FDL_TRY(ckpt_match(&j->c, &j->view, true));
    if (!j->rename)
        FDL_TRY(match_by_shape(j, true));
    FDL_TRY(note_all(j));
    ckpt_content c;
    fdl_status status = ckpt_content_new(&c, j->c.n, FDL_DTYPE_DEFAULT);
    for (int i = 0; i < j->c.n && status == FDL_OK; i++) {
        const ckpt_item *it = &j->c.items[i];
        if (!it->fits)
            continue;
        c.keys[c.n] = it->key;
        c.at[c.n] = ckpt_view_read(&j->view, it->entry);
        status = c.at[c.n++] ? FDL_OK : fdl_error_pending();
    }
    if (status == FDL_OK)
        status = ckpt_write(&c, dst, NULL, &(fdl_ckpt_save_opts){0}, NULL);
    json_decref(c.metadata);
    return status;
}

static bool is_same_file(const char *a, const char *b)
{
    struct stat x, y;
    return strcmp(a, b) == 0 ||
           (stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

fdl_status fdl_ckpt_migrate_opt(const char *src, const char *dst, fdl_module *m,
                                const fdl_ckpt_migrate_opts *opts)
{
    fdl_ckpt_migrate_opts o = opts ? *opts : (fdl_ckpt_migrate_opts){0};
    if (o.report)
        *o.report = (fdl_migrate_report){0};
    if (!src || !dst || !m)
        return fdl_null_operand("fdl_ckpt_migrate", !src ? "src" : !dst ? "dst" : "m");
    if (is_same_file(src, dst))
        return fdl_fail(FDL_E_ARG,
                        "fdl_ckpt_migrate: '%s' and '%s' are one file; the new one needs a path of its own",
                        src, dst);
    job j = {.path = src, .rename = o.rename, .report = o.report};
    fdl_status status = with_file(&j, migrate, m, (void *)(uintptr_t)dst);
    if (status != FDL_OK)
        fdl_error_prefix("fdl_ckpt_migrate: ");
    return status;
}

/* ---- importing -------------------------------------------------------------------------------------- */

static fdl_status check_shapes(const job *j)
{
    for (int i = 0; i < j->c.n; i++) {
        const ckpt_item *it = &j->c.items[i];
        if (it->entry && !it->fits) {
            fdl_status status = ckpt_misfit(it);
            fdl_error_prefix("'%s': ", j->path);
            return status;
        }
    }
    return FDL_OK;
}

static fdl_status import(job *j, fdl_module *m, void *by_shape)
{
    FDL_TRY(prepare(j, m));
    FDL_TRY(ckpt_match(&j->c, &j->view, false));
    if (*(const bool *)by_shape)
        FDL_TRY(match_by_shape(j, false));
    FDL_TRY(note_all(j));
    FDL_TRY(check_shapes(j));
    if (j->lists[MISSING].n == j->c.n && j->c.n)
        return fdl_fail(FDL_E_MISMATCH,
                        "'%s': nothing of its %d tensors fits the module; its first is \"%.200s\", the "
                        "module's \"%.200s\"",
                        j->path, j->file.n, j->file.n ? j->file.entries[0].name : "", j->c.items[0].key);
    return ckpt_copy(&j->c, &j->view);
}

fdl_status fdl_ckpt_import_opt(fdl_module *m, const char *path, const fdl_ckpt_import_opts *opts)
{
    fdl_ckpt_import_opts o = opts ? *opts : (fdl_ckpt_import_opts){0};
    if (o.report)
        *o.report = (fdl_migrate_report){0};
    if (!m || !path)
        return fdl_null_operand("fdl_ckpt_import", m ? "path" : "m");
    job j = {.path = path, .prefix = o.prefix, .rename = o.rename, .report = o.report};
    fdl_status status = with_file(&j, import, m, &o.by_shape);
    if (status != FDL_OK)
        fdl_error_prefix("fdl_ckpt_import: ");
    return status;
}

fdl_status fdl_migrate_report_print(const fdl_migrate_report *r, FILE *file)
{
    if (!r || !file)
        return fdl_null_operand("fdl_migrate_report_print", r ? "file" : "report");
    const struct {
        const char *title;
        int n;
        const char *const *at;
    } lists[] = {{"unchanged", r->n_unchanged, r->unchanged},
                 {"remapped", r->n_remapped, NULL},
                 {"dropped", r->n_dropped, r->dropped},
                 {"missing", r->n_missing, r->missing},
                 {"ambiguous", r->n_ambiguous, r->ambiguous}};
    bool good = true;
    for (size_t k = 0; k < sizeof lists / sizeof lists[0]; k++) {
        if (lists[k].n)
            good = fprintf(file, "%s (%d)\n", lists[k].title, lists[k].n) > 0 && good;
        for (int i = 0; i < lists[k].n; i++)
            good =
                (lists[k].at ? fprintf(file, "  %s\n", lists[k].at[i])
                             : fprintf(file, "  %s -> %s\n", r->remapped[i].from, r->remapped[i].to)) > 0 &&
                good;
    }
    return good ? FDL_OK : fdl_fail(FDL_E_IO, "fdl_migrate_report_print: the report can't be written");
}
