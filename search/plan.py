"""What a run will do, before it does it: data, blocks to measure, and expected minutes per stage."""

import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from safetensors.torch import save

from latency.extremes import Range, latency_range
from latency.kit import Campaign, NetworkGraph
from latency.meter import DeviceSettings, Meter
from search.begun import begin_with, can_begin, initial_weights, published_for, with_space_around
from search.config.load import NO_DATA, RunConfig
from search.config.sections import NetworkSizes
from search.evaluation.data import Data, Images, NoImages
from search.evaluation.pace import EVALUATION_SHARE, Pace
from search.evaluation.speed import Sample, images_per_second
from search.objective.guess import drawn, guess_from, layer_prices
from search.objective.latency import Latency
from search.plugins import Plugin
from search.present import PresentModel
from search.protocols import (
    CERTIFICATE,
    FINALISTS,
    certificate_seconds,
    finalists_seconds,
    measuring_seconds,
    screening_seconds,
)
from search.record.store import Store
from search.run_folder import supernet_file
from search.tables import Tables
from search.trial import SUPERNET
from space.arch import Architecture
from space.choices import SearchSpace
from space.encoding import Encoding
from space.errors import InvalidConfig, RunError
from space.keys import BlockKey, keys_of
from space.narrowing import narrowings
from space.paths import expanded
from space.preset import load_preset
from space.variation.moves import mutate
from trainer.data.dataset import REWARD, Dataset
from trainer.data.imagefolder import find_pictures
from trainer.data.prepare import IMAGE_FOLDER, Progress, image_folder, prepare
from trainer.data.splits import Splits, pooled, split
from trainer.pretrained.downloads import IMAGENET_WEIGHTS
from trainer.supernet.files import SupernetFile
from trainer.supernet.sharing import STATISTICS_IMAGES
from trainer.training.networks import DeviceKind, best_device, visible_gpus

_SAMPLE_KEYS = 40
# A step saves at least `delta`; with widths in multiples of 8 it was seen to save about twice as much.
_SAVED_PER_DELTA = 2.0
# Images that a proposal sees on average, in shares of the first ones, where a step goes on until it can tell.
_TOLD_APART = 2.5
_ITERATION_SECONDS = 5.0  # measuring missing blocks, starting trials


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """A configuration with everything it names looked up; without the record, the device is taken for this machine."""

    config: RunConfig
    data: Data
    space: SearchSpace
    settings: DeviceSettings
    # What a new search begins with, as safetensors: weights of the space's reference, for the data.
    initial_weights: bytes | None = None
    # The model that the user has at present, which a new search keeps a copy of.
    present: PresentModel | None = None

    def tables(self, store: Store) -> Tables:
        """The latency tables of the run's device and space."""
        return Tables(
            store=store,
            settings=self.settings,
            space=self.space,
            protocol=self.config.device.protocol,
            enqueued=self.config.blocks.networks(self.space),
        )

    @property
    def workers(self) -> int:
        """Trials that run at once: each with one core, or on GPUs so many as are to share one."""
        if self.config.workers is not None:
            return self.config.workers
        device = compute_device(self.config)
        if device == "cpu" or self.config.executor == "ray":
            return len(available_cores())
        return max(1, len(visible_gpus())) * self.config.training.workers_per_gpu


def compute_device(config: RunConfig) -> DeviceKind:
    """Where networks are trained."""
    if config.executor == "ray":
        return "cuda" if config.ray.gpus > 0 else "cpu"
    return best_device() if config.training.device == "auto" else config.training.device


