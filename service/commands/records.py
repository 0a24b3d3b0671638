"""Commands that ask the record: trials, searches, devices, status, logs; and annotate, which writes into it."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from search.config.sections import RewardConfig, TargetConfig, named_or_callable, parse_target
from search.objective.reward import KINDS, Reward
from search.record.claims import Claim
from search.record.rows import LogLine, SearchRecord
from search.record.store import Store
from search.record.views import VIEWS
from search.reports.race import Rung, rungs_of
from search.reports.recorded_search import RecordedSearch
from search.trial import Judge, SearchStage, State, Trial
from service.terminal.console import console, say
from service.terminal.rows import Format, show
from service.terminal.wording import counted
from space.errors import InvalidConfig
from space.preset import load_preset

FOLLOW_S = 1.0
# A database that restarts does not end `logs -f`.
RETRY_S = 120.0

# What a person reads in a table of 80 columns; the other forms have everything.
_TRIAL_COLUMNS = ("number", "stage", "state", "origin", "top1", "latency_ms", "reward")
_SEARCH_COLUMNS = ("name", "state", "stage", "data", "device", "target_ms", "owner")
_DEVICE_COLUMNS = ("name", "processor", "threads", "runtime_version", "tables", "blocks")

_SEARCH_TYPES: dict[str, type] = {
    "name": str,
    "state": str,
    "stage": str,
    "data": str,
    "device": str,
    "owner": str,
    "labels": str,
    "note": str,
    "priority": int,
    "target_ms": float,
    "reference_ms": float,
    "created": datetime,
    "finished": datetime,
    "run_folder": str,
    "error": str,
}
_DEVICE_TYPES: dict[str, type] = {
    "name": str,
    "processor": str,
    "threads": int,
    "provider": str,
    "graph_optimization": str,
    "runtime_version": str,
    "tables": int,
    "blocks": int,
    "newest_table": datetime,
}


def trials(database: str, search: str | None, sort: str, form: Format, out: Path | None) -> None:
    """The command `trials`."""
    store = Store.open(database)
    try:
        rows = store.trials.summary_rows(None if search is None else store.searches.get(search).name, sort)
    finally:
        store.close()
    columns = _TRIAL_COLUMNS if search is not None else ("search", *_TRIAL_COLUMNS)
    show("trials", rows, form, shown=columns, types=VIEWS["trial_summary"].python_types(), out=out)
    _say_what_top1_is(rows, form, out)


def _say_what_top1_is(rows: Sequence[Mapping[str, Any]], form: Format, out: Path | None) -> None:
    """Below a table, whose columns are named as those of the record are."""
    if rows and form == "table" and out is None:
        say(
            "top1: on the reward split or in folds (balanced accuracy where data.rank_by says so), or by the search's "
            "own evaluator"
        )


_RESCORED = {
    "rank": int,
    "reward": float,
    "rank_before": int,
    "reward_before": float,
    "number": int,
    "origin": str,
    "top1": float,
    "latency_ms": float,
    "madds": int,
    "params": int,
    "arch_id": str,
}


def rescore(
    database: str,
    name: str,
    kind: str,
    exponent: float | None,
    target: str | None,
    form: Format,
    out: Path | None,
) -> None:
    """The command `rescore`: the complete block-level trials by another reward, which is computed from their scores."""
    named_or_callable(kind, KINDS)
    if exponent is not None and not -10 <= exponent <= 0:
        raise InvalidConfig(f"--exponent {exponent:g} must lie between -10 and 0")
    chosen = RewardConfig(kind=kind, exponent=exponent)
    asked = None if target is None else TargetConfig(**parse_target(target))
    store = Store.open(database)
    try:
        recorded = RecordedSearch.read(store, name)
        reward = chosen.reward(load_preset(recorded.config.space.chosen[0]).reward_exponent, str(Path.cwd()))
        start = recorded.start
        if asked is not None and asked.relative is not None and start.reference_ms is None:
            raise InvalidConfig(
                f"--target {target} is a share of the reference's latency, but '{name}' has no reference; give it in ms"
            )
        target_ms = start.seed_target_ms if asked is None else asked.in_ms(start.reference_ms)
        rows = ranked(recorded, reward, target_ms)
    finally:
        store.close()
    shown = [column for column in _RESCORED if column not in ("reward_before", "madds", "params", "arch_id")]
    show(
        f"block-level trials by their {kind} reward for a target of {target_ms:.3f} ms",
        rows,
        form,
        shown=shown,
        types=_RESCORED,
        out=out,
    )
    _say_what_top1_is(rows, form, out)


def ranked(recorded: RecordedSearch, reward: Reward, target_ms: float) -> list[dict[str, Any]]:
    """The complete block-level trials, best first by a reward, with the ranks that they had; equals by number."""
    before = recorded.store.trials.rewards(recorded.record.id)
    ranks = {
        number: rank
        for rank, number in enumerate(sorted(before, key=lambda number: (-before[number], number)), start=1)
    }
    trials = [trial for trial in recorded.trials(SearchStage.BLOCKS) if trial.state is State.COMPLETE]
    now = {trial.number: reward.of(trial.scores, target_ms) or 0.0 for trial in trials}
    ordered = sorted(trials, key=lambda trial: (-now[trial.number], trial.number))
    return [
        {
            "rank": rank,
            "reward": now[trial.number],
            "rank_before": ranks.get(trial.number),
            "reward_before": before.get(trial.number),
            "number": trial.number,
            "origin": trial.origin,
            "top1": trial.scores.top1,
            "latency_ms": trial.scores.latency_ms,
            "madds": trial.scores.madds,
            "params": trial.scores.params,
            "arch_id": trial.architecture.arch_id,
        }
        for rank, trial in enumerate(ordered, start=1)
    ]


def searches(database: str, form: Format, owner: str | None, label: str | None, out: Path | None) -> None:
    """The command `searches`."""
    store = Store.open(database)
    try:
        rows = [
            _search_row(record)
            for record in store.searches.all()
            if owner in (None, record.owner) and (label is None or label in record.labels)
        ]
    finally:
        store.close()
    show("searches", rows, form, shown=_SEARCH_COLUMNS, types=_SEARCH_TYPES, out=out)


def _search_row(record: SearchRecord) -> dict[str, Any]:
    start = record.start
    return {
        "name": record.name,
        "state": record.state,
        "stage": record.stage.value,
        "data": record.config["data"]["source"],
        "device": record.config["device"]["name"],
        "owner": record.owner,
        "labels": " ".join(record.labels),
        "note": record.note,
        "priority": record.priority,
        "target_ms": start.target_ms if start else None,
        "reference_ms": start.reference_ms if start else None,
        "created": record.created_at,
        "finished": record.finished_at,
        "run_folder": str(start.run_folder) if start else None,
        "error": record.error,
    }


def devices(database: str, form: Format, out: Path | None) -> None:
    """The command `devices`."""
    store = Store.open(database)
    try:
        rows = store.tables.device_rows()
    finally:
        store.close()
    show("devices", rows, form, shown=_DEVICE_COLUMNS, types=_DEVICE_TYPES, out=out)


def annotate(
    database: str, name: str, owner: str | None, labels: list[str] | None, note: str | None, priority: int | None
) -> None:
    """The command `annotate`."""
    store = Store.open(database)
    try:
        store.searches.annotate(store.searches.get(name).id, owner=owner, labels=labels, note=note, priority=priority)
    finally:
        store.close()


def logs(database: str, name: str, form: str, *, follow: bool) -> None:
    """The command `logs`: what a search told, and with `follow` what it goes on to tell until it ends."""
    store = Store.open(database)
    store.retry_s = RETRY_S
    try:
        last, state = 0, ""
        while True:
            record = store.searches.get(name)
            for line in store.searches.log(record.id, last):
                print(_log_text(name, line, form), flush=True)  # noqa: T201 - a log is no place for wrapping
                last = line.id
            if not follow or record.state in ("done", "failed", "stopped", SearchStage.AWAITING.value):
                break
            if record.state != state and record.state == "queued":
                console.print(
                    f"search '{name}' is waiting for a coordinator (Ctrl-C ends this command, not the search)"
                )
            state = record.state
            time.sleep(FOLLOW_S)
    except KeyboardInterrupt:
        return
    finally:
        store.close()
    if follow:
        console.print(f"search '{name}' is {record.state}{f': {record.error}' if record.error else ''}", markup=False)


def _log_text(name: str, line: LogLine, form: str) -> str:
    if form == "json":
        moment = line.at.isoformat().replace("+00:00", "Z")
        trial = {} if line.trial is None else {"trial": line.trial}
        fields = {"timestamp": moment, "level": line.level, "event": line.event, "search": name, **trial}
        return json.dumps({**fields, "message": line.message}, ensure_ascii=False)
    level = "" if line.level == "info" else f"{line.level}: "
    return f"{line.at:%Y-%m-%d %H:%M:%S}  {level}{line.message}"


def status(database: str, name: str) -> None:
    """The command `status`: where a search stands, and what to do next."""
    store = Store.open(database)
    try:
        record = store.searches.get(name)
        all_trials, rewards, steps = (
            store.trials.of(record.id),
            store.trials.rewards(record.id),
            store.trials.steps(record.id),
        )
        recorded = RecordedSearch(store, record)
        found = recorded.found if recorded.has_ended else None
        following = _following(recorded)
    finally:
        store.close()
    lines = [
        f"search    {record.name}",
        f"created   {record.created_at:%Y-%m-%d %H:%M:%S} UTC, last change {record.updated_at:%Y-%m-%d %H:%M:%S} UTC",
        f"stage     {record.stage.value}{_state_text(record)}",
    ]
    about = [f"owner {record.owner}" if record.owner else "", " ".join(record.labels), record.note or ""]
    if record.priority:
        about.append(f"priority {record.priority}")
    if any(about):
        lines.append(f"about     {', '.join(filter(None, about))}")
    if record.start:
        start = record.start
        lines.append(
            f"target    {start.target_ms:.3f} ms; "
            + ("" if start.reference_ms is None else f"the reference takes {start.reference_ms:.3f} ms, ")
            + f"the networks of the space take {start.fastest_ms:.3f} to {start.slowest_ms:.3f} ms"
        )
    lines += [
        f"{stage.value:<9} {_counts((trial.state for trial in all_trials if trial.stage is stage), record)}"
        for stage in (SearchStage.BLOCKS, SearchStage.NETADAPT, SearchStage.FINAL)
    ]
    lines += [f"race      {_rung_text(rung)}" for rung in rungs_of(record.config, all_trials)]
    if rewards:
        best = max(rewards, key=lambda number: rewards[number])
        trial = next(trial for trial in all_trials if trial.number == best)
        lines.append(f"best      block-level {_trial_text(trial, record)}, reward {rewards[best]:.4f}")
    if steps:
        lines.append(f"narrowed  {counted(len(steps), 'step')}, down to {steps[-1].latency_after_ms:.3f} ms predicted")
    if found:
        lines.append(f"found     {_trial_text(found, record)}")
    if record.error:
        lines.append(f"error     {record.error}")
    lines += following
    for line in lines:
        say(line)


def _following(recorded: RecordedSearch) -> list[str]:
    """Where the report is, and what is to be done."""
    record, name = recorded.record, recorded.record.name
    if record.stage in (SearchStage.AWAITING, SearchStage.DONE):
        report = f"report    {record.require_start().files.report}"
        certify = f"next      mobilenas certify {name}; for a device reached by kit with --import results.json"
        return [report] if record.stage is SearchStage.DONE else [report, certify]
    if record.state not in ("stopped", "failed"):
        return []
    if record.stage is SearchStage.FINAL and recorded.files.finalists_manifest.exists():
        # It imports torch, which takes seconds.
        from search.stages.race.verdict import awaiting_finalists

        if (verdict := awaiting_finalists(recorded)) is not None:
            return [f"next      {verdict.in_words()}"]
    return [f"next      mobilenas resume {name}, or mobilenas finish {name}"]


def _rung_text(rung: Rung) -> str:
    """How many networks are through, and who leads."""
    where = f"up to {rung.images:,} images" if rung.images else "by the weights of the supernet"
    told = f"{where}: {len(rung.ended)} of {rung.wanted} networks"
    if rung.running:
        told += f", {rung.running} running"
    if rung.ended and (likelihood := rung.ended[0].scores.log_likelihood) is not None:
        best = rung.ended[0]
        told += f"; trial {best.number} leads ({best.scores.latency_ms:.3f} ms, log-likelihood {likelihood:.4f})"
    return told


def _trial_text(trial: Trial, record: SearchRecord) -> str:
    """A network in short, its top-1 on each split where it was judged."""
    judged = Judge.of(record.config).of_stage(trial.stage)
    shares = [f"{(trial.correct or 0) / trial.total:.2%} (test split)"] if trial.total else []
    if trial.scores.top1 is not None:
        shares.append(f"{trial.scores.top1:.2%} ({judged})")
    races = bool((record.config.get("race") or {}).get("rungs"))  # which may have measured it
    how = "" if races else " predicted"
    return f"trial {trial.number}: top-1 {', '.join(shares)}, {trial.scores.latency_ms:.3f} ms{how}"


def _state_text(record: SearchRecord) -> str:
    if record.is_held and record.holder is not None:
        holder = Claim.parse(record.holder)
        return f", run by process {holder.pid} on {holder.host}"
    if record.state == "queued":
        return ", waiting for a coordinator"
    return "" if record.stage in (SearchStage.AWAITING, SearchStage.DONE) else f", {record.state}"


def _counts(states: Iterable[State], record: SearchRecord) -> str:
    found = list(states)
    words = {state: state.value for state in State}
    if not record.is_held:
        words[State.RUNNING] = "to be done again"
    return ", ".join(f"{count} {words[state]}" for state in State if (count := found.count(state))) or "not begun"
