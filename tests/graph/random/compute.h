/* Of test_random.c: computes what was drawn by hand. */
#ifndef FLODL_TESTS_GRAPH_RANDOM_COMPUTE_H
#define FLODL_TESTS_GRAPH_RANDOM_COMPUTE_H

#include "graph/random/build.h"

/* ---- computing them by hand --------------------------------------------------------------------------------------- */

static matrix op_value(op *o, matrix x, int n, const matrix *refs)
{
    matrix y = x;
    switch (o->kind) {
    case OP_HALF:
        y = scaled(y, 0.5);
        for (int i = 0; i < y.rows * y.cols; i++)
            y.at[i].v += 1;
        break;
    case OP_SINE:
        for (int i = 0; i < y.rows * y.cols; i++)
            y.at[i] = (dual){sin(x.at[i].v), cos(x.at[i].v) * x.at[i].d};
        break;
    case OP_SCALED:
        y = times(y, o->parameter);
        break;
    case OP_CENTRE:
        for (int c = 0; c < y.cols; c++) {
            matrix column = {.rows = x.rows, .cols = 1};
            for (int r = 0; r < x.rows; r++)
                column.at[r] = x.at[r * x.cols + c];
            dual m = mean_of(&column);
            for (int r = 0; r < x.rows; r++)
                y.at[r * x.cols + c] = (dual){column.at[r].v - 0.5 * m.v, column.at[r].d - 0.5 * m.d};
        }
        break;
    case OP_FLIP:
        for (int r = 0; r < y.rows; r++)
            for (int c = 0; c < y.cols; c++) {
                dual other = x.at[r * x.cols + x.cols - 1 - c];
                y.at[r * x.cols + c].v += 0.25 * other.v;
                y.at[r * x.cols + c].d += 0.25 * other.d;
            }
        break;
    case OP_REFS:
        for (int k = 0; k < n; k++) {
            matrix ref = refs[k];
            if (ref.rows != x.rows || ref.cols != x.cols) {
                dual m = mean_of(&ref);
                ref = zeros_like(&x);
                for (int i = 0; i < ref.rows * ref.cols; i++)
                    ref.at[i] = m;
            }
            ref = scaled(ref, k + 1);
            y = sum(y, &ref);
        }
        break;
    case OP_GRAPH:
        y = computed(o->graph, x, refs);
        break;
    default:
        break;
    }
    return met(y);
}

/* Everything below forgets what it knows of the call before; or that it has a history. */
static void forget(flow *f, bool history_only)
{
    for (int t = 0; t < MAX_TAGS; t++) {
        for (int i = 0; i < MOST; i++)
            f->state[t].at[i].d = 0;
        if (!history_only)
            f->kept[t] = false;
    }
    for (int i = 0; i < f->n; i++)
        for (int k = 0; k < f->steps[i].n; k++)
            if (f->steps[i].ops[k].graph)
                forget(f->steps[i].ops[k].graph, history_only);
}

static bool halts(const step *s, const matrix *x)
{
    double most = x->at[0].v;
    for (int i = 1; i < x->rows * x->cols; i++)
        most = fmax(most, x->at[i].v);
    return most > s->threshold;
}

static matrix loop_value(step *s, matrix x, const matrix *refs)
{
    if (s->ops[0].graph)
        forget(s->ops[0].graph, false);
    for (int k = 0; k < s->runs; k++) {
        if (s->halt == HALT_WHILE && halts(s, &x))
            break;
        x = op_value(&s->ops[0], x, s->n_refs, refs);
        if (s->halt == HALT_UNTIL && k + 1 < s->runs && halts(s, &x))
            break;
    }
    return x;
}

