"""The layer-wise refinement: NetAdapt's walk from the block-level winner to the final target."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from latency.meter import LocalMeter
from search.evaluation.data import Images
from search.objective.latency import Goal
from search.protocols import FINALISTS
from search.reports.recorded_search import RecordedSearch
from search.stages.blocks import choose_seed
from search.stages.limits import limits_of
from search.stages.race.rungs import competing
from search.stages.race.screening import can_screen, latency_of, measure_on_devices, name_of
from search.stages.session import AwaitsKit, Session
from search.stages.walk.netadapt import proposals
from search.stages.walk.telling import Step, of_iteration
from search.trial import NetAdaptStep, NetworkMeasurement, Origin, SearchStage, State, Trial
from space.arch import Architecture
from space.errors import DeviceError, RunError
from space.keys import BlockKey, keys_of
from space.narrowing import Proposal, narrowed_keys, narrowings

# A top-1 on fewer images has a standard error of two points and more.
_FEW = 500


def refine(session: Session) -> list[Trial]:
    """Walk until the final target is met, and return the trials that meet it, the best first, each network once.

    Each iteration: propose, measure the blocks that the table lacks, fine-tune the proposals, keep the one that loses
    least per ms saved (see `telling`). The record holds enough to go on in the middle of an iteration. Where the
    devices can be asked, who is to be trained is measured whole: what misses the target is left out, and the walk goes
    on until its end meets it.

    Raises:
        Interrupted: it was stopped, or waits for a kit.
        RunError: nothing can be narrowed any more, and no block-level trial meets the target either.
    """
    seed = _recorded_seed(session)
    target_ms = min(session.start.target_ms, session.config.limits.latency_ms or math.inf)
    if _walks(session, seed, target_ms) and _kits_lacking(session):
        raise AwaitsKit(pause_before_refinement(session))
    way = [seed, *(session.trial(step.trial) for step in session.store.trials.steps(session.record.id))]
    if _walks(session, seed, target_ms) and len(way) == 1:
        _tell_few_images(session)
    can_be_measured = can_screen(session) and isinstance(session.data, Images)
    while True:
        known = _measured(session)
        current = _walk(session, seed, way[-1], _predicted_limit(way, known, target_ms))
        if current is not way[-1]:
            way.append(current)
        found = _within_target(session, current, known)
        new = [trial for trial in found[: session.config.final.top_k] if trial.architecture.arch_id not in known]
        if not new or not can_be_measured or not _measure(session, new):
            _tell_taken(session, found[0], current)
            return found


def _walks(session: Session, seed: Trial, target_ms: float) -> bool:
    return seed.scores.latency_ms > target_ms and session.config.netadapt.max_steps > 0


def _tell_few_images(session: Session) -> None:
    """Say where so few images judge that steps are chosen by chance."""
    data = session.data
    if not isinstance(data, Images) or session.config.own_evaluator is not None:
        return
    judging = min(len(data.splits.reward), session.config.data.reward_images)
    if judging < _FEW:
        session.listener.note(
            f"only {judging} images judge each step, so that one of them is {100 / judging:.1f} points: which layers "
            "are narrowed may be chance; more photos, or a larger data.reward_fraction, judge better"
        )


def _measured(session: Session) -> dict[str, float]:
    """What networks take as measured before the final training, by architecture: times their prediction.

    Of each the upper end of its 95 % interval; of several devices that of the one whose target it comes closest to.
    """
    by_device: list[dict[str, float]] = []
    stages = (SearchStage.BLOCKS, SearchStage.NETADAPT)
    rows = session.store.trials.measurements(session.record.id) if session.goals else []
    for goal in session.goals:
        mine = [row for row in rows if row.table_id == goal.table_id and session.trial(row.trial).stage in stages]
        share = session.goals[0].target_ms / goal.target_ms
        by_device.append({session.trial(row.trial).architecture.arch_id: share * row.high_ms for row in mine})
    if not by_device:
        return {}
    predicted = {
        trial.architecture.arch_id: trial.scores.latency_ms
        for stage in stages
        for trial in session.trials(stage)
        if trial.state is State.COMPLETE
    }
    # Whoever was killed between two devices measures on both again.
    on_all = [arch for arch in by_device[0] if arch in predicted and all(arch in each for each in by_device)]
    return {arch: max(each[arch] for each in by_device) / predicted[arch] for arch in on_all}


def _predicted_limit(way: Sequence[Trial], known: Mapping[str, float], target_ms: float) -> float:
    """What the walk's end may be predicted to take, by how far off the predictions of earlier ends were that missed."""
    ends = [(trial.scores.latency_ms, known.get(trial.architecture.arch_id)) for trial in way]
    missed = [target_ms / off for ms, off in ends if off is not None and off * ms > target_ms]
    return min([target_ms, *missed])


