"""How well a supernet orders the networks of the committed learning curves: python -m benchmarks.supernet --help.

Trains one with each seed, one process each on one core, and at equal parts of its way judges every network of the
curves that is a member, by log-likelihood, its BatchNorm measured. With `--tune` each is also trained on alone for so
many images, from the weights that the supernet has for it. With `--near` each step trains members near the target
alone, by the labels, neither the largest nor the smallest. With `--by-size` each member has a step of its own, the rate
of small ones falls sooner, and the larger half and the smaller one have momenta of their own (Jeon et al. 2025, arXiv
2503.10740, who group by structure instead). `mobilenas proxy-quality --signals` makes the result of the
file; its seconds are those of judging one network, minutes of training are printed.
"""

import argparse
import csv
import math
import multiprocessing
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.curves.make import latency_table
from search.bench.curves import TARGET, CurvesProblem
from space.arch import Architecture
from space.cost import cost_of
from trainer.data.dataset import Dataset
from trainer.data.prepare import prepare
from trainer.data.splits import split
from trainer.supernet.sharing import Supernet, part_of
from trainer.supernet.training import _SupernetTraining, train_supernet, without_statistics
from trainer.training.augment import Batch
from trainer.training.batches import Read, images_hash
from trainer.training.judging import judge
from trainer.training.networks import load_model, new_model
from trainer.training.optimizers import Optimizers
from trainer.training.recipe import Recipe, load_recipe
from trainer.training.state import Identity
from trainer.training.train import (
    Attended,
    Check,
    Training,
    _move_average,
    completed,
    distillation_loss,
    order_of,
    train,
)

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Task:
    """One supernet."""

    seed: int
    folder: Path
    curves: Path
    images: int
    looks: int
    rate: float
    drawn: int
    tune: int
    judged: int
    warmup: int
    near: Path | None
    by_size: bool


Row = dict[str, str | float]
_POOL, _NEAR = 400, 0.1
# The smallest member's rate is the recipe's times the square of the share that is left, the largest one's the recipe's.
_DECAY = 2.0


class _NearTraining(Training):
    """A training of the largest member's weights in which members of a pool learn from the labels."""

    pool: list[Architecture]
    drawn: int

    def backpropagate(self, batch: Batch) -> Tensor:
        """See `Training`; the loss is the mean over the step's members."""
        shared, total = dict(self.network.named_parameters()), torch.zeros(())
        for parameter in shared.values():  # what no member has of them stays
            parameter.grad = torch.zeros_like(parameter)
        rng = random.Random(f"{self.identity.seed}-{self.step}")
        for arch in rng.sample(self.pool, self.drawn):
            member = without_statistics(arch)
            shapes = {name: each.shape for name, each in member.named_parameters()}
            said = functional_call(member, part_of(shared, shapes), (batch.images,))
            loss = self.loss(said, batch) / self.drawn
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total


class _BySizeTraining(_SupernetTraining):
    """A supernet's training whose members are stepped one after the other, at rates and with momenta by their size."""

    def prepare(self) -> None:
        """Before its first step; the recipe is one by SGD or Muon, without dropout."""
        assert self.recipe.optimizer != "rmsprop"
        assert not self.recipe.dropout
        self._groups = (self.optimizers, Optimizers(self.network, self.recipe))
        for optimizer in (each for group in self._groups for each in group.all):
            for parameter in (each for group in optimizer.param_groups for each in group["params"]):
                # Fused steps want one of every parameter that a member has, though an earlier one had it not.
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self._least, self._most = (math.log(cost_of(each).madds) for each in (self.space.smallest, self.space.largest))

    def advance(self, read: Read) -> None:
        """See `Training`."""
        factor = self.recipe.factor(self.step, self.order.epoch_steps)
        self._set_batch_norm_window(self.step)
        batch, left = self._batch(self.step, read), 1 - self.step / self.recipe.steps
        shared, answers = dict(self.network.named_parameters()), None
        members = [self.space.largest, *self._others()]
        for arch in members:
            size = (math.log(cost_of(arch).madds) - self._least) / (self._most - self._least)
            optimizers = self._groups[size < 0.5]
            optimizers.zero_grad()
            if answers is None:
                said = self.model(batch.images)
                loss, answers = self.loss(said, batch), said.detach()
            else:
                member = without_statistics(arch)
                shapes = {name: each.shape for name, each in member.named_parameters()}
                said = functional_call(member, part_of(shared, shapes), (batch.images,))
                loss = distillation_loss(said, answers, 1.0)
            loss.backward()  # type: ignore[no-untyped-call]
            self._finite &= torch.isfinite(loss.detach())
            optimizers.set_factor(factor / len(members) * left ** (_DECAY * (1 - size)))
            for each in optimizers.all:
                each.step()
        self.require_finite()
        if self.recipe.average is not None:
            _move_average(self.average, self.network, self.recipe.average.newest(self.step))
        self.step += 1


def _train_by_size(
    task: Task, problem: CurvesProblem, dataset: Dataset, indices: np.ndarray, recipe: Recipe, attended: Attended
) -> Supernet:
    space, images = problem.space, images_hash(indices)
    identity = Identity(arch_id="by size", data=dataset.content_hash, images=images, seed=task.seed, start=None)
    network, order = new_model(space.largest, task.seed), order_of(dataset, indices, recipe, task.seed)
    training = _BySizeTraining(network, dataset, order, recipe, identity, "cpu", None)
    training.space, training.drawn, training.warmup, training.transforms = space, task.drawn, 0, {}
    training.prepare()
    trained = completed(training, dataset, state=None, attended=attended, readers=None)
    return Supernet(space=space, weights=trained.weights)


