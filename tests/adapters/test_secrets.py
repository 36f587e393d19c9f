"""Where secrets are read, and whom nothing is read for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpuwarden.adapters.secrets import MAX_BYTES, Secrets, masked
from gpuwarden.errors import Unavailable


def file(folder: Path, data: bytes = b"sehr-geheim\n", mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_of_a_systemd_credential(tmp_path: Path) -> None:
    file(tmp_path, mode=0o440)  # systemd sees to who may read it
    secrets = Secrets({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert secrets.read("credential:key") == "sehr-geheim"
    assert secrets.resolve("credential:key") == "sehr-geheim"
    assert secrets.resolve("http://127.0.0.1/") == "http://127.0.0.1/"


def test_outside_of_a_service_it_says_what_is_missing() -> None:
    with pytest.raises(Unavailable, match=r"LoadCredential=key:/PATH"):
        Secrets({}).read("credential:key")


def test_a_new_one_counts_at_once(tmp_path: Path) -> None:
    path = file(tmp_path)
    secrets = Secrets({})
    assert secrets.read(f"file:{path}") == "sehr-geheim"
    file(tmp_path, b"neu-geheim")
    assert secrets.read(f"file:{path}") == "neu-geheim"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_one_that_others_may_touch_is_refused(mode: int, tmp_path: Path) -> None:
    path = file(tmp_path, mode=mode)
    with pytest.raises(Unavailable, match="chmod 600"):
        Secrets({}).read(f"file:{path}")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"one\ntwo\n", "one line"),
        (b"\xff\xfe", "one line"),
        (b"a\x00b", "one line"),
        (b"x" * (MAX_BYTES + 1), "larger"),
    ],
)
def test_what_is_no_secret(data: bytes, why: str, tmp_path: Path) -> None:
    path = file(tmp_path, data)
    with pytest.raises(Unavailable, match=why) as raised:
        Secrets({}).read(f"file:{path}")
    assert "two" not in str(raised.value)


def test_a_folder_and_a_pipe_nobody_writes_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("fifo", "."):
        with pytest.raises(Unavailable, match="not a regular file"):
            Secrets({}).read(f"file:{tmp_path / name}")
    with pytest.raises(Unavailable, match="No such file"):
        Secrets({}).read(f"file:{tmp_path}/none")


@pytest.mark.root
def test_one_that_belongs_to_somebody_else(tmp_path: Path) -> None:
    path = file(tmp_path)
    os.chown(path, 65534, 65534)
    with pytest.raises(Unavailable, match="chown root"):
        Secrets({}).read(f"file:{path}")


@pytest.mark.parametrize(
    ("text", "secret", "left"),
    [
        ("bad https://h.example/T0SECRET/x", "https://h.example/T0SECRET/x", "bad (hidden)"),
        ("no T0SECRET here", "https://h.example/T0SECRET/x", "no (hidden) here"),
        ("the word https stays", "https://h.example/T0SECRET/x", "the word https stays"),
        ("key R012345", "R012345", "key (hidden)"),
        ("nothing", "R012345", "nothing"),
    ],
)
def test_masked(text: str, secret: str, left: str) -> None:
    assert masked(text, [secret]) == left
