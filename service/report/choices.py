"""The sections about what networks chose: importance, parallel coordinates, choices stage by stage."""

from collections.abc import Sequence

from search.reports.choices import ASPECTS, FEWEST, Share, choice_shares, described
from search.reports.history import SEARCHED, History
from search.trial import SearchStage, Trial
from service.report import choice_figures as plots
from service.report.page import Cell, Html, Section, figure, joined, sentence, table, tag, text
from service.report.subject import TOP, Subject, folded, top1_head
from service.terminal.wording import counted, milliseconds, share

# More axes than these are too narrow to read.
_AXES = 8


def importance_section(subject: Subject) -> Section:
    """Which parameters stood out."""
    found, title = subject.importances, "What mattered"
    if not found:
        few = (
            f"There are too few networks to tell what mattered: the search has trained {len(subject.with_params)} "
            f"with parameters, and needs at least {FEWEST} whose parameters vary."
        )
        return subject.section("importance", title, sentence(few))
    clear = [f"for {name} {', '.join(each.parameter for each in one.clear[:5]) or 'none'}" for name, one in found]
    stands = f"What stands out from chance among {found[0][1].networks} networks: {'; '.join(clear)}."
    said = (
        "How much of the variance among the trained networks each parameter explains by itself (epsilon squared of a "
        "one-way analysis of variance). Grey bars, left of the dashed line, are within what chance alone reaches with "
        "this many parameters (95%). Parameters that the sampler changed together share the credit; effects of "
        "combinations alone are not shown."
    )
    return subject.section("importance", title, sentence(stands), figure(plots.importance(found), said))


def parallel_section(subject: Subject) -> Section:
    """The trained networks as lines through their choices."""
    trials, title = subject.with_params, "Parallel coordinates"
    if len(trials) < 2:
        return subject.section(
            "parallel", title, sentence("Fewer than two networks with parameters have been trained.")
        )
    common = sorted(set.intersection(*(set(trial.params or {}) for trial in trials)))
    varied = [name for name in common if len({(trial.params or {})[name] for trial in trials}) > 1]
    ranked = [one.parameter for one in subject.importances[0][1].ranked] if subject.importances else varied
    said = (
        "Each line is a trained network of the block-level search, coloured by its reward; the axes are the parameters "
        "that explain most of the reward, then latency and top-1. Lines through the same choice are spread a little. "
        "Drag along an axis to select lines, drag its name to move it."
    )
    drawn = plots.parallel(trials, subject.history.rewards, [name for name in ranked if name in varied][:_AXES])
    return subject.section("parallel", title, figure(drawn, said))


def choices_section(subject: Subject) -> Section:
    """The choices of the most accurate networks beside those of all."""
    history, title = subject.history, "What the best networks chose"
    trials = history.complete(*SEARCHED)
    if not trials:
        return subject.section("choices", title, sentence("No network has been trained yet."))
    within = history.within(history.record.require_start().target_ms)
    best = (within or sorted(trials, key=lambda trial: -(trial.scores.top1 or 0)))[:TOP]
    which = "within the target" if within else "of all, since none is within the target"
    said = (
        f"Bars: what {counted(len(best), 'network')}, the most accurate {which}, chose in each stage. The mark on a "
        "bar is the share among all trained networks of the block-level search. Kernels, expansions, SE and "
        "activations count once for each block; an expansion is relative to the width of the block's input."
    )
    shares = choice_shares(
        [trial.architecture for trial in best], [trial.architecture for trial in history.complete(SearchStage.BLOCKS)]
    )
    rows = [[str(number), *(_bars(stage[aspect]) for aspect in ASPECTS)] for number, stage in enumerate(shares, 1)]
    in_full = folded("These networks in full (k kernel, e expansion, w width)", _in_full(history, best))
    return subject.section("choices", title, sentence(said), table(("stage", *ASPECTS), rows), in_full)


def _in_full(history: History, trials: Sequence[Trial]) -> Html:
    stages = max(len(trial.architecture.stages) for trial in trials)
    rows: list[list[Cell]] = [
        [
            str(trial.number),
            share(trial.scores.top1),
            milliseconds(trial.scores.latency_ms),
            # As text: a stage that begins with its number of blocks is no number.
            *[*map(text, described(trial.architecture)), *[""] * stages][:stages],
        ]
        for trial in trials
    ]
    return table(
        ["trial", top1_head(history), history.latency_head, *(f"stage {number}" for number in range(1, stages + 1))],
        rows,
    )


def _bars(shares: Sequence[Share]) -> Html:
    return tag("div", [joined([tag("span", one.choice), _bar(one)]) for one in shares], css="share")


def _bar(one: Share) -> Html:
    return Html(
        f'<span class="bar" title="{one.chosen:.0%}, all {one.all:.0%}">'
        f'<i style="width:{one.chosen:.1%}"></i><b style="left:{one.all:.1%}"></b></span>'
    )
