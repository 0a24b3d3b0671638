"""Searches with evaluators and latencies of the user's own: all that a search does, but for training and measuring."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.objective.pareto import non_dominated
from search.record.rows import SearchRecord
from search.record.store import Store
from search.trial import SearchStage, State, Trial
from space.arch import Architecture
from tests.search.inline import use_inline
from tests.search.killing import write_run
from tests.tiny import Result

Mobilenas = Callable[..., Result]


class Workplace:
    """A folder with a record, and commands that use it."""

    def __init__(self, folder: Path, mobilenas: Mobilenas) -> None:
        self.folder, self._mobilenas = folder, mobilenas
        self.url = f"sqlite:///{folder}/record.db"

    def config(self, **changes: Any) -> Path:  # noqa: ANN401 - sections of a run
        """A configuration with some of the small run's sections changed."""
        small: dict[str, Any] = {
            "blocks": {"trials": 8},
            "netadapt": {"max_steps": 0},
            "determinism": "eager",
            "workers": 1,
        }
        for name, value in changes.items():
            small[name] = {**small.get(name, {}), **value} if isinstance(value, dict) else value
        return write_run(self.folder, seconds=0.0, **small)

    def run(self, *arguments: str | Path, code: int = 0) -> Result:
        """A command on this record."""
        runs = ("--runs", self.folder / "runs") if arguments[0] in ("search", "resume", "finish", "netadapt") else ()
        done = self._mobilenas(*arguments, *runs, "--database", self.url)
        assert done.code == code, f"{done.out}\n{done.err}"
        return done

    def read(self, name: str) -> tuple[SearchRecord, list[Trial]]:
        """A search and its trials."""
        store = Store.open(self.url)
        try:
            record = store.searches.get(name)
            return record, store.trials.of(record.id)
        finally:
            store.close()


