"""What a user takes home: spec, weights, ONNX file, labels and preprocessing, none of which needs mobilenas."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latency.network import Network
from search.evaluation.artifacts import VARIABLE, artifact_store
from search.record.rows import ExportRecord, SearchRecord
from search.run_folder import EXPORTED, LABELS, MODEL, PREPROCESS, SPEC, TEMPERATURE, WEIGHTS
from search.trial import Trial
from space.arch import Architecture
from space.errors import RunError
from space.formats import FILE_NAMES, FormatName, write_spec
from space.keys import named_keys
from space.networks.modules import folded_weights
from space.networks.onnx_graph import build_graph, given_weights
from trainer.data.preprocess import Preprocess
from trainer.training.networks import load_model
from trainer.training.weight_files import write_weights

# Folding BatchNorm and another order of sums cost some float32 digits; a wrong graph is off by far more.
TOLERANCE = 1e-3


def onnx_graph(arch: Architecture, weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The ONNX model of a trained network.

    Raises:
        RunError: ONNX Runtime and torch do not agree on its outputs.
    """
    model = load_model(arch, weights).eval()
    graph = build_graph(named_keys(arch), given_weights(folded_weights(model)), metadata=metadata)
    shape = (8, arch.in_channels, arch.resolution, arch.resolution)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(images).numpy()
    network = Network(graph)
    found = np.stack([network.logits(image[None].numpy()) for image in images])
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not error <= TOLERANCE:
        raise RunError(f"the ONNX file of {arch.arch_id} differs from the trained network by {error:.1e} (relative)")
    return graph


def export_metadata(record: SearchRecord, trial: Trial, device: str) -> dict[str, str]:
    """Where a network comes from, for the ONNX file; `device` is the fingerprint that its table belongs to."""
    return {
        "mobilenas_search": record.name,
        "mobilenas_trial": str(trial.number),
        "mobilenas_table": str(record.require_start().table_id),
        "mobilenas_device": device,
        "mobilenas_predicted_ms": f"{trial.scores.latency_ms:.6f}",
        "mobilenas_exported": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def temperature_in(model: Path, trial: Trial) -> float:
    """That with which a trial's network was exported to an ONNX file before; 1 where it was not."""
    try:
        metadata = Network(model.read_bytes()).metadata
        known = float(metadata.get(TEMPERATURE, 1.0))
    except OSError:
        return 1.0
    except Exception as error:  # onnxruntime raises many kinds on damaged files
        raise RunError(f"{model} cannot be read ({type(error).__name__}); remove it, and export again") from error
    return known if metadata.get("mobilenas_trial") == str(trial.number) else 1.0


def export_network(
    folder: Path,
    arch: Architecture,
    weights: Mapping[str, Tensor],
    classes: Sequence[str],
    preprocess: Preprocess,
    metadata: Mapping[str, str],
    formats: Iterable[FormatName] = (),
    *,
    temperature: float = 1.0,
) -> dict[str, str]:
    """Write the five files into `folder`, and the specs of other `formats`; return their SHA-256 by name.

    The ONNX metadata holds `metadata`, the spec and its hash, labels, preprocessing and the temperature that logits are
    divided by for probabilities, so that the file alone is enough.

    Raises:
        NotExpressible: one of the formats has no words for the network; nothing is written then.
    """
    texts = {FILE_NAMES[name]: write_spec(arch, name) for name in formats}
    folder.mkdir(parents=True, exist_ok=True)
    recipe = preprocess.to_json()
    labels = "".join(f"{name}\n" for name in classes)
    graph = onnx_graph(
        arch,
        weights,
        {
            **metadata,
            "arch_id": arch.arch_id,
            "architecture": arch.to_json(),
            "labels": json.dumps(list(classes)),
            "preprocess": recipe,
            TEMPERATURE: f"{temperature:.6g}",
        },
    )
    write_weights(dict(weights), folder / WEIGHTS)
    texts[SPEC] = write_spec(arch, "spec")
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / MODEL).write_bytes(graph)
    (folder / LABELS).write_text(labels, encoding="utf-8")
    (folder / PREPROCESS).write_text(recipe, encoding="utf-8")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in {*EXPORTED, *texts}}


def upload_export(search: str, export: ExportRecord, reports: Iterable[Path], note: Callable[[str], None]) -> None:
    """Copy what a search found to where the nodes of a cluster keep artefacts, if there is such a place.

    That it cannot be reached is told, and no more: everything is in the run folder.
    """
    if (place := artifact_store()) is None:
        return
    try:
        for path in (*(export.folder / name for name in export.files), *reports):
            place.put(f"exports/{search}/{path.name}", path.read_bytes())
    except (RunError, OSError) as error:
        note(f"warning: {error}; everything is in {export.folder}")
    else:
        note(f"the exported files are also in exports/{search} of {VARIABLE}")
