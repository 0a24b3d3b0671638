"""Certification: found network, reference and baseline, as they are shipped, measured whole and interleaved."""

from pathlib import Path

from latency.kit import Campaign, NetworkGraph, make_kit
from latency.meter import Meter
from latency.results import Results, read_results
from search.objective.latency import Goal
from search.protocols import CERTIFICATE
from search.record.store import Store
from search.reports.markdown import write_report
from search.reports.recorded_search import RecordedSearch
from search.reports.summary import write_summary
from search.run_folder import CERTIFY_KIT
from search.stages.export import onnx_graph, upload_export
from search.stages.present import measured_in, others_of
from search.stages.race import kits
from search.stages.race.verdict import Verdict, awaiting_finalists
from search.stages.session import Session
from search.tables import settings_for, workspace
from search.trial import NetworkMeasurement, SearchStage
from space.errors import DeviceError, InvalidResults, RunError
from trainer.training.weight_files import read_weights


def campaign_for_certification(recorded: RecordedSearch) -> Campaign:
    """What certifies a search: its final networks with their trained weights, interleaved.

    Raises:
        RunError: the search has not trained them yet.
    """
    return Campaign(
        networks={
            trial.origin: NetworkGraph(
                architecture=trial.architecture,
                graph=onnx_graph(trial.architecture, read_weights(recorded.files.weights(trial))),
            )
            for trial in recorded.certified()
        },
        others=others_of(recorded),
        protocol=CERTIFICATE,
        purpose={"kind": "certify", "search": recorded.record.name},
    )


def certify_on_devices(session: Session) -> bool:
    """Measure the final networks on every device and record it beside the predictions, or write a kit that does.

    Returns whether the search is certified.
    """
    recorded = RecordedSearch.read(session.store, session.record.name)
    for goal, device in zip(session.goals, recorded.devices, strict=True):
        if recorded.measurements(device):
            continue
        if goal.meter is None and _certified_by_finalists(recorded, device):
            continue
        if goal.meter is None or not _measured(session, recorded, goal.meter, device):
            _await(session, recorded, device, is_kit=goal.meter is None)
    return recorded.is_certified


def _measured(session: Session, recorded: RecordedSearch, meter: Meter, device: Goal) -> bool:
    """Measure and record, unless a device that is far away cannot be asked now."""
    on = f" on '{device.name}'" if len(recorded.devices) > 1 else ""
    session.listener.begin(f"measuring the final networks{on}", 1)
    try:
        results = meter.run(
            campaign_for_certification(recorded),
            lambda done, expected, _what: session.listener.advance(done, expected),
        )
    except DeviceError as error:
        if settings_for(session.store, session.config.device.named(device.name)).is_local:
            raise
        session.listener.note(f"the device cannot be reached now: {error}")
        return False
    finally:
        session.listener.end()
    record_certificate(recorded, results)
    return True


def _await(session: Session, recorded: RecordedSearch, device: Goal, *, is_kit: bool) -> None:
    """Write the kit, and say what is to be done with it."""
    path, name = _write_kit(recorded, campaign_for_certification(recorded)), session.record.name
    session.listener.note(
        f"awaiting certification: unzip {path} on '{device.name}', {kits.run_there(device)}, then: "
        f"mobilenas certify {name} --import results.json"
        + ("" if is_kit else f"; or, once the device answers again: mobilenas certify {name}")
    )


def _write_kit(recorded: RecordedSearch, campaign: Campaign) -> Path:
    """One kit for all devices: both networks are the same everywhere."""
    path = recorded.files.certify_kit
    if not path.exists():
        make_kit(campaign).write_zip(path)
    return path


def record_certificate(recorded: RecordedSearch, results: Results) -> None:
    """Record what was measured on one of the devices, beside the predictions.

    Raises:
        InvalidResults: they are of other networks, or of another device than the search's tables.
    """
    record = recorded.record
    campaign = campaign_for_certification(recorded)
    if results.purpose != campaign.purpose or set(results.networks) != set(campaign.networks):
        raise InvalidResults(
            f"these results are not from the kit that certifies '{record.name}'; run the kit in its {CERTIFY_KIT}"
        )
    target = _device_of(recorded, results)
    expected = make_kit(campaign).networks()
    rows = []
    for trial in recorded.certified():
        network = results.networks[trial.origin]
        if network.sha256 != expected[trial.origin]["sha256"] or network.architecture != trial.architecture:
            raise InvalidResults(
                f"the {trial.origin} network in these results is not that of '{record.name}'; run the kit in its "
                f"{CERTIFY_KIT}"
            )
        predicted_ms = recorded.predicted_ms(trial, target)
        beside = NetworkMeasurement.of(trial.number, predicted_ms, network.measurement)
        rows.append((beside, network.measurement.warm_wall))
    recorded.store.trials.add_measurements(record.id, target.table_id, rows, present=measured_in(recorded, results))
    _keep_warnings(recorded, target, results)


def _keep_warnings(recorded: RecordedSearch, device: Goal, results: Results) -> None:
    """Log what speaks against a measurement."""
    on = f" on '{device.name}'" if len(recorded.devices) > 1 else ""
    for warning in results.warnings:
        _warn(recorded, f"the final networks were measured{on} although {warning}")
    for reason in results.refused.values():
        _warn(recorded, f"the present model cannot be run on '{device.name}': {reason}")


