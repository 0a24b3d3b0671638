"""What the committed learning curves say of the signals that races choose by, as mobilenas ships it for its reports.

python -m benchmarks.curves.signals --write makes search/reports/signals.json anew; without it, the file is compared.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.curves.make import recipes
from search.bench.curves import CurvesProblem
from search.bench.proxies import qualities
from search.record.rows import LookedAt
from search.reports.recorded_search import recipes_hash

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
        looked_at = LookedAt(data_hash=data_hash, scope=problem.space.scope, recipes=recipes_hash(*recipes(name)))
        found.append(
            {"data": name, "looked_at": asdict(looked_at), "qualities": [_rounded(each.to_plain()) for each in near]}
        )
    return json.dumps({"data": found}, indent=1) + "\n"


def _rounded(plain: dict[str, Any]) -> dict[str, Any]:
    """Digits beyond these are noise, and differ between machines."""
    regrets = {top: round(lost, 4) for top, lost in plain["regrets"].items()}
    numbers = {name: round(value, 4) for name, value in plain.items() if isinstance(value, float)}
    return {**plain, **numbers, "regrets": regrets}


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
