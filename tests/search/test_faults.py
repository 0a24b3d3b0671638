"""Full disks and clocks that jump: nothing that was finished is lost, and nothing that was not is taken for failed."""

import errno
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from search.evaluation.executor import LocalExecutor
from search.evaluation.job import Job, OwnEvaluation
from search.plugins import Plugin
from search.record.rows import trial_to_row
from search.record.store import Store
from search.trial import SearchStage, State
from space.reference import mobilenet_v3_small_32px
from tests.search.killing import command, write_run
from tests.search.makers import completed, new_search, trial
from tests.tiny import Result, tiny_run

Mobilenas = Callable[..., Result]


@pytest.mark.slow
def test_a_full_disk_stops_the_search_and_fails_no_trial(tmp_path: Path, mobilenas: Mobilenas) -> None:
    """Weights that cannot be written end the search with a line; when there is space it goes on to its end."""
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], check=False).returncode:
        pytest.skip("NO FULL DISK HERE: unshare -rm may not mount a file system")
    config, url = tiny_run(tmp_path), f"sqlite:///{tmp_path}/record.db"
    where = ("--runs", tmp_path / "runs", "--database", url)
    first = mobilenas("search", "--config", config, "--name", "full", "--until", "refine", *where)
    assert first.code == 130, first.err
    trials = tmp_path / "runs" / "full" / "trials"
    copy = shutil.copytree(trials, tmp_path / "copy")
    # A file system of its own with the weights that there are and no room for more; nobody else sees it.
    size = sum(file.stat().st_size for file in copy.iterdir()) // 1024 + 4 * len(list(copy.iterdir())) + 64
    script = f"mount -t tmpfs -o size={size}k none {trials} && cp {copy}/* {trials}/ && exec " + " ".join(
        command("resume", "full", *where)
    )
    stopped = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=1200
    )
    assert stopped.returncode == 2, stopped.stdout + stopped.stderr
    assert "No space left on device" in stopped.stderr
    assert "free some space and resume" in stopped.stderr
    with closing(Store.open(url)) as store:
        record = store.searches.get("full")
        states = {each.state for each in store.trials.of(record.id)}
        assert State.FAILED not in states
        assert State.RUNNING in states
        done = mobilenas("resume", "full", *where)
        assert done.code == 0, done.err
        assert store.searches.get("full").stage is SearchStage.DONE
        assert State.RUNNING not in {each.state for each in store.trials.of(record.id)}


@pytest.mark.slow
def test_a_full_disk_is_told_apart_from_a_failure(tmp_path: Path) -> None:
    """An evaluation that finds no space says so; one that fails by another error of the system does not."""
    (tmp_path / "no_space.py").write_text(
        "import errno\n\n\ndef full(arch):\n    raise OSError(errno.ENOSPC, 'No space left on device')\n\n\n"
        "def denied(arch):\n    raise PermissionError(errno.EACCES, 'Permission denied')\n"
    )
    executor = LocalExecutor(1, job_seconds=600)
    told = {}
    for number, name in enumerate(("full", "denied")):
        plugin = Plugin(name=f"no_space:{name}", folder=str(tmp_path))
        evaluation = OwnEvaluation(architecture=mobilenet_v3_small_32px(), evaluator=plugin, content=plugin.content)
        executor.submit(Job(number=number, attempt=1, evaluation=evaluation))
        while not (results := executor.wait(1)):
            pass
        told[name] = results[0]
    executor.close()
    assert told["full"].is_disk_full
    assert not told["denied"].is_disk_full
    assert "Permission denied" in (told["denied"].error or "")
    assert errno.ENOSPC == 28


def test_a_clock_that_is_set_back_leaves_no_negative_time(store: Store) -> None:
    """A trial that seems to end before it began took no time, and is recorded as complete."""
    search = new_search(store)
    start = datetime(2026, 3, 1, 12, tzinfo=UTC)
    running = store.trials.start(search.id, trial(0, started_at=start))
    done = completed(running)
    store.trials.finish(search.id, replace(done, finished_at=start - timedelta(hours=3)), reward=0.5)
    (stored,) = store.trials.of(search.id)
    assert stored.state is State.COMPLETE
    assert trial_to_row(stored)["duration_s"] == 0.0


@pytest.mark.slow
def test_a_second_coordinator_is_refused(tmp_path: Path, mobilenas: Mobilenas) -> None:
    """Two who resume one search: the first runs it, the second hears so in one line and changes nothing."""
    config, url = write_run(tmp_path, seconds=0.0, blocks={"trials": 6}), f"sqlite:///{tmp_path}/record.db"
    gate = tmp_path / "gate"
    gate.touch()
    where = ("--runs", tmp_path / "runs", "--database", url)
    with subprocess.Popen(
        command("search", "--config", config, "--name", "one", *where), stdout=subprocess.DEVNULL
    ) as process:
        store = Store.open(url)
        while not store.searches.all() or not store.trials.of(store.searches.all()[0].id):
            assert process.poll() is None
        refused = mobilenas("resume", "one", *where)
        assert refused.code == 2
        assert "is being run by another process" in refused.err
        gate.unlink()
        assert process.wait(300) == 0
        record = store.searches.get("one")
        numbers = [each.number for each in store.trials.of(record.id)]
        store.close()
    assert record.stage is SearchStage.DONE
    assert numbers == list(range(len(numbers)))
