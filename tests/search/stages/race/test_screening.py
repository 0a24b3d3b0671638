"""Networks are measured whole before they are trained: what is trained meets the target, and uses it."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from latency.meter import LocalMeter
from latency.table import LatencyTable
from latency.whole import Whole
from search.config.load import parse_config
from search.config.sections import RewardConfig, TargetConfig
from search.evaluation.job import Job
from search.events import Listener
from search.objective.latency import DeviceLatency, Goal
from search.objective.limits import Refusal
from search.plan import Inputs, look_up
from search.protocols import FINER, SCALED, SPARE
from search.record.heartbeat import Heartbeat
from search.record.rows import FoundEvaluation, SearchRecord
from search.record.store import Store
from search.samplers.prior import Prior, features_of
from search.stages.blocks import search_blocks
from search.stages.race.finalists import choose_finalists, next_to_measure
from search.stages.race.rungs import run_race, standings
from search.stages.race.screening import Candidates, latency_of, measure_adopted, name_of, target_reference
from search.stages.session import Session
from search.trial import Origin, Scores, SearchStage, State, Trial
from space.arch import Architecture
from space.cost import cost_of, unit_cost
from space.keys import keys_of
from space.variation.scaling import scaled_references
from tests.search.inline import InlineExecutor
from tests.search.makers import latency_table, measurement, new_start, record_table
from tests.tiny import TINY_SPACE

pytestmark = pytest.mark.usefixtures("one_thread")
RUNGS = [{"images": 32, "networks": 6}, {"images": 64, "networks": 2}]


def error_of(arch: Architecture) -> float:
    """How many times as long as predicted a network takes: 0.92 to 1.08."""
    return 0.92 + 0.16 * hashlib.sha256(arch.arch_id.encode()).digest()[0] / 255


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[Architecture]]:
    """The networks of every measurement, whose results are the predictions with an error of the network's own."""
    asked: list[list[Architecture]] = []

    def measure_whole(table: LatencyTable, networks: Mapping[str, Architecture], *_: Any) -> dict[str, Whole]:  # noqa: ANN401
        asked.append(list(networks.values()))
        found = {}
        for name, arch in networks.items():
            # Of a scaled reference nothing is known but by measuring.
            known = not table.missing(keys_of(arch))
            ms = error_of(arch) * (table.estimate(arch) if known else cost_of(arch).madds / 1e6)
            found[name] = Whole(ms=ms, low_ms=0.9 * ms, high_ms=1.1 * ms, measurement=measurement(2 * ms))
        return found

    monkeypatch.setattr("search.stages.race.screening.measure_whole", measure_whole)
    return asked


@dataclass
class Race:
    """A race on a device whose table is made up: blocks take as many ms as they have millions of multiply-adds."""

    store: Store
    inputs: Inputs
    table: LatencyTable
    record: SearchRecord
    jobs: list[Job] = field(default_factory=list)

    def session(self) -> Session:
        """Whoever runs it, on with it if it has begun already."""
        table_id = self.record.require_start().table_id
        meter = LocalMeter("desk")  # never asked, as `measure_whole` is not what it was
        goals = (Goal(table_id=table_id or 0, table=self.table, meter=meter, target_ms=self.target_ms),)
        executor = InlineExecutor(2)
        self.jobs = executor.jobs
        return Session(
            store=self.store,
            record=self.record,
            config=self.inputs.config,
            space=self.inputs.space,
            data=self.inputs.data,
            goals=goals,
            latency=DeviceLatency(goals),
            executor=executor,
            listener=Listener(),
            heartbeat=Heartbeat(self.store, self.record.id),
        )

    def run(self) -> None:
        """The block-level search and the race."""
        session = self.session()
        search_blocks(session)
        run_race(session)

    @property
    def target_ms(self) -> float:
        """What no network may exceed."""
        return self.record.require_start().target_ms

    @property
    def trials(self) -> list[Trial]:
        """All trials."""
        return self.store.trials.of(self.record.id)

    @property
    def trained(self) -> list[Trial]:
        """Those of the first rung that were trained."""
        return [trial for trial in self.trials if trial.state is State.COMPLETE and not trial.rung]


