"""Rule retired: pages of device memory taken out of use, on boards before Ampere.

Source: DCGM (63 pages as in the field diagnostic; more than 15 with more than one double-bit page in a
week). What a week held is remembered in wall time, over restarts of the agent.
"""

from collections.abc import Iterator

from gpuwarden.config_health import RetiredRule
from gpuwarden.model.finding import Severity
from gpuwarden.model.health_memory import DeviceHistory
from gpuwarden.policy.health.rule import Claim, Judge, Look, claim

PAGES_KEPT = 32
"""Rises of the number that are remembered: a week needs two."""


def _setup(look: Look) -> Iterator[Claim]:
    setup, cfg = look.setup, look.cfg.health.retired
    if setup is None:
        return
    if setup.retired_pages_pending:
        yield claim(
            cfg,
            "page-retirement-pending",
            Severity.WARNING,
            "has a page of memory to be retired, which the next reset does",
            evidence=(("page retirement", "pending"),),
        )
    single, double = setup.retired_pages_single_bit, setup.retired_pages_double_bit
    if single is None or double is None:
        return
    pages, recent = single + double, in_week(cfg, look.history, look.wall)
    evidence = (
        ("pages retired, single-bit", str(single)),
        ("pages retired, double-bit", str(double)),
        ("double-bit within the week", str(recent)),
    )
    if pages >= cfg.pages_max:
        text = f"has retired {pages} pages of memory: have it replaced"
        yield claim(cfg, "retired-pages", Severity.ERROR, text, evidence=evidence)
    elif pages > cfg.pages_soft_max and recent > cfg.double_bit_week_max:
        text = f"has retired {pages} pages of memory, {recent} for double-bit errors within a week"
        yield claim(cfg, "retired-pages", Severity.ERROR, text, evidence=evidence)


def in_week(cfg: RetiredRule, history: DeviceHistory, wall: float) -> int:
    """Pages retired for double-bit errors within the last week, as far as it was watched."""
    if not history.pages:
        return 0
    before = [total for at, total in history.pages if at < wall - cfg.week_s]
    return history.pages[-1][1] - (before[-1] if before else history.pages[0][1])


def noted(
    pages: tuple[tuple[float, int], ...], double_bit: int | None, wall: float
) -> tuple[tuple[float, int], ...]:
    """The history with one more reading; a number that fell belongs to another board."""
    if double_bit is None or (pages and pages[-1][1] == double_bit):
        return pages
    if pages and double_bit < pages[-1][1]:
        return ((wall, double_bit),)
    return (*pages, (wall, double_bit))[-PAGES_KEPT:]


JUDGES = (
    Judge(
        "retired",
        "setup",
        _setup,
        {
            "page-retirement-pending": ("setup.retired_pages_pending",),
            "retired-pages": (
                "setup.retired_pages_single_bit",
                "setup.retired_pages_double_bit",
            ),
        },
    ),
)
