"""What a driver of Ray makes of the cluster that it sees, without one."""

import os
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from ray.exceptions import NodeDiedError, RaySystemError, RayTaskError

from search.evaluation.executor import Finished
from search.evaluation.job import DataUse, Job, Training
from search.ray.cluster import Nodes, _probed, room_for
from search.ray.messages import Note, RunJob, Waiting, versions
from search.ray.tune import _ENDED, Jobs
from space.reference import mobilenet_v3_small_32px
from tests.tiny import RAY_HERE
from tests.waiting import HANGS_S
from trainer.training.recipe import Recipe

MISSING = ModuleNotFoundError("No module named 'search'")
LOST = NodeDiedError("lost")  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("need", "room"),
    [
        ({"CPU": 1.0, "GPU": 0.0}, 10),
        ({"CPU": 3.0, "GPU": 0.0}, 2),
        ({"CPU": 1.0, "GPU": 0.5}, 4),
        ({"CPU": 1.0, "GPU": 0.1}, 8),
        ({"CPU": 1.0, "jetson": 1.0}, 0),
        ({"CPU": 0.1, "GPU": 0.0}, 100),
    ],
)
def test_room_is_that_of_the_living_nodes(need: dict[str, float], room: int) -> None:
    """A trial fits into a node as often as its scarcest resource allows, and never into two; the dead have no room."""
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 2.0}},
        {"Alive": True, "Resources": {}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0, "jetson": 1.0}},
    ]
    assert room_for(nodes, need) == room


def numbered(number: int, processes: int = 1) -> Job:
    """A training."""
    use = DataUse(content_hash="x", reward_fraction=0.1, split_seed=0, train_images=None, reward_images=1)
    evaluation = Training(
        architecture=mobilenet_v3_small_32px(), data=use, recipe=Recipe(images=1), seed=0, processes=processes
    )
    return Job(number=number, attempt=1, evaluation=evaluation)


@pytest.mark.parametrize("answer", [RunJob(numbered(2)), Waiting(1)])
def test_after_an_ending_the_coordinator_has_its_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: RunJob | Waiting
) -> None:
    """Tune gets the job that answers the ending of another one at once, or hears that there is none."""
    monkeypatch.setattr("search.ray.tune._ANSWER_S", HANGS_S)
    monkeypatch.setattr("search.ray.tune.ray.get", lambda _: None)
    answers: list[threading.Thread] = []

    def tell(message: object) -> None:
        if isinstance(message, Finished):
            answers.append(threading.Thread(target=jobs.hear, args=(answer,)))

    jobs = Jobs(MagicMock(), replace(RAY_HERE, folder=tmp_path), tell)
    for number in range(2):
        jobs.hear(RunJob(numbered(number)))
        assert jobs.suggest(f"tune-{number}")["key"] == f"{number}-1"
    jobs._given = None  # as after a look for a slot to free
    jobs.on_trial_result("tune-0", {_ENDED: True})
    (thread,) = answers
    threading.Timer(0.1, thread.start).start()
    suggested = jobs.suggest("tune-2")
    assert (suggested or {}).get("key") == ("2-1" if isinstance(answer, RunJob) else None)
    thread.join()


def test_a_training_that_finds_no_room_is_told_of_once(tmp_path: Path) -> None:
    """Two processes in a cluster with room for one wait, and the note names the setting; with room there is none."""
    told: list[object] = []
    jobs = Jobs(None, replace(RAY_HERE, folder=tmp_path), told.append)
    jobs._jobs_together["7-1"] = numbered(7, processes=2)
    jobs.felt({}, 2)
    assert told == []
    for _ in range(2):
        jobs.felt({}, 1)
    (note,) = told
    assert isinstance(note, Note)
    assert "trial 7 waits for room: 2 processes (ray.final_processes)" in note.text
    assert "room for 1" in note.text


class Answers:
    """Stands for what Ray has of the nodes' answers: each is given, or raised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.next: object = None
        self.now = 1000.0
        self.coordinator = SimpleNamespace(pulse=SimpleNamespace(remote=lambda: "pulse"))
        monkeypatch.setattr("search.ray.cluster.ray.get", self._get)
        monkeypatch.setattr("search.ray.cluster.time.monotonic", lambda: self.now)

    def _get(self, reference: object, timeout: float | None = None) -> object:  # noqa: ARG002 - as Ray's
        if reference != "answer":
            return {}  # the coordinator's actor is there
        if isinstance(self.next, Exception):
            raise self.next
        return self.next


def raised(cause: Exception) -> RayTaskError:
    """How Ray tells that a task raised something."""
    return RayTaskError("_probed", "", cause, proctitle="", pid=1, ip="10.0.0.2")  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("cause", [MISSING, RaySystemError(MISSING, "its traceback")])  # type: ignore[no-untyped-call]
def test_a_node_that_cannot_even_be_tried_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: Exception
) -> None:
    """Where mobilenas is missing Ray raises in our place: that is no loss, which would be tried again without end."""
    answers = Answers(monkeypatch)
    nodes = Nodes(replace(RAY_HERE, folder=tmp_path), answers.coordinator)
    answers.next = raised(cause)
    assert nodes._problem("a", "answer") == "ModuleNotFoundError: No module named 'search'"


@pytest.mark.parametrize("loss", [LOST, raised(LOST)])
def test_a_node_that_is_lost_while_it_is_tried_may_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: Exception
) -> None:
    """It is tried again while Ray may not have noticed yet; one that lives and is lost on and on is told of."""
    answers = Answers(monkeypatch)
    nodes = Nodes(replace(RAY_HERE, folder=tmp_path), answers.coordinator)
    answers.next = loss
    assert nodes._problem("a", "answer") is None
    answers.now += 60
    assert nodes._problem("a", "answer") is None
    answers.now += 60
    assert str(nodes._problem("a", "answer")).startswith("NodeDiedError")
    answers.next = None
    assert nodes._problem("a", "answer") is None
    answers.next = loss
    assert nodes._problem("a", "answer") is None


def test_a_node_with_another_version_is_unfit(tmp_path: Path) -> None:
    """Equal evaluations would not have equal results; the answer names both."""
    problem = _probed(replace(RAY_HERE, folder=tmp_path), {**versions(), "torch": "1.0"}, "token")
    assert problem is not None
    assert "'torch': '1.0'" in problem
    assert "install the same versions" in problem


def test_a_node_without_a_folder_for_its_things_is_unfit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's reason is the answer, be the disk full or something in the way."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"mobilenas-{os.getuid()}").touch()
    problem = _probed(replace(RAY_HERE, folder=tmp_path), versions(), "token")
    assert problem is not None
    assert "File exists" in problem
    assert "look at its disks" in problem
