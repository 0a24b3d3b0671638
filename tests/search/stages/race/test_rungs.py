"""The race: who goes on, and what that costs."""

import json
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from search.config.load import load_config, parse_config
from search.evaluation.job import Job
from search.record.store import Store
from search.run_folder import RunFolder
from search.stages.race.rungs import by_likelihood, by_reward
from search.trial import Origin, SearchStage, State
from space.choices import SearchSpace
from space.cost import cost_of
from space.encoding import Encoding
from space.errors import InvalidConfig
from space.preset import load_preset
from space.variation.moves import members
from space.variation.scaling import scaled_references
from tests.search.inline import InlineExecutor
from tests.search.judgements import write_judgement
from tests.search.makers import trial as made_up
from tests.search.races import IMAGES, RUNGS, race_in, race_near_the_reference, run, rungs_of, trials_of
from tests.tiny import TINY_SPACE

STAYS = {"netadapt": {"max_steps": 0}}


@pytest.mark.usefixtures("one_thread")
def test_the_best_of_each_rung_go_on(tmp_path: Path, photos: Path, executors: list[InlineExecutor]) -> None:
    """By their log-likelihood, from where they stopped; the best of the last rung are finalists, one is found."""
    search = run(tmp_path, race_in(tmp_path, photos))
    assert search.state == "done"
    trials = trials_of(tmp_path)
    rungs = rungs_of(trials)
    assert [len(rung) for rung in rungs] == [6, 3, 2]
    for images, before, rung in zip(IMAGES[1:], rungs, rungs[1:], strict=False):
        best = by_likelihood(before)[: len(rung)]
        assert [trial.parent for trial in rung] == [trial.number for trial in best]
        assert [trial.architecture for trial in rung] == [trial.architecture for trial in best]
        assert {(trial.origin, trial.images_seen) for trial in rung} == {(Origin.PROMOTED, images)}
    final = [trial for trial in trials if trial.stage is SearchStage.FINAL]
    candidates = [trial for trial in final if trial.origin == Origin.CANDIDATE]
    (found,) = [trial for trial in final if trial.origin == Origin.FOUND]
    assert {trial.parent for trial in candidates} == {trial.number for trial in rungs[-1]}
    assert found.parent == by_likelihood(candidates)[0].number
    files = RunFolder(tmp_path / "runs" / "race")
    few, *more = [{files.judged(each.number).stat().st_size for each in rung} for rung in (*rungs, candidates)]
    (whole,) = more[-1]
    assert whole > 12
    assert (few, more) == ({12}, [{whole}] * 3), "who gets far is judged on the whole reward split"
    (executor,) = executors
    jobs = {job.number: job for job in executor.jobs}
    assert {job.number for job in executor.jobs if job.begun is not None} == {
        trial.number for trial in (*rungs[1], *rungs[2], *candidates)
    }
    assert all(jobs[trial.number].touch_test is False for trial in candidates)
    assert not list((tmp_path / "runs" / "race" / "trials").glob("*.checkpoint"))


@pytest.mark.usefixtures("executors")
def test_a_sampler_of_ones_own_knows_the_rungs(tmp_path: Path, photos: Path) -> None:
    """As shares of the final training, of which its trials show the first."""
    (tmp_path / "knowing.py").write_text(
        "from optuna.samplers import RandomSampler\n\n\ndef make(seed, problem):\n"
        "    assert problem.rungs == (0.2, 0.4, 0.6, 1.0)\n    return RandomSampler(seed=seed)\n"
    )
    own = {"reuse": False, "sampler": "knowing:make"}
    assert run(tmp_path, race_in(tmp_path, photos, blocks=own)).state == "done"


def test_proposals_use_the_latency_they_may(tmp_path: Path, photos: Path, executors: list[InlineExecutor]) -> None:
    """None is above the target, which nothing would bring down, and none below the least share of it."""
    run(tmp_path, race_in(tmp_path, photos, race={"rungs": RUNGS, "latency_from": 0.7}))
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        target = store.searches.get("race").require_start().target_ms
    (first, *_) = rungs_of(trials_of(tmp_path))
    assert len(executors) == 1
    assert first
    assert all(0.7 * target <= trial.scores.latency_ms <= target for trial in first)


