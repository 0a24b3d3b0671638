"""The loop of ask, admit and tell: every refusal has its cause, and no sampler goes on for ever."""

from dataclasses import dataclass, field, replace

import pytest

from search.objective.limits import Cause, Limits, Refusal
from search.samplers import ask
from search.samplers.ask import Asking, Stuck
from search.samplers.proposer import Proposed, Proposer, recorded_refusal
from search.trial import Scores, SearchStage, State, Trial
from space.arch import Architecture
from space.choices import SearchSpace
from space.cost import cost_of
from space.encoding import Encoding
from space.preset import read_preset
from tests.search.madds import objective_within
from tests.tiny import TINY_SPACE


@dataclass
class Trials:
    """What a record would keep, with each trial's refusal."""

    kept: list[tuple[Trial, Refusal | None]] = field(default_factory=list)

    def add(self, arch: Architecture, *, scores: Scores, proposed: Proposed | None, refusal: Refusal | None) -> Trial:
        """A trial of the next number."""
        state = State.RUNNING if refusal is None else State.PRUNED
        trial = Trial(
            number=len(self.kept),
            stage=SearchStage.BLOCKS,
            state=state,
            origin="random",
            architecture=arch,
            scores=scores,
            seed=0,
            params=dict(proposed.params) if proposed else None,
        )
        self.kept.append((trial, refusal))
        return trial

    def last_of(self, arch: Architecture) -> Trial | None:
        """The latest that was not refused."""
        tried = [trial for trial, refusal in self.kept if trial.architecture == arch and refusal is None]
        return tried[-1] if tried else None


@pytest.fixture
def space() -> SearchSpace:
    """A space of some dozen networks."""
    return SearchSpace(preset=read_preset(TINY_SPACE, "here"), width=0.25, resolution=32, in_channels=1, num_classes=10)


def asking(space: SearchSpace, trials: Trials, limits: Limits, sampler: str = "random") -> Asking:
    """A loop whose latency is multiply-adds in millions."""
    objective = replace(objective_within(Encoding(space), 1e9), limits=limits)
    return Asking(
        proposer=Proposer(objective, sampler, seed=0),
        objective=objective,
        new_trial=trials.add,
        next_number=lambda: len(trials.kept),
        last_of=trials.last_of,
    )


def test_causes_are_told_apart(space: SearchSpace) -> None:
    """A network may be too slow, over another limit, or tried already; the words of a refusal say the same."""
    trials = Trials()
    free = asking(space, trials, Limits())
    trial, refusal = free.admit(space.largest)
    assert (trial.state, refusal) == (State.RUNNING, None)
    _, refusal = free.admit(space.largest)
    assert refusal == Refusal(cause=Cause.DUPLICATE, reason="it was tried already, as trial 0")
    for limits, cause, words in (
        (Limits(latency_ms=1e-6), Cause.INFEASIBLE, "is over the limit of 0.000 ms"),
        (Limits(params=1), Cause.LIMIT, "parameters are over the limit of 1"),
        (Limits(latency_ms=1e-6, params=1), Cause.INFEASIBLE, "is over the limit of 0.000 ms"),
    ):
        loop = asking(space, trials, limits)
        trial, refusal = loop.admit(space.smallest)
        assert refusal is not None
        assert (trial.state, refusal.cause) == (State.PRUNED, cause)
        assert words in refusal.reason
        assert recorded_refusal(replace(trial, error=refusal.reason), loop.objective) == refusal


def test_what_is_too_fast_is_not_proposed(space: SearchSpace) -> None:
    """But whoever asks for it by name may have it; the record tells the two apart."""
    trials = Trials()
    free = asking(space, trials, Limits())
    least = (cost_of(space.smallest).madds + cost_of(space.largest).madds) / 2e6
    loop = replace(free, objective=replace(free.objective, least_ms=least))
    proposed = [loop.ask() for _ in range(3)]
    assert all(trial is not None and trial.scores.latency_ms >= least for trial in proposed)
    refused = [(trial, refusal) for trial, refusal in trials.kept if refusal is not None]
    assert {refusal.cause for _, refusal in refused} <= {Cause.FAST, Cause.DUPLICATE}
    assert all(
        recorded_refusal(replace(trial, error=refusal.reason), loop.objective) == refusal for trial, refusal in refused
    )
    assert loop.admit(space.smallest)[1] is None


def test_what_failed_may_be_admitted_again_where_that_is_wanted(space: SearchSpace) -> None:
    """Once more for a network that somebody enqueued, and not for a proposal."""
    trials = Trials()
    loop = asking(space, trials, Limits())
    trial, _ = loop.admit(space.largest)
    trials.kept[0] = (replace(trial, state=State.FAILED), None)
    assert loop.admit(space.largest, again=True)[1] is None
    trials.kept[-1] = (replace(trials.kept[-1][0], state=State.FAILED), None)
    refusal = loop.admit(space.largest)[1]
    assert refusal is not None
    assert refusal.cause is Cause.DUPLICATE


def test_every_network_is_asked_for_once(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random sampler gets through the whole space, and then says that it repeats itself."""
    monkeypatch.setattr(ask, "MAX_REFUSED", 500)
    trials = Trials()
    loop = asking(space, trials, Limits())
    found = []

    def ask_all() -> None:
        while (trial := loop.ask()) is not None:
            found.append(trial.architecture.arch_id)
            loop.proposer.tell(replace(trial, state=State.FAILED), None)

    with pytest.raises(Stuck) as stuck:
        ask_all()
    assert stuck.value.cause is Cause.DUPLICATE
    assert len(found) == len(set(found)) == space.size


def test_limits_that_nothing_meets_are_told_as_such(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler that knows no limits proposes what is over them until its patience is at an end."""
    monkeypatch.setattr(ask, "MAX_REFUSED", 50)
    for limits, cause in ((Limits(latency_ms=1e-6), Cause.INFEASIBLE), (Limits(params=1), Cause.LIMIT)):
        trials = Trials()
        with pytest.raises(Stuck) as stuck:
            asking(space, trials, limits).ask()
        assert stuck.value.cause is cause
        assert len(trials.kept) == 50
