"""Asking a sampler for the next network to evaluate: what is over a limit or was tried already is told back at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from search.objective.latency import scores_of
from search.objective.limits import Cause, Refusal
from search.objective.objective import Objective
from search.samplers.proposer import Proposed, Proposer
from search.trial import Scores, State, Trial
from space.arch import Architecture

# Proposals refused in a row before the search gives up: the sampler then cannot find the feasible part of the space.
MAX_REFUSED = 2000


class Stuck(Exception):
    """So many proposals in a row were refused, most of them for this cause."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(f"{MAX_REFUSED} proposals in a row were refused: {cause.value}")
        self.cause = cause


class NewTrial(Protocol):
    """Records a trial of the next number: running, or pruned where it is refused."""

    def __call__(
        self, arch: Architecture, *, scores: Scores, proposed: Proposed | None, refusal: Refusal | None
    ) -> Trial:
        """The trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The loop of ask, admit and tell that a search shares with the comparison of samplers.

    `last_of` gives the latest trial of a network, `next_number` the number of the next trial, and `stopping` ends it.
    `stands_for` gives the network that is evaluated where another one is proposed.
    """

    proposer: Proposer
    objective: Objective
    new_trial: NewTrial
    next_number: Callable[[], int]
    last_of: Callable[[Architecture], Trial | None]
    stopping: Callable[[], bool] = lambda: False
    stands_for: Callable[[Architecture], Architecture] = lambda arch: arch

    def admit(
        self, arch: Architecture, *, proposed: Proposed | None = None, again: bool = False
    ) -> tuple[Trial, Refusal | None]:
        """A new trial of a network, with the reason why it is not evaluated; `again` allows what failed before."""
        scores = scores_of(arch, self.objective.latency)
        # Who asks for a network by name may have it however fast it is.
        refusal = self.objective.limits.refusal(scores) if proposed is None else self.objective.refusal(scores)
        before = self.last_of(arch)
        if refusal is None and before is not None and not (again and before.state is State.FAILED):
            refusal = Refusal(cause=Cause.DUPLICATE, reason=f"it was tried already, as trial {before.number}")
        return self.new_trial(arch, scores=scores, proposed=proposed, refusal=refusal), refusal

    def ask(self) -> Trial | None:
        """The next proposal that is to be evaluated, None where the search is stopping.

        Raises:
            Exhausted: the sampler has nothing left to propose.
            Stuck: too many proposals in a row were refused.
        """
        refused = dict.fromkeys(Cause, 0)
        while not self.stopping():
            proposed = self.proposer.ask(self.next_number())
            arch = self.stands_for(self.objective.encoding.space.architecture(proposed.params))
            trial, refusal = self.admit(arch, proposed=proposed)
            if refusal is None:
                return trial
            self.proposer.tell(trial, None, refusal=refusal)
            refused[refusal.cause] += 1
            if refused[refusal.cause] >= MAX_REFUSED:
                raise Stuck(refusal.cause)
        return None
