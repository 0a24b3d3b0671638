"""Does the network say here what it said where it was made? python run_me.py; needs numpy, pillow and onnxruntime."""

import json
import sys

import numpy as np
from classify import HERE, Classifier  # type: ignore[import-not-found] # it lies beside this file

# Other processors and versions of ONNX Runtime sum in other orders.
TOLERANCE = 0.01


def main() -> int:
    """Of how many pictures the network says something else than it said there; 0: all is well."""
    classifier, wrong = Classifier(), 0
    for example in json.loads((HERE / "examples" / "expected.json").read_text(encoding="utf-8")):
        found = classifier.probabilities(HERE / "examples" / example["picture"])
        error = float(np.abs(found - np.array(example["probabilities"])).max())
        said = classifier.labels[int(found.argmax())]
        fits = error <= TOLERANCE
        wrong += not fits
        print(
            f"{example['picture']}: {said} ({found.max():.1%}), labelled {example['label']}; probabilities differ by "
            f"{error:.4f} at most: {'as expected' if fits else 'NOT AS EXPECTED'}"
        )
    return wrong


if __name__ == "__main__":
    sys.exit(main())
