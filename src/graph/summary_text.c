/* A summary as a table. */
#include "flodl/summary.h"
#include "flodl/text.h"

#include <inttypes.h>

enum { columns = 6, most_name = 40 };

/* "1,234,567" */
static char *grouped(double x, char *buf, size_t size)
{
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%.0f", x), at = 0;
    for (int i = 0; i < n && at + 2 < (int)size; i++) {
        if (i && (n - i) % 3 == 0)
            buf[at++] = ',';
        buf[at++] = digits[i];
    }
    buf[at] = 0;
    return buf;
}

/* "[N, 16, 32, 32]" */
static char *shape_text(const fdl_shape *shape, char *buf, size_t size)
{
    size_t used = (size_t)snprintf(buf, size, "[");
    for (int i = 0; i < shape->ndim && used < size; i++) {
        const char *comma = i ? ", " : "";
        used +=
            (size_t)(shape->d[i] == -1 ? snprintf(buf + used, size - used, "%sN", comma)
                                       : snprintf(buf + used, size - used, "%s%" PRId64, comma, shape->d[i]));
    }
    if (used < size)
        snprintf(buf + used, size - used, "]");
    return buf;
}

typedef struct cells {
    char at[columns][320];
} cells;

static void make_cells(const fdl_summary_row *r, cells *c)
{
    *c = (cells){0};
    char calls[32] = "";
    if (r->calls > 1)
        snprintf(calls, sizeof calls, " x%d", r->calls);
    snprintf(c->at[0], sizeof c->at[0], "%*s%.*s%s%.*s%s%s", 2 * (r->depth - 1), "", most_name, r->name,
             r->tag ? " #" : "", most_name, r->tag ? r->tag : "", calls, r->shared ? " (shared)" : "");
    snprintf(c->at[1], sizeof c->at[1], "%.64s", r->kind);
    if (r->calls)
        shape_text(&r->shape, c->at[2], sizeof c->at[2]);
    if (r->params)
        grouped((double)r->params, c->at[3], sizeof c->at[3]);
    if (r->multiply_adds > 0)
        grouped(r->multiply_adds, c->at[4], sizeof c->at[4]);
    if (r->bytes)
        fdl_format_bytes(r->bytes, c->at[5], sizeof c->at[5]);
}

/* Characters, not bytes: a tag may be in any script. */
static int width_of(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void put_cells(FILE *f, const cells *c, const int *width)
{
    int end = columns;
    while (end > 1 && !c->at[end - 1][0])
        end--;
    for (int k = 0; k < end; k++) {
        int gap = width[k] - width_of(c->at[k]);
        bool right = k > 2;
        fprintf(f, "%s%*s%s%*s", k ? "  " : "", right ? gap : 0, "", c->at[k],
                right || k == end - 1 ? 0 : gap, "");
    }
    fputc('\n', f);
}

static void put_totals(FILE *f, const fdl_summary *s)
{
    char a[64], b[64], shape[320];
    const char *each = s->batch ? " for each row of the batch" : "";
    fprintf(f, "output         %s %s\n", shape_text(&s->output, shape, sizeof shape),
            fdl_dtype_name(s->output_dtype));
    fprintf(f, "parameters     %s, %s of them trained, %s", grouped((double)s->params, a, sizeof a),
            grouped((double)s->trainable, b, sizeof b),
            fdl_format_bytes(s->param_bytes, shape, sizeof shape));
    if (s->buffer_bytes)
        fprintf(f, ", and buffers of %s", fdl_format_bytes(s->buffer_bytes, a, sizeof a));
    fprintf(f, "\nmultiply-adds  %s%s\n", grouped(s->multiply_adds, a, sizeof a), each);
    fprintf(f, "results        %s%s\n", fdl_format_bytes(s->bytes, a, sizeof a), each);
}

char *fdl_summary_text(const fdl_summary *s)
{
    static const cells head = {{"node", "kind", "output", "parameters", "multiply-adds", "results"}};
    if (!s) {
        fdl_null_operand(__func__, "s");
        return NULL;
    }
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return fdl_fail_null(FDL_E_OOM, "%s: no memory", __func__);
    int width[columns], line = 2 * (columns - 1);
    cells c;
    for (int k = 0; k < columns; k++)
        width[k] = width_of(head.at[k]);
    for (int i = 0; i < s->n; i++) {
        make_cells(&s->row[i], &c);
        for (int k = 0; k < columns; k++)
            if (width_of(c.at[k]) > width[k])
                width[k] = width_of(c.at[k]);
    }
    for (int k = 0; k < columns; k++)
        line += width[k];
    put_cells(f, &head, width);
    for (int i = 0; i < line; i++)
        fputc('-', f);
    fputc('\n', f);
    for (int i = 0; i < s->n; i++) {
        make_cells(&s->row[i], &c);
        put_cells(f, &c, width);
    }
    for (int i = 0; i < line; i++)
        fputc('-', f);
    fputc('\n', f);
    put_totals(f, s);
    bool bad = ferror(f) != 0;
    bad |= fclose(f) != 0;
    if (!bad)
        return text;
    free(text);
    return fdl_fail_null(FDL_E_OOM, "%s: no memory", __func__);
}
