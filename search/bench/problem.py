"""Problems whose answers are known: a space, latencies, a limit, and what every training of a network would show."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from inspect import signature

from search.config.load import RunConfig
from search.evaluation.job import OwnEvaluation, ask_own
from search.objective.latency import Latency, OwnLatency, scores_of
from search.objective.limits import Limits
from search.plugins import Plugin, user_code
from space.arch import Architecture, Stage
from space.choices import SearchSpace
from space.encoding import Encoding
from space.errors import InvalidConfig, RunError
from space.preset import load_preset

# Spaces up to this size are listed, so that the best network is known.
LISTED = 100_000


@dataclass(frozen=True, slots=True)
class Seen:
    """What a training shows a sampler: top-1 (0-1), and the score by which trained networks are told apart."""

    top1: float
    score: float


class Problem(ABC):
    """What samplers are compared on. A network may be trained up to several rungs, the last one of which is its end."""

    name: str
    limit_ms: float
    unit: str
    noisy: bool

    @property
    def costs(self) -> tuple[float, ...]:
        """What training up to each rung costs from the beginning, in whole trainings: ascending, the last is 1."""
        return (1.0,)

    @property
    @abstractmethod
    def encoding(self) -> Encoding:
        """The space's rows."""

    @property
    @abstractmethod
    def latency(self) -> Latency:
        """Of the space's members, in ms."""

    @property
    @abstractmethod
    def limits(self) -> Limits:
        """The latency limit, and what else is limited."""

    @property
    def plugins(self) -> str | None:
        """The folder of samplers of the user's own."""
        return None

    @property
    def listed(self) -> tuple[Architecture, ...] | None:
        """All networks that can be trained, where they are few: samplers are not asked for more."""
        return None

    @property
    def evaluations(self) -> int:
        """So many whole trainings are what samplers may use, where nothing else is said."""
        return 150

    def stands_for(self, arch: Architecture) -> Architecture:
        """The network that is trained where this member is proposed."""
        return arch

    @abstractmethod
    def look(self, arch: Architecture, rung: int, seed: int) -> Seen:
        """What the training of a network shows at a rung, a function of a run's seed."""

    @abstractmethod
    def worth(self, arch: Architecture) -> float:
        """The top-1 (0-1) that a network has in truth when it is trained to the end."""

    @cached_property
    @abstractmethod
    def within(self) -> tuple[Architecture, ...] | None:
        """All networks within the limits, None where the space is too large to be listed.

        Raises:
            RunError: there are none.
        """

    @cached_property
    def best(self) -> float | None:
        """The best worth within the limits, None where the space is too large to be listed."""
        return None if self.within is None else max(map(self.worth, self.within))

    def floor(self, seed: int) -> float | None:
        """The worth of what would be chosen if every network within the limits were trained to the end in this run."""
        if self.within is None:
            return None
        last = len(self.costs) - 1
        return self.worth(max(self.within, key=lambda arch: self.look(arch, last, seed).score))


@dataclass(frozen=True)
class OwnProblem(Problem):
    """A run configuration with a user's own evaluator and latency, which is in `unit` and must not exceed `limit_ms`.

    Where it is `noisy` the evaluator is told a seed, and gives what one training of that seed would.
    """

    name: str
    config: RunConfig
    limit_ms: float
    unit: str = "ms"
    noisy: bool = False
    _worth: dict[str, float] = field(default_factory=dict)

    @cached_property
    def space(self) -> SearchSpace:
        """The space of the configuration."""
        name, width = self.config.space.chosen
        return SearchSpace(preset=load_preset(name), width=width, **self.config.data.sizes)

    @cached_property
    def encoding(self) -> Encoding:
        """See `Problem`."""
        return Encoding(self.space)

    @cached_property
    def latency(self) -> OwnLatency:
        """The user's own function."""
        assert self.config.latency is not None
        return OwnLatency(Plugin(name=self.config.latency, folder=self.config.plugins))

    @property
    def limits(self) -> Limits:
        """See `Problem`."""
        return self.config.limits.limits(self.limit_ms)

    @property
    def plugins(self) -> str | None:
        """See `Problem`."""
        return self.config.plugins

    def look(self, arch: Architecture, rung: int, seed: int) -> Seen:  # noqa: ARG002 - it has one rung
        """See `Problem`."""
        top1 = self._asked(arch, seed) if self.noisy else self.worth(arch)
        return Seen(top1, top1)

    def worth(self, arch: Architecture) -> float:
        """What the user's own evaluator says, which is asked once for each network."""
        if arch.arch_id not in self._worth:
            self._worth[arch.arch_id] = self._asked(arch)
        return self._worth[arch.arch_id]

    def _asked(self, arch: Architecture, seed: int | None = None) -> float:
        evaluator, content = self._evaluator
        with user_code(f"evaluator {evaluator.name}"):
            return ask_own(OwnEvaluation(architecture=arch, evaluator=evaluator, content=content), seed=seed).top1

    def require_seed(self) -> None:
        """See that the evaluator can be told which training is meant.

        Raises:
            InvalidConfig: it cannot.
        """
        if "seed" not in signature(self._evaluator[0].load()).parameters:
            raise InvalidConfig(
                f"evaluator {self.config.evaluator} takes no seed=, by which it would give one of several trainings; "
                "leave --noise out"
            )

    @cached_property
    def _evaluator(self) -> tuple[Plugin, str]:
        assert self.config.evaluator is not None
        evaluator = Plugin(name=self.config.evaluator, folder=self.config.plugins)
        return evaluator, evaluator.content

    @cached_property
    def within(self) -> tuple[Architecture, ...] | None:
        """See `Problem`."""
        if self.space.size > LISTED:
            return None
        members = map(self.space.with_stages, _chains(self.space, 1, self.space.stem.out_channels))
        within = tuple(arch for arch in members if self.limits.refusal(scores_of(arch, self.latency)) is None)
        if not within:
            raise RunError(
                f"no network of the space is within {self.limit_ms:g} {self.unit} and the other limits; raise them"
            )
        return within

    @classmethod
    def of(
        cls, name: str, config: RunConfig, limit_ms: float | None, *, unit: str = "ms", noisy: bool = False
    ) -> "OwnProblem":
        """With a limit, or with the target of the configuration.

        Raises:
            InvalidConfig: there is to be noise, and the evaluator takes no seed.
        """
        limit = math.inf if limit_ms is None else limit_ms
        problem = cls(name=name, config=config, limit_ms=limit, unit=unit, noisy=noisy)
        if noisy:
            problem.require_seed()
        if limit_ms is not None:
            return problem
        is_relative = config.target.relative is not None
        reference_ms = problem.latency.estimate(problem.space.reference) if is_relative else None
        return replace(problem, limit_ms=config.target.in_ms(reference_ms))


def _chains(space: SearchSpace, number: int, in_channels: int) -> Iterator[tuple[Stage, ...]]:
    """All ways to go on from the input of a stage to the end."""
    if number > len(space.preset.stages):
        yield ()
        return
    for out_channels in space.widths_before(number + 1):
        for stage in space.stage_options(number, in_channels, out_channels):
            for rest in _chains(space, number + 1, out_channels):
                yield (stage, *rest)
