"""The kernel log as people read it: where it comes from, its lines and its forgeries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwarden.commands import events, panes
from gpuwarden.model.kernel_record import KernelForgery, KernelRecord, KernelTrust
from gpuwarden.model.status import View
from tests.sample_view import AT, WALL
from tests.sample_view import view as sample

XID = "NVRM: Xid (PCI:0000:3b:00): 79, pid=4711, name=python, GPU has fallen off the bus."


def shown(view: View) -> list[tuple[float, str]]:
    return [(e.wall, e.text) for e in events.of(view) if e.kind == "kernel"]


def saying(trust: KernelTrust, forgery: KernelForgery | None = None) -> View:
    record = KernelRecord(text=XID, source="kmsg", trust=trust, seen_at=AT - 0.5)
    view = sample()
    return replace(view, snapshot=replace(view.snapshot, kernel=(record,), kernel_forgery=forgery))


@pytest.mark.parametrize(
    ("trust", "said"),
    [
        (KernelTrust.KERNEL, "kernel log read"),
        (KernelTrust.SIMULATED, "kernel log simulated"),
        (KernelTrust.UNTRUSTED, "kernel log untrusted"),
        (KernelTrust.NONE, "kernel log not read"),
    ],
)
def test_where_kernel_lines_come_from(trust: KernelTrust, said: str) -> None:
    assert panes.kernel_log(trust.value) == said


def test_lines_are_events() -> None:
    assert shown(sample()) == []
    assert shown(saying(KernelTrust.KERNEL)) == [(WALL - 0.5, XID)]


def test_a_line_that_others_may_have_written_says_so() -> None:
    assert shown(saying(KernelTrust.UNTRUSTED)) == [(WALL - 0.5, f"(untrusted) {XID}")]


def test_forgeries_are_events() -> None:
    view = saying(KernelTrust.KERNEL, KernelForgery(count=3, text="NVRM: forged", facility=1))
    assert shown(view)[1] == (WALL, "3 forged lines, the first: NVRM: forged")
