"""What an evaluation depends on, as it travels to a worker, and what comes back; nothing here imports torch."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from search.objective.reward import Reward
from search.plugins import Plugin, number
from search.trial import Scores
from space.arch import Architecture
from space.errors import RunError

if TYPE_CHECKING:
    from trainer.training.networks import DeviceKind
    from trainer.training.recipe import Recipe

# Raised whenever trainer or modules change so that the same evaluation gives another result: older ones are then no
# longer taken over.
EVALUATOR_VERSION = 2

# What a training leaves in its scratch folder on another machine.
MADE_WEIGHTS, MADE_CHECKPOINT = "made.safetensors", "made.checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataUse:
    """Which part of which data an evaluation uses, and how; None means the whole split.

    `balanced` ranks by the mean of the classes' accuracies in place of the share of all images. In several `folds` the
    images of the training and the reward split judge in turn, each what was trained without them.
    """

    content_hash: str
    reward_fraction: float
    split_seed: int
    train_images: int | None
    reward_images: int
    balanced: bool = False
    folds: int = 1


class NodeFiles(Protocol):
    """How an evaluation gets on another machine what it has here."""

    def data(self, there: Path, wanted: str) -> Path:
        """The folder of a prepared data set with this content hash."""

    def weights(self, parent: "Parent", key: str | None) -> bytes:
        """The weights to inherit, which the evaluation of this key made."""

    def shared(self, there: Path, wanted: str) -> Path:
        """The file of a supernet with this content hash."""

    def checkpoint(self, there: Path) -> bytes:
        """The checkpoint of a training."""

    def plugin(self, plugin: Plugin, content: str) -> Plugin:
        """A user's callable of this content."""


class Evaluation(ABC):
    """How the top-1 of a network is found out; equal keys mean equal results. It travels to a worker."""

    __slots__ = ()
    architecture: Architecture
    leaves_weights: ClassVar[bool]

    @property
    def processes(self) -> int:
        """How many processes share it."""
        return 1

    @property
    def is_of_given_weights(self) -> bool:
        """Whether weights are judged as they are."""
        return False

    @property
    def inherits(self) -> bool:
        """Whether it begins with given weights, or those of another evaluation."""
        return False

    @property
    def begins_alike(self) -> bool:
        """Whether every longer training of the network begins with the same weights, and so can go on from it."""
        return not self.inherits

    @property
    @abstractmethod
    def key(self) -> str:
        """A hash of everything that the top-1 depends on."""

    @abstractmethod
    def on_node(self, job: "Job", node: NodeFiles, scratch: Path) -> "Job":
        """The job with the paths of another machine, where it may write into a folder."""

    @abstractmethod
    def images_at(self, share: float) -> int:
        """How many images it has seen after a share (0-1) of it."""

    def plugins(self) -> tuple[tuple[str, Plugin], ...]:
        """The user's own callables that it needs, by their content."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Training(Evaluation):
    """Training on images, and judging on others; or judging weights that are given, where `recipe` is None.

    `parent_key` is the key of the evaluation whose weights are inherited (or the hash of a file of weights), None for
    training from scratch. Where it `shares`, they are a supernet's, and the network has its part of them; where it
    `adapts`, they are those that all networks of a search begin with, and it has what it shares with that network.
    `teacher_key` is the hash of the weights of a network that it learns from. `processes` share each batch. Of a
    training in folds the weights are those of its first fold, or, where it `refits`, of one more on all images; what it
    begins with and learns from is of the same fold.
    """

    leaves_weights = True

    architecture: Architecture
    data: DataUse
    recipe: "Recipe | None"
    seed: int
    parent_key: str | None = None
    device: "DeviceKind" = "cpu"
    processes: int = 1
    shares: bool = False
    adapts: bool = False
    teacher_key: str | None = None
    refits: bool = False

    @property
    def is_of_given_weights(self) -> bool:
        """See `Evaluation`."""
        return self.recipe is None

    @property
    def inherits(self) -> bool:
        """See `Evaluation`."""
        return self.parent_key is not None

    @property
    def begins_alike(self) -> bool:
        """See `Evaluation`."""
        return self.shares or self.adapts or not self.inherits

    @property
    def key(self) -> str:
        """See `Evaluation`; what is as it was before there was a choice is left out, so that keys stay."""
        content = {
            **asdict(self),
            "architecture": self.architecture.arch_id,
            "recipe": None if self.recipe is None else self.recipe.to_plain(),
            "evaluator": [EVALUATOR_VERSION, _torch_version()],
        }
        for name, usual in (
            ("device", "cpu"),
            ("processes", 1),
            ("shares", False),
            ("adapts", False),
            ("teacher_key", None),
            ("refits", False),
        ):
            if content[name] == usual:
                del content[name]
        if self.data.folds == 1:
            del content["data"]["folds"]
        return _hash(content)

    def on_node(self, job: "Job", node: NodeFiles, scratch: Path) -> "Job":
        """See `Evaluation`."""
        parent = job.parent
        if parent is not None and self.shares:
            assert self.parent_key is not None
            parent = replace(parent, weights=node.shared(parent.weights, self.parent_key))
        elif parent is not None:
            parent = _network_at(parent, self.parent_key, node, scratch / "parent.safetensors")
        teacher = job.teacher
        if teacher is not None:
            teacher = _network_at(teacher, self.teacher_key, node, scratch / "teacher.safetensors")
        return replace(brought(job, self.data, node, scratch), parent=parent, teacher=teacher)

    def images_at(self, share: float) -> int:
        """See `Evaluation`."""
        return 0 if self.recipe is None else round(self.recipe.images * share)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnEvaluation(Evaluation):
    """A user's own function from architecture to top-1 (0-1); `content` identifies its source (`Plugin.content`)."""

    leaves_weights = False

    architecture: Architecture
    evaluator: Plugin
    content: str

    @property
    def key(self) -> str:
        """See `Evaluation`; the function's source belongs to it."""
        return _hash({"architecture": self.architecture.arch_id, "evaluator": self.content})

    def on_node(self, job: "Job", node: NodeFiles, scratch: Path) -> "Job":  # noqa: ARG002
        """See `Evaluation`."""
        return replace(job, evaluation=replace(self, evaluator=node.plugin(self.evaluator, self.content)))

    def images_at(self, share: float) -> int:  # noqa: ARG002
        """See `Evaluation`."""
        return 0

    def plugins(self) -> tuple[tuple[str, Plugin], ...]:
        """See `Evaluation`."""
        return ((self.content, self.evaluator),)


