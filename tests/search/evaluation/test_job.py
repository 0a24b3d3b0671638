"""Evaluations as they travel: what their keys depend on."""

import hashlib
import json
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

from search.evaluation.job import EVALUATOR_VERSION, DataUse, Training
from space.reference import mobilenet_v3_small_32px
from trainer.training.recipe import Recipe

EVALUATION = Training(
    architecture=mobilenet_v3_small_32px(),
    data=DataUse(content_hash="abc", reward_fraction=0.15, split_seed=0, train_images=None, reward_images=10),
    recipe=Recipe(images=100),
    seed=3,
)


def without(content: dict[str, Any], *names: str) -> dict[str, Any]:
    """Fields that there were not in the beginning."""
    return {name: each for name, each in content.items() if name not in names}


def test_one_process_on_a_cpu_has_the_key_that_it_always_had() -> None:
    """What was recorded before GPUs, several processes and folds is still found: they are no part of the key."""
    content = {
        "architecture": EVALUATION.architecture.arch_id,
        "data": without(asdict(EVALUATION.data), "folds"),
        "recipe": without(asdict(EVALUATION.recipe or Recipe(images=1)), "body_rate", "frozen_statistics"),
        "seed": 3,
        "parent_key": None,
        "evaluator": [EVALUATOR_VERSION, version("torch")],
    }
    written = json.dumps(content, sort_keys=True)
    assert EVALUATION.key == hashlib.sha256(written.encode()).hexdigest()[:32]


def test_what_changes_a_result_changes_the_key() -> None:
    """A GPU, several processes, another seed and another recipe each have a key of their own."""
    others = [
        replace(EVALUATION, device="cuda"),
        replace(EVALUATION, processes=2),
        replace(EVALUATION, seed=4),
        replace(EVALUATION, recipe=Recipe(images=101)),
    ]
    assert len({EVALUATION.key, *(other.key for other in others)}) == 5
