"""An archive takes one search from one record to another."""

import io
import json
import random
from contextlib import closing
from pathlib import Path

import pytest

from search.archives.archive import write_archive
from search.record.database import Database
from search.record.store import Store
from space.errors import RunError, StoreError
from tests.search.archives.packing import NAME, rewritten, row_changed, text_changed, told, unpack
from tests.search.content import fill


def test_search_arrives_whole(store: Store, database_url: str, packed: bytes, tmp_path: Path) -> None:
    """Rows, tables and files are the same in the other record, under the same or another name."""
    assert unpack(database_url, packed, tmp_path / "runs") == NAME
    assert unpack(database_url, packed, tmp_path / "runs", "second") == "second"
    with closing(Store.open(f"sqlite:///{tmp_path / 'origin.db'}")) as origin:
        fill(origin)
        expected = told(origin, NAME)
    for name in (NAME, "second"):
        found = told(store, name)
        # Moments are the writing record's own.
        assert found[1:5] == expected[1:5]
        assert found[7] == expected[7]
        assert [line for _, line in found[6]] == [line for _, line in expected[6]]
        record = store.searches.get(name)
        assert (record.state, record.config["name"]) == ("done", name)
        assert record.require_start().run_folder == tmp_path / "runs" / name
    assert store.searches.get("second").require_start().table_id == store.searches.get(NAME).require_start().table_id
    run = tmp_path / "runs" / NAME
    assert sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()) == [
        "report.md",
        "trials/0.safetensors",
        "trials/1.safetensors",
        "trials/2.safetensors",
    ]
    assert (run / "trials" / "2.safetensors").read_bytes() == random.Random(2).randbytes(5000)


def test_search_that_has_not_begun_is_handed_over_too(store: Store, database_url: str, tmp_path: Path) -> None:
    """What waits in the queue, or failed there, is stopped where it arrives: here in a database of the other kind."""
    fill(store)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    with closing(Store.open(other)) as arrived:
        for name in ("photos-desk-1", "shoes-phone-1"):
            out = io.BytesIO()
            database = Database(database_url)
            assert write_archive(database, name, out) == 0
            database.close()
            unpack(other, out.getvalue(), tmp_path / "runs")
            found, sent = arrived.searches.get(name), store.searches.get(name)
            assert (found.start, found.note, found.labels) == (None, sent.note, sent.labels)
            assert found.config == {**sent.config, "name": name}
        assert {search.name: search.state for search in arrived.searches.all()} == {
            "photos-desk-1": "failed",
            "shoes-phone-1": "stopped",
        }


def test_archives_of_the_schemas_before_are_read(
    store: Store, database_url: str, packed: bytes, tmp_path: Path
) -> None:
    """What 0003 to 0011 wrote, without what came later, is read; what 0002 or 0013 wrote is not."""
    older = rewritten(packed, as_of_0003)
    unpack(database_url, older, tmp_path / "runs", "older")
    assert store.searches.get("older").state == "done"
    assert store.trials.of(store.searches.get("older").id)[0].scores.peak_bytes is None
    for schema in (b"0002", b"0013"):
        other = rewritten(packed, text_changed("manifest.json", b'"schema": "0012"', b'"schema": "%s"' % schema))
        with pytest.raises(StoreError, match=f"schema '{schema.decode()}'"):
            unpack(database_url, other, tmp_path / "runs", "other")


def as_of_0003(members: dict[str, bytes]) -> None:
    """Leave out what came with later schemas."""
    members["manifest.json"] = members["manifest.json"].replace(b'"schema": "0012"', b'"schema": "0003"')
    for name in ("search_targets", "trial_latencies", "present_models", "present_measurements"):
        del members[f"rows/{name}.jsonl"]
    for table, columns in {
        "latency_entries": ("low_ms", "high_ms", "spread"),
        "searches": ("group_name", "priority", "data_facts"),
        "trials": ("peak_bytes", "sampler_attrs", "log_likelihood", "probability"),
    }.items():
        rows = [json.loads(line) for line in members[f"rows/{table}.jsonl"].splitlines()]
        for row in rows:
            for column in columns:
                del row[column]
        members[f"rows/{table}.jsonl"] = b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_a_search_that_calls_functions_comes_only_when_it_is_done(
    store: Store, database_url: str, packed: bytes, tmp_path: Path
) -> None:
    """Whoever resumed it would run what somebody else named; a finished one is only read."""
    config = {"evaluator": "os:system", "plugins": "/tmp"}  # noqa: S108 - nothing is written there
    done = rewritten(packed, row_changed("searches", config={"data": {"source": "fashion-mnist"}, **config}))
    unpack(database_url, done, tmp_path / "runs", "called")
    assert store.searches.get("called").state == "done"
    running = rewritten(done, row_changed("searches", stage="final"))
    with pytest.raises(StoreError, match="calls os:system"):
        unpack(database_url, running, tmp_path / "runs", "running")


def test_configuration_is_recorded_whole(store: Store, database_url: str, packed: bytes, tmp_path: Path) -> None:
    """An older mobilenas may have known fewer keys; what is missing is the default, as in a file."""
    change = row_changed("searches", config={"data": {"source": "fashion-mnist"}})
    unpack(database_url, rewritten(packed, change), tmp_path / "runs", "short")
    assert store.searches.get("short").config["device"]["name"]


def test_names_that_could_not_be_read_back_are_refused(store: Store, database_url: str, tmp_path: Path) -> None:
    """An archive that nobody could import is not written."""
    fill(store, tmp_path / "runs")
    folder = store.searches.get(NAME).require_start().run_folder
    folder.mkdir(parents=True)
    (folder / "why?.txt").write_text("")
    database = Database(database_url)
    with pytest.raises(RunError, match=r"why\?\.txt' has a name that not every system can have; rename"):
        write_archive(database, NAME, io.BytesIO())
    database.close()


@pytest.mark.usefixtures("store")
def test_empty_run_folder_may_be_there(database_url: str, packed: bytes, tmp_path: Path) -> None:
    """Whoever made the folder beforehand need not remove it."""
    (tmp_path / "runs" / NAME).mkdir(parents=True)
    unpack(database_url, packed, tmp_path / "runs")
    assert (tmp_path / "runs" / NAME / "report.md").read_text() == "found"


def test_archive_of_a_running_search_is_a_stopped_one(store: Store, database_url: str, tmp_path: Path) -> None:
    """Who runs it stays behind; it can be resumed where it arrives."""
    fill(store)
    out = io.BytesIO()
    database = Database(database_url)
    write_archive(database, "cifar-phone-2", out)
    database.close()
    assert store.searches.get("cifar-phone-2").state == "running"
    unpack(database_url, out.getvalue(), tmp_path / "runs", "here")
    assert store.searches.get("here").state == "stopped"
    assert len(store.trials.requeue_running(store.searches.get("here").id)) == 1


def test_taken_names_and_folders_are_refused(store: Store, database_url: str, packed: bytes, tmp_path: Path) -> None:
    """Nothing is written over, neither in the record nor on the disk."""
    runs = tmp_path / "runs"
    unpack(database_url, packed, runs)
    with pytest.raises(RunError, match="exists already and is not empty; choose another --name"):
        unpack(database_url, packed, runs)
    with pytest.raises(StoreError, match="exists already; choose another --name"):
        unpack(database_url, packed, tmp_path / "other")
    with pytest.raises(StoreError, match=r"'\.\./x'"):
        unpack(database_url, packed, runs, "../x")
    assert [path.name for path in runs.iterdir()] == [NAME]
    assert list((tmp_path / "other").iterdir()) == []
    assert len(store.searches.all()) == 1
