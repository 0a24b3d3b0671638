"""Weights that trainings begin with, as a user names them: a file, the folder of a run, `torchvision:NAME`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from search.config.load import RunConfig
from search.config.sections import SpaceConfig
from search.run_folder import LABELS, PREPROCESS, SPEC, WEIGHTS
from space.arch import MAX_SPEC_BYTES, Architecture
from space.choices import SearchSpace
from space.errors import DataError, InvalidArchitecture, InvalidConfig
from space.paths import expanded
from space.preset import load_preset, preset_names
from trainer.data.dataset import Dataset
from trainer.data.preprocess import Preprocess
from trainer.pretrained.downloads import weights_named
from trainer.pretrained.fitting import architecture_for, difference_from, fitted
from trainer.pretrained.published import Pretrained, read_pretrained
from trainer.training.inherit import check_comparable, with_epsilon
from trainer.training.networks import Weights

# Where no space is named: the one that photos have without weights, too.
_FOR_PHOTOS = "mobilenet-v3-small"
_FOR_IMAGENET = {
    "mobilenet_v2": "torchvision:mobilenet_v2",
    "mobilenet_v3_small": "torchvision:mobilenet_v3_small",
    "mobilenet_v3_large": "torchvision:mobilenet_v3_large",
    "mnasnet_a1": "timm:semnasnet_100",
}
_MAX_PREPROCESS_BYTES, _MAX_LABELS_BYTES = 100_000, 50_000_000


def begin_with(
    named: str, *, epsilon: float | None = None, spec: Architecture | None = None, tell: Callable[[str], None] = print
) -> Pretrained:
    """The network in a file, in a folder that `mobilenas` has exported to, or that was published under a name.

    `tell` hears what is downloaded, which nothing is but by its name. Of our own files the spec and the preprocessing
    are taken that lie beside them; `spec` is that where there is none.

    Raises:
        DataError: see `read_pretrained`; or what lies beside it cannot be read.
        InvalidArchitecture: the spec beside it is none.
    """
    path = expanded(weights_named(named, tell))
    file = path / WEIGHTS if path.is_dir() else path
    beside, preprocess = file.with_name(SPEC), file.with_name(PREPROCESS)
    if beside.exists():
        spec = Architecture.from_json(_content(beside, MAX_SPEC_BYTES))
    known = Preprocess.from_json(_content(preprocess, _MAX_PREPROCESS_BYTES)) if preprocess.exists() else None
    found = read_pretrained(file, epsilon=epsilon, spec=spec, preprocess=known)
    labels = file.with_name(LABELS)
    if found.dialect != "mobilenas" or not labels.exists():
        return found
    classes = tuple(_content(labels, _MAX_LABELS_BYTES).decode("utf-8", "replace").splitlines())
    return replace(found, classes=classes if len(classes) == found.architecture.num_classes else None)


def published_for(space: SpaceConfig) -> str:
    """The name of the weights for ImageNet that are published of a space's reference.

    Raises:
        InvalidConfig: none are known.
    """
    preset, width = space.preset or _FOR_PHOTOS, 1.0 if space.width is None else space.width
    reference = load_preset(preset).reference
    named = _FOR_IMAGENET.get(reference) if width == 1 else None
    if named is None:
        raise InvalidConfig(
            f"config key init: no weights for ImageNet are known of {reference} at width {width:g}, the reference of "
            f"space '{preset}'; name a file of some, or one of the spaces "
            + ", ".join(name for name in preset_names() if load_preset(name).reference in _FOR_IMAGENET)
        )
    return named


def with_space_around(config: RunConfig, begun: Pretrained) -> RunConfig:
    """The same search in the space that surrounds the network of its weights, where it names no other.

    Raises:
        InvalidConfig: there is none.
    """
    preset, width = config.space.preset, config.space.width
    if preset is None:
        preset = next((name for name in _by_preference() if load_preset(name).reference == begun.network), None)
        if preset is None:
            network = begun.network or f"architecture {begun.architecture.arch_id}"
            raise InvalidConfig(
                f"config key init: {config.init} is of {network}, around which there is no space; narrow that network "
                "instead (mobilenas netadapt --init), or name a space with that reference"
            )
    width = (begun.width or 1.0) if width is None else width
    return config.model_copy(update={"space": SpaceConfig(preset=preset, width=width)})


def _by_preference() -> list[str]:
    """Of two spaces around one network that of Once-for-All, whose heads are otherwise, comes last."""
    return sorted(preset_names(), key=lambda name: name.startswith("ofa"))


def initial_weights(begun: Pretrained, config: RunConfig, dataset: Dataset, space: SearchSpace) -> Weights:
    """Those of a space's reference for some data, with a new classifier where the classes are others.

    Raises:
        InvalidConfig: they are of another network than that, or the space's networks have another form.
        DataError: pictures have other channels.
    """
    reference, preprocess = space.reference, dataset.preprocess
    if (difference := difference_from(begun, reference)) is not None:
        raise InvalidConfig(
            f"config key init: {config.init} is of another network than the reference of space "
            f"'{space.preset.name}' at width {space.width:g}, where {difference}; leave the space out, or name the "
            "weights of its reference"
        )
    try:
        check_comparable(reference, space.smallest)
    except InvalidArchitecture as error:
        raise InvalidConfig(
            f"config key init: networks of space '{space.preset.name}' have not the form of its reference: {error}"
        ) from error
    arch = architecture_for(begun, preprocess, len(dataset.classes), reference)
    weights = fitted(begun, arch, preprocess, dataset.classes, config.training.seed)
    return with_epsilon(weights, arch.batch_norm_epsilon, reference.batch_norm_epsilon)


def can_begin(arch: Architecture, reference: Architecture) -> bool:
    """Whether a network shares anything with the reference."""
    try:
        check_comparable(reference, arch)
    except InvalidArchitecture:
        return False
    return True


def _content(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); give weights whose spec can be") from error
