"""A race of six networks that takes some seconds, and what is to be seen of it."""

from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

import mobilenas
from search.record.store import Store
from search.trial import SearchStage, State, Trial
from tests.tiny import TINY_SPACE

RUNGS = [{"images": 32, "networks": 6}, {"images": 64, "networks": 3}, {"images": 96, "networks": 2}]
IMAGES = [32, 64, 96]
LATENCY = "from space.cost import cost_of\n\n\ndef ms(arch):\n    return cost_of(arch).madds / 1e6\n"


def race_in(folder: Path, photos: Path, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - sections of a run
    """The configuration of a race of six networks that takes some seconds."""
    (folder / "space.yaml").write_text(yaml.safe_dump(TINY_SPACE))
    (folder / "madds.py").write_text(LATENCY)
    return {
        "plugins": str(folder),
        "latency": "madds:ms",
        "workers": 2,
        "determinism": "strict",
        "batch": 3,
        "data": {"source": f"imagefolder:{photos}", "resolution": 16, "reward_images": 12, "folds": 1},
        "space": {"preset": str(folder / "space.yaml"), "width": 0.5},
        "target": {"ms": 0.075},
        "training": {"batch_size": 16},
        "blocks": {"reuse": False},
        "race": {"rungs": RUNGS, "latency_from": 0.3},
        "netadapt": {"max_steps": 0},
        "final": {"images": 160, "top_k": 2, "weights": "continued"},
        **changes,
    }


def run(folder: Path, config: dict[str, Any], name: str = "race") -> mobilenas.Search:
    """A search, on with it if it has begun already."""
    url = f"sqlite:///{folder / 'record.db'}"
    with closing(Store.open(url)) as store:
        begun = any(search.name == name for search in store.searches.all())
    if begun:
        return mobilenas.resume(name, database=url)
    return mobilenas.search(config, name=name, database=url, runs=folder / "runs")


def trials_of(folder: Path, name: str = "race") -> list[Trial]:
    """The trials of a search that were not refused."""
    with closing(Store.open(f"sqlite:///{folder / 'record.db'}")) as store:
        trials = store.trials.of(store.searches.get(name).id)
    return [trial for trial in trials if trial.state is not State.PRUNED]


def rungs_of(trials: list[Trial]) -> list[list[Trial]]:
    """The block-level trials by rung."""
    blocks = [trial for trial in trials if trial.stage is SearchStage.BLOCKS]
    return [[trial for trial in blocks if trial.rung == number] for number in range(len(RUNGS))]


def race_near_the_reference(
    folder: Path, photos: Path, rungs: list[dict[str, int]], final: dict[str, Any]
) -> dict[str, Any]:
    """A race in a space around a published network, for four fifths of its latency."""
    return race_in(
        folder,
        photos,
        space={"preset": "mobilenet-v3-small-32px", "width": 0.3},
        target={"relative": 0.8},
        race={"rungs": rungs, "latency_from": 0.9},
        final=final,
    )


def told(trials: list[Trial]) -> list[object]:
    """What must be alike of searches that should be equal."""
    return [
        (trial.number, trial.origin, trial.parent, trial.architecture, trial.scores, trial.correct) for trial in trials
    ]
