"""The example for nginx, in a real nginx: users are split as the shares say, each always to the same arm, and a change of
the shares is followed."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gpuwarden.adapters.router_text import nginx
from gpuwarden.clock import SystemClock
from gpuwarden.model.ramp import ArmShare, Shares

pytestmark = pytest.mark.nginx

EXAMPLE = Path(__file__).resolve().parents[2] / "packaging" / "router" / "nginx.conf"
USERS = 400
WAIT_S = 20.0
CLOCK = SystemClock()


class Arm(ThreadingHTTPServer):
    """What runs one version: it answers with its arm, as the router named it."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told = self.headers.get("X-Gpuwarden-Arm", "")
                body = f"{name} {told}".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def shares(new: float) -> str:
    return nginx(
        Shares(
            service="risk",
            arms=(
                ArmShare(arm="base", version="v1", share=1.0 - new),
                ArmShare(arm="new", version="v2", share=new),
            ),
        )
    )


class Router:
    """The example as it is, but for its addresses and folders."""

    def __init__(self, folder: Path, arms: dict[str, Arm]) -> None:
        folder.chmod(0o755)
        self.folder, self.port = folder, _free()
        text = EXAMPLE.read_text(encoding="utf-8")
        for old, new in (
            ("/etc/nginx/gpuwarden", str(folder)),
            ("/var/log/nginx", str(folder)),
            ("10.0.0.11:8000", f"127.0.0.1:{arms['base'].server_port}"),
            ("10.0.0.12:8000", f"127.0.0.1:{arms['new'].server_port}"),
            ("listen 8080", f"listen 127.0.0.1:{self.port}"),
        ):
            assert old in text, "the example says something else by now"
            text = text.replace(old, new)
        self.config = folder / "nginx.main"
        user = "user root;\n" if os.geteuid() == 0 else ""  # the folder is the test's own
        temp = "".join(
            f"    {kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = text.replace("http {\n", f"http {{\n{temp}", 1)
        self.config.write_text(f"{user}worker_processes 1;\npid {folder}/pid;\nevents {{}}\n{text}")
        self._process: subprocess.Popen[bytes] | None = None

    def tell(self, new: float) -> None:
        """As the example says: written beside it, moved into place."""
        fresh = self.folder / "risk.conf.new"
        fresh.write_text(shares(new))
        fresh.rename(self.folder / "risk.conf")

    def check(self) -> None:
        done = subprocess.run(
            [*self._words(), "-t"], capture_output=True, text=True, timeout=WAIT_S, check=False
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        self._process = subprocess.Popen([*self._words(), "-g", "daemon off;"])
        end = CLOCK.now() + WAIT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
            except OSError:
                assert self._process.poll() is None, (self.folder / "error").read_text()
                assert CLOCK.now() < end
                CLOCK.sleep(0.05)
            else:
                return

    def reload(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(WAIT_S)

    def _words(self) -> list[str]:
        return [
            "nginx",
            "-p",
            str(self.folder),
            "-e",
            str(self.folder / "error"),
            "-c",
            str(self.config),
        ]

    def ask(self, user: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            connection.request("GET", "/", headers={"Cookie": f"user={user}"})
            answer = connection.getresponse()
            assert answer.status == 200
            ran, _, told = answer.read().decode().partition(" ")
        finally:
            connection.close()
        assert ran == told, "the arm that it is told of is the one that runs"
        return ran

    def split(self) -> dict[str, str]:
        return {user: self.ask(user) for user in (f"user-{n}" for n in range(USERS))}


def _free() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return int(some.getsockname()[1])


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Router]:
    arms = {name: Arm(name) for name in ("base", "new")}
    made = Router(tmp_path, arms)
    yield made
    made.close()
    for arm in arms.values():
        arm.shutdown()
        arm.server_close()


def test_nginx_takes_the_example_and_splits_users_by_the_shares(router: Router) -> None:
    router.tell(0.2)
    router.check()
    router.start()
    first = router.split()
    # Of 400 users by hash 20 % are 80, give or take 8 (a standard deviation): four of them are far off.
    assert 48 <= Counter(first.values())["new"] <= 112
    assert router.split() == first, "a user stays where he is"
    router.tell(0.4)
    router.reload()
    end = CLOCK.now() + WAIT_S
    while (later := router.split()) == first:
        assert CLOCK.now() < end, "the new shares are not followed"
    assert 121 <= Counter(later.values())["new"] <= 199
    assert (router.folder / "arms.log").read_text().split("\n")[0].split()[1] in ("base", "new")


def test_an_arm_with_nothing_gets_nobody(router: Router) -> None:
    router.tell(0.0)
    router.start()
    assert set(router.split().values()) == {"base"}
