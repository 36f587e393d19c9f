"""E-mail through a real SMTP server: STARTTLS, login, refusals, and names that try to be headers."""

from __future__ import annotations

import asyncio
import email
import email.policy
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.adapters.sinks.make import make_sinks
from gpuwarden.clock import SystemClock
from gpuwarden.config_oncall import OncallConfig
from gpuwarden.errors import GpuwardenError, Refused, Unavailable, Unsupported
from gpuwarden.model.oncall import Reason
from gpuwarden.ports_oncall import Sink
from tests.adapters.sink_notices import evil, notice, over, secret_file

PASSWORD = "sehr-geheim"
AUTHORITY = trustme.CA()


class Inbox:
    """A handler that keeps what it was sent, and answers as told."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.recipient = "250 OK"
        self.data = "250 OK"

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: object
    ) -> str:
        if address.startswith("bad"):
            return "550 no such user"
        if self.recipient.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.recipient

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        if self.data.startswith("250"):
            self.envelopes.append(envelope)
        return self.data

    @property
    def letters(self) -> list[EmailMessage]:
        found = []
        for envelope in self.envelopes:
            content = envelope.content
            assert isinstance(content, bytes)
            letter = email.message_from_bytes(content, policy=email.policy.default)
            assert isinstance(letter, EmailMessage)
            found.append(letter)
        return found


def authenticate(
    _s: object, _session: object, _e: object, _mechanism: object, data: Any
) -> AuthResult:
    assert isinstance(data, LoginPassword)
    is_right = data == LoginPassword(b"gpuwarden", PASSWORD.encode())
    return AuthResult(success=is_right, handled=False)


Serve = Callable[..., "Server"]


class Server(Controller):
    """A controller that leaves no connection behind."""

    def factory(self) -> SMTP:
        made: SMTP = super().factory()  # type: ignore[no-untyped-call]  # it ships no types for it
        self.__dict__.setdefault("made", []).append(made)
        return made

    async def _hang_up(self) -> None:
        for smtp in self.__dict__.get("made", []):
            if smtp.transport is not None:
                smtp.transport.abort()
        for _ in range(5):
            await asyncio.sleep(0)

    def end(self) -> None:
        if self.server is not None:
            asyncio.run_coroutine_threadsafe(self._hang_up(), self.loop).result(20.0)
            self.stop()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def serve(inbox: Inbox) -> Iterator[Serve]:
    """Starts a server on a free port; with TLS unless told otherwise."""
    running: list[Server] = []

    def start(*, has_tls: bool = True, needs_login: bool = False) -> Server:
        context = None
        if has_tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            AUTHORITY.issue_cert("localhost").configure_cert(context)
        with socket.create_server(("127.0.0.1", 0)) as held:
            port = held.getsockname()[1]
        controller = Server(
            inbox,
            hostname="127.0.0.1",
            port=port,
            tls_context=context,
            require_starttls=has_tls,
            authenticator=authenticate,
            auth_required=needs_login,
        )
        controller.start()
        running.append(controller)
        return controller

    yield start
    for controller in running:
        controller.end()


@pytest.fixture
def sink_of(tmp_path: Path) -> Callable[..., Sink]:
    """A sink that sends to a server."""

    def make(server: Server, **rest: Any) -> Sink:
        ca = tmp_path / "ca.pem"
        AUTHORITY.cert_pem.write_to_path(ca)
        own = {
            "host": "localhost",
            "port": server.port,
            "from": "gpuwarden@example.org",
            "to": ["oncall@example.org"],
            "ca_file": str(ca),
            "timeout_s": 20,
            **rest,
        }
        cfg = OncallConfig.model_validate({"email": [own]})
        return make_sinks(cfg, Secrets({}), SystemClock(), "node-1")["email"]

    return make


def fails(sink: Sink) -> GpuwardenError:
    with pytest.raises(GpuwardenError) as raised:
        sink.deliver(notice())
    assert PASSWORD not in str(raised.value)
    return raised.value


def test_a_letter_after_starttls_and_login(
    serve: Serve, sink_of: Callable[..., Sink], inbox: Inbox, tmp_path: Path
) -> None:
    password = secret_file(tmp_path, "p", PASSWORD)
    sink = sink_of(serve(needs_login=True), user="gpuwarden", password=password)
    assert sink.deliver(notice()).text == "taken for 1 recipients"
    (letter,) = inbox.letters
    assert letter["Subject"].startswith("CRIT node-1: hog cannot be ended")
    assert len(letter["Subject"]) <= 64
    assert letter["To"] == "oncall@example.org"
    assert letter["Auto-Submitted"] == "auto-generated"
    body = letter.get_content()
    for part in (
        "hog cannot be ended: its processes or its bytes stay",
        "Device: GPU-1",
        "Tenant: hog (docker, low)",
        "peak: 20.0 GiB",
        "+1.0 s term done",
        "stop withheld",
        "1. gpuwarden tenants",
        "More: gpuwarden explain inc-6b49d200-7",
    ):
        assert part in body


def test_one_thread_an_incident_and_one_id_a_message(
    serve: Serve, sink_of: Callable[..., Sink], inbox: Inbox
) -> None:
    sink = sink_of(serve())
    for what in (notice(), notice(), over(id="inc-6b49d200-7/sink/2")):
        sink.deliver(what)
    ids = [letter["Message-ID"] for letter in inbox.letters]
    assert ids[0] == ids[1] != ids[2]
    assert len({letter["In-Reply-To"] for letter in inbox.letters}) == 1
    assert "OVER" in inbox.letters[2]["Subject"]
    assert "It is over: tenant killed." in inbox.letters[2].get_content()


@pytest.mark.parametrize("reason", [Reason.FIRST, Reason.RESOLVED, Reason.ACKNOWLEDGED])
def test_no_name_becomes_a_header_or_a_recipient(
    reason: Reason, serve: Serve, sink_of: Callable[..., Sink], inbox: Inbox
) -> None:
    sink_of(serve()).deliver(evil(reason))
    (letter,) = inbox.letters
    assert inbox.envelopes[0].rcpt_tos == ["oncall@example.org"]
    assert letter["Bcc"] is None
    assert set(letter.keys()) == {
        *("From", "To", "Subject", "Date", "Message-ID", "References", "In-Reply-To"),
        *("Auto-Submitted", "X-Gpuwarden-Incident", "MIME-Version"),
        *("Content-Type", "Content-Transfer-Encoding"),
        *(() if reason is Reason.RESOLVED else ("Importance",)),
        *(k for k in letter if k.startswith("X-") and k in ("X-Peer", "X-MailFrom", "X-RcptTo")),
    }
    assert all(line.isprintable() for line in letter.get_content().splitlines())


def test_a_server_without_starttls_gets_nothing(
    serve: Serve, sink_of: Callable[..., Sink], inbox: Inbox
) -> None:
    assert isinstance(fails(sink_of(serve(has_tls=False))), Unsupported)
    assert inbox.envelopes == []


def test_unless_the_operator_wants_it_so(
    serve: Serve, sink_of: Callable[..., Sink], inbox: Inbox
) -> None:
    sink_of(serve(has_tls=False), tls="none").deliver(notice())
    assert len(inbox.envelopes) == 1


def test_a_certificate_nobody_knows(
    serve: Serve, sink_of: Callable[..., Sink], inbox: Inbox
) -> None:
    assert isinstance(fails(sink_of(serve(), ca_file=None)), Unavailable)
    assert inbox.envelopes == []


def test_a_wrong_password(
    serve: Serve, sink_of: Callable[..., Sink], inbox: Inbox, tmp_path: Path
) -> None:
    wrong = secret_file(tmp_path, "p", "sehr-geheim-2")
    found = fails(sink_of(serve(needs_login=True), user="gpuwarden", password=wrong))
    assert isinstance(found, Refused)
    assert "SMTP 535" in str(found)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("451 later", Unavailable),
        ("554 no", Refused),
        ("421 busy", Unavailable),
    ],
)
@pytest.mark.parametrize("where", ["recipient", "data"])
def test_not_now_and_never(
    where: str,
    said: str,
    error: type[GpuwardenError],
    serve: Serve,
    sink_of: Callable[..., Sink],
    inbox: Inbox,
) -> None:
    setattr(inbox, where, said)
    assert type(fails(sink_of(serve()))) is error


def test_one_recipient_of_two_is_named(
    serve: Serve, sink_of: Callable[..., Sink], inbox: Inbox
) -> None:
    receipt = sink_of(serve(), to=["bad@example.org", "good@example.org"]).deliver(notice())
    assert (receipt.text, receipt.missed) == ("taken for 1 recipients", "bad@example.org: 550")
    assert inbox.envelopes[0].rcpt_tos == ["good@example.org"]


def test_nobody_listens(serve: Serve, sink_of: Callable[..., Sink]) -> None:
    server = serve()
    server.end()
    assert "Connection refused" in str(fails(sink_of(server)))


def test_a_server_that_says_nothing_costs_the_deadline(
    serve: Serve, sink_of: Callable[..., Sink]
) -> None:
    server = serve()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        found = fails(sink_of(server, port=mute.getsockname()[1], host="127.0.0.1", timeout_s=0.3))
    assert isinstance(found, Unavailable)


def test_one_that_drips_costs_the_deadline(serve: Serve, sink_of: Callable[..., Sink]) -> None:
    server, ended = serve(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            side, _ = listener.accept()
            with side:
                side.sendall(b"220-")
                while not ended.wait(0.01):
                    side.sendall(b"x")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        sink = sink_of(server, port=listener.getsockname()[1], host="127.0.0.1", timeout_s=0.3)
        assert "no answer within 0.3 s" in str(fails(sink))
        ended.set()
        thread.join(20.0)
