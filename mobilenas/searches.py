"""Running searches from Python, as the commands `search` and `resume` do."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from mobilenas.record import Search
from search.config.budget import budget_hours
from search.events import Listener, Listeners
from search.groups import is_group
from search.lifecycle.creation import SearchRequest, check_sources, create, inputs_for, tell_data
from search.lifecycle.driving import RecordListener, run_claimed
from search.lifecycle.opening import check_resumable
from search.lifecycle.reach import require_table
from search.record.heartbeat import hold
from search.record.rows import SearchRecord
from search.record.store import Store
from search.trial import SearchStage
from service.commands.search import configuration
from service.report.written import write_page
from service.settings import export_cache_dir, load_settings
from space.errors import InvalidConfig


def search(
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    data: str | None = None,
    data_dir: str | Path | None = None,
    resolution: int | None = None,
    skip_damaged: bool = False,
    space: str | None = None,
    width: float | None = None,
    init: str | None = None,
    baseline: str | Path | None = None,
    baseline_labels: str | Path | None = None,
    baseline_preprocess: str | None = None,
    device: str | None = None,
    target: str | None = None,
    seed: int | None = None,
    workers: int | None = None,
    sampler: str | None = None,
    enqueue: Sequence[str] = (),
    start_from: Sequence[str] = (),
    reuse: bool = True,
    fresh: bool = False,
    html: bool = True,
    budget: str = "default",
    owner: str | None = None,
    labels: Sequence[str] = (),
    note: str | None = None,
    database: str | None = None,
    runs: str | Path | None = None,
    listener: Listener | None = None,
) -> Search:
    """Search, refine, train, measure and export a network; returns when that is done.

    `config` is a YAML file or a mapping with what differs from the default run, and each argument wins over it; they
    mean what the options of `mobilenas search` mean. `database` and `runs` are the settings' where they are not given.
    `listener` hears of every trial (`search.events.Listener`); nothing is printed.

    An interrupted search has lost nothing that was finished: see `resume`. As in any program that starts processes,
    the call belongs under `if __name__ == "__main__":`.

    Raises:
        MobilenasError: the configuration, the data, the device or the target is unfit, or nothing could be trained.
        Stopped: the device is reached by kit, which is to be run there first; the message names the commands.
    """
    export_cache_dir()
    settings = load_settings()
    run = configuration(
        config,
        name=name,
        device=device,
        data=data,
        data_dir=None if data_dir is None else Path(data_dir),
        resolution=resolution,
        skip_damaged=skip_damaged,
        space=space,
        width=width,
        init=init,
        baseline=None if baseline is None else Path(baseline),
        baseline_labels=None if baseline_labels is None else Path(baseline_labels),
        baseline_preprocess=baseline_preprocess,
        target=target,
        seed=seed,
        workers=workers,
        sampler=sampler,
        enqueue=enqueue,
        start_from=start_from,
        reuse=reuse,
        fresh=fresh,
        html=html,
    )
    if is_group(run, 1):
        raise InvalidConfig(
            "a network for each of several devices is a group of searches: start it with `mobilenas search`, or search "
            "for one device after the other"
        )
    budget_hours(budget)
    request = SearchRequest(owner=owner or settings.owner, labels=tuple(labels), note=note, budget=budget)
    told, url = listener or Listener(), database or settings.database_url
    with closing(Store.open(url)) as store:
        check_sources(store, run)
        inputs = inputs_for(store, run.with_first_device(), budget)
        require_table(store, inputs)
        tell_data(inputs, told)
        folder = settings.runs if runs is None else Path(runs)
        record = create(store, inputs, folder, told, request)
        _run(store, record, folder, told)
    return Search(record.name, url)


def resume(
    name: str, *, database: str | None = None, runs: str | Path | None = None, listener: Listener | None = None
) -> Search:
    """Go on with a search that was interrupted, failed or queued, from whichever stage it was in, to its end.

    One that is done is returned as it is.

    Raises:
        StoreError: there is no such search, or another process runs it.
        MobilenasError: as in `search`.
    """
    export_cache_dir()
    settings = load_settings()
    url = database or settings.database_url
    with closing(Store.open(url)) as store:
        record = store.searches.get(name)
        check_resumable(record)
        if record.stage is not SearchStage.DONE:
            _run(store, record, settings.runs if runs is None else Path(runs), listener or Listener())
    return Search(name, url)


def _run(store: Store, record: SearchRecord, runs: Path, listener: Listener) -> None:
    with hold(store, record.id, lambda: False) as heartbeat:
        told = Listeners(listener, RecordListener(store, record.id))
        run_claimed(store, record, runs, told, heartbeat, write_page)
