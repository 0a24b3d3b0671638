"""Classify pictures: python classify.py PICTURE ...

The network, its classes and how pictures are put in lie beside this file. Needs numpy, pillow and onnxruntime.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent


class Classifier:
    """The network beside this file; `labels` are its classes."""

    def __init__(self) -> None:
        self.labels = (HERE / "labels.txt").read_text(encoding="utf-8").splitlines()
        self.preprocess: dict[str, Any] = json.loads((HERE / "preprocess.json").read_text(encoding="utf-8"))
        self.session = onnxruntime.InferenceSession(str(HERE / "model.onnx"), providers=["CPUExecutionProvider"])
        self.temperature = float(self.session.get_modelmeta().custom_metadata_map.get("temperature", 1.0))

    def probabilities(self, picture: Path) -> np.ndarray:
        """The probability of each class: float64, in the order of `labels`."""
        (entry,) = self.session.get_inputs()
        (logits,) = self.session.run(None, {entry.name: self.prepared(picture)})
        scaled = logits[0].astype(np.float64) / self.temperature
        shifted = np.exp(scaled - scaled.max())
        return np.asarray(shifted / shifted.sum())

    def prepared(self, picture: Path) -> np.ndarray:
        """A picture as the network takes it: float32 1 x channels x side x side.

        Upright, its shorter side resized, the centre cropped, padded with zeros, scaled to 0-1, normalised.
        """
        how = self.preprocess
        with Image.open(picture) as opened:
            if opened.mode.startswith(("I", "F")):
                raise ValueError(f"it has more than 8 bits per channel ({opened.mode}); save it with 8")
            image = ImageOps.exif_transpose(opened)
            if image.mode in ("P", "PA", "LA", "RGBA"):
                image = image.convert("RGBA")
            image = image.convert(how["channels"])
        shorter, crop = min(image.size), how["crop"]
        width, height = (max(how["resize"], round(side * how["resize"] / shorter)) for side in image.size)
        if (width, height) != image.size:
            image = image.resize((width, height), Image.BILINEAR)  # type: ignore[attr-defined] # by any Pillow
        left, top = (width - crop) // 2, (height - crop) // 2
        pixels = np.atleast_3d(np.asarray(image.crop((left, top, left + crop, top + crop)))).transpose(2, 0, 1)
        padded = np.pad(pixels, [(0, 0), (how["pad"], how["pad"]), (how["pad"], how["pad"])])
        mean, std = (np.array(how[name], dtype=np.float32)[:, None, None] for name in ("mean", "std"))
        scaled = (padded.astype(np.float32) / np.float32(255) - mean) / std
        return np.asarray(scaled[None], dtype=np.float32)


def main(names: list[str]) -> int:
    """How many pictures could not be read."""
    if not names:
        sys.exit(__doc__)
    classifier, failed = Classifier(), 0
    for name in names:
        try:
            shares = classifier.probabilities(Path(name))
        except (OSError, ValueError) as error:
            print(f"{name} cannot be read: {error}", file=sys.stderr)
            failed += 1
            continue
        best = np.argsort(-shares)[:3]
        print(f"{name}: {', '.join(f'{classifier.labels[index]} {shares[index]:.1%}' for index in best)}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) > 0)
