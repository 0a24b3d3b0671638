"""One evaluation in a worker: a network is trained, or its weights are taken, and it is judged."""

import hashlib
import math
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from search.evaluation.job import DataUse, Interim, Job, Outcome, Parent, Training, Watch
from space.arch import Architecture
from space.errors import DataError
from space.networks.modules import fused
from trainer.data.dataset import Dataset
from trainer.data.prepare import Progress
from trainer.data.splits import Splits, folds_of, pooled, split, subset
from trainer.supernet.files import SupernetFile
from trainer.supernet.sharing import Supernet
from trainer.training.batches import ALONE, Shard
from trainer.training.inherit import adapted, inherit
from trainer.training.judgement import Judgement
from trainer.training.judging import judge, judgement_of, logits_of
from trainer.training.metrics import fitted_temperature
from trainer.training.networks import DeviceKind, Weights, channels_last, load_model, require_device
from trainer.training.state import DamagedState, TrainingState, UnfitState
from trainer.training.train import Attended, Check, Checkpoints, Teacher, Trained, train
from trainer.training.weight_files import evaluation_of_weights, read_fold, read_weights, write_folds, write_weights

# A training that is watched is judged in between by so many of the images that judge it at its end.
INTERIM_IMAGES = 1000
_LOST = "what was kept of its training could not be gone on with"


@lru_cache(maxsize=2)
def _data(folder: Path, reward_fraction: float, seed: int, folds: int = 1) -> tuple[Dataset, Splits]:
    """Opened once per worker process, not once per trial."""
    dataset = Dataset.open(folder)
    splits = split(dataset, reward_fraction=reward_fraction, seed=seed)
    return dataset, splits if folds == 1 else pooled(splits)


def run_training(
    job: Job,
    progress: Progress | None = None,
    interim: Callable[[Interim], None] | None = None,
    shard: Shard = ALONE,
) -> Outcome:
    """Train (or take as it is) and evaluate one network, and leave its weights behind; runs in a worker.

    `interim` hears of what a watched training reached so far. Of several processes that train, the first one is here,
    and the others are in `help_training`.

    Raises:
        DataError: the data or the parent's weights cannot be read, or training diverged.
        RunError: it is to run on a GPU, and there is none.
    """
    assert job.weights is not None
    evaluation, dataset, splits = _given(job)
    arch, use, labels = evaluation.architecture, evaluation.data, dataset.labels()
    if use.folds > 1 and evaluation.recipe is not None:
        return _in_folds(job, evaluation, dataset, splits, progress)
    check = None
    if job.watch is not None and interim is not None:
        few = subset(splits.reward, labels, min(INTERIM_IMAGES, use.reward_images), use.split_seed)
        check = _check(job.watch, dataset, few, interim, use)
    trained, note = _trained(job, evaluation, dataset, splits, progress, check, shard)
    model = load_model(arch, trained.weights).to(evaluation.device)
    judged = subset(splits.reward, labels, use.reward_images, use.split_seed)
    judgement = judge(model, dataset, judged)
    tested = judge(model, dataset, splits.test).to_bytes() if job.touch_test else None
    write_weights(trained.weights, job.weights, evaluation_key=evaluation.key)
    return Outcome(
        top1=_figure(judgement, use, labels[judged]),
        images_seen=trained.images_seen,
        log_likelihood=judgement.log_likelihood,
        probability=judgement.probability,
        judged=judgement.to_bytes(),
        tested=tested,
        note=note,
    )


def _in_folds(job: Job, evaluation: Training, dataset: Dataset, splits: Splits, progress: Progress | None) -> Outcome:
    """Train as often as there are folds, each time without one of them, which then judges; and once more on all.

    A training without a part of the images is no part of one with it, so that nothing goes on from a shorter one.
    """
    assert job.weights is not None
    use, pool = evaluation.data, splits.train
    parts = folds_of(pool, dataset.labels(), use.folds, use.split_seed)
    logits = torch.zeros(len(pool), len(dataset.classes))
    by_fold = []
    for number, part in enumerate(parts):
        trained = _trained_on(np.setdiff1d(pool, part), number, job, evaluation, dataset, progress)
        model = load_model(evaluation.architecture, trained.weights).to(evaluation.device)
        said = logits_of(model, dataset, part)
        judgement_of(said, dataset.labels()[part])  # which a network that diverged ends here
        logits[np.searchsorted(pool, part)] = said
        by_fold.append(trained)
    if job.keeps_checkpoint and job.checkpoint is not None:
        write_folds([each.weights for each in by_fold], job.checkpoint, evaluation_key=evaluation.key)
    labels = dataset.labels()[pool]
    judgement, kept, temperature = judgement_of(logits, labels), by_fold[0], None
    if evaluation.refits:
        kept = _trained_on(pool, len(parts), job, evaluation, dataset, progress)
        # It knows all images that could tell; that of what knew others of them is the nearest there is.
        temperature = fitted_temperature(logits.numpy(), labels)
    write_weights(kept.weights, job.weights, evaluation_key=evaluation.key, temperature=temperature)
    tested = None
    if job.touch_test:
        model = load_model(evaluation.architecture, kept.weights).to(evaluation.device)
        tested = judge(model, dataset, splits.test).to_bytes()
    return Outcome(
        top1=_figure(judgement, use, labels),
        images_seen=kept.images_seen,
        log_likelihood=judgement.log_likelihood,
        probability=judgement.probability,
        judged=judgement.to_bytes(),
        tested=tested,
    )


