"""What version 0.1.0 wrote opens and goes on in this one: a record, an archive, a kit's results, a configuration.

The files below `data/version-0.1.0` were made by that version's own commands in `/srv/before`.
"""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from search.trial import SearchStage
from tests.search.killing import outcome
from tests.tiny import Result, dark_and_bright

MADE_THERE = "/srv/before"
FILES = Path(__file__).parent / "data" / "version-0.1.0"

Call = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files, its record and configuration as if they had been written there."""
    shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
    with closing(sqlite3.connect(tmp_path / "record.db")) as connection:
        connection.executescript((FILES / "record.sql").read_text().replace(MADE_THERE, str(tmp_path)))
    return tmp_path


def test_interrupted_search_ends_as_one_that_was_not(folder: Path, mobilenas: Call) -> None:
    """A search that was stopped among its trials ends with the very trials and walk of its undisturbed twin."""
    url = f"sqlite:///{folder / 'record.db'}"
    done = mobilenas("resume", "stopped", "--database", url, "--runs", folder / "runs")
    assert done.code == 0, done.err
    assert outcome(url, "stopped") == outcome(url, "whole")
    assert len(outcome(url, "whole")[0]) == 25


def test_its_record_is_sound(folder: Path, mobilenas: Call) -> None:
    """What configurations of that version do not say is no fault of theirs."""
    checked = mobilenas("db", "check", "--database", f"sqlite:///{folder / 'record.db'}")
    assert "lacks" not in checked.out + checked.err


def test_queued_search_is_taken_by_a_coordinator(folder: Path, mobilenas: Call) -> None:
    """A search that waited in the queue is run to its end, and has the result of its twin."""
    url = f"sqlite:///{folder / 'record.db'}"
    done = mobilenas("coordinator", "--drain", "--database", url, "--runs", folder / "runs")
    assert done.code == 0, done.err
    trials, steps, stage = outcome(url, "waiting")
    assert (trials, steps) == outcome(url, "whole")[:2]
    assert stage is SearchStage.DONE


def test_configuration_starts_the_same_search(folder: Path, mobilenas: Call) -> None:
    """A run's file means what it meant: a new search of it has the result of the recorded one."""
    url = f"sqlite:///{folder / 'record.db'}"
    where = ("--database", url, "--runs", folder / "runs")
    done = mobilenas("search", "--config", folder / "run.yaml", "--name", "again", *where)
    assert done.code == 0, done.err
    assert outcome(url, "again")[:2] == outcome(url, "whole")[:2]


def test_archive_of_a_trained_search_arrives(folder: Path, mobilenas: Call) -> None:
    """Its trials, files and table are there: it is reported on, its network classifies pictures, and is exported again.

    That version recorded nothing of the data, which are gone: what it exported then has labels and preprocessing.
    """
    where = ("--database", f"sqlite:///{folder / 'other.db'}")
    taken = mobilenas("archive", "--import", folder / "photos.zip", "--runs", folder / "runs", *where)
    assert taken.code == 0, taken.err
    written = mobilenas("report", "photos", "--out", folder / "photos.html", *where)
    assert written.code == 0, written.err
    assert "9894b5247e5cdb8f" in (folder / "photos.html").read_text()
    dark_and_bright(folder / "photos", each=1, pixels=16)
    told = mobilenas("predict", folder / "runs" / "photos", folder / "photos" / "dark" / "0.png")
    assert told.code == 0, told.err
    assert "bright" in told.out
    shown = mobilenas("trials", "--search", "photos", "--format", "csv", *where)
    assert len(shown.out.splitlines()) == 1 + 6
    exported = mobilenas("export", "photos", "--out", folder / "out", *where)
    assert exported.code == 0, exported.err
    for name in ("labels.txt", "preprocess.json"):
        assert (folder / "out" / name).read_bytes() == (folder / "runs" / "photos" / name).read_bytes()
    checked = mobilenas("db", "check", *where)
    assert checked.code == 0, checked.out


def test_results_of_a_kit_become_a_table(folder: Path, mobilenas: Call) -> None:
    """What a kit measured for that version is a device's table for this one."""
    where = ("--database", f"sqlite:///{folder / 'other.db'}")
    assert mobilenas("device", "add", "board", "kit", *where).code == 0
    taken = mobilenas("latency", "import", folder / "results.json", "--device", "board", *where)
    assert taken.code == 0, taken.err
    assert "board" in mobilenas("devices", "--format", "csv", *where).out
