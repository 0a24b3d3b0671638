"""Comparing samplers on a problem whose answers are known, without a record: what a search proposes, in its order."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from search.config.load import RunConfig, load_config
from search.config.sections import SAMPLERS, named_or_callable
from search.evaluation.job import OwnEvaluation, ask_own
from search.objective.latency import OwnLatency, scores_of
from search.objective.limits import Limits, Refusal
from search.objective.objective import Objective
from search.objective.reward import HARD, Reward, soft
from search.plugins import Plugin, user_code
from search.samplers.ask import Asking, Stuck
from search.samplers.feasible_first import Exhausted
from search.samplers.proposer import Proposed, Proposer
from search.trial import Scores, SearchStage, State, Trial
from space.arch import Architecture, Stage
from space.choices import SearchSpace
from space.encoding import Encoding
from space.errors import InvalidConfig, RunError
from space.preset import load_preset

PROBLEMS = {"nas-bench-macro": "nas_bench_macro.yaml"}
# A sampler with this behind its name sees no limit: it trains what is too slow, and maximises MnasNet's soft reward.
SOFT = "/soft"
# Spaces up to this size are listed, so that the best network is known.
LISTED = 100_000


@dataclass(frozen=True)
class Problem:
    """A space with a user's own evaluator and latency, and the latency that must not be exceeded, ms."""

    config: RunConfig
    limit_ms: float

    @cached_property
    def space(self) -> SearchSpace:
        """The space of the configuration."""
        preset = load_preset(self.config.space.preset)
        return SearchSpace(preset=preset, width=self.config.space.width, **self.config.data.sizes)

    @cached_property
    def encoding(self) -> Encoding:
        """The space's rows."""
        return Encoding(self.space)

    @cached_property
    def latency(self) -> OwnLatency:
        """The user's own function."""
        assert self.config.latency is not None
        return OwnLatency(Plugin(name=self.config.latency, folder=self.config.plugins))

    def top1(self, arch: Architecture) -> float:
        """What the user's own evaluator says."""
        evaluator, content = self._evaluator
        with user_code(f"evaluator {evaluator.name}"):
            return ask_own(OwnEvaluation(architecture=arch, evaluator=evaluator, content=content)).top1

    @property
    def limits(self) -> Limits:
        """The latency limit, and what else the configuration limits."""
        return self.config.limits.limits(self.limit_ms)

    @cached_property
    def _evaluator(self) -> tuple[Plugin, str]:
        assert self.config.evaluator is not None
        evaluator = Plugin(name=self.config.evaluator, folder=self.config.plugins)
        return evaluator, evaluator.content

    @cached_property
    def best(self) -> float | None:
        """The best top-1 within the limit, None where the space is too large to be listed."""
        if self.space.size > LISTED:
            return None
        members = map(self.space.with_stages, _chains(self.space, 1, self.space.stem.out_channels))
        within = [arch for arch in members if self.limits.refusal(scores_of(arch, self.latency)) is None]
        if not within:
            raise RunError(f"no network of the space is within {self.limit_ms:g} ms and the other limits; raise them")
        return max(map(self.top1, within))


def _chains(space: SearchSpace, number: int, in_channels: int) -> Iterator[tuple[Stage, ...]]:
    """All ways to go on from the input of a stage to the end."""
    if number > len(space.preset.stages):
        yield ()
        return
    for out_channels in space.widths_before(number + 1):
        for stage in space.stage_options(number, in_channels, out_channels):
            for rest in _chains(space, number + 1, out_channels):
                yield (stage, *rest)


