"""Kernel lines from systemd's journal: followed, resumed by cursor, never trusted; the child is ended by pid."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.adapters.kmsg.export import ENTRY_MAX_BYTES, ExportParser, Garbled
from gpuwarden.adapters.kmsg.journal import FIRST_S, Journal
from gpuwarden.adapters.kmsg.sieve import Counts, Sieve
from gpuwarden.adapters.kmsg.source import CannotRead, Place, Reach, Source
from gpuwarden.clock import SystemClock
from gpuwarden.model.kernel_record import KernelTrust
from tests.adapters.journalctl import FakeJournal
from tests.adapters.kmsg_feed import BOOT, Followed, Opened, xid
from tests.sim.sight import until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fake(tmp_path: Path) -> FakeJournal:
    return FakeJournal(tmp_path)


Make = Callable[..., Opened]


@pytest.fixture
def opens(fake: FakeJournal) -> Iterator[Make]:
    """Opens journals, which end with the test."""
    made: list[Opened] = []

    def make(place: Place | None = None) -> Opened:
        made.append(Opened(lambda s: Journal(str(fake.program), BOOT, SystemClock(), s), place))
        return made[-1]

    yield make
    for opened in made:
        opened.source.close()


def awaited(opened: Opened, count: int) -> list[str]:
    texts: list[str] = []

    def all_there() -> bool:
        texts.extend(opened.texts())
        return len(texts) >= count

    assert until(all_there), texts
    return texts


def at(cursor: str, boot: str = BOOT) -> Place:
    return Place(source="journal", stream=boot, at=cursor)


def test_an_entry_is_a_record_that_is_not_trusted(fake: FakeJournal, opens: Make) -> None:
    """Case 19 of the reliability research."""
    opened = opens()
    fake.add("c1", "usb 1-1: new high-speed USB device")
    fake.add("c2", xid() + "\nsecond line", _SOURCE_MONOTONIC_TIMESTAMP="7000000")
    records = []
    assert until(lambda: bool(records.extend(opened.all())) or len(records) == 1)  # type: ignore[func-returns-value]
    (record,) = records
    assert record.text == xid() + "\nsecond line"
    assert (record.source, record.trust) == ("journal", KernelTrust.UNTRUSTED)
    assert (record.facility, record.level, record.boot_us) == (0, 4, 7_000_000)
    assert record.is_backlog
    assert opened.source.place() == at("c2")
    (call,) = fake.calls()
    assert {"--dmesg", "--follow", "--no-tail", "--output=export"} <= set(call["args"])


def test_the_next_agent_goes_on_after_its_cursor(fake: FakeJournal, opens: Make) -> None:
    fake.add("c1", xid(13))
    fake.add("c2", xid(31))
    opened = opens(at("c1"))
    assert awaited(opened, 1) == [xid(31)]
    fake.add("c3", xid(79))
    assert awaited(opened, 1) == [xid(79)]
    assert opened.source.place() == at("c3")


def test_a_new_boot_begins_with_its_first_entry(fake: FakeJournal, opens: Make) -> None:
    fake.add("c1", xid(13))
    assert awaited(opens(at("c1", boot="another-boot")), 1) == [xid(13)]
    assert not any("--after-cursor" in arg for arg in fake.calls()[0]["args"])


@pytest.mark.parametrize("cursor", ["", "a\0b", "a\nb", "\u00e9", "\udcff", "x" * 5_000])
def test_a_cursor_that_is_none_is_left(fake: FakeJournal, opens: Make, cursor: str) -> None:
    fake.add("c1", xid(13))
    assert awaited(opens(at(cursor)), 1) == [xid(13)]
    assert not any("--after-cursor" in arg for arg in fake.calls()[0]["args"])


def test_a_cursor_that_is_refused_is_left(fake: FakeJournal, tmp_path: Path) -> None:
    fake.set_mode("refuses cursors")
    fake.add("c1", xid(13))
    (tmp_path / "kernel-log.json").write_text(
        f'{{"source": "journal", "stream": "{BOOT}", "at": "gone"}}'
    )
    with Followed(_find(fake), tmp_path) as followed:
        assert followed.has(1)
        assert followed.records[0].text == xid(13)
    assert len(fake.calls()) == 2


def _find(fake: FakeJournal) -> Callable[[Sieve], Source]:
    return lambda sieve: Journal(str(fake.program), BOOT, SystemClock(), sieve)


@pytest.mark.parametrize("facility", [1, 3, 16, None])
def test_what_user_space_wrote_is_forged(
    fake: FakeJournal, opens: Make, facility: int | None
) -> None:
    """The journal takes the word before the first colon for the name of a program."""
    opened = opens()
    text = "Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus."
    fake.add("c1", text, facility, SYSLOG_IDENTIFIER="NVRM")
    fake.add("c2", "GPU at PCI:0000:3b:00: lost", facility, SYSLOG_IDENTIFIER="NVRM")
    fake.add("c3", "Started nvidia-persistenced.service", facility, SYSLOG_IDENTIFIER="systemd")
    fake.add("c4", xid(31))
    assert awaited(opened, 1) == [xid(31)]
    assert opened.counts.forgeries == 2


def test_a_kernel_line_that_quotes_the_driver_is_not_the_drivers(
    fake: FakeJournal, opens: Make
) -> None:
    opened = opens()
    fake.add("c1", f"process '/tmp/x\n{xid()}' started with executable stack")
    fake.add(
        "c2", "NVRM: Xid (PCI:[24541]: segfault at 0 ip 0 sp 0 error 4 in 0000:3b:00): 79,[1+2]"
    )
    fake.add("c3", xid(31))
    assert awaited(opened, 1) == [xid(31)]


@pytest.mark.parametrize(
    "hostile",
    ["\udcff\udcfe" * 100, "\x00" * 100, "\x1b[2J", "NVRM: Xid (\n\n\n", "x" * 100_000, ""],
)
def test_hostile_texts_end_nothing(fake: FakeJournal, opens: Make, hostile: str) -> None:
    opened = opens()
    fake.add("c1", hostile)
    fake.add("c2", xid(31))
    fake.add("c3", hostile)
    fake.add("c4", xid(79))
    assert until(lambda: opened.all() == [] and opened.source.place() == at("c4"))
    assert opened.counts.urgent >= 2


def test_an_entry_without_a_cursor_is_none(fake: FakeJournal, opens: Make) -> None:
    opened = opens()
    fake.add("", xid(31))
    fake.add("c" * 10_000, xid(31))
    fake.add("c1", xid(79))
    assert awaited(opened, 1) == [xid(79)]
    assert opened.counts.garbage == 2


# --- the child ---


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_it_is_ended_and_reaped(fake: FakeJournal, opens: Make) -> None:
    opened = opens()
    assert until(lambda: len(fake.calls()) == 1)
    pid = fake.calls()[0]["pid"]
    assert is_running(pid)
    opened.source.close()
    assert not is_running(pid)


def test_one_that_ends_is_started_again_after_what_was_read(
    fake: FakeJournal, tmp_path: Path
) -> None:
    fake.set_mode("ends")
    fake.add("c1", xid(13))
    with Followed(_find(fake), tmp_path) as followed:
        assert followed.has(1)
        assert followed.until(lambda: any("it has ended" in g.detail for g in followed.view.gaps))
        fake.set_mode("follows")
        fake.add("c2", xid(31))
        assert followed.has(2)
        assert followed.texts() == [xid(13), xid(31)]
        assert "--after-cursor=c1" in fake.calls()[-1]["args"]
        assert followed.until(lambda: followed.view.trust is KernelTrust.UNTRUSTED)
    assert not any(is_running(call["pid"]) for call in fake.calls())


def test_one_that_fails_says_why_in_its_own_words(fake: FakeJournal, opens: Make) -> None:
    fake.set_mode("fails")
    opened = opens()
    said: list[str] = []

    def has_failed() -> bool:
        try:
            opened.pull()
        except CannotRead as error:
            said.append(str(error))
        return bool(said)

    assert until(has_failed)
    assert "Failed to seek to cursor" in said[0]


@pytest.mark.parametrize("mode", ["garbage", "endless"])
def test_one_that_speaks_no_export_is_given_up(fake: FakeJournal, opens: Make, mode: str) -> None:
    fake.set_mode(mode)
    opened = opens()

    def is_given_up() -> bool:
        try:
            opened.pull()
        except CannotRead:
            return True
        return False

    assert until(is_given_up)
    assert opened.counts.garbage == 1


def test_a_journal_that_shows_nothing_is_given_up_after_a_while(
    fake: FakeJournal, opens: Make
) -> None:
    fake.set_mode("hint")
    opened = opens()
    now = SystemClock().now()
    assert opened.pull(now).reach is Reach.EMPTY
    assert 0 < (opened.source.patience_s() or 0) <= FIRST_S

    def is_said() -> bool:
        try:
            opened.pull(now + FIRST_S + 1)
        except CannotRead as error:
            return "Hint: You are currently not seeing" in str(error)
        return False

    assert until(is_said)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    source = Journal(str(tmp_path / "none"), BOOT, SystemClock(), Sieve(Counts()))
    with pytest.raises(CannotRead, match="No such file"):
        source.open(None, is_backlog=True)
    source.close()


# --- the format ---


def exported(fields: list[tuple[str, bytes]], *, is_binary: bool) -> bytes:
    parts = []
    for name, value in fields:
        if is_binary or b"\n" in value:
            parts.append(b"%s\n%s%s\n" % (name.encode(), len(value).to_bytes(8, "little"), value))
        else:
            parts.append(b"%s=%s\n" % (name.encode(), value))
    return b"".join(parts) + b"\n"


NAMES = st.sampled_from(["MESSAGE", "__CURSOR", "PRIORITY", "_X"])
ENTRY = st.dictionaries(NAMES, st.binary(max_size=60), min_size=1)


@given(st.lists(ENTRY, max_size=5), st.integers(1, 50), st.booleans())
def test_entries_come_whole_however_they_are_cut(
    entries: list[dict[str, bytes]], step: int, is_binary: bool
) -> None:
    data = b"".join(exported(list(entry.items()), is_binary=is_binary) for entry in entries)
    parser = ExportParser()
    found: list[Mapping[str, bytes]] = []
    for begin in range(0, len(data), step):
        found += parser.feed(data[begin : begin + step])
    assert found == entries


@given(st.lists(st.binary(max_size=100), max_size=20))
def test_any_bytes_are_entries_or_garbled(parts: list[bytes]) -> None:
    parser = ExportParser()
    try:
        for part in parts:
            list(parser.feed(part))
    except Garbled:
        return


def test_an_entry_has_a_bound() -> None:
    parser = ExportParser()
    for _ in range(ENTRY_MAX_BYTES // 1000):
        assert list(parser.feed(b"x" * 1000)) == []
    with pytest.raises(Garbled):
        list(parser.feed(b"x" * 1000))


# --- the real one ---

REAL = """
import os, signal, sys
from pathlib import Path
from gpuwarden.adapters.kmsg.journal import Journal, find_program
from gpuwarden.adapters.kmsg.sieve import Counts, Sieve
from gpuwarden.clock import SystemClock
from tests.adapters.kmsg_feed import BOOT, Followed
from tests.sim.sight import until

