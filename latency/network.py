"""An exported network, run by ONNX Runtime on this machine."""

import hashlib
from pathlib import Path

import numpy as np

from latency import probe
from latency.probe import Runtime
from space.errors import RunError

MAX_MODEL_BYTES = 512 * 2**20


def read_graph(path: Path) -> bytes:
    """The content of an ONNX file.

    Raises:
        RunError: it cannot be read, or is larger than 512 MiB.
    """
    try:
        with path.open("rb") as file:
            graph = file.read(MAX_MODEL_BYTES + 1)
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}); give a run folder or a model.onnx") from error
    if len(graph) > MAX_MODEL_BYTES:
        raise RunError(f"{path} is larger than {MAX_MODEL_BYTES >> 20} MiB; give a smaller network")
    return graph


class Network:
    """An exported network, ready to classify: the same session options as for measuring."""

    def __init__(self, graph: bytes, *, threads: int = 1) -> None:
        self.sha256 = hashlib.sha256(graph).hexdigest()
        self._session = probe.session_of(graph, Runtime(threads=threads))
        self._input = self._session.get_inputs()[0]

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata written into the ONNX file."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Input and output: 1 x C x R x R and 1 x num_classes."""
        return tuple(self._input.shape), tuple(self._session.get_outputs()[0].shape)

    def logits(self, image: np.ndarray) -> np.ndarray:
        """The output for one image, float32 1 x C x R x R, as num_classes numbers."""
        outputs = self._session.run(None, {self._input.name: image})
        return np.asarray(np.asarray(outputs[0])[0])
