"""Rule mismatch: kernel module and library are of different versions.

Source: nvml.h (LIB_RM_VERSION_MISMATCH); seen when a package was upgraded and the old module is still loaded.
What runs goes on, what starts next fails: the library on disk is compared too, not only the one in use.
"""

from collections.abc import Iterator

from gpuwarden.model.finding import Scope, Severity
from gpuwarden.policy.health.rule import Claim, HostJudge, HostLook, claim


def _ask(look: HostLook) -> Iterator[Claim]:
    driver, around = look.scene.snap.driver, look.surroundings
    module = around.module_version if around is not None else None
    on_disk = around.library_version if around is not None else None
    loaded = _of_library(driver.library) if driver is not None else None
    is_refused = driver is not None and driver.is_refused
    others = {v for v in (on_disk, loaded) if v and module and v != module}
    if not is_refused and not others:
        return
    found = ", ".join(sorted(others))
    what = (
        f"the kernel module is {module}, the library {found}" if others else "the library says so"
    )
    yield claim(
        look.cfg.health.mismatch,
        "driver-mismatch",
        Severity.ERROR,
        f"NVIDIA's kernel module and library differ ({what}): new GPU programs fail",
        scope=Scope.NODE,
        evidence=(
            ("kernel module", module or "not told"),
            ("library on disk", on_disk or "not told"),
            ("library in use", loaded or "not told"),
            ("library refuses", "yes" if is_refused else "no"),
        ),
    )


def _of_library(version: str) -> str | None:
    """``13.580.95.05`` -> ``580.95.05``: the CUDA generation goes before the driver's version."""
    generation, dot, rest = version.partition(".")
    return rest if dot and generation.isdecimal() and len(generation) <= 2 and "." in rest else None


JUDGES = (HostJudge("mismatch", _ask, {"driver-mismatch": ("scene.snap.driver", "surroundings")}),)
