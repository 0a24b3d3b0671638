"""Published networks with their ImageNet figures, as papers and their authors' READMEs print them."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One network: ImageNet top-1 in %, parameters and multiply-adds in millions, latency in ms if it was printed."""

    model: str
    resolution: int
    width: str
    top1_pct: float
    params_m: float
    madds_m: float
    latency_ms: float | None
    device: str
    source: str

    @property
    def title(self) -> str:
        """The network as people write it."""
        return f"{self.model} {self.width} @{self.resolution}" if self.width else f"{self.model} @{self.resolution}"


@cache
def published() -> tuple[Published, ...]:
    """All of them, in the order of the file."""
    lines = files("service.report").joinpath("published_models.csv").read_text(encoding="utf-8").splitlines()
    return tuple(
        Published(
            model=row["model"],
            resolution=int(row["resolution"]),
            width=row["width"],
            top1_pct=float(row["top1"]),
            params_m=float(row["params_m"]),
            madds_m=float(row["madds_m"]),
            latency_ms=float(row["latency_ms"]) if row["latency_ms"] else None,
            device=row["latency_device"],
            source=row["source"],
        )
        for row in csv.DictReader(lines)
    )
