"""Search spaces: members, reachable blocks, and files that are no space."""

import random
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from space.arch import Architecture, Block, Stage
from space.choices import SearchSpace
from space.encoding import Encoding
from space.errors import InvalidSpace
from space.keys import keys_of, named_keys
from space.plain_yaml import MAX_YAML_BYTES
from space.preset import BlockStyle, load_preset, preset_names
from space.reference import mobilenet_v3_small_32px
from tests.strategies import default_space, free_space, members, small_space


def shipped(name: str = "mobilenet-v3-small-32px") -> dict[str, Any]:
    """A shipped preset as plain data."""
    content: dict[str, Any] = yaml.safe_load(files("space").joinpath("presets", f"{name}.yaml").read_text())
    return content


def load(text: str | bytes, folder: Path) -> object:
    """A space from the content of a YAML file."""
    path = folder / "space.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_preset(str(path))


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_loads(name: str) -> None:
    """A shipped preset carries its file's name, and its members can be built."""
    preset = load_preset(name)
    assert preset.name == name
    space = SearchSpace(preset=preset, width=1.0, resolution=32, in_channels=3, num_classes=10)
    assert space.sample(random.Random(0)) in space


def test_the_default_space_surrounds_its_reference() -> None:
    """The 32-px preset has the stem, strides and head of V3-Small for 32-px images, so their shared keys agree."""
    space = default_space()
    reference = mobilenet_v3_small_32px()
    assert space.reference == reference
    assert (space.stem, space.head) == (reference.stem, reference.head)
    assert space.stage_resolutions == (32, 32, 16, 8, 8, 4)
    found = [named_keys(space.sample(random.Random(seed)))["stem"] for seed in range(3)]
    assert set(found) == {named_keys(reference)["stem"]}


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from((0.25, 0.5, 0.75, 1.0)))
def test_samples_are_members(seed: int, width: float) -> None:
    """A sampled network is in the space, its parameters lead back to it, and each is one of the offered choices."""
    space = default_space(width=width)
    arch = space.sample(random.Random(seed))
    params = space.params_of(arch)
    assert params is not None
    assert space.architecture(params) == arch
    assert all(params[name] in choices for name, choices in space.parameters.items())
    assert arch in space


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_samples_are_made_of_reachable_keys(seed: int) -> None:
    """No member of the shipped space needs a block outside reachable_keys."""
    space = DEFAULT
    assert set(keys_of(space.sample(random.Random(seed)))) <= REACHABLE


DEFAULT = default_space()
REACHABLE = set(DEFAULT.reachable_keys())


SPACES = pytest.mark.parametrize("space", [small_space(), free_space()], ids=["alike", "free"])


@SPACES
def test_reachable_keys_are_exact(space: SearchSpace) -> None:
    """On a small space reachable_keys are the blocks of all members and of the reference, once each."""
    expected = set(keys_of(space.reference)).union(*map(keys_of, members(space)))
    found = space.reachable_keys()
    assert set(found) == expected
    assert len(found) == len(expected)


@SPACES
def test_size_is_the_number_of_members(space: SearchSpace) -> None:
    """The size is that of the set of networks that all combinations of choices make, equal ones counted once."""
    found = set(members(space))
    assert space.size == len(found)
    assert all(arch in space for arch in found)


def test_sizes_by_hand() -> None:
    """256 combinations that are all different; 1,728 of which only 272 are."""
    assert (small_space().size, free_space().size) == (256, 272)
    assert len(list(members(free_space()))) == 1728


@SPACES
def test_sampling_is_uniform(space: SearchSpace) -> None:
    """Every member is drawn equally often, though some are made by more choices than others (chi-square, 0.1 %)."""
    drawn = Counter(space.sample(random.Random(seed)) for seed in range(40 * space.size))
    assert set(drawn) == set(members(space))
    assert chisquare(list(drawn.values())).pvalue > 0.001


@SPACES
@pytest.mark.parametrize("number", [1, 2])
def test_stage_options_are_all_forms_of_a_stage(space: SearchSpace, number: int) -> None:
    """stage_options between two widths are the stages that members have there, and stage_forms counts them."""
    for width in space.widths_before(number):
        for out in space.widths_before(number + 1):
            expected = {
                arch.stages[number - 1]
                for arch in members(space)
                if arch.stages[number - 1].out_channels == out
                and (arch.stages[number - 2].out_channels if number > 1 else arch.stem.out_channels) == width
            }
            assert set(space.stage_options(number, width, out)) == expected
            assert space.stage_forms(number, width, out) == len(expected)


