"""The command `evaluate`: how good an exported network is on pictures, class by class."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from rich.progress import track

from search.stages.exported import ExportedNetwork
from service.commands.networks.matrix import check_matrix_name, write_matrix
from service.terminal.console import console, say
from service.terminal.rows import Format, show
from space.errors import DataError
from trainer.data.contact_sheet import check_sheet_name, draw_captioned
from trainer.data.dataset import TEST
from trainer.data.imagefolder import find_pictures, hold_out
from trainer.data.pictures import load_picture, small_picture
from trainer.data.prepare import IMAGE_FOLDER, as_picture, image_folder, prepare, told_damaged
from trainer.data.splits import split
from trainer.training.metrics import balanced_accuracy, calibration_error, confusion_matrix, wilson_interval

SHOWN_CONFUSIONS = 10
SHOWN_WORST, _SEEN_SIDE = 40, 288
Item = TypeVar("Item")
_TYPES: dict[str, type] = {
    "class": str,
    "images": int,
    "recall": float,
    "precision": float,
    "mostly_taken_for": str,
    "times": int,
}


@dataclass(slots=True, kw_only=True)
class _Judged:
    """Labels and predictions, as indices into the network's classes, how sure it was, and what the data had besides.

    `picture` is for a person to see, by its place among them.
    """

    labels: list[int]
    predicted: list[int]
    confidences: list[float]
    picture: Callable[[int], Image.Image]
    part: str
    notes: list[str]


def evaluate(
    run: Path,
    data: str,
    data_dir: Path | None,
    *,
    everything: bool,
    skip_damaged: bool,
    form: Format,
    out: Path | None,
    matrix: Path | None,
    worst: Path | None,
) -> None:
    """Print top-1 with its interval, the figures of each class, and the worst confusions, from the ONNX file."""
    if matrix is not None:
        check_matrix_name(matrix)
    if worst is not None:
        check_sheet_name(worst)
    exported = ExportedNetwork(run)
    if data.startswith(IMAGE_FOLDER):
        judged = _photos(exported, image_folder(data), everything=everything, skip_damaged=skip_damaged)
    else:
        judged = _known(exported, data, data_dir, everything=everything)
    if not judged.labels:
        raise DataError(
            f"{judged.part} of {data} has no pictures of the network's classes; "
            + ("give others" if everything else "use all of them with --all")
        )
    counts = confusion_matrix(np.array(judged.labels), np.array(judged.predicted), len(exported.labels))
    if matrix is not None:
        write_matrix(counts, exported.labels, matrix)
    rows = list(_per_class(counts, exported.labels))
    if form != "table":
        show("classes", rows, form, shown=_TYPES, types=_TYPES, out=out)
        if worst is not None:
            _draw_worst(judged, exported.labels, worst)
        return
    _summarise(counts, judged, data, exported.temperature)
    shown = [{**row, **{name: _percent(row[name]) for name in ("recall", "precision")}} for row in rows]
    show("per class", shown, form, shown=_TYPES, types=_TYPES, out=out)
    _show_confusions(counts, exported.labels)
    if matrix is not None:
        say(f"confusion matrix: {matrix}")
    if worst is not None:
        drawn = _draw_worst(judged, exported.labels, worst)
        say(f"the pictures that it is most surely wrong about: {worst}" if drawn else "it is wrong about no picture")


def _draw_worst(judged: _Judged, labels: Sequence[str], path: Path) -> bool:
    """The pictures whose wrong answer the network is surest of, the surest first; whether there are any."""
    wrong = [each for each in range(len(judged.labels)) if judged.labels[each] != judged.predicted[each]]
    surest = sorted(wrong, key=lambda each: -judged.confidences[each])[:SHOWN_WORST]
    captions = [
        f"{labels[judged.labels[each]]}\ntaken for {labels[judged.predicted[each]]} ({judged.confidences[each]:.0%})"
        for each in surest
    ]
    pictures = map(judged.picture, surest)
    if surest:
        draw_captioned(list(zip(pictures, captions, strict=True)), path)
    return bool(surest)


def _known(exported: ExportedNetwork, data: str, data_dir: Path | None, *, everything: bool) -> _Judged:
    """One of the data sets that have a name, which have the classes that they have."""
    dataset = prepare(data, resolution=exported.preprocess.resolution, data_dir=data_dir)
    if list(dataset.classes) != exported.labels:
        raise DataError(
            f"data set {data} has other classes than the network: {_differences(dataset.classes, exported.labels)}; "
            "give data with the same classes"
        )
    if dataset.preprocess.channels != exported.preprocess.channels:
        raise DataError(
            f"data set {data} has {dataset.preprocess.channels} images, but the network takes "
            f"{exported.preprocess.channels}; give data of the same kind"
        )
    images, labels = dataset.images(), np.asarray(dataset.labels())
    chosen = np.arange(len(labels)) if everything else split(dataset).test
    probabilities = [exported.probabilities(images[index]) for index in _tracked(chosen.tolist())]
    part = "all splits" if everything else "the test split"
    return _Judged(
        labels=labels[chosen].tolist(),
        predicted=[int(each.argmax()) for each in probabilities],
        confidences=[float(each.max()) for each in probabilities],
        picture=lambda place: as_picture(images[chosen[place]]),
        part=part,
        notes=[],
    )


def _photos(exported: ExportedNetwork, root: Path, *, everything: bool, skip_damaged: bool) -> _Judged:
    """A person's own photos, of the classes that are there and that the network knows."""
    labels = [unicodedata.normalize("NFC", label) for label in exported.labels]
    splits, left_out = find_pictures(root)
    damaged: dict[Path, str] = {}
    if not everything and TEST not in splits:
        splits = {role: _sound(classes, exported, damaged) for role, classes in splits.items()}
        _refuse_damaged(damaged, skip_damaged=skip_damaged)
    chosen = list(_chosen(splits, labels, everything=everything))
    found = {name for classes in splits.values() for name, files in classes.items() if files}
    if not found & set(labels):
        raise DataError(
            f"no class of {root} is one of the network's: {_differences(sorted(found), labels)}; give data with its "
            "classes"
        )
    notes = [f"not used: {', '.join(left_out)}"] if left_out else []
    if unknown := sorted(found - set(labels)):
        notes.append(f"not counted, as the network does not know them: {', '.join(unknown)}")
    judged_labels = {label for label, _ in chosen}
    if missing := [name for label, name in enumerate(labels) if label not in judged_labels]:
        notes.append(f"classes of the network without a picture here: {', '.join(missing)}")
    part = "all pictures" if everything else "the test split"
    files: list[Path] = []
    judged = _Judged(
        labels=[],
        predicted=[],
        confidences=[],
        picture=lambda place: small_picture(files[place], _SEEN_SIDE),
        part=part,
        notes=notes,
    )
    for label, path in _tracked(chosen):
        try:
            image = load_picture(path, exported.preprocess)
        except DataError as error:
            damaged[path] = str(error)
            continue
        files.append(path)
        judged.labels.append(label)
        probabilities = exported.probabilities(image)
        judged.predicted.append(int(probabilities.argmax()))
        judged.confidences.append(float(probabilities.max()))
    _refuse_damaged(damaged, skip_damaged=skip_damaged)
    if damaged:
        notes.append(f"{len(damaged):,} damaged pictures were left out")
    return judged


