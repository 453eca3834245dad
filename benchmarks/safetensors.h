/* Reading a safetensors file into libtorch's tensors, for the C++ side of the benchmark `step`: 8 bytes with the length of a JSON
 * header, the header, the data. Only what this benchmark writes: float32 and int64, on a machine that is little-endian. */
#ifndef BENCHMARKS_SAFETENSORS_H
#define BENCHMARKS_SAFETENSORS_H

#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <jansson.h>
#include <torch/types.h>

using named_tensors = std::vector<std::pair<std::string, torch::Tensor>>;

/* The tensors and their names, in the order of the header. Throws std::runtime_error. */
inline named_tensors read_safetensors(const std::string &path)
{
    std::ifstream file(path, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(file), {}};
    uint64_t length = 0;
    if (bytes.size() >= sizeof length)
        std::memcpy(&length, bytes.data(), sizeof length);
    if (length == 0 || length > bytes.size() - sizeof length)
        throw std::runtime_error(path + ": can't be read, or is no safetensors file");
    char *data = bytes.data() + sizeof length + length;
    const size_t size = bytes.size() - sizeof length - length;
    json_t *header = json_loadb(bytes.data() + sizeof length, length, 0, nullptr), *entry, *extent;
    named_tensors all;
    const char *name;
    json_object_foreach(header, name, entry)
    {
        const char *dtype;
        json_t *shape;
        json_int_t from, to;
        size_t k;
        if (std::strcmp(name, "__metadata__") == 0)
            continue;
        if (json_unpack(entry, "{s:s, s:o, s:[I, I]}", "dtype", &dtype, "shape", &shape, "data_offsets",
                        &from, &to))
            throw std::runtime_error(path + ": " + name + " lacks dtype, shape or data_offsets");
        std::vector<int64_t> sizes;
        json_array_foreach(shape, k, extent) sizes.push_back(json_integer_value(extent));
        const auto type = std::strcmp(dtype, "I64") == 0 ? torch::kInt64 : torch::kFloat32;
        const int64_t numel = c10::multiply_integers(sizes);
        if (from < 0 || to > static_cast<json_int_t>(size) ||
            to - from != numel * static_cast<int64_t>(c10::elementSize(type)))
            throw std::runtime_error(path + ": " + name + " is " + dtype + ", or not where the header says");
        all.emplace_back(name, torch::from_blob(data + from, sizes, type).clone());
    }
    json_decref(header);
    return all;
}

#endif
