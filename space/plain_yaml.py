"""YAML as a person writes it: values, lists and mappings, nothing that a hostile file could make large or run."""

from collections.abc import Hashable
from typing import Any

from yaml import MappingNode, SafeLoader, ScalarNode, YAMLError
from yaml.events import AliasEvent
from yaml.nodes import Node

MAX_YAML_BYTES = 100_000
MAX_DEPTH = 20


class NotPlainYaml(ValueError):
    """The text is not YAML, or uses more of YAML than plain values."""


class _PlainLoader(SafeLoader):
    """Without aliases, which grow exponentially, without repeated keys, of which the first would be lost, not deep."""

    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:  # noqa: ANN401 - PyYAML's interface
        if self.check_event(AliasEvent):
            raise YAMLError("aliases (*name) are not accepted")
        if self.depth >= MAX_DEPTH:
            raise YAMLError(f"more than {MAX_DEPTH} levels are not accepted")
        self.depth += 1
        node: Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, ScalarNode)]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise YAMLError(f"key {min(twice)!r} is given twice")
        return super().construct_mapping(node, deep)


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
