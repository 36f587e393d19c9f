"""What counts as the same output, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.book import Block, Step, blocks, steps
from tests.docs.shape import differs, shape


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("report-batch  low      0   6.0 GiB", "report-batch low 3 512 MiB"),
        ("inc-6b08b53b-1: open", "inc-00000001-22: open"),
        ("  ██▁  up to 6.0 GiB", "█ up to 12 GiB"),
        ("ok: /etc/gpuwarden/agent.toml", "ok: /tmp/gw-docs-x/etc/gpuwarden/agent.toml"),
        ("closed +1.84 s", "closed +12 ms"),
        (f"ed25519:+{'Dd5W' * 10}x0=", f"ed25519:/{'4O1q' * 10}+a="),
    ],
)
def test_numbers_ids_and_places_are_no_difference(one: str, other: str) -> None:
    assert shape(one) == shape(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("GPU 0 is cordoned", "GPU 0 is uncordoned"), ("warned 6 s", "ok"), ("a: b", "a: c")],
)
def test_words_are(one: str, other: str) -> None:
    assert shape(one) != shape(other)


def test_lines_follow_each_other_but_for_an_ellipsis() -> None:
    said = ["first", "second 1", "third"]
    assert not differs(["first", "second 2", "third"], said)
    assert not differs(["first", "...", "third"], said)
    assert not differs(["first", "..."], said)
    assert differs(["first", "third"], said)
    assert differs(["first", "second 1"], said)
    assert differs(["first", "...", "fourth"], said)
    assert differs(["...", "third", "second 1"], said)


def test_a_page_is_read_as_it_is_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n<!-- place: agent devices=2 -->\n```console\n$ false  # exit code 1\nno\n```\n"
        "```toml agent conf.d/1.toml\n[agent]\n```\n"
    )
    place, console, toml = blocks(page)
    assert place == Block(
        line=2, language="place", words=("agent", "devices=2"), text="", is_note=True
    )
    assert steps(console) == [Step(line=4, command="false", shown=("no",), status=1)]
    assert (toml.words, toml.text) == (("agent", "conf.d/1.toml"), "[agent]")


def test_a_fence_that_is_open_and_an_output_of_nothing_are_mistakes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ true\n")
    with pytest.raises(ValueError, match="never closed"):
        list(blocks(page))
    with pytest.raises(ValueError, match="before any command"):
        steps(Block(line=1, language="console", words=(), text="no"))