def _measure(session: Session, new: Sequence[Trial]) -> bool:
    """Measure networks whole before they are trained, and record that at the conditions of each table.

    Returns whether the devices could be asked.

    Raises:
        DeviceError: this machine, which is the only device, cannot measure.
    """
    networks = {name_of(trial): trial.architecture for trial in new}
    session.listener.begin(f"measuring {len(networks)} network{'s' * (len(networks) > 1)} before the final training", 1)
    try:
        measured = measure_on_devices(
            session, networks, FINALISTS, {}, lambda done, expected, _: session.listener.advance(done, expected)
        )
    except DeviceError as error:
        if all(isinstance(goal.meter, LocalMeter) for goal in session.goals):
            raise
        session.listener.note(f"no network is measured before the final training: {error}")
        return False
    finally:
        session.listener.end()
    for trial in new:
        ms, high = latency_of(session, measured, name_of(trial))
        session.listener.note(
            f"trial {trial.number}, predicted {trial.scores.latency_ms:.3f} ms, takes {ms:.3f} ms (95%: at most "
            f"{high:.3f})"
        )
    for goal, whole in measured:
        rows = []
        for trial in new:
            found = whole[name_of(trial)]
            raw = NetworkMeasurement.of(trial.number, goal.table.estimate(trial.architecture), found.measurement)
            row = replace(raw, measured_ms=found.ms, low_ms=found.low_ms, high_ms=found.high_ms)
            rows.append((row, found.measurement.warm_wall))
        session.store.trials.add_measurements(session.record.id, goal.table_id, rows)
    return True


def _walk(session: Session, seed: Trial, current: Trial, target_ms: float) -> Trial:
    """Narrow step by step until predictions meet a target, or there is no further step; returns the last one's end."""
    settings = session.config.netadapt
    if current.scores.latency_ms <= target_ms or not settings.max_steps:
        return current
    way = max(0.0, seed.scores.latency_ms - target_ms)
    session.listener.begin(f"NetAdapt, {way:.3f} ms to remove", way)
    session.listener.advance(min(way, seed.scores.latency_ms - current.scores.latency_ms))
    done = len(session.store.trials.steps(session.record.id))
    while current.scores.latency_ms > target_ms and done < settings.max_steps:
        done += 1
        # Constant as in MobileNetV3, or falling as in NetAdapt (Yang et al. 2018, section 4.1).
        delta_ms = settings.delta * seed.scores.latency_ms * settings.decay ** (done - 1)
        walked = seed.scores.latency_ms - current.scores.latency_ms
        if session.config.tells_proposals_apart:
            # The target is met from above, by as little as widths allow.
            delta_ms = min(delta_ms, current.scores.latency_ms - target_ms)
        following = _iterate(
            session,
            current,
            iteration=done,
            delta_ms=delta_ms,
            walked_ms=min(way, walked),
            target_ms=target_ms,
        )
        if following is None:
            break
        current = following
        session.listener.advance(min(way, seed.scores.latency_ms - current.scores.latency_ms))
    session.listener.end()
    return current


