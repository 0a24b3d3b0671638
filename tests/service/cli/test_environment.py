"""The program in environments as systems have them: no home, other encodings, closed and broken streams, narrow."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# An unnamed user of a container: no HOME, and no entry in the user database.
NOBODY = "import os, pwd; pwd.getpwuid = lambda _: (_ for _ in ()).throw(KeyError('no such user')); "
PROGRAM = "import sys; sys.argv[0] = 'mobilenas'; from mobilenas.__main__ import main; main()"


def program(
    *arguments: str | Path,
    folder: Path,
    variables: Mapping[str, str] | None = None,
    before: str = "",
    redirected: str = "",
) -> "subprocess.CompletedProcess[bytes]":
    """Run the program with these variables alone; `redirected` is what stands behind it on the command line."""
    command = [sys.executable, "-W", "error", "-c", before + PROGRAM, *map(str, arguments)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **(variables or {})}
    if redirected:
        command = ["bash", "-o", "pipefail", "-c", f'"$@" {redirected}', "bash", *command]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, timeout=120)


def is_one_line(error: bytes) -> bool:
    """Whether nothing but one line of ours was said."""
    return len(error.splitlines()) == 1 and error.startswith(b"error: ")


def test_without_a_home_what_is_set_is_used(tmp_path: Path) -> None:
    """systemd, cron and containers of unnamed users: with the database set nothing else is needed."""
    url = f"sqlite:///{tmp_path}/record.db"
    done = program("searches", folder=tmp_path, variables={"MOBILENAS_DATABASE_URL": url}, before=NOBODY)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    done = program("searches", "--database", url, folder=tmp_path, before=NOBODY)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    ("arguments", "variable"),
    [
        (("searches",), b"MOBILENAS_DATABASE_URL"),
        (("searches", "--database", "sqlite:///~/x.db"), b"MOBILENAS_DATABASE_URL"),
        (("data", "get", "cifar10"), b"MOBILENAS_CACHE_DIR"),
    ],
)
def test_without_a_home_what_needs_one_is_named(arguments: tuple[str, ...], variable: bytes, tmp_path: Path) -> None:
    """One line with the variable to set, and no folder called ~."""
    done = program(*arguments, folder=tmp_path, before=NOBODY)
    assert done.returncode == 2
    assert is_one_line(done.stderr), done.stderr
    assert variable in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_tilde_in_a_database_url_is_the_home(tmp_path: Path) -> None:
    """As in every other path: no folder called ~ in the present one."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    variables = {"HOME": str(tmp_path / "home"), "MOBILENAS_DATABASE_URL": "sqlite:///~/deep/x.db"}
    done = program("searches", folder=tmp_path / "work", variables=variables)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "home" / "deep" / "x.db").is_file()
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "cp437"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_every_encoding_shows_what_it_can(variables: dict[str, str], tmp_path: Path) -> None:
    """What a terminal has no letter for is replaced; nothing ends in a traceback."""
    for arguments in (("arch", "show", "mobilenet_v3_small"), ("config", "show")):
        done = program(*arguments, folder=tmp_path, variables={"HOME": str(tmp_path), **variables})
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
        assert len(done.stdout) > 100


@pytest.mark.parametrize("columns", [0, 20, 200])
def test_any_width_will_do(columns: int, tmp_path: Path) -> None:
    """Help and tables from 20 to 200 columns."""
    for arguments in (("--help",), ("arch", "list")):
        variables = {"HOME": str(tmp_path), "COLUMNS": str(columns)}
        done = program(*arguments, folder=tmp_path, variables=variables)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
        widest = max(map(len, done.stdout.decode().splitlines()))
        assert 0 < widest <= max(80 if "--help" in arguments else 20, columns)


@pytest.mark.parametrize("redirected", [">&-", ">&- 2>&- <&-", "| head -n 1", "| true"])
@pytest.mark.parametrize("arguments", [("arch", "list", "--format", "json"), ("searches",)])
def test_closed_and_broken_streams_harm_nothing(redirected: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Output that goes nowhere, or whose reader has left, is no error of ours; no file takes its place."""
    variables = {"HOME": str(tmp_path)}
    done = program(*arguments, folder=tmp_path, variables=variables, redirected=redirected)
    assert done.returncode in ((0, 1, 141) if "|" in redirected else (0,)), done.stderr  # 1 is click's answer
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    database = tmp_path / ".local/share/mobilenas/mobilenas.db"
    assert not database.exists() or database.read_bytes().startswith(b"SQLite format 3")


def test_programs_that_are_started_have_their_streams(tmp_path: Path) -> None:
    """Where ours were closed, theirs are the null device, and not the next file that they open."""
    code = (
        "import subprocess, sys; from service.terminal.streams import make_usable; make_usable(); "
        "done = subprocess.run([sys.executable, '-c', 'import os; os.fstat(0); os.fstat(1); os.fstat(2)'])"
        "; sys.exit(done.returncode)"
    )
    command = ["bash", "-c", '"$@" >&- 2>&- <&-', "bash", sys.executable, "-c", code]
    assert subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=False).returncode == 0


def test_a_full_disk_behind_stdout_is_one_line(tmp_path: Path) -> None:
    """What could not be written is said."""
    done = program("arch", "list", folder=tmp_path, variables={"HOME": str(tmp_path)}, redirected="> /dev/full")
    assert done.returncode == 2
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self").exists(), reason="needs /proc")
def test_a_home_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A read-only HOME, here one that root cannot write either."""
    done = program("searches", folder=tmp_path, variables={"HOME": "/proc/self"})
    assert done.returncode == 2
    assert is_one_line(done.stderr), done.stderr


def test_without_a_folder_for_temporary_files(tmp_path: Path) -> None:
    """TMPDIR that is not there: others are used."""
    variables = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path / "nowhere")}
    done = program("searches", folder=tmp_path, variables=variables)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr


def test_names_that_are_no_utf8_are_refused_or_shown(tmp_path: Path) -> None:
    """As a folder of runs, as a database, as the present folder, as a configuration: one line each."""
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/m\xfcde")
    Path(odd).mkdir()
    variables = {"HOME": str(tmp_path)}
    for arguments in (
        ("searches", "--database", f"sqlite:///{odd}/x.db"),
        ("plan", "--config", f"{odd}/run.yaml"),
        ("plan", "--data", f"imagefolder:{odd}", "--resolution", "32"),
        ("export", odd),
        ("data", "check", odd),
    ):
        done = program(*arguments, folder=tmp_path, variables=variables)
        assert done.returncode == 2, arguments
        assert is_one_line(done.stderr), done.stderr


def test_shells_can_complete_commands(tmp_path: Path) -> None:
    """The completion that --show-completion prints asks the program in this way."""
    variables = {
        "HOME": str(tmp_path),
        "_MOBILENAS_COMPLETE": "complete_bash",
        "COMP_WORDS": "mobilenas se",
        "COMP_CWORD": "1",
    }
    done = program(folder=tmp_path, variables=variables)
    assert done.stdout.split() == [b"search", b"searches"], done.stderr


def test_help_has_headings(tmp_path: Path) -> None:
    """Thirty commands in five groups."""
    text = program("--help", folder=tmp_path, variables={"HOME": str(tmp_path), "COLUMNS": "120"}).stdout.decode()
    places = [text.index(f" {heading} ") for heading in ("Search", "Look", "Devices", "Networks and data", "Keep")]
    assert places == sorted(places)
