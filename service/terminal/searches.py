"""What a terminal shows of a search: its plan before it starts, and its result."""

import shlex

from rich.markup import escape
from rich.table import Table

from latency.meter import DeviceSettings
from latency.probe import processor_name
from search.budget import ENOUGH_EPOCHS
from search.config.load import RunConfig
from search.evaluation.data import Images
from search.executors import cluster_of
from search.plan import Inputs, Plan
from search.reports.headline import headline
from search.reports.history import History
from search.reports.markdown import comparison, spec_alone, verdict
from search.reports.recorded_search import RecordedSearch
from search.run_folder import EXPORTED, PAGE, REPORT, SPEC, SUMMARY
from search.trial import SUPERNET
from service.terminal.console import console, say
from service.terminal.rows import scientific
from trainer.data.dataset import Dataset
from trainer.data.splits import Splits, images_per_class


def print_plan(plan: Plan) -> None:
    """What will be done, and how long it should take."""
    inputs, config, speed = plan.inputs, plan.inputs.config, plan.speed
    if isinstance(inputs.data, Images):
        _print_images(inputs.data.dataset, inputs.data.splits)
        for warning in inputs.data.facts.warnings():
            say(f"data         {warning}")
    enqueued = len(config.blocks.networks(inputs.space))
    lines = [
        *_weights_lines(config),
        f"space        {inputs.space.preset.name}, width {inputs.space.width:g}, "
        f"{scientific(inputs.space.size)} networks at {inputs.space.resolution} px",
        *_device_lines(plan),
        f"target       {_target_text(plan)}",
        f"trials       {config.trials} on {_where_trials_run(inputs)}, {_per_trial(config)}",
        *([f"enqueued     {enqueued} networks to try first"] if enqueued else []),
        *_folds_lines(config),
        *_present_lines(inputs),
        *_epochs_lines(plan),
        f"expected     {plan.minutes:.1f} minutes: latency table {speed.table_minutes:.1f}, "
        f"{'race' if config.races else 'block-level search'} {plan.search_minutes:.1f}, "
        + (f"NetAdapt {plan.netadapt_minutes:.1f}, " if config.netadapt.max_steps else "")
        + f"final training {plan.final_minutes:.1f}"
        + (f", measuring {plan.measuring_minutes:.1f} " if plan.measuring_minutes else " ")
        + f"({speed.images_per_second:.0f} images/s per thread{_as_if(inputs)})"
        if plan.is_known
        else f"expected     unknown: it depends on {config.evaluator}",
        *_shorter_lines(plan),
    ]
    for line in lines:
        say(line)


def _weights_lines(config: RunConfig) -> list[str]:
    """Whose photos are few learns more from networks that have seen others: where those are to be had."""
    source, target = config.data.source, config.target
    if config.init is not None:
        return [f"weights      all networks begin with what they share with {config.init}"]
    begins = config.supernet is not None or config.netadapt.start is not None
    if not source.startswith("imagefolder:") or begins or config.own_evaluator is not None:
        return []
    wanted = f"{100 * target.relative:g}%" if target.relative is not None else f"{target.ms:g}ms"
    options = f"--data {shlex.quote(source)} --resolution {config.data.resolution} --target {wanted}"
    if config.device.name != "local":
        options += f" --device {shlex.quote(config.device.name)}"
    if config.data.skip_damaged:
        options += " --skip-damaged"
    if config.present.model is not None:
        named = {"": config.present.model, "-labels": config.present.labels, "-preprocess": config.present.preprocess}
        options += "".join(f" --baseline{name} {shlex.quote(value)}" for name, value in named.items() if value)
    return [
        "weights      all networks are trained from scratch; to begin with published weights instead: "
        f"mobilenas search --init torchvision:mobilenet_v2 {options}"
    ]


def _present_lines(inputs: Inputs) -> list[str]:
    """What is compared with beside the reference."""
    model = inputs.present
    if model is None:
        return []
    measured = "" if inputs.config.latency is not None else " and measured beside the final networks"
    return [
        f"present      {model.name}, {len(model.labels)} classes, {model.preprocess.resolution} px: tested on the test "
        f"split{measured}"
    ]


def _folds_lines(config: RunConfig) -> list[str]:
    """How few images judge."""
    if config.folds == 1:
        return []
    return [
        f"judging      each network is trained {config.folds} times, each time without a part of the images, which "
        "judges it; the final ones once more, on all"
    ]


def _epochs_lines(plan: Plan) -> list[str]:
    """What the final training buys, in passes over the training split."""
    if plan.epochs is None or not plan.is_known:
        return []
    told = f"epochs       {plan.epochs:.1f} for each final network"
    if plan.sufficient_budget is not None:
        told += (
            f"; below {ENOUGH_EPOCHS:g} good networks hardly stand out yet, "
            f"and --budget {plan.sufficient_budget} gives them as many"
        )
    return [told]


