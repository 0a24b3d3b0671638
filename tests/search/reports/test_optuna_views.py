"""The record as Optuna sees it: the same trials, always fresh, and nothing to write to."""

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from search.record.store import Store
from search.reports.optuna_views import REFRESH_S, ReadOnly, RecordStorage, dashboard_app
from search.trial import SearchStage, State
from space.errors import RunError, StoreError
from tests.search.content import Writer, fill
from tests.search.makers import new_search
from tests.search.realistic import whole_search


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A blank record."""
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as opened:
        yield opened


def test_study_is_the_block_level_search(store: Store, tmp_path: Path) -> None:
    """Numbers, parameters, rewards and the best trial are the record's; Optuna's own library can load the study."""
    teller = whole_search(store, "one", tmp_path, trials=14)
    study = optuna.load_study(study_name="one", storage=RecordStorage(store))
    trials = {trial.number: trial for trial in store.trials.of(teller.search.id, SearchStage.BLOCKS) if trial.params}
    rewards = store.trials.rewards(teller.search.id)
    assert study.direction is StudyDirection.MAXIMIZE
    assert study.metric_names == ["reward"]
    assert {trial.number: trial.params for trial in study.trials} == {n: one.params for n, one in trials.items()}
    complete = {number: reward for number, reward in rewards.items() if number in trials}
    assert {trial.number: trial.value for trial in study.trials if trial.value is not None} == complete
    assert study.best_trial.number == max(complete, key=lambda number: complete[number])
    assert study.best_trial.user_attrs["latency_ms"] == trials[study.best_trial.number].scores.latency_ms
    assert study.best_trial.duration is not None
    assert study.best_trial.duration.total_seconds() > 10


def test_second_study_is_the_front(store: Store, tmp_path: Path) -> None:
    """Top-1 up and latency down, NetAdapt and the reference among the trials; Optuna's front is that of the view."""
    teller = whole_search(store, "one", tmp_path, trials=14)
    study = optuna.load_study(study_name="one (top-1 and latency)", storage=RecordStorage(store))
    trials = [trial for trial in store.trials.of(teller.search.id) if trial.stage is not SearchStage.FINAL]
    assert study.directions == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    assert [trial.number for trial in study.trials] == [trial.number for trial in trials]
    found = {trial.number for trial in study.best_trials}
    assert found == {
        one.number
        for one in trials
        if one.scores.top1 is not None
        and not any(
            (other.scores.top1 or 0) >= one.scores.top1
            and other.scores.latency_ms <= one.scores.latency_ms
            and (other.scores.top1, other.scores.latency_ms) != (one.scores.top1, one.scores.latency_ms)
            for other in trials
        )
    }


def test_states_are_those_of_the_record(store: Store) -> None:
    """Running, pruned with its reason, failed with its error; a complete one without a reward counts as failed."""
    writer = Writer(store, new_search(store, "one"))
    for state in (State.COMPLETE, State.PRUNED, State.FAILED, State.RUNNING):
        writer.trial(state=state, top1=0.5, params={"kernel": 3})
    writer.trial(top1=None, params={"kernel": 3})
    study = optuna.load_study(study_name="one", storage=RecordStorage(store))
    assert [trial.state for trial in study.trials] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.RUNNING,
        TrialState.FAIL,
    ]
    assert study.trials[1].user_attrs["error"] == "predicted 3 ms is over 2.6 ms"
    assert study.trials[3].datetime_complete is None


def test_choices_keep_their_types(store: Store) -> None:
    """True is not 1, and 1 is not 1.0, also where one parameter has had all of them."""
    writer = Writer(store, new_search(store, "one"))
    for value in (1, True, 1.0, None, "1"):
        writer.trial(top1=0.5, params={"p": value})
    study = optuna.load_study(study_name="one", storage=RecordStorage(store))
    assert [repr(trial.params["p"]) for trial in study.trials] == ["1", "True", "1.0", "None", "'1'"]
    distribution = study.trials[0].distributions["p"]
    assert isinstance(distribution, optuna.distributions.CategoricalDistribution)
    assert len(distribution.choices) == 5


