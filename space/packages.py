"""Whether the packages that are imported as ours are ours; needs the standard library alone.

`trainer` or `service` may well be names of somebody else's, too, and Python takes the first that it finds.
"""

from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds all of them."""

PACKAGES = ("latency", "search", "service", "space", "trainer")


def foreign(root: Path = ROOT) -> str | None:
    """What is wrong where one of the packages does not lie in `root`, in one line with the remedy; None: nothing."""
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is None:
            return f"package '{name}' is missing beside {root / 'mobilenas'}; install mobilenas again"
        found = [Path(place).resolve() for place in spec.submodule_search_locations or [spec.origin or "a module"]]
        if (root / name).resolve() not in found:
            return (
                f"'{name}' is not mobilenas's own but {found[0]}, which comes first on Python's path; start from "
                "another folder, rename it, or take its folder off PYTHONPATH"
            )
    return None