static matrix gate_value(step *s, const matrix *x, const matrix *refs)
{
    double sign = 1;
    for (int k = 0; k < s->n_refs; k++) {
        dual m = mean_of(&refs[k]);
        sign *= (m.v > 0) - (m.v < 0);
    }
    dual by = s->weigh == WEIGH_BY_X ? mean_of(x) : (dual){1, 0};
    matrix y = zeros_like(x);
    for (int k = 0; k < s->n; k++) {
        matrix part = times(op_value(&s->ops[k], *x, 0, NULL),
                            (dual){by.v * sign * s->weights[k], by.d * sign * s->weights[k]});
        for (int i = 0; s->weigh == WEIGH_ROWS && i < part.rows * part.cols; i++) {
            double row = 1 + 0.5 * (i / part.cols);
            part.at[i] = (dual){part.at[i].v * row, part.at[i].d * row};
        }
        y = sum(y, &part);
    }
    return y;
}

static matrix scan_value(const step *s, const matrix *x)
{
    matrix y = *x, state = {.rows = 1, .cols = x->cols};
    for (int i = 0; i < x->rows; i++) {
        int at = s->reverse ? x->rows - 1 - i : i;
        matrix part = rows_of(x, at, 1);
        state = sum(part, &state);
        put_rows(&y, at, &state);
    }
    return y;
}

/* Adds what op k gives of the rows in `taken`, each times its weight. */
static void add_part(step *s, int k, const matrix *x, const bool *taken, const double *weight, matrix *y)
{
    matrix some = {.cols = x->cols};
    for (int i = 0; i < x->rows; i++)
        if (taken[i]) {
            matrix part = rows_of(x, i, 1);
            put_rows(&some, some.rows++, &part);
        }
    if (!some.rows)
        return;
    some = op_value(&s->ops[k], some, 0, NULL);
    for (int i = 0, at = 0; i < x->rows; i++)
        if (taken[i]) {
            matrix part = scaled(rows_of(&some, at++, 1), weight[i]), old = rows_of(y, i, 1);
            part = sum(part, &old);
            put_rows(y, i, &part);
        }
}

static matrix sparse_value(step *s, const matrix *x, const matrix *refs)
{
    double sign = 1, w[MOST][MAX_BRANCHES];
    for (int k = 0; k < s->n_refs; k++) {
        dual m = mean_of(&refs[k]);
        sign *= (m.v > 0) - (m.v < 0);
    }
    for (int i = 0; i < x->rows; i++)
        for (int k = 0; k < s->n; k++)
            w[i][k] = sign * s->weights[k] * (1 + 0.5 * i);
    matrix y = zeros_like(x);
    for (int k = 0; k < s->n; k++) {
        bool taken[MOST];
        double weight[MOST];
        for (int i = 0; i < x->rows; i++) {
            int heavier = 0;
            for (int other = 0; other < s->n; other++)
                heavier += w[i][other] > w[i][k];
            taken[i] = heavier < s->top_k;
            weight[i] = w[i][k];
        }
        add_part(s, k, x, taken, weight, &y);
    }
    return y;
}

static matrix rows_value(step *s, const matrix *x)
{
    matrix y = zeros_like(x);
    for (int k = 0; k < 2; k++) {
        bool taken[MOST];
        double weight[MOST];
        for (int i = 0; i < x->rows; i++) {
            matrix part = rows_of(x, i, 1);
            taken[i] = (mean_of(&part).v > 0) == k;
            weight[i] = 1;
        }
        add_part(s, k, x, taken, weight, &y);
    }
    return y;
}

static matrix switch_value(step *s, const matrix *x, const matrix *refs)
{
    int choice = s->choice;
    if (choice < 0) {
        double m = mean_of(x).v;
        for (int k = 0; k < s->n_refs; k++)
            m += mean_of(&refs[k]).v;
        choice = m > 0;
    }
    return op_value(&s->ops[choice], *x, 0, NULL);
}

