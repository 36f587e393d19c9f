"""Bad input gets a clear error and nothing is lost: configuration, journal, driver, disk, rights."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.model.decision import NoteKind
from gpuwarden.node.journal import segments
from gpuwarden.sim.host import SimHost, Workload
from tests.e2e.agent import AS_NOBODY, CLOCK, NOBODY, Agent, MakeAgent, MakeHost

pytestmark = pytest.mark.serial

WITHOUT_READING = ("setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search")
HOG = """
[[tenant]]
match = {comm = "workload"}
class = "low"
memory = "8GiB"
grace = "200ms"
"""


def start_hog(host: SimHost, *more: str) -> Workload:
    return host.start_workload("hog", "--size", "12GiB", "--rate", "30GiB/s", *more, wait=False)


def evict_one(host: SimHost, agent: Agent) -> None:
    """A whole eviction, from the start of a hog to the end of its incident."""
    before = len(agent.diary.notes(NoteKind.CLOSED))
    hog = start_hog(host)
    agent.until("the hog is gone", lambda: not hog.is_running())
    agent.until_closed(before + 1)


# --- what a process needs ---

NO_ROOM_FOR_A_STACK = ("prlimit", "--stack=70368744177664:unlimited")
"""A stack of 64 TiB for each thread, which no machine has room for: none but the first can be started."""


def test_without_threads_it_ends_and_says_what_to_raise(make_agent: MakeAgent) -> None:
    agent = make_agent(before=NO_ROOM_FOR_A_STACK)
    agent.launch()
    assert agent.ended() == 1
    assert "no thread can be started: TasksMax of the unit" in agent.log()


# --- configuration ---


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[quota]\nsoft_hold = '10s'\n", ["conf.d/test.toml:2", "soft_hold", "soft_hold_s"]),
        ("[ladders]\n", ["conf.d/test.toml:1", "ladders", "ladder"]),
        (
            "[quota]\nsoft_hold_s = '10GiB'\n",
            ["quota.soft_hold_s", "a duration such as 10s", "GiB"],
        ),
        ("[default]\nmemory = '8s'\n", ["default.memory", "a size such as 8GiB", "s"]),
        ("[default]\nmemory = '-8GiB'\n", ["default.memory", "-8GiB"]),
        ("[default]\nclass = 'lowest'\n", ["default.class", "lowest", "low"]),
        ("[default\n", ["conf.d/test.toml:1", "not TOML"]),
    ],
)
def test_a_wrong_configuration_is_named_and_nothing_is_started(
    make_agent: MakeAgent, text: str, said: list[str]
) -> None:
    agent = make_agent(config=text)
    agent.launch()
    assert agent.ended() == 1
    faults = agent.faults()
    assert len(faults) == 1, agent.log()
    assert [word for word in said if word not in faults[0]] == [], faults
    assert not agent.state_dir.exists()


def test_every_mistake_of_every_file_is_told_at_once(make_agent: MakeAgent) -> None:
    agent = make_agent(config="[quota]\nsoft_hold = 1\nwarmup_s = 'soon'\n")
    (agent.path.parent / "conf.d" / "90-more.toml").write_text("[default]\nmemory = '-1GiB'\n")
    agent.launch()
    assert agent.ended() == 1
    assert len(agent.faults()) == 3, agent.log()
    told = " | ".join(agent.faults())
    for word in ("quota.soft_hold", "quota.warmup_s", "conf.d/90-more.toml:2", "default.memory"):
        assert word in told


@pytest.mark.parametrize("how", ["folder", "dangling", "fifo", "binary"])
def test_an_unreadable_drop_in_is_named(make_agent: MakeAgent, how: str) -> None:
    agent = make_agent()
    drop_in = agent.path.parent / "conf.d" / "50-site.toml"
    if how == "folder":
        drop_in.mkdir()
    elif how == "dangling":
        drop_in.symlink_to("/nonexistent/site.toml")
    elif how == "fifo":
        os.mkfifo(drop_in)
    else:
        drop_in.write_bytes(b"[quota]\n\xff\xfe\n")
    agent.launch()
    assert agent.ended() == 1
    faults = agent.faults()
    assert len(faults) == 1
    assert faults[0].startswith("conf.d/50-site.toml: "), faults


@pytest.mark.root
def test_a_drop_in_without_permission_is_named(make_agent: MakeAgent) -> None:
    agent = make_agent(before=WITHOUT_READING)
    drop_in = agent.path.parent / "conf.d" / "50-site.toml"
    drop_in.write_text("[quota]\n")
    drop_in.chmod(0o600)
    os.chown(drop_in, NOBODY, NOBODY)
    agent.launch()
    assert agent.ended() == 1
    assert agent.faults() == ["conf.d/50-site.toml: cannot be read: Permission denied"]


def test_hup_with_a_wrong_file_keeps_the_old_configuration(
    make_host: MakeHost, make_agent: MakeAgent
) -> None:
    host = make_host()
    agent = make_agent(host, HOG).start()
    agent.until_seen(1)
    agent.reload("[agent]\nmode = 'observe'\n[quota]\nsoft_hold = 1\n")
    info = agent.view().agent
    assert not info.config_ok
    assert "soft_hold_s" in info.config_error
    assert info.mode == "enforce"
    evict_one(host, agent)  # by the old one


def test_hup_with_a_good_file_applies_it(make_host: MakeHost, make_agent: MakeAgent) -> None:
    host = make_host()
    agent = make_agent(host, "[quota]\nsoft_hold = 1\n")
    agent.configure(HOG + "[agent]\nmode = 'observe'\n")
    agent.start().until_seen(1)
    hog = start_hog(host)
    agent.until("it is withheld", lambda: agent.diary.withheld("observe"))
    agent.reload("nonsense")
    agent.reload(HOG)
    agent.until("readers are told", lambda: agent.view().agent.config_ok)
    agent.until("the hog is gone", lambda: not hog.is_running())
    assert agent.view().agent.mode == "enforce"


# --- journal ---


def test_a_damaged_journal_costs_only_the_damaged_lines(
    make_host: MakeHost, make_agent: MakeAgent
) -> None:
    host = make_host()
    agent = make_agent(host, HOG).start()
    agent.until_seen(1)
    evict_one(host, agent)
    evict_one(host, agent)
    before = {i.id: i for i in agent.view().incidents}
    assert agent.stop() == 0
    (segment,) = segments(agent.diary.folder)
    lines = segment.read_bytes().splitlines(keepends=True)
    first = min(before)
    hurt = [n for n, line in enumerate(lines) if b'"kind":"tick"' in line]
    lines[hurt[0]] = b"\x00\xffgarbage\n"  # overwritten
    lines[hurt[1]] = lines[hurt[1]].replace(b"tick", b"tock")  # bits flipped: the sum is wrong
    segment.write_bytes(b"".join(lines) + lines[-1][: len(lines[-1]) // 2])  # torn at the end
    agent.start()
    (gaps,) = agent.events("journal_gaps")
    assert gaps["gaps"] == 3
    after = {i.id: i for i in agent.view().incidents}
    assert after.keys() == before.keys()
    assert after[first].steps == before[first].steps  # kept whole: it was written at its end too
    evict_one(host, agent)
    assert len(segments(agent.diary.folder)) == 2  # never appended to a torn line


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind":"start","schema":2}',
        b'{"kind":"something-new","schema":7,"beyond":{"what":"we know"}}',
    ],
)
def test_a_journal_of_a_newer_program_is_left_alone(
    make_host: MakeHost, make_agent: MakeAgent, body: bytes
) -> None:
    agent = make_agent(make_host())
    folder = agent.state_dir / "journal"
    folder.mkdir(parents=True)
    newer = folder / "journal-00000001.jsonl"
    newer.write_bytes(b"%08x %s\n" % (zlib.crc32(body), body))
    held = newer.read_bytes()
    agent.launch()
    assert agent.ended() == 1
    (event,) = agent.events("agent_cannot_start")
    assert "newer gpuwarden" in event["reason"]
    assert "move the journal away" in event["reason"]
    assert [path.name for path in folder.iterdir()] == [newer.name]
    assert newer.read_bytes() == held


def test_a_segment_that_cannot_be_read_is_a_gap(make_host: MakeHost, make_agent: MakeAgent) -> None:
    host = make_host()
    agent = make_agent(host, HOG)
    (agent.state_dir / "journal" / "journal-00000007.jsonl").mkdir(parents=True)
    agent.start()
    (gaps,) = agent.events("journal_gaps")
    assert gaps["gaps"] == 1
    agent.until_seen(1)
    evict_one(host, agent)


# --- driver ---


def test_without_libnvidia_ml_it_runs_blind_and_says_what_to_do(make_agent: MakeAgent) -> None:
    config = "[nvml]\nlibrary = '/nonexistent/libnvidia-ml.so.1'\n[agent]\nexpected_devices = 2\n"
    config += '[health.count]\ngrace_s = "500ms"\n'
    agent = make_agent(config=config).start()
    gap = agent.until("it says so", lambda: agent.gaps("driver"))[0]
    assert "libnvidia-ml" in gap.detail
    assert "install" in gap.detail
    agent.until("it misses the devices", lambda: _counts(agent))
    restarts = agent.view().counters.get(("probe_restarts", ""), 0)
    assert restarts < 10  # backs off: no crash loop
    assert agent.stop() == 0


def _counts(agent: Agent) -> list[str]:
    return [f.summary for f in agent.view().findings if f.key == "device-count"]


def test_without_a_driver_it_waits_and_goes_on_when_the_driver_comes(
    make_host: MakeHost, make_agent: MakeAgent, folder: Path
) -> None:
    place = folder / "sim"
    place.mkdir()
    host = make_host(2, folder=place)
    agent = make_agent(host, HOG)
    host.stop()
    agent.start()
    gap = agent.until("it says so", lambda: agent.gaps("driver"))[0]
    assert "modprobe nvidia" in gap.detail or "load" in gap.detail, gap
    assert agent.view().snapshot.devices == ()
    host.start()
    agent.until_seen(2)
    agent.until("the gap is closed", lambda: not agent.gaps("driver"))
    evict_one(host, agent)


# --- disk, rights, company ---


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 1 MiB where the state goes."""
    place = folder / "state"
    place.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", str(place)],
        check=True,
        timeout=30,
    )
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True, timeout=30)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return filler


