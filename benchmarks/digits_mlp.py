"""The PyTorch twin of digits_mlp.c, as its users write it; see twin.h for what it prints."""
import statistics
import sys
import time

import torch
import torch.nn as nn

STEPS = 300
batch = int(sys.argv[1])

torch.set_num_threads(1)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
opt = torch.optim.Adam(model.parameters())
loss_fn = nn.CrossEntropyLoss()
x = ((torch.arange(batch * 64, dtype=torch.float32) * 37) % 17 / 16).reshape(batch, 64)
y = torch.arange(batch) % 10


def step():
    loss = loss_fn(model(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss.item()


def round_seconds():
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


print(repr(step()), flush=True)
round_seconds()
for _ in sys.stdin:
    print(repr(round_seconds()), flush=True)
