"""The folder of a training that stands alone: what it goes on from, what is known of it, and who may write there."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from space.errors import DataError, RunError
from trainer.training.recipe import Recipe
from trainer.training.state import TrainingState
from trainer.training.train import Trained
from trainer.training.weight_files import write_whole


def images_for(minutes: float, recipe: Recipe, train: Callable[[Recipe], Trained], batches: int) -> int:
    """How many images can be trained in so many minutes here, from so many batches."""
    # The first call pays for the kernels' set-up.
    for count in (1, batches):
        trained = train(replace(recipe, images=recipe.batch_size * count))
    return max(1, round(60 * minutes * batches / trained.seconds * recipe.batch_size))


@dataclass(frozen=True, slots=True)
class TrainingFolder:
    """A folder of one training, whose own files begin with its kind."""

    path: Path
    kind: Literal["training", "supernet"]

    @property
    def _elsewhere(self) -> str:
        return "choose another folder with --out" if self.kind == "training" else "choose another name"

    @property
    def checkpoint(self) -> Path:
        """What it goes on from."""
        return self.path / f"{self.kind}.checkpoint"

    @property
    def report(self) -> Path:
        """What is known of it so far, as JSON."""
        return self.path / f"{self.kind}.json"

    def left_off(self) -> TrainingState | None:
        """Where it was left, None where none was begun.

        Raises:
            DataError: it cannot be read.
        """
        return TrainingState.read(self.checkpoint) if self.checkpoint.exists() else None

    def begun_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with the length of the training that was begun here by the same one, where there is one.

        Raises:
            DataError: the training here cannot be read, or is by another recipe.
        """
        state = self.left_off()
        if state is None:
            return recipe
        same = replace(recipe, images=state.recipe.images)
        if same != state.recipe:
            raise DataError(f"the training in {self.path} is by another recipe; {self._elsewhere}")
        return same

    def length(
        self, recipe: Recipe, images: int | None, minutes: float | None, images_for: Callable[[float], int]
    ) -> Recipe:
        """As long as was asked for; else as long as was begun here, or as the recipe says.

        Raises:
            DataError: as in `begun_recipe`.
        """
        if images is not None:
            return replace(recipe, images=images)
        begun = self.begun_recipe(recipe)
        if minutes is None or begun is not recipe:
            return begun
        return replace(recipe, images=images_for(minutes))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else trains here meanwhile; the folder is made if need be.

        Raises:
            RunError: the folder holds something else, cannot be written, or another process trains there.
        """
        others = sorted(path.name for path in self.path.glob("*") if not path.name.startswith(f"{self.kind}."))
        if others and not self.checkpoint.exists():
            raise RunError(f"folder {self.path} holds no {self.kind}, but {others[0]}; {self._elsewhere}")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path / f"{self.kind}.lock", timeout=0):
                yield
        except Timeout as error:
            raise RunError(f"another process trains in {self.path}; wait for it, or {self._elsewhere}") from error
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be written ({error.strerror or error}); what was kept is still there: mend that, "
                "and train again"
            ) from error

    def curve_until(self, images: int) -> list[dict[str, float]]:
        """What was seen of it up to there; a report that cannot be read is no reason not to go on."""
        try:
            curve: list[dict[str, float]] = json.loads(self.report.read_bytes())["curve"]
            return [row for row in curve if row["images"] <= images]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def write_report(self, content: dict[str, Any]) -> dict[str, Any]:
        """Write it, whole or not at all; returns what it says."""
        write_whole(self.report, (json.dumps(content, indent=2) + "\n").encode())
        return content
