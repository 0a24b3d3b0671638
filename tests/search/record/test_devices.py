"""How devices are reached and how well their tables predicted, in the record; on both databases."""

import pytest

from latency.meter import DeviceSettings
from search.record.store import Store
from space.errors import StoreError
from tests.search.content import validation
from tests.search.makers import DEVICE, latency_table, record_table

PI = DeviceSettings(
    name="pi",
    address="ssh://pi@board:2222",
    python="/opt/python",
    cpus="2-3",
    provider="XnnpackExecutionProvider",
    threads=2,
    graph_optimization="basic",
)


def test_a_device_comes_back_as_it_was_added(store: Store) -> None:
    """Every setting is kept; a name that was not added is unknown."""
    store.devices.add(PI)
    store.devices.add(DeviceSettings(name="box"))
    assert store.devices.settings("pi") == PI
    assert store.devices.settings("other") is None
    assert store.devices.all_settings() == [DeviceSettings(name="box"), PI]


def test_a_name_is_taken_once(store: Store) -> None:
    """A second device of the name is refused, and the first one stays; unless it is to be replaced."""
    store.devices.add(PI)
    with pytest.raises(StoreError, match="'pi' was added before; change it with --replace"):
        store.devices.add(DeviceSettings(name="pi"))
    assert store.devices.settings("pi") == PI
    store.devices.add(DeviceSettings(name="pi"), replace=True)
    assert store.devices.settings("pi") == DeviceSettings(name="pi")


def test_a_validation_comes_back_whole(store: Store) -> None:
    """Networks, predictions and drift; those of other tables stay apart."""
    table, other = record_table(store), record_table(store, latency_table(scope="other"))
    number = store.devices.add_validation(table, validation(), {"governor": "performance"})
    (found,) = store.devices.validations(table)
    assert (found.id, found.table_id, found.validation) == (number, table, validation())
    assert found.measured_at.tzinfo is not None
    assert store.devices.validations(other) == []


def test_tables_of_a_device_newest_first(store: Store) -> None:
    """All scopes of exactly this device; by name alone, the newest of a scope, whatever its fingerprint."""
    first, second = record_table(store), record_table(store, latency_table(scope="other"))
    third = record_table(store)
    assert [table_id for table_id, _ in store.tables.of(DEVICE)] == [third, second, first]
    newest = store.tables.newest(DEVICE.name, "space")
    assert newest is not None
    assert newest[0] == third
    assert store.tables.newest(DEVICE.name, "nothing") is None
    rows = store.tables.rows(DEVICE.name)
    assert [row["id"] for row in rows] == [third, second, first]
    assert {row["blocks"] for row in rows} == {len(latency_table().entries)}
    assert store.tables.rows("nobody") == []
