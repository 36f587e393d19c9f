"""Case 47: what the agent does where the host gives it too little. The packages' lives do the rest under systemd."""

from __future__ import annotations

import pytest

from tests.e2e.agent import MakeAgent, MakeHost
from tests.e2e.test_bad_input import HOG, evict_one

pytestmark = pytest.mark.serial


def test_case_47_with_64_descriptors_it_runs_answers_and_evicts(
    make_host: MakeHost, make_agent: MakeAgent
) -> None:
    host = make_host(2)
    agent = make_agent(host, HOG, before=("prlimit", "--nofile=64:64")).start()
    agent.until_seen(2)
    evict_one(host, agent)
    assert agent.is_running()
