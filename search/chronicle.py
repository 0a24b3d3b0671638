"""A search as the record tells it: what reports and certificates are made from."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from latency.table import LatencyTable
from search.config import RunConfig, parse_config
from search.record import Begun, SearchRecord
from search.store import Store
from search.trial import NetworkMeasurement, Stage, State, Trial
from space.errors import RunError
from trainer.metrics import Difference, paired_difference

FOUND, REFERENCE = "found", "reference"


def final_trial(trials: list[Trial], origin: str) -> Trial | None:
    """The completed final trial of the found network or of the reference, if there is one."""
    return next((trial for trial in trials if trial.origin == origin and trial.state is State.COMPLETE), None)


@dataclass(frozen=True)
class Chronicle:
    """One search that has begun, read from the record when it is asked."""

    store: Store
    record: SearchRecord

    @classmethod
    def read(cls, store: Store, name: str) -> "Chronicle":
        """The search of this name as it now stands."""
        return cls(store, store.search(name))

    @property
    def begun(self) -> Begun:
        """What is known since it began."""
        return self.record.has_begun()

    @cached_property
    def config(self) -> RunConfig:
        """Its configuration."""
        return parse_config(dict(self.record.config))

    @cached_property
    def table(self) -> LatencyTable:
        """The table of its predictions."""
        return self.store.load_table(self.begun.table_id)

    @cached_property
    def _trials(self) -> list[Trial]:
        return self.store.trials(self.record.id)

    def trials(self, stage: Stage) -> list[Trial]:
        """The trials of a stage, by number."""
        return [trial for trial in self._trials if trial.stage is stage]

    def trial(self, number: int) -> Trial:
        """A trial by its number."""
        return next(trial for trial in self._trials if trial.number == number)

    def both(self) -> tuple[Trial, Trial]:
        """The completed final trials: found, reference.

        Raises:
            RunError: the search has not trained them yet.
        """
        trials = self.trials(Stage.FINAL)
        found, reference = final_trial(trials, FOUND), final_trial(trials, REFERENCE)
        if found is None or reference is None:
            name = self.record.name
            raise RunError(f"search '{name}' has no final networks yet; see: mobilenas status {name}")
        return found, reference

    def measurements(self) -> dict[int, NetworkMeasurement]:
        """What was measured whole on the device, by trial; empty until the search is certified."""
        return {found.trial: found for found in self.store.network_measurements(self.record.id)}

    def warnings(self) -> list[str]:
        """What speaks against the final measurement, such as a throttled device; a sentence each."""
        lines = self.store.log(self.record.id)
        return [f"Warning: {line.message}." for line in lines if line.level == "warning" and line.event == "note"]

    def weights_file(self, trial: Trial) -> Path:
        """Where a completed trial's weights are."""
        assert trial.weights is not None
        return self.begun.run_folder / trial.weights

    def right_file(self, trial: Trial) -> Path:
        """Where a final trial keeps which test images it classified right."""
        return right_file(self.begun.run_folder, trial)

    def difference(self) -> Difference:
        """Top-1 on the test split, found minus reference, on the same images."""
        found, reference = (np.load(self.right_file(trial), allow_pickle=False) for trial in self.both())
        return paired_difference(found, reference)


def right_file(run_folder: Path, trial: Trial) -> Path:
    """Where a final trial keeps which test images it classified right."""
    return run_folder / "trials" / f"{trial.number}.right.npy"
