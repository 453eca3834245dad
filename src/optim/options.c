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
