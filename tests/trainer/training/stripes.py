"""A small real data set and a network for it: pictures of stripes, which training tells apart within seconds."""

import math
from pathlib import Path

import numpy as np
from PIL import Image

from space.arch import Architecture, Block, Head, Stage, Stem
from trainer.data.dataset import Dataset
from trainer.data.prepare import prepare
from trainer.training.recipe import Recipe

CLASSES = ("across", "down", "plain")

ARCH = Architecture(
    resolution=16,
    in_channels=3,
    num_classes=3,
    stem=Stem(out_channels=8, stride=1, activation="hswish"),
    stages=(
        Stage(
            out_channels=16,
            stride=2,
            blocks=(Block(kernel_size=3, expanded_channels=24, use_se=True, activation="relu"),),
        ),
    ),
    head=Head(conv_channels=24, hidden_channels=24, activation="hswish"),
)
SHORT = Recipe(images=640, batch_size=32, learning_rate=0.1)


def picture(label: int, rng: np.random.Generator) -> np.ndarray:
    """A noisy picture of 16×16 px: stripes across, stripes down, or none."""
    wave = 60 * np.sign(np.sin(np.arange(16) * math.pi / 2 + rng.uniform(0, 6)))
    stripes = (wave[:, None] + np.zeros(16), wave[None, :] + np.zeros((16, 1)), np.zeros((16, 16)))[label]
    noisy = 128 + stripes[:, :, None] + rng.normal(0, 20, (16, 16, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def prepared_stripes(root: Path, cache: Path) -> Dataset:
    """Three hundred pictures of three classes in folders, prepared as a user's would be."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 80), ("test", 20)):
        for label, name in enumerate(CLASSES):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                Image.fromarray(picture(label, rng)).save(folder / f"{index}.png")
    return prepare(f"imagefolder:{root}", resolution=16, data_dir=None, cache=cache)
