"""The words for what ranks networks, and what is kept of a measured one."""

import pytest

from latency.measurement import Measurement
from search.config.load import parse_config
from search.trial import NetworkMeasurement, SearchStage, judge_of, judged_on
from space.errors import InvalidConfig


@pytest.mark.parametrize(
    ("evaluator", "rank_by", "blocks", "final"),
    [
        (None, None, "reward split", "reward split"),
        (None, "top1", "reward split", "reward split"),
        (None, "balanced", "reward split, balanced accuracy", "reward split, balanced accuracy"),
        ("mine:top1", "top1", "by mine:top1", "reward split"),
    ],
)
def test_every_top1_says_what_it_is(evaluator: str | None, rank_by: str | None, blocks: str, final: str) -> None:
    """Plain, balanced or by a user's function, which judges no final network; None is a record of before."""
    judge = judge_of(evaluator, rank_by)
    assert (judged_on(SearchStage.BLOCKS, judge), judged_on(SearchStage.FINAL, judge)) == (blocks, final)


def test_a_run_says_what_ranks() -> None:
    """By default plain top-1, else what its data section says."""
    assert parse_config({}).judge is None
    assert parse_config({"data": {"rank_by": "balanced"}}).judge == "balanced accuracy"
    with pytest.raises(InvalidConfig, match=r"data\.rank_by is for trainings"):
        parse_config({"evaluator": "mine:top1", "data": {"rank_by": "balanced"}})


def test_a_network_stands_beside_its_prediction() -> None:
    """As it took then: low quantile of wall time, with its interval and median."""
    samples = tuple(1 + 0.001 * visit for visit in range(16))
    measured = Measurement(cold_wall=samples, cold_cpu=samples, warm_wall=samples, warm_cpu=samples)
    found = NetworkMeasurement.of(3, 0.9, measured)
    assert (found.trial, found.predicted_ms, found.samples) == (3, 0.9, 16)
    assert found.low_ms <= found.measured_ms <= found.high_ms
    assert found.measured_ms < found.median_ms == pytest.approx(1.0075)
