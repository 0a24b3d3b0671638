"""Who measures: this machine, and a device behind a real sshd on loopback."""

import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from latency import probe
from latency.kit import Campaign
from latency.meter import Address, DeviceSettings, LocalMeter, SshMeter
from latency.probe import Protocol, Runtime
from space.errors import DeviceError
from tests.latency.sshd import Sshd, sshd_program
from tests.latency.test_probe import KEYS, Killed

QUICK = Protocol(rounds=8, most_rounds=8, warm=2)
CAMPAIGN = Campaign(blocks=KEYS, protocol=QUICK)


def test_a_local_measurement_that_was_killed_goes_on(tmp_path: Path) -> None:
    """The kit and its journal stay in the workspace until it is measured."""
    meter = LocalMeter("here", workspace=tmp_path)

    def kill(done: int, _total: int, _what: str) -> None:
        if done == 7 * len(KEYS):
            raise Killed

    with pytest.raises(Killed):
        meter.run(CAMPAIGN, kill)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    kept = (folder / probe.JOURNAL).read_text().splitlines()
    results = meter.run(CAMPAIGN)
    assert len(kept) == 1 + len(KEYS)
    assert all(found.visits == 8 for found in results.blocks.values())
    assert not folder.exists()


@pytest.mark.parametrize("in_the_way", ["kits", "kits/measuring.lock/folder"])
def test_a_workspace_that_cannot_be_used_is_named(tmp_path: Path, in_the_way: str) -> None:
    """A file where the folder belongs, or a folder where its lock belongs, is an error that says which workspace."""
    (tmp_path / in_the_way).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / in_the_way).write_text("")
    with (
        pytest.raises(DeviceError, match=r"the workspace .*/kits cannot be used"),
        LocalMeter("here", workspace=tmp_path / "kits").keeping(),
    ):
        pass


def test_nobody_meets_what_another_one_keeps(tmp_path: Path) -> None:
    """Of two that measure the same, the second waits until the first has recorded it, and then measures by itself."""
    first, second = LocalMeter("here", workspace=tmp_path), LocalMeter("here", workspace=tmp_path)
    with ThreadPoolExecutor(1) as other:
        with first.keeping():
            kept = first.run(CAMPAIGN, keep=True)
            later = other.submit(second.run, CAMPAIGN)
            with pytest.raises(TimeoutError):
                later.result(1)
            assert first.run(CAMPAIGN, keep=True) == kept
        assert later.result(600).blocks.keys() == kept.blocks.keys()
        assert later.result().blocks != kept.blocks
    assert [path.name for path in tmp_path.iterdir()] == ["measuring.lock"]


def test_a_provider_that_is_not_here_is_an_error() -> None:
    """The message names what there is."""
    with pytest.raises(DeviceError, match="no TensorrtExecutionProvider"):
        LocalMeter("here", Runtime(provider="TensorrtExecutionProvider")).run(CAMPAIGN)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("ssh://pi@raspberrypi.local", "pi@raspberrypi.local", None),
        ("ssh://10.0.0.7:2222", "10.0.0.7", 2222),
        ("ssh://me@[::1]:22/", "me@::1", 22),
    ],
)
def test_addresses(url: str, host: str, port: int | None) -> None:
    """User, host and port are read; IPv6 as in any URL."""
    found = Address.parse(url)
    assert (found.host, found.port) == (host, port)


def test_scp_gets_brackets_around_ipv6() -> None:
    """Else its colons would end the host's name."""
    assert Address.parse("ssh://me@[::1]").remote(Path("x")) == "me@[::1]:x"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        *("pi", "http://pi", "ssh://", "ssh:///x", "ssh://pi/path", "ssh://pi:port", "ssh://pi:99999"),
        *("ssh://-oProxyCommand=x", "ssh://-l@pi", "ssh://me:secret@pi", "ssh://a b", "ssh://pi\n"),
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    """Other schemes, paths, passwords, options in disguise."""
    with pytest.raises(DeviceError, match="address"):
        Address.parse(url)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"name": "../x"}, "device name"),
        ({"name": ""}, "device name"),
        ({"address": "ftp://pi"}, "is not the address of a device"),
        ({"threads": 0}, "threads is 0"),
        ({"graph_optimization": "most"}, "no optimisation 'most'"),
        ({"provider": "cuda"}, "is not an execution provider"),
        ({"provider": "x;rm -rf"}, "is not an execution provider"),
        ({"cpus": "0"}, "not for this machine"),
        ({"address": "kit", "cpus": "all"}, "no list of cores"),
    ],
)
def test_settings_of_a_device_are_checked(changes: dict[str, str], fault: str) -> None:
    """A wrong one is named."""
    with pytest.raises(DeviceError, match=fault):
        DeviceSettings(**{"name": "pi", **changes})  # type: ignore[arg-type]


