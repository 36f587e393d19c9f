"""Connections to PostgreSQL, and its errors in words."""

from typing import Any

import psycopg

from gpuwarden.errors import GpuwardenError, Unavailable

CONNECT_S = 5
STATEMENT_S = 10
STUCK_S = 5
"""A transaction in which nothing happens for so long is ended by the server: whoever was stopped in the middle
of one holds nobody up for longer."""

Connection = psycopg.Connection[tuple[Any, ...]]


def connected(url: str, what: str, *, is_reader: bool = False, idle_s: int = 0) -> Connection:
    """A connection of our own; ``idle_s``: the server ends it when nothing was asked for so long (0: never).
    ``psycopg.Error`` when there is none."""
    options = f"-c statement_timeout={STATEMENT_S}s -c lock_timeout={STATEMENT_S}s"
    options += f" -c idle_in_transaction_session_timeout={STUCK_S}s"
    if idle_s:
        options += f" -c idle_session_timeout={idle_s}s"
    connection = psycopg.connect(
        url,
        connect_timeout=CONNECT_S,
        options=options,
        application_name=f"gpuwarden-{what}",
        autocommit=True,
        # A server that is gone without a word is noticed: nothing waits on it for minutes.
        keepalives_idle=STATEMENT_S,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=STATEMENT_S * 1000,
    )
    if is_reader:
        # Not before: target_session_attrs=read-write of an address with several hosts would pass over them all.
        connection.execute("SET default_transaction_read_only = on")
    return connection


def said(error: psycopg.Error) -> str:
    """One line, without the address, which may hold a password."""
    return " ".join(str(error).split("\n")[0].split())[:300] or type(error).__name__


def unavailable(error: psycopg.Error) -> GpuwardenError:
    """What it means to whoever wanted something of the database, with what to do."""
    advice = {
        "53100": "; free space on its disk",
        "25006": "; it is a standby or was set read-only: aggregator.store has to name the primary",
        "53300": "; raise max_connections there: an aggregator needs five",
        "28P01": "; look at the password that aggregator.store names",
        "28000": "; look at pg_hba.conf there",
        "3D000": "; create it: createdb",
        "42501": "; its user has to own the tables",
    }.get(error.sqlstate or "", "")
    return Unavailable(f"PostgreSQL: {said(error)}{advice}")
