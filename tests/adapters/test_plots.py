"""Pictures of a drift report: all that there is data for, of odd data, too."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

from PIL import Image

from gpuwarden.adapters import plots
from gpuwarden.model.drift_report import FeaturePoint, FeatureTrack, KpiTrack
from tests.adapters.drift_reports import report

RED = (179, 38, 30)


def _image(raw: bytes) -> Image.Image:
    return Image.open(io.BytesIO(raw)).convert("RGB")


def _pixels(raw: bytes, colour: tuple[int, int, int]) -> int:
    image = _image(raw)
    counts: Any = image.getcolors(image.width * image.height) or []
    near = [n for n, c in counts if max(abs(a - b) for a, b in zip(c, colour, strict=True)) < 25]
    return sum(near)


def test_each_part_has_its_picture_and_is_small() -> None:
    made = plots.drawn(report())
    assert list(made) == ["features", "distances", "joint", "quality", "kpi-1"]
    for raw in made.values():
        assert len(raw) < 100_000
        assert _image(raw).width >= 900


def test_a_finding_is_marked_and_a_verdict_has_its_line() -> None:
    whole = report()
    calm = tuple(
        dataclasses.replace(
            each, points=tuple(dataclasses.replace(p, is_drift=False) for p in each.points)
        )
        for each in whole.features
    )
    assert whole.quality is not None
    quiet = dataclasses.replace(
        whole,
        features=calm,
        quality=dataclasses.replace(whole.quality, verdict_window=None),
    )
    loud, silent = plots.drawn(whole), plots.drawn(quiet)
    for name in ("features", "quality"):
        assert _pixels(loud[name], RED) > _pixels(silent[name], RED) + 100


def test_what_has_no_data_has_no_picture() -> None:
    bare = dataclasses.replace(report(), features=(), joint=(), quality=None, kpis=())
    assert plots.drawn(bare) == {}
    names = dataclasses.replace(bare, features=report().features[1:2])
    assert list(plots.drawn(names)) == ["features", "distances"]


def test_the_most_moved_are_drawn() -> None:
    many = tuple(
        FeatureTrack(
            feature=f"f{n:02}",
            points=(FeaturePoint(psi=n / 10, is_drift=n == 3),),
            was_mean=0.0,
            was_std=1.0,
        )
        for n in range(30)
    )
    shown = plots.most_moved(dataclasses.replace(report(), features=many))
    assert [each.feature for each in shown] == ["f03", "f29", "f28", "f27", "f26", "f25"]


def test_a_kpi_without_any_result_is_drawn() -> None:
    empty = KpiTrack(
        metric="a", kpi="b", metric_values=(), kpi_values=(), lags=(), told="too short"
    )
    assert "kpi-1" in plots.drawn(dataclasses.replace(report(), kpis=(empty,)))
