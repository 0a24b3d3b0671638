"""report.json: what was found, for programs; `docs/report.schema.json` is its JSON Schema."""

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from search.objective.latency import Goal
from search.reports.headline import headline
from search.reports.history import History
from search.reports.naming import compared_with, published_in_words, scaled_in_words
from search.reports.present import beside_present
from search.reports.race import Rung, rungs_of
from search.reports.recorded_search import RecordedSearch, reference_trial
from search.reports.signals import first_look
from search.trial import Origin, SearchStage, State, Trial
from trainer.training.metrics import wilson_interval

VERSION: Literal[1] = 1
"""Raised when a field changes its meaning or goes; fields that are added leave it."""

Interval = tuple[float, float]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Latency(_Part):
    """The latency of one network on one device, in ms."""

    predicted_ms: float | None = Field(description="by the latency table, or by the user's own function")
    measured_ms: float | None = Field(description="low quantile of wall time, measured whole; null: not measured")
    measured_interval: Interval | None = Field(description="its 95 % interval, ms")


class Network(Latency):
    """One of the final networks. With several devices its latencies are null here and stand below `devices`."""

    name: str
    test_top1: float | None = Field(description="on the test split, 0 to 1; null: nothing was trained")
    test_interval: Interval | None = Field(description="its 95 % interval (Wilson)")
    reward_top1: float | None = Field(description="on the reward split or by the user's own evaluator, 0 to 1")
    madds: int = Field(description="multiply-adds of one image")
    params: int
    images_seen: int = Field(description="images that it was trained on, repeats included")
    arch_id: str = Field(description="content hash of its spec")


class PresentModel(_Part):
    """The model that the user had, tested on the same images and measured beside the networks."""

    name: str = Field(description="of its ONNX file")
    sha256: str
    test_top1: float = Field(description="on the test split, 0 to 1")
    test_interval: Interval = Field(description="its 95 % interval (Wilson)")
    found_minus_present: float = Field(description="test top-1 of the found network minus that of this model")
    found_minus_present_interval: Interval = Field(description="its 95 % interval, paired where that is known")
    latencies: dict[str, Latency] = Field(description="by device; empty where a user's own function predicts latencies")


class Target(_Part):
    """What was asked for on one device, and what came out."""

    target_ms: float | None
    target_share: float | None = Field(description="share of the reference's latency; null: in ms")
    measured_share: float | None = Field(description="measured latency of the found network over the reference's")


class Device(Target):
    """One of the devices of a search."""

    fingerprint: str
    table_id: int
    found: Latency
    reference: Latency | None


class Finalist(_Part):
    """One of the networks among which the reward split chose, as it was trained in the end."""

    trial: int
    name: str = Field(description="candidate, baseline, or reference where that meets the target itself")
    arch_id: str
    latency_ms: float = Field(description="as measured before its final training where it was, else predicted")
    reward_top1: float | None = Field(description="on the whole reward split, 0 to 1")
    reward_interval: Interval | None = Field(description="its 95 % interval (Wilson)")
    reward_log_likelihood: float | None = Field(description="mean of the right class there, natural logarithm")
    chosen: bool


class RaceRung(_Part):
    """How a rung of the race went."""

    images: int = Field(description="that its networks had seen; 0: judged by the weights of a supernet")
    networks: int = Field(description="that were trained up to there")
    best_log_likelihood: float | None = Field(description="mean of the right class, natural logarithm")
    worst_log_likelihood: float | None


class Minutes(_Part):
    """Wall time in which at least one trial of a stage was running."""

    blocks: float
    netadapt: float
    final: float


class Ids(_Part):
    """What identifies the search and what it depended on."""

    search: int
    table: int | None = Field(description="of the first device; null: a function predicts")
    data: str = Field(description="content hash of the data set, or the user's own evaluator")
    found_trial: int
    reference_trial: int | None


class FirstLook(_Part):
    """How well a race's first look at its networks orders those near one latency by what they reach in the end."""

    images: int = Field(description="images that networks had seen then")
    tau: float = Field(description="Kendall's tau-b with top-1 at the end")
    tau_interval: tuple[float, float] = Field(description="95 %, over networks")
    networks: int
    source: str = Field(description="whose networks were compared: searches in the record, or published with mobilenas")


class _Head(_Part):
    version: Literal[1]
    search: str
    seed: int
    data: str


