"""The commands of `mobilenas latency` that look at tables: validate, profile, compare."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from latency.analysis.agreement import agreement
from latency.analysis.compare import Comparison, advice
from latency.analysis.compare import compare as compare_tables
from latency.analysis.profile import Profile, profile_file
from latency.analysis.profile import profile as profile_network
from latency.analysis.validate import Validation, draw_networks, naive_sums
from latency.analysis.validate import validate as validate_table
from latency.meter import DeviceSettings
from search.plan import available_cores
from search.record.store import Store
from search.tables import settings_for
from service.commands.latency.tables import KIT_HINT, Wanted, default_device, meter_of, newest, tables_of
from service.report import validation_figures
from service.terminal.console import console, say
from service.terminal.logs import telling
from service.terminal.rows import show
from space.errors import DeviceError, InvalidConfig, InvalidTable
from space.formats import published_or_read
from space.keys import keys_of

# It ends when its parent does, however that ends.
_BUSY = (
    "import os, numpy; parent = os.getppid(); a = numpy.random.rand(300, 300); b = numpy.random.rand(2_000_000)\n"
    "while os.getppid() == parent: a @ a; b = b[::-1].copy()"
)


@contextmanager
def busy_neighbours(count: int) -> Iterator[None]:
    """So many processes that compute and move memory, until the end of the context."""
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    running = [
        subprocess.Popen([sys.executable, "-c", _BUSY], env=environment, start_new_session=True) for _ in range(count)
    ]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


@contextmanager
def _load(wanted: bool, settings: DeviceSettings) -> Iterator[None]:
    if not wanted:
        yield
        return
    if not settings.is_local:
        raise DeviceError(
            f"--with-load starts processes on this machine, and '{settings.name}' is another; leave it out"
        )
    with busy_neighbours(len(available_cores())):
        yield


def validate(
    database: str,
    device: str | None,
    wanted: Wanted,
    *,
    networks: int,
    near_target_ms: float | None,
    with_load: bool,
    baselines: bool,
    seed: int,
    form: Literal["table", "json"],
    plot: Path | None,
) -> None:
    """The command `validate`."""
    quiet = form == "json"
    with closing(Store.open(database)) as store:
        tables = tables_of(store, device, wanted)
        device = tables.settings.name
        known = tables.newest()
        if known is None:
            raise InvalidTable(
                f"'{device}' has no latency table of this space for its present state (fingerprint); "
                f"measure it first: mobilenas latency collect --device {device}"
            )
        table_id, table = known
        if tables.settings.is_kit:
            if near_target_ms is not None or with_load or baselines:
                raise DeviceError(
                    f"'{device}' is reached by kit: its table is validated on the networks that the kit held out; "
                    "leave --near-target, --with-load and --baselines out"
                )
            recorded = store.devices.validations(table_id)
            if not recorded:
                raise DeviceError(f"latency table {table_id} of '{device}' came without held-out networks; {KIT_HINT}")
            say("validated on the networks that its kit had held out", quiet=quiet)
            _print_validation(recorded[-1].validation, {}, table_id, recorded[-1].id, form)
            _plot(recorded[-1].validation, plot, device, recorded[-1].id, quiet=quiet)
            return
        meter = meter_of(tables.settings, "be validated")
        drawn = draw_networks(table, tables.space, networks, near_target_ms=near_target_ms, seed=seed)
        with telling(quiet=quiet) as listener, _load(with_load, tables.settings):
            listener.begin(f"measuring {len(drawn)} networks on '{device}'", 1)
            progress: Callable[[int, int, str], None] = lambda done, total, _what: listener.advance(done, total)  # noqa: E731
            validation, conditions = validate_table(
                table, drawn, meter, tables.protocol, under_load=with_load, progress=progress
            )
            sums = naive_sums([network.architecture for network in validation.networks], meter) if baselines else {}
            listener.end()
        validation_id = store.devices.add_validation(table_id, validation, conditions)
    beside = {"multiply-adds": asdict(validation.madds_as_proxy())}
    if sums:
        naive = np.array([sums[network.architecture] for network in validation.networks])
        measured = np.array([network.measured_wall_ms for network in validation.networks])
        beside["naive table"] = asdict(agreement(naive, measured))
    _print_validation(validation, beside, table_id, validation_id, form)
    _plot(validation, plot, device, validation_id, quiet=quiet)


_FIGURES = ("networks", "mape", "bias", "within_5", "within_10", "kendall_tau", "spearman")


def _print_validation(
    validation: Validation,
    baselines: Mapping[str, Mapping[str, float]],
    table_id: int,
    validation_id: int,
    form: Literal["table", "json"],
) -> None:
    if form == "json":
        content = {"table": table_id, "validation": validation_id, **validation.to_plain(), "baselines": baselines}
        print(json.dumps(content, indent=2))  # noqa: T201 - it is for a program
        return
    rows: list[dict[str, Any]] = []

    def add(what: str, clock: str, figures: Mapping[str, float | None]) -> None:
        known = {name: math.nan if value is None else value for name, value in figures.items()}
        figures = known
        percent = {name: f"{figures[name]:.1%}" for name in ("mape", "within_5", "within_10")}
        ranks = {name: f"{figures[name]:.3f}" for name in ("kendall_tau", "spearman")}
        bias = f"{figures['bias']:+.1%}"
        rows.append({"what": what, "clock": clock, "networks": figures["networks"], "bias": bias, **percent, **ranks})

    plain = validation.to_plain()
    for clock in ("wall", "cpu"):
        add("all", clock, plain[clock])
        for group, figures in plain[clock]["groups"].items():
            add(f"  {group}", clock, figures)
        add("  all, drift not corrected", clock, plain[clock]["as_measured"])
    for name, figures in baselines.items():
        add(f"instead: {name}", "wall", figures)
    shown = ("what", "clock", "networks", "mape", "bias", "within_5", "within_10", "kendall_tau", "spearman")
    show(f"validation {validation_id} of latency table {table_id}", rows, "table", shown=shown, types={})
    say(
        f"the device has drifted since the table was measured: known blocks, measured beside the networks, took "
        f"{validation.drift_wall - 1:+.1%} wall time and "
        f"{validation.drift_cpu - 1:+.1%} CPU time; the figures above are corrected for that"
    )


def _plot(validation: Validation, plot: Path | None, device: str, validation_id: int, *, quiet: bool) -> None:
    path = plot or Path(f"validation-{validation_id}.html")
    validation_figures.predicted_against_measured(validation, f"{device}: predicted and measured", path)
    say(f"plot: {path}", quiet=quiet)


def profile(
    database: str, what: str, device: str, shape: str | None, form: Literal["table", "json"], plot: Path | None
) -> None:
    """The command `profile`."""
    with closing(Store.open(database)) as store:
        settings = settings_for(store, default_device(device))
        if what.lower().endswith(".onnx"):
            if not settings.is_local:
                raise DeviceError(f"ONNX files are measured only on this machine; '{device}' is another")
            with console.status(f"measuring {what}"):
                found = profile_file(Path(what), settings.runtime, _shape(shape))
        else:
            if shape is not None:
                raise InvalidConfig("--shape is for ONNX files; a spec has its own resolution, so leave it out")
            arch = published_or_read(what)
            meter = meter_of(settings, "profile")
            tables = store.tables.of(meter.device)
            with telling(quiet=form == "json") as listener:
                listener.begin(f"measuring {what} and its blocks on '{device}'", 1)
                table = next((each for _, each in tables if not each.missing(keys_of(arch))), None)
                found = profile_network(arch, meter, table, lambda done, total, _what: listener.advance(done, total))
                listener.end()
    _print_profile(what, found, form)
    if found.blocks and plot is not None:
        validation_figures.shares(found, what, plot)
        say(f"plot: {plot}", quiet=form == "json")


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    sides = text.split("x")
    if not all(re.fullmatch("[0-9]{1,5}", side) and 0 < int(side) <= 10_000 for side in sides):
        raise InvalidConfig(f"--shape {text[:100]!r} is not a shape such as 1x3x48x192")
    return tuple(map(int, sides))


def _print_profile(what: str, found: Profile, form: Literal["table", "json"]) -> None:
    rows = [
        {
            "block": block.name,
            "key": str(block.key),
            "ms": block.ms,
            "share": block.ms / found.whole_ms,
            "madds": block.madds,
        }
        for block in found.blocks
    ]
    whole = {"whole_ms": found.whole_ms, "low_ms": found.low_ms, "high_ms": found.high_ms, "median_ms": found.median_ms}
    if form == "json":
        print(json.dumps({"network": what, **whole, "rest_ms": found.rest_ms, "blocks": rows}, indent=2))  # noqa: T201
        return
    if rows:
        told = [
            {
                "block": block.name,
                "key": str(block.key),
                "ms": block.ms,
                "share": f"{block.ms / found.whole_ms:.1%}",
                "madds_m": f"{block.madds / 1e6:.2f}",
            }
            for block in found.blocks
        ]
        show(what, told, "table", shown=("block", "key", "ms", "share", "madds_m"), types={})
        say(f"outside any block: {found.rest_ms:.4f} ms ({found.rest_ms / found.whole_ms:.1%})")
    say(
        f"{what}: {found.whole_ms:.4f} ms measured whole (95% interval {found.low_ms:.4f} to {found.high_ms:.4f}), "
        f"median {found.median_ms:.4f} ms"
    )


def compare(database: str, devices: tuple[str, str], wanted: Wanted, form: Literal["table", "json"]) -> None:
    """The command `compare`."""
    with closing(Store.open(database)) as store:
        chosen = [tables_of(store, name, wanted) for name in devices]
        (first_id, first), (second_id, second) = map(newest, chosen)
        space = chosen[0].space
    found = compare_tables(first, second, space)
    lines = advice(found, devices)
    if form == "json":
        plain = asdict(found)
        for row, each in zip(plain["transfers"], found.transfers, strict=True):
            row["overhead"] = each.overhead
        for row, cost in zip(plain["options"], found.options, strict=True):
            row["is_unusual"] = cost.is_unusual
        print(json.dumps({"tables": [first_id, second_id], **plain, "advice": lines}, indent=2))  # noqa: T201
        return
    _print_comparison(found, devices)
    for line in lines:
        say(line)


def _print_comparison(found: Comparison, devices: tuple[str, str]) -> None:
    one, other = devices
    say(
        f"over {found.networks:,} networks: Kendall's tau {found.kendall_tau:.3f}, Spearman {found.spearman:.3f}; "
        f"on average a network moves by {found.moved:.1%} of all ranks; the median network takes {found.ratio:.2f} "
        f"times as long on '{other}'"
    )
    rows = [
        {
            f"target on {one}": f"{each.target_ms:.3f} ms",
            "network chosen for it": f"{each.chosen_ms:.3f} ms",
            f"the same on {other}": f"{each.on_other_ms:.3f} ms",
            f"network chosen for {other}": f"{each.best_ms:.3f} ms",
            "slower by": f"{each.overhead:+.1%}",
        }
        for each in found.transfers
    ]
    show(f"networks chosen for {one}, measured by the table of {other}", rows, "table", shown=list(rows[0]), types={})
    options = [
        {"option": cost.option, one: f"{cost.first:.2f}x", other: f"{cost.second:.2f}x", "pairs": cost.pairs}
        for cost in found.options
    ]
    if options:
        show(
            "time of a block with the option, relative to the same block without it",
            options,
            "table",
            shown=list(options[0]),
            types={},
        )
