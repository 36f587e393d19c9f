"""The registers of NVLink faults: the vendor's rows found by unit, layout, sub-code and status."""

from __future__ import annotations

import pytest

from gpuwarden.model.fault import Remedy
from gpuwarden.model.kernel_line import Nvlink, Nvlink5
from gpuwarden.policy.fault.catalogue_data import NVLINK5, NVLINK_BITS
from gpuwarden.policy.fault.nvlink import decode, decode_bits


def fault(unit: str, *words: int) -> Nvlink5:
    return Nvlink5(unit=unit, fatal=False, link=3, registers=tuple(f"{w:#010x}" for w in words))


@pytest.mark.parametrize("key", sorted(NVLINK5), ids=str)
def test_every_row_is_found_in_both_layouts(key: tuple[int, str, int, int]) -> None:
    xid, unit, subcode, status = key
    before, since, severity, action, look_at = NVLINK5[key]
    block = xid - 143 if before or since else 0
    noise = 0x0409_8000 & ~0x03F0_03FF  # link and virtual channel bits, which say nothing here
    old = fault(unit.split("/")[-1], noise | subcode << 20 | before << 5 | block, status, 0, 0)
    new = fault(unit.split("/")[0], noise | subcode << 20 | since, status, 0, 0)
    names = {"before R575": old, "since R575": new}
    for layout, each in names.items():
        row = decode(xid, each)
        assert row is not None, layout
        assert (row.subcode, row.severity) == (subcode, severity)
        expected = None if action == "follow_recovery" else Remedy(action)
        if each is new or "PIPE" not in unit:  # both pipes have one code before R575
            assert (row.remedy, row.look_at) == (expected, look_at)
        if before or since:
            assert row.layout == layout


@pytest.mark.parametrize(
    ("xid", "unit", "words", "remedy", "look_at"),
    [
        (149, "NETIR_LINK_EVT", (0x004505C6, 0), Remedy.RESET_GPU, "link_signal"),
        (149, "NETIR_LINK_EVT", (0x025525C6, 0), Remedy.RESET_GPU, "peer_device"),
        (149, "NETIR_LINK_EVT", (0x021425C6, 0), Remedy.RESET_GPU, "peer_device"),
        (149, "NETIR", (0x000FE406, 0), Remedy.RESET_GPU, "report_if_alone"),
        (149, "NETIR_BER_EVENT", (0x00086226, 1), Remedy.MONITOR, "link_signal_and_cables"),
        (145, "RLW_SRC_TRACK", (0x040868E2, 8), None, "none"),
        (145, "RLW_RXPIPE", (0x0409A0C2, 8), Remedy.MONITOR, "contact_support"),
    ],
)
def test_lines_from_the_field(
    xid: int, unit: str, words: tuple[int, int], remedy: Remedy | None, look_at: str
) -> None:
    row = decode(xid, fault(unit, *words))
    assert row is not None
    assert (row.remedy, row.look_at, row.layout) == (remedy, look_at, "before R575")


@pytest.mark.parametrize(
    ("xid", "each"),
    [
        (145, fault("RLW_REMAP")),
        (145, fault("RLW_REMAP", 0x82)),
        (145, fault("RLW_REMAP", 0x82, 0x1234)),  # no such status
        (145, fault("RLW_REMAP", 0x07, 0x40)),  # another unit's code
        (145, fault("NO_SUCH_UNIT", 0x82, 0x40)),
        (146, fault("RLW_REMAP", 0x82, 0x40)),  # not this Xid's unit
        (149, fault("NETIR_LINK_EVT", 63 << 20 | 0x1C6, 0)),  # no such sub-code
        (13, fault("RLW_REMAP", 0x82, 0x40)),
    ],
)
def test_what_no_row_describes_stays_open(xid: int, each: Nvlink5) -> None:
    assert decode(xid, each) is None


def link(*words: int) -> Nvlink:
    return Nvlink(link=14, registers=tuple(hex(word) for word in words))


@pytest.mark.parametrize("key", sorted(NVLINK_BITS), ids=str)
def test_every_bit_has_its_meaning(key: tuple[int, int]) -> None:
    register, bit = key
    words = [0] * 7
    words[register - 1] = 1 << bit
    assert decode_bits(link(*words)).meanings == (NVLINK_BITS[key],)


@pytest.mark.parametrize(
    ("words", "meanings", "remedy"),
    [
        ((), (), None),
        ((0, 0, 0, 0, 0, 0, 0), (), None),
        ((0, 0, 0x10000, 0, 0, 0, 0), ("field_diag_if_repeated",), Remedy.CONTACT_SUPPORT),
        ((1, 0, 0, 0, 1 << 20, 0, 0), ("corrected_threshold", "ignore"), Remedy.MONITOR),
        ((1 << 1, 0, 0, 1 << 18, 0, 0, 0), ("fabric_reset", "secondary"), Remedy.RESET_GPU),
        ((1 << 4 | 1 << 21, 0, 0, 0, 0, 0, 0), ("ecc_parity", "signal"), Remedy.CONTACT_SUPPORT),
        ((1 << 31, 0, 0, 1 << 18, 0, 0, 0), ("unknown", "fabric_reset"), Remedy.CONTACT_SUPPORT),
        ((0, 1, 0, 0, 0, 0, 0), ("unknown",), Remedy.CONTACT_SUPPORT),
        ((1 << 63,), ("unknown",), Remedy.CONTACT_SUPPORT),
    ],
)
def test_the_worst_bit_comes_first(
    words: tuple[int, ...], meanings: tuple[str, ...], remedy: Remedy | None
) -> None:
    found = decode_bits(link(*words))
    assert found.meanings == meanings
    assert found.remedy is remedy
