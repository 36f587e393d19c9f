"""The operator's own command as it is told of cordons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from gpuwarden.adapters.cordon.host import HostCordons
from gpuwarden.adapters.cordon.make import make_cordons
from gpuwarden.adapters.cordon.program import ProgramBackend
from gpuwarden.clock import SystemClock
from gpuwarden.config_cordon import CordonConfig, ExecCordon
from gpuwarden.errors import Unavailable
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.repair import Subject

GPU0 = Subject(device=DeviceId("GPU-0"), index=0, pci="0000:3b:00.0")


def program(folder: Path, script: str, *args: str, timeout_s: float = 20.0) -> ProgramBackend:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    cfg = ExecCordon.model_validate({"command": [str(path), *args], "timeout_s": timeout_s})
    return ProgramBackend(cfg, SystemClock())


def test_it_is_told_all_there_is_to_tell(tmp_path: Path) -> None:
    told = program(tmp_path, 'cat >"$1"; echo done', f"{tmp_path}/said; $(id)")
    path = tmp_path / "said; $(id)"
    assert told.cordon(GPU0, "inc-1-1", 'lost "fault"\n') == "done"
    assert json.loads(path.read_text()) == {
        "verb": "cordon",
        "device": "GPU-0",
        "index": 0,
        "pci": "0000:3b:00.0",
        "incident": "inc-1-1",
        "reason": 'lost "fault"\n',
    }
    assert told.uncordon(Subject(), "inc-1-1", ["inc-1-2"]) == "done"
    assert json.loads(path.read_text()) == {
        "verb": "uncordon",
        "device": None,
        "index": None,
        "pci": None,
        "incident": "inc-1-1",
        "still": ["inc-1-2"],
    }


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo no such node >&2; exit 3", "exit status 3: no such node"),
        ("sleep 60", "did not end in"),
        ("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", "more than"),
    ],
)
def test_what_goes_wrong_is_told_again_later(tmp_path: Path, script: str, why: str) -> None:
    told = program(tmp_path, script, timeout_s=1.0 if "sleep" in script else 20.0)
    with pytest.raises(Unavailable, match=why):
        told.cordon(GPU0, "inc-1-1", "lost")


def test_its_words_are_cut(tmp_path: Path) -> None:
    told = program(tmp_path, "head -c 5000 /dev/zero | tr '\\0' x")
    assert told.cordon(GPU0, "inc-1-1", "lost") == "x" * 80


def test_it_need_not_read_what_it_is_told(tmp_path: Path) -> None:
    assert program(tmp_path, "exit 0").cordon(GPU0, "inc-1-1", "x" * 1_000_000) == "told"


class Mute:
    """A backend that cannot be told."""

    name = "mute"

    def cordon(self, subject: Subject, incident: str, reason: str) -> str:
        raise Unavailable("no answer")

    def uncordon(self, subject: Subject, incident: str, still: Sequence[str]) -> str:
        raise Unavailable("no answer")


def test_one_that_cannot_be_told_keeps_nobody_else_from_it(tmp_path: Path) -> None:
    path = tmp_path / "said"
    both = HostCordons((Mute(), program(tmp_path, 'cat >"$1"', str(path))))
    with pytest.raises(Unavailable, match="mute: no answer"):
        both.cordon(GPU0, "inc-1-1", "lost")
    assert json.loads(path.read_text())["verb"] == "cordon"


def test_only_what_is_asked_for_is_made() -> None:
    assert make_cordons(CordonConfig(), SystemClock(), {}).backends == ()
    said = {"slurm": {}, "kubernetes": {}, "exec": {"command": ["/bin/true"]}}
    made = make_cordons(CordonConfig.model_validate(said), SystemClock(), {})
    assert [backend.name for backend in made.backends] == ["slurm", "kubernetes", "exec"]
