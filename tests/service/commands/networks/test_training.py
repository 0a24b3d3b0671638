"""`train` and `recipe`: what a person sees, and what bad input is answered with."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from search.begun import begin_with
from search.stages.exported import ExportedNetwork
from space.reference import REFERENCES
from tests.tiny import Result, dark_and_bright
from trainer.pretrained.dialects import translated
from trainer.training.networks import load_model, new_model
from trainer.training.recipe import load_recipe, recipe_names

Mobilenas = Callable[..., Result]

SPEC = ("mobilenet_v3_small_32px", "--width", "0.25", "--resolution", "16")


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Two classes of 40 small pictures, as `--data` names them."""
    return f"imagefolder:{dark_and_bright(tmp_path / 'photos', each=40, pixels=16)}"


def test_a_spec_is_trained_and_gone_on_with(photos: str, tmp_path: Path, mobilenas: Mobilenas) -> None:
    """It ends with its top-1 and what it left; asked for more images the same command goes on, for fewer it says why.

    There are 56 images to train on, so that a batch has no more.
    """
    runs = tmp_path / "runs"
    command = ("train", *SPEC, "--data", photos, "--recipe", "proxy", "--runs", runs, "--threads", "1")
    done = mobilenas(*command, "--images", "192")
    assert done.code == 0, done.err
    (folder,) = runs.glob("mobilenet_v3_small_32px-*-photos-proxy")
    assert "top-1 (test split, 12 images): " in done.out
    assert str(folder) in done.out.replace("\n", "")
    assert ExportedNetwork(folder).labels == ["bright", "dark"]
    again = mobilenas(*command, "--images", "320")
    assert again.code == 0, again.err
    assert "going on after 168 images" in again.out + again.err
    assert json.loads((folder / "training.json").read_text(encoding="utf-8"))["images_seen"] == 280
    fewer = mobilenas(*command, "--images", "64")
    assert fewer.code == 2
    assert "has seen 280 images; ask for more than that" in fewer.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--recipe", "finale"), "no recipe 'finale'"),
        (("--images", "100", "--minutes", "1"), "give either --images or --minutes"),
        (("--init", "nowhere.safetensors"), "weights nowhere.safetensors cannot be read"),
        (("--teacher", "nowhere"), "nowhere cannot be read"),
        (("--images", "0"), "--images"),
    ],
)
def test_bad_input_is_one_line(
    options: tuple[str, ...], words: str, photos: str, tmp_path: Path, mobilenas: Mobilenas
) -> None:
    """A recipe, weights or a teacher that are not there, and wishes that exclude each other."""
    done = mobilenas("train", *SPEC, "--data", photos, "--runs", tmp_path / "runs", *options)
    assert done.code == 2
    assert words in done.err
    assert not (tmp_path / "runs").exists()


