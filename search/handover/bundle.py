"""A folder to hand over: beside what every export has, programs, a card, and pictures with what the network says."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from search.evaluation.data import Data, Images
from search.plan import look_up
from search.reports.headline import headline
from search.reports.history import History
from search.reports.markdown import comparison
from search.reports.recorded_search import RecordedSearch
from search.stages.exported import ExportedNetwork
from search.trial import Origin, SearchStage, Trial
from space.cost import cost_of
from space.errors import DataError, RunError
from trainer.data.pictures import load_picture
from trainer.data.preprocess import Preprocess
from trainer.pretrained.downloads import licence_of
from trainer.training.metrics import wilson_interval

PROGRAMS = ("classify.py", "run_me.py")
REQUIREMENTS = "numpy\npillow\nonnxruntime>=1.15\n"
EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The card, and pictures with their labels."""

    card: str
    examples: tuple[tuple[Image.Image, str], ...]

    @classmethod
    def of(cls, recorded: RecordedSearch, trial: Trial, labels: Sequence[str], preprocess: Preprocess) -> "Bundle":
        """Of a trial, before anything is written.

        Raises:
            RunError: the data of the search have changed, so that there are no pictures to try the network on.
        """
        held_out = _held_out(recorded, preprocess)
        return cls(card=_card(recorded, trial, labels, preprocess), examples=tuple(held_out))

    def write(self, folder: Path) -> list[str]:
        """Add to the folder that the trial was exported into; returns the names of what was added."""
        for name in PROGRAMS:
            content = files("search.handover").joinpath(name).read_text(encoding="utf-8")
            (folder / name).write_text(content, encoding="utf-8")
        (folder / "requirements.txt").write_text(REQUIREMENTS, encoding="utf-8")
        (folder / "README.md").write_text(self.card, encoding="utf-8")
        _write_examples(self.examples, folder)
        return [*PROGRAMS, "requirements.txt", "README.md", "examples"]


def _write_examples(pictures: Iterable[tuple[Image.Image, str]], folder: Path) -> None:
    """With what the exported network says of each file."""
    exported, examples = ExportedNetwork(folder), folder / "examples"
    examples.mkdir()
    expected = []
    for number, (picture, label) in enumerate(pictures, start=1):
        path = examples / f"{number}.png"
        picture.save(path)
        said = exported.probabilities(load_picture(path, exported.preprocess))
        expected.append({"picture": path.name, "label": label, "probabilities": [round(float(p), 6) for p in said]})
    (examples / "expected.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n", encoding="utf-8")


def _held_out(recorded: RecordedSearch, preprocess: Preprocess) -> list[tuple[Image.Image, str]]:
    """Pictures of the test split, of different classes, as they are before they are padded, with their labels."""
    try:
        data: Data | None = look_up(recorded.config).data
    except DataError:  # which is gone
        data = None
    if not isinstance(data, Images) or data.content != recorded.start.data_hash:
        raise RunError(
            f"the data of search '{recorded.record.name}' are not what they were ({recorded.start.data_hash}), and "
            "there are no pictures to try its network on; restore them, or export without --bundle"
        )
    images, labels, pad = data.dataset.images(), data.dataset.labels(), preprocess.pad
    test = data.splits.test
    _, first = np.unique(labels[test], return_index=True)
    # Of different classes as far as there are some.
    others = np.setdiff1d(np.arange(len(test)), first)
    chosen = test[np.concatenate([np.sort(first), others])[:EXAMPLES]]
    found = []
    for index in chosen:
        inner = images[index][:, pad : preprocess.resolution - pad, pad : preprocess.resolution - pad]
        picture = Image.fromarray(inner[0] if len(inner) == 1 else np.moveaxis(inner, 0, -1))
        found.append((picture, data.dataset.classes[int(labels[index])]))
    return found