@pytest.mark.root
def test_a_full_disk_stops_harm_and_not_the_watch(
    make_host: MakeHost, make_agent: MakeAgent, small_disk: Path
) -> None:
    host = make_host()
    agent = make_agent(host, HOG).start()
    agent.until_seen(1)
    filler = fill(small_disk)
    hog = start_hog(host)
    agent.until("it says so", lambda: not agent.view().agent.journal_ok)
    assert "No space left" in agent.view().agent.degraded[0]
    agent.until("it is a gap", lambda: agent.gaps("journal"))
    kept = len(segments(agent.diary.folder))
    agent.until(
        "harm is withheld", lambda: [w for w in agent.view().withheld if w.budget == "journal"]
    )
    agent.always(
        "it is degraded, and the hog untouched",
        lambda: hog.is_running() and agent.view().agent.degraded,
        for_s=3.0,
    )
    assert len(segments(agent.diary.folder)) == kept  # no new empty one each time it is tried
    filler.unlink()
    agent.until("the hog is gone", lambda: not hog.is_running())
    agent.until("it is well again", lambda: agent.view().agent.journal_ok)
    assert not agent.view().agent.degraded
    agent.until_closed()
    assert agent.stop() == 0


@pytest.mark.root
def test_a_disk_that_is_full_at_the_start_stops_nothing_else(
    make_host: MakeHost, make_agent: MakeAgent, small_disk: Path
) -> None:
    host = make_host()
    filler = fill(small_disk)
    agent = make_agent(host, HOG).start()
    agent.until_seen(1)
    assert agent.view().agent.degraded
    hog = start_hog(host)
    agent.until("the hog is noticed", lambda: agent.view().findings)
    agent.always("the hog is untouched", hog.is_running, for_s=2.0)
    filler.unlink()
    agent.until("the hog is gone", lambda: not hog.is_running())
    agent.until("it is well again", lambda: not agent.view().agent.degraded)


