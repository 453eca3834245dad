/* What the files of src/optim share: the optimizer, and what a method (sgd.c, adam.c) has to say of itself. A
 * method is one descriptor; optim.c, options.c and step.c do the rest for all of them. */
#ifndef FLODL_OPTIM_PRIVATE_H
#define FLODL_OPTIM_PRIVATE_H

#include "flodl/foreach.h"
#include "flodl/optim.h"

enum { OPTIM_STATES = 3 };

/* The fields of fdl_optim_opts, one bit each; options.c has their table. */
enum {
    OPTIM_LR = 1,
    OPTIM_WEIGHT_DECAY = 2,
    OPTIM_MAXIMIZE = 4,
    OPTIM_IMPL = 8,
    OPTIM_MOMENTUM = 16,
    OPTIM_DAMPENING = 32,
    OPTIM_NESTEROV = 64,
    OPTIM_BETA1 = 128,
    OPTIM_BETA2 = 256,
    OPTIM_EPS = 512,
    OPTIM_AMSGRAD = 1024
};

/* One parameter. */
typedef struct optim_slot {
    fdl_tensor *param;               /* kept */
    char *name;                      /* canonical, for errors */
    fdl_tensor *state[OPTIM_STATES]; /* kept; NULL until the options need it */
    fdl_tensor *step;                /* kept, 0-d float32 on the parameter's device */
    fdl_device device;               /* where the state is, and how it is laid out */
    fdl_dtype dtype;
    bool contiguous;
    bool placed; /* the three above are known */
    bool dense;  /* the parameter's elements fill its storage: fused kernels take them in storage order */
    bool fresh;  /* state was made and not yet used */
    fdl_tensor *grad; /* of this step, or NULL: not in it, or done */
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
    double ratio;     /* lr over group 0's, in the beginning */
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
        *skip;  /* 1-element float32 on the batch's device, which isn't the CPU: 1 leaves all as it is; or
                           * NULL */
    bool host;  /* on the CPU: counters and rate may be read */
    bool fresh; /* the state was made just now */
} optim_batch;

typedef struct optim_kind {
    const char *name;
    unsigned fields;         /* OPTIM_*: what of fdl_optim_opts is its own */
    unsigned momentum_field; /* OPTIM_MOMENTUM or OPTIM_BETA1: what a one-cycle schedule moves */
    fdl_optim_opts defaults;
    fdl_status (*check)(const fdl_optim_opts *o); /* beyond the ranges of single fields; may be NULL */
    bool counts;                                  /* has step counters */
    bool decoupled;                   /* weight decay acts on the parameter, not on the gradient */
    const char *states[OPTIM_STATES]; /* PyTorch's names */
    bool (*needs)(const optim_group *g, int state);
    fdl_status (*fused)(const optim_batch *b);
    fdl_status (*foreach)(const optim_batch *b);
    fdl_status (*one)(const optim_batch *b, int i); /* parameter i, in plain operations */
} optim_kind;

struct fdl_optim {
    const optim_kind *kind;
    optim_group *groups;
    int n_groups;
    uint64_t generation;
    int widest;         /* parameters of the largest group */
    fdl_tensor **lists; /* room for the lists of one batch: (3 + OPTIM_STATES) * widest */
};

/* options.c: reads what the caller gave over `base` into *into; checks every value. */
fdl_status optim_options(const optim_kind *kind, const fdl_optim_opts *base, const fdl_optim_opts *given,
                         fdl_optim_opts *into);
fdl_status optim_check_number(const optim_kind *kind, unsigned field, double v);
/* The numeric field of that name; 0 and FDL_E_ARG when it is none of this optimizer's. */
unsigned optim_field(const optim_kind *kind, const char *name);
double *optim_number(fdl_optim_opts *o, unsigned field);

/* optim.c */
fdl_optim *optim_new(const optim_kind *kind, const fdl_params *params, const fdl_optim_opts *opts);
/* Group g; NULL and an error when it isn't there. */
optim_group *optim_group_at(const fdl_optim *o, int g, const char *function);
/* Writes the group's rate and momentum into its tensors on the devices. */
fdl_status optim_write_scalars(const optim_kind *kind, optim_group *g);
/* What a schedule does with momentum or beta1: every group's, and from now on through the device. */
fdl_status optim_schedule_momentum(fdl_optim *o, double v);
/* The gradients of its parameters, in their order (scope). half: NULL, or gets the name of the first parameter whose
 * gradient is float16, or NULL. */
fdl_list optim_gradients(const fdl_optim *o, const char **half);

/* A number for an option whose 0 would mean its default. */
static inline double optim_exactly(double v)
{
    return v == 0 ? FDL_ZERO : v;
}

#endif
