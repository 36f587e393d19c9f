"""One HTTP request of a sink: a deadline whatever the peer does, no redirects, nothing of the environment."""

import functools
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime

from gpuwarden.adapters.deadline import Deadlines, Pending
from gpuwarden.adapters.secrets import Secrets, masked
from gpuwarden.adapters.sinks.wording import cut, plain
from gpuwarden.clock import Clock
from gpuwarden.config_oncall import WebSinkConfig
from gpuwarden.errors import Refused, Unavailable

ANSWER_MAX_BYTES = 4096
SAID_MAX_CHARS = 160
AGAIN = frozenset({408, 425, 429})
"""4xx that say: not now."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A page goes where the operator said, nowhere else."""

    def redirect_request(self, *_args: object, **_kwargs: object) -> None:
        return None


@functools.cache
def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Certificates are checked against the system's, or against this file alone."""
    return ssl.create_default_context(cafile=ca_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back, whatever it was."""

    status: int
    said: str
    retry_after_s: float | None = None


class Web:
    """Posts documents. An address is a secret: no message holds any part of it."""

    def __init__(
        self, name: str, *, proxy: str | None, ca_file: str | None, secrets: Secrets, clock: Clock
    ) -> None:
        self._deadlines = Deadlines(f"sink {name}"[:15], most=16)
        self._proxy = proxy
        self._ca_file = ca_file
        self._secrets = secrets
        self._clock = clock

    @staticmethod
    def of(sink: WebSinkConfig, secrets: Secrets, clock: Clock) -> "Web":
        """As a sink's settings say."""
        return Web(sink.name, proxy=sink.proxy, ca_file=sink.ca_file, secrets=secrets, clock=clock)

    def begin(
        self, address: str, body: bytes, headers: Mapping[str, str], timeout_s: float
    ) -> Pending[Reply]:
        """Start a POST. A thread, because neither a name look-up nor a dripping peer heeds a socket's
        timeout."""
        url = self._secrets.resolve(address)
        if not url.startswith(("http://", "https://")):
            raise Refused("the address is none of http or https")
        request = functools.partial(self._post, url, body, headers, timeout_s)
        return self._deadlines.begin(request)

    def post(
        self,
        address: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float,
        hidden: Sequence[str] = (),
    ) -> str:
        """POST it, and say in a word how it was taken; raises what a sink raises."""
        reply = self.begin(address, body, headers, timeout_s).wait(timeout_s)
        return accepted(reply, hidden)

    def _post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Reply:
        try:
            request = urllib.request.Request(
                url, data=body, headers={"User-Agent": "gpuwarden", **headers}, method="POST"
            )
            with self._opener(url).open(request, timeout=timeout_s) as answer:
                return self._reply(
                    answer.status, answer.headers, answer.read1(ANSWER_MAX_BYTES), url
                )
        except urllib.error.HTTPError as error:
            with error:
                try:
                    said = error.read1(ANSWER_MAX_BYTES)
                except (OSError, http.client.HTTPException):
                    said = b""
                return self._reply(error.code, error.headers, said, url)
        except (http.client.InvalidURL, UnicodeError) as error:
            raise Refused(f"the address is wrong: {type(error).__name__}") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            why = getattr(reason, "strerror", None) or type(reason).__name__
            raise Unavailable(masked(plain(str(why)), [url])) from None

    def _opener(self, url: str) -> urllib.request.OpenerDirector:
        """HTTP and HTTPS alone: what a secret says is not believed to be more than an address."""
        opener = urllib.request.OpenerDirector()
        proxies: dict[str, str] = {}
        if self._proxy is not None:
            there = self._secrets.resolve(self._proxy)
            proxies = {"http": there, "https": there}
        opener.add_handler(urllib.request.ProxyHandler(proxies))
        opener.add_handler(urllib.request.HTTPHandler())
        if url.startswith("https://"):
            context = tls_context(self._ca_file)
            opener.add_handler(urllib.request.HTTPSHandler(context=context))
        opener.add_handler(urllib.request.HTTPDefaultErrorHandler())
        opener.add_handler(_NoRedirect())
        opener.add_handler(urllib.request.HTTPErrorProcessor())
        return opener

    def _reply(self, status: int, headers: Message, said: bytes, url: str) -> Reply:
        text = masked(plain(said.decode("utf-8", "replace").strip()), [url])
        return Reply(
            status=status,
            said=cut(text, SAID_MAX_CHARS),
            retry_after_s=self._retry_after_s(headers.get("Retry-After", "")),
        )

    def _retry_after_s(self, text: str) -> float | None:
        """``120`` or ``Fri, 31 Dec 1999 23:59:59 GMT`` (RFC 9110); None for anything else."""
        text = text.strip()
        if text.isascii() and text.isdigit() and len(text) < 10:
            return float(text)
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - self._clock.wall())
        except (ValueError, TypeError, OverflowError):
            return None


def accepted(reply: Reply, hidden: Sequence[str] = ()) -> str:
    """How it was taken; ``Unavailable`` or ``Refused`` when it was not."""
    status = reply.status
    if 200 <= status < 300:
        return f"HTTP {status}"
    text = f"HTTP {status}"
    if 300 <= status < 400:
        raise Refused(f"{text}: redirects are not followed")
    if status in AGAIN or status >= 500:
        raise Unavailable(text, retry_after_s=reply.retry_after_s)
    said = masked(reply.said, hidden)
    raise Refused(f"{text}: {said}" if said else text)
