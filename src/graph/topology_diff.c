/* What differs between two topologies. */
#include "graph_private.h"
#include "stock.h"

static void put_line(FILE *f, const char *mark, const place *where, const json_t *x)
{
    char text[512];
    char *value = json_dumps(x, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    fprintf(f, "%s %s %s\n", mark, place_text(where, text, sizeof text), value ? value : "?");
    free(value);
}

static void compare(FILE *f, const place *where, const json_t *a, const json_t *b);

static void compare_objects(FILE *f, const place *where, json_t *a, json_t *b)
{
    const char *key;
    json_t *x;
    json_object_foreach(a, key, x)
    {
        place field = {.outer = where, .name = key};
        if (json_object_get(b, key))
            compare(f, &field, x, json_object_get(b, key));
        else
            put_line(f, "-", &field, x);
    }
    json_object_foreach(b, key, x)
    {
        place field = {.outer = where, .name = key};
        if (!json_object_get(a, key))
            put_line(f, "+", &field, x);
    }
}

/* What both begin and end with is left out; what lies between stands against each other where it is as long. */
static void compare_lists(FILE *f, const place *where, const json_t *a, const json_t *b)
{
    size_t n = json_array_size(a), m = json_array_size(b), from = 0, behind = 0;
    while (from < n && from < m && json_equal(json_array_get(a, from), json_array_get(b, from)))
        from++;
    while (behind < n - from && behind < m - from &&
           json_equal(json_array_get(a, n - 1 - behind), json_array_get(b, m - 1 - behind)))
        behind++;
    bool in_pairs = n == m;
    for (size_t i = from; i < n - behind; i++) {
        place element = {.outer = where, .i = (int)i};
        if (in_pairs)
            compare(f, &element, json_array_get(a, i), json_array_get(b, i));
        else
            put_line(f, "-", &element, json_array_get(a, i));
    }
    for (size_t i = from; !in_pairs && i < m - behind; i++) {
        place element = {.outer = where, .i = (int)i};
        put_line(f, "+", &element, json_array_get(b, i));
    }
}

static bool same_kind(const json_t *a, const json_t *b)
{
    const json_t *x = json_object_get(a, "kind"), *y = json_object_get(b, "kind");
    return (!x && !y) || (x && y && json_equal(x, y));
}

static void compare(FILE *f, const place *where, const json_t *a, const json_t *b)
{
    if (json_equal(a, b))
        return;
    if (json_is_object(a) && json_is_object(b) && same_kind(a, b)) {
        compare_objects(f, where, (json_t *)(uintptr_t)a, (json_t *)(uintptr_t)b);
    } else if (json_is_array(a) && json_is_array(b)) {
        compare_lists(f, where, a, b);
    } else if (json_is_object(a) || json_is_object(b)) {
        put_line(f, "-", where, a);
        put_line(f, "+", where, b);
    } else {
        char text[512];
        char *x = json_dumps(a, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
        char *y = json_dumps(b, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
        fprintf(f, "%s: %s, %s\n", place_text(where, text, sizeof text), x ? x : "?", y ? y : "?");
        free(x);
        free(y);
    }
}

char *fdl_topology_diff_opt(fdl_module *a, fdl_module *b, const fdl_topology_opts *opts)
{
    if (!a || !b) {
        fdl_null_operand("fdl_topology_diff", a ? "b" : "a");
        return NULL;
    }
    if (module_refusal(a) || module_refusal(b))
        return fdl_fail_null(FDL_E_ARG, "fdl_topology_diff: %s",
                             module_refusal(a) ? module_refusal(a) : module_refusal(b));
    char *text = NULL;
    size_t size = 0;
    json_t *x = topology_tree(a, opts), *y = x ? topology_tree(b, opts) : NULL;
    FILE *f = y ? open_memstream(&text, &size) : NULL;
    if (f) {
        compare_objects(f, NULL, x, y);
        bool bad = ferror(f) != 0;
        bad |= fclose(f) != 0;
        if (bad) {
            free(text);
            text = NULL;
        }
    }
    if (y && !text)
        fdl_fail(FDL_E_OOM, "fdl_topology_diff: no memory");
    json_decref(x);
    json_decref(y);
    return text;
}
