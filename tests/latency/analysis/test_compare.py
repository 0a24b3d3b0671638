"""Two devices compared: on made-up ones with known differences."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from latency.analysis.compare import OPTIONS, advice, compare, option_costs
from latency.table import LatencyTable
from space.errors import MissingBlock
from space.keys import BlockKey, StageBlockKey
from tests.strategies import constant, default_space, random_table

SPACE = default_space(width=0.25)


def slower(table: LatencyTable, factor: Callable[[BlockKey], float]) -> LatencyTable:
    """Another device, on which some blocks take longer."""
    entries = {key: constant(factor(key) * table.alone_ms(key)) for key in table.entries}
    return replace(table, entries=entries)


TABLE = random_table(SPACE, 0)


def test_a_device_agrees_with_itself() -> None:
    """Same ranks, no network costs more, no option is unusual."""
    found = compare(TABLE, TABLE, SPACE)
    assert (found.kendall_tau, found.spearman, found.moved, found.ratio) == pytest.approx((1, 1, 0, 1))
    for each in found.transfers:
        assert each.chosen_ms == each.on_other_ms <= each.target_ms
        assert each.overhead >= 0
    assert not any(cost.is_unusual for cost in found.options)
    assert advice(found, ("a", "b")) == ["no operator is unusually expensive on one device compared with the other"]


def test_a_device_that_is_slower_all_over_ranks_alike() -> None:
    """Three times slower: every rank stays, the ratio is three."""
    found = compare(TABLE, slower(TABLE, lambda _: 3.0), SPACE)
    assert found.kendall_tau == pytest.approx(1)
    assert found.ratio == pytest.approx(3)


def uses(option: str) -> Callable[[BlockKey], bool]:
    """Whether a block has an option."""
    return lambda key: isinstance(key, StageBlockKey) and OPTIONS[option](key) is not None


@pytest.mark.parametrize("option", OPTIONS)
def test_a_dear_operator_is_found(option: str) -> None:
    """Where one device pays twice for an operator, just that one is named, with the device and what to do."""
    dear = slower(TABLE, lambda key: 2.0 if uses(option)(key) else 1.0)
    costs = {cost.option: cost for cost in option_costs(TABLE, dear)}
    # The default space has no 7x7 kernels.
    if option not in costs:
        assert option == "7x7 kernel"
        return
    assert costs[option].second == pytest.approx(2 * costs[option].first)
    assert [name for name, cost in costs.items() if cost.is_unusual] == [option]
    found = compare(dear, TABLE, SPACE)
    assert found.kendall_tau < 1
    (line,) = advice(found, ("mcu", "desk"))
    assert f"{option} is unusually expensive on 'mcu'" in line
    assert "minimalistic" in line


def test_costs_of_a_choice_for_the_wrong_device() -> None:
    """Where squeeze-and-excite is dear on the other device only, a network chosen for the first costs more there."""
    dear = slower(TABLE, lambda key: 5.0 if uses("squeeze-and-excite")(key) else 1.0)
    found = compare(TABLE, dear, SPACE)
    same = compare(TABLE, TABLE, SPACE)
    for wrong, own in zip(found.transfers, same.transfers, strict=True):
        assert wrong.chosen_ms == own.chosen_ms
        assert wrong.on_other_ms >= own.on_other_ms
    assert sum(each.overhead for each in found.transfers) > sum(each.overhead for each in same.transfers)
    assert found.moved > 0.05


def test_both_tables_must_hold_the_space() -> None:
    """A hole is named, with its device."""
    holed = replace(TABLE, entries=dict(list(TABLE.entries.items())[1:]))
    with pytest.raises(MissingBlock, match="is not measured on 'pi4'"):
        compare(TABLE, holed, SPACE)
