"""Specs that others can read, and reading theirs: timm, torchvision, Once-for-All, and a model.py of its own.

A format that cannot express a network says so by NotExpressible; nothing is rounded silently.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from space.arch import MAX_SPEC_BYTES, Architecture, json_object
from space.errors import InvalidArchitecture, InvalidConfig
from space.formats import ofa, standalone, timm, torchvision
from space.formats.fields import Fields
from space.reference import REFERENCES, Rounding

FormatName = Literal["spec", "timm", "torchvision", "ofa", "model.py"]

FILE_NAMES: Mapping[FormatName, str] = {
    "spec": "architecture.json",
    "timm": "timm.json",
    "torchvision": "torchvision.json",
    "ofa": "ofa.json",
    "model.py": "model.py",
}


def format_named(text: str) -> FormatName:
    """A format by the name that a person typed.

    Raises:
        InvalidConfig: there is none of that name.
    """
    found = next((name for name in FILE_NAMES if name == text), None)
    if found is None:
        raise InvalidConfig(f"there is no format {text[:40]!r}; choose {', '.join(FILE_NAMES)}")
    return found


def _pretty(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


_WRITERS: Mapping[FormatName, Callable[[Architecture], str]] = {
    "spec": lambda arch: arch.to_json() + "\n",
    "timm": lambda arch: _pretty(timm.write(arch)),
    "torchvision": lambda arch: _pretty(torchvision.write(arch)),
    "ofa": lambda arch: _pretty(ofa.write(arch)),
    "model.py": standalone.write,
}


def write_spec(arch: Architecture, name: FormatName) -> str:
    """The architecture as the content of a file that another tool reads.

    Raises:
        NotExpressible: the format has no words for some part of the network.
    """
    return _WRITERS[name](arch)


def read_spec(text: str | bytes, *, resolution: int | None = None) -> Architecture:
    """Read a spec of any of the JSON formats; which one it is follows from its fields.

    Args:
        text: the content of the file.
        resolution: side of the input in pixels, for formats that do not name it; 224 unless given.

    Raises:
        InvalidArchitecture: the text is none of the formats, or a field is missing, unknown or wrong.
    """
    content = json_object(text)
    for marker, read in _READERS.items():
        if marker in content:
            return read(Fields(content), resolution)
    if resolution is not None:
        raise InvalidArchitecture("the spec names its own resolution; leave the other one out")
    return Architecture.from_json(text)


def read_spec_file(path: Path, *, resolution: int | None = None) -> Architecture:
    """The architecture of a file; see `read_spec`.

    Raises:
        InvalidArchitecture: the file cannot be read, or is no spec.
    """
    try:
        if path.stat().st_size > MAX_SPEC_BYTES:
            raise InvalidArchitecture(f"{path} is larger than {MAX_SPEC_BYTES} bytes; give a spec")
        content = path.read_bytes()
    except OSError as error:
        raise InvalidArchitecture(f"{path} cannot be read ({error.strerror}); give a spec file") from error
    try:
        return read_spec(content, resolution=resolution)
    except InvalidArchitecture as error:
        raise InvalidArchitecture(f"{path}: {error}") from error


_READERS: Mapping[str, Callable[[Fields, int | None], Architecture]] = {
    "arch_def": timm.read,
    "inverted_residual_setting": torchvision.read,
    "first_conv": ofa.read,
    "ks": ofa.read_subnet,
}


def published_or_read(
    what: str, *, width: float | None = None, resolution: int | None = None, rounding: Rounding | None = None
) -> Architecture:
    """A published network by name, or the architecture of a spec file.

    Raises:
        InvalidArchitecture: there is neither, or the file is no spec, or is to be scaled, which only references can be.
    """
    if what in REFERENCES:
        return REFERENCES[what](width=1.0 if width is None else width, resolution=resolution, rounding=rounding)
    path = Path(what)
    if not path.is_file():
        raise InvalidArchitecture(f"{what!r} is neither a file nor a published network; see: mobilenas arch list")
    if width is not None or rounding is not None:
        raise InvalidArchitecture(f"{what} has absolute widths; --width and --rounding go with published networks")
    return read_spec_file(path, resolution=resolution)
