"""The watch over services, on real sockets: pages, silence, drips, floods, and nobody waits for anybody."""

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from gpuwarden.adapters.services import ServiceWatch
from gpuwarden.clock import SystemClock
from gpuwarden.config_services import ServiceConfig
from gpuwarden.model.ids import TenantId
from gpuwarden.model.snapshot import Health, ServiceState

DEADLINE_S = 20.0
CLOCK = SystemClock()
Answer = Callable[[socket.socket, int], None]


class Service:
    """A service whose finished requests grow by ten each time it is asked."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer = answer or self.page
        self.asked = 0
        self.latency_s = 0.05
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/metrics?a=b"

    def page(self, side: socket.socket, asked: int) -> None:
        count = asked * 10
        fast = count if self.latency_s <= 0.1 else 0
        lines = f'h_bucket{{le="0.1"}} {fast}\nh_bucket{{le="1"}} {count}\nh_bucket{{le="+Inf"}} {count}\n'
        self.send(side, lines)

    def send(self, side: socket.socket, body: str, head: str = "HTTP/1.1 200 OK") -> None:
        side.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    def _serve(self) -> None:
        while not self._stopping:
            try:
                side, _ = self._listener.accept()
            except OSError:
                return
            self.asked += 1
            with side, contextlib.suppress(OSError):
                if not (asked := side.recv(4096)):
                    continue  # it has waited long enough and hung up
                assert asked.startswith(b"GET /metrics?a=b HTTP/1.0\r\n")
                self.answer(side, self.asked)

    def close(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(DEADLINE_S)


@contextlib.contextmanager
def watching(*services: Service, every_s: float = 0.05) -> Iterator[ServiceWatch]:
    configs = [
        ServiceConfig(
            name=f"s{number}",
            url=service.url,
            histogram="h",
            every_s=every_s,
            p99_max_s=0.2,
            window_s=0.3,
            enter_s=0.1,
            leave_s=0.1,
        )
        for number, service in enumerate(services)
    ]
    watch = ServiceWatch(configs, CLOCK)
    try:
        yield watch
    finally:
        watch.close()
        for service in services:
            service.close()


def until(watch: ServiceWatch, number: int, health: Health) -> ServiceState:
    """The state once a service has that health; waits on the watch's own wake-up."""
    give_up_at = CLOCK.now() + DEADLINE_S
    while CLOCK.now() < give_up_at:
        state = watch.states(CLOCK.now())[number]
        if state.health is health:
            return state
        select.select(watch.filenos(), [], [], 0.1)
    raise AssertionError(f"never {health}: {watch.states(CLOCK.now())}")


def test_green_red_green_by_what_it_tells() -> None:
    service = Service()
    with watching(service) as watch:
        watch.watch({TenantId("docker:x"): "s0"})
        green = until(watch, 0, Health.GREEN)
        assert green.p99_s == pytest.approx(0.1, abs=0.02)
        assert (green.limit_s, green.tenant) == (0.2, "docker:x")
        service.latency_s = 0.9
        red = until(watch, 0, Health.RED)
        assert red.p99_s is not None
        assert red.p99_s > 0.2
        assert red.since > green.since


def test_who_cannot_be_reached_is_unknown_never_green() -> None:
    service = Service()
    with watching(service) as watch:
        until(watch, 0, Health.GREEN)
        service.close()
        until(watch, 0, Health.UNKNOWN)
        assert watch.failures > 0


def silent(side: socket.socket, asked: int) -> None:
    side.recv(1)  # until the other side gives up


def drip(side: socket.socket, asked: int) -> None:
    gone = threading.Event()
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 10_000:
        side.sendall(bytes([byte]))
        gone.wait(0.02)


def flood(side: socket.socket, asked: int) -> None:
    side.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        side.sendall(b"h_total 1\n" * 10_000)


def headless(side: socket.socket, asked: int) -> None:
    while True:
        side.sendall(b"x" * 10_000)


@pytest.mark.parametrize("ill", [silent, drip, flood, headless], ids=lambda each: each.__name__)
def test_an_ill_service_makes_nobody_else_late(ill: Answer) -> None:
    bad, good = Service(ill), Service()
    with watching(bad, good) as watch:
        until(watch, 1, Health.GREEN)
        asked = good.asked
        pause = threading.Event()
        while bad.asked < 2 or good.asked < asked + 5:
            pause.wait(0.02)
        assert watch.states(CLOCK.now())[0].health is Health.UNKNOWN


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\xff\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nno histogram here 1\n",
        b'HTTP/1.1 200 OK\r\n\r\nh_bucket{le="',
    ],
)
def test_what_is_no_page_is_unknown_and_the_watch_lives_on(answer: bytes) -> None:
    service = Service(lambda side, asked: side.sendall(answer))
    with watching(service) as watch:
        pause = threading.Event()
        while watch.failures < 2:
            pause.wait(0.01)
        assert watch.states(CLOCK.now())[0].health is Health.UNKNOWN
        service.answer = service.page
        until(watch, 0, Health.GREEN)


def test_a_verdict_without_new_readings_is_no_verdict() -> None:
    service = Service()
    with watching(service, every_s=30.0) as watch:
        pause = threading.Event()
        while watch.states(CLOCK.now())[0].at is None:
            pause.wait(0.01)
        later = CLOCK.now() + 60
        assert watch.states(later)[0].health is Health.UNKNOWN
        assert watch.states(later)[0].p99_s is None


def test_without_services_there_is_no_thread() -> None:
    before = threading.active_count()
    watch = ServiceWatch((), CLOCK)
    assert threading.active_count() == before
    assert list(watch.states(0.0)) == []
    watch.close()
