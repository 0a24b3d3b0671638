"""What `gc` frees and what it keeps."""

from pathlib import Path

import pytest

from search.archives.gc import TOP, free
from search.record.store import Store
from search.trial import SearchStage
from space.errors import RunError
from tests.search.content import fill


def write_files(store: Store, name: str) -> Path:
    """Weights as a search leaves them, ten bytes each, and a file that no trial names."""
    search = store.searches.get(name)
    folder = search.require_start().run_folder / "trials"
    folder.mkdir(parents=True)
    for trial in store.trials.of(search.id):
        if trial.weights is not None:
            (folder / f"{trial.number}.safetensors").write_bytes(bytes(10))
        if trial.stage is SearchStage.FINAL:
            (folder / f"{trial.number}.right.npy").write_bytes(bytes(10))
    (folder / "999.safetensors").write_bytes(bytes(10))
    (folder / "notes.txt").write_text("mine")
    return folder


def test_what_may_be_wanted_again_is_kept(store: Store, tmp_path: Path) -> None:
    """The best ten, finals, exports, the walk and all ancestors keep their weights; a dry run changes nothing."""
    fill(store, tmp_path / "runs")
    folder = write_files(store, "shoes-desk-2")
    search = store.searches.get("shoes-desk-2")
    trials, rewards = store.trials.of(search.id), store.trials.rewards(search.id)
    best = sorted(rewards, key=lambda number: rewards[number])[-TOP:]
    worst_kept = min(rewards[number] for number in best)
    before = {path.name for path in folder.iterdir()}
    would = free(store, search, dry_run=True)
    assert {path.name for path in folder.iterdir()} == before
    assert store.trials.of(search.id) == trials
    freed = free(store, search, dry_run=False)
    assert freed == would
    assert freed.bytes == 10 * len(freed.files)
    left = {trial.number for trial in store.trials.of(search.id) if trial.weights is not None}
    assert {path.name for path in folder.iterdir()} == {
        "notes.txt",
        *(f"{number}.safetensors" for number in left),
        *(f"{trial.number}.right.npy" for trial in trials if trial.stage is SearchStage.FINAL),
    }
    had = {trial.number: trial for trial in trials if trial.weights is not None}
    assert set(had) - left == set(freed.trials)
    for number, trial in had.items():
        is_wanted = (
            rewards.get(number, 0.0) > worst_kept
            or trial.stage is SearchStage.FINAL
            or number in {export.trial for export in store.trials.exports(search.id)}
            or number in {number for step in store.trials.steps(search.id) for number in (step.trial, step.parent)}
        )
        assert number in left or not is_wanted
        if number in left and trial.parent is not None:
            assert trial.parent in left
    assert len([number for number in left if number in rewards]) <= TOP + 1  # the walk's start may be another one
    assert freed.trials
    assert free(store, search, dry_run=False).files == ()


def test_unfinished_searches_are_left_alone(store: Store, tmp_path: Path) -> None:
    """A search that may go on needs its weights."""
    fill(store, tmp_path / "runs")
    with pytest.raises(RunError, match="'cifar-phone-2' is not done"):
        free(store, store.searches.get("cifar-phone-2"), dry_run=False)


def test_links_are_not_followed(store: Store, tmp_path: Path) -> None:
    """A link in the run folder neither frees what it points to nor goes."""
    fill(store, tmp_path / "runs")
    folder = write_files(store, "shoes-desk-1")
    precious = tmp_path / "precious"
    precious.write_text("x")
    (folder / "998.safetensors").symlink_to(precious)
    free(store, store.searches.get("shoes-desk-1"), dry_run=False)
    assert precious.read_text() == "x"
    assert (folder / "998.safetensors").is_symlink()


def test_missing_folder_is_nothing_to_free(store: Store, tmp_path: Path) -> None:
    """A search whose files are on another machine has none here, and its record forgets nothing."""
    fill(store, tmp_path / "runs")
    search = store.searches.get("shoes-desk-1")
    before = store.trials.of(search.id)
    freed = free(store, search, dry_run=False)
    assert (freed.trials, freed.files) == ((), ())
    assert store.trials.of(search.id) == before
