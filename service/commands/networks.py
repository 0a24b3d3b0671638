"""Commands about a found network: export, predict, evaluate."""

import json
import sys
import tarfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from latency.network import Network
from search.evaluation.data import Images
from search.evaluation.weights import read_weights
from search.plan import look_up
from search.record.recorded_search import RecordedSearch
from search.record.store import Store
from search.run_folder import EXPORTED, MODEL
from search.stages.export import export_metadata, export_network
from search.trial import Trial
from service.terminal.console import console, say
from space.errors import DataError, RunError
from space.formats import FILE_NAMES, FormatName, format_named
from trainer.data import Dataset, Preprocess, load_picture, normalise, prepare, split
from trainer.metrics import confusion_matrix, wilson_interval

MAX_MODEL_BYTES = 512 * 2**20


def export(database: str, name: str, number: int | None, out: Path | None, asked: Sequence[str] = ()) -> None:
    """The command `export`: the files of any completed trial, in a folder or as a tar file on stdout.

    Without a number, of the found network; `asked` are the formats to write beside our own spec.
    """
    formats = tuple(format_named(text) for text in asked)
    if out != Path("-"):
        with closing(Store.open(database)) as store:
            folder = export_trial(
                store, name, number, lambda trial: (out or Path(f"{name}-trial-{trial}")).absolute(), formats
            )
        for file in dict.fromkeys((*EXPORTED, *(FILE_NAMES[form] for form in formats))):
            say(str(folder / file))
        return
    if sys.stdout.isatty():
        raise RunError("a tar file cannot be shown on a terminal; redirect it, or name a folder with --out")
    with TemporaryDirectory(prefix="mobilenas-") as draft:
        with closing(Store.open(database)) as store:
            folder = export_trial(
                store, name, number, lambda trial: Path(draft) / f"{name}-trial-{trial}", formats, recorded_as=Path("-")
            )
        sys.stdout.flush()
        with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
            archive.add(folder, folder.name)


def export_trial(
    store: Store,
    name: str,
    number: int | None,
    folder_of: Callable[[int], Path],
    formats: tuple[FormatName, ...],
    *,
    recorded_as: Path | None = None,
) -> Path:
    """Write the files into the folder of a trial's number, and record that or another place as theirs.

    Without a number it is the found network.

    Raises:
        RunError: there is no such trial, it has no weights, the data have changed, or the folder is not empty.
        NotExpressible: one of the formats has no words for the network.
    """
    recorded = RecordedSearch.read(store, name)
    trial = _exportable(recorded, number)
    folder = folder_of(trial.number)
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"folder {folder} is not empty; choose another with --out")
    files = export_network(
        folder,
        trial.architecture,
        read_weights(recorded.files.weights(trial)),
        _dataset_of(recorded),
        export_metadata(recorded.record, trial, recorded.fingerprint),
        formats,
    )
    store.trials.add_export(recorded.record.id, trial.number, folder=recorded_as or folder, files=files)
    return folder


def _exportable(recorded: RecordedSearch, number: int | None) -> Trial:
    """The completed trial of this number, else the found one; it has weights."""
    name = recorded.record.name
    if not recorded.has_finals:
        folder = recorded.start.run_folder
        raise RunError(
            f"search '{name}' had no data, so it has no weights; the spec of its best network is in {folder}"
        )
    trial = recorded.found if number is None else recorded.complete_trial(number)
    if trial.weights is None and trial.images_seen == 0:
        raise RunError(f"trial {trial.number} of '{name}' was judged by {recorded.config.evaluator} and has no weights")
    if trial.weights is None:
        raise RunError(
            f"the weights of trial {trial.number} of '{name}' were freed by `mobilenas gc`; export a trial that still "
            "has its own, such as the found network (without --trial)"
        )
    return trial


def _dataset_of(recorded: RecordedSearch) -> Dataset:
    """The data that a search was run on, whose labels and preprocessing its networks need."""
    data, start = look_up(recorded.config).data, recorded.start
    assert isinstance(data, Images), "a search with final networks has images"
    if data.content != start.data_hash:
        raise RunError(
            f"search '{recorded.record.name}' was run on data {start.data_hash}, but '{data.name}' is now "
            f"{data.content}; restore it, or labels and preprocessing may not fit the weights"
        )
    return data.dataset


