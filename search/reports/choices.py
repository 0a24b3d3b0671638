"""What networks chose, stage by stage: read from the architectures, so that NetAdapt's networks have choices too."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from space.arch import Architecture, Stage

ASPECTS = ("depth", "width", "kernel", "expansion", "SE", "activation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How often a choice was made: by the chosen networks, and by all of them, each 0-1."""

    choice: str
    chosen: float
    all: float


def stage_aspects(stage: Stage, in_channels: int) -> dict[str, tuple[str, ...]]:
    """Per aspect, what a stage has: one value for the stage, or one for each block."""
    inputs = (in_channels, *(stage.out_channels,) * (len(stage.blocks) - 1))
    ratios = [
        1.0 if block.expanded_channels is None else block.expanded_channels / width
        for block, width in zip(stage.blocks, inputs, strict=True)
    ]
    return {
        "depth": (str(len(stage.blocks)),),
        "width": (str(stage.out_channels),),
        "kernel": tuple(str(block.kernel_size) for block in stage.blocks),
        "expansion": tuple(f"{ratio:.1f}" for ratio in ratios),
        "SE": tuple("yes" if block.use_se else "no" for block in stage.blocks),
        "activation": tuple(block.activation for block in stage.blocks),
    }


def described(arch: Architecture) -> list[str]:
    """Each stage in a few words: "2 × 5×5, e 4.5, 24 wide, SE, hswish"."""
    told, channels = [], arch.stem.out_channels
    for stage in arch.stages:
        found = {aspect: _joined(values) for aspect, values in stage_aspects(stage, channels).items()}
        se = {"yes": ", SE", "no": ""}.get(found["SE"], f", SE {found['SE']}")
        told.append(
            f"{found['depth']} × k{found['kernel']}, e{found['expansion']}, w{found['width']}{se}, "
            f"{found['activation']}"
        )
        channels = stage.out_channels
    return told


def _joined(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 else "/".join(values)


def choice_shares(chosen: Sequence[Architecture], everyone: Sequence[Architecture]) -> list[dict[str, list[Share]]]:
    """Per stage and aspect, how the chosen networks and all of them chose; networks of other depth are left out."""
    stages = len(chosen[0].stages) if chosen else 0
    counted = [_counts(networks, stages) for networks in (chosen, everyone)]
    return [
        {aspect: _shares(counted[0][number][aspect], counted[1][number][aspect]) for aspect in ASPECTS}
        for number in range(stages)
    ]


def _counts(networks: Iterable[Architecture], stages: int) -> list[dict[str, Counter[str]]]:
    counts = [{aspect: Counter[str]() for aspect in ASPECTS} for _ in range(stages)]
    for arch in networks:
        channels = arch.stem.out_channels
        for number, stage in enumerate(arch.stages if len(arch.stages) == stages else ()):
            for aspect, values in stage_aspects(stage, channels).items():
                counts[number][aspect].update(values)
            channels = stage.out_channels
    return counts


def _shares(chosen: Counter[str], everyone: Counter[str]) -> list[Share]:
    def key(choice: str) -> tuple[float, str]:
        return (float(choice), "") if choice.replace(".", "", 1).isdigit() else (0.0, choice)

    return [
        Share(
            choice=choice,
            chosen=chosen[choice] / max(1, chosen.total()),
            all=everyone[choice] / max(1, everyone.total()),
        )
        for choice in sorted(chosen | everyone, key=key)
    ]
