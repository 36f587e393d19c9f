"""docker-py behind one door: a deadline for the whole call and a bound on the reply.

docker-py's own timeout counts from byte to byte, so a daemon that drips can hold a caller for ever,
and a reply is read whole whatever its size. Here the socket itself keeps the account of a call.
docker-py is imported when the first call is made: a node without Docker does not pay for it.
"""

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Refused, Unavailable, Unsupported

Client = Any
"""A ``docker.APIClient``: its published types deny calls that Docker's API and docker-py allow."""
MAX_REPLY_BYTES = 2 * 1024 * 1024
"""An inspect is about 10 KiB, a list of 500 containers about 1 MiB."""
_OLDEST_API = "1.24"
_VERSION = re.compile(r"1\.[0-9]{1,4}\Z", re.ASCII)


class Budget:
    """What one call may still take, in time and bytes. One thread uses it; any may ``abort`` it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = 0.0
        self._left_bytes = 0
        self._is_aborted = False
        self._sockets: list[socket.socket] = []

    def begin(self, seconds: float, max_bytes: int = MAX_REPLY_BYTES) -> None:
        self._until = self._clock.now() + seconds
        self._left_bytes = max_bytes

    def left_s(self) -> float:
        """Seconds left; ``TimeoutError`` when there are none."""
        left = self._until - self._clock.now()
        if left <= 0 or self._is_aborted:
            raise TimeoutError("the call's time is up")
        return left

    def spend(self, size: int) -> None:
        self._left_bytes -= size
        if self._left_bytes < 0:
            raise OSError("the reply is larger than any that Docker would send")

    def holds(self, sock: socket.socket) -> None:
        self._sockets = [one for one in self._sockets if one.fileno() >= 0]
        self._sockets.append(sock)

    def release(self) -> None:
        """Close every connection made under this budget."""
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            # close() would wait for readers that an unfinished reply leaves behind
            fd = sock.detach()
            if fd >= 0:
                os.close(fd)

    def abort(self) -> None:
        """Wake whoever waits in a read; the budget gives nothing any more."""
        self._is_aborted = True
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _MeteredSocket(socket.socket):
    """A unix socket whose reads and writes are taken from a budget."""

    budget: Budget

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(self.budget.left_s())
        size = super().recv_into(*args, **kwargs)
        self.budget.spend(size)
        return size

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(self.budget.left_s())
        super().sendall(*args, **kwargs)


class DockerDoor:
    """Calls to the Docker daemon at ``host`` (``unix:///...``), one docker-py client a thread."""

    def __init__(self, host: str, timeout_s: float, clock: Clock) -> None:
        self._host = host
        self._timeout_s = timeout_s
        self._clock = clock
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._clients: list[tuple[Client, Budget]] = []

    @property
    def timeout_s(self) -> float:
        return self._timeout_s

    @property
    def socket_path(self) -> str:
        return self._host.removeprefix("unix://")

    def is_there(self) -> bool:
        """Whether there is a socket at all; costs one stat."""
        return os.path.exists(self.socket_path)

    @contextmanager
    def call(self, extra_s: float = 0.0) -> Iterator[Client]:
        """A client for everything that has to fit into ``timeout_s`` (+ ``extra_s``) seconds together.

        ``Refused``: no such container. ``Unsupported``: no permission. Else ``Unavailable``.
        """
        budget = Budget(self._clock)
        budget.begin(self._timeout_s + extra_s)
        try:
            with translated(self._host):
                known: tuple[Client, Budget] | None = getattr(self._mine, "client", None)
                if known is None:
                    client = connect(self._host, self._timeout_s, budget)
                    self._mine.client = (client, budget)
                    with self._lock:
                        self._clients.append((client, budget))
                else:
                    client, budget = known
                    budget.begin(self._timeout_s + extra_s)
                yield client
        except Unavailable:
            self._forget()
            raise

    def close(self) -> None:
        """Close the clients of all threads; a later call makes a new one."""
        with self._lock:
            clients, self._clients = self._clients, []
        for client, budget in clients:
            client.close()
            budget.release()
        self._mine = threading.local()

    def _forget(self) -> None:
        known: tuple[Client, Budget] | None = getattr(self._mine, "client", None)
        if known is not None:
            client, budget = known
            client.close()
            budget.release()
            self._mine.client = None
            with self._lock:
                self._clients = [one for one in self._clients if one[0] is not client]


def connect(host: str, timeout_s: float, budget: Budget) -> Client:
    """A client of the newest API version both sides know; its replies count against ``budget``."""
    from docker.constants import DEFAULT_DOCKER_API_VERSION
    from docker.utils import version_lt

    if not os.path.exists(host.removeprefix("unix://")):
        raise Unavailable(f"no Docker daemon at {host}")
    client = _client(host, timeout_s, _OLDEST_API, budget)
    try:
        server = client.version(api_version=False).get("ApiVersion")
    finally:
        client.close()
        budget.release()
    if not isinstance(server, str) or not _VERSION.match(server):
        raise Unavailable(f"Docker at {host} does not tell its API version")
    version = (
        server if version_lt(server, DEFAULT_DOCKER_API_VERSION) else DEFAULT_DOCKER_API_VERSION
    )
    return _client(host, timeout_s, version, budget)


def _client(host: str, timeout_s: float, version: str, budget: Budget) -> Client:
    from docker import APIClient
    from docker.transport.unixconn import (
        UnixHTTPAdapter,
        UnixHTTPConnection,
        UnixHTTPConnectionPool,
    )

    seconds: Any = timeout_s  # the published types want whole ones

    class Connection(UnixHTTPConnection):
        def connect(self) -> None:
            left_s = budget.left_s()
            sock = _MeteredSocket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            sock.budget = budget
            sock.settimeout(left_s)
            budget.holds(sock)
            sock.connect(self.unix_socket)
            self.sock = sock

    class Pool(UnixHTTPConnectionPool):
        def _new_conn(self) -> Any:
            return Connection(self.base_url, self.socket_path, seconds)

    class Adapter(UnixHTTPAdapter):
        def build_response(self, req: Any, resp: Any) -> Any:
            # a small compressed reply must not become a large one
            resp.headers.pop("content-encoding", None)
            return super().build_response(req, resp)

        def get_connection(self, url: Any, proxies: Any = None) -> Pool:
            with self.pools.lock:
                pool: Pool | None = self.pools.get(url)
                if pool is None:
                    pool = self.pools[url] = Pool(url, self.socket_path, seconds, maxsize=1)
                return pool

    client = APIClient(base_url=host, version=version, timeout=seconds)
    client.trust_env = False
    client.max_redirects = 0
    client.headers["Accept-Encoding"] = "identity"
    client.mount("http+docker://", Adapter(host.replace("unix://", "http+unix://"), seconds))
    return client


@contextmanager
def translated(host: str) -> Iterator[None]:
    """Whatever docker-py, requests, urllib3 or a garbled reply raise becomes one of our errors."""
    from docker.errors import APIError, DockerException, NotFound
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except GpuwardenError:
        raise
    except NotFound as error:
        raise Refused(f"Docker does not know it: {_line(error.explanation or error)}") from error
    except APIError as error:
        raise Unavailable(f"Docker says: {_line(error.explanation or error)}") from error
    except (DockerException, RequestException, HTTPError, OSError) as error:
        if _is_caused_by(error, PermissionError):
            raise Unsupported(f"no permission for Docker at {host}") from error
        raise Unavailable(f"Docker at {host} did not answer: {_line(error)}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Unavailable(f"Docker at {host} answered garbage: {_line(error)}") from error


def _is_caused_by(error: BaseException, kind: type[BaseException]) -> bool:
    seen: list[BaseException] = [error]
    for one in seen:
        if isinstance(one, kind):
            return True
        links = (one.__cause__, one.__context__, *one.args)
        seen += [link for link in links if isinstance(link, BaseException) and link not in seen]
        if len(seen) > 32:
            return False
    return False


def _line(message: object) -> str:
    text = " ".join(str(message)[:1000].split())
    return text[:300]
