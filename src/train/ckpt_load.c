/* Loading checkpoints: whether the file's tensors may go into the module, and the report. */
#include "ckpt_private.h"

enum { LOADED, MISSING, SKIPPED, CAST, MISMATCHED, LISTS };
static const char *const list_names[] = {"loaded", "missing", "skipped", "cast", "mismatched"};

typedef struct load {
    const fdl_ckpt_load_opts *o;
    source file;
    ckpt_view view;
    ckpt_contents c;
    ckpt_names lists[LISTS];
} load;

static bool is_old(const load *l)
{
    return l->file.version == 1 || l->file.version == 2;
}

/* ---- what would be done ---------------------------------------------------------------------------- */

static fdl_status note_all(load *l)
{
    for (int i = 0; i < l->c.n; i++) {
        const ckpt_item *it = &l->c.items[i];
        FDL_TRY(ckpt_note(&l->lists[it->fits ? LOADED : it->entry ? MISMATCHED : MISSING], it->name));
        if (it->fits && it->entry->dtype != fdl_dtype_of(fdl_param_tensor(it->p)))
            FDL_TRY(ckpt_note(&l->lists[CAST], it->name));
    }
    for (int i = 0; i < l->view.n; i++) {
        const ckpt_entry *e = &l->view.at[i];
        for (int k = 0; k < e->parts && !e->used && !e->alias; k++)
            FDL_TRY(ckpt_note(&l->lists[SKIPPED], e->part[k]->name));
    }
    return FDL_OK;
}

/* ---- whether it may be ----------------------------------------------------------------------------- */

/* "a, b and 3 more" */
static void list_text(const ckpt_names *list, int most, char *buf, size_t n)
{
    size_t used = 0;
    buf[0] = '\0';
    for (int i = 0; i < list->n && i < most && used < n; i++)
        used += (size_t)snprintf(buf + used, n - used, "%s%s", i ? ", " : "", list->at[i]);
    if (list->n > most && used < n)
        snprintf(buf + used, n - used, " and %d more", list->n - most);
}

static const ckpt_item *first_misfit(const load *l)
{
    for (int i = 0; i < l->c.n; i++)
        if (l->c.items[i].entry && !l->c.items[i].fits)
            return &l->c.items[i];
    return NULL;
}

/* What differs, for the error of differing hashes. */
static void difference(const load *l, char *buf, size_t n)
{
    const ckpt_item *it = first_misfit(l);
    char a[256], b[256];
    size_t used = 0;
    buf[0] = '\0';
    if (it)
        used += (size_t)snprintf(buf, n, "; \"%.200s\" is %s in the file and %s in the model", it->name,
                                 ckpt_shape_text(it->entry->shape, a, sizeof a),
                                 ckpt_shape_text(fdl_shape_of(fdl_param_tensor(it->p)), b, sizeof b));
    for (int k = 0; k < 2; k++) {
        const ckpt_names *list = &l->lists[k ? SKIPPED : MISSING];
        if (!list->n || used >= n)
            continue;
        list_text(list, 3, a, sizeof a);
        used += (size_t)snprintf(buf + used, n - used, "; only the %s has %s", k ? "file" : "model", a);
    }
    if (!used)
        snprintf(buf, n, "; names and shapes are equal, but not kinds, wiring or tags");
}

static fdl_status check_hash(const load *l, fdl_module *m)
{
    const fdl_ckpt_load_opts *o = l->o;
    if (!l->file.hash[0] || !fdl_module_is_graph(m) || o->partial || o->ignore_hash || o->prefix || o->rename)
        return FDL_OK;
    const char *own = is_old(l) ? fdl_graph_legacy_hash(m) : fdl_graph_hash(m);
    if (!own)
        return fdl_error_pending();
    if (strcmp(own, l->file.hash) == 0)
        return FDL_OK;
    char text[1024];
    difference(l, text, sizeof text);
    return fdl_fail(
        FDL_E_MISMATCH,
        "architecture differs: file %.8s\u2026, model %.8s\u2026%s; .ignore_hash goes by names and shapes",
        l->file.hash, own, text);
}

