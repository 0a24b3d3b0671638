"""The user's present model beside what a search found, in figures and in words."""

from collections.abc import Iterator, Mapping

from search.reports.comparison import FinalDifference, newcombe_difference
from search.reports.history import History
from search.trial import PresentResult
from trainer.training.metrics import paired_difference, wilson_interval

HAS_SEEN = "A model that was trained on some of these images looks better than it is."


def present_head(result: PresentResult) -> str:
    """The head of its column."""
    return f"present model: {result.name}"


def present_figures(history: History) -> Mapping[str, str]:
    """What is known of it, by the rows of the tables of networks."""
    result = history.present
    if result is None:
        return {}
    low, high = wilson_interval(result.correct, result.total)
    figures = {
        "top-1 (test split)": f"{result.correct / result.total:.2%}",
        "its 95% interval": f"{low:.2%} to {high:.2%}",
    }
    right, start = history.present_right(), history.record.start
    if right is not None and start is not None and (facts := start.data_facts) is not None:
        figures["balanced accuracy (test split)"] = f"{facts.balanced_accuracy(right):.2%}"
    for served in history.served:
        on = f" on {served.device.name}" if len(history.served) > 1 else ""
        measured = history.present_measured(served)
        figures[f"measured latency{on}, ms"] = (
            "not measured"
            if measured is None
            else f"{measured.measured_ms:.3f} ({measured.low_ms:.3f} to {measured.high_ms:.3f})"
        )
        if measured is not None:
            figures[f"median latency{on}, ms"] = f"{measured.median_ms:.3f}"
    return figures


def beside_present(history: History) -> FinalDifference | None:
    """Test top-1 of the found network minus that of the present model, paired where each image's answer is known."""
    found, result = history.found, history.present
    if found is None or result is None or not found.total:
        return None
    totals = (found.total, result.total)
    mine, theirs = history.right(found), history.present_right()
    if mine is not None and theirs is not None and len(mine) == len(theirs):
        return FinalDifference(difference=paired_difference(mine, theirs), kind="paired", totals=totals)
    difference = newcombe_difference((found.correct or 0, found.total), (result.correct, result.total))
    return FinalDifference(difference=difference, kind="unpaired", totals=totals)


def times_beside_present(history: History) -> Iterator[str]:
    """How fast the found network is beside it, a sentence for each device that has measured both."""
    found, result = history.found, history.present
    if found is None or result is None:
        return
    for served in history.served:
        mine, theirs = history.measured(found, served), history.present_measured(served)
        if mine is not None and theirs is not None:
            share = mine.measured_ms / theirs.measured_ms
            on = f"On '{served.device.name}', measured" if len(history.served) > 1 else "Measured"
            yield (
                f"{on} side by side, the found network takes {share:.1%} of the time of the "
                f"present model, {result.name}: {mine.measured_ms:.3f} of {theirs.measured_ms:.3f} ms."
            )
