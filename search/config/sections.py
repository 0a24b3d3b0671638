"""The sections of a run's configuration; every default stands in configs/default.yaml beside this file."""

import json
import math
import re
import sys
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Annotated, Any, Literal, Self, TypedDict, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from latency.probe import Protocol
from search.objective.limits import Limits
from search.objective.reward import KINDS, Reward, make_reward
from search.plugins import callable_name
from search.trial import SUPERNET
from space.arch import Architecture
from space.choices import SearchSpace
from space.errors import InvalidConfig
from space.plain_yaml import as_meant
from space.reference import REFERENCES
from trainer.training.recipe import Augmentation, Recipe, load_recipe, parse_recipe

CallableName = Annotated[str, AfterValidator(callable_name)]


def _evaluator_name(value: str) -> str:
    """The value itself, if it is `supernet` or a user's callable."""
    return value if value == SUPERNET else callable_name(value)


EvaluatorName = Annotated[str, AfterValidator(_evaluator_name)]
DeviceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

SAMPLERS = ("feasible-first", "tpe", "nsga2", "evolution", "random")


def named_or_callable(value: str, names: tuple[str, ...]) -> str:
    """The value itself, if it is one of our names or a user's callable.

    Raises:
        InvalidConfig: it is neither.
    """
    if value not in names and ":" not in value:
        raise InvalidConfig(f"{value!r} is neither one of {', '.join(names)} nor a package.module:callable of your own")
    return value if value in names else callable_name(value)


class ConfigSection(BaseModel):
    """Values are what the file says or nothing: no unknown keys, and no conversions but those of `as_meant`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_meant(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 - whatever the file says
        assert info.field_name is not None
        kinds = get_args(wanted := cls.model_fields[info.field_name].annotation) or (wanted,)
        return as_meant(value, text=str in kinds, switch=bool in kinds)


class NetworkSizes(TypedDict):
    """What the networks of a search take and give."""

    resolution: int
    in_channels: int
    num_classes: int


class DataConfig(ConfigSection):
    """Which images, and how the training split is divided; `none` where an evaluator of one's own needs none.

    Only then `channels` and `classes` say what the networks are for.
    """

    source: str
    data_dir: str | None
    resolution: int | None = Field(ge=8, le=2048)
    channels: int | None = Field(ge=1, le=64)
    classes: int | None = Field(ge=2, le=100_000)
    reward_fraction: float = Field(gt=0, lt=0.9)
    reward_images: int = Field(ge=1)
    split_seed: int = Field(ge=0)
    rank_by: Literal["top1", "balanced"]
    folds: int | None = Field(ge=1, le=20)
    skip_damaged: bool

    @property
    def sizes(self) -> NetworkSizes:
        """What networks take and give where there is no data to tell."""
        assert self.resolution is not None
        assert self.channels is not None
        assert self.classes is not None
        return NetworkSizes(resolution=self.resolution, in_channels=self.channels, num_classes=self.classes)


class SpaceConfig(ConfigSection):
    """A shipped preset or a YAML file, at a width multiplier; both follow from the weights to begin with, if any."""

    preset: str | None
    width: float | None = Field(ge=0.05, le=4)

    @property
    def chosen(self) -> tuple[str, float]:
        """Both, once they are known."""
        assert self.preset is not None
        assert self.width is not None
        return self.preset, self.width


class DeviceConfig(ConfigSection):
    """The device and how its table is measured."""

    name: DeviceName
    threads: int | None = Field(ge=1, le=256)
    rounds: int = Field(ge=3, le=1000)
    warm_runs: int = Field(ge=1, le=1000)
    precision: float = Field(gt=0, le=10)
    minutes: float | None = Field(gt=0)

    def named(self, name: str) -> "DeviceConfig":
        """The same for another device."""
        return self.model_copy(update={"name": name})

    @property
    def protocol(self) -> Protocol:
        """How blocks and networks are timed."""
        return Protocol(
            rounds=self.rounds,
            warm=self.warm_runs,
            precision=self.precision,
            most_rounds=2 * self.rounds,
            seconds=None if self.minutes is None else 60 * self.minutes,
        )


_MOST = {"ms": sys.float_info.max, "%": 1000.0, "fps": 1e9}


def parse_target(text: str) -> dict[str, float]:
    """A target such as "4.0ms", "80%" or "30fps" (one image after the other), as the content of a `TargetConfig`.

    Raises:
        InvalidConfig: it is none of them, or lies outside the range.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*(ms|%|fps)\s*", text)
    amount = 0.0 if match is None else float(match[1])
    if match is None or not 0 < amount <= _MOST[match[2]] or 1000 / amount == math.inf:
        raise InvalidConfig(
            f"target {text!r} is neither milliseconds like 4.0ms, nor images per second like 30fps, nor a share of the "
            "reference like 80%, at most 1000%"
        )
    if match[2] == "%":
        return {"relative": amount * 0.01}
    return {"ms": amount if match[2] == "ms" else 1000 / amount}


