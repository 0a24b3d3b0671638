"""Searches, their claims and their logs in SQL; each function works inside the transaction that it is given."""

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, or_, select, update

from search.record import tables
from search.record.claims import LEASE_S, is_held
from search.record.database import insert_new
from search.record.rows import Begun, FurtherTarget, LogLine, SearchRecord, begun_to_row, search_from_row
from search.record.schema import log_lines, search_labels, search_targets, searches
from search.trial import Stage
from space.errors import StoreError

# A search that so many coordinators in a row have died of, without one more trial completed, is left alone.
MAX_CLAIMS = 10


class ClaimLost(StoreError):
    """Another process runs the search now."""


class NameTaken(StoreError):
    """There is a search of this name."""


class Held(StoreError):
    """A living process runs the search."""


def create(connection: Connection, row: Mapping[str, Any], begun: Begun | None, labels: Iterable[str]) -> int:
    """Insert a search, begun or not, and return its id; the same one again changes nothing."""
    values = {**row, **(_begun_row(connection, begun) if begun else {})}
    # Whoever comes second must not fail by a race, but hear that the name is taken.
    connection.execute(insert_new(connection, searches, "name").values(values))
    stored = connection.execute(
        select(searches.c.id, searches.c.created_at).where(searches.c.name == row["name"])
    ).one()
    if stored.created_at != row["created_at"]:
        raise NameTaken(f"a search named {row['name']!r} exists already; resume it, or choose another name")
    set_labels(connection, stored.id, labels)
    return int(stored.id)


def _begun_row(connection: Connection, begun: Begun) -> dict[str, Any]:
    device = None if begun.table_id is None else tables.device_of(connection, begun.table_id)
    return {**begun_to_row(begun), "device_id": device}


def begin(connection: Connection, search_id: int, token: str | None, config: Mapping[str, Any], begun: Begun) -> None:
    """Take a queued search to its first stage; one that has begun stays as it is."""
    stage = connection.scalar(select(searches.c.stage).where(searches.c.id == search_id))
    if stage in (None, Stage.QUEUED.value):
        values = {"stage": Stage.BLOCKS.value, "config": dict(config), **_begun_row(connection, begun)}
        change(connection, search_id, token, **values)


def find(connection: Connection, name: str, now: datetime) -> SearchRecord:
    """The search of this name; the message of an unknown one has the nearest names."""
    if found := select_records(connection, searches.c.name == name, now):
        return found[0]
    names = list(connection.scalars(select(searches.c.name)))
    nearest = difflib.get_close_matches(name, names, n=3, cutoff=0.0)
    hint = f"the nearest names are {', '.join(map(repr, nearest))}" if nearest else "there are none yet"
    raise StoreError(f"there is no search named {name!r}; {hint}; see `mobilenas searches`")


def select_records(connection: Connection, condition: ColumnElement[bool], now: datetime) -> list[SearchRecord]:
    """Searches, oldest first."""
    labels: dict[int, list[str]] = defaultdict(list)
    for search_id, label in connection.execute(
        select(search_labels).join(searches).where(condition).order_by(search_labels.c.label)
    ):
        labels[search_id].append(label)
    rows = connection.execute(select(searches).where(condition).order_by(searches.c.id)).mappings()
    return [search_from_row(row, labels[row["id"]], now) for row in rows]


def change(connection: Connection, search_id: int, token: str | None, **values: object) -> None:
    """Change a search; with the token of a claim only while it holds.

    Every write of a coordinator passes here in its own transaction, and locks the row: who was taken over, after it
    had been silent for too long, cannot write any more.
    """
    this = update(searches).where(searches.c.id == search_id).values(**values)
    if token is not None:
        this = this.where(searches.c.claimed_by == token)
    if connection.execute(this).rowcount:
        return
    name = connection.scalar(select(searches.c.name).where(searches.c.id == search_id))
    if name is None:
        raise StoreError(f"there is no search with id {search_id}; see `mobilenas searches`")
    raise ClaimLost(f"search {name!r} was taken over by another process; see: mobilenas status {name}")


def lock(connection: Connection, search_id: int) -> None:
    """Let nobody else change a search until the end of the transaction."""
    connection.execute(select(searches.c.id).where(searches.c.id == search_id).with_for_update())


def set_targets(connection: Connection, search_id: int, targets: Iterable[FurtherTarget]) -> None:
    """Record the other devices of a search; the same ones again change nothing."""
    rows = [{"search_id": search_id, **asdict(target)} for target in targets]
    if rows:
        connection.execute(insert_new(connection, search_targets, "search_id", "table_id"), rows)


def read_targets(connection: Connection, search_id: int) -> list[FurtherTarget]:
    """The other devices of a search, in the order of their tables."""
    columns = [column for column in search_targets.c if column.name != "search_id"]
    query = select(*columns).where(search_targets.c.search_id == search_id).order_by(search_targets.c.table_id)
    return [FurtherTarget(**row) for row in connection.execute(query).mappings()]


def set_labels(connection: Connection, search_id: int, labels: Iterable[str]) -> None:
    """Replace the labels of a search."""
    connection.execute(delete(search_labels).where(search_labels.c.search_id == search_id))
    rows = [{"search_id": search_id, "label": label} for label in sorted(set(labels))]
    if rows:
        connection.execute(insert(search_labels), rows)


