"""Validation of a table: networks that no fit has seen, predicted, then measured whole beside known blocks."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from latency.analysis.agreement import Agreement, agreement
from latency.calibration import fit_linear
from latency.collect import ATTEMPTS, anchors_of, calibration_networks, entries_from, ratios
from latency.kit import Campaign
from latency.measurement import Clock, Measurement
from latency.meter import MeasuringProgress, Meter
from latency.predict import Predictor
from latency.probe import Protocol
from latency.table import LatencyTable
from space.arch import Architecture
from space.choices import SearchSpace
from space.cost import cost_of
from space.encoding import Encoding
from space.errors import InfeasibleTarget
from space.keys import BlockKey, keys_of
from space.narrowing import narrowed_at_random

Group = Literal["random", "near_target", "netadapt"]
GROUPS: tuple[Group, ...] = ("random", "near_target", "netadapt")
# How far from the target a network of that group may be predicted.
NEAR = 0.05
_DRAWN = 20_000
# Steps of a blind walk, which leaves the space's grid of widths.
_STEPS = range(2, 7)
# Runs in a row of the naive way to measure a block: to completion before the next.
_NAIVE_RUNS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """A network as predicted and as measured whole, in ms: wall clock and thread CPU clock."""

    group: Group
    architecture: Architecture
    predicted_wall_ms: float
    measured_wall_ms: float
    predicted_cpu_ms: float
    measured_cpu_ms: float

    @property
    def madds(self) -> int:
        """Multiply-adds of one image."""
        return cost_of(self.architecture).madds

    def predicted_ms(self, clock: Clock) -> float:
        """The prediction for a clock."""
        return self.predicted_wall_ms if clock == "wall" else self.predicted_cpu_ms

    def measured_ms(self, clock: Clock) -> float:
        """What was measured by a clock."""
        return self.measured_wall_ms if clock == "wall" else self.measured_cpu_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Networks predicted and measured.

    The device may run slower or faster than when the table was made: `drift_wall` and `drift_cpu` are what known
    blocks took among these networks, divided by what they took among those of the table's calibration.
    """

    networks: tuple[Validated, ...]
    under_load: bool
    drift_wall: float
    drift_cpu: float

    def drift(self, clock: Clock) -> float:
        """The drift of a clock."""
        return self.drift_wall if clock == "wall" else self.drift_cpu

    def agreement(self, clock: Clock, group: Group | None = None, *, corrected: bool = True) -> Agreement:
        """Predicted against measured, of one group or all; `corrected` takes the drift of the device out."""
        chosen = [network for network in self.networks if group in (None, network.group)]
        drift = self.drift(clock) if corrected else 1.0
        return agreement(
            np.array([network.predicted_ms(clock) for network in chosen]) * drift,
            np.array([network.measured_ms(clock) for network in chosen]),
        )

    def madds_as_proxy(self) -> Agreement:
        """How well multiply-adds (times a factor, plus a constant) predict wall time, each half fitted on the other."""
        measured = np.array([network.measured_wall_ms for network in self.networks])
        features = np.array([[network.madds, 1.0] for network in self.networks])
        even = np.arange(len(measured)) % 2 == 0
        predicted = np.empty(len(measured))
        for half in (even, ~even):
            predicted[half] = features[half] @ fit_linear(features[~half], measured[~half])
        return agreement(predicted, measured)

    def to_plain(self) -> dict[str, Any]:
        """All figures as plain JSON: shares 0-1; `as_measured` leaves the drift in."""
        found: dict[str, Any] = {"networks": len(self.networks), "under_load": self.under_load}
        present = [group for group in GROUPS if any(network.group == group for network in self.networks)]
        for clock in ("wall", "cpu"):
            whole = _plain(self.agreement(clock))
            groups = {group: _plain(self.agreement(clock, group)) for group in present}
            raw = _plain(self.agreement(clock, corrected=False))
            found[clock] = {**whole, "drift": self.drift(clock) - 1, "groups": groups, "as_measured": raw}
        return found


def _plain(found: Agreement) -> dict[str, float | None]:
    # JSON has no NaN, which the ranks of a single network are.
    return {name: None if math.isnan(value) else value for name, value in asdict(found).items()}


