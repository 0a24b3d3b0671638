"""The proof: found network and reference, as they are shipped, measured whole on the device, interleaved."""

import numpy as np

from latency.kit import Campaign, Exported, make_kit, measure_options
from latency.measurement import Measurement
from latency.probe import Protocol
from latency.results import Results, read_results
from search.chronicle import Chronicle
from search.evaluate import read_weights
from search.export import onnx_graph
from search.report import write_report
from search.session import Session
from search.store import Store
from search.tables import settings_for, workspace
from search.trial import NetworkMeasurement, Stage, Trial
from space.errors import DeviceError, InvalidResults, RunError

# Two networks cost little, and their figures are what the user is told.
PROTOCOL = Protocol(rounds=60, most_rounds=120, warm=8, precision=0.01)
KIT = "certify.zip"


def campaign_for_certification(told: Chronicle) -> Campaign:
    """What proves a search: both final networks with their trained weights, interleaved.

    Raises:
        RunError: the search has not trained them yet.
    """
    return Campaign(
        networks={
            trial.origin: Exported(
                architecture=trial.architecture,
                graph=onnx_graph(trial.architecture, read_weights(told.weights_file(trial))),
            )
            for trial in told.both()
        },
        protocol=PROTOCOL,
        purpose={"kind": "certify", "search": told.record.name},
    )


def certify_on_device(session: Session) -> bool:
    """Measure both networks and record it beside the predictions; where nobody can be asked, write a kit that does.

    Returns whether the search is certified.
    """
    if session.store.network_measurements(session.record.id):
        return True
    told = Chronicle.read(session.store, session.record.name)
    campaign = campaign_for_certification(told)
    if session.meter is not None:
        session.listener.begin("measuring both networks", 1)
        try:
            results = session.meter.run(
                campaign, lambda done, expected, _what: session.listener.advance(done, expected)
            )
        except DeviceError as error:
            session.listener.end()
            if _is_local(session):
                raise
            session.listener.note(f"the device cannot be asked now: {error}")
        else:
            session.listener.end()
            record_certificate(told, results)
            return True
    path = session.begun.run_folder / KIT
    options = measure_options(told.table.device.runtime, told.table.device.processor)
    make_kit(campaign).write_zip(path)
    name = session.record.name
    session.listener.note(
        f"awaiting certification: run measure.py{options} of {path} on '{session.table.device.name}', then: "
        f"mobilenas certify {name} --import results.json"
        + ("" if session.meter is None else f"; or, when the device answers again: mobilenas certify {name}")
    )
    return False


def _is_local(session: Session) -> bool:
    return settings_for(session.store, session.config.device).is_local


def record_certificate(told: Chronicle, results: Results) -> None:
    """Record what was measured, beside the predictions.

    Raises:
        InvalidResults: they are of other networks, or of another device than the search's table.
    """
    record, device = told.record, told.table.device
    campaign = campaign_for_certification(told)
    if results.purpose != campaign.purpose or set(results.networks) != set(campaign.networks):
        raise InvalidResults(f"the results are not those of the kit that certifies '{record.name}'; run its {KIT}")
    if results.device.fingerprint != device.fingerprint:
        raise InvalidResults(
            f"the results are from {results.device.processor} with ONNX Runtime {results.device.runtime_version} and "
            f"{results.device.threads} thread(s), the search's table is from {device.processor} with "
            f"{device.runtime_version} and {device.threads}: measure there, with the same options"
        )
    expected = make_kit(campaign).networks()
    rows = []
    for trial in told.both():
        network = results.networks[trial.origin]
        if network.sha256 != expected[trial.origin]["sha256"] or network.architecture != trial.architecture:
            raise InvalidResults(
                f"the {trial.origin} network that was measured is not that of '{record.name}'; run its {KIT}"
            )
        rows.append((_beside_prediction(trial, network.measurement), network.measurement.warm_wall))
    told.store.add_network_measurements(record.id, told.begun.table_id, rows)
    for warning in results.warnings:
        message = f"the final networks were measured although {warning}"
        told.store.add_log_line(record.id, level="warning", event="note", message=message, trial=None)


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


def certify(store: Store, name: str, results_text: str | None) -> Chronicle:
    """Complete a search that awaits certification, by the results of its kit or over ssh.

    Raises:
        RunError: the search does not await certification, or its device is reached by kit alone.
        InvalidResults: the results are unfit; nothing is recorded.
        DeviceError: the device cannot be reached or cannot measure.
    """
    told = Chronicle.read(store, name)
    if told.record.stage is not Stage.AWAITING:
        raise RunError(f"search '{name}' is at stage {told.record.stage.value}; it does not await certification")
    settings = settings_for(store, told.config.device)
    if results_text is not None:
        results = read_results(results_text, settings.name)
    else:
        meter = settings.meter(workspace())
        if meter is None:
            path = told.begun.run_folder / KIT
            if not path.exists():
                make_kit(campaign_for_certification(told)).write_zip(path)
            raise RunError(
                f"device '{settings.name}' is reached by kit: run measure.py of {told.begun.run_folder / KIT} there, "
                f"then: mobilenas certify {name} --import results.json"
            )
        results = meter.run(campaign_for_certification(told))
    if not told.measurements():
        record_certificate(told, results)
    write_report(told)
    store.set_stage(told.record.id, Stage.DONE)
    return Chronicle.read(store, name)
