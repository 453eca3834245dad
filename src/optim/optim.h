/* What the files of src/optim share: the optimizer, and what a method (sgd.c, adam.c) has to say of itself. A
 * method is one descriptor; optim.c, options.c and step.c do the rest for all of them. */
#ifndef FLODL_OPTIM_PRIVATE_H
#define FLODL_OPTIM_PRIVATE_H

#include "flodl/foreach.h"
#include "flodl/optim.h"

#include <jansson.h>

enum { OPTIM_STATES = 4 };

/* The fields of fdl_optim_opts, one bit each; options.c has their table. More than an enumerator holds. */
#define OPTIM_BIT(n) (UINT64_C(1) << (n))
#define OPTIM_LR OPTIM_BIT(0)
#define OPTIM_WEIGHT_DECAY OPTIM_BIT(1)
#define OPTIM_MAXIMIZE OPTIM_BIT(2)
#define OPTIM_IMPL OPTIM_BIT(3)
#define OPTIM_MOMENTUM OPTIM_BIT(4)
#define OPTIM_DAMPENING OPTIM_BIT(5)
#define OPTIM_NESTEROV OPTIM_BIT(6)
#define OPTIM_BETA1 OPTIM_BIT(7)
#define OPTIM_BETA2 OPTIM_BIT(8)
#define OPTIM_EPS OPTIM_BIT(9)
#define OPTIM_AMSGRAD OPTIM_BIT(10)
#define OPTIM_ALPHA OPTIM_BIT(11)
#define OPTIM_CENTERED OPTIM_BIT(12)
#define OPTIM_LR_DECAY OPTIM_BIT(13)
#define OPTIM_INITIAL_ACCUMULATOR OPTIM_BIT(14)
#define OPTIM_RHO OPTIM_BIT(15)
#define OPTIM_MOMENTUM_DECAY OPTIM_BIT(16)
#define OPTIM_DECOUPLED OPTIM_BIT(17)
#define OPTIM_MASTER_WEIGHTS OPTIM_BIT(18)
#define OPTIM_NO_NESTEROV OPTIM_BIT(19)
#define OPTIM_NS_STEPS OPTIM_BIT(20)
#define OPTIM_NS_A OPTIM_BIT(21)
#define OPTIM_NS_B OPTIM_BIT(22)
#define OPTIM_NS_C OPTIM_BIT(23)
#define OPTIM_ADJUST OPTIM_BIT(24)
#define OPTIM_BETA2_DECAY OPTIM_BIT(25)
#define OPTIM_EPS1 OPTIM_BIT(26)
#define OPTIM_EPS2 OPTIM_BIT(27)
#define OPTIM_D OPTIM_BIT(28)
#define OPTIM_LAMBD OPTIM_BIT(29)
#define OPTIM_T0 OPTIM_BIT(30)
#define OPTIM_ETA_MINUS OPTIM_BIT(31)
#define OPTIM_ETA_PLUS OPTIM_BIT(32)
#define OPTIM_STEP_MIN OPTIM_BIT(33)
#define OPTIM_STEP_MAX OPTIM_BIT(34)
#define OPTIM_MAX_ITER OPTIM_BIT(35)
#define OPTIM_MAX_EVAL OPTIM_BIT(36)
#define OPTIM_TOLERANCE_GRAD OPTIM_BIT(37)
#define OPTIM_TOLERANCE_CHANGE OPTIM_BIT(38)
#define OPTIM_HISTORY_SIZE OPTIM_BIT(39)
#define OPTIM_STRONG_WOLFE OPTIM_BIT(40)

/* What a state of a parameter is. */
typedef enum optim_form {
    OPTIM_LIKE = 0, /* of the parameter's shape, layout and dtype; float32 beside master weights */
    OPTIM_NUMBER,   /* one float32, 0-d */
    OPTIM_ROWS,     /* [.., m, 1] for a parameter [.., m, n] */
    OPTIM_COLS,     /* [.., 1, n] */
    OPTIM_MASTER    /* the parameter in float32, which is what the method steps */
} optim_form;

/* What a method does with sparse gradients. */
typedef enum optim_sparsity { OPTIM_DENSE = 0, OPTIM_ANY, OPTIM_SPARSE } optim_sparsity;

typedef struct optim_saved optim_saved; /* what is read from or written to a file: state.c */

/* One parameter. */
typedef struct optim_slot {
    fdl_tensor *param;               /* kept */
    char *name;                      /* canonical, for errors */
    fdl_tensor *state[OPTIM_STATES]; /* kept; NULL until the options need it */
    fdl_tensor *step;                /* kept, 0-d float32 on the parameter's device */
    fdl_device device;               /* where the state is, and how it is laid out */
    fdl_dtype dtype;
    bool contiguous;
    bool placed;     /* the three above are known */
    bool dense;      /* the parameter's elements fill its storage: fused kernels take them in storage order */
    bool fresh;      /* state was made and not yet used */
    int64_t written; /* the parameter's fdl_tensor_version when its master was last rounded into it */
    fdl_tensor *grad; /* of this step, or NULL: not in it, or done */
    bool sparse;      /* that gradient is */
} optim_slot;

