"""An archive takes one search from one record to another, and a bad one changes nothing."""

import io
import json
import random
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search.archive import read_archive, write_archive
from search.database import Database
from search.store import Store
from space.errors import MobilenasError, RunError, StoreError
from tests.search.content import fill

NAME = "shoes-desk-2"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An archive of a done search, from an SQLite record whose run folder has some files."""
    folder = tmp_path_factory.mktemp("packed")
    url = f"sqlite:///{folder / 'record.db'}"
    with closing(Store.open(url)) as store:
        fill(store, folder / "runs")
    run = folder / "runs" / NAME
    (run / "trials").mkdir(parents=True)
    for number in range(3):
        (run / "trials" / f"{number}.safetensors").write_bytes(random.Random(number).randbytes(5000))
    (run / "report.md").write_text("found")
    (run / "trials" / "9.tmp").write_text("half")
    (run / "secret").symlink_to("/etc/passwd")
    out = io.BytesIO()
    database = Database(url)
    assert write_archive(database, NAME, out) == 4
    database.close()
    return out.getvalue()


def told(store: Store, name: str) -> list[Any]:
    """All that a store says of a search, without ids."""
    search = store.search(name)
    trials = store.trials(search.id)
    table = store.load_table(search.has_begun().table_id)
    return [
        (search.stage, search.owner, search.labels, search.note, search.budget, search.created_at),
        [(trial.number, trial.architecture, trial.scores, trial.state, trial.weights) for trial in trials],
        store.rewards(search.id),
        store.steps(search.id),
        store.network_measurements(search.id),
        store.exports(search.id),
        [(line.at, line.message) for line in store.log(search.id)],
        (table.device, table.scope, table.entries, table.calibration),
    ]


def unpack(url: str, content: bytes, runs: Path, name: str | None = None) -> str:
    """Read an archive into a record."""
    database = Database(url)
    try:
        return read_archive(database, io.BytesIO(content), runs, name)
    finally:
        database.close()


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
        record = store.search(name)
        assert (record.state, record.config["name"]) == ("done", name)
        assert record.has_begun().run_folder == tmp_path / "runs" / name
    assert store.search("second").has_begun().table_id == store.search(NAME).has_begun().table_id
    run = tmp_path / "runs" / NAME
    assert sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()) == [
        "report.md",
        "trials/0.safetensors",
        "trials/1.safetensors",
        "trials/2.safetensors",
    ]
    assert (run / "trials" / "2.safetensors").read_bytes() == random.Random(2).randbytes(5000)


def test_archive_of_a_running_search_is_a_stopped_one(store: Store, database_url: str, tmp_path: Path) -> None:
    """Who runs it stays behind; it can be resumed where it arrives."""
    fill(store)
    out = io.BytesIO()
    database = Database(database_url)
    write_archive(database, "cifar-phone-2", out)
    database.close()
    assert store.search("cifar-phone-2").state == "running"
    unpack(database_url, out.getvalue(), tmp_path / "runs", "here")
    assert store.search("here").state == "stopped"
    assert len(store.requeue_running(store.search("here").id)) == 1


def test_taken_names_and_folders_are_refused(store: Store, database_url: str, packed: bytes, tmp_path: Path) -> None:
    """Nothing is written over, neither in the record nor on the disk."""
    runs = tmp_path / "runs"
    unpack(database_url, packed, runs)
    with pytest.raises(RunError, match="exists already; choose another --name"):
        unpack(database_url, packed, runs)
    with pytest.raises(StoreError, match="exists already; choose another --name"):
        unpack(database_url, packed, tmp_path / "other")
    with pytest.raises(StoreError, match=r"'\.\./x'"):
        unpack(database_url, packed, runs, "../x")
    assert [path.name for path in runs.iterdir()] == [NAME]
    assert list((tmp_path / "other").iterdir()) == []
    assert len(store.searches()) == 1


def rewritten(packed: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The archive with other members; the list of files is kept true."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def row_changed(table: str, index: int = 0, /, **values: object) -> Callable[[dict[str, bytes]], None]:
    """A change of one row."""

    def change(members: dict[str, bytes]) -> None:
        lines = [json.loads(line) for line in members[f"rows/{table}.jsonl"].splitlines()]
        lines[index].update(values)
        members[f"rows/{table}.jsonl"] = "\n".join(json.dumps(line) for line in lines).encode()

    return change


def listed(name: str, content: bytes = b"x") -> Callable[[dict[str, bytes]], None]:
    """One more file, listed as if it belonged there."""

    def change(members: dict[str, bytes]) -> None:
        import hashlib

        manifest = json.loads(members["manifest.json"])
        about = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        manifest["files"][name.removeprefix("run/")] = about
        members["manifest.json"] = json.dumps(manifest).encode()
        members[name] = content

    return change


def text_changed(member: str, old: bytes, new: bytes) -> Callable[[dict[str, bytes]], None]:
    """A change of a member's text."""

    def change(members: dict[str, bytes]) -> None:
        assert old in members[member]
        members[member] = members[member].replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (listed("run/../../evil"), "no part of a search"),
        (listed("run//evil"), "no part of a search"),
        (listed("run/a\\b"), "no part of a search"),
        (listed("run/C:evil"), "no part of a search"),
        (listed("/run/evil"), "no part of a search"),
        (listed("rows/other.jsonl"), "no part of a search"),
        (listed("run/zeros", bytes(10_000_000)), "beyond belief"),
        (lambda members: members.update({"run/more": b""}), "does not hold the files that it lists"),
        (lambda members: members.update({"run/report.md": b"other"}), "not what the archive lists"),
        (lambda members: members.pop("rows/trials.jsonl"), "lacks rows/trials.jsonl"),
        (text_changed("manifest.json", b'"format": 1', b'"format": 2'), "format 2"),
        (text_changed("rows/trials.jsonl", b'"top1": 0.', b'"top1": 1e999, "x": 0.'), "no number"),
        (text_changed("rows/trials.jsonl", b'"seed": 0', b'"seed": NaN'), "no number"),
        (text_changed("rows/searches.jsonl", b'"note"', b'"remark"'), "columns"),
        (row_changed("trials", latency_ms="fast"), "latency_ms cannot be 'fast'"),
        (row_changed("trials", number=2**40), "number cannot be"),
        (row_changed("trials", number=True), "number cannot be"),
        (row_changed("trials", started_at="2026-01-01T00:00:00"), "started_at cannot be"),
        (row_changed("trials", origin="a\0b"), "origin cannot be"),
        (row_changed("trials", origin=None), "origin cannot be"),
        (row_changed("trials", origin="\ud800"), ""),
        (row_changed("trials", started_at="0001-01-01T00:00:00+14:00"), ""),
        (row_changed("trials", params=[[[1]]]), ""),
        (row_changed("trials", weights="../../../etc/passwd"), "no file of the run folder"),
        (row_changed("trials", arch_id="x"), "not the one of its id"),
        (row_changed("trials", architecture="{}"), ""),
        (row_changed("trials", state="lost"), "lost"),
        (row_changed("trials", stage="done"), "no stage"),
        (row_changed("trials", 1, number=0), "refused a row"),
        (row_changed("searches", config={}), ""),
        (row_changed("searches", stage="later"), "later"),
        (row_changed("searches", table_id=77), ""),
        (row_changed("devices", cores=3), "fingerprint"),
        (row_changed("latency_entries", key="x"), ""),
        (row_changed("latency_entries", samples={}), "damaged"),
        (row_changed("network_measurements", samples=[]), "no samples"),
        (row_changed("exports", files={"a": 1}), "SHA-256"),
        (row_changed("exports", trial_id=10**6), ""),
    ],
)
def test_malicious_archive_changes_nothing(
    store: Store,
    database_url: str,
    packed: bytes,
    tmp_path: Path,
    change: Callable[[dict[str, bytes]], None],
    words: str,
) -> None:
    """Whatever is wrong with it is told, no file is left, and no row is recorded."""
    runs = tmp_path / "deep" / "runs"
    with pytest.raises(MobilenasError) as caught:
        unpack(database_url, rewritten(packed, change), runs)
    assert words in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and ".db" not in path.name] == []
    assert store.searches() == []
    assert store.devices() == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), byte=st.integers(1, 255), cut=st.booleans())
def test_damaged_archive_is_refused_or_whole(packed: bytes, tmp_path: Path, place: float, byte: int, cut: bool) -> None:
    """A flipped byte or a cut is told in one line; where it did not matter, the search is there."""
    index = min(int(place * len(packed)), len(packed) - 1)
    content = packed[:index] if cut else packed[:index] + bytes([packed[index] ^ byte]) + packed[index + 1 :]
    number = len(list(tmp_path.iterdir()))
    folder = tmp_path / str(number)
    url = f"sqlite:///{folder / 'record.db'}"
    with closing(Store.open(url)) as store:
        fault = ""
        try:
            unpack(url, content, folder / "runs")
        except MobilenasError as error:
            fault = str(error)
        assert "\n" not in fault.strip()
        assert len(store.searches()) == (0 if fault else 1)
        assert len(list((folder / "runs").glob("*"))) == len(store.searches())
