"""A copy of the store in SQLite: a file of SQLite, made by its online backup while others write."""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from gpuwarden.errors import Refused, Unavailable

BUSY_S = 5.0
COUNTED = ("node", "event", "incident", "permit", "certificate", "orders", "audit")


def copy_of(db: sqlite3.Connection, path: Path) -> None:
    """All that is committed, in a file that is not there yet; ``Unavailable`` when it fails: then there is none."""
    part = path.with_name(f"{path.name}.part")
    try:
        if path.exists():
            raise Unavailable(f"{path}: is there already")
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(sqlite3.connect(part)) as copy:
            db.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it
        _sync(part)
        part.rename(path)
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"{path}: {error}") from error
    finally:
        with suppress(OSError):
            part.unlink()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def dump(source: Path, path: Path) -> dict[str, int]:
    """A copy of the file that an aggregator may be writing; how many rows of each table."""
    try:
        with closing(_read(source)) as db:
            copy_of(db, path)
    except sqlite3.Error as error:
        raise Unavailable(f"{source}: {error}") from error
    with closing(_read(path)) as copy:
        return _counts(copy)


def checked(path: Path, schemas: int) -> dict[str, int]:
    """How many rows of each table a copy holds; ``Refused`` when it is none of ours, not whole, or newer."""
    try:
        with closing(_read(path)) as copy:
            (schema,) = copy.execute("PRAGMA user_version").fetchone()
            if copy.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                raise Refused(f"{path}: it is damaged")
            if schema > schemas:
                raise Refused(
                    f"{path}: written by a newer gpuwarden (schema {schema}, this one knows {schemas}): "
                    "upgrade this one"
                )
            return _counts(copy)
    except sqlite3.Error as error:
        raise Refused(
            f"{path}: no copy that `gpuwarden aggregator backup` made: {error}"
        ) from error


def _read(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)


def _counts(db: sqlite3.Connection) -> dict[str, int]:
    return {
        table: int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in COUNTED
    }
