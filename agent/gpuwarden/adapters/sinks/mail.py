"""E-mail through a mail server. STARTTLS is demanded unless the operator says otherwise."""

import functools
import hashlib
import smtplib
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime

from gpuwarden.adapters.deadline import Deadlines
from gpuwarden.adapters.secrets import Secrets, masked
from gpuwarden.adapters.sinks.web import tls_context
from gpuwarden.adapters.sinks.wording import cut, lines, plain, subject
from gpuwarden.clock import Clock
from gpuwarden.config_oncall import EmailConfig
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.oncall import Notice, Receipt


class MailSink:
    """Taken when the server has it for at least one recipient; the others are named."""

    def __init__(self, cfg: EmailConfig, secrets: Secrets, clock: Clock, host: str) -> None:
        self._cfg = cfg
        self._secrets = secrets
        self._clock = clock
        self._host = _domain(host)
        self._deadlines = Deadlines(f"sink {cfg.name}"[:15])

    def deliver(self, notice: Notice) -> Receipt:
        """One message. Sent again after a crash it has the same Message-ID."""
        password = "" if self._cfg.password is None else self._secrets.read(self._cfg.password)
        letter = message(notice, self._cfg, self._host, self._clock.wall())
        send = functools.partial(self._send, letter, password)
        return self._deadlines.run(send, self._cfg.timeout_s)

    def _send(self, letter: EmailMessage, password: str) -> Receipt:
        try:
            with self._connected() as server:
                if self._cfg.tls == "starttls":
                    server.starttls(context=tls_context(self._cfg.ca_file))
                if self._cfg.user is not None:
                    server.login(self._cfg.user, password)
                refused = server.send_message(letter)
        except smtplib.SMTPException as error:
            raise _translated(error, password) from None
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise Unavailable(masked(plain(why), [password])) from None
        missed = "; ".join(f"{who}: {code}" for who, (code, _) in refused.items())
        return Receipt(
            text=f"taken for {len(self._cfg.to) - len(refused)} recipients", missed=missed
        )

    def _connected(self) -> smtplib.SMTP:
        cfg = self._cfg
        if cfg.tls == "implicit":
            return smtplib.SMTP_SSL(
                cfg.host,
                cfg.port,
                local_hostname=self._host,
                timeout=cfg.timeout_s,
                context=tls_context(cfg.ca_file),
            )
        return smtplib.SMTP(cfg.host, cfg.port, local_hostname=self._host, timeout=cfg.timeout_s)


def message(notice: Notice, cfg: EmailConfig, host: str, wall: float) -> EmailMessage:
    """Headers hold one line each whatever a name holds; a thread an incident."""
    letter = EmailMessage()
    letter["From"] = cfg.sender
    letter["To"] = ", ".join(cfg.to)
    letter["Subject"] = subject(notice).replace("…", "")  # all ASCII where it can be
    letter["Date"] = format_datetime(datetime.fromtimestamp(min(max(wall, 0.0), 2**33), UTC))
    letter["Message-ID"] = _id(notice.id, host)
    thread = _id(notice.key, host)
    letter["References"] = thread
    letter["In-Reply-To"] = thread
    letter["Auto-Submitted"] = "auto-generated"
    letter["X-Gpuwarden-Incident"] = plain(notice.brief.incident)
    if not notice.is_resolved:
        letter["Importance"] = "high"
    letter.set_content("\n".join(lines(notice)) + "\n")
    return letter


def _id(text: str, host: str) -> str:
    return f"<{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:32]}@{host}>"


def _domain(host: str) -> str:
    """A host's name as it may stand in a header and after EHLO."""
    kept = "".join(c for c in host if c.isascii() and (c.isalnum() or c in ".-"))
    return cut(kept, 200).strip(".-") or "localhost"


def _translated(error: smtplib.SMTPException, password: str) -> Exception:
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return Unsupported("the server offers no STARTTLS, or no login: nothing was sent")
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
        text = "; ".join(f"{who}: {code}" for who, (code, _) in error.recipients.items())
        return Unavailable(text) if any(code < 500 for code in codes) else Refused(text)
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        text = f"SMTP {error.smtp_code}: {cut(masked(plain(text), [password]), 120)}"
        is_final = 500 <= error.smtp_code < 600
        return Refused(text) if is_final else Unavailable(text)
    return Unavailable(f"the mail server broke off: {type(error).__name__}")