def test_record_is_read_anew_after_some_seconds(store: Store) -> None:
    """What happened meanwhile is there; within the time between, and while the database is away, the last state is."""
    now = 0.0
    writer = Writer(store, new_search(store, "one"))
    storage = RecordStorage(store, clock=lambda: now)
    study_id = storage.get_study_id_from_name("one")
    writer.trial(top1=0.5, params={"kernel": 3})
    assert storage.get_n_trials(study_id) == 0
    now = REFRESH_S
    assert storage.get_n_trials(study_id) == 1
    first = storage.get_all_trials(study_id)[0]
    Writer(store, new_search(store, "two")).trial(top1=0.5, params={"kernel": 3})
    now = 2 * REFRESH_S
    assert [study.study_name for study in storage.get_all_studies()][2] == "two"
    assert storage.get_all_trials(study_id)[0]._trial_id == first._trial_id, "ids stay, pages refer to them"


def test_database_that_is_away_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dashboard shows what it read last, and says so in the log."""
    now = 0.0
    new_search(store, "one")
    storage = RecordStorage(store, clock=lambda: now)

    def away() -> None:
        raise StoreError("the database is away")

    monkeypatch.setattr(store.searches, "all", away)
    now = REFRESH_S
    assert len(storage.get_all_studies()) == 2


def test_nothing_can_be_written(store: Store) -> None:
    """Every method of Optuna's storage that writes is refused, and so is what its studies do with them."""
    writer = Writer(store, new_search(store, "one"))
    writer.trial(state=State.RUNNING, params={"kernel": 3})
    storage = RecordStorage(store)
    study = optuna.load_study(study_name="one", storage=storage)
    trial_id = study.trials[0]._trial_id
    for name, arguments in {
        "create_new_study": ([StudyDirection.MAXIMIZE],),
        "delete_study": (study._study_id,),
        "set_study_user_attr": (study._study_id, "a", 1),
        "set_study_system_attr": (study._study_id, "a", 1),
        "create_new_trial": (study._study_id,),
        "set_trial_param": (trial_id, "a", 1.0, optuna.distributions.FloatDistribution(0, 2)),
        "set_trial_state_values": (trial_id, TrialState.COMPLETE, [1.0]),
        "set_trial_intermediate_value": (trial_id, 0, 1.0),
        "set_trial_user_attr": (trial_id, "a", 1),
        "set_trial_system_attr": (trial_id, "a", 1),
    }.items():
        with pytest.raises(ReadOnly, match="cannot change"):
            getattr(storage, name)(*arguments)
    with pytest.raises(ReadOnly):
        study.ask()
    written = {name for name in vars(optuna.storages.BaseStorage) if name.startswith(("set_", "create_", "delete_"))}
    assert all(getattr(RecordStorage, name) is RecordStorage._refuse for name in written), "Optuna has a new one"


def test_unknown_studies_and_trials_are_key_errors(store: Store) -> None:
    """As Optuna expects it of a storage."""
    new_search(store, "one")
    storage = RecordStorage(store)
    for ask in (
        lambda: storage.get_study_id_from_name("none"),
        lambda: storage.get_study_name_from_id(10**9),
        lambda: storage.get_trial(10**9),
        lambda: storage.get_all_trials(10**9),
        lambda: storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name("one"), 7),
    ):
        with pytest.raises(KeyError):
            ask()


def test_only_what_has_begun_is_shown(store: Store) -> None:
    """A queued search has nothing to show; one search can be asked for by name, and none by a wrong one."""
    fill(store)
    names = {study.study_name for study in RecordStorage(store).get_all_studies()}
    assert {"shoes-desk-1", "cifar-phone-2", "cifar-phone-2 (top-1 and latency)"} <= names
    assert "shoes-phone-1" not in names
    assert len(RecordStorage(store, "shoes-desk-2").get_all_studies()) == 2
    with pytest.raises(StoreError, match="nobody"):
        RecordStorage(store, "nobody")


def test_missing_package_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with what to install."""
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(RunError, match=r"pip install 'mobilenas\[dashboard\]'"):
        dashboard_app(store)
