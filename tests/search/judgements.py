"""Files of what networks said of images, as a search leaves them."""

from pathlib import Path

import numpy as np

from trainer.training.judgement import Judgement


def write_judgement(path: Path, right: np.ndarray) -> None:
    """What is kept of a network that is sure of itself and right on these images, bool N."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(Judgement(right=right, log_likelihoods=np.log(np.where(right, 0.9, 0.05))).to_bytes())
