"""Which trained network a walk starts from, where the command does not say."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from search.record.store import Store
from search.trial import Origin, SearchStage
from tests.search.content import Writer
from tests.search.makers import new_search
from tests.tiny import Result


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A record of a search whose own reward failed for its second trial."""
    url = f"sqlite:///{tmp_path / 'record.db'}"
    with closing(Store.open(url)) as store:
        writer = Writer(store, new_search(store, "one", run_folder=tmp_path / "run"))
        for top1 in (0.5, None, 0.7, 0.6):
            writer.trial(top1=top1)
        assert set(store.trials.rewards(writer.search.id)) == {0, 2, 3}
    return url


def asked_for(mobilenas: Callable[..., Result], url: str, *options: str) -> str:
    """The weights that the command wants to read, which no test has written."""
    done = mobilenas("netadapt", "--from", "one", "--target", "80%", "--database", url, *options)
    assert (done.code, done.out) == (2, "")
    return done.err


def test_trial_without_a_reward_is_no_candidate(url: str, mobilenas: Callable[..., Result]) -> None:
    """The best reward is walked from, whatever became of the other trials' rewards."""
    assert "trials/2.safetensors cannot be read" in asked_for(mobilenas, url)


def test_trial_without_a_reward_may_be_named(url: str, mobilenas: Callable[..., Result]) -> None:
    """Who names a trial gets it, with or without a reward."""
    assert "trials/1.safetensors cannot be read" in asked_for(mobilenas, url, "--trial", "1")
    assert "has no such completed trial" in asked_for(mobilenas, url, "--trial", "9")


def test_found_network_comes_before_the_best_of_the_trials(url: str, mobilenas: Callable[..., Result]) -> None:
    """A search that has ended is gone on from where it ended."""
    with closing(Store.open(url)) as store:
        writer = Writer(store, store.searches.get("one"), count=4)
        writer.trial(SearchStage.FINAL, origin=Origin.FOUND, top1=0.4, correct=40, total=100)
    assert "trials/4.safetensors cannot be read" in asked_for(mobilenas, url)
