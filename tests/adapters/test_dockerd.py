"""The Docker runtime against a real daemon."""

import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gpuwarden.adapters.cgroup_owner import owner_of_pid
from gpuwarden.adapters.cgroupfs import CgroupFs
from gpuwarden.adapters.docker_client import DockerDoor
from gpuwarden.adapters.docker_events import DockerEvents
from gpuwarden.adapters.docker_relocate import Move
from gpuwarden.adapters.dockerd import Docker
from gpuwarden.adapters.tenancy import tenant_of_owner
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.owner import CgroupOwner
from tests.adapters.containers import container, docker, host, init_pid, inspect
from tests.adapters.trees import soon, wait_gone

pytestmark = pytest.mark.docker
GPU = DeviceId("GPU-00000001-0000-0000-0000-000000000001")


@pytest.fixture
def door() -> Iterator[DockerDoor]:
    made = DockerDoor(host(), 3.0, SystemClock())
    yield made
    made.close()


@pytest.fixture
def runtime(door: DockerDoor) -> Docker:
    return Docker(door, CgroupFs())


def owner_of_container(container_id: str) -> CgroupOwner:
    owner = owner_of_pid(init_pid(container_id))
    assert owner is not None
    return owner


def target_of(container_id: str) -> Target:
    owner = owner_of_container(container_id)
    tenant = tenant_of_owner(owner)
    assert tenant == f"docker:{container_id}"
    return Target(tenant=tenant, runtime="docker", cgroup=CgroupFs().locate(owner), name="x")


def test_describe(runtime: Docker) -> None:
    options = (
        *("--label", "gpuwarden.memory=8GiB", "--label", "gpuwarden.class=low"),
        *(
            "--label",
            "com.docker.compose.project=shop",
            "--label",
            "com.docker.compose.service=web",
        ),
        *("--restart", "on-failure:3", "--user", "1000", "--env", "NVIDIA_VISIBLE_DEVICES=0,1"),
    )
    with container(*options) as made:
        facts = runtime.describe(owner_of_container(made))
        assert facts.tenant == f"docker:{made}"
        assert facts.described
        assert facts.name == inspect(made, ".Name").lstrip("/")
        assert facts.image == "gpuwarden-test:busybox"
        assert ("gpuwarden.memory", "8GiB") in facts.labels
        assert facts.labels[0][0].startswith("gpuwarden."), "our own first"
        assert (facts.restart_policy, facts.user) == ("on-failure:3", "1000")
        assert facts.visible_devices == ("0", "1")
        assert facts.owner_key == f"compose:shop/web+{facts.name}"
        assert not facts.is_paused
        assert facts.started_wall is not None
        assert abs(SystemClock().wall() - facts.started_wall) < 3600
        docker("pause", made)
        assert runtime.describe(owner_of_container(made)).is_paused


def test_describe_refuses_what_docker_does_not_run_there(runtime: Docker) -> None:
    with container() as made:
        owner = owner_of_container(made)
        unknown = replace(owner, container_id="0" * 64)
        with pytest.raises(Refused, match="does not know"):
            runtime.describe(unknown)
        forged = replace(owner, cgroup_path=f"/elsewhere/docker-{made}.scope")
        with pytest.raises(Refused, match="not in /elsewhere"):
            runtime.describe(forged)
        inside = replace(owner, cgroup_path=f"/docker/{'1' * 64}/docker/{made}")
        with pytest.raises(Refused, match="inside another owner"):
            runtime.describe(inside)
        mine = replace(owner, cgroup_path=f"/user.slice/user-1000.slice/x/docker-{made}.scope")
        with pytest.raises(Refused, match="inside another owner"):
            runtime.describe(mine)


