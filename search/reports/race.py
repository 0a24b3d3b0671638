"""A race as it stands: who is on which rung, and who leads there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from search.trial import Origin, SearchStage, State, Trial

NOT_IN_RACE = (Origin.REFERENCE, Origin.START)
"""What is compared with those that race, or what they begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """Trainings up to so many images; of those that have ended the largest log-likelihood comes first."""

    images: int
    wanted: int
    running: int
    ended: tuple[Trial, ...]


def rungs_of(config: Mapping[str, Any], trials: Iterable[Trial]) -> tuple[Rung, ...]:
    """The rungs of a search by its recorded configuration, none where it does not race."""
    settings = (config.get("race") or {}).get("rungs") or ()
    raced = [trial for trial in trials if trial.stage is SearchStage.BLOCKS and trial.origin not in NOT_IN_RACE]

    def rung(number: int, images: int, wanted: int) -> Rung:
        here = [trial for trial in raced if trial.rung == number]
        ended = [trial for trial in here if trial.state is State.COMPLETE]
        return Rung(
            images=images,
            wanted=wanted,
            running=sum(trial.state is State.RUNNING for trial in here),
            ended=tuple(sorted(ended, key=lambda trial: (-_likelihood(trial), trial.number))),
        )

    return tuple(rung(number, each["images"], each["networks"]) for number, each in enumerate(settings))


def furthest(trials: Iterable[Trial]) -> list[Trial]:
    """Of each network the training that went furthest, by number.

    Those of NetAdapt are each step's proposals, without the network that they are compared with.
    """
    last: dict[object, Trial] = {}
    for trial in trials:
        if trial.origin == Origin.UNCHANGED:
            continue
        step = trial.iteration if trial.stage is SearchStage.NETADAPT else None
        key = trial.number if trial.stage is SearchStage.FINAL else (trial.stage, step, trial.architecture.arch_id)
        if key not in last or (trial.rung, trial.images_seen) > (last[key].rung, last[key].images_seen):
            last[key] = trial
    return sorted(last.values(), key=lambda trial: trial.number)


def _likelihood(trial: Trial) -> float:
    return float("-inf") if trial.scores.log_likelihood is None else trial.scores.log_likelihood
