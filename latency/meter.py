"""Who measures: this machine, or a device behind ssh. Both run the kit that a person could carry there by hand."""

import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, get_args
from typing import Protocol as Interface
from urllib.parse import urlsplit

from filelock import FileLock

from latency import probe
from latency.device import Device, GraphOptimization, read_device
from latency.kit import Campaign, make_kit
from latency.probe import Runtime
from latency.results import Results, read_results, read_results_file
from space.errors import DeviceError

MeasuringProgress = Callable[[int, int, str], None]
"""Called with (visits done, visits expected, what is going on)."""

ONE_THREAD = Runtime()
SSH_SECONDS = 30


class Meter(Interface):
    """Measures campaigns on one device."""

    @property
    def device(self) -> Device:
        """The device as it is now.

        Raises:
            DeviceError: it cannot be reached, or lacks what the measurement needs.
        """
        ...

    def run(self, campaign: Campaign, progress: MeasuringProgress | None = None, *, keep: bool = False) -> Results:
        """Measure a campaign; one that was broken off goes on where it was.

        With `keep`, which is for within `keeping`, the same campaign has the same results from then on.

        Raises:
            DeviceError: the device cannot be reached or cannot measure.
            InvalidResults: what came back is unfit.
        """
        ...

    def keeping(self) -> AbstractContextManager[None]:
        """Within it results are kept until they are recorded; where it ends well, they are forgotten."""
        ...


@dataclass(frozen=True)
class LocalMeter:
    """This machine. Kits lie in `workspace` while they are measured; without one, they do not outlive the process."""

    name: str
    runtime: Runtime = ONE_THREAD
    workspace: Path | None = None
    _kept: list[Path] = field(default_factory=list, compare=False, repr=False)

    @property
    def device(self) -> Device:
        """This machine as ONNX Runtime will use it.

        Raises:
            DeviceError: it has fewer CPUs for this process than threads.
        """
        try:
            return read_device(self.name, probe.describe(self.runtime))
        except probe.Refused as error:
            raise DeviceError(str(error)) from error

    def run(self, campaign: Campaign, progress: MeasuringProgress | None = None, *, keep: bool = False) -> Results:
        """See `Meter`."""
        kit = make_kit(campaign)
        try:
            with self._folder(f"{kit.id}-{self.device.fingerprint}") as folder:
                if not kit.is_in(folder):
                    kit.write(folder)
                path = probe.measure_folder(folder, self.runtime, anyway=True, progress=progress)
                results = read_results(path.read_text(encoding="utf-8"), self.name)
                self._kept.append(folder)
                if not keep:
                    self._discard()
                return results
        except probe.Refused as error:
            raise DeviceError(str(error)) from error
        except OSError as error:
            raise DeviceError(
                f"the kit cannot be measured in {self.workspace or tempfile.gettempdir()}: {error}"
            ) from error

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """See `Meter`. Others wait meanwhile: they might be in the very folder that is then removed."""
        with self._alone():
            yield
            self._discard()

    def _alone(self) -> AbstractContextManager[object]:
        """Two measurements at once would disturb each other."""
        if self.workspace is None:
            return nullcontext()
        try:
            self.workspace.mkdir(parents=True, exist_ok=True)
            # A singleton: its holder may take it once more.
            return FileLock(self.workspace / "measuring.lock", is_singleton=True).acquire()
        except OSError as error:
            raise DeviceError(f"the workspace {self.workspace} cannot be used: {error}") from error

    def _discard(self) -> None:
        while self._kept:
            shutil.rmtree(self._kept.pop(), ignore_errors=True)

    @contextmanager
    def _folder(self, name: str) -> Iterator[Path]:
        if self.workspace is None:
            with tempfile.TemporaryDirectory(prefix="mobilenas-") as scratch:
                yield Path(scratch)
        else:
            with self._alone():
                yield self.workspace / name


