"""Paths as people and systems have them."""

import os
from pathlib import Path
from typing import Literal

from space.errors import InvalidConfig


def expanded(path: str | Path) -> Path:
    """With ~ as the home folder, as a shell does it; where there is no home it stays as it is."""
    # Path.expanduser raises a RuntimeError there.
    return Path(os.path.expanduser(path))


def needs_home(path: str | Path) -> bool:
    """Whether a path lies below a home folder that there is none of, as in a container of a user without a name."""
    return os.path.expanduser(path).startswith("~")


def user_folder(kind: Literal["cache", "config", "data"]) -> Path | None:
    """Where this system keeps a user's files of a kind for mobilenas; None where there is no home folder."""
    import platformdirs

    find = {
        "cache": platformdirs.user_cache_path,
        "config": platformdirs.user_config_path,
        "data": platformdirs.user_data_path,
    }
    try:
        folder = find[kind]("mobilenas", appauthor=False)
    except RuntimeError:  # there is no home; some versions answer with a ~ instead
        return None
    return None if needs_home(folder) else folder


def recordable(path: Path, what: str) -> Path:
    """The path itself, which can be written into a record, a file or a line of text.

    Raises:
        InvalidConfig: its name is not UTF-8, or holds a line break or another control character.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InvalidConfig(f"{what} {os.fsencode(path)!r} has a name that is not UTF-8; choose another") from None
    if not all(ord(letter) >= 32 and ord(letter) != 127 for letter in str(path)):
        raise InvalidConfig(f"{what} {str(path)!r} has a control character in its name; choose another")
    return path