@pytest.fixture
def race(store: Store, photos: Path, tmp_path: Path) -> Callable[..., Race]:
    """Begins a race."""

    def begin(
        latency_from: float = 0.8, target: float = 0.7, objectives: tuple[str, ...] = (), *, prior: bool = True
    ) -> Race:
        (tmp_path / "space.yaml").write_text(yaml.safe_dump(TINY_SPACE))
        config = parse_config(
            {
                "data": {"source": f"imagefolder:{photos}", "resolution": 16, "reward_images": 18},
                "space": {"preset": str(tmp_path / "space.yaml"), "width": 0.5},
                "device": {"name": "desk"},
                "target": {"relative": target},
                "training": {"batch_size": 16},
                "race": {"rungs": RUNGS, "latency_from": latency_from, "prior": prior},
                "netadapt": {"max_steps": 0},
                "blocks": {"objectives": list(objectives)},
            }
        )
        inputs = look_up(config)
        keys = {*inputs.space.reachable_keys(), *keys_of(inputs.space.reference)}
        entries = {key: measurement(0.001 + unit_cost(key).madds / 1e6) for key in keys}
        table = latency_table(entries=entries, scope=inputs.space.scope)
        target_ms = target * table.estimate(inputs.space.largest)
        start = new_start(
            store,
            run_folder=tmp_path / "race",
            table_id=record_table(store, table),
            target_ms=target_ms,
            seed_target_ms=target_ms,
        )
        record = store.searches.create(name="race", config=config.model_dump(mode="json"), start=start)
        return Race(store, inputs, table, record)

    return begin


def test_what_is_trained_was_measured_within_the_target(
    race: Callable[..., Race], asked: list[list[Architecture]]
) -> None:
    """Its latency is the measured one from then on; what was out of bounds has a reason, and was never trained."""
    begun = race()
    begun.run()
    refused = [trial for trial in begun.trials if trial.state is State.PRUNED]
    assert len(begun.trained) == 6
    for trial in begun.trained:
        truth = begun.table.estimate(trial.architecture) * error_of(trial.architecture)
        assert trial.scores.latency_ms == pytest.approx(truth)
        assert 0.8 * begun.target_ms <= trial.scores.latency_ms <= begun.target_ms
    assert {job.evaluation.architecture for job in begun.jobs} == {trial.architecture for trial in begun.trained}
    beside = {each.trial: each for each in begun.store.trials.measurements(begun.record.id)}
    assert {trial.number for trial in (*begun.trained, *refused)} == set(beside)
    assert all(each.predicted_ms == begun.table.estimate(begun.trials[n].architecture) for n, each in beside.items())
    assert any("measured" in str(trial.error) for trial in refused)
    assert sum(map(len, asked)) == len(beside)
    promoted = [trial for trial in begun.trials if trial.rung]
    assert len(promoted) == 2
    for trial in promoted:
        assert trial.scores.latency_ms == begun.trials[trial.parent or 0].scores.latency_ms


@pytest.mark.parametrize("objectives", [(), ("top1", "latency_ms")])
@pytest.mark.parametrize("wanted", [True, False])
def test_a_race_follows_the_prior_of_its_space(
    race: Callable[..., Race], monkeypatch: pytest.MonkeyPatch, objectives: tuple[str, ...], *, wanted: bool
) -> None:
    """What is proposed is the best by it; not along a front, nor where nobody wants it."""
    begun = race(latency_from=0.2, objectives=objectives, prior=wanted)
    names = features_of(begun.inputs.space.reference)
    few_se = Prior(weights={name: -1.0 if name.endswith(".se") else 0.0 for name in names}, networks=7)
    monkeypatch.setattr("search.stages.blocks.prior_of", lambda _: few_se)
    begun.run()
    followed = wanted and not objectives
    proposed = [trial.architecture for trial in begun.trials if trial.origin == "feasible-first"]
    with_se = sum(block.use_se for arch in proposed for stage in arch.stages for block in stage.blocks)
    assert (with_se == 0) is followed
    assert proposed


