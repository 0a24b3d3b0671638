"""The command lines of `mobilenas latency` and `mobilenas device`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli.options import DATABASE, Database, Form, Out

latency_app = typer.Typer(help="Latency tables: measure, validate, hand over and compare them.", no_args_is_help=True)
device_app = typer.Typer(help="Devices: this machine, and others reached over ssh or by kit.", no_args_is_help=True)

Device = Annotated[
    str | None,
    typer.Option(help="Name of the device; default: that of the configuration, or local.", show_default=False),
]
Local = Annotated[str, typer.Option(help="Name of the device.")]
Enqueue = Annotated[list[str] | None, typer.Option(help="Measure the blocks of this network, too; repeatable.")]
Config = Annotated[Path | None, typer.Option("--config", help="Configuration file of the run that the table is for.")]
Space = Annotated[str | None, typer.Option(help="Without --config: a shipped search space, or a YAML file.")]
Width = Annotated[float, typer.Option(help="Width multiplier of --space.")]
Resolution = Annotated[int | None, typer.Option(help="Side of the input images in pixels; default: the published one.")]
InChannels = Annotated[int, typer.Option(help="Channels of the input images.")]
Classes = Annotated[int, typer.Option(help="Number of classes.")]
Minutes = Annotated[
    float | None,
    typer.Option(help="Stop repeating measurements after so many minutes; blocks that have not settled are listed."),
]
Precision = Annotated[
    float | None, typer.Option(help="Relative width of the confidence interval at which a block has settled.")
]
Rounds = Annotated[int | None, typer.Option(help="Rounds over all blocks, at least.")]
Anew = Annotated[bool, typer.Option("--anew", help="Measure blocks again that the table holds already.")]
Plot = Annotated[Path | None, typer.Option(help="HTML file to write the plot to.")]
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
    """Measure the blocks of a search space that a device's table lacks; after a stop, go on where it was."""
    from service.commands.latency import tables

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
        str | None, typer.Option(help="Instead of a space: the blocks that NetAdapt may need in this search.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Zip file to write.")] = Path("kit.zip"),
    database: Database = DATABASE,
) -> None:
    """Write a kit that measures a search space on any device with Python, numpy and ONNX Runtime."""
    from service.commands.latency import tables
    from space.errors import InvalidConfig

    sizes = (config, space, width, resolution, in_channels, classes)
    wanted = tables.Wanted(*sizes, rounds, precision, minutes, anew, tuple(enqueue or ()))
    if refine is not None:
        if config is not None or space is not None:
            raise InvalidConfig("--refine NAME determines the kit; leave --config and --space out")
        tables.bundle_refinement(database, refine, out)
    else:
        tables.bundle(database, device, wanted, out)


@latency_app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(help="results.json of a kit, the whole kit zipped again after measuring, or an exported table."),
    ],
    device: Annotated[
        str | None, typer.Option(help="Name of the device; an exported table keeps its own by default.")
    ] = None,
    database: Database = DATABASE,
) -> None:
    """Record a latency table: from the results of a kit, or exported by a colleague."""
    from service.commands.latency import tables

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
    """Write a latency table with every raw sample to a file, for a colleague to import."""
    from service.commands.latency import tables

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
    networks: Annotated[int, typer.Option(min=8, max=1000, help="Number of networks to measure.")] = 100,
    near_target: Annotated[
        float | None,
        typer.Option(help="Latency in ms near which a quarter of them lie; default: the median of the space."),
    ] = None,
    with_load: Annotated[
        bool, typer.Option("--with-load", help="Measure while one busy process per core runs.")
    ] = False,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Measure blocks in the naive way, too, for comparison.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed for drawing the networks.")] = 0,
    form: Answer = "table",
    plot: Plot = None,
    database: Database = DATABASE,
) -> None:
    """Validate a latency table: predict networks that its fit has not seen, then measure them whole."""
    from service.commands.latency import tables, validation

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
        str | None, typer.Option(help="Input shape for an ONNX file that leaves it open, such as 1x3x48x192.")
    ] = None,
    form: Answer = "table",
    plot: Plot = None,
    database: Database = DATABASE,
) -> None:
    """Say how long a network takes and, unless it is an ONNX file, the share of each block."""
    from service.commands.latency import validation

    validation.profile(database, what, device, shape, form, plot)


@latency_app.command("compare")
def compare(
    devices: Annotated[tuple[str, str], typer.Option(help="Two devices that have a latency table of the space.")],
    config: Config = None,
    space: Space = None,
    width: Width = 1.0,
    resolution: Resolution = None,
    in_channels: InChannels = 3,
    classes: Classes = 1000,
    form: Answer = "table",
    database: Database = DATABASE,
) -> None:
    """Say whether two devices rank networks alike, and how a network chosen for one does on the other."""
    from service.commands.latency import tables, validation

    validation.compare(database, devices, tables.Wanted(config, space, width, resolution, in_channels, classes), form)


@device_app.command("add")
def device_add(
    name: Annotated[str, typer.Argument(help="Your own name for the device.", show_default=False)],
    address: Annotated[str, typer.Argument(help="local, kit, or ssh://user@host[:port].")] = "local",
    threads: Annotated[int, typer.Option(help="ONNX Runtime's intra-op threads.")] = 1,
    provider: Annotated[str, typer.Option(help="ONNX Runtime's execution provider.")] = "CPUExecutionProvider",
    optimization: Annotated[
        Literal["disabled", "basic", "extended", "all"], typer.Option(help="ONNX Runtime's graph optimisation level.")
    ] = "all",
    cpus: Annotated[
        str | None, typer.Option(help="Cores to run on, for a device reached over ssh or by kit, such as 4-7.")
    ] = None,
    python: Annotated[str, typer.Option(help="Python to run on a device reached over ssh.")] = "python3",
    replace: Annotated[bool, typer.Option("--replace", help="Change a device that has been added before.")] = False,
    database: Database = DATABASE,
) -> None:
    """Add a device: how it is reached, and how ONNX Runtime is used there."""
    from service.commands.latency import devices

    devices.add(database, name, address, threads, provider, optimization, cpus, python, replace=replace)


@device_app.command("list")
def device_list(form: Form = "table", out: Out = None, database: Database = DATABASE) -> None:
    """List devices: those that were added, and those that have latency tables."""
    from service.commands.latency import devices

    devices.list_devices(database, form, out)


@device_app.command("show")
def device_show(
    name: Annotated[str, typer.Argument(help="The device's name.", show_default=False)],
    form: Answer = "table",
    database: Database = DATABASE,
) -> None:
    """Show a device: how it is reached, its latency tables, how they were measured, and how well they predict."""
    from service.commands.latency import devices

    devices.show_device(database, name, form)
