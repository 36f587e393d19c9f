"""What `gpuwarden aggregator doctor` looks at: each check has a deadline, changes nothing, and names the fix."""

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from gpuwarden.adapters import kernel_clock
from gpuwarden.commands.checks import Check, Result
from gpuwarden.commands.words import size, span
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.errors import GpuwardenError

STORE_S = 5.0
ROOM_MIN_BYTES = 256 * 2**20
ROOM_LOW_BYTES = 2 * 2**30
AUTHORITY_LOW_S = 90 * 86_400.0


def check_all(cfg: AggregatorConfig, environ: Mapping[str, str], wall: float) -> list[Check]:
    """In the order in which one depends on the other."""
    centre = cfg.aggregator
    store = (
        check_sqlite(centre.state_dir / "fleet.sqlite")
        if centre.store is None
        else check_postgres(centre.store, environ)
    )
    return [
        check_room(centre.state_dir),
        store,
        check_authority(centre.state_dir / "pki", wall),
        check_certificate(centre.state_dir / "admin", wall),
        check_clock(),
        check_daemon(centre.listen, centre.state_dir / "admin"),
    ]


def check_room(folder: Path) -> Check:
    """Without room nothing is acknowledged."""
    existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        seen = f"{existing}: this user may not write there"
        fix = "run as root, or set aggregator.state_dir to a folder of its own"
        return Check(name="disk", result=Result.FAILED, seen=seen, fix=fix)
    usage = os.statvfs(existing)
    free = usage.f_bavail * usage.f_frsize
    seen, fix = f"{folder}: {size(free)} free", "make room, or set aggregator.state_dir elsewhere"
    if usage.f_flag & os.ST_RDONLY:
        return Check(name="disk", result=Result.FAILED, seen=f"{seen}; read-only", fix=fix)
    if free < ROOM_LOW_BYTES:
        result = Result.FAILED if free < ROOM_MIN_BYTES else Result.WARNING
        return Check(name="disk", result=result, seen=seen, fix=fix)
    return Check(name="disk", result=Result.OK, seen=seen)


def check_sqlite(path: Path) -> Check:
    """Whether it can be read and written, beside a running aggregator."""
    if not path.exists():
        seen = f"{path} is not there yet"
        fix = "gpuwarden aggregator makes it at its first start"
        return Check(name="store", result=Result.FAILED, seen=seen, fix=fix)
    try:
        address = f"{path.absolute().as_uri()}?mode=rw"
        with closing(
            sqlite3.connect(address, uri=True, timeout=STORE_S, isolation_level=None)
        ) as db:
            nodes = db.execute("SELECT count(*) FROM node").fetchone()[0]
            db.execute("BEGIN IMMEDIATE")  # fails where nothing could be written
            db.execute("ROLLBACK")
    except sqlite3.Error as error:
        fix = "see that root owns it; else gpuwarden aggregator restore FILE, from a backup"
        return Check(name="store", result=Result.FAILED, seen=f"{path}: {error}", fix=fix)
    return Check(name="store", result=Result.OK, seen=f"{path}: {nodes} nodes, can be written")


def check_postgres(address: str, environ: Mapping[str, str]) -> Check:
    """Whether it answers, is ours, and takes writes."""
    fix = "see that aggregator.store names a database that is up, and its password"
    try:
        import psycopg

        from gpuwarden.adapters.secrets import Secrets

        url = Secrets(environ).resolve(address)
        with psycopg.connect(url, connect_timeout=int(STORE_S)) as db:
            db.execute("SET statement_timeout = '5s'")
            row = db.execute("SHOW transaction_read_only").fetchone()
            nodes = db.execute("SELECT count(*) FROM node").fetchone()
    except ImportError:
        fix = "pip install 'gpuwarden[postgres]'"
        return Check(name="store", result=Result.FAILED, seen="psycopg is missing", fix=fix)
    except (psycopg.Error, GpuwardenError) as error:
        seen = str(error).splitlines()[0] if str(error) else "no answer"
        return Check(name="store", result=Result.FAILED, seen=seen, fix=fix)
    if row is not None and row[0] == "on":
        seen, fix = "PostgreSQL takes no writes: a standby?", "name the primary in aggregator.store"
        return Check(name="store", result=Result.FAILED, seen=seen, fix=fix)
    seen = f"PostgreSQL: {0 if nodes is None else nodes[0]} nodes, can be written"
    return Check(name="store", result=Result.OK, seen=seen)


