"""What other projects call the tensors of a network: torchvision's and timm's state dicts, and ours."""

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Literal

from torch import Tensor

from space.arch import DEFAULT_EPSILON, Architecture, Block
from space.errors import NotExpressible
from space.keys import named_keys
from space.layers import layers_of
from trainer.training.networks import Weights

Dialect = Literal["mobilenas", "torchvision", "timm"]
DIALECTS: tuple[Dialect, ...] = ("mobilenas", "torchvision", "timm")

_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
# A name that is in every state dict of a dialect, and in none of another.
_MARKS: Mapping[str, Dialect] = {
    "stem.conv.conv.weight": "mobilenas",
    "features.0.0.weight": "torchvision",
    "conv_stem.weight": "timm",
}


def dialect_of(names: Mapping[str, object]) -> Dialect | None:
    """Whose names these are, None: nobody's who is known here."""
    return next((dialect for mark, dialect in _MARKS.items() if mark in names), None)


def epsilon_in(arch: Architecture, dialect: Dialect) -> float:
    """BatchNorm's epsilon in a network that a project makes: torch's, but the papers' in torchvision's MobileNetV3.

    timm's `tf_` variants, too, have the papers'.
    """
    if dialect == "mobilenas" or (dialect == "torchvision" and arch.head.hidden_channels is not None):
        return DEFAULT_EPSILON
    return 1e-5


def names_in(arch: Architecture, dialect: Dialect) -> dict[str, str]:
    """What a dialect calls each tensor of a network, by our name, in the order of the network.

    Raises:
        NotExpressible: a project has no such network.
    """
    layers = [
        (f"{unit}.{layer.name}", layer.name) for unit, key in named_keys(arch).items() for layer in layers_of(key)
    ]
    theirs = {"mobilenas": _ours, "torchvision": _torchvision, "timm": _timm}[dialect](arch)
    found: dict[str, str] = {}
    for path, name in layers:
        if name == "se":
            for part, of_part in zip(("squeeze", "excite"), theirs[path], strict=True):
                found |= {f"{path}.{part}.{what}": f"{of_part}.{what}" for what in ("weight", "bias")}
        elif name in ("hidden", "classifier"):
            has_bias = name == "classifier" or arch.head.hidden_bias
            parts = ("weight", "bias") if has_bias else ("weight",)
            found |= {f"{path}.linear.{what}": f"{theirs[path][0]}.{what}" for what in parts}
        elif name != "pool":
            conv, norm = theirs[path]
            found[f"{path}.conv.weight"] = f"{conv}.weight"
            found |= {f"{path}.bn.{what}": f"{norm}.{what}" for what in _BATCH_NORM}
    return found


def translated(weights: Weights, arch: Architecture, dialect: Dialect) -> dict[str, Tensor]:
    """A state dict of ours as a dialect has it.

    Raises:
        NotExpressible: a project has no such network.
    """
    shaped: dict[str, Tensor] = {}
    for ours, theirs in names_in(arch, dialect).items():
        tensor = weights[ours]
        # timm's hidden layer is a convolution of the pooled map.
        is_map = dialect == "timm" and ours == "head.hidden.linear.weight"
        shaped[theirs] = tensor[:, :, None, None] if is_map else tensor
    return shaped


_Names = Mapping[str, tuple[str, ...]]
"""By our name of a layer what they call its parts: convolution and BatchNorm, squeeze and excite, or the one layer."""


def _blocks(arch: Architecture) -> Iterator[tuple[int, int, Block]]:
    for stage, each in enumerate(arch.stages):
        for position, block in enumerate(each.blocks):
            yield stage, position, block


def _ours(arch: Architecture) -> _Names:
    found: dict[str, tuple[str, ...]] = {}
    for unit, key in named_keys(arch).items():
        for layer in layers_of(key):
            path = f"{unit}.{layer.name}"
            parts = {"se": ("squeeze", "excite"), "hidden": ("linear",), "classifier": ("linear",)}
            found[path] = tuple(f"{path}.{part}" for part in parts.get(layer.name, ("conv", "bn")))
    return found


def _torchvision(arch: Architecture) -> _Names:
    """`torchvision.models.mobilenet_v2` where there is no hidden layer, else `mobilenet_v3_*`."""
    is_v2 = arch.head.hidden_channels is None
    if arch.head.conv_channels is None or any(block.kind != "inverted_residual" for _, _, block in _blocks(arch)):
        raise NotExpressible("torchvision has MobileNetV2 and V3 alone: inverted residuals, and a last convolution")
    if is_v2 and any(block.use_se for _, _, block in _blocks(arch)):
        raise NotExpressible("torchvision's MobileNetV2 has no squeeze-and-excite")
    found: dict[str, tuple[str, ...]] = {"stem.conv": ("features.0.0", "features.0.1")}
    number = 0
    for number, (stage, position, block) in enumerate(_blocks(arch), start=1):
        unit, part = f"stage{stage + 1}_block{position + 1}", f"features.{number}.{'conv' if is_v2 else 'block'}"
        index = count()
        for layer in ("expand", "depthwise", "se", "project"):
            if (layer == "expand" and block.expanded_channels is None) or (layer == "se" and not block.use_se):
                continue
            at = next(index)
            if layer == "se":
                names: tuple[str, ...] = (f"{part}.{at}.fc1", f"{part}.{at}.fc2")
            elif layer == "project" and is_v2:
                names = (f"{part}.{at}", f"{part}.{at + 1}")
            else:
                names = (f"{part}.{at}.0", f"{part}.{at}.1")
            found[f"{unit}.{layer}"] = names
    last = f"features.{number + 1}"
    found["head.conv"] = (f"{last}.0", f"{last}.1")
    if is_v2:
        return found | {"head.classifier": ("classifier.1",)}
    return found | {"head.hidden": ("classifier.0",), "head.classifier": ("classifier.3",)}


def _timm(arch: Architecture) -> _Names:
    """The `EfficientNet` of timm, of which its MobileNetV1, V2 and MnasNet are, and `MobileNetV3`."""
    found: dict[str, tuple[str, ...]] = {"stem.conv": ("conv_stem", "bn1"), "head.classifier": ("classifier",)}
    for stage, position, block in _blocks(arch):
        unit, part = f"stage{stage + 1}_block{position + 1}", f"blocks.{stage}.{position}"
        if block.kind == "conv":
            raise NotExpressible("no published network of timm's has full convolutions for blocks")
        expands = block.expanded_channels is not None
        layers = (
            *((("expand", "conv_pw"),) if expands else ()),
            ("depthwise", "conv_dw"),
            ("project", "conv_pwl" if expands else "conv_pw"),
        )
        for number, (layer, conv) in enumerate(layers, start=1):
            found[f"{unit}.{layer}"] = (f"{part}.{conv}", f"{part}.bn{number}")
        found[f"{unit}.se"] = (f"{part}.se.conv_reduce", f"{part}.se.conv_expand")
    if arch.head.hidden_channels is not None:  # MobileNetV3, whose last convolution is a stage of its own
        last = f"blocks.{len(arch.stages)}.0"
        return found | {"head.conv": (f"{last}.conv", f"{last}.bn1"), "head.hidden": ("conv_head",)}
    return found | {"head.conv": ("conv_head", "bn2")}
