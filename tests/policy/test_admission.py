"""What a tenant is allowed: policy over labels. Every label is hostile."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.config import Config
from gpuwarden.model.ids import TenantId
from gpuwarden.model.owner import RuntimeFacts
from gpuwarden.model.tenant import Tenant, TenantClass
from gpuwarden.policy.admission import Who, admit, is_infrastructure
from tests.policy.builders import BEST_EFFORT, HIGH, LOW, NORMAL, PROTECTED, config

GIB = 2**30


def admitted(
    labels: dict[str, str] | None = None,
    *,
    cfg: Config | None = None,
    who: Who | None = None,
    entry: dict[str, Any] | None = None,
    **facts: Any,
) -> Tenant:
    """A container ``image=ml/train`` under an optional policy entry for that image."""
    if entry is not None:
        cfg = config(tenant=[{"match": {"image": "ml/*"}, **entry}])  # type: ignore[arg-type]
    told = {
        "tenant": TenantId("docker:abc"),
        "described": True,
        "name": "train",
        "image": "ml/train",
        "labels": tuple((labels or {}).items()),
        **facts,
    }
    return admit(
        cfg or config(),
        RuntimeFacts(**told),
        who or Who(runtime="docker"),
        cgroup=None,
        pids=(),
        first_seen=1.0,
    )


class TestClass:
    @pytest.mark.parametrize(("claim", "top"), list(itertools.product(TenantClass, TenantClass)))
    def test_a_label_lowers_and_never_raises_above_the_operators_map(
        self, claim: TenantClass, top: TenantClass
    ) -> None:
        who = admitted({"gpuwarden.class": claim.label}, entry={"class": top.label})
        assert who.cls is min(claim, top)
        assert bool(who.policy_faults) is (claim > top)

    @pytest.mark.parametrize("claim", list(TenantClass))
    def test_without_an_entry_the_default_map_counts(self, claim: TenantClass) -> None:
        who = admitted({"gpuwarden.class": claim.label})
        assert who.cls is (claim if claim <= NORMAL else LOW)

    def test_an_operator_may_let_labels_go_above_what_he_gives_the_silent(self) -> None:
        entry = {"class": "low", "class_max": "high"}
        assert admitted(entry=entry).cls is LOW
        assert admitted({"gpuwarden.class": "high"}, entry=entry).cls is HIGH
        assert admitted({"gpuwarden.class": "protected"}, entry=entry).cls is LOW

    def test_silence_gets_the_default(self) -> None:
        assert admitted().cls is LOW
        assert admitted(cfg=config(default={"class": "best-effort"})).cls is BEST_EFFORT

    def test_the_first_entry_that_matches_counts(self) -> None:
        entries = [
            {"match": {"image": "ml/*"}, "class": "high"},
            {"match": {"name": "train"}, "class": "protected"},
        ]
        assert admitted(cfg=config(tenant=entries)).cls is HIGH  # type: ignore[arg-type]

    def test_a_service_label_makes_nobody_protected(self) -> None:
        """Whoever starts a container writes its labels: an entry for a service gives nothing a label
        could not claim anyway."""
        entry = {"match": {"service": "risk"}, "class": "protected", "never_victim": True}
        thief = admitted({"gpuwarden.service": "risk"}, cfg=config(tenant=[entry]))  # type: ignore[arg-type]
        assert thief.cls <= NORMAL
        assert not thief.is_never_victim
        assert thief.policy_faults

    def test_with_an_image_beside_it_it_does(self) -> None:
        entry = {"match": {"service": "risk", "image": "bank/*"}, "class": "protected"}
        cfg = config(tenant=[entry])  # type: ignore[arg-type]
        label = {"gpuwarden.service": "risk"}
        assert admitted(label, cfg=cfg, image="bank/risk:7").cls is PROTECTED
        assert admitted(label, cfg=cfg, image="evil/risk").cls is LOW

    @pytest.mark.parametrize("beside", [{}, {"runtime": "docker"}, {"service": "risk"}])
    def test_what_a_process_in_a_container_calls_itself_makes_nobody_protected(
        self, beside: dict[str, str]
    ) -> None:
        match = {"comm": "risk-model", **beside}
        entry = {"match": match, "class": "protected", "never_victim": True, "memory": "40GiB"}
        cfg = config(tenant=[entry], default={"memory": "4GiB"})  # type: ignore[arg-type]
        inside = Who(runtime="docker", comm="risk-model")
        thief = admitted({"gpuwarden.service": "risk"}, cfg=cfg, who=inside)
        assert thief.cls <= NORMAL
        assert not thief.is_never_victim
        assert thief.hard_bytes == 4 * GIB
        assert any("anybody can claim" in fault for fault in thief.policy_faults)

    def test_a_name_outside_containers_is_the_operators_own_risk(self) -> None:
        entry = {"match": {"comm": "risk-model"}, "class": "protected"}
        outside = Who(runtime="pgrp", comm="risk-model", uid=1000)
        cfg = config(tenant=[entry])  # type: ignore[arg-type]
        assert admitted(cfg=cfg, who=outside).cls is PROTECTED

    def test_a_name_beside_an_image_counts(self) -> None:
        entry = {"match": {"comm": "risk-model", "image": "bank/*"}, "class": "protected"}
        cfg = config(tenant=[entry])  # type: ignore[arg-type]
        inside = Who(runtime="docker", comm="risk-model")
        assert admitted(cfg=cfg, who=inside, image="bank/risk:7").cls is PROTECTED


class TestMemory:
    @pytest.mark.parametrize(
        ("labels", "entry", "hard"),
        [
            ({}, {"memory": "8GiB"}, 8 * GIB),
            ({"gpuwarden.memory": "4GiB"}, {"memory": "8GiB"}, 4 * GIB),
            ({"gpuwarden.memory": "9GiB"}, {"memory": "8GiB"}, 8 * GIB),
            ({"gpuwarden.memory": "9GiB"}, {"memory": "8GiB", "memory_max": "16GiB"}, 9 * GIB),
            ({"gpuwarden.memory": "17GiB"}, {"memory": "8GiB", "memory_max": "16GiB"}, 8 * GIB),
            ({}, {"memory_max": "16GiB"}, 16 * GIB),
            ({"gpuwarden.memory": "junk"}, {"memory": "8GiB"}, 8 * GIB),
            ({"gpuwarden.memory": "0"}, {"memory": "8GiB"}, 0),
            ({}, {"class": "low"}, None),
        ],
    )
    def test_under_an_entry(
        self, labels: dict[str, str], entry: dict[str, Any], hard: int | None
    ) -> None:
        who = admitted(labels, entry=entry)
        assert who.hard_bytes == hard
        claimed = labels.get("gpuwarden.memory")
        assert bool(who.policy_faults) is (
            claimed in ("17GiB", "junk") or (hard == 8 * GIB and claimed == "9GiB")
        )

    def test_the_default_quota_is_a_cap_too(self) -> None:
        cfg = config(default={"memory": "8GiB"})
        assert admitted(cfg=cfg).hard_bytes == 8 * GIB
        assert admitted({"gpuwarden.memory": "2GiB"}, cfg=cfg).hard_bytes == 2 * GIB
        raised = admitted({"gpuwarden.memory": "1PiB"}, cfg=cfg)
        assert raised.hard_bytes == 8 * GIB
        assert raised.policy_faults
        raised = admitted({"gpuwarden.memory": "64GiB"}, cfg=cfg)
        assert raised.hard_bytes == 8 * GIB

    def test_unless_the_operator_allows_more(self) -> None:
        cfg = config(default={"memory": "8GiB", "memory_max": "32GiB"})
        assert admitted({"gpuwarden.memory": "24GiB"}, cfg=cfg).hard_bytes == 24 * GIB
        assert admitted({"gpuwarden.memory": "33GiB"}, cfg=cfg).hard_bytes == 8 * GIB

    def test_without_any_default_a_label_may_set_its_own(self) -> None:
        assert admitted({"gpuwarden.memory": "64GiB"}).hard_bytes == 64 * GIB

    def test_labels_may_be_given_no_say(self) -> None:
        cfg = config(default={"label_memory": False, "memory": "8GiB"})
        who = admitted({"gpuwarden.memory": "1GiB"}, cfg=cfg)
        assert who.hard_bytes == 8 * GIB
        assert who.policy_faults

    def test_soft(self) -> None:
        entry = {"memory": "8GiB", "memory_soft": "6GiB"}
        assert admitted(entry=entry).soft_bytes == 6 * GIB
        assert admitted({"gpuwarden.memory.soft": "5GiB"}, entry=entry).soft_bytes == 5 * GIB
        over = admitted({"gpuwarden.memory.soft": "7GiB"}, entry=entry)
        assert over.soft_bytes == 6 * GIB
        assert over.policy_faults

    def test_soft_above_the_quota_is_the_quota(self) -> None:
        who = admitted({"gpuwarden.memory": "2GiB", "gpuwarden.memory.soft": "3GiB"})
        assert (who.soft_bytes, who.hard_bytes) == (2 * GIB, 2 * GIB)
        assert who.policy_faults

    def test_soft_without_a_quota_is_said_to_have_no_effect(self) -> None:
        who = admitted({"gpuwarden.memory.soft": "3GiB"})
        assert who.soft_bytes is None
        assert who.policy_faults


class TestGrace:
    @pytest.mark.parametrize(
        ("labels", "entry", "grace"),
        [
            ({}, {"class": "low"}, 10.0),
            ({}, {"class": "best-effort"}, 2.0),
            ({}, {"class": "low", "grace": "5s"}, 5.0),
            ({"gpuwarden.grace": "3s"}, {"class": "low", "grace": "5s"}, 3.0),
            ({"gpuwarden.grace": "60s"}, {"class": "low", "grace": "5s"}, 5.0),
            ({"gpuwarden.grace": "60s"}, {"class": "low"}, 60.0),
            ({"gpuwarden.grace": "1h"}, {"class": "low"}, 300.0),
            ({"gpuwarden.grace": "0s"}, {"class": "low"}, 0.0),
            ({"gpuwarden.grace": "-1s"}, {"class": "low"}, 10.0),
            ({"gpuwarden.grace": "soon"}, {"class": "low"}, 10.0),
        ],
    )
    def test_by_class_label_and_policy(
        self, labels: dict[str, str], entry: dict[str, Any], grace: float
    ) -> None:
        assert admitted(labels, entry=entry).grace_s == grace


def test_who_it_is_for_people_on_one_line_each() -> None:
    who = Who(runtime="docker", comm="py\nthon", uid=1000, unit=None)
    told = dict(admitted(who=who, user="alice", account="risk").identity)
    assert told == {
        "image": "ml/train",
        "user": "alice",
        "account": "risk",
        "command": "py?thon",
        "uid": "1000",
    }
    assert "uid" not in dict(admitted(who=who, user="1000").identity)


class TestHost:
    def test_labels_only_lower(self) -> None:
        entry = {"host_memory": "8GiB", "cpu_cores": 4}
        up = {"gpuwarden.host-memory": "9GiB", "gpuwarden.cpu": "9"}
        down = {"gpuwarden.host-memory": "7GiB", "gpuwarden.cpu": "0.5"}
        raised, lowered = admitted(up, entry=entry).host, admitted(down, entry=entry).host
        assert (raised.memory_bytes, raised.cpu_cores) == (8 * GIB, 4)
        assert (lowered.memory_bytes, lowered.cpu_cores) == (7 * GIB, 0.5)

    @pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", "", "many", "1e400", "4097"])
    def test_garbage_cores(self, value: str) -> None:
        who = admitted({"gpuwarden.cpu": value})
        assert who.host.cpu_cores is None
        assert who.policy_faults

    @pytest.mark.parametrize("value", ["0", "-1GiB", "lots"])
    def test_garbage_host_memory(self, value: str) -> None:
        who = admitted({"gpuwarden.host-memory": value})
        assert who.host.memory_bytes is None
        assert who.policy_faults


class TestWhoNobodyHits:
    def test_an_undescribed_tenant_is_marked_so(self) -> None:
        assert not admitted(described=False).is_described

    def test_owners_word_and_operators_word(self) -> None:
        assert admitted(who=Who(runtime="docker", is_never_victim=True)).is_never_victim
        assert admitted(entry={"never_victim": True}).is_never_victim
        assert not admitted().is_never_victim

    @pytest.mark.parametrize(
        "comm", ["nvidia-cuda-mps-server", "nvidia-persiste", "Xorg", "gpuwarden", "dcgm-exporter"]
    )
    def test_infrastructure_is_roots_and_outside_containers(self, comm: str) -> None:
        root = {"comm": comm, "uid": 0}
        assert is_infrastructure(Who(runtime="pgrp", **root))  # type: ignore[arg-type]
        assert is_infrastructure(Who(runtime="systemd-service", **root))  # type: ignore[arg-type]
        assert not is_infrastructure(Who(runtime="docker", **root))  # type: ignore[arg-type]
        assert not is_infrastructure(Who(runtime="pgrp", comm=comm, uid=1000))
        assert not is_infrastructure(Who(runtime="pgrp", comm=comm, uid=None))

    def test_a_paused_one_and_one_nobody_can_stop(self) -> None:
        who = admitted(
            is_paused=True, cannot_act="no crictl", restart_policy="always", owner_key="k"
        )
        assert (who.is_paused, who.cannot_act, who.restart_policy, who.owner_key) == (
            True,
            "no crictl",
            "always",
            "k",
        )


class TestMatching:
    @pytest.mark.parametrize(
        ("match", "hits"),
        [
            ({"image": "ml/*"}, True),
            ({"image": "ML/*"}, False),
            ({"name": "tr?in"}, True),
            ({"user": "1000"}, True),
            ({"account": "*"}, False),  # it has none
            ({"unit": "*"}, False),
            ({"runtime": "docker"}, True),
            ({"comm": "python*"}, True),
            ({"image": "ml/*", "name": "serve"}, False),
        ],
    )
    def test_every_given_field_has_to_match(self, match: dict[str, str], hits: bool) -> None:
        cfg = config(tenant=[{"match": match, "memory": "1GiB"}])  # type: ignore[arg-type]
        who = admitted(cfg=cfg, who=Who(runtime="docker", comm="python3"), user="1000")
        assert (who.hard_bytes == GIB) is hits


class TestHostility:
    TEXT = st.text(max_size=400)
    NAMES = st.sampled_from(
        [
            "memory",
            "memory.soft",
            "class",
            "service",
            "grace",
            "host-memory",
            "cpu",
            "version",
            "arm",
            "x",
            "",
        ]
    )

    @given(
        labels=st.lists(st.tuples(NAMES.map(lambda n: f"gpuwarden.{n}"), TEXT), max_size=30),
        name=st.none() | TEXT,
        image=st.none() | TEXT,
    )
    def test_whatever_labels_say_it_is_admitted_within_policy(
        self, labels: list[tuple[str, str]], name: str | None, image: str | None
    ) -> None:
        cfg = config(
            tenant=[
                {
                    "match": {"image": "*"},
                    "class": "low",
                    "memory": "8GiB",
                    "grace": "5s",
                    "host_memory": "1GiB",
                    "cpu_cores": 2,
                }
            ]  # type: ignore[arg-type]
        )
        told = RuntimeFacts(
            tenant=TenantId("docker:abc"),
            described=True,
            name=name,
            image="img" if image is None else image,
            labels=tuple(labels),
        )
        who = admit(cfg, told, Who(runtime="docker"), cgroup=None, pids=(), first_seen=0.0)
        assert who.cls <= LOW
        assert who.hard_bytes is not None
        assert 0 <= who.hard_bytes <= 8 * GIB
        assert who.soft_bytes is None or who.soft_bytes <= who.hard_bytes
        assert 0 <= who.grace_s <= 5
        assert who.host.memory_bytes is not None
        assert 0 < who.host.memory_bytes <= GIB
        assert who.host.cpu_cores is not None
        assert 0 < who.host.cpu_cores <= 2
        assert not who.is_never_victim
        for text in (who.name, who.service or "", *who.policy_faults):
            assert text.isprintable()
            assert len(text) <= 400
        assert len(who.policy_faults) <= 16

    def test_unknown_labels_are_named_and_others_labels_are_not_ours(self) -> None:
        who = admitted({"gpuwarden.memroy": "8GiB", "org.example": "x"})
        assert who.policy_faults == ("unknown label gpuwarden.memroy",)

    def test_a_service_name_that_is_not_printable_is_no_service(self) -> None:
        for bad in ("a\nb", "", "x" * 129, "\x1b[2J"):
            who = admitted({"gpuwarden.service": bad})
            assert who.service is None
            assert who.policy_faults
        assert admitted({"gpuwarden.service": "risk"}).service == "risk"
        assert admitted({"gpuwarden.service": "mine"}, entry={"service": "his"}).service == "his"
