"""Where artefacts of several machines are kept: shared folders and URLs, and what a search leaves there."""

from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from search.evaluation.artifacts import VARIABLE, ArtifactStore, artifact_store
from space.arch import Architecture
from space.errors import RunError
from tests.search.killing import write_run
from tests.tiny import Result


@pytest.fixture(params=["folder", "url"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that is not there yet, or a URL."""
    return str(tmp_path / "new" / "place") if request.param == "folder" else f"memory://{tmp_path.name}/place"


def test_what_was_put_is_there_until_it_is_removed(place: str) -> None:
    """Files come back byte for byte, the newest wins, and nothing else is left; one that is not there is None."""
    kept = ArtifactStore(place)
    assert kept.get("weights/a") is None
    for content in (b"\x00\xff" * 1000, b""):
        kept.put("weights/a", content)
        assert kept.get("weights/a") == content
    files, root = fsspec.core.url_to_fs(place)
    assert [Path(name).name for name in files.ls(f"{root}/weights", detail=False)] == ["a"]
    for _ in range(2):
        kept.remove("weights/a")
        assert kept.get("weights/a") is None


def test_a_place_that_cannot_be_used_is_named_by_its_variable(tmp_path: Path) -> None:
    """Whatever a file system raises is one line that says where to look."""
    (tmp_path / "file").touch()
    for broken in (ArtifactStore(str(tmp_path / "file")), ArtifactStore("nowhere://x/y")):
        with pytest.raises(RunError, match=f"artefact a cannot be written .*{VARIABLE}"):
            broken.put("a", b"")


def test_the_variable_names_a_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None where it is not set or empty; a folder is made absolute, as nodes have other working directories."""
    assert artifact_store() is None
    monkeypatch.setenv(VARIABLE, "")
    assert artifact_store() is None
    monkeypatch.setenv(VARIABLE, "s3://bucket/folder")
    assert artifact_store() == ArtifactStore("s3://bucket/folder")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "shared")
    assert artifact_store() == ArtifactStore(str(tmp_path / "shared"))


@pytest.mark.slow
def test_a_search_leaves_its_exports_there(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mobilenas: Callable[..., Result]
) -> None:
    """The files of the found network and the report are where the artefacts are, and in the run folder."""
    monkeypatch.setenv(VARIABLE, place)
    config = write_run(tmp_path, seconds=0.0, blocks={"trials": 3}, netadapt={"max_steps": 0})
    runs, url = tmp_path / "runs", f"sqlite:///{tmp_path}/record.db"
    done = mobilenas("search", "--config", config, "--name", "x", "--runs", runs, "--database", url)
    assert done.code == 0, done.err
    assert f"exports/x of {VARIABLE}" in done.out + done.err
    for name in ("architecture.json", "report.md"):
        assert ArtifactStore(place).get(f"exports/x/{name}") == (runs / "x" / name).read_bytes()
    assert Architecture.from_json(ArtifactStore(place).get("exports/x/architecture.json") or b"")


@pytest.mark.slow
def test_a_search_ends_well_where_exports_cannot_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mobilenas: Callable[..., Result]
) -> None:
    """It says so, and where everything is."""
    (tmp_path / "file").touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    config = write_run(tmp_path, seconds=0.0, blocks={"trials": 3}, netadapt={"max_steps": 0})
    runs, url = tmp_path / "runs", f"sqlite:///{tmp_path}/record.db"
    done = mobilenas("search", "--config", config, "--name", "x", "--runs", runs, "--database", url)
    assert done.code == 0, done.err
    assert f"look at {VARIABLE}; everything is in {runs / 'x'}" in " ".join((done.out + done.err).split())
