/* What PyTorch recorded (tests/fixtures/optim.json), and a module that is nothing but parameters. */
#ifndef FLODL_TESTS_OPTIM_FIXTURE_H
#define FLODL_TESTS_OPTIM_FIXTURE_H

#include "check.h"

#include <jansson.h>
#include <math.h>

/* A constructor that gives NULL, with FDL_E_ARG and these words. */
#define REFUSED(call, ...)                   \
    do {                                     \
        assert_null(call);                   \
        check_error(FDL_E_ARG, __VA_ARGS__); \
    } while (0)

static inline json_t *fixture(void)
{
    json_error_t error;
    json_t *j = json_load_file(FLODL_SOURCE_DIR "/tests/fixtures/optim.json", 0, &error);
    if (!j)
        fail_msg("optim.json: %s", error.text);
    return j;
}

static inline int numbers(const json_t *array, double *out, int cap)
{
    if (json_is_number(array)) {
        out[0] = json_number_value(array);
        return 1;
    }
    int n = (int)json_array_size(array);
    assert_true(n <= cap);
    for (int i = 0; i < n; i++) {
        const json_t *v = json_array_get(array, (size_t)i);
        out[i] = json_is_null(v) ? (double)NAN : json_number_value(v);
    }
    return n;
}

enum { MOST = 64, MAX_PARAMS = 64 };

typedef struct bag {
    fdl_tensor *p[MAX_PARAMS];
    int n;
} bag;
static const fdl_module_ops bag_ops;
static fdl_tensor *bag_forward(void *self, fdl_tensor *x)
{
    (void)self;
    return x;
}
static const fdl_module_ops bag_ops = {.kind = "bag", .size = sizeof(bag), .forward = bag_forward};

static inline fdl_module *bag_new(void)
{
    fdl_module *m = fdl_module_new(&bag_ops);
    check_some(m);
    return m;
}

/* Adds parameter "p<i>" with these values. */
static inline fdl_tensor *bag_add(fdl_module *m, fdl_tensor *values)
{
    bag *b = fdl_module_self(m);
    char name[16];
    snprintf(name, sizeof name, "p%d", b->n);
    fdl_tensor *t = fdl_module_param(m, name, values);
    check_some(t);
    b->p[b->n++] = t;
    return t;
}

/* One parameter of one element. */
static inline fdl_module *bag_of(double value, fdl_dtype dtype)
{
    FDL_SCOPE;
    fdl_module *m = bag_new();
    bag_add(m, fdl_scalar(value, .dtype = dtype));
    return fdl_module_done(m);
}

static inline fdl_tensor *bag_at(fdl_module *m, int i)
{
    return ((bag *)fdl_module_self(m))->p[i];
}

static inline void set_grad(fdl_tensor *p, double g)
{
    FDL_SCOPE;
    check_ok(fdl_set_grad(p, fdl_full_like(p, g)));
}

/* The recorded parameters, in dtype. */
static inline fdl_module *bag_recorded(const json_t *f, fdl_dtype dtype, fdl_device device)
{
    FDL_SCOPE;
    fdl_module *m = bag_new();
    const json_t *shapes = json_object_get(f, "shapes"), *start = json_object_get(f, "start");
    for (size_t i = 0; i < json_array_size(shapes); i++) {
        double v[MOST], dims[MOST];
        numbers(json_array_get(start, i), v, MOST);
        fdl_shape s = {{0}, numbers(json_array_get(shapes, i), dims, MOST)};
        for (int d = 0; d < s.ndim; d++)
            s.d[d] = (int64_t)dims[d];
        bag_add(m, fdl_from_f64(v, s, .dtype = dtype, .device = device));
    }
    return fdl_module_done(m);
}

/* Step t's recorded gradients, t from 0. */
static inline void set_recorded_grads(const json_t *f, fdl_module *m, int t)
{
    FDL_SCOPE;
    const json_t *grads = json_array_get(json_object_get(f, "grads"), (size_t)t);
    for (size_t i = 0; i < json_array_size(grads); i++) {
        fdl_tensor *p = bag_at(m, (int)i);
        double v[MOST];
        if (json_is_null(json_array_get(grads, i))) {
            check_ok(fdl_clear_grad(p));
            continue;
        }
        numbers(json_array_get(grads, i), v, MOST);
        check_ok(fdl_set_grad(
            p, fdl_from_f64(v, fdl_shape_of(p), .dtype = fdl_dtype_of(p), .device = fdl_device_of(p))));
    }
}

static inline void expect_values(fdl_tensor *t, const json_t *want, double tolerance, const char *what)
{
    double v[MOST], w[MOST];
    int n = numbers(want, w, MOST);
    assert_int_equal(fdl_numel(t), n);
    check_ok(fdl_to_f64(t, v, n));
    for (int i = 0; i < n; i++)
        if (!(fabs(v[i] - w[i]) <= tolerance * (1 + fabs(w[i]))))
            fail_msg("%s: element %d is %.17g, PyTorch's %.17g", what, i, v[i], w[i]);
}

#endif
