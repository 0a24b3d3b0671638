"""A user's own callables, named as `package.module:callable` in a configuration.

Reading a record never loads one: only a search that runs does, and who starts or resumes it chose its configuration.
"""

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from space.errors import InvalidConfig

PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """Where a callable is: its name, and the user's folder, which is searched last."""

    name: str
    folder: str | None

    def load(self) -> Callable[..., Any]:
        """The callable.

        Raises:
            InvalidConfig: it cannot be imported, or is none.
        """
        if not re.match(PATTERN, self.name):
            raise InvalidConfig(f"{self.name!r} names no callable; write package.module:callable")
        # Behind everything else: a file of the user's must not take the place of a library's module.
        if self.folder is not None and self.folder not in sys.path:
            sys.path.append(self.folder)
            importlib.invalidate_caches()
        module_name, _, attribute = self.name.partition(":")
        try:
            found = getattr(importlib.import_module(module_name), attribute)
        except Exception as error:
            raise InvalidConfig(
                f"{self.name} cannot be imported ({type(error).__name__}: {error}); the import path ends with "
                f"{self.folder or 'nothing of yours: set plugins'}"
            ) from error
        if not callable(found):
            raise InvalidConfig(f"{self.name} is no callable but {type(found).__name__}")
        call: Callable[..., Any] = found
        return call

    @property
    def content(self) -> str:
        """The name with a hash of its module's source: results of another source are others.

        Raises:
            InvalidConfig: it cannot be imported.
        """
        module = inspect.getmodule(self.load())
        file = getattr(module, "__file__", None)
        source = Path(file).read_bytes() if file else b""
        return f"{self.name}@{hashlib.sha256(source).hexdigest()[:16]}"
