"""YAML as people write it: scalars of YAML 1.2, and none that is another number to other programs."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from space.plain_yaml import NotPlainYaml, as_meant, read_plain_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("2E5", 2e5),
        ("-1.5e+3", -1500.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("12", 12),
        ("-7", -7),
        ("+7", 7),
        ("0", 0),
        ("0x1F", 31),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("~", None),
        ("null", None),
        ("", None),
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("y", "y"),
        ("2024-05-01", "2024-05-01"),
        ("12:30:45.5.6", "12:30:45.5.6"),
        ("80%", "80%"),
        ("2,5", "2,5"),
        ("1.2.3", "1.2.3"),
        ("0b11", "0b11"),
        ("1e", "1e"),
        ("=", "="),
        ("'010'", "010"),
        ('"1:30"', "1:30"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    """The core schema of YAML 1.2.2, 10.3.2; quoted scalars are text."""
    found = read_plain_yaml(f"key: {text}")["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["010", "-07", "0o10", "1:30", "190:20:30", "1:30.5", "1_000", "0_1", "1_0.5"])
def test_numbers_that_are_not_the_same_to_everybody_are_refused(text: str) -> None:
    """Octal, sexagesimal and grouped digits: the message has the line, the scalar and both ways to mean it."""
    with pytest.raises(NotPlainYaml, match=rf"{text} in line 2 is not the same number.*in quotes.*\'{text}\'"):
        read_plain_yaml(f"a: 1\nkey: {text}\n")
    with pytest.raises(NotPlainYaml, match=text):
        read_plain_yaml(f"[{text}]")


@pytest.mark.parametrize(
    "text", ['!!int ""', "!!timestamp abc", "!!bool abc", "!!binary YQ==", "!!set {a}", "!mine x", "! x"]
)
def test_tags_are_refused(text: str) -> None:
    """A file holds values; what type they are is for us to say."""
    with pytest.raises(NotPlainYaml, match="tags"):
        read_plain_yaml(f"key: {text}")


def test_words_are_taken_as_they_are_meant() -> None:
    """A switch may be "on", a name may be 2024 or "no"."""
    assert [as_meant(word, switch=True) for word in ("yes", "NO", "on", "Off", "maybe", 1)] == [
        *(True, False, True, False, "maybe", 1)
    ]
    assert [as_meant(word, text=True) for word in ("no", 2024, 1.5, True)] == ["no", "2024", 1.5, True]


@given(st.text(max_size=30))
def test_any_scalar_is_a_plain_value_or_refused_in_one_line(text: str) -> None:
    """Whatever stands behind a key, nobody meets a traceback or an object."""
    found: Any = None
    told = "one line"
    try:
        found = read_plain_yaml(f"key: {text}")
    except NotPlainYaml as error:
        told = str(error)
    assert len(told.splitlines()) == 1
    assert found is None or isinstance(found, dict)


@given(st.floats(allow_nan=False) | st.integers())
def test_numbers_read_back(number: float) -> None:
    """What Python writes is read as the same number."""
    text = repr(number).replace("inf", ".inf")
    assert read_plain_yaml(f"key: {text}")["key"] == number
