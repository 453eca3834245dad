/* How the stock modules and the steps of flows describe themselves: flodl/kind.h in a form that cmake/kinds.awk finds. A
 * line that begins with KIND(id, or SOME_KIND(id, makes kind_id known to the files of topologies; nothing else has to. */
#ifndef FLODL_NN_DESCRIBE_H
#define FLODL_NN_DESCRIBE_H

#include "flodl/kind.h"

/* KIND(linear, .name = "linear", ARGS(linear_args, FDL_ARG(...), ...)): defines kind_linear, made by make_linear. */
#define KIND(id, ...)                \
    extern const fdl_kind kind_##id; \
    const fdl_kind kind_##id = {.make = make_##id, __VA_ARGS__}
#define ARGS(type, ...)                                 \
    .size = sizeof(type), .fields = (const fdl_field[]) \
    {                                                   \
        __VA_ARGS__,                                    \
        {                                               \
            0                                           \
        }                                               \
    }
/* A module, or modules called child_0, child_1, ..., that the parent has under that name. */
#define CHILD_ARG(type_, member, child_)                                                                \
    {                                                                                                   \
        .name = #member, .type = FDL_FIELD_MODULE, .required = true, .offset = offsetof(type_, member), \
        .child = child_                                                                                 \
    }
#define CHILDREN_ARG(type_, member, child_)                                                              \
    {                                                                                                    \
        .name = #member, .type = FDL_FIELD_MODULES, .required = true, .offset = offsetof(type_, member), \
        .child = child_                                                                                  \
    }

/* fdl_module_done(m), described. */
#define DESCRIBED(m, id, ...) (described(m, &kind_##id, &(__VA_ARGS__)))
static inline fdl_module *described(fdl_module *m, const fdl_kind *kind, const void *args)
{
    if (m)
        fdl_module_describe(m, kind, args);
    return fdl_module_done(m);
}

#endif
