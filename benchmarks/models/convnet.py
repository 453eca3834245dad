from torch import nn

from models.common import flow_name as name, mse as loss


def build(by):
    layers, before = [], 3
    for channels in (128 // by, 256 // by, 512 // by, 512 // by):
        layers += [nn.Conv2d(before, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2)]
        before = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 256 // by))
