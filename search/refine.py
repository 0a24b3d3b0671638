"""The layer-wise refinement: NetAdapt's walk from the block-level winner to the final target."""

import math
from collections.abc import Callable

from search import netadapt
from search.blocks import choose_seed
from search.chronicle import Chronicle
from search.evaluate import Evaluation
from search.netadapt import Judged
from search.session import Interrupted, Session
from search.trial import NetAdaptStep, Stage, State, Trial
from space.arch import Architecture
from space.errors import RunError
from space.keys import BlockKey, keys_of
from space.narrowing import Proposal, narrowed_keys, narrowings


def refine(session: Session) -> Trial:
    """Walk until the final target is met, and return the best trial that meets it.

    Each iteration: propose, measure the blocks that the table lacks, fine-tune every proposal shortly, keep the one
    that loses least top-1 per ms saved. The record holds enough to go on in the middle of an iteration.

    Raises:
        Interrupted: it was stopped.
        RunError: nothing can be narrowed any more, and no block-level trial meets the target either.
    """
    current = seed = _recorded_seed(session)
    delta_ms = session.config.netadapt.delta * seed.scores.latency_ms
    target_ms = session.begun.target_ms
    walks = seed.scores.latency_ms > target_ms
    if walks and session.meter is None and session.table.missing(keys_to_refine(session)):
        raise Interrupted(pause_before_refinement(session))
    for step in session.store.steps(session.record.id):
        current = session.trial(step.trial)
    way = max(0.0, seed.scores.latency_ms - target_ms)
    session.listener.begin("NetAdapt (ms to walk)", way)
    session.listener.advance(min(way, seed.scores.latency_ms - current.scores.latency_ms))
    done = len(session.store.steps(session.record.id))
    while current.scores.latency_ms > target_ms and done < session.config.netadapt.max_steps:
        done += 1
        walked = seed.scores.latency_ms - current.scores.latency_ms
        following = _iterate(session, current, iteration=done, delta_ms=delta_ms, walked_ms=min(way, walked))
        if following is None:
            break
        current = following
        session.listener.advance(min(way, seed.scores.latency_ms - current.scores.latency_ms))
    session.listener.end()
    return _best_within_target(session, current)


def keys_to_refine(told: Session | Chronicle) -> tuple[BlockKey, ...]:
    """Every block that a walk from its first network can reach which leaves at least half of each width.

    Raises:
        RunError: no trial was completed yet.
    """
    return narrowed_keys(_recorded_seed(told).architecture)


def pause_before_refinement(session: Session) -> str:
    """Leave the search to whoever measures on its device, and say what is to be done.

    A coordinator leaves it alone until somebody resumes it.
    """
    name, device = session.record.name, session.table.device.name
    session.store.request_stop(session.record.id)
    missing = session.table.missing(keys_to_refine(session))
    if session.meter is not None or not missing:
        return f"search '{name}' stopped before its refinement; go on with: mobilenas resume {name}"
    return (
        f"search '{name}' stopped before its refinement, which needs {len(missing):,} blocks measured on '{device}'; "
        f"run: mobilenas latency bundle --refine {name} --out refine.zip, run measure.py there, then: "
        f"mobilenas latency import results.json --device {device}, and: mobilenas resume {name}"
    )


def _best_within_target(session: Session, walked: Trial) -> Trial:
    """The end of the walk, unless a block-level trial that meets the final target is more accurate.

    Both were judged on the same images, and the walk's network has seen more, so such a trial is the better one; it
    is also what is left where the walk could not reach the target.
    """
    target_ms = session.begun.target_ms
    trials = [trial for trial in session.trials(Stage.BLOCKS) if trial.state is State.COMPLETE]
    candidates = [trial for trial in (walked, *trials) if trial.scores.latency_ms <= target_ms]
    if not candidates:
        raise RunError(
            f"NetAdapt ended at {walked.scores.latency_ms:.3f} ms (nothing left to narrow, or netadapt.max_steps), and "
            f"no trial meets the target of {target_ms:.3f} ms; search again with a larger target or a smaller width"
        )
    best = max(candidates, key=lambda trial: _judged(trial).top1)  # the walk's end comes first, so it wins ties
    if best is not walked:
        session.listener.note(
            f"trial {best.number} of the block-level search is taken: top-1 {_judged(best).top1:.2%} with "
            f"{best.scores.latency_ms:.3f} ms, the walk ended with {_judged(walked).top1:.2%} and "
            f"{walked.scores.latency_ms:.3f} ms"
        )
    return best


