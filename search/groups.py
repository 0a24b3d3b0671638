"""Groups of searches: one per device that share their trainings, and replicates with other seeds."""

import math

from search.config.load import RunConfig
from search.lifecycle.creation import names_for
from search.record.rows import SearchRecord
from search.record.searches import NameTaken
from search.record.store import Store


def is_group(config: RunConfig, repeat: int) -> bool:
    """Whether a run stands for several searches."""
    return repeat > 1 or (len(config.targets) > 1 and config.mode == "per-device")


def group_name(store: Store, config: RunConfig) -> str:
    """The configuration's name, or the first that nobody has taken.

    Raises:
        NameTaken: a search or a group has the name that was asked for.
    """
    name = next(names_for(store, config.with_first_device(), None))
    if any(name in (search.name, search.group) for search in store.searches.all()):
        raise NameTaken(f"a search or a group named '{name}' exists already; choose another name")
    return name


def members(config: RunConfig, group: str, repeat: int) -> tuple[RunConfig, ...]:
    """The searches of a group, by the names `<group>-<device>` and, of replicates, `<group>-r<n>`.

    Those for several devices divide trials, or the networks of a race, among them, and each takes over what the others
    have trained: a network is trained once and has its latency on each device. Replicates differ in their seed and
    share no knowledge.
    """
    found: list[RunConfig] = []
    alone = (
        config
        if repeat == 1
        else config.model_copy(update={"blocks": config.blocks.model_copy(update={"warm_start": False})})
    )
    for replicate in range(repeat):
        seeded = alone.model_copy(update={"seed": config.seed + replicate})
        suffix = f"-r{replicate + 1}" if repeat > 1 else ""
        if config.targets and config.mode == "per-device":
            found += _per_device(seeded, f"{group}{suffix}")
        else:
            found.append(seeded.with_first_device().model_copy(update={"name": f"{group}{suffix}"}))
    return tuple(found)


def searches_of(store: Store, name: str) -> list[SearchRecord]:
    """The searches of a group, or the one search of this name.

    Raises:
        StoreError: there is neither.
    """
    return [record for record in store.searches.all() if record.group == name] or [store.searches.get(name)]


def _per_device(config: RunConfig, prefix: str) -> list[RunConfig]:
    names = {device: f"{prefix}-{device}" for device in config.devices}
    trials = math.ceil(config.blocks.trials / len(names))
    race = config.race if config.race.fills_budget else config.race.scaled(images=1, networks=1 / len(names))
    race = race.model_copy(update={"time_share": 1 / len(names)})
    final = config.final
    if config.races:
        final = final.model_copy(update={"top_k": min(final.top_k, race.rungs[-1].networks)})
    found = []
    for device, name in names.items():
        others = tuple(other for other in names.values() if other != name)
        update = {"trials": trials, "start_from": (*config.blocks.start_from, *others)}
        blocks = config.blocks.model_copy(update=update)
        found.append(
            config.for_device(device).model_copy(update={"name": name, "blocks": blocks, "race": race, "final": final})
        )
    return found
