"""Proposals within the limits: always allowed, never twice, and better with what was learnt."""

from functools import lru_cache
from zlib import crc32

import numpy as np
import pytest

from search.objective.latency import OfCodes
from search.objective.objective import Objective
from search.objective.pareto import hypervolume
from search.objective.reward import soft
from search.samplers.feasible_first import DEFAULT, Effort, Exhausted, propose
from space.encoding import Codes, Encoding
from space.variation.moves import canonical, members
from tests.search.madds import Madds, objective_within
from tests.space.test_presets import shipped
from tests.strategies import free_space, small_space

RANDOM = Effort(random_proposals=10**6)
QUICK = Effort(generations=1)


@lru_cache
def encoding_of(name: str) -> Encoding:
    """Of a small space or a shipped preset."""
    small = {"small": small_space, "free": free_space}
    return Encoding(small[name]() if name in small else shipped(name))


def made(name: str, share: float = 0.3, exponent: float = 0.0, madds: Madds | None = None) -> Objective:
    """An objective whose limit is met by this share of a space's networks; multiply-adds stand for the latency."""
    encoding = encoding_of(name)
    found = encoding.cost(encoding.sample(4000, np.random.default_rng(100))).madds / 1e6
    limit = float(np.quantile(found, share))
    return objective_within(encoding, limit, reward=soft(exponent), madds=madds)


def truth(encoding: Encoding, codes: Codes) -> np.ndarray:
    """A top-1 by effects of choices, of pairs of them, and of size; the same for all tests."""
    rng = np.random.default_rng(21)
    hot = (codes[:, :, None] == np.arange(-1, 4)).reshape(len(codes), 5 * codes.shape[1]).astype(float)
    single = hot @ rng.standard_normal(hot.shape[1])
    neighbours = (hot[:, :-1] * hot[:, 1:]) @ rng.standard_normal(hot.shape[1] - 1)
    size = np.log(encoding.cost(codes).madds)
    return np.asarray(0.6 + 0.003 * (single + neighbours) + 0.02 * (size - 19))


def play(
    objective: Objective,
    count: int,
    seed: int,
    *,
    running: int = 1,
    effort: Effort = DEFAULT,
    objectives: tuple[int, ...] = (),
) -> Codes:
    """So many proposals of a search that keeps `running` of them going; their truth is told as they end."""
    encoding = objective.encoding
    rows = np.empty((0, len(encoding.names)), dtype=np.int16)
    for number in range(count):
        done = max(0, number + 1 - running)
        row = propose(
            objective,
            known=rows[:done],
            top1=truth(encoding, rows[:done]),
            pending=rows[done:],
            excluded=rows[:0],
            rng=np.random.default_rng([seed, number]),
            objectives=objectives,
            effort=effort,
        )
        rows = np.vstack([rows, row])
    return rows


def ask(
    objective: Objective,
    known: Codes,
    top1: np.ndarray,
    seed: int,
    *,
    pending: Codes | None = None,
    excluded: Codes | None = None,
) -> Codes:
    """One proposal, by default with nothing running and nothing failed."""
    pending, excluded = (known[:0] if each is None else each for each in (pending, excluded))
    rng = np.random.default_rng(seed)
    return propose(objective, known=known, top1=top1, pending=pending, excluded=excluded, rng=rng)


def best(objective: Objective, rows: Codes) -> float:
    """The largest reward among these."""
    top1 = truth(objective.encoding, rows)
    return float(objective.reward(top1, objective.costs(rows)).max())


@pytest.mark.parametrize("running", [1, 6])
@pytest.mark.parametrize("name", ["ofa-mbv3", "mobilenet-v3-large", "free"])
def test_proposals_are_allowed_and_new(name: str, running: int) -> None:
    """Every proposal is a canonical row that meets the limit, and none comes twice, with others in training or not."""
    objective = made(name)
    rows = play(objective, 30, 1, running=running)
    assert (objective.violation(objective.costs(rows)) == 0).all()
    assert (canonical(objective.encoding, rows) == rows).all()
    assert len(np.unique(rows, axis=0)) == 30


@pytest.mark.parametrize("name", ["small", "free"])
@pytest.mark.parametrize("share", [0.1, 0.4])
def test_small_spaces_are_exhausted(name: str, share: float) -> None:
    """Every network within the limit is proposed once; then there is none."""
    objective = made(name, share)
    every = members(objective.encoding, 10_000)
    assert every is not None
    allowed = every[objective.violation(objective.costs(every)) == 0]
    failed, known = allowed[:2], play(objective, len(allowed), 2, effort=QUICK)
    assert (np.unique(known, axis=0) == np.unique(allowed, axis=0)).all()
    with pytest.raises(Exhausted, match="no further network of space 'small' is left within the limits"):
        play(objective, len(allowed) + 1, 2, effort=QUICK)
    nothing = known[:0]
    with pytest.raises(Exhausted):
        ask(objective, nothing, np.empty(0), 0, pending=allowed[2:], excluded=failed)


