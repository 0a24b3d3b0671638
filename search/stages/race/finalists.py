"""The finalists of a race: the best networks that meet the target as measured, and the scaled reference beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from latency.meter import LocalMeter
from search.objective.latency import scores_at
from search.protocols import FINALISTS, SCALED, SPARE
from search.stages.limits import end_latency_ms, end_limits_of
from search.stages.race.screening import can_screen, measure_trials, name_of
from search.stages.session import Session
from search.trial import Trial
from space.arch import Architecture
from space.cost import cost_of
from space.errors import DeviceError
from space.keys import keys_of
from space.variation.scaling import scaled_references


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
    wanted, target_ms = session.config.final.top_k, end_latency_ms(session)
    scaled = {f"width-{round(100 * width)}": arch for width, arch in _scaled(session).items()}
    highest: dict[str, float] = {}
    within: list[Trial] = []
    for first in range(0, len(best), wanted + SPARE):
        some = best[first : first + wanted + SPARE]
        found = measure_trials(session, some, FINALISTS, beside={} if first else scaled, tells_drift=not first)
        highest |= {name: high for name, (_, high) in found.items()}
        within += [trial for trial in some if highest[name_of(trial)] <= target_ms]
        if within:
            break
    # Of many that are measured the widest within the target would be a lucky one: wider networks take longer.
    rising = non_decreasing([highest[name] for name in reversed(scaled)])
    baseline = next((arch for arch, ms in zip(scaled.values(), reversed(rising), strict=True) if ms <= target_ms), None)
    if baseline is not None:
        session.measure(keys_of(baseline), "baseline", reason="enqueued")
    if not within:
        session.listener.note(f"none of {len(best)} networks meets the target as measured")
    if not within and baseline is None:
        within = [min(best, key=lambda trial: highest[name_of(trial)])]
    return Finalists(best=tuple(within[:wanted]), baseline=baseline)


def non_decreasing(values: Sequence[float]) -> list[float]:
    """The sequence that never falls and is nearest to this one in squares, by pooling neighbours (Ayer et al. 1955)."""
    pools: list[tuple[float, int]] = []
    for value in values:
        pool = (value, 1)
        while pools and pools[-1][0] / pools[-1][1] > pool[0] / pool[1]:
            total, count = pools.pop()
            pool = (total + pool[0], count + pool[1])
        pools.append(pool)
    return [total / count for total, count in pools for _ in range(count)]


def _predicted_baseline(session: Session) -> Architecture | None:
    """The widest scaled reference, of those whose blocks are known, that is predicted to meet the target."""
    known = [arch for arch in _scaled(session).values() if not session.latency.missing(keys_of(arch))]
    if not known:
        session.listener.note("there is no baseline: blocks of the scaled reference are not measured on the device")
    return next((arch for arch in known if session.latency.estimate(arch) <= end_latency_ms(session)), None)


def _scaled(session: Session) -> Mapping[float, Architecture]:
    """The scaled references that may be near the target, within the other limits; none where the reference meets it."""
    space = session.space
    share = end_latency_ms(session) / session.latency.estimate(space.reference)
    if share >= 1:
        return {}
    whole, limits = cost_of(space.reference).madds, replace(end_limits_of(session), latency_ms=None)
    scaled = scaled_references(space)
    fit = [width for width, arch in scaled.items() if limits.refusal(scores_at(arch, 0.0)) is None]
    near = sorted(fit, key=lambda width: abs(cost_of(scaled[width]).madds / whole - share))[:SCALED]
    return {width: scaled[width] for width in sorted(near, reverse=True)}
