"""A run is one typed configuration; every default stands in configs/default.yaml beside this file."""

import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from latency.probe import Protocol
from search.reward import HARD, Reward, soft
from space.arch import Architecture
from space.choices import SearchSpace
from space.errors import InvalidConfig
from space.formats import read_spec_file
from space.plain_yaml import NotPlainYaml, read_plain_yaml
from space.reference import REFERENCES
from trainer.train import Recipe


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DataConfig(_Section):
    """Which images, and how the training split is divided."""

    source: str
    data_dir: str | None
    resolution: int | None = Field(ge=8, le=2048)
    reward_fraction: float = Field(gt=0, lt=0.9)
    reward_images: int = Field(ge=1)
    split_seed: int = Field(ge=0)


class SpaceConfig(_Section):
    """A shipped preset or a YAML file, at a width multiplier."""

    preset: str
    width: float = Field(ge=0.05, le=4)


class DeviceConfig(_Section):
    """The device and how its table is measured."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    threads: int | None = Field(ge=1, le=256)
    rounds: int = Field(ge=3, le=1000)
    warm_runs: int = Field(ge=1, le=1000)
    precision: float = Field(gt=0, le=10)
    minutes: float | None = Field(gt=0)

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


class TargetConfig(_Section):
    """The final latency target: a share of the reference's latency, or milliseconds."""

    relative: float | None = Field(default=None, gt=0, le=10)
    ms: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.relative is None) == (self.ms is None):
            raise ValueError("give either `relative` or `ms`")
        return self

    def in_ms(self, reference_ms: float) -> float:
        """The target in ms."""
        return self.ms if self.ms is not None else (self.relative or 1.0) * reference_ms


class RewardConfig(_Section):
    """MnasNet reward; `exponent` is for the soft kind, null takes the one that the space's paper used."""

    kind: Literal["hard", "soft"]
    exponent: float | None = Field(ge=-10, le=0)

    def reward(self, space_exponent: float) -> Reward:
        """The reward function."""
        if self.kind == "hard":
            return HARD
        return soft(space_exponent if self.exponent is None else self.exponent)


class TrainingConfig(_Section):
    """How networks are trained; the same in every stage but for the number of images and the learning rate."""

    batch_size: int = Field(ge=2, le=4096)
    learning_rate: float = Field(gt=0, le=10)
    weight_decay: float = Field(ge=0, le=1)
    label_smoothing: float = Field(ge=0, lt=1)
    shift: float = Field(ge=0, le=0.5)
    flip: bool

    def recipe(self, images: int, *, rate: float = 1.0) -> Recipe:
        """The recipe for so many images seen, with the learning rate times `rate`."""
        return Recipe(
            images=images,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate * rate,
            weight_decay=self.weight_decay,
            label_smoothing=self.label_smoothing,
            shift=self.shift,
            flip=self.flip,
        )


class BlocksConfig(_Section):
    """The block-level search: `trials` trained networks, each on the proxy task."""

    trials: int = Field(ge=1, le=1_000_000)
    sampler: Literal["tpe", "random"]
    seed_factor: float = Field(ge=1, le=4)
    tolerance: float = Field(ge=0, le=1)
    reward: RewardConfig
    train_images: int = Field(ge=1)
    epochs: float = Field(gt=0, le=1000)
    # Names of published networks, spec files, or (in a record) the specs themselves.
    enqueue: tuple[str, ...] = Field(max_length=64, strict=False)

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


class NetAdaptConfig(_Section):
    """The layer-wise refinement."""

    delta: float = Field(gt=0, lt=0.5)
    walk: float = Field(ge=0, le=4)
    images: int = Field(ge=1)
    learning_rate_factor: float = Field(gt=0, le=1)
    max_steps: int = Field(ge=1, le=10_000)


class FinalConfig(_Section):
    """The final training of the found network and of the reference."""

    images: int = Field(ge=1)


