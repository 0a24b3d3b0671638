"""A part of a supernet's training, as executors run it: so many seconds of it, which the next part goes on from."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from search.evaluation.job import (
    EVALUATOR_VERSION,
    DataUse,
    Evaluation,
    Job,
    NodeFiles,
    Outcome,
    brought,
)
from space.arch import Architecture
from space.choices import SearchSpace

if TYPE_CHECKING:
    from trainer.data.prepare import Progress
    from trainer.training.networks import DeviceKind
    from trainer.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedTraining(Evaluation):
    """Training the weights that the members of a space share, on from the job's `begun`, for `seconds` at most.

    `architecture` is the space's largest member, and the rest that of `trainer.supernet.training.train_supernet`. The
    job's weights are those of a whole training; those of a part have no tensors, since it is not done.
    """

    leaves_weights: ClassVar[bool] = True

    architecture: Architecture
    space: SearchSpace
    data: DataUse
    recipe: "Recipe"
    seed: int
    drawn: int
    warmup: int
    device: "DeviceKind"
    seconds: float

    @property
    def key(self) -> str:
        """See `Evaluation`; how long its parts are changes nothing."""
        content = {
            "space": self.space.scope,
            "data": asdict(self.data),
            "recipe": self.recipe.to_plain(),
            "seed": self.seed,
            "drawn": self.drawn,
            "warmup": self.warmup,
            "device": self.device,
            "evaluator": EVALUATOR_VERSION,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def on_node(self, job: Job, node: NodeFiles, scratch: Path) -> Job:
        """See `Evaluation`."""
        return brought(job, self.data, node, scratch)

    def images_at(self, share: float) -> int:
        """See `Evaluation`."""
        return round(self.recipe.images * share)


def run_shared_training(job: Job, progress: "Progress | None" = None) -> Outcome:
    """Train a part, and leave what the next one goes on from, or the whole supernet's weights.

    Raises:
        DataError: the data or what is gone on from cannot be read, or training diverged.
        RunError: it is to run on a GPU, and there is none.
    """
    from space.errors import Stopped
    from trainer.data.dataset import Dataset
    from trainer.data.splits import split
    from trainer.supernet.training import train_supernet
    from trainer.training.state import TrainingState
    from trainer.training.train import Attended, Checkpoints
    from trainer.training.weight_files import write_weights

    shared, checkpoint = job.evaluation, job.checkpoint
    assert isinstance(shared, SharedTraining)
    assert job.data_folder is not None
    assert job.weights is not None
    assert checkpoint is not None
    dataset, end = Dataset.open(job.data_folder), time.monotonic() + shared.seconds
    seen = 0

    def advance(done: int, total: int) -> None:
        nonlocal seen
        seen = done
        if progress is not None:
            progress(done, total)

    try:
        _, trained = train_supernet(
            shared.space,
            dataset,
            split(dataset, reward_fraction=shared.data.reward_fraction, seed=shared.data.split_seed).train,
            shared.recipe,
            seed=shared.seed,
            drawn=shared.drawn,
            warmup=shared.warmup,
            state=None if job.begun is None else TrainingState.read(job.begun),
            attended=Attended(
                progress=advance,
                checkpoints=Checkpoints(keep=lambda state: state.write(checkpoint), seconds=2 * shared.seconds),
                stopping=lambda: time.monotonic() > end,
            ),
            device=shared.device,
        )
    except Stopped:
        write_weights({}, job.weights)
        return Outcome(top1=0.0, images_seen=seen)
    assert trained.state is not None
    trained.state.write(checkpoint)
    write_weights(trained.weights, job.weights)
    return Outcome(top1=0.0, images_seen=trained.images_seen)
