"""How networks are trained, as data: a recipe is a YAML file, some are shipped, and all are checked here."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from space.errors import InvalidConfig
from space.paths import expanded
from space.plain_yaml import MAX_YAML_BYTES, NotPlainYaml, NotValid, read_plain_yaml, validated

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
_LARGE = 10**18


def _between(where: object, **ranges: tuple[float, float]) -> None:
    """See that fields lie in their ranges.

    Raises:
        InvalidConfig: one does not.
    """
    for name, (low, high) in ranges.items():
        value = getattr(where, name)
        if not low <= value <= high:
            shown = f"{value:g}" if abs(value) < _LARGE else "a number of many digits"
            raise InvalidConfig(f"{name} is {shown}; it must lie between {low:g} and {high:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosine:
    """Linear warm-up over a share of the steps, then a cosine to zero (Loshchilov & Hutter 2017); its end is fixed."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    kind: Literal["cosine"] = "cosine"
    warmup: float = 0.1

    def __post_init__(self) -> None:
        _between(self, warmup=(0, 1))

    def factor(self, step: int, steps: int, batch_size: int, epoch_steps: float) -> float:  # noqa: ARG002
        """What the learning rate is multiplied by in a step, of so many."""
        warm = max(1, round(self.warmup * steps))
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    def is_settled(self, step: int, steps: int) -> bool:  # noqa: ARG002
        """Whether the rates of the first `step` steps are the same however long the training is."""
        return step == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endless:
    """A rate for trainings whose length nobody knows yet, with a linear decay to zero once it is known.

    Linear warm-up over some images, then a constant rate up to `hold_images`, then one that falls with the inverse
    square root of the images seen (Zhai et al. 2022); None: it stays. `decay` is the share of all steps over which it
    falls to zero in the end. Until then the training can end anywhere, and go on from there.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    kind: Literal["endless"] = "endless"
    warmup_images: int = 0
    hold_images: int | None = None
    decay: float = 0.0

    def __post_init__(self) -> None:
        _between(self, warmup_images=(0, 1e12), decay=(0, 1))
        if self.hold_images is not None:
            _between(self, hold_images=(1, 1e12))

    def factor(self, step: int, steps: int, batch_size: int, epoch_steps: float) -> float:  # noqa: ARG002
        """See `Cosine`."""
        seen = (step + 1) * batch_size
        rising = min(1.0, seen / max(1, self.warmup_images))
        slowing = 1.0 if self.hold_images is None else min(1.0, math.sqrt(self.hold_images / seen))
        falling = self.decay * steps
        return rising * slowing * (min(1.0, (steps - step) / falling) if falling else 1.0)

    def is_settled(self, step: int, steps: int) -> bool:
        """See `Cosine`."""
        return step <= steps * (1 - self.decay)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Linear warm-up over some images, then a rate that is multiplied by `factor_each` every few epochs."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    kind: Literal["steps"] = "steps"
    warmup_images: int = 0
    every_epochs: float = 3.0
    factor_each: float = 0.99

    def __post_init__(self) -> None:
        _between(self, warmup_images=(0, 1e12), every_epochs=(1e-3, 1e6), factor_each=(1e-6, 1))

    def factor(self, step: int, steps: int, batch_size: int, epoch_steps: float) -> float:  # noqa: ARG002
        """See `Cosine`."""
        rising = min(1.0, (step + 1) * batch_size / max(1, self.warmup_images))
        falls: float = self.factor_each ** int(step / (self.every_epochs * epoch_steps))
        return rising * falls

    def is_settled(self, step: int, steps: int) -> bool:  # noqa: ARG002
        """See `Cosine`."""
        return True


Schedule = Annotated[Cosine | Endless | Steps, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """Weights are judged as an average over the training's last steps, not as the last step left them.

    The average reaches back over a `share` of the steps so far, so that it needs no length known beforehand; with
    `decay` it is the exponential moving average of a fixed length (TensorFlow's, which is shorter in the beginning).
    BatchNorm's statistics are then those of the averaged weights on `batch_norm_images` training images; 0: averaged
    likewise.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    share: float | None = None
    decay: float | None = None
    batch_norm_images: int = 0

    def __post_init__(self) -> None:
        if (self.share is None) == (self.decay is None):
            raise InvalidConfig("average needs either share or decay")
        for name in ("share", "decay"):
            if getattr(self, name) is not None:
                _between(self, **{name: (1e-6, 1 - 1e-9)})
        _between(self, batch_norm_images=(0, 1e6))

    def newest(self, step: int) -> float:
        """The weight of the newest weights in the average after a step, counted from 0."""
        if self.decay is not None:
            return 1 - min(self.decay, (1 + step) / (10 + step))
        assert self.share is not None
        return 1 / (1 + self.share * step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """What is done to the images of a batch, each image by its own draw.

    `flip` mirrors half of the images: at random, or `alternate`, every image in every second epoch (Jordan 2024).
    `shift` is the largest translation as a share of the resolution. `operations` of RandAugment's kind (Cubuk et al.
    2020) are applied at `magnitude` (0-1). `mixup` and `cutmix` are the parameter of their beta distribution (Zhang et
    al. 2018, Yun et al. 2019), and where both are given each batch gets one of them. `erase` is the share of images of
    which a rectangle is erased (Zhong et al. 2020).
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    flip: Literal["none", "random", "alternate"] = "none"
    shift: float = 0.0
    operations: int = 0
    magnitude: float = 0.3
    mixup: float = 0.0
    cutmix: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        _between(self, shift=(0, 0.5), operations=(0, 8), magnitude=(0, 1), mixup=(0, 10), cutmix=(0, 10), erase=(0, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train. Without further words it is SGD with Nesterov momentum and a cosine, as in version 0.1.

    `images` counts images seen, repeats included. `momentum` is that of the optimizer, whichever it is. No weight decay
    on BatchNorm and biases, and none by Muon, whose learning rate for pointwise convolutions is `matrix_rate`; all else
    is then trained by SGD. `balance` lets all classes weigh alike, however many images they have: by drawing those of
    rare ones more often, or by their weight in the loss. `teacher_weight` is the share of the loss that a teacher's
    answers have, at `temperature` (Hinton et al. 2015), where there is a teacher. Where weights are given, all but the
    classifier may be trained at `body_rate` times the rates, and by the statistics of BatchNorm that came with the
    weights, which stay as they are (`frozen_statistics`).
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    images: int = 60_000
    batch_size: int = 64
    optimizer: Literal["sgd", "muon", "rmsprop"] = "sgd"
    learning_rate: float = 0.1
    matrix_rate: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Schedule = field(default_factory=Cosine)
    average: Average | None = None
    label_smoothing: float = 0.05
    dropout: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    balance: Literal["none", "sampling", "loss"] = "none"
    teacher_weight: float = 0.5
    temperature: float = 2.0
    body_rate: float = 1.0
    frozen_statistics: bool = False

    def __post_init__(self) -> None:
        _between(
            self,
            images=(1, 1e12),
            batch_size=(2, 65536),
            learning_rate=(0, 3.5e38),
            matrix_rate=(0, 3.5e38),
            momentum=(0, 0.9999),
            weight_decay=(0, 10),
            label_smoothing=(0, 0.999),
            dropout=(0, 0.95),
            teacher_weight=(0, 1),
            temperature=(0.1, 100),
            body_rate=(0, 1),
        )

    def to_plain(self) -> dict[str, Any]:
        """Plain JSON that identifies it: choices that there were not always are left out where they are not used."""
        plain = asdict(self)
        for name, usual in (("body_rate", 1.0), ("frozen_statistics", False)):
            if plain[name] == usual:
                del plain[name]
        return plain

    @property
    def steps(self) -> int:
        """Optimiser steps; at least one."""
        return max(1, round(self.images / self.batch_size))

    def factor(self, step: int, epoch_steps: float = math.inf) -> float:
        """What the learning rates are multiplied by in a step; an epoch has so many steps."""
        return self.schedule.factor(step, self.steps, self.batch_size, epoch_steps)

    def continues(self, earlier: "Recipe", step: int) -> bool:
        """Whether a training by an earlier recipe is, after so many steps, what it would be by this one."""
        if replace(self, images=1, schedule=_begun(self.schedule)) != replace(
            earlier, images=1, schedule=_begun(earlier.schedule)
        ):
            return False
        if (self.steps, self.schedule) == (earlier.steps, earlier.schedule):
            return True
        return all(each.schedule.is_settled(step, each.steps) for each in (self, earlier))


def _begun(schedule: Schedule) -> Schedule:
    """The same without its end."""
    return replace(schedule, decay=0.0) if isinstance(schedule, Endless) else schedule


def recipe_names() -> tuple[str, ...]:
    """The names of the shipped recipes."""
    return tuple(sorted(entry.name[:-5] for entry in _shipped().iterdir() if entry.name.endswith(".yaml")))


def _shipped() -> "Traversable":
    return files("trainer.training").joinpath("recipes")


def load_recipe(name: str) -> Recipe:
    """A shipped recipe by name, or a YAML file by path.

    Raises:
        InvalidConfig: there is no such recipe or file, or a field of it is missing, unknown or wrong.
    """
    if name in recipe_names():
        text = _shipped().joinpath(f"{name}.yaml").read_bytes()
    elif name.endswith((".yaml", ".yml")):
        text = _text_of(expanded(name))
    else:
        raise InvalidConfig(f"no recipe {name!r}; give a YAML file or one of {', '.join(recipe_names())}")
    return _parsed(text, name)


@lru_cache(maxsize=16)
def _parsed(text: bytes, name: str) -> Recipe:
    """A plan asks for its recipes hundreds of times."""
    try:
        content = read_plain_yaml(text)
    except NotPlainYaml as error:
        raise InvalidConfig(f"recipe {name!r} is not plain YAML: {error}") from error
    return parse_recipe(content, f"recipe {name!r}")


def _text_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_YAML_BYTES + 1)
    except OSError as error:
        names = ", ".join(recipe_names())
        raise InvalidConfig(
            f"recipe {str(path)[:200]} cannot be read ({error.strerror}); give one of {names}"
        ) from error


def parse_recipe(content: Any, what: str) -> Recipe:  # noqa: ANN401 - what a file holds
    """A recipe from plain values.

    Raises:
        InvalidConfig: a field is missing, unknown or wrong.
    """
    try:
        return validated(Recipe, content)
    except NotValid as error:
        raise InvalidConfig(f"{what}: {error}") from error
    except NotPlainYaml as error:
        raise InvalidConfig(f"{what} is not plain YAML: {error}") from error