# Asked for every trial; it does not change while a process runs.
_torch_version = lru_cache(lambda: version("torch"))


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The network whose weights are inherited, or that is learnt from; `folds` is the file of its weights by fold."""

    architecture: Architecture
    weights: Path
    folds: Path | None = None


def _network_at(parent: Parent, key: str | None, node: NodeFiles, path: Path) -> Parent:
    """A network whose weights lie elsewhere, written here."""
    path.write_bytes(node.weights(parent, key))
    folds = None
    if parent.folds is not None:
        folds = path.with_suffix(".folds")
        folds.write_bytes(node.checkpoint(parent.folds))
    return Parent(architecture=parent.architecture, weights=path, folds=folds)


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
    """An evaluation and where its files are, as it travels to a worker.

    A training goes on from `checkpoint` if that is one of the same evaluation, and is kept there while it runs; with
    `keeps_checkpoint` at its end, too, for a longer one. Where there is none it goes on from `begun`, the checkpoint of
    a shorter training of the same network: what comes out is the same. It may take `limit_seconds`, all its attempts
    together.
    """

    number: int
    attempt: int
    evaluation: Evaluation
    data_folder: Path | None = None
    weights: Path | None = None
    parent: Parent | None = None
    teacher: Parent | None = None
    touch_test: bool = False
    watch: Watch | None = None
    checkpoint: Path | None = None
    keeps_checkpoint: bool = False
    begun: Path | None = None
    limit_seconds: float | None = None


def brought(job: Job, data: DataUse, node: NodeFiles, scratch: Path) -> Job:
    """A training's job with the data and what it goes on from on another machine, and room there for what it makes."""
    assert job.data_folder is not None
    begun = None
    if job.begun is not None:
        begun = scratch / "begun.checkpoint"
        begun.write_bytes(node.checkpoint(job.begun))
    return replace(
        job,
        data_folder=node.data(job.data_folder, data.content_hash),
        weights=scratch / MADE_WEIGHTS,
        checkpoint=scratch / MADE_CHECKPOINT if job.keeps_checkpoint else None,
        begun=begun,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an evaluation found: `judged` on images of the reward split, and `tested` on the test split, if touched.

    Both as `trainer.training.judgement.Judgement` keeps them, a byte per image; a user's own evaluator gives neither.
    `note` is what somebody should know of how it went, which changed nothing.
    """

    top1: float
    images_seen: int = 0
    log_likelihood: float | None = None
    probability: float | None = None
    judged: bytes | None = None
    tested: bytes | None = None
    note: str | None = field(default=None, compare=False)


@lru_cache(maxsize=8)
def _evaluator(plugin: Plugin, content: str) -> Callable[[Architecture], Any]:
    """Loaded once in a process; a worker that starts after an edit must not give results under the old one's key."""
    function, now = plugin.load(), plugin.content
    if now != content:
        raise RunError(f"evaluator {plugin.name} was edited while the search ran ({content} is now {now}); restore it")
    return function


def ask_own(evaluation: OwnEvaluation, *, seed: int | None = None) -> Outcome:
    """What a user's own evaluator says of an architecture; with a seed, of one training of it.

    Raises:
        RunError: it says something else than a share, or was edited since the search began.
    """
    noise = {} if seed is None else {"seed": seed}
    found = _evaluator(evaluation.evaluator, evaluation.content)(evaluation.architecture, **noise)
    what, expected = f"evaluator {evaluation.evaluator.name}", "it must give top-1 as a share, 0-1"
    top1 = number(found, what, expected)
    if not 0 <= top1 <= 1:
        raise RunError(f"{what} gave {top1}; {expected}")
    return Outcome(top1=top1)
