"""The committed stack, really built and run: MOBILENAS_COMPOSE=1, and an engine (.ci/compose brings one)."""

import io
import json
import os
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from space.arch import Architecture
from tests.tiny import TINY_SPACE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("MOBILENAS_COMPOSE") != "1", reason="CONTAINERS NOT TESTED: see .ci/compose"),
]

ROOT = Path(__file__).parents[2]
TRIALS = 12
MAX_IMAGE_BYTES = 2.5e9
# Passwords are no place to be careful with characters.
ENVIRONMENT = """\
POSTGRES_PASSWORD='p@ss/w:rd#1'
MOBILENAS_READER_PASSWORD='re@der/?&'
MOBILENAS_DB_PORT={port}
MOBILENAS_OWNER=tester
"""


@dataclass(frozen=True)
class Stack:
    """A project of the committed file."""

    project: str
    files: tuple[Path, ...]
    env_file: Path

    def command(self, *arguments: str) -> list[str]:
        """Compose with this project's files."""
        files = [word for file in self.files for word in ("-f", str(file))]
        known = ("--project-directory", str(ROOT), "--env-file", str(self.env_file), "-p", self.project)
        return ["docker", "compose", *known, *files, *arguments]

    def __call__(self, *arguments: str, timeout: float = 900) -> "subprocess.CompletedProcess[bytes]":
        """Run it to its end, whatever that is."""
        return subprocess.run(self.command(*arguments), capture_output=True, check=False, timeout=timeout)

    def out(self, *arguments: str) -> str:
        """What it prints where it succeeds."""
        done = self(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout.decode()}{done.stderr.decode()}"
        return done.stdout.decode()

    def cli(self, *arguments: str) -> str:
        """A command of ours in its container."""
        return self.out("run", "--rm", "-T", "cli", *arguments)

    def sql(self, query: str) -> list[list[str]]:
        """Rows of a query, as text."""
        printed = self.out("exec", "-T", "db", "psql", "-At", "-F", "\t", "-c", query)
        return [line.split("\t") for line in printed.splitlines()]

    def down(self) -> None:
        """Leave nothing behind."""
        self("down", "--volumes", "--remove-orphans", "--timeout", "5")