def test_along_a_front_whatever_was_measured_is_trained(
    race: Callable[..., Race], asked: list[list[Architecture]]
) -> None:
    """No network is measured in vain, none refused for what it takes; what was taken over keeps its prediction."""
    begun = race(objectives=("top1", "latency_ms"))
    begun.run()
    assert len(begun.trained) == 6
    assert not [trial for trial in begun.trials if trial.state is State.PRUNED]
    assert sum(map(len, asked)) == 6
    session = begun.session()
    adopted = session.new_trial(SearchStage.BLOCKS, begun.trained[0].architecture, origin=Origin.ADOPTED)
    measure_adopted(session)
    assert sum(map(len, asked)) == 6
    assert session.trial(adopted.number).scores.latency_ms == adopted.scores.latency_ms


class Killed(BaseException):
    """The coordinator ended here."""


@pytest.mark.parametrize("moment", ["while it measured", "before what it measured was trained"])
def test_a_killed_screening_goes_on(
    moment: str, race: Callable[..., Race], asked: list[list[Architecture]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was proposed is measured, and what was measured is trained, each once."""
    begun = race()
    with monkeypatch.context() as patched:

        def end(*_: object, **__: object) -> None:
            raise Killed

        if moment == "while it measured":
            patched.setattr("search.stages.race.screening.measure_whole", end)
        else:
            patched.setattr(InlineExecutor, "submit", end)
        with pytest.raises(Killed):
            begun.run()
    assert State.RUNNING in {trial.state for trial in begun.trials}
    begun.run()
    assert len({trial.architecture for trial in begun.trained}) == len(begun.trained) == 6
    assert {State.COMPLETE, State.PRUNED} == {trial.state for trial in begun.trials}
    measured = [arch for networks in asked for arch in networks]
    assert len(measured) == len(set(measured))


def test_where_few_are_near_the_target_faster_ones_are_trained(race: Callable[..., Race]) -> None:
    """A race that no six networks deserve is run with what there is, each network once."""
    begun = race(latency_from=0.995)
    begun.run()
    trained = begun.trained
    assert len({trial.architecture for trial in trained}) == len(trained) > 0
    assert all(trial.scores.latency_ms <= begun.target_ms for trial in trained)
    assert any(trial.scores.latency_ms < 0.995 * begun.target_ms for trial in trained)
    assert {trial.state for trial in begun.trials} <= {State.COMPLETE, State.PRUNED}


def test_the_others_are_proposed_once_the_first_few_are_measured(
    race: Callable[..., Race], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tell how far predictions are off, and the others are measured, too, before anything is trained."""
    monkeypatch.setattr("search.stages.blocks.AT_FIRST", 2)
    looks: list[tuple[int, int]] = []
    measure = Candidates.measure

    def noted(self: Candidates, refusal_of: Callable[[Scores], Refusal | None]) -> None:
        looks.append((len(self.waiting), len(begun.jobs)))
        measure(self, refusal_of)

    monkeypatch.setattr(Candidates, "measure", noted)
    begun = race(latency_from=0.2)
    begun.run()
    assert looks[0] == (2, 0)
    assert looks[1][1] == 0


def test_predictions_that_are_all_too_low_are_seen_through(
    race: Callable[..., Race], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where everything takes a fifth longer than predicted, proposals aim a fifth lower after the first look."""
    monkeypatch.setattr(f"{__name__}.error_of", lambda _: 1.2)
    begun = race(latency_from=0.9)
    begun.run()
    assert len(begun.trained) == 6
    assert all(trial.scores.latency_ms <= begun.target_ms for trial in begun.trained)
    assert any(0.9 * begun.target_ms <= trial.scores.latency_ms for trial in begun.trained)


def test_finalists_meet_the_target_with_the_end_of_their_interval(
    race: Callable[..., Race], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured once more: the best of those, in the order of the race; and where none does, the fastest."""
    monkeypatch.setattr("search.stages.race.finalists._scaled", lambda *_: {})
    begun = race()
    begun.run()
    session = begun.session()
    best = standings(session)
    before = len(begun.store.trials.measurements(begun.record.id))
    upper = {trial.number: 1.1 * trial.scores.latency_ms for trial in best}
    within = [trial for trial in best if upper[trial.number] <= begun.target_ms]
    assert 0 < len(within) < len(best)
    assert choose_finalists(session, best).best == tuple(within[: session.config.final.top_k])
    too_slow = [trial for trial in best if trial not in within]
    fastest = min(too_slow, key=lambda trial: upper[trial.number])
    assert choose_finalists(session, too_slow).best == (fastest,)
    numbers = [each.trial for each in begun.store.trials.measurements(begun.record.id)][before:]
    assert {trial.number for trial in (*best[:2], *too_slow)} <= set(numbers)
    assert best[0].number in numbers  # on its last rung, where it was not measured before


def test_who_raced_furthest_is_measured_until_there_are_enough(
    race: Callable[..., Race], monkeypatch: pytest.MonkeyPatch, asked: list[list[Architecture]]
) -> None:
    """One that meets the target is not enough where more are wanted, but nobody who left the race before is added."""
    monkeypatch.setattr("search.stages.race.finalists.SPARE", 0)
    monkeypatch.setattr("search.stages.race.finalists._scaled", lambda *_: {})
    begun = race()
    begun.run()
    session, wanted = begun.session(), begun.inputs.config.final.top_k
    first = [trial for trial in standings(session) if not trial.rung]
    slow = first[0].architecture
    monkeypatch.setattr(f"{__name__}.error_of", lambda arch: 9.0 if arch == slow else 0.8)
    seen = len(asked)
    assert choose_finalists(session, first).best == tuple(first[1 : wanted + 1])
    assert len(asked) == seen + 2, "of the first look one was too slow"
    ahead = [replace(trial, iteration=1, origin=Origin.PROMOTED) for trial in first[:wanted]]
    seen = len(asked)
    assert choose_finalists(session, [*ahead, *first[wanted:]]).best == tuple(ahead[1:])
    assert len(asked) == seen + 1


@pytest.mark.parametrize("slower", [0.9, 1.3, 1.9])
def test_the_baseline_is_the_widest_scaled_reference_that_meets_the_target(
    race: Callable[..., Race], monkeypatch: pytest.MonkeyPatch, asked: list[list[Architecture]], slower: float
) -> None:
    """Also where a narrower reference is slower than by its multiply-adds; a few are measured for it, in two looks."""
    begun = race(latency_from=0.0, target=7.5)  # of the largest member, which is a toy beside the reference
    begun.run()
    session, seen = begun.session(), len(asked)
    monkeypatch.setattr(f"{__name__}.error_of", lambda _: slower)
    scaled = list(scaled_references(session.space).values())
    upper = {arch: 1.1 * slower * cost_of(arch).madds / 1e6 for arch in scaled}
    expected = next(arch for arch in scaled if upper[arch] <= begun.target_ms)
    assert choose_finalists(session, standings(session)).baseline == expected
    looks = [[arch for arch in networks if arch in upper] for networks in asked[seen:]]
    assert len(looks[0]) == SCALED
    assert all(0 < len(finer) <= FINER for finer in looks[1:])
    assert not any(arch in looks[0] for finer in looks[1:] for arch in finer)
    assert len(scaled) > SCALED + FINER


@pytest.mark.parametrize("factor", [1.0, 1.1, 1.2, 1.4])
def test_who_may_meet_the_target_is_measured_next(race: Callable[..., Race], factor: float) -> None:
    """How much slower the first was than predicted tells; else the order stays, and nobody is measured twice."""
    begun = race(latency_from=0.2)
    begun.run()
    session = begun.session()
    best = standings(session)
    assert next_to_measure(session, best, {}) == best[: session.config.final.top_k + SPARE]
    first, *others = best
    following = next_to_measure(session, best, {name_of(first): factor * first.scores.latency_ms})
    hopeful = [trial for trial in others if factor * trial.scores.latency_ms <= begun.target_ms]
    hopeless = [trial for trial in others if trial not in hopeful]
    assert following == [*hopeful, *hopeless][: session.config.final.top_k + SPARE]


def test_what_is_taken_over_is_measured_and_rewarded_for_that(race: Callable[..., Race]) -> None:
    """Its latency and reward are those of this device, in the record as well, so that a resumption agrees."""
    begun = race()
    begun.run()
    session = begun.session()
    reward = RewardConfig(kind="soft", exponent=-0.5)
    session.config = session.config.model_copy(
        update={"blocks": session.config.blocks.model_copy(update={"reward": reward})}
    )
    source = begun.trained[0]
    adopted = session.new_trial(SearchStage.BLOCKS, source.architecture, origin=Origin.ADOPTED)
    session.take_over(adopted, FoundEvaluation(trial=source, run_folder=session.start.run_folder))
    measure_adopted(session)
    recorded = begun.trials[adopted.number]
    truth = begun.table.estimate(source.architecture) * error_of(source.architecture)
    assert session.trial(adopted.number).scores.latency_ms == recorded.scores.latency_ms == pytest.approx(truth)
    assert adopted.scores.latency_ms == pytest.approx(begun.table.estimate(source.architecture))
    rewards = begun.store.trials.rewards(begun.record.id)
    assert rewards[adopted.number] == pytest.approx(session.reward_of(recorded))


def test_a_device_that_has_become_slower_is_told(race: Callable[..., Race], monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything takes twice as long as by the table, and yet the target is one of the table's milliseconds."""
    monkeypatch.setattr("search.stages.race.finalists._scaled", lambda *_: {})
    begun, said = race(), Lines()
    begun.run()
    session = begun.session()
    session.listener = said
    chosen = choose_finalists(session, standings(session)).best
    assert all(1.1 * trial.scores.latency_ms <= begun.target_ms for trial in chosen)
    (told,) = [line for line in said.told if "than when its table was measured" in line]
    assert re.match(r"'desk' is 1\d\d% slower", told)
    assert re.fullmatch(r"measuring \d+ networks? before the final training", said.told[0]), "it takes a while"


class Lines(Listener):
    """Keeps the notes, and the titles of what begins."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def begin(self, title: str, total: float) -> None:  # noqa: ARG002 - inherited
        """See `Listener`."""
        self.told.append(title)

    def note(self, message: str) -> None:
        """See `Listener`."""
        self.told.append(message)


def test_what_was_refused_is_not_measured_again(race: Callable[..., Race], asked: list[list[Architecture]]) -> None:
    """A space with fewer networks near the target than are wanted comes to an end, each network measured once."""
    begun = race(latency_from=0.97)
    begun.run()
    measured = [arch for networks in asked for arch in networks]
    assert len(measured) == len(set(measured)) <= begun.inputs.space.size
    assert begun.trained
    trials, looks = begun.trials, len(asked)
    begun.run()
    assert (begun.trials, len(asked)) == (trials, looks)  # what goes on was chosen: nothing new is proposed


def test_a_network_on_two_devices_has_its_largest_share(race: Callable[..., Race]) -> None:
    """In ms of the first: a third of the second one's target is a third of the first one's."""
    begun = race()
    session = begun.session()
    first = session.goals[0]
    session.goals = (first, replace(first, target_ms=4 * first.target_ms))

    def whole(ms: float) -> Whole:
        return Whole(ms=ms, low_ms=ms, high_ms=1.5 * ms, measurement=measurement(ms))

    fast, slow = 0.1 * first.target_ms, 2 * first.target_ms
    measured = [(goal, {"one": whole(ms)}) for goal, ms in zip(session.goals, (fast, slow), strict=True)]
    assert latency_of(session, measured, "one") == pytest.approx((0.5 * first.target_ms, 0.75 * first.target_ms))


def test_only_a_share_is_one_of_the_reference(race: Callable[..., Race]) -> None:
    """A target in ms is compared with what known blocks take now."""
    begun = race()
    session = begun.session()
    assert target_reference(session, session.goals[0]) == begun.inputs.space.reference
    session.config = session.config.model_copy(update={"target": TargetConfig(ms=1.0)})
    assert target_reference(session, session.goals[0]) is None
