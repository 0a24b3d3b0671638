"""`evaluate` and `predict`: an exported network on pictures as people have them, without any training."""

import csv
import io
import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.stages.export import export_network
from search.stages.exported import ExportedNetwork
from space.reference import mobilenet_v3_small_32px
from tests.tiny import Result
from tests.trainer.data.photos import ODD, PLAIN, jpeg, prepare
from trainer.data.pictures import load_picture
from trainer.data.splits import split
from trainer.training.metrics import calibration_error
from trainer.training.networks import new_model

Mobilenas = Callable[..., Result]

LONG_NAMES = (f"a class with a long name, number {number:02}" for number in range(27))
CLASSES = tuple(sorted((":dog:", "Caf\u00e9", "[bold red]cat[x]", *LONG_NAMES)))  # as a training has them


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of thirty classes with random weights."""
    folder = tmp_path_factory.mktemp("exported")
    arch = mobilenet_v3_small_32px(width=0.25, resolution=16, num_classes=len(CLASSES))
    export_network(folder, arch, new_model(arch, 1).state_dict(), CLASSES, PLAIN, {})
    return folder


def photos(root: Path, classes: tuple[str, ...], each: int) -> Path:
    """Pictures of noise, different ones for each class."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(each):
            pixels = np.random.default_rng([label, number]).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")
    return root


