"""A race is the same wherever its trainings run."""

from pathlib import Path

import pytest

from search.trial import Trial
from tests.search.inline import use_inline
from tests.search.stages.race.test_rungs import race_in, run, trials_of


def told(trial: Trial) -> tuple[object, ...]:
    """What is to be the same: who, on which rung, from whom, how far, and how well to the last bit."""
    return (
        trial.number,
        trial.architecture,
        trial.stage,
        trial.origin,
        trial.rung,
        trial.parent,
        trial.state,
        trial.images_seen,
        trial.scores,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_a_race_ends_alike_on_every_executor(
    executor: str, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes of this machine, or workers of Ray: the trials are those of trainings one after the other."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    with monkeypatch.context() as patched:
        use_inline(patched)
        assert run(here, race_in(here, photos)).state == "done"
    assert run(there, race_in(there, photos, executor=executor)).state == "done"
    expected = [told(trial) for trial in trials_of(here)]
    assert len({trial.rung for trial in trials_of(here)}) == 3
    assert [told(trial) for trial in trials_of(there)] == expected
