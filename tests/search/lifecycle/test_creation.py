"""Starting searches: their names, their folders, and what is recorded of their data."""

import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from search.config.load import parse_config
from search.events import Listener
from search.lifecycle.creation import SearchRequest, begin, create, enqueue
from search.plan import Inputs, available_cores, compute_device, look_up
from search.record.store import Store
from space.errors import MobilenasError, RunError
from tests.search.killing import write_run
from tests.tiny import dark_and_bright
from trainer.training.networks import visible_gpus


def inputs_of(folder: Path, **changes: object) -> Inputs:
    """A search that a function judges and whose latency another one predicts: nothing is measured or trained."""
    import yaml

    path = write_run(folder, seconds=0.0)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return look_up(parse_config({**content, "plugins": str(folder), **changes}).from_anywhere())


def test_unnamed_searches_that_begin_at_once_take_the_next_numbers(tmp_path: Path, database_url: str) -> None:
    """Three that measured at the same time are all recorded, each under its own name and in its own folder."""
    inputs, request = inputs_of(tmp_path), SearchRequest(owner="ada")
    together = threading.Barrier(3)
    names: list[str] = []

    class Waits(Listener):
        """Goes on from measuring when all three have come so far."""

        def note(self, text: str) -> None:
            if "networks of the space take" in text:
                together.wait(timeout=60)

    def start() -> None:
        with closing(Store.open(database_url)) as store:
            names.append(create(store, inputs, tmp_path / "runs", Waits(), request).name)

    Store.open(database_url).close()
    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert sorted(names) == ["none-local-1", "none-local-2", "none-local-3"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(names)


def test_a_name_that_another_record_took_is_passed_over(tmp_path: Path) -> None:
    """The same folder of runs with two records: the second search takes the next number."""
    inputs, request = inputs_of(tmp_path), SearchRequest(owner="ada")
    names = []
    for record in ("one", "two"):
        with closing(Store.open(f"sqlite:///{tmp_path / record}.db")) as store:
            names.append(create(store, inputs, tmp_path / "runs", Listener(), request).name)
    assert names == ["none-local-1", "none-local-2"]


def test_a_named_search_is_refused_where_its_name_is_taken(tmp_path: Path) -> None:
    """Nobody's name is changed: the second one is told how to resume the first."""
    inputs, request = inputs_of(tmp_path, name="mine"), SearchRequest(owner="ada")
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        create(store, inputs, tmp_path / "runs", Listener(), request)
        with pytest.raises(MobilenasError, match="mobilenas resume mine"):
            create(store, inputs, tmp_path / "elsewhere", Listener(), request)


def test_facts_of_the_data_are_recorded(tmp_path: Path) -> None:
    """Classes, preprocessing and labels of the test split are in the record, whatever becomes of the pictures."""
    photos = dark_and_bright(tmp_path / "photos", each=10, pixels=16)
    (photos / "dark" / "notes.txt").write_text("x", encoding="utf-8")
    (photos / "dark" / "0.png").write_bytes(b"")
    source = {
        "data": {"source": f"imagefolder:{photos}", "resolution": 32, "reward_images": 2, "skip_damaged": True},
        "evaluator": None,
    }
    inputs = inputs_of(tmp_path, **source)
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        record = create(store, inputs, tmp_path / "runs", Listener(), SearchRequest(owner="ada"))
        facts = store.searches.get(record.name).require_start().data_facts
    assert facts is not None
    assert facts == inputs.data.facts
    assert facts.classes == ("bright", "dark")
    assert facts.skipped == ("dark/0.png",)
    assert facts.left_out == ("1 .txt files",)
    assert sum(test for *_, test in facts.images) == len(facts.test_labels)


def test_a_queued_search_tells_of_its_data(tmp_path: Path) -> None:
    """Nobody saw its plan, so its log has what was left out."""
    photos = dark_and_bright(tmp_path / "photos", each=10, pixels=16)
    (photos / "dark" / "notes.txt").write_text("x", encoding="utf-8")
    source = {"source": f"imagefolder:{photos}", "resolution": 32, "reward_images": 2}
    inputs = inputs_of(tmp_path, data=source, evaluator=None)
    heard: list[str] = []

    class Hears(Listener):
        """Keeps what it is told."""

        def note(self, text: str) -> None:
            heard.append(text)

    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        begin(store, enqueue(store, inputs.config, SearchRequest(owner="ada")), tmp_path / "runs", Hears())
    assert heard[0] == "data: not used: 1 .txt files"


@pytest.mark.parametrize(
    ("training", "gpus", "device", "workers"),
    [
        ({}, 0, "cpu", len(available_cores())),
        ({"device": "cpu"}, 2, "cpu", len(available_cores())),
        ({}, 2, "cuda", 2),
        ({"workers_per_gpu": 3}, 2, "cuda", 6),
        ({"device": "cuda"}, 1, "cuda", 1),
    ],
)
def test_trials_run_where_a_gpu_is(
    training: dict[str, object],
    gpus: int,
    device: str,
    workers: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By default on GPUs if there are any, so many on each as may share it; on a CPU one per core."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    inputs = inputs_of(tmp_path, training=training, workers=None)
    assert (compute_device(inputs.config), inputs.workers) == (device, workers)
    assert replace(inputs, config=inputs.config.model_copy(update={"workers": 5})).workers == 5


def test_visible_gpus_are_those_that_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may use GPUs 3 and 5 alone hands out these."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert visible_gpus() == ("3", "5")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus() == ("0", "1")


def test_a_gpu_that_is_not_there_is_told_first(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is to train on one is refused in one line before anything is measured; a plan and a kit are not."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    inputs = inputs_of(tmp_path, training={"device": "cuda"})
    with closing(Store.open(database_url)) as store, pytest.raises(RunError, match="sees no GPU here"):
        create(store, inputs, tmp_path / "runs", Listener(), SearchRequest(owner="ada"))
    assert not (tmp_path / "runs").exists()


def test_a_search_remembers_where_it_trains(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was begun on a CPU is not gone on with in half precision where there is a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with closing(Store.open(database_url)) as store:
        record = create(store, inputs_of(tmp_path), tmp_path / "runs", Listener(), SearchRequest(owner="ada"))
    assert record.config["training"]["device"] == "cpu"
