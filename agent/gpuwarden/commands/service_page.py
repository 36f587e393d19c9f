"""A running service's report as one page of HTML: no script, nothing fetched from anywhere, every name is text."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from gpuwarden.commands import charts
from gpuwarden.commands.service_panes import ALL, cohort_word, red_first
from gpuwarden.commands.words import clock, plain, span
from gpuwarden.errors import Refused

if TYPE_CHECKING:
    from gpuwarden.wire.v1 import drift_pb2, evaluation_pb2

_BAD = ("drift", "schema-changed")
_STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #cbd2d9 } h3 { font-size: 1rem; margin: 1.6rem 0 .2rem }
p { margin: .3rem 0 } p.sub, figcaption, .quiet { color: #52606d } p.missing { color: #7a4a00; background: #fdf6e7; padding: .4rem .8rem; border-left: 4px solid #b7791f }
ul.summary { border-left: 4px solid #b3261e; padding: .4rem 1rem .4rem 1.6rem; background: #fdf4f3 } ul.well { border-color: #2f6f4f; background: #f2f8f5 }
b.is { display: inline-block; padding: 0 .5rem; border-radius: .6rem; border: 1px solid; font-weight: 600; font-size: .85em; white-space: nowrap }
b.bad { color: #8f1d17; background: #fdf4f3 } b.good { color: #245c40; background: #f2f8f5 } b.open { color: #7a4a00; background: #fdf6e7 }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); gap: .5rem 1.5rem }
figure { margin: .6rem 0; min-width: 0 } figcaption { font-size: .9rem } figcaption b { color: #1f2933 } svg { display: block; width: 100%; max-width: 36rem; height: auto }
svg text { font: 12.5px system-ui, sans-serif } svg text.s { font-size: 11.5px }
table { border-collapse: collapse; font-size: .9rem; margin: .4rem 0 } th, td { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e4e7eb; min-width: 3rem }
td:last-child:not(.n) { min-width: 12rem }
td:first-child { min-width: 8rem; max-width: 20rem } td:nth-child(2):not(.n) { min-width: 6rem } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap } th { white-space: nowrap } td.t { white-space: nowrap } .wide { overflow-x: auto }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_LOOKS = {"red": "bad", "drift": "bad", "schema-changed": "bad", "green": "good", "stable": "good"}


def page(
    said: evaluation_pb2.ServiceReportResponse,
    drift: drift_pb2.ServiceDriftResponse | None,
    *,
    version: str = "",
    drift_missing: str = "",
) -> str:
    """``version``: what is shown of drift, too; empty: all. ``drift`` None: ``drift_missing`` says why."""
    standing = said.standing
    name = plain(standing.service)
    reports = [] if drift is None else [each for each in drift.reports if not version or each.cohort.version == version]  # fmt: skip
    title = f"Service {name}" + (f", version {plain(version)}" if version else "")
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)} {_is(standing.colour)}</h1>",
        f'<p class="sub">as of {_time(said.wall)} {_zone(said.wall)}; {_head(standing)}</p>',
        _summary(said, reports),
        *_missing(said.notes),
        "<h2>Guardrails</h2>",
        _guardrails(said),
        *_reds(said),
        "<h2>Drift</h2>",
        *_drift(reports, drift, drift_missing),
        "<h2>Numbers of the last hour</h2>",
        _numbers(said.numbers),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _head(standing: evaluation_pb2.ServiceStanding) -> str:
    age = f"{span(standing.age_s)} old" if standing.HasField("age_s") else "never told"
    nodes = f"{standing.nodes} node{'' if standing.nodes == 1 else 's'}"
    versions = _text(", ".join(standing.versions)) or "not told"
    since = f"{_text(standing.colour)} since {_time(standing.since_wall)}"
    return f"{since}; {nodes}, versions {versions}; newest data {_text(age)}"


def write(path: Path, text: str) -> None:
    """Whole or not at all. ``Refused``: there is something that is not a file, or it cannot be written."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise Refused(f"{path}: there is something that is no plain file; it is left as it is")
    new = ""
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            encoding="utf-8",
            errors="replace",
            dir=path.parent,
            prefix=".report-",
            delete=False,
        ) as file:
            new = file.name
            file.write(text)
        os.chmod(new, 0o666 & ~_umask())
        os.replace(new, path)
    except OSError as error:
        if new:
            Path(new).unlink(missing_ok=True)
        raise Refused(f"{path}: {error.strerror}") from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _summary(
    said: evaluation_pb2.ServiceReportResponse, reports: Sequence[drift_pb2.DriftReport]
) -> str:
    lines = [
        each.narrative or each.verdict.summary for each in said.verdicts if each.verdict.colour == "red"
    ]  # fmt: skip
    lines += [each.summary for each in reports if each.state in _BAD and each.summary not in lines]
    if not lines:
        why = said.standing.why or "no guardrail is red and nothing is known to have drifted"
        kind = "summary well" if said.standing.colour == "green" else "summary"
        return _list([why], kind)
    return _list(lines, "summary")


