"""``gpuwarden debug kernel-log``: what it prints, and that no input stops it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuwarden.commands.kernel_log import MAX_LINE_BYTES, answers
from tests.commands.cli_run import ROOT, run, start
from tests.kernel_log_data import labelled

GOLDEN = Path(__file__).parent.parent / "golden" / "kernel_log"
XID = b"NVRM: Xid (PCI:0000:65:00): 79, pid=4711, name=python3, GPU has fallen off the bus."


def asked(raw: bytes) -> list[object]:
    """What the command answers, as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "gpuwarden", "debug", "kernel-log"],
        input=raw,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "agent")},
        timeout=60,
        check=True,
    )
    assert done.stderr == b""
    return [json.loads(each) for each in done.stdout.splitlines()]


def test_all_labelled_lines_are_read_right() -> None:
    rows = [row for row in labelled() if "\n" not in row["line"]]
    assert len(rows) > 200
    found = asked("".join(f"{row['line']}\n" for row in rows).encode())
    assert len(found) == len(rows)
    for row, answer in zip(rows, found, strict=True):
        expected = row["expect"] and {**row["expect"], "verdict": row["verdict"]}
        assert answer == expected, row["line"]


def test_the_answers_are_those_that_were_looked_at() -> None:
    """To accept a change: GPUWARDEN_GOLDEN=write pytest ..., then look at the file."""
    result = run("debug", "kernel-log", "--explain", stdin=(GOLDEN / "lines.txt").read_text())
    assert result.exit_code == 0
    golden = GOLDEN / "answers.jsonl"
    if os.environ.get("GPUWARDEN_GOLDEN") == "write":
        golden.write_text(result.output)
    assert result.output == golden.read_text()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", []),
        (b"\n", [None]),
        (XID, [79]),
        (XID + b"\r\n", [79]),
        (b"\n\n" + XID + b"\n", [None, None, 79]),
        (b"\xff\xfe\x00\n" + XID + b"\x00\xff", [None, 79]),
        (XID.replace(b"python3", b"p\xff\x00\xc3") + b"\n" + XID, [79, 79]),
        (b"\x00" * 100_000 + b"\n" + XID, [None, 79]),
        (b"x" * 10_000_000 + b"\n" + XID, [None, 79]),
        (XID + b" x" * 5_000_000 + b"\n" + XID, [79, 79]),
        (XID + b" x" * 5_000_000, [79]),
        (b"a" * MAX_LINE_BYTES + b"\n" + XID, [None, 79]),
        (b"a" * (MAX_LINE_BYTES - 1) + b"\n" + XID, [None, 79]),
        (b'{"line": "' + XID + b'"}', [None]),
    ],
    ids=range(14),
)
def test_one_answer_a_line_whatever_is_in_it(raw: bytes, said: list[int | None]) -> None:
    found = [json.loads(each) for each in answers(io.BytesIO(raw))]
    assert [each and each["xid"] for each in found] == said


def test_the_process_stands_it_too() -> None:
    raw = b"\xff\xfe\x00\n" + XID + b" x" * 5_000_000 + b"\n\n" + XID.replace(b"y", b"\xff\x00")
    found = asked(raw)
    assert [each["xid"] if isinstance(each, dict) else each for each in found] == [
        None,
        79,
        None,
        79,
    ]


def test_of_an_endless_line_only_its_beginning_is_held() -> None:
    class Endless(io.RawIOBase):
        """A stream that never sends a newline, and counts the largest piece that is asked for."""

        left = 40
        largest = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            self.largest = max(self.largest, size)
            self.left -= 1
            return b"x" * size if self.left > 0 else b""

    stream = Endless()
    assert list(answers(stream)) == ["null"]  # type: ignore[arg-type]  # the one method that is used
    assert stream.largest == MAX_LINE_BYTES


def test_an_answer_does_not_wait_for_the_next_line() -> None:
    """So it can follow a log: ``journalctl -kf | gpuwarden debug kernel-log``."""
    with subprocess.Popen(
        [sys.executable, "-m", "gpuwarden", "debug", "kernel-log"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "agent")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(XID + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["xid"] == 79
        process.stdin.close()
        assert process.wait(timeout=30) == 0


def test_a_reader_that_goes_away_is_no_error_report() -> None:
    process = start("debug", "kernel-log")
    assert process.stdout is not None
    process.stdout.close()
    _, complaint = process.communicate(timeout=30)
    assert "Traceback" not in complaint
