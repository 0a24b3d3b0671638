"""The run folder of a search: which file is where. The record keeps the folder, and names inside it."""

from dataclasses import dataclass
from pathlib import Path

from search.trial import Trial

SPEC, WEIGHTS, MODEL = "architecture.json", "weights.safetensors", "model.onnx"
LABELS, PREPROCESS = "labels.txt", "preprocess.json"
EXPORTED = (SPEC, WEIGHTS, MODEL, LABELS, PREPROCESS)
"""What a user takes home."""
REPORT, SUMMARY = "report.md", "report.json"
CERTIFY_KIT = "certify.zip"


def weights_name(number: int) -> str:
    """The file of a trial's weights, as the record has it, inside the run folder."""
    return f"trials/{number}.safetensors"


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
    def spec(self) -> Path:
        """The found network's spec."""
        return self.path / SPEC

    @property
    def certify_kit(self) -> Path:
        """The kit that measures the final networks on a device out of reach."""
        return self.path / CERTIFY_KIT

    @property
    def start_weights(self) -> Path:
        """The weights of the network that a search starts from which is but a walk."""
        return self.path / "start.safetensors"

    def new_weights(self, number: int) -> Path:
        """Where a trial of this number leaves its weights."""
        return self.path / weights_name(number)

    def weights(self, trial: Trial) -> Path:
        """The recorded weights of a trial that has some."""
        assert trial.weights is not None
        return self.path / trial.weights

    def correct(self, trial: Trial) -> Path:
        """Which test images a final trial classified right, as bool, shape (images,)."""
        return self.trials / f"{trial.number}.right.npy"
