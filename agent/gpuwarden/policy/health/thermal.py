"""Rule thermal: a device, or its memory, at its own temperature limit.

Source: the thresholds that the driver states for this very device (nvmlDeviceGetTemperatureThreshold,
nvmlDeviceGetMarginTemperature); nothing is taken from a table.
"""

from collections.abc import Iterator

from gpuwarden.model.finding import Severity
from gpuwarden.policy.health.rule import Claim, Judge, Look, claim


def _vitals(look: Look) -> Iterator[Claim]:
    vitals, setup, cfg = look.vitals, look.setup, look.cfg.health.thermal
    if vitals is None or setup is None:
        return
    core, slowdown = vitals.temperature_c, setup.temperature_slowdown_c
    if core is not None and slowdown and core >= slowdown:
        yield claim(
            cfg,
            "thermal-core",
            Severity.ERROR,
            f"is at {core:.0f} C, it slows down at {slowdown:.0f} C",
            evidence=(
                ("temperature", f"{core:.0f} C"),
                ("slowdown at", f"{slowdown:.0f} C"),
                ("shutdown at", _degrees(setup.temperature_shutdown_c)),
            ),
        )
    memory, most = vitals.memory_temperature_c, setup.temperature_memory_max_c
    if memory is not None and most and memory >= most:
        yield claim(
            cfg,
            "thermal-memory",
            Severity.ERROR,
            f"has its memory at {memory:.0f} C, {most:.0f} C is its limit",
            evidence=(("memory temperature", f"{memory:.0f} C"), ("limit", f"{most:.0f} C")),
        )


def _errors(look: Look) -> Iterator[Claim]:
    margin = look.errors.temperature_margin_c if look.errors is not None else None
    if margin is not None and margin <= look.cfg.health.thermal.margin_min_c:
        yield claim(
            look.cfg.health.thermal,
            "thermal-margin",
            Severity.WARNING,
            f"has {margin:.0f} C left to its highest operating temperature",
            evidence=(("temperature margin", f"{margin:.0f} C"),),
        )


def _degrees(value: float | None) -> str:
    return "not told" if value is None else f"{value:.0f} C"


JUDGES = (
    Judge(
        "thermal",
        "vitals",
        _vitals,
        {
            "thermal-core": ("vitals.temperature_c", "setup.temperature_slowdown_c"),
            "thermal-memory": ("vitals.memory_temperature_c", "setup.temperature_memory_max_c"),
        },
    ),
    Judge("thermal", "errors", _errors, {"thermal-margin": ("errors.temperature_margin_c",)}),
)
