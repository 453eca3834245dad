/* Of test_random.c: the modules in random flows. */
#ifndef FLODL_TESTS_GRAPH_RANDOM_MODULES_H
#define FLODL_TESTS_GRAPH_RANDOM_MODULES_H

#include "graph/random/flow.h"

/* ---- the modules ---------------------------------------------------------------------------------------------- */

static fdl_tensor *half_plus_one(fdl_tensor *x)
{
    return fdl_add(fdl_mul(x, 0.5), 1.0);
}

static fdl_tensor *centre(fdl_tensor *x)
{
    return fdl_sub(x, fdl_mul(fdl_mean_dim(x, 0, .keepdim = true), 0.5));
}

static fdl_tensor *flip_columns(fdl_tensor *x)
{
    return fdl_add(x, fdl_mul(fdl_flip(x, FDL_SHAPE(-1)), 0.25));
}

/* What each module was made with, so that a graph of them can be written down and read again. */
typedef struct scaled_args {
    double by;
} scaled_args;

static fdl_module *new_scaled(double value);

static fdl_module *make_scaled(const void *args)
{
    return new_scaled(((const scaled_args *)args)->by);
}

static const fdl_kind scaled_kind = {
    .name = "scaled",
    .size = sizeof(scaled_args),
    .make = make_scaled,
    .fields = (const fdl_field[]){FDL_ARG(scaled_args, by, DOUBLE), {0}},
};

static fdl_tensor *scaled_forward(void *self, fdl_tensor *x)
{
    return fdl_mul(x, *(fdl_tensor **)self);
}

static fdl_module *new_scaled(double value)
{
    static const fdl_module_ops ops = {
        .kind = "scaled", .size = sizeof(fdl_tensor *), .forward = scaled_forward};
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&ops);
    *(fdl_tensor **)fdl_module_self(m) =
        fdl_module_param(m, "by", fdl_full(FDL_SHAPE(1), value, .dtype = FDL_FLOAT64));
    fdl_module_describe(m, &scaled_kind, &(scaled_args){value});
    return fdl_module_done(m);
}

/* A further input of another size counts by its mean. */
static fdl_tensor *add_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    for (size_t i = 0; i < fdl_refs_count(r); i++) {
        fdl_tensor *ref = fdl_refs_at(r, i);
        if (!fdl_shape_eq(fdl_shape_of(ref), fdl_shape_of(x)))
            ref = fdl_mean(ref);
        x = fdl_add(x, fdl_mul(ref, (double)(i + 1)));
    }
    return x;
}

static fdl_module *make_add(const void *args);
static const fdl_kind add_kind = {.name = "add_refs", .make = make_add};

static fdl_module *make_add(const void *args)
{
    static const fdl_module_ops ops = {.kind = "add_refs", .forward_named = add_forward};
    (void)args;
    fdl_module *m = fdl_module_new(&ops);
    fdl_module_describe(m, &add_kind, NULL);
    return fdl_module_done(m);
}

/* The weights of a gate; further inputs turn their signs. */
typedef struct scale {
    int n, weigh;
    double w0, w1, w2, w3; /* of MAX_BRANCHES experts */
} scale;

static fdl_tensor *scale_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    const scale *s = self;
    const double weights[MAX_BRANCHES] = {s->w0, s->w1, s->w2, s->w3};
    fdl_tensor *w = fdl_from_f64(weights, FDL_SHAPE(s->n), .dtype = FDL_FLOAT64);
    if (s->weigh == WEIGH_ROWS) {
        fdl_tensor *row =
            fdl_add(fdl_mul(fdl_arange(0, (double)fdl_size(x, 0), 1, .dtype = FDL_FLOAT64), 0.5), 1);
        w = fdl_mul(fdl_unsqueeze(row, 1), w);
    } else if (s->weigh == WEIGH_BY_X) {
        w = fdl_mul(w, fdl_mean(x));
    }
    for (size_t i = 0; i < fdl_refs_count(r); i++)
        w = fdl_mul(w, fdl_sign(fdl_mean(fdl_refs_at(r, i))));
    return w;
}

