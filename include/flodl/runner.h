/* Inference at the speed of the device: a model's forward pass, recorded as one CUDA graph for each kind of input and
 * launched as a whole. On the CPU, and where a pass can't be recorded, it runs as it is.
 *
 *     FDL_CHECK(fdl_eval(model));
 *     fdl_runner *r = fdl_runner_new(model);
 *     for (...) {
 *         FDL_SCOPE;
 *         fdl_tensor *y = fdl_runner_run(r, x);
 *         ...
 *     }
 *     fdl_runner_free(r);
 */
#ifndef FLODL_RUNNER_H
#define FLODL_RUNNER_H

#include "flodl/trainer.h"

FDL_BEGIN_DECLS

typedef struct fdl_runner fdl_runner;

typedef struct fdl_runner_opts {
    fdl_by_name opts_;
    fdl_dtype autocast; /* FDL_BFLOAT16 or FDL_FLOAT16: the pass runs under autocast */
    fdl_trainer_capture
        capture;   /* FDL_CAPTURE_REQUIRE: FDL_E_STATE with the reason where a pass can't be recorded */
    int max_plans; /* kinds of inputs that are kept recorded, default 8: the least recently used leaves */
    bool
        borrow; /* results are the recorded pass's own memory, which the next run on inputs of the same kind overwrites;
                  * default: copies */
} fdl_runner_opts;
/* Owned: fdl_runner_free. The model stays the caller's and must outlive it. An option out of its range: FDL_E_ARG. */
FDL_API fdl_runner *fdl_runner_new_opt(fdl_module *model, const fdl_runner_opts *opts);
/* The model's forward pass in inference mode (torch.inference_mode): what fdl_forward_list gives, of any shapes. Inputs of
 * another device are brought to the model's. The first three runs on inputs of a kind (shapes, dtypes) are eager and are
 * noted; the fourth is recorded and compared with the eager one; from then on it is replayed, until something in the model
 * changes. The result is the current scope's. A model in training mode: FDL_E_STATE (fdl_eval first). One thread at a time. */
FDL_API fdl_tensor *fdl_runner_run_list(fdl_runner *r, fdl_list inputs);
/* Writes in words what runs for which inputs, and why. */
FDL_API fdl_status fdl_runner_plan(fdl_runner *r, FILE *file);
/* NULL: nothing. Borrowed results stay valid while their handles live. */
FDL_API void fdl_runner_free(fdl_runner *r);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_runner_new(...) fdl_runner_new_(__VA_ARGS__, .opts_ = 0)
#define fdl_runner_new_(model, ...) fdl_runner_new_opt(model, &(fdl_runner_opts){__VA_ARGS__})
/* fdl_runner_run(r, x, ...): as many inputs as the model takes. */
#define fdl_runner_run(r, ...) fdl_runner_run_list(r, FDL_LIST(__VA_ARGS__))
#endif

#endif
