"""The command lines of `mobilenas train`, `mobilenas recipe` and `mobilenas supernet`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli.options import (
    NETWORKS,
    RUNS,
    Config,
    Data,
    DataDir,
    Form,
    Init,
    Out,
    Resolution,
    Runs,
    SkipDamaged,
    Space,
    Width,
)

recipe_app = typer.Typer(help="Recipes: how networks are trained.", no_args_is_help=True)
supernet_app = typer.Typer(
    help="Supernets: one network that holds weights for all members of a space.", no_args_is_help=True
)

weights_app = typer.Typer(help="Weights that others have trained.", no_args_is_help=True)

WeightsName = Annotated[
    str,
    typer.Argument(
        metavar="WEIGHTS",
        help="A file of torchvision's, timm's or ours, a run folder, or torchvision:NAME.",
        show_default=False,
    ),
]
Epsilon = Annotated[
    float | None,
    typer.Option(
        min=1e-8,
        max=0.1,
        help="BatchNorm's epsilon, where it is not what the project's networks have (timm's tf_ variants: 1e-3).",
        show_default=False,
    ),
]
ComputeDevice = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    typer.Option(help="Where to compute; auto: cuda if there is a GPU, else cpu."),
]
CheckpointMinutes = Annotated[
    float, typer.Option(min=0.01, max=1440, help="How often it is kept, so that it can be gone on with.")
]
SupernetName = Annotated[str, typer.Argument(help="Name of the supernet.", show_default=False)]


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
    *,
    spec: Annotated[
        str | None,
        typer.Argument(
            help="A published network, or a spec file in any format; default: that of --init.", show_default=False
        ),
    ] = None,
    data: Annotated[str, typer.Option(help="Data set: fashion-mnist, cifar10 or imagefolder:PATH.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A shipped recipe (mobilenas recipe list), or a YAML file; default: final, and with --init transfer.",
            show_default=False,
        ),
    ] = None,
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
    init: Init = None,
    teacher: Annotated[
        Path | None,
        typer.Option(help="A trained network to learn from: a run folder, or any ONNX classifier.", show_default=False),
    ] = None,
    teacher_labels: Annotated[
        str | None,
        typer.Option(
            help="Text file with the class of each output of an ONNX teacher, a line each; default: its metadata.",
            show_default=False,
        ),
    ] = None,
    teacher_preprocess: Annotated[
        str | None,
        typer.Option(
            help="How an ONNX teacher takes pictures: imagenet, or a file like an exported preprocess.json; default: "
            "its metadata.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of weights, order and augmentation.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, max=256, help="CPU threads; default: one per core.")] = None,
    device: ComputeDevice = "auto",
    checkpoint_minutes: CheckpointMinutes = 5.0,
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
        init=init,
        teacher=teacher,
        teacher_labels=teacher_labels,
        teacher_preprocess=teacher_preprocess,
        seed=seed,
        threads=threads,
        device=None if device == "auto" else device,
        checkpoint_minutes=checkpoint_minutes,
        skip_damaged=skip_damaged,
        out=out,
        runs=runs,
    )


@supernet_app.command("train")
def supernet_train(
    name: SupernetName,
    config: Config = None,
    data: Data = None,
    data_dir: DataDir = None,
    resolution: Resolution = None,
    space: Space = None,
    width: Width = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A shipped recipe (mobilenas recipe list), or a YAML file; default: proxy, and with --init "
            "transfer-proxy.",
            show_default=False,
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="SUPERNET",
            help="Another supernet to begin with, by its name, folder or file: one that was imported, or trained on "
            "other data. The classifier is new where the classes are.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Images seen in training, repeats included; default: 120,000.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Train about so long instead, measured before it begins.")
    ] = None,
    drawn: Annotated[
        int, typer.Option(min=0, max=16, help="Members that each step trains beside the largest and the smallest.")
    ] = 2,
    warmup: Annotated[
        int,
        typer.Option(
            min=0,
            help="Of the images so many train the largest member alone, whose channels are then put in the order of "
            "their importance.",
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of weights, order and members.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, max=256, help="CPU threads; default: one per core.")] = None,
    device: ComputeDevice = "auto",
    checkpoint_minutes: CheckpointMinutes = 5.0,
    skip_damaged: SkipDamaged = False,
    runs: Runs = RUNS,
) -> None:
    """Train one network with weights for all members of a space; the same command goes on where it was stopped."""
    from service.commands.networks import supernets

    supernets.train(
        name,
        config=config,
        data=data,
        data_dir=data_dir,
        resolution=resolution,
        space=space,
        width=width,
        recipe_name=recipe,
        init=init,
        images=images,
        minutes=minutes,
        drawn=drawn,
        warmup=warmup,
        seed=seed,
        threads=threads,
        device=None if device == "auto" else device,
        checkpoint_minutes=checkpoint_minutes,
        skip_damaged=skip_damaged,
        runs=runs,
    )


@supernet_app.command("import")
def supernet_import(
    name: SupernetName,
    checkpoint: Annotated[
        Path, typer.Argument(help="Once-for-All's ofa_mbv3_d234_e346_k357_w1.0 or _w1.2.", show_default=False)
    ],
    resolution: Annotated[int, typer.Option(min=32, max=1024, help="Side of the input images in pixels.")] = 224,
    runs: Runs = RUNS,
) -> None:
    """Bring a checkpoint that Once-for-All has published, as a supernet of the space ofa-mbv3."""
    from service.commands.networks import supernets

    supernets.import_(name, checkpoint, resolution, runs)


@supernet_app.command("list")
def supernet_list(form: Form = "table", out: Out = None, runs: Runs = RUNS) -> None:
    """List the supernets: of what space, trained on what, and how their largest and smallest member do."""
    from service.commands.networks import supernets

    supernets.list_(form, out, runs)


@supernet_app.command("show")
def supernet_show(name: SupernetName, runs: Runs = RUNS) -> None:
    """Show all that is known of a supernet, as YAML."""
    from service.commands.networks import supernets

    supernets.show_(name, runs)


@supernet_app.command("export")
def supernet_export(
    name: SupernetName,
    spec: Annotated[str, typer.Argument(help="Spec file of a member of its space.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Data set that it was trained for; without one it is neither tested nor made an ONNX file, but can be "
            "trained on for any data (--init).",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    skip_damaged: SkipDamaged = False,
    runs: Runs = RUNS,
) -> None:
    """Write spec, weights and ONNX file of a member, with the weights that the supernet has for it; and test it."""
    from service.commands.networks import supernets

    supernets.export(name, spec, data=data, data_dir=data_dir, skip_damaged=skip_damaged, out=out, runs=runs)


@supernet_app.command("gc")
def supernet_gc(
    names: Annotated[
        list[str] | None, typer.Argument(help="Supernets; default: all that are whole.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be freed, and leave it.")] = False,
    runs: Runs = RUNS,
) -> None:
    """Give up what the trainings of whole supernets could go on from; the supernets stay."""
    from service.commands.networks import supernets

    supernets.gc(names or [], runs, dry_run=dry_run)


@weights_app.command("inspect")
def weights_inspect(named: WeightsName, epsilon: Epsilon = None) -> None:
    """Say which network's weights a file holds, by what is in it: width, parameters, classes, epsilon."""
    from service.commands.networks import weights

    weights.inspect(named, epsilon)


@weights_app.command("convert")
def weights_convert(
    named: WeightsName,
    out: Annotated[Path, typer.Argument(help="File to write; for mobilenas a folder.", show_default=False)],
    to: Annotated[
        Literal["mobilenas", "torchvision", "timm"], typer.Option(help="Whose names the tensors are to have.")
    ],
    epsilon: Epsilon = None,
) -> None:
    """Write weights as another project names its tensors, as safetensors."""
    from service.commands.networks import weights

    weights.convert(named, out, to, epsilon)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(rich_help_panel=NETWORKS)(train)
    app.add_typer(recipe_app, name="recipe", rich_help_panel=NETWORKS)
    app.add_typer(supernet_app, name="supernet", rich_help_panel=NETWORKS)
    app.add_typer(weights_app, name="weights", rich_help_panel=NETWORKS)
