"""NetAdapt's proposals and choice (Yang et al. 2018, as changed by Howard et al. 2019, section 4.2). Pure functions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from space.arch import Architecture
from space.narrowing import Proposal, narrowings


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A proposal after its short fine-tuning."""

    top1: float
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


def choose(current: Judged, candidates: Sequence[Judged]) -> int:
    """The index of the proposal with the largest Δtop-1 / |Δlatency|: least loss, or most gain, per ms saved.

    MobileNetV3's change to NetAdapt, which itself took the largest top-1. Ties go to the lower index.
    """

    def gain_per_ms(candidate: Judged) -> float:
        return (candidate.top1 - current.top1) / (current.latency_ms - candidate.latency_ms)

    return max(range(len(candidates)), key=lambda index: gain_per_ms(candidates[index]))
