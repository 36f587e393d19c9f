"""What is different between two policies, setting by setting."""

from __future__ import annotations

import tomllib

from gpuwarden.policy.fleet.difference import changes, said

OLD = """
[quota]
soft_hold_s = "10s"
evict_high = false
[[tenant]]
match = { name = "a*" }
memory = "1GiB"
"""
NEW = """
[quota]
soft_hold_s = "20s"
[reserve]
bytes = "1GiB"
[[tenant]]
match = { name = "a*" }
memory = "2GiB"
"""


def shown(before: str, after: str) -> list[tuple[str, str, str]]:
    return [
        (c.path, c.before, c.after) for c in changes(tomllib.loads(before), tomllib.loads(after))
    ]


def test_each_setting_that_differs_is_named_once() -> None:
    assert shown(OLD, NEW) == [
        ("quota.evict_high", "false", ""),
        ("quota.soft_hold_s", '"10s"', '"20s"'),
        ("reserve.bytes", "", '"1GiB"'),
        ('tenant[1] {"name": "a*"}.memory', '"1GiB"', '"2GiB"'),
    ]


def test_the_same_is_no_difference() -> None:
    assert shown(OLD, OLD) == []
    assert shown("", "") == []


def test_the_order_of_entries_counts() -> None:
    one, two = '[[tenant]]\nmatch = {name = "a"}\n', '[[tenant]]\nmatch = {name = "b"}\n'
    assert shown(one + two, two + one)


def test_what_is_said_are_tables_and_values() -> None:
    assert said(tomllib.loads(NEW)) == {
        *("quota", "quota.soft_hold_s", "reserve", "reserve.bytes", "tenant"),
    }
