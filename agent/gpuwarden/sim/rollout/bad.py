"""A canary with a real regression, in real containers: found, its share frozen, its containers taken back.

Two nodes, each an agent in enforce mode on a simulated device of its own, and an aggregator, over mutual TLS; Docker is
the host's. The service answers requests there, and all that is known of it is its own histogram, on the way that it
has in a fleet: read by the agent, merged and judged by the default guardrails at the aggregator.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import docker
from docker.errors import DockerException

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.adapters.rollout_client import RolloutClient
from gpuwarden.errors import GpuwardenError, Unavailable
from gpuwarden.model.fleet import Role
from gpuwarden.model.ramp import OVER, CampaignState, Ramp, Stage
from gpuwarden.sim.host import SimHost, SimOptions
from gpuwarden.sim.incident.containers import MARK, archive
from gpuwarden.sim.incident.daemon import Daemon, free_port, own_environ
from gpuwarden.sim.incident.latency import LatencyWatch
from gpuwarden.sim.rollout.centre import LiveCentre
from gpuwarden.wire.convert_rollout import from_body

SERVICE, PROGRAM = "risk", "risk"
PLACES = ("base", "canary")
LIMIT_S = 0.5
"""The default pack's: p99 over 500 ms."""
BOUND_S = 10.0
WAIT_S = 60.0
POLL_S = 0.05
MIB = 2**20
HELD = "1024MiB"


