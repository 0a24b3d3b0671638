"""Prepared data sets, from files and folders, and the three splits."""

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from space.errors import DataError
from tests.trainer.data.photos import make_class, make_folders, per_class, prepare
from trainer.data import prepare as preparing
from trainer.data import sources
from trainer.data.dataset import TEST, TRAIN, Dataset
from trainer.data.pictures import load_picture
from trainer.data.preprocess import normalise


def write_idx(folder: Path) -> None:
    """Forty random pictures as the four files of Fashion-MNIST, 20 for training."""
    rng = np.random.default_rng(0)
    for name in sources.FASHION_MD5:
        shape = (20,) if "labels" in name else (20, 28, 28)
        array = np.arange(20) % 10 if "labels" in name else rng.integers(0, 256, shape)
        header = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
        (folder / f"{name}.gz").write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The real Fashion-MNIST, where this computer has it; never downloaded for a test."""
    places = (sources.cache_dir() / "fashion-mnist", sources.FASHION_PACKAGE)
    for place in places:
        if all(list(place.glob(f"{name}*")) for name in sources.FASHION_MD5):
            cache = tmp_path_factory.mktemp("cache")
            return preparing.prepare("fashion-mnist", resolution=None, data_dir=place, cache=cache)
    pytest.skip("FASHION-MNIST IS NOT HERE, its published facts go unchecked: run tools/get-fashion-mnist.sh")


def test_fashion_mnist_has_its_published_counts(fashion: Dataset) -> None:
    """Fashion-MNIST has 60,000 train and 10,000 test images, 6,000 and 1,000 of each of ten classes."""
    assert fashion.images().shape == (70_000, 1, 32, 32)
    roles, labels = fashion.fixed_splits(), fashion.labels()
    assert np.bincount(labels[roles == TRAIN]).tolist() == [6_000] * 10
    assert np.bincount(labels[roles == TEST]).tolist() == [1_000] * 10
    assert per_class(fashion)["Ankle boot"] == (5_100, 900, 1_000)


def test_fashion_mnist_has_its_published_statistics(fashion: Dataset) -> None:
    """The train pixels of Fashion-MNIST have mean 0.2860 and deviation 0.3530; its first image is an ankle boot."""
    assert fashion.preprocess.mean == pytest.approx((0.2860,), abs=5e-5)
    assert fashion.preprocess.std == pytest.approx((0.3530,), abs=5e-5)
    assert fashion.classes[fashion.labels()[0]] == "Ankle boot"


def test_fashion_mnist_is_padded_with_zeros(fashion: Dataset) -> None:
    """28×28 pictures lie in the middle of 32×32."""
    first = fashion.images()[:100]
    assert first[:, :, 2:-2, 2:-2].any()
    assert first.sum() == first[:, :, 2:-2, 2:-2].sum()


def test_a_saved_picture_loads_as_it_was_prepared(tmp_path: Path) -> None:
    """A Fashion-MNIST picture saved as a file goes through load_picture to the very same input."""
    write_idx(tmp_path)
    dataset = preparing.prepare("fashion-mnist", resolution=None, data_dir=tmp_path, cache=tmp_path)
    image = np.asarray(dataset.images()[3])
    Image.fromarray(image[0, 2:-2, 2:-2]).save(tmp_path / "3.png")
    np.testing.assert_array_equal(load_picture(tmp_path / "3.png", dataset.preprocess), image)


def test_known_sets_can_be_resized(tmp_path: Path) -> None:
    """At 64 px Fashion-MNIST keeps its proportions: 56 px of picture and 4 px of padding."""
    write_idx(tmp_path)
    dataset = preparing.prepare("fashion-mnist", resolution=64, data_dir=tmp_path, cache=tmp_path)
    assert dataset.images().shape == (40, 1, 64, 64)
    assert (dataset.preprocess.crop, dataset.preprocess.pad) == (56, 4)


def test_the_second_call_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared data are found again, equal, without opening a picture; workers open them by folder alone."""
    spec = make_folders(tmp_path / "photos", {"cat": 4, "dog": 5})
    first = prepare(spec, tmp_path)
    monkeypatch.setattr(preparing, "load_picture", None)
    assert prepare(spec, tmp_path) == first
    assert Dataset.open(first.folder) == first
    assert not first.images().flags.writeable


def test_a_changed_folder_is_prepared_again(tmp_path: Path) -> None:
    """A picture replaced by another of the same name changes the content hash; a touched one only the folder."""
    spec = make_folders(tmp_path / "photos", {"cat": 4, "dog": 5})
    first = prepare(spec, tmp_path)
    os.utime(tmp_path / "photos" / "cat" / "0.png", ns=(1, 1))
    touched = prepare(spec, tmp_path)
    assert touched.folder != first.folder
    assert touched.content_hash == first.content_hash
    Image.new("RGB", (20, 24), (1, 2, 3)).save(tmp_path / "photos" / "cat" / "0.png")
    assert prepare(spec, tmp_path).content_hash != first.content_hash


def test_two_processes_may_prepare_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finishes second takes the first one's result and leaves nothing unfinished behind."""
    spec = make_folders(tmp_path / "photos", {"cat": 4, "dog": 5})
    write: Callable[..., None] = preparing._write

    def slow(*arguments: object) -> None:
        monkeypatch.setattr(preparing, "_write", write)
        prepare(spec, tmp_path)
        write(*arguments)

    monkeypatch.setattr(preparing, "_write", slow)
    dataset = prepare(spec, tmp_path)
    assert [entry.name for entry in (tmp_path / "prepared").iterdir()] == [dataset.folder.name]
    assert len(dataset.images()) == 9


