"""Training a supernet: each step trains the largest member, the smallest and some others on the same images.

The sandwich rule with in-place distillation (Yu & Huang 2019, sections 3.1 and 3.2): the largest learns from the
labels, all others from what the largest says.
"""

import math
import random
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from space.arch import Architecture
from space.choices import SearchSpace
from space.errors import InvalidConfig
from space.networks.modules import build_model
from trainer.data.dataset import Dataset
from trainer.supernet.sharing import Supernet, Transforms, part_of
from trainer.training.augment import Batch
from trainer.training.batches import MEMBERS, Read, generator, images_hash
from trainer.training.inherit import channel_order
from trainer.training.networks import DeviceKind, load_model, new_model, require_device
from trainer.training.recipe import Recipe
from trainer.training.state import Identity, TrainingState
from trainer.training.train import UNATTENDED, Attended, Trained, Training, completed, distillation_loss, order_of

DRAWN = 2
"""Members of each step beside the largest and the smallest, as published."""


class _SupernetTraining(Training):
    """A training of the largest member in which others learn from it, after so many steps of `warmup`.

    In these it is trained alone, and then its channels are brought into the order of their importance, as narrower
    members have the first of them (Cai et al. 2020, section 3.3).
    """

    space: SearchSpace
    drawn: int
    warmup: int
    transforms: Transforms
    """How smaller kernels are made of larger ones: they stay as they were given."""

    def advance(self, read: Read) -> None:
        """See `Training`."""
        if self.warmup and self.step == self.warmup:
            self._order_channels()
        super().advance(read)

    @torch.no_grad()
    def _order_channels(self) -> None:
        """All that there is of each channel moves with it: weights, their average, and what optimizers remember."""
        order = channel_order(self.space.largest, dict(self.network.state_dict()))
        self.network.load_state_dict(order(dict(self.network.state_dict())))
        for name, tensor in order(self.average).items():
            self.average[name].copy_(tensor)
        for name, parameter in self.network.named_parameters():
            for optimizer in self.optimizers.all:
                for kept in optimizer.state.get(parameter, {}).values():
                    if isinstance(kept, Tensor) and kept.shape == parameter.shape:
                        kept.copy_(order({name: kept})[name])

    def backpropagate(self, batch: Batch) -> Tensor:
        """See `Training`; the loss is the mean over the step's members."""
        if self.step < self.warmup:
            return super().backpropagate(batch)
        others = self._others()
        share = 1 / (1 + len(others))
        shared = dict(self.network.named_parameters())
        with self.autocast():
            answers = self.model(batch.images)
            loss = share * self.loss(answers, batch)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        total, answers = loss.detach(), answers.detach()
        for arch in others:
            with self.autocast():
                member = without_statistics(arch)
                shapes = {name: each.shape for name, each in member.named_parameters()}
                said = functional_call(member, part_of(shared, shapes, self.transforms), (batch.images,))
                loss = share * distillation_loss(said, answers, 1.0)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _others(self) -> list[Architecture]:
        rng = random.Random(int(generator(self.identity.seed, MEMBERS, self.step).integers(2**62)))
        return [self.space.smallest, *(self.space.sample(rng) for _ in range(self.drawn))]


@lru_cache(maxsize=4)  # the smallest is in every step
def without_statistics(arch: Architecture) -> nn.Module:
    """A network of no weights whose BatchNorms keep no statistics: those of one member are no other's."""
    with torch.device("meta"):
        model = build_model(arch)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return model.train()


def train_supernet(
    space: SearchSpace,
    dataset: Dataset,
    indices: np.ndarray,
    recipe: Recipe,
    *,
    seed: int,
    drawn: int = DRAWN,
    warmup: int = 0,
    start: Supernet | None = None,
    state: TrainingState | None = None,
    attended: Attended = UNATTENDED,
    device: DeviceKind = "cpu",
    readers: int | None = None,
) -> tuple[Supernet, Trained]:
    """Train the shared weights on the images at `indices`, each of which is seen by `drawn` + 2 members.

    The first `warmup` of the recipe's images are seen by the largest member alone, whose channels are then brought into
    the order of their importance. From scratch, from the supernet `start` of the same space, or on from an earlier
    training's state. A function of the arguments, as `trainer.training.train.train` is, whose errors it has.

    Raises:
        InvalidConfig: the warm-up is all of it.
    """
    require_device(device)
    network = new_model(space.largest, seed) if start is None else load_model(space.largest, start.weights)
    transforms = {} if start is None else start.transforms
    identity = Identity(
        arch_id=f"supernet-{space.scope}-{drawn}" + (f"-{warmup}" if warmup else ""),
        data=dataset.content_hash,
        images=images_hash(indices),
        seed=seed,
        start=None if start is None else start.digest,
    )
    order = order_of(dataset, indices, recipe, seed)
    training = _SupernetTraining(network, dataset, order, recipe, identity, device, None)
    training.space, training.drawn, training.warmup = space, drawn, math.ceil(warmup / order.size)
    training.transforms = {name: matrix.to(device) for name, matrix in transforms.items()}
    if training.warmup >= recipe.steps and warmup:
        raise InvalidConfig(
            f"a warm-up of {warmup:,} images leaves none of {recipe.images:,} for the supernet; give more images"
        )
    trained = completed(training, dataset, state=state, attended=attended, readers=readers)
    return Supernet(space=space, weights=trained.weights, transforms=dict(transforms)), trained
