"""A kit: the models of one measurement with the script that times them, as a folder or a zip file for any device.

A kit holds `manifest.json`, `measure.py` (see `latency.probe`) and `models/*.onnx` (opset 17, IR 8), whose weights are
windows of one file that the device makes itself. What comes back is `results.json` (see `latency.results`).
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from latency import probe
from latency.probe import Protocol, Runtime
from space.arch import Architecture
from space.cost import unit_cost
from space.keys import BlockKey, keys_of, named_keys
from space.networks.onnx_graph import build_graph, external_weights

FORMAT = "mobilenas-kit"
VERSION = 1
MODELS = "models"
# A board may have little memory; with this a kit was seen to stay below 0.6 GB.
KIT_MEMORY_MB = 500
# What a session takes beside weights and activations.
_SESSION_BYTES = 400_000
# What another network than ours may take beside its weights: those of 224 px have some MB at a time.
_OTHER_ACTIVATIONS = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkGraph:
    """A network with its trained weights, as it is shipped: `graph` is its ONNX file."""

    architecture: Architecture
    graph: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherModel:
    """A network of which nothing is known but its ONNX file; `shape` is that of its only input."""

    graph: bytes
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What is to be measured: blocks interleaved with each other, then whole networks, by name, likewise.

    `others` are measured among the networks; their names are other ones.
    `beside` are blocks to run among the networks: where a table knows them, they show how the device has changed.
    `purpose` is plain JSON: what for, so that whoever gets the results knows what to do with them.
    """

    blocks: tuple[BlockKey, ...] = ()
    networks: Mapping[str, Architecture | NetworkGraph] = field(default_factory=dict)
    others: Mapping[str, OtherModel] = field(default_factory=dict)
    beside: tuple[BlockKey, ...] = ()
    protocol: Protocol
    purpose: Mapping[str, Any] = field(default_factory=dict)


def _memory(keys: tuple[BlockKey, ...]) -> int:
    """About what a session of these units takes, in bytes: weights as read and as packed, activations."""
    costs = [unit_cost(key) for key in keys]
    return _SESSION_BYTES + 8 * sum(cost.params for cost in costs) + 2 * max(cost.peak_bytes for cost in costs)


@dataclass(frozen=True, slots=True)
class Unit:
    """One model of a kit: its entry in the manifest, and the model itself."""

    entry: Mapping[str, Any]
    model: bytes

    @property
    def file(self) -> str:
        """Its path inside the kit."""
        return str(self.entry["file"])


def _unit(name: str, model: bytes, memory: int, **facts: object) -> Unit:
    entry = {
        "file": f"{MODELS}/{name}.onnx",
        "sha256": hashlib.sha256(model).hexdigest(),
        "bytes": memory,
        **facts,
    }
    return Unit(entry, model)


@lru_cache(maxsize=30_000)  # some KB each: they are built for a kit, and again to check its results
def block_model(key: BlockKey) -> bytes:
    """The model of one block in a kit."""
    return build_graph({"block": key}, external_weights(probe.WEIGHTS, probe.WEIGHT_BYTES, str(key)))


def network_model(arch: Architecture) -> bytes:
    """The model of a whole network in a kit."""
    return build_graph(named_keys(arch), external_weights(probe.WEIGHTS, probe.WEIGHT_BYTES, arch.arch_id))


def block_units(campaign: Campaign) -> Iterator[tuple[str, Unit]]:
    """The blocks by name."""
    for number, key in enumerate(campaign.blocks):
        name = f"block-{number:05}"
        yield name, _unit(name, block_model(key), _memory((key,)), key=str(key))


def network_units(campaign: Campaign) -> Iterator[tuple[str, Unit]]:
    """The whole networks, others than ours, and the blocks beside them, by name."""
    for name, network in campaign.networks.items():
        if isinstance(network, NetworkGraph):
            arch, model = network.architecture, network.graph
        else:
            arch, model = network, network_model(network)
        yield name, _unit(name, model, _memory(keys_of(arch)), architecture=json.loads(arch.to_json()))
    for name, other in campaign.others.items():
        memory = _OTHER_ACTIVATIONS + 2 * len(other.graph)
        yield name, _unit(name, other.graph, memory, shape=list(other.shape))
    for number, key in enumerate(campaign.beside):
        name = f"beside-{number:05}"
        yield name, _unit(name, block_model(key), _memory((key,)), key=str(key))


@dataclass(frozen=True, slots=True)
class Kit:
    """A campaign made ready: the manifest's text and the models by their path inside the kit."""

    manifest: str
    models: Mapping[str, bytes]

    @property
    def id(self) -> str:
        """A hash of the manifest, which holds the hashes of all models."""
        return hashlib.sha256(self.manifest.encode()).hexdigest()[:16]

    def networks(self) -> dict[str, dict[str, Any]]:
        """The manifest's entries of whole networks, by name."""
        found: dict[str, dict[str, Any]] = json.loads(self.manifest)["networks"]
        return found

    def is_in(self, folder: Path) -> bool:
        """Whether a folder holds this kit, whole."""
        path = folder / probe.MANIFEST
        return path.exists() and path.read_text(encoding="utf-8", errors="replace") == self.manifest

    def write(self, folder: Path) -> None:
        """Write it into a folder; the manifest comes last, so that a folder with a manifest is whole."""
        (folder / MODELS).mkdir(parents=True, exist_ok=True)
        for file, content in self._contents().items():
            if file != probe.MANIFEST:
                (folder / file).write_bytes(content)
        probe.replace_text(folder / probe.MANIFEST, self.manifest)

    def write_zip(self, path: Path) -> None:
        """Write it as a zip file."""
        draft = path.with_name(path.name + ".tmp")
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            for file, content in self._contents().items():
                archive.writestr(f"{path.stem}/{file}", content)
        draft.replace(path)

    def _contents(self) -> dict[str, bytes]:
        script = Path(probe.__file__).read_bytes()
        return {"measure.py": script, **self.models, probe.MANIFEST: self.manifest.encode()}


def measure_options(runtime: Runtime, processor: str = "") -> str:
    """The options of measure.py that measure with this runtime, on the cores that a processor's name tells of."""
    plain = Runtime()
    options = []
    if runtime.threads != plain.threads:
        options.append(f" --threads {runtime.threads}")
    if runtime.provider != plain.provider:
        options.append(f" --provider {runtime.provider}")
    if runtime.graph_optimization != plain.graph_optimization:
        options.append(f" --optimization {runtime.graph_optimization}")
    if cores := re.search(r", cores ([0-9,-]+)$", processor):
        options.append(f" --cpus {cores[1]}")
    return "".join(options)


def make_kit(campaign: Campaign) -> Kit:
    """Build all models of a campaign."""
    blocks, networks = dict(block_units(campaign)), dict(network_units(campaign))
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "purpose": dict(campaign.purpose),
        "protocol": asdict(campaign.protocol),
        "units": {name: dict(unit.entry) for name, unit in blocks.items()},
        "networks": {name: dict(unit.entry) for name, unit in networks.items()},
    }
    models = {unit.file: unit.model for unit in (*blocks.values(), *networks.values())}
    return Kit(json.dumps(manifest, sort_keys=True), models)
