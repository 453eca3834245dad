from torch import nn

from models.common import flow_name as name, mse as loss


def build(by):
    channels = [3, 64 // by, 128 // by, 256 // by, 512 // by]
    layers = []
    for before, after in zip(channels, channels[1:]):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    layers += [nn.Conv2d(channels[4], channels[4], 1), nn.ReLU()]
    for before, after in zip(channels[:0:-1], channels[-2::-1]):
        layers += [nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
