"""Finding and reading Fashion-MNIST and CIFAR-10, from sound and from damaged files."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pooch
import pytest
from PIL import Image

from space.errors import DataError
from trainer.data import sources
from trainer.data.dataset import TEST, TRAIN

CLASSES = 10


def idx(array: np.ndarray) -> bytes:
    """An IDX file of bytes."""
    shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return (0x800 + array.ndim).to_bytes(4, "big") + shape + array.astype(np.uint8).tobytes()


def packed(content: bytes) -> bytes:
    """Compressed, without the time: who collects the tests twice finds the same."""
    return gzip.compress(content, mtime=0)


def write_fashion(folder: Path, *, compressed: bool = True, per_class: int = 2) -> dict[str, np.ndarray]:
    """Four small IDX files in the layout of Fashion-MNIST; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    written = {}
    for name in sources.FASHION_MD5:
        labels = np.repeat(np.arange(CLASSES), per_class)
        array = labels if "labels" in name else rng.integers(0, 256, (len(labels), 28, 28))
        content = idx(array)
        path = folder / (f"{name}.gz" if compressed else name)
        path.write_bytes(packed(content) if compressed else content)
        written[name] = array
    return written


def write_archive(path: Path, *, rows: int = 10, leave_out: str = "", cut: int = 0) -> np.ndarray:
    """A small CIFAR-10 binary archive; returns the pixels of the first batch, N×3×32×32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    first = None
    with tarfile.open(path, "w:gz") as archive:
        for name in (*sources.CIFAR_TRAIN, sources.CIFAR_TEST):
            table = rng.integers(0, 256, (rows, 3073), dtype=np.uint8)
            table[:, 0] = np.arange(rows) % CLASSES
            first = table[:, 1:].reshape(-1, 3, 32, 32) if first is None else first
            content = table.tobytes()[: rows * 3073 - cut]
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            if name != leave_out:
                archive.addfile(member, io.BytesIO(content))
    assert first is not None
    return first


def write_pack(path: Path, changes: dict[str, np.ndarray] | None = None, *, side: int = 32) -> None:
    """A JPEG pack of 30 grey images, 20 of them for training: image i is 8 * i bright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files = []
    for index in range(30):
        buffer = io.BytesIO()
        Image.new("RGB", (side, side), (8 * index,) * 3).save(buffer, "JPEG")
        files.append(buffer.getvalue())
    arrays = {
        "blob": np.frombuffer(b"".join(files), dtype=np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]),
        "labels": np.arange(30, dtype=np.uint8) % CLASSES,
        "is_test": (np.arange(30) >= 20).astype(np.uint8),
        "classes": np.array(sources.CIFAR_CLASSES),
    }
    content: dict[str, np.ndarray] = arrays | (changes or {})
    np.savez(path, **content)  # type: ignore[arg-type]  # an array is not taken for allow_pickle


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reaches the network or this computer's own data sets."""

    def refuse(_: object, url: str, *__: object, **___: object) -> None:
        raise OSError(f"no network for {url}")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", refuse)
    monkeypatch.setattr(sources, "FASHION_PACKAGE", tmp_path / "nothing")


def test_cache_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """MOBILENAS_CACHE_DIR wins over the user's cache folder, and an empty value counts as unset."""
    monkeypatch.setenv("MOBILENAS_CACHE_DIR", str(tmp_path))
    assert sources.cache_dir() == tmp_path
    monkeypatch.setenv("MOBILENAS_CACHE_DIR", "")
    assert sources.cache_dir().name == "mobilenas" or "mobilenas" in sources.cache_dir().parts


