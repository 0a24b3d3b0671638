"""Exported specs built *in* timm, torchvision and Once-for-All: equal parameters, equal outputs.

They are installed by `make oracles`; the tests of one that is missing are skipped.
"""

import importlib
import importlib.util
import json
import random
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from space.arch import Architecture
from space.cost import cost_of
from space.errors import NotExpressible
from space.formats import FormatName, read_spec, write_spec
from space.reference import REFERENCES, mobilenet_v3_large
from tests.space.networks.test_onnx_graph import made
from tests.space.test_presets import shipped


def needs(name: str) -> pytest.MarkDecorator:
    """Skips a test where the other project is not installed."""
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"needs {name}; run: make oracles")


# A torchvision whose compiled part does not fit this torch imports all the same once its operators have names.
LIBRARY: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]


def imported(name: str) -> Any:  # noqa: ANN401 - a module without types
    """A module of another project, whatever it warns of."""
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            LIBRARY.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def in_timm(spec: dict[str, Any]) -> nn.Module:
    """As docs/networks.md says."""
    builder = imported("timm.models._efficientnet_builder")
    module = {"MobileNetV3": "mobilenetv3", "EfficientNet": "efficientnet"}[spec["class"]]
    model: nn.Module = getattr(imported(f"timm.models.{module}"), spec["class"])(
        builder.decode_arch_def(spec["arch_def"]),
        stem_size=spec["stem_size"],
        fix_stem=True,
        num_features=spec["num_features"],
        num_classes=spec["num_classes"],
        in_chans=spec["input_size"][0],
        act_layer=imported("timm.layers").get_act_layer(spec["act_layer"]),
        norm_layer=partial(nn.BatchNorm2d, eps=spec["bn_eps"]),
        se_layer=partial(
            imported("timm.models._efficientnet_blocks").SqueezeExcite,
            gate_layer=spec["se_gate"],
            force_act_layer=nn.ReLU,
            rd_round_fn=builder.round_channels if spec["se_divisor"] == 8 else round,
        ),
        **{name: spec[name] for name in ("head_bias",) if name in spec},
    )
    return model


def in_torchvision(spec: dict[str, Any]) -> nn.Module:
    """As docs/networks.md says."""
    v3 = imported("torchvision.models.mobilenetv3")
    setting = [v3.InvertedResidualConfig(**row) for row in spec["inverted_residual_setting"]]
    model: nn.Module = v3.MobileNetV3(setting, spec["last_channel"], num_classes=spec["num_classes"])
    return model


def in_ofa(spec: dict[str, Any]) -> nn.Module:
    """Once-for-All reads its own configuration."""
    v3 = imported("ofa.imagenet_classification.networks.mobilenet_v3")
    model: nn.Module = v3.MobileNetV3.build_from_config(spec)
    return model


BUILDERS: dict[FormatName, Callable[[dict[str, Any]], nn.Module]] = {
    "timm": in_timm,
    "torchvision": in_torchvision,
    "ofa": in_ofa,
}


def check_equal(arch: Architecture, name: FormatName) -> None:
    """The network built by the other project has as many parameters, and the same outputs for the same weights."""
    theirs = BUILDERS[name](json.loads(write_spec(arch, name))).eval()
    assert sum(parameter.numel() for parameter in theirs.parameters()) == cost_of(arch).params
    ours = made(arch)
    source = [tensor for key, tensor in ours.state_dict().items() if not key.endswith("num_batches_tracked")]
    target = [tensor for key, tensor in theirs.state_dict().items() if not key.endswith("num_batches_tracked")]
    for into, tensor in zip(target, source, strict=True):
        into.copy_(tensor.reshape(into.shape))
    images = torch.randn(
        (2, arch.in_channels, arch.resolution, arch.resolution), generator=torch.Generator().manual_seed(0)
    )
    with torch.inference_mode():
        expected, found = ours(images), theirs(images)
    assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-4


def can(arch: Architecture, name: FormatName) -> bool:
    """Whether a format expresses a network."""
    try:
        write_spec(arch, name)
    except NotExpressible:
        return False
    return True


PAIRS = [
    pytest.param(name, reference, marks=needs(name))
    for name in BUILDERS
    for reference, make in REFERENCES.items()
    if can(make(), name)
]


