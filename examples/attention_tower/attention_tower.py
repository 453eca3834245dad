#!/usr/bin/env python3
"""A residual tower with attention pooling, as it is written for PyTorch; attention_tower.c is its port. In a sequence of vectors of
some length one is marked: which of the kinds is it?

    python3 attention_tower.py [--first FILE] [--load FILE] [--losses FILE]

--first saves the weights that it begins with, --losses writes the loss of each step; --load takes trained weights and only measures."""
import argparse

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

FEATURES, KINDS, LENGTH, WIDTH, BLOCKS, HEADS, STEPS = 8, 4, 10, 16, 3, 2, 150


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Pool(nn.Module):
    """One question to all places, learnt; its answer stands for the sequence."""

    def __init__(self, width, heads):
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, 1, width))
        nn.init.normal_(self.query, std=0.5)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x, padding):
        query = self.query.expand(len(x), -1, -1)
        return self.attn(query, x, x, key_padding_mask=padding, need_weights=False)[0].squeeze(1)


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(FEATURES, WIDTH)
        self.blocks = nn.Sequential(*[Block(WIDTH) for _ in range(BLOCKS)])
        self.pool = Pool(WIDTH, HEADS)
        self.head = nn.Linear(WIDTH, KINDS)

    def forward(self, x, padding):
        return self.head(self.pool(self.blocks(self.embed(x)), padding))


def batch(n):
    kind = torch.randint(KINDS, (n,))
    length = torch.randint(4, LENGTH + 1, (n,))
    place = (torch.rand(n) * length).long()
    here = torch.arange(LENGTH) == place[:, None]
    mark = here[..., None] * F.one_hot(kind, FEATURES)[:, None] * 4
    return torch.randn(n, LENGTH, FEATURES) + mark, torch.arange(LENGTH) >= length[:, None], kind


def main():
    parser = argparse.ArgumentParser()
    for option in ("--first", "--load", "--losses"):
        parser.add_argument(option)
    args = parser.parse_args()
    torch.manual_seed(1)
    model, losses = Tower(), []
    if args.first:
        save_file(model.state_dict(), args.first)
    if args.load:
        model.load_state_dict(load_file(args.load))
    opt = torch.optim.AdamW(model.parameters(), lr=4e-4)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, 0.01, total_steps=STEPS)
    for _ in range(0 if args.load else STEPS):
        x, padding, kind = batch(32)
        loss = F.cross_entropy(model(x, padding), kind)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        sched.step()
        losses.append(loss.item())
    if args.losses:
        with open(args.losses, "w") as file:
            file.writelines(f"{loss:.9g}\n" for loss in losses)
    model.eval()
    torch.manual_seed(2)
    with torch.inference_mode():
        x, padding, kind = batch(1000)
        y = model(x, padding)
    print(f"loss {F.cross_entropy(y, kind).item():.4f}, {(y.argmax(1) == kind).float().mean().item():.3f} of 1000 right")


if __name__ == "__main__":
    main()
