"""Commands about architectures and spaces: arch list, show, import, schema; space list, show, check, has."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import typer

from service.terminal.console import say
from service.terminal.rows import Format, scientific, show
from space.arch import Architecture, json_schema
from space.choices import SearchSpace
from space.cost import Cost, cost_of, unit_cost
from space.errors import RunError
from space.formats import FormatName, published_or_read, read_spec_file, write_spec
from space.keys import named_keys, out_shape
from space.preset import load_preset, preset_names
from space.reference import REFERENCES, Rounding

ShowFormat = Literal["table", "json", "spec", "timm", "torchvision", "ofa", "model.py"]


_SAMPLED = 5000

_LIST_TYPES: dict[str, type] = {
    "name": str,
    "says": str,
    "widths": str,
    "resolution": int,
    "madds_m": float,
    "params_m": float,
    "peak_mb": float,
}


def _hand_out(text: str, out: Path | None) -> None:
    """Print a text for programs as it is, or write it into a file."""
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{out} cannot be written: {error.strerror}; choose another --out") from error


def list_references(form: Format, out: Path | None) -> None:
    """The command `arch list`."""
    rows = []
    for reference in REFERENCES.values():
        cost = cost_of(reference())
        row = {
            "name": reference.name,
            "says": reference.says,
            "widths": " ".join(f"{width:g}" for width in reference.widths),
            "resolution": reference.resolution,
            "madds_m": cost.madds / 1e6,
            "params_m": cost.params / 1e6,
            "peak_mb": cost.peak_bytes / 1e6,
        }
        rows.append(row)
    if form == "table":
        rows = [{**row, "madds_m": f"{row['madds_m']:.1f}", "params_m": f"{row['params_m']:.2f}"} for row in rows]
    show("published networks", rows, form, shown=("name", "widths", "madds_m", "params_m"), types=_LIST_TYPES, out=out)


def _blocks(arch: Architecture) -> list[dict[str, Any]]:
    rows = []
    for name, key in named_keys(arch).items():
        cost = unit_cost(key)
        rows.append(
            {
                "unit": name,
                "block": str(key),
                "output": "x".join(map(str, out_shape(key))),
                "madds": cost.madds,
                "params": cost.params,
                "params_without_batch_norm": cost.params_without_batch_norm,
                "peak_bytes": cost.peak_bytes,
            }
        )
    return rows


def show_architecture(
    what: str,
    width: float | None,
    resolution: int | None,
    rounding: Rounding | None,
    form: ShowFormat,
    out: Path | None,
) -> None:
    """The command `arch show`."""
    arch = published_or_read(what, width=width, resolution=resolution, rounding=rounding)
    cost = cost_of(arch)
    if form == "table":
        if out is not None:
            raise RunError(f"--format table cannot be written to {out}; choose another --format")
        _show_table(what, arch, cost)
        return
    if form == "json":
        content = {
            "arch_id": arch.arch_id,
            "architecture": json.loads(arch.to_json()),
            "madds": cost.madds,
            "params": cost.params,
            "params_without_batch_norm": cost.params_without_batch_norm,
            "peak_bytes": cost.peak_bytes,
            "units": _blocks(arch),
        }
        _hand_out(json.dumps(content, indent=1, ensure_ascii=False) + "\n", out)
        return
    name: FormatName = form
    _hand_out(write_spec(arch, name), out)


def _show_table(what: str, arch: Architecture, cost: Cost) -> None:
    size = f"{arch.in_channels} x {arch.resolution} x {arch.resolution} px, {arch.num_classes} classes"
    rows = [
        {
            "block": row["block"],
            "madds_m": f"{row['madds'] / 1e6:.2f}",
            "params_k": f"{row['params'] / 1e3:.1f}",
            "peak_kb": f"{row['peak_bytes'] / 1e3:.0f}",
        }
        for row in _blocks(arch)
    ]
    say(f"{what} ({arch.arch_id}): {size}")
    show("units", rows, "table", shown=tuple(rows[0]), types={}, out=None)
    say(
        f"{cost.madds:,} multiply-adds; {cost.params:,} parameters ({cost.params_without_batch_norm:,} without "
        f"BatchNorm); {cost.peak_bytes / 1e6:.2f} MB of activations at their peak (float32)"
    )


def import_architecture(path: Path, resolution: int | None, out: Path | None) -> None:
    """The command `arch import`."""
    arch = read_spec_file(path, resolution=resolution)
    _hand_out(arch.to_json() + "\n", out)
    if out is not None:
        say(f"architecture {arch.arch_id} is in {out}")


def schema_text() -> str:
    """The JSON Schema of a spec, as `arch schema` prints it."""
    return json.dumps(json_schema(), indent=1) + "\n"


def space_named(name: str, width: float, resolution: int | None, in_channels: int, classes: int) -> SearchSpace:
    """A shipped space or a YAML file's; without a resolution, at its reference's."""
    preset = load_preset(name)
    return SearchSpace(
        preset=preset,
        width=width,
        resolution=resolution or REFERENCES[preset.reference].resolution,
        in_channels=in_channels,
        num_classes=classes,
    )


def list_spaces(form: Format, out: Path | None) -> None:
    """The command `space list`."""
    rows = []
    for name in preset_names():
        space = space_named(name, 1.0, None, 3, 1000)
        rows.append(
            {
                "name": name,
                "reference": space.preset.reference,
                "stages": len(space.preset.stages),
                "members": scientific(space.size),
                "blocks": len(space.reachable_keys()),
            }
        )
    types: dict[str, type] = {"name": str, "reference": str, "stages": int, "members": str, "blocks": int}
    show("search spaces", rows, form, shown=("name", "stages", "members", "blocks"), types=types, out=out)


def _choices(values: Sequence[object]) -> str:
    def word(value: object) -> str:
        return f"{value:g}" if isinstance(value, float) else str(value).lower()

    return " ".join(map(word, values))


def _stages(space: SearchSpace) -> list[dict[str, Any]]:
    return [
        {
            "stage": number,
            "input_px": space.stage_resolutions[number - 1],
            "stride": stage.stride,
            "widths": _choices(stage.widths(space.width)),
            "depth": _choices(stage.depth),
            "kernel": _choices(stage.kernel),
            "expansion": _choices(stage.expansion),
            "se": _choices(stage.se),
            "activation": _choices(stage.activation),
            "blocks": stage.blocks,
        }
        for number, stage in enumerate(space.preset.stages, start=1)
    ]


def show_space(
    name: str, width: float, resolution: int | None, in_channels: int, classes: int, form: Format, out: Path | None
) -> None:
    """The command `space show`, and with only the summary `space check`."""
    space = space_named(name, width, resolution, in_channels, classes)
    rows = _stages(space)
    shown = ("stage", "input_px", "widths", "depth", "kernel", "expansion", "se", "activation")
    types = {name: int if name in {"stage", "input_px", "stride"} else str for name in rows[0]}
    show(f"stages of {space.preset.name}", rows, form, shown=shown, types=types, out=out)
    if form == "table":
        _tell_summary(space)


def _tell_summary(space: SearchSpace) -> None:
    import numpy as np

    from space.encoding import Encoding

    encoding = Encoding(space)
    costs = encoding.cost(encoding.sample(_SAMPLED, np.random.default_rng(0)))
    low, middle, high = np.quantile(costs.madds / 1e6, (0.01, 0.5, 0.99))
    least, typical, most = np.quantile(costs.params / 1e6, (0.01, 0.5, 0.99))
    free = [str(number) for number, stage in enumerate(space.preset.stages, start=1) if stage.blocks == "free"]
    if free:
        say(f"in stages {', '.join(free)} each block chooses its own kernel, expansion, se and activation")
    say(f"{space.size:,} networks of {len(space.reachable_keys()):,} blocks at {space.resolution} px")
    say(
        f"98% of them have {low:.1f} to {high:.1f} M multiply-adds (median {middle:.1f}) and {least:.2f} to "
        f"{most:.2f} M parameters (median {typical:.2f})"
    )
    reason = space.why_not(space.reference)
    member = "is one of its networks" if reason is None else f"is not one of its networks: {reason}"
    say(f"its reference {space.preset.reference} {member}")


def check_space(name: str, width: float, resolution: int | None, in_channels: int, classes: int) -> None:
    """The command `space check`."""
    space = space_named(name, width, resolution, in_channels, classes)
    say(f"space '{space.preset.name}' is valid")
    _tell_summary(space)


def has(name: str, what: str, width: float) -> None:
    """The command `space has`: whether a space holds an architecture, why not, and what comes closest."""
    from space.variation import nearest

    arch = published_or_read(what)
    space = SearchSpace(
        preset=load_preset(name),
        width=width,
        resolution=arch.resolution,
        in_channels=arch.in_channels,
        num_classes=arch.num_classes,
    )
    reason = space.why_not(arch)
    if reason is None:
        say(f"yes: {what} is in space '{space.preset.name}'")
        return
    say(f"no: {reason}")
    if len(arch.stages) == len(space.preset.stages):
        closest = nearest(space, arch)
        say(f"the nearest network in it is {closest.arch_id}:")
        typer.echo(closest.to_json())
