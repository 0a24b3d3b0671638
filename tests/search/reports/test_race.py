"""A race as reports tell it."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from search.record.store import Store
from search.reports.history import History
from search.reports.race import rungs_of
from search.trial import Origin, Scores, State, Trial
from tests.search.content import Writer
from tests.search.makers import CONFIG, new_search
from tests.tiny import Result

Mobilenas = Callable[..., Result]

RUNGS = [{"images": 6000, "networks": 3}, {"images": 18000, "networks": 2}]
CONTENT: dict[str, Any] = {**CONFIG, "race": {**CONFIG["race"], "rungs": RUNGS}}


@pytest.fixture
def raced(tmp_path: Path) -> str:
    """The record of a search of three networks, of which the second overtakes the third on the next rung."""
    url = f"sqlite:///{tmp_path / 'record.db'}"
    with closing(Store.open(url)) as store:
        writer = Writer(store, new_search(store, "one", config=CONTENT))
        for number, likelihood in enumerate((-0.9, -0.6, -0.5)):
            _trained(writer, number, top1=0.7 + number / 100, likelihood=likelihood)
        for parent, likelihood in ((2, -0.45), (1, -0.4)):
            _trained(
                writer, parent, top1=0.8, likelihood=likelihood, origin=Origin.PROMOTED, parent=parent, iteration=1
            )
    return url


def _trained(writer: Writer, network: int, *, likelihood: float, **changes: Any) -> Trial:  # noqa: ANN401 - fields
    scores = Scores(top1=None, latency_ms=1.5, madds=1, params=1, log_likelihood=likelihood, probability=0.5)
    return writer.trial(network_number=network, scores=scores, **changes)


def test_each_rung_has_its_order(raced: str) -> None:
    """The largest log-likelihood leads, whatever led on the rung before."""
    with closing(Store.open(raced)) as store:
        history = History.read(store, "one")
    first, second = rungs_of(history.record.config, history.trials)
    assert [trial.number for trial in first.ended] == [2, 1, 0]
    assert [trial.number for trial in second.ended] == [4, 3]
    assert (first.images, first.wanted, second.running) == (6000, 3, 0)
    assert rungs_of({"seed": 0}, history.trials) == (), "a record from before there were races"


def test_a_network_is_listed_once(raced: str) -> None:
    """As it was left: who was trained further is no other network."""
    with closing(Store.open(raced)) as store:
        history = History.read(store, "one")
    assert [trial.number for trial in history.networks()] == [0, 3, 4]
    assert {trial.number for trial in history.within(2.0)} == {0, 3, 4}


def test_status_and_page_show_who_leads(raced: str, mobilenas: Mobilenas, tmp_path: Path) -> None:
    """`mobilenas status` has a line for each rung, the page a section with who left where, and none about NetAdapt."""
    shown = mobilenas("status", "one", "--database", raced)
    assert (
        "race      up to 6,000 images: 3 of 3 networks; trial 2 leads (1.500 ms, log-likelihood -0.5000)" in shown.out
    )
    assert "race      up to 18,000 images: 2 of 2 networks; trial 4 leads" in shown.out
    made = mobilenas("report", "one", "--out", tmp_path / "page.html", "--database", raced)
    assert made.code == 0, made.err
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("the end") >= 2
    assert "log-likelihood at 18,000" in page
    assert "NetAdapt, step by step" not in page


def test_a_race_that_has_just_begun_says_so(tmp_path: Path, mobilenas: Mobilenas) -> None:
    """Running trainings are counted; the page waits for the first network."""
    url = f"sqlite:///{tmp_path / 'record.db'}"
    with closing(Store.open(url)) as store:
        writer = Writer(store, new_search(store, "one", config=CONTENT))
        writer.trial(state=State.RUNNING)
        history = History.read(store, "one")
    first, _ = rungs_of(history.record.config, history.trials)
    assert (first.running, first.ended) == (1, ())
    mobilenas("report", "one", "--out", tmp_path / "page.html", "--database", url)
    assert "No network has reached the first rung yet" in (tmp_path / "page.html").read_text(encoding="utf-8")
