"""Profiles and drift against a real aggregator: what people push, see and are refused."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from click.testing import Result

from gpuwarden.adapters.pki.names import write_credentials
from gpuwarden.evaluate.drift import profile, profile_file
from gpuwarden.evaluate.drift.profile_file import ProfileFile
from gpuwarden.evaluate.fast import sketch
from gpuwarden.model.evaluation import Cohort, Window
from gpuwarden.model.fleet import Role
from gpuwarden.wire.v1 import drift_pb2 as pb
from gpuwarden.wire.v1.drift_pb2_grpc import DriftServiceStub
from tests.aggregator.centre import Centre
from tests.aggregator.pairs import eventually
from tests.aggregator.services_told import message
from tests.commands.cli_run import run

pytestmark = pytest.mark.timeout(120)
V1 = Cohort(service="scan", version="v1")


class Desk:
    def __init__(self, folder: Path, centre: Centre) -> None:
        self.folder, self.centre = folder, centre
        for role in (Role.VIEWER, Role.OPERATOR):
            write_credentials(folder / role.value, centre.credentials(role, f"a-{role.value}"))
        file = folder / "profile.json"
        values = np.random.default_rng(1).normal(0, 1, 5000)
        ref = {name: profile.of_numbers(values) for name in ("age", "dose")}
        file.write_text(profile_file.write(ProfileFile(rows=5000, features=ref)))
        self.file = str(file)

    def ask(self, *words: str, role: Role = Role.OPERATOR) -> Result:
        environ = {
            "GPUWARDEN_AGGREGATOR": self.centre.address,
            "GPUWARDEN_IDENTITY": str(self.folder / role.value),
        }
        return run(*words, width=140, env=environ)

    def profile(self, *words: str, role: Role = Role.OPERATOR) -> Result:
        return self.ask("model", "profile", *words, role=role)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = Path(tmp_path_factory.mktemp("desk"))
    with Centre(folder / "centre", drift={"rows": 200}) as centre:
        yield Desk(folder, centre)


def test_profiles_are_pushed_listed_and_dropped(desk: Desk) -> None:
    assert "there is no profile" in desk.profile("list", role=Role.VIEWER).output
    said = desk.profile("push", desk.file, "--service", "ocr", "--version", "v9")
    assert said.exit_code == 0, said.output
    assert "ocr: 2 features of 5000 rows, revision 1" in said.output
    desk.profile("push", desk.file, "--service", "ocr", "--version", "v9", "--segment", "old")
    rows = json.loads(desk.profile("list", "--json", role=Role.VIEWER).output)["profiles"]
    told = [(each["cohort"].get("segment"), each["features"]) for each in rows]
    assert told == [(None, 2), ("old", 2)]
    assert "a-operator" in desk.profile("list", "--service", "ocr").output
    where = ("--service", "ocr", "--version", "v9", "--segment", "old")
    assert desk.profile("drop", *where).exit_code == 0
    gone = desk.profile("drop", *where)
    assert gone.exit_code == 1
    assert "no profile of service ocr version v9 segment old" in gone.output
    drift = desk.ask("service", "drift", "ocr")
    assert drift.exit_code == 4
    assert "a profile, but no live data, of version v9" in drift.output
    lines = desk.centre.parts.store.audit_lines(0, 99)
    said_of = [(each.who, each.detail) for each in lines if each.what == "profile"]
    assert said_of[0] == ("a-operator", "service ocr version v9: 2 features")
    assert said_of[-1] == ("a-operator", "service ocr version v9 segment old: dropped")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{}", "features is missing"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 50_000, "nested too deeply"),
        (b'{"format": "gpuwarden-profile-1", "rows": NaN, "features": {}}', "NaN is no number"),
        (b" " * (4 * 2**20 + 1), "larger than"),
    ],
    ids=["no-format", "bytes", "deep", "nan", "large"],
)
def test_what_is_no_profile_is_refused(desk: Desk, content: bytes, says: str) -> None:
    file = desk.folder / "bad.json"
    file.write_bytes(content)
    said = desk.profile("push", str(file), "--service", "scan")
    assert said.exit_code != 0
    assert says in said.output


def test_a_viewer_looks_and_changes_nothing(desk: Desk) -> None:
    said = desk.profile("push", desk.file, "--service", "scan", role=Role.VIEWER)
    assert said.exit_code != 0
    assert "scan" not in desk.profile("list").output
    stub = DriftServiceStub(desk.centre.channel(desk.centre.credentials(Role.NODE, "n1")))
    with pytest.raises(grpc.RpcError) as refused:
        stub.ServiceDrift(pb.ServiceDriftRequest(service="scan"))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_names_that_are_none_are_refused(desk: Desk) -> None:
    for name in ("", "x" * 200, "a\nb"):
        said = desk.profile("push", desk.file, "--service", name)
        assert said.exit_code != 0
        assert "cohort.service" in said.output


def test_a_service_that_nobody_knows(desk: Desk) -> None:
    said = desk.ask("service", "drift", "nobody", role=Role.VIEWER)
    assert said.exit_code == 1
    assert "nothing was ever told" in said.output


def test_a_page_does_not_take_the_place_of_what_is_no_file(desk: Desk) -> None:
    said = desk.ask("service", "report", "scan", "--html", str(desk.folder))
    assert said.exit_code == 2, said.output
    nobody = desk.ask("service", "report", "nobody", "--html", str(desk.folder / "nobody.html"))
    assert nobody.exit_code == 1
    assert not (desk.folder / "nobody.html").exists()


def test_a_shift_of_live_data_is_shown(desk: Desk) -> None:
    desk.profile("push", desk.file, "--service", "scan", "--version", "v1")
    r = random.Random(1)
    line = desk.centre.line("n1")
    minute = time.time() // 60 * 60 - 300
    windows = []
    for k in range(6):
        features = {"feature.age": 1.0, "feature.dose": 0.0}
        told = Window(
            cohort=V1,
            begin_wall=minute + 10.0 * k,
            length_s=10.0,
            sketches={n: sketch.of(r.gauss(m, 1) for _ in range(50)) for n, m in features.items()},
        )
        windows.append(message(told, k + 1))
    line.batch(windows=windows)
    drifts = desk.centre.parts.evaluation.drifts

    def found() -> bool:
        drifts.wake()
        return "scan" in {cohort.service for cohort in drifts.view.verdicts}

    eventually(found, "what was told is judged")
    said = desk.ask("service", "drift", "scan", role=Role.VIEWER)
    assert said.exit_code == 1, said.output
    text = " ".join(said.output.split())
    assert "scan version v1: drift" in text
    assert "the data of version v1 drifted: age (mean" in text
    report = json.loads(desk.ask("service", "drift", "scan", "--json").output)["drift"]
    (verdict,) = report["reports"]
    rows = {each["feature"]: each for each in verdict["features"]}
    assert rows["age"]["state"] == "drift"
    assert rows["age"]["wasserstein_norm"] == pytest.approx(1.0, abs=0.2)
    assert rows["dose"]["state"] == "stable"
    assert "shape" not in rows["dose"]  # of what has drifted alone
    shape = rows["age"]["shape"]
    assert [len(shape["profile"]), len(shape["live"])] == [21, 21]
    assert shape["profile"][10] == pytest.approx(0.0, abs=0.1)
    assert shape["live"][10] == pytest.approx(1.0, abs=0.2)
    eventually(
        lambda: "data-drift" in desk.ask("service", "status", "scan").output, "the status says so"
    )
    claims = desk.centre.parts.fleet
    eventually(lambda: "drift scan" in [each.key for each in claims.view.claims], "people are told")
    page = desk.folder / "scan.html"
    said = desk.ask("service", "report", "scan", "--html", str(page), role=Role.VIEWER)
    assert said.exit_code == 1, said.output
    assert str(page) in said.output.replace("\n", "")
    text = page.read_text()
    assert "<b>age</b>: the profile beside the newest judged window" in text
    assert "the data of version v1 drifted: age (mean" in text
    assert text.count("<svg ") == 1
    line.close()