def _kits_lacking(session: Session) -> list[Goal]:
    """The devices that are reached by kit and lack blocks that a walk may need."""
    if all(goal.meter is not None for goal in session.goals):
        return []
    keys = keys_to_refine(session)
    return [goal for goal in session.goals if goal.meter is None and goal.table.missing(keys)]


def keys_to_refine(recorded: Session | RecordedSearch) -> tuple[BlockKey, ...]:
    """Every block that a walk from its first network can reach which leaves at least half of each width.

    Raises:
        RunError: no trial was completed yet.
    """
    return narrowed_keys(_recorded_seed(recorded).architecture)


def pause_before_refinement(session: Session) -> str:
    """Leave the search to whoever measures on its device, and say what is to be done.

    A coordinator leaves it alone until somebody resumes it.
    """
    name = session.record.name
    session.store.searches.request_stop(session.record.id)
    lacking = _kits_lacking(session)
    if not lacking:
        return f"search '{name}' stopped before NetAdapt; go on with: mobilenas resume {name}"
    device, missing = lacking[0].name, lacking[0].table.missing(keys_to_refine(session))
    return (
        f"search '{name}' stopped before NetAdapt, which needs {len(missing):,} more blocks measured on '{device}'; "
        f"run: mobilenas latency bundle --refine {name} --out refine.zip, run its measure.py there, then: "
        f"mobilenas latency import results.json --device {device}, and: mobilenas resume {name}"
    )


def _within_target(session: Session, walked: Trial, known: Mapping[str, float]) -> list[Trial]:
    """All that meets the final target and the limits, the most accurate first, each network once.

    All were judged on the same images, and those of the walk have seen more, so a block-level trial that is ahead of
    the walk's end is the better one; such a trial is also what is left where the walk could not reach the target. The
    walk's end comes first among equals, and before all that its last step has compared it with on more images.

    What was measured and misses the target is left out, and what is likely to, as far as predictions were off of
    others, comes last. Where nothing is left it is the fastest that was measured.
    """
    target_ms, limits = session.start.target_ms, limits_of(session)
    narrowed = [trial for trial in session.trials(SearchStage.NETADAPT) if trial.state is State.COMPLETE]
    trials = [walked, *narrowed, *competing(session)]
    candidates: dict[str, Trial] = {}
    top1 = _top1(walked)

    def accuracy(trial: Trial) -> float:
        was_compared = session.config.tells_proposals_apart and trial.stage is SearchStage.NETADAPT
        return min(_top1(trial), top1) if was_compared else _top1(trial)

    for trial in sorted(trials, key=lambda trial: -accuracy(trial)):
        if trial.scores.latency_ms <= target_ms and limits.refusal(trial.scores) is None:
            candidates.setdefault(trial.architecture.arch_id, trial)
    if not candidates:
        ended = "NetAdapt is switched off (netadapt.max_steps is 0)"
        if session.config.netadapt.max_steps > 0:
            why = "nothing left to narrow, or netadapt.max_steps reached"
            ended = f"NetAdapt ended at {walked.scores.latency_ms:.3f} ms ({why})"
        raise RunError(
            f"{ended}, and no trial meets the target of {target_ms:.3f} ms and the limits; see what was found: "
            f"mobilenas report {session.record.name}, and search again with a higher target or a smaller width"
        )
    takes = {name: known[name] * trial.scores.latency_ms for name, trial in candidates.items() if name in known}
    left = {name: trial for name, trial in candidates.items() if takes.get(name, 0.0) <= target_ms}
    if not left:
        session.listener.note(f"none of {len(takes)} networks meets the target as measured; the fastest is taken")
        return [candidates[min(takes, key=lambda name: takes[name])]]
    off = statistics.median(known.values()) if known else 1.0
    unlikely = {
        name
        for name, trial in left.items()
        if name not in known and trial is not walked and off * trial.scores.latency_ms > target_ms
    }
    return [*(left[name] for name in left if name not in unlikely), *(left[name] for name in left if name in unlikely)]


