"""Which executor runs the trials of a search: this machine's cores, or a Ray cluster."""

import os
import re
from importlib.util import find_spec

from search.config.load import RunConfig
from search.config.sections import RAY_ADDRESS
from search.evaluation.artifacts import artifact_store
from search.evaluation.data import folder_of
from search.evaluation.executor import Executor, LocalExecutor
from search.events import Listener
from search.plan import Inputs, compute_device
from search.ray.executor import RayExecutor
from search.ray.messages import ClusterSetup
from space.errors import InvalidConfig
from trainer.training.networks import require_device, visible_gpus


def cluster_of(config: RunConfig) -> str | None:
    """HOST:PORT of the Ray cluster's head, None where all trials run on this machine, be it by Ray.

    Raises:
        InvalidConfig: Ray is not installed, or RAY_ADDRESS is something else.
    """
    if config.executor == "local":
        return None
    if find_spec("ray") is None:
        raise InvalidConfig("executor ray needs Ray: pip install 'mobilenas[ray]', here and on every node")
    address = config.ray.address or os.environ.get("RAY_ADDRESS") or None
    if address is not None and not re.fullmatch(RAY_ADDRESS, address):
        raise InvalidConfig(f"RAY_ADDRESS {address!r} is not HOST:PORT of the cluster's head, such as 10.0.0.1:6379")
    return address


def executor_for(inputs: Inputs, listener: Listener) -> Executor:
    """The executor of a search.

    Raises:
        InvalidConfig: as in `cluster_of`.
        RunError: networks are to be trained on a GPU, and there is none here.
    """
    config, address = inputs.config, cluster_of(inputs.config)
    job_seconds = config.trial_minutes * 60
    if config.executor == "local":
        require_device(compute_device(config))
        gpus = visible_gpus() if compute_device(config) == "cuda" else ()
        return LocalExecutor(inputs.workers, job_seconds=job_seconds, gpus=gpus, trains=config.own_evaluator is None)
    artifacts = artifact_store()
    setup = ClusterSetup(
        address=address,
        local_cpus=inputs.workers,
        cpus=config.ray.cpus,
        gpus=config.ray.gpus,
        resources=config.ray.resources,
        retries=config.ray.retries,
        scheduler=config.ray.scheduler,
        job_seconds=job_seconds,
        artifacts=None if artifacts is None else artifacts.url,
        data_folder=folder_of(inputs.data),
        data_hash=inputs.data.content,
    )
    return RayExecutor(setup, concurrent=config.ray.max_concurrent_trials, note=listener.note)
