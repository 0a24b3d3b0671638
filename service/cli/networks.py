"""The commands about a found network."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.options import DATABASE, NETWORKS, Database, DataDir, Form, Name, Out, Run, SkipDamaged


def export(
    name: Name,
    trial: Annotated[int | None, typer.Option(help="Number of a completed trial; default: the found network.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to, or - for a tar file on stdout; default: <name>-trial-<n>.")
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="Write the spec for another tool, too: timm, torchvision, ofa or model.py; repeatable."
        ),
    ] = None,
    bundle: Annotated[
        bool,
        typer.Option(
            "--bundle", help="Add what others need to run it: programs, a model card, pictures with what it says."
        ),
    ] = False,
    database: Database = DATABASE,
) -> None:
    """Write the spec, weights, ONNX file, labels and preprocessing of a trial."""
    from service.commands.networks import exports

    exports.export(database, name, trial, out, form or [], bundle=bundle)


def predict(
    run: Run,
    pictures: Annotated[list[Path], typer.Argument(help="Picture files, or folders of them.", show_default=False)],
    top: Annotated[int, typer.Option(min=1, help="Number of classes to name for each picture.")] = 3,
) -> None:
    """Classify your own pictures with an exported network."""
    from service.commands.networks import exports

    exports.predict(run, pictures, top)


def evaluate(
    run: Run,
    data: Annotated[str, typer.Option(help="fashion-mnist, cifar10 or imagefolder:PATH.")],
    data_dir: DataDir = None,
    everything: Annotated[bool, typer.Option("--all", help="Use all images, not only the test split.")] = False,
    skip_damaged: SkipDamaged = False,
    form: Form = "table",
    out: Out = None,
    matrix: Annotated[
        Path | None,
        typer.Option(help="Write the whole confusion matrix to this file, which ends in .csv, .json or .png."),
    ] = None,
    worst: Annotated[
        Path | None,
        typer.Option(help="Draw the pictures that the network is most surely wrong about into this .png file."),
    ] = None,
) -> None:
    """Print top-1 with its interval, recall and precision per class, and what an exported network confuses."""
    from service.commands.networks import evaluation

    evaluation.evaluate(
        run,
        data,
        data_dir,
        everything=everything,
        skip_damaged=skip_damaged,
        form=form,
        out=out,
        matrix=matrix,
        worst=worst,
    )


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (export, predict, evaluate):
        app.command(rich_help_panel=NETWORKS)(command)
