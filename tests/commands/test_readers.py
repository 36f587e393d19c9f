"""What the verbs show of a running agent: tables at two widths, JSON, exit codes."""

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwarden.adapters.node_client import Explained
from gpuwarden.clock import SystemClock
from gpuwarden.commands import explain, panes, status, tenants
from gpuwarden.commands.output import Out, jsonable
from gpuwarden.model.action import Kind, Withheld
from gpuwarden.model.decision import IncidentStep
from gpuwarden.model.device import Sight
from gpuwarden.model.finding import Severity
from gpuwarden.model.ids import IncidentId, TenantId
from gpuwarden.model.status import View
from gpuwarden.model.tenant import TenantClass
from tests.adapters.node_socket import run_folder, serving, socket_of
from tests.adapters.view_board import Board
from tests.commands.cli_run import AWAY, run, start
from tests.moved_view import moved
from tests.sample_view import INCIDENT, view
from tests.sample_view import tenants as sample_tenants

GOLDEN = Path(__file__).parent.parent / "golden" / "cli"
DEADLINE_S = 30.0
READERS: dict[str, tuple[list[str], int]] = {
    "status": (["status"], 1),
    "gpus": (["gpus"], 1),
    "tenants": (["tenants"], 1),
    "top": (["top", "--once"], 0),
    "events": (["events"], 0),
    "incidents": (["incidents"], 1),
    "explain": (["explain", INCIDENT], 0),
}
"""Verb -> arguments, exit code for the sample (a node in trouble)."""


def well() -> View:
    """A node with nothing to report."""
    picture = view()
    good = picture.snapshot.devices[1]
    snapshot = replace(
        picture.snapshot,
        devices=(good,),
        tenants=sample_tenants()[1:2],
        uses=(),
        services=(),
        gaps=(),
        unattributed=(),
        events=(),
    )
    return replace(
        picture,
        snapshot=snapshot,
        agent=replace(picture.agent, degraded=()),
        findings=(),
        incidents=(),
        cases=(),
        withheld=(),
    )


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def board() -> Board:
    return Board(moved(view(), SystemClock().now()))


@pytest.fixture
def address(board: Board) -> Iterator[str]:
    with run_folder() as folder, serving(folder, board):
        yield str(socket_of(folder))


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("verb", READERS)
def test_tables_look_as_they_were_looked_at(verb: str, width: int, address: str) -> None:
    """To accept a change: GPUWARDEN_GOLDEN=write pytest ..., then look at the files."""
    arguments, code = READERS[verb]
    result = run(*arguments, "--socket", address, width=width)
    assert result.exit_code == code
    golden = GOLDEN / f"{verb}_{width}.txt"
    shown = result.output
    if os.environ.get("GPUWARDEN_GOLDEN") == "write":
        golden.write_text(shown)
    assert shown == golden.read_text()
    assert max(len(line) for line in result.output.splitlines()) <= width + 5


@pytest.mark.parametrize("verb", READERS)
def test_json_is_one_document_and_the_same_exit_code(verb: str, address: str) -> None:
    arguments, code = READERS[verb]
    result = run(*arguments, "--socket", address, "--json")
    assert result.exit_code == code
    assert result.output == run(*arguments, "--socket", address, "-o", "json").output
    documents = [json.loads(line) for line in result.output.splitlines()]
    assert all(document["schema"] == 1 for document in documents)
    assert len(documents) == (10 if verb == "events" else 1)


def test_json_of_explain_holds_what_the_table_shows(address: str) -> None:
    document = json.loads(run("explain", "last", "--socket", address, "--json").output)
    assert document["incident"]["id"] == INCIDENT
    assert document["tenant"]["class"] == "low"
    assert document["withheld"][0]["budget"] == "one_per_device"
    assert [step["kind"] for step in document["incident"]["steps"]][:2] == ["opened", "decided"]
    assert len(document["incident"]["points"]) == 12


@pytest.mark.parametrize("verb", ["status", "gpus", "tenants", "incidents"])
def test_a_node_that_is_well_ends_with_nothing_to_report(
    verb: str, board: Board, address: str
) -> None:
    board.publish(moved(well(), SystemClock().now()))
    result = run(verb, "--socket", address)
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_loop_that_hangs_is_a_problem(board: Board, address: str) -> None:
    board.publish(moved(well(), SystemClock().now() - 60))
    result = run("status", "--socket", address)
    assert result.exit_code == 1
    assert "no tick for 1 min 00 s" in result.output


