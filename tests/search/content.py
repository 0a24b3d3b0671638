"""A record as a team has it after some weeks: two devices, two data sets, searches in every state."""

from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from latency.analysis.validate import GROUPS, Validated, Validation
from latency.calibration import Calibration
from latency.meter import DeviceSettings
from search.record.database import Database
from search.record.rows import FurtherTarget, LookedAt, SearchRecord
from search.record.schema import metadata, searches
from search.record.store import Store
from search.trial import (
    NetAdaptStep,
    NetworkMeasurement,
    PresentMeasurement,
    PresentResult,
    Scores,
    SearchStage,
    State,
    Trial,
)
from space.arch import Architecture, Block, Head, Stage, Stem
from tests.search.makers import CONFIG, DEVICE, LOOK, latency_table, new_start

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
PHONE = replace(DEVICE, name="phone", processor="Cortex-A76", machine="aarch64", cores=8)


def network(number: int) -> Architecture:
    """One of many small networks: its number decides on kernels, widths, SE and activations."""
    blocks = tuple(
        Block(
            kernel_size=(3, 5)[(number >> place) & 1],
            expanded_channels=None if place == 0 and number % 3 == 0 else 24 * (1 + (number + place) % 3),
            use_se=bool((number >> (place + 1)) & 1),
            activation=("relu", "hswish")[(number >> 2) & 1],
            # Now and then the first block, where it has neither expansion nor SE, is one of MobileNetV1.
            kind="depthwise_separable" if place == 0 and number % 12 == 0 else "inverted_residual",
        )
        for place in range(3)
    )
    return Architecture(
        resolution=32,
        in_channels=1,
        num_classes=10,
        stem=Stem(out_channels=16, stride=1, activation="hswish"),
        stages=(
            Stage(out_channels=16, stride=1, blocks=blocks[:1]),
            Stage(out_channels=24 + 8 * (number % 3), stride=2, blocks=blocks[1:]),
        ),
        head=Head(conv_channels=96, hidden_channels=128, activation="hswish"),
    )


@dataclass
class Writer:
    """Writes the trials of one search, an hour apart each from the last."""

    store: Store
    search: SearchRecord
    # The latency table of a second device that the network has to serve.
    also: int | None = None
    count: int = 0

    def trial(
        self,
        stage: SearchStage = SearchStage.BLOCKS,
        state: State = State.COMPLETE,
        *,
        network_number: int | None = None,
        top1: float | None = None,
        ms: float = 1.5,
        origin: str = "tpe",
        **changes: object,
    ) -> Trial:
        """Record a trial of the next number with its outcome."""
        number = self.count
        self.count += 1
        start = START + timedelta(hours=number)
        arch = network(number if network_number is None else network_number)
        trial = Trial(
            number=number,
            stage=stage,
            state=State.RUNNING,
            origin=origin,
            architecture=arch,
            scores=Scores(top1=None, latency_ms=ms, madds=1_000_000 + 1000 * number, params=50_000 + number),
            seed=0,
            started_at=start,
            evaluation_key=f"key-{arch.arch_id}-{stage.value}",
        )
        trial = replace(trial, **changes)  # type: ignore[arg-type]
        latencies = {} if self.also is None else {self.search.require_start().table_id or 0: ms, self.also: 3 * ms}
        if state is State.PRUNED:
            refused = replace(trial, state=state, finished_at=start, error="predicted 3 ms is over 2.6 ms")
            return self.store.trials.start(self.search.id, refused, latencies)
        trial = self.store.trials.start(self.search.id, trial, latencies)
        if state is State.RUNNING:
            return trial
        minutes = 30 if stage is SearchStage.FINAL else 6
        done = replace(trial, state=state, finished_at=start + timedelta(minutes=minutes))
        if state is State.FAILED:
            done = replace(done, error="it took longer than 60 minutes (trial_minutes)")
        else:
            done = replace(
                done,
                scores=replace(done.scores, top1=top1),
                images_seen=6000,
                weights=f"trials/{number}.safetensors",
            )
        reward = None
        if state is State.COMPLETE and stage is SearchStage.BLOCKS and top1 is not None:
            reward = top1 if ms <= 2.5 else top1 * 2.5 / ms
        self.store.trials.finish(self.search.id, done, reward=reward)
        return done