# Claims


def enqueue(connection: Connection, search_id: int, queued_at: datetime, now: datetime) -> None:
    """Put a search that nobody runs behind all others of its priority; an earlier stop or error of it is forgotten."""
    _require_free(connection, search_id, now)
    values = {"queued_at": queued_at, "stop_requested": False, "error": None, "claims": 0}
    change(connection, search_id, None, **values, claimed_by=None, heartbeat_at=None, updated_at=now)


def claim(connection: Connection, search_id: int, token: str, now: datetime) -> None:
    """Take a search out of the queue and claim it; an earlier stop or error of it is forgotten."""
    if connection.scalar(select(searches.c.claimed_by).where(searches.c.id == search_id)) == token:
        return  # claimed already, but the answer was lost
    _require_free(connection, search_id, now)
    # Who stops it in the foreground does not want a coordinator to go on with it.
    _take(connection, search_id, token, now, error=None, stop_requested=False, queued_at=None)


def _require_free(connection: Connection, search_id: int, now: datetime) -> None:
    """Lock a search, and find out that nobody runs it."""
    query = select(searches.c.name, searches.c.claimed_by, searches.c.heartbeat_at).where(searches.c.id == search_id)
    row = connection.execute(query.with_for_update()).one_or_none()
    if row is None:
        raise StoreError(f"there is no search with id {search_id}; see `mobilenas searches`")
    if is_held(row.claimed_by, row.heartbeat_at, now):
        silent = (now - row.heartbeat_at).total_seconds()
        raise Held(
            f"search '{row.name}' is being run by another process (last sign of life {silent:.0f} s ago; it counts as "
            f"dead after {LEASE_S:.0f} s); see: mobilenas status {row.name}"
        )


def _take(connection: Connection, search_id: int, token: str, now: datetime, **values: object) -> None:
    this = update(searches).where(searches.c.id == search_id)
    connection.execute(this.values(claimed_by=token, heartbeat_at=now, claims=searches.c.claims + 1, **values))


def claim_next(connection: Connection, token: str, device: str | None, now: datetime) -> int | None:
    """Claim the search of the highest priority that has waited longest in the queue, and return its id."""
    mine = select(searches.c.id).where(searches.c.claimed_by == token)
    if (known := connection.scalar(mine)) is not None:
        return int(known)  # claimed already, but the answer was lost
    expired = now - timedelta(seconds=LEASE_S)
    waiting = (
        searches.c.queued_at.is_not(None),
        searches.c.stage.not_in((Stage.AWAITING.value, Stage.DONE.value)),
        searches.c.error.is_(None),
        searches.c.stop_requested.is_(False),
        or_(searches.c.claimed_by.is_(None), searches.c.heartbeat_at < expired),
    )
    first = (searches.c.priority.desc(), searches.c.queued_at, searches.c.id)
    query = select(searches.c.id, searches.c.claims).where(*waiting).order_by(*first)
    if device is not None:
        query = query.where(searches.c.config["device"]["name"].as_string() == device)
    # Rows that another coordinator is just taking are passed over, not waited for.
    query = query.limit(1).with_for_update(skip_locked=True)
    while (row := connection.execute(query).one_or_none()) is not None:
        if row.claims < MAX_CLAIMS:
            _take(connection, row.id, token, now)
            return int(row.id)
        error = f"{MAX_CLAIMS} coordinators in a row died before they completed a trial; look into their logs"
        change(connection, row.id, None, error=error, updated_at=now)
    return None


def heartbeat(connection: Connection, search_id: int, token: str, now: datetime) -> bool:
    """Renew a claim; returns whether somebody asked the search to stop."""
    change(connection, search_id, token, heartbeat_at=now)
    return bool(connection.scalar(select(searches.c.stop_requested).where(searches.c.id == search_id)))


def release(connection: Connection, search_id: int, token: str) -> None:
    """Give a claim up, if it is still held. Who does so has not died, whatever became of those before."""
    held = (searches.c.id == search_id) & (searches.c.claimed_by == token)
    connection.execute(update(searches).where(held).values(claimed_by=None, heartbeat_at=None, claims=0))


# Logs


def add_log_line(connection: Connection, search_id: int, row: Mapping[str, Any]) -> None:
    """Add a line; the very same one again changes nothing."""
    last = select(log_lines.c.at, log_lines.c.message).where(log_lines.c.search_id == search_id)
    known = connection.execute(last.order_by(log_lines.c.id.desc()).limit(1)).one_or_none()
    if known is None or (known.at, known.message) != (row["at"], row["message"]):
        connection.execute(insert(log_lines).values(search_id=search_id, **row))


def read_log(connection: Connection, search_id: int, after: int) -> Sequence[LogLine]:
    """The lines behind the one with this id, oldest first."""
    columns = [column for column in log_lines.c if column.name != "search_id"]
    query = select(*columns).where(log_lines.c.search_id == search_id, log_lines.c.id > after)
    return [LogLine(**row) for row in connection.execute(query.order_by(log_lines.c.id)).mappings()]
