"""Kits that measure the finalists of a race whole on devices out of reach, before they are trained, and what they say.

Weights do not matter for latency, so what comes back certifies the network that is found, too. In the run folder lie
the manifest of the kit that was made last, the kit itself, which can be made again from it, and the results by device.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from latency.collect import anchors_of
from latency.kit import Campaign, make_kit, measure_options
from latency.probe import Protocol
from latency.results import Results, read_results
from latency.whole import Whole, whole_from
from search.config.load import RunConfig
from search.objective.latency import Goal
from search.protocols import CARRIED
from search.reports.recorded_search import RecordedSearch
from search.run_folder import RunFolder
from search.stages.present import others_of
from search.stages.session import Session
from space.arch import Architecture
from space.errors import InvalidResults
from space.keys import parse_key

KIND = "finalists"
"""What such a kit is for, as its results say."""
REFERENCE, SCALED = "reference", "width-"
"""What the reference is called in a kit, and what the names of its scaled ones begin with."""
_MOST = 1000
_FILE = re.compile(r"(.+)-([0-9]{1,3})\.json")


def make(
    search: Session | RecordedSearch,
    kits: Sequence[Goal],
    networks: Mapping[str, Architecture],
    reference: Architecture,
) -> None:
    """Make the next kit, of networks whose names are not `REFERENCE`; one serves all devices."""
    files = search.start.files
    absolute = [goal for goal in kits if not is_relative(search.config, goal)]
    campaign = Campaign(
        networks={**networks, REFERENCE: reference},
        others=others_of(search),
        beside=tuple(dict.fromkeys(key for goal in absolute for key in anchors_of(goal.table.entries))),
        protocol=CARRIED,
        purpose={"kind": KIND, "search": search.record.name, "number": number_of_last(files) + 1},
    )
    kit = make_kit(campaign)
    kit.write_zip(files.finalists_kit)
    files.finalists_manifest.write_text(kit.manifest, encoding="utf-8")


def make_again(search: Session | RecordedSearch) -> None:
    """Make the last kit once more where only its manifest is left."""
    files = search.start.files
    if files.finalists_kit.exists():
        return
    manifest = json.loads(files.finalists_manifest.read_text(encoding="utf-8"))
    entries: Mapping[str, Mapping[str, Any]] = manifest["networks"]
    campaign = Campaign(
        networks={
            name: Architecture.from_json(json.dumps(entry["architecture"]))
            for name, entry in entries.items()
            if "architecture" in entry
        },
        others=others_of(search),
        beside=tuple(parse_key(entry["key"]) for entry in entries.values() if "key" in entry),
        protocol=Protocol(**manifest["protocol"]),
        purpose=manifest["purpose"],
    )
    make_kit(campaign).write_zip(files.finalists_kit)


def number_of_last(files: RunFolder) -> int:
    """Of the kits of a search, the first of which is 0; -1 where there is none."""
    if not files.finalists_manifest.exists():
        return -1
    number = json.loads(files.finalists_manifest.read_text(encoding="utf-8"))["purpose"]["number"]
    if type(number) is not int or not 0 <= number < _MOST:
        raise InvalidResults(f"{files.finalists_manifest} is damaged; remove it, and resume the search")
    return number


def take(recorded: RecordedSearch, device: Goal, text: str) -> None:
    """Keep the results of the last kit from one of a search's devices, for whoever resumes it.

    Raises:
        InvalidResults: they are of another kit, or of none.
    """
    files = recorded.files
    read_results(text, device.name)
    if json.loads(text)["manifest"] != files.finalists_manifest.read_text(encoding="utf-8"):
        raise InvalidResults(
            f"these results are not from the kit of the finalists of '{recorded.record.name}'; run the kit "
            f"{files.finalists_kit}"
        )
    path = files.returned(device.name, number_of_last(files))
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def returned(files: RunFolder, device: Goal) -> dict[int, Results]:
    """What a device has said, by the number of the kit.

    What it said to another version, whose models differ, or as another device than that of its table, is as good as not
    said: a new kit is made.
    """
    found = {}
    for path in files.returned_folder.glob("*.json"):
        named = _FILE.fullmatch(path.name)
        if named is None or named[1] != device.name:
            continue
        try:
            results = read_results(path.read_text(encoding="utf-8"), device.name)
        except InvalidResults:
            continue
        if results.device.fingerprint == device.table.device.fingerprint:
            found[int(named[2])] = results
    return dict(sorted(found.items()))


def by_kit(files: RunFolder, devices: Sequence[Goal]) -> dict[int, list[Results]]:
    """The results of those kits that all devices have run, by number, in the order of the devices."""
    said = [returned(files, device) for device in devices]
    common = set.intersection(*map(set, said)) if said else set()
    return {number: [each[number] for each in said] for number in sorted(common)}


def waiting(files: RunFolder, devices: Sequence[Goal]) -> list[Goal]:
    """The devices that have yet to run the last kit."""
    last = number_of_last(files)
    return [device for device in devices if last not in returned(files, device)]


def what_to_do(search: Session | RecordedSearch, devices: Sequence[Goal]) -> str:
    """How the last kit is run on these devices, and its results are imported."""
    kit, name = search.start.files.finalists_kit, search.record.name
    return " and ".join(f"unzip {kit} on '{each.name}', {run_there(each)}" for each in devices) + (
        f", then: mobilenas certify {name} --import results.json"
    )


def run_there(device: Goal) -> str:
    """How a kit is run on a device as its table was measured."""
    return f"run its measure.py{measure_options(device.table.device.runtime, device.table.device.processor)} there"


def whole_of(config: RunConfig, device: Goal, results: Results) -> dict[str, Whole]:
    """By name what a device's results say, at the conditions of its table."""
    reference = reference_of(results) if is_relative(config, device) else None
    return whole_from(device.table, results, reference)


def is_relative(config: RunConfig, device: Goal) -> bool:
    """Whether a device's target is a share of the reference."""
    return config.devices[device.name].relative is not None


def scaled_of(results: Results) -> dict[str, Architecture]:
    """The scaled references that were measured, by name, the widest first."""
    names = [name for name in results.networks if name.startswith(SCALED)]
    # A manifest has its names in their own order.
    names.sort(key=lambda name: int(name.removeprefix(SCALED)), reverse=True)
    return {name: results.networks[name].architecture for name in names}


def reference_of(results: Results) -> Architecture:
    """The reference that was measured beside them."""
    return results.networks[REFERENCE].architecture
