"""What a search brought, in one sentence, and how sure it was of its choice: how every report begins."""

import math

from search.config.load import parse_config
from search.config.sections import parse_target
from search.reports.comparison import trial_difference
from search.reports.history import History, Served
from search.reports.naming import compared_with, is_walk, scaled_in_words
from search.reports.recorded_search import may_be_chosen
from search.trial import Origin, SearchStage, Trial
from trainer.training.metrics import Difference, paired_mean_difference


def baseline_of(history: History) -> Trial | None:
    """The scaled reference as it was trained in the end, where it raced with the finalists."""
    trained = (trial for trial in history.complete(SearchStage.FINAL) if trial.origin == Origin.BASELINE)
    return next(trained, None)


def other_baseline(history: History) -> Trial | None:
    """The scaled reference where the search did not end with it."""
    baseline, found = baseline_of(history), history.found
    return None if baseline is None or found is None or baseline.architecture == found.architecture else baseline


def headline(history: History) -> str | None:
    """The found network beside what one would have taken without a search; None before there is one that was tested.

    That is the scaled reference where it raced, else the reference.
    """
    found, baseline, reference = history.found, baseline_of(history), history.final_reference
    if found is None or not found.total or reference is None:
        return None
    config = history.record.config
    known = {trial.architecture for trial in (baseline, reference) if trial is not None}
    if found.architecture in known and not is_walk(config):
        named = scaled_in_words(config, found.architecture)
        which = "reference itself" if found.architecture == reference.architecture else "reference scaled to the target"
        return (
            f"The search found nothing better than the {which} ({named}), which it ends with; more images or more "
            "networks may."
        )
    other = reference if baseline is None else baseline
    named = f"the {compared_with(config)}"
    if baseline is not None:
        named = f"the reference scaled to the target, {scaled_in_words(config, baseline.architecture)}"
    gap = trial_difference((history, found), (history, other))
    if gap is None:
        return None
    return f"The found network is {in_words(gap.difference, named)}{_time(history, found, reference)}."


def in_words(gap: Difference, named: str) -> str:
    """How much more or less accurate the found network is than what is `named`."""
    points, interval = 100 * gap.difference, f"95% interval {100 * gap.low:+.2f} to {100 * gap.high:+.2f}"
    if not gap.is_clear:
        return f"as accurate as {named}, as far as the test split can tell: {points:+.2f} points of top-1 ({interval})"
    how = "more" if points > 0 else "less"
    return f"{abs(points):.2f} points of top-1 {how} accurate on the test split than {named} ({interval})"


def _time(history: History, found: Trial, reference: Trial) -> str:
    """How fast it is on the first device, where that has measured it."""
    if not history.served:
        return ""
    device = history.served[0]
    mine, theirs = (history.measured(trial, device) for trial in (found, reference))
    if mine is None or theirs is None:
        return f"; it has yet to be measured on '{device.device.name}'"
    asked = relative_target(history, device)
    if asked is None:
        return f", and takes {mine.measured_ms:.3f} ms for a target of {device.target_ms:.3f} ms"
    share = mine.measured_ms / theirs.measured_ms
    return f", and takes {share:.1%} of the {compared_with(history.record.config)}'s time for a target of {asked:.0%}"


def relative_target(history: History, served: Served) -> float | None:
    """The share of the reference's latency that a device's target was given as; None where it was given in ms."""
    given = (history.setting("targets") or {}).get(served.device.name)
    target = history.setting("target") if given is None else parse_target(given)
    return (target or {}).get("relative")


def certainty(history: History) -> str | None:
    """How much better the chosen finalist was than the next one, on the images that chose it; None where none was.

    Where networks are chosen by log-likelihood alone, and what they said of each image is in the run folder.
    """
    found, start = history.found, history.record.start
    chosen = None if found is None or found.parent is None else history.by_number.get(found.parent)
    if start is None or chosen is None or chosen.stage is not SearchStage.FINAL or not _by_likelihood(history):
        return None
    config = parse_config(dict(history.record.config))
    trained = [
        trial
        for trial in history.complete(SearchStage.FINAL)
        if may_be_chosen(trial, config, start.target_ms) and trial.number != chosen.number
    ]
    if not trained:
        return None
    following = max(trained, key=lambda trial: (trial.scores.log_likelihood or -math.inf, -trial.number))
    judged = [history.judged(trial) for trial in (chosen, following)]
    if judged[0] is None or judged[1] is None or len(judged[0]) != len(judged[1]):
        return None
    scores = [trial.scores.log_likelihood or 0.0 for trial in (chosen, following)]
    # What is kept of each image is rounded: good enough for an error, but not for the means themselves.
    kept, lead = paired_mean_difference(judged[0].log_likelihoods, judged[1].log_likelihoods), scores[0] - scores[1]
    gap = Difference(difference=lead, low=lead + kept.low - kept.difference, high=lead + kept.high - kept.difference)
    said = f"{gap.difference:+.4f} (95% interval {gap.low:+.4f} to {gap.high:+.4f})"
    sure = "is more than chance among these images" if gap.is_clear else "may be chance: either could have been chosen"
    return (
        f"Of {len(trained) + 1} finalists, trained alike, that of trial {chosen.number} had the best log-likelihood on "
        f"{len(judged[0]):,} images ({history.judge.images}); its lead over trial {following.number}, {said}, {sure}."
    )


def _by_likelihood(history: History) -> bool:
    return bool(history.setting("race.rungs")) and (
        history.setting("blocks.reward.kind"),
        history.setting("data.rank_by"),
        history.setting("final.prefer"),
    ) == ("hard", "top1", "accuracy")
