"""Architectures as values: canonical JSON, identity, and what a spec from outside may not hold."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from space.arch import (
    MAX_BLOCKS_PER_STAGE,
    MAX_CHANNELS,
    MAX_RESOLUTION,
    MAX_SPEC_BYTES,
    MAX_STAGES,
    Architecture,
    Block,
    Head,
    Stage,
    Stem,
    json_schema,
    make_divisible,
)
from space.errors import InvalidArchitecture, MobilenasError
from space.reference import REFERENCES, mobilenet_v3_small_32px
from tests.mutations import JSON_VALUES, Path, leaves, mutated, with_value
from tests.strategies import architectures

SMALL = mobilenet_v3_small_32px(width=0.5, in_channels=1)


def spec() -> dict[str, Any]:
    """The reference's spec as plain data."""
    content: dict[str, Any] = json.loads(SMALL.to_json())
    return content


def changed(path: Path, value: object) -> str:
    """The reference's spec with one value set."""
    return json.dumps(with_value(spec(), path, value))


@given(architectures())
def test_json_round_trip(arch: Architecture) -> None:
    """Reading the canonical JSON gives an equal architecture with the same id and the same bytes."""
    again = Architecture.from_json(arch.to_json())
    assert again == arch
    assert again.to_json() == arch.to_json()
    assert again.arch_id == arch.arch_id
    assert Architecture.from_json(arch.to_json().encode()) == arch


@given(architectures())
def test_json_is_canonical(arch: Architecture) -> None:
    """A spec with its keys in another order and white space between them reads back to the same id."""
    content = json.loads(arch.to_json())
    untidy = json.dumps(dict(reversed(content.items())), indent=3)
    assert Architecture.from_json(untidy).arch_id == arch.arch_id
    assert arch.to_json() == json.dumps(content, sort_keys=True, separators=(",", ":"))


def test_arch_id_is_stable() -> None:
    """The id is part of every record and export: it may never change without a new schema version."""
    assert SMALL.arch_id == "5ef9f385e600f181"


def test_newer_fields_are_in_the_json_where_they_are_not_as_before() -> None:
    """A network of Once-for-All's kind says its epsilon and its missing bias; every other one has the spec it had."""
    once_for_all = replace(SMALL, head=replace(SMALL.head, hidden_bias=False), batch_norm_epsilon=1e-5)
    assert json.loads(once_for_all.to_json()) == {
        **spec(),
        "head": {**spec()["head"], "hidden_bias": False},
        "batch_norm_epsilon": 1e-5,
    }
    assert Architecture.from_json(changed(("batch_norm_epsilon",), 0.001)).arch_id == SMALL.arch_id


def test_a_bias_belongs_to_a_hidden_layer() -> None:
    """A head without hidden layer does not say that it has no bias."""
    with pytest.raises(InvalidArchitecture, match="hidden_bias belongs to heads with hidden_channels; leave it out"):
        Head(conv_channels=96, hidden_channels=None, activation="hswish", hidden_bias=False)


@given(architectures(), architectures())
def test_arch_id_is_the_content(first: Architecture, second: Architecture) -> None:
    """Ids are equal exactly where architectures are."""
    assert (first.arch_id == second.arch_id) == (first == second)
    assert replace(first, num_classes=first.num_classes + 1).arch_id != first.arch_id
    assert replace(first).arch_id == first.arch_id