@pytest.mark.usefixtures("one_thread")
def test_a_race_may_go_along_a_front(tmp_path: Path, photos: Path, executors: list[InlineExecutor]) -> None:
    """Networks far beyond the target are raced, too; who covers the front goes on, and who meets the target ends it."""
    blocks = {"reuse": False, "objectives": ["top1", "latency_ms"]}
    final = {"images": 160, "top_k": 1, "weights": "continued"}
    config = race_in(tmp_path, photos, blocks=blocks, target={"ms": 0.05}, final=final)
    assert run(tmp_path, config).state == "done"
    assert len(executors) == 1
    trials = trials_of(tmp_path)
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        target = store.searches.get("race").require_start().target_ms
    rungs = rungs_of(trials)
    assert [len(rung) for rung in rungs] == [6, 3, 2]
    assert any(trial.scores.latency_ms > 1.1 * target for trial in rungs[0])
    assert any(trial.scores.latency_ms < 0.9 * target for trial in rungs[0])
    for before, rung in pairwise(rungs):
        within = [trial for trial in before if trial.scores.latency_ms <= target]
        best = by_likelihood(within)[0].number
        ends = {min(before, key=lambda trial: trial.scores.latency_ms).number, by_likelihood(before)[0].number}
        on = [trial.parent for trial in rung]
        assert on[0] == best
        assert set(on) <= {best, *ends} if len(rung) == 2 else {best, *ends} <= {*on}
    found = [trial for trial in trials if trial.origin == Origin.FOUND]
    assert all(trial.scores.latency_ms <= target for trial in found)
    assert len(found) == 1


@pytest.mark.usefixtures("one_thread")
def test_the_scaled_reference_races_to_the_end(tmp_path: Path, photos: Path, executors: list[InlineExecutor]) -> None:
    """It is the widest that meets the target, may be chosen like the others, and stands in the report either way."""
    rungs = [{"images": 32, "networks": 4}, {"images": 64, "networks": 1}]
    config = race_near_the_reference(tmp_path, photos, rungs, final={"images": 160, "top_k": 1})
    assert run(tmp_path, config).state == "done"
    assert len(executors) == 1
    final = [trial for trial in trials_of(tmp_path) if trial.stage is SearchStage.FINAL]
    by_origin = {trial.origin: trial for trial in final}
    assert list(by_origin) == [Origin.CANDIDATE, Origin.BASELINE, Origin.REFERENCE, Origin.FOUND]
    baseline, reference = by_origin[Origin.BASELINE], by_origin[Origin.REFERENCE]
    target_ms = 0.8 * reference.scores.latency_ms
    space = SearchSpace(
        preset=load_preset("mobilenet-v3-small-32px"), width=0.3, resolution=16, in_channels=3, num_classes=2
    )
    scaled = list(scaled_references(space).values())
    wider = scaled[: scaled.index(baseline.architecture)]
    assert baseline.scores.latency_ms <= target_ms
    assert all(cost_of(arch).madds / 1e6 > target_ms for arch in wider)
    best = by_likelihood([by_origin[Origin.CANDIDATE], baseline])[0]
    assert by_origin[Origin.FOUND].parent == best.number
    assert {trial.total for trial in final if trial.origin != Origin.CANDIDATE} == {by_origin[Origin.FOUND].total}
    summary = json.loads((tmp_path / "runs" / "race" / "report.json").read_text())
    assert (summary["baseline"] is None) == (best is baseline)
    finalists = {each["trial"]: each for each in summary["finalists"]}
    assert {number for number, each in finalists.items() if each["chosen"]} == {best.number}
    likelihoods = {number: each["reward_log_likelihood"] for number, each in finalists.items()}
    assert max(likelihoods, key=lambda number: likelihoods[number]) == best.number
    report = (tmp_path / "runs" / "race" / "report.md").read_text()
    assert summary["answer"] in report
    assert ("nothing better than the reference scaled to the target" in report) == (best is baseline)
    assert f"Of {len(finalists)} finalists, trained alike, that of trial {best.number} had the best" in report
    assert ("brought nothing over" in report) == (best is baseline)
    assert (re.search(r"baseline: MobileNetV3-Small.*, width 0\.", report) is not None) == (best is not baseline)


