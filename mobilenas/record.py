"""The record: what was searched, what was found, and what came of every trial."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.record.rows import SearchRecord
from search.record.store import Store
from search.record.views import trial_summary
from search.reports.headline import headline, other_baseline
from search.reports.history import History
from search.trial import Trial
from service.commands.networks.exports import export_trial
from service.settings import load_settings
from space.arch import Architecture
from space.errors import RunError
from space.formats import format_named

if TYPE_CHECKING:
    from pandas import DataFrame

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundNetwork:
    """What a search ended with, or what that is compared with.

    `top1_test` (0-1) is on the test split and None where nothing was trained, `top1_reward` on the images that ranked
    networks, or by the user's own evaluator. Latencies are of batch 1 in ms, low quantiles of wall time; `measured_ms`
    is by device, and empty where no device was asked.
    """

    trial: int
    architecture: Architecture
    top1_test: float | None
    top1_reward: float | None
    predicted_ms: float
    measured_ms: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentModel:
    """The model that the user had, `name` being that of its file; figures as of `FoundNetwork`."""

    name: str
    top1_test: float
    measured_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Search:
    """A recorded search; everything is read when it is asked for, so that a running one can be watched."""

    name: str
    database: str

    @contextmanager
    def _opened(self) -> Iterator[tuple[Store, SearchRecord]]:
        with closing(Store.open(self.database)) as store:
            yield store, store.searches.get(self.name)

    @property
    def state(self) -> str:
        """In one word: queued, running, stopped, failed, awaiting-certification or done."""
        with self._opened() as (_, record):
            return record.state

    @property
    def folder(self) -> Path:
        """The run folder: model.onnx, weights, spec, labels, preprocessing and report of a search that is done.

        Raises:
            RunError: the search is still queued.
        """
        with self._opened() as (_, record):
            return record.require_start().run_folder

    @property
    def found(self) -> FoundNetwork | None:
        """The network that the search ended with, None while it has none."""
        return self._network(lambda history: history.found)

    @property
    def reference(self) -> FoundNetwork | None:
        """The reference as it was trained in the end, None while it was not."""
        return self._network(lambda history: history.final_reference)

    @property
    def baseline(self) -> FoundNetwork | None:
        """The reference scaled to the target, None where none was trained, or the search ended with it."""
        return self._network(other_baseline)

    @property
    def present(self) -> PresentModel | None:
        """The model that the user had named, None where none was, or it is not tested yet."""
        with self._opened() as (store, _):
            history = History.read(store, self.name)
            if (result := history.present) is None:
                return None
            measured = {each.device.name: history.present_measured(each) for each in history.served}
        return PresentModel(
            name=result.name,
            top1_test=result.correct / result.total,
            measured_ms={name: each.measured_ms for name, each in measured.items() if each is not None},
        )

    @property
    def answer(self) -> str | None:
        """What the search brought, in one sentence, with its interval; None before anything was tested."""
        with self._opened() as (store, _):
            return headline(History.read(store, self.name))

    def _network(self, chosen: Callable[[History], Trial | None]) -> FoundNetwork | None:
        with self._opened() as (store, _):
            history = History.read(store, self.name)
            if (trial := chosen(history)) is None:
                return None
            measured = {each.device.name: history.measured(trial, each) for each in history.served}
        return FoundNetwork(
            trial=trial.number,
            architecture=trial.architecture,
            top1_test=None if not trial.total else (trial.correct or 0) / trial.total,
            top1_reward=trial.scores.top1,
            predicted_ms=trial.scores.latency_ms,
            measured_ms={name: each.measured_ms for name, each in measured.items() if each is not None},
        )

    def trials(self, sort: str = "number") -> list[Row]:
        """A row per trial, as the view `trial_summary` has it; reward and top1 descend, other columns ascend.

        Raises:
            StoreError: there is no such column.
        """
        with self._opened() as (store, record):
            return store.trials.summary_rows(record.name, sort)

    def frame(self, sort: str = "number") -> "DataFrame":
        """The same as a pandas frame.

        Raises:
            RunError: pandas is not installed.
        """
        return frame_of(self.trials(sort))

    def export(self, out: str | Path, *, trial: int | None = None, formats: Sequence[str] = ()) -> Path:
        """Write spec, weights, ONNX file, labels and preprocessing of the found network, or of another trial.

        `formats` adds specs for other tools: timm, torchvision, ofa or model.py.

        Raises:
            RunError: there is no such network, or `out` is not empty.
            NotExpressible: a format has no words for it.
        """
        folder = Path(out).absolute()
        with self._opened() as (store, _):
            return export_trial(store, self.name, trial, lambda _: folder, tuple(map(format_named, formats)))


@dataclass(frozen=True, slots=True)
class Record:
    """All that is remembered in one database."""

    database: str

    def searches(self) -> list[Search]:
        """All searches, oldest first."""
        with closing(Store.open(self.database)) as store:
            return [Search(record.name, self.database) for record in store.searches.all()]

    def search(self, name: str) -> Search:
        """The search of this name.

        Raises:
            StoreError: there is none; the message names the nearest ones.
        """
        with closing(Store.open(self.database)) as store:
            return Search(store.searches.get(name).name, self.database)

    def trials(self, sort: str = "number") -> list[Row]:
        """A row per trial of all searches; see `Search.trials`.

        Raises:
            StoreError: there is no such column.
        """
        with closing(Store.open(self.database)) as store:
            return store.trials.summary_rows(None, sort)

    def frame(self, sort: str = "number") -> "DataFrame":
        """The same as a pandas frame.

        Raises:
            RunError: pandas is not installed.
        """
        return frame_of(self.trials(sort))


def open_record(database: str | None = None) -> Record:
    """The record in a database, by its SQLAlchemy URL; without one, in that of the settings.

    It is made where there is none yet, and brought to the current schema.

    Raises:
        StoreError: the database cannot be opened, is none of ours, or was written by a newer mobilenas.
    """
    url = database or load_settings().database_url
    Store.open(url).close()
    return Record(url)


def frame_of(rows: list[Row]) -> "DataFrame":
    """Rows of the view `trial_summary` as a pandas frame, whose columns are there even without rows.

    Raises:
        RunError: pandas is not installed.
    """
    try:
        from pandas import DataFrame
    except ModuleNotFoundError as error:
        raise RunError("a frame needs pandas; run: pip install 'mobilenas[pandas]'") from error

    return DataFrame(rows, columns=[column.name for column in trial_summary.c])
