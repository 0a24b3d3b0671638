"""Prepared data sets, from files and folders, and the three splits."""

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from space.errors import DataError
from trainer import data, sources
from trainer.data import Dataset, Preprocess, Splits
from trainer.sources import REWARD, TEST, TRAIN

PLAIN = Preprocess(resolution=16, resize=16, crop=16, pad=0, channels="RGB", mean=(0.0,) * 3, std=(1.0,) * 3)


def make_class(folder: Path, count: int, colour: tuple[int, int, int] = (200, 40, 90)) -> None:
    """`count` small pictures of one colour, 20×24 px."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.new("RGB", (20, 24), colour).save(folder / f"{index}.png")


def make_folders(root: Path, counts: dict[str, int]) -> str:
    """Folders of pictures; returns the data spec."""
    for name, count in counts.items():
        make_class(root / name, count)
    return f"imagefolder:{root}"


def prepare(spec: str, cache: Path, resolution: int | None = 16) -> Dataset:
    """Prepare without any data folder."""
    return data.prepare(spec, resolution=resolution, data_dir=None, cache=cache)


def stored(folder: Path, labels: np.ndarray, roles: np.ndarray, classes: int) -> Dataset:
    """A data set without images, for what concerns only labels."""
    np.save(folder / "labels.npy", labels)
    np.save(folder / "fixed_splits.npy", roles.astype(np.uint8))
    names = tuple(f"class {index}" for index in range(classes))
    return Dataset(name="made", content_hash="0" * 16, classes=names, preprocess=PLAIN, folder=folder)


def write_idx(folder: Path) -> None:
    """Forty random pictures as the four files of Fashion-MNIST, 20 for training."""
    rng = np.random.default_rng(0)
    for name in sources.FASHION_MD5:
        shape = (20,) if "labels" in name else (20, 28, 28)
        array = np.arange(20) % 10 if "labels" in name else rng.integers(0, 256, shape)
        header = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
        (folder / f"{name}.gz").write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def per_class(dataset: Dataset, splits: Splits | None = None) -> dict[str, tuple[int, int, int]]:
    """Images per class of the given or the default splits."""
    return data.images_per_class(dataset, splits or data.split(dataset))


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The real Fashion-MNIST, where this computer has it; never downloaded for a test."""
    places = (sources.cache_dir() / "fashion-mnist", sources.FASHION_PACKAGE)
    for place in places:
        if all(list(place.glob(f"{name}*")) for name in sources.FASHION_MD5):
            cache = tmp_path_factory.mktemp("cache")
            return data.prepare("fashion-mnist", resolution=None, data_dir=place, cache=cache)
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
    dataset = data.prepare("fashion-mnist", resolution=None, data_dir=tmp_path, cache=tmp_path)
    image = np.asarray(dataset.images()[3])
    Image.fromarray(image[0, 2:-2, 2:-2]).save(tmp_path / "3.png")
    np.testing.assert_array_equal(data.load_picture(tmp_path / "3.png", dataset.preprocess), image)


def test_known_sets_can_be_resized(tmp_path: Path) -> None:
    """At 64 px Fashion-MNIST keeps its proportions: 56 px of picture and 4 px of padding."""
    write_idx(tmp_path)
    dataset = data.prepare("fashion-mnist", resolution=64, data_dir=tmp_path, cache=tmp_path)
    assert dataset.images().shape == (40, 1, 64, 64)
    assert (dataset.preprocess.crop, dataset.preprocess.pad) == (56, 4)


