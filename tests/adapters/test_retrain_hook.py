"""Whoever trains, asked for real: signed, once a decision, without giving anything away; and by a command."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.adapters.retrain_hook import Hook, make_hook
from gpuwarden.adapters.secrets import Secrets
from gpuwarden.clock import SystemClock
from gpuwarden.config_retrain import RetrainConfig
from gpuwarden.errors import Refused, Unavailable
from tests.adapters.receiver import Receiver, answer
from tests.adapters.sink_notices import secret_file

EVIDENCE = {"schema": 1, "service": "chat", "why": "drift of \u00e4ge", "evidence": []}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def made(**said: Any) -> Hook | None:
    cfg = RetrainConfig.model_validate({"service": "chat", **said})
    return make_hook(cfg, Secrets({}), SystemClock())


def by_web(receiver: Receiver, folder: Path, **more: Any) -> Hook:
    url = secret_file(folder, "url", receiver.url("/a/secret/path"))
    hook = made(webhook={"url": url, **more})
    assert hook is not None
    return hook


def by_program(folder: Path, text: str, **more: Any) -> Hook:
    program = folder / "train"
    program.write_text(f"#!/bin/sh\n{text}\n", encoding="ascii")
    program.chmod(0o755)
    hook = made(exec={"command": [str(program), "--now; rm -rf x"], **more})
    assert hook is not None
    return hook


def test_what_is_posted_is_signed_and_bears_its_decision(
    receiver: Receiver, tmp_path: Path
) -> None:
    hook = by_web(
        receiver,
        tmp_path,
        secret=secret_file(tmp_path, "secret", "wald-und-wiese"),
        token=secret_file(tmp_path, "token", "ein-bearer"),
    )
    assert hook.deliver("d-1", EVIDENCE) == "HTTP 200"
    (request,) = receiver.requests
    assert request.json() == EVIDENCE
    headers = {name.lower(): value for name, value in request.headers.items()}
    signed = headers["x-gpuwarden-timestamp"].encode() + b"." + request.body
    wanted = hmac.new(b"wald-und-wiese", signed, hashlib.sha256).hexdigest()
    assert headers["x-gpuwarden-signature"] == f"v1={wanted}"
    assert headers["x-gpuwarden-decision"] == "d-1"
    assert headers["authorization"] == "Bearer ein-bearer"


@pytest.mark.parametrize(
    ("status", "error"), [(503, Unavailable), (429, Unavailable), (401, Refused), (302, Refused)]
)
def test_trouble_is_told_from_a_refusal_and_tells_no_secret(
    receiver: Receiver, tmp_path: Path, status: int, error: type[Exception]
) -> None:
    receiver.usual = answer(status, "ein-bearer is not known at /a/secret/path")
    hook = by_web(receiver, tmp_path, token=secret_file(tmp_path, "token", "ein-bearer"))
    with pytest.raises(error) as raised:
        hook.deliver("d-1", EVIDENCE)
    assert "ein-bearer" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_secret_that_cannot_be_read_sends_nothing(receiver: Receiver, tmp_path: Path) -> None:
    hook = by_web(receiver, tmp_path, secret=f"file:{tmp_path}/none")
    with pytest.raises(Unavailable, match="none"):
        hook.deliver("d-1", EVIDENCE)
    assert receiver.requests == []


def test_a_command_gets_the_evidence_on_its_input_and_no_shell(tmp_path: Path) -> None:
    hook = by_program(tmp_path, f'cat > {tmp_path}/said; echo "$1" > {tmp_path}/word')
    assert hook.deliver("d-1", EVIDENCE) == "exit status 0"
    assert json.loads((tmp_path / "said").read_text()) == EVIDENCE
    assert (tmp_path / "word").read_text() == "--now; rm -rf x\n"


@pytest.mark.parametrize(("status", "error"), [(1, Unavailable), (77, Refused)])
def test_a_command_that_fails_says_whether_to_try_again(
    tmp_path: Path, status: int, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"exit status {status}"):
        by_program(tmp_path, f"exit {status}").deliver("d-1", EVIDENCE)


def test_a_command_that_does_not_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="did not end"):
        by_program(tmp_path, "sleep 600", timeout_s=0.5).deliver("d-1", EVIDENCE)


def test_nobody_is_asked_where_nobody_is_set() -> None:
    assert made() is None
