/* A training step of each of ten models, on this side, in PyTorch's modes and in C++ on libtorch, by turns in one run. Adam at
 * 1e-3, float32, batches on the device. parts/steps.h says how it is measured, docs/benchmark.md what came of it.
 *
 *     bench_step [MODEL...] [--device cuda|cpu] [--rounds N] [--ms N] [--threads N] [--sides NAME,...]
 *                [--python PROGRAM] [--json FILE] [--small]
 *
 * With --json the file is whole after each model, so that a run that is cut off leaves what it had; models that are measured in
 * several runs go into several files, which `fdl bench publish` puts together. */
#include <math.h>

#include "parts/steps.h"

#define MODEL(name) &bench_##name,
static const bench_model *const models[] = {BENCH_MODELS(MODEL) BENCH_SMALL_MODELS(MODEL) NULL};
enum { TEN = sizeof(const bench_model *[]){BENCH_MODELS(MODEL)} / sizeof(const bench_model *) };
#undef MODEL

/* Another side, or another mode of one, is another row; what it must answer stands in parts/side.h. */
static const side_kind sides[] = {
    {.side = "flodl", .mode = "eager", .serve = "--serve"},
    {.side = "flodl", .mode = "graph", .serve = "--serve", .needs_gpu = true},
    {.side = "flodl", .mode = "trainer", .serve = "--serve"},
    {.side = "pytorch", .mode = "eager"},
    {.side = "pytorch", .mode = "fused"},
    {.side = "pytorch", .mode = "graph", .needs_gpu = true},
    {.side = "pytorch", .mode = "compile", .compiles = true},
    {.side = "pytorch", .mode = "reduce-overhead", .needs_gpu = true, .compiles = true},
    {.side = "cxx", .mode = "eager", .beside = "step_cxx"},
    {.side = "cxx", .mode = "fused", .beside = "step_cxx"},
};

/* ---- what should hold, on a GPU --------------------------------------------------------------------------------- */

static double trainer_by_best(const steps_case *c)
{
    return steps_ratio(c, steps_side(c, "flodl", "trainer"), steps_fastest(c, "pytorch"));
}

static double trainer_by_busy(const steps_case *c)
{
    const side *s = steps_side(c, "flodl", "trainer");
    return s ? steps_seconds(c, s) / s->busy.busy : (double)NAN;
}

/* Bound by launches: the device is idle for over a fifth of PyTorch's eager step. */
static double eager_by_eager(const steps_case *c)
{
    const side *theirs = steps_side(c, "pytorch", "eager");
    if (!theirs || !(theirs->busy.busy < 0.8 * steps_seconds(c, theirs)))
        return (double)NAN;
    return steps_ratio(c, steps_side(c, "flodl", "eager"), theirs);
}

static double eager_by_cxx(const steps_case *c)
{
    return steps_ratio(c, steps_side(c, "flodl", "eager"), steps_fastest(c, "cxx"));
}

static double peak_by_peak(const steps_case *c)
{
    const side *ours = steps_side(c, "flodl", "eager"), *theirs = steps_side(c, "pytorch", "eager");
    return ours && theirs ? ours->memory / theirs->memory : (double)NAN;
}

static double held_by_held(const steps_case *c)
{
    const side *ours = steps_side(c, "flodl", "trainer"), *theirs = steps_side(c, "pytorch", "eager");
    return ours && theirs ? ours->reserved / theirs->reserved : (double)NAN;
}

static const steps_bar bars[] = {
    {"trainer <= the best of PyTorch's modes (8 of 10)", 1, trainer_by_best, 8},
    {"trainer <= 1.05 x the time its device is busy", 1.05, trainer_by_busy, 0},
    {"eager <= 0.75 x PyTorch's eager, where launches bind", 0.75, eager_by_eager, 0},
    {"eager <= 1.05 x libtorch in C++ by hand", 1.05, eager_by_cxx, 0},
    {"eager: peak memory <= PyTorch's eager", 1, peak_by_peak, 0},
    {"trainer: memory held <= 1.25 x PyTorch's eager", 1.25, held_by_held, 0},
};

int main(int argc, char **argv)
{
    static const steps_bench bench = {
        .name = "step",
        .models = models,
        .n_meant = TEN,
        .kinds = sides,
        .n_kinds = sizeof sides / sizeof *sides,
        .bars = bars,
        .n_bars = sizeof bars / sizeof *bars,
        .defaults = {.rounds = 10, .ms = 100, .threads = 1},
    };
    return steps_main(&bench, argc, argv);
}
