"""``gpuwarden model profile``: what a reference looks like, for live windows to be held against."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from gpuwarden.commands.output import Column, Out, answers
from gpuwarden.commands.words import plain
from gpuwarden.errors import Refused, Unsupported

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuwarden.evaluate.drift.profile import CategoryProfile, NumericProfile
    from gpuwarden.evaluate.drift.profile_learner import Learned

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group("profile", invoke_without_command=True)
@click.option("--from", "source", type=FILE, help="CSV or Parquet (.parquet, .pq).")
@click.option("--out", "target", type=click.Path(path_type=Path, dir_okay=False),
              help="JSON; of a segment, its name is put before the ending.")  # fmt: skip
@click.option("--column", "columns", multiple=True, help="Only this one; may be given again.")
@click.option("--category", "categories", multiple=True,
              help="A column of names, though they look like numbers or are many.")  # fmt: skip
@click.option("--segment-column", help="Also a profile of each of its values, such as the scanner.")
@click.pass_context
@answers
def profile(
    context: click.Context,
    out: Out,
    source: Path | None,
    target: Path | None,
    columns: tuple[str, ...],
    categories: tuple[str, ...],
    segment_column: str | None,
) -> None:
    """A reference (good data: the model's training data, or a good month) as a profile of each column.

    Bins and categories are fixed here once, live windows are counted on them. Read twice, in bounded memory.
    """
    if context.invoked_subcommand is not None:
        return
    if source is None or target is None:
        raise click.UsageError("expected --from and --out, or one of push, list, drop")
    if target.resolve() == source.resolve():
        raise Refused(f"{target} is the reference itself")
    try:
        learned = _learned(source, columns, categories, segment_column)
    except ImportError as error:
        raise Unsupported(f"needs numpy ({error}): pip install 'gpuwarden[aggregator]'") from error
    except ValueError as error:
        raise Refused(f"{source}: {error}") from error
    texts = {
        _place(target, segment): _text(segment, each)
        for segment, each in learned.items()
        if each.features or not segment
    }
    for place, text in texts.items():
        try:
            place.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise Refused(f"{place}: {error.strerror}") from error
    if out.is_json:
        out.data({"segments": {segment: _told(each) for segment, each in learned.items()},
                  "files": list(texts)})  # fmt: skip
        return
    for segment, each in learned.items():
        place = _place(target, segment)
        what = f" of segment {plain(segment)}" if segment else ""
        said = plain(str(place)) if place in texts else "no file"
        out.show([f"{said}: {len(each.features)} features over {each.rows} rows{what}"])
    whole = learned[""]
    rows = [_row(name, each, whole) for name, each in whole.features.items()]
    rows += [[plain(name), f"left out: {why.value}", "-", "-", _ADVICE[why.value]]
             for name, why in whole.left_out.items()]  # fmt: skip
    out.show([out.table(_SHOWN, rows)])


def _learned(
    source: Path,
    columns: tuple[str, ...],
    categories: tuple[str, ...],
    segment_column: str | None,
) -> Mapping[str, Learned]:
    from gpuwarden.adapters import tablefile
    from gpuwarden.evaluate.drift.profile_learner import Learner

    with tablefile.columns(source) as file:
        learner = Learner(
            file.header, columns=columns, categories=categories, segment_column=segment_column
        )
        for batch in file.batches:
            learner.scan(batch)
    learner.settle()
    with tablefile.columns(source) as file:
        for batch in file.batches:
            learner.count(batch)
    return learner.learned()


def _text(segment: str, learned: Learned) -> str:
    from gpuwarden.evaluate.drift import profile_file

    try:
        return profile_file.write(
            profile_file.ProfileFile(rows=learned.rows, features=learned.features)
        )
    except ValueError as error:
        raise Refused(f"segment {segment!r}: {error}" if segment else str(error)) from error


def _place(target: Path, segment: str) -> Path:
    if not segment:
        return target
    return target.with_name(f"{target.stem}.{quote(segment, safe='')}{target.suffix}")


def _told(learned: Learned) -> dict[str, object]:
    return {
        "rows": learned.rows,
        "features": sorted(learned.features),
        "left_out": dict(learned.left_out),
        "notes": dict(learned.notes),
    }


_ADVICE = {
    "empty": "no value in it",
    "mixed": "numbers and words: mend it, or --category it",
    "flood": "an identifier or free text? --category keeps its commonest",
}
_SHOWN = (
    Column("column", may_wrap=True),
    Column("kind"),
    Column("bins", is_number=True),
    Column("missing", is_number=True),
    Column("remark", may_wrap=True),
)


def _row(name: str, each: NumericProfile | CategoryProfile, learned: Learned) -> list[str]:
    is_number = hasattr(each, "edges")
    return [
        plain(name),
        "number" if is_number else "category",
        str(len(each.counts)),
        f"{each.missing / learned.rows:.1%}",
        learned.notes.get(name, "-"),
    ]
