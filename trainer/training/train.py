"""Training one network: the proxy task of a search, NetAdapt's short fine-tuning, the final training."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from space.arch import Architecture
from space.errors import Diverged, InvalidConfig, Stopped, TimeLimit
from trainer.data.dataset import Dataset
from trainer.data.prepare import Progress
from trainer.training.augment import Batch, augment, mirrored_by_epoch
from trainer.training.batches import (
    ALONE,
    AUGMENTATION,
    DROPOUT,
    ORDER,
    Images,
    Order,
    Read,
    Shard,
    generator,
    images_hash,
    read_steps,
    readers_for,
)
from trainer.training.judging import EVALUATION_BATCH
from trainer.training.networks import DeviceKind, Weights, channels_last, load_model, new_model, require_device
from trainer.training.optimizers import Optimizers
from trainer.training.recipe import Cosine, Recipe
from trainer.training.state import DamagedState, Identity, TrainingState, UnfitState
from trainer.training.weight_files import weights_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """Somebody to learn from: `answer` gives logits (N x classes) for normalised images (N x C x R x R).

    `identity` is what tells it from others.
    """

    answer: Callable[[Tensor], Tensor]
    identity: str


# Looked at so often, in steps: to ask a GPU after each one would make it wait.
_FINITE_STEPS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained network's weights as they are to be judged (a state dict on the CPU), and what it took.

    `images_seen` and `seconds` are of the whole training, `state` is what it can go on from.
    """

    weights: dict[str, Tensor]
    images_seen: int
    seconds: float
    state: TrainingState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Looks at a network in mid-training, after equal parts of its steps, and leaves it as it is.

    `look` is called with the network as it would be judged now, and the share of the training that is done.
    """

    times: int
    look: Callable[[nn.Module, float], None]

    def is_due(self, step: int, steps: int) -> bool:
        """Whether to look after so many steps; never at the end."""
        parts = self.times + 1
        return step < steps and step * parts // steps > (step - 1) * parts // steps


CHECKPOINT_SECONDS = 300.0
"""How often what a training can go on from is kept, unless somebody says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """Keeps what a training can go on from, every so many seconds of it."""

    keep: Callable[[TrainingState], None]
    seconds: float = CHECKPOINT_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """Who attends to a training: all of it is optional.

    `progress` hears of (images seen, images in all). After `limit_seconds`, all sessions together, it is ended, and
    after the step in which `stopping` becomes true it is kept and stopped.
    """

    progress: Progress | None = None
    check: Check | None = None
    checkpoints: Checkpoints | None = None
    limit_seconds: float = math.inf
    stopping: Callable[[], bool] = bool


UNATTENDED = Attended()


