"""Judging a network, and what is kept of it: a byte per image."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from space.errors import DataError, Diverged
from tests.trainer.training.stripes import ARCH
from trainer.data.dataset import Dataset
from trainer.data.splits import Splits
from trainer.training.batches import Images
from trainer.training.judgement import Judgement
from trainer.training.judging import judge, predict
from trainer.training.networks import new_model

PROBABILITIES = st.lists(st.tuples(st.booleans(), st.floats(1e-12, 1)), min_size=1, max_size=60)


def judgement_of(pairs: list[tuple[bool, float]]) -> Judgement:
    """From whether each image is right, and its right class's probability."""
    return Judgement(
        right=np.array([right for right, _ in pairs]),
        log_likelihoods=np.log(np.array([probability for _, probability in pairs])),
    )


def test_judging_is_torchs_cross_entropy(stripes: Dataset, splits: Splits) -> None:
    """Log-likelihood is minus torch's cross entropy, probability that of its softmax, top-1 that of the largest."""
    model = new_model(ARCH, 3).eval()
    found = judge(model, stripes, splits.test)
    inputs, labels = Images(stripes).batch(splits.test)
    with torch.inference_mode():
        logits = model(inputs)
    assert found.log_likelihood == pytest.approx(-float(functional.cross_entropy(logits, labels)), rel=1e-4)
    right_class = logits.softmax(1).gather(1, labels[:, None])
    assert found.probability == pytest.approx(float(right_class.mean()), rel=1e-4)
    assert found.top1 == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
    assert len(found) == len(splits.test)


def test_predictions_do_not_depend_on_batches(stripes: Dataset, splits: Splits) -> None:
    """Predictions are the same however many images there are, and top-1 counts those that are right."""
    model = new_model(ARCH, 3)
    many = np.tile(splits.test, 5)  # more than one batch
    found = predict(model, stripes, many)
    assert len(many) > 250
    np.testing.assert_array_equal(found, np.tile(predict(model, stripes, splits.test), 5))
    right = sum(int(a) == int(b) for a, b in zip(found, stripes.labels()[many], strict=True))
    assert judge(model, stripes, many).top1 == pytest.approx(right / len(many))


@given(PROBABILITIES)
def test_a_byte_keeps_an_image(pairs: list[tuple[bool, float]]) -> None:
    """Right or wrong is kept as it is, and each loss to 5.2 % of itself, or to 1e-4 where it is next to nothing."""
    judgement = judgement_of(pairs)
    kept = Judgement.from_bytes(judgement.to_bytes())
    assert len(judgement.to_bytes()) == len(pairs)
    np.testing.assert_array_equal(kept.right, judgement.right)
    np.testing.assert_allclose(kept.log_likelihoods, judgement.log_likelihoods, rtol=0.052, atol=1e-4)


def test_means_of_bytes_are_those_of_the_images() -> None:
    """Over 5,000 images the mean log-likelihood that is kept is within 0.2 % of the real one."""
    rng = np.random.default_rng(0)
    losses = rng.exponential(0.3, 5_000) ** 2
    judgement = Judgement(right=losses < math.log(2), log_likelihoods=-losses)
    kept = Judgement.from_bytes(judgement.to_bytes())
    assert kept.log_likelihood == pytest.approx(judgement.log_likelihood, rel=2e-3)
    assert kept.probability == pytest.approx(judgement.probability, rel=1e-3)
    assert kept.top1 == judgement.top1


def test_every_byte_is_a_judgement() -> None:
    """Whatever a file holds, an image's log-likelihood is between minus 34 and 0; no image at all is refused."""
    found = Judgement.from_bytes(bytes(range(256)))
    assert found.right.sum() == 128
    assert found.log_likelihoods.max() == 0
    assert found.log_likelihoods.min() > -34
    assert Judgement.from_bytes(found.to_bytes()).to_bytes() == bytes(range(256))
    with pytest.raises(DataError, match="no images"):
        Judgement.from_bytes(b"")


def test_a_network_that_gives_no_numbers_is_no_judge(stripes: Dataset, splits: Splits) -> None:
    """Weights that are not a number are an error, and not certainty."""
    model = new_model(ARCH, 0)
    torch.nn.init.constant_(model.get_parameter("head.classifier.linear.bias"), math.nan)
    with pytest.raises(Diverged, match="no numbers"):
        judge(model, stripes, splits.test)


def test_balanced_accuracy_weighs_classes_alike() -> None:
    """90 right of 90 and 5 right of 10 are 95 % of the images and 75 % of the classes."""
    judgement = Judgement(right=np.array([True] * 95 + [False] * 5), log_likelihoods=np.zeros(100))
    labels = np.array([0] * 90 + [1] * 10)
    assert judgement.top1 == pytest.approx(0.95)
    assert judgement.balanced(labels) == pytest.approx(0.75)
