"""A red service wakes people once, through the ways of the fleet; a restart tells nothing twice, its end is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.adapters.receiver import Receiver
from tests.aggregator.centre import Centre
from tests.aggregator.pairs import eventually
from tests.aggregator.services_told import message, window
from tests.aggregator.test_evaluation_service import lately

pytestmark = pytest.mark.timeout(120)
QUICK = {"grace_s": 600, "fold_s": 1, "fold_max_s": 2, "over_s": 2}
SHORT = {
    "guardrail": [{"name": "latency-p99", "over_s": 30, "leave_s": 1, "enter_s": 0}],
}


def hook(receiver: Receiver) -> dict[str, Any]:
    return {"webhook": [{"name": "hook", "url": receiver.url("/"), "timeout_s": 30}]}


def told(receiver: Receiver) -> list[tuple[str, str]]:
    said = [request.json() for request in receiver.requests]
    return [(each["key"], each["reason"]) for each in said]


def claims(centre: Centre) -> list[str]:
    return [each.key for each in centre.parts.fleet.view.claims]


def test_one_page_over_a_restart_and_its_end(tmp_path: Path) -> None:
    with Receiver() as receiver:
        sections: dict[str, Any] = {"sight": QUICK, "oncall": hook(receiver), **SHORT}
        with Centre(tmp_path, **sections) as centre:
            line = centre.line("n1")
            begin = lately()
            line.batch(windows=[message(window(begin, [3.0] * 200), 1)])
            receiver.wait(1)
            ((key, reason),) = told(receiver)
            assert reason == "first"
            assert key.startswith("gpuwarden/fleet-guardrail-chat-latency-p99-")
            said = receiver.requests[0].json()
            assert "service chat: latency-p99 is red" in said["summary"]
            assert "worst on n1" in said["summary"]
            line.close()
        with Centre(tmp_path, **sections) as centre:
            eventually(
                lambda: "guardrail chat latency-p99" in claims(centre), "it knows from the store"
            )
            line = centre.line("n1")
            # Ten thousand quick requests, and the slow two hundred are less than one in a hundred no more.
            line.batch(windows=[message(window(begin, [0.05] * 30_000, revision=1), 2)])
            line.batch(windows=[message(window(begin + 10, [0.05] * 30_000), 3)])
            receiver.wait(2)
            assert told(receiver) == [(key, "first"), (key, "resolved")]
            line.close()
