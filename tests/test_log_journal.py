"""The log in systemd's journal: what is sent, on a real datagram socket; and in a real journal, with its catalogue."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwarden import log, log_journal
from gpuwarden.clock import SystemClock
from gpuwarden.log_journal import SAME_MAX, SAME_S, Folding, Journal, is_stderr, message_id, packed

ROOT = Path(__file__).resolve().parents[1]
CATALOG = ROOT / "systemd" / "gpuwarden.catalog"
WITHIN_S = 30.0


def unpacked(data: bytes) -> dict[str, str]:
    """As journald reads a datagram (systemd: Native Journal Protocol)."""
    found, rest = {}, data
    while rest:
        line, _, rest = rest.partition(b"\n")
        name, is_plain, value = line.partition(b"=")
        if not is_plain:
            size = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + size], rest[8 + size + 1 :]
        found[name.decode()] = value.decode("utf-8", "replace")
    return found


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(path)
        end.settimeout(WITHIN_S)
        yield path, end


@pytest.fixture
def journal(journald: tuple[str, socket.socket]) -> Iterator[Journal]:
    journal = Journal(journald[0], Folding(HANDS))
    yield journal
    journal.close()


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


HANDS = Hands()


def test_an_event_has_its_fields(journal: Journal, journald: tuple[str, socket.socket]) -> None:
    end = journald[1]
    journal.warning(
        event="incident_opened",
        level="warning",
        timestamp="2026-01-01T00:00:00Z",
        incident="inc-1",
        rule="quota",
        tenant=None,
        device="GPU-1",
        text="hog is over quota",
        used=7,
    )
    assert unpacked(end.recv(65536)) == {
        "MESSAGE": "incident_opened incident=inc-1 rule=quota device=GPU-1 "
        "text=hog is over quota used=7",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "gpuwarden",
        "MESSAGE_ID": message_id("incident_opened"),
        "GPUWARDEN_EVENT": "incident_opened",
        "GPUWARDEN_INCIDENT": "inc-1",
        "GPUWARDEN_RULE": "quota",
        "GPUWARDEN_DEVICE": "GPU-1",
        "GPUWARDEN_TEXT": "hog is over quota",
        "GPUWARDEN_USED": "7",
    }


@settings(deadline=None)
@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z_]{0,20}", fullmatch=True), st.text(max_size=50)))
def test_whatever_the_values_no_field_is_forged(fields: dict[str, str]) -> None:
    assert unpacked(packed(fields)) == {
        name: value.encode("utf-8", "replace").decode() for name, value in fields.items()
    }


def test_a_long_event_fits_into_a_datagram(
    journal: Journal, journald: tuple[str, socket.socket]
) -> None:
    end = journald[1]
    journal.info(event="long", level="info", **{f"k{n}": "x" * 5000 for n in range(100)})
    said = unpacked(end.recv(2**20))
    assert said["GPUWARDEN_EVENT"] == "long"
    assert sum(map(len, said.values())) <= log_journal.LINE_MAX_BYTES


def test_equal_lines_are_folded_with_their_count(
    journal: Journal, journald: tuple[str, socket.socket]
) -> None:
    end = journald[1]
    for _ in range(SAME_MAX + 7):
        journal.error(event="commit_failed", level="error", reason="full")
    journal.error(event="commit_failed", level="error", reason="other")
    said = [unpacked(end.recv(65536))["MESSAGE"] for _ in range(SAME_MAX + 1)]
    assert said == ["commit_failed reason=full"] * SAME_MAX + ["commit_failed reason=other"]
    HANDS.now_s += SAME_S + 1
    journal.info(event="well", level="info")
    folded = unpacked(end.recv(65536))
    assert folded["MESSAGE"] == "commit_failed reason=full (and 7 times more)"
    assert folded["MESSAGE_ID"] == message_id("repeated")
    assert unpacked(end.recv(65536))["MESSAGE"] == "well"
    journal.error(event="commit_failed", level="error", reason="full")
    assert unpacked(end.recv(65536))["MESSAGE"] == "commit_failed reason=full"


def test_what_is_remembered_is_bounded() -> None:
    folding = Folding(Hands())
    for number in range(10_000):
        folding.over()
        folding.is_said(str(number))
    assert len(folding._seen) <= log_journal.REMEMBERED_MAX + 1


def test_a_journal_that_is_away_loses_nothing_silently(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "socket"
    journal = Journal(str(path))
    journal.info(event="one", level="info")
    assert journal.lost == 1
    assert capsys.readouterr().err == "one\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(path))
        journal.info(event="two", level="info")
        assert unpacked(end.recv(65536))["GPUWARDEN_LOST"] == "1"
    assert journal.lost == 0
    journal.close()


def test_only_where_stderr_is_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    status = os.fstat(2)
    assert is_stderr({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    assert not is_stderr({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
    assert not is_stderr({})
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    log.configure_log("console")
    assert structlog.get_config()["processors"][-1].__class__.__name__ == "KeyValueRenderer"


def entries() -> dict[str, str]:
    """Event -> id of the catalogue."""
    return {
        name: ident
        for name, ident in re.findall(
            r"^# ([a-z_]+)\n-- ([0-9a-f]{32})$", CATALOG.read_text(), re.MULTILINE
        )
    }


def test_the_catalogue_is_of_events_that_there_are() -> None:
    said = entries()
    assert len(said) == CATALOG.read_text().count("\n-- ") > 15
    source = "\n".join(p.read_text() for p in (ROOT / "agent/gpuwarden").rglob("*.py"))
    for event, ident in said.items():
        assert ident == message_id(event)
        assert f'"{event}"' in source, event


# --- a real journal ---

SCRIPT = """
import sys
from gpuwarden.log import configure_log, get_log
configure_log("console")
get_log().warning("incident_opened", incident=sys.argv[1], rule="quota", device="GPU-7", tenant="docker:x",
                  text="hog is over quota\\nforged=line")
