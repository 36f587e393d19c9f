"""A copy of the store in PostgreSQL: our own tables as COPY writes them, in one consistent look, packed with gzip.

The first line says what it is; before each table's rows one line names it; the last line counts them and bears a
digest of all before it, so that a copy that was cut short or changed is not restored. Who is connected, and what
waits for an answer, is not in it: that is of its moment alone.
"""

import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg import sql

from gpuwarden.aggregator.postgres import Connection, connected, unavailable
from gpuwarden.aggregator.store_postgres_schema import SCRIPTS
from gpuwarden.errors import Refused, Unavailable

WHAT = "gpuwarden aggregator, PostgreSQL"
KEPT = (
    *("epoch", "reign", "node", "state", "log", "event", "incident", "permit", "token"),
    *(
        "certificate",
        "orders",
        "audit",
        "policy",
        "denial",
        "oncall",
        "page",
        "document",
        "service_window",
        "prediction",
        "review",
        "review_label",
    ),
)
PASSING = ("presence", "aggregator", "refusal", "authority")
END_OF_ROWS = b"\\.\n"
LINE_MAX_BYTES = 64 * 2**20


def dump(url: str, path: Path) -> dict[str, int]:
    """Write a copy to a file that is not there yet; how many rows of each table. ``Unavailable`` when either side
    fails: then there is no file."""
    part = path.with_name(f"{path.name}.part")
    try:
        if path.exists():
            raise Unavailable(f"{path}: is there already")
        with connected(url, "backup") as db, open(part, "xb", opener=_private) as out:
            db.execute("SET statement_timeout = 0")
            with db.transaction():
                db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                counts = _write(db, out)
            out.flush()
            os.fsync(out.fileno())
        part.rename(path)
    except psycopg.Error as error:
        raise unavailable(error) from error
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return counts


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write(db: Connection, out: IO[bytes]) -> dict[str, int]:
    digest, counts = hashlib.sha256(), dict[str, int]()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1, mtime=0) as packed:

        def say(data: bytes) -> None:
            digest.update(data)
            packed.write(data)

        say(_line({"what": WHAT, "schema": schema_of(db), "stream": _last_stream(db)}))
        for table in KEPT:
            columns = _columns(db, table)
            if not columns:
                continue  # of a later schema
            say(_line({"table": table, "columns": columns}))
            counts[table] = 0
            with db.cursor().copy(_copy(table, columns, "TO STDOUT")) as rows:
                for block in rows:
                    data = bytes(block)
                    counts[table] += data.count(b"\n")
                    say(data)
            say(END_OF_ROWS)
        packed.write(_line({"rows": counts, "sha256": digest.hexdigest()}))
    return counts


def _line(said: dict[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"


def schema_of(db: Connection) -> int:
    """0 where there is none yet."""
    row = db.execute("SELECT to_regclass('schema_version')").fetchone()
    if row is None or row[0] is None:
        return 0
    row = db.execute("SELECT max(version) FROM schema_version").fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def _last_stream(db: Connection) -> int:
    row = db.execute("SELECT to_regclass('stream')").fetchone()
    if row is None or row[0] is None:
        return 0
    row = db.execute("SELECT last_value FROM stream").fetchone()
    return int(row[0]) if row else 0


def _columns(db: Connection, table: str) -> list[str]:
    found = db.execute(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = current_schema() AND table_name = %s ORDER BY ordinal_position",
        (table,),
    )
    return [name for (name,) in found]


def _copy(table: str, columns: list[str], way: str) -> sql.Composed:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("COPY {} ({}) " + way).format(sql.Identifier(table), names)


def checked(path: Path) -> dict[str, int]:
    """How many rows of each table a copy holds; ``Refused`` when it is none, or is not whole."""
    digest, before, last = hashlib.sha256(), b"", b""
    try:
        for line in _lines(path):
            digest.update(before)
            before, last = line, line
        said = json.loads(last)
        counts: dict[str, int] = said["rows"]
        is_whole = said["sha256"] == digest.hexdigest()
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise Refused(
            f"{path}: no copy that `gpuwarden aggregator backup` made, or cut short"
        ) from error
    if not is_whole:
        raise Refused(f"{path}: it is not what was written: the digest differs")
    return counts


def _lines(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") as packed:
        while line := packed.readline(LINE_MAX_BYTES):
            yield line


def load(db: Connection, path: Path) -> dict[str, int]:
    """Within a transaction: our tables as the copy has them, brought up to the schema of this gpuwarden. ``Refused``
    when the copy is none of ours, of a newer gpuwarden, or the database holds a fleet already."""
    counts = checked(path)
    lines = _lines(path)
    head = json.loads(next(lines))
    if head.get("what") != WHAT:
        raise Refused(f"{path}: not a copy of a store in PostgreSQL")
    schema = int(head["schema"])
    if not 0 < schema <= len(SCRIPTS):
        raise Refused(
            f"{path}: written by a newer gpuwarden (schema {schema}, this one knows {len(SCRIPTS)}): upgrade this one"
        )
    db.execute("SET LOCAL statement_timeout = 0")
    _make_room(db)
    _build(db, SCRIPTS[:schema], 1)
    for line in lines:
        said = json.loads(line)
        if "table" in said:
            _fill(db, str(said["table"]), list(said["columns"]), lines)
    _build(db, SCRIPTS[schema:], schema + 1)
    db.execute("SELECT setval('stream', %s)", (max(1, int(head["stream"])),))
    return counts


def _make_room(db: Connection) -> None:
    """Away with what an aggregator makes at its first start; never with a fleet."""
    for table in ("node", "event", "audit"):
        if _columns(db, table) and db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
            raise Refused(
                "the database holds a fleet already: restore into an empty one (createdb), and name that in "
                "aggregator.store"
            )
    for table in (*KEPT, *PASSING, "schema_version"):
        db.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(table)))
    db.execute("DROP SEQUENCE IF EXISTS stream")


def _build(db: Connection, scripts: tuple[str, ...], first: int) -> None:
    db.execute("CREATE TABLE IF NOT EXISTS schema_version (version INT NOT NULL)")
    for number, script in enumerate(scripts, first):
        db.execute(script)
        db.execute("INSERT INTO schema_version VALUES (%s)", (number,))


def _fill(db: Connection, table: str, columns: list[str], lines: Iterator[bytes]) -> None:
    if table not in KEPT or not set(columns) <= set(_columns(db, table)):
        raise Refused(f"the copy holds a table {table[:40]} that is not known here")
    db.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
    with db.cursor().copy(_copy(table, columns, "FROM STDIN")) as rows:
        for line in lines:
            if line == END_OF_ROWS:
                return
            rows.write(line)
