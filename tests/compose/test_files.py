"""What docker-compose.yml promises, read without an engine."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_it_is_the_compose_specification() -> None:
    """No version is named, and volumes are named ones."""
    assert "version" not in COMPOSE
    assert set(COMPOSE["volumes"]) == {"database", "data", "runs"}


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
