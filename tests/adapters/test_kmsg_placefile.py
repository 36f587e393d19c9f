"""How far the log was read, across agents: written whole, and read whatever is there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gpuwarden.adapters.kmsg.placefile import NAME, PlaceFile
from gpuwarden.adapters.kmsg.source import Place

PLACE = Place(source="kmsg", stream="boot-1", at="4711")


def test_a_place_comes_back(tmp_path: Path) -> None:
    file = PlaceFile(tmp_path)
    assert file.load() is None
    assert file.save(PLACE)
    assert file.save(PLACE, is_last=True)
    assert PlaceFile(tmp_path).load() == PLACE
    assert file.failures == 0
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 4096,
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"source": "kmsg", "stream": "boot"}',
        b'{"source": "kmsg", "stream": "boot", "at": 7}',
        b'{"source": null, "stream": "boot", "at": "7"}',
        b"\xff\xfe",
        b"[" * 10_000,
        json.dumps({"source": "kmsg", "stream": "b", "at": "7", "more": "x" * 50_000}).encode(),
    ],
)
def test_a_corrupt_file_is_no_place(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    file = PlaceFile(tmp_path)
    assert file.load() is None
    assert file.failures == 1
    assert file.save(PLACE)
    assert file.load() == PLACE


def test_what_is_no_file_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text('{"source": "kmsg", "stream": "b", "at": "7"}')
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    assert PlaceFile(tmp_path).load() is None
    (tmp_path / NAME).unlink()
    os.mkfifo(tmp_path / NAME)
    assert PlaceFile(tmp_path).load() is None
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()
    assert PlaceFile(tmp_path).load() is None


def test_a_folder_that_is_gone_costs_a_count(tmp_path: Path) -> None:
    file = PlaceFile(tmp_path / "none")
    assert not file.save(PLACE)
    assert file.failures == 1
