"""What kits say of a race's finalists: who meets the target, by how much it is missed, and who would be next."""

from collections.abc import Sequence

from search.objective.latency import Goal
from search.record.recorded_search import RecordedSearch
from search.stages.limits import end_latency_ms
from search.stages.race import carried
from search.stages.race.finalists import next_to_measure
from search.stages.race.rungs import winners
from search.stages.race.screening import name_of
from search.tables import settings_for
from search.trial import SearchStage, Trial
from space.errors import RunError


def waits_for_finalists(recorded: RecordedSearch) -> bool:
    """Whether a race was left before its final training for its finalists to be measured by a kit."""
    begun = recorded.record.start is not None and recorded.record.stage is SearchStage.FINAL
    return begun and recorded.files.finalists_kit.exists() and not recorded.trials(SearchStage.FINAL)


def kits_of(recorded: RecordedSearch) -> list[Goal]:
    """The devices of a search that people carry kits to."""
    return [
        goal
        for goal in recorded.devices
        if settings_for(recorded.store, recorded.config.device.named(goal.name)).is_kit
    ]


def what_is_next(recorded: RecordedSearch) -> str:
    """What the kits have said so far, and what is to be done."""
    name, kits = recorded.record.name, kits_of(recorded)
    highest = _highest(recorded, kits)
    if carried.is_waiting(recorded.files, kits):
        instead = f"; or go on with what was measured: mobilenas resume {name}" if highest else ""
        return f"{carried.what_to_do(recorded, kits)}{instead}"
    target_ms = end_latency_ms(recorded)
    finalists = [trial for trial in winners(recorded) if name_of(trial) in highest]
    within = [trial for trial in finalists if highest[name_of(trial)] <= target_ms]
    on = " and ".join(f"'{goal.name}'" for goal in kits)
    if within:
        return (
            f"{len(within)} of {len(finalists)} finalists meet the target of {target_ms:.3f} ms as measured on {on}; "
            f"go on with: mobilenas resume {name}"
        )
    fastest = min(finalists, key=lambda trial: highest[name_of(trial)])
    missed = highest[name_of(fastest)] / target_ms - 1
    following = _following(recorded, highest)
    further = f"measure {len(following)} others: mobilenas certify {name} --again; or " if following else ""
    return (
        f"the target of {target_ms:.3f} ms is missed by {missed:.1%} on {on} by the fastest of {len(finalists)} "
        f"finalists, trial {fastest.number}, with the upper end of its interval; {further}train it, or the scaled "
        f"reference where that meets the target: mobilenas resume {name}"
    )


def measure_others(recorded: RecordedSearch) -> str:
    """Write the kit of the next finalists, and return what is to be done with it.

    Raises:
        RunError: the last kit is not measured yet, or some finalist meets the target, or there are no others.
    """
    name, kits = recorded.record.name, kits_of(recorded)
    if carried.is_waiting(recorded.files, kits):
        raise RunError(f"the finalists of '{name}' are not measured yet: {carried.what_to_do(recorded, kits)}")
    highest = _highest(recorded, kits)
    if any(
        highest[name_of(trial)] <= end_latency_ms(recorded) for trial in winners(recorded) if name_of(trial) in highest
    ):
        raise RunError(f"finalists of '{name}' meet the target, so that no others are wanted: mobilenas resume {name}")
    following = _following(recorded, highest)
    if not following:
        raise RunError(
            f"all networks of '{name}' that the race left are measured; train the fastest: mobilenas resume {name}, or "
            "search again with a higher target"
        )
    first = carried.returned(recorded.files, kits[0])[0]
    scaled = {each: network.architecture for each, network in first.networks.items() if each.startswith("width-")}
    networks = {name_of(trial): trial.architecture for trial in following}
    return carried.write_kit(recorded, kits, {**networks, **scaled}, carried.reference_of(first))


def _following(recorded: RecordedSearch, highest: dict[str, float]) -> list[Trial]:
    return next_to_measure(recorded, winners(recorded), highest)


def _highest(recorded: RecordedSearch, kits: Sequence[Goal]) -> dict[str, float]:
    """The upper ends of what all kits have measured, by name: on several devices the largest, in ms of the first."""
    found: dict[str, list[float]] = {}
    first_ms = recorded.devices[0].target_ms
    for goal in kits:
        for results in carried.returned(recorded.files, goal):
            for name, whole in carried.whole_of(recorded.config, goal, results).items():
                found.setdefault(name, []).append(whole.high_ms * first_ms / goal.target_ms)
    return {name: max(values) for name, values in found.items() if len(values) >= len(kits)}