def test_the_figures_are_those_of_the_network(run: Path, tmp_path: Path, mobilenas: Mobilenas) -> None:
    """Top-1, recall per class and the whole matrix agree with the network asked picture by picture."""
    root = photos(tmp_path / "photos", CLASSES, 3)
    matrix = tmp_path / "matrix.csv"
    done = mobilenas("evaluate", run, "--data", f"imagefolder:{root}", "--all", "--format", "json", "--matrix", matrix)
    assert done.code == 0, done.err
    network = ExportedNetwork(run)
    expected = {name: [0] * len(CLASSES) for name in CLASSES}
    for name in CLASSES:
        for path in sorted((root / name).iterdir()):
            expected[name][int(network.probabilities(load_picture(path, PLAIN)).argmax())] += 1
    header, *rows = csv.reader(matrix.read_text(encoding="utf-8").splitlines())
    assert header == ["true class", *CLASSES]
    assert {name: list(map(int, counts)) for name, *counts in rows} == expected
    told = {row["class"]: row for row in json.loads(done.out)}
    for index, name in enumerate(CLASSES):
        assert told[name]["recall"] == expected[name][index] / 3
        taken = sum(counts[index] for counts in expected.values())
        assert told[name]["precision"] == (expected[name][index] / taken if taken else None)


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_thirty_classes_can_be_read_at_any_width(
    run: Path, tmp_path: Path, columns: int, mobilenas: Mobilenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every class has its figures in the terminal, names as they are, and the matrix is a file."""
    root = photos(tmp_path / "photos", CLASSES, 3)
    monkeypatch.setattr("service.terminal.console.console.width", columns, raising=False)
    monkeypatch.setattr("service.terminal.console.console._width", columns)
    done = mobilenas("evaluate", run, "--data", f"imagefolder:{root}", "--matrix", tmp_path / "matrix.png")
    assert done.code == 0, done.err
    assert "30 images, the test split" in done.out
    assert "balanced accuracy" in done.out
    if columns >= 80:
        for name in CLASSES[:3]:
            assert name in done.out
        rows = [line for line in done.out.splitlines() if ":dog:" in line]
        assert any("%" in row for row in rows)
    with Image.open(tmp_path / "matrix.png") as image:
        assert min(image.size) > 500


def test_how_sure_the_network_is_of_its_answers(run: Path, tmp_path: Path, mobilenas: Mobilenas) -> None:
    """A network of random weights is as sure of everything, and right by chance: its calibration error is told."""
    root = photos(tmp_path / "photos", CLASSES, 2)
    network, sure, right = ExportedNetwork(run), [], []
    for index, name in enumerate(CLASSES):
        for path in sorted((root / name).iterdir()):
            probabilities = network.probabilities(load_picture(path, PLAIN))
            sure.append(probabilities.max())
            right.append(int(probabilities.argmax()) == index)
    done = mobilenas("evaluate", run, "--data", f"imagefolder:{root}", "--all")
    error = 100 * calibration_error(np.array(sure), np.array(right))
    assert f"expected calibration error {error:.1f} points (15 bins)" in done.out
    assert ("less sure of an answer" in done.out) == (np.mean(sure) <= np.mean(right))


def test_pictures_that_the_network_is_surely_wrong_about_are_drawn(
    run: Path, tmp_path: Path, mobilenas: Mobilenas
) -> None:
    """Of photos, the surest first: it is the first picture of the page, under its two lines."""
    root, sheet = photos(tmp_path / "photos", CLASSES, 2), tmp_path / "worst.png"
    network = ExportedNetwork(run)
    wrong = {}
    for index, name in enumerate(CLASSES):
        for path in sorted((root / name).iterdir()):
            probabilities = network.probabilities(load_picture(path, PLAIN))
            if int(probabilities.argmax()) != index:
                wrong[path] = probabilities.max()
    done = mobilenas("evaluate", run, "--data", f"imagefolder:{root}", "--all", "--worst", sheet)
    assert done.code == 0, done.err
    assert f"most surely wrong about: {sheet}" in done.out.replace("\n", "")
    with Image.open(sheet) as page, Image.open(max(wrong, key=lambda path: wrong[path])) as surest:
        shown = page.crop((4, 40, 148, 184))
        assert np.array_equal(np.asarray(shown), np.asarray(surest.resize((144, 144))))
        assert page.height == 8 * (144 + 40) + 4, "forty of them, five in a row"
    other = mobilenas("evaluate", run, "--data", f"imagefolder:{root}", "--worst", tmp_path / "worst.jpg")
    assert (other.code, "must end in .png" in other.err) == (2, True)


def test_data_with_other_classes_are_evaluated_for_those_that_are_there(
    run: Path, tmp_path: Path, mobilenas: Mobilenas
) -> None:
    """One class less, one more, one in another form of Unicode, one picture each: judged, and the differences named."""
    classes = (*CLASSES[:-1], "a new one")
    root = photos(tmp_path / "photos", classes, 1)
    os.rename(root / "Caf\u00e9", root / unicodedata.normalize("NFD", "Caf\u00e9"))
    done = mobilenas("evaluate", run, "--data", f"imagefolder:{root}", "--all")
    assert done.code == 0, done.err
    assert "on 29 images, all pictures" in done.out
    assert "the network does not know them: a new one" in done.out
    assert f"without a picture here: {CLASSES[-1]}" in done.out
    none = mobilenas("evaluate", run, "--data", f"imagefolder:{root}")
    assert (none.code, "--all" in none.err) == (2, True)


def test_a_test_split_of_its_own_is_used(run: Path, tmp_path: Path, mobilenas: Mobilenas) -> None:
    """With train/ and valid/ it is valid/ that is judged, as in training; --all takes both."""
    photos(tmp_path / "photos" / "train", CLASSES[:4], 5)
    photos(tmp_path / "photos" / "Valid", CLASSES[:4], 2)
    data = ("--data", f"imagefolder:{tmp_path / 'photos'}")
    assert "on 8 images, the test split" in mobilenas("evaluate", run, *data).out
    assert "on 28 images, all pictures" in mobilenas("evaluate", run, *data, "--all").out


def test_other_data_are_refused_with_the_difference(run: Path, tmp_path: Path, mobilenas: Mobilenas) -> None:
    """Nothing in common: both sides are named, not two lists that look alike."""
    root = photos(tmp_path / "photos", ("red", "green"), 3)
    done = mobilenas("evaluate", run, "--data", f"imagefolder:{root}")
    assert done.code == 2
    assert "only here green, red; only in the network :dog:" in done.err
    assert len(done.err.splitlines()) == 1


def test_damaged_pictures_are_told_all_at_once_or_skipped(run: Path, tmp_path: Path, mobilenas: Mobilenas) -> None:
    """Two of them in one line; with --skip-damaged the others are judged."""
    root = photos(tmp_path / "photos", CLASSES[:3], 4)
    for name in (":dog:/00.png", "Caf\u00e9/01.png"):
        (root / name).write_bytes(b"")
    data = ("--data", f"imagefolder:{root}", "--all")
    done = mobilenas("evaluate", run, *data)
    assert done.code == 2
    assert "2 pictures are damaged" in done.err
    assert "00.png" in done.err
    assert "01.png" in done.err
    done = mobilenas("evaluate", run, *data, "--skip-damaged")
    assert done.code == 0
    assert "on 10 images" in done.out
    assert "2 damaged pictures were left out" in done.out


def test_the_test_split_is_the_one_that_training_held_out(
    run: Path, tmp_path: Path, mobilenas: Mobilenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With damaged pictures skipped, evaluation judges the very pictures that a training on the folder held out."""
    root = photos(tmp_path / "photos", CLASSES[:3], 40)
    for name in (":dog:/00.png", "Caf\u00e9/07.png"):
        (root / name).write_bytes(b"")
    dataset = prepare(f"imagefolder:{root}", tmp_path, skip_damaged=True)
    expected = {image.tobytes() for image in dataset.images()[split(dataset).test]}
    seen: list[bytes] = []

    def look(_: ExportedNetwork, image: np.ndarray) -> np.ndarray:
        seen.append(image.tobytes())
        return np.ones(len(CLASSES))

    monkeypatch.setattr(ExportedNetwork, "probabilities", look)
    done = mobilenas("evaluate", run, "--data", f"imagefolder:{root}", "--skip-damaged")
    assert done.code == 0, done.err
    assert "2 damaged pictures were left out" in done.out
    assert set(seen) == expected
    assert len(seen) == len(expected)


def test_an_unknown_kind_of_matrix_is_refused(run: Path, tmp_path: Path, mobilenas: Mobilenas) -> None:
    """The name's end says which kind it is."""
    root = photos(tmp_path / "photos", CLASSES[:2], 3)
    done = mobilenas("evaluate", run, "--data", f"imagefolder:{root}", "--matrix", tmp_path / "matrix.pdf")
    assert (done.code, ".csv, .json, .png" in done.err) == (2, True)


def test_predict_goes_on_after_a_bad_picture(run: Path, tmp_path: Path, mobilenas: Mobilenas) -> None:
    """Every good one is classified, folders are walked, and the exit code says that something was wrong."""
    root = photos(tmp_path / "photos", ("x", "y"), 2)
    (root / "notes.txt").write_text("x", encoding="utf-8")
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    shutil.copy(root / "x" / "00.png", tmp_path / "shot.png")
    done = mobilenas("predict", run, tmp_path / "shot.png", bad, root)
    assert done.code == 2
    assert [line.split(": ")[0] for line in done.out.splitlines()] == [
        str(tmp_path / "shot.png"),
        *(str(root / name / f"0{number}.png") for name in "xy" for number in range(2)),
    ]
    first, last = done.err.splitlines()
    assert "bad.jpg" in first
    assert "1 of 6 pictures could not be read" in last
    assert mobilenas("predict", run, root).code == 0
    (tmp_path / "empty").mkdir()
    nothing = mobilenas("predict", run, tmp_path / "empty")
    assert (nothing.code, "no pictures are in" in nothing.err) == (2, True)


def test_the_snippet_of_the_guide_agrees(
    run: Path, tmp_path: Path, mobilenas: Mobilenas, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The code that people copy names the same class as `predict`, also of turned photos with odd metadata."""
    text = (Path(__file__).parents[4] / "docs" / "guide.md").read_text(encoding="utf-8")
    code = text.split("## Using the network without mobilenas")[1].split("```python")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    shutil.copy(run / "model.onnx", tmp_path)
    rng = np.random.default_rng(0)
    pictures = [jpeg(rng.integers(0, 256, (20, 40, 3), dtype=np.uint8), app1) for app1 in (b"", *ODD.values())]
    turned, tiff = Image.Exif(), io.BytesIO()
    turned[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (20, 40, 3), dtype=np.uint8)).save(tiff, "TIFF", exif=turned)
    for content in (*pictures, tiff.getvalue()):
        (tmp_path / "photo.jpg").write_bytes(content)
        exec(compile(code, "docs/guide.md", "exec"), {})  # noqa: S102 - our own guide
        named = capsys.readouterr().out.strip()
        assert mobilenas("predict", run, "photo.jpg", "--top", "1").out.startswith(f"photo.jpg: {named} ")


def test_a_picture_may_have_any_name(run: Path, tmp_path: Path, mobilenas: Mobilenas) -> None:
    """Bytes that are no UTF-8 are shown by number instead of ending in a traceback."""
    root = photos(tmp_path / "photos", ("x",), 1)
    os.rename(root / "x" / "00.png", os.fsencode(root) + b"/x/m\xfcde.png")
    done = mobilenas("predict", run, root)
    assert done.code == 0, done.err
    assert "de.png: " in done.out
