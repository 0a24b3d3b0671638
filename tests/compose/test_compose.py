"""The committed stack, really built and run: MOBILENAS_COMPOSE=1, and an engine (.ci/compose brings one)."""

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from space.arch import Architecture
from tests.compose.stack import RUN, TRIALS, Stack, containers, running, stack_of, stack_with
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("MOBILENAS_COMPOSE") != "1", reason="CONTAINERS NOT TESTED: see .ci/compose"),
]

MAX_IMAGE_BYTES = 2.5e9


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack with two coordinators, and a folder of tiny configurations."""
    made = stack_with(tmp_path_factory.mktemp("compose"), "mobilenas-test", tiny=RUN, other={**RUN, "seed": 1})
    with running(made, "up", "--detach", "--wait", "--scale", "coordinator=2"):
        yield made


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


def signal_coordinator(container: str, signal: str) -> None:
    """Send it from inside, where the process has another number; where it ends, init and the container end with it."""
    code = (
        "import os, pathlib, signal\n"
        "for path in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "    try: words = (path / 'cmdline').read_bytes().split(b'\\0')\n"
        "    except OSError: continue\n"
        f"    if b'--health-file' in words and path.name != '1': os.kill(int(path.name), signal.{signal})"
    )
    subprocess.run(["docker", "exec", container, "python", "-c", code], check=False, timeout=1200)


def killed_in_mid_trial(stack: Stack, search: str, container: str) -> bool:
    """Kill its coordinator if it has completed a trial and runs another; held still, it ends none meanwhile."""
    signal_coordinator(container, "SIGSTOP")
    state = f"(select id from searches where name = '{search}') and state"  # noqa: S608
    complete, running = (
        int(stack.sql(f"select count(*) from trials where search_id = {state} = '{name}'")[0][0])  # noqa: S608
        for name in ("complete", "running")
    )
    caught = complete > 0 and running > 0
    signal_coordinator(container, "SIGKILL" if caught else "SIGCONT")
    return caught


def test_searches_survive_what_happens_to_coordinators_and_database(stack: Stack) -> None:
    """Two queued searches run on two coordinators; one is killed, the database restarts, and both end exactly right."""
    for name, config in (("first", "tiny"), ("second", "other")):
        told = stack.cli("search", "--config", f"configs/{config}.yaml", "--name", name, "--queue", "--label", "ci")
        assert f"logs -f {name}" in told
    holder = "select split_part(claimed_by, '/', 1) from searches order by id"
    wait_for(lambda: all(row[0] for row in stack.sql(holder)), pause=1)
    first, second = (row[0] for row in stack.sql(holder))
    assert first != second
    wait_for(lambda: killed_in_mid_trial(stack, "first", first), pause=0.5)
    stack.out("restart", "db")
    log = stack.command("run", "--rm", "-T", "cli", "logs", "-f", "first")
    followed = subprocess.run(log, capture_output=True, check=True, timeout=1200, text=True).stdout
    assert "search 'first' is done" in followed
    wait_for(lambda: stack.sql("select count(*) from searches where stage = 'done'") == [["2"]], pause=1)
    for name in ("first", "second"):
        rows = stack.sql(
            f"select number, stage, state from trial_summary where search = '{name}' order by number"  # noqa: S608
        )
        assert [int(row[0]) for row in rows] == list(range(len(rows)))
        assert {row[2] for row in rows} <= {"complete", "pruned"}
        assert sum(row[1:] == ["blocks", "complete"] for row in rows) == TRIALS
        assert sum(row[1:] == ["final", "complete"] for row in rows) == 2
    assert stack.sql("select sum(attempt - 1) > 0 from trials") == [["t"]], "no trial was begun anew"


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
    other = stack_of(tmp_path / "broken", "mobilenas-broken", broken)
    try:
        assert other("up", "--detach", "--wait", "db").returncode != 0
    finally:
        other.down()
    assert stack("ps").returncode == 0


def test_broken_file_fails(stack: Stack, tmp_path: Path) -> None:
    """`config` accepts the committed file and refuses an unknown condition."""
    assert stack("config", "--quiet").returncode == 0
    wrong = {"services": {"coordinator": {"depends_on": {"db": {"condition": "service_happy"}}}}}
    assert stack_of(tmp_path / "wrong", "mobilenas-wrong", wrong)("config", "--quiet").returncode != 0
