"""The lookup table: measured blocks of one device, and a network's latency from them.

A table is a value with JSON in and out; it knows no database.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from latency.calibration import Calibration
from latency.device import Device
from latency.measurement import Clock, Measurement
from space.arch import Architecture
from space.errors import InvalidTable, MissingBlock
from space.keys import BlockKey, keys_of, parse_key

TABLE_VERSION = 1


NO_CALIBRATION = Calibration(warm=1.0, networks=0, error=math.nan)


def block_clock(device: Device) -> Clock:
    """Thread CPU time where one thread does all the work, since it resists a busy neighbour; else wall time."""
    return "cpu" if device.threads == 1 else "wall"


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """Blocks of one device, measured alone, and the calibrations that turn them into a network's latency.

    `scope` names what the table was collected for: the content hash of a search space. `calibration` predicts wall
    time; `cpu_calibration` the thread's CPU time, None where one thread does not do all the work.
    """

    device: Device
    scope: str
    entries: Mapping[BlockKey, Measurement]
    calibration: Calibration = NO_CALIBRATION
    cpu_calibration: Calibration | None = None

    @property
    def clock(self) -> Clock:
        """The clock by which blocks are judged."""
        return block_clock(self.device)

    @cached_property
    def estimates(self) -> dict[BlockKey, tuple[float, float]]:
        """Warm and cold estimate of every block alone, in ms."""
        clock = self.clock
        return {
            key: (entry.estimate("warm", clock), entry.estimate("cold", clock)) for key, entry in self.entries.items()
        }

    @cached_property
    def _costs(self) -> dict[Clock, dict[BlockKey, float]]:
        """Calibrated ms per block, without the constant."""
        return {
            clock: {key: self.fit(clock).block_ms(key, *found) for key, found in self.estimates.items()}
            for clock in ("wall", "cpu")
        }

    def fit(self, clock: Clock) -> Calibration:
        """The calibration for a clock; where one thread does not do all the work, CPU time means wall time."""
        return self.cpu_calibration or self.calibration if clock == "cpu" else self.calibration

    def alone_ms(self, key: BlockKey) -> float:
        """The warm estimate of a block measured alone, in ms.

        Raises:
            MissingBlock: the block was not measured.
        """
        self.require((key,))
        return self.estimates[key][0]

    def block_ms(self, key: BlockKey, clock: Clock = "wall") -> float:
        """What one block adds to a network, in ms.

        Raises:
            MissingBlock: the block was not measured.
        """
        try:
            return self._costs[clock][key]
        except KeyError:
            self.require((key,))
            raise  # never reached: a required key has a cost

    def estimate(self, arch: Architecture, clock: Clock = "wall") -> float:
        """Predicted time of the whole network in ms: batch 1, low quantile, quiet device.

        Raises:
            MissingBlock: one of its blocks was not measured.
        """
        return self.fit(clock).constant_ms + sum(self.block_ms(key, clock) for key in keys_of(arch))

    def require(self, keys: Iterable[BlockKey]) -> None:
        """Make sure that these blocks were measured.

        Raises:
            MissingBlock: some were not; the message names one of them and what measures them.
        """
        if missing := self.missing(keys):
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise MissingBlock(
                f"block '{missing[0]}'{more} is not measured on '{self.device.name}'; "
                f"run: mobilenas latency collect --device {self.device.name} --config RUN.yaml"
            )

    def missing(self, keys: Iterable[BlockKey]) -> tuple[BlockKey, ...]:
        """Those of `keys` that are not in the table, in order and once each."""
        return tuple(dict.fromkeys(key for key in keys if key not in self.entries))

    def to_json(self) -> str:
        """JSON with every raw sample."""
        return json.dumps(
            {
                "version": TABLE_VERSION,
                "scope": self.scope,
                "device": asdict(self.device),
                "calibration": calibrations_to_plain(self.calibration, self.cpu_calibration),
                "entries": {str(key): asdict(entry) for key, entry in self.entries.items()},
            },
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> "LatencyTable":
        """Read a table.

        Raises:
            InvalidTable: the text is no table, or a sample is not a positive number.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            content = json.loads(text)
            if content["version"] != TABLE_VERSION:
                raise InvalidTable(
                    f"the table has version {content['version']!r}, not {TABLE_VERSION}; collect it again"
                )
            if sorted(content) != sorted(_FIELDS) or not re.fullmatch("[0-9a-f]{16}", content["scope"]):
                raise InvalidTable(f"a table needs a scope and the fields {', '.join(_FIELDS)}; collect it again")
            calibration, cpu_calibration = calibrations_from_plain(content["calibration"])
            table = cls(
                device=TypeAdapter(Device).validate_json(json.dumps(content["device"])),
                scope=content["scope"],
                entries={parse_key(name): read_measurement(entry) for name, entry in content["entries"].items()},
                calibration=calibration,
                cpu_calibration=cpu_calibration,
            )
            if any(table.block_ms(key, clock) <= 0 for key in table.entries for clock in ("wall", "cpu")):
                raise InvalidTable("by the table's calibration a block costs nothing or less; collect it again")
            return table
        except InvalidTable:
            raise
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InvalidTable(f"the table's {where} is wrong: {first['msg']}; collect it again") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidTable(f"no latency table ({type(error).__name__}: {error}); collect it again") from error