class Summary(Target, _Head):
    """The whole file. `reference` is null where there is none, `answer` what a report begins with.

    `baseline` is the reference scaled until it meets the target; null: there is none, or the search ended with it.
    """

    answer: str | None = Field(description="one sentence: found beside baseline or reference; null: nothing was tested")
    found: Network
    reference: Network | None
    baseline: Network | None
    present: PresentModel | None = Field(default=None, description="null: the user named none")
    race: tuple[RaceRung, ...] = Field(default=(), description="empty where there was none")
    finalists: tuple[Finalist, ...] = Field(description="empty where there was no choice in the end")
    first_look: FirstLook | None = Field(default=None, description="null: no race, or never looked into on these data")
    devices: dict[str, Device] = Field(description="by name; empty where a user's own function predicts latencies")
    minutes: Minutes
    ids: Ids


def summary_of(recorded: RecordedSearch) -> Summary:
    """What the record knows of a search that has found its network.

    Raises:
        RunError: it has found none.
    """
    found, reference = recorded.found, _reference(recorded)
    devices = {device.name: _device(recorded, device, found, reference) for device in recorded.devices}
    first, history = next(iter(devices.values()), None), History.read(recorded.store, recorded.record.name)
    if first is None:  # a function predicts
        target_ms, share = recorded.start.target_ms, recorded.config.target.relative
        top = Target(target_ms=target_ms, target_share=share, measured_share=None)
        latencies = [_predicted(trial) for trial in (found, reference)]
    elif len(devices) == 1:
        top = Target(**{name: getattr(first, name) for name in Target.model_fields})
        latencies = [first.found, first.reference]
    else:
        top = Target(target_ms=None, target_share=None, measured_share=None)
        latencies = [_UNKNOWN, _UNKNOWN]
    return Summary(
        **top.model_dump(),
        version=VERSION,
        search=recorded.record.name,
        seed=recorded.config.seed,
        data=recorded.config.data.source,
        answer=headline(history),
        found=_network(found, recorded.record.name, latencies[0]),
        reference=None if reference is None else _network(reference, _name(recorded, reference), latencies[1]),
        baseline=_baseline(recorded),
        present=_present(history),
        race=tuple(map(_rung, rungs_of(recorded.record.config, recorded.all_trials))),
        finalists=_finalists(recorded),
        first_look=_first_look(recorded),
        devices=devices,
        minutes=Minutes(**{stage.value: _minutes(recorded.trials(stage)) for stage in _STAGES}),
        ids=Ids(
            search=recorded.record.id,
            table=recorded.start.table_id,
            data=recorded.start.data_hash,
            found_trial=found.number,
            reference_trial=None if reference is None else reference.number,
        ),
    )


def _first_look(recorded: RecordedSearch) -> FirstLook | None:
    known = first_look(recorded)
    if known is None:
        return None
    quality, images = known.quality, known.quality.images
    assert images is not None
    return FirstLook(
        images=images,
        tau=quality.tau,
        tau_interval=(quality.low, quality.high),
        networks=quality.networks,
        source=known.source,
    )


_UNKNOWN = Latency(predicted_ms=None, measured_ms=None, measured_interval=None)
_STAGES = (SearchStage.BLOCKS, SearchStage.NETADAPT, SearchStage.FINAL)


def write_summary(recorded: RecordedSearch) -> Path:
    """Write report.json into the run folder."""
    path = recorded.files.summary
    path.write_text(summary_of(recorded).model_dump_json(indent=2) + "\n", encoding="utf-8")
    return path


