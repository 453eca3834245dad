/* The options of optimizers: which there are, whose they are, which values they take. */
#include "optim.h"

#include <math.h>

typedef enum { REAL, FLAG, CHOICE } field_type;
typedef enum { NONNEGATIVE, BELOW_ONE, ANY } field_range;

static const struct field {
    unsigned bit;
    const char *name;
    size_t at;
    field_type type;
    field_range range;
} fields[] = {
    {OPTIM_LR, "lr", offsetof(fdl_optim_opts, lr), REAL, NONNEGATIVE},
    {OPTIM_WEIGHT_DECAY, "weight_decay", offsetof(fdl_optim_opts, weight_decay), REAL, NONNEGATIVE},
    {OPTIM_MAXIMIZE, "maximize", offsetof(fdl_optim_opts, maximize), FLAG, ANY},
    {OPTIM_IMPL, "impl", offsetof(fdl_optim_opts, impl), CHOICE, ANY},
    {OPTIM_MOMENTUM, "momentum", offsetof(fdl_optim_opts, momentum), REAL, NONNEGATIVE},
    {OPTIM_DAMPENING, "dampening", offsetof(fdl_optim_opts, dampening), REAL, ANY},
    {OPTIM_NESTEROV, "nesterov", offsetof(fdl_optim_opts, nesterov), FLAG, ANY},
    {OPTIM_BETA1, "beta1", offsetof(fdl_optim_opts, beta1), REAL, BELOW_ONE},
    {OPTIM_BETA2, "beta2", offsetof(fdl_optim_opts, beta2), REAL, BELOW_ONE},
    {OPTIM_EPS, "eps", offsetof(fdl_optim_opts, eps), REAL, NONNEGATIVE},
    {OPTIM_AMSGRAD, "amsgrad", offsetof(fdl_optim_opts, amsgrad), FLAG, ANY},
    {OPTIM_ALPHA, "alpha", offsetof(fdl_optim_opts, alpha), REAL, BELOW_ONE},
    {OPTIM_CENTERED, "centered", offsetof(fdl_optim_opts, centered), FLAG, ANY},
    {OPTIM_LR_DECAY, "lr_decay", offsetof(fdl_optim_opts, lr_decay), REAL, NONNEGATIVE},
    {OPTIM_INITIAL_ACCUMULATOR, "initial_accumulator", offsetof(fdl_optim_opts, initial_accumulator), REAL,
     NONNEGATIVE},
    {OPTIM_RHO, "rho", offsetof(fdl_optim_opts, rho), REAL, BELOW_ONE},
    {OPTIM_MOMENTUM_DECAY, "momentum_decay", offsetof(fdl_optim_opts, momentum_decay), REAL, NONNEGATIVE},
    {OPTIM_DECOUPLED, "decoupled", offsetof(fdl_optim_opts, decoupled), FLAG, ANY},
};
enum { N_FIELDS = sizeof fields / sizeof fields[0] };

static const struct field *field_of(unsigned bit)
{
    for (int i = 0; i < N_FIELDS; i++)
        if (fields[i].bit == bit)
            return &fields[i];
    return NULL;
}

static bool is_given(const struct field *f, const fdl_optim_opts *o)
{
    const char *at = (const char *)o + f->at;
    switch (f->type) {
    case REAL: {
        uint64_t bits; /* as fdl_opt_double */
        memcpy(&bits, at, sizeof bits);
        return bits != 0;
    }
    case FLAG:
        return *(const bool *)at;
    default:
        return *(const fdl_optim_impl *)at != FDL_OPTIM_AUTO;
    }
}

/* "lr, weight_decay, ...": what the optimizer has, numbers only if asked. */
static void names_of(const optim_kind *kind, bool numbers, char *buf, size_t n)
{
    size_t used = 0;
    buf[0] = '\0';
    for (int i = 0; i < N_FIELDS; i++)
        if (kind->fields & fields[i].bit && (!numbers || fields[i].type == REAL) && used < n) {
            int k = snprintf(buf + used, n - used, "%s%s", used ? ", " : "", fields[i].name);
            used += k > 0 ? (size_t)k : 0;
        }
}

fdl_status optim_check_number(const optim_kind *kind, unsigned bit, double v)
{
    const struct field *f = field_of(bit);
    if (!isfinite(v) || (f->range != ANY && v < 0) || (f->range == BELOW_ONE && v >= 1))
        return fdl_fail(FDL_E_ARG, "%s: %s is %g; it must be %s", kind->name, f->name, v,
                        f->range == ANY         ? "finite"
                        : f->range == BELOW_ONE ? "at least 0 and below 1"
                                                : "0 or more and finite");
    return FDL_OK;
}

