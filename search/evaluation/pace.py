"""How long the trainings of a search take on workers that train so fast."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from search.config.load import RunConfig
from search.config.sections import RaceConfig
from search.evaluation.data import Data, Images
from trainer.supernet.sharing import STATISTICS_IMAGES

# Evaluating an image costs about this share of training on it (forward only).
EVALUATION_SHARE = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast workers train, and on how many images they judge a network: at first, when it gets far, and in the end.

    `images_per_second` is that of one worker while the others train, too.
    """

    images_per_second: float
    workers: int
    judged: int
    judged_whole: int
    tested: int

    @classmethod
    def of(cls, config: RunConfig, data: Data, *, workers: int, images_per_second: float) -> Self:
        """Of a run on these data, whose workers train so many images a second each."""
        asked = config.data.reward_images
        whole = len(data.splits.reward) if isinstance(data, Images) else asked
        return cls(
            images_per_second=images_per_second,
            workers=workers,
            judged=min(asked, whole),
            judged_whole=whole,
            tested=len(data.splits.test) if isinstance(data, Images) else 0,
        )

    def side_by_side(self, trainings: Iterable[float]) -> float:
        """Seconds until all trainings of so many images are done, begun in this order; none is shared by workers."""
        loads = [0.0] * self.workers
        for images in trainings:
            loads[loads.index(min(loads))] += images
        return max(loads) / self.images_per_second

    def alike(self, count: int, images: float) -> float:
        """Seconds until so many trainings of equally many images are done."""
        return -(-count // self.workers) * images / self.images_per_second

    def rungs(self, race: RaceConfig, begin: int = 0) -> float:
        """Seconds of a race from this rung on."""
        seconds = 0.0
        for number, (images, networks) in enumerate(race.steps):
            if number >= begin:
                looked_at = (self.judged_whole if number else self.judged) + (0 if images else STATISTICS_IMAGES)
                seconds += self.alike(networks, images + EVALUATION_SHARE * looked_at)
        return seconds

    def finals(self, config: RunConfig) -> float:
        """Seconds of the final training: the reference, after a race the baseline, and the finalists."""
        images = config.final.images
        begun = config.race.rungs[-1].images if config.races and config.final.weights == "continued" else 0
        from_scratch = 2 if config.races else 1
        judged = EVALUATION_SHARE * self.judged_whole
        trainings = [images + judged] * from_scratch + [images - begun + judged] * config.final.top_k
        return self.side_by_side(trainings) + EVALUATION_SHARE * self.tested / self.images_per_second


def pace_of_trainings(trainings: Iterable[tuple[float, float]]) -> float | None:
    """Images per second of one worker, from the images and seconds of trainings; None where there are none."""
    images = seconds = 0.0
    for seen, took in trainings:
        images, seconds = images + seen, seconds + took
    return images / seconds if seconds > 0 else None
