"""What an operator says to a running agent, through its socket: ack, silence, notify; and who may not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gpuwarden.adapters.node_client import Explained
from gpuwarden.clock import SystemClock
from gpuwarden.commands.explain import story
from gpuwarden.commands.output import Out
from gpuwarden.model.decision import Incident, IncidentStep
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import OncallState, SinkState
from tests.adapters.node_socket import AS_NOBODY, ROOT, run_folder, serving, socket_of
from tests.adapters.sink_notices import EVIL
from tests.adapters.view_board import Board
from tests.commands.cli_run import AWAY, run
from tests.moved_view import moved
from tests.node.test_notifier import open_incident
from tests.policy.notify_stage import oncall
from tests.sample_view import device_id, view
from tests.simulated.oncall import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path, oncall("pagerduty", "slack"))
    open_incident(made)
    return made.run(3)


@pytest.fixture
def address(desk: Desk) -> Iterator[str]:
    board = Board(moved(view(), SystemClock().now()))
    # The served agent lives in this process: what it logs is not what the verb says.
    with capture_logs(), run_folder() as folder, serving(folder, board, oncall=desk.people()):
        yield str(socket_of(folder))


def test_ack(address: str, desk: Desk) -> None:
    said = run("ack", "inc-1", "-m", "on it", "--socket", address)
    assert (said.exit_code, said.output) == (0, "acknowledged: inc-1\n")
    assert desk.audit.entries[0].verb == "ack"
    again = run("ack", "last", "--socket", address, "--json")
    assert json.loads(again.output)["acknowledged"] == ["inc-1"]
    desk.run(3)
    assert [r for _, r in desk.sinks["slack"].heard] == ["first", "acknowledged"]


def test_silence_add_list_expire(address: str, desk: Desk) -> None:
    words = ("--device", "3", "--rule", "sight", "--for", "2h", "--reason", "known bad")
    made = run("silence", "add", *words, "--socket", address, "--json")
    assert made.exit_code == 0
    silence = json.loads(made.output)["silence"]
    assert silence["matcher"]["device"] == device_id(3)
    assert round(silence["until_wall"] - silence["since_wall"]) == 7200
    listed = run("silence", "list", "--socket", address, width=160)
    assert listed.exit_code == 0
    for word in (silence["id"], "known bad", "rule sight"):
        assert word in listed.output
    assert run("silence", "expire", silence["id"], "--socket", address).exit_code == 0
    assert run("silence", "list", "--socket", address).output == "no silences\n"
    assert [e.verb for e in desk.audit.entries] == ["silence add", "silence expire"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--for", "2h", "--reason", "x"), 2, "at least one of"),
        (("--rule", "x", "--reason", "x"), 2, "--for"),
        (("--rule", "x", "--for", "2h"), 2, "--reason"),
        (("--rule", "x", "--for", "2y", "--reason", "x"), 2, "duration such as 10s"),
        (("--rule", "x", "--for", "400d", "--reason", "x"), 1, "up to 90 days"),
        (("--device", "77", "--for", "2h", "--reason", "x"), 1, "there is no GPU 77"),
    ],
)
def test_what_is_no_silence(words: tuple[str, ...], code: int, said: str, address: str) -> None:
    result = run("silence", "add", *words, "--socket", address)
    assert result.exit_code == code
    assert said in result.stderr


def test_notify_test(address: str, desk: Desk) -> None:
    said = run("notify", "test", "slack", "--socket", address)
    assert (said.exit_code, said.output) == (0, "slack: taken\n")
    desk.sinks["slack"].mood = "refuses"
    said = run("notify", "test", "slack", "--socket", address)
    assert (said.exit_code, said.stderr) == (1, "Error: HTTP 400: no\n")
    desk.sinks["slack"].mood = "down"
    said = run("notify", "test", "slack", "--socket", address)
    assert (said.exit_code, said.stderr) == (1, "Error: Connection refused\n")
    said = run("notify", "test", "fax", "--socket", address)
    assert (said.exit_code, "known: pagerduty, slack" in said.stderr) == (1, True)


@pytest.mark.parametrize(
    "words",
    [("ack", "last"), ("silence", "list"), ("silence", "expire", "x"), ("notify", "test", "slack")],
)
def test_an_agent_that_is_away(words: tuple[str, ...]) -> None:
    assert run(*words, "--socket", AWAY).exit_code == 3


def test_an_agent_that_is_older_than_the_command() -> None:
    board = Board(moved(view(), SystemClock().now()))
    with run_folder() as folder, serving(folder, board):
        said = run("ack", "last", "--socket", str(socket_of(folder)))
    assert (said.exit_code, "older than this command" in said.stderr) == (1, True)


@pytest.mark.root
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("ack", "last"), 1),
        (("silence", "add", "--rule", "x", "--for", "1h", "--reason", "x"), 1),
        (("silence", "expire", "x"), 1),
        (("notify", "test", "slack"), 1),
        (("silence", "list"), 0),
    ],
)
def test_who_is_no_operator_may_look_but_not_speak(
    words: tuple[str, ...], code: int, address: str, desk: Desk
) -> None:
    asked = subprocess.run(
        [*AS_NOBODY, sys.executable, "-m", "gpuwarden", *words, "--socket", address],
        env={"PYTHONPATH": f"{ROOT / 'agent'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert asked.returncode == code, asked.stderr
    if code:
        assert "may look but not act" in asked.stderr
    assert desk.audit.entries == []


class TestShown:
    """What status and explain tell of on-call."""

    def test_sinks_that_fail_and_silences(self) -> None:
        picture = moved(view(), SystemClock().now())
        wall = picture.snapshot.wall
        state = OncallState(
            sinks=(
                SinkState(name="pagerduty", kind="pagerduty", ok_wall=wall - 60),
                SinkState(
                    name="slack", kind="slack", due=3, failing_wall=wall - 720, detail=EVIL[:60]
                ),
                SinkState(name="mail", kind="email"),
            )
        )
        board = Board(replace(picture, oncall=state))
        with run_folder() as folder, serving(folder, board):
            shown = run("status", "--socket", str(socket_of(folder)), width=160).output
        rows = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
        assert "ok" in rows["pagerduty"]
        assert "1 min 00 s ago" in rows["pagerduty"]
        assert "fails for 12 min 00 s" in rows["slack"]
        assert "not used yet" in rows["mail"]
        assert "\x1b" not in shown

    @pytest.mark.parametrize(
        ("steps", "said"),
        [
            ([("notify", "delivered", "first to pd: HTTP 202")], "first to pd, "),
            ([("notify", "failed", "first to pd: HTTP 500")], "nobody could be told yet"),
            ([("notify", "held", "silenced: sil-1 of ann: known")], "held back (silenced"),
            ([("page", "done", "blind")], "nobody yet"),
            (
                [
                    ("notify", "delivered", "first to pd: HTTP 202"),
                    ("notify", "delivered", "acknowledged by ann: on it"),
                ],
                "acknowledged by ann: on it",
            ),
        ],
    )
    def test_whether_a_person_was_reached(
        self, steps: list[tuple[str, str, str]], said: str
    ) -> None:
        incident = Incident(
            id=IncidentId("inc-1"),
            rule="sight",
            summary="s",
            opened_at=0.0,
            opened_wall=1.8e9,
            steps=tuple(
                IncidentStep(at=1.0, wall=1.8e9, kind=k, result=r, text=t) for k, r, t in steps
            ),
        )
        out = Out(is_json=False, has_color=False)
        parts = story(Explained(incident=incident, tenant=None, withheld=()), out)
        with out.console.capture() as capture:
            out.show(parts)
        (told,) = [line for line in capture.get().splitlines() if line.startswith("Told")]
        assert said in told
