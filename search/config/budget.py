"""How much a search may train: a name, or a time."""

import re

from space.errors import InvalidConfig

BUDGETS = {"quick": 0.2, "default": 1.0, "thorough": 8.0}
"""Named budgets as multiples of the trainings that a configuration names."""

MINUTES = {"quick": 4.0, "default": 15.0, "thorough": 120.0}
"""The same where a race fills the time: minutes."""


def budget_hours(budget: str) -> float | None:
    """The hours that a budget like "4h" or "30m" names, or None for a named one.

    Raises:
        InvalidConfig: it is neither.
    """
    if budget in BUDGETS:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(h|m)", budget)
    if match is None or not 0 < (hours := float(match[1]) / (60 if match[2] == "m" else 1)) <= 24 * 365:
        raise InvalidConfig(f"budget {budget!r} is neither one of {', '.join(BUDGETS)} nor a time such as 4h or 30m")
    return hours


def top_k(chosen: int, factor: float) -> int:
    """One network where time is short, three where there is plenty; more than three only for who asked for them."""
    return 1 if factor < 1 else max(chosen, 3) if factor >= BUDGETS["thorough"] else chosen