def _stack(folder: Path, project: str, changes: dict[str, Any]) -> Stack:
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (folder / "env").write_text(ENVIRONMENT.format(port=free.getsockname()[1]))
    (folder / "override.yml").write_text(yaml.safe_dump(changes))
    files = (ROOT / "docker-compose.yml", ROOT / ".ci/compose-override.yml", folder / "override.yml")
    return Stack(project, files, folder / "env")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack with two coordinators, and a folder of tiny configurations."""
    folder = tmp_path_factory.mktemp("compose")
    configs = folder / "configs"
    configs.mkdir()
    (configs / "space.yaml").write_text(yaml.safe_dump(TINY_SPACE))
    run = {
        "workers": 1,
        "data": {"reward_images": 300},
        "space": {"preset": "/app/configs/space.yaml", "width": 0.25},
        "device": {"rounds": 25, "warm_runs": 8},
        "target": {"relative": 0.9},
        "blocks": {"trials": TRIALS, "train_images": 20000, "sampler": "random"},
        "netadapt": {"delta": 0.02, "images": 64, "walk": 0.02},
        "final": {"images": 300},
    }
    (configs / "tiny.yaml").write_text(yaml.safe_dump(run))
    (configs / "other.yaml").write_text(yaml.safe_dump({**run, "seed": 1}))
    for path in (configs, *configs.iterdir()):
        path.chmod(0o755)
    # pytest's own folders are closed to the container's user.
    for parent in configs.parents[:3]:
        parent.chmod(0o755)
    mount = {"volumes": [f"{configs}:/app/configs:ro"]}
    made = _stack(folder, "mobilenas-test", {"services": {"cli": mount, "coordinator": mount}})
    try:
        made.out("build")
        made.out("up", "--detach", "--wait", "--scale", "coordinator=2")

        yield made
    finally:
        made.down()


def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(1)


def completed(stack: Stack, search: str) -> int:
    """How many block-level trials of a search are complete."""
    rows = stack.sql(
        f"select count(*) from trial_summary where search = '{search}' and stage = 'blocks' and state = 'complete'"  # noqa: S608
    )
    return int(rows[0][0])


def containers(stack: Stack) -> list[dict[str, Any]]:
    """What the engine says of the running containers."""
    ids = stack.out("ps", "--quiet").split()
    found: list[dict[str, Any]] = json.loads(subprocess.check_output(["docker", "inspect", *ids]))
    return found


def test_containers_are_what_was_promised(stack: Stack) -> None:
    """Nobody runs as root, ports are on loopback, and the image is small."""
    running = containers(stack)
    assert len(running) == 3  # db and two coordinators; migrate has ended
    for container in running:
        name = container["Name"].strip("/")
        identity = subprocess.check_output(["docker", "exec", name, "id", "-u"], text=True).strip()
        assert identity != "0", name
        assert container["State"]["Health"]["Status"] == "healthy"
        for ports in container["HostConfig"]["PortBindings"].values():
            assert all(port["HostIp"] == "127.0.0.1" for port in ports)
    size = json.loads(subprocess.check_output(["docker", "image", "inspect", "mobilenas:local"]))[0]["Size"]
    assert size < MAX_IMAGE_BYTES
    assert "no searches" in stack.cli("searches")


def test_reader_reads_and_cannot_write(stack: Stack) -> None:
    """The role that `migrate` made logs in with its password, reads the views, and changes nothing."""

    def ask(query: str, password: str = "re@der/?&") -> "subprocess.CompletedProcess[bytes]":  # noqa: S107
        psql = ("psql", "-h", "127.0.0.1", "-U", "mobilenas_reader", "-At", "-c", query)
        return stack("exec", "-T", "-e", f"PGPASSWORD={password}", "db", *psql)

    assert ask("select count(*) from trial_summary").returncode == 0
    assert ask("select 1", password="wrong").returncode != 0  # noqa: S106
    for change in ("update searches set name = 'x'", "create table mine (id int)", "delete from trials"):
        assert ask(change).returncode != 0, change


def test_searches_survive_what_happens_to_coordinators_and_database(stack: Stack) -> None:
    """Two queued searches run on two coordinators; one is killed, the database restarts, and both end exactly right."""
    for name, config in (("first", "tiny"), ("second", "other")):
        told = stack.cli("search", "--config", f"configs/{config}.yaml", "--name", name, "--queue", "--label", "ci")
        assert f"logs -f {name}" in told
    wait_for(lambda: all(completed(stack, name) >= 1 for name in ("first", "second")))
    rows = stack.sql("select split_part(claimed_by, '/', 1) from searches order by id")
    holders = [row[0] for row in rows]
    assert len(set(holders)) == 2
    # From inside, where the process has another number; the init process ends with it, and the container too.
    code = (
        "import os, pathlib\n"
        "for path in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "    words = (path / 'cmdline').read_bytes().split(b'\\0')\n"
        "    if b'--health-file' in words and path.name != '1': os.kill(int(path.name), 9)"
    )
    subprocess.run(["docker", "exec", holders[0], "python", "-c", code], check=False, timeout=60)
    assert completed(stack, "first") < TRIALS
    stack.out("restart", "db")
    log = stack.command("run", "--rm", "-T", "cli", "logs", "-f", "first")
    followed = subprocess.run(log, capture_output=True, check=True, timeout=600, text=True).stdout
    assert "search 'first' is done" in followed
    wait_for(lambda: stack.sql("select count(*) from searches where stage = 'done'") == [["2"]])
    for name in ("first", "second"):
        rows = stack.sql(
            f"select number, stage, state from trial_summary where search = '{name}' order by number"  # noqa: S608
        )
        assert [int(row[0]) for row in rows] == list(range(len(rows)))
        assert {row[2] for row in rows} <= {"complete", "pruned"}
        assert sum(row[1:] == ["blocks", "complete"] for row in rows) == TRIALS
        assert sum(row[1:] == ["final", "complete"] for row in rows) == 2
    assert stack.sql("select sum(attempt - 1) > 0 from trials") == [["t"]], "nothing was killed in mid-trial"


def test_results_are_taken_home(stack: Stack) -> None:
    """Lists, trials and the spec come out of the containers."""
    searches = json.loads(stack.cli("searches", "--format", "json", "--label", "ci"))
    assert [(row["name"], row["state"], row["owner"]) for row in searches] == [
        ("first", "done", "tester"),
        ("second", "done", "tester"),
    ]
    assert len(json.loads(stack.cli("trials", "--search", "first", "--format", "json"))) > TRIALS
    done = stack("run", "--rm", "-T", "cli", "export", "first", "--out", "-")
    assert done.returncode == 0, done.stderr
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        names = {Path(name).name: name for name in archive.getnames()}
        spec = archive.extractfile(names["architecture.json"])
        assert spec
        assert Architecture.from_json(spec.read())
        assert {"model.onnx", "weights.safetensors", "labels.txt", "preprocess.json"} <= set(names)


def test_logs_are_json(stack: Stack) -> None:
    """Every line of a coordinator is JSON, and lines about a search carry its name."""
    printed = stack.out("logs", "--no-color", "--no-log-prefix", "coordinator")
    lines = [json.loads(line) for line in printed.splitlines() if line]
    assert {line.get("search") for line in lines} >= {"first", "second"}
    assert any("trial" in line for line in lines)
    assert all("timestamp" in line and "level" in line for line in lines)


def test_foreground_search_runs_in_its_container(stack: Stack) -> None:
    """`run cli search` searches at once, and takes over what was trained before."""
    told = stack.cli("search", "--config", "configs/tiny.yaml", "--name", "here")
    assert "architecture.json" in told
    assert stack.sql("select stage, queued_at is null from searches where name = 'here'") == [["done", "t"]]


def test_broken_health_check_fails(stack: Stack, tmp_path: Path) -> None:
    """Where a service does not become healthy, bringing the stack up fails: --wait really waits."""
    broken = {"services": {"db": {"healthcheck": {"test": ["CMD", "false"], "interval": "1s", "retries": 2}}}}
    other = _stack(tmp_path / "broken", "mobilenas-broken", broken)
    try:
        assert other("up", "--detach", "--wait", "db").returncode != 0
    finally:
        other.down()
    assert stack("ps").returncode == 0


def test_broken_file_fails(stack: Stack, tmp_path: Path) -> None:
    """`config` accepts the committed file and refuses an unknown condition."""
    assert stack("config", "--quiet").returncode == 0
    wrong = {"services": {"coordinator": {"depends_on": {"db": {"condition": "service_happy"}}}}}
    assert _stack(tmp_path / "wrong", "mobilenas-wrong", wrong)("config", "--quiet").returncode != 0