@SPACES
def test_parameters_lead_to_a_member_and_back(space: SearchSpace) -> None:
    """Every member has flat parameters that are choices and make it again."""
    for arch in set(members(space)):
        params = space.params_of(arch)
        assert params is not None
        assert list(params) == list(space.parameters)
        assert all(params[name] in choices for name, choices in space.parameters.items())
        assert space.architecture(params) == arch


def test_strangers_are_no_members() -> None:
    """A change of kernel, width, depth, stride, stem, head, classes or resolution leads out of the space."""
    space = small_space()
    arch = space.sample(random.Random(1))
    first = arch.stages[0]
    odd = replace(first.blocks[0], kernel_size=7)
    strangers = [
        replace(arch, stages=(replace(first, blocks=(odd, *first.blocks[1:])), *arch.stages[1:])),
        replace(arch, stages=(replace(first, blocks=(*first.blocks, odd)), *arch.stages[1:])),
        replace(arch, stages=(replace(first, blocks=first.blocks * 3), *arch.stages[1:])),
        replace(arch, stages=(replace(first, out_channels=24), *arch.stages[1:])),
        replace(arch, stages=(replace(first, stride=1), *arch.stages[1:])),
        replace(arch, stages=arch.stages[:1]),
        replace(arch, stages=(*arch.stages, arch.stages[1])),
        replace(arch, stem=replace(arch.stem, activation="relu")),
        replace(arch, head=replace(arch.head, conv_channels=40)),
        replace(arch, num_classes=5),
        replace(arch, resolution=32),
        replace(arch, in_channels=3),
    ]
    assert arch in space
    assert not [stranger for stranger in strangers if stranger in space]
    assert space.params_of(strangers[0]) is None


def test_the_reason_of_a_no_is_named() -> None:
    """A stranger is told the first thing that keeps it out, and the choices there."""
    space = small_space()
    params = {name: choices[-1] for name, choices in space.parameters.items()}
    arch = space.architecture({**params, "stage1.kernel": 3})
    first = arch.stages[0]
    odd = {"kernel_size": 7}, {"expanded_channels": 31}, {"use_se": False, "expanded_channels": None, "kind": "conv"}
    blocks = [replace(first.blocks[1], **change) for change in odd]
    reasons = {
        "resolution is 32; in this space it is 16": replace(arch, resolution=32),
        'stem is {"out_channels": 8, "stride": 1, "activation": "relu"}; in this space it is {"out': replace(
            arch, stem=replace(arch.stem, activation="relu")
        ),
        "it has 1 stages; this space has 2": replace(arch, stages=arch.stages[:1]),
        "stage 1: out_channels is 24; choices are 8, 16": _with_first(arch, replace(first, out_channels=24)),
        "stage 1: stride is 1; choices are 2": _with_first(arch, replace(first, stride=1)),
        "stage 1: depth is 3; choices are 1, 2": _with_first(arch, replace(first, blocks=first.blocks[:1] * 3)),
        "stage 1, block 2: kernel_size is 7; choices are 3, 5": _with_block(arch, blocks[0]),
        "stage 1, block 2: expanded_channels is 31; choices are none, 48": _with_block(arch, blocks[1]),
        "stage 1, block 2: kind is conv; choices are inverted_residual": _with_block(arch, blocks[2]),
        "stage 1: its blocks have different styles": _with_block(arch, replace(first.blocks[1], kernel_size=5)),
    }
    for reason, stranger in reasons.items():
        found = space.why_not(stranger)
        assert found is not None
        assert found.startswith(reason)
    assert space.why_not(arch) is None


def _with_first(arch: Architecture, stage: Stage) -> Architecture:
    return replace(arch, stages=(stage, *arch.stages[1:]))


def _with_block(arch: Architecture, block: Block) -> Architecture:
    return _with_first(arch, replace(arch.stages[0], blocks=(arch.stages[0].blocks[0], block)))


def test_the_scope_is_the_content() -> None:
    """The scope changes with preset, width, resolution, channels and classes, and with nothing else."""
    spaces = [
        default_space(),
        default_space(width=0.5),
        default_space(resolution=64),
        default_space(in_channels=1),
        default_space(num_classes=100),
        small_space(),
    ]
    assert len({space.scope for space in spaces}) == len(spaces)
    assert default_space().scope == default_space().scope
    assert len(default_space().scope) == 16


def test_ratios_become_widths() -> None:
    """Widths are ratios of the stage's channels rounded by make_divisible; ratios that coincide count once."""
    stage = DEFAULT.preset.stages[2]
    assert stage.widths(1.0) == (32, 48, 64)
    assert stage.widths(0.25) == (8, 16)  # 8, 12 and 16
    assert default_space(width=0.25).parameters["stage3.channels"] == (8, 16)


