"""A search that takes some seconds, and what a command leaves behind."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from search.ray.messages import ClusterSetup
from tests.waiting import HANGS_S

TINY_SPACE = {
    "name": "tiny",
    "reference": "mobilenet_v3_small_32px",
    "reward_exponent": -0.15,
    "stem": {"channels": 16, "stride": 2, "activation": "hswish"},
    "stages": [
        {
            "channels": 32,
            "stride": 2,
            "depth": [1, 2],
            "width": [0.5, 1.0],
            "kernel": [3, 5],
            "expansion": [1, 3],
            "se": [False, True],
            "activation": ["relu"],
        },
        {
            "channels": 64,
            "stride": 2,
            "depth": [1],
            "width": [1.0],
            "kernel": [3],
            "expansion": [3],
            "se": [False],
            "activation": ["relu", "hswish"],
        },
    ],
    "head": {"conv_channels": 128, "hidden_channels": 128, "activation": "hswish"},
}


# A Ray cluster of one core on this machine.
RAY_HERE = ClusterSetup(address=None, local_cpus=1, cpus=1, gpus=0, resources={}, retries=0, job_seconds=HANGS_S)


def dark_and_bright(folder: Path, *, each: int, pixels: int, seed: int | None = 0) -> Path:
    """Two classes of photos, `each` as many, that are easily told apart; without a seed they are new ones."""
    rng = np.random.default_rng(seed)
    for name, low in (("dark", 0), ("bright", 128)):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            photo = rng.integers(low, low + 128, (pixels, pixels, 3), dtype=np.uint8)
            Image.fromarray(photo).save(folder / name / f"{number}.png")
    return folder


def tiny_run(folder: Path, *, real: bool = False) -> Path:
    """The configuration of a search that takes some seconds, with its space, written into `folder`.

    Its pictures are made up, so that judging them takes no time; `real` ones are those of Fashion-MNIST.
    """
    space = folder / "tiny-space.yaml"
    space.write_text(yaml.safe_dump(TINY_SPACE))
    data: dict[str, object] = {"source": "fashion-mnist", "reward_images": 300}
    if not real:
        photos = folder / "photos"
        if not photos.exists():
            dark_and_bright(photos, each=100, pixels=32)
        data = {"source": f"imagefolder:{photos}", "resolution": 32, "reward_images": 20}
    config = {
        "workers": 1,
        "data": data,
        "space": {"preset": str(space), "width": 0.25},
        "device": {"rounds": 25, "warm_runs": 8},
        "target": {"relative": 0.9},
        "blocks": {"trials": 3, "train_images": 300 if real else 130},
        "netadapt": {"delta": 0.02, "images": 64, "most_images": 128, "walk": 0.02},
        "final": {"images": 300 if real else 130},
        "html": real,  # a second, which most tests have no use for
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str
