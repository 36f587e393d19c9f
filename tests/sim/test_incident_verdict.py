"""The judgement of a run goes red on each promise that can be broken, and only then."""

from __future__ import annotations

import itertools
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuwarden import config_files
from gpuwarden.model.tenant import TenantClass
from gpuwarden.sim.incident.cast import GIB, MIB, Role, Variant, draw
from gpuwarden.sim.incident.latency import Sample, is_green, parse, red_spans
from gpuwarden.sim.incident.ledger import Change, course, newcomers
from gpuwarden.sim.incident.report import summary
from gpuwarden.sim.incident.scene_config import Places, config_text
from gpuwarden.sim.incident.verdict import Measures, bounds_for, median, missed, worst
from gpuwarden.sim.incident.witness import read_cause

GOOD = Measures(
    noticed_s=0.2,
    decided_s=0.4,
    bytes_back_s=0.45,
    slo_back_s=2.0,
    cause_written_s=0.4,
    real_containers=True,
    ended="evicted",
)
VARIANTS = [Variant(), Variant(is_stubborn=True), Variant(has_no_grace=True)]


class TestVerdict:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_a_good_run_breaks_nothing(self, variant: Variant) -> None:
        assert missed(GOOD, bounds_for(variant, real_containers=True)) == ()

    @pytest.mark.parametrize(
        ("change", "word"),
        [
            ({"noticed_s": 0.2501}, "noticed_s: 0.250"),
            ({"noticed_s": None}, "noticed_s: never"),
            ({"noticed_s": -0.01}, "noticed_s: -0.010, before its cause"),
            ({"decided_s": 0.51}, "decided_s"),
            ({"decided_s": None}, "decided_s: never"),
            ({"bytes_back_s": 2.01}, "bytes_back_s: 2.010, the bound is 2"),
            ({"bytes_back_s": None}, "bytes_back_s: never"),
            ({"slo_back_s": 5.01}, "slo_back_s"),
            ({"slo_back_s": None}, "slo_back_s: never"),
            ({"cause_written_s": 2.01}, "cause_written_s"),
            ({"cause_written_s": None}, "cause_written_s: never"),
            ({"wrong_victims": 1}, "wrong_victims: 1"),
            ({"ended": "cordoned"}, "ended: cordoned"),
            ({"ended": "unresolved"}, "ended: unresolved"),
            ({"was_locked_up": False}, "never locked up"),
            ({"has_come_back": True}, "came back"),
        ],
    )
    def test_each_broken_promise_is_named(self, change: dict[str, Any], word: str) -> None:
        (line,) = missed(replace(GOOD, **change), bounds_for(Variant(), real_containers=True))
        assert word in line

    @pytest.mark.parametrize(
        ("variant", "back"), [(VARIANTS[0], 2.0), (VARIANTS[1], 3.0), (VARIANTS[2], 0.5)]
    )
    def test_how_soon_the_bytes_are_due(self, variant: Variant, back: float) -> None:
        bounds = bounds_for(variant, real_containers=True)
        assert missed(replace(GOOD, bytes_back_s=back), bounds) == ()
        assert missed(replace(GOOD, bytes_back_s=back + 0.001), bounds) != ()

    @pytest.mark.parametrize(
        ("allows", "containers", "ends"),
        [
            (False, True, "cordoned"),
            (False, False, "cordoned"),
            (True, False, "cordoned"),  # nobody can restart a plain process
            (True, True, "relocated"),
        ],
    )
    def test_a_device_that_stays_locked(self, allows: bool, containers: bool, ends: str) -> None:
        variant = Variant(is_persistent=True, allows_restart=allows)
        bounds = bounds_for(variant, real_containers=containers)
        assert bounds.ended == ends
        back = 8.0 if ends == "relocated" else None
        assert missed(replace(GOOD, ended=ends, slo_back_s=back), bounds) == ()
        assert missed(replace(GOOD, ended="evicted", slo_back_s=back), bounds) != ()

    def test_several_runs_are_as_good_as_the_worst(self) -> None:
        assert worst([0.1, 0.3, 0.2]) == 0.3
        assert worst([0.1, None]) is None
        assert median([0.3, 0.1, 0.2]) == 0.2
        assert median([0.1, None, None]) is None
        runs = [
            {
                "seed": seed,
                "noticed_s": noticed,
                "decided_s": 0.1,
                "bytes_back_s": 0.2,
                "slo_back_s": 1.0,
                "cause_written_s": 0.1,
                "wrong_victims": seed,
                "real_containers": True,
                "bounds": {},
                "missed": ["late"] if seed else [],
            }
            for seed, noticed in enumerate((0.1, 0.2))
        ]
        total = summary(runs)
        assert (total["noticed_s"], total["wrong_victims"]) == (0.2, 1)
        assert total["missed"] == ["seed 1: late"]


