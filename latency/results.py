"""What comes back from a device: `results.json`, which nobody vouches for, checked and turned into measurements."""

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from latency import kit, probe
from latency.device import Device, read_device
from latency.measurement import Measurement
from space.arch import Architecture
from space.errors import InvalidArchitecture, InvalidResults, InvalidTable
from space.keys import BlockKey, parse_key

MAX_BYTES = 256 << 20
MAX_UNITS = 50_000
MAX_KIT_BYTES = 1 << 30

_Nanoseconds = Annotated[int, Field(ge=1, le=10**13)]
_Seconds = Annotated[float, Field(ge=0, le=1e8, allow_inf_nan=False)]
_Line = Annotated[str, Field(max_length=400, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9][A-Za-z0-9_-]{0,79}$")]
_Facts = Annotated[dict[_Line, _Line | int | Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=40)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


_Kind = TypeVar("_Kind", bound=_Strict)


class _Samples(_Strict):
    cold_wall_ns: list[_Nanoseconds] = Field(min_length=1, max_length=10_000)
    cold_cpu_ns: list[_Nanoseconds]
    warm_wall_ns: list[_Nanoseconds]
    warm_cpu_ns: list[_Nanoseconds]
    disturbed: list[int]


class _Results(_Strict):
    format: Literal["mobilenas-results"]
    version: Literal[1]
    manifest: str
    device: dict[str, Any]
    conditions: _Facts
    conditions_after: _Facts
    warnings: list[_Line] = Field(max_length=20)
    resumed_lines: int = Field(ge=0)
    seconds: _Seconds
    seconds_inside: _Seconds
    reference_ns: list[_Nanoseconds]
    unsettled: list[_Name]
    samples: dict[_Name, _Samples] = Field(max_length=MAX_UNITS)
    refused: dict[_Name, _Line] = Field(default={}, max_length=100)


class _Entry(_Strict):
    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)
    key: str | None = None
    architecture: dict[str, Any] | None = None
    shape: list[Annotated[int, Field(ge=1, le=65_536)]] | None = Field(default=None, max_length=8)

    @property
    def is_other(self) -> bool:
        """Whether it is a network of which nothing but its file is known."""
        return self.shape is not None and self.key is None and self.architecture is None


class _Protocol(_Strict):
    rounds: int = Field(ge=1, le=10_000)
    warm: int = Field(ge=1, le=10_000)
    seed: int
    precision: float = Field(gt=0)
    most_rounds: int = Field(ge=1, le=10_000)
    seconds: float | None
    memory_mb: int | None
    reopen: int | None = Field(default=None, ge=1, le=10_000)


class _Manifest(_Strict):
    format: Literal["mobilenas-kit"]
    version: Literal[1]
    purpose: dict[str, Any]
    protocol: _Protocol
    units: dict[_Name, _Entry] = Field(max_length=MAX_UNITS)
    networks: dict[_Name, _Entry] = Field(max_length=2000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A whole network of a kit and how long it took; `sha256` is that of the ONNX file that was run."""

    architecture: Architecture
    sha256: str
    measurement: Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """A network of which nothing is known but its ONNX file, whose SHA-256 this is, and how long it took."""

    sha256: str
    measurement: Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a campaign found on a device; `conditions` is plain JSON: what bore on it, and how the time was spent."""

    device: Device
    purpose: Mapping[str, Any]
    protocol: probe.Protocol
    blocks: Mapping[BlockKey, Measurement]
    networks: Mapping[str, Network]
    beside: Mapping[BlockKey, Measurement]
    """Blocks that were measured among the networks."""
    conditions: Mapping[str, Any]
    warnings: tuple[str, ...]
    unsettled: tuple[str, ...]
    """Blocks (their keys) and networks (their names) whose confidence interval did not get as narrow as asked for."""
    others: Mapping[str, Other] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    """Why networks of others could not be run there, by name."""


def _parsed(kind: type[_Kind], text: str, what: str) -> _Kind:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))[:120]
        raise InvalidResults(f"{what}: {where}: {first['msg']}; measure again") from error


def _measurement(name: str, samples: _Samples, protocol: _Protocol) -> Measurement:
    visits = len(samples.cold_wall_ns)
    lengths = [len(samples.cold_cpu_ns), len(samples.warm_wall_ns), len(samples.warm_cpu_ns)]
    if lengths != [visits, visits * protocol.warm, visits * protocol.warm]:
        raise InvalidResults(
            f"{name} has {visits} cold samples but {lengths[1]} warm ones, not {protocol.warm} for each; measure again"
        )
    if visits < min(probe.ROUNDS_PER_PASS, protocol.rounds):
        raise InvalidResults(f"{name} was visited {visits} times only; let measure.py run to its end")
    if samples.disturbed != sorted({visit for visit in samples.disturbed if 0 <= visit < visits}):
        raise InvalidResults(f"{name} names disturbed visits that it does not have; measure again")

    def in_ms(samples: list[int]) -> tuple[float, ...]:
        return tuple(ns / 1e6 for ns in samples)

    return Measurement(
        cold_wall=in_ms(samples.cold_wall_ns),
        cold_cpu=in_ms(samples.cold_cpu_ns),
        warm_wall=in_ms(samples.warm_wall_ns),
        warm_cpu=in_ms(samples.warm_cpu_ns),
        disturbed=tuple(samples.disturbed),
    )


