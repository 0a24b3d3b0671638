"""The run folder of a search: which file is where. The record keeps the folder, and names inside it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search.trial import Trial
from trainer.training.judgement import Judgement

SPEC, WEIGHTS, MODEL = "architecture.json", "weights.safetensors", "model.onnx"
LABELS, PREPROCESS = "labels.txt", "preprocess.json"
FOLDER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""What a run may be named."""
SUPERNET_WEIGHTS = "supernet.safetensors"
TEMPERATURE = "temperature"
"""In the metadata of an exported ONNX file."""
EXPORTED = (SPEC, WEIGHTS, MODEL, LABELS, PREPROCESS)
"""What a user takes home."""
REPORT, SUMMARY, PAGE = "report.md", "report.json", "report.html"
CERTIFY_KIT, FINALISTS_KIT = KITS = "certify.zip", "finalists.zip"


def weights_name(number: int) -> str:
    """The file of a trial's weights, as the record has it, inside the run folder."""
    return f"trials/{number}.safetensors"


def supernet_file(named: str) -> Path:
    """The file of a supernet that is named by its folder, or by itself."""
    path = Path(named)
    return path / SUPERNET_WEIGHTS if path.is_dir() else path


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of one search."""

    path: Path

    @property
    def trials(self) -> Path:
        """The folder of what belongs to single trials."""
        return self.path / "trials"

    @property
    def report(self) -> Path:
        """The report as Markdown."""
        return self.path / REPORT

    @property
    def summary(self) -> Path:
        """The report for programs."""
        return self.path / SUMMARY

    @property
    def page(self) -> Path:
        """The report to look at in a browser."""
        return self.path / PAGE

    @property
    def spec(self) -> Path:
        """The found network's spec."""
        return self.path / SPEC

    @property
    def certify_kit(self) -> Path:
        """The kit that measures the final networks on a device out of reach."""
        return self.path / CERTIFY_KIT

    @property
    def finalists_kit(self) -> Path:
        """The kit that measures the finalists of a race on a device out of reach."""
        return self.path / FINALISTS_KIT

    @property
    def finalists_manifest(self) -> Path:
        """What is in that kit, and from which it can be made again."""
        return self.path / "finalists.json"

    @property
    def returned_folder(self) -> Path:
        """Where the results of such kits are kept."""
        return self.path / "returned"

    def returned(self, device: str, number: int) -> Path:
        """The results of the kit of this number from a device."""
        return self.returned_folder / f"{device}-{number}.json"

    @property
    def start_weights(self) -> Path:
        """The weights of the network that a mere walk starts from, or that all networks of a search begin with."""
        return self.path / "start.safetensors"

    @property
    def present_model(self) -> Path:
        """The user's present model, an ONNX file."""
        return self.path / "present.onnx"

    @property
    def present_facts(self) -> Path:
        """What it is called, its labels, and how it takes pictures."""
        return self.path / "present.json"

    @property
    def present_tested(self) -> Path:
        """What it says of the images of the test split: a byte per image."""
        return self.path / "present.tested"

    @property
    def supernet(self) -> Path:
        """The supernet by whose weights a search judges networks."""
        return self.path / SUPERNET_WEIGHTS

    @property
    def given(self) -> tuple[Path, ...]:
        """Copies of what a search is given when it begins."""
        return (self.start_weights, self.supernet, self.present_model, self.present_facts)

    def new_weights(self, number: int) -> Path:
        """Where a trial of this number leaves its weights."""
        return self.path / weights_name(number)

    def weights(self, trial: Trial) -> Path:
        """The recorded weights of a trial that has some."""
        assert trial.weights is not None
        return self.path / trial.weights

    def checkpoint(self, number: int) -> Path:
        """What the training of a trial goes on from."""
        return self.trials / f"{number}.checkpoint"

    def judged(self, number: int) -> Path:
        """What a trial's network says of the images of the reward split that judge it: a byte per image."""
        return self.trials / f"{number}.judged"

    def tested(self, number: int) -> Path:
        """What a final network says of the images of the test split: a byte per image."""
        return self.trials / f"{number}.tested"

    def right_of(self, number: int) -> np.ndarray:
        """Which test images a final network classified right: bool, shape (images,).

        Raises:
            OSError: it cannot be read.
            ValueError: what is there is no such file.
            DataError: the file is empty.
        """
        try:
            return Judgement.from_bytes(self.tested(number).read_bytes()).right
        except FileNotFoundError:
            # As version 0.1 kept it.
            right: np.ndarray = np.load(self.trials / f"{number}.right.npy", allow_pickle=False)
            return right
