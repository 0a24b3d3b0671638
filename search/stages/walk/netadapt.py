"""NetAdapt's proposals and choice (Yang et al. 2018, as changed by Howard et al. 2019, section 4.2). Pure functions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from space.arch import Architecture
from space.narrowing import Proposal, narrowings
from trainer.training.metrics import paired_mean_difference

Choice = Literal["ratio", "top1"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A proposal after its short fine-tuning: the larger its score, the better."""

    score: float
    latency_ms: float


def proposals(arch: Architecture, latency: Callable[[Architecture], float], *, delta_ms: float) -> tuple[Proposal, ...]:
    """Per place the widest network that saves at least `delta_ms`; places that cannot save as much give none.

    Narrowing can remove a residual connection's condition or create one, so the latency of each candidate is read
    anew instead of assumed to fall with the width.
    """
    before = latency(arch)
    found = (
        next((each for each in place if before - latency(each.architecture) >= delta_ms), None)
        for place in narrowings(arch)
    )
    return tuple(proposal for proposal in found if proposal is not None)


def choose(current: Judged, candidates: Sequence[Judged], *, by: Choice = "ratio") -> int:
    """The index of the proposal to accept; ties go to the lower index.

    "ratio" is the largest Δscore / |Δlatency|, the least loss (or most gain) per ms saved: MobileNetV3's change to
    NetAdapt (Howard et al. 2019, section 4.2), which itself took the largest score ("top1", Yang et al. 2018,
    algorithm 1). Either paper's score is top-1.
    """

    def worth(candidate: Judged) -> float:
        if by == "top1":
            return candidate.score
        return (candidate.score - current.score) / (current.latency_ms - candidate.latency_ms)

    return max(range(len(candidates)), key=lambda index: worth(candidates[index]))


def worth_by_image(current: np.ndarray, candidate: np.ndarray, saved_ms: float, *, by: Choice = "ratio") -> np.ndarray:
    """What `choose` compares, image by image: the mean over images is a proposal's worth.

    Scores are of the same images in the same order, shape (images,).
    """
    if by == "top1":
        return candidate
    worth: np.ndarray = (candidate - current) / saved_ms
    return worth


def rivals(worths: Sequence[np.ndarray]) -> list[int]:
    """The indices of the best proposal and of those that the images do not tell apart from it (95 %, paired).

    `worths` are by image, shape (images,). The best comes first, the others in the order of what they are worth.
    """
    means = [float(worth.mean()) for worth in worths]
    best = worths[int(np.argmax(means))]
    order = sorted(range(len(worths)), key=lambda index: (-means[index], index))
    return order[:1] + [index for index in order[1:] if paired_mean_difference(best, worths[index]).low <= 0]
