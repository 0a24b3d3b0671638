"""Learning curves of the networks that races in the record have trained to their end."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from search.bench.curves import Curve, Point
from search.record.store import Store
from search.reports.recorded_search import RecordedSearch
from search.trial import Origin, SearchStage, State, Trial
from space.arch import Architecture
from space.errors import RunError


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCurves:
    """The curves of searches on one data set, and the latency target of the first of them, in ms."""

    curves: tuple[Curve, ...]
    target_ms: float
    data_hash: str


def recorded_curves(store: Store, names: Sequence[str]) -> RecordedCurves:
    """What searches have seen of each network that they trained to the end, after as many images as all of them.

    The end is judged on the whole reward split, since races leave the test split alone; it stands as the test's.
    Searches with the same training seed trained the same network alike, and count once.

    Raises:
        StoreError: there is no such search.
        RunError: one of them has not begun or does not race, or they train on different data or by different recipes.
    """
    searches = [RecordedSearch.read(store, name) for name in names]
    for each in searches:
        if not each.config.races:
            raise RunError(f"search '{each.record.name}' does not race: nobody sees its networks before their end")
        if _compared_by(each) != _compared_by(searches[0]):
            raise RunError(
                f"searches '{searches[0].record.name}' and '{each.record.name}' differ in their data, their recipes or "
                "the length of their final trainings; name one of them"
            )
    found: dict[Architecture, tuple[float, dict[int, dict[int, Point]]]] = {}
    for each in searches:
        for arch, ms, points in _ended(each.all_trials):
            found.setdefault(arch, (ms, {}))[1].setdefault(each.config.training.seed, points)
    everywhere = _in_all(points for _, seeds in found.values() for points in seeds.values())
    curves = [
        Curve(arch=arch, ms=ms, points={seed: _only(points, everywhere) for seed, points in seeds.items()})
        for arch, (ms, seeds) in found.items()
    ]
    start = searches[0].start
    return RecordedCurves(curves=tuple(curves), target_ms=start.target_ms, data_hash=start.data_hash)


def _compared_by(search: RecordedSearch) -> tuple[object, ...]:
    config, start = search.config, search.start
    split = (config.data.reward_fraction, config.data.split_seed, config.data.rank_by)
    return (start.data_hash, split, config.rung_recipe(1), config.final_recipe)


def _ended(trials: Sequence[Trial]) -> Iterator[tuple[Architecture, float, dict[int, Point]]]:
    """Each network of a race that was trained to the end, its latency in ms, and its points by images seen."""
    by_number: Mapping[int, Trial] = {trial.number: trial for trial in trials}
    for final in trials:
        if final.stage is not SearchStage.FINAL or final.state is not State.COMPLETE or final.origin == Origin.FOUND:
            continue
        chain, seconds, points = [final], 0.0, {}
        while (parent := chain[-1].parent) is not None:
            chain.append(by_number[parent])
        for trial in reversed(chain):
            seconds += _seconds(trial)
            top1, likelihood = trial.scores.top1, trial.scores.log_likelihood
            if top1 is not None and likelihood is not None:
                points[trial.images_seen] = Point(top1, likelihood, top1, trial.scores.probability, seconds)
        if len(points) > 1:
            yield final.architecture, chain[-1].scores.latency_ms, points


def _seconds(trial: Trial) -> float:
    if trial.started_at is None or trial.finished_at is None:
        return 0.0
    return (trial.finished_at - trial.started_at).total_seconds()


def _in_all(curves: Iterable[Mapping[int, Point]]) -> set[int]:
    found = [set(points) for points in curves]
    return set.intersection(*found) if found else set()


def _only(points: Mapping[int, Point], images: set[int]) -> dict[int, Point]:
    return {seen: point for seen, point in sorted(points.items()) if seen in images}
