"""The committed stack as tests bring it up and talk to it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.ports import free_port
from tests.tiny import TINY_SPACE

ROOT = Path(__file__).parents[2]
TRIALS = 12
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

    def __call__(self, *arguments: str, timeout: float = 1800) -> "subprocess.CompletedProcess[bytes]":
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


def stack_of(folder: Path, project: str, changes: dict[str, Any]) -> Stack:
    """The committed files with changes, a port and passwords of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "env").write_text(ENVIRONMENT.format(port=free_port()))
    (folder / "override.yml").write_text(yaml.safe_dump(changes))
    files = (ROOT / "docker-compose.yml", ROOT / ".ci/compose-override.yml", folder / "override.yml")
    return Stack(project, files, folder / "env")


# What a search of the tests is like: real images, seconds.
RUN = {
    "workers": 1,
    "data": {"reward_images": 300},
    "space": {"preset": "/app/configs/space.yaml", "width": 0.25},
    "device": {"rounds": 25, "warm_runs": 8},
    "target": {"relative": 0.9},
    "blocks": {"trials": TRIALS, "train_images": 12000, "sampler": "random"},
    "netadapt": {"delta": 0.02, "images": 64, "most_images": 128, "walk": 0.02},
    "final": {"images": 300},
}


def stack_with(folder: Path, project: str, **runs: dict[str, Any]) -> Stack:
    """A stack that sees configurations by these names, and their space."""
    configs = folder / "configs"
    configs.mkdir()
    (configs / "space.yaml").write_text(yaml.safe_dump(TINY_SPACE))
    for name, run in runs.items():
        (configs / f"{name}.yaml").write_text(yaml.safe_dump(run))
    for path in (configs, *configs.iterdir()):
        path.chmod(0o755)
    # pytest's own folders are closed to the container's user.
    for parent in configs.parents[:3]:
        parent.chmod(0o755)
    mount = {"volumes": [f"{configs}:/app/configs:ro"]}
    return stack_of(folder, project, {"services": {"cli": mount, "coordinator": mount}})


@contextmanager
def running(stack: Stack, *arguments: str) -> Iterator[Stack]:
    """Built and up, and gone at the end."""
    try:
        stack.out("build")
        stack.out(*arguments)
        yield stack
    finally:
        stack.down()


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