def find(sieve):
    return Journal(find_program(), BOOT, SystemClock(), sieve)

def write(text):
    fd = os.open("/dev/kmsg", os.O_WRONLY)
    os.write(fd, f"<7>{text}\\n".encode())
    os.close(fd)

folder = Path(sys.argv[1])
with Followed(find, folder) as followed:
    assert followed.until(lambda: followed.count("records") > 10), followed.view
    write("gpuwarden-test: before")
    old = followed.count("forgeries")
    write("NVRM: Xid (PCI:0000:3b:00): 79, forged by a test of the journal")
    assert followed.until(lambda: followed.count("forgeries") > old), followed.view
    assert followed.records == []
    assert followed.look().trust == "untrusted"
    child = followed.port._reader._source._process.pid
    followed.port.settle()
assert not Path(f"/proc/{child}").exists()
whole = followed.count("records")
with Followed(find, folder) as followed:
    write("NVRM: Xid (PCI:0000:3b:00): 79, forged again")
    assert followed.until(lambda: followed.count("forgeries") > 0), followed.view
    assert followed.count("records") < whole, "the next agent reads on and not again"

# An agent that is killed leaves no journalctl behind: it sees its reader go.
reading, writing = os.pipe()
agent = os.fork()
if agent == 0:
    source = find(Sieve(Counts()))
    source.open(None, is_backlog=True)
    os.write(writing, str(source._process.pid).encode())
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(agent, 0)
child = int(os.read(reading, 20))
assert until(lambda: not Path(f"/proc/{child}").exists()
             or Path(f"/proc/{child}/stat").read_text().split()[2] == "Z")
print("seen", whole)
"""

JOURNALD = """
set -e
mount --make-rprivate /
for folder in /run/systemd /run/log /var/log/journal; do mkdir -p $folder; mount -t tmpfs none $folder; done
mkdir -p /run/systemd/journal
/lib/systemd/systemd-journald >/dev/null 2>&1 &
journald=$!
trap 'kill $journald; wait $journald || true' EXIT
for _ in $(seq 100); do
    [ -S /run/systemd/journal/socket ] && journalctl -q -k -n 1 2>/dev/null | grep -q . && break
    sleep 0.1
done
"$@"
"""


@pytest.mark.journald
def test_the_real_journal_in_a_mount_namespace_of_its_own(tmp_path: Path) -> None:
    """journald reads the real kernel log; its journal lies in memory, and nobody else sees it."""
    script = tmp_path / "real.py"
    script.write_text(textwrap.dedent(REAL))
    command = ["unshare", "--mount", "bash", "-c", JOURNALD, "journald"]
    ran = subprocess.run(
        [*command, sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "agent")))},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("seen ")
