"""The end of a search: the best networks and the reference trained alike, one of them chosen, tested and exported."""

import hashlib

from search.chronicle import CANDIDATE, FOUND, REFERENCE, Chronicle, final_trial
from search.evaluate import read_weights
from search.export import export_metadata, export_network
from search.job import Evaluation, OwnEvaluation
from search.record import ExportRecord
from search.session import START, Session
from search.trial import Stage, State, Trial
from space.arch import Architecture
from space.errors import RunError
from space.formats import FILE_NAMES, write_spec

SPEC = FILE_NAMES["spec"]


def train_finals(session: Session, best: list[Trial]) -> None:
    """Train the best networks and the reference with the same recipe; the one that is chosen meets the test split.

    Of several the reward split chooses, so that the test split stays a test: only the chosen one and the reference,
    which is no choice, are looked at there, once.

    Raises:
        Interrupted: it was stopped.
        RunError: all trainings of the found networks, or those of the reference, failed.
    """
    finalists = best[: session.config.final.top_k]
    origin = FOUND if len(finalists) == 1 else CANDIDATE
    networks = [(origin, trial.architecture, trial) for trial in finalists]
    _train(session, [*networks, (REFERENCE, *_reference(session))])
    if origin == CANDIDATE:
        _test_chosen(session)
    for name in (FOUND, REFERENCE):
        if final_trial(session.trials(Stage.FINAL), name) is None:
            failed = [trial for trial in session.trials(Stage.FINAL) if trial.state is State.FAILED]
            raise RunError(f"the final training of the {name} network failed: {failed[-1].error}")


def _reference(session: Session) -> tuple[Architecture, Trial | None]:
    """What everything is compared with, and the trial that trained it before."""
    for origin in (START, REFERENCE):
        if trials := [
            trial for trial in session.trials_of_origin(Stage.BLOCKS, origin) if trial.state is State.COMPLETE
        ]:
            return trials[-1].architecture, trials[-1]
    return session.space.reference, None


def _train(session: Session, networks: list[tuple[str, Architecture, Trial | None]]) -> None:
    """Train final networks, those that are not recorded yet: (origin, network, the trial that found it)."""
    final = session.config.final
    inherits = final.weights == "inherited"
    rate = session.config.netadapt.learning_rate_factor if inherits else 1.0
    recipe = session.config.training.recipe(final.images, rate=rate)
    recorded = {
        (trial.origin, trial.architecture) for trial in session.trials(Stage.FINAL) if trial.state is not State.FAILED
    }
    waiting = [each for each in networks if each[:2] not in recorded]
    session.listener.begin("final training", len(networks))

    def ask() -> Trial | None:
        if not waiting:
            return None
        origin, arch, source = waiting.pop(0)
        # Who was trained nowhere before has nothing to inherit, whatever was asked for.
        parent = source if inherits and source is not None and source.weights is not None else None
        return session.new_trial(Stage.FINAL, arch, origin=origin, parent=parent)

    def evaluation_of(trial: Trial) -> Evaluation | OwnEvaluation:
        key = None if trial.parent is None else session.trial(trial.parent).evaluation_key
        return session.evaluation(trial.architecture, recipe, train_images=None, parent_key=key, is_final=True)

    def done() -> int:
        return session.count(Stage.FINAL, State.COMPLETE)

    session.run(Stage.FINAL, ask, evaluation_of, advanced=lambda running: session.listener.advance(done() + running))
    session.listener.end()


def _test_chosen(session: Session) -> None:
    """Let the reward split choose among the candidates, and test the chosen one's weights as they are."""
    trained = [trial for trial in session.trials_of_origin(Stage.FINAL, CANDIDATE) if trial.state is State.COMPLETE]
    if not trained or final_trial(session.trials(Stage.FINAL), FOUND) is not None:
        return
    chosen = max(trained, key=lambda trial: trial.scores.top1 or 0.0)
    session.listener.note(
        f"of {len(trained)} trained networks trial {chosen.number} is chosen: top-1 {chosen.scores.top1:.2%} on the "
        f"reward split's {session.reward_total:,} images"
    )
    waiting = [] if session.count_of_origin(Stage.FINAL, FOUND) else [chosen]

    def ask() -> Trial | None:
        if not waiting:
            return None
        return session.new_trial(Stage.FINAL, chosen.architecture, origin=FOUND, parent=waiting.pop())

    def evaluation_of(trial: Trial) -> Evaluation | OwnEvaluation:
        key = chosen.evaluation_key
        return session.evaluation(trial.architecture, None, train_images=None, parent_key=key, is_final=True)

    session.run(Stage.FINAL, ask, evaluation_of)


def export_found(session: Session) -> ExportRecord:
    """Write the found network's files into the run folder and record them."""
    chronicle = Chronicle.read(session.store, session.record.name)
    found, _ = chronicle.both()
    assert session.dataset is not None
    files = export_network(
        session.begun.run_folder,
        found.architecture,
        read_weights(chronicle.weights_file(found)),
        session.dataset,
        export_metadata(session.record, found, chronicle.fingerprint),
    )
    return session.store.add_export(session.record.id, found.number, folder=session.begun.run_folder, files=files)


def export_spec(session: Session, best: Trial) -> ExportRecord:
    """Write the best network's spec, which is all there is where a user's own evaluator judged it without data."""
    folder = session.begun.run_folder
    text = write_spec(best.architecture, "spec")
    (folder / SPEC).write_text(text)
    files = {SPEC: hashlib.sha256(text.encode()).hexdigest()}
    return session.store.add_export(session.record.id, best.number, folder=folder, files=files)
