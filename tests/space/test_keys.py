"""The walk from an architecture to its measurable units, and their names."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from space.arch import Architecture, Block
from space.errors import InvalidTable
from space.keys import BlockKey, HeadKey, StageBlockKey, StemKey, keys_of, named_keys, out_shape, parse_key
from space.networks.modules import Unit, build_model
from space.reference import mobilenet_v3_large, mobilenet_v3_small, mobilenet_v3_small_32px
from tests.strategies import architectures, block_keys, default_space, small_space


def blocks_of(arch: Architecture) -> list[StageBlockKey]:
    """The inverted residuals in order."""
    return [key for key in keys_of(arch) if isinstance(key, StageBlockKey)]


def test_feature_maps_of_the_32_px_variant() -> None:
    """For 32-px images the stem and first stage keep the resolution: 32→32→16→8→8→4 over eleven blocks."""
    arch = mobilenet_v3_small_32px()
    keys = named_keys(arch)
    assert len(blocks_of(arch)) == 11
    assert out_shape(keys["stem"]) == (16, 32, 32)
    stages = [f"stage{number}_block{len(stage.blocks)}" for number, stage in enumerate(arch.stages, start=1)]
    assert [out_shape(keys[name])[1] for name in stages] == [32, 16, 8, 8, 4]
    assert keys["head"].resolution == 4
    assert out_shape(keys["head"]) == (10,)


def test_feature_maps_of_the_published_networks() -> None:
    """At 224 px the paper's tables 1 and 2 give 15 and 11 blocks, and 7×7 maps before the head."""
    assert [key.resolution for key in blocks_of(mobilenet_v3_large())] == [112] * 2 + [56] * 2 + [28] * 3 + [14] * 6 + [
        7,
        7,
    ]
    assert [key.resolution for key in blocks_of(mobilenet_v3_small())] == [112, 56, 28, 28, *[14] * 5, 7, 7]
    assert keys_of(mobilenet_v3_large())[-1].resolution == keys_of(mobilenet_v3_small())[-1].resolution == 7


def test_squeeze_widths_of_the_published_network() -> None:
    """V3-Large squeezes 72, 120, 480, 672 and 960 channels to torchvision's 24, 32, 120, 168 and 240."""
    found = {
        key.depthwise_channels: key.squeeze_channels for key in blocks_of(mobilenet_v3_large()) if key.block.use_se
    }
    assert found == {72: 24, 120: 32, 480: 120, 672: 168, 960: 240}


def test_residuals_of_the_published_networks() -> None:
    """Blocks of stride 1 between equal widths add their input: 10 of V3-Large's 15 blocks, 6 of V3-Small's 11."""
    assert sum(key.has_residual for key in blocks_of(mobilenet_v3_large())) == 10
    assert sum(key.has_residual for key in blocks_of(mobilenet_v3_small())) == 6


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "stride", "expected"),
    [(16, 16, 1, True), (16, 16, 2, False), (16, 24, 1, False), (16, 24, 2, False)],
)
def test_residual_rule(in_channels: int, out_channels: int, stride: int, expected: bool) -> None:
    """MobileNetV2 adds input and output only where stride is 1 and the widths agree."""
    block = Block(kernel_size=3, expanded_channels=None, use_se=False, activation="relu")
    key = StageBlockKey(resolution=8, in_channels=in_channels, out_channels=out_channels, stride=stride, block=block)
    assert key.has_residual is expected


@settings(max_examples=40)
@given(architectures(widest=24, largest=40))
def test_shapes_are_those_of_the_modules(arch: Architecture) -> None:
    """Every unit's declared output shape is what its torch module puts out, and the next unit's input."""
    with torch.device("meta"):
        model = build_model(arch).eval()
        x = torch.empty(1, arch.in_channels, arch.resolution, arch.resolution)
    keys = named_keys(arch)
    assert [name for name, _ in model.named_children()] == list(keys)
    for (name, module), key in zip(model.named_children(), keys.values(), strict=True):
        assert isinstance(module, Unit)
        assert tuple(x.shape[1:]) == (key.in_channels, key.resolution, key.resolution), name
        x = module(x)
        assert tuple(x.shape[1:]) == out_shape(key), name


