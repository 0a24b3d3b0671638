"""Executors: the contract that each one keeps, be it a pool of processes here or a Ray cluster."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from search.evaluation.executor import Executor, Finished, LocalExecutor
from search.evaluation.job import DataUse, Job, OwnEvaluation, Training, Watch
from search.objective.reward import HARD
from search.plugins import Plugin
from search.ray.executor import RayExecutor
from search.trial import Scores
from space.reference import mobilenet_v3_small_32px
from tests.search.inline import InlineExecutor
from tests.tiny import RAY_HERE, dark_and_bright
from tests.waiting import HANGS_S, has_ended, wait_for
from trainer.data.dataset import Dataset
from trainer.data.prepare import prepare
from trainer.training.networks import load_model
from trainer.training.recipe import Recipe
from trainer.training.weight_files import read_weights

LONG = 10_000_000


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two classes of 30 small pictures, dark and bright."""
    folder = dark_and_bright(tmp_path_factory.mktemp("pictures"), each=30, pixels=16)
    return prepare(f"imagefolder:{folder}", resolution=16, data_dir=None, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def job(dataset: Dataset, tmp_path: Path) -> Job:
    """A training of a second or less."""
    return Job(
        number=0,
        attempt=1,
        evaluation=Training(
            architecture=mobilenet_v3_small_32px(width=0.25, resolution=16, num_classes=2),
            data=DataUse(
                content_hash=dataset.content_hash, reward_fraction=0.2, split_seed=0, train_images=20, reward_images=10
            ),
            recipe=Recipe(images=40, batch_size=10),
            seed=1,
        ),
        data_folder=dataset.folder,
        weights=tmp_path / "0.safetensors",
    )


def make(kind: str, slots: int, job_seconds: float = HANGS_S) -> Executor:
    """An executor of a kind; Ray's has a cluster on this machine of its own."""
    if kind == "inline":
        return InlineExecutor(slots)
    if kind == "local":
        return LocalExecutor(slots, job_seconds=job_seconds)
    return RayExecutor(replace(RAY_HERE, local_cpus=slots, job_seconds=job_seconds))


@pytest.fixture(scope="module", params=["local", "ray", "inline"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Two slots."""
    made = make(request.param, 2)
    yield made
    made.close()


def numbered(job: Job, number: int, images: int | None = None) -> Job:
    """The same job under another number, perhaps longer."""
    evaluation = job.evaluation
    assert isinstance(evaluation, Training)
    assert evaluation.recipe is not None
    assert job.weights is not None
    recipe = evaluation.recipe if images is None else replace(evaluation.recipe, images=images)
    return replace(
        job,
        number=number,
        weights=job.weights.with_name(f"{number}.safetensors"),
        evaluation=replace(evaluation, recipe=recipe),
    )


def below() -> dict[int, bytes]:
    """The command lines of all processes below this one."""
    parents: dict[int, int] = {}
    words: dict[int, bytes] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            pid = int(path.name)
            words[pid] = (path / "cmdline").read_bytes()
            parents[pid] = parent_of(pid)

    def above(pid: int) -> list[int]:
        return [] if pid not in parents else [parents[pid], *above(parents[pid])]

    return {pid: line for pid, line in words.items() if os.getpid() in above(pid)}


def parent_of(pid: int) -> int:
    """The process that started another one."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


def trainers() -> set[int]:
    """The processes below this one that run jobs, on nodes of Ray, too.

    They were spawned and lead no session, as Ray's driver does, or multiprocessing's server forked them.
    """
    server, found, processes = b"multiprocessing.forkserver", set(), below()
    for pid, words in processes.items():
        with suppress(OSError):
            spawned = b"spawn_main" in words and os.getsid(pid) != pid
            if spawned or (server in words and server in processes.get(parent_of(pid), b"")):
                found.add(pid)
    return found


def weights_of(job: Job) -> Path:
    """Where a job leaves its weights."""
    assert job.weights is not None
    return job.weights


def collect(executor: Executor, count: int) -> dict[int, Finished]:
    """So many results, by trial number."""
    results: dict[int, Finished] = {}
    end = time.monotonic() + HANGS_S
    while len(results) < count:
        assert time.monotonic() < end, f"only {sorted(results)} ended"
        results |= {result.job.number: result for result in executor.wait(1)}
    return results


def await_progress(executor: Executor) -> None:
    """Wait until a job tells that it is under way."""

    def is_under_way() -> bool:
        assert executor.wait(0.2) == []
        return bool(executor.progress())

    wait_for(is_under_way, pause=0)


@pytest.mark.slow
def test_every_job_ends_once_with_its_outcome(executor: Executor, job: Job) -> None:
    """More jobs than slots: each ends once, and equal evaluations have equal results and weights.

    What Tune writes vanishes again and again meanwhile: nothing of it is read.
    """
    deleted = 0
    for number in range(5):
        executor.submit(numbered(job, number))
    results: dict[int, Finished] = {}
    end = time.monotonic() + HANGS_S
    while len(results) < 5:
        assert time.monotonic() < end
        for result in executor.wait(0.2):
            assert result.job.number not in results
            results[result.job.number] = result
        if isinstance(executor, RayExecutor):
            folder = Path(executor._folder.name) / "tune"
            deleted += folder.exists()
            shutil.rmtree(folder, ignore_errors=True)
    assert executor.wait(0.1) == []
    assert deleted or not isinstance(executor, RayExecutor)
    assert all(result.error is None for result in results.values())
    assert len({result.outcome for result in results.values()}) == 1
    first, last = (read_weights(weights_of(results[number].job)) for number in (0, 4))
    assert all(bool((first[name] == last[name]).all()) for name in first)
    load_model(job.evaluation.architecture, first)


def own(folder: Path, *lines: str) -> OwnEvaluation:
    """An evaluation by a function `top1(arch)` with these lines, in whose process torch is not loaded."""
    (folder / "own.py").write_text("\n".join(["import os, time", "def top1(arch):", *(f" {line}" for line in lines)]))
    plugin = Plugin(name="own:top1", folder=str(folder))
    return OwnEvaluation(architecture=mobilenet_v3_small_32px(), evaluator=plugin, content=plugin.content)


def telling(folder: Path) -> OwnEvaluation:
    """Jobs that write down the number of their process, and end by twos: each when another one has begun."""
    pids = repr(str(folder / "pids"))
    return own(
        folder,
        f"with open({pids}, 'a') as file: print(os.getpid(), file=file)",
        f"while len(open({pids}).readlines()) % 2: time.sleep(0.05)",
        "return 0.5",
    )


def two_more(executor: Executor, evaluation: OwnEvaluation, folder: Path) -> list[int]:
    """The processes that run two further jobs at the same time; none fails."""
    pids = folder / "pids"
    done = len(pids.read_text().split()) if pids.exists() else 0
    for number in (done, done + 1):
        executor.submit(Job(number=number, attempt=1, evaluation=evaluation))
    errors = {result.job.number: result.error for result in collect(executor, 2).values()}
    assert errors == dict.fromkeys(errors)
    return [int(pid) for pid in pids.read_text().split()[done:]]


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "ray"], indirect=True)  # inline jobs cannot wait for each other
def test_slots_keep_their_processes(executor: Executor, tmp_path: Path) -> None:
    """Jobs that end together are followed by others in the same two processes, also where those come a bit later."""
    evaluation = telling(tmp_path)
    two_more(executor, evaluation, tmp_path)
    first = set(two_more(executor, evaluation, tmp_path))
    assert len(first) == 2
    assert all(set(two_more(executor, evaluation, tmp_path)) == first for _ in range(10))


@pytest.mark.slow
def test_idle_slots_are_given_back_and_lost_ones_harm_nothing(tmp_path: Path) -> None:
    """After a while Ray has all but one of them; jobs that come when the others have died are run, and not retried."""
    evaluation = telling(tmp_path)
    executor = make("ray", 2)
    try:
        two_more(executor, evaluation, tmp_path)
        first = set(two_more(executor, evaluation, tmp_path))
        wait_for(lambda: any(has_ended(pid) for pid in first))
        assert executor.wait(13) == []
        kept = {pid for pid in first if not has_ended(pid)}
        assert len(kept) == 1
        two_more(executor, evaluation, tmp_path)
        second = set(two_more(executor, evaluation, tmp_path))
        assert len(second) == 2
        assert kept < second
        for pid in second:  # Ray's own process, which is the parent of the one that runs jobs
            os.kill(parent_of(pid), signal.SIGKILL)
        assert second.isdisjoint(two_more(executor, evaluation, tmp_path))
    finally:
        executor.close()


@pytest.mark.slow
def test_workers_share_gpus_evenly(tmp_path: Path) -> None:
    """Of four workers two see one GPU and two the other, before anything that looks for GPUs is imported."""
    seen = tmp_path / "seen"
    evaluation = own(
        tmp_path,
        f"with open({str(seen)!r}, 'a') as file: print(os.environ['CUDA_VISIBLE_DEVICES'], file=file)",
        f"while len(open({str(seen)!r}).readlines()) < 4: time.sleep(0.05)",
        "return 0.5",
    )
    executor = LocalExecutor(4, job_seconds=HANGS_S, gpus=("2", "GPU-5a"))
    try:
        for number in range(4):
            executor.submit(Job(number=number, attempt=1, evaluation=evaluation))
        assert all(result.error is None for result in collect(executor, 4).values())
    finally:
        executor.close()
    assert sorted(seen.read_text().split()) == ["2", "2", "GPU-5a", "GPU-5a"]


@pytest.mark.slow
def test_workers_may_have_processes_of_their_own(tmp_path: Path) -> None:
    """A training may have others read its images; and a program that forgot to close its executor ends."""
    evaluation = own(
        tmp_path,
        "import multiprocessing",
        "child = multiprocessing.get_context('spawn').Process(target=print)",
        "child.start(); child.join()",
        "return 0.5 + child.exitcode",
    )
    executor = LocalExecutor(1, job_seconds=HANGS_S)
    try:
        executor.submit(Job(number=0, attempt=1, evaluation=evaluation))
        assert [result.error for result in collect(executor, 1).values()] == [None]
    finally:
        executor.close()
    program = (
        "from search.evaluation.executor import LocalExecutor\n"
        "from search.evaluation.job import Job\n"
        "from tests.search.evaluation.test_executor import own\n"
        "from pathlib import Path\n"
        "import tempfile\n"
        "if __name__ == '__main__':\n"
        "    executor = LocalExecutor(1, job_seconds=600)\n"
        "    job = own(Path(tempfile.mkdtemp()), 'time.sleep(600)')\n"
        "    executor.submit(Job(number=0, attempt=1, evaluation=job))\n"
    )
    (tmp_path / "forgets.py").write_text(program, encoding="utf-8")
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, str(tmp_path / "forgets.py")],
        timeout=HANGS_S,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == 0


