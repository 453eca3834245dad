/* Models as ONNX files, for onnxruntime and others: as they run in evaluation, with their weights inside. */
#ifndef FLODL_ONNX_H
#define FLODL_ONNX_H

#include "flodl/summary.h"

FDL_BEGIN_DECLS

typedef struct fdl_onnx_opts {
    fdl_by_name opts_;
    int opset;        /* version of ONNX's operations, 17 to 22; default 17 */
    fdl_dtype dtype;  /* of x, as fdl_module_summary's */
    fdl_inputs more;  /* further inputs in order */
    const char *name; /* of the graph in the file; default: the label, or "flodl" */
} fdl_onnx_opts;

/* `fdl_onnx_save(m, "model.onnx", FDL_SHAPE(-1, 3, 32, 32))`: writes the model for an input of that shape; -1 is a batch of any
 * size ("N" in the file). Inputs have a graph's names; the result is called "output", those of fdl_flow_output as their tags,
 * with "_" behind a name that is taken already; weights are called as parameters are. m stays as it is; its forward runs
 * without values, as for fdl_module_summary.
 *
 * docs/topology.md lists what ONNX can be told. Anything else, a file of 2 GB or more, or a batch of -1 on whose size the
 * operations depend: FDL_E_UNSUPPORTED, with the node and its kind. */
FDL_API fdl_status fdl_onnx_save_opt(fdl_module *m, const char *path, fdl_shape x, const fdl_onnx_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_onnx_save(m, path, ...) fdl_onnx_save_(m, path, __VA_ARGS__, .opts_ = 0)
#define fdl_onnx_save_(m, path, x, ...) fdl_onnx_save_opt(m, path, x, &(fdl_onnx_opts){__VA_ARGS__})
#endif

#endif