def _shorter_lines(plan: Plan) -> list[str]:
    """What takes less time, where pictures are large for this machine."""
    side = plan.lower_resolution
    if side is None:
        return []
    share = (side / plan.inputs.space.resolution) ** 2
    return [
        f"shorter      pictures of {plan.inputs.space.resolution} px take long here: those of --resolution {side} take "
        f"about {share:.0%} of it"
    ]


def _print_images(dataset: Dataset, splits: Splits) -> None:
    table = Table(title=escape(f"{dataset.name}: images per class"), title_justify="left")
    for header in ("class", "train", "reward", "test"):
        table.add_column(header, justify="left" if header == "class" else "right")
    for name, counts in images_per_class(dataset, splits).items():
        table.add_row(escape(name), *(f"{count:,}" for count in counts))
    console.print(table)


def _device_lines(plan: Plan) -> list[str]:
    inputs, config, speed = plan.inputs, plan.inputs.config, plan.speed
    if config.latency is not None:
        return [f"latency      predicted by {config.latency}; nothing is measured"]
    reach = speed.range
    return [
        f"device       {inputs.settings.name}: {where(inputs.settings)}, {inputs.settings.threads} thread(s)"
        + (f"; one network for {', '.join(config.devices)}" if len(config.devices) > 1 else ""),
        f"blocks       {speed.blocks_in_space:,} in the space, {speed.blocks_to_measure:,} to measure",
        "latencies    known once the blocks are measured"
        if reach is None
        else f"latencies    {reach.fastest_ms:.3f} to {reach.slowest_ms:.3f} ms, reference {reach.reference_ms:.3f} ms",
    ]


def _where_trials_run(inputs: Inputs) -> str:
    address, most = cluster_of(inputs.config), inputs.config.ray.max_concurrent_trials
    if address is None:
        return f"{inputs.workers} worker(s)"
    return f"the Ray cluster {address}{f', at most {most} at once' if most else ''}"


def _as_if(inputs: Inputs) -> str:
    """Nobody knows a cluster before the search joins it."""
    return "" if cluster_of(inputs.config) is None else f", assuming {inputs.workers} such threads"


def _per_trial(config: RunConfig) -> str:
    by_weights = f"each judged by the weights of {config.supernet}"
    if config.evaluator == SUPERNET:
        return by_weights
    if config.evaluator is not None:
        return f"each judged by {config.evaluator}"
    several = f" of the best {config.final.top_k} and the reference" if config.final.top_k > 1 else ""
    if config.races:
        several = f" of the best {config.final.top_k}, the scaled reference and the reference"
        first, *rungs = config.race.rungs
        later = "".join(f", the best {rung.networks} up to {rung.images:,}" for rung in rungs)
        at_first = f"{first.images:,} images each" if first.images else by_weights
        return f"{at_first}{later}; final training{several}: {config.final.images:,} images each"
    return f"{config.blocks.images:,} images each; final training{several}: {config.final.images:,} images each"


def where(settings: DeviceSettings) -> str:
    """How a device is reached, in words."""
    if settings.is_kit:
        return "reached by kit"
    return processor_name() if settings.is_local else settings.address


def _target_text(plan: Plan) -> str:
    target, factor = plan.inputs.config.target, plan.inputs.config.seed_factor
    known = f"{plan.target_ms:.3f} ms" if plan.target_ms is not None else ""
    share = f"{target.relative:.0%} of the reference's latency" if target.relative is not None else ""
    aim = f"; the block-level search aims at {factor:g} × that" if factor != 1 else ""
    return f"{known}{f' ({share})' if known and share else share}{aim}"


def print_result(recorded: RecordedSearch) -> None:
    """The comparison, the findings, and where the files are."""
    if not recorded.has_finals:
        for line in spec_alone(recorded):
            say(line)
        _say_files(recorded, SPEC)
        return
    if (answer := headline(History.read(recorded.store, recorded.record.name))) is not None:
        say(answer)
        say("")
    header, *rows = comparison(recorded)
    table = Table(title=recorded.record.name, title_justify="left")
    for title in header:
        table.add_column(escape(title))
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
    for line in verdict(recorded):
        say(f"- {line}")
    say("")
    _say_files(recorded, *EXPORTED)


def _say_files(recorded: RecordedSearch, *exported: str) -> None:
    for name in (REPORT, SUMMARY, PAGE, *exported):
        path = recorded.start.run_folder / name
        if path.exists():
            say(str(path))
