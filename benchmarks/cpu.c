/* A training step of small models on the CPU, where the time goes into calls more than into kernels, on this side and in
 * PyTorch's modes, by turns in one run. Adam at 1e-3, float32, at batches of 1, 8 and 64.
 *
 *     bench_cpu [MODEL...] [--batch N,...] [--threads N] [--rounds N] [--ms N] [--sides NAME,...] [--python PROGRAM]
 *               [--json FILE] */
#include <math.h>

#include "parts/steps.h"

#define MODEL(name) &bench_##name,
static const bench_model *const models[] = {BENCH_SMALL_MODELS(MODEL) NULL};
#undef MODEL

static const side_kind sides[] = {
    {.side = "flodl", .mode = "eager", .serve = "--serve"},
    {.side = "flodl", .mode = "trainer", .serve = "--serve"},
    {.side = "pytorch", .mode = "eager"},
    {.side = "pytorch", .mode = "fused"},
    {.side = "pytorch", .mode = "compile", .compiles = true},
};

/* ---- what should hold, at batches of up to 8 -------------------------------------------------------------------- */

static double ratio(const steps_case *c, const char *ours, const char *theirs)
{
    return c->samples > 8 ? (double)NAN
                          : steps_ratio(c, steps_side(c, "flodl", ours), steps_side(c, "pytorch", theirs));
}

static double eager_by_eager(const steps_case *c)
{
    return ratio(c, "eager", "eager");
}

static double trainer_by_eager(const steps_case *c)
{
    return ratio(c, "trainer", "eager");
}

static double eager_by_compile(const steps_case *c)
{
    return ratio(c, "eager", "compile");
}

static double trainer_by_compile(const steps_case *c)
{
    return ratio(c, "trainer", "compile");
}

static const steps_bar bars[] = {
    {"by hand <= 0.6 x PyTorch's eager", 0.6, eager_by_eager, 0},
    {"trainer <= 0.6 x PyTorch's eager", 0.6, trainer_by_eager, 0},
    {"by hand <= 0.9 x torch.compile", 0.9, eager_by_compile, 0},
    {"trainer <= 0.9 x torch.compile", 0.9, trainer_by_compile, 0},
};

int main(int argc, char **argv)
{
    static const steps_bench bench = {
        .name = "cpu",
        .models = models,
        .n_meant = sizeof models / sizeof *models - 1,
        .kinds = sides,
        .n_kinds = sizeof sides / sizeof *sides,
        .bars = bars,
        .n_bars = sizeof bars / sizeof *bars,
        .defaults = {.device = "cpu", .rounds = 15, .ms = 60, .threads = 1, .batches = {1, 8, 64}},
    };
    return steps_main(&bench, argc, argv);
}
