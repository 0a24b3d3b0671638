"""YAML as a person writes it: values, lists and mappings, nothing that a hostile file could make large or run."""

import json
import re
from collections import Counter
from collections.abc import Hashable
from typing import Any, TypeVar

from yaml import MappingNode, MarkedYAMLError, SafeLoader, ScalarNode, YAMLError
from yaml.events import AliasEvent
from yaml.nodes import Node

MAX_YAML_BYTES = 100_000
MAX_DEPTH = 20


SWITCHES = {"yes": True, "on": True, "no": False, "off": False}
"""Words that are text in YAML 1.2 and switches to people, in lower case; see `as_meant`."""


def as_meant(value: Any, *, text: bool = False, switch: bool = False) -> Any:  # noqa: ANN401 - whatever a file holds
    """A value of a YAML file where a text or a switch is wanted: a name may be 2024, and a switch may be "on"."""
    if text and type(value) is int:
        return str(value)
    if switch and isinstance(value, str):
        return SWITCHES.get(value.lower(), value)
    return value


_Kind = TypeVar("_Kind")


class NotValid(Exception):
    """A field of what a file holds is missing, unknown or wrong."""


class NotPlainYaml(ValueError):
    """The text is not YAML, or uses more of YAML than plain values."""


_AMBIGUOUS = "tag:mobilenas,ambiguous"


class _Ambiguous(MarkedYAMLError):
    """Its problem is told without the value where that may be a password."""

    def __str__(self) -> str:
        return self.note or ""


class _PlainLoader(SafeLoader):
    """Scalars as YAML 1.2 has them (core schema, 10.3.2), and none that YAML 1.1 took for another number.

    Without aliases, which grow exponentially, without repeated keys, of which the first would be lost, not deep.
    """

    depth = 0

    def construct_ambiguous(self, node: ScalarNode) -> None:
        """Refuse what was another number for many years, or is one in other programs."""
        problem = "a number is not the same to everybody; put it into quotes where it is a text"
        told = (
            f"{node.value} in line {node.start_mark.line + 1} is not the same number to everybody; write it in plain "
            f"decimal digits, or in quotes where it is a text: '{node.value}'"
        )
        raise _Ambiguous(problem=problem, problem_mark=node.start_mark, note=told)

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:  # noqa: ANN401 - PyYAML's interface
        if self.check_event(AliasEvent):
            raise YAMLError("aliases (*name) are not accepted")
        if getattr(self.peek_event(), "tag", None) is not None:  # type: ignore[no-untyped-call]
            raise YAMLError("tags (!!name) are not accepted")
        if self.depth >= MAX_DEPTH:
            raise YAMLError(f"more than {MAX_DEPTH} levels are not accepted")
        self.depth += 1
        node: Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, ScalarNode))
        twice = {key for key, count in keys.items() if count > 1}
        if twice:
            raise YAMLError(f"key {min(twice)!r} is given twice")
        return super().construct_mapping(node, deep)


_PlainLoader.yaml_implicit_resolvers = {}  # not those of YAML 1.1
for _tag, _pattern in (
    ("tag:yaml.org,2002:null", r"|~|null|Null|NULL"),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE"),
    # Octal 010 and 0o10, sexagesimal 1:30 and 1_000.
    (_AMBIGUOUS, r"[-+]?0[0-9_]+|0o[0-7]+|[-+]?[0-9][0-9_]*((:[0-5]?[0-9])+|_[0-9_]+)(\.[0-9_]*)?"),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN",
    ),
):
    _PlainLoader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), None)
_PlainLoader.add_constructor(_AMBIGUOUS, _PlainLoader.construct_ambiguous)


def read_plain_yaml(text: str | bytes) -> Any:  # noqa: ANN401 - whatever the file holds
    """The content of a YAML document.

    Raises:
        NotPlainYaml: it is too large, not UTF-8, not YAML, or uses aliases, tags or deep nesting.
    """
    if len(text) > MAX_YAML_BYTES:
        raise NotPlainYaml(f"it has {len(text)} bytes; at most {MAX_YAML_BYTES} are accepted")
    try:
        loader = _PlainLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (YAMLError, ValueError, RecursionError) as error:  # ValueError: impossible dates, endless integers
        raise NotPlainYaml(" ".join(str(error).split())) from error


def validated(kind: type[_Kind], content: Any) -> _Kind:  # noqa: ANN401 - whatever the file holds
    """Plain values as a dataclass that pydantic checks.

    Raises:
        NotValid: a field is missing, unknown or wrong; the message begins with its name.
        NotPlainYaml: the values are no plain ones.
    """
    from pydantic import TypeAdapter, ValidationError  # takes a while, which readers of specs need not pay

    try:
        # By way of JSON, since strict validation takes a list for a tuple, and an integer for a float, only there.
        return TypeAdapter(kind).validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        words = (".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, "))
        raise NotValid(": ".join(filter(None, words))) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise NotPlainYaml(str(error)) from error