def change(at: float, pid: int, held: int, device: int = 0) -> Change:
    return Change(at=at, pid=pid, device=device, held_bytes=held)


class TestCourse:
    def test_the_first_byte_over_quota_and_the_last_one_given_back(self) -> None:
        log = [
            change(1.0, 7, 60),
            change(1.1, 8, 40),  # 100: at the quota is not over it
            change(1.2, 9, 999),  # somebody else
            change(1.3, 7, 999, device=1),
            change(1.4, 8, 41),
            change(1.5, 8, 70),
            change(1.6, 7, 0),
            change(1.7, 8, 0),
        ]
        mine = course(log, {7, 8}, 0, 100)
        assert (mine.over_at, mine.empty_at, mine.peak_bytes, mine.last_bytes) == (1.4, 1.7, 130, 0)

    def test_bytes_that_come_again_are_not_back(self) -> None:
        log = [change(1, 7, 101), change(2, 7, 0), change(3, 7, 5)]
        mine = course(log, {7}, 0, 100)
        assert (mine.empty_at, mine.was_empty, mine.last_bytes) == (None, True, 5)

    def test_within_quota_there_is_no_offence(self) -> None:
        assert course([change(1, 7, 100)], {7}, 0, 100).over_at is None

    def test_newcomers_are_those_nobody_knew(self) -> None:
        log = [change(1, 5, 9), change(3, 6, 9), change(3, 7, 9), change(3, 8, 0)]
        assert newcomers(log, {6}, after=2) == {7}


def sample(at: float, done: int, late: int = 0, oldest_s: float = 0.1, start: int = 1) -> Sample:
    return Sample(at=at, within=done - late, total=done, oldest_s=oldest_s, start=start)


class TestLatency:
    def test_a_window_is_judged_by_what_finished_in_it(self) -> None:
        early = [sample(t / 10, 10 * t, late=5) for t in range(6)]  # five late ones, long ago
        assert is_green(early, 5, 0.3) is True
        late = [*early[:5], sample(0.5, 50, late=7)]
        assert is_green(late, 5, 0.3) is False

    def test_too_few_requests_say_nothing(self) -> None:
        assert is_green([sample(0, 0), sample(0.5, 4)], 1, 0.3) is None

    def test_waiting_longer_than_the_limit_is_red_before_it_ends(self) -> None:
        assert is_green([sample(0, 0), sample(0.5, 20, oldest_s=0.31)], 1, 0.3) is False

    def test_a_restarted_service_begins_a_window_of_its_own(self) -> None:
        assert is_green([sample(0, 500), sample(0.5, 20, start=2)], 1, 0.3) is None

    def test_red_ends_with_a_green_that_lasts(self) -> None:
        oldest = {10: 0.5, 11: 0.6, 15: 0.5}  # red, green for a moment, red, green
        looks = [sample(t / 10, 10 * t, oldest_s=oldest.get(t, 0.1)) for t in range(40)]
        assert red_spans(looks, 0.3) == [(1.0, 1.6)]
        assert red_spans(looks[:26], 0.3) == [(1.0, None)]

    def test_on_a_host_so_slow_that_looks_are_far_apart_it_comes_back_too(self) -> None:
        """In an emulated machine a look takes longer than the window: then it is the window."""
        looks = [sample(t * 0.8, 16 * t, oldest_s=0.9 if t in (3, 4) else 0.1) for t in range(9)]
        assert red_spans(looks, 0.3) == [(3 * 0.8, 5 * 0.8)]

    def test_the_page_of_the_service(self) -> None:
        page = (
            'http_request_duration_seconds_bucket{le="0.3"} 119\n'
            'http_request_duration_seconds_bucket{le="+Inf"} 121\n'
            "http_request_oldest_seconds 0.125000\n"
            "process_start_time_seconds 1700000000\n"
        )
        assert parse(page, 0.3, 5.0) == Sample(
            at=5.0, within=119, total=121, oldest_s=0.125, start=1_700_000_000
        )
        assert parse(page, 0.25, 5.0) is None


def line(record: dict[str, Any]) -> bytes:
    body = json.dumps(record).encode()
    return b"%08x " % zlib.crc32(body) + body


FINDING = {"tenant": "docker:a", "used_bytes": 5 * GIB, "limit_bytes": 4 * GIB}
ACTION = {"kind": "term", "target": {"tenant": "docker:a"}, "why": "over", "incident": "inc-1"}


