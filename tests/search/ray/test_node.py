"""What a node gets for a trial, and what it makes of what is wrong: two folders here stand for two machines."""

import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from search.evaluation.job import DataUse, Job, OwnEvaluation, Parent, Training
from search.plugins import Plugin
from search.ray.node import NodeWorker, Pieces, RemoteFiles, Result, data_name, delivered, pieces_of
from space.errors import DataError, RunError
from space.reference import mobilenet_v3_small_32px
from tests.tiny import dark_and_bright
from tests.waiting import HANGS_S
from trainer.data.dataset import Dataset
from trainer.data.prepare import prepare
from trainer.training.recipe import Endless, Recipe
from trainer.training.state import TrainingState

NOWHERE = Path("/nowhere")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two classes of ten pictures."""
    folder = dark_and_bright(tmp_path_factory.mktemp("pictures"), each=10, pixels=16)
    return prepare(f"imagefolder:{folder}", resolution=16, data_dir=None, cache=tmp_path_factory.mktemp("cache"))


@dataclass
class Coordinator:
    """Gives nodes what lies in a folder, whatever path they ask for, and counts how often."""

    folder: Path
    modules: Mapping[str, bytes] = field(default_factory=dict)
    damage: bytes = b""
    asked: int = 0

    def _files(self, _: Path) -> Pieces:
        self.asked += 1
        return {path.name: self._pieces(path) for path in self.folder.iterdir()}

    def _pieces(self, path: Path) -> Iterator[bytes]:
        for piece in pieces_of(path):
            yield piece if path.name != "images.npy" or not self.damage else piece[: -len(self.damage)] + self.damage

    def _sources(self, _: str) -> Mapping[str, bytes]:
        self.asked += 1
        return self.modules

    def node_worker(self, folder: Path) -> NodeWorker:
        """A node's, which keeps its things in a folder."""
        remote = RemoteFiles(files=self._files, content=Path.read_bytes, sources=self._sources)
        return NodeWorker(folder, remote, job_seconds=HANGS_S, threads=1)


def test_data_reach_a_node_once_and_are_found_whole(dataset: Dataset, tmp_path: Path) -> None:
    """What the coordinator alone sees is sent to a node, with the same content, and is there for all later trials."""
    coordinator = Coordinator(dataset.folder)
    for _ in range(2):
        found = coordinator.node_worker(tmp_path / "node").data(NOWHERE, dataset.content_hash, measure=True)
        assert found.is_relative_to(tmp_path / "node")
        assert Dataset.open(found).measured_hash() == dataset.content_hash
    assert coordinator.asked == 1


def test_a_supernet_reaches_a_node_once(dataset: Dataset, tmp_path: Path) -> None:
    """All trials of a search have the same file there, for which the coordinator is asked once."""
    there, coordinator = tmp_path / "supernet.safetensors", Coordinator(tmp_path)
    there.write_bytes(b"weights")
    job = Job(
        number=0,
        attempt=1,
        evaluation=Training(
            architecture=mobilenet_v3_small_32px(),
            data=DataUse(
                content_hash=dataset.content_hash,
                reward_fraction=0.2,
                split_seed=0,
                train_images=None,
                reward_images=4,
            ),
            recipe=None,
            seed=0,
            parent_key="abc",
            shares=True,
        ),
        data_folder=dataset.folder,
        parent=Parent(architecture=mobilenet_v3_small_32px(), weights=there),
        begun=tmp_path / "rung-before.checkpoint",
    )
    (tmp_path / "rung-before.checkpoint").write_bytes(b"state")
    found = []
    for number in range(2):
        node, scratch = coordinator.node_worker(tmp_path / "node"), tmp_path / f"scratch-{number}"
        scratch.mkdir()
        prepared = job.evaluation.on_node(job, node, scratch)
        assert prepared.parent is not None
        found.append(prepared.parent.weights)
        assert prepared.begun is not None
        assert (prepared.begun.parent, prepared.begun.read_bytes()) == (scratch, b"state"), "a race goes on there"
        there.unlink(missing_ok=True)
    assert found[0] == found[1]
    assert found[0].read_bytes() == b"weights"


def test_data_that_a_node_sees_are_not_sent(dataset: Dataset, tmp_path: Path) -> None:
    """On the coordinator's machine, or where its folder is shared, the data stay where they are."""
    coordinator = Coordinator(dataset.folder)
    assert coordinator.node_worker(tmp_path).data(dataset.folder, dataset.content_hash, measure=True) == dataset.folder
    assert coordinator.asked == 0


def test_data_that_were_damaged_on_their_way_do_not_stay(dataset: Dataset, tmp_path: Path) -> None:
    """Wrong bytes are an error, after which nothing is left that a later trial could take for the data."""
    node_worker = Coordinator(dataset.folder, damage=b"?!").node_worker(tmp_path)
    with pytest.raises(DataError, match=f"data {dataset.content_hash} reached this node as "):
        node_worker.data(NOWHERE, dataset.content_hash)
    assert list(tmp_path.iterdir()) == []


def test_data_that_were_damaged_later_are_seen_when_measured(dataset: Dataset, tmp_path: Path) -> None:
    """The names and hashes in a folder are only what it says of itself."""
    node_worker = Coordinator(dataset.folder).node_worker(tmp_path)
    folder = node_worker.data(NOWHERE, dataset.content_hash)
    content = bytearray((folder / "images.npy").read_bytes())
    content[-1] ^= 1
    (folder / "images.npy").write_bytes(content)
    assert node_worker.data(NOWHERE, dataset.content_hash) == folder
    with pytest.raises(DataError, match=r"is damaged; remove that folder"):
        node_worker.data(NOWHERE, dataset.content_hash, measure=True)


