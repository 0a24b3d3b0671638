"""A Ray cluster of several machines on this one, each in namespaces of its own: network, processes and files.

What Ray does when a machine or a link is lost can only be seen where machines can be lost one by one.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

HEAD, COORDINATOR = "head", "coord"
# Losses are noticed in some ten seconds instead of minutes.
QUICK = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_grpc_client_keepalive_time_ms": "3000",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
}
# A question to the head, in a process that is no node.
ALIVE = """
import sys
from ray._raylet import GcsClient
from ray.core.generated.gcs_pb2 import GcsNodeInfo
nodes = GcsClient(address=sys.argv[1]).get_all_node_info().values()
print(*(node.node_manager_address for node in nodes if node.state == GcsNodeInfo.ALIVE))
"""


@cache
def why_not() -> str | None:
    """Why there can be no such cluster here, None where there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "namespaces need Linux and root"
    if missing := [tool for tool in ("ip", "unshare", "mount") if shutil.which(tool) is None]:
        return f"{', '.join(missing)} is not installed"
    name = f"mn{secrets.token_hex(3)}-try"
    for words in (
        ["ip", "netns", "add", name],
        ["ip", "-n", name, "link", "add", "bridge", "type", "bridge"],
        ["ip", "netns", "del", name],
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
    ):
        tried = subprocess.run(words, capture_output=True, check=False)
        if tried.returncode:
            return f"{' '.join(words)}: {tried.stderr.decode().strip()}"
    return None


class Cluster:
    """A head without room for trials, nodes with room for one each, and a place for a coordinator.

    Nodes do not see `hidden`, a folder of the coordinator's; what they share with it is /mnt, which is `shared`.
    """

    def __init__(self, hidden: Path, shared: Path, nodes: int = 2) -> None:
        self._id = secrets.token_hex(3)
        self._hidden, self.shared = hidden, shared
        self._hub = f"mn{self._id}-hub"
        self.nodes = [f"node{number}" for number in range(nodes)]
        self._machines = [HEAD, COORDINATOR, *self.nodes]
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {
            **os.environ,
            **QUICK,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "MOBILENAS_ARTIFACTS": "/mnt",
        }

    @property
    def address(self) -> str:
        """The head's."""
        return f"{self._ip(HEAD)}:6379"

    def _ip(self, machine: str) -> str:
        return f"10.217.0.{self._machines.index(machine) + 1}"

    def _netns(self, machine: str) -> str:
        return f"mn{self._id}-{machine}"

    def __enter__(self) -> "Cluster":
        self.shared.mkdir(exist_ok=True)
        _ip("netns", "add", self._hub)
        _ip("-n", self._hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._hub, "link", "set", "bridge", "up")
        _ip("-n", self._hub, "addr", "add", "10.217.0.254/24", "dev", "bridge")
        for machine in self._machines:
            there = self._netns(machine)
            _ip("netns", "add", there)
            _ip("-n", self._hub, "link", "add", machine, "type", "veth", "peer", "name", "eth0", "netns", there)
            _ip("-n", self._hub, "link", "set", machine, "master", "bridge", "up")
            _ip("-n", there, "addr", "add", f"{self._ip(machine)}/24", "dev", "eth0")
            _ip("-n", there, "link", "set", "eth0", "up")
            _ip("-n", there, "link", "set", "lo", "up")
            # Ray finds a machine's own address by looking where it would send to the internet.
            _ip("-n", there, "route", "add", "default", "via", "10.217.0.254")
        self.start(HEAD)
        for node in self.nodes:
            self.start(node)
        return self

    def __exit__(self, *_: object) -> None:
        for machine in list(self._running):
            self.kill(machine)
        for machine in self._machines:
            _ip("netns", "del", self._netns(machine))
        _ip("netns", "del", self._hub)

    def start(self, machine: str, *, shares: bool = True) -> None:
        """Start Ray on a machine, again if need be, perhaps with another folder at the place of the shared one."""
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        if machine == HEAD:
            ray += ["--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false"]
        else:
            ray += [f"--address={self.address}", "--num-cpus=1"]
        hide = f"mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray && mount -t tmpfs tmpfs {self._hidden}"
        if not shares:
            hide += " && mount -t tmpfs tmpfs /mnt"
        self._running[machine] = self._popen(machine, ray, hide, log=self.shared / f"{machine}.log")
        time.sleep(5 if machine == HEAD else 0)

    def _popen(
        self, machine: str, command: list[str], prepare: str, log: Path | None = None
    ) -> "subprocess.Popen[bytes]":
        words = ["ip", "netns", "exec", self._netns(machine)]
        words += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        script = f'mount --bind {self.shared} /mnt && {prepare} && exec "$@"'
        with (log or self.shared / "unused.log").open("ab") as output:
            return subprocess.Popen(
                [*words, "sh", "-c", script, "sh", *command],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def run(self, command: list[str], log: Path) -> "subprocess.Popen[bytes]":
        """Start a command at the coordinator's machine."""
        return self._popen(COORDINATOR, command, "mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray", log)

    def kill(self, machine: str) -> None:
        """End a machine with all that runs there, at once."""
        process = self._running.pop(machine)
        process.kill()  # and with it, by --kill-child, the first process of its namespace
        process.wait()

    def restart(self, machine: str) -> None:
        """Start a machine anew, whether it still ran or not."""
        if machine in self._running:
            self.kill(machine)
        self.start(machine)

    def kill_process(self, machine: str, named: bytes) -> int:
        """SIGKILL to the processes of a machine whose command line begins with, or is a path that ends with, a name."""
        killed = 0
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (path / "cmdline").read_bytes().split(b"\0")
                here = os.readlink(path / "ns" / "net") == self._net(machine)
                if here and (words[0].startswith(named) or words[0].endswith(b"/" + named)):
                    os.kill(int(path.name), signal.SIGKILL)
                    killed += 1
        return killed

    def kill_spawned(self, machine: str) -> int:
        """SIGKILL to the processes of a machine that Python's multiprocessing has spawned."""
        killed = 0
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                here = os.readlink(path / "ns" / "net") == self._net(machine)
                if here and b"spawn_main" in (path / "cmdline").read_bytes():
                    os.kill(int(path.name), signal.SIGKILL)
                    killed += 1
        return killed

    def _net(self, machine: str) -> str:
        inode = os.stat(f"/run/netns/{self._netns(machine)}").st_ino
        return f"net:[{inode}]"

    def counts_as_alive(self, machine: str) -> bool:
        """Whether the head takes a machine for one that lives."""
        words = ["ip", "netns", "exec", self._netns(HEAD), sys.executable, "-c", ALIVE, self.address]
        # On a busy machine the head may not answer in time: then nothing has changed.
        asked = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
        return asked.returncode != 0 or self._ip(machine) in asked.stdout.split()

    def cut(self, machine: str) -> None:
        """Cut the link to a machine, without a word."""
        _ip("-n", self._hub, "link", "set", machine, "down")

    def mend(self, machine: str) -> None:
        """Mend a link that was cut."""
        _ip("-n", self._hub, "link", "set", machine, "up")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
