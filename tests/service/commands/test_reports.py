"""Reports and comparisons: what a person reads, from searches in every state, and in one file that loads nothing."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from search.groups import searches_of
from search.record.rows import FurtherTarget
from search.record.store import Store
from search.reports.history import History
from search.trial import NetworkMeasurement, SearchStage, State
from service.cli.reports import register
from service.report import written
from service.report.figures import plotly_js
from service.report.page import Html, figure, page, section, sentence, table, text
from service.report.published import published
from service.report.subject import Subject
from space.cost import cost_of
from space.errors import InvalidConfig, MobilenasError, RunError
from tests.search.content import PHONE, Writer, fill, validation
from tests.search.makers import CONFIG, latency_table, new_search, new_start, record_table
from tests.search.realistic import Teller, whole_search

HOSTILE = "<script>alert(1)</script><b>&\"'</script><!--"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A record with searches in every state, which the tests only read."""
    folder = tmp_path_factory.mktemp("record")
    made = f"sqlite:///{folder / 'record.db'}"
    with closing(Store.open(made)) as store:
        done = whole_search(store, "done", folder, seed=0, trials=40)
        table_id = done.search.require_start().table_id
        assert table_id is not None
        store.devices.add_validation(table_id, validation(), {})
        whole_search(store, "again", folder, seed=1, trials=30)
        refining = Teller(store, "refining", folder, seed=2)
        refining.walk(refining.blocks(6)[0], steps=2)
        Teller(store, "one-trial", folder, seed=3).blocks(1)
        Teller(store, "none", folder, seed=4)
        store.searches.create(name="queued", config=CONFIG)
    return made


class Reader(HTMLParser):
    """Reads a page as a browser would: elements that are not closed, ids, links, scripts, text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.scripts: list[str] = []
        self.figures: list[dict[str, Any]] = []
        self.words: list[str] = []
        self.policy = ""
        self._figure = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See HTMLParser."""
        given = dict(attrs)
        if tag == "meta":
            self.policy += given.get("content") or "" if given.get("http-equiv") else ""
            return
        self.open.append(tag)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if "href" in given else []
        self.loads += [str(given[name]) for name in ("src", "action", "data", "srcset") if name in given]
        self._figure = given.get("class") == "figure"

    def handle_endtag(self, tag: str) -> None:
        """See HTMLParser."""
        assert self.open.pop() == tag, f"{tag} is closed where another element is open"

    def handle_data(self, data: str) -> None:
        """See HTMLParser."""
        if self.open[-1:] == ["script"]:
            if self._figure:
                self.figures.append(json.loads(data))
            else:
                self.scripts.append(data)
        elif self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def said(self) -> str:
        """The text that a person reads, figures left out."""
        return " ".join(" ".join(self.words).split())


def read(url: str, *names: str, target_ms: float | None = None) -> Reader:
    """The page about some searches."""
    with closing(Store.open(url)) as store:
        subjects = [
            Subject.read(store, name, f"s{number}-" if len(names) > 1 else "") for number, name in enumerate(names)
        ]
        return Reader(written.render(subjects, target_ms))