fdl_status optim_options(const optim_kind *kind, const fdl_optim_opts *base, const fdl_optim_opts *given,
                         fdl_optim_opts *into)
{
    *into = *base;
    if (!given)
        return FDL_OK;
    for (int i = 0; i < N_FIELDS; i++) {
        const struct field *f = &fields[i];
        if (!is_given(f, given))
            continue;
        if (!(kind->fields & f->bit)) {
            char own[160];
            names_of(kind, false, own, sizeof own);
            return fdl_fail(FDL_E_ARG, "%s has no option .%s; it has %s", kind->name, f->name, own);
        }
        char *to = (char *)into + f->at;
        const char *from = (const char *)given + f->at;
        if (f->type == REAL) {
            double v;
            memcpy(&v, from, sizeof v);
            v = fdl_opt_double(v, v);
            FDL_TRY(optim_check_number(kind, f->bit, v));
            memcpy(to, &v, sizeof v);
        } else if (f->type == FLAG) {
            *(bool *)to = true;
        } else {
            fdl_optim_impl impl = *(const fdl_optim_impl *)from;
            if ((int)impl < FDL_OPTIM_AUTO || impl > FDL_OPTIM_FUSED)
                return fdl_fail(FDL_E_ARG,
                                "%s: .impl is %d, which is none of FDL_OPTIM_AUTO, _LOOP, _FOREACH, _FUSED",
                                kind->name, (int)impl);
            *(fdl_optim_impl *)to = impl;
        }
    }
    return kind->check ? kind->check(into) : FDL_OK;
}

unsigned optim_field(const optim_kind *kind, const char *name)
{
    for (int i = 0; i < N_FIELDS; i++)
        if (fields[i].type == REAL && kind->fields & fields[i].bit && strcmp(fields[i].name, name) == 0)
            return fields[i].bit;
    char own[160];
    names_of(kind, true, own, sizeof own);
    fdl_fail(FDL_E_ARG, "%s has no numeric option \"%s\"; it has %s", kind->name, name, own);
    return 0;
}

double *optim_number(fdl_optim_opts *o, unsigned bit)
{
    return (double *)((char *)o + field_of(bit)->at);
}

/* ---- in files ------------------------------------------------------------------------------------------ */

json_t *optim_options_write(const optim_kind *kind, const fdl_optim_opts *o)
{
    json_t *to = json_object();
    for (int i = 0; to && i < N_FIELDS; i++) {
        const struct field *f = &fields[i];
        const char *at = (const char *)o + f->at;
        if (!(kind->fields & f->bit) || f->type == CHOICE)
            continue;
        json_t *value =
            f->type == REAL ? json_real(*(const double *)(const void *)at) : json_boolean(*(const bool *)at);
        if (json_object_set_new(to, f->name, value) != 0) {
            json_decref(to);
            to = NULL;
        }
    }
    return to;
}

static const struct field *field_called(const optim_kind *kind, const char *name)
{
    for (int i = 0; i < N_FIELDS; i++)
        if (kind->fields & fields[i].bit && fields[i].type != CHOICE && strcmp(fields[i].name, name) == 0)
            return &fields[i];
    return NULL;
}

fdl_status optim_options_read(const optim_kind *kind, json_t *from, fdl_optim_opts *o)
{
    static const char *const others[] = {"params", "ratio", "scheduled", "fresh"}; /* state.c's */
    const char *name;
    json_t *value;
    json_object_foreach(from, name, value)
    {
        bool other = false;
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
            other |= strcmp(name, others[i]) == 0;
        if (other)
            continue;
        const struct field *f = field_called(kind, name);
        if (!f)
            return fdl_fail(FDL_E_MISMATCH, "%s: the checkpoint has the option \"%.100s\", which it doesn't",
                            kind->name, name);
        if (f->type == REAL ? !json_is_number(value) : !json_is_boolean(value))
            return fdl_fail(FDL_E_FORMAT, "%s: the checkpoint's option \"%s\" is no %s", kind->name, name,
                            f->type == REAL ? "number" : "true or false");
        char *to = (char *)o + f->at;
        if (f->type == REAL) {
            double v = json_number_value(value);
            FDL_TRY(optim_check_number(kind, f->bit, v));
            memcpy(to, &v, sizeof v);
        } else {
            *(bool *)to = json_is_true(value);
        }
    }
    return kind->check ? kind->check(o) : FDL_OK;
}
