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
    folds: int = 1

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
            folds=data.folds if isinstance(data, Images) else 1,
        )

    def side_by_side(self, trainings: Iterable[float]) -> float:
        """Seconds until all trainings of so many images are done, begun in this order; none is shared by workers."""
        loads = [0.0] * self.workers
        for images in trainings:
            loads[loads.index(min(loads))] += images
        return max(loads) / self.images_per_second

    def start(self, config: RunConfig) -> float:
        """Seconds of the training of the network that all others begin with, which has no other one beside it."""
        recipe = config.start_recipe
        if recipe is None:
            return 0.0
        images = recipe.images if self.folds == 1 else (self.folds + 1) * recipe.images
        return (images + EVALUATION_SHARE * self.judged_whole) / self.images_per_second

    def alike(self, count: int, images: float) -> float:
        """Seconds until so many trainings of equally many images are done."""
        return -(-count // self.workers) * images / self.images_per_second

    def rungs(self, race: RaceConfig, begin: int = 0) -> float:
        """Seconds of a race from this rung on."""
        seconds = 0.0
        for number, networks in enumerate(rung.networks for rung in race.rungs):
            if number >= begin:
                images = self.trained(race, number)
                looked_at = (self.judged_whole if number else self.judged) + (0 if images else STATISTICS_IMAGES)
                seconds += self.alike(networks, images + EVALUATION_SHARE * looked_at)
        return seconds

    def trained(self, race: RaceConfig, number: int) -> int:
        """The images that a network is trained on for a rung: those since the one before, or in folds all of them."""
        return race.steps[number][0] if self.folds == 1 else self.folds * race.rungs[number].images

    def finals(self, config: RunConfig) -> float:
        """Seconds of the final training: the reference, after a race the baseline, and the finalists."""
        images = config.final.images
        begun = config.race.rungs[-1].images if config.races and config.final.weights == "continued" else 0
        if self.folds > 1:  # each anew, and once more on all of them
            images, begun = (self.folds + 1) * images, 0
        from_scratch = 2 if config.races else 1
        if config.races and config.final.weights == "continued" and config.start_recipe == config.final_recipe:
            from_scratch -= 1  # the reference was trained in the beginning
        judged = EVALUATION_SHARE * self.judged_whole
        trainings = [images + judged] * from_scratch + [images - begun + judged] * config.final.top_k
        return self.side_by_side(trainings) + EVALUATION_SHARE * self.tested / self.images_per_second


def pace_of_trainings(trainings: Iterable[tuple[float, float]]) -> float | None:
    """Images per second of one worker, from the images and seconds of trainings; None where there are none."""
    images = seconds = 0.0
    for seen, took in trainings:
        images, seconds = images + seen, seconds + took
    return images / seconds if seconds > 0 else None
