"""Finds the image classifier for your device: the Python way in. See docs/python.md.

Importing this costs milliseconds; torch, ONNX Runtime, SQLAlchemy and the like are imported where they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from mobilenas.networks import build_model, load_spec, predict_latency
    from mobilenas.record import FoundNetwork, PresentModel, Record, Search, open_record
    from mobilenas.searches import resume, search
    from space.arch import Architecture
    from space.errors import MobilenasError

_HOME = {
    "Architecture": "space.arch",
    "FoundNetwork": "mobilenas.record",
    "MobilenasError": "space.errors",
    "PresentModel": "mobilenas.record",
    "Record": "mobilenas.record",
    "Search": "mobilenas.record",
    "build_model": "mobilenas.networks",
    "load_spec": "mobilenas.networks",
    "open_record": "mobilenas.record",
    "predict_latency": "mobilenas.networks",
    "resume": "mobilenas.searches",
    "search": "mobilenas.searches",
}

__all__ = [
    "Architecture",
    "FoundNetwork",
    "MobilenasError",
    "PresentModel",
    "Record",
    "Search",
    "__version__",
    "build_model",
    "load_spec",
    "open_record",
    "predict_latency",
    "resume",
    "search",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public value
    """Import what is public where it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'mobilenas' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
