"""Opening a recorded search: everything that it was started with is looked up again, and compared."""

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from latency.device import Device
from latency.meter import Meter
from latency.table import LatencyTable
from search.config.load import RunConfig, parse_config
from search.events import Listener
from search.executors import executor_for
from search.lifecycle.reach import own_latency
from search.objective.latency import DeviceLatency, Goal
from search.plan import Inputs, check_supernet, look_up
from search.present import PresentModel
from search.record.heartbeat import Heartbeat
from search.record.rows import SearchRecord
from search.record.store import Store
from search.reports.recorded_search import RecordedSearch
from search.stages.session import Session
from search.tables import settings_for, workspace
from search.trial import SearchStage, Trial
from space.arch import Architecture
from space.choices import SearchSpace
from space.errors import DeviceError, RunError

# A user's functions may be slow: on resume they are asked again about so many of the first and of the last trials.
_ASKED_AGAIN = 4


def check_resumable(record: SearchRecord) -> None:
    """Refuse to go on with a search that waits for its device.

    Raises:
        RunError: it awaits certification.
    """
    if record.stage is SearchStage.AWAITING:
        raise RunError(
            f"search '{record.name}' awaits certification; complete it with: mobilenas certify {record.name}"
        )


def _check_unchanged(record: SearchRecord, inputs: Inputs) -> None:
    data_hash, now = record.require_start().data_hash, inputs.data.content
    if now != data_hash:
        what = inputs.data.name
        raise RunError(
            f"search '{record.name}' was started on data {data_hash}, but '{what}' is now {now}; restore it, or start "
            "a new search"
        )


def _check_initial_weights(record: SearchRecord, config: RunConfig) -> None:
    if config.init_hash is None:
        return
    path = record.require_start().files.start_weights
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise RunError(
            f"{path} cannot be read ({error.strerror}), and all networks begin with it; restore it"
        ) from error
    if digest != config.init_hash:
        raise RunError(f"{path} is not what search '{record.name}' began with ({config.init_hash}); restore it")


def as_recorded(space: SearchSpace, scopes: Collection[str], networks: Iterable[Architecture]) -> SearchSpace | None:
    """The space that a search was started in: as its preset is now, or as version 0.1 had it; None: it is neither.

    Told by the scopes of the search's latency tables; of a search without tables only its networks may tell.
    """
    before = replace(space, preset=space.preset.as_in_0_1())
    if scopes:
        return next((each for each in (space, before) if set(scopes) == {each.scope}), None)
    member = next((arch for arch in networks if arch in space or arch in before), None)
    return before if member is not None and member not in space else space


def _space_of(store: Store, record: SearchRecord, inputs: Inputs, goals: tuple[Goal, ...]) -> SearchSpace:
    networks = [] if goals else [trial.architecture for trial in store.trials.of(record.id)]
    found = as_recorded(inputs.space, [goal.table.scope for goal in goals], networks)
    if found is None:
        raise RunError(f"the search space of '{record.name}' has changed; restore its file or start a new search")
    return found


def _check_device(record: SearchRecord, table: LatencyTable, device: Device | None) -> None:
    if device is not None and table.device.fingerprint != device.fingerprint:
        raise RunError(
            f"search '{record.name}' was started on {table.device.processor} with ONNX Runtime "
            f"{table.device.runtime_version}, but this is {device.processor} with {device.runtime_version}; "
            "resume it there, or start a new search here"
        )


def _device_now(meter: Meter | None, record: SearchRecord) -> Device | None:
    """The device as it is, if it can be asked; in the end a search can do without."""
    try:
        return meter.device if meter else None
    except DeviceError:
        if record.stage is SearchStage.FINAL:
            return None
        raise


def _goals(store: Store, record: SearchRecord, inputs: Inputs) -> tuple[Goal, ...]:
    """The devices of a search as they are now."""
    goals = RecordedSearch(store, record).devices
    for goal in goals:
        goal.meter = settings_for(store, inputs.config.device.named(goal.name)).meter(workspace())
        _check_device(record, goal.table, _device_now(goal.meter, record))
    return goals


@contextmanager
def session(store: Store, name: str, listener: Listener, heartbeat: Heartbeat) -> Iterator[Session]:
    """The session of a claimed search that has begun, with its workers, which end with the context.

    Raises:
        RunError: device, data or space are not those that it was started with.
    """
    record = store.searches.get(name)
    config: RunConfig = parse_config(dict(record.config))
    record.require_start().run_folder.mkdir(parents=True, exist_ok=True)
    if config.supernet is not None:  # its own copy, whatever became of the one that it was given
        config = config.model_copy(update={"supernet": str(record.require_start().files.supernet)})
    if config.data.folds is None:  # it began when there was no choice
        config = config.judged_in(1)
    inputs = look_up(config)
    check_supernet(inputs)
    _check_unchanged(record, inputs)
    _check_initial_weights(record, config)
    if config.present.sha256 is not None:
        PresentModel.stored(record.require_start().files, config.present.sha256)
    goals = _goals(store, record, inputs)
    inputs = replace(inputs, space=_space_of(store, record, inputs, goals))
    executor = executor_for(inputs, listener)
    try:
        running = Session(
            store=store,
            record=record,
            config=config,
            space=inputs.space,
            data=inputs.data,
            goals=goals,
            latency=DeviceLatency(goals) if goals else own_latency(config),
            executor=executor,
            listener=listener,
            heartbeat=heartbeat,
        )
        _check_functions(running)
        yield running
    finally:
        executor.close()


def _check_functions(running: Session) -> None:
    """Refuse to go on where a user's latency or reward says something else than it said of recorded trials."""
    trials, rewards = running.trials(SearchStage.BLOCKS), running.store.trials.rewards(running.record.id)
    checked = [*trials[:_ASKED_AGAIN], *trials[_ASKED_AGAIN:][-_ASKED_AGAIN:]]
    found: list[tuple[str, Trial, float, float | None]] = []
    if running.config.latency is not None:
        found += [
            (
                f"latency {running.config.latency}",
                trial,
                trial.scores.latency_ms,
                running.latency.estimate(trial.architecture),
            )
            for trial in checked
        ]
    if ":" in running.config.blocks.reward.kind:
        found += [
            (f"reward {running.config.blocks.reward.kind}", trial, rewards[trial.number], running.reward_of(trial))
            for trial in checked
            if trial.number in rewards
        ]
    for what, trial, said, now in found:
        if now is None or not math.isclose(said, now, rel_tol=1e-9):
            raise RunError(
                f"{what} has changed: it gives {now} for trial {trial.number}, where {said} is recorded; restore it, "
                "or start a new search"
            )
