"""The race: who goes on, what that costs, and that a killed one ends like one that was left alone."""

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
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import mobilenas
from search.config.load import load_config, parse_config
from search.evaluation.executor import failed
from search.evaluation.job import Job, Training
from search.record.store import Store
from search.run_folder import RunFolder
from search.stages.race.rungs import by_likelihood, by_reward, is_above, is_guessing
from search.trial import Origin, SearchStage, State, Trial
from space.choices import SearchSpace
from space.cost import cost_of
from space.encoding import Encoding
from space.errors import InvalidConfig, RunError
from space.preset import load_preset
from space.variation.moves import members
from space.variation.scaling import scaled_references
from tests.search.inline import InlineExecutor, use_inline
from tests.search.judgements import write_judgement
from tests.search.makers import trial as made_up
from tests.tiny import TINY_SPACE
from trainer.training.metrics import wilson_interval
from trainer.training.state import TrainingState

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


def told(trials: list[Trial]) -> list[object]:
    """What must be alike of searches that should be equal."""
    return [
        (trial.number, trial.origin, trial.parent, trial.architecture, trial.scores, trial.correct) for trial in trials
    ]


@pytest.fixture(scope="module")
def alone(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The trials of a race that nobody disturbed."""
    folder, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched:
        use_inline(patched)
        run(folder, race_in(folder, photos))
    torch.set_num_threads(threads)
    return told(trials_of(folder))


class Killed(BaseException):
    """The coordinator ended here."""


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("job", [3, 7, 10, 12])
def test_a_race_that_was_killed_ends_like_one_left_alone(
    job: int,
    tmp_path: Path,
    photos: Path,
    alone: list[object],
    executors: list[InlineExecutor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In each of its rungs and in the final trainings: the same networks go on, with the same scores."""
    submit, count = InlineExecutor.submit, 0

    def killed(self: InlineExecutor, submitted: Job) -> None:
        nonlocal count
        count += 1
        if count == job:
            raise Killed
        submit(self, submitted)

    monkeypatch.setattr(InlineExecutor, "submit", killed)
    with pytest.raises(Killed):
        run(tmp_path, race_in(tmp_path, photos))
    run(tmp_path, {})
    assert told(trials_of(tmp_path)) == alone
    assert len(executors) == 2


@pytest.mark.usefixtures("one_thread")
def test_workers_that_die_on_each_rung_change_nothing(
    tmp_path: Path,
    photos: Path,
    alone: list[object],
    executors: list[InlineExecutor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first training of every rung and the first final one are lost, and done again with the same result."""
    submit, died = InlineExecutor.submit, set[int]()

    def dying(self: InlineExecutor, submitted: Job) -> None:
        training = submitted.evaluation
        assert isinstance(training, Training)
        images = 0 if training.recipe is None else training.recipe.images
        if images not in died:
            died.add(images)
            self.jobs.append(submitted)
            self._results.append(failed(submitted, RunError("the worker died")))
        else:
            submit(self, submitted)

    monkeypatch.setattr(InlineExecutor, "submit", dying)
    assert run(tmp_path, race_in(tmp_path, photos)).state == "done"
    assert died >= {*IMAGES, 160}
    assert told(trials_of(tmp_path)) == alone
    (executor,) = executors
    assert len(executor.jobs) == len({job.number for job in executor.jobs}) + len(died)


@pytest.mark.usefixtures("one_thread")
def test_a_record_from_before_is_gone_on_with(
    tmp_path: Path, photos: Path, alone: list[object], executors: list[InlineExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose configuration lacks what has come since: a race that was killed in its second rung ends as it would."""
    submit = InlineExecutor.submit

    def killed(self: InlineExecutor, submitted: Job) -> None:
        if len(self.jobs) == 7:
            raise Killed
        submit(self, submitted)

    with monkeypatch.context() as patched:
        patched.setattr(InlineExecutor, "submit", killed)
        with pytest.raises(Killed):
            run(tmp_path, race_in(tmp_path, photos))
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        record = store.searches.get("race")
        config = json.loads(json.dumps(dict(record.config)))
        del config["html"], config["race"]["minutes"], config["blocks"]["warm_start"]
        store.searches.set_config(record.id, config)
    assert run(tmp_path, {}).state == "done"
    assert told(trials_of(tmp_path)) == alone
    assert len(executors) == 2


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


@pytest.mark.usefixtures("one_thread")
def test_lost_checkpoints_cost_time_alone(
    tmp_path: Path,
    photos: Path,
    alone: list[object],
    executors: list[InlineExecutor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rung whose beginning is gone is trained from its own beginning, and ends alike."""
    monkeypatch.setattr(TrainingState, "write", lambda *_, **__: None)
    run(tmp_path, race_in(tmp_path, photos))
    assert told(trials_of(tmp_path)) == alone
    assert [job for job in executors[0].jobs if job.begun is not None] == []


@pytest.mark.usefixtures("one_thread")
def test_a_second_race_trains_nothing_again(tmp_path: Path, photos: Path, executors: list[InlineExecutor]) -> None:
    """Rungs are evaluations like any other: those of an earlier search are taken over."""
    config = race_in(tmp_path, photos, blocks={"reuse": True})
    run(tmp_path, config, "first")
    run(tmp_path, config, "second")
    stages = [{evaluation.recipe.images for job in each.jobs if (evaluation := of(job)).recipe} for each in executors]
    assert stages == [{32, 64, 96, 160}, {160}]  # what meets the test split belongs to its search


def of(job: Job) -> Training:
    """What a job trains."""
    assert isinstance(job.evaluation, Training)
    return job.evaluation


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


STAYS = {"netadapt": {"max_steps": 0}}


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


@pytest.mark.parametrize(
    ("top1", "images", "guesses"),
    [(0.10, 9000, True), (0.11, 9000, True), (0.15, 9000, False), (0.10, 60, False), (0.0, 60, False)],
)
def test_who_only_guesses_is_told_apart(top1: float, images: int, guesses: bool) -> None:
    """Ten classes alike: who names one of them is at chance, but not for certain on 60 images."""
    assert is_guessing(top1, images, 0.1) is guesses


@pytest.mark.usefixtures("one_thread")
def test_who_learns_from_noise_is_told_so(
    tmp_path: Path, executors: list[InlineExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On few images in the log and in the report; on many the race ends before its final training."""
    monkeypatch.setattr("search.stages.race.rungs.is_above", lambda *_: False)  # whatever luck has it
    noise, draw = tmp_path / "noise", np.random.default_rng(0)
    for number in range(80):
        path = noise / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    config = race_in(tmp_path, noise, race={"rungs": [{"images": 32, "networks": 2}], "latency_from": 0.3})
    search = run(tmp_path, config | {"final": {"images": 64}})
    assert search.state == "done"
    assert len(executors) == 1
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        said = [line.message for line in store.searches.log(store.searches.get("race").id)]
    assert any("where always naming one class has 50.00%: that may be chance" in line for line in said)
    report = (tmp_path / "runs" / "race" / "report.md").read_text()
    (found,) = [trial for trial in trials_of(tmp_path) if trial.origin == Origin.FOUND]
    is_chance = wilson_interval(found.correct or 0, found.total or 1)[0] <= 0.5
    assert ("may do no better than to name class" in report) is is_chance


@pytest.mark.parametrize(("top1", "images", "above"), [(0.6, 60, False), (0.7, 60, True), (0.52, 9000, True)])
def test_who_is_above_chance_is_so_by_more_than_chance(top1: float, images: int, *, above: bool) -> None:
    """With the lower end of its interval."""
    assert is_above(top1, images, 0.5) is above


def test_a_race_of_guesses_ends_before_its_final(
    tmp_path: Path, photos: Path, executors: list[InlineExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the figures and what to do; what was trained stays recorded."""
    monkeypatch.setattr("search.stages.race.rungs.is_guessing", lambda *_: True)
    config = race_in(tmp_path, photos, race={"rungs": [{"images": 32, "networks": 2}], "latency_from": 0.3})
    with pytest.raises(RunError, match=r"nothing was learnt that a final training could build on; look at the labels"):
        run(tmp_path, config)
    assert len(executors) == 1
    assert {trial.stage for trial in trials_of(tmp_path)} == {SearchStage.BLOCKS}


def test_naming_the_largest_class_is_a_guess() -> None:
    """However right it is."""
    assert is_guessing(8000 / 9000, 9000, 8000 / 9000)
    assert not is_guessing(0.95, 9000, 8000 / 9000)


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
