"""An archive that is damaged, too large or malicious changes nothing."""

import io
import json
import random
import zipfile
from collections.abc import Callable
from contextlib import closing
from copy import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from search.archives import checks as limits
from search.archives.archive import read_archive
from search.archives.consistency import check
from search.record.database import Database
from search.record.schema import metadata
from search.record.store import Store
from service.commands import records
from space.errors import MobilenasError, StoreError
from tests.search.archives.packing import listed, rewritten, row_changed, text_changed, told, unpack


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (listed("run/../../evil"), "no part of a search"),
        (listed("run//evil"), "no part of a search"),
        (listed("run/a\\b"), "no part of a search"),
        (listed("run/C:evil"), "no part of a search"),
        (listed("/run/evil"), "no part of a search"),
        (listed("rows/other.jsonl"), "no part of a search"),
        (listed("run/zeros", bytes(20_000_000)), "not credible"),
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
        (row_changed("trials", origin="a\0b"), "control characters"),
        (row_changed("trials", error="\x1b[2J"), "control characters"),
        (row_changed("searches", note="\x9b2J"), "control characters"),
        (row_changed("trials", params={"\0": 1}), "control characters"),
        (row_changed("trials", images_seen=2**62), "images_seen cannot be"),
        (row_changed("trials", latency_ms=0), "latency_ms cannot be"),
        (row_changed("trials", duration_s=1e308), "duration_s cannot be"),
        (row_changed("trials", top1=1.5), "top-1 outside 0-1"),
        (row_changed("trials", -1, correct=11, total=10), "more images classified correctly"),
        (row_changed("trials", state="running"), "is running in a search that is done"),
        (row_changed("network_measurements", measured_ms=0.0), "measured_ms cannot be"),
        (row_changed("searches", created_at="9999-12-31T23:59:59+00:00"), "created_at cannot be"),
        (row_changed("trials", origin=None), "origin cannot be"),
        (row_changed("trials", started_at="0001-01-01T00:00:00+05:00"), "started_at cannot be"),
        (row_changed("trials", origin="\ud800"), "surrogates not allowed"),
        (row_changed("trials", params=[1]), "no plain values"),
        (row_changed("trials", params={"kernel": [3]}), "no plain values"),
        (row_changed("trials", weights="../../../etc/passwd"), "no file of the run folder"),
        (row_changed("trials", weights="/etc/passwd"), "no file of the run folder"),
        (row_changed("trials", arch_id="x"), "not the one of its id"),
        (row_changed("trials", architecture="{}"), ""),
        (row_changed("trials", state="lost"), "lost"),
        (row_changed("trials", stage="done"), "no stage"),
        (row_changed("trials", 1, number=0), "refused a row"),
        (row_changed("searches", config={"data": {"source": "cifar10"}}), "not the one of its configuration"),
        (row_changed("searches", config={"tricks": 1}), "tricks"),
        (row_changed("searches", stage="later"), "later"),
        (row_changed("searches", table_id=77), ""),
        (row_changed("searches", run_folder=None), "at stage 'done' without run_folder"),
        (row_changed("searches", stage="queued", target_ms=None), "at stage 'queued' without target_ms"),
        (row_changed("latency_tables", conditions=[]), "conditions or calibration"),
        (row_changed("latency_tables", calibration={"scale": "1"}), "conditions or calibration"),
        (row_changed("latency_tables", calibration={"scale": 1}), ""),
        (row_changed("latency_tables", calibration={"networks": 2**40}), "conditions or calibration"),
        (row_changed("latency_tables", calibration={"networks": 1.5}), "conditions or calibration"),
        (row_changed("devices", cores=3), "fingerprint"),
        (row_changed("latency_entries", key="x"), ""),
        (row_changed("latency_entries", samples={}), "damaged"),
        (row_changed("network_measurements", samples=[]), "samples must be positive numbers, got []"),
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
    assert store.searches.all() == []
    assert store.tables.device_rows() == []


