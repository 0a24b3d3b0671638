"""A search as reports see it: what it cost, how good it was by then, which network is the final one."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from search.record.store import Store
from search.reports.history import History, front_of, peak_bytes, published_name
from search.reports.race import furthest
from search.trial import Origin, SearchStage, State
from space.cost import cost_of
from tests.search.content import START, Writer, fill, network
from tests.search.makers import CONFIG, DEVICE, latency_table, new_search, record_table, trial
from tests.search.realistic import real_space


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A blank record; what is asked here is the same in every database."""
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as opened:
        yield opened


@pytest.fixture
def writer(store: Store) -> Writer:
    """Writes the trials of a search whose target is 2 ms."""
    return Writer(store, new_search(store, "one"))


def test_curve_counts_what_was_spent(writer: Writer) -> None:
    """Each trial takes 6 minutes; a failure costs its time and is no evaluation; a slow network is no best one."""
    writer.trial(top1=0.5, ms=1.5)
    writer.trial(state=State.FAILED)
    writer.trial(top1=0.9, ms=2.1)
    writer.trial(state=State.PRUNED, ms=9.0)
    writer.trial(top1=0.4, ms=1.0)
    writer.trial(SearchStage.NETADAPT, top1=0.6, ms=2.0, parent=0, iteration=1)
    writer.trial(state=State.RUNNING)
    curve = History.read(writer.store, "one").top1_curve(2.0)
    assert curve.best == (0.5, 0.5, 0.5, 0.6)
    assert curve.core_minutes == pytest.approx((6, 18, 24, 30))
    assert (curve.after(0), curve.after(1), curve.after(99)) == (None, 0.5, 0.6)
    assert (curve.within(5.9), curve.within(6), curve.within(29), curve.within(1e9)) == (None, 0.5, 0.5, 0.6)


def test_order_is_that_of_the_ends(writer: Writer) -> None:
    """A trial that began later and ended earlier comes first."""
    writer.trial(top1=0.9, ms=1.0, started_at=START + timedelta(hours=5))
    writer.trial(top1=0.1, ms=1.0)
    history = History.read(writer.store, "one")
    first = replace(history.trials[0], finished_at=START + timedelta(hours=9))
    history = replace(history, trials=(first, *history.trials[1:]))
    assert history.top1_curve(2.0).best == (0.1, 0.9)


def test_reward_curve_is_that_of_the_record(writer: Writer) -> None:
    """Rewards are read, not computed; NetAdapt's trials have none."""
    writer.trial(top1=0.5, ms=1.5)
    writer.trial(top1=0.9, ms=5.0)
    writer.trial(SearchStage.NETADAPT, top1=0.95, parent=0, iteration=1)
    assert History.read(writer.store, "one").reward_curve().best == (0.5, 0.5)


def test_what_was_taken_over_costs_what_it_took_there(store: Store, writer: Writer) -> None:
    """Else a search that reuses another's trainings would look cheaper than it is."""
    source = writer.trial(top1=0.5, network_number=7)
    other = Writer(store, new_search(store, "other"))
    just_before_its_end = START + timedelta(minutes=5, seconds=59)
    other.trial(top1=0.5, network_number=7, reused_from=source.id, started_at=just_before_its_end)
    history = History.read(store, "other")
    assert history.core_minutes() == pytest.approx(6)
    assert History.read(store, "one").core_minutes() == pytest.approx(6)


def test_final_network_is_not_chosen_on_the_test_split(writer: Writer) -> None:
    """Of several found networks the best on the reward split is the one, unless another one was exported."""
    for top1, correct in ((0.80, 99), (0.82, 10), (0.81, 50)):
        writer.trial(SearchStage.FINAL, top1=top1, origin="found", correct=correct, total=100)
    writer.trial(SearchStage.FINAL, top1=0.99, origin="candidate")
    history = History.read(writer.store, "one")
    assert history.found is not None
    assert history.found.number == 1
    writer.store.trials.add_export(writer.search.id, 2, folder="out", files={})
    exported = History.read(writer.store, "one").found
    assert exported is not None
    assert exported.number == 2


def test_networks_within_a_target_come_most_accurate_first(writer: Writer) -> None:
    """Ties go to the faster network; final trainings are another matter."""
    writer.trial(top1=0.5, ms=1.5)
    writer.trial(top1=0.5, ms=1.2)
    writer.trial(top1=0.7, ms=2.0)
    writer.trial(top1=0.9, ms=2.01)
    writer.trial(SearchStage.FINAL, top1=0.95, ms=1.0, origin="found")
    assert [trial.number for trial in History.read(writer.store, "one").within(2.0)] == [2, 1, 0]


