"""Learning curves of many networks, for everybody: python -m benchmarks.curves.make --help.

Networks of `mobilenet-v3-small-32px` at width 0.5, half of them near 0.8 times the reference's predicted latency, the
others over the space, and the reference at widths 0.3 to 1.0. Each is trained with two seeds by the recipe `proxy`, and
judged on its way; from 70 % of the final length a copy decays to its end by `final`. What a checkpoint holds is never
trained twice: run the command again and again, half an hour each, until it says that all is done.
"""

import argparse
import csv
import json
import multiprocessing
import os
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import numpy as np
import torch

import mobilenas
from latency.collect import measure_missing
from latency.kit import Campaign
from latency.meter import DeviceSettings, Meter
from latency.probe import Protocol, processor_name, replace_text
from latency.table import LatencyTable
from search.config.load import parse_config
from search.events import Listener
from search.objective.latency import DeviceLatency, Goal
from search.objective.limits import Limits
from search.objective.objective import Objective
from search.objective.reward import HARD
from search.record.store import Store
from search.samplers.feasible_first import propose
from search.samplers.prior import prior_of
from search.tables import Tables
from space.arch import Architecture
from space.choices import SearchSpace
from space.cost import cost_of
from space.encoding import Encoding
from space.errors import Stopped
from space.keys import keys_of
from space.preset import load_preset
from space.reference import mobilenet_v3_small_32px
from space.variation.moves import canonical
from trainer.data.dataset import Dataset
from trainer.data.prepare import prepare
from trainer.data.splits import Splits, split
from trainer.training.judging import judge
from trainer.training.networks import load_model
from trainer.training.recipe import Recipe, load_recipe
from trainer.training.state import TrainingState
from trainer.training.train import Attended, Checkpoints, Trained, train

PRESET, WIDTH = "mobilenet-v3-small-32px", 0.5
CURVE = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
NEAR, WITHIN = 0.8, 0.03
REFERENCE = "width-50"
RUNGS, FINAL = (3000, 6000, 12000, 24000, 48000), 60000
SEEDS = (0, 1)
# What two seeds' curves differ by is theirs; the networks are measured whole, interleaved, so often.
MEASURING = Protocol(rounds=40, most_rounds=80, warm=8, precision=0.01, reopen=4)
HERE = Path(__file__).parent
FIELDS = ("reward_top1", "reward_ll", "reward_p", "test_top1", "test_ll", "test_p")


def recipes(data: str) -> tuple[Recipe, Recipe]:
    """The recipe without an end and the one of the final length; colour photos are moved, too."""
    changes = {"shift": 0.0625} if data == "cifar10" else {}
    found = [load_recipe(name) for name in ("proxy", "final")]
    proxy, final = (replace(each, augmentation=replace(each.augmentation, **changes)) for each in found)
    return proxy, replace(final, images=FINAL)


def space_of(dataset: Dataset) -> SearchSpace:
    """The space for a data set."""
    return SearchSpace(
        preset=load_preset(PRESET),
        width=WIDTH,
        resolution=dataset.preprocess.resolution,
        in_channels=len(dataset.preprocess.mean),
        num_classes=len(dataset.classes),
    )


def latency_table(space: SearchSpace, work: Path, networks: Iterable[Architecture]) -> tuple[LatencyTable, Meter]:
    """This machine's, with the blocks of these networks, too."""
    protocol = parse_config({}).device.protocol
    with closing(Store.open(f"sqlite:///{work / 'latency.db'}")) as store:
        tables = Tables(store=store, settings=DeviceSettings(name="local", threads=1), space=space, protocol=protocol)
        found = tables.known()
        table_id = tables.collect(Listener())[0] if found is None else found[0]
        table, meter = store.tables.load(table_id), tables.meter
        assert meter is not None
        missing = table.missing(key for arch in networks for key in keys_of(arch))
        store.tables.add_entries(table_id, measure_missing(table, missing, meter, protocol), reason="enqueued")
        return store.tables.load(table_id), meter


def width_curve(space: SearchSpace) -> dict[str, Architecture]:
    """The reference at several widths, among them the space's own."""
    made = {}
    for width in CURVE:
        arch = mobilenet_v3_small_32px(width=width)
        sizes = {"resolution": space.resolution, "in_channels": space.in_channels, "num_classes": space.num_classes}
        made[f"width-{round(100 * width)}"] = replace(arch, **sizes)
    return made


