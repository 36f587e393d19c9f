"""The real Alertmanager: what it takes, keeps, notifies and lets go of."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.adapters.sinks.alertmanager import alerts, labels
from gpuwarden.adapters.sinks.make import make_sinks
from gpuwarden.clock import SystemClock
from gpuwarden.config_oncall import OncallConfig
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.oncall import Notice, Reason
from gpuwarden.ports_oncall import Sink
from tests.adapters import alertmanagers
from tests.adapters.alertmanagers import WITHIN_S, Alertmanager, free_ports
from tests.adapters.receiver import Receiver
from tests.adapters.sink_notices import WALL, evil, notice, over

CLOCK = SystemClock()
Value = TypeVar("Value")


def until(what: str, ask: Callable[[], Value]) -> Value:
    end = CLOCK.now() + WITHIN_S
    while not (answer := ask()):
        assert CLOCK.now() < end, f"never came true: {what}"
        CLOCK.sleep(0.05)
    return answer


def now(make: Callable[..., Notice] = notice, *args: Any, **rest: Any) -> Notice:
    """A message of this very moment."""
    wall = CLOCK.wall()
    own = {"opened_wall": wall - 30, **rest.pop("brief", {})}
    if make is over:
        own["closed_wall"] = wall - 1
    return make(*args, wall=wall, brief=own, **rest)


def sink_of(*urls: str, resend_s: float = 60.0) -> Sink:
    cfg = OncallConfig.model_validate(
        {"alertmanager": [{"urls": list(urls), "resend_s": resend_s, "timeout_s": 20}]}
    )
    return make_sinks(cfg, Secrets({}), CLOCK, "node-1")["alertmanager"]


def told(hook: Receiver) -> list[str]:
    """What was notified: the status of each alert in each notification."""
    return [a["status"] for r in hook.requests for a in r.json()["alerts"]]


class TestAlerts:
    """What is posted, as a value."""

    def test_a_worse_one_ends_the_milder(self) -> None:
        mild, worst = alerts(notice(severities=("error", "critical")), 60.0)
        assert (mild["labels"]["severity"], worst["labels"]["severity"]) == ("error", "critical")
        assert mild["endsAt"] == "2027-01-15T08:00:00.000Z"
        assert worst["endsAt"] == "2027-01-15T08:04:00.000Z"

    def test_no_value_and_no_id_of_an_event_makes_it_another(self) -> None:
        one, two = notice(), notice(Reason.REPEAT, id="x", wall=WALL + 999)
        assert labels(one, "error") == labels(two, "error")
        assert not any("inc-" in text for text in labels(one, "error").values())

    def test_labels_are_whole_short_and_not_empty(self) -> None:
        for text in labels(evil(), "error").values():
            assert text.strip()
            assert text.isprintable()
            assert len(text) <= 200

    @pytest.mark.parametrize("closed_wall", [WALL - 5, WALL - 10_000, WALL + 10_000])
    def test_never_ends_before_it_started_nor_in_the_future(self, closed_wall: float) -> None:
        (alert,) = alerts(over(brief={"closed_wall": closed_wall}), 60.0)
        starts, ends = (datetime.fromisoformat(alert[k]) for k in ("startsAt", "endsAt"))
        assert starts <= ends
        assert ends.timestamp() <= WALL

    @pytest.mark.parametrize("wall", [0.0, -5.0, 2**60])
    def test_a_clock_that_is_wrong_is_still_a_time(self, wall: float) -> None:
        for what in (notice(wall=wall), over(wall=wall, brief={"opened_wall": wall})):
            for alert in alerts(what, 60.0):
                datetime.fromisoformat(alert["startsAt"])


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture
def alertmanager(tmp_path: Path, hook: Receiver) -> Iterator[Alertmanager]:
    made = Alertmanager(tmp_path / "am", hook.url()).start()
    yield made
    made.stop()


@pytest.mark.alertmanager
class TestReal:
    def test_one_alert_one_notification_and_its_end(
        self, alertmanager: Alertmanager, hook: Receiver
    ) -> None:
        sink = sink_of(alertmanager.url)
        assert sink.deliver(now()).text == "1 of 1 replicas"
        sink.deliver(now(notice, Reason.REFRESH))
        (alert,) = until("it is held", alertmanager.alerts)
        assert alert["labels"]["alertname"] == "GpuwardenQuota"
        assert alert["labels"]["node"] == "node-1"
        assert alert["annotations"]["first_steps"].count("\n") == 2
        assert "hog cannot be ended" in alert["annotations"]["summary"]
        until("somebody is told", lambda: told(hook) == ["firing"])
        sink.deliver(now(over))
        until("its end is told", lambda: told(hook) == ["firing", "resolved"])
        assert alertmanager.alerts() == []

    def test_is_kept_alive_by_being_sent_again_and_ends_without(
        self, alertmanager: Alertmanager, hook: Receiver
    ) -> None:
        sink = sink_of(alertmanager.url, resend_s=1.0)
        sink.deliver(now())
        for _ in range(12):
            CLOCK.sleep(0.5)  # longer in all than it lives by itself
            sink.deliver(now(notice, Reason.REFRESH))
        assert len(alertmanager.alerts()) == 1
        assert told(hook) == ["firing"]
        until("it ends by itself", lambda: told(hook) == ["firing", "resolved"])

    def test_a_worse_one_is_one_alert(self, alertmanager: Alertmanager, hook: Receiver) -> None:
        sink = sink_of(alertmanager.url)
        sink.deliver(now(severity="error", severities=("error",)))
        until("somebody is told", lambda: told(hook))
        sink.deliver(now(severities=("error", "critical")))
        until(
            "only the worse one stands",
            lambda: [a["labels"]["severity"] for a in alertmanager.alerts()] == ["critical"],
        )

    def test_over_before_it_was_told_is_told_and_ends(
        self, alertmanager: Alertmanager, hook: Receiver
    ) -> None:
        sink_of(alertmanager.url, resend_s=1.0).deliver(now(over, is_news=True))
        until("both are told", lambda: told(hook) == ["firing", "resolved"])

    def test_takes_what_strangers_are_called(
        self, alertmanager: Alertmanager, hook: Receiver
    ) -> None:
        wall = CLOCK.wall()
        sink_of(alertmanager.url).deliver(evil(wall=wall))
        (alert,) = until("it is held", alertmanager.alerts)
        assert all(text.isprintable() for text in alert["labels"].values())

    def test_refuses_what_is_wrong_and_says_why(self, alertmanager: Alertmanager) -> None:
        body = json.dumps([{"labels": {}}]).encode()
        request = urllib.request.Request(
            f"{alertmanager.url}/api/v2/alerts",
            data=body,
            headers={"Content-Type": "application/json"},
        )
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(request, timeout=10)
        with raised.value:
            assert raised.value.code == 400
        with pytest.raises(Refused, match=r"replica 1: HTTP 404"):
            sink_of(f"{alertmanager.url}/nowhere").deliver(now())

    def test_down_and_up_again_notifies_once(
        self, alertmanager: Alertmanager, hook: Receiver
    ) -> None:
        """It forgets its alerts when it is started again, but not what it has notified."""
        sink = sink_of(alertmanager.url)
        sink.deliver(now())
        until("somebody is told", lambda: told(hook) == ["firing"])
        CLOCK.sleep(2.5)  # its own log of notifications is written every second
        alertmanager.stop()
        with pytest.raises(Unavailable, match="Connection refused"):
            sink.deliver(now(notice, Reason.REFRESH))
        alertmanager.start()
        assert alertmanager.alerts() == []
        sink.deliver(now(notice, Reason.REFRESH))
        until("it is held again", alertmanager.alerts)
        sink.deliver(now(over))
        until("its end is told", lambda: told(hook)[-1:] == ["resolved"])
        assert told(hook) == ["firing", "resolved"]


@pytest.mark.alertmanager
def test_two_replicas_that_know_of_each_other_notify_once(tmp_path: Path, hook: Receiver) -> None:
    ports = free_ports(2)
    pair = [
        Alertmanager(tmp_path / str(n), hook.url(), gossip=ports[n], peer=ports[1 - n]).start()
        for n in range(2)
    ]
    try:
        sink = sink_of(*(each.url for each in pair))
        assert sink.deliver(now()).text == "2 of 2 replicas"
        for each in pair:
            until("both hold it", each.alerts)
        until("somebody is told", lambda: told(hook))
        CLOCK.sleep(3.0)  # the second waits a second before it would notify too
        assert told(hook) == ["firing"]
        pair[0].stop()
        receipt = sink.deliver(now(notice, Reason.REFRESH))
        assert receipt.text == "1 of 2 replicas"
        assert receipt.missed.startswith("replica 1: Connection refused")
        sink.deliver(now(over))
        until("its end is told", lambda: told(hook)[-1] == "resolved")
    finally:
        for each in pair:
            each.stop()


@pytest.mark.alertmanager
def test_the_pair_of_the_services_takes_an_alert() -> None:
    urls = os.environ.get("ALERTMANAGER_URLS", "").split()
    if not urls:
        pytest.skip("no private Alertmanager (scripts/services up alertmanager)")
    gpu = f"GPU-{os.getpid()}"
    sink = sink_of(*urls)
    assert sink.deliver(now(brief={"device": gpu})).text == "2 of 2 replicas"
    try:
        for url in urls:
            found = [a for a in alertmanagers.alerts(url) if a["labels"].get("gpu") == gpu]
            assert len(found) == 1
            shown = subprocess.run(
                ["amtool", f"--alertmanager.url={url}", "alert", "query", f"gpu={gpu}"],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout
            assert "GpuwardenQuota" in shown
    finally:
        sink.deliver(now(over, brief={"device": gpu}))