@pytest.mark.parametrize("policy", ["always", "unless-stopped", "on-failure:4"])
def test_restart_policy_off_kill_stays_dead_and_back(runtime: Docker, policy: str) -> None:
    with container("--restart", policy) as made:
        target = target_of(made)
        old = runtime.restart_off(target)
        name, _, count = policy.partition(":")
        assert old == {"Name": name, "MaximumRetryCount": count or "0"}
        assert inspect(made, ".HostConfig.RestartPolicy.Name") == "no"
        pid = init_pid(made)
        assert target.cgroup is not None
        CgroupFs().kill(target.cgroup)
        assert wait_gone(pid)
        docker("wait", made)
        assert inspect(made, ".State.Running") == "false"
        assert inspect(made, ".RestartCount") == "0"
        runtime.restart_back(target, old)
        assert inspect(made, ".HostConfig.RestartPolicy.Name") == name
        assert inspect(made, ".HostConfig.RestartPolicy.MaximumRetryCount") == (count or "0")


def test_no_restart_policy_has_no_undo(runtime: Docker) -> None:
    with container() as made:
        assert runtime.restart_off(target_of(made)) == {}
        runtime.restart_back(target_of(made), {})


@pytest.mark.parametrize(
    "old", [{"Name": "sometimes"}, {"Name": "always", "MaximumRetryCount": "-1"}]
)
def test_ledger_garbage_is_no_restart_policy(runtime: Docker, old: dict[str, str]) -> None:
    with container() as made, pytest.raises(Refused):
        runtime.restart_back(target_of(made), old)


def test_restart_back_of_a_removed_container_is_settled(runtime: Docker) -> None:
    with container("--restart", "always") as made:
        target = target_of(made)
        old = runtime.restart_off(target)
        docker("rm", "--force", made)
        runtime.restart_back(target, old)
        with pytest.raises(Refused):
            runtime.stop(target, 1)


def test_stop_gives_the_grace_and_ends_who_ignores_it(runtime: Docker) -> None:
    trap = "trap '' TERM; echo up; while :; do sleep 1; done"
    with container(command=("sh", "-c", trap)) as made:
        target = target_of(made)
        runtime.stop(target, 1)
        assert inspect(made, ".State.Running") == "false"
        assert inspect(made, ".State.ExitCode") == "137"
        runtime.stop(target, 1)


def test_one_that_is_removed_when_it_ends_was_stopped(runtime: Docker) -> None:
    with container("--rm") as made:
        target = target_of(made)
        runtime.stop(target, 0.2)
        assert soon(lambda: docker("ps", "--all", "--quiet", "--filter", f"id={made}") == "")


def test_paused_container_dies_without_running_again(runtime: Docker) -> None:
    tick = "trap 'echo term' TERM; while :; do echo tick; sleep 0.01; done"
    with container("--restart", "always", command=("sh", "-c", tick)) as made:
        target = target_of(made)
        docker("pause", made)
        before = docker("logs", made)
        runtime.restart_off(target)
        runtime.stop(target, 5)
        assert inspect(made, ".State.Status") == "exited"
        after = docker("logs", made)
        assert "term" not in after
        assert after.count("tick") - before.count("tick") <= 1, "what was in the pipe, no more"


def test_name_taken_by_another_container_is_not_hit(runtime: Docker) -> None:
    with container() as made:
        target = target_of(made)
        name = inspect(made, ".Name").lstrip("/")
        docker("rm", "--force", made)
        with container("--label", "heir=1") as heir:
            docker("rename", heir, name)
            with pytest.raises(Refused):
                runtime.stop(target, 0)
            with pytest.raises(Refused):
                runtime.restart_off(target)
            assert inspect(heir, ".State.Running") == "true"


def relocatable(*options: str) -> tuple[str, ...]:
    return ("--restart", "always", "--label", "gpuwarden.class=protected", *options)


def test_restart_is_another_run_of_the_same_container(runtime: Docker) -> None:
    with container("--restart", "on-failure:3") as made:
        target, before = target_of(made), inspect(made, ".State.StartedAt")
        runtime.restart(target, 0.0)
        assert inspect(made, ".State.Running") == "true"
        assert inspect(made, ".State.StartedAt") != before
        assert inspect(made, ".HostConfig.RestartPolicy.Name") == "on-failure"


