"""Which settings wait for a restart of the agent."""

from __future__ import annotations

from operator import attrgetter

import pytest

from gpuwarden.config import AT_START, Config, waits_for_restart

OLD = Config()


@pytest.mark.parametrize("path", AT_START)
def test_every_one_of_them_is_a_setting(path: str) -> None:
    attrgetter(path)(OLD)


@pytest.mark.parametrize(
    ("said", "waiting"),
    [
        ({"agent": {"mode": "enforce"}, "quota": {"soft_hold_s": 3}}, ()),
        ({"agent": {"metrics_listen": "127.0.0.1:1"}}, ("agent.metrics_listen",)),
        ({"docker": {"timeout_s": 1}}, ("docker",)),
        ({"sampling": {"fast_base_s": 0.2}}, ()),
        ({"sampling": {"host_every_s": 9}}, ("sampling.host_every_s",)),
        ({"service": [{"name": "a", "url": "http://127.0.0.1:1/metrics"}]}, ("service",)),
    ],
)
def test_a_change_of_one_is_named(said: dict[str, object], waiting: tuple[str, ...]) -> None:
    assert waits_for_restart(OLD, Config.model_validate(said)) == waiting
