"""What the coordinator makes of its workers' results: retries, a full disk, reuse; evaluations run inline."""

from contextlib import closing
from pathlib import Path

import pytest
import yaml

import mobilenas
from search.record.store import Store
from search.trial import State, Trial
from space.errors import RunError
from tests.search.inline import InlineExecutor, use_inline
from tests.search.killing import write_run

EVALUATOR = """
import errno
from pathlib import Path

from space.cost import cost_of

SEEN = Path({folder!r})


def ms(arch):
    return cost_of(arch).madds / 1e6


def top1(arch):
    seen = SEEN / arch.arch_id
    with seen.open("a") as file:
        file.write("x")
    times, kernel = len(seen.read_text()), arch.stages[1].blocks[0].kernel_size
    {body}
    return 0.5 + kernel / 100
"""


@pytest.fixture
def executors(monkeypatch: pytest.MonkeyPatch) -> list[InlineExecutor]:
    """Those of the searches of a test."""
    return use_inline(monkeypatch)


def run(folder: Path, name: str, body: str, **blocks: object) -> mobilenas.Search:
    """A search whose evaluator runs these lines; it knows how often it was asked for a network."""
    settings = {"trials": 6, "sampler": "random", **blocks}
    path = write_run(folder, blocks=settings, netadapt={"max_steps": 0}, workers=2, determinism="eager")
    config = yaml.safe_load(path.read_text())
    (folder / "seen").mkdir(exist_ok=True)
    (folder / "slow_judge.py").write_text(EVALUATOR.format(folder=str(folder / "seen"), body=body))
    return mobilenas.search(
        {**config, "plugins": str(folder)}, name=name, database=url_of(folder), runs=folder / "runs"
    )


def url_of(folder: Path) -> str:
    """The record of a test."""
    return f"sqlite:///{folder / 'record.db'}"


def trials_of(folder: Path, name: str) -> list[Trial]:
    """The trials of a search that were not refused."""
    with closing(Store.open(url_of(folder))) as store:
        trials = store.trials.of(store.searches.get(name).id)
    return [trial for trial in trials if trial.state is not State.PRUNED]


def test_what_failed_once_is_tried_once_more(tmp_path: Path, executors: list[InlineExecutor]) -> None:
    """A first failure costs a second attempt, and no trial; nothing is submitted that was refused."""
    run(tmp_path, "one", "if times == 1: raise ValueError('not yet')")
    trials = trials_of(tmp_path, "one")
    assert [(trial.state, trial.attempt) for trial in trials] == [(State.COMPLETE, 2)] * 6
    (executor,) = executors
    assert sorted(job.number for job in executor.jobs) == sorted(2 * [trial.number for trial in trials])


def test_what_failed_twice_is_failed_and_replaced(tmp_path: Path, executors: list[InlineExecutor]) -> None:
    """Six networks have results in the end, whatever failed; a failure has its reason, and no weights."""
    run(tmp_path, "one", "if kernel == 5: raise ValueError('never')")
    trials = trials_of(tmp_path, "one")
    failed = [trial for trial in trials if trial.state is State.FAILED]
    assert failed
    assert {(trial.attempt, trial.error, trial.weights) for trial in failed} == {(2, "ValueError: never", None)}
    assert sum(trial.state is State.COMPLETE for trial in trials) == 6
    assert all(trial.architecture.stages[1].blocks[0].kernel_size == 5 for trial in failed)
    assert len(executors) == 1


@pytest.mark.parametrize("error", ["Diverged", "TimeLimit"])
def test_what_would_fail_again_is_failed_at_once(error: str, tmp_path: Path, executors: list[InlineExecutor]) -> None:
    """A training that diverged or took too long has no second attempt: its trial ends with the reason."""
    run(tmp_path, "one", f"from space.errors import {error}\n    if kernel == 5: raise {error}('this is why')")
    failed = [trial for trial in trials_of(tmp_path, "one") if trial.state is State.FAILED]
    assert failed
    assert {(trial.attempt, trial.error) for trial in failed} == {(1, "this is why")}
    assert len(executors) == 1


def test_a_full_disk_ends_the_search_and_not_the_trial(tmp_path: Path, executors: list[InlineExecutor]) -> None:
    """It stays running, the search says what to do, and goes on when there is space."""
    full = tmp_path / "full"
    full.touch()
    body = f"if len(list(SEEN.iterdir())) > 3 and Path({str(full)!r}).exists(): raise OSError(errno.ENOSPC, 'full')"
    with pytest.raises(RunError, match="free some space and resume"):
        run(tmp_path, "one", body)
    states = {trial.state for trial in trials_of(tmp_path, "one")}
    assert states == {State.COMPLETE, State.RUNNING}
    with closing(Store.open(url_of(tmp_path))) as store:
        assert "free some space" in str(store.searches.get("one").error)
    full.unlink()
    assert mobilenas.resume("one", database=url_of(tmp_path)).state == "done"
    assert {trial.state for trial in trials_of(tmp_path, "one")} == {State.COMPLETE}
    assert len(executors) == 2


def test_equal_evaluations_are_not_submitted_again(tmp_path: Path, executors: list[InlineExecutor]) -> None:
    """Unless that is wanted; either way no network has two trials in one search."""
    for name, reuse in (("one", True), ("two", True), ("three", False)):
        run(tmp_path, name, "pass", reuse=reuse)
        trials = trials_of(tmp_path, name)
        assert len({trial.architecture.arch_id for trial in trials}) == len(trials) == 6
    assert [len(executor.jobs) for executor in executors] == [6, 0, 6]


def test_networks_beyond_a_limit_are_not_submitted(tmp_path: Path, executors: list[InlineExecutor]) -> None:
    """But for the reference, which is trained whatever it costs."""
    run(tmp_path, "one", "pass")
    with closing(Store.open(url_of(tmp_path))) as store:
        aim = store.searches.get("one").require_start().seed_target_ms
    trials = {trial.number: trial for trial in trials_of(tmp_path, "one")}
    (executor,) = executors
    assert {job.number for job in executor.jobs} == set(trials)
    assert all(trial.scores.latency_ms <= aim * 1.05 for trial in trials.values() if trial.origin != "reference")
