"""Commands that look back: report and compare."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

from search.config.sections import parse_target
from search.groups import searches_of
from search.record.store import Store
from search.reports.answer import answer
from search.reports.history import History, front_of
from search.trial import Trial
from service.report.comparing.table import compared, print_comparison
from service.report.subject import Subject, top1_head
from service.report.written import render
from service.terminal.console import say
from service.terminal.rows import show
from service.terminal.wording import counted, milliseconds, share, states
from space.errors import InvalidConfig, RunError

_SHOWN = 5


def report(database: str, names: Sequence[str], out: Path | None, target: str | None) -> None:
    """The command `report`: one HTML file about some searches, and a summary in the terminal."""
    if repeated := [name for name in names if list(names).count(name) > 1]:
        raise InvalidConfig(f"search '{repeated[0]}' is named twice; name each search once")
    target_ms = _target_ms(target)
    with closing(Store.open(database)) as store:
        chosen = list(dict.fromkeys(record.name for name in names for record in searches_of(store, name)))
        several = len(chosen) > 1
        if target_ms is not None and not several:
            raise InvalidConfig(
                f"--target is for several searches; '{chosen[0]}' is judged by its own, so leave it out"
            )
        subjects = [
            Subject.read(store, name, f"s{number}-" if several else "") for number, name in enumerate(chosen, 1)
        ]
    path = out or Path(f"{names[0]}.html" if len(names) == 1 else f"{names[0]}-and-{len(names) - 1}-more.html")
    try:
        path.write_text(render(subjects, target_ms), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}; choose another --out") from error
    for each in subjects:
        _summarise(each, target_ms)
    say(f"report: {path}")


def _target_ms(target: str | None) -> float | None:
    if target is None:
        return None
    parsed = parse_target(target)
    if parsed.get("ms", 0) <= 0:
        raise InvalidConfig(
            f"target {target!r} is not a time, which alone several searches have in common; give one, such as 4.0ms"
        )
    return parsed["ms"]


def _summarise(subject: Subject, target_ms: float | None) -> None:
    """The terminal's summary: counts, cost, best networks, front."""
    history, start = subject.history, subject.history.record.start
    counts, minutes = states(history.counts()), f"{history.core_minutes():,.1f} core-minutes"
    say(f"{history.name}: {history.record.state}; trials: {counts}; {minutes}")
    for words in answer(history).sentences:
        say(words)
    if start is None:
        return
    limit = start.target_ms if target_ms is None else target_ms
    within = history.within(limit)
    if within:
        _networks(f"best trials within {milliseconds(limit)} ms", within[:_SHOWN], top1_head(history))
    else:
        say(f"no trained network is within {milliseconds(limit)} ms")
    front = front_of(history.compared_alike())
    if front:
        ends = [f"{milliseconds(each.scores.latency_ms)} ms with {share(each.scores.top1)}" for each in front]
        reach = " to ".join(dict.fromkeys((ends[0], ends[-1])))
        say(f"Pareto front: {counted(len(front), 'network')}, {reach} {top1_head(history)}")


def _networks(title: str, trials: Sequence[Trial], top1: str) -> None:
    rows = [
        {
            "trial": trial.number,
            "stage": trial.stage.value,
            top1: share(trial.scores.top1),
            "ms": milliseconds(trial.scores.latency_ms),
            "madds, M": f"{trial.scores.madds / 1e6:.2f}",
            "params, M": f"{trial.scores.params / 1e6:.3f}",
            "architecture": trial.architecture.arch_id,
        }
        for trial in trials
    ]
    show(title, rows, "table", shown=list(rows[0]), types={})


def compare(database: str, one: str, other: str, target: str | None, form: Literal["table", "json"]) -> None:
    """The command `compare`."""
    target_ms = _target_ms(target)
    if one == other:
        raise InvalidConfig(f"search '{one}' cannot be compared with itself; name another one")
    with closing(Store.open(database)) as store:
        histories = [History.read(store, name) for name in (one, other)]
    found = compared(histories, target_ms)
    if form == "json":
        print(json.dumps(found, indent=2, ensure_ascii=False))  # noqa: T201 - it is for a program
    else:
        print_comparison(histories, found)
