"""The command lines of `mobilenas latency` and `mobilenas device`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli.options import DATABASE, Database, Form, Out

latency_app = typer.Typer(help="Latency tables: measure, prove, hand over, compare.", no_args_is_help=True)
device_app = typer.Typer(help="Devices: this machine, others behind ssh, or reached by kit.", no_args_is_help=True)

Device = Annotated[
    str | None, typer.Option(help="Name of the device; default: the configuration's, or local.", show_default=False)
]
Local = Annotated[str, typer.Option(help="Name of the device.")]
Enqueue = Annotated[list[str] | None, typer.Option(help="A network whose blocks to measure as well; repeatable.")]
Config = Annotated[Path | None, typer.Option("--config", help="Configuration of the run that the table is for.")]
Space = Annotated[str | None, typer.Option(help="A shipped space or a YAML file, where there is no --config.")]
Width = Annotated[float, typer.Option(help="Width multiplier of --space.")]
Resolution = Annotated[int | None, typer.Option(help="Side of the input in pixels; default: the published one.")]
InChannels = Annotated[int, typer.Option(help="Channels of the input.")]
Classes = Annotated[int, typer.Option(help="Number of classes.")]
Minutes = Annotated[float | None, typer.Option(help="Stop refining after so long; blocks not settled are listed.")]
Precision = Annotated[float | None, typer.Option(help="Relative width of a block's confidence interval to reach.")]
Rounds = Annotated[int | None, typer.Option(help="Visits of each block, at least.")]
Anew = Annotated[bool, typer.Option("--anew", help="Also what a table holds already.")]
Plot = Annotated[Path | None, typer.Option(help="HTML file for the plot.")]
Answer = Annotated[Literal["table", "json"], typer.Option("--format", help="How to print.")]


@latency_app.command("collect")
def collect(
    device: Device = None,
    config: Config = None,
    space: Space = None,
    width: Width = 1.0,
    resolution: Resolution = None,
    in_channels: InChannels = 3,
    classes: Classes = 1000,
    rounds: Rounds = None,
    precision: Precision = None,
    minutes: Minutes = None,
    anew: Anew = False,
    enqueue: Enqueue = None,
    database: Database = DATABASE,
) -> None:
    """Measure the blocks of a space that a device's table lacks; goes on where it was stopped."""
    from service.commands import tables

    sizes = (config, space, width, resolution, in_channels, classes)
    wanted = tables.Wanted(*sizes, rounds, precision, minutes, anew, tuple(enqueue or ()))
    tables.collect(database, device, wanted)


@latency_app.command("bundle")
def bundle(
    device: Device = None,
    config: Config = None,
    space: Space = None,
    width: Width = 1.0,
    resolution: Resolution = None,
    in_channels: InChannels = 3,
    classes: Classes = 1000,
    rounds: Rounds = None,
    precision: Precision = None,
    minutes: Minutes = None,
    anew: Anew = False,
    enqueue: Enqueue = None,
    refine: Annotated[
        str | None, typer.Option(help="Instead: what NetAdapt can reach from this search's winner.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Zip file to write.")] = Path("kit.zip"),
    database: Database = DATABASE,
) -> None:
    """Write a kit that measures a space on any device with Python, numpy and ONNX Runtime."""
    from service.commands import tables
    from space.errors import InvalidConfig

    sizes = (config, space, width, resolution, in_channels, classes)
    wanted = tables.Wanted(*sizes, rounds, precision, minutes, anew, tuple(enqueue or ()))
    if refine is not None:
        if config is not None or space is not None:
            raise InvalidConfig("--refine NAME says all: leave --config and --space out")
        tables.bundle_refinement(database, refine, out)
    else:
        tables.bundle(database, device, wanted, out)


@latency_app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(help="results.json, the kit zipped again after measuring, or an exported table.")
    ],
    device: Annotated[str | None, typer.Option(help="Name of the device; a table keeps its own by default.")] = None,
    database: Database = DATABASE,
) -> None:
    """Record the table of a kit's results, or one that a colleague exported."""
    from service.commands import tables

    tables.take(database, file, device)


@latency_app.command("export")
def export(
    device: Device = None,
    config: Config = None,
    space: Space = None,
    width: Width = 1.0,
    resolution: Resolution = None,
    in_channels: InChannels = 3,
    classes: Classes = 1000,
    out: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("table.json"),
    database: Database = DATABASE,
) -> None:
    """Write a table with every raw sample, to hand it to a colleague."""
    from service.commands import tables

    tables.export(database, device, tables.Wanted(config, space, width, resolution, in_channels, classes), out)


