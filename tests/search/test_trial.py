"""The words for what ranks networks, and what is kept of a measured one."""

from typing import Any

import pytest

from latency.measurement import Measurement
from search.config.load import parse_config
from search.trial import Judge, NetworkMeasurement, SearchStage
from space.errors import InvalidConfig


@pytest.mark.parametrize(
    ("config", "blocks", "final"),
    [
        ({}, "reward split", "reward split"),
        ({"evaluator": "supernet", "data": {"rank_by": "top1", "folds": 1}}, "reward split", "reward split"),
        ({"data": {"rank_by": "balanced"}}, "reward split, balanced accuracy", "reward split, balanced accuracy"),
        ({"data": {"folds": 5}}, "5 folds", "5 folds"),
        ({"data": {"folds": 5, "rank_by": "balanced"}}, "5 folds, balanced accuracy", "5 folds, balanced accuracy"),
        ({"evaluator": "mine:top1", "data": {"rank_by": "top1"}}, "by mine:top1", "reward split"),
    ],
)
def test_every_top1_says_what_it_is(config: dict[str, Any], blocks: str, final: str) -> None:
    """Plain, balanced, in folds or by a user's function, which judges no final network; records of before say less."""
    judge = Judge.of(config)
    assert (judge.of_stage(SearchStage.BLOCKS), judge.of_stage(SearchStage.FINAL)) == (blocks, final)


def test_a_run_says_what_ranks() -> None:
    """By default plain top-1, else what its data section says."""
    for content in ({}, {"data": {"rank_by": "balanced"}}, {"evaluator": "mine:top1"}):
        config = parse_config(content)
        assert config.judge == Judge.of(config.model_dump(mode="json"))
    assert parse_config({}).judge == Judge()
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
