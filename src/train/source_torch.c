/* Zip files of torch.save: a pickle that describes a tree of dicts, and the bytes of its tensors' storages beside it. A
 * tensor's name is the path to it, joined by dots; numbers and texts of the tree become metadata. */
#include "pickle.h"
#include "zip.h"

#include "flodl/shape.h"

#include <inttypes.h>

enum { DEEPEST = 64, MOST_VISITS = 4000000, LONGEST_PATH = 4096, MOST_NAMES = 128 << 20 };

typedef struct torch_file {
    zip_file_in *zip;
    pickle pickle;
    char *folder;                  /* in the zip file, with its "/" */
    const pickle_tensor **tensors; /* of entry e: tensors[e.begin] */
    int n, room;
    bool big_endian;
} torch_file;

/* ---- reading a tensor ------------------------------------------------------------------------------- */

static char *storage_path(const source *s, const torch_file *f, const pickle_tensor *t)
{
    size_t n = strlen(f->folder) + strlen(t->storage) + sizeof "data/";
    char *path = malloc(n);
    if (!path)
        return fdl_fail_null(FDL_E_OOM, "'%s': no memory for its names", s->path);
    snprintf(path, n, "%sdata/%s", f->folder, t->storage);
    return path;
}

static void turn_bytes(unsigned char *at, size_t n, int size)
{
    for (size_t i = 0; i + (size_t)size <= n; i += (size_t)size)
        for (int k = 0; k < size / 2; k++) {
            unsigned char b = at[i + (size_t)k];
            at[i + (size_t)k] = at[i + (size_t)(size - 1 - k)];
            at[i + (size_t)(size - 1 - k)] = b;
        }
}

static int64_t storage_elements(const pickle_tensor *t, fdl_dtype dtype)
{
    return t->in_bytes ? t->elements / fdl_dtype_size(dtype) : t->elements;
}

static fdl_tensor *read_storage(const source *s, const torch_file *f, const source_entry *e,
                                const pickle_tensor *t)
{
    int64_t elements = storage_elements(t, e->dtype);
    int size = fdl_dtype_size(e->dtype);
    size_t n = (size_t)(t->in_bytes ? t->elements : t->elements * size);
    fdl_tensor *all = fdl_empty(FDL_SHAPE((int64_t)n / size), .dtype = e->dtype, .device = FDL_CPU);
    unsigned char *to = elements ? fdl_data_ptr(all) : NULL;
    if (!all || !elements)
        return all;
    char *path = to ? storage_path(s, f, t) : NULL;
    fdl_status status = path ? zip_in_read(f->zip, path, to, n) : fdl_error_pending();
    free(path);
    if (status != FDL_OK)
        return NULL;
    if (f->big_endian)
        turn_bytes(to, n, size);
    for (size_t i = 0; e->dtype == FDL_BOOL && i < n; i++)
        if (to[i] > 1)
            return source_bad_entry(s, e->name, "is of booleans, but has a byte that is neither 0 nor 1"),
                   NULL;
    return all;
}

static fdl_tensor *read_torch(const source *s, const source_entry *e)
{
    FDL_SCOPE;
    const torch_file *f = s->self;
    const pickle_tensor *t = f->tensors[e->begin];
    fdl_tensor *all = read_storage(s, f, e, t);
    if (!all)
        return NULL;
    if (source_tensor_bytes(s, e) == 0)
        FDL_RETURN(fdl_empty(e->shape, .dtype = e->dtype, .device = FDL_CPU));
    fdl_tensor *view = fdl_as_strided(all, t->shape, t->strides, t->offset);
    bool whole = t->offset == 0 && fdl_numel(view) == fdl_numel(all) && fdl_is_contiguous(view);
    FDL_RETURN(whole ? view : fdl_reshape(fdl_clone(fdl_reshape(view, FDL_SHAPE(-1))), e->shape));
}

static void close_torch(source *s)
{
    torch_file *f = s->self;
    zip_in_close(f->zip);
    pickle_free(&f->pickle);
    free(f->folder);
    free(f->tensors);
    free(f);
}

/* ---- the tree --------------------------------------------------------------------------------------- */

typedef struct walk {
    source *s;
    torch_file *f;
    char path[LONGEST_PATH];
    int visits;
    size_t names; /* bytes of all of them */
} walk;

static fdl_dtype dtype_of(const char *name)
{
    for (fdl_dtype d = 1; fdl_dtype_size(d); d++)
        if (strcmp(fdl_dtype_name(d), name) == 0)
            return d;
    return FDL_DTYPE_DEFAULT;
}

