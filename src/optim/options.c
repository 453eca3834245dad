/* The options of optimizers: which there are, whose they are, which values they take. */
#include "optim.h"

#include <math.h>

typedef enum { REAL, WHOLE, FLAG, CHOICE } field_type; /* double, int, bool, an enum of int's size */
typedef enum { NONNEGATIVE, BELOW_ONE, ANY, POSITIVE, NONPOSITIVE, FROM_ONE, ABOVE_ONE } field_range;
_Static_assert(sizeof(fdl_optim_impl) == sizeof(int) && sizeof(fdl_optim_adjust) == sizeof(int),
               "choices are read as int");

static const struct field {
    uint64_t bit;
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
    {OPTIM_ALPHA, "alpha", offsetof(fdl_optim_opts, alpha), REAL, NONNEGATIVE},
    {OPTIM_CENTERED, "centered", offsetof(fdl_optim_opts, centered), FLAG, ANY},
    {OPTIM_LR_DECAY, "lr_decay", offsetof(fdl_optim_opts, lr_decay), REAL, NONNEGATIVE},
    {OPTIM_INITIAL_ACCUMULATOR, "initial_accumulator", offsetof(fdl_optim_opts, initial_accumulator), REAL,
     NONNEGATIVE},
    {OPTIM_RHO, "rho", offsetof(fdl_optim_opts, rho), REAL, BELOW_ONE},
    {OPTIM_MOMENTUM_DECAY, "momentum_decay", offsetof(fdl_optim_opts, momentum_decay), REAL, NONNEGATIVE},
    {OPTIM_DECOUPLED, "decoupled", offsetof(fdl_optim_opts, decoupled), FLAG, ANY},
    {OPTIM_MASTER_WEIGHTS, "master_weights", offsetof(fdl_optim_opts, master_weights), FLAG, ANY},
    {OPTIM_NO_NESTEROV, "no_nesterov", offsetof(fdl_optim_opts, no_nesterov), FLAG, ANY},
    {OPTIM_NS_STEPS, "ns_steps", offsetof(fdl_optim_opts, ns_steps), WHOLE, FROM_ONE},
    {OPTIM_NS_A, "ns_a", offsetof(fdl_optim_opts, ns_a), REAL, ANY},
    {OPTIM_NS_B, "ns_b", offsetof(fdl_optim_opts, ns_b), REAL, ANY},
    {OPTIM_NS_C, "ns_c", offsetof(fdl_optim_opts, ns_c), REAL, ANY},
    {OPTIM_ADJUST, "adjust", offsetof(fdl_optim_opts, adjust), CHOICE, ANY},
    {OPTIM_BETA2_DECAY, "beta2_decay", offsetof(fdl_optim_opts, beta2_decay), REAL, NONPOSITIVE},
    {OPTIM_EPS1, "eps1", offsetof(fdl_optim_opts, eps1), REAL, POSITIVE},
    {OPTIM_EPS2, "eps2", offsetof(fdl_optim_opts, eps2), REAL, NONNEGATIVE},
    {OPTIM_D, "d", offsetof(fdl_optim_opts, d), REAL, FROM_ONE},
    {OPTIM_ETA_MINUS, "eta_minus", offsetof(fdl_optim_opts, eta_minus), REAL, POSITIVE},
    {OPTIM_ETA_PLUS, "eta_plus", offsetof(fdl_optim_opts, eta_plus), REAL, ABOVE_ONE},
    {OPTIM_STEP_MIN, "step_min", offsetof(fdl_optim_opts, step_min), REAL, NONNEGATIVE},
    {OPTIM_STEP_MAX, "step_max", offsetof(fdl_optim_opts, step_max), REAL, NONNEGATIVE},
    {OPTIM_LAMBD, "lambd", offsetof(fdl_optim_opts, lambd), REAL, ANY},
    {OPTIM_T0, "t0", offsetof(fdl_optim_opts, t0), REAL, ANY},
    {OPTIM_MAX_ITER, "max_iter", offsetof(fdl_optim_opts, max_iter), WHOLE, FROM_ONE},
    {OPTIM_MAX_EVAL, "max_eval", offsetof(fdl_optim_opts, max_eval), WHOLE, NONNEGATIVE},
    {OPTIM_TOLERANCE_GRAD, "tolerance_grad", offsetof(fdl_optim_opts, tolerance_grad), REAL, NONNEGATIVE},
    {OPTIM_TOLERANCE_CHANGE, "tolerance_change", offsetof(fdl_optim_opts, tolerance_change), REAL,
     NONNEGATIVE},
    {OPTIM_HISTORY_SIZE, "history_size", offsetof(fdl_optim_opts, history_size), WHOLE, FROM_ONE},
    {OPTIM_STRONG_WOLFE, "strong_wolfe", offsetof(fdl_optim_opts, strong_wolfe), FLAG, ANY},
};
enum { N_FIELDS = sizeof fields / sizeof fields[0] };

static const struct field *field_of(uint64_t bit)
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
    default: {
        int v;
        memcpy(&v, at, sizeof v);
        return v != 0;
    }
    }
}

static bool is_number(const struct field *f)
{
    return f->type == REAL || f->type == WHOLE;
}

/* "lr, weight_decay, ...": what the optimizer has, numbers only if asked. */
static void names_of(const optim_kind *kind, bool numbers, char *buf, size_t n)
{
    size_t used = 0;
    buf[0] = '\0';
    for (int i = 0; i < N_FIELDS; i++)
        if (kind->fields & fields[i].bit && (!numbers || is_number(&fields[i])) && used < n) {
            int k = snprintf(buf + used, n - used, "%s%s", used ? ", " : "", fields[i].name);
            used += k > 0 ? (size_t)k : 0;
        }
}

