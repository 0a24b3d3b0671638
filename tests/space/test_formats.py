"""Specs in other projects' forms: what they hold, what they refuse, and the way back."""

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from space.arch import MAX_SPEC_BYTES, Architecture, Block
from space.errors import InvalidArchitecture, MobilenasError, NotExpressible
from space.formats import FILE_NAMES, FormatName, read_spec, write_spec
from space.keys import keys_of
from space.reference import REFERENCES
from tests.mutations import mutated, with_value
from tests.space.networks.test_onnx_graph import made
from tests.space.test_presets import shipped
from tests.strategies import architectures

READABLE: tuple[FormatName, ...] = ("spec", "timm", "torchvision", "ofa")
FOREIGN = READABLE[1:]
LARGE = REFERENCES["mobilenet_v3_large"]()


def written(arch: Architecture, name: FormatName) -> str | None:
    """The spec, or None where the format cannot express it."""
    try:
        return write_spec(arch, name)
    except NotExpressible:
        return None


@pytest.mark.parametrize("name", READABLE)
def test_references_come_back(name: FormatName) -> None:
    """A published network that a format can express is read back equal; each format expresses at least two."""
    texts = {reference: text for reference, make in REFERENCES.items() if (text := written(make(), name))}
    assert len(texts) >= 2
    for reference, text in texts.items():
        assert read_spec(text) == REFERENCES[reference]()


def test_who_expresses_what() -> None:
    """timm has all but the 32-px variants, torchvision plain V3, Once-for-All V3 but for the original last stage."""  # noqa: D403
    able = {name: {ref for ref, make in REFERENCES.items() if written(make(), name)} for name in FOREIGN}
    assert able["timm"] == {name for name in REFERENCES if not name.endswith("32px")}
    assert able["torchvision"] == {"mobilenet_v3_large", "mobilenet_v3_small", "mobilenet_v3_small_1280"}
    v3 = {name for name in REFERENCES if "v3" in name}
    assert able["ofa"] == {name for name in v3 if not name.endswith("original")}


@pytest.mark.parametrize("name", FOREIGN)
@settings(max_examples=150, deadline=None)
@given(arch=architectures(widest=300, largest=224))
def test_any_architecture_comes_back_or_is_refused(name: FormatName, arch: Architecture) -> None:
    """Whatever a format writes is read back equal, and without our own notes as the same network, block by block."""
    text = written(arch, name)
    if text is not None:
        assert read_spec(text) == arch
        content = json.loads(text)
        content.pop("stages", None)
        assert keys_of(read_spec(json.dumps(content))) == keys_of(arch)


@pytest.mark.parametrize("preset", ["mobilenet-v3-large", "mnasnet", "mobilenet-v2", "minimalistic", "ofa-mbv3"])
def test_members_come_back_from_timm(preset: str) -> None:
    """All members of the spaces for 224 px have widths of multiples of 8, so that timm has words for them."""
    space = shipped(preset)
    for seed in range(50):
        arch = space.sample(random.Random(seed))
        assert keys_of(read_spec(write_spec(arch, "timm"))) == keys_of(arch)


def test_the_strings_of_v3_large_are_timms_own() -> None:
    """MobileNetV3-Large is written with timm's own strings, but that the first of a repeat stands apart."""
    assert json.loads(write_spec(LARGE, "timm"))["arch_def"] == [
        ["ds_r1_k3_s1_c16_nre"],
        ["ir_r1_k3_s2_e4_c24_nre", "ir_r1_k3_s1_e3_c24_nre"],
        ["ir_r1_k5_s2_e3_c40_se0.25_nre", "ir_r2_k5_s1_e3_c40_se0.25_nre"],
        ["ir_r1_k3_s2_e6_c80", "ir_r1_k3_s1_e2.5_c80", "ir_r2_k3_s1_e2.3_c80"],
        ["ir_r2_k3_s1_e6_c112_se0.25"],
        ["ir_r1_k5_s2_e6_c160_se0.25", "ir_r2_k5_s1_e6_c160_se0.25"],
        ["cn_r1_k1_s1_c960"],
    ]


