"""A real Postgres server for tests, in a folder of its own.

    with postgres() as server:
        server.url                      # postgresql://postgres@127.0.0.1:PORT/postgres

Debian's package postgresql has the programs, outside of the PATH. Postgres refuses to run as root, so root starts it as
the user that the package has made.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from attrs import frozen

from tests.integration.servers import free_port
from tests.patience import PATIENCE, wait_until

__all__ = ["Postgres", "postgres"]

_NO_POSTGRES = (
    "there is no Postgres; install the package postgresql, or run `make postgres` as root"
)

_USER = "postgres"


@frozen
class Postgres:
    """A running server.

    Attributes:
        url: its address, for clients.
        port: its port on 127.0.0.1.
    """

    port: int

    @property
    def url(self) -> str:
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/postgres"

    def fetch(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def active(self, text: str) -> int:
        """Return the number of queries with a text that run now."""
        [(count,)] = self.fetch(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
            " AND query LIKE %s",
            f"%{text}%",
        )
        return int(count)


def program(name: str) -> Path:
    """Return the path of a program of Postgres."""
    found = shutil.which(name)
    if found is not None:
        return Path(found)
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    versions = sorted(folders, key=lambda folder: int(folder.parent.name))
    if not versions:
        pytest.skip(_NO_POSTGRES)
    return versions[-1] / name


def _start(arguments: Sequence[object], log: Path) -> subprocess.Popen[bytes]:
    user = _USER if os.geteuid() == 0 else None
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(each) for each in arguments],
            stdout=output,
            stderr=output,
            user=user,
            cwd=log.parent,
        )


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a server. Its data are gone afterwards."""
    # Not in a folder of pytest, which no other user may read.
    folder = Path(tempfile.mkdtemp(prefix="ashtree-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, _USER)
    data, log = folder / "data", folder / "log"
    try:
        make = [
            program("initdb"),
            "--pgdata",
            data,
            "--username",
            _USER,
            "--auth=trust",
            "--no-sync",
        ]
        assert _start(make, log).wait(PATIENCE) == 0, log.read_text()
        server = Postgres(free_port())
        options = {
            "port": server.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": folder,
            "max_connections": 50,
            "fsync": "off",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        process = _start([program("postgres"), "-D", data, *settings], log)
        try:
            wait_until(lambda: _answers(server, process, log), log.read_text)
            yield server
        finally:
            # A fast shutdown, which does not wait for clients.
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
    finally:
        shutil.rmtree(folder)


def _answers(server: Postgres, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        server.fetch("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True
