"""What a latency was measured on; two tables may be compared only where the fingerprints agree."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from space.errors import InvalidTable

GraphOptimization = Literal["disabled", "basic", "extended", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A processor together with the way that ONNX Runtime uses it.

    `name` is the user's own; all other fields are the fingerprint. `threads` is ONNX Runtime's intra-op thread count.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid", "strict": True}
    name: str
    processor: str
    machine: str
    system: str
    cores: int
    provider: str
    threads: int
    precision: Literal["float32"]
    graph_optimization: GraphOptimization
    runtime_version: str

    def __post_init__(self) -> None:
        if self.threads < 1 or self.cores < 1:
            raise InvalidTable(f"a device has threads and cores, got {self.threads} and {self.cores}; collect again")

    @property
    def fingerprint(self) -> str:
        """A hash of everything but the name."""
        facts = {field: value for field, value in asdict(self).items() if field != "name"}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def processor_name() -> str:
    """The processor's model name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model", "Hardware")):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: platform knows the processor there
    return platform.processor() or platform.machine()


def this_device(name: str, *, threads: int = 1, runtime_version: str) -> Device:
    """This machine's CPU through ONNX Runtime."""
    return Device(
        name=name,
        processor=processor_name(),
        machine=platform.machine(),
        system=platform.system(),
        cores=os.cpu_count() or 1,
        provider="CPUExecutionProvider",
        threads=threads,
        precision="float32",
        graph_optimization="all",
        runtime_version=runtime_version,
    )


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def conditions() -> dict[str, str | float]:
    """What else bears on a measurement and changes over time: load, governor, frequency, temperature where readable."""
    cpu = "/sys/devices/system/cpu/cpu0/cpufreq/"
    found: dict[str, str | float | None] = {
        "governor": _read(cpu + "scaling_governor"),
        "frequency_khz": _read(cpu + "scaling_cur_freq"),
        "temperature_millicelsius": _read("/sys/class/thermal/thermal_zone0/temp"),
        "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    return {name: value for name, value in found.items() if value is not None}
