"""Copies of the store: made beside a running aggregator, restored while none runs. A part of wiring."""

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.aggregator import copy_sqlite
from gpuwarden.aggregator.store import EPOCHS_PER_RESTORE, free
from gpuwarden.aggregator.store_sqlite import SqliteStore, claimed
from gpuwarden.aggregator.store_sqlite_schema import SCRIPTS
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.errors import Unavailable


def backup(cfg: AggregatorConfig, environ: Mapping[str, str], path: Path) -> dict[str, int]:
    """A copy of all that is committed, in a file that is not there yet; how many rows of each table."""
    if cfg.aggregator.store is None:
        return copy_sqlite.dump(store_file(cfg), path)
    from gpuwarden.aggregator import copy_postgres

    return copy_postgres.dump(Secrets(environ).resolve(cfg.aggregator.store), path)


def restore(
    cfg: AggregatorConfig, environ: Mapping[str, str], path: Path, *, wall: float, who: str
) -> tuple[dict[str, int], Path | None]:
    """The store as the copy has it: rows by table, and where what was there before lies now. Invitations that
    were not used are void (some may have been, since), and a leader that did not hear of it is refused."""
    if cfg.aggregator.store is not None:
        from gpuwarden.aggregator.store_postgres import PostgresStore

        store = PostgresStore(Secrets(environ).resolve(cfg.aggregator.store))
        try:
            return store.restore(path, wall, who), None
        finally:
            store.close()
    counts = copy_sqlite.checked(path, len(SCRIPTS))
    target = store_file(cfg)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with claimed(target):
        return counts, _put(path, target, wall, who)


def store_file(cfg: AggregatorConfig) -> Path:
    return cfg.aggregator.state_dir / "fleet.sqlite"


def _put(path: Path, target: Path, wall: float, who: str) -> Path | None:
    """Made ready under another name first: whenever this is broken off, a whole store is in place."""
    fresh = free(target.with_name("fleet.restored.sqlite"))
    before = free(target.with_name(f"{target.name}.before-restore"))
    try:
        copy_sqlite.dump(path, fresh)
        store = SqliteStore(fresh)
        try:
            with store.transaction():
                store.restored(EPOCHS_PER_RESTORE)
                store.audit(wall, who, "restore", path.name)
        finally:
            store.close()
        had = target.exists()
        if had:
            for suffix in ("-wal", "-shm", ""):
                old = target.with_name(f"{target.name}{suffix}")
                if old.exists():
                    old.rename(before.with_name(f"{before.name}{suffix}"))
        fresh.rename(target)
        fresh.with_name(f"{fresh.name}.lock").unlink(missing_ok=True)
        _give(target)
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"{target}: {error}") from error
    return before if had else None


def _give(target: Path) -> None:
    """Root restores, and the aggregator may be another user: whoever owns the folder has to be able to write."""
    folder = target.parent.stat()
    for each in (target, target.with_name(f"{target.name}.lock")):
        status = each.lstat()
        if status.st_uid != folder.st_uid and os.geteuid() == 0:
            os.lchown(each, folder.st_uid, folder.st_gid)
