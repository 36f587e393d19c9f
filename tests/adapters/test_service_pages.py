"""Services for load balancers and Prometheus: 200 only where requests may be sent, and a bounded page."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from typing import Any

import pytest

from gpuwarden.adapters.exposition import Page
from gpuwarden.adapters.service_pages import SERVICES_MAX, fit, of_services
from gpuwarden.model.evaluation import Cohort, Colour, Missing, Verdict
from gpuwarden.model.fitness import ServicesView, Standing


def verdict(colour: Colour = Colour.RED, **more: Any) -> Verdict:
    values: dict[str, Any] = {
        "guardrail": "latency-p99",
        "cohort": Cohort(service="chat", version="v2"),
        "since_wall": 5.0,
        "at_wall": 9.0,
        "value": 0.7123456789,
        "limit": 0.5,
        "severity": "error",
        **more,
    }
    return Verdict(colour=colour, **values)


def view(name: str = "chat", note: str = "", **more: Any) -> ServicesView:
    values: dict[str, Any] = {"colour": Colour.GREEN, "why": "w", "since_wall": 1.0, **more}
    standing = Standing(service=name, **values)
    return ServicesView(serial=1, wall=10.0, services={name: standing}, note=note)


@pytest.mark.parametrize(("is_fit", "status"), [(True, 200), (False, 503), (None, 503)])
def test_only_what_is_fit_is_sent_requests(is_fit: bool | None, status: int) -> None:
    got, line = fit(view(is_fit=is_fit, queue_length=3.0), "chat")
    said = json.loads(line)
    assert (got, said["fit"], said["queue_length"]) == (status, is_fit, 3.0)
    assert said["gpu_utilization"] is None


def test_what_is_judged_by_half_of_the_nodes_is_not_known() -> None:
    got, line = fit(view(is_fit=True, note="the database is away"), "chat")
    assert (got, json.loads(line)["fit"]) == (503, None)
    assert fit(view(note="the database is away"), "other")[0] == 503
    assert fit(view(), "other")[0] == 404


def test_verdicts_are_told_with_their_part_and_no_odd_numbers() -> None:
    unknown = verdict(Colour.UNKNOWN, value=None, missing=Missing.NO_DATA)
    stalled = verdict(value=math.inf)
    line = fit(view(verdicts=(verdict(), unknown, stalled)), "chat")[1]
    one, two, three = json.loads(line)["verdicts"]
    assert (one["version"], one["value"], one["missing"]) == ("v2", 0.712346, None)
    assert "segment" not in one
    assert (two["value"], two["missing"]) == (None, "no-data")
    assert three["value"] is None
    assert b"Infinity" not in line


def test_the_page_is_bounded_and_well_formed() -> None:
    odd = 'a"\n\\b'
    standings = {
        name: Standing(
            service=name,
            colour=Colour.RED,
            why="",
            since_wall=1.0,
            is_fit=False,
            age_s=3.0,
            verdicts=(verdict(), verdict(Colour.GREEN)),
        )
        for name in (odd, *(f"s{n:04}" for n in range(SERVICES_MAX + 50)))
    }
    page = Page()
    of_services(page, ServicesView(serial=1, wall=1.0, services=standings))
    text = page.render().decode()
    assert text.count("gpuwarden_service_fit{") == SERVICES_MAX
    assert "gpuwarden_services_unshown 51" in text
    if (promtool := shutil.which("promtool")) is not None:
        checked = subprocess.run(
            [promtool, "check", "metrics"],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