def check_authority(folder: Path, wall: float) -> Check:
    """Whoever signs the certificates of the fleet; when it ends, all of them do."""
    from cryptography import x509

    from gpuwarden.adapters.pki.authority import SIGNING, Paths

    path = Paths(folder, SIGNING).certificate
    try:
        root = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        fix = "put the folder pki back from its copy: without it every node has to join anew"
        return Check(name="authority", result=Result.FAILED, seen=f"{path}: {error}", fix=fix)
    left_s = root.not_valid_after_utc.timestamp() - wall
    fix = "gpuwarden authority prepare, then switch and finish"
    return _ends("authority", str(path), left_s, AUTHORITY_LOW_S, fix)


def check_certificate(folder: Path, wall: float) -> Check:
    """Root's own, which the aggregator renews at half its life: an old one says that it does not run, or cannot."""
    from gpuwarden.adapters.pki.names import read_credentials

    fix = "restart gpuwarden aggregator: it makes a new one at its start"
    try:
        own = read_credentials(folder)
    except GpuwardenError as error:
        return Check(name="certificate", result=Result.FAILED, seen=str(error), fix=fix)
    low_s = (own.not_after_wall - own.not_before_wall) / 4
    return _ends("certificate", str(folder), own.not_after_wall - wall, low_s, fix)


def _ends(name: str, what: str, left_s: float, low_s: float, fix: str) -> Check:
    if left_s <= 0:
        seen = f"{what} ran out {span(-left_s)} ago"
        return Check(name=name, result=Result.FAILED, seen=seen, fix=fix)
    seen = f"{what} holds for another {span(left_s)}"
    if left_s < low_s:
        return Check(name=name, result=Result.WARNING, seen=seen, fix=fix)
    return Check(name=name, result=Result.OK, seen=seen)


def check_clock() -> Check:
    """Certificates, policies and budgets that span restarts go by it."""
    state = kernel_clock.read()
    if state.is_synchronised is None:
        return Check(name="clock", result=Result.UNKNOWN, seen="the kernel does not say")
    if not state.is_synchronised:
        fix = "set up chrony or systemd-timesyncd"
        seen = "nothing keeps the wall clock right"
        return Check(name="clock", result=Result.WARNING, seen=seen, fix=fix)
    return Check(name="clock", result=Result.OK, seen="synchronised")


def check_daemon(listen: str, folder: Path) -> Check:
    """Whether it answers where it listens, and who leads."""
    from gpuwarden.adapters.fleet_client import FleetClient

    address = here(listen)
    try:
        with FleetClient(address, folder, timeout_s=STORE_S) as client:
            said = client.status()
    except GpuwardenError as error:
        fix = "start gpuwarden aggregator, or see its log for why it does not"
        return Check(name="aggregator", result=Result.FAILED, seen=str(error), fix=fix)
    if said.leader_unknown or not (said.is_leader or said.leader):
        why = said.leader_unknown or "nobody leads"
        fix = (
            "see that every aggregator reaches the database: without a leader no permits are given"
        )
        return Check(name="aggregator", result=Result.FAILED, seen=f"{address}: {why}", fix=fix)
    leads = "leads" if said.is_leader else f"follows {said.leader}"
    seen = f"{address} answers, version {said.version}, {leads}"
    return Check(name="aggregator", result=Result.OK, seen=seen)


def here(listen: str) -> str:
    """Where this host reaches what listens there."""
    host, _, port = listen.rpartition(":")
    return f"{'127.0.0.1' if host == '0.0.0.0' else '[::1]' if host == '[::]' else host}:{port}"
