"""A network found by mobilenas: one file that needs torch alone.

    from model import load
    network = load("weights.safetensors")
    logits = network(images)  # N x channels x side x side, prepared as preprocess.json says

Run as a program it loads the weights that lie beside it and says how large the network is.
"""

import json
import struct
import sys
from pathlib import Path

import torch
from torch import nn

# begin of the architecture
RESOLUTION = 0
IN_CHANNELS = 0
NUM_CLASSES = 0
STEM: dict = {}
BLOCKS: list = []
HEAD: dict = {}
BATCH_NORM_EPSILON = 1e-3
# end of the architecture

ACTIVATIONS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hswish": nn.Hardswish, "none": nn.Identity}
GATES = {"hard_sigmoid": nn.Hardsigmoid, "sigmoid": nn.Sigmoid}


class ConvUnit(nn.Module):
    """Convolution, BatchNorm, activation."""

    def __init__(self, inputs, outputs, kernel=1, stride=1, groups=1, activation="none"):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPSILON)
        self.act = ACTIVATIONS[activation]()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class SqueezeExcite(nn.Module):
    """Scales each channel by what all of them are on average."""

    def __init__(self, channels, squeezed, gate):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)
        self.gate = GATES[gate]()

    def forward(self, x):
        return x * self.gate(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))


class LinearUnit(nn.Module):
    """Fully connected layer and activation."""

    def __init__(self, inputs, outputs, activation="none", bias=True):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias)
        self.act = ACTIVATIONS[activation]()

    def forward(self, x):
        return self.act(self.linear(x.flatten(1)))


class Block(nn.Module):
    """One row of BLOCKS; input and output are added in inverted residuals where their shapes agree."""

    def __init__(self, kind, inputs, expanded, outputs, kernel, stride, activation, squeezed, gate):
        super().__init__()
        if kind == "conv":
            self.conv = ConvUnit(inputs, outputs, kernel, stride, activation=activation)
        else:
            width = expanded or inputs
            if expanded:
                self.expand = ConvUnit(inputs, expanded, activation=activation)
            self.depthwise = ConvUnit(width, width, kernel, stride, groups=width, activation=activation)
            if squeezed:
                self.se = SqueezeExcite(width, squeezed, gate)
            last = activation if kind == "depthwise_separable" else "none"
            self.project = ConvUnit(width, outputs, activation=last)
        self.has_residual = kind == "inverted_residual" and stride == 1 and inputs == outputs

    def forward(self, x):
        y = x
        for layer in self.children():
            y = layer(y)
        return x + y if self.has_residual else y


class Stem(nn.Module):
    """The first convolution."""

    def __init__(self, channels, stride, activation):
        super().__init__()
        self.conv = ConvUnit(IN_CHANNELS, channels, 3, stride, activation=activation)

    def forward(self, x):
        return self.conv(x)


class Head(nn.Module):
    """Convolution (if any), global pooling, hidden layer (if any), classifier."""

    def __init__(self, inputs, conv, hidden, activation, hidden_bias):
        super().__init__()
        width = inputs
        if conv:
            self.conv, width = ConvUnit(inputs, conv, activation=activation), conv
        self.pool = nn.AdaptiveAvgPool2d(1)
        if hidden:
            self.hidden, width = LinearUnit(width, hidden, activation, hidden_bias), hidden
        self.classifier = LinearUnit(width, NUM_CLASSES)

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x


class Network(nn.Sequential):
    """N x IN_CHANNELS x RESOLUTION x RESOLUTION images to N x NUM_CLASSES logits."""

    def __init__(self):
        super().__init__()
        self.add_module("stem", Stem(**STEM))
        for block in BLOCKS:
            row = dict(block)
            self.add_module(row.pop("name"), Block(**row))
        self.add_module("head", Head(**HEAD))


def read_safetensors(path):
    """The tensors of a safetensors file: 8 bytes of header length, a JSON header, the values."""
    content = bytearray(Path(path).read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    types = {"F32": torch.float32, "I64": torch.int64}
    tensors = {}
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        part = content[8 + length + start : 8 + length + stop]
        tensors[name] = torch.frombuffer(part, dtype=types[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def load(path):
    """The network with the weights of a file, ready to classify."""
    network = Network()
    network.load_state_dict(read_safetensors(path))
    return network.eval()


if __name__ == "__main__":
    weights = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("weights.safetensors")
    network = load(weights)
    with torch.inference_mode():
        logits = network(torch.zeros(1, IN_CHANNELS, RESOLUTION, RESOLUTION))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"{parameters:,} parameters; {IN_CHANNELS} x {RESOLUTION} x {RESOLUTION} px to {logits.shape[1]} classes")