def _tell_taken(session: Session, best: Trial, walked: Trial) -> None:
    """Say where it is not the walk's end that is the best."""
    judged = session.config.judge.of_stage(SearchStage.BLOCKS)
    if best is not walked and best.stage is SearchStage.BLOCKS and walked.stage is SearchStage.NETADAPT:
        session.listener.note(
            f"trial {best.number} of the block-level search is taken: top-1 {_top1(best):.2%} ({judged}) in "
            f"{best.scores.latency_ms:.3f} ms, where NetAdapt ended with {_top1(walked):.2%} in "
            f"{walked.scores.latency_ms:.3f} ms"
        )


def _recorded_seed(session: Session | RecordedSearch) -> Trial:
    """The trial that the walk started from, chosen anew only where no walk has begun."""
    walked = session.trials(SearchStage.NETADAPT)
    return choose_seed(session) if not walked else session.trial(_parent(walked[0]))


def _parent(trial: Trial) -> int:
    assert trial.parent is not None
    return trial.parent


def _iterate(
    session: Session, current: Trial, *, iteration: int, delta_ms: float, walked_ms: float, target_ms: float
) -> Trial | None:
    """One accepted step, or None where nothing can be narrowed any more."""
    _measure_narrowings(session, current, iteration)
    found = _proposals(session, current, delta_ms)
    if not found:
        return None
    # A step saves at least delta, so that much of the bar belongs to this iteration's trials.
    best = Step(
        session=session,
        current=current,
        iteration=iteration,
        target_ms=target_ms,
        advance=lambda share: session.listener.advance(walked_ms + share * delta_ms),
    ).take(found)
    # In its first round every proposal is judged once.
    judged = [
        trial
        for trial in of_iteration(session, iteration)
        if trial.state is State.COMPLETE and trial.origin != Origin.UNCHANGED and trial.sampler_attrs is None
    ]
    step = NetAdaptStep(
        iteration=iteration,
        trial=best.number,
        parent=current.number,
        narrowed=best.origin,
        latency_before_ms=current.scores.latency_ms,
        latency_after_ms=best.scores.latency_ms,
        top1_before=_top1(current),
        top1_after=_top1(best),
        proposals=len(judged),
    )
    session.store.trials.add_step(session.record.id, step)
    session.listener.step(step)
    return best


def _proposals(session: Session, current: Trial, delta_ms: float) -> tuple[Proposal, ...]:
    """What saves at least delta; where nothing does, what saves half of it, and so on down to a sixteenth.

    In a small network no single layer may be worth a whole delta any more; smaller steps still lead to the target.
    """

    def latency(arch: Architecture) -> float:
        # A kit held widths down to half of the first network's; what is narrower saves nothing that anyone knows of.
        return math.inf if session.latency.missing(keys_of(arch)) else session.latency.estimate(arch)

    for halvings in range(5):
        found = proposals(current.architecture, latency, delta_ms=delta_ms / 2**halvings)
        if found:
            if halvings:
                session.listener.note(
                    f"narrowing one layer saves less than {delta_ms:.4f} ms; taking steps of 1/{2**halvings} of that"
                )
            return found
    return ()


def _top1(trial: Trial) -> float:
    assert trial.scores.top1 is not None
    return trial.scores.top1


def _measure_narrowings(session: Session, current: Trial, iteration: int) -> None:
    """Measure, on the devices, every block that a proposal of this iteration may be made of; kits held them all."""
    reached = [goal for goal in session.goals if goal.meter is not None]
    if not reached:
        return
    reachable = {
        key
        for place in narrowings(current.architecture)
        for proposal in place
        for key in keys_of(proposal.architecture)
    }
    session.measure(reachable, f"NetAdapt step {iteration}", reason="netadapt", on=reached)
