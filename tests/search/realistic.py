"""Searches as they really look, without training: real networks of a shipped space, a made-up accuracy and latency."""

import math
import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from search.record.rows import SearchRecord
from search.record.store import Store
from search.trial import NetAdaptStep, NetworkMeasurement, Scores, SearchStage, State, Trial
from space.arch import Architecture
from space.choices import SearchSpace
from space.cost import cost_of
from space.narrowing import narrowings
from space.preset import load_preset
from tests.search.content import START
from tests.search.judgements import write_judgement
from tests.search.makers import CONFIG, new_start

TARGET_MS, SEED_TARGET_MS, TEST_IMAGES = 0.42, 0.525, 10_000


def real_space() -> SearchSpace:
    """The space of the default run."""
    return SearchSpace(
        preset=load_preset("mobilenet-v3-small-32px"), width=0.5, resolution=32, in_channels=1, num_classes=10
    )


def latency_ms(arch: Architecture) -> float:
    """Made up: a part for each block, a part for the work, and squeeze-and-excite costs extra."""
    blocks = [block for stage in arch.stages for block in stage.blocks]
    return 0.1 + 0.018 * len(blocks) + 0.009 * sum(block.use_se for block in blocks) + 0.028 * cost_of(arch).madds / 1e6


def accuracy(arch: Architecture, rng: random.Random) -> float:
    """Made up: more work helps less and less, large kernels help in the fourth stage, h-swish in the last."""
    work = math.log(cost_of(arch).madds / 1e6)
    kernels = sum(block.kernel_size >= 5 for block in arch.stages[3].blocks) / len(arch.stages[3].blocks)
    hswish = arch.stages[4].blocks[0].activation == "hswish"
    return 0.80 + 0.022 * work + 0.012 * kernels + 0.006 * hswish + rng.gauss(0, 0.004)


