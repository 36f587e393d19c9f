"""Rule inforom: a board's InfoROM does not check.

Source: nvmlDeviceValidateInforom, which reads the flash (70 ms on an H100) and is asked hourly, as DCGM does.
"""

from collections.abc import Iterator

from gpuwarden.model.finding import Severity
from gpuwarden.policy.health.rule import Claim, Judge, Look, claim


def _deep(look: Look) -> Iterator[Claim]:
    if look.deep is not None and look.deep.inforom_corrupted:
        yield claim(
            look.cfg.health.inforom,
            "inforom-corrupted",
            Severity.ERROR,
            "has a corrupted InfoROM: its settings and error counts cannot be relied on",
            evidence=(("inforom", "checksums wrong"),),
        )


JUDGES = (Judge("inforom", "deep", _deep, {"inforom-corrupted": ("deep.inforom_corrupted",)}),)
