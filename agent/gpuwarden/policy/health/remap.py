"""Rule remap: rows of device memory that are, wait to be, or could not be remapped.

Source: NVIDIA GPU memory error management. A pending remap harms no work (its page is off line) and takes
effect with the next reset; a failed one, or the 512th for an uncorrectable error, ends the board. A GPU in
MIG mode does not tell.
"""

from collections.abc import Iterator

from gpuwarden.config import Config
from gpuwarden.model.finding import Severity
from gpuwarden.policy.health.rule import Claim, Judge, Look, claim


def _errors(look: Look) -> Iterator[Claim]:
    errors, cfg = look.errors, look.cfg.health.remap
    if errors is None:
        return
    if errors.row_remap_failed:
        yield failed(look.cfg)
    if errors.row_remap_pending or errors.pending_bank_remapping:
        what = "row" if errors.row_remap_pending else "bank"
        yield claim(
            cfg,
            "row-remap-pending",
            Severity.WARNING,
            f"has a {what} of memory to be remapped, which the next reset does",
            evidence=(("row remap", "pending"),),
        )
    uncorrectable = errors.row_remaps_uncorrectable_total
    if uncorrectable is not None and uncorrectable >= cfg.uncorrectable_max:
        yield claim(
            cfg,
            "row-remap-exhausted",
            Severity.ERROR,
            f"has remapped {uncorrectable} rows for uncorrectable errors, as many as it can",
            evidence=(("rows remapped, uncorrectable", str(uncorrectable)),),
        )


def _setup(look: Look) -> Iterator[Claim]:
    setup = look.setup
    if setup is not None and setup.row_remap_banks_none:
        count = setup.row_remap_banks_none
        yield claim(
            look.cfg.health.remap,
            "row-remap-spares",
            Severity.WARNING,
            f"has {count} memory banks without a spare row: the next remap there fails",
            evidence=(("banks without spare rows", str(count)),),
        )


def failed(cfg: Config) -> Claim:
    """A remap failed: the flag, or the driver's event."""
    return claim(
        cfg.health.remap,
        "row-remap-failed",
        Severity.CRITICAL,
        "could not remap a row of memory: have it replaced",
        grace_s=0.0,
        evidence=(("row remap", "failed"),),
    )


JUDGES = (
    Judge(
        "remap",
        "errors",
        _errors,
        {
            "row-remap-failed": ("errors.row_remap_failed",),
            "row-remap-pending": ("errors.row_remap_pending",),
            "row-remap-exhausted": ("errors.row_remaps_uncorrectable_total",),
        },
    ),
    Judge("remap", "setup", _setup, {"row-remap-spares": ("setup.row_remap_banks_none",)}),
)
