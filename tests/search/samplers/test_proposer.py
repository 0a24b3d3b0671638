"""The proposer: inside the space, reproducible, and learning from what it is told."""

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from search.config.sections import SAMPLERS
from search.objective.limits import Cause, Refusal
from search.objective.objective import Objective
from search.samplers.feasible_first import Exhausted
from search.samplers.proposer import Proposed, Proposer, derived_seed, recorded_refusal
from search.trial import Scores, SearchStage, State, Trial
from space.arch import Architecture
from space.choices import Params, SearchSpace
from space.cost import cost_of
from space.encoding import Encoding
from space.errors import MobilenasError, RunError
from space.preset import load_preset, read_preset
from tests.search.madds import objective_within
from tests.tiny import TINY_SPACE

LIMIT = 9.0


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    """The default space."""
    return SearchSpace(
        preset=load_preset("mobilenet-v3-small-32px"), width=0.5, resolution=32, in_channels=1, num_classes=10
    )


def objective_of(space: SearchSpace, limit: float = LIMIT) -> Objective:
    """What is known of its networks: a limit on multiply-adds."""
    return objective_within(Encoding(space), limit)


def make(space: SearchSpace, name: str, seed: int, objectives: tuple[str, ...] = ()) -> Proposer:
    """A proposer under the limit."""
    return Proposer(objective_of(space), name, seed=seed, objectives=objectives)


def truth(params: Params) -> float:
    """The share of squeeze-and-excite stages, as an accuracy."""
    return fmean(bool(value) for name, value in params.items() if name.endswith(".se"))


def play(
    space: SearchSpace, name: str, seed: int, count: int, objectives: tuple[str, ...] = ()
) -> tuple[list[Trial], dict[int, float]]:
    """A search whose reward is the share of squeeze-and-excite stages, and whose limit is on multiply-adds."""
    proposer = make(space, name, seed, objectives)
    trials: list[Trial] = []
    rewards: dict[int, float] = {}
    for number in range(count):
        proposed = proposer.ask(number)
        trial = recorded(number, space.architecture(proposed.params), proposed)
        reward = None
        if trial.state is State.COMPLETE:
            reward = rewards[number] = truth(proposed.params)
        proposer.tell(trial, reward, refusal=recorded_refusal(trial, objective_of(space)))
        trials.append(trial)
    return trials, rewards


def recorded(number: int, arch: Architecture, proposed: Proposed | None) -> Trial:
    """A finished trial; over the limit it is pruned."""
    cost = cost_of(arch)
    latency, is_over = cost.madds / 1e6, cost.madds / 1e6 > LIMIT
    return Trial(
        number=number,
        stage=SearchStage.BLOCKS,
        state=State.PRUNED if is_over else State.COMPLETE,
        origin="tpe",
        architecture=arch,
        scores=Scores(
            top1=None if is_over else truth(proposed.params) if proposed else 0.5,
            latency_ms=latency,
            madds=cost.madds,
            params=cost.params,
            peak_bytes=cost.peak_bytes,
        ),
        seed=0,
        params=dict(proposed.params) if proposed else None,
        sampler_attrs=dict(proposed.attrs) if proposed else None,
    )


@pytest.mark.parametrize("name", SAMPLERS)
def test_proposals_are_members(space: SearchSpace, name: str) -> None:
    """Every proposal of every sampler is a member of the space."""
    trials, _ = play(space, name, seed=1, count=15)
    assert all(trial.architecture in space for trial in trials)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_restored_proposer_goes_on_alike(space: SearchSpace, name: str) -> None:
    """Rebuilt from the record after any number of trials, it proposes what the uninterrupted one proposed."""
    trials, rewards = play(space, name, seed=4, count=50)
    for stop in (0, 1, 12, 49):
        resumed = make(space, name, seed=4)
        resumed.restore(trials[:stop], rewards)
        assert resumed.ask(stop).params == trials[stop].params


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "evolution"])
def test_a_front_is_restored_alike(space: SearchSpace, name: str) -> None:
    """With several objectives, too."""
    objectives = ("top1", "latency_ms", "params")
    trials, rewards = play(space, name, seed=5, count=40, objectives=objectives)
    for stop in (1, 17, 39):
        resumed = make(space, name, seed=5, objectives=objectives)
        resumed.restore(trials[:stop], rewards)
        assert resumed.ask(stop).params == trials[stop].params


def test_lessons_guide_the_first_proposals(space: SearchSpace) -> None:
    """What another search has trained is learnt from at once, and may be proposed here, too."""
    trials, rewards = play(space, "feasible-first", seed=7, count=40)
    lessons = [trial for trial in trials if trial.state is State.COMPLETE]
    best = max(rewards.values())
    means = []
    for taught in ([], lessons):
        proposer = Proposer(objective_of(space), "feasible-first", seed=8, lessons=taught)
        means.append(fmean(truth(proposer.ask(number).params) for number in range(6)))
    assert means[0] < means[1] <= 1.0
    assert means[1] >= 0.9 * best