def _warn(recorded: RecordedSearch, message: str) -> None:
    recorded.store.searches.add_log_line(recorded.record.id, level="warning", event="note", message=message, trial=None)


def _device_of(recorded: RecordedSearch, results: Results) -> Goal:
    """The device that results are from, which must be as it was when its table was measured."""
    same = [each for each in recorded.devices if each.table.device.fingerprint == results.device.fingerprint]
    named = [each for each in same if each.name == results.device.name]
    # Two devices of one kind differ by their names alone; a single one is known by what it is.
    if found := named or (same if len(same) == 1 else []):
        return found[0]
    device = recorded.devices[0].table.device
    raise InvalidResults(
        f"the results are from {results.device.processor} with ONNX Runtime {results.device.runtime_version} and "
        f"{results.device.threads} thread(s), but the latency table of the search is from {device.processor} with "
        f"{device.runtime_version} and {device.threads}; measure there, with the same options"
    )


def certify(store: Store, name: str, results_text: str | None, *, again: bool = False) -> str:
    """Go on with a search that waits for its device, by the results of its kit or over ssh; return what is next.

    Before the final training the kit measures the finalists of a race, after it the final networks. Of several devices
    each is certified by its own results; the search is done when all are. Where no finalist meets the target, `again`
    makes a kit of the next ones.

    Raises:
        RunError: the search waits for no device, or the device is reached by kit alone.
        InvalidResults: the results are unfit; nothing is recorded.
        DeviceError: the device cannot be reached or cannot measure.
    """
    recorded = RecordedSearch.read(store, name)
    if (verdict := awaiting_finalists(recorded)) is not None:
        return _of_finalists(verdict, results_text, again=again)
    if recorded.record.stage is not SearchStage.AWAITING:
        raise RunError(f"search '{name}' is at stage {recorded.record.stage.value}, so there is nothing to certify yet")
    if again:
        raise RunError(
            f"the networks of '{name}' are trained already, so that there is no other one to measure; where one missed "
            "its target, search again with a lower one"
        )
    waiting = [device for device in recorded.devices if not recorded.measurements(device)]
    if results_text is not None:
        record_certificate(recorded, read_results(results_text, _name_of(results_text, waiting)))
    else:
        _certify_reached(recorded, waiting)
    if not recorded.is_certified:
        return ""
    reports = (write_report(recorded), write_summary(recorded))
    export = max(store.trials.exports(recorded.record.id), key=lambda each: each.created_at)
    upload_export(
        name,
        export,
        reports,
        lambda text: store.searches.add_log_line(recorded.record.id, level="info", event="note", message=text),
    )
    store.searches.set_stage(recorded.record.id, SearchStage.DONE)
    return ""


def _of_finalists(verdict: Verdict, results_text: str | None, *, again: bool) -> str:
    """Take what a device says of the finalists, or make a kit of the next ones, or say what was said."""
    recorded = verdict.recorded
    if again:
        return verdict.measure_others()
    if results_text is None:
        if verdict.waiting:
            raise RunError(verdict.in_words())
        return verdict.in_words()
    # Of several devices of one kind those that wait come first; one may be measured once more.
    devices = verdict.waiting or list(verdict.devices)
    results = read_results(results_text, _name_of(results_text, devices))
    device = _device_of(recorded, results)
    kits.take(recorded, device, results_text)
    for warning in results.warnings:
        message = f"the finalists were measured on '{device.name}' although {warning}"
        recorded.store.searches.add_log_line(
            recorded.record.id, level="info", event="note", message=message, trial=None
        )
    return Verdict(recorded, verdict.devices).in_words()


def _certified_by_finalists(recorded: RecordedSearch, device: Goal) -> bool:
    """Record what a kit of the finalists said of the final networks, if one held them all."""
    for results in kits.returned(recorded.files, device).values():
        measured = {network.architecture: network.measurement for network in results.networks.values()}
        trials = recorded.certified()
        if all(trial.architecture in measured for trial in trials):
            found = [(trial, measured[trial.architecture]) for trial in trials]
            rows = [
                (NetworkMeasurement.of(trial.number, recorded.predicted_ms(trial, device), each), each.warm_wall)
                for trial, each in found
            ]
            present = measured_in(recorded, results)
            recorded.store.trials.add_measurements(recorded.record.id, device.table_id, rows, present=present)
            _keep_warnings(recorded, device, results)
            return True
    return False


def _name_of(results_text: str, waiting: list[Goal]) -> str:
    """Results do not say what the user calls their device; of several that wait, the one with its fingerprint."""
    for device in waiting:
        if read_results(results_text, device.name).device.fingerprint == device.table.device.fingerprint:
            return device.name
    return waiting[0].name


def _certify_reached(recorded: RecordedSearch, waiting: list[Goal]) -> None:
    """Measure on every waiting device that can be reached from here."""
    carried = []
    for device in waiting:
        meter = settings_for(recorded.store, recorded.config.device.named(device.name)).meter(workspace())
        if meter is None:
            carried.append(device)
        else:
            record_certificate(recorded, meter.run(campaign_for_certification(recorded)))
    if carried:
        path = _write_kit(recorded, campaign_for_certification(recorded))
        raise RunError(
            f"device '{carried[0].name}' is reached by kit: unzip {path} there, {kits.run_there(carried[0])}, then: "
            f"mobilenas certify {recorded.record.name} --import results.json"
        )
