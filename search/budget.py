"""A run fitted to its budget: a multiple of the trainings that were asked for, or minutes on this machine."""

import math
from dataclasses import replace

from search.config.budget import BUDGETS, MINUTES, budget_hours
from search.config.load import RunConfig
from search.plan import Inputs, Plan, Speed, make_plan
from space.errors import InvalidConfig

ENOUGH_EPOCHS = 3.0
"""Below so many, what separates networks in the end has hardly begun to show."""

# A race of folders of pictures, whose size nobody knows beforehand, has at least this share of the networks that are
# configured where its finalists see enough epochs.
_FEWEST = 0.4
# Networks are whole numbers, and workers wait for each other's last ones: the plan does not scale exactly.
_HALVINGS, _CLOSE = 24, 1.02
# After fewer images than a quarter of 6,000 networks name hardly more than the largest class (750: top-1 of 20 %).
_TOO_LONG, _FEW_NETWORKS, _LEAST_NETWORKS, _SHORTEST = 1.2, 8, 4, 1 / 4
_UNHEARD_OF = 1e6  # times the networks
# Photos are told apart well at so many px, and at so many times a budget's minutes, or that side, it is time to say so.
_SMALL, _FAR = 96, 2.0
_OFFERED_HOURS = (0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 36, 48, 72, 96, 168)


def needs_speed(config: RunConfig, budget: str) -> bool:
    """Whether the budget is one of minutes, so that nothing is known before this machine is timed."""
    return budget_hours(budget) is not None or config.race.fills_budget


def by_counts(config: RunConfig, budget: str) -> RunConfig:
    """The run scaled to a named budget, and as it is where the budget is one of minutes."""
    return config if needs_speed(config, budget) else config.scaled(BUDGETS[budget])


def within_budget(inputs: Inputs, speed: Speed, budget: str) -> Inputs:
    """The same run scaled so that it is expected to take the budget's minutes on this machine, if it is one of minutes.

    Raises:
        InvalidConfig: measuring the table alone takes longer, or nobody knows how long a user's own evaluator takes.
    """
    config = inputs.config
    if not needs_speed(config, budget):
        return inputs
    if config.evaluator is not None:
        raise InvalidConfig("a budget in hours cannot be planned with an `evaluator`; set blocks.trials instead")
    least = _images_factor_for(inputs, speed, ENOUGH_EPOCHS) if _is_folder(inputs) and budget == "default" else 0.0
    hours, to_measure = budget_hours(budget), speed.table_minutes + make_plan(inputs, speed).measuring_minutes
    if hours is None:
        # What a name stands for is not used up by a device that takes long to measure.
        minutes = max(MINUTES[budget] - to_measure, MINUTES[budget] / 2)
        if least:
            minutes = max(minutes, _minutes_of(_raced(inputs, images=least, networks=_FEWEST), speed))
    else:
        minutes = hours * 60 - to_measure
    minutes *= config.race.time_share
    if minutes <= 0:
        raise InvalidConfig(
            f"a budget of {(hours or 0) * 60:.0f} minutes is too short: measuring takes "
            f"{to_measure:.0f} of them; give more, or lower device.rounds"
        )
    if not config.race.fills_budget:
        return _within(inputs, speed, minutes)
    planned = _race_within(inputs, speed, minutes, least)
    # A race that could not be made so short has the time that it takes.
    race = planned.config.race.model_copy(update={"minutes": max(minutes, _minutes_of(planned, speed))})
    return replace(planned, config=planned.config.model_copy(update={"race": race}))


def budget_that_suffices(inputs: Inputs, speed: Speed) -> str | None:
    """The first of some budgets by which a race's finalists see enough epochs; None where none of them is enough.

    `inputs` are those before they were scaled to any budget.
    """
    for hours in _OFFERED_HOURS:
        text = f"{hours:g}h" if hours >= 1 else f"{60 * hours:.0f}m"
        if hours * 60 <= speed.table_minutes + make_plan(inputs, speed).measuring_minutes:
            continue
        epochs = make_plan(within_budget(inputs, speed, text), speed).epochs
        if epochs is not None and epochs >= ENOUGH_EPOCHS:
            return text
    return None


def lower_resolution(plan: Plan, budget: str) -> int | None:
    """The smaller pictures to be had where a name's minutes are passed by far: what they take goes with their area."""
    if budget not in MINUTES or not _is_folder(plan.inputs) or plan.training_minutes < _FAR * MINUTES[budget]:
        return None
    return _SMALL if plan.inputs.space.resolution >= _FAR * _SMALL else None


def _within(inputs: Inputs, speed: Speed, minutes: float) -> Inputs:
    factor, scaled = 1.0, inputs
    for _ in range(3):
        factor *= minutes / _minutes_of(scaled, speed)
        scaled = replace(inputs, config=inputs.config.scaled(factor))
    return scaled


def _race_within(inputs: Inputs, speed: Speed, minutes: float, least_images: float) -> Inputs:
    """Half of what there is more (in logarithm) goes into longer trainings, and the rest into more networks.

    Images are multiplied by powers of two alone, so that searches of about the same budget share their trainings.
    """
    config, share = inputs.config, minutes / _minutes_of(inputs, speed)
    images = max(2.0 ** round(math.log2(share) / 2), least_images, _SHORTEST)
    while True:
        scaled = _most_networks(inputs, speed, minutes, images)
        # A few networks are no race, and even these may take longer than there is time for.
        fits = _minutes_of(scaled, speed) < _TOO_LONG * minutes
        first = scaled.config.race.first_training
        races = first.networks >= min(_FEW_NETWORKS, config.race.first_training.networks)
        if (fits and races) or images <= max(_SHORTEST, least_images):
            return scaled
        images /= 2


def _most_networks(inputs: Inputs, speed: Speed, minutes: float, images: float) -> Inputs:
    """The race of the most networks that takes these minutes, with so many times the images; the fewest takes more."""
    fewest = min(1.0, _LEAST_NETWORKS / inputs.config.race.first_training.networks)
    most = 1.0
    while most < _UNHEARD_OF and _minutes_of(_raced(inputs, images=images, networks=most), speed) <= minutes:
        fewest, most = most, 2 * most
    for _ in range(_HALVINGS):
        middle = (fewest + most) / 2
        fits = _minutes_of(_raced(inputs, images=images, networks=middle), speed) <= _CLOSE * minutes
        fewest, most = (middle, most) if fits else (fewest, middle)
    return _raced(inputs, images=images, networks=fewest)


def _images_factor_for(inputs: Inputs, speed: Speed, epochs: float) -> float:
    """The power of two by which finalists see so many epochs, but of few photos not fewer images than the shortest."""
    reached = make_plan(inputs, speed).epochs
    return 1.0 if reached is None else max(_SHORTEST, 2.0 ** math.ceil(math.log2(epochs / reached)))


def _is_folder(inputs: Inputs) -> bool:
    return inputs.config.data.source.startswith("imagefolder:")


def _raced(inputs: Inputs, *, images: float, networks: float) -> Inputs:
    return replace(inputs, config=inputs.config.raced(images=images, networks=networks))


def _minutes_of(inputs: Inputs, speed: Speed) -> float:
    return make_plan(inputs, speed).training_minutes