@pytest.mark.parametrize("name", SAMPLERS)
def test_running_trials_are_known_after_a_restart(space: SearchSpace, name: str) -> None:
    """With two trials under way the next proposal is the same whether or not the proposer was rebuilt meanwhile."""
    trials, rewards = play(space, name, seed=6, count=20)
    alone = make(space, name, seed=6)
    alone.restore(trials, rewards)
    running = []
    for number in (20, 21):
        proposed = alone.ask(number)
        trial = recorded(number, space.architecture(proposed.params), proposed)
        running.append(Trial(**{**{f: getattr(trial, f) for f in Trial.__slots__}, "state": State.RUNNING}))
    again = make(space, name, seed=6)
    again.restore([*trials, *running], rewards)
    assert again.ask(22).params == alone.ask(22).params


@pytest.mark.parametrize("name", ["tpe", "evolution", "nsga2"])
def test_samplers_learn(space: SearchSpace, name: str) -> None:
    """After 120 trials they propose more of what was rewarded than they did at first."""
    trials, rewards = play(space, name, seed=2, count=120)
    late = [rewards[trial.number] for trial in trials[90:] if trial.number in rewards]
    early = [rewards[trial.number] for trial in trials[:20] if trial.number in rewards]
    assert fmean(late) > fmean(early) + 0.1


def test_ours_is_feasible_and_finds_the_best(space: SearchSpace) -> None:
    """Feasibility first never proposes what is over the limit, nor anything twice, and is at the optimum after 40."""
    trials, rewards = play(space, "feasible-first", seed=3, count=40)
    assert all(trial.state is State.COMPLETE for trial in trials)
    assert len({trial.architecture.arch_id for trial in trials}) == 40
    assert max(rewards.values()) == 1.0


def test_strangers_are_passed_over(space: SearchSpace) -> None:
    """The reference, which lies off the space's grid, is told without harm and changes no proposal."""
    for name in SAMPLERS:
        alone, told = (make(space, name, seed=7) for _ in range(2))
        told.tell(recorded(0, space.reference, None), 0.8)
        assert told.ask(1).params == alone.ask(1).params


def test_a_small_space_is_exhausted() -> None:
    """Ours says so when every network within the limits was proposed, instead of repeating one."""
    all_stages: Any = TINY_SPACE["stages"]
    stages = [{**stage, "depth": [1], "kernel": [3], "expansion": [3]} for stage in all_stages]
    space = SearchSpace(
        preset=read_preset({**TINY_SPACE, "stages": stages}, "here"),
        width=0.25,
        resolution=32,
        in_channels=1,
        num_classes=10,
    )
    proposer = Proposer(objective_of(space, 1e9), "feasible-first", seed=0)
    seen = set()
    for number in range(space.size):
        proposed = proposer.ask(number)
        arch = space.architecture(proposed.params)
        seen.add(arch.arch_id)
        proposer.tell(recorded(number, arch, proposed), 0.5)
    assert len(seen) == space.size
    with pytest.raises(Exhausted, match="no further network of space 'tiny' is left"):
        proposer.ask(space.size)


def test_a_sampler_that_repeats_itself_is_helped() -> None:
    """TPE tries every network of a small space in a few hundred proposals, though it prefers a handful of them."""
    space = SearchSpace(
        preset=read_preset(TINY_SPACE, "here"), width=0.25, resolution=32, in_channels=1, num_classes=10
    )
    proposer, tried, number = Proposer(objective_of(space, 1e9), "tpe", seed=0), set[str](), 0
    while len(tried) < space.size:
        proposed = proposer.ask(number)
        arch = space.architecture(proposed.params)
        trial = recorded(number, arch, proposed)
        is_repeated = arch.arch_id in tried
        state = State.PRUNED if is_repeated else State.COMPLETE
        refusal = Refusal(cause=Cause.DUPLICATE, reason="tried") if is_repeated else None
        proposer.tell(replace(trial, state=state), None if is_repeated else 0.5, refusal=refusal)
        tried.add(arch.arch_id)
        number += 1
        assert number < 200 * space.size


def test_users_own_sampler(space: SearchSpace, tmp_path: Path) -> None:
    """An Optuna sampler of the user's is imported by name; what is none is refused with its name."""
    (tmp_path / "mine_sampling.py").write_text(
        "from optuna.samplers import RandomSampler\n\n\ndef make(seed):\n    return RandomSampler(seed=seed)\n\n\n"
        "def wrong(seed):\n    return seed\n\n\ndef without():\n    return None\n\n\n"
        "class Failing(RandomSampler):\n    def sample_independent(self, *given):\n"
        "        raise ValueError('no idea')\n"
    )
    own = Proposer(objective_of(space), "mine_sampling:make", seed=1, folder=str(tmp_path))
    assert own.ask(0).params == make(space, "random", seed=1).ask(0).params
    for name in ("mine_sampling:wrong", "mine_sampling:without"):
        with pytest.raises(MobilenasError, match=name):
            Proposer(objective_of(space), name, seed=1, folder=str(tmp_path))
    failing = Proposer(objective_of(space), "mine_sampling:Failing", seed=1, folder=str(tmp_path))
    with pytest.raises(RunError, match="mine_sampling:Failing failed: ValueError: no idea"):
        failing.ask(0)


def test_derived_seeds_differ() -> None:
    """Each trial of each search has a seed of its own."""
    seeds = {derived_seed(seed, number) for seed in range(50) for number in range(50)}
    assert len(seeds) == 2500
    assert issubclass(Exhausted, RunError)
