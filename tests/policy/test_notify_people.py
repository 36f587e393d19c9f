"""What a node says of its own silences, at the centre."""

from __future__ import annotations

from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Book
from gpuwarden.policy.notify import people

WALL = 1.7e9
NAME = IncidentId("n1/inc-1")


def test_it_holds_as_long_as_the_node_says_and_not_longer() -> None:
    book = people.quieted(Book(), NAME, "sil-1 of kim: known", WALL, WALL + 60)
    (silence,) = book.silences.values()
    assert (silence.author, silence.reason) == ("n1", "sil-1 of kim: known")
    assert (silence.since_wall, silence.until_wall) == (WALL, WALL + 60)
    assert silence.matcher.incident == NAME
    again = people.quieted(book, NAME, "sil-1 of kim: known", WALL + 5, WALL + 60)
    assert again is book, "said twice, it is one"
    longer = people.quieted(book, NAME, "sil-1 of kim: known", WALL + 5, WALL + 90)
    assert [s.until_wall for s in longer.silences.values()] == [WALL + 90]
    assert people.quieted(book, NAME, "", WALL + 5, 0.0).silences == {}
    assert people.quieted(book, NAME, "late", WALL + 90, WALL + 60).silences == {}


def test_where_there_are_too_many_people_are_rather_woken() -> None:
    book = Book()
    for number in range(people.SILENCES_MAX):
        book = people.quieted(book, IncidentId(f"n1/inc-{number}"), "known", WALL, WALL + 60)
    full = people.quieted(book, IncidentId("n1/one-more"), "known", WALL, WALL + 60)
    assert full is book
    first = IncidentId("n1/inc-0")
    assert len(people.quieted(full, first, "", WALL, 0.0).silences) == people.SILENCES_MAX - 1
