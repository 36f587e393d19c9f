"""Rule nvlink: links that err, or are down.

Source: DCGM's NVLink watch: one replay or recovery error within a minute fails it, CRC errors fail it at
100 a second and are a warning below. How many links a device should have is asked of its own past and of
its like in the node, never of a table: an H100 PCIe has 12 of 18 by design.
"""

from collections.abc import Iterator

from gpuwarden.model.device import Sight
from gpuwarden.model.finding import Scope, Severity
from gpuwarden.policy.health.rule import Claim, Judge, Look, claim

_CRC = (
    "nvlink_crc_flit_errors_total",
    "nvlink_crc_data_errors_total",
    "nvlink_receive_errors_total",
    "nvlink_integrity_errors_total",
)
_HARD = (
    "nvlink_replay_errors_total",
    "nvlink_recovery_errors_total",
    "nvlink_recovery_failures_total",
)


def _errors(look: Look) -> Iterator[Claim]:
    errors, window = look.errors, look.history.errors
    if errors is None:
        return
    if window is not None and window.grown:
        yield from _growth(look)
    if errors.nvlink_up_mask is not None and errors.nvlink_down_mask:
        yield from _links(look, errors.nvlink_up_mask, errors.nvlink_down_mask)


def _growth(look: Look) -> Iterator[Claim]:
    cfg, span_s = look.cfg.health.nvlink, look.span_s()
    hard = {name: look.grown(name) for name in _HARD if look.grown(name) >= cfg.errors_min}
    if hard:
        yield claim(
            cfg,
            "nvlink-errors",
            Severity.ERROR,
            f"has NVLink errors: {_listed(hard)} in {span_s:.0f} s",
            scope=Scope.LINK,
            evidence=tuple((_word(name), f"{by:.0f}") for name, by in hard.items()),
        )
    crc = {name: look.grown(name) for name in _CRC if look.grown(name)}
    per_s = sum(crc.values()) / span_s if crc else 0.0
    if crc:
        is_bad = per_s >= cfg.crc_per_s_max
        yield claim(
            cfg,
            "nvlink-crc",
            Severity.ERROR if is_bad else Severity.WARNING,
            f"has NVLink CRC errors: {_listed(crc)} in {span_s:.0f} s",
            scope=Scope.LINK,
            evidence=(("CRC errors a second", f"{per_s:.2f}"),),
        )


def _links(look: Look, up: int, down: int) -> Iterator[Claim]:
    """``up``, ``down``: masks of the links that are told to be so; some are down."""
    cfg = look.cfg.health.nvlink
    lost = look.history.links_up_mask & down
    if lost:
        yield claim(
            cfg,
            "nvlink-down",
            Severity.ERROR,
            f"has lost NVLink {_numbers(lost)}",
            grace_s=cfg.down_grace_s,
            scope=Scope.LINK,
            evidence=(("links down", _numbers(lost)), ("links up", str(up.bit_count()))),
        )
        return
    usual = _usual(look)
    if usual is not None and up.bit_count() < usual:
        yield claim(
            cfg,
            "nvlink-fewer",
            Severity.WARNING,
            f"has {up.bit_count()} NVLinks up, the other devices of its kind have {usual}",
            grace_s=cfg.down_grace_s,
            scope=Scope.LINK,
            evidence=(("links up", str(up.bit_count())), ("of its like", str(usual))),
        )


def _usual(look: Look) -> int | None:
    """How many links every other device of the same model has up; None: they differ, or are too few."""
    counts = set()
    like = 0
    for other in look.devices:
        if other.id == look.device.id or other.name != look.device.name or other.health is None:
            continue
        errors = other.health.errors
        if other.sight is not Sight.OK or errors is None or errors.nvlink_up_mask is None:
            continue
        like += 1
        counts.add(errors.nvlink_up_mask.bit_count())
    return counts.pop() if like >= 2 and len(counts) == 1 else None


def _numbers(mask: int) -> str:
    return ", ".join(str(n) for n in range(mask.bit_length()) if mask >> n & 1)


def _listed(grown: dict[str, float]) -> str:
    return ", ".join(f"{by:.0f} {_word(name)}" for name, by in grown.items())


def _word(counter: str) -> str:
    return counter.removeprefix("nvlink_").removesuffix("_total").replace("_", " ")


def _any(counters: tuple[str, ...]) -> str:
    """Each generation has counters of its own."""
    return "|".join(f"errors.{name}" for name in counters)


JUDGES = (
    Judge(
        "nvlink",
        "errors",
        _errors,
        {
            "nvlink-errors": (_any(_HARD),),
            "nvlink-crc": (_any(_CRC),),
            "nvlink-down": ("errors.nvlink_up_mask", "errors.nvlink_down_mask"),
            "nvlink-fewer": ("errors.nvlink_up_mask", "errors.nvlink_down_mask"),
        },
    ),
)
