"""Which table a search gets, where others of its machine want the same one."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import cast

from latency.meter import DeviceSettings
from latency.table import LatencyTable
from search.config.load import parse_config
from search.events import Listener
from search.lifecycle.reach import table_for
from search.plan import Inputs
from search.record.store import Store
from search.tables import Tables
from space.choices import SearchSpace
from space.keys import keys_of
from space.preset import load_preset
from space.variation.scaling import scaled_references
from tests.strategies import random_table, small_space


def test_who_waited_uses_the_table_that_was_just_recorded() -> None:
    """Another search measures while this one waits for its turn: nothing is measured once more."""
    recorded: list[tuple[int, LatencyTable]] = []

    @contextmanager
    def keeping() -> Iterator[None]:
        recorded.append((7, random_table(small_space(), 0)))
        yield

    tables = SimpleNamespace(known=lambda: next(iter(recorded), None), meter=SimpleNamespace(keeping=keeping))
    settings = SimpleNamespace(is_local=True, name="here")
    inputs = cast("Inputs", SimpleNamespace(settings=settings, tables=lambda _store: tables))
    assert table_for(cast("Store", None), inputs, Listener()) == recorded[0]


def test_a_kit_measures_what_a_baseline_needs(store: Store) -> None:
    """The blocks of the reference at smaller widths: a search has no way to ask for them later; others have."""
    space = SearchSpace(
        preset=load_preset("mobilenet-v3-small-32px"), width=0.5, resolution=32, in_channels=1, num_classes=10
    )
    protocol = parse_config({}).device.protocol
    measured = {}
    for address in ("kit", "local"):
        settings = DeviceSettings(name="desk", address=address)
        measured[address] = set(
            Tables(store=store, settings=settings, space=space, protocol=protocol).to_measure().blocks
        )
    scaled = scaled_references(space, 0.05)
    assert set(scaled.values()) <= set(scaled_references(space).values())
    further = {key for arch in scaled.values() for key in keys_of(arch)} - set(space.reachable_keys())
    assert len(further) > 20
    assert measured["kit"] - measured["local"] == further
