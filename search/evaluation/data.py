"""What a search judges networks by in the end: images, or nothing but a function of the user's own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from search.evaluation.job import DataUse
from search.plugins import Plugin
from trainer.data.dataset import Dataset
from trainer.data.facts import DataFacts
from trainer.data.splits import Splits, pooled


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """A data set and its splits: networks are trained, tested and exported with their weights.

    In several `folds` all images of the training split judge networks, too, and are its reward split.
    """

    dataset: Dataset
    splits: Splits
    folds: int = 1

    @classmethod
    def of(cls, dataset: Dataset, splits: Splits, folds: int) -> Self:
        """The data of a run whose networks are judged in so many folds."""
        return cls(dataset=dataset, splits=splits if folds == 1 else pooled(splits), folds=folds)

    @property
    def name(self) -> str:
        """What people call it."""
        return self.dataset.name

    @property
    def content(self) -> str:
        """What identifies it: equal contents have equal results."""
        return self.dataset.content_hash

    @property
    def facts(self) -> DataFacts:
        """What a record keeps of it."""
        return DataFacts.of(self.dataset, self.splits)

    def use(
        self,
        *,
        reward_fraction: float,
        split_seed: int,
        train_images: int | None,
        reward_images: int,
        balanced: bool = False,
    ) -> DataUse:
        """Which part of it an evaluation uses."""
        return DataUse(
            content_hash=self.content,
            reward_fraction=reward_fraction,
            split_seed=split_seed,
            train_images=train_images,
            reward_images=reward_images,
            balanced=balanced,
            folds=self.folds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoImages:
    """A function of the user's own stands for the data: it judges every network, and none is trained."""

    evaluator: Plugin

    @property
    def name(self) -> str:
        """What people call it."""
        return self.evaluator.name

    @property
    def content(self) -> str:
        """The function's name with a hash of its source.

        Raises:
            InvalidConfig: it cannot be imported.
        """
        return self.evaluator.content

    @property
    def facts(self) -> None:
        """There are no images to tell of."""
        return None


Data = Images | NoImages


def folder_of(data: Data) -> Path | None:
    """Where prepared images lie that a cluster's nodes need, if there are any."""
    return data.dataset.folder if isinstance(data, Images) else None
