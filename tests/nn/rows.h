/* The rows of tests/modules.def, for tests that go over all of them. */
#ifndef FLODL_TESTS_NN_ROWS_H
#define FLODL_TESTS_NN_ROWS_H

#include "flodl/flodl.h"

typedef struct row {
    const char *name, *kind;
    fdl_module *(*make)(void);
    bool indices; /* the input are whole numbers */
} row;

#define VALUES(...) false
#define INDICES(...) true

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
