"""Predictions from a node's stream to people and back, against a real aggregator: each counts once, hostile lines
cost themselves."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from gpuwarden.adapters.pki.names import write_credentials
from gpuwarden.evaluate.fast import sketch
from gpuwarden.model.fleet import Role
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from tests.aggregator.centre import Centre, Line
from tests.aggregator.pairs import eventually
from tests.aggregator.services_told import message, window
from tests.aggregator.test_evaluation_service import lately
from tests.commands.cli_run import run

pytestmark = pytest.mark.timeout(120)


class Desk:
    def __init__(self, folder: Path, centre: Centre) -> None:
        self.centre = centre
        self.folder = folder
        for role in (Role.VIEWER, Role.OPERATOR):
            write_credentials(folder / role.value, centre.credentials(role, f"a-{role.value}"))
        self.line: Line = centre.line("n1")
        self.line.batch(windows=[message(window(lately(), [0.1] * 150), 1)])
        self.sequence = 0

    def ask(self, *words: str, role: Role = Role.OPERATOR) -> Result:
        environ = {
            "GPUWARDEN_AGGREGATOR": self.centre.address,
            "GPUWARDEN_IDENTITY": str(self.folder / role.value),
        }
        return run("service", "review", *words, env=environ)

    def tell(self, *names: str, **more: Any) -> None:
        """Items of the node, committed."""
        items = []
        for name in names:
            self.sequence += 1
            values = {"prediction": "1", "wall": time.time(), "confidence": 0.3, **more}
            segment = values.pop("segment", "old")
            cohort = pb.Cohort(service="chat", version="v1", segment=segment)
            item = pb.ReviewItem(
                sequence=self.sequence, cohort=cohort, prediction_id=name, **values
            )
            items.append(item)
        self.line.batch(reviews=items)
        while self.line.reviews_upto < self.sequence:
            self.line.next()

    def filled(self, *lines: dict[str, Any] | str) -> str:
        file = self.folder / "filled.jsonl"
        file.write_text(
            "".join((e if isinstance(e, str) else json.dumps(e)) + "\n" for e in lines),
            encoding="utf-8",
            errors="surrogatepass",
        )
        return str(file)

    def counts(self, *names: str) -> dict[str, float]:
        picture = self.centre.parts.evaluation.services.picture
        found = dict.fromkeys(names, 0.0)
        for each in picture.over(picture.cohorts(), 0.0):
            for name in names:
                found[name] += each.counts.get(name, 0.0)
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Centre(tmp_path / "centre") as centre:
        made = Desk(tmp_path, centre)
        yield made
        made.line.close()


def said(name: str, label: str, reviewer: str = "ann", **more: Any) -> dict[str, Any]:
    return {"service": "chat", "id": name, "label": label, "reviewer": reviewer, **more}


def test_from_a_node_to_people_and_back_into_the_accuracy(desk: Desk) -> None:
    desk.tell("a", "b", is_random=True, payload="scan/1")
    desk.tell("c", is_random=False)
    desk.tell("rare", segment="new")
    done = desk.ask("export", "chat")
    lines = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
    assert {each["id"] for each in lines} == {"a", "b", "c", "rare"}
    assert next(each for each in lines if each["id"] == "a")["input"] == "scan/1"
    assert "4 of 4 that wait" in done.output
    of_new = desk.ask("export", "chat", "--segment", "new", "--limit", "1").output
    assert '"id": "rare"' in of_new
    for each in lines:
        each["label"], each["reviewer"] = ("0" if each["id"] in "ac" else "1"), "ann"
    answer = json.loads(desk.ask("import", desk.filled(*lines), "--json").output)
    old = next(each for each in answer["segments"] if each["segment"] == "old")
    assert (answer["corrections"], old["decided"], old["right"], old["counted"]) == (4, 3, 1, 2)
    names = ("labels", "correct", "custom.reviewed", "custom.reviewed_right")
    eventually(lambda: desk.counts(*names)["custom.reviewed"] == 2, "they are counted")
    assert list(desk.counts(*names).values()) == [2, 1, 2, 1]
    again = desk.ask("import", desk.filled(*lines), "--json")
    assert again.exit_code == 1
    assert json.loads(again.output)["faults"] == [[n, "repeated"] for n in range(1, 5)]
    assert list(desk.counts(*names).values()) == [2, 1, 2, 1]
    assert "0 of 0 that wait" in desk.ask("export", "chat").output


def test_scores_in_lines_count_once_with_the_word_that_decides_and_not_of_doubtful_ones(
    desk: Desk,
) -> None:
    desk.tell("a", is_random=True)
    desk.tell("c", is_random=False)
    lines = [
        said("a", "1", "ann", score=4),
        said("a", "1", "bea", score=3),
        said("c", "1", score=1),
    ]
    for _ in range(2):
        desk.ask("import", desk.filled(*lines), "--json")
    desk.ask("import", desk.filled(said("a", "1", "joe", score=1)), "--json")
    eventually(lambda: desk.counts("labels", "custom.reviewed")["labels"] == 1, "it is counted")
    picture = desk.centre.parts.evaluation.services.picture
    windows = picture.over(picture.cohorts(), 0.0)
    told = [each.sketches["score"] for each in windows if "score" in each.sketches]
    assert [(sketch.count(each), each.total) for each in told] == [(1, 3.5)]


def test_experts_who_disagree_are_put_to_the_vote(desk: Desk) -> None:
    desk.tell("a", "b", is_random=True)
    level = [said("a", "1", "ann"), said("a", "0", "bea"), said("b", "0", "ann")]
    first = json.loads(desk.ask("import", desk.filled(*level), "--json").output)
    (old,) = first["segments"]
    assert (old["decided"], old["undecided"]) == (1, 1)
    assert '"id": "a"' in desk.ask("export", "chat").output
    more = [said("a", "0", "joe"), said("b", "0", "bea")]
    (old,) = json.loads(desk.ask("import", desk.filled(*more), "--json").output)["segments"]
    assert (old["decided"], old["right"], old["gold"]) == (1, 0, 1)
    late = [said("b", "1", "kim"), said("b", "0", "liv")]
    (old,) = json.loads(desk.ask("import", desk.filled(*late), "--json").output)["segments"]
    assert (old["decided"], old["gold_answers"], old["gold_right"]) == (0, 2, 1)


def test_lines_that_do_not_count_are_named_and_cost_no_other(desk: Desk) -> None:
    desk.tell("a", "b")
    lines = desk.filled(
        "\ufeff" + json.dumps(said("a", "1")),
        "hello",
        "[1]",
        said("nobody", "1"),
        {"id": "a", "label": "1", "reviewer": "ann"},
        said("b", "2"),
        said("b", "0", ""),
        {**said("b", "0"), "label": None, "reviewer": None},
        said("b", "0", "bea"),
        said("b", "1", "bea"),
        '{"service": "chat", "id": "b", "label": "0", "reviewer": "' + "x" * 300_000,
    )
    done = desk.ask("import", lines, "--label", "0", "--label", "1", "--json")
    answer = json.loads(done.output)
    assert done.exit_code == 1
    assert answer["faults"] == [
        [2, "not-json"],
        [3, "not-an-object"],
        [4, "unknown-id"],
        [5, "unknown-id"],
        [6, "unknown-label"],
        [7, "no-reviewer"],
        [9, "contradictory"],
        [10, "contradictory"],
        [11, "not-json"],
    ]
    assert (answer["corrections"], answer["unlabelled"]) == (1, 1)


def test_a_dry_run_keeps_nothing(desk: Desk) -> None:
    desk.tell("a", is_random=True)
    done = desk.ask("import", desk.filled(said("a", "0")), "--dry-run")
    assert "1 corrections" in done.output
    assert "1 of 1 that wait" in desk.ask("export", "chat").output
    assert desk.counts("labels") == {"labels": 0.0}


def test_only_operators_and_each_time_in_the_audit(desk: Desk) -> None:
    desk.tell("a")
    assert desk.ask("export", "chat", role=Role.VIEWER).exit_code != 0
    assert desk.ask("import", desk.filled(said("a", "0")), role=Role.VIEWER).exit_code != 0
    desk.ask("export", "chat")
    desk.ask("import", desk.filled(said("a", "0")))
    lines = desk.centre.parts.store.audit_lines(0, 100)
    told = [(each.who, each.what) for each in lines if each.what.startswith("review")]
    assert told == [("a-operator", "review export"), ("a-operator", "review import")]


def test_hostile_items_end_no_stream_and_are_let_go_of(desk: Desk) -> None:
    bad: list[dict[str, Any]] = [
        {"prediction_id": ""},
        {"prediction_id": "a\x00b"},
        {"prediction_id": "x" * 1000},
        {"prediction_id": "a", "wall": float("nan")},
        {"prediction_id": "a", "confidence": float("inf")},
        {"prediction_id": "a", "probabilities": [0.1] * 1000},
        {"prediction_id": "a", "payload": "p" * 5000},
        {"prediction_id": "a", "cohort": pb.Cohort()},
    ]
    cohort = pb.Cohort(service="chat")
    items = [
        pb.ReviewItem(**{"cohort": cohort, "wall": time.time(), "sequence": n, **each})
        for n, each in enumerate(bad, 1)
    ]
    desk.sequence = len(bad)
    desk.line.batch(reviews=items)
    desk.tell("good")
    assert desk.centre.parts.counters()["reviews_refused"] == len(bad)
    assert desk.centre.parts.counters()["reviews_taken"] == 1


def test_they_outlive_the_aggregator(tmp_path: Path) -> None:
    with Centre(tmp_path / "centre") as centre:
        first = Desk(tmp_path, centre)
        first.tell("a", "b", is_random=True)
        first.ask("import", first.filled(said("a", "0")))
        first.line.close()
    with Centre(tmp_path / "centre") as centre:
        second = Desk(tmp_path, centre)
        assert '"id": "b"' in second.ask("export", "chat").output
        again = second.ask("import", second.filled(said("a", "0"), said("a", "1", "bea")), "--json")
        assert json.loads(again.output)["faults"] == [[1, "repeated"]]
        assert second.counts("labels")["labels"] <= 1
        second.line.close()
