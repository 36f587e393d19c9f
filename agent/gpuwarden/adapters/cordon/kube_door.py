"""The Kubernetes API over plain HTTPS: one deadline a call, a bounded reply, credentials from files."""

import base64
import binascii
import http.client
import json
import os
import socket
import ssl
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gpuwarden.errors import Refused, Unavailable, Unsupported

POD_FILES = Path("/var/run/secrets/kubernetes.io/serviceaccount")
FILE_MAX_BYTES = 1024 * 1024
REPLY_MAX_BYTES = 4 * 1024 * 1024
"""A node object is some 10 KiB, with many images 100."""
MANAGER = "gpuwarden"


class Conflict(Unavailable):
    """Somebody else has changed the object since it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Where the API is, and who we are there. PEM text; empty: none."""

    server: str
    authority: str = ""
    token: str = ""
    certificate: str = ""
    key: str = ""


def from_pod(environ: Mapping[str, str], folder: Path = POD_FILES) -> Credentials:
    """As a pod's service account is told. Read again for each call: tokens are renewed."""
    host, port = (
        environ.get("KUBERNETES_SERVICE_HOST", ""),
        environ.get("KUBERNETES_SERVICE_PORT", "443"),
    )
    if not host:
        raise Unsupported(
            "not in a pod (no KUBERNETES_SERVICE_HOST): set cordon.kubernetes.kubeconfig"
        )
    where = f"[{host}]" if ":" in host else host
    return Credentials(
        server=f"https://{where}:{port}",
        authority=_text(folder / "ca.crt"),
        token=_text(folder / "token").strip(),
    )


def from_kubeconfig(path: Path) -> Credentials:
    """The current context of a kubeconfig in JSON, which is YAML too (``kubectl config view --raw --flatten
    --output=json``). Nobody but its owner may read it."""
    try:
        raw = json.loads(_text(path, is_secret=True))
    except ValueError as error:
        raise Unavailable(
            f"{path}: not JSON; make it with: kubectl config view --raw --flatten --minify -o json"
        ) from error
    try:
        context = _named(raw["contexts"], raw["current-context"])["context"]
        cluster = _named(raw["clusters"], context["cluster"])["cluster"]
        user = _named(raw["users"], context["user"])["user"]
        token = user.get("token") or (_text(Path(user["tokenFile"])) if "tokenFile" in user else "")
        return Credentials(
            server=str(cluster["server"]),
            authority=_pem(cluster, "certificate-authority"),
            token=str(token).strip(),
            certificate=_pem(user, "client-certificate"),
            key=_pem(user, "client-key"),
        )
    except (LookupError, TypeError, AttributeError, binascii.Error, UnicodeDecodeError) as error:
        raise Unavailable(f"{path}: no usable current context: {error!r}") from error


def _named(rows: Any, name: str) -> Any:
    return next(row for row in rows if row["name"] == name) if rows else rows[name]


def _pem(entry: Mapping[str, Any], key: str) -> str:
    data = entry.get(f"{key}-data")
    if data:
        return base64.b64decode(data, validate=True).decode("ascii")
    return _text(Path(entry[key])) if entry.get(key) else ""


def _text(path: Path, *, is_secret: bool = False) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise Unavailable(f"{path}: not a regular file")
            if is_secret and (status.st_mode & 0o077 or status.st_uid not in (0, os.geteuid())):
                raise Unavailable(f"{path}: others may read it; fix: chown root, chmod 600 {path}")
            data = file.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from error
    if len(data) > FILE_MAX_BYTES:
        raise Unavailable(f"{path}: larger than 1 MiB")
    return data.decode("utf-8", "replace")


class KubeDoor:
    """Calls the API, a connection each. No error tells a credential."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    def get(self, who: Credentials, path: str) -> dict[str, Any]:
        """An object; ``Refused`` where there is none."""
        return self._call(who, "GET", path, None, "")

    def patch(
        self, who: Credentials, path: str, body: Mapping[str, Any], kind: str
    ) -> dict[str, Any]:
        """The object as it is afterwards; ``Conflict`` where it is not what ``body`` says it was."""
        return self._call(who, "PATCH", f"{path}?fieldManager={MANAGER}", body, kind)

    def _call(
        self, who: Credentials, method: str, path: str, body: Mapping[str, Any] | None, kind: str
    ) -> dict[str, Any]:
        headers = {"Accept": "application/json", "User-Agent": MANAGER}
        if who.token:
            headers["Authorization"] = f"Bearer {who.token}"
        if body is not None:
            headers["Content-Type"] = kind
        said = None if body is None else json.dumps(body).encode("utf-8")
        try:
            with self._connected(who) as connection:
                connection.request(method, path, body=said, headers=headers)
                reply = connection.getresponse()
                status, data = reply.status, reply.read(REPLY_MAX_BYTES + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)[:120] or type(error).__name__
            raise Unavailable(f"{method} {path.partition('?')[0]}: {why}") from error
        return _answer(method, path.partition("?")[0], status, data)

    @contextmanager
    def _connected(self, who: Credentials) -> Iterator[http.client.HTTPConnection]:
        """A connection whose socket is shut when the time is over, whatever the other side does."""
        url = urlsplit(who.server)
        port = url.port or (443 if url.scheme == "https" else 80)
        if url.scheme != "https" or not url.hostname:
            raise Unsupported("the server of Kubernetes has to be https")
        connection = http.client.HTTPSConnection(
            url.hostname, port, timeout=self._timeout_s, context=_context(who)
        )
        timer = threading.Timer(self._timeout_s, lambda: _shut(connection.sock))
        timer.daemon = True
        timer.start()
        try:
            yield connection
        finally:
            timer.cancel()
            connection.close()


def _shut(sock: socket.socket | None) -> None:
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _context(who: Credentials) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=who.authority or None)
    if who.certificate and who.key:
        # The ssl module reads chains from files alone: this one is in memory, and nobody else's.
        fd = os.memfd_create("chain", os.MFD_CLOEXEC)
        try:
            os.write(fd, f"{who.certificate}\n{who.key}\n".encode("ascii"))
            context.load_cert_chain(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
    return context


def _answer(method: str, path: str, status: int, data: bytes) -> dict[str, Any]:
    if len(data) > REPLY_MAX_BYTES:
        raise Unavailable(f"{method} {path}: a reply larger than any of a node")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Unavailable(f"{method} {path}: HTTP {status}, and no object")
    if 200 <= status < 300:
        return found
    said = "".join(c for c in str(found.get("message", "")) if c.isprintable())[:200]
    text = f"{method} {path}: HTTP {status}: {said}"
    if status == 409:
        raise Conflict(text)
    if status == 404:
        raise Refused(text)
    raise Unavailable(text)
