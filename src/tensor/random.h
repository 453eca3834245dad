/* Generators, shared by everything that draws. */
#ifndef FLODL_TENSOR_RANDOM_H
#define FLODL_TENSOR_RANDOM_H

#include <ATen/core/Generator.h>

#include "flodl/tensor.h"

struct fdl_generator {
    at::Generator g;
};

namespace flodl
{

/* The caller's generator, or none: the device's own. */
inline std::optional<at::Generator> generator(const fdl_generator *g)
{
    return g ? std::optional<at::Generator>(g->g) : std::nullopt;
}

} // namespace flodl

#endif
