"""Networks measured whole, at the conditions of a table, so that they stand beside its predictions and its targets."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot
from typing import Any

from latency.collect import anchors_of, ratios
from latency.kit import Campaign
from latency.measurement import Measurement
from latency.meter import MeasuringProgress, Meter
from latency.probe import Protocol
from latency.results import Results
from latency.table import LatencyTable
from space.arch import Architecture

_REFERENCE = "reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A network's latency, ms, with its 95 % interval, as it would have been when the table was made.

    `measurement` is what it was now.
    """

    ms: float
    low_ms: float
    high_ms: float
    measurement: Measurement


def campaign_for_whole(
    table: LatencyTable,
    networks: Mapping[str, Architecture],
    reference: Architecture | None,
    protocol: Protocol,
    purpose: Mapping[str, Any],
) -> Campaign:
    """What to measure: the networks interleaved with the reference, or else with known blocks."""
    compared = {} if reference is None else {_REFERENCE: reference}
    return Campaign(
        networks={**networks, **compared},
        beside=anchors_of(table.entries) if reference is None else (),
        protocol=protocol,
        purpose=purpose,
    )


def whole_from(table: LatencyTable, results: Results, reference: Architecture | None) -> dict[str, Whole]:
    """By name what a campaign of `campaign_for_whole` found.

    Where a target is a share of the reference, it is a share of the reference as it was measured in the same run, so
    that whatever the device has become since the table was made cancels out. Else known blocks tell what it has become.

    Raises:
        MissingBlock: the table lacks a block of the reference.
    """
    found = {name: network.measurement for name, network in results.networks.items()}
    if reference is None:
        scale = table.fit("wall").beside / ratios(table, results.beside)["warm", "wall"]
        error = 0.0
    else:
        now = found.pop(_REFERENCE)
        scale = table.estimate(reference) / now.estimate("warm", "wall")
        error = _half_width(now)
    return {name: _whole(measurement, scale, error) for name, measurement in found.items()}


def measure_whole(
    table: LatencyTable,
    networks: Mapping[str, Architecture],
    reference: Architecture | None,
    meter: Meter,
    protocol: Protocol,
    progress: MeasuringProgress | None = None,
) -> dict[str, Whole]:
    """Measure networks, which must not be named reference; see `whole_from`.

    Raises:
        DeviceError: the device cannot be reached or cannot measure.
    """
    campaign = campaign_for_whole(table, networks, reference, protocol, {"kind": "whole"})
    return whole_from(table, meter.run(campaign, progress), reference)


def _half_width(measurement: Measurement) -> float:
    """Half of the 95 % interval, relative to the estimate."""
    low, high = measurement.interval("warm", "wall")
    return (high - low) / 2 / measurement.estimate("warm", "wall")


def _whole(measurement: Measurement, scale: float, error: float) -> Whole:
    ms = scale * measurement.estimate("warm", "wall")
    # Both have an error, independent of each other's once the drift is common.
    half = hypot(_half_width(measurement), error)
    return Whole(ms=ms, low_ms=ms * (1 - half), high_ms=ms * (1 + half), measurement=measurement)
