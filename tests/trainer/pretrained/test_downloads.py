"""Weights by name: found where they lie, told before they are downloaded, checked whatever was found."""

import hashlib
from pathlib import Path

import pytest

from space.errors import DataError
from tests.space.test_oracles import imported, needs
from trainer.pretrained import downloads
from trainer.pretrained.downloads import PUBLISHED, Published, weights_named

NAME = "torchvision:mobilenet_v2"


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bytes:
    """A file as small as a test's may be, published under a name like the real ones."""
    content = b"weights"
    file = f"mobilenet_v2-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    published = Published(file=file, megabytes=13.6, url="http://127.0.0.1:9/")
    monkeypatch.setattr(downloads, "PUBLISHED", {NAME: published})
    monkeypatch.setenv("MOBILENAS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return content


def place(tmp_path: Path, *, of_torch: bool) -> Path:
    """Where the file may lie, its folder made."""
    folder = tmp_path / "torch" / "hub" / "checkpoints" if of_torch else tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    return folder / downloads.PUBLISHED[NAME].file


@pytest.mark.parametrize("of_torch", [True, False])
def test_what_is_there_is_not_downloaded(content: bytes, tmp_path: Path, *, of_torch: bool) -> None:
    """In our cache, or in torch's own."""
    told: list[str] = []
    path = place(tmp_path, of_torch=of_torch)
    path.write_bytes(content)
    assert weights_named(NAME, told.append) == path
    assert not told


@pytest.mark.usefixtures("content")
def test_another_file_is_refused(tmp_path: Path) -> None:
    """A damaged one, with both checksums."""
    place(tmp_path, of_torch=False).write_bytes(b"others")
    begin = hashlib.sha256(b"others").hexdigest()[:8]
    with pytest.raises(DataError, match=f"its SHA-256 begins with {begin}, not .*; remove it"):
        weights_named(NAME, print)


@pytest.mark.usefixtures("content")
def test_without_a_network_it_says_what_to_put_where(tmp_path: Path) -> None:
    """After it told size, licence and checksum."""
    told: list[str] = []
    with pytest.raises(DataError, match=rf"put mobilenet_v2-\w+\.pth into {tmp_path / 'cache' / 'weights'}"):
        weights_named(NAME, told.append)
    (line,) = told
    assert all(word in line for word in ("13.6 MB", "SHA-256 begins with", "BSD-3-Clause"))


def test_names_that_nobody_has_published() -> None:
    """One line that names those that are known; a path is a path, whatever it is called."""
    with pytest.raises(
        DataError, match="no weights are known by the name torchvision:resnet18; give a file, or one of"
    ):
        weights_named("torchvision:resnet18", print)
    with pytest.raises(DataError, match=r"huggingface\.co/timm/mobilenetv1_100.*download that, and give the file"):
        weights_named("timm:mobilenetv1_100", print)
    with pytest.raises(DataError, match="mobilenas supernet import"):
        weights_named("ofa:ofa_mbv3_d234_e346_k357_w1.0", print)
    assert weights_named("runs/mine", print) == Path("runs/mine")
    assert all(len(each.digest) == 8 for each in PUBLISHED.values())


@needs("timm")
def test_timms_names_are_timms() -> None:
    """Each name has the address that timm itself takes it from, and its parameters have the size that is told."""
    timm = imported("timm")
    for name, published in PUBLISHED.items():
        project, _, network = name.partition(":")
        if project == "timm":
            assert timm.get_pretrained_cfg(network).url == published.url + published.file
            params = sum(each.numel() for each in timm.create_model(network).parameters())
            assert 4 * params / 2**20 == pytest.approx(published.megabytes, rel=0.03)