@pytest.fixture
def place(tmp_path: Path, mobilenas: Mobilenas, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """An empty one, whose evaluations run in this process."""
    use_inline(monkeypatch)
    return Workplace(tmp_path, mobilenas)


@pytest.fixture
def real_place(tmp_path: Path, mobilenas: Mobilenas) -> Workplace:
    """One with worker processes."""
    return Workplace(tmp_path, mobilenas)


def complete(trials: list[Trial]) -> list[Trial]:
    """Those with a result."""
    return [trial for trial in trials if trial.state is State.COMPLETE]


def test_a_search_without_data_ends_with_a_spec(place: Workplace) -> None:
    """It walks, chooses the best within the target, writes its spec and a report, and trains and measures nothing."""
    config = place.config(blocks={"trials": 12}, netadapt={"max_steps": 40, "delta": 0.05})
    done = place.run("search", "--config", config, "--name", "own")
    record, trials = place.read("own")
    assert record.stage is SearchStage.DONE
    assert record.require_start().table_id is None
    assert all(trial.weights is None and trial.images_seen == 0 for trial in trials)
    within = [trial for trial in complete(trials) if trial.scores.latency_ms <= 8]
    best = max(within, key=lambda trial: trial.scores.top1 or 0)
    spec = place.folder / "runs" / "own" / "architecture.json"
    assert Architecture.from_json(spec.read_text()) == best.architecture
    assert "slow_judge:top1" in (spec.parent / "report.md").read_text()
    assert str(spec) in done.out
    assert f"found     trial {best.number}: " in place.run("status", "own").out
    assert "no faults" in place.run("db", "check").out
    exported = place.run("export", "own", "--out", place.folder / "out", code=2)
    assert "no data" in exported.err


def test_strict_batches_do_not_depend_on_workers(place: Workplace) -> None:
    """With one, two and five workers the same networks are tried in the same order, with the same end."""
    told = []
    for workers in (1, 2, 5):
        config = place.config(
            determinism="strict", batch=4, workers=workers, blocks={"trials": 14}, netadapt={"max_steps": 2}
        )
        place.run("search", "--config", config, "--name", f"strict-{workers}", "--no-reuse")
        _, trials = place.read(f"strict-{workers}")
        told.append([(trial.number, trial.origin, trial.architecture.arch_id, trial.scores) for trial in trials])
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize("sampler", ["feasible-first", "tpe", "nsga2", "evolution", "random"])
def test_limits_hold_for_every_sampler(place: Workplace, sampler: str) -> None:
    """Nothing but the reference is trained beyond a limit; refusals name the figure and the limit."""
    limits = {"madds": 7_000_000, "params": 300_000, "peak_bytes": 250_000}
    config = place.config(limits=limits, blocks={"trials": 6, "sampler": sampler})
    place.run("search", "--config", config, "--name", sampler)
    _, trials = place.read(sampler)
    assert len(complete(trials)) == 6
    for trial in complete(trials)[1:]:
        scores = trial.scores
        assert scores.madds <= limits["madds"]
        assert scores.params <= limits["params"]
        assert scores.peak_bytes is not None
        assert scores.peak_bytes <= limits["peak_bytes"]
    refused = [trial.error or "" for trial in trials if trial.state is State.PRUNED]
    assert all("over the limit" in error or "tried already" in error for error in refused)
    assert sampler == "feasible-first" or any(
        "multiply-adds are over the limit of 7,000,000" in each for each in refused
    )
    assert sampler != "feasible-first" or not refused


@pytest.mark.parametrize("limits", [{"madds": 4_000_000}, {"latency_ms": 4.0}])
def test_limits_hold_in_the_walk(place: Workplace, limits: dict[str, float]) -> None:
    """Where all but the reference is too small to walk from, NetAdapt does not walk from the reference over a limit."""
    config = place.config(
        limits=limits, target={"ms": 5.0}, netadapt={"max_steps": 40, "delta": 0.05}, blocks={"trials": 6}
    )
    place.run("search", "--config", config, "--name", "walk")
    _, trials = place.read("walk")
    for trial in complete(trials)[1:]:
        assert trial.scores.madds <= limits.get("madds", 1e12)
        assert trial.scores.latency_ms <= limits.get("latency_ms", 1e12)


def test_a_front_is_explored_beyond_the_target(place: Workplace) -> None:
    """With objectives the target limits nothing: cheap and dear networks are tried, and most form a front."""
    config = place.config(blocks={"trials": 30, "objectives": ["top1", "latency_ms", "params"]})
    place.run("search", "--config", config, "--name", "front")
    record, trials = place.read("front")
    latencies = [trial.scores.latency_ms for trial in complete(trials)]
    assert min(latencies) < 4
    assert max(latencies) > record.require_start().seed_target_ms * 1.3
    losses = [[-(trial.scores.top1 or 0), trial.scores.latency_ms] for trial in complete(trials)]
    import numpy as np

    assert non_dominated(np.array(losses)).sum() >= 6


def test_starting_from_an_earlier_search(place: Workplace) -> None:
    """All its trials are taken over and cost nothing, its winner is tried first, and no network is tried twice."""
    config = place.config(blocks={"trials": 6}, netadapt={"max_steps": 4, "delta": 0.05})
    place.run("search", "--config", config, "--name", "first")
    place.run("search", "--config", config, "--name", "second", "--seed", "5", "--start-from", "first")
    _, first = place.read("first")
    _, second = place.read("second")
    adopted = [trial for trial in second if trial.origin == "adopted"]
    reference, *others = [trial.id for trial in first if trial.stage is SearchStage.BLOCKS]
    assert [trial.reused_from for trial in adopted] == others
    assert [trial.reused_from for trial in second if trial.origin == "reference"] == [reference]
    blocks = [trial for trial in complete(second) if trial.stage is SearchStage.BLOCKS]
    assert len(blocks) == 6 + len(adopted)
    assert len({trial.architecture.arch_id for trial in blocks}) == len(blocks)
    missing = place.run("search", "--config", config, "--name", "third", "--start-from", "nobody", code=2)
    assert "no search named 'nobody'" in missing.err
    assert place.run("status", "third", code=2).err.startswith("error: there is no search named 'third'")


def test_equal_networks_are_not_judged_again(place: Workplace) -> None:
    """A search over the same networks takes over results of earlier ones, unless it is told not to."""
    config = place.config()
    for name, extra in (("one", ()), ("two", ()), ("three", ("--no-reuse",))):
        place.run("search", "--config", config, "--name", name, *extra)
    reused = {name: [trial.reused_from for trial in place.read(name)[1]] for name in ("one", "two", "three")}
    assert all(each is None for each in [*reused["one"], *reused["three"]])
    assert all(each is not None for each in reused["two"])


def test_replicates_form_a_group(place: Workplace) -> None:
    """--repeat makes searches of other seeds under one group, which compare and report know by its name."""
    place.run("search", "--config", place.config(), "--name", "many", "--repeat", "3")
    records = [place.read(f"many-r{number}")[0] for number in (1, 2, 3)]
    assert [record.group for record in records] == ["many"] * 3
    assert [record.config["seed"] for record in records] == [0, 1, 2]
    again = place.run("resume", "many", code=2)
    assert "are done: many-r1, many-r2, many-r3" in again.err
    page = place.folder / "many.html"
    place.run("report", "many", "--out", page)
    assert "many-r3" in page.read_text()


def test_rescoring_ranks_anew_and_records_nothing(place: Workplace) -> None:
    """A harsher reward against another target puts other trials first; the record stays as it was."""
    place.run("search", "--config", place.config(), "--name", "old")
    before = place.read("old")
    rows = json.loads(
        place.run(
            "rescore", "old", "--reward", "absolute", "--exponent", "-9", "--target", "3ms", "--format", "json"
        ).out
    )
    assert place.read("old")[1] == before[1]
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        assert row["reward"] == pytest.approx(row["top1"] - 9 * abs(row["latency_ms"] / 3 - 1))
    assert rows[0]["rank_before"] != 1
    wrong = place.run("rescore", "old", "--reward", "nice", code=2)
    assert "'nice' is neither one of soft, hard, absolute" in wrong.err
    for exponent in ("0.1", "nan"):
        steep = place.run("rescore", "old", "--reward", "absolute", "--exponent", exponent, code=2)
        assert steep.err == f"error: --exponent {exponent} must lie between -10 and 0\n"


def test_rewards_and_samplers_of_ones_own(place: Workplace) -> None:
    """Both are imported from the configuration's folder; rewards in the record are the user's."""
    (place.folder / "my_ideas.py").write_text(
        "from optuna.samplers import RandomSampler\n\n\ndef thrifty(scores, target_ms):\n"
        "    return scores.top1 - scores.params / 1e6\n\n\ndef drawn(seed):\n    return RandomSampler(seed=seed)\n"
    )
    config = place.config(blocks={"reward": {"kind": "my_ideas:thrifty"}, "sampler": "my_ideas:drawn"})
    place.run("search", "--config", config, "--name", "ideas")
    store = Store.open(place.url)
    record = store.searches.get("ideas")
    rewards, trials = store.trials.rewards(record.id), store.trials.of(record.id)
    store.close()
    assert rewards
    for trial in trials:
        if trial.number in rewards:
            assert rewards[trial.number] == pytest.approx((trial.scores.top1 or 0) - trial.scores.params / 1e6)
    assert {trial.origin for trial in trials} == {"reference", "my_ideas:drawn"}
    wrong = place.config(blocks={"sampler": "my_ideas:thrifty_maker"})
    with (place.folder / "my_ideas.py").open("a") as file:
        file.write("\n\ndef thrifty_maker(seed):\n    return thrifty\n")
    place.run("search", "--config", wrong, "--name", "wrong", code=2)
    assert "error     sampler my_ideas:thrifty_maker made function" in place.run("status", "wrong").out
    misspelt = place.config(blocks={"sampler": "my_ideas:dawn"})
    assert "my_ideas:dawn cannot be imported" in place.run("search", "--config", misspelt, "--name", "no", code=2).err
    assert "no search named 'no'" in place.run("status", "no", code=2).err


def test_a_failing_reward_loses_no_evaluation(place: Workplace) -> None:
    """What was evaluated is kept, and rewarded on resume once the function is mended."""
    (place.folder / "my_wishes.py").write_text("def wish(scores, target_ms):\n    return float('nan')\n")
    config = place.config(blocks={"reward": {"kind": "my_wishes:wish"}, "trials": 4})
    failed = place.run("search", "--config", config, "--name", "wishes", code=2)
    assert "reward my_wishes:wish gave nan" in failed.err
    _, (kept,) = place.read("wishes")
    assert (kept.state, kept.attempt) == (State.COMPLETE, 1)
    (place.folder / "my_wishes.py").write_text("def wish(scores, target_ms):\n    return scores.top1\n")
    place.run("resume", "wishes")
    _, trials = place.read("wishes")
    assert trials[0] == kept
    store = Store.open(place.url)
    rewards = store.trials.rewards(store.searches.get("wishes").id)
    store.close()
    assert rewards == {
        trial.number: trial.scores.top1 for trial in complete(trials) if trial.stage is SearchStage.BLOCKS
    }


@pytest.mark.parametrize("function", ["wish", "ms"])
def test_a_changed_reward_or_latency_is_noticed(place: Workplace, function: str) -> None:
    """A search is not resumed with figures of two kinds; edits that change no figure do no harm."""
    source = (
        "from space.cost import cost_of\n\n\ndef wish(scores, target_ms):\n    return scores.top1\n\n\n"
        "def ms(arch):\n    return cost_of(arch).madds / 1e6\n"
    )
    (place.folder / "my_change.py").write_text(source)
    blocks = {"reward": {"kind": "my_change:wish"}, "trials": 4}
    config = place.config(latency="my_change:ms", blocks=blocks, netadapt={"max_steps": 3})
    place.run("search", "--config", config, "--name", "change", "--until", "refine", code=130)
    changed = {"wish": ("scores.top1", "2 * scores.top1"), "ms": ("madds / 1e6", "madds / 2e6")}[function]
    (place.folder / "my_change.py").write_text(source.replace(*changed))
    refused = place.run("resume", "change", code=2)
    assert f"my_change:{function} has changed: it gives" in refused.err
    assert "for trial 0, where" in refused.err
    (place.folder / "my_change.py").write_text(f"# said better\n{source}")
    place.run("resume", "change")


def test_searches_and_groups_have_different_names(place: Workplace) -> None:
    """One could not be reached beside the other; both are refused before anything is recorded."""
    config = place.config(blocks={"trials": 2})
    place.run("search", "--config", config, "--name", "one")
    place.run("search", "--config", config, "--name", "many", "--repeat", "2")
    for name, more in (("one", ("--repeat", "2")), ("many", ()), ("many", ("--repeat", "3"))):
        taken = place.run("search", "--config", config, "--name", name, *more, code=2)
        assert f"named '{name}' exists already" in taken.err


def test_the_found_network_of_a_search_without_data_is_tried_first(place: Workplace) -> None:
    """Its spec is all that such a search ends with; a walk may have left the space."""
    config = place.config(blocks={"trials": 6}, netadapt={"max_steps": 40, "delta": 0.05})
    place.run("search", "--config", config, "--name", "before")
    found = Architecture.from_json((place.folder / "runs" / "before" / "architecture.json").read_text())
    again = place.config(blocks={"trials": 6})
    place.run("search", "--config", again, "--name", "after", "--start-from", "before")
    _, trials = place.read("after")
    assert found in [trial.architecture for trial in trials if trial.origin in ("enqueued", "adopted")]


def _faulty(place: Workplace, body: str) -> None:
    """Let the evaluator misbehave for some networks."""
    # The first two stages' kernels decide.
    (place.folder / "slow_judge.py").write_text(
        "import os\nimport time\n\nfrom space.cost import cost_of\n\n\n"
        "def ms(arch):\n    return cost_of(arch).madds / 1e6\n\n\n"
        "def top1(arch):\n    first, second = (stage.blocks[0].kernel_size for stage in arch.stages[:2])\n"
        f"    if first == second == 5:\n        {body}\n    return 0.5\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "minutes", "reason"),
    [
        ("raise ValueError('not\\n  this one')", 60, "ValueError: not this one"),
        ("os._exit(7)", 60, "its worker process died (exit code 7)"),
        ("time.sleep(600)", 0.2, "it took longer than 0.2 minutes (trial_minutes)"),
    ],
)
def test_a_failing_evaluation_costs_one_retry(real_place: Workplace, body: str, minutes: float, reason: str) -> None:
    """A worker that raises, dies or hangs: a second attempt, then a failed trial with the reason; all goes on."""
    config = real_place.config(trial_minutes=minutes, workers=2, blocks={"trials": 6, "sampler": "random"}, seed=1)
    _faulty(real_place, body)
    real_place.run("search", "--config", config, "--name", "faulty")
    record, trials = real_place.read("faulty")
    failed = [trial for trial in trials if trial.state is State.FAILED]
    assert record.stage is SearchStage.DONE
    assert failed
    assert all(trial.attempt == 2 and trial.error == reason for trial in failed)
    assert len(complete(trials)) == 6


def test_nothing_but_failures_ends_a_search(place: Workplace) -> None:
    """It says why and what to do; its status tells of no trial that runs, and nothing walks from it."""
    (place.folder / "never.py").write_text("def top1(arch):\n    raise ValueError('never')\n")
    failed = place.run("search", "--config", place.config(evaluator="never:top1", workers=2), "--name", "never", code=2)
    assert "failed, the last one with: ValueError: never; fix that, then resume" in failed.err
    status = place.run("status", "never").out
    assert " running" not in status
    assert "failed" in status
    refused = place.run("netadapt", "--from", "never", "--target", "70%", code=2)
    assert "trained nothing (data.source none), so there are no weights to start from" in refused.err


def test_a_changed_evaluator_is_noticed(place: Workplace) -> None:
    """A search is not resumed with another function than it was begun with."""
    config = place.config(netadapt={"max_steps": 3})
    place.run("search", "--config", config, "--name", "changed", "--until", "refine", code=130)
    judge = place.folder / "slow_judge.py"
    judge.write_text(judge.read_text() + "\n# changed\n")
    refused = place.run("resume", "changed", code=2)
    assert "was started on data slow_judge:top1@" in refused.err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evaluator": "nowhere_mine:f"}, "nowhere_mine:f cannot be imported"),
        ({"evaluator": None}, "data.source none needs `evaluator`"),
        ({"target": {"ms": 0.1}}, "target 0.1 ms is out of reach"),
        ({"limits": {"latency_ms": 0.1}}, "limits.latency_ms 0.1 ms is out of reach"),
        (
            {"target": {"ms": 8.0}, "limits": {"madds": 1000}},
            "limits.madds 1,000 is out of reach: the smallest network of the space has",
        ),
        (
            {"blocks": {"sampler": "evolution", "objectives": ["top1", "params"]}},
            "sampler evolution has only one objective",
        ),
        ({"targets": {"a": "3ms", "b": "4ms"}}, "`latency` predicts for one device"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(place: Workplace, changes: dict[str, Any], words: str) -> None:
    """Exit code 2, one line with the value and the remedy."""
    config = place.config(**changes)
    refused = place.run("search", "--config", config, "--name", "no", code=2)
    assert words in refused.err
    assert len(refused.err.strip().splitlines()) == 1
    assert yaml.safe_load(config.read_text())
