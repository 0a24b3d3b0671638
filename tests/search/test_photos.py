"""The whole way with photos as they come from phones: looked at, searched from published weights, used, handed over."""

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from search.stages.exported import ExportedNetwork
from tests.search.handover.test_bundle import alone
from tests.search.inline import use_inline
from tests.search.races import LATENCY
from tests.search.stages.test_begun import published
from tests.tiny import Result

Mobilenas = Callable[..., Result]

CLASSES = {
    "apple": (200, 40, 30),
    "banana": (230, 210, 60),
    "fig": (90, 40, 110),
    "lime": (90, 180, 50),
    "plum": (60, 50, 140),
}
EACH, SIDEWAYS = 100, 6


def phone_photos(folder: Path, each: int, seed: int) -> Path:
    """JPEG files of five classes, 64 x 48 px; every third is turned, and says so in its EXIF."""
    rng = np.random.default_rng(seed)
    for name, colour in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = np.clip(rng.normal(colour, 40, (48, 64, 3)), 0, 255).astype(np.uint8)
            picture, exif = Image.fromarray(pixels), Image.Exif()
            if number % 3 == 0:
                picture = picture.transpose(Image.Transpose.ROTATE_90)
                exif[0x0112] = SIDEWAYS
            picture.save(folder / name / f"IMG_{number:04}.jpg", exif=exif)
    return folder


def with_oddities(folder: Path) -> bool:
    """Add what else is there: a picture for print, one that was cut off, an iPhone's, and Windows' own file.

    Whether the iPhone's can be read: only where somebody has installed what reads it.
    """
    Image.new("CMYK", (64, 48), (10, 200, 200, 10)).save(folder / "apple" / "print.jpg")
    whole = (folder / "fig" / "IMG_0001.jpg").read_bytes()
    (folder / "fig" / "cut off.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "plum" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(100))
    path = folder / "lime" / "IMG_2001.HEIC"
    if importlib.util.find_spec("pillow_heif") is None:
        path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))
        return False
    pillow_heif = importlib.import_module("pillow_heif")
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), CLASSES["lime"])).save(path)
    return True


def best_of(text: str) -> list[str]:
    """The first class that each line names behind its file."""
    return re.findall(r"\.jpg[^a-z]+([a-z]+) ", text)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_from_a_folder_of_photos_to_a_program_of_three_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mobilenas: Mobilenas
) -> None:
    """Whatever is odd is named; the network that is found says of new photos what its ONNX file says alone."""
    photos = phone_photos(tmp_path / "photos", EACH, seed=0)
    has_heif = with_oddities(photos)
    looked = mobilenas("data", "check", f"imagefolder:{photos}")
    assert looked.code == 2
    for named in ("cut off.jpg cannot be read as a picture (image file is truncated", "not used     1 .db files"):
        assert named in looked.out
    assert ("IMG_2001.HEIC" in looked.out) != has_heif
    (tmp_path / "madds.py").write_text(LATENCY, encoding="utf-8")
    rungs = [{"images": 64, "networks": 3}, {"images": 128, "networks": 2}]
    content = {
        "latency": "madds:ms",
        "plugins": str(tmp_path),
        "workers": 1,
        "race": {"rungs": rungs, "latency_from": 0.3},
        "data": {"folds": 1},
        "final": {"images": 200, "top_k": 1},
        "html": False,
    }
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    executors = use_inline(monkeypatch)
    asked: tuple[object, ...] = ("search", "--config", config, "--name", "fruit", "--data", f"imagefolder:{photos}")
    asked += ("--init", published(tmp_path), "--target", "8ms", "--runs", tmp_path / "runs")
    asked += ("--database", f"sqlite:///{tmp_path / 'record.db'}")
    refused = mobilenas(*asked)
    assert (refused.code, "cut off.jpg" in refused.err) == (2, True)
    done = mobilenas(*asked, "--skip-damaged")
    assert done.code == 0, done.err
    assert executors
    run = tmp_path / "runs" / "fruit"
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert report["found"]["predicted_ms"] <= 8
    new = phone_photos(tmp_path / "new", 3, seed=1)
    files = sorted(new.rglob("*.jpg"))
    said = mobilenas("predict", run, *files)
    assert said.code == 0, said.err
    network = ExportedNetwork(run)
    assert network.labels == sorted(CLASSES)
    handed_over = tmp_path / "handed over"
    bundled = mobilenas("export", "fruit", "--bundle", "--out", handed_over, "--database", asked[-1])
    assert bundled.code == 0, bundled.err
    outside = alone(handed_over, "classify.py", *map(str, files))
    assert outside.returncode == 0, outside.stderr
    assert best_of(outside.stdout) == best_of(said.out)
    assert len(best_of(said.out)) == len(files)
    assert alone(handed_over, "run_me.py").returncode == 0
