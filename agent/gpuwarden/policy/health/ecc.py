"""Rule ecc: device memory or SRAM that errs.

Sources: DCGM's memory watch (a volatile double-bit error fails it), NVIDIA's RMA policy (the driver's SRAM
threshold flag), azurehpc-health-checks (errors in a board's life). Boards without ECC tell nothing.
"""

from collections.abc import Iterator

from gpuwarden.config import Config
from gpuwarden.model.finding import Severity
from gpuwarden.policy.health.rule import Claim, Judge, Look, claim


def _errors(look: Look) -> Iterator[Claim]:
    errors, cfg = look.errors, look.cfg.health.ecc
    if errors is None:
        return
    uncorrected = errors.ecc_uncorrected_volatile_total
    if uncorrected:
        yield claim(
            cfg,
            "ecc-uncorrected",
            Severity.ERROR,
            f"has had {uncorrected} uncorrected ECC errors since its driver was loaded or it was reset",
            evidence=(
                ("ecc uncorrected, volatile", str(uncorrected)),
                ("ecc uncorrected, aggregate", _shown(errors.ecc_uncorrected_aggregate_total)),
            ),
        )
    rate = look.grown("ecc_corrected_volatile_total")
    if rate:
        per_minute = rate * 60.0 / look.span_s()
        if per_minute > cfg.corrected_per_minute_max:
            yield _storm(look.cfg, f"corrects {per_minute:.0f} ECC errors a minute", per_minute)
    corrected, lasting = (
        errors.ecc_corrected_aggregate_total,
        errors.ecc_uncorrected_aggregate_total,
    )
    worn = max(corrected or 0, lasting or 0)
    if worn >= cfg.aggregate_max:
        yield claim(
            cfg,
            "ecc-worn",
            Severity.WARNING,
            f"has counted {worn} ECC errors in its life",
            evidence=(
                ("ecc corrected, aggregate", _shown(corrected)),
                ("ecc uncorrected, aggregate", _shown(lasting)),
            ),
        )


def _setup(look: Look) -> Iterator[Claim]:
    setup, cfg = look.setup, look.cfg.health.ecc
    if setup is None:
        return
    if setup.sram_ecc_threshold_exceeded:
        yield claim(
            cfg,
            "sram-threshold",
            Severity.ERROR,
            "has had more uncorrectable SRAM errors than its driver lets pass: have it replaced",
            evidence=(("sram ecc threshold", "exceeded"),),
        )
    if setup.ecc_enabled is False and setup.ecc_default:
        later = "; it will be on after the next reset" if setup.ecc_pending else ""
        yield claim(
            cfg,
            "ecc-off",
            Severity.WARNING,
            f"runs with ECC off, which is on by default on this board{later}",
            evidence=(("ecc", "off"), ("ecc by default", "on")),
        )


def on_storm(cfg: Config) -> Claim:
    """The driver itself says that too many errors are corrected."""
    return _storm(cfg, "corrects ECC errors in a storm, its driver says", None)


def _storm(cfg: Config, summary: str, per_minute: float | None) -> Claim:
    rule = cfg.health.ecc
    return claim(
        rule,
        "ecc-storm",
        Severity.WARNING,
        summary,
        grace_s=0.0 if per_minute is None else rule.storm_grace_s,
        evidence=(
            ("corrected a minute", "by the driver" if per_minute is None else f"{per_minute:.0f}"),
        ),
    )


def _shown(count: int | None) -> str:
    return "not told" if count is None else str(count)


JUDGES = (
    Judge(
        "ecc",
        "errors",
        _errors,
        {
            "ecc-uncorrected": ("errors.ecc_uncorrected_volatile_total",),
            "ecc-storm": ("errors.ecc_corrected_volatile_total",),
            "ecc-worn": ("errors.ecc_corrected_aggregate_total",),
        },
    ),
    Judge(
        "ecc",
        "setup",
        _setup,
        {
            "sram-threshold": ("setup.sram_ecc_threshold_exceeded",),
            "ecc-off": ("setup.ecc_enabled",),
        },
    ),
)
