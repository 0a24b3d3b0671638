"""Paths as people and systems have them."""

import os
import unicodedata
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


def unfit_name(path: Path) -> str | None:
    """Why a name cannot stand in a record, a file or a line of text, and what to do; None where it can."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        try:
            os.fsencode(path).decode()
        except UnicodeDecodeError:
            return "is not UTF-8, as of an archive made on another system; rename it"
        return "cannot be read in this locale; set PYTHONUTF8=1"
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in str(path)):
        return "holds a line break or control character; rename it"
    return None


def recordable(path: Path, what: str) -> Path:
    """The path itself, which can be written into a record, a file or a line of text.

    Raises:
        InvalidConfig: it cannot; see `unfit_name`.
    """
    if (reason := unfit_name(path)) is not None:
        raise InvalidConfig(f"the name of {what} {os.fsencode(path)!r} {reason}")
    return path
