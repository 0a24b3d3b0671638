"""The proposer: inside the space, reproducible, and learning from what it is told."""

from statistics import fmean

import pytest

from search.samplers import Proposer, SamplerName, derived_seed
from search.trial import Scores, Stage, State, Trial
from space.arch import Architecture
from space.choices import SearchSpace
from space.cost import cost_of
from space.preset import load_preset


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    """The default space."""
    return SearchSpace(
        preset=load_preset("mobilenet-v3-small-32px"), width=0.5, resolution=32, in_channels=1, num_classes=10
    )


def play(space: SearchSpace, name: SamplerName, seed: int, count: int) -> tuple[list[Trial], dict[int, float]]:
    """A search whose reward is the share of squeeze-and-excite stages, and whose limit is on multiply-adds."""
    proposer = Proposer(space, name, seed=seed, latency_limit_ms=9.0)
    trials, rewards = [], {}
    for number in range(count):
        params = proposer.ask(number)
        arch = space.architecture(params)
        trial = recorded(number, arch, params)
        reward = None
        if trial.state is State.COMPLETE:
            reward = rewards[number] = fmean(bool(params[f"stage{stage}.se"]) for stage in range(1, 6))
        proposer.tell(trial, reward)
        trials.append(trial)
    return trials, rewards


def recorded(number: int, arch: Architecture, params: dict[str, object] | None) -> Trial:
    """A finished trial; over 9 M multiply-adds it is pruned."""
    latency = cost_of(arch).madds / 1e6
    return Trial(
        number=number,
        stage=Stage.BLOCKS,
        state=State.PRUNED if latency > 9.0 else State.COMPLETE,
        origin="tpe",
        architecture=arch,
        scores=Scores(top1=None, latency_ms=latency, madds=1, params=1),
        seed=0,
        params=params,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_proposals_are_members(space: SearchSpace, name: SamplerName) -> None:
    """Every proposal is a member of the space, described by its own parameters."""
    trials, _ = play(space, name, seed=1, count=15)
    assert all(space.params_of(trial.architecture) == trial.params for trial in trials)


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_a_restored_proposer_goes_on_alike(space: SearchSpace, name: SamplerName) -> None:
    """Rebuilt from the record after any number of trials, it proposes what the uninterrupted one proposed."""
    trials, rewards = play(space, name, seed=4, count=30)
    for stop in (0, 1, 12, 29):
        resumed = Proposer(space, name, seed=4, latency_limit_ms=9.0)
        resumed.restore(trials[:stop], rewards)
        assert resumed.ask(stop) == trials[stop].params


def test_tpe_learns(space: SearchSpace) -> None:
    """After 60 trials TPE proposes more of what was rewarded, and less over the limit, than it did at first."""
    trials, rewards = play(space, "tpe", seed=2, count=60)
    late = [rewards[trial.number] for trial in trials[40:] if trial.number in rewards]
    early = [rewards[trial.number] for trial in trials[:10] if trial.number in rewards]
    assert fmean(late) > fmean(early) + 0.1
    assert len(late) / 20 > len(early) / 10


def test_strangers_are_passed_over(space: SearchSpace) -> None:
    """The reference, which lies off the space's grid, is told without harm and changes no proposal."""
    alone, told = (Proposer(space, "tpe", seed=7, latency_limit_ms=9.0) for _ in range(2))
    told.tell(recorded(0, space.reference, None), 0.8)
    assert told.ask(1) == alone.ask(1)


def test_derived_seeds_differ() -> None:
    """Each trial of each search has a seed of its own."""
    seeds = {derived_seed(seed, number) for seed in range(50) for number in range(50)}
    assert len(seeds) == 2500
