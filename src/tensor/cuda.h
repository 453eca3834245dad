/* What the files on CUDA share: which devices there are. */
#ifndef FLODL_TENSOR_CUDA_H
#define FLODL_TENSOR_CUDA_H

#include <c10/core/Device.h>
#include <c10/core/Event.h>

#include <string>

#include "flodl/types.h"
#include "internal.h"

namespace flodl
{

/* Whether libtorch's CUDA part is loaded, and how many devices it sees. */
bool cuda_built();
int cuda_count();
/* "built without CUDA", "no CUDA device found", "this machine has 2 CUDA devices". */
std::string cuda_devices();
/* Device i, or FDL_E_DEVICE. */
at::Device gpu(int i);
/* A CUDA device, or FDL_E_DEVICE; for all zero the thread's default device, if that is CUDA. */
at::Device gpu(fdl_device d);
/* For what only CUDA's own headers have, in a build without them: always FDL_E_DEVICE. */
[[noreturn]] void without_cuda(int i);

/* Where s captures: the event, which was recorded there, marks that place of each replay instead (cuda_graph.cpp). */
void mark_replays(const c10::Event &e, const c10::Stream &s);

/* An out-of-memory error of libtorch's CUDA allocator in flodl's words: what was asked, and the device's bytes (cuda_memory.cpp). */
std::string oom_text(const std::string &why);

} // namespace flodl

#endif
