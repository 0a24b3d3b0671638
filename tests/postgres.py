"""A real PostgreSQL server of the tests' own: in a temporary folder, on a free port, gone at the end."""

import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

from sqlalchemy import create_engine, text

from tests.ports import free_port


def postgres_programs() -> Path | None:
    """Where the server's programs are: on the PATH, or where Debian puts its newest version."""
    if found := shutil.which("pg_ctl"):
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


class PostgresServer:
    """One server; it can be stopped and started again, and makes blank databases."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="mobilenas-postgres-"))
        self._data = self._folder / "data"
        # The server refuses to run as root.
        self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.getuid() == 0 else []
        if self._as_user:
            shutil.chown(self._folder, "postgres", "postgres")
        self._run("initdb", "-E", "UTF8", "--locale=C.UTF-8", "-A", "trust", "-U", "tester", "-D", str(self._data))
        # Nothing here outlives a power cut.
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write("fsync = off\nfull_page_writes = off\nmax_connections = 200\n")
        self.port = free_port()
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        subprocess.run(
            [*self._as_user, str(self._programs / program), *arguments],
            check=True,
            capture_output=program != "pg_ctl",  # the server would keep the pipe open
            stdout=None if program != "pg_ctl" else subprocess.DEVNULL,
            cwd="/",
            timeout=1200,
            env=environment,
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-h 127.0.0.1 -p {self.port} -k {self._folder}"
        log = str(self._folder / "log")
        self._run("pg_ctl", "-w", "-t", "600", "-D", str(self._data), "-l", log, "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: "fast" cuts connections off, "immediate" is a crash."""
        self._run("pg_ctl", "-w", "-t", "600", "-D", str(self._data), "-m", mode, "stop")

    def remove(self) -> None:
        """Stop it for good, and leave nothing behind."""
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self._folder)

    def url(self, database: str, user: str = "tester") -> str:
        """The URL of a database as a user would write it."""
        return f"postgresql+psycopg://{user}@127.0.0.1:{self.port}/{database}"

    def blank(self) -> str:
        """The URL of a new, blank database."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self._administer(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Drop a database that `blank` made, whoever is still connected."""
        self._administer(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def _administer(self, statement: str) -> None:
        url = self.url("postgres")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.execute(text(statement))
        finally:
            engine.dispose()
