"""A PostgreSQL of one's own with a standby that has every commit before it counts; root, for it runs as postgres."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

READY_S = 60.0


def programs() -> Path:
    """Where Debian's newest PostgreSQL has its programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name))
    return found[-1]


class Cluster:
    """One server on a socket of its own."""

    def __init__(self, folder: Path) -> None:
        self.data, self.socket = folder / "data", folder / "run"
        self.socket.mkdir()
        shutil.chown(folder, "postgres")
        shutil.chown(self.socket, "postgres")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.socket}"

    def run(self, *words: str) -> None:
        """A program of PostgreSQL, to its end."""
        subprocess.run(_as_postgres(*words), check=True, capture_output=True, timeout=READY_S)

    def start(self, *settings: str) -> None:
        """Serve, and wait until it answers."""
        words = [
            "postgres",
            "-D",
            str(self.data),
            "-k",
            str(self.socket),
            "-c",
            "listen_addresses=",
        ]
        for setting in settings:
            words += ["-c", setting]
        with (self.data.parent / "log").open("ab") as log:
            self._process = subprocess.Popen(_as_postgres(*words), stdout=log, stderr=log)
        waited = threading.Event()
        for _ in range(int(READY_S / 0.1)):
            try:
                psycopg.connect(self.url).close()
            except psycopg.OperationalError:
                waited.wait(0.1)
            else:
                return
        raise AssertionError(f"no PostgreSQL in {self.data} within {READY_S:g} s")

    def die(self) -> None:
        """At once, without a last word: as a host that loses power."""
        if self._process is not None and self._process.poll() is None:
            self.run("pg_ctl", "stop", "-D", str(self.data), "-m", "immediate")
            self._process.wait(READY_S)

    def promote(self) -> None:
        self.run("pg_ctl", "promote", "-w", "-D", str(self.data))


def _as_postgres(*words: str) -> list[str]:
    drop = ("setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups")
    return [*drop, str(programs() / words[0]), *words[1:]]


@contextmanager
def mirrored() -> Iterator[tuple[Cluster, Cluster, str]]:
    """A primary, its standby, and the address of a database at whichever of the two takes writes."""
    folder = Path(tempfile.mkdtemp(prefix="gpuwarden-mirrored-"))
    os.chmod(folder, 0o755)
    both = []
    for name in ("first", "second"):
        (folder / name).mkdir()
        both.append(Cluster(folder / name))
    first, second = both
    try:
        first.run("initdb", "--pgdata", str(first.data), "--auth", "trust", "--no-sync")
        first.start("synchronous_standby_names=*", "synchronous_commit=local")
        first.run(
            "pg_basebackup", "-h", str(first.socket), "-D", str(second.data), "-R", "-X", "stream"
        )
        second.start()
        first.die()
        first.start("synchronous_standby_names=*")
        with psycopg.connect(first.url, autocommit=True) as db:
            db.execute("CREATE DATABASE fleet")  # comes back once the standby has it
        hosts = f"{first.socket}%2C{second.socket}"
        yield (
            first,
            second,
            f"postgresql://postgres@/fleet?host={hosts}&target_session_attrs=read-write",
        )
    finally:
        for cluster in both:
            cluster.die()
        shutil.rmtree(folder)
