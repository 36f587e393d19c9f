"""One play: set the stage, let the fault happen, do what people would do, and say what happened."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from gpuwarden import interpreter
from gpuwarden.errors import Unavailable
from gpuwarden.sim import holder
from gpuwarden.sim.control import Control
from gpuwarden.sim.faults.cast import DEVICES, PROFILE, SICK, draw
from gpuwarden.sim.faults.judge import Evidence
from gpuwarden.sim.faults.play import By, Event, Part, Play
from gpuwarden.sim.faults.scheduler import Scheduler
from gpuwarden.sim.faults.settings import Places, config_text
from gpuwarden.sim.faults.tree import Tree
from gpuwarden.sim.faults.watch import FaultWatch, is_over, is_waiting, sees_all
from gpuwarden.sim.host import SimHost, SimOptions
from gpuwarden.sim.incident.containers import ContainerStage
from gpuwarden.sim.incident.daemon import Daemon, free_port, own_environ
from gpuwarden.sim.incident.plain import PlainStage
from gpuwarden.sim.incident.stage import Stage
from gpuwarden.sim.incident.witness import PageSink
from gpuwarden.wire.v1 import node_pb2 as pb

AGENT_READY_S = 20.0
VERB_S = 20.0
SETTLE_S = 1.5
"""A hand that is laid on somebody late, or a page too many, comes within this."""
POLL_S = 0.1
KEPT = ("agent.toml", "agent.log", "state", "calls", "orders")


class Scene:
    """Holds what one play started; ``close`` (or leaving the ``with`` block) takes it all away."""

    def __init__(self, play: Play, seed: int, *, docker: str | None, keep: Path | None) -> None:
        self._play = play
        self._docker = docker
        self._stack = contextlib.ExitStack()
        self._folder = Path(tempfile.mkdtemp(prefix="gpuwarden-fault-"))
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._folder.chmod(0o755)
        if keep is not None:
            self._stack.callback(self._keep, keep / f"{play.name}-{seed}")
        try:
            self._set(seed)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def _keep(self, keep: Path) -> None:
        keep.mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            source = self._folder / name
            if source.is_dir():
                shutil.copytree(source, keep / name, dirs_exist_ok=True)
            elif source.exists():
                shutil.copy(source, keep / name)

    def _set(self, seed: int) -> None:
        folder = self._folder
        options = SimOptions(devices=DEVICES, profile=PROFILE, seed=seed)
        self._host = self._stack.enter_context(SimHost(options, folder=folder / "sim"))
        self._control = self._stack.enter_context(Control(self._host.folder))
        # A driver before r615, as most hosts have: no preventive limit stands in the way.
        self._control.request("limit_mode", mode="not-supported")
        self.tree = Tree(folder, self._host)
        self._scheduler = Scheduler(folder)
        self._pages = PageSink()
        self._stack.callback(self._pages.close)
        service_port = free_port()
        self._members = draw(self._play, seed, service_port)
        places = Places(
            folder=folder,
            kmsg=self._host.folder / "kmsg.sock",
            metrics_port=free_port(),
            service_port=service_port,
            page_port=self._pages.port,
            cordon=self._scheduler.program,
            docker=self._docker,
        )
        config = folder / "agent.toml"
        said = config_text(self._play, self._members.values(), places, self.tree)
        config.write_text(said, encoding="utf-8")
        self._environ = own_environ(self._host)
        self._daemon = Daemon(config, folder / "agent.log", self._environ)
        self._holding = self._stack.enter_context(contextlib.ExitStack())
        self._stage = self._make_stage()
        self._stack.callback(self._stage.close)
        self._stack.callback(self._daemon.stop)  # before the containers go
        self._socket = folder / "run" / "gpuwarden.sock"
        self._watch = FaultWatch(self._socket)
        self._stack.callback(self._watch.stop)

    def _make_stage(self) -> Stage:
        if self._docker is None:
            return PlainStage(self._host, self._folder)
        members = tuple(self._members.values())
        token = secrets.token_hex(4)
        return ContainerStage(self._host, self._control, members, self._docker, token)

    def play(self) -> Evidence:
        """The whole of it. ``Unavailable`` when the scene could not be set."""
        play = self._play
        self._players = {part: self._stage.start(m) for part, m in self._members.items()}
        self._show()
        self._daemon.start()
        self._watch.start()
        self._await_agent()
        self._left: set[Part] = set()
        kept = tuple(p for part, p in self._players.items() if part not in play.ends)
        self._stage.opened(kept)
        began = time.monotonic()
        end = began + play.within_s
        for event in play.events:
            self._happen(event)
        was_healed = False
        if play.heals and self._poll(self._is_peoples_turn, end):
            self._settle()
            for event in play.heals:
                self._happen(event)
            was_healed = True
        is_done = (was_healed or not play.heals) and self._poll(self._is_done, end)
        seconds = time.monotonic() - began
        self._settle()
        return self._collect(seconds, is_done and self._is_done(), was_healed)

    def _await_agent(self) -> None:
        """Wait until the agent sees every device and knows everybody, and the service is well."""
        known: set[Part] = set()

        def knows(view: pb.View) -> bool:
            snap = view.snapshot
            for part, player in self._players.items():
                if any(
                    tenant.is_described and any(p.pid == player.pid for p in tenant.pids)
                    for tenant in snap.tenants
                ):
                    known.add(part)
            is_green = any(s.health == pb.HEALTH_GREEN for s in snap.services)
            has_health = len(snap.devices) == DEVICES and all(
                device.HasField("health") for device in snap.devices
            )
            is_well = is_green or Part.SERVICE not in self._players
            return is_well and has_health and len(known) == len(self._players)

        end = time.monotonic() + AGENT_READY_S
        while time.monotonic() < end:
            self._daemon.check()
            if self._watch.wait_for(knows, 0.5) is not None:
                return
        missing = [str(part) for part in self._players if part not in known] or ["a healthy host"]
        raise Unavailable(
            f"the agent did not see {', '.join(missing)} within {AGENT_READY_S:g} s"
            f" ({self._watch.error or 'connected'}); its log ends: {self._daemon.tail()}"
        )

    # --- what happens ---

    def _happen(self, event: Event) -> None:
        {By.DRIVER: self._drive, By.HOST: self._befall, By.PERSON: self._act}[event.by](event)

    def _drive(self, event: Event) -> None:
        device = self._control.request("info")["devices"][SICK]
        words = {
            "pci": device["pci"].rpartition(".")[0],
            "batch": str(self._players[Part.BATCH].pid),
        }
        said: dict[str, Any] = {}
        for name, value in event.arguments.items():
            filled = value.format_map(words) if isinstance(value, str) else value
            said[name] = int(filled) if name == "pid" else filled
        if event.command != "kernel_line":
            said.setdefault("device", SICK)
        self._control.request(event.command, **said)

    def _befall(self, event: Event) -> None:
        if event.command == "end-service":
            self.tree.end_service()
        elif event.command in ("old-module", "new-module"):
            self.tree.set_module(is_old=event.command == "old-module")
        elif event.command == "hold":
            self._holding.enter_context(self._misbehaving(str(event.arguments["how"])))
        elif event.command == "let-go":
            self._holding.close()
        else:
            raise AssertionError(event.command)

    def _act(self, event: Event) -> None:
        if event.command == "leave":
            part = Part(event.arguments["part"])
            self._left.add(part)
            self._stage.dismiss(self._players[part])
            return
        # Whoever says that it is well has looked at it before.
        self._watch.wait_for(sees_all, VERB_S)
        words = [event.command, event.arguments["subject"], "--reason", event.arguments["reason"]]
        end = time.monotonic() + VERB_S
        while (said := self._verb(*words)) is not None:
            if time.monotonic() >= end:
                raise Unavailable(f"gpuwarden {' '.join(words)}: {said}")
            time.sleep(POLL_S)

    def _verb(self, *words: str) -> str | None:
        """Run the command line as an operator does; what it said where it said no."""
        done = subprocess.run(
            interpreter.own("-m", "gpuwarden", *words, "--socket", str(self._socket)),
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=VERB_S,
            check=False,
        )
        return None if done.returncode == 0 else (done.stderr or done.stdout).strip()

    @contextlib.contextmanager
    def _misbehaving(self, how: str) -> Iterator[None]:
        """A process that holds memory of the sick device and is a zombie, or stuck in the kernel."""
        fifo = self._folder / "fifo"
        os.mkfifo(fifo)
        more = [str(fifo)] if how == "stuck" else []
        process = subprocess.Popen(
            [sys.executable, holder.__file__, str(self._host.folder / "driver.sock"), how, *more],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            if not select.select([process.stdout], [], [], VERB_S)[0]:
                raise Unavailable(f"no {how} process within {VERB_S:g} s")
            said = process.stdout.readline()
            if not said.strip().isdigit():
                raise Unavailable(f"the {how} process ended at once")
            self.tree.show([int(said)])
            yield
        finally:
            with contextlib.suppress(OSError):  # nobody waits there: it never came so far
                os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(VERB_S)
            process.stdout.close()
            fifo.unlink()

    # --- waiting ---

    def _is_peoples_turn(self) -> bool:
        view = self._watch.view()
        if view is None or len(self._pages.pages()) < self._play.pages:
            return False
        return is_waiting(view) if self._play.rungs else bool(view.incidents)

    def _is_done(self) -> bool:
        view = self._watch.view()
        return view is not None and is_over(view) and not self._scheduler.told().standing

    def _poll(self, is_done: Callable[[], bool], end: float) -> bool:
        while not is_done():
            if time.monotonic() >= end:
                return False
            self._daemon.check()
            self._show()
            time.sleep(POLL_S)
        return True

    def _settle(self) -> None:
        end = time.monotonic() + SETTLE_S
        self._poll(lambda: time.monotonic() >= end, end)

    def _show(self) -> None:
        """Whoever holds memory now is a process of this host."""
        for device in range(DEVICES):
            listed = self._control.request("processes", device=device)["processes"]
            self.tree.show(entry["pid"] for entry in listed)

    def _collect(self, seconds: float, is_ended: bool, was_healed: bool) -> Evidence:
        kept = {
            part: player
            for part, player in self._players.items()
            if part not in self._play.ends and part not in self._left
        }
        return Evidence(
            play=self._play,
            has_containers=self._stage.has_containers,
            seconds=seconds,
            faults=tuple(self._watch.faults()),
            phases=tuple(self._watch.phases()),
            calls=self.tree.calls(),
            told=self._scheduler.told(),
            pages=tuple(self._pages.pages()),
            incidents=tuple(self._watch.incidents()),
            is_over=is_ended,
            device=self._control.request("info")["devices"][SICK],
            was_healed=was_healed,
            marks={p.member.name: self._stage.fate(p).marks for p in kept.values()},
        )
