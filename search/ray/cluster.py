"""A cluster as its driver sees it: how much room there is, which nodes can run trials, what is left to clear away."""

import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray._private.state import actors
from ray.exceptions import RayError, RaySystemError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.evaluation.artifacts import VARIABLE
from search.ray.coordinator_actor import ACTOR_NAME, PULSE_S, artifacts_of, node_worker
from search.ray.messages import ClusterSetup, versions
from space.errors import MobilenasError, RunError
from space.packages import foreign

# How long nodes may take to be tried, and how slowly a data set may reach them, bytes per second.
_PROBE_S, _SLOWEST = 300.0, 2e6
_LOOK_S = 1.0
# So long a node counts as alive that is lost: what tries it is lost, too, again and again.
_LOST_S = 90.0


def room_for(nodes: list[dict[str, Any]], need: Mapping[str, float]) -> int:
    """How many trials the living nodes can run at once."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    return sum(min(int(has.get(name, 0.0) / amount + 1e-9) for name, amount in need.items() if amount) for has in alive)


class Nodes:
    """The nodes of a cluster that were tried, and can run trials."""

    def __init__(self, setup: ClusterSetup, coordinator: Any) -> None:  # noqa: ANN401 - of Ray's
        self._setup, self._coordinator = setup, coordinator
        self._fit: set[str] = set()
        self._lost_since: dict[str, float] = {}

    def room(self) -> int:
        """How many trials they can run at once."""
        return room_for([node for node in _nodes() if node["NodeID"] in self._fit], self._setup.need)

    def admit(self, alive: Callable[[], None]) -> None:
        """Find out whether the nodes with room for trials that were not tried yet can run them, and let them.

        That is: versions, artefacts, and the data as it is here, which is sent where it is not there; `alive` is called
        while that takes its time.

        Raises:
            RunError: one cannot, or there are several and no place for artefacts.
        """
        nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in _nodes() if room_for([node], self._setup.need)}
        artifacts, token = artifacts_of(self._setup), uuid.uuid4().hex[:12]
        if len(nodes) > 1 and artifacts is None:
            raise RunError(
                f"the cluster has {len(nodes)} nodes, but no place for artefacts that they share: set {VARIABLE} to a "
                "shared folder or to a URL such as s3://bucket/folder"
            )
        new = {node: address for node, address in nodes.items() if node not in self._fit}
        if not new:
            return
        if artifacts is not None:
            artifacts.put(f"probe/{token}", token.encode())
        fit = self._tried(new, token, alive)
        if artifacts is not None:
            for node in fit:
                if artifacts.get(f"probe/{token}-{node}") is None:
                    raise RunError(
                        f"node {nodes[node]} wrote an artefact that is not here; {VARIABLE} must name one place for "
                        "all machines"
                    )
                artifacts.remove(f"probe/{token}-{node}")
            artifacts.remove(f"probe/{token}")
        ray.get(self._coordinator.admit.remote(fit))
        self._fit.update(fit)

    def _tried(self, new: Mapping[str, str], token: str, alive: Callable[[], None]) -> list[str]:
        """Those of these nodes, by their ids with their addresses, that answered that they are fit."""
        task: Any = ray.remote(_probed)
        answers = {}
        for node in new:
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            options = {"num_cpus": 0, "scheduling_strategy": there, "max_retries": 0}
            answers[task.options(**options).remote(self._setup, versions(), token)] = node
        fit: list[str] = []
        end = time.monotonic() + _PROBE_S + _size_of(self._setup.data_folder) / _SLOWEST
        while answers:
            alive()
            ready, _ = ray.wait(list(answers), timeout=_LOOK_S)
            for reference in ready:
                node = answers.pop(reference)
                problem = self._problem(node, reference)
                if problem is not None:
                    raise RunError(f"node {new[node]} cannot run trials: {problem}")
                if node not in self._lost_since:
                    fit.append(node)
            if answers and time.monotonic() > end:
                waiting = ", ".join(new[node] for node in answers.values())
                raise RunError(
                    f"node {waiting} does not answer; look at its disk and network, or take it out of the cluster"
                )
        return fit

    def _problem(self, node: str, reference: Any) -> str | None:  # noqa: ANN401 - of Ray's
        """What a node answered, or why it cannot; None also where it was lost, which it need not be for ever."""
        cause: object
        try:
            problem: str | None = ray.get(reference)
        except RayTaskError as error:
            ray.get(self._coordinator.pulse.remote(), timeout=PULSE_S)  # without that actor no node could
            cause = error.cause or error
            is_lost = isinstance(cause, RayError)
            if isinstance(cause, RaySystemError):  # it could not read what it was sent: mobilenas is not there, say
                cause, is_lost = cause.client_exc, False
        except RayError as error:
            cause, is_lost = error, True
        else:
            self._lost_since.pop(node, None)
            return problem
        since = self._lost_since.setdefault(node, time.monotonic())
        if is_lost and time.monotonic() - since < _LOST_S:
            return None
        return " ".join(f"{type(cause).__name__}: {cause}".split())[:300]


def _nodes() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return found


def _size_of(folder: Path | None) -> int:
    return 0 if folder is None else sum(path.stat().st_size for path in folder.iterdir())


def _probed(setup: ClusterSetup, wanted: Mapping[str, str], token: str) -> str | None:
    """What is wrong with this node; None: nothing."""
    try:
        if problem := foreign():
            return problem
        if (found := versions()) != wanted:
            return f"it has {found}, the coordinator {wanted}; install the same versions"
        artifacts = artifacts_of(setup)
        if artifacts is not None:
            if artifacts.get(f"probe/{token}") != token.encode():
                return f"it does not find the coordinator's artefacts; {VARIABLE} must name one place for all machines"
            artifacts.put(f"probe/{token}-{ray.get_runtime_context().get_node_id()}", b"")
        here = node_worker(setup)
        if setup.data_folder is not None and setup.data_hash is not None:
            here.data(setup.data_folder, setup.data_hash, measure=setup.address is not None)
    except MobilenasError as error:
        return str(error)
    except OSError as error:
        return f"{error}; look at its disks"
    return None


def sweep() -> None:
    """Give back the slots that Ray keeps for drivers of ours that are gone.

    It forgets some, now and then, where a driver's node is lost: they stayed taken for as long as the cluster lives.
    """
    dead = [actor for actor in actors().values() if actor["Name"] == ACTOR_NAME and actor["State"] == "DEAD"]
    gone = tuple({actor["JobID"] for actor in dead})
    for name, group in placement_group_table().items():
        # The last bytes of a placement group's id are those of its job.
        if group["state"] != "REMOVED" and name.endswith(gone):
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(name))))