class TargetConfig(ConfigSection):
    """The final latency target: a share of the reference's latency, or milliseconds."""

    relative: float | None = Field(default=None, gt=0, le=10)
    ms: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.relative is None) == (self.ms is None):
            raise ValueError("give either `relative` or `ms`")
        return self

    def in_ms(self, reference_ms: float | None) -> float:
        """The target in ms; one relative to the reference needs that."""
        if self.ms is not None:
            return self.ms
        assert self.relative is not None
        assert reference_ms is not None
        return self.relative * reference_ms


ObjectiveName = Literal["top1", "latency_ms", "madds", "params", "peak_bytes"]


class LimitsConfig(ConfigSection):
    """What no trained network may exceed; the latency limit follows from the target where it is null."""

    latency_ms: float | None = Field(gt=0)
    madds: int | None = Field(ge=1)
    params: int | None = Field(ge=1)
    peak_bytes: int | None = Field(ge=1)

    def limits(self, latency_ms: float | None) -> Limits:
        """The limits, with this latency limit unless one was set."""
        latency_ms = latency_ms if self.latency_ms is None else self.latency_ms
        return Limits(latency_ms=latency_ms, madds=self.madds, params=self.params, peak_bytes=self.peak_bytes)


class RewardConfig(ConfigSection):
    """What is maximised; `exponent` is the soft kind's w or the absolute kind's beta, null the space's own."""

    kind: str
    exponent: float | None = Field(ge=-10, le=0)

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        return named_or_callable(value, KINDS)

    def reward(self, space_exponent: float, folder: str | None = None) -> Reward:
        """The reward function."""
        return make_reward(self.kind, space_exponent if self.exponent is None else self.exponent, folder)


RAY_ADDRESS = r"^[A-Za-z0-9_.-]+:[0-9]{1,5}$"


class RayConfig(ConfigSection):
    """Where and with what trials run on a Ray cluster."""

    # Null: RAY_ADDRESS, and where that is not set either, a cluster on this machine for as long as the search runs.
    address: str | None = Field(pattern=RAY_ADDRESS)
    cpus: float = Field(gt=0, le=1024)
    gpus: float = Field(ge=0, le=64)
    resources: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")], Annotated[float, Field(gt=0)]] = Field(
        max_length=16
    )
    max_concurrent_trials: int | None = Field(ge=1, le=100_000)
    scheduler: Literal["none", "asha", "median"]
    final_processes: int = Field(ge=1, le=256)

    @model_validator(mode="after")
    def _can_be_had(self) -> Self:
        if ours := {"CPU", "GPU", "memory", "object_store_memory"} & set(self.resources):
            raise ValueError(f"resources are custom ones; {min(ours)} is Ray's own: give cpus and gpus")
        if self.gpus > 1 and not self.gpus.is_integer():
            raise ValueError(f"gpus {self.gpus:g} is neither a share of one nor whole GPUs")
        if self.final_processes > 1 and not self.gpus.is_integer():
            raise ValueError(
                f"final_processes {self.final_processes} need whole GPUs each, or none; gpus is {self.gpus:g}"
            )
        return self

    retries: int = Field(ge=0, le=100)


RecipeChoice = str | dict[str, Any]
"""A shipped recipe's name, the path of a YAML file, or the content of one."""


def _known_recipe(value: RecipeChoice) -> RecipeChoice:
    recipe_of(value)
    return value


ChosenRecipe = Annotated[RecipeChoice, AfterValidator(_known_recipe)]


def recipe_of(choice: RecipeChoice) -> Recipe:
    """The recipe that a configuration chose.

    Raises:
        InvalidConfig: there is none, or a field of it is missing, unknown or wrong.
    """
    return load_recipe(choice) if isinstance(choice, str) else parse_recipe(choice, "recipe")


