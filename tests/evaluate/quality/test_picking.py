"""What a node keeps for people: so many a minute, by chance and for doubt, the rare segments too."""

from __future__ import annotations

from gpuwarden.evaluate.quality.picking import KEPT, Picker, Raise
from gpuwarden.evaluate.quality.sampling import Prediction


def told(name: str, confidence: float | None = 0.99, segment: str = "common") -> Prediction:
    return Prediction(id=name, service="chat", segment=segment, label="1", confidence=confidence)


def picker(per_minute: float = 6.0) -> Picker:
    return Picker(per_minute, below=0.5, salt="s", at=0.0)


def looked(made: Picker, many: int, seed: int = 0, raises: tuple[Raise, ...] = ()) -> None:
    for number in range(many):
        made.look(told(f"{seed}-{number}", 0.99), raises)


def test_half_by_chance_and_half_for_doubt_the_most_doubtful_first() -> None:
    made = picker()
    looked(made, 500)
    for number in range(50):
        made.look(told(f"d{number}", number / 100))
    found = made.take(60.0)
    by_chance = [each for each in found if each.is_random]
    assert (len(found), len(by_chance)) == (6, 3)
    assert [each.id for each in found if not each.is_random] == ["d0", "d1", "d2"]


def test_by_chance_is_the_same_chance_for_each() -> None:
    """Of 20 predictions one is taken 2,000 times: each 100 times, within 5 standard errors."""
    counts = dict.fromkeys(range(20), 0)
    for turn in range(2000):
        made = Picker(2.0, below=0.5, salt=str(turn), at=0.0)
        for number in counts:
            made.look(told(str(number)))
        (one,) = made.take(60.0)
        counts[int(one.id)] += 1
    assert max(abs(count - 100) for count in counts.values()) < 5 * 9.75


def test_a_rare_segment_is_kept() -> None:
    made = picker(4.0)
    looked(made, 1000)
    made.look(told("rare", 0.9, "old-scanner"))
    assert "rare" in {each.id for each in made.take(60.0)}


def test_what_is_not_used_lasts_a_minute_and_no_more() -> None:
    made = picker()
    assert made.take(3600.0) == []
    looked(made, 100)
    assert len(made.take(3600.0)) == 3  # of doubt there is none
    looked(made, 100, 1)
    assert made.take(3600.5) == []
    looked(made, 100, 2)
    assert len(made.take(3620.5)) == 1


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    made = picker()
    looked(made, 10)
    assert made.take(-5.0) == []


def test_a_raised_segment_gets_more_and_its_sure_ones_too() -> None:
    raised = (Raise(service="chat", segment="old", times=4.0, until=1e9),)
    made = picker()
    for number in range(200):
        made.look(told(f"c{number}"), raised)
        made.look(told(f"o{number}", 0.999, "old"), raised)
    found = made.take(60.0, raised)
    old = [each for each in found if each.segment == "old"]
    assert len(old) >= 18
    assert sum(each.is_random for each in old) >= 18
    assert len({each.id for each in found}) == len(found)


def test_memory_is_bounded_whatever_comes() -> None:
    made = picker(6000.0)
    looked(made, 5000)
    assert len(made.take(60.0)) == KEPT
    for number in range(3000):
        made.look(told(f"s{number}", 0.1, f"segment-{number}"))
    assert len(made.take(120.0)) <= 6000
