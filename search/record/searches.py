"""Searches in SQL: what they were asked for, where they stand, who runs them, and what they tell.

Each change may be made again with the same values, when the answer to an earlier commit was lost, and then changes
nothing.
"""

import difflib
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, or_, select, true, update

from search.record.claims import CLAIM_EXPIRES_S, is_held, new_claim
from search.record.database import insert_new
from search.record.rows import FurtherTarget, LogLine, SearchRecord, SearchStart, search_from_row, start_to_row
from search.record.schema import log_lines, search_labels, search_targets, searches
from search.record.tables import device_of
from search.record.transactions import Transactions, change_search, unknown_search
from search.trial import SearchStage
from space.errors import StoreError

# A search that so many coordinators in a row have died of, without one more trial completed, is left alone.
MAX_CLAIMS = 10

_log = logging.getLogger("mobilenas.store")


class NameTaken(StoreError):
    """There is a search of this name."""


class Held(StoreError):
    """A living process runs the search."""


class Searches:
    """The searches of a record."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def create(
        self,
        *,
        name: str,
        config: Mapping[str, Any],
        start: SearchStart | None = None,
        owner: str | None = None,
        labels: Iterable[str] = (),
        note: str | None = None,
        budget: str | None = None,
        group: str | None = None,
        priority: int = 0,
        further: Sequence[FurtherTarget] = (),
    ) -> SearchRecord:
        """Record a new search at its first stage, or in the queue where it has not begun; `config` must be JSON.

        `further` are the other devices of a search for one network that serves several.

        Raises:
            StoreError: the name is taken, or there is no such latency table.
        """
        now = datetime.now(UTC)
        row = {
            "name": name,
            "config": dict(config),
            "stage": (SearchStage.BLOCKS if start else SearchStage.QUEUED).value,
            "data": config["data"]["source"],
            "finish_requested": False,
            "stop_requested": False,
            "claims": 0,
            "owner": owner,
            "note": note,
            "budget": budget,
            "group_name": group,
            "priority": priority,
            "queued_at": None if start else now,
            "created_at": now,
            "updated_at": now,
        }
        kept = tuple(labels)

        def insert_search(connection: Connection) -> None:
            values = {**row, **(_start_row(connection, start) if start else {})}
            # Whoever comes second must not fail by a race, but hear that the name is taken.
            connection.execute(insert_new(connection, searches, "name").values(values))
            stored = connection.execute(
                select(searches.c.id, searches.c.created_at).where(searches.c.name == name)
            ).one()
            if stored.created_at != now:
                raise NameTaken(f"a search named {name!r} exists already; resume it, or choose another name")
            _set_labels(connection, stored.id, kept)
            _set_targets(connection, stored.id, further)

        self._transactions.write(insert_search)
        return self.get(name)

    def begin(
        self, search_id: int, config: Mapping[str, Any], start: SearchStart, further: Sequence[FurtherTarget] = ()
    ) -> None:
        """Take a queued search to its first stage, with the configuration that its budget led to.

        One that has begun stays as it is.
        """

        def begin(connection: Connection) -> None:
            stage = connection.scalar(select(searches.c.stage).where(searches.c.id == search_id))
            if stage in (None, SearchStage.QUEUED.value):
                values = {"stage": SearchStage.BLOCKS.value, "config": dict(config), **_start_row(connection, start)}
                self._transactions.change(connection, search_id, **values)
            _set_targets(connection, search_id, further)

        self._transactions.write(begin)

    def further_targets(self, search_id: int) -> list[FurtherTarget]:
        """The other devices of a search for one network that serves several, in the order of their tables."""
        columns = [column for column in search_targets.c if column.name != "search_id"]
        query = select(*columns).where(search_targets.c.search_id == search_id).order_by(search_targets.c.table_id)
        return self._transactions.rows(query, lambda row: FurtherTarget(**row))

    def get(self, name: str) -> SearchRecord:
        """The search of this name.

        Raises:
            StoreError: there is none; the message names the nearest ones.
        """

        def find(connection: Connection) -> SearchRecord:
            if found := self._select(connection, searches.c.name == name):
                return found[0]
            nearest = difflib.get_close_matches(name, list(connection.scalars(select(searches.c.name))), cutoff=0.0)
            hint = f"the nearest names are {', '.join(map(repr, nearest))}" if nearest else "there are none yet"
            raise StoreError(f"there is no search named {name!r}; {hint}; see: mobilenas searches")

        return self._transactions.read(find)

    def all(self) -> list[SearchRecord]:
        """All searches, oldest first."""
        return self._transactions.read(lambda connection: self._select(connection, true()))

    def _select(self, connection: Connection, condition: ColumnElement[bool]) -> list[SearchRecord]:
        labels: dict[int, list[str]] = defaultdict(list)
        for search_id, label in connection.execute(
            select(search_labels).join(searches).where(condition).order_by(search_labels.c.label)
        ):
            labels[search_id].append(label)
        now = self._transactions.database.now(connection)
        rows = connection.execute(select(searches).where(condition).order_by(searches.c.id)).mappings()
        return [search_from_row(row, labels[row["id"]], now) for row in rows]

    def set_stage(self, search_id: int, stage: SearchStage, *, error: str | None = None) -> None:
        """Move a search to a stage; `error` says why it stopped there, and without one an earlier error is cleared."""
        finished_at = datetime.now(UTC) if stage is SearchStage.DONE else None
        self._change(search_id, stage=stage.value, error=error, finished_at=finished_at)

    def set_config(self, search_id: int, config: Mapping[str, Any]) -> None:
        """Change what is left of a search; `config` must be JSON."""
        self._change(search_id, config=dict(config))

    def annotate(
        self,
        search_id: int,
        *,
        owner: str | None = None,
        labels: Iterable[str] | None = None,
        note: str | None = None,
        priority: int | None = None,
    ) -> None:
        """Change what people say of a search; None leaves it as it is."""
        said = {"owner": owner, "note": note, "priority": priority}
        given = {name: value for name, value in said.items() if value is not None}
        kept = None if labels is None else tuple(labels)

        def annotate(connection: Connection) -> None:
            self._transactions.change(connection, search_id, **given)
            if kept is not None:
                _set_labels(connection, search_id, kept)

        self._transactions.write(annotate)

    def request_finish(self, search_id: int) -> None:
        """Ask the coordinator to end with the best found so far."""
        self._change(search_id, finish_requested=True)

    def request_stop(self, search_id: int) -> None:
        """Ask the coordinator to stop when the running trials have ended; the queue passes it over from now on."""
        self._change(search_id, stop_requested=True)

    def finish_requested(self, search_id: int) -> bool:
        """Whether somebody asked for an early end.

        Raises:
            StoreError: there is no such search.
        """
        query = select(searches.c.finish_requested).where(searches.c.id == search_id)
        asked = self._transactions.read(lambda connection: connection.scalar(query))
        if asked is None:
            raise unknown_search(search_id)
        return bool(asked)

    def _change(self, search_id: int, **values: object) -> None:
        self._transactions.write(lambda connection: self._transactions.change(connection, search_id, **values))

    # Claims

    def enqueue(self, search_id: int) -> None:
        """Put a search that stopped into the queue, behind all others of its priority.

        An earlier stop or error of it is forgotten.

        Raises:
            Held: a living process runs it.
        """
        queued_at = datetime.now(UTC)

        def enqueue(connection: Connection) -> None:
            now = self._require_free(connection, search_id)
            values = {"queued_at": queued_at, "stop_requested": False, "error": None, "claims": 0}
            change_search(connection, search_id, None, **values, claimed_by=None, heartbeat_at=None, updated_at=now)

        self._transactions.write(enqueue)

    def claim(self, search_id: int) -> None:
        """Become the one process that runs a search: until `release`, or until another one finds this one dead.

        It is taken out of the queue, and an earlier stop or error of it is forgotten.

        Raises:
            Held: a living process runs it.
        """
        token = str(new_claim())

        def claim(connection: Connection) -> None:
            if connection.scalar(select(searches.c.claimed_by).where(searches.c.id == search_id)) == token:
                return  # claimed already, but the answer was lost
            now = self._require_free(connection, search_id)
            # Who stops it in the foreground does not want a coordinator to go on with it.
            _take(connection, search_id, token, now, error=None, stop_requested=False, queued_at=None)

        self._transactions.write(claim)
        self._transactions.tokens[search_id] = token

    def _require_free(self, connection: Connection, search_id: int) -> datetime:
        """Lock a search, find out that nobody runs it, and return the moment."""
        now = self._transactions.database.now(connection)
        query = select(searches.c.name, searches.c.claimed_by, searches.c.heartbeat_at)
        row = connection.execute(query.where(searches.c.id == search_id).with_for_update()).one_or_none()
        if row is None:
            raise unknown_search(search_id)
        if is_held(row.claimed_by, row.heartbeat_at, now):
            silent = (now - row.heartbeat_at).total_seconds()
            raise Held(
                f"search '{row.name}' is being run by another process (last sign of life {silent:.0f} s ago; it counts "
                f"as dead after {CLAIM_EXPIRES_S:.0f} s); see: mobilenas status {row.name}"
            )
        return now

    def claim_next(self, device: str | None = None) -> SearchRecord | None:
        """Claim the search of the highest priority that has waited longest in the queue, if there is one.

        `device` leaves searches for devices of other names alone.
        """
        token = str(new_claim())

        def claim_next(connection: Connection) -> SearchRecord | None:
            # Claimed already, but the answer was lost?
            search_id = connection.scalar(select(searches.c.id).where(searches.c.claimed_by == token))
            if search_id is None:
                search_id = _claim_first(connection, token, device, self._transactions.database.now(connection))
            return None if search_id is None else self._select(connection, searches.c.id == search_id)[0]

        record = self._transactions.write(claim_next)
        if record is not None:
            self._transactions.tokens[record.id] = token
        return record

    def heartbeat(self, search_id: int) -> bool:
        """Renew the claim of a search, at once or not at all; returns whether somebody asked it to stop.

        Raises:
            ClaimLost: another process runs it now.
        """
        with self._transactions.database.write() as connection:
            now = self._transactions.database.now(connection)
            change_search(connection, search_id, self._transactions.tokens[search_id], heartbeat_at=now)
            return bool(connection.scalar(select(searches.c.stop_requested).where(searches.c.id == search_id)))

    def release(self, search_id: int) -> None:
        """Give the claim of a search up, if it is still held; where the database is away, it ends by itself soon."""
        token = self._transactions.tokens.pop(search_id, None)
        if token is None:
            return
        held = (searches.c.id == search_id) & (searches.c.claimed_by == token)
        # Who gives it up has not died, whatever became of those before.
        given_up = update(searches).where(held).values(claimed_by=None, heartbeat_at=None, claims=0)
        try:
            with self._transactions.database.write() as connection:
                connection.execute(given_up)
        except StoreError as error:
            _log.warning("%s; the claim of search %d ends by itself", error, search_id)

    # Logs

    def add_log_line(self, search_id: int, *, level: str, event: str, message: str, trial: int | None = None) -> None:
        """Add a line to the log of a search."""
        row = {"trial": trial, "at": datetime.now(UTC), "level": level, "event": event, "message": message}
        last = select(log_lines.c.at, log_lines.c.message).where(log_lines.c.search_id == search_id)

        def add(connection: Connection) -> None:
            known = connection.execute(last.order_by(log_lines.c.id.desc()).limit(1)).one_or_none()
            if known is None or (known.at, known.message) != (row["at"], row["message"]):
                connection.execute(insert(log_lines).values(search_id=search_id, **row))

        self._transactions.write(add)

    def log(self, search_id: int, after: int = 0) -> Sequence[LogLine]:
        """The log of a search behind the line with this id, oldest first."""
        columns = [column for column in log_lines.c if column.name != "search_id"]
        query = select(*columns).where(log_lines.c.search_id == search_id, log_lines.c.id > after)
        query = query.order_by(log_lines.c.id)
        return self._transactions.rows(query, lambda row: LogLine(**row))


def _start_row(connection: Connection, start: SearchStart) -> dict[str, Any]:
    return {
        **start_to_row(start),
        "device_id": None if start.table_id is None else device_of(connection, start.table_id),
    }


def _set_labels(connection: Connection, search_id: int, labels: Iterable[str]) -> None:
    connection.execute(delete(search_labels).where(search_labels.c.search_id == search_id))
    rows = [{"search_id": search_id, "label": label} for label in sorted(set(labels))]
    if rows:
        connection.execute(insert(search_labels), rows)


def _set_targets(connection: Connection, search_id: int, targets: Iterable[FurtherTarget]) -> None:
    rows = [{"search_id": search_id, **asdict(target)} for target in targets]
    if rows:
        connection.execute(insert_new(connection, search_targets, "search_id", "table_id"), rows)


def _take(connection: Connection, search_id: int, token: str, now: datetime, **values: object) -> None:
    this = update(searches).where(searches.c.id == search_id)
    connection.execute(this.values(claimed_by=token, heartbeat_at=now, claims=searches.c.claims + 1, **values))


def _claim_first(connection: Connection, token: str, device: str | None, now: datetime) -> int | None:
    """Claim the first search of the queue, and return its id."""
    expired = now - timedelta(seconds=CLAIM_EXPIRES_S)
    waiting = (
        searches.c.queued_at.is_not(None),
        searches.c.stage.not_in((SearchStage.AWAITING.value, SearchStage.DONE.value)),
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
        error = f"{MAX_CLAIMS} coordinators in a row died before they completed a trial; see their logs"
        change_search(connection, row.id, None, error=error, updated_at=now)
    return None