@dataclass(frozen=True, slots=True)
class Address:
    """Where a device is: ssh://user@host:port, with the Python to call there and the cores to keep to."""

    host: str
    port: int | None = None
    python: str = "python3"
    cpus: str | None = None

    @classmethod
    def parse(cls, url: str, python: str = "python3", cpus: str | None = None) -> "Address":
        """Read ssh://[user@]host[:port].

        Raises:
            DeviceError: it is something else; passwords have no place in it.
        """
        try:
            parts = urlsplit(url)
            host, port, user = parts.hostname, parts.port, parts.username
        except ValueError as error:
            raise DeviceError(f"{url!r} is not an address: {error}; give ssh://user@host:port") from error
        # What begins with a dash, ssh would take for an option.
        plain = all(part is None or (part.isprintable() and not part.startswith("-")) for part in (host, user))
        odd = not url.isprintable() or " " in url
        if parts.scheme != "ssh" or not host or parts.path not in ("", "/") or not plain or odd:
            raise DeviceError(f"{url!r} is not the address of a device; give ssh://user@host:port")
        if parts.password is not None:
            raise DeviceError("an address must not hold a password; set up an ssh key, and give ssh://user@host:port")
        return cls(f"{user}@{host}" if user else host, port, python, cpus)

    def ssh(self, command: str) -> list[str]:
        """The command line that runs `command` there; host keys are checked, and nobody is asked for a password."""
        port = ["-p", str(self.port)] if self.port else []
        return ["ssh", *_OPTIONS, *port, "--", self.host, command]

    def scp(self, source: str, target: str) -> list[str]:
        """The command line that copies a file; remote ones begin with `self.remote`."""
        port = ["-P", str(self.port)] if self.port else []
        return ["scp", "-q", *_OPTIONS, *port, "--", source, target]

    def remote(self, path: PurePosixPath) -> str:
        """A path there, as scp writes it."""
        host = self.host
        if ":" in host:  # an IPv6 address
            user, at, name = host.rpartition("@")
            host = f"{user}{at}[{name}]"
        return f"{host}:{path}"