def _sound(
    classes: Mapping[str, tuple[Path, ...]], exported: ExportedNetwork, damaged: dict[Path, str]
) -> dict[str, tuple[Path, ...]]:
    """The pictures that can be read: a training held out some of those, and would have held out others of all.

    The others are added to `damaged`, with the reason.
    """
    for path in _tracked([path for files in classes.values() for path in files], "looking for damaged pictures"):
        try:
            load_picture(path, exported.preprocess)
        except DataError as error:
            damaged[path] = str(error)
    return {name: tuple(path for path in files if path not in damaged) for name, files in classes.items()}


def _refuse_damaged(damaged: dict[Path, str], *, skip_damaged: bool) -> None:
    if damaged and not skip_damaged:
        raise DataError(told_damaged(damaged))


def _chosen(
    splits: Mapping[int, Mapping[str, tuple[Path, ...]]], labels: list[str], *, everything: bool
) -> Iterator[tuple[int, Path]]:
    """The label and the file of each picture that is judged, as a training would have held it out."""
    for label, name in enumerate(labels):
        if everything or TEST in splits:
            for role, classes in splits.items():
                if everything or role == TEST:
                    yield from ((label, path) for path in classes.get(name, ()))
        else:
            (classes,) = splits.values()
            files = classes.get(name, ())
            yield from (
                (label, path) for path, role in zip(files, hold_out(len(files), label), strict=True) if role == TEST
            )


