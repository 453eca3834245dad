"""Whether PyTorch takes a tied weight that flodl wrote: python tied.py FILE, whose values are twice those of Tied."""
import sys

import torch
from safetensors.torch import load_file, load_model
from torch import nn


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.out = nn.Linear(4, 5, bias=False)
        self.embed.weight.data.copy_(torch.arange(20.0).reshape(5, 4) / 8 - 1)
        self.out.weight = self.embed.weight


if __name__ == "__main__":
    model = Tied()
    want = 2 * model.embed.weight.data
    missing, unexpected = load_model(model, sys.argv[1])
    assert not missing and not unexpected, (missing, unexpected)
    assert torch.equal(model.embed.weight.data, want) and model.out.weight is model.embed.weight
    assert list(load_file(sys.argv[1])) == ["embed.weight"]
    print("ok")
