/* What modules say about how they were made. */
#include "flodl/kind.h"

#include "module_private.h"

/* The struct and the texts that its fields point to lie in one block: the struct, arrays of texts, characters. */
static size_t rounded(size_t n)
{
    return (n + 15) & ~(size_t)15;
}

static size_t texts_size(const fdl_texts *list)
{
    size_t size = rounded(sizeof *list->at * (size_t)list->n);
    for (int i = 0; i < list->n; i++)
        size += rounded(strlen(list->at[i]) + 1);
    return size;
}

static char *put_text(char **end, const char *text)
{
    char *copy = *end;
    memcpy(copy, text, strlen(text) + 1);
    *end += rounded(strlen(text) + 1);
    return copy;
}

static void put_texts(char **end, fdl_texts *list)
{
    const char **at = (const char **)(void *)*end;
    *end += rounded(sizeof *at * (size_t)list->n);
    for (int i = 0; i < list->n; i++)
        at[i] = put_text(end, list->at[i]);
    list->at = at;
}

/* What the block needs. Fields that are modules are forgotten: children are found by their names. */
static size_t block_size(const fdl_kind *kind, const char *args)
{
    size_t size = rounded(kind->size);
    for (const fdl_field *f = kind->fields; f && f->type; f++) {
        const void *at = args + f->offset;
        if (f->type == FDL_FIELD_TEXT && *(const char *const *)at)
            size += rounded(strlen(*(const char *const *)at) + 1);
        else if (f->type == FDL_FIELD_TEXTS)
            size += texts_size(at);
    }
    return size;
}

static void fill_block(const fdl_kind *kind, char *block)
{
    char *end = block + rounded(kind->size);
    for (const fdl_field *f = kind->fields; f && f->type; f++) {
        void *at = block + f->offset;
        if (f->type == FDL_FIELD_TEXT && *(const char **)at)
            *(const char **)at = put_text(&end, *(const char **)at);
        else if (f->type == FDL_FIELD_TEXTS)
            put_texts(&end, at);
        else if (f->type == FDL_FIELD_MODULE)
            *(fdl_module **)at = NULL;
        else if (f->type == FDL_FIELD_MODULES)
            *(fdl_modules *)at = (fdl_modules){0};
    }
}

/* Files use these names themselves. */
static bool is_taken(const char *name)
{
    return strcmp(name, "kind") == 0 || strcmp(name, "id") == 0 || strcmp(name, "share") == 0;
}

fdl_status fdl_module_describe(fdl_module *m, const fdl_kind *kind, const void *args)
{
    if (!m || !kind || (kind->size && !args))
        return fdl_null_operand(__func__, !m ? "m" : !kind ? "kind" : "args");
    m = m->real;
    for (const fdl_field *f = kind->fields; f && f->type; f++)
        if (is_taken(f->name)) {
            m->failed = true;
            return fdl_fail(FDL_E_ARG, "%s: files use the name \"%s\" themselves; a field needs another",
                            kind->name, f->name);
        }
    char *block = NULL;
    if (kind->size) {
        block = calloc(1, block_size(kind, args));
        if (!block) {
            m->failed = true;
            return fdl_fail(FDL_E_OOM, "%s: no memory for its description", kind->name);
        }
        memcpy(block, args, kind->size);
        fill_block(kind, block);
    }
    free(m->args);
    m->kind = kind;
    m->args = block;
    return FDL_OK;
}

const fdl_kind *fdl_module_description(fdl_module *m, const void **args)
{
    if (!m)
        fdl_null_operand(__func__, "m");
    if (args)
        *args = m ? m->real->args : NULL;
    return m ? m->real->kind : NULL;
}

fdl_module *module_field_child(fdl_module *m, const fdl_field *f, int i)
{
    char name[128];
    const char *base = f->child ? f->child : f->name;
    if (f->type == FDL_FIELD_MODULES)
        snprintf(name, sizeof name, "%s%s%d", base, *base ? "_" : "", i);
    else
        snprintf(name, sizeof name, "%s", i ? "" : base);
    for (int k = 0; k < m->children.n; k++)
        if (strcmp(m->children.names[k], name) == 0)
            return m->children.at[k];
    return NULL;
}
