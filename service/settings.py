"""What belongs to a person and a machine instead of to a run: where things are kept, how it logs.

Strongest first: options of the command line, `MOBILENAS_*` variables, the settings file, defaults.
"""

import difflib
import getpass
import os
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from yaml import MarkedYAMLError

from space.errors import InvalidConfig
from space.paths import expanded, user_folder
from space.plain_yaml import NotPlainYaml, read_plain_yaml

PREFIX = "MOBILENAS_"
FILE_VARIABLE = "MOBILENAS_SETTINGS"

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

# A shell expands ~ on the command line, nobody does so in a file.
_Folder = Annotated[Path, AfterValidator(expanded)]
_Lower = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)

# Values of these are never repeated, not even in a message about what is wrong with them.
_CONFIDENTIAL = ("database_url", "reader_password")


def default_database() -> str:
    """An SQLite file in the user's data directory, as an SQLAlchemy URL.

    Without a home it has its ~, which is refused where it is used, and not where another database is named.
    """
    return f"sqlite:///{user_folder('data') or '~/.local/share/mobilenas'}/mobilenas.db"


def login_name() -> str:
    """The name of who is logged in; "unknown" where there is none, as in some containers."""
    try:
        return getpass.getuser() or "unknown"
    except (OSError, KeyError, ImportError):  # KeyError until Python 3.12, ImportError without the module pwd
        return "unknown"


class Settings(BaseSettings):
    """Everything effective; what is passed in is the settings file's, and variables win over it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    database_url: str = Field(default_factory=default_database, min_length=1, repr=False)
    runs: _Folder = Path("runs")
    cache_dir: _Folder | None = None
    owner: str = Field(default_factory=login_name, min_length=1, max_length=100)
    log_format: Annotated[LogFormat, _Lower] = "text"
    log_level: Annotated[LogLevel, _Lower] = "info"
    reader_password: Annotated[SecretStr, Field(min_length=1)] | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's interface
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Variables, then the file; no .env, which would depend on the working directory."""
        return env_settings, init_settings


def load_settings() -> Settings:
    """The effective settings, read once per process.

    Raises:
        InvalidConfig: the settings file cannot be read, or a key or value of it or of a variable is wrong.
    """
    return _load()[0]


def origins() -> dict[str, str]:
    """Where each setting comes from: the name of a variable, the path of the settings file, or "default".

    Raises:
        InvalidConfig: see `load_settings`.
    """
    return dict(_load()[1])


def forget() -> None:
    """Have the settings read anew, after a change of the file or of a variable."""
    _load.cache_clear()


def export_cache_dir() -> None:
    """Give a cache folder from the file to whoever looks for the variable, such as worker processes."""
    if (folder := load_settings().cache_dir) is not None:
        os.environ["MOBILENAS_CACHE_DIR"] = str(folder)


@cache
def _load() -> tuple[Settings, dict[str, str]]:
    path = _file()
    content = _read(path) if path else {}
    origin = dict.fromkeys(Settings.model_fields, "default")
    origin |= dict.fromkeys(content, str(path))
    origin |= {name: f"{PREFIX}{name.upper()}" for name in EnvSettingsSource(Settings)()}
    try:
        return Settings(**content), origin
    except ValidationError as error:
        raise InvalidConfig(_told(error, origin)) from None  # the cause would repeat confidential values


def _file() -> Path | None:
    """The settings file that there is."""
    if named := os.environ.get(FILE_VARIABLE):
        return expanded(named)
    folder = user_folder("config")
    path = None if folder is None else folder / "settings.yaml"
    return path if path is not None and os.path.exists(path) else None


def _read(path: Path) -> dict[str, Any]:
    known = ", ".join(Settings.model_fields)
    try:
        content = read_plain_yaml(path.read_bytes())
    except OSError as error:
        remedy = f"correct or unset {FILE_VARIABLE}" if os.environ.get(FILE_VARIABLE) else "make it readable"
        raise InvalidConfig(f"settings file {path} cannot be read: {error.strerror}; {remedy}") from error
    except NotPlainYaml as error:
        raise InvalidConfig(f"settings file {path} is not plain YAML: {_fault(error)}; correct it") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InvalidConfig(f"settings file {path} must hold keys and values ({known}), got {type(content).__name__}")
    for key in content:
        if key not in Settings.model_fields:
            # Not its value: the key may be a misspelt reader_password.
            nearest = difflib.get_close_matches(str(key), Settings.model_fields, n=1)
            remedy = f"write {nearest[0]}" if nearest else "remove it"
            raise InvalidConfig(f"settings file {path}: key {key!r} is unknown; {remedy} (known are {known})")
    return content


def _fault(error: NotPlainYaml) -> str:
    """What is wrong and where, without the line itself that PyYAML quotes: it may hold a password."""
    cause = error.__cause__
    if isinstance(cause, MarkedYAMLError) and cause.problem_mark:
        return f"{cause.problem} in line {cause.problem_mark.line + 1}"
    return str(error)


def _told(error: ValidationError, origin: dict[str, str]) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0])
    value = "its value (not shown)" if name in _CONFIDENTIAL else repr(first["input"])
    if origin[name].startswith(PREFIX):
        return f"variable {origin[name]}: {value} is refused: {first['msg']}; correct or unset it"
    return f"settings file {origin[name]}: key {name}: {value} is refused: {first['msg']}; correct or remove it"