@pytest.mark.usefixtures("executors")
def test_a_reference_beyond_the_limits_is_not_chosen(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However good it is, and though it meets the target: the found network keeps all limits."""
    monkeypatch.setattr(
        "search.stages.final.ranked",
        lambda _session, trials, _rewards: sorted(trials, key=lambda trial: trial.origin != Origin.REFERENCE),
    )
    config = race_near_the_reference(tmp_path, photos, [{"images": 32, "networks": 2}], final={"images": 64})
    config |= {"target": {"relative": 1.0}, "race": {"rungs": [{"images": 32, "networks": 2}], "latency_from": 0.3}}
    space = SearchSpace(
        preset=load_preset("mobilenet-v3-small-32px"), width=0.3, resolution=16, in_channels=3, num_classes=2
    )
    most = cost_of(space.reference).params - 1
    run(tmp_path, config | {"limits": {"params": most}})
    final = {trial.origin: trial for trial in trials_of(tmp_path) if trial.stage is SearchStage.FINAL}
    assert final[Origin.REFERENCE].scores.params > most
    assert final[Origin.FOUND].scores.params <= most
    summary = json.loads((tmp_path / "runs" / "race" / "report.json").read_text())
    assert {each["name"] for each in summary["finalists"]} <= {Origin.CANDIDATE, Origin.BASELINE}


@pytest.mark.parametrize(("target", "origin"), [(1.6, Origin.BASELINE), (1.0, Origin.REFERENCE)])
def test_a_target_that_the_reference_meets_has_a_baseline(
    target: float,
    origin: str,
    tmp_path: Path,
    photos: Path,
    executors: list[InlineExecutor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wider reference where one meets it, else the reference itself; either may be what the search ends with."""
    monkeypatch.setattr(
        "search.stages.final.ranked",
        lambda _session, trials, _rewards: sorted(trials, key=lambda trial: trial.origin != origin),
    )
    config = race_near_the_reference(tmp_path, photos, [{"images": 32, "networks": 2}], final={"images": 64})
    assert run(tmp_path, config | {"target": {"relative": target}}).state == "done"
    assert len(executors) == 1
    final = {trial.origin: trial for trial in trials_of(tmp_path) if trial.stage is SearchStage.FINAL}
    reference = final[Origin.REFERENCE].architecture
    assert final[Origin.FOUND].architecture == final[origin].architecture
    if origin == Origin.BASELINE:
        madds = cost_of(final[origin].architecture).madds / cost_of(reference).madds
        assert 1.3 < madds <= target
    else:
        assert Origin.BASELINE not in final
    summary = json.loads((tmp_path / "runs" / "race" / "report.json").read_text())
    which = "reference itself" if origin == Origin.REFERENCE else "reference scaled to the target"
    assert f"nothing better than the {which} (MobileNetV3-Small" in summary["answer"]
    chosen = {each["name"] for each in summary["finalists"] if each["chosen"]}
    assert chosen == {origin}
    assert "the search brought nothing over" in (tmp_path / "runs" / "race" / "report.md").read_text()


def test_reports_tell_a_baseline_that_won(
    tmp_path: Path, photos: Path, executors: list[InlineExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the found network is the scaled reference, and the report says that the search brought nothing."""
    monkeypatch.setattr(
        "search.stages.final.ranked", lambda _session, trials, _rewards: sorted(trials, key=lambda trial: -trial.number)
    )
    rungs = [{"images": 32, "networks": 2}]
    run(tmp_path, race_near_the_reference(tmp_path, photos, rungs, final={"images": 64}))
    assert len(executors) == 1
    final = {trial.origin: trial for trial in trials_of(tmp_path) if trial.stage is SearchStage.FINAL}
    assert final[Origin.FOUND].architecture == final[Origin.BASELINE].architecture
    report = (tmp_path / "runs" / "race" / "report.md").read_text()
    assert "the search brought nothing over scaling the reference" in report
    assert re.search(r"The found network is MobileNetV3-Small.*, width 0\.", report)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("networks", [1, 3])
def test_a_target_that_few_networks_meet_is_raced_for_by_these(
    networks: int, tmp_path: Path, photos: Path, executors: list[InlineExecutor]
) -> None:
    """A race of six ends with those that there are, be it a single one."""
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(TINY_SPACE))
    space = SearchSpace(
        preset=load_preset(str(tmp_path / "space.yaml")), width=0.5, resolution=16, in_channels=3, num_classes=2
    )
    rows = members(Encoding(space), 10_000)
    assert rows is not None
    costs = sorted(cost_of(arch).madds / 1e6 for arch in Encoding(space).decode_all(rows))
    distinct = sorted(set(costs))
    target = (distinct[networks - 1] + distinct[networks]) / 2
    meeting = sum(cost <= target for cost in costs)
    config = race_in(tmp_path, photos, target={"ms": target}, race={"rungs": RUNGS, "latency_from": 0.93})
    assert run(tmp_path, config).state == "done"
    assert executors
    first, *later = rungs_of(trials_of(tmp_path))
    assert len(first) == min(meeting, RUNGS[0]["networks"])
    assert [len(rung) for rung in later] == [min(len(first), rung["networks"]) for rung in RUNGS[1:]]


def test_another_reward_is_maximised_and_likelihood_orders_equals(tmp_path: Path) -> None:
    """Of what cannot be told apart by top-1 on the same images the likelier network is ahead, else the reward is."""
    files = RunFolder(tmp_path)
    rng = np.random.default_rng(0)
    best = rng.random(1000) < 0.8
    close, far = best.copy(), best.copy()
    close[:4] = ~close[:4]
    far[:200] = False
    trials = []
    for number, (right, likelihood) in enumerate(((best, -0.6), (close, -0.5), (far, -0.4))):
        write_judgement(files.judged(number), right)
        done = replace(made_up(number), state=State.COMPLETE)
        scores = replace(done.scores, top1=float(right.mean()), log_likelihood=likelihood)
        trials.append(replace(done, scores=scores))
    rewards = {trial.number: trial.scores.top1 or 0.0 for trial in trials}
    assert abs(rewards[0] - rewards[1]) < 0.005
    assert [trial.number for trial in by_reward(trials, rewards, files)] == [1, 0, 2]
    # Where the reward tells them apart, though top-1 does not, the reward decides.
    assert [trial.number for trial in by_reward(trials, {**rewards, 1: 0.5}, files)] == [0, 2, 1]
    assert [trial.number for trial in by_likelihood(trials)] == [2, 1, 0]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"race": {"rungs": [RUNGS[1], RUNGS[0]]}}, "not from 3 at 64 images to 6 at 32"),
        ({"race": {"rungs": [{"images": 5, "networks": 2}, {"images": 5, "networks": 1}]}}, "more images"),
        ({"blocks": {"recipe": "sgd-cosine"}}, "without an end"),
        ({"blocks": {"recipe": "final"}}, "without an end"),
        ({"final": {"weights": "continued", "images": 128}}, r"raise final\.images"),
        ({"final": {"weights": "continued", "recipe": "sgd-cosine"}}, "none that goes on"),
        ({"final": {"weights": "inherited"}}, "continued or scratch"),
        ({"netadapt": {"max_steps": 5}}, "no way to walk; set netadapt.max_steps: 0"),
        ({"race": {"rungs": []}, "final": {"weights": "continued"}}, r"set race\.rungs"),
        ({"executor": "ray", "ray": {"scheduler": "asha"}}, "ends trainings by itself"),
        ({"evaluator": "mine:top1"}, "trainings from the beginning"),
    ],
)
def test_races_that_cannot_be_run_are_refused(changes: dict[str, Any], match: str) -> None:
    """With what to change: rungs that do not narrow, trainings that cannot go on."""
    with pytest.raises(InvalidConfig, match=match):
        parse_config({"race": {"rungs": RUNGS}, **STAYS, **changes})


@given(factor=st.floats(0.02, 40))
def test_a_budget_scales_a_race_to_one_that_can_be_run(factor: float) -> None:
    """The last rung still goes on to the end, whatever rounding does to both, and all is about as much more."""
    race = load_config(Path(__file__).parents[4] / "configs" / "race.yaml")
    scaled = parse_config(race.scaled(factor).model_dump(mode="json"))
    assert scaled.races
    trained = [sum(images * networks for images, networks in each.race.steps) for each in (race, scaled)]
    assert trained[1] / trained[0] == pytest.approx(factor, rel=0.2 + 1 / (7 * factor**0.5))


def test_finishing_early_skips_what_is_left_of_the_race(
    tmp_path: Path, photos: Path, executors: list[InlineExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for an early end gets it with the best so far, trained to the end."""
    url = f"sqlite:///{tmp_path / 'record.db'}"
    submit: Callable[[InlineExecutor, Job], None] = InlineExecutor.submit

    def submit_and_finish(self: InlineExecutor, job: Job) -> None:
        submit(self, job)
        if job.number == 8:
            with closing(Store.open(url)) as store:
                store.searches.request_finish(store.searches.get("race").id)

    monkeypatch.setattr("search.stages.session.ASK_SECONDS", 0.0)
    monkeypatch.setattr(InlineExecutor, "submit", submit_and_finish)
    assert run(tmp_path, race_in(tmp_path, photos)).state == "done"
    assert [len(rung) > 0 for rung in rungs_of(trials_of(tmp_path))] == [True, True, False]
    assert len(executors) == 1
