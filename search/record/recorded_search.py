"""A search as the record tells it: what reports and certificates are made from."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from latency.table import LatencyTable
from search.config.load import NO_DATA, RunConfig, parse_config
from search.record.rows import SearchRecord, SearchStart
from search.record.store import Store
from search.trial import NetworkMeasurement, Origin, SearchStage, State, Trial
from space.errors import RunError
from trainer.metrics import Difference, paired_difference


def complete_final(trials: list[Trial], origin: str) -> Trial | None:
    """The completed final trial of the found network or of the reference, if there is one."""
    return next((trial for trial in trials if trial.origin == origin and trial.state is State.COMPLETE), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTarget:
    """A device that a network has to serve: its latency table, and what must be met there, ms."""

    table_id: int
    table: LatencyTable
    target_ms: float

    @property
    def name(self) -> str:
        """The user's name for it."""
        return self.table.device.name


@dataclass(frozen=True)
class RecordedSearch:
    """One search that has begun, read from the record when it is asked."""

    store: Store
    record: SearchRecord

    @classmethod
    def read(cls, store: Store, name: str) -> "RecordedSearch":
        """The search of this name as it now stands."""
        return cls(store, store.searches.get(name))

    @property
    def start(self) -> SearchStart:
        """What is known since it began."""
        return self.record.require_start()

    @cached_property
    def config(self) -> RunConfig:
        """Its configuration."""
        return parse_config(dict(self.record.config))

    @cached_property
    def devices(self) -> tuple[DeviceTarget, ...]:
        """The devices of its predictions, first the one in whose ms all figures are; none where a function predicts."""
        start = self.start
        if start.table_id is None:
            return ()
        further = self.store.searches.further_targets(self.record.id)
        targets = [(start.table_id, start.target_ms), *((each.table_id, each.target_ms) for each in further)]
        return tuple(
            DeviceTarget(table_id=table_id, table=self.store.tables.load(table_id), target_ms=target_ms)
            for table_id, target_ms in targets
        )

    @property
    def fingerprint(self) -> str:
        """What identifies the devices of its predictions, or the user's own function."""
        return " ".join(each.table.device.fingerprint for each in self.devices) or str(self.config.latency)

    def predicted_ms(self, trial: Trial, device: "DeviceTarget") -> float:
        """A trial's predicted latency on one of the devices."""
        if len(self.devices) == 1:
            return trial.scores.latency_ms
        return self._latencies[trial.number][device.table_id]

    @cached_property
    def _latencies(self) -> dict[int, dict[int, float]]:
        return self.store.trials.latencies(self.record.id)

    @cached_property
    def _trials(self) -> list[Trial]:
        return self.store.trials.of(self.record.id)

    def trials(self, stage: SearchStage) -> list[Trial]:
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
        trials = self.trials(SearchStage.FINAL)
        found, reference = complete_final(trials, Origin.FOUND), complete_final(trials, Origin.REFERENCE)
        if found is None or reference is None:
            name = self.record.name
            raise RunError(f"search '{name}' has no final networks yet; see: mobilenas status {name}")
        return found, reference

    def measurements(self, device: "DeviceTarget") -> dict[int, NetworkMeasurement]:
        """What was measured whole on a device, by trial; empty until the search is certified there."""
        found = self.store.trials.measurements(self.record.id)
        return {each.trial: each for each in found if each.table_id == device.table_id}

    @property
    def has_finals(self) -> bool:
        """Whether networks were trained in the end: not where a user's own evaluator had no data."""
        return self.config.data.source != NO_DATA

    @property
    def best_spec(self) -> Trial:
        """The trial whose spec was exported where nothing was trained."""
        return self.trial(self.store.trials.exports(self.record.id)[0].trial)

    @property
    def has_ended(self) -> bool:
        """Whether it has its network, certified or not."""
        return self.record.stage in (SearchStage.AWAITING, SearchStage.DONE)

    @property
    def found(self) -> Trial:
        """The trial whose network a search ended with.

        Raises:
            RunError: the search has not trained it yet.
        """
        return self.both()[0] if self.has_finals else self.best_spec

    @property
    def is_certified(self) -> bool:
        """Whether the final networks were measured on every device."""
        return all(self.measurements(device) for device in self.devices)

    def warnings(self) -> list[str]:
        """What speaks against the final measurement, such as a throttled device; a sentence each."""
        lines = self.store.searches.log(self.record.id)
        return [f"Warning: {line.message}." for line in lines if line.level == "warning" and line.event == "note"]

    def weights_file(self, trial: Trial) -> Path:
        """Where a completed trial's weights are."""
        assert trial.weights is not None
        return self.start.run_folder / trial.weights

    def right_file(self, trial: Trial) -> Path:
        """Where a final trial keeps which test images it classified right."""
        return right_file(self.start.run_folder, trial)

    def difference(self) -> Difference:
        """Top-1 on the test split, found minus reference, on the same images."""
        found, reference = (np.load(self.right_file(trial), allow_pickle=False) for trial in self.both())
        return paired_difference(found, reference)


def right_file(run_folder: Path, trial: Trial) -> Path:
    """Where a final trial keeps which test images it classified right."""
    return run_folder / "trials" / f"{trial.number}.right.npy"
