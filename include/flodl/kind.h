/* How a module says what it was made with: the arguments of its constructor in a struct, and a table of that struct's
 * fields. With it a model is written down and made again (topology.h). A module of one's own:
 *
 *     typedef struct times_args { int64_t n; double by; } times_args;
 *     static fdl_module *make_times(const void *args)
 *     {
 *         const times_args *a = args;
 *         return new_times(a->n, a->by);
 *     }
 *     static const fdl_kind times_kind = {.name = "times", .size = sizeof(times_args), .make = make_times,
 *         .fields = (const fdl_field[]){FDL_ARG(times_args, n, INT64), FDL_ARG(times_args, by, DOUBLE), {0}}};
 *
 * and in new_times, before fdl_module_done: fdl_module_describe(m, &times_kind, &(times_args){n, by}). */
#ifndef FLODL_KIND_H
#define FLODL_KIND_H

#include <stddef.h>

#include "flodl/module.h"

FDL_BEGIN_DECLS

/* Texts and modules in order. */
typedef struct fdl_texts {
    int n;
    const char *const *at;
} fdl_texts;
typedef struct fdl_modules {
    int n;
    fdl_module *const *at;
} fdl_modules;

/* What a field of the struct is, in C and in a file. */
typedef enum fdl_field_type {
    FDL_FIELD_END,
    FDL_FIELD_BOOL,       /* bool */
    FDL_FIELD_INT,        /* int */
    FDL_FIELD_INT64,      /* int64_t */
    FDL_FIELD_OPT_INT,    /* fdl_opt_i64 */
    FDL_FIELD_DOUBLE,     /* double */
    FDL_FIELD_OPT_DOUBLE, /* double whose zero bits are the default and whose zero is FDL_ZERO */
    FDL_FIELD_ENUM,       /* an enum: one of .names */
    FDL_FIELD_SHAPE,      /* fdl_shape */
    FDL_FIELD_TEXT,       /* const char *, copied */
    FDL_FIELD_TEXTS,      /* fdl_texts, copied */
    FDL_FIELD_FUNCTION, /* fdl_tensor *(*)(fdl_tensor *): the library's by its name, another by .functions */
    FDL_FIELD_FUNCTION_REFS, /* fdl_tensor *(*)(fdl_tensor *, const fdl_refs *) */
    FDL_FIELD_FUNCTION_LIST, /* fdl_tensor *(*)(fdl_list) */
    FDL_FIELD_DTYPE,         /* fdl_dtype: written down is the one that the parameters have */
    FDL_FIELD_MODULE, /* fdl_module *: the child .child; filled in for make alone, which takes it over */
    FDL_FIELD_MODULES /* fdl_modules: children .child_0, .child_1, ..., or 0, 1, ... where .child is ""; likewise */
} fdl_field_type;

/* One field. Not required: all zero bits are the default, which isn't written. */
typedef struct fdl_field {
    const char *name; /* in files; "kind", "id" and "share" are taken */
    fdl_field_type type;
    bool required;
    size_t offset;
    const char *const *names; /* of an enum's values 0, 1, ...; NULL-ended */
    const char *child;        /* a module's name among the children; NULL: the field's */
} fdl_field;

/* A field that is always there, and one of the options `o` of the struct. */
#define FDL_ARG(type_, member, field)                                                                   \
    {                                                                                                   \
        .name = #member, .type = FDL_FIELD_##field, .required = true, .offset = offsetof(type_, member) \
    }
#define FDL_OPT(type_, member, field)                                                   \
    {                                                                                   \
        .name = #member, .type = FDL_FIELD_##field, .offset = offsetof(type_, o.member) \
    }

/* What a call of a module on x costs. */
typedef struct fdl_call {
    fdl_module *module;
    const void *args; /* the struct that describes it */
    fdl_shape x, y;   /* input and output */
    int inputs;       /* x among them */
    const fdl_shape *input;
    const char *const *names; /* of the further inputs; NULL: they come by position */
} fdl_call;

typedef struct fdl_onnx fdl_onnx; /* a model that is being written as ONNX */

/* A kind of module. Static: modules keep the pointer. */
typedef struct fdl_kind {
    const char *name;        /* as ops.kind has it: "linear" */
    size_t size;             /* of the struct of arguments; 0: none */
    const fdl_field *fields; /* ends in {0}; NULL: none */
    fdl_module *(*make)(
        const void *args); /* the constructor (owned); takes the modules in args over, on failure too */
    double (*work)(const fdl_call *c); /* optional: multiply-adds of one call */
    /* Optional, of the library's own kinds: its operations in ONNX, from the names of the inputs to that of the result. */
    const char *(*onnx)(fdl_onnx *o, const fdl_call *c, const char *const *inputs);
} fdl_kind;

/* Says what m was made with; args, size bytes, is copied. What fails is remembered in m as a failed registration is. */
FDL_API fdl_status fdl_module_describe(fdl_module *m, const fdl_kind *kind, const void *args);
/* The kind that was said, and in *args the struct (borrowed; NULL: not wanted). NULL without an error when nothing was. */
FDL_API const fdl_kind *fdl_module_description(fdl_module *m, const void **args);

FDL_END_DECLS

#endif