@pytest.mark.parametrize("verb", READERS)
def test_an_agent_that_is_away_is_exit_code_three(verb: str) -> None:
    result = run(*READERS[verb][0], "--socket", AWAY)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert f"no agent at {AWAY}" in result.stderr


def test_an_agent_without_a_first_tick_is_not_reachable_yet() -> None:
    with run_folder() as folder, serving(folder, Board()):
        result = run("status", "--socket", str(socket_of(folder)))
    assert result.exit_code == 3
    assert "no tick has finished yet" in result.stderr


def test_an_incident_that_is_not_there_is_a_problem_not_a_lost_agent(address: str) -> None:
    result = run("explain", "inc-nope", "--socket", address)
    assert result.exit_code == 1
    assert "no incident inc-nope" in result.stderr


def test_the_socket_may_come_from_the_environment(address: str) -> None:
    assert run("gpus", env={"GPUWARDEN_SOCKET": address}).exit_code == 1


def test_only_open_incidents(address: str) -> None:
    result = run("incidents", "--open", "--socket", address, "--json")
    assert [each["id"] for each in json.loads(result.output)["incidents"]] == ["inc-0b1f3c2a-9"]
    result = run("incidents", "--limit", "1", "--socket", address)
    assert "1 more" in result.output


def test_following_events_tells_each_once_and_ends_on_interrupt(board: Board, address: str) -> None:
    following = start("events", "--follow", "--lines", "2", "--json", "--socket", address)
    try:
        assert following.stdout is not None
        seen = [json.loads(following.stdout.readline())["event"] for _ in range(2)]
        assert [event["kind"] for event in seen] == ["kill", "closed"]
        first, *others = board.view().incidents
        step = IncidentStep(
            at=first.opened_at + 9,
            wall=first.opened_wall + 9,
            kind="page",
            text="on call",
            result="ordered",
        )
        for serial, result in ((2, "ordered"), (3, "done")):
            told = replace(first, steps=(*first.steps, replace(step, result=result)))
            board.publish(replace(board.view(), serial=serial, incidents=(told, *others)))
            event = json.loads(following.stdout.readline())["event"]
            assert (event["kind"], event["result"]) == ("page", result)
        following.send_signal(signal.SIGINT)
        rest, errors = following.communicate(timeout=DEADLINE_S)
        assert (rest, errors, following.returncode) == ("", "", 0)
    finally:
        following.kill()
        following.communicate()


def test_watching_shows_again_and_ends_on_interrupt(board: Board, address: str) -> None:
    watching = start("status", "--watch", "0.1", "--json", "--socket", address)
    try:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["view"]["serial"] == 1
        board.publish(moved(view(2), SystemClock().now()))
        assert json.loads(watching.stdout.readline())["view"]["serial"] == 2
        watching.send_signal(signal.SIGINT)
        _, errors = watching.communicate(timeout=DEADLINE_S)
        assert (errors, watching.returncode) == ("", 1)
    finally:
        watching.kill()
        watching.communicate()


def test_a_watch_ends_with_the_agent(board: Board) -> None:
    with run_folder() as folder, serving(folder, board):
        watching = start("gpus", "-w", "0.1", "--json", "--socket", str(socket_of(folder)))
        assert watching.stdout is not None
        watching.stdout.readline()
    _, errors = watching.communicate(timeout=DEADLINE_S)
    assert watching.returncode == 3
    assert "Error:" in errors


def test_without_unicode_lines_are_drawn_in_ascii(address: str) -> None:
    asked = start("gpus", "--socket", address, env={"PYTHONIOENCODING": "ascii"})
    shown, _ = asked.communicate(timeout=DEADLINE_S)
    assert asked.returncode == 1
    assert "#########. 37.0/40.0 GiB" in shown


def out() -> Out:
    return Out(is_json=False, has_color=False)


@settings(max_examples=50, deadline=None)
@given(st.text(), st.text(), st.text())
def test_hostile_names_stay_names(name: str, summary: str, step: str) -> None:
    """What a stranger calls itself is shown, never interpreted: no markup, no escape sequence."""
    picture = view()
    hog = replace(
        picture.snapshot.tenants[0], name=name, id=TenantId(step), policy_faults=(summary,)
    )
    told = replace(
        picture.incidents[0],
        summary=summary,
        tenant_name=name,
        advice=(name,),
        evidence=((name, step),),
        steps=(IncidentStep(at=0, wall=0, kind=step, text=name, result=summary),),
    )
    picture = replace(
        picture,
        snapshot=replace(picture.snapshot, tenants=(hog,)),
        incidents=(told,),
    )
    explained = Explained(incident=told, tenant=hog, withheld=picture.withheld)
    screen = out()
    with screen.console.capture() as capture:
        screen.show(status.picture(picture, screen, picture.at))
        screen.show(tenants.picture(picture, screen))
        screen.show(explain.story(explained, screen))
    assert all(each.isprintable() or each == "\n" for each in capture.get())


