"""An archive of a search, how tests change it, and what arrives of it."""

import hashlib
import io
import json
import random
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from search.archives.archive import read_archive, write_archive
from search.record.database import Database
from search.record.store import Store
from tests.search.content import fill

NAME = "shoes-desk-2"


def pack(folder: Path) -> bytes:
    """An archive of a done search, from an SQLite record whose run folder has some files."""
    url = f"sqlite:///{folder / 'record.db'}"
    with closing(Store.open(url)) as store:
        fill(store, folder / "runs")
    run = folder / "runs" / NAME
    (run / "trials").mkdir(parents=True)
    for number in range(3):
        (run / "trials" / f"{number}.safetensors").write_bytes(random.Random(number).randbytes(5000))
    (run / "report.md").write_text("found")
    (run / "certify.zip").write_bytes(b"a program for somebody's device")  # no reader takes it from an archive
    (run / "trials" / "9.tmp").write_text("half")
    (run / "secret").symlink_to("/etc/passwd")
    out = io.BytesIO()
    database = Database(url)
    assert write_archive(database, NAME, out) == 5
    database.close()
    return out.getvalue()


def told(store: Store, name: str) -> list[Any]:
    """All that a store says of a search, without ids."""
    search = store.searches.get(name)
    trials = store.trials.of(search.id)
    table_id = search.require_start().table_id
    assert table_id is not None
    table = store.tables.load(table_id)
    return [
        (search.stage, search.owner, search.labels, search.note, search.budget, search.created_at),
        [(trial.number, trial.architecture, trial.scores, trial.state, trial.weights) for trial in trials],
        store.trials.rewards(search.id),
        store.trials.steps(search.id),
        store.trials.measurements(search.id),
        store.trials.exports(search.id),
        [(line.at, line.message) for line in store.searches.log(search.id)],
        (table.device, table.scope, table.entries, table.calibration),
    ]


def unpack(url: str, content: bytes, runs: Path, name: str | None = None) -> str:
    """Read an archive into a record."""
    database = Database(url)
    try:
        return read_archive(database, io.BytesIO(content), runs, name)
    finally:
        database.close()


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
