"""Plots of a drift report as PNG, by matplotlib. Nothing is judged here.

No meaning is in a colour alone: a finding has a marker of its own, every line a style and a place in the legend. Texts
are other people's: they are drawn as they are, never as formulas.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gpuwarden.errors import Unsupported
from gpuwarden.model.drift_report import DriftReport, FeatureTrack, KpiTrack, QualityTrack

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN_MAX = 6
"""Features that are drawn: those that have moved most. The table of the page has all."""
TICKS_MAX = 7
NAME_CHARS = 40
COLOURS = 64
LEAST_P = 1e-16
"""Smaller ones are drawn there: a float says no more."""
_PSI_TICKS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_INK, _QUIET, _REFERENCE, _ALARM = "#1f2933", "#52606d", "#2f6f4f", "#b3261e"
_LINES = (
    ("#1b5e9b", "-", "o"),
    ("#a34700", "--", "s"),
    ("#5b3a8c", "-.", "^"),
    ("#00695c", ":", "D"),
    ("#8a1c4a", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("#455a64", (0, (1, 1)), "P"),
)


def drawn(report: DriftReport) -> dict[str, bytes]:
    """PNG by name, in the order of the page; a part without data has none. Raises ``Unsupported``."""
    try:
        from matplotlib import figure as _  # noqa: F401 - says whether it is there
    except ImportError as error:
        raise Unsupported("matplotlib is not installed: pip install 'gpuwarden[report]'") from error
    made: dict[str, bytes] = {}
    shown = most_moved(report)
    if shown:
        made["features"] = _png(_features(report, shown))
        made["distances"] = _png(_distances(report, shown))
    if any(each.accuracy is not None for each in report.joint):
        made["joint"] = _png(_joint(report))
    if report.quality is not None and any(p.accuracy is not None for p in report.quality.points):
        made["quality"] = _png(_quality(report, report.quality))
    for number, each in enumerate(report.kpis):
        made[f"kpi-{number + 1}"] = _png(_kpi(each))
    return made


def most_moved(report: DriftReport) -> list[FeatureTrack]:
    """Found ones first, then by their largest PSI."""
    ranked = sorted(report.features, key=lambda f: (-f.drifts, -f.psi_max, f.feature))
    return ranked[:SHOWN_MAX]


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _png(figure: Figure) -> bytes:
    """With a palette: a third of the size. Median cut would lose the colours that are rare, as a finding is."""
    from PIL import Image

    raw, to = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="png")
    with Image.open(raw) as image:
        image.convert("RGB").quantize(
            colors=COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        ).save(to, format="png", optimize=True)
    return to.getvalue()


def _features(report: DriftReport, shown: Sequence[FeatureTrack]) -> Figure:
    numbers = [each for each in shown if each.was_mean is not None]
    columns = 1 if len(numbers) < 2 else 2
    rows = max(1, math.ceil(len(numbers) / columns))
    figure = _figure(9.2, 0.7 + 2.3 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
    flat = [each for row in panels for each in row]
    for panel, track in zip(flat, numbers, strict=False):
        _feature(report, panel, track)
    for panel in flat[len(numbers) :]:
        panel.set_axis_off()
    for panel in [row[0] for row in panels]:
        panel.set_ylabel("mean of a window", color=_QUIET, fontsize=9)
    if not numbers:
        flat[0].text(0.5, 0.5, "no feature of numbers", ha="center", transform=flat[0].transAxes)
    last = max(0, len(numbers) - columns)
    for number in range(last, len(numbers)):
        _windows(report, flat[number], number=True)
    if numbers:
        handles, labels = flat[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9
        )
    return figure


def _feature(report: DriftReport, panel: Axes, track: FeatureTrack) -> None:
    mean, std = track.was_mean or 0.0, track.was_std or 0.0
    x = list(range(len(track.points)))
    y = [_nan(each.mean) for each in track.points]
    half = report.material_sigmas * std
    panel.axhspan(mean - half, mean + half, color=_REFERENCE, alpha=0.13, lw=0,
                  label=f"within {report.material_sigmas:g} sd of the reference")  # fmt: skip
    panel.axhline(mean, color=_REFERENCE, lw=1.2, ls="--", label="mean of the reference")
    panel.plot(x, y, color=_INK, lw=1.3, marker="o", ms=2.6, label="live")
    found = [n for n in x if track.points[n].is_drift]
    panel.plot(found, [y[n] for n in found], ls="none", marker="X", ms=8, color=_ALARM,
               mec="white", mew=0.7, label="drift found")  # fmt: skip
    panel.set_title(_name(track.feature), loc="left", fontsize=10, color=_INK)
    _dress(panel)


def _distances(report: DriftReport, shown: Sequence[FeatureTrack]) -> Figure:
    figure = _figure(9.2, 5.2)
    above, below = figure.subplots(2, 1, sharex=True)
    for track, (colour, style, marker) in zip(shown, _LINES, strict=False):
        x = list(range(len(track.points)))
        look: dict[str, Any] = {
            "color": colour,
            "ls": style,
            "marker": marker,
            "ms": 3.6,
            "lw": 1.3,
        }
        above.plot(x, [_nan(p.psi) for p in track.points], label=_name(track.feature), **look)
        below.plot(x, [_tens(p.p_value) for p in track.points], **look)
    _limit(above, report.material_psi, f"large enough from {report.material_psi:g}")
    _limit(below, _tens(report.level), f"sure from p = {report.level:.1g}")
    above.set_ylabel("PSI (nats)", color=_QUIET)
    below.set_ylabel("-log10 of corrected p\n(16 and beyond: 16)", color=_QUIET)
    for panel in (above, below):
        _dress(panel)
    above.set_yscale(
        "symlog", linthresh=report.material_psi
    )  # one large move must not hide the limit
    _plain_ticks(above)
    above.set_ylim(bottom=0)
    below.set_ylim(bottom=0)
    _windows(report, below)
    figure.legend(*above.get_legend_handles_labels(), loc="outside upper center", ncols=3,
                  frameon=False, fontsize=9)  # fmt: skip
    return figure


def _joint(report: DriftReport) -> Figure:
    figure = _figure(9.2, 2.9)
    panel = figure.subplots()
    y = [100 * _nan(each.accuracy) for each in report.joint]
    panel.plot(y, color=_INK, lw=1.2, marker="o", ms=2.8, label="rows told right")
    panel.axhline(50, color=_REFERENCE, ls="--", lw=1.2, label="chance: no drift")
    found = [n for n, each in enumerate(report.joint) if each.is_drift]
    panel.plot(found, [y[n] for n in found], ls="none", marker="X", ms=8, color=_ALARM,
               mec="white", mew=0.7, label="drift found")  # fmt: skip
    if report.joint_needed is not None:
        _limit(panel, 100 * report.joint_needed, f"sure and large from {report.joint_needed:.0%}")
    panel.set_ylabel("accuracy of a classifier (%)", color=_QUIET)
    _dress(panel)
    _windows(report, panel)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


def _quality(report: DriftReport, track: QualityTrack) -> Figure:
    figure = _figure(9.2, 3.4)
    panel = figure.subplots()
    told = [(n, p) for n, p in enumerate(track.points) if p.accuracy is not None]
    y = [100 * _nan(p.accuracy) for _, p in told]
    errors = [
        [a - 100 * _nan(p.low) for a, (_, p) in zip(y, told, strict=True)],
        [100 * _nan(p.high) - a for a, (_, p) in zip(y, told, strict=True)],
    ]
    panel.errorbar([n for n, _ in told], y, yerr=errors, color=_INK, lw=1.2, marker="o", ms=3.2,
                   elinewidth=0.8, capsize=2, label="accuracy of a window, 95 % interval")  # fmt: skip
    if track.baseline is not None:
        panel.axhline(100 * track.baseline, color=_REFERENCE, ls="--", lw=1.2,
                      label=f"before: {track.baseline:.1%}")  # fmt: skip
    if track.verdict_window is not None:
        panel.axvline(track.verdict_window, color=_ALARM, lw=1.4, ls="-.",
                      label=f"verdict: accuracy has dropped ({report.windows[track.verdict_window]})")  # fmt: skip
    panel.set_ylabel("accuracy (%)", color=_QUIET)
    _dress(panel)
    _windows(report, panel)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


def _kpi(track: KpiTrack) -> Figure:
    figure = _figure(9.2, 4.2)
    grid = figure.add_gridspec(2, 2, width_ratios=(1.7, 1))
    above = figure.add_subplot(grid[0, 0])
    below = figure.add_subplot(grid[1, 0], sharex=above)
    beside = figure.add_subplot(grid[:, 1])
    for panel, values, name, (colour, style, _) in (
        (above, track.metric_values, track.metric, _LINES[0]),
        (below, track.kpi_values, track.kpi, _LINES[1]),
    ):
        panel.plot([_nan(v) for v in values], color=colour, ls=style, lw=1.2)
        panel.set_ylabel(_name(name), color=_QUIET)
        _dress(panel)
    above.tick_params(labelbottom=False)
    below.set_xlabel("step", color=_QUIET)
    for sure, look in ((True, "s"), (False, "o")):
        lags = [e for e in track.lags if e.slope is not None and e.is_significant is sure]
        if not lags:
            continue
        y = [_nan(e.slope) for e in lags]
        errors = [
            [a - _nan(e.low) for a, e in zip(y, lags, strict=True)],
            [_nan(e.high) - a for a, e in zip(y, lags, strict=True)],
        ]
        beside.errorbar([e.lag for e in lags], y, yerr=errors, ls="none", marker=look, ms=6,
                        color=_ALARM if sure else _QUIET, mfc=None if sure else "white", capsize=2,
                        label="beyond chance" if sure else "chance explains it")  # fmt: skip
    beside.axhline(0, color=_QUIET, lw=0.8)
    beside.set_xlabel("lag: steps by which the KPI is later", color=_QUIET, fontsize=9)
    beside.set_ylabel("slope: the KPI a unit of the metric", color=_QUIET, fontsize=9)
    _dress(beside)
    _whole_ticks(beside)
    if track.lags:
        beside.legend(frameon=False, fontsize=9)
    return figure


def _limit(panel: Axes, at: float, what: str) -> None:
    panel.axhline(at, color=_ALARM, lw=1.1, ls=(0, (6, 3)))
    panel.annotate(what, (1.0, at), xycoords=("axes fraction", "data"), xytext=(-4, 3),
                   textcoords="offset points", ha="right", color=_ALARM, fontsize=9)  # fmt: skip


def _windows(report: DriftReport, panel: Axes, *, number: bool = False) -> None:
    count = len(report.windows)
    ticks_max = 4 if number else TICKS_MAX
    step = max(1, math.ceil(count / ticks_max))
    places = list(range(0, count, step))
    panel.set_xticks(places, [report.windows[n] for n in places], fontsize=8.5)
    panel.tick_params(labelbottom=True)
    panel.set_xlabel(
        f"{report.axis} (windows of {report.window_rows:,} rows)", color=_QUIET, fontsize=9
    )


def _plain_ticks(panel: Axes) -> None:
    top = panel.get_ylim()[1]
    ticks = [each for each in _PSI_TICKS if each <= top]
    panel.set_yticks(ticks, [f"{each:g}" for each in ticks])
    panel.minorticks_off()


def _whole_ticks(panel: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def _dress(panel: Axes) -> None:
    from matplotlib.ticker import ScalarFormatter

    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color("#9aa5b1")
    panel.tick_params(colors=_QUIET, labelsize=8.5)
    panel.grid(axis="y", color="#e4e7eb", lw=0.7)
    panel.set_axisbelow(True)
    formatter = panel.yaxis.get_major_formatter()
    if isinstance(formatter, ScalarFormatter):
        formatter.set_useOffset(False)


def _name(text: str, chars: int = NAME_CHARS) -> str:
    """A dollar sign would begin a formula."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    shown = shown if len(shown) <= chars else f"{shown[: chars - 1]}…"
    return shown.replace("$", r"\$")


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _tens(p: float | None) -> float:
    return math.nan if p is None else -math.log10(max(p, LEAST_P)) + 0.0
