"""The finalists of a race: the best networks that meet the target as measured, and the scaled reference beside them."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from latency.meter import LocalMeter
from search.objective.latency import Goal, scores_at
from search.protocols import FINALISTS, SCALED, SPARE
from search.record.recorded_search import RecordedSearch
from search.stages.limits import end_latency_ms, end_limits_of
from search.stages.race import carried
from search.stages.race.screening import measure_trials, name_of
from search.stages.session import Interrupted, Session
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

    All are measured whole and side by side once more, and more precisely: who is to meet the target must do so with the
    upper end of its 95 % interval. Where nobody does, not even the baseline, the fastest is taken. A device that is
    away now is believed what it said of candidates; for one that is reached by kit the search pauses until it is run.

    Raises:
        DeviceError: this machine cannot measure.
        Interrupted: a kit is to be carried to a device.
    """
    if not session.goals:
        return _unmeasured(session, best)  # a function of the user's predicts
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
    kits = [goal for goal in session.goals if goal.meter is None]
    if kits:
        scaled = {name: arch for name, arch in scaled.items() if not _lacking(kits, arch)}
        _require_results(session, kits, best, scaled)
    highest: dict[str, float] = {}
    within: list[Trial] = []
    batches = _carried(session, kits, best) if kits else _in_batches(session, best, highest)
    for some in batches:
        is_first = not highest
        found = measure_trials(session, some, FINALISTS, beside=scaled if is_first else {}, tells_drift=is_first)
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
        measured = [trial for trial in best if name_of(trial) in highest]
        within = [min(measured, key=lambda trial: highest[name_of(trial)])]
    return Finalists(best=tuple(within[:wanted]), baseline=baseline)


def _lacking(kits: Sequence[Goal], arch: Architecture) -> bool:
    return any(goal.table.missing(keys_of(arch)) for goal in kits)


def _in_batches(session: Session, best: Sequence[Trial], highest: Mapping[str, float]) -> Iterator[list[Trial]]:
    """Those to measure at once, as long as there are some; `highest` grows while they are measured."""
    while some := next_to_measure(session, best, highest):
        yield some


def next_to_measure(
    search: Session | RecordedSearch, best: Sequence[Trial], highest: Mapping[str, float]
) -> list[Trial]:
    """The first of those that were not measured yet; who may meet the target comes before others.

    `highest` has the upper ends of what was measured, ms by name: how much they are above what was known says what is
    to be expected of the others.
    """
    known = [trial for trial in best if name_of(trial) in highest]
    factor = statistics.median([highest[name_of(trial)] / trial.scores.latency_ms for trial in known] or [1.0])
    left = [trial for trial in best if name_of(trial) not in highest]
    left.sort(key=lambda trial: factor * trial.scores.latency_ms > end_latency_ms(search))
    return left[: search.config.final.top_k + SPARE]


def _require_results(
    session: Session, kits: Sequence[Goal], best: Sequence[Trial], scaled: Mapping[str, Architecture]
) -> None:
    """Leave the search until the first kit is back from each device; a coordinator leaves it alone until then.

    Raises:
        Interrupted: it is not.
    """
    files = session.start.files
    if all(carried.returned(files, goal) for goal in kits):
        return
    if not carried.is_waiting(files, kits):
        networks = {name_of(trial): trial.architecture for trial in next_to_measure(session, best, {})}
        carried.write_kit(session, kits, {**networks, **scaled}, session.space.reference)
    session.store.searches.request_stop(session.record.id)
    raise Interrupted(
        f"search '{session.record.name}' stopped before its final training, for the finalists to be measured: "
        f"{carried.what_to_do(session, kits)}"
    )


def _carried(session: Session, kits: Sequence[Goal], best: Sequence[Trial]) -> Iterator[list[Trial]]:
    """The finalists that all devices have measured, kit by kit."""
    for results in zip(*(carried.returned(session.start.files, goal) for goal in kits), strict=False):
        yield [trial for trial in best if all(name_of(trial) in each.networks for each in results)]


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
