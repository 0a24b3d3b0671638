"""Which parts of a search earn their images: python -m benchmarks.headline.arms --help.

Ways to spend the same number of training images on a network for the same target, with three seeds each: the default
race, the race without its sampler, a race that begins with a supernet, trained for it or left by another search,
successive halving as Optuna has it, NetAdapt alone, block-level search and NetAdapt without a race, and the scaled
reference alone, trained again and again or for longer. What each has found is trained by
the same recipe with the same seeds, and measured whole, interleaved. Each step writes a JSON file of its own; run the
command again and again until it says that all is done.
"""

import argparse
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import optuna
import torch
from optuna.pruners import BasePruner, HyperbandPruner, SuccessiveHalvingPruner

import mobilenas
from benchmarks.curves.make import latency_table, space_of
from benchmarks.headline.__main__ import images_of
from benchmarks.headline.steps import SEEDS, made, measure, read, run_all, trainings, write
from search.config.load import RunConfig, parse_config
from search.evaluation.processes import start_context
from search.events import Listener
from search.record.store import Store
from search.run_folder import SUPERNET_WEIGHTS
from search.trainings.supernets import SupernetTraining, train_named
from search.trial import Origin, SearchStage, State
from space.arch import Architecture
from space.choices import SearchSpace
from space.variation.scaling import scaled_references
from trainer.data.dataset import Dataset
from trainer.data.prepare import prepare
from trainer.data.splits import Splits, split
from trainer.training.judging import judge
from trainer.training.networks import load_model
from trainer.training.recipe import Recipe, load_recipe
from trainer.training.train import Trained, train
from trainer.training.weight_files import write_weights

HERE = Path(__file__).parent / "arms"
SHARE, FROM = 0.8, parse_config({}).race.latency_from
"""The target, and the shares of it that networks may take."""
IMAGES = 243_000
RUNGS = ({"images": 3000, "networks": 20}, {"images": 9000, "networks": 8}, {"images": 21_000, "networks": 4})
SUPERNET_IMAGES, TRAINED_AT_ONCE = 15_000, 4
"""The largest member, the smallest and two drawn ones learn from each image; what they take is left out of the race."""
_LOOK = {"images": 0, "networks": 60}
_AFTER_SUPERNET = (
    _LOOK,
    *({"images": 3000, "networks": 10}, {"images": 9000, "networks": 5}, {"images": 21_000, "networks": 3}),
)
FINAL = 30_000
"""A final training, whose decay begins where the last rung ends; three candidates, the baseline and the reference."""
# Optuna's rungs: a step is so many images, and the last one is where the race's last rung ends.
STEP, STEPS, KEPT = 3000, 7, 3


@dataclass(kw_only=True)
class Run:
    """One arm with one seed; what is trained here is trained in this process, on one thread."""

    arm: str
    seed: int
    folder: Path
    work: Path
    out: Path
    spent: int = 0
    _trained: dict[tuple[Architecture, int], Trained] = field(default_factory=dict)

    @cached_property
    def dataset(self) -> Dataset:
        """Images and labels."""
        return Dataset.open(self.folder)

    @cached_property
    def splits(self) -> Splits:
        """Which images train, rank and test."""
        return split(self.dataset)

    @cached_property
    def space(self) -> SearchSpace:
        """Where networks are from."""
        return space_of(self.dataset)

    @cached_property
    def config(self) -> RunConfig:
        """The default run's recipes."""
        return parse_config({"final": {"images": FINAL}})

    def judged(self, arch: Architecture, recipe: Recipe, *, seed: int | None = None) -> float:
        """Train a network, or on where it stopped, and give its log-likelihood on the reward split."""
        key = (arch, self.seed if seed is None else seed)
        before = self._trained.get(key)
        state = None if before is None else before.state
        after = train(arch, self.dataset, self.splits.train, recipe, seed=key[1], state=state)
        self.spent += after.images_seen - (0 if before is None else before.images_seen)
        self._trained[key] = after
        return judge(load_model(arch, after.weights), self.dataset, self.splits.reward).log_likelihood

    def tested(self, arch: Architecture, *, seed: int | None = None) -> float:
        """Its top-1 on the test split, as it was trained last."""
        weights = self._trained[arch, self.seed if seed is None else seed].weights
        return judge(load_model(arch, weights), self.dataset, self.splits.test).top1


