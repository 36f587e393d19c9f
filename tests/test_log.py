"""The log: one line an event whatever the values, and no tables in the daemon."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.log import ITEMS_MAX, VALUE_MAX_CHARS, configure_log, get_log
from gpuwarden.model.finding import Severity
from gpuwarden.model.snapshot import GapKind


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    yield
    configure_log("console")


def logged(form: Literal["console", "json"], event: str, **values: object) -> str:
    stream = io.StringIO()
    configure_log(form, stream=stream)
    get_log().warning(event, **values)
    return stream.getvalue()


def test_json_has_the_event_its_level_and_its_values() -> None:
    line = logged("json", "action_withheld", budget="one_per_device", used=7, part=0.5, who=None)
    said = json.loads(line)
    assert said.pop("timestamp").endswith("Z")
    assert said == {
        "event": "action_withheld",
        "level": "warning",
        "budget": "one_per_device",
        "used": 7,
        "part": 0.5,
        "who": None,
    }


def test_enums_are_words() -> None:
    said = json.loads(logged("json", "x", severity=Severity.ERROR, kind=GapKind.HUNG))
    assert (said["severity"], said["kind"]) == ("error", "hung")


@pytest.mark.parametrize("form", ["console", "json"])
def test_hostile_values_stay_on_one_line_and_bounded(form: Literal["console", "json"]) -> None:
    evil = "a\x1b[2J\r\nevent='forged'\u202e\udc80" + "x" * 10_000
    line = logged(
        form,
        "x",
        name=evil,
        names=[evil] * 1000,
        deep={evil: {evil: {evil: {evil: evil}}}},
        odd=object(),
    )
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert len(line) < (ITEMS_MAX + 20) * VALUE_MAX_CHARS * 2


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(lambda k: k != "event"),
                       st.recursive(st.none() | st.text() | st.floats() | st.binary(),
                                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                                    max_leaves=5), max_size=4))  # fmt: skip
def test_any_values_make_one_line(values: dict[str, object]) -> None:
    for form in ("console", "json"):
        line = logged(form, "something_happened", **values)
        assert line.count("\n") == 1
        assert line[:-1].isprintable()


def test_an_exception_is_one_line_too() -> None:
    stream = io.StringIO()
    configure_log("json", stream=stream)
    try:
        raise ZeroDivisionError("first\nsecond")
    except ZeroDivisionError:
        get_log().error("port_failed", exc_info=True)
    assert stream.getvalue().count("\n") == 1
    assert "ZeroDivisionError" in json.loads(stream.getvalue())["exception"]


def test_rich_stays_away_and_can_still_be_had() -> None:
    script = (
        "import sys, gpuwarden.log; print('rich' in sys.modules);"
        "import rich.table; print('rich' in sys.modules)"
    )
    asked = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert asked.stdout.split() == ["False", "True"]