class TestCause:
    def test_who_bytes_quota_and_action_in_one_record(self) -> None:
        record = {"decision": {"findings": [FINDING], "actions": [ACTION]}}
        cause = read_cause(line(record), "docker:a")
        assert cause is not None
        assert (cause["bytes"], cause["quota"], cause["action"]) == (5 * GIB, 4 * GIB, "term")

    @pytest.mark.parametrize(
        "decision",
        [
            {"findings": [FINDING], "actions": []},
            {"findings": [], "actions": [ACTION]},
            {"findings": [FINDING], "actions": [{**ACTION, "kind": "warn"}]},
            {"findings": [FINDING], "actions": [{**ACTION, "target": {"tenant": "docker:b"}}]},
            {"findings": [{**FINDING, "tenant": "docker:b"}], "actions": [ACTION]},
            {"findings": [{"tenant": "docker:a"}], "actions": [ACTION]},
        ],
    )
    def test_less_is_no_cause(self, decision: dict[str, Any]) -> None:
        assert read_cause(line({"decision": decision}), "docker:a") is None

    def test_a_line_that_does_not_check_is_none(self) -> None:
        record = {"decision": {"findings": [FINDING], "actions": [ACTION]}}
        assert read_cause(line(record)[:-1] + b" ", "docker:a") is None
        assert read_cause(b"torn", "docker:a") is None


class TestCast:
    def draw(self, seed: int, **variant: Any) -> Any:
        return draw(seed, Variant(**variant), go_file="/run/sim/go", service_port=9000)

    def test_a_seed_is_a_scene(self) -> None:
        assert self.draw(5) == self.draw(5)
        assert len({json.dumps([m.name for m in self.draw(s).members]) for s in range(20)}) > 10

    def test_every_scene_is_the_incident(self) -> None:
        """The offender overruns by 1 to 4 GiB/s and fits on the device; somebody within quota is
        larger; the service can go to another device."""
        for seed in range(300):
            cast = self.draw(seed)
            offender, large = cast.of(Role.OFFENDER), cast.of(Role.LARGE)
            most = int(offender.arguments[offender.arguments.index("--size") + 1][:-3]) * MIB
            assert 1 * GIB <= cast.rate_bytes_s <= 4 * GIB
            assert offender.held_bytes < offender.quota_bytes < cast.trip_bytes
            assert cast.trip_bytes < cast.lock_up_bytes < most < large.held_bytes
            others = sum(m.held_bytes for m in cast.members if m is not offender)
            assert others + most + cast.passing.held_bytes < 39 * GIB
            bystanders = [m for m in (*cast.members, cast.passing) if m is not offender]
            assert all(m.held_bytes <= m.quota_bytes for m in bystanders)
            names = [m.name for m in (*cast.members, cast.passing)]
            assert len(set(names)) == 5
            assert all(len(name) <= 15 for name in names)  # what the kernel keeps of a name

    def test_everything_varies(self) -> None:
        scenes = [self.draw(seed) for seed in range(100)]
        assert {s.of(Role.OFFENDER).restart for s in scenes} == {"no", "always", "on-failure"}
        assert {dict(s.of(Role.OFFENDER).labels).get("gpuwarden.class") for s in scenes} == {
            "low",
            "protected",
            None,
        }
        assert {s.members[0].role for s in scenes} == set(Role) - {Role.PASSING}

    @pytest.mark.parametrize(
        ("docker", "seed"), list(itertools.product([None, "unix:///d.sock"], range(5)))
    )
    def test_its_configuration_is_one_the_agent_takes(
        self, docker: str | None, seed: int, tmp_path: Path
    ) -> None:
        cast = self.draw(seed, has_no_grace=True, allows_restart=True)
        places = Places(
            state_dir=tmp_path / "state",
            run_dir=tmp_path / "run",
            kmsg=tmp_path / "kmsg.sock",
            metrics_port=9420,
            service_port=9000,
            page_port=9001,
            docker=docker,
        )
        path = tmp_path / "agent.toml"
        path.write_text(config_text(cast, places), encoding="utf-8")
        config = config_files.load(path, environ={}, flags={}).config
        assert config.agent.mode == "enforce"
        assert config.ladder.allow_protected_restart
        protected = [e for e in config.tenant if e.tenant_class is TenantClass.PROTECTED]
        assert len(protected) == 2
        assert (len(config.tenant) == 5) == (docker is None)


def test_an_emulated_host_is_granted_more_time_and_nothing_else() -> None:
    slow = bounds_for(Variant(slowness=5.0), real_containers=True)
    plain = bounds_for(Variant(), real_containers=True)
    assert slow.noticed_s == 5 * plain.noticed_s
    assert (slow.wrong_victims, slow.ended) == (plain.wrong_victims, plain.ended)
    assert (
        bounds_for(Variant(slowness=5.0, is_persistent=True), real_containers=False).slo_back_s
        is None
    )
