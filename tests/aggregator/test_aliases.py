"""The alias of a model registry follows rollouts; a registry over HTTP that is well, ill, or somebody else's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gpuwarden.adapters.mlflow import PATH, Mlflow
from gpuwarden.aggregator.aliases import RETRY_S, Aliases, wanted_of
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.ramp import Ramp, Stage
from gpuwarden.sim.rollout.documents import MemoryDocuments
from gpuwarden.sim.rollout.good import PlayedClock

TOKEN = "a-secret-of-the-registry"


class Registry:
    """MLflow's REST API, as far as it is asked."""

    def __init__(self) -> None:
        self.aliases: dict[tuple[str, str], str] = {("risk-model", "champion"): "6"}
        self.seen: list[str] = []
        self.answer: tuple[int, bytes] | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = urlsplit(self.path)
                words = {k: v[0] for k, v in parse_qs(asked.query).items()}
                found = outer.aliases.get((words.get("name", ""), words.get("alias", "")))
                body = {"model_version": {"name": words.get("name"), "version": found}}
                self._end(
                    asked.path,
                    200 if found else 404,
                    body if found else {"error_code": "RESOURCE_DOES_NOT_EXIST"},
                )

            def do_POST(self) -> None:
                said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.aliases[said["name"], said["alias"]] = said["version"]
                self._end(self.path, 200, {})

            def _end(self, path: str, status: int, body: dict[str, Any]) -> None:
                outer.seen.append(f"{self.command} {path} {self.headers.get('Authorization', '')}")
                status, raw = outer.answer or (status, json.dumps(body).encode())
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                return

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()
    yield made
    made.close()


def mlflow(registry: Registry) -> Mlflow:
    return Mlflow(url=registry.url, token=lambda: TOKEN)


def ramp(stage: Stage, **rest: Any) -> Ramp:
    return Ramp(
        **{"id": "r1", "service": "risk", "version": "v7", "base": "v6", "stage": stage, **rest}
    )


class Bench:
    def __init__(self, registry: Registry) -> None:
        self.clock, self.ramps = PlayedClock(), [ramp(Stage.CLIMB)]
        self.aliases = Aliases(
            documents=MemoryDocuments(),
            registry=mlflow(registry),
            clock=self.clock,
            ramps=lambda: self.ramps,
            models={"risk": "risk-model"},
            alias="champion",
        )

    def look(self) -> None:
        self.clock.true_s += RETRY_S + 1
        self.aliases.look()

    def pointed(self) -> list[tuple[str, str]]:
        return [(each.version, each.by) for each in self.aliases.history("risk")]


def test_it_reads_and_writes_as_the_registry_speaks(registry: Registry) -> None:
    client = mlflow(registry)
    assert client.read("risk-model", "champion") == "6"
    assert client.read("risk-model", "nobody") is None
    client.write("risk-model", "champion", "7")
    assert registry.aliases["risk-model", "champion"] == "7"
    assert registry.seen[0] == f"GET {PATH} Bearer {TOKEN}"
    assert TOKEN not in repr(client)


def test_the_alias_follows_a_rollout_that_ended_and_what_it_was_is_kept(registry: Registry) -> None:
    bench = Bench(registry)
    bench.look()
    assert bench.pointed() == [("6", "somebody else")], "before its end it is only looked at"
    bench.ramps = [ramp(Stage.DONE)]
    bench.look()
    bench.look()
    assert registry.aliases["risk-model", "champion"] == "7"
    assert bench.pointed() == [("7", "rollout of v7"), ("6", "somebody else")]


def test_what_a_person_pointed_elsewhere_afterwards_stays_there(registry: Registry) -> None:
    bench = Bench(registry)
    bench.ramps = [ramp(Stage.DONE)]
    bench.look()
    registry.aliases["risk-model", "champion"] = "5"
    bench.look()
    bench.look()
    assert registry.aliases["risk-model", "champion"] == "5"
    assert bench.pointed()[0] == ("5", "somebody else")


def test_a_rollout_that_was_undone_leaves_the_alias_with_the_base(registry: Registry) -> None:
    registry.aliases["risk-model", "champion"] = "7"
    bench = Bench(registry)
    bench.ramps = [ramp(Stage.UNDONE)]
    bench.look()
    assert registry.aliases["risk-model", "champion"] == "6"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((500, b"<html>"), Unavailable),
        ((429, b"slow down"), Unavailable),
        ((200, b"<html>"), Unavailable),
        ((200, b"[]"), Unavailable),
        ((200, b'{"model_version": {"version": 7}}'), Unavailable),
        ((200, b'{"model_version": {"version": "7; rm"}}'), Unavailable),
        ((403, b"no"), Refused),
        ((302, b""), Refused),
    ],
)
def test_a_registry_that_is_ill_or_hostile(
    registry: Registry, answer: tuple[int, bytes], error: type[Exception]
) -> None:
    registry.answer = answer
    with pytest.raises(error) as raised:
        mlflow(registry).read("risk-model", "champion")
    assert TOKEN not in str(raised.value)
    bench = Bench(registry)
    bench.look()
    assert bench.aliases.failures == 1


def test_nobody_there_is_tried_again_later() -> None:
    with pytest.raises(Unavailable):
        Mlflow(url="http://127.0.0.1:1").read("m", "a")


def test_a_version_without_a_number_is_said_to_be_none() -> None:
    assert wanted_of(ramp(Stage.DONE, version="12")) == "12"
    assert wanted_of(ramp(Stage.CLIMB)) is None
    with pytest.raises(Refused, match="expected 7 or v7"):
        wanted_of(ramp(Stage.DONE, version="blue"))