def _card(recorded: RecordedSearch, trial: Trial, labels: Sequence[str], images: Preprocess) -> str:
    """The model card: what it is, where it comes from, how good and how fast it is, how it is run."""
    arch, record, history = trial.architecture, recorded.record, History.read(recorded.store, recorded.record.name)
    cost, start = cost_of(arch), recorded.config.netadapt.start
    is_found = trial.origin == Origin.FOUND and trial.number == recorded.found.number
    said = headline(history) if is_found else None
    shown = ", ".join(labels[:10]) + (", …" if len(labels) > 10 else "")
    facts = [
        ("network", f"architecture {arch.arch_id}, {cost.params:,} parameters, {cost.madds / 1e6:.2f} M multiply-adds"),
        ("input", f"pictures, {images.channels}, {images.resolution} px (preprocess.json)"),
        ("output", f"{len(labels)} classes (labels.txt): {shown}"),
        ("found by", f"search `{record.name}`, trial {trial.number}"),
        ("trained on", f"`{recorded.config.data.source}` (content hash {recorded.start.data_hash})"),
        ("images seen in training", f"{trial.images_seen:,}"),
        *_recipe(recorded, trial),
        *([] if start is None else [("began with", f"weights of SHA-256 {start.weights}")]),
        *_begun(recorded.config.init),
        *_scores(recorded, trial),
        *_latencies(recorded, trial),
        ("licence", "not stated: fill in, with that of the data"),
    ]
    return "\n".join(
        [
            f"# An image classifier for {len(labels)} classes",
            "",
            *([said, ""] if said else []),
            *_table([["", ""], *([name, value] for name, value in facts)]),
            "",
            *(["Beside what it is compared with:", "", *_table(comparison(recorded)), ""] if is_found else []),
            "## Running it",
            "",
            "```sh",
            "pip install -r requirements.txt",
            "python run_me.py                 # says whether it computes here what it did where it was made",
            "python classify.py PICTURE ...   # a program to begin your own from",
            "```",
            "",
            "`model.onnx` holds labels and preprocessing in its metadata, too. `model.py` is the network in torch, for "
            "`weights.safetensors`. Pictures in `examples/` are of the test split, which it was not trained on.",
            "",
        ]
    )


def _recipe(recorded: RecordedSearch, trial: Trial) -> list[tuple[str, str]]:
    """How it was trained in the end; who left the race before was trained by its rungs' recipe."""
    config = recorded.config
    if config.own_evaluator is not None:
        return []
    recipe = config.final_recipe if trial.stage is SearchStage.FINAL else config.proxy_recipe
    if trial.stage is SearchStage.NETADAPT or (trial.parent is not None and config.final.weights == "inherited"):
        recipe = config.fine_tuning_recipe
    said = f"{recipe.optimizer}, {recipe.schedule.kind}, batches of {recipe.batch_size}, seed {config.training.seed}"
    return [("trained by", said)]


def _begun(init: str | None) -> list[tuple[str, str]]:
    if init is None:
        return []
    licence = licence_of(init)
    return [
        ("began with", f"what it shares with {init}"),
        *([] if licence is None else [("licence of those weights", licence)]),
    ]


def _latencies(recorded: RecordedSearch, trial: Trial) -> list[tuple[str, str]]:
    """On each device that the search was for, or by a user's own function."""
    if not recorded.devices:
        return [("latency", f"{trial.scores.latency_ms:.3f} ms by {recorded.config.latency}")]
    return [
        (f"latency on {each.table.device.processor}", f"{recorded.predicted_ms(trial, each):.3f} ms predicted, batch 1")
        for each in recorded.devices
    ]


def _scores(recorded: RecordedSearch, trial: Trial) -> list[tuple[str, str]]:
    if not trial.total:
        judged = recorded.config.judge.of_stage(trial.stage)
        return [] if trial.scores.top1 is None else [("accuracy", f"{trial.scores.top1:.2%} ({judged})")]
    low, high = wilson_interval(trial.correct or 0, trial.total)
    share = (trial.correct or 0) / trial.total
    return [("top-1", f"{share:.2%} (95%: {low:.2%} to {high:.2%}) on {trial.total:,} images of the test split")]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *others = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *others)]
