"""What no network may exceed that a search trains, the reference excepted."""

import math
from dataclasses import replace

from search.objective.limits import Limits
from search.record.recorded_search import RecordedSearch
from search.stages.session import Session


def limits_of(session: Session | RecordedSearch) -> Limits:
    """The limits of the block-level search.

    Whoever races to the end must meet the target itself; others may walk to it. For a Pareto front the target is one
    point of many.
    """
    start, config = session.start, session.config
    if config.races:
        least = min(start.target_ms, config.limits.latency_ms or math.inf)
        return replace(config.limits.limits(None), latency_ms=least)
    aim_ms = None if config.blocks.objectives else start.seed_target_ms * (1 + config.blocks.tolerance)
    return config.limits.limits(aim_ms)


def latency_limit_ms(session: Session | RecordedSearch) -> float:
    """Networks slower than this are recorded as pruned, never trained."""
    limit = limits_of(session).latency_ms
    return math.inf if limit is None else limit
