"""Recipes: what is shipped, their schedules and averages, and what is refused."""

import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from space.errors import InvalidConfig
from trainer.training.recipe import (
    Augmentation,
    Average,
    Cosine,
    Endless,
    Recipe,
    Schedule,
    Steps,
    load_recipe,
    parse_recipe,
    recipe_names,
)

SCHEDULES = st.one_of(
    st.builds(Cosine, warmup=st.floats(0, 1)),
    st.builds(
        Endless,
        warmup_images=st.integers(0, 3_000),
        hold_images=st.none() | st.integers(1, 3_000),
        decay=st.floats(0, 1),
    ),
    st.builds(
        Steps, warmup_images=st.integers(0, 3_000), every_epochs=st.floats(0.1, 5), factor_each=st.floats(0.5, 1)
    ),
)
RECIPES = st.builds(
    Recipe,
    images=st.integers(1, 10**9),
    batch_size=st.integers(2, 4096),
    optimizer=st.sampled_from(("sgd", "muon", "rmsprop")),
    learning_rate=st.floats(0, 1),
    schedule=SCHEDULES,
    average=st.one_of(
        st.none(),
        st.builds(Average, share=st.floats(1e-3, 0.9), batch_norm_images=st.integers(0, 5_000)),
        st.builds(Average, decay=st.floats(0.5, 0.9999)),
    ),
    augmentation=st.builds(Augmentation, flip=st.sampled_from(("none", "random", "alternate")), mixup=st.floats(0, 2)),
)


def test_shipped_recipes_are_whole() -> None:
    """The recipes that pages name are there, and each can be read."""
    assert {"proxy", "final", "fine-tune", "mobilenet-v3-imagenet", "sgd-cosine"} <= set(recipe_names())
    for name in recipe_names():
        assert load_recipe(name).steps >= 1


def test_the_paper_trains_as_it_says() -> None:
    """MobileNetV3's section 6.1: RMSprop, momentum 0.9, weight decay 1e-5, dropout 0.2, decay 0.9999, 0.1 for 4,096."""
    recipe = load_recipe("mobilenet-v3-imagenet")
    assert (recipe.optimizer, recipe.momentum, recipe.weight_decay) == ("rmsprop", 0.9, 1e-5)
    assert recipe.dropout == pytest.approx(0.2)
    assert recipe.average == Average(decay=0.9999)
    assert recipe.learning_rate / recipe.batch_size == pytest.approx(0.1 / 4096)
    epoch = 1_281_167 / recipe.batch_size
    late = round(300 * epoch)
    assert recipe.factor(late, epoch) == pytest.approx(0.99**100, rel=0.011)


def test_version_01_trains_as_it_did() -> None:
    """The recipe of version 0.1's configurations, which have none, is what all of its networks were trained by."""
    recipe = load_recipe("sgd-cosine")
    defaults = Recipe(images=recipe.images, learning_rate=0.2, augmentation=Augmentation(flip="random"))
    assert recipe == defaults


