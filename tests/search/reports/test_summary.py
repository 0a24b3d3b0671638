"""report.json: what was found, for programs, as its JSON Schema says."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from search.record.store import Store
from search.reports.recorded_search import RecordedSearch
from search.reports.summary import schema_text, summary_of, write_summary
from search.trial import SearchStage
from tests.search.content import Writer
from tests.search.makers import CONFIG, new_search
from tests.search.realistic import Teller, whole_search

SCHEMA = Path(__file__).parents[3] / "docs" / "report.schema.json"


def written(recorded: RecordedSearch) -> dict[str, Any]:
    """The file, which its schema accepts."""
    recorded.files.path.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = json.loads(write_summary(recorded).read_bytes())
    jsonschema.validate(content, json.loads(SCHEMA.read_bytes()))
    return content


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordedSearch]:
    """A search that is done."""
    folder = tmp_path_factory.mktemp("record")
    with closing(Store.open(f"sqlite:///{folder / 'record.db'}")) as store:
        whole_search(store, "done", folder, trials=12)
        yield RecordedSearch.read(store, "done")


def test_the_schema_in_the_docs_is_that_of_the_program() -> None:
    """Whoever reads the file by its schema reads what is written."""
    assert SCHEMA.read_text(encoding="utf-8") == schema_text()


def test_figures_are_those_of_the_record(done: RecordedSearch) -> None:
    """Both networks with their top-1, latencies and cost; the one device says the same once more."""
    content = written(done)
    found, reference = done.both()
    measured = done.measurements(done.devices[0])
    for trial, told in ((found, content["found"]), (reference, content["reference"])):
        assert trial.correct is not None
        assert trial.total is not None
        assert told["test_top1"] == pytest.approx(trial.correct / trial.total)
        assert told["test_interval"][0] < told["test_top1"] < told["test_interval"][1]
        assert told["reward_top1"] == trial.scores.top1
        assert told["measured_ms"] == measured[trial.number].measured_ms
        assert told["measured_interval"] == [measured[trial.number].low_ms, measured[trial.number].high_ms]
        assert (told["madds"], told["params"]) == (trial.scores.madds, trial.scores.params)
        assert (told["images_seen"], told["arch_id"]) == (trial.images_seen, trial.architecture.arch_id)
        (device,) = content["devices"].values()
        part = device["found" if trial is found else "reference"]
        assert {name: told[name] for name in part} == part
    assert content["reference"]["name"] == "MobileNetV3-Small, width 0.5, 32 px"
    assert content["measured_share"] == pytest.approx(
        measured[found.number].measured_ms / measured[reference.number].measured_ms
    )
    assert content["target_ms"] == done.start.target_ms
    assert content["ids"]["data"] == done.start.data_hash


def test_minutes_are_those_in_which_trials_ran(done: RecordedSearch) -> None:
    """Trials of the made-up search run one after the other, so a stage takes their sum."""
    minutes = summary_of(done).minutes
    for stage, told in ((SearchStage.BLOCKS, minutes.blocks), (SearchStage.FINAL, minutes.final)):
        spans = [
            trial.finished_at - trial.started_at
            for trial in done.trials(stage)
            if trial.finished_at is not None and trial.started_at is not None
        ]
        assert told == pytest.approx(sum(spans, timedelta()).total_seconds() / 60, abs=1e-3)


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    """Before certification nothing is measured, and so there is no share."""
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        teller = Teller(store, "early", tmp_path, seed=1)
        teller.finals(teller.blocks(5)[1].architecture)
        content = written(RecordedSearch.read(store, "early"))
    assert content["measured_share"] is None
    assert content["found"]["measured_ms"] is None
    assert content["found"]["measured_interval"] is None
    assert content["found"]["predicted_ms"] > 0
    assert content["found"]["test_top1"] > 0


def test_a_search_without_data_has_no_test_top1(tmp_path: Path) -> None:
    """A user's own function judged the network, and nothing was trained; there need not be a reference."""
    data = {**CONFIG["data"], "source": "none", "resolution": 32, "channels": 1, "classes": 10}
    config: dict[str, Any] = {**CONFIG, "evaluator": "mine:top1", "data": data}
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        writer = Writer(store, new_search(store, "own", config=config, run_folder=tmp_path / "own"))
        best = writer.trial(top1=0.75)
        store.trials.add_export(writer.search.id, best.number, folder="out", files={})
        content = written(RecordedSearch.read(store, "own"))
    assert content["found"]["test_top1"] is None
    assert content["found"]["reward_top1"] == 0.75
    assert content["reference"] is None
    assert content["ids"]["found_trial"] == best.number
