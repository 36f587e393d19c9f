"""Opens the store that the configuration names; a part of wiring."""

import os
from collections.abc import Iterator, Mapping

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.aggregator.store import AuditLine, Store
from gpuwarden.aggregator.store_sqlite import SqliteStore, audit_of
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.errors import Unavailable

AUDIT_PAGE = 1000


def open_store(cfg: AggregatorConfig, environ: Mapping[str, str], name: str = "") -> Store:
    """Where everything is kept; ``Unavailable`` when it cannot be had."""
    address = cfg.aggregator.store
    if address is None:
        return SqliteStore(cfg.aggregator.state_dir / "fleet.sqlite")
    try:
        from gpuwarden.aggregator.store_postgres import PostgresStore
    except ImportError as error:
        raise Unavailable(
            f"aggregator.store needs psycopg, which is not installed: {error}"
        ) from error
    return PostgresStore(Secrets(environ).resolve(address), name, cfg.aggregator.state_dir)


def audit_lines(cfg: AggregatorConfig) -> Iterator[AuditLine]:
    """The whole record, read beside a running aggregator."""
    if cfg.aggregator.store is None:
        yield from audit_of(cfg.aggregator.state_dir / "fleet.sqlite")
        return
    store, after = open_store(cfg, os.environ), 0
    try:
        while lines := store.audit_lines(after, AUDIT_PAGE):
            yield from lines
            after = lines[-1].number
    finally:
        store.close()
