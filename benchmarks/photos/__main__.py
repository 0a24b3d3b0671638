"""Few photos, published weights, a faster network: python -m benchmarks.photos --help.

Of a folder of photos by class so many per class are drawn to train on, and all others test. A search begins with the
weights, for a share of their network's latency; its found network stands beside that network fine-tuned, the same
scaled to the target and trained on as many images, and the same trained from scratch for as long as it was fine-tuned.
Each search writes a JSON file of its own; what is there is not done again.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import unicodedata
from contextlib import closing
from pathlib import Path
from typing import Any

import mobilenas
from benchmarks.raw import Raw
from search.record.store import Store
from search.reports.recorded_search import RecordedSearch
from search.trial import Origin, SearchStage, State, Trial
from trainer.data.imagefolder import find_pictures

PER_CLASS, COMPARED = (20, 100), ("found", "baseline", "reference")


def drawn(photos: Path, per_class: int, seed: int, folder: Path) -> Path:
    """A folder with train/ and test/ of links to photos, the same for the same seed."""
    (classes,) = find_pictures(photos)[0].values()
    rng = random.Random(seed)
    for name, files in sorted(classes.items()):
        mixed = rng.sample(sorted(files), len(files))
        for part, chosen in (("train", mixed[:per_class]), ("test", mixed[per_class:])):
            place = folder / part / unicodedata.normalize("NFC", name)
            place.mkdir(parents=True, exist_ok=True)
            for file in chosen:
                if not (place / file.name).exists():
                    os.link(file, place / file.name)
    return folder


def searched(arguments: argparse.Namespace, data: Path, name: str) -> dict[str, Any]:
    """What a search on these photos has found, and what it is compared with."""
    url = f"sqlite:///{arguments.work / 'record.db'}"
    with closing(Store.open(url)) as store:
        begun = any(record.name == name for record in store.searches.all())
    if begun:
        mobilenas.resume(name, database=url)
    else:
        config = {
            "html": False,
            "blocks": {"reuse": False, "warm_start": False},
            "data": {"folds": arguments.folds},
        }
        mobilenas.search(
            config,
            name=name,
            data=f"imagefolder:{data}",
            resolution=arguments.resolution,
            init=str(arguments.init),
            target=arguments.target,
            budget=arguments.budget,
            database=url,
            runs=arguments.work / "runs",
        )
    with closing(Store.open(url)) as store:
        recorded = RecordedSearch.read(store, name)
        (device,) = recorded.devices
        measured = recorded.measurements(device)
        (start,) = (
            trial
            for trial in store.trials.of(recorded.record.id, SearchStage.BLOCKS)
            if trial.origin == Origin.START and trial.state is State.COMPLETE
        )
        found, reference = recorded.both()
        baseline = found if recorded.found_is_known else recorded.baseline
        assert baseline is not None

        def row(trial: Trial) -> dict[str, Any]:
            right = recorded.right(trial)
            return {
                "right": "".join(map(str, right.astype(int))),
                "ms": measured[trial.number].measured_ms,
                "arch": trial.architecture.to_json(),
            }

        gap = recorded.difference(baseline)
        trainings = (recorded.config.folds + 1) if recorded.config.folds > 1 else 1
        assert start.started_at is not None
        assert start.finished_at is not None
        return {
            "found": row(found),
            "baseline": row(baseline),
            "reference": row(reference),
            "found_is_baseline": recorded.found_is_known,
            "gap": [gap.difference, gap.low, gap.high],
            "target_ms": recorded.start.target_ms,
            "seconds": (start.finished_at - start.started_at).total_seconds() / trainings,
            "images": recorded.config.final.images,
            "folds": recorded.config.folds,
            "rungs": [[rung.images, rung.networks] for rung in recorded.config.race.rungs],
        }


def from_scratch(arguments: argparse.Namespace, data: Path, name: str, seconds: float) -> float:
    """Top-1 on the test photos of the weights' network, trained from scratch for so long on one thread."""
    out = arguments.work / "runs" / f"{name}-scratch"
    command = [sys.executable, "-m", "mobilenas", "train", arguments.network, "--data", f"imagefolder:{data}"]
    command += ["--resolution", str(arguments.resolution), "--minutes", f"{seconds / 60:.3f}", "--threads", "1"]
    subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
    found = json.loads((out / "training.json").read_text(encoding="utf-8"))
    return float(found["test_split"]["top1"])


def add_row(raw: Raw, name: str, per_class: int, seed: int, content: dict[str, Any]) -> None:
    """One search's figures, told and kept."""
    shares = {each: content[each]["right"].count("1") / len(content[each]["right"]) for each in COMPARED}
    raw.add(
        per_class=per_class,
        split=seed,
        folds=content["folds"],
        test_images=len(content["found"]["right"]),
        **{each: round(share, 4) for each, share in shares.items()},
        scratch=round(content["scratch"], 4),
        **{f"{each}_ms": round(content[each]["ms"], 4) for each in COMPARED},
        target_ms=round(content["target_ms"], 4),
        gap_low=round(content["gap"][1], 4),
        gap_high=round(content["gap"][2], 4),
        seconds=round(content["seconds"], 1),
        images=content["images"],
    )
    told = [f"{each} {share:.2%} at {content[each]['ms']:.3f} ms" for each, share in shares.items()]
    print(f"{name}: {', '.join(told)}, from scratch {content['scratch']:.2%}", flush=True)


def main() -> None:
    """All splits, each of which is done once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of photos, a folder each class")
    parser.add_argument("--init", type=Path, required=True, help="a file of published weights")
    parser.add_argument("--network", default="mobilenet_v2", help="whose they are")
    parser.add_argument("--resolution", type=int, default=96)
    parser.add_argument("--target", default="60%")
    parser.add_argument("--budget", default="8m")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--per-class", type=int, nargs="+", default=PER_CLASS)
    parser.add_argument("--folds", type=int, help="as data.folds")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    raw = Raw("photos")
    for seed in range(arguments.splits):
        for per_class in arguments.per_class:
            name = f"photos-{per_class}-{seed}"
            path = arguments.work / f"{name}.json"
            if not path.exists():
                data = drawn(arguments.photos, per_class, seed, arguments.work / name)
                content = searched(arguments, data, name)
                content["scratch"] = from_scratch(arguments, data, name, content["seconds"])
                path.write_text(json.dumps(content), encoding="utf-8")
            content = json.loads(path.read_text(encoding="utf-8"))
            add_row(raw, name, per_class, seed, content)
    raw.write(arguments.csv)


if __name__ == "__main__":
    main()
