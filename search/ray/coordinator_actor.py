"""What all processes of Ray on all nodes have in common: an actor on the coordinator's machine, and node workers."""

import os
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray

from search.evaluation.artifacts import ArtifactStore
from search.evaluation.executor import Finished
from search.evaluation.job import Job
from search.ray.messages import ClusterSetup
from search.ray.node import NodeWorker, Pieces, RemoteFiles, Result, delivered, pieces_of

ACTOR_NAME = "mobilenas-coordinator"
PULSE = "pulse"
# An actor that does not answer for so long is lost, and with it all that runs; a busy machine may take some seconds.
PULSE_S = 20.0
_ADMISSION_S = 0.5


class CoordinatorActor:
    """What the coordinator's machine gives to nodes and takes from them; it reads and writes that machine's files."""

    def __init__(self, artifacts: ArtifactStore | None) -> None:
        self._artifacts = artifacts
        self._jobs: dict[str, Job] = {}
        self._results: dict[str, Finished] = {}
        self._shares: dict[str, float] = {}
        self._admitted: set[str] = set()
        self._sources: dict[str, Mapping[str, bytes]] = {}
        # In Ray's object store, which hands pieces on from node to node and spills to disk what is too large for it.
        self._files: dict[Path, dict[str, list[ray.ObjectRef[bytes]]]] = {}
        self._reading = threading.Lock()

    @ray.method(concurrency_group=PULSE)
    def pulse(self) -> dict[str, float]:
        """Answered however busy the actor is: the shares done that were told here, by the keys of running jobs."""
        return dict(self._shares)

    def tell_share(self, key: str, share: float) -> None:
        """How far a job is that Tune does not run."""
        if key in self._jobs:
            self._shares[key] = share

    def admit(self, nodes: list[str]) -> None:
        """These nodes were tried, and can run trials."""
        self._admitted.update(nodes)

    def is_admitted(self, node: str) -> bool:
        """Whether a node can run trials, as far as is known."""
        return node in self._admitted

    def put(self, key: str, job: Job) -> None:
        """A job to run, perhaps anew."""
        self._jobs[key] = job

    def put_sources(self, content: str, sources: Mapping[str, bytes]) -> None:
        """The modules of an evaluator."""
        self._sources[content] = sources

    def job(self, key: str) -> Job:
        """A job, as the coordinator has it."""
        return self._jobs[key]

    def sources(self, content: str) -> Mapping[str, bytes]:
        """See `RemoteFiles`."""
        return self._sources[content]

    def content(self, path: Path) -> bytes:
        """See `RemoteFiles`."""
        return path.read_bytes()

    def files(self, folder: Path) -> dict[str, list[ray.ObjectRef[bytes]]]:
        """See `RemoteFiles`."""
        with self._reading:
            if folder not in self._files:
                files = [path for path in folder.iterdir() if path.is_file()]
                self._files[folder] = {path.name: [ray.put(piece) for piece in pieces_of(path)] for path in files}
        return self._files[folder]

    def finish(self, key: str, result: Result) -> None:
        """A result, whose weights are written where the coordinator expects them; the first one of a job counts."""
        if key not in self._jobs or key in self._results:
            return
        self._results[key] = delivered(result, self._jobs[key], self._artifacts)

    def is_finished(self, key: str) -> bool:
        """Whether there is a result already."""
        return key in self._results

    def take(self, key: str) -> Finished | None:
        """The result of a job that ended, which is then forgotten; None: it was stopped before."""
        self._jobs.pop(key, None)
        self._shares.pop(key, None)
        return self._results.pop(key, None)

    def forget(self, key: str) -> None:
        """A job that will not end."""
        self._jobs.pop(key, None)
        self._results.pop(key, None)


def ask_coordinator(method: str, *arguments: object) -> Any:  # noqa: ANN401 - of Ray's
    """What the coordinator's actor answers."""
    return ray.get(getattr(ray.get_actor(ACTOR_NAME), method).remote(*arguments))


def await_admission() -> None:
    """Wait until this node was tried: one that has just joined is not yet."""
    here = ray.get_runtime_context().get_node_id()
    while not ask_coordinator("is_admitted", here):
        time.sleep(_ADMISSION_S)


def _files(folder: Path) -> Pieces:
    references = ask_coordinator("files", folder)
    return {name: (ray.get(piece) for piece in pieces) for name, pieces in references.items()}


def node_worker(setup: ClusterSetup) -> NodeWorker:
    """A node worker of this machine, which shares what was sent here with all of its user's."""
    remote = RemoteFiles(
        files=_files,
        content=lambda path: ask_coordinator("content", path),
        sources=lambda content: ask_coordinator("sources", content),
    )
    return NodeWorker(
        Path(tempfile.gettempdir()) / f"mobilenas-{os.getuid()}",
        remote,
        job_seconds=setup.job_seconds,
        threads=setup.threads,
        artifacts=artifacts_of(setup),
    )


def artifacts_of(setup: ClusterSetup) -> ArtifactStore | None:
    """Where artefacts go."""
    return None if setup.artifacts is None else ArtifactStore(setup.artifacts)
