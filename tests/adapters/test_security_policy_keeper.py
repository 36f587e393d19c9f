"""The keeper of a node's policy: what it takes, what it refuses and says so, and what time does to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuwarden.adapters.policy_keeper import BUNDLE, MARK_EVERY_S, MEMORY, PolicyKeeper, lost
from gpuwarden.config_fleet import FleetConfig
from gpuwarden.config_policy import checked
from gpuwarden.model.policy import PolicyLayer
from tests.policy_bundles import DAY_S, SETTINGS, WALL, Signer

GOOD, EVIL = Signer(), Signer()


class HandClock:
    """Both clocks, each moved by hand."""

    def __init__(self, wall: float = WALL + 60) -> None:
        self.at = 1000.0
        self.wall_at = wall

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.wall_at

    def pass_by(self, seconds: float) -> None:
        self.at += seconds
        self.wall_at += seconds

    def sleep(self, seconds: float) -> None:
        self.pass_by(seconds)


class Seat:
    """A keeper and the loop that it asks to reload."""

    def __init__(
        self, folder: Path, clock: HandClock | None = None, *, keys: tuple[str, ...] | None = None
    ) -> None:
        self.folder = folder
        self.clock = clock or HandClock()
        self.reloads = 0
        cfg = FleetConfig(
            identity_dir=folder,
            group="realtime",
            policy_keys=(GOOD.public,) if keys is None else keys,
        )
        self.keeper = PolicyKeeper(cfg, "gpuwarden", self.clock, self._check, self._reload)
        self.keeper.adopted(self.keeper.layer())

    def _check(self, layer: PolicyLayer) -> None:
        checked(layer.settings)

    def _reload(self) -> None:
        self.reloads += 1
        self.keeper.adopted(self.keeper.layer())

    def why(self) -> str:
        refusals = self.keeper.report().refusals
        return refusals[-1].why if refusals else ""

    def again(self, **more: float) -> Seat:
        """The agent's next life, on the same disk."""
        clock = HandClock(more.get("wall", self.clock.wall_at))
        return Seat(self.folder, clock)


@pytest.fixture
def seat(tmp_path: Path) -> Seat:
    return Seat(tmp_path)