def _guardrails(said: evaluation_pb2.ServiceReportResponse) -> str:
    if not said.verdicts:
        return _note("no guardrail is judged of it")
    rows = [
        (
            _text(each.guardrail), _cohort(each.cohort), _is(each.colour), _time(each.since_wall),
            _number(each.value if each.HasField("value") else None),
            _number(each.limit if each.HasField("limit") else None),
            _text(each.missing or each.summary or ("" if each.HasField("value") else "not judged yet")),
        )
        for each in red_first([report.verdict for report in said.verdicts])
    ]  # fmt: skip
    return _table(("guardrail", "of", "is", "since", "value", "limit", "why"), rows, {4, 5}, {3})


def _reds(said: evaluation_pb2.ServiceReportResponse) -> list[str]:
    """Of each red one: which nodes, and what on the GPUs."""
    parts = []
    for each in said.verdicts:
        if each.verdict.colour != "red":
            continue
        parts.append(f"<h3>{_text(each.verdict.guardrail)} of {_cohort(each.verdict.cohort)}</h3>")
        parts.append(f"<p>{_text(each.narrative)}</p>")
        parts.append(
            _cause(each.cause) if each.HasField("cause") else _note("the GPU cause is not told")
        )
        if each.said_by:
            parts.append(f"<p>Said by the nodes themselves: {_text(', '.join(each.said_by))}</p>")
        rows = [
            (
                _text(part.node), _number(part.value if part.HasField("value") else None),
                _number(part.requests), '<b class="is bad">beyond the limit</b>' if part.is_bad else "",
            )
            for part in each.nodes
        ]  # fmt: skip
        parts.append(
            _table(("node", "value", "requests", ""), rows, {1, 2})
            if rows
            else _note("no node is known to have a part in it")
        )
    return parts


def _cause(cause: evaluation_pb2.GpuCause) -> str:
    where = " ".join(part for part in (cause.node, cause.device) if part)
    more = [f"on {where}"] if where else []
    more += [f"incident {cause.incident}"] if cause.incident else []
    more += [f"tenant {cause.tenant}"] if cause.tenant else []
    tail = f" ({_text(', '.join(more))})" if more else ""
    return f"<p>GPU cause: {_text(cause.kind)}. {_text(cause.summary)}{tail}</p>"


def _drift(
    reports: Sequence[drift_pb2.DriftReport],
    drift: drift_pb2.ServiceDriftResponse | None,
    missing: str,
) -> list[str]:
    if drift is None:
        return [_note(f"drift is not known: {missing}")]
    parts = _missing(drift.notes)
    if not reports:
        parts.append(_note("no features and no labels were told lately"))
    for each in reports:
        parts.append(
            f"<h3>{_cohort(each.cohort)} {_is(each.state)} "
            f'<span class="quiet">since {_time(each.since_wall)}</span></h3>'
        )
        parts.append(f"<p>{_text(each.summary)}</p>")
        pictures = [_shape(feature) for feature in each.features if feature.state == "drift"]
        if each.features:
            parts.append(_features(each))
        for stream in each.streams:
            parts.append(_stream(stream))
            if stream.stream == "errors":
                pictures.append(_errors(stream))
        parts.append(f'<div class="pictures">{"".join(pictures)}</div>')
        if each.proposals:
            parts.append("<p>Proposed; nothing applies it:</p>" + _list(each.proposals))
    return parts


def _features(report: drift_pb2.DriftReport) -> str:
    rows = []
    for each in sorted(report.features, key=lambda f: (f.state not in _BAD, f.feature)):
        values = [
            getattr(each, field) if each.HasField(field) else None
            for field in ("psi", "wasserstein_norm", "mean", "was_mean")
        ]
        p = _chance(each.p_value) if each.HasField("p_value") else "-"
        why = each.why or ("" if each.HasField("p_value") else "no p: why is not told")
        rows.append(
            (
                _text(each.feature), _is(each.state), _time(each.since_wall), p,
                *(_number(value) for value in values), f"{each.rows:,}", _text(why),
            )
        )  # fmt: skip
    titles = ("feature", "is", "since", "p", "PSI", "moved (sd)", "mean", "mean was", "rows", "why")
    return _table(titles, rows, {3, 4, 5, 6, 7, 8}, {2})