class BadScene:
    """Holds what one run started; ``close`` takes it all away."""

    def __init__(self, address: str, seed: int) -> None:
        self._stack = contextlib.ExitStack()
        self.token = secrets.token_hex(4)
        self.folder = Path(tempfile.mkdtemp(prefix="gpuwarden-rollout-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.folder.chmod(0o755)
        self.ports = {place: free_port() for place in PLACES}
        self.sockets: dict[str, Path] = {}
        self.daemons: dict[str, Daemon] = {}
        try:
            options = SimOptions(devices=1, profile="A100-40", seed=seed)
            self.hosts = {
                place: self._stack.enter_context(
                    SimHost(options, folder=self.folder / place / "sim")
                )
                for place in PLACES
            }
            self.docker = docker.DockerClient(base_url=address, timeout=30)
            self._stack.callback(self._sweep)
            self.image = f"registry.local/{PROGRAM}:{self.token}"
            repository, _, tag = self.image.rpartition(":")
            program = archive(self.hosts["base"].built.workload, [PROGRAM])
            self.docker.api.import_image_from_data(program, repository, tag)
            self.watch = LatencyWatch(self.ports["canary"], LIMIT_S)
            self._stack.callback(self.watch.stop)
            rollout: dict[str, object] = {"batch_ratio": 1.0, "cause_s": "5s", "soak_s": "1h"}
            self.centre = self._stack.enter_context(LiveCentre(self.folder, rollout, None))
            for place in PLACES:
                self._agent(address, place)
        except (DockerException, OSError) as error:
            self._stack.close()
            raise Unavailable(f"the scene could not be set: {error}") from error
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _agent(self, address: str, place: str) -> None:
        home = self.folder / place
        self.sockets[place] = home / "run" / "gpuwarden.sock"
        identity = self.centre.identity(f"node-{place}", Role.NODE)
        page = json.dumps(f"http://127.0.0.1:{self.ports[place]}/metrics")
        config = home / "agent.toml"
        home.mkdir(exist_ok=True)
        config.write_text(
            f"""
[agent]
mode = "enforce"
state_dir = {json.dumps(str(home / "state"))}
run_dir = {json.dumps(str(home / "run"))}
metrics_listen = "127.0.0.1:{free_port()}"
log_format = "json"
[kmsg]
source = "none"
[docker]
host = {json.dumps(address)}
[default]
class = "low"
class_max = "normal"
[[tenant]]
match = {{ image = "registry.local/{PROGRAM}:*" }}
class = "protected"
memory_max = "4GiB"
[[service]]
name = "{SERVICE}"
url = {page}
p99_max_s = "{LIMIT_S * 1000:g}ms"
probe = {{ http = {page}, every_s = 1.0, verify_s = "30s" }}
[rollback]
probation_s = "2s"
[fleet]
aggregator = {json.dumps(self.centre.address)}
identity_dir = {json.dumps(str(identity))}
batch_s = "500ms"
""",
            encoding="utf-8",
        )
        daemon = Daemon(config, home / "agent.log", own_environ(self.hosts[place]))
        self.daemons[place] = daemon
        self._stack.callback(daemon.stop)
        daemon.start()

    def start(self, place: str, version: str, low_ms: int, high_ms: int) -> str:
        """One container of the service; its full id."""
        folder = str(self.hosts[place].folder)
        made = self.docker.containers.run(
            self.image,
            [
                f"/app/{PROGRAM}",
                *("serve", "--size", HELD, "--port", str(self.ports[place]), "--seed", "7"),
                *("--interval-ms", "60", "--base-low-ms", str(low_ms)),
                *("--base-high-ms", str(high_ms), "--slo-ms", str(int(LIMIT_S * 1000))),
            ],
            detach=True,
            name=self.name(place),
            labels={
                "gpuwarden.service": SERVICE,
                "gpuwarden.version": version,
                "gpuwarden.arm": "base" if place == "base" else "new",
                MARK: self.token,
            },
            environment={"GPUWARDEN_SIM_DIR": folder, "NVIDIA_VISIBLE_DEVICES": "0"},
            volumes={folder: {"bind": folder, "mode": "ro"}},
            network_mode="host",
        )
        return str(made.id)

    def name(self, place: str) -> str:
        return f"{PROGRAM}-{place}-{self.token}"

    def until(self, what: Callable[[], Any], why: str, within_s: float = WAIT_S) -> Any:
        """Its first answer that is not false; ``Unavailable`` with the end of the agent's log."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            for daemon in self.daemons.values():
                daemon.check()
            try:
                if found := what():
                    return found
            except (GpuwardenError, DockerException):
                pass  # not up yet
            time.sleep(POLL_S)
        raise Unavailable(
            f"{why} within {within_s:g} s; the agent's log ends: {self.daemons['canary'].tail()}"
        )

    def versions(self) -> dict[tuple[str, str], bool]:
        """By place and version, whether it is good."""
        with NodeClient(self.sockets["canary"]) as client:
            found = client.view().snapshot.versions
        return {(v.place, v.version): v.good_wall is not None for v in found}

    def client(self) -> RolloutClient:
        return RolloutClient(self.centre.address, self.centre.identity("ops", Role.OPERATOR))

    def ramp(self) -> Ramp:
        return self.centre.parts.rollouts.rollouts.ramps(SERVICE)[0]

    def stage_wall(self, stage: Stage) -> float:
        """When the rollout came to a stage, by its document; the end of time where it never did."""
        documents = self.centre.parts.store.document_history("rollout", SERVICE, 100)
        walls = [d.wall for d in documents if from_body(Ramp, d.body).stage is stage]
        return min(walls, default=float("inf"))

    def moved_between(self, begin: float, end: float) -> int:
        """How often shares were told between two wall times."""
        documents = self.centre.parts.store.document_history("shares", SERVICE, 100)
        return sum(begin <= d.wall < end for d in documents)

    def _sweep(self) -> None:
        with contextlib.suppress(DockerException, OSError):
            for each in self.docker.containers.list(
                all=True, filters={"label": f"{MARK}={self.token}"}
            ):
                with contextlib.suppress(DockerException, OSError):
                    each.remove(force=True)
            self.docker.images.remove(self.image, force=True)
        self.docker.close()


def play(address: str, seed: int = 1) -> dict[str, Any]:
    """One run as plain data. ``Unavailable`` where the scene could not be set."""
    with BadScene(address, seed) as scene:
        return _played(scene, seed)


def _played(scene: BadScene, seed: int) -> dict[str, Any]:
    place = scene.name("canary")
    base = scene.start("base", "v1", 20, 60)
    first = scene.start("canary", "v1", 20, 60)
    scene.watch.start()
    scene.until(lambda: scene.versions().get((place, "v1")), "v1 was not on record as good")
    with scene.client() as client:
        scene.until(
            lambda: client.start(SERVICE, "v2", "v1", "canary", True), "the rollout did not start"
        )
        scene.until(lambda: _share(client) > 0.0, "the canary was given no share")
        share = _share(client)
        scene.docker.containers.get(first).remove(force=True)
        bad = scene.start("canary", "v2", 620, 760)
        deployed = time.time()
        scene.until(lambda: (place, "v2") in scene.versions(), "v2 was not recorded")
        scene.until(lambda: scene.ramp().stage in (*OVER, Stage.WAITING), "it was not rolled back")
        return _judged(scene, seed, client, (base, bad), share, deployed)


def _share(client: RolloutClient) -> float:
    return client.shares(SERVICE)[0].of("new")


def _judged(
    scene: BadScene,
    seed: int,
    client: RolloutClient,
    ids: tuple[str, str],
    share: float,
    deployed: float,
) -> dict[str, Any]:
    ramp = scene.ramp()
    found, undone = scene.stage_wall(Stage.BREACHED), scene.stage_wall(Stage.UNDONE)
    moved = scene.moved_between(found, undone)
    _, campaigns, _ = client.rollouts(SERVICE)
    now = scene.docker.containers.get(scene.name("canary"))
    base, bad = (scene.docker.containers.get(each) for each in ids)
    started = _wall(now.attrs["State"]["StartedAt"])
    well = scene.until(lambda: _well_at(scene.watch, started), "the version before did not answer")
    own_start_s, rolled_back_s = max(0.0, well - started), well - found
    label = now.attrs["Config"]["Labels"].get("gpuwarden.version")
    missed = []
    if ramp.stage is not Stage.UNDONE or campaigns[0].state is not CampaignState.DONE:
        missed.append(f"the rollout ended as {ramp.stage.value}: {ramp.why}")
    if label != "v1" or str(now.id) == ids[1]:
        missed.append(f"the canary runs {label}")
    if moved:
        missed.append("its share was not frozen while it was in breach")
    if rolled_back_s > BOUND_S + own_start_s:
        missed.append(
            f"rolled back in {rolled_back_s:.1f} s, {BOUND_S:g} s and its own start are allowed"
        )
    if base.status != "running" or base.attrs["RestartCount"]:
        missed.append("the base was touched")
    if bad.status == "running":
        missed.append("the bad version runs on")
    return {
        "scene": "bad-version",
        "seed": seed,
        "real_containers": True,
        "breach": ramp.why,
        "cause": ramp.cause,
        "breach_found_s": round(found - deployed, 2),
        "share": round(share, 4),
        "share_moved_in_breach": moved,
        "stage": ramp.stage.value,
        "rolled_back_s": round(rolled_back_s, 2),
        "own_start_s": round(own_start_s, 2),
        "bound_s": BOUND_S,
        "nodes": [
            {"node": t.node, "turn": t.turn.value, "incident": t.incident}
            for t in campaigns[0].nodes
        ],
        "missed": missed,
    }


def _well_at(watch: LatencyWatch, since_wall: float) -> float | None:
    """Wall time at which the page of the service answered first after it was started."""
    off = time.time() - time.monotonic()
    return next(
        (
            s.at + off
            for s in watch.samples()
            if s.at + off >= since_wall and s.start >= since_wall - 2
        ),
        None,
    )


def _wall(stamp: str) -> float:
    from datetime import UTC, datetime

    head, _, fraction = stamp.rstrip("Z").partition(".")
    moment = datetime.fromisoformat(head).replace(tzinfo=UTC).timestamp()
    return moment + float(f"0.{fraction[:6]}") if fraction else moment