/* The last element lies inside the storage. */
static bool lies_inside(const pickle_tensor *t, int64_t elements)
{
    int64_t last = t->offset;
    for (int d = 0; d < t->shape.ndim; d++) {
        if (t->shape.d[d] == 0)
            return t->offset <= elements;
        int64_t steps = t->shape.d[d] - 1;
        if (steps && t->strides.d[d] > (INT64_MAX - last) / steps)
            return false;
        last += steps * t->strides.d[d];
    }
    return last < elements;
}

static fdl_status check_storage(const walk *w, const source_entry *e, const pickle_tensor *t)
{
    int64_t elements = storage_elements(t, e->dtype);
    int size = fdl_dtype_size(e->dtype);
    if (t->elements > INT64_MAX / 16 || (t->in_bytes && t->elements % size))
        return source_bad_entry(w->s, e->name, "has a storage that no memory can hold");
    if (!lies_inside(t, elements))
        return source_bad_entry(w->s, e->name, "doesn't lie inside its storage");
    if (!elements)
        return FDL_OK;
    char *path = storage_path(w->s, w->f, t);
    int64_t have = path ? zip_in_size(w->f->zip, path) : -1, need = elements * size;
    free(path);
    if (have < 0)
        return fdl_error_pending();
    return have == need
               ? FDL_OK
               : fdl_fail(FDL_E_FORMAT,
                          "'%s': entry \"%.200s\" has a storage of %" PRId64 " bytes, but needs %" PRId64,
                          w->s->path, e->name, have, need);
}

static fdl_status add_tensor(walk *w, const pickle_tensor *t)
{
    torch_file *f = w->f;
    if (f->n == f->room) {
        int room = f->room ? 2 * f->room : 64;
        const pickle_tensor **more = realloc(f->tensors, sizeof *more * (size_t)room);
        if (!more)
            return fdl_fail(FDL_E_OOM, "'%s': no memory for %d entries", w->s->path, room);
        f->tensors = more;
        f->room = room;
    }
    const char *name = source_text(w->s, w->path, strlen(w->path));
    source_entry *e = name ? source_add(w->s, name) : NULL;
    if (!e)
        return fdl_error_pending();
    e->begin = (uint64_t)f->n;
    f->tensors[f->n++] = t;
    e->dtype = dtype_of(t->dtype);
    e->shape = t->shape;
    if (e->dtype == FDL_DTYPE_DEFAULT)
        return fdl_fail(FDL_E_FORMAT, "'%s': entry \"%.200s\" is %s, a dtype that flodl doesn't have",
                        w->s->path, name, t->dtype);
    return source_tensor_bytes(w->s, e) < 0 ? fdl_error_pending() : check_storage(w, e, t);
}

static fdl_status add_text(walk *w, const pickle_value *v)
{
    char number[64];
    const char *text = v->kind == PICKLE_TEXT ? v->text : number;
    if (v->kind == PICKLE_INT)
        snprintf(number, sizeof number, "%" PRId64, v->i);
    else if (v->kind == PICKLE_FLOAT)
        snprintf(number, sizeof number, "%.17g", v->f);
    else if (v->kind == PICKLE_BOOL)
        snprintf(number, sizeof number, "%s", v->i ? "true" : "false");
    if (strncmp(w->path, "fdl.", 4) == 0) /* keys of flodl's own files */
        return FDL_OK;
    return json_object_set_new(w->s->metadata, w->path, json_string(text)) == 0
               ? FDL_OK
               : fdl_fail(FDL_E_OOM, "'%s': no memory for its metadata", w->s->path);
}

static fdl_status visit(walk *w, const pickle_value *v, size_t used, int depth);

/* v under one more piece of the path. */
static fdl_status visit_under(walk *w, const pickle_value *v, size_t used, int depth, const char *piece)
{
    size_t n = strlen(piece) + (used != 0);
    if (used + n >= LONGEST_PATH)
        return fdl_fail(FDL_E_FORMAT, "'%s': a name of its pickle is too long", w->s->path);
    memcpy(w->path + used, ".", 1);
    memcpy(w->path + used + (used != 0), piece, strlen(piece) + 1);
    FDL_TRY(visit(w, v, used + n, depth + 1));
    w->path[used] = '\0';
    return FDL_OK;
}

static fdl_status visit_all(walk *w, const pickle_value *v, size_t used, int depth)
{
    bool dict = v->kind == PICKLE_DICT;
    for (int i = 0; i < v->n; i += 1 + dict) {
        char number[32];
        const pickle_value *key = dict ? v->at[i] : NULL;
        if (key && key->kind != PICKLE_TEXT && key->kind != PICKLE_INT)
            return fdl_fail(
                FDL_E_FORMAT,
                "'%s': its pickle has a dict under \"%.200s\" with a key that is neither text nor "
                "number",
                w->s->path, w->path);
        snprintf(number, sizeof number, "%" PRId64, key && key->kind == PICKLE_INT ? key->i : (int64_t)i);
        FDL_TRY(visit_under(w, v->at[i + dict], used, depth,
                            key && key->kind == PICKLE_TEXT ? key->text : number));
    }
    return FDL_OK;
}