static matrix map_value(step *s, matrix x, const matrix *refs)
{
    int rows = x.rows, cols = x.cols;
    if (s->slices) { /* the same numbers in the same order */
        x.rows = rows * s->slices;
        x.cols = cols / s->slices;
    }
    matrix y = x;
    if (s->batched) {
        y = op_value(&s->ops[0], x, s->n_refs, refs);
    } else {
        for (int i = 0; i < x.rows; i++) {
            matrix part = op_value(&s->ops[0], rows_of(&x, i, 1), s->n_refs, refs);
            put_rows(&y, i, &part);
        }
    }
    y.rows = rows;
    y.cols = cols;
    return y;
}

/* One operand more; at: its place from 0. */
static matrix joined(const step *s, matrix x, const matrix *y, int at)
{
    matrix part = *y;
    switch (s->merge) {
    case FDL_MERGE_MUL:
        return product(x, y);
    case FDL_MERGE_MAX:
        return larger_of(x, y);
    case FDL_MERGE_CAT:
    case FDL_MERGE_STACK:
        part = scaled(part, at + 1);
        return sum(x, &part);
    default:
        return sum(x, y);
    }
}

static matrix split_value(const flow *f, step *s, const matrix *x, const matrix *refs)
{
    matrix y = op_value(&s->ops[0], *x, s->n_refs, refs);
    int at = 1;
    for (int k = 1; k < s->n; k++) {
        matrix more = op_value(&s->ops[k], *x, s->n_refs, refs);
        y = met(joined(s, y, &more, at++));
    }
    for (int k = s->n_refs - 1; !f->mixed && k >= 0; k--)
        y = met(joined(s, y, &refs[k], at++));
    return s->merge == FDL_MERGE_MEAN ? scaled(y, 1.0 / at) : y;
}

/* Without its history. */
static matrix plain_value(step *s, matrix x, const matrix *refs)
{
    matrix y = op_value(&s->ops[0], x, s->n_refs, refs);
    for (int i = 0; s->detached && i < y.rows * y.cols; i++)
        y.at[i].d = 0;
    return y;
}

static matrix step_value(const flow *f, step *s, matrix x, const matrix *value, const matrix *refs)
{
    switch (s->kind) {
    case ST_LOOP:
        return loop_value(s, x, refs);
    case ST_GATE:
        return gate_value(s, &x, refs);
    case ST_SCAN:
        return scan_value(s, &x);
    case ST_SPARSE:
        return sparse_value(s, &x, refs);
    case ST_ROWS:
        return rows_value(s, &x);
    case ST_SWITCH:
        return switch_value(s, &x, refs);
    case ST_MAP:
        return map_value(s, s->over < 0 ? x : value[s->over], refs);
    case ST_SPLIT:
        return split_value(f, s, &x, refs);
    case ST_ALSO: {
        matrix skip = s->has_skip ? op_value(&s->ops[1], x, 0, NULL) : x;
        matrix y = op_value(&s->ops[0], x, s->n_refs, refs);
        return sum(y, &skip);
    }
    case ST_FROM:
        return joined(s, op_value(&s->ops[0], x, 0, NULL), &refs[0], 1);
    default:
        return plain_value(s, x, refs);
    }
}

static matrix computed(flow *f, matrix x, const matrix *inputs)
{
    matrix value[MAX_TAGS], refs[MAX_REFS];
    int tags = 0;
    for (; tags < f->inputs; tags++)
        value[tags] = inputs[tags];
    for (int i = 0; i < f->n; i++) {
        step *s = &f->steps[i];
        for (int k = 0; k < s->n_refs; k++) {
            int t = s->refs[k];
            const matrix *primary = s->kind == ST_MAP && s->over >= 0 ? &value[s->over] : &x;
            refs[k] = !s->later[k] ? value[t] : f->kept[t] ? f->state[t] : zeros_like(primary);
        }
        matrix y = met(step_value(f, s, x, value, refs));
        if (s->kind != ST_FORK)
            x = y;
        if (s->tagged)
            value[tags++] = y;
    }
    for (int t = 0; t < tags; t++) {
        f->state[t] = value[t];
        f->kept[t] = true;
    }
    return x;
}

#endif
