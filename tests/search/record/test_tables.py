"""Devices and latency tables: one contract for every database."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from latency.calibration import Calibration
from latency.measurement import Measurement
from latency.table import NO_CALIBRATION
from search.record.store import Store
from space.errors import StoreError
from space.keys import BlockKey, StageBlockKey, keys_of
from tests.search.makers import (
    DEVICE,
    architecture,
    ask,
    contract,
    latency_table,
    measurement,
    new_search,
    record_table,
)


def test_table_round_trip(store: Store) -> None:
    """A table comes back with device, calibration and every sample, found by device and scope."""
    fit = Calibration(warm=0.9, per_block_ms=-0.01, constant_ms=0.1, networks=8, error=0.02)
    table = latency_table(calibration=fit)
    table_id = record_table(store, table)
    assert store.tables.load(table_id) == table
    assert list(store.tables.load(table_id).entries) == list(table.entries)
    assert store.tables.find(DEVICE, "space") == (table_id, table)


def test_table_without_calibration_or_its_error(store: Store) -> None:
    """No calibration stays so; an error that could not be determined stays NaN, which JSON does not have."""
    assert store.tables.load(record_table(store)).calibration is NO_CALIBRATION
    fit = Calibration(warm=1.0, per_block_ms=0.0, constant_ms=0.0, networks=1, error=float("nan"))
    found = store.tables.load(record_table(store, latency_table(calibration=fit))).calibration
    assert repr(found) == repr(fit)


@contract
@given(samples=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8))
def test_samples_round_trip(store: Store, samples: list[float]) -> None:
    """Samples come back to the last bit."""
    values = tuple(samples)
    entry = Measurement(cold_wall=values, cold_cpu=values[:1], warm_wall=values[::-1], warm_cpu=values)
    table = latency_table(entries={keys_of(architecture())[0]: entry})
    assert store.tables.load(record_table(store, table)).entries == table.entries


def test_newest_table_of_exactly_this_device_is_found(store: Store) -> None:
    """Name, fingerprint and scope must agree; of several tables the last one counts."""
    record_table(store)
    newest = record_table(store, latency_table(entries={}))
    record_table(store, latency_table(scope="other"))
    record_table(store, latency_table(device=replace(DEVICE, threads=2)))
    found = store.tables.find(DEVICE, "space")
    assert found
    assert found[0] == newest
    assert store.tables.find(replace(DEVICE, name="lap"), "space") is None
    assert store.tables.find(replace(DEVICE, runtime_version="1.21"), "space") is None
    assert store.tables.find(DEVICE, "unknown") is None


def test_unfinished_table_is_not_found(store: Store, database_url: str) -> None:
    """A table without an end is never used."""
    record_table(store)
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE latency_tables SET finished_at = NULL"))
    engine.dispose()
    assert store.tables.find(DEVICE, "space") is None


def test_added_entries_extend_and_never_replace(store: Store, database_url: str) -> None:
    """New blocks are added with their reason; known ones keep the measurement that a search relied on."""
    table = latency_table()
    table_id = record_table(store, table)
    known = next(iter(table.entries))
    added = keys_of(architecture(24))[1]
    store.tables.add_entries(table_id, {known: measurement(99), added: measurement(5)}, reason="netadapt")
    store.tables.add_entries(table_id, {}, reason="netadapt")
    assert store.tables.load(table_id).entries == {**table.entries, added: measurement(5)}
    rows = ask(database_url, "SELECT key, cold_wall_ms FROM latency_entries WHERE reason = 'netadapt'")
    assert rows == [{"key": str(added), "cold_wall_ms": measurement(5).estimate("cold", "wall")}]


def test_many_writers_of_the_same_device_and_blocks(database_url: str) -> None:
    """Eight writers of one device and the same blocks at once make one device, and one entry of each block."""
    with closing(Store.open(database_url)) as first:
        shared = record_table(first, latency_table(entries={}))
    added = {key: measurement(5) for width in (8, 16, 24, 32) for key in keys_of(architecture(width))}
    barrier = Barrier(8)

    def write(number: int) -> None:
        with closing(Store.open(database_url)) as mine:
            barrier.wait()
            record_table(mine, latency_table(device=replace(DEVICE, name="new")))
            order = list(added.items())
            mine.tables.add_entries(shared, dict(order if number % 2 else order[::-1]), reason="netadapt")

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(write, number) for number in range(8)]:
            future.result(timeout=1200)
    rows = ask(database_url, "SELECT name, COUNT(*) AS rows FROM devices GROUP BY name ORDER BY name")
    assert rows == [{"name": "desk", "rows": 1}, {"name": "new", "rows": 1}]
    with closing(Store.open(database_url)) as last:
        assert last.tables.load(shared).entries == added


def test_reasons_are_recorded(store: Store, database_url: str) -> None:
    """Blocks that only the reference network needs are told from those of the space."""
    table = latency_table()
    key: BlockKey = next(key for key in table.entries if isinstance(key, StageBlockKey))
    store.tables.add(table, conditions={}, protocol="", reasons={key: "reference"})
    rows = ask(database_url, "SELECT key FROM latency_entries WHERE reason = 'reference'")
    assert rows == [{"key": str(key)}]


def test_unknown_table_is_named(store: Store) -> None:
    """A table that does not exist is neither loaded, nor extended, nor searched with."""
    for use in (
        lambda: store.tables.load(41),
        lambda: store.tables.add_entries(41, {}, reason="space"),
        lambda: new_search(store, table_id=41),
    ):
        with pytest.raises(StoreError, match="no latency table with id 41"):
            use()


def test_devices_are_listed_with_their_tables(store: Store) -> None:
    """A device counts its tables and different blocks; the same name on other facts is another device."""
    assert store.tables.device_rows() == []
    before = datetime.now(UTC)
    record_table(store)
    record_table(store)
    record_table(store, latency_table(device=replace(DEVICE, threads=4), entries={}))
    one, four = store.tables.device_rows()
    newest = one.pop("newest_table")
    assert before <= newest <= datetime.now(UTC)
    assert one == {
        "name": "desk",
        "processor": "Some CPU",
        "threads": 1,
        "provider": "CPUExecutionProvider",
        "graph_optimization": "all",
        "runtime_version": "1.20",
        "tables": 2,
        "blocks": len(latency_table().entries),
    }
    assert (four["threads"], four["tables"], four["blocks"]) == (4, 1, 0)
