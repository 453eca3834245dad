from torch import nn

from models.common import flow_name as name, mse as loss


def build(by):
    width, hidden = 1024 // by, 2048 // by
    layers = []
    for i in range(5):
        out = hidden if i < 4 else width
        layers += [nn.Linear(hidden if i else width, out), nn.GELU(), nn.LayerNorm(out)]
    return nn.Sequential(*layers)
