"""What is handed over runs where there is no mobilenas, and says there what it says here."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.handover.bundle import _begun
from search.stages.exported import ExportedNetwork
from tests.search.inline import use_inline
from tests.search.races import race_in, run
from tests.tiny import Result, dark_and_bright
from trainer.data.pictures import load_picture

Mobilenas = Callable[..., Result]

# As in an environment of three packages: nothing of ours can be imported, nor torch.
ALONE = """
import runpy, sys

class Alone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"latency", "mobilenas", "search", "service", "space", "torch", "trainer"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Alone())
sys.path.insert(0, "")
program, *sys.argv[1:] = sys.argv[1:]
runpy.run_path(program, run_name="__main__")
"""


# An environment of numpy, pillow and the oldest ONNX Runtime, and nothing else.
OLD_RUNTIME = Path(__file__).parents[3] / ".venv-old-runtime" / "bin" / "python"


def alone(
    folder: Path, program: str, *arguments: str, python: str | Path = sys.executable
) -> subprocess.CompletedProcess[str]:
    """A program of a folder that was handed over."""
    command = [python, "-c", ALONE, program, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of small pictures."""
    return dark_and_bright(tmp_path / "photos", each=60, pixels=16)


@pytest.fixture
def handed_over(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, mobilenas: Mobilenas) -> Path:
    """The folder of a short race's found network."""
    executors = use_inline(monkeypatch)
    run(tmp_path, race_in(tmp_path, photos))
    assert executors
    out, url = tmp_path / "handed-over", f"sqlite:///{tmp_path / 'record.db'}"
    done = mobilenas("export", "race", "--bundle", "--out", out, "--database", url)
    assert done.code == 0, done.err
    assert "run_me.py" in done.out
    return out


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_it_runs_alone(handed_over: Path, tmp_path: Path, photos: Path, mobilenas: Mobilenas) -> None:
    """The pictures that lie there are taken for what they were; another network beside them is noticed."""
    done = alone(handed_over, "run_me.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("as expected") == len(json.loads((handed_over / "examples" / "expected.json").read_text()))
    network = ExportedNetwork(handed_over)
    assert network.temperature == ExportedNetwork(tmp_path / "runs" / "race").temperature != 1.0
    picture = next(photos.rglob("*.png"))
    odd = tmp_path / "odd.png"
    with Image.open(picture) as image:
        image.resize((50, 33)).convert("RGBA").save(odd)
    deep = tmp_path / "deep.png"
    Image.fromarray(np.zeros((20, 20), dtype=np.uint16)).save(deep)
    refused = alone(handed_over, "classify.py", str(deep), str(odd))
    assert (refused.returncode, "more than 8 bits per channel" in refused.stderr) == (1, True)
    assert refused.stdout.startswith(f"{odd}: ")
    for path in (picture, odd):
        shares = network.probabilities(load_picture(path, network.preprocess))
        said = alone(handed_over, "classify.py", str(path)).stdout
        assert said.startswith(f"{path}: {network.labels[int(shares.argmax())]} {shares.max():.1%}")
    card = (handed_over / "README.md").read_text(encoding="utf-8")
    assert all(words in card for words in ("| licence |", "of the test split |", "| top-1 |", "run_me.py"))
    assert re.search(r"\| trained by \| muon, \w+, batches of 16, seed 0 \|", card)
    assert "weights |" not in card, "it began with none"
    expected = handed_over / "examples" / "expected.json"
    content = json.loads(expected.read_text(encoding="utf-8"))
    content[0]["probabilities"] = list(np.roll(content[0]["probabilities"], 1) + 0.1)
    expected.write_text(json.dumps(content), encoding="utf-8")
    assert (alone(handed_over, "run_me.py").returncode, len(content)) == (1, 3)
    url = f"sqlite:///{tmp_path / 'record.db'}"
    again = mobilenas("export", "race", "--bundle", "--out", handed_over, "--database", url)
    assert (again.code, "is not empty" in again.err) == (2, True)
    for each in photos.rglob("*.png"):
        each.unlink()
    gone = mobilenas("export", "race", "--bundle", "--out", tmp_path / "gone", "--database", url)
    assert (gone.code, "are not what they were" in gone.err) == (2, True)
    assert not (tmp_path / "gone").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.skipif(not OLD_RUNTIME.exists(), reason="ONNX RUNTIME 1.15 MISSING; run: make oracles")
def test_it_runs_where_there_is_nothing_else(handed_over: Path) -> None:
    """On numpy 1, pillow and ONNX Runtime 1.15 alone."""
    listed = subprocess.run([OLD_RUNTIME, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    if "pillow" not in listed:
        pytest.skip("PILLOW MISSING BESIDE ONNX RUNTIME 1.15; run: make oracles")
    assert "scipy" not in listed
    done = alone(handed_over, "run_me.py", python=OLD_RUNTIME)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("as expected") == 3


def test_the_licence_of_published_weights_is_told() -> None:
    """Where it is known; of a file nobody knows it."""
    (began, licence) = _begun("torchvision:mobilenet_v2")
    assert began == ("began with", "what it shares with torchvision:mobilenet_v2")
    assert "BSD-3-Clause" in licence[1]
    assert [name for name, _ in _begun("mine.pth")] == ["began with"]
    assert _begun(None) == []
