/* The C++ sides of the benchmark `step`: the models written by hand on libtorch, each in a mode, driven by the lines of
 * parts/side.h. What a step costs without a framework above libtorch.
 *
 *     step_cxx MODEL MODE DEVICE DIVISOR THREADS WEIGHTS BATCHES
 *
 * Modes: eager (torch::optim::Adam, which walks over the parameters one by one) and fused (one call of ATen's fused Adam). */
#include <chrono>
#include <cmath>
#include <cstdio>
#include <deque>
#include <iostream>

#include <torch/cuda.h>
#include <torch/optim/adam.h>
#include <torch/version.h>
#ifdef FLODL_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#endif

#include "models/models_cxx.h"
extern "C" {
#include "parts/gpu_trace.h"
}
#include "safetensors.h"

namespace
{

using torch::Tensor;

constexpr int warmup = 12;
constexpr double rate = 1e-3;

/* Adam in one kernel. All parameters count the same steps, so one counter stands for all. */
class fused_adam
{
    std::vector<Tensor> params, grads, means, squares, steps;
    Tensor step_count;

  public:
    explicit fused_adam(std::vector<Tensor> of)
        : params(std::move(of)), step_count(torch::zeros({}, params.at(0).options().requires_grad(false)))
    {
        for (const Tensor &p : params) {
            means.push_back(torch::zeros_like(p));
            squares.push_back(torch::zeros_like(p));
            steps.push_back(step_count);
        }
    }
    void zero_grad()
    {
        for (Tensor &p : params)
            p.mutable_grad().reset();
    }
    void step()
    {
        const torch::NoGradGuard no_grad;
        grads.clear();
        for (const Tensor &p : params)
            grads.push_back(p.grad());
        step_count.add_(1);
        at::_fused_adam_(params, grads, means, squares, {}, steps, rate, 0.9, 0.999, 0, 1e-8, false, false);
        grads.clear();
    }
};

/* Each tensor of the file into the model's next parameter or buffer of the same last name: the file keeps their order. */
void load(torch::nn::Module &model, const std::string &path)
{
    const torch::NoGradGuard no_grad;
    std::map<std::string, std::deque<Tensor>> waiting;
    size_t left = 0;
    for (const auto &[name, value] : read_safetensors(path)) {
        waiting[name.substr(name.rfind('.') + 1)].push_back(value);
        left++;
    }
    const auto take = [&](const auto &named) {
        for (const auto &item : named) {
            auto &values = waiting[item.key()];
            if (values.empty() || values.front().sizes() != item.value().sizes())
                throw std::runtime_error(path + ": no " + item.key() + " of the shape that comes next");
            item.value().copy_(values.front());
            values.pop_front();
            left--;
        }
    };
    for (const auto &module : model.modules()) {
        take(module->named_parameters(false));
        take(module->named_buffers(false));
    }
    if (left)
        throw std::runtime_error(path + ": tensors are left over");
}

struct side {
    bool on_gpu;
    models::built model;
    std::vector<std::pair<Tensor, Tensor>> batches; /* x, y: used by turns */
    size_t next;
    std::function<void()> zero_grad, update;