def own(folder: Path) -> tuple[Job, Mapping[str, bytes]]:
    """A job of an own evaluator whose folder is on no other machine, and its modules."""
    folder.mkdir()
    (folder / "judge.py").write_text("def top1(arch): return 0.25\n")
    plugin = Plugin(name="judge:top1", folder=str(folder))
    evaluation = OwnEvaluation(architecture=mobilenet_v3_small_32px(), evaluator=plugin, content=plugin.content)
    return Job(number=3, attempt=1, evaluation=evaluation), plugin.sources


def result_of(node_worker: NodeWorker, job: Job) -> Result:
    """What becomes of a job."""
    try:
        node_worker.start(job)
        result = node_worker.look(HANGS_S)
    finally:
        node_worker.close()
    assert result is not None
    assert result.finished.job == job
    return result


@pytest.mark.slow
def test_an_evaluator_reaches_a_node(tmp_path: Path) -> None:
    """Its modules are sent where its folder is not, and give the same content and result."""
    job, sources = own(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "gone")
    coordinator = Coordinator(tmp_path, modules=sources)
    finished = result_of(coordinator.node_worker(tmp_path / "node"), job).finished
    assert finished.error is None
    assert finished.outcome is not None
    assert finished.outcome.top1 == 0.25
    assert coordinator.asked == 1


def training(dataset: Dataset, folder: Path) -> Job:
    """A training on data that lie elsewhere."""
    use = DataUse(
        content_hash=dataset.content_hash, reward_fraction=0.2, split_seed=0, train_images=10, reward_images=4
    )
    evaluation = Training(
        architecture=mobilenet_v3_small_32px(width=0.25, resolution=16, num_classes=2),
        data=use,
        recipe=Recipe(images=10, batch_size=5),
        seed=1,
    )
    return Job(number=0, attempt=1, evaluation=evaluation, data_folder=NOWHERE, weights=folder / "0.safetensors")


@pytest.mark.slow
def test_a_training_on_sent_data_gives_its_weights_back(dataset: Dataset, tmp_path: Path) -> None:
    """The weights come with the result, and nothing of the trial stays at the node but the data."""
    result = result_of(Coordinator(dataset.folder).node_worker(tmp_path / "node"), training(dataset, tmp_path))
    assert result.finished.error is None
    assert result.weights
    assert [path.name for path in (tmp_path / "node").iterdir()] == [data_name(dataset.content_hash)]
    assert not (tmp_path / "0.safetensors").exists()


@pytest.mark.slow
def test_a_longer_training_goes_on_at_another_node(dataset: Dataset, tmp_path: Path) -> None:
    """The checkpoint that a training keeps comes back with its result, and goes to the node that trains it further."""
    coordinator, first = Coordinator(dataset.folder), training(dataset, tmp_path)
    evaluation = first.evaluation
    assert isinstance(evaluation, Training)
    endless = Recipe(images=10, batch_size=5, schedule=Endless())
    first = replace(first, evaluation=replace(evaluation, recipe=endless), keeps_checkpoint=True)
    first = replace(first, checkpoint=tmp_path / "0.checkpoint")
    delivered(result_of(coordinator.node_worker(tmp_path / "node"), first), first, None)
    assert first.checkpoint is not None
    state = TrainingState.read(first.checkpoint)
    assert state.steps == 2
    replace(state, seconds=1000.0).write(first.checkpoint)
    longer = replace(evaluation, recipe=replace(endless, images=20))
    second = replace(first, number=1, evaluation=longer, begun=first.checkpoint, checkpoint=tmp_path / "1.checkpoint")
    delivered(result_of(coordinator.node_worker(tmp_path / "other node"), second), second, None)
    assert second.checkpoint is not None
    state = TrainingState.read(second.checkpoint)
    assert state.steps == 4
    assert state.seconds > 1000  # it was gone on from, not begun anew


def test_a_full_disk_is_told_with_the_name_of_its_machine(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search ends with that, on another machine than the one where space is to be made."""
    node_worker = Coordinator(dataset.folder).node_worker(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(NodeWorker, "_publish", full)
    monkeypatch.setattr("platform.node", lambda: "attic")
    finished = result_of(node_worker, training(dataset, tmp_path)).finished
    assert finished.is_disk_full
    assert finished.error is not None
    assert finished.error.startswith("node attic: OSError")


def test_what_a_node_keeps_is_for_nobody_else(tmp_path: Path) -> None:
    """The folder is made, or made to be, closed to others: modules are loaded from it, and photos lie there."""
    for folder in (tmp_path / "new", tmp_path / "open"):
        if folder.name == "open":
            folder.mkdir(mode=0o755)
        Coordinator(tmp_path).node_worker(folder)
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    """Who makes it first could put modules into it, or swap them."""
    others = tmp_path / "others"
    others.mkdir()
    os.chown(others, 12345, 12345)
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (others, tmp_path / "link"):
        with pytest.raises(RunError, match=r"belongs to somebody else; set TMPDIR"):
            Coordinator(tmp_path).node_worker(folder)
