"""An exported network, run by ONNX Runtime on this machine."""

import hashlib

import numpy as np

from latency import probe
from latency.probe import Runtime


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