def test_the_second_call_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared data are found again, equal, without opening a picture; workers open them by folder alone."""
    spec = make_folders(tmp_path / "photos", {"cat": 4, "dog": 5})
    first = prepare(spec, tmp_path)
    monkeypatch.setattr(data, "load_picture", None)
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
    write: Callable[..., None] = data._write

    def slow(*arguments: object) -> None:
        monkeypatch.setattr(data, "_write", write)
        prepare(spec, tmp_path)
        write(*arguments)

    monkeypatch.setattr(data, "_write", slow)
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


def test_an_unwritable_cache_is_named(tmp_path: Path) -> None:
    """A cache folder that is a file gives one clear error."""
    spec = make_folders(tmp_path / "photos", {"cat": 4, "dog": 5})
    (tmp_path / "cache").write_text("")
    with pytest.raises(DataError, match="MOBILENAS_CACHE_DIR"):
        prepare(spec, tmp_path / "cache")


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"cat": 20, "dog": 40}, {"cat": (14, 3, 3), "dog": (28, 6, 6)}),
        ({"cat": 3, "train": 3}, {"cat": (1, 1, 1), "train": (1, 1, 1)}),
        ({"train/cat": 20, "train/dog": 20}, {"cat": (14, 3, 3), "dog": (14, 3, 3)}),
        ({"train/a": 20, "train/b": 2, "val/a": 5, "val/b": 1}, {"a": (17, 3, 5), "b": (1, 1, 1)}),
        ({"train/a": 20, "train/b": 2, "test/a": 5, "test/b": 1}, {"a": (17, 3, 5), "b": (1, 1, 1)}),
        (
            {"train/a": 6, "train/b": 1, "val/a": 2, "val/b": 1, "test/a": 4, "test/b": 1},
            {"a": (6, 2, 4), "b": (1, 1, 1)},
        ),
    ],
)
def test_image_folders_are_split_by_their_layout(
    counts: dict[str, int], expected: dict[str, tuple[int, int, int]], tmp_path: Path
) -> None:
    """test/ is the test split and val/ the reward split; val/ alone is the test split; one folder gives 70/15/15."""
    assert per_class(prepare(make_folders(tmp_path / "photos", counts), tmp_path)) == expected


def test_other_files_are_ignored(tmp_path: Path) -> None:
    """Hidden files and folders, notes and other formats are passed over; capital suffixes are not."""
    spec = make_folders(tmp_path / "photos", {"cat": 3, "dog": 3, ".hidden": 1})
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("x")
    (tmp_path / "photos" / "cat" / ".0.png").write_text("x")
    Image.new("RGB", (9, 9)).save(tmp_path / "photos" / "cat" / "big.JPG")
    dataset = prepare(spec, tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert np.bincount(dataset.labels()).tolist() == [4, 3]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "at least two classes.*none"),
        ({"cat": 5}, "at least two classes.*'cat'"),
        ({"cat": 5, "dog": 2}, "'dog'.*too few pictures.*2, at least 3"),
        ({"cat": 5, "dog": 0}, "'dog'.*too few pictures.*0, at least 3"),
        ({"train/a": 5, "train/b": 1, "val/a": 5, "val/b": 5}, "'b'.*1, at least 2"),
        ({"train/a": 5, "train/b": 5, "val/a": 5, "val/b": 0}, "'b'.*0, at least 1"),
        ({"train/a": 5, "train/b": 5, "val/a": 5, "val/c": 5}, "class 'b' is not in every split"),
        ({"train/a": 5, "train/b": 5, "val/a": 5, "val/b": 5, "test/a": 5}, "class 'b' is not in every split"),
    ],
)
def test_unfit_image_folders_are_refused(counts: dict[str, int], message: str, tmp_path: Path) -> None:
    """Too few classes, too few pictures and classes that differ between splits are named."""
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=message):
        prepare(make_folders(tmp_path / "photos", counts), tmp_path)


@pytest.mark.parametrize("link", ["cat/away.png", "away", "cat/loop.png"])
def test_links_out_of_the_folder_are_refused(link: str, tmp_path: Path) -> None:
    """A link to a file or folder elsewhere, or to itself, is an error; one that stays inside is not."""
    spec = make_folders(tmp_path / "photos", {"cat": 3, "dog": 3})
    make_class(tmp_path / "elsewhere", 3)
    (tmp_path / "photos" / "cat" / "inside.png").symlink_to("../dog/0.png")
    assert len(prepare(spec, tmp_path).labels()) == 7
    targets = {"cat/away.png": "../../elsewhere/0.png", "away": "../elsewhere", "cat/loop.png": "loop.png"}
    (tmp_path / "photos" / link).symlink_to(targets[link])
    with pytest.raises(DataError, match=f"{link} is (a link that leaves|not a regular file)"):
        prepare(spec, tmp_path)


@pytest.mark.parametrize(
    ("spec", "resolution", "message"),
    [
        ("imagefolder:photos", None, "set `resolution:`"),
        ("imagefolder:does-not-exist", 32, "does-not-exist is not a folder"),
        ("imagefolder:", 32, "not known"),
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
    monkeypatch.setattr(data, "MAX_PREPARED_BYTES", 6 * 3 * 16 * 16 - 1)
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
    dataset = data.prepare("fashion-mnist", resolution=None, data_dir=tmp_path, cache=tmp_path)
    result = data.normalise(dataset.images()[:20], dataset.preprocess)[:, :, 2:-2, 2:-2]
    assert result.dtype == np.float32
    assert float(result.mean()) == pytest.approx(0, abs=1e-5)
    assert float(result.std()) == pytest.approx(1, abs=1e-5)


@st.composite
def label_sets(draw: st.DrawFn) -> np.ndarray:
    """Shuffled labels of 2–6 classes with 2–40 images each."""
    counts = draw(st.lists(st.integers(2, 40), min_size=2, max_size=6))
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(draw(st.integers(0, 99))).permutation(labels)


@settings(deadline=None)  # a busy neighbour is no failure
@given(labels=label_sets(), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**32))
def test_splits_are_disjoint_complete_stratified_and_reproducible(
    labels: np.ndarray, fraction: float, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every image is in one split, each class gives its share within one image, and a seed repeats its split."""
    classes = int(labels.max()) + 1
    labels = np.concatenate([labels, np.arange(classes)])
    roles = np.where(np.arange(len(labels)) < len(labels) - classes, TRAIN, TEST)
    dataset = stored(tmp_path_factory.mktemp("made"), labels, roles, classes)
    splits = data.split(dataset, reward_fraction=fraction, seed=seed)
    together = np.concatenate([splits.train, splits.reward, splits.test])
    assert np.sort(together).tolist() == list(range(len(labels)))
    assert splits.test.tolist() == np.flatnonzero(roles == TEST).tolist()
    for train, reward, test in per_class(dataset, splits).values():
        assert min(train, reward, test) >= 1
        assert abs(reward - fraction * (train + reward)) <= 1
    assert data.split(dataset, reward_fraction=fraction, seed=seed).reward.tolist() == splits.reward.tolist()