def _train_near(
    task: Task, problem: CurvesProblem, dataset: Dataset, indices: np.ndarray, recipe: Recipe, attended: Attended
) -> Supernet:
    assert task.near is not None
    space, rng = problem.space, random.Random(task.seed)
    table, _ = latency_table(space, task.near, [])
    target_ms, pool = TARGET * table.estimate(space.reference), []
    while len(pool) < _POOL:
        arch = space.sample(rng)
        if abs(table.estimate(arch) / target_ms - 1) <= _NEAR:
            pool.append(arch)
    images = images_hash(indices)
    identity = Identity(arch_id="near", data=dataset.content_hash, images=images, seed=task.seed, start=None)
    network, order = new_model(space.largest, task.seed), order_of(dataset, indices, recipe, task.seed)
    training = _NearTraining(network, dataset, order, recipe, identity, "cpu", None)
    training.pool, training.drawn = pool, task.drawn
    trained = completed(training, dataset, state=None, attended=attended, readers=None)
    return Supernet(space=space, weights=trained.weights)


def run(task: Task) -> list[Row]:
    """What it says of every network at each look."""
    torch.set_num_threads(1)
    dataset = Dataset.open(task.folder)
    problem, splits = CurvesProblem.read(task.curves), split(dataset)
    proxy = load_recipe("proxy")
    recipe = replace(
        proxy,
        images=task.images,
        matrix_rate=task.rate * proxy.matrix_rate,
        learning_rate=task.rate * proxy.learning_rate,
    )
    rows: list[Row] = []
    started, looking = time.process_time(), 0.0

    def say(signal: str, arch: Architecture, model: nn.Module, since: float) -> None:
        value = judge(model, dataset, splits.reward[: task.judged]).log_likelihood
        seconds = time.process_time() - since
        rows.append({"signal": signal, "arch_id": arch.arch_id, "value": value, "seconds": round(seconds, 3)})

    def look(largest: nn.Module, share: float) -> None:
        nonlocal looking
        began = time.process_time()
        minutes = (began - started - looking) / 60
        shared = Supernet(space=problem.space, weights=dict(largest.state_dict()))
        how = f", ordered after {task.warmup:,}" if task.warmup else ", of those near" if task.near else ""
        how = ", rates by size" if task.by_size else how
        name = f"supernet {task.seed}, {round(share * task.images):,} images{how}"
        for curve in problem.curves:
            since = time.process_time()
            say(name, curve.arch, shared.model_of(curve.arch, dataset, splits.train), since)
        if task.tune:
            for curve in problem.curves:
                since, weights = time.process_time(), shared.weights_of(curve.arch)
                tuned = train(
                    curve.arch, dataset, splits.train, replace(proxy, images=task.tune), seed=task.seed, weights=weights
                )
                say(f"{name}, tuned on {task.tune:,}", curve.arch, load_model(curve.arch, tuned.weights), since)
        values = np.array([float(row["value"]) for row in rows if row["signal"] == name])
        took = time.process_time() - began
        print(
            f"{name}: {minutes:.1f} CPU min; mean log-likelihood {values.mean():.3f}, looked in {took:.0f} s",
            flush=True,
        )
        looking += took

    attended = Attended(check=Check(times=task.looks - 1, look=look))
    if task.near is not None:
        shared = _train_near(task, problem, dataset, splits.train, recipe, attended)
    elif task.by_size:
        shared = _train_by_size(task, problem, dataset, splits.train, recipe, attended)
    else:
        shared, _ = train_supernet(
            problem.space,
            dataset,
            splits.train,
            recipe,
            seed=task.seed,
            drawn=task.drawn,
            warmup=task.warmup,
            attended=attended,
        )
    look(load_model(problem.space.largest, shared.weights), 1.0)
    return rows


def main() -> None:
    """All seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=120_000, help="of each step four members see the same 64")
    parser.add_argument("--looks", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1.0, help="times the rates of the recipe proxy")
    parser.add_argument("--drawn", type=int, default=2)
    parser.add_argument("--tune", type=int, default=0)
    parser.add_argument("--warmup", type=int, default=0, help="of the images so many train the largest alone first")
    parser.add_argument("--near", type=Path, help="folder with, or for, the space's latency table (latency.db)")
    parser.add_argument("--by-size", action="store_true", help="rates and momenta by the size of members")
    parser.add_argument("--judged", type=int, default=2560, help="images of the reward split")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--csv", type=Path, required=True)
    arguments = parser.parse_args()
    if sum(map(bool, (arguments.near, arguments.warmup, arguments.by_size))) > 1:
        parser.error("give one of --near, --warmup and --by-size")
    folder = prepare(arguments.data, resolution=None, data_dir=arguments.data_dir).folder
    common = {
        name: getattr(arguments, name)
        for name in ("images", "looks", "rate", "drawn", "tune", "judged", "warmup", "near", "by_size")
    }
    curves = HERE / "curves" / f"{arguments.data}.csv"
    tasks = [Task(seed=seed, folder=folder, curves=curves, **common) for seed in arguments.seeds]
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        found = [row for rows in pool.imap_unordered(run, tasks) for row in rows]
    with arguments.csv.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ("signal", "arch_id", "value", "seconds"))
        writer.writeheader()
        writer.writerows(found)


if __name__ == "__main__":
    main()
