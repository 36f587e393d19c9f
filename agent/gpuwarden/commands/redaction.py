"""Takes secrets out of what leaves the host: by value where the value is known, by name and by form where it is not.

What is hidden too much costs a question; what is hidden too little cannot be taken back.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "(hidden)"
VALUE_MIN_CHARS = 4
"""A shorter secret is found in every second word, and protects nothing."""
PART_MIN_CHARS = 8
"""A part of a secret address, such as its last folder, is one as well from this length on."""
_NAME = (
    r"[\w.-]*(?:pass(?:word|wd|phrase)?|secret|token|credential|api[_-]?key|apikey|access[_-]?key|routing[_-]?key"
    r"|private[_-]?key|auth|cookie|session|dsn|bearer|webhook|signature|_pw|pwd)[\w.-]*"
)
_SECRET_NAME = re.compile(_NAME + r"\Z", re.IGNORECASE)
_REFERENCE = re.compile(r"(?:credential:[A-Za-z0-9_][A-Za-z0-9._-]*|file:/[^\s\"',]+)\Z")
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # -----BEGIN RSA PRIVATE KEY----- ... -----END RSA PRIVATE KEY-----, also where the end was cut off
    (re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*KEY-----|\Z)", re.DOTALL), HIDDEN),
    # postgresql://user:word@host/db, https://word@host/
    (re.compile(r"\b([a-z][a-z0-9+.-]{0,20}://)[^\s/@\"'<>]{0,500}@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    # https://host/page?key=value#part
    (re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://[^\s?\"'<>]{0,500})\?[^\s\"'<>]*", re.IGNORECASE), rf"\1?{HIDDEN}"),
    # https://hooks.slack.com/services/T000/B000/XXXX, https://discord.com/api/webhooks/1/word
    (re.compile(r"(\bhttps?://[^\s/\"'<>]{0,300}/)(?:services|api/webhooks|hooks|webhook\w*)/[^\s\"'<>]*", re.IGNORECASE), rf"\1{HIDDEN}"),
    # Authorization: Bearer word, Basic word
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9+/=._~-]{6,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    # eyJhbGciOi.eyJzdWIiOi.sig; AKIA...; ghp_...; glpat-...; xoxb-...; hf_...; sk-...; AGE-SECRET-KEY-1...
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"), HIDDEN),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), HIDDEN),
    (re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|hf_|sk-|nvapi-|npm_|pypi-)[\w-]{16,}"), HIDDEN),
)  # fmt: skip
# password = "word", "token": "word", API_KEY=word, --auth-token word, "--password", "word"
_ASSIGNED = re.compile(
    rf"""(?P<name>(?<![\w.-]){_NAME})(?P<between>["']?\s*(?:[:=]\s*|,\s*(?=["'])|\s+(?=[^\s=:,]))["']?)"""
    r"""(?P<value>(?<=")[^"\n]*|(?<=')[^'\n]*|[^\s"',;\]\}]+)""",
    re.IGNORECASE,
)
_FLAG = re.compile(r"--?\Z")


class Redactor:
    """Knows the values of this host's secrets; every text of a bundle goes through it."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        values: set[str] = set()
        for secret in secrets:
            lines = [secret.strip(), *(line.strip() for line in secret.splitlines())]
            values.update(line for line in lines if len(line) >= VALUE_MIN_CHARS)
            parts = re.split(r"[/?&=:@\s]+", secret)
            values.update(part for part in parts if len(part) >= PART_MIN_CHARS)
        # The frame of a key is no secret; without it no other key would be recognised.
        values = {value for value in values if not value.startswith("-----")}
        values -= {"PRIVATE", "KEY-----", "https", "http", "postgresql", "127.0.0.1", "localhost"}
        # The longest first: a part must not break the whole, which then would not be found.
        self._values = tuple(sorted(values, key=len, reverse=True))

    def text(self, text: str) -> str:
        """The text without what is known, or looks like, a secret."""
        for value in self._values:
            text = text.replace(value, HIDDEN)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return _ASSIGNED.sub(self._assigned, text)

    def data(self, value: Any, name: str = "") -> Any:
        """The same of plain data: also by the names of keys, and command lines but for their program."""
        if isinstance(value, Mapping):
            return {self.text(str(k)): self.data(each, str(k)) for k, each in value.items()}
        if isinstance(value, list | tuple):
            if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], str):
                return [self.text(value[0]), self.data(value[1], value[0])]
            return [self.data(each, name) for each in value]
        if not isinstance(value, str):
            return value
        if is_secret(name) and not _REFERENCE.match(value):
            return HIDDEN if value else value
        if name in ("command", "cmdline", "args") and " " in value:
            return f"{self.text(value.split()[0])} {HIDDEN}"
        return self.text(value)

    @staticmethod
    def _assigned(match: re.Match[str]) -> str:
        name, between, value = match["name"], match["between"], match["value"]
        if not value or HIDDEN in value or _REFERENCE.match(value):
            return match[0]
        # "the token is old": words of a sentence are hidden only behind a flag, such as --token word
        is_said = any(sign in between for sign in ":=,")
        is_flag = match.string[max(0, match.start() - 2) : match.start()].endswith("-")
        return (
            f"{name}{between}{HIDDEN}" if is_said or is_flag or name.startswith("-") else match[0]
        )


def is_secret(name: str) -> bool:
    """Whether what is called so is one."""
    return bool(_SECRET_NAME.search(name))


# command = ["/usr/local/bin/page", "word"], reboot_command = [...]
_COMMAND = re.compile(r"""(\b\w*command\s*=\s*\[\s*(?:"[^"\n]*"|'[^'\n]*'))[^\]]*\]""")
# url = "https://chat.example/T0/word", heartbeat_url = '...': the path is a password as well
_ADDRESS = re.compile(r"""(\b(?:heartbeat_)?url\s*=\s*["']https?://[^/"'\s]+/)[^"'\n]+""")


def hide_in_config(text: str) -> str:
    """Of a configuration also what has no name of its own: arguments of commands, and paths of addresses."""
    text = _COMMAND.sub(lambda match: f'{match[1]}, "{HIDDEN}"]', text)
    return _ADDRESS.sub(rf"\1{HIDDEN}", text)


_ENVIRONMENT = re.compile(r"^(\s*(?:[A-Za-z]*Environment)=)(.*)$", re.MULTILINE)


def hide_environment(text: str) -> str:
    """Of a unit's ``Environment=`` lines the names alone: what is set there is nobody's business."""
    return _ENVIRONMENT.sub(lambda match: match[1] + _names(match[2]), text)


def environment_names(text: str) -> str:
    """Of an environment file (NAME=VALUE, a line each) the names alone; comments go as well."""
    names = re.findall(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=", text, re.MULTILINE)
    return "".join(f"{name}={HIDDEN}\n" for name in names)


def _names(said: str) -> str:
    """What looks like the beginning of an assignment, outside and inside quotes; the rest goes."""
    return " ".join(f"{n}={HIDDEN}" for n in re.findall(r"(?:^|[\s\"'])([A-Za-z_]\w*)=", said))
