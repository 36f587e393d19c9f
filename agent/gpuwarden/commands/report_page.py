"""A drift report as one page of HTML: pictures inside, no script, nothing fetched from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from gpuwarden.model.drift_report import DriftReport, FeatureTrack, KpiTrack

_STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.15rem; margin-top: 2rem } p.sub { color: #52606d; margin-top: .2rem }
ul.summary { border-left: 4px solid #b3261e; padding: .4rem 1rem .4rem 1.6rem; background: #fdf4f3 } ul.well { border-color: #2f6f4f; background: #f2f8f5 }
figure { margin: 1rem 0 } img { max-width: 100%; height: auto } figcaption { color: #52606d; font-size: .9rem }
table { border-collapse: collapse; font-size: .9rem } th, td { padding: .25rem .8rem .25rem 0; text-align: left; border-bottom: 1px solid #e4e7eb }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } .wide { overflow-x: auto }
"""
_CAPTIONS = {
    "features": "Mean of each window against the reference: the features that have moved most. A cross: a finding.",
    "distances": "How far (PSI) and how surely (p, corrected over the features of a window): a finding is beyond both lines, and its mean off by what matters.",
    "joint": "Can a classifier tell a window's rows from the reference's, by all numbers together? It also sees what goes together no longer.",
    "quality": "Accuracy of the labels of each window, and the window at which a loss was sure and large enough.",
}
_SECTIONS = {
    "features": "Features",
    "distances": "Distance and chance",
    "joint": "All numbers together",
    "quality": "Quality",
}


def page(report: DriftReport, pictures: Mapping[str, bytes]) -> str:
    """Every text of the report is escaped: names are other people's."""
    size = f"{report.rows:,} rows in {len(report.windows)} windows of {report.window_rows:,}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
        f"<title>{escape(report.title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(report.title)}</h1>",
        f'<p class="sub">{size}; {escape(_span(report))}</p>',
        _summary(report),
    ]
    for name, picture in pictures.items():
        if (section := _SECTIONS.get(name)) is not None:
            parts.append(f"<h2>{section}</h2>")
            parts.append(_figure(picture, _CAPTIONS[name], _CAPTIONS[name]))
    if report.features:
        parts += ["<h2>All features</h2>", _features(report.features)]
    for number, track in enumerate(report.kpis):
        parts.append(f"<h2>{escape(track.metric)} and {escape(track.kpi)}</h2>")
        drawn = pictures.get(f"kpi-{number + 1}")
        if drawn is not None:
            parts.append(
                _figure(
                    drawn, track.told, f"{track.metric} and {track.kpi} over time, slope by lag"
                )
            )
        parts.append(_lags(track))
    if report.remarks:
        parts.append("<h2>Not judged</h2>" + _list(report.remarks))
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _span(report: DriftReport) -> str:
    if not report.windows:
        return "no window"
    return f"{report.axis} {report.windows[0]} to {report.windows[-1]}"


def _summary(report: DriftReport) -> str:
    is_well = (
        not any(each.drifts for each in report.features)
        and not any(each.is_drift for each in report.joint)
        and (report.quality is None or report.quality.verdict_window is None)
    )
    return _list(report.summary, "summary well" if is_well else "summary")


def _list(lines: Iterable[str], kind: str = "") -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{items}</ul>' if kind else f"<ul>{items}</ul>"


def _figure(picture: bytes, caption: str, what: str) -> str:
    data = base64.b64encode(picture).decode()
    return (
        f'<figure><img alt="{escape(what)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _features(tracks: Sequence[FeatureTrack]) -> str:
    ranked = sorted(tracks, key=lambda f: (-f.drifts, -f.psi_max, f.feature))
    return _table(
        (
            "feature",
            "mean of the reference",
            "newest mean",
            "largest PSI",
            "newest p",
            "windows with drift",
        ),
        [
            (
                each.feature,
                _number(each.was_mean),
                _number(each.points[-1].mean if each.points else None),
                _number(each.psi_max),
                _chance(each.points[-1].p_value if each.points else None),
                str(each.drifts),
            )
            for each in ranked
        ],
    )


def _lags(track: KpiTrack) -> str:
    return _table(
        ("lag (steps)", "slope", "95 % interval", "q", "beyond chance"),
        [
            (
                str(each.lag),
                _number(each.slope),
                f"{_number(each.low)} to {_number(each.high)}",
                _chance(each.q),
                "yes" if each.is_significant else "no",
            )
            for each in track.lags
        ],
    )


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def cells(kind: str, texts: Sequence[str]) -> str:
        return "".join(
            f"<{kind}{' class=n' if place else ''}>{escape(text)}</{kind}>"
            for place, text in enumerate(texts)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{cells("th", titles)}</tr>{body}</table></div>'


def _chance(value: float | None) -> str:
    """Beyond 15 digits a chance says nothing that anybody could believe."""
    if value is None:
        return "-"
    return "<1e-15" if value < 1e-15 else f"{value:.2g}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
