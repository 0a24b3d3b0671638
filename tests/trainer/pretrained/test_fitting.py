"""Pretrained weights begin with what they know, whatever the classes, channels and normalisation of the data."""

from dataclasses import replace

import pytest
import torch

from space.errors import DataError
from space.reference import REFERENCES
from trainer.data.preprocess import Preprocess
from trainer.pretrained.fitting import architecture_for, fitted
from trainer.pretrained.published import Pretrained
from trainer.training.networks import load_model, new_model

IMAGENET = Preprocess(
    resolution=64,
    resize=64,
    crop=64,
    pad=0,
    channels="RGB",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


def normalised(pictures: torch.Tensor, preprocess: Preprocess) -> torch.Tensor:
    """N x C x H x W of 0 to 1."""
    mean, std = (torch.tensor(each)[:, None, None] for each in (preprocess.mean, preprocess.std))
    return (pictures - mean) / std


def pretrained(channels: int = 3) -> Pretrained:
    """Random weights, with statistics that are not 0 and 1."""
    arch = replace(REFERENCES["mobilenet_v2"](num_classes=7, resolution=64, in_channels=channels))
    weights = dict(new_model(arch, 3).state_dict())
    weights["stem.conv.bn.running_mean"] = torch.linspace(-1, 1, 32)
    preprocess = IMAGENET if channels == 3 else replace(IMAGENET, channels="L", mean=(0.4,), std=(0.2,))
    return Pretrained(
        architecture=arch,
        weights=weights,
        dialect="torchvision",
        network="mobilenet_v2",
        width=1.0,
        preprocess=preprocess,
    )


@pytest.mark.parametrize(("theirs", "ours"), [(3, 3), (3, 1), (1, 3)])
def test_another_normalisation_changes_nothing_but_at_the_margin(theirs: int, ours: int) -> None:
    """The stem says of a picture what it did, also of a grey one in three channels or in one."""
    begun = pretrained(theirs)
    own = replace(IMAGENET, mean=(0.3, 0.5, 0.6), std=(0.3, 0.2, 0.1))
    if ours == 1:
        own = replace(IMAGENET, channels="L", mean=(0.3,), std=(0.4,))
    arch = architecture_for(begun, own, 5)
    weights = fitted(begun, arch, own, (), seed=0)
    grey = torch.rand(2, 1, 64, 64)
    coloured = torch.rand(2, 3, 64, 64) if theirs == ours else grey.expand(-1, 3, -1, -1)
    assert begun.preprocess is not None
    seen = {3: coloured, 1: grey}
    with torch.inference_mode():
        before = load_model(begun.architecture, begun.weights).eval()[0](normalised(seen[theirs], begun.preprocess))
        after = load_model(arch, weights).eval()[0](normalised(seen[ours], own))
    torch.testing.assert_close(after[:, :, 1:-1, 1:-1], before[:, :, 1:-1, 1:-1], atol=1e-4, rtol=1e-4)


def test_the_classifier_is_new_but_for_the_same_classes() -> None:
    """All other weights are as they were; equally many classes are not the same ones."""
    mine = tuple("abcdefg")
    begun = replace(pretrained(), classes=mine)
    for classes in (tuple("abcde"), tuple("gfedcba"), mine):
        arch = architecture_for(begun, IMAGENET, len(classes))
        weights = fitted(begun, arch, IMAGENET, classes, seed=0)
        load_model(arch, weights)
        changed = {name for name in weights if not torch.equal(weights[name], begun.weights[name])}
        new = {"head.classifier.linear.weight", "head.classifier.linear.bias"}
        assert changed & new == (set() if classes == mine else changed)
        assert ("head.classifier.linear.weight" in changed) == (classes != mine)


def test_other_strides_have_the_same_weights() -> None:
    """As for images of 32 pixels."""
    begun = pretrained()
    small = replace(IMAGENET, resolution=32, resize=32, crop=32)
    arch = architecture_for(begun, small, 7, REFERENCES["mobilenet_v2_32px"]())
    assert arch.stem.stride == 1
    load_model(arch, fitted(begun, arch, small, (), seed=0))


def test_a_spec_of_another_network_is_refused() -> None:
    """With the first tensor that differs."""
    with pytest.raises(
        DataError, match=r"another network than the spec, where stem\.conv\.conv\.weight is \(16, .* and \(32"
    ):
        architecture_for(pretrained(), IMAGENET, 5, REFERENCES["mobilenet_v3_small"]())
    arch = REFERENCES["mobilenet_v3_small"]()
    with pytest.raises(DataError, match=r"squeeze\.weight is .*, and missing in the weights; leave the spec out"):
        architecture_for(pretrained(), IMAGENET, 5, replace(arch, stem=replace(arch.stem, out_channels=32)))
