"""docs/database.md: every question runs on every database, with the right answer, and the reference is the schema's."""

import re
import runpy
from collections import Counter
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from search.record.schema import metadata
from search.record.store import Store
from search.record.views import VIEWS
from search.trial import SearchStage, State
from tests.postgres import PostgresServer
from tests.search.content import fill
from tests.search.makers import ask

PAGE = Path(__file__).parents[3] / "docs" / "database.md"
_BLOCK = re.compile(r"^### ([^\n]+\?)\n[^#]*?```sql\n(.*?)```", re.MULTILINE | re.DOTALL)
QUESTIONS: dict[str, str] = dict(_BLOCK.findall(PAGE.read_text()))


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> list[str]:
    """The same content in an SQLite and a PostgreSQL database."""
    found = [f"sqlite:///{tmp_path_factory.mktemp('questions') / 'record.db'}", postgres.blank()]
    for url in found:
        with closing(Store.open(url)) as store:
            fill(store)
    return found


def answer(url: str, words: str) -> list[dict[str, Any]]:
    """The answer to the one question whose heading holds these words."""
    (query,) = [sql for heading, sql in QUESTIONS.items() if words in heading]
    return ask(url, query)


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what differs between two records of the same content: moments and processes."""
    kept = {}
    for name, value in row.items():
        if name.endswith("_at") or name in ("at", "claimed_by") or isinstance(value, datetime):
            continue
        kept[name] = round(value, 9) if isinstance(value, float) else value
    return kept


def test_there_are_enough_questions() -> None:
    """At least fifteen are answered, and no SQL of the page is left out."""
    assert len(QUESTIONS) >= 15
    assert len(QUESTIONS) == PAGE.read_text().count("```sql")


@pytest.mark.parametrize("heading", QUESTIONS)
def test_both_databases_answer_alike(urls: list[str], heading: str) -> None:
    """Each question has an answer, which is the same, in type and order too."""
    lite, postgres = (ask(url, QUESTIONS[heading]) for url in urls)
    assert lite
    assert [plain(row) for row in lite] == [plain(row) for row in postgres]
    kinds = [[{name: type(value) for name, value in plain(row).items()} for row in rows] for rows in (lite, postgres)]
    assert kinds[0] == kinds[1]


def test_answers_are_right(urls: list[str]) -> None:
    """Answers agree with what Python finds out from the store."""
    for url in urls:
        with closing(Store.open(url)) as store:
            searches = {search.name: search for search in store.searches.all()}
            trials = {name: store.trials.of(search.id) for name, search in searches.items()}
            rewards = {name: store.trials.rewards(search.id) for name, search in searches.items()}
            last_step = store.trials.steps(searches["shoes-desk-1"].id)[-1]

        # failed trials by reason
        failed = Counter(each.error for of in trials.values() for each in of if each.state is State.FAILED)
        assert {row["reason"]: row["trials"] for row in answer(url, "Why did trials fail")} == failed

        # best so far at equal evaluations
        def best(name: str, count: int, rewards: dict[str, dict[int, float]] = rewards) -> float:
            return max(list(rewards[name].values())[:count])

        for row in answer(url, "equally many evaluations"):
            assert row["first_search"] == best("shoes-desk-1", row["evaluations"])
            assert row["second_search"] == best("shoes-desk-2", row["evaluations"])

        # what the best twentieth share
        ranked = sorted(rewards["shoes-desk-1"].items(), key=lambda pair: -pair[1])
        most = 0.05 * (len(ranked) - 1)
        enough = [number for number, reward in ranked if sum(other > reward for _, other in ranked) <= most]
        by_number = {trial.number: trial for trial in trials["shoes-desk-1"]}
        counted = Counter(
            (stage + 1, place + 1, block.kernel_size, block.expanded_channels, int(block.use_se), block.activation)
            for number in enough
            for stage, of in enumerate(by_number[number].architecture.stages)
            for place, block in enumerate(of.blocks)
        )
        shared = answer(url, "best 5 % share")
        columns = ("stage_index", "block_index", "kernel_size", "expanded_channels", "use_se", "activation")
        assert {tuple(row[name] for name in columns): row["trials"] for row in shared} == counted
        assert all(row["share"] == row["trials"] / len(enough) for row in shared)

        # cost
        for row in answer(url, "core-hours"):
            own = [each for each in trials[row["search"]] if each.reused_from is None]
            hours = sum(
                (each.finished_at - each.started_at).total_seconds() / 3600
                for each in own
                if each.finished_at and each.started_at
            )
            assert row["core_hours"] == pytest.approx(hours)
            assert row["images_seen"] == sum(each.images_seen for each in own)
        assert any(row["saved_core_hours"] > 0 for row in answer(url, "core-hours"))

        # leaders
        for row in answer(url, "Who leads"):
            rivals = [
                each
                for name, of in trials.items()
                if searches[name].config["data"]["source"] == row["data"]
                and searches[name].config["device"]["name"] == row["device"]
                for each in of
                if each.stage is SearchStage.FINAL and each.origin == "found"
            ]
            assert row["test_top1"] == max(each.correct / each.total for each in rivals if each.correct and each.total)

        # refused, projects, walk
        for row in answer(url, "refused as too slow"):
            states = [each.state for each in trials[row["search"]]]
            assert (row["pruned"], row["trials"]) == (states.count(State.PRUNED), len(states))
        labelled = {name for name, search in searches.items() if "paper" in search.labels}
        assert {row["name"] for row in answer(url, "belong to a project")} == labelled
        lineage = [row["number"] for row in answer(url, "weights come from")]
        number: int | None = last_step.trial
        while number is not None:
            assert lineage.pop(0) == number
            number = by_number[number].parent
        assert lineage == []


def test_blocks_are_those_of_the_specs(urls: list[str]) -> None:
    """`trial_blocks` has every block of every network, with the channels that go in and out."""
    for url in urls:
        with closing(Store.open(url)) as store:
            for search in store.searches.all():
                for trial in store.trials.of(search.id):
                    expected, channels = [], trial.architecture.stem.out_channels
                    for index, stage in enumerate(trial.architecture.stages, start=1):
                        for place, block in enumerate(stage.blocks, start=1):
                            expected.append(
                                {
                                    "search": search.name,
                                    "number": trial.number,
                                    "stage_index": index,
                                    "block_index": place,
                                    "kind": block.kind,
                                    "kernel_size": block.kernel_size,
                                    "in_channels": channels,
                                    "expanded_channels": block.expanded_channels,
                                    "out_channels": stage.out_channels,
                                    "stride": stage.stride if place == 1 else 1,
                                    "use_se": int(block.use_se),
                                    "activation": block.activation,
                                }
                            )
                            channels = stage.out_channels
                    query = (
                        "SELECT * FROM trial_blocks WHERE search = :search AND number = :number "
                        "ORDER BY stage_index, block_index"
                    )
                    if trial.number % 5 == 0:  # all of them would take long and say the same
                        assert ask(url, query, search=search.name, number=trial.number) == expected


def test_coverage_and_certificates(urls: list[str]) -> None:
    """Every device has its coverage; every export of a measured network is there with its errors."""
    for url in urls:
        coverage = {row["device"]: row for row in ask(url, "SELECT * FROM device_coverage")}
        assert set(coverage) == {"desk", "phone"}
        assert (coverage["desk"]["searches"], coverage["phone"]["searches"]) == (2, 2)
        assert coverage["desk"]["calibration_networks"] == 40
        assert coverage["desk"]["calibration_error_pct"] == pytest.approx(1.3)
        assert coverage["phone"]["calibration_networks"] is None
        assert coverage["desk"]["mean_error_pct"] == pytest.approx((1 - 1 / 1.02) * 100)
        certified = ask(url, "SELECT * FROM certified_exports")
        assert {row["search"] for row in certified} == {"shoes-desk-1", "shoes-desk-2", "cifar-phone-1"}
        for row in certified:
            assert row["meets_target"] == int(row["measured_ms"] <= row["target_ms"]) == 1
            assert row["error_pct"] == pytest.approx((1 / 1.02 - 1) * 100)


def test_reference_is_the_schemas() -> None:
    """The page's reference part is what the tool writes, and names every table, view and column."""
    tool = runpy.run_path(str(PAGE.parents[1] / "tools" / "database_reference.py"))
    page = PAGE.read_text()
    assert tool["written"](page) == page, "run: python tools/database_reference.py"
    assert set(tool["GRAINS"]) == set(metadata.tables)
    for name in (*VIEWS, *metadata.tables):
        assert f"#### `{name}`" in page
