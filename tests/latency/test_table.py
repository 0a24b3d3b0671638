"""The lookup table: sums, missing blocks, and files that are no table."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency.calibration import Calibration
from latency.measurement import Measurement
from latency.table import NO_CALIBRATION, LatencyTable, block_clock, read_measurement
from space.errors import InvalidTable, MissingBlock
from space.keys import keys_of, parse_key
from space.reference import mobilenet_v3_large, mobilenet_v3_small_32px
from tests.strategies import DEVICE, block_keys, constant, measurements, random_table, small_space

CALIBRATION = Calibration(warm=0.9, per_block_ms=-0.02, constant_ms=0.3, networks=40, error=0.013)
STEM = "stem 3x3 s1 1→8 hswish @16"

calibrations = st.builds(
    Calibration,
    warm=st.floats(0.1, 10),
    per_block_ms=st.floats(0, 1),
    constant_ms=st.floats(-1, 1),
    networks=st.integers(10, 100),
    error=st.floats(0, 1),
)
tables = st.builds(
    LatencyTable,
    device=st.builds(replace, st.just(DEVICE), name=st.text(max_size=10), threads=st.integers(1, 8)),
    scope=st.text("0123456789abcdef", min_size=16, max_size=16),
    entries=st.dictionaries(block_keys(), measurements(), max_size=4),
    calibration=calibrations | st.just(NO_CALIBRATION),
)


def small_table() -> LatencyTable:
    """One block, calibrated."""
    return LatencyTable(
        device=DEVICE, scope="0" * 16, entries={parse_key(STEM): constant(1.0)}, calibration=CALIBRATION
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_estimate_is_a_calibrated_sum(seed: int) -> None:
    """Latency is scale · Σ blocks + per_block · number of blocks + constant, repeated blocks counted as often."""
    space = small_space()
    table = random_table(space, seed, CALIBRATION)
    arch = space.sample(random.Random(seed))
    keys = keys_of(arch)
    alone = math.fsum(table.entries[key].warm_cpu[0] for key in keys)
    assert table.estimate(arch) == pytest.approx(0.9 * alone - 0.02 * len(keys) + 0.3)
    assert table.estimate(arch) == pytest.approx(0.3 + sum(map(table.block_ms, keys)))


def test_without_calibration_the_estimate_is_the_sum() -> None:
    """The reference's 13 blocks of 1 ms each take 13 ms."""
    arch = mobilenet_v3_small_32px()
    table = LatencyTable(device=DEVICE, scope="", entries={key: constant(1.0) for key in keys_of(arch)})
    assert table.estimate(arch) == pytest.approx(13)


def test_the_clock_follows_the_threads() -> None:
    """One thread is timed by its CPU clock, several by the wall clock; a block's estimate uses warm samples."""
    entry = Measurement(cold_wall=(1.0,), cold_cpu=(2.0,), warm_wall=(3.0,), warm_cpu=(4.0,))
    for threads, clock, expected in ((1, "cpu", 4), (2, "wall", 3)):
        device = replace(DEVICE, threads=threads)
        assert block_clock(device) == clock
        assert (
            LatencyTable(device=device, scope="", entries={parse_key(STEM): entry}).block_ms(parse_key(STEM))
            == expected
        )


def test_a_missing_block_is_named() -> None:
    """The error says which block, on which device, and what to do; nothing is interpolated."""
    arch = mobilenet_v3_small_32px(in_channels=1)
    with pytest.raises(MissingBlock) as caught:
        small_table().estimate(arch)
    message = str(caught.value)
    assert "'stem 3x3 s1 1→16 hswish @32'" in message
    assert "'pi4'" in message
    assert "mobilenas latency collect --device pi4" in message
    assert not message.startswith('"')  # KeyError would show a repr


