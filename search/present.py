"""A model from elsewhere: any ONNX file that classifies pictures, as what a user has at present, or to learn from."""

import hashlib
import json
import time
import unicodedata
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np

from latency import probe
from latency.kit import OtherModel
from latency.network import read_graph
from latency.probe import Runtime
from search.config.present import IMAGENET_NAME, PresentConfig
from search.run_folder import MODEL, RunFolder
from space.arch import MAX_RESOLUTION
from space.errors import DataError, RunError
from space.paths import expanded
from trainer.data.prepare import printable
from trainer.data.preprocess import IMAGENET, Preprocess, normalise
from trainer.training.weight_files import write_whole

NAME = "present"
"""What it is called among the networks that are measured side by side."""
_MAX_TEXT = 50_000_000
_TIMED = 3
_LONGEST = 100
"""Letters of a name."""
_FLOAT = "tensor(float)"
# Of a picture's four dimensions, the place of its channels.
_CHANNELS_FIRST, _CHANNELS_LAST = 1, 3


@dataclass(frozen=True)
class Role:
    """What messages call a model, and how the options of the command begin that say more of it."""

    title: str
    option: str


PRESENT = Role("present model", "--baseline")
TEACHER = Role("teacher", "--teacher")


@dataclass(frozen=True)
class _Who:
    """A model in a role, as messages call it."""

    name: str
    role: Role

    @property
    def option(self) -> str:
        return self.role.option

    def __str__(self) -> str:
        return f"{self.role.title} {self.name}"


