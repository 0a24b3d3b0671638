"""Building a latency table: what to measure for a space, the table from what was measured, and adding blocks later."""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from latency.calibration import FEWEST_NETWORKS, POOR, USELESS, calibrate
from latency.kit import Campaign, NetworkGraph
from latency.measurement import Cache, Clock, Measurement
from latency.meter import MeasuringProgress, Meter
from latency.probe import ROUNDS_PER_PASS, Protocol
from latency.results import Network, Results
from latency.table import LatencyTable
from space.arch import Architecture
from space.choices import SearchSpace
from space.errors import InvalidArchitecture, InvalidResults, InvalidSpace, InvalidTable
from space.keys import BlockKey, keys_of
from space.reference import REFERENCES

# Six coefficients are fitted; some seven networks each keep the fit from following the noise of single ones.
CALIBRATION_NETWORKS = 40
HOLD_OUT_NETWORKS = 30
ATTEMPTS = 3
MAX_ENQUEUED = 192
# Known blocks that are measured again beside new ones, or beside networks, to bring those to the table's conditions.
ANCHORS = 48
# Published networks that a kit measures as well, so that people see what they know.
SHOWN = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_large_minimalistic", "mobilenet_v3_small")

_KINDS: tuple[tuple[Cache, Clock], ...] = (("cold", "wall"), ("cold", "cpu"), ("warm", "wall"), ("warm", "cpu"))


def anchors_of(keys: Iterable[BlockKey]) -> tuple[BlockKey, ...]:
    """Some known blocks, always the same of the same keys, to compare the device's speed with that of earlier."""
    known = sorted(keys, key=str)
    return tuple(random.Random(0).sample(known, min(ANCHORS, len(known))))


def calibration_networks(space: SearchSpace, seed: int) -> tuple[Architecture, ...]:
    """The reference and members of a space, once each, to fit a calibration on."""
    rng = random.Random(seed)
    drawn = (space.sample(rng) for _ in range(CALIBRATION_NETWORKS - 1))
    return tuple(dict.fromkeys((space.reference, *drawn)))


def needed_keys(space: SearchSpace, networks: Sequence[Architecture]) -> tuple[BlockKey, ...]:
    """The blocks of a space, and those of networks that need not be members."""
    return tuple(dict.fromkeys((*space.reachable_keys(), *(key for arch in networks for key in keys_of(arch)))))


def campaign_for(
    space: SearchSpace,
    protocol: Protocol,
    known: Mapping[BlockKey, Measurement],
    *,
    enqueued: Sequence[Architecture] = (),
    for_kit: bool = False,
) -> Campaign:
    """What to measure for a table of `space`: the blocks that are not `known`, and networks to calibrate on.

    The blocks of `enqueued` networks, which need not be members, are measured as well.

    A kit's campaign has networks to hold out as well, and published ones: its device cannot be asked again at once.
    """
    keys = needed_keys(space, enqueued)
    missing = [key for key in keys if key not in known]
    anchors = anchors_of(key for key in keys if key in known) if missing else ()
    networks = calibration_networks(space, protocol.seed)
    if len(networks) < FEWEST_NETWORKS:
        raise InvalidTable(
            f"space '{space.preset.name}' has {space.size} networks; a table is calibrated on {FEWEST_NETWORKS} or more"
        )
    named: dict[str, Architecture | NetworkGraph] = {f"calibration-{n:02}": arch for n, arch in enumerate(networks)}
    if for_kit:
        held_out = random.Random(f"hold-out {protocol.seed}")
        drawn = (space.sample(held_out) for _ in range(4 * HOLD_OUT_NETWORKS))
        others = list(dict.fromkeys(arch for arch in drawn if arch not in networks))[:HOLD_OUT_NETWORKS]
        named |= {f"holdout-{n:02}": arch for n, arch in enumerate(others)}
        named |= {f"reference-{name}": _at_sizes_of(space, name) for name in SHOWN}
    return Campaign(
        blocks=(*missing, *anchors),
        networks=named,
        beside=anchors_of(keys),
        protocol=protocol,
        purpose={
            "kind": "collect",
            "space": space.to_plain(),
            "enqueued": [json.loads(arch.to_json()) for arch in enqueued],
            "anew": not any(key in known for key in keys),
        },
    )


