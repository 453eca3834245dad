#!/usr/bin/env python3
"""Runs attention_tower.py and its port and compares them: the weights that PyTorch begins with go to flodl, the loss of each step is
the same; the weights that flodl has trained go to PyTorch, which measures the same with them, and the other way round.

    python3 compare.py BUILD/examples/attention_tower
    python3 compare.py --record        writes attention_tower.safetensors: PyTorch's first weights as first.*, its losses
"""
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
folder = tempfile.TemporaryDirectory()
work = pathlib.Path(folder.name)


def python(*options):
    return subprocess.run([sys.executable, HERE / "attention_tower.py", *options], check=True, capture_output=True, text=True).stdout


def numbers(file):
    return torch.tensor([float(line) for line in open(file)], dtype=torch.float64)


def port(*options):
    return subprocess.run([sys.argv[1], *options], check=True, capture_output=True, text=True).stdout


def expect(what, ok):
    print(f"{what}: {'yes' if ok else 'NO'}")
    if not ok:
        sys.exit(1)


print("PyTorch:", python("--first", work / "first.safetensors", "--losses", work / "losses"), end="")
first = load_file(work / "first.safetensors")
if "--record" in sys.argv:
    save_file({f"first.{k}": v for k, v in first.items()} | {"losses": numbers(work / "losses")}, HERE / "attention_tower.safetensors")
    sys.exit()

print("flodl:  ", port("--first", work / "first.safetensors", "--save", work / "trained.safetensors", "--losses", work / "ported"), end="")
off = (numbers(work / "losses") - numbers(work / "ported")).abs().max().item()
expect(f"the losses are the same (they differ by {off:.1e} at most)", off < 1e-3)
trained = load_file(work / "trained.safetensors")
expect("flodl's file has PyTorch's keys and shapes", {k: v.shape for k, v in trained.items()} == {k: v.shape for k, v in first.items()})
there, here = python("--load", work / "trained.safetensors"), port("--load", work / "trained.safetensors")
expect(f"PyTorch measures with flodl's weights what flodl measures ({there.strip()})", there == here)
