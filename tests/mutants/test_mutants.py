"""Every seeded mistake still fits the code; a tenth of them, others each time the policy changes, is put in
and must be noticed. `scripts/mutants` tries them all."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import pytest

from tests.mutants.catalogue import MUTANTS, tenth
from tests.mutants.mutant import POLICY, Mutant
from tests.mutants.run import ROOT, applied, read_killer, try_mutant

SEED = zlib.crc32(b"".join(p.read_bytes() for p in sorted((ROOT / POLICY).rglob("*.py"))))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_it_fits(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    wrong = applied(text, mutant)
    assert wrong != text
    compile(wrong, mutant.file, "exec")


def test_there_are_enough() -> None:
    assert len({m.name for m in MUTANTS}) == len(MUTANTS) >= 10


def test_ten_tenths_are_all_of_them() -> None:
    assert {m.name for seed in range(10) for m in tenth(seed)} == {m.name for m in MUTANTS}
    assert min(len(tenth(seed)) for seed in range(10)) >= 2


@pytest.mark.parametrize("mutant", tenth(SEED), ids=lambda m: m.name)
@pytest.mark.timeout(900)
def test_it_is_noticed(mutant: Mutant, record_property: Callable[[str, object], None]) -> None:
    verdict = try_mutant(mutant, all_of_them=False)
    assert verdict.is_caught, f"{mutant.name} survived {', '.join(verdict.asked)}"
    record_property("mutant", f"{mutant.name}: {next(iter(verdict.killers.values()))}")


RED = """\
...F
=========================== short test summary info ============================
FAILED tests/policy/test_guard.py::TestNever::test_one[kill it] - AssertionError: assert None
1 failed, 3 passed in 0.51s
"""
WORLDS = """\
120 worlds in 9 s (13/s)
WRONG world 17: hit a protected tenant:   1003.200  term
NOT COVERED crash: 2 of 120
wrong worlds: 1
"""


def test_who_noticed_is_read_from_what_a_suite_prints() -> None:
    assert (
        read_killer("policy", 1, RED) == "tests/policy/test_guard.py::TestNever::test_one[kill it]"
    )
    assert read_killer("worlds", 1, WORLDS) == "world 17: hit a protected tenant"
    assert read_killer("policy", 0, "4 passed in 0.5s") is None


def test_too_few_worlds_of_a_kind_are_no_notice() -> None:
    said = "\n".join(line for line in WORLDS.splitlines() if "WRONG" not in line)
    assert read_killer("worlds", 1, said) is None


@pytest.mark.parametrize("suite", ["policy", "worlds"])
def test_a_suite_that_did_not_run_is_neither_red_nor_green(suite: str) -> None:
    with pytest.raises(RuntimeError, match="no result"):
        read_killer(suite, 2, "ImportError: no such module")
