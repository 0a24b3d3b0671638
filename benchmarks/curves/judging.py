"""How many images tell two networks apart: python -m benchmarks.curves.judging --help.

From the judgements that `make.py` keeps (a byte per image). For pairs of networks after the same number of
training images: how many images of the reward split a difference needs to be clear of noise with 95 % confidence, by
plain top-1 on images of each network's own, by top-1 on the same images, and by the log-likelihood and the probability
of the right class on the same images. And how often the order of two networks on so many images is that of their top-1
on the test split, which is other images.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np

from benchmarks.raw import Raw
from trainer.training.judgement import Judgement
from trainer.training.metrics import Z_95

DRAWN = 200
LOOKED_AT = (250, 500, 1000, 2500, 9000)
# Pairs whose top-1 differs by less than this on the test split have no order worth the name.
LEAST = 0.003


def judgements(work: Path, data: str, images: int, part: str) -> dict[str, Judgement]:
    """Of every network and seed that was judged after so many training images."""
    found = sorted((work / data).glob(f"*.{images}.{part}"))
    return {path.name.split(".")[0]: Judgement.from_bytes(path.read_bytes()) for path in found}


def needed(difference: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Images after which a difference of means is as large as its 95 % error."""
    with np.errstate(divide="ignore"):
        images: np.ndarray = (Z_95 * spread / np.abs(difference)) ** 2
    return images


def pairs_of(reward: dict[str, Judgement], test: dict[str, Judgement]) -> list[tuple[str, str]]:
    """Pairs of different networks with the same seed, whose order is worth finding out; the better one first."""
    names = sorted(set(reward) & set(test))
    pairs = [pair for pair in itertools.combinations(names, 2) if pair[0][-2:] == pair[1][-2:]]
    ordered = [sorted(pair, key=lambda name: -test[name].top1) for pair in pairs]
    return [(one, other) for one, other in ordered if test[one].top1 - test[other].top1 >= LEAST]


def main() -> None:
    """Print both for one stage of training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/curves"))
    parser.add_argument("--data", choices=("fashion-mnist", "cifar10"), default="fashion-mnist")
    parser.add_argument("--images", type=int, default=6000, help="training images after which networks are compared")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    reward, test = (judgements(arguments.work, arguments.data, arguments.images, part) for part in ("reward", "test"))
    pairs = pairs_of(reward, test)
    print(f"{len(reward)} judgements after {arguments.images:,} images, {len(pairs)} pairs at least {LEAST:.1%} apart")
    raw = Raw("judging")
    figures = {
        "top-1, own images": lambda each: each.right.astype(float),
        "top-1": lambda each: each.right.astype(float),
        "log-likelihood": lambda each: each.log_likelihoods,
        "probability": lambda each: np.exp(each.log_likelihoods),
    }
    rng = np.random.default_rng(0)
    for name, figure in figures.items():
        values = {key: figure(each) for key, each in reward.items()}
        counts = []
        for one, other in pairs:
            first, second = values[one], values[other]
            own = np.sqrt(first.var() + second.var())
            spread = own if name.endswith("own images") else (first - second).std()
            counts.append(needed(first.mean() - second.mean(), spread))
        middle = float(np.median(counts))
        shares = {}
        for looked_at in LOOKED_AT:
            right = []
            for one, other in pairs:
                first, second = values[one], values[other]
                drawn = rng.integers(0, len(first), (DRAWN, min(looked_at, len(first))))
                again = rng.integers(0, len(first), drawn.shape) if name.endswith("own images") else drawn
                right.append((first[drawn].mean(1) > second[again].mean(1)).mean())
            shares[looked_at] = float(np.mean(right))
        raw.add(
            data=arguments.data,
            training_images=arguments.images,
            figure=name,
            median_images=middle,
            **{f"order_{k}": v for k, v in shares.items()},
        )
        told = ", ".join(f"{looked_at:,}: {share:.1%}" for looked_at, share in shares.items())
        print(f"{name}: {middle:,.0f} images for the middle pair; order right on {told}")
    raw.write(arguments.csv)


if __name__ == "__main__":
    main()
