"""The page of a running service: all that is told of it, nothing from elsewhere, no name is markup."""

from __future__ import annotations

import math
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gpuwarden.commands import charts
from gpuwarden.commands.service_page import page, write
from gpuwarden.errors import Refused
from gpuwarden.wire.v1 import drift_pb2, evaluation_pb2
from tests.commands import service_pages as told

HOSTILE = f"{told.SCRIPT}\"' onload=x><img src=http://x.example/a>\x1b[31m\u202e"


class Read(HTMLParser):
    """Tags, attributes and the text between."""

    def __init__(self, made: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(made)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "rect", "line", "polyline", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "line", "polyline", "circle"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def said(made: str) -> str:
    return " ".join(" ".join(Read(made).text).split())


def test_all_that_is_told_stands_there() -> None:
    text = said(page(told.report(), told.drift()))
    for part in (
        "Service chest-xray red",
        "3 nodes, versions v1, v2; newest data 8.0 s old",
        "latency-p99 v2 red 20",
        "2.317 1 latency-p99 of version v2 is 2.32 s, limit 1 s",
        "accuracy v2 old-scanner unknown",
        "no labels were told",
        "worst gpu-07; GPU 3 there ran hot",
        "GPU cause: throttle. GPU 3 ran hot",
        "on gpu-07 GPU-5f1d, incident inc-0042, tenant chest-xray.service",
        "gpu-07 4.81 1,210 beyond the limit",
        "v2 old-scanner drift since 20",
        "drifted: brightness (mean 98.2 -> 127.4, +0.83 sd)",
        "<1e-15 0.61 0.83 127.4 98.2 1,000",
        "5.20% before, 14.10% of the newest 800 labels, p = 3e-07; adwin, hddm-w (river 0.21.2)",
        "4.113 before, 4.021 of the newest 300 scores",
        "a new profile of version v2",
        "full training was asked for (HTTP 200)",
        "a rollout of v2 waits at 5 %: data-drift",
        "v1 41,000 0.962",
    ):
        assert part in text


def test_what_has_drifted_has_a_picture() -> None:
    read = Read(page(told.report(), told.drift()))
    assert [tag for tag, _ in read.tags].count("svg") == 4  # two numbers, one category, errors
    text = " ".join(read.text)
    assert "the outermost values lie outside of the picture" in text  # of dose, not of brightness
    assert text.count("outermost") == 1
    assert "west, where names are lon…" in text
    for _, each in read.tags:
        for place in re.findall(r"[-\d.]+", each.get("points") or ""):
            assert -1 <= float(place) <= charts.WIDTH + 1


def test_names_are_text_and_nothing_is_fetched() -> None:
    made = page(
        told.report(HOSTILE, HOSTILE, HOSTILE), told.drift(HOSTILE, HOSTILE, HOSTILE), version="v2"
    )
    read = Read(made)
    assert not read.open
    assert {tag for tag, _ in read.tags} <= {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "h3",
        "p",
        "b",
        "ul",
        "li",
        "div",
        "table",
        "tr",
        "th",
        "td",
        "span",
        "figure",
        "figcaption",
        "svg",
        "text",
        "line",
        "rect",
        "polyline",
        "circle",
    }
    for tag, attributes in read.tags:
        assert not {name for name in attributes if name.startswith("on")}, tag
        assert not attributes.keys() & {"src", "href", "xlink:href", "srcset", "action", "data"}
    assert told.SCRIPT in " ".join(read.text)
    assert made.count("http:") == made.count("http://x.example")  # as text
    assert not re.findall(r"url\(|@import|\x1b|\u202e", made)
    assert "default-src 'none'" in made


def test_what_is_not_told_is_said_to_be_missing() -> None:
    text = said(page(told.report(), told.drift()))
    assert "kernel not-enough-data" in text
    assert "212 of 1000 rows" in text
    assert "exposure its values are not told: the next full window brings them" in text
    assert "fewer than two quarters of an hour with labels were told" in text
    assert "a profile, but no live data, of version v3" in text
    bare = evaluation_pb2.ServiceReportResponse(
        standing=evaluation_pb2.ServiceStanding(service="ocr", colour="unknown")
    )
    text = said(page(bare, None, drift_missing="the aggregator is older than this command"))
    assert "versions not told; newest data never told" in text
    assert "no guardrail is judged of it" in text
    assert "drift is not known: the aggregator is older than this command" in text
    assert "Numbers of the last hour none were told" in text
    text = said(page(bare, drift_pb2.ServiceDriftResponse()))
    assert "no features and no labels were told lately" in text


def test_one_version_alone() -> None:
    text = said(page(told.report(), told.drift(), version="v1"))
    assert "no profile of version v1" in text
    assert "brightness" not in text.split("Drift", 1)[1]


def test_a_red_verdict_without_nodes_or_cause_says_so() -> None:
    report = told.report()
    for each in report.verdicts:
        each.ClearField("nodes")
        each.ClearField("cause")
    text = said(page(report, told.drift()))
    assert "the GPU cause is not told" in text
    assert "no node is known to have a part in it" in text


@pytest.mark.parametrize(
    "values",
    [[math.nan] * 21, [math.inf] * 21, [3.0] * 21, [-1e308, 1e308], [1.0]],
    ids=["nan", "inf", "constant", "too-wide", "one"],
)
def test_numbers_that_make_no_picture(values: list[float]) -> None:
    assert charts.quantiles(values, values) is None
    drift = told.drift()
    shape = drift.reports[0].features[0].shape
    shape.profile[:], shape.live[:] = values, values
    assert "brightness its values make no picture" in said(page(told.report(), drift))


def test_hostile_numbers_of_everything_else_stand_as_unknown() -> None:
    report, drift = told.report(), told.drift()
    report.verdicts[1].verdict.value = math.nan
    report.verdicts[1].verdict.since_wall = report.standing.since_wall = 1e300
    report.numbers[0].value = math.inf
    stream = drift.reports[0].streams[0]
    stream.value, stream.p_value, stream.points[3].wrong = math.nan, math.inf, math.nan
    drift.reports[0].features[1].shape.names[0].live = -math.inf
    text = said(page(report, drift))
    assert "nan" not in text.split()
    assert "inf" not in text.split()
    assert "site its values make no picture" in text


def test_a_line_that_is_cut_keeps_its_place() -> None:
    line = [(0.0, 0.0), (10.0, 0.5), (1000.0, 1.0)]
    found = charts._within(line, 5.0, 20.0)
    assert found[0] == (5.0, 0.25)
    assert found[-1] == pytest.approx((20.0, 0.505), abs=1e-3)


def test_a_page_is_written_whole_and_over_a_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("before")
    write(file, "after \ud800")
    assert file.read_text() == "after ?"
    assert os.listdir(tmp_path) == ["page.html"]
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to(file)
    for each in (fifo, link, tmp_path):
        with pytest.raises(Refused, match="no plain file"):
            write(each, "x")
    with pytest.raises(Refused, match="No such file"):
        write(tmp_path / "none" / "page.html", "x")
    assert file.read_text() == "after ?"
    assert sorted(os.listdir(tmp_path)) == ["fifo", "link", "page.html"]
