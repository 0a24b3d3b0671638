"""What the signals that races choose by are worth, in SQL."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

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
        rows = [_to_row(each) | common for each in qualities]

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
            found.setdefault(row["source"], []).append(_quality(row))
        return dict(reversed(found.items()))


def _is(looked_at: LookedAt) -> tuple[ColumnElement[bool], ...]:
    return tuple(signal_qualities.c[name] == value for name, value in asdict(looked_at).items())


def _to_row(quality: SignalQuality) -> dict[str, Any]:
    ranks = {"tau": quality.tau, "tau_low": quality.low, "tau_high": quality.high}
    return {
        "compared": quality.compared,
        "signal": quality.signal,
        "images": quality.images,
        "networks": quality.networks,
        "trainings": quality.trainings,
        **{name: None if math.isnan(value) else value for name, value in ranks.items()},
        "regrets": {str(top): lost for top, lost in quality.regrets.items()},
        "seconds": quality.seconds,
    }


def _quality(row: Mapping[Any, Any]) -> SignalQuality:
    tau, low, high = (math.nan if row[name] is None else row[name] for name in ("tau", "tau_low", "tau_high"))
    return SignalQuality(
        signal=row["signal"],
        images=row["images"],
        compared=row["compared"],
        networks=row["networks"],
        trainings=row["trainings"],
        tau=tau,
        low=low,
        high=high,
        regrets={int(top): lost for top, lost in row["regrets"].items()},
        seconds=row["seconds"],
    )
