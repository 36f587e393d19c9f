"""Properties over generated worlds: a thousand of the ten thousand that `scripts/worlds` runs."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.properties.run import FEATURES, run_many, run_world

CHUNK = 100
CHUNKS = 10


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.timeout(300)
def test_no_wrong_victim_and_nothing_left_behind(
    chunk: int, record_property: Callable[[str, object], None]
) -> None:
    tally = run_many(chunk * CHUNK, CHUNK)
    record_property("worlds", json.dumps({f: tally.coverage[f] for f in FEATURES}))
    wrong = [f"world {seed}: {text}" for seed, texts in tally.wrong.items() for text in texts]
    assert not wrong, "\n".join(wrong[:20])
    assert [f for f in FEATURES if not tally.coverage[f]] == []


def test_a_seed_is_a_world() -> None:
    """The same seed: the same ledger, line by line."""
    for seed in (3, 44):
        lives = [[str(e) for e in run_world(seed)[0].world.ledger.entries] for _ in range(2)]
        assert lives[0] == lives[1]
        assert len(lives[0]) > 5
