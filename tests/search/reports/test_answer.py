"""The answer that a page begins with: what was found beside the reference, or how far the search has come."""

import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.record.store import Store
from search.reports.answer import Answer, answer
from search.reports.history import History
from search.trial import SearchStage
from tests.search.content import PHONE, Writer, fill
from tests.search.makers import CONFIG, new_search, new_start
from tests.search.realistic import Teller, whole_search


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Searches at every stage."""
    folder = tmp_path_factory.mktemp("record")
    made = f"sqlite:///{folder / 'record.db'}"
    with closing(Store.open(made)) as store:
        whole_search(store, "done", folder, trials=12)
        waiting = Teller(store, "waiting", folder, seed=1)
        waiting.finals(waiting.blocks(3)[1].architecture)
        store.searches.set_stage(waiting.search.id, SearchStage.AWAITING)
        Teller(store, "blocks", folder, seed=2).blocks(8)
        Teller(store, "nothing", folder, seed=3)
        fill(store, folder)
    return made


def read(url: str, name: str) -> Answer:
    """The answer of a recorded search."""
    with closing(Store.open(url)) as store:
        return answer(History.read(store, name))


def test_a_done_search_answers_in_three_sentences_and_a_table(url: str) -> None:
    """What the search brought, found network and reference with split and time, then whether the target is met."""
    found = read(url, "done")
    first, networks, judged = found.sentences
    assert re.fullmatch(
        r"The found network is .*the reference \(95% interval [+-]\S+ to [+-]\S+\), and takes \d\d\.\d% of the "
        r"reference's time for a target of 80%\.",
        first,
    )
    assert networks.startswith("The found network has a top-1 of 9")
    assert "% on the test split and takes 0." in networks
    assert "ms (measured) on 'desk'; the reference (MobileNetV3-Small, width 0.5, 32 px) has " in networks
    rows = {name: cells for name, *cells in found.table[1:]}
    beside_ms = float(rows["measured latency, ms"][1].split()[0])
    told = re.match(r"The target, 80% of the reference's latency \((0\.\d{3}) ms\), is ", judged)
    assert told is not None
    assert float(told[1]) == pytest.approx(0.8 * beside_ms, abs=0.001), "of what was measured, not predicted"
    assert rows["target"][0].startswith(f"{told[1]} ms: ")
    assert " percentage points (95% interval " in judged
    assert found.table[0] == ("", "found", "reference: MobileNetV3-Small, width 0.5, 32 px")
    assert list(rows) == [
        "top-1 (test split)",
        "its 95% interval",
        "top-1 (reward split)",
        "predicted latency, ms",
        "measured latency, ms",
        "target",
        "multiply-adds",
        "parameters",
    ]
    assert rows["target"][1] == "", "the reference has none to meet"


def test_every_device_has_its_rows(url: str) -> None:
    """One network for two devices is measured, and judged by a target, on each."""
    found = read(url, "shoes-desk-2")
    assert (
        "The target on 'desk', 80% of the reference's latency (2.448 ms), is met with 20.8% to spare."
        in (found.sentences[2])
    )
    assert f"The target on '{PHONE.name}'" in found.sentences[2]
    assert {"measured latency on desk, ms", "measured latency on phone, ms", "target on phone"} <= {
        row[0] for row in found.table
    }


def test_what_is_not_measured_yet_is_predicted(url: str) -> None:
    """A search that awaits certification has its network, but no measured latency."""
    found = read(url, "waiting")
    assert found.sentences[0].endswith("; it has yet to be measured on 'desk'.")
    assert "ms (predicted) on 'desk'; the reference" in found.sentences[1]
    assert found.sentences[2].endswith(
        "The search is awaiting certification: its final networks have yet to be measured on the device."
    )
    cells = {row[0]: row[1] for row in found.table}
    assert cells["measured latency, ms"] == "not measured"
    assert cells["target"] == "0.420 ms: not measured"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("blocks", ("It was stopped in the block-level search.", "8 networks have been trained", "(reward split)")),
        ("nothing", ("The search has found no network yet.", "No network has been trained yet.")),
        ("shoes-phone-1", ("The search is waiting in the queue: nothing has been measured or trained yet.",)),
        ("photos-desk-1", ("The search failed before it began", "Error: imagefolder:/photos is no folder")),
        ("cifar-phone-2", ("2 networks have been trained, 1 of them predicted to meet the target of 2.000 ms.",)),
    ],
)
def test_without_a_network_it_says_where_the_search_stands(url: str, name: str, words: tuple[str, ...]) -> None:
    """The stage, what was trained, the best so far with its split, and what went wrong."""
    found = read(url, name)
    assert found.table == ()
    for each in words:
        assert each in " ".join(found.sentences)


def test_without_data_the_evaluator_is_named(tmp_path: Path) -> None:
    """Where a user's own functions judge and predict, the answer says so and compares with nothing."""
    config: dict[str, Any] = {
        **CONFIG,
        "latency": "mine:ms",
        "evaluator": "mine:top1",
        "data": {**CONFIG["data"], "source": "none"},
    }
    made = f"sqlite:///{tmp_path / 'record.db'}"
    with closing(Store.open(made)) as store:
        start = replace(new_start(store), table_id=None, reference_ms=None)
        writer = Writer(store, store.searches.create(name="own", config=config, start=start))
        best = writer.trial(top1=0.75, ms=1.5)
        before = answer(History.read(store, "own"))
        store.trials.add_export(writer.search.id, best.number, folder="out", files={})
    assert "with a top-1 of 75.00% (by mine:top1) and a predicted latency of 1.500 ms" in before.sentences[1]
    assert read(made, "own").sentences == (
        "The found network has a top-1 of 75.00% (by mine:top1) and takes 1.500 ms (predicted).",
    )
    assert ("target", "2.000 ms: not measured") in read(made, "own").table


def test_a_relative_target_of_one_of_several_devices(tmp_path: Path) -> None:
    """A target given in ms for one device is not judged by the share that another one was given."""
    config = {**CONFIG, "targets": {"desk": "2ms", "phone": "80%"}}
    made = f"sqlite:///{tmp_path / 'record.db'}"
    with closing(Store.open(made)) as store:
        search = new_search(store, "one", config=config)
        Writer(store, search).trial(SearchStage.FINAL, top1=0.5, origin="found", correct=5, total=10)
        history = History.read(store, "one")
    assert answer(history).sentences == (
        "The found network has a top-1 of 50.00% on the test split and takes 1.500 ms (predicted) on 'desk'.",
    )
