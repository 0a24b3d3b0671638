"""The reference in words, as the heads of columns name it."""

from dataclasses import replace
from typing import Any

import pytest

from search.reports.naming import in_words, published_in_words, reference_head
from space.reference import REFERENCES
from tests.search.content import network
from tests.search.makers import CONFIG
from tests.search.realistic import real_space


@pytest.mark.parametrize(
    ("name", "width", "resolution", "words"),
    [
        ("mobilenet_v3_small_32px", 0.5, 32, "MobileNetV3-Small, width 0.5, 32 px"),
        ("mobilenet_v3_small_32px", 0.5, 64, "MobileNetV3-Small with strides for 32 px, width 0.5, 64 px"),
        ("mobilenet_v3_large", 1.0, 224, "MobileNetV3-Large, width 1, 224 px"),
        ("mobilenet_v3_large_minimalistic", 1.0, 224, "MobileNetV3-Large minimalistic, width 1, 224 px"),
        ("mobilenet_v3_small_1280", 0.35, 224, "MobileNetV3-Small with a hidden layer of 1280, width 0.35, 224 px"),
        ("mnasnet_a1", 1.4, 192, "MnasNet-A1, width 1.4, 192 px"),
        ("another_net", 0.75, 96, "another_net, width 0.75, 96 px"),
    ],
)
def test_published_networks_have_words(name: str, width: float, resolution: int, words: str) -> None:
    """The family as papers write it, then what this variant is, its width and its resolution."""
    assert in_words(name, width, resolution) == words


def test_no_two_published_networks_share_their_words() -> None:
    """Whoever reads a column's head knows which network it is; none is left by its name in the code."""
    said = [in_words(name, 1.0, 48) for name in REFERENCES]
    assert len(set(said)) == len(said)
    assert not any("_" in words for words in said)


def test_head_of_the_reference_s_column() -> None:
    """The published name at the search's width; a walk has a network to start from in its place."""
    arch = real_space().reference
    walk: dict[str, Any] = {**CONFIG, "netadapt": {"start": {"network": "…", "weights": "0" * 64}}}
    assert reference_head(CONFIG, arch) == "reference: MobileNetV3-Small, width 0.5, 32 px"
    assert reference_head(CONFIG, network(3)) == "reference"
    assert reference_head(walk, network(3)) == "start network"
    assert reference_head(walk, arch) == "start network: MobileNetV3-Small, width 0.5, 32 px"
    assert published_in_words({"space": {"width": 0.75}}, arch) is None
    assert published_in_words({}, arch) is None
    assert published_in_words(CONFIG, replace(arch, num_classes=7)) == "MobileNetV3-Small, width 0.5, 32 px"
