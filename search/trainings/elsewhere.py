"""A supernet that an executor trains, as on a cluster: part by part, so that no loss costs more than one of them."""

from collections.abc import Callable

from search.evaluation.executor import Executor, Finished
from search.evaluation.job import DataUse, Job
from search.evaluation.shared import SharedTraining
from search.events import Listener
from search.trainings.supernets import SupernetTraining
from space.errors import RunError, Stopped
from trainer.supernet.sharing import Supernet
from trainer.training.state import TrainingState
from trainer.training.train import Trained
from trainer.training.weight_files import read_weights

_LOOK_S = 1.0


def train_by_parts(
    wanted: SupernetTraining, executor: Executor, listener: Listener, stopping: Callable[[], bool] = bool
) -> tuple[Supernet, Trained]:
    """Train it to its end, on from what is kept in its folder, where each part is kept.

    Raises:
        Stopped: `stopping` said so; what earlier parts did is kept.
        RunError: a part failed.
    """
    kept, part = wanted.kept, wanted.folder / f"{wanted.kept.kind}.part"
    total, number, before = wanted.recipe.steps * wanted.size, 0, -1
    while True:
        job = Job(
            number=number,
            attempt=1,
            evaluation=_evaluation(wanted),
            data_folder=wanted.dataset.folder,
            weights=part,
            checkpoint=kept.checkpoint,
            keeps_checkpoint=True,
            begun=kept.checkpoint if kept.checkpoint.exists() else None,
        )
        executor.submit(job)
        finished = _awaited(executor, number, total, listener, stopping)
        if finished.outcome is None:
            raise RunError(f"training the supernet failed: {finished.error}")
        if finished.outcome.images_seen >= total:
            break
        if finished.outcome.images_seen <= before:
            raise RunError(f"training the supernet does not go on after {before:,} of {total:,} images")
        before = finished.outcome.images_seen
        listener.note(f"{finished.outcome.images_seen:,} of {total:,} images are trained and kept")
        _end_if(stopping)
        number += 1
    weights, state = read_weights(part), TrainingState.read(kept.checkpoint)
    part.unlink()
    trained = Trained(weights=weights, images_seen=total, seconds=state.seconds, state=state)
    return Supernet(space=wanted.space, weights=weights), trained


def _evaluation(wanted: SupernetTraining) -> SharedTraining:
    return SharedTraining(
        architecture=wanted.space.largest,
        space=wanted.space,
        data=DataUse(
            content_hash=wanted.dataset.content_hash,
            reward_fraction=wanted.reward_fraction,
            split_seed=wanted.split_seed,
            train_images=None,
            reward_images=len(wanted.splits.reward),
        ),
        recipe=wanted.recipe,
        seed=wanted.seed,
        drawn=wanted.drawn,
        warmup=wanted.warmup,
        device=wanted.device,
        seconds=wanted.checkpoint_seconds,
    )


def _awaited(executor: Executor, number: int, total: int, listener: Listener, stopping: Callable[[], bool]) -> Finished:
    while True:
        ended = executor.wait(_LOOK_S)
        if ended:
            return ended[0]
        listener.advance(round(total * executor.progress().get(number, 0.0)))
        _end_if(stopping)


def _end_if(stopping: Callable[[], bool]) -> None:
    if stopping():
        raise Stopped("training the supernet was stopped; what its last whole part did is kept")
