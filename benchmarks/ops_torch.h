/* The C++ side of the benchmark `ops`, for its C side. */
#ifndef BENCHMARKS_OPS_TORCH_H
#define BENCHMARKS_OPS_TORCH_H

#include "flodl/tensor.h"

/* Results that are alive at a time, on both sides: the heap works differently for one that dies at once. */
enum { IN_A_SCOPE = 10 };

#ifdef __cplusplus
extern "C" {
#endif

/* Row `row` of the table on copies of these operands. */
typedef struct torch_side torch_side;
torch_side *torch_side_new(int row, int n, fdl_tensor *const *operands);
/* n calls, a multiple of IN_A_SCOPE; -1 when one throws. */
int torch_side_run(torch_side *side, int n);
void torch_side_free(torch_side *side);

#ifdef __cplusplus
}
#endif

#endif
