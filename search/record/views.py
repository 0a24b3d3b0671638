"""The views as queries see them: what a row is, and columns with types, units and meaning.

Their SQL stands in the migrations; docs/database.md is rendered from here and from `search.record.schema`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Double, Integer, TableClause, Text, column, table
from sqlalchemy.types import TypeEngine

from search.record.schema import UtcDateTime

Column = tuple[str, type[TypeEngine[Any]], str]


@dataclass(frozen=True, slots=True)
class SqlView:
    """One view; flags are 0 or 1, which both databases can add up."""

    grain: str
    columns: tuple[Column, ...]

    def as_table(self, name: str) -> TableClause:
        """For queries of our own."""
        return table(name, *(column(name, kind) for name, kind, _ in self.columns))

    def python_types(self) -> dict[str, type]:
        """What its values are in Python, by column."""
        return {name: _PYTHON[kind] for name, kind, _ in self.columns}


_PYTHON: dict[object, type] = {Text: str, Integer: int, BigInteger: int, Double: float, UtcDateTime: datetime}


def _view(grain: str, *columns: Column) -> SqlView:
    return SqlView(grain, columns)


_SEARCH = ("search", Text, "name of the search")
_DATA = ("data", Text, "data set as it was asked for, such as fashion-mnist")
_DEVICE = ("device", Text, "the user's name for the device")
_OWNER = ("owner", Text, "who started the search")
_ARCH = ("arch_id", Text, "content hash of the architecture; equal networks have equal ones")
_TOP1 = ("top1", Double, "accuracy on the reward split, 0-1; NULL: not trained")
_LATENCY = ("latency_ms", Double, "predicted by the latency table: batch 1, wall time, ms")
_MADDS = ("madds", BigInteger, "multiply-adds of one image")
_PARAMS = ("params_count", BigInteger, "trainable parameters")
_REWARD = ("reward", Double, "what the block-level search maximises; NULL: none")
_TARGET = ("target_ms", Double, "latency that the final network must meet, ms")
_TEST = ("test_top1", Double, "accuracy on the test split, 0-1; final trials only")

VIEWS: dict[str, SqlView] = {
    "trial_summary": _view(
        "one row per trial, of all searches",
        _SEARCH,
        ("number", Integer, "counts from 0 within the search"),
        ("stage", Text, "blocks, netadapt or final"),
        ("state", Text, "running, complete, pruned (over budget, not trained) or failed"),
        ("origin", Text, "who proposed it: a sampler, reference, enqueued, found, or what NetAdapt narrowed"),
        _ARCH,
        _TOP1,
        _LATENCY,
        _MADDS,
        _PARAMS,
        _REWARD,
        _TARGET,
        ("duration_s", Double, "seconds from start to finish of the last attempt"),
        ("images_seen", BigInteger, "training images, counted each time they were seen"),
        ("parent", Integer, "number of the trial whose weights were inherited"),
        ("iteration", Integer, "NetAdapt iteration"),
        ("error", Text, "why it failed or was refused, one line"),
        ("started_at", UtcDateTime, "UTC, of the last attempt"),
        ("finished_at", UtcDateTime, "UTC"),
        _DATA,
        _DEVICE,
        _OWNER,
        ("attempt", Integer, "counts from 1; a trial lost with its coordinator starts anew"),
        ("reused", Integer, "1: its result was taken over from an equal evaluation"),
        ("within_target", Integer, "1: its predicted latency meets the target"),
        _TEST,
    ),
    "trial_blocks": _view(
        "one row per block of every trial's network, in the order of computation",
        _SEARCH,
        ("number", Integer, "of the trial"),
        ("stage_index", Integer, "stage of the network, from 1; blocks of a stage have one width and resolution"),
        ("block_index", Integer, "block within the stage, from 1"),
        ("kind", Text, "inverted_residual, depthwise_separable (MobileNetV1) or conv (a full convolution)"),
        ("kernel_size", Integer, "side of the depthwise kernel (of a conv: its kernel), px"),
        ("in_channels", Integer, "channels that come in"),
        ("expanded_channels", Integer, "channels of the depthwise convolution; NULL: no expansion"),
        ("out_channels", Integer, "channels that go out"),
        ("stride", Integer, "of the depthwise convolution"),
        ("use_se", Integer, "1: with squeeze-and-excite"),
        ("activation", Text, "relu, relu6 or hswish"),
    ),
    "pareto_front": _view(
        "one row per complete trial that no other of its search and stage beats in top-1 or latency without losing "
        "in the other; block-level search and NetAdapt; of a race those of the last rung that several have ended, as "
        "who was trained for less is less accurate for that",
        _SEARCH,
        ("stage", Text, "blocks or netadapt"),
        ("number", Integer, "of the trial"),
        _ARCH,
        _TOP1,
        _LATENCY,
        _MADDS,
        _PARAMS,
        _REWARD,
    ),
    "best_trial": _view(
        "one row per search that has a complete block-level trial: the one of the highest reward, of equals the first",
        _SEARCH,
        ("number", Integer, "of the trial"),
        _ARCH,
        _TOP1,
        _LATENCY,
        _MADDS,
        _PARAMS,
        _REWARD,
        _TARGET,
    ),
    "device_coverage": _view(
        "one row per device (name and facts) and search space that a finished latency table was measured for",
        _DEVICE,
        ("processor", Text, "model name"),
        ("threads", Integer, "ONNX Runtime intra-op threads"),
        ("runtime_version", Text, "ONNX Runtime version"),
        ("fingerprint", Text, "hash of the device's facts; latencies compare only where equal"),
        ("scope", Text, "content hash of the search space"),
        ("tables", Integer, "finished latency tables"),
        ("newest_table", Integer, "id of the newest one, which is the one that is used"),
        ("newest_at", UtcDateTime, "UTC, when it was finished"),
        ("blocks", Integer, "blocks in the newest table"),
        ("calibration_networks", Integer, "whole networks that it was calibrated on; NULL: none"),
        ("calibration_error_pct", Double, "its mean error on networks left out, %; NULL: not determined"),
        ("searches", Integer, "searches that predict by any of the tables"),
        ("networks_measured", Integer, "whole networks measured beside a prediction"),
        ("mean_error_pct", Double, "mean of |predicted / measured - 1| over these, %; NULL: none"),
        ("max_error_pct", Double, "largest of them, %"),
    ),
    "certified_exports": _view(
        "one row per export of a network that was measured whole on the device, by its newest measurement",
        _SEARCH,
        _DATA,
        ("data_hash", Text, "content hash of the data set"),
        _DEVICE,
        _OWNER,
        ("number", Integer, "of the trial"),
        ("origin", Text, "found or reference"),
        _ARCH,
        _MADDS,
        _PARAMS,
        _TEST,
        ("predicted_ms", Double, "by the latency table, ms"),
        ("measured_ms", Double, "the whole network on the device: low quantile of wall time, batch 1, ms"),
        ("low_ms", Double, "lower end of its 95 % confidence interval, ms"),
        ("high_ms", Double, "upper end, ms"),
        ("error_pct", Double, "predicted / measured - 1, %"),
        _TARGET,
        ("meets_target", Integer, "1: measured_ms is at most target_ms"),
        ("folder", Text, "where the files were written; - is stdout"),
        ("exported_at", UtcDateTime, "UTC"),
    ),
    "search_cost": _view(
        "one row per search",
        _SEARCH,
        _DATA,
        _DEVICE,
        _OWNER,
        ("trials", Integer, "all of them"),
        ("complete", Integer, "trials that have a result"),
        ("stopped", Integer, "trials that were stopped early, as others did better"),
        ("pruned", Integer, "proposals refused untrained"),
        ("failed", Integer, "trials that ended in an error"),
        ("running", Integer, "trials under way"),
        ("reused", Integer, "complete trials whose result was taken over from an equal evaluation"),
        ("images_seen", BigInteger, "training images of what was trained here, counted each time they were seen"),
        ("core_hours", Double, "hours of one core: a trial trains on one thread"),
        ("blocks_core_hours", Double, "of these, the block-level search's"),
        ("netadapt_core_hours", Double, "of these, NetAdapt's"),
        ("final_core_hours", Double, "of these, the final trainings'"),
        ("saved_core_hours", Double, "what the reused trials had cost where they were trained"),
        ("wall_hours", Double, "from creation to the end, or to the last change; waiting included"),
    ),
    "leaderboard": _view(
        "one row per data set (with its hash) and device: the best certified export of a found network. Those that "
        "meet their target come first, then by test top-1, then by measured latency, then the earlier",
        _DATA,
        ("data_hash", Text, "content hash of the data set"),
        _DEVICE,
        _SEARCH,
        _OWNER,
        ("number", Integer, "of the trial"),
        _ARCH,
        _TEST,
        ("measured_ms", Double, "the whole network on the device, ms"),
        _TARGET,
        ("meets_target", Integer, "1: measured_ms is at most target_ms"),
        _MADDS,
        _PARAMS,
        ("exported_at", UtcDateTime, "UTC"),
    ),
}

trial_summary = VIEWS["trial_summary"].as_table("trial_summary")
