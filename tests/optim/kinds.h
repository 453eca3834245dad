/* All optimizers, by name, and what a test must know of each. */
#ifndef FLODL_TESTS_OPTIM_KINDS_H
#define FLODL_TESTS_OPTIM_KINDS_H

#include "fixture.h"

typedef fdl_optim *(*optim_maker)(const fdl_params *, const fdl_optim_opts *);

typedef struct optim_row {
    const char *kind;
    optim_maker make;
    double lr;         /* its default */
    const char *state; /* of the parameter's shape */
    const char *moves; /* what a one-cycle schedule moves; NULL: nothing */
    bool decays;       /* has weight decay */
    bool matrices;     /* takes 2-d parameters only */
    bool sparse;       /* takes sparse gradients only */
    bool closure;      /* its step evaluates the model */
    bool first_rate;   /* the rate acts in the first step only */
} optim_row;

static const optim_row optim_rows[] = {
    {"sgd", fdl_optim_sgd_opt, 1e-3, NULL, "momentum", .decays = true},
    {"adam", fdl_optim_adam_opt, 1e-3, "exp_avg", "beta1", .decays = true},
    {"adamw", fdl_optim_adamw_opt, 1e-3, "exp_avg_sq", "beta1", .decays = true},
    {"rmsprop", fdl_optim_rmsprop_opt, 1e-2, "square_avg", "momentum", .decays = true},
    {"adagrad", fdl_optim_adagrad_opt, 1e-2, "sum", .decays = true},
    {"adadelta", fdl_optim_adadelta_opt, 1, "acc_delta", .decays = true},
    {"adamax", fdl_optim_adamax_opt, 2e-3, "exp_inf", "beta1", .decays = true},
    {"nadam", fdl_optim_nadam_opt, 2e-3, "exp_avg_sq", "beta1", .decays = true},
    {"radam", fdl_optim_radam_opt, 1e-3, "exp_avg", "beta1", .decays = true},
    {"lion", fdl_optim_lion_opt, 1e-4, "exp_avg", "beta1", .decays = true},
    {"muon", fdl_optim_muon_opt, 1e-3, "momentum_buffer", "momentum", .decays = true, .matrices = true},
    {"adafactor", fdl_optim_adafactor_opt, 1e-2, NULL, .decays = true},
    {"rprop", fdl_optim_rprop_opt, 1e-2, "step_size", .first_rate = true},
    {"asgd", fdl_optim_asgd_opt, 1e-2, "ax", .decays = true},
    {"sparse_adam", fdl_optim_sparse_adam_opt, 1e-3, "exp_avg", "beta1", .sparse = true},
    {"lbfgs", fdl_optim_lbfgs_opt, 1, NULL, .closure = true},
};
enum { OPTIM_ROWS = sizeof optim_rows / sizeof optim_rows[0] };

static inline const optim_row *optim_row_of(const char *kind)
{
    for (int i = 0; i < OPTIM_ROWS; i++)
        if (strcmp(optim_rows[i].kind, kind) == 0)
            return &optim_rows[i];
    fail_msg("no optimizer %s", kind);
    return NULL;
}

/* Takes dense gradients, step by step. */
static inline bool optim_is_plain(const optim_row *r)
{
    return !r->sparse && !r->closure;
}

static const fdl_optim_impl optim_impls[] = {FDL_OPTIM_AUTO, FDL_OPTIM_LOOP, FDL_OPTIM_FOREACH,
                                             FDL_OPTIM_FUSED};
static const char *const optim_impl_names[] = {"auto", "loop", "foreach", "fused"};

/* Of these, how many the method has on that device: the last is the kernel. */
static inline int optim_ways(const char *kind, fdl_device device)
{
    if (strcmp(kind, "adagrad") == 0)
        return fdl_k_has_fused_adagrad(device) ? 4 : 3;
    return strcmp(kind, "sgd") == 0 || strcmp(kind, "adam") == 0 || strcmp(kind, "adamw") == 0 ? 4 : 3;
}

/* The options of a recorded case. */
static inline fdl_optim_opts optim_recorded_options(const json_t *j)
{
#define REAL(name)                                 \
    {                                              \
#name, offsetof(fdl_optim_opts, name), 'r' \
    }
#define WHOLE(name)                                \
    {                                              \
#name, offsetof(fdl_optim_opts, name), 'i' \
    }
#define FLAG(name)                                 \
    {                                              \
#name, offsetof(fdl_optim_opts, name), 'f' \
    }
    static const struct {
        const char *name;
        size_t at;
        char type;
    } fields[] = {REAL(lr),
                  REAL(momentum),
                  REAL(dampening),
                  FLAG(nesterov),
                  REAL(weight_decay),
                  FLAG(maximize),
                  FLAG(amsgrad),
                  REAL(beta1),
                  REAL(beta2),
                  REAL(eps),
                  REAL(alpha),
                  FLAG(centered),
                  REAL(lr_decay),
                  REAL(initial_accumulator),
                  REAL(rho),
                  REAL(momentum_decay),
                  FLAG(decoupled),
                  FLAG(no_nesterov),
                  WHOLE(ns_steps),
                  REAL(ns_a),
                  REAL(ns_b),
                  REAL(ns_c),
                  WHOLE(adjust),
                  REAL(beta2_decay),
                  REAL(eps1),
                  REAL(eps2),
                  REAL(d),
                  REAL(eta_minus),
                  REAL(eta_plus),
                  REAL(step_min),
                  REAL(step_max),
                  REAL(lambd),
                  REAL(t0),
                  WHOLE(max_iter),
                  WHOLE(max_eval),
                  REAL(tolerance_grad),
                  REAL(tolerance_change),
                  WHOLE(history_size),
                  FLAG(strong_wolfe)};
#undef REAL
#undef WHOLE
#undef FLAG
    fdl_optim_opts o = {0};
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)j, name, v)
    {
        size_t i = 0, n = sizeof fields / sizeof fields[0];
        while (i < n && strcmp(fields[i].name, name) != 0)
            i++;
        if (i == n)
            fail_msg("a recorded option %s", name);
        char *at = (char *)&o + fields[i].at;
        double x = json_is_true(v) ? 1 : json_number_value(v);
        int whole = (int)x;
        if (fields[i].type == 'r' && x == 0)
            x = FDL_ZERO;
        if (fields[i].type == 'r')
            memcpy(at, &x, sizeof x);
        else if (fields[i].type == 'i')
            memcpy(at, &whole, sizeof whole);
        else
            *(bool *)at = x != 0;
    }
    return o;
}

#endif