def test_timms_own_strings_are_read() -> None:
    """Definitions as timm has them, with repeats and e1, noskip and rounded ratios, make the published networks."""
    frame = {"stem_size": 16, "se_gate": "hard_sigmoid", "se_divisor": 8, "num_classes": 1000}
    large = [
        ["ds_r1_k3_s1_e1_c16_nre"],
        ["ir_r1_k3_s2_e4_c24_nre", "ir_r1_k3_s1_e3_c24_nre"],
        ["ir_r3_k5_s2_e3_c40_se0.25_nre"],
        ["ir_r1_k3_s2_e6_c80", "ir_r1_k3_s1_e2.5_c80", "ir_r2_k3_s1_e2.3_c80"],
        ["ir_r2_k3_s1_e6_c112_se0.25"],
        ["ir_r3_k5_s2_e6_c160_se0.25"],
        ["cn_r1_k1_s1_c960"],
    ]
    spec = {**frame, "class": "MobileNetV3", "arch_def": large, "num_features": 1280, "act_layer": "hard_swish"}
    assert read_spec(json.dumps(spec)) == LARGE
    mnasnet = [
        ["ds_r1_k3_s1_e1_c16_noskip"],
        ["ir_r2_k3_s2_e6_c24"],
        ["ir_r3_k5_s2_e3_c40_se0.25"],
        ["ir_r4_k3_s2_e6_c80"],
        ["ir_r2_k3_s1_e6_c112_se0.25"],
        ["ir_r3_k5_s2_e6_c160_se0.25"],
        ["ir_r1_k3_s1_e6_c320"],
    ]
    spec = {**frame, "class": "EfficientNet", "arch_def": mnasnet, "num_features": 1280, "act_layer": "relu"}
    spec |= {"se_gate": "sigmoid", "se_divisor": 1, "stem_size": 32}
    assert read_spec(json.dumps(spec)) == REFERENCES["mnasnet_a1"]()


def with_block(**change: Any) -> Architecture:  # noqa: ANN401 - fields of a block
    """V3-Large with its sixth stage's second block changed."""
    last = LARGE.stages[5]
    blocks = (last.blocks[0], replace(last.blocks[1], **change), last.blocks[2])
    return replace(LARGE, stages=(*LARGE.stages[:5], replace(last, blocks=blocks)))


def with_width(width: int) -> Architecture:
    """V3-Large with a fourth stage of another width."""
    return replace(LARGE, stages=(*LARGE.stages[:3], replace(LARGE.stages[3], out_channels=width), *LARGE.stages[4:]))


SIGMOID = replace(
    LARGE,
    stages=tuple(
        replace(s, blocks=tuple(replace(b, gate="sigmoid") if b.use_se else b for b in s.blocks)) for s in LARGE.stages
    ),
)


@pytest.mark.parametrize(
    ("name", "arch", "reason"),
    [
        (
            "timm",
            with_block(expanded_channels=900),
            "expansions to multiples of 8, stage6_block2 has 900, of which .* 904",
        ),
        ("timm", with_width(84), "widths to multiples of 8, stage 4 has 84"),
        ("timm", replace(LARGE, stem=replace(LARGE.stem, stride=1)), "stem has stride 2, this one has stride 1"),
        (
            "timm",
            replace(LARGE, stem=replace(LARGE.stem, activation="relu")),
            "share one activation, here they are relu",
        ),
        ("timm", with_block(gate="sigmoid"), "share one gate"),
        (
            "timm",
            replace(LARGE, stages=tuple(replace(stage, stride=2) for stage in LARGE.stages)),
            "beyond a total of 32 into dilation, here the total is 128",
        ),
        ("timm", replace(LARGE, head=replace(LARGE.head, conv_channels=950)), "the head's convolution has 950"),
        ("torchvision", with_block(expanded_channels=900), "stage6_block2 expands to 900"),
        (
            "torchvision",
            with_block(expanded_channels=160),
            "no expansion layer where .* stage6_block2 expands 160 to as many",
        ),
        ("torchvision", with_block(squeeze_channels=8), "would squeeze stage6_block2 to 240 channels, here it is 8"),
        ("torchvision", SIGMOID, "hard sigmoid, that of stage3_block1 has a sigmoid"),
        ("torchvision", with_block(activation="relu6"), "ReLU or h-swish, stage6_block2 has relu6"),
        ("torchvision", with_width(84), "multiples of 8, stage4_block1 puts out 84"),
        ("torchvision", replace(LARGE, in_channels=1), "takes 3 channels, here they are 1"),
        ("torchvision", replace(LARGE, stem=replace(LARGE.stem, stride=1)), "here it has stride 1 and hswish"),
        (
            "torchvision",
            replace(LARGE, head=replace(LARGE.head, conv_channels=576)),
            "6 x 160 channels, here it has 576",
        ),
        ("torchvision", replace(LARGE, head=replace(LARGE.head, hidden_channels=None)), "has a hidden layer"),
        ("torchvision", replace(LARGE, head=replace(LARGE.head, hidden_bias=False)), "has a bias, this one has none"),
        ("torchvision", replace(LARGE, batch_norm_epsilon=1e-5), "epsilon of 0.001, here it is 1e-05"),
        ("torchvision", replace(LARGE, stem=replace(LARGE.stem, out_channels=20)), "multiples of 8, the stem has 20"),
        ("ofa", with_block(squeeze_channels=8), "would squeeze stage6_block2 to 240 channels, here it is 8"),
        ("ofa", SIGMOID, "hard sigmoid, that of stage3_block1 has a sigmoid"),
        ("ofa", REFERENCES["mobilenet_v2"](), "a convolution and a hidden layer"),
        (
            "ofa",
            with_block(kind="conv", use_se=False, expanded_channels=None),
            "stage6_block2 is no inverted residual but of kind conv",
        ),
    ],
)
def test_what_cannot_be_expressed_is_refused_with_the_reason(name: FormatName, arch: Architecture, reason: str) -> None:
    """A pruned width or an unknown part is named, together with what the format would have made of it."""
    with pytest.raises(NotExpressible, match=reason) as caught:
        write_spec(arch, name)
    assert "\n" not in str(caught.value)


