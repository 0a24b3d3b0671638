"""The command `config show`: what is in effect and where it comes from, as YAML that --config accepts."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from search.config.load import default_text, load_config, parse_config
from service.settings import load_settings, origins
from trainer.data.sources import cache_dir

_HIDDEN = "hidden"


def config_text(config: Path | None) -> str:
    """Settings as comments, then the run: the commented default, or what a file makes of it.

    Raises:
        InvalidConfig: the settings or the file are wrong.
    """
    run = default_text() if config is None else _changed_text(config)
    return f"{_settings_text()}\n{run}"


def shown_url(url: str) -> str:
    """A database's URL without its password, be it in front of the host or among the parameters.

    An unreadable one is not shown at all: nobody knows where in it a password would be.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return "(not a URL)"
    secret = {key: _HIDDEN for key in parsed.query if "pass" in key.lower()}
    return parsed.update_query_dict(secret).render_as_string(hide_password=True)


def _settings_text() -> str:
    settings, origin = load_settings(), origins()
    values = settings.model_dump()
    values["database_url"] = shown_url(settings.database_url)
    values["cache_dir"] = cache_dir()
    values["reader_password"] = "none" if settings.reader_password is None else _HIDDEN
    shown = {name: _on_one_line(str(value)) for name, value in values.items()}
    names, widest = max(map(len, shown)), max(map(len, shown.values()))
    lines = [f"#   {name:<{names}}  {value:<{widest}}  {origin[name]}" for name, value in shown.items()]
    return "\n".join(["# Settings and where each comes from; they are not part of a run.", *lines, ""])


def _changed_text(config: Path) -> str:
    effective, default = load_config(config).model_dump(mode="json"), parse_config({}).model_dump(mode="json")
    lines = list(_lines(effective, default))
    widest = max((len(line) for line, changed in lines if changed), default=0)
    mark = _on_one_line(str(config))
    told = [f"{line:<{widest}}  # {mark}" if changed else line for line, changed in lines]
    return "\n".join(["# The run; a value that a file has changed names that file.", *told, ""])


def _lines(values: Mapping[str, Any], default: Mapping[str, Any], indent: str = "") -> Iterator[tuple[str, bool]]:
    """The lines of a YAML mapping, each with whether its value is another one than the default."""
    for key, value in values.items():
        if value == {}:
            yield f"{indent}{key}: {{}}", value != default[key]
        elif isinstance(value, dict):
            yield f"{indent}{key}:", False
            yield from _lines(value, default.get(key) or {}, f"{indent}  ")
        else:
            yield f"{indent}{key}: {_scalar(value)}", value != default.get(key)


def _scalar(value: str | float | bool | list[Any] | None) -> str:
    if isinstance(value, str) and not value.isprintable():
        return json.dumps(value)  # PyYAML would write more than one line
    if isinstance(value, list):
        listed: str = yaml.safe_dump(value, width=float("inf"), allow_unicode=True, default_flow_style=True)
        return listed.rstrip("\n")
    text: str = yaml.safe_dump({"": value}, width=float("inf"), allow_unicode=True)
    return text.partition(": ")[2].rstrip("\n")


def _on_one_line(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)
