"""An exported network as whoever took it home has it: one ONNX file, which holds labels and preprocessing too."""

import json
import math
from pathlib import Path

import numpy as np

from latency.network import Network, read_graph
from search.run_folder import MODEL, TEMPERATURE
from space.errors import DataError, RunError
from trainer.data.preprocess import Preprocess, normalise


class ExportedNetwork:
    """A network that was exported, ready to classify; `run` is the ONNX file or the folder that holds it.

    Raises:
        RunError: there is none, or it is not one of ours.
        DataError: its preprocessing cannot be read.
    """

    def __init__(self, run: Path) -> None:
        path = run / MODEL if run.is_dir() else run
        graph = read_graph(path)
        try:
            self.network = Network(graph)
            metadata = self.network.metadata
            labels = json.loads(metadata["labels"])
            self.preprocess = Preprocess.from_json(metadata["preprocess"])
            self.temperature = float(metadata.get(TEMPERATURE, 1.0))
        except DataError:
            raise
        except Exception as error:  # onnxruntime raises many kinds on damaged files
            raise RunError(f"{path} was not exported by mobilenas ({type(error).__name__}); export it again") from error
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise RunError(f"{path} has no class names; export it again")
        if not 0 < self.temperature < math.inf:
            raise RunError(f"{path} has a temperature of {self.temperature}; export it again")
        side, channels = self.preprocess.resolution, len(self.preprocess.mean)
        if self.network.shapes != ((1, channels, side, side), (1, len(labels))):
            raise RunError(
                f"{path} has inputs and outputs {self.network.shapes}, which does not fit its {len(labels)} labels and "
                f"{channels} x {side} x {side} px; export it again"
            )
        self.labels: list[str] = labels

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """The probability of each class for one uint8 image C x R x R."""
        logits = self.network.logits(normalise(image[None], self.preprocess)).astype(np.float64) / self.temperature
        shifted = np.exp(logits - logits.max())
        return np.asarray(shifted / shifted.sum())