def test_pruned_widths_that_fit_are_written() -> None:
    """An expansion of 904 is no short ratio of 160 and still exact: timm reads the ratio that gives it."""
    arch = with_block(expanded_channels=904)
    text = write_spec(arch, "timm")
    assert "ir_r1_k5_s1_e5.65_c160_se0.25" in text
    assert read_spec(text) == arch


def test_once_for_alls_subnets() -> None:
    """A setting of depths, kernels and expansions is the member of its space, at its resolution."""
    setting = {"ks": [7, 5, 3, 3] * 5, "e": [6, 4, 3, 3] * 5, "d": [2, 3, 4, 2, 3], "r": [160]}
    arch = read_spec(json.dumps(setting))
    space = shipped("ofa-mbv3", resolution=160)
    assert arch in space
    assert [len(stage.blocks) for stage in arch.stages] == [1, 2, 3, 4, 2, 3]
    assert [block.kernel_size for block in arch.stages[3].blocks] == [7, 5, 3, 3]
    assert [block.expanded_channels for block in arch.stages[3].blocks] == [240, 320, 240, 240]
    wide = read_spec(json.dumps({**setting, "w": 1.2, "r": 224}))
    assert [stage.out_channels for stage in wide.stages] == [24, 32, 48, 96, 136, 192]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d": [2, 3, 4, 2]}, "d: has 4 entries; 5 are needed"),
        ({"d": [2, 3, 4, 2, 5]}, r"d\.4: is 5; choices are \(2, 3, 4\)"),
        ({"ks": [9] * 20}, r"ks\.0: is 9"),
        ({"e": [True] * 20}, r"e\.0: is True"),
        ({"e": None}, "e: must be a list, got nothing"),
        ({"r": "large"}, "r: must be an integer"),
        ({"w": 100}, "width multiplier is 100"),
    ],
)
def test_wrong_subnets_are_refused(change: dict[str, Any], message: str) -> None:
    """A list too short or a choice that the space does not have is named."""
    setting = {"ks": [7] * 20, "e": [6] * 20, "d": [2, 3, 4, 2, 3], **change}
    with pytest.raises(InvalidArchitecture, match=message):
        read_spec(json.dumps(setting))


