"""The wheel is complete: configuration, presets and migrations are inside, and nothing needs the checkout."""

import os
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from search.run_folder import EXPORTED
from tests.tiny import tiny_run

ROOT = Path(__file__).parent.parent


def run(*command: str | Path, folder: Path, timeout: float = 600) -> str:
    """Run a program in `folder`, without this checkout on Python's path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_wheel_runs_a_search_in_an_empty_folder(tmp_path: Path, fashion_mnist: None) -> None:  # noqa: ARG001
    """Built, installed in a bare environment and started in an empty folder, it runs a tiny search to its end."""
    pip = (sys.executable, "-m", "pip")
    build = ("wheel", "--no-build-isolation", "--no-deps", "--quiet", "-w", tmp_path / "dist", ROOT)
    run(*pip, *build, folder=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("mobilenas-*.whl")
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    run(*pip, "install", "--no-deps", "--quiet", "--target", packages, wheel, folder=tmp_path)
    # The dependencies come from this environment: a path alone, so that its editable mobilenas is not seen.
    (packages / "dependencies.pth").write_text(f"{site.getsitepackages()[0]}\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    where = run(python, "-c", "import search; print(search.__file__)", folder=empty)
    assert Path(where.strip()).is_relative_to(packages)
    config = tiny_run(tmp_path)
    program = packages / "bin" / "mobilenas"
    url = f"sqlite:///{tmp_path / 'record.db'}"
    out = run(python, program, "search", "--config", config, "--name", "wheel", "--database", url, folder=empty)
    files = {path.name for path in (empty / "runs" / "wheel").iterdir() if path.is_file()}
    assert files >= {"report.md", *EXPORTED}
    assert str(empty / "runs" / "wheel" / "model.onnx") in out
    assert "target" in run(python, program, "config", "show", folder=empty)