def available_cores() -> set[int]:
    """The cores that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def look_up(
    config: RunConfig, progress: Progress | None = None, tell: Callable[[str], None] = lambda _: None
) -> Inputs:
    """Prepare the data set, and build the search space that fits it.

    `progress` hears of the decoding of pictures, `tell` what weights are downloaded.

    Raises:
        DataError: the data set is missing or unfit.
        InvalidSpace: the preset is unknown or does not fit the data.
        InvalidArchitecture: a network to enqueue does not.
        RunError: the present model cannot be read.
        InvalidConfig: the configuration asks for more images than there are classes' worth of, or begins with weights
            of another network than its space's reference.
    """
    begun = None
    if config.init is not None and config.init_hash is None:
        if config.init == IMAGENET_WEIGHTS:
            config = config.model_copy(update={"init": published_for(config.space)})
        assert config.init is not None
        begun = begin_with(config.init, tell=tell)
        config = with_space_around(config, begun)
    elif config.space.preset is None or config.space.width is None:
        raise InvalidConfig("config key init_hash: a search sets it, of its own copy of the weights; leave it out")
    name, width = config.space.chosen
    preset = load_preset(name)  # before the data, which may have to be downloaded
    for name in config.callables:
        Plugin(name=name, folder=config.plugins).load()
    settings = DeviceSettings(name=config.device.name, threads=config.device.threads or 1)
    data, sizes = _look_up_data(config, progress)
    if isinstance(data, Images):
        config = config.judged_in(data.folds)
    space = SearchSpace(preset=preset, width=width, **sizes)
    config.blocks.networks(space)  # named early if one of them is unfit
    _check_start(config, space)
    initial = None
    if begun is not None:
        assert isinstance(data, Images), "weights are begun with where something is trained"
        initial = save(dict(initial_weights(begun, config, data.dataset, space)))
        for arch in config.blocks.networks(space):
            if not can_begin(arch, space.reference):
                raise InvalidConfig(
                    f"blocks.enqueue: {arch.arch_id} has not the form of {space.preset.reference}, the network of "
                    f"{config.init}, and so nothing to begin with; leave it out"
                )
    return Inputs(
        config=config,
        data=data,
        space=space,
        settings=settings,
        initial_weights=initial,
        present=_look_up_present(config, data),
    )


def _look_up_present(config: RunConfig, data: Data) -> PresentModel | None:
    """The user's present model, where a new search is named one."""
    if config.present.model is None or config.present.sha256 is not None:
        return None
    assert isinstance(data, Images), "it is tested on pictures"
    found = PresentModel.named(config.present)
    found.order_of(data.dataset.classes)
    return found


def _check_start(config: RunConfig, space: SearchSpace) -> None:
    """Refuse a network to walk from that is not for the data, and a teacher where there is no such network."""
    start = config.netadapt.start
    if start is None:
        if config.netadapt.teacher == "start":
            raise InvalidConfig("config key netadapt.teacher: only `mobilenas netadapt` has a start; leave it out")
        return
    arch = Architecture.from_json(start.network)
    mine, wanted = ((each.resolution, each.in_channels, each.num_classes) for each in (arch, space))
    if mine != wanted:
        raise InvalidConfig(
            f"the network to start from is for {mine[0]} px, {mine[1]} channels and {mine[2]} classes, the data have "
            f"{wanted[0]}, {wanted[1]} and {wanted[2]}; give data that fit, or data.resolution"
        )


def check_supernet(inputs: Inputs) -> str | None:
    """Refuse a supernet of other data or of another space, and networks to try that are no members; returns its hash.

    Raises:
        DataError: it is of other data, or cannot be read.
        InvalidConfig: there are no images, the space is another one, or a network to enqueue is none of it.
        RunError: it is another one than the search began with.
    """
    config, space, data = inputs.config, inputs.space, inputs.data
    if config.supernet is None:
        return None
    what, file = f"supernet {config.supernet}", SupernetFile.read(supernet_file(config.supernet))
    if not isinstance(data, Images):
        raise InvalidConfig("config key supernet: it judges networks on images; name them under data.source")
    file.fitted_to(data.dataset, data.splits.train, what)
    mine = file.supernet.space
    if mine != space:
        raise InvalidConfig(
            f"{what} is of space '{mine.preset.name}' at width {mine.width:g} (scope {mine.scope}), this run's is "
            f"'{space.preset.name}' at width {space.width:g} (scope {space.scope}); name the same under `space`"
        )
    for arch in config.blocks.networks(space):
        if reason := space.why_not(arch):
            raise InvalidConfig(f"blocks.enqueue: {arch.arch_id} has no weights in {what}: {reason}; leave it out")
    if config.supernet_hash not in (None, file.content_hash):
        raise RunError(
            f"{what} is {file.content_hash}, but the search began with {config.supernet_hash}; put that one back"
        )
    return file.content_hash