@pytest.mark.parametrize("name", REFERENCES)
def test_references_round_trip(name: str) -> None:
    """Every published network is a spec that can be written and read."""
    arch = REFERENCES[name]()
    assert Architecture.from_json(arch.to_json()) == arch


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("surplus",), 1, "surplus: "),
        (("stem", "bias"), True, r"stem\.bias: "),
        (("stages", 0, "blocks", 0, "groups"), 2, r"stages\.0\.blocks\.0\.groups: "),
        (("resolution",), "32", "resolution: .*integer"),
        (("resolution",), 32.0, "resolution: .*integer"),
        (("resolution",), True, "resolution: .*integer"),
        (("resolution",), None, "resolution: .*integer"),
        (("resolution",), float("nan"), "resolution: .*integer"),
        (("stages",), {}, "stages: "),
        (("head",), [], "head: "),
        (("stages", 1, "blocks", 0, "use_se"), 1, r"stages\.1\.blocks\.0\.use_se: "),
        (("stages", 1, "blocks", 0, "kernel_size"), 4, r"stages\.1\.blocks\.0\.kernel_size: "),
        (("stages", 1, "blocks", 0, "activation"), "gelu", r"stages\.1\.blocks\.0\.activation: "),
        (("stages", 1, "stride"), 3, r"stages\.1\.stride: "),
        (("stages", 1, "blocks"), [], r"stages\.1: a stage needs at least one block"),
        (("stages", 1, "blocks", 0, "expanded_channels"), 0, "expanded_channels is 0"),
        (("stages", 2, "out_channels"), MAX_CHANNELS + 1, "out_channels is 8193; it must lie between 1 and 8192"),
        (("stem", "out_channels"), -8, "stem out_channels is -8"),
        (("head", "hidden_channels"), 10**30, "hidden_channels"),
        (("resolution",), MAX_RESOLUTION + 1, "resolution is 2049"),
        (("resolution",), 7, "resolution is 7"),
        (("in_channels",), 17, "in_channels is 17"),
        (("num_classes",), 1, "num_classes is 1"),
        (("batch_norm_epsilon",), 0.5, "batch_norm_epsilon is 0.5; it must lie between 1e-08 and 0.1"),
        (("batch_norm_epsilon",), "1e-5", "batch_norm_epsilon: .*number"),
        (("head", "hidden_bias"), 0, r"head\.hidden_bias: .*boolean"),
        (("stages",), [], "number of stages is 0"),
        (("version",), 2, "version 2; this mobilenas reads version 1"),
        (("version",), None, "version None"),
    ],
)
def test_wrong_fields_are_named(path: Path, value: object, message: str) -> None:
    """An unknown field, a wrong type or a value outside its caps is refused by name and in one line."""
    with pytest.raises(InvalidArchitecture, match=message) as caught:
        Architecture.from_json(changed(path, value))
    assert "\n" not in str(caught.value)


def test_every_field_is_required() -> None:
    """Whichever field is missing, the spec is refused and the field named."""
    for path in leaves(spec()):
        content: Any = spec()
        found = content
        for part in path[:-1]:
            found = found[part]
        del found[path[-1]]
        with pytest.raises(InvalidArchitecture, match=str(path[-1])):
            Architecture.from_json(json.dumps(content))


def test_counts_are_capped() -> None:
    """16 stages of 32 blocks are accepted, one more of either is not."""
    block = Block(kernel_size=3, expanded_channels=8, use_se=False, activation="relu")
    full = Stage(out_channels=8, stride=1, blocks=(block,) * MAX_BLOCKS_PER_STAGE)
    arch = replace(SMALL, stages=(full,) * MAX_STAGES)
    assert Architecture.from_json(arch.to_json()) == arch
    with pytest.raises(InvalidArchitecture, match="number of stages is 17"):
        replace(SMALL, stages=(full,) * (MAX_STAGES + 1))
    with pytest.raises(InvalidArchitecture, match="number of blocks in a stage is 33"):
        replace(full, blocks=(block,) * (MAX_BLOCKS_PER_STAGE + 1))