@dataclass(frozen=True, kw_only=True)
class PresentModel:
    """What it is called, its ONNX file, its classes in the order of its outputs, and how it takes pictures."""

    name: str
    graph: bytes
    labels: tuple[str, ...]
    preprocess: Preprocess
    role: Role = PRESENT

    @classmethod
    def named(cls, config: PresentConfig, role: Role = PRESENT) -> Self:
        """The one that a user names, ready to be asked.

        Raises:
            DataError: it cannot be read or run, is no classifier of pictures, or its labels or preprocessing are
                nowhere said.
        """
        assert config.model is not None, "a model is named"
        path = expanded(config.model)
        path = path / MODEL if path.is_dir() else path
        graph, name = read_graph(path), printable(path.name).replace("|", "/")[:_LONGEST]  # | ends a table's cell
        who = _Who(name, role)
        with TemporaryDirectory() as alone:  # where no other file lies beside it, as on a device
            copy = Path(alone) / "present.onnx"
            copy.write_bytes(graph)
            session = _session(who, str(copy))
        metadata = session.get_modelmeta().custom_metadata_map
        found = cls(
            name=name,
            graph=graph,
            labels=_labels(who, config.labels, metadata),
            preprocess=_preprocess(who, config.preprocess, metadata, _side_of(who, session)),
            role=role,
        )
        if not np.isfinite(found.probabilities(found.blank)).all():
            raise DataError(f"{who} answers a black picture with what is no number; give another one")
        return found

    @classmethod
    def stored(cls, files: RunFolder, sha256: str) -> Self:
        """The one that a search keeps a copy of.

        Raises:
            RunError: that is not there, or another one.
        """
        try:
            graph = files.present_model.read_bytes()
            facts = json.loads(files.present_facts.read_text(encoding="utf-8"))
            found = cls(
                name=printable(str(facts["name"]))[:_LONGEST],
                graph=graph,
                labels=tuple(map(str, facts["labels"])),
                preprocess=Preprocess.from_plain(facts["preprocess"]),
            )
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise RunError(
                f"the copy of the present model in {files.path} cannot be read ({error}); restore it"
            ) from error
        if found.sha256 != sha256:
            raise RunError(f"{files.present_model} is not the model that the search began with ({sha256}); restore it")
        return found

    def store(self, files: RunFolder) -> None:
        """Keep a copy."""
        facts = {"name": self.name, "labels": self.labels, "preprocess": asdict(self.preprocess)}
        write_whole(files.present_facts, json.dumps(facts).encode())
        write_whole(files.present_model, self.graph)

    @cached_property
    def sha256(self) -> str:
        """Of the ONNX file, in hexadecimal."""
        return hashlib.sha256(self.graph).hexdigest()

    @property
    def blank(self) -> np.ndarray:
        """A black picture: uint8 C x R x R."""
        side = self.preprocess.resolution
        return np.zeros((len(self.preprocess.mean), side, side), dtype=np.uint8)

    @cached_property
    def seconds(self) -> float:
        """About how long it takes for one picture on this machine."""
        self.probabilities(self.blank)
        started = time.perf_counter()
        for _ in range(_TIMED):
            self.probabilities(self.blank)
        return (time.perf_counter() - started) / _TIMED

    def as_measured(self) -> OtherModel:
        """As it is measured beside the networks of a search."""
        return OtherModel(graph=self.graph, shape=self._as_input(self.blank).shape)

    def order_of(self, classes: Sequence[str]) -> np.ndarray:
        """The place among its outputs of each class of a data set, int64.

        Raises:
            DataError: it knows other classes.
        """
        mine = {unicodedata.normalize("NFC", label): place for place, label in enumerate(self.labels)}
        if set(mine) != set(classes):
            alone = [
                f"only {whose} {', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''}"
                for whose, names in (("it has", set(mine) - set(classes)), ("the data have", set(classes) - set(mine)))
                if names
            ]
            raise DataError(
                f"{self._who} knows {len(mine)} classes, the data have {len(classes)} "
                f"({'; '.join(alone)}); give one of the same classes, or its labels in the order of its outputs "
                f"({self.role.option}-labels)"
            )
        return np.array([mine[name] for name in classes])

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """The probability of each of its classes for one picture, uint8 C x R x R; float64, which may not be finite.

        Raises:
            DataError: it takes no such picture, or does not answer with a number for each class.
        """
        return self.probabilities_of_normalised(normalise(image[None], self.preprocess)[0])

    def probabilities_of_normalised(self, image: np.ndarray) -> np.ndarray:
        """The same for a picture that is normalised as it takes them, float32 C x R x R."""
        feed = {_input(self._session).name: _arranged(image[None], self._channels)}
        answers = _run(self._who, self._session, feed, self.preprocess.resolution)
        answer = _answer_for_classes(self._who, answers, len(self.labels)).astype(np.float64)
        if np.all(answer >= 0) and abs(answer.sum() - 1) < 1e-3:  # it has its softmax inside
            return answer
        shifted = np.exp(answer - answer.max())
        return np.asarray(shifted / shifted.sum())

    @property
    def _who(self) -> _Who:
        return _Who(self.name, self.role)

    @cached_property
    def _session(self) -> Any:  # noqa: ANN401 - ONNX Runtime has no public type for it
        return _session(self._who, self.graph)

    @cached_property
    def _channels(self) -> int:
        """Their place in its input; where its sides are all open, one that it runs with."""
        shape, side = _input(self._session).shape, self.preprocess.resolution
        possible = _places_of_channels(self._who, shape, len(self.preprocess.mean), side)
        for place in possible[:-1]:
            feed = {_input(self._session).name: _arranged(normalise(self.blank[None], self.preprocess), place)}
            with suppress(DataError):
                _run(self._who, self._session, feed, side)
                return place
        return possible[-1]

    def _as_input(self, image: np.ndarray) -> np.ndarray:
        return _arranged(normalise(image[None], self.preprocess), self._channels)


def _arranged(batch: np.ndarray, channels: int) -> np.ndarray:
    return batch if channels == _CHANNELS_FIRST else np.ascontiguousarray(np.moveaxis(batch, 1, channels))


def _run(who: _Who, session: Any, feed: dict[str, np.ndarray], side: int) -> list[np.ndarray]:  # noqa: ANN401 - ONNX Runtime has no public type for it
    try:
        return [np.asarray(output) for output in session.run(None, feed)]
    except Exception as error:  # onnxruntime raises many kinds
        raise DataError(
            f"{who} fails on a picture of {side} px ({_first(error)}); say how it takes pictures "
            f"({who.option}-preprocess)"
        ) from error


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _input(session: Any) -> Any:  # noqa: ANN401 - likewise
    return session.get_inputs()[0]