def test_missing_blocks() -> None:
    """`missing` lists absent blocks once each and in order, and a table with them lacks none."""
    keys = keys_of(mobilenet_v3_large())
    table = small_table()
    missing = table.missing([*keys, parse_key(STEM)])
    assert missing == tuple(dict.fromkeys(keys))
    longer = replace(table, entries={**table.entries, **{key: constant(2.0) for key in missing}})
    assert longer.missing([*keys, parse_key(STEM)]) == ()
    assert longer.block_ms(parse_key(STEM)) == table.block_ms(parse_key(STEM))
    assert table.missing(keys) == missing, "the shorter table must not change"
    assert (longer.device, longer.scope, longer.calibration) == (table.device, table.scope, table.calibration)


@settings(max_examples=50)
@given(tables)
def test_json_round_trip(table: LatencyTable) -> None:
    """Reading the JSON gives an equal table, with every raw sample to the last bit."""
    again = LatencyTable.from_json(table.to_json())
    # Field by field: the error of no calibration is not a number, and so not equal to itself.
    assert (again.device, again.scope, again.entries) == (table.device, table.scope, table.entries)
    assert (again.calibration.networks == 0) == (table.calibration.networks == 0)
    if table.calibration.networks:
        assert again.calibration == table.calibration
    assert again.to_json() == table.to_json()


def content() -> dict[str, Any]:
    """A table as plain data."""
    found: dict[str, Any] = json.loads(small_table().to_json())
    return found


def entry(table: dict[str, Any]) -> dict[str, Any]:
    """The one entry of it."""
    found: dict[str, Any] = table["entries"][STEM]
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: entry(table).update(warm_cpu=[math.nan]), r"warm_cpu must be positive .*nan"),
        (lambda table: entry(table).update(warm_cpu=[math.inf]), "warm_cpu must be positive"),
        (lambda table: entry(table).update(cold_wall=[1.0, -1.0]), "cold_wall must be positive .*-1"),
        (lambda table: entry(table).update(cold_cpu=[0]), "cold_cpu must be positive"),
        (lambda table: entry(table).update(warm_wall=[]), "warm_wall must be positive"),
        (lambda table: entry(table).update(warm_wall=["1"]), "warm_wall must be positive"),
        (lambda table: entry(table).update(warm_wall="12"), "warm_wall must be positive"),
        (lambda table: entry(table).update(warm_wall=[None]), "warm_wall must be positive"),
        (lambda table: entry(table).update(warm_wall=1.0), "no latency table"),
        (lambda table: entry(table).pop("warm_wall"), "needs the fields .*; got cold_cpu, cold_wall, warm_cpu$"),
        (lambda table: entry(table).update(hot_wall=[1.0]), "needs the fields .*; got .*hot_wall"),
        (lambda table: table["entries"].update({"block 1": {}}), "'block 1' names no block"),
        (lambda table: table["entries"].update({STEM: None}), "no latency table"),
        (lambda table: table.update(entries=[]), "no latency table"),
        (lambda table: table.pop("entries"), "entries"),
        (lambda table: table.pop("calibration"), "calibration"),
        (lambda table: table.pop("device"), "device"),
        (lambda table: table.pop("scope"), "scope"),
        (lambda table: table["device"].pop("threads"), "threads"),
        (lambda table: table["device"].update(colour="red"), "colour"),
        (lambda table: table["calibration"].pop("networks"), "numbers for .*networks"),
        (lambda table: table["calibration"].update(warm="1"), "numbers for .*warm"),
        (lambda table: table["calibration"].update(networks=1.5), "numbers for"),
        (lambda table: table["calibration"].update(beside=0), "numbers for"),
        (lambda table: table["calibration"].update(error=-1), "numbers for"),
        (lambda table: table["calibration"].update(per_block_ms=-2), "costs nothing or less"),
        (lambda table: table.update(scope="../x"), "needs a scope"),
        (lambda table: table["device"].update(cores=10**30), "threads and cores"),
        (lambda table: table["calibration"].update(cold=math.nan), "numbers for"),
        (lambda table: entry(table).update(disturbed=[1]), "disturbed must number visits"),
        (lambda table: entry(table).update(disturbed=[-1]), "disturbed must number visits"),
        (lambda table: entry(table).update(disturbed=["0"]), "disturbed must number visits"),
        (lambda table: table["calibration"].update(slope=1), "slope"),
        (lambda table: table.update(version=2), "version 2, not 1"),
        (lambda table: table.pop("version"), "version"),
    ],
)
def test_wrong_fields_are_named(change: Callable[[dict[str, Any]], object], message: str) -> None:
    """A field that is missing, unknown or no positive number is refused by name."""
    table = content()
    change(table)
    with pytest.raises(InvalidTable, match=message):
        LatencyTable.from_json(json.dumps(table))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"table"', "{}", "[" * 100_000, "\ud800", "<html>"])
