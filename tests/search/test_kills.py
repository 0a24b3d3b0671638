"""Never lose a trial: a search that is killed again and again ends like one that was left alone."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from search.trial import SearchStage
from tests.search.killing import command, outcome, run_with_kills, write_run
from tests.tiny import Result

pytestmark = pytest.mark.slow

Mobilenas = Callable[..., Result]


def test_killed_search_ends_like_an_uninterrupted_one(tmp_path: Path, mobilenas: Mobilenas) -> None:
    """Coordinator and workers killed at five random moments: every trial once, the same walk, the same result."""
    config = write_run(tmp_path, blocks={"trials": 10}, netadapt={"delta": 0.05, "max_steps": 2})
    alone, killed = (f"sqlite:///{tmp_path}/{name}.db" for name in ("alone", "killed"))
    done = subprocess.run(
        command("search", "--config", config, "--name", "x", "--runs", tmp_path / "alone", "--database", alone),
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    kills = run_with_kills(config, killed, tmp_path / "killed", "x", kills=5, seed=3, longest_s=0.8)
    assert kills.total >= 3  # unless it came to its end before
    expected, walked, stage = outcome(alone, "x")
    assert outcome(killed, "x") == (expected, walked, stage)
    assert stage is SearchStage.DONE
    assert walked
    assert mobilenas("db", "check", "--database", killed).code == 0
    spec = [(tmp_path / folder / "x" / "architecture.json").read_text() for folder in ("alone", "killed")]
    assert spec[0] == spec[1]
