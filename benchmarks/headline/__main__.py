"""Is the found network better than the one that everybody could have taken? python -m benchmarks.headline --help.

So many searches of the default job, each with an empty record and its own seed of search and training. Then every found
network and the reference at widths 0.30 to 1.00 are trained by the same recipe with the same seeds, and measured whole,
interleaved. The baseline of a found network is the reference's curve over its widths, interpolated at equal measured
latency. Each step writes a JSON file of its own; run the command again and again until it says that all is done.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import mobilenas
from benchmarks.curves.make import space_of
from benchmarks.headline.report import write_report
from benchmarks.headline.steps import SEEDS, made, measure, read, run_all, trainings, write
from search.config.load import parse_config
from search.record.store import Store
from search.trial import SearchStage, State, Trial
from space.arch import Architecture
from space.reference import REFERENCES, mobilenet_v3_small_32px
from trainer.data.dataset import Dataset
from trainer.data.prepare import prepare

# The other published families at widths that make them about as fast as the target; V2 cannot be.
FAMILIES = {"mobilenet_v1_32px": 0.2, "mobilenet_v3_large_32px": 0.15}
WIDTHS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 1.0)
HERE = Path(__file__).parent


def search(data: str, data_dir: str | None, seed: int, budget: str, work: Path, out: Path) -> None:
    """One search, or on with it; what it found, and what it took."""
    folder = work / f"search-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    url, name = f"sqlite:///{folder / 'record.db'}", f"headline-{seed}"
    began = time.time()
    with closing(Store.open(url)) as store:
        has_begun = any(record.name == name for record in store.searches.all())
    if has_begun:
        found = mobilenas.resume(name, database=url)
    else:
        source = {"source": data, "data_dir": data_dir}
        config = {"seed": seed, "training": {"seed": seed}, "data": source}
        found = mobilenas.search(config, name=name, database=url, runs=folder / "runs", budget=budget)
    with closing(Store.open(url)) as store:
        record = store.searches.get(name)
        trials = store.trials.of(record.id)
    config = parse_config(dict(record.config))
    trained = [trial for trial in trials if trial.state is State.COMPLETE]
    finals = {trial.origin: trial for trial in trained if trial.stage is SearchStage.FINAL}
    content = {
        "seed": seed,
        "budget": budget,
        "minutes": None if has_begun else round((time.time() - began) / 60, 2),
        "images": images_of(trained),
        "final_images": config.final.images,
        "rungs": [[rung.images, rung.networks] for rung in config.race.rungs],
        "chosen_is_baseline": "baseline" in finals and finals["found"].architecture == finals["baseline"].architecture,
        "spec": finals["found"].architecture.to_json(),
        "report": json.loads((found.folder / "report.json").read_text(encoding="utf-8")),
        **made(),
    }
    write(out, content)


def images_of(trained: Sequence[Trial]) -> int:
    """How many images trials were trained on, what they went on from left out."""
    begun = {trial.number: trial.images_seen for trial in trained}
    finals = {trial.number for trial in trained if trial.stage is SearchStage.FINAL}  # one of them is tested once more
    return sum(
        trial.images_seen - (begun.get(trial.parent, 0) if trial.parent is not None else 0)
        for trial in trained
        if trial.stage is not SearchStage.FINAL or trial.parent not in finals
    )


def networks(dataset: Dataset, out: Path) -> dict[str, Architecture]:
    """The found networks, the width curve, and the other families."""
    space = space_of(dataset)
    sizes = {"resolution": space.resolution, "in_channels": space.in_channels, "num_classes": space.num_classes}
    curve = {f"width-{round(100 * width)}": replace(mobilenet_v3_small_32px(width=width), **sizes) for width in WIDTHS}
    found = {path.stem: Architecture.from_json(read(path)["spec"]) for path in sorted(out.glob("search-*.json"))}
    others = {name: REFERENCES[name](width=width, **sizes) for name, width in FAMILIES.items()}
    return {**found, **curve, **others}


def final_images(out: Path) -> int:
    """As many as the median search's final trainings had."""
    lengths = sorted(read(path)["final_images"] for path in out.glob("search-*.json"))
    found: int = lengths[len(lengths) // 2]
    return found


def main() -> None:
    """Go on with what is left, for so many minutes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--data-dir")
    parser.add_argument("--searches", type=int, default=8)
    parser.add_argument("--budget", default="default")
    parser.add_argument("--work", type=Path, required=True, help="folder for records and checkpoints")
    parser.add_argument("--out", type=Path, help="folder for the results; default: beside this file")
    parser.add_argument("--minutes", type=float, default=29.0)
    arguments = parser.parse_args()
    until, out = time.time() + 60 * arguments.minutes, arguments.out or HERE / arguments.data
    out.mkdir(parents=True, exist_ok=True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.searches):
        path = out / f"search-{seed}.json"
        if not path.exists():
            if time.time() > until:
                print(f"{path.stem} is next")
                return
            search(arguments.data, arguments.data_dir, seed, arguments.budget, arguments.work, path)
            print(f"{path.stem}: done")
    dataset = prepare(
        arguments.data, resolution=None, data_dir=Path(arguments.data_dir) if arguments.data_dir else None
    )
    compared, images = networks(dataset, out), final_images(out)
    run_all(trainings(dataset, compared.values(), images, out, arguments.work, until))
    if trainings(dataset, compared.values(), images, out, arguments.work, until):
        print("run it again")
        return
    if not (out / "latency.json").exists():
        measure(compared, out / "latency.json")
    write_report(out, {name: arch.arch_id for name, arch in compared.items()}, SEEDS)
    print("all is done")


if __name__ == "__main__":
    multiprocessing.freeze_support()
    main()