_OPTIONS = (
    *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"),
    *("-o", f"ConnectTimeout={SSH_SECONDS}", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"),
)


def _quoted(path: PurePosixPath) -> str:
    return shlex.quote(str(path))


@dataclass(frozen=True)
class SshMeter:
    """A device behind the system's ssh and scp: the kit is copied there, measured, and the results copied back."""

    name: str
    address: Address
    runtime: Runtime = ONE_THREAD
    _kept: list[PurePosixPath] = field(default_factory=list, compare=False, repr=False)

    @property
    def device(self) -> Device:
        """See `Meter`."""
        script = Path(probe.__file__).read_text(encoding="utf-8")
        command = f"{self._python()} - --describe {self._options()}"
        said = self._run(self.address.ssh(command), text=script)
        try:
            facts = json.loads(said)["device"]
        except (ValueError, KeyError, TypeError) as error:
            raise DeviceError(f"device '{self.name}' answered {said[:200]!r} when asked what it is") from error
        return read_device(self.name, facts)

    def run(self, campaign: Campaign, progress: MeasuringProgress | None = None, *, keep: bool = False) -> Results:
        """See `Meter`."""
        kit = make_kit(campaign)
        kits, there = self._look_for(kit.id)
        folder = kits / kit.id
        if not there:
            with tempfile.TemporaryDirectory(prefix="mobilenas-") as scratch:
                packed = Path(scratch) / f"{kit.id}.zip"
                kit.write_zip(packed)
                self._run(self.address.scp(str(packed), self.address.remote(kits / packed.name)))
            unpack = f"cd {_quoted(kits)} && {self._python()} -m zipfile -e {packed.name} . && rm {packed.name}"
            self._run(self.address.ssh(unpack))
        command = f"cd {_quoted(folder)} && exec {self._python()} measure.py --lines --anyway {self._options()}"
        self._watch(self.address.ssh(command), progress)
        with tempfile.TemporaryDirectory(prefix="mobilenas-") as scratch:
            target = Path(scratch) / probe.RESULTS
            self._run(self.address.scp(self.address.remote(folder / probe.RESULTS), str(target)))
            results = read_results(read_results_file(target), self.name)
        self._kept.append(folder)
        if not keep:
            self._discard()
        return results

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """See `Meter`."""
        yield
        self._discard()

    def _discard(self) -> None:
        while self._kept:
            self._run(self.address.ssh(f"rm -rf {_quoted(self._kept.pop())}"))

    def _look_for(self, kit_id: str) -> tuple[PurePosixPath, bool]:
        """The folder for kits there, in the user's cache, and whether this one is unpacked in it already."""
        said = self._run(
            self.address.ssh(
                'kits="${XDG_CACHE_HOME:-$HOME/.cache}/mobilenas/kits"; mkdir -p "$kits" && echo "kits $kits"; '
                f'if [ -e "$kits/{kit_id}/{probe.MANIFEST}" ]; then echo there; fi'
            )
        ).splitlines()
        folder = next((line[5:] for line in said if line.startswith("kits /")), None)
        if folder is None:
            raise DeviceError(f"device '{self.name}' has no folder for kits: {' '.join(said)[:200]!r}")
        return PurePosixPath(folder), "there" in said

    def _python(self) -> str:
        return shlex.quote(self.address.python)

    def _options(self) -> str:
        cpus = ["--cpus", self.address.cpus] if self.address.cpus else []
        runtime = self.runtime
        options = ["--threads", str(runtime.threads), "--provider", runtime.provider]
        return shlex.join([*options, "--optimization", runtime.graph_optimization, *cpus])

    def _failed(self, command: list[str], said: str) -> DeviceError:
        lines = [line for line in said.strip().splitlines() if line.strip()] or ["no message"]
        return DeviceError(
            f"device '{self.name}' ({self.address.host}): {command[0]} failed: {lines[-1][:300]}; "
            f"try it by hand: {shlex.join(self.address.ssh('true'))}"
        )

    def _run(self, command: list[str], text: str | None = None) -> str:
        try:
            # In a session of its own, so that a Ctrl-C here lets it end.
            done = subprocess.run(
                command,
                input=text,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=600,
                check=False,
                start_new_session=True,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._failed(command, str(error)) from error
        if done.returncode:
            raise self._failed(command, done.stderr)
        return done.stdout

    def _watch(self, command: list[str], progress: MeasuringProgress | None) -> None:
        """Run the measurement, and pass its progress on."""
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            try:
                running = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    encoding="utf-8",
                    errors="replace",
                    start_new_session=True,
                )
            except OSError as error:
                raise self._failed(command, str(error)) from error
            with running:
                try:
                    assert running.stdout is not None
                    _pass_on(running.stdout, progress)
                    code = running.wait()
                finally:
                    running.kill()  # a Ctrl-C here must not leave ssh behind; the device keeps its journal
            if code:
                errors.seek(0)
                raise self._failed(command, errors.read()[-10_000:])


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """How a device of this name is reached and used; `address` is local, kit, or ssh://user@host:port."""

    name: str
    address: str = "local"
    python: str = "python3"
    cpus: str | None = None
    provider: str = probe.CPU
    threads: int = 1
    graph_optimization: GraphOptimization = "all"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.name):
            raise DeviceError(f"device name {self.name!r} may hold only letters, digits, dots and dashes")
        if self.address not in ("local", "kit"):
            Address.parse(self.address)
        if not 1 <= self.threads <= 256:
            raise DeviceError(f"threads is {self.threads}; it must lie between 1 and 256")
        if self.graph_optimization not in get_args(GraphOptimization):
            raise DeviceError(f"no optimisation {self.graph_optimization!r}; {', '.join(get_args(GraphOptimization))}")
        if not re.fullmatch(r"[A-Za-z]{1,60}ExecutionProvider", self.provider):
            raise DeviceError(f"{self.provider!r} is not an execution provider; give a name such as {probe.CPU}")
        if self.cpus is not None:
            if self.is_local:
                raise DeviceError("cpus is for devices reached over ssh or by kit, not for this machine")
            try:
                probe.cores_of(self.cpus)
            except probe.Refused as error:
                raise DeviceError(str(error)) from error

    @property
    def is_local(self) -> bool:
        """Whether it is this machine."""
        return self.address == "local"

    @property
    def is_kit(self) -> bool:
        """Whether people carry kits there."""
        return self.address == "kit"

    @property
    def runtime(self) -> Runtime:
        """How ONNX Runtime is to be used there."""
        return Runtime(self.provider, self.threads, self.graph_optimization)

    def meter(self, workspace: Path | None = None) -> Meter | None:
        """What measures on it, or None where people carry kits; `workspace` is for kits that are measured here."""
        if self.is_kit:
            return None
        if self.is_local:
            return LocalMeter(self.name, self.runtime, workspace)
        return SshMeter(self.name, Address.parse(self.address, self.python, self.cpus), self.runtime)


def _pass_on(lines: IO[str], progress: MeasuringProgress | None) -> None:
    for line in lines:
        try:
            said = json.loads(line)
            done, total, what = int(said["done"]), int(said["total"]), str(said["what"])
        except (ValueError, KeyError, TypeError):
            continue  # what a login script prints is none of ours
        if progress:
            progress(done, total, what)