class Teller:
    """Writes one search; its clock goes on by what each trial takes."""

    def __init__(self, store: Store, name: str, runs: Path, seed: int, table_id: int | None = None) -> None:
        self.store, self.rng, self.now, self.count, self.space = store, random.Random(seed), START, 0, real_space()
        config: dict[str, Any] = {**CONFIG, "name": name, "seed": seed}
        start = new_start(
            store,
            **({} if table_id is None else {"table_id": table_id}),
            run_folder=runs / name,
            target_ms=TARGET_MS,
            seed_target_ms=SEED_TARGET_MS,
            fastest_ms=0.22,
            slowest_ms=1.31,
            reference_ms=latency_ms(self.space.reference),
        )
        self.search: SearchRecord = store.searches.create(name=name, config=config, start=start, owner="ada")

    def trial(
        self,
        arch: Architecture,
        stage: SearchStage = SearchStage.BLOCKS,
        origin: str = "tpe",
        **changes: Any,  # noqa: ANN401 - fields of Trial
    ) -> Trial:
        """Record the trial of a network with its outcome."""
        cost, seconds = cost_of(arch), {"blocks": 95.0, "netadapt": 11.0, "final": 1900.0}[stage.value]
        scores = Scores(top1=None, latency_ms=latency_ms(arch), madds=cost.madds, params=cost.params)
        trial = Trial(
            number=self.count,
            stage=stage,
            state=State.RUNNING,
            origin=origin,
            architecture=arch,
            scores=scores,
            seed=0,
            started_at=self.now,
            evaluation_key=f"{self.search.name}-{self.count}",
        )
        self.count += 1
        trial = self.store.trials.start(self.search.id, replace(trial, **changes))
        if trial.state is not State.RUNNING:
            return trial
        self.now += timedelta(seconds=seconds * self.rng.uniform(0.8, 1.3))
        top1 = round(accuracy(arch, self.rng) + (0.05 if stage is SearchStage.FINAL else 0), 4)
        done = replace(trial, state=State.COMPLETE, scores=replace(scores, top1=top1), finished_at=self.now)
        done = replace(done, images_seen={"blocks": 6000, "netadapt": 640, "final": 60000}[stage.value])
        reward = top1 * min(1.0, SEED_TARGET_MS / scores.latency_ms) if stage is SearchStage.BLOCKS else None
        self.store.trials.finish(self.search.id, done, reward=reward)
        return done

    def blocks(self, trials: int) -> list[Trial]:
        """The block-level search: the reference, then random proposals, then changes to the best ones."""
        done = [self.trial(self.space.reference, origin="reference")]
        proposals = 0
        while len(done) < trials and proposals < 50 * trials:
            proposals += 1
            params = {name: self.rng.choice(choices) for name, choices in self.space.parameters.items()}
            best = sorted((each for each in done if each.params), key=lambda each: -(each.scores.top1 or 0))[:8]
            if len(done) > trials / 3 and best:
                kept = self.rng.choice(best).params or {}
                params = {name: kept[name] if self.rng.random() < 0.8 else value for name, value in params.items()}
            arch = self.space.architecture(params)
            if latency_ms(arch) > 1.05 * SEED_TARGET_MS:
                why = f"{latency_ms(arch):.3f} ms is over the limit of {1.05 * SEED_TARGET_MS:.3f} ms"
                if self.rng.random() < 0.05:
                    self.trial(arch, params=params, state=State.PRUNED, finished_at=self.now, error=why)
            else:
                done.append(self.trial(arch, params=params))
        return done

    def walk(self, seed: Trial, steps: int = 40) -> Trial:
        """NetAdapt's walk from a network to the target."""
        self.store.searches.set_stage(self.search.id, SearchStage.NETADAPT)
        current = seed
        for iteration in range(1, steps + 1):
            if current.scores.latency_ms <= TARGET_MS:
                break
            places = [place[0] for place in narrowings(current.architecture) if place]
            tried = [
                self.trial(
                    proposal.architecture,
                    SearchStage.NETADAPT,
                    proposal.narrowed,
                    parent=current.number,
                    iteration=iteration,
                )
                for proposal in places[:5]
            ]
            best = max(tried, key=lambda each: each.scores.top1 or 0)
            self.store.trials.add_step(
                self.search.id,
                NetAdaptStep(
                    iteration=iteration,
                    trial=best.number,
                    parent=current.number,
                    narrowed=best.origin,
                    latency_before_ms=current.scores.latency_ms,
                    latency_after_ms=best.scores.latency_ms,
                    top1_before=current.scores.top1 or 0,
                    top1_after=best.scores.top1 or 0,
                    proposals=len(tried),
                ),
            )
            current = best
        return current

    def finals(self, found: Architecture, *, with_files: bool = True) -> list[Trial]:
        """The final trainings, with the files that say which test images were right, and the measurements."""
        self.store.searches.set_stage(self.search.id, SearchStage.FINAL)
        draws = np.random.default_rng(self.search.id).random(TEST_IMAGES)
        trials = []
        for origin, arch, share in (("found", found, 0.912), ("reference", self.space.reference, 0.905)):
            right = draws < share
            # Each network is right on some images where the other is wrong.
            right[: TEST_IMAGES // 200] ^= origin == "found"
            counts = {"correct": int(right.sum()), "total": TEST_IMAGES}
            trials.append(self.trial(arch, SearchStage.FINAL, origin, **counts))
            if with_files:
                write_judgement(self.search.require_start().files.tested(trials[-1].number), right)
        return trials

    def certify(self, trials: list[Trial]) -> None:
        """The measurements of the final networks; the search is done."""
        measured = [
            NetworkMeasurement(
                trial=trial.number,
                predicted_ms=trial.scores.latency_ms,
                measured_ms=trial.scores.latency_ms * factor,
                low_ms=trial.scores.latency_ms * factor * 0.99,
                high_ms=trial.scores.latency_ms * factor * 1.015,
                median_ms=trial.scores.latency_ms * factor * 1.03,
                samples=3,
            )
            for trial, factor in zip(trials, (1.013, 0.985), strict=True)
        ]
        table_id = self.search.require_start().table_id
        assert table_id is not None
        self.store.trials.add_measurements(self.search.id, table_id, [(row, (1.0, 1.1, 1.2)) for row in measured])
        self.store.searches.set_stage(self.search.id, SearchStage.DONE)


def whole_search(store: Store, name: str, runs: Path, *, seed: int = 0, trials: int = 40) -> Teller:
    """A search from its first trial to its certificate."""
    teller = Teller(store, name, runs, seed)
    done = teller.blocks(trials)
    slow = [trial for trial in done if trial.origin != "reference" and trial.scores.latency_ms > TARGET_MS] or done
    walked = teller.walk(max(slow, key=lambda trial: trial.scores.top1 or 0))
    teller.certify(teller.finals(walked.architecture))
    return teller
