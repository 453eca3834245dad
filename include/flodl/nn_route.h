/* Parts of a flow: routers of a gate, selectors of a switch, conditions of a loop. nn.h says what holds for all constructors. */
#ifndef FLODL_NN_ROUTE_H
#define FLODL_NN_ROUTE_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

/* ---- parts of a flow: routers of a gate, selectors of a switch, conditions of a loop ------------------ */

typedef struct fdl_nn_router_opts {
    fdl_by_name opts_;
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_router_opts;
typedef fdl_nn_router_opts fdl_nn_softmax_router_opts;
typedef fdl_nn_router_opts fdl_nn_sigmoid_router_opts;
/* For fdl_flow_gate with n experts: [*, dim] -> weights [*, n], which sum to 1, or lie in (0, 1) each for itself. Further
 * inputs (fdl_flow_using) are added to x first. Parameters proj.weight [n, dim], proj.bias [n], as linear's. */
FDL_API fdl_module *fdl_nn_softmax_router_opt(int64_t dim, int64_t n, const fdl_nn_softmax_router_opts *opts);
FDL_API fdl_module *fdl_nn_sigmoid_router_opt(int64_t dim, int64_t n, const fdl_nn_sigmoid_router_opts *opts);

/* For fdl_flow_switch: branch i >= 0 each time -> int64 [], on the CPU, so that the switch waits for nothing. */
FDL_API fdl_module *fdl_nn_fixed_selector(int64_t i);
typedef struct fdl_nn_argmax_selector_opts {
    fdl_by_name opts_;
    bool per_row; /* for a switch with .per_row */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_argmax_selector_opts;
/* The place of the largest of n linear functions of x [*, dim], averaged over all dims before the last -> int64 [], the lowest
 * at a tie; .per_row: for each index of the first dim -> int64 [d0]. Further inputs are added to x first. Parameters as
 * fdl_nn_softmax_router's; no gradient reaches them, as a choice has none. */
FDL_API fdl_module *fdl_nn_argmax_selector_opt(int64_t dim, int64_t n,
                                               const fdl_nn_argmax_selector_opts *opts);

/* For fdl_flow_loop: halts when an element of x [*] is above v: max(x) - v -> []. */
FDL_API fdl_module *fdl_nn_threshold_halt(double v);
typedef fdl_nn_router_opts fdl_nn_learned_halt_opts;
/* For fdl_flow_loop: a linear function, [*, dim] -> [*, 1]; above 0 halts. Parameters proj.weight [1, dim], proj.bias [1], as
 * linear's. */
FDL_API fdl_module *fdl_nn_learned_halt_opt(int64_t dim, const fdl_nn_learned_halt_opts *opts);
/* x plus its further inputs in the order of fdl_flow_using: what takes a state back into the stream. Without any: x. */
FDL_API fdl_module *fdl_nn_state_add(void);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_nn_softmax_router(dim, ...) fdl_nn_softmax_router_(dim, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_softmax_router_(dim, n, ...) \
    fdl_nn_softmax_router_opt(dim, n, &(fdl_nn_router_opts){__VA_ARGS__})
#define fdl_nn_argmax_selector(dim, ...) fdl_nn_argmax_selector_(dim, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_argmax_selector_(dim, n, ...) \
    fdl_nn_argmax_selector_opt(dim, n, &(fdl_nn_argmax_selector_opts){__VA_ARGS__})
#define fdl_nn_learned_halt(...) fdl_nn_learned_halt_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_learned_halt_(dim, ...) fdl_nn_learned_halt_opt(dim, &(fdl_nn_router_opts){__VA_ARGS__})
#define fdl_nn_sigmoid_router(dim, ...) fdl_nn_sigmoid_router_(dim, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_sigmoid_router_(dim, n, ...) \
    fdl_nn_sigmoid_router_opt(dim, n, &(fdl_nn_router_opts){__VA_ARGS__})
#endif

#endif