def recorded_recipe(choice: RecipeChoice) -> RecipeChoice:
    """The content of what was chosen: a file may be gone later, and a shipped recipe be another one."""
    content: dict[str, Any] = json.loads(json.dumps(asdict(recipe_of(choice))))
    return content


class TrainingConfig(ConfigSection):
    """What holds in the trainings of every stage, whatever their recipes say; null leaves it to those.

    `seed` is apart from the search's: searches of several seeds then share the trainings of equal networks.
    """

    seed: int = Field(ge=0, le=2**31 - 1)
    device: Literal["auto", "cpu", "cuda", "mps"]
    workers_per_gpu: int = Field(ge=1, le=64)
    batch_size: int | None = Field(ge=2, le=4096)
    learning_rate: float | None = Field(gt=0, le=10)
    weight_decay: float | None = Field(ge=0, le=1)
    label_smoothing: float | None = Field(ge=0, lt=1)
    shift: float | None = Field(ge=0, le=0.5)
    flip: bool | None
    balance: Literal["none", "sampling", "loss"] | None

    def recipe(self, choice: RecipeChoice, images: int, *, rate: float = 1.0) -> Recipe:
        """A recipe for so many images seen, with its learning rates times `rate`."""
        recipe = recipe_of(choice)
        own = ("batch_size", "learning_rate", "weight_decay", "label_smoothing", "balance")
        given = {name: value for name in own if (value := getattr(self, name)) is not None}
        recipe = replace(recipe, images=images, **given)
        return replace(
            recipe,
            learning_rate=recipe.learning_rate * rate,
            matrix_rate=recipe.matrix_rate * rate,
            augmentation=self._augmentation(recipe.augmentation),
        )

    def _augmentation(self, recipe: Augmentation) -> Augmentation:
        flip = recipe.flip
        if self.flip is not None and self.flip != (flip != "none"):
            flip = "random" if self.flip else "none"
        return replace(recipe, flip=flip, shift=recipe.shift if self.shift is None else self.shift)


class BlocksConfig(ConfigSection):
    """The block-level search: `trials` trained networks, each on the proxy task."""

    trials: int = Field(ge=1, le=1_000_000)
    sampler: str
    reference: bool
    seed_factor: float = Field(ge=1, le=4)
    tolerance: float = Field(ge=0, le=1)
    reward: RewardConfig
    # Empty: the reward is maximised. Else the Pareto front of these is explored.
    objectives: tuple[ObjectiveName, ...] = Field(max_length=4, strict=False)
    recipe: ChosenRecipe
    train_images: int = Field(ge=1)
    epochs: float = Field(gt=0, le=1000)
    # Names of published networks, spec files, or (in a record) the specs themselves.
    enqueue: tuple[str, ...] = Field(max_length=64, strict=False)
    # Names of recorded searches.
    start_from: tuple[str, ...] = Field(max_length=64, strict=False)
    reuse: bool
    warm_start: bool

    @field_validator("sampler")
    @classmethod
    def _known(cls, value: str) -> str:
        return named_or_callable(value, SAMPLERS)

    @field_validator("objectives")
    @classmethod
    def _distinct(cls, value: tuple[ObjectiveName, ...]) -> tuple[ObjectiveName, ...]:
        if value and (len(set(value)) < max(2, len(value)) or value[0] != "top1"):
            raise ValueError("give none, or top1 and then one or more different costs")
        return value

    @property
    def images(self) -> int:
        """Images that one trial sees."""
        return max(1, round(self.train_images * self.epochs))

    def networks(self, space: SearchSpace) -> tuple[Architecture, ...]:
        """The networks to enqueue, once each, at the resolution, channels, classes and width multiplier of a search.

        Raises:
            InvalidArchitecture: one of them is no spec.
        """
        found: dict[Architecture, None] = {}
        for named in self.enqueue:
            known = REFERENCES.get(named)
            arch = Architecture.from_json(named) if known is None else known(width=space.width)
            found[
                replace(arch, resolution=space.resolution, in_channels=space.in_channels, num_classes=space.num_classes)
            ] = None
        return tuple(found)


class RungConfig(ConfigSection):
    """Up to so many images seen, so many networks are trained; up to none they are judged by weights of a supernet."""

    images: int = Field(ge=0)
    networks: int = Field(ge=1, le=1_000_000)