def test_what_failed_is_not_proposed_again() -> None:
    """Of a small space whose best networks failed, the best of the others are proposed."""
    objective = made("small", 0.5)
    every = members(objective.encoding, 10_000)
    assert every is not None
    allowed = every[objective.violation(objective.costs(every)) == 0]
    order = np.argsort(-truth(objective.encoding, allowed))
    failed, known = allowed[order[:10]], allowed[order[30:90]]
    top1 = truth(objective.encoding, allowed)[order[30:90]]
    row = ask(objective, known, top1, 3, excluded=failed)
    assert bytes(row) in set(map(bytes, allowed[order[10:30]]))


def test_proposals_follow_the_generator() -> None:
    """Equal generators propose alike, others do not."""
    objective = made("ofa-mbv3")
    assert (play(objective, 20, 4) == play(objective, 20, 4)).all()
    assert (play(objective, 20, 4) != play(objective, 20, 5)).any(axis=1).all()


def test_running_networks_change_what_is_proposed() -> None:
    """With a network in training another one is proposed, and not just a neighbour in one choice."""
    objective = made("mobilenet-v3-large")
    rows = play(objective, 40, 6)
    top1 = truth(objective.encoding, rows)
    running = rows[:0]
    for _ in range(6):
        row = ask(objective, rows, top1, 7, pending=running)
        running = np.vstack([running, row])
    assert (objective.violation(objective.costs(running)) == 0).all()
    apart = (running[:, None] != running[None]).sum(axis=2)[np.triu_indices(6, 1)]
    assert apart.min() >= 1
    assert apart.mean() > 2


@pytest.mark.parametrize("name", ["ofa-mbv3", "mobilenet-v3-small-32px"])
def test_guided_proposals_beat_random_ones(name: str) -> None:
    """After 50 networks the best of them exceeds the best of 50 random ones within the limit, by far, on every seed."""
    objective = made(name)
    for seed in range(2):
        guided, random = play(objective, 50, seed), play(objective, 50, seed, effort=RANDOM)
        spread = truth(objective.encoding, random).std()
        assert best(objective, guided) > best(objective, random) + 0.8 * spread


def test_parallel_proposals_learn_too() -> None:
    """With eight networks in training at all times, too, the search beats random proposals."""
    objective = made("mobilenet-v3-small-32px")
    guided, random = play(objective, 60, 8, running=8), play(objective, 60, 8, effort=RANDOM)
    assert best(objective, guided) > best(objective, random) + 0.01


def test_tight_limits_are_met() -> None:
    """Where one network in a million meets the limit, such are bred; where none does, that is said."""
    objective = made("ofa-mbv3")
    fast = np.sort(objective.encoding.cost(objective.encoding.sample(200_000, np.random.default_rng(9))).madds)
    tight = objective_within(objective.encoding, float(0.97 * fast[0]) / 1e6)
    rows = play(tight, 20, 10)
    assert (tight.violation(tight.costs(rows)) == 0).all()
    with pytest.raises(Exhausted, match="no further network of space 'ofa-mbv3' was found within the limits"):
        play(objective_within(objective.encoding, 1.0), 1, 11)


def test_no_cost_is_asked_twice() -> None:
    """For one proposal each network is priced at most once, be it finished, running or a candidate."""
    madds = Madds()
    objective = made("mobilenet-v3-large", madds=madds)
    rows = play(objective, 24, 12, running=4)
    madds.asked.clear()
    ask(objective, rows[:20], truth(objective.encoding, rows[:20]), 13, pending=rows[20:])
    assert max(madds.asked.values()) == 1
    assert len(madds.asked) > 500


class Odd(Madds):
    """A latency that is dear to ask for, and off what layers say by up to so much, each network by its own."""

    def __init__(self, spread: float, *, is_dear: bool = True) -> None:
        super().__init__(is_dear=is_dear)
        self._spread = spread

    def of_codes(self, encoding: Encoding) -> OfCodes:
        """See `Latency`."""
        millions = super().of_codes(encoding)

        def odd(codes: Codes) -> np.ndarray:
            factors = [1 + self._spread * (crc32(bytes(row)) % 2001 / 1000 - 1) for row in codes]
            found: np.ndarray = millions(codes) * np.array(factors)
            return found

        return odd


