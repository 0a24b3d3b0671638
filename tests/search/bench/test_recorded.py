"""Curves from the record: races that nobody leaves, and what their first looks said of the ends."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from search.bench.recorded import recorded_curves
from search.record.store import Store
from search.trial import Origin, SearchStage
from space.errors import RunError
from tests.search.inline import use_inline
from tests.search.races import IMAGES, race_in, run
from tests.tiny import Result, dark_and_bright

pytestmark = pytest.mark.usefixtures("one_thread")
NETWORKS = 7


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of small pictures."""
    return dark_and_bright(tmp_path_factory.mktemp("photos"), each=60, pixels=16)


@pytest.mark.slow
def test_signals_are_checked_on_ones_own_data(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, mobilenas: Callable[..., Result]
) -> None:
    """All networks of a study are on each rung and in the end; a second seed of the trainings makes a second truth."""
    use_inline(monkeypatch)
    monkeypatch.setenv("MOBILENAS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MOBILENAS_DATABASE_URL", f"sqlite:///{tmp_path / 'record.db'}")
    for seed, name in enumerate(("a", "b")):
        content = race_in(tmp_path, photos, name=name, training={"batch_size": 16, "seed": seed})
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        shown = mobilenas("proxy-quality", "--config", path, "--networks", NETWORKS)
        assert shown.code == 0, shown.err
        assert "with the top-1 on the reward split at the end" in shown.out.replace("\n", " ")
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        one = recorded_curves(store, ["a"])
        both = recorded_curves(store, ["a", "b"])
        finals = store.trials.of(store.searches.get("a").id, SearchStage.FINAL)
    ended = {trial.architecture: trial for trial in finals if trial.origin == Origin.CANDIDATE}
    assert len(one.curves) == len(ended) == NETWORKS
    for curve in one.curves:
        (points,) = curve.points.values()
        assert list(points) == [*IMAGES, 160]
        assert points[160].test_top1 == ended[curve.arch].scores.top1
        assert [point.seconds for point in points.values()] == sorted(point.seconds or -1 for point in points.values())
    assert {tuple(curve.points) for curve in both.curves} == {(0, 1)}
    rows = json.loads(mobilenas("proxy-quality", "a", "b", "--format", "json").out)
    # All are near the target, so that there is nothing else to compare.
    assert {(row["compared"], row["networks"], row["trainings"]) for row in rows} == {("near the limit", NETWORKS, 2)}
    assert {f"{images} images, log-likelihood" for images in IMAGES} <= {row["signal"] for row in rows}


@pytest.mark.slow
def test_other_searches_are_refused(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, mobilenas: Callable[..., Result]
) -> None:
    """One that does not race, two of different lengths, and a race of which too few came to the end."""
    use_inline(monkeypatch)
    run(tmp_path, race_in(tmp_path, photos), "race")
    longer = race_in(tmp_path, photos, final={"images": 192, "top_k": 2, "weights": "continued"})
    run(tmp_path, longer, "longer")
    counts = {"race": {"rungs": []}, "blocks": {"trials": 2, "train_images": 64}, "final": {"images": 64}}
    run(tmp_path, race_in(tmp_path, photos, **counts), "counts")
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        with pytest.raises(RunError, match="'counts' does not race"):
            recorded_curves(store, ["counts"])
        with pytest.raises(RunError, match="'race' and 'longer' differ in their data, space, recipes"):
            recorded_curves(store, ["race", "longer"])
    few = mobilenas("proxy-quality", "race", "--database", f"sqlite:///{tmp_path / 'record.db'}")
    assert (few.code, few.err.count("\n")) == (2, 1)
    assert "race has 2 networks" in few.err