@pytest.mark.parametrize("place", ["data/fashion-mnist", "data", "cache/fashion-mnist", "package"])
@pytest.mark.parametrize("compressed", [True, False])
def test_fashion_mnist_is_found_in_each_place(
    place: str, compressed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The IDX files are found beside --data-dir, in the cache and where Debian puts them, compressed or not."""
    monkeypatch.setattr(sources, "FASHION_PACKAGE", tmp_path / "package")
    written = write_fashion(tmp_path / place, compressed=compressed)
    raw = sources.read_fashion_mnist(sources.find_fashion_mnist(tmp_path / "data", tmp_path / "cache"))
    expected = np.concatenate([written["train-images-idx3-ubyte"], written["t10k-images-idx3-ubyte"]])
    np.testing.assert_array_equal(raw.images, expected[:, None])
    assert raw.labels.tolist() == [label for label in range(CLASSES) for _ in range(2)] * 2
    assert raw.roles.tolist() == [TRAIN] * 20 + [TEST] * 20


def test_a_folder_with_some_of_the_files_is_passed_over(tmp_path: Path) -> None:
    """A folder that holds three of the four files does not hide a complete one."""
    write_fashion(tmp_path / "data")
    (tmp_path / "data" / "t10k-labels-idx1-ubyte.gz").unlink()
    write_fashion(tmp_path / "cache" / "fashion-mnist")
    files = sources.find_fashion_mnist(tmp_path / "data", tmp_path / "cache")
    assert {file.parent for file in files} == {tmp_path / "cache" / "fashion-mnist"}


def test_a_failed_download_says_how_to_get_the_data(tmp_path: Path) -> None:
    """Without network the one-line error names the address, the package and the folder layout."""
    with pytest.raises(DataError, match=r"train-images.*no network.*dataset-fashion-mnist.*--data-dir") as caught:
        sources.find_fashion_mnist(None, tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"cifar-10-binary.*no network.*--data-dir.*fashion-mnist"):
        sources.find_cifar10(tmp_path, tmp_path)


def test_a_download_with_a_wrong_checksum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that do not have the published MD5 are not kept."""

    def tampered(_: object, __: str, output_file: str, *___: object, **____: object) -> None:
        Path(str(output_file)).write_bytes(b"tampered")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", tampered)
    with pytest.raises(DataError, match="does not match the known hash"):
        sources.find_fashion_mnist(None, tmp_path)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (packed(idx(np.zeros((20, 28, 28))))[:-30], "train-images.*cannot be read"),
        (packed(idx(np.zeros((20, 28, 28)))[:-1]), "train-images.*truncated"),
        (packed(idx(np.zeros((20, 28, 28))) + b"x"), "train-images.*too long"),
        (packed(idx(np.zeros((20, 28, 29)))), "train-images.*not an IDX file of 28×28"),
        (packed(idx(np.zeros(20))), "train-images.*not an IDX file"),
        (packed(b"\0\0\x08\x03\xff\xff\xff\xff" + 2 * b"\0\0\0\x1c"), "train-images.*not an IDX file"),
        (packed(b""), "train-images.*not an IDX file"),
        (b"<html>", "train-images.*cannot be read"),
        (packed(idx(np.zeros((19, 28, 28)))), "has 19 images.*20 labels"),
    ],
)
def test_damaged_idx_files_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    """Truncated, overlong and foreign files are refused with their name, before anything large is allocated."""
    write_fashion(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        sources.read_fashion_mnist(sources.find_fashion_mnist(tmp_path, tmp_path))


def test_a_label_beyond_the_classes_is_refused(tmp_path: Path) -> None:
    """Fashion-MNIST has ten classes, so the label 10 is an error."""
    write_fashion(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(packed(idx(np.full(20, 10))))
    with pytest.raises(DataError, match="label 10"):
        sources.read_fashion_mnist(sources.find_fashion_mnist(tmp_path, tmp_path))


@pytest.mark.parametrize("place", ["data/cifar10", "data", "cache/cifar10"])
def test_the_cifar_archive_is_read_in_place(place: str, tmp_path: Path) -> None:
    """The binary archive has five train batches and one test batch of (label, 3×32×32) rows."""
    first = write_archive(tmp_path / place / sources.CIFAR_ARCHIVE)
    raw = sources.read_cifar10(sources.find_cifar10(tmp_path / "data", tmp_path / "cache"))
    np.testing.assert_array_equal(raw.images[:10], first)
    assert raw.images.shape == (60, 3, 32, 32)
    assert raw.labels.tolist() == list(range(10)) * 6
    assert raw.roles.tolist() == [TRAIN] * 50 + [TEST] * 10


def test_damaged_cifar_archives_are_named(tmp_path: Path) -> None:
    """A missing batch, a cut row and a cut archive are three clear errors."""
    path = tmp_path / sources.CIFAR_ARCHIVE
    write_archive(path, leave_out="data_batch_3.bin")
    with pytest.raises(DataError, match=r"lacks data_batch_3\.bin"):
        sources.read_cifar10(path)
    write_archive(path, cut=1)
    with pytest.raises(DataError, match="rows of 3,073"):
        sources.read_cifar10(path)
    write_archive(path)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(DataError, match="cannot be read"):
        sources.read_cifar10(path)


@pytest.mark.parametrize("name", [sources.CIFAR_PACK, "mine.npz"])
def test_a_jpeg_pack_is_read(name: str, tmp_path: Path) -> None:
    """Images of a pack are decoded as RGB and keep their train and test roles."""
    write_pack(tmp_path / "cifar10" / name)
    raw = sources.read_cifar10(sources.find_cifar10(tmp_path, tmp_path / "cache"))
    assert raw.classes == sources.CIFAR_CLASSES
    assert np.abs(raw.images.mean(axis=(1, 2, 3)) - 8 * np.arange(30)).max() < 2
    assert raw.roles.tolist() == [TRAIN] * 20 + [TEST] * 10


def test_several_packs_are_not_guessed_between(tmp_path: Path) -> None:
    """With two unknown packs in the folder the error names both."""
    for name in ("a.npz", "b.npz"):
        write_pack(tmp_path / "cifar10" / name)
    with pytest.raises(DataError, match=r"a\.npz, b\.npz"):
        sources.find_cifar10(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": np.arange(30)}, "do not fit together"),
        ({"offsets": np.zeros(31, dtype=np.int64)}, "do not fit together"),
        ({"labels": np.full(30, 12)}, "label 12"),
        ({"blob": np.array([{}, []], dtype=object)}, "not a JPEG pack"),
    ],
)
def test_damaged_packs_are_refused(changes: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    """Offsets and labels are checked, and pickled objects are never loaded."""
    write_pack(tmp_path / "pack.npz", changes)
    with pytest.raises(DataError, match=message):
        sources.read_cifar10(tmp_path / "pack.npz")


def test_a_pack_of_other_sizes_or_no_jpegs_is_refused(tmp_path: Path) -> None:
    """Every image of a CIFAR-10 pack is a 32×32 JPEG, and a pack is a zip file."""
    write_pack(tmp_path / "pack.npz", side=31)
    with pytest.raises(DataError, match="31×31 px, not 32×32"):
        sources.read_cifar10(tmp_path / "pack.npz")
    blob, offsets = np.zeros(30, dtype=np.uint8), np.arange(31)
    write_pack(tmp_path / "pack.npz", {"blob": blob, "offsets": offsets})
    with pytest.raises(DataError, match=r"image 0 of .* cannot be decoded"):
        sources.read_cifar10(tmp_path / "pack.npz")
    (tmp_path / "pack.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match="not a JPEG pack"):
        sources.read_cifar10(tmp_path / "pack.npz")
