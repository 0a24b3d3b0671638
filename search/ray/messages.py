"""What a coordinator and its driver of Ray say to each other; importing this needs no Ray."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from search.evaluation.job import Job


def versions() -> dict[str, str]:
    """What all machines of a cluster must have alike, so that equal evaluations have equal results.

    Builds of torch for CPUs and for GPUs (`+cpu`, `+cu130`) may be mixed.
    """
    return {name: version(name).partition("+")[0] for name in ("mobilenas", "torch")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSetup:
    """How a driver runs trials: on which cluster, with what for each of them, and for how long."""

    address: str | None
    """HOST:PORT of the cluster's head; None: one is started on this machine, for as long as the driver lives."""
    local_cpus: int
    """What a cluster that is started here has."""
    cpus: float
    gpus: float
    resources: Mapping[str, float]
    retries: int
    """So often a trial begins anew where its process or node was lost."""
    job_seconds: float
    scheduler: str = "none"
    """What stops trials early: a key of `search.ray.tune.SCHEDULERS`, or none."""
    artifacts: str | None = None
    """A folder or URL that all nodes share, see `search.evaluation.artifacts`."""
    data_folder: Path | None = None
    """The prepared data set of the trials, None where there is none."""
    data_hash: str | None = None
    folder: Path = Path()
    """Where the driver and Tune write; nothing there has to last."""

    @property
    def need(self) -> dict[str, float]:
        """What a trial takes of its node, by Ray's names."""
        return {"CPU": self.cpus, "GPU": self.gpus, **self.resources}

    @property
    def log(self) -> Path:
        """Where Ray's output goes."""
        return self.folder / "driver.log"

    @property
    def threads(self) -> int:
        """Torch's threads in a trial."""
        return max(1, int(self.cpus))


@dataclass(frozen=True, slots=True)
class RunJob:
    """To the driver: run this job."""

    job: Job


@dataclass(frozen=True, slots=True)
class Waiting:
    """To the driver: so many endings were heard, and there is no other job until there are more."""

    endings: int


@dataclass(frozen=True, slots=True)
class EvaluatorSources:
    """To the driver: the modules of an evaluator, before its first job."""

    content: str
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Close:
    """To the driver: end; from it: it has ended."""


@dataclass(frozen=True, slots=True)
class Alive:
    """From the driver: Tune goes round, or is about to start, which may take longer than a round."""

    is_start: bool = False


@dataclass(frozen=True, slots=True)
class SharesDone:
    """From the driver: the share done of each running job, by trial number."""

    shares: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Capacity:
    """From the driver: so many trials fit into the cluster at once."""

    trials: int


@dataclass(frozen=True, slots=True)
class Note:
    """From the driver: a line for people."""

    text: str


@dataclass(frozen=True, slots=True)
class DriverLost:
    """From the driver: it cannot go on; `is_final` where another one could not either."""

    reason: str
    is_final: bool = False
