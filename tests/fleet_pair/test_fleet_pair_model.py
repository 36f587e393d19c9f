"""The model finds what is wrong with a history: one that finds nothing would prove nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fleet_pair.history import Grant, History, Reign, Seen
from tests.fleet_pair.model import Rules, findings

RULES = Rules(nodes_in_window=2, window_s=3.0, ttl_s=1.5)


def grant(number: int, node: str, granted: float, epoch: int = 1) -> Grant:
    return Grant(
        id=f"p{number}",
        node=node,
        ask=f"{node}-w{number}",
        kind="cordon",
        epoch=epoch,
        granted=granted,
        expires=granted + 1.5,
    )


def good() -> History:
    """Two leaders, three permits, an order, and some events."""
    history = History(
        grants=[grant(1, "n0", 10.0), grant(2, "n2", 11.0), grant(3, "n4", 13.5, 2)],
        reigns=[Reign(epoch=1, holder="a", began=9.0), Reign(epoch=2, holder="b", began=13.0)],
        events={"n0": {1: "", 2: "acted n0-w1 p1"}},
        orders={"o1": True, "o2": None},
        domains={"n0": "r0", "n1": "r0", "n2": "r1", "n4": "r2"},
    )
    for seen in (
        Seen(at=1.0, who="n0", what="epoch", number=1),
        Seen(at=1.0, who="n0", what="permit", name="p1", text="n0-w1"),
        Seen(at=1.1, who="n0", what="action", name="p1", text="n0-w1"),
        Seen(at=1.2, who="n0", what="ack", number=2),
        Seen(at=1.3, who="n0", what="order", name="o1"),
        Seen(at=1.4, who="operator", what="answer", name="o1", text="done"),
    ):
        history.note(seen)
    return history


def test_a_history_in_which_all_is_well() -> None:
    assert findings(good(), RULES) == []


WRONG_SIGHTS = {
    "back to 1": [
        Seen(at=2.0, who="n0", what="epoch", number=2),
        Seen(at=3.0, who="n0", what="epoch", number=1),
    ],
    "later only 1": [Seen(at=2.0, who="n0", what="ack", number=1)],
    "1 acknowledged events are lost": [Seen(at=2.0, who="n0", what="ack", number=3)],
    "acted 2 times": [Seen(at=1.2, who="n0", what="action", name="p1", text="n0-w1")],
    "without leave": [Seen(at=1.2, who="n2", what="action", name="p2", text="n2-w2")],
    "not on record": [Seen(at=2.0, who="n0", what="permit", name="p9")],
    "of n0": [Seen(at=2.0, who="n2", what="permit", name="p1")],
    "obeyed 2 times": [Seen(at=2.0, who="n0", what="order", name="o1")],
    "nobody obeyed it": [Seen(at=2.0, who="operator", what="answer", name="o2", text="done")],
}


@pytest.mark.parametrize("wrong", WRONG_SIGHTS)
def test_what_nodes_and_operators_must_not_see(wrong: str) -> None:
    history = good()
    history.seen += WRONG_SIGHTS[wrong]
    assert any(wrong in found for found in findings(history, RULES))


WRONG_GRANTS = {
    "3 nodes within 3 s": [grant(4, "n4", 11.5)],
    "hold at once in r0": [grant(4, "n1", 10.5)],
    "outside of its epoch 1": [grant(4, "n0", 13.2)],
    "never began": [grant(4, "n0", 13.2, 7)],
}


@pytest.mark.parametrize("wrong", WRONG_GRANTS)
def test_what_leaders_must_not_give(wrong: str) -> None:
    history = good()
    history.grants += WRONG_GRANTS[wrong]
    assert any(wrong in found for found in findings(history, RULES))


def test_an_epoch_that_goes_back_and_notes_that_are_wrong() -> None:
    history = good()
    history.reigns[1] = replace(history.reigns[1], began=8.0)
    history.events["n0"][3] = "acted n0-w1 p1"
    history.events["n2"] = {1: "acted n2-w2 p2"}
    found = "\n".join(findings(history, RULES))
    assert "epoch 2 began before epoch 1" in found
    assert "on record 2 times" in found
    assert "which it did not do" in found
