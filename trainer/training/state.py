"""A training as a value that can go on, and its file.

Everything random is a function of the seed and the step (`trainer.training.batches`), so that the number of steps says
where a training stands, in its epoch too.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from safetensors import SafetensorError, safe_open
from torch import Tensor

from space.errors import DataError, InvalidConfig
from trainer.training.recipe import Recipe, parse_recipe
from trainer.training.weight_files import write_tensors

# Raised when the file changes, or when a training that goes on would not be what it would have been uninterrupted.
STATE_VERSION = 1
_WORDS = "training"


class UnfitState(DataError):
    """A training cannot go on from a state: it is of something else, or damaged."""


class DamagedState(UnfitState):
    """A state lacks something that a training of its kind has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a training is of: it goes on with nothing else.

    `images` is a hash of which images it trains on, `start` one of the weights that it began with, `teacher` what
    identifies its teacher; None: there were none.
    """

    arch_id: str
    data: str
    images: str
    seed: int
    start: str | None = None
    teacher: str | None = None

    def refuse_other(self, other: "Identity", what: str) -> None:
        """See that they are the same.

        Raises:
            UnfitState: they differ.
        """
        names = {
            "arch_id": "architecture",
            "data": "data",
            "images": "training images",
            "seed": "seed",
            "start": "first weights",
            "teacher": "teacher",
        }
        for field, name in names.items():
            mine, theirs = (getattr(each, field) for each in (self, other))
            if mine != theirs:
                mine, theirs = ("none" if each is None else each for each in (mine, theirs))
                raise UnfitState(
                    f"{what} is of {name} {theirs}, not {mine}; train anew elsewhere, or give what it is of"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """A training after some steps: `weights`, their `average` (empty without) and what the `optimizer` remembers.

    `seconds` is how long it was trained, all sessions together.
    """

    identity: Identity
    recipe: Recipe
    steps: int
    seconds: float
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, Tensor]

    def write(self, path: Path, *, evaluation_key: str | None = None) -> None:
        """Write it; a reader sees the whole file or what was there before.

        Raises:
            OSError: it cannot be written.
        """
        words = {
            "version": STATE_VERSION,
            "identity": asdict(self.identity),
            "recipe": asdict(self.recipe),
            "steps": self.steps,
            "seconds": self.seconds,
        }
        parts = {"weights": self.weights, "average": self.average, "optimizer": self.optimizer}
        tensors = {
            f"{part}/{name}": tensor.detach().cpu().contiguous()
            for part, each in parts.items()
            for name, tensor in each.items()
        }
        metadata = {_WORDS: json.dumps(words)}
        if evaluation_key is not None:
            metadata["evaluation"] = evaluation_key
        write_tensors(tensors, path, metadata)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The state that `write` wrote.

        Raises:
            DataError: there is none, it is damaged, or another version wrote it.
        """
        try:
            with safe_open(path, framework="pt") as opened:
                words = json.loads((opened.metadata() or {})[_WORDS])
                if words["version"] != STATE_VERSION:
                    version = words["version"]
                    raise DataError(
                        f"training {path} has version {version!r}, not {STATE_VERSION}; remove it to train anew"
                    )
                parts: dict[str, dict[str, Tensor]] = {"weights": {}, "average": {}, "optimizer": {}}
                for full_name in opened.keys():  # noqa: SIM118 - it is no dictionary
                    part, _, name = full_name.partition("/")
                    parts[part][name] = opened.get_tensor(full_name)
            return cls(
                identity=Identity(**words["identity"]),
                recipe=parse_recipe(words["recipe"], "its recipe"),
                steps=int(words["steps"]),
                seconds=float(words["seconds"]),
                **parts,
            )
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, InvalidConfig) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"training {path} cannot be read ({reason}); remove it to train anew") from error
