"""What the signals that races choose by are worth on a data set, in SQL."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from search.record.rows import SignalQuality
from search.record.schema import signal_qualities
from search.record.transactions import Transactions


class Signals:
    """The qualities that were found out, by data set."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def put(self, data_hash: str, source: str, qualities: Sequence[SignalQuality]) -> None:
        """Record what was found on a data set, in place of what the same source had said before."""
        now = datetime.now(UTC)
        same = (signal_qualities.c.data_hash == data_hash) & (signal_qualities.c.source == source)
        rows = [_to_row(each) | {"data_hash": data_hash, "source": source, "measured_at": now} for each in qualities]

        def put(connection: Connection) -> None:
            connection.execute(delete(signal_qualities).where(same))
            if rows:
                connection.execute(insert(signal_qualities), rows)

        self._transactions.write(put)

    def newest(self, data_hash: str) -> tuple[str, list[SignalQuality]] | None:
        """Who was looked at last on a data set, and what came out; None where nobody was."""
        of_data = select(signal_qualities).where(signal_qualities.c.data_hash == data_hash)
        rows = self._transactions.rows(of_data.order_by(signal_qualities.c.id.desc()), dict)
        if not rows:
            return None
        source: str = rows[0]["source"]
        return source, [_quality(row) for row in reversed(rows) if row["source"] == source]


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
