"""Aliases of MLflow's model registry, over its REST API: read, and set. Optional; nothing of MLflow is installed for it.

https://mlflow.org/docs/latest/rest-api.html: ``registered-models/alias``. MLflow keeps no history of what an alias
pointed to; the aggregator keeps its own.
"""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpuwarden.errors import Refused, Unavailable

PATH = "/api/2.0/mlflow/registered-models/alias"
TIMEOUT_S = 10.0
ANSWER_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Mlflow:
    """One registry. ``token`` is asked for the bearer of each call; empty: none is sent. ``Unavailable`` where it
    cannot be had."""

    url: str
    token: Callable[[], str] = str

    def read(self, model: str, alias: str) -> str | None:
        """The version that an alias points to; None: there is no such alias."""
        query = urllib.parse.urlencode({"name": model, "alias": alias})
        try:
            said = self._ask("GET", f"{PATH}?{query}", None)
        except Refused as error:
            if "RESOURCE_DOES_NOT_EXIST" in str(error) or "not found" in str(error).lower():
                return None
            raise
        found = said.get("model_version")
        version = found.get("version") if isinstance(found, dict) else None
        if not isinstance(version, str) or not version.isdecimal():
            raise Unavailable(f"{self.url}: no version in its answer")
        return version

    def write(self, model: str, alias: str, version: str) -> None:
        """Point an alias to a version; the same again is the same. ``Refused``: there is no such model or version."""
        self._ask("POST", PATH, {"name": model, "alias": alias, "version": version})

    def _ask(self, method: str, path: str, body: dict[str, str] | None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token := self.token():
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(
            self.url.rstrip("/") + path, data=data, headers=headers, method=method
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)
        try:
            with opener.open(request, timeout=TIMEOUT_S) as answer:
                raw = answer.read(ANSWER_MAX_BYTES)
        except urllib.error.HTTPError as error:
            said = _line(error.read(2000))
            if error.code >= 500 or error.code == 429:
                raise Unavailable(f"{self.url}: HTTP {error.code}: {said}") from error
            raise Refused(f"{self.url}: HTTP {error.code}: {said}") from error
        except (OSError, ValueError) as error:
            raise Unavailable(f"{self.url}: {_line(str(error).encode())}") from error
        try:
            found = json.loads(raw or b"{}")
        except ValueError as error:
            raise Unavailable(f"{self.url}: its answer is no JSON") from error
        if not isinstance(found, dict):
            raise Unavailable(f"{self.url}: its answer is no object")
        return found


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A registry that sends its callers elsewhere would be sent the token there too."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _line(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]
