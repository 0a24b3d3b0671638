"""What the tests of the record make: small values of every kind, and searches that no other example shares."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from latency.device import Device
from latency.measurement import Measurement
from latency.table import LatencyTable
from search.config.load import parse_config
from search.record.rows import SearchRecord, SearchStart, SignalQuality
from search.record.store import Store
from search.trial import Scores, SearchStage, State, Trial
from space.arch import Architecture, Block, Head, Stage, Stem
from space.keys import keys_of

# Each example records a search of its own, so one database serves all of them.
contract = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_numbers = count()

DEVICE = Device(
    name="desk",
    processor="Some CPU",
    machine="x86_64",
    system="Linux",
    cores=2,
    provider="CPUExecutionProvider",
    threads=1,
    precision="float32",
    graph_optimization="all",
    runtime_version="1.20",
)

LOOK = SignalQuality(
    signal="6,000 images, log-likelihood",
    images=6000,
    compared="near the limit",
    networks=24,
    trainings=2,
    tau=0.4,
    low=0.1,
    high=0.6,
    regrets={1: 0.5, 4: 0.25},
    seconds=12.5,
)


def architecture(width: int = 16) -> Architecture:
    """A small network, one for each width."""
    block = Block(kernel_size=3, expanded_channels=3 * width, use_se=True, activation="hswish")
    return Architecture(
        resolution=32,
        in_channels=3,
        num_classes=10,
        stem=Stem(out_channels=16, stride=1, activation="hswish"),
        stages=(Stage(out_channels=width, stride=2, blocks=(block, block)),),
        head=Head(conv_channels=96, hidden_channels=128, activation="hswish"),
    )


def trial(number: int = 0, **changes: Any) -> Trial:  # noqa: ANN401 - fields of Trial
    """A running trial of the block-level search."""
    fields: dict[str, Any] = {
        "stage": SearchStage.BLOCKS,
        "state": State.RUNNING,
        "origin": "random",
        "architecture": architecture(),
        "scores": Scores(top1=None, latency_ms=1.5, madds=1000, params=100),
        "seed": 7,
    }
    return Trial(number=number, **{**fields, **changes})


def completed(running: Trial, top1: float = 0.5) -> Trial:
    """The same trial with its outcome."""
    return replace(running, state=State.COMPLETE, scores=replace(running.scores, top1=top1), images_seen=64)


def measurement(ms: float = 1.0) -> Measurement:
    """A few samples around a time."""
    samples = (ms, ms * 1.25, ms * 1.5)
    return Measurement(cold_wall=samples, cold_cpu=samples[:2], warm_wall=samples[::-1], warm_cpu=samples[:1])


def latency_table(**changes: Any) -> LatencyTable:  # noqa: ANN401 - fields of LatencyTable
    """A table that holds all blocks of the small network."""
    entries = {key: measurement(ms) for ms, key in enumerate(keys_of(architecture()), start=1)}
    return LatencyTable(**{"device": DEVICE, "scope": "space", "entries": entries, **changes})


def record_table(store: Store, table: LatencyTable | None = None) -> int:
    """Record a table under conditions that do not matter."""
    return store.tables.add(table or latency_table(), conditions={"load_1min": 0.5}, protocol="3 rounds")


def new_start(store: Store, **changes: Any) -> SearchStart:  # noqa: ANN401 - fields of Begun
    """What a search that has begun knows; with a latency table of its own unless one is named."""
    fields: dict[str, Any] = {
        "run_folder": Path("runs") / "one",
        "data_hash": "abc",
        "target_ms": 2.0,
        "seed_target_ms": 2.5,
        "fastest_ms": 1.0,
        "slowest_ms": 4.0,
        "reference_ms": 3.0,
        **changes,
    }
    return SearchStart(**{"table_id": fields.get("table_id") or record_table(store), **fields})


CONFIG: dict[str, Any] = parse_config({"device": {"name": "desk"}, "race": {"rungs": []}}).model_dump(mode="json")


def new_search(store: Store, name: str | None = None, **changes: Any) -> SearchRecord:  # noqa: ANN401 - arguments
    """A search that no other example shares; `changes` are fields of `SearchStart`, or arguments of `create_search`."""
    start = {name: changes.pop(name) for name in list(changes) if name in SearchStart.__dataclass_fields__}
    arguments = {"name": name or f"search-{next(_numbers)}", "config": CONFIG, "start": new_start(store, **start)}
    return store.searches.create(**{**arguments, **changes})


def ask(url: str, sql: str, **values: object) -> list[dict[str, Any]]:
    """What a user sees who reads the database with SQL."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(sql), values).mappings()]
    finally:
        engine.dispose()


# PostgreSQL holds no NUL in text.
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
counts = st.integers(0, 2**31 - 1)
times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
params = st.dictionaries(words, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(0, 1) | words)
scores = st.builds(
    Scores,
    top1=st.none() | st.floats(0, 1),
    latency_ms=st.floats(1e-3, 1e6),
    madds=st.integers(0, 2**62),
    params=st.integers(0, 2**62),
)
trials = st.builds(
    Trial,
    number=counts,
    stage=st.sampled_from(list(SearchStage)[:3]),
    state=st.sampled_from(State),
    origin=words,
    architecture=st.builds(architecture, st.integers(1, 64)),
    scores=scores,
    seed=st.integers(0, 2**63 - 1),
    attempt=st.integers(1, 5),
    iteration=st.none() | counts,
    params=st.none() | params,
    evaluation_key=st.none() | words,
    images_seen=st.integers(0, 2**62),
    weights=st.none() | words,
    correct=st.none() | counts,
    total=st.none() | counts,
    error=st.none() | words,
    started_at=times,
    finished_at=st.none() | times,
)
