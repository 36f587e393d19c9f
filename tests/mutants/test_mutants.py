"""Every seeded mistake still fits the code; one of them, another one each time the policy changes, is
put in and must be noticed. `scripts/mutants` tries them all."""

from __future__ import annotations

import zlib

import pytest

from tests.mutants.catalogue import MUTANTS, POLICY, Mutant
from tests.mutants.run import ROOT, applied, try_mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_it_fits(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    wrong = applied(text, mutant)
    assert wrong != text
    compile(wrong, mutant.file, "exec")


def test_there_are_enough() -> None:
    assert len({m.name for m in MUTANTS}) == len(MUTANTS) >= 10


@pytest.mark.timeout(900)
def test_one_of_them_is_noticed() -> None:
    sources = sorted((ROOT / POLICY).glob("*.py"))
    seed = zlib.crc32(b"".join(p.read_bytes() for p in sources))
    verdict = try_mutant(MUTANTS[seed % len(MUTANTS)], all_of_them=False)
    assert verdict.is_caught, f"{verdict.mutant.name} survived {', '.join(verdict.asked)}"
