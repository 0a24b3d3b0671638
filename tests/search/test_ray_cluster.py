"""What a driver of Ray makes of the cluster that it sees, without one."""

from pathlib import Path

import pytest

from search.job import DataUse, Evaluation, Job
from search.ray_cluster import room_for
from search.ray_setup import Note, Setup
from search.ray_tune import Jobs
from space.reference import mobilenet_v3_small_32px
from trainer.train import Recipe


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


def test_a_training_that_finds_no_room_is_told_of_once(tmp_path: Path) -> None:
    """Two processes in a cluster with room for one wait, and the note names the setting; with room there is none."""
    use = DataUse(content_hash="x", reward_fraction=0.1, split_seed=0, train_images=None, reward_images=1)
    evaluation = Evaluation(
        architecture=mobilenet_v3_small_32px(), data=use, recipe=Recipe(images=1), seed=0, processes=2
    )
    setup = Setup(address=None, local_cpus=1, cpus=1, gpus=0, resources={}, retries=0, job_seconds=1, folder=tmp_path)
    told: list[object] = []
    jobs = Jobs(None, setup, told.append)
    jobs._jobs_together["7-1"] = Job(number=7, attempt=1, evaluation=evaluation)
    jobs.felt({}, 2)
    assert told == []
    for _ in range(2):
        jobs.felt({}, 1)
    (note,) = told
    assert isinstance(note, Note)
    assert "trial 7 waits for room: 2 processes (ray.final_processes)" in note.text
    assert "room for 1" in note.text
