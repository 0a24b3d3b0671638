"""What the signals that races choose by are worth, in SQL."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, delete, insert, select

from search.record.rows import LookedAt, SignalQuality
from search.record.schema import signal_qualities
from search.record.transactions import Transactions


class Signals:
    """The qualities that were found out."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def put(self, looked_at: LookedAt, source: str, qualities: Sequence[SignalQuality]) -> None:
        """Record what was found, in place of what the same source had said before."""
        now = datetime.now(UTC)
        same = (*_is(looked_at), signal_qualities.c.source == source)
        common = {**asdict(looked_at), "source": source, "measured_at": now}
        rows = [each.to_plain() | common for each in qualities]

        def put(connection: Connection) -> None:
            connection.execute(delete(signal_qualities).where(*same))
            if rows:
                connection.execute(insert(signal_qualities), rows)

        self._transactions.write(put)

    def of(self, looked_at: LookedAt) -> dict[str, list[SignalQuality]]:
        """What came out, by source, the newest first."""
        query = select(signal_qualities).where(*_is(looked_at)).order_by(signal_qualities.c.id)
        found: dict[str, list[SignalQuality]] = {}
        for row in self._transactions.rows(query, dict):
            found.setdefault(row["source"], []).append(SignalQuality.from_plain(row))
        return dict(reversed(found.items()))


def _is(looked_at: LookedAt) -> tuple[ColumnElement[bool], ...]:
    return tuple(signal_qualities.c[name] == value for name, value in asdict(looked_at).items())
