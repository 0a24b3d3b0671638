"""NAS-Bench-Macro (Su et al. 2021): 6,561 networks of MobileNetV2 blocks, each trained on CIFAR-10 three times.

Eight layers with three choices each: 0 skips, 1 is an inverted residual of 3x3 with expansion 3, 2 one of 5x5 with
expansion 6. The space beside this file has one stage per layer whose expansions 1, 3 and 6 stand for the three, so that
members and networks of the table are the same 6,561. The table is not ours to pass on:
`nas-bench-macro_cifar10.json` is in the repository xiusu/NAS-Bench-Macro on GitHub (Apache-2.0), from where
`mobilenas data get nas-bench-macro` fetches it.
"""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from search.problems.noise import drawn
from space.arch import Architecture
from space.errors import DataError
from trainer.data.sources import cache_dir, download

FILE = "nas-bench-macro_cifar10.json"
WHERE = "MOBILENAS_NAS_BENCH_MACRO"
"""The environment variable that names the table or its folder."""

FOLDER = "nas-bench-macro"
URL = "https://raw.githubusercontent.com/xiusu/NAS-Bench-Macro/master/data/nas-bench-macro_cifar10.json"
SHA256 = "686dee8363cc21cca8c1f321ad5749454f2d9b9ca5972682e137e539bc522297"

_MAX_BYTES = 16 * 2**20
_NETWORKS = 3**8


def find(data_dir: Path | None, cache: Path) -> Path:
    """The published table, fetched into the cache if it is neither in a given folder nor there.

    Raises:
        DataError: it cannot be fetched.
    """
    folders = [data_dir / FOLDER, data_dir] if data_dir else []
    for folder in folders:
        if (folder / FILE).is_file():
            return folder / FILE
    remedy = f"put {FILE} of the repository xiusu/NAS-Bench-Macro (GitHub, folder data) into {cache / FOLDER}"
    return download(URL, f"sha256:{SHA256}", cache / FOLDER, remedy)


def _path() -> Path:
    """Where the table is: where the variable says, else in this folder, else in the cache."""
    if (named := os.environ.get(WHERE)) is None:
        return Path(FILE) if Path(FILE).is_file() else cache_dir() / FOLDER / FILE
    return Path(named) / FILE if Path(named).is_dir() else Path(named)


@cache
def table() -> dict[str, dict[str, Any]]:
    """By network: `test_acc` of its trainings and `mean_acc` in per cent, and `flops`, which are multiply-adds.

    Raises:
        DataError: the file is missing, or is not the published table.
    """
    path = _path()
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path} is larger than the table of NAS-Bench-Macro; set {WHERE} to {FILE}")
        content = json.loads(path.read_bytes())
        good = len(content) == _NETWORKS and all(
            row["test_acc"]
            and all(0 < each <= 100 for each in (row["mean_acc"], *row["test_acc"]))
            and row["flops"] > 0
            for row in content.values()
        )
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); fetch it: mobilenas data get nas-bench-macro; or name its "
            f"folder with --data-dir or {WHERE}"
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not the table of NAS-Bench-Macro ({error}); get {FILE} anew") from error
    if not good:
        raise DataError(f"{path} is not the table of NAS-Bench-Macro; get {FILE} anew")
    found: dict[str, dict[str, Any]] = content
    return found


def name_of(arch: Architecture) -> str:
    """The table's name of a network, such as 22212220; the expansion of each layer's block tells its operation.

    Raises:
        DataError: it is none of the table's.
    """
    name, channels = "", arch.stem.out_channels
    for stage in arch.stages:
        ratio = 1.0 if stage.blocks[0].expanded_channels is None else stage.blocks[0].expanded_channels / channels
        if ratio not in (1, 3, 6):
            raise DataError(
                f"{arch.arch_id} is no network of NAS-Bench-Macro: an expansion is {ratio:g}, not 1, 3 or 6"
            )
        name += {1: "0", 3: "1", 6: "2"}[int(ratio)]
        channels = stage.out_channels
    return name


def top1(arch: Architecture, seed: int | None = None) -> float:
    """Mean top-1 (0-1) of the network's three trainings; with a seed that of one of them, a function of both."""
    row = table()[name := name_of(arch)]
    if seed is None:
        return float(row["mean_acc"]) / 100
    return float(row["test_acc"][drawn(seed, name, len(row["test_acc"]))]) / 100


def madds_in_millions(arch: Architecture) -> float:
    """Multiply-adds in millions, which stand in for ms."""
    return float(table()[name_of(arch)]["flops"]) / 1e6