/* What may change between two runs of a captured step, as 0-d tensors on one device. */
typedef struct optim_scalars {
    fdl_device device;
    fdl_tensor *lr; /* kept; float64 on the CPU, float32 elsewhere */
    fdl_tensor
        *momentum; /* kept; NULL unless a schedule moves momentum or beta1 and the device isn't the CPU */
} optim_scalars;

typedef struct optim_group {
    fdl_optim_opts o; /* resolved: every field has its value, 0 is 0 */
    double ratio;     /* lr over that of the first group that isn't at 0, in the beginning */
    bool scheduled;   /* a schedule moves momentum or beta1 */
    optim_slot *slots;
    int n;
    optim_scalars *scalars; /* one a device */
    int n_scalars;
} optim_group;

/* Parameters of one group, device and dtype that are stepped together. */
typedef struct optim_batch {
    const struct optim_kind *kind;
    const fdl_optim_opts *o;
    fdl_list params, grads, steps,
        state[OPTIM_STATES]; /* n each; state lists that the options don't need have none */
    fdl_tensor *lr;
    fdl_tensor *momentum; /* NULL: the number in o */
    fdl_tensor
        *skip;   /* 1-element float32 on the batch's device, which isn't the CPU: 1 leaves all as it is; or
                           * NULL */
    bool host;   /* on the CPU: counters and rate may be read */
    bool fresh;  /* the state was made just now */
    bool sparse; /* the gradients are sparse */
} optim_batch;

typedef struct optim_kind {
    const char *name;
    uint64_t fields;         /* OPTIM_*: what of fdl_optim_opts is its own */
    uint64_t momentum_field; /* OPTIM_MOMENTUM or OPTIM_BETA1: what a one-cycle schedule moves; or 0 */
    fdl_optim_opts defaults;
    fdl_status (*check)(const fdl_optim_opts *o); /* beyond the ranges of single fields; may be NULL */
    fdl_status (*admit)(fdl_tensor *param,
                        const char *name); /* whether it takes that parameter; may be NULL */
    bool counts;                           /* has step counters */
    bool decoupled;                        /* weight decay acts on the parameter, not on the gradient */
    bool one_group;                        /* a second can't be added */
    optim_sparsity sparsity;
    const char *states[OPTIM_STATES]; /* PyTorch's names */
    optim_form form[OPTIM_STATES];
    bool (*needs)(const optim_group *g, const optim_slot *s, int state); /* NULL: all of them, always */
    double (*initial)(const fdl_optim_opts *o, int state);               /* NULL: 0 */
    bool (*has_kernel)(fdl_device device);     /* NULL: fused works wherever it is there */
    fdl_status (*fused)(const optim_batch *b); /* NULL: libtorch has no kernel */
    fdl_status (*foreach)(const optim_batch *b);
    fdl_status (*one)(const optim_batch *b, int i); /* parameter i, in plain operations */
    fdl_status (*one_sparse)(const optim_batch *b, int i);
    /* A method that evaluates the model several times a step has this and none of the four above. */
    fdl_status (*closure)(fdl_optim *o, fdl_optim_closure closure, void *ctx, double *loss);
    /* What is remembered of the optimizer as a whole, o->own; NULL: nothing. own_load makes another one, or NULL and an error. */
    fdl_status (*own_save)(const fdl_optim *o, optim_saved *to);
    void *(*own_load)(const fdl_optim *o, const optim_saved *from);
    void (*own_free)(void *own);
} optim_kind;

struct fdl_optim {
    const optim_kind *kind;
    optim_group *groups;
    int n_groups;
    uint64_t generation;
    void *own;          /* the method's, of no single parameter; or NULL */
    int widest;         /* parameters of the largest group */
    fdl_tensor **lists; /* room for the lists of one batch: (3 + OPTIM_STATES) * widest */
    optim_slot **batch; /* and for whose they are: widest */
};

/* options.c: reads what the caller gave over `base` into *into; checks every value. */
fdl_status optim_options(const optim_kind *kind, const fdl_optim_opts *base, const fdl_optim_opts *given,
                         fdl_optim_opts *into);
fdl_status optim_check_number(const optim_kind *kind, uint64_t field, double v);
/* The numeric field of that name; 0 and FDL_E_ARG when it is none of this optimizer's. */
uint64_t optim_field(const optim_kind *kind, const char *name);
/* A field as a number, whatever its type: flags are 0 or 1. */
double optim_value(const fdl_optim_opts *o, uint64_t field);
/* Puts a number into a field of its own type, unchecked. */
void optim_put(fdl_optim_opts *o, uint64_t field, double v);

/* step.c: a state as it is before the parameter's first step, where the parameter is now (scope). What shape and dtype a state
 * has is said there and nowhere else. */
