"""What tests of several rooms share: a tiny search on real images, blank databases, and the command line in-process."""

import os
import sys

# Before numpy comes: tests share their cores with worker processes, and threads of linear algebra would wait for each
# other for ten times as long as they work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from space.errors import DataError
from tests.postgres import PostgresServer, postgres_programs
from tests.tiny import Result, tiny_run
from trainer.data.prepare import prepare

# Shared machines stall now and then: a deadline would test them, not us.
# A machine under load draws examples slowly, which is no fault of a test.
settings.register_profile("mobilenas", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mobilenas")


# Files whose tests take minutes, the longest first: begun last, they would be waited for by one process alone.
LONG = ("ray/test_faults.py", "search/test_whole_run.py", "commands/test_targets.py")
# Files that start clusters of Ray, a dozen processes each: two at once would wait for each other on small machines.
RAY = ("/search/ray/", "evaluation/test_executor.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; those that wait for each other stand apart, so that few have to wait."""
    paths = list(dict.fromkeys(str(item.path) for item in items))
    first = [path for name in LONG for path in paths if path.endswith(name)]
    clusters = [path for path in paths if path not in first and any(name in path for name in RAY)]
    order = [path for path in paths if path not in first and path not in clusters]
    step = len(order) // (2 * len(clusters) + 1) if clusters else 0
    for number, path in enumerate(clusters):
        # In the second half: the first file is one of a cluster, and the longest.
        order.insert(len(order) // 2 + number * (step + 1), path)
    rank = {path: at for at, path in enumerate([*first, *order])}
    items.sort(key=lambda item: rank[str(item.path)])


@pytest.fixture(scope="module", autouse=True)
def one_cluster_at_a_time(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where several processes share the tests, files that start clusters of Ray wait for each other."""
    if not any(name in str(request.path) for name in RAY):
        yield
        return
    shared = tmp_path_factory.getbasetemp()
    with FileLock((shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "ray.lock"):
        yield


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No setting of whoever runs the tests reaches them, but for the folder of data sets."""
    from service.settings import PREFIX, forget

    for name in list(os.environ):
        if name.startswith(PREFIX) and name not in ("MOBILENAS_CACHE_DIR", "MOBILENAS_COMPOSE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MOBILENAS_SETTINGS", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-settings"))
    forget()
    yield
    forget()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small train fastest on one thread, and bits are those of one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def fashion_mnist() -> None:
    """Skips a test where the real images are nowhere to be found."""
    try:
        prepare("fashion-mnist", resolution=None, data_dir=None)
    except DataError as error:
        pytest.skip(f"REAL IMAGES MISSING: {error}")


@pytest.fixture
def tiny_config(tmp_path: Path) -> Path:
    """The tiny configuration, in a folder of its own."""
    return tiny_run(tmp_path)


@pytest.fixture
def any_table_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process a table is used again however badly it predicts, as one of few rounds may on a busy machine."""
    for name in ("POOR", "USELESS"):
        monkeypatch.setattr(f"latency.collect.{name}", 100.0)


@pytest.fixture
def mobilenas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Calls the command line in this process."""

    def call(*arguments: str | Path) -> Result:
        from service.cli.app import main

        monkeypatch.setattr(sys, "argv", ["mobilenas", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server that all tests share; skips them where PostgreSQL is not installed."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("POSTGRESQL MISSING: install Debian's package postgresql, or put pg_ctl on the PATH")
    server = PostgresServer(programs)
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a blank database, once for each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'record.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.blank()
    yield url
    server.drop(url)