class RaceConfig(ConfigSection):
    """Trainings that go on for as long as their network is among the best; without rungs there is no race.

    Proposals have at least the share `latency_from` of the target, since what is much faster gives accuracy away. Where
    it `fills_budget`, images and networks are scaled to the time that there is; else a budget's name multiplies them.
    By a `prior` the sampler of ours proposes what published trainings of the space speak for.
    `minutes` are what it has, up to the end of the final training, and `time_share` is its share of the budget's time.
    """

    rungs: tuple[RungConfig, ...] = Field(max_length=16, strict=False)
    latency_from: float = Field(ge=0, lt=1)
    prior: bool
    fills_budget: bool
    minutes: float | None = Field(gt=0)
    time_share: float = Field(gt=0, le=1)

    def scaled(self, *, images: float, networks: float) -> "RaceConfig":
        """So many times the images, and the networks."""
        rungs = tuple(
            RungConfig(
                images=rung.images and max(1, round(rung.images * images)),
                networks=max(1, round(rung.networks * networks)),
            )
            for rung in self.rungs
        )
        return self.model_copy(update={"rungs": rungs})

    def going_on(self, rung: int, *, images: float, networks: float) -> "RaceConfig | None":
        """The same up to this rung, and so many times the images and networks from it on; None where that is no way on.

        Not more networks go on than have reached the rung before.
        """
        *_, before = begun = self.rungs[:rung]
        later = self.model_copy(update={"rungs": self.rungs[rung:]}).scaled(images=images, networks=networks).rungs
        if later and later[0].images <= before.images:
            return None
        capped = [each.model_copy(update={"networks": min(each.networks, before.networks)}) for each in later]
        return self.model_copy(update={"rungs": (*begun, *capped)})

    @property
    def first_training(self) -> RungConfig:
        """The first rung on which networks are trained."""
        return next(rung for rung in self.rungs if rung.images)

    def shares_of(self, final_images: int) -> tuple[float, ...]:
        """The shares of the final training after which networks are judged, and its end."""
        return (*(rung.images / final_images for rung in self.rungs), 1.0)

    @property
    def steps(self) -> tuple[tuple[int, int], ...]:
        """Of each rung how many images its networks see since the one before, and how many networks they are."""
        seen = (0, *(rung.images for rung in self.rungs))
        return tuple((rung.images - before, rung.networks) for before, rung in zip(seen, self.rungs, strict=False))

    @model_validator(mode="after")
    def _narrows(self) -> Self:
        for before, after in pairwise(self.rungs):
            if after.images <= before.images or after.networks > before.networks:
                raise ValueError(
                    f"rungs go on to more images with fewer networks, not from {before.networks} at "
                    f"{before.images:,} images to {after.networks} at {after.images:,}"
                )
        if self.rungs and not self.rungs[-1].images:
            raise ValueError("rungs end with a training; name one of more than 0 images")
        return self


class StartConfig(ConfigSection):
    """A network to walk from instead of searching one: its spec, and the SHA-256 of its weights in the run folder."""

    network: str
    weights: str = Field(pattern=r"^[0-9a-f]{64}$")


class NetAdaptConfig(ConfigSection):
    """The layer-wise refinement; null for `teacher` is none, until a walk from a given network says `start`."""

    start: StartConfig | None
    teacher: Literal["start", "none"] | None
    delta: float = Field(gt=0, lt=0.5)
    decay: float = Field(gt=0, le=1)
    choice: Literal["ratio", "top1"]
    walk: float = Field(ge=0, le=4)
    steps: Literal["adaptive", "fixed"]
    recipe: ChosenRecipe
    images: int = Field(ge=1)
    most_images: int | None = Field(ge=1)
    learning_rate_factor: float | None = Field(gt=0, le=1)
    max_steps: int = Field(ge=0, le=10_000)


class FinalConfig(ConfigSection):
    """The final training of the best networks and of the reference: from scratch or going on from what was found.

    Weights that are `inherited` are fine-tuned by NetAdapt's recipe; a training that is `continued` ends as it would
    have from scratch, without what the race has trained already. Of the `top_k` best the reward split chooses one, and
    only that touches the test split. `prefer` decides between those that the reward split does not tell apart.
    """

    recipe: ChosenRecipe
    images: int = Field(ge=1)
    top_k: int = Field(ge=1, le=64)
    weights: Literal["scratch", "inherited", "continued"]
    prefer: Literal["accuracy", "speed"]
