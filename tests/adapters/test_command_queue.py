"""Commands on their way to the loop and back."""

from __future__ import annotations

import os
import select
import threading

import pytest

from gpuwarden.adapters.command_queue import CommandQueue
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.command import Answer, Verb


def test_asked_heard_and_answered() -> None:
    queue = CommandQueue()
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
    queue = CommandQueue(most=1)
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
    queue = CommandQueue()
    with pytest.raises(Unavailable, match="may still be carried out"):
        queue.ask(Verb.UNCORDON, "0", "", 4_000_000_000, 0.05)
    (command,) = queue.drain()
    assert command.name == "uid 4000000000"
    queue.answer([Answer(command=command.id, is_done=True, text="too late")])
