"""Going back to a recorded version, against a real daemon."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.adapters.docker_client import DockerDoor
from gpuwarden.adapters.docker_swap import only_once
from gpuwarden.adapters.version_book import VersionBook
from gpuwarden.adapters.version_keeper import VersionKeeper
from gpuwarden.clock import SystemClock
from gpuwarden.config_rollback import RollbackConfig
from gpuwarden.config_services import ServiceConfig
from gpuwarden.errors import Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import TenantId
from gpuwarden.model.rollback import Recorded
from tests.adapters.containers import IMAGE, container, docker, host, inspect

pytestmark = pytest.mark.docker
SECRET = "correct-horse-battery"
SERVE = ("sh", "-c", 'echo "$WORD" > /tmp/word; exec sleep 300')


@dataclass
class Seat:
    """A keeper with a book of its own."""

    keeper: VersionKeeper
    folder: Path
    door: DockerDoor

    def record(self, container_id: str) -> Recorded:
        """Have it seen, and wait until it is on record."""
        tenant = TenantId(f"docker:{container_id}")
        until = time.monotonic() + 20
        while time.monotonic() < until:
            self.keeper.follow({tenant: "risk"}, {}, time.monotonic(), time.time())
            for each in self.keeper.known():
                if each.tenant == tenant:
                    return each
            SystemClock().sleep(0.05)
        raise AssertionError("not recorded")

    def back(self, container_id: str, to: Recorded, *, has_room: bool = False) -> Mapping[str, str]:
        target = Target(tenant=TenantId(f"docker:{container_id}"), runtime="docker")
        return self.keeper.roll_back(target, "risk", to.place, to.version, has_room=has_room)


@pytest.fixture
def seat(tmp_path: Path) -> Iterator[Seat]:
    clock = SystemClock()
    door = DockerDoor(host(), 3.0, clock)
    cfg = RollbackConfig(settle_s=0.5, start_s=10)
    keeper = VersionKeeper(VersionBook(tmp_path / "versions", 4), door, clock, cfg, ())
    yield Seat(keeper=keeper, folder=tmp_path / "versions", door=door)
    keeper.close()


def version(name: str, word: str) -> tuple[str, ...]:
    labels = ("--label", "gpuwarden.service=risk", "--label", f"gpuwarden.version={name}")
    return (*labels, "--env", f"WORD={word}", "--env", f"API_KEY={SECRET}-{word}")


def replace_by(old: str, name: str, *options: str, command: tuple[str, ...] = SERVE) -> str:
    """What a deployment does: the container goes, one of the same name comes."""
    label = inspect(old, ".Name").lstrip("/")
    docker("rm", "--force", old)
    return docker(
        "run", "--detach", "--label", "gpuwarden.test=1", "--name", label, *options, IMAGE, *command
    )


def is_running(container_id: str) -> bool:
    return inspect(container_id, ".State.Running") == "true"


def one_named(name: str) -> str:
    return docker("ps", "--quiet", "--no-trunc", "--filter", f"name=^{name}$")


def test_it_comes_back_as_it_was_with_everything(seat: Seat, tmp_path: Path) -> None:
    mount = ("--mount", f"type=bind,src={tmp_path},dst=/models,readonly")
    first = (
        *version("v1", "one"),
        *mount,
        "--env",
        "NVIDIA_VISIBLE_DEVICES=1",
        "--restart",
        "always",
    )
    with container(*first, "--memory", "64m", command=SERVE) as made:
        name = inspect(made, ".Name").lstrip("/")
        before = seat.record(made)
        assert (before.version, before.place, before.image) == ("v1", name, IMAGE)
        second = replace_by(made, "v2", *version("v2", "two"), "--restart", "always")
        assert seat.record(second).version == "v2"
        done = seat.back(second, before)
        now = done["new"]
        assert one_named(name) == now
        assert docker("exec", now, "cat", "/tmp/word") == "one"
        env = inspect(now, "json .Config.Env")
        assert f"API_KEY={SECRET}-one" in env
        assert "NVIDIA_VISIBLE_DEVICES=1" in env
        assert inspect(now, ".HostConfig.Memory") == str(64 * 2**20)
        assert inspect(now, ".HostConfig.RestartPolicy.Name") == "always"
        assert inspect(now, "(index .Mounts 0).Destination") == "/models"
        assert inspect(now, ".Config.Image") == IMAGE
        assert not is_running(second)
        assert inspect(second, ".HostConfig.RestartPolicy.Name") == "no", "two must not come back"
        # And back again: the version that was left is on record too.
        again = seat.back(now, seat.record(now).__class__(service="risk", place=name, version="v2"))
        assert docker("exec", again["new"], "cat", "/tmp/word") == "two"


def test_one_that_cannot_start_leaves_the_present_one_running(seat: Seat) -> None:
    with container(*version("v1", "one"), command=SERVE) as made:
        name = inspect(made, ".Name").lstrip("/")
        broken = replace_by(made, "v0", *version("v0", "x"), command=("sleep", "300"))
        seat.record(broken)
        page = next(seat.folder.glob("*.json"))
        page.write_text(page.read_text().replace('"sleep"', '"/no/such/program"'))
        reread = VersionBook(seat.folder, 4)
        reread.open()
        good = replace_by(broken, "v1", *version("v1", "one"))
        keeper = VersionKeeper(
            reread, seat.door, SystemClock(), RollbackConfig(settle_s=0.5, start_s=10), ()
        )
        target = Target(tenant=TenantId(f"docker:{good}"), runtime="docker")
        for has_room in (False, True):
            with pytest.raises(Unavailable, match="the new start failed") as failed:
                keeper.roll_back(target, "risk", name, "v0", has_room=has_room)
            assert is_running(good)
            assert one_named(name) == good
            assert SECRET not in str(failed.value)
            words = "has run all the time" if has_room else "runs again"
            assert words in str(failed.value)
        left = docker("ps", "--all", "--quiet", "--filter", f"label=gpuwarden.replaces={good}")
        assert left == "", "nothing of the try is left"


def test_beside_it_the_present_one_is_stopped_last(seat: Seat) -> None:
    with container(*version("v1", "one"), command=SERVE) as made:
        before = seat.record(made)
        second = replace_by(made, "v2", *version("v2", "two"))
        seat.record(second)
        done = seat.back(second, before, has_room=True)
        assert "beside" in done["how"]
        assert "down_s" not in done
        stopped, started = (
            inspect(second, ".State.FinishedAt"),
            inspect(done["new"], ".State.StartedAt"),
        )
        assert started < stopped


@pytest.mark.parametrize("is_running_yet", [True, False])
def test_what_an_agent_left_half_done_is_finished(seat: Seat, is_running_yet: bool) -> None:
    with container(*version("v1", "one"), command=SERVE) as made:
        name = inspect(made, ".Name").lstrip("/")
        before = seat.record(made)
        second = replace_by(made, "v2", *version("v2", "two"), "--restart", "always")
        seat.record(second)
        docker("update", "--restart", "no", second)
        docker("stop", "--time", "1", second)
        docker("rename", second, f"{name}.replaced-{second[:12]}")
        labels = (
            "--label",
            f"gpuwarden.replaces={second}",
            "--label",
            "gpuwarden.replaces-restart=always",
        )
        verb = "run" if is_running_yet else "create"
        detach = ("--detach",) if is_running_yet else ()
        half = docker(verb, *detach, "--name", name, *version("v1", "one"), *labels, IMAGE, *SERVE)
        done = seat.back(second, before)
        assert (done["new"] == half) is is_running_yet
        assert one_named(name) == done["new"]
        assert docker("exec", done["new"], "cat", "/tmp/word") == "one"


def test_the_book_is_for_its_owner_alone_and_tells_no_secrets(
    seat: Seat, capsys: pytest.CaptureFixture[str]
) -> None:
    with container(*version("v1", "one"), command=SERVE) as made:
        about = seat.record(made)
        assert SECRET not in repr(about)
        assert SECRET not in repr(seat.keeper.known())
        entry = seat.keeper._book.entry("risk", about.place, "v1")
        assert SECRET not in repr(entry)
        assert seat.folder.stat().st_mode & 0o777 == 0o700
        (page,) = seat.folder.iterdir()
        assert page.stat().st_mode & 0o777 == 0o600
        assert SECRET in page.read_text(), "else it could not be started again"
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err


def test_one_whose_image_is_gone_costs_nothing(seat: Seat) -> None:
    with container(*version("v1", "one"), command=SERVE) as made:
        name = inspect(made, ".Name").lstrip("/")
        seat.record(made)
        page = next(seat.folder.glob("*.json"))
        gone = inspect(made, ".Image")
        page.write_text(page.read_text().replace(gone, "sha256:" + "0" * 64))
        book = VersionBook(seat.folder, 4)
        book.open()
        second = replace_by(made, "v2", *version("v2", "two"))
        keeper = VersionKeeper(book, seat.door, SystemClock(), RollbackConfig(), ())
        target = Target(tenant=TenantId(f"docker:{second}"), runtime="docker")
        started = inspect(second, ".State.StartedAt")
        with pytest.raises(Unavailable, match="is not here any more"):
            keeper.roll_back(target, "risk", name, "v1", has_room=False)
        assert inspect(second, ".State.StartedAt") == started


def test_one_that_is_paused_or_goes_when_it_stops_is_left_alone(seat: Seat) -> None:
    with container("--rm", *version("v2", "two"), command=SERVE) as made:
        about = seat.record(made)
        with pytest.raises(Unsupported, match="--rm"):
            seat.back(made, about)
        docker("pause", made)
        with pytest.raises(Unsupported, match="paused"):
            seat.back(made, about)


def test_a_probe_that_never_answers_brings_the_present_one_back(tmp_path: Path) -> None:
    clock = SystemClock()
    door = DockerDoor(host(), 3.0, clock)
    probe = {"port": 8080, "every_s": 1, "verify_s": 2.0}
    service = ServiceConfig.model_validate({"name": "risk", "probe": probe})
    keeper = VersionKeeper(
        VersionBook(tmp_path / "versions", 4), door, clock, RollbackConfig(), (service,)
    )
    seat = Seat(keeper=keeper, folder=tmp_path / "versions", door=door)
    try:
        with container(*version("v1", "one"), command=SERVE) as made:
            before = seat.record(made)
            second = replace_by(made, "v2", *version("v2", "two"))
            seat.record(second)
            with pytest.raises(Unavailable, match="not well within 2 s: its probe"):
                seat.back(second, before)
            assert is_running(second)
    finally:
        keeper.close()


def spec(**host_config: Any) -> dict[str, Any]:
    return {"HostConfig": host_config, "Mounts": []}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (spec(NetworkMode="host"), "network of host"),
        (spec(PortBindings={"80/tcp": [{"HostPort": "8080"}]}), "port 80/tcp"),
        ({"Mounts": [{"Type": "volume", "RW": True, "Destination": "/cache"}]}, "/cache"),
        (
            {"NetworkSettings": {"Networks": {"a": {"IPAMConfig": {"IPv4Address": "10.0.0.2"}}}}},
            "address",
        ),
    ],
)
def test_what_two_cannot_have_at_once(said: dict[str, Any], why: str) -> None:
    assert why in only_once(said)


def test_what_two_can_have() -> None:
    said = spec(NetworkMode="bridge", PortBindings={"80/tcp": [{"HostPort": ""}]})
    assert only_once({**said, "Mounts": [{"Type": "bind", "RW": False, "Destination": "/m"}]}) == ""
