"""One PyTorch side of the benchmark `step`: a model of models/ in one mode, driven by the lines that step.c sends.

    step.py MODEL MODE DEVICE DIVISOR THREADS WEIGHTS BATCH

Modes: eager (Adam as it comes), fused (Adam in one kernel), graph (the whole step as one CUDA graph), compile and
reduce-overhead (torch.compile of model and loss, fused Adam). Answers begin with "= ": first "= loss X", the first batch's loss with
the weights of the file; after a warm-up "= ready VERSION"; then for each line one answer:

    read N      seconds a step, mean of N steps that each read their loss
    run N       the same where only the end waits for the device
    memory      most bytes of device memory that lived at once since the warm-up; nan on the CPU
    busy        seconds a step in which the device ran kernels, by torch.profiler; nan on the CPU
"""
import importlib
import sys
import time

import torch
from safetensors.torch import load_file

WARMUP = 12
sys.dont_write_bytecode = True  # the models are read from the sources' folder


def say(*words):
    print("=", *words, flush=True)


def load(model, name, path):
    """Each key of the file under the model's own name for it: no key is left over or missing."""
    state = {name(key): value for key, value in load_file(path).items()}
    model.load_state_dict(state, strict=True)


class Stepper:
    def __init__(self, module, mode, device, by, weights, batch):
        self.device = torch.device(device)
        model = module.build(by)
        load(model, module.name, weights)
        model.to(self.device).train()
        data = load_file(batch)
        self.x, self.y = data["x"].to(self.device), data["y"].to(self.device)
        fused = mode != "eager"
        self.opt = torch.optim.Adam(model.parameters(), lr=1e-3, **(dict(fused=True) if fused else {}),
                                    **(dict(capturable=True) if mode == "graph" else {}))

        def loss():
            return module.loss(model, self.x, self.y)

        if mode == "compile":
            loss = torch.compile(loss)
        elif mode == "reduce-overhead":
            loss = torch.compile(loss, mode="reduce-overhead")
        self.loss = loss
        self.step = self.eager
        self.mode = mode

    def eager(self):
        self.opt.zero_grad()
        loss = self.loss()
        loss.backward()
        self.opt.step()
        return loss

    def capture(self):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.eager()
        torch.cuda.current_stream().wait_stream(side)
        self.opt.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = self.eager()

        def replay():
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

    def busy(self, n=10):
        if self.device.type != "cuda":
            return float("nan")
        from torch.profiler import ProfilerActivity, profile
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            for _ in range(n):
                self.step()
            self.wait()
        # kernels, copies and fills; what the host named spans them and doesn't count
        ran = [e for e in seen.events() if e.device_type.name == "CUDA" and not e.is_user_annotation]
        return sum(e.time_range.elapsed_us() for e in ran) / n / 1e6


def main():
    name, mode, device, by, threads, weights, batch = sys.argv[1:]
    torch.set_num_threads(int(threads))
    module = importlib.import_module("models." + name)
    side = Stepper(module, mode, device, int(by), weights, batch)
    say("loss", repr(side.step().item()))
    if mode == "graph":
        side.capture()
    for _ in range(WARMUP):
        side.step()
    side.wait()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    say("ready", torch.__version__)
    for line in sys.stdin:
        words = line.split()
        if words[0] in ("read", "run"):
            say(repr(side.seconds(int(words[1]), words[0] == "read")))
        elif words[0] == "memory":
            say(torch.cuda.max_memory_allocated() if device == "cuda" else "nan")
        elif words[0] == "busy":
            say(repr(side.busy()))


main()
