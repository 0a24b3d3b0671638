"""A whole record from one database into another, ids kept: SQLite to PostgreSQL, back, or into a backup file."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, func, insert, select, text, update

from search.record.database import Database
from search.record.schema import REVISIONS, metadata, searches, trials
from space.errors import StoreError

CHUNK = 1000


def copy(source: Database, target: Database) -> dict[str, int]:
    """Copy everything into a blank database, and return the rows of each table; all or nothing.

    The source is read in one snapshot and may be in use meanwhile. Claims stay behind: who runs a search goes on in the
    source.

    Raises:
        StoreError: the source's schema is not current, the source is damaged, or the target holds something.
    """
    _require_current(source)
    target.upgrade()
    try:
        return _copy(source, target)
    except (ValueError, TypeError) as error:  # a value that is none of its column's type
        raise StoreError(
            f"the database {source.shown_url} is damaged ({error}); see: mobilenas db check; nothing was copied"
        ) from error


def _copy(source: Database, target: Database) -> dict[str, int]:
    with source.read() as rows, target.write() as connection:
        if filled := [table.name for table in metadata.sorted_tables if _count(connection, table)]:
            raise StoreError(
                f"the database {target.shown_url} is not empty ({', '.join(filled)}); name a blank one, for example "
                "with another ?schema="
            )
        counts = {table.name: _copy_table(rows, connection, table) for table in metadata.sorted_tables}
        # A trial may be reused from one of a larger id only in theory, but the order of rows must not matter.
        for trial_id, origin in rows.execute(select(trials.c.id, trials.c.reused_from)):
            if origin is not None:
                connection.execute(update(trials).where(trials.c.id == trial_id).values(reused_from=origin))
        if not target.is_sqlite:
            for table in metadata.sorted_tables:
                _advance_sequence(connection, table)
        for table in metadata.sorted_tables:
            arrived = _count(connection, table)
            if arrived != counts[table.name]:
                raise StoreError(f"of {counts[table.name]} rows of {table.name} {arrived} arrived; nothing was copied")
    return counts


def backup(source: Database, out: Path) -> dict[str, int]:
    """Copy everything into a new SQLite file, which appears when it is complete.

    Raises:
        StoreError: the file exists, or its folder cannot be written.
    """
    if out.exists():
        raise StoreError(f"{out} exists already; choose another --out")
    if "?" in str(out):
        raise StoreError(f"{out} has a ? in its path, which ends a database URL; choose another --out")
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        target = Database(f"sqlite:///{draft}")
        try:
            counts = copy(source, target)
            target.merge_log()
        finally:
            target.close()
        draft.replace(out)
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error}; choose another --out") from error
    finally:
        for ending in ("", "-wal", "-shm", "-journal", ".lock"):
            draft.with_name(draft.name + ending).unlink(missing_ok=True)
    return counts


def _require_current(source: Database) -> None:
    revision = source.revision()
    if revision != REVISIONS[-1]:
        raise StoreError(
            f"the database {source.shown_url} has schema {revision or 'none'}, not {REVISIONS[-1]}; run: mobilenas db "
            "upgrade"
        )


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _copy_table(source: Connection, target: Connection, table: Table) -> int:
    count = 0
    for chunk in _chunks(source, table):
        target.execute(insert(table), chunk)
        count += len(chunk)
    return count


def _chunks(source: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    # Parents of a trial have smaller ids, so that the order of the primary key is one that foreign keys accept.
    found = source.execution_options(yield_per=CHUNK).execute(select(table).order_by(*table.primary_key))
    for part in found.mappings().partitions():
        yield [_left_behind(table, row) for row in part]


def _left_behind(table: Table, row: RowMapping) -> dict[str, Any]:
    """A row without what is not copied, or not yet."""
    if table is searches:
        return {**row, "claimed_by": None, "heartbeat_at": None}
    return {**row, "reused_from": None} if table is trials else dict(row)


def _advance_sequence(connection: Connection, table: Table) -> None:
    """Let the next id be behind the largest one."""
    if "id" in table.c:
        sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
        connection.execute(
            text(f"SELECT setval({sequence}, GREATEST(MAX(id), 1), MAX(id) IS NOT NULL) FROM {table.name}")  # noqa: S608 - ours
        )