def test_resolutions_are_named_once() -> None:
    """A file without a resolution takes the given one, or 224; a second one is refused, not passed over."""
    ofa = json.loads(write_spec(LARGE, "ofa"))
    del ofa["resolution"]
    assert read_spec(json.dumps(ofa), resolution=160) == replace(LARGE, resolution=160)
    assert read_spec(json.dumps(ofa)) == LARGE
    for name in READABLE:
        with pytest.raises(InvalidArchitecture, match="leave the other one out"):
            read_spec(write_spec(LARGE, name), resolution=160)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("xx_r1_k3_s1_c16", "arch_def.0.0: block type 'xx' is none of ir, ds, dsa, cn"),
        ("ir_r1_k3_s1_c16", "lacks e"),
        ("ir_r1_k3_s1_e6", "lacks c"),
        ("ir_r99_k3_s1_e6_c16", "repeats 99 times"),
        ("ir_r1_k9_s1_e6_c16", "k: is 9"),
        ("ir_r1_k3_s3_e6_c16", "s: is 3"),
        ("ir_r1_k3_s1_e0_c16", "expands by 0"),
        ("ds_r1_k3_s1_e2_c16", "expands by 2"),
        ("ir_r1_k3_s1_e6_c16_d1", "'d1' has no counterpart"),
        ("ir_r1_k3_s1_e6_c16_nsw", "'nsw' has no counterpart"),
        ("ir_r1_k3_s1_e6_c16_c24", "'c24' has no counterpart"),
        ("cn_r1_k3_s1_c16_se0.25", "'se0.25' has no counterpart"),
        ("ir_r1_k3_s1_e6_c16_noskip", "noskip takes away a residual connection"),
        ("ir_r1_k3_s1_e6_c99999", "'c99999' has no counterpart"),
        ("ir_r1_k3_s1_e9999_c16", "expanded_channels is 159984"),
        (7, "block type '7' is none of"),
    ],
)
def test_foreign_strings_are_refused_by_name(block: object, message: str) -> None:
    """A string with what our types do not have is refused, and where it stands is named."""
    spec = json.loads(write_spec(LARGE, "timm"))
    spec["arch_def"] = [[block], *spec["arch_def"][1:]]
    with pytest.raises(InvalidArchitecture, match=message) as caught:
        read_spec(json.dumps(spec))
    assert str(caught.value).startswith("arch_def.0.0: ")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("blocks", 1, "shortcut"), {"name": "IdentityLayer"}, r"blocks\.1\.shortcut: must be there exactly where"),
        (("blocks", 2, "shortcut"), None, r"blocks\.2\.shortcut: must be there exactly where"),
        (("blocks", 2, "shortcut", "name"), "ConvLayer", r"blocks\.2\.shortcut\.name: is 'ConvLayer'; only"),
        (("blocks", 2, "conv", "groups"), 2, r"blocks\.2\.conv\.groups: is 2; only None can be expressed"),
        (
            ("blocks", 2, "conv", "in_channels"),
            32,
            r"blocks\.2\.conv\.in_channels: is 32; the layer before puts out 24",
        ),
        (("blocks", 2, "conv", "name"), "DepthConvLayer", r"blocks\.2\.conv\.name: is 'DepthConvLayer'"),
        (("first_conv", "kernel_size"), 5, r"first_conv\.kernel_size: is 5; only 3 can be expressed"),
        (("feature_mix_layer", "use_bn"), True, r"feature_mix_layer\.use_bn: is True; only False"),
        (("feature_mix_layer", "act_func"), "relu", r"feature_mix_layer\.act_func: must be that of"),
        (("final_expand_layer", "in_channels"), 80, "final_expand_layer: takes 80 and gives 960, between 160 and 960"),
        (("classifier",), None, "classifier: must be an object, got nothing"),
        (("stages",), [1, 2], "stages: must be depths that add up to the 15 blocks"),
        (("stages",), [2, 1, 3, 4, 2, 3], "stages: only the first block of a stage may change width or resolution"),
        (("blocks",), {}, "blocks: must be a list, got dict"),
    ],
)
def test_foreign_layers_are_refused_by_name(path: tuple[str | int, ...], value: object, message: str) -> None:
    """A layer of Once-for-All that our types do not have is refused, and where it stands is named."""
    spec = with_value(json.loads(write_spec(LARGE, "ofa")), path, value)
    with pytest.raises(InvalidArchitecture, match=message):
        read_spec(json.dumps(spec))


def test_older_names_of_once_for_all_are_read() -> None:
    """Networks saved by its first versions name blocks and layers otherwise."""
    spec = json.loads(write_spec(LARGE, "ofa"))
    for block in spec["blocks"]:
        block["name"] = "MobileInvertedResidualBlock"
        block["mobile_inverted_conv"] = {**block.pop("conv"), "name": "MBInvertedConvLayer"}
    assert read_spec(json.dumps(spec)) == LARGE


@pytest.mark.parametrize(
    "text", ["", "[]", "7", '{"arch_def": 1}', "{" * 5000, b"\xff\xff", " " * (MAX_SPEC_BYTES + 1)]
)
def test_texts_that_are_no_spec(text: str | bytes) -> None:
    """Broken, foreign and huge texts are refused in one line."""
    with pytest.raises(InvalidArchitecture) as caught:
        read_spec(text)
    assert "\n" not in str(caught.value)


