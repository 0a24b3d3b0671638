"""Networks in words: what tables and sentences call the network that a search is compared with."""

from collections.abc import Iterable, Mapping
from typing import Any

from search.reports.history import name_at_width
from search.trial import Origin, Trial
from space.arch import Architecture
from space.reference import REFERENCES

_FAMILIES = {
    "mobilenet_v1": "MobileNetV1",
    "mobilenet_v2": "MobileNetV2",
    "mnasnet_a1": "MnasNet-A1",
    "mobilenet_v3_large": "MobileNetV3-Large",
    "mobilenet_v3_small": "MobileNetV3-Small",
}
_VARIANTS = {
    "full_conv": "with full convolutions",
    "shallow": "without five of its blocks",
    "minimalistic": "minimalistic",
    "original": "with its original last stage",
    "1280": "with a hidden layer of 1280",
}
_FOR_32_PX = "32px"


def in_words(name: str, width: float, resolution: int) -> str:
    """A network of `REFERENCES` at a width multiplier and a resolution: "MobileNetV3-Small, width 0.5, 32 px".

    The variants for 32 px are called so only where the resolution does not say it.
    """
    family = max((known for known in _FAMILIES if name.startswith(known)), key=len, default=None)
    if family is None:
        return f"{name}, width {width:g}, {resolution} px"
    variant = name.removeprefix(family).removeprefix("_")
    if variant == _FOR_32_PX:
        said = "" if resolution == REFERENCES[name].resolution else "with strides for 32 px"
    else:
        said = _VARIANTS.get(variant, variant)
    return f"{' '.join(filter(None, (_FAMILIES[family], said)))}, width {width:g}, {resolution} px"


def published_in_words(config: Mapping[str, Any], arch: Architecture) -> str | None:
    """A network in words, if it is a published one at the width multiplier of a search's configuration."""
    width = float((config.get("space") or {}).get("width") or 0)
    name = name_at_width(width, arch)
    return None if name is None else in_words(name, width, arch.resolution)


def reference_head(config: Mapping[str, Any], arch: Architecture) -> str:
    """The head of the column about the network that the found one is compared with."""
    known = published_in_words(config, arch)
    return f"{compared_with(config)}: {known}" if known else compared_with(config)


def scaled_in_words(config: Mapping[str, Any], arch: Architecture) -> str:
    """The reference at some width multiplier: the largest of the widths, in hundredths, that make this network."""
    space = config.get("space") or {}
    widest = float(space.get("width") or 0)
    for step in (*range(round(100 * widest), 0, -1), *range(400, round(100 * widest), -1)):
        if (name := name_at_width(step / 100, arch)) is not None:
            return in_words(name, step / 100, arch.resolution)
    return "the scaled reference"


def baseline_head(config: Mapping[str, Any], arch: Architecture) -> str:
    """The head of the column about the scaled reference."""
    return f"baseline: {scaled_in_words(config, arch)}"


def is_walk(config: Mapping[str, Any]) -> bool:
    """Whether a search is a mere walk from a network."""
    return (config.get("netadapt") or {}).get("start") is not None


def compared_with(config: Mapping[str, Any]) -> str:
    """What the found network is compared with: the reference, or the network that a mere walk starts from."""
    return "start network" if is_walk(config) else "reference"


def how_finals_began(config: Mapping[str, Any], finals: Iterable[Trial]) -> str:
    """Where the final networks' weights came from, as the end of "were trained …"."""
    weights = (config.get("final") or {}).get("weights")
    races, supernet = bool((config.get("race") or {}).get("rungs")), config.get("supernet")
    if races and supernet is not None and weights == "continued":
        return (
            "from the weights that they have in the supernet; networks that are no members of the space, which have "
            "none there, from scratch: those have not learnt from as many images"
        )
    if weights != "inherited":
        init = config.get("init")
        if init is None:
            return "from scratch"
        return f"from what they share with the fine-tuned network of {init}, from which they learnt, too"
    trained = (trial for trial in finals if trial.origin == Origin.REFERENCE)
    if supernet is not None and any(trial.parent is None for trial in trained):
        return (
            "from the weights that they have in the supernet, but for the reference, which has none there, from "
            "scratch: it has not learnt from as many images"
        )
    return "from the weights that the search had trained"
