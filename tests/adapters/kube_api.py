"""A small Kubernetes API over TLS that has one node, and takes only what the published OpenAPI allows.

It stands in where no kube-apiserver is: versions, merge patches, the status behind a path of its own and the
record of who owns ``spec.unschedulable`` are as the API documents them; nothing else is.
"""

from __future__ import annotations

import copy
import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PUBLISHED = json.loads(
    (Path(__file__).parents[1] / "data" / "kubernetes_node.json").read_text(encoding="utf-8")
)
NODE = "io.k8s.api.core.v1.Node"
TYPES = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
TOKEN = "a-token-of-the-agent"


def faults_of(value: Any, schema: dict[str, Any], place: str = "") -> Iterator[str]:
    """What the published schema has against a value; null takes a field away in a patch."""
    if value is None:
        return
    if "$ref" in schema:
        yield from faults_of(value, PUBLISHED["definitions"][schema["$ref"]], place)
        return
    kind = TYPES.get(schema.get("type", ""))
    if kind is not None and not isinstance(value, kind):
        yield f"{place}: expected {schema['type']}"
        return
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from faults_of(item, schema["items"], f"{place}[{number}]")
    elif isinstance(value, dict) and "properties" in schema:
        yield from (f"{place}.{k}: unknown" for k in value if k not in schema["properties"])
        if place.endswith("]"):  # an entry of a list is given whole
            yield from (
                f"{place}.{k}: missing" for k in schema.get("required", ()) if k not in value
            )
        for key, item in value.items():
            if key in schema["properties"]:
                yield from faults_of(item, schema["properties"][key], f"{place}.{key}")
    elif isinstance(value, dict) and "additionalProperties" in schema:
        for key, item in value.items():
            yield from faults_of(item, schema["additionalProperties"], f"{place}.{key}")


class KubeApi:
    """One node. ``meanwhile`` is called once after the next read: what others do in between."""

    def __init__(self) -> None:
        self.node: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "gpu-07", "resourceVersion": "1", "annotations": {}},
            "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
        self.faults: list[str] = []
        self.writes = 0
        self.meanwhile: Callable[[], None] | None = None
        self.lock = threading.RLock()

    # --- what others do, and see ---

    def kubectl_cordon(self, value: bool) -> None:
        with self.lock:
            self._own("kubectl-cordon")
            self.node["spec"]["unschedulable"] = value
            self._written()

    def change(self, change: Callable[[dict[str, Any]], None]) -> None:
        with self.lock:
            change(self.node)
            self._written()

    @property
    def is_closed(self) -> bool:
        return self.node["spec"].get("unschedulable") is True

    @property
    def taints(self) -> list[str]:
        return [taint["key"] for taint in self.node["spec"].get("taints", [])]

    @property
    def condition(self) -> tuple[str, str]:
        rows = self.node["status"]["conditions"]
        found = [c for c in rows if c["type"] == "GpuwardenCordoned"]
        return (found[0]["status"], found[0]["message"]) if found else ("", "")

    # --- the API ---

    def get(self) -> dict[str, Any]:
        with self.lock:
            seen = copy.deepcopy(self.node)
            meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return seen

    def patch(self, path: str, query: dict[str, list[str]], kind: str, body: Any) -> int:
        rule = PUBLISHED["paths"][path]["patch"]
        self.faults += [f"query {word}" for word in query if word not in rule["query"]]
        self.faults += list(faults_of(body, {"$ref": NODE}))
        if kind not in rule["consumes"]:
            return 415
        with self.lock:
            version = body.get("metadata", {}).get("resourceVersion")
            if version is not None and version != self.node["metadata"]["resourceVersion"]:
                return 409
            before = self.is_closed
            if path.endswith("/status"):
                for row in body["status"]["conditions"]:
                    rows = self.node["status"]["conditions"]
                    rows[:] = [c for c in rows if c["type"] != row["type"]] + [row]
            else:
                _merge(self.node, {k: v for k, v in body.items() if k != "status"})
            if self.is_closed != before:
                self._own(query["fieldManager"][0])
            self.writes += 1
            self._written()
        return 200

    def _own(self, manager: str) -> None:
        self.node["metadata"]["managedFields"] = [
            {"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {}}},
            {
                "manager": manager,
                "operation": "Update",
                "fieldsV1": {"f:spec": {"f:unschedulable": {}}},
            },
        ]

    def _written(self) -> None:
        metadata = self.node["metadata"]
        metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)


def _merge(into: dict[str, Any], patch: dict[str, Any]) -> None:
    """RFC 7396."""
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


@contextmanager
def served(api: KubeApi, folder: Path) -> Iterator[str]:
    """Its address; the authority lies in ``folder/ca.crt``."""
    certificate, key = folder / "ca.crt", folder / "server.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *(
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=kube",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
            ),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0

        def setup(self) -> None:
            """Shakes hands on the connection's own thread: a client that is slow delays nobody."""
            self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

        def finish(self) -> None:
            super().finish()
            self.request.close()

        def do_GET(self) -> None:
            self._answer(200 if self._is_known() else 404)

        def do_PATCH(self) -> None:
            url = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            path = url.path.replace("gpu-07", "{name}")
            kind = self.headers["Content-Type"]
            self._answer(api.patch(path, parse_qs(url.query), kind, json.loads(raw)))

        def _is_known(self) -> bool:
            return self.path == "/api/v1/nodes/gpu-07"

        def _answer(self, status: int) -> None:
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                status = 401
            good = api.get() if self.command == "GET" else api.node
            body = good if status == 200 else {"kind": "Status", "message": f"no: {status}"}
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
