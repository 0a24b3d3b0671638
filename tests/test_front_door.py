"""The Python way in, and the program: light to import, and not taken in by somebody else's packages."""

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

import mobilenas
from latency.table import LatencyTable
from search.evaluation.executor import LocalExecutor
from search.evaluation.job import Job, OwnEvaluation
from search.plugins import Plugin
from search.record.store import Store
from search.trial import Trial
from space.keys import keys_of
from space.packages import PACKAGES, foreign
from space.reference import mobilenet_v3_small_32px
from tests.search.content import fill
from tests.search.killing import write_run
from tests.search.makers import DEVICE, latency_table, measurement, record_table
from tests.tiny import Result

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "python.md").read_text()


def table_of(arch: mobilenas.Architecture, **changes: Any) -> LatencyTable:  # noqa: ANN401 - fields of LatencyTable
    """A latency table that has all blocks of a network."""
    return latency_table(entries={key: measurement(0.1) for key in keys_of(arch)}, **changes)


def run(*words: str, folder: Path, path: str = "") -> "subprocess.CompletedProcess[str]":
    """Python in a folder, with a search path before its own."""
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=1200
    )


def test_importing_costs_nothing_heavy(tmp_path: Path) -> None:
    """Neither torch nor anything else that takes time is imported before it is used; all public names are there."""
    code = (
        "import sys, mobilenas; before = set(sys.modules); dir(mobilenas); "
        "heavy = {'torch', 'numpy', 'onnxruntime', 'sqlalchemy', 'pydantic', 'optuna', 'ray', 'search', 'space'}; "
        "print(sorted(heavy & before))"
    )
    done = run("-c", code, folder=tmp_path, path=str(ROOT))
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_every_public_name_is_there() -> None:
    """What is promised can be had, has a docstring, and nothing else is guessed."""
    for name in mobilenas.__all__:
        found = getattr(mobilenas, name)
        assert name == "__version__" or found.__doc__
    with pytest.raises(AttributeError, match=r"has no attribute 'serch'; it has Architecture, .*search"):
        _ = mobilenas.serch


def test_versions_agree() -> None:
    """The package, its metadata, the citation and the changelog name one version."""
    assert mobilenas.__version__ == version("mobilenas")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == mobilenas.__version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert newest is not None
    assert newest[1] == mobilenas.__version__


def test_every_package_is_typed() -> None:
    """Type checkers of users read our annotations."""
    for package in (*PACKAGES, "mobilenas"):
        assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize(
    "words", [("-m", "mobilenas"), ("-m", "service.cli"), ("-c", "from service.cli import main; main()")]
)
def test_the_program_tells_its_versions(tmp_path: Path, words: tuple[str, ...]) -> None:
    """However it is started; with what a report of a fault needs."""
    done = run(*words, "--version", folder=tmp_path, path=str(ROOT))
    number = re.escape(mobilenas.__version__)
    pattern = rf"mobilenas {number} \(python 3\.\d+\.\d+, torch \S+, onnxruntime \S+, schema \d{{4}}\)\n"
    assert re.fullmatch(pattern, done.stdout), done.stdout + done.stderr


@pytest.mark.parametrize("name", ["trainer", "space", "service"])
def test_somebody_elses_package_is_named(tmp_path: Path, name: str) -> None:
    """A folder of the same name that comes first on Python's path is told of in one line, with the remedy."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not ours')\n")
    done = run("-m", "mobilenas", "--version", folder=tmp_path, path=f"{tmp_path}{os.pathsep}{ROOT}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: '{name}' is not mobilenas's own but {tmp_path / name}")
    assert "take its folder off PYTHONPATH" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation is told of as one."""
    monkeypatch.setattr("space.packages.find_spec", lambda _: None)
    assert foreign() is not None
    monkeypatch.undo()
    assert foreign() is None
    assert "is not mobilenas's own" in str(foreign(tmp_path))


