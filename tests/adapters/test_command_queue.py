"""Commands on their way to the loop and back."""

from __future__ import annotations

import os
import select
import threading

import pytest

from gpuwarden.adapters.command_queue import QUEUE, CommandQueue
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.command import Answer, Verb
from tests.simulated.oncall import HeapAudit


def made(audit: HeapAudit | None = None, most: int = QUEUE) -> CommandQueue:
    return CommandQueue(audit or HeapAudit(), SystemClock(), most)


def test_asked_heard_and_answered() -> None:
    queue = made()
    told: list[Answer] = []
    asker = threading.Thread(
        target=lambda: told.append(
            queue.ask(Verb.CORDON, "0", "a\x1b[31m\nreason", os.getuid(), 30.0)
        )
    )
    asker.start()
    assert select.select(queue.filenos(), [], [], 30.0)[0]
    (command,) = queue.drain()
    assert (command.verb, command.subject, command.reason) == (Verb.CORDON, "0", "a [31m reason")
    assert not select.select(queue.filenos(), [], [], 0)[0]
    queue.answer([Answer(command=command.id, is_done=True, text="done")])
    asker.join(30.0)
    assert told[0].text == "done"
    assert queue.drain() == []


def test_a_full_queue_says_so() -> None:
    queue = made(most=1)
    waiting = threading.Thread(target=lambda: _ask(queue), daemon=True)
    waiting.start()
    select.select(queue.filenos(), [], [], 30.0)
    with pytest.raises(Refused, match="waiting already"):
        queue.ask(Verb.CORDON, "1", "x", 0, 0.1)
    assert queue.dropped == 1
    queue.close()
    waiting.join(30.0)


def _ask(queue: CommandQueue) -> None:
    with pytest.raises(Unavailable):
        queue.ask(Verb.CORDON, "0", "x", 0, 30.0)


def test_a_loop_that_does_not_answer() -> None:
    queue = made()
    with pytest.raises(Unavailable, match="may still be carried out"):
        queue.ask(Verb.UNCORDON, "0", "", 4_000_000_000, 0.05)
    (command,) = queue.drain()
    assert command.name == "uid 4000000000"
    queue.answer([Answer(command=command.id, is_done=True, text="too late")])


def test_who_asks_for_what_is_on_record_before_it_is_heard() -> None:
    audit = HeapAudit()
    queue = made(audit)
    with pytest.raises(Unavailable, match="may still be carried out"):
        queue.ask(Verb.SET_HEALTHY, "node", "new\nboard", 4_000_000_000, 0.05)
    (entry,) = audit.entries
    assert (entry.verb, entry.what) == ("set-healthy", "node: new board")
    assert (entry.caller.uid, entry.caller.name) == (4_000_000_000, "uid 4000000000")
    assert len(queue.drain()) == 1


def test_what_cannot_be_written_down_is_not_heard() -> None:
    audit = HeapAudit(is_broken=True)
    queue = made(audit)
    with pytest.raises(Unavailable, match="No space left"):
        queue.ask(Verb.CORDON, "0", "x", 0, 0.05)
    assert queue.drain() == []