def _trained_on(
    images: np.ndarray, number: int, job: Job, evaluation: Training, dataset: Dataset, progress: Progress | None
) -> Trained:
    """Without the fold of this number; what is begun with and learnt from is without it, too."""
    folds, arch, recipe = evaluation.data.folds, evaluation.architecture, evaluation.recipe
    assert recipe is not None
    fold = number if number < folds else None
    every = folds + evaluation.refits
    begun = teacher = None
    if job.parent is not None:
        assert evaluation.adapts
        known = _of_fold(job.parent, evaluation.parent_key, fold)
        begun = adapted(job.parent.architecture, known, arch, evaluation.seed)
    if job.teacher is not None:
        key = evaluation.teacher_key
        known = _of_fold(job.teacher, key, fold)
        teacher = _answering(job.teacher.architecture, known, f"{key}/{fold}", evaluation.device)

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress(number * total + done, every * total)

    limit = math.inf if job.limit_seconds is None else job.limit_seconds / every
    return train(
        arch,
        dataset,
        images,
        recipe,
        seed=evaluation.seed,
        weights=begun,
        teacher=teacher,
        attended=Attended(progress=tell, limit_seconds=limit),
        device=evaluation.device,
    )


def _of_fold(parent: Parent, key: str | None, fold: int | None) -> Weights:
    """The weights that know nothing of a fold; None: of none."""
    if fold is None or parent.folds is None:
        return _initial_weights(parent.weights, key)
    return read_fold(parent.folds, fold, key)


def help_training(job: Job, shard: Shard) -> None:
    """Do the part of another process than the first one in a training by several.

    Raises:
        DataError: as in `run_training`.
        RunError: as in `run_training`.
    """
    evaluation, dataset, splits = _given(job)
    _trained(job, evaluation, dataset, splits, None, None, shard)


def _given(job: Job) -> tuple[Training, Dataset, Splits]:
    evaluation = job.evaluation
    assert isinstance(evaluation, Training)
    assert job.data_folder is not None
    require_device(evaluation.device)
    use = evaluation.data
    return evaluation, *_data(job.data_folder, use.reward_fraction, use.split_seed, use.folds)


def _figure(judgement: Judgement, use: DataUse, labels: np.ndarray) -> float:
    """What ranks a network."""
    return judgement.balanced(labels) if use.balanced else judgement.top1


def _check(
    watch: Watch, dataset: Dataset, images: np.ndarray, interim: Callable[[Interim], None], use: DataUse
) -> Check:
    def look(model: nn.Module, share: float) -> None:
        found = _figure(judge(model, dataset, images), use, dataset.labels()[images])
        interim(Interim(share=share, top1=found, reward=watch.of(found)))

    return Check(times=watch.times, look=look)


def _begun_with(job: Job, evaluation: Training, dataset: Dataset, splits: Splits) -> dict[str, Tensor] | None:
    """The weights that a network begins with, or is judged by; None: from scratch."""
    arch, use = evaluation.architecture, evaluation.data
    if job.parent is None:
        return None
    if evaluation.shares:
        assert job.data_folder is not None
        shared = _supernet(
            job.parent.weights, evaluation.parent_key, job.data_folder, use.reward_fraction, use.split_seed
        )
        if evaluation.recipe is not None:
            # A training's first step makes statistics of its own, and measured ones differ between machines.
            return shared.weights_of(arch)
        found = shared.model_of(arch, dataset, splits.train).state_dict()
        return {name: tensor.contiguous() for name, tensor in found.items()}
    if evaluation.adapts:
        initial = _initial_weights(job.parent.weights, evaluation.parent_key)
        return adapted(job.parent.architecture, initial, arch, evaluation.seed)
    return inherit(job.parent.architecture, read_weights(job.parent.weights), arch)


