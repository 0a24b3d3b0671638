"""A race that is killed, loses its workers or its checkpoints, or runs elsewhere ends like one that was left alone."""

import json
from contextlib import closing
from pathlib import Path

import pytest
import torch

from search.evaluation.executor import failed
from search.evaluation.job import Job, Training
from search.record.store import Store
from space.errors import RunError
from tests.search.inline import InlineExecutor, killed_after, use_inline
from tests.search.races import IMAGES, race_in, run, told, trials_of
from trainer.training.state import TrainingState


@pytest.fixture(scope="module")
def alone(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The trials of a race that nobody disturbed."""
    folder, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pytest.MonkeyPatch.context() as patched:
            use_inline(patched)
            run(folder, race_in(folder, photos))
    finally:
        torch.set_num_threads(threads)
    return told(trials_of(folder))


class Killed(BaseException):
    """The coordinator ended here."""


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("job", [3, 7, 10, 12])
def test_a_race_that_was_killed_ends_like_one_left_alone(
    job: int,
    tmp_path: Path,
    photos: Path,
    alone: list[object],
    executors: list[InlineExecutor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In each of its rungs and in the final trainings: the same networks go on, with the same scores."""
    with killed_after(monkeypatch, job - 1, by=Killed), pytest.raises(Killed):
        run(tmp_path, race_in(tmp_path, photos))
    run(tmp_path, {})
    assert told(trials_of(tmp_path)) == alone
    assert len(executors) == 2


@pytest.mark.usefixtures("one_thread")
def test_workers_that_die_on_each_rung_change_nothing(
    tmp_path: Path,
    photos: Path,
    alone: list[object],
    executors: list[InlineExecutor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first training of every rung and the first final one are lost, and done again with the same result."""
    submit, died = InlineExecutor.submit, set[int]()

    def dying(self: InlineExecutor, submitted: Job) -> None:
        training = submitted.evaluation
        assert isinstance(training, Training)
        images = 0 if training.recipe is None else training.recipe.images
        if images not in died:
            died.add(images)
            self.jobs.append(submitted)
            self._results.append(failed(submitted, RunError("the worker died")))
        else:
            submit(self, submitted)

    monkeypatch.setattr(InlineExecutor, "submit", dying)
    assert run(tmp_path, race_in(tmp_path, photos)).state == "done"
    assert died >= {*IMAGES, 160}
    assert told(trials_of(tmp_path)) == alone
    (executor,) = executors
    assert len(executor.jobs) == len({job.number for job in executor.jobs}) + len(died)


@pytest.mark.usefixtures("one_thread")
def test_a_record_from_before_is_gone_on_with(
    tmp_path: Path, photos: Path, alone: list[object], executors: list[InlineExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose configuration lacks what has come since: a race that was killed in its second rung ends as it would."""
    with killed_after(monkeypatch, 7, by=Killed), pytest.raises(Killed):
        run(tmp_path, race_in(tmp_path, photos))
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        record = store.searches.get("race")
        config = json.loads(json.dumps(dict(record.config)))
        del config["html"], config["race"]["minutes"], config["blocks"]["warm_start"]
        store.searches.set_config(record.id, config)
    assert run(tmp_path, {}).state == "done"
    assert told(trials_of(tmp_path)) == alone
    assert len(executors) == 2


@pytest.mark.usefixtures("one_thread")
def test_lost_checkpoints_cost_time_alone(
    tmp_path: Path,
    photos: Path,
    alone: list[object],
    executors: list[InlineExecutor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rung whose beginning is gone is trained from its own beginning, and ends alike."""
    monkeypatch.setattr(TrainingState, "write", lambda *_, **__: None)
    run(tmp_path, race_in(tmp_path, photos))
    assert told(trials_of(tmp_path)) == alone
    assert [job for job in executors[0].jobs if job.begun is not None] == []


@pytest.mark.usefixtures("one_thread")
def test_a_second_race_trains_nothing_again(tmp_path: Path, photos: Path, executors: list[InlineExecutor]) -> None:
    """Rungs are evaluations like any other: those of an earlier search are taken over."""
    config = race_in(tmp_path, photos, blocks={"reuse": True})
    run(tmp_path, config, "first")
    run(tmp_path, config, "second")
    stages = [{evaluation.recipe.images for job in each.jobs if (evaluation := of(job)).recipe} for each in executors]
    assert stages == [{32, 64, 96, 160}, {160}]  # what meets the test split belongs to its search


def of(job: Job) -> Training:
    """What a job trains."""
    assert isinstance(job.evaluation, Training)
    return job.evaluation


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_a_race_ends_alike_on_every_executor(executor: str, tmp_path: Path, photos: Path, alone: list[object]) -> None:
    """Processes of this machine, or workers of Ray: the trials are those of trainings one after the other."""
    assert run(tmp_path, race_in(tmp_path, photos, executor=executor)).state == "done"
    assert told(trials_of(tmp_path)) == alone
