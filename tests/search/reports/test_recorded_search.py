"""What counts as the network that a search found, for reports, pages, exports and walks alike."""

from contextlib import closing
from pathlib import Path

import pytest

from search.config.load import parse_config
from search.record.store import Store
from search.reports.history import History
from search.reports.recorded_search import RecordedSearch, found_trial, reference_trial
from search.trial import Origin, SearchStage, State
from space.errors import RunError
from tests.search.content import Writer
from tests.search.makers import new_search

NO_DATA = parse_config(
    {
        "data": {"source": "none", "resolution": 32, "channels": 1, "classes": 10},
        "evaluator": "mine:top1",
        "device": {"name": "desk"},
    }
).model_dump(mode="json")


@pytest.fixture
def sqlite(tmp_path: Path) -> Store:
    """A store that no backend changes: what is chosen is a matter of values."""
    return Store.open(f"sqlite:///{tmp_path / 'record.db'}")


def test_only_a_complete_final_trial_is_found(sqlite: Store) -> None:
    """Neither a block-level trial of that name, nor a candidate, nor a failed final one."""
    with closing(sqlite) as store:
        writer = Writer(store, new_search(store, "one"))
        writer.trial(top1=0.9, origin=Origin.FOUND)
        writer.trial(SearchStage.FINAL, top1=0.8, origin=Origin.CANDIDATE)
        writer.trial(SearchStage.FINAL, State.FAILED, origin=Origin.FOUND)
        recorded = RecordedSearch.read(store, "one")
        assert History.read(store, "one").found is None
        with pytest.raises(RunError, match="has found no network yet; see: mobilenas status one"):
            _ = recorded.found
        final = writer.trial(SearchStage.FINAL, top1=0.7, origin=Origin.FOUND)
        assert RecordedSearch.read(store, "one").found.number == final.number
        with pytest.raises(RunError, match="has found no network yet"):
            RecordedSearch.read(store, "one").both()
        reference = writer.trial(SearchStage.FINAL, top1=0.6, origin=Origin.REFERENCE)
        both = RecordedSearch.read(store, "one").both()
        assert [trial.number for trial in both] == [final.number, reference.number]


def test_reports_and_pages_mean_the_same(sqlite: Store) -> None:
    """Of several found networks both take the exported one, and the reference that was trained in the end."""
    with closing(sqlite) as store:
        writer = Writer(store, new_search(store, "one"))
        for top1 in (0.80, 0.82, 0.81):
            writer.trial(SearchStage.FINAL, top1=top1, origin=Origin.FOUND)
        reference = writer.trial(SearchStage.FINAL, top1=0.5, origin=Origin.REFERENCE)
        for exported in (None, 2):
            if exported is not None:
                store.trials.add_export(writer.search.id, exported, folder="out", files={})
            history, recorded = History.read(store, "one"), RecordedSearch.read(store, "one")
            assert history.found is not None
            assert history.found.number == recorded.found.number == (1 if exported is None else exported)
            assert history.final_reference is not None
            assert history.final_reference.number == recorded.both()[1].number == reference.number


def test_without_data_it_is_the_exported_spec(sqlite: Store) -> None:
    """Where nothing is trained in the end, an export says what was found; with data it does not."""
    with closing(sqlite) as store:
        for name, config in (("no-data", {"config": NO_DATA}), ("data", {})):
            writer = Writer(store, new_search(store, name, **config))
            for top1 in (0.9, 0.7):
                writer.trial(top1=top1)
            store.trials.add_export(writer.search.id, 1, folder="out", files={})
        found = History.read(store, "no-data").found
        assert found is not None
        assert found.number == RecordedSearch.read(store, "no-data").found.number == 1
        assert History.read(store, "data").found is None


def test_nothing_is_found_among_nothing() -> None:
    """A search without trials has neither network."""
    assert found_trial([], [], has_finals=True) is None
    assert found_trial([], [], has_finals=False) is None
    assert reference_trial([]) is None