def _recorded_seed(session: Session | Chronicle) -> Trial:
    """The trial that the walk started from, chosen anew only where no walk has begun."""
    begun = session.trials(Stage.NETADAPT)
    return choose_seed(session) if not begun else session.trial(_parent(begun[0]))


def _parent(trial: Trial) -> int:
    assert trial.parent is not None
    return trial.parent


def _iterate(session: Session, current: Trial, *, iteration: int, delta_ms: float, walked_ms: float) -> Trial | None:
    """One accepted step, or None where nothing can be narrowed any more."""
    _measure_narrowings(session, current, iteration)
    found = _proposals(session, current, delta_ms)
    if not found:
        return None
    # A step saves at least delta, so that much of the bar belongs to this iteration's trials.
    _evaluate(session, current, iteration, found, lambda share: session.listener.advance(walked_ms + share * delta_ms))
    judged = [trial for trial in of_iteration(session, iteration) if trial.state is State.COMPLETE]
    if not judged:
        raise RunError(f"all {len(found)} proposals of NetAdapt's iteration {iteration} failed; see: mobilenas trials")
    best = judged[netadapt.choose(_judged(current), [_judged(trial) for trial in judged])]
    step = NetAdaptStep(
        iteration=iteration,
        trial=best.number,
        parent=current.number,
        narrowed=best.origin,
        latency_before_ms=current.scores.latency_ms,
        latency_after_ms=best.scores.latency_ms,
        top1_before=_judged(current).top1,
        top1_after=_judged(best).top1,
        proposals=len(judged),
    )
    session.store.add_step(session.record.id, step)
    session.listener.step(step)
    return best


def _proposals(session: Session, current: Trial, delta_ms: float) -> tuple[Proposal, ...]:
    """What saves at least delta; where nothing does, what saves half of it, and so on down to a sixteenth.

    In a small network no single layer may be worth a whole delta any more; smaller steps still lead to the target.
    """

    def latency(arch: Architecture) -> float:
        # A kit held widths down to half of the first network's; what is narrower saves nothing that anyone knows of.
        return math.inf if session.table.missing(keys_of(arch)) else session.table.estimate(arch)

    for halvings in range(5):
        found = netadapt.proposals(current.architecture, latency, delta_ms=delta_ms / 2**halvings)
        if found:
            if halvings:
                session.listener.note(f"no layer can save {delta_ms:.4f} ms; taking steps of 1/{2**halvings} of that")
            return found
    return ()


def of_iteration(session: Session, iteration: int) -> list[Trial]:
    """The recorded proposals of one iteration."""
    return [trial for trial in session.trials(Stage.NETADAPT) if trial.iteration == iteration]


def _judged(trial: Trial) -> Judged:
    assert trial.scores.top1 is not None
    return Judged(top1=trial.scores.top1, latency_ms=trial.scores.latency_ms)


def _measure_narrowings(session: Session, current: Trial, iteration: int) -> None:
    """Measure, on the device, every block that a proposal of this iteration may be made of; a kit held them all."""
    if session.meter is None:
        return
    reachable = {
        key
        for place in narrowings(current.architecture)
        for proposal in place
        for key in keys_of(proposal.architecture)
    }
    session.measure(reachable, f"NetAdapt iteration {iteration}", reason="netadapt")


def _evaluate(
    session: Session, current: Trial, iteration: int, found: tuple[Proposal, ...], advance: Callable[[float], None]
) -> None:
    recorded = {trial.architecture for trial in of_iteration(session, iteration) if trial.state is not State.FAILED}
    waiting = [proposal for proposal in found if proposal.architecture not in recorded]

    def evaluation_of(trial: Trial) -> Evaluation:
        settings = session.config.netadapt
        recipe = session.config.training.recipe(settings.images, rate=settings.learning_rate_factor)
        return session.evaluation(trial.architecture, recipe, train_images=None, parent=current)

    def ask() -> Trial | None:
        if not waiting:
            return None
        proposal = waiting.pop(0)
        return session.new_trial(
            Stage.NETADAPT, proposal.architecture, origin=proposal.narrowed, iteration=iteration, parent=current
        )

    def advanced(running: float) -> None:
        ended = sum(trial.state is not State.RUNNING for trial in of_iteration(session, iteration))
        advance(min(1.0, (ended + running) / len(found)))

    session.run(Stage.NETADAPT, ask, evaluation_of, advanced=advanced)
