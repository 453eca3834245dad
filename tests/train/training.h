/* A model with all of its training that a checkpoint takes, and that as bytes. */
#ifndef FLODL_TESTS_TRAIN_TRAINING_H
#define FLODL_TESTS_TRAIN_TRAINING_H

#include "ckpt_files.h"

typedef struct training {
    fdl_module *m;
    fdl_optim *opt;
    fdl_amp_scaler *scaler;
    fdl_plateau *plateau;
    fdl_ema *ema;
    fdl_rng rng;
    fdl_progress at;
} training;

static void training_end(training *t)
{
    fdl_ema_free(t->ema);
    fdl_plateau_free(t->plateau);
    fdl_amp_scaler_free(t->scaler);
    fdl_optim_free(t->opt);
    fdl_module_free(t->m);
}

#define ALL_OF(t)                                                                                \
    .optim = (t).opt, .scaler = (t).scaler, .plateau = (t).plateau, .ema = (t).ema, .rng = true, \
    .host_rng = &(t).rng, .progress = &(t).at

/* All of it in memory, but for the time at which it was saved. */
static bytes image_of(training *t)
{
    bytes b = {0};
    fdl_writer to = {write_bytes, &b};
    check_ok(fdl_ckpt_save_to(t->m, to, ALL_OF(*t)));
    char *at = memmem(b.at, b.n, "fdl.saved_at", 12);
    assert_non_null(at);
    memset(at, '.', 12 + 24);
    return b;
}

#endif
