"""Freeing the weights that nobody will want again; what was found out about a trial stays recorded."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from search.record.rows import SearchRecord
from search.record.store import Store
from search.trial import NetAdaptStep, SearchStage, Trial
from space.errors import RunError

TOP = 10

_FILE = re.compile(r"(\d+)\.(safetensors|checkpoint|judged|tested|right\.npy)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What one search gives up, or would: files of these trials, and how large they are."""

    search: str
    trials: tuple[int, ...]
    files: tuple[Path, ...]
    bytes: int


def kept(
    trials: Iterable[Trial], rewards: Mapping[int, float], steps: Iterable[NetAdaptStep], exported: Iterable[int]
) -> set[int]:
    """The numbers of the trials whose weights stay.

    The ten of the highest reward, final and exported ones, NetAdapt's accepted ones, and all whose weights any of
    these inherited.
    """
    by_number = {trial.number: trial for trial in trials}
    best = sorted(rewards, key=lambda number: (-rewards[number], number))[:TOP]
    waiting = [*best, *exported, *(number for step in steps for number in (step.trial, step.parent))]
    waiting += [trial.number for trial in by_number.values() if trial.stage is SearchStage.FINAL]
    found: set[int] = set()
    while waiting:
        number = waiting.pop()
        if number not in found:
            found.add(number)
            parent = by_number[number].parent
            waiting += [] if parent is None else [parent]
    return found


def free(store: Store, search: SearchRecord, *, dry_run: bool) -> Freed:
    """Free what a done search does not need; with `dry_run` only say what that would be.

    The record forgets a file before it is removed, so that it never names one that is gone; files that were left by
    an interrupted run are removed as well. Where the folder is missing, it may be on another machine, and nothing is
    forgotten.

    Raises:
        RunError: the search is not done, so its weights may be needed yet.
    """
    if search.stage is not SearchStage.DONE:
        raise RunError(f"search '{search.name}' is not done: its weights may be needed; finish it first")
    folder = search.start.files.trials if search.start else None
    if folder is None or not folder.is_dir() or folder.is_symlink():
        return Freed(search=search.name, trials=(), files=(), bytes=0)
    trials = store.trials.of(search.id)
    exported = [export.trial for export in store.trials.exports(search.id)]
    keep = kept(trials, store.trials.rewards(search.id), store.trials.steps(search.id), exported)
    numbers = tuple(trial.number for trial in trials if trial.weights is not None and trial.number not in keep)
    wanted = {Path(trial.weights).name for trial in trials if trial.weights is not None and trial.number in keep}
    files = tuple(sorted(path for path in _files(folder, keep) if path.name not in wanted))
    size = sum(file.stat().st_size for file in files)
    if not dry_run:
        store.trials.forget_weights(search.id, numbers)
        for file in files:
            file.unlink(missing_ok=True)
    return Freed(search=search.name, trials=numbers, files=files, bytes=size)


def _files(folder: Path, keep: set[int]) -> Iterable[Path]:
    """Files of trials that are not kept: by their own names, so that nothing outside the folder is ever touched."""
    for path in folder.iterdir():
        match = _FILE.fullmatch(path.name)
        if match and int(match[1]) not in keep and path.is_file() and not path.is_symlink():
            yield path