Arm = Callable[[Run], dict[str, Any]]
"""What spends the images, and gives the spec of what it has found with the images that it took."""


def searched(changes: Mapping[str, Any]) -> Arm:
    """An arm that is a configuration of ours."""

    def search(run: Run) -> dict[str, Any]:
        folder = run.work / f"{run.arm}-{run.seed}"
        folder.mkdir(parents=True, exist_ok=True)
        url, name = f"sqlite:///{folder / 'record.db'}", f"{run.arm}-{run.seed}"
        with closing(Store.open(url)) as store:
            has_begun = any(record.name == name for record in store.searches.all())
        if has_begun:
            mobilenas.resume(name, database=url)
        else:
            config = {"seed": run.seed, "training": {"seed": run.seed}, "target": {"relative": SHARE}, **changes}
            mobilenas.search(config, name=name, database=url, runs=folder / "runs", html=False)
        return _found(url, name)

    return search


def shared(changes: Mapping[str, Any], *, paid: bool) -> Arm:
    """A race that begins with the weights of a supernet, whose images count where this search has `paid` for it."""

    def search(run: Run) -> dict[str, Any]:
        folder = run.work / f"supernet-{run.seed}"
        wanted = SupernetTraining(
            space=run.space,
            dataset=run.dataset,
            splits=run.splits,
            recipe=replace(load_recipe("proxy"), images=SUPERNET_IMAGES),
            folder=folder,
            seed=run.seed,
        )
        if not (folder / SUPERNET_WEIGHTS).exists():
            train_named(wanted, Listener())
        found = searched({**changes, "supernet": str(folder)})(run)
        return {**found, "images": found["images"] + (TRAINED_AT_ONCE * SUPERNET_IMAGES if paid else 0)}

    return search


