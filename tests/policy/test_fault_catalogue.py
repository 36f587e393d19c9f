"""The catalogue of driver faults: whole, understood, and what its tables say."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from gpuwarden.policy.fault import catalogue
from gpuwarden.policy.fault.catalogue_data import NVLINK5, NVLINK_BITS, SXIDS, XIDS

TABLES = Path(catalogue.__file__).parent / "tables"


def table(name: str) -> list[dict[str, str]]:
    with (TABLES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_catalogue_is_whole() -> None:
    assert catalogue.check() == []


def test_the_module_says_what_the_tables_say() -> None:
    rows = table("xid_catalog.csv")
    assert sorted(XIDS) == [int(row["xid"]) for row in rows] == list(range(1, 177))
    for row in rows:
        xid = catalogue.xid(int(row["xid"]))
        assert xid is not None
        said = (xid.scope.value, xid.severity.value, xid.action.value)
        assert said == (row["scope"], row["severity"], row["immediate_action"])
        assert xid.is_retired == ("[retired]" in row["summary"])
        assert "[" not in xid.summary
    switches = table("sxid_catalog.csv")
    assert len(SXIDS) == len(switches) == 400
    for row in switches:
        sxid = catalogue.sxid(int(row["sxid"]))
        assert sxid is not None
        assert (sxid.is_fatal, sxid.action.value) == (row["fatal"] == "yes", row["action"])
    assert len(NVLINK5) == len(table("nvlink5_rules.csv"))
    assert len(NVLINK_BITS) == len(table("nvlink_bits.csv"))


@pytest.mark.parametrize("code", [0, 177, 999, -1])
def test_a_number_that_is_not_published_has_no_row(code: int) -> None:
    assert catalogue.xid(code) is None
    assert catalogue.sxid(code) is None


GOOD = ("NAME", "what it is", "gpu", "error", "monitor")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (("", *GOOD[1:]), "Xid 13: no name or no summary"),
        ((*GOOD[:2], "planet", *GOOD[3:]), "Xid 13: scope 'planet' is not known"),
        ((*GOOD[:3], "dire", GOOD[4]), "Xid 13: severity 'dire' is not known"),
        ((*GOOD[:4], "pray"), "Xid 13: action 'pray' is not known"),
        ((*GOOD[:3], "fatal", "ignore"), "Xid 13: fatal, and nothing is done about it (ignore)"),
        ((*GOOD[:2], "info", "error", "monitor"), "Xid 13: error of scope info"),
    ],
)
def test_a_bad_row_is_named(row: tuple[str, str, str, str, str], complaint: str) -> None:
    assert catalogue.check(xids={**XIDS, 13: row}) == [complaint]


def test_a_missing_code_is_named() -> None:
    without = {code: row for code, row in XIDS.items() if code not in (79, 100)}
    assert catalogue.check(xids=without) == [
        "Xid 79: missing",
        "Xid 100: missing",
        "Xid 79: locks a device, and is missing",
    ]


@pytest.mark.parametrize(
    ("code", "row", "complaint"),
    [
        (20034, ("N", "", True, "reset_gpu"), "SXid 20034: no summary"),
        (20034, ("N", "s", True, "hope"), "SXid 20034: action 'hope' is not known"),
        (
            20034,
            ("N", "s", True, "monitor"),
            "SXid 20034: fatal, and nothing is done about it (monitor)",
        ),
        (79, ("N", "s", False, "monitor"), "SXid 79: not a number of five digits"),
    ],
)
def test_a_bad_switch_row_is_named(
    code: int, row: tuple[str, str, bool, str], complaint: str
) -> None:
    assert catalogue.check(sxids={**SXIDS, code: row}) == [complaint]


def test_no_switch_rows_at_all_are_noticed() -> None:
    assert catalogue.check(sxids={}) == ["SXids: missing"]


def test_what_locks_a_device_is_never_ignored() -> None:
    for code in catalogue.LOCKING:
        row = catalogue.xid(code)
        assert row is not None
        assert row.action.value in ("reset_gpu", "reboot_node") or row.is_retired