def validation() -> Validation:
    """Two networks, predicted and measured."""
    return Validation(
        networks=tuple(
            Validated(
                group=group,
                architecture=network(number),
                predicted_wall_ms=1.0 + number / 10,
                measured_wall_ms=1.01 + number / 10,
                predicted_cpu_ms=0.9 + number / 10,
                measured_cpu_ms=0.91 + number / 10,
            )
            for number, group in enumerate(GROUPS[:2])
        ),
        under_load=False,
        drift_wall=1.01,
        drift_cpu=0.99,
    )


def fill(store: Store, runs: Path = Path("runs")) -> None:
    """Write all of it through the store."""
    fit = Calibration(warm=0.9, per_block_ms=-0.01, constant_ms=0.1, networks=40, error=0.013)
    desk = store.tables.add(
        latency_table(calibration=fit), conditions={"load_1min": 0.5}, protocol="16 rounds", reasons={}
    )
    phone = store.tables.add(latency_table(device=PHONE), conditions={}, protocol="16 rounds", reasons={})
    store.devices.add(DeviceSettings(name=PHONE.name, address="kit", threads=1))
    store.devices.add_validation(desk, validation(), {"load_1min": 0.1})
    looked_at = LookedAt(data_hash="5ec56280772a527f", scope="space", recipes="0123456789abcdef")
    store.signals.put(looked_at, "shoes-desk-1", [LOOK])
    _done(store, runs, "shoes-desk-1", desk, "fashion-mnist", DEVICE.name, owner="ada", best=0.90)
    _done(store, runs, "shoes-desk-2", desk, "fashion-mnist", DEVICE.name, owner="bob", best=0.92, also=phone)
    _done(store, runs, "cifar-phone-1", phone, "cifar10", PHONE.name, owner="ada", best=0.71)
    _running(store, runs, phone)
    failed = store.searches.create(
        name="photos-desk-1", config=_config("imagefolder:/photos", DEVICE.name), owner="bob", labels=["zoo"]
    )
    store.searches.set_stage(failed.id, SearchStage.QUEUED, error="imagefolder:/photos is no folder")
    store.searches.create(
        name="shoes-phone-1", config=_config("fashion-mnist", PHONE.name), owner="ada", note="after 5"
    )


def _config(data: str, device: str) -> dict[str, Any]:
    resolution = 64 if data.startswith("imagefolder:") else None
    images = {**CONFIG["data"], "source": data, "resolution": resolution}
    return {**CONFIG, "data": images, "device": {**CONFIG["device"], "name": device}}


def _begin(
    store: Store, runs: Path, name: str, table_id: int, data: str, device: str, owner: str, also: int | None = None
) -> Writer:
    further = [] if also is None else [FurtherTarget(table_id=also, target_ms=6.0, reference_ms=9.0)]
    start = new_start(store, table_id=table_id, run_folder=runs / name, data_hash=f"hash-of-{data}")
    search = store.searches.create(
        name=name,
        config=_config(data, device),
        start=start,
        owner=owner,
        labels=["paper", data],
        note=f"search of {owner}",
        budget="default",
        group="shoes" if also else None,
        further=further,
    )
    return Writer(store, search, also)


