"""Ray's driver: Ray Tune runs the jobs that a coordinator hands in, and keeps nothing.

It is a process of its own, apart from the coordinator, because a driver of Ray can hang or end when the cluster does:
`search.ray.executor` watches it from outside, and starts another one. What it knows is lost with it, and may be; so may
Tune's own files. Nodes reach the coordinator's machine through one actor there.
"""

import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.ray.cluster import Nodes, sweep
from search.ray.coordinator_actor import ACTOR_NAME, PULSE, PULSE_S, CoordinatorActor, artifacts_of
from search.ray.messages import Alive, Capacity, Close, ClusterSetup, DriverLost
from search.ray.tune import SCHEDULERS, Jobs, Rounds, Worker
from space.errors import MobilenasError

_ROOM_S = 2.0
# What an earlier driver left taken is given back in the first while; later there is nothing that could be new.
_SWEEP_S = 60.0

_log = logging.getLogger("mobilenas.ray")


def drive(pipe: "Connection[object, object]", setup: ClusterSetup) -> None:
    """A driver's life, in a process of its own: jobs in; signs of life and results out."""
    output = os.open(setup.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    lock = threading.Lock()

    def tell(message: object) -> None:
        with lock, suppress(OSError):  # where nobody listens any more, this process is about to be ended
            pipe.send(message)

    try:
        _run(pipe, setup, tell)
    except MobilenasError as error:
        tell(DriverLost(str(error), is_final=True))
    except Exception as error:  # noqa: BLE001 - told, whatever it is
        _log.exception("Ray Tune ended")
        tell(DriverLost(f"{type(error).__name__}: {error}"))


def _run(pipe: "Connection[object, object]", setup: ClusterSetup, tell: Callable[[object], None]) -> None:
    _connect(setup)
    tell(Alive(is_start=True))
    here = ray.get_runtime_context().get_node_id()
    at_home = NodeAffinitySchedulingStrategy(here, soft=False)
    made: Any = ray.remote(concurrency_groups={PULSE: 1})(CoordinatorActor)  # type: ignore[call-overload]
    coordinator = made.options(name=ACTOR_NAME, num_cpus=0, scheduling_strategy=at_home, max_concurrency=16).remote(
        artifacts_of(setup)
    )
    ray.get(coordinator.__ray_ready__.remote())
    nodes = Nodes(setup, coordinator)
    nodes.admit(lambda: tell(Alive(is_start=True)))
    jobs = Jobs(coordinator, setup, tell)

    def listen() -> None:
        while not isinstance(message := heard(), Close):
            jobs.hear(message)
        ray.shutdown()  # ends everything that this driver has on the cluster
        tell(Close())

    def heard() -> object:
        try:
            return pipe.recv()
        except (EOFError, OSError):
            os.killpg(0, signal.SIGKILL)  # nobody knows of this driver any more, and nobody would end it
            raise

    def feel() -> None:
        room = nodes.room()
        jobs.felt(ray.get(coordinator.pulse.remote(), timeout=PULSE_S), room)
        tell(Capacity(room))

    def look_around() -> None:
        begun = time.monotonic()
        while True:
            try:
                if time.monotonic() - begun < _SWEEP_S:
                    sweep()
                feel()
                nodes.admit(feel)
            except RayError as error:
                tell(DriverLost(f"what it has at the coordinator's machine is gone ({type(error).__name__})"))
                return
            except MobilenasError as error:
                tell(DriverLost(f"{error}; then resume", is_final=True))
                return
            time.sleep(_ROOM_S)

    for thread in (listen, look_around):
        threading.Thread(target=thread, daemon=True).start()
    resources: dict[str, Any] = {"cpu": setup.cpus, "gpu": setup.gpus, "custom_resources": dict(setup.resources)}
    for number in itertools.count():
        tell(Alive(is_start=True))
        scheduler = SCHEDULERS[setup.scheduler]()
        scheduler.jobs = jobs
        tune.run(
            Worker,
            search_alg=jobs,
            scheduler=scheduler,
            num_samples=-1,
            resources_per_trial=resources,
            reuse_actors=True,
            max_failures=0,  # which is counted here: Tune takes the loss of an idle slot for two
            raise_on_failed_trial=False,
            storage_path=str(setup.folder / "tune"),
            name=f"trials-{number}",
            trial_dirname_creator=lambda trial: trial.trial_id,
            callbacks=[Rounds(jobs)],
            verbose=0,
        )
        jobs.train_together()


# Tune keeps no files of its own here, and starts as many slots at once as the cluster has room for.
_TUNE = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
    "TUNE_MAX_PENDING_TRIALS_PG": "64",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Only now and then has a report what schedulers compare.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # Else Tune begins trials of preempted nodes anew by itself.
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def _store_bytes() -> int:
    """What the object store may have of this machine's shared memory; more of a data set than that goes to disk."""
    shared = os.statvfs("/dev/shm")  # noqa: S108 - Ray's own place
    return max(80_000_000, min(2_000_000_000, int(shared.f_bavail * shared.f_frsize * 0.8)))


def _connect(setup: ClusterSetup) -> None:
    """Join a cluster as a node without room for trials, or start one here.

    A driver needs a node of Ray's on its own machine; to look first whether there is one takes a minute if not.
    """
    os.environ.update(_TUNE)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "warning"}
    if setup.address is None:
        # Else Ray would join whatever cluster this machine has last been in.
        ray.init("local", num_cpus=setup.local_cpus, include_dashboard=False, **options)
        return
    if os.environ.get("RAY_AUTH_TOKEN"):
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # a head does so by itself, who joins does not
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={setup.address}"]
    limits = ["--num-cpus=0", "--num-gpus=0", f"--object-store-memory={_store_bytes()}"]
    subprocess.run([*command, *limits], check=True, stdin=subprocess.DEVNULL)
    ray.init(address=setup.address, **options)
