"""Hands a page to a webhook as JSON. Without one the log alone has it, and the outcome says so."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping

from gpuwarden.errors import Unavailable, Unsupported

ANSWER_MAX_BYTES = 4096


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A page goes where the operator said, nowhere else."""

    def redirect_request(self, *_args: object, **_kwargs: object) -> None:
        return None


class WebhookPager:
    """One POST a page; ``Unavailable`` unless the answer is 2xx within the deadline."""

    def __init__(self, url: str | None, timeout_s: float, host: str) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._host = host
        self._open = urllib.request.build_opener(_NoRedirect)

    def send(self, incident: str, severity: str, summary: str, details: Mapping[str, str]) -> None:
        """Blocks up to the deadline."""
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
        request = urllib.request.Request(
            self._url, data=body, headers={"Content-Type": "application/json"}, method="POST"
        )
        try:
            with self._open.open(request, timeout=self._timeout_s) as answer:
                answer.read(ANSWER_MAX_BYTES)
                status = answer.status
        except (OSError, ValueError, urllib.error.URLError) as error:
            raise Unavailable(f"the page was not accepted: {error}") from error
        if not 200 <= status < 300:
            raise Unavailable(f"the page was answered with HTTP {status}")