def test_values_made_in_python_are_checked_too() -> None:
    """The constructors hold the same rules as the reader of specs."""
    makers: list[tuple[str, Callable[[], object]]] = [
        ("kernel_size is 2", lambda: replace(SMALL.stages[0].blocks[0], kernel_size=2)),  # type: ignore[arg-type]
        ("activation is 'swish'", lambda: replace(SMALL.stages[0].blocks[0], activation="swish")),  # type: ignore[arg-type]
        ("stem stride is 0", lambda: Stem(out_channels=8, stride=0, activation="relu")),  # type: ignore[arg-type]
        ("stem activation", lambda: Stem(out_channels=8, stride=1, activation="tanh")),  # type: ignore[arg-type]
        ("head activation", lambda: Head(conv_channels=8, hidden_channels=8, activation="tanh")),  # type: ignore[arg-type]
    ]
    for message, make in makers:
        with pytest.raises(InvalidArchitecture, match=message):
            make()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        ("[]", "must be a JSON object, got list"),
        ("null", "must be a JSON object, got NoneType"),
        ("{}", "version None"),
        ('{"version":1}', "resolution: "),
        ('{"version":1,"resolution":' + "9" * 5000 + "}", "not JSON"),
        ('{"version":1,"\\ud800":1}', "spec: "),
        ("[" * 100_000 + "]" * 100_000, "not JSON"),
        ('{"version":1,"a":' + "[" * 600 + "]" * 600 + "}", "recursion"),
        (" " * (MAX_SPEC_BYTES + 1), "1000001 bytes; at most 1000000"),
    ],
)
def test_texts_that_are_no_spec(text: str | bytes, message: str) -> None:
    """Broken, foreign, huge and deeply nested texts are refused without a traceback."""
    with pytest.raises(InvalidArchitecture, match=message) as caught:
        Architecture.from_json(text)
    assert isinstance(caught.value, MobilenasError)


@settings(max_examples=500)
@given(architectures(deepest=2), st.data())
def test_mutated_specs_load_or_are_refused(arch: Architecture, data: st.DataObject) -> None:
    """A spec with something changed in it is a valid architecture or an InvalidArchitecture."""
    check_loads_or_is_refused(mutated(arch.to_json(), data))


def check_loads_or_is_refused(text: str) -> None:
    """Nothing but InvalidArchitecture comes out, and what loads is sound."""
    try:
        arch = Architecture.from_json(text)
    except InvalidArchitecture as error:
        assert str(error)  # noqa: PT017 - both outcomes are right
    else:
        assert Architecture.from_json(arch.to_json()) == arch


