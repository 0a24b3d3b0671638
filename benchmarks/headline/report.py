"""The headline's report, from its JSON files alone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from scipy.stats import t


def write_report(out: Path, networks: Mapping[str, str], seeds: Sequence[int]) -> None:
    """report.md beside the files that it is made from; `networks` are the hashes of the specs by name."""
    searches = [_read(path) for path in sorted(out.glob("search-*.json"))]
    latency = _read(out / "latency.json")["networks"]
    curve = [name for name in networks if name.startswith("width-")]
    trained = {(each["arch_id"], each["seed"]): each["top1"] for each in map(_read, out.glob("train-*.json"))}
    top1 = {name: [trained[arch_id, seed] for seed in seeds] for name, arch_id in networks.items()}
    ms = {name: latency[name]["ms"] for name in networks}
    at, reached = np.array([ms[name] for name in curve]), np.array([mean(top1[name]) for name in curve])
    order = np.argsort(at)
    rows, gains, over = [], [], []
    for each in searches:
        name = f"search-{each['seed']}"
        baseline = float(np.interp(ms[name], at[order], reached[order]))
        gains.append(100 * (mean(top1[name]) - baseline))
        over.append(100 * (mean(top1[name]) - mean(top1["width-50"])))
        rows.append(
            f"| {each['seed']} | {each['images']:,} | {each['minutes']} | {100 * mean(top1[name]):.2f} "
            f"({', '.join(f'{100 * one:.2f}' for one in top1[name])}) | {ms[name] / ms['width-50']:.1%} "
            f"| {100 * baseline:.2f} | {gains[-1]:+.2f} | {over[-1]:+.2f} "
            f"| {'yes' if each['chosen_is_baseline'] else 'no'} |"
        )
    first = searches[0]
    lines = [
        "# Found networks beside the reference at other widths",
        "",
        f"mobilenas {first['version']}, {first['machine']} ({', '.join(first['cpu_flags'])}), {first['date']}; made by "
        "`python -m benchmarks.headline`, from the JSON files beside it. Top-1 on the test split, the mean of "
        f"{len(seeds)} trainings of {first['final_images']:,} images; latency measured whole, interleaved.",
        "",
        "| search | images | minutes | found, top-1 % | share of the reference's time | baseline at equal latency "
        "| found minus baseline | found minus reference | baseline chosen |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        f"Found minus baseline: {_interval(gains)} points over searches; found minus the whole reference: "
        f"{_interval(over)}.",
        "",
        "| width | ms | top-1 % |",
        "| --- | --- | --- |",
        *(f"| {name.removeprefix('width-')} % | {ms[name]:.4f} | {100 * mean(top1[name]):.2f} |" for name in curve),
        "",
    ]
    (out / "report.md").write_text("\n".join(lines), encoding="utf-8")


def _interval(figures: Sequence[float]) -> str:
    """Their mean with its 95 % interval."""
    if len(figures) < 2:
        return f"{figures[0]:+.2f}"
    half = float(t.ppf(0.975, len(figures) - 1)) * stdev(figures) / len(figures) ** 0.5
    return f"{mean(figures):+.2f} (95 %: {mean(figures) - half:+.2f} to {mean(figures) + half:+.2f})"


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
