"""The profile `cluster` and the file for other machines, really built and run, as in test_compose."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.stack import (
    ROOT,
    RUN,
    TRIALS,
    Stack,
    completed,
    containers,
    running,
    stack_of,
    stack_with,
)
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("MOBILENAS_COMPOSE") != "1", reason="CONTAINERS NOT TESTED: see .ci/compose"),
]

PROJECT = "mobilenas-cluster"
TOKEN = "5" * 64
# Another machine is one on this cluster's network that shares nothing but the artefacts.
OTHER = f"""\
services:
  ray-worker:
    network_mode: !reset null
    networks: [cluster]
networks:
  cluster: {{external: true, name: {PROJECT}_default}}
volumes:
  artifacts: {{external: true, name: {PROJECT}_artifacts}}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A coordinator, the head and two workers, all healthy."""
    made = stack_with(tmp_path_factory.mktemp("cluster"), PROJECT, ray={**RUN, "executor": "ray"})
    made.env_file.write_text(made.env_file.read_text() + f"RAY_AUTH_TOKEN={TOKEN}\n")
    with running(made, "--profile", "cluster", "up", "--detach", "--wait", "--scale", "ray-worker=2"):
        yield made


def other_machine(folder: Path, token: str, override: str = OTHER) -> Stack:
    """A machine with the committed file for it, and a head and a token in its .env."""
    folder.mkdir()
    (folder / "env").write_text(f"RAY_HEAD=ray-head:6379\nRAY_AUTH_TOKEN={token}\n")
    (folder / "override.yml").write_text(override)
    files = (ROOT / "docker-compose.worker.yml", folder / "override.yml")
    return Stack(f"mobilenas-{folder.name}", files, folder / "env")


def workers(stack: Stack) -> list[str]:
    """The containers of `ray-worker`."""
    return [
        container["Id"]
        for container in containers(stack)
        if container["Config"]["Labels"]["com.docker.compose.service"] == "ray-worker"
    ]


def test_search_survives_the_loss_of_a_worker(stack: Stack, tmp_path: Path) -> None:
    """A queued search on two workers, of which one is killed and another machine's joins: every trial exactly once."""
    stack.cli("search", "--config", "configs/ray.yaml", "--name", "spread", "--queue")
    wait_for(lambda: completed(stack, "spread") >= 2, pause=1)
    lost, _ = workers(stack)
    subprocess.run(["docker", "kill", lost], check=True, capture_output=True)
    assert completed(stack, "spread") < TRIALS
    joined = other_machine(tmp_path / "other", TOKEN)
    try:
        joined.out("up", "--detach", "--wait")
        followed = stack.cli("logs", "-f", "spread")
    finally:
        joined.down()
    assert "search 'spread' is done" in followed
    rows = stack.sql("select number, stage, state from trial_summary where search = 'spread' order by number")
    assert [int(row[0]) for row in rows] == list(range(len(rows)))
    assert {row[2] for row in rows} <= {"complete", "pruned"}
    assert sum(row[1:] == ["blocks", "complete"] for row in rows) == TRIALS


def test_whoever_does_not_know_the_token_stays_out(stack: Stack, tmp_path: Path) -> None:
    """A worker with another token does not become healthy, and the cluster stays as it is."""
    sooner = OTHER.replace("  ray-worker:\n", "  ray-worker:\n    healthcheck: {start_period: 10s}\n")
    stranger = other_machine(tmp_path / "stranger", "6" * 64, sooner)
    try:
        assert stranger("up", "--detach", "--wait").returncode != 0
    finally:
        stranger.down()
    assert all(one["State"]["Health"]["Status"] == "healthy" for one in containers(stack))


def test_without_a_token_the_head_says_what_to_do(tmp_path: Path) -> None:
    """Bringing the cluster up fails, and the head's log names the variable; without the profile nothing is missing."""
    bare = stack_of(tmp_path / "bare", "mobilenas-bare", {})
    try:
        assert bare("config", "--quiet").returncode == 0
        done = bare("run", "--rm", "-T", "--no-deps", "ray-head")
        assert done.returncode != 0
        assert b"set RAY_AUTH_TOKEN in .env" in done.stderr + done.stdout
    finally:
        bare.down()