def _done(
    store: Store,
    runs: Path,
    name: str,
    table_id: int,
    data: str,
    device: str,
    *,
    owner: str,
    best: float,
    also: int | None = None,
) -> None:
    writer = _begin(store, runs, name, table_id, data, device, owner, also)
    search = writer.search
    store.searches.add_log_line(search.id, level="info", event="begin", message="block-level search …")
    writer.trial(origin="reference", top1=best - 0.05, ms=3.0)
    for number in range(1, 24):
        # A wandering way up, some of it equal.
        top1 = round(best - 0.03 + 0.001 * ((7 * number) % 23), 4)
        if number % 8 == 3:
            writer.trial(state=State.PRUNED, ms=3.2)
        elif number == 12:
            failed = writer.trial(state=State.FAILED)
            store.searches.add_log_line(
                search.id, level="warning", event="trial", message=f"trial {failed.number} failed", trial=failed.number
            )
        else:
            writer.trial(top1=top1, ms=1.8 + 0.04 * ((5 * number) % 17))
    found = store.trials.find_evaluations(f"key-{network(1).arch_id}-blocks")
    if found and name == "shoes-desk-2":
        first = found[0].trial
        writer.trial(network_number=1, top1=first.scores.top1, ms=2.0, reused_from=first.id)
    parent = 1
    for step in range(1, 4):
        tried = [
            writer.trial(
                SearchStage.NETADAPT,
                network_number=30 + step,
                top1=best - 0.02 - 0.001 * step - 0.001 * place,
                ms=2.2 - 0.1 * step,
                origin=f"stage {place}: 40→32",
                parent=parent,
                iteration=step,
            )
            for place in (1, 2)
        ]
        store.trials.add_step(
            search.id,
            NetAdaptStep(
                iteration=step,
                trial=tried[0].number,
                parent=parent,
                narrowed=tried[0].origin,
                latency_before_ms=2.3 - 0.1 * step,
                latency_after_ms=2.2 - 0.1 * step,
                top1_before=best - 0.02 - 0.001 * (step - 1),
                top1_after=best - 0.021 - 0.001 * step,
                proposals=len(tried),
            ),
        )
        parent = tried[0].number
    finals = [
        writer.trial(
            SearchStage.FINAL,
            network_number=33 if origin == "found" else 0,
            top1=best,
            ms=1.9 if origin == "found" else 3.0,
            origin=origin,
            correct=round(10_000 * (best + shift)),
            total=10_000,
        )
        for origin, shift in (("found", 0.0), ("reference", 0.004))
    ]
    store.searches.set_stage(search.id, SearchStage.FINAL)
    measured = [
        NetworkMeasurement(
            trial=final.number,
            predicted_ms=final.scores.latency_ms,
            measured_ms=final.scores.latency_ms * 1.02,
            low_ms=final.scores.latency_ms,
            high_ms=final.scores.latency_ms * 1.05,
            median_ms=final.scores.latency_ms * 1.03,
            samples=3,
        )
        for final in finals
    ]
    samples = (1.9, 2.0, 2.1)
    present = PresentMeasurement(measured_ms=4.0, low_ms=3.9, high_ms=4.1, median_ms=4.2, samples=3)
    store.trials.put_present(search.id, PresentResult(name="mine.onnx", sha256="cd" * 32, correct=9_000, total=10_000))
    store.trials.add_measurements(search.id, table_id, [(row, samples) for row in measured], present=(present, samples))
    if also is not None:
        store.trials.add_measurements(search.id, also, [(row, samples) for row in measured])
    store.trials.add_export(search.id, finals[0].number, folder=runs / name, files={"model.onnx": "00" * 32})
    store.searches.set_stage(search.id, SearchStage.DONE)
    store.searches.add_log_line(search.id, level="info", event="note", message=f"search '{name}' is done")


def _running(store: Store, runs: Path, table_id: int) -> None:
    writer = _begin(store, runs, "cifar-phone-2", table_id, "cifar10", PHONE.name, "bob")
    writer.trial(origin="reference", top1=0.66, ms=3.0)
    writer.trial(top1=0.64, ms=2.0)
    writer.trial(state=State.RUNNING)
    store.searches.claim(writer.search.id)
    store.searches.add_log_line(
        writer.search.id, level="warning", event="note", message="trial 1 failed and is tried again"
    )


def rows(url: str) -> dict[str, list[dict[str, object]]]:
    """All rows of all tables, without the claims, which end by themselves."""
    with closing(Database(url)) as database, database.read() as connection:
        found = {
            table.name: [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]
            for table in metadata.sorted_tables
        }
    for row in found[searches.name]:
        row.update(claimed_by=None, heartbeat_at=None)
    return found
