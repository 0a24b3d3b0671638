"""Learning curves of the networks that races in the record have trained to their end."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from search.bench.curves import Curve, Point
from search.record.rows import LookedAt
from search.record.store import Store
from search.reports.recorded_search import RecordedSearch
from search.trial import Origin, SearchStage, State, Trial
from space.arch import Architecture
from space.errors import RunError


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCurves:
    """The curves of searches that train alike, and the latency target of the first of them, in ms."""

    curves: tuple[Curve, ...]
    target_ms: float
    looked_at: LookedAt


def recorded_curves(store: Store, names: Sequence[str]) -> RecordedCurves:
    """What searches have seen of each network that they trained to the end, after as many images as all of them.

    The end is judged on the whole reward split, since races leave the test split alone; it stands as the test's.
    Searches with the same training seed trained the same network alike, and count once.

    Raises:
        StoreError: there is no such search.
        RunError: one of them has not begun or does not race, or they are no two of a kind.
    """
    searches = [RecordedSearch.read(store, name) for name in names]
    for each in searches:
        if not each.config.races:
            raise RunError(f"search '{each.record.name}' does not race: nobody sees its networks before their end")
        if _compared_by(each) != _compared_by(searches[0]):
            raise RunError(
                f"searches '{searches[0].record.name}' and '{each.record.name}' differ in their data, space, recipes, "
                "devices or the length of their final trainings; name one of them"
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
    first = searches[0]
    return RecordedCurves(curves=tuple(curves), target_ms=first.start.target_ms, looked_at=first.looked_at)


def _compared_by(search: RecordedSearch) -> tuple[object, ...]:
    config = search.config
    split = (config.data.reward_fraction, config.data.split_seed, config.data.rank_by)
    return (search.looked_at, split, config.final.images, search.fingerprint)


def _ended(trials: Sequence[Trial]) -> Iterator[tuple[Architecture, float, dict[int, Point]]]:
    """Each network of a race that was trained to the end, its latency in ms, and its points by images seen."""
    by_number: Mapping[int, Trial] = {trial.number: trial for trial in trials}
    for final in trials:
        if final.stage is not SearchStage.FINAL or final.state is not State.COMPLETE or final.origin == Origin.FOUND:
            continue
        chain: list[Trial] = [final]
        seconds: float | None = 0.0
        points: dict[int, Point] = {}
        while (parent := chain[-1].parent) is not None:
            chain.append(by_number[parent])
        for trial in reversed(chain):
            seconds = None if seconds is None or (took := _seconds(trial)) is None else seconds + took
            top1, likelihood = trial.scores.top1, trial.scores.log_likelihood
            if top1 is not None and likelihood is not None:
                points[trial.images_seen] = Point(top1, likelihood, top1, trial.scores.probability, seconds)
        if len(points) > 1:
            yield final.architecture, chain[-1].scores.latency_ms, points


def _seconds(trial: Trial) -> float | None:
    if trial.started_at is None or trial.finished_at is None or trial.reused_from is not None:
        return None
    return (trial.finished_at - trial.started_at).total_seconds()


def _in_all(curves: Iterable[Mapping[int, Point]]) -> set[int]:
    found = [set(points) for points in curves]
    return set.intersection(*found) if found else set()


def _only(points: Mapping[int, Point], images: set[int]) -> dict[int, Point]:
    return {seen: point for seen, point in sorted(points.items()) if seen in images}
