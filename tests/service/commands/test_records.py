"""Commands on a record: asking, annotating, keeping, handing over; each on SQLite and PostgreSQL."""

import io
import json
import os
import re
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyarrow import parquet

from search.record.store import Store
from search.record.views import VIEWS
from tests.search.content import fill
from tests.tiny import Result

Run = Callable[..., Result]


@pytest.fixture
def url(database_url: str, tmp_path: Path) -> str:
    """A record with content, run folders in tmp_path/runs."""
    with closing(Store.open(database_url)) as store:
        fill(store, tmp_path / "runs")
        for search in store.searches.all():
            if search.start:
                (search.start.run_folder / "trials").mkdir(parents=True)
                for number in range(len(store.trials.of(search.id))):
                    (search.start.run_folder / "trials" / f"{number}.safetensors").write_bytes(bytes(100))
    return database_url


@pytest.fixture
def run(mobilenas: Run, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The command line with this record."""
    from service.settings import forget

    monkeypatch.setenv("MOBILENAS_DATABASE_URL", url)
    monkeypatch.setenv("MOBILENAS_OWNER", "tester")
    monkeypatch.setattr(
        "search.record.claims.CLAIM_EXPIRES_S", 3600.0
    )  # whoever runs a search of the record gives no further sign
    monkeypatch.setenv("MOBILENAS_RUNS", str(tmp_path / "runs"))
    forget()
    return mobilenas


def refused(result: Result, words: str) -> None:
    """Exit code 2 and one line with these words."""
    assert result.code == 2, result.out
    assert len(result.err.strip().splitlines()) == 1
    assert words in result.err


def test_searches_are_listed_by_owner_and_label(run: Run) -> None:
    """The state of each is told in one word; filters choose."""
    rows = json.loads(run("searches", "--format", "json").out)
    assert {row["name"]: row["state"] for row in rows} == {
        "shoes-desk-1": "done",
        "shoes-desk-2": "done",
        "cifar-phone-1": "done",
        "cifar-phone-2": "running",
        "photos-desk-1": "failed",
        "shoes-phone-1": "queued",
    }
    ada = json.loads(run("searches", "--owner", "ada", "--label", "paper", "--format", "json").out)
    assert [row["name"] for row in ada] == ["shoes-desk-1", "cifar-phone-1"]
    assert run("searches", "--owner", "nobody").out == "no searches\n"
    assert "queued" in run("searches").out


def test_parquet_has_types_also_without_values(run: Run, tmp_path: Path) -> None:
    """A file for BI tools has the view's columns and types, and the rows that csv and json have."""
    out = tmp_path / "trials.parquet"
    assert run("trials", "--format", "parquet", "--out", out).code == 0
    table = parquet.read_table(out)
    assert table.column_names == [column[0] for column in VIEWS["trial_summary"].columns]
    rows = json.loads(run("trials", "--format", "json").out)
    found = table.to_pylist()
    assert [(row["search"], row["number"], row["top1"]) for row in found] == [
        (row["search"], row["number"], row["top1"]) for row in rows
    ]
    assert found[0]["started_at"] == datetime(2026, 3, 1, 8, tzinfo=UTC)
    kinds = {field.name: str(field.type) for field in table.schema}
    assert (kinds["madds"], kinds["top1"], kinds["started_at"]) == ("int64", "double", "timestamp[us, tz=UTC]")
    other = tmp_path / "queued.parquet"
    run("trials", "--search", "shoes-phone-1", "--format", "parquet", "--out", other)
    assert parquet.read_schema(other) == parquet.read_schema(out)
    assert len(run("trials", "--format", "csv").out.splitlines()) == len(rows) + 1
    refused(run("trials", "--out", tmp_path / "x"), "choose csv, json or parquet")
    refused(run("trials", "--format", "csv", "--out", tmp_path / "no" / "x"), "choose another --out")


def test_queueing_naming_and_stopping(run: Run, tmp_path: Path) -> None:
    """A queued search has an owner, labels and a name of its own; it can be stopped, queued again and annotated."""
    for number in (1, 2):
        told = run("search", "--queue", "--label", "a", "--label", "b", "--note", "later", "--budget", "quick")
        assert told.code == 0, told.err
        assert f"'fashion-mnist-local-{number}' is queued" in told.out
    name = "fashion-mnist-local-1"
    (row,) = [row for row in json.loads(run("searches", "--format", "json").out) if row["name"] == name]
    assert (row["owner"], row["labels"], row["note"], row["state"]) == ("tester", "a b", "later", "queued")
    assert "is stopped" in run("stop", name).out
    assert "queued, stopped" in run("status", name).out
    assert run("resume", name, "--queue").code == 0
    assert "waiting for a coordinator" in run("status", name).out
    assert run("annotate", name, "--label", "c", "--note", "", "--owner", "eve").code == 0
    assert "owner eve, c" in run("status", name).out
    assert run("annotate", name, "--priority", "3").code == 0
    assert "owner eve, c, priority 3" in run("status", name).out
    refused(run("search", "--priority", "3"), "add --queue")
    refused(run("search", "--queue", "--name", name), "exists already")
    refused(run("search", "--queue", "--budget", "soon"), "budget 'soon'")
    bad = tmp_path / "bad.yaml"
    bad.write_text("space: {preset: resnet}")
    refused(run("search", "--queue", "--config", bad), "resnet")
    refused(run("stop", "shoes-desk-1"), "is done")
    refused(run("stop", "shoes"), "no search named 'shoes'")
    refused(run("resume", "cifar-phone-2", "--queue"), "being run by another process")
    assert "will now end" in run("finish", "cifar-phone-2").out
    assert "will stop" in run("stop", "cifar-phone-2").out


def test_logs_are_printed_from_anywhere(run: Run) -> None:
    """Text for people, JSON for programs; following a search that has ended ends."""
    told = run("logs", "shoes-desk-1").out.splitlines()
    assert told[0].endswith("block-level search …")
    assert "warning: trial 12 failed" in told[1]
    lines = [json.loads(line) for line in run("logs", "shoes-desk-1", "--format", "json").out.splitlines()]
    assert [line["event"] for line in lines] == ["begin", "trial", "note"]
    assert (lines[1]["trial"], lines[1]["search"], lines[1]["level"]) == (12, "shoes-desk-1", "warning")
    assert "is failed: imagefolder:/photos is no folder" in run("logs", "-f", "photos-desk-1").out


def test_archive_through_a_file_and_through_pipes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search is handed over under another name; a broken file is refused in one line."""
    out = tmp_path / "shoes.zip"
    assert run("archive", "shoes-desk-1", "--out", out).code == 0
    refused(run("archive", "shoes-desk-1", "--out", out), "exists already")
    told = run("archive", "--import", out, "--name", "copy", "--runs", tmp_path / "elsewhere")
    assert told.code == 0, told.err
    assert "done" in run("status", "copy").out
    assert (tmp_path / "elsewhere" / "copy" / "trials" / "0.safetensors").read_bytes() == bytes(100)
    refused(run("archive", "--import", out), "exists already")
    out.write_bytes(out.read_bytes()[:-100])
    refused(run("archive", "--import", out, "--name", "other"), "ask for a new one")
    refused(run("archive", "--import", tmp_path / "none"), "cannot be read")
    refused(run("archive"), "name a search")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    run("archive", "shoes-desk-2", "--out", "-")
    content = stream.buffer.getvalue()
    monkeypatch.undo()
    assert content.startswith(b"PK")


def test_gc_frees_and_tells(run: Run, tmp_path: Path) -> None:
    """A dry run tells what would go; afterwards it is gone, and exporting it says so."""
    would = run("gc", "--dry-run")
    freed = run("gc")
    assert would.out.replace("would free", "freed") == freed.out
    assert "shoes-desk-1: " in freed.out
    assert "in 3 finished searches" in freed.out
    assert len(list((tmp_path / "runs" / "cifar-phone-2" / "trials").iterdir())) == 3
    assert "freed 0.0 MB" in run("gc").out
    refused(run("gc", "--search", "cifar-phone-2"), "not done")
    rows = json.loads(run("trials", "--search", "shoes-desk-1", "--sort", "reward", "--format", "json").out)
    worst = [row for row in rows if row["reward"] is not None][-1]["number"]
    refused(run("export", "shoes-desk-1", "--trial", worst), "freed by `mobilenas gc`")


def test_database_commands(run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """upgrade, check, backup and copy say what they did; a fault is exit code 2."""
    assert "0012 is current" in run("db", "upgrade").out
    checked = run("db", "check")
    assert checked.code == 0, checked.out + checked.err
    assert "no faults" in checked.out
    assert run("db", "backup", "--out", tmp_path / "b.db").code == 0
    target = f"sqlite:///{tmp_path / 'c.db'}"
    assert "searches" in run("db", "copy", url, target).out
    refused(run("db", "copy", url, target), "not empty")
    refused(run("db", "check", "--database", f"sqlite:///{tmp_path / 'none.db'}"), "1 fault(s)")
    import sqlite3

    with sqlite3.connect(tmp_path / "c.db") as connection:
        connection.execute("UPDATE trials SET top1 = 2 WHERE id = 2")
    connection.close()
    faulty = run("db", "check", "--database", target)
    assert faulty.code == 2
    assert "top-1 outside 0-1" in faulty.out
    assert "1 fault(s)" in faulty.err
    monkeypatch.setenv("MOBILENAS_READER_PASSWORD", "s3cret'")
    from service.settings import forget

    forget()
    told = run("db", "upgrade")
    assert ("role mobilenas_reader may read" in told.out) == url.startswith("postgresql")
    assert "s3cret" not in told.out + told.err + json.dumps(dict(os.environ)).replace("s3cret'", "")


def test_status_of_a_failed_search_says_what_to_do(run: Run) -> None:
    """What is wrong and what comes next."""
    told = run("status", "photos-desk-1").out
    assert "imagefolder:/photos is no folder" in told
    assert "mobilenas resume photos-desk-1" in told
    assert "owner bob, zoo" in told


def test_status_says_on_which_split_each_top1_is(run: Run) -> None:
    """The found network has one on each split, a block-level trial on the reward split alone."""
    told = run("status", "shoes-desk-1").out
    assert "found     trial 30: top-1 90.00% (test split), 90.00% (reward split), 1.900 ms predicted" in told
    assert re.search(
        r"best      block-level trial \d+: top-1 \d\d\.\d\d% \(reward split\), \d\.\d{3} ms predicted, reward ", told
    )
    assert "narrowed  3 steps, down to 1.900 ms predicted" in told
    assert "top1: on the reward split" in run("trials", "--search", "shoes-desk-1").out
    assert "top1" not in run("trials", "--search", "shoes-phone-1").out
