"""What an evaluation depends on, as it travels to a worker, and what comes back; nothing here imports torch."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.objective.reward import Reward
from search.plugins import Plugin, number
from search.trial import Scores
from space.arch import Architecture
from space.errors import RunError

if TYPE_CHECKING:
    from trainer.train import DeviceKind, Recipe

# Raised whenever trainer or modules change so that the same evaluation gives another result: older ones are then no
# longer taken over.
EVALUATOR_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DataUse:
    """Which part of which data an evaluation uses; None means the whole split."""

    content_hash: str
    reward_fraction: float
    split_seed: int
    train_images: int | None
    reward_images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Everything that a top-1 depends on; equal evaluations have equal results.

    `recipe` is None where given weights are judged as they are. `parent_key` is the key of the evaluation whose weights
    are inherited (or the hash of a file of weights), None for training from scratch. `processes` share each batch.
    """

    architecture: Architecture
    data: DataUse
    recipe: "Recipe | None"
    seed: int
    parent_key: str | None = None
    device: "DeviceKind" = "cpu"
    processes: int = 1

    @property
    def key(self) -> str:
        """A hash of the content; what is as it was before there was a choice is left out, so that keys stay."""
        content = {
            **asdict(self),
            "architecture": self.architecture.arch_id,
            "evaluator": [EVALUATOR_VERSION, _torch_version()],
        }
        for name, usual in (("device", "cpu"), ("processes", 1)):
            if content[name] == usual:
                del content[name]
        return _hash(content)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnEvaluation:
    """A user's own function from architecture to top-1 (0-1); `content` identifies its source (`Plugin.content`)."""

    architecture: Architecture
    evaluator: Plugin
    content: str

    @property
    def key(self) -> str:
        """A hash of the content, the function's source among it."""
        return _hash({"architecture": self.architecture.arch_id, "evaluator": self.content})


# Asked for every trial; it does not change while a process runs.
_torch_version = lru_cache(lambda: version("torch"))


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The network whose weights are inherited."""

    architecture: Architecture
    weights: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How a training is judged in between, so that it can be stopped early: so often, by this reward."""

    times: int
    reward: Reward
    scores: Scores
    target_ms: float

    def of(self, top1: float) -> float:
        """The reward that the network would have with this top-1."""
        reward = self.reward.of(replace(self.scores, top1=top1), self.target_ms)
        assert reward is not None
        return reward


@dataclass(frozen=True, slots=True, kw_only=True)
class Interim:
    """What a watched training reached after a share of it (0-1)."""

    share: float
    top1: float
    reward: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An evaluation and where its files are, as it travels to a worker."""

    number: int
    attempt: int
    evaluation: Evaluation | OwnEvaluation
    data_folder: Path | None = None
    weights: Path | None = None
    parent: Parent | None = None
    touch_test: bool = False
    watch: Watch | None = None

    @property
    def processes(self) -> int:
        """How many train together."""
        return self.evaluation.processes if isinstance(self.evaluation, Evaluation) else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an evaluation found; `right` says which test images it classified right, if test was touched."""

    top1: float
    images_seen: int = 0
    right: tuple[bool, ...] | None = None


@lru_cache(maxsize=8)
def _evaluator(plugin: Plugin, content: str) -> Callable[[Architecture], Any]:
    """Loaded once in a process; a worker that starts after an edit must not give results under the old one's key."""
    function, now = plugin.load(), plugin.content
    if now != content:
        raise RunError(f"evaluator {plugin.name} was edited while the search ran ({content} is now {now}); restore it")
    return function


def ask_own(evaluation: OwnEvaluation) -> Outcome:
    """What a user's own evaluator says of an architecture.

    Raises:
        RunError: it says something else than a share, or was edited since the search began.
    """
    found = _evaluator(evaluation.evaluator, evaluation.content)(evaluation.architecture)
    what, expected = f"evaluator {evaluation.evaluator.name}", "it must give top-1 as a share, 0-1"
    top1 = number(found, what, expected)
    if not 0 <= top1 <= 1:
        raise RunError(f"{what} gave {top1}; {expected}")
    return Outcome(top1=top1)
