"""A private PostgreSQL cluster in a temporary folder, on a loopback port that stays its own over restarts."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.testbed.build import ensure_postgresql
from tests.testbed.processes import Process, free_port, remove_folder, temporary_folder

START_TIMEOUT_SECONDS: Final = 30
ROLE: Final = "federation"
LONE_SERVER: Final = {"max_connections": "200", "shared_buffers": "64MB", "listen_addresses": "127.0.0.1"}


class Postgres:
    """A server that keeps its data and its port until `close`."""

    def __init__(self, *, fsync: bool = False, settings: Mapping[str, str] | None = None) -> None:
        self.folder = temporary_folder("postgres")
        self._programs = ensure_postgresql().folder
        # The server refuses to run as root; the package's own user is there where the package is.
        self._user = "postgres" if os.geteuid() == 0 else None
        self._port = free_port()
        if self._user:
            shutil.chown(self.folder, self._user, self._user)
        self._make_cluster()
        durable = {"fsync": "on" if fsync else "off", "synchronous_commit": "on" if fsync else "off"}
        self._process = self._server({**LONE_SERVER, **durable, **(settings or {})})

    @property
    def url(self) -> str:
        """The address of the database that every cluster has, for SQLAlchemy with asyncpg."""
        return self._url("postgres")

    def start(self) -> None:
        """Start it on its data and wait until it serves."""
        self._process.start()
        self._process.wait_until(self._ready, START_TIMEOUT_SECONDS)

    def stop(self) -> None:
        """Stop it in good order: connections are cut, transactions that are open are rolled back."""
        self._process.stop(signal.SIGINT)

    def kill(self) -> None:
        """End it as a power cut would; its data stays as it was."""
        self._process.kill()

    def restart(self) -> None:
        """Stop it and start it on the same data and port."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop it and forget its data."""
        self.kill()
        remove_folder(self.folder)

    def create_database(self, name: str) -> str:
        """A new, empty database; answers its address for SQLAlchemy with asyncpg."""
        self.sql(f"CREATE DATABASE {identifier(name)}")
        return self._url(name)

    def drop_database(self, name: str) -> None:
        """Drop the database, whoever is connected."""
        self.sql(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)")

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement outside of any transaction; answers what psql prints, unaligned."""
        command = ["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self._port)]
        return self._run([self._programs / command[0], *command[1:], "-U", ROLE, "-d", database, "-c", statement])

    def _url(self, database: str) -> str:
        return f"postgresql+asyncpg://{ROLE}@127.0.0.1:{self._port}/{database}"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _make_cluster(self) -> None:
        how = ["-A", "trust", "-U", ROLE, "--locale=C", "--encoding=UTF8", "--no-sync", "--no-instructions"]
        self._run([self._programs / "initdb", "-D", self._data, *how])

    def _server(self, settings: Mapping[str, str]) -> Process:
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        where = ["-D", str(self._data), "-p", str(self._port), "-k", str(self.folder)]
        command = [str(self._programs / "postgres"), *where, *options]
        return Process("postgres", command, self.folder / "postgres.log", user=self._user)

    def _ready(self) -> bool:
        where = ["-h", "127.0.0.1", "-p", str(self._port), "-U", ROLE, "-d", "postgres", "-q"]
        return subprocess.run([self._programs / "pg_isready", *where], timeout=10, check=False).returncode == 0

    def _run(self, command: list[str | Path]) -> str:
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.folder,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
        )
        if result.returncode != 0:
            raise RuntimeError(f"{Path(command[0]).name} failed:\n{result.stdout[-1000:]}{result.stderr[-2000:]}")
        return result.stdout.strip()


def identifier(name: str) -> str:
    """The name, quoted; it must be one that needs no escape."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        raise ValueError(f"not a name for a database of the test bed: {name!r}")
    return f'"{name}"'