SUBNET = json.dumps({"ks": [7] * 20, "e": [6] * 20, "d": [2, 3, 4, 2, 3], "r": [160], "w": 1.2})
SPECS = [text for make in REFERENCES.values() for name in READABLE if (text := written(make(), name))] + [SUBNET]


def check_loads_or_is_refused(text: str) -> None:
    """Nothing but InvalidArchitecture comes out, and what loads is sound: it can be written and read again."""
    try:
        arch = read_spec(text)
    except InvalidArchitecture as error:
        assert isinstance(error, MobilenasError)  # noqa: PT017 - both outcomes are right
    else:
        assert Architecture.from_json(arch.to_json()) == arch


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SPECS), st.data())
def test_mutated_specs_load_or_are_refused(text: str, data: st.DataObject) -> None:
    """A mutated spec of any format is a valid architecture or an InvalidArchitecture."""
    check_loads_or_is_refused(mutated(text, data))


@pytest.mark.slow
@settings(max_examples=12_000, deadline=None)
@given(st.sampled_from(SPECS), st.data())
def test_ten_thousand_mutated_specs_load_or_are_refused(text: str, data: st.DataObject) -> None:
    """The same for more than ten thousand of them."""
    check_loads_or_is_refused(mutated(text, data))


def as_module(text: str) -> ModuleType:
    """A model.py, imported."""
    module = ModuleType("model")
    exec(compile(text, "model.py", "exec"), module.__dict__)  # noqa: S102 - our own file
    return module


def check_standalone(arch: Architecture, folder: Path) -> None:
    """A model.py with the weights of a safetensors file gives the outputs of our own modules."""
    model = made(arch)
    path = folder / "weights.safetensors"
    save_file(dict(model.state_dict()), path)
    network = as_module(write_spec(arch, "model.py")).load(path)
    images = torch.randn(
        (2, arch.in_channels, arch.resolution, arch.resolution), generator=torch.Generator().manual_seed(0)
    )
    with torch.inference_mode():
        torch.testing.assert_close(network(images), model(images), rtol=1e-4, atol=1e-5)
    assert list(network.state_dict()) == list(model.state_dict())


@pytest.mark.parametrize("reference", REFERENCES)
def test_model_py_equals_our_modules(reference: str, tmp_path: Path) -> None:
    """Every published network has a model.py that loads its weights and puts out the same."""
    check_standalone(REFERENCES[reference](num_classes=10), tmp_path)


@settings(max_examples=15, deadline=None)
@given(architectures(widest=24, largest=33, deepest=2))
def test_any_model_py_equals_our_modules(tmp_path_factory: pytest.TempPathFactory, arch: Architecture) -> None:
    """So has a network of odd widths and every kind of block."""
    check_standalone(arch, tmp_path_factory.mktemp("standalone"))


def test_model_py_runs_alone(tmp_path: Path) -> None:
    """As a program in an empty folder it needs torch alone, neither mobilenas nor safetensors."""
    arch = REFERENCES["mobilenet_v3_small_32px"]()
    (tmp_path / "model.py").write_text(write_spec(arch, "model.py"))
    save_file(dict(made(arch).state_dict()), tmp_path / "weights.safetensors")
    run = "import sys, runpy; runpy.run_path('model.py', run_name='__main__')"
    spy = f"{run}; print(sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", spy], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1,528,106 parameters; 3 x 32 x 32 px to 10 classes\n")
    assert not {"'space'", "'safetensors'", "'onnx'", "'pydantic'"} & set(done.stdout.replace(",", " ").split())


def test_every_format_has_its_own_file() -> None:
    """Exported into one folder, no form overwrites another."""
    assert len(set(FILE_NAMES.values())) == len(FILE_NAMES)


def test_blocks_of_other_kinds_survive() -> None:
    """V1's blocks, which timm knows as dsa and cn, are written as those."""
    text = write_spec(REFERENCES["mobilenet_v1"](), "timm")
    assert '"dsa_r5_k3_s1_c512"' in text
    assert '"cn_r5_k3_s1_c512"' in write_spec(REFERENCES["mobilenet_v1_full_conv"](), "timm")
    assert isinstance(read_spec(text).stages[0].blocks[0], Block)
