"""A run's configuration: complete, strict, and clear about what is wrong."""

import os
import re
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yaml import safe_load

from search.config.budget import BUDGETS, budget_hours
from search.config.load import RunConfig, default_text, load_config, parse_config
from search.config.sections import parse_target
from search.executors import cluster_of
from search.objective.reward import HARD, soft
from space.errors import InvalidConfig, MobilenasError
from trainer.training.recipe import Endless, Recipe, load_recipe


def test_default_file_shows_every_key() -> None:
    """The shipped default.yaml leaves no field to a hidden default."""

    def check(model: dict[str, object], text: dict[str, object], path: str) -> None:
        assert model.keys() == text.keys(), path
        for key, value in model.items():
            if isinstance(value, dict) and key != "target":
                inner = text[key]
                assert isinstance(inner, dict)
                check(value, inner, f"{path}.{key}")

    check(parse_config({}).model_dump(), safe_load(default_text()), "")


def test_a_file_holds_only_changes(tmp_path: Path) -> None:
    """What a file leaves out stays the default, and overrides win over the file."""
    path = tmp_path / "run.yaml"
    path.write_text("blocks: {trials: 7}\ntarget: {ms: 4.0}\n")
    config = load_config(path, {"seed": 5, "blocks": {"epochs": 2.0}})
    default = parse_config({})
    assert (config.blocks.trials, config.blocks.epochs, config.seed) == (7, 2.0, 5)
    assert config.target.in_ms(reference_ms=100.0) == 4.0
    assert config.blocks.train_images == default.blocks.train_images