@settings(deadline=None)  # a busy neighbour is no failure
@given(labels=label_sets(), seed=st.integers(0, 2**32), counts=st.tuples(st.integers(1, 99), st.integers(1, 99)))
def test_subsets_are_nested_and_stratified(labels: np.ndarray, seed: int, counts: tuple[int, int]) -> None:
    """A smaller subset lies in a larger one; no class is further ahead of another than one image."""
    indices = np.flatnonzero(np.arange(len(labels)) % 7)
    small, large = (data.subset(indices, labels, count, seed) for count in sorted(counts))
    assert set(small) <= set(large) <= set(indices)
    assert len(large) == min(max(counts), len(indices))
    total, taken = (np.bincount(labels[part], minlength=labels.max() + 1) for part in (indices, large))
    shares = [(count - 1) / size for count, size in zip(taken, total, strict=True) if count]
    assert all((count / size) >= max(shares) for count, size in zip(taken, total, strict=True) if size)


def test_a_subset_of_everything_is_everything() -> None:
    """Asking for more images than there are gives all of them; asking for none is an error."""
    labels = np.array([0, 1, 0, 1])
    assert data.subset(np.array([0, 1, 3]), labels, 10, 0).tolist() == [0, 1, 3]
    with pytest.raises(DataError, match="at least 1"):
        data.subset(np.array([0]), labels, 0, 0)


def test_seeds_change_the_reward_split_only(tmp_path: Path) -> None:
    """Two seeds share the test split; a data set's own reward split is kept whatever the seed."""
    labels = np.arange(60) % 2
    dataset = stored(tmp_path, labels, np.where(np.arange(60) < 50, TRAIN, TEST), 2)
    first, second = data.split(dataset, seed=0), data.split(dataset, seed=1)
    assert first.reward.tolist() != second.reward.tolist()
    assert first.test.tolist() == second.test.tolist()
    own = stored(tmp_path, labels, np.repeat([TRAIN, REWARD, TEST], 20), 2)
    assert data.split(own, seed=0).reward.tolist() == data.split(own, seed=1).reward.tolist()
    assert data.split(own).reward.tolist() == list(range(20, 40))


def test_impossible_splits_are_refused(tmp_path: Path) -> None:
    """A fraction beyond 0–1 and a class that would be missing from a split are named."""
    dataset = stored(tmp_path, np.array([0, 0, 0, 1, 1]), np.array([TRAIN, TRAIN, TEST, TRAIN, TEST]), 2)
    for fraction in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(DataError, match="reward_fraction"):
            data.split(dataset, reward_fraction=fraction)
    with pytest.raises(DataError, match="'class 1' of made has 0 train, 1 reward and 1 test"):
        data.split(dataset)
