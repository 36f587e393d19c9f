"""What the agent says, when it says it, by a clock outside of the agent.

``AgentWatch`` reads the agent's own stream; ``JournalWatch`` reads the journal as it grows on disk;
``PageSink`` is the on-call webhook. Times are seconds of this process's CLOCK_MONOTONIC.
"""

from __future__ import annotations

import http.server
import json
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from gpuwarden.sim.incident.cast import GIB
from gpuwarden.sim.incident.touches import Inotify
from gpuwarden.wire.v1 import node_pb2 as pb
from gpuwarden.wire.v1.node_pb2_grpc import NodeServiceStub

ANSWER_MAX_BYTES = 32 * 2**20
PER_S = 10.0  # news comes at once
ACCUSING = frozenset({"quota", "neighbour"})
BLAMING = frozenset({"quota", "reserve", "unattributed", "tombstone", "neighbour"})
"""Rules whose incident accuses its tenant; of others it is the one that suffers."""
RETRY_S = 0.05
JOURNAL_EVERY_S = 0.05  # where the kernel does not say that something was written
PAGE_MAX_BYTES = 64 * 1024
MAX_PAGES = 200
EVICTING = frozenset({pb.RUNG_HELD, pb.RUNG_TERMED, pb.RUNG_KILLED, pb.RUNG_STOPPED, pb.RUNG_STUCK})


class AgentWatch:
    """Follows the agent's pictures; ``wait_for`` looks at each until one fits."""

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path
        self._fresh = threading.Condition()
        self._view: pb.View | None = None
        self._incidents: dict[str, pb.Incident] = {}
        self._offender = ""
        self._stopping = threading.Event()
        self._call: Any = None
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.noticed_at: float | None = None
        self.decided_at: float | None = None
        self.service = ""
        """Whose objective counts."""
        self.red_at: float | None = None
        self.verdict = ""
        """What it said of who grew as the service turned red."""
        self.blamed: dict[str, str] = {}
        """Other tenants than the offender with a case, a quota finding or an incident of their own."""
        self.error = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._call is not None:
            self._call.cancel()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def accuse(self, offender: str) -> None:
        """From now on findings on this tenant count."""
        with self._fresh:
            self._offender = offender

    def view(self) -> pb.View | None:
        """The newest picture."""
        return self._view

    def incidents(self) -> list[pb.Incident]:
        """Every incident seen, as last seen, oldest first."""
        with self._fresh:
            return sorted(self._incidents.values(), key=lambda i: i.opened_wall)

    def wait_for(self, fits: Callable[[pb.View], bool], timeout_s: float) -> pb.View | None:
        """The first picture that fits, or ``None`` when the time is over."""
        end = time.monotonic() + timeout_s
        with self._fresh:
            while True:
                if self._view is not None and fits(self._view):
                    return self._view
                left = end - time.monotonic()
                if left <= 0:
                    return None
                self._fresh.wait(left)

    def _run(self) -> None:
        while not self._stopping.is_set():
            options = (
                ("grpc.max_receive_message_length", ANSWER_MAX_BYTES),
                ("grpc.enable_http_proxy", 0),
            )
            try:
                with grpc.insecure_channel(f"unix:{self._path}", options=options) as channel:
                    self._call = NodeServiceStub(channel).Watch(pb.WatchRequest(max_per_s=PER_S))
                    for answer in self._call:
                        self._take(answer.view, time.monotonic())
            except grpc.RpcError as error:
                self.error = str(error.details())[:300]  # not up yet, or stopping
            self._stopping.wait(RETRY_S)

    def _take(self, view: pb.View, at: float) -> None:
        with self._fresh:
            self._view = view
            if self._offender:
                self._judge(view, at)
            for incident in view.incidents:
                self._incidents[incident.id] = incident
            self._fresh.notify_all()

    def _judge(self, view: pb.View, at: float) -> None:
        for service in view.snapshot.services:
            is_red = service.service == self.service and service.health == pb.HEALTH_RED
            if is_red and (self.noticed_at is None or self.red_at is None):
                self.red_at = service.since  # of the spell that somebody was named for
        for finding in view.findings:
            if finding.rule not in ACCUSING:
                continue
            if finding.rule == "neighbour":
                self.verdict = self.verdict or finding.summary
            if finding.tenant != self._offender:
                self.blamed.setdefault(finding.tenant, finding.summary)
                continue
            self.noticed_at = self.noticed_at or at
            if finding.is_confirmed:
                self.decided_at = self.decided_at or at
        for case in view.cases:
            if case.tenant != self._offender:
                self.blamed.setdefault(case.tenant, f"a case: {case.reason}")
            elif case.rung in EVICTING:
                self.noticed_at = self.noticed_at or at
                self.decided_at = self.decided_at or at
        for incident in view.incidents:
            if incident.tenant == self._offender:  # one that came and went between two pictures
                self.noticed_at = self.noticed_at or at
                if incident.HasField("decided_at"):
                    self.decided_at = self.decided_at or at
            elif incident.rule in BLAMING:
                self.blamed.setdefault(incident.tenant, incident.summary)


