"""``nvidia-nvswitchN: SXid (address): number, ...``: the fault lines of the NVSwitch driver.

An event is three lines: what happened (with the word Fatal or Non-fatal, mostly with a link), its
severity as a number, and the registers, which may take a second line.
"""

import re

from gpuwarden.model.kernel_line import SxidForm, SxidLine

# nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Fatal, Link 48 LTSSM Fault Up
_SXID = re.compile(
    r"nvidia-nvswitch(?P<switch>[0-9]{1,4}): SXid \((?:PCI:)?(?P<pci>[0-9a-fA-F]{4,8}"
    r"(?::[0-9a-fA-F]{2}){1,2}(?:\.[0-9a-fA-F])?)\): (?P<sxid>[0-9]{1,6})(?![0-9])(?:,\s*|\s+|\Z)"
    r"(?P<rest>.*)",
    re.DOTALL,
)
# Severity 1 Engine instance 60 Sub-engine instance 00
_SEVERITY = re.compile(
    r"Severity (?P<severity>[0-9]{1,4})(?: Engine instance (?P<engine>[0-9]{1,6}))?"
    r"(?: Sub-engine instance (?P<sub>[0-9]{1,6}))?"
)
# Data {0x10000000, 0x10000000, 0x00000000, 0x10000000, 0x00000000, 0x00000000, ...}
_DATA = re.compile(r"Data \{(?P<words>[^}]{0,400})")
_WORD = re.compile(r"0x[0-9a-fA-F]{1,16}\b")
# Non-fatal, Link 46 MC TS crumbstore MCTO (First)
# SOE Watchdog error
_EVENT = re.compile(
    r"(?:(?P<word>Fatal|Non-fatal),\s*)?(?:Link (?P<link>-?[0-9]{1,4})\b\s*)?(?P<message>.*)",
    re.DOTALL,
)


def read(text: str) -> SxidLine | None:
    """The SXid of one kernel message without its prefix; ``None`` when it is none."""
    match = _SXID.match(text)
    if match is None:
        return None
    rest = match["rest"].strip()
    sxid, pci, switch = int(match["sxid"]), match["pci"], int(match["switch"])
    if (said := _SEVERITY.match(rest)) is not None:
        return SxidLine(
            sxid=sxid,
            pci=pci,
            switch=switch,
            form=SxidForm.SEVERITY,
            severity=int(said["severity"]),
            engine_instance=None if said["engine"] is None else int(said["engine"]),
            sub_engine_instance=None if said["sub"] is None else int(said["sub"]),
        )
    if (held := _DATA.match(rest)) is not None:
        words = tuple(_WORD.findall(held["words"]))
        return SxidLine(sxid=sxid, pci=pci, switch=switch, form=SxidForm.DATA, data=words)
    event = _EVENT.match(rest)
    assert event is not None  # every part of it may be absent
    return SxidLine(
        sxid=sxid,
        pci=pci,
        switch=switch,
        form=SxidForm.EVENT,
        fatal=None if event["word"] is None else event["word"] == "Fatal",
        link=None if event["link"] is None else int(event["link"]),
        message=event["message"].strip() or None,
    )
