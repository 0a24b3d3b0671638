"""The lookup table: measured blocks of one device, and a network's latency from them.

A table is a value with JSON in and out; it knows no database.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

from latency.device import Device
from latency.measurement import Clock, Measurement
from space.arch import Architecture
from space.errors import InvalidTable, MissingBlock
from space.keys import BlockKey, keys_of, parse_key

TABLE_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A linear model of a whole network's wall time, fitted on networks that were measured whole.

    latency_ms = scale * (sum of the blocks' warm estimates) + per_block_ms * (number of blocks) + constant_ms

    A block measured alone pays for a call of its own, which a network pays once: `per_block_ms` is negative by about
    that much. `error` is the mean relative error over networks left out of the fit (cross-validated).
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
    scale: float
    per_block_ms: float
    constant_ms: float
    networks: int
    error: float


NO_CALIBRATION = Calibration(scale=1.0, per_block_ms=0.0, constant_ms=0.0, networks=0, error=math.nan)


def block_clock(device: Device) -> Clock:
    """Thread CPU time where one thread does all the work, since it resists a busy neighbour; else wall time."""
    return "cpu" if device.threads == 1 else "wall"


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """Blocks of one device, measured alone, and the calibration that turns their sum into a network's latency.

    `scope` names what the table was collected for: the content hash of a search space.
    """

    device: Device
    scope: str
    entries: Mapping[BlockKey, Measurement]
    calibration: Calibration = NO_CALIBRATION

    @cached_property
    def _costs(self) -> dict[BlockKey, float]:
        """Calibrated ms per block, without the constant."""
        clock, fit = block_clock(self.device), self.calibration
        return {
            key: fit.scale * entry.estimate("warm", clock) + fit.per_block_ms for key, entry in self.entries.items()
        }

    def block_ms(self, key: BlockKey) -> float:
        """What one block adds to a network, in ms.

        Raises:
            MissingBlock: the block was not measured.
        """
        try:
            return self._costs[key]
        except KeyError:
            raise MissingBlock(
                f"block '{key}' is not measured on '{self.device.name}'; start a search over a space that holds it "
                "on that device, which measures what is missing"
            ) from None

    def estimate(self, arch: Architecture) -> float:
        """Predicted wall time of the whole network in ms: batch 1, low quantile, quiet device.

        Raises:
            MissingBlock: one of its blocks was not measured.
        """
        return self.calibration.constant_ms + sum(self.block_ms(key) for key in keys_of(arch))

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
                "calibration": asdict(self.calibration) if self.calibration.networks else None,
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
            if sorted(content) != sorted(_FIELDS) or not isinstance(content["scope"], str):
                raise InvalidTable(f"a table needs a scope and the fields {', '.join(_FIELDS)}; collect it again")
            calibration = content["calibration"]
            return cls(
                device=TypeAdapter(Device).validate_json(json.dumps(content["device"])),
                scope=content["scope"],
                entries={parse_key(name): read_measurement(entry) for name, entry in content["entries"].items()},
                calibration=NO_CALIBRATION
                if calibration is None
                else TypeAdapter(Calibration).validate_json(json.dumps(calibration)),
            )
        except InvalidTable:
            raise
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InvalidTable(f"the table's {where} is wrong: {first['msg']}; collect it again") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidTable(f"no latency table ({type(error).__name__}: {error}); collect it again") from error


_FIELDS = ("version", "scope", "device", "calibration", "entries")


def _is_positive(ms: object) -> bool:
    # An integer may be too large for a float; a bool is a number to Python alone.
    return type(ms) in (int, float) and 0 < ms < 1e9  # type: ignore[operator]


def read_measurement(content: Mapping[str, Any]) -> Measurement:
    """A measurement from its JSON form.

    Raises:
        InvalidTable: a field is missing or unknown, or a sample is not a positive finite number.
    """
    names = [field.name for field in fields(Measurement)]
    if sorted(content) != sorted(names):
        raise InvalidTable(f"a measurement needs the fields {', '.join(names)}; got {', '.join(sorted(content))}")
    samples: dict[str, tuple[float, ...]] = {}
    for name in names:
        values = tuple(content[name])
        if not values or not all(map(_is_positive, values)):
            raise InvalidTable(f"{name} must be positive numbers of milliseconds, got {str(content[name])[:60]}")
        samples[name] = values
    return Measurement(**samples)