@pytest.mark.root
def test_without_rights_it_says_what_it_cannot_do(
    make_host: MakeHost, make_agent: MakeAgent, folder: Path
) -> None:
    host = make_host()
    agent = make_agent(host, HOG, before=AS_NOBODY)
    for path in (folder, folder / "run", folder / "state"):
        path.mkdir(exist_ok=True)
        os.chown(path, NOBODY, NOBODY)
    agent.start().until_seen(1)
    hog = start_hog(host)
    agent.until("it says that it may not", lambda: _refusals(agent))
    assert hog.is_running()
    assert agent.is_running()


def _refusals(agent: Agent) -> list[str]:
    details = [o.detail for o in agent.diary.outcomes(Kind.TERM, Kind.KILL)]
    details += [w.detail for w in agent.diary.withheld("cannot-act")]
    return [text for text in details if "permitted" in text or "permission" in text.lower()]


def test_a_second_agent_is_refused(make_host: MakeHost, make_agent: MakeAgent) -> None:
    host = make_host()
    first = make_agent(host, HOG).start()
    first.until_seen(1)
    second = make_agent(host, HOG)
    second.launch()
    assert second.ended() == 1
    (event,) = second.events("agent_cannot_start")
    assert f"pid {first.pid}" in event["reason"]
    evict_one(host, first)


