"""PyTorch's side of the benchmark `start`: one training step, as soon as it can be made.

    start.py MODEL DEVICE X X_BELOW Y Y_BELOW

X and Y are shapes ("8x64"), *_BELOW the number of classes, 0 for normally distributed numbers. Answers "= LOSS BYTES MOST VERSION": the memory
resident now, the most that was, and PyTorch's version."""
import importlib
import sys

import torch

sys.dont_write_bytecode = True  # the models are read from the sources' folder


def status_bytes(key):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))


def made(shape, below, device):
    shape = [int(n) for n in shape.split("x")]
    return torch.randint(int(below), shape, device=device) if int(below) else torch.randn(shape, device=device)


name, device, x, x_below, y, y_below = sys.argv[1:]
module = importlib.import_module("models." + name)
model = module.build(1).to(device)
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
loss = module.loss(model, made(x, x_below, device), made(y, y_below, device))
loss.backward()
opt.step()
value = loss.item()
if device == "cuda":
    torch.cuda.synchronize()
print("=", repr(value), status_bytes("VmRSS"), status_bytes("VmHWM"), torch.__version__, flush=True)
