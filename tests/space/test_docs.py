"""What the documentation of networks and spaces shows works as it stands there."""

import random
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from space.choices import SearchSpace
from space.formats import FILE_NAMES, write_spec
from space.preset import load_preset, preset_names
from space.reference import REFERENCES, mobilenet_v3_small
from tests.space.networks.test_onnx_graph import made
from tests.space.test_oracles import imported, needs

DOCS = Path(__file__).parents[2] / "docs"
NETWORKS, SPACES = (DOCS / "networks.md").read_text(), (DOCS / "spaces.md").read_text()


MODULES = {
    "timm": ("timm",),
    "torchvision": ("torchvision",),
    "ofa": ("ofa.imagenet_classification.networks.mobilenet_v3",),
}


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_the_space_of_the_example_is_sound(tmp_path: Path) -> None:
    """The YAML file of the guide to spaces is one."""
    path = tmp_path / "mine.yaml"
    path.write_text(next(block for block in blocks(SPACES, "yaml") if block.startswith("name: mine")))
    space = SearchSpace(preset=load_preset(str(path)), width=1.0, resolution=64, in_channels=3, num_classes=10)
    assert space.sample(random.Random(0)) in space


def test_the_python_of_the_guide_to_spaces_runs() -> None:
    """Its members are members, and its flat parameters lead back."""
    (code,) = blocks(SPACES, "python")
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102 - our own documentation
    space = names["space"]
    assert isinstance(space, SearchSpace)
    assert names["child"] in space  # type: ignore[operator]
    assert space.architecture(names["params"]) == names["child"]  # type: ignore[arg-type]


def test_every_network_and_space_is_documented() -> None:
    """Presets are named in full; references by name or by the suffix of their variants."""
    assert all(f"`{name}`" in SPACES for name in preset_names())
    suffixes = ("", "_minimalistic", "_original", "_32px", "_full_conv", "_shallow")
    for name in REFERENCES:
        assert any(
            f"`{name.removesuffix(suffix)}`" in NETWORKS and (not suffix or f"{suffix}`" in NETWORKS)
            for suffix in suffixes
            if name.endswith(suffix)
        )


@pytest.mark.parametrize("form", [pytest.param(name, marks=needs(name)) for name in ("timm", "torchvision", "ofa")])
def test_networks_are_built_elsewhere_as_documented(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of the documentation, run in the folder of an export, give a network with our outputs."""
    for module in MODULES[form]:
        imported(module)  # whatever they warn of
    arch = mobilenet_v3_small(resolution=64, num_classes=10)
    model = made(arch)
    for name, file in FILE_NAMES.items():
        (tmp_path / file).write_text(write_spec(arch, name))
    save_file(dict(model.state_dict()), tmp_path / "weights.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    code = blocks(NETWORKS, "python")
    load = next(block for block in code if block.startswith("from model import load"))
    build = next(block for block in code if f'"{form}.json"' in block)
    take_over = next(block for block in code if "into.copy_" in block)
    names: dict[str, object] = {"images": torch.zeros(2, 3, 64, 64)}
    for part in (load, build, take_over):
        exec(part, names)  # noqa: S102 - our own documentation
    network = names["network"]
    assert isinstance(network, torch.nn.Module)
    images = torch.randn((2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(images), model(images), rtol=1e-4, atol=1e-5)
