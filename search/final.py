"""The end of a search: the found network and the reference trained alike, the found one exported."""

from search.chronicle import FOUND, REFERENCE, Chronicle, final_trial
from search.evaluate import Evaluation, read_weights
from search.export import export_metadata, export_network
from search.record import ExportRecord
from search.session import Session
from search.trial import Stage, State, Trial
from space.errors import RunError


def train_both(session: Session, found: Trial) -> None:
    """Train the found network and the reference from scratch with the same recipe, then look at the test split once.

    Raises:
        Interrupted: it was stopped.
        RunError: one of the two trainings failed twice.
    """
    images = session.config.final.images
    networks = {FOUND: found.architecture, REFERENCE: session.space.reference}
    recorded = {trial.origin for trial in session.trials(Stage.FINAL) if trial.state is not State.FAILED}
    waiting = [origin for origin in networks if origin not in recorded]
    session.listener.begin("final training", len(networks))

    def ask() -> Trial | None:
        if not waiting:
            return None
        origin = waiting.pop(0)
        return session.new_trial(Stage.FINAL, networks[origin], origin=origin)

    def evaluation_of(trial: Trial) -> Evaluation:
        return session.evaluation(trial.architecture, session.config.training.recipe(images), train_images=None)

    def done() -> int:
        return sum(trial.state is State.COMPLETE for trial in session.trials(Stage.FINAL))

    session.run(Stage.FINAL, ask, evaluation_of, advanced=lambda running: session.listener.advance(done() + running))
    session.listener.end()
    for origin in networks:
        if final_trial(session.trials(Stage.FINAL), origin) is None:
            reason = next(trial.error for trial in reversed(session.trials(Stage.FINAL)) if trial.origin == origin)
            raise RunError(f"the final training of the {origin} network failed: {reason}")


def export_found(session: Session) -> ExportRecord:
    """Write the found network's files into the run folder and record them."""
    chronicle = Chronicle.read(session.store, session.record.name)
    found, _ = chronicle.both()
    files = export_network(
        session.begun.run_folder,
        found.architecture,
        read_weights(chronicle.weights_file(found)),
        session.dataset,
        export_metadata(session.record, found, session.table.device.fingerprint),
    )
    return session.store.add_export(session.record.id, found.number, folder=session.begun.run_folder, files=files)
