"""The ensemble's vote."""

from __future__ import annotations

import numpy as np
import pytest

from gpuwarden.evaluate.drift import stream, vote
from gpuwarden.evaluate.drift.vote import DEFAULT, Vote, VoteSettings


def alarms(values: list[float], settings: VoteSettings, p: float) -> list[vote.Alarm]:
    judge = Vote(settings, mean=p, std=float(np.sqrt(p * (1 - p))))
    return [alarm for x in values if (alarm := judge.update(x)) is not None]


def test_a_large_change_is_agreed_on_soon() -> None:
    late = []
    for seed in range(20):
        r = np.random.default_rng(seed)
        values = np.concatenate([r.random(3000) < 0.1, r.random(1000) < 0.3]).astype(float)
        found = alarms(values.tolist(), VoteSettings(), 0.1)
        assert found
        assert not [alarm for alarm in found if alarm.index < 3000]
        late.append(found[0].index - 3000)
        assert len(found[0].detectors) >= 2
        assert found[0].version == stream.VERSION
    assert np.median(late) < 200


def test_nothing_to_find_nothing_found() -> None:
    r = np.random.default_rng(1)
    for _ in range(20):
        assert alarms((r.random(5000) < 0.1).astype(float).tolist(), VoteSettings(), 0.1) == []


def test_one_alone_does_not_decide() -> None:
    r = np.random.default_rng(3)
    values = np.concatenate([r.random(2000) < 0.05, r.random(600) < 0.5]).astype(float).tolist()
    alone = VoteSettings(detectors={"adwin": DEFAULT["adwin"]}, quorum=1)
    assert alarms(values, alone, 0.05)
    blind = {
        "adwin": DEFAULT["adwin"],
        "page_hinkley": {**DEFAULT["page_hinkley"], "threshold": 1e9},
    }
    assert alarms(values, VoteSettings(detectors=blind), 0.05) == []


def test_votes_too_far_apart_are_no_agreement() -> None:
    r = np.random.default_rng(4)
    values = np.concatenate([r.random(2000) < 0.1, r.random(1500) < 0.2]).astype(float).tolist()
    assert alarms(values, VoteSettings(span=2000), 0.1)
    assert alarms(values, VoteSettings(span=1), 0.1) == []


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="quorum"):
        Vote(VoteSettings(quorum=4), mean=0, std=1)
    with pytest.raises(ValueError, match="std"):
        Vote(VoteSettings(), mean=0, std=0)
    with pytest.raises(ValueError, match="no detector"):
        Vote(VoteSettings(detectors={"oracle": {}}, quorum=1), mean=0, std=1)