def _look_up_data(config: RunConfig, progress: Progress | None) -> tuple[Data, NetworkSizes]:
    data = config.data
    if data.source == NO_DATA:
        assert config.evaluator is not None
        evaluator = Plugin(name=config.evaluator, folder=config.plugins)
        return NoImages(evaluator=evaluator), data.sizes
    data_dir = expanded(data.data_dir) if data.data_dir else None
    dataset = prepare(
        data.source,
        resolution=data.resolution,
        data_dir=data_dir,
        skip_damaged=data.skip_damaged,
        progress=progress,
    )
    classes = len(dataset.classes)
    asked = {"blocks.train_images": config.blocks.train_images, "data.reward_images": data.reward_images}
    for name, count in asked.items():
        if count < classes:
            raise InvalidConfig(f"config key {name}: {count} images are fewer than the {classes} classes; raise it")
    splits = split(dataset, reward_fraction=data.reward_fraction, seed=data.split_seed)
    folds = _folds_for(config, dataset, splits) if data.folds is None else data.folds
    _check_folds(folds, dataset, splits)
    return Images.of(dataset, splits, folds), NetworkSizes(
        resolution=dataset.preprocess.resolution, in_channels=len(dataset.preprocess.mean), num_classes=classes
    )


# A top-1 on fewer images has a standard error of two points and more, which a race's networks seldom differ by.
_ENOUGH_TO_RANK, _FOLDS = 500, 5


def _folds_for(config: RunConfig, dataset: Dataset, splits: Splits) -> int:
    """In how many folds networks are judged where nobody says: one, but in a race of so few images from given weights.

    From scratch a part of the time teaches networks too little.
    """
    if not config.races or config.init is None or config.final_processes > 1:
        return 1
    if len(splits.reward) >= _ENOUGH_TO_RANK or _has_own_reward_split(config.data.source):
        return 1
    return _FOLDS if _fewest_of_a_class(dataset, splits) >= _FOLDS else 1


def _has_own_reward_split(source: str) -> bool:
    """Whether somebody has chosen the pictures that judge networks, in a folder of their own."""
    return source.startswith(IMAGE_FOLDER) and REWARD in find_pictures(image_folder(source))[0]


def _fewest_of_a_class(dataset: Dataset, splits: Splits) -> int:
    pool = pooled(splits).train
    return int(np.bincount(dataset.labels()[pool], minlength=len(dataset.classes)).min())


def _check_folds(folds: int, dataset: Dataset, splits: Splits) -> None:
    """Each part must have an image of each class."""
    if folds > 1 and (fewest := _fewest_of_a_class(dataset, splits)) < folds:
        raise InvalidConfig(
            f"config key data.folds: {folds} parts, but a class has {fewest} images; give data more images, or lower it"
        )


# Where only a function knows latencies, members are drawn, and the extreme ones improved upon until so many rounds in a
# row find nothing better; of so many children of each those are asked about that are guessed to be the most extreme.
_KEPT, _CHILDREN, _PATIENCE = 16, 8, 5


