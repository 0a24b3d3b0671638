"""Screening: networks are measured whole on the device before they are trained.

Predictions err by some per cent, and a search selects those whose prediction is too low. Whole networks take seconds to
measure and minutes to train, so only what really uses the target, and meets it, is trained. From then on the latency of
such a trial is the measured one, at the conditions of its table.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from latency.meter import LocalMeter, MeasuringProgress
from latency.probe import Protocol
from latency.results import Results
from latency.whole import Whole, measure_whole
from search.objective.latency import Goal
from search.objective.limits import Refusal
from search.protocols import AT_ONCE, PASSING, SCREENING
from search.reports.markdown import NOTABLE_ERROR
from search.stages.limits import end_latency_ms, latency_limit_ms, limits_of
from search.stages.race import kits
from search.stages.session import Session
from search.trial import NetworkMeasurement, Origin, Scores, SearchStage, State, Trial
from space.arch import Architecture
from space.errors import DeviceError

# Predictions are hardly ever further off than this share.
_NEAR = 0.1


def can_screen(session: Session) -> bool:
    """Whether all devices can be asked at any time."""
    return bool(session.goals) and all(goal.meter is not None for goal in session.goals)


def target_reference(session: Session, goal: Goal) -> Architecture | None:
    """The network that a device's target is a share of, None where it is absolute."""
    if not kits.is_relative(session.config, goal):
        return None
    start = session.config.netadapt.start
    return session.space.reference if start is None else Architecture.from_json(start.network)


def measure_on_devices(
    session: Session,
    networks: Mapping[str, Architecture],
    protocol: Protocol,
    said: Mapping[str, Results],
    progress: MeasuringProgress | None = None,
) -> list[tuple[Goal, dict[str, Whole]]]:
    """Measure networks on every device that is reached, side by side, by name; `said` is what kits say of others.

    Raises:
        DeviceError: one cannot be reached or cannot measure; where kits have said something, only this machine.
    """
    found = []
    for goal in session.goals:
        if goal.name in said:
            wholes = kits.whole_of(session.config, goal, said[goal.name])
            found.append((goal, {name: wholes[name] for name in networks}))
        elif goal.meter is not None:
            reference = target_reference(session, goal)
            try:
                found.append((goal, measure_whole(goal.table, networks, reference, goal.meter, protocol, progress)))
            except DeviceError as error:
                if not said or isinstance(goal.meter, LocalMeter):
                    raise
                session.listener.note(f"what kits have said decides alone: {error}")
    return found


def latency_of(
    session: Session, measured: Sequence[tuple[Goal, Mapping[str, Whole]]], name: str
) -> tuple[float, float]:
    """A network's latency and the upper end of its interval, in ms.

    On several devices they are the largest shares of a target, in ms of the first.
    """
    first = session.goals[0].target_ms
    return (
        max(found[name].ms * first / goal.target_ms for goal, found in measured),
        max(found[name].high_ms * first / goal.target_ms for goal, found in measured),
    )


def measure_trials(
    session: Session,
    trials: Sequence[Trial],
    protocol: Protocol,
    beside: Mapping[str, Architecture] | None = None,
    *,
    said: Mapping[str, Results] | None = None,
    tells_drift: bool = False,
    progress: MeasuringProgress | None = None,
) -> dict[str, tuple[float, float]]:
    """Measure the networks of trials, record that, and return by name what `latency_of` says.

    A trial is named by `name_of`; other networks may be measured `beside` them, which nothing is recorded of. From then
    on running and adopted trials have what was measured as their latency. By kits, of whose devices `said` has the
    results by name, it is those that meet the target: the others must still be known as what was measured in vain.

    Raises:
        DeviceError: a device cannot be reached or cannot measure.
    """
    networks = {name_of(trial): trial.architecture for trial in trials} | dict(beside or {})
    measured = measure_on_devices(session, networks, protocol, said or {}, progress)
    if tells_drift:
        _tell_drift(session, measured)
    found = {name: latency_of(session, measured, name) for name in networks}

    def is_known_by_it(trial: Trial) -> bool:
        if said:
            return found[name_of(trial)][1] <= end_latency_ms(session)
        return trial.state is State.RUNNING or trial.origin == Origin.ADOPTED

    known = {trial.number: found[name_of(trial)][0] for trial in trials if is_known_by_it(trial)}
    for goal, whole in measured:
        rows = [
            (NetworkMeasurement.of(trial.number, goal.table.estimate(trial.architecture), now), now.warm_wall)
            for trial, now in ((trial, whole[name_of(trial)].measurement) for trial in trials)
        ]
        # With the last device a trial is known to be measured on all of them.
        latencies = known if goal is measured[-1][0] else {}
        session.store.trials.add_measurements(session.record.id, goal.table_id, rows, latencies=latencies)
    return found


def _tell_drift(session: Session, measured: Sequence[tuple[Goal, Mapping[str, Whole]]]) -> None:
    """Say where a device has become another since its table was measured, though nothing rests on that."""
    for goal, found in measured:
        drifts = [each.measurement.estimate("warm", "wall") / each.ms for each in found.values()]
        drift = statistics.median(drifts) - 1 if drifts else 0.0
        if abs(drift) > NOTABLE_ERROR:
            how = "slower" if drift > 0 else "faster"
            session.listener.note(
                f"'{goal.name}' is {abs(drift):.0%} {how} than when its table was measured; what was "
                "measured now is compared at the table's conditions, so that this cancels out"
            )