get_log().info("agent_started", mode="observe", version="0")
"""


def journalctl(*words: str) -> str:
    done = subprocess.run(
        ["journalctl", "--no-pager", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


@pytest.mark.systemd
def test_in_a_real_journal_with_its_explanation() -> None:
    incident = f"inc-{uuid.uuid4().hex[:8]}"
    installed = Path("/usr/lib/systemd/catalog/gpuwarden.catalog")
    installed.write_text(CATALOG.read_text())
    try:
        subprocess.run(["journalctl", "--update-catalog"], check=True, timeout=60)
        environ = f"--setenv=PYTHONPATH={ROOT}/agent"
        command = [sys.executable, "-c", SCRIPT, incident]
        subprocess.run(
            ["systemd-run", "--wait", "--quiet", "--collect", environ, *command],
            check=True,
            timeout=60,
        )
        wanted = (f"MESSAGE_ID={message_id('incident_opened')}", f"GPUWARDEN_INCIDENT={incident}")
        end, clock = SystemClock().now() + WITHIN_S, SystemClock()
        while not (found := journalctl(*wanted, "-o", "json")) and clock.now() < end:
            clock.sleep(0.1)
        entry = json.loads(found)
        assert entry["GPUWARDEN_EVENT"] == "incident_opened"
        assert (entry["GPUWARDEN_RULE"], entry["GPUWARDEN_DEVICE"]) == ("quota", "GPU-7")
        assert (entry["GPUWARDEN_TENANT"], entry["PRIORITY"]) == ("docker:x", "4")
        assert entry["_TRANSPORT"] == "journal"
        explained = journalctl(*wanted, "-x")
        assert "Subject: An incident begins: hog is over quota" in explained
        assert f"Next: gpuwarden explain {incident}" in explained
        assert "Rule quota has opened incident" in explained
    finally:
        installed.unlink()
        subprocess.run(["journalctl", "--update-catalog"], check=True, timeout=60)
