"""The page of a drift report: everything in it, nothing from elsewhere, no name is markup."""

from __future__ import annotations

import re

from gpuwarden.commands.report_page import page
from tests.adapters.drift_reports import report


def test_names_are_text_and_nothing_is_fetched() -> None:
    made = page(report(), {"features": b"a picture", "kpi-1": b"another"})
    assert "<script" not in made
    assert made.count("&lt;script&gt;") >= 5
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)', made) == []
    assert "url(" not in made
    assert "http:" not in made.replace("http-equiv", "")
    assert "default-src 'none'" in made


def test_all_parts_stand_there() -> None:
    made = page(report(), {"features": b"x", "distances": b"x", "quality": b"x", "kpi-1": b"x"})
    for text in (
        "12,000 rows in 12 windows of 1,000",
        "<h2>Features</h2>",
        "<h2>Distance and chance</h2>",
        "<h2>Quality</h2>",
        "the last 12 rows make no window",
        "<td class=n>0.5 to 1.5</td>",
        'class="summary"',
        "<h2>All features</h2>",
        "<td class=n>&lt;1e-15</td>",
    ):
        assert text in made
    assert made.count('<img alt="') == 4
