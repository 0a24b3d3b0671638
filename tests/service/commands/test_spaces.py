"""`mobilenas arch` and `mobilenas space`: what a person sees, and one clear line for every mistake."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from service.terminal.rows import scientific
from space.arch import Architecture
from space.cost import cost_of
from space.formats import write_spec
from space.preset import preset_names
from space.reference import REFERENCES
from tests.tiny import Result

Mobilenas = Callable[..., Result]


def test_arch_list_names_every_reference(mobilenas: Mobilenas) -> None:
    """The table has each name in one piece; as CSV the figures are those of the cost."""
    told = mobilenas("arch", "list")
    assert told.code == 0
    assert all(f" {name} " in told.out for name in REFERENCES)
    rows = list(csv.DictReader(io.StringIO(mobilenas("arch", "list", "--format", "csv").out)))
    assert [row["name"] for row in rows] == list(REFERENCES)
    for row in rows:
        assert float(row["params_m"]) == cost_of(REFERENCES[row["name"]]()).params / 1e6


def test_arch_show_sums_its_blocks(mobilenas: Mobilenas) -> None:
    """The JSON form has the spec and every unit, whose costs add up to the totals and to the published figure."""
    arguments = ("arch", "show", "mobilenet_v3_large", "--width", "0.75", "--rounding", "slim", "--resolution", "192")
    shown = json.loads(mobilenas(*arguments, "--format", "json").out)
    arch = Architecture.from_json(json.dumps(shown["architecture"]))
    assert arch == REFERENCES["mobilenet_v3_large"](width=0.75, resolution=192, rounding="slim")
    assert shown["arch_id"] == arch.arch_id
    assert shown["params"] == sum(unit["params"] for unit in shown["units"]) == 3_993_528
    assert shown["madds"] == sum(unit["madds"] for unit in shown["units"])
    assert shown["peak_bytes"] == max(unit["peak_bytes"] for unit in shown["units"])
    table = mobilenas(*arguments).out
    assert "3,993,528 parameters" in table
    assert "192 x 192 px" in table


def test_arch_show_writes_for_other_tools(mobilenas: Mobilenas, tmp_path: Path) -> None:
    """Every form is printed as it is, and `arch import` reads it back."""
    arch = REFERENCES["mobilenet_v3_small"]()
    for form in ("spec", "timm", "torchvision", "ofa"):
        path, back = tmp_path / f"{form}.json", tmp_path / f"{form}-back.json"
        assert mobilenas("arch", "show", "mobilenet_v3_small", "--format", form).out == write_spec(arch, form)
        assert mobilenas("arch", "show", "mobilenet_v3_small", "--format", form, "--out", path).code == 0
        assert mobilenas("arch", "import", path).out == f"{arch.to_json()}\n"
        assert mobilenas("arch", "import", path, "--out", back).code == 0
        assert back.read_text() == f"{arch.to_json()}\n"
        assert f"({arch.arch_id})" in mobilenas("arch", "show", back).out


def test_the_schema_is_printed(mobilenas: Mobilenas) -> None:
    """`arch schema` prints the file of the documentation, byte by byte."""
    published = Path(__file__).parents[3] / "docs" / "architecture.schema.json"
    assert mobilenas("arch", "schema").out == published.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "nowhere"), "'nowhere' is neither a file nor a published network; see: mobilenas arch list"),
        (("show", "mobilenet_v2", "--width", "0"), "width multiplier is 0.0"),
        (("show", "mobilenet_v2", "--rounding", "slim"), "mobilenet_v2 has no rounding 'slim'"),
        (("show", "mobilenet_v2", "--resolution", "4"), "resolution is 4"),
        (("show", "mobilenet_v2", "--format", "ofa"), "a convolution and a hidden layer"),
        (("show", "mobilenet_v3_small_32px", "--format", "timm"), "its stem has stride 2, this one has stride 1"),
        (("show", "mobilenet_v2", "--out", "x.txt"), "--format table cannot be written to x.txt"),
        (("show", "mobilenet_v2", "--format", "spec", "--out", "no/such/folder"), "cannot be written"),
        (("import", "nowhere.json"), "nowhere.json cannot be read"),
        (("import", "{spec}", "--resolution", "96"), "leave the other one out"),
        (("show", "{spec}", "--width", "0.5"), "--width and --rounding go with published networks"),
        (("import", "{broken}"), "the spec is not JSON"),
        (("import", "{huge}"), "is larger than"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], message: str, mobilenas: Mobilenas, tmp_path: Path) -> None:
    """Each mistake exits with 2 and one line that names it."""
    contents = {"spec": REFERENCES["mobilenet_v2"]().to_json(), "broken": "{", "huge": " " * 1_100_000}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    paths = {name: tmp_path / name for name in contents}
    done = mobilenas("arch", *(word.format(**paths) if "{" in word else word for word in arguments))
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


def test_spaces_are_listed_and_shown(mobilenas: Mobilenas) -> None:
    """Every shipped space is listed, shown stage by stage, and sound."""
    listed = json.loads(mobilenas("space", "list", "--format", "json").out)
    assert [row["name"] for row in listed] == list(preset_names())
    for name in preset_names():
        shown = json.loads(mobilenas("space", "show", name, "--format", "json").out)
        assert [row["stage"] for row in shown] == list(range(1, len(shown) + 1))
        assert f"space '{name}' is valid" in mobilenas("space", "check", name).out
    once_for_all = mobilenas("space", "show", "ofa-mbv3").out
    assert "21,758,655,492,572,485,851 networks of 96 blocks at 224 px" in once_for_all
    assert "in stages 2, 3, 4, 5, 6 each block chooses its own kernel" in once_for_all


def test_a_space_of_ones_own(mobilenas: Mobilenas, tmp_path: Path) -> None:
    """A YAML file is checked; what is wrong with it is named, at the width and resolution asked for."""
    text = files("space").joinpath("presets", "mobilenet-v2.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("name: mobilenet-v2", "name: mine"))
    assert "space 'mine' is valid" in mobilenas("space", "check", path).out
    small = mobilenas("space", "check", path, "--width", "0.5", "--resolution", "96", "--in-channels", "1")
    assert "at 96 px" in small.out
    path.write_text(text.replace("kernel: [3, 5]", "kernel: [4]"))
    wrong = mobilenas("space", "check", path)
    assert wrong.code == 2
    assert "stages.0.kernel.0: Input should be 3, 5 or 7" in wrong.err
    assert mobilenas("space", "check", "mobilenet-v2", "--width", "9").code == 2


@pytest.mark.parametrize(
    ("count", "shown"),
    [(1, "1"), (999_999, "999999"), (1_234_567, "1.23e+6"), (7371**5, "2.17e+19"), (10**400, "1.00e+400")],
)
def test_sizes_are_shown_short(count: int, shown: str) -> None:
    """Counts that no float holds have a few digits too."""
    assert scientific(count) == shown


def test_membership_is_told_with_its_reason(mobilenas: Mobilenas, tmp_path: Path) -> None:
    """`space has` says yes, or no with the reason and the spec of the nearest member."""
    assert "yes: mnasnet_a1 is in space 'mnasnet'" in mobilenas("space", "has", "mnasnet", "mnasnet_a1").out
    large = REFERENCES["mobilenet_v3_large"]()
    assert mobilenas("space", "has", "ofa-mbv3", "mobilenet_v3_large").out.startswith("no: head is ")
    as_there = replace(large, head=replace(large.head, hidden_bias=False), batch_norm_epsilon=1e-5)
    (tmp_path / "large.json").write_text(as_there.to_json(), encoding="utf-8")
    told = mobilenas("space", "has", "ofa-mbv3", tmp_path / "large.json").out
    assert told.startswith("no: stage 4, block 2: expanded_channels is 200; choices are 240, 320, 480\n")
    nearest = Architecture.from_json(told.splitlines()[-1])
    assert [len(stage.blocks) for stage in nearest.stages] == [1, 2, 3, 4, 2, 3]
    assert mobilenas("space", "has", "mnasnet", "mobilenet_v1").out.count("\n") == 1
