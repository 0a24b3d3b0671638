"""What a node of a Ray cluster does for a trial: it gets what the trial needs, and runs it in a process of its own."""

import os
import platform
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from search.evaluation.artifacts import ArtifactStore, weights_name
from search.evaluation.executor import Finished, LocalExecutor, failed
from search.evaluation.job import MADE_CHECKPOINT, MADE_WEIGHTS, Interim, Job, Outcome, Parent, Training
from search.evaluation.shared import SharedTraining
from search.plugins import Plugin
from search.run_folder import SUPERNET_WEIGHTS
from space.errors import DataError, MobilenasError, RunError
from trainer.data.dataset import META_VERSION, Dataset
from trainer.training.weight_files import write_whole

# Data sets travel in pieces of this size, so that nobody needs a whole one in memory.
PIECE_BYTES = 64 * 2**20
# What a node worker that was killed left behind is removed after so long.
_LEFT_S = 2 * 24 * 3600.0
# How soon it is seen that a watched training was judged.
_NEWS_S = 0.1

Pieces = Mapping[str, Iterable[bytes]]
"""Files by their name inside a folder, each as its pieces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFiles:
    """Where a node gets what it lacks, as calls to the coordinator's machine."""

    files: Callable[[Path], Pieces]
    """The files of a folder there, subfolders left out."""
    content: Callable[[Path], bytes]
    """The content of a single file there."""
    sources: Callable[[str], Mapping[str, bytes]]
    """The user's modules (`Plugin.sources`) of an evaluator with this content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a job at a node: `weights` are the content of a safetensors file, as is a kept `checkpoint`."""

    finished: Finished
    weights: bytes | None
    is_stored: bool = False
    """Whether the weights are in the artefact store instead."""
    checkpoint: bytes | None = None


def pieces_of(path: Path) -> Iterator[bytes]:
    """The content of a file, piece by piece."""
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def delivered(result: Result, job: Job, artifacts: ArtifactStore | None) -> Finished:
    """A node's result at the coordinator's machine: the weights in the job's file, whole or not at all."""
    finished = replace(result.finished, job=job)
    if job.weights is None or (result.weights is None and not result.is_stored):
        return finished
    try:
        weights = result.weights
        if weights is None:
            assert artifacts is not None
            weights = artifacts.get(weights_name(job.evaluation.key))
            if weights is None:
                raise RunError(
                    "the weights that its node stored are not in the artefact store; look at MOBILENAS_ARTIFACTS"
                )
        write_whole(job.weights, weights)
        if job.checkpoint is not None and result.checkpoint is not None:
            write_whole(job.checkpoint, result.checkpoint)
    except (MobilenasError, OSError) as error:
        return failed(job, error)
    return finished