def test_restart_does_not_overrule_who_has_stopped_or_paused_it(runtime: Docker) -> None:
    with container() as made:
        target = target_of(made)
        docker("pause", made)
        with pytest.raises(Refused, match="paused"):
            runtime.restart(target, 0.0)
        docker("unpause", made)
        docker("stop", "--time=0", made)
        with pytest.raises(Refused, match="does not run"):
            runtime.restart(target, 0.0)
        assert inspect(made, ".State.Running") == "false"


def test_restart_refuses_who_runs_in_another_group(runtime: Docker) -> None:
    with container() as made:
        target, before = target_of(made), init_pid(made)
        assert target.cgroup is not None
        elsewhere = replace(target.cgroup, path="/elsewhere")
        with pytest.raises(Refused, match="not in /elsewhere"):
            runtime.restart(replace(target, cgroup=elsewhere), 0.0)
        assert init_pid(made) == before


def test_relocate_makes_the_same_container_on_another_device(runtime: Docker) -> None:
    options = relocatable(
        *("--env", "NVIDIA_VISIBLE_DEVICES=0", "--env", "A=b c", "--volume", "/data"),
        *("--memory", "64m", "--workdir", "/tmp", "--network", "none", "--read-only"),
        *("--stop-timeout", "1"),
    )
    with container(*options, command=("sh", "-c", "sleep 300")) as made:
        name = inspect(made, ".Name").lstrip("/")
        new = runtime.relocate(target_of(made), GPU, 3)
        assert new != made
        assert inspect(new, ".Name") == f"/{name}"
        assert inspect(new, ".State.Running") == "true"
        assert "NVIDIA_VISIBLE_DEVICES=3" in inspect(new, "json .Config.Env")
        for field in (
            *("json .Config.Cmd", "json .Config.WorkingDir", ".HostConfig.Memory"),
            *(".HostConfig.ReadonlyRootfs", ".HostConfig.NetworkMode", ".Config.Image"),
            *("json .HostConfig.RestartPolicy", "(index .Mounts 0).Name"),
        ):
            before = "{always 0}" if "RestartPolicy" in field else inspect(made, field)
            if "RestartPolicy" not in field:
                assert inspect(new, field) == before, field
        assert inspect(new, ".HostConfig.RestartPolicy.Name") == "always"
        assert inspect(new, 'index .Config.Labels "gpuwarden.replaces"') == made
        assert inspect(new, 'index .Config.Labels "gpuwarden.replaces-restart"') == "always"
        assert inspect(made, ".Name") == f"/{name}.replaced-{made[:12]}"
        assert inspect(made, ".State.Running") == "false"
        assert inspect(made, ".HostConfig.RestartPolicy.Name") == "no"


def test_relocate_of_an_unpinned_container_changes_nothing(runtime: Docker) -> None:
    with container(*relocatable()) as made:
        with pytest.raises(Unsupported, match="names the device"):
            runtime.relocate(target_of(made), GPU, 1)
        assert inspect(made, ".State.Running") == "true"


@pytest.mark.parametrize("devices", ["0,1", "GPU-a,GPU-b"])
def test_relocate_of_several_devices_is_unsupported(runtime: Docker, devices: str) -> None:
    with (
        container(*relocatable("--env", f"NVIDIA_VISIBLE_DEVICES={devices}")) as made,
        pytest.raises(Unsupported, match="several"),
    ):
        runtime.relocate(target_of(made), GPU, 1)


def test_relocate_puts_everything_back_when_the_new_one_cannot_start(runtime: Docker) -> None:
    """The new container needs a file of the host that is gone by the time it starts."""
    with tempfile.NamedTemporaryFile() as needed:
        options = relocatable(
            *("--env", "NVIDIA_VISIBLE_DEVICES=0", "--stop-timeout", "1"),
            *("--mount", f"type=bind,source={needed.name},target=/needed"),
        )
        with container(*options) as made:
            name = inspect(made, ".Name")
            docker("exec", made, "ls", "/needed")
            pid = init_pid(made)
            # the device node that the replacement is pinned to does not exist here
            target = target_of(made)
            os.rename(needed.name, needed.name + ".away")
            with pytest.raises(Unavailable):
                runtime.relocate(target, GPU, 3)
            os.rename(needed.name + ".away", needed.name)
            assert inspect(made, ".Name") == name
            assert inspect(made, ".HostConfig.RestartPolicy.Name") == "always"
            assert inspect(made, ".State.Running") == "true"
            assert init_pid(made) == pid, "it was never stopped: the new one could not be made"
            assert docker("ps", "-aq", "--filter", f"label=gpuwarden.replaces={made}") == ""


