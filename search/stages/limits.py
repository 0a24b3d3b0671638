"""What no network may exceed that a search trains, the reference excepted."""

import math
from dataclasses import replace

from search.objective.limits import Limits
from search.reports.recorded_search import RecordedSearch
from search.stages.session import Session


def limits_of(session: Session | RecordedSearch) -> Limits:
    """The limits of the block-level search.

    Whoever races to the end must meet the target itself; others may walk to it. For a Pareto front the target is one
    point of many.
    """
    start, config = session.start, session.config
    if config.blocks.objectives:
        return config.limits.limits(None)
    if config.races:
        return end_limits_of(session)
    return config.limits.limits(start.seed_target_ms * (1 + config.blocks.tolerance))


def end_limits_of(session: Session | RecordedSearch) -> Limits:
    """The limits of the network that a race ends with."""
    limits = session.config.limits
    return replace(limits.limits(None), latency_ms=min(session.start.target_ms, limits.latency_ms or math.inf))


def latency_limit_ms(session: Session | RecordedSearch) -> float:
    """Networks slower than this are recorded as pruned, never trained."""
    limit = limits_of(session).latency_ms
    return math.inf if limit is None else limit


def end_latency_ms(session: Session | RecordedSearch) -> float:
    """What the network that a race ends with may take."""
    limit_ms = end_limits_of(session).latency_ms
    assert limit_ms is not None
    return limit_ms
