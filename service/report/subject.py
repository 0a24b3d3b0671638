"""What a page about a search is made from, and the pieces that several of its sections share."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from search.record.devices import RecordedValidation
from search.record.store import Store
from search.reports.choices import Importances, importances
from search.reports.history import History, peak_bytes
from search.reports.naming import published_in_words
from search.trial import Origin, SearchStage, Trial
from service.report.page import Cell, Html, Section, section, table, tag
from service.terminal.wording import milliseconds, share

TOP = 10
COST_HEADS = ("multiply-adds, M", "parameters, M", "peak memory, KiB")


@dataclass(frozen=True)
class Subject:
    """What the page tells: a search, the validations of its table, its warnings, and a prefix for its sections."""

    history: History
    validations: Sequence[RecordedValidation]
    warnings: Sequence[str]
    prefix: str = ""

    @classmethod
    def read(cls, store: Store, name: str, prefix: str = "") -> "Subject":
        """A search as it now stands.

        Raises:
            StoreError: there is none of this name.
        """
        history = History.read(store, name)
        validations = [each for device in history.served for each in store.devices.validations(device.table_id)]
        lines = [line for line in store.searches.log(history.record.id) if line.level in ("warning", "error")]
        return cls(history, validations, [line.message for line in lines], prefix)

    @cached_property
    def with_params(self) -> list[Trial]:
        """The block-level trials that were trained and have parameters: not the reference, nor a spec from outside."""
        trials, rewards = self.history.complete(SearchStage.BLOCKS), self.history.rewards
        return [trial for trial in trials if trial.params and trial.number in rewards]

    @cached_property
    def importances(self) -> list[tuple[str, Importances]]:
        """The importance of the parameters for reward, top-1 and latency, as far as there is enough to tell."""
        params = [trial.params or {} for trial in self.with_params]
        outcomes = {
            "reward": [self.history.rewards[trial.number] for trial in self.with_params],
            "top-1": [trial.scores.top1 or 0.0 for trial in self.with_params],
            "latency": [trial.scores.latency_ms for trial in self.with_params],
        }
        found = [(name, importances(params, outcome)) for name, outcome in outcomes.items()]
        return [(name, one) for name, one in found if one is not None]

    def section(self, key: str, title: str, *parts: str) -> Section:
        """A section of this search."""
        return section(f"{self.prefix}{key}", title, *parts, level=3 if self.prefix else 2)


def origin(history: History, trial: Trial) -> str:
    """Who proposed a network, and which published one it is."""
    named = trial.origin in (Origin.REFERENCE, Origin.START, Origin.ENQUEUED, Origin.ADOPTED)
    known = published_in_words(history.record.config, trial.architecture) if named else None
    return f"{trial.origin}: {known}" if known else trial.origin


def top1_head(history: History, stage: SearchStage = SearchStage.BLOCKS) -> str:
    """The head of a column of top-1: on which images, or by which evaluator."""
    return f"top-1 ({history.judge.of_stage(stage)})"


def cost_cells(trial: Trial) -> list[Cell]:
    """What a network costs, in the columns of `COST_HEADS`."""
    scores = trial.scores
    return [
        f"{scores.madds / 1e6:.2f}",
        f"{scores.params / 1e6:.3f}",
        f"{peak_bytes(trial) / 1024:,.0f}",
    ]


def _network_row(history: History, trial: Trial) -> list[Cell]:
    scores = trial.scores
    return [
        str(trial.number),
        trial.stage.value,
        origin(history, trial),
        share(scores.top1),
        milliseconds(scores.latency_ms),
        *cost_cells(trial),
        trial.architecture.arch_id,
    ]


def folded(summary: str, content: str) -> Html:
    """What is shown once somebody asks for it."""
    return tag("details", [tag("summary", summary), content])


def network_table(history: History, trials: Sequence[Trial], *, best: int | None = None) -> Html:
    """A table of trials' networks."""
    header = ("trial", "stage", "origin", top1_head(history), history.latency_head, *COST_HEADS, "architecture")
    return table(header, [_network_row(history, trial) for trial in trials], best=best)
