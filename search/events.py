"""What a running search tells whoever watches it."""

from search.trial import NetAdaptStep, Trial


class Listener:
    """Hears of a search's progress; this one ignores everything. Called from the coordinator's thread only."""

    def begin(self, title: str, total: float) -> None:
        """A long step begins; `total` is in units of its own."""

    def advance(self, done: float, total: float | None = None) -> None:
        """So much of the step is done; `total` where it has changed."""

    def end(self) -> None:
        """The step is over."""

    def note(self, text: str) -> None:
        """A fact worth a line."""

    def trial(self, trial: Trial, reward: float | None) -> None:
        """A trial ended."""

    def step(self, step: NetAdaptStep) -> None:
        """NetAdapt accepted a proposal."""
