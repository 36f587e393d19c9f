"""On-call with the real agent over real processes: told once, whatever fails or ends in between."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.model.action import Kind
from gpuwarden.node.journal import read
from gpuwarden.sim.host import SimHost, Workload
from tests.adapters.receiver import Receiver, answer
from tests.adapters.sink_notices import secret_file
from tests.commands.cli_run import run
from tests.e2e.agent import Agent, MakeAgent, MakeHost
from tests.e2e.plain import Plain

SECRET = "wald-und-wiese-4711"
TOKEN = "T0SECRET-sehr-geheim"
POLICY = """
[agent]
metrics_listen = "127.0.0.1:{port}"
[sampling]
list_every_s = "500ms"
[quota]
clear_hold_s = "500ms"
[ladder]
page_after_s = "300ms"
[[tenant]]
match = {{comm = "boss*"}}
class = "high"
memory = "2GiB"
[oncall]
unreached_s = "1s"
[[oncall.webhook]]
url = "{url}"
secret = "{secret}"
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver("webhook") as made:
        yield made


@pytest.fixture
def host(make_host: MakeHost) -> SimHost:
    return make_host()


@pytest.fixture
def boss(host: SimHost, folder: Path) -> Iterator[Callable[[], Workload]]:
    """One of class high that is over its quota: nothing is done to it, and somebody is told."""
    plain = Plain(host, folder)
    yield lambda: plain.run("boss", "hold", "--size", "6GiB")
    plain.close()


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


@pytest.fixture
def agent(
    host: SimHost, make_agent: MakeAgent, folder: Path, receiver: Receiver, port: int
) -> Agent:
    url = secret_file(folder, "url", receiver.url(f"/{TOKEN}"))
    secret = secret_file(folder, "secret", SECRET)
    made = make_agent(host, POLICY.format(url=url, secret=secret, port=port)).start()
    made.until_seen(1)
    return made


def events(receiver: Receiver) -> list[str]:
    return [f"{r.json()['event']} {r.json()['reason']}" for r in receiver.requests]


def socket_of(agent: Agent) -> str:
    return str(agent.run_dir / "gpuwarden.sock")


def verb(agent: Agent, *words: str) -> Any:
    return run(*words, "--socket", socket_of(agent), width=160)


def test_told_acknowledged_and_over(
    agent: Agent, receiver: Receiver, boss: Callable[[], Workload]
) -> None:
    it = boss()
    agent.until("somebody is told", lambda: events(receiver) == ["trigger first"])
    page = receiver.requests[0].json()
    assert (page["rule"], page["tenant"]["class"], page["severity"]) == ("quota", "high", "error")
    assert page["evidence"]["peak"] == "6.0 GiB"
    assert page["more"] == f"gpuwarden explain {page['incident']}"
    assert "x-gpuwarden-signature" in receiver.requests[0].headers
    agent.until(
        "explain says so",
        lambda: "first to webhook, " in verb(agent, "explain", "last").output,
    )
    assert verb(agent, "ack", "last", "-m", "on it").exit_code == 0
    agent.until("it is told so", lambda: events(receiver)[-1] == "acknowledge acknowledged")
    agent.until(
        "explain says so too",
        lambda: "acknowledged by root: on it" in verb(agent, "explain", "last").output,
    )
    it.kill()
    agent.until("its end is told", lambda: events(receiver)[-1] == "resolve resolved")
    assert events(receiver) == ["trigger first", "acknowledge acknowledged", "resolve resolved"]
    audited = [r.audit for r in read(agent.state_dir / "journal") if r.audit is not None]
    assert [(a.verb, a.caller.name) for a in audited] == [("ack", "root")]
    assert agent.stop() == 0


def test_an_endpoint_that_is_down_and_an_agent_that_is_killed(
    agent: Agent, receiver: Receiver, boss: Callable[[], Workload]
) -> None:
    receiver.usual = answer(500)
    boss()
    agent.until_done(Kind.PAGE)  # spooled, though nobody could be told
    agent.until("it complains", lambda: "nobody could be told of" in verb(agent, "status").output)
    assert verb(agent, "status").exit_code == 1
    assert "nobody could be told yet" in verb(agent, "explain", "last").output
    agent.kill()
    tried = len(receiver.requests)
    receiver.usual = answer(200)
    agent.start()
    agent.until("somebody is told", lambda: len(receiver.requests) > tried)
    agent.until("all is well there", lambda: not agent.view().oncall.unreached)
    ids = {r.json()["id"] for r in receiver.requests}
    assert len(ids) == 1
    taken = len(receiver.requests)
    agent.kill()
    agent.start()
    agent.always("it is not told again", lambda: len(receiver.requests) == taken, for_s=2.0)


def test_no_secret_is_ever_told(
    agent: Agent, receiver: Receiver, boss: Callable[[], Workload], port: int
) -> None:
    receiver.answers = [answer(400, f"bad {SECRET} {TOKEN}")]
    boss()
    agent.until_done(Kind.PAGE)
    agent.until("it was refused", lambda: agent.view().oncall.sinks[0].failing_wall is not None)
    assert verb(agent, "notify", "test", "webhook").exit_code == 0
    told = [
        verb(agent, *words).output
        for words in (("status", "--json"), ("explain", "last", "--json"), ("events",))
    ]
    told.append(run("config", "show", "--origin", "-c", str(agent.path)).output)
    told.append(metrics(port))
    told.append(agent.log())
    told += [
        path.read_text(errors="replace") for path in agent.state_dir.rglob("*") if path.is_file()
    ]
    told.append(Path(f"/proc/{agent.pid}/cmdline").read_text())
    told.append(Path(f"/proc/{agent.pid}/environ").read_text())
    assert any("bad (hidden) (hidden)" in text for text in told)
    for text in told:
        assert SECRET not in text
        assert TOKEN not in text


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as page:
        text: str = page.read().decode()
    assert 'gpuwarden_notices_total{sink="webhook",reason="first",result="refused"} 1' in text
    assert "gpuwarden_oncall_waiting" in text
    return text


def test_hup_brings_another_sink(
    agent: Agent, receiver: Receiver, folder: Path, boss: Callable[[], Workload], port: int
) -> None:
    with Receiver("slack") as slack:
        url = secret_file(folder, "slack", slack.url())
        agent.reload(
            POLICY.partition("[oncall]")[0].format(port=port) + f'[[oncall.slack]]\nurl = "{url}"\n'
        )
        agent.until(
            "the sink is there", lambda: [s.name for s in agent.view().oncall.sinks] == ["slack"]
        )
        boss()
        assert slack.wait(1)
        assert receiver.requests == []


def test_a_silence_holds_it_back(
    agent: Agent, receiver: Receiver, boss: Callable[[], Workload]
) -> None:
    words = ("silence", "add", "--rule", "quota", "--for", "1h", "--reason", "known")
    assert verb(agent, *words).exit_code == 0
    boss()
    agent.until_done(Kind.PAGE)
    agent.until("explain says so", lambda: "held back" in verb(agent, "explain", "last").output)
    assert receiver.requests == []
    with NodeClient(agent.run_dir / "gpuwarden.sock") as client:
        client.expire_silence(client.silences()[0].id)
    assert receiver.wait(1)
