"""Sinks over HTTP, for real: what arrives, how refusals are told from trouble, and that nothing is given away."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.adapters.sinks.heartbeat import WebHeartbeat
from gpuwarden.adapters.sinks.make import make_heartbeat, make_sinks
from gpuwarden.clock import SystemClock
from gpuwarden.config_oncall import OncallConfig
from gpuwarden.errors import GpuwardenError, Refused, Unavailable
from gpuwarden.model.oncall import Notice, Reason
from gpuwarden.ports_oncall import Sink
from tests.adapters.receiver import Receiver, answer, drip
from tests.adapters.sink_notices import EVIL, evil, notice, over, secret_file

KEY = "R0123456789ABCDEF0123456789ABCDE"
TOKEN = "T0SECRET/B0SECRET/sehr-geheim"
KINDS = ("alertmanager", "pagerduty", "webhook", "slack")
CLOCK = SystemClock()
MakeSink = Callable[..., Sink]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture
def sink_of(tmp_path: Path) -> MakeSink:
    """A sink of a kind that sends to a receiver; its secrets lie in files."""

    def make(kind: str, receiver: Receiver, **rest: Any) -> Sink:
        receiver.kind = kind
        url = receiver.url(f"/{TOKEN}")
        own: dict[str, dict[str, Any]] = {
            "alertmanager": {"urls": [receiver.url().rstrip("/")]},
            "pagerduty": {
                "url": receiver.url("/v2/enqueue"),
                "routing_key": secret_file(tmp_path, "key", KEY),
            },
            "webhook": {
                "url": secret_file(tmp_path, "hook", url),
                "secret": secret_file(tmp_path, "secret", "wald-und-wiese"),
            },
            "slack": {"url": secret_file(tmp_path, "slack", url + "\n")},
        }
        cfg = OncallConfig.model_validate({kind: [{**own[kind], "timeout_s": 20, **rest}]})
        return make_sinks(cfg, Secrets({}), CLOCK, "node-1")[kind]

    return make


def fails(sink: Sink, what: Notice | None = None) -> GpuwardenError:
    with pytest.raises(GpuwardenError) as raised:
        sink.deliver(what or notice())
    text = str(raised.value)
    for part in (KEY, *TOKEN.split("/"), "wald-und-wiese", "127.0.0.1"):
        assert part not in text
    return raised.value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "reason", [r for r in Reason if r.value not in ("silenced", "maintenance")]
)
def test_every_message_is_one_the_receiver_publishes(
    kind: str, reason: Reason, receiver: Receiver, sink_of: MakeSink
) -> None:
    sink = sink_of(kind, receiver)
    sink.deliver(notice(reason, acked_by="ann"))
    sink.deliver(evil(reason))
    sink.deliver(over(is_news=True))
    assert receiver.wait(3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        (answer(500), Unavailable, "HTTP 500"),
        (answer(503, Retry_After="7"), Unavailable, "HTTP 503"),
        (answer(429, Retry_After="7"), Unavailable, "HTTP 429"),
        (answer(408), Unavailable, "HTTP 408"),
        (answer(400, "bad thing"), Refused, "HTTP 400: bad thing"),
        (answer(401), Refused, "HTTP 401"),
        (answer(404, "no_service"), Refused, "HTTP 404: no_service"),
        (answer(302, Location="http://127.0.0.1:9/"), Refused, "HTTP 302: redirects"),
        (answer(400, "bad\x1b[2J\u202e"), Refused, "HTTP 400: bad?[2J?"),
        (b"nonsense\r\n\r\n", Unavailable, "BadStatusLine"),
        (b"", Unavailable, "RemoteDisconnected"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nx", None, ""),
    ],
)
def test_what_is_no_yes_is_said_without_secrets(
    kind: str,
    said: bytes,
    error: type[GpuwardenError] | None,
    words: str,
    receiver: Receiver,
    sink_of: MakeSink,
) -> None:
    receiver.usual = said
    sink = sink_of(kind, receiver)
    if error is None:
        sink.deliver(notice())
    else:
        found = fails(sink)
        assert type(found) is error
        assert words in str(found)
        assert str(found).isprintable()
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("kind", "said"),
    [("pagerduty", KEY), ("webhook", TOKEN), ("slack", TOKEN), ("slack", "B0SECRET")],
)
def test_a_receiver_that_says_the_secret_back_gives_nothing_away(
    kind: str, said: str, receiver: Receiver, sink_of: MakeSink
) -> None:
    receiver.usual = answer(400, f"bad {said}!")
    assert str(fails(sink_of(kind, receiver))).startswith("HTTP 400: bad (hidden)")


@pytest.mark.parametrize(
    ("header", "wait"),
    [("7", (7, 7)), ("0", (0, 0)), ("soon", None), ("-1", None), ("9" * 30, None), ("", None)],
)
def test_retry_after(
    header: str, wait: tuple[float, float] | None, receiver: Receiver, sink_of: MakeSink
) -> None:
    receiver.usual = answer(429, Retry_After=header)
    found = fails(sink_of("pagerduty", receiver))
    assert isinstance(found, Unavailable)
    if wait is None:
        assert found.retry_after_s is None
    else:
        assert found.retry_after_s is not None
        assert wait[0] <= found.retry_after_s <= wait[1]


def test_retry_after_may_be_a_date(receiver: Receiver, sink_of: MakeSink) -> None:
    receiver.usual = answer(503, Retry_After="Fri, 31 Dec 2199 23:59:59 GMT")
    found = fails(sink_of("slack", receiver))
    assert isinstance(found, Unavailable)
    assert (found.retry_after_s or 0) > 1e6


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_listens(kind: str, receiver: Receiver, sink_of: MakeSink) -> None:
    sink = sink_of(kind, receiver)
    receiver.close()
    assert "Connection refused" in str(fails(sink))


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_drips_for_ever_costs_its_deadline(
    kind: str, receiver: Receiver, sink_of: MakeSink
) -> None:
    receiver.usual = drip(receiver)
    found = fails(sink_of(kind, receiver, timeout_s=0.2))
    assert "within 0.2 s" in str(found)
    assert isinstance(found, Unavailable)


def test_what_drips_is_left_behind_a_bounded_number_of_times(
    receiver: Receiver, sink_of: MakeSink
) -> None:
    receiver.usual = drip(receiver)
    sink = sink_of("slack", receiver, timeout_s=0.2)
    before = threading.active_count()
    said = [str(fails(sink)) for _ in range(20)]
    assert any("have not ended yet" in text for text in said)
    assert threading.active_count() - before <= 2 * 16  # one there and one here, each


class TestPagerduty:
    def test_one_key_from_first_to_last(self, receiver: Receiver, sink_of: MakeSink) -> None:
        sink = sink_of("pagerduty", receiver)
        for what in (notice(), notice(Reason.ACKNOWLEDGED), notice(Reason.REPEAT), over()):
            sink.deliver(what)
        sent = [r.json() for r in receiver.wait(4)]
        assert [e["event_action"] for e in sent] == [
            "trigger",
            "acknowledge",
            "trigger",
            "resolve",
        ]
        assert {e["dedup_key"] for e in sent} == {"gpuwarden/node-1/inc-6b49d200-7"}
        assert {e["routing_key"] for e in sent} == {KEY}
        payload = sent[0]["payload"]
        assert payload["custom_details"]["first_steps"] == list(notice().first_steps)
        assert payload["custom_details"]["more"] == "gpuwarden explain inc-6b49d200-7"
        assert (payload["component"], payload["group"], payload["severity"]) == (
            "GPU-1",
            "hog",
            "critical",
        )

    def test_over_before_it_was_told_stands_on_record(
        self, receiver: Receiver, sink_of: MakeSink
    ) -> None:
        sink_of("pagerduty", receiver).deliver(over(is_news=True))
        assert [r.json()["event_action"] for r in receiver.wait(2)] == ["trigger", "resolve"]

    def test_a_long_key_is_a_short_one_and_stable(
        self, receiver: Receiver, sink_of: MakeSink
    ) -> None:
        sink = sink_of("pagerduty", receiver)
        sink.deliver(notice(key="k" * 999))
        sink.deliver(over(key="k" * 999))
        first, last = (r.json()["dedup_key"] for r in receiver.wait(2))
        assert first == last
        assert len(first) < 100


class TestWebhook:
    def test_is_signed_over_time_and_body(self, receiver: Receiver, sink_of: MakeSink) -> None:
        sink_of("webhook", receiver).deliver(notice())
        (request,) = receiver.wait(1)
        signed = request.headers["x-gpuwarden-timestamp"].encode() + b"." + request.body
        expected = hmac.new(b"wald-und-wiese", signed, hashlib.sha256).hexdigest()
        assert request.headers["x-gpuwarden-signature"] == f"v1={expected}"
        assert request.headers["x-gpuwarden-notice"] == "inc-6b49d200-7/sink/1"
        assert abs(int(request.headers["x-gpuwarden-timestamp"]) - CLOCK.wall()) < 60
        assert request.path == f"/{TOKEN}"

    def test_without_a_secret_it_is_not(self, receiver: Receiver, sink_of: MakeSink) -> None:
        sink_of("webhook", receiver, secret=None).deliver(notice())
        assert "x-gpuwarden-signature" not in receiver.wait(1)[0].headers


class TestAlertmanagers:
    def test_every_replica_is_told_and_one_that_takes_it_is_enough(self, tmp_path: Path) -> None:
        with (
            Receiver("alertmanager") as one,
            Receiver("alertmanager", usual=answer(500)) as two,
            Receiver("alertmanager") as three,
        ):
            urls = [r.url("/prefix") for r in (one, two, three)]
            cfg = OncallConfig.model_validate({"alertmanager": [{"urls": urls}]})
            sink = make_sinks(cfg, Secrets({}), CLOCK, "node-1")["alertmanager"]
            receipt = sink.deliver(notice())
            assert (receipt.text, receipt.missed) == ("2 of 3 replicas", "replica 2: HTTP 500")
            paths = {r.wait(1)[0].path for r in (one, two, three)}
            assert paths == {"/prefix/api/v2/alerts"}
            for receiver in (one, three):
                receiver.usual = answer(400, "no")
            assert isinstance(fails(sink), Unavailable)
            two.usual = answer(400, "no")
            assert isinstance(fails(sink), Refused)

    def test_one_that_hangs_does_not_keep_the_others_waiting(self) -> None:
        with Receiver("alertmanager") as well, Receiver() as ill:
            ill.usual = drip(ill)
            cfg = OncallConfig.model_validate(
                {"alertmanager": [{"urls": [ill.url(), well.url()], "timeout_s": 0.3}]}
            )
            receipt = make_sinks(cfg, Secrets({}), CLOCK, "n")["alertmanager"].deliver(notice())
            assert "replica 1: no answer" in receipt.missed
            assert well.wait(1)

    def test_a_token_is_sent_and_never_told(self, receiver: Receiver, tmp_path: Path) -> None:
        token = secret_file(tmp_path, "token", "sehr-geheim")
        cfg = OncallConfig.model_validate(
            {"alertmanager": [{"urls": [receiver.url()], "token": token}]}
        )
        receiver.usual = answer(403, "sehr-geheim is wrong")
        sink = make_sinks(cfg, Secrets({}), CLOCK, "n")["alertmanager"]
        assert str(fails(sink)) == "replica 1: HTTP 403: (hidden) is wrong"
        assert receiver.wait(1)[0].headers["authorization"] == "Bearer sehr-geheim"


def test_slack_has_nothing_of_a_strangers_name_that_acts(
    receiver: Receiver, sink_of: MakeSink
) -> None:
    sink_of("slack", receiver).deliver(evil())
    said = receiver.wait(1)[0].json()
    assert "<" not in said["text"]
    assert ">" not in said["text"]
    assert {b["text"]["type"] for b in said["blocks"]} == {"plain_text"}


@pytest.mark.parametrize("kind", KINDS)
def test_no_control_or_direction_character_leaves(
    kind: str, receiver: Receiver, sink_of: MakeSink
) -> None:
    sink_of(kind, receiver).deliver(evil())
    text = json.dumps(receiver.wait(1)[0].json(), ensure_ascii=False)
    for bad in ("\x1b", "\u202e", "\u2028", "\x00", "\ud800"):
        assert bad in EVIL
        assert bad not in text


class TestTls:
    AUTHORITY = trustme.CA()

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
        return context

    def test_a_certificate_of_the_operators_own(self, tmp_path: Path, sink_of: MakeSink) -> None:
        self.AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
        with Receiver(tls=self.context()) as receiver:
            sink_of("slack", receiver, ca_file=str(tmp_path / "ca.pem")).deliver(notice())
            assert receiver.wait(1)

    def test_one_nobody_knows_gets_nothing(self, sink_of: MakeSink) -> None:
        with Receiver(tls=self.context()) as receiver:
            assert "CERTIFICATE" in str(fails(sink_of("slack", receiver))).upper()
            assert receiver.requests == []


def test_a_proxy_is_asked_and_the_environment_is_not(
    receiver: Receiver, sink_of: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with Receiver("slack") as proxy:
        sink_of("slack", receiver).deliver(notice())
        assert receiver.wait(1)
        sink_of("slack", receiver, proxy=proxy.url()).deliver(notice())
        assert proxy.wait(1)[0].path.startswith(receiver.url())


@pytest.mark.parametrize(
    "address",
    ["ftp://127.0.0.1/x", "file:///etc/passwd", "sehr-geheim", "http://127.0.0.1:x/geheim"],
)
def test_an_address_that_is_none(address: str, tmp_path: Path) -> None:
    cfg = OncallConfig.model_validate({"slack": [{"url": secret_file(tmp_path, "s", address)}]})
    found = fails(make_sinks(cfg, Secrets({}), CLOCK, "n")["slack"])
    assert isinstance(found, Refused)
    assert "geheim" not in str(found)


def test_a_heartbeat_beats(receiver: Receiver) -> None:
    cfg = OncallConfig.model_validate({"heartbeat_url": receiver.url("/beat")})
    beat = make_heartbeat(cfg, Secrets({}), CLOCK, "node-1")
    assert isinstance(beat, WebHeartbeat)
    beat.beat()
    assert receiver.wait(1)[0].json() == {"host": "node-1", "from": "gpuwarden"}
    receiver.usual = answer(500)
    with pytest.raises(Unavailable, match="HTTP 500"):
        beat.beat()


def test_no_heartbeat_where_none_is_set() -> None:
    assert make_heartbeat(OncallConfig(), Secrets({}), CLOCK, "node-1") is None
