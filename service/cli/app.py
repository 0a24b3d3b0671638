"""The command line. Heavy imports happen inside the commands, so that --help answers at once."""

import sys
from typing import Annotated

import typer

from service.cli import bench, database, networks, records, reports, searches, training
from service.cli.data import data_app
from service.cli.database import db_app
from service.cli.latency import device_app, latency_app
from service.cli.options import DEVICES, KEEP, NETWORKS, SEARCH, Config
from service.cli.spaces import arch_app, space_app
from service.terminal.streams import leave_quietly, make_usable
from space.errors import MobilenasError, Stopped

app = typer.Typer(
    help="Find the image classifier for your device: hardware-aware search over MobileNetV3-class networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="The configuration of a run.", no_args_is_help=True)


def _show_version(asked: bool) -> None:
    """What a person who reports a fault is asked for; heavy packages are named, not imported."""
    if not asked:
        return
    from importlib.metadata import version
    from platform import python_version

    from search.record.schema import REVISIONS

    named = {"python": python_version(), "torch": version("torch"), "onnxruntime": version("onnxruntime")}
    told = ", ".join(f"{name} {number}" for name, number in {**named, "schema": REVISIONS[-1]}.items())
    typer.echo(f"mobilenas {version('mobilenas')} ({told})")
    raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print versions and exit.")
]


@app.callback()
def begin(version: Version = False) -> None:  # noqa: ARG001 - its callback answers
    """Put the settings in force, before any command."""
    if "--help" in sys.argv:
        return
    from service.settings import export_cache_dir, load_settings
    from service.terminal import logs

    settings = load_settings()
    export_cache_dir()
    logs.configure(settings.log_format, settings.log_level)


@config_app.command("show")
def config_show(config: Config = None) -> None:
    """Print the settings and where each comes from, and the run: the default with its comments, or that of a file."""
    from service.commands.config import config_text

    typer.echo(config_text(config), nl=False)


# In the order of --help.
for group in (searches, bench, records, reports, networks, training, database):
    group.register(app)
for name, commands, panel in (
    ("config", config_app, SEARCH),
    ("bench", bench.bench_app, SEARCH),
    ("latency", latency_app, DEVICES),
    ("device", device_app, DEVICES),
    ("arch", arch_app, NETWORKS),
    ("space", space_app, NETWORKS),
    ("data", data_app, NETWORKS),
    ("db", db_app, KEEP),
):
    app.add_typer(commands, name=name, rich_help_panel=panel)


def main() -> None:
    """Run the command line; an error that a user can mend is one line and exit code 2, an interruption 130."""
    make_usable()
    try:
        code = app(standalone_mode=False) or 0
        sys.stdout.flush()
        sys.exit(code)
    except typer.TyperException as error:
        # Without a message where the help was shown instead.
        if message := error.format_message().rstrip("."):
            _tell(f"{message}; see --help", error=True)
        sys.exit(2)
    except MobilenasError as error:
        interrupted = isinstance(error, Stopped)
        _tell(" ".join(str(error).split()), error=not interrupted)
        sys.exit(130 if interrupted else 2)
    except UnicodeEncodeError as error:
        named = ascii(error.object[max(0, error.start - 40) : error.end + 40])
        _tell(f"{named} is not UTF-8, so that it cannot be recorded or sent; choose another name", error=True)
        sys.exit(2)
    except BrokenPipeError:
        leave_quietly()
        sys.exit(141)  # as if by SIGPIPE
    except OSError as error:
        _tell(" ".join(str(error).split()), error=True)
        leave_quietly()  # what stdout could not take is not tried once more
        sys.exit(2)


def _tell(line: str, *, error: bool) -> None:
    """The last line, on stderr: in the form of a log where that is read by programs.

    It may name what stands in a file from outside, which must not steer a terminal.
    """
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
    from service.settings import load_settings

    try:
        is_json = load_settings().log_format == "json"
    except MobilenasError:
        is_json = False  # the settings are what is wrong
    if is_json:
        import structlog

        log = structlog.stdlib.get_logger("mobilenas")
        (log.error if error else log.warning)(line)
        return
    try:
        typer.echo(f"error: {line}" if error else line, err=True)
    except OSError:
        leave_quietly()  # nobody can be told; the exit code tells