    Tensor step()
    {
        const auto &[x, y] = batches[next];
        next = (next + 1) % batches.size();
        zero_grad();
        Tensor loss = model.loss(x, y);
        loss.backward();
        update();
        return loss;
    }
    void wait() const
    {
        if (on_gpu)
            torch::cuda::synchronize();
    }
    double seconds(int n, bool read)
    {
        using clock = std::chrono::steady_clock;
        step();
        wait();
        const auto start = clock::now();
        for (int i = 0; i < n; i++) {
            const Tensor loss = step();
            if (read)
                loss.item<float>();
        }
        wait();
        return std::chrono::duration<double>(clock::now() - start).count() / n;
    }
};

template <class Optimizer>
void use(side &s, std::shared_ptr<Optimizer> optimizer)
{
    s.zero_grad = [optimizer] { optimizer->zero_grad(); };
    s.update = [optimizer] { optimizer->step(); };
}

/* x and y, x_1 and y_1, ... */
void load_batches(side &s, const std::string &path, torch::Device device)
{
    for (const auto &[name, value] : read_safetensors(path)) {
        const size_t k = name.size() > 2 ? std::stoul(name.substr(2)) : 0;
        if (s.batches.size() <= k)
            s.batches.resize(k + 1);
        (name[0] == 'x' ? s.batches[k].first : s.batches[k].second) = value.to(device);
    }
}

side make(const std::string &model, const std::string &mode, bool on_gpu, int64_t by,
          const std::string &weights, const std::string &batches)
{
    const auto device = on_gpu ? torch::kCUDA : torch::kCPU;
    side s{on_gpu, models::all.at(model)(by), {}, 0, {}, {}};
    torch::nn::Module &module = *s.model.module;
    load(module, weights);
    module.to(device);
    module.train();
    load_batches(s, batches, device);
    if (mode == "eager")
        use(s, std::make_shared<torch::optim::Adam>(module.parameters(), torch::optim::AdamOptions(rate)));
    else if (mode == "fused")
        use(s, std::make_shared<fused_adam>(module.parameters()));
    else
        throw std::runtime_error("no mode " + mode);
    return s;
}

/* Most bytes of device memory in use, or held by the allocator, since the warm-up; NaN on the CPU. */
double peak_memory([[maybe_unused]] bool reserved)
{
#ifdef FLODL_CUDA
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(0);
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    return static_cast<double>((reserved ? stats.reserved_bytes : stats.allocated_bytes)[all].peak);
#else
    return NAN;
#endif
}

void reset_peak_memory()
{
#ifdef FLODL_CUDA
    c10::cuda::CUDACachingAllocator::resetPeakStats(0);
#endif
}

void answer(double value)
{
    std::printf("= %.9g\n", value);
}

void answer_busy(side &s, int n)
{
    gpu_trace trace;
    s.step();
    bool ok = n > 0 && gpu_trace_begin(false);
    for (int i = 0; ok && i < n; i++)
        s.step();
    ok = ok && gpu_trace_end(&trace);
    if (ok && gpu_trace_answer(&trace, n)) {
        gpu_trace_free(&trace);
        return;
    }
    std::fprintf(stderr, "step_cxx: the device's time isn't known: %s\n", gpu_trace_why());
    answer(NAN);
}

void serve(side &s)
{
    for (std::string line; std::getline(std::cin, line);) {
        char word[16] = "";
        int n = 0;
        std::sscanf(line.c_str(), "%15s %d", word, &n);
        const std::string asked = word;
        if (asked == "read" || asked == "run")
            answer(s.seconds(n, asked == "read"));
        else if ((asked == "memory" || asked == "reserved") && s.on_gpu)
            answer(peak_memory(asked == "reserved"));
        else if (asked == "busy" && s.on_gpu)
            answer_busy(s, n);
        else
            answer(NAN);
        std::fflush(stdout);
    }
}

} // namespace

int main(int argc, char **argv)
try {
    if (argc != 8) {
        std::fprintf(stderr,
                     "step_cxx MODEL MODE DEVICE DIVISOR THREADS WEIGHTS BATCHES; bench_step starts it\n");
        return 2;
    }
    torch::set_num_threads(std::stoi(argv[5]));
    side s = make(argv[1], argv[2], std::string(argv[3]) == "cuda", std::stoi(argv[4]), argv[6], argv[7]);
    std::printf("= loaded %s\n", TORCH_VERSION);
    std::fflush(stdout);
    std::string line;
    if (!std::getline(std::cin, line))
        return 0;
    std::printf("= loss");
    for (size_t i = 0; i < s.batches.size(); i++)
        std::printf(" %.9g", static_cast<double>(s.step().item<float>()));
    std::printf("\n");
    std::fflush(stdout);
    for (int i = 0; i < warmup; i++)
        s.step();
    s.wait();
    if (s.on_gpu)
        reset_peak_memory();
    std::printf("= ready\n");
    std::fflush(stdout);
    serve(s);
    return 0;
} catch (const std::exception &e) {
    std::fprintf(stderr, "step_cxx: %s\n", e.what());
    return 1;
}