@pytest.mark.slow
def test_a_failing_job_says_why(executor: Executor, job: Job, tmp_path: Path) -> None:
    """A job that raises ends with its message, and the next one runs."""
    executor.submit(replace(job, data_folder=tmp_path / "nothing"))
    failed = collect(executor, 1)[0]
    assert failed.outcome is None
    assert "nothing" in str(failed.error)
    executor.submit(numbered(job, 1))
    assert collect(executor, 1)[1].outcome is not None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", "ray"])
def test_killed_and_late_workers_take_only_their_own_jobs(job: Job, kind: str, tmp_path: Path) -> None:
    """SIGKILL on all workers, busy and idle, ends the running job with that reason, and so does a job's time.

    Later jobs end well.
    """
    others = trainers()
    executor = make(kind, 2, 20)
    stuck = own(tmp_path, f"while not os.path.exists({str(tmp_path / 'end')!r}): time.sleep(0.05)", "return 0.5")
    try:
        executor.submit(Job(number=0, attempt=1, evaluation=stuck))
        executor.submit(numbered(job, 1))
        assert collect(executor, 1)[1].outcome is not None
        for pid in trainers() - others:
            os.kill(pid, signal.SIGKILL)
        result = collect(executor, 1)[0]
        assert result.outcome is None
        assert "died" in str(result.error)
        executor.submit(numbered(job, 2))
        executor.submit(Job(number=3, attempt=1, evaluation=stuck))
        results = collect(executor, 2)
        assert results[2].outcome is not None
        assert "longer than" in str(results[3].error)
        (tmp_path / "end").touch()
        executor.submit(Job(number=4, attempt=1, evaluation=stuck))
        assert collect(executor, 1)[4].outcome is not None
    finally:
        executor.close()


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.05, 0.3, 1.0])
def test_ctrl_c_spares_a_starting_worker(job: Job, seconds: float) -> None:
    """SIGINT while a worker still imports torch neither ends it nor prints anything; its job ends well."""
    executor = LocalExecutor(1, job_seconds=HANGS_S)
    try:
        others = {child.pid for child in multiprocessing.active_children()}
        executor.submit(job)
        (pid,) = {child.pid for child in multiprocessing.active_children()} - others
        assert pid is not None
        time.sleep(seconds)
        os.kill(pid, signal.SIGINT)
        assert collect(executor, 1)[0].outcome is not None
    finally:
        executor.close()


