"""Looks the left side of parity.txt up in PyTorch; prints the names that aren't there. Run with a Python that has torch."""
import os
import re
import sys

import torch
import torch.utils.checkpoint

PLACES = {"F": torch.nn.functional, "Tensor": torch.Tensor, "nn": torch.nn, "torch": torch, "optim": torch.optim,
          "lr_scheduler": torch.optim.lr_scheduler, "init": torch.nn.init, "data": torch.utils.data}
missing = 0
for line in open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "parity.txt")):
    if line.startswith("#") or not line.strip():
        continue
    name = re.split(" +", line)[0].strip()
    first, *rest = name.split(".")
    at = PLACES.get(first)
    for part in rest:
        at = getattr(at, part, None)
    if at is None:
        print(name)
        missing += 1
sys.exit(missing > 0)