@pytest.mark.parametrize(
    ("cap", "words"),
    [
        ("MAX_FILES", "more than 10 files"),
        ("MAX_ROW_BYTES", "the rows of the archive would be larger"),
        ("MAX_FILE_BYTES", "is larger than 10 bytes"),
        ("MAX_RUN_BYTES", "the run folder of the archive would be larger"),
    ],
)
def test_too_much_is_refused(
    packed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cap: str, words: str
) -> None:
    """Files and bytes are counted before the first one is written."""
    monkeypatch.setattr(limits, cap, 10)
    with pytest.raises(StoreError, match=words):
        unpack(f"sqlite:///{tmp_path / 'record.db'}", packed, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_bombs_are_not_unpacked(packed: bytes, tmp_path: Path) -> None:
    """Methods that unpack without bounds, and parts that are used twice, are refused by the directory alone."""
    url = f"sqlite:///{tmp_path / 'record.db'}"
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_BZIP2) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(StoreError, match="compressed in another way"):
        unpack(url, out.getvalue(), tmp_path / "runs")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for number in range(100):
            twin = copy(archive.getinfo("run/trials/0.safetensors"))
            twin.filename = f"run/{number}"
            archive.filelist.append(twin)
    with pytest.raises(StoreError, match="overlap"):
        unpack(url, out.getvalue(), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
        assert len(store.searches.all()) == (0 if fault else 1)
        assert len(list((folder / "runs").glob("*"))) == len(store.searches.all())


def row_counts(database: Database) -> dict[str, int]:
    """How many rows each table has."""
    with database.read() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
        }


def files_below(folder: Path) -> set[Path]:
    """Everything in a folder but the database itself."""
    return {path for path in folder.rglob("*") if ".db" not in path.name}


def replaced(value: Any, chance: random.Random, new: object) -> Any:  # noqa: ANN401 - JSON
    """JSON in which something somewhere is another value, is missing, or has another name."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.2:
        return new
    if isinstance(value, list):
        index = chance.randrange(len(value))
        return [*value[:index], replaced(value[index], chance, new), *value[index + 1 :]]
    key = chance.choice(list(value))
    if chance.random() < 0.1:
        return {name: each for name, each in value.items() if name != key}
    if chance.random() < 0.1 and isinstance(new, str):
        return {new if name == key else name: each for name, each in value.items()}
    return {**value, key: replaced(value[key], chance, new)}


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63, -(2**63), 10**400])
    | st.floats()
    | st.text(st.characters(), max_size=10)
    | st.sampled_from(["..", "../x", "/etc/passwd", "queued", "done", "blocks", "0001-01-01T00:00:00+14:00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("member", ["manifest.json", *(f"rows/{table}.jsonl" for table in limits.TABLES)])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chance=st.randoms(use_true_random=True), new=anything)
def test_changed_value_is_refused_or_readable(
    packed: bytes, tmp_path: Path, member: str, chance: random.Random, new: object
) -> None:
    """Whatever stands in a row or in the list of files, nothing is left behind, or all of it can be read."""

    def change(members: dict[str, bytes]) -> None:
        lines = [
            json.loads(line)
            for line in ([members[member]] if member == limits.MANIFEST else members[member].splitlines())
        ]
        index = chance.randrange(len(lines))
        lines[index] = replaced(lines[index], chance, new)
        members[member] = "\n".join(map(json.dumps, lines)).encode()

    check_import(rewritten(packed, change), tmp_path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chance=st.randoms(use_true_random=True),
    # zipfile cannot write an empty name, nor one behind a NUL.
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
    | st.lists(st.sampled_from(["run", "..", ".", "", "trials", "rows", "C:", "a"]), min_size=2, max_size=5).map(
        "/".join
    ),
)
def test_renamed_file_is_refused_or_confined(packed: bytes, tmp_path: Path, chance: random.Random, name: str) -> None:
    """A file of any name, even a listed one, lands in the run folder or nowhere."""

    def change(members: dict[str, bytes]) -> None:
        old = chance.choice(list(members))
        if chance.random() < 0.5:
            listed(name, members[old])(members)
        else:
            members[name] = members.pop(old)

    check_import(rewritten(packed, change), tmp_path)


def check_import(content: bytes, folder: Path) -> None:
    """An archive is refused without a trace, or arrives and can be read by everybody."""
    url = f"sqlite:///{folder / 'record.db'}"
    database = Database(url)
    with closing(Store.open(url)) as store:
        name = f"search-{len(store.searches.all())}"
        rows, files, refused = row_counts(database), files_below(folder), False
        try:
            read_archive(database, io.BytesIO(content), folder / "runs", name)
        except MobilenasError:
            refused = True
        new = files_below(folder) - files - {folder / "runs"}
        if refused:
            assert (row_counts(database), new) == (rows, set())
        else:
            search = store.searches.get(name)
            assert told(store, name) if search.start else store.trials.of(search.id)
            assert all(folder / "runs" / name in (path, *path.parents) for path in new)
            assert list(check(database)) == []
            records.searches(url, "csv", None, None, folder / "searches.csv")
            records.trials(url, None, "number", "csv", folder / "trials.csv")
            records.devices(url, "csv", folder / "devices.csv")
    database.close()
