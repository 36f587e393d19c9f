"""The DICOM set of ``simulate orientation``: what it holds, that its truth is the marks', that the verb says so."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from pathlib import Path

from click.testing import CliRunner

from gpuwarden.cli import main
from gpuwarden.evaluate.quality.orientation import Judgement, Outcome
from gpuwarden.sim.orientation.cases import BROKEN, cases
from gpuwarden.sim.orientation.files import MAKERS
from gpuwarden.sim.orientation.trial import SWAPS, Trial, summary, tried


def test_the_set_is_broad() -> None:
    found = list(cases())
    assert len(found) > 2000
    assert {each.modality for each in found} == {"CT", "MR", "PT", "CR", "DX", "MG", "US"}
    assert {each.maker for each in found} == set(MAKERS)
    names = " ".join(each.name for each in found)
    for word in (
        "axial",
        "sagittal",
        "coronal",
        "oblique",
        "HFS",
        "HFP",
        "FFS",
        "FFP",
        "MLO",
        *BROKEN,
    ):
        assert word in names
    assert len({each.name + each.maker for each in found}) == len(found)


def test_a_sample_of_it_is_right_by_kind(tmp_path: Path) -> None:
    trials = [tried(case, tmp_path) for case in itertools.islice(cases(), 0, None, 37)]
    found = summary(trials)
    assert found["wrong"] == []
    assert found["ok"]
    kinds = Counter(each.truth for each in trials)
    assert set(kinds) == {
        "well", "left-right", "half-turn", "mirror", "exchange", "rotation", "cannot-tell",
    }  # fmt: skip


def _trial(truth: str, outcome: Outcome, *, swaps: bool = False) -> Trial:
    judgement = Judgement(outcome=outcome, swaps_left_right=swaps)
    return Trial(name="x", modality="CT", maker="ge", truth=truth, judgement=judgement)


def test_the_summary_fails_on_each_kind_of_mistake() -> None:
    right = [
        _trial("well", Outcome.SAME),
        _trial("left-right", Outcome.FLIPPED, swaps=True),
        _trial("half-turn", Outcome.ROTATED, swaps=True),
        _trial("cannot-tell", Outcome.CANNOT_TELL),
    ]
    assert summary(right)["ok"]
    assert not summary([])["ok"]
    for wrong in (
        _trial("left-right", Outcome.SAME),
        _trial("left-right", Outcome.CANNOT_TELL),
        _trial("half-turn", Outcome.ROTATED),
        _trial("well", Outcome.FLIPPED, swaps=True),
        _trial("well", Outcome.CANNOT_TELL),
        _trial("cannot-tell", Outcome.SAME),
        _trial("mirror", Outcome.ROTATED),
        _trial("rotation", Outcome.ROTATED, swaps=True),
    ):
        assert not summary([*right, wrong])["ok"], wrong
    missed = summary([*right, _trial("left-right", Outcome.SAME)])
    assert missed["left_right"] == {"cases": 3, "found": 2}
    assert summary([*right, _trial("well", Outcome.FLIPPED, swaps=True)])["false_alarms"] == 1


def test_a_check_that_never_looks_at_the_pixels_would_fail(tmp_path: Path) -> None:
    case = next(each for each in cases() if "header kept" in each.name)
    trial = tried(case, tmp_path)
    assert trial.truth in SWAPS
    assert dataclasses.replace(trial, judgement=Judgement(outcome=Outcome.SAME)).is_missed


def test_the_verb_counts_and_ends_with_zero() -> None:
    ran = CliRunner().invoke(main, ["simulate", "orientation", "--json", "--every", "200"])
    assert ran.exit_code == 0, ran.output
    said = json.loads(ran.output)
    assert said["ok"]
    assert said["left_right"]["cases"] == said["left_right"]["found"] > 0
    assert said["false_alarms"] == 0
    shown = CliRunner().invoke(main, ["simulate", "orientation", "--every", "400"])
    assert shown.exit_code == 0
    assert "false alarms: 0" in shown.output