def test_a_device_is_reached_as_it_was_added() -> None:
    """This machine, ssh, or nobody where kits are carried."""
    assert isinstance(DeviceSettings(name="a").meter(), LocalMeter)
    remote = DeviceSettings(name="b", address="ssh://pi", cpus="2-3", threads=2, python="/opt/python").meter()
    assert isinstance(remote, SshMeter)
    assert remote.address == Address("pi", None, "/opt/python", "2-3")
    assert remote.runtime.threads == 2
    assert DeviceSettings(name="c", address="kit").meter() is None


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A server of the tests' own; skips them where OpenSSH is not installed."""
    program = sshd_program()
    if program is None:
        pytest.skip("OPENSSH MISSING: install Debian's packages openssh-server and openssh-client")
    server = Sshd(program, tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture
def reachable(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> Sshd:
    """The server, with ssh and scp that use the tests' keys."""
    monkeypatch.setenv("PATH", f"{sshd.bin}:{os.environ['PATH']}")
    return sshd


def meter_of(server: Sshd) -> SshMeter:
    """The device behind the server."""
    return SshMeter("pi", Address.parse(server.url, sys.executable), Runtime())


@pytest.mark.slow
def test_a_device_behind_ssh_is_measured(reachable: Sshd) -> None:
    """It says what it is, gets the kit, measures, and gives the results back; nothing is left there."""
    meter, steps = meter_of(reachable), []
    assert meter.device == LocalMeter("pi").device
    results = meter.run(CAMPAIGN, lambda done, total, _: steps.append((done, total)))
    assert set(results.blocks) == set(KEYS)
    assert all(found.visits == 8 for found in results.blocks.values())
    assert results.device == meter.device
    assert steps[-1][0] == steps[-1][1]
    assert not list(reachable.kits.iterdir())


@pytest.mark.slow
def test_a_measurement_behind_ssh_goes_on(reachable: Sshd) -> None:
    """Broken off here, it goes on there where it was."""
    meter = meter_of(reachable)

    def kill(done: int, _total: int, _what: str) -> None:
        if done >= 5 * len(KEYS):
            raise Killed

    with pytest.raises(Killed):
        meter.run(CAMPAIGN, kill)
    results = meter.run(CAMPAIGN)
    assert all(found.visits == 8 for found in results.blocks.values())


@pytest.mark.slow
def test_cores_are_kept_to_behind_ssh(reachable: Sshd) -> None:
    """The cores are part of the device, so that tables of different ones are never mixed."""
    meter = SshMeter("pi", Address.parse(reachable.url, sys.executable, "0"), Runtime())
    device = meter.device
    assert device.processor.endswith(", cores 0")
    assert device.fingerprint != meter_of(reachable).device.fingerprint
    assert meter.run(CAMPAIGN).device == device


@pytest.mark.slow
def test_a_host_of_another_key_is_refused(reachable: Sshd) -> None:
    """Host keys are checked: an unknown one is an error with the command to try by hand."""
    known = reachable.known_hosts.read_text()
    reachable.known_hosts.write_text("")
    try:
        with pytest.raises(DeviceError, match=r"ssh failed: .*try it by hand: ssh .*BatchMode=yes"):
            _ = meter_of(reachable).device
    finally:
        reachable.known_hosts.write_text(known)


@pytest.mark.slow
def test_a_device_without_python_is_an_error(reachable: Sshd) -> None:
    """What the other side says is passed on."""
    meter = SshMeter("pi", Address.parse(reachable.url, "/no/such/python"), Runtime())
    with pytest.raises(DeviceError, match="no/such/python"):
        _ = meter.device


def test_a_device_that_does_not_answer_is_an_error() -> None:
    """Nobody listens on port 1."""
    if shutil.which("ssh") is None:
        pytest.skip("OPENSSH MISSING: install Debian's package openssh-client")
    with pytest.raises(DeviceError, match=r"device 'pi' .*ssh failed"):
        _ = SshMeter("pi", Address("127.0.0.1", 1), Runtime()).device