def schema_text() -> str:
    """The JSON Schema of report.json."""
    return json.dumps(Summary.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def _reference(recorded: RecordedSearch) -> Trial | None:
    """The network to compare with: as it was trained in the end, or else as the search judged it."""
    if recorded.has_finals:
        return reference_trial(recorded.all_trials)
    judged = recorded.trials(SearchStage.BLOCKS)
    return next((trial for trial in judged if trial.origin == Origin.REFERENCE and trial.state is State.COMPLETE), None)


def _name(recorded: RecordedSearch, reference: Trial) -> str:
    config = recorded.record.config
    return published_in_words(config, reference.architecture) or compared_with(config)


def _network(trial: Trial, name: str, latency: Latency | None) -> Network:
    tested = trial.correct is not None and bool(trial.total)
    correct, total = trial.correct or 0, trial.total or 0
    return Network(
        **(latency or _UNKNOWN).model_dump(),
        name=name,
        test_top1=correct / total if tested else None,
        test_interval=wilson_interval(correct, total) if tested else None,
        reward_top1=trial.scores.top1,
        madds=trial.scores.madds,
        params=trial.scores.params,
        images_seen=trial.images_seen,
        arch_id=trial.architecture.arch_id,
    )


def _rung(rung: Rung) -> RaceRung:
    return RaceRung(
        images=rung.images,
        networks=len(rung.ended),
        best_log_likelihood=rung.ended[0].scores.log_likelihood if rung.ended else None,
        worst_log_likelihood=rung.ended[-1].scores.log_likelihood if rung.ended else None,
    )


def _finalists(recorded: RecordedSearch) -> tuple[Finalist, ...]:
    return tuple(
        Finalist(
            trial=trial.number,
            name=str(trial.origin),
            arch_id=trial.architecture.arch_id,
            latency_ms=recorded.latency_before(trial),
            reward_top1=trial.scores.top1,
            reward_interval=recorded.reward_interval(trial),
            reward_log_likelihood=trial.scores.log_likelihood,
            chosen=trial.number == recorded.found.parent,
        )
        for trial in recorded.finalists
    )


def _baseline(recorded: RecordedSearch) -> Network | None:
    baseline = recorded.baseline if recorded.has_finals else None
    if baseline is None:
        return None
    devices = recorded.devices
    latency = (
        _predicted(baseline) if not devices else _latency(recorded, devices[0], baseline) if len(devices) == 1 else None
    )
    return _network(baseline, scaled_in_words(recorded.record.config, baseline.architecture), latency)


def _present(history: History) -> PresentModel | None:
    result, beside = history.present, beside_present(history)
    if result is None or beside is None:
        return None
    measured = {served.device.name: history.present_measured(served) for served in history.served}
    return PresentModel(
        name=result.name,
        sha256=result.sha256,
        test_top1=result.correct / result.total,
        test_interval=wilson_interval(result.correct, result.total),
        found_minus_present=beside.difference.difference,
        found_minus_present_interval=(beside.difference.low, beside.difference.high),
        latencies={
            name: _UNKNOWN
            if each is None
            else Latency(predicted_ms=None, measured_ms=each.measured_ms, measured_interval=(each.low_ms, each.high_ms))
            for name, each in measured.items()
        },
    )


def _predicted(trial: Trial | None) -> Latency | None:
    """What a user's own function said."""
    return None if trial is None else _UNKNOWN.model_copy(update={"predicted_ms": trial.scores.latency_ms})


def _device(recorded: RecordedSearch, device: Goal, found: Trial, reference: Trial | None) -> Device:
    mine = _latency(recorded, device, found)
    theirs = None if reference is None else _latency(recorded, device, reference)
    shared = None
    if theirs is not None and mine.measured_ms is not None and theirs.measured_ms is not None:
        shared = mine.measured_ms / theirs.measured_ms
    return Device(
        fingerprint=device.table.device.fingerprint,
        table_id=device.table_id,
        target_ms=device.target_ms,
        target_share=recorded.config.devices[device.name].relative,
        measured_share=shared,
        found=mine,
        reference=theirs,
    )


def _latency(recorded: RecordedSearch, device: Goal, trial: Trial) -> Latency:
    measured = recorded.measurements(device).get(trial.number)
    return Latency(
        predicted_ms=recorded.predicted_ms(trial, device),
        measured_ms=None if measured is None else measured.measured_ms,
        measured_interval=None if measured is None else (measured.low_ms, measured.high_ms),
    )


def _minutes(trials: Iterable[Trial]) -> float:
    """How long at least one of some trials was running; pauses of a search that was resumed do not count."""
    spans: list[tuple[datetime, datetime]] = sorted(
        (trial.started_at, trial.finished_at)
        for trial in trials
        if trial.started_at is not None and trial.finished_at is not None and trial.reused_from is None
    )
    total, end = 0.0, None
    for started, finished in spans:
        begin = started if end is None else max(started, end)
        if finished > begin:
            total += (finished - begin).total_seconds()
            end = finished
    return round(total / 60, 3)