def _session(who: _Who, graph: bytes | str) -> Any:  # noqa: ANN401 - likewise
    """A session with one picture as its input."""
    try:
        session = probe.session_of(graph, Runtime())
    except Exception as error:  # onnxruntime raises many kinds on damaged files
        raise DataError(
            f"{who} cannot be run by ONNX Runtime ({_first(error)}); give an ONNX file that holds all "
            "of its weights (torch.onnx.export: external_data=False)"
        ) from error
    inputs = session.get_inputs()
    if len(inputs) != 1:
        named = ", ".join(each.name for each in inputs[:4])
        raise DataError(f"{who} has {len(inputs)} inputs ({named}); give one that takes one picture")
    (entry,) = inputs
    if entry.type != _FLOAT or len(entry.shape) != 4 or (isinstance(entry.shape[0], int) and entry.shape[0] != 1):
        raise DataError(
            f"{who} takes {entry.type} of shape {entry.shape}; give one that takes one picture at a "
            "time as float32, such as 1x3x224x224"
        )
    return session


def _places_of_channels(who: _Who, shape: list[Any], channels: int, side: int) -> list[int]:
    possible = []
    for place in (_CHANNELS_FIRST, _CHANNELS_LAST):
        wanted = [1, side, side, side]
        wanted[place] = channels
        if all(found == size for found, size in zip(shape, wanted, strict=True) if isinstance(found, int)):
            possible.append(place)
    if possible:
        return possible
    raise DataError(
        f"{who} takes pictures of shape {shape}, which its preprocessing to {channels} channels of "
        f"{side} x {side} px does not make; name another one ({who.option}-preprocess)"
    )


def _side_of(who: _Who, session: Any) -> int | None:  # noqa: ANN401 - likewise
    """The side of the pictures that a model takes, px, where it is fixed."""
    sides = [side for side in _input(session).shape[1:] if isinstance(side, int)]
    if max(sides, default=0) > MAX_RESOLUTION:
        raise DataError(f"{who} takes pictures of {max(sides)} px; at most {MAX_RESOLUTION} are accepted")
    return max(sides) if len(sides) > 1 else None


def _answer_for_classes(who: _Who, answers: Sequence[np.ndarray], classes: int) -> np.ndarray:
    # Of several such as logits and probabilities the first: their order is the same.
    fitting = [each.reshape(-1) for each in answers if each.dtype.kind == "f" and each.size == classes]
    if not fitting:
        sizes = ", ".join("x".join(map(str, each.shape)) for each in answers)
        raise DataError(
            f"{who} answers with {sizes}, where one number for each of its {classes} labels is wanted; "
            f"give a classifier, or its labels in the order of its outputs ({who.option}-labels)"
        )
    return fitting[0]


def _text(named: str) -> str:
    try:
        with expanded(named).open("rb") as file:
            content = file.read(_MAX_TEXT + 1)
    except OSError as error:
        raise DataError(f"{named} cannot be read ({error.strerror or error}); name another file") from error
    if len(content) > _MAX_TEXT:
        raise DataError(f"{named} has more than {_MAX_TEXT:,} bytes; name another file")
    return content.decode("utf-8-sig", "replace")


def _labels(who: _Who, named: str | None, metadata: dict[str, str]) -> tuple[str, ...]:
    if named is not None:
        labels: Any = [line.strip() for line in _text(named).splitlines() if line.strip()]
    elif "labels" in metadata:
        try:
            labels = json.loads(metadata["labels"])
        except (ValueError, RecursionError):
            labels = None
    else:
        raise DataError(
            f"{who} does not say what its classes are; name a text file with the class of each of its "
            f"outputs, a line each ({who.option}-labels)"
        )
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"the labels in the metadata of {who} are no list of names; name them ({who.option}-labels)")
    twice = [label for label, count in Counter(labels).most_common(1) if count > 1]
    if twice or len(labels) < 2:
        said = f"names {twice[0]!r} twice" if twice else f"has {len(labels)} labels"
        raise DataError(f"{who} {said}; each class needs a name of its own ({who.option}-labels)")
    return tuple(labels)


def _preprocess(who: _Who, named: str | None, metadata: dict[str, str], fixed: int | None) -> Preprocess:
    if named == IMAGENET_NAME:
        side = fixed or IMAGENET.resolution
        resize = round(side * IMAGENET.resize / IMAGENET.crop)
        return replace(IMAGENET, resolution=side, crop=side, resize=resize)
    if named is not None:
        return Preprocess.from_json(_text(named))
    if "preprocess" in metadata:
        return Preprocess.from_json(metadata["preprocess"])
    raise DataError(
        f"{who} does not say how it takes pictures; say so ({who.option}-preprocess): {IMAGENET_NAME}, or "
        "a file like the preprocess.json that searches export"
    )
