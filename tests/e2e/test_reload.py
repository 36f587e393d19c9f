"""A running agent takes over a new configuration, and says what it cannot take over."""

from __future__ import annotations

import pytest

from tests.e2e.agent import MakeAgent, MakeHost

pytestmark = pytest.mark.serial


def test_hup_says_what_only_a_restart_puts_in_force(
    make_host: MakeHost, make_agent: MakeAgent
) -> None:
    host = make_host()
    agent = make_agent(host).start()
    agent.until_seen(1)
    fresh = "[agent]\nmetrics_listen = '127.0.0.1:1'\n[kmsg]\npath = '/dev/null'\n"
    agent.reload(fresh)
    (told,) = agent.view().agent.degraded
    assert told.endswith("a restart puts in force: agent.metrics_listen, kmsg")
    agent.reload("")
    assert agent.view().agent.degraded == ()
