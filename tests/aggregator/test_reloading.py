"""HUP at the aggregator: what is in force then, what waits for a restart, and that a bad file changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.adapters.sdnotify import SdNotify
from gpuwarden.aggregator.reloading import AT_START, reload, waits_for_restart
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.errors import ConfigError
from tests.adapters.manager_socket import Manager, managed
from tests.aggregator.centre import Centre

ROOT = Path(__file__).resolve().parents[2]
QUIET = SdNotify({})


def changed(cfg: AggregatorConfig, **sections: dict[str, Any]) -> Callable[[], AggregatorConfig]:
    """What is read of a configuration that differs from this one in some settings."""
    tree = cfg.model_dump(by_alias=True)
    for section, values in sections.items():
        tree[section].update(values)
    return lambda: AggregatorConfig.model_validate(tree)


def bad() -> AggregatorConfig:
    raise ConfigError(("aggregator.toml:3: permit.requird: no such key",))


def test_every_setting_that_waits_exists() -> None:
    for path in AT_START:
        attrgetter(path)(AggregatorConfig())


def test_what_waits_for_a_restart() -> None:
    running = AggregatorConfig()
    wanted = changed(
        running,
        aggregator={"listen": "127.0.0.1:1"},
        ask={"parallel": 3, "order_s": 9.0},
        ingest={"queue_max": 70, "window": 9},
    )()
    assert waits_for_restart(running, wanted) == (
        "aggregator.listen",
        "ingest.queue_max",
        "ask.parallel",
    )
    assert waits_for_restart(running, running) == ()


def test_what_a_reload_puts_in_force(tmp_path: Path) -> None:
    with Centre(tmp_path) as centre:
        parts = centre.parts
        read = changed(
            parts.cfg,
            permit={"required": False},
            sight={"gather_s": 1.5},
            ask={"order_s": 7.0},
            policy={"soak_s": 5.0},
            ingest={"window": 33, "queue_max": 77},
            oncall={"slack": [{"name": "chat", "url": "http://127.0.0.1:1/x"}]},
        )
        reload(parts, read, QUIET)
        assert not parts.fleet.cfg.permit.required
        assert parts.handed.cfg.gather_s == 1.5
        assert parts.query.orders.cfg.order_s == parts.asking.cfg.order_s == 7.0
        assert parts.policies.cfg.soak_s == 5.0
        assert parts.ingest.streams.cfg.window == 33
        assert parts.ingest.cfg.ingest.queue_max == parts.cfg.ingest.queue_max  # as the committer's
        assert parts.paging.reign.has_sinks
        assert parts.counters()["config_reloads"] == 1


def test_a_node_hears_at_once_what_is_required_of_it(tmp_path: Path) -> None:
    with Centre(tmp_path) as centre:
        line = centre.line("gpu-1")
        line.next()
        while not line.directives:
            line.next()
        assert line.directives[-1].is_permit_required
        count = len(line.directives)
        reload(centre.parts, changed(centre.parts.cfg, permit={"required": False}), QUIET)
        while len(line.directives) == count:
            line.next()
        assert not line.directives[-1].is_permit_required


def test_of_a_bad_file_nothing_is_taken(tmp_path: Path) -> None:
    with Centre(tmp_path) as centre:
        before = centre.parts.fleet.cfg
        reload(centre.parts, bad, QUIET)
        assert centre.parts.fleet.cfg is before
        assert centre.parts.counters()["config_reloads_refused"] == 1


def test_a_window_that_counts_more_than_is_remembered_waits(tmp_path: Path) -> None:
    """A budget must not forget what was granted under the shorter window."""
    with Centre(tmp_path) as centre:
        long = {"cordon": {"ratio": 0.5, "most": 5, "window_s": 3 * 86_400.0}}
        reload(centre.parts, changed(centre.parts.cfg, permit=long, ask={"order_s": 7.0}), QUIET)
        assert centre.parts.fleet.cfg.permit == centre.parts.cfg.permit
        assert centre.parts.asking.cfg.order_s == 7.0
        shorter = {"cordon": {"ratio": 0.5, "most": 5, "window_s": 60.0}}
        reload(centre.parts, changed(centre.parts.cfg, permit=shorter), QUIET)
        assert centre.parts.fleet.cfg.permit.cordon.window_s == 60.0


@contextmanager
def running(folder: Path, text: str) -> Iterator[tuple[Manager, subprocess.Popen[bytes], Path]]:
    """A real one under a manager of our own; ready."""
    path = folder / "aggregator.toml"
    path.write_text(text)
    command = [sys.executable, "-m", "gpuwarden", "aggregator", "-c", str(path)]
    with managed(folder) as manager, (folder / "log").open("wb") as log:
        environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "agent"),
            "NOTIFY_SOCKET": manager.address,
        }
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        try:
            manager.until(lambda said: said.get("READY") == "1")
            yield manager, process, path
        finally:
            process.kill()
            process.wait(30.0)


@pytest.fixture
def settings(tmp_path: Path) -> str:
    return (
        f'[aggregator]\nlisten = "127.0.0.1:0"\nenrol_listen = "127.0.0.1:0"\n'
        f'metrics_listen = "none"\nstate_dir = "{tmp_path}/state"\n'
    )


def test_what_a_manager_hears_of_it(tmp_path: Path, settings: str) -> None:
    with running(tmp_path, settings) as (manager, process, path):
        path.write_text(settings + "[permit]\nrequird = false\n")
        process.send_signal(signal.SIGHUP)
        manager.until(lambda said: said.get("RELOADING") == "1" and said.get("MONOTONIC_USEC"))
        heard = manager.until(lambda said: said.get("READY") == "1")
        assert "config rejected, the old one stays: " in heard[-1]["STATUS"]
        assert "required" in heard[-1]["STATUS"]  # the nearest key
        path.write_text(settings + "[permit]\nrequired = false\n[ask]\nparallel = 3\n")
        process.send_signal(signal.SIGHUP)
        manager.until(lambda said: said.get("RELOADING") == "1")
        heard = manager.until(lambda said: said.get("READY") == "1")
        assert heard[-1]["STATUS"].startswith("waits for a restart: ask.parallel; ")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30.0) == 0
    log = (tmp_path / "log").read_text()
    assert "config_rejected" in log
    assert "config_reloaded" in log