@pytest.mark.slow
def test_a_trial_that_falls_behind_is_stopped(job: Job) -> None:
    """Of watched trials the one with far lower rewards ends before its time, with no result; others go on.

    By the median; a whole search with ASHA is in `ray/test_early_stopping.py`.
    """
    executor = RayExecutor(replace(RAY_HERE, scheduler="median"))

    def watched(number: int, latency_ms: float, images: int) -> Job:
        scores = Scores(top1=None, latency_ms=latency_ms, madds=1, params=1)
        watch = Watch(times=4, reward=HARD, scores=scores, target_ms=1.0)
        return replace(numbered(job, number, images), watch=watch)

    try:
        for number in range(3):
            executor.submit(watched(number, 1.0, 2000))
        executor.submit(watched(3, 1000.0, 10_000))
        executor.submit(numbered(job, 4))
        results = collect(executor, 5)
    finally:
        executor.close()
    assert all(results[number].outcome is not None for number in (0, 4))
    behind = results[3]
    assert (behind.outcome, behind.error) == (None, None)
    assert behind.stopped is not None
    assert 0.2 <= behind.stopped.share < 1
    assert behind.stopped.reward == pytest.approx(behind.stopped.top1 / 1000)
    assert not weights_of(behind.job).exists()


@pytest.mark.slow
def test_a_training_of_two_processes_survives_the_loss_of_one(job: Job) -> None:
    """It begins anew, as often as `retries` says, and learns; nothing of the first try is taken for a result."""
    executor = RayExecutor(replace(RAY_HERE, local_cpus=2, retries=1))
    try:
        long = numbered(job, 0, 5000)
        assert isinstance(long.evaluation, Training)
        executor.submit(replace(long, evaluation=replace(long.evaluation, processes=2)))
        await_progress(executor)
        parts = [pid for pid, words in below().items() if words.startswith(b"ray::") and b"TrainWorker" in words]
        assert len(parts) == 2
        os.kill(parts[-1], signal.SIGKILL)
        result = collect(executor, 1)[0]
    finally:
        executor.close()
    assert result.error is None
    assert result.outcome is not None
    assert result.outcome.images_seen == 5000
    assert result.outcome.top1 > 0.9, "dark and bright pictures are easily told apart"
    assert weights_of(result.job).exists()