@given(RECIPES)
def test_a_recipe_survives_writing(recipe: Recipe) -> None:
    """What a record keeps of a recipe is that recipe."""
    assert parse_recipe(asdict(recipe), "a recipe") == recipe


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("learning_rat: 0.1", "learning_rat: Unexpected keyword argument"),
        ("optimizer: adam", "optimizer: .*'sgd', 'muon' or 'rmsprop'"),
        ("learning_rate: fast", "learning_rate: .*number"),
        ("images: 0", "mine.yaml'?: images is 0; it must lie between 1 and"),
        (f"images: 1{'0' * 400}", "images is a number of many digits"),
        ("batch_size: 1", "batch_size is 1; it must lie between 2 and"),
        ("dropout: 1.5", "dropout is 1.5; it must lie between 0 and 0.95"),
        ("learning_rate: .nan", "plain YAML|finite|JSON"),
        ("schedule: {kind: linear}", "schedule: .*'cosine', 'endless', 'steps'"),
        ("schedule: {kind: endless, decay: 2}", "decay is 2"),
        ("average: {}", "average needs either share or decay"),
        ("average: {share: 0.1, decay: 0.9}", "average needs either share or decay"),
        ("augmentation: {flip: sideways}", "augmentation.flip"),
        ("[1, 2]", "dictionary|object"),
        ("images: 1\nimages: 2", "images"),
        ("", "dictionary|object"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(content: str, words: str, tmp_path: Path) -> None:
    """A file that is no recipe is told with its name, the field and what would be right."""
    path = tmp_path / "mine.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidConfig, match=words) as caught:
        load_recipe(str(path))
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    """A misspelt name tells which recipes there are; a file that is too large is not read."""
    with pytest.raises(InvalidConfig, match=r"no recipe 'finale'.*final.*proxy"):
        load_recipe("finale")
    for name in ("nowhere.yaml", f"{'x' * 5000}.yaml", f"{tmp_path}.yaml"):
        with pytest.raises(InvalidConfig, match="cannot be read"):
            load_recipe(name)
    huge = tmp_path / "huge.yaml"
    huge.write_text("#" * 200_000, encoding="utf-8")
    with pytest.raises(InvalidConfig, match="at most 100000 are accepted"):
        load_recipe(str(huge))


def test_a_cosine_warms_up_and_decays() -> None:
    """The rate rises linearly over a tenth of the steps, is highest there, and falls to near zero as a cosine."""
    recipe = Recipe(images=6400, batch_size=64)
    factors = [recipe.factor(step) for step in range(recipe.steps)]
    assert len(factors) == 100
    assert factors[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert factors[10] == pytest.approx(1)
    assert factors[55] == pytest.approx(0.5), "half-way through the decay a cosine is at one half"
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0 < factors[-1] < 0.001
    assert recipe.factor(100) == pytest.approx(0)


def test_an_endless_rate_falls_with_the_root_of_the_images() -> None:
    """Four times the images that it holds for, it is half as high, and nine times a third."""
    recipe = Recipe(images=12_800, batch_size=64, schedule=Endless(warmup_images=640, hold_images=1280))
    assert [recipe.factor(step) for step in range(9, 20)] == [1.0] * 11
    assert recipe.factor(79) == pytest.approx(1 / 2)
    assert recipe.factor(179) == pytest.approx(1 / 3)


def test_an_endless_rate_decays_at_its_end() -> None:
    """It rises over the first 640 images, stays, and falls linearly over the last fifth."""
    recipe = Recipe(images=6400, batch_size=64, schedule=Endless(warmup_images=640, decay=0.2))
    factors = [recipe.factor(step) for step in range(recipe.steps)]
    assert factors[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert factors[10:81] == [1.0] * 71
    assert factors[80:] == pytest.approx([1 - step / 20 for step in range(20)])


@given(RECIPES, st.integers(1, 10_000), st.floats(1, 1000))
def test_every_schedule_stays_in_bounds(recipe: Recipe, steps: int, epoch_steps: float) -> None:
    """However short the training, every step has a rate between 0 and the given one, and the first one is above 0."""
    recipe = replace(recipe, images=steps * recipe.batch_size)
    factors = [recipe.factor(step, epoch_steps) for step in range(min(steps, 50))]
    assert all(0 <= factor <= 1 + 1e-12 for factor in factors)
    assert factors[0] > 0


@given(SCHEDULES, st.integers(1, 200), st.integers(1, 200), st.integers(0, 200))
def test_what_may_go_on_was_trained_alike(schedule: Schedule, first: int, second: int, step: int) -> None:
    """Where a longer training may go on from a shorter one, both had the same rate in every step so far."""
    assume(step <= min(first, second))
    one, other = (Recipe(images=16 * steps, batch_size=16, schedule=schedule) for steps in (first, second))
    if other.continues(one, step):
        rates = [[recipe.factor(each, 10.0) for each in range(step)] for recipe in (one, other)]
        assert rates[0] == pytest.approx(rates[1])


def test_a_race_goes_on_and_a_cosine_does_not() -> None:
    """An endless rate may go on for longer until it decays, an unchanged recipe always, another one never."""
    rung = Recipe(images=3_000, schedule=Endless(warmup_images=500))
    longer = replace(rung, images=12_000)
    ended = replace(longer, schedule=Endless(warmup_images=500, decay=0.25))
    assert longer.continues(rung, rung.steps)
    assert ended.continues(rung, rung.steps), "until its decay begins"
    assert not longer.continues(ended, ended.steps), "it has decayed"
    assert longer.continues(ended, round(ended.steps * 0.7))
    assert not replace(longer, batch_size=32).continues(rung, 10)
    assert not replace(longer, dropout=0.1).continues(rung, 10)
    cosine = Recipe(images=3_000)
    assert cosine.continues(cosine, 20)
    assert not replace(cosine, images=6_000).continues(cosine, 20)


def test_averages_reach_back_as_far_as_they_say() -> None:
    """A share of 0.1 is the mean over about the last tenth; a decay is TensorFlow's, shorter in the beginning."""
    share, weights = Average(share=0.1), [1.0]
    for step in range(1, 1000):
        newest = share.newest(step)
        weights = [weight * (1 - newest) for weight in weights] + [newest]
    age = sum((999 - step) * weight for step, weight in enumerate(weights))
    assert sum(weights) == pytest.approx(1)
    assert age == pytest.approx(90, rel=0.15)
    decay = Average(decay=0.9999)
    assert decay.newest(0) == pytest.approx(0.9)
    assert decay.newest(10**6) == pytest.approx(1e-4)
    assert math.isclose(share.newest(0), 1.0)