@latency_app.command("validate")
def validate(
    device: Device = None,
    config: Config = None,
    space: Space = None,
    width: Width = 1.0,
    resolution: Resolution = None,
    in_channels: InChannels = 3,
    classes: Classes = 1000,
    networks: Annotated[int, typer.Option(min=8, max=1000, help="Networks to measure.")] = 100,
    near_target: Annotated[
        float | None, typer.Option(help="Target in ms that a quarter of them is near; default: the space's median.")
    ] = None,
    with_load: Annotated[bool, typer.Option("--with-load", help="Beside one busy process per core.")] = False,
    baselines: Annotated[bool, typer.Option("--baselines", help="Also measure the naive way, to compare.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the networks that are drawn.")] = 0,
    form: Answer = "table",
    plot: Plot = None,
    database: Database = DATABASE,
) -> None:
    """Prove a table: predict networks that no fit has seen, then measure them whole."""
    from service.commands import tables, validation

    validation.validate(
        database,
        device,
        tables.Wanted(config, space, width, resolution, in_channels, classes),
        networks=networks,
        near_target_ms=near_target,
        with_load=with_load,
        baselines=baselines,
        seed=seed,
        form=form,
        plot=plot,
    )


@latency_app.command("profile")
def profile(
    what: Annotated[
        str, typer.Argument(help="A published network, a spec file, or any ONNX file.", show_default=False)
    ],
    device: Local = "local",
    shape: Annotated[
        str | None, typer.Option(help="Input of an ONNX file with open sides, such as 1x3x48x192.")
    ] = None,
    form: Answer = "table",
    plot: Plot = None,
    database: Database = DATABASE,
) -> None:
    """Say how long a network takes, and of a spec what each block takes of it."""
    from service.commands import validation

    validation.profile(database, what, device, shape, form, plot)


@latency_app.command("compare")
def compare(
    devices: Annotated[tuple[str, str], typer.Option(help="Two devices with a table of the space.")],
    config: Config = None,
    space: Space = None,
    width: Width = 1.0,
    resolution: Resolution = None,
    in_channels: InChannels = 3,
    classes: Classes = 1000,
    form: Answer = "table",
    database: Database = DATABASE,
) -> None:
    """Say whether two devices rank networks alike, and what a network chosen for one costs on the other."""
    from service.commands import tables, validation

    validation.compare(database, devices, tables.Wanted(config, space, width, resolution, in_channels, classes), form)


@device_app.command("add")
def device_add(
    name: Annotated[str, typer.Argument(help="A name of your own.", show_default=False)],
    address: Annotated[str, typer.Argument(help="local, kit, or ssh://user@host[:port].")] = "local",
    threads: Annotated[int, typer.Option(help="ONNX Runtime's intra-op threads.")] = 1,
    provider: Annotated[str, typer.Option(help="ONNX Runtime's execution provider.")] = "CPUExecutionProvider",
    optimization: Annotated[
        Literal["disabled", "basic", "extended", "all"], typer.Option(help="ONNX Runtime's graph optimisation level.")
    ] = "all",
    cpus: Annotated[str | None, typer.Option(help="Cores to keep to on an ssh device, such as 4-7.")] = None,
    python: Annotated[str, typer.Option(help="Python to call on an ssh device.")] = "python3",
    replace: Annotated[bool, typer.Option("--replace", help="Change a device that was added before.")] = False,
    database: Database = DATABASE,
) -> None:
    """Say how a device is reached and how ONNX Runtime is used there."""
    from service.commands import devices

    devices.add(database, name, address, threads, provider, optimization, cpus, python, replace=replace)


@device_app.command("list")
def device_list(form: Form = "table", out: Out = None, database: Database = DATABASE) -> None:
    """List devices: those that were added, and those that have tables."""
    from service.commands import devices

    devices.list_devices(database, form, out)


@device_app.command("show")
def device_show(
    name: Annotated[str, typer.Argument(help="The device's name.", show_default=False)],
    form: Answer = "table",
    database: Database = DATABASE,
) -> None:
    """Show a device: how it is reached, its tables, what they were measured under, and how well they predict."""
    from service.commands import devices

    devices.show_device(database, name, form)