static const struct {
    double least, below; /* least <= v < below, but for least itself where that is open */
    bool open;
    const char *text;
} ranges[] = {
    [NONNEGATIVE] = {0, (double)INFINITY, false, "0 or more and finite"},
    [BELOW_ONE] = {0, 1, false, "at least 0 and below 1"},
    [ANY] = {-(double)INFINITY, (double)INFINITY, false, "finite"},
    [POSITIVE] = {0, (double)INFINITY, true, "above 0 and finite"},
    [NONPOSITIVE] = {-(double)INFINITY, 0x1p-1022, false, "0 or less and finite"},
    [FROM_ONE] = {1, (double)INFINITY, false, "1 or more and finite"},
    [ABOVE_ONE] = {1, (double)INFINITY, true, "above 1 and finite"},
};

fdl_status optim_check_number(const optim_kind *kind, uint64_t bit, double v)
{
    const struct field *f = field_of(bit);
    if (!isfinite(v) || v < ranges[f->range].least || v >= ranges[f->range].below ||
        (ranges[f->range].open && v == ranges[f->range].least))
        return fdl_fail(FDL_E_ARG, "%s: %s is %g; it must be %s", kind->name, f->name, v,
                        ranges[f->range].text);
    if (f->type == WHOLE && (v != floor(v) || v > INT32_MAX))
        return fdl_fail(FDL_E_ARG, "%s: %s is %g; it must be a whole number that an int holds", kind->name,
                        f->name, v);
    return FDL_OK;
}

static fdl_status check_choice(const optim_kind *kind, const struct field *f, int v)
{
    if (f->bit == OPTIM_IMPL && (v < FDL_OPTIM_AUTO || v > FDL_OPTIM_FUSED))
        return fdl_fail(FDL_E_ARG,
                        "%s: .impl is %d, which is none of FDL_OPTIM_AUTO, _LOOP, _FOREACH, _FUSED",
                        kind->name, v);
    if (f->bit == OPTIM_ADJUST && (v < FDL_ADJUST_ORIGINAL || v > FDL_ADJUST_MATCH_RMS_ADAMW))
        return fdl_fail(FDL_E_ARG,
                        "%s: .adjust is %d, which is neither FDL_ADJUST_ORIGINAL nor _MATCH_RMS_ADAMW",
                        kind->name, v);
    return FDL_OK;
}

double optim_value(const fdl_optim_opts *o, uint64_t bit)
{
    const struct field *f = field_of(bit);
    const char *at = (const char *)o + f->at;
    double v;
    int whole;
    switch (f->type) {
    case REAL:
        memcpy(&v, at, sizeof v);
        return v;
    case FLAG:
        return *(const bool *)at;
    default:
        memcpy(&whole, at, sizeof whole);
        return whole;
    }
}

void optim_put(fdl_optim_opts *o, uint64_t bit, double v)
{
    const struct field *f = field_of(bit);
    char *at = (char *)o + f->at;
    int whole = (int)v;
    if (f->type == REAL)
        memcpy(at, &v, sizeof v);
    else if (f->type == FLAG)
        *(bool *)at = v != 0;
    else
        memcpy(at, &whole, sizeof whole);
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
            char own[256];
            names_of(kind, false, own, sizeof own);
            return fdl_fail(FDL_E_ARG, "%s has no option .%s; it has %s", kind->name, f->name, own);
        }
        double v = optim_value(given, f->bit);
        if (f->type == REAL)
            v = fdl_opt_double(v, v); /* FDL_ZERO is 0 */
        FDL_TRY(is_number(f) ? optim_check_number(kind, f->bit, v) : check_choice(kind, f, (int)v));
        optim_put(into, f->bit, v);
    }
    return kind->check ? kind->check(into) : FDL_OK;
}

uint64_t optim_field(const optim_kind *kind, const char *name)
{
    for (int i = 0; i < N_FIELDS; i++)
        if (is_number(&fields[i]) && kind->fields & fields[i].bit && strcmp(fields[i].name, name) == 0)
            return fields[i].bit;
    char own[256];
    names_of(kind, true, own, sizeof own);
    fdl_fail(FDL_E_ARG, "%s has no numeric option \"%s\"; it has %s", kind->name, name, own);
    return 0;
}

/* ---- in files ------------------------------------------------------------------------------------------ */

json_t *optim_options_write(const optim_kind *kind, const fdl_optim_opts *o)
{
    json_t *to = json_object();
    for (int i = 0; to && i < N_FIELDS; i++) {
        const struct field *f = &fields[i];
        if (!(kind->fields & f->bit) || f->bit == OPTIM_IMPL)
            continue;
        double v = optim_value(o, f->bit);
        json_t *value = f->type == FLAG   ? json_boolean(v != 0)
                        : f->type == REAL ? json_real(v)
                                          : json_integer((json_int_t)v);
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
        if (kind->fields & fields[i].bit && fields[i].bit != OPTIM_IMPL && strcmp(fields[i].name, name) == 0)
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
        if (f->type == FLAG ? !json_is_boolean(value) : !json_is_number(value))
            return fdl_fail(FDL_E_FORMAT, "%s: the checkpoint's option \"%s\" is no %s", kind->name, name,
                            f->type == FLAG ? "true or false" : "number");
        double v = f->type == FLAG ? json_is_true(value) : json_number_value(value);
        if (v !=
            optim_value(&kind->defaults, f->bit)) /* which may say more than its range: 0 is "by dtype" */
            FDL_TRY(is_number(f) ? optim_check_number(kind, f->bit, v) : check_choice(kind, f, (int)v));
        optim_put(o, f->bit, v);
    }
    return kind->check ? kind->check(o) : FDL_OK;
}