def test_a_failed_preparation_leaves_nothing(tmp_path: Path) -> None:
    """An unreadable picture is named, and no half-written folder stays."""
    spec = make_folders(tmp_path / "photos", {"cat": 4, "dog": 5})
    (tmp_path / "photos" / "dog" / "2.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"dog/2\.png cannot be read"):
        prepare(spec, tmp_path)
    assert list((tmp_path / "prepared").iterdir()) == []


def test_all_damaged_pictures_are_told_at_once(tmp_path: Path) -> None:
    """Empty, cut, and other content under a picture's name: all in one message, which says how to go on."""
    spec = make_folders(tmp_path / "photos", {"cat": 40, "dog": 40})
    cats = tmp_path / "photos" / "cat"
    (cats / "0.png").write_bytes(b"")
    (cats / "1.png").write_bytes((cats / "1.png").read_bytes()[:60])
    (cats / "2.jpg").write_text("<html>Not Found</html>")
    with pytest.raises(
        DataError, match=r"3 pictures are damaged: .*0\.png .*empty.*1\.png.*2\.jpg.*--skip-damaged"
    ) as told:
        prepare(spec, tmp_path)
    assert len(str(told.value).splitlines()) == 1
    for number in range(3, 28):
        (cats / f"{number}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"28 pictures are damaged.* and 8 more;"):
        prepare(spec, tmp_path)


def test_skipped_pictures_are_as_if_they_were_not_there(tmp_path: Path) -> None:
    """The splits, the statistics and the content hash are those of the folder without them; their names are kept."""
    rng = np.random.default_rng(0)
    for number in range(300):
        path = tmp_path / "photos" / ("cat" if number % 3 else "dog") / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    spec = f"imagefolder:{tmp_path / 'photos'}"
    names = ("cat/100.png", "cat/271.png", "dog/003.png")
    for name in names:
        (tmp_path / "photos" / name).write_bytes(b"")
    skipped = prepare(spec, tmp_path, skip_damaged=True)
    assert skipped.skipped == names
    assert skipped.measured_hash() == skipped.content_hash
    for name in names:
        (tmp_path / "photos" / name).unlink()
    without = prepare(spec, tmp_path)
    assert without.content_hash == skipped.content_hash
    assert without.preprocess == skipped.preprocess
    assert without.skipped == ()
    assert prepare(spec, tmp_path).measured_hash() == without.content_hash


def test_too_many_skipped_pictures_leave_too_few(tmp_path: Path) -> None:
    """A class of which nothing is left is named."""
    spec = make_folders(tmp_path / "photos", {"cat": 3, "dog": 3})
    (tmp_path / "photos" / "cat" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"'cat' .*has too few pictures.*2, at least 3.*not used are 1 damaged"):
        prepare(spec, tmp_path, skip_damaged=True)


def test_equal_images_have_equal_digests(tmp_path: Path) -> None:
    """Copies are known by their pixels, wherever they lie."""
    spec = make_folders(tmp_path / "photos", {"cat": 3})
    make_class(tmp_path / "photos" / "dog", 3, (1, 2, 3))
    assert len(np.unique(prepare(spec, tmp_path).digests())) == 2


def test_an_unwritable_cache_is_named(tmp_path: Path) -> None:
    """A cache folder that is a file gives one clear error."""
    spec = make_folders(tmp_path / "photos", {"cat": 4, "dog": 5})
    (tmp_path / "cache").write_text("")
    with pytest.raises(DataError, match="MOBILENAS_CACHE_DIR"):
        prepare(spec, tmp_path / "cache")


@pytest.mark.parametrize(
    ("spec", "resolution", "message"),
    [
        ("imagefolder:photos", None, "set `resolution:`"),
        ("imagefolder:does-not-exist", 32, "does-not-exist is not a folder"),
        ("imagefolder:", 32, "names no folder"),
        ("imagenet", 32, "'imagenet' is not known; use fashion-mnist"),
        ("cifar10", 4, "between 8 and 2048"),
        ("cifar10", 0, "between 8 and 2048"),
    ],
)
def test_bad_requests_are_refused(spec: str, resolution: int | None, message: str, tmp_path: Path) -> None:
    """Unknown data sets, missing folders and impossible resolutions are named with the remedy."""
    with pytest.raises(DataError, match=message):
        prepare(spec, tmp_path, resolution)


def test_the_prepared_size_is_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set that would take more than the cap is refused before a picture is decoded."""
    spec = make_folders(tmp_path / "photos", {"cat": 3, "dog": 3})
    monkeypatch.setattr(preparing, "MAX_PREPARED_BYTES", 6 * 3 * 16 * 16 - 1)
    with pytest.raises(DataError, match="lower `resolution`"):
        prepare(spec, tmp_path)


def test_a_foreign_folder_is_no_data_set(tmp_path: Path) -> None:
    """Folders without a readable meta.json of this version cannot be opened."""
    for content in (None, "{", "[]", '{"version": 99}', '{"version": 1}'):
        if content is not None:
            (tmp_path / "meta.json").write_text(content)
        with pytest.raises(DataError, match="remove the folder"):
            Dataset.open(tmp_path)


def test_normalised_train_images_have_mean_zero_and_deviation_one(tmp_path: Path) -> None:
    """With the data set's own statistics its pixels inside the padding come out standardised, as float32."""
    write_idx(tmp_path)
    dataset = preparing.prepare("fashion-mnist", resolution=None, data_dir=tmp_path, cache=tmp_path)
    result = normalise(dataset.images()[:20], dataset.preprocess)[:, :, 2:-2, 2:-2]
    assert result.dtype == np.float32
    assert float(result.mean()) == pytest.approx(0, abs=1e-5)
    assert float(result.std()) == pytest.approx(1, abs=1e-5)