def test_relocate_puts_everything_back_after_the_old_one_was_stopped(door: DockerDoor) -> None:
    options = relocatable("--device", "/dev/null:/dev/nvidia0", "--stop-timeout", "1")
    with container(*options) as made:
        raw_name = inspect(made, ".Name")
        target = target_of(made)
        with door.call() as client:
            raw = dict(client.inspect_container(made))
        raw["HostConfig"] = {
            **raw["HostConfig"],
            "Devices": [{"PathOnHost": "/dev/nvidia0", "PathInContainer": "/dev/nvidia0"}],
        }
        with pytest.raises(Unavailable, match="put back as it was"):
            Move(door=door, raw=raw, device=GPU, index=77).carry_out()
        assert inspect(made, ".Name") == raw_name
        assert inspect(made, ".State.Running") == "true"
        assert inspect(made, ".HostConfig.RestartPolicy.Name") == "always"
        assert docker("ps", "-aq", "--filter", f"label=gpuwarden.replaces={made}") == ""
        assert target.tenant == f"docker:{made}"


class Heard:
    """Events as they come, with a way to wait for one."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self._changed = threading.Condition()

    def __call__(self, action: str, container_id: str) -> None:
        with self._changed:
            self.events.append((action, container_id))
            self._changed.notify_all()

    def hears(self, action: str, container_id: str, timeout_s: float = 15.0) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: (action, container_id) in self.events, timeout_s)


@pytest.fixture
def heard() -> Iterator[Heard]:
    ear = Heard()
    events = DockerEvents(host(), 3.0, SystemClock(), ear, idle_s=1.0)
    events.start()
    yield ear
    events.close()
    assert not events._thread.is_alive()
    assert events.garbage == 0


def test_events_are_heard(heard: Heard) -> None:
    with container() as made:
        assert heard.hears("start", made)
        docker("pause", made)
        assert heard.hears("pause", made)
        docker("unpause", made)
        assert heard.hears("unpause", made)
        docker("update", "--restart", "always", made)
        assert heard.hears("update", made)
        docker("rename", made, f"renamed-{made[:8]}")
        assert heard.hears("rename", made)
        docker("kill", made)
        assert heard.hears("die", made)
        docker("rm", "--force", made)
        assert heard.hears("destroy", made)


def test_containers_from_before_are_listed(heard: Heard) -> None:
    with container() as made:
        late = Heard()
        events = DockerEvents(host(), 3.0, SystemClock(), late)
        events.start()
        assert late.hears("start", made)
        events.close()


def test_foreign_tenants_are_refused_before_docker_is_asked(runtime: Docker) -> None:
    for tenant in ("pgrp:7@1", "docker:short", "unit:x.service"):
        with pytest.raises(Refused, match="no container"):
            runtime.stop(Target(tenant=TenantId(tenant), runtime="docker"), 0)


def test_restart_policy_is_settled_while_the_agent_holds_it_frozen(runtime: Docker) -> None:
    """The ladder's hold: frozen through its cgroup, then the policy is switched off."""
    cgroups = CgroupFs()
    with container("--restart", "always") as made:
        target = target_of(made)
        assert target.cgroup is not None
        group = target.cgroup
        cgroups.freeze(group)
        assert soon(lambda: cgroups.is_frozen(group))
        assert runtime.restart_off(target)["Name"] == "always"
        assert cgroups.is_frozen(group), "an update thaws nothing"
        assert cgroups.kill(group) == 1
        docker("wait", made)
        assert inspect(made, ".RestartCount") == "0"
