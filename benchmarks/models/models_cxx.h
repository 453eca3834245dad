/* The models of models.h, written by hand in C++ on libtorch: torch::nn where it has what is needed. Losses are ATen's functions,
 * because those of torch::nn broadcast their operands first; and so is attention, because torch::nn's computes the matrix of weights. */
#ifndef BENCHMARKS_MODELS_CXX_H
#define BENCHMARKS_MODELS_CXX_H

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/nn.h>

namespace models
{

namespace nn = torch::nn;
using torch::Tensor;

struct built {
    std::shared_ptr<nn::Module> module;
    std::function<Tensor(const Tensor &x, const Tensor &y)> loss;
};

template <class Net>
built with_mse(std::shared_ptr<Net> net)
{
    return {net, [net](const Tensor &x, const Tensor &y) { return torch::mse_loss(net->forward(x), y); }};
}

inline nn::Linear linear(int64_t in, int64_t out)
{
    return nn::Linear(in, out);
}

inline nn::LayerNorm layer_norm(int64_t width)
{
    return nn::LayerNorm(nn::LayerNormOptions({width}));
}

inline built mlp(int64_t by)
{
    const int64_t width = 1024 / by, hidden = 2048 / by;
    nn::Sequential net;
    for (int i = 0; i < 5; i++) {
        const int64_t out = i < 4 ? hidden : width;
        net->push_back(linear(i ? hidden : width, out));
        net->push_back(nn::GELU());
        net->push_back(layer_norm(out));
    }
    return with_mse(net.ptr());
}

inline built convnet(int64_t by)
{
    nn::Sequential net;
    int64_t before = 3;
    for (int64_t channels : {128 / by, 256 / by, 512 / by, 512 / by}) {
        net->push_back(nn::Conv2d(nn::Conv2dOptions(before, channels, 3).padding(1)));
        net->push_back(nn::BatchNorm2d(channels));
        net->push_back(nn::ReLU());
        net->push_back(nn::MaxPool2d(2));
        before = channels;
    }
    net->push_back(nn::AdaptiveAvgPool2d(1));
    net->push_back(nn::Flatten());
    net->push_back(linear(before, 256 / by));
    return with_mse(net.ptr());
}

inline built conv_autoenc(int64_t by)
{
    const int64_t channels[] = {3, 64 / by, 128 / by, 256 / by, 512 / by};
    nn::Sequential net;
    for (int i = 0; i < 4; i++) {
        net->push_back(nn::Conv2d(nn::Conv2dOptions(channels[i], channels[i + 1], 3).stride(2).padding(1)));
        net->push_back(nn::ReLU());
    }
    net->push_back(nn::Conv2d(nn::Conv2dOptions(channels[4], channels[4], 1)));
    for (int i = 4; i > 0; i--) {
        net->push_back(nn::ReLU());
        net->push_back(nn::ConvTranspose2d(nn::ConvTranspose2dOptions(channels[i], channels[i - 1], 3)
                                               .stride(2)
                                               .padding(1)
                                               .output_padding(1)));
    }
    return with_mse(net.ptr());
}

/* nn::GRU or nn::LSTM, and a linear layer on the last step. */
template <class Recurrent, class Options>
struct sequence : nn::Module {
    Recurrent cell;
    nn::Linear head;

    sequence(int64_t in, int64_t hidden, int64_t out)
        : cell(register_module("cell", Recurrent(Options(in, hidden).num_layers(2)))),
          head(register_module("head", linear(hidden, out)))
    {
    }
    Tensor forward(const Tensor &x)
    {
        return head(std::get<0>(cell(x)).select(0, -1));
    }
};

inline built gru_seq(int64_t by)
{
    return with_mse(std::make_shared<sequence<nn::GRU, nn::GRUOptions>>(256 / by, 320 / by, 256 / by));
}

inline built lstm_seq(int64_t by)
{
    return with_mse(std::make_shared<sequence<nn::LSTM, nn::LSTMOptions>>(384 / by, 384 / by, 384 / by));
}

/* A body between two linear layers, run n times with the same weights. */
struct loop : nn::Module {
    nn::Linear first;
    nn::Sequential body;
    nn::Linear last;
    int n;

    loop(int64_t width, nn::Sequential b, int times)
        : first(register_module("first", linear(width, width))), body(register_module("body", std::move(b))),
          last(register_module("last", linear(width, width))), n(times)
    {
    }
    Tensor forward(Tensor x)
    {
        x = first(x);
        for (int i = 0; i < n; i++)
            x = body->forward(x);
        return last(x);
    }
};

inline built iterative_refine(int64_t by)
{
    const int64_t width = 1024 / by;
    return with_mse(std::make_shared<loop>(
        width, nn::Sequential(linear(width, width), nn::GELU(), layer_norm(width)), 8));
}

inline built feedback_fixed(int64_t by)
{
    const int64_t width = 512 / by;
    return with_mse(std::make_shared<loop>(
        width, nn::Sequential(linear(width, width), nn::Tanh(), layer_norm(width)), 10));
}

struct tower : nn::Module {
    nn::Linear first;
    std::vector<nn::Sequential> blocks;
    nn::Linear last;

