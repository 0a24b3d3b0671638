"""The dashboard: it answers over HTTP from the record, and refuses whatever would change something."""

import json
import re
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from search.record.store import Store
from search.reports.optuna_views import dashboard_app
from service.commands import dashboard as command
from service.commands.dashboard import ReadOnlyApplication, server_for
from space.errors import RunError
from tests.search.realistic import Teller

pytest.importorskip("optuna_dashboard", reason="OPTUNA-DASHBOARD MISSING: pip install 'mobilenas[dashboard]'")

Ask = Callable[..., tuple[int, bytes]]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A record with one search."""
    path = tmp_path / "record.db"
    with closing(Store.open(f"sqlite:///{path}")) as store:
        Teller(store, "one", tmp_path, seed=0).blocks(5)
    return path


@pytest.fixture
def ask(database: Path) -> Iterator[Ask]:
    """Asks the served dashboard over HTTP, for the status and the content."""
    with (
        closing(Store.open(f"sqlite:///{database}")) as store,
        server_for(dashboard_app(store), "127.0.0.1", 0) as server,
    ):
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def asked(method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, bytes]:
            connection = HTTPConnection("127.0.0.1", server.server_port, timeout=1200)
            with closing(connection):
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                return response.status, response.read()

        yield asked
        server.shutdown()
        thread.join()


def contents(database: Path) -> list[str]:
    """All that the record holds, as SQL."""
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


def test_studies_and_trials_are_served(ask: Ask) -> None:
    """The list, a study with its trials, the importance, the CSV file and the page itself."""
    status, content = ask("GET", "/api/studies")
    studies = json.loads(content)["study_summaries"]
    assert status == 200
    assert [study["study_name"] for study in studies] == ["one", "one (top-1 and latency)"]
    study_id = studies[0]["study_id"]
    found = json.loads(ask("GET", f"/api/studies/{study_id}")[1])
    assert [trial["number"] for trial in found["trials"] if trial["state"] == "Complete"]
    assert found["objective_names"] == ["reward"]
    assert found["intersection_search_space"], "parameters that all trials have can be plotted"
    assert ask("GET", f"/api/studies/{study_id}/param_importances")[0] == 200
    assert ask("GET", f"/csv/{study_id}")[1].startswith(b"Number,State,")
    assert b"bundle.js" in ask("GET", "/dashboard")[1]


def test_page_loads_nothing_from_elsewhere(ask: Ask) -> None:
    """The page names only files of its own, so that it works offline."""
    page = ask("GET", "/dashboard")[1].decode()
    assert re.findall(r'(?:src|href)="([^"]+)"', page) == ["/static/bundle.js"]
    assert ask("GET", "/static/bundle.js")[0] == 200


def routes(store: Store) -> list[tuple[str, str]]:
    """All methods and paths of optuna-dashboard but those that read, with numbers for their parts."""
    found = [(route.method, route.rule) for route in dashboard_app(store).routes if route.method not in ("GET", "HEAD")]
    return [(method, re.sub(r"<[^>]*>", "2", rule)) for method, rule in found]


def test_every_way_to_write_is_refused(ask: Ask, database: Path) -> None:
    """Each of its routes that is no GET: 405 before the dashboard hears of it, and the record stays as it was."""
    before = contents(database)
    with closing(Store.open(f"sqlite:///{database}")) as store:
        writing = routes(store)
    assert ("DELETE", "/api/studies/2") in writing
    assert len(writing) > 10
    for method, path in [*writing, ("PATCH", "/api/studies"), ("OPTIONS", "/"), ("TRACE", "/")]:
        status, content = ask(method, path, body='{"study_name": "x", "directions": ["minimize"]}')
        assert status == 405, (method, path)
        assert b"read-only" in content
    assert contents(database) == before


def test_other_names_for_this_machine_are_refused(ask: Ask) -> None:
    """A page of somebody else whose name leads here cannot read the record; the addresses of this machine can."""
    for host, status in (
        ("evil.example", 403),
        ("evil.example:8080", 403),
        ("", 403),
        ("localhost:1", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
    ):
        assert ask("GET", "/api/studies", Host=host)[0] == status, host


def test_where_it_is_served_to_others_names_are_theirs() -> None:
    """Bound to another address, any name is accepted, and writing is still refused."""
    heard: list[str] = []

    def inner(environ: dict[str, Any], _start: Callable[..., Any]) -> list[bytes]:
        heard.append(environ["HTTP_HOST"])
        return [b"ok"]

    application = ReadOnlyApplication(inner)
    assert application({"REQUEST_METHOD": "GET", "HTTP_HOST": "lab:1"}, lambda *_: None) == [b"ok"]
    refused: list[str] = []
    application({"REQUEST_METHOD": "PUT", "HTTP_HOST": "lab:1"}, lambda status, _headers: refused.append(status))
    assert heard == ["lab:1"]
    assert refused == ["405 Method Not Allowed"]


def test_port_that_is_taken_is_named() -> None:
    """One line with the address and what to do."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=f"cannot listen on 127.0.0.1:{port}.*--port"):
            server_for(lambda _environ, _start: [], "127.0.0.1", port)
    with pytest.raises(RunError, match=r"no\.such\.host\.invalid"):
        server_for(lambda _environ, _start: [], "no.such.host.invalid", 0)


def test_command_serves_until_it_is_interrupted(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says where, and that others may read where it is bound to more than this machine; Ctrl-C ends it."""

    def interrupted(_server: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("service.commands.dashboard._Server.serve_forever", interrupted)
    command.dashboard(f"sqlite:///{database}", "one", "127.0.0.1", 0)
    told = capsys.readouterr().out
    assert re.search(r"http://127\.0\.0\.1:[0-9]+/dashboard", told)
    assert "Warning" not in told
    command.dashboard(f"sqlite:///{database}", None, "0.0.0.0", 0)  # noqa: S104 - what a user may ask for
    assert "asks for no password" in capsys.readouterr().out
