"""The verbs of services against a real aggregator: what people see, and what a pipeline is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from gpuwarden.adapters.pki.names import write_credentials
from gpuwarden.model.evaluation import Cohort
from gpuwarden.model.fleet import Role
from tests.aggregator.centre import Centre
from tests.aggregator.pairs import eventually
from tests.aggregator.services_told import latencies, message, window
from tests.aggregator.test_evaluation_service import lately
from tests.commands.cli_run import run

pytestmark = pytest.mark.timeout(120)


class Desk:
    def __init__(self, folder: Path, centre: Centre) -> None:
        self.centre = centre
        self._folder = folder / "viewer"
        write_credentials(self._folder, centre.credentials(Role.VIEWER, "somebody"))

    def ask(self, *words: str, width: int = 140) -> Result:
        environ = {
            "GPUWARDEN_AGGREGATOR": self.centre.address,
            "GPUWARDEN_IDENTITY": str(self._folder),
        }
        return run("service", *words, width=width, env=environ)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = Path(tmp_path_factory.mktemp("desk"))
    with Centre(folder / "centre") as centre:
        made = Desk(folder, centre)
        lines = [centre.line(name) for name in ("n1", "n2")]
        for number, line in enumerate(lines):
            slow = latencies(2.0 if number else 0.05, 200, number)
            of_v2 = window(lately(), slow, Cohort(service="chat", version="v2"))
            of_v1 = window(lately(), latencies(0.05, 500, number))
            line.batch(windows=[message(of_v1, 1), message(of_v2, 2)])
        lines[0].batch(windows=[message(window(lately(), [0.1] * 150, Cohort(service="ocr")), 3)])
        view = centre.parts.evaluation.services
        eventually(lambda: {"chat", "ocr"} <= view.view.services.keys(), "both are known")
        eventually(lambda: view.view.services["chat"].colour.value == "red", "one is red")
        eventually(lambda: view.view.services["ocr"].colour.value == "green", "one is green")
        yield made
        for line in lines:
            line.close()


def test_all_services_in_a_table(desk: Desk) -> None:
    said = desk.ask("status")
    assert said.exit_code == 1, said.output
    head, chat, ocr = said.output.splitlines()[:1] + [
        next(line for line in said.output.splitlines() if line.startswith(name))
        for name in ("chat", "ocr")
    ]
    assert head.split()[:3] == ["SERVICE", "IS", "RED"]
    assert chat.split()[1] == "red"
    assert ocr.split()[1] == "green"
    narrowed = desk.ask("status", "--colour", "green", "--json")
    assert narrowed.exit_code == 0
    assert [each["service"] for each in json.loads(narrowed.output)["services"]] == ["ocr"]


def test_a_report_says_where_and_why(desk: Desk) -> None:
    said = desk.ask("report", "chat")
    assert said.exit_code == 1
    assert "chat is red for" in said.output
    text = " ".join(said.output.split())
    assert "latency-p99 v2 red" in text
    assert "worst n2" in text
    assert "GPU cause ruled out" in text
    report = json.loads(desk.ask("report", "chat", "--version", "v2", "--json").output)["report"]
    assert {each["verdict"]["cohort"]["version"] for each in report["verdicts"]} == {"v2"}


def test_a_gate_passes_fails_or_does_not_know(desk: Desk) -> None:
    assert desk.ask("gate", "ocr").exit_code == 0
    failed = desk.ask("gate", "chat", "--version", "v2")
    assert failed.exit_code == 1
    assert failed.output.startswith("chat v2: fail")
    assert desk.ask("gate", "chat", "--version", "v9").exit_code == 4
    unknown = desk.ask("gate", "nobody", "--json")
    assert unknown.exit_code == 4
    assert json.loads(unknown.output)["gate"]["result"] == "not-enough-data"
    assert desk.ask("gate", "ocr", "--min-requests", "1000").exit_code == 4


def test_what_is_not_there_is_said(desk: Desk) -> None:
    said = desk.ask("status", "nobody")
    assert said.exit_code == 1
    assert "nothing was ever told" in said.output
