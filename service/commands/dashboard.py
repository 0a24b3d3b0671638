"""The command `dashboard`: optuna-dashboard over the record, for reading alone."""

import json
from collections.abc import Callable, Iterable
from contextlib import closing
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from search.record.store import Store
from search.reports.optuna_views import dashboard_app
from service.terminal.console import say
from space.errors import RunError

LOOPBACK = ("127.0.0.1", "localhost", "::1")

Environ = dict[str, Any]
Start = Callable[..., Any]
Application = Callable[[Environ, Start], Iterable[bytes]]


class ReadOnlyApplication:
    """Lets requests that read through to an application, and refuses all others.

    With `hosts`, requests that a browser addressed to another name are refused, too: else a page of anybody whose
    name leads to this machine could read the record through it (DNS rebinding).
    """

    def __init__(self, inner: Application, hosts: tuple[str, ...] | None = None) -> None:
        self._inner, self._hosts = inner, hosts

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """Answer a request."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _refused(
                start, "405 Method Not Allowed", "the dashboard is read-only; use the commands of mobilenas"
            )
        host = environ.get("HTTP_HOST", "").rpartition(":")[0].strip("[]") or environ.get("HTTP_HOST", "")
        if self._hosts is not None and host not in self._hosts:
            return _refused(start, "403 Forbidden", "the dashboard answers at the address that it printed")
        return self._inner(environ, start)


def _refused(start: Start, status: str, reason: str) -> Iterable[bytes]:
    content = json.dumps({"reason": reason}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
    start(status, [*headers, ("Allow", "GET, HEAD")] if status.startswith("405") else headers)
    return [content]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """Prints no line for each request."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


def server_for(application: Application, host: str, port: int) -> WSGIServer:
    """A server that listens, and serves once it is told to.

    Raises:
        RunError: the address cannot be listened on.
    """
    hosts = LOOPBACK if host in LOOPBACK else None
    try:
        return make_server(host, port, ReadOnlyApplication(application, hosts), _Server, _Quiet)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"cannot listen on {host}:{port}: {reason}; choose another --host or --port") from error


def dashboard(database: str, name: str | None, host: str, port: int) -> None:
    """The command `dashboard`: serve until Ctrl-C."""
    with closing(Store.open(database)) as store, server_for(dashboard_app(store, name), host, port) as server:
        if host not in LOOPBACK:
            say(f"Warning: anyone who can reach {host} may read what the dashboard shows; it asks for no password.")
        say(f"dashboard: http://{host}:{server.server_port}/dashboard (Ctrl-C ends it; it cannot change the record)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