def test_texts_that_are_no_table(text: str) -> None:
    """Broken and foreign texts are refused without a traceback."""
    with pytest.raises(InvalidTable, match="collect it again"):
        LatencyTable.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: entry(table).update(warm_cpu=[10**400]),
        lambda table: entry(table).update(warm_cpu=[True]),
        lambda table: table["calibration"].update(warm=math.nan),
        lambda table: table["calibration"].update(warm="1"),
        lambda table: table["device"].update(threads="one"),
        lambda table: table["device"].update(threads=0),
        lambda table: table.update(surplus=1),
        lambda table: table.update(scope=[1]),
    ],
    ids=["huge", "bool", "nan scale", "text scale", "text threads", "no threads", "surplus", "list scope"],
)
def test_other_values_are_checked(change: Callable[[dict[str, Any]], object]) -> None:
    """Huge numbers, booleans, wrong types in calibration and device, and surplus fields are refused."""
    table = content()
    change(table)
    with pytest.raises(InvalidTable):
        LatencyTable.from_json(json.dumps(table))


@settings(max_examples=200)
@given(st.data())
def test_mutated_texts_load_or_are_refused(data: st.DataObject) -> None:
    """Any stretch of the text overwritten by other characters gives a table or an InvalidTable."""
    text = small_table().to_json()
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 10)))
    mutated = text[:start] + data.draw(st.text('0123456789.eE-[]{}",: anul', max_size=10)) + text[stop:]
    try:
        table = LatencyTable.from_json(mutated)
    except InvalidTable as error:
        assert str(error)  # noqa: PT017 - both outcomes are right
    else:
        samples = [ms for found in table.entries.values() for ms in found.warm_cpu]
        assert all(0 < ms < math.inf for ms in samples)


@given(measurements())
def test_a_measurement_reads_back(found: Measurement) -> None:
    """A measurement survives its JSON form alone, as the record keeps it."""
    fields = {name: list(getattr(found, name)) for name in Measurement.__slots__}
    assert read_measurement(json.loads(json.dumps(fields))) == found


def test_a_table_from_before_other_terms_is_read() -> None:
    """Calibrations used to call the coefficient of the warm estimates `scale`, and entries had no marks."""
    old = content()
    old["calibration"] = {"scale": 0.9, "per_block_ms": -0.02, "constant_ms": 0.3, "networks": 40, "error": 0.013}
    entry(old).pop("disturbed")
    again = LatencyTable.from_json(json.dumps(old))
    assert again.calibration == CALIBRATION
    assert again.cpu_calibration is None
    assert again.entries == small_table().entries


def test_each_clock_has_its_calibration() -> None:
    """CPU time is predicted by its own fit; where there is none, wall time stands for it."""
    table = small_table()
    key = parse_key(STEM)
    assert table.block_ms(key, "cpu") == table.block_ms(key, "wall")
    both = replace(table, cpu_calibration=replace(CALIBRATION, warm=0.5, constant_ms=0.1))
    assert both.block_ms(key, "cpu") == pytest.approx(0.5 - 0.02)
    assert both.block_ms(key, "wall") == pytest.approx(0.9 - 0.02)
    assert LatencyTable.from_json(both.to_json()).cpu_calibration == both.cpu_calibration