def trace(figures: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """What a figure shows under a name."""
    return next(each for drawn in figures for each in drawn["data"] if each.get("name") == name)


@pytest.mark.parametrize("names", [("done",), ("refining",), ("one-trial",), ("none",), ("queued",), ("done", "again")])
def test_page_is_whole_and_loads_nothing(url: str, names: tuple[str, ...]) -> None:
    """Elements are closed, links lead somewhere, ids are unique, and nothing is fetched from anywhere."""
    found = read(url, *names)
    assert found.open == []
    assert len(set(found.ids)) == len(found.ids)
    assert set(found.links) <= {f"#{each}" for each in found.ids}
    assert found.loads == []
    assert len(found.scripts) == 2
    hashes = re.findall(r"'sha256-([^']+)'", found.policy)
    assert hashes == [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in found.scripts]
    assert "default-src 'none'" in found.policy
    assert "http" not in found.policy
    assert found.scripts[0] == plotly_js()
    assert not re.search(r"\bnan\b|None\b|inf\b", found.said), "what is not known is left out or said in words"


def test_page_tells_what_the_record_holds(url: str) -> None:
    """The front, the rewards, the walk and the measurements in the figures are those of the record."""
    found = read(url, "done")
    with closing(Store.open(url)) as store:
        history = History.read(store, "done")
    for name, stage in (("block-level search", SearchStage.BLOCKS), ("NetAdapt", SearchStage.NETADAPT)):
        drawn = trace(found.figures, name)
        trials = [trial for trial in history.complete(stage) if trial.origin != "reference"]
        assert drawn["x"] == [trial.scores.latency_ms for trial in trials]
        assert drawn["y"] == pytest.approx([100 * (trial.scores.top1 or 0) for trial in trials])
    assert trace(found.figures, "best so far")["y"][-1] == max(history.rewards.values())
    walked = trace(found.figures, "steps taken")
    assert walked["x"][1:] == [step.latency_after_ms for step in history.steps]
    assert trace(found.figures, f"found (trial {history.found and history.found.number})")["y"] == [
        measured.measured_ms
        for measured in history.measurements
        if measured.trial == getattr(history.found, "number", 0)
    ]
    best = history.within(history.record.require_start().target_ms)[0]
    assert best.architecture.arch_id in found.said
    assert "reference: MobileNetV3-Small, width 0.5, 32 px" in found.said
    assert "Top-1 of the found network minus that of the reference, on 10,000 images of the test split (paired):" in (
        found.said
    )


@pytest.mark.parametrize(
    ("name", "sentences"),
    [
        ("none", ("No network has been trained yet.", "NetAdapt has taken no step.", "No evaluation has ended yet.")),
        ("one-trial", ("No trained network meets the target yet.", "too few networks", "Fewer than two networks")),
        (
            "refining",
            ("The final training of the found network and of the reference has not ended yet.", "2 steps from"),
        ),
        ("queued", ("is waiting in the queue",)),
        ("done", ("What stands out from chance among", "No trial failed, and there were no warnings.")),
    ],
)
def test_what_is_not_there_is_said(url: str, name: str, sentences: tuple[str, ...]) -> None:
    """A section without anything to show says why."""
    said = read(url, name).said
    for words in sentences:
        assert words in said


def test_page_begins_with_the_answer_and_ends_with_the_metadata(url: str) -> None:
    """The found network comes before the contents, the run folder and fingerprint after everything that was found."""
    with closing(Store.open(url)) as store:
        made = written.render([Subject.read(store, "done")])
    places = [
        made.index(words)
        for words in ("The found network has a top-1 of ", "<nav>", "Final networks</h2>", "Failures and warnings</h2>")
    ]
    assert places == sorted(places)
    assert made.index("About this search</h2>") > places[-1]
    assert made.index("fingerprint ") > places[-1]
    said = read(url, "done", "again").said
    assert "found network of 'done' minus that of 'again': " in said


def test_no_top1_of_a_page_is_without_its_split(url: str) -> None:
    """Every head of a column, and every axis, says which images it is on."""
    with closing(Store.open(url)) as store:
        subjects = [Subject.read(store, name, f"{name}-") for name in ("done", "again")]
        made = written.render(subjects)
    heads = {head for head in re.findall(r"<th[^>]*>([^<]*)</th>", made) if "top-1" in head}
    assert heads
    assert {head for head in heads if "split)" not in head and "ImageNet" not in head} == {"top-1 of its found network"}


def test_page_is_left_in_the_run_folder_unless_the_configuration_says_no(url: str) -> None:
    """report.html is what `report` writes; a place that cannot be written to is told with the remedy."""
    told: list[str] = []
    with closing(Store.open(url)) as store:
        path = store.searches.get("done").require_start().files.page
        written.write_page(store, "done", told.append)
        assert path.read_text() == written.render([Subject.read(store, "done")])
        path.unlink()
        path.mkdir()
        written.write_page(store, "done", told.append)
        assert told == ["warning: report.html was not written: Is a directory; later: mobilenas report done"]
        path.rmdir()
        new_search(store, "without", run_folder=path.parent, config={**CONFIG, "html": False})
        written.write_page(store, "without", told.append)
        assert not path.exists()
        assert len(told) == 1


def test_equal_records_make_equal_pages(url: str) -> None:
    """Nothing in a page depends on when or how often it was made."""
    with closing(Store.open(url)) as store:
        pages = [written.render([Subject.read(store, "done"), Subject.read(store, "again", "b-")]) for _ in range(2)]
    assert pages[0] == pages[1]


def test_text_of_the_record_is_text(tmp_path: Path) -> None:
    """Names, notes, labels, errors, origins and what was narrowed may hold anything, and stay what they are."""
    made = f"sqlite:///{tmp_path / 'record.db'}"
    with closing(Store.open(made)) as store:
        config = {**CONFIG, "data": {**CONFIG["data"], "source": HOSTILE}}
        fields = {"note": HOSTILE, "owner": HOSTILE, "labels": [HOSTILE], "budget": HOSTILE}
        search = new_search(store, HOSTILE, config=config, run_folder=Path(HOSTILE), data_hash=HOSTILE, **fields)
        new_search(store, "plain", config={**CONFIG, HOSTILE: HOSTILE})
        writer = Writer(store, search)
        for number in range(14):
            writer.trial(top1=0.5 + number / 100, ms=1.5, origin=HOSTILE, params={HOSTILE: f"{HOSTILE}{number % 2}"})
        writer.trial(SearchStage.NETADAPT, top1=0.5, origin=HOSTILE, parent=0, iteration=1)
        store.trials.add_step(search.id, step(trial=14, narrowed=HOSTILE))
        failed = writer.trial(state=State.FAILED)
        store.searches.set_stage(search.id, SearchStage.FINAL, error=HOSTILE)
        store.searches.add_log_line(search.id, level="warning", event="note", message=HOSTILE, trial=failed.number)
    found = read(made, HOSTILE, "plain")
    assert len(found.scripts) == 2
    assert found.open == []
    assert found.said.count(HOSTILE) > 10
    for drawn in found.figures:
        for words in re.findall(r'"((?:[^"\\]|\\.)*)"', json.dumps(drawn)):
            assert "<script" not in words
            assert "<b>" not in words


def step(**changes: Any) -> Any:  # noqa: ANN401 - fields of NetAdaptStep
    """A step of a walk."""
    from search.trial import NetAdaptStep

    fields = {"iteration": 1, "trial": 1, "parent": 0, "narrowed": "stage 1: 40→32", "proposals": 1}
    figures = {"latency_before_ms": 2.0, "latency_after_ms": 1.9, "top1_before": 0.5, "top1_after": 0.5}
    return NetAdaptStep(**{**fields, **figures, **changes})


def test_searches_of_every_kind_can_be_shown(tmp_path: Path) -> None:
    """The record of a team: failed and queued searches, another data set and device, results taken over."""
    made = f"sqlite:///{tmp_path / 'record.db'}"
    with closing(Store.open(made)) as store:
        fill(store, tmp_path)
        names = [record.name for record in store.searches.all()]
    for name in names:
        assert read(made, name).open == []
    said = read(made, *names).said
    assert "Not begun yet, so not compared: photos-desk-1, shoes-phone-1." in said
    assert "different data, so top-1 cannot be compared" in said
    assert "different devices, so latencies cannot be compared" in said
    assert "it took longer than 60 minutes" in said


def test_one_network_for_two_devices(tmp_path: Path) -> None:
    """Both devices are told of with their tables and targets, and the network's measurements on each."""
    made = f"sqlite:///{tmp_path / 'record.db'}"
    with closing(Store.open(made)) as store:
        desk, phone = record_table(store), record_table(store, latency_table(device=PHONE))
        start, further = new_start(store, table_id=desk), FurtherTarget(table_id=phone, target_ms=7.5, reference_ms=9.0)
        search = store.searches.create(name="shared", config=CONFIG, start=start, further=[further])
        found = Writer(store, search).trial(SearchStage.FINAL, top1=0.7, origin="found", correct=69, total=100)
        for table_id, ms in ((desk, 1.7), (phone, 6.5)):
            store.trials.add_measurements(search.id, table_id, [(measured(found.number, ms), (1.0,))])
    said = read(made, "shared").said
    assert "Cortex-A76" in said
    assert "7.500 ms on phone" in said
    assert f"found (trial {found.number}) on phone" in said
    assert "1.700 (1.000 to 9.000)" in said, "of the first device, in whose ms the predictions are"


def measured(trial: int, ms: float) -> NetworkMeasurement:
    """A measurement with a wide interval."""
    return NetworkMeasurement(
        trial=trial, predicted_ms=1.5, measured_ms=ms, low_ms=1.0, high_ms=9.0, median_ms=1.6, samples=1
    )


def test_search_without_data_and_without_a_table(tmp_path: Path) -> None:
    """Where functions of the user's own judge and predict, there is neither device nor final network."""
    made = f"sqlite:///{tmp_path / 'record.db'}"
    with closing(Store.open(made)) as store:
        config = {**CONFIG, "latency": "mine:ms", "data": {**CONFIG["data"], "source": "none"}}
        start = replace(new_start(store), table_id=None, reference_ms=None)
        Writer(store, store.searches.create(name="own", config=config, start=start)).trial(top1=0.5, ms=1.5)
    found = read(made, "own")
    assert "latency predicted by mine:ms" in found.said
    assert "an evaluator of your own judges its networks" in found.said
    assert "the reference takes" not in found.said


def test_every_objective_has_its_front(tmp_path: Path) -> None:
    """Where a search explores several costs, each is drawn against top-1."""
    made = f"sqlite:///{tmp_path / 'record.db'}"
    with closing(Store.open(made)) as store:
        blocks = {**CONFIG["blocks"], "objectives": ["top1", "latency_ms", "params", "peak_bytes"]}
        writer = Writer(store, new_search(store, "one", config={**CONFIG, "blocks": blocks}))
        trials = [writer.trial(top1=0.5, ms=1.5) for _ in range(2)]
    titled = [each for each in read(made, "one").figures if "title" in each["layout"]["xaxis"]]
    drawn = {each["layout"]["xaxis"]["title"]["text"]: each for each in titled}
    assert trace([drawn["parameters, M"]], "block-level search")["x"] == [trial.scores.params / 1e6 for trial in trials]
    memory = trace([drawn["peak memory of activations, KiB"]], "block-level search")["x"]
    assert memory == [cost_of(trial.architecture).peak_bytes / 1024 for trial in trials]


def test_candidates_are_shown_as_not_tested(tmp_path: Path) -> None:
    """Of several final networks only the chosen one met the test split."""
    made = f"sqlite:///{tmp_path / 'record.db'}"
    with closing(Store.open(made)) as store:
        search = new_search(store, "one")
        writer = Writer(store, search)
        for top1 in (0.6, 0.7):
            writer.trial(SearchStage.FINAL, top1=top1, origin="candidate")
        found = writer.trial(SearchStage.FINAL, top1=0.7, origin="found", parent=1, correct=69, total=100)
        start = search.require_start()
        assert start.table_id is not None
        for ms in (1.7, 1.9):
            store.trials.add_measurements(search.id, start.table_id, [(measured(found.number, ms), (1.0,))])
    said = read(made, "one").said
    assert said.count("not tested") == 2
    assert "The candidate with the best top-1 (reward split) was chosen" in said
    assert "69.00%" in said
    assert "1.900 (1.000 to 9.000)" in said, "the newest measurement counts"
    assert "are compared once both are trained" in said


def test_searches_are_compared_at_equal_cost(url: str) -> None:
    """The page names the target in common, the difference of the final networks, and what differs in configuration."""
    found = read(url, "done", "again", "none", "queued")
    with closing(Store.open(url)) as store:
        curves = [History.read(store, name).top1_curve(0.42) for name in ("done", "again")]
    drawn = [each for figure in found.figures for each in figure["data"] if each.get("name") == "again"]
    assert any(each["y"] == [None if v is None else 100 * v for v in curves[1].best] for each in drawn)
    assert "Common target: 0.4200 ms, the largest target of the searches." in found.said
    assert "done − again" in found.said
    assert "Not begun yet, so not compared: queued." in found.said
    assert "after 0 evaluations" in found.said, "the shortest search has none"
    assert "Common target: 0.3000 ms, as asked for." in read(url, "done", "again", target_ms=0.3).said


def test_replicates_are_summed_up(tmp_path: Path) -> None:
    """Searches that differ in their seeds alone get a median and a range, and one colour."""
    made = f"sqlite:///{tmp_path / 'record.db'}"
    with closing(Store.open(made)) as store:
        first = Teller(store, "r1", tmp_path, seed=0)
        table_id = first.search.require_start().table_id
        others = [Teller(store, f"r{seed}", tmp_path, seed, table_id) for seed in (2, 3)]
        for teller in (first, *others):
            teller.blocks(8)
        config = {**CONFIG, "blocks": {**CONFIG["blocks"], "sampler": "random"}}
        writer = Writer(store, new_search(store, "other", table_id=table_id, target_ms=0.42, config=config))
        writer.trial(top1=0.5, ms=0.3)
    found = read(made, "r1", "r2", "r3", "other")
    assert "searches that differ only in their seeds" in found.said
    assert "r1, r2, r3" in found.said
    lines = [each for figure in found.figures[:1] for each in figure["data"] if each.get("line")]
    colours = {each["name"]: each["line"]["color"] for each in lines}
    assert colours["r1"] == colours["r2"] == colours["r3"] != colours["other"]
    assert "differ only in their seeds" not in read(made, "r1", "other").said


def test_published_rows_are_printed_with_their_sources() -> None:
    """MobileNetV3-Large's 75.2 % in 51.2 ms (Howard et al. 2019, table 3, Pixel 1); every row has a source."""
    rows = {row.title: row for row in published()}
    large = rows["mobilenet_v3_large 1.0 @224"]
    assert (large.top1_pct, large.latency_ms, large.device) == (75.2, 51.2, "Pixel 1")
    assert all(row.source for row in rows.values())
    assert all(40 < row.top1_pct < 90 for row in rows.values()), "no detection's average precision among them"


# The pieces of a page


def test_escaping_is_the_rule() -> None:
    """Whatever is no HTML already is escaped, in text, tables, captions and titles."""
    assert text("<") == "&lt;"
    assert text(Html("<b>")) == "<b>"
    assert "&lt;i&gt;" in table(("<i>",), [["<i>"]], caption="<i>")
    assert "<i>" not in sentence("<i>") + table(("<i>",), [["<i>"]], caption="<i>") + figure("{}", "<i>")
    made = page("<i>", Html(""), [section("k", "<i>", "<i>")], "")
    assert "<i>" not in made.partition("</style>")[2].partition("<script>")[0]


def test_figures_cannot_end_their_script() -> None:
    """JSON that holds the end of a script reads the same and ends nothing."""
    content = json.dumps({"data": [{"name": "</script x><!--&"}], "layout": {}})
    made = figure(content, "what it shows")
    assert made.count("</script") == 1
    assert Reader(made).figures == [json.loads(content)]


def test_numbers_stand_to_the_right() -> None:
    """A column is one of numbers if each cell is one, with whatever unit or interval behind it."""
    made = table(("a", "b", "c"), [["1.5 (1 to 2)", "5f52", "none"], ["-0.3 %", "17", "2"]])
    assert made.count('class="n"') == 6


# The commands


@pytest.fixture
def run(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """The commands by themselves, in a folder of their own; returns what they print."""
    app = typer.Typer()
    register(app)
    monkeypatch.setenv("MOBILENAS_DATABASE_URL", url)
    monkeypatch.chdir(tmp_path)

    def called(*arguments: str) -> str:
        monkeypatch.setenv("COLUMNS", "200")
        result = CliRunner().invoke(app, arguments, catch_exceptions=True)
        if isinstance(result.exception, MobilenasError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return called


def test_report_is_written_and_summed_up(run: Callable[..., str], tmp_path: Path) -> None:
    """The file is named after the search; the terminal tells counts, best networks, the front and the cost."""
    said = run("report", "done")
    assert (tmp_path / "done.html").read_text().startswith("<!DOCTYPE html>")
    assert "done: done; trials: " in said
    assert "core-minutes" in said
    assert re.search(r"Pareto front: \d+ networks, 0\.\d+ ms with .* top-1 \(reward split\)", said)
    assert "report: done.html" in said
    said = run("report", "done", "none", "--out", "both.html", "--target", "0.001ms")
    assert (tmp_path / "both.html").exists()
    assert "no trained network is within 0.0010 ms" in said
    run("report", "none", "done")
    assert (tmp_path / "none-and-1-more.html").exists()


def test_comparison_for_programs(run: Callable[..., str]) -> None:
    """JSON with both searches under one target, and the paired difference of their final networks."""
    found = json.loads(run("compare", "done", "again", "--format", "json"))
    assert found["target_ms"] == 0.42
    assert found["config"] == {"seed": [0, 1]}
    assert [each["name"] for each in found["searches"]] == ["done", "again"]
    assert found["final_top1_difference"]["kind"] == "paired"
    assert found["final_top1_difference"]["low"] <= found["final_top1_difference"]["difference"]
    assert found["reference_point"]["top1"] == 0.1
    assert found["at_equal"]["evaluations"] == min(each["evaluations"] for each in found["searches"])
    assert found["searches"][0]["core_minutes"]["all"] > 30


def test_comparison_for_people(run: Callable[..., str]) -> None:
    """Tables of what differs and of what was reached, and sentences for the rest."""
    said = run("compare", "done", "none")
    for words in ("configurations differ in", "best top-1", "hypervolume", "core-minutes, all", "none"):
        assert words in said
    assert "no two found networks that were tested on the same data" in said
    said = run("compare", "done", "again", "--target", "0.5ms")
    assert "within 0.5000 ms, as asked for" in said
    assert re.search(r"95% interval [+-]\d\.\d\d to [+-]\d\.\d\d, paired", said)
    assert "best top-1 (reward split)" in said


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("report", "nobody"), MobilenasError, "nobody"),
        (("report", "done", "done"), InvalidConfig, "named twice"),
        (("report", "done", "--out", "no/such/folder.html"), RunError, "--out"),
        (("report", "done", "--target", "80%"), InvalidConfig, "80%"),
        (("report", "done", "--target", "1ms"), InvalidConfig, "'done' is judged by its own"),
        (("compare", "done", "nobody"), MobilenasError, "nobody"),
        (("compare", "done", "done"), InvalidConfig, "itself"),
        (("compare", "queued", "queued"), InvalidConfig, "itself"),
        (("compare", "done", "again", "--target", "soon"), InvalidConfig, "soon"),
    ],
)
def test_mistakes_are_named(
    run: Callable[..., str], arguments: tuple[str, ...], error: type[Exception], words: str
) -> None:
    """Each is one sentence with the value and the remedy."""
    with pytest.raises(error, match=re.escape(words)):
        run(*arguments)


def test_groups_stand_for_their_searches(tmp_path: Path) -> None:
    """A group stands for its searches, any other name for the one search."""
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        for name in ("g-r1", "g-r2"):
            store.searches.create(name=name, config=CONFIG, group="g")
        store.searches.create(name="alone", config=CONFIG)
        assert [record.name for record in searches_of(store, "g")] == ["g-r1", "g-r2"]
        assert [record.name for record in searches_of(store, "alone")] == ["alone"]
