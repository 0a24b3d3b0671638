"""Who is chosen in the end."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from search.run_folder import RunFolder
from search.stages.final import _fastest_alike
from search.trial import Origin, SearchStage, State, Trial
from tests.search.content import network
from trainer.training.judgement import Judgement


@dataclass
class Finals:
    """Final networks that were judged, each with what it takes."""

    folder: Path
    trials: list[Trial] = field(default_factory=list)

    def add(self, ms: float, likelihoods: np.ndarray) -> Trial:
        """One more."""
        scores: Any = SimpleNamespace(latency_ms=ms)
        trial = Trial(
            number=len(self.trials),
            stage=SearchStage.FINAL,
            state=State.COMPLETE,
            origin=Origin.CANDIDATE,
            architecture=network(len(self.trials)),
            scores=scores,
            seed=0,
        )
        path = RunFolder(self.folder).judged(trial.number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(Judgement(right=likelihoods > -1, log_likelihoods=likelihoods).to_bytes())
        self.trials.append(trial)
        return trial

    def fastest_alike(self, best: Trial) -> Trial:
        """What `prefer: speed` takes."""
        session: Any = SimpleNamespace(start=SimpleNamespace(files=RunFolder(self.folder)))
        return _fastest_alike(session, best, self.trials)


@pytest.mark.parametrize(("images", "chosen"), [(60, 1), (20_000, 0)])
def test_speed_wins_where_the_images_do_not_tell_networks_apart(tmp_path: Path, images: int, chosen: int) -> None:
    """A faster network that is a little worse is taken as long as that may be noise, and no longer."""
    rng = np.random.default_rng(0)
    finals, best = Finals(tmp_path), -rng.exponential(0.3, images)
    first = finals.add(2.0, best)
    finals.add(1.8, np.minimum(0.0, best - 0.02 + rng.normal(0, 0.2, images)))
    finals.add(1.0, best - 1.0)
    assert finals.fastest_alike(first).number == chosen


def test_equal_networks_are_alike(tmp_path: Path) -> None:
    """Of two that say the same of every image the faster one is taken, of equally fast ones the first."""
    finals, same = Finals(tmp_path), np.full(50, -0.5)
    first = finals.add(2.0, same)
    assert finals.fastest_alike(first) is first
    finals.add(1.5, same)
    finals.add(1.5, same)
    assert finals.fastest_alike(first).number == 1
