"""The finalists of a race: the best networks that meet the target as measured, and the scaled reference beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latency.probe import Protocol
from search.stages.race.screening import can_screen, latency_of, measure_on_devices
from search.stages.session import Session
from search.trial import NetworkMeasurement, Trial
from space.arch import Architecture
from space.cost import cost_of
from space.keys import keys_of
from space.variation.scaling import scaled_references

# Their latency is what the user is promised: half a per cent.
_FINALISTS = Protocol(rounds=32, most_rounds=96, warm=8, precision=0.005, seconds=180.0)
# Besides those that are wanted, so many are measured in case that others turn out too slow.
_SPARE = 4
# Scaled references are looked at from the target upwards and downwards by these factors in multiply-adds.
_FEWER, _MORE = 0.4, 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalists:
    """Who is trained to the end: the best first, and the widest scaled reference that meets the target, if any does."""

    best: tuple[Trial, ...]
    baseline: Architecture | None


def choose_finalists(session: Session, best: Sequence[Trial]) -> Finalists:
    """The first of these that meet the target, as many as are wanted, and the baseline.

    Where the devices can be asked, all are measured whole and side by side once more, and more precisely: who is to
    meet the target must do so with the upper end of its 95 % interval. Where nobody does, the fastest is taken.

    Raises:
        DeviceError: a device cannot be reached or cannot measure.
    """
    wanted = session.config.final.top_k
    if not can_screen(session):
        return Finalists(best=tuple(best[:wanted]), baseline=_predicted_baseline(session))
    some = best[: wanted + _SPARE]
    names = {f"trial-{trial.number}": trial.architecture for trial in some}
    scaled = {f"width-{round(100 * width)}": arch for width, arch in _scaled(session).items()}
    measured = measure_on_devices(session, {**names, **scaled}, _FINALISTS)
    for goal, found in measured:
        rows = [
            (NetworkMeasurement.of(trial.number, goal.table.estimate(trial.architecture), whole), whole.warm_wall)
            for trial in some
            for whole in (found[f"trial-{trial.number}"].measurement,)
        ]
        session.store.trials.add_measurements(session.record.id, goal.table_id, rows)
    highest = {name: latency_of(session, measured, name)[1] for name in (*names, *scaled)}
    target_ms = session.start.target_ms
    within = [trial for trial in some if highest[f"trial-{trial.number}"] <= target_ms]
    if not within:
        within = [min(some, key=lambda trial: highest[f"trial-{trial.number}"])]
        session.listener.note(
            f"none of the {len(some)} best networks meets the target as measured; the fastest of them is trained"
        )
    baseline = next((arch for name, arch in scaled.items() if highest[name] <= target_ms), None)
    if baseline is not None:
        session.measure(keys_of(baseline), "baseline", reason="enqueued")
    return Finalists(best=tuple(within[:wanted]), baseline=baseline)


def _predicted_baseline(session: Session) -> Architecture | None:
    """The widest scaled reference that is predicted to meet the target; None where its blocks are not known."""
    for arch in _scaled(session).values():
        if session.latency.missing(keys_of(arch)):
            session.listener.note("there is no baseline: blocks of the scaled reference are not measured on the device")
            return None
        if session.latency.estimate(arch) <= session.start.target_ms:
            return arch
    return None


def _scaled(session: Session) -> Mapping[float, Architecture]:
    """The scaled references that may be near the target; none where the reference itself meets it."""
    space, start = session.space, session.start
    reference_ms = session.latency.estimate(space.reference)
    share = start.target_ms / reference_ms
    if share >= 1:
        return {}
    whole = cost_of(space.reference).madds
    return {
        width: arch
        for width, arch in scaled_references(space).items()
        if _FEWER * share <= cost_of(arch).madds / whole <= _MORE * share
    }
