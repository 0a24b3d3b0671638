"""Torch modules of an architecture, and the plain weights that an ONNX graph needs (BatchNorm folded)."""

import copy
import math
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Any, assert_never

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from space.arch import Activation, Architecture
from space.keys import BlockKey, StageBlockKey, named_keys
from space.layers import Conv, Layer, Linear, Pool, SqueezeExcite, layers_of

_ACTIVATIONS: dict[Activation, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hswish": nn.Hardswish,
}


def _activation(name: Activation | None) -> nn.Module:
    if name is None:
        return nn.Identity()
    return _ACTIVATIONS[name](inplace=True)


@lru_cache
def _taps(side: int, kernel: int, stride: int) -> Tensor:
    """Which weight of a kernel leads from a pixel of a map to one of its output, row by row; kernel² means none.

    Int64, side² x ceil(side / stride)².
    """
    reach = torch.arange(side)[:, None] - stride * torch.arange(-(-side // stride)) + kernel // 2
    is_tap = (reach >= 0) & (reach < kernel)
    index = reach[:, None, :, None] * kernel + reach[None, :, None, :]
    index = torch.where(is_tap[:, None, :, None] & is_tap[None, :, None, :], index, kernel**2)
    return index.reshape(side**2, -1)


class SmallDepthwise(torch.autograd.Function):
    """Depthwise convolution of maps of some pixels: per channel one matrix from all pixels to all of the output.

    oneDNN's weight gradient does badly on small maps on some CPUs: for 64 x 288 maps of 4 x 4 pixels and a 5 x 5 kernel
    it took 30 ms on one and 6 on another, where this takes 3.4 for output and both gradients.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:  # noqa: ANN401 - torch's own interface
        """N x C x side x side and C x 1 x K x K to N x C x side/stride x side/stride."""
        channels, side = x.shape[1:3]
        taps = _taps(side, weight.shape[-1], stride)
        matrices = functional.pad(weight.flatten(1), (0, 1))[:, taps.flatten()].view(channels, *taps.shape)
        pixels = _by_channel(x)
        ctx.save_for_backward(pixels, matrices)
        ctx.stride, ctx.weight_shape = stride, weight.shape
        return _as_maps(pixels @ matrices)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:  # noqa: ANN401
        """The gradients of both, from that of the output."""
        pixels, matrices = ctx.saved_tensors
        gradient = _by_channel(gradients[0])
        into_x = _as_maps(gradient @ matrices.mT) if ctx.needs_input_grad[0] else None
        kernel = ctx.weight_shape[-1]
        taps = _taps(math.isqrt(pixels.shape[2]), kernel, ctx.stride).flatten()
        sums = gradient.new_zeros(len(gradient), kernel**2 + 1)
        sums.index_add_(1, taps, (pixels.mT @ gradient).flatten(1))
        return into_x, sums[:, :-1].reshape(ctx.weight_shape), None


def _by_channel(maps: Tensor) -> Tensor:
    """N x C x side x side to C x N x side², in this order in memory: elsewise each channel is multiplied alone."""
    return maps.permute(1, 0, 2, 3).flatten(2).contiguous()


def _as_maps(pixels: Tensor) -> Tensor:
    """C x N x side² to N x C x side x side, channels last."""
    channels, count, _ = pixels.shape
    maps = pixels.view(channels, count, *[math.isqrt(pixels.shape[2])] * 2).permute(1, 0, 2, 3)
    return maps.contiguous(memory_format=torch.channels_last)


# Above this output side the matrices grow large, and oneDNN's own weight gradient is at least as fast.
SMALL_MAP = 4


class _DepthwiseConv(nn.Conv2d):
    """torch's Conv2d with one filter per channel, faster to train on small maps on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x C x H/stride x W/stride."""
        stride = int(self.stride[0])
        small = -(-x.shape[-1] // stride) <= SMALL_MAP and x.shape[-1] == x.shape[-2] and x.device.type == "cpu"
        if small and self.weight.shape[-1] > 3 and torch.is_grad_enabled():
            return SmallDepthwise.apply(x, self.weight, stride)  # type: ignore[no-any-return, no-untyped-call]
        return super().forward(x)


class ConvUnit(nn.Module):
    """Convolution, BatchNorm, activation; NCHW in and out."""

    def __init__(self, layer: Conv, batch_norm_epsilon: float) -> None:
        super().__init__()
        kind = _DepthwiseConv if layer.groups > 1 else nn.Conv2d
        self.conv = kind(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            padding=layer.kernel_size // 2,
            groups=layer.groups,
            bias=False,
        )
        # The trainer sets the momentum.
        self.bn = nn.BatchNorm2d(layer.out_channels, eps=batch_norm_epsilon)
        self.act = _activation(layer.activation)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """N x in_channels x H x W to N x out_channels x H/stride x W/stride."""
        return self.act(self.bn(self.conv(x)))  # type: ignore[no-any-return]


class SqueezeExciteUnit(nn.Module):
    """x * gate(excite(relu(squeeze(mean(x))))); MobileNetV3's gate is a hard sigmoid (section 5.3)."""

    def __init__(self, layer: SqueezeExcite) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(layer.channels, layer.squeeze_channels, 1)
        self.excite = nn.Conv2d(layer.squeeze_channels, layer.channels, 1)
        self.gate = nn.Hardsigmoid() if layer.gate == "hard_sigmoid" else nn.Sigmoid()
        nn.init.zeros_(self.squeeze.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.excite.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W, unchanged in shape."""
        scale = self.excite(functional.relu(self.squeeze(x.mean((2, 3), keepdim=True))))
        return x * self.gate(scale)  # type: ignore[no-any-return]


class LinearUnit(nn.Module):
    """Fully connected layer on flattened maps, and an activation."""

    def __init__(self, layer: Linear) -> None:
        super().__init__()
        self.linear = nn.Linear(layer.in_channels, layer.out_channels, bias=layer.bias)
        self.act = _activation(layer.activation)
        nn.init.normal_(self.linear.weight, 0, 0.01 if layer.activation is None else layer.in_channels**-0.5)
        if layer.bias:
            nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """N x in_channels (x 1 x 1) to N x out_channels."""
        return self.act(self.linear(x.flatten(1)))  # type: ignore[no-any-return]


def _build_layer(layer: Layer, batch_norm_epsilon: float) -> nn.Module:
    match layer:
        case Conv():
            return ConvUnit(layer, batch_norm_epsilon)
        case SqueezeExcite():
            return SqueezeExciteUnit(layer)
        case Linear():
            return LinearUnit(layer)
        case Pool():
            return nn.AdaptiveAvgPool2d(1)
    assert_never(layer)


class Unit(nn.Module):
    """One stem, block or head with its residual connection."""

    def __init__(self, key: BlockKey, batch_norm_epsilon: float) -> None:
        super().__init__()
        for layer in layers_of(key):
            self.add_module(layer.name, _build_layer(layer, batch_norm_epsilon))
        self.has_residual = isinstance(key, StageBlockKey) and key.has_residual

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W; the head returns N x num_classes."""
        y = x
        for layer in self.children():
            y = layer(y)
        return x + y if self.has_residual else y


def build_model(arch: Architecture) -> nn.Sequential:
    """The network as a torch module: N x in_channels x resolution^2 to N x num_classes logits.

    Its weights are drawn from torch's global generator; seed it, or fork it, around the call.
    """
    units = ((name, Unit(key, arch.batch_norm_epsilon)) for name, key in named_keys(arch).items())
    return nn.Sequential(OrderedDict(units))


def fused(model: nn.Module) -> nn.Module:
    """A copy for inference with BatchNorm folded into the convolutions: the same outputs, twice as fast on a CPU."""
    copied = copy.deepcopy(model).eval()
    for module in copied.modules():
        if isinstance(module, ConvUnit):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = nn.Identity()  # type: ignore[assignment]
    return copied


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to(torch.float32).cpu().numpy()


def folded_weights(model: nn.Module) -> dict[str, np.ndarray]:
    """Weights and biases by the names that `onnx_graph` asks for, BatchNorm folded into the convolutions.

    w' = w * gamma / sqrt(var + eps), b' = beta - mean * gamma / sqrt(var + eps); computed in float64.
    """
    folded: dict[str, np.ndarray] = {}
    for name, module in model.named_modules():
        if isinstance(module, ConvUnit):
            bn = module.bn
            assert bn.running_mean is not None
            assert bn.running_var is not None
            scale = bn.weight.double() / torch.sqrt(bn.running_var.double() + bn.eps)
            folded[f"{name}.weight"] = _numpy(module.conv.weight.double() * scale[:, None, None, None])
            folded[f"{name}.bias"] = _numpy(bn.bias.double() - bn.running_mean.double() * scale)
        elif isinstance(module, SqueezeExciteUnit):
            for part in ("squeeze", "excite"):
                conv = getattr(module, part)
                folded[f"{name}.{part}.weight"] = _numpy(conv.weight)
                folded[f"{name}.{part}.bias"] = _numpy(conv.bias)
        elif isinstance(module, LinearUnit):
            folded[f"{name}.weight"] = _numpy(module.linear.weight)
            if module.linear.bias is not None:
                folded[f"{name}.bias"] = _numpy(module.linear.bias)
    return folded