fdl_tensor *optim_begin_state(const optim_kind *kind, const optim_group *g, const optim_slot *s, int state);
/* Runs the closure, recording; *loss unless NULL: what it returned, which waits for the device. */
fdl_status optim_evaluate(const char *kind, fdl_optim_closure closure, void *ctx, double *loss);
/* Whether the method steps a float32 copy of the parameter. */
bool optim_has_master(const optim_kind *kind, const optim_group *g, const optim_slot *s);

/* Every option of the method but .impl, by name; owned, NULL: no memory. */
json_t *optim_options_write(const optim_kind *kind, const fdl_optim_opts *o);
/* Reads them into *o, which has the others already. Another option than the method's: FDL_E_MISMATCH. */
fdl_status optim_options_read(const optim_kind *kind, json_t *from, fdl_optim_opts *o);

/* optim.c */
fdl_optim *optim_new(const optim_kind *kind, const fdl_params *params, const fdl_optim_opts *opts);
/* Group g; NULL and an error when it isn't there. */
optim_group *optim_group_at(const fdl_optim *o, int g, const char *function);
/* Writes the group's rate and momentum into its tensors on the devices. */
fdl_status optim_write_scalars(const optim_kind *kind, optim_group *g);
/* What a schedule does with momentum or beta1: every group's, and from now on through the device. */
fdl_status optim_schedule_momentum(fdl_optim *o, double v);
/* *values (scope): the parameter's gradient, or NULL. Of a sparse one the values, which share its memory; each index is there
 * once then. */
fdl_status optim_gradient(fdl_tensor *param, fdl_tensor **values);
/* The gradients of its parameters, as above, in their order (scope). half: NULL, or gets the name of the first parameter whose
 * gradient is float16, or NULL. */
fdl_list optim_gradients(const fdl_optim *o, const char **half);

void optim_free_scalars(optim_group *g);

/* state.c: what a method has of its own, by name within this optimizer; numbers as 0-d tensors. */
fdl_status optim_saved_put(optim_saved *to, const char *name, fdl_tensor *t);
/* The dict's, of any dtype and device; NULL without an error: it isn't there. */
fdl_tensor *optim_saved_get(const optim_saved *from, const char *name);

/* parts.c: what several methods have in common. What changes from step to step is a tensor on the device of
 * the batch, or on the host a number. */
/* The gradients to be used: negated where asked. Weight decay is added to them, or, where decoupled, taken off the
 * parameters. */
fdl_list optim_decayed(const optim_batch *b, bool decoupled);
/* a = w * a + (1 - w) * x, w being beta1 (or what a schedule makes of it). */
fdl_status optim_average(const optim_batch *b, fdl_list a, fdl_list x);
/* a = w * a + (1 - w) * x^2. */
fdl_status optim_average_square(fdl_list a, fdl_list x, double w);
/* New lists: a[i]; a[i] / b[i]. */
fdl_list optim_copy(fdl_list a);
fdl_list optim_quotient(fdl_list a, fdl_list b);
/* p -= lr * u. */
fdl_status optim_descend(const optim_batch *b, fdl_list u);
/* p -= rates[i] * u[i], rates [n]; u is changed. */
fdl_status optim_descend_by(const optim_batch *b, fdl_list u, fdl_tensor *rates);
/* The counts of the batch's parameters, float64 [n]. */
fdl_tensor *optim_counts(const optim_batch *b);
/* 1 - beta^t for the counts t, in float64 (shape of t). */
fdl_tensor *optim_correction(fdl_tensor *t, fdl_tensor *log_beta);
/* The logarithm of a number, and of beta1, as 0-d float64 tensors on the device of like, or of the batch. */
fdl_tensor *optim_log(double beta, fdl_tensor *like);
fdl_tensor *optim_log_beta1(const optim_batch *b);

/* The same of parameter i alone, for the loops; rates and counts are 0-d, float64, but on the host numbers: there an operation on
 * a single number costs as much as one on a parameter. */
double optim_host_count(const optim_batch *b, int i);
double optim_host_rate(const optim_batch *b, int i); /* lr / (1 - beta1^t) */
fdl_tensor *optim_one_decayed(const optim_batch *b, int i, bool decoupled);
fdl_status optim_one_average(const optim_batch *b, fdl_tensor *a, fdl_tensor *x);
fdl_status optim_one_average_square(fdl_tensor *a, fdl_tensor *x, double w);
fdl_tensor *optim_one_count(const optim_batch *b, int i);
fdl_tensor *optim_one_rate(const optim_batch *b, int i); /* lr / (1 - beta1^t) */
fdl_status optim_one_descend(const optim_batch *b, int i, fdl_tensor *u);
fdl_status optim_one_descend_by(const optim_batch *b, int i, fdl_tensor *u, fdl_tensor *rate);

/* A number for an option whose 0 would mean its default. */
static inline double optim_exactly(double v)
{
    return v == 0 ? FDL_ZERO : v;
}

#endif
