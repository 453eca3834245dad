/* What a batch tells: its tensors by position and by name. */
#include "data_private.h"

fdl_tensor *fdl_data_at(fdl_batch *b, int i)
{
    if (!b) {
        fdl_null_operand("fdl_data_at", "b");
        return NULL;
    }
    if (i < 0 || i >= b->loader->arity)
        return fdl_fail_null(FDL_E_RANGE, "batch: position %d; there are %d, counted from 0", i,
                             b->loader->arity);
    return b->at[i];
}

/* Edits (insert, delete, replace, swap of neighbours) between two short names: the optimal string alignment.
 */
static int distance(const char *a, const char *b)
{
    enum { LONGEST = 40 };
    int row[3][LONGEST + 1];
    int n = (int)strnlen(a, LONGEST), m = (int)strnlen(b, LONGEST);
    for (int j = 0; j <= m; j++)
        row[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = row[i % 3], *above = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = above[j - 1] + (a[i - 1] != b[j - 1]);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[n % 3][m];
}

/* The name that was probably meant, or NULL. */
static const char *nearest(const fdl_loader *dl, const char *name)
{
    const char *found = NULL;
    int best = (int)strnlen(name, 40) / 3 + 1;
    for (int i = 0; i < dl->arity; i++) {
        int d = distance(name, dl->names[i]);
        if (d <= best) {
            best = d - 1;
            found = dl->names[i];
        }
    }
    return found;
}

static int position(const fdl_loader *dl, const char *name)
{
    for (int i = 0; i < dl->arity; i++)
        if (strcmp(dl->names[i], name) == 0)
            return i;
    return -1;
}

fdl_tensor *fdl_data_named(fdl_batch *b, const char *name)
{
    if (!b || !name) {
        fdl_null_operand("fdl_data_named", b ? "name" : "b");
        return NULL;
    }
    const fdl_loader *dl = b->loader;
    int p = position(dl, name);
    if (p >= 0)
        return b->at[p];
    char names[512] = "";
    size_t used = 0;
    for (int i = 0; i < dl->arity && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, i ? ", %s" : "%s", dl->names[i]);
    const char *meant = nearest(dl, name);
    return fdl_fail_null(FDL_E_ARG, "batch: no position \"%s\"; there are: %s%s%s%s", name, names,
                         meant ? " (did you mean \"" : "", meant ? meant : "", meant ? "\"?)" : "");
}

bool fdl_data_has(const fdl_batch *b, const char *name)
{
    return b && name && position(b->loader, name) >= 0;
}

fdl_list fdl_data_list(fdl_batch *b)
{
    if (!b)
        fdl_null_operand("fdl_data_list", "b");
    return b ? (fdl_list){b->loader->arity, b->at} : (fdl_list){0, NULL};
}

int fdl_data_arity_of(const fdl_batch *b)
{
    if (!b)
        fdl_null_operand("fdl_data_arity_of", "b");
    return b ? b->loader->arity : -1;
}

int64_t fdl_data_rows(const fdl_batch *b)
{
    if (!b)
        fdl_null_operand("fdl_data_rows", "b");
    return b ? b->rows : -1;
}

const char *fdl_data_name_at(const fdl_batch *b, int i)
{
    if (!b) {
        fdl_null_operand("fdl_data_name_at", "b");
        return NULL;
    }
    return fdl_data_loader_name(b->loader, i);
}

const int64_t *fdl_data_indices(const fdl_batch *b)
{
    if (!b)
        fdl_null_operand("fdl_data_indices", "b");
    return b ? b->indices : NULL;
}
