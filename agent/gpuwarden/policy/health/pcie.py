"""Rule pcie: replays, errors, and a link that runs below what the device and its slot can do.

Source of the replay rates: DCGM's PCIe watch (a minute's replays for each lane, by generation). Width and
generation are compared with the device's own maximum in this slot; the generation only while it works,
because an idle link slows down by design. The width never should.
"""

import math
from collections.abc import Iterator

from gpuwarden.model.finding import Scope, Severity
from gpuwarden.policy.health.rule import Claim, Judge, Look, claim


def _errors(look: Look) -> Iterator[Claim]:
    window, cfg = look.history.errors, look.cfg.health.pcie
    if window is None or not window.grown:
        return
    replays = look.grown("pcie_replays_total")
    allowed = _allowed_a_minute(look)
    if replays and allowed is not None:
        per_minute = replays * 60.0 / window.span_s
        if per_minute > allowed:
            yield claim(
                cfg,
                "pcie-replays",
                Severity.ERROR,
                f"replays {per_minute:.0f} PCIe packets a minute, {allowed} would be normal",
                scope=Scope.LINK,
                evidence=(("replays a minute", f"{per_minute:.1f}"), ("allowed", str(allowed))),
            )
    fatal = look.grown("pcie_fatal_errors_total")
    if fatal:
        text = f"has had {fatal:.0f} fatal PCIe errors in {window.span_s:.0f} s"
        yield claim(cfg, "pcie-fatal", Severity.ERROR, text, scope=Scope.LINK)
    non_fatal = look.grown("pcie_non_fatal_errors_total")
    if non_fatal:
        text = f"has had {non_fatal:.0f} non-fatal PCIe errors in {window.span_s:.0f} s"
        yield claim(cfg, "pcie-non-fatal", Severity.WARNING, text, scope=Scope.LINK)


def _allowed_a_minute(look: Look) -> int | None:
    """Replays a minute that are normal on the link as it runs; None: how it runs is not known."""
    setup, rates = look.setup, look.cfg.health.pcie.replays_per_lane_minute
    if setup is None or not setup.pcie_link_generation or not setup.pcie_link_width:
        return None
    rate = rates[min(setup.pcie_link_generation, len(rates)) - 1]
    return math.ceil(rate * setup.pcie_link_width)


def _setup(look: Look) -> Iterator[Claim]:
    setup, cfg = look.setup, look.cfg.health.pcie
    if setup is None:
        return
    width, widest = setup.pcie_link_width, setup.pcie_link_width_max
    if width and widest and width < widest:
        yield claim(
            cfg,
            "pcie-width",
            Severity.ERROR,
            f"has a PCIe link of {width} lanes, {widest} are possible",
            grace_s=cfg.link_grace_s,
            scope=Scope.LINK,
            evidence=(("pcie lanes", f"{width} of {widest}"),),
        )
    generation, newest = setup.pcie_link_generation, setup.pcie_link_generation_max
    if generation and newest and generation < newest and _is_busy(look):
        yield claim(
            cfg,
            "pcie-generation",
            Severity.WARNING,
            f"works over PCIe generation {generation}, {newest} is possible",
            grace_s=cfg.link_grace_s,
            scope=Scope.LINK,
            evidence=(("pcie generation", f"{generation} of {newest}"),),
        )


def _is_busy(look: Look) -> bool:
    vitals = look.vitals
    if vitals is None or vitals.utilization_ratio is None:
        return False
    return vitals.utilization_ratio >= look.cfg.health.pcie.busy_ratio


JUDGES = (
    Judge(
        "pcie",
        "errors",
        _errors,
        {
            "pcie-replays": ("errors.pcie_replays_total", "setup.pcie_link_width"),
            "pcie-fatal": ("errors.pcie_fatal_errors_total",),
            "pcie-non-fatal": ("errors.pcie_non_fatal_errors_total",),
        },
    ),
    Judge(
        "pcie",
        "setup",
        _setup,
        {
            "pcie-width": ("setup.pcie_link_width", "setup.pcie_link_width_max"),
            "pcie-generation": ("setup.pcie_link_generation", "setup.pcie_link_generation_max"),
        },
    ),
)
