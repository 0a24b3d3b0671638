"""One training by several processes, on as many slots of a cluster: Ray Train brings them together.

Each computes the gradient of its part of every batch; `trainer.train.Shard` says how that differs from one process.
"""

import time
from collections.abc import Callable
from typing import Any

import fsspec
import ray.train
import torch
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from search.job import Job, Outcome
from search.ray_desk import asked, station
from search.ray_setup import Setup
from space.errors import RunError


def train_together(job: Job, key: str, setup: Setup) -> None:
    """Run the job that lies at the desk under this key; its result lies there afterwards.

    Raises:
        ray.train.TrainingFailedError: processes or nodes were lost more often than `retries` allows.
    """
    # Ray Train wants a place that all nodes see, although it is given nothing to keep.
    files, root = fsspec.core.url_to_fs(setup.artifacts or str(setup.folder))
    TorchTrainer(
        _take_part,
        train_loop_config={"key": key, "setup": setup},
        torch_config=TorchConfig(backend="nccl" if setup.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=job.processes,
            use_gpu=setup.gpus > 0,
            resources_per_worker={name: amount for name, amount in setup.need.items() if amount},
        ),
        run_config=RunConfig(
            name=key,
            storage_path=f"{root}/together",
            storage_filesystem=PyFileSystem(FSSpecHandler(files)),
            failure_config=FailureConfig(max_failures=setup.retries),
        ),
    ).fit()


def _take_part(config: dict[str, Any]) -> None:
    """One process; what fails by itself, as a training that diverges does, would only fail again."""
    from search.evaluate import help_job, run_job
    from trainer.train import Shard

    key, setup = config["key"], config["setup"]
    if asked("is_finished", key):
        return
    context = ray.train.get_context()
    shard = Shard(rank=context.get_world_rank(), size=context.get_world_size())
    torch.set_num_threads(setup.threads)
    if setup.gpus:
        torch.cuda.set_device(get_device())
    in_time = _deadline(setup.job_seconds)

    def run(job: Job) -> Outcome | None:
        if shard.rank == 0:
            return run_job(job, in_time, shard=shard)
        help_job(job, shard)
        return None

    result = station(setup).run_here(asked("job", key), run)
    if shard.rank == 0 or result.finished.error is not None:
        asked("finish", key, result)
    if result.finished.error is not None:
        raise RunError(result.finished.error)  # so that the others, who wait for this one, are ended


def _deadline(seconds: float) -> Callable[[int, int], None]:
    end = time.monotonic() + seconds

    def in_time(_seen: int, _total: int) -> None:
        if time.monotonic() > end:
            raise RunError(f"it took longer than {seconds / 60:g} minutes (trial_minutes)")

    return in_time
