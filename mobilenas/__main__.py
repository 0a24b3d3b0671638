"""The program `mobilenas`, and `python -m mobilenas`."""

import runpy
import sys
from pathlib import Path


def main() -> None:
    """Run the command line, once it is known that the packages which it imports are ours."""
    # By its path: `space` itself may be somebody else's.
    packages = Path(__file__).resolve().parent.parent / "space" / "packages.py"
    if problem := runpy.run_path(str(packages))["foreign"]():
        print(f"error: {problem}", file=sys.stderr)  # noqa: T201 - nothing else may be imported yet
        sys.exit(2)
    from service.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
