"""The finalists of a race: the best networks that meet the target as measured, and the scaled reference beside them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from latency.meter import LocalMeter
from latency.results import Results
from search.objective.latency import Goal, scores_at
from search.protocols import FINALISTS, FINER, SCALED, SPARE
from search.reports.recorded_search import RecordedSearch, doubt
from search.stages.limits import end_latency_ms, end_limits_of
from search.stages.race import kits
from search.stages.race.screening import know_by_measuring, latency_of, measure_on_devices, measure_trials, name_of
from search.stages.session import AwaitsKit, Session
from search.trial import Trial
from space.arch import Architecture
from space.cost import cost_of
from space.errors import DeviceError
from space.keys import keys_of
from space.variation.scaling import scaled_references, widened_references


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalists:
    """Who is trained to the end: the best first, and the widest scaled reference that meets the target, if any does."""

    best: tuple[Trial, ...]
    baseline: Architecture | None


def choose_finalists(session: Session, best: Sequence[Trial]) -> Finalists:
    """The first of these that meet the target, as many as are wanted, and the baseline.

    Who raced furthest is measured until there are enough; of those who left the race before, only as many as it takes
    to have one at all. All are measured whole and side by side once more, and more precisely: who is to meet the target
    must do so with the upper end of its 95 % interval. Where nobody does, not even the baseline, the fastest is taken.
    A device that is away now is believed what it said of candidates; for one that is reached by kit the search pauses
    until it is run.

    Raises:
        DeviceError: this machine cannot measure.
        AwaitsKit: a kit is to be carried to a device.
    """
    if not session.goals:
        return _unmeasured(session, best)  # a function of the user's predicts
    carried = [goal for goal in session.goals if goal.meter is None]
    try:
        return _by_kits(session, carried, best) if carried else _by_meters(session, best)
    except DeviceError as error:
        if any(isinstance(goal.meter, LocalMeter) for goal in session.goals):
            raise
        session.listener.note(f"the finalists are not measured once more, as a device cannot be reached now: {error}")
        return _unmeasured(session, best)


def _unmeasured(session: Session, best: Sequence[Trial]) -> Finalists:
    return Finalists(best=tuple(best[: session.config.final.top_k]), baseline=_predicted_baseline(session))


def _by_meters(session: Session, best: Sequence[Trial]) -> Finalists:
    scaled = _scaled(session, _references(session))
    measured = _Measured(session, best, _spread(_near(session, scaled), SCALED))
    while some := measured.following():
        measured.add(some, {})
    measured.add_between(scaled)
    return measured.chosen()


def _by_kits(session: Session, carried: Sequence[Goal], best: Sequence[Trial]) -> Finalists:
    """By the kits that are back; the devices that are reached are asked now."""
    said = kits.by_kit(session.start.files, carried)
    if not said:
        raise _awaiting(session, carried, best)
    first, *_ = next(iter(said.values()))
    measured = _Measured(session, best, kits.scaled_of(first))
    for results in said.values():
        some = [trial for trial in best if name_of(trial) in results[0].networks]
        measured.add(some, {goal.name: each for goal, each in zip(carried, results, strict=True)})
        if measured.within:
            break
    return measured.chosen()


def _awaiting(session: Session, carried: Sequence[Goal], best: Sequence[Trial]) -> AwaitsKit:
    """Why the search ends here until the first kit is back from each device; a coordinator leaves it alone."""
    files = session.start.files
    if kits.number_of_last(files) < 0 or not kits.waiting(files, carried):
        networks = {name_of(trial): trial.architecture for trial in next_to_measure(session, best, {})}
        known = {width: arch for width, arch in _references(session).items() if not _lacking(carried, arch)}
        if _references(session) and not known:
            session.listener.note(_NO_BASELINE)
        scaled = _spread(_near(session, _scaled(session, known)), SCALED)
        kits.make(session, carried, {**networks, **scaled}, session.space.reference)
    kits.make_again(session)
    session.store.searches.request_stop(session.record.id)
    return AwaitsKit(
        f"search '{session.record.name}' stopped before its final training, for the finalists to be measured: "
        f"{kits.what_to_do(session, kits.waiting(files, carried))}"
    )


def _lacking(carried: Sequence[Goal], arch: Architecture) -> bool:
    return any(goal.table.missing(keys_of(arch)) for goal in carried)


@dataclass
class _Measured:
    """What is known of the finalists, and of the scaled references, which are measured with the first of them.

    `highest` has the upper ends of the intervals, ms by name, and `within` the finalists that meet the target.
    """

    session: Session
    best: Sequence[Trial]
    scaled: Mapping[str, Architecture]
    highest: dict[str, float] = field(default_factory=dict)
    within: list[Trial] = field(default_factory=list)

    def following(self) -> list[Trial]:
        """Who is to be measured next, if anybody is."""
        if not self.within:
            return next_to_measure(self.session, self.best, self.highest)
        wanted, furthest = self.session.config.final.top_k, max(trial.rung for trial in self.best)
        if len(self.within) >= wanted:
            return []
        left = hopeful(self.session, self.best, self.highest)
        return [trial for trial in left if trial.rung == furthest][: wanted + SPARE]

    def add(self, some: Sequence[Trial], said: Mapping[str, Results]) -> None:
        """Measure some more; kits have said of their devices what they are."""
        first, target_ms, listener = not self.highest, end_latency_ms(self.session), self.session.listener
        beside = self.scaled if first else {}
        asks = any(goal.name not in said for goal in self.session.goals)
        if asks:
            networks = len(some) + len(beside)
            listener.begin(f"measuring {networks} network{'s' * (networks > 1)} before the final training", 1)
        try:
            found = measure_trials(
                self.session,
                some,
                FINALISTS,
                beside=beside,
                said=said,
                tells_drift=first,
                progress=lambda done, expected, _: listener.advance(done, expected),
            )
        finally:
            if asks:
                listener.end()
        self.highest |= {name: high for name, (_, high) in found.items()}
        within = [trial for trial in some if self.highest[name_of(trial)] <= target_ms]
        if said:  # of the others it was known before
            within = [know_by_measuring(self.session, trial, found[name_of(trial)][0]) for trial in within]
        self.within += within

    def add_between(self, scaled: Mapping[str, Architecture]) -> None:
        """Measure scaled references between the widest that meets the target and the next wider one, so far.

        Where none does they are those that are narrower than all that were measured.
        """
        every, widest = [*scaled], self._widest()
        known = [every.index(name) for name in self.scaled]
        end = len(every) if widest is None else every.index(widest)
        begin = max((place for place in known if place < end), default=-1)
        finer = _spread({name: scaled[name] for name in every[begin + 1 : end]}, FINER)
        if not finer:
            return
        self.session.listener.begin(f"measuring {len(finer)} scaled references near the target", 1)
        try:
            measured = measure_on_devices(self.session, finer, FINALISTS, {}, None)
        except DeviceError as error:
            self.session.listener.note(
                f"the baseline is one of the scaled references that were measured first: {error}"
            )
            return
        finally:
            self.session.listener.end()
        self.highest |= {name: latency_of(self.session, measured, name)[1] for name in finer}
        self.scaled = {name: scaled[name] for name in every if name in self.scaled or name in finer}

    def chosen(self) -> Finalists:
        """The finalists; the fastest where nobody meets the target."""
        session, widest = self.session, self._widest()
        baseline = None if widest is None else self.scaled[widest]
        if baseline is not None:
            session.measure(keys_of(baseline), "baseline", reason="enqueued")
        measured = [trial for trial in self.best if name_of(trial) in self.highest]
        if not self.within:
            session.listener.note(f"none of {len(measured)} networks meets the target as measured")
        best = self.within
        if not self.within and baseline is None:
            best = [min(measured, key=lambda trial: self.highest[name_of(trial)])]
        return Finalists(best=tuple(best[: session.config.final.top_k]), baseline=baseline)

    def _widest(self) -> str | None:
        """The widest scaled reference that meets the target, by name.

        Of many that are measured it would be a lucky one, but wider networks take longer.
        """
        rising = non_decreasing([self.highest[name] for name in reversed([*self.scaled])])
        target_ms = end_latency_ms(self.session)
        return next((name for name, ms in zip(self.scaled, reversed(rising), strict=True) if ms <= target_ms), None)


def next_to_measure(
    search: Session | RecordedSearch, best: Sequence[Trial], highest: Mapping[str, float]
) -> list[Trial]:
    """The first of those that were not measured yet; who is expected to meet the target comes before others.

    `highest` has the upper ends of what was measured, ms by name.
    """
    expected = hopeful(search, best, highest)
    left = [trial for trial in best if name_of(trial) not in highest and trial not in expected]
    return [*expected, *left][: search.config.final.top_k + SPARE]


def hopeful(search: Session | RecordedSearch, best: Sequence[Trial], highest: Mapping[str, float]) -> list[Trial]:
    """Those that were not measured yet and may meet the target.

    How much slower the others were than what was known of them says what is to be expected.
    """
    known = [trial for trial in best if name_of(trial) in highest]
    factor = statistics.median([highest[name_of(trial)] / trial.scores.latency_ms for trial in known] or [1.0])
    left = [trial for trial in best if name_of(trial) not in highest]
    return [trial for trial in left if factor * trial.scores.latency_ms <= end_latency_ms(search)]


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


def _span(share: float, unsure: float) -> tuple[float, float]:
    """Among how many multiply-adds the widest is looked for that meets a target, all as shares of the reference's.

    At 80% of MobileNetV3-Small's latency for 32 px it has 53% of them, at 60% of MobileNetV2's for 96 px 49%; at 127%
    of the former 174%, at 192% 323%, since a part of its latency (some 60%) is no matter of width.
    """
    if share < 1 - unsure:
        return 0.4 * share, 1.1 * share
    return 0.4 if share < 1 + unsure else 0.9 * share, max(1.1 * share, (share - 0.7) / 0.3)


_NO_BASELINE = "there is no baseline: blocks of the scaled reference are not measured on the device"


def _predicted_baseline(session: Session) -> Architecture | None:
    """The widest scaled reference, of those whose blocks are known, that is predicted to meet the target."""
    references = _references(session)
    known = {width: arch for width, arch in references.items() if not session.latency.missing(keys_of(arch))}
    if references and not known:
        session.listener.note(_NO_BASELINE)
    near = _scaled(session, known).values()
    return next((arch for arch in near if session.latency.estimate(arch) <= end_latency_ms(session)), None)


def _references(session: Session) -> dict[float, Architecture]:
    """The reference at other widths: narrower ones, wider ones, or both where it may meet the target; the widest first.

    Multiply-adds grow with the square of the width.
    """
    space, share, unsure = session.space, _share(session), doubt(session.config, session.start.target_ms)
    narrower = scaled_references(space) if share < 1 + unsure else {}
    if share < 1 - unsure:
        return narrower
    most = min(_span(share, unsure)[1], cost_of(space.largest).madds / cost_of(space.reference).madds)
    return {**widened_references(space, space.width * math.sqrt(most)), **narrower}


def _scaled(session: Session, references: Mapping[float, Architecture]) -> dict[str, Architecture]:
    """Those of the scaled references that are within the other limits than that of latency, by name."""
    limits = replace(end_limits_of(session), latency_ms=None)
    fit = {width: arch for width, arch in references.items() if limits.refusal(scores_at(arch, 0.0)) is None}
    return {f"{kits.SCALED}{round(100 * width)}": arch for width, arch in fit.items()}


def _share(session: Session) -> float:
    """The target as a share of the reference's latency."""
    return end_latency_ms(session) / session.latency.estimate(session.space.reference)


def _near(session: Session, scaled: Mapping[str, Architecture]) -> dict[str, Architecture]:
    """Those of which one is probably the widest that meets the target; all, where none is so."""
    whole = cost_of(session.space.reference).madds
    unsure = doubt(session.config, session.start.target_ms)
    least, most = (share * whole for share in _span(_share(session), unsure))
    near = {name: arch for name, arch in scaled.items() if least <= cost_of(arch).madds <= most}
    return near or dict(scaled)


def _spread(scaled: Mapping[str, Architecture], count: int) -> dict[str, Architecture]:
    """So many of these, from the first to the last."""
    names = [*scaled]
    if len(names) <= count:
        return dict(scaled)
    return {names[round(place)]: scaled[names[round(place)]] for place in np.linspace(0, len(names) - 1, count)}
