"""A user's own callables, named as `package.module:callable` in a configuration.

Reading a record never loads one: only a search that runs does, and who starts or resumes it chose its configuration.
"""

import ast
import hashlib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from space.errors import InvalidConfig, MobilenasError, RunError

_NAME = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*"


def callable_name(name: str) -> str:
    """The name itself, if it has the form of a callable's.

    Raises:
        InvalidConfig: it has not.
    """
    if not re.fullmatch(_NAME, name):
        raise InvalidConfig(f"{name!r} does not name a callable; write package.module:callable")
    return name


def number(value: object, what: str, expected: str) -> float:
    """What a user's function gave as a number; a text or a truth value is none, though Python would make one of it.

    Raises:
        RunError: it is none.
    """
    try:
        if not isinstance(value, bool | str | bytes):
            return float(value)  # type: ignore[arg-type] # of numpy, torch or anyone's
    except (TypeError, ValueError, RuntimeError):
        pass
    raise RunError(f"{what} gave {value!r:.60}; {expected}")


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
        module_name, _, attribute = callable_name(self.name).partition(":")
        _use(self.folder)
        try:
            found = getattr(importlib.import_module(module_name), attribute)
        except Exception as error:
            raise InvalidConfig(
                f"{self.name} cannot be imported ({type(error).__name__}: {error}); the import path ends with "
                f"{self.folder or 'nothing of yours: set plugins'}; correct the name or the module"
            ) from error
        if not callable(found):
            raise InvalidConfig(f"{self.name} is not callable, but {type(found).__name__}; name a function or a class")
        call: Callable[..., Any] = found
        return call

    @property
    def content(self) -> str:
        """The name with a hash of its source: results of another source are others.

        That is the source of its module and of all modules beside it that these import; not what they read from files.

        Raises:
            InvalidConfig: it cannot be imported.
        """
        digest = hashlib.sha256(b"".join(self._gathered().values())).hexdigest()
        return f"{self.name}@{digest[:16]}"

    @property
    def sources(self) -> dict[str, bytes]:
        """The files of the user's that `content` is a hash of, by their path below the folder.

        Raises:
            InvalidConfig: it cannot be imported.
        """
        folder = Path(self.folder or "")
        return {
            path.relative_to(folder).as_posix(): content
            for path, content in self._gathered().items()
            if folder in path.parents
        }

    def _gathered(self) -> dict[Path, bytes]:
        """The source of its module, and of the user's that it imports."""
        file = getattr(inspect.getmodule(self.load()), "__file__", None)
        sources: dict[Path, bytes] = {}
        if file:
            _gather(Path(file), Path(self.folder) if self.folder else None, sources)
        return sources


def _gather(file: Path, folder: Path | None, sources: dict[Path, bytes]) -> None:
    """Add the sources of a module and of the user's that it imports, in the order of their imports."""
    if file in sources:
        return
    sources[file] = file.read_bytes()
    if folder is None or folder not in file.parents:
        return
    try:
        tree = ast.parse(sources[file])
    except SyntaxError:
        return  # it cannot be imported, so it imports nothing
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
        for name in names:
            base = file.parent if isinstance(node, ast.ImportFrom) and node.level else folder
            path = base.joinpath(*name.split("."))
            for imported in (path.with_suffix(".py"), path / "__init__.py"):
                if imported.is_file():
                    _gather(imported, folder, sources)


@contextmanager
def user_code(what: str, remedy: str = "fix it") -> Iterator[None]:
    """Tell whatever a user's own code raises in one line, with its name.

    Raises:
        RunError: it raised something that is none of our errors.
    """
    try:
        yield
    except MobilenasError:
        raise
    except Exception as error:
        raise RunError(f"{what} failed: {type(error).__name__}: {error}; {remedy}") from error


@dataclass
class _Path:
    """What a process has on its import path for a user's callables: one folder at a time, and what it held."""

    folder: str | None = None
    sources: dict[str, int] = field(default_factory=dict)
    was_added: bool = False


_path = _Path()


def _use(folder: str | None) -> None:
    """Have a folder at the end of the import path, behind everything else, and its modules as they are now.

    A coordinator runs searches of several folders, whose modules may have the same names, and people edit theirs.
    """
    sources = {} if folder is None else {str(path): path.stat().st_mtime_ns for path in Path(folder).glob("*.py")}
    if (folder, sources) == (_path.folder, _path.sources):
        return
    if _path.was_added:
        assert _path.folder is not None
        for name, module in list(sys.modules.items()):
            if _entry_of(str(getattr(module, "__file__", None) or "")) == _path.folder:
                del sys.modules[name]
        sys.path.remove(_path.folder)
    _path.folder, _path.sources = folder, sources
    _path.was_added = folder is not None and folder not in sys.path
    if folder is not None and _path.was_added:
        sys.path.append(folder)
    importlib.invalidate_caches()


def _entry_of(file: str) -> str | None:
    """The entry of the import path that a module's file comes from; a user's folder may hold a virtual environment."""
    return max((entry for entry in sys.path if entry and file.startswith(f"{entry}{os.sep}")), key=len, default=None)