class RunConfig(_Section):
    """Everything that a search depends on."""

    name: str | None = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    seed: int = Field(ge=0, le=2**31 - 1)
    workers: int | None = Field(ge=1, le=1024)
    trial_minutes: float = Field(gt=0)
    data: DataConfig
    space: SpaceConfig
    device: DeviceConfig
    target: TargetConfig
    training: TrainingConfig
    blocks: BlocksConfig
    netadapt: NetAdaptConfig
    final: FinalConfig

    def from_anywhere(self) -> Self:
        """The same run with its paths made absolute and its spec files read, so that it can be resumed from anywhere.

        Raises:
            InvalidArchitecture: a network to enqueue is neither a published one nor a spec file.
        """
        data, kind, preset = self.data, "imagefolder:", self.space.preset
        changes: dict[str, str] = {}
        if data.source.startswith(kind):
            changes["source"] = f"{kind}{Path(data.source.removeprefix(kind)).expanduser().absolute()}"
        if data.data_dir is not None:
            changes["data_dir"] = str(Path(data.data_dir).expanduser().absolute())
        if preset.endswith((".yaml", ".yml")):
            preset = str(Path(preset).expanduser().absolute())
        return self.model_copy(
            update={
                "data": data.model_copy(update=changes),
                "space": self.space.model_copy(update={"preset": preset}),
                "blocks": self.blocks.model_copy(update={"enqueue": tuple(map(_read_network, self.blocks.enqueue))}),
            }
        )

    def scaled(self, factor: float) -> Self:
        """The same search with `factor` times the training: half of it (in logarithm) as trials, half as images.

        NetAdapt's proposals and the final training scale by their images alone.
        """
        root = factor**0.5
        data, blocks, netadapt, final = self.data, self.blocks, self.netadapt, self.final

        def times(amount: int, by: float, least: int) -> int:
            # Below `least` nothing can be told apart; who asks for less in the file gets it.
            return max(min(amount, least), round(amount * by))

        return self.model_copy(
            update={
                "trial_minutes": self.trial_minutes * max(1.0, factor),
                "data": data.model_copy(update={"reward_images": times(data.reward_images, root, 500)}),
                "blocks": blocks.model_copy(
                    update={
                        "trials": times(blocks.trials, root, 4),
                        "train_images": times(blocks.train_images, root, 500),
                    }
                ),
                "netadapt": netadapt.model_copy(update={"images": times(netadapt.images, factor, 128)}),
                "final": final.model_copy(update={"images": times(final.images, factor, 500)}),
            }
        )


BUDGETS = {"quick": 0.2, "default": 1.0, "thorough": 8.0}
"""Named budgets as multiples of the shipped configuration's training."""


def budget_hours(budget: str) -> float | None:
    """The hours that a budget like "4h" or "30m" names, or None for a named one.

    Raises:
        InvalidConfig: it is neither.
    """
    if budget in BUDGETS:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(h|m)", budget)
    if match is None or not 0 < (hours := float(match[1]) / (60 if match[2] == "m" else 1)) <= 24 * 365:
        raise InvalidConfig(f"budget {budget!r} is none of {', '.join(BUDGETS)} and no time such as 4h or 30m")
    return hours


def _read_network(named: str) -> str:
    """A published network's name as it is, a spec file as its canonical JSON."""
    if named in REFERENCES or named.startswith("{"):
        return named
    return read_spec_file(Path(named)).to_json()


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` over `base`, section by section; `target` is replaced whole, since its two forms exclude each other."""
    result = dict(base)
    for key, value in changes.items():
        deeper = isinstance(value, dict) and isinstance(base.get(key), dict) and key != "target"
        result[key] = _merged(base[key], value) if deeper else value
    return result


def default_text() -> str:
    """The shipped default configuration with its comments."""
    return files("search").joinpath("configs", "default.yaml").read_text()


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = read_plain_yaml(path.read_bytes()) or {}
    except OSError as error:
        raise InvalidConfig(f"config {path} cannot be read: {error.strerror}; give the path of a YAML file") from error
    except NotPlainYaml as error:
        raise InvalidConfig(f"config {path} is not YAML as it is read here: {error}") from error
    if not isinstance(content, dict):
        raise InvalidConfig(f"config {path} must hold keys and values, got {type(content).__name__}")
    return content


def parse_config(content: dict[str, Any]) -> RunConfig:
    """A configuration from plain values, complete or not; what is left out is the default.

    Raises:
        InvalidConfig: a key is unknown, or a value has the wrong type or lies outside its range.
    """
    try:
        return RunConfig.model_validate(_merged(read_plain_yaml(default_text()), content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        got = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
        raise InvalidConfig(f"config key {where}: {message}{got}; see: mobilenas config show") from error


def load_config(path: Path | None, overrides: dict[str, Any] | None = None) -> RunConfig:
    """The default configuration, a file's changes to it, and overrides from the command line, in this order.

    Raises:
        InvalidConfig: see `parse_config`; or the file cannot be read or is not YAML.
    """
    return parse_config(_merged(_read_yaml(path) if path else {}, overrides or {}))
