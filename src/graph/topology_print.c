/* JSON as people want to read it: what fits on a line stands on one. jansson itself breaks either every list or none, and
 * prints doubles with digits that nobody wrote. */
#include "graph_private.h"
#include "stock.h"

#include <math.h>

enum { line_width = 110 };

typedef struct text {
    char *at;
    size_t n, room;
    bool failed;
} text;

static void put(text *t, const char *s, size_t n)
{
    if (t->failed)
        return;
    if (t->n + n + 1 > t->room) {
        size_t room = 2 * t->room + n + 256;
        char *more = realloc(t->at, room);
        if (!more) {
            t->failed = true;
            return;
        }
        t->at = more;
        t->room = room;
    }
    memcpy(t->at + t->n, s, n);
    t->n += n;
    t->at[t->n] = 0;
}

static void puts_to(text *t, const char *s)
{
    put(t, s, strlen(s));
}

/* The shortest decimal number that is read as this one. */
static void put_real(text *t, const json_t *v)
{
    for (size_t digits = 15; digits <= 17; digits++) {
        char *s = json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits));
        json_t *back = s ? json_loads(s, JSON_DECODE_ANY, NULL) : NULL;
        bool same = back && (digits == 17 || json_real_value(back) == json_real_value(v));
        if (same)
            puts_to(t, s);
        t->failed |= !back;
        json_decref(back);
        free(s);
        if (same || t->failed)
            return;
    }
}

static void put_scalar(text *t, const json_t *v)
{
    char *s = json_is_real(v) ? NULL : json_dumps(v, JSON_ENCODE_ANY);
    if (s)
        puts_to(t, s);
    else if (json_is_real(v))
        put_real(t, v);
    else
        t->failed = true;
    free(s);
}

static void put_value(text *t, const json_t *v, int indent);

static void put_break(text *t, int indent)
{
    puts_to(t, "\n");
    for (int i = 0; i < indent; i++)
        puts_to(t, "  ");
}

/* All of it on one line (indent < 0), or each element on its own. */
static void put_elements(text *t, const json_t *v, int indent)
{
    bool object = json_is_object(v), first = true;
    int inside = indent < 0 ? -1 : indent + 1;
    puts_to(t, object ? "{" : "[");
    if (object) {
        const char *key;
        json_t *x;
        json_object_foreach((json_t *)v, key, x)
        {
            puts_to(t, first ? "" : indent < 0 ? ", " : ",");
            first = false;
            if (indent >= 0)
                put_break(t, inside);
            json_t *name = json_string(key);
            put_scalar(t, name);
            json_decref(name);
            puts_to(t, ": ");
            put_value(t, x, inside);
        }
    } else {
        for (size_t i = 0; i < json_array_size(v); i++) {
            puts_to(t, i == 0 ? "" : indent < 0 ? ", " : ",");
            if (indent >= 0)
                put_break(t, inside);
            put_value(t, json_array_get(v, i), inside);
        }
    }
    if (indent >= 0)
        put_break(t, indent);
    puts_to(t, object ? "}" : "]");
}

/* Whether it has little enough in it to be tried on one line. */
static bool is_small(const json_t *v, int *left)
{
    const char *key;
    json_t *x;
    if (--*left < 0)
        return false;
    if (json_is_object(v)) {
        json_object_foreach((json_t *)v, key, x) if (!is_small(x, left)) return false;
    }
    for (size_t i = 0; json_is_array(v) && i < json_array_size(v); i++)
        if (!is_small(json_array_get(v, i), left))
            return false;
    return true;
}

static void put_value(text *t, const json_t *v, int indent)
{
    if (!json_is_object(v) && !json_is_array(v)) {
        put_scalar(t, v);
        return;
    }
    if (indent < 0) {
        put_elements(t, v, -1);
        return;
    }
    int left = line_width / 3;
    if (is_small(v, &left)) {
        text line = {0};
        put_elements(&line, v, -1);
        bool fits = !line.failed && line.n + 2 * (size_t)indent <= line_width;
        if (fits)
            put(t, line.at, line.n);
        t->failed |= line.failed;
        free(line.at);
        if (fits)
            return;
    }
    put_elements(t, v, indent);
}

char *topology_print(const json_t *root)
{
    text t = {0};
    put_elements(&t, root, 0);
    puts_to(&t, "\n");
    if (!t.failed)
        return t.at;
    free(t.at);
    return fdl_fail_null(FDL_E_OOM, "no memory for the text of a topology");
}