class JournalWatch:
    """Reads the journal's segments as they grow, and notes when the cause stood in them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}
        self._torn: dict[Path, bytes] = {}
        self._offender = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self.cause_at: float | None = None
        self.cause: dict[str, Any] = {}

    def start(self, offender: str) -> None:
        self._offender = offender
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _run(self) -> None:
        news = Inotify()
        news.add(self._folder)
        while not self._stopping.is_set():
            news.wait(JOURNAL_EVERY_S)
            for _ in news.events():
                """Only that something was written counts."""
            for path in sorted(self._folder.glob("journal-*.jsonl")):
                for line in self._fresh_lines(path):
                    if self.cause_at is None and self._offender.encode() in line:
                        self._judge(line, time.monotonic())

    def _fresh_lines(self, path: Path) -> list[bytes]:
        try:
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                data = file.read()
        except OSError:
            return []
        self._offsets[path] = self._offsets.get(path, 0) + len(data)
        *lines, self._torn[path] = (self._torn.get(path, b"") + data).split(b"\n")
        return lines

    def _judge(self, line: bytes, at: float) -> None:
        cause = read_cause(line, self._offender)
        if cause is not None:
            self.cause_at, self.cause = at, cause


def read_cause(line: bytes, offender: str) -> dict[str, Any] | None:
    """Who, bytes, quota and action of one journal line, where all four stand in it together."""
    checksum, _, body = line.partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(body):
            return None
        decision = json.loads(body).get("decision") or {}
    except (ValueError, AttributeError):
        return None
    findings = [
        f
        for f in decision.get("findings", ())
        if f.get("tenant") == offender and f.get("used_bytes") and f.get("limit_bytes")
    ]
    actions = [
        a
        for a in decision.get("actions", ())
        if (a.get("target") or {}).get("tenant") == offender
        and a.get("kind") in ("freeze", "restart-off", "term", "kill")
    ]
    if not findings or not actions:
        return None
    return {
        "tenant": offender,
        "bytes": findings[0]["used_bytes"],
        "quota": findings[0]["limit_bytes"],
        "over_gib": round((findings[0]["used_bytes"] - findings[0]["limit_bytes"]) / GIB, 3),
        "action": actions[0]["kind"],
        "why": actions[0].get("why", ""),
        "incident": actions[0].get("incident", ""),
    }


class PageSink:
    """An on-call webhook on loopback: keeps what it is sent."""

    def __init__(self) -> None:
        self._pages: list[dict[str, Any]] = []
        pages = self._pages

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 5

            def do_POST(self) -> None:
                length = min(int(self.headers.get("Content-Length") or 0), PAGE_MAX_BYTES)
                try:
                    page = json.loads(self.rfile.read(length))
                except ValueError:
                    self.send_error(400)
                    return
                if len(pages) < MAX_PAGES:
                    pages.append({"at": time.monotonic(), **page})
                self.send_response(202)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """A page is kept, not logged."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def pages(self) -> list[dict[str, Any]]:
        """Pages so far, oldest first; what only says that it is over is none."""
        return [p for p in self._pages if p.get("event") == "trigger" or p.get("is_news")]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(2.0)
