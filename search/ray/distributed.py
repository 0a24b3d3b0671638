"""One training by several processes, on as many slots of a cluster: Ray Train brings them together.

Each computes the gradient of its part of every batch; `trainer.training.batches.Shard` says how that differs from one
process.
"""

import math
import os
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import fsspec
import ray.train
import torch
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from search.evaluation.executor import failed
from search.evaluation.job import Job, Outcome
from search.ray.coordinator_actor import ask_coordinator, await_admission, node_worker
from search.ray.messages import ClusterSetup
from search.ray.node import Result
from space.errors import RunError, TimeLimit

_TELL_S = 1.0


def train_together(job: Job, key: str, setup: ClusterSetup) -> None:
    """Run the job that lies at the coordinator's actor under this key; its result lies there afterwards.

    Raises:
        ray.train.TrainingFailedError: processes or nodes were lost more often than `retries` allows.
    """
    # Ray Train wants a place that all nodes see, although it is given nothing to keep.
    files, root = fsspec.core.url_to_fs(setup.artifacts or str(setup.folder))
    place, name = f"{root}/together", uuid.uuid4().hex
    try:
        TorchTrainer(
            _take_part,
            train_loop_config={"key": key, "setup": setup},
            torch_config=TorchConfig(backend="nccl" if setup.gpus else "gloo", timeout_s=math.ceil(setup.job_seconds)),
            scaling_config=ScalingConfig(
                num_workers=job.evaluation.processes,
                use_gpu=setup.gpus > 0,
                resources_per_worker={name: amount for name, amount in setup.need.items() if amount},
            ),
            run_config=RunConfig(
                name=name,
                storage_path=place,
                storage_filesystem=PyFileSystem(FSSpecHandler(files)),
                failure_config=FailureConfig(max_failures=setup.retries),
            ),
        ).fit()
    finally:
        with suppress(OSError):
            files.rm(f"{place}/{name}", recursive=True)


def _take_part(config: dict[str, Any]) -> None:
    """One process; what fails by itself, as a training that diverges does, would only fail again."""
    from search.evaluation.worker import help_training, run_training
    from trainer.training.batches import Shard

    key, setup = config["key"], config["setup"]
    await_admission()
    if ask_coordinator("is_finished", key):
        return
    context = ray.train.get_context()
    shard = Shard(rank=context.get_world_rank(), size=context.get_world_size())
    torch.set_num_threads(setup.threads)
    if setup.gpus:
        torch.cuda.set_device(get_device())
    job: Job = ask_coordinator("job", key)

    def run(prepared: Job) -> Outcome | None:
        if shard.rank == 0:
            return run_training(prepared, _teller(key), shard=shard)
        help_training(prepared, shard)
        return None

    limit = threading.Timer(setup.job_seconds, _end_late, (key, job, setup))
    limit.daemon = True
    limit.start()
    try:
        result = node_worker(setup).run_here(job, run)
    finally:
        limit.cancel()
    if shard.rank == 0 or result.finished.error is not None:
        ask_coordinator("finish", key, result)
    if result.finished.error is not None:
        raise RunError(result.finished.error)  # so that the others, who wait for this one, are ended


def _end_late(key: str, job: Job, setup: ClusterSetup) -> None:
    """Nothing else ends a process that waits for another one."""
    late = TimeLimit(f"it took longer than {setup.job_seconds / 60:g} minutes (trial_minutes)")
    ask_coordinator("finish", key, Result(finished=failed(job, late), weights=None))
    os._exit(1)


def _teller(key: str) -> Callable[[int, int], None]:
    told = time.monotonic()

    def tell(seen: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > _TELL_S:
            told = time.monotonic()
            ask_coordinator("tell_share", key, seen / total)

    return tell