@pytest.mark.parametrize(("spread", "most"), [(0.0, 12), (0.08, 40)])
def test_a_dear_latency_is_asked_of_few_networks(spread: float, most: int) -> None:
    """Of some first, always the same, and then of those alone that may be proposed: which meet the limits."""
    odd = Odd(spread)
    objective = made("mobilenet-v3-small", madds=odd)
    rows = play(objective, 30, 1)
    asked = len(odd.asked)
    assert asked <= 256 + 30 * most
    assert (objective.violation(objective.costs(rows)) == 0).all()
    assert len(np.unique(rows, axis=0)) == 30
    before, none = len(odd.asked), rows[:0]
    row = propose(
        objective,
        known=none,
        top1=np.empty(0),
        pending=rows,
        excluded=none,
        rng=np.random.default_rng(0),
        prior=lambda codes: truth(objective.encoding, codes),
    )
    assert len(odd.asked) - before <= most
    assert objective.violation(objective.costs(row[None])) == 0


def test_a_front_by_guesses_spreads_as_one_by_all_answers() -> None:
    """Proposals for small and for large latencies come up, and all are within the limit."""
    fronts = []
    for is_dear in (True, False):
        odd = Odd(0.08, is_dear=is_dear)
        objective = made("mobilenet-v3-small", 0.9, madds=odd)
        rows = play(objective, 24, 4, objectives=(0,))
        costs = objective.costs(rows)
        assert (objective.violation(costs) == 0).all()
        fronts.append(np.quantile(costs[12:, 0], [0.1, 0.9]))
    (low, high), (least, most) = fronts
    assert low < 1.3 * least
    assert high > 0.7 * most


@pytest.mark.parametrize("spread", [0.1, 0.9])
def test_guesses_hide_no_network(spread: float) -> None:
    """However wrong they are: every network within the limit is proposed once; then there is none."""
    objective = made("small", 0.3, madds=Odd(spread))
    every = members(objective.encoding, 10_000)
    assert every is not None
    allowed = every[objective.violation(objective.costs(every)) == 0]
    known = play(objective, len(allowed), 2, effort=QUICK)
    assert (np.unique(known, axis=0) == np.unique(allowed, axis=0)).all()
    with pytest.raises(Exhausted, match="no further network of space 'small' is left within the limits"):
        play(objective, len(allowed) + 1, 2, effort=QUICK)


def test_networks_over_the_limit_teach() -> None:
    """What squeeze-and-excite brings is learnt from networks over the limit alone."""
    objective = made("mobilenet-v3-large", 0.2)
    encoding, rng = objective.encoding, np.random.default_rng(14)
    drawn = canonical(encoding, encoding.sample(400, rng))
    slow = drawn[objective.violation(objective.costs(drawn)) > 0][:60]
    excites = [at for at, name in enumerate(encoding.names) if name.endswith(".se")]
    top1 = 0.6 + 0.02 * slow[:, excites].mean(axis=1)
    row = ask(objective, slow, top1, 14)
    assert row[excites].mean() > 0.8
    assert objective.violation(objective.costs(row[None]))[0] == 0


def test_a_soft_reward_weighs_the_costs() -> None:
    """Where all networks are equally good, a reward that falls with latency has faster ones proposed."""
    latencies = []
    for exponent in (0.0, -0.5):
        objective = made("mobilenet-v3-large", exponent=exponent)
        drawn = canonical(objective.encoding, objective.encoding.sample(200, np.random.default_rng(15)))
        known = drawn[objective.violation(objective.costs(drawn)) == 0][:30]
        top1 = 0.6 + 0.001 * np.random.default_rng(16).standard_normal(len(known))
        row = ask(objective, known, top1, 17)
        latencies.append(objective.costs(row[None])[0, 0])
    assert latencies[1] < 0.6 * latencies[0]


def test_objectives_spread_over_the_front() -> None:
    """With the multiply-adds as a second objective, networks dominate more than random ones, and are of all sizes."""
    objective = made("mobilenet-v3-large", 1.0)

    def volume(rows: Codes) -> float:
        top1 = truth(objective.encoding, rows)
        losses = np.stack([-top1, objective.costs(rows)[:, 0] / objective.target_ms], axis=1)
        return hypervolume(losses, np.array([-0.5, 1.0]))

    guided = play(objective, 60, 18, objectives=(0,))
    assert volume(guided) > 1.05 * volume(play(objective, 60, 18, effort=RANDOM))
    sizes = objective.costs(guided[20:])[:, 0] / objective.target_ms
    assert np.quantile(sizes, 0.1) < 0.45
    assert np.quantile(sizes, 0.9) > 0.65
