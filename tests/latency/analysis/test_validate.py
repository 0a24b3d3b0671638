"""Validation of tables: which networks are drawn, and what is made of them."""

from dataclasses import replace

import numpy as np
import pytest

from latency.analysis.validate import GROUPS, NEAR, Validation, draw_networks, naive_sums, validate
from latency.collect import ATTEMPTS, calibration_networks
from latency.probe import Protocol
from latency.table import LatencyTable
from space.errors import InfeasibleTarget
from space.keys import keys_of
from tests.latency.fakes import FakeMeter
from tests.latency.test_predict import table_of
from tests.strategies import default_space, random_table

SPACE = default_space(width=0.25)
TABLE = table_of(SPACE, 0)
PROTOCOL = Protocol(rounds=1, most_rounds=1, warm=1)


def test_networks_were_never_used_in_a_fit() -> None:
    """None is of a calibration, none is drawn twice, and they are half random, a quarter near, a quarter narrow."""
    drawn = draw_networks(TABLE, SPACE, 40, near_target_ms=None, seed=0)
    archs = [arch for _, arch in drawn]
    assert [group for group, _ in drawn] == ["random"] * 20 + ["near_target"] * 10 + ["netadapt"] * 10
    assert len(set(archs)) == 40
    fitted = {arch for attempt in range(ATTEMPTS) for arch in calibration_networks(SPACE, attempt)}
    assert not fitted & set(archs)
    assert all(arch in SPACE for group, arch in drawn if group != "netadapt")
    assert not any(arch in SPACE for group, arch in drawn if group == "netadapt")
    assert drawn == draw_networks(TABLE, SPACE, 40, near_target_ms=None, seed=0)
    assert drawn != draw_networks(TABLE, SPACE, 40, near_target_ms=None, seed=1)


def test_networks_near_the_target_are_near_it() -> None:
    """Their predictions lie within 5 % of it; a target that no network is near is refused with the range."""
    target = TABLE.estimate(SPACE.reference) * 0.9
    drawn = draw_networks(TABLE, SPACE, 40, near_target_ms=target, seed=0)
    near = [TABLE.estimate(arch) for group, arch in drawn if group == "near_target"]
    assert len(near) == 10
    assert np.abs(np.array(near) / target - 1).max() <= NEAR
    with pytest.raises(InfeasibleTarget, match=r"no network near 1000\.000 ms.*fastest takes"):
        draw_networks(TABLE, SPACE, 40, near_target_ms=1000.0, seed=0)


def validated(factor: float) -> Validation:
    """A validation on a device that has become so many times slower, and on which the table's model holds exactly."""
    whole = LatencyTable(
        device=TABLE.device,
        scope=TABLE.scope,
        entries={**TABLE.entries},
        calibration=TABLE.calibration,
        cpu_calibration=TABLE.calibration,
    )
    drawn = draw_networks(whole, SPACE, 24, near_target_ms=None, seed=0)
    missing = whole.missing(key for _, arch in drawn for key in keys_of(arch))
    truth = replace(
        whole, entries={**whole.entries, **{key: whole.entries[next(iter(whole.entries))] for key in missing}}
    )
    found, _ = validate(whole, drawn, FakeMeter.of(truth, factor), PROTOCOL)
    return found


@pytest.mark.parametrize("factor", [1.0, 1.25])
def test_drift_is_told_apart_from_error(factor: float) -> None:
    """A device that has become a quarter slower has drifted; the table is still right, and both are said."""
    found = validated(factor)
    assert found.drift_wall == pytest.approx(factor)
    assert found.drift_cpu == pytest.approx(factor)
    agreed = found.agreement("wall")
    assert agreed.mape == pytest.approx(0, abs=1e-9)
    assert (agreed.within_5, agreed.kendall_tau) == pytest.approx((1, 1))
    raw = found.agreement("wall", corrected=False)
    assert raw.mape == pytest.approx(1 - 1 / factor)
    assert {network.group for network in found.networks} == set(GROUPS)
    assert found.agreement("cpu", "netadapt").networks == 6


def test_the_plain_form_has_all_figures() -> None:
    """Per clock: mape, within_5, within_10, kendall_tau and spearman, of all, per group, and with the drift left in."""
    plain = validated(1.1).to_plain()
    figures = {"mape", "within_5", "within_10", "kendall_tau", "spearman"}
    for clock in ("wall", "cpu"):
        assert figures <= set(plain[clock])
        assert set(plain[clock]["groups"]) == set(GROUPS)
        for group in plain[clock]["groups"].values():
            assert figures <= set(group)
        assert plain[clock]["drift"] == pytest.approx(0.1)
        assert plain[clock]["as_measured"]["mape"] == pytest.approx(1 - 1 / 1.1)


def test_multiply_adds_are_fitted_on_the_other_half() -> None:
    """Where latency is exactly multiply-adds, the proxy has no error; on a made-up device it has."""
    found = validated(1.0)
    exact = replace(
        found,
        networks=tuple(replace(each, measured_wall_ms=0.1 + each.madds / 1e6) for each in found.networks),
    )
    assert exact.madds_as_proxy().mape == pytest.approx(0, abs=1e-9)
    assert found.madds_as_proxy().mape > 0.01


def test_the_naive_way_adds_means() -> None:
    """Its sum over a network is that of the means of its blocks."""
    table = random_table(SPACE, 3)
    found = naive_sums([SPACE.reference], FakeMeter.of(table))
    expected = sum(table.alone_ms(key) for key in keys_of(SPACE.reference))
    assert found[SPACE.reference] == pytest.approx(expected)