/* A pickle can hold itself, or one thing in a great many places. */
static fdl_status visit(walk *w, const pickle_value *v, size_t used, int depth)
{
    w->names += used;
    if (depth > DEEPEST || ++w->visits > MOST_VISITS || w->names > MOST_NAMES)
        return fdl_fail(FDL_E_FORMAT, "'%s': its pickle is nested too deep, or holds itself", w->s->path);
    switch (v->kind) {
    case PICKLE_DICT:
    case PICKLE_LIST:
    case PICKLE_TUPLE:
        return visit_all(w, v, used, depth);
    case PICKLE_TENSOR:
        return add_tensor(w, v->tensor);
    case PICKLE_TEXT:
    case PICKLE_INT:
    case PICKLE_FLOAT:
    case PICKLE_BOOL:
        return used ? add_text(w, v) : FDL_OK;
    case PICKLE_NONE:
    case PICKLE_GLOBAL:
    case PICKLE_STORAGE:
    case PICKLE_OTHER:
        break;
    }
    return FDL_OK;
}

/* ---- opening ---------------------------------------------------------------------------------------- */

static fdl_status read_entry(const source *s, zip_file_in *zip, const char *name, char **bytes, size_t *n)
{
    int64_t size = zip_in_size(zip, name);
    if (size < 0)
        return fdl_error_pending();
    if ((uint64_t)size > SOURCE_MAX_HEADER)
        return fdl_fail(FDL_E_FORMAT, "'%s': \"%.200s\" has %" PRId64 " bytes, which is too much", s->path,
                        name, size);
    *bytes = malloc((size_t)size + 1);
    if (!*bytes)
        return fdl_fail(FDL_E_OOM, "'%s': no memory for %" PRId64 " bytes", s->path, size);
    fdl_status status = zip_in_read(zip, name, *bytes, (size_t)size);
    (*bytes)[status == FDL_OK ? size : 0] = '\0';
    *n = (size_t)size;
    if (status != FDL_OK)
        free(*bytes);
    return status;
}

static fdl_status read_byte_order(const source *s, torch_file *f)
{
    const char *name = zip_in_find(f->zip, "/byteorder");
    char *text;
    size_t n;
    if (!name) /* written before 2.1, on whatever machine: nearly all are little-endian */
        return FDL_OK;
    FDL_TRY(read_entry(s, f->zip, name, &text, &n));
    f->big_endian = strcmp(text, "big") == 0;
    bool known = f->big_endian || strcmp(text, "little") == 0;
    free(text);
    return known ? FDL_OK
                 : fdl_fail(FDL_E_FORMAT, "'%s' has a byte order that is neither little nor big", s->path);
}

static fdl_status read_pickle(source *s, torch_file *f)
{
    const char *name = zip_in_find(f->zip, "/data.pkl");
    char *bytes;
    size_t n;
    if (!name)
        return fdl_fail(FDL_E_FORMAT,
                        "'%s' is not a checkpoint: a zip file without a data.pkl, as torch.save writes it",
                        s->path);
    size_t folder = strlen(name) - strlen("data.pkl");
    f->folder = malloc(folder + 1);
    if (!f->folder)
        return fdl_fail(FDL_E_OOM, "'%s': no memory for its names", s->path);
    memcpy(f->folder, name, folder);
    f->folder[folder] = '\0';
    FDL_TRY(read_entry(s, f->zip, name, &bytes, &n));
    fdl_status status = pickle_read(&f->pickle, s, (const unsigned char *)bytes, n);
    free(bytes);
    return status;
}

static fdl_status walk_pickle(source *s, torch_file *f)
{
    walk *w = calloc(1, sizeof *w);
    if (!w)
        return fdl_fail(FDL_E_OOM, "'%s': no memory for its names", s->path);
    w->s = s;
    w->f = f;
    /* A tensor saved alone has no name of its own. */
    fdl_status status = f->pickle.root->kind == PICKLE_TENSOR ? visit_under(w, f->pickle.root, 0, 0, "tensor")
                                                              : visit(w, f->pickle.root, 0, 0);
    free(w);
    return status == FDL_OK ? source_done(s) : status;
}

fdl_status torch_open(source *s)
{
    static const source_type type = {.read = read_torch, .close = close_torch};
    torch_file *f = calloc(1, sizeof *f);
    if (!f)
        return fdl_fail(FDL_E_OOM, "'%s': no memory to open it", s->path);
    s->self = f;
    s->type = &type;
    s->metadata = json_object();
    f->zip = zip_in_open(s);
    if (!f->zip)
        return fdl_error_pending();
    FDL_TRY(read_byte_order(s, f));
    FDL_TRY(read_pickle(s, f));
    return walk_pickle(s, f);
}
