"""`mobilenas data`: what a folder holds, and the published sets."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.problems import nas_bench_macro
from tests.tiny import Result, dark_and_bright
from trainer.data import sources

Mobilenas = Callable[..., Result]


def test_check_says_what_is_there(tmp_path: Path, mobilenas: Mobilenas) -> None:
    """A sound folder: code 0; duplicates, damage and what is left out are told, and damage is code 2."""
    root = dark_and_bright(tmp_path / "photos", each=6, pixels=16)
    done = mobilenas("data", "check", root)
    assert done.code == 0, done.err
    assert "12 can be read: 12 PNG" in done.out
    assert "shorter side 16 to 16 px" in done.out
    (root / "dark" / "copy.png").write_bytes((root / "bright" / "0.png").read_bytes())
    (root / "dark" / "bad.jpg").write_bytes(b"")
    (root / "dark" / "notes.txt").write_text("x", encoding="utf-8")
    done = mobilenas("data", "check", f"imagefolder:{root}")
    assert done.code == 2
    assert "1 .txt files" in done.out
    assert "in several classes" in done.out
    assert "bad.jpg" in done.out
    assert "--skip-damaged" in done.err
    content = json.loads(mobilenas("data", "check", root, "--format", "json").out)
    assert content["images"] == {"bright": {"train": 6}, "dark": {"train": 7}}
    assert content["across_classes"] == [[str(root / "bright" / "0.png"), str(root / "dark" / "copy.png")]]
    assert list(content["damaged"]) == [str(root / "dark" / "bad.jpg")]


def test_what_looks_alike_and_what_is_uneven_is_told(tmp_path: Path, mobilenas: Mobilenas) -> None:
    """A picture that is there smaller in another class, a class of few pictures, and a page to look at them."""
    root = tmp_path / "photos"
    for name, count in (("many", 12), ("rare", 3)):
        (root / name).mkdir(parents=True)
        for number in range(count):
            coarse = np.random.default_rng([len(name), count, number]).integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(root / name / f"{number}.png")
    with Image.open(root / "many" / "0.png") as image:
        image.resize((107, 80)).save(root / "rare" / "again.jpg", quality=60)
    sheet = tmp_path / "sheet.png"
    done = mobilenas("data", "check", root, "--contact-sheet", sheet)
    assert done.code == 0, done.err
    assert "look alike   1 group of pictures" in done.out
    assert f"{root / 'many' / '0.png'} ~ {root / 'rare' / 'again.jpg'}" in done.out
    assert "3 times as many as the smallest" in done.out
    assert "contact sheet of all classes" in done.out
    with Image.open(sheet) as page:
        assert page.width > 700
    content = json.loads(mobilenas("data", "check", root, "--format", "json").out)
    files = [str(root / "many" / "0.png"), str(root / "rare" / "again.jpg")]
    assert content["look_alike"] == [{"files": files, "splits": 1, "classes": 2}]
    assert content["imbalance"] == 3.0


def test_a_class_that_one_split_lacks_is_shown(tmp_path: Path, mobilenas: Mobilenas) -> None:
    """The table has a 0 there, and the reason is told."""
    dark_and_bright(tmp_path / "photos" / "train", each=4, pixels=16)
    dark_and_bright(tmp_path / "photos" / "val", each=4, pixels=16, seed=1)
    (tmp_path / "photos" / "val" / "dark").rename(tmp_path / "photos" / "val" / "grey")
    done = mobilenas("data", "check", tmp_path / "photos")
    assert (done.code, "'dark' is not in every split" in done.err) == (2, True)
    assert "grey" in done.out


def test_what_nothing_can_be_trained_on_is_code_2(tmp_path: Path, mobilenas: Mobilenas) -> None:
    """With the reason that a search would give."""
    root = dark_and_bright(tmp_path / "photos", each=2, pixels=16)
    done = mobilenas("data", "check", root)
    assert (done.code, "too few pictures" in done.err) == (2, True)
    assert mobilenas("data", "check", tmp_path / "nowhere").code == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fashion-mnist", "put the four"),
        ("cifar10", "cifar-10-binary.tar.gz"),
        ("nas-bench-macro", "nas-bench-macro_cifar10.json"),
    ],
)
def test_what_cannot_be_fetched_says_what_to_put_where(
    name: str, words: str, tmp_path: Path, mobilenas: Mobilenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network: one line with the file and the folder."""
    monkeypatch.setenv("MOBILENAS_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(sources, "FASHION_PACKAGE", tmp_path / "nowhere")
    for module, attribute in ((sources, "FASHION_URL"), (sources, "CIFAR_URL"), (nas_bench_macro, "URL")):
        monkeypatch.setattr(module, attribute, "http://127.0.0.1:9/nothing")
    done = mobilenas("data", "get", name)
    assert done.code == 2
    assert words in done.err
    assert len(done.err.splitlines()) == 1


def test_what_is_here_is_not_fetched(tmp_path: Path, mobilenas: Mobilenas, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the folder that --data-dir names is told, and nothing is asked of the network."""
    monkeypatch.setattr(sources, "CIFAR_URL", "http://127.0.0.1:9/nothing")
    archive = tmp_path / "cifar10" / sources.CIFAR_ARCHIVE
    archive.parent.mkdir()
    archive.write_bytes(b"")
    table = tmp_path / nas_bench_macro.FILE
    table.write_text("{}", encoding="utf-8")
    assert mobilenas("data", "get", "cifar10", "--data-dir", tmp_path).out.strip() == str(archive)
    assert mobilenas("data", "get", "nas-bench-macro", "--data-dir", tmp_path).out.strip() == str(table)
