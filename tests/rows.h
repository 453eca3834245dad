/* The rows of tests/modules.def, for tests that go over all of them. */
#ifndef FLODL_TESTS_ROWS_H
#define FLODL_TESTS_ROWS_H

#include "flodl/flodl.h"

typedef struct row {
    const char *name, *kind;
    fdl_module *(*make)(void);
    bool indices;   /* the input are whole numbers ... */
    int64_t below;  /* ... below this one */
    fdl_shape dims; /* of the input */
} row;

#define ROW_DIMS_(...)                                   \
    {                                                    \
        {__VA_ARGS__}, (int)FDL_COUNT_INTS_(__VA_ARGS__) \
    }
#define VALUES(...) false, 0, ROW_DIMS_(__VA_ARGS__)
#define INDICES(below, ...) true, below, ROW_DIMS_(__VA_ARGS__)

#define MODULE(name, kind, constructor, torch, input) \
    static fdl_module *make_##name(void)              \
    {                                                 \
        return constructor;                           \
    }
#include "modules.def"
#undef MODULE

static const row rows[] = {
#define MODULE(name, kind, constructor, torch, input) {#name, #kind, make_##name, input},
#include "modules.def"
#undef MODULE
};
enum { ROWS = sizeof rows / sizeof *rows };

#endif