SCHEMA = json.loads((FilePath(__file__).parents[2] / "docs" / "architecture.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)


def test_the_published_schema_is_up_to_date() -> None:
    """docs/architecture.schema.json is what `mobilenas arch schema` prints, and is itself valid."""
    assert json_schema() == SCHEMA
    Draft202012Validator.check_schema(SCHEMA)


@settings(max_examples=50, deadline=None)
@given(architectures())
def test_specs_follow_the_schema(arch: Architecture) -> None:
    """What we write is valid by the published schema, by another reader of schemas."""
    VALIDATOR.validate(json.loads(arch.to_json()))


@settings(max_examples=300, deadline=None)
@given(architectures(deepest=2), st.data())
def test_the_schema_refuses_no_spec_that_loads(arch: Architecture, data: st.DataObject) -> None:
    """A mutated spec that loads is valid by the schema; the schema knows all rules but those between fields."""
    content = json.loads(arch.to_json())
    path = data.draw(st.sampled_from(leaves(content)))
    value = data.draw(JSON_VALUES | st.integers(-2, 10_000))
    assume(not (isinstance(value, float) and value.is_integer()))  # to JSON Schema 1.0 is an integer, to us it is none
    with_value(content, path, value)
    try:
        Architecture.from_json(json.dumps(content))
    except InvalidArchitecture as error:
        between = ("leave them out", "leave it out", "uses none")
        assert any(words in str(error) for words in between) or not VALIDATOR.is_valid(content)  # noqa: PT017
    else:
        VALIDATOR.validate(content)


@pytest.mark.parametrize("path", [("stem", "stride"), ("stages", 0, "stride"), ("num_classes",)])
def test_true_is_no_number(path: tuple[str | int, ...]) -> None:
    """As the schema has it, though it equals 1 in Python."""
    content = json.loads(REFERENCES["mobilenet_v3_large"]().to_json())
    with_value(content, path, value=True)
    assert not VALIDATOR.is_valid(content)
    with pytest.raises(InvalidArchitecture, match=rf"{path[-1]}: (true is no number|.*integer)"):
        Architecture.from_json(json.dumps(content))


def test_defaults_are_not_written() -> None:
    """A spec from before blocks had kinds, squeezes and gates keeps text and id; explicit defaults are dropped."""
    arch = REFERENCES["mobilenet_v3_large"]()
    assert arch.arch_id == "fa0df18aa9ce08dd"
    assert not {"kind", "squeeze_channels", "gate"} & {path[-1] for path in leaves(json.loads(arch.to_json()))}
    content = json.loads(arch.to_json())
    for stage in content["stages"]:
        for block in stage["blocks"]:
            block |= {"kind": "inverted_residual", "squeeze_channels": None, "gate": "hard_sigmoid"}
    assert Architecture.from_json(json.dumps(content)) == arch
    assert Architecture.from_json(json.dumps(content)).to_json() == arch.to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "conv", "use_se": False}, "a conv block has neither expanded_channels nor use_se"),
        ({"kind": "depthwise_separable", "expanded_channels": None}, "a depthwise_separable block has neither"),
        ({"use_se": False, "squeeze_channels": 8}, "squeeze_channels and gate belong to blocks with use_se"),
        ({"use_se": False, "gate": "sigmoid"}, "squeeze_channels and gate belong to blocks with use_se"),
        ({"gate": "tanh"}, "gate is 'tanh'"),
        ({"kind": "fused"}, "kind is 'fused'"),
        ({"squeeze_channels": 0}, "squeeze_channels is 0"),
    ],
)
def test_fields_that_exclude_each_other(change: dict[str, Any], message: str) -> None:
    """A block says nothing that its kind does not have."""
    block = Block(kernel_size=3, expanded_channels=16, use_se=True, activation="relu")
    with pytest.raises(InvalidArchitecture, match=message):
        replace(block, **change)


def test_a_bare_head_has_no_activation() -> None:
    """Where the classifier stands alone, an activation would only make a second id for the same network."""
    with pytest.raises(InvalidArchitecture, match="uses none: write relu"):
        Head(conv_channels=None, hidden_channels=None, activation="hswish")


@given(st.floats(0.01, 20_000), st.sampled_from((1, 4, 8, 16)))
def test_make_divisible_properties(channels: float, divisor: int) -> None:
    """The result is a positive multiple of the divisor, at least 90 % of the width, and at most one divisor above."""
    width = make_divisible(channels, divisor)
    assert width % divisor == 0
    assert width >= divisor
    assert width >= 0.9 * channels
    assert width <= max(divisor, channels + divisor)


@given(st.integers(1, 1024))
def test_make_divisible_keeps_multiples(count: int) -> None:
    """A width that is a multiple of 8 already stays."""
    assert make_divisible(8 * count) == 8 * count


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (72 / 4, 24),  # 16 would be less than 90 % of 18; torchvision squeezes V3-Large's 72 channels to 24
        (88 / 4, 24),  # V3-Small's 88 channels likewise
        (120 / 4, 32),
        (200 / 4, 48),
        (16 * 0.75, 16),  # ties go up: MobileNetV2 at 0.75 keeps a stem of 24 and blocks of 16
        (32 * 0.75, 24),
        (32 * 0.35, 16),  # MobileNetV2 at 0.35 has a stem of 16
        (96 * 0.35, 32),
        (160 * 0.35, 56),
        (16 * 0.35, 8),
        (1, 8),
    ],
)
def test_make_divisible_examples(channels: float, expected: int) -> None:
    """Widths of the published networks come out as torchvision and the TensorFlow models have them."""
    assert make_divisible(channels) == expected
