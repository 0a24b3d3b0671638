"""Folders of photos as people have them: layouts, names, kinds of files."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from space.errors import DataError
from tests.trainer.data.photos import is_one_line, make_class, make_folders, per_class, prepare
from trainer.data.imagefolder import list_imagefolder


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
        *[
            (
                {f"Train/{name}": 6 for name in "ab"}
                | {f"{val}/{name}": 2 for name in "ab"}
                | {"TEST/a": 4, "TEST/b": 4},
                {"a": (6, 2, 4), "b": (6, 2, 4)},
            )
            for val in ("valid", "validation", "dev", "Val", "VALID")
        ],
        ({"train/a": 20, "train/b": 2, "valid/a": 5, "valid/b": 1}, {"a": (17, 3, 5), "b": (1, 1, 1)}),
    ],
)
def test_image_folders_are_split_by_their_layout(
    counts: dict[str, int], expected: dict[str, tuple[int, int, int]], tmp_path: Path
) -> None:
    """test/ is the test split and val/ the reward split, by any of its names; val/ alone is the test split.

    One folder gives 70/15/15.
    """
    assert per_class(prepare(make_folders(tmp_path / "photos", counts), tmp_path)) == expected


def test_other_files_are_ignored(tmp_path: Path) -> None:
    """What is hidden is counted and passed over, as are notes, but for what systems leave; .JPG is a picture."""
    spec = make_folders(tmp_path / "photos", {"cat": 3, "dog": 3, ".hidden": 1})
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("x")
    (tmp_path / "photos" / "cat" / ".0.png").write_text("x")
    for name in (".DS_Store", "cat/._0.png", "cat/.DS_Store"):
        (tmp_path / "photos" / name).write_bytes(b"")
    Image.new("RGB", (9, 9)).save(tmp_path / "photos" / "IMG_1.jpg")
    os.mkfifo(tmp_path / "photos" / "pipe")  # which nobody writes into
    Image.new("RGB", (9, 9)).save(tmp_path / "photos" / "cat" / "big.JPG")
    dataset = prepare(spec, tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert np.bincount(dataset.labels()).tolist() == [4, 3]
    assert dataset.left_out == (
        "1 .txt files",
        "1 files beside the folders of classes",
        "2 hidden files and folders",
        "1 pictures beside the folders of classes",
    )


def test_pictures_are_known_by_their_content(tmp_path: Path) -> None:
    """Whatever the suffix; what is left out is counted by its kind, and folders beside train/ are named."""
    root = tmp_path / "photos"
    spec = make_folders(root, {"train/cat": 3, "train/dog": 3, "unlabelled": 1})
    picture = Image.new("RGB", (20, 24), (200, 40, 90))
    kinds = {"a.jfif": "JPEG", "b.jpe": "JPEG", "c.tif": "TIFF", "none": "JPEG", "d.jpg": "PNG", "e.webp": "WEBP"}
    for name, kind in kinds.items():
        picture.save(root / "train" / "cat" / name, kind)
    (root / "train" / "dog" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (root / "train" / "dog" / "a.cr2").write_bytes(b"II*\0")
    (root / "train" / "dog" / "drawing.psd").write_bytes(b"8BPS")
    (root / "train" / "dog" / "b.CR2").write_bytes(b"II*\0")
    (root / "train" / "dog" / "README").write_text("x")
    (root / "train" / "dog" / "more").mkdir()
    (root / "train" / "notes.txt").write_text("x")
    dataset = prepare(spec, tmp_path)
    assert np.bincount(dataset.labels()).tolist() == [9, 3]
    assert dataset.left_out == (
        "1 .db files",
        "1 .psd files",
        "1 files beside the folders of classes",
        "1 files without a suffix that are no pictures",
        "1 folders inside those of classes",
        "2 raw photos of cameras (.cr2)",
        "the folder unlabelled/ beside train/",
    )


def test_splits_without_classes_are_refused(tmp_path: Path) -> None:
    """Pictures directly in train/ and test/ would be told apart by their split."""
    with pytest.raises(DataError, match=r"the folders test/, train/ of .* are splits without classes"):
        prepare(make_folders(tmp_path, {"train": 5, "test": 5}), tmp_path / "cache")


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    """valid/ and val/ are both the validation split, so nobody is to guess."""
    spec = make_folders(tmp_path, {f"{part}/{name}": 3 for part in ("train", "val", "Valid") for name in "ab"})
    with pytest.raises(DataError, match="has Valid/ and val/, which are the same split; keep one"):
        prepare(spec, tmp_path / "cache")


def test_a_class_has_one_name_in_every_form_of_unicode(tmp_path: Path) -> None:
    """é from macOS, which is two code points, is é from Linux; two folders of one name are refused."""
    composed, apart = "caf\u00e9", "cafe\u0301"
    counts = {f"train/{composed}": 4, "train/tea": 4, f"val/{apart}": 2, "val/tea": 2}
    dataset = prepare(make_folders(tmp_path / "photos", counts), tmp_path)
    assert dataset.classes == (composed, "tea")
    assert per_class(dataset)[composed][2] == 2
    make_class(tmp_path / "photos" / "val" / composed, 1)
    with pytest.raises(DataError, match="same name in different forms of Unicode"):
        prepare(f"imagefolder:{tmp_path / 'photos'}", tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("one\ntwo", "holds a line break or control character; rename it"),
        ("a\x85b", "holds a line break"),
        ("a\u2028b", "holds a line break"),
        ("a\tb", "holds a line break or control character"),
        (os.fsdecode(b"m\xfcde"), r"m\\xfcde' is not UTF-8.*rename it"),
    ],
)
def test_impossible_names_are_refused_when_the_folder_is_listed(name: str, message: str, tmp_path: Path) -> None:
    """A class goes into labels.txt as one line, and into records: what cannot is named, as is a parent folder."""
    make_folders(tmp_path / "photos", {name: 3, "dog": 3})
    make_folders(tmp_path / name, {"cat": 3, "dog": 3})
    for root in (tmp_path / "photos", tmp_path / name):
        with pytest.raises(DataError, match=message):
            list_imagefolder(root)


@settings(deadline=None, max_examples=60)
@given(name=st.text(min_size=1, max_size=40) | st.binary(min_size=1, max_size=40).map(os.fsdecode))
def test_any_name_of_a_class_is_kept_or_refused(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any Unicode and any bytes: the class is one line of UTF-8 in NFC, or refused in one line."""
    root = tmp_path_factory.mktemp("names")
    try:
        make_folders(root, {name: 3})
    except (OSError, ValueError):
        return  # no file system has such a name
    make_folders(root, {"dog": 3})
    told = ""
    classes: tuple[str, ...] = ()
    try:
        classes = list_imagefolder(root).classes
    except DataError as error:
        told = str(error)
    assert classes or is_one_line(told)
    assert "".join(f"{each}\n" for each in classes).encode().decode().split("\n")[:-1] == list(classes)
    assert all(each.splitlines() == [each] and unicodedata.is_normalized("NFC", each) for each in classes)


def test_files_may_have_any_name(tmp_path: Path) -> None:
    """Names of pictures are recorded nowhere, so they may be bytes that are no UTF-8."""
    spec = make_folders(tmp_path / "photos", {"cat": 4, "dog": 3})
    odd = os.fsencode(tmp_path / "photos" / "cat") + b"/\xcf\n\xf0.png"
    os.rename(tmp_path / "photos" / "cat" / "0.png", odd)
    dataset = prepare(spec, tmp_path)
    assert len(dataset.labels()) == 7
    with open(odd, "wb") as file:
        file.write(b"")
    assert prepare(spec, tmp_path, skip_damaged=True).skipped == ("cat/\\xcf\\x0a\\xf0.png",)


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