def test_expansion_of_one_is_none() -> None:
    """Expansion 1 means a separable block, and any other multiplies the block's own input width."""
    style = BlockStyle(kernel=3, expansion=1, se=False, activation="relu")
    assert style.block(24) == Block(kernel_size=3, expanded_channels=None, use_se=False, activation="relu")
    assert replace(style, expansion=4.5).block(24).expanded_channels == 112  # 108 lies between 104 and 112


def test_sampling_follows_the_generator() -> None:
    """Equal seeds draw equal networks, and fifty draws from 2 × 10^11 are all different."""
    drawn = [DEFAULT.sample(random.Random(seed)) for seed in range(50)]
    assert drawn == [DEFAULT.sample(random.Random(seed)) for seed in range(50)]
    assert len(set(drawn)) == 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda space: space.update(surplus=1), "surplus: "),
        (lambda space: space.pop("head"), "head: Field required"),
        (lambda space: space.update(reward_exponent="low"), "reward_exponent: "),
        (lambda space: space.update(reward_exponent=True), "reward_exponent: "),
        (lambda space: space.update(reference="resnet50"), "reference 'resnet50' is unknown; choose one of mobilenet"),
        (lambda space: space.update(name=7), "name: "),
        (lambda space: space.update(stages=[]), "1 to 16 stages, got 0"),
        (
            lambda space: space.update(stages=[deepcopy(stage) for stage in space["stages"] * 4]),
            "1 to 16 stages, got 20",
        ),
        (lambda space: space.update(stages=None), "stages: "),
        (lambda space: space["stem"].update(stride=3), r"stem\.stride: "),
        (lambda space: space["stem"].update(kernel=3), r"stem\.kernel: "),
        (lambda space: space["stages"][1].update(groups=[1]), r"stages\.1\.groups: "),
        (lambda space: space["stages"][1].pop("width"), r"stages\.1\.width: "),
        (lambda space: space["stages"][1].update(depth=[]), r"stages\.1: depth is \[\]; give 1 to 16 different"),
        (lambda space: space["stages"][1].update(kernel=[3, 3]), r"stages\.1: kernel is \[3, 3\]"),
        (lambda space: space["stages"][1].update(kernel=[4]), r"stages\.1\.kernel\.0: "),
        (lambda space: space["stages"][1].update(kernel=3), r"stages\.1\.kernel: "),
        (lambda space: space["stages"][1].update(depth=[True]), r"stages\.1\.depth\.0: "),
        (lambda space: space["stages"][1].update(depth=[1.0]), r"stages\.1\.depth\.0: "),
        (lambda space: space["stages"][1].update(depth=[0]), r"stages\.1: depth 0 must lie between 1 and 32"),
        (lambda space: space["stages"][1].update(depth=[33]), r"stages\.1: depth 33"),
        (lambda space: space["stages"][1].update(se=[0, 1]), r"stages\.1\.se\.0: "),
        (lambda space: space["stages"][1].update(expansion=[0.5]), r"stages\.1: expansion 0\.5"),
        (lambda space: space["stages"][1].update(width=[float("nan")]), r"stages\.1: width nan"),
        (lambda space: space["stages"][1].update(width=[17.0]), r"stages\.1: width 17"),
        (lambda space: space["stages"][1].update(activation=["gelu"]), r"stages\.1\.activation\.0: "),
        (lambda space: space["stages"][1].update(channels=0), r"stages\.1: channels is 0"),
        (lambda space: space["stages"][1].update(channels=True), r"stages\.1\.channels: "),
        (lambda space: space["stages"][1].update(depth=list(range(1, 18))), r"stages\.1: depth is .*give 1 to 16"),
        (lambda space: space["stages"][1].update(blocks="any"), r"stages\.1\.blocks: "),
        (lambda space: space.update(squeeze="other"), "squeeze: "),
        (lambda space: space["head"].update(conv_channels=9000), "head conv_channels is 9000"),
    ],
)
def test_wrong_fields_are_named(change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path) -> None:
    """A space with an unknown, missing or impossible field is refused by name and in one line."""
    content = shipped()
    change(content)
    with pytest.raises(InvalidSpace, match=message) as caught:
        load(yaml.safe_dump(content), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "just words",
        "name: [",
        "name: \0",
        "name: 2001-01-01",
        "name: !!binary aGVsbG8=",
        "name: !!python/object/apply:os.system ['true']",
        "!!python/object/new:pathlib.Path [x]",
        "name: !!set {a, b}",
        "name: !unknown 1",
        "{[1]: 2}",
        "name: *nowhere",
        "a: 1\n---\nb: 2",
        "[" * 3000 + "]" * 3000,
        "# " + "x" * MAX_YAML_BYTES,
    ],
)
def test_files_that_are_no_space(text: str, tmp_path: Path) -> None:
    """Broken YAML, foreign tags, odd types, deep nesting and huge files are refused in one line."""
    with pytest.raises(InvalidSpace) as caught:
        load(text, tmp_path)
    assert "\n" not in str(caught.value)


