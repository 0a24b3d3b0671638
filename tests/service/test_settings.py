"""Settings: where they come from, which wins, and what is never shown."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from search.config.load import parse_config
from service.commands.config import shown_url
from service.settings import forget, load_settings, origins
from space.errors import InvalidConfig
from tests.tiny import Result

Mobilenas = Callable[..., Result]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes the settings file."""

    def written(content: str) -> Path:
        path = tmp_path / "settings.yaml"
        path.write_text(content)
        monkeypatch.setenv("MOBILENAS_SETTINGS", str(path))
        forget()
        return path

    return written


def test_variable_beats_file_beats_default(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source wins over the next, and each setting knows where it comes from."""
    assert load_settings().log_level == "info"
    path = write("{log_level: DEBUG, owner: ada}")
    assert (load_settings().log_level, load_settings().owner) == ("debug", "ada")
    monkeypatch.setenv("MOBILENAS_LOG_LEVEL", "warning")
    forget()
    assert (load_settings().log_level, load_settings().owner) == ("warning", "ada")
    found = origins()
    assert (found["log_level"], found["owner"], found["runs"]) == ("MOBILENAS_LOG_LEVEL", str(path), "default")


def test_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that a compose file sets to nothing does not count."""
    monkeypatch.setenv("MOBILENAS_OWNER", "")
    monkeypatch.setenv("MOBILENAS_RUNS", "")
    forget()
    assert load_settings().owner
    assert load_settings().runs == Path("runs")


def test_option_beats_variable(mobilenas: Mobilenas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands on the command line wins."""
    monkeypatch.setenv("MOBILENAS_DATABASE_URL", "mysql://host/name")
    forget()
    assert mobilenas("searches").code == 2
    assert mobilenas("searches", "--database", f"sqlite:///{tmp_path / 'a.db'}").code == 0


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("databse_url: x", "key 'databse_url' is unknown; write database_url"),
        ("nothing: 1", "key 'nothing' is unknown; remove it"),
        ("log_level: loud", "key log_level: 'loud' is refused"),
        ("[1]", "must hold keys and values"),
        ("a: [", "is not plain YAML"),
        ("reader_password: 7", "key reader_password: its value (not shown)"),
    ],
)
def test_faults_of_the_file_are_named(
    write: Callable[[str], Path], mobilenas: Mobilenas, content: str, named: str
) -> None:
    """One line with file, key and remedy."""
    path = write(content)
    result = mobilenas("config", "show")
    assert result.code == 2
    assert len(result.err.strip().splitlines()) == 1
    assert str(path) in result.err
    assert named in result.err


def test_faults_of_variables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with the variable; a missing settings file that is named is a fault too."""
    monkeypatch.setenv("MOBILENAS_LOG_FORMAT", "xml")
    forget()
    with pytest.raises(InvalidConfig, match="variable MOBILENAS_LOG_FORMAT: 'xml' is refused"):
        load_settings()
    monkeypatch.delenv("MOBILENAS_LOG_FORMAT")
    monkeypatch.setenv("MOBILENAS_SETTINGS", "/no/such/file")
    forget()
    with pytest.raises(InvalidConfig, match="correct or unset MOBILENAS_SETTINGS"):
        load_settings()


def test_passwords_are_never_shown(
    write: Callable[[str], Path], mobilenas: Mobilenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in what is shown, nor in what is wrong."""
    write("{reader_password: hunter2, database_url: 'postgresql://me:hunter2@host/db?password=hunter2'}")
    shown = mobilenas("config", "show")
    assert shown.code == 0
    assert "hunter2" not in shown.out
    assert "hidden" in shown.out
    assert "me:***@host" in shown.out
    write("reader_pasword: hunter2")
    assert "hunter2" not in mobilenas("config", "show").err
    write("reader_password: 0471147114")  # octal to some
    with pytest.raises(InvalidConfig, match="in line 1; correct it") as told:
        load_settings()
    assert "0471147114" not in str(told.value)
    forget()
    write("reader_password: 'hunter2\n  - x: [")
    assert "hunter2" not in mobilenas("config", "show").err
    assert "hunter2" not in repr(load_settings) + shown_url("postgresql://me:hunter2@host:port/db")
    monkeypatch.setenv("MOBILENAS_SETTINGS", "")


def test_shown_configuration_is_one(mobilenas: Mobilenas, tmp_path: Path) -> None:
    """What is shown is accepted by --config, means the same, and marks what the file changed."""
    path = tmp_path / "run.yaml"
    path.write_text("{target: {ms: 4.5}, blocks: {trials: 7}, data: {source: 'imagefolder:/a b/#c'}}")
    shown = mobilenas("config", "show", "--config", path)
    assert shown.code == 0
    marked = [line.split("#")[0].strip() for line in shown.out.splitlines() if line.endswith(f"# {path}")]
    assert "trials: 7" in marked
    assert "ms: 4.5" in marked
    again = tmp_path / "again.yaml"
    again.write_text(shown.out)
    expected = parse_config({"target": {"ms": 4.5}, "blocks": {"trials": 7}, "data": {"source": "imagefolder:/a b/#c"}})
    assert parse_config(yaml.safe_load(again.read_text())) == expected


def test_default_configuration_file_is_the_default(mobilenas: Mobilenas) -> None:
    """configs/default.yaml changes nothing, so that it can be copied and filled in."""
    path = Path(__file__).parents[2] / "configs" / "default.yaml"
    shown = mobilenas("config", "show", "--config", path)
    assert yaml.safe_load(shown.out) == parse_config({}).model_dump(mode="json")
    assert not [line for line in shown.out.splitlines() if line.endswith(f"# {path}")]