def test_front_holds_equal_networks_once(writer: Writer) -> None:
    """The cheapest comes first; by another cost it is another front."""
    for top1, ms in ((0.5, 1.0), (0.5, 1.0), (0.4, 2.0), (0.9, 3.0)):
        writer.trial(top1=top1, ms=ms)
    trials = History.read(writer.store, "one").complete(SearchStage.BLOCKS)
    assert [trial.number for trial in front_of(trials)] == [0, 3]
    assert [trial.number for trial in front_of(trials, lambda trial: -trial.number)] == [3]
    assert front_of([]) == []


@pytest.mark.parametrize(("objectives", "drawn"), [(["top1", "latency_ms"], [3, 4]), ([], [2, 3, 5])])
def test_a_front_that_was_raced_for_is_of_who_went_furthest(
    store: Store, objectives: list[str], drawn: list[int]
) -> None:
    """On the last rung that several have ended; without objectives each network is drawn as it was left."""
    blocks = {**CONFIG["blocks"], "objectives": objectives}
    writer = Writer(store, new_search(store, "one", config={**CONFIG, "blocks": blocks}))
    for number in range(3):
        writer.trial(top1=0.5, network_number=number)
    for parent, network_number, rung in ((0, 0, 1), (1, 1, 1), (4, 1, 2)):
        writer.trial(top1=0.8, network_number=network_number, origin=Origin.PROMOTED, parent=parent, iteration=rung)
    assert [trial.number for trial in History.read(store, "one").compared_alike()] == drawn


def test_proposals_of_a_step_are_each_told_once() -> None:
    """By the look on the most images, and without the unchanged network that they are compared with."""
    looks = [(1, 640, "a"), (2, 640, "b"), (0, 640, Origin.UNCHANGED), (2, 1280, "b"), (0, 1280, Origin.UNCHANGED)]
    trials = [
        trial(
            number,
            stage=SearchStage.NETADAPT,
            architecture=network(number_of_network),
            iteration=1,
            origin=origin,
            images_seen=images,
        )
        for number, (number_of_network, images, origin) in enumerate(looks)
    ]
    again = replace(trials[1], number=9, iteration=2)
    assert [each.number for each in furthest([*trials, again])] == [0, 3, 9]


def test_every_state_can_be_read(store: Store) -> None:
    """Done, running, failed and queued searches; those that have not begun are for no device yet."""
    fill(store)
    histories = {record.name: History.read(store, record.name) for record in store.searches.all()}
    assert histories["shoes-desk-1"].served[0].device.name == "desk"
    assert histories["shoes-desk-1"].served[0].calibration.networks == 40
    assert histories["cifar-phone-2"].record.state == "running"
    assert histories["shoes-phone-1"].served == ()
    assert histories["shoes-phone-1"].top1_curve(1.0).evaluations == 0
    assert histories["shoes-phone-1"].counts() == {}


def test_device_is_the_one_that_was_measured_then(store: Store) -> None:
    """A table of the same name from a newer processor is another device's."""
    new_search(store, "one")
    record_table(store, latency_table(device=replace(DEVICE, processor="A newer CPU")))
    assert History.read(store, "one").served[0].device == DEVICE


def test_missing_files_and_settings_are_none(writer: Writer) -> None:
    """A right file that is elsewhere, damaged or of another length is none; so is a key that a record does not have."""
    trial = writer.trial(SearchStage.FINAL, top1=0.5, origin="found", correct=1, total=3)
    history = History.read(writer.store, "one")
    assert history.right(trial) is None
    assert history.setting("data.source") == "fashion-mnist"
    assert history.setting("data.source.deeper") is None
    assert history.setting("no.such.key") is None


def test_published_networks_have_their_names(writer: Writer) -> None:
    """The reference of the default space is a published network at the space's width; a narrowed one is not."""
    history = History.read(writer.store, "one")
    assert published_name(history, real_space().reference) == "mobilenet_v3_small_32px"
    assert published_name(history, network(3)) is None


def test_peak_memory_is_known_of_old_records(writer: Writer) -> None:
    """It follows from the architecture where nobody recorded it."""
    trial = writer.trial(top1=0.5)
    assert peak_bytes(trial) == cost_of(trial.architecture).peak_bytes