def _trained(
    job: Job,
    evaluation: Training,
    dataset: Dataset,
    splits: Splits,
    progress: Progress | None,
    check: Check | None,
    shard: Shard,
) -> tuple[Trained, str | None]:
    """The training, and what was lost of it, if anything was."""
    arch, use = evaluation.architecture, evaluation.data
    inherited = _begun_with(job, evaluation, dataset, splits)
    if evaluation.recipe is None:
        assert inherited is not None, "weights that are judged as they are must be given"
        return Trained(weights=inherited, images_seen=0, seconds=0.0, state=None), None
    chosen = splits.train
    if use.train_images is not None:
        chosen = subset(splits.train, dataset.labels(), use.train_images, use.split_seed)
    train_from = partial(
        train,
        arch,
        dataset,
        chosen,
        evaluation.recipe,
        seed=evaluation.seed,
        weights=inherited,
        teacher=None if job.teacher is None else _teacher(job.teacher, evaluation.teacher_key, evaluation.device),
        attended=Attended(
            progress=progress,
            check=check,
            checkpoints=None if job.checkpoint is None else _checkpoints(job.checkpoint, evaluation.key),
            limit_seconds=math.inf if job.limit_seconds is None else job.limit_seconds,
        ),
        device=evaluation.device,
        shard=shard,
    )
    # Whatever it begins with, what comes out is the same, it only takes longer.
    state, note = _left_off(job, evaluation)
    try:
        trained = train_from(state=state)
    except UnfitState as error:
        trained = train_from(state=None)
        if isinstance(error, DamagedState):  # another network's or recipe's is none of it
            note = f"{_LOST}: {error}"
    if job.keeps_checkpoint and job.checkpoint is not None and trained.state is not None:
        trained.state.write(job.checkpoint, evaluation_key=evaluation.key)
    return trained, note


@lru_cache(maxsize=1)
def _initial_weights(path: Path, key: str | None) -> Weights:
    """Read once in a process; a changed file must not give results under the old one's key."""
    weights = read_weights(path)
    if not _is_of(path, key):
        raise DataError(f"weights {path} are not those that are to be begun with, {key}; restore them")
    return weights


def _is_of(path: Path, key: str | None) -> bool:
    """Whether weights are those of an evaluation, or of a file with a hash."""
    return evaluation_of_weights(path) == key or hashlib.sha256(path.read_bytes()).hexdigest() == key


@lru_cache(maxsize=1)
def _teacher(learnt_from: Parent, key: str | None, device: DeviceKind) -> Teacher:
    """Read once in a process; a changed file must not give results under the old one's key."""
    weights = read_weights(learnt_from.weights)
    if not _is_of(learnt_from.weights, key):
        raise DataError(f"weights {learnt_from.weights} are not those that are to be learnt from, {key}; restore them")
    assert key is not None
    return _answering(learnt_from.architecture, weights, key, device)


def _answering(arch: Architecture, weights: Weights, identity: str, device: DeviceKind) -> Teacher:
    return Teacher(answer=channels_last(fused(load_model(arch, weights))).to(device), identity=identity)


@lru_cache(maxsize=1)
def _supernet(path: Path, content_hash: str | None, folder: Path, reward_fraction: float, seed: int) -> Supernet:
    """Read, and fitted to the data, once in a process; a changed file must not give results under the old one's key."""
    file = SupernetFile.read(path)
    if file.content_hash != content_hash:
        raise DataError(f"supernet {path} is {file.content_hash} now, not {content_hash}; restore it")
    dataset, splits = _data(folder, reward_fraction, seed)
    return file.fitted_to(dataset, splits.train)


def _checkpoints(path: Path, key: str) -> Checkpoints:
    def keep(state: TrainingState) -> None:
        state.write(path, evaluation_key=key)

    return Checkpoints(keep=keep)


def _left_off(job: Job, evaluation: Training) -> tuple[TrainingState | None, str | None]:
    """Where an earlier attempt of the same evaluation left off, or a shorter training; and what could not be read."""
    own, note = job.checkpoint, None
    # Another evaluation's is none of it; what names no evaluation is damaged.
    is_own = own is not None and own.exists() and evaluation_of_weights(own) in (evaluation.key, None)
    for path in (own if is_own else None, job.begun):
        if path is None:
            continue
        try:
            return TrainingState.read(path), note
        except DataError as error:
            note = note or f"{_LOST}: {error}"
    return None, note