class NodeWorker:
    """Runs one job at a time, in a process that can be killed without harm to Ray's.

    What a job needs lies in `folder`, which all node workers of a machine share: data sets and functions by the hash of
    their content, so that each reaches a machine once.
    """

    def __init__(
        self,
        folder: Path,
        remote: RemoteFiles,
        *,
        job_seconds: float,
        threads: int,
        artifacts: ArtifactStore | None = None,
    ) -> None:
        self._folder, self._remote, self._artifacts = folder, remote, artifacts
        self._seconds, self._threads = job_seconds, threads
        self._executor: LocalExecutor | None = None
        self._job: Job | None = None
        self._scratch: Path | None = None
        self._early: Finished | None = None
        _make_private(folder)
        for left in (*folder.glob("draft-*"), *folder.glob("trial-*")):
            with suppress(OSError):  # another node worker may be removing it
                if time.time() - left.stat().st_mtime > _LEFT_S + job_seconds:
                    shutil.rmtree(left, ignore_errors=True)

    def start(self, job: Job) -> None:
        """Begin a job; what cannot be had for it is told by `look`, like any failure."""
        self.drop()
        self._job = job
        try:
            self._scratch = Path(tempfile.mkdtemp(prefix="trial-", dir=self._folder))
            prepared = job.evaluation.on_node(job, self, self._scratch)
        except (MobilenasError, OSError) as error:
            self._early = failed(job, error)
            return
        if self._executor is None:
            trains = isinstance(job.evaluation, Training | SharedTraining)
            self._executor = LocalExecutor(1, job_seconds=self._seconds, threads=self._threads, trains=trains)
        self._executor.submit(prepared)

    def look(self, seconds: float) -> Result | None:
        """What became of the job, waiting for it, or for news of a watched one, up to so many seconds.

        None: it still runs.
        """
        assert self._job is not None
        finished = self._early
        if finished is None:
            ended = self._awaited(seconds)
            if ended is None:
                return None
            finished = replace(ended, job=self._job)
        result = self._result(finished, self._scratch)
        self._clear()
        return _from_here(result)

    def _awaited(self, seconds: float) -> Finished | None:
        assert self._job is not None
        assert self._executor is not None
        end, before = time.monotonic() + seconds, self.interim
        pause = seconds if self._job.watch is None else _NEWS_S
        while (left := end - time.monotonic()) > 0 and self.interim == before:
            if ended := self._executor.wait(min(pause, left)):
                return ended[0]
        return None

    def _result(self, finished: Finished, scratch: Path | None) -> Result:
        """How a job ended, with what it made in its folder."""
        if finished.outcome is None or scratch is None or not (scratch / MADE_WEIGHTS).exists():
            return Result(finished=finished, weights=None)
        try:
            weights, checkpoint = (scratch / MADE_WEIGHTS).read_bytes(), None
            if finished.job.keeps_checkpoint:
                checkpoint = (scratch / MADE_CHECKPOINT).read_bytes()
            if self._artifacts is None:
                return Result(finished=finished, weights=weights, checkpoint=checkpoint)
            self._artifacts.put(weights_name(finished.job.evaluation.key), weights)
        except (MobilenasError, OSError) as error:
            return Result(finished=failed(finished.job, error), weights=None)
        return Result(finished=finished, weights=None, is_stored=True, checkpoint=checkpoint)

    def run_here(self, job: Job, run: Callable[[Job], Outcome | None]) -> Result:
        """Have a job run in this very process.

        What fails by itself is told as its failure; anything else that it raises is of those who run it.
        """
        scratch = Path(tempfile.mkdtemp(prefix="trial-", dir=self._folder))
        try:
            finished = Finished(job=job, outcome=run(job.evaluation.on_node(job, self, scratch)), error=None)
            result = self._result(finished, scratch)
        except (MobilenasError, OSError) as error:
            result = Result(finished=failed(job, error), weights=None)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return _from_here(result)

    @property
    def share(self) -> float:
        """The share of the job that is done, 0-1."""
        return next(iter(self._executor.progress().values()), 0.0) if self._executor else 0.0

    @property
    def interim(self) -> Interim | None:
        """What a watched training has reached so far, None before it was first judged."""
        return next(iter(self._executor.interims().values()), None) if self._executor else None

    def drop(self) -> None:
        """End what runs, if anything does."""
        if self._job is not None and self._executor is not None:
            self._executor.close()
            self._executor = None
        self._clear()

    def close(self) -> None:
        """End everything."""
        self.drop()
        if self._executor is not None:
            self._executor.close()
            self._executor = None

    def _clear(self) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
        self._job = self._scratch = self._early = None

    def weights(self, parent: Parent, key: str | None) -> bytes:
        """The weights to inherit: from the artefact store where it has them, as it has all that the cluster trained."""
        stored = self._artifacts.get(weights_name(key)) if self._artifacts is not None and key is not None else None
        return self._remote.content(parent.weights) if stored is None else stored

    def shared(self, there: Path, wanted: str) -> Path:
        """The file of a supernet with this content hash, which whoever reads it checks; it reaches a machine once."""
        here = self._folder / f"supernet-{wanted}"
        if not here.exists():
            self._publish(here, {SUPERNET_WEIGHTS: [self._remote.content(there)]})
        return here / SUPERNET_WEIGHTS

    def checkpoint(self, there: Path) -> bytes:
        """The checkpoint of a training, which only the coordinator keeps."""
        return self._remote.content(there)

    def data(self, there: Path, wanted: str, *, measure: bool = False) -> Path:
        """The folder of a prepared data set with this content hash: the coordinator's own where this machine sees it.

        What is there already is believed, or read from end to end to `measure` its hash.

        Raises:
            DataError: it was damaged, here or on its way.
        """
        here = there
        try:
            is_seen = Dataset.open(there).content_hash == wanted
        except DataError:
            is_seen = False
        if not is_seen:
            here = self._folder / data_name(wanted)
            if not here.exists():
                self._publish(here, self._remote.files(there), lambda draft: _require_whole(draft, wanted))
                return here
        if measure and Dataset.open(here).measured_hash() != wanted:
            raise DataError(f"data {wanted} in {here} is damaged; remove that folder there")
        return here

    def plugin(self, plugin: Plugin, content: str) -> Plugin:
        """A callable where its sources lie on this machine; files that it reads must be here as they are there."""
        if plugin.folder is None:
            return plugin
        here = self._folder / f"functions-{content.replace(':', '-')}"
        if not here.exists():
            sources = self._remote.sources(content)
            if _has(Path(plugin.folder), sources):
                return plugin
            self._publish(here, {name: [source] for name, source in sources.items()})
        return Plugin(name=plugin.name, folder=str(here))

    def _publish(self, folder: Path, files: Pieces, check: Callable[[Path], None] = lambda _: None) -> None:
        """Write files so that they appear whole and checked, or not at all; several node workers may do so at once."""
        draft = Path(tempfile.mkdtemp(prefix="draft-", dir=self._folder))
        try:
            for name, pieces in files.items():
                (draft / name).parent.mkdir(parents=True, exist_ok=True)
                with (draft / name).open("wb") as file:
                    for piece in pieces:
                        file.write(piece)
                    file.flush()
                    os.fsync(file.fileno())  # the name must not be ahead of the content after a power cut
            check(draft)
            draft.rename(folder)
        except OSError:
            if not folder.exists():  # else another node worker was faster
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def data_name(content_hash: str) -> str:
    """The folder of a prepared data set on a node, which other versions of mobilenas may use too."""
    return f"data-{META_VERSION}-{content_hash}"


def _require_whole(folder: Path, wanted: str) -> None:
    found = Dataset.open(folder).measured_hash()
    if found != wanted:
        raise DataError(f"data {wanted} reached this node as {found}; look at its disk and network")


def _make_private(folder: Path) -> None:
    """Make a folder that nobody else can look or write into; modules are loaded from it.

    Raises:
        RunError: it is there, and somebody else's, as it can be where the place is for all.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RunError(f"{folder} on {platform.node()} belongs to somebody else; set TMPDIR there to another folder")
    folder.chmod(0o700)


def _from_here(result: Result) -> Result:
    """With the name of this machine where its disk is full: a search ends with that, and is told of elsewhere."""
    finished = result.finished
    if not finished.is_disk_full:
        return result
    return replace(result, finished=replace(finished, error=f"node {platform.node()}: {finished.error}"))


def _has(folder: Path, sources: Mapping[str, bytes]) -> bool:
    """Whether a folder of this machine has these files with this content."""
    try:
        return all((folder / name).read_bytes() == content for name, content in sources.items())
    except OSError:
        return False
