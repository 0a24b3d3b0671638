"""What docker-compose.yml promises, read without an engine."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
FROM_OUTSIDE = ("POSTGRES_", "MOBILENAS_", "TORCH_", "COMPOSE_", "RAY_")


def compose_config(env_file: Path, *names: str) -> "subprocess.CompletedProcess[str]":
    """What Compose says of committed files, with nothing set but what is in `env_file`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(FROM_OUTSIDE)}
    files = [word for name in names or ("docker-compose.yml",) for word in ("-f", str(ROOT / name))]
    command = ["docker", "compose", *files, "--env-file", str(env_file), "config", "--quiet"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=1200)


@pytest.fixture
def plugin() -> None:
    """Skips where Compose is not installed."""
    version = ["docker", "compose", "version"]
    if not shutil.which("docker") or subprocess.run(version, capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")


@pytest.mark.usefixtures("plugin")
def test_compose_accepts_the_example() -> None:
    """The example is enough for Compose to accept the file."""
    done = compose_config(ROOT / ".env.example")
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("plugin")
def test_compose_asks_for_missing_passwords(tmp_path: Path) -> None:
    """Without passwords nothing starts, and the message says what to do."""
    (tmp_path / "env").touch()
    done = compose_config(tmp_path / "env")
    assert done.returncode != 0
    assert "copy .env.example to .env" in done.stderr


def test_one_service_builds_the_image() -> None:
    """Builds of one tag side by side would collide: one service builds, and the others wait for it."""
    assert [name for name, service in SERVICES.items() if "build" in service] == ["migrate"]
    ours = {name for name, service in SERVICES.items() if service["image"] == SERVICES["migrate"]["image"]}
    assert all("migrate" in SERVICES[name]["depends_on"] for name in ours - {"migrate"})


def test_it_is_the_compose_specification() -> None:
    """No version is named, and volumes are named ones."""
    assert "version" not in COMPOSE
    assert set(COMPOSE["volumes"]) == {"database", "data", "runs", "artifacts"}


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_alone(name: str) -> None:
    """Nobody else on the network reaches what is published."""
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\S+:\d+", port)


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    """Every image has a tag, and not the one that moves."""
    image, _, tag = SERVICES[name]["image"].partition(":")
    assert image
    assert tag not in ("", "latest")
    assert re.search(r"^FROM python:3\.11-slim-bookworm$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", SERVICES)
def test_services_wait_for_what_they_need(name: str) -> None:
    """Who depends on a service waits until it is healthy, or has done its work; what goes on has a health check."""
    service = SERVICES[name]
    for needed, how in service.get("depends_on", {}).items():
        once = needed == "migrate"
        assert how == {"condition": "service_completed_successfully" if once else "service_healthy"}
    if service.get("restart"):
        assert service["healthcheck"]["test"]


@pytest.mark.parametrize("name", SERVICES)
def test_passwords_come_from_outside(name: str) -> None:
    """No password stands in the file; one that is missing is asked for by name."""
    for key, value in SERVICES[name].get("environment", {}).items():
        if "PASSWORD" in key:
            assert re.fullmatch(r"\$\{[A-Z_]+:\?copy .env.example to .env .*\}", value)
    example = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE)) == {"POSTGRES_PASSWORD", "MOBILENAS_READER_PASSWORD"}


def test_image_runs_without_root() -> None:
    """The last user of the Dockerfile is none with privileges, and the database's is its own."""
    users = re.findall(r"^USER (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert users[-1:] == ["mobilenas"]
    assert SERVICES["db"]["user"] == "postgres"


@pytest.mark.usefixtures("plugin")
def test_the_file_for_other_machines_asks_for_what_it_needs(tmp_path: Path) -> None:
    """It is accepted with a head and a token, and without either the message says what to set."""

    def config(*lines: str) -> "subprocess.CompletedProcess[str]":
        (tmp_path / "env").write_text("\n".join(lines))
        return compose_config(tmp_path / "env", "docker-compose.worker.yml")

    assert config("RAY_HEAD=10.0.0.1:6379", "RAY_AUTH_TOKEN=x").returncode == 0
    assert "set RAY_HEAD in .env" in config("RAY_AUTH_TOKEN=x").stderr
    assert "set RAY_AUTH_TOKEN in .env" in config("RAY_HEAD=10.0.0.1:6379").stderr


@pytest.mark.usefixtures("plugin")
def test_the_head_of_several_machines_is_named(tmp_path: Path) -> None:
    """Beside the example, the override for several machines needs the head's address alone."""
    files = ("docker-compose.yml", "docker-compose.head.yml")
    (tmp_path / "env").write_text((ROOT / ".env.example").read_text())
    assert "set RAY_HEAD in .env" in compose_config(tmp_path / "env", *files).stderr
    (tmp_path / "env").write_text((ROOT / ".env.example").read_text() + "RAY_HEAD=10.0.0.1:6379\n")
    assert compose_config(tmp_path / "env", *files).returncode == 0


def test_all_machines_notice_losses_alike() -> None:
    """What nodes set for Ray is the same in both files: the token's mode, the keys to S3, how soon a loss is seen."""
    other = yaml.safe_load((ROOT / "docker-compose.worker.yml").read_text())["services"]["ray-worker"]
    here = SERVICES["ray-worker"]
    # Where artefacts are is what coordinators say.
    differing = {"RAY_ADDRESS", "RAY_AUTH_TOKEN", "MOBILENAS_ARTIFACTS"}
    assert {key: value for key, value in here["environment"].items() if key not in differing} == {
        key: value for key, value in other["environment"].items() if key not in differing
    }
    assert other["image"] == here["image"]
