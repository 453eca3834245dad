"""One PyTorch side of the benchmarks of steps: a model of models/ in one mode, driven by the lines of parts/side.h.

    step.py MODEL MODE DEVICE DIVISOR THREADS WEIGHTS BATCHES [SAMPLES]

Modes: eager (Adam as it comes), fused (Adam in one kernel), graph (the whole step as one CUDA graph, as PyTorch's documentation of
whole-network capture writes it), compile and reduce-overhead (torch.compile of model and loss, fused Adam)."""
import importlib
import itertools
import os
import sys
import time

import torch
from safetensors.torch import load_file

from parts.device_time import busy_words, listing

WARMUP = 12
sys.dont_write_bytecode = True  # the models are read from the sources' folder


def say(*words):
    print("=", *words, flush=True)


def load(model, name, path):
    """Each key of the file under the model's own name for it: no key is left over or missing."""
    state = {name(key): value for key, value in load_file(path).items()}
    model.load_state_dict(state, strict=True)


def load_batches(path, device):
    data = {key: value.to(device) for key, value in load_file(path).items()}
    suffixes = ["", *(f"_{k}" for k in range(1, len(data) // 2))]
    return [(data["x" + s], data["y" + s]) for s in suffixes]


class Stepper:
    def __init__(self, module, mode, device, by, weights, batches):
        self.device = torch.device(device)
        model = module.build(by)
        load(model, module.name, weights)
        model.to(self.device).train()
        self.batches = load_batches(batches, self.device)
        self.turns = itertools.cycle(self.batches)
        fused = mode != "eager"
        self.opt = torch.optim.Adam(model.parameters(), lr=1e-3, **(dict(fused=True) if fused else {}),
                                    **(dict(capturable=True) if mode == "graph" else {}))

        def loss(x, y):
            return module.loss(model, x, y)

        if mode == "compile":
            loss = torch.compile(loss)
        elif mode == "reduce-overhead":
            loss = torch.compile(loss, mode="reduce-overhead")
        self.loss = loss
        self.step = self.eager
        self.mode = mode

    def eager(self):
        return self.step_on(*next(self.turns))

    def step_on(self, x, y):
        self.opt.zero_grad()
        loss = self.loss(x, y)
        loss.backward()
        self.opt.step()
        return loss

    def capture(self):
        x, y = (t.clone() for t in self.batches[0])
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step_on(x, y)
        torch.cuda.current_stream().wait_stream(side)
        self.opt.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = self.step_on(x, y)

        def replay():
            new_x, new_y = next(self.turns)
            x.copy_(new_x)
            y.copy_(new_y)
            graph.replay()
            return loss

        self.step = replay

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, n, read):
        self.step()
        self.wait()
        start = time.perf_counter()
        for _ in range(n):
            loss = self.step()
            if read:
                loss.item()
        self.wait()
        return (time.perf_counter() - start) / n

    def spans(self, n):
        """What the device did in n steps: (start, end, name) of each kernel, copy and fill, in nanoseconds."""
        from torch.autograd import DeviceType
        from torch.profiler import ProfilerActivity, profile
        self.step()
        self.wait()
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            for _ in range(n):
                self.step()
            self.wait()
        # What the host named spans kernels, and doesn't count; neither does waiting.
        spans = sorted((e.start_ns(), e.start_ns() + e.duration_ns(), e.name()) for e in seen.profiler.kineto_results.events()
                       if e.device_type() == DeviceType.CUDA and not e.is_user_annotation() and e.duration_ns() > 0
                       and not e.name().startswith(("Stream Wait", "Stream Sync", "Event Sync", "Context Sync", "Device Sync")))
        if n > 1 and "BENCH_TRACE" in os.environ:
            print(f"PyTorch {self.mode}, {n} steps:", listing(spans), sep="\n", file=sys.stderr)
        return spans


def main():
    name, mode, device, by, threads, weights, batches = sys.argv[1:8]
    torch.set_num_threads(int(threads))
    module = importlib.import_module("models." + name)
    side = Stepper(module, mode, device, int(by), weights, batches)
    say("loaded", torch.__version__)
    if not sys.stdin.readline():
        return
    say("loss", *(repr(side.step().item()) for _ in side.batches))
    if mode == "graph":
        side.capture()
    for _ in range(WARMUP):
        side.step()
    side.wait()
    on_gpu = device == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    say("ready")
    for line in sys.stdin:
        words = line.split()
        if words[0] in ("read", "run"):
            say(repr(side.seconds(int(words[1]), words[0] == "read")))
        elif words[0] == "memory" and on_gpu:
            say(torch.cuda.max_memory_allocated())
        elif words[0] == "reserved" and on_gpu:
            say(torch.cuda.max_memory_reserved())
        elif words[0] == "profile" and on_gpu:
            side.spans(1)  # the profiler's first start takes seconds
            say("done")
        elif words[0] == "busy" and on_gpu:
            say(busy_words(side.spans(int(words[1])), int(words[1])))
        else:
            say("nan")


if __name__ == "__main__":
    main()