def halved(pruner: Callable[[], BasePruner], run: Run) -> dict[str, Any]:
    """Random networks near the target, stopped early as a pruner of Optuna's says; the best are trained on."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    table, _ = latency_table(run.space, run.work, [])
    target_ms, rng = SHARE * table.estimate(run.space.reference), random.Random(run.seed)
    study = optuna.create_study(direction="maximize", pruner=pruner())
    networks: dict[int, Architecture] = {}
    while run.spent < IMAGES - KEPT * (FINAL - STEP * STEPS):
        arch = run.space.sample(rng)
        if not FROM <= table.estimate(arch) / target_ms <= 1 or arch in networks.values():
            continue
        trial = study.ask()
        networks[trial.number] = arch
        value = 0.0
        for step in range(1, STEPS + 1):
            value = run.judged(arch, run.config.rung_recipe(step * STEP))
            trial.report(value, step)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, value)
    ended = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    best = sorted(ended, key=lambda trial: -(trial.value or 0.0))[:KEPT]
    finals = {networks[trial.number]: run.judged(networks[trial.number], run.config.final_recipe) for trial in best}
    found = max(finals, key=lambda arch: finals[arch])
    return {"spec": found.to_json(), "images": run.spent, "test_top1": run.tested(found), "trials": len(networks)}


def scaled(run: Run) -> dict[str, Any]:
    """The widest scaled reference within the target: as many trainings as there are images for, or half as long a one.

    The reward split chooses among all of them.
    """
    curve = scaled_references(run.space)
    table, _ = latency_table(run.space, run.work, curve.values())
    target_ms = SHARE * table.estimate(run.space.reference)
    arch = next(arch for arch in curve.values() if table.estimate(arch) <= target_ms)
    lengths = [IMAGES // 2, *[FINAL] * (IMAGES // 2 // FINAL)]
    judged = {
        seed: run.judged(arch, parse_config({"final": {"images": images}}).final_recipe, seed=seed)
        for seed, images in enumerate(lengths, start=1000 * run.seed)
    }
    best = max(judged, key=lambda seed: judged[seed])
    chosen = {"test_top1": run.tested(arch, seed=best), "chosen_images": lengths[best - 1000 * run.seed]}
    return {"spec": arch.to_json(), "images": run.spent, **chosen}


def walked(run: Run) -> dict[str, Any]:
    """NetAdapt from the trained reference alone."""
    start = run.work / f"{run.arm}-{run.seed}-start"
    if not start.exists():
        trained = train(run.space.reference, run.dataset, run.splits.train, run.config.final_recipe, seed=run.seed)
        start.mkdir(parents=True)
        write_weights(trained.weights, start / "weights.safetensors")
        (start / "architecture.json").write_text(run.space.reference.to_json(), encoding="utf-8")
    config = run.work / "walk.yaml"
    content = {"seed": run.seed, "training": {"seed": run.seed}, "netadapt": _WALK, "final": {"images": FINAL}}
    config.write_text(json.dumps({**content, "html": False}), encoding="utf-8")
    url, name = f"sqlite:///{run.work / f'{run.arm}-{run.seed}.db'}", f"{run.arm}-{run.seed}"
    options = ["--from", start, "--target", f"{SHARE:.0%}", "--name", name, "--config", config]
    command = [sys.executable, "-m", "service.cli", "netadapt", *options, "--runs", start / "runs", "--database", url]
    subprocess.run([str(part) for part in command], check=True)
    found = _found(url, name)
    return {**found, "images": found["images"] + FINAL}


def _found(url: str, name: str) -> dict[str, Any]:
    with closing(Store.open(url)) as store:
        trials = store.trials.of(store.searches.get(name).id)
    trained = [trial for trial in trials if trial.state is State.COMPLETE]
    finals = {trial.origin: trial for trial in trained if trial.stage is SearchStage.FINAL}
    found = finals[Origin.FOUND]
    return {"spec": found.architecture.to_json(), "images": images_of(trained), "test_top1": found.scores.top1}


_RACE = {"race": {"rungs": list(RUNGS)}, "final": {"images": FINAL}}
# What a walk takes depends on how often proposals are not told apart; these came near to the others' images.
_WALK = {"delta": 0.02, "images": 256, "most_images": 1024}
_COUNTS = {"blocks": {"trials": 20, "train_images": RUNGS[0]["images"]}, "netadapt": _WALK, "final": {"images": FINAL}}
ARMS: Mapping[str, Arm] = {
    "race": searched(_RACE),
    "supernet-race": shared({**_RACE, "race": {"rungs": list(_AFTER_SUPERNET)}}, paid=True),
    "supernet-again": shared({**_RACE, "race": {"rungs": [_LOOK, *RUNGS]}}, paid=False),
    "random-race": searched({**_RACE, "blocks": {"sampler": "random"}}),
    "blocks-netadapt": searched(_COUNTS),
    "netadapt": walked,
    "random-asha": partial(halved, partial(SuccessiveHalvingPruner, min_resource=1, reduction_factor=3)),
    "random-hyperband": partial(halved, partial(HyperbandPruner, min_resource=1, max_resource=STEPS)),
    "scaled": scaled,
}
# These train on all cores; the others are run side by side, each on one.
_ON_ALL_CORES = ("race", "supernet-race", "supernet-again", "random-race", "blocks-netadapt", "netadapt")
CURVE = (0.3, 0.35, 0.4, 0.45, 0.5)


def step(run: Run) -> str:
    """One arm with one seed, and what it leaves."""
    if run.arm not in _ON_ALL_CORES:
        torch.set_num_threads(1)
    began = time.time()
    found = ARMS[run.arm](run)
    write(
        run.out, {"arm": run.arm, "seed": run.seed, **found, "minutes": round((time.time() - began) / 60, 2), **made()}
    )
    return f"{run.out.stem}: {found['images']:,} images"


def runs(dataset: Dataset, work: Path, out: Path, arms: Sequence[str], seeds: int) -> Iterator[Run]:
    """Those that are left."""
    for seed in range(seeds):
        for arm in arms:
            run = Run(arm=arm, seed=seed, folder=dataset.folder, work=work, out=out / f"{arm}-{seed}.json")
            if not run.out.exists():
                yield run


def networks(dataset: Dataset, out: Path) -> dict[str, Architecture]:
    """What the arms have found, and the reference at some widths."""
    sizes = space_of(dataset)
    curve = {f"width-{round(100 * width)}": replace(sizes, width=width).reference for width in CURVE}
    arms = sorted(path for path in out.glob("*.json") if path.stem.rpartition("-")[0] in ARMS)
    return {**{path.stem: Architecture.from_json(read(path)["spec"]) for path in arms}, **curve}


def write_report(out: Path, compared: Mapping[str, Architecture]) -> None:
    """report.md beside the files that it is made from."""
    trained = {(each["arch_id"], each["seed"]): 100 * each["top1"] for each in map(read, out.glob("train-*.json"))}
    top1 = {name: mean(trained[arch.arch_id, seed] for seed in SEEDS) for name, arch in compared.items()}
    ms = {name: each["ms"] for name, each in read(out / "latency.json")["networks"].items()}
    curve = sorted((name for name in compared if name.startswith("width-")), key=lambda name: ms[name])
    lines = [
        "# Ways to spend the same images",
        "",
        "`python -m benchmarks.headline.arms`; top-1 on the test split: of the weights that an arm ended with, and the "
        f"mean of {len(SEEDS)} trainings of {FINAL:,} images with other seeds. The baseline is the reference's curve "
        "over its widths, trained alike, at equal measured latency.",
        "",
        "| arm | seed | images | minutes | own weights, top-1 % | top-1 % | share of the reference's time "
        "| minus baseline |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    gains: dict[str, list[float]] = {}
    for name in compared:
        if name in curve:
            continue
        said = read(out / f"{name}.json")
        baseline = float(np.interp(ms[name], [ms[each] for each in curve], [top1[each] for each in curve]))
        gains.setdefault(said["arm"], []).append(top1[name] - baseline)
        share, gain = ms[name] / ms["width-50"], top1[name] - baseline
        lines.append(
            f"| {said['arm']} | {said['seed']} | {said['images']:,} | {said['minutes']} "
            f"| {100 * said['test_top1']:.2f} | {top1[name]:.2f} | {share:.1%} | {gain:+.2f} |"
        )
    lines += ["", "| arm | minus baseline, mean |", "| --- | --- |"]
    lines += [f"| {arm} | {mean(values):+.2f} |" for arm, values in gains.items()]
    (out / "report.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


def main() -> None:
    """Go on with what is left, for so many minutes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--arms", nargs="*", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, required=True, help="folder for records and checkpoints")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--minutes", type=float, default=29.0)
    arguments = parser.parse_args()
    until, out = time.time() + 60 * arguments.minutes, arguments.out
    for folder in (out, arguments.work):
        folder.mkdir(parents=True, exist_ok=True)
    dataset = prepare("fashion-mnist", resolution=None, data_dir=None)
    space = space_of(dataset)
    latency_table(space, arguments.work, scaled_references(space).values())  # measured before anything trains
    left = list(runs(dataset, arguments.work, out, arguments.arms, arguments.seeds))
    for run in left:
        if run.arm in _ON_ALL_CORES and time.time() < until:
            print(step(run), flush=True)
    alone = [run for run in left if run.arm not in _ON_ALL_CORES]
    if alone and time.time() < until:
        with start_context(trains=True).Pool(len(os.sched_getaffinity(0))) as pool:
            for told in pool.imap_unordered(step, alone):
                print(told, flush=True)
    compared = networks(dataset, out)
    if not list(runs(dataset, arguments.work, out, arguments.arms, arguments.seeds)):
        run_all(trainings(dataset, compared.values(), FINAL, out, arguments.work, until))
        if not trainings(dataset, compared.values(), FINAL, out, arguments.work, until):
            measured = out / "latency.json"
            if not measured.exists() or not compared.keys() <= read(measured)["networks"].keys():
                measure(compared, measured)
            write_report(out, compared)
            print("all is done")
            return
    print("run it again")


if __name__ == "__main__":
    multiprocessing.freeze_support()
    main()