def test_a_gpu_that_is_not_there(
    photos: str, tmp_path: Path, mobilenas: Mobilenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told before anything is prepared."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = mobilenas("train", *SPEC, "--data", photos, "--runs", tmp_path / "runs", "--device", "cuda")
    assert done.code == 2
    assert "sees no GPU here" in done.err


def test_recipes_can_be_looked_at_and_taken_over(tmp_path: Path, mobilenas: Mobilenas) -> None:
    """All are listed, and what `recipe show` prints is that recipe, as a file."""
    listed = mobilenas("recipe", "list", "--format", "csv").out
    assert all(name in listed for name in recipe_names())
    for name in recipe_names():
        path = tmp_path / "mine.yaml"
        path.write_text(mobilenas("recipe", "show", name).out, encoding="utf-8")
        assert load_recipe(str(path)) == load_recipe(name)


def test_a_training_may_begin_with_weights_of_others(photos: str, tmp_path: Path, mobilenas: Mobilenas) -> None:
    """A file of torchvision's names is inspected, trained on with a new classifier, and begun with once more."""
    arch = REFERENCES["mobilenet_v3_small"](width=0.35)
    path, runs = tmp_path / "v3.pth", tmp_path / "runs"
    torch.save(translated(dict(new_model(arch, 0).state_dict()), arch, "torchvision"), path)
    said = mobilenas("weights", "inspect", path)
    assert said.code == 0, said.err
    words = yaml.safe_load(said.out)
    assert (words["network"], words["width"], words["classes"]) == ("mobilenet_v3_small", 0.35, 1000)
    assert words["preprocessing"]["crop"] == 224
    options = ("--data", photos, "--runs", runs, "--threads", "1", "--images", "64", "--resolution", "32")
    done = mobilenas("train", "--init", path, *options)
    assert done.code == 0, done.err
    assert "from weights of mobilenet_v3_small, width 0.35 (torchvision)" in " ".join((done.out + done.err).split())
    (folder,) = runs.glob("v3-*-photos-transfer")
    assert ExportedNetwork(folder).labels == ["bright", "dark"]
    again = mobilenas("train", "--init", folder, *options, "--out", tmp_path / "again")
    assert again.code == 0, again.err
    neither = mobilenas("train", *options)
    assert neither.code == 2
    assert "name the network to train, or weights to begin with (--init)" in neither.err


def test_weights_are_written_as_others_name_them(tmp_path: Path, mobilenas: Mobilenas) -> None:
    """From torchvision's names to ours, beside their spec, to timm's and back: the same tensors."""
    arch = REFERENCES["mobilenet_v2"](width=0.35, num_classes=5)
    weights = dict(new_model(arch, 0).state_dict())
    path, ours, timms = tmp_path / "v2.pth", tmp_path / "ours", tmp_path / "timm.safetensors"
    torch.save(translated(weights, arch, "torchvision"), path)
    for command in ((path, ours, "--to", "mobilenas"), (ours, timms, "--to", "timm")):
        done = mobilenas("weights", "convert", *command)
        assert done.code == 0, done.err
    for found in (begin_with(str(ours)), begin_with(str(timms))):
        assert all(torch.equal(found.weights[name], weights[name]) for name in weights)
        assert (found.architecture.num_classes, found.architecture.batch_norm_epsilon) == (5, 1e-5)
    assert begin_with(str(ours)).preprocess == begin_with(str(path)).preprocess
    again = mobilenas("weights", "convert", path, timms, "--to", "timm")
    assert again.code == 2
    assert "exists already" in again.err


def test_converted_weights_make_up_for_another_epsilon(tmp_path: Path, mobilenas: Mobilenas) -> None:
    """MobileNetV3 computes with timm's 1e-5 what it did with 1e-3, and back with variances too small for it."""
    arch = REFERENCES["mobilenet_v3_small"](width=0.35, num_classes=5, resolution=64)
    ours, timms = tmp_path / "ours.pth", tmp_path / "timm.safetensors"
    weights = dict(new_model(arch, 0).state_dict())
    torch.save(translated(weights, arch, "torchvision"), ours)
    done = mobilenas("weights", "convert", ours, timms, "--to", "timm")
    assert done.code == 0, done.err
    found = begin_with(str(timms))
    assert found.architecture.batch_norm_epsilon == 1e-5
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        logits = [
            load_model(replace(each, resolution=64), own).eval()(images)
            for each, own in ((arch, weights), (found.architecture, found.weights))
        ]
    torch.testing.assert_close(logits[1], logits[0], atol=1e-5, rtol=1e-4)
    small = {name: tensor.clone() for name, tensor in found.weights.items()}
    small["stage2_block1.expand.bn.running_var"][:3] = 1e-6
    torch.save(translated(small, found.architecture, "timm"), ours)
    back = tmp_path / "back.safetensors"
    done = mobilenas("weights", "convert", ours, back, "--to", "torchvision")
    assert done.code == 0, done.err
    again = begin_with(str(back))
    with torch.inference_mode():
        logits = [
            load_model(replace(each, resolution=64), own).eval()(images)
            for each, own in ((found.architecture, small), (again.architecture, again.weights))
        ]
    torch.testing.assert_close(logits[1], logits[0], atol=1e-3, rtol=1e-3)


def test_a_width_needs_a_published_network(photos: str, tmp_path: Path, mobilenas: Mobilenas) -> None:
    """Weights have one of their own."""
    path = tmp_path / "v2.pth"
    done = mobilenas("train", "--init", path, "--width", "0.5", "--data", photos, "--runs", tmp_path / "runs")
    assert (done.code, "--width goes with a published network" in done.err) == (2, True)
