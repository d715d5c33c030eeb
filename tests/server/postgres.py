"""A PostgreSQL of the tests' own: made in a temporary folder, on a loopback port, thrown away."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests.server.running_server import PATIENCE, free_port


def _binaries() -> Path | None:
    """The folder of the server's programs; Debian keeps it out of PATH."""
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    candidates = ([Path(found).resolve().parent] if found else []) + folders
    return next(
        (f for f in candidates if (f / "initdb").exists() and (f / "pg_ctl").exists()), None
    )


@dataclass(frozen=True)
class Cluster:
    """A running PostgreSQL; `fresh_url` makes an empty database in it."""

    binaries: Path
    folder: Path
    port: int
    password: str

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://tests:{self.password}@127.0.0.1:{self.port}/{database}"

    def fresh_url(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{secrets.token_hex(6)}"
        engine = create_engine(
            self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool
        )
        with engine.connect() as connection:
            connection.execute(text(f"create database {name}"))
        return self.url(name)

    def command(self, program: str, *words: str) -> None:
        """Run one of its programs; as an unprivileged user where the tests run as root."""
        user = "nobody" if os.geteuid() == 0 else None
        log = self.folder / "programs.log"
        with log.open("ab") as output:
            # Not a pipe: the server would inherit it and keep it open.
            done = subprocess.run(
                [str(self.binaries / program), *words],
                stdout=output,
                stderr=output,
                user=user,
                group=None if user is None else pwd.getpwnam(user).pw_gid,
                extra_groups=None if user is None else [],
                cwd=self.folder,
                timeout=PATIENCE,
                check=False,
            )
        assert done.returncode == 0, log.read_text()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        settings = (
            f"-h 127.0.0.1 -p {self.port} -c unix_socket_directories='' -c max_connections=100"
        )
        self.command("pg_ctl", "-D", "data", "-w", "-l", "server.log", "-o", settings, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it; `immediate` is as if it had crashed."""
        self.command("pg_ctl", "-D", "data", "-w", "-m", mode, "stop")


@contextmanager
def running_postgres() -> Iterator[Cluster]:
    """Make a cluster, run it, and remove it; skips the test where PostgreSQL is not there."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL programs (initdb, pg_ctl); Debian's package is postgresql")
    if find_spec("psycopg") is None:
        pytest.skip("no PostgreSQL driver; install psycopg[binary]")
    # Outside of pytest's folders, which only this user may enter.
    folder = Path(tempfile.mkdtemp(prefix="statebridge-postgres-"))
    cluster = Cluster(binaries, folder, free_port(), secrets.token_hex(8))
    try:
        (folder / "password").write_text(cluster.password)
        if os.geteuid() == 0:
            account = pwd.getpwnam("nobody")
            for path in (folder, folder / "password"):
                os.chown(path, account.pw_uid, account.pw_gid)
        words = ("-U", "tests", "--auth=scram-sha-256", "--pwfile=password", "-E", "UTF8")
        cluster.command("initdb", "-D", "data", "--no-locale", "--no-sync", *words)
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop("immediate")  # nothing of it is kept
    finally:
        shutil.rmtree(folder, ignore_errors=True)