static fdl_module *make_scale(const void *args);
static const fdl_kind scale_kind = {
    .name = "scale",
    .size = sizeof(scale),
    .make = make_scale,
    .fields = (const fdl_field[]){FDL_ARG(scale, n, INT),
                                  FDL_ARG(scale, weigh, INT),
                                  FDL_ARG(scale, w0, DOUBLE),
                                  FDL_ARG(scale, w1, DOUBLE),
                                  FDL_ARG(scale, w2, DOUBLE),
                                  FDL_ARG(scale, w3, DOUBLE),
                                  {0}},
};

static fdl_module *make_scale(const void *args)
{
    static const fdl_module_ops ops = {
        .kind = "scale", .size = sizeof(scale), .forward_named = scale_forward};
    fdl_module *m = fdl_module_new(&ops);
    memcpy(fdl_module_self(m), args, sizeof(scale));
    fdl_module_describe(m, &scale_kind, args);
    return fdl_module_done(m);
}

static fdl_module *router(const step *s)
{
    const double *w = s->weights;
    return make_scale(&(scale){s->n, (int)s->weigh, w[0], w[1], w[2], w[3]});
}

/* 1 where the mean of x and of all further inputs is above 0. */
static fdl_tensor *sign_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    fdl_tensor *m = fdl_mean(x);
    for (size_t i = 0; i < fdl_refs_count(r); i++)
        m = fdl_add(m, fdl_mean(fdl_refs_at(r, i)));
    return fdl_gt(m, 0);
}

/* The same for each row: [B]. */
static fdl_tensor *sign_rows_forward(void *self, fdl_tensor *x)
{
    (void)self;
    return fdl_gt(fdl_mean_dim(x, 1), 0);
}

static fdl_module *make_sign_rows(const void *args);
static const fdl_kind sign_rows_kind = {.name = "sign_rows", .make = make_sign_rows};

static fdl_module *make_sign_rows(const void *args)
{
    static const fdl_module_ops ops = {.kind = "sign_rows", .forward = sign_rows_forward};
    (void)args;
    fdl_module *m = fdl_module_new(&ops);
    fdl_module_describe(m, &sign_rows_kind, NULL);
    return fdl_module_done(m);
}

/* Takes what was joined apart again: the sum of its n parts along dim, each times its place from 1. */
typedef struct fold {
    int n, dim;
    bool stacked;
} fold;

static fdl_tensor *fold_forward(void *self, fdl_tensor *x)
{
    const fold *f = self;
    fdl_tensor *y = NULL;
    int64_t size = f->stacked ? 1 : fdl_size(x, f->dim) / f->n;
    for (int i = 0; i < f->n; i++) {
        fdl_tensor *part = f->stacked ? fdl_select(x, f->dim, i) : fdl_narrow(x, f->dim, i * size, size);
        part = fdl_mul(part, (double)(i + 1));
        y = y ? fdl_add(y, part) : part;
    }
    return y;
}

static fdl_module *make_fold(const void *args);
static const fdl_kind fold_kind = {
    .name = "fold",
    .size = sizeof(fold),
    .make = make_fold,
    .fields =
        (const fdl_field[]){
            FDL_ARG(fold, n, INT), FDL_ARG(fold, dim, INT), FDL_ARG(fold, stacked, BOOL), {0}},
};

static fdl_module *make_fold(const void *args)
{
    static const fdl_module_ops ops = {.kind = "fold", .size = sizeof(fold), .forward = fold_forward};
    fdl_module *m = fdl_module_new(&ops);
    memcpy(fdl_module_self(m), args, sizeof(fold));
    fdl_module_describe(m, &fold_kind, args);
    return fdl_module_done(m);
}

static fdl_module *make_sign(const void *args);
static const fdl_kind sign_kind = {.name = "sign", .make = make_sign};

static fdl_module *make_sign(const void *args)
{
    static const fdl_module_ops ops = {.kind = "sign", .forward_named = sign_forward};
    (void)args;
    fdl_module *m = fdl_module_new(&ops);
    fdl_module_describe(m, &sign_kind, NULL);
    return fdl_module_done(m);
}

#endif
