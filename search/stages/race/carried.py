"""Whole networks that a kit measures on devices out of reach: the finalists of a race, before they are trained.

Weights do not matter for latency, so what comes back certifies the network that is found, too.
"""

import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from latency.collect import anchors_of
from latency.kit import Campaign, make_kit, measure_options
from latency.probe import MANIFEST
from latency.results import Results, read_results
from latency.whole import Whole, whole_from
from search.config.load import RunConfig
from search.objective.latency import Goal
from search.protocols import CARRIED
from search.record.recorded_search import RecordedSearch
from search.run_folder import FINALISTS_KIT, RunFolder
from search.stages.session import Session
from search.trial import NetworkMeasurement, Trial
from space.arch import Architecture
from space.errors import InvalidResults

KIND = "finalists"
"""What the kit of finalists is for, as its results say."""
_REFERENCE = "reference"


def write_kit(
    search: Session | RecordedSearch,
    kits: Sequence[Goal],
    networks: Mapping[str, Architecture],
    reference: Architecture,
) -> str:
    """Write the kit that measures networks, whose names must not be "reference", and return what is to be done with it.

    One kit serves all devices: each is told apart by its results.
    """
    files, name = search.start.files, search.record.name
    absolute = [goal for goal in kits if not _is_relative(search.config, goal)]
    campaign = Campaign(
        networks={**networks, _REFERENCE: reference},
        beside=tuple(dict.fromkeys(key for goal in absolute for key in anchors_of(goal.table.entries))),
        protocol=CARRIED,
        purpose={"kind": KIND, "search": name, "batch": len(_batches(files))},
    )
    make_kit(campaign).write_zip(files.finalists_kit)
    return what_to_do(search, kits)


def what_to_do(search: Session | RecordedSearch, kits: Sequence[Goal]) -> str:
    """How the kit is measured and its results are imported."""
    files, waiting = search.start.files, [goal for goal in kits if not _has_measured(search.start.files, goal)]
    asked = []
    for goal in waiting:
        options = measure_options(goal.table.device.runtime, goal.table.device.processor)
        asked.append(f"unzip {files.finalists_kit} on '{goal.name}', run measure.py{options} there")
    return f"{', '.join(asked)}, then: mobilenas certify {search.record.name} --import results.json"


def _has_measured(files: RunFolder, goal: Goal) -> bool:
    """Whether a device has sent the results of the kit that was written last."""
    return files.finalists_kit.exists() and files.finalists(goal.table_id, _batch(files)).exists()


def is_waiting(files: RunFolder, goals: Iterable[Goal]) -> bool:
    """Whether a kit of finalists was written that one of these devices, all reached by kit, has yet to run."""
    return files.finalists_kit.exists() and not all(_has_measured(files, goal) for goal in goals)


def _manifest(files: RunFolder) -> str:
    """That of the kit that was written last."""
    with zipfile.ZipFile(files.finalists_kit) as archive:
        return archive.read(f"{Path(FINALISTS_KIT).stem}/{MANIFEST}").decode()


def _batch(files: RunFolder) -> int:
    batch: int = json.loads(_manifest(files))["purpose"]["batch"]
    return batch


def take(recorded: RecordedSearch, goal: Goal, text: str) -> Results:
    """Keep the results of a kit from one of a search's devices, which whoever resumes it reads.

    Raises:
        InvalidResults: they are not of the kit that the search has written last.
    """
    files, results = recorded.files, read_results(text, goal.name)
    if not files.finalists_kit.exists() or json.loads(text)["manifest"] != _manifest(files):
        raise InvalidResults(
            f"these results are not from the kit of the finalists of '{recorded.record.name}'; run the kit "
            f"{files.finalists_kit}"
        )
    path = files.finalists(goal.table_id, _batch(files))
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    return results


def _batches(files: RunFolder) -> list[int]:
    """The kits that any device has measured."""
    return sorted({int(path.stem.rpartition("-")[2]) for path in files.returned_folder.glob("*.json")})


def returned(files: RunFolder, goal: Goal) -> list[Results]:
    """What a device has sent of the search's finalists, kit by kit."""
    paths = [files.finalists(goal.table_id, batch) for batch in _batches(files)]
    return [read_results(path.read_text(encoding="utf-8"), goal.name) for path in paths if path.exists()]


def whole_of(config: RunConfig, goal: Goal, results: Results) -> dict[str, Whole]:
    """By name what a device's results say, at the conditions of its table."""
    reference = results.networks[_REFERENCE].architecture if _is_relative(config, goal) else None
    return whole_from(goal.table, results, reference)


def _is_relative(config: RunConfig, goal: Goal) -> bool:
    return config.devices[goal.name].relative is not None


def wholes(search: Session | RecordedSearch, goal: Goal, names: Iterable[str]) -> dict[str, Whole]:
    """Of these networks, by name, what one kit says that a device has measured."""
    wanted = set(names)
    results = next(each for each in returned(search.start.files, goal) if wanted <= set(each.networks))
    return {name: whole for name, whole in whole_of(search.config, goal, results).items() if name in wanted}


def certificate(recorded: RecordedSearch, goal: Goal) -> list[tuple[NetworkMeasurement, tuple[float, ...]]]:
    """The final networks' measurements, by one kit of the finalists that holds them all; none where none does."""
    for results in returned(recorded.files, goal):
        measured = {network.architecture: network.measurement for network in results.networks.values()}
        trials: Sequence[Trial] = recorded.certified()
        if all(trial.architecture in measured for trial in trials):
            found = [(trial, measured[trial.architecture]) for trial in trials]
            return [
                (NetworkMeasurement.of(trial.number, recorded.predicted_ms(trial, goal), each), each.warm_wall)
                for trial, each in found
            ]
    return []


def reference_of(results: Results) -> Architecture:
    """The reference that a kit of finalists held."""
    return results.networks[_REFERENCE].architecture