/* Versions 1 and 2 don't count batches, and PyTorch takes state_dicts from before it did. */
static bool may_lack(const load *l, const char *name)
{
    static const char counter[] = "num_batches_tracked";
    size_t n = strlen(name), k = sizeof counter - 1;
    return l->file.version < 3 && n >= k && strcmp(name + n - k, counter) == 0;
}

/* " (its keys begin with "model.": .prefix = "model.")", where that would help; else "". */
static const char *prefix_hint(const load *l, char *buf, size_t n)
{
    buf[0] = '\0';
    if (l->lists[LOADED].n || l->lists[MISMATCHED].n || !l->c.n || l->o->prefix)
        return buf;
    const char *key = l->c.items[0].key, *names[2] = {key, l->c.items[0].sequential};
    for (int i = 0; i < l->view.n; i++)
        for (int k = 0; k < 2; k++) {
            const char *name = l->view.at[i].name;
            size_t whole = strlen(name), end = strlen(names[k]);
            if (whole <= end + 1 || name[whole - end - 1] != '.' || strcmp(name + whole - end, names[k]) != 0)
                continue;
            int begin = (int)(whole - end);
            snprintf(buf, n, "; its keys begin with \"%.*s\": .prefix = \"%.*s\" takes that off", begin, name,
                     begin, name);
            return buf;
        }
    return buf;
}

static fdl_status check_names(const load *l)
{
    ckpt_names lacking = {0};
    fdl_status status = FDL_OK;
    for (int i = 0; i < l->lists[MISSING].n && status == FDL_OK; i++)
        if (!may_lack(l, l->lists[MISSING].at[i]))
            status = ckpt_note(&lacking, l->lists[MISSING].at[i]);
    int missing = lacking.n, skipped = l->o->allow_unexpected ? 0 : l->lists[SKIPPED].n;
    if (status == FDL_OK && (missing || skipped)) {
        char a[1024] = "", b[1024] = "", hint[512];
        list_text(&lacking, 20, a, sizeof a);
        if (skipped)
            list_text(&l->lists[SKIPPED], 20, b, sizeof b);
        status =
            fdl_fail(FDL_E_MISMATCH, "the file%s%s%s%s%s%s%s", missing ? " lacks " : "", a,
                     missing && skipped ? "; it" : "", skipped ? " has, and the module doesn't, " : "", b,
                     missing && skipped ? "; .rename = FDL_RENAMES({\"theirs\", \"ours\"}) where one is the "
                                          "other's, .partial keeps what is missing"
                     : missing          ? "; .partial keeps what is missing"
                                        : "; .allow_unexpected leaves it out",
                     prefix_hint(l, hint, sizeof hint));
    }
    ckpt_names_free(&lacking);
    return status;
}

static fdl_status check(const load *l, fdl_module *m)
{
    FDL_TRY(check_hash(l, m));
    const ckpt_item *it = l->o->allow_mismatched ? NULL : first_misfit(l);
    if (it)
        return ckpt_misfit(it);
    return l->o->partial ? FDL_OK : check_names(l);
}

static fdl_status run(load *l, fdl_module *m)
{
    FDL_SCOPE;
    FDL_TRY(ckpt_contents_of(&l->c, m));
    if (is_old(l))
        FDL_TRY(ckpt_legacy_names(&l->c, m));
    FDL_TRY(ckpt_view_of(&l->view, &l->file, l->o->prefix, l->o->rename, l->c.n));
    FDL_TRY(ckpt_match(&l->c, &l->view, false));
    FDL_TRY(note_all(l));
    fdl_status status = check(l, m);
    ckpt_change *training = status == FDL_OK ? ckpt_change_new(&l->file, m, l->o) : NULL;
    if (training) {
        status = ckpt_copy(&l->c, &l->view);
        if (status == FDL_OK)
            status = ckpt_change_apply(training);
        ckpt_change_free(training);
        return status;
    }
    fdl_error_prefix("'%s': ", l->file.path);
    return fdl_error_pending();
}

/* ---- the report ------------------------------------------------------------------------------------ */