def test_workers_look_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker process whose path leads elsewhere fails its job with the reason."""
    other = tmp_path / "other" / "trainer"
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    (tmp_path / "judge.py").write_text("def top1(arch):\n    return 0.5\n")
    plugin = Plugin(name="judge:top1", folder=str(tmp_path))
    evaluation = OwnEvaluation(architecture=mobilenet_v3_small_32px(), evaluator=plugin, content=plugin.content)
    monkeypatch.syspath_prepend(str(other.parent))
    executor = LocalExecutor(1, job_seconds=600, trains=False)
    try:
        executor.submit(Job(number=0, attempt=1, evaluation=evaluation))
        while not (ended := executor.wait(10)):
            pass
    finally:
        executor.close()
    assert "'trainer' is not mobilenas's own" in str(ended[0].error)


def test_examples_in_docstrings_run() -> None:
    """What the docstrings of the public functions show is what happens."""
    tried = [doctest.testmod(import_module(f"mobilenas.{name}")) for name in ("networks", "record", "searches")]
    assert sum(each.failed for each in tried) == 0
    assert sum(each.attempted for each in tried) >= 4


def test_examples_of_the_guide_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every piece of Python in docs/python.md, one after the other, on a search that takes seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOBILENAS_DATABASE_URL", f"sqlite:///{tmp_path / 'record.db'}")
    write_run(tmp_path, seconds=0.0, workers=1, blocks={"trials": 6}, netadapt={"max_steps": 1}).rename("run.yaml")
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        device = replace(DEVICE, name="pi5")
        record_table(store, table_of(mobilenet_v3_small_32px(width=0.5), device=device))
    pieces = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
    assert len(pieces) >= 5
    names: dict[str, object] = {"__name__": "__main__"}
    for piece in pieces:
        exec(compile(piece, "docs/python.md", "exec"), names)  # noqa: S102 - our own guide
    assert capsys.readouterr().out


def test_a_search_is_run_watched_and_resumed(tmp_path: Path) -> None:
    """It takes a mapping and arguments, tells a listener, and leaves a record; what is done is not run again."""
    from search.events import Listener

    heard: list[int] = []

    class Counting(Listener):
        def trial(self, trial: Trial, reward: float | None) -> None:  # noqa: ARG002
            heard.append(trial.number)

    url = f"sqlite:///{tmp_path / 'record.db'}"
    config = yaml.safe_load(write_run(tmp_path, seconds=0.0, workers=1, netadapt={"max_steps": 1}).read_text())
    config = {**config, "plugins": str(tmp_path), "blocks": {"trials": 99}}
    small = {**config, "blocks": {"trials": 4}}
    done = mobilenas.search(
        small, name="one", seed=7, labels=["tried"], database=url, runs=tmp_path / "runs", listener=Counting()
    )
    assert (done.name, done.state) == ("one", "done")
    assert heard
    assert len(done.trials()) == len(heard) == len(done.frame())
    found = done.found
    assert found is not None
    assert found.top1_test is None
    assert found.measured_ms == {}
    assert found.architecture.to_json() == mobilenas.load_spec(done.folder / "architecture.json").to_json()
    heard.clear()
    assert mobilenas.resume("one", database=url, listener=Counting()) == done
    assert heard == []
    record = mobilenas.open_record(url)
    assert record.searches() == [done]
    assert record.search("one") == done
    assert len(record.frame()) == len(record.trials())
    with pytest.raises(mobilenas.MobilenasError, match="there is no search named 'two'"):
        record.search("two")
    with pytest.raises(mobilenas.MobilenasError, match="target 'soon' is neither milliseconds"):
        mobilenas.search(small, target="soon", database=url)
    with pytest.raises(mobilenas.MobilenasError, match="is a group of searches"):
        mobilenas.search({"targets": {"a": "1ms", "b": "2ms"}}, database=url)


def test_what_the_record_holds_is_read(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Rows are those that `mobilenas trials` prints; a final network comes with its test top-1 and measurements."""
    url = f"sqlite:///{tmp_path / 'record.db'}"
    with closing(Store.open(url)) as store:
        fill(store, tmp_path / "runs")
    record = mobilenas.open_record(url)
    call: Callable[..., Result] = request.getfixturevalue("mobilenas")
    printed = call("trials", "--format", "csv", "--database", url).out.splitlines()
    assert len(record.trials()) == len(printed) - 1
    done = next(search for search in record.searches() if search.state == "done")
    found = done.found
    assert found is not None
    assert found.top1_test is not None
    assert found.measured_ms
    reference = done.reference
    assert reference is not None
    assert reference.trial != found.trial
    assert done.answer is not None
    assert "The found network is" in done.answer
    assert done.baseline is None
    assert done.present == mobilenas.PresentModel(name="mine.onnx", top1_test=0.9, measured_ms={"desk": 4.0})
    queued = next(search for search in record.searches() if search.state == "queued")
    assert (queued.found, queued.reference, queued.answer) == (None, None, None)
    assert queued.trials() == []
    assert list(queued.frame().columns) == list(done.frame().columns)
    with pytest.raises(mobilenas.MobilenasError, match="still queued"):
        _ = queued.folder


def test_latency_needs_a_table_with_all_blocks(tmp_path: Path) -> None:
    """Of a device without one the message says what measures it; with one it is the table's estimate."""
    url = f"sqlite:///{tmp_path / 'record.db'}"
    arch = mobilenet_v3_small_32px()
    with closing(Store.open(url)) as store:
        record_table(store)
        with pytest.raises(
            mobilenas.MobilenasError, match=r"lacks \d+ of the network's blocks.*latency collect --device desk"
        ):
            mobilenas.predict_latency(arch, device="desk", database=url)
        table = table_of(arch)
        record_table(store, table)
    assert mobilenas.predict_latency(arch, device="desk", database=url) == table.estimate(arch)
    with pytest.raises(mobilenas.MobilenasError, match="no latency table of device 'pi5' has all blocks"):
        mobilenas.predict_latency(arch, device="pi5", database=url)
