"""What is remembered of a data set: read back as it was, from anywhere, and honest about what misleads."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from space.errors import DataError
from tests.trainer.data.photos import PLAIN, make_folders, prepare
from trainer.data.facts import DataFacts
from trainer.data.splits import split

EVEN = DataFacts(
    classes=("cat", "dog"),
    preprocess=PLAIN,
    images=((10, 2, 2), (10, 2, 2)),
    test_labels=(0, 1, 0, 1),
    repeated=0,
    skipped=(),
    left_out=(),
)


@given(drawn=st.lists(st.integers(0, 5), max_size=200))
def test_facts_survive_json(drawn: list[int]) -> None:
    """Labels in their order, classes and preprocessing come back equal."""
    labels = [*drawn, *range(6)]
    counts = np.bincount(labels, minlength=6).tolist()
    facts = replace(
        EVEN,
        classes=tuple("abcdef"),
        images=tuple((1, 1, count) for count in counts),
        test_labels=tuple(labels),
        skipped=("a/1.png",),
    )
    assert DataFacts.from_plain(json.loads(json.dumps(facts.to_plain()))) == facts


@pytest.mark.parametrize(
    "change",
    [
        {"test_labels": "not base64!"},
        {"test_labels": "AAAA"},
        {"classes": ["cat"]},
        {"images": [[1, 2], [3, 4]]},
        {"images": [[10, 2, 2], [10, 2, 3]]},
        {"images": [[10, 2, 3], [10, 2, 1]]},
        {"images": [[-1, 2, 2], [10, 2, 2]]},
        {"images": [[10, 2, 0], [10, 2, 0]], "test_labels": "eJwDAAAAAAE="},
        {"preprocess": {}},
        {"preprocess": None},
        {"repeated": "many"},
        {"classes": None},
    ],
)
def test_damaged_facts_are_refused(change: dict[str, Any]) -> None:
    """An archive from outside holds what we could have written, or is refused."""
    with pytest.raises(DataError, match=r"facts of a data set|do not fit together|preprocessing"):
        DataFacts.from_plain({**EVEN.to_plain(), **change})


@pytest.mark.parametrize(("copied", "counted"), [("test", 4), ("val", 4)])
def test_held_out_images_that_are_trained_on_are_counted(copied: str, counted: int, tmp_path: Path) -> None:
    """A test split or a reward split that is a copy of train/ measures what was learnt by heart."""
    for number, name in enumerate(("train", "val", "test")):
        for label in ("a", "b"):
            for index in range(2):
                path = tmp_path / "photos" / name / label / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                seed = [0 if name == copied else number, ord(label), index]
                pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path)
    dataset = prepare(f"imagefolder:{tmp_path / 'photos'}", tmp_path)
    assert DataFacts.of(dataset, split(dataset)).repeated == counted


def test_a_reward_split_from_train_counts_too(tmp_path: Path) -> None:
    """Where all pictures of a class are one picture, whatever is held out is trained on as well."""
    dataset = prepare(make_folders(tmp_path / "photos", {"cat": 20, "dog": 20}), tmp_path)
    splits = split(dataset)
    assert DataFacts.of(dataset, splits).repeated == len(splits.reward) + len(splits.test)


def test_figures_of_other_images_are_refused() -> None:
    """What a network got right of other images says nothing of these."""
    with pytest.raises(DataError, match="4 test images are recorded, 5 were judged"):
        EVEN.balanced_accuracy(np.array([True] * 5))


def test_labels_that_unpack_without_end_are_refused() -> None:
    """A megabyte of zeros in a kilobyte is too many labels for the classes' images, and is not unpacked whole."""
    import base64
    import zlib

    bomb = base64.b64encode(zlib.compress(b"\0" * 2**26)).decode()
    with pytest.raises(DataError, match="do not fit together"):
        DataFacts.from_plain({**EVEN.to_plain(), "test_labels": bomb})


def test_balanced_accuracy_is_the_mean_recall() -> None:
    """Of 9 cats and one dog, whoever always says cat is right in 90 % of the images and in half of the classes."""
    uneven = replace(EVEN, images=((90, 1, 9), (10, 1, 1)), test_labels=(*[0] * 9, 1))
    assert uneven.is_uneven
    assert uneven.largest == ("cat", 0.9)
    assert uneven.balanced_accuracy(np.array([True] * 9 + [False])) == 0.5
    assert not EVEN.is_uneven


def test_what_misleads_is_said() -> None:
    """Left-out files, damaged ones, held-out images that are trained on, and a class that is most of the set."""
    facts = replace(
        EVEN,
        images=((90, 1, 9), (10, 1, 1)),
        test_labels=(*[0] * 9, 1),
        repeated=3,
        skipped=("cat/1.jpg",),
        left_out=("2 .txt files",),
    )
    told = " | ".join(facts.warnings())
    for words in (
        "not used: 2 .txt files",
        "1 (cat/1.jpg)",
        "3 images of the reward and test splits",
        "'cat' has 90.0% of the test split",
    ):
        assert words in told
    assert EVEN.warnings() == []
