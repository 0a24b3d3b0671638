"""The record as Optuna's own tools see it: studies that can be read and not changed, and the dashboard over them.

Optuna keeps nothing: what is shown is made from the record, and made anew every few seconds.
"""

import logging
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from threading import Lock
from typing import Any, NoReturn

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from search.record.rows import SearchRecord
from search.record.store import Store
from search.reports.history import peak_bytes
from search.trial import SearchStage, State, Trial
from space.errors import RunError, StoreError

REFRESH_S = 4.0
"""What is shown is at most so old, but for what the dashboard keeps itself."""

# Where Optuna keeps the names of a study's objectives (optuna.study.study).
_METRIC_NAMES = "study:metric_names"
_STATES = {
    State.RUNNING: TrialState.RUNNING,
    State.COMPLETE: TrialState.COMPLETE,
    State.STOPPED: TrialState.PRUNED,
    State.PRUNED: TrialState.PRUNED,
    State.FAILED: TrialState.FAIL,
}

_log = logging.getLogger("mobilenas.dashboard")


class ReadOnly(RunError):
    """The dashboard may read the record, not change it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyView:
    """One study of a search: its objectives and its trials."""

    suffix: str
    objectives: Mapping[str, StudyDirection]
    stages: tuple[SearchStage, ...]
    values: Callable[[Trial, float | None], list[float] | None]
    needs_params: bool


def _reward(_trial: Trial, reward: float | None) -> list[float] | None:
    return None if reward is None else [reward]


def _top1_and_latency(trial: Trial, _reward: float | None) -> list[float] | None:
    return None if trial.scores.top1 is None else [trial.scores.top1, trial.scores.latency_ms]


VIEWS = (
    # Optuna's plots show the parameters that all trials have: one without any, such as the reference, would empty them.
    StudyView(
        suffix="",
        objectives={"reward": StudyDirection.MAXIMIZE},
        stages=(SearchStage.BLOCKS,),
        values=_reward,
        needs_params=True,
    ),
    StudyView(
        suffix=" (top-1 and latency)",
        objectives={"top1": StudyDirection.MAXIMIZE, "latency_ms": StudyDirection.MINIMIZE},
        stages=(SearchStage.BLOCKS, SearchStage.NETADAPT),
        values=_top1_and_latency,
        needs_params=False,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """The studies by id, their trials, and each trial by its id: all of one moment."""

    studies: dict[int, FrozenStudy] = field(default_factory=dict)
    trials: dict[int, list[FrozenTrial]] = field(default_factory=dict)
    by_id: dict[int, FrozenTrial] = field(default_factory=dict)


def project(store: Store, name: str | None = None) -> Projection:
    """The studies of one search, or of all that have begun; ids are the same each time.

    Raises:
        StoreError: there is no such search, or the database is away.
    """
    found = Projection()
    start = [record for record in store.searches.all() if record.start]
    for record in start if name is None else [store.searches.get(name)]:
        rewards, trials = store.trials.rewards(record.id), store.trials.of(record.id)
        choices = _distributions(trials)
        for number, view in enumerate(VIEWS):
            study_id = record.id * len(VIEWS) + number
            found.studies[study_id] = _study(record, view, study_id)
            found.trials[study_id] = [
                _frozen(trial, rewards.get(trial.number), view, choices, number)
                for trial in trials
                if trial.stage in view.stages and (trial.params or not view.needs_params)
            ]
            found.by_id.update({trial._trial_id: trial for trial in found.trials[study_id]})
    return found


def _study(record: SearchRecord, view: StudyView, study_id: int) -> FrozenStudy:
    start = record.start
    facts = {
        "state": record.state,
        "data": str(record.config["data"]["source"]),
        "device": str(record.config["device"]["name"]),
        "owner": record.owner or "",
        **({"target_ms": start.target_ms, "seed_target_ms": start.seed_target_ms} if start else {}),
    }
    return FrozenStudy(
        study_name=f"{record.name}{view.suffix}",
        direction=None,
        directions=list(view.objectives.values()),
        user_attrs=facts,
        system_attrs={_METRIC_NAMES: list(view.objectives)},
        study_id=study_id,
    )


def _distributions(trials: Sequence[Trial]) -> dict[str, BaseDistribution]:
    """The choices of each parameter, as far as they were ever proposed; the space itself may be gone."""
    seen: dict[str, dict[tuple[str, str], Any]] = {}
    for trial in trials:
        for name, value in (trial.params or {}).items():
            # By type as well: 1 and True are equal.
            seen.setdefault(name, {})[type(value).__name__, str(value)] = value
    return {
        name: CategoricalDistribution(sorted(values.values(), key=lambda value: (str(type(value)), value)))
        for name, values in seen.items()
    }


def _frozen(
    trial: Trial, reward: float | None, view: StudyView, choices: Mapping[str, BaseDistribution], number: int
) -> FrozenTrial:
    assert trial.id is not None
    values = view.values(trial, reward) if trial.state is State.COMPLETE else None
    state = _STATES[trial.state]
    return FrozenTrial(
        number=trial.number,
        trial_id=trial.id * len(VIEWS) + number,
        # Complete without a value is something that Optuna does not know.
        state=TrialState.FAIL if state is TrialState.COMPLETE and values is None else state,
        value=None,
        values=values,
        datetime_start=_local(trial.started_at),
        datetime_complete=_local(trial.finished_at),
        params=dict(trial.params or {}),
        distributions={name: choices[name] for name in trial.params or {}},
        user_attrs=_figures(trial),
        system_attrs={},
        intermediate_values={},
    )


def _figures(trial: Trial) -> dict[str, Any]:
    scores = trial.scores
    return {
        "stage": trial.stage.value,
        "origin": trial.origin,
        "top1": scores.top1,
        "latency_ms": scores.latency_ms,
        "madds": scores.madds,
        "params_count": scores.params,
        "peak_bytes": peak_bytes(trial),
        "images_seen": trial.images_seen,
        "arch_id": trial.architecture.arch_id,
        **({"error": trial.error} if trial.error else {}),
    }


def _local(moment: datetime | None) -> datetime | None:
    """Optuna's times are those of the wall clock, without a zone."""
    return None if moment is None else moment.astimezone().replace(tzinfo=None)


