"""Anomalies against a real aggregator: what people see of services and of GPUs."""

from __future__ import annotations

import asyncio
import json
import random
import time
import urllib.request
from collections.abc import Iterator
from math import sin, tau
from pathlib import Path

import grpc
import pytest
from click.testing import Result

from gpuwarden.adapters.pki.names import write_credentials
from gpuwarden.aggregator import anomaly_memories, anomaly_steps, device_readings
from gpuwarden.aggregator.documents import StoreDocuments
from gpuwarden.model.fleet import Role
from gpuwarden.policy.fleet.odd_history import History
from gpuwarden.policy.fleet.odd_peers import DeviceReading
from gpuwarden.wire.v1 import drift_pb2 as pb
from gpuwarden.wire.v1 import fleet_pb2
from gpuwarden.wire.v1 import node_pb2 as node
from gpuwarden.wire.v1.drift_pb2_grpc import DriftServiceStub
from tests.aggregator.centre import Centre, sample
from tests.aggregator.pairs import eventually
from tests.commands.cli_run import run

pytestmark = pytest.mark.timeout(120)
DAY = 96


class Desk:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with Centre(folder / "centre") as first:  # what an aggregator before this one has kept
            documents = StoreDocuments(first.parts.store, first.parts.committer)
            for service, days, slower in (("chat", 4, 3.0), ("ocr", 4, 1.0), ("new", 1, 1.0)):
                history = _days(days, slower)
                anomaly_memories.write(documents, service, history, time.time())
        self.centre = Centre(folder / "centre")

    def ask(self, *words: str, role: Role = Role.VIEWER) -> Result:
        environ = {
            "GPUWARDEN_AGGREGATOR": self.centre.address,
            "GPUWARDEN_IDENTITY": str(self.folder / role.value),
        }
        return run("service", "anomalies", *words, width=160, env=environ)


def _days(days: int, slower: float) -> History:
    """To the newest whole quarter, the last two of which are slower."""
    history, r = History(), random.Random(1)
    upto = anomaly_steps.newest_slot(time.time()) + 1
    for slot in range(upto - days * DAY - 1, upto):
        usual = 0.2 * (1 + 0.3 * sin(tau * slot / DAY)) * r.lognormvariate(0, 0.05)
        told = {
            "requests_per_s": 20.0 * r.lognormvariate(0, 0.05),
            "latency_p95_s": usual * (slower if slot >= upto - 2 else 1.0),
        }
        history.take(slot, told)
    return history


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(Path(tmp_path_factory.mktemp("desk")))
    with made.centre as centre:
        own = centre.credentials(Role.VIEWER, "a-viewer")
        write_credentials(made.folder / Role.VIEWER.value, own)
        anomalies = centre.parts.evaluation.anomalies
        anomalies.hear([])
        eventually(lambda: len(anomalies.view.services) == 3, "days are read and judged")
        yield made


def test_a_service_that_is_odd_is_shown_with_what_is_usual(desk: Desk) -> None:
    said = desk.ask("chat")
    assert said.exit_code == 1, said.output
    text = " ".join(said.output.split())
    assert "chat: " in text
    assert "odd" in text
    assert "latency_p95_s point" in text
    assert "latency (95th percentile)" in text
    assert "at this hour usually" in text
    (service,) = json.loads(desk.ask("chat", "--json").output)["anomalies"]["services"]
    (point,) = [each for each in service["findings"] if each["layer"] == "point"]
    assert point["value"] / point["usual"] == pytest.approx(3, rel=0.2)
    claims = desk.centre.parts.fleet
    eventually(
        lambda: "anomaly chat" in [each.key for each in claims.view.claims], "people are told"
    )


def test_others_are_as_usual_or_still_learnt(desk: Desk) -> None:
    said = desk.ask("ocr")
    assert (said.exit_code, said.output.strip()) == (0, "ocr: as on its 4 days before")
    said = desk.ask("new")
    assert (said.exit_code, said.output.strip()) == (4, "new: learning: 1 of 3 days")
    said = desk.ask("nobody")
    assert said.exit_code == 1
    assert "nothing was ever told of service 'nobody'" in said.output


def test_a_hot_gpu_is_shown_beside_its_peers(desk: Desk) -> None:
    assert "no GPU has enough peers" in desk.ask().output
    centre = desk.centre
    lines = [centre.line(f"n{n}") for n in range(3)]
    for n, line in enumerate(lines):
        line.batch(samples=[sample(devices=[_device(n, index) for index in range(2)])])
    anomalies, ingest = centre.parts.evaluation.anomalies, centre.parts.ingest
    loop = centre._loop
    assert loop is not None

    def read() -> list[DeviceReading]:
        return asyncio.run_coroutine_threadsafe(device_readings.every(ingest), loop).result(10)

    eventually(lambda: len(read()) == 6, "all have told of their GPUs")

    def is_told() -> bool:
        anomalies.hear(read())  # as each minute
        return bool(anomalies.view.devices)

    eventually(is_told, "they were compared often enough")
    said = desk.ask()
    assert said.exit_code == 1
    text = " ".join(said.output.split())
    assert "GPUs unlike their peers:" in text
    assert "n2 1 GPU-2-1 temperature_c" in text
    assert text.split("temperature_c")[1].split()[-3:] == ["91", "61", "5"]
    (odd,) = json.loads(desk.ask("--json").output)["anomalies"]["devices"]
    assert "node n2 GPU 1 (H100): temperature 91 C, 5 peers" in odd["summary"]
    counts = centre.parts.counters()
    assert (counts["anomaly_devices_odd"], counts["anomaly_devices_compared"]) == (1, 6)
    assert centre.parts.pages is not None
    url = f"http://127.0.0.1:{centre.parts.pages.port}/metrics"
    with urllib.request.urlopen(url, timeout=20) as answer:
        page = answer.read().decode()
    assert "gpuwarden_aggregator_anomaly_devices_odd 1" in page
    assert "gpuwarden_aggregator_anomaly_findings_begun_total" in page
    for line in lines:
        line.close()


def _device(n: int, index: int) -> fleet_pb2.DeviceSample:
    return fleet_pb2.DeviceSample(
        id=f"GPU-{n}-{index}",
        index=index,
        name="H100",
        sight=node.SIGHT_OK,
        total_bytes=2**36,
        utilization_ratio=0.95,
        temperature_c=91.0 if (n, index) == (2, 1) else 60.0 + n,
        power_w=600.0,
    )


def test_a_node_is_not_answered(desk: Desk) -> None:
    stub = DriftServiceStub(desk.centre.channel(desk.centre.credentials(Role.NODE, "n1")))
    with pytest.raises(grpc.RpcError) as refused:
        stub.Anomalies(pb.AnomaliesRequest())
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
