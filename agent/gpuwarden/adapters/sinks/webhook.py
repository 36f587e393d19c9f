"""Any receiver of JSON. With a secret each request is signed, and a copy of it is worth nothing later.

``X-Gpuwarden-Signature: v1=HEX`` is HMAC-SHA256 with the secret over ``X-Gpuwarden-Timestamp``, a full stop
and the body. A receiver compares it, refuses timestamps older than some minutes, and takes each
``X-Gpuwarden-Notice`` once: one that is sent again after a crash has the same.
"""

import hashlib
import hmac
import json

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.adapters.sinks.web import Web
from gpuwarden.adapters.sinks.wording import document, plain
from gpuwarden.clock import Clock
from gpuwarden.config_oncall import WebhookConfig
from gpuwarden.model.oncall import Notice, Receipt


class WebhookSink:
    """Taken when the answer is 2xx."""

    def __init__(self, cfg: WebhookConfig, secrets: Secrets, clock: Clock) -> None:
        self._cfg = cfg
        self._secrets = secrets
        self._clock = clock
        self._web = Web.of(cfg, secrets, clock)

    def deliver(self, notice: Notice) -> Receipt:
        """One POST."""
        body = json.dumps(document(notice)).encode("ascii")
        headers = {
            "Content-Type": "application/json",
            "X-Gpuwarden-Notice": plain(notice.id).encode("ascii", "replace").decode("ascii"),
        }
        hidden = []
        if self._cfg.secret is not None:
            secret = self._secrets.read(self._cfg.secret)
            hidden.append(secret)
            timestamp = str(int(self._clock.wall()))
            headers["X-Gpuwarden-Timestamp"] = timestamp
            headers["X-Gpuwarden-Signature"] = f"v1={signature(secret, timestamp, body)}"
        said = self._web.post(self._cfg.url, body, headers, self._cfg.timeout_s, hidden)
        return Receipt(text=said)


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over timestamp, full stop and body, in hex."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