class RecordStorage(BaseStorage):
    """Optuna's storage over the record; whatever would change something raises ReadOnly. Threads may share it.

    Where the database is away for a while, it shows what it read last.
    """

    def __init__(self, store: Store, name: str | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._name, self._clock = store, name, clock
        self._lock = Lock()
        self._projection = project(store, name)
        self._read_at = clock()

    def _now(self) -> Projection:
        with self._lock:
            if self._clock() - self._read_at >= REFRESH_S:
                try:
                    self._projection = project(self._store, self._name)
                except StoreError as error:
                    _log.warning("%s; what is shown is older", error)
                self._read_at = self._clock()
            return self._projection

    def _study(self, study_id: int) -> FrozenStudy:
        return self._now().studies[study_id]

    # Reading

    def get_study_id_from_name(self, study_name: str) -> int:
        """See Optuna; raises KeyError where there is none, as all of these do."""
        for study_id, study in self._now().studies.items():
            if study.study_name == study_name:
                return study_id
        raise KeyError(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """See Optuna."""
        return self._study(study_id).study_name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """See Optuna."""
        return self._study(study_id).directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """See Optuna."""
        return dict(self._study(study_id).user_attrs)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """See Optuna."""
        return dict(self._study(study_id).system_attrs)

    def get_all_studies(self) -> list[FrozenStudy]:
        """See Optuna."""
        return list(self._now().studies.values())

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """See Optuna."""
        for trial in self._now().trials[study_id]:
            if trial.number == trial_number:
                return int(trial._trial_id)
        raise KeyError(trial_number)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """See Optuna."""
        return self._now().by_id[trial_id]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """See Optuna; nobody else has these trials, so that copying them serves nothing."""
        del deepcopy
        trials = self._now().trials[study_id]
        return [trial for trial in trials if states is None or trial.state in states]

    # Writing

    def _refuse(self, *_given: object, **_named: object) -> NoReturn:
        raise ReadOnly("the dashboard shows the record and cannot change it; use the commands of mobilenas")

    create_new_study = _refuse
    delete_study = _refuse
    set_study_user_attr = _refuse
    set_study_system_attr = _refuse
    create_new_trial = _refuse
    set_trial_param = _refuse
    set_trial_state_values = _refuse
    set_trial_intermediate_value = _refuse
    set_trial_user_attr = _refuse
    set_trial_system_attr = _refuse


def dashboard_app(store: Store, name: str | None = None) -> Any:  # noqa: ANN401 - a WSGI application
    """optuna-dashboard over the record, as a WSGI application.

    Raises:
        RunError: the package is not installed.
        StoreError: there is no such search.
    """
    try:
        dashboard = import_module("optuna_dashboard")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("optuna_dashboard", "bottle"):
            raise
        raise RunError("the dashboard needs a package; run: pip install 'mobilenas[dashboard]'") from error
    return dashboard.wsgi(RecordStorage(store, name))
