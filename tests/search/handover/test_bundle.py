"""What is handed over runs where there is no mobilenas, and says there what it says here."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.stages.exported import ExportedNetwork
from tests.search.inline import use_inline
from tests.search.stages.race.test_rungs import race_in, run
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


def alone(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program of a folder that was handed over."""
    command = [sys.executable, "-c", ALONE, program, *arguments]
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
    expected = handed_over / "examples" / "expected.json"
    content = json.loads(expected.read_text(encoding="utf-8"))
    content[0]["probabilities"] = list(np.roll(content[0]["probabilities"], 1) + 0.1)
    expected.write_text(json.dumps(content), encoding="utf-8")
    assert (alone(handed_over, "run_me.py").returncode, len(content)) == (1, 2)
    url = f"sqlite:///{tmp_path / 'record.db'}"
    again = mobilenas("export", "race", "--bundle", "--out", handed_over, "--database", url)
    assert (again.code, "is not empty" in again.err) == (2, True)
    for each in photos.rglob("*.png"):
        each.unlink()
    gone = mobilenas("export", "race", "--bundle", "--out", tmp_path / "gone", "--database", url)
    assert (gone.code, "are not what they were" in gone.err) == (2, True)
    assert not (tmp_path / "gone").exists()