def sampled_range(latency: Latency, space: SearchSpace, reference: Architecture | None) -> Range:
    """What a space reaches by a user's own function: bounds that were found by evolving drawn members, not exact ones.

    Raises:
        RunError: the function fails.
    """
    encoding, rng = Encoding(space), np.random.default_rng(0)
    of_codes = latency.of_codes(encoding)
    # By most functions the smallest and the largest choice of everything are all but the fastest and the slowest.
    corners = [encoding.encode(arch) for arch in (space.smallest, space.largest)]
    codes = np.vstack([corners, drawn(encoding)])
    guess = guess_from(layer_prices(encoding), codes, of_codes(codes))
    found = {}
    for sign in (1, -1):
        best, reached, idle = codes, math.inf, 0
        while idle < _PATIENCE:
            costs = sign * of_codes(best)
            idle = 0 if costs.min() < reached else idle + 1
            reached = min(reached, float(costs.min()))
            best = best[np.argsort(costs, kind="stable")[:_KEPT]]
            children = mutate(encoding, np.repeat(best, _CHILDREN, axis=0), rng)
            promising = np.argsort(sign * guess(children), kind="stable")[:_KEPT]
            best = np.concatenate([best, children[promising]])
        found[sign] = sign * reached
    return Range(
        fastest_ms=found[1],
        slowest_ms=found[-1],
        reference_ms=None if reference is None else latency.estimate(reference),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will do; minutes are expected, from a short calibration of this machine."""

    inputs: Inputs
    speed: "Speed"
    search_minutes: float
    netadapt_minutes: float
    final_minutes: float
    measuring_minutes: float
    # The budget by which finalists see enough epochs, where they do not.
    sufficient_budget: str | None = None
    # The smaller pictures to be had, px, where it takes much longer than what a budget's name stands for.
    lower_resolution: int | None = None

    @property
    def epochs(self) -> float | None:
        """How often the final networks see each image of the training split; None where there are none."""
        data, images = self.inputs.data, self.inputs.config.final.images
        return images / max(1, len(data.splits.train)) if isinstance(data, Images) else None

    @property
    def is_known(self) -> bool:
        """Whether the minutes are all of the search's: nobody knows how long a user's own evaluator takes."""
        return self.inputs.config.own_evaluator is None

    @property
    def training_minutes(self) -> float:
        """All stages, without what is measured."""
        return self.search_minutes + self.netadapt_minutes + self.final_minutes

    @property
    def minutes(self) -> float:
        """The whole run."""
        return self.speed.table_minutes + self.training_minutes + self.measuring_minutes

    @property
    def target_ms(self) -> float | None:
        """The final target, where it is known before measuring."""
        target = self.inputs.config.target
        if self.speed.range is not None:
            return target.in_ms(self.speed.range.reference_ms)
        return target.ms


def training_rate(inputs: Inputs) -> float:
    """Images per second that one worker trains of the reference while the others train, too, from some batches.

    Infinite where there is no data; of a cluster it is what this machine's cores do.
    """
    if not isinstance(inputs.data, Images):
        return math.inf
    config, processes = inputs.config, inputs.workers
    device = compute_device(config)
    if config.executor == "ray":
        device, processes = "cpu", min(processes, len(available_cores()))
    sample = Sample(
        architecture=inputs.space.reference,
        data_folder=inputs.data.dataset.folder,
        reward_fraction=config.data.reward_fraction,
        split_seed=config.data.split_seed,
        recipe=config.proxy_recipe,
        device=device,
    )
    return images_per_second(sample, processes)


def table_minutes(campaign: Campaign, meter: Meter) -> float:
    """How long a campaign would take on a device, from timing a sample of its blocks, their sessions included.

    Blocks that do not settle take up to twice as long; a protocol's time limit is not reckoned with.
    """
    keys, protocol = campaign.blocks, campaign.protocol
    if not keys:
        return 0.0
    sample = tuple(random.Random(0).sample(keys, min(_SAMPLE_KEYS, len(keys))))

    def seconds(blocks: tuple[BlockKey, ...], rounds: int) -> float:
        few = replace(protocol, rounds=rounds, most_rounds=rounds)
        started = time.monotonic()
        meter.run(Campaign(blocks=blocks, protocol=few, purpose={"kind": "estimate"}))
        return time.monotonic() - started

    with meter.keeping():  # who waits here for another measurement to end does not wait within what is timed
        fixed, once, more = seconds(sample[:1], 1), seconds(sample, 1), seconds(sample, 4)
    per_visit = max(0.0, more - once) / 3 / len(sample)
    per_block = max(0.0, once - fixed) / len(sample) + per_visit * protocol.rounds
    networks = [each.architecture if isinstance(each, NetworkGraph) else each for each in campaign.networks.values()]
    in_networks = sum(len(keys_of(arch)) for arch in networks)
    return (fixed + len(keys) * per_block + in_networks * per_visit * protocol.rounds) / 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast this machine is, from a calibration of some seconds."""

    images_per_second: float
    table_minutes: float
    blocks_in_space: int
    blocks_to_measure: int
    range: Range | None


def calibrate_speed(inputs: Inputs, store: Store) -> Speed:
    """Time some training batches and, where there is no table yet, some blocks."""
    if inputs.config.latency is not None:
        return Speed(
            images_per_second=training_rate(inputs),
            table_minutes=0.0,
            blocks_in_space=0,
            blocks_to_measure=0,
            range=None,
        )
    tables = inputs.tables(store)
    known = tables.known()
    campaign = None if known is not None else tables.to_measure()
    meter = tables.meter
    return Speed(
        images_per_second=training_rate(inputs),
        table_minutes=table_minutes(campaign, meter) if campaign and meter else 0.0,
        blocks_in_space=len(inputs.space.reachable_keys()),
        blocks_to_measure=len(campaign.blocks) if campaign else 0,
        range=None if known is None else latency_range(known[1], inputs.space),
    )


def make_plan(inputs: Inputs, speed: Speed) -> Plan:
    """The expected minutes of each stage."""
    config = inputs.config
    pace = Pace.of(config, inputs.data, workers=inputs.workers, images_per_second=speed.images_per_second)
    judging = EVALUATION_SHARE * pace.judged
    own = 0.0 if config.own_evaluator is not None else 1.0
    if config.races:
        search_s = pace.rungs(config.race)
    else:
        trained = EVALUATION_SHARE * STATISTICS_IMAGES if config.evaluator == SUPERNET else config.blocks.images
        search_s = own * pace.alike(config.blocks.trials, trained + judging)
    search_s += pace.start(config)
    walk = max(0.0, 1 - 1 / config.seed_factor)
    walked = min(config.netadapt.max_steps, walk / (_SAVED_PER_DELTA * config.netadapt.delta))
    places = sum(1 for _ in narrowings(inputs.space.reference)) if walked else 0
    seen, compared = config.netadapt.images + judging, 0
    if config.tells_proposals_apart:
        seen, compared = seen * _TOLD_APART, 1
    per_step = own * pace.alike(places + compared, seen) + _ITERATION_SECONDS
    netadapt_s = walked * per_step
    return Plan(
        inputs=inputs,
        speed=speed,
        search_minutes=search_s / 60,
        netadapt_minutes=netadapt_s / 60,
        final_minutes=pace.finals(config) / 60,
        measuring_minutes=(_measuring_s(inputs, speed) + _present_s(inputs)) / 60,
    )


def _present_s(inputs: Inputs) -> float:
    """Seconds in which the user's present model is tested, and measured, as if that took as long as here."""
    model, data = inputs.present, inputs.data
    if model is None:
        return 0.0
    assert isinstance(data, Images), "it is tested on pictures"
    measured = 0.0 if inputs.config.latency is not None else measuring_seconds(CERTIFICATE, 1, 1000 * model.seconds)
    return len(data.splits.test) * model.seconds + measured


def _measuring_s(inputs: Inputs, speed: Speed) -> float:
    """Seconds in which whole networks are measured, as far as that is known before the device has a table."""
    config, ms = inputs.config, None if speed.range is None else speed.range.reference_ms
    if config.latency is not None or inputs.settings.is_kit or ms is None:
        return 0.0
    if not config.races:
        return measuring_seconds(FINALISTS, config.final.top_k + 1, ms) + certificate_seconds(ms)
    return screening_seconds(config, ms) + finalists_seconds(config, ms)
