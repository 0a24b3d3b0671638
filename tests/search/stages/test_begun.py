"""Searches with `init`: all networks begin with published weights, each with what it shares with their network."""

import hashlib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import mobilenas
from search.config.load import parse_config
from search.evaluation.data import Images
from search.evaluation.job import Training
from search.events import Listener
from search.lifecycle.creation import SearchRequest, begin, enqueue
from search.plan import look_up
from search.record.store import Store
from search.reports.history import History
from search.reports.recorded_search import RecordedSearch
from search.run_folder import RunFolder
from search.stages.blocks import choose_seed
from search.trial import Origin, SearchStage, State, Trial
from space.arch import Architecture
from space.errors import DataError, InvalidConfig, MobilenasError, RunError
from space.networks.modules import fused
from space.reference import REFERENCES
from tests.search.inline import InlineExecutor, killed_after
from tests.search.races import race_in
from trainer.pretrained.dialects import translated
from trainer.training.inherit import adapted
from trainer.training.networks import Weights, channels_last, load_model, new_model
from trainer.training.train import Teacher, train
from trainer.training.weight_files import read_weights

pytestmark = pytest.mark.usefixtures("one_thread")

PUBLISHED = REFERENCES["mobilenet_v3_small"](width=0.35)


def published(folder: Path) -> Path:
    """A file as torchvision's, of MobileNetV3-Small at width 0.35."""
    torch.save(translated(dict(new_model(PUBLISHED, 7).state_dict()), PUBLISHED, "torchvision"), folder / "v3.pth")
    return folder / "v3.pth"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Such a file."""
    return published(tmp_path)


def config_in(folder: Path, photos: Path, weights: Path, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - sections
    """A race of three networks of the space around that one."""
    rungs = [{"images": 32, "networks": 3}, {"images": 64, "networks": 2}]
    content = race_in(folder, photos, init=str(weights), race={"rungs": rungs, "latency_from": 0.3}, **changes)
    return content | {
        "space": changes.get("space", {}),
        "target": {"relative": 0.8},
        "final": {"images": 128, "top_k": 1, "weights": "continued"},
    }


def search(folder: Path, config: dict[str, Any]) -> mobilenas.Search:
    """To its end."""
    return mobilenas.search(config, name="begun", database=f"sqlite:///{folder / 'record.db'}", runs=folder / "runs")


def trials_of(folder: Path, stage: SearchStage) -> list[Trial]:
    """The completed trials of a stage."""
    with closing(Store.open(f"sqlite:///{folder / 'record.db'}")) as store:
        trials = store.trials.of(store.searches.get("begun").id, stage)
    return [trial for trial in trials if trial.state is State.COMPLETE]


@pytest.mark.slow
def test_all_networks_begin_with_what_they_share_with_the_published_one(
    tmp_path: Path, photos: Path, weights: Path, executors: list[InlineExecutor]
) -> None:
    """The reference is fine-tuned, the others begin with it and learn from it; a race's go on as if trained at once."""
    config = config_in(tmp_path, photos, weights)
    found = search(tmp_path, config)
    inputs = look_up(parse_config(config))
    assert (inputs.space.preset.name, inputs.space.width) == ("mobilenet-v3-small", 0.35)
    assert isinstance(inputs.data, Images)
    dataset, splits, reference = inputs.data.dataset, inputs.data.splits, inputs.space.reference
    begun = load_file(RunFolder(found.folder).start_weights)
    folded, theirs = begun["stage1_block1.depthwise.conv.weight"], torch.load(weights)["features.1.block.0.0.weight"]
    assert torch.equal(folded, theirs), "the weights of the run are the published ones"

    settings = parse_config(config)
    of_start = train(reference, dataset, splits.train, settings.final_recipe, seed=0, weights=begun).weights
    teacher = Teacher(answer=channels_last(fused(load_model(reference, of_start))), identity="the reference")

    def alone(arch: Architecture, images: int, *, is_final: bool) -> Weights:
        if arch == reference:
            return of_start
        recipe = settings.final_recipe if is_final else settings.rung_recipe(images)
        mine = adapted(reference, of_start, arch, seed=0)
        return train(arch, dataset, splits.train, recipe, seed=0, weights=mine, teacher=teacher).weights

    files = RunFolder(found.folder)
    blocks, finals = (trials_of(tmp_path, stage) for stage in (SearchStage.BLOCKS, SearchStage.FINAL))
    start, *raced = blocks
    assert (start.origin, start.architecture, start.images_seen) == (Origin.START, reference, 128)
    assert [[each.images_seen for each in raced if each.rung == rung] for rung in (0, 1)] == [[32] * 3, [64] * 2]
    made_by = {job.number: job.evaluation for job in executors[0].jobs}
    ends = [trial for trial in finals if trial.origin != Origin.FOUND]
    assert {trial.origin for trial in ends} == {Origin.CANDIDATE, Origin.BASELINE, Origin.REFERENCE}
    for trial in (*blocks, *ends):
        evaluation = made_by[trial.number]
        assert isinstance(evaluation, Training)
        assert evaluation.adapts
        expected = alone(trial.architecture, trial.images_seen, is_final=trial in ends)
        kept = read_weights(files.weights(trial))
        assert all(torch.equal(kept[name], tensor) for name, tensor in expected.items())
    trained = {job.number for job in executors[0].jobs if job.begun is None}
    assert not trained & {trial.number for trial in ends if trial.origin == Origin.REFERENCE}, "it was trained before"
    report = (found.folder / "report.md").read_text(encoding="utf-8")
    assert f"from what they share with the fine-tuned network of {weights}" in report.replace("\n", " ")