def choose(dataset: Dataset, work: Path, count: int) -> list[dict[str, object]]:
    """The networks with what they cost, half of them near the target; measured whole on this machine."""
    space, curve = space_of(dataset), width_curve(space_of(dataset))
    table, meter = latency_table(space, work, curve.values())
    target = NEAR * table.estimate(space.reference)
    rng = random.Random(0)
    chosen = dict(curve)
    names = [*(f"over-{number}" for number in range(count // 2 - len(curve)))]
    names += [f"near-{number}" for number in range(count - count // 2)]
    for name in names:
        arch = space.sample(rng)
        while arch in chosen.values() or (name.startswith("near") and abs(table.estimate(arch) / target - 1) > WITHIN):
            arch = space.sample(rng)
        chosen[name] = arch
    found = meter.run(Campaign(networks=chosen, protocol=MEASURING)).networks
    measured = {name: found[name].measurement.estimate("warm", "wall") for name in chosen}
    return [_row(name, arch, table.estimate(arch), measured[name]) for name, arch in chosen.items()]


def _row(name: str, arch: Architecture, predicted_ms: float, measured_ms: float) -> dict[str, object]:
    return {
        "network": name,
        "space": PRESET,
        "width": WIDTH,
        "arch_id": arch.arch_id,
        "madds": cost_of(arch).madds,
        "params": cost_of(arch).params,
        "predicted_ms": round(predicted_ms, 5),
        "measured_ms": round(measured_ms, 5),
        "spec": arch.to_json(),
    }


def propose_more(
    dataset: Dataset, work: Path, networks: Sequence[Mapping[str, str]], count: int
) -> list[dict[str, object]]:
    """Networks near the target that the shipped prior, fitted on those there are, speaks for.

    Their latencies are shares of the reference's, measured beside them, at what the table says of the reference: so
    they stand beside the others where this is another machine.
    """
    space, curve = space_of(dataset), width_curve(space_of(dataset))
    encoding, prior = Encoding(space), prior_of(space)
    assert prior is not None
    table, meter = latency_table(space, work, curve.values())
    target_ms = NEAR * table.estimate(space.reference)
    objective = Objective(
        encoding=encoding,
        latency=DeviceLatency((Goal(table_id=0, table=table, target_ms=target_ms),)),
        limits=Limits(latency_ms=target_ms),
        reward_of=HARD,
        target_ms=target_ms,
        least_ms=(1 - WITHIN) * target_ms,
    )
    there = {network["network"]: Architecture.from_json(network["spec"]) for network in networks}
    of_prior = [name for name in there if name.startswith("prior-")]
    taken = canonical(encoding, np.array([encoding.encode(there[name]) for name in there if "width-" not in name]))
    chosen = {}
    for number in range(len(of_prior), len(of_prior) + count):
        code = propose(
            objective,
            known=taken[:0],
            top1=np.zeros(0),
            pending=taken[:0],
            excluded=taken,
            rng=np.random.default_rng([1, number]),
            prior=lambda codes: prior.scores(encoding.decode_all(codes)),
        )
        taken = np.vstack([taken, code])
        chosen[f"prior-{number}"] = encoding.decode(code)
    return measured_beside_reference(chosen, table, meter, networks)


def measured_beside_reference(
    chosen: Mapping[str, Architecture], table: LatencyTable, meter: Meter, networks: Sequence[Mapping[str, str]]
) -> list[dict[str, object]]:
    """Rows of more networks; see `propose_more`."""
    known = next(network for network in networks if network["network"] == REFERENCE)
    reference = Architecture.from_json(known["spec"])
    together = {**chosen, REFERENCE: reference}
    found = meter.run(Campaign(networks=together, protocol=MEASURING)).networks
    measured = {name: found[name].measurement.estimate("warm", "wall") for name in together}
    predicted_scale = float(known["predicted_ms"]) / table.estimate(reference)
    measured_scale = float(known["measured_ms"]) / measured[REFERENCE]
    return [
        _row(name, arch, table.estimate(arch) * predicted_scale, measured[name] * measured_scale)
        for name, arch in chosen.items()
    ]


@dataclass(frozen=True)
class Job:
    """One network with one seed, and until when it may be trained."""

    data: str
    folder: Path
    name: str
    spec: str
    seed: int
    work: Path
    until: float

    @property
    def rows(self) -> Path:
        """What is known of it, by images."""
        return self.work / self.data / f"{self.name}-{self.seed}.json"

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to train."""
        return self.rows.exists() and len(json.loads(self.rows.read_text())) == len(RUNGS) + 1


def run(job: Job) -> str:
    """Train a network as far as there is time."""
    os.nice(10)
    torch.set_num_threads(1)
    dataset = Dataset.open(job.folder)
    curve = _Curve(job, dataset, split(dataset))
    try:
        curve.trace()
    except Stopped:
        return f"{job.name}-{job.seed}: to be gone on with"
    return f"{job.name}-{job.seed}: {curve.rows[str(FINAL)]['test_top1']:.4f}"


class _Curve:
    """The states and rows of a job."""

    def __init__(self, job: Job, dataset: Dataset, splits: Splits) -> None:
        self.job, self.dataset, self.splits = job, dataset, splits
        self.arch = Architecture.from_json(job.spec)
        job.rows.parent.mkdir(parents=True, exist_ok=True)
        self.rows: dict[str, dict[str, float]] = json.loads(job.rows.read_text()) if job.rows.exists() else {}

    def trace(self) -> None:
        """All points that are missing."""
        proxy, final = recipes(self.job.data)
        branch = int(final.steps * 0.7) * final.batch_size  # before the decay begins
        for images in RUNGS[:-1]:
            if str(images) not in self.rows:
                self._judge(images, self._train(replace(proxy, images=images), "endless"))
        if str(FINAL) not in self.rows:
            self._train(replace(proxy, images=branch), "endless")
            self._judge(FINAL, self._train(final, "final", start="endless"))
        if str(RUNGS[-1]) not in self.rows:
            self._judge(RUNGS[-1], self._train(replace(proxy, images=RUNGS[-1]), "endless"))
        for name in ("endless", "final"):
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.job.rows.with_suffix(f".{name}")

    def _train(self, recipe: Recipe, name: str, start: str | None = None) -> Trained:
        path = self._path(name)
        begun = path if path.exists() or start is None else self._path(start)
        state = TrainingState.read(begun) if begun.exists() else None
        trained = train(
            self.arch,
            self.dataset,
            self.splits.train,
            recipe,
            seed=self.job.seed,
            state=state,
            attended=Attended(
                checkpoints=Checkpoints(keep=lambda state: state.write(path)),
                stopping=lambda: time.time() > self.job.until,
            ),
        )
        assert trained.state is not None
        trained.state.write(path)
        return trained

    def _judge(self, images: int, trained: Trained) -> None:
        model = load_model(self.arch, trained.weights)
        found = [judge(model, self.dataset, part) for part in (self.splits.reward, self.splits.test)]
        values = [value for each in found for value in (each.top1, each.log_likelihood, each.probability)]
        for part, each in zip(("reward", "test"), found, strict=True):
            path = self._path(f"{images}.{part}")
            path.write_bytes(each.to_bytes())
        self.rows[str(images)] = {name: round(value, 6) for name, value in zip(FIELDS, values, strict=True)}
        self.rows[str(images)]["seconds"] = round(trained.seconds, 1)
        replace_text(self.job.rows, json.dumps(self.rows))


def jobs(data: str, dataset: Dataset, networks: list[dict[str, str]], work: Path, until: float) -> Iterator[Job]:
    """Those that are left, the first seed of all networks first, and of these those near the target."""
    for seed in SEEDS:
        for network in sorted(networks, key=lambda network: not network["network"].startswith(("near", "prior"))):
            job = Job(data, dataset.folder, network["network"], network["spec"], seed, work, until)
            if not job.is_done:
                yield job


def take_up(data: str, work: Path, out: Path) -> None:
    """What is written in the table and is not known here: it was trained elsewhere, and is not trained again."""
    if not out.exists():
        return
    known: dict[Path, dict[str, dict[str, float]]] = {}
    with out.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            path = work / data / f"{row.pop('network')}-{row.pop('seed')}.json"
            images = row.pop("images")
            known.setdefault(path, {})[images] = {name: float(value) for name, value in row.items()}
    for path, rows in known.items():
        here = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps({**rows, **here}))


def write_table(data: str, networks: list[dict[str, str]], work: Path, out: Path) -> int:
    """All that is known so far, as CSV; returns the number of rows."""
    rows = []
    for network in networks:
        for seed in SEEDS:
            path = work / data / f"{network['network']}-{seed}.json"
            known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            rows += [
                {"network": network["network"], "seed": seed, "images": int(images), **known[images]}
                for images in sorted(known, key=int)
            ]
    write_csv(out, rows)
    return len(rows)


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """A file whose columns are those of the first row."""
    if not rows:
        return
    text = StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_text(path, text.getvalue())


def main() -> None:
    """Go on for some time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=("fashion-mnist", "cifar10"), default="fashion-mnist")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--networks", type=int, default=64)
    parser.add_argument("--propose", type=int, default=0, metavar="N", help="so many more that the prior speaks for")
    parser.add_argument("--work", type=Path, default=Path("runs/curves"), help="checkpoints and what was found so far")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    until = time.time() + 60 * arguments.minutes
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    dataset = prepare(arguments.data, resolution=None, data_dir=arguments.data_dir)
    listed = arguments.out / f"{arguments.data}-networks.csv"
    if not listed.exists():
        write_csv(listed, choose(dataset, arguments.work, arguments.networks))
    with listed.open(encoding="utf-8", newline="") as file:
        networks = list(csv.DictReader(file))
    if arguments.propose:
        write_csv(listed, [*networks, *propose_more(dataset, arguments.work, networks, arguments.propose)])
        return
    table = arguments.out / f"{arguments.data}.csv"
    take_up(arguments.data, arguments.work, table)
    left = list(jobs(arguments.data, dataset, networks, arguments.work, until))
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        for line in pool.imap_unordered(run, left):
            print(line, flush=True)
    rows = write_table(arguments.data, networks, arguments.work, table)
    left = list(jobs(arguments.data, dataset, networks, arguments.work, until))
    print(f"{rows} rows; {len(left)} trainings are left" if left else f"{rows} rows; all is done", flush=True)
    print(f"mobilenas {mobilenas.__version__}, torch {torch.__version__}, {processor_name()}", flush=True)


if __name__ == "__main__":
    main()