def _tracked(items: Sequence[Item], what: str = "classifying") -> Iterable[Item]:
    return track(items, what, console=console, disable=not console.is_terminal, transient=True)


def _differences(found: Iterable[str], labels: list[str]) -> str:
    """What two sets of classes do not share, some of each."""
    parts, here, there = [], set(found), set(labels)
    for what, names in (("only here", here - there), ("only in the network", there - here)):
        if names:
            more = ", …" if len(names) > 5 else ""
            parts.append(f"{what} {', '.join(sorted(names)[:5])}{more}")
    return "; ".join(parts) or "in another order"


def _per_class(counts: np.ndarray, labels: list[str]) -> Iterator[dict[str, Any]]:
    taken = counts.sum(axis=0)
    for index, label in enumerate(labels):
        row = counts[index].copy()
        right, total, row[index] = int(row[index]), int(row.sum()), 0
        worst = int(row.argmax())
        yield {
            "class": label,
            "images": total,
            "recall": right / total if total else None,
            "precision": right / int(taken[index]) if taken[index] else None,
            "mostly_taken_for": labels[worst] if row[worst] else None,
            "times": int(row[worst]) or None,
        }


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _summarise(counts: np.ndarray, judged: _Judged, data: str, temperature: float) -> None:
    correct, total = int(counts.trace()), int(counts.sum())
    low, high = wilson_interval(correct, total)
    images = counts.sum(axis=1)
    balanced = balanced_accuracy(counts.diagonal(), images)
    say(
        f"top-1 {correct / total:.2%} (95% interval {low:.2%} to {high:.2%}) on {total:,} images, {judged.part} of "
        f"{data}"
    )
    say(
        f"balanced accuracy {balanced:.2%}, the mean of the recalls of {np.count_nonzero(images):,} classes; always "
        f"naming the most frequent class has top-1 {images.max() / total:.2%}"
    )
    confidences, right = np.array(judged.confidences), np.array(judged.labels) == np.array(judged.predicted)
    surer = confidences.mean() - right.mean()
    say(
        f"expected calibration error {100 * calibration_error(confidences, right):.1f} points (15 bins): on average it "
        f"is {abs(100 * surer):.1f} points {'surer' if surer > 0 else 'less sure'} of an answer than it is right, "
        f"by logits divided by its temperature of {temperature:.3g}"
    )
    for note in judged.notes:
        say(note)


def _show_confusions(counts: np.ndarray, labels: list[str]) -> None:
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    worst = [
        divmod(int(place), len(labels)) for place in np.argsort(-wrong, axis=None, kind="stable")[:SHOWN_CONFUSIONS]
    ]
    rows = [
        {"class": labels[true], "taken for": labels[taken], "images": int(wrong[true, taken])}
        for true, taken in worst
        if wrong[true, taken]
    ]
    if rows:
        show("worst confusions", rows, "table", shown=("class", "taken for", "images"), types={})