@pytest.mark.parametrize(("name", "reference"), PAIRS)
def test_references_are_the_same_elsewhere(name: FormatName, reference: str) -> None:
    """Every published network that a format expresses is the same network over there."""
    for width in REFERENCES[reference].widths:
        check_equal(REFERENCES[reference](width=width, resolution=64 if name != "ofa" else None), name)


@needs("timm")
@pytest.mark.parametrize("preset", ["mobilenet-v3-large", "mnasnet", "mobilenet-v2", "minimalistic", "ofa-mbv3"])
@pytest.mark.parametrize("seed", range(3))
def test_members_are_the_same_in_timm(preset: str, seed: int) -> None:
    """So are members of the shipped spaces."""
    check_equal(shipped(preset, resolution=64).sample(random.Random(seed)), "timm")


@needs("ofa")
@pytest.mark.parametrize("seed", range(3))
def test_members_are_the_same_in_once_for_all(seed: int) -> None:
    """So are members of Once-for-All's space."""
    check_equal(shipped("ofa-mbv3", resolution=64).sample(random.Random(seed)), "ofa")


@needs("torchvision")
@pytest.mark.parametrize("seed", range(3))
def test_members_are_the_same_in_torchvision(seed: int) -> None:
    """And with a bias in the hidden layer and the epsilon that torchvision has, those of Once-for-All's space."""
    space = shipped("ofa-mbv3", resolution=64)
    check_equal(replace(space, preset=space.preset.as_in_0_1()).sample(random.Random(seed)), "torchvision")


@needs("torchvision")
def test_torchvisions_width_multiplier_is_ours() -> None:
    """Torchvision's own V3 at 0.75 is our reference by its rule, block by block."""
    v3 = imported("torchvision.models.mobilenetv3")
    for size in ("large", "small"):
        for width in (0.35, 0.5, 0.75, 1.0, 1.25):
            theirs = v3.MobileNetV3(*v3._mobilenet_v3_conf(f"mobilenet_v3_{size}", width_mult=width))
            arch = REFERENCES[f"mobilenet_v3_{size}"](width=width, rounding="torchvision")
            assert sum(p.numel() for p in theirs.parameters()) == cost_of(arch).params


@needs("timm")
@pytest.mark.parametrize(
    ("model", "reference", "width"),
    [
        ("mobilenetv3_large_100", "mobilenet_v3_large", 1.0),
        ("mobilenetv3_large_075", "mobilenet_v3_large", 0.75),
        ("mobilenetv3_small_100", "mobilenet_v3_small", 1.0),
        ("mobilenetv3_small_075", "mobilenet_v3_small", 0.75),
        ("mobilenetv3_small_050", "mobilenet_v3_small", 0.5),
        ("tf_mobilenetv3_large_minimal_100", "mobilenet_v3_large_minimalistic", 1.0),
        ("tf_mobilenetv3_small_minimal_100", "mobilenet_v3_small_minimalistic", 1.0),
        ("mobilenetv2_140", "mobilenet_v2", 1.4),
        ("mobilenetv2_100", "mobilenet_v2", 1.0),
        ("mobilenetv2_050", "mobilenet_v2", 0.5),
        ("mobilenetv2_035", "mobilenet_v2", 0.35),
        ("mobilenetv1_100", "mobilenet_v1", 1.0),
        ("semnasnet_075", "mnasnet_a1", 0.75),
        ("semnasnet_100", "mnasnet_a1", 1.0),
        ("semnasnet_140", "mnasnet_a1", 1.4),
    ],
)
def test_timms_models_are_our_references(model: str, reference: str, width: float) -> None:
    """Timm's models have as many parameters as our references by the rule of slim."""
    timm = imported("timm")
    rounding = "slim" if REFERENCES[reference].roundings else None
    arch = REFERENCES[reference](width=width, rounding=rounding)  # type: ignore[arg-type]
    assert sum(p.numel() for p in timm.create_model(model).parameters()) == cost_of(arch).params


@needs("ofa")
def test_once_for_alls_own_network_is_read() -> None:
    """The configuration that Once-for-All writes of its V3-Large is ours, without a bias, and with its epsilon."""
    theirs = imported("ofa.imagenet_classification.networks.mobilenet_v3").MobileNetV3Large()
    arch = read_spec(json.dumps(theirs.config))
    large = mobilenet_v3_large()
    head = replace(large.head, hidden_bias=False)
    assert arch == replace(large, head=head, batch_norm_epsilon=theirs.config["bn"]["eps"])
    assert cost_of(arch).params == sum(p.numel() for p in theirs.parameters())
