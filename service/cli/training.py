"""The command lines of `mobilenas train` and `mobilenas recipe`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli.options import NETWORKS, RUNS, DataDir, Form, Out, Runs, SkipDamaged

recipe_app = typer.Typer(help="Recipes: how networks are trained.", no_args_is_help=True)


@recipe_app.command("list")
def recipe_list(form: Form = "table", out: Out = None) -> None:
    """List the shipped recipes."""
    from service.commands.networks import training

    training.list_recipes(form, out)


@recipe_app.command("show")
def recipe_show(
    name: Annotated[str, typer.Argument(help="A shipped recipe, or a YAML file.", show_default=False)],
) -> None:
    """Show all fields of a recipe, as a YAML file to begin one's own from."""
    from service.commands.networks import training

    training.show_recipe(name)


def train(
    spec: Annotated[str, typer.Argument(help="A published network, or a spec file in any format.", show_default=False)],
    data: Annotated[str, typer.Option(help="Data set: fashion-mnist, cifar10 or imagefolder:PATH.")],
    recipe: Annotated[str, typer.Option(help="A shipped recipe (mobilenas recipe list), or a YAML file.")] = "final",
    data_dir: DataDir = None,
    images: Annotated[
        int | None,
        typer.Option(min=1, help="Images seen in training, repeats included; default: as many as the recipe says."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Train about so long instead, measured before it begins.")
    ] = None,
    width: Annotated[float | None, typer.Option(help="Width multiplier of a published network.")] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the input images in pixels; default: that of the spec.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights to begin with (safetensors).")] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="A found network to learn from: a run folder, or an ONNX file.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of weights, order and augmentation.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, max=256, help="CPU threads; default: one per core.")] = None,
    device: Annotated[Literal["cpu", "cuda", "mps"], typer.Option(help="Where to compute.")] = "cpu",
    skip_damaged: SkipDamaged = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the training; default: <runs>/<spec>-<its hash>-<data>-<recipe>.", show_default=False
        ),
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Train one network alone, test it and export it; the same command goes on where it was stopped."""
    from service.commands.networks import training

    training.train(
        spec,
        data,
        data_dir,
        recipe,
        images=images,
        minutes=minutes,
        width=width,
        resolution=resolution,
        weights=weights,
        teacher=teacher,
        seed=seed,
        threads=threads,
        device=device,
        skip_damaged=skip_damaged,
        out=out,
        runs=runs,
    )


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(rich_help_panel=NETWORKS)(train)
    app.add_typer(recipe_app, name="recipe", rich_help_panel=NETWORKS)