def test_reachable_keys_survive_their_names() -> None:
    """Every block of the shipped space can be told from its name alone, and no two share one."""
    keys = default_space().reachable_keys()
    assert all(parse_key(str(key)) == key for key in keys)
    assert len({str(key) for key in keys}) == len(keys) > 500


@given(block_keys())
def test_any_key_survives_its_name(key: BlockKey) -> None:
    """parse_key is the inverse of str."""
    assert parse_key(str(key)) == key


def test_names_are_stable() -> None:
    """The names are the keys of stored tables: they may not change without a new table version."""
    keys = keys_of(mobilenet_v3_small_32px(in_channels=1))
    assert str(keys[0]) == "stem 3x3 s1 1→16 hswish @32"
    assert str(keys[1]) == "separable 3x3 s1 16→16 se relu @32"
    assert str(keys[2]) == "inverted 3x3 s2 16→72→24 relu @32"
    assert str(keys[-1]) == "head 96→576→1024→10 hswish @4"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "stem",
        "stem 3x3 s1 1→16 hswish @32 ",
        "stem 3x3 s1 1→16 hswish @32\n",
        " stem 3x3 s1 1→16 hswish @32",
        "stem 5x5 s1 1→16 hswish @32",
        "stem 3x3 s3 1→16 hswish @32",
        "stem 3x3 s1 0→16 hswish @32",
        "stem 3x3 s1 01→16 hswish @32",
        "stem 3x3 s1 ٣→16 hswish @32",
        "stem 3x3 s1 -1→16 hswish @32",
        "stem 3x3 s1 1->16 hswish @32",
        "stem 3x3 s1 1→16 gelu @32",
        "stem 3x3 s1 1→16 hswish @9999999",
        "inverted 3x3 s1 16→16 relu @32",
        "separable 3x3 s1 16→16→16 relu @32",
        "inverted 3x5 s1 16→16→16 relu @32",
        "inverted 9x9 s1 16→16→16 relu @32",
        "inverted 3x3 s1 16→16→16→16 relu @32",
        "inverted 3x3 s1 16→16→16 se  relu @32",
        "head 1→2→3 relu @4",
        "head 1→2→3→4→5 relu @4",
        "x" * 10_000,
    ],
)
def test_garbage_is_no_key(text: str) -> None:
    """A text that differs from a key's name in anything is refused, and the message stays short."""
    with pytest.raises(InvalidTable, match="collect the table again") as caught:
        parse_key(text)
    assert len(str(caught.value)) < 200


@given(
    st.text(max_size=60) | block_keys().map(str).flatmap(lambda name: st.sampled_from((name[1:], name[:-1], name * 2)))
)
def test_arbitrary_texts_parse_or_are_refused(text: str) -> None:
    """What parses has that very name; anything else raises InvalidTable."""
    try:
        key = parse_key(text)
    except InvalidTable:
        return
    assert str(key) == text


def test_a_width_above_the_cap_is_an_invalid_table() -> None:
    """A key whose expansion exceeds 8,192 channels is refused as every other bad key is."""
    with pytest.raises(InvalidTable):
        parse_key("inverted 3x3 s1 16→9000→16 relu @32")


def test_equal_units_are_counted_as_often_as_they_occur() -> None:
    """V3-Large repeats 40→120→40, 80→184→80 and 160→960→160 once each: 17 units, 14 keys."""
    keys = keys_of(mobilenet_v3_large())
    assert len(keys) == 17
    assert len(set(keys)) == 14


def test_kinds_of_keys() -> None:
    """A network is one stem, inverted residuals, one head."""
    for arch in (mobilenet_v3_large(), small_space().reference):
        kinds = [type(key) for key in keys_of(arch)]
        assert kinds == [StemKey, *[StageBlockKey] * (len(kinds) - 2), HeadKey]
