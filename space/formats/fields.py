"""Reading other people's JSON field by field, each complaint naming the field."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, cast

from space.arch import Activation, Architecture, Block, Stage
from space.errors import InvalidArchitecture

DEFAULT_RESOLUTION = 224


class Fields:
    """A JSON object from outside, and the path to it."""

    def __init__(self, content: Any, path: str = "") -> None:  # noqa: ANN401 - whatever the file holds
        if not isinstance(content, dict):
            raise InvalidArchitecture(f"{path or 'spec'}: must be an object, got {_kind(content)}")
        self._content: Mapping[str, Any] = content
        self.path = path

    def _name(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def wrong(self, name: str, why: str) -> InvalidArchitecture:
        """The error to raise about one field."""
        return InvalidArchitecture(f"{self._name(name)}: {why}")

    def has(self, name: str) -> bool:
        """Whether a field is there and not null."""
        return self._content.get(name) is not None

    def integer(self, name: str, default: int | None = None) -> int:
        """An integer; bools are none."""
        value = self._content.get(name, default)
        if type(value) is not int:
            raise self.wrong(name, f"must be an integer, got {_kind(value)}")
        return value

    def kernel(self, name: str) -> Literal[3, 5, 7]:
        """The size of a depthwise kernel."""
        value = self.integer(name)
        if value not in (3, 5, 7):
            raise self.wrong(name, f"is {value}; it must be one of 3, 5, 7")
        return cast("Literal[3, 5, 7]", value)

    def stride(self, name: str) -> Literal[1, 2]:
        """The stride of a block."""
        value = self.integer(name)
        if value not in (1, 2):
            raise self.wrong(name, f"is {value}; it must be 1 or 2")
        return cast("Literal[1, 2]", value)

    def number(self, name: str) -> float:
        """A finite number between 0 and 1000; bools are none."""
        value = self._content.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1000:
            raise self.wrong(name, f"must be a number from 0 to 1000, got {value!r}"[:200])
        return float(value)

    def raw(self, name: str) -> Any:  # noqa: ANN401 - whatever the file holds
        """The value as it is."""
        return self._content.get(name)

    def text(self, name: str) -> str:
        """A string."""
        value = self._content.get(name)
        if not isinstance(value, str):
            raise self.wrong(name, f"must be a string, got {_kind(value)}")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._content.get(name)
        if not isinstance(value, bool):
            raise self.wrong(name, f"must be true or false, got {_kind(value)}")
        return value

    def items(self, name: str) -> list[Any]:
        """A list."""
        value = self._content.get(name)
        if not isinstance(value, list):
            raise self.wrong(name, f"must be a list, got {_kind(value)}")
        return value

    def objects(self, name: str) -> Iterator["Fields"]:
        """A list of objects."""
        for index, item in enumerate(self.items(name)):
            yield Fields(item, f"{self._name(name)}.{index}")

    def nested(self, name: str) -> "Fields":
        """An object."""
        return Fields(self._content.get(name), self._name(name))

    def expect(self, name: str, *allowed: object) -> None:
        """Complain unless a field, if it is there, has one of the only values that we can express."""
        value = self._content.get(name, allowed[0])
        if not any(value == each and type(value) is type(each) for each in allowed):
            raise self.wrong(name, f"is {value!r}; only {' or '.join(map(repr, allowed))} can be expressed"[:300])

    def choice(self, name: str, choices: Mapping[str, Any]) -> Any:  # noqa: ANN401 - the choices' values
        """A string that is one of the keys, as its value."""
        value = self.text(name)
        if value not in choices:
            raise self.wrong(name, f"is {value[:40]!r}; it must be one of {', '.join(choices)}")
        return choices[value]

    def input_size(self, resolution: int | None) -> tuple[int, int]:
        """Channels and side of the input by "input_size": [C, R, R], or 3 and the given resolution without it."""
        if not self.has("input_size"):
            return 3, resolution or DEFAULT_RESOLUTION
        size = self.items("input_size")
        if resolution is not None:
            raise self.wrong("input_size", "names its own resolution; leave the other one out")
        if len(size) != 3 or any(type(side) is not int for side in size) or size[1] != size[2]:
            raise self.wrong("input_size", "must be three integers: channels, side, side")
        return size[0], size[1]


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


Row = tuple[Block, int, Literal[1, 2]]
"""A block, its output width, its stride."""


def grouped(rows: Iterable[Row]) -> tuple[Stage, ...]:
    """Stages from blocks: a new one begins where the width changes or the stride is 2."""
    stages: list[list[Row]] = []
    for row in rows:
        if stages and row[2] == 1 and stages[-1][0][1] == row[1]:
            stages[-1].append(row)
        else:
            stages.append([row])
    return tuple(map(_stage, stages))


def _stage(rows: list[Row]) -> Stage:
    return Stage(out_channels=rows[0][1], stride=rows[0][2], blocks=tuple(block for block, _, _ in rows))


def staged(fields: Fields, rows: list[Row]) -> tuple[Stage, ...]:
    """Stages of the depths that our own files name ("stages"), or grouped where another project wrote the file."""
    if not fields.has("stages"):
        return grouped(rows)
    depths = fields.items("stages")
    if any(type(depth) is not int or depth < 1 for depth in depths) or sum(depths) != len(rows):
        raise fields.wrong("stages", f"must be depths that add up to the {len(rows)} blocks")
    found: list[Stage] = []
    start = 0
    for depth in depths:
        part = rows[start : start + depth]
        if any(width != part[0][1] or stride != 1 for _, width, stride in part[1:]):
            raise fields.wrong("stages", "only the first block of a stage may change width or resolution")
        found.append(_stage(part))
        start += depth
    return tuple(found)


def depths_of(arch: Architecture) -> list[int]:
    """What `staged` reads: adjacent stages of equal width would else be taken for one."""
    return [len(stage.blocks) for stage in arch.stages]


def named(names: Mapping[Activation, str]) -> dict[str, Activation]:
    """The inverse of a table of activation names."""
    return {theirs: ours for ours, theirs in names.items()}