def test_a_port_that_is_taken_is_named_and_no_socket_is_left(make_agent: MakeAgent) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        agent = make_agent(config=f"[agent]\nmetrics_listen = '{address}'\n")
        agent.launch()
        assert agent.ended() == 1
    (event,) = agent.events("agent_cannot_start")
    assert address in event["reason"]
    assert "agent.metrics_listen" in event["reason"]
    assert list(agent.run_dir.glob("*.sock")) == []


def test_two_agents_never_share_a_journal(make_host: MakeHost, make_agent: MakeAgent) -> None:
    host = make_host()
    first = make_agent(host, HOG).start()
    second = make_agent(host, f"{HOG}\n[agent]\nstate_dir = '{first.state_dir}'\n", name="other")
    second.launch()
    assert second.ended() == 1
    (event,) = second.events("agent_cannot_start")
    assert str(first.state_dir) in event["reason"]
    assert len(segments(first.diary.folder)) == 1
    first.kill()
    second.launch()  # the lock dies with its holder
    second.until("it runs", second.try_view)


# --- signals ---


def test_term_ends_it_with_its_children(make_host: MakeHost, make_agent: MakeAgent) -> None:
    agent = make_agent(make_host(2)).start()
    agent.until_seen(2)
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    assert children
    agent.signal(signal.SIGTERM)
    assert agent.ended() == 0
    assert agent.events("agent_stopping")
    agent.until("no child is left", lambda: not any(Path(f"/proc/{c}").exists() for c in children))
    assert not (agent.run_dir / "gpuwarden.sock").exists()
    agent.start()
    assert not agent.events("journal_gaps")


def test_after_a_silence_what_was_due_is_measured_again(
    make_host: MakeHost, make_agent: MakeAgent
) -> None:
    """The bytes came back while nobody looked: the grace is over, and nobody is killed for it."""
    host = make_host()
    agent = make_agent(host, HOG.replace("200ms", "1s") + "[sampling]\ngap_s = '1s'\n").start()
    agent.until_seen(1)
    workload = str(host.built.workload)
    group = subprocess.Popen(
        ["sh", "-c", f"trap : TERM; {workload} hog --size 12GiB --rate 30GiB/s & wait; read x"],
        env=host.env(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        agent.until_done(Kind.TERM)
        agent.suspend()
        agent.until("the bytes are back", lambda: host.control("info")["devices"][0]["used"] == 0)
        agent.until("the grace is over", _passes(3.0))
        agent.resume()
        agent.until_closed()
        assert group.poll() is None
        assert agent.diary.actions(Kind.KILL) == []
    finally:
        group.kill()
        group.communicate(timeout=10)


def _passes(seconds: float) -> Callable[[], bool]:
    end = CLOCK.now() + seconds
    return lambda: CLOCK.now() >= end


def test_after_a_silence_a_conviction_is_confirmed_anew(
    make_host: MakeHost, make_agent: MakeAgent
) -> None:
    host = make_host()
    short = HOG + "[sampling]\ngap_s = '500ms'\n"
    agent = make_agent(host, short + "[agent]\nmode = 'observe'\n").start()
    agent.until_seen(1)
    hog = start_hog(host)
    agent.until("it is convicted", lambda: agent.diary.withheld("observe"))
    agent.suspend()
    agent.configure(short)
    agent.signal(signal.SIGHUP)
    agent.until("the silence is long", _passes(1.5))
    resumed_at = CLOCK.now()
    agent.resume()
    agent.until("the hog is gone", lambda: not hog.is_running())
    agent.until_closed()
    (term,) = [r for r, a in agent.diary.ordered() if a.kind is Kind.TERM]
    assert term.decision is not None
    (episode,) = term.decision.memory.episodes.values()
    assert episode.hard_since is not None
    assert episode.confirmed_at is not None
    assert resumed_at <= episode.hard_since < episode.confirmed_at