def test_a_good_one_is_on_disk_and_then_in_force(seat: Seat) -> None:
    bundle = GOOD.bundle(3)
    seat.keeper.consider(bundle)
    assert seat.reloads == 1
    assert (seat.folder / "policy" / BUNDLE).read_bytes() == bundle
    assert seat.keeper.layer() == PolicyLayer(version=3, settings=SETTINGS)
    report = seat.keeper.report()
    assert (report.version, report.is_expired, report.refusals) == (3, False, ())
    assert seat.keeper.complaints() == []
    seat.keeper.consider(bundle)  # sent again: nothing new
    assert (seat.reloads, seat.keeper.refused) == (1, 0)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "forged": (lambda: EVIL.bundle(4), "not pinned here"),
    "changed": (lambda: GOOD.bundle(4).replace(b"8GiB", b"9GiB"), "the signature is not"),
    "truncated": (lambda: GOOD.bundle(4)[:-5], "the signature is not"),
    "cut to nothing": (lambda: GOOD.bundle(4)[:30], "not a signed policy"),
    "oversized": (lambda: GOOD.bundle(4) + b"#" * 200_000, "bytes, at most"),
    "replayed": (lambda: GOOD.bundle(3, note="another text"), "not after 3"),
    "downgraded": (lambda: GOOD.bundle(2), "version 2 is not after 3"),
    "of a foreign group": (lambda: GOOD.bundle(4, groups=("batch-*",)), "other groups"),
    "of a foreign fleet": (lambda: GOOD.bundle(4, fleet="elsewhere"), "the fleet elsewhere"),
    "run out": (
        lambda: GOOD.bundle(4, issued_wall=WALL - DAY_S, not_after_wall=WALL),
        "has run out already",
    ),
    "not valid": (lambda: GOOD.bundle(4, "[quota]\nsoft_hold_s = 'x'"), "not valid here"),
    "beyond its rights": (
        lambda: GOOD.bundle(4, '[repair]\nreboot_command = ["/bin/sh"]'),
        "not for a fleet's policy",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_case_33_what_is_refused_leaves_the_old_one_and_is_listed(seat: Seat, name: str) -> None:
    make, why = REFUSED[name]
    seat.keeper.consider(GOOD.bundle(3))
    seat.keeper.consider(make())
    assert why in seat.why(), name
    assert seat.reloads == 1
    assert seat.keeper.report().version == 3
    assert seat.keeper.layer() == PolicyLayer(version=3, settings=SETTINGS)
    assert any("was refused" in line for line in seat.keeper.complaints())
    assert seat.again().keeper.report().version == 3


def test_a_policy_may_say_nothing_at_all(seat: Seat) -> None:
    seat.keeper.consider(GOOD.bundle(3))
    seat.keeper.consider(GOOD.bundle(4, ""))
    assert (seat.keeper.report().version, seat.keeper.complaints()) == (4, [])


def test_groups_are_globs_and_the_nodes_own_passes(seat: Seat) -> None:
    seat.keeper.consider(GOOD.bundle(1, groups=("batch", "real*")))
    assert seat.keeper.report().version == 1


def test_a_refusal_is_forgotten_once_that_version_is_taken(seat: Seat) -> None:
    seat.keeper.consider(GOOD.bundle(4, groups=("other",)))
    assert seat.keeper.report().refusals[0].version == 4
    seat.keeper.consider(GOOD.bundle(4))
    assert seat.keeper.report().refusals == ()


def test_refusals_are_bounded(seat: Seat) -> None:
    for version in range(1, 30):
        seat.keeper.consider(b"no policy" * version)
        seat.keeper.consider(GOOD.bundle(version)[: 40 + version])
    assert len(seat.keeper.report().refusals) <= 8


def test_without_a_pinned_key_nothing_is_taken(tmp_path: Path) -> None:
    seat = Seat(tmp_path, keys=())
    seat.keeper.consider(GOOD.bundle(1))
    assert "fleet.policy_keys" in seat.why()
    assert seat.keeper.layer() is None


def test_a_disk_that_takes_nothing_puts_nothing_in_force(seat: Seat) -> None:
    (seat.folder / "policy").write_text("a file where the folder should be")
    seat.keeper.consider(GOOD.bundle(1))
    assert "policy" in seat.why()
    assert (seat.reloads, seat.keeper.layer()) == (0, None)


def test_it_outlives_the_agent_and_so_does_its_version(seat: Seat) -> None:
    seat.keeper.consider(GOOD.bundle(3))
    later = seat.again()
    assert later.keeper.layer() == PolicyLayer(version=3, settings=SETTINGS)
    later.keeper.consider(GOOD.bundle(2))
    assert "not after 3" in later.why()


@pytest.mark.parametrize("data", [b"", b"torn", GOOD.bundle(9)[:200], EVIL.bundle(9)])
def test_a_policy_that_was_spoilt_on_disk_is_the_safe_set_and_no_way_back(
    seat: Seat, data: bytes
) -> None:
    seat.keeper.consider(GOOD.bundle(3))
    (seat.folder / "policy" / BUNDLE).write_bytes(data)
    later = seat.again()
    assert later.keeper.layer() == lost(3)
    assert any("cannot be used" in line for line in later.keeper.complaints())
    later.keeper.consider(GOOD.bundle(2))
    assert "not after 3" in later.why()
    later.keeper.consider(GOOD.bundle(4))
    assert later.keeper.layer() == PolicyLayer(version=4, settings=SETTINGS)
    assert later.keeper.complaints() == ["policy 2 of the fleet was refused: " + later.why()]


def test_an_older_bundle_put_back_on_disk_is_not_believed(seat: Seat) -> None:
    old = GOOD.bundle(2)
    seat.keeper.consider(old)
    seat.keeper.consider(GOOD.bundle(3))
    (seat.folder / "policy" / BUNDLE).write_bytes(old)
    layer = seat.again().keeper.layer()
    assert layer == lost(3)


def test_a_policy_that_is_gone_is_the_safe_set_not_none(seat: Seat) -> None:
    seat.keeper.consider(GOOD.bundle(3))
    (seat.folder / "policy" / BUNDLE).unlink()
    assert seat.again().keeper.layer() == lost(3)


def test_a_memory_that_was_spoilt_costs_nothing_while_the_bundle_is_good(seat: Seat) -> None:
    seat.keeper.consider(GOOD.bundle(3))
    (seat.folder / "policy" / MEMORY).write_text("{")
    later = seat.again()
    assert later.keeper.layer() == PolicyLayer(version=3, settings=SETTINGS)
    later.keeper.consider(GOOD.bundle(3, note="x"))
    assert "not after 3" in later.why()


def test_case_32_it_runs_out_at_its_second_and_not_before(seat: Seat) -> None:
    seat.keeper.consider(GOOD.bundle(3))
    seat.clock.pass_by(DAY_S - 60 - 1)
    seat.keeper.look()
    assert (seat.reloads, seat.keeper.report().is_expired) == (1, False)
    seat.clock.pass_by(1)
    seat.keeper.look()
    assert seat.reloads == 2
    assert seat.keeper.layer() == PolicyLayer(version=3, settings=SETTINGS, is_safe_set=True)
    assert seat.keeper.report().is_expired
    seat.keeper.look()
    assert seat.reloads == 2
    seat.keeper.consider(GOOD.bundle(4, not_after_wall=WALL + 3 * DAY_S))
    assert (seat.keeper.report().version, seat.keeper.report().is_expired) == (4, False)


def test_case_9_a_clock_that_is_set_back_extends_nothing(seat: Seat) -> None:
    seat.keeper.consider(GOOD.bundle(3))
    seat.clock.wall_at = 0.0
    seat.clock.at += DAY_S - 60 - 1
    seat.keeper.look()
    assert not seat.keeper.report().is_expired
    seat.clock.at += 1
    seat.keeper.look()
    assert seat.keeper.report().is_expired


@pytest.mark.parametrize("wall", [WALL + 120, 0.0, WALL - 3600])
def test_case_9_what_has_run_out_is_never_revived(seat: Seat, wall: float) -> None:
    seat.keeper.consider(GOOD.bundle(3))
    seat.clock.pass_by(2 * DAY_S)
    seat.keeper.look()
    later = seat.again(wall=wall)
    assert later.keeper.report().is_expired
    later.keeper.consider(GOOD.bundle(3))
    assert later.keeper.report().is_expired


def test_case_9_a_clock_that_begins_anew_goes_on_from_what_was_seen(seat: Seat) -> None:
    seat.keeper.consider(GOOD.bundle(3))
    seat.clock.pass_by(DAY_S / 2)
    seat.keeper.look()
    later = seat.again(wall=0.0)  # a board without a battery
    later.clock.at += DAY_S / 2 - 60 - 1
    later.keeper.look()
    assert not later.keeper.report().is_expired
    later.clock.at += 1
    later.keeper.look()
    assert later.keeper.report().is_expired


def test_case_9_a_clock_that_was_wrong_for_a_moment_keeps_no_later_policy_out(seat: Seat) -> None:
    seat.keeper.consider(GOOD.bundle(3))
    right = seat.clock.wall_at
    seat.clock.wall_at = 4.2e9  # the year 2103
    seat.keeper.look()
    assert seat.keeper.report().is_expired
    seat.clock.wall_at = right
    seat.keeper.consider(GOOD.bundle(4))
    assert (seat.keeper.report().version, seat.keeper.report().is_expired) == (4, False)


def test_what_was_seen_is_written_now_and_then_and_not_at_every_look(seat: Seat) -> None:
    seat.keeper.consider(GOOD.bundle(3))
    path = seat.folder / "policy" / MEMORY
    before = path.read_bytes()
    seat.clock.pass_by(MARK_EVERY_S - 1)
    seat.keeper.look()
    assert path.read_bytes() == before
    seat.clock.pass_by(1)
    seat.keeper.look()
    assert json.loads(path.read_bytes())["seen_wall"] == seat.clock.wall_at


def test_one_that_the_loop_cannot_take_over_is_told(seat: Seat) -> None:
    layer = PolicyLayer(version=8, settings="x")
    seat.keeper.rejected(layer, "agent.toml: nonsense")
    assert seat.why() == "not in force: agent.toml: nonsense"


def test_what_is_offered_is_looked_at_by_the_keepers_own_thread(seat: Seat) -> None:
    seat.keeper.start()
    seat.keeper.offer(GOOD.bundle(1))
    for _ in range(200):
        if seat.reloads:
            break
        seat.keeper._thread.join(0.05)
    seat.keeper.close()
    assert seat.keeper.report().version == 1
    assert seat.keeper.offered == 1
