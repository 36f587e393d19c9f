"""The metrics page: names, units, what disappears when it cannot be seen, hostile names, bounds."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from gpuwarden.adapters.device_facts import BY_KEY, ELSEWHERE, FACTS, PROCESS_FACTS, TEXTS
from gpuwarden.adapters.exposition import LABEL_MAX_CHARS, Page, Remembered, labels, number
from gpuwarden.adapters.metrics_page import STALE_AFTER_S, PageOptions, render
from gpuwarden.adapters.metrics_tenants import TENANTS_MAX
from gpuwarden.adapters.own_facts import COSTS, TOTALS
from gpuwarden.adapters.probe.specs import FIELDS, GPM_METRICS, NUMBERED
from gpuwarden.adapters.probe.specs import TEXTS as PROBE_TEXTS
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.ids import DeviceId, Pid, TenantId
from gpuwarden.model.service import ProbeKind, ProbeReading
from gpuwarden.model.status import View
from gpuwarden.model.tenant import Use
from tests.sample_view import AT, GIB, HOG, JOB, WALL, device_id, tenants, view

NOW = AT + 0.5


def page(picture: View, *, now: float = NOW, process_top: int = 0) -> str:
    options = PageOptions(process_top=process_top)
    return render(picture, now=now, options=options, remembered=Remembered()).decode()


def samples(text: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(text):
        yield from family.samples


def values(text: str, name: str, **wanted: str) -> dict[str, float]:
    """Values of a metric whose labels include ``wanted``, by the labels that are left."""
    found = {}
    for sample in samples(text):
        if sample.name == f"gpuwarden_{name}" and wanted.items() <= sample.labels.items():
            rest = [value for key, value in sorted(sample.labels.items()) if key not in wanted]
            found["/".join(rest)] = sample.value
    return found


def full_view() -> View:
    """Every fact, total and cost that any table knows, on a device that is well."""
    facts: dict[str, float | str | None] = {
        fact.key + (f":{os.getpid()}" if fact.varying else ""): 1.5
        for fact in (*FACTS, *PROCESS_FACTS)
    }
    slice_ = Device(
        id=DeviceId("MIG-1"),
        index=1,
        name="MIG 1g.5gb",
        total_bytes=5 * GIB,
        used_bytes=GIB,
        at=AT,
        parent=device_id(1),
    )
    picture = view()
    snapshot = replace(picture.snapshot, devices=(*picture.snapshot.devices, slice_))
    return replace(
        picture,
        snapshot=snapshot,
        device_details={device_id(1): facts},
        counters={(name, "/".join("ab"[: len(total.labels)])): 3 for name, total in TOTALS.items()},
        durations=dict.fromkeys(COSTS, 0.25),
    )


def test_memory_of_a_device_in_bytes() -> None:
    text = page(view())
    mine = {"gpu": "0", "uuid": device_id(0)}
    assert values(text, "gpu_memory_total_bytes", **mine) == {"": 40 * GIB}
    assert values(text, "gpu_memory_used_bytes", **mine) == {"": 37 * GIB}
    assert values(text, "gpu_memory_reserved_bytes", **mine) == {"": GIB / 2}
    assert values(text, "gpu_memory_free_bytes", **mine) == {"": 2.5 * GIB}
    assert values(text, "gpu_memory_unattributed_bytes") == {f"0/{device_id(0)}": 3 * GIB}


def test_identity_stands_in_the_info_series_alone() -> None:
    text = page(view())
    assert values(text, "gpu_info", gpu="0") == {
        f'NVIDIA A100-SXM4-40GB/00000000:10:00.0/S"1\\\n/{device_id(0)}': 1.0
    }
    for sample in samples(text):
        if sample.name.startswith("gpuwarden_gpu_") and not sample.name.endswith("_info"):
            assert "model" not in sample.labels


def test_a_blind_device_keeps_sight_and_age_and_loses_its_gauges() -> None:
    text = page(view())
    names = {sample.name for sample in samples(text) if sample.labels.get("gpu") == "3"}
    assert names == {
        "gpuwarden_gpu_info",
        "gpuwarden_gpu_recovery_action",
        "gpuwarden_gpu_sight",
        "gpuwarden_gpu_health_state",
        "gpuwarden_device_sample_age_seconds",
        "gpuwarden_collector_last_success_timestamp_seconds",
    }
    mine = {"gpu": "3", "uuid": device_id(3)}
    assert values(text, "gpu_sight", **mine) == {"ok": 0, "blind": 1, "lost": 0}
    assert values(text, "gpu_health_state", **mine)["blind"] == 1
    assert values(text, "device_sample_age_seconds", **mine) == {"": 42.5}
    read = values(text, "collector_last_success_timestamp_seconds", **mine)
    assert read["memory"] == WALL - 42


def test_a_lost_device_is_never_healthy() -> None:
    picture = view()
    devices = (
        replace(picture.snapshot.devices[0], sight=Sight.LOST),
        *picture.snapshot.devices[1:],
    )
    text = page(replace(picture, snapshot=replace(picture.snapshot, devices=devices)))
    assert values(text, "tenant_gpu_memory_bytes", gpu="0") == {}
    assert values(text, "tenant_over_quota", gpu="0") == {}
    assert values(text, "tenant_gpu_memory_bytes", gpu="1") != {}
    health = values(text, "gpu_health_state", gpu="0", uuid=device_id(0))
    assert health == {"healthy": 0, "warning": 0, "critical": 0, "blind": 0, "lost": 1}
    assert values(text, "gpu_memory_used_bytes", gpu="0") == {}


def test_a_sample_too_old_is_withdrawn_even_where_nobody_said_blind() -> None:
    picture = view()
    old = replace(picture.snapshot.devices[0], at=AT - STALE_AFTER_S - 1)
    devices = (old, *picture.snapshot.devices[1:])
    text = page(replace(picture, snapshot=replace(picture.snapshot, devices=devices)))
    assert values(text, "gpu_memory_used_bytes", gpu="0") == {}
    assert values(text, "gpu_temperature_celsius", gpu="0") == {}
    assert values(text, "device_sample_age_seconds", gpu="0") == {device_id(0): STALE_AFTER_S + 1.5}


def test_when_the_loop_hangs_nothing_of_the_world_is_told_and_all_is_blind() -> None:
    text = page(view(), now=AT + STALE_AFTER_S + 0.1)
    assert values(text, "tick_age_seconds") == {"": pytest.approx(STALE_AFTER_S + 0.1)}
    assert set(values(text, "gpu_sight", state="ok").values()) == {0.0}
    assert set(values(text, "gpu_health_state", state="healthy").values()) == {0.0}
    for gone in (
        "gpu_memory_used_bytes",
        "tenant_gpu_memory_bytes",
        "service_state",
        "host_cpu_ratio",
    ):
        assert values(text, gone) == {}
    assert values(text, "ticks_total") == {"": 36_000}


def test_tenants_quota_overrun_class_rung() -> None:
    text = page(view())
    on_first = {"gpu": "0", "uuid": device_id(0)}
    assert values(text, "tenant_gpu_memory_bytes", tenant=HOG, **on_first) == {"": 23 * GIB}
    assert values(text, "tenant_gpu_quota_bytes", tenant=HOG) == {"soft": 8 * GIB, "hard": 8 * GIB}
    assert values(text, "tenant_over_quota", tenant=HOG, **on_first) == {"soft": 1, "hard": 1}
    assert values(text, "tenant_over_quota", tenant=JOB, gpu="1", uuid=device_id(1)) == {
        "soft": 0,
        "hard": 0,
    }
    assert values(text, "tenant_class", tenant=HOG) == {"": 1}
    assert values(text, "tenant_frozen", tenant=HOG) == {"": 1}
    rungs = values(text, "tenant_rung", tenant=HOG)
    assert [rung for rung, is_on in rungs.items() if is_on] == ["termed"]
    assert values(text, "tenant_processes", tenant=JOB) == {"": 12}


def test_a_tenant_that_is_renamed_is_told_by_its_new_name() -> None:
    remembered = Remembered()
    options = PageOptions()
    first, second = view(), view()
    hog, *others = second.snapshot.tenants
    renamed = (replace(hog, name="another"), *others)
    second = replace(second, snapshot=replace(second.snapshot, tenants=renamed))
    for picture, name in ((first, "batch-embed-nightly"), (second, "another"), (first, hog.name)):
        text = render(picture, now=NOW, options=options, remembered=remembered).decode()
        assert [
            sample.labels["name"]
            for sample in samples(text)
            if sample.name == "gpuwarden_tenant_info" and sample.labels["tenant"] == HOG
        ] == [name]


def test_tenants_beyond_the_bound_are_summed_not_lost() -> None:
    picture = view()
    many = tuple(
        replace(tenants()[0], id=TenantId(f"docker:{number:064x}"))
        for number in range(TENANTS_MAX + 40)
    )
    uses = tuple(
        Use(tenant=tenant.id, device=device_id(0), used_bytes=number + 1, listed_at=AT)
        for number, tenant in enumerate(many)
    )
    snapshot = replace(picture.snapshot, tenants=many, uses=uses)
    text = page(replace(picture, snapshot=snapshot, cases=()))
    sizes = values(text, "tenant_gpu_memory_bytes", gpu="0", uuid=device_id(0))
    assert len(sizes) == TENANTS_MAX + 1
    assert sizes["other"] == sum(range(1, 41))
    assert sum(sizes.values()) == sum(use.used_bytes for use in uses)


def test_processes_have_series_only_when_asked_and_the_largest_only() -> None:
    picture = view()
    facts = {f"process_memory_bytes:{pid}": float(pid) for pid in range(1, 50)}
    facts |= {f"process_sm_ratio:{pid}": 0.5 for pid in range(1, 50)}
    picture = replace(picture, device_details={device_id(0): facts})
    assert values(page(picture), "process_gpu_memory_bytes") == {}
    text = page(picture, process_top=2)
    mine = {"gpu": "0", "uuid": device_id(0)}
    assert values(text, "process_gpu_memory_bytes", **mine) == {"48": 48, "49": 49}
    assert values(text, "process_gpu_sm_ratio", **mine) == {"48": 0.5, "49": 0.5}


def test_a_shown_process_tells_whose_it_is_and_what_it_costs_the_host() -> None:
    me = os.getpid()
    owner = replace(tenants()[0], pids=(Pid(pid=me, start=1),))
    picture = view()
    facts = {f"process_memory_bytes:{pid}": float(pid) for pid in (me, 1 << 30)}
    picture = replace(
        picture,
        snapshot=replace(picture.snapshot, tenants=(owner,)),
        device_details={device_id(0): facts},
    )
    text = page(picture, process_top=2)
    assert values(text, "process_gpu_info") == {f"{me}/{owner.id}": 1}
    assert values(text, "process_gpu_host_rss_bytes")[str(me)] > 10 * 2**20
    assert values(text, "process_gpu_host_cpu_seconds_total")[str(me)] > 0
    assert values(page(picture), "process_gpu_info") == {}


def test_facts_carry_units_and_labels_of_the_table() -> None:
    text = page(view())
    mine = {"gpu": "0", "uuid": device_id(0)}
    assert values(text, "gpu_temperature_celsius", **mine) == {"core": 61}
    assert values(text, "gpu_power_watts", **mine) == {"": 312.5}
    assert values(text, "gpu_fan_speed_ratio", **mine) == {"": 0.4}
    assert values(text, "gpu_engine_utilization_ratio") == {}
    active = values(text, "gpu_clock_event_active", **mine)
    assert len(active) == 9
    assert [reason for reason, is_on in active.items() if is_on] == ["sw_power_cap"]


def test_every_fact_the_probe_reads_has_its_row() -> None:
    said = {out.key for spec in NUMBERED for out in spec.outs}
    said |= {field.key for field in FIELDS} | {metric.key for metric in GPM_METRICS}
    said |= {spec.verdict[0] for spec in NUMBERED if spec.verdict is not None}
    said = {key.partition(":")[0] for key in said} | {"processes"}
    assert said - ELSEWHERE == {fact.key for fact in FACTS}
    assert {text.key for text in PROBE_TEXTS} == set(TEXTS)
    assert len(BY_KEY) == len(FACTS) + len(PROCESS_FACTS)


def test_mig_slices_do_not_count_twice() -> None:
    text = page(full_view())
    assert values(text, "gpu_mig_memory_bytes", uuid="MIG-1", gpu="1") == {
        "total": 5 * GIB,
        "used": GIB,
    }
    assert values(text, "gpu_memory_total_bytes", uuid="MIG-1") == {}
    assert values(text, "gpu_mig_info", uuid="MIG-1", gpu="1", parent=device_id(1)) == {
        "MIG 1g.5gb": 1
    }


def test_what_holds_now_is_counted_by_bounded_words() -> None:
    text = page(view())
    assert values(text, "findings") == {"labels/warning": 1, "quota/critical": 1, "sight/error": 1}
    assert values(text, "gaps") == {"unavailable/docker": 1, "hung/nvml": 1}
    assert values(text, "withheld") == {"one_per_device/kill": 1}
    assert values(text, "incidents_open") == {"": 1}
    assert values(text, "service_state", service="risk") == {"green": 0, "red": 1, "unknown": 0}
    assert values(text, "host_pressure_ratio") == {
        "memory/full": 0.015,
        "memory/some": 0.0225,
        "cpu/some": 0.1,
        "io/full": 0.0,
    }


def test_totals_and_costs_and_what_no_table_knows() -> None:
    text = page(view())
    assert values(text, "actions_total") == {"term/done": 1}
    assert values(text, "gpu_xid_events_total") == {f"{device_id(0)}/13": 2}
    assert values(text, "other_total") == {"x/made_up_elsewhere": 5}
    assert values(text, "agent_resident_memory_bytes") == {"": 41_000_000}
    assert values(text, "agent_cpu_seconds_total") == {"": 12.5}


def test_what_a_services_probe_says_and_how_old_that_is() -> None:
    reading = ProbeReading(
        service="risk",
        kind=ProbeKind.HTTP,
        tenant=None,
        is_well=False,
        since=AT - 5,
        failures=2,
        at=AT - 1.5,
    )
    silent = replace(reading, service="new", is_well=None, at=None)
    picture = view()
    picture = replace(picture, snapshot=replace(picture.snapshot, probes=(reading, silent)))
    text = page(picture)
    assert values(text, "service_probe_failures") == {"risk": 2}
    assert values(text, "service_probe_age_seconds") == {"risk": 2.0}


def test_a_refused_configuration_shows() -> None:
    picture = view()
    bad = replace(picture, agent=replace(picture.agent, config_ok=False))
    assert values(page(picture), "config_reload_success") == {"": 1}
    assert values(page(bad), "config_reload_success") == {"": 0}


def test_each_family_stands_once_and_each_series_once() -> None:
    text = page(full_view(), process_top=3)
    headers = re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)
    assert len(headers) == len(set(headers)) > 90
    series = [line.rpartition(" ")[0] for line in text.splitlines() if line[0] != "#"]
    assert len(series) == len(set(series))
    current = ""
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            current = line.split()[2]
        elif line[0] != "#":
            assert re.split(r"[{ ]", line)[0] == current


@pytest.mark.promtool
@pytest.mark.parametrize("picture", [view(), full_view()], ids=["incident", "everything"])
def test_promtool_finds_nothing(picture: View) -> None:
    promtool = shutil.which("promtool")
    assert promtool is not None
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=page(picture, process_top=3),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@given(st.text(), st.text())
def test_any_name_of_a_tenant_parses_back_as_one_label(tenant_id: str, name: str) -> None:
    picture = view()
    hostile = replace(tenants()[0], id=TenantId(tenant_id), name=name)
    use = Use(tenant=hostile.id, device=device_id(0), used_bytes=7, listed_at=AT)
    snapshot = replace(picture.snapshot, tenants=(hostile,), uses=(use,))
    text = page(replace(picture, snapshot=snapshot, cases=()))
    found = [sample for sample in samples(text) if sample.name == "gpuwarden_tenant_info"]
    assert len(found) == 1
    assert len(found[0].labels["name"]) <= LABEL_MAX_CHARS
    plain = "".join(each if each.isprintable() or each == "\n" else "?" for each in name)
    if len(name) <= LABEL_MAX_CHARS:
        assert found[0].labels["name"] == plain
    assert list(values(text, "tenant_gpu_memory_bytes").values()) == [7]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-7, "-7"),
        (2**60, str(2**60)),
        (True, "1"),
        (False, "0"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (float("nan"), None),
    ],
)
def test_numbers(value: float, text: str | None) -> None:
    assert number(value) == text


def test_a_family_without_samples_is_left_out() -> None:
    built = Page()
    built.family("empty", "gauge", "nothing")
    built.family("full", "gauge", "something").add(labels((("a", "b"),)), 1)
    assert built.render().decode().splitlines() == [
        "# HELP gpuwarden_full something",
        "# TYPE gpuwarden_full gauge",
        'gpuwarden_full{a="b"} 1',
    ]


@pytest.mark.parametrize("tail", ["\x00\x01", "ab"])
def test_tenants_whose_names_look_alike_have_series_of_their_own(tail: str) -> None:
    """Control characters are replaced and long names cut: one series twice fails the whole scrape."""
    picture = view()
    stem = "lxc:" if tail != "ab" else "lxc:" + "x" * 200
    pair = [replace(tenants()[0], id=TenantId(stem + each)) for each in tail]
    uses = tuple(
        Use(tenant=each.id, device=device_id(0), used_bytes=7, listed_at=AT) for each in pair
    )
    snapshot = replace(picture.snapshot, tenants=tuple(pair), uses=uses, limits=())
    text = page(replace(picture, snapshot=snapshot, cases=(), findings=()))
    series = [(s.name, tuple(sorted(s.labels.items()))) for s in samples(text)]
    assert len(series) == len(set(series))
    assert all(len(label) <= LABEL_MAX_CHARS for _, pairs in series for _, label in pairs)
