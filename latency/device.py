"""What a latency was measured on; two tables may be compared only where the fingerprints agree."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from latency.probe import Runtime
from space.errors import InvalidTable

GraphOptimization = Literal["disabled", "basic", "extended", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A processor together with the way that ONNX Runtime uses it.

    `name` is the user's own; all other fields are the fingerprint. `processor` names the cores as well where the
    measurement was confined to some, and `threads` is ONNX Runtime's intra-op thread count.
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
        if not (1 <= self.threads <= 4096 and 1 <= self.cores <= 65536):
            raise InvalidTable(
                f"a device has threads and cores, not {str(self.threads)[:9]} and {str(self.cores)[:9]}; collect again"
            )
        texts = (self.processor, self.machine, self.system, self.provider, self.runtime_version)
        if not all(text.isprintable() and len(text) <= 300 for text in texts):
            raise InvalidTable("a device's facts must be short printable texts; collect again")

    @property
    def runtime(self) -> Runtime:
        """How ONNX Runtime is to be used."""
        return Runtime(self.provider, self.threads, self.graph_optimization)

    @property
    def fingerprint(self) -> str:
        """A hash of everything but the name."""
        facts = {field: value for field, value in asdict(self).items() if field != "name"}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def read_device(name: str, facts: object) -> Device:
    """A device from what `latency.probe.describe` said of it, which may come from outside.

    Raises:
        InvalidTable: a fact is missing, unknown, or of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    if not isinstance(facts, dict) or "name" in facts:
        raise InvalidTable("the results do not say what device they are from; measure again")
    try:
        return TypeAdapter(Device).validate_json(json.dumps({**facts, "name": name}))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidTable(f"the device's {where} is wrong: {first['msg']}; measure again") from error