def test_what_is_withheld_still_is_told_once() -> None:
    picture = view()
    (incident,) = (i for i in picture.incidents if i.id == INCIDENT)
    (step,) = (s for s in incident.steps if s.kind == "withheld")
    still = Withheld(
        kind=Kind.KILL,
        incident=incident.id,
        tenant=None,
        device=None,
        budget=step.action,
        detail="train is within its quota",
    )
    screen = out()
    rows = []
    for withheld in ((), (still,)):
        with screen.console.capture() as capture:
            screen.show(
                explain.story(Explained(incident=incident, tenant=None, withheld=withheld), screen)
            )
        rows.append([x for x in capture.get().splitlines() if "train is within" in x])
    (before,), (after,) = rows
    assert "+0.31 s " in before
    assert "+0.31 s on" in after


def test_markup_in_a_name_is_text() -> None:
    screen = out()
    with screen.console.capture() as capture:
        screen.show(["[red]not red[/red]"])
    assert capture.get() == "[red]not red[/red]\n"


def test_plain_data_of_everything() -> None:
    data = jsonable(
        {("a", "b"): (1, float("nan"), TenantClass.BEST_EFFORT, Severity.ERROR, Path("/x"))}
    )
    assert data == {"a/b": [1, None, "best-effort", "error", "/x"]}
    json.dumps(jsonable(view()), allow_nan=False)


def test_many_points_keep_the_peak_and_the_last() -> None:
    points = [(float(number), number if number != 501 else 9_999) for number in range(1000)]
    some = explain._some(points, 8)
    assert len(some) <= 8
    assert some[-1] == points[-1]
    assert (501.0, 9_999) in some


def test_problems_name_what_is_wrong() -> None:
    found = panes.problems(view(), view().at)
    assert found == [
        "batch-embed-nightly: 23.0 GiB of 8.0 GiB on GPU 0",
        "GPU 3 has not answered for 42 s",
        "service risk is red",
        "/var/run/docker.sock: unavailable",
        "docker: unavailable",
    ]
    assert panes.problems(well(), well().at) == []


def test_a_trouble_is_counted_once() -> None:
    """A blind device is a device, a claim and an incident: one trouble. Without a claim it still is."""
    picture = view()
    bare = replace(picture, findings=(), incidents=(), agent=replace(picture.agent, degraded=()))
    assert panes.problems(bare, picture.at) == [
        "GPU 3 is blind",
        "service risk is red",
        "/var/run/docker.sock: unavailable",
    ]
    left = replace(
        picture.incidents[1], id=IncidentId("inc-1"), rule="quota", summary="told nowhere"
    )
    assert panes.problems(replace(bare, incidents=(left,)), picture.at)[-1] == (
        "incident inc-1 is open: told nowhere"
    )


def test_an_old_size_is_not_told_as_the_present_one() -> None:
    """The device does not answer any more: what its tenants hold is not known."""
    picture = view()
    devices = tuple(replace(d, sight=Sight.BLIND) for d in picture.snapshot.devices)
    blind = replace(picture, snapshot=replace(picture.snapshot, devices=devices))
    screen = out()
    with screen.console.capture() as capture:
        screen.show([panes.tenant_table(blind, screen)])
    shown = capture.get()
    assert "23.0 GiB" not in shown
    assert "not seen 300 ms" in shown


def test_without_an_agent_the_journal_of_this_host_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(f'[agent]\nstate_dir = "{tmp_path}/kept"\n')
    monkeypatch.setenv("GPUWARDEN_CONFIG", str(config))
    result = run("explain", "last", "--socket", str(tmp_path / "none.sock"))
    assert result.exit_code == 3
    assert f"--journal {tmp_path}/kept/journal" in result.stderr
    assert "systemctl status gpuwarden-agent" in result.stderr


def test_an_id_that_begins_several_is_refused(address: str) -> None:
    result = run("explain", "inc-0b1f", "--socket", address)
    assert result.exit_code == 1
    assert "fits 2 incidents" in result.stderr
