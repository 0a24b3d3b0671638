"""What kits say of a race's finalists: who meets the target, by how much it is missed, and who would be next."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from search.objective.latency import Goal
from search.reports.recorded_search import RecordedSearch
from search.stages.limits import end_latency_ms
from search.stages.race import kits
from search.stages.race.finalists import hopeful, next_to_measure
from search.stages.race.rungs import winners
from search.stages.race.screening import name_of
from search.tables import settings_for
from search.trial import SearchStage, Trial
from space.errors import RunError


def awaiting_finalists(recorded: RecordedSearch) -> "Verdict | None":
    """The verdict so far, where a race was left before its final training for a kit to measure its finalists."""
    if recorded.record.start is None or recorded.record.stage is not SearchStage.FINAL:
        return None
    if kits.number_of_last(recorded.files) < 0 or recorded.trials(SearchStage.FINAL):
        return None
    carried = [
        device
        for device in recorded.devices
        if settings_for(recorded.store, recorded.config.device.named(device.name)).is_kit
    ]
    return Verdict(recorded, carried) if carried else None


@dataclass(frozen=True)
class Verdict:
    """What is known of a search's finalists on the devices that people carry kits to."""

    recorded: RecordedSearch
    devices: Sequence[Goal]

    @cached_property
    def waiting(self) -> list[Goal]:
        """The devices that have yet to run the last kit."""
        return kits.waiting(self.recorded.files, self.devices)

    @cached_property
    def _best(self) -> list[Trial]:
        return winners(self.recorded)

    @cached_property
    def _highest(self) -> dict[str, float]:
        """The upper ends of what all devices have measured, by name: the largest shares, in ms of the first device."""
        first_ms, highest = self.recorded.devices[0].target_ms, {}
        for said in kits.by_kit(self.recorded.files, self.devices).values():
            wholes = [
                (kits.whole_of(self.recorded.config, device, each), first_ms / device.target_ms)
                for device, each in zip(self.devices, said, strict=True)
            ]
            for name in wholes[0][0]:
                highest[name] = max(found[name].high_ms * factor for found, factor in wholes)
        return highest

    @property
    def _measured(self) -> list[Trial]:
        return [trial for trial in self._best if name_of(trial) in self._highest]

    @property
    def _within(self) -> list[Trial]:
        target_ms = end_latency_ms(self.recorded)
        return [trial for trial in self._measured if self._highest[name_of(trial)] <= target_ms]

    @cached_property
    def _following(self) -> list[Trial]:
        return next_to_measure(self.recorded, self._best, self._highest)

    def in_words(self) -> str:
        """What the kits have said so far, and what is to be done."""
        name = self.recorded.record.name
        if self.waiting:
            instead = f"; or go on with what was measured: mobilenas resume {name}" if self._highest else ""
            return f"{kits.what_to_do(self.recorded, self.waiting)}{instead}"
        target_ms, measured = end_latency_ms(self.recorded), self._measured
        on = " and ".join(f"'{device.name}'" for device in self.devices)
        if self._within:
            return (
                f"{len(self._within)} of {len(measured)} finalists meet the target of {target_ms:.3f} ms as measured "
                f"on {on}; go on with: mobilenas resume {name}"
            )
        fastest = min(measured, key=lambda trial: self._highest[name_of(trial)])
        missed = self._highest[name_of(fastest)] / target_ms - 1
        return (
            f"the target of {target_ms:.3f} ms is missed by {missed:.1%} on {on}, by the fastest of {len(measured)} "
            f"finalists, trial {fastest.number}, with the upper end of its interval; {self._further()}"
            f"{self._instead()}: mobilenas resume {name}"
        )

    def _further(self) -> str:
        if not self._following:
            return ""
        name, expecting = self.recorded.record.name, hopeful(self.recorded, self._best, self._highest)
        # They come first, and may be more than one kit takes.
        expected = f"{min(len(expecting), len(self._following)) or 'none'} of them expected to meet it"
        return f"measure {len(self._following)} others, {expected}: mobilenas certify {name} --again; or "

    def _instead(self) -> str:
        target_ms = end_latency_ms(self.recorded)
        meets = any(name.startswith(kits.SCALED) and ms <= target_ms for name, ms in self._highest.items())
        return "train the scaled reference, which meets it" if meets else "train that one all the same"

    def measure_others(self) -> str:
        """Make the kit of the next finalists, and return what is to be done with it.

        Raises:
            RunError: the last kit is not run yet, or some finalist meets the target, or there are no others.
        """
        recorded, name = self.recorded, self.recorded.record.name
        if self.waiting:
            kits.make_again(recorded)
            raise RunError(f"the finalists of '{name}' are not measured yet: {self.in_words()}")
        if self._within:
            raise RunError(f"{self.in_words()}; no others are wanted")
        if not self._following:
            raise RunError(
                f"all networks that the race of '{name}' has left are measured; {self._instead()} with: "
                f"mobilenas resume {name}, or search again with a higher target"
            )
        ((first, *_), *_) = kits.by_kit(recorded.files, self.devices).values()
        following = {name_of(trial): trial.architecture for trial in self._following}
        networks = {**following, **kits.scaled_of(first)}
        kits.make(recorded, self.devices, networks, kits.reference_of(first))
        return kits.what_to_do(recorded, self.devices)
