"""The run books say what the agent does and what its pages say: order of remedies, first steps, wording."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from gpuwarden.model.fault import Topic
from gpuwarden.model.repair import FaultClass
from gpuwarden.policy.fault import catalogue, steps
from gpuwarden.policy.fault.classes import of_xid
from gpuwarden.policy.notify.first_steps import first_steps
from gpuwarden.policy.repair.ladders import LADDERS
from tests.docs.book import DOCS

HEAD = re.compile(r"`([a-z_]+)`, class `([a-z-]+)`: ([^.]+)\.")
# The page says "Xid 46, engine hung and did not answer" or "Xid 119, ...".
SAID = re.compile(r'"Xid (\d+), ([^"]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBook:
    topic: str
    cls: str
    remedies: list[str]
    numbered: list[str]
    said: list[tuple[int, str]]
    text: str


def run_books() -> dict[str, RunBook]:
    found = {}
    for page in ("runbooks.md", "runbooks-host.md"):
        for text in (DOCS / page).read_text(encoding="utf-8").split("\n### ")[1:]:
            head = HEAD.search(text)
            assert head is not None, text
            found[head[1]] = RunBook(
                topic=head[1],
                cls=head[2],
                remedies=re.findall(r"`([a-z-]+)`", head[3]),
                numbered=re.findall(r"^\d\. (.*)$", text, flags=re.MULTILINE),
                said=[(int(code), words) for code, words in SAID.findall(text)],
                text=text,
            )
    return found


BOOKS = run_books()


def test_every_topic_has_one() -> None:
    assert set(BOOKS) == {topic.value for topic in Topic if topic is not Topic.NONE}


@pytest.mark.parametrize("book", BOOKS.values(), ids=lambda book: book.topic)
def test_it_says_what_the_code_does(book: RunBook) -> None:
    assert book.remedies == [step.value for step in LADDERS[FaultClass(book.cls)]]
    assert book.numbered == list(steps.first_steps(Topic(book.topic)))
    assert "Call the vendor when: " in book.text
    assert "The agent " in book.text


@pytest.mark.parametrize("book", BOOKS.values(), ids=lambda book: book.topic)
def test_the_pages_own_steps_are_the_same(book: RunBook) -> None:
    told = first_steps(book.topic, "", "INCIDENT")
    assert [step.replace("gpuwarden explain INCIDENT:", "gpuwarden explain:") for step in told] == (
        book.numbered
    )


@pytest.mark.parametrize("book", BOOKS.values(), ids=lambda book: book.topic)
def test_what_the_page_says_is_of_that_topic_and_class(book: RunBook) -> None:
    for code, words in book.said:
        row = catalogue.xid(code)
        assert row is not None
        assert row.summary == words
        assert steps.topic_of_xid(code).value == book.topic
        if book.topic != Topic.RECOVERY_ADVISED.value:  # its number decides, not its class
            assert of_xid(code, row.scope, row.action).value == book.cls
