/* Of test_random.c: random numbers that are the same everywhere, and small matrices of numbers with derivatives. */
#ifndef FLODL_TESTS_GRAPH_RANDOM_DUAL_H
#define FLODL_TESTS_GRAPH_RANDOM_DUAL_H

#include "graph/modules.h"

#include <math.h>

/* ---- random numbers: the same everywhere ---------------------------------------------------------------------- */

static uint64_t seed;

static int below(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

static double number(void)
{
    return below(1 << 30) / (double)(1 << 29) - 1; /* fine enough that none is just what something else is */
}

/* ---- values by hand: small matrices of numbers, each with its derivative along one random direction of all leaves */

enum { ROWS = 3, COLS = 2, MOST = 4 * ROWS * COLS };

typedef struct dual {
    double v, d;
} dual;

typedef struct matrix {
    int rows, cols;
    dual at[MOST];
} matrix;

static double largest; /* what was met on the way: rounding is measured by it */

static matrix met(matrix x)
{
    for (int i = 0; i < x.rows * x.cols; i++) {
        largest = fmax(largest, fabs(x.at[i].v));
        largest = fmax(largest, fabs(x.at[i].d));
    }
    return x;
}

static matrix zeros_like(const matrix *x)
{
    return (matrix){.rows = x->rows, .cols = x->cols};
}

static matrix scaled(matrix x, double by)
{
    for (int i = 0; i < x.rows * x.cols; i++)
        x.at[i] = (dual){x.at[i].v * by, x.at[i].d * by};
    return x;
}

static matrix times(matrix x, dual by)
{
    for (int i = 0; i < x.rows * x.cols; i++)
        x.at[i] = (dual){x.at[i].v * by.v, x.at[i].d * by.v + x.at[i].v * by.d};
    return x;
}

static matrix sum(matrix x, const matrix *y)
{
    for (int i = 0; i < x.rows * x.cols; i++)
        x.at[i] = (dual){x.at[i].v + y->at[i].v, x.at[i].d + y->at[i].d};
    return x;
}

static matrix product(matrix x, const matrix *y)
{
    for (int i = 0; i < x.rows * x.cols; i++)
        x.at[i] = (dual){x.at[i].v * y->at[i].v, x.at[i].d * y->at[i].v + x.at[i].v * y->at[i].d};
    return x;
}

/* Element by element; the derivative of two equal ones is the mean of theirs. Those that differ by no more than rounding are too
 * close to compare. */
static matrix larger_of(matrix x, const matrix *y)
{
    for (int i = 0; i < x.rows * x.cols; i++) {
        double over = x.at[i].v - y->at[i].v;
        if (over != 0 && fabs(over) < 1e-9 * (1 + largest))
            largest = INFINITY;
        if (over < 0)
            x.at[i] = y->at[i];
        else if (over == 0)
            x.at[i].d = (x.at[i].d + y->at[i].d) / 2;
    }
    return x;
}

static dual mean_of(const matrix *x)
{
    dual m = {0, 0};
    int n = x->rows * x->cols;
    for (int i = 0; i < n; i++)
        m = (dual){m.v + x->at[i].v / n, m.d + x->at[i].d / n};
    return m;
}

static matrix rows_of(const matrix *x, int first, int n)
{
    matrix y = {.rows = n, .cols = x->cols};
    memcpy(y.at, x->at + first * x->cols, sizeof(dual) * (size_t)(n * x->cols));
    return y;
}

static void put_rows(matrix *x, int first, const matrix *y)
{
    memcpy(x->at + first * y->cols, y->at, sizeof(dual) * (size_t)(y->rows * y->cols));
}

#endif