def problem_named(name: str, limit_ms: float | None = None) -> Problem:
    """A problem of ours, or one of the user's as a run configuration (YAML).

    Raises:
        InvalidConfig: it is neither, or lacks an evaluator or a latency of its own.
    """
    if name in PROBLEMS:
        folder = Path(__file__).parent / "problems"
        # A sampler of the user's lies beside the user's problem; for a problem of ours, where the command is given.
        config = load_config(folder / PROBLEMS[name]).model_copy(update={"plugins": str(Path.cwd())})
        preset = folder / Path(config.space.preset).name
        if preset.exists():
            config = config.model_copy(update={"space": config.space.model_copy(update={"preset": str(preset)})})
    elif name.endswith((".yaml", ".yml")):
        config = load_config(Path(name)).from_anywhere()
    else:
        raise InvalidConfig(f"problem {name!r} is neither {', '.join(PROBLEMS)} nor a YAML file of a run")
    if config.evaluator is None or config.latency is None or config.data.source != "none":
        raise InvalidConfig(f"problem {name!r} needs `evaluator`, `latency` and data.source none")
    if config.blocks.objectives or config.blocks.reward.kind != "hard":
        raise InvalidConfig(
            f"problem {name!r} sets blocks.objectives or blocks.reward, but samplers are compared by top-1 within the "
            "limits: leave them out"
        )
    problem = Problem(config=config, limit_ms=math.inf if limit_ms is None else limit_ms)
    if limit_ms is not None:
        if not 0 < limit_ms < math.inf:
            raise InvalidConfig(f"limit {limit_ms:g} must be a positive number")
        return problem
    is_relative = config.target.relative is not None
    reference_ms = problem.latency.estimate(problem.space.reference) if is_relative else None
    return replace(problem, limit_ms=config.target.in_ms(reference_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerRun:
    """What one sampler did with one seed: the best feasible top-1 after each evaluation (0 before there is one)."""

    sampler: str
    seed: int
    best: tuple[float, ...]
    propose_ms: float
    """The median time of a proposal."""


def run_sampler(problem: Problem, sampler: str, seed: int, evaluations: int) -> SamplerRun:
    """Let a sampler search: what is over the limit or was tried already costs nothing, as in a search.

    Raises:
        InvalidConfig: the sampler is unknown.
        RunError: it found no network within the limits, or something of the user's failed.
    """
    name = named_or_callable(sampler.removesuffix(SOFT), SAMPLERS)
    is_soft = name != sampler
    reward = soft() if is_soft else HARD
    objective = _objective(problem, reward, limited=not is_soft)
    trials = _Trials()
    proposer = _TimedProposer(objective, name, seed=seed, folder=problem.config.plugins)
    asking = Asking(
        proposer=proposer,
        objective=objective,
        new_trial=trials.add,
        next_number=lambda: trials.count,
        last_of=lambda arch: trials.evaluated.get(arch.arch_id),
    )
    best: list[float] = []
    reached = 0.0
    with suppress(Exhausted, Stuck):  # it has nothing left to propose
        while len(best) < evaluations and (trial := asking.ask()) is not None:
            scores = replace(trial.scores, top1=problem.top1(trial.architecture))
            done = replace(trial, state=State.COMPLETE, scores=scores)
            proposer.tell(done, reward.of(done.scores, problem.limit_ms))
            if problem.limits.refusal(scores) is None:
                reached = max(reached, scores.top1 or 0.0)
            best.append(reached)
    if not best:
        raise RunError(
            f"sampler {sampler} found no network within {problem.limit_ms:g} and the other limits; raise them"
        )
    best += [reached] * (evaluations - len(best))
    propose_ms = 1000 * float(np.median(proposer.seconds))
    return SamplerRun(sampler=sampler, seed=seed, best=tuple(best), propose_ms=propose_ms)


class _TimedProposer(Proposer):
    """Remembers how long each proposal took."""

    def __init__(self, objective: Objective, name: str, *, seed: int, folder: str | None) -> None:
        super().__init__(objective, name, seed=seed, folder=folder)
        self.seconds: list[float] = []

    def ask(self, number: int) -> Proposed:
        """See `Proposer`."""
        started = time.perf_counter()
        proposed = super().ask(number)
        self.seconds.append(time.perf_counter() - started)
        return proposed


@dataclass
class _Trials:
    """The trials of one run, in memory alone."""

    count: int = 0
    evaluated: dict[str, Trial] = field(default_factory=dict)

    def add(self, arch: Architecture, *, scores: Scores, proposed: Proposed | None, refusal: Refusal | None) -> Trial:
        """See `search.samplers.ask.NewTrial`."""
        trial = Trial(
            number=self.count,
            stage=SearchStage.BLOCKS,
            state=State.RUNNING if refusal is None else State.PRUNED,
            origin="bench",
            architecture=arch,
            scores=scores,
            seed=0,
            params=dict(proposed.params) if proposed else None,
        )
        self.count += 1
        if refusal is None:
            self.evaluated[arch.arch_id] = trial
        return trial


def _objective(problem: Problem, reward: Reward, *, limited: bool) -> Objective:
    return Objective(
        encoding=problem.encoding,
        latency=problem.latency,
        limits=problem.limits if limited else Limits(),
        reward_of=reward,
        target_ms=problem.limit_ms,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One sampler over all seeds. Regrets are in percentage points below the best network, or the best that was found.

    `found` is the share of seeds that found a network as good as that; regrets are at the asked-for evaluations.
    """

    sampler: str
    seeds: int
    regrets: dict[int, float]
    worst: dict[int, float]
    found: float
    propose_ms: float


def summarise(runs: Sequence[SamplerRun], best: float | None, at: Sequence[int]) -> list[Summary]:
    """A line per sampler, in the order of their first courses."""
    top = max(run.best[-1] for run in runs) if best is None else best
    summaries = []
    for sampler in dict.fromkeys(run.sampler for run in runs):
        own = [run for run in runs if run.sampler == sampler]
        gaps = {count: [100 * (top - run.best[count - 1]) for run in own] for count in at}
        summaries.append(
            Summary(
                sampler=sampler,
                seeds=len(own),
                regrets={count: float(np.mean(gap)) for count, gap in gaps.items()},
                worst={count: float(np.max(gap)) for count, gap in gaps.items()},
                found=float(np.mean([run.best[-1] >= top - 1e-12 for run in own])),
                propose_ms=float(np.median([run.propose_ms for run in own])),
            )
        )
    return summaries
