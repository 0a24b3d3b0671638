"""What a configuration leaves open is filled from the rest of it."""

from typing import Any

BEFORE_RECIPES = "sgd-cosine"
"""The recipe that all networks were trained by in version 0.1, when there was no choice."""

# A space is made for images of a size: its strides leave something of them to look at.
_LARGEST_OF_32PX = 80
# Whoever names one of these says how much is trained, and how: the search then goes by counts, as in version 0.1.
_COUNTS = {
    "blocks": ("trials", "train_images", "epochs", "seed_factor", "tolerance"),
    "final": ("images",),
    "netadapt": (),  # any key of it
}

# The recipes of the search and of its end: from scratch, and where networks begin with given weights.
_FROM_SCRATCH, _OF_BEGUN = ("proxy", "final"), ("transfer-proxy", "transfer")
# The trainings of networks that know something already: on few photos a pretrained one is after 2,560 images where one
# from scratch is not after 30,000.
_SHORTER: dict[str, Any] = {
    "blocks": {"train_images": 1500},
    "race": {
        "rungs": [{"images": 1500, "networks": 40}, {"images": 4500, "networks": 16}, {"images": 10000, "networks": 7}]
    },
    "final": {"images": 15000},
}
# What published networks are for, and photos are taken at.
_PHOTOS = 224

# A supernet judges so many times the networks that a race then trains: at a hundredth of the cost each.
_LOOKED_AT = 4


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` over `base`, section by section; `target` and `targets` are replaced whole, empty sections left out."""
    result = dict(base)
    for key, value in changes.items():
        if value is None and isinstance(base.get(key), dict):
            continue  # a heading with nothing below it
        # The two forms of a target exclude each other, and targets that are not named are not wanted.
        deeper = isinstance(value, dict) and isinstance(base.get(key), dict) and key not in ("target", "targets")
        result[key] = merged(base[key], value) if deeper else value
    return result


def filled(default: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """All keys of a configuration of which `content` gives some, with values where the default has none of its own."""
    base = merged(default, _as_before_recipes(content))
    if content.get("init") is not None:
        base = merged(base, _SHORTER)
    return _with_space(_with_resolution(_racing_or_not(merged(base, content), content)))


def _as_before_recipes(content: dict[str, Any]) -> dict[str, Any]:
    """What a configuration means that gives a learning rate and no recipe: it is one for the recipe of version 0.1."""
    stages = ("blocks", "netadapt", "final")
    if _named(content, "training", "learning_rate") is None or any(
        "recipe" in _section(content, name) for name in stages
    ):
        return {}
    recipes: dict[str, dict[str, Any]] = {name: {"recipe": BEFORE_RECIPES} for name in stages}
    return {"training": {"device": "cpu"}, **recipes, "netadapt": {"recipe": BEFORE_RECIPES, "steps": "fixed"}}


def _racing_or_not(whole: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """The same with the race that fills a budget, or with none, and what belongs to either."""
    race = whole["race"]
    if not all(isinstance(whole[name], dict) for name in ("blocks", "race", "netadapt", "final")):
        return whole  # which is refused, with its name
    asked = _named(content, "race", "rungs") is not None
    if not asked and _goes_by_counts(content):
        race = {**race, "rungs": []}
    elif not asked and content.get("supernet") is not None and race["rungs"]:
        first = {"images": 0, "networks": _LOOKED_AT * race["rungs"][0]["networks"]}
        race = {**race, "rungs": [first, *race["rungs"]]}
    races = bool(race["rungs"])
    has_own_recipe = any(_named(content, name, "recipe") is not None for name in ("blocks", "final"))
    proxy, final = _OF_BEGUN if content.get("init") is not None else _FROM_SCRATCH
    open_keys: dict[str, dict[str, Any]] = {
        "blocks": {"recipe": proxy},
        "race": {"fills_budget": races and not asked},
        "netadapt": {"max_steps": 0 if races else 200},
        "final": {
            "recipe": final,
            "top_k": 3 if races else 1,
            "weights": "continued" if races and not has_own_recipe else "scratch",
        },
    }
    sections = {**whole, "race": race}
    return sections | {name: _with(sections[name], values) for name, values in open_keys.items()}


def _goes_by_counts(content: dict[str, Any]) -> bool:
    """Whether it says how much is to be trained, or what a race cannot do."""
    for name, keys in _COUNTS.items():
        section = _section(content, name)
        if any(section.get(key) is not None for key in keys or section if key != "teacher"):
            return True
    return (
        content.get("evaluator") is not None
        or _named(content, "ray", "scheduler") not in (None, "none")
        or _named(content, "final", "weights") == "inherited"
        or bool(_as_before_recipes(content))
    )


def _with_resolution(content: dict[str, Any]) -> dict[str, Any]:
    """The same with that of published networks for photos, which have none of their own."""
    data = content["data"]
    if not isinstance(data, dict) or not str(data.get("source")).startswith("imagefolder:"):
        return content
    return {**content, "data": _with(data, {"resolution": _PHOTOS})}


def _with_space(content: dict[str, Any]) -> dict[str, Any]:
    """The same with a space that fits the images where none is named, and with its width; that of weights is theirs."""
    if content.get("init") is not None:
        return content
    space, data = content["space"], content["data"]
    if not isinstance(space, dict) or not isinstance(data, dict):
        return content  # which is refused, with its name
    resolution = data.get("resolution")
    is_small = not isinstance(resolution, int) or resolution <= _LARGEST_OF_32PX
    unnamed = space.get("preset") is None
    preset = "mobilenet-v3-small-32px" if is_small else "mobilenet-v3-small"
    return {**content, "space": _with(space, {"preset": preset, "width": 0.5 if unnamed and is_small else 1.0})}


def _with(section: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The same with these values where it has none."""
    return {**section, **{key: value for key, value in values.items() if section.get(key) is None}}


def _section(content: dict[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _named(content: dict[str, Any], section: str, key: str) -> Any:  # noqa: ANN401 - whatever the file says
    return _section(content, section).get(key)