@pytest.mark.slow
def test_a_search_goes_on_with_its_own_copy(
    tmp_path: Path, photos: Path, weights: Path, executors: list[InlineExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file that it was given is gone; a copy that has changed is refused."""
    with killed_after(monkeypatch, 2), pytest.raises(KeyboardInterrupt):
        search(tmp_path, config_in(tmp_path, photos, weights))
    weights.unlink()
    copy = RunFolder(tmp_path / "runs" / "begun").start_weights
    content, url = copy.read_bytes(), f"sqlite:///{tmp_path / 'record.db'}"
    copy.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RunError, match=r"start.safetensors is not what search 'begun' began with .* restore it"):
        mobilenas.resume("begun", database=url)
    copy.unlink()
    with pytest.raises(RunError, match=r"start.safetensors cannot be read \(No such file"):
        mobilenas.resume("begun", database=url)
    copy.write_bytes(content)
    mobilenas.resume("begun", database=url)
    assert len([trial for trial in trials_of(tmp_path, SearchStage.BLOCKS) if trial.rung == 1]) == 2
    assert executors


@pytest.mark.slow
def test_narrowed_networks_inherit_from_those_that_were_trained(
    tmp_path: Path, photos: Path, weights: Path, executors: list[InlineExecutor]
) -> None:
    """In a search by counts only the first training of each network begins with the given weights."""
    config = config_in(tmp_path, photos, weights) | {
        "race": {"rungs": []},
        "blocks": {"trials": 2, "train_images": 32, "reuse": False},
        "netadapt": {"max_steps": 1, "images": 16, "delta": 0.05, "walk": 0.0, "steps": "fixed"},
        "final": {"images": 32},
        "target": {"relative": 0.97},
    }
    search(tmp_path, config)
    for job in executors[0].jobs:
        assert isinstance(job.evaluation, Training)
        walked = SearchStage.NETADAPT in {
            trial.stage for trial in trials_of(tmp_path, SearchStage.NETADAPT) if trial.number == job.number
        }
        assert job.evaluation.adapts == (job.evaluation.recipe is not None and not walked)
    blocks = trials_of(tmp_path, SearchStage.BLOCKS)
    assert [trial.origin for trial in blocks][:2] == [Origin.START, Origin.REFERENCE]
    assert len(blocks) == 3
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        record = store.searches.get("begun")
        rewards = store.trials.rewards(record.id)
        chosen = choose_seed(RecordedSearch(store, record))
        best = History.read(store, "begun").networks()
    assert {trial.number for trial in blocks} - set(rewards) == {blocks[0].number}
    assert chosen.number != blocks[0].number, "it was trained for longer than those that compete"
    assert blocks[0].number not in {trial.number for trial in best}


@pytest.mark.slow
def test_who_is_ranked_by_rewards_is_judged_alike(
    tmp_path: Path, photos: Path, weights: Path, executors: list[InlineExecutor]
) -> None:
    """What all begin with was judged on more images than those of the first rung, and competes with none of them."""
    config = config_in(tmp_path, photos, weights)
    search(tmp_path, config | {"data": config["data"] | {"rank_by": "balanced", "reward_images": 6}})
    start, *raced = trials_of(tmp_path, SearchStage.BLOCKS)
    files = RunFolder(tmp_path / "runs" / "begun")
    sizes = [files.judged(trial.number).stat().st_size for trial in (start, raced[0])]
    assert sizes == [18, 6]
    assert executors


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"init_hash": "0" * 64}, "init_hash: a search sets it"),
        ({"init": None, "init_hash": "0" * 64}, "init_hash is set by a search"),
        ({"blocks": {"enqueue": ["mobilenet_v2"]}}, "has not the form of mobilenet_v3_small"),
    ],
)
def test_what_only_a_search_can_know_is_refused(
    tmp_path: Path, photos: Path, weights: Path, changes: dict[str, Any], told: str
) -> None:
    """The hash of its own copy; and networks that share nothing with that of the weights."""
    with pytest.raises(MobilenasError, match=told):
        search(tmp_path, config_in(tmp_path, photos, weights) | changes)


def test_a_queued_search_has_its_weights_too(tmp_path: Path, photos: Path, weights: Path) -> None:
    """A coordinator that was killed with the copy made, and nothing else, does not keep the next one from beginning."""
    config = parse_config(config_in(tmp_path, photos, weights)).model_copy(update={"name": "queued"})
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        record = enqueue(store, config.from_anywhere(), SearchRequest())
        left = RunFolder(tmp_path / "runs" / "queued").start_weights
        left.parent.mkdir(parents=True)
        left.write_bytes(b"half of it")
        begin(store, record, tmp_path / "runs", Listener())
        begun = parse_config(dict(store.searches.get("queued").config))
    assert hashlib.sha256(left.read_bytes()).hexdigest() == begun.init_hash
    assert begun.space.chosen == ("mobilenet-v3-small", 0.35)


def test_what_knows_something_is_trained_for_less() -> None:
    """Recipes and images are those of networks that begin with weights, unless they are named; a race goes on."""
    begun, scratch = parse_config({"init": "torchvision:mobilenet_v2"}), parse_config({})
    assert (begun.blocks.recipe, begun.final.recipe, begun.final.weights) == ("transfer-proxy", "transfer", "continued")
    assert (scratch.blocks.recipe, scratch.final.recipe) == ("proxy", "final")
    assert begun.final.images < scratch.final.images
    for one, other in zip(begun.race.rungs, scratch.race.rungs, strict=True):
        assert (one.images < other.images, one.networks) == (True, other.networks)
    named = parse_config({"init": "a.pth", "final": {"images": 60000, "recipe": "final"}})
    assert (named.final.images, named.final.recipe) == (60000, "final")


@pytest.mark.parametrize(("source", "resolution"), [("imagefolder:photos", 224), ("fashion-mnist", None)])
def test_photos_are_taken_at_224_px(source: str, resolution: int | None) -> None:
    """As published networks are; sets that have a resolution keep theirs."""
    assert parse_config({"data": {"source": source}}).data.resolution == resolution


V1 = REFERENCES["mobilenet_v1"](width=0.25)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"space": {"preset": "mobilenet-v2", "width": 0.35}}, "is of another network than the reference of space"),
        (
            {"space": {"preset": "mobilenet-v3-small", "width": 0.5}},
            r"expand.conv.weight is \(40, 8, 1, 1\), and \(24, 8, 1, 1\) in the weights; leave",
        ),
        ({"evaluator": "supernet", "supernet": "x"}, "init .* is what trainings begin with, and evaluator is, too"),
        ({"supernet": "x"}, "and supernet is, too"),
        ({"init": "torchvision:mobilenet_v9"}, "no weights are known by the name"),
        ({"init": "nowhere.pth"}, "cannot be read"),
        (
            {"init": "imagenet", "space": {"width": 0.5}},
            "of mobilenet_v3_small at width 0.5, .* one of the spaces mnasnet",
        ),
        ({"init": "imagenet", "space": {"preset": "minimalistic"}}, "of mobilenet_v3_large_minimalistic at width 1"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path, photos: Path, weights: Path, changes: dict[str, Any], told: str
) -> None:
    """Before anything is measured or recorded."""
    with pytest.raises(MobilenasError, match=told):
        look_up(parse_config(config_in(tmp_path, photos, weights) | changes))


def test_a_network_without_a_space_is_to_be_narrowed(tmp_path: Path, photos: Path) -> None:
    """Around MobileNetV1 there is no space."""
    path = tmp_path / "v1.pth"
    torch.save(translated(dict(new_model(V1, 0).state_dict()), V1, "timm"), path)
    with pytest.raises(InvalidConfig, match=r"of mobilenet_v1, around which there is no space; .* netadapt --init"):
        look_up(parse_config(config_in(tmp_path, photos, path)))


def test_a_space_of_another_form_than_its_reference_is_refused(tmp_path: Path, photos: Path, weights: Path) -> None:
    """Its networks would have nothing to begin with."""
    small = {"preset": str(tmp_path / "space.yaml"), "width": 0.35}
    with pytest.raises(InvalidConfig, match="networks of space 'tiny' have not the form of its reference"):
        look_up(parse_config(config_in(tmp_path, photos, weights, space=small)))


def test_imagenet_is_what_is_published_of_the_spaces_reference(
    tmp_path: Path, photos: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a space of the one that photos have anyway; the name is recorded as if it had been given."""
    asked: list[str] = []

    def begin(named: str, **_: object) -> None:
        asked.append(named)
        raise DataError("enough")

    monkeypatch.setattr("search.plan.begin_with", begin)
    for space in (
        {},
        {"preset": "mobilenet-v2"},
        {"preset": "mobilenet-v3-large", "width": 1.0},
        {"preset": "mnasnet"},
    ):
        with pytest.raises(DataError, match="enough"):
            look_up(parse_config(config_in(tmp_path, photos, weights) | {"init": "imagenet", "space": space}))
    assert asked == [
        "torchvision:mobilenet_v3_small",
        "torchvision:mobilenet_v2",
        "torchvision:mobilenet_v3_large",
        "timm:semnasnet_100",
    ]
