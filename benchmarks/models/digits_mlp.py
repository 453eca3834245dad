from torch import nn

from models.common import cross_entropy as loss, flow_name as name


def build(by):
    return nn.Sequential(nn.Linear(64 // by, 32 // by), nn.ReLU(), nn.Linear(32 // by, 10))
