"""Hands a page to a webhook as JSON. Without one the log alone has it, and the outcome says so."""

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping

from gpuwarden.errors import Unavailable, Unsupported

ANSWER_MAX_BYTES = 4096
LEFT_BEHIND_MAX = 4
"""Posts that outlived their deadline (a name server or a peer that never ends): no more than these."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A page goes where the operator said, nowhere else."""

    def redirect_request(self, *_args: object, **_kwargs: object) -> None:
        return None


class WebhookPager:
    """One POST a page; ``Unavailable`` unless the answer is 2xx within the deadline.

    The address is a secret: no message holds any part of it.
    """

    def __init__(self, url: str | None, timeout_s: float, host: str) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._host = host
        self._open = urllib.request.build_opener(_NoRedirect)
        self._places = threading.Semaphore(LEFT_BEHIND_MAX)

    def send(self, incident: str, severity: str, summary: str, details: Mapping[str, str]) -> None:
        """Blocks up to the deadline, whatever resolver and peer do."""
        if self._url is None:
            raise Unsupported("no page.webhook is set: the log alone has this page")
        body = json.dumps(
            {
                "incident": incident,
                "severity": severity,
                "summary": summary,
                "host": self._host,
                "details": dict(details),
            }
        ).encode()
        if not self._places.acquire(blocking=False):
            raise Unavailable(f"{LEFT_BEHIND_MAX} pages before this one have not ended yet")
        post = _Post(self._open, self._url, body, self._timeout_s, self._places)
        # A thread, because neither a name look-up nor a dripping peer heeds a socket's timeout.
        threading.Thread(target=post.run, name="page", daemon=True).start()
        if not post.is_done.wait(self._timeout_s):
            raise Unavailable(f"the page was not accepted within {self._timeout_s:g} s")
        if post.failure:
            raise Unavailable(f"the page was not accepted: {post.failure}")


class _Post:
    """One POST under way; ``failure`` is empty once it was accepted."""

    def __init__(
        self,
        opener: urllib.request.OpenerDirector,
        url: str,
        body: bytes,
        timeout_s: float,
        places: threading.Semaphore,
    ) -> None:
        self._opener = opener
        self._url = url
        self._body = body
        self._timeout_s = timeout_s
        self._places = places
        self.is_done = threading.Event()
        self.failure = ""

    def run(self) -> None:
        try:
            self.failure = self._sent()
        finally:
            self.is_done.set()
            self._places.release()

    def _sent(self) -> str:
        try:
            request = urllib.request.Request(
                self._url,
                data=self._body,
                headers={"Content-Type": "application/json"},
                method="POST",
            )
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                answer.read1(ANSWER_MAX_BYTES)
                status = int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return f"HTTP {error.code}"
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            return getattr(reason, "strerror", None) or type(reason).__name__
        return "" if 200 <= status < 300 else f"HTTP {status}"