class Training:
    """A training of `network` while it runs; `backpropagate` is what each step does with its batch."""

    def __init__(
        self,
        network: nn.Module,
        dataset: Dataset,
        order: Order,
        recipe: Recipe,
        identity: Identity,
        device: DeviceKind,
        teacher: Teacher | None,
    ) -> None:
        if recipe.frozen_statistics and identity.start is None:
            raise InvalidConfig("recipe field frozen_statistics: there are none without given weights; leave it out")
        self._freezes = recipe.frozen_statistics
        self.network = channels_last(network).to(device)
        self.resume()
        self.model = self.network if order.shard.size == 1 else DistributedDataParallel(self.network)
        self.order, self.recipe, self.identity = order, recipe, identity
        self.images, self.device, self.teacher = Images(dataset, device), torch.device(device), teacher
        self.optimizers = Optimizers(self.network, recipe)
        self._batch_norms = [module for module in self.network.modules() if isinstance(module, nn.BatchNorm2d)]
        self.average = _floats(self.network, copied=True) if recipe.average else {}
        self.step, self.seconds = 0, 0.0
        measured = recipe.average.batch_norm_images if recipe.average and not self._freezes else 0
        self._batch_norm_images = _some(order.indices, measured)
        self._class_weights = None
        if recipe.balance == "loss":
            self._class_weights = torch.from_numpy(class_weights(dataset, order.indices)).float().to(device)
        self._finite = torch.ones((), dtype=torch.bool, device=device)
        # Half precision where it is fast: bfloat16 where there are units for it, else float16 with scaled gradients.
        self._half = None
        if device == "cuda":
            has_units = torch.cuda.is_bf16_supported(including_emulation=False)
            self._half = torch.bfloat16 if has_units else torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self._half == torch.float16)
        if recipe.dropout:
            _add_dropout(self.network, recipe.dropout)

    def resume(self) -> None:
        """Let the network train, as before it was judged; where BatchNorm's statistics are to stay, by those."""
        self.network.train()
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d) and self._freezes:
                module.eval()

    def go_on_from(self, state: TrainingState) -> None:
        """Become what was kept.

        Raises:
            UnfitState: it is of something else.
        """
        self.identity.refuse_other(state.identity, "the training to go on from")
        if state.steps > self.recipe.steps:
            raise UnfitState(
                f"the training to go on from has seen {state.steps * self.order.size:,} images; ask for more than that"
            )
        if not self.recipe.continues(state.recipe, state.steps):
            raise UnfitState(
                f"the training to go on from is by another recipe, or its schedule is past the point (step "
                f"{state.steps:,}) where it can end later; train anew elsewhere, or give the recipe that it began with"
            )
        try:
            self.network.load_state_dict(state.weights)
            for name, tensor in self.average.items():
                tensor.copy_(state.average[name])
            self.optimizers.load(state.optimizer)
        except (RuntimeError, KeyError, ValueError) as error:
            reason = str(error).splitlines()[-1]
            raise DamagedState(f"the training to go on from is damaged ({reason}); remove it to train anew") from error
        self.step, self.seconds = state.steps, state.seconds

    def state(self) -> TrainingState:
        """What it can go on from; a copy."""
        return TrainingState(
            identity=self.identity,
            recipe=self.recipe,
            steps=self.step,
            seconds=self.seconds,
            weights=_copied(self.network.state_dict()),
            average=_copied(self.average),
            optimizer=_copied(self.optimizers.state()),
        )

    def advance(self, read: Read) -> None:
        """One step of the optimizer."""
        step, recipe, order = self.step, self.recipe, self.order
        self.optimizers.set_factor(recipe.factor(step, order.epoch_steps))
        self._set_batch_norm_window(step)
        batch = self._batch(step, read)
        self.optimizers.zero_grad()
        with self._seeded(step):
            loss = self.backpropagate(batch)
        self._finite &= torch.isfinite(loss)
        if step % _FINITE_STEPS == 0 or self.device.type == "cpu":
            self.require_finite()
        for optimizer in self.optimizers.all:
            self.scaler.step(optimizer)
        self.scaler.update()
        if recipe.average is not None:
            _move_average(self.average, self.network, recipe.average.newest(step))
        self.step += 1

    def backpropagate(self, batch: Batch) -> Tensor:
        """Add the gradients of a batch to what is there; returns its loss."""
        with self.autocast():
            loss = self.loss(self.model(batch.images), batch)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _set_batch_norm_window(self, step: int) -> None:
        """Let BatchNorm's running statistics average over the last ten steps, or a short training's last quarter.

        Torch's fixed momentum of 0.1 means ten steps too, but starts from 0 and 1: after a training of ten steps a
        third of the statistics would still be those made-up values, and the network would be judged by them. Where
        the end is not known beforehand there is no last quarter.
        """
        has_end = isinstance(self.recipe.schedule, Cosine)
        longest = max(2, min(10, self.recipe.steps // 4)) if has_end else 10
        for module in self._batch_norms:
            module.momentum = 1 / min(step + 1, longest)

    def require_finite(self) -> None:
        """See that the loss is a number.

        Raises:
            Diverged: it was not, in this step or one since the last look.
        """
        if not self._finite:
            raise Diverged(f"training diverged at step {self.step} (its loss is no number); lower the learning rate")

    def _batch(self, step: int, read: Read) -> Batch:
        shard, how, seed = self.order.shard, self.recipe.augmentation, self.identity.seed
        images, labels = self.images.normalised(read.pixels, read.labels)
        mirrored = mirrored_by_epoch(read.indices, read.epochs, seed) if how.flip == "alternate" else None
        rng = generator(seed, AUGMENTATION, step)
        return augment(Batch(images=images, labels=labels), how, rng, mirrored=mirrored, shard=shard)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """What is made small: cross-entropy with the labels, and the divergence from a teacher's answers."""
        recipe = self.recipe

        def entropy(labels: Tensor) -> Tensor:
            each = functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing, reduction="none")
            # Not torch's own weights, which would give nearly all of the smoothing to the rarest class.
            return each if self._class_weights is None else each * self._class_weights[labels]

        if batch.others is None or batch.own is None:
            loss = entropy(batch.labels).mean()
        else:
            loss = (batch.own * entropy(batch.labels) + (1 - batch.own) * entropy(batch.others)).mean()
        if self.teacher is None:
            return loss
        with torch.no_grad():
            answers = self.teacher.answer(batch.images).to(logits.device)
        return torch.lerp(loss, distillation_loss(logits, answers, recipe.temperature), recipe.teacher_weight)

    def autocast(self) -> AbstractContextManager[object]:
        """Half precision where the device is fast at it."""
        return torch.autocast(self.device.type, dtype=self._half) if self._half else nullcontext()

    def _seeded(self, step: int) -> AbstractContextManager[object]:
        """Dropout draws from torch's own generator, which is left as it was; each process for its own images."""
        if not self.recipe.dropout:
            return nullcontext()
        shard = self.order.shard
        return _seeded(generator(self.identity.seed, DROPOUT, step * shard.size + shard.rank), self.device)

    def judged(self) -> nn.Module:
        """The network as it is judged now, in evaluation mode: the average's where there is one, a copy then."""
        if self.recipe.average is None:
            return self.network.eval()
        network = copy.deepcopy(self.network)
        floats = _floats(network)
        for name, tensor in self.average.items():
            floats[name].copy_(tensor)
        if len(self._batch_norm_images):
            measure_batch_norm(network, self.images, self._batch_norm_images)
        return network.eval()


def train(
    arch: Architecture,
    dataset: Dataset,
    indices: np.ndarray,
    recipe: Recipe,
    *,
    seed: int,
    weights: Weights | None = None,
    state: TrainingState | None = None,
    teacher: Teacher | None = None,
    attended: Attended = UNATTENDED,
    device: DeviceKind = "cpu",
    shard: Shard = ALONE,
    readers: int | None = None,
) -> Trained:
    """Train on the images at `indices`: from given weights, from scratch, or on from an earlier training's state.

    So many processes read ahead (`readers`); None: none, unless the images do not fit into memory.

    On a CPU the result is a function of the arguments (and of torch's thread count, through the order of sums): one
    that went on is, to the bit, one that was never interrupted. Of a `shard` each process computes the gradient of its
    part of every batch, and BatchNorm's statistics are of the first one's parts.

    Raises:
        UnfitState: the state is of another training, or damaged.
        Diverged: the loss became infinite or not a number.
        TimeLimit: it took too long.
        Stopped: it was stopped.
        RunError: there is no such device.
        InvalidConfig: statistics are to stay, and no weights are given.
    """
    require_device(device)
    network = new_model(arch, seed) if weights is None else load_model(arch, weights)
    order = order_of(dataset, indices, recipe, seed, shard)
    identity = Identity(
        arch_id=arch.arch_id,
        data=dataset.content_hash,
        images=images_hash(indices),
        seed=seed,
        start=None if weights is None else weights_digest(weights),
        teacher=None if teacher is None else teacher.identity,
    )
    training = Training(network, dataset, order, recipe, identity, device, teacher)
    return completed(training, dataset, state=state, attended=attended, readers=readers)


def order_of(dataset: Dataset, indices: np.ndarray, recipe: Recipe, seed: int, shard: Shard = ALONE) -> Order:
    """Which images each step sees, those of rare classes more often where the recipe says so."""
    weights = class_weights(dataset, indices)[dataset.labels()[indices]] if recipe.balance == "sampling" else None
    return Order(indices=indices, batch_size=recipe.batch_size, seed=seed, shard=shard, weights=weights)


def completed(
    training: Training,
    dataset: Dataset,
    *,
    state: TrainingState | None,
    attended: Attended,
    readers: int | None,
) -> Trained:
    """A training that has begun, on from a state and to the end of its recipe; see `train`."""
    if state is not None:
        training.go_on_from(state)
    order, device = training.order, training.device.type
    readers = readers_for(dataset) if readers is None else readers
    steps = read_steps(dataset, order, training.step, training.recipe.steps, device=device, readers=readers)
    with closing(steps):
        _run(training, steps, attended)
    judged = training.judged()
    with torch.inference_mode():
        if not bool(torch.isfinite(judged(training.images.batch(order.indices[:EVALUATION_BATCH])[0])).all()):
            raise Diverged("training diverged at its last step; lower the learning rate")
    return Trained(
        weights=_copied(judged.state_dict()),
        images_seen=training.step * order.size,
        seconds=training.seconds,
        state=training.state(),
    )


def _run(training: Training, reads: Iterator[Read], attended: Attended) -> None:
    """Train to the end of the recipe."""
    started, before = time.monotonic(), training.seconds
    kept = started
    steps, size = training.recipe.steps, training.order.size
    check, checkpoints = attended.check, attended.checkpoints
    for read in reads:
        training.advance(read)
        now = time.monotonic()
        training.seconds = before + now - started
        if training.seconds > attended.limit_seconds:
            raise TimeLimit(f"it took longer than {attended.limit_seconds / 60:g} minutes (trial_minutes)")
        if attended.progress:
            attended.progress(training.step * size, steps * size)
        if check and check.is_due(training.step, steps):
            check.look(training.judged(), training.step / steps)
            training.resume()
        is_stopped = attended.stopping()
        if checkpoints and training.step < steps and (is_stopped or now - kept >= checkpoints.seconds):
            training.require_finite()
            checkpoints.keep(training.state())
            kept = time.monotonic()
        if is_stopped and training.step < steps:
            raise Stopped(f"training stopped after {training.step * size:,} of {steps * size:,} images")
    training.require_finite()


def class_weights(dataset: Dataset, indices: np.ndarray) -> np.ndarray:
    """Per class what makes all weigh alike: float64, 1 where classes have equally many images."""
    counts = np.bincount(dataset.labels()[indices], minlength=len(dataset.classes))
    return len(indices) / (np.count_nonzero(counts) * np.maximum(counts, 1))


def distillation_loss(logits: Tensor, answers: Tensor, temperature: float) -> Tensor:
    """The divergence from a teacher's softened answers, in the scale of the loss (Hinton et al. 2015, section 2)."""
    softened = functional.log_softmax(answers / temperature, 1)
    own = functional.log_softmax(logits / temperature, 1)
    return functional.kl_div(own, softened, log_target=True, reduction="batchmean") * temperature**2


def _some(indices: np.ndarray, count: int) -> np.ndarray:
    """So many of the images, or all, in a random order: folders are sorted by class, and batches must not be."""
    return generator(0, ORDER, 0).permutation(indices)[:count]


@torch.no_grad()
def measure_batch_norm(network: nn.Module, images: Images, indices: np.ndarray) -> None:
    """Replace BatchNorm's running statistics by those of the images at `indices`, which the network's weights make."""
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
            module.train()
    # In parts of equal size, since each counts alike.
    for part in np.array_split(indices, -(-len(indices) // EVALUATION_BATCH)):
        network(images.batch(part)[0])


def _add_dropout(network: nn.Module, share: float) -> None:
    """Drop that share of the classifier's inputs in training."""

    def drop(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (functional.dropout(inputs[0], share, training=module.training), *inputs[1:])

    classifier = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    classifier.register_forward_pre_hook(drop)


@contextmanager
def _seeded(rng: np.random.Generator, device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []):
        torch.manual_seed(int(rng.integers(2**62)))
        yield


def _floats(network: nn.Module, *, copied: bool = False) -> dict[str, Tensor]:
    """Everything in a state dict that can be averaged."""
    return {
        name: tensor.detach().clone() if copied else tensor
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point()
    }


@torch.no_grad()
def _move_average(average: dict[str, Tensor], network: nn.Module, newest: float) -> None:
    current = network.state_dict()
    torch._foreach_lerp_(list(average.values()), [current[name] for name in average], newest)


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
