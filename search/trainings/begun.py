"""Weights that a training begins with, as a user names them: a file, the folder of a run, `torchvision:NAME`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from search.run_folder import LABELS, PREPROCESS, SPEC, WEIGHTS
from space.arch import MAX_SPEC_BYTES, Architecture
from space.errors import DataError
from space.paths import expanded
from trainer.data.preprocess import Preprocess
from trainer.pretrained.downloads import weights_named
from trainer.pretrained.published import Pretrained, read_pretrained

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


def _content(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); give weights whose spec can be") from error