def _at_sizes_of(space: SearchSpace, name: str) -> Architecture:
    small = space.resolution <= 64 and f"{name}_32px" in REFERENCES
    return REFERENCES[f"{name}_32px" if small else name](
        resolution=space.resolution, in_channels=space.in_channels, num_classes=space.num_classes
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """A table, and what was measured for it: `conditions` is plain JSON, `held_out` whole networks that no fit saw."""

    table: LatencyTable
    measured: int
    conditions: Mapping[str, Any]
    unsettled: tuple[str, ...]
    warnings: tuple[str, ...]
    held_out: Mapping[str, Network]
    beside: Mapping[BlockKey, Measurement]


def ratios(table: LatencyTable, again: Mapping[BlockKey, Measurement]) -> dict[tuple[Cache, Clock], float]:
    """How many times as long known blocks take now, per cache state and clock: medians; 1 where none is known."""
    known = [key for key in again if key in table.entries]
    return {
        kind: float(np.median([again[key].estimate(*kind) / table.entries[key].estimate(*kind) for key in known]))
        if known
        else 1.0
        for kind in _KINDS
    }


def at_table_conditions(found: Measurement, now: Mapping[tuple[Cache, Clock], float]) -> Measurement:
    """A measurement as it would have been when the table was made; `now` is what `ratios` found."""

    def scaled(cache: Cache, clock: Clock) -> tuple[float, ...]:
        return tuple(ms / now[cache, clock] for ms in found.samples(cache, clock))

    return Measurement(
        cold_wall=scaled("cold", "wall"),
        cold_cpu=scaled("cold", "cpu"),
        warm_wall=scaled("warm", "wall"),
        warm_cpu=scaled("warm", "cpu"),
        disturbed=found.disturbed,
    )


def _calibrated(
    table: LatencyTable, whole: Mapping[Architecture, Measurement], beside: Mapping[BlockKey, Measurement]
) -> LatencyTable:
    """The table with calibrations to the conditions under which the networks were measured."""
    networks, now = [keys_of(arch) for arch in whole], ratios(table, beside)
    clocks: tuple[Clock, ...] = ("wall", "cpu") if table.clock == "cpu" else ("wall",)
    fits = {}
    for clock in clocks:
        measured = [found.estimate("warm", clock) for found in whole.values()]
        fits[clock] = replace(calibrate(table.estimates, networks, measured), beside=now["warm", clock])
    return replace(table, calibration=fits["wall"], cpu_calibration=fits.get("cpu"))


def table_from(results: Results, known: LatencyTable | None = None) -> Collected:
    """The table of what a campaign of `campaign_for` found, together with what it did not measure and was known before.

    Raises:
        InvalidResults: a block of the space is in neither, or one is measured that nobody asked for.
    """
    space = space_of(results)
    needed = needed_keys(space, enqueued_of(results))
    if results.purpose.get("anew") is not False:
        known = None  # what is known was measured once more
    before = dict(known.entries) if known else {}
    asked = {*needed, *before}
    if surplus := [key for key in results.blocks if key not in asked]:
        raise InvalidResults(f"the results hold {len(surplus)} blocks that the space lacks, such as '{surplus[0]}'")
    if missing := [key for key in needed if key not in before and key not in results.blocks]:
        raise InvalidResults(
            f"the results lack {len(missing)} blocks of the space, such as '{missing[0]}'; they are of a kit that was "
            "made for a device of which some were known: make one with --anew"
        )
    new = {key: found for key, found in results.blocks.items() if key not in before}
    if known is not None and len(new) < len(results.blocks):
        now = ratios(known, {key: found for key, found in results.blocks.items() if key in before})
        new = {key: at_table_conditions(found, now) for key, found in new.items()}
    entries = {key: before[key] if key in before else new[key] for key in needed}
    table = LatencyTable(device=results.device, scope=space.scope, entries=entries)
    for name, network in results.networks.items():
        if not name.startswith("reference-") and (foreign := table.missing(keys_of(network.architecture))):
            raise InvalidResults(f"network {name} of the results has block '{foreign[0]}', which its space lacks")
    whole = {
        network.architecture: network.measurement
        for name, network in results.networks.items()
        if name.startswith("calibration-")
    }
    shown = {
        name.removeprefix("reference-"): round(network.measurement.estimate("warm", "wall"), 4)
        for name, network in results.networks.items()
        if name.startswith("reference-")
    }
    return Collected(
        table=_calibrated(table, whole, results.beside),
        measured=len(new),
        conditions={
            **results.conditions,
            "unsettled": list(results.unsettled),
            "unsettled_count": len(results.unsettled),
            **({"published_networks_ms": shown} if shown else {}),
        },
        unsettled=results.unsettled,
        warnings=results.warnings,
        held_out={name: found for name, found in results.networks.items() if name.startswith("holdout-")},
        beside=results.beside,
    )


def space_of(results: Results) -> SearchSpace:
    """The space that a campaign was made for.

    Raises:
        InvalidResults: it was made for something else.
    """
    if results.purpose.get("kind") != "collect" or not isinstance(results.purpose.get("space"), dict):
        raise InvalidResults("these results are not of a kit for a whole table; see: mobilenas latency import --help")
    try:
        return SearchSpace.from_plain(results.purpose["space"])
    except InvalidSpace as error:
        raise InvalidResults(f"the results' space cannot be read: {error}") from error


def enqueued_of(results: Results) -> tuple[Architecture, ...]:
    """The networks beside those of the space that a campaign was made for.

    Raises:
        InvalidResults: they cannot be read.
    """
    specs = results.purpose.get("enqueued")
    if not isinstance(specs, list) or len(specs) > MAX_ENQUEUED:
        raise InvalidResults("the results do not say which networks were enqueued; make the kit again")
    try:
        return tuple(Architecture.from_json(json.dumps(spec)) for spec in specs)
    except InvalidArchitecture as error:
        raise InvalidResults(f"an enqueued network of the results cannot be read: {error}") from error


def collect(
    space: SearchSpace,
    meter: Meter,
    protocol: Protocol,
    known: LatencyTable | None = None,
    progress: MeasuringProgress | None = None,
) -> Collected:
    """Measure every block that the space can reach and that is not known, and calibrate on networks drawn from it.

    Where the calibration is poor the device was disturbed: all is measured again, up to `ATTEMPTS` times, and the
    samples joined. Disturbances only add time, so a low quantile of more samples is closer to the quiet device.

    Call it within the meter's `keeping`, and record the table there.
    """
    before = known.entries if known else {}
    found: Results | None = None
    for attempt in range(ATTEMPTS):
        again = replace(protocol, seed=protocol.seed + attempt)
        campaign = campaign_for(space, again, before)
        if found is not None:
            # The same blocks and networks once more, in another order.
            campaign = replace(
                campaign, blocks=tuple(found.blocks), networks=_networks(found), beside=tuple(found.beside)
            )
        more = meter.run(campaign, progress, keep=True)
        found = more if found is None else _joined(found, more)
        collected = table_from(found, known)
        if collected.table.calibration.error <= POOR or protocol.seconds is not None:
            break
    return collected


def _networks(found: Results) -> dict[str, Architecture | NetworkGraph]:
    return {name: network.architecture for name, network in found.networks.items()}


def _joined(first: Results, second: Results) -> Results:
    return replace(
        second,
        blocks={key: found.joined(second.blocks[key]) for key, found in first.blocks.items()},
        beside={key: found.joined(second.beside[key]) for key, found in first.beside.items()},
        networks={
            name: replace(network, measurement=network.measurement.joined(second.networks[name].measurement))
            for name, network in first.networks.items()
        },
    )


def is_reliable(table: LatencyTable, protocol: Protocol) -> bool:
    """Whether a table serves other searches: it predicts well, and has as many samples as the protocol takes."""
    least = min(len(entry.warm_wall) for entry in table.entries.values())
    rounds = protocol.rounds if protocol.seconds is None else min(ROUNDS_PER_PASS, protocol.rounds)
    return table.calibration.error <= USELESS and least >= rounds * protocol.warm


def campaign_for_missing(table: LatencyTable, keys: Iterable[BlockKey], protocol: Protocol) -> Campaign:
    """What to measure so that a table gets the blocks that it lacks: these, and known ones beside them."""
    missing = table.missing(keys)
    return Campaign(
        blocks=(*missing, *anchors_of(table.entries)) if missing else (),
        protocol=protocol,
        purpose={"kind": "missing", "scope": table.scope},
    )


def entries_from(results: Results, table: LatencyTable) -> dict[BlockKey, Measurement]:
    """The new blocks of a campaign of `campaign_for_missing`, at the table's conditions.

    The device may run slower or faster than when the table was made. Known blocks were measured again in the same
    rounds; the median of (now / recorded) over them scales the new samples, per cache state and clock.
    """
    now = ratios(table, results.blocks)
    return {key: at_table_conditions(found, now) for key, found in results.blocks.items() if key not in table.entries}


def measure_missing(
    table: LatencyTable,
    keys: Iterable[BlockKey],
    meter: Meter,
    protocol: Protocol,
    progress: MeasuringProgress | None = None,
) -> dict[BlockKey, Measurement]:
    """Measure the blocks that a table lacks, at the table's conditions."""
    campaign = campaign_for_missing(table, keys, protocol)
    return entries_from(meter.run(campaign, progress), table) if campaign.blocks else {}
