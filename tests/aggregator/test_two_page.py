"""Two aggregators on one PostgreSQL, and who of them wakes people: one, whoever dies when."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node
from tests.adapters.receiver import Receiver
from tests.aggregator.centre import Centre, sample
from tests.aggregator.databases import database
from tests.aggregator.pairs import eventually, leads, pair

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]
QUICK = {"grace_s": 1, "silent_after_s": 600, "fold_s": 1, "fold_max_s": 2, "over_s": 2}


def hook(receiver: Receiver) -> dict[str, Any]:
    return {"webhook": [{"name": "hook", "url": receiver.url("/"), "timeout_s": 30}]}


def blind(line: Any, sequence: int = 1) -> None:
    device = pb.DeviceSample(id="GPU-0", sight=node.SIGHT_LOST, total_bytes=2**35)
    line.batch(samples=[sample(sequence, devices=[device])])


def told(receiver: Receiver) -> list[tuple[str, str]]:
    """Of every message: its key and why it was sent."""
    said = [request.json() for request in receiver.requests]
    return [(each["key"], each["reason"]) for each in said]


def test_one_of_two_tells_and_its_end_is_told_by_whoever_leads_then(tmp_path: Path) -> None:
    with (
        Receiver() as receiver,
        pair(tmp_path, sight=QUICK, oncall=hook(receiver)) as (one, two, _),
    ):
        line = two.line("n1")
        blind(line)
        receiver.wait(1)
        for centre in (one, two):
            eventually(lambda c=centre: _claims(c) == ["blind"], "both know")  # type: ignore[misc]
        (key, reason), *more = told(receiver)
        assert (reason, more) == ("first", [])
        assert key.startswith("gpuwarden/fleet-blind-")
        eventually(
            lambda: _state(one, "entry").endswith("sent"), "that it was sent is in the store"
        )
        one.stop()
        eventually(lambda: leads(two), "the second leads")
        blind(line, 2)
        line.batch(samples=[sample(3)])
        receiver.wait(2)
        assert told(receiver) == [(key, "first"), (key, "resolved")]
        line.close()


def _claims(centre: Centre) -> list[str]:
    return [each.key for each in centre.query().Status(pb.StatusRequest()).findings]


def _state(centre: Centre, kind: str) -> str:
    """How far the first of its messages has come, by the store."""
    lines = centre.parts.store.oncall_lines()
    found = [line for name, line in lines.items() if name.startswith(kind)]
    said = json.loads(found[0][9:]) if found else {}
    return "".join(post.get("state", "due") for post in said.get("entry", {}).get("posts", []))


class Process:
    """An aggregator that can be killed."""

    def __init__(self, folder: Path, url: str, receiver: Receiver) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            "[aggregator]",
            'listen = "127.0.0.1:0"',
            'enrol_listen = "none"',
            'metrics_listen = "none"',
            f'state_dir = "{folder}"',
            f"store = {json.dumps(url)}",
            "[sight]",
            *(f"{name} = {value}" for name, value in QUICK.items()),
            "[[oncall.webhook]]",
            'name = "hook"',
            f'url = "{receiver.url("/")}"',
            "timeout_s = 30",
        ]
        config = folder / "aggregator.toml"
        config.write_text("\n".join(lines) + "\n")
        config.chmod(0o600)
        command = [sys.executable, "-m", "gpuwarden", "aggregator", "--config", str(config)]
        self.process = subprocess.Popen(command)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


@contextmanager
def killed_leader(folder: Path, receiver: Receiver) -> Iterator[tuple[Process, Centre, str]]:
    """A leader that is a process, and a follower in this one."""
    import shutil

    with database() as url:
        first = Process(folder / "one", url, receiver)
        try:
            eventually(lambda: _reign(url) == 1, "the first leads")
            shutil.copytree(folder / "one" / "pki", folder / "two" / "pki")
            with Centre(
                folder / "two", sight=QUICK, oncall=hook(receiver), aggregator={"store": url}
            ) as second:
                yield first, second, url
        finally:
            first.kill()


def _reign(url: str) -> int:
    try:
        with psycopg.connect(url, autocommit=True) as db:
            return int((db.execute("SELECT max(epoch) FROM reign").fetchone() or (0,))[0] or 0)
    except psycopg.Error:
        return 0


@pytest.mark.parametrize("moment", ["before-it-is-sent", "while-it-is-sent", "after-it-was-sent"])
def test_a_page_that_arose_while_the_leader_died_is_sent_by_the_next(
    tmp_path: Path, moment: str
) -> None:
    held = threading.Event()

    def never(side: Any) -> None:
        held.wait(60)

    with Receiver() as receiver:
        if moment == "while-it-is-sent":
            receiver.answers.append(never)
        with killed_leader(tmp_path, receiver) as (first, second, url):
            line = second.line("n1")
            assert not leads(second)
            if moment == "before-it-is-sent":
                # The leader has decided, and no message can be begun: its book does not reach the disk.
                with psycopg.connect(url) as lock:
                    lock.execute("LOCK TABLE oncall IN EXCLUSIVE MODE")
                    blind(line)
                    eventually(lambda: _waits(url), "the leader wants to write that it pages")
                    first.kill()
                    lock.rollback()
            else:
                blind(line)
                receiver.wait(1)
                if moment == "after-it-was-sent":
                    eventually(lambda: _state(second, "entry") == "sent", "it is on record")
                first.kill()
            eventually(lambda: leads(second), "the second leads")
            _settled(second)
            held.set()
            keys = {key for key, _ in told(receiver)}
            ids = {request.json()["id"] for request in receiver.requests}
            count = {"before-it-is-sent": 1, "while-it-is-sent": 2, "after-it-was-sent": 1}[moment]
            assert (len(keys), len(ids), len(receiver.requests)) == (1, 1, count)
            line.close()


def _settled(second: Centre) -> None:
    """It is on record as sent, and a pass of the new leader's on-call has gone by since."""
    eventually(lambda: _state(second, "entry") == "sent", "it is on record")
    serial = second.parts.fleet.view.serial
    second.parts.fleet.wait_newer(serial + 3, 30.0)


def _waits(url: str) -> bool:
    with psycopg.connect(url, autocommit=True) as db:
        row = db.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type='Lock' "
            "AND datname=current_database() AND query LIKE '%oncall%'"
        ).fetchone()
        return bool(row and row[0])


def test_who_only_believes_to_lead_tells_nobody(tmp_path: Path) -> None:
    with (
        Receiver() as receiver,
        pair(tmp_path, sight=QUICK, oncall=hook(receiver)) as (one, _, url),
    ):
        line = one.line("n1")
        line.batch(samples=[sample()])
        line.next()
        one.parts.company._leadership._stop.set()  # type: ignore[attr-defined]
        with psycopg.connect(url) as db:
            db.execute("UPDATE epoch SET value=value+1")
        assert one.parts.company.lead().is_ours
        blind(line, 2)
        oncall = one.parts.paging.oncall
        eventually(lambda: oncall.failures, "the page was not taken")
        assert receiver.requests == []
        line.close()
