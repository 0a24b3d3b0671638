"""What a race's first look at its networks is worth, as far as that was found out on its data."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from search.record.rows import LookedAt, SignalQuality
from search.reports.recorded_search import RecordedSearch

# The looks of other races are taken for those of this one where they were at most so many times longer or shorter.
_ALIKE = 1.5
_OTHERS = ("multiply-adds", "depth")


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstLook:
    """A race's first look at networks near the target: how well it orders them, and who orders them better for nothing.

    `source` says whose networks were compared.
    """

    quality: SignalQuality
    better: SignalQuality | None
    source: str

    @property
    def sentence(self) -> str:
        """What a report says of it."""
        look, top = self.quality, max((top for top in self.quality.regrets if top <= 4), default=None)
        lost = "" if top is None else f"; the best of its first {top} is {look.regrets[top]:.2f} points below the best"
        said = (
            f"What networks reach after {look.images:,} images orders them near one latency with a Kendall's τ of "
            f"{look.tau:.2f} (95%: {look.low:.2f} to {look.high:.2f}; {look.networks} networks, {self.source}){lost}."
        )
        if self.better is None:
            return said
        return f"{said} **{self.better.signal.capitalize()} alone orders them better (τ {self.better.tau:.2f}).**"


def first_look(recorded: RecordedSearch) -> FirstLook | None:
    """What is known of a race's first look at its networks: from the record, or as it was published with mobilenas."""
    if not recorded.config.races or recorded.config.looks_first:
        return None
    looked_at, images = recorded.looked_at, recorded.config.race.rungs[0].images
    sources = (*recorded.store.signals.of(looked_at).items(), *_published(looked_at))
    return next((found for said in sources if (found := _first_look(*said, images)) is not None), None)


def _first_look(source: str, qualities: Sequence[SignalQuality], images: int) -> FirstLook | None:
    near = [each for each in qualities if each.compared == "near the limit" and not math.isnan(each.tau)]
    looks = [each for each in near if each.images and each.signal.endswith("log-likelihood")]
    look = min(looks, key=lambda each: _apart(each, images), default=None)
    if look is None or _apart(look, images) > math.log(_ALIKE):
        return None
    others = [each for each in near if each.signal in _OTHERS and each.tau > look.tau]
    return FirstLook(quality=look, better=max(others, key=lambda each: each.tau, default=None), source=source)


def _apart(quality: SignalQuality, images: int) -> float:
    assert quality.images is not None
    return abs(math.log(quality.images / images))


def _published(looked_at: LookedAt) -> Iterator[tuple[str, list[SignalQuality]]]:
    """Also of trainings from scratch by other recipes, such as with another augmentation, which is said then."""
    for each in _shipped():
        known, source = LookedAt(**each["looked_at"]), "published with mobilenas"
        if replace(known, recipes=looked_at.recipes) != looked_at or looked_at.is_begun:
            continue
        if known != looked_at:
            source += ", trained by recipes that differ from these"
        yield source, [SignalQuality.from_plain(row) for row in each["qualities"]]


@cache
def _shipped() -> tuple[dict[str, Any], ...]:
    """What benchmarks/curves/signals.py makes of the committed learning curves."""
    text = files("search.reports").joinpath("signals.json").read_text(encoding="utf-8")
    return tuple(json.loads(text)["data"])
