import re

from torch import nn

from models.common import mse as loss


class Model(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(width, width)
        self.body = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.LayerNorm(width))
        self.last = nn.Linear(width, width)

    def forward(self, x):
        x = self.first(x)
        for _ in range(10):
            x = self.body(x)
        return self.last(x)


def build(by):
    return Model(512 // by)


def name(key):
    key = re.sub(r"^loop_2\.body\.[a-z]+_(\d)\.", lambda m: f"body.{int(m[1]) - 1}.", key)
    return key.replace("linear_1.", "first.").replace("linear_3.", "last.")
