"""Every command of docs/ is run, and answers as the page shows it."""

from __future__ import annotations

import functools
import re
import tempfile
from pathlib import Path

import pytest

from tests.docs.book import PAGES, ROOT, Block, Step, blocks, steps
from tests.docs.places import Place, repeatedly
from tests.docs.shape import differs

pytestmark = [pytest.mark.serial, pytest.mark.timeout(300)]

LOOKS = re.compile(
    r"(gpuwarden (status|gpus|tenants|incidents|explain|events|ready|doctor|check-config"
    r"|fleet (status|nodes|incidents|explain|top)|policy (status|diff)|rollout status|silence list)|curl|test) ?"
)
"""What may be asked again until the page's answer is there: it changes nothing."""
WITHIN_S = 45.0
KINDS = {"console": {"", "package"}, "toml": {"agent", "aggregator"}}


def place_of(page: Path) -> tuple[str, int]:
    """``<!-- place: agent devices=2 -->``; a page without one has commands for no place."""
    for block in blocks(page):
        if block.is_note and block.language == "place":
            options = dict(word.split("=") for word in block.words[1:])
            return block.words[0], int(options.get("devices", "1"))
    return "", 1


def commands_of(page: Path) -> list[tuple[Block, Step]]:
    return [(b, s) for b in blocks(page) if b.language == "console" for s in steps(b)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_fence_says_how_it_is_tested(page: Path) -> None:
    for block in blocks(page):
        if block.is_note:
            assert block.language in ("place", "tenant"), f"{page.name}:{block.line}"
            continue
        kind = block.words[0] if block.words else ""
        known = KINDS.get(block.language, set())
        assert kind in known, f"{page.name}:{block.line}: {block.language} {kind}"
    if any(not block.words for block, _ in commands_of(page)):
        assert place_of(page)[0], f"{page.name} has commands and no place"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_needs_the_package_is_run_by_whom_the_page_names(page: Path) -> None:
    """The function is there, and the file runs that program (with that verb)."""
    for block, step in commands_of(page):
        if not block.words:
            continue
        file, _, function = block.words[1].partition(":")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert f"def {function}(" in text, f"{page.name}:{block.line}"
        program, _, rest = step.command.partition(" ")
        verb = next((word for word in rest.split() if not word.startswith("-")), "")
        program = program.replace("sudo", "")
        is_run = program in text and (program == "dpkg" or verb in text)
        assert is_run, f"{page.name}:{step.line}: {file} does not run {step.command}"


def _fault(step: Step, status: int, lines: list[str]) -> str:
    if status != step.status:
        return f"exit code {status} instead of {step.status}\n" + "\n".join(lines)
    return differs(step.shown, lines) if step.shown else ""


def _do(place: Place, block: Block) -> list[str]:
    faults = []
    for step in steps(block):
        wanted = functools.partial(_fault, step)
        within_s = WITHIN_S if LOOKS.match(step.command) else 0.0
        fault, lines = repeatedly(place, step.command, wanted, within_s)
        if fault:
            said = "\n".join(lines)
            faults.append(f"line {step.line}: {step.command}\n{fault}\nall it said:\n{said}")
    return faults


@pytest.mark.parametrize("page", [p for p in PAGES if place_of(p)[0]], ids=lambda page: page.stem)
def test_commands_answer_as_shown(page: Path) -> None:
    kind, devices = place_of(page)
    folder = Path(tempfile.mkdtemp(prefix="gw-docs-", dir="/tmp"))
    folder.chmod(0o755)
    place = Place(folder, kind, devices)
    faults: list[str] = []
    try:
        for block in blocks(page):
            if block.language == "tenant":
                place.start_tenant(block.words[0], block.words[1:])
            elif block.language == "toml" and len(block.words) > 1:
                place.save(block.words[1], block.text)
            elif block.language == "console" and not block.words:
                faults += _do(place, block)
            elif block.language == "console" and "systemctl reload gpuwarden-agent" in block.text:
                place.reload_agent()
            elif block.language == "console" and "systemctl restart gpuwarden-agent" in block.text:
                place.restart_agent()
        assert not faults, f"{page.name}\n" + "\n\n".join(faults) + place.story()[-1500:]
    finally:
        place.close()