def test_round_trip() -> None:
    """What the record stores of a configuration reads back as the same one."""
    config = parse_config({"seed": 3, "target": {"ms": 2.5}})
    assert parse_config(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("blocs: {trials: 3}", "blocs"),
        ("blocks: {trails: 3}", "blocks.trails: there is no such key; did you mean trials?"),
        ("blocks: {trials: many}", "blocks.trials"),
        ("blocks: {trials: 0}", "blocks.trials"),
        ("blocks: {trials: 1.5}", "blocks.trials"),
        ("blocks: 3", "blocks"),
        ("data: {reward_fraction: 1.5}", "data.reward_fraction"),
        ("target: {relative: 0.8, ms: 4.0}", "target"),
        ("target: {}", "target"),
        ("target: {ms: -1.0}", "target.ms"),
        ("target: {ms: .inf}", "target.ms"),
        ("target: {mss: 3.0}", "target.mss: there is no such key"),
        ("evaluator: judge.py", "key evaluator: 'judge.py' does not name a callable; write package.module:callable"),
        ("data: {source: none}", "config: data.source none needs `evaluator` of your own"),
        ("device: {name: '../etc'}", "device.name"),
        ("name: 'a b'", "name"),
        ("training: {flip: 1}", "training.flip"),
        ("blocks: {sampler: magic}", "blocks.sampler: 'magic' is neither one of feasible-first, tpe"),
        ("blocks: {sampler: 'a:b:c'}", "blocks.sampler: 'a:b:c' does not name a callable"),
        ("- 1", "keys and values"),
        ("a: [", "not plain YAML"),
        ("a: &a [1]\nb: *a", "aliases"),
        ("seed: 1\nseed: 2", "twice"),
        ("seed: !!python/object/apply:os.system ['true']", "not plain YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, named: str) -> None:
    """Each mistake gives one line that names the key or what is wrong with the file."""
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(InvalidConfig, match=re.escape(named)) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    """A file that does not exist is named."""
    with pytest.raises(InvalidConfig, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


def test_reward_exponents() -> None:
    """Soft takes the space's exponent unless the configuration gives one; hard has none."""
    default = parse_config({}).blocks.reward
    assert default.reward(-0.15) == HARD
    kind = {"blocks": {"reward": {"kind": "soft"}}}
    assert parse_config(kind).blocks.reward.reward(-0.15) == soft(-0.15)
    kind["blocks"]["reward"]["exponent"] = -0.3  # type: ignore[assignment]
    assert parse_config(kind).blocks.reward.reward(-0.15) == soft(-0.3)


@pytest.mark.parametrize(
    ("text", "target"),
    [("4.0ms", {"ms": 4.0}), (" 80% ", {"relative": 0.8}), ("30fps", {"ms": 1000 / 30}), (".5 ms", {"ms": 0.5})],
)
def test_targets_in_short(text: str, target: dict[str, float]) -> None:
    """Milliseconds, a share of the reference, or images per second one after the other."""
    assert parse_target(text) == pytest.approx(target)
    assert parse_config({"target": text}).target.model_dump(exclude_none=True) == pytest.approx(target)


@pytest.mark.parametrize("text", ["", "4", "0ms", "-1fps", "0fps", "1e-400fps", "2e9fps", "2000%", "4 s"])
def test_bad_targets(text: str) -> None:
    """Anything else is refused with an example of each."""
    with pytest.raises(InvalidConfig, match=r"4\.0ms.*30fps.*80%"):
        parse_target(text)


@pytest.mark.parametrize(
    ("text", "hours"), [("4h", 4.0), ("30m", 0.5), ("1.5h", 1.5), *((name, None) for name in BUDGETS)]
)
def test_budgets(text: str, hours: float | None) -> None:
    """A budget is a known name or a time."""
    assert budget_hours(text) == hours


@pytest.mark.parametrize("text", ["", "4", "h", "-1h", "0h", "nan h", "99999999h", "fast"])
def test_bad_budgets(text: str) -> None:
    """Anything else is refused with the choices."""
    with pytest.raises(InvalidConfig, match="thorough"):
        budget_hours(text)


@pytest.mark.parametrize("factor", [0.2, 1.0, 8.0, 24.0, 500.0])
def test_no_budget_kills_its_own_training(factor: float) -> None:
    """The time limit of a trial grows with the images of the final training."""
    default = parse_config({})
    scaled = default.scaled(factor)
    allowed = default.trial_minutes / default.final.images
    assert scaled.trial_minutes / scaled.final.images >= allowed * 0.999


def test_paths_hold_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded names files absolutely; a shipped preset stays a name."""
    monkeypatch.chdir(tmp_path)
    given = {"data": {"source": "imagefolder:photos", "data_dir": "d"}, "space": {"preset": "my.yaml"}}
    config = parse_config(given).from_anywhere()
    assert config.data.source == f"imagefolder:{tmp_path / 'photos'}"
    assert config.data.data_dir == str(tmp_path / "d")
    assert config.space.preset == str(tmp_path / "my.yaml")
    plain = parse_config({}).from_anywhere()
    assert plain.from_anywhere() == plain


def test_scaling_keeps_a_valid_configuration() -> None:
    """A budget changes amounts of training alone, more budget never gives less, and the result is still valid."""
    default = parse_config({})
    amounts: list[tuple[int, ...]] = []
    for factor in (0.05, 0.2, 1.0, 8.0, 100.0):
        scaled: RunConfig = default.scaled(factor)
        assert parse_config(scaled.model_dump(mode="json")) == scaled
        assert scaled.training == default.training
        amounts.append((scaled.blocks.trials, scaled.blocks.train_images, scaled.netadapt.images, scaled.final.images))
    assert amounts == sorted(amounts)
    assert amounts[2] == (
        default.blocks.trials,
        default.blocks.train_images,
        default.netadapt.images,
        default.final.images,
    )


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[3] / "configs").glob("*.yaml")), ids=lambda path: path.name
)
def test_example_configurations_are_valid(path: Path) -> None:
    """Every example in configs/ loads, and changes something; default.yaml is there to be filled in."""
    assert (load_config(path) != parse_config({})) == (path.name != "default.yaml")


@pytest.mark.parametrize(
    ("ray", "said"),
    [
        ({"resources": {"jetson": -1}}, "resources"),
        ({"resources": {"GPU": 1}}, "give cpus and gpus"),
        ({"gpus": 1.5}, "whole GPUs"),
        ({"gpus": 0.5, "final_processes": 2}, "whole GPUs each"),
        ({"final_processes": 64}, "each needs two of them"),
        ({"address": "ray://head:10001"}, "address"),
        ({"scheduler": "pbt"}, "scheduler"),
    ],
)
def test_what_a_cluster_cannot_give_is_refused(ray: dict[str, object], said: str) -> None:
    """What would fail only after hours, or wait for ever, is told at once."""
    with pytest.raises(InvalidConfig, match=said):
        parse_config({"executor": "ray", "ray": ray})


def test_the_address_of_a_cluster_is_a_host_and_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """RAY_ADDRESS counts where the file has none, and an address of another kind is told, not tried for minutes."""
    config = parse_config({"executor": "ray"})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster_of(config) is None
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert cluster_of(config) == "head:6379"
    assert cluster_of(parse_config({"executor": "ray", "ray": {"address": "10.0.0.1:7000"}})) == "10.0.0.1:7000"
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(InvalidConfig, match=r"RAY_ADDRESS 'ray://head:10001' is not HOST:PORT"):
        cluster_of(config)


@pytest.mark.parametrize(
    ("content", "preset", "width"),
    [
        ({}, "mobilenet-v3-small-32px", 0.5),
        ({"data": {"resolution": 32}}, "mobilenet-v3-small-32px", 0.5),
        ({"data": {"resolution": 224}}, "mobilenet-v3-small", 1.0),
        ({"data": {"resolution": 96}, "space": {"width": 0.75}}, "mobilenet-v3-small", 0.75),
        ({"space": {"preset": "mobilenet-v3-small-32px"}}, "mobilenet-v3-small-32px", 1.0),
        ({"space": {"preset": "mobilenet-v3-small"}}, "mobilenet-v3-small", 1.0),
        ({"space": {"preset": "ofa-mbv3", "width": 1.2}, "data": {"resolution": 32}}, "ofa-mbv3", 1.2),
        ({"space": {"preset": None, "width": None}}, "mobilenet-v3-small-32px", 0.5),
    ],
)
def test_an_unnamed_space_follows_the_resolution(content: dict[str, object], preset: str, width: float) -> None:
    """And one that is named has width 1.0, as it has for `latency bundle --space`."""
    space = parse_config(content).space
    assert (space.preset, space.width) == (preset, width)


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("name: no", ("name",), "no"),
        ("name: 2024", ("name",), "2024"),
        ("name: 2024-05-01", ("name",), "2024-05-01"),
        ("training: {weight_decay: 1e-4}", ("training", "weight_decay"), 1e-4),
        ("training: {flip: off}", ("training", "flip"), False),
        ("training: {flip: Yes}", ("training", "flip"), True),
        ("training:\nblocks: {trials: 8}", ("blocks", "trials"), 8),
        ("target: 80%", ("target", "relative"), 0.8),
        ("target: 2.5ms", ("target", "ms"), 2.5),
    ],
)
def test_values_mean_what_people_mean(text: str, path: tuple[str, ...], value: object, tmp_path: Path) -> None:
    """A name may be a number or "no", a number may have an exponent, and a switch may be off."""
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    found: Any = load_config(tmp_path / "run.yaml").model_dump()
    for key in path:
        found = found[key]
    assert found == value


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("data: {sourc: x, 1: 2}", "data.sourc"),
        (f"seed: 0x{'F' * 5000}", "key seed: .*without end"),
        ('blocks: {enqueue: ["a\\0b"]}', "control character"),
        ("data: {source: 'imagefolder:', resolution: 32}", None),
    ],
)
def test_odd_values_are_one_line(text: str, named: str | None, tmp_path: Path) -> None:
    """Keys that are no text, numbers without end, names that no file can have."""
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    if named is None:
        assert load_config(tmp_path / "run.yaml").from_anywhere().data.source == "imagefolder:"
        return
    with pytest.raises(InvalidConfig, match=named):
        load_config(tmp_path / "run.yaml").from_anywhere()


@pytest.mark.parametrize("text", ["seed: 010", "trial_minutes: 1:30", "blocks: {train_images: 6_000}"])
def test_ambiguous_numbers_are_refused(text: str, tmp_path: Path) -> None:
    """They were another number silently."""
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidConfig, match="is not the same number to everybody"):
        load_config(tmp_path / "run.yaml")


def test_encodings_of_editors_are_read(tmp_path: Path) -> None:
    """UTF-16 of PowerShell, UTF-8 with a mark; Latin-1 is refused in one line."""
    path = tmp_path / "run.yaml"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes("blocks: {trials: 8}\r\n# café".encode(encoding))
        assert load_config(path).blocks.trials == 8
    path.write_bytes("name: café".encode("latin-1"))
    with pytest.raises(InvalidConfig) as told:
        load_config(path)
    assert len(str(told.value).splitlines()) == 1


def test_paths_that_cannot_be_recorded_are_refused() -> None:
    """Before anything is measured, and not by the database at the end."""
    odd = os.fsdecode(b"/data/m\xfcde")
    for content in ({"data": {"source": f"imagefolder:{odd}", "resolution": 32}}, {"data": {"data_dir": odd}}):
        with pytest.raises(InvalidConfig, match="not UTF-8"):
            parse_config(content).from_anywhere()


SCALARS = st.one_of(
    st.text(max_size=12),
    st.integers().map(str),
    st.floats().map(repr),
    st.sampled_from(
        ["no", "On", "~", "1e3", "010", "1:30", "1_0", "2024-05-01", "[]", "{}", "!!python/name:os.system x"]
    ),
)
KEYS = st.sampled_from(
    [
        *("name", "seed", "workers", "trial_minutes", "executor", "evaluator", "target", "targets", "data", "space"),
        *("data: {source", "data: {resolution", "data: {skip_damaged", "space: {preset", "space: {width"),
        *("blocks: {trials", "blocks: {reward", "training: {flip", "training: {weight_decay", "device: {name"),
    ]
)


@given(key=KEYS, scalar=SCALARS)
def test_any_scalar_of_any_key_is_taken_or_refused_in_one_line(key: str, scalar: str) -> None:
    """Whatever stands in a file: a whole configuration, or one line that a person can act on."""
    text = f"{key}: {scalar}{'}' if '{' in key else ''}"
    told = "one line"
    with NamedTemporaryFile(suffix=".yaml") as file:
        file.write(text.encode(errors="surrogatepass"))
        file.flush()
        try:
            load_config(file.name).from_anywhere()
        except MobilenasError as error:
            told = str(error)
    assert len(" ".join(told.split())) > 5


def test_stages_have_recipes_of_their_own() -> None:
    """Trials, proposals and final networks are trained by the shipped recipes, for as many images as the run says."""
    netadapt = {"recipe": "fine-tune", "images": 320, "learning_rate_factor": 0.5}
    config = parse_config({"blocks": {"train_images": 2000, "epochs": 2.0}, "netadapt": netadapt})
    assert config.proxy_recipe == replace(load_recipe("proxy"), images=4000)
    assert config.final_recipe == replace(load_recipe("final"), images=60000)
    tuned = load_recipe("fine-tune")
    halved = replace(tuned, learning_rate=tuned.learning_rate / 2, matrix_rate=tuned.matrix_rate / 2)
    assert config.fine_tuning_recipe == replace(halved, images=320)


@pytest.mark.parametrize("factor", [None, 0.1])
def test_a_learning_rate_without_a_recipe_is_for_that_of_version_01(factor: float | None) -> None:
    """A configuration from before there were recipes trains as it did: SGD with a cosine on a CPU, tuned at a fifth."""
    content = {"training": {"learning_rate": 0.1}, "netadapt": {"learning_rate_factor": factor}}
    config, rate = parse_config(content), 0.1
    before = replace(load_recipe("sgd-cosine"), learning_rate=rate)
    assert config.training.device == "cpu"
    factor = 0.2 if factor is None else factor
    assert config.proxy_recipe == replace(before, images=6000)
    assert config.final_recipe == before
    assert config.fine_tuning_recipe.learning_rate == pytest.approx(rate * factor)


def test_a_factor_alone_is_of_the_recipes_own_rates() -> None:
    """Half of the fine-tuning's rates, or a fifth of a rate that is set for all stages beside recipes."""
    tuned = load_recipe("fine-tune")
    halved = parse_config({"netadapt": {"learning_rate_factor": 0.5}})
    assert halved.fine_tuning_recipe.learning_rate == pytest.approx(tuned.learning_rate / 2)
    assert halved.proxy_recipe.optimizer == "muon"
    given = parse_config({"training": {"learning_rate": 0.05}, "blocks": {"recipe": "proxy"}})
    assert given.proxy_recipe.learning_rate == pytest.approx(0.05)
    assert given.fine_tuning_recipe.learning_rate == pytest.approx(0.01)


def test_what_training_says_holds_for_every_recipe() -> None:
    """Batch size, weight decay, smoothing and augmentation of `training` replace those of all three recipes."""
    changes = {"batch_size": 32, "weight_decay": 0.0, "label_smoothing": 0.1, "shift": 0.125, "flip": False}
    config = parse_config({"training": changes, "final": {"recipe": "final"}})
    for recipe in (config.proxy_recipe, config.fine_tuning_recipe, config.final_recipe):
        assert (recipe.batch_size, recipe.weight_decay, recipe.label_smoothing) == (32, 0.0, 0.1)
        assert (recipe.augmentation.shift, recipe.augmentation.flip) == (0.125, "none")
    flipped = {"training": {"flip": True}, "final": {"recipe": {"augmentation": {"flip": "none"}}}}
    assert parse_config(flipped).final_recipe.augmentation.flip == "random"


def test_a_recipe_of_ones_own_travels_with_the_record(tmp_path: Path) -> None:
    """A recipe may be a file or its content; of a file the record keeps the content."""
    path = tmp_path / "mine.yaml"
    path.write_text("{optimizer: muon, schedule: {kind: endless, decay: 0.5}, average: {share: 0.2}}", encoding="utf-8")
    config = parse_config({"final": {"recipe": str(path)}}).from_anywhere()
    path.unlink()
    again = parse_config(config.model_dump(mode="json"))
    assert again == config
    assert again.blocks.recipe == parse_config({"blocks": {"recipe": "proxy"}}).from_anywhere().blocks.recipe
    assert isinstance(again.blocks.recipe, dict), "a shipped recipe may be another one later"
    assert again.final_recipe.optimizer == "muon"
    assert again.final_recipe.schedule == Endless(decay=0.5)
    inline = parse_config({"final": {"recipe": {"optimizer": "muon"}}})
    assert inline.final_recipe == Recipe(optimizer="muon", images=60000)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [("fast", "final.recipe: no recipe 'fast'"), ({"optimizer": "x"}, "final.recipe.*optimizer"), (3, "final.recipe")],
)
def test_a_wrong_recipe_is_named(recipe: object, words: str) -> None:
    """Its place in the configuration, and what is wrong with it."""
    with pytest.raises(InvalidConfig, match=words):
        parse_config({"final": {"recipe": recipe}})
