"""Specs gone wrong: any JSON document with something changed in it."""

import json
from typing import Any

from hypothesis import strategies as st

Path = tuple[str | int, ...]

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from((1, 2, 3, 5, 7, 8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def leaves(content: Any, path: Path = ()) -> list[Path]:  # noqa: ANN401 - JSON
    """The path of every field of every object in a JSON value."""
    if isinstance(content, dict):
        return [(*path, key) for key in content] + [p for key in content for p in leaves(content[key], (*path, key))]
    if isinstance(content, list):
        return [p for index, value in enumerate(content) for p in leaves(value, (*path, index))]
    return []


def with_value(content: Any, path: Path, value: object) -> Any:  # noqa: ANN401 - JSON
    """The same content, changed in place: the field at `path` has another value."""
    found = content
    for part in path[:-1]:
        found = found[part]
    found[path[-1]] = value
    return content


def mutated(text: str, data: st.DataObject) -> str:
    """A document with a field replaced, removed or added, or a stretch of its text overwritten."""
    if data.draw(st.booleans()):
        start = data.draw(st.integers(0, len(text)))
        stop = data.draw(st.integers(start, min(len(text), start + 10)))
        return text[:start] + data.draw(st.text('0123456789.eE-{}[]",:truefalsn_ \\', max_size=10)) + text[stop:]
    content: Any = json.loads(text)
    path = data.draw(st.sampled_from(leaves(content)))
    found = content
    for part in path[:-1]:
        found = found[part]
    match data.draw(st.sampled_from(("replace", "remove", "add"))):
        case "replace":
            found[path[-1]] = data.draw(JSON_VALUES)
        case "remove":
            del found[path[-1]]
        case _:
            found[data.draw(st.text(max_size=8))] = data.draw(JSON_VALUES)
    return json.dumps(content)