def _differing(found: set[str], expected: set[str]) -> str | None:
    for what, names in (("lack", expected - found), ("hold, beside what was asked for,", found - expected)):
        if names:
            return f"{what} {len(names)} models, such as {min(names)}"
    return None


_OTHER_MODEL = (
    "another model than this mobilenas makes; import it with the version that made the kit, or make the kit again"
)


def _block(name: str, entry: _Entry) -> BlockKey:
    if entry.key is None:
        raise InvalidResults(f"the manifest does not say what block {name} is; make the kit again")
    try:
        key = parse_key(entry.key)
        model = kit.block_model(key)
    except (InvalidTable, InvalidArchitecture) as error:
        raise InvalidResults(f"{name}: {error}") from error
    if hashlib.sha256(model).hexdigest() != entry.sha256:
        raise InvalidResults(f"{name} ({entry.key}) was measured with {_OTHER_MODEL}")
    return key


def _architecture(name: str, entry: _Entry, *, trained: bool) -> Architecture:
    """The network of an entry; whether a trained one is the right one, its search knows."""
    if entry.architecture is None:
        raise InvalidResults(f"the manifest does not say what network {name} is; make the kit again")
    try:
        arch = Architecture.from_json(json.dumps(entry.architecture))
        if trained or hashlib.sha256(kit.network_model(arch)).hexdigest() == entry.sha256:
            return arch
    except InvalidArchitecture as error:
        raise InvalidResults(f"{name}: {error}") from error
    raise InvalidResults(f"network {name} was measured with {_OTHER_MODEL}")


def read_results(text: str, name: str) -> Results:
    """The results of a kit, from a device to be called `name`; nothing in them is taken on trust.

    Every block is built again and its hash compared, so that a table never holds latencies of other models.

    Raises:
        InvalidResults: they are too large, no results, damaged, incomplete, or of another kit than they say.
    """
    if len(text) > MAX_BYTES:
        raise InvalidResults(f"the results have {len(text)} bytes; at most {MAX_BYTES} are accepted")
    found = _parsed(_Results, text, "results")
    manifest = _parsed(_Manifest, found.manifest, "the results' manifest")
    expected = {*manifest.units, *manifest.networks}
    if len(expected) < len(manifest.units) + len(manifest.networks):
        raise InvalidResults("the manifest gives a block and a network the same name; make the kit again")
    if ours := sorted(
        name for name in found.refused if name not in manifest.networks or not manifest.networks[name].is_other
    ):
        raise InvalidResults(f"{ours[0]} was not run; let measure.py run to its end")
    if fault := _differing(set(found.samples), expected - set(found.refused)):
        raise InvalidResults(f"the results {fault}; let measure.py run to its end")
    if fault := _differing({*found.unsettled} | expected, expected):
        raise InvalidResults(f"the results' unsettled models {fault}; measure again")
    try:
        device = read_device(name, found.device)
    except InvalidTable as error:
        raise InvalidResults(str(error)) from error
    measured = {each: _measurement(each, samples, manifest.protocol) for each, samples in found.samples.items()}
    if found.conditions.get("thread_clock") != "fine":
        measured = {each: _on_wall_clock(measurement) for each, measurement in measured.items()}
    keys = {each: _block(each, entry) for each, entry in manifest.units.items()}
    beside = {each: _block(each, entry) for each, entry in manifest.networks.items() if entry.key is not None}
    for named in (keys, beside):
        if len(set(named.values())) < len(named):
            raise InvalidResults("the manifest names a block twice; make the kit again")
    networks = {
        each: Network(
            architecture=_architecture(each, entry, trained=manifest.purpose.get("kind") == "certify"),
            sha256=entry.sha256,
            measurement=measured[each],
        )
        for each, entry in manifest.networks.items()
        if entry.key is None and not entry.is_other
    }
    others = {
        each: Other(sha256=entry.sha256, measurement=measured[each])
        for each, entry in manifest.networks.items()
        if entry.is_other and each not in found.refused
    }
    return Results(
        device=device,
        purpose=manifest.purpose,
        protocol=probe.Protocol(**manifest.protocol.model_dump()),
        blocks={key: measured[each] for each, key in keys.items()},
        networks=networks,
        others=others,
        refused=found.refused,
        beside={key: measured[each] for each, key in beside.items()},
        conditions={
            **found.conditions,
            **{f"{key}_after": found.conditions_after[key] for key in _CHANGING if key in found.conditions_after},
            **({"warnings": found.warnings} if found.warnings else {}),
            "resumed_lines": found.resumed_lines,
            "seconds": found.seconds,
            "seconds_inside": found.seconds_inside,
            **_drift(found.reference_ns),
        },
        warnings=tuple(found.warnings),
        unsettled=tuple(str(keys.get(each, each)) for each in found.unsettled if each not in beside),
    )