    explicit tower(int64_t width)
        : first(register_module("first", linear(width, width))), last(linear(width, width))
    {
        for (int i = 0; i < 12; i++)
            blocks.push_back(
                register_module("block_" + std::to_string(i),
                                nn::Sequential(linear(width, width), nn::GELU(), layer_norm(width))));
        register_module("last", last);
    }
    Tensor forward(Tensor x)
    {
        x = first(x);
        for (nn::Sequential &block : blocks)
            x = x + block->forward(x);
        return last(x);
    }
};

inline built residual_tower(int64_t by)
{
    return with_mse(std::make_shared<tower>(1024 / by));
}

struct mixture : nn::Module {
    nn::Linear first, router;
    std::vector<nn::Linear> experts;
    nn::Linear last;

    explicit mixture(int64_t width)
        : first(register_module("first", linear(width, width))),
          router(register_module("router", linear(width, 8))), last(linear(width, width))
    {
        for (int i = 0; i < 8; i++)
            experts.push_back(register_module("expert_" + std::to_string(i), linear(width, width)));
        register_module("last", last);
    }
    Tensor forward(Tensor x)
    {
        x = torch::gelu(first(x));
        const Tensor weights = torch::softmax(router(x), -1);
        std::vector<Tensor> results;
        results.reserve(experts.size());
        for (nn::Linear &expert : experts)
            results.push_back(expert(x));
        return last((weights.unsqueeze(-1) * torch::stack(results, 1)).sum(1));
    }
};

inline built gated_routing(int64_t by)
{
    return with_mse(std::make_shared<mixture>(512 / by));
}

/* x [n, length, dim]; the names of torch::nn::MultiheadAttention and TransformerEncoderLayer. */
struct attention : nn::Module {
    int64_t heads;
    Tensor in_proj_weight, in_proj_bias;
    nn::Linear out_proj;

    attention(int64_t dim, int64_t n)
        : heads(n), in_proj_weight(register_parameter("in_proj_weight", torch::empty({3 * dim, dim}))),
          in_proj_bias(register_parameter("in_proj_bias", torch::empty({3 * dim}))),
          out_proj(register_module("out_proj", linear(dim, dim)))
    {
    }
    Tensor forward(const Tensor &x)
    {
        const auto parts = torch::linear(x, in_proj_weight, in_proj_bias).chunk(3, -1);
        const auto by_head = [&](const Tensor &t) { return t.unflatten(-1, {heads, -1}).transpose(1, 2); };
        const Tensor y =
            torch::scaled_dot_product_attention(by_head(parts[0]), by_head(parts[1]), by_head(parts[2]));
        return out_proj(y.transpose(1, 2).flatten(2));
    }
};

struct encoder_layer : nn::Module {
    std::shared_ptr<attention> self_attn;
    nn::Linear linear1, linear2;
    nn::LayerNorm norm1, norm2;

    encoder_layer(int64_t dim, int64_t heads)
        : self_attn(register_module("self_attn", std::make_shared<attention>(dim, heads))),
          linear1(register_module("linear1", linear(dim, 4 * dim))),
          linear2(register_module("linear2", linear(4 * dim, dim))),
          norm1(register_module("norm1", layer_norm(dim))), norm2(register_module("norm2", layer_norm(dim)))
    {
    }
    Tensor forward(Tensor x)
    {
        x = norm1(x + self_attn->forward(x));
        return norm2(x + linear2(torch::gelu(linear1(x))));
    }
};

/* x + a learnt vector for each position. */
struct positions : nn::Module {
    Tensor weight;

    positions(int64_t length, int64_t dim) : weight(register_parameter("weight", torch::empty({length, dim})))
    {
    }
    Tensor forward(const Tensor &x)
    {
        return x + weight;
    }
};

struct language_model : nn::Module {
    nn::Embedding embedding;
    std::shared_ptr<positions> position;
    std::vector<std::shared_ptr<encoder_layer>> layers;
    nn::Linear head;

    language_model(int64_t vocabulary, int64_t dim, int64_t length)
        : embedding(register_module("embedding", nn::Embedding(vocabulary, dim))),
          position(register_module("position", std::make_shared<positions>(length, dim))),
          head(linear(dim, vocabulary))
    {
        for (int i = 0; i < 4; i++)
            layers.push_back(
                register_module("layer_" + std::to_string(i), std::make_shared<encoder_layer>(dim, 8)));
        register_module("head", head);
    }
    Tensor forward(const Tensor &tokens)
    {
        Tensor x = position->forward(embedding(tokens));
        for (const auto &layer : layers)
            x = layer->forward(x);
        return head(x);
    }
};

inline built transformer(int64_t by)
{
    auto net = std::make_shared<language_model>(12000 / by, 512 / by, 128 / by);
    return {net, [net](const Tensor &x, const Tensor &y) {
                return torch::cross_entropy_loss(net->forward(x).flatten(0, 1), y.flatten());
            }};
}

/* by divides the sizes. */
inline const std::map<std::string, built (*)(int64_t by)> all = {
    {"mlp", mlp},
    {"convnet", convnet},
    {"gru_seq", gru_seq},
    {"lstm_seq", lstm_seq},
    {"transformer", transformer},
    {"conv_autoenc", conv_autoenc},
    {"residual_tower", residual_tower},
    {"gated_routing", gated_routing},
    {"iterative_refine", iterative_refine},
    {"feedback_fixed", feedback_fixed},
};

} // namespace models

#endif
