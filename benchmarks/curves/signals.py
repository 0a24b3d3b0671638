"""What the committed learning curves say of the signals that races choose by, as mobilenas ships it for its reports.

python -m benchmarks.curves.signals --write makes search/reports/signals.json anew; without it, the file is compared.
"""

import argparse
import json
from pathlib import Path

from search.bench.curves import CurvesProblem
from search.bench.proxies import qualities
from search.reports.signals import to_plain

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "search" / "reports" / "signals.json"
# The content hashes of the prepared data sets, as `mobilenas data` prepares them at their own resolution.
DATA = {"fashion-mnist": "5ec56280772a527f", "cifar10": "8b5274428559afab"}


def content() -> str:
    """The file as it should be."""
    found = []
    for name, data_hash in DATA.items():
        problem = CurvesProblem.read(HERE / f"{name}.csv")
        near = [each for each in qualities(problem.curves, problem.limit_ms) if each.compared == "near the limit"]
        said = {"data_hash": data_hash, "source": "published with mobilenas", "qualities": to_plain(near)}
        found.append({"data": name, **said})
    return json.dumps({"data": found}, indent=1) + "\n"


def main() -> None:
    """Write it, or say whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        SHIPPED.write_text(content(), encoding="utf-8")
    elif SHIPPED.read_text(encoding="utf-8") != content():
        raise SystemExit(f"{SHIPPED} is not of these curves; run: python -m benchmarks.curves.signals --write")


if __name__ == "__main__":
    main()