_CHANGING = ("frequency_khz", "temperature_millicelsius", "load_1min")


def _on_wall_clock(found: Measurement) -> Measurement:
    """Where there is no fine thread clock, or it means something else, wall time stands in for it."""
    return Measurement(
        cold_wall=found.cold_wall,
        cold_cpu=found.cold_wall,
        warm_wall=found.warm_wall,
        warm_cpu=found.warm_wall,
        disturbed=found.disturbed,
    )


def _drift(reference_ns: list[int]) -> dict[str, float]:
    """How much the reference kernel slowed down from the first to the last quarter, and its median above its best."""
    quarter = max(1, len(reference_ns) // 4)
    if not reference_ns:
        return {}
    ordered = sorted(reference_ns)

    def low(values: list[int]) -> float:
        return float(sorted(values)[len(values) // 10])

    return {
        "reference_drift": low(reference_ns[-quarter:]) / low(reference_ns[:quarter]) - 1,
        "reference_spread": ordered[len(ordered) // 2] / low(reference_ns) - 1,
    }


def read_results_file(path: Path) -> str:
    """The text of results.json, or of the one in a kit that was zipped again after measuring.

    Raises:
        InvalidResults: there is none, it is too large, or the zip file is damaged or holds other things than a kit.
    """
    try:
        if path.suffix != ".zip":
            if path.stat().st_size > MAX_BYTES:
                raise InvalidResults(f"{path} is larger than {MAX_BYTES} bytes, so it is no results.json")
            return path.read_text(encoding="utf-8")
        with zipfile.ZipFile(path) as archive:
            return _results_in(archive, path)
    except InvalidResults:  # a ValueError as well: it says already what is wrong
        raise
    except UnicodeDecodeError as error:
        raise InvalidResults(f"{path} is no text; give results.json") from error
    # What zipfile raises on a damaged file; RuntimeError is also a password. Each is told with its reason.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise InvalidResults(f"{path} is a damaged zip file ({error}); zip the kit's folder again") from error
    except OSError as error:
        raise InvalidResults(f"{path} cannot be read: {error.strerror}") from error


_KIT_FILE = re.compile(
    r"measure\.py|manifest\.json|results\.json|journal\.jsonl|lock|models/(weights\.bin|[A-Za-z0-9_-]{1,80}\.onnx)"
)


def _results_in(archive: zipfile.ZipFile, path: Path) -> str:
    members: dict[str, zipfile.ZipInfo] = {}
    if len(archive.infolist()) > MAX_UNITS + 100 or sum(info.file_size for info in archive.infolist()) > MAX_KIT_BYTES:
        raise InvalidResults(f"{path} is too large for a kit")
    for info in archive.infolist():
        if info.is_dir() or info.filename.startswith("__MACOSX/") or info.filename.endswith("/.DS_Store"):
            continue
        parts = PurePosixPath(info.filename).parts
        inner = "/".join(parts[1:] if parts and parts[0] not in (kit.MODELS, *_TOP) else parts)
        if ".." in parts or info.filename.startswith("/") or not _KIT_FILE.fullmatch(inner):
            raise InvalidResults(f"{path} holds {info.filename[:100]!r}, which is no part of a kit")
        if inner in members:
            raise InvalidResults(f"{path} holds {inner} twice")
        members[inner] = info
    if probe.RESULTS not in members:
        raise InvalidResults(f"{path} holds no results.json; run measure.py in the unpacked kit first")

    def text(name: str) -> str:
        # Of other kinds zipfile unpacks more than it was asked for, and what a member says of its size may be wrong.
        if members[name].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InvalidResults(f"{name} in {path} is compressed in an unusual way; zip the kit's folder again")
        with archive.open(members[name]) as member:
            content = member.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InvalidResults(f"{name} in {path} is larger than {MAX_BYTES} bytes")
        return content.decode()

    results = text(probe.RESULTS)
    if probe.MANIFEST in members and _parsed(_Results, results, "results").manifest != text(probe.MANIFEST):
        raise InvalidResults(f"results.json in {path} belongs to another kit than its manifest.json")
    return results


_TOP = ("measure.py", probe.MANIFEST, probe.RESULTS, probe.JOURNAL, "lock")
