"""Looks the left side of parity.txt up in PyTorch, and evaluates PyTorch's side of spellings.def; prints what isn't there. Run with a
Python that has torch."""
import os
import re
import sys

import torch
import torch.nn.attention
import torch.nn.utils.parametrizations
import torch.nn.utils.parametrize
import torch.nn.utils.prune
import torch.nn.utils.rnn
import torch.optim.swa_utils
import torch.utils.checkpoint

PLACES = {"F": torch.nn.functional, "Tensor": torch.Tensor, "nn": torch.nn, "torch": torch, "optim": torch.optim,
          "lr_scheduler": torch.optim.lr_scheduler, "init": torch.nn.init, "data": torch.utils.data}
missing = 0
HERE = os.path.dirname(os.path.abspath(__file__))
for line in open(os.path.join(HERE, "parity.txt")):
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

names = {**PLACES, "utils": torch.nn.utils, "amp": torch.amp, "attention": torch.nn.attention, "swa_utils": torch.optim.swa_utils}
for c, python in re.findall(r'^SPELLING\((.*), "(.*)"\)$', open(os.path.join(HERE, "spellings.def")).read(), re.M):
    torch.set_grad_enabled(True)
    model = torch.nn.Linear(4, 4)
    params = list(model.parameters())
    for p in params:
        p.grad = torch.ones_like(p)
    opt = torch.optim.SGD(params, lr=0.1)
    layer = torch.nn.TransformerEncoderLayer(8, 2)
    here = dict(names, model=model, params=params, opt=opt, layer=layer, decoder_layer=torch.nn.TransformerDecoderLayer(8, 2), w=torch.nn.Parameter(torch.zeros(4, 4)), x=torch.zeros(4, 4), v=torch.zeros(20), parametrized=torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 4)),
                pruned=torch.nn.utils.prune.identity(torch.nn.Linear(4, 4), "weight"), a=torch.zeros(4, 2, 3),
                list=list, dict=dict, rate=lambda step: 0.5)
    try:
        eval(python, here)
    except Exception as e:
        print(f"{python}: {e}")
        missing += 1
sys.exit(missing > 0)