def draw_networks(
    table: LatencyTable, space: SearchSpace, count: int, *, near_target_ms: float | None, seed: int
) -> list[tuple[Group, Architecture]]:
    """Networks that no fit has seen: half of them random, a quarter near the target, a quarter with NetAdapt widths.

    Without a target, the median of the space stands for it.

    Raises:
        InfeasibleTarget: no network of the space is near the target.
        MissingBlock: the table lacks a block of the space.
    """
    rng = random.Random(f"validate {seed}")
    taken = {arch for attempt in range(ATTEMPTS) for arch in calibration_networks(space, attempt)}
    found: list[tuple[Group, Architecture]] = []

    def take(group: Group, arch: Architecture) -> bool:
        if arch in taken:
            return False
        taken.add(arch)
        found.append((group, arch))
        return True

    def fill(group: Group, wanted: int, drawn: Sequence[Architecture]) -> None:
        got = 0
        for arch in drawn:
            got += got < wanted and take(group, arch)

    near = narrow = count // 4
    # Small spaces give fewer different networks than asked for.
    fill("random", count - near - narrow, [space.sample(rng) for _ in range(4 * count)])
    encoding = Encoding(space)
    codes = encoding.sample(_DRAWN, np.random.default_rng(rng.randrange(2**32)))
    latencies = Predictor(table, encoding).estimate(codes)
    target = float(np.median(latencies)) if near_target_ms is None else near_target_ms
    within = np.flatnonzero(np.abs(latencies / target - 1) <= NEAR)
    if near_target_ms is not None and not len(within):
        raise InfeasibleTarget(
            f"no network near {target:.3f} ms: of {_DRAWN:,} drawn ones the fastest takes {latencies.min():.3f}, the "
            f"slowest {latencies.max():.3f} ms; choose another --near-target"
        )
    fill("near_target", near, [encoding.decode(codes[index]) for index in within[: 4 * count]])
    walks = [narrowed_at_random(space.sample(rng), rng, rng.choice(_STEPS)) for _ in range(2 * narrow)]
    fill("netadapt", narrow, walks)
    return found


def campaign_for_validation(
    table: LatencyTable, drawn: Sequence[tuple[Group, Architecture]], protocol: Protocol, *, under_load: bool = False
) -> Campaign:
    """What to measure: the networks beside known blocks, and before them the blocks that the table lacks."""
    missing = table.missing(key for _, arch in drawn for key in keys_of(arch))
    anchors = anchors_of(table.entries)
    return Campaign(
        blocks=(*missing, *anchors) if missing else (),
        networks={f"{group}-{number:04}": arch for number, (group, arch) in enumerate(drawn)},
        beside=anchors,
        protocol=protocol,
        # What was measured under load is never taken up without, nor the other way round.
        purpose={"kind": "validate", "scope": table.scope, "under_load": under_load},
    )


def validation_from(
    table: LatencyTable,
    networks: Mapping[str, tuple[Group, Architecture, Measurement]],
    beside: Mapping[BlockKey, Measurement],
    *,
    under_load: bool = False,
) -> Validation:
    """Predictions of a table beside what was measured."""
    now = ratios(table, beside)
    return Validation(
        networks=tuple(
            Validated(
                group=group,
                architecture=arch,
                predicted_wall_ms=table.estimate(arch, "wall"),
                measured_wall_ms=found.estimate("warm", "wall"),
                predicted_cpu_ms=table.estimate(arch, "cpu"),
                measured_cpu_ms=found.estimate("warm", "cpu"),
            )
            for group, arch, found in networks.values()
        ),
        under_load=under_load,
        drift_wall=now["warm", "wall"] / table.fit("wall").beside,
        drift_cpu=now["warm", "cpu"] / table.fit("cpu").beside,
    )


def validate(
    table: LatencyTable,
    drawn: Sequence[tuple[Group, Architecture]],
    meter: Meter,
    protocol: Protocol,
    *,
    under_load: bool = False,
    progress: MeasuringProgress | None = None,
) -> tuple[Validation, Mapping[str, Any]]:
    """Measure drawn networks, and return them beside their predictions, and the conditions as plain JSON."""
    campaign = campaign_for_validation(table, drawn, protocol, under_load=under_load)
    results = meter.run(campaign, progress)
    measured = {
        f"{group}-{number:04}": (group, arch, results.networks[f"{group}-{number:04}"].measurement)
        for number, (group, arch) in enumerate(drawn)
    }
    whole = replace(table, entries={**table.entries, **entries_from(results, table)})
    return validation_from(whole, measured, results.beside, under_load=under_load), results.conditions


def naive_sums(
    networks: Sequence[Architecture], meter: Meter, progress: MeasuringProgress | None = None
) -> dict[Architecture, float]:
    """What a naive table says of networks: each block timed to completion before the next, means of wall time added."""
    keys = tuple(dict.fromkeys(key for arch in networks for key in keys_of(arch)))
    protocol = Protocol(rounds=1, most_rounds=1, warm=_NAIVE_RUNS)
    results = meter.run(Campaign(blocks=keys, protocol=protocol, purpose={"kind": "naive"}), progress)
    means = {key: float(np.mean(found.cold_wall + found.warm_wall)) for key, found in results.blocks.items()}
    return {arch: sum(means[key] for key in keys_of(arch)) for arch in networks}
