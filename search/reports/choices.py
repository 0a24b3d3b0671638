"""What networks chose, and which choices mattered.

Stage by stage it is read from the architectures, so that NetAdapt's networks have choices too; what mattered is told by
the parameters of the search space.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from space.arch import Architecture, Stage

# With fewer networks, even a parameter that decides everything hardly stands out from chance.
FEWEST = 12
SHUFFLES = 1000

Value = float | int | str | bool | None
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """What one parameter explains by itself: a share of the variance, at or below zero where it explains nothing."""

    parameter: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Importances:
    """The parameters that varied, the most important first.

    `by_chance` is what the most important one of as many parameters reaches in only 5 % of cases where none of them
    matters: shares below it say nothing.
    """

    networks: int
    by_chance: float
    ranked: tuple[Importance, ...]

    @property
    def clear(self) -> tuple[Importance, ...]:
        """Those that stand out from chance."""
        return tuple(found for found in self.ranked if found.share > self.by_chance)


def importances(
    params: Sequence[Mapping[str, Value]], outcome: Sequence[float], *, seed: int = 0
) -> Importances | None:
    """How much of the variance of an outcome, such as top-1, each parameter explains by itself.

    The share is epsilon squared of a one-way analysis of variance (Kelley 1935): the variance between the parameter's
    choices, less what as many choices would explain by chance, over the whole variance. Parameters that a sampler
    changed together share the credit, and what only a combination does belongs to nobody. `by_chance` comes from
    shuffled outcomes (Westfall and Young 1993).

    Returns None where there are too few networks to tell, or all outcomes are equal.
    """
    values = np.asarray(outcome, dtype=np.float64)
    names = sorted(set.intersection(*(set(each) for each in params))) if params else []
    columns = {name: [each[name] for each in params] for name in names}
    varied = {name: column for name, column in columns.items() if 1 < len(set(column)) < len(column)}
    if len(values) < FEWEST or not varied or np.ptp(values) == 0:
        return None
    rng = np.random.default_rng(seed)
    centred = values - values.mean()
    shuffled = np.column_stack([centred, *(rng.permutation(centred) for _ in range(SHUFFLES))])
    shares = np.stack([_explained(column, shuffled) for column in varied.values()])
    found = [Importance(parameter=name, share=float(share)) for name, share in zip(varied, shares[:, 0], strict=True)]
    return Importances(
        networks=len(values),
        by_chance=float(np.quantile(shares[:, 1:].max(axis=0), 0.95)),
        ranked=tuple(sorted(found, key=lambda one: (-one.share, one.parameter))),
    )


def _explained(column: Sequence[Value], centred: np.ndarray) -> np.ndarray:
    """Epsilon squared of one parameter for each column of outcomes of mean zero, shape (outcomes,)."""
    # By type as well: True is no 1.
    keys = [f"{type(value).__name__} {value}" for value in column]
    _, choice, counts = np.unique(keys, return_inverse=True, return_counts=True)
    sums = np.eye(len(counts))[choice].T @ centred
    whole = (centred[:, 0] ** 2).sum()  # shuffling changes nothing in it
    between = (sums**2 / counts[:, None]).sum(axis=0)
    within = (whole - between) / (len(column) - len(counts))
    shares: np.ndarray = (between - (len(counts) - 1) * within) / whole
    return shares