static fdl_status report(const load *l, fdl_load_report *r)
{
    const char *const *lists[LISTS];
    for (int k = 0; k < LISTS; k++)
        if (!(lists[k] = ckpt_names_in_scope(&l->lists[k])))
            return fdl_error_pending();
    *r = (fdl_load_report){.n_loaded = l->lists[LOADED].n,
                           .n_missing = l->lists[MISSING].n,
                           .n_skipped = l->lists[SKIPPED].n,
                           .n_cast = l->lists[CAST].n,
                           .n_mismatched = l->lists[MISMATCHED].n,
                           .loaded = lists[LOADED],
                           .missing = lists[MISSING],
                           .skipped = lists[SKIPPED],
                           .cast = lists[CAST],
                           .mismatched = lists[MISMATCHED]};
    return FDL_OK;
}

/* The file is open, or status says why not. */
static fdl_status load_open(load *l, fdl_module *m, fdl_status status)
{
    if (status == FDL_OK) {
        if (l->o->at)
            m = fdl_graph_subgraph(m, l->o->at);
        status = m ? run(l, m) : fdl_error_pending();
        if (l->o->report) {
            fdl_status reported = report(l, l->o->report);
            status = status == FDL_OK ? reported : status;
        }
        source_close(&l->file);
    }
    ckpt_view_end(&l->view);
    for (int k = 0; k < LISTS; k++)
        ckpt_names_free(&l->lists[k]);
    return status;
}

static void begin(load *l, const fdl_ckpt_load_opts *opts)
{
    static const fdl_ckpt_load_opts none = {0};
    *l = (load){.o = opts ? opts : &none};
    if (l->o->report)
        *l->o->report = (fdl_load_report){0};
}

fdl_status fdl_ckpt_load_opt(fdl_module *m, const char *path, const fdl_ckpt_load_opts *opts)
{
    load l;
    begin(&l, opts);
    if (!m || !path)
        return fdl_null_operand("fdl_ckpt_load", m ? "path" : "m");
    fdl_status status = load_open(&l, m, source_open(&l.file, path));
    if (status != FDL_OK)
        fdl_error_prefix("fdl_ckpt_load: ");
    return status;
}

fdl_status fdl_ckpt_load_optim(fdl_optim *o, const char *path)
{
    if (!o || !path)
        return fdl_null_operand(__func__, o ? "path" : "o");
    FDL_SCOPE;
    source file;
    fdl_status status = source_open(&file, path);
    if (status == FDL_OK) {
        ckpt_change *c = ckpt_change_new(&file, NULL, &(fdl_ckpt_load_opts){.optim = o});
        if (c)
            status = ckpt_change_apply(c);
        else {
            fdl_error_prefix("'%s': ", path);
            status = fdl_error_pending();
        }
        ckpt_change_free(c);
        source_close(&file);
    }
    if (status != FDL_OK)
        fdl_error_prefix("fdl_ckpt_load_optim: ");
    return status;
}

fdl_status fdl_ckpt_load_from_opt(fdl_module *m, fdl_reader from, const fdl_ckpt_load_opts *opts)
{
    load l;
    begin(&l, opts);
    if (!m || !from.read)
        return fdl_null_operand("fdl_ckpt_load_from", m ? "from.read" : "m");
    fdl_status status = load_open(&l, m, source_open_reader(&l.file, &from));
    if (status != FDL_OK)
        fdl_error_prefix("fdl_ckpt_load_from: ");
    return status;
}

fdl_status fdl_load_report_print(const fdl_load_report *r, FILE *file)
{
    if (!r || !file)
        return fdl_null_operand("fdl_load_report_print", r ? "file" : "report");
    const int n[LISTS] = {r->n_loaded, r->n_missing, r->n_skipped, r->n_cast, r->n_mismatched};
    const char *const *const at[LISTS] = {r->loaded, r->missing, r->skipped, r->cast, r->mismatched};
    bool good = true;
    for (int k = 0; k < LISTS; k++) {
        if (n[k])
            good = fprintf(file, "%s (%d)\n", list_names[k], n[k]) > 0 && good;
        for (int i = 0; i < n[k]; i++)
            good = fprintf(file, "  %s\n", at[k][i]) > 0 && good;
    }
    return good ? FDL_OK : fdl_fail(FDL_E_IO, "fdl_load_report_print: the report can't be written");
}