def _shape(each: drift_pb2.FeatureDrift) -> str:
    name, drawn, more = f"<b>{_text(each.feature)}</b>", None, ""
    if each.shape.names:
        drawn = charts.shares([(n.name, n.profile, n.live) for n in each.shape.names])
        more = "share of rows by name, the commonest of the profile and of the newest judged window"
    elif each.shape.profile and each.shape.live:
        drawn = charts.quantiles(each.shape.profile, each.shape.live)
        more = "the profile beside the newest judged window"
        if drawn is not None and charts.is_cut(each.shape.profile, each.shape.live):
            more += "; the outermost values lie outside of the picture"
    if drawn is None:
        why = "make no picture" if more else "are not told: the next full window brings them"
        return f"<figure><figcaption>{name}</figcaption>{_note(f'its values {why}')}</figure>"
    return f"<figure><figcaption>{name}: {more}</figcaption>{drawn}</figure>"


def _stream(each: drift_pb2.StreamDrift) -> str:
    text = f"<b>{_text(each.stream)}</b> {_is(each.state)} since {_time(each.since_wall)}"
    if each.HasField("value") and each.HasField("baseline"):
        shown, what = (_number, "scores") if each.stream == "score" else (_share, "labels")
        text += f": {shown(each.baseline)} before, {shown(each.value)} of the newest {each.labels:,} {what}"
    if each.HasField("p_value"):
        text += f", p = {_chance(each.p_value)}"
    if each.detectors:
        text += f"; {_text(', '.join(each.detectors))} ({_text(each.version)})"
    return f"<p>{text}{f' ({_text(each.why)})' if each.why else ''}</p>"


def _errors(each: drift_pb2.StreamDrift) -> str:
    found = [
        (p.begin_wall + p.length_s / 2, p.wrong / p.labels) for p in each.points if p.labels > 0
    ]
    baseline = each.baseline if each.HasField("baseline") else None
    since = each.since_wall if each.state == "drift" else None
    drawn = charts.ratio(found, baseline, since_wall=since)
    name = f"<b>{_text(each.stream)}</b>"
    if drawn is None:
        why = "fewer than two quarters of an hour with labels were told of the last day"
        return f"<figure><figcaption>{name}</figcaption>{_note(f'over time: {why}')}</figure>"
    return f"<figure><figcaption>{name}: share of mistakes over the last day</figcaption>{drawn}</figure>"


def _numbers(numbers: Sequence[evaluation_pb2.SeriesNumber]) -> str:
    if not numbers:
        return _note("none were told")
    names = list(dict.fromkeys(each.what for each in numbers))
    rows: dict[str, dict[str, str]] = {}
    for each in numbers:
        rows.setdefault(_cohort(each.cohort), {})[each.what] = _number(each.value)
    titles = ("of", *(plain(name) for name in names))
    cells = [
        (name, *(told.get(what, "-") for what in names)) for name, told in sorted(rows.items())
    ]
    return _table(titles, cells, set(range(1, len(titles))))


def _missing(notes: Iterable[str]) -> list[str]:
    return [_note(note) for note in notes]


def _note(text: str) -> str:
    return f'<p class="missing">{_text(text)}</p>'


def _list(lines: Iterable[str], kind: str = "") -> str:
    items = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{items}</ul>' if kind else f"<ul>{items}</ul>"


def _table(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Collection[int],
    times: Collection[int] = (),
) -> str:
    """``rows`` are markup already; titles are not."""

    def kind(place: int) -> str:
        return " class=n" if place in numbers else " class=t" if place in times else ""

    head = "".join(f"<th{kind(n)}>{escape(each)}</th>" for n, each in enumerate(titles))
    body = "".join(
        "<tr>" + "".join(f"<td{kind(n)}>{each}</td>" for n, each in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _cohort(cohort: evaluation_pb2.Cohort) -> str:
    word = cohort_word(cohort)
    return "the whole service" if word == ALL else _text(word)


def _is(state: str) -> str:
    return f'<b class="is {_LOOKS.get(state, "open")}">{_text(state)}</b>'


def _text(text: str) -> str:
    return escape(plain(text))


def _time(wall: float) -> str:
    return _text(clock(wall))


def _zone(wall: float) -> str:
    """That of whoever makes the page: ``+0100``."""
    try:
        return datetime.fromtimestamp(wall, UTC).astimezone().strftime("%z")
    except (OverflowError, ValueError, OSError):
        return ""


def _share(value: float) -> str:
    return f"{value:.2%}" if math.isfinite(value) else "-"


def _chance(value: float) -> str:
    """Beyond 15 digits a chance says nothing that anybody could believe."""
    if not math.isfinite(value):
        return "-"
    return "&lt;1e-15" if value < 1e-15 else f"{value:.2g}"


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e12 else f"{value:.4g}"