def measure_adopted(session: Session) -> None:
    """Measure what was taken over from other searches, of which only predictions are known here, near the target.

    Along a front there is no target to be near, and predictions do.

    Raises:
        DeviceError: a device cannot be reached or cannot measure.
    """
    limit_ms = latency_limit_ms(session)
    if math.isinf(limit_ms):
        return
    adopted = [
        trial
        for trial in session.index.of_origin(SearchStage.BLOCKS, Origin.ADOPTED)
        if trial.state is State.COMPLETE and trial.scores.latency_ms <= (1 + _NEAR) * limit_ms
    ]
    for first in range(0, len(adopted), AT_ONCE):
        some = adopted[first : first + AT_ONCE]
        found = measure_trials(session, some, SCREENING)
        for trial in some:
            know_by_measuring(session, trial, found[name_of(trial)][0])


def know_by_measuring(session: Session, trial: Trial, ms: float) -> Trial:
    """A completed trial of the block-level search with what was measured as its latency, and rewarded for that."""
    measured = replace(trial, scores=replace(trial.scores, latency_ms=ms))
    session.index.put(measured)
    if (reward := session.reward_of(measured)) is not None:
        session.store.trials.set_reward(session.record.id, trial.number, reward, anew=True)
    return measured


def name_of(trial: Trial) -> str:
    """A trial's network among those that are measured together."""
    return f"trial-{trial.number}"


class Candidates:
    """Proposals that were measured: `ready` ones are to be trained, and `waiting` ones recorded but not yet measured.

    Both run, as far as the record knows; what an earlier coordinator left of them comes first.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        last = session.goals[-1].table_id
        found = session.store.trials.measurements(session.record.id)
        self._measured = {each.trial for each in found if each.table_id == last}
        left = session.take_left_running(SearchStage.BLOCKS, session.config.blocks.sampler)
        measured = {trial.architecture for trial in self.measured()}
        self.ready = [trial for trial in left if trial.architecture in measured]
        self.waiting = [trial for trial in left if trial.architecture not in measured]

    @property
    def in_training(self) -> int:
        """How many trials of the stage are being trained, which would disturb a measurement here."""
        running = self._session.index.count(SearchStage.BLOCKS, State.RUNNING)
        return running - len(self.ready) - len(self.waiting)

    def measured(self) -> list[Trial]:
        """All trials of this search that were measured before they were trained, or refused for that."""
        return [trial for trial in self._session.trials(SearchStage.BLOCKS) if trial.number in self._measured]

    def refused(self) -> list[Trial]:
        """Those that were measured and are not trained for it."""
        trained = {
            trial.architecture for trial in self._session.trials(SearchStage.BLOCKS) if trial.state is not State.PRUNED
        }
        return [trial for trial in self.measured() if trial.state is State.PRUNED and trial.architecture not in trained]

    def bias(self) -> float:
        """How many times as long as predicted networks take: the median of what was measured, 1 before that."""
        latency = self._session.latency
        found = [trial.scores.latency_ms / latency.estimate(trial.architecture) for trial in self.measured()]
        return statistics.median(found) if found else 1.0

    def how_many(self, wanted: int) -> int:
        """How many networks to propose so that about so many of them pass."""
        if math.isinf(latency_limit_ms(self._session)):
            return min(AT_ONCE, wanted)  # along a front nothing is refused for what it takes
        screened = self.measured()
        passed = sum(trial.state is not State.PRUNED for trial in screened)
        # As if two had been measured before, so that the first few say little.
        share = (passed + 2 * PASSING) / (len(screened) + 2)
        return max(1, min(AT_ONCE, round(wanted / share)))

    def measure(self, refusal_of: Callable[[Scores], Refusal | None]) -> None:
        """Measure those that wait; what is refused by what it takes is not trained."""
        session, waiting = self._session, self.waiting
        found = measure_trials(session, waiting, SCREENING)
        self.waiting = []
        self._measured.update(trial.number for trial in waiting)
        for trial in waiting:
            screened = replace(trial, scores=replace(trial.scores, latency_ms=found[name_of(trial)][0]))
            session.index.put(screened)
            if (refusal := refusal_of(screened.scores)) is None:
                self.ready.append(screened)
            else:
                session.refuse(screened, f"measured: {refusal.reason}")
        latencies = [ms for ms, _ in found.values()]
        session.listener.note(
            f"{len(waiting)} candidates measured, {min(latencies):.3f} to {max(latencies):.3f} ms: "
            f"{len(self.ready)} of them are trained"
        )

    def faster(self) -> list[Trial]:
        """Networks that were refused for being faster than others were to be, the slowest first."""
        limits = limits_of(self._session)
        refused = [trial for trial in self.refused() if limits.refusal(trial.scores) is None]
        return sorted(refused, key=lambda trial: -trial.scores.latency_ms)
