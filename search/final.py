"""The end of a search: the found network and the reference trained alike, measured side by side, exported."""

from pathlib import Path

import numpy as np

from latency.collect import measure_networks
from latency.measure import Protocol
from latency.measurement import Measurement
from search.evaluate import Evaluation, read_weights
from search.export import export_metadata, export_network, onnx_graph
from search.record import ExportRecord
from search.session import Session
from search.trial import NetworkMeasurement, Stage, State, Trial
from space.errors import RunError
from trainer.metrics import Difference, paired_difference

FOUND, REFERENCE = "found", "reference"
# Two networks cost little, and their figures are what the user is told.
PROTOCOL = Protocol(rounds=60, warm=8)


def final_trial(trials: list[Trial], origin: str) -> Trial | None:
    """The completed final trial of the found network or of the reference, if there is one."""
    return next((trial for trial in trials if trial.origin == origin and trial.state is State.COMPLETE), None)


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


def both(session: Session) -> tuple[Trial, Trial]:
    """The completed final trials: found, reference."""
    trials = session.trials(Stage.FINAL)
    found, reference = final_trial(trials, FOUND), final_trial(trials, REFERENCE)
    assert found is not None
    assert reference is not None
    return found, reference


def measure_both(session: Session) -> None:
    """Time both trained networks whole on the device, interleaved, and record it beside the predictions."""
    if session.store.network_measurements(session.record.id):
        return
    trials = both(session)
    graphs = [onnx_graph(trial.architecture, read_weights(weights_file(session, trial))) for trial in trials]
    session.listener.begin("measuring both networks", PROTOCOL.rounds)
    measured = measure_networks(graphs, session.table.device, PROTOCOL, session.listener.advance)
    session.listener.end()
    rows = [(_beside_prediction(trial, found), found.warm_wall) for trial, found in zip(trials, measured, strict=True)]
    session.store.add_network_measurements(session.record.id, session.table_id, rows)


def _beside_prediction(trial: Trial, found: Measurement) -> NetworkMeasurement:
    low, high = found.interval("warm", "wall")
    return NetworkMeasurement(
        trial=trial.number,
        predicted_ms=trial.scores.latency_ms,
        measured_ms=found.estimate("warm", "wall"),
        low_ms=low,
        high_ms=high,
        median_ms=float(np.median(found.warm_wall)),
        samples=len(found.warm_wall),
    )


def weights_file(session: Session, trial: Trial) -> Path:
    """Where a completed trial's weights are."""
    assert trial.weights is not None
    return session.begun.run_folder / trial.weights


def difference(session: Session) -> Difference:
    """Top-1 on the test split, found minus reference, on the same images."""
    found, reference = (np.load(session.right_file(trial), allow_pickle=False) for trial in both(session))
    return paired_difference(found, reference)


def export_found(session: Session) -> ExportRecord:
    """Write the found network's files into the run folder and record them."""
    found, _ = both(session)
    files = export_network(
        session.begun.run_folder,
        found.architecture,
        read_weights(weights_file(session, found)),
        session.dataset,
        export_metadata(session.record, found, session.table.device.fingerprint),
    )
    return session.store.add_export(session.record.id, found.number, folder=session.begun.run_folder, files=files)
