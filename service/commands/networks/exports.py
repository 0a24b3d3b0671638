"""Commands about a found network: export and predict."""

import os
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from search.evaluation.data import Images
from search.handover.bundle import Bundle
from search.plan import look_up
from search.record.store import Store
from search.reports.recorded_search import RecordedSearch
from search.run_folder import EXPORTED, MODEL
from search.stages.export import export_metadata, export_network, temperature_in
from search.stages.exported import ExportedNetwork
from search.trial import Trial
from service.terminal.console import complain, say
from space.errors import DataError, RunError
from space.formats import FILE_NAMES, FormatName, format_named
from trainer.data.pictures import load_picture, picture_or_kind
from trainer.data.preprocess import Preprocess
from trainer.training.weight_files import read_weights


def export(
    database: str, name: str, number: int | None, out: Path | None, asked: Sequence[str] = (), *, bundle: bool = False
) -> None:
    """The command `export`: the files of any completed trial, in a folder or as a tar file on stdout.

    Without a number, of the found network; `asked` are the formats to write beside our own spec, and a `bundle` has
    what is needed to run it elsewhere.
    """
    formats = tuple(dict.fromkeys((*map(format_named, asked), *(("model.py",) if bundle else ()))))
    if out != Path("-"):
        with closing(Store.open(database)) as store:
            more = _bundle(store, name, number) if bundle else None
            folder = export_trial(
                store, name, number, lambda trial: (out or Path(f"{name}-trial-{trial}")).absolute(), formats
            )
        added = [] if more is None else more.write(folder)
        for file in dict.fromkeys((*EXPORTED, *(FILE_NAMES[form] for form in formats), *added)):
            say(str(folder / file))
        return
    if sys.stdout.isatty():
        raise RunError("a tar file cannot be shown on a terminal; redirect it, or name a folder with --out")
    with TemporaryDirectory(prefix="mobilenas-") as draft:
        with closing(Store.open(database)) as store:
            more = _bundle(store, name, number) if bundle else None
            folder = export_trial(
                store, name, number, lambda trial: Path(draft) / f"{name}-trial-{trial}", formats, recorded_as=Path("-")
            )
        if more is not None:
            more.write(folder)
        sys.stdout.flush()
        with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
            archive.add(folder, folder.name)


def _bundle(store: Store, name: str, number: int | None) -> Bundle:
    recorded = RecordedSearch.read(store, name)
    return Bundle.of(recorded, _exportable(recorded, number), *_labels_and_preprocess(recorded))


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
        *_labels_and_preprocess(recorded),
        export_metadata(recorded.record, trial, recorded.fingerprint),
        formats,
        temperature=temperature_in(recorded.files.path / MODEL, trial),
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
    if trial.weights is None and trial.images_seen == 0 and (judge := recorded.config.own_evaluator):
        raise RunError(f"trial {trial.number} of '{name}' was judged by {judge} and has no weights")
    if trial.weights is None:
        raise RunError(
            f"the weights of trial {trial.number} of '{name}' were freed by `mobilenas gc`; export a trial that still "
            "has its own, such as the found network (without --trial)"
        )
    return trial


def _labels_and_preprocess(recorded: RecordedSearch) -> tuple[tuple[str, ...], Preprocess]:
    """Those of the data that a search was run on, as the record has them: the data may be gone, or changed.

    Searches of mobilenas 0.1 have them only in what they exported, or in the data.
    """
    if (facts := recorded.start.data_facts) is not None:
        return facts.classes, facts.preprocess
    if (model := recorded.files.path / MODEL).is_file():
        exported = ExportedNetwork(model)
        return tuple(exported.labels), exported.preprocess
    data, start = look_up(recorded.config).data, recorded.start
    assert isinstance(data, Images), "a search with final networks has images"
    if data.content != start.data_hash:
        raise RunError(
            f"search '{recorded.record.name}' was run on data {start.data_hash}, but '{data.name}' is now "
            f"{data.content}; restore it, or labels and preprocessing may not fit the weights"
        )
    return data.dataset.classes, data.dataset.preprocess


def predict(run: Path, pictures: list[Path], top: int) -> None:
    """The command `predict`: classify a person's own pictures, and those of whole folders.

    Raises:
        RunError: some could not be read; the others have been classified.
    """
    exported = ExportedNetwork(run)
    failed = done = 0
    for picture in _walked(pictures):
        done += 1
        try:
            if isinstance(picture, OSError):
                raise DataError(f"{picture.filename} cannot be listed ({picture.strerror}); check its permissions")
            shares = exported.probabilities(load_picture(picture, exported.preprocess))
        except DataError as error:
            failed += 1
            complain(str(error))
            continue
        best = np.argsort(-shares)[:top]
        named = ", ".join(f"{exported.labels[index]} {shares[index]:.1%}" for index in best)
        say(f"{picture}: {named}")
    if failed:
        raise RunError(f"{failed:,} of {done:,} pictures could not be read; replace or remove them")
    if not done:
        raise RunError(f"no pictures are in {', '.join(map(str, pictures))}; give picture files, or folders of them")


def _walked(paths: Iterable[Path]) -> Iterator[Path | OSError]:
    """Files as they are given, and the pictures below folders, by name; hidden ones and linked folders are passed over.

    A folder that cannot be listed comes as its error.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        failed: list[OSError] = []
        for folder, inner, names in os.walk(path, onerror=failed.append):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            for name in sorted(names):
                file = Path(folder) / name
                if not name.startswith(".") and file.is_file() and _is_meant(file):
                    yield file
        yield from failed


def _is_meant(file: Path) -> bool:
    """Whether somebody who names its folder would expect to hear of a file: pictures, and what could not be read."""
    try:
        is_picture, kind = picture_or_kind(file)
    except DataError:
        return True
    return is_picture or "pictures" in kind.split()
