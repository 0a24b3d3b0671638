"""The trials of a running search, in memory as they are recorded, with what its coordinator asks of them at each turn.

A search may have tens of thousands of trials, so counts and look-ups must not go through all of them.
"""

from collections import Counter
from collections.abc import Iterable

from search.trial import SearchStage, State, Trial
from space.arch import Architecture


class TrialIndex:
    """Trials by number; each belongs to one stage for good, its state changes."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._stages: dict[SearchStage, dict[int, Trial]] = {stage: {} for stage in SearchStage}
        self._stage_of: dict[int, SearchStage] = {}
        self._counts: Counter[tuple[SearchStage, State]] = Counter()
        self._of_arch: dict[tuple[SearchStage, str], int] = {}
        self._of_origin: dict[tuple[SearchStage, str], list[int]] = {}
        for trial in sorted(trials, key=lambda trial: trial.number):
            self.put(trial)

    def put(self, trial: Trial) -> None:
        """Add a trial of the next number, or change one."""
        before = self._stages[trial.stage].get(trial.number)
        if before is not None:
            self._counts[before.stage, before.state] -= 1
        else:
            self._of_origin.setdefault((trial.stage, trial.origin), []).append(trial.number)
        self._counts[trial.stage, trial.state] += 1
        self._stages[trial.stage][trial.number] = trial
        self._stage_of[trial.number] = trial.stage
        if trial.state is not State.PRUNED:
            self._of_arch[trial.stage, trial.architecture.arch_id] = trial.number

    @property
    def next_number(self) -> int:
        """The number of the next trial: they count from 0 without gaps."""
        return len(self._stage_of)

    def trial(self, number: int) -> Trial:
        """The trial of this number."""
        return self._stages[self._stage_of[number]][number]

    def of(self, stage: SearchStage) -> list[Trial]:
        """The trials of a stage, by number."""
        return list(self._stages[stage].values())

    def of_origin(self, stage: SearchStage, origin: str) -> list[Trial]:
        """The trials of a stage that one proposed, by number."""
        return [self._stages[stage][number] for number in self._of_origin.get((stage, origin), ())]

    def count_of_origin(self, stage: SearchStage, origin: str) -> int:
        """How many trials of a stage one proposed."""
        return len(self._of_origin.get((stage, origin), ()))

    def count(self, stage: SearchStage, *states: State) -> int:
        """How many trials of a stage are in one of these states."""
        return sum(self._counts[stage, state] for state in states)

    def last_of(self, stage: SearchStage, arch: Architecture) -> Trial | None:
        """The latest trial of a stage that trained, or trains, this network."""
        number = self._of_arch.get((stage, arch.arch_id))
        return None if number is None else self._stages[stage][number]