class ExportedNetwork:
    """An exported network: everything is read from the ONNX file itself."""

    def __init__(self, run: Path) -> None:
        path = run / MODEL if run.is_dir() else run
        try:
            if path.stat().st_size > MAX_MODEL_BYTES:
                raise RunError(f"{path} is larger than {MAX_MODEL_BYTES >> 20} MiB; give an exported network")
            graph = path.read_bytes()
        except OSError as error:
            raise RunError(f"{path} cannot be read ({error.strerror}); give a run folder or a model.onnx") from error
        try:
            self.network = Network(graph)
            metadata = self.network.metadata
            labels = json.loads(metadata["labels"])
            self.preprocess = Preprocess.from_json(metadata["preprocess"])
        except DataError:
            raise
        except Exception as error:  # onnxruntime raises many kinds on damaged files
            raise RunError(f"{path} was not exported by mobilenas ({type(error).__name__}); export it again") from error
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise RunError(f"{path} has no class names; export it again")
        side, channels = self.preprocess.resolution, len(self.preprocess.mean)
        if self.network.shapes != ((1, channels, side, side), (1, len(labels))):
            raise RunError(
                f"{path} has inputs and outputs {self.network.shapes}, which does not fit its {len(labels)} labels and "
                f"{channels} x {side} x {side} px; export it again"
            )
        self.labels: list[str] = labels

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """The probability of each class for one uint8 image C x R x R."""
        logits = self.network.logits(normalise(image[None], self.preprocess)).astype(np.float64)
        shifted = np.exp(logits - logits.max())
        return np.asarray(shifted / shifted.sum())


def predict(run: Path, pictures: list[Path], top: int) -> None:
    """The command `predict`: classify a person's own pictures."""
    exported = ExportedNetwork(run)
    for picture in pictures:
        shares = exported.probabilities(load_picture(picture, exported.preprocess))
        best = np.argsort(-shares)[:top]
        named = ", ".join(f"{exported.labels[index]} {shares[index]:.1%}" for index in best)
        say(f"{picture}: {named}")


def _matching_dataset(exported: ExportedNetwork, data: str, data_dir: Path | None) -> Dataset:
    dataset = prepare(data, resolution=exported.preprocess.resolution, data_dir=data_dir)
    if list(dataset.classes) != exported.labels:
        raise DataError(
            f"data set {data} has the classes {', '.join(dataset.classes)[:100]}, but the network was trained for "
            f"{', '.join(exported.labels)[:100]}; give data with the same classes"
        )
    if dataset.preprocess.channels != exported.preprocess.channels:
        raise DataError(
            f"data set {data} has {dataset.preprocess.channels} images, but the network takes "
            f"{exported.preprocess.channels}; give data of the same kind"
        )
    return dataset


def evaluate(run: Path, data: str, data_dir: Path | None, *, everything: bool) -> None:
    """The command `evaluate`: top-1 with its interval, recall per class, confusion matrix, from the ONNX file."""
    exported = ExportedNetwork(run)
    dataset = _matching_dataset(exported, data, data_dir)
    images, labels = dataset.images(), np.asarray(dataset.labels())
    chosen = np.arange(len(labels)) if everything else split(dataset).test
    predicted = np.empty(len(chosen), dtype=np.int64)
    for row, index in enumerate(track(chosen, "classifying", console=console, disable=not console.is_terminal)):
        predicted[row] = int(exported.probabilities(images[index]).argmax())
    counts = confusion_matrix(labels[chosen], predicted, len(exported.labels))
    correct, total = int(counts.trace()), int(counts.sum())
    low, high = wilson_interval(correct, total)
    part = "all splits" if everything else "the test split"
    console.print(
        f"top-1 {correct / total:.2%} (95% interval {low:.2%} to {high:.2%}) on {total:,} images, {part} of {data}",
        highlight=False,
        markup=False,
    )
    table = Table(title="confusion matrix: rows are true classes, columns predicted ones", title_justify="left")
    for header in ("class", "recall", *(str(index) for index in range(len(exported.labels)))):
        table.add_column(header, justify="left" if header == "class" else "right")
    for index, (label, row) in enumerate(zip(exported.labels, counts, strict=True)):
        recall = f"{row[index] / row.sum():.1%}" if row.sum() else "no images"
        table.add_row(escape(f"{index} {label}"), recall, *(str(count) for count in row))
    console.print(table)
