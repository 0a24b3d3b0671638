"""The command lines of `mobilenas arch` and `mobilenas space`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli.options import Form, Out

arch_app = typer.Typer(help="Architectures: published networks and spec files.", no_args_is_help=True)
space_app = typer.Typer(help="Search spaces.", no_args_is_help=True)

What = Annotated[str, typer.Argument(help="A published network, or a spec file in any format.", show_default=False)]
Space = Annotated[str, typer.Argument(help="A shipped search space, or a YAML file.", show_default=False)]
Width = Annotated[float, typer.Option(help="Width multiplier.")]
Resolution = Annotated[int | None, typer.Option(help="Side of the input images in pixels; default: the published one.")]
InChannels = Annotated[int, typer.Option(help="Channels of the input images.")]
Classes = Annotated[int, typer.Option(help="Number of classes.")]


@arch_app.command("list")
def arch_list(form: Form = "table", out: Out = None) -> None:
    """List the published networks that are known by name, with their costs."""
    from service.commands import spaces

    spaces.list_references(form, out)


@arch_app.command("show")
def arch_show(
    what: What,
    width: Annotated[float | None, typer.Option(help="Width multiplier of a published network.")] = None,
    resolution: Resolution = None,
    rounding: Annotated[
        Literal["torchvision", "slim"] | None,
        typer.Option(
            help="How MobileNetV3 scales expansions; slim is the rule behind the published figures, and that of timm."
        ),
    ] = None,
    form: Annotated[
        Literal["table", "json", "spec", "timm", "torchvision", "ofa", "model.py"],
        typer.Option(
            "--format", help="json: costs and spec; spec: our spec only; the last four: specs for other tools."
        ),
    ] = "table",
    out: Out = None,
) -> None:
    """Show an architecture: every block and its cost, or its spec in the format of another tool."""
    from service.commands import spaces

    spaces.show_architecture(what, width, resolution, rounding, form, out)


@arch_app.command("import")
def arch_import(
    file: Annotated[Path, typer.Argument(help="A spec of timm, torchvision or Once-for-All, or one of ours.")],
    resolution: Annotated[
        int | None, typer.Option(help="Side of the input images in pixels, where the file does not say.")
    ] = None,
    out: Out = None,
) -> None:
    """Convert a spec of another tool into ours."""
    from service.commands import spaces

    spaces.import_architecture(file, resolution, out)


@arch_app.command("schema")
def arch_schema() -> None:
    """Print the JSON Schema of a spec."""
    from service.commands import spaces

    typer.echo(spaces.schema_text(), nl=False)


@space_app.command("list")
def space_list(form: Form = "table", out: Out = None) -> None:
    """List the shipped search spaces."""
    from service.commands import spaces

    spaces.list_spaces(form, out)


@space_app.command("show")
def space_show(
    space: Space,
    width: Width = 1.0,
    resolution: Resolution = None,
    in_channels: InChannels = 3,
    classes: Classes = 1000,
    form: Form = "table",
    out: Out = None,
) -> None:
    """Show the choices of a space, how many networks it has, and their costs."""
    from service.commands import spaces

    spaces.show_space(space, width, resolution, in_channels, classes, form, out)


@space_app.command("check")
def space_check(
    space: Space,
    width: Width = 1.0,
    resolution: Resolution = None,
    in_channels: InChannels = 3,
    classes: Classes = 1000,
) -> None:
    """Check a YAML file that describes a search space, and say how large the space is."""
    from service.commands import spaces

    spaces.check_space(space, width, resolution, in_channels, classes)


@space_app.command("has")
def space_has(space: Space, what: What, width: Width = 1.0) -> None:
    """Say whether a space contains an architecture; if not, why, and which of its networks comes closest."""
    from service.commands import spaces

    spaces.has(space, what, width)
