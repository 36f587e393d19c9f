"""A database of its own for one test, on the private PostgreSQL of scripts/services."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from tests.prerequisites import services_environment


@contextmanager
def database() -> Iterator[str]:
    """Its address; it is gone afterwards, whoever is still connected."""
    server = services_environment()["GPUWARDEN_TEST_POSTGRES"]
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield server.replace("/postgres?", f"/{name}?")
        finally:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            admin.execute(drop.format(sql.Identifier(name)))
