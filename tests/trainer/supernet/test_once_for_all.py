"""Once-for-All's checkpoints: its own package as the oracle."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from space.arch import Architecture
from space.choices import SearchSpace
from space.errors import DataError
from tests.space.networks.test_onnx_graph import made
from tests.space.test_oracles import imported, needs
from tests.space.test_presets import shipped
from trainer.supernet.once_for_all import read_once_for_all
from trainer.training.networks import load_model, shapes_of

STAGES, DEEPEST = range(2, 7), range(1, 5)
LAYERS = {
    "expand": "inverted_bottleneck",
    "depthwise": "depth_conv",
    "project": "point_linear",
    "se.squeeze": "depth_conv.se.fc.reduce",
    "se.excite": "depth_conv.se.fc.expand",
}


def once_for_all(width: float) -> Any:  # noqa: ANN401 - a module of another project
    """Its elastic network with random weights, kernel transformations, and statistics of a pass over random images."""
    network = imported("ofa.imagenet_classification.elastic_nn.networks.ofa_mbv3").OFAMobileNetV3(
        n_classes=1000,
        dropout_rate=0,
        width_mult=width,
        ks_list=[3, 5, 7],
        expand_ratio_list=[3, 4, 6],
        depth_list=[2, 3, 4],
    )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("_matrix"):
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif ".bn." in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
        network.train()
        for _ in range(3):
            network(torch.randn(8, 3, 64, 64))
    return network.eval()


def setting_of(space: SearchSpace, arch: Architecture) -> dict[str, list[Any]]:
    """What Once-for-All calls a member."""
    params = space.params_of(arch)
    assert params is not None
    return {
        "d": [params[f"stage{stage}.depth"] for stage in STAGES],
        "ks": [params[f"stage{stage}.block{block}.kernel"] for stage in STAGES for block in DEEPEST],
        "e": [int(params[f"stage{stage}.block{block}.expansion"]) for stage in STAGES for block in DEEPEST],
    }


@needs("ofa")
@pytest.mark.parametrize("width", [1.0, 1.2])
def test_members_compute_what_they_do_there(width: float, tmp_path: Path) -> None:
    """Of either published width: 50 subnets drawn at random, the largest and the smallest."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        theirs = once_for_all(width)
        torch.save({"state_dict": theirs.state_dict()}, tmp_path / "ofa.pth")
        shared = read_once_for_all(tmp_path / "ofa.pth", resolution=64)
        space = shared.space
        assert space == shipped("ofa-mbv3", width=width, resolution=64)
        images = torch.randn(2, 3, 64, 64)
        drawn = [space.sample(random.Random(seed)) for seed in range(50)]
        for arch in (space.largest, space.smallest, *drawn):
            theirs.set_active_subnet(**setting_of(space, arch))
            expected = theirs(images)
            found = load_model(arch, shared.weights_of(arch)).eval()(images)
            assert (found - expected).abs().max() <= 1e-4 * expected.abs().max(), arch.to_json()


def as_published(space: SearchSpace) -> dict[str, torch.Tensor]:
    """Random weights of the space's largest network, by the names of the files that are published."""
    tensors = {}
    for name, tensor in made(space.largest).state_dict().items():
        unit, _, rest = name.partition(".")
        tensors[_their_name(unit, rest)] = tensor[:, :, None, None] if "hidden" in name else tensor
        if name.endswith("depthwise.conv.weight") and tensor.shape[-1] == 7:
            prefix = _their_name(unit, rest).removesuffix("conv.weight")
            tensors |= {f"{prefix}7to5_matrix": torch.eye(25), f"{prefix}5to3_matrix": torch.eye(9)}
    return tensors


def _their_name(unit: str, rest: str) -> str:
    if unit == "stem":
        return rest.replace("conv.", "first_conv.", 1)
    if unit == "head":
        part, _, what = rest.partition(".")
        return {"conv": "final_expand_layer.", "hidden": "feature_mix_layer.conv.", "classifier": "classifier."}[
            part
        ] + what.removeprefix("linear." if part == "hidden" else "")
    stage, block = (
        int(text.removeprefix(word)) for text, word in zip(unit.split("_"), ("stage", "block"), strict=True)
    )
    layer = next(layer for layer in LAYERS if rest.startswith(f"{layer}."))
    what = rest.removeprefix(f"{layer}.")
    index = 0 if stage == 1 else 4 * (stage - 2) + block
    if index and not layer.startswith("se"):
        what = what.replace("conv.", "conv.conv.", 1).replace("bn.", "bn.bn.", 1)
    return f"blocks.{index}.mobile_inverted_conv.{LAYERS[layer]}.{what}"


SPACE = shipped("ofa-mbv3")
PUBLISHED = as_published(SPACE)


def test_the_names_of_published_files_are_read(tmp_path: Path) -> None:
    """A checkpoint with the older names, as it is published, has every tensor of the space's largest network."""
    torch.save({"state_dict": PUBLISHED}, tmp_path / "ofa.pth")
    shared = read_once_for_all(tmp_path / "ofa.pth")
    assert {name: each.shape for name, each in shared.weights.items()} == shapes_of(SPACE.largest)
    assert len(shared.transforms) == 2 * 20


FIRST = "blocks.1.mobile_inverted_conv.inverted_bottleneck.conv.conv.weight"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {**PUBLISHED, "blocks.21.conv.x": torch.zeros(1)}}, "there is no 'blocks.21.conv.x' in one"),
        ({"state_dict": {**PUBLISHED, FIRST: torch.zeros(3)}}, r"stage2_block1\.expand\.conv\.weight has shape \(3,\)"),
        ({"state_dict": {**PUBLISHED, FIRST: PUBLISHED[FIRST] * torch.nan}}, "values that are no numbers"),
        (
            {name: each for name, each in PUBLISHED.items() if name != FIRST},
            r"lacks: stage2_block1\.expand\.conv\.weight",
        ),
        ({**PUBLISHED, "first_conv.conv.bias": torch.zeros(16)}, r"has one too many: stem\.conv\.conv\.bias"),
        ({**PUBLISHED, "first_conv.conv.weight": torch.zeros(20, 3, 3, 3)}, "20 channels; the published ones have"),
        ({"state_dict": {}}, "no first convolution, or no classifier"),
        ({**PUBLISHED, FIRST.replace("mobile_inverted_conv", "conv"): PUBLISHED[FIRST]}, "names a tensor twice"),
    ],
)
def test_other_files_are_refused(
    content: object, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tensor too many, too few or misshapen, a file of something else, a pickle with code in it: one line."""
    path = tmp_path / "ofa.pth"
    torch.save(content, path)
    with pytest.raises(DataError, match=message) as caught:
        read_once_for_all(path)
    assert "\n" not in str(caught.value)
    assert "code was run" not in capsys.readouterr().out