_FIELDS = ("version", "scope", "device", "calibration", "entries")


def calibrations_to_plain(wall: Calibration, cpu: Calibration | None) -> dict[str, Any] | None:
    """Both calibrations as plain JSON, that for CPU time inside the other; None where there is none."""

    def plain(calibration: Calibration) -> dict[str, float | None]:
        # JSON has no NaN, which an error is that could not be cross-validated.
        return {name: None if math.isnan(value) else value for name, value in asdict(calibration).items()}

    if not wall.networks:
        return None
    return {**plain(wall), **({"cpu": plain(cpu)} if cpu else {})}


def calibrations_from_plain(content: Mapping[str, Any] | None) -> tuple[Calibration, Calibration | None]:
    """What `calibrations_to_plain` wrote.

    Raises:
        InvalidTable: a coefficient is missing, unknown, or no number.
    """
    if content is None:
        return NO_CALIBRATION, None
    wall = {name: value for name, value in content.items() if name != "cpu"}
    return _read_calibration(wall), _read_calibration(content["cpu"]) if "cpu" in content else None


def _read_calibration(content: Mapping[str, Any]) -> Calibration:
    # Before there were other terms, the coefficient of the warm estimates was called scale.
    given = {"warm" if name == "scale" else name: value for name, value in content.items()}
    numbers = {name: value for name, value in given.items() if (name, value) != ("error", None)}
    names = {field.name for field in fields(Calibration)}
    # A bool is a number to Python alone, and NaN is below nothing.
    sound = all(type(value) in (int, float) and abs(value) < 2**31 for value in numbers.values())
    sound = sound and numbers.get("beside", 1.0) > 0 and numbers.get("error", 0.0) >= 0
    if not sound or not {"networks", "error"} <= set(given) <= names or type(given["networks"]) is not int:
        raise InvalidTable(
            f"a calibration has numbers for {', '.join(sorted(names))}, got {str(dict(content))[:300]}; "
            "collect the table again"
        )
    return Calibration(**{"error": math.nan, **numbers})


def _is_positive(ms: object) -> bool:
    # An integer may be too large for a float; a bool is a number to Python alone.
    return type(ms) in (int, float) and 0 < ms < 1e9  # type: ignore[operator]


def read_measurement(content: Mapping[str, Any]) -> Measurement:
    """A measurement from its JSON form.

    Raises:
        InvalidTable: a field is missing or unknown, or a sample is not a positive finite number.
    """
    names = [field.name for field in fields(Measurement) if field.name != "disturbed"]
    if sorted(set(content) - {"disturbed"}) != sorted(names):
        raise InvalidTable(
            f"a measurement needs the fields {', '.join(names)}; got {', '.join(sorted(set(content) - {'disturbed'}))}"
        )
    samples: dict[str, tuple[float, ...]] = {}
    for name in names:
        values = tuple(content[name])
        if not values or not all(map(_is_positive, values)):
            raise InvalidTable(f"{name} must be positive numbers of milliseconds, got {str(content[name])[:60]}")
        samples[name] = values
    # Tables from before visits were marked have no such field.
    disturbed = tuple(content.get("disturbed", ()))
    visits = range(len(samples["cold_wall"]))
    if not all(type(visit) is int and visit in visits for visit in disturbed):
        raise InvalidTable(f"disturbed must number visits, got {str(content['disturbed'])[:60]}")
    return Measurement(**samples, disturbed=disturbed)
