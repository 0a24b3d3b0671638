"""A run is one typed configuration; every default stands in configs/default.yaml beside this file."""

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from search.config.budget import top_k
from search.config.paths import network_text, whole_path, whole_weights
from search.config.present import PresentConfig
from search.config.sections import (
    BlocksConfig,
    CallableName,
    ConfigSection,
    DataConfig,
    DeviceConfig,
    DeviceName,
    EvaluatorName,
    FinalConfig,
    LimitsConfig,
    NetAdaptConfig,
    RaceConfig,
    RayConfig,
    SpaceConfig,
    StartConfig,
    TargetConfig,
    TrainingConfig,
    parse_target,
    recorded_recipe,
)
from search.config.unset import filled, merged
from search.run_folder import FOLDER_NAME
from search.trial import SUPERNET, Judge
from space.errors import InvalidConfig
from space.plain_yaml import NotPlainYaml, read_plain_yaml
from trainer.training.recipe import Recipe

NO_DATA = "none"
_FINE_TUNING = 0.2


class RunConfig(ConfigSection):
    """Everything that a search depends on."""

    name: str | None = Field(pattern=FOLDER_NAME)
    seed: int = Field(ge=0, le=2**31 - 1)
    workers: int | None = Field(ge=1, le=1024)
    trial_minutes: float = Field(gt=0)
    determinism: Literal["eager", "strict"]
    batch: int = Field(ge=1, le=1024)
    executor: Literal["local", "ray"]
    ray: RayConfig
    evaluator: EvaluatorName | None = None
    supernet: str | None = None
    supernet_hash: str | None = None
    init: str | None = None
    init_hash: str | None = None
    init_images: int | None = Field(default=None, ge=1)
    present: PresentConfig
    latency: CallableName | None = None
    plugins: str | None
    html: bool
    data: DataConfig
    space: SpaceConfig
    device: DeviceConfig
    target: TargetConfig
    targets: dict[DeviceName, str] = Field(max_length=16)
    mode: Literal["per-device", "shared"]
    limits: LimitsConfig
    training: TrainingConfig
    blocks: BlocksConfig
    race: RaceConfig
    netadapt: NetAdaptConfig
    final: FinalConfig

    @field_validator("target", mode="before")
    @classmethod
    def _target_in_short(cls, value: Any) -> Any:  # noqa: ANN401 - whatever the file says
        return parse_target(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        sizes = (self.data.resolution, self.data.channels, self.data.classes)
        if self.data.source == NO_DATA:
            if self.own_evaluator is None or None in sizes:
                raise ValueError(
                    "data.source none needs `evaluator` of your own, and data.resolution, channels and classes"
                )
            self.present.check_untested()
        elif not self.blocks.reference:
            raise ValueError("blocks.reference false is for searches without data (data.source none)")
        elif sizes[1:] != (None, None):
            raise ValueError("data.channels and data.classes are those of the data set; leave them out")
        if not self.blocks.reference and self.target.ms is None:
            raise ValueError(
                "a target relative to the reference needs blocks.reference: true; or give target: {ms: ...}"
            )
        if self.blocks.objectives and self.blocks.sampler == "evolution":
            raise ValueError(
                "sampler evolution has only one objective; choose another sampler, or leave blocks.objectives out"
            )
        if self.evaluator == SUPERNET and self.supernet is None:
            raise ValueError("evaluator supernet needs the key `supernet`; name the one that judges networks")
        if self.supernet is not None and self.evaluator != SUPERNET and not self.races:
            raise ValueError(
                f"supernet {self.supernet} is for a race, or for evaluator: supernet; blocks.trials, final.images, any "
                "key of netadapt and the like make this a search by counts: set race.rungs, or that evaluator"
            )
        if self.own_evaluator is not None and self.data.rank_by != "top1":
            raise ValueError("data.rank_by is for trainings; leave `evaluator` or data.rank_by out")
        for text in self.targets.values():
            parse_target(text)
        if self.latency is not None and self.targets:
            raise ValueError("`latency` predicts for one device; leave `targets` out")
        self._can_begin_with_weights()
        self._can_be_judged_in_turn()
        self._can_stop_early()
        self._can_race()
        is_tuned = self.final.weights == "inherited"
        batch_size = (self.fine_tuning_recipe if is_tuned else self.final_recipe).batch_size
        if self.ray.final_processes > max(1, batch_size // 2):
            raise ValueError(
                f"ray.final_processes {self.ray.final_processes} share batches of {batch_size} images: "
                "each needs two of them, for BatchNorm"
            )
        return self

    def _can_begin_with_weights(self) -> None:
        """There must be trainings, and nothing else that they begin with."""
        if self.init is None:
            if self.init_hash is not None:
                raise ValueError("init_hash is set by a search that has `init`; leave it out")
            return
        others = {"evaluator": self.evaluator, "supernet": self.supernet, "netadapt.start": self.netadapt.start}
        for name, value in others.items():
            if value is not None:
                raise ValueError(
                    f"init {self.init} is what trainings begin with, and {name} is, too; leave one of them out"
                )

    def _can_be_judged_in_turn(self) -> None:
        """Each training must be one that begins anew without a part of the images."""
        if self.data.folds in (None, 1):
            return
        chosen = f"data.folds {self.data.folds}"
        if not self.races or self.supernet is not None:
            raise ValueError(f"{chosen} is for races without a supernet; set race.rungs, or leave data.folds out")
        if self.final_processes > 1:
            raise ValueError(f"{chosen}: trainings of parts are not shared by ray.final_processes; choose one of both")

    def _can_stop_early(self) -> None:
        """Trials are compared in mid-training, on their nodes."""
        if not self.stops_early:
            return
        chosen = f"ray.scheduler {self.ray.scheduler}"
        if self.evaluator is not None:
            raise ValueError(f"{chosen} needs trainings to look at; leave `evaluator` out, or choose none")
        if self.blocks.objectives or ":" in self.blocks.reward.kind:
            raise ValueError(f"{chosen} needs a reward of ours to compare trials by; choose one, or scheduler none")
        if self.determinism == "strict":
            raise ValueError(f"{chosen} depends on who is first; choose determinism eager, or scheduler none")

    def _can_race(self) -> None:
        """A race needs trainings that can go on."""
        if self.final.weights == "continued" and not self.races:
            raise ValueError("final.weights continued goes on where a race ended; set race.rungs, or choose scratch")
        if not self.races:
            return
        last = self.race.rungs[-1]
        if not self.race.rungs[0].images and self.supernet is None:
            raise ValueError(
                "before networks have seen any images only a supernet tells them apart; name one under `supernet`, or "
                "leave the rung of 0 images out"
            )
        if self.evaluator is not None or self.netadapt.start is not None:
            raise ValueError("a race needs trainings from the beginning; leave race.rungs or `evaluator` out")
        if self.netadapt.max_steps > 0:
            raise ValueError(
                "a race ends at the target itself, and NetAdapt has no way to walk; set netadapt.max_steps: 0"
            )
        if self.final.weights == "inherited":
            raise ValueError("a race's networks are trained on or anew: choose final.weights continued or scratch")
        if self.stops_early:
            raise ValueError(
                f"a race ends trainings by itself; leave race.rungs out, or ray.scheduler {self.ray.scheduler}"
            )
        reached = self.rung_recipe(last.images)
        steps = reached.steps
        if not reached.schedule.is_settled(steps, steps):
            raise ValueError("a race needs a recipe without an end, such as proxy; change blocks.recipe")
        if self.final.weights == "continued" and not self.final_recipe.continues(reached, steps):
            raise ValueError(
                f"final.weights continued: the final recipe for {self.final.images:,} images is none that goes on from "
                f"blocks.recipe after {last.images:,} images; raise final.images, or choose scratch"
            )

    @property
    def own_evaluator(self) -> str | None:
        """The user's own function that judges networks, if there is one."""
        return None if self.evaluator == SUPERNET else self.evaluator

    @property
    def races(self) -> bool:
        """Whether the block-level search is a race."""
        return bool(self.race.rungs)

    @property
    def looks_first(self) -> bool:
        """Whether networks are judged by the weights of a supernet before any is trained."""
        return self.evaluator == SUPERNET or (self.races and not self.race.rungs[0].images)

    @property
    def trials(self) -> int:
        """How many networks the block-level search trains, at least a little."""
        return self.race.rungs[0].networks if self.races else self.blocks.trials

    @property
    def train_images(self) -> int | None:
        """The images that the block-level search trains on; None: the whole training split."""
        return None if self.races else self.blocks.train_images

    def rung_recipe(self, images: int) -> Recipe:
        """The training of the block-level search up to so many images seen."""
        return self.training.recipe(self.blocks.recipe, images)

    @property
    def judge(self) -> Judge:
        """Who ranks the networks."""
        return Judge(evaluator=self.own_evaluator, balanced=self.data.rank_by == "balanced", folds=self.folds)

    @property
    def start_recipe(self) -> Recipe | None:
        """How the reference is fine-tuned before all others begin with it and learn from it; None: they do not."""
        if self.init is None:
            return None
        return self.training.recipe(self.final.recipe, self.init_images or self.final.images)

    @property
    def folds(self) -> int:
        """In how many parts images judge networks in turn; 1: the reward split does."""
        return self.data.folds or 1

    def judged_in(self, folds: int) -> Self:
        """The same run in so many parts."""
        return self.model_copy(update={"data": self.data.model_copy(update={"folds": folds})})

    @property
    def stops_early(self) -> bool:
        """Whether trials that fall behind are stopped."""
        return self.executor == "ray" and self.ray.scheduler != "none"

    @property
    def proxy_recipe(self) -> Recipe:
        """The short training of the block-level search."""
        return self.rung_recipe(self.race.first_training.images if self.races else self.blocks.images)

    @property
    def tells_proposals_apart(self) -> bool:
        """Whether NetAdapt's steps are adaptive: only images that judged all proposals alike can tell them apart."""
        return self.netadapt.steps == "adaptive" and self.own_evaluator is None and self.data.rank_by == "top1"

    @property
    def teacher(self) -> StartConfig | None:
        """The network that others learn from, if there is one."""
        return self.netadapt.start if self.netadapt.teacher == "start" else None

    @property
    def fine_tuning_recipe(self) -> Recipe:
        """The fine-tuning of NetAdapt's proposals."""
        return self.fine_tuning(self.netadapt.images)

    def fine_tuning(self, images: int) -> Recipe:
        """The same on so many images."""
        settings, factor = self.netadapt, self.netadapt.learning_rate_factor
        if factor is None:
            # A recipe's own rates are for fine-tuning already; one that is set for all stages is for training anew.
            factor = 1.0 if self.training.learning_rate is None else _FINE_TUNING
        return self.training.recipe(settings.recipe, images, rate=factor)

    @property
    def final_recipe(self) -> Recipe:
        """The final training."""
        return self.training.recipe(self.final.recipe, self.final.images)

    @property
    def final_processes(self) -> int:
        """How many processes share a final training."""
        return self.ray.final_processes if self.executor == "ray" else 1

    @property
    def callables(self) -> tuple[str, ...]:
        """The user's own callables that a run would import."""
        named = (self.evaluator, self.latency, self.blocks.sampler, self.blocks.reward.kind)
        return tuple(name for name in named if name is not None and ":" in name)

    @property
    def seed_factor(self) -> float:
        """What the block-level search aims at, in multiples of the target; without a walk it is the target."""
        return self.blocks.seed_factor if self.netadapt.max_steps > 0 else 1.0

    @property
    def devices(self) -> dict[str, TargetConfig]:
        """The devices that one network has to serve, by name, with the target for each."""
        if not self.targets:
            return {self.device.name: self.target}
        return {name: TargetConfig(**parse_target(text)) for name, text in self.targets.items()}

    def for_device(self, name: str) -> Self:
        """The same run for one of its devices alone."""
        update = {"device": self.device.named(name), "target": self.devices[name], "targets": {}}
        return self.model_copy(update=update)

    def with_first_device(self) -> Self:
        """The same run with the device and target that all figures are in: of several the first."""
        first = next(iter(self.devices))
        return self.model_copy(update={"device": self.device.named(first), "target": self.devices[first]})

    def from_anywhere(self) -> Self:
        """The same run with its paths made absolute and its spec files read, so that it can be resumed from anywhere.

        Raises:
            InvalidArchitecture: a network to enqueue is neither a published one nor a spec file.
        """
        data, kind, preset = self.data, "imagefolder:", self.space.preset
        changes: dict[str, str] = {}
        if data.source.startswith(kind) and data.source != kind:
            changes["source"] = kind + whole_path(data.source.removeprefix(kind), "data folder")
        if data.data_dir is not None:
            changes["data_dir"] = whole_path(data.data_dir, "data folder")
        if preset is not None and preset.endswith((".yaml", ".yml")):
            preset = whole_path(preset, "search space")
        return self.model_copy(
            update={
                "plugins": whole_path(self.plugins or ".", "plugins folder") if self.callables else None,
                "supernet": None if self.supernet is None else whole_path(self.supernet, "supernet"),
                "init": None if self.init is None else whole_weights(self.init),
                "present": self.present.from_anywhere(),
                "data": data.model_copy(update=changes),
                "space": self.space.model_copy(update={"preset": preset}),
                "blocks": self.blocks.model_copy(
                    update={
                        "enqueue": tuple(map(network_text, self.blocks.enqueue)),
                        "recipe": recorded_recipe(self.blocks.recipe),
                    }
                ),
                "netadapt": self.netadapt.model_copy(update={"recipe": recorded_recipe(self.netadapt.recipe)}),
                "final": self.final.model_copy(update={"recipe": recorded_recipe(self.final.recipe)}),
            }
        )

    def scaled(self, factor: float) -> Self:
        """The same search with `factor` times the training: half of it (in logarithm) as trials, half as images.

        NetAdapt's proposals and the final training scale by their images alone.
        """
        root = factor**0.5
        if self.races:
            return self.raced(images=root, networks=root)
        blocks, netadapt, final = self.blocks, self.netadapt, self.final
        return self.model_copy(
            update={
                **self._judging_more(root, factor),
                "blocks": blocks.model_copy(
                    update={
                        "trials": _times(blocks.trials, root, 4),
                        "train_images": _times(blocks.train_images, root, 500),
                    }
                ),
                "netadapt": netadapt.model_copy(
                    update={
                        "images": _times(netadapt.images, factor, 128),
                        "most_images": netadapt.most_images and _times(netadapt.most_images, factor, 128),
                    }
                ),
                "final": final.model_copy(
                    update={"images": _times(final.images, factor, 500), "top_k": top_k(final.top_k, factor)}
                ),
            }
        )

    def raced(self, *, images: float, networks: float) -> Self:
        """The same race with so many times the images of each training, and so many times the networks on each rung."""
        race = self.race.scaled(images=images, networks=networks)
        finalists = min(self.final.top_k, race.rungs[-1].networks)
        final = self.final.model_copy(update={"images": _times(self.final.images, images, 500), "top_k": finalists})
        more = self._judging_more(images, images)
        return self.model_copy(update={**more, "race": race, "final": final})._ending_after_its_race()

    def going_on(self, rung: int, *, images: float = 1.0, networks: float = 1.0) -> Self | None:
        """The same with so many times the images and networks from this rung on, None where that is no way on.

        Behind the last rung there are so many times the finalists, and trainings are as long as they were to be.
        """
        if rung == len(self.race.rungs) and images != 1.0:
            return None
        race = self.race.going_on(rung, images=images, networks=networks)
        if race is None:
            return None
        wanted = self.final.top_k if rung < len(race.rungs) else max(1, round(self.final.top_k * networks))
        final = self.final.model_copy(
            update={
                "images": max(race.rungs[-1].images + 1, round(self.final.images * images)),
                "top_k": min(wanted, race.rungs[-1].networks),
            }
        )
        return self.model_copy(update={"race": race, "final": final})._ending_after_its_race()

    def _judging_more(self, images: float, minutes: float) -> dict[str, Any]:
        """So many times the images that judge networks, and where trials take longer so many times their limit."""
        judging = self.data.model_copy(update={"reward_images": _times(self.data.reward_images, images, 500)})
        return {"data": judging, "trial_minutes": self.trial_minutes * max(1.0, minutes)}

    def _ending_after_its_race(self) -> Self:
        """The same with a final training that is long enough to go on from the last rung, whatever rounding did."""
        if not self.races or self.final.weights != "continued":
            return self
        last = self.rung_recipe(self.race.rungs[-1].images)
        recipe = self.final_recipe
        while not recipe.continues(last, last.steps):
            recipe = replace(recipe, images=recipe.images + last.batch_size)
        return self.model_copy(update={"final": self.final.model_copy(update={"images": recipe.images})})


def _times(amount: int, by: float, least: int) -> int:
    """So many times an amount; below `least` nothing can be told apart, and who asks for less in the file gets it."""
    return max(min(amount, least), round(amount * by))


def default_text() -> str:
    """The shipped default configuration with its comments."""
    return files("search.config").joinpath("default.yaml").read_text(encoding="utf-8")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = read_plain_yaml(path.read_bytes()) or {}
    except OSError as error:
        raise InvalidConfig(f"config {path} cannot be read: {error.strerror}; give the path of a YAML file") from error
    except NotPlainYaml as error:
        raise InvalidConfig(f"config {path} is not plain YAML: {error}") from error
    if not isinstance(content, dict):
        raise InvalidConfig(f"config {path} must hold keys and values, got {type(content).__name__}")
    return content


def parse_config(content: dict[str, Any]) -> RunConfig:
    """A configuration from plain values, complete or not; what is left out is the default.

    Raises:
        InvalidConfig: a key is unknown, or a value has the wrong type or lies outside its range.
    """
    whole = filled(read_plain_yaml(default_text()), content)
    try:
        return RunConfig.model_validate(whole)
    except ValidationError as error:
        raise InvalidConfig(f"config{_told(error.errors()[0], whole)}; see: mobilenas config show") from error


def _told(mistake: ErrorDetails, content: dict[str, Any]) -> str:
    """A mistake in words, with the key where it lies."""
    *path, last = mistake["loc"] or (None,)
    if last is None:
        return f": {mistake['msg'].removeprefix('Value error, ')}"
    where = f" key {'.'.join(map(str, mistake['loc']))}: "
    if mistake["type"] == "extra_forbidden":
        for key in path:
            content = content[str(key)]
        near = get_close_matches(str(last), (str(key) for key in content if key != last), n=1)
        return f"{where}there is no such key{''.join(f'; did you mean {key}?' for key in near)}"
    message = mistake["msg"].removeprefix("Value error, ")
    got = mistake["input"]
    try:
        shown = repr(got)
    except ValueError:  # thousands of digits
        shown = "a number without end"
    return f"{where}{message}" + ("" if isinstance(got, dict) or shown in message else f", got {shown[:200]}")


def load_config(source: str | Path | Mapping[str, Any] | None, overrides: dict[str, Any] | None = None) -> RunConfig:
    """The default configuration, the changes of a file or a mapping to it, and overrides, in this order.

    Raises:
        InvalidConfig: see `parse_config`; or the file cannot be read or is not YAML.
    """
    path = Path(source) if isinstance(source, str | Path) else None
    content = _read_yaml(path) if path else dict(source) if isinstance(source, Mapping) else {}
    config = parse_config(merged(content, overrides or {}))
    if path is not None and config.callables and config.plugins is None:
        return config.model_copy(update={"plugins": str(path.parent)})  # they lie beside the file that names them
    return config
