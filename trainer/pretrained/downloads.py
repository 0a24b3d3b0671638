"""Weights by name: torchvision's and timm's for ImageNet, looked for where they may lie already, then downloaded.

Their file names end with the first digits of their SHA-256. Sizes are those of torchvision's documentation, and of
timm's networks their parameters'.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from space.errors import DataError
from trainer.data.sources import cache_dir, download

IMAGENET_WEIGHTS = "imagenet"
"""Those that are published of whichever network a search has for its reference."""
_TERMS = "trained on ImageNet, whose own terms are for research"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A file of weights that its project publishes."""

    file: str
    megabytes: float
    url: str = "https://download.pytorch.org/models/"
    licence: str = "BSD-3-Clause, as torchvision"

    @property
    def digest(self) -> str:
        """How its SHA-256 begins, in hexadecimal digits."""
        return Path(self.file).stem.rpartition("-")[2]


def _of_timm(file: str, megabytes: float) -> Published:
    return Published(
        file=file,
        megabytes=megabytes,
        url="https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/",
        licence="Apache-2.0, as timm",
    )


PUBLISHED: Mapping[str, Published] = {
    "torchvision:mobilenet_v2": Published(file="mobilenet_v2-b0353104.pth", megabytes=13.6),
    "torchvision:mobilenet_v2.v2": Published(file="mobilenet_v2-7ebf99e0.pth", megabytes=13.6),
    "torchvision:mobilenet_v3_small": Published(file="mobilenet_v3_small-047dcff4.pth", megabytes=9.8),
    "torchvision:mobilenet_v3_large": Published(file="mobilenet_v3_large-8738ca79.pth", megabytes=21.1),
    "torchvision:mobilenet_v3_large.v2": Published(file="mobilenet_v3_large-5c1a4163.pth", megabytes=21.1),
    "timm:mobilenetv2_100": _of_timm("mobilenetv2_100_ra-b33bc2c4.pth", 13.6),
    "timm:mobilenetv3_large_100": _of_timm("mobilenetv3_large_100_ra-f55367f5.pth", 21.1),
    "timm:mobilenetv3_small_100": _of_timm("mobilenetv3_small_100_lamb-266a294c.pth", 9.8),
    "timm:semnasnet_100": _of_timm("mnasnet_a1-d9418771.pth", 14.9),
}
"""IMAGENET1K_V1 of torchvision, and V2 where it has one; of timm what it had published with a checksum.

What is not here is named by its file.
"""
_ELSEWHERE = {
    "timm:mobilenetv1_100": "https://huggingface.co/timm/mobilenetv1_100.ra4_e3600_r224_in1k has them in "
    "model.safetensors, whose checksum is not known here: download that, and give the file",
}
_OF_OFA = (
    "Once-for-All's checkpoints are supernets: read one with mobilenas supernet import, and begin with the folder that "
    "mobilenas supernet export makes of one of its members"
)


def is_published_name(named: str) -> bool:
    """Whether weights are named as those of a project, not by their file."""
    project, colon, _ = named.partition(":")
    return named == IMAGENET_WEIGHTS or (bool(colon) and project in ("torchvision", "timm", "ofa"))


def licence_of(named: str) -> str | None:
    """What is known of the licence of weights by name, None of others."""
    published = PUBLISHED.get(named)
    return None if published is None else f"{published.licence}; {_TERMS}"


def weights_named(named: str, tell: Callable[[str], None]) -> Path:
    """The file of weights that are named: a path as it is, `torchvision:NAME` or `timm:NAME` found or downloaded.

    `tell` hears what is downloaded before it is.

    Raises:
        DataError: no weights have this name, they cannot be downloaded, or what was found is another file.
    """
    if not is_published_name(named):
        return Path(named)
    if (published := PUBLISHED.get(named)) is None:
        known = f"give a file, or one of: {', '.join(PUBLISHED)}"
        remedy = _ELSEWHERE.get(named) or (_OF_OFA if named.startswith("ofa:") else known)
        raise DataError(f"no weights are known by the name {named}; {remedy}")
    cache = cache_dir() / "weights"
    found = next((path for path in _places(cache, published.file) if path.is_file()), None)
    if found is None:
        tell(
            f"downloading {published.url}{published.file}: {published.megabytes} MB, SHA-256 begins with "
            f"{published.digest}; licence: {published.licence}; {_TERMS}"
        )
        remedy = f"put {published.file} into {cache}, or name it where it lies, or connect to the network and try again"
        found = download(published.url + published.file, None, cache, remedy)
    _require(found, published)
    return found


def _places(cache: Path, file: str) -> Iterator[Path]:
    """Ours first, then where torch keeps what it has downloaded."""
    yield cache / file
    yield Path(torch.hub.get_dir()) / "checkpoints" / file


def _require(path: Path, published: Published) -> None:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"weights {path} cannot be read ({error.strerror or error}); remove them, and try again"
        ) from error
    if not digest.startswith(published.digest):
        raise DataError(
            f"{path} is another file than was published: its SHA-256 begins with {digest[:8]}, not "
            f"{published.digest}; remove it, and try again"
        )
