"""Searches whose trials are stopped early by Ray Tune: what the record, the report and later proposals make of them."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from search.config.load import parse_config
from search.record.store import Store
from search.trial import SearchStage, State
from space.errors import InvalidConfig
from tests.tiny import Result, tiny_run

Mobilenas = Callable[..., Result]
TRIALS = 10


@pytest.mark.slow
@pytest.mark.usefixtures("fashion_mnist")
def test_stopped_trials_count_and_are_no_results(tmp_path: Path, mobilenas: Mobilenas) -> None:
    """A search with ASHA trains as many networks as it should, some of them in part, and finds one of the whole."""
    run = tiny_run(tmp_path, real=True)  # pictures that not every network can tell apart
    config = yaml.safe_load(run.read_text())
    config |= {"executor": "ray", "ray": {"scheduler": "asha"}}
    config["blocks"] |= {"trials": TRIALS, "train_images": 3000}
    config["netadapt"]["max_steps"] = 0
    run.write_text(yaml.safe_dump(config))
    url = f"sqlite:///{tmp_path}/record.db"
    done = mobilenas("search", "--config", run, "--name", "early", "--database", url, "--runs", tmp_path / "runs")
    assert done.code == 0, done.err
    with closing(Store.open(url)) as store:
        record = store.searches.get("early")
        trials = [trial for trial in store.trials.of(record.id) if trial.stage is SearchStage.BLOCKS]
        rewards = store.trials.rewards(record.id)
        messages = [line.message for line in store.searches.log(record.id)]
    stopped = [trial for trial in trials if trial.state is State.STOPPED]
    assert record.state == "done"
    assert stopped
    assert len(stopped) + sum(trial.state is State.COMPLETE for trial in trials) == TRIALS
    for trial in stopped:
        assert trial.scores.top1 is None
        assert trial.weights is None
        assert trial.number not in rewards
        assert "others had done better" in str(trial.error)
        assert 0.2 * 3000 <= trial.images_seen < 3000
        assert any(f"trial {trial.number}  " in message and "stopped early" in message for message in messages)
    assert next(trial for trial in trials if trial.origin == "reference").state is State.COMPLETE
    tried = [trial.architecture.arch_id for trial in trials if trial.state is not State.PRUNED]
    assert len(set(tried)) == len(tried), "a network that was stopped was proposed again"
    costs = mobilenas("status", "early", "--database", url).out
    assert f"{len(stopped)} stopped" in costs


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evaluator": "mine:judge"}, "leave `evaluator` out"),
        ({"blocks": {"objectives": ["top1", "madds"]}}, "needs a reward of ours"),
        ({"blocks": {"reward": {"kind": "mine:reward"}}}, "needs a reward of ours"),
        ({"determinism": "strict"}, "choose determinism eager"),
    ],
)
def test_what_cannot_be_compared_is_refused(changes: dict[str, object], said: str) -> None:
    """Trials are stopped only where their trainings can be looked at and compared; without Ray nothing is stopped."""
    with pytest.raises(InvalidConfig, match=said):
        parse_config({"executor": "ray", "ray": {"scheduler": "asha"}, **changes})
    assert not parse_config({"ray": {"scheduler": "asha"}, **changes}).stops_early