def test_aliases_are_refused(tmp_path: Path) -> None:
    """Aliases grow exponentially (nine levels of nine are 10^8 items from 400 bytes), so none is accepted."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 9)]
    with pytest.raises(InvalidSpace, match="aliases"):
        load("\n".join(lines), tmp_path)


@pytest.mark.parametrize(
    "text",
    [b"name: \xff\xff", b"&a [*a]", b"name: &a {b: *a}", b"name: 2001-99-99", b"name: " + b"1" * 5000],
    ids=["not UTF-8", "list in itself", "mapping in itself", "no date", "huge number"],
)
def test_values_that_no_library_takes(text: bytes, tmp_path: Path) -> None:
    """Bytes that are no text, an alias within itself, an impossible date and a huge number are InvalidSpace too."""
    with pytest.raises(InvalidSpace):
        load(text, tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    """A file or preset that does not exist is refused with the list of presets; so are folders and other endings."""
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "space.txt").write_text("name: x")
    for name in ("nowhere", str(tmp_path / "no.yaml"), str(tmp_path / "folder.yaml"), str(tmp_path / "space.txt"), ""):
        with pytest.raises(InvalidSpace, match=r"give a YAML file or one of .*mobilenet-v3-small-32px") as caught:
            load_preset(name)
        assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0.0}, "width multiplier is 0.0"),
        ({"width": 5.0}, "width multiplier is 5.0"),
        ({"width": float("nan")}, "width multiplier is nan"),
        ({"resolution": 4}, "space 'small': resolution is 4"),
        ({"num_classes": 1}, "space 'small': num_classes is 1"),
        ({"in_channels": 0}, "space 'small': in_channels is 0"),
    ],
)
def test_impossible_surroundings_are_refused(change: dict[str, Any], message: str) -> None:
    """Width multiplier, resolution, channels and classes are checked when the space is made."""
    with pytest.raises(InvalidSpace, match=message):
        replace(small_space(), **change)


def test_members_above_the_caps_are_refused_early() -> None:
    """A space with any member that breaks a cap is refused when it is made, not in the middle of a search."""
    preset = small_space().preset
    wide = replace(preset.stages[1], channels=4096, width=(0.01, 0.02, 1.0), expansion=(1, 3), depth=(1, 2))
    with pytest.raises(InvalidSpace):
        replace(small_space(), preset=replace(preset, stages=(preset.stages[0], wide)))


def test_spaces_of_too_many_blocks_are_refused() -> None:
    """16 widths before and behind a stage of 108 styles are 27,648 blocks: nobody could measure them."""
    preset = small_space().preset
    widths = tuple(1.0 + number for number in range(16))
    many = replace(
        preset.stages[0],
        channels=8,
        width=widths,
        kernel=(3, 5, 7),
        expansion=(1, 2, 3, 4, 5, 6),
        activation=("relu", "relu6", "hswish"),
    )
    with pytest.raises(InvalidSpace, match="has some 29,376 blocks to measure; at most 20,000 are accepted"):
        replace(small_space(), preset=replace(preset, stages=(many, many)))


def test_sizes_that_no_float_holds() -> None:
    """Fifteen stages of up to 16 free blocks are more than 10^308 networks; they are counted and drawn all the same."""
    preset = small_space().preset
    deep = replace(preset.stages[1], depth=tuple(range(1, 17)), kernel=(3, 5, 7), expansion=(2, 3, 4, 6), blocks="free")
    space = replace(small_space(), preset=replace(preset, stages=(deep,) * 15))
    assert space.size > 10**308
    arch = space.sample(random.Random(0))
    assert arch in space
    assert max(len(stage.blocks) for stage in arch.stages) == 16
    encoding = Encoding(space)
    assert encoding.valid(encoding.sample(50, np.random.default_rng(0))).all()


def test_params_name_a_member() -> None:
    """Flat parameters are the single source of a member: another kernel gives another network."""
    space = small_space()
    params = space.params_of(space.sample(random.Random(0)))
    assert params is not None
    kernels: list[Architecture] = [space.architecture({**params, "stage1.kernel": kernel}) for kernel in (3, 5)]
    assert [arch.stages[0].blocks[0].kernel_size for arch in kernels] == [3, 5]
