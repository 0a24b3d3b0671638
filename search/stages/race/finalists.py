"""The finalists of a race: the best networks that meet the target as measured, and the scaled reference beside them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from latency.meter import LocalMeter
from latency.probe import Protocol
from search.stages.limits import limits_of
from search.stages.race.screening import can_screen, latency_of, measure_on_devices
from search.stages.session import Session
from search.trial import NetworkMeasurement, Scores, Trial
from space.arch import Architecture
from space.cost import cost_of
from space.errors import DeviceError
from space.keys import keys_of
from space.variation.scaling import scaled_references

# Their latency is what the user is promised: half a per cent.
_FINALISTS = Protocol(rounds=32, most_rounds=96, warm=8, precision=0.005, seconds=180.0)
# Besides those that are wanted, so many are measured at once in case that others turn out too slow.
_SPARE = 4
# Of the scaled references so many are looked at that are nearest to the target's share of the multiply-adds.
_SCALED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalists:
    """Who is trained to the end: the best first, and the widest scaled reference that meets the target, if any does."""

    best: tuple[Trial, ...]
    baseline: Architecture | None


def choose_finalists(session: Session, best: Sequence[Trial]) -> Finalists:
    """The first of these that meet the target, as many as are wanted, and the baseline.

    Where the devices can be asked, all are measured whole and side by side once more, and more precisely: who is to
    meet the target must do so with the upper end of its 95 % interval. Where nobody does, not even the baseline, the
    fastest is taken. A device that is away now is believed what it said of candidates.

    Raises:
        DeviceError: this machine cannot measure.
    """
    if not can_screen(session):
        return _unmeasured(session, best)
    try:
        return _measured(session, best)
    except DeviceError as error:
        if any(isinstance(goal.meter, LocalMeter) for goal in session.goals):
            raise
        session.listener.note(f"the finalists are not measured once more, as a device cannot be reached now: {error}")
        return _unmeasured(session, best)


def _unmeasured(session: Session, best: Sequence[Trial]) -> Finalists:
    return Finalists(best=tuple(best[: session.config.final.top_k]), baseline=_predicted_baseline(session))


def _measured(session: Session, best: Sequence[Trial]) -> Finalists:
    wanted, target_ms = session.config.final.top_k, target_of(session)
    scaled = {f"width-{round(100 * width)}": arch for width, arch in _scaled(session).items()}
    found, baseline, fastest = [], None, None
    for first in range(0, len(best), wanted + _SPARE):
        some = best[first : first + wanted + _SPARE]
        highest = _highest(session, some, scaled if first == 0 else {})
        within = [trial for trial in some if highest[_name(trial)] <= target_ms]
        baseline = baseline or next(
            (arch for name, arch in scaled.items() if highest.get(name, math.inf) <= target_ms), None
        )
        fastest = fastest or min(some, key=lambda trial: highest[_name(trial)])
        found += within
        if found:
            break
    if baseline is not None:
        session.measure(keys_of(baseline), "baseline", reason="enqueued")
    if not found:
        session.listener.note(f"none of {len(best)} networks meets the target as measured")
    if not found and baseline is None and fastest is not None:
        found = [fastest]
    return Finalists(best=tuple(found[:wanted]), baseline=baseline)


def target_of(session: Session) -> float:
    """What a found network may take, in ms."""
    limit_ms = limits_of(session).latency_ms
    return session.start.target_ms if limit_ms is None else limit_ms


def _name(trial: Trial) -> str:
    return f"trial-{trial.number}"


def _highest(session: Session, trials: Sequence[Trial], scaled: Mapping[str, Architecture]) -> dict[str, float]:
    """Measure, record what belongs to trials, and return the upper ends of all intervals by name, in ms."""
    names = {_name(trial): trial.architecture for trial in trials}
    measured = measure_on_devices(session, {**names, **scaled}, _FINALISTS)
    for goal, found in measured:
        rows = [
            (NetworkMeasurement.of(trial.number, goal.table.estimate(trial.architecture), whole), whole.warm_wall)
            for trial in trials
            for whole in (found[_name(trial)].measurement,)
        ]
        session.store.trials.add_measurements(session.record.id, goal.table_id, rows)
    return {name: latency_of(session, measured, name)[1] for name in (*names, *scaled)}


def _predicted_baseline(session: Session) -> Architecture | None:
    """The widest scaled reference that is predicted to meet the target; None where its blocks are not known."""
    for arch in _scaled(session).values():
        if session.latency.missing(keys_of(arch)):
            session.listener.note("there is no baseline: blocks of the scaled reference are not measured on the device")
            return None
        if session.latency.estimate(arch) <= target_of(session):
            return arch
    return None


def _scaled(session: Session) -> Mapping[float, Architecture]:
    """The scaled references that may be near the target, within the other limits; none where the reference meets it."""
    space = session.space
    share = target_of(session) / session.latency.estimate(space.reference)
    if share >= 1:
        return {}
    whole, limits = cost_of(space.reference).madds, replace(limits_of(session), latency_ms=None)
    scaled = scaled_references(space)
    fit = [width for width, arch in scaled.items() if limits.refusal(_costs(arch)) is None]
    near = sorted(fit, key=lambda width: abs(cost_of(scaled[width]).madds / whole - share))[:_SCALED]
    return {width: scaled[width] for width in sorted(near, reverse=True)}


def _costs(arch: Architecture) -> Scores:
    """Exact costs, for limits that ask for nothing else."""
    cost = cost_of(arch)
    return Scores(top1=None, latency_ms=0.0, madds=cost.madds, params=cost.params, peak_bytes=cost.peak_bytes)
