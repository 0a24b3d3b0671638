"""report.md and what the terminal shows of a result: every top-1 with its split, every column with its network."""

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.record.store import Store
from search.reports.markdown import comparison, difference_sentence, render, target_outcome, verdict
from search.reports.recorded_search import RecordedSearch
from search.trial import NetworkMeasurement
from tests.search.content import Writer
from tests.search.judgements import write_judgement
from tests.search.makers import CONFIG, new_search
from tests.search.realistic import Teller, whole_search
from tests.trainer.data.photos import PLAIN
from trainer.data.facts import DataFacts
from trainer.training.metrics import Difference


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A record with a search that is done."""
    folder = tmp_path_factory.mktemp("record")
    with closing(Store.open(f"sqlite:///{folder / 'record.db'}")) as made:
        whole_search(made, "done", folder, trials=12)
        yield made


def test_the_table_names_split_and_reference(store: Store) -> None:
    """The heads say what is compared, the first rows on which images."""
    head, top1, interval, *rows = comparison(RecordedSearch.read(store, "done"))
    assert head == ["", "found", "reference: MobileNetV3-Small, width 0.5, 32 px"]
    assert (top1[0], interval[0]) == ("top-1 (test split)", "its 95% interval")
    assert [row[0] for row in rows[:3]] == ["predicted latency, ms", "measured latency, ms", "median latency, ms"]


def test_no_top1_of_the_report_is_without_its_split(store: Store) -> None:
    """Wherever the report says top-1, the same line says test split or reward split."""
    text = render(RecordedSearch.read(store, "done"))
    named = [line for line in text.splitlines() if "top-1" in line.lower()]
    assert len(named) >= 4
    assert all("test split" in line or "reward split" in line for line in named)


def test_the_verdict_is_in_whole_sentences(store: Store) -> None:
    """Accuracy with its interval, the share of the reference's time, and whether the target is met."""
    top1, share, target, *_ = verdict(RecordedSearch.read(store, "done"))
    assert re.fullmatch(
        r"Top-1 of the found network minus that of the reference, on the same 10,000 images of the test split: "
        r"\+\d\.\d\d percentage points \(95% interval [+-]\d\.\d\d to [+-]\d\.\d\d\); .+\.",
        top1,
    )
    assert re.fullmatch(
        r"Measured side by side, the found network takes \d\d\.\d% of the time of the reference\.", share
    )
    assert re.search(r"measured 0\.\d{3} ms; target (just met|met with .* to spare|missed by .*)\.$", target)


def test_a_search_that_kept_a_trial_says_which(tmp_path: Path) -> None:
    """Where NetAdapt had nothing to do, the report names the trial and what its top-1 is on."""
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as made:
        teller = Teller(made, "early", tmp_path, seed=1)
        best = teller.blocks(5)[1]
        teller.certify(teller.finals(best.architecture))
        text = render(RecordedSearch.read(made, "early"))
    assert f"The found network is that of trial {best.number} of the block-level search: top-1 " in text
    assert "(reward split), 0." in text
    assert "It met the target without NetAdapt." in text


def test_uneven_classes_are_told(tmp_path: Path) -> None:
    """Where one class is most of the test split, its share and the balanced accuracy of both networks are there."""
    facts = DataFacts(
        classes=("cat", "dog"),
        preprocess=PLAIN,
        images=((100, 10, 9000), (10, 10, 1000)),
        test_labels=(*[0] * 9000, *[1] * 1000),
        repeated=0,
        skipped=(),
        left_out=(),
    )
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as made:
        whole_search(made, "uneven", tmp_path, trials=12)
        recorded = RecordedSearch.read(made, "uneven")
        start = replace(recorded.start, data_facts=facts)
        recorded = RecordedSearch(made, replace(recorded.record, start=start))
        for trial in recorded.both():
            write_judgement(recorded.files.tested(trial.number), np.array([True] * 9000 + [False] * 1000))
        text = render(recorded)
    assert "| balanced accuracy (test split) | 50.00% | 50.00% |" in text
    assert "class 'cat' has 90.0% of the test split: always naming it has that top-1." in text


def test_a_users_own_evaluator_is_named(tmp_path: Path) -> None:
    """Without data there is no split, so each top-1 says by whom it is."""
    data = {**CONFIG["data"], "source": "none", "resolution": 32, "channels": 1, "classes": 10}
    config: dict[str, Any] = {**CONFIG, "evaluator": "mine:top1", "data": data}
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as made:
        writer = Writer(made, new_search(made, "own", config=config))
        best = writer.trial(top1=0.75)
        made.trials.add_export(writer.search.id, best.number, folder="out", files={})
        text = render(RecordedSearch.read(made, "own"))
    assert "top-1 75.00% (by mine:top1)" in text
    assert "- top-1: by mine:top1\n" in text


@pytest.mark.parametrize(
    ("relative", "ms", "words"),
    [
        (None, 0.69, "met with 31.0% to spare"),
        (None, 1.026, "missed by 2.6%"),
        (None, 1.004, "just met"),
        (0.8, 1.6, "just met"),
        (0.8, 1.2, "met with 25.0% to spare"),
        (0.8, 1.8, "missed by 12.5%"),
    ],
)
def test_the_target_is_met_or_missed_by_how_much(relative: float | None, ms: float, words: str) -> None:
    """What is left of the budget is spare; a relative target is judged by the measured ratio, not by ms."""

    def measured(value: float) -> NetworkMeasurement:
        return NetworkMeasurement(
            trial=0, predicted_ms=1, measured_ms=value, low_ms=value, high_ms=value, median_ms=value, samples=1
        )

    assert target_outcome(1.0, relative, measured(ms), measured(2.0)) == words


@pytest.mark.parametrize(
    ("gap", "words"),
    [
        (
            (0.012, 0.002, 0.022),
            "+1.20 percentage points (95% interval +0.20 to +2.20); the found network is more accurate",
        ),
        ((-0.012, -0.022, -0.002), "; the found network is less accurate"),
        ((0.001, -0.002, 0.004), "; the difference may be noise, since the interval includes zero"),
        ((0.0, -0.02, 0.02, 310), "includes zero; to see one of 1 point takes some 1,200 such images"),
    ],
)
def test_a_difference_says_what_it_means(gap: tuple[float, ...], words: str) -> None:
    """A difference of shares is in percentage points."""
    difference = Difference(difference=gap[0], low=gap[1], high=gap[2], images=int(gap[3]) if gap[3:] else 0)
    assert difference_sentence(difference, "start network", "all images").endswith(words)
