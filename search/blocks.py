"""The block-level search: the reference first, then what was enqueued, then what the sampler proposes."""

from typing import TYPE_CHECKING

from search.chronicle import Chronicle
from search.evaluate import Evaluation, scores_of
from search.session import HOPELESS, Session
from search.trial import Stage, State, Trial
from space.arch import Architecture
from space.choices import Params
from space.errors import RunError
from space.keys import keys_of

if TYPE_CHECKING:
    from search.samplers import Proposer

# Proposals refused in a row before the search gives up: the sampler then cannot find the feasible part of the space.
MAX_REFUSED = 2000


def evaluation_of(session: Session, trial: Trial) -> Evaluation:
    """A block-level trial's proxy task."""
    blocks = session.config.blocks
    recipe = session.config.training.recipe(blocks.images)
    return session.evaluation(trial.architecture, recipe, train_images=blocks.train_images)


def search_blocks(session: Session) -> None:
    """Run the block-level search to its end.

    Raises:
        Interrupted: it was stopped.
        RunError: nothing but failures, or no proposal within the latency limit.
    """
    from search.samplers import Proposer

    blocks = session.config.blocks
    proposer = Proposer(
        session.space, blocks.sampler, seed=session.config.seed, latency_limit_ms=latency_limit_ms(session)
    )
    proposer.restore(session.trials(Stage.BLOCKS), session.store.rewards(session.record.id))
    enqueued = blocks.networks(session.space)
    session.measure({key for arch in enqueued for key in keys_of(arch)}, "enqueued networks", reason="enqueued")
    session.listener.begin("block-level search", blocks.trials)

    def trained() -> int:
        return sum(trial.state is State.COMPLETE for trial in session.trials(Stage.BLOCKS))

    def ask() -> Trial | None:
        states = [trial.state for trial in session.trials(Stage.BLOCKS)]
        completed, failed = states.count(State.COMPLETE), states.count(State.FAILED)
        if completed + states.count(State.RUNNING) >= blocks.trials or failed >= max(blocks.trials, HOPELESS):
            return None
        if completed and session.store.finish_requested(session.record.id):
            return None
        if _reference_is_due(session):
            # Trained whatever its latency: everything else is compared with it.
            return session.new_trial(Stage.BLOCKS, session.space.reference, origin="reference")
        while (arch := _next_enqueued(session, enqueued)) is not None:
            trial = _admitted(session, arch, origin="enqueued")
            if trial.state is State.RUNNING:
                return trial
            session.listener.note(f"trial {trial.number} [enqueued] is not trained: {trial.error}")
            proposer.tell(trial, None)
        return _propose(session, proposer)

    session.run(
        Stage.BLOCKS,
        ask,
        lambda trial: evaluation_of(session, trial),
        finished=proposer.tell,
        advanced=lambda running: session.listener.advance(trained() + running),
    )
    session.listener.end()


def _reference_is_due(session: Session) -> bool:
    """At the start, and once more where it failed."""
    states = [trial.state for trial in session.trials(Stage.BLOCKS) if trial.origin == "reference"]
    return not states or states == [State.FAILED]


def _next_enqueued(session: Session, enqueued: tuple[Architecture, ...]) -> Architecture | None:
    """The first that was not tried yet; one that failed is tried once more."""
    tried = [(trial.architecture, trial.state) for trial in session.trials(Stage.BLOCKS) if trial.origin == "enqueued"]
    for arch in enqueued:
        states = [state for other, state in tried if other == arch]
        if not states or states == [State.FAILED]:
            return arch
    return None


def _admitted(session: Session, arch: Architecture, *, origin: str, params: Params | None = None) -> Trial:
    """A new trial: running, or pruned with the reason where the network is too slow or being trained already."""
    limit_ms = latency_limit_ms(session)
    latency_ms = scores_of(arch, session.table).latency_ms
    refusal = None
    if latency_ms > limit_ms:
        refusal = f"predicted {latency_ms:.3f} ms is over the limit of {limit_ms:.3f} ms"
    elif any(trial.architecture == arch and trial.state is State.RUNNING for trial in session.trials(Stage.BLOCKS)):
        refusal = "it is being trained already"
    state = State.RUNNING if refusal is None else State.PRUNED
    return session.new_trial(Stage.BLOCKS, arch, origin=origin, state=state, params=params, error=refusal)


def latency_limit_ms(session: Session | Chronicle) -> float:
    """Networks slower than this are recorded as pruned, never trained."""
    return session.begun.seed_target_ms * (1 + session.config.blocks.tolerance)


def _propose(session: Session, proposer: "Proposer") -> Trial | None:
    """The next trial to train, None where the search is stopping; proposals over budget are recorded as pruned."""
    for _ in range(MAX_REFUSED):
        if session.stopping:
            return None
        params = proposer.ask(session.next_number)
        arch = session.space.architecture(params)
        trial = _admitted(session, arch, origin=session.config.blocks.sampler, params=params)
        if trial.state is State.RUNNING:
            return trial
        proposer.tell(trial, None)
    limit_ms = latency_limit_ms(session)
    raise RunError(
        f"{MAX_REFUSED} proposals in a row were slower than {limit_ms:.3f} ms or being trained already; raise the "
        "target or widen the space"
    )


def choose_seed(session: Session | Chronicle) -> Trial:
    """The trial that NetAdapt starts from: highest reward among those that leave it a way to walk.

    That is, at least `netadapt.walk` above the final target and within the latency limit; where there is none, the
    highest reward of all. Ties go to the earlier trial.

    Raises:
        RunError: no trial was completed.
    """
    complete = [trial for trial in session.trials(Stage.BLOCKS) if trial.state is State.COMPLETE]
    if not complete:
        raise RunError(
            f"search '{session.record.name}' has no completed trial to refine; go on with: "
            f"mobilenas resume {session.record.name}"
        )
    least = session.begun.target_ms * (1 + session.config.netadapt.walk)
    most = latency_limit_ms(session)
    with_a_way = [trial for trial in complete if least <= trial.scores.latency_ms <= most]

    rewards = session.store.rewards(session.record.id)
    return max(with_a_way or complete, key=lambda trial: rewards[trial.number])
