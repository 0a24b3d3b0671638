"""Steps of the walk whose proposals see more images until they are told apart."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import mobilenas
from search.evaluation.job import Job
from search.record.store import Store
from search.run_folder import RunFolder
from search.stages.walk.netadapt import Judged, choose, rivals, worth_by_image
from search.trial import NetAdaptStep, Origin, SearchStage, State, Trial
from space.choices import SearchSpace
from space.narrowing import narrowed_together, narrowings
from space.preset import load_preset
from space.reference import mobilenet_v3_large
from tests.search.inline import InlineExecutor, use_inline
from tests.tiny import TINY_SPACE
from trainer.training.judgement import Judgement
from trainer.training.metrics import paired_mean_difference

LATENCY = "from space.cost import cost_of\n\n\ndef ms(arch):\n    return cost_of(arch).madds / 1e6\n"
IMAGES, MOST = 16, 64


def walk_in(folder: Path, photos: Path, **netadapt: Any) -> dict[str, Any]:  # noqa: ANN401 - keys of a section
    """The configuration of a walk whose proposals see 16 to 64 images."""
    (folder / "space.yaml").write_text(yaml.safe_dump(TINY_SPACE))
    (folder / "madds.py").write_text(LATENCY)
    space = SearchSpace(
        preset=load_preset(str(folder / "space.yaml")), width=1.0, resolution=16, in_channels=3, num_classes=2
    )
    (folder / "largest.json").write_text(space.largest.to_json())
    return {
        "plugins": str(folder),
        "latency": "madds:ms",
        "workers": 2,
        "determinism": "strict",
        "data": {"source": f"imagefolder:{photos}", "resolution": 16, "reward_images": 18},
        "space": {"preset": str(folder / "space.yaml"), "width": 1.0},
        "target": {"ms": 0.3},
        "training": {"batch_size": 16},
        "blocks": {
            "trials": 2,
            "train_images": 32,
            "reuse": False,
            "seed_factor": 1.4,
            "enqueue": [str(folder / "largest.json")],
        },
        "netadapt": {"images": IMAGES, "most_images": MOST, "delta": 0.03, **netadapt},
        "final": {"images": 32},
    }


@dataclass(frozen=True)
class Walk:
    """A finished search: what the record has of it, and what it said."""

    trials: list[Trial]
    steps: list[NetAdaptStep]
    target_ms: float
    log: list[str]
    files: RunFolder

    def of(self, step: NetAdaptStep, images: int) -> list[Trial]:
        """The completed trials of a step whose networks saw so many images."""
        return [
            trial
            for trial in self.trials
            if trial.iteration == step.iteration
            and trial.stage is SearchStage.NETADAPT
            and trial.state is State.COMPLETE
            and trial.origin != Origin.UNCHANGED
            and (trial.sampler_attrs or {}).get("images", IMAGES) == images
        ]

    def by_image(self, trial: Trial) -> np.ndarray:
        """The log-likelihoods as they were kept, a byte each, about their exact mean."""
        kept = Judgement.from_bytes(self.files.judged(trial.number).read_bytes()).log_likelihoods
        moved: np.ndarray = kept - kept.mean() + (trial.scores.log_likelihood or 0.0)
        return moved

    def worth(self, trial: Trial) -> np.ndarray:
        """By image, of a trial of the walk: beside the network of the step before, fine-tuned alike."""
        (unchanged,) = [
            each
            for each in self.trials
            if each.origin == Origin.UNCHANGED
            and (each.parent, each.sampler_attrs) == (trial.parent, trial.sampler_attrs)
        ]
        now, then = (self.by_image(each) for each in (trial, unchanged))
        # What is saved beyond the target counts for nothing.
        return worth_by_image(then, now, unchanged.scores.latency_ms - max(trial.scores.latency_ms, self.target_ms))


def run(folder: Path, config: dict[str, Any]) -> Walk:
    """A search, on with it if it has begun already."""
    url = f"sqlite:///{folder / 'record.db'}"
    with closing(Store.open(url)) as store:
        begun = bool(store.searches.all())
    if begun:
        mobilenas.resume("walk", database=url)
    else:
        mobilenas.search(config, name="walk", database=url, runs=folder / "runs")
    with closing(Store.open(url)) as store:
        record = store.searches.get("walk")
        return Walk(
            trials=store.trials.of(record.id),
            steps=store.trials.steps(record.id),
            target_ms=record.require_start().target_ms,
            log=[line.message for line in store.searches.log(record.id)],
            files=record.require_start().files,
        )


@pytest.fixture(scope="module")
def walk(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """A walk that nobody disturbed."""
    folder, threads = tmp_path_factory.mktemp("walk"), torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched:
        use_inline(patched)
        found = run(folder, walk_in(folder, photos))
    torch.set_num_threads(threads)
    return found


def test_what_is_not_told_apart_sees_more_images(walk: Walk) -> None:
    """Twice as many, anew from the network of the step before, until one is left or the most images are reached."""
    assert walk.steps
    for step in walk.steps:
        for images in (IMAGES, 2 * IMAGES):
            judged = walk.of(step, images)
            alike = [judged[index] for index in rivals([walk.worth(trial) for trial in judged])] if judged else []
            if len(alike) > 1:
                further = {trial.architecture for trial in walk.of(step, 2 * images)}
                assert further >= {trial.architecture for trial in alike}
            elif alike:
                assert not walk.of(step, 2 * images)
                assert step.trial == alike[0].number
    again = [trial for trial in walk.trials if (trial.sampler_attrs or {}).get("images", IMAGES) > IMAGES]
    assert again
    assert {trial.parent for trial in again} <= {step.parent for step in walk.steps}


def test_narrowings_that_nothing_tells_apart_are_made_at_once(walk: Walk) -> None:
    """The accepted network is then narrower in several places, as each of them was, and still above the target."""
    together = [step for step in walk.steps if " and " in step.narrowed]
    assert together
    for step in together:
        single = {trial.origin: trial for trial in walk.of(step, IMAGES)}
        parts = step.narrowed.split(" and ")
        saved = step.latency_before_ms - step.latency_after_ms
        assert all(saved > step.latency_before_ms - single[part].scores.latency_ms for part in parts)
        assert step.latency_after_ms >= 0.99 * walk.target_ms
        assert walk.trials[step.trial].architecture not in {trial.architecture for trial in single.values()}


def test_the_target_is_met_by_what_is_left(walk: Walk) -> None:
    """Not by a whole step: each proposal of the last step is the widest of its place that meets the target."""
    last, before = walk.steps[-1], walk.trials[walk.steps[-1].parent].architecture
    assert last.latency_before_ms > walk.target_ms
    widest = {
        next((each.narrowed for each in place if walk_ms(each.architecture) <= walk.target_ms), None)
        for place in narrowings(before)
    }
    step = 0.03 * walk.trials[walk.steps[0].parent].scores.latency_ms
    if last.latency_before_ms - walk.target_ms <= step:  # else a whole one, of several layers, was enough
        assert {trial.origin for trial in walk.of(last, IMAGES)} == widest - {None}
        assert last.latency_after_ms <= walk.target_ms


def walk_ms(arch: Any) -> float:  # noqa: ANN401 - an architecture
    """What the search believes a network takes."""
    from space.cost import cost_of

    return cost_of(arch).madds / 1e6


class Killed(BaseException):
    """The coordinator ended here."""


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("moment", ["first round", "unchanged", "later round", "joined"])
def test_a_walk_that_was_killed_ends_like_one_left_alone(
    moment: str, walk: Walk, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of whichever round: the same steps, the same networks on as many images, the same scores."""
    made = use_inline(monkeypatch)
    submit, count = InlineExecutor.submit, 0
    walked = [trial for trial in walk.trials if trial.stage is SearchStage.NETADAPT]
    is_it: Callable[[Trial], bool] = {
        "first round": lambda trial: trial.sampler_attrs is None,
        "unchanged": lambda trial: trial.origin == Origin.UNCHANGED,
        "later round": lambda trial: trial.sampler_attrs == {"images": 2 * IMAGES},
        "joined": lambda trial: " and " in trial.origin,
    }[moment]
    found_there = [trial for trial in walked if is_it(trial)]
    last = found_there[len(found_there) // 2].number

    def killed(self: InlineExecutor, job: Job) -> None:
        nonlocal count
        count += job.number == last
        if count == 1 and job.number == last:
            raise Killed
        submit(self, job)

    monkeypatch.setattr(InlineExecutor, "submit", killed)
    with pytest.raises(Killed):
        run(tmp_path, walk_in(tmp_path, photos))
    found = run(tmp_path, {})
    assert len(made) == 2

    def told(one: Walk) -> list[object]:
        return [(trial.number, trial.origin, trial.parent, trial.sampler_attrs, trial.scores) for trial in one.trials]

    assert told(found) == told(walk)
    assert [step.trial for step in found.steps] == [step.trial for step in walk.steps]


@pytest.mark.usefixtures("one_thread")
def test_fixed_steps_see_their_images_once(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer a step, as in the papers, by the best score."""
    use_inline(monkeypatch)
    found = run(tmp_path, walk_in(tmp_path, photos, steps="fixed"))
    assert found.steps
    for step in found.steps:
        judged = found.of(step, IMAGES)
        assert len(judged) == step.proposals == len([each for each in found.trials if each.iteration == step.iteration])
        current = found.trials[step.parent]
        scores = [
            Judged(score=trial.scores.log_likelihood or 0.0, latency_ms=trial.scores.latency_ms)
            for trial in (current, *judged)
        ]
        assert step.trial == judged[choose(scores[0], scores[1:])].number


worths = st.integers(2, 40).flatmap(
    lambda images: st.lists(
        st.lists(st.integers(-50, 50), min_size=images, max_size=images).map(lambda one: np.array(one, np.float64)),
        min_size=1,
        max_size=6,
    )
)


@given(worths)
def test_rivals_are_those_whose_difference_may_be_none(found: list[np.ndarray]) -> None:
    """The best mean first; of the others exactly those whose paired interval reaches 0."""
    best, *others = rivals(found)
    assert found[best].mean() == max(one.mean() for one in found)
    told = {index for index in range(len(found)) if paired_mean_difference(found[best], found[index]).low <= 0}
    assert {best, *others} == told | {best}
    assert [found[index].mean() for index in others] == sorted((found[index].mean() for index in others), reverse=True)


@given(st.lists(st.floats(-5, 0), min_size=3, max_size=3), st.floats(0.1, 2.0), st.sampled_from(["ratio", "top1"]))
def test_worth_by_image_has_the_mean_that_is_chosen_by(scores: list[float], saved: float, by: Any) -> None:  # noqa: ANN401
    """So that a choice by images is the one of the papers' rule."""
    current, one, other = scores
    judged = [Judged(score=one, latency_ms=3 - saved), Judged(score=other, latency_ms=3 - 2 * saved)]
    means = [
        worth_by_image(np.full(4, current), np.full(4, each.score), 3 - each.latency_ms, by=by).mean()
        for each in judged
    ]
    chosen = choose(Judged(score=current, latency_ms=3.0), judged, by=by)
    assert means[chosen] == pytest.approx(max(means))


def test_narrowings_join_where_each_can_be_made() -> None:
    """Two expansions and a width of MobileNetV3-Large: the joined network has all three; the same one twice has not."""
    arch = mobilenet_v3_large()
    places = [place[0] for place in narrowings(arch)]
    one, two, width = places[0], places[3], places[-1]
    joined = narrowed_together(arch, [one, two, width])
    assert joined is not None
    assert joined.narrowed == f"{one.narrowed} and {two.narrowed} and {width.narrowed}"
    expanded = [
        [block.expanded_channels for stage in each.stages for block in stage.blocks]
        for each in (arch, one.architecture, two.architecture, joined.architecture)
    ]
    least = [min(filter(None, values), default=None) for values in zip(*expanded[:3], strict=True)]
    assert expanded[3] == least
    assert joined.architecture.stages[-1].out_channels == width.architecture.stages[-1].out_channels
    assert narrowed_together(arch, [one, one]) is None
